/* triangle.h -- symmetric matrices as their lower triangles, row by row, and how such sums of
 * products come out of compiled modules. */
#ifndef ML_TRIANGLE_H
#define ML_TRIANGLE_H
#include "../ir/exec.h"

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

enum { ML_TRIANGLE_BLOCK = 384 /* columns */ };
/* Products that make a triangle of k rows. */
int ml_triangle_products(int64_t k);
/* x'x of x, [rows, k], as products of a block of columns with all columns up to its last: what is
 * right of them is not computed. */
ml_status ml_triangle_build(ml_builder *, ml_value *x, ml_value **product);
/* Adds the numbers of these products that belong to the triangle h. */
void ml_triangle_add(double *h, int64_t k, const ml_tensor *product);
/* Those of one product, of `rows` columns from `top` with `width` columns from `left` on. */
void ml_triangle_add_block(double *h, int64_t top, int64_t rows, int64_t left, int64_t width,
			   const float *product);
#endif
