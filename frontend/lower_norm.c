/* lower_norm.c -- normalizations. */
#include "lower.h"
#include <string.h>

static ml_value *
mean(ml_lower *x, ml_value *v, const int64_t *axes, int n)
{
	return ml_build_reduce(x->b, ML_OP_reduce_mean, v, axes, n);
}

/* v less its mean, and the mean square of that */
static ml_value *
center(ml_lower *x, ml_value *v, const int64_t *axes, int n, ml_value **average,
       ml_value **variance)
{
	*average = mean(x, v, axes, n);
	v = ML_X2(sub, v, *average);
	*variance = mean(x, ML_X2(mul, v, v), axes, n);
	return v;
}

static ml_value *
inverse_root(ml_lower *x, ml_value *variance, double eps)
{
	ml_value *root = ML_X1(sqrt, ML_X2(add, variance, ML_LIKE(variance, eps)));

	return ML_X2(div, ML_LIKE(root, 1), root);
}

/* ---- per channel ---- */

static ml_value *
batch_norm(ml_lower *x, ml_value *v, ml_value *average, ml_value *variance, double eps)
{
	ml_value *in[] = {v, ml_lower_as(x, x->in[1], v), ml_lower_as(x, x->in[2], v),
			  ml_lower_as(x, average, v), ml_lower_as(x, variance, v)};

	for (int i = 0; i < 5; i++)
		if (!in[i])
			return NULL;
	ml_node *n = ml_begin(x->b, ML_OP_batch_norm, in, 5);
	if (!n)
		return NULL;
	ML_A(n, batch_norm, eps).f64 = eps;
	return ml_finish1(x->b, n);
}

/* running = momentum running + (1 - momentum) now */
static ml_value *
running(ml_lower *x, ml_value *before, ml_value *now, double momentum)
{
	now = ml_lower_as(x, now, before);
	return ML_X2(add, ML_X2(mul, before, ML_LIKE(before, momentum)),
		     ML_X2(mul, now, ML_LIKE(before, 1 - momentum)));
}

static ml_value *
batch_norm_training(ml_lower *x, double eps, double momentum)
{
	ml_value *v = x->in[0], *average, *variance;
	int64_t axes[ML_MAX_RANK] = {0};
	int n = 1;

	for (int i = 2; i < v->type.rank; i++)
		axes[n++] = i;
	center(x, v, axes, n, &average, &variance);
	if (!variance)
		return NULL;
	average = ml_lower_reshape(x, average, &v->type.dim[1], 1);
	variance = ml_lower_reshape(x, variance, &v->type.dim[1], 1);
	x->out[1] = running(x, x->in[3], average, momentum);
	x->out[2] = running(x, x->in[4], variance, momentum);
	return batch_norm(x, v, average, variance, eps);
}

ml_value *
ml_lower_batch_normalization(ml_lower *x)
{
	double eps = ml_onnx_float(x, "epsilon", 1e-5);
	double momentum = ml_onnx_float(x, "momentum", 0.9);

	if (x->in[0]->type.rank < 2)
		return ml_lower_fail(x, ML_ERR_SHAPE, "the operand must have rank 2 or more");
	if (ml_onnx_int(x, "spatial", 1) != 1)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "spatial = 0 is not supported");
	if (ml_onnx_int(x, "training_mode", 0))
		return batch_norm_training(x, eps, momentum);
	return batch_norm(x, x->in[0], x->in[3], x->in[4], eps);
}

/* v[N, C, ..] scale[C] + bias[C] */
static ml_value *
scale_channels(ml_lower *x, ml_value *v, ml_value *scale, ml_value *bias)
{
	int r = v ? v->type.rank : 0;

	return ML_X2(add, ML_X2(mul, v, ml_lower_along(x, scale, 1, r)),
		     ml_lower_along(x, bias, 1, r));
}

ml_value *
ml_lower_instance_normalization(ml_lower *x)
{
	ml_value *v = x->in[0], *average, *variance;
	double eps = ml_onnx_float(x, "epsilon", 1e-5);
	int64_t axes[ML_MAX_RANK];
	int n = 0;

	if (v->type.rank < 3)
		return ml_lower_fail(x, ML_ERR_SHAPE, "the operand must have rank 3 or more");
	for (int i = 2; i < v->type.rank; i++)
		axes[n++] = i;
	v = center(x, v, axes, n, &average, &variance);
	v = ML_X2(mul, v, inverse_root(x, variance, eps));
	return scale_channels(x, v, x->in[1], x->in[2]);
}

/* One factor per group becomes one per channel. */
static ml_value *
per_channel(ml_lower *x, ml_value *v, ml_dim groups, ml_dim size, ml_dim channels)
{
	ml_dim column[] = {groups, ML_INT(1)}, table[] = {groups, size};

	v = ml_build_broadcast(x->b, ml_lower_reshape(x, v, column, 2), table, 2);
	return ml_lower_reshape(x, v, &channels, 1);
}

ml_value *
ml_lower_group_normalization(ml_lower *x)
{
	ml_value *v = x->in[0], *average, *variance, *scale = x->in[1], *bias = x->in[2];
	const ml_type *t = &x->in[0]->type;
	double eps = ml_onnx_float(x, "epsilon", 1e-5);
	ml_dim groups = ML_INT(ml_onnx_int(x, "num_groups", 0)), size, rest = ML_INT(1);
	int64_t axis = 2, lo, hi;

	ml_onnx_ignore(x, "stash_type");
	ml_dim_range(groups, &lo, &hi);
	if (t->rank < 2)
		return ml_lower_fail(x, ML_ERR_SHAPE, "the operand must have rank 2 or more");
	if (lo < 1 || !ml_dim_divides(ML_DIMS, t->dim[1], groups, &size))
		return ml_lower_fail(x, ML_ERR_VALUE, "%lld groups do not divide the channels",
				     (long long)lo);
	for (int i = 1; i < t->rank; i++)
		rest = ml_dim_mul(ML_DIMS, rest, i == 1 ? size : t->dim[i]);
	ml_dim flat[] = {t->dim[0], groups, rest};
	v = center(x, ml_lower_reshape(x, v, flat, 3), &axis, 1, &average, &variance);
	v = ML_X2(mul, v, inverse_root(x, variance, eps));
	if (x->row->arg) {
		scale = per_channel(x, scale, groups, size, t->dim[1]);
		bias = per_channel(x, bias, groups, size, t->dim[1]);
	}
	return scale_channels(x, ml_lower_reshape(x, v, t->dim, t->rank), scale, bias);
}

ml_value *
ml_lower_mean_variance_normalization(ml_lower *x)
{
	ml_value *v = x->in[0], *average, *variance;
	int n, r = v->type.rank;
	int64_t init[] = {0, 2, 3}, *axes = ml_lower_axes(x, -1, "axes", r, &n);

	if (n < 0)
		return NULL;
	if (!axes) {
		if (r != 4)
			return ml_lower_fail(x, ML_ERR_SHAPE, "the operand must have rank 4");
		axes = init;
		n = 3;
	}
	v = center(x, v, axes, n, &average, &variance);
	variance = ML_X1(sqrt, variance);
	return ML_X2(div, v, ML_X2(add, variance, ML_LIKE(variance, 1e-9)));
}

ml_value *
ml_lower_lrn(ml_lower *x)
{
	ml_value *v = x->in[0], *sum;
	int64_t size = ml_onnx_int(x, "size", 0), one = 1;
	double alpha = ml_onnx_float(x, "alpha", 1e-4), beta = ml_onnx_float(x, "beta", 0.75);
	double bias = ml_onnx_float(x, "bias", 1);
	int r = v->type.rank;
	ml_dim low[ML_MAX_RANK], high[ML_MAX_RANK];

	if (r < 2 || r == ML_MAX_RANK)
		return ml_lower_fail(x, ML_ERR_SHAPE, "the operand must have rank 2 or more");
	if (size < 1 || size > INT32_MAX)
		return ml_lower_fail(x, ML_ERR_VALUE, "size is %lld", (long long)size);
	for (int i = 0; i < r; i++)
		low[i] = high[i] = ML_INT(0);
	low[r - 1] = ML_INT((size - 1) / 2);
	high[r - 1] = ML_INT(size / 2);
	sum = ml_lower_move_axis(x, ML_X2(mul, v, v), 1, r - 1);
	sum = ml_lower_window(x, ml_lower_pad(x, sum, 0, low, high), &size, &one, &one, 1);
	int64_t last = r;
	sum = ml_lower_reduce(x, ML_OP_reduce_sum, sum, &last, 1, false);
	sum = ml_lower_move_axis(x, sum, r - 1, 1);
	sum = ML_X2(mul, sum, ML_LIKE(v, alpha / (double)size));
	sum = ML_X2(add, sum, ML_LIKE(v, bias));
	return ML_X2(div, v, ML_X2(pow, sum, ML_LIKE(v, beta)));
}

/* ---- over the last dims ---- */

static int
last_axes(int axis, int rank, int64_t *axes)
{
	for (int i = axis; i < rank; i++)
		axes[i - axis] = i;
	return rank - axis;
}

/* The node: rms_norm without bias, layer_norm otherwise. */
static ml_value *
norm_node(ml_lower *x, ml_op op, ml_value *const *in, int nin, int axis, double eps)
{
	ml_node *n = ml_begin(x->b, op, in, nin);

	if (!n)
		return NULL;
	/* layer_norm and rms_norm have the same attributes in the same places */
	ML_A(n, layer_norm, axis).i64 = axis;
	ML_A(n, layer_norm, eps).f64 = eps;
	return ml_finish1(x->b, n);
}

static ml_value *
layer_norm(ml_lower *x, ml_value *v, ml_value *scale, ml_value *bias, int axis, double eps)
{
	ml_value *in[] = {ml_lower_wide(x, v), ml_lower_wide(x, scale), ml_lower_wide(x, bias)};

	return ml_lower_as(x, norm_node(x, ML_OP_layer_norm, in, bias ? 3 : 2, axis, eps), v);
}

/* The results Mean and InvStdDev, where the node names them. */
static void
layer_norm_statistics(ml_lower *x, ml_value *v, int axis, double eps)
{
	ml_value *average, *variance;
	int64_t axes[ML_MAX_RANK];
	int n = last_axes(axis, v->type.rank, axes);

	if (x->nout < 2)
		return;
	center(x, ml_lower_wide(x, v), axes, n, &average, &variance);
	x->out[1] = average;
	x->out[2] = inverse_root(x, variance, eps);
}

ml_value *
ml_lower_layer_normalization(ml_lower *x)
{
	int axis;
	double eps = ml_onnx_float(x, "epsilon", 1e-5);

	ml_onnx_ignore(x, "stash_type");
	if (!ml_lower_axis(x, ml_onnx_int(x, "axis", -1), x->in[0]->type.rank, &axis))
		return NULL;
	layer_norm_statistics(x, x->in[0], axis, eps);
	return layer_norm(x, x->in[0], x->in[1], x->in[2], axis, eps);
}

/* The result has the scale's type. */
static ml_value *
rms_norm(ml_lower *x, ml_value *v, ml_value *scale, int axis, double eps)
{
	ml_value *in[] = {ml_lower_wide(x, v), NULL};

	in[1] = ml_lower_as(x, scale, in[0]);
	return ml_lower_as(x, norm_node(x, ML_OP_rms_norm, in, 2, axis, eps), scale);
}

/* RMSNormalization, and ONNX Runtime's SimplifiedLayerNormalization */
ml_value *
ml_lower_rms_normalization(ml_lower *x)
{
	int axis;
	double eps = ml_onnx_float(x, "epsilon", 1e-5);

	ml_onnx_ignore(x, "stash_type");
	if (!ml_lower_axis(x, ml_onnx_int(x, "axis", -1), x->in[0]->type.rank, &axis))
		return NULL;
	return rms_norm(x, x->in[0], x->in[1], axis, eps);
}

/* com.microsoft: the sum of input, skip and bias, normalized over the last dim. */
ml_value *
ml_lower_skip_layer_normalization(ml_lower *x)
{
	double eps = ml_onnx_float(x, "epsilon", 1e-5);
	bool simple = x->row->arg;
	ml_value *bias = x->in[simple ? 3 : 4], *v = ML_X2(add, x->in[0], x->in[1]);

	v = bias ? ML_X2(add, v, bias) : v;
	if (!v)
		return NULL;
	if (v->type.rank < 1)
		return ml_lower_fail(x, ML_ERR_SHAPE, "the operand must not be a scalar");
	x->out[3] = v;
	int axis = v->type.rank - 1;
	return simple ? rms_norm(x, v, x->in[2], axis, eps)
		      : layer_norm(x, v, x->in[2], x->in[3], axis, eps);
}
