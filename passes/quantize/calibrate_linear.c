/* calibrate_linear.c -- linear layers on integers by calibration data: outliers moved into weights,
 * weights clipped, biases corrected, and layers left in floats until what may be lost holds.
 */
#include "../gate.h"
#include "linear.h"
#include "smooth.h"
#include <math.h>
#include <string.h>

enum { CHECKED_ROWS = 32 /* for each layer's own SQNR */ };

typedef struct layer {
	ml_node *node;
	int64_t rows, columns; /* of the weights */
	int input;             /* among the distinct inputs */
	float *w;              /* aligned copy while it is planned */
	float *factor;         /* s of smooth.h */
	double alpha, sqnr;
	ml_linear_plan plan;
} layer;

typedef struct calibration {
	ml_pass_ctx *px;
	ml_module *m;
	ML_VEC(layer) layers;
	ML_VEC(ml_value *) inputs;
	ml_statistics *statistics;
} calibration;

/* ---- finding ---- */

static int
input_number(calibration *c, ml_value *x)
{
	for (int i = 0; i < c->inputs.count; i++)
		if (c->inputs.at[i] == x)
			return i;
	ML_PUSH(c->px->scratch, c->inputs, x);
	return c->inputs.count - 1;
}

static void
find_layers(calibration *c)
{
	for (ml_node *n = c->m->main->first; n; n = n->next) {
		layer l = {.node = n};
		if (n->op != ML_OP_linear)
			continue;
		const char *why = ml_linear_objection(n, &l.rows, &l.columns);
		if (why) {
			ml_remark(c->px->cx, n->prov, "kept in fp32: %s", why);
			continue;
		}
		l.input = input_number(c, ml_in(n, 0));
		ML_PUSH(c->px->scratch, c->layers, l);
	}
}

/* ---- factors ---- */

/* Layers that read one value share its factors, so that it is quantized once: their weights side
 * by side are one matrix. */
static void
smooth_input(calibration *c, int input, ml_arena *arena)
{
	ml_smoothing s = {.x = &c->statistics[input]};
	int64_t rows = s.x->channels, at = 0;

	for (int i = 0; i < c->layers.count; i++)
		s.columns += c->layers.at[i].input == input ? c->layers.at[i].columns : 0;
	float *w = ML_NEW_ARRAY(arena, float, rows *s.columns);
	float *factor = ML_NEW_ARRAY(c->px->scratch, float, rows);
	for (int i = 0; i < c->layers.count; i++) {
		layer *l = &c->layers.at[i];
		if (l->input != input)
			continue;
		const char *from = ml_const_blob(ml_in(l->node, 1))->bytes;
		size_t bytes = (size_t)l->columns * sizeof *w;
		for (int64_t j = 0; j < rows; j++)
			memcpy(w + j * s.columns + at, from + (size_t)j * bytes, bytes);
		at += l->columns;
		l->factor = factor;
	}
	s.w = w;
	double alpha = ml_smooth(&s, factor, arena);
	for (int i = 0; i < c->layers.count; i++)
		if (c->layers.at[i].input == input)
			c->layers.at[i].alpha = alpha;
}

/* ---- weights and biases ---- */

static ml_blob *
new_floats(calibration *c, int64_t n, float **at)
{
	void *bytes;
	ml_blob *blob = ml_blob_new(&c->px->cx->memory, (uint64_t)n * sizeof(float), &bytes);

	*at = bytes;
	ML_PUSH(&c->m->arena, c->m->blobs, blob);
	return blob;
}

/* What the mean of the inputs loses through rounded weights: b += E[x] (W - Wq). */
static void
correct_bias(calibration *c, layer *l)
{
	const ml_statistics *x = &c->statistics[l->input];
	const ml_value *bias = ml_in(l->node, 2);
	const int8_t *q = l->plan.q.values->bytes;
	const float *scale = l->plan.q.scales->bytes;
	double *lost = ML_NEW_ARRAY(c->px->scratch, double, l->columns);
	float *b;

	if (!bias || !ml_is_const(bias) || bias->type.rank != 1)
		return;
	for (int64_t j = 0; j < l->rows; j++) {
		double mean = ml_mean(x, j), s = (double)l->factor[j];
		for (int64_t k = 0; k < l->columns; k++) {
			int64_t i = j * l->columns + k;
			lost[k] += mean * ((double)l->w[i] - (double)q[i] * (double)scale[k] / s);
		}
	}
	l->plan.bias = new_floats(c, l->columns, &b);
	for (int64_t k = 0; k < l->columns; k++)
		b[k] = (float)(ml_const_f64(bias, k) + lost[k]);
}

/* Its own SQNR on some rows: the noise that only this layer's integers add. */
static double
measure(const calibration *c, const layer *l, ml_arena *arena)
{
	const ml_statistics *x = &c->statistics[l->input];
	const int8_t *q = l->plan.q.values->bytes;
	const float *scale = l->plan.q.scales->bytes;
	float *y = ML_NEW_ARRAY(arena, float, l->columns),
	      *e = ML_NEW_ARRAY(arena, float, l->columns);
	double signal = 0, noise = 0;

	for (int64_t r = 0; r < x->drawn && r < CHECKED_ROWS; r++) {
		const float *row = x->row + r * l->rows;
		float low = 0, high = 0;
		for (int64_t j = 0; j < l->rows; j++) {
			low = fminf(low, row[j] / l->factor[j]);
			high = fmaxf(high, row[j] / l->factor[j]);
		}
		float step = high > low ? (high - low) / 255 : 1, zero = rintf(-low / step);
		memset(y, 0, (size_t)l->columns * sizeof *y);
		memset(e, 0, (size_t)l->columns * sizeof *e);
		for (int64_t j = 0; j < l->rows; j++) {
			float exact = row[j], whole = row[j] / l->factor[j];
			whole = (fminf(fmaxf(rintf(whole / step) + zero, 0), 255) - zero) * step;
			const float *w = l->w + j * l->columns;
			const int8_t *wq = q + j * l->columns;
			for (int64_t k = 0; k < l->columns; k++) {
				y[k] += exact * w[k];
				e[k] += whole * (float)wq[k];
			}
		}
		for (int64_t k = 0; k < l->columns; k++) {
			double d = (double)(y[k] - e[k] * scale[k]);
			signal += (double)y[k] * (double)y[k];
			noise += d * d;
		}
	}
	return noise > 0 ? 10 * log10(signal / noise) : 300;
}

static ml_status
plan_layer(calibration *c, layer *l, ml_arena *arena)
{
	const ml_statistics *x = &c->statistics[l->input];
	size_t bytes = (size_t)(l->rows * l->columns) * sizeof(float);
	double *importance = ML_NEW_ARRAY(arena, double, l->rows);
	ml_row_facts facts = {l->factor, importance};

	l->w = ml_alloc(arena, bytes);
	memcpy(l->w, ml_const_blob(ml_in(l->node, 1))->bytes, bytes);
	for (int64_t j = 0; j < l->rows; j++) {
		double s = (double)l->factor[j], mean = ml_mean(x, j);
		bool corrected = ml_in(l->node, 2) != NULL;
		importance[j] = (ml_variance(x, j) + (corrected ? 0 : mean * mean)) / (s * s);
	}
	if (!ml_quantize_columns(c->px, ml_in(l->node, 1), l->rows, l->columns, &facts,
				 &l->plan.q)) {
		ml_remark(c->px->cx, l->node->prov, "kept in fp32: its weights are not finite");
		l->node = NULL;
		return ML_OK;
	}
	ml_keep_quantized(c->m, &l->plan.q);
	correct_bias(c, l);
	l->sqnr = measure(c, l, arena);
	if (l->alpha >= 0) {
		float *inverse;
		l->plan.factor = new_floats(c, l->rows, &inverse);
		for (int64_t j = 0; j < l->rows; j++)
			inverse[j] = 1 / l->factor[j];
	}
	return ML_OK;
}

static ml_status
plan_layers(calibration *c)
{
	int kept = 0;

	for (int i = 0; i < c->inputs.count; i++) {
		ml_arena arena;
		ml_arena_init(&arena, &c->px->cx->memory);
		smooth_input(c, i, &arena);
		ml_arena_free(&arena);
	}
	for (int i = 0; i < c->layers.count; i++) {
		ml_arena arena;
		ml_arena_init(&arena, &c->px->cx->memory);
		ML_STEP(plan_layer(c, &c->layers.at[i], &arena));
		ml_arena_free(&arena);
		if (c->layers.at[i].node)
			c->layers.at[kept++] = c->layers.at[i];
	}
	c->layers.count = kept;
	return ML_OK;
}

/* ---- the gate ---- */

static ml_value *
build(void *user, int i, ml_node *n)
{
	const calibration *c = user;

	return ml_build_linear(n, &c->layers.at[i].plan);
}

static const char *
name_of(const calibration *c, const ml_gate_layer *before, int n, const layer *l)
{
	const char *name = l->node->prov && l->node->prov->node ? l->node->prov->node : "linear";

	for (int i = 0; i < n; i++)
		if (!strcmp(before[i].name, name))
			return ml_format(c->px->scratch, "%s#%u", name, l->node->id);
	return name;
}

static void
describe(const calibration *c, ml_gate_layer *g)
{
	ml_table *t = ml_record_table(c->px->record, "layers", "Layers");

	for (int i = 0; i < c->layers.count; i++) {
		const layer *l = &c->layers.at[i];
		const ml_statistics *x = &c->statistics[l->input];
		double size = (double)l->rows * (double)l->columns;
		g[i] = (ml_gate_layer){.id = l->node->id, .name = name_of(c, g, i, l)};
		g[i].bytes[0] = 4 * size;
		g[i].bytes[1] = size + 8 * (double)l->columns;
		int rank = ml_in(l->node, 0)->type.rank;
		for (int d = 0; d < rank; d++)
			g[i].dim[d] = d == rank - 1 ? l->rows : d == rank - 2 ? x->rows_of_one : 1;
		int row = ml_table_row(t, g[i].name);
		ml_table_text(t, row, "shape",
			      ml_format(c->px->scratch, "%lld x %lld", (long long)l->rows,
					(long long)l->columns));
		ml_table_number(t, row, "SQNR", ML_UNIT_DECIBEL, l->sqnr);
		if (l->alpha >= 0)
			ml_table_number(t, row, "smoothing", ML_UNIT_NONE, l->alpha);
	}
}

ml_status
ml_calibrate_linear(ml_pass_ctx *px, ml_module *m)
{
	calibration c = {.px = px, .m = m};

	find_layers(&c);
	if (!c.layers.count)
		return ML_OK;
	c.statistics = ML_NEW_ARRAY(px->scratch, ml_statistics, c.inputs.count);
	ML_STEP(ml_collect(px, m, c.inputs.at, c.inputs.count, c.statistics));
	ML_STEP(plan_layers(&c));
	ml_gate g = {.px = px, .m = m, .layers = c.layers.count, .after = "u8s8"};
	g.layer = ML_NEW_ARRAY(px->scratch, ml_gate_layer, g.layers + 1);
	g.build = build;
	g.user = &c;
	describe(&c, g.layer);
	ML_STEP(ml_gate_run(&g));
	for (int i = 0; i < g.layers; i++)
		if (!g.layer[i].kept && ml_spend_fuel(px))
			px->changes++;
		else
			g.layer[i].kept = true;
	return ml_gate_apply(&g, m);
}
