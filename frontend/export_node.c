/* export_node.c -- nodes, attributes and constants of an ONNX graph under construction. */
#include "export_graph.h"
#include <string.h>

static const int onnx_numbers[] = {
#define ML_DTYPE(number, name, bits, kind, onnx, ctype) [number] = onnx,
#include "mlopt/types.def"
};

int
ml_spell_type(ml_export *e, ml_dtype dtype)
{
	int bits = ml_dtype_bits(dtype), since = bits == 2 ? 25 : dtype == ML_f4e2m1 ? 23 : 21;

	if (bits < 8 && e->opset < since)
		e->opset = since;
	return onnx_numbers[dtype];
}

/* Appends to one of protobuf-c's arrays, which grow by doubling at powers of two. */
static void *
append(ml_export *e, void *array, size_t *n, size_t size)
{
	char *out = array;

	if ((*n & (*n - 1)) == 0) {
		out = ml_alloc_array(&e->arena, *n ? 2 * *n : 1, size);
		if (*n)
			memcpy(out, array, *n * size);
	}
	++*n;
	return out;
}

#define APPEND(e, array, n, element)                                                               \
	((array) = append((e), (array), &(n), sizeof *(array)), (array)[(n) - 1] = (element))

const char *
ml_spell_name(ml_export *e)
{
	return ml_format(&e->arena, "%s%d", e->prefix, e->named++);
}

const char *
ml_spell_output(ml_export *e, Onnx__NodeProto *n, int i)
{
	while ((int)n->n_output <= i) {
		char *name = ml_strdup(&e->arena, ml_spell_name(e));
		APPEND(e, n->output, n->n_output, name);
	}
	return n->output[i];
}

Onnx__NodeProto *
ml_spell_node(ml_export *e, const char *op, const char *const *in, int nin)
{
	Onnx__NodeProto *n = ML_NEW(&e->arena, Onnx__NodeProto);

	onnx__node_proto__init(n);
	n->op_type = ml_strdup(&e->arena, op);
	if (e->node && e->node->prov && *e->node->prov->node) /* names of nodes must differ */
		n->name = ml_format(&e->arena, "%s:%d", e->node->prov->node, e->named);
	for (int i = 0; i < nin; i++) {
		char *name = ml_strdup(&e->arena, in[i] ? in[i] : "");
		APPEND(e, n->input, n->n_input, name);
	}
	ml_spell_output(e, n, 0);
	ML_PUSH(&e->arena, *e->nodes, n);
	return n;
}

const char *
ml_spell1(ml_export *e, const char *op, const char *a)
{
	return a ? ml_spell_node(e, op, &a, 1)->output[0] : NULL;
}

const char *
ml_spell2(ml_export *e, const char *op, const char *a, const char *b)
{
	return a && b ? ml_spell_node(e, op, (const char *[]){a, b}, 2)->output[0] : NULL;
}

const char *
ml_spell3(ml_export *e, const char *op, const char *a, const char *b, const char *c)
{
	if (!a || !b || !c)
		return NULL;
	return ml_spell_node(e, op, (const char *[]){a, b, c}, 3)->output[0];
}

/* ---- attributes ---- */

Onnx__AttributeProto *
ml_spell_attribute(ml_export *e, Onnx__NodeProto *n, const char *name, int type)
{
	Onnx__AttributeProto *a = ML_NEW(&e->arena, Onnx__AttributeProto);

	onnx__attribute_proto__init(a);
	a->name = ml_strdup(&e->arena, name);
	a->has_type = true;
	a->type = (Onnx__AttributeProto__AttributeType)type;
	APPEND(e, n->attribute, n->n_attribute, a);
	return a;
}

#define ATTRIBUTE(e, n, name, type)                                                                \
	ml_spell_attribute((e), (n), (name), ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##type)

void
ml_spell_int(ml_export *e, Onnx__NodeProto *n, const char *name, int64_t value)
{
	Onnx__AttributeProto *a = ATTRIBUTE(e, n, name, INT);

	a->has_i = true;
	a->i = value;
}

void
ml_spell_float(ml_export *e, Onnx__NodeProto *n, const char *name, double value)
{
	Onnx__AttributeProto *a = ATTRIBUTE(e, n, name, FLOAT);

	a->has_f = true;
	a->f = (float)value;
}

void
ml_spell_text(ml_export *e, Onnx__NodeProto *n, const char *name, const char *value)
{
	Onnx__AttributeProto *a = ATTRIBUTE(e, n, name, STRING);

	a->has_s = true;
	a->s.data = (uint8_t *)ml_strdup(&e->arena, value);
	a->s.len = strlen(value);
}

void
ml_spell_ints(ml_export *e, Onnx__NodeProto *n, const char *name, const int64_t *value, int count)
{
	Onnx__AttributeProto *a = ATTRIBUTE(e, n, name, INTS);

	a->ints = ML_NEW_ARRAY(&e->arena, int64_t, count);
	a->n_ints = (size_t)count;
	for (int i = 0; i < count; i++)
		a->ints[i] = value[i];
}

void
ml_spell_graph(ml_export *e, Onnx__NodeProto *n, const char *name, Onnx__GraphProto *g)
{
	ATTRIBUTE(e, n, name, GRAPH)->g = g;
}

/* ---- constants: initializers of the main graph, which subgraphs see too ---- */

/* Elements of few bits as files have them: several in a byte, lowest first. */
static const void *
packed(ml_export *e, ml_dtype dtype, const uint8_t *from, uint64_t *size)
{
	uint64_t bits = (uint64_t)ml_dtype_bits(dtype), several = 8 / bits, n = *size;

	*size = (n + several - 1) / several;
	uint8_t *to = ml_alloc(&e->arena, (size_t)*size);
	memset(to, 0, (size_t)*size);
	for (uint64_t i = 0; i < n; i++)
		to[i / several] |= (uint8_t)((from[i] & ((1 << bits) - 1)) << i % several * bits);
	return to;
}

const char *
ml_spell_weight(ml_export *e, ml_dtype dtype, const int64_t *dims, int rank, const void *bytes,
		uint64_t size)
{
	Onnx__TensorProto *t = ML_NEW(&e->arena, Onnx__TensorProto);

	if (ml_dtype_bits(dtype) < 8)
		bytes = packed(e, dtype, bytes, &size);
	ml_export_weight w = {.header = t, .bytes = bytes, .size = size};

	onnx__tensor_proto__init(t);
	t->name = ml_strdup(&e->arena, ml_spell_name(e));
	t->has_data_type = true;
	t->data_type = ml_spell_type(e, dtype);
	t->n_dims = (size_t)rank;
	t->dims = ML_NEW_ARRAY(&e->arena, int64_t, rank);
	for (int i = 0; i < rank; i++)
		t->dims[i] = dims[i];
	ML_PUSH(&e->arena, e->weights, w);
	return t->name;
}

const char *
ml_spell_list(ml_export *e, const int64_t *given, int n)
{
	int64_t *copy = ML_NEW_ARRAY(&e->arena, int64_t, n), dim = n;

	for (int i = 0; i < n; i++)
		copy[i] = given[i];
	return ml_spell_weight(e, ML_s64, &dim, 1, copy, (uint64_t)n * sizeof *copy);
}

const char *
ml_spell_number(ml_export *e, ml_dtype dtype, double value)
{
	void *bytes = ml_alloc(&e->arena, sizeof(double));

	ml_write_f64(dtype, bytes, 0, value);
	return ml_spell_weight(e, dtype, NULL, 0, bytes, (uint64_t)ml_dtype_bytes(dtype));
}

const char *
ml_spell_cast(ml_export *e, const char *name, ml_dtype dtype)
{
	if (!name)
		return NULL;
	Onnx__NodeProto *n = ml_spell_node(e, "Cast", &name, 1);
	ml_spell_int(e, n, "to", ml_spell_type(e, dtype));
	if (ml_dtype_format(dtype) && ml_dtype_bits(dtype) == 8)
		ml_spell_int(e, n, "saturate", 0);
	return n->output[0];
}

const char *
ml_spell_in(const ml_node *n, int i)
{
	const ml_value *v = ml_in(n, i);

	return v ? (const char *)(intptr_t)v->scratch : NULL;
}

void
ml_spell_set(const ml_value *v, const char *name)
{
	((ml_value *)(intptr_t)v)->scratch = (int64_t)(intptr_t)name;
}

const char *
ml_spell_fail(ml_export *e, const char *why)
{
	e->status = ml_error(e->cx, ML_ERR_UNSUPPORTED, e->node ? e->node->prov : NULL,
			     "%s cannot be written as ONNX: %s", ml_op_get(e->node->op)->name, why);
	return NULL;
}
