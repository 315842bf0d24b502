/* state.c -- results that append to an input, such as the keys of a decoder: kept by a session they
 * grow in place.
 *
 * Input and result may be one piece of memory with room for more rows than there are.  So in memory
 * their types have room for rows where the model has rows: kernels read a slice of it and write
 * within it, the plan function sets the room to what the state's word says, and the past is copied
 * only when the word is 0: then both are plain tensors.
 */
#include "plan.h"
#include <string.h>

/* Kernels read elements; other steps read bytes as a plain tensor has them. */
static bool
is_read_by_kernels(const ml_value *v)
{
	for (const ml_use *u = v->uses; u; u = u->next) {
		const ml_node *n = u->user;
		ml_class c = ml_op_get(n->op)->cls;
		if (n->op == ML_OP_yield)
			continue;
		if (n->op == ML_OP_scatter || n->op == ML_OP_scan_sum || n->op == ML_OP_scan_prod ||
		    (c != ML_ELEMENTWISE && c != ML_MOVE && c != ML_REDUCE && c != ML_CONTRACT &&
		     c != ML_COMPOSITE))
			return false;
		if (n->op == ML_OP_reshape && !is_read_by_kernels(&n->out[0]))
			return false;
	}
	return true;
}

static int
count_results(const ml_value *v)
{
	int n = 0;

	for (const ml_use *u = v->uses; u; u = u->next)
		n += u->user->op == ML_OP_yield;
	return n;
}

/* A symbol of a name that the module does not have. */
static const ml_sym *
new_symbol(ml_plan *plan, const char *what)
{
	ml_dims *dims = plan->m->dims;

	for (int i = 0;; i++) {
		int before = ml_sym_count(dims);
		const char *name = ml_format(plan->arena, "%s %d", what, i);
		const ml_sym *s = ml_sym_named(dims, name, strlen(name));
		if (ml_sym_count(dims) > before)
			return s;
	}
}

void
ml_find_states(ml_plan *plan)
{
	const ml_block *main = plan->m->main;

	for (int i = 0; plan->opt_level > 0 && i < main->last->nin; i++) {
		ml_value *v = ml_in(main->last, i),
			 *past = ml_is(v, ML_OP_concat) && v->def->nin == 2 ? ml_in(v->def, 0)
									    : NULL;
		if (!past || past->def || past == ml_in(v->def, 1) || ml_state_of(plan, past) ||
		    count_results(v) != 1 || !is_read_by_kernels(past) || !is_read_by_kernels(v))
			continue;
		ml_state s = {.in = past->index,
			      .out = i,
			      .axis = ML_A(v->def, concat, axis).i64,
			      .past = past,
			      .present = v,
			      .past_room = new_symbol(plan, "room of the past"),
			      .present_room = new_symbol(plan, "room of the present"),
			      .copied = new_symbol(plan, "rows copied")};
		ML_PUSH(plan->arena, plan->states, s);
	}
}

const ml_state *
ml_state_of(const ml_plan *plan, const ml_value *v)
{
	for (int i = 0; i < plan->states.count; i++)
		if (plan->states.at[i].past == v || plan->states.at[i].present == v)
			return &plan->states.at[i];
	return NULL;
}

ml_type
ml_state_memory(const ml_plan *plan, const ml_value *v)
{
	const ml_state *s = ml_state_of(plan, v);
	ml_type t = v->type;

	if (s)
		t.dim[s->axis] =
			ml_dim_sym(plan->m->dims, v == s->past ? s->past_room : s->present_room);
	return t;
}
