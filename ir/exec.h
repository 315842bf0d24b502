/* exec.h -- running candidate modules from inside a pass: the driver injects the JIT, tests the
 * evaluator, so that passes/ knows neither frontend/ nor codegen/. */
#ifndef ML_EXEC_H
#define ML_EXEC_H
#include "ir.h"

/* Of a clock that never goes back, and begins somewhere. */
double ml_seconds_now(void);

/* A compiled candidate. */
typedef struct ml_runnable ml_runnable;

typedef struct ml_exec {
	void *user;
	/* Compiles a clone of the module as it would be shipped. */
	ml_status (*compile)(void *user, const ml_module *, ml_runnable **);
	/* outputs are allocated in `arena`. */
	ml_status (*run)(void *user, ml_runnable *, const ml_tensor *inputs, ml_tensor *outputs,
			 ml_arena *arena);
	/* The same into the caller's memory, where outputs[i].data is not NULL and has `bytes`;
	 * into memory lent until the next run where it is.  An output of elementwise operators may
	 * go where an input of its type is, if nothing else reads that input after it is computed.
	 */
	ml_status (*run_into)(void *user, ml_runnable *, const ml_tensor *inputs,
			      ml_tensor *outputs);
	/* Median of `runs` timed runs, in seconds. */
	ml_status (*time)(void *user, ml_runnable *, const ml_tensor *inputs, int runs,
			  double *seconds);
	/* Multiply-adds of the last run.  NULL: nobody counts them. */
	ml_status (*macs)(void *user, ml_runnable *, double *);
	/* Are products of bf16 faster than those of f32?  NULL: no. */
	ml_status (*likes_bf16)(void *user, bool *);
	void (*free)(void *user, ml_runnable *);
} ml_exec;

/* What earlier compilations have found out. */
typedef struct ml_results {
	void *user;
	/* What is kept under a key, lent until the next call; false when nothing is.  Whoever kept
	 * it was this version of mlopt, but no more is known of it. */
	bool (*find)(void *user, ml_bytes key, ml_bytes *body);
	/* Or not, when that fails. */
	void (*keep)(void *user, ml_bytes key, ml_bytes body);
} ml_results;

/* Calibration samples, which may be more than fit into memory. */
typedef struct ml_data {
	void *user;
	/* Sample i, one tensor for each input of the module, lent until the next call.  *there is
	 * false behind the last one. */
	ml_status (*sample)(void *user, const ml_module *, int64_t i, ml_tensor *inputs,
			    bool *there);
	/* What sample i, which there is, should be taken for.  NULL: nobody knows. */
	ml_status (*label)(void *user, const ml_module *, int64_t i, int64_t *label);
} ml_data;
#endif
