/* scales.h -- what rules ask about scales and zero points. */
#ifndef ML_SCALES_H
#define ML_SCALES_H
#include "../rules.h"

/* Scale and zero point are one number each, the scale a normal number above zero: so quantizing is
 * monotone, and every element is treated alike. */
bool ml_is_per_tensor(const ml_value *scale, const ml_value *zero);
/* Every element of the constant is above zero, normal and finite. */
bool ml_is_scale(const ml_value *);
/* A constant zero point of one number; what it is. */
int64_t ml_zero_of(const ml_value *);
/* A scalar zero point. */
ml_value *ml_build_zero(ml_builder *, ml_dtype, int64_t);
/* The numbers that a quantized type can hold. */
int64_t ml_lowest(ml_dtype);
int64_t ml_highest(ml_dtype);

/* Patterns of tensors with one scale: quantized to dtype `t` with scale `s` and zero point `z`. */
#define ML_QUANTIZE(x)   OPA(quantize, ATTRS(ATTR(quantize, dtype, t)), x, CST(s), CST(z))
#define ML_DEQUANTIZE(x) OP(dequantize, x, CST(s), CST(z))
#endif
