/* u4.c -- rounding to four bits: scales per group, nearest values, and GPTQ. */
#include "u4.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEVELS = 15, MIDDLE = 8, SHRINKS = 11, STRIP = 16 };

static const float SHRINK = 0.04f; /* of the range, per try */

/* ---- scales ---- */

static float
as_f16(float x)
{
	uint16_t bits;

	ml_write_f64(ML_f16, &bits, 0, x);
	return (float)ml_read_f64(ML_f16, &bits, 0);
}

/* Adding and subtracting it rounds |x| < 2^22 half to even. */
static const float ROUNDER = 12582912; /* 1.5 * 2^23 */

static float
between(float x, float low, float high)
{
	x = x < low ? low : x;
	return x > high ? high : x;
}

static float
nearest(float w, float inverse, float zero)
{
	float q = between(w * inverse, -LEVELS - 1, LEVELS + 1) + ROUNDER - ROUNDER;

	return between(q + zero, 0, LEVELS);
}

/* One group of neighbouring columns, which the vectoriser takes side by side; those beyond the
 * last are zero. */
typedef struct strip {
	float *w; /* [size][STRIP] */
	const float *importance;
	int64_t size;
} strip;

typedef struct fit {
	float error[STRIP], scale[STRIP], zero[STRIP];
} fit;

/* The error with these scales, and the scales that fit the chosen values best:
 * sum w q / sum q q. */
static void
measure(const strip *s, const fit *f, float *restrict error, float *restrict refitted)
{
	float wq[STRIP] = {0}, qq[STRIP] = {0}, inverse[STRIP];

	for (int c = 0; c < STRIP; c++) {
		error[c] = 0;
		inverse[c] = 1 / f->scale[c];
	}
	for (int64_t i = 0; i < s->size; i++) {
		float importance = s->importance ? s->importance[i] : 1;
		const float *w = s->w + i * STRIP;
		for (int c = 0; c < STRIP; c++) {
			float q = nearest(w[c], inverse[c], f->zero[c]) - f->zero[c];
			float d = w[c] - q * f->scale[c];
			error[c] += importance * d * d;
			wq[c] += importance * w[c] * q;
			qq[c] += importance * q * q;
		}
	}
	for (int c = 0; c < STRIP; c++)
		refitted[c] = qq[c] > 0 && wq[c] > 0 ? wq[c] / qq[c] : f->scale[c];
}

static bool
is_usable(float scale)
{
	return scale > 0 && isfinite(scale) && isfinite(1 / scale);
}

/* Takes over what is better; `refitted` are the scales to try next. */
static void
try_scales(const strip *s, fit *f, fit *best, float *refitted)
{
	for (int c = 0; c < STRIP; c++) {
		f->scale[c] = as_f16(f->scale[c]);
		if (!is_usable(f->scale[c]))
			f->scale[c] = 1;
	}
	measure(s, f, f->error, refitted);
	for (int c = 0; c < STRIP; c++)
		if (f->error[c] < best->error[c]) {
			best->error[c] = f->error[c];
			best->scale[c] = f->scale[c];
			best->zero[c] = f->zero[c];
		}
}

static void
try_ranges(const strip *s, const float *low, const float *high, bool symmetric, fit *best)
{
	float refitted[STRIP];
	fit f;

	for (int c = 0; c < STRIP; c++) {
		float range = symmetric ? fmaxf(-low[c] / MIDDLE, high[c] / (LEVELS - MIDDLE))
					: (high[c] - low[c]) / LEVELS;
		f.scale[c] = range > 0 ? range : 1;
		f.zero[c] =
			symmetric ? MIDDLE : fminf(fmaxf(rintf(-low[c] / f.scale[c]), 0), LEVELS);
	}
	try_scales(s, &f, best, refitted);
	memcpy(f.scale, refitted, sizeof refitted);
	try_scales(s, &f, best, refitted);
}

static fit
fit_strip(const strip *s, bool symmetric)
{
	float low[STRIP] = {0}, high[STRIP] = {0}, shrunk[2][STRIP];
	fit best;

	for (int c = 0; c < STRIP; c++) {
		best.error[c] = FLT_MAX;
		best.scale[c] = 1;
		best.zero[c] = MIDDLE;
	}
	for (int64_t i = 0; i < s->size; i++)
		for (int c = 0; c < STRIP; c++) {
			low[c] = fminf(low[c], s->w[i * STRIP + c]);
			high[c] = fmaxf(high[c], s->w[i * STRIP + c]);
		}
	for (int t = 0; t < SHRINKS; t++) {
		for (int c = 0; c < STRIP; c++) {
			shrunk[0][c] = low[c] * (1 - SHRINK * (float)t);
			shrunk[1][c] = high[c] * (1 - SHRINK * (float)t);
		}
		try_ranges(s, shrunk[0], shrunk[1], symmetric, &best);
	}
	return best;
}

/* Columns j.. of group g. */
static void
fit_columns(const ml_u4 *u, strip *s, int64_t g, int64_t j)
{
	int count = u->n - j < STRIP ? (int)(u->n - j) : STRIP;

	memset(s->w, 0, (size_t)(s->size * STRIP) * sizeof *s->w);
	for (int64_t i = 0; i < s->size; i++)
		memcpy(s->w + i * STRIP, u->w + (g * s->size + i) * u->n + j,
		       (size_t)count * sizeof *s->w);
	fit best = fit_strip(s, u->symmetric);
	for (int c = 0; c < count; c++) {
		u->scale[g * u->n + j + c] = best.scale[c];
		u->zero[g * u->n + j + c] = (uint8_t)best.zero[c];
	}
}

void
ml_u4_fit(const ml_u4 *u, const float *importance, ml_arena *arena)
{
	strip s = {.w = ML_NEW_ARRAY(arena, float, u->size *STRIP), .size = u->size};

	for (int64_t g = 0; g < u->k / u->size; g++) {
		s.importance = importance ? importance + g * u->size : NULL;
		for (int64_t j = 0; j < u->n; j += STRIP)
			fit_columns(u, &s, g, j);
	}
}

/* Row i of the matrix; what is lost goes to `error` where given. */
static void
round_row(const ml_u4 *u, int64_t i, const float *w, float *error)
{
	const float *scale = u->scale + i / u->size * u->n;
	const uint8_t *zero = u->zero + i / u->size * u->n;

	for (int64_t j = 0; j < u->n; j++) {
		float q = nearest(w[j], 1 / scale[j], zero[j]);
		u->q[i * u->n + j] = (uint8_t)q;
		if (error)
			error[j] = w[j] - (q - zero[j]) * scale[j];
	}
}

void
ml_u4_round(const ml_u4 *u)
{
	for (int64_t i = 0; i < u->k; i++)
		round_row(u, i, u->w + i * u->n, NULL);
}

/* ---- GPTQ ---- */

typedef struct ranked {
	double value;
	int64_t row;
} ranked;

static int
falling(const void *a, const void *b)
{
	const ranked *x = a, *y = b;

	if (x->value != y->value)
		return x->value < y->value ? 1 : -1;
	return x->row < y->row ? -1 : 1;
}

/* Rows that no input reaches are left as they are, and their order does not matter. */
static void
order_rows(double *h, int64_t k, int64_t *order, ml_arena *arena)
{
	ranked *r = ML_NEW_ARRAY(arena, ranked, k);

	for (int64_t i = 0; i < k; i++) {
		if (h[i * k + i] <= 0)
			h[i * k + i] = 1;
		r[i] = (ranked){h[i * k + i], i};
	}
	qsort(r, (size_t)k, sizeof *r, falling);
	for (int64_t i = 0; i < k; i++)
		order[i] = r[i].row;
}

/* a: lower triangle of a symmetric matrix, row-major; becomes L with a = L L'. */
static bool
cholesky(double *a, int64_t k)
{
	for (int64_t i = 0; i < k; i++) {
		double *row = a + i * k;
		for (int64_t j = 0; j <= i; j++) {
			const double *other = a + j * k;
			double part[4] = {0}, sum;
			int64_t t = 0;
			for (; t + 4 <= j; t += 4)
				for (int p = 0; p < 4; p++)
					part[p] += row[t + p] * other[t + p];
			sum = (part[0] + part[1]) + (part[2] + part[3]);
			for (; t < j; t++)
				sum += row[t] * other[t];
			double left = row[j] - sum;
			if (i == j && !(left > 0))
				return false;
			row[j] = i == j ? sqrt(left) : left / other[j];
		}
	}
	return true;
}

/* The upper factor U of inverse(h) = U'U for h in this order of rows: with the order reversed,
 * h = L L', so that in this order h = V V' with V upper, and U = inverse(V).  Row-major into u. */
static bool
inverse_factor(const double *h, const int64_t *order, int64_t k, double damp, double *l, double *u)
{
	for (int64_t i = 0; i < k; i++)
		for (int64_t j = 0; j <= i; j++) {
			int64_t r = order[k - 1 - i], c = order[k - 1 - j];
			l[i * k + j] = h[r * k + c] + (i == j ? damp : 0);
		}
	if (!cholesky(l, k))
		return false;
	/* V[i][j] = l[k-1-i][k-1-j] for j >= i; rows of U from the last up. */
	for (int64_t i = k; i-- > 0;) {
		double *row = u + i * k, pivot = l[(k - 1 - i) * k + (k - 1 - i)];
		memset(row, 0, (size_t)k * sizeof *row);
		row[i] = 1;
		for (int64_t t = i + 1; t < k; t++) {
			double v = l[(k - 1 - i) * k + (k - 1 - t)];
			const double *below = u + t * k;
			for (int64_t j = t; j < k; j++)
				row[j] -= v * below[j];
		}
		for (int64_t j = i; j < k; j++)
			row[j] /= pivot;
	}
	return true;
}

bool
ml_u4_gptq(const ml_u4 *u, double *h, ml_arena *arena)
{
	int64_t k = u->k, n = u->n, *order = ML_NEW_ARRAY(arena, int64_t, k);
	double *l = ML_NEW_ARRAY(arena, double, k *k), *factor = ML_NEW_ARRAY(arena, double, k *k);
	float *error = ML_NEW_ARRAY(arena, float, n);
	double mean = 0, damp = 0.01;
	bool found = false;

	order_rows(h, k, order, arena);
	for (int64_t i = 0; i < k; i++)
		mean += h[i * k + i] / (double)k;
	for (; !found && damp < 0.11; damp *= 10)
		found = inverse_factor(h, order, k, damp * mean, l, factor);
	if (!found)
		return false;
	for (int64_t i = 0; i < k; i++) {
		const double *row = factor + i * k;
		round_row(u, order[i], u->w + order[i] * n, error);
		for (int64_t t = i + 1; t < k; t++) {
			float share = (float)(row[t] / row[i]), *w = u->w + order[t] * n;
			for (int64_t j = 0; j < n; j++)
				w[j] -= share * error[j];
		}
	}
	return true;
}
