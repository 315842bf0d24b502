/* program.h -- the main() of --emit=exe: times the model on zeros, for devices without tools. */
#ifndef MLRT_PROGRAM_H
#define MLRT_PROGRAM_H
#include "direct.h"

/* What the generated main() knows of its model. */
typedef struct mlrt_facts {
	mlrt_direct *direct;
	const char *signature;
	/* Evaluates all inputs' dims from the symbols in state. */
	void (*input_dims)(int64_t *state, int64_t *in_dims);
	const char *const *dim_name; /* C names */
	const int64_t *dim_word;     /* where each is in state */
	const int64_t *dim_least;
	const int64_t *rank, *element_bytes; /* of inputs, then outputs */
	int64_t ndims, nin, nout;
} mlrt_facts;

/* NAME=SIZE sets a dim (default: its least size, at least 1), --threads=N, --runs=N.  Prints one
 * line of JSON; returns the exit code. */
int32_t mlrt_main(int32_t argc, char **argv, const mlrt_facts *);
#endif
