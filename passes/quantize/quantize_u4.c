/* quantize_u4.c -- weights of linear layers as four bits with a scale and zero point per group.
 *
 * Where calibration data shows what a layer reads, its rows are rounded by GPTQ, their scales
 * chosen with the error weighted by the inputs' second moments; where statistics do, which are the
 * diagonal of those, by the scales alone; without either, statistics of inputs made up for the
 * purpose, where a model can be run on such.  A layer that computes a result of the model (logits)
 * is one as any other, because it is what much of a token's time goes to; it keeps eight bits where
 * asked for.  With data, layers are rounded with and without factors of their inputs (awq.h), where
 * norms can take those over, and the whole model decides; the gate then chooses between four bits,
 * eight and floats for every layer.
 */
#include "../known.h"
#include "../prefer.h"
#include "awq.h"
#include "describe.h"
#include "linear.h"
#include "moments.h"
#include "statistics.h"
#include "u4.h"
#include <string.h>

enum {
	SMALLEST = 1024,            /* weights */
	ROWS = 32768,               /* of calibration data */
	ROUND_BYTES = 128 * 1 << 20 /* of moments that are collected in one go */
};

typedef struct layer {
	ml_node *n;
	int64_t k, columns;
	bool known;                /* data can show what it reads */
	int moments;               /* of that, in its round */
	const ml_statistics *read; /* what is known of that without samples, or NULL */
	uint32_t id;
	/* what it becomes; NULL: nothing, or no zero points */
	ml_blob *q, *scale, *zero;
} layer;

/* Factors that a norm has taken over, by a layer that reads it. */
typedef struct absorbed {
	uint32_t id;
	float *s;
	double r;
} absorbed;

typedef struct layers {
	ml_pass_ctx *px;
	ml_module *m;      /* in which they are replaced as they are rounded */
	ml_module *keeper; /* of the blobs */
	bool main; /* those of the main block, of which data can show what they read; else the
		      others */
	ML_VEC(layer) at;
	bool scale; /* inputs get factors where norms can take them over */
	ML_VEC(absorbed) absorbed;
} layers;

/* ---- which ---- */

static int
group_of(const ml_pass_ctx *px)
{
	return px->int4.group ? px->int4.group : ML_INT4_GROUP;
}

/* Does a result of the model show all of v, through index maps and additions alone?  Keys and
 * values that a model hands out are parts of a layer's result, or behind those of the past. */
static bool
is_result(const ml_value *v)
{
	for (const ml_use *u = v->uses; u; u = u->next) {
		const ml_node *user = u->user;
		if (user->op == ML_OP_yield)
			return user->block == user->block->module->main;
		bool whole = user->op == ML_OP_add || user->op == ML_OP_reshape ||
			     user->op == ML_OP_transpose;
		if (whole && is_result(&user->out[0]))
			return true;
	}
	return false;
}

static const char *
objection(const ml_pass_ctx *px, const layer *l)
{
	const ml_value *w = ml_in(l->n, 1);

	if (!ml_is_const(w) || w->type.dtype != ML_f32 || ml_in(l->n, 0)->type.rank == ML_MAX_RANK)
		return "the weights are no f32 constant";
	if (l->k * l->columns < SMALLEST)
		return "it has few weights";
	if (l->k % group_of(px))
		return "groups do not divide its inner size";
	return px->int4.inner && is_result(&l->n->out[0]) ? "it computes a result of the model"
							  : NULL;
}

static ml_status
find_layers(void *user, ml_block *block)
{
	layers *s = user;
	bool main = block == block->module->main;

	for (ml_node *n = block->first; n; n = n->next) {
		layer l = {.n = n, .id = n->id};
		if (n->op != ML_OP_linear || s->main != (main && s->px->data))
			continue;
		ml_dim_is_int(ml_in(n, 1)->type.dim[0], &l.k);
		ml_dim_is_int(ml_in(n, 1)->type.dim[1], &l.columns);
		const char *why = objection(s->px, &l);
		if (why) {
			ml_remark(s->px->cx, n->prov, "kept above 4 bits: %s", why);
			continue;
		}
		l.known = main && s->px->data;
		ML_PUSH(s->px->scratch, s->at, l);
	}
	return ML_OK;
}

/* ---- rewriting ---- */

static ml_value *
constant(ml_builder *b, ml_dtype dtype, int64_t rows, int64_t columns, ml_blob *blob)
{
	ml_type t = {.dtype = dtype, .rank = 2};

	t.dim[0] = ml_dim_int(b->m->dims, rows);
	t.dim[1] = ml_dim_int(b->m->dims, columns);
	return ml_build_const(b, &t, ml_blob_share(blob));
}

/* Its result by four bits, before a node that stands for it. */
static ml_value *
build_u4(ml_pass_ctx *px, const layer *l, ml_node *n)
{
	ml_builder at = ml_builder_before(n), *b = &at;
	int64_t groups = l->k / group_of(px);
	ml_value *bias = ml_in(n, 2);
	ml_value *in[4] = {ml_in(n, 0), constant(b, ML_u8, l->k, l->columns, l->q),
			   constant(b, ML_f16, groups, l->columns, l->scale)};

	if (l->zero)
		in[3] = constant(b, ML_u8, groups, l->columns, l->zero);
	ml_node *y = ml_begin(b, ML_OP_linear_u4, in, l->zero ? 4 : 3);
	y = y ? ml_finish(b, y) : NULL;
	if (!y)
		return NULL;
	return bias ? ml_op2(b, ML_OP_add, &y->out[0], bias) : &y->out[0];
}

static bool
is_finite(const float *w, int64_t count)
{
	float sum = 0; /* of zeros, NaN when one is not finite */

	for (int64_t i = 0; i < count; i++)
		sum += w[i] * 0;
	return sum == 0;
}

/* Mean squares of the input's elements: the diagonal of its moments. */
static const float *
importance_of(const ml_moments *m, ml_arena *arena)
{
	float *mean = ML_NEW_ARRAY(arena, float, m->k);
	double sum = 0;

	for (int64_t i = 0; i < m->k; i++)
		sum += m->h[ml_triangle_at(i, i)];
	for (int64_t i = 0; i < m->k; i++)
		mean[i] = sum > 0 ? (float)(m->h[ml_triangle_at(i, i)] / sum * (double)m->k) : 1;
	return mean;
}

/* The same, by statistics. */
static const float *
known_importance(const ml_statistics *s, ml_arena *arena)
{
	float *mean = ML_NEW_ARRAY(arena, float, s->channels);
	double sum = 0;

	for (int64_t i = 0; i < s->channels; i++)
		sum += s->squares[i];
	for (int64_t i = 0; i < s->channels; i++)
		mean[i] = sum > 0 ? (float)(s->squares[i] / sum * (double)s->channels) : 1;
	return mean;
}

/* False when the weights are not finite. */
static bool
round_weights(const ml_u4 *u, const ml_statistics *read, const ml_moments *m, ml_arena *arena)
{
	if (!is_finite(u->w, u->k * u->n))
		return false;
	ml_u4_fit(u,
		  m      ? importance_of(m, arena)
		  : read ? known_importance(read, arena)
			 : NULL,
		  arena);
	if (!m || !ml_u4_gptq(u, m->h, arena))
		ml_u4_round(u);
	else
		ml_u4_refine(u, m->h, arena);
	return true;
}

static ml_blob *
new_blob(layers *s, int64_t bytes, void **at)
{
	ml_blob *blob = ml_blob_new(&s->px->cx->memory, (uint64_t)bytes, at);

	ML_PUSH(&s->keeper->arena, s->keeper->blobs, blob);
	return blob;
}

/* Rounds its weights; false when they are not finite. */
static bool
round_layer(layers *s, layer *l, const ml_moments *m, ml_arena *arena)
{
	ml_pass_ctx *px = s->px;
	int64_t count = l->k * l->columns, groups = l->k / group_of(px) * l->columns;
	ml_u4 u = {.k = l->k,
		   .n = l->columns,
		   .size = group_of(px),
		   .symmetric = px->int4.symmetric,
		   .w = ML_NEW_ARRAY(arena, float, count),
		   .scale = ML_NEW_ARRAY(arena, float, groups),
		   .zero = ML_NEW_ARRAY(arena, uint8_t, groups),
		   .workers = px->workers};
	void *q, *scale, *zero;

	memcpy(u.w, ml_const_blob(ml_in(l->n, 1))->bytes, (size_t)count * sizeof *u.w);
	ml_blob *blob = new_blob(s, count, &q);
	u.q = q;
	if (!round_weights(&u, l->read, m, arena))
		return false;
	l->q = blob;
	l->scale = new_blob(s, groups * 2, &scale);
	for (int64_t i = 0; i < groups; i++)
		ml_write_f64(ML_f16, scale, i, (double)u.scale[i]);
	if (u.symmetric)
		return true;
	l->zero = new_blob(s, groups, &zero);
	memcpy(zero, u.zero, (size_t)groups);
	return true;
}

static ml_status
quantize_layer(layers *s, layer *l, const ml_moments *m, ml_arena *arena)
{
	ml_pass_ctx *px = s->px;

	if (!round_layer(s, l, m, arena)) {
		ml_remark(px->cx, l->n->prov, "kept above 4 bits: its weights are not finite");
		return ML_OK;
	}
	ml_value *y = build_u4(px, l, l->n);
	if (!y)
		return ML_ERR_PASS;
	y->name = l->n->out[0].name;
	ml_replace_uses(&l->n->out[0], y);
	ml_node_remove(l->n);
	if (s->main)
		return ML_OK; /* in a copy; it is the gate's business whether that is kept */
	ml_spend_fuel(px);
	ml_remark(px->cx, y->def->prov, "quantized: 4-bit weights in groups of %d", group_of(px));
	px->changes++;
	return ML_OK;
}

/* ---- rounds: as many layers as their moments have room for ---- */

typedef struct round {
	ml_arena arena;
	ML_VEC(ml_moments) moments;
	int64_t bytes;
} round;

/* ---- factors of inputs ---- */

/* Moments of x / s. */
static void
divide_moments(ml_moments *m, const float *s)
{
	for (int64_t i = 0; i < m->k; i++) {
		m->sum[i] /= (double)s[i];
		for (int64_t j = 0; j <= i; j++)
			m->h[ml_triangle_at(i, j)] /= (double)s[i] * (double)s[j];
	}
}

/* Layers of the round that read the same input are scaled with it. */
static void
scale_input(layers *s, ml_moments *m, uint32_t id, ml_arena *arena)
{
	absorbed f = {.id = id, .s = ML_NEW_ARRAY(s->px->scratch, float, m->k)};

	f.r = ml_awq_find(s->px, m, group_of(s->px), f.s, arena);
	if (f.r <= 0)
		return;
	ML_PUSH(s->px->scratch, s->absorbed, f);
	ml_absorb(s->px, m->value, f.s);
	divide_moments(m, f.s);
}

static void
scale_inputs(layers *s, round *r, int from, int to)
{
	bool *done = ML_NEW_ARRAY(&r->arena, bool, r->moments.count + 1);

	for (int i = from; i < to && r->moments.count; i++) {
		const layer *l = &s->at.at[i];
		ml_moments *m = &r->moments.at[l->moments];
		ml_arena arena;
		if (!l->known || done[l->moments] || !m->magnitude || m->drawn < 1)
			continue;
		done[l->moments] = true;
		ml_arena_init(&arena, &s->px->cx->memory);
		scale_input(s, m, l->id, &arena);
		ml_arena_free(&arena);
	}
}

/* ---- a round ---- */

/* Makes room for the moments of what the layer reads, perhaps together with others; false when
 * there is none. */
static bool
add_moments(round *r, layer *l, bool scale)
{
	ml_value *x = ml_in(l->n, 0);
	int64_t size = ml_triangle_size(l->k), bytes = size * (int64_t)sizeof(double);

	for (l->moments = 0; l->moments < r->moments.count; l->moments++)
		if (r->moments.at[l->moments].value == x)
			return true;
	if (r->moments.count && r->bytes + bytes > ROUND_BYTES)
		return false;
	r->bytes += bytes;
	ml_moments m = {.value = x,
			.k = l->k,
			.h = ML_NEW_ARRAY(&r->arena, double, size),
			.sum = ML_NEW_ARRAY(&r->arena, double, l->k)};
	if (scale && ml_can_absorb(x)) {
		m.magnitude = ML_NEW_ARRAY(&r->arena, double, l->k);
		m.row = ML_NEW_ARRAY(&r->arena, float, ML_MOMENTS_DRAWN * l->k);
	}
	ML_PUSH(&r->arena, r->moments, m);
	return true;
}

/* Quantizes layers from `from` on; *next is the first of the next round.  Later rounds see what
 * earlier ones have made of the model. */
static ml_status
run_round(layers *s, int from, int *next, round *r)
{
	ml_pass_ctx *px = s->px;
	int to = from;

	while (to < s->at.count && (!s->at.at[to].known || add_moments(r, &s->at.at[to], s->scale)))
		to++;
	if (r->moments.count)
		ML_STEP(ml_second_moments(px, s->m, r->moments.at, r->moments.count, ROWS));
	scale_inputs(s, r, from, to);
	for (int i = from; i < to && *px->fuel > 0; i++) {
		layer *l = &s->at.at[i];
		const ml_moments *m = l->known ? &r->moments.at[l->moments] : NULL;
		ml_arena arena;
		ml_arena_init(&arena, &px->cx->memory);
		ml_status status = quantize_layer(s, l, m, &arena);
		ml_arena_free(&arena);
		ML_STEP(status);
	}
	*next = to;
	return ML_OK;
}

/* Of layers of the main block without samples: what files know of their inputs, or else what can be
 * guessed. */
static ml_status
read_known(layers *s)
{
	ml_pass_ctx *px = s->px;
	bool known = ml_is_calibrated(px);
	ml_statistics *read = ML_NEW_ARRAY(px->scratch, ml_statistics, s->at.count + 1);
	ml_value **value = ML_NEW_ARRAY(px->scratch, ml_value *, s->at.count + 1);
	int n = 0;

	if (px->data)
		return ML_OK;
	for (int i = 0; i < s->at.count; i++)
		if (s->at.at[i].n->block == s->m->main)
			value[n++] = ml_in(s->at.at[i].n, 0);
	if (!n || (!known && !ml_guess(px, s->m, value, n, read)))
		return ML_OK;
	if (known)
		ML_STEP(ml_collect(px, s->m, value, n, read));
	for (int i = 0, k = 0; i < s->at.count; i++)
		if (s->at.at[i].n->block == s->m->main && read[k++].rows)
			s->at.at[i].read = &read[k - 1];
	if (known)
		ml_record_note(px->record,
			       "statistics are no samples: 4 bits are rounded to nearest, with "
			       "weighted scales, and not by GPTQ");
	return ML_OK;
}

static ml_status
run_rounds(layers *s)
{
	ml_status status = ml_for_each_block(s->m, find_layers, s);

	if (status == ML_OK)
		status = read_known(s);

	for (int i = 0; i < s->at.count && status == ML_OK;) {
		round r = {.bytes = 0};
		ml_arena_init(&r.arena, &s->px->cx->memory);
		status = run_round(s, i, &i, &r);
		ml_arena_free(&r.arena);
	}
	return status;
}

/* ---- the gate ---- */

typedef struct forms {
	ml_pass_ctx *px;
	ml_planned_list planned; /* all that can have eight bits */
	const layer **four;      /* of each of them; NULL: it cannot have four */
} forms;

static ml_value *
build(void *user, int i, int level, ml_node *n)
{
	const forms *f = user;

	return level == 2 ? build_u4(f->px, f->four[i], n)
			  : ml_build_linear(n, &f->planned.at[i].plan);
}

static void
list_layer(ml_gate *g, forms *f, int i, const layers *s)
{
	const ml_planned *p = &f->planned.at[i];

	for (int k = 0; k < s->at.count; k++)
		if (s->at.at[k].id == p->node->id && s->at.at[k].q)
			f->four[i] = &s->at.at[k];
	const layer *l = f->four[i];
	ml_describe_planned(g, i, p, l ? 3 : 2);
	if (!l)
		return;
	g->layer[i].bytes[2] = (double)(l->k * l->columns) / 2 + (double)l->scale->size +
			       (l->zero ? (double)l->zero->size / 2 : 0);
	ml_describe_weights(f->px, g->layer[i].name, ml_in(p->node, 1), l->scale, ML_f16);
}

static ml_status
choose(layers *s, ml_module *m)
{
	forms f = {.px = s->px};
	ml_gate g = {
		.px = s->px, .m = m, .form = {"fp32", "u8s8", "u4"}, .build = build, .user = &f};

	ML_STEP(ml_plan_linear(s->px, m, &f.planned));
	if (!f.planned.count)
		return ML_OK;
	g.layers = f.planned.count;
	g.layer = ML_NEW_ARRAY(s->px->scratch, ml_gate_layer, g.layers);
	f.four = ML_NEW_ARRAY(s->px->scratch, const layer *, g.layers);
	for (int i = 0; i < g.layers; i++)
		list_layer(&g, &f, i, s);
	ML_STEP(ml_gate_run(&g));
	return ml_gate_finish(&g, m);
}

/* ---- with factors or without ---- */

/* Layers of the main block are rounded in a copy, behind each other, before any is chosen. */
static ml_status
round_copy(layers *s, const ml_module *m)
{
	s->m = s->keeper = ml_module_clone(m);
	return run_rounds(s);
}

typedef struct rounded {
	const layers *plain, *scaled;
} rounded;

static ml_status
lend(void *user, bool scaled, const ml_module **m)
{
	const rounded *r = user;

	*m = scaled ? r->scaled->m : r->plain->m;
	return ML_OK;
}

static void
absorb_all(const layers *s, ml_module *m)
{
	for (int i = 0; i < s->absorbed.count; i++) {
		const absorbed *f = &s->absorbed.at[i];
		ml_node *n = ml_node_by_id(m, f->id);
		ml_remark(s->px->cx, n->prov,
			  "inputs divided by their magnitude to the %.2f before 4 bits (AWQ)",
			  f->r);
		ml_absorb(s->px, ml_in(n, 0), f->s);
		ml_spend_fuel(s->px);
		s->px->changes++;
	}
}

/* Where no input gets factors, the copy that might have had some has none. */
static ml_status
round_best(layers *scaled, layers *plain, ml_module *m)
{
	rounded both = {plain, scaled};
	ml_rivals r = {.kind = "awq",
		       .of = "inputs",
		       .changed = "factors",
		       .m = m,
		       .make = lend,
		       .user = &both};
	bool better = false;

	ML_STEP(round_copy(scaled, m));
	if (!scaled->absorbed.count)
		return choose(scaled, m);
	ML_STEP(round_copy(plain, m));
	if (*plain->px->fuel >= scaled->absorbed.count)
		ML_STEP(ml_prefer(plain->px, &r, &better));
	if (better)
		absorb_all(scaled, m);
	return choose(better ? scaled : plain, m);
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	layers s = {.px = px, .m = m, .keeper = m};

	ML_STEP(run_rounds(&s));
	if (!px->data)
		return ML_OK;
	layers scaled = {.px = px, .main = true, .scale = true}, plain = {.px = px, .main = true};
	ml_status status = round_best(&scaled, &plain, m);
	if (scaled.m)
		ml_module_free(scaled.m);
	if (plain.m)
		ml_module_free(plain.m);
	return status;
}

ML_PASS(quantize_u4, ML_LOSSY, run, "linear layers on 4-bit weights with a scale per group");
