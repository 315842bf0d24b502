/* tile.h -- sums of products of doubles: of so many rows and columns at once that they lie in
 * registers. */
#ifndef ML_TILE_H
#define ML_TILE_H
#include <stdint.h>
#include <string.h>

enum { ML_TILE_HIGH = 4, ML_TILE_WIDE = 12, ML_TILE_LANES = 4 };

/* Of neighbouring columns; compilers keep sums of arrays in memory. */
typedef double ml_tile_columns
	__attribute__((vector_size(ML_TILE_LANES * sizeof(double)), aligned(8)));

/* Rows of x against those of y, ML_TILE_WIDE in a row, over k.  In the order of k, with no product
 * fused into its sum: the same bits in registers of any width. */
static inline void
ml_tile(const double *restrict x, int64_t stride, const double *restrict y, int64_t k,
	double sum[restrict ML_TILE_HIGH][ML_TILE_WIDE])
{
	ml_tile_columns s[ML_TILE_HIGH][ML_TILE_WIDE / ML_TILE_LANES] = {{{0}}};

	for (int64_t t = 0; t < k; t++)
		for (int r = 0; r < ML_TILE_HIGH; r++)
			for (int c = 0; c < ML_TILE_WIDE / ML_TILE_LANES; c++)
				s[r][c] += x[r * stride + t] *
					   *(const ml_tile_columns *)(y + t * ML_TILE_WIDE +
								      c * ML_TILE_LANES);
	memcpy(sum, s, sizeof s);
}
#endif
