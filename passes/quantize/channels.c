/* channels.c -- symmetric 8-bit quantization of a constant matrix, one scale per channel.
 *
 * Runs once over every weight of a model, so the loops are written for the vectoriser: rows are
 * copied to an aligned buffer (weights stand in the model file at any address), magnitudes are
 * compared as integers (same order, and infinities and NaNs are the largest), rounding is an
 * addition.
 */
#include "quantize.h"
#include "../../ir/crew.h"
#include <math.h>
#include <string.h>

static const float LARGEST = 127;
/* CPUs without a dot instruction add products with bytes in 16 bits, where four weights of one sign
 * may sum to 128 (codegen/pack_pairs.c).  Two groups of four k and 16 columns have 64 such sums; of
 * normal numbers with a root mean square of 32, one pair in eleven is so in all of them, and most
 * groups find a partner.  It is one in 70 with 36, which 384 such numbers have when the largest is
 * 127.  Channels of wide tails are below anyway: the others become as coarse as those. */
static const float EASY = 32;
/* What scales may lose to that: one bit. */
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

/* The scale, or a coarser one, of n weights that meet bytes; `least` makes some sums fit. */
static float
coarsen(float scale, float least, double squares, int64_t n)
{
	float easy = (float)sqrt(squares / (double)n) / EASY;

	least = least > easy ? least : easy;
	least = least < scale * COARSEST ? least : scale * COARSEST;
	return least > scale ? least : scale;
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

static double
square_sum(const float *x, int64_t n)
{
	double sum = 0;

	for (int64_t i = 0; i < n; i++)
		sum += (double)x[i] * (double)x[i];
	return sum;
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
add_squares(const float *restrict x, double *restrict sum, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		sum[i] += (double)x[i] * (double)x[i];
}

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

/* The largest magnitude of each of these rows, as bits; false: one is not finite. */
static bool
rows_tops(const ml_value *m, int64_t first, int64_t rows, int64_t columns, const row_buffer *buffer,
	  int32_t *top)
{
	for (int64_t r = first; r < first + rows; r++) {
		memcpy(buffer->bits, row_of(m, r, columns), (size_t)columns * sizeof(float));
		top[r] = largest_bits(buffer->bits, columns);
		if (top[r] >= INFINITE)
			return false;
	}
	return true;
}

/* Parts of a matrix that threads take: of rows, or of columns. */
enum { PART_ROWS = 64, PART_COLUMNS = ML_FEEDBACK_COLUMNS };

static int64_t
parts_of(int64_t n, int64_t size)
{
	return (n + size - 1) / size;
}

typedef struct row_task {
	const ml_value *m;
	int64_t rows, columns;
	const row_buffer *buffer; /* of each worker */
	int32_t *top;
	bool finite; /* cleared by any; atomic */
	channels to;
} row_task;

static void
find_row_tops(void *user, int worker, int64_t part)
{
	row_task *t = user;
	int64_t left = t->rows - part * PART_ROWS, first = part * PART_ROWS;

	left = left < PART_ROWS ? left : PART_ROWS;
	if (!rows_tops(t->m, first, left, t->columns, &t->buffer[worker], t->top))
		__atomic_store_n(&t->finite, false, __ATOMIC_RELAXED);
}

static void
quantize_part_rows(void *user, int worker, int64_t part)
{
	row_task *t = user;
	float *x = t->buffer[worker].x;
	int64_t end = (part + 1) * PART_ROWS;

	for (int64_t r = part * PART_ROWS; r < end && r < t->rows; r++) {
		memcpy(x, row_of(t->m, r, t->columns), (size_t)t->columns * sizeof *x);
		t->to.scales[r] = scale_for(t->top[r]);
		t->to.sums[r] =
			quantize_row(x, t->to.values + r * t->columns, t->columns, t->to.scales[r]);
	}
}

static row_buffer *
new_buffers(ml_pass_ctx *px, int workers, int64_t columns)
{
	row_buffer *buffer = ML_NEW_ARRAY(px->scratch, row_buffer, workers);

	for (int i = 0; i < workers; i++)
		buffer[i] = new_buffer(px, columns);
	return buffer;
}

bool
ml_quantize_rows(ml_pass_ctx *px, const ml_value *m, int64_t rows, int64_t columns, ml_quantized *q)
{
	ml_crew crew = {.workers = px->workers};
	int64_t parts = parts_of(rows, PART_ROWS);
	row_task t = {m,
		      rows,
		      columns,
		      new_buffers(px, ml_crew_size(&crew, parts), columns),
		      ML_NEW_ARRAY(px->scratch, int32_t, rows),
		      true,
		      {0}};

	ml_crew_do(&crew, parts, find_row_tops, &t);
	if (!t.finite)
		return false;
	t.to = new_channels(px, rows * columns, rows, q);
	ml_crew_do(&crew, parts, quantize_part_rows, &t);
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

/* Some columns of a matrix, for one thread. */
typedef struct column_task {
	const ml_value *m;
	int64_t rows, columns;
	const ml_row_facts *facts;
	const row_buffer *buffer; /* of each worker, for PART_COLUMNS */
	float **error;            /* of each worker, CLIPS times that many */
	float **strip;            /* of each worker, where there is feedback: all rows */
	int32_t *top;
	double *squares;
	channels to;
} column_task;

static int64_t
part_width(const column_task *t, int64_t first)
{
	return t->columns - first < PART_COLUMNS ? t->columns - first : PART_COLUMNS;
}

static void
load_row(const column_task *t, int64_t r, int64_t first, int64_t n, float *x)
{
	memcpy(x, row_of(t->m, r, t->columns) + first * (int64_t)sizeof *x, (size_t)n * sizeof *x);
	for (int64_t c = 0; t->facts->factor && c < n; c++)
		x[c] *= t->facts->factor[r];
}

static void
measure_columns(void *user, int worker, int64_t part)
{
	const column_task *t = user;
	const row_buffer *buffer = &t->buffer[worker];
	int64_t first = part * PART_COLUMNS, n = part_width(t, first);

	for (int64_t r = 0; r < t->rows; r++) {
		load_row(t, r, first, n, buffer->x);
		memcpy(buffer->bits, buffer->x, (size_t)n * sizeof *buffer->x);
		raise_bits(buffer->bits, t->top + first, n);
		add_squares(buffer->x, t->squares + first, n);
	}
}

static void
clip_scales(const column_task *t, int64_t first, int64_t n, float *x, float *error)
{
	float *scale = t->to.scales + first;

	memset(error, 0, (size_t)(CLIPS * n) * sizeof *error);
	for (int64_t r = 0; r < t->rows; r++) {
		load_row(t, r, first, n, x);
		for (int k = 0; k < CLIPS; k++)
			add_errors(x, scale, 1 - .02f * (float)k, (float)t->facts->importance[r],
				   error + k * n, n);
	}
	for (int64_t c = 0; c < n; c++) {
		int best = 0;
		for (int k = 1; k < CLIPS; k++)
			if (error[k * n + c] < error[best * n + c])
				best = k;
		scale[c] *= 1 - .02f * (float)best;
	}
}

/* Columns whose errors go on to later rows. */
typedef struct strip {
	const column_task *t;
	int64_t first, n;
} strip;

static void
round_strip_row(void *user, int64_t i, const float *target, float *became)
{
	const strip *s = user;
	const channels *to = &s->t->to;
	int8_t *value = to->values + i * s->t->columns + s->first;

	quantize_across(target, to->scales + s->first, value, to->sums + s->first, s->n);
	for (int64_t c = 0; c < s->n; c++)
		became[c] = value[c] * to->scales[s->first + c];
}

static void
round_strip(const column_task *t, int64_t first, int64_t n, float *w)
{
	strip s = {t, first, n};

	memset(w, 0, (size_t)(t->rows * PART_COLUMNS) * sizeof *w);
	for (int64_t i = 0; i < t->rows; i++)
		load_row(t, t->facts->feedback->order[i], first, n, w + i * PART_COLUMNS);
	ml_feedback_round(t->facts->feedback, w, round_strip_row, &s);
}

static void
quantize_part_columns(void *user, int worker, int64_t part)
{
	const column_task *t = user;
	int64_t first = part * PART_COLUMNS, n = part_width(t, first);
	float *x = t->buffer[worker].x;

	memset(t->to.sums + first, 0, (size_t)n * sizeof *t->to.sums);
	for (int64_t c = first; c < first + n; c++)
		t->to.scales[c] = scale_for(t->top[c]);
	if (t->facts->importance)
		clip_scales(t, first, n, x, t->error[worker]);
	for (int64_t c = first; t->facts->bytes && c < first + n; c++)
		t->to.scales[c] = coarsen(t->to.scales[c], 0, t->squares[c], t->rows);
	if (t->facts->feedback) {
		round_strip(t, first, n, t->strip[worker]);
		return;
	}
	for (int64_t r = 0; r < t->rows; r++) {
		load_row(t, r, first, n, x);
		quantize_across(x, t->to.scales + first, t->to.values + r * t->columns + first,
				t->to.sums + first, n);
	}
}

bool
ml_quantize_columns(ml_pass_ctx *px, const ml_value *m, int64_t rows, int64_t columns,
		    const ml_row_facts *facts, ml_quantized *q)
{
	ml_crew crew = {.workers = px->workers};
	int64_t parts = parts_of(columns, PART_COLUMNS);
	int workers = ml_crew_size(&crew, parts);
	column_task t = {m,
			 rows,
			 columns,
			 facts,
			 new_buffers(px, workers, PART_COLUMNS),
			 ML_NEW_ARRAY(px->scratch, float *, workers),
			 ML_NEW_ARRAY(px->scratch, float *, workers),
			 ML_NEW_ARRAY(px->scratch, int32_t, columns),
			 ML_NEW_ARRAY(px->scratch, double, columns),
			 {0}};

	for (int i = 0; i < workers; i++)
		t.error[i] = ML_NEW_ARRAY(px->scratch, float, CLIPS *PART_COLUMNS);
	ml_crew_do(&crew, parts, measure_columns, &t);
	for (int64_t c = 0; c < columns; c++)
		if (t.top[c] >= INFINITE)
			return false;
	t.to = new_channels(px, rows * columns, columns, q);
	ml_arena strips;
	ml_arena_init(&strips, &px->cx->memory);
	for (int i = 0; i < workers && facts->feedback; i++)
		t.strip[i] = ML_NEW_ARRAY(&strips, float, rows *PART_COLUMNS);
	ml_crew_do(&crew, parts, quantize_part_columns, &t);
	ml_arena_free(&strips);
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

	if (!rows_tops(m, 0, rows, inner, &buffer, top))
		return false;
	channels to = new_channels(px, rows * inner, rows, q);
	for (int64_t r = 0; r < rows; r++) {
		memcpy(buffer.x, row_of(m, r, inner), (size_t)inner * sizeof(float));
		turn_row(buffer.x, turned, channels_in, taps);
		to.scales[r] = coarsen(scale_for(top[r]), largest_sum(turned, inner) / SMALL_SUM,
				       square_sum(turned, inner), inner);
		to.sums[r] =
			quantize_balanced(buffer.x, to.values + r * inner, inner, to.scales[r]);
	}
	return true;
}
