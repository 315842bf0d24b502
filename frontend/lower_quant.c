/* lower_quant.c -- quantized operators. */
#include "lower_spatial.h"
#include <math.h>
#include <string.h>

/* ---- scales and zero points ---- */

/* Numbers per tensor, per channel or per block, in the shape that broadcasts against `t`. */
static ml_value *
spread_over(ml_lower *x, ml_value *v, const ml_type *t, int axis, int64_t block)
{
	ml_dim shape[ML_MAX_RANK + 1];
	int r = t->rank;

	if (!v || v->type.rank == 0)
		return v;
	if (v->type.rank == 1 && ml_dim_equals(v->type.dim[0], 1))
		return ml_lower_reshape(x, v, NULL, 0);
	if (!block) {
		if (v->type.rank != 1)
			return ml_lower_fail(x, ML_ERR_SHAPE, "scale and zero point must be lists");
		if (!ml_require_equal(x->b, v->type.dim[0], t->dim[axis],
				      "one scale for each element of the axis"))
			return x->b->failed != ML_OK
				       ? NULL
				       : ml_lower_fail(x, ML_ERR_SHAPE,
						       "the number of scales is not that of the "
						       "elements along axis %d",
						       axis);
		return ml_lower_along(x, v, axis, r);
	}
	if (v->type.rank != r || r == ML_MAX_RANK)
		return ml_lower_fail(x, ML_ERR_SHAPE, "scales of blocks have rank %d, must have %d",
				     v->type.rank, r);
	for (int i = 0; i < r; i++)
		shape[i + (i > axis)] = v->type.dim[i];
	shape[axis + 1] = ML_INT(1);
	v = ml_lower_reshape(x, v, shape, r + 1);
	shape[axis + 1] = ML_INT(block);
	v = ml_build_broadcast(x->b, v, shape, r + 1);
	for (int i = 0; i < r; i++)
		shape[i] = t->dim[i];
	shape[axis] = v ? ml_dim_mul(ML_DIMS, v->type.dim[axis], ML_INT(block)) : NULL;
	v = ml_lower_reshape(x, v, shape, r);
	return v ? ml_lower_cut(x, v, axis, ML_INT(0), t->dim[axis]) : NULL;
}

/* Constant scales must be numbers above zero. */
static bool
scale_fits(ml_lower *x, ml_value *scale)
{
	int64_t n;

	if (!ml_is_const(scale) || !ml_type_static_count(&scale->type, &n))
		return true;
	for (int64_t i = 0; i < n; i++) {
		double s = ml_const_f64(scale, i);
		if (!(s > 0) || isinf(s)) {
			ml_lower_fail(x, ML_ERR_VALUE, "scale %lld is %g", (long long)i, s);
			return false;
		}
	}
	return true;
}

static ml_value *
quantize(ml_lower *x, ml_value *v, ml_value *scale, ml_value *zero, ml_dtype dtype)
{
	zero = zero ? zero : ml_build_f64(x->b, dtype, 0);
	ml_value *in[] = {v, scale, zero};

	if (!v || !scale || !zero)
		return NULL;
	ml_node *n = ml_begin(x->b, ML_OP_quantize, in, 3);
	if (!n)
		return NULL;
	ML_A(n, quantize, dtype).dtype = dtype;
	return ml_finish1(x->b, n);
}

static ml_value *
dequantize(ml_lower *x, ml_value *q, ml_value *scale, ml_value *zero)
{
	if (!zero && q)
		zero = ml_build_f64(x->b, q->type.dtype, 0);
	return ML_X3(dequantize, q, scale, zero);
}

static bool
read_axis(ml_lower *x, const ml_type *t, int *axis)
{
	int64_t given = ml_onnx_int(x, "axis", 1);

	*axis = 0;
	ml_onnx_ignore(x, "saturate"); /* of 8 bit floats */
	ml_onnx_ignore(x, "precision");
	/* only looked at where there is more than one scale */
	if (x->in[1]->type.rank == 0 || ml_dim_equals(x->in[1]->type.dim[0], 1))
		if (given < -t->rank || given >= t->rank)
			return true;
	return ml_lower_axis(x, given, t->rank, axis);
}

ml_value *
ml_lower_quantize_linear(ml_lower *x)
{
	ml_value *v = x->in[0], *scale = x->in[1], *zero = x->in[2];
	const ml_type *t = &v->type;
	int64_t block = ml_onnx_int(x, "block_size", 0);
	ml_dtype dtype;
	int axis;

	if (!ml_onnx_type(x, "output_dtype", zero ? zero->type.dtype : ML_u8, &dtype) ||
	    !read_axis(x, t, &axis) || !scale_fits(x, scale))
		return NULL;
	if (zero && zero->type.dtype != dtype)
		return ml_lower_fail(x, ML_ERR_TYPE, "zero point and result differ in type");
	if (!ml_is_integer(dtype))
		return ml_lower_fail(x, ML_ERR_TYPE, "the zero point must be an integer");
	v = t->dtype == ML_s32 ? ml_lower_as(x, v, scale) : v;
	scale = ml_lower_as(x, spread_over(x, scale, t, axis, block), v);
	zero = zero ? spread_over(x, zero, t, axis, block) : NULL;
	return quantize(x, v, scale, zero, dtype);
}

ml_value *
ml_lower_dequantize_linear(ml_lower *x)
{
	const ml_type *t = &x->in[0]->type;
	int64_t block = ml_onnx_int(x, "block_size", 0);
	ml_value *zero = x->in[2], *y;
	ml_dtype dtype;
	int axis;

	if (!ml_onnx_type(x, "output_dtype", x->in[1]->type.dtype, &dtype) ||
	    !read_axis(x, t, &axis) || !scale_fits(x, x->in[1]))
		return NULL;
	zero = zero ? spread_over(x, zero, t, axis, block) : NULL;
	y = dequantize(x, x->in[0], spread_over(x, x->in[1], t, axis, block), zero);
	return y ? ml_build_cast(x->b, y, dtype) : NULL;
}

/* Scale and zero point that cover a tensor and 0 by u8. */
static ml_value *
dynamic_quantize(ml_lower *x, ml_value *v, ml_value **scale, ml_value **zero)
{
	int64_t axes[ML_MAX_RANK];
	ml_value *low, *high, *z;

	for (int i = 0; i < v->type.rank; i++)
		axes[i] = i;
	low = ml_lower_reduce(x, ML_OP_reduce_min, v, axes, v->type.rank, false);
	high = ml_lower_reduce(x, ML_OP_reduce_max, v, axes, v->type.rank, false);
	low = ML_X2(min, low, ML_LIKE(v, 0));
	high = ML_X2(max, high, ML_LIKE(v, 0));
	*scale = ML_X2(div, ML_X2(sub, high, low), ML_LIKE(v, 255));
	/* all zeros: any scale does */
	*scale = ML_X3(select, ML_X2(eq, *scale, ML_LIKE(v, 0)), ML_LIKE(v, 1), *scale);
	z = ML_X1(round, ML_X2(div, ML_X1(neg, low), *scale));
	z = ML_X2(min, ML_X2(max, z, ML_LIKE(v, 0)), ML_LIKE(v, 255));
	*zero = z ? ml_build_cast(x->b, z, ML_u8) : NULL;
	return quantize(x, v, *scale, *zero, ML_u8);
}

ml_value *
ml_lower_dynamic_quantize_linear(ml_lower *x)
{
	return dynamic_quantize(x, x->in[0], &x->out[1], &x->out[2]);
}

/* ---- integer products ---- */

/* q - zero: q itself where zero is 0, which dot takes as it is, else s32. zero is a scalar or one
 * number for each index of `axis`. */
static ml_value *
centered(ml_lower *x, ml_value *q, ml_value *zero, int axis)
{
	double number;

	if (!q || !zero || (ml_is_splat(zero, &number) && number == 0))
		return q;
	int r = q->type.rank;
	zero = ml_build_cast(x->b, zero, ML_s32);
	if (zero && zero->type.rank == 1)
		zero = ml_dim_equals(zero->type.dim[0], 1) ? ml_lower_reshape(x, zero, NULL, 0)
							   : ml_lower_along(x, zero, axis, r);
	return ML_X2(sub, ml_build_cast(x->b, q, ML_s32), zero);
}

/* a . b over rows of a and columns of b */
static ml_value *
integer_product(ml_lower *x, ml_value *a, ml_value *a_zero, ml_value *b, ml_value *b_zero)
{
	int row = a->type.rank > 1 ? a->type.rank - 2 : 0;

	a = centered(x, a, a_zero, row);
	b = centered(x, b, b_zero, b->type.rank - 1);
	return ml_lower_product(x, a, b);
}

ml_value *
ml_lower_matmul_integer(ml_lower *x)
{
	return integer_product(x, x->in[0], x->in[2], x->in[1], x->in[3]);
}

static ml_value *
integer_conv(ml_lower *x, ml_value *v, ml_value *v_zero, ml_value *w, ml_value *w_zero)
{
	ml_spatial s;
	ml_dim low[ML_MAX_RANK], high[ML_MAX_RANK];
	int64_t groups = ml_onnx_int(x, "group", 1);

	if (groups < 1)
		return ml_lower_fail(x, ML_ERR_VALUE, "group is %lld", (long long)groups);
	if (!ml_spatial_read(x, &v->type, &w->type, false, &s))
		return NULL;
	for (int i = 0; i < v->type.rank; i++) {
		low[i] = i < 2 ? ML_INT(0) : s.low[i - 2];
		high[i] = i < 2 ? ML_INT(0) : s.high[i - 2];
	}
	v = ml_lower_pad(x, centered(x, v, v_zero, 1), 0, low, high);
	v = ml_lower_window(x, v, s.size, s.stride, s.dilation, s.n);
	w = centered(x, w, w_zero, 0);
	return v && w ? ml_lower_window_product(x, v, w, s.n, groups) : NULL;
}

ml_value *
ml_lower_conv_integer(ml_lower *x)
{
	return integer_conv(x, x->in[0], x->in[2], x->in[1], x->in[3]);
}

/* s32 sums to a quantized result: scales of the operands, then of the result */
static ml_value *
requantize(ml_lower *x, ml_value *sum, ml_value *a_scale, ml_value *b_scale, ml_value *scale,
	   ml_value *zero, int axis)
{
	ml_value *y = sum ? ml_build_cast(x->b, sum, a_scale->type.dtype) : NULL;

	if (!y || !scale_fits(x, a_scale) || !scale_fits(x, b_scale) || !scale_fits(x, scale))
		return NULL;
	a_scale = spread_over(x, a_scale, &y->type, y->type.rank - 2, 0);
	b_scale = spread_over(x, b_scale, &y->type, axis, 0);
	y = ML_X2(mul, y, ML_X2(mul, a_scale, b_scale));
	if (!y)
		return NULL;
	return quantize(x, y, spread_over(x, scale, &y->type, axis, 0),
			spread_over(x, zero, &y->type, axis, 0), zero->type.dtype);
}

ml_value *
ml_lower_qlinear_matmul(ml_lower *x)
{
	ml_value *sum = integer_product(x, x->in[0], x->in[2], x->in[3], x->in[5]);

	return requantize(x, sum, x->in[1], x->in[4], x->in[6], x->in[7],
			  sum ? sum->type.rank - 1 : 0);
}

ml_value *
ml_lower_qlinear_conv(ml_lower *x)
{
	ml_value *sum = integer_conv(x, x->in[0], x->in[2], x->in[3], x->in[5]);

	if (x->in[8] && sum)
		sum = ML_X2(add, sum, ml_lower_along(x, x->in[8], 1, sum->type.rank));
	return requantize(x, sum, x->in[1], x->in[4], x->in[6], x->in[7], 1);
}

/* ---- com.microsoft ---- */

/* QLinearAdd, QLinearMul: a, its scale and zero point, b ..., result's scale and zero point */
ml_value *
ml_lower_qlinear_binary(ml_lower *x)
{
	ml_value *a = dequantize(x, x->in[0], x->in[1], x->in[2]);
	ml_value *b = dequantize(x, x->in[3], x->in[4], x->in[5]);

	return quantize(x, ml_op2(x->b, (ml_op)x->row->arg, a, b), x->in[6], x->in[7],
			x->in[0]->type.dtype);
}

/* QLinearSigmoid, QLinearLeakyRelu: x, scale, zero point, result's scale and zero point */
ml_value *
ml_lower_qlinear_sigmoid(ml_lower *x)
{
	ml_value *v = ML_X1(sigmoid, dequantize(x, x->in[0], x->in[1], x->in[2]));

	return quantize(x, v, x->in[3], x->in[4], x->in[0]->type.dtype);
}

/* a, b, a's scale, b's scale, zero points, bias: a float result */
ml_value *
ml_lower_matmul_integer_to_float(ml_lower *x)
{
	ml_value *sum = integer_product(x, x->in[0], x->in[4], x->in[1], x->in[5]);
	ml_value *y = sum ? ml_build_cast(x->b, sum, x->in[2]->type.dtype) : NULL;

	if (!y)
		return NULL;
	y = ML_X2(mul, y, spread_over(x, x->in[2], &y->type, y->type.rank - 2, 0));
	y = ML_X2(mul, y, spread_over(x, x->in[3], &y->type, y->type.rank - 1, 0));
	return x->in[6] ? ML_X2(add, y, x->in[6]) : y;
}

/* a, b, b's scale and zero point, bias: a is quantized here */
ml_value *
ml_lower_dynamic_quantize_matmul(ml_lower *x)
{
	ml_value *scale, *zero, *a = dynamic_quantize(x, x->in[0], &scale, &zero);
	ml_value *sum = a ? integer_product(x, a, zero, x->in[1], x->in[3]) : NULL;
	ml_value *y = ML_X2(mul, ml_lower_as(x, sum, x->in[0]), scale);

	if (!y)
		return NULL;
	y = ML_X2(mul, y, spread_over(x, x->in[2], &y->type, y->type.rank - 1, 0));
	return x->in[4] ? ML_X2(add, y, x->in[4]) : y;
}

/* Packed nibbles u8[.., n] -> u8[.., 2n], the low one first */
static ml_value *
unpack_nibbles(ml_lower *x, ml_value *v)
{
	ml_value *half[2];
	int64_t axis = v->type.rank;
	ml_dim shape[ML_MAX_RANK];

	half[0] = ML_X2(and, v, ML_LIKE(v, 15));
	half[1] = ML_X2(shr, v, ML_LIKE(v, 4));
	for (int i = 0; i < v->type.rank; i++)
		shape[i] = v->type.dim[i];
	shape[axis - 1] = ml_dim_mul(ML_DIMS, shape[axis - 1], ML_INT(2));
	for (int i = 0; i < 2; i++)
		half[i] = half[i] ? ml_build_unsqueeze(x->b, half[i], &axis, 1) : NULL;
	return ml_lower_reshape(x, ml_build_concat(x->b, half, 2, (int)axis), shape, (int)axis);
}

/* a[.., K] times weights of 4 or 8 bits in blocks along K: b u8[N, blocks, bytes] */
ml_value *
ml_lower_matmul_nbits(ml_lower *x)
{
	static const int64_t swap[] = {1, 0};
	ml_value *w = x->in[1], *scale = x->in[2], *zero = x->in[3], *y;
	int64_t k = ml_onnx_int(x, "K", 0), n = ml_onnx_int(x, "N", 0);
	int64_t bits = ml_onnx_int(x, "bits", 4), block = ml_onnx_int(x, "block_size", 0);

	ml_onnx_ignore(x, "accuracy_level");
	if (k < 1 || n < 1 || block < 16 || (bits != 4 && bits != 8) || k > INT32_MAX ||
	    n > INT32_MAX)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "K, N, bits or block_size");
	if (x->in[4])
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "g_idx is not supported");
	int64_t blocks = (k + block - 1) / block;
	ml_dim packed[] = {ML_INT(n), ML_INT(blocks), ML_INT(block * bits / 8)};
	ml_dim table[] = {ML_INT(n), ML_INT(blocks), ML_INT(1)};
	ml_dim all[] = {ML_INT(n), ML_INT(blocks * block)};
	w = ml_lower_reshape(x, w, packed, 3);
	w = w && bits == 4 ? unpack_nibbles(x, w) : w;
	scale = ml_lower_reshape(x, scale, table, 3);
	if (zero && zero->type.dtype == ML_u8) {
		ml_dim bytes[] = {ML_INT(n), ML_INT((blocks * bits + 7) / 8)};
		zero = ml_lower_reshape(x, zero, bytes, 2);
		zero = zero && bits == 4 ? unpack_nibbles(x, zero) : zero;
		zero = zero ? ml_lower_cut(x, zero, 1, ML_INT(0), ML_INT(blocks)) : NULL;
	}
	zero = zero ? ml_lower_reshape(x, ml_lower_as(x, zero, scale), table, 3)
		    : ML_LIKE(scale, (double)(1 << (bits - 1)));
	w = ML_X2(mul, ML_X2(sub, ml_lower_as(x, w, scale), zero), scale);
	w = ml_lower_cut(x, ml_lower_reshape(x, w, all, 2), 1, ML_INT(0), ML_INT(k));
	y = ml_lower_product(x, x->in[0], ml_lower_transpose(x, w, swap));
	return x->in[5] ? ML_X2(add, y, x->in[5]) : y;
}
