/* products.c -- products of a training as those of bf16, which some CPUs multiply faster by far.
 *
 * What layers and their gradients multiply is rounded and widened again at once, so that all else
 * is of f32 as before: sums, weights and moments.  Teacher and student are rounded alike: what is
 * untouched still has a loss of exactly 0.
 */
#include "../../ir/expand.h"
#include "distill.h"

/* A value and what stands in its place. */
typedef struct rounded {
	ml_value *from, *to;
} rounded;

typedef struct narrowing {
	ml_arena *arena;
	ML_VEC(rounded) value;
} narrowing;

static bool
is_factor(const ml_value *v)
{
	return v->type.dtype == ML_f32 && v->type.rank > 1;
}

/* Of a layer or its gradients; those of attention are many, and small. */
static bool
is_product(const ml_node *n)
{
	bool one = n->op == ML_OP_linear || (n->op == ML_OP_dot && !ML_A(n, dot, lhs_batch).count);

	return one && is_factor(ml_in(n, 0)) && is_factor(ml_in(n, 1));
}

/* Each value once, right behind what computes it. */
static ml_status
round_operand(narrowing *w, ml_node *n, int i)
{
	ml_value *v = ml_in(n, i);

	for (int k = 0; k < w->value.count; k++)
		if (w->value.at[k].from == v) {
			ml_set_operand(n, i, w->value.at[k].to);
			return ML_OK;
		}
	ml_builder b = ml_builder_before(v->def ? v->def->next : n->block->first);
	ml_value *to = ml_build_cast(&b, ml_build_cast(&b, v, ML_bf16), ML_f32);
	ML_STEP(b.failed);
	ML_PUSH(w->arena, w->value, ((rounded){v, to}));
	ml_set_operand(n, i, to);
	return ML_OK;
}

/* The last axis stays: as gradients of biases are. */
static bool
sums_columns(const ml_node *n)
{
	if (n->op != ML_OP_reduce_sum)
		return false;
	const ml_attr *axes = &ML_A(n, reduce_sum, axes);
	for (int i = 0; i < axes->count; i++)
		if (axes->ints[i] == ml_in(n, 0)->type.rank - 1)
			return false;
	return true;
}

/* Gradients of biases sum what those of weights multiply: then it is nowhere needed in f32. */
static void
round_sums(const rounded *r)
{
	for (ml_use *u = r->from->uses, *next; u; u = next) {
		next = u->next;
		if (sums_columns(u->user))
			ml_set_operand(u->user, 0, r->to);
	}
}

ml_status
ml_round_products(ml_module *m)
{
	narrowing w = {.arena = &m->arena};

	for (ml_node *n = m->main->first; n; n = n->next)
		for (int i = 0; i < 2 && is_product(n); i++)
			ML_STEP(round_operand(&w, n, i));
	for (int i = 0; i < w.value.count; i++)
		round_sums(&w.value.at[i]);
	return ML_OK;
}
