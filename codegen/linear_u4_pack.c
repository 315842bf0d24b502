/* linear_u4_pack.c -- panels of weights of four bits, of their scales and zero points. */
#include "linear_u4.h"
#include <string.h>

/* Columns of whole blocks. */
static int64_t
padded(int64_t n)
{
	return (n + ML_U4_COLUMNS - 1) / ML_U4_COLUMNS * ML_U4_COLUMNS;
}

int64_t
ml_u4_panel_bytes(int64_t k, int64_t n, int64_t element)
{
	return padded(n) * k * element;
}

int64_t
ml_u4_nibble_bytes(int64_t k, int64_t n)
{
	return padded(n) * k / 2;
}

void
ml_u4_pack(void *to, const void *from, int64_t k, int64_t n, int64_t element)
{
	char *at = to;

	for (int64_t first = 0; first < n; first += ML_U4_COLUMNS)
		for (int64_t i = 0; i < k; i++, at += ML_U4_COLUMNS * element) {
			int64_t count = n - first < ML_U4_COLUMNS ? n - first : ML_U4_COLUMNS;
			memset(at, 0, (size_t)(ML_U4_COLUMNS * element));
			memcpy(at, (const char *)from + (i * n + first) * element,
			       (size_t)(count * element));
		}
}

void
ml_u4_pack_nibbles(uint8_t *to, const uint8_t *from, int64_t k, int64_t n)
{
	for (int64_t first = 0; first < n; first += ML_U4_COLUMNS)
		for (int64_t i = 0; i < k; i += ML_U4_STEP)
			for (int64_t j = first; j < first + ML_U4_COLUMNS; j++)
				for (int64_t b = i; b < i + ML_U4_STEP / 2; b++) {
					const uint8_t *low = from + b * n + j;
					*to++ = j < n ? (uint8_t)(low[0] | low[ML_U4_STEP / 2 * n]
										   << 4)
						      : 0;
				}
}
