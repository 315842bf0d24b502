/* cholesky_tile.h -- sums of products of doubles: of so many rows and columns at once that they lie
 * in registers. */
#ifndef ML_CHOLESKY_TILE_H
#define ML_CHOLESKY_TILE_H
#include <stdint.h>
#include <string.h>

enum { ML_CHOLESKY_HIGH = 4, ML_CHOLESKY_WIDE = 12, ML_CHOLESKY_LANES = 4 };

/* Of neighbouring columns; compilers keep sums of arrays in memory. */
typedef double ml_cholesky_columns
	__attribute__((vector_size(ML_CHOLESKY_LANES * sizeof(double)), aligned(8)));

/* Rows of x against those of y, ML_CHOLESKY_WIDE in a row, over k.  In the order of k, with no
 * product fused into its sum: the same bits in registers of any width. */
static inline void
ml_cholesky_tile(const double *restrict x, int64_t stride, const double *restrict y, int64_t k,
		 double sum[restrict ML_CHOLESKY_HIGH][ML_CHOLESKY_WIDE])
{
	ml_cholesky_columns s[ML_CHOLESKY_HIGH][ML_CHOLESKY_WIDE / ML_CHOLESKY_LANES] = {{{0}}};

	for (int64_t t = 0; t < k; t++)
		for (int r = 0; r < ML_CHOLESKY_HIGH; r++)
			for (int c = 0; c < ML_CHOLESKY_WIDE / ML_CHOLESKY_LANES; c++)
				s[r][c] += x[r * stride + t] *
					   *(const ml_cholesky_columns *)(y + t * ML_CHOLESKY_WIDE +
									  c * ML_CHOLESKY_LANES);
	memcpy(sum, s, sizeof s);
}
#endif
