/* remove.c -- takes residual branches out of a module: the stream goes on without them. */
#include "../pass.h"
#include "blocks.h"

/* Zeros of a type that a cache can be continued with. */
static ml_value *
zeros(ml_builder *b, const ml_type *t)
{
	return ml_build_broadcast(b, ml_build_f64(b, t->dtype, 0), t->dim, t->rank);
}

static bool
is_inside(const ml_branch *b, const ml_value *v)
{
	for (int i = 0; i < b->nodes; i++)
		if (v->def == b->node[i])
			return true;
	return false;
}

/* What stands for a result of the model that the branch computed: what it appended to, zeros behind
 * it. */
static ml_value *
stand_in(ml_builder *b, const ml_branch *branch, const ml_value *v)
{
	const ml_node *n = v->def;

	if (n->op != ML_OP_concat)
		return zeros(b, &v->type);
	ml_value **part = ML_NEW_ARRAY(&b->m->arena, ml_value *, n->nin);
	for (int i = 0; i < n->nin; i++) {
		ml_value *in = ml_in(n, i);
		part[i] = is_inside(branch, in) ? zeros(b, &in->type) : in;
	}
	return ml_build_concat(b, part, n->nin, (int)ML_A(n, concat, axis).i64);
}

static ml_status
detach_results(ml_module *m, const ml_branch *branch)
{
	ml_node *yield = m->main->last;

	for (int i = 0; i < yield->nin; i++) {
		ml_value *v = ml_in(yield, i);
		if (!is_inside(branch, v))
			continue;
		ml_builder b = ml_builder_before(yield);
		ml_value *with = stand_in(&b, branch, v);
		ML_STEP(b.failed);
		with->name = v->name;
		ml_set_operand(yield, i, with);
	}
	return ML_OK;
}

/* The sum without this term. */
static void
drop_term(const ml_branch *b)
{
	ml_node *add = b->term->uses->user;
	ml_value *other = ml_in(add, b->term->uses == &add->in[0]);

	ml_replace_uses(&add->out[0], other);
}

ml_status
ml_remove_branches(ml_module *m, const ml_blocks *blocks, const bool *keep)
{
	const ml_branch *b = blocks->branch.at;

	/* From the end on: streams that later branches read are still there. */
	for (int end = blocks->branch.count, first; end > 0; end = first) {
		int gone = 0;
		for (first = end - 1; first > 0 && b[first - 1].sum == b[first].sum;)
			first--;
		for (int i = first; i < end; i++) {
			if (keep[i])
				continue;
			ML_STEP(detach_results(m, &b[i]));
			gone++;
		}
		if (gone == end - first) {
			ml_replace_uses(b[first].out, b[first].in);
			continue;
		}
		for (int i = first; i < end; i++)
			if (!keep[i])
				drop_term(&b[i]);
	}
	ml_drop_unused(m->main);
	return ML_OK;
}
