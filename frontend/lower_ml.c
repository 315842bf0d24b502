/* lower_ml.c -- operators of ai.onnx.ml that are plain arithmetic. */
#include "lower.h"
#include <string.h>

/* A list attribute as a constant; NULL when it is missing. */
static ml_value *
list(ml_lower *x, const char *name, const int64_t *dims, int rank)
{
	int n;
	const float *given = ml_onnx_floats(x, name, &n);
	int64_t want = 1, count = n;

	if (!given)
		return NULL;
	for (int i = 0; i < rank; i++)
		want *= dims[i];
	if (rank && want != n)
		return ml_lower_fail(x, ML_ERR_VALUE, "%s has %d elements, must have %lld", name, n,
				     (long long)want);
	double *wide = ML_LOWER_ARRAY(x, double, n);
	for (int i = 0; i < n; i++)
		wide[i] = (double)given[i];
	return ml_lower_table(x, ML_f32, wide, rank ? dims : &count, rank ? rank : 1);
}

/* y[N, targets] = x[N, F] . coefficients[targets, F] + intercepts[targets] */
ml_value *
ml_lower_linear_regressor(ml_lower *x)
{
	static const int64_t swap[] = {1, 0};
	ml_value *v = ml_build_cast(x->b, x->in[0], ML_f32), *w, *bias, *y;
	int64_t shape[] = {ml_onnx_int(x, "targets", 1), 0};

	if (strcmp(ml_onnx_text(x, "post_transform", "NONE"), "NONE"))
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "post_transform is not supported");
	if (!v || v->type.rank != 2 || !ml_dim_is_int(v->type.dim[1], &shape[1]) || shape[0] < 1)
		return ml_lower_fail(x, ML_ERR_SHAPE, "the operand must be [N, features]");
	w = list(x, "coefficients", shape, 2);
	bias = list(x, "intercepts", shape, 1);
	if (!w)
		return x->b->failed != ML_OK ? NULL
					     : ml_lower_fail(x, ML_ERR_FORMAT,
							     "attribute 'coefficients' is missing");
	y = ml_lower_product(x, v, ml_build_transpose(x->b, w, swap));
	return bias ? ML_X2(add, y, bias) : y;
}

/* (x - offset) scale */
ml_value *
ml_lower_scaler(ml_lower *x)
{
	ml_value *v = ml_build_cast(x->b, x->in[0], ML_f32), *scale = list(x, "scale", NULL, 0);
	ml_value *offset = list(x, "offset", NULL, 0);

	v = offset ? ML_X2(sub, v, offset) : v;
	return scale ? ML_X2(mul, v, scale) : v;
}

ml_value *
ml_lower_binarizer(ml_lower *x)
{
	ml_value *v = x->in[0];

	return ml_lower_as(x, ML_X2(lt, ML_LIKE(v, ml_onnx_float(x, "threshold", 0)), v), v);
}

ml_value *
ml_lower_normalizer(ml_lower *x)
{
	const char *norm = ml_onnx_text(x, "norm", "MAX");
	ml_value *v = ml_build_cast(x->b, x->in[0], ML_f32), *by;
	bool squares = !strcmp(norm, "L2"), most = !strcmp(norm, "MAX");

	if (!v || v->type.rank < 1)
		return v ? ml_lower_fail(x, ML_ERR_SHAPE, "the operand is a scalar") : NULL;
	if (!squares && !most && strcmp(norm, "L1"))
		return ml_lower_fail(x, ML_ERR_VALUE, "norm must be MAX, L1 or L2");
	int64_t axis = v->type.rank - 1;
	by = squares ? ML_X2(mul, v, v) : most ? v : ML_X1(abs, v);
	by = ml_build_reduce(x->b, most ? ML_OP_reduce_max : ML_OP_reduce_sum, by, &axis, 1);
	by = squares ? ML_X1(sqrt, by) : by;
	return ML_X3(select, ML_X2(eq, by, ML_LIKE(v, 0)), v, ML_X2(div, v, by));
}
