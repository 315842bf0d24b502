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
 *
 * Values are in register form (scalar.h).  Lanes beyond `count` hold anything; they never touch
 * memory, and neither do lanes that `mask` excludes.
 */
#ifndef ML_EXPR_H
#define ML_EXPR_H
#include "kernel.h"
#include "scalar.h"
#include "../ir/dim_bound.h"

/* A value or dim already computed at this point of the code. */
typedef struct ml_known {
	const ml_value *value; /* NULL: a dim, or of a gather */
	const ml_node *node; /* a gather: dim is the symbol of its position, v whether it is good */
	ml_dim dim;          /* the dim; for a value kept in a row buffer: its position there */
	const ml_dim *index; /* NULL: the value is v at any index */
	ml_v mask;           /* under which it was computed */
	ml_v v;
	ml_v row;             /* kept in memory: elements of the value's dtype, in register form */
	const ml_dim *stride; /* not NULL: as tensors lie, at dim + sum of index * stride */
} ml_known;

/* Dims whose values reach the code: addresses and whatever else is computed from indices. */
typedef struct ml_trace {
	ML_VEC(ml_dim) dims;
	int quiet;     /* inside of an address that is already in the list */
	int scattered; /* accesses lane by lane */
} ml_trace;

/* A kernel under emission. */
typedef struct ml_expr {
	ml_emit *e;
	ml_kernel *kernel;
	ml_arena *arena;
	ml_v task;         /* const mlrt_task * */
	ml_v scratch;      /* this thread's scratch */
	ml_v *buffer;      /* inputs, then results */
	ml_lane_axis axis; /* symbols are NULL while no loop runs over lanes */
	ml_v count;        /* valid lanes (i64, at least 1), NULL = all 16 */
	ml_v mask;         /* i1 or <16 x i1>: where memory may be touched, NULL = everywhere */
	ml_v nowhere;      /* 128 readable zero bytes */
	ML_VEC(ml_v) sym_value; /* of each symbol by index: i64, or <16 x i64> when it has lanes */
	ML_VEC(ml_known) known; /* newest last; see ml_expr_mark */
	int unrolled;           /* copies being made of the code under emission */
	ml_status failed;       /* first construct that cannot be emitted; reported */
	ml_trace *trace;        /* when set, collects every dim that the code depends on */
} ml_expr;

/* Begins function `name` with the signature mlrt_kernel: loads buffers and sizes. */
void ml_expr_open(ml_expr *, ml_emit *, ml_kernel *, const char *name);
/* Index arithmetic alone, without code: for ml_expr_leaf. */
void ml_expr_analyse(ml_expr *, ml_kernel *);
/* Ends it: returns, and reports what failed. */
ml_status ml_expr_close(ml_expr *);
/* The kernel's parameters. */
ml_v ml_expr_begin(ml_expr *);
ml_v ml_expr_end(ml_expr *);

/* Declares a loop variable: 0 <= i <= inclusive_bound. */
const ml_sym *ml_expr_loop_var(ml_expr *, ml_v value, ml_dim inclusive_bound);
void ml_expr_set_symbol(ml_expr *, const ml_sym *, ml_v value);
/* Lanes: declares position (bound size - 1), block and lane; the position as a dim. */
ml_dim ml_expr_lanes(ml_expr *, ml_v block, ml_dim size);
/* Gives the block symbol another LLVM value: the next loop over the same lanes. */
void ml_expr_set_block(ml_expr *, ml_v block, ml_v count);
void ml_expr_no_lanes(ml_expr *);

/* What becomes known between mark and release is forgotten: it was computed inside a loop body or
 * a branch and does not dominate what follows. */
int ml_expr_mark(const ml_expr *);
void ml_expr_release(ml_expr *, int mark);

/* From now on `value` is not recomputed: at any index it is v (an accumulator, a row's sum). */
void ml_expr_bind(ml_expr *, const ml_value *value, ml_v v);
/* The same for its element at `index`, which lies in memory at row[position]. */
void ml_expr_bind_row(ml_expr *, const ml_value *value, const ml_dim *index, ml_v row,
		      ml_dim position);

/* All of its elements that are asked for lie in memory: the one at an index at base[offset + sum of
 * index * stride]. */
void ml_expr_bind_strided(ml_expr *, const ml_value *value, ml_v base, const ml_dim *stride,
			  ml_dim offset);

/* The element (or 16 lanes) of `value` at index[0..rank-1]. */
ml_v ml_expr_at(ml_expr *, const ml_value *value, const ml_dim *index);
/* The tensor whose elements v shows unchanged, and the address of the one at `index`; NULL when
 * there is more between them than index maps. */
const ml_value *ml_expr_leaf(ml_expr *, const ml_value *v, const ml_dim *index, ml_dim *address);
/* The same through elementwise nodes: the tensor of v's shape that v is computed from. */
const ml_value *ml_expr_source(ml_expr *, const ml_value *v, const ml_dim *index, ml_dim *address);
/* The value that a kernel's result shows: behind reshapes and transposes, and behind the pad of a
 * kernel that writes within a result and leaves what is around it as it is. */
const ml_value *ml_expr_computed(const ml_kernel *, const ml_value *result);
/* Stores v, the element of `computed` at the index, mapped forward through the views between it and
 * the kernel's result number `result`. */
void ml_expr_store(ml_expr *, int result, const ml_value *computed, const ml_dim *index, ml_v v);
/* Where that is in the result's buffer, elements. */
ml_dim ml_expr_result_address(ml_expr *, int result, const ml_value *computed, const ml_dim *index);

/* A dim as an i64 (or <16 x i64> when it depends on the lane). */
ml_v ml_expr_dim(ml_expr *, ml_dim);
/* a floordiv b and a mod b for b >= 1, simplified. */
ml_dim ml_expr_divide(ml_expr *, ml_dim a, ml_dim b, ml_dim *mod);
/* Row-major position of an index, and back. */
ml_dim ml_expr_linear(ml_expr *, int rank, const ml_dim *shape, const ml_dim *index);
void ml_expr_delinear(ml_expr *, int rank, const ml_dim *shape, ml_dim position, ml_dim *index);
/* Records fault `status` at local site `site` when ok (i1 or <16 x i1> under count and mask) is
 * false, with the first offending lane's value. */
void ml_expr_check(ml_expr *, ml_v ok, ml_status status, int site, ml_v value, ml_v limit);
/* Reports what cannot be emitted; the value to go on with. */
ml_v ml_expr_fail(ml_expr *, const ml_value *, const char *what);

/* One elementwise operator on scalars or 16-lane vectors of its operand types; scalar.c. */
ml_v ml_emit_elementwise(ml_emit *, const ml_node *, ml_v *operands);

/* A cast of a rounded f32, and perhaps a zero point, to 8 bits; expr_round.c. */
bool ml_expr_is_rounded(const ml_node *, const ml_value **x, const ml_value **zero);
ml_v ml_emit_rounded(ml_emit *, ml_dtype to, ml_v x, ml_v zero);

/* ---- between the files of expr ---- */

/* How an address depends on the lane. */
typedef enum ml_access { ML_ACCESS_UNIFORM, ML_ACCESS_CONTIGUOUS, ML_ACCESS_GENERAL } ml_access;
ml_access ml_expr_access(ml_expr *, ml_dim address);
/* Element `address` of memory in register form, under count and mask; expr_memory.c. */
ml_v ml_expr_load(ml_expr *, ml_dtype, ml_v base, ml_dim address);
void ml_expr_store_at(ml_expr *, ml_dtype, ml_v base, ml_dim address, ml_v v);
/* Adds d to the trace, if there is one. */
void ml_expr_trace(ml_expr *, ml_dim d);
/* Lanes that exist: count and mask together, NULL = all. */
ml_v ml_expr_active(ml_expr *);
/* Masks, i1 or <16 x i1>: both (NULL = true); any lane as i1. */
ml_v ml_expr_and(ml_expr *, ml_v, ml_v);
ml_v ml_expr_any(ml_expr *, ml_v mask);
const ml_dim *ml_expr_keep_index(ml_expr *, const ml_value *, const ml_dim *index);
bool ml_expr_depends_on_lane(const ml_expr *, ml_dim);
/* Operators by class: expr_move.c, expr_index.c, expr_reduce.c. */
ml_v ml_expr_move(ml_expr *, const ml_node *, const ml_dim *index);
ml_v ml_expr_gather(ml_expr *, const ml_node *, const ml_dim *index);
ml_v ml_expr_wrap_index(ml_expr *, const ml_node *, ml_v index);
/* i in [-size, size) as an i64 in [0, size); records a fault of n and gives 0 otherwise. */
ml_v ml_expr_wrapped(ml_expr *, const ml_node *n, ml_dtype, ml_v i, ml_dim size, ml_v *ok);
ml_v ml_expr_reduce(ml_expr *, const ml_node *, const ml_dim *index);
ml_v ml_expr_dot(ml_expr *, const ml_node *, const ml_dim *index);
/* The index into a dot's operand: batch and contracted axes as given, its free axes from *free on;
 * returns where the other operand's free axes begin. */
const ml_dim *ml_expr_operand_index(const ml_value *, const ml_attr *batch, const ml_attr *contract,
				    const ml_dim *batch_index, const ml_dim *k, const ml_dim *free,
				    ml_dim *in);
#endif
