/* lower_reduce.c -- ONNX operators that sum up along axes: Reduce*, Arg*, Cum*, Softmax and kin. */
#include "lower.h"
#include <math.h>
#include <string.h>

/* What to reduce, and whether reduced axes stay. */
typedef struct reduction {
	int64_t *axes;
	int n;
	bool keep;
} reduction;

/* Axes are an attribute at first, and an operand since version 18 (ReduceSum: 13). */
static bool
read_axes(ml_lower *x, reduction *r)
{
	int rank = x->in[0]->type.rank;
	bool noop = ml_onnx_int(x, "noop_with_empty_axes", 0) != 0;

	r->keep = ml_onnx_int(x, "keepdims", 1) != 0;
	r->axes = ml_lower_axes(x, x->row->max_in > 1 ? 1 : -1, "axes", rank, &r->n);
	if (r->n > 0 || (r->n == 0 && noop))
		return true;
	if (r->n < 0)
		return false;
	r->n = rank;
	r->axes = ML_LOWER_ARRAY(x, int64_t, rank);
	for (int i = 0; i < rank; i++)
		r->axes[i] = i;
	return true;
}

static ml_value *
reduce(ml_lower *x, ml_op op, ml_value *v, const reduction *r)
{
	if (!v || !r->n)
		return v;
	return ml_lower_reduce(x, op, v, r->axes, r->n, r->keep);
}

ml_value *
ml_lower_reduce_op(ml_lower *x)
{
	ml_value *v = x->in[0];
	reduction r;

	if (!read_axes(x, &r))
		return NULL;
	if (v->type.dtype != ML_bool)
		return reduce(x, (ml_op)x->row->arg, v, &r);
	v = reduce(x, (ml_op)x->row->arg, ml_build_cast(x->b, v, ML_u8), &r);
	return ML_X1(not, ML_X2(eq, v, ML_LIKE(v, 0)));
}

ml_value *
ml_lower_reduce_mean(ml_lower *x)
{
	ml_value *v = x->in[0];
	ml_dim count = ML_INT(1);
	reduction r;

	if (!read_axes(x, &r))
		return NULL;
	if (ml_is_float(v->type.dtype))
		return reduce(x, ML_OP_reduce_mean, v, &r);
	for (int i = 0; i < r.n; i++)
		count = ml_dim_mul(ML_DIMS, count, v->type.dim[r.axes[i]]);
	ml_value *n = ml_lower_as(x, ml_build_dim(x->b, count), v);
	return ML_X2(div, reduce(x, ML_OP_reduce_sum, v, &r), n);
}

ml_value *
ml_lower_reduce_l1(ml_lower *x)
{
	reduction r;

	return read_axes(x, &r) ? reduce(x, ML_OP_reduce_sum, ML_X1(abs, x->in[0]), &r) : NULL;
}

ml_value *
ml_lower_reduce_sum_square(ml_lower *x)
{
	ml_value *v = x->in[0];
	reduction r;

	return read_axes(x, &r) ? reduce(x, ML_OP_reduce_sum, ML_X2(mul, v, v), &r) : NULL;
}

/* Integers go through f64, as NumPy does it. */
static ml_value *
in_float(ml_lower *x, ml_op op, ml_value *v, const ml_value *like)
{
	if (!v || ml_is_float(v->type.dtype))
		return ml_op1(x->b, op, v);
	return ml_lower_as(x, ml_op1(x->b, op, ml_build_cast(x->b, v, ML_f64)), like);
}

ml_value *
ml_lower_reduce_l2(ml_lower *x)
{
	return in_float(x, ML_OP_sqrt, ml_lower_reduce_sum_square(x), x->in[0]);
}

ml_value *
ml_lower_reduce_log_sum(ml_lower *x)
{
	reduction r;

	if (!read_axes(x, &r))
		return NULL;
	return in_float(x, ML_OP_log, reduce(x, ML_OP_reduce_sum, x->in[0], &r), x->in[0]);
}

ml_value *
ml_lower_reduce_log_sum_exp(ml_lower *x)
{
	ml_value *v = x->in[0], *most, *sum;
	reduction r, kept;

	if (!read_axes(x, &r))
		return NULL;
	if (!ml_is_float(v->type.dtype))
		v = ml_build_cast(x->b, v, ML_f64);
	kept = r;
	kept.keep = true;
	most = reduce(x, ML_OP_reduce_max, v, &kept);
	/* where all are -inf, there is nothing to take off */
	most = ML_X3(select, ML_X2(eq, most, ML_LIKE(most, -INFINITY)), ML_LIKE(most, 0), most);
	sum = reduce(x, ML_OP_reduce_sum, ML_X1(exp, ML_X2(sub, v, most)), &kept);
	v = ML_X2(add, ML_X1(log, sum), most);
	if (!r.keep && r.n && v)
		v = ml_build_squeeze(x->b, v, r.axes, r.n);
	return ml_lower_as(x, v, x->in[0]);
}

ml_value *
ml_lower_arg_op(ml_lower *x)
{
	int axis;
	int64_t axes;
	bool keep = ml_onnx_int(x, "keepdims", 1) != 0;
	bool last = ml_onnx_int(x, "select_last_index", 0) != 0;

	if (!ml_lower_axis(x, ml_onnx_int(x, "axis", 0), x->in[0]->type.rank, &axis))
		return NULL;
	axes = axis;
	ml_value *v = ml_lower_arg(x, (ml_op)x->row->arg, x->in[0], axis, last);
	return keep || !v ? v : ml_build_squeeze(x->b, v, &axes, 1);
}

/* CumSum, CumProd */
ml_value *
ml_lower_cumulate(ml_lower *x)
{
	int n, axis;
	const int64_t *given = ml_lower_ints(x, 1, &n);
	bool exclusive = ml_onnx_int(x, "exclusive", 0) != 0;
	bool reverse = ml_onnx_int(x, "reverse", 0) != 0;

	if (!given)
		return NULL;
	if (n != 1)
		return ml_lower_fail(x, ML_ERR_SHAPE, "the axis must be a scalar");
	if (!ml_lower_axis(x, *given, x->in[0]->type.rank, &axis))
		return NULL;
	return ml_lower_scan(x, (ml_op)x->row->arg, x->in[0], axis, exclusive, reverse);
}

/* ---- softmax and kin ---- */

ml_value *
ml_lower_log_softmax_at(ml_lower *x, ml_value *v, int axis)
{
	int64_t axes = axis;

	v = ML_X2(sub, v, ml_build_reduce(x->b, ML_OP_reduce_max, v, &axes, 1));
	ml_value *sum = ml_build_reduce(x->b, ML_OP_reduce_sum, ML_X1(exp, v), &axes, 1);
	return ML_X2(sub, v, ML_X1(log, sum));
}

/* 1 at the first largest element, else 0 */
static ml_value *
hardmax(ml_lower *x, ml_value *v, int axis)
{
	ml_value *best = ml_lower_arg(x, ML_OP_arg_max, v, axis, false), *at;

	if (!best)
		return NULL;
	at = ml_build_iota(x->b, v->type.dim, v->type.rank, axis, ML_s64);
	return ml_lower_as(x, ML_X2(eq, at, best), v);
}

/* Since version 13 along one axis; before, over all dims from `axis` on. */
static ml_value *
normalize(ml_lower *x, ml_value *fn(ml_lower *, ml_value *, int))
{
	ml_value *v = x->in[0];
	int axis, r = v->type.rank;
	ml_dim flat[] = {ML_INT(1), ML_INT(1)};
	int64_t given = ml_onnx_int(x, "axis", x->version >= 13 ? -1 : 1);

	if (x->version < 13 && given == r)
		return ml_lower_fail(x, ML_ERR_VALUE, "axis %d is outside of rank %d", r, r);
	if (!ml_lower_axis(x, given, r, &axis))
		return NULL;
	if (x->version >= 13 || axis == r - 1)
		return fn(x, v, axis);
	for (int i = 0; i < r; i++)
		flat[i >= axis] = ml_dim_mul(ML_DIMS, flat[i >= axis], v->type.dim[i]);
	ml_value *y = fn(x, ml_lower_reshape(x, v, flat, 2), 1);
	return ml_lower_reshape(x, y, v->type.dim, r);
}

ml_value *
ml_lower_softmax_op(ml_lower *x)
{
	return normalize(x, ml_lower_softmax);
}

ml_value *
ml_lower_log_softmax(ml_lower *x)
{
	return normalize(x, ml_lower_log_softmax_at);
}

ml_value *
ml_lower_hardmax(ml_lower *x)
{
	return normalize(x, hardmax);
}

ml_value *
ml_lower_lp_normalization(ml_lower *x)
{
	ml_value *v = x->in[0], *norm;
	int64_t p = ml_onnx_int(x, "p", 2), axes;
	int axis;

	if (p != 1 && p != 2)
		return ml_lower_fail(x, ML_ERR_VALUE, "p must be 1 or 2");
	if (!ml_lower_axis(x, ml_onnx_int(x, "axis", -1), v->type.rank, &axis))
		return NULL;
	axes = axis;
	norm = p == 1 ? ML_X1(abs, v) : ML_X2(mul, v, v);
	norm = ml_build_reduce(x->b, ML_OP_reduce_sum, norm, &axes, 1);
	norm = p == 1 ? norm : ML_X1(sqrt, norm);
	return ML_X3(select, ML_X2(eq, norm, ML_LIKE(v, 0)), ML_LIKE(v, 0), ML_X2(div, v, norm));
}

ml_value *
ml_lower_top_k(ml_lower *x)
{
	int axis, n = 1;
	ml_dim *k = ML_LOWER_ARRAY(x, ml_dim, 1);
	const ml_dim *given = x->in[1] ? ml_lower_dims(x, 1, &n) : NULL;

	if (x->in[1] && !given)
		return NULL;
	if (n != 1)
		return ml_lower_fail(x, ML_ERR_SHAPE, "k must have one element");
	*k = given ? *given : ML_INT(ml_onnx_int(x, "k", -1));
	if (!ml_lower_axis(x, ml_onnx_int(x, "axis", -1), x->in[0]->type.rank, &axis))
		return NULL;
	ml_onnx_ignore(x, "sorted"); /* sorted is one of the orders allowed otherwise */
	ml_node *node = ml_begin(x->b, ML_OP_top_k, x->in, 1);
	if (!node)
		return NULL;
	ML_A(node, top_k, k).dims = k;
	ML_A(node, top_k, k).count = 1;
	ML_A(node, top_k, axis).i64 = axis;
	ML_A(node, top_k, largest).i64 = ml_onnx_int(x, "largest", 1);
	node = ml_finish(x->b, node);
	if (!node)
		return NULL;
	x->out[1] = &node->out[1];
	return &node->out[0];
}
