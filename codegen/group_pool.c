/* group_pool.c -- which pools the kernel of a convolution computes. */
#include "dots.h"
#include "plan.h"

/* Do views show the same dims, but for those of size 1? */
bool
ml_has_same_dims(const ml_type *a, const ml_type *b)
{
	int i = 0, j = 0;

	for (; i < a->rank || j < b->rank; i++, j++) {
		for (; i < a->rank && ml_dim_equals(a->dim[i], 1); i++)
			;
		for (; j < b->rank && ml_dim_equals(b->dim[j], 1); j++)
			;
		if (i < a->rank && j < b->rank ? a->dim[i] != b->dim[j]
					       : i < a->rank || j < b->rank)
			return false;
	}
	return true;
}

/* Is `image` all that leaves the group, on one way? */
static bool
gives_only(const ml_group *g, const ml_value *image)
{
	for (int i = 0; i < g->nodes.count; i++) {
		const ml_node *n = g->nodes.at[i];
		const ml_use *u = n->out[0].uses;
		if (ml_class_of(n) == ML_REDUCE || (&n->out[0] == image && u->next))
			return false;
		for (; u && &n->out[0] != image; u = u->next)
			if (ml_note_of(u->user)->group != g)
				return false;
	}
	return true;
}

ml_group *
ml_pooled_group(const ml_node *reduce, const ml_value **image)
{
	ml_pool pool;

	if (!ml_pool_find(reduce, &pool) || !pool.image->def)
		return NULL;
	ml_group *g = ml_note_of(pool.image->def)->group;
	if (!g || g->family != ML_FAMILY_CONTRACT || !ml_pool_pays(&pool, g->nodes.at[0]) ||
	    !gives_only(g, pool.image))
		return NULL;
	for (const ml_value *v = ml_in(reduce, 0); v != pool.image; v = ml_in(v->def, 0))
		if (v->uses->next || ml_note_of(v->def)->group)
			return NULL;
	*image = pool.image;
	return g;
}
