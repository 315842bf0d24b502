/* quantize.h -- constant f32 matrices as 8-bit integers. */
#ifndef ML_QUANTIZE_H
#define ML_QUANTIZE_H
#include "feedback.h"

/* A matrix with one scale per channel: an element is about value * scale, value in -127..127. */
typedef struct ml_quantized {
	ml_blob *values; /* s8, laid out like the source */
	ml_blob *scales; /* f32[channels] */
	ml_blob *sums;   /* s32[channels]: the sum of each channel's values */
} ml_quantized;

/* Symmetric: scale = max|x| / 127, value = round(x / scale), half to even, computed in f32.  The
 * scale of a channel of zeros is 1.  The channels are the rows, or the columns, of a constant
 * f32[rows, columns].  False, and nothing is made, when an element is infinite or NaN. */
bool ml_quantize_rows(ml_pass_ctx *, const ml_value *, int64_t rows, int64_t columns,
		      ml_quantized *);
/* What is known about the rows of a matrix whose columns are channels, and what they meet. */
typedef struct ml_row_facts {
	const float *factor;      /* each row is multiplied by its factor first; NULL: by none */
	const double *importance; /* how much a squared error in it counts; NULL: clip nothing */
	const ml_feedback
		*feedback; /* of the rows so multiplied; NULL: each number to the nearest */
	bool bytes;        /* they are multiplied by u8 */
} ml_row_facts;
/* Where importance is known, scale = p max|x| / 127 with the p of 1, 0.98, ..., 0.8 that has the
 * least error weighted by it, and what is beyond 127 becomes 127.  Scales of what meets bytes are
 * up to twice as large, so that the integers' root mean square is 32 at most: CPUs without a dot
 * instruction then add four products in 16 bits nearly everywhere.  The same integers on every
 * CPU, so that results are. */
bool ml_quantize_columns(ml_pass_ctx *, const ml_value *, int64_t rows, int64_t columns,
			 const ml_row_facts *, ml_quantized *);
/* The same of convolution kernels f32[rows, channels, taps] that meet bytes.  Scales are such that
 * neighbours fit 16 bits as well, and the rounding errors of a row sum to half a step at most,
 * which makes good for it. */
bool ml_quantize_kernels(ml_pass_ctx *, const ml_value *, int64_t rows, int64_t channels,
			 int64_t taps, ml_quantized *);
#endif
