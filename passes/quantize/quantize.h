/* quantize.h -- constants as 8-bit integers. */
#ifndef ML_QUANTIZE_H
#define ML_QUANTIZE_H
#include "../pass.h"

/* A matrix whose `channels` each have a scale: element (c, i) is at c * channel_stride +
 * i * stride, and is approximately value * scale[c], value in -127..127. */
typedef struct ml_quantized {
	ml_blob *values; /* s8, laid out like the source */
	ml_blob *scales; /* f32[channels] */
	ml_blob *sums;   /* s32[channels]: the sum of each channel's values */
} ml_quantized;

/* Symmetric, scale = max|x| / 127 (1 for an all-zero channel), round half to even. */
void ml_quantize_channels(ml_memory *, const ml_value *matrix, int64_t channels, int64_t length,
			  int64_t channel_stride, int64_t stride, ml_quantized *);
#endif
