/* group.c -- decides which nodes one kernel computes together, and which values get bytes.
 *
 * Nodes are visited in order.  An elementwise node joins the latest group that computes one of its
 * operands in the same space (epilogues of dots, rows with their reductions); a reduction over
 * trailing axes opens or joins a row group; movement and gathers are index maps inside whoever
 * reads them.  A node joins a group only if none of its other operands depends on that group,
 * so that groups can be ordered.
 */
#include "plan.h"
#include <string.h>

enum { MAX_DEPTH = 32 }; /* of index maps inside each other */

/* The number of trailing axes a reduction covers, 0 when it covers others. */
static int
suffix_axes(const ml_node *n)
{
	const ml_attr *axes = &ML_A(n, reduce_sum, axes);
	int rank = ml_in(n, 0)->type.rank;
	bool reduced[ML_MAX_RANK] = {false};

	for (int i = 0; i < axes->count; i++)
		reduced[axes->ints[i]] = true;
	for (int i = rank - axes->count; i < rank; i++)
		if (!reduced[i])
			return 0;
	return axes->count;
}

static bool
is_plain_reduce(const ml_node *n)
{
	return n->op >= ML_OP_reduce_sum && n->op <= ML_OP_reduce_max;
}

/* Sliding windows are reduced element by element, vectorised across windows. */
static bool
reads_window(const ml_value *v)
{
	for (; v->def && ml_class_of(v->def) == ML_MOVE; v = ml_in(v->def, 0))
		if (v->def->op == ML_OP_window)
			return true;
	return false;
}

/* Operators that stand alone as steps of the entry. */
static bool
is_stand_alone(const ml_node *n)
{
	ml_class c = ml_class_of(n);

	return c == ML_IRREGULAR || (c == ML_CONTROL && n->op != ML_OP_yield);
}

/* ---- growing groups ---- */

static void
add_to_group(ml_planner *p, ml_group *g, ml_node *n)
{
	ml_note *note = ml_note_of(n);

	ML_PUSH(p->plan->arena, g->nodes, n);
	note->group = g;
	if (g->nodes.count == 1 || note->position < g->first)
		g->first = note->position;
	if (note->position > g->last)
		g->last = note->position;
}

static ml_group *
new_group(ml_planner *p, ml_family family, const ml_type *space, int row_axes, ml_node *n)
{
	ml_group *g = ML_NEW(p->plan->arena, ml_group);

	*g = (ml_group){.family = family, .space = *space, .row_axes = row_axes, .step = -1};
	ML_PUSH(p->plan->arena, p->groups, g);
	add_to_group(p, g, n);
	return g;
}

/* One value per row: the space's shape with the row's axes of size 1. */
static bool
is_row_scalar(const ml_type *t, const ml_group *g)
{
	int outer = g->space.rank - g->row_axes;

	if (g->family != ML_FAMILY_ROWS || g->row_axes == 0 || t->rank != g->space.rank ||
	    memcmp(t->dim, g->space.dim, (size_t)outer * sizeof *t->dim))
		return false;
	for (int i = outer; i < t->rank; i++)
		if (!ml_dim_equals(t->dim[i], 1))
			return false;
	return true;
}

static bool
fits(const ml_node *n, const ml_group *g)
{
	const ml_type *t = &n->out[0].type;

	if (g->family == ML_FAMILY_CONTRACT || g->family == ML_FAMILY_U4)
		return ml_type_same_shape(t, &g->space);
	return g->family == ML_FAMILY_ROWS &&
	       (ml_type_same_shape(t, &g->space) || is_row_scalar(t, g));
}

/* A group of elementwise nodes that any kernel of the same space can take over. */
static bool
is_map(const ml_group *g)
{
	return g->family == ML_FAMILY_ROWS && g->row_axes == 0;
}

/* Dots and rows are joined rather than maps, later ones rather than earlier ones. */
static bool
is_better(const ml_group *g, const ml_group *than)
{
	if (!than || is_map(g) != is_map(than))
		return !than || is_map(than);
	return g->last > than->last;
}

/* `best`, or a better group that n fits into among those of v and, where readers compute v, of what
 * it is computed from. */
static ml_group *
better_group(ml_planner *p, const ml_node *n, const ml_value *v, ml_group *best)
{
	ml_node *def = v->def;
	ml_group *g = def ? ml_note_of(def)->group : NULL;

	if (g && g != best && fits(n, g) && is_better(g, best) && ml_can_join(p, n, g))
		return g;
	if (def && !g && ml_class_of(def) == ML_ELEMENTWISE)
		for (int i = 0; i < def->nin; i++)
			best = better_group(p, n, ml_in(def, i), best);
	return best;
}

/* The best group among the operands' that n fits into, or NULL. */
static ml_group *
group_to_join(ml_planner *p, const ml_node *n)
{
	ml_group *best = NULL;

	for (int i = 0; i < n->nin; i++)
		best = better_group(p, n, ml_in(n, i), best);
	return best;
}

static bool
all_elementwise(const ml_group *g)
{
	for (int i = 0; i < g->nodes.count; i++)
		if (ml_class_of(g->nodes.at[i]) != ML_ELEMENTWISE)
			return false;
	return true;
}

/* Nobody but g reads what `map` computes. */
static bool
serves_only(const ml_group *map, const ml_group *g)
{
	for (int i = 0; i < map->nodes.count; i++)
		for (const ml_use *u = map->nodes.at[i]->out[0].uses; u; u = u->next) {
			const ml_group *user = ml_note_of(u->user)->group;
			if (user != map && user != g)
				return false;
		}
	return true;
}

/* n is in g: maps of the same space that only g reads are computed there too, and if g is one, all
 * that can be: they read the same. */
static void
take_over_maps(ml_planner *p, ml_group *g, const ml_node *n)
{
	for (int i = 0; i < n->nin; i++) {
		ml_node *def = ml_in(n, i)->def;
		ml_group *map = def ? ml_note_of(def)->group : NULL;
		if (!map || map == g || !is_map(map) ||
		    !ml_type_same_shape(&map->space, &g->space) ||
		    g->nodes.count + map->nodes.count > ML_MAX_GROUP || !all_elementwise(map) ||
		    (!serves_only(map, g) &&
		     (!is_map(g) || !all_elementwise(g) || !ml_is_free_of(p, g, map))))
			continue;
		for (int k = 0; k < map->nodes.count; k++)
			add_to_group(p, g, map->nodes.at[k]);
		map->nodes.count = 0;
	}
}

static void
join(ml_planner *p, ml_group *g, ml_node *n)
{
	add_to_group(p, g, n);
	take_over_maps(p, g, n);
}

/* A row group that reduces the same rows of x already. */
static ml_group *
sibling_rows(ml_planner *p, const ml_node *n, int axes)
{
	for (const ml_use *u = ml_in(n, 0)->uses; u; u = u->next) {
		ml_group *g = u->user != n && u->user->scratch ? ml_note_of(u->user)->group : NULL;
		if (g && g->family == ML_FAMILY_ROWS && g->row_axes == axes &&
		    ml_type_same_shape(&ml_in(n, 0)->type, &g->space) && ml_can_join(p, n, g))
			return g;
	}
	return NULL;
}

/* Windows take a transpose for free, and are better read as they lie now. */
static bool
is_read_by_windows(const ml_node *view)
{
	for (const ml_use *u = view->out[0].uses; u; u = u->next)
		if (u->user->op == ML_OP_window)
			return true;
	return false;
}

/* The views behind a value that nobody else reads belong to its group: what is computed with them
 * then is computed there.  So pools and depthwise convolutions, whose own dims are not those of an
 * image, take in what follows. */
static void
take_in_views(ml_planner *p, ml_group *g, const ml_node *n)
{
	const ml_value *v = &n->out[0];

	while (p->plan->opt_level > 0 && v->uses && !v->uses->next &&
	       (v->uses->user->op == ML_OP_reshape || v->uses->user->op == ML_OP_transpose) &&
	       !is_read_by_windows(v->uses->user)) {
		ml_node *view = v->uses->user;
		add_to_group(p, g, view);
		v = &view->out[0];
		g->space = v->type;
	}
}

/* A convolution has a kernel of its own as long as nothing else in it has a loop. */
static bool
is_convolution(const ml_group *g)
{
	const ml_node *n = g->nodes.at[0];

	return ml_class_of(n) == ML_CONTRACT && reads_window(ml_in(n, 0));
}

/* What leads from the image to its pool is computed there, and so are views that change no order.
 */
static bool
join_pooled(ml_planner *p, ml_node *n)
{
	const ml_value *image;
	ml_group *g = p->plan->opt_level > 0 ? ml_pooled_group(n, &image) : NULL;

	if (!g)
		return false;
	for (ml_value *v = ml_in(n, 0); v != image; v = ml_in(v->def, 0))
		add_to_group(p, g, v->def);
	add_to_group(p, g, n);
	g->space = n->out[0].type;
	for (const ml_use *u = n->out[0].uses; u && !u->next; u = u->user->out[0].uses) {
		const ml_type *t = &u->user->out[0].type;
		if (u->user->op != ML_OP_reshape || !ml_has_same_dims(t, &g->space))
			break;
		add_to_group(p, g, u->user);
		g->space = *t;
	}
	return true;
}

/* What has loops inside of elements would be computed by one thread. */
static bool
is_lone_row(const ml_group *g, int axes)
{
	return axes == g->space.rank && g->row_axes == 0 && !all_elementwise(g);
}

static void
place_reduce(ml_planner *p, ml_node *n)
{
	const ml_value *x = ml_in(n, 0);
	int axes = reads_window(x) ? 0 : suffix_axes(n);
	ml_group *g = x->def ? ml_note_of(x->def)->group : NULL;

	if (join_pooled(p, n))
		return;
	if (axes == 0) {
		take_in_views(p, new_group(p, ML_FAMILY_ROWS, &n->out[0].type, 0, n), n);
		return;
	}
	if (!g || g->family != ML_FAMILY_ROWS || !ml_type_same_shape(&x->type, &g->space) ||
	    is_convolution(g) || is_lone_row(g, axes) ||
	    (g->row_axes != 0 && g->row_axes != axes) || !ml_can_join(p, n, g))
		g = sibling_rows(p, n, axes);
	if (!g) {
		new_group(p, ML_FAMILY_ROWS, &x->type, axes, n);
		return;
	}
	g->row_axes = axes;
	join(p, g, n);
}

static void
place_elementwise(ml_planner *p, ml_node *n)
{
	if (p->plan->opt_level > 0 && ml_is_recomputed(n))
		return;
	ml_group *g = group_to_join(p, n);

	if (g)
		join(p, g, n);
	else
		new_group(p, ML_FAMILY_ROWS, &n->out[0].type, 0, n);
}

/* A transpose below another index map below a window: its elements are read many times, and better
 * from where they are neighbours. */
static bool
windows_read(const ml_value *v, int depth)
{
	for (const ml_use *u = v->uses; u; u = u->next) {
		ml_node *user = u->user;
		if (user->op == ML_OP_window && depth > 0)
			return true;
		if ((user->op == ML_OP_pad && u == &user->in[0]) || user->op == ML_OP_transpose)
			if (depth < 2 && windows_read(&user->out[0], depth + 1))
				return true;
	}
	return false;
}

/* Index maps are computed inside their readers, unless a reader needs bytes or there are several
 * readers of something dear. */
static bool
needs_bytes_itself(const ml_node *n)
{
	int users = 0;

	if (n->op == ML_OP_const)
		return false;
	for (ml_use *u = n->out[0].uses; u; u = u->next, users++) {
		ml_node *user = u->user;
		if (is_stand_alone(user) || user->op == ML_OP_yield || user->op == ML_OP_scatter ||
		    user->op == ML_OP_scan_sum || user->op == ML_OP_scan_prod)
			return true;
		if (user->op == ML_OP_dot && u == &user->in[0] &&
		    (n->op == ML_OP_pad || n->op == ML_OP_reverse || n->op == ML_OP_gather))
			return true;
	}
	if (n->op == ML_OP_transpose && windows_read(&n->out[0], 0))
		return true;
	return n->op == ML_OP_concat || (n->op == ML_OP_gather && users > 1);
}

/* How many ungrouped index maps lie below n, itself included. */
static int
index_depth(const ml_node *n)
{
	int depth = 0;

	for (int i = 0; i < n->nin; i++) {
		const ml_node *def = ml_in(n, i)->def;
		if (def && !ml_note_of(def)->group && ml_note_of(def)->depth > depth)
			depth = ml_note_of(def)->depth;
	}
	return depth + 1;
}

static void
place_node(ml_planner *p, ml_node *n)
{
	if (ml_note_of(n)->group) /* a view taken in by what it shows */
		return;
	switch (ml_class_of(n)) {
	case ML_ELEMENTWISE: place_elementwise(p, n); break;
	case ML_REDUCE:
		if (is_plain_reduce(n))
			place_reduce(p, n);
		else if (n->op == ML_OP_arg_max || n->op == ML_OP_arg_min)
			new_group(p, ML_FAMILY_ROWS, &n->out[0].type, 0, n);
		else
			new_group(p, ML_FAMILY_SCAN, &n->out[0].type, 0, n);
		break;
	case ML_CONTRACT:
		if (ml_has_tile(n))
			new_group(p, ML_FAMILY_CONTRACT, &n->out[0].type, 0, n);
		else
			take_in_views(p, new_group(p, ML_FAMILY_ROWS, &n->out[0].type, 0, n), n);
		break;
	case ML_COMPOSITE:
		new_group(p, n->op == ML_OP_linear_u4 ? ML_FAMILY_U4 : ML_FAMILY_ATTENTION,
			  &n->out[0].type, 0, n);
		break;
	case ML_SOURCE:
	case ML_MOVE:
	case ML_INDEX:
		if (n->op == ML_OP_scatter)
			new_group(p, ML_FAMILY_SCATTER, &n->out[0].type, 0, n);
		else if ((ml_note_of(n)->depth = index_depth(n)) > MAX_DEPTH ||
			 needs_bytes_itself(n) || (p->plan->opt_level == 0 && n->op != ML_OP_const))
			new_group(p, ML_FAMILY_ROWS, &n->out[0].type, 0, n);
		break;
	case ML_IRREGULAR:
	case ML_CONTROL: ml_note_of(n)->stand_alone = n->op != ML_OP_yield; break;
	}
}

bool
ml_is_alias(const ml_value *v)
{
	return ml_is(v, ML_OP_reshape) && !ml_note_of(v->def)->group;
}

/* Does anyone outside of g read v, or what readers compute from it? */
static bool
is_read_outside(const ml_value *v, const ml_group *g)
{
	for (const ml_use *u = v->uses; u; u = u->next) {
		const ml_group *reader = ml_note_of(u->user)->group;
		bool inlined = !reader && ml_class_of(u->user) == ML_ELEMENTWISE;
		if (reader != g && (!inlined || is_read_outside(&u->user->out[0], g)))
			return true;
	}
	return false;
}

/* A group's value needs bytes when someone outside of the group reads it. */
bool
ml_value_needs_buffer(const ml_value *v)
{
	const ml_group *g = v->def ? ml_note_of(v->def)->group : NULL;

	return g ? is_read_outside(v, g) : v->uses != NULL;
}

/* The bijective view that is the only outside reader of v, or NULL. */
static ml_value *
only_view(const ml_value *v)
{
	const ml_group *g = ml_note_of(v->def)->group;
	ml_node *view = NULL;

	for (const ml_use *u = v->uses; u; u = u->next) {
		if (ml_note_of(u->user)->group == g && g)
			continue;
		if (view || (u->user->op != ML_OP_reshape && u->user->op != ML_OP_transpose) ||
		    is_read_by_windows(u->user))
			return NULL;
		view = u->user;
	}
	return view ? &view->out[0] : NULL;
}

/* A kernel stores its result where the transposes behind it want it. */
static void
store_through_views(ml_planner *p, ml_group *g)
{
	for (int i = 0; i < g->nodes.count; i++) {
		ml_value *v = &g->nodes.at[i]->out[0], *stored = v, *next;
		if (!ml_value_needs_buffer(v))
			continue;
		while ((g->family == ML_FAMILY_ROWS || g->family == ML_FAMILY_CONTRACT ||
			g->family == ML_FAMILY_U4 || g->family == ML_FAMILY_ATTENTION) &&
		       p->plan->opt_level > 0 && (next = only_view(stored)) &&
		       (!ml_note_of(next->def)->group ||
			ml_note_of(next->def)->group->nodes.count == 1)) {
			stored = next;
		}
		ml_fact_of(v)->stored = stored;
	}
}

/* Views that a kernel already stores through are no groups of their own. */
static void
drop_absorbed_views(ml_planner *p)
{
	for (int i = 0; i < p->groups.count; i++) {
		ml_group *g = p->groups.at[i];
		for (int k = 0; k < g->nodes.count; k++) {
			ml_value *v = &g->nodes.at[k]->out[0];
			ml_value *s = ml_fact_of(v)->stored;
			for (; s && s != v; s = ml_in(s->def, 0))
				ml_note_of(s->def)->group = NULL;
		}
	}
	int kept = 0;
	for (int i = 0; i < p->groups.count; i++) {
		ml_group *g = p->groups.at[i];
		if (g->nodes.count && ml_note_of(g->nodes.at[0])->group == g)
			p->groups.at[kept++] = g;
	}
	p->groups.count = kept;
}

void
ml_group_block(ml_planner *p)
{
	int position = 0;

	for (int i = 0; i < p->block->nargs; i++)
		p->block->arg[i]->scratch = (intptr_t)ML_NEW(p->plan->arena, ml_fact);
	for (ml_node *n = p->block->first; n; n = n->next) {
		ml_note *note = ML_NEW(p->plan->arena, ml_note);
		*note = (ml_note){.node = n, .position = position++};
		n->scratch = (intptr_t)note;
		for (int i = 0; i < n->nout; i++)
			n->out[i].scratch = (intptr_t)ML_NEW(p->plan->arena, ml_fact);
	}
	for (ml_node *n = p->block->first; n; n = n->next)
		place_node(p, n);
	for (int i = 0; i < p->groups.count; i++)
		store_through_views(p, p->groups.at[i]);
	drop_absorbed_views(p);
	ml_place_parts(p);
}
