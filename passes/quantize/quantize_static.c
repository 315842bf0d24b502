/* quantize_static.c -- layers on 8-bit integers with ranges that calibration data shows.
 *
 * Values that layers read are quantized to u8 with one scale and zero point each, and dequantized
 * again; weights are s8 per output channel.  The passes behind this one then move both ends
 * together, so that only integers lie between layers:
 *
 *   value -> quantize -> dequantize -> conv, linear, pool, add
 *
 * What is computed between a layer and the quantization of its result is done in floats while the
 * sum is at hand; of several layers whose results meet there (a residual), all but the last are
 * quantized before.
 */
#include "describe.h"
#include "layers.h"
#include "observe.h"
#include <float.h>
#include <math.h>

enum {
	DEEPEST = 64, /* nodes behind each other */
	SETTLED = -1, /* mark of movement that has been gone through */
};

/* A value that is to be quantized, and who then reads it. */
typedef struct site {
	ml_value *value;
	ML_VEC(ml_use *) readers;
} site;

typedef struct sites {
	ml_pass_ctx *px;
	const ml_gate *gate; /* whose layers of level 0 are left out; NULL: none are */
	ML_VEC(site) at;
} sites;

static void
add_reader(sites *s, ml_use *u)
{
	ml_arena *arena = s->px->scratch;
	int i = 0;

	while (i < s->at.count && s->at.at[i].value != u->value)
		i++;
	if (i == s->at.count)
		ML_PUSH(arena, s->at, (site){.value = u->value});
	site *at = &s->at.at[i];
	for (int k = 0; k < at->readers.count; k++)
		if (at->readers.at[k] == u)
			return;
	ML_PUSH(arena, at->readers, u);
}

static bool
is_site(const sites *s, const ml_value *v)
{
	for (int i = 0; i < s->at.count; i++)
		if (s->at.at[i].value == v)
			return true;
	return false;
}

static bool
is_elementwise(const ml_node *n)
{
	return n && ml_op_get(n->op)->cls == ML_ELEMENTWISE && n->op != ML_OP_cast;
}

/* ---- what is read in floats beside a layer's sum ---- */

/* The layers whose results meet in the elementwise nodes behind one value. */
typedef struct meeting {
	sites *s;
	const ml_type *space;
	ML_VEC(ml_use *) layers;
} meeting;

static bool
all_readers_elementwise(const ml_value *v)
{
	for (const ml_use *u = v->uses; u; u = u->next)
		if (!is_elementwise(u->user))
			return false;
	return true;
}

static void
meet(meeting *m, ml_node *n, int depth)
{
	if (!is_elementwise(n) || depth == DEEPEST || n->scratch == (intptr_t)m->space)
		return;
	n->scratch = (intptr_t)m->space;
	for (int i = 0; i < n->nin; i++) {
		ml_value *v = ml_in(n, i);
		if (ml_is_const(v) || v->type.dtype != ML_f32 ||
		    !ml_type_same_shape(&v->type, m->space))
			continue;
		bool inner = v->def && all_readers_elementwise(v) && !is_site(m->s, v);
		if (inner && is_elementwise(v->def))
			meet(m, v->def, depth + 1);
		else if (inner && ml_is_layer(v->def))
			ML_PUSH(m->s->px->scratch, m->layers, &n->in[i]);
		else
			add_reader(m->s, &n->in[i]);
	}
}

/* What moves elements or takes the largest: its operands will be quantized in its place. */
static bool
is_moved(const ml_node *n)
{
	return n && (ml_op_get(n->op)->cls == ML_MOVE || n->op == ML_OP_reduce_max ||
		     n->op == ML_OP_reduce_min);
}

/* Where results meet, the layer that comes last computes there; the others write integers. */
static void
settle_meeting(sites *s, const ml_value *v, int depth)
{
	meeting m = {.s = s, .space = &v->type};
	const ml_node *last = NULL;

	if (is_moved(v->def) && depth < DEEPEST) {
		int operands = v->def->op == ML_OP_concat ? v->def->nin : 1;
		if (v->def->scratch == SETTLED)
			return;
		v->def->scratch = SETTLED;
		for (int i = 0; i < operands; i++)
			if (!is_site(s, ml_in(v->def, i)))
				settle_meeting(s, ml_in(v->def, i), depth + 1);
		return;
	}
	meet(&m, v->def, 0);
	for (int i = 0; i < m.layers.count; i++)
		if (!last || m.layers.at[i]->value->def->id > last->id)
			last = m.layers.at[i]->value->def;
	for (int i = 0; i < m.layers.count; i++)
		if (m.layers.at[i]->value->def != last)
			add_reader(s, m.layers.at[i]);
}

/* ---- finding sites ---- */

/* A pool over what a convolution computes: a mean over spatial axes. */
static bool
is_pool(const ml_node *n)
{
	const ml_value *v = n->op == ML_OP_reduce_mean ? ml_in(n, 0) : NULL;

	if (!v || v->type.dtype != ML_f32 || v->type.rank < 3)
		return false;
	for (int depth = 0; v->def && depth < DEEPEST; depth++) {
		if (v->def->op == ML_OP_conv)
			return ml_is_layer(v->def);
		if (!is_elementwise(v->def) && ml_op_get(v->def->op)->cls != ML_MOVE)
			return false;
		v = ml_is_const(ml_in(v->def, 0)) ? ml_in(v->def, 1) : ml_in(v->def, 0);
	}
	return false;
}

static bool
is_candidate(const ml_node *n)
{
	return (ml_is_layer(n) && ml_in(n, 0)->type.dtype == ML_f32) || is_pool(n);
}

static bool
stays_in_floats(const ml_gate *g, const ml_node *n)
{
	for (int i = 0; g && i < g->layers; i++)
		if (g->layer[i].id == n->id)
			return !g->layer[i].level;
	return false;
}

static void
find_sites(sites *s, ml_module *m)
{
	for (ml_node *n = m->main->first; n; n = n->next) {
		n->scratch = 0;
		if (is_candidate(n) && !stays_in_floats(s->gate, n))
			add_reader(s, &n->in[0]);
	}
	for (int i = 0; i < s->at.count; i++)
		settle_meeting(s, s->at.at[i].value, 0);
}

/* ---- rewriting ---- */

static float
scale_of(const ml_range *r)
{
	float scale = (float)((r->high - r->low) / 255);

	return scale >= FLT_MIN && scale <= FLT_MAX ? scale : 1;
}

static bool
is_usable(const ml_range *r)
{
	return isfinite(r->high - r->low) && r->high - r->low <= FLT_MAX;
}

/* quantize, dequantize behind the value. */
static ml_value *
quantized(ml_pass_ctx *px, ml_module *m, ml_value *v, const ml_range *r)
{
	ml_builder b = ml_builder_before(v->def ? v->def->next : m->main->first);
	float scale = scale_of(r);
	double zero = fmin(fmax(rint(-r->low / scale), 0), UINT8_MAX);

	b.prov = v->def ? v->def->prov : b.prov;
	ml_value *s = ml_build_f64(&b, ML_f32, scale), *z = ml_build_f64(&b, ML_u8, zero);
	ml_value *q = ml_op3(&b, ML_OP_quantize, v, s, z);
	ml_remark(px->cx, b.prov, "quantized: u8 for %g to %g", r->low, r->high);
	return ml_op3(&b, ML_OP_dequantize, q, s, z);
}

/* ---- what calibration data has shown ---- */

typedef struct calibration {
	ml_pass_ctx *px;
	ml_value **value; /* of the module */
	ml_range *range;
	int n;
	int *input; /* of each of the gate's layers, among the values */
} calibration;

/* Is it v in another copy of its module? */
static bool
is_same(const ml_value *copy, const ml_value *v)
{
	if (copy->index != v->index)
		return false;
	return copy->def && v->def ? copy->def->id == v->def->id : copy->def == v->def;
}

static const ml_range *
range_of(const calibration *c, const ml_value *v)
{
	for (int i = 0; i < c->n; i++)
		if (is_same(v, c->value[i]))
			return &c->range[i];
	return NULL;
}

/* ---- candidates ---- */

static ml_status
quantize_sites(sites *s, const calibration *c, ml_module *m)
{
	for (int i = 0; i < s->at.count; i++) {
		site *at = &s->at.at[i];
		const ml_range *r = range_of(c, at->value);
		if (!r || !is_usable(r))
			continue;
		ml_value *v = quantized(s->px, m, at->value, r);
		if (!v)
			return ML_ERR_PASS;
		for (int k = 0; k < at->readers.count; k++) {
			ml_node *reader = at->readers.at[k]->user;
			ml_set_operand(reader, (int)(at->readers.at[k] - reader->in), v);
		}
	}
	return ML_OK;
}

static ml_status
rewrite(sites *s, const calibration *c, ml_module *m)
{
	ML_STEP(quantize_sites(s, c, m));
	for (ml_node *n = m->main->first; n; n = n->next)
		if (ml_is_layer(n) && ml_is(ml_in(n, 0), ML_OP_dequantize) &&
		    !stays_in_floats(s->gate, n))
			ml_quantize_layer(s->px, n);
	return ML_OK;
}

/* All that is quantized is, in a copy of the module or the module. */
static ml_status
apply(const ml_gate *g, ml_module *m)
{
	sites s = {.px = g->px, .gate = g};

	find_sites(&s, m);
	return rewrite(&s, g->user, m);
}

/* A layer by itself; it may stand in a module of its own, so that its input is found by the layer's
 * number. */
static ml_value *
build(void *user, int i, int level, ml_node *n)
{
	const calibration *c = user;

	(void)level;
	ml_value *x = quantized(c->px, n->block->module, ml_in(n, 0), &c->range[c->input[i]]);
	return x ? ml_build_layer(c->px, n, x) : NULL;
}

/* ---- in all ---- */

static ml_status
observe(calibration *c, sites *s, ml_module *m)
{
	c->n = s->at.count;
	c->value = ML_NEW_ARRAY(c->px->scratch, ml_value *, c->n + 1);
	c->range = ML_NEW_ARRAY(c->px->scratch, ml_range, c->n + 1);
	for (int i = 0; i < c->n; i++)
		c->value[i] = s->at.at[i].value;
	return ml_observe(c->px, m, c->value, c->n, c->range);
}

ml_status
ml_quantize_all(ml_pass_ctx *px, ml_module *m)
{
	sites s = {.px = px};
	calibration c = {.px = px};

	find_sites(&s, m);
	ML_STEP(observe(&c, &s, m));
	return rewrite(&s, &c, m);
}

static void
list_layers(calibration *c, ml_gate *g, const ml_module *m)
{
	int most = 0;

	for (const ml_node *n = m->main->first; n; n = n->next)
		most++;
	g->layer = ML_NEW_ARRAY(c->px->scratch, ml_gate_layer, most);
	c->input = ML_NEW_ARRAY(c->px->scratch, int, most);
	for (const ml_node *n = m->main->first; n; n = n->next) {
		const ml_range *r = is_candidate(n) ? range_of(c, ml_in(n, 0)) : NULL;
		if (r && !is_usable(r))
			ml_remark(c->px->cx, n->prov, "kept in fp32: what it reads is not finite");
		if (!r || !is_usable(r))
			continue;
		c->input[g->layers] = (int)(r - c->range);
		const char *name = ml_list_layer(g, n)->name;
		ml_describe_number(c->px, name, "input low", r->low);
		ml_describe_number(c->px, name, "input high", r->high);
		ml_describe_number(c->px, name, "input scale", (double)scale_of(r));
	}
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	sites s = {.px = px};
	calibration c = {.px = px};
	ml_gate g = {.px = px,
		     .m = m,
		     .form = {"fp32", "u8s8 static"},
		     .build = build,
		     .apply = apply,
		     .user = &c};

	find_sites(&s, m);
	if (!s.at.count)
		return ML_OK;
	ML_STEP(observe(&c, &s, m));
	list_layers(&c, &g, m);
	if (!g.layers)
		return ML_OK;
	ML_STEP(ml_gate_run(&g));
	return ml_gate_finish(&g, m);
}

ML_PASS(quantize_static, ML_LOSSY, run, "layers on u8 with ranges from calibration data");
