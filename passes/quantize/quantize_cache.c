/* quantize_cache.c -- keys and values that a decoder keeps, as s8 with a scale per token and head.
 *
 * A cache is an input that something is appended to, whose whole is a result and what attention
 * reads.  Input and result become integers, their scales an input and a result beside them, behind
 * all others: rows are quantized once, when they are appended, and attention widens what it reads.
 * It is a bargain of the user's, for whom a quarter of the memory is worth another signature;
 * everything that is measured on samples has been measured before.
 */
#include "../../ir/attention.h"
#include "../../ir/expand.h"
#include "../pass.h"
#include <float.h>

enum { TOP = 127 };

typedef struct cache {
	ml_node *concat;
	ml_value *past, *row; /* row: what is appended */
	int result;           /* its number */
} cache;

typedef struct caches {
	ml_pass_ctx *px;
	ml_module *m;
	ML_VEC(cache) at;
	ML_VEC(ml_value *) results; /* of the module as it will be */
} caches;

/* Is all that reads v attention, for keys or values, perhaps through views? */
static bool
is_for_attention(const ml_value *v)
{
	bool any = false;

	for (const ml_use *u = v->uses; u; u = u->next) {
		if (u->user->op == ML_OP_yield) /* as a result */
			continue;
		if (!ml_is_for_attention(u))
			return false;
		any = true;
	}
	return any;
}

/* What speaks against it; NULL when nothing does. */
static const char *
objection(const cache *c)
{
	const ml_value *v = &c->concat->out[0];
	int results = 0;

	for (const ml_use *u = v->uses; u; u = u->next)
		results += u->user->op == ML_OP_yield;
	if (ml_use_count(c->past) != 1 || results != 1)
		return "others read it, too";
	if (v->type.dtype != ML_f32 || v->type.rank < 3)
		return "it is no f32 tensor of tokens and heads";
	if (ML_A(c->concat, concat, axis).i64 == v->type.rank - 1)
		return "it grows along its rows";
	return is_for_attention(v) ? NULL : "what reads it is no attention";
}

static void
find_caches(caches *s)
{
	const ml_node *yield = s->m->main->last;

	for (int i = 0; i < yield->nin; i++) {
		ml_value *v = ml_in(yield, i);
		ML_PUSH(s->px->scratch, s->results, v);
		if (!ml_is(v, ML_OP_concat) || v->def->nin != 2 || ml_in(v->def, 0)->def ||
		    *s->px->fuel <= s->at.count)
			continue;
		cache c = {v->def, ml_in(v->def, 0), ml_in(v->def, 1), i};
		const char *why = objection(&c);
		if (why)
			ml_remark(s->px->cx, v->def->prov, "cache kept in f32: %s", why);
		else
			ML_PUSH(s->px->scratch, s->at, c);
	}
}

/* ---- rewriting ---- */

/* Largest magnitude / 127; of rows of zeros, 1. */
static ml_value *
scale_of(ml_builder *b, ml_value *x)
{
	const int64_t last = x->type.rank - 1;
	ml_value *top = ml_build_reduce(b, ML_OP_reduce_max, ml_op1(b, ML_OP_abs, x), &last, 1);
	ml_value *scale = ml_op_number(b, ML_OP_mul, top, 1. / TOP);
	ml_value *empty = ml_op_number(b, ML_OP_lt, scale, (double)FLT_MIN);

	return ml_op3(b, ML_OP_select, empty, ml_build_f64(b, ML_f32, 1), scale);
}

static ml_value *
append(ml_builder *b, ml_value *past, ml_value *row, const ml_node *as)
{
	ml_value *in[] = {past, row};

	return ml_build_concat(b, in, 2, (int)ML_A(as, concat, axis).i64);
}

static ml_status
quantize(caches *s, const cache *c)
{
	ml_module *m = s->m;
	ml_value *v = &c->concat->out[0];
	int last = v->type.rank - 1;
	ml_type t = c->past->type;
	ml_builder at = ml_builder_before(c->concat), *b = &at;

	ml_value *scale = scale_of(b, c->row);
	ml_value *q = ml_op1(b, ML_OP_round, ml_op2(b, ML_OP_div, c->row, scale));
	q = ml_build_cast(b, q, ML_s8);
	t.dim[last] = ml_dim_int(m->dims, 1);
	ml_value *scales = ml_block_add_arg(
		m->main, &t,
		ml_format(s->px->scratch, "%s.scale", c->past->name ? c->past->name : "past"));
	/* The past changes its type, which nobody but this concatenation has seen. */
	ml_set_operand(c->concat, 0, c->row);
	c->past->type.dtype = ML_s8;
	ml_value *bytes = append(b, c->past, q, c->concat);
	scales = append(b, scales, scale, c->concat);
	ml_value *wide = ml_op2(b, ML_OP_mul, ml_build_cast(b, bytes, ML_f32), scales);
	if (!wide)
		return ML_ERR_PASS;
	bytes->name = v->name;
	s->results.at[c->result] = bytes;
	ML_PUSH(s->px->scratch, s->results, scales);
	const char *name = m->output_names.at[c->result];
	ML_PUSH(&m->arena, m->output_names, ml_format(&m->arena, "%s.scale", name));
	ml_replace_uses(v, wide); /* in the old yield, too, which goes */
	ml_spend_fuel(s->px);
	ml_remark(s->px->cx, bytes->def->prov, "cache quantized: s8 with a scale per row");
	s->px->changes++;
	return ML_OK;
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	caches s = {.px = px, .m = m};

	find_caches(&s);
	if (!s.at.count)
		ml_record_note(px->record, "no cache was found that attention reads: nothing is "
					   "kept in 8 bits");
	for (int i = 0; i < s.at.count; i++)
		ML_STEP(quantize(&s, &s.at.at[i]));
	if (!s.at.count)
		return ML_OK;
	ml_record_note(px->record,
		       "%d caches are s8 now, inputs and results alike; their scales, "
		       "NAME.scale, stand behind all others",
		       s.at.count);
	ml_node_remove(m->main->last);
	for (int i = 0; i < s.at.count; i++)
		ml_node_remove(s.at.at[i].concat);
	ml_builder b = ml_builder_at_end(m->main, NULL);
	return ml_build_yield(&b, s.results.at, s.results.count);
}

ML_PASS(quantize_cache, ML_LOSSY, run, "keys and values of decoders as s8 with a scale per row");
