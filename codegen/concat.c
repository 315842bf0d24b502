/* concat.c -- operands of a concatenation that are computed where the whole will lie.
 *
 * A kernel stores such a part within the whole's bytes, and whoever else reads it reads a slice of
 * these; what is left of the concatenation copies the other operands.  Parts may be wholes, too:
 * all of them lie within the outermost.
 */
#include "plan.h"

enum { RUN = 16 /* neighbours: parts of fewer are stored one by one, where copies are not */ };

/* The value that the kernel computing v's group stores as v: v, or one behind views; NULL: v is
 * stored by no kernel. */
static const ml_value *
stored_as(const ml_value *v)
{
	const ml_value *u = v;

	while (u->def && !ml_note_of(u->def)->group &&
	       (u->def->op == ML_OP_reshape || u->def->op == ML_OP_transpose))
		u = ml_in(u->def, 0);
	return u->def && ml_note_of(u->def)->group && ml_fact_of(u)->stored == v ? u : NULL;
}

/* Kernels that store element by element and only what their nodes compute. */
static bool
may_store_within(const ml_group *g)
{
	if (g->family != ML_FAMILY_ROWS && g->family != ML_FAMILY_CONTRACT)
		return false;
	for (int i = 0; i < g->nodes.count; i++)
		if (g->nodes.at[i]->op == ML_OP_pad)
			return false;
	return true;
}

/* Nobody needs v's elements one behind the other. */
static bool
is_read_anywhere(const ml_value *v, const ml_node *concat)
{
	for (const ml_use *u = v->uses; u; u = u->next) {
		const ml_node *n = u->user;
		ml_class c = ml_class_of(n);
		if (n == concat || n->op == ML_OP_concat || c == ML_ELEMENTWISE)
			continue;
		if (c != ML_CONTRACT && (c != ML_REDUCE || n->op > ML_OP_reduce_max))
			return false;
	}
	return true;
}

static bool
has_runs(const ml_value *part, int64_t axis)
{
	int64_t size;

	return axis < part->type.rank - 1 || !ml_dim_is_int(part->type.dim[axis], &size) ||
	       size >= RUN;
}

static bool
can_be_part(const ml_plan *plan, const ml_value *v, const ml_node *concat)
{
	const ml_value *u = stored_as(v);

	return u && !ml_fact_of(v)->whole && !ml_state_of(plan, v) &&
	       may_store_within(ml_note_of(u->def)->group) && is_read_anywhere(v, concat) &&
	       has_runs(v, ML_A(concat, concat, axis).i64);
}

/* Places what can be placed, if copying the others is not most of the work. */
static void
place_parts(ml_planner *p, ml_node *n)
{
	ml_dims *dims = p->plan->m->dims;
	int64_t axis = ML_A(n, concat, axis).i64;
	ml_dim at = ml_dim_int(dims, 0);
	int placed = 0;

	for (int i = 0; i < n->nin; i++)
		placed += can_be_part(p->plan, ml_in(n, i), n);
	for (int i = 0; i < n->nin && 2 * placed >= n->nin; i++) {
		ml_value *v = ml_in(n, i);
		if (can_be_part(p->plan, v, n)) {
			ml_fact *f = ml_fact_of(v);
			f->whole = &n->out[0];
			f->operand = i;
			f->at = at;
		}
		at = ml_dim_add(dims, at, v->type.dim[axis]);
	}
}

void
ml_place_parts(ml_planner *p)
{
	for (ml_node *n = p->block->first; n && p->plan->opt_level > 0; n = n->next) {
		const ml_group *g = n->op == ML_OP_concat ? ml_note_of(n)->group : NULL;
		const ml_value *out = &n->out[0];
		/* The whole has a buffer of its own: it is not stored through a view. */
		if (g && g->nodes.count == 1 && !ml_state_of(p->plan, out) &&
		    ml_value_needs_buffer(out) && ml_fact_of(out)->stored == out)
			place_parts(p, n);
	}
}

bool
ml_is_part(const ml_node *concat, int operand)
{
	const ml_fact *f = ml_fact_of(ml_in(concat, operand));

	return f->whole == &concat->out[0] && f->operand == operand;
}

bool
ml_has_parts(const ml_node *concat)
{
	for (int i = 0; i < concat->nin; i++)
		if (ml_is_part(concat, i))
			return true;
	return false;
}

bool
ml_is_whole_for_parts(const ml_node *n)
{
	if (n->op != ML_OP_concat)
		return false;
	for (const ml_use *u = n->out[0].uses; u; u = u->next)
		if (u->user->op == ML_OP_concat)
			return true;
	return false;
}

const ml_value *
ml_outermost(ml_dims *dims, const ml_value *v, ml_dim low[ML_MAX_RANK])
{
	for (int i = 0; i < v->type.rank; i++)
		low[i] = ml_dim_int(dims, 0);
	for (const ml_fact *f; (f = ml_fact_of(v))->whole; v = f->whole) {
		int64_t axis = ML_A(f->whole->def, concat, axis).i64;
		low[axis] = ml_dim_add(dims, low[axis], f->at);
	}
	return v;
}
