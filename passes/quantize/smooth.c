/* smooth.c -- factors that move outliers of activations into weights before both are quantized. */
#include "smooth.h"
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

double
ml_smoothing_error(const ml_smoothing *m, const float *s, ml_arena *arena)
{
	const ml_statistics *x = m->x;
	float *top = ML_NEW_ARRAY(arena, float, m->columns);
	double carried = 0, spread = 0, steps = 0;

	for (int64_t j = 0; j < x->channels; j++) {
		const float *w = m->w + j * m->columns;
		float square = 0;
		for (int64_t c = 0; c < m->columns; c++) {
			float scaled = fabsf(w[c] * s[j]);
			square += scaled * scaled;
			top[c] = scaled > top[c] ? scaled : top[c];
		}
		carried += (double)square;
		spread += ml_variance(x, j) / ((double)s[j] * (double)s[j]);
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
		float weight = 0;
		for (int64_t c = 0; c < m->columns; c++)
			weight = fmaxf(weight, fabsf(m->w[j * m->columns + c]));
		double top = fmax((double)m->x->top[j], LEAST);
		s[j] = (float)(pow(top, a) / pow(fmax((double)weight, LEAST), 1 - a));
		s[j] = fmaxf(s[j], (float)LEAST);
	}
}

static void
fill(float *s, int64_t n, float x)
{
	for (int64_t i = 0; i < n; i++)
		s[i] = x;
}

double
ml_smooth(const ml_smoothing *m, int steps, float *s, ml_arena *arena)
{
	int64_t n = m->x->channels;
	float *tried = ML_NEW_ARRAY(arena, float, n);
	double best, chosen = -1;

	fill(s, n, 1);
	best = GAIN * ml_smoothing_error(m, s, arena);
	for (int i = 0; i <= steps; i++) {
		double a = (double)i / steps;
		ml_smoothing_factors(m, a, tried);
		double error = ml_smoothing_error(m, tried, arena);
		if (!(error < best))
			continue;
		best = error;
		chosen = a;
		memcpy(s, tried, (size_t)n * sizeof *s);
	}
	return chosen;
}
