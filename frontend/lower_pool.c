/* lower_pool.c -- pools: windows over spatial dims, reduced. */
#include "lower_spatial.h"
#include <math.h>

/* The operand with its pads, and its windows: [N, C, out.., kernel..] */
static ml_value *
windows(ml_lower *x, ml_value *v, const ml_spatial *s, double fill)
{
	ml_dim low[ML_MAX_RANK], high[ML_MAX_RANK];
	int r = v ? v->type.rank : 0;

	if (!v)
		return NULL;
	for (int i = 0; i < r; i++)
		low[i] = high[i] = ML_INT(0);
	for (int i = 0; i < s->n; i++) {
		low[r - s->n + i] = s->low[i];
		high[r - s->n + i] = ml_dim_add(ML_DIMS, s->high[i], s->more[i]);
	}
	return ml_lower_window(x, ml_lower_pad(x, v, fill, low, high), s->size, s->stride,
			       s->dilation, s->n);
}

/* Reduces the window's own dims. */
static ml_value *
reduce_windows(ml_lower *x, ml_op op, ml_value *v, const ml_spatial *s)
{
	int64_t axes[ML_MAX_RANK];

	if (!v)
		return NULL;
	for (int i = 0; i < s->n; i++)
		axes[i] = v->type.rank - s->n + i;
	return ml_lower_reduce(x, op, v, axes, s->n, false);
}

static bool
read_pool(ml_lower *x, ml_spatial *s)
{
	bool ceil_mode = ml_onnx_int(x, "ceil_mode", 0) != 0;

	return ml_spatial_read(x, &x->in[0]->type, NULL, ceil_mode, s);
}

/* ---- MaxPool ---- */

/* Positions of the largest elements, counted over the whole operand. */
static ml_value *
max_positions(ml_lower *x, ml_value *window, const ml_spatial *s, bool columns)
{
	const ml_type *t = &x->in[0]->type;
	ml_dim flat[ML_MAX_RANK], all = ML_INT(1), out[ML_MAX_RANK], stride = ML_INT(1), plane;
	int r = t->rank;
	int64_t axis = r;

	for (int i = 0; i < r; i++)
		flat[i] = out[i] = window->type.dim[i];
	for (int i = 0; i < s->n; i++)
		all = ml_dim_mul(ML_DIMS, all, ML_INT(s->size[i]));
	flat[r] = all;
	ml_value *best =
		ml_lower_arg(x, ML_OP_arg_max, ml_lower_reshape(x, window, flat, r + 1), r, false);
	ml_value *sum = NULL, *at;
	best = best ? ml_build_squeeze(x->b, best, &axis, 1) : NULL;
	/* spatial dims, from the one that moves fastest */
	for (int k = 0; k < s->n; k++) {
		int i = columns ? k : s->n - 1 - k;
		int64_t inner = 1;
		for (int j = i + 1; j < s->n; j++)
			inner *= s->size[j];
		at = ML_X2(rem, ML_X2(div, best, ML_LIKE(best, (double)inner)),
			   ML_LIKE(best, (double)s->size[i]));
		at = ML_X2(mul, at, ML_LIKE(at, (double)s->dilation[i]));
		ml_value *base = ml_build_iota(x->b, out, r, 2 + i, ML_s64);
		base = ML_X2(mul, base, ML_LIKE(base, (double)s->stride[i]));
		base = ML_X2(sub, base, ml_build_dim(x->b, s->low[i]));
		at = ML_X2(mul, ML_X2(add, at, base), ml_build_dim(x->b, stride));
		sum = sum ? ML_X2(add, sum, at) : at;
		stride = ml_dim_mul(ML_DIMS, stride, t->dim[2 + i]);
	}
	plane = stride;
	for (int i = 1; i >= 0; i--) {
		at = ml_build_iota(x->b, out, r, i, ML_s64);
		sum = ML_X2(add, sum, ML_X2(mul, at, ml_build_dim(x->b, plane)));
		plane = ml_dim_mul(ML_DIMS, plane, t->dim[i]);
	}
	return sum;
}

ml_value *
ml_lower_max_pool(ml_lower *x)
{
	ml_spatial s;
	bool columns = ml_onnx_int(x, "storage_order", 0) != 0;

	if (!read_pool(x, &s))
		return NULL;
	ml_value *v = windows(x, x->in[0], &s, -INFINITY);
	if (v && x->nout > 1)
		x->out[1] = max_positions(x, v, &s, columns);
	return reduce_windows(x, ML_OP_reduce_max, v, &s);
}

/* Puts elements where max pooling took them from; positions count over the default output. */
ml_value *
ml_lower_max_unpool(ml_lower *x)
{
	ml_value *v = x->in[0], *zero;
	const ml_type *t = &v->type;
	ml_dim shape[ML_MAX_RANK], none[ML_MAX_RANK], more[ML_MAX_RANK], count, total = ML_INT(1);
	ml_spatial s;
	int n;

	if (!ml_spatial_read(x, t, NULL, false, &s))
		return NULL;
	for (int i = 0; i < t->rank; i++) {
		shape[i] = t->dim[i];
		none[i] = more[i] = ML_INT(0);
		if (i >= 2) {
			shape[i] = ml_dim_mul(ML_DIMS, ml_dim_sub(ML_DIMS, t->dim[i], ML_INT(1)),
					      ML_INT(s.stride[i - 2]));
			shape[i] = ml_dim_add(ML_DIMS, shape[i], ML_INT(s.size[i - 2]));
			shape[i] = ml_dim_sub(ML_DIMS, shape[i],
					      ml_dim_add(ML_DIMS, s.low[i - 2], s.high[i - 2]));
		}
		total = ml_dim_mul(ML_DIMS, total, shape[i]);
	}
	count = ml_type_count(ML_DIMS, t);
	zero = ml_build_broadcast(x->b, ML_LIKE(v, 0), &total, 1);
	ml_value *in[] = {zero, ml_lower_reshape(x, x->in[1], &count, 1),
			  ml_lower_reshape(x, v, &count, 1)};
	v = ml_lower_reshape(x, ml_op3(x->b, ML_OP_scatter, in[0], in[1], in[2]), shape, t->rank);
	if (!x->in[2])
		return v;
	const ml_dim *wanted = ml_lower_dims(x, 2, &n);
	if (!wanted || !v)
		return NULL;
	if (n != t->rank)
		return ml_lower_fail(x, ML_ERR_SHAPE, "%d sizes for rank %d", n, t->rank);
	for (int i = 0; i < n; i++)
		more[i] = ml_dim_sub(ML_DIMS, wanted[i], shape[i]);
	return ml_lower_pad(x, v, 0, none, more);
}

/* ---- AveragePool, LpPool ---- */

/* How many elements each window counts: pads with count_include_pad, never what ceil_mode adds. */
static ml_value *
window_counts(ml_lower *x, const ml_spatial *s, bool include_pad)
{
	const ml_type *t = &x->in[0]->type;
	ml_dim shape[ML_MAX_RANK];
	ml_spatial rest = *s;

	for (int i = 0; i < s->n; i++) {
		shape[i] = t->dim[2 + i];
		if (!include_pad)
			continue;
		shape[i] =
			ml_dim_add(ML_DIMS, shape[i], ml_dim_add(ML_DIMS, s->low[i], s->high[i]));
		rest.low[i] = rest.high[i] = ML_INT(0);
	}
	ml_value *one = ml_build_broadcast(x->b, ML_LIKE(x->in[0], 1), shape, s->n);
	return reduce_windows(x, ML_OP_reduce_sum, windows(x, one, &rest, 0), &rest);
}

ml_value *
ml_lower_average_pool(ml_lower *x)
{
	bool include_pad = ml_onnx_int(x, "count_include_pad", 0) != 0, constant = true;
	ml_spatial s;

	if (!read_pool(x, &s))
		return NULL;
	ml_value *v = windows(x, x->in[0], &s, 0);
	for (int i = 0; i < s.n; i++)
		constant = constant && ml_dim_equals(s.more[i], 0) &&
			   (include_pad ||
			    (ml_dim_equals(s.low[i], 0) && ml_dim_equals(s.high[i], 0)));
	if (constant)
		return reduce_windows(x, ML_OP_reduce_mean, v, &s);
	v = reduce_windows(x, ML_OP_reduce_sum, v, &s);
	return ML_X2(div, v, window_counts(x, &s, include_pad));
}

static ml_value *
power(ml_lower *x, ml_value *v, int64_t p)
{
	return p == 1   ? ML_X1(abs, v)
	       : p == 2 ? ML_X2(mul, v, v)
			: ML_X2(pow, ML_X1(abs, v), ML_LIKE(v, (double)p));
}

static ml_value *
root(ml_lower *x, ml_value *v, int64_t p)
{
	return p == 1 ? v : p == 2 ? ML_X1(sqrt, v) : ML_X2(pow, v, ML_LIKE(v, 1.0 / (double)p));
}

static bool
read_p(ml_lower *x, int64_t *p)
{
	*p = ml_onnx_int(x, "p", 2);
	if (*p >= 1)
		return true;
	ml_lower_fail(x, ML_ERR_VALUE, "p is %lld", (long long)*p);
	return false;
}

ml_value *
ml_lower_lp_pool(ml_lower *x)
{
	ml_spatial s;
	int64_t p;

	if (!read_pool(x, &s) || !read_p(x, &p))
		return NULL;
	ml_value *v = windows(x, power(x, x->in[0], p), &s, 0);
	return root(x, reduce_windows(x, ML_OP_reduce_sum, v, &s), p);
}

/* ---- over all spatial dims ---- */

static ml_value *
reduce_all(ml_lower *x, ml_op op, ml_value *v)
{
	int64_t axes[ML_MAX_RANK];
	int n = 0;

	if (!v)
		return NULL;
	if (v->type.rank < 3)
		return ml_lower_fail(x, ML_ERR_SHAPE, "the operand must have rank 3 or more");
	for (int i = 2; i < v->type.rank; i++)
		axes[n++] = i;
	return ml_build_reduce(x->b, op, v, axes, n);
}

/* GlobalAveragePool, GlobalMaxPool */
ml_value *
ml_lower_global_pool(ml_lower *x)
{
	return reduce_all(x, (ml_op)x->row->arg, x->in[0]);
}

ml_value *
ml_lower_global_lp_pool(ml_lower *x)
{
	int64_t p;

	if (!read_p(x, &p))
		return NULL;
	return root(x, reduce_all(x, ML_OP_reduce_sum, power(x, x->in[0], p)), p);
}
