/* awq.c -- which factors by the magnitude of inputs four bits lose least with. */
#include "awq.h"
#include "u4.h"
#include <math.h>
#include <string.h>

static const double LEAST = 1e-4; /* of a factor, as published */
static const double GAIN = .95;   /* error left that is worth having */
enum { PATIENCE = 4 };            /* steps without gain that the grid is left after */

void
ml_awq_factors(const ml_moments *x, double r, float *s)
{
	double low = INFINITY, high = 0;

	for (int64_t j = 0; j < x->k; j++) {
		double f = fmax(pow(x->magnitude[j] / (double)x->rows, r), LEAST);
		low = fmin(low, f);
		high = fmax(high, f);
		s[j] = (float)f;
	}
	for (int64_t j = 0; j < x->k; j++)
		s[j] /= (float)sqrt(low * high);
}

/* ---- what is lost ---- */

/* Mean over rows of step^2 / 12 of each group, when x / s becomes s8. */
static void
find_noise(const ml_awq *a, const float *s, double *noise)
{
	const ml_moments *x = a->x;

	for (int64_t g = 0; g < x->k / a->size; g++) {
		noise[g] = 0;
		for (int64_t r = 0; r < x->drawn; r++) {
			const float *row = x->row + r * x->k;
			float top = 0;
			for (int64_t j = g * a->size; j < (g + 1) * a->size; j++)
				top = fmaxf(top, fabsf(row[j] / s[j]));
			double step = (double)top / 127;
			noise[g] += step * step / 12 / (double)x->drawn;
		}
	}
}

/* Of a row of s W: how much it carries of its input's error, and what rounding adds to it. */
static void
row_errors(const ml_u4 *u, int64_t i, double *carried, double *rounded)
{
	const float *w = u->w + i * u->n, *scale = u->scale + i / u->size * u->n;
	const uint8_t *q = u->q + i * u->n, *zero = u->zero + i / u->size * u->n;
	float squares = 0, lost = 0;

	for (int64_t c = 0; c < u->n; c++) {
		float d = w[c] - ((float)q[c] - (float)zero[c]) * scale[c];
		squares += w[c] * w[c];
		lost += d * d;
	}
	*carried = (double)squares;
	*rounded = (double)lost;
}

static double
layer_error(const ml_awq *a, const ml_u4 *u, const float *s, const double *noise)
{
	const ml_moments *x = a->x;
	double lost = 0, energy = 0;

	for (int64_t i = 0; i < x->k; i++) {
		double carried, rounded, square = (double)s[i] * (double)s[i];
		double diagonal = x->h[ml_triangle_at(i, i)] / (double)x->rows;
		double left = a->left ? a->left[i] / (double)x->rows : diagonal;
		row_errors(u, i, &carried, &rounded);
		lost += noise[i / a->size] * carried + left / square * rounded;
		energy += diagonal / square * carried;
	}
	return energy > 0 ? lost / energy : 0;
}

/* s W, rounded to nearest. */
static void
round_scaled(const ml_awq *a, int layer, const float *s, const float *importance, ml_u4 *u,
	     ml_arena *arena)
{
	int64_t k = a->x->k, n = a->columns[layer], groups = k / a->size * n;

	*u = (ml_u4){.k = k,
		     .n = n,
		     .size = a->size,
		     .symmetric = a->symmetric,
		     .w = ML_NEW_ARRAY(arena, float, k *n),
		     .q = ML_NEW_ARRAY(arena, uint8_t, k *n),
		     .scale = ML_NEW_ARRAY(arena, float, groups),
		     .zero = ML_NEW_ARRAY(arena, uint8_t, groups),
		     .workers = a->workers};
	for (int64_t i = 0; i < k; i++)
		for (int64_t c = 0; c < n; c++)
			u->w[i * n + c] = a->w[layer][i * n + c] * s[i];
	ml_u4_fit(u, importance, arena);
	ml_u4_round(u);
}

double
ml_awq_error(const ml_awq *a, const float *s, ml_arena *scratch)
{
	const ml_moments *x = a->x;
	double *noise = ML_NEW_ARRAY(scratch, double, x->k / a->size);
	float *importance = ML_NEW_ARRAY(scratch, float, x->k);
	double error = 0;

	find_noise(a, s, noise);
	for (int64_t i = 0; i < x->k; i++)
		importance[i] =
			(float)(x->h[ml_triangle_at(i, i)] / (double)x->rows) / (s[i] * s[i]);
	for (int l = 0; l < a->layers; l++) {
		ml_arena arena;
		ml_u4 u;
		ml_arena_init(&arena, scratch->memory);
		round_scaled(a, l, s, importance, &u, &arena);
		error += layer_error(a, &u, s, noise);
		ml_arena_free(&arena);
	}
	return error;
}

double
ml_awq_choose(const ml_awq *a, float *s, ml_arena *arena)
{
	float *tried = ML_NEW_ARRAY(arena, float, a->x->k);
	double least = 0, best = 0;
	int since = 0; /* steps that were no better */

	for (int i = 0; i < ML_AWQ_STEPS && since < PATIENCE; i++) {
		double r = (double)i / ML_AWQ_STEPS;
		ml_awq_factors(a->x, r, tried);
		double error = ml_awq_error(a, tried, arena) * (i ? 1 : GAIN);
		since++;
		if (i && !(error < least))
			continue;
		since = 0;
		least = error;
		best = r;
		memcpy(s, tried, (size_t)a->x->k * sizeof *s);
	}
	return best;
}
