/* smooth.c -- factors that move outliers of activations into weights before both are quantized. */
#include "smooth.h"
#include "../../ir/crew.h"
#include <math.h>
#include <string.h>

static const double LEAST = 1e-5; /* of a magnitude, as published */
static const double GAIN = .95;   /* error left that makes factors worth their time */

/* ---- the error ---- */

/* sum over rows of step^2 / 12, divided by their number. */
static double
row_noise(const ml_statistics *x, const float *s)
{
	double sum = 0;

	for (int64_t r = 0; r < x->drawn; r++) {
		const float *row = x->row + r * x->channels;
		float low = 0, high = 0;
		for (int64_t j = 0; j < x->channels; j++) {
			float v = row[j] / s[j];
			low = v < low ? v : low;
			high = v > high ? v : high;
		}
		double step = ((double)high - (double)low) / 255;
		sum += step * step / 12;
	}
	return x->drawn ? sum / (double)x->drawn : 0;
}

/* Neighbours in lanes of their own, so that they are added at once. */
enum { LANES = 16 };

float
ml_square_sum(const float *x, int64_t n)
{
	float lane[LANES] = {0}, sum = 0;
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES)
		for (int l = 0; l < LANES; l++)
			lane[l] += x[i + l] * x[i + l];
	for (int l = 0; i + l < n; l++)
		lane[l] += x[i + l] * x[i + l];
	for (int l = 0; l < LANES; l++)
		sum += lane[l];
	return sum;
}

static float
largest(const float *x, int64_t n)
{
	float lane[LANES] = {0}, top = 0;
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES)
		for (int l = 0; l < LANES; l++) {
			float v = fabsf(x[i + l]);
			lane[l] = v > lane[l] ? v : lane[l];
		}
	for (int l = 0; i + l < n; l++)
		lane[l] = fabsf(x[i + l]) > lane[l] ? fabsf(x[i + l]) : lane[l];
	for (int l = 0; l < LANES; l++)
		top = lane[l] > top ? lane[l] : top;
	return top;
}

void
ml_smoothing_begin(ml_smoothing *m, ml_arena *arena)
{
	int64_t n = m->x->channels;

	m->top = ML_NEW_ARRAY(arena, float, n);
	m->square = ML_NEW_ARRAY(arena, float, n);
	for (int64_t j = 0; j < n; j++) {
		m->top[j] = largest(m->w + j * m->columns, m->columns);
		m->square[j] = ml_square_sum(m->w + j * m->columns, m->columns);
	}
}

static void
raise_tops(const float *restrict w, float s, float *restrict top, int64_t n)
{
	for (int64_t c = 0; c < n; c++) {
		float scaled = fabsf(w[c]) * s;
		top[c] = scaled > top[c] ? scaled : top[c];
	}
}

double
ml_smoothing_error(const ml_smoothing *m, const float *s, float *top)
{
	const ml_statistics *x = m->x;
	double carried = 0, spread = 0, steps = 0;

	memset(top, 0, (size_t)m->columns * sizeof *top);
	for (int64_t j = 0; j < x->channels; j++) {
		double square = (double)s[j] * (double)s[j];
		raise_tops(m->w + j * m->columns, s[j], top, m->columns);
		carried += (double)m->square[j] * square;
		spread += (m->left ? m->left[j] : ml_variance(x, j)) / square;
	}
	for (int64_t c = 0; c < m->columns; c++)
		steps += (double)top[c] * (double)top[c] / (127.0 * 127 * 12);
	return row_noise(x, s) * carried + spread * steps;
}

/* ---- the choice ---- */

void
ml_smoothing_factors(const ml_smoothing *m, double a, float *s)
{
	for (int64_t j = 0; j < m->x->channels; j++) {
		double top = fmax((double)m->x->top[j], LEAST);
		s[j] = (float)(pow(top, a) / pow(fmax((double)m->top[j], LEAST), 1 - a));
		s[j] = fmaxf(s[j], (float)LEAST);
	}
}

/* Factors of every a, none in front, and what they make of the error. */
typedef struct trial {
	const ml_smoothing *m;
	int steps;
	float *s, *top; /* [steps + 2][channels], [steps + 2][columns] */
	double *error;
} trial;

static void
try_factors(void *user, int worker, int64_t i)
{
	const trial *t = user;
	int64_t n = t->m->x->channels;
	float *s = t->s + i * n;

	(void)worker;
	for (int64_t j = 0; j < n && !i; j++)
		s[j] = 1;
	if (i)
		ml_smoothing_factors(t->m, (double)(i - 1) / t->steps, s);
	t->error[i] = ml_smoothing_error(t->m, s, t->top + i * t->m->columns);
}

double
ml_smooth(const ml_smoothing *m, int steps, int workers, float *s, ml_arena *arena)
{
	int64_t n = m->x->channels, parts = steps + 2, best = 0;
	trial t = {m, steps, ML_NEW_ARRAY(arena, float, parts *n),
		   ML_NEW_ARRAY(arena, float, parts * m->columns),
		   ML_NEW_ARRAY(arena, double, parts)};

	ml_crew_do(&(ml_crew){.workers = workers}, parts, try_factors, &t);
	t.error[0] *= GAIN;
	for (int64_t i = 1; i < parts; i++)
		best = t.error[i] < t.error[best] ? i : best;
	memcpy(s, t.s + best * n, (size_t)n * sizeof *s);
	return best ? (double)(best - 1) / steps : -1;
}
