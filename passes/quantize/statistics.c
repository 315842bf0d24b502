/* statistics.c -- what the channels of a value look like over calibration data. */
#include "statistics.h"
#include <math.h>
#include <string.h>

enum { MOST = 512 /* samples: more change sums of this kind no longer */ };

static uint64_t
next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

/* Reservoir sampling with fixed numbers: the same rows for the same data. */
static void
draw(ml_statistics *s, const float *row)
{
	uint64_t state = (uint64_t)s->rows;
	uint64_t at = s->drawn < ML_SAMPLED_ROWS
			      ? (uint64_t)s->drawn++
			      : (next_random(&state), next_random(&state)) % (uint64_t)s->rows;

	if (at < ML_SAMPLED_ROWS)
		memcpy(s->row + at * (uint64_t)s->channels, row, (size_t)s->channels * sizeof *row);
}

static void
add_row(ml_statistics *s, const float *row)
{
	for (int64_t i = 0; i < s->channels; i++) {
		double x = (double)row[i];
		s->sum[i] += x;
		s->squares[i] += x * x;
		s->top[i] = fmaxf(s->top[i], fabsf(row[i]));
		s->finite &= isfinite(x) != 0;
	}
	s->rows++;
	draw(s, row);
}

static void
see(void *user, int which, const ml_tensor *t)
{
	ml_statistics *s = (ml_statistics *)user + which;
	int64_t n = (int64_t)(t->bytes / sizeof(float));

	s->rows_of_one = s->channels ? n / s->channels : 0;
	for (int64_t i = 0; s->channels && i + s->channels <= n; i += s->channels)
		add_row(s, (const float *)t->data + i);
}

ml_status
ml_collect(ml_pass_ctx *px, const ml_module *m, ml_value *const *value, int n, ml_statistics *s)
{
	for (int i = 0; i < n; i++) {
		int64_t channels = 0;
		ml_dim_is_int(value[i]->type.dim[value[i]->type.rank - 1], &channels);
		s[i] = (ml_statistics){.channels = channels, .finite = true};
		s[i].sum = ML_NEW_ARRAY(px->scratch, double, channels);
		s[i].squares = ML_NEW_ARRAY(px->scratch, double, channels);
		s[i].top = ML_NEW_ARRAY(px->scratch, float, channels);
		s[i].row = ML_NEW_ARRAY(px->scratch, float, ML_SAMPLED_ROWS *channels);
	}
	return ml_watch(px, m, value, n, ML_LEARN, MOST, see, s);
}

double
ml_mean(const ml_statistics *s, int64_t i)
{
	return s->rows ? s->sum[i] / (double)s->rows : 0;
}

double
ml_variance(const ml_statistics *s, int64_t i)
{
	double mean = ml_mean(s, i);

	return s->rows ? fmax(s->squares[i] / (double)s->rows - mean * mean, 0) : 0;
}
