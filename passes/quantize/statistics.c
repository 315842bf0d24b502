/* statistics.c -- what the channels of a value look like over calibration data. */
#include "statistics.h"
#include <math.h>
#include <string.h>

enum {
	MOST = 512,       /* samples: more change sums of this kind no longer */
	GUESSED = 40,     /* samples: of made-up ones fewer do */
	GUESSED_LEVEL = 2 /* -O below: running the model for a guess is too dear */
};

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
	double *restrict sum = s->sum, *restrict squares = s->squares;
	float *restrict top = s->top;

	for (int64_t i = 0; i < s->channels; i++) {
		double x = (double)row[i];
		float magnitude = fabsf(row[i]);
		sum[i] += x;
		squares[i] += x * x;
		top[i] = magnitude > top[i] ? magnitude : top[i];
	}
	s->rows++;
	draw(s, row);
}

static void
see(void *user, int which, const ml_tensor *t)
{
	ml_statistics *s = (ml_statistics *)user + which;
	int64_t n = (int64_t)(t->bytes / sizeof(float));

	for (int64_t i = 0; s->channels && i + s->channels <= n; i += s->channels)
		add_row(s, (const float *)t->data + i);
	for (int64_t i = 0; i < s->channels; i++) /* what is not finite stays in a sum */
		s->finite &= isfinite(s->sum[i]) != 0;
}

static ml_statistics
new_statistics(ml_pass_ctx *px, const ml_value *v)
{
	ml_statistics s = {.finite = true};

	ml_dim_is_int(v->type.dim[v->type.rank - 1], &s.channels);
	s.sum = ML_NEW_ARRAY(px->scratch, double, s.channels);
	s.squares = ML_NEW_ARRAY(px->scratch, double, s.channels);
	s.top = ML_NEW_ARRAY(px->scratch, float, s.channels);
	s.row = ML_NEW_ARRAY(px->scratch, float, ML_SAMPLED_ROWS *s.channels);
	return s;
}

/* ---- statistics that are kept ---- */

static const char CHANNELS[] = "channels";
enum { COUNTS = 3 /* rows, drawn ones, whether all are finite; then sums, squares, tops */ };

static void
keep(const ml_pass_ctx *px, const ml_value *v, const ml_statistics *s)
{
	int64_t n = s->channels;
	ml_figures f = {.numbers = COUNTS + 3 * n, .rows = s->drawn * n, .row = s->row};

	f.number = ML_NEW_ARRAY(px->scratch, double, f.numbers);
	f.number[0] = (double)s->rows;
	f.number[1] = (double)s->drawn;
	f.number[2] = s->finite;
	memcpy(f.number + COUNTS, s->sum, (size_t)n * sizeof *s->sum);
	memcpy(f.number + COUNTS + n, s->squares, (size_t)n * sizeof *s->squares);
	for (int64_t i = 0; i < n; i++)
		f.number[COUNTS + 2 * n + i] = (double)s->top[i];
	ml_note_figures(px, CHANNELS, v, &f);
}

/* Some of the rows that both have drawn, in proportion to those they were drawn from. */
static void
share_rows(ml_statistics *s, const ml_figures *f, int64_t drawn, int64_t from)
{
	int64_t n = s->channels, all = s->drawn + drawn;
	int64_t room = all < ML_SAMPLED_ROWS ? all : ML_SAMPLED_ROWS;
	double share = (double)s->rows / (double)(s->rows + from);
	int64_t own = (int64_t)rint((double)room * share);

	own = own > s->drawn ? s->drawn : own < room - drawn ? room - drawn : own;
	for (int64_t i = 0; i < own; i++)
		memmove(s->row + i * n, s->row + i * s->drawn / own * n,
			(size_t)n * sizeof *s->row);
	for (int64_t i = own; i < room; i++)
		memcpy(s->row + i * n, f->row + (i - own) * drawn / (room - own) * n,
		       (size_t)n * sizeof *s->row);
	s->drawn = room;
}

static bool
all_finite(const ml_figures *f)
{
	double sum = 0; /* of zeros, NaN when one is not finite */

	for (int64_t i = 0; i < f->numbers; i++)
		sum += f->number[i] * 0;
	for (int64_t i = 0; i < f->rows; i++)
		sum += (double)f->row[i] * 0;
	return sum == 0;
}

/* False when the figures cannot be of such a value. */
static bool
add_known(ml_statistics *s, const ml_figures *f)
{
	int64_t n = s->channels;
	double rows = f->number[0], drawn = f->number[1];

	if (!(rows >= 0 && rows < 0x1p53 && drawn >= 0 && drawn <= ML_SAMPLED_ROWS) ||
	    drawn != rint(drawn) || drawn > rows || f->rows != (int64_t)drawn * n)
		return false;
	if (!all_finite(f)) {
		s->finite = false;
		return true; /* of such a value nothing is known */
	}
	if (rows > 0)
		share_rows(s, f, (int64_t)drawn, (int64_t)rows);
	s->rows += (int64_t)rows;
	s->finite &= f->number[2] != 0;
	for (int64_t i = 0; i < n; i++) {
		float top = (float)f->number[COUNTS + 2 * n + i];
		s->sum[i] += f->number[COUNTS + i];
		s->squares[i] += f->number[COUNTS + n + i];
		s->top[i] = top > s->top[i] ? top : s->top[i];
	}
	return true;
}

static ml_status
add_all_known(ml_pass_ctx *px, const ml_value *v, ml_statistics *s)
{
	int64_t numbers = COUNTS + 3 * s->channels;

	for (const ml_figures *f = NULL; (f = ml_next_known(px, CHANNELS, v, numbers, f));)
		if (!add_known(s, f))
			return ml_error(px->cx, ML_ERR_VALUE, v->def ? v->def->prov : NULL,
					"calibration: the statistics of this value are impossible");
	keep(px, v, s);
	return ML_OK;
}

static ml_status
collect(ml_pass_ctx *px, const ml_module *m, ml_value *const *value, int n, int64_t most,
	ml_statistics *s)
{
	for (int i = 0; i < n; i++)
		s[i] = new_statistics(px, value[i]);
	if (px->data)
		ML_STEP(ml_watch(px, m, value, n, ML_LEARN, most, see, s));
	for (int i = 0; i < n; i++)
		ML_STEP(add_all_known(px, value[i], &s[i]));
	return ML_OK;
}

ml_status
ml_collect(ml_pass_ctx *px, const ml_module *m, ml_value *const *value, int n, ml_statistics *s)
{
	return collect(px, m, value, n, MOST, s);
}

/* ---- without data ---- */

bool
ml_guess(ml_pass_ctx *px, const ml_module *m, ml_value *const *value, int n, ml_statistics *s)
{
	ml_context *cx = px->cx;
	ml_pass_ctx with = *px;
	int said = cx->diags.count;

	with.data = px->guess;
	with.known = NULL;
	if (!with.data || !with.exec || with.opt_level < GUESSED_LEVEL)
		return false;
	if (collect(&with, m, value, n, GUESSED, s) != ML_OK) {
		cx->diags.count = said;
		return false;
	}
	for (int i = 0; i < n; i++)
		if (!s[i].finite)
			return false;
	return true;
}

/* Nearly normal: the sum of twelve even ones. */
static float
draw_normal(uint64_t *state)
{
	float sum = 0;

	for (int i = 0; i < 12; i++)
		sum += (float)(next_random(state) >> 7) * 0x1p-24f;
	return sum - 6;
}

/* A row as a norm makes it: of variance 1, and of mean 0 if it takes the mean away. */
static void
draw_normed(float *x, int64_t n, bool centred, uint64_t *state)
{
	double mean = 0, square = 0;

	for (int64_t i = 0; i < n; i++) {
		x[i] = draw_normal(state);
		mean += centred ? (double)x[i] / (double)n : 0;
	}
	for (int64_t i = 0; i < n; i++)
		square += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)n;
	for (int64_t i = 0; i < n; i++)
		x[i] = (float)(((double)x[i] - mean) / sqrt(square + 1e-9));
}

/* The norm over the last axis that gives v, or NULL. */
static const ml_node *
norm_of(const ml_value *v)
{
	const ml_node *n = v->def;

	if (!n || (n->op != ML_OP_layer_norm && n->op != ML_OP_rms_norm))
		return NULL;
	int64_t axis = n->op == ML_OP_layer_norm ? ML_A(n, layer_norm, axis).i64
						 : ML_A(n, rms_norm, axis).i64;
	for (int i = 1; i < n->nin; i++)
		if (ml_in(n, i) && (!ml_is_const(ml_in(n, i)) || ml_in(n, i)->type.rank != 1))
			return NULL;
	return axis == -1 || axis == v->type.rank - 1 ? n : NULL;
}

/* A constant of the norm, or `missing` throughout. */
static double *
operand(ml_pass_ctx *px, const ml_node *norm, int which, int64_t n, double missing)
{
	const ml_value *v = which < norm->nin ? ml_in(norm, which) : NULL;
	double *x = ML_NEW_ARRAY(px->scratch, double, n);

	for (int64_t i = 0; i < n; i++)
		x[i] = v ? ml_const_f64(v, i) : missing;
	return x;
}

void
ml_foresee(ml_pass_ctx *px, const ml_value *v, ml_statistics *s)
{
	const ml_node *n = norm_of(v);
	uint64_t state = 1;

	*s = new_statistics(px, v);
	if (!n)
		return;
	float *row = ML_NEW_ARRAY(px->scratch, float, s->channels);
	double *scale = operand(px, n, 1, s->channels, 1),
	       *bias = operand(px, n, 2, s->channels, 0);
	for (int r = 0; r < ML_SAMPLED_ROWS; r++) {
		draw_normed(row, s->channels, n->op == ML_OP_layer_norm, &state);
		for (int64_t i = 0; i < s->channels; i++)
			row[i] = (float)(scale[i] * (double)row[i] + bias[i]);
		add_row(s, row);
	}
}

/* ---- figures ---- */

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
