/* harness_graph.h -- random typed graphs, their inputs, and comparing results. */
#ifndef FUZZ_GRAPH_H
#define FUZZ_GRAPH_H
#include "ir/ir.h"

typedef struct fuzz_random {
	uint64_t state;
} fuzz_random;
/* 0 <= result < n */
int fuzz_below(fuzz_random *, int n);
/* -1 <= result < 1 */
double fuzz_number(fuzz_random *);

typedef struct fuzz_options {
	int steps;
	/* Nothing that turns a small difference of floats into a large one: no rounding to
	 * integers, no comparisons of floats. */
	bool smooth;
} fuzz_options;

/* A module with one symbol `n`, a few inputs and up to four results; the same for the same seed. */
ml_module *fuzz_graph(ml_context *, uint64_t seed, const fuzz_options *);
/* Numbers for every argument, symbols standing for `n`. */
ml_tensor *fuzz_inputs(const ml_module *, uint64_t seed, int64_t n, ml_arena *);
/* Index of the first element that differs by more than tolerance times the largest magnitude of
 * the tensor, -1 when there is none.  NaN equals NaN; magnitudes over 1e30 are not compared. */
int64_t fuzz_difference(const ml_tensor *, const ml_tensor *, double tolerance);
/* The module as text. */
char *fuzz_text(const ml_module *, ml_arena *);
/* Writes the module and the context's diagnostics to stderr. */
void fuzz_show(const ml_context *, const ml_module *);
#endif
