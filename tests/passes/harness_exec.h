/* harness_exec.h -- candidates of passes run by the reference evaluator, on random samples. */
#ifndef HARNESS_EXEC_H
#define HARNESS_EXEC_H
#include "ir/exec.h"

/* Symbols of a test module stand for their smallest size, but at least this. */
enum { HARNESS_DIM = 3 };

double harness_random(uint64_t *seed);
/* A tensor for an argument: floats in [-2, 2], integers 0 or 1. */
ml_tensor harness_input(ml_arena *, const ml_module *, const ml_value *arg, uint64_t *seed);

/* ml_parse() of text in which element i of a constant that is only referred to, `#1`, is a number
 * of its reference; NULL: a random one in -1..1, as of the seed, which begins as the reference. */
typedef double harness_number(uint64_t reference, int64_t i, uint64_t *seed);
ml_status harness_parse(ml_context *, const char *text, harness_number *, ml_module **);

ml_exec harness_exec(ml_context *);

/* Eight samples, the same ones every time. */
typedef struct harness_samples {
	ml_arena arena; /* of the sample that is lent */
} harness_samples;
ml_data harness_data(harness_samples *);
#endif
