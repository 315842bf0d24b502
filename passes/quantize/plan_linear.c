/* plan_linear.c -- what linear layers become on 8-bit integers, by what is known of their inputs:
 * outliers moved into weights, weights clipped, biases corrected.
 *
 * Calibration data shows the inputs.  Without it, a run on made-up inputs does nearly so; where
 * those cannot be made up, inputs behind norms are known from the norm's constants.
 */
#include "../known.h"
#include "linear.h"
#include "moments.h"
#include "smooth.h"
#include <math.h>
#include <string.h>

/* Where nothing is run, people wait for the compiler. */
enum { STEPS = 20, FEW_STEPS = 4 };
/* How inputs go together is learnt from so many rows, and of so many bytes of moments in one go. */
enum { ROWS = 32768, ROUND_BYTES = 80 * 1 << 20 };
/* Multiply-adds of rounding on made-up samples: a second. */
static const double MOST_WORK = 4e10;
/* Added to moments, in parts of their mean.  Made-up samples are less to be believed. */
static const double DAMP = .03, GUESSED_DAMP = .2;

typedef struct planning {
	ml_pass_ctx *px;
	ml_module *m;
	ml_planned_list *list;
	ML_VEC(ml_value *) inputs;
	ml_statistics *statistics; /* of the inputs; rows 0: nothing is known */
	bool seen;                 /* by a run */
	bool guessed;              /* that was one on made-up samples */
	const ml_data *samples;    /* what was run; NULL: nothing */
} planning;

/* ---- finding ---- */

static int
input_number(planning *c, ml_value *x)
{
	for (int i = 0; i < c->inputs.count; i++)
		if (c->inputs.at[i] == x)
			return i;
	ML_PUSH(c->px->scratch, c->inputs, x);
	return c->inputs.count - 1;
}

static void
find_layers(planning *c)
{
	for (ml_node *n = c->m->main->first; n; n = n->next) {
		ml_planned l = {.node = n};
		if (n->op != ML_OP_linear)
			continue;
		const char *why = ml_linear_objection(n, &l.rows, &l.columns);
		if (why) {
			ml_remark(c->px->cx, n->prov, "kept in fp32: %s", why);
			continue;
		}
		l.input = input_number(c, ml_in(n, 0));
		ML_PUSH(c->px->scratch, *c->list, l);
	}
}

/* ---- factors ---- */

/* How much its inputs and weights make of each other, squared and summed: what errors are beside.
 */
static double
energy_of(const ml_planned *l, const float *w, int64_t stride, const ml_statistics *x)
{
	double sum = 0;

	for (int64_t j = 0; j < l->rows; j++) {
		double mean = ml_mean(x, j);
		float square = ml_square_sum(w + j * stride, l->columns);
		sum += (double)square * (ml_variance(x, j) + mean * mean);
	}
	return sum;
}

/* Of layers that share factors each counts by how far it is off in proportion, not by how large its
 * results are: values of attention are small beside queries and keys. */
static void
copy_weights(const ml_planned *l, float *w, int64_t stride, const ml_statistics *x)
{
	const char *from = ml_const_blob(ml_in(l->node, 1))->bytes;
	size_t bytes = (size_t)l->columns * sizeof *w;

	for (int64_t j = 0; j < l->rows; j++)
		memcpy(w + j * stride, from + (size_t)j * bytes, bytes);
	double energy = energy_of(l, w, stride, x);
	if (l->columns == stride || !(energy > 0) || !isfinite(energy))
		return;
	for (int64_t j = 0; j < l->rows; j++)
		for (int64_t k = 0; k < l->columns; k++)
			w[j * stride + k] *= (float)(1 / sqrt(energy));
}

/* Layers that read one value share its factors, so that it is quantized once: their weights side
 * by side are one matrix. */
static void
smooth_input(planning *c, int input, ml_arena *arena)
{
	ml_smoothing s = {.x = &c->statistics[input]};
	int64_t rows = s.x->channels, at = 0;
	double alpha = -1;

	for (int i = 0; i < c->list->count; i++)
		s.columns += c->list->at[i].input == input ? c->list->at[i].columns : 0;
	float *w = ML_NEW_ARRAY(arena, float, rows *s.columns);
	float *factor = ML_NEW_ARRAY(c->px->scratch, float, rows);
	for (int i = 0; i < c->list->count; i++) {
		ml_planned *l = &c->list->at[i];
		if (l->input != input)
			continue;
		copy_weights(l, w + at, s.columns, s.x);
		at += l->columns;
		l->factor = factor;
	}
	s.w = w;
	if (s.x->rows) {
		ml_smoothing_begin(&s, arena);
		alpha = ml_smooth(&s, c->seen ? STEPS : FEW_STEPS, c->px->workers, factor, arena);
	}
	for (int64_t j = 0; j < rows && !s.x->rows; j++)
		factor[j] = 1;
	for (int i = 0; i < c->list->count; i++)
		if (c->list->at[i].input == input)
			c->list->at[i].alpha = alpha;
}

/* ---- weights and biases ---- */

static ml_blob *
new_floats(planning *c, int64_t n, float **at)
{
	void *bytes;
	ml_blob *blob = ml_blob_new(&c->px->cx->memory, (uint64_t)n * sizeof(float), &bytes);

	*at = bytes;
	ML_PUSH(&c->m->arena, c->m->blobs, blob);
	return blob;
}

static void
add_lost(const float *restrict w, const int8_t *restrict q, const float *restrict scale,
	 double mean, double factor, double *restrict lost, int64_t n)
{
	for (int64_t k = 0; k < n; k++)
		lost[k] += mean * ((double)w[k] - (double)q[k] * (double)scale[k] * factor);
}

/* The means must be right for it: made-up samples show what is large, not where the middle is. */
static bool
is_corrected(const planning *c, const ml_planned *l)
{
	return ml_in(l->node, 2) && !c->guessed;
}

/* What the mean of the inputs loses through rounded weights: b += E[x] (W - Wq). */
static void
correct_bias(planning *c, ml_planned *l)
{
	const ml_statistics *x = &c->statistics[l->input];
	const ml_value *bias = ml_in(l->node, 2);
	const int8_t *q = l->plan.q.values->bytes;
	const float *scale = l->plan.q.scales->bytes;
	double *lost = ML_NEW_ARRAY(c->px->scratch, double, l->columns);
	float *b;

	if (!x->rows || !is_corrected(c, l) || !ml_is_const(bias) || bias->type.rank != 1)
		return;
	for (int64_t j = 0; j < l->rows; j++)
		add_lost(l->w + j * l->columns, q + j * l->columns, scale, ml_mean(x, j),
			 1 / (double)l->factor[j], lost, l->columns);
	l->plan.bias = new_floats(c, l->columns, &b);
	for (int64_t k = 0; k < l->columns; k++)
		b[k] = (float)(ml_const_f64(bias, k) + lost[k]);
}

static ml_status
plan_layer(planning *c, ml_planned *l, const ml_feedback *feedback, ml_arena *arena)
{
	const ml_statistics *x = &c->statistics[l->input];
	size_t bytes = (size_t)(l->rows * l->columns) * sizeof(float);
	double *importance = ML_NEW_ARRAY(arena, double, l->rows);
	ml_row_facts facts = {.bytes = true};

	l->w = ml_alloc(arena, bytes);
	memcpy(l->w, ml_const_blob(ml_in(l->node, 1))->bytes, bytes);
	for (int64_t j = 0; j < l->rows; j++) {
		double s = (double)l->factor[j], mean = ml_mean(x, j);
		double lost = is_corrected(c, l) ? 0 : mean * mean;
		importance[j] = (ml_variance(x, j) + lost) / (s * s);
	}
	if (x->rows)
		facts = (ml_row_facts){l->factor, c->seen ? importance : NULL, feedback, true};
	if (!ml_quantize_columns(c->px, ml_in(l->node, 1), l->rows, l->columns, &facts,
				 &l->plan.q)) {
		ml_remark(c->px->cx, l->node->prov, "kept in fp32: its weights are not finite");
		l->node = NULL;
		return ML_OK;
	}
	ml_keep_quantized(c->m, &l->plan.q);
	ml_blob_rest(ml_const_blob(ml_in(l->node, 1)));
	correct_bias(c, l);
	if (l->alpha >= 0) {
		float *inverse;
		l->plan.factor = new_floats(c, l->rows, &inverse);
		for (int64_t j = 0; j < l->rows; j++)
			inverse[j] = 1 / l->factor[j];
	}
	return ML_OK;
}

/* ---- rounding that knows how inputs go together ---- */

/* Around the means, where biases make up for what those lose. */
static void
centre(ml_moments *m)
{
	for (int64_t i = 0; i < m->k; i++)
		for (int64_t j = 0; j <= i; j++)
			m->h[ml_triangle_at(i, j)] -= m->sum[i] * m->sum[j] / (double)m->rows;
}

/* False, and each number goes to the nearest, where that is not known. */
static bool
find_feedback(planning *c, int input, ml_moments *m, ml_feedback *f, ml_arena *arena)
{
	const float *factor = NULL;

	for (int i = 0; i < c->list->count; i++)
		if (c->list->at[i].input == input)
			factor = c->list->at[i].factor;
	if (!c->guessed)
		centre(m);
	if (!ml_feedback_of(f, m->h, m->k, c->guessed ? GUESSED_DAMP : DAMP, c->px->workers, arena))
		return false;
	ml_feedback_scale(f, factor);
	return true;
}

/* All layers that read it; m: its moments, or NULL. */
static ml_status
plan_input(planning *c, int input, ml_moments *m)
{
	ml_arena arena, own;
	ml_feedback feedback, *f = NULL;
	ml_status status = ML_OK;

	ml_arena_init(&arena, &c->px->cx->memory);
	smooth_input(c, input, &arena);
	if (m && find_feedback(c, input, m, &feedback, &arena))
		f = &feedback;
	for (int i = 0; i < c->list->count && status == ML_OK; i++) {
		if (c->list->at[i].input != input)
			continue;
		ml_arena_init(&own, &c->px->cx->memory);
		status = plan_layer(c, &c->list->at[i], f, &own);
		ml_arena_free(&own);
	}
	ml_arena_free(&arena);
	return status;
}

/* Plans the layers of inputs from `first` on, as many as their moments have room for. */
static ml_status
run_round(planning *c, int first, int *next, ml_arena *arena)
{
	ml_moments *m = ML_NEW_ARRAY(arena, ml_moments, c->inputs.count);
	ml_pass_ctx with = *c->px;
	ml_arena piles;
	int64_t bytes = 0;
	int n = 0;

	while (first + n < c->inputs.count && bytes < ROUND_BYTES) {
		int64_t k = c->statistics[first + n].channels;
		int64_t size = ml_triangle_size(k);
		bytes += size * (int64_t)sizeof(double);
		m[n] = (ml_moments){.value = c->inputs.at[first + n],
				    .k = k,
				    .h = ML_NEW_ARRAY(arena, double, size),
				    .sum = c->guessed ? NULL : ML_NEW_ARRAY(arena, double, k)};
		n++;
	}
	with.data = c->samples;
	ml_arena_init(&piles, &c->px->cx->memory);
	with.scratch = &piles;
	ml_status status = ml_second_moments(&with, c->m, m, n, ROWS);
	ml_arena_free(&piles);
	ML_STEP(status);
	for (int i = 0; i < n; i++)
		ML_STEP(plan_input(c, first + i, &m[i]));
	*next = first + n;
	return ML_OK;
}

/* Without data people wait for the compiler: not for minutes. */
static bool
is_worth_it(const planning *c)
{
	double work = 0;

	for (int i = 0; i < c->inputs.count; i++)
		work += pow((double)c->statistics[i].channels, 3) / 3;
	for (int i = 0; i < c->list->count; i++)
		work += pow((double)c->list->at[i].rows, 2) * (double)c->list->at[i].columns;
	return !c->guessed || work < MOST_WORK;
}

static ml_status
plan_inputs(planning *c)
{
	bool feedback = c->samples && is_worth_it(c);

	if (c->seen && !c->samples)
		ml_record_note(c->px->record, "statistics are no samples: 8 bits are rounded to "
					      "nearest, and not by GPTQ");
	for (int i = 0; i < c->inputs.count;) {
		ml_arena arena;
		ml_arena_init(&arena, &c->px->cx->memory);
		ml_status status =
			feedback ? run_round(c, i, &i, &arena) : plan_input(c, i++, NULL);
		ml_arena_free(&arena);
		ML_STEP(status);
	}
	return ML_OK;
}

static ml_status
plan_layers(planning *c)
{
	int kept = 0;

	ML_STEP(plan_inputs(c));
	for (int i = 0; i < c->list->count; i++)
		if (c->list->at[i].node)
			c->list->at[kept++] = c->list->at[i];
	c->list->count = kept;
	return ML_OK;
}

/* ---- what is known ---- */

static ml_status
learn(planning *c)
{
	c->statistics = ML_NEW_ARRAY(c->px->scratch, ml_statistics, c->inputs.count + 1);
	c->seen = ml_is_calibrated(c->px);
	c->samples = c->px->data;
	if (!c->inputs.count)
		return ML_OK;
	if (c->seen)
		return ml_collect(c->px, c->m, c->inputs.at, c->inputs.count, c->statistics);
	c->seen = c->guessed = ml_guess(c->px, c->m, c->inputs.at, c->inputs.count, c->statistics);
	c->samples = c->guessed ? c->px->guess : NULL;
	for (int i = 0; i < c->inputs.count && !c->seen; i++)
		ml_foresee(c->px, c->inputs.at[i], &c->statistics[i]);
	return ML_OK;
}

ml_status
ml_plan_linear(ml_pass_ctx *px, ml_module *m, ml_planned_list *list)
{
	planning c = {.px = px, .m = m, .list = list};

	find_layers(&c);
	int found = list->count;
	ml_bytes key = found ? ml_planned_key(px, m) : (ml_bytes){0};
	if (ml_find_planned(px, m, key, list))
		return ML_OK;
	ML_STEP(learn(&c));
	ML_STEP(plan_layers(&c));
	if (list->count == found)
		ml_keep_planned(px, key, list);
	return ML_OK;
}
