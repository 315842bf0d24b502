/* harness_triangle.h -- matrices as passes keep them. */
#ifndef HARNESS_TRIANGLE_H
#define HARNESS_TRIANGLE_H
#include "ir/arena.h"
#include "passes/triangle.h"

/* The lower triangle of h, f64[k, k]. */
static inline const double *
harness_lower(ml_arena *arena, const double *h, int64_t k)
{
	double *packed = ML_NEW_ARRAY(arena, double, ml_triangle_size(k));

	for (int64_t i = 0; i < k; i++)
		for (int64_t j = 0; j <= i; j++)
			packed[ml_triangle_at(i, j)] = h[i * k + j];
	return packed;
}
#endif
