/* eval.h -- inside of the reference evaluator: arrays of numbers and the state of one run. */
#ifndef ML_EVAL_H
#define ML_EVAL_H
#include "ir.h"

/* Every element is one cell whatever its dtype: floats in f, integers and bools in i (u64 as its
 * bits).  Simple beats compact here. */
typedef union ml_cell {
	double f;
	int64_t i;
} ml_cell;

typedef struct ml_array ml_array;
struct ml_array {
	ml_array *next, **link; /* all arrays of the run, so that a failed run frees them */
	int refs;
	ml_dtype dtype;
	int rank;
	int64_t dim[ML_MAX_RANK];
	int64_t count;
	ml_cell cell[];
};

typedef struct ml_eval {
	const ml_module *m; /* a clone that belongs to this run, composites expanded */
	ml_context *cx;
	ml_memory *memory;
	ml_arena *scratch;
	ml_eval_options options;
	const ml_node *node; /* being evaluated, for messages */
	ml_array *arrays;
	uint64_t bytes, steps;
	/* Values of the dims table's symbols; `definer` is NULL while unknown, else the node or
	 * block that gave the value in definition number `when`. */
	int64_t *symbol;
	const void **definer;
	uint64_t *when, event;
} ml_eval;

/* One operator: operands in, as many new arrays out as the node has results. */
typedef ml_status ml_eval_op(ml_eval *, const ml_node *, ml_array *const *in, ml_array **out);
ml_eval_op ml_eval_source, ml_eval_elementwise, ml_eval_reduce, ml_eval_move, ml_eval_index,
	ml_eval_contract, ml_eval_irregular, ml_eval_control;

/* Runs a block; takes over the references to `args`, gives references to `results`. */
ml_status ml_eval_block(ml_eval *, const ml_block *, ml_array **args, ml_array **results);

/* Error at the node being evaluated; its text names the operator. */
ml_status ml_eval_fail(ml_eval *, ml_status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Accounts for `n` scalar operations; ML_ERR_LIMIT when there were too many. */
ml_status ml_eval_charge(ml_eval *, int64_t n);

/* ---- arrays: eval_array.c ---- */

/* A zeroed array with one reference. */
ml_status ml_array_new(ml_eval *, ml_dtype, int rank, const int64_t *dim, ml_array **);
/* The same for result i of a node, whose type must have known dims. */
ml_status ml_array_result(ml_eval *, const ml_node *, int i, ml_array **);
ml_status ml_array_read(ml_eval *, const ml_tensor *, ml_array **);
void ml_array_write(const ml_array *, void *bytes);
void ml_array_release(ml_eval *, ml_array *);
/* The cells as the dtype can hold them: floats rounded, integers wrapped. */
void ml_array_round(const ml_eval *, ml_array *);
double ml_round_to(ml_dtype, double);
int64_t ml_wrap_to(ml_dtype, int64_t);
/* Elements of dims before `axis`, of it, and behind it. */
void ml_array_split(const ml_array *, int axis, int64_t *outer, int64_t *n, int64_t *inner);
/* -1, 0, 1; NaN is greater than all numbers and equal to itself. */
int ml_cell_compare(ml_dtype, ml_cell, ml_cell);

/* One step of a reduction or running reduction: eval_reduce.c. */
ml_cell ml_cell_combine(ml_op, ml_dtype, ml_cell, ml_cell);

/* Row-major strides in elements. */
void ml_strides(int rank, const int64_t *dim, int64_t *stride);

/* Walks all positions of a shape in row-major order with up to three strided offsets. */
typedef struct ml_walk {
	int rank, n;
	int64_t dim[ML_MAX_RANK], at[ML_MAX_RANK];
	int64_t stride[3][ML_MAX_RANK], pos[3];
} ml_walk;

static inline void
ml_walk_next(ml_walk *w)
{
	for (int d = w->rank - 1; d >= 0; d--) {
		for (int k = 0; k < w->n; k++)
			w->pos[k] += w->stride[k][d];
		if (++w->at[d] < w->dim[d])
			return;
		for (int k = 0; k < w->n; k++)
			w->pos[k] -= w->stride[k][d] * w->dim[d];
		w->at[d] = 0;
	}
}

/* ---- dims: eval_dims.c ---- */

/* The arrays become the values' contents: symbols that are whole dims of the types get their
 * values, all other known dims must agree, and guards are checked when something became known.
 * `definer`, the node or block, may give its own symbols new values in later calls (in loops). */
ml_status ml_eval_bind(ml_eval *, const void *definer, ml_value *const *, ml_array *const *, int n);
/* All symbols of the dim have values. */
bool ml_eval_known(const ml_eval *, ml_dim);
ml_status ml_eval_dim(ml_eval *, ml_dim, int64_t *value);
/* A list attribute of dims as integers; `value` has room for ML_MAX_RANK. */
ml_status ml_eval_dims(ml_eval *, const ml_attr *, int64_t *value);
#endif
