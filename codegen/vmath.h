/* vmath.h -- elementary functions as straight vector code: the same bits on every ISA.
 *
 * Every function takes f32 or f64, a vector of any number of lanes or a scalar, and returns the
 * same type.  Only exactly specified operations are emitted (+ - * /, fma, square root, rounding,
 * bit tricks): no call of libm, no code that depends on the ISA.  Infinities, NaN, signed zeros and
 * denormals are treated as C does.  Greatest errors measured against libm in higher precision by
 * tests/codegen/test_vmath.c, in units of the last place:
 *
 *            f32   f64                  f32   f64                f32   f64
 *   exp      1.1   1         sigmoid    2.2   2.2      sin cos   .6    2.5
 *   expm1    2     2         tanh       3     3        tan       .6    4
 *   log      1     1         erf        3.2   2        asin      .6    2.2
 *   log1p    2     2         sinh cosh  .6    3        acos      .6    1.5
 *   pow      .6    4         asinh ...  .6    3        atan      .6    1.5
 *   xcdf     5     3  (units of max(|result|, min(|x|, 1)))
 *
 * f32 forms of sin cos tan asin acos atan sinh cosh asinh acosh atanh pow compute in f64.
 */
#ifndef ML_VMATH_H
#define ML_VMATH_H
#include "emit.h"

ml_v ml_vm_exp(ml_emit *, ml_v x);
/* exp(x) for f32 x <= 0 in fewer operations: greatest error 1.1, 0 below 2^-126. */
ml_v ml_vm_exp_below(ml_emit *, ml_v x);
/* exp(x) for f32 x <= 0, relative error 1e-4, 0 below 2^-126: for what becomes 8 bits. */
ml_v ml_vm_exp_short(ml_emit *, ml_v x);
ml_v ml_vm_expm1(ml_emit *, ml_v x);
ml_v ml_vm_log(ml_emit *, ml_v x);
ml_v ml_vm_log1p(ml_emit *, ml_v x);
ml_v ml_vm_pow(ml_emit *, ml_v x, ml_v y);
ml_v ml_vm_sigmoid(ml_emit *, ml_v x); /* 1 / (1 + exp(-x)) */
ml_v ml_vm_tanh(ml_emit *, ml_v x);
ml_v ml_vm_erf(ml_emit *, ml_v x);
ml_v ml_vm_xcdf(ml_emit *, ml_v x); /* x Phi(x), Phi the normal distribution */
ml_v ml_vm_sinh(ml_emit *, ml_v x);
ml_v ml_vm_cosh(ml_emit *, ml_v x);
ml_v ml_vm_asinh(ml_emit *, ml_v x);
ml_v ml_vm_acosh(ml_emit *, ml_v x);
ml_v ml_vm_atanh(ml_emit *, ml_v x);
ml_v ml_vm_sin(ml_emit *, ml_v x);
ml_v ml_vm_cos(ml_emit *, ml_v x);
ml_v ml_vm_tan(ml_emit *, ml_v x);
ml_v ml_vm_asin(ml_emit *, ml_v x);
ml_v ml_vm_acos(ml_emit *, ml_v x);
ml_v ml_vm_atan(ml_emit *, ml_v x);
#endif
