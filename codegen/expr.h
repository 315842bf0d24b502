/* expr.h -- the value of any IR expression at a symbolic index, as LLVM code.
 *
 * Indices are dims (canonical polynomials) over the kernel's size symbols and its loop variables,
 * which are symbols too, with bounds; so reshape, transpose, slice, window and broadcast chains
 * cancel symbolically and most accesses end as affine addresses.  At most one loop variable is
 * the lane variable: lanes l = 0..15 stand for its value + l.  An expression that does not depend
 * on it comes out scalar, else as a 16-lane vector.
 *
 * The position along the lane axis is always written 16 * block + lane, two symbols with lane in
 * 0..15: then (16 * block + lane) floordiv 32 simplifies to block floordiv 2 (common factor g of
 * the other terms and the divisor, remainder in 0..g-1 dropped), and a row of 384 split into 12
 * heads of 32 is still read and written with contiguous lanes.
 */
#ifndef ML_EXPR_H
#define ML_EXPR_H
#include "kernel.h"

/* A kernel under emission. */
typedef struct ml_expr {
	ml_emit *e;
	ml_kernel *kernel;
	ml_v task;              /* const mlrt_task * */
	const ml_sym *lane;     /* the lane variable, or NULL while emitting scalars */
	ml_v count;             /* valid lanes (i64), NULL = all 16 */
	ml_v *sym_value;        /* LLVM value of each symbol by index: i64, or <16 x i64> for gathered indices */
	struct ml_bound *bound; /* values already computed: see ml_expr_bind */
	ml_v scratch;           /* this thread's scratch */
} ml_expr;

/* Declares a loop variable: 0 <= i <= bound (inclusive). */
const ml_sym *ml_expr_loop_var(ml_expr *, ml_v value, ml_dim inclusive_bound);

/* From now on `value` is not recomputed: at any index it is `v` (an accumulator, a row's sum), or,
 * when `pointer` is given, it is read from memory of the value's shape restricted to the row. */
void ml_expr_bind(ml_expr *, const ml_value *value, ml_v v);

/* The element (or 16 lanes) of `value` at index[0..rank-1]. */
ml_v ml_expr_at(ml_expr *, const ml_value *value, const ml_dim *index);
/* Stores v at the index of `computed`, mapped forward through the views (reshape, transpose)
 * between `computed` and the kernel's result number `result`. */
void ml_expr_store(ml_expr *, int result, const ml_value *computed, const ml_dim *index, ml_v v);

/* A dim as an i64 (or <16 x i64> when it depends on the lane). */
ml_v ml_expr_dim(ml_expr *, ml_dim);
/* Records fault `status` at local site `site` when ok (i1 or <16 x i1> under count) is false. */
void ml_expr_check(ml_expr *, ml_v ok, ml_status status, int site, ml_v value, ml_v limit);

/* One elementwise operator on scalars or 16-lane vectors of its operand types; scalar.c. */
ml_v ml_emit_elementwise(ml_emit *, const ml_node *, ml_v *operands);
#endif
