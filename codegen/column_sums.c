/* column_sums.c -- sums of columns that a product has panels of are a product with ones.
 *
 * A bias' gradient sums what the gradient of its weights multiplies, over the same axes.  Panels of
 * it are there, and lie in the order of the sums; in the tensor itself each sum is a walk with
 * strides.  Products with 1 are exact, and added in the same order.
 */
#include "plan.h"

static bool
cover_same_axes(const ml_attr *a, const ml_attr *b)
{
	uint32_t in_a = 0, in_b = 0;

	for (int i = 0; i < a->count; i++)
		in_a |= 1u << a->ints[i];
	for (int i = 0; i < b->count; i++)
		in_b |= 1u << b->ints[i];
	return in_a == in_b;
}

/* A product that has panels of v along these axes, or NULL. */
static const ml_node *
product_along(const ml_value *v, const ml_attr *axes)
{
	for (const ml_use *u = v->uses; u; u = u->next)
		if (u->user->op == ML_OP_dot && u == &u->user->in[1] && ml_has_tile(u->user) &&
		    !ML_A(u->user, dot, rhs_batch).count &&
		    cover_same_axes(&ML_A(u->user, dot, rhs_contract), axes))
			return u->user;
	return NULL;
}

static ml_value *
multiply_by_ones(ml_node *sum, ml_value *v, const ml_attr *axes)
{
	ml_builder b = ml_builder_before(sum);
	const ml_type *type = &sum->out[0].type;
	int64_t all[ML_MAX_RANK];
	ml_dim shape[ML_MAX_RANK];

	for (int i = 0; i < axes->count; i++) {
		all[i] = i;
		shape[i] = v->type.dim[axes->ints[i]];
	}
	ml_value *one = ml_build_f64(&b, v->type.dtype, 1);
	ml_value *ones = ml_build_broadcast(&b, one, shape, axes->count);
	ml_value *made = ml_build_dot(&b, ones, v, NULL, NULL, 0, all, axes->ints, axes->count);
	return ml_build_reshape(&b, made, type->dim, type->rank);
}

ml_status
ml_multiply_column_sums(ml_block *block)
{
	for (ml_node *n = block->first, *next; n; n = next) {
		next = n->next;
		if (n->op != ML_OP_reduce_sum || n->out[0].type.dtype != ML_f32)
			continue;
		ml_value *v = ml_in(n, 0);
		if (ml_is_widening(v))
			v = ml_in(v->def, 0);
		const ml_node *dot = product_along(v, &ML_A(n, reduce_sum, axes));
		if (!dot)
			continue;
		ml_value *sum = multiply_by_ones(n, v, &ML_A(dot, dot, rhs_contract));
		if (!sum)
			return ML_ERR_PASS;
		ml_replace_uses(&n->out[0], sum);
		ml_node_remove(n);
	}
	return ML_OK;
}
