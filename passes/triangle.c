/* triangle.c -- sums of products of columns, as compiled modules give them, become triangles. */
#include "triangle.h"
#include "../ir/crew.h"

enum {
	BLOCK = ML_TRIANGLE_BLOCK,
	STRIP = 64, /* rows that a thread takes, all of one block */
	ALONE = 256 /* rows below which threads are not worth starting */
};

static int64_t
least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int
ml_triangle_products(int64_t k)
{
	return (int)((k + BLOCK - 1) / BLOCK);
}

static ml_value *
columns(ml_builder *b, ml_value *x, int64_t first, int64_t end)
{
	ml_dims *dims = b->m->dims;
	const ml_dim start[] = {ml_dim_int(dims, 0), ml_dim_int(dims, first)};
	const ml_dim size[] = {x->type.dim[0], ml_dim_int(dims, end - first)};

	if (ml_dim_equals(x->type.dim[1], end - first))
		return x;
	return ml_build_slice(b, x, start, size, (const int64_t[]){1, 1});
}

ml_status
ml_triangle_build(ml_builder *b, ml_value *x, ml_value **product)
{
	const int64_t rows = 0;
	int64_t k = 0;

	if (x)
		ml_dim_is_int(x->type.dim[1], &k);
	for (int64_t first = 0; first < k && b->failed == ML_OK; first += BLOCK) {
		int64_t end = least(first + BLOCK, k);
		*product++ = ml_build_dot(b, columns(b, x, first, end), columns(b, x, 0, end), NULL,
					  NULL, 0, &rows, &rows, 1);
	}
	return b->failed;
}

void
ml_triangle_add_block(double *h, int64_t top, int64_t rows, int64_t left, int64_t width,
		      const float *product)
{
	for (int64_t i = top; i < top + rows; i++, product += width) {
		double *row = h + ml_triangle_at(i, left);
		for (int64_t j = 0; j < width && left + j <= i; j++)
			row[j] += (double)product[j];
	}
}

typedef struct adding {
	double *h;
	int64_t k;
	const ml_tensor *product;
} adding;

static void
add_part(void *user, int worker, int64_t part)
{
	const adding *a = user;
	int64_t first = part * STRIP, block = first / BLOCK;
	int64_t width = least((block + 1) * BLOCK, a->k);
	const float *from = a->product[block].data;

	(void)worker;
	ml_triangle_add_block(a->h, first, least(STRIP, a->k - first), 0, width,
			      from + first % BLOCK * width);
}

void
ml_triangle_add(double *h, int64_t k, const ml_tensor *product)
{
	ml_crew crew = {.workers = k < ALONE ? 1 : 0};

	ml_crew_do(&crew, (k + STRIP - 1) / STRIP, add_part, &(adding){h, k, product});
}
