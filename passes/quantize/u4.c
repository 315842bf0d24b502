/* u4.c -- rounding to four bits: scales per group, nearest values, and GPTQ. */
#include "u4.h"
#include "../../ir/crew.h"
#include <float.h>
#include <math.h>
#include <string.h>

enum { LEVELS = 15, MIDDLE = 8, SHRINKS = 11, STRIP = 16 };

static const float SHRINK = 0.04f; /* of the range, per try */
static const double DAMP = .01;    /* of the mean of moments, as published */

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

typedef struct fitting {
	const ml_u4 *u;
	const float *importance;
	strip *strip; /* of each worker */
} fitting;

static void
fit_group(void *user, int worker, int64_t g)
{
	const fitting *f = user;
	strip *s = &f->strip[worker];

	s->importance = f->importance ? f->importance + g * f->u->size : NULL;
	for (int64_t j = 0; j < f->u->n; j += STRIP)
		fit_columns(f->u, s, g, j);
}

void
ml_u4_fit(const ml_u4 *u, const float *importance, ml_arena *arena)
{
	ml_crew crew = {.workers = u->workers};
	int64_t groups = u->k / u->size;
	int workers = ml_crew_size(&crew, groups);
	fitting f = {u, importance, ML_NEW_ARRAY(arena, strip, workers)};

	for (int i = 0; i < workers; i++)
		f.strip[i] =
			(strip){.w = ML_NEW_ARRAY(arena, float, u->size *STRIP), .size = u->size};
	ml_crew_do(&crew, groups, fit_group, &f);
}

/* n numbers of row i, from column `first` on. */
static void
round_row(const ml_u4 *u, int64_t i, int64_t first, int64_t n, const float *w, float *became)
{
	int64_t group = i / u->size * u->n + first;
	const float *scale = u->scale + group;
	const uint8_t *zero = u->zero + group;
	uint8_t *to = u->q + i * u->n + first;

	for (int64_t j = 0; j < n; j++) {
		float q = nearest(w[j], 1 / scale[j], zero[j]);
		to[j] = (uint8_t)q;
		if (became)
			became[j] = (q - zero[j]) * scale[j];
	}
}

void
ml_u4_round(const ml_u4 *u)
{
	for (int64_t i = 0; i < u->k; i++)
		round_row(u, i, 0, u->n, u->w + i * u->n, NULL);
}

/* ---- GPTQ ---- */

/* Neighbouring columns, whose errors go on to later rows. */
typedef struct columns {
	const ml_u4 *u;
	int64_t first, n;
} columns;

static void
round_part_row(void *user, int64_t i, const float *target, float *became)
{
	const columns *c = user;

	round_row(c->u, i, c->first, c->n, target, became);
}

typedef struct rounding {
	const ml_u4 *u;
	const ml_feedback *feedback;
	float **w; /* of each worker: all rows of its columns */
} rounding;

static void
round_part(void *user, int worker, int64_t part)
{
	const rounding *r = user;
	const ml_u4 *u = r->u;
	columns c = {u, part * ML_FEEDBACK_COLUMNS, u->n - part * ML_FEEDBACK_COLUMNS};
	float *w = r->w[worker];

	c.n = c.n < ML_FEEDBACK_COLUMNS ? c.n : ML_FEEDBACK_COLUMNS;
	memset(w, 0, (size_t)(u->k * ML_FEEDBACK_COLUMNS) * sizeof *w);
	for (int64_t i = 0; i < u->k; i++)
		memcpy(w + i * ML_FEEDBACK_COLUMNS, u->w + r->feedback->order[i] * u->n + c.first,
		       (size_t)c.n * sizeof *w);
	ml_feedback_round(r->feedback, w, round_part_row, &c);
}

bool
ml_u4_feedback(ml_feedback *f, const double *h, int64_t k, int workers, ml_arena *arena)
{
	return ml_feedback_of(f, h, k, DAMP, workers, arena);
}

bool
ml_u4_gptq(const ml_u4 *u, const double *h, ml_arena *arena)
{
	int64_t parts = (u->n + ML_FEEDBACK_COLUMNS - 1) / ML_FEEDBACK_COLUMNS;
	ml_crew crew = {.workers = u->workers};
	int workers = ml_crew_size(&crew, parts);
	ml_feedback feedback;
	rounding r = {u, &feedback, ML_NEW_ARRAY(arena, float *, workers)};

	if (!ml_u4_feedback(&feedback, h, u->k, u->workers, arena))
		return false;
	for (int i = 0; i < workers; i++)
		r.w[i] = ML_NEW_ARRAY(arena, float, u->k *ML_FEEDBACK_COLUMNS);
	ml_crew_do(&crew, parts, round_part, &r);
	return true;
}

/* ---- scales, given the values ---- */

typedef struct refining {
	const ml_u4 *u;
	const float *h; /* [k, k] */
	float **lost;   /* of each worker: w - w' of all rows, STRIP columns */
} refining;

static void
load_lost(const ml_u4 *u, int64_t first, int64_t n, float *lost)
{
	memset(lost, 0, (size_t)(u->k * STRIP) * sizeof *lost);
	for (int64_t i = 0; i < u->k; i++)
		for (int64_t c = 0; c < n; c++) {
			int64_t at = i * u->n + first + c, group = i / u->size * u->n + first + c;
			lost[i * STRIP + c] =
				u->w[at] - ((float)u->q[at] - u->zero[group]) * u->scale[group];
		}
}

/* <q, lost> and <q, q> by the moments, q of the group's rows alone. */
static void
products(const refining *r, int64_t g, int64_t first, int64_t n, const float *lost, double *ql,
	 double *qq)
{
	const ml_u4 *u = r->u;
	int64_t from = g * u->size, end = from + u->size;

	for (int64_t i = from; i < end; i++) {
		const float *h = r->h + i * u->k;
		float all[STRIP] = {0}, own[STRIP] = {0};
		for (int64_t t = 0; t < u->k; t++)
			for (int c = 0; c < STRIP; c++)
				all[c] += h[t] * lost[t * STRIP + c];
		for (int64_t t = from; t < end; t++)
			for (int64_t c = 0; c < n; c++)
				own[c] += h[t] * ((float)u->q[t * u->n + first + c] -
						  u->zero[g * u->n + first + c]);
		for (int64_t c = 0; c < n; c++) {
			double q =
				u->q[i * u->n + first + c] - (double)u->zero[g * u->n + first + c];
			ql[c] += q * (double)all[c];
			qq[c] += q * (double)own[c];
		}
	}
}

/* Error is lost' h lost: a scale that moves by d changes it by d (d <q, q> - 2 <q, lost>). */
static void
refine_group(const refining *r, int64_t g, int64_t first, int64_t n, float *lost)
{
	const ml_u4 *u = r->u;
	double ql[STRIP] = {0}, qq[STRIP] = {0};

	products(r, g, first, n, lost, ql, qq);
	for (int64_t c = 0; c < n; c++) {
		float *scale = &u->scale[g * u->n + first + c];
		float to = qq[c] > 0 ? as_f16((float)((double)*scale + ql[c] / qq[c])) : *scale;
		double moved = (double)to - (double)*scale;
		if (!is_usable(to) || !(moved * (moved * qq[c] - 2 * ql[c]) < 0))
			continue;
		for (int64_t i = g * u->size; i < (g + 1) * u->size; i++)
			lost[i * STRIP + c] -= (float)moved * ((float)u->q[i * u->n + first + c] -
							       u->zero[g * u->n + first + c]);
		*scale = to;
	}
}

static void
refine_part(void *user, int worker, int64_t part)
{
	const refining *r = user;
	int64_t first = part * STRIP, n = r->u->n - first < STRIP ? r->u->n - first : STRIP;
	float *lost = r->lost[worker];

	load_lost(r->u, first, n, lost);
	for (int64_t g = 0; g < r->u->k / r->u->size; g++)
		refine_group(r, g, first, n, lost);
}

void
ml_u4_refine(const ml_u4 *u, const double *h, ml_arena *arena)
{
	int64_t parts = (u->n + STRIP - 1) / STRIP;
	ml_crew crew = {.workers = u->workers};
	int workers = ml_crew_size(&crew, parts);
	float *square = ML_NEW_ARRAY(arena, float, u->k * u->k);
	refining r = {u, square, ML_NEW_ARRAY(arena, float *, workers)};

	for (int64_t i = 0; i < u->k; i++)
		for (int64_t j = 0; j < u->k; j++)
			square[i * u->k + j] = (float)h[ml_triangle_at(i, j)];
	for (int i = 0; i < workers; i++)
		r.lost[i] = ML_NEW_ARRAY(arena, float, u->k *STRIP);
	ml_crew_do(&crew, parts, refine_part, &r);
}
