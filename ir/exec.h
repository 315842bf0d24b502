/* exec.h -- running candidate modules from inside a pass: the driver injects the JIT, tests the
 * evaluator, so that passes/ knows neither frontend/ nor codegen/. */
#ifndef ML_EXEC_H
#define ML_EXEC_H
#include "ir.h"

/* A compiled candidate. */
typedef struct ml_runnable ml_runnable;

typedef struct ml_exec {
	void *user;
	/* Compiles a clone of the module as it would be shipped. */
	ml_status (*compile)(void *user, const ml_module *, ml_runnable **);
	/* outputs are allocated in `arena`. */
	ml_status (*run)(void *user, ml_runnable *, const ml_tensor *inputs, ml_tensor *outputs,
			 ml_arena *arena);
	/* Median of `runs` timed runs, in seconds. */
	ml_status (*time)(void *user, ml_runnable *, const ml_tensor *inputs, int runs,
			  double *seconds);
	void (*free)(void *user, ml_runnable *);
} ml_exec;

/* Calibration samples: each has one tensor per input of the module. */
typedef struct ml_data {
	int samples, inputs;
	const ml_tensor *const *sample; /* sample[i][input] */
} ml_data;
#endif
