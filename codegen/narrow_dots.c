/* narrow_dots.c -- dots of what was bf16 before it was widened to f32 multiply it as it was.
 *
 * dot(widen a, widen b) has the same sums as dot(a, b): products of bf16 are exact in f32 either
 * way.  Index maps between the widening and the dot (windows of images, transposes) are the same
 * maps of bf16.
 */
#include "plan.h"

typedef struct narrowing {
	ml_arena *arena;
	ML_VEC(const ml_value *) from; /* f32, and */
	ML_VEC(ml_value *) to;         /* the same numbers as bf16 */
} narrowing;

/* Elements of its operand in other places, or zeros. */
static bool
is_map(const ml_node *n)
{
	double fill;

	switch (n->op) {
	case ML_OP_reshape:
	case ML_OP_transpose:
	case ML_OP_broadcast:
	case ML_OP_slice:
	case ML_OP_reverse:
	case ML_OP_window: return true;
	case ML_OP_pad: return ml_is_splat(ml_in(n, 1), &fill) && fill == 0;
	default: return false;
	}
}

static bool
was_narrow(const ml_value *v)
{
	while (!ml_is_widening(v) && v->def && is_map(v->def))
		v = ml_in(v->def, 0);
	return ml_is_widening(v);
}

static ml_value *
narrowed(narrowing *w, ml_value *v)
{
	if (ml_is_widening(v))
		return ml_in(v->def, 0);
	for (int i = 0; i < w->from.count; i++)
		if (w->from.at[i] == v)
			return w->to.at[i];
	const ml_node *n = v->def;
	ml_value *in[2] = {narrowed(w, ml_in(n, 0)), NULL};
	ml_builder b = ml_builder_before(v->def);
	if (n->op == ML_OP_pad)
		in[1] = ml_build_f64(&b, ML_bf16, 0);
	ml_node *map = ml_begin_like(&b, n, in, n->nin);
	if (!map)
		return NULL;
	ml_value *made = ml_finish1(&b, map);
	ML_PUSH(w->arena, w->from, v);
	ML_PUSH(w->arena, w->to, made);
	return made;
}

ml_status
ml_narrow_dots(ml_block *block)
{
	narrowing w = {.arena = &block->module->arena};

	for (ml_node *n = block->first; n; n = n->next) {
		if (n->op != ML_OP_dot || !ml_has_tile(n) || !was_narrow(ml_in(n, 0)) ||
		    !was_narrow(ml_in(n, 1)))
			continue;
		for (int i = 0; i < 2; i++) {
			ml_value *v = narrowed(&w, ml_in(n, i));
			if (!v)
				return ML_ERR_PASS;
			ml_set_operand(n, i, v);
		}
	}
	return ML_OK;
}
