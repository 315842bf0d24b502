/* lower_attr.c -- attributes of the ONNX node being lowered. */
#include "lower_graph.h"
#include <string.h>

/* Marks the attribute as read; those never read are unknown, and refused. */
static const Onnx__AttributeProto *
find(ml_lower *x, const char *name)
{
	for (size_t i = 0; i < x->node->n_attribute; i++) {
		const Onnx__AttributeProto *a = x->node->attribute[i];
		if (!a->name || strcmp(a->name, name))
			continue;
		if (i < 64)
			x->read |= (uint64_t)1 << i;
		if (!a->ref_attr_name || !*a->ref_attr_name)
			return a;
		return x->frame->function ? ml_frame_argument(x->frame, a->ref_attr_name) : NULL;
	}
	return NULL;
}

/* Writers before IR version 2 leave the type out: then the field that is set decides. */
static const Onnx__AttributeProto *
get(ml_lower *x, const char *name, Onnx__AttributeProto__AttributeType type)
{
	const Onnx__AttributeProto *a = find(x, name);

	if (!a || a->type == type || a->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__UNDEFINED)
		return a;
	return ml_lower_fail(x, ML_ERR_FORMAT, "attribute '%s' has the wrong type", name);
}

#define GET(x, name, type) get((x), (name), ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##type)

bool
ml_onnx_has(ml_lower *x, const char *name)
{
	return find(x, name) != NULL;
}

void
ml_onnx_ignore(ml_lower *x, const char *name)
{
	(void)find(x, name);
}

int64_t
ml_onnx_int(ml_lower *x, const char *name, int64_t init)
{
	const Onnx__AttributeProto *a = GET(x, name, INT);

	return a ? a->i : init;
}

double
ml_onnx_float(ml_lower *x, const char *name, double init)
{
	const Onnx__AttributeProto *a = GET(x, name, FLOAT);

	return a ? (double)a->f : (double)(float)init;
}

static const char *
text_of(ml_lower *x, const ProtobufCBinaryData *s)
{
	return ml_strndup(&x->b->m->arena, s->data ? (const char *)s->data : "", s->len);
}

const char *
ml_onnx_text(ml_lower *x, const char *name, const char *init)
{
	const Onnx__AttributeProto *a = GET(x, name, STRING);

	return a ? text_of(x, &a->s) : init;
}

const int64_t *
ml_onnx_ints(ml_lower *x, const char *name, int *n)
{
	const Onnx__AttributeProto *a = GET(x, name, INTS);

	*n = 0;
	if (!a)
		return NULL;
	if (a->n_ints > INT32_MAX)
		return ml_lower_fail(x, ML_ERR_LIMIT, "attribute '%s' is too long", name);
	*n = (int)a->n_ints;
	int64_t *copy = ML_LOWER_ARRAY(x, int64_t, *n);
	for (int i = 0; i < *n; i++)
		copy[i] = a->ints[i];
	return copy;
}

const float *
ml_onnx_floats(ml_lower *x, const char *name, int *n)
{
	const Onnx__AttributeProto *a = GET(x, name, FLOATS);

	*n = 0;
	if (!a)
		return NULL;
	if (a->n_floats > INT32_MAX)
		return ml_lower_fail(x, ML_ERR_LIMIT, "attribute '%s' is too long", name);
	*n = (int)a->n_floats;
	float *copy = ML_LOWER_ARRAY(x, float, *n);
	for (int i = 0; i < *n; i++)
		copy[i] = a->floats[i];
	return copy;
}

const char **
ml_onnx_texts(ml_lower *x, const char *name, int *n)
{
	const Onnx__AttributeProto *a = GET(x, name, STRINGS);

	*n = 0;
	if (!a)
		return NULL;
	if (a->n_strings > INT32_MAX)
		return ml_lower_fail(x, ML_ERR_LIMIT, "attribute '%s' is too long", name);
	*n = (int)a->n_strings;
	const char **copy = ML_LOWER_ARRAY(x, const char *, *n);
	for (int i = 0; i < *n; i++)
		copy[i] = text_of(x, &a->strings[i]);
	return copy;
}

ml_value *
ml_onnx_constant(ml_lower *x, const char *name)
{
	const Onnx__AttributeProto *a = find(x, name);
	ml_binding b = {.name = name};

	if (!a)
		return NULL;
	b.tensor = a->t;
	b.sparse = a->sparse_tensor;
	if (!b.tensor && !b.sparse)
		return ml_lower_fail(x, ML_ERR_FORMAT, "attribute '%s' has the wrong type", name);
	return ml_frame_read(x->import, &b, x->b);
}

const Onnx__GraphProto *
ml_onnx_graph(ml_lower *x, const char *name)
{
	const Onnx__AttributeProto *a = GET(x, name, GRAPH);

	if (!a || !a->g)
		return ml_lower_fail(x, ML_ERR_FORMAT, "attribute '%s' is missing", name);
	return a->g;
}

bool
ml_onnx_type(ml_lower *x, const char *name, ml_dtype init, ml_dtype *out)
{
	int64_t number = ml_onnx_int(x, name, -1);

	*out = init;
	if (number == -1)
		return true;
	ml_status status = number < 0 || number > INT32_MAX ? ML_ERR_FORMAT
							    : ml_onnx_dtype((int32_t)number, out);
	if (status == ML_OK)
		return true;
	ml_lower_fail(x, status, "element type %s (%lld) of attribute '%s' is not supported",
		      ml_onnx_dtype_name(number < 0 || number > 99 ? 0 : (int32_t)number),
		      (long long)number, name);
	return false;
}
