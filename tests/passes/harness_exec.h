/* harness_exec.h -- candidates of passes run by the reference evaluator, on random samples. */
#ifndef HARNESS_EXEC_H
#define HARNESS_EXEC_H
#include "ir/exec.h"

/* Symbols of a test module stand for their smallest size, but at least this. */
enum { HARNESS_DIM = 3 };

double harness_random(uint64_t *seed);
/* A tensor for an argument: floats in [-2, 2], integers 0 or 1. */
ml_tensor harness_input(ml_arena *, const ml_module *, const ml_value *arg, uint64_t *seed);

/* For ml_parse(): constants that are only referred to become numbers in -1..1 of their seed; `user`
 * is the ml_memory. */
ml_blob *harness_numbers(void *user, uint64_t seed, const ml_type *);

ml_exec harness_exec(ml_context *);

/* Eight samples, the same ones every time. */
typedef struct harness_samples {
	ml_arena arena; /* of the sample that is lent */
} harness_samples;
ml_data harness_data(harness_samples *);
#endif
