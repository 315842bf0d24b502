/* channels.c -- symmetric 8-bit quantization of a constant matrix, one scale per channel. */
#include "quantize.h"
#include <math.h>

enum { LARGEST = 127 };

static float
channel_scale(const ml_value *m, int64_t first, int64_t length, int64_t stride)
{
	double top = 0;

	for (int64_t i = 0; i < length; i++) {
		double x = fabs(ml_const_f64(m, first + i * stride));
		if (x > top)
			top = x;
	}
	return top > 0 && isfinite(top) ? (float)(top / LARGEST) : 1.0f;
}

static int64_t
quantized(double x, float scale)
{
	double q = rint(x / (double)scale);

	if (!(q == q))
		return 0;
	return q > LARGEST ? LARGEST : q < -LARGEST ? -LARGEST : (int64_t)q;
}

void
ml_quantize_channels(ml_memory *memory, const ml_value *m, int64_t channels, int64_t length,
		     int64_t channel_stride, int64_t stride, ml_quantized *q)
{
	void *values, *scales, *sums;

	q->values = ml_blob_new(memory, (uint64_t)(channels * length), &values);
	q->scales = ml_blob_new(memory, (uint64_t)channels * 4, &scales);
	q->sums = ml_blob_new(memory, (uint64_t)channels * 4, &sums);
	for (int64_t c = 0; c < channels; c++) {
		int64_t first = c * channel_stride, sum = 0;
		float scale = channel_scale(m, first, length, stride);
		for (int64_t i = 0; i < length; i++) {
			int64_t v = quantized(ml_const_f64(m, first + i * stride), scale);
			ml_write_s64(ML_s8, values, first + i * stride, v);
			sum += v;
		}
		ml_write_f64(ML_f32, scales, c, (double)scale);
		ml_write_s64(ML_s32, sums, c, sum);
	}
}
