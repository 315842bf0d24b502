/* lower_qlinear.c -- operators on quantized tensors: products of integers with what follows them,
 * and, of com.microsoft, arithmetic between quantized tensors.
 *
 * A product ends as sum (a_scale b_scale / scale), rounded once, like the quantization behind any
 * layer: the factor of constant scales is a constant.
 */
#include "lower_activation.h"
#include "lower_quant.h"

/* ---- products ---- */

ml_value *
ml_lower_matmul_integer(ml_lower *x)
{
	return ml_lower_integer_product(x, x->in[0], x->in[2], x->in[1], x->in[3]);
}

ml_value *
ml_lower_conv_integer(ml_lower *x)
{
	return ml_lower_integer_conv(x, x->in[0], x->in[2], x->in[1], x->in[3]);
}

/* A scale against a product of that type: one number, a list along an axis, or the whole rank. */
static ml_value *
scale_of(ml_lower *x, ml_value *scale, const ml_type *t, int axis)
{
	scale = ml_lower_wide(x, scale);
	if (!scale || !ml_lower_factor_fits(x, scale))
		return NULL;
	return scale->type.rank == t->rank && t->rank > 1
		       ? scale
		       : ml_lower_spread(x, scale, t, axis < 0 ? 0 : axis, 0);
}

ml_value *
ml_lower_scale_sum(ml_lower *x, ml_value *sum, ml_value *a_scale, ml_value *b_scale, int axis,
		   ml_value *divisor)
{
	if (!sum)
		return NULL;
	a_scale = scale_of(x, a_scale, &sum->type, sum->type.rank - 2);
	b_scale = scale_of(x, b_scale, &sum->type, axis);
	ml_value *f = ML_X2(mul, a_scale, b_scale);
	if (divisor)
		f = ML_X2(div, f, divisor);
	return f ? ML_X2(mul, ml_lower_as(x, sum, f), f) : NULL;
}

/* s32 sums to a quantized result: scales of the operands, then of the result */
static ml_value *
requantize(ml_lower *x, ml_value *sum, ml_value *a_scale, ml_value *b_scale, ml_value *scale,
	   ml_value *zero, int axis)
{
	if (!sum || !ml_lower_divisor_fits(x, scale))
		return NULL;
	ml_value *y = ml_lower_scale_sum(x, sum, a_scale, b_scale, axis,
					 scale_of(x, scale, &sum->type, axis));
	if (!y)
		return NULL;
	ml_dtype dtype = zero ? zero->type.dtype : ML_u8;
	return ml_lower_quantize(x, y, ML_LIKE(y, 1), ml_lower_spread(x, zero, &y->type, axis, 0),
				 dtype);
}

ml_value *
ml_lower_qlinear_matmul(ml_lower *x)
{
	ml_value *sum = ml_lower_integer_product(x, x->in[0], x->in[2], x->in[3], x->in[5]);

	return requantize(x, sum, x->in[1], x->in[4], x->in[6], x->in[7],
			  sum && sum->type.rank ? sum->type.rank - 1 : 0);
}

ml_value *
ml_lower_qlinear_conv(ml_lower *x)
{
	ml_value *sum = ml_lower_integer_conv(x, x->in[0], x->in[2], x->in[3], x->in[5]);

	if (x->in[8] && sum)
		sum = ML_X2(add, sum, ml_lower_along(x, x->in[8], 1, sum->type.rank));
	return requantize(x, sum, x->in[1], x->in[4], x->in[6], x->in[7], 1);
}

/* QGemm: a, its scale and zero point, b ..., c or nothing, the result's, or a float result */
ml_value *
ml_lower_qgemm(ml_lower *x)
{
	if (!ml_lower_has(x, 1 << 1 | 1 << 3 | 1 << 4))
		return NULL;
	static const int64_t swap[] = {1, 0};
	ml_value *a = x->in[0], *b = x->in[3], *c = x->in[6];
	double alpha = ml_onnx_float(x, "alpha", 1);

	if (a->type.rank != 2 || b->type.rank != 2)
		return ml_lower_fail(x, ML_ERR_SHAPE, "operands have ranks %d and %d, must have 2",
				     a->type.rank, b->type.rank);
	a = ml_onnx_int(x, "transA", 0) ? ml_lower_transpose(x, a, swap) : a;
	b = ml_onnx_int(x, "transB", 0) ? ml_lower_transpose(x, b, swap) : b;
	ml_value *sum = ml_lower_integer_product(x, a, x->in[2], b, x->in[5]);
	sum = c ? ML_X2(add, sum, c) : sum;
	ml_value *a_scale = alpha == 1 ? x->in[1] : ML_X2(mul, x->in[1], ML_LIKE(x->in[1], alpha));
	if (x->in[7])
		return requantize(x, sum, a_scale, x->in[4], x->in[7], x->in[8], 1);
	return ml_lower_scale_sum(x, sum, a_scale, x->in[4], 1, NULL);
}

static ml_value *
with_bias(ml_lower *x, ml_value *y, ml_value *bias)
{
	return bias ? ML_X2(add, y, bias) : y;
}

/* a, b, a's scale, b's scale, zero points, bias: a float result */
ml_value *
ml_lower_matmul_integer_to_float(ml_lower *x)
{
	ml_value *sum = ml_lower_integer_product(x, x->in[0], x->in[4], x->in[1], x->in[5]);
	ml_value *y = sum ? ml_lower_scale_sum(x, sum, x->in[2], x->in[3], sum->type.rank - 1, NULL)
			  : NULL;

	return with_bias(x, ml_lower_as(x, y, x->in[2]), x->in[6]);
}

/* a, b, b's scale and zero point, bias: a is quantized here */
ml_value *
ml_lower_dynamic_quantize_matmul(ml_lower *x)
{
	ml_value *scale, *zero, *a = ml_lower_dynamic_quantize(x, x->in[0], &scale, &zero);
	ml_value *sum = a ? ml_lower_integer_product(x, a, zero, x->in[1], x->in[3]) : NULL;

	return with_bias(x,
			 sum ? ml_lower_scale_sum(x, sum, scale, x->in[2], sum->type.rank - 1, NULL)
			     : NULL,
			 x->in[4]);
}

/* ---- arithmetic of com.microsoft ---- */

/* Operands i, i + 1 and i + 2: a tensor, its scale and zero point. */
static ml_value *
real(ml_lower *x, int i)
{
	if (!ml_lower_factor_fits(x, x->in[i + 1]) ||
	    !ml_lower_zero_fits(x, x->in[i + 2], x->in[i]->type.dtype))
		return NULL;
	return ml_lower_dequantize(x, x->in[i],
				   ml_lower_spread(x, x->in[i + 1], &x->in[i]->type, 0, 0),
				   ml_lower_spread(x, x->in[i + 2], &x->in[i]->type, 0, 0));
}

/* The result, whose scale and zero point are operands i and i + 1. */
static ml_value *
quantized(ml_lower *x, ml_value *y, int i, ml_dtype dtype)
{
	if (!y || !ml_lower_divisor_fits(x, x->in[i]) ||
	    !ml_lower_zero_fits(x, x->in[i + 1], dtype))
		return NULL;
	return ml_lower_quantize(x, y, ml_lower_spread(x, x->in[i], &y->type, 0, 0),
				 ml_lower_spread(x, x->in[i + 1], &y->type, 0, 0), dtype);
}

/* a, its scale and zero point, b ..., result's scale and zero point */
ml_value *
ml_lower_qlinear_binary(ml_lower *x)
{
	if (!ml_lower_has(x, 1 << 1 | 1 << 3 | 1 << 4 | 1 << 6))
		return NULL;
	ml_value *a = real(x, 0), *b = real(x, 3);

	return quantized(x, ml_op2(x->b, (ml_op)x->row->arg, a, b), 6, x->in[0]->type.dtype);
}

/* x, scale, zero point, result's scale and zero point, around the operator without QLinear: a
 * lowering function that reads operand 0 */
static ml_value *
quantized_unary(ml_lower *x, ml_lower_fn *plain)
{
	ml_dtype dtype = x->in[0]->type.dtype;
	ml_value *v = ml_lower_has(x, 1 << 1 | 1 << 3) ? real(x, 0) : NULL, *q = x->in[0], *y;

	if (!v)
		return NULL;
	x->in[0] = v;
	y = plain(x);
	x->in[0] = q;
	return quantized(x, y, 3, dtype);
}

static ml_value *
sigmoid(ml_lower *x)
{
	return ML_X1(sigmoid, x->in[0]);
}

ml_value *
ml_lower_qlinear_sigmoid(ml_lower *x)
{
	return quantized_unary(x, sigmoid);
}

static ml_value *
leaky_relu(ml_lower *x)
{
	double alpha = ml_onnx_float(x, "alpha", 0.01);

	return ml_lower_find_activation(x, "LeakyRelu")->build(x, x->in[0], &alpha);
}

ml_value *
ml_lower_qlinear_leaky_relu(ml_lower *x)
{
	return quantized_unary(x, leaky_relu);
}

ml_value *
ml_lower_qlinear_softmax(ml_lower *x)
{
	int64_t version = x->version;

	x->version = ml_onnx_int(x, "opset", 0); /* whose Softmax it was */
	ml_value *y = quantized_unary(x, ml_lower_softmax_op);
	x->version = version;
	return y;
}

/* Channels last on the way in, and back. */
static ml_value *
quantized_pool(ml_lower *x, ml_lower_fn *plain)
{
	ml_value *q = x->in[0], *y;
	bool last = ml_onnx_int(x, "channels_last", 0) != 0;
	int rank = q->type.rank;

	if (rank < 3)
		return ml_lower_fail(x, ML_ERR_SHAPE, "an operand of rank %d has no spatial dims",
				     rank);
	x->in[0] = last ? ml_lower_move_axis(x, q, rank - 1, 1) : q;
	y = x->in[0] ? quantized_unary(x, plain) : NULL;
	x->in[0] = q;
	return last ? ml_lower_move_axis(x, y, 1, rank - 1) : y;
}

static ml_value *
global_mean(ml_lower *x)
{
	int64_t axes[ML_MAX_RANK];
	int rank = x->in[0]->type.rank;

	for (int i = 2; i < rank; i++)
		axes[i - 2] = i;
	return ml_lower_reduce(x, ML_OP_reduce_mean, x->in[0], axes, rank - 2, true);
}

ml_value *
ml_lower_qlinear_global_average_pool(ml_lower *x)
{
	return quantized_pool(x, global_mean);
}

ml_value *
ml_lower_qlinear_average_pool(ml_lower *x)
{
	return quantized_pool(x, ml_lower_average_pool);
}

/* Result's scale and zero point, then x, scale, zero point of each part. */
ml_value *
ml_lower_qlinear_concat(ml_lower *x)
{
	int parts = (x->nin - 1) / 3, axis;
	ml_value **part = ML_LOWER_ARRAY(x, ml_value *, parts);

	if (parts < 1 || (parts * 3 + 2 != x->nin && parts * 3 + 1 != x->nin))
		return ml_lower_fail(x, ML_ERR_FORMAT,
				     "%d operands are no scale, zero point and triples", x->nin);
	if (!ml_lower_has(x, 1))
		return NULL;
	if (!ml_lower_axis(x, ml_onnx_int(x, "axis", 0), x->in[2] ? x->in[2]->type.rank : 0, &axis))
		return NULL;
	for (int i = 0; i < parts; i++) {
		if (!x->in[2 + 3 * i] || !x->in[3 + 3 * i])
			return ml_lower_fail(x, ML_ERR_FORMAT, "part %d is missing", i);
		part[i] = real(x, 2 + 3 * i);
		if (!part[i])
			return NULL;
	}
	return quantized(x, ml_build_concat(x->b, part, parts, axis), 0, x->in[2]->type.dtype);
}

/* condition, x, its scale and zero point, y ..., result's scale and zero point */
ml_value *
ml_lower_qlinear_where(ml_lower *x)
{
	if (!ml_lower_has(x, 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 7))
		return NULL;
	ml_value *a = real(x, 1), *b = real(x, 4);

	return quantized(x, ML_X3(select, x->in[0], a, b), 7, x->in[1]->type.dtype);
}
