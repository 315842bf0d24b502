/* group_recompute.c -- elementwise nodes of no group: cheaper to compute in every reader than to
 * store.
 */
#include "../ir/attention.h"
#include "plan.h"

/* An outer product of smaller values: cheaper to compute anew in every reader than to store. */
static bool
is_spread(const ml_node *n)
{
	if (n->op != ML_OP_add && n->op != ML_OP_sub && n->op != ML_OP_mul)
		return false;
	for (int i = 0; i < n->nin; i++)
		if (ml_type_same_shape(&ml_in(n, i)->type, &n->out[0].type))
			return false;
	for (const ml_use *u = n->out[0].uses; u; u = u->next)
		if (ml_class_of(u->user) != ML_ELEMENTWISE)
			return false;
	return true;
}

static bool
is_number(const ml_value *v)
{
	double number;

	while (ml_is(v, ML_OP_cast))
		v = ml_in(v->def, 0);
	return ml_is_splat(v, &number);
}

/* What a quantized tensor stands for: read as bytes and computed by every reader, not stored four
 * times as wide. */
static bool
is_widening(const ml_node *n)
{
	const ml_node *from = ml_in(n, 0)->def;

	for (const ml_use *u = n->out[0].uses; u; u = u->next)
		if (ml_class_of(u->user) != ML_ELEMENTWISE && ml_class_of(u->user) != ML_REDUCE)
			return false;
	bool widened = from && !ml_note_of(from)->group &&
		       (from->op == ML_OP_cast || from->op == ML_OP_sub);
	if (n->op == ML_OP_cast)
		return ml_dtype_bytes(ml_in(n, 0)->type.dtype) == 1 || widened;
	return (n->op == ML_OP_sub || n->op == ML_OP_mul) && widened && is_number(ml_in(n, 1));
}

/* Bytes with a scale per row, as decoders keep keys and values: attention widens what it reads. */
static bool
is_cached(const ml_node *n)
{
	if (n->op == ML_OP_cast)
		return ml_in(n, 0)->type.dtype == ML_s8 && n->out[0].uses &&
		       !n->out[0].uses->next && is_cached(n->out[0].uses->user);
	if (n->op != ML_OP_mul)
		return false;
	const ml_value *from = ml_in(n, 0), *scale = ml_in(n, 1);
	if (!n->out[0].uses || !ml_is(from, ML_OP_cast) ||
	    ml_in(from->def, 0)->type.dtype != ML_s8 || !scale->type.rank ||
	    !ml_dim_equals(scale->type.dim[scale->type.rank - 1], 1))
		return false;
	for (const ml_use *u = n->out[0].uses; u; u = u->next)
		if (!ml_is_for_attention(u))
			return false;
	return true;
}

/* Squares of a product of matrices that others read too, to be summed: sums read the product, and
 * no squares are stored beside it. */
static bool
is_summed_square(const ml_node *n)
{
	const ml_node *from = ml_in(n, 0)->def;
	const ml_group *g = from ? ml_note_of(from)->group : NULL;

	if (n->op != ML_OP_mul || ml_in(n, 0) != ml_in(n, 1) || !g ||
	    g->family != ML_FAMILY_CONTRACT || !ml_in(n, 0)->uses->next->next)
		return false;
	for (const ml_use *u = n->out[0].uses; u; u = u->next)
		if (u->user->op != ML_OP_reduce_sum)
			return false;
	return true;
}

bool
ml_is_recomputed(const ml_node *n)
{
	return is_spread(n) || is_widening(n) || is_cached(n) || is_summed_square(n);
}
