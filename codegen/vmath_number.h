/* vmath_number.h -- constants, polynomials and bits of f32 and f64 values of any lane count. */
#ifndef ML_VMATH_NUMBER_H
#define ML_VMATH_NUMBER_H
#include "vmath.h"

bool ml_vn_is_f32(ml_emit *, ml_v like);
int ml_vn_mantissa(ml_emit *, ml_v like); /* 23 or 52 */
int ml_vn_bias(ml_emit *, ml_v like);     /* 127 or 1023 */

/* A constant of the type of `like`, or an integer one of its width and lane count. */
ml_v ml_vn_const(ml_emit *, ml_v like, double value);
ml_v ml_vn_int(ml_emit *, ml_v like, int64_t value);
ml_v ml_vn_to_bits(ml_emit *, ml_v x);
ml_v ml_vn_from_bits(ml_emit *, ml_v bits, ml_v like);

ml_v ml_vn_add(ml_emit *, ml_v, ml_v);
ml_v ml_vn_sub(ml_emit *, ml_v, ml_v);
ml_v ml_vn_mul(ml_emit *, ml_v, ml_v);
ml_v ml_vn_div(ml_emit *, ml_v, ml_v);
ml_v ml_vn_neg(ml_emit *, ml_v);
ml_v ml_vn_abs(ml_emit *, ml_v);
ml_v ml_vn_sqrt(ml_emit *, ml_v);
ml_v ml_vn_round(ml_emit *, ml_v); /* to nearest, ties to even */
ml_v ml_vn_copysign(ml_emit *, ml_v magnitude, ml_v sign);
/* Comparisons are false for NaN. */
ml_v ml_vn_less(ml_emit *, ml_v a, ml_v b);
ml_v ml_vn_equal(ml_emit *, ml_v a, ml_v b);
ml_v ml_vn_select(ml_emit *, ml_v condition, ml_v yes, ml_v no);
/* Limits that let NaN pass. */
ml_v ml_vn_at_most(ml_emit *, ml_v x, double limit);
ml_v ml_vn_at_least(ml_emit *, ml_v x, double limit);

/* c[0] + c[1] x + ... + c[n - 1] x^(n - 1), by Horner's rule with fma. */
ml_v ml_vn_poly(ml_emit *, ml_v x, const double *c, int n);
#define ML_VN_POLY(e, x, c) ml_vn_poly((e), (x), (c), (int)(sizeof(c) / sizeof *(c)))

/* f32 arguments go through the f64 form of `f`. */
ml_v ml_vn_by_f64(ml_emit *, ml_v x, ml_v (*f)(ml_emit *, ml_v));

/* exp(x + low) with |low| far below 1; low may be NULL. */
ml_v ml_vn_exp(ml_emit *, ml_v x, ml_v low);
#endif
