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

static void
find_sites(sites *s, ml_module *m)
{
	for (ml_node *n = m->main->first; n; n = n->next) {
		n->scratch = 0;
		if ((ml_is_layer(n) && ml_in(n, 0)->type.dtype == ML_f32) || is_pool(n))
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

static ml_status
quantize_sites(sites *s, ml_module *m, const ml_range *range)
{
	ml_pass_ctx *px = s->px;

	for (int i = 0; i < s->at.count && *px->fuel > 0; i++) {
		site *at = &s->at.at[i];
		if (!is_usable(&range[i])) {
			ml_remark(px->cx, at->value->def ? at->value->def->prov : NULL,
				  "kept in fp32: its values are not finite");
			continue;
		}
		ml_value *v = quantized(px, m, at->value, &range[i]);
		if (!v)
			return ML_ERR_PASS;
		for (int k = 0; k < at->readers.count; k++) {
			ml_node *reader = at->readers.at[k]->user;
			ml_set_operand(reader, (int)(at->readers.at[k] - reader->in), v);
		}
		ml_spend_fuel(px);
		px->changes++;
	}
	return ML_OK;
}

static ml_status
quantize_layers(ml_pass_ctx *px, ml_module *m)
{
	for (ml_node *n = m->main->first; n && *px->fuel > 0; n = n->next) {
		if (!ml_is_layer(n) || !ml_is(ml_in(n, 0), ML_OP_dequantize) ||
		    !ml_quantize_layer(px, n))
			continue;
		ml_spend_fuel(px);
		px->changes++;
	}
	ml_drop_unused(m->main);
	return ML_OK;
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	sites s = {.px = px};

	find_sites(&s, m);
	ml_value **value = ML_NEW_ARRAY(px->scratch, ml_value *, s.at.count + 1);
	ml_range *range = ML_NEW_ARRAY(px->scratch, ml_range, s.at.count + 1);
	for (int i = 0; i < s.at.count; i++)
		value[i] = s.at.at[i].value;
	if (!s.at.count)
		return ML_OK;
	ML_STEP(ml_observe(px, m, value, s.at.count, range));
	ML_STEP(quantize_sites(&s, m, range));
	return quantize_layers(px, m);
}

ML_PASS(quantize_static, ML_LOSSY, run, "layers on u8 with ranges from calibration data");
