/* channels.c -- symmetric 8-bit quantization of a constant matrix, one scale per channel.
 *
 * Runs once over every weight of a model, so the loops are written for the vectoriser: rows are
 * copied to an aligned buffer (weights stand in the model file at any address), magnitudes are
 * compared as integers (same order, and infinities and NaNs are the largest), rounding is an
 * addition.
 */
#include "quantize.h"
#include <string.h>

static const float LARGEST = 127;
/* What kernels may lose: one bit. */
static const float COARSEST = 2;
/* Adding and subtracting it rounds |x| < 2^22 half to even. */
static const float ROUNDER = 12582912; /* 1.5 * 2^23 */
static const int32_t INFINITE = 0x7f800000;
/* Below, the scale would lose digits: such a channel counts as zeros. */
static const float TINY = 1e-35f;

typedef struct row_buffer {
	float *x;      /* one row */
	int32_t *bits; /* the same as integers */
} row_buffer;

static row_buffer
new_buffer(ml_pass_ctx *px, int64_t columns)
{
	return (row_buffer){.x = ML_NEW_ARRAY(px->scratch, float, columns + 1),
			    .bits = ML_NEW_ARRAY(px->scratch, int32_t, columns + 1)};
}

static const char *
row_of(const ml_value *m, int64_t row, int64_t columns)
{
	return (const char *)ml_const_blob(m)->bytes + row * columns * (int64_t)sizeof(float);
}

/* The scale for a largest magnitude given by its bits. */
static float
scale_for(int32_t bits)
{
	float top;

	memcpy(&top, &bits, sizeof top);
	return top > TINY ? top / LARGEST : 1.0f;
}

/* ---- per row ---- */

static int32_t
largest_bits(const int32_t *restrict bits, int64_t n)
{
	int32_t top = 0;

	for (int64_t i = 0; i < n; i++) {
		int32_t magnitude = bits[i] & 0x7fffffff;
		top = magnitude > top ? magnitude : top;
	}
	return top;
}

static int32_t
quantize_row(const float *restrict x, int8_t *restrict value, int64_t n, float scale)
{
	int32_t sum = 0;

	for (int64_t i = 0; i < n; i++) {
		int32_t q = (int32_t)(x[i] / scale + ROUNDER - ROUNDER);
		value[i] = (int8_t)q;
		sum += q;
	}
	return sum;
}

/* ---- per row, of a convolution ---- */

enum {
	NEIGHBOURS =
		8, /* two groups of four k that CPUs without a dot instruction add in 16 bits */
	SMALL_SUM = 125 /* of four weights of one sign: 128 less what rounding adds */
};

/* The row in the order in which convolutions sum: channels last. */
static void
turn_row(const float *x, float *to, int64_t channels, int64_t taps)
{
	for (int64_t c = 0; c < channels; c++)
		for (int64_t t = 0; t < taps; t++)
			to[t * channels + c] = x[c * taps + t];
}

/* The largest sum of weights of one sign among the four that meet in one 16-bit lane: two
 * neighbours and the two that are four behind. */
static float
largest_sum(const float *x, int64_t n)
{
	float top = 0;

	for (int64_t i = 0; i < n; i += 2) {
		float up = 0, down = 0;
		for (int j = 0; j < 4 && i % NEIGHBOURS < NEIGHBOURS / 2; j++) {
			int64_t at = i + j % 2 + j / 2 * NEIGHBOURS / 2;
			float v = at < n ? x[at] : 0;
			up += v > 0 ? v : 0;
			down -= v < 0 ? v : 0;
		}
		up = down > up ? down : up;
		top = up > top ? up : top;
	}
	return top;
}

/* Rounds so that the errors of the row sum to half a step at most: activations behind a relu have a
 * mean, which such a sum is multiplied by.  Those go the other way that are nearest to a half. */
static int32_t
quantize_balanced(const float *x, int8_t *value, int64_t n, float scale)
{
	enum { BINS = 64 };
	double error = 0;
	int64_t count[2 * BINS] = {0}, sum = quantize_row(x, value, n, scale);

	for (int64_t i = 0; i < n; i++) {
		float rest = x[i] / scale - value[i]; /* -.5 .. .5 */
		error += rest;
		count[BINS + (int)(rest * (2 * BINS - 1))]++;
	}
	int up = error > 0 ? 1 : -1, bin = BINS - 1;
	int64_t left = (int64_t)(up * error + 0.5);
	for (int64_t seen = 0; bin > 0 && (seen += count[BINS + up * bin]) < left;)
		bin--;
	for (int64_t i = 0; i < n && left > 0; i++) {
		float rest = (x[i] / scale - value[i]) * up;
		if ((int)(rest * (2 * BINS - 1)) < bin || up * value[i] >= (int)LARGEST)
			continue;
		value[i] = (int8_t)(value[i] + up);
		sum += up;
		left--;
	}
	return (int32_t)sum;
}

/* ---- per column ---- */

static void
raise_bits(const int32_t *restrict bits, int32_t *restrict top, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		int32_t magnitude = bits[i] & 0x7fffffff;
		top[i] = magnitude > top[i] ? magnitude : top[i];
	}
}

static void
quantize_across(const float *restrict x, const float *restrict scale, int8_t *restrict value,
		int32_t *restrict sum, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		int32_t q = (int32_t)(x[i] / scale[i] + ROUNDER - ROUNDER);
		q = q > 127 ? 127 : q < -127 ? -127 : q; /* clipped */
		value[i] = (int8_t)q;
		sum[i] += q;
	}
}

/* ---- both ---- */

typedef struct channels {
	int8_t *values;
	float *scales;
	int32_t *sums;
} channels;

static channels
new_channels(ml_pass_ctx *px, int64_t elements, int64_t n, ml_quantized *q)
{
	void *values, *scales, *sums;

	q->values = ml_blob_new(&px->cx->memory, (uint64_t)elements, &values);
	q->scales = ml_blob_new(&px->cx->memory, (uint64_t)n * 4, &scales);
	q->sums = ml_blob_new(&px->cx->memory, (uint64_t)n * 4, &sums);
	return (channels){values, scales, sums};
}

/* The largest magnitude of every row, as bits; false: one is not finite. */
static bool
rows_tops(const ml_value *m, int64_t rows, int64_t columns, row_buffer *buffer, int32_t *top)
{
	for (int64_t r = 0; r < rows; r++) {
		memcpy(buffer->bits, row_of(m, r, columns), (size_t)columns * sizeof(float));
		top[r] = largest_bits(buffer->bits, columns);
		if (top[r] >= INFINITE)
			return false;
	}
	return true;
}

bool
ml_quantize_rows(ml_pass_ctx *px, const ml_value *m, int64_t rows, int64_t columns, ml_quantized *q)
{
	row_buffer buffer = new_buffer(px, columns);
	int32_t *top = ML_NEW_ARRAY(px->scratch, int32_t, rows);
	size_t bytes = (size_t)columns * sizeof(float);

	if (!rows_tops(m, rows, columns, &buffer, top))
		return false;
	channels to = new_channels(px, rows * columns, rows, q);
	for (int64_t r = 0; r < rows; r++) {
		memcpy(buffer.x, row_of(m, r, columns), bytes);
		to.scales[r] = scale_for(top[r]);
		to.sums[r] = quantize_row(buffer.x, to.values + r * columns, columns, to.scales[r]);
	}
	return true;
}

/* ---- columns, clipped where that is better ---- */

enum { CLIPS = 11 }; /* 1, 0.98, ..., 0.8 */

/* Adds the rounding and clipping errors of one row with scales part * whole. */
static void
add_errors(const float *restrict x, const float *restrict whole, float part, float importance,
	   float *restrict error, int64_t n)
{
	for (int64_t i = 0; i < n; i++) {
		float scale = part * whole[i];
		float q = x[i] / scale + ROUNDER - ROUNDER;
		q = q > LARGEST ? LARGEST : q < -LARGEST ? -LARGEST : q;
		float e = x[i] - q * scale;
		error[i] += importance * e * e;
	}
}

static void
load_row(const ml_value *m, int64_t r, int64_t columns, const ml_row_facts *facts, float *x)
{
	memcpy(x, row_of(m, r, columns), (size_t)columns * sizeof *x);
	for (int64_t c = 0; facts && c < columns; c++)
		x[c] *= facts->factor[r];
}

static void
clip_scales(ml_pass_ctx *px, const ml_value *m, int64_t rows, int64_t columns,
	    const ml_row_facts *facts, float *scale)
{
	float *x = ML_NEW_ARRAY(px->scratch, float, columns);
	float *error = ML_NEW_ARRAY(px->scratch, float, CLIPS *columns);

	for (int64_t r = 0; r < rows; r++) {
		load_row(m, r, columns, facts, x);
		for (int k = 0; k < CLIPS; k++)
			add_errors(x, scale, 1 - .02f * (float)k, (float)facts->importance[r],
				   error + k * columns, columns);
	}
	for (int64_t c = 0; c < columns; c++) {
		int best = 0;
		for (int k = 1; k < CLIPS; k++)
			if (error[k * columns + c] < error[best * columns + c])
				best = k;
		scale[c] *= 1 - .02f * (float)best;
	}
}

bool
ml_quantize_columns(ml_pass_ctx *px, const ml_value *m, int64_t rows, int64_t columns,
		    const ml_row_facts *facts, ml_quantized *q)
{
	row_buffer buffer = new_buffer(px, columns);
	int32_t *top = ML_NEW_ARRAY(px->scratch, int32_t, columns);

	for (int64_t r = 0; r < rows; r++) {
		load_row(m, r, columns, facts, buffer.x);
		memcpy(buffer.bits, buffer.x, (size_t)columns * sizeof *buffer.x);
		raise_bits(buffer.bits, top, columns);
	}
	for (int64_t c = 0; c < columns; c++)
		if (top[c] >= INFINITE)
			return false;
	channels to = new_channels(px, rows * columns, columns, q);
	memset(to.sums, 0, (size_t)columns * sizeof *to.sums);
	for (int64_t c = 0; c < columns; c++)
		to.scales[c] = scale_for(top[c]);
	if (facts && facts->importance)
		clip_scales(px, m, rows, columns, facts, to.scales);
	for (int64_t r = 0; r < rows; r++) {
		load_row(m, r, columns, facts, buffer.x);
		quantize_across(buffer.x, to.scales, to.values + r * columns, to.sums, columns);
	}
	return true;
}

bool
ml_quantize_kernels(ml_pass_ctx *px, const ml_value *m, int64_t rows, int64_t channels_in,
		    int64_t taps, ml_quantized *q)
{
	int64_t inner = channels_in * taps;
	row_buffer buffer = new_buffer(px, inner);
	float *turned = ML_NEW_ARRAY(px->scratch, float, inner + 1);
	int32_t *top = ML_NEW_ARRAY(px->scratch, int32_t, rows);

	if (!rows_tops(m, rows, inner, &buffer, top))
		return false;
	channels to = new_channels(px, rows * inner, rows, q);
	for (int64_t r = 0; r < rows; r++) {
		memcpy(buffer.x, row_of(m, r, inner), (size_t)inner * sizeof(float));
		turn_row(buffer.x, turned, channels_in, taps);
		float scale = scale_for(top[r]), fits = largest_sum(turned, inner) / SMALL_SUM;
		fits = fits < scale * COARSEST ? fits : scale * COARSEST;
		to.scales[r] = fits > scale ? fits : scale;
		to.sums[r] =
			quantize_balanced(buffer.x, to.values + r * inner, inner, to.scales[r]);
	}
	return true;
}
