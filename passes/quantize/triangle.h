/* triangle.h -- symmetric matrices as their lower triangles, row by row. */
#ifndef ML_TRIANGLE_H
#define ML_TRIANGLE_H
#include <stdint.h>

/* Numbers of a triangle of k rows. */
static inline int64_t
ml_triangle_size(int64_t k)
{
	return k * (k + 1) / 2;
}

/* Where the element i, j lies, which is j, i. */
static inline int64_t
ml_triangle_at(int64_t i, int64_t j)
{
	return i < j ? ml_triangle_size(j) + i : ml_triangle_size(i) + j;
}
#endif
