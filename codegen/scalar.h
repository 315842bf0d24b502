/* scalar.h -- elementwise arithmetic on scalars and 16-lane vectors, with the IR's semantics.
 *
 * In registers an element has this type: f32 and f64 themselves; narrower floats an f32 holding a
 * value of the narrow type; integers iN; bool i1.  Every function takes scalars or <16 x ...>.
 */
#ifndef ML_SCALAR_H
#define ML_SCALAR_H
#include "emit.h"
#include "../ir/ir.h"

LLVMTypeRef ml_register_type(ml_emit *, ml_dtype);
LLVMTypeRef ml_memory_type(ml_emit *, ml_dtype);
bool ml_is_vector(ml_v);
/* The type like_vector ? <16 x element> : element. */
LLVMTypeRef ml_type_like(LLVMTypeRef element, ml_v like);
/* `v` as it is, or splat when `like` is a vector and v is not. */
ml_v ml_splat_like(ml_emit *, ml_v v, ml_v like);

/* Element bytes as loaded <-> register form. */
ml_v ml_from_memory(ml_emit *, ml_dtype, ml_v);
ml_v ml_to_memory(ml_emit *, ml_dtype, ml_v);

/* The number as a scalar constant in register form. */
ml_v ml_scalar_f64(ml_emit *, ml_dtype, double);
ml_v ml_scalar_s64(ml_emit *, ml_dtype, int64_t);
/* The constant's element i. */
ml_v ml_scalar_of_const(ml_emit *, const ml_value *, int64_t i);

/* One operator on operands of type t, all scalars or all vectors.  Floats narrower than f32 are
 * not rounded back: sums keep the f32 until ml_scalar_round. */
ml_v ml_scalar_op(ml_emit *, ml_op, ml_dtype t, ml_v *in);
ml_v ml_scalar_round(ml_emit *, ml_dtype, ml_v);
ml_v ml_scalar_cast(ml_emit *, ml_dtype from, ml_dtype to, ml_v);

/* Reductions: the value of nothing, and one more element. */
ml_v ml_reduce_neutral(ml_emit *, ml_op reduce, ml_dtype);
ml_op ml_reduce_step(ml_op reduce); /* add, mul, min or max */

/* A float remainder, exact: sign of the dividend.  scalar_rem.c */
ml_v ml_scalar_fmod(ml_emit *, ml_v x, ml_v y);
#endif
