/* lower_quant.h -- scales, zero points and sums of integers: what quantized operators share.
 *
 * Scales and zero points are one number, a list along an axis, or spread over blocks.  A zero point
 * that is NULL is 0.
 */
#ifndef ML_LOWER_QUANT_H
#define ML_LOWER_QUANT_H
#include "lower_spatial.h"

/* Numbers per tensor, per channel or per block, in the shape that broadcasts against the type. */
ml_value *ml_lower_spread(ml_lower *, ml_value *, const ml_type *, int axis, int64_t block);
/* Scales must be floats; constant ones finite, and those that are divided by above zero.  Those
 * that are multiplied with may be 0 (channels and blocks of zeros) and negative (signed scales of
 * blocks, which ONNX Runtime's quantizer writes).  False, reported, else. */
bool ml_lower_divisor_fits(ml_lower *, ml_value *scale);
bool ml_lower_factor_fits(ml_lower *, ml_value *scale);
/* A zero point has the type of what is quantized with it.  False, reported, else. */
bool ml_lower_zero_fits(ml_lower *, const ml_value *zero, ml_dtype);
ml_value *ml_lower_quantize(ml_lower *, ml_value *, ml_value *scale, ml_value *zero, ml_dtype);
ml_value *ml_lower_dequantize(ml_lower *, ml_value *, ml_value *scale, ml_value *zero);
/* Integers of up to 8 bits with a scale for each block along the axis, as many blocks as there are
 * scales. */
ml_value *ml_lower_dequantize_blocks(ml_lower *, ml_value *, ml_value *scale, ml_value *zero,
				     int axis);
/* u8 with the scale and zero point that cover a tensor and 0. */
ml_value *ml_lower_dynamic_quantize(ml_lower *, ml_value *, ml_value **scale, ml_value **zero);

/* Sums of (a - a_zero) (b - b_zero) in s32, exact: as u8 times s8, which kernels read, and what the
 * zero points add to that.  a_zero goes by rows or is one number, b_zero by columns. */
ml_value *ml_lower_integer_product(ml_lower *, ml_value *a, ml_value *a_zero, ml_value *b,
				   ml_value *b_zero);
/* A sum times the scales of its operands, that of b along an axis, over a divisor when there is
 * one; in f32 or wider. */
ml_value *ml_lower_scale_sum(ml_lower *, ml_value *sum, ml_value *a_scale, ml_value *b_scale,
			     int axis, ml_value *divisor);
/* Sums for the node's convolution; w_zero goes by output channels. */
ml_value *ml_lower_integer_conv(ml_lower *, ml_value *, ml_value *zero, ml_value *w,
				ml_value *w_zero);
#endif
