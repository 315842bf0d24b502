/* lower_quant.c -- QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear; scales and zero points.
 */
#include "lower_quant.h"
#include <math.h>

/* ---- scales and zero points ---- */

ml_value *
ml_lower_spread(ml_lower *x, ml_value *v, const ml_type *t, int axis, int64_t block)
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

static bool
scale_fits(ml_lower *x, const ml_value *scale, bool divides)
{
	int64_t n;

	if (scale && !ml_is_float(scale->type.dtype)) {
		ml_lower_fail(x, ML_ERR_TYPE, "the scale is %s, must be a float",
			      ml_dtype_name(scale->type.dtype));
		return false;
	}
	if (!scale || !ml_is_const(scale) || !ml_type_static_count(&scale->type, &n))
		return true;
	for (int64_t i = 0; i < n; i++) {
		double s = ml_const_f64(scale, i);
		if (!isfinite(s) || (divides && s <= 0)) {
			ml_lower_fail(x, ML_ERR_VALUE, "scale %lld is %g", (long long)i, s);
			return false;
		}
	}
	return true;
}

bool
ml_lower_divisor_fits(ml_lower *x, ml_value *scale)
{
	return scale_fits(x, scale, true);
}

bool
ml_lower_factor_fits(ml_lower *x, ml_value *scale)
{
	return scale_fits(x, scale, false);
}

bool
ml_lower_zero_fits(ml_lower *x, const ml_value *zero, ml_dtype dtype)
{
	if (!zero || zero->type.dtype == dtype)
		return true;
	ml_lower_fail(x, ML_ERR_TYPE, "the zero point is %s, but what it belongs to is %s",
		      ml_dtype_name(zero->type.dtype), ml_dtype_name(dtype));
	return false;
}

ml_value *
ml_lower_quantize(ml_lower *x, ml_value *v, ml_value *scale, ml_value *zero, ml_dtype dtype)
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

ml_value *
ml_lower_dequantize(ml_lower *x, ml_value *q, ml_value *scale, ml_value *zero)
{
	if (!zero && q)
		zero = ml_build_f64(x->b, q->type.dtype, 0);
	return ML_X3(dequantize, q, scale, zero);
}

/* Elements of few bits are read as bytes, which kernels know. */
static ml_value *
as_bytes(ml_lower *x, ml_value *v)
{
	if (!v || !ml_is_integer(v->type.dtype) || ml_dtype_bits(v->type.dtype) >= 8)
		return v;
	return ml_build_cast(x->b, v,
			     ml_dtype_kind_of(v->type.dtype) == ML_KIND_SIGNED ? ML_s8 : ML_u8);
}

/* To fewer bits than a byte: as one, which saturates later than they do. */
static ml_value *
quantize_few_bits(ml_lower *x, ml_value *v, ml_value *scale, ml_value *zero, ml_dtype dtype)
{
	bool is_signed = ml_dtype_kind_of(dtype) == ML_KIND_SIGNED;
	int bits = ml_dtype_bits(dtype) - is_signed;

	v = ml_lower_quantize(x, v, scale, as_bytes(x, zero), is_signed ? ML_s8 : ML_u8);
	v = ML_X2(min, v, ML_LIKE(v, (1 << bits) - 1));
	v = is_signed ? ML_X2(max, v, ML_LIKE(v, -(1 << bits))) : v;
	return v ? ml_build_cast(x->b, v, dtype) : NULL;
}

/* Floats round when they are stored, not before. */
static ml_value *
quantize_float(ml_lower *x, ml_value *v, ml_value *scale, ml_value *zero, ml_dtype dtype)
{
	bool saturate = ml_onnx_int(x, "saturate", 1);

	v = ML_X2(div, v, scale);
	v = zero ? ML_X2(add, v, ml_lower_as(x, zero, v)) : v;
	return v && !saturate ? ml_build_cast(x->b, v, dtype) : ml_lower_saturate(x, v, dtype);
}

static bool
read_axis(ml_lower *x, const ml_type *t, int64_t block, int *axis)
{
	int64_t given = ml_onnx_int(x, "axis", 1);

	*axis = 0;
	if (block < 0) {
		ml_lower_fail(x, ML_ERR_VALUE, "block_size is %lld", (long long)block);
		return false;
	}
	ml_onnx_ignore(x, "saturate");
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
	    !read_axis(x, t, block, &axis) || !ml_lower_divisor_fits(x, scale) ||
	    !ml_lower_zero_fits(x, zero, dtype))
		return NULL;
	if (!ml_is_integer(dtype) && ml_dtype_bytes(dtype) != 1)
		return ml_lower_fail(x, ML_ERR_TYPE,
				     "the zero point must be an integer or a float of 8 bits");
	v = t->dtype == ML_s32 ? ml_lower_as(x, v, scale) : v;
	scale = ml_lower_as(x, ml_lower_spread(x, scale, t, axis, block), v);
	zero = scale && zero ? ml_lower_spread(x, zero, t, axis, block) : NULL;
	if (ml_is_float(dtype))
		return quantize_float(x, v, scale, zero, dtype);
	if (ml_dtype_bits(dtype) < 8)
		return quantize_few_bits(x, v, scale, zero, dtype);
	return ml_lower_quantize(x, v, scale, zero, dtype);
}

/* Whole blocks stay an axis of their own, along which a scale is one: no table of scales for each
 * element arises, and layers of four bits are recognised (passes/quantize/fuse_u4.c). */
static bool
has_whole_blocks(ml_lower *x, const ml_type *t, int axis, int64_t block)
{
	const ml_type *s = &x->in[1]->type, *z = x->in[2] ? &x->in[2]->type : s;
	ml_dim blocks;

	if (!block || s->rank != t->rank || z->rank != t->rank || t->rank == ML_MAX_RANK ||
	    !ml_dim_divides(ML_DIMS, t->dim[axis], ML_INT(block), &blocks))
		return false;
	for (int i = 0; i < t->rank; i++) {
		ml_dim want = i == axis ? blocks : t->dim[i];
		if (s->dim[i] != want || z->dim[i] != want)
			return false;
	}
	return true;
}

/* v[.., d, ..] as [.., blocks, d / blocks, ..] */
static ml_value *
split(ml_lower *x, ml_value *v, int axis, ml_dim blocks)
{
	ml_dim shape[ML_MAX_RANK];

	if (!v || !v->type.rank)
		return v;
	for (int i = 0; i < v->type.rank; i++)
		shape[i + (i > axis)] = v->type.dim[i];
	shape[axis] = blocks;
	shape[axis + 1] = ml_dim_floordiv(ML_DIMS, v->type.dim[axis], blocks);
	return ml_lower_reshape(x, v, shape, v->type.rank + 1);
}

ml_value *
ml_lower_dequantize_blocks(ml_lower *x, ml_value *q, ml_value *scale, ml_value *zero, int axis)
{
	if (!q || !scale)
		return NULL;
	ml_dim blocks = scale->type.dim[axis];
	ml_value *y = split(x, as_bytes(x, q), axis, blocks);

	scale = split(x, scale, axis, blocks);
	zero = zero ? split(x, as_bytes(x, zero), axis, blocks) : NULL;
	y = ml_lower_dequantize(x, y, scale, zero);
	return ml_lower_reshape(x, y, q->type.dim, q->type.rank);
}

ml_value *
ml_lower_dequantize_linear(ml_lower *x)
{
	const ml_type *t = &x->in[0]->type;
	int64_t block = ml_onnx_int(x, "block_size", 0);
	ml_value *zero = x->in[2], *scale, *y;
	ml_dtype dtype;
	int axis;

	if (!ml_onnx_type(x, "output_dtype", x->in[1]->type.dtype, &dtype) ||
	    !read_axis(x, t, block, &axis) || !ml_lower_factor_fits(x, x->in[1]) ||
	    !ml_lower_zero_fits(x, zero, t->dtype))
		return NULL;
	if (ml_is_integer(t->dtype) && has_whole_blocks(x, t, axis, block)) {
		y = ml_lower_dequantize_blocks(x, x->in[0], x->in[1], zero, axis);
		return y ? ml_build_cast(x->b, y, dtype) : NULL;
	}
	scale = ml_lower_spread(x, x->in[1], t, axis, block);
	zero = scale && zero ? ml_lower_spread(x, as_bytes(x, zero), t, axis, block) : NULL;
	if (ml_is_float(t->dtype)) {
		y = ml_lower_as(x, x->in[0], scale);
		y = zero ? ML_X2(sub, y, ml_lower_as(x, zero, scale)) : y;
		y = ML_X2(mul, y, scale);
	} else {
		y = ml_lower_dequantize(x, as_bytes(x, x->in[0]), scale, zero);
	}
	return y ? ml_build_cast(x->b, y, dtype) : NULL;
}

ml_value *
ml_lower_dynamic_quantize(ml_lower *x, ml_value *v, ml_value **scale, ml_value **zero)
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
	return ml_lower_quantize(x, v, *scale, *zero, ML_u8);
}

ml_value *
ml_lower_dynamic_quantize_linear(ml_lower *x)
{
	return ml_lower_dynamic_quantize(x, x->in[0], &x->out[1], &x->out[2]);
}
