/* group_order.c -- which groups may become one, so that groups can still be ordered. */
#include "plan.h"

static bool unit_reaches(ml_planner *p, ml_node *n, const ml_group *target, int first);

static bool
node_operands_reach(ml_planner *p, const ml_node *n, const ml_group *target, int first)
{
	for (int i = 0; i < n->nin; i++) {
		ml_node *def = ml_in(n, i)->def;
		if (def && unit_reaches(p, def, target, first))
			return true;
	}
	return false;
}

/* Does computing `n` (with its whole group) need something of `target`?  Nothing that ends before
 * position `first` does. */
static bool
unit_reaches(ml_planner *p, ml_node *n, const ml_group *target, int first)
{
	ml_note *note = ml_note_of(n);

	if (note->group == target)
		return true;
	if ((note->group ? note->group->last : note->position) < first)
		return false;
	if (!note->group) {
		if (note->stamp == p->stamp)
			return false;
		note->stamp = p->stamp;
		return node_operands_reach(p, n, target, first);
	}
	if (note->group->stamp == p->stamp)
		return false;
	note->group->stamp = p->stamp;
	for (int i = 0; i < note->group->nodes.count; i++)
		if (node_operands_reach(p, note->group->nodes.at[i], target, first))
			return true;
	return false;
}

/* Can a node of g read what `def` computes?  What readers compute themselves, it can, if it can
 * read what that is computed from. */
static bool
can_read(ml_planner *p, ml_node *def, const ml_group *g)
{
	const ml_group *own = def ? ml_note_of(def)->group : g;

	if (own == g)
		return true;
	if (own || ml_class_of(def) != ML_ELEMENTWISE)
		return !unit_reaches(p, def, g, g->first);
	for (int i = 0; i < def->nin; i++)
		if (!can_read(p, ml_in(def, i)->def, g))
			return false;
	return true;
}

bool
ml_can_join(ml_planner *p, const ml_node *n, const ml_group *g)
{
	if (g->nodes.count >= ML_MAX_GROUP || p->plan->opt_level == 0 ||
	    ml_state_of(p->plan, &g->nodes.at[0]->out[0]) || ml_is_whole_for_parts(g->nodes.at[0]))
		return false;
	p->stamp++;
	for (int i = 0; i < n->nin; i++)
		if (!can_read(p, ml_in(n, i)->def, g))
			return false;
	return true;
}

bool
ml_is_free_of(ml_planner *p, const ml_group *g, const ml_group *map)
{
	p->stamp++;
	for (int i = 0; i < g->nodes.count; i++)
		for (int k = 0; k < g->nodes.at[i]->nin; k++) {
			ml_node *def = ml_in(g->nodes.at[i], k)->def;
			const ml_group *own = def ? ml_note_of(def)->group : g;
			if (own != g && own != map && unit_reaches(p, def, map, map->first))
				return false;
		}
	return true;
}
