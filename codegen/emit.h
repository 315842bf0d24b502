/* emit.h -- small vocabulary over the LLVM C API in which all kernels are written.
 *
 * Every vector has ML_LANES = 16 lanes whatever the machine: LLVM splits it into legal registers.
 * That fixed width makes row reductions and tails give the same bits on every ISA.
 * No fast-math flag is ever set; fma is explicit.
 */
#ifndef ML_EMIT_H
#define ML_EMIT_H
#include "target.h"
#include "../ir/arena.h"
#include <llvm-c/Core.h>
#include <stdbool.h>
#include <stdint.h>

enum { ML_LANES = 16 };
typedef LLVMValueRef ml_v;

/* One LLVM module under construction, on one thread. */
typedef struct ml_emit {
	LLVMContextRef lc;
	LLVMModuleRef module;
	LLVMBuilderRef b;
	ml_v fn;
	const ml_target *target;
	ml_arena *arena;
	LLVMTypeRef i1, i8, i16, i32, i64, f16, f32, f64, ptr, none;
} ml_emit;

void ml_emit_open(ml_emit *, const ml_target *, ml_arena *, const char *module_name);
void ml_emit_close(ml_emit *); /* disposes module and context */
/* A function with the target's CPU attributes, noalias pointer parameters and an entry block. */
ml_v ml_emit_function(ml_emit *, const char *name, LLVMTypeRef result, LLVMTypeRef *params, int n);
void ml_emit_attributes(ml_emit *, ml_v function); /* CPU attributes alone */
/* Runs one round of LLVM's passes, without its own unrolling and vectorising. */
void ml_emit_optimize(ml_emit *, LLVMTargetMachineRef);

ml_v ml_i64(ml_emit *, int64_t);
ml_v ml_i32(ml_emit *, int32_t);
ml_v ml_f32(ml_emit *, double);
ml_v ml_private_constant(ml_emit *, ml_v value, const char *name); /* its address */
ml_v ml_text_constant(ml_emit *, const char *);                    /* the same, of a C string */
LLVMTypeRef ml_vec_type(LLVMTypeRef element);                      /* <16 x element> */
ml_v ml_splat(ml_emit *, ml_v scalar);
ml_v ml_iota_i64(ml_emit *); /* <0, 1, ..., 15> as <16 x i64> */

/* Integer arithmetic on i64 that folds constants while building. */
ml_v ml_add(ml_emit *, ml_v, ml_v);
ml_v ml_sub(ml_emit *, ml_v, ml_v);
ml_v ml_mul(ml_emit *, ml_v, ml_v);
ml_v ml_min_s(ml_emit *, ml_v, ml_v);
bool ml_const_i64(ml_v, int64_t *value);

/* for (i = from; i < to; i += step) { ... }.  Carried values become phis:
 *   ml_loop l = ml_loop_begin(e, from, to, step, carried, ncarried, "k");
 *   ... l.i, l.carry[j] ...; ml_loop_end(e, &l, next);   next[j] computed in the body
 *   after the loop l.carry[j] holds the final values. */
typedef struct ml_loop {
	ml_v i, to, step;
	ml_v *carry;
	int ncarried;
	LLVMBasicBlockRef head, body, after;
} ml_loop;
ml_loop ml_loop_begin(ml_emit *, ml_v from, ml_v to, ml_v step, ml_v *initial, int ncarried,
		      const char *name);
void ml_loop_end(ml_emit *, ml_loop *, ml_v *next);

/* if (condition) { ... } without values; nest freely. */
typedef struct ml_if {
	LLVMBasicBlockRef otherwise, after;
} ml_if;
ml_if ml_if_begin(ml_emit *, ml_v condition);
void ml_if_else(ml_emit *, ml_if *);
void ml_if_end(ml_emit *, ml_if *);

/* Memory.  `align` is in bytes; callers' pointers promise element alignment only. */
ml_v ml_gep(ml_emit *, LLVMTypeRef element, ml_v pointer, ml_v index);
ml_v ml_load(ml_emit *, LLVMTypeRef type, ml_v pointer, int align);
void ml_store(ml_emit *, ml_v value, ml_v pointer, int align);
ml_v ml_alloca(ml_emit *, LLVMTypeRef type, int align); /* a slot in the function's entry block */
/* First `count` lanes (i64, 1..16, or NULL = all 16); other lanes read as zero / stay unwritten. */
ml_v ml_load_lanes(ml_emit *, LLVMTypeRef element, ml_v pointer, ml_v count, int align);
void ml_store_lanes(ml_emit *, ml_v vector, ml_v pointer, ml_v count, int align);
ml_v ml_lane_mask(ml_emit *, ml_v count); /* <16 x i1> */

/* Intrinsics by name, overloaded on the given types: llvm.fma, llvm.minimum ... */
ml_v ml_intrinsic(ml_emit *, const char *name, LLVMTypeRef *overloads, int noverloads, ml_v *args,
		  int nargs);
ml_v ml_fma(ml_emit *, ml_v a, ml_v b, ml_v c);
/* Fixed-shape tree over the 16 lanes: (i, i+8), (i, i+4), (i, i+2), (i, i+1).  `combine` sees
 * vectors of 8, 4 and 2 lanes and at last two scalars. */
ml_v ml_reduce_lanes(ml_emit *, ml_v vector, ml_v (*combine)(ml_emit *, ml_v, ml_v));
#endif
