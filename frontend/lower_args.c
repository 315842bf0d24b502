/* lower_args.c -- operands whose values decide ranks and shapes, which must be known now. */
#include "lower.h"
#include <string.h>

enum {
	MOST_FOLDED = 256,      /* nodes looked at to find out one value */
	MOST_ELEMENTS = 1 << 16 /* of a value folded here */
};

/* ---- finding values out ---- */

typedef struct folding {
	ml_lower *x;
	int left; /* nodes that may still be looked at */
} folding;

static ml_value *
from_content(ml_lower *x, ml_value *v)
{
	int64_t n, number;
	void *bytes;
	const ml_dim *d = ml_content(x->b, v, &n);

	if (!d || !ml_dtype_bytes(v->type.dtype))
		return NULL;
	for (int64_t i = 0; i < n; i++)
		if (!ml_dim_is_int(d[i], &number))
			return NULL;
	ml_blob *blob =
		ml_blob_new(&x->cx->memory, (uint64_t)(n * ml_dtype_bytes(v->type.dtype)), &bytes);
	for (int64_t i = 0; i < n; i++) {
		ml_dim_is_int(d[i], &number);
		ml_write_s64(v->type.dtype, bytes, i, number);
	}
	return ml_build_const(x->b, &v->type, blob);
}

static ml_value *fold(folding *, ml_value *);

/* A copy of the node on known operands, evaluated. */
static ml_value *
fold_node(folding *f, ml_value *v)
{
	ml_builder *b = f->x->b;
	ml_node *n = v->def;
	const ml_op_info *info = ml_op_get(n->op);
	ml_value **in = ML_NEW_ARRAY(&b->m->arena, ml_value *, n->nin);
	ml_blob **result = ML_NEW_ARRAY(&b->m->arena, ml_blob *, n->nout);
	ml_value *known = NULL;
	int64_t count;

	for (int i = 0; i < n->nin; i++) {
		in[i] = fold(f, ml_in(n, i));
		if (!in[i])
			return NULL;
	}
	for (int i = 0; i < n->nout; i++)
		if (!ml_type_static_count(&n->out[i].type, &count) || count > MOST_ELEMENTS)
			return NULL;
	ml_node *copy = ml_begin(b, n->op, in, n->nin);
	if (!copy)
		return NULL;
	memcpy(copy->attr, n->attr, (size_t)info->nattrs * sizeof *n->attr);
	copy = ml_finish(b, copy);
	if (!copy || ml_fold_node(copy, result, MOST_ELEMENTS * sizeof(double)) != ML_OK)
		return NULL;
	for (int i = 0; i < n->nout; i++)
		if (i == v->index)
			known = ml_build_const(b, &v->type, result[i]);
		else
			ml_blob_drop(result[i]);
	return known;
}

static ml_value *
fold(folding *f, ml_value *v)
{
	if (ml_is_const(v))
		return v;
	if (f->left-- <= 0)
		return NULL;
	ml_value *known = from_content(f->x, v);
	if (known || !v->def || v->def->nblocks || !(ml_op_get(v->def->op)->traits & ML_PURE))
		return known;
	return fold_node(f, v);
}

ml_value *
ml_lower_known(ml_lower *x, ml_value *v)
{
	folding f = {.x = x, .left = MOST_FOLDED};

	return v ? fold(&f, v) : NULL;
}

/* ---- what cannot be known ---- */

/* The first graph input the value depends on, depth first. */
static const ml_value *
find_input(const ml_value *v, int *left)
{
	if (!v->def)
		return v->name && !v->block->owner ? v : NULL;
	for (int i = 0; i < v->def->nin; i++) {
		const ml_value *found = --*left > 0 ? find_input(ml_in(v->def, i), left) : NULL;
		if (found)
			return found;
	}
	return NULL;
}

bool
ml_lower_has(ml_lower *x, unsigned operands)
{
	for (int i = 0; operands >> i; i++)
		if (operands >> i & 1 && !x->in[i]) {
			ml_lower_fail(x, ML_ERR_FORMAT, "operand %d is missing", i);
			return false;
		}
	return true;
}

void *
ml_lower_needs(ml_lower *x, int i)
{
	int left = 200;
	const ml_value *input = find_input(x->in[i], &left);
	const char *name;

	if (x->b->failed != ML_OK)
		return NULL;
	ml_lower_fail(x, ML_ERR_UNSUPPORTED,
		      "input %d decides the rank or shape of the result, and depends on data", i);
	if (!input)
		return NULL;
	name = ml_escaped(&x->cx->arena, input->name);
	ml_hint(x->cx,
		"input '%s' decides the rank or shape of this node; give its value: "
		"--freeze %s=...",
		name, name);
	return NULL;
}

/* ---- reading them ---- */

const ml_dim *
ml_lower_dims(ml_lower *x, int i, int *n)
{
	int64_t count;
	ml_value *v = x->in[i];

	*n = 0;
	if (!v)
		return NULL;
	if (!ml_is_integer(v->type.dtype) || v->type.rank > 1)
		return ml_lower_fail(x, ML_ERR_TYPE, "input %d must be a list of integers", i);
	const ml_dim *d = ml_content(x->b, v, &count);
	if (!d) {
		ml_value *known = ml_lower_known(x, v);
		d = known ? ml_content(x->b, known, &count) : NULL;
	}
	if (!d) {
		int64_t size;
		if (ml_is_const(v) && ml_type_static_count(&v->type, &size) && size > 0)
			return ml_lower_fail(x, ML_ERR_LIMIT, "input %d is too long a list", i);
		return ml_lower_needs(x, i);
	}
	*n = (int)count;
	return d;
}

const int64_t *
ml_lower_ints(ml_lower *x, int i, int *n)
{
	const ml_dim *d = ml_lower_dims(x, i, n);

	if (!d)
		return NULL;
	int64_t *number = ML_LOWER_ARRAY(x, int64_t, *n);
	for (int k = 0; k < *n; k++)
		if (!ml_dim_is_int(d[k], &number[k]))
			return ml_lower_fail(x, ML_ERR_UNSUPPORTED,
					     "element %d of input %d must be a number, not a "
					     "dynamic size",
					     k, i);
	return number;
}

const double *
ml_lower_numbers(ml_lower *x, int i, int64_t *n)
{
	ml_value *v = ml_lower_known(x, x->in[i]);

	*n = 0;
	if (!x->in[i])
		return NULL;
	if (!v || !ml_type_static_count(&v->type, n))
		return ml_lower_needs(x, i);
	double *number = ML_LOWER_ARRAY(x, double, *n);
	for (int64_t k = 0; k < *n; k++)
		number[k] = ml_const_f64(v, k);
	return number;
}

bool
ml_lower_scalar(ml_lower *x, ml_value *v, double *number)
{
	v = ml_lower_known(x, v);
	return v && ml_is_splat(v, number);
}

bool
ml_lower_axis(ml_lower *x, int64_t axis, int rank, int *out)
{
	if (axis < -rank || axis >= rank) {
		ml_lower_fail(x, ML_ERR_VALUE, "axis %lld is outside of rank %d", (long long)axis,
			      rank);
		return false;
	}
	*out = (int)(axis < 0 ? axis + rank : axis);
	return true;
}

int64_t *
ml_lower_axes(ml_lower *x, int in, const char *attr, int rank, int *n)
{
	bool from_input = in >= 0 && x->in[in];
	const int64_t *given = from_input ? ml_lower_ints(x, in, n)
			       : attr     ? ml_onnx_ints(x, attr, n)
					  : NULL;
	uint32_t seen = 0;

	if (!given) {
		*n = x->b->failed == ML_OK ? 0 : -1;
		return NULL;
	}
	int64_t *axis = ML_LOWER_ARRAY(x, int64_t, *n);
	for (int i = 0; i < *n; i++) {
		int a;
		bool ok = ml_lower_axis(x, given[i], rank, &a);
		if (ok && seen >> a & 1) {
			ml_lower_fail(x, ML_ERR_VALUE, "axis %d is given twice", a);
			ok = false;
		}
		if (!ok) {
			*n = -1;
			return NULL;
		}
		seen |= (uint32_t)1 << a;
		axis[i] = a;
	}
	return axis;
}
