/* grad_fit.c -- what gradient rules share: sums back to an operand's shape, zeros, masks. */
#include "grad_rule.h"

ml_value *
ml_zeros(ml_builder *b, const ml_type *t)
{
	ml_value *zero = ml_build_f64(b, t->dtype, 0);

	return t->rank ? ml_build_broadcast(b, zero, t->dim, t->rank) : zero;
}

ml_value *
ml_where(ml_builder *b, ml_value *c, ml_value *x)
{
	return x ? ml_op3(b, ML_OP_select, c, x, ml_build_f64(b, x->type.dtype, 0)) : NULL;
}

ml_value *
ml_sum_over(ml_builder *b, ml_value *x, const int64_t *axes, int naxes)
{
	return naxes ? ml_build_reduce(b, ML_OP_reduce_sum, x, axes, naxes) : x;
}

/* Sums over what broadcasting repeated: leading dims, and dims of size 1. */
static ml_value *
summed_to(ml_builder *b, ml_value *v, const ml_type *t)
{
	int64_t axes[ML_MAX_RANK];
	int lead = v->type.rank - t->rank, n = 0;

	for (int d = 0; d < v->type.rank; d++) {
		bool repeated = d < lead || ml_dim_equals(t->dim[d - lead], 1);
		if (repeated && !ml_dim_equals(v->type.dim[d], 1))
			axes[n++] = d;
	}
	return ml_sum_over(b, v, axes, n);
}

static ml_value *
fitted(ml_builder *b, ml_value *v, const ml_type *t)
{
	if (v && v->type.rank > t->rank)
		v = summed_to(b, v, t);
	else if (v && v->type.rank == t->rank)
		v = summed_to(b, v, t);
	v = ml_build_cast(b, v, t->dtype);
	return v && !ml_type_equal(&v->type, t) ? ml_build_reshape(b, v, t->dim, t->rank) : v;
}

void
ml_grad_add(ml_grad_state *g, int i, ml_value *v)
{
	ml_builder *b = &g->b;

	if (i >= g->node->nin || !g->wanted[i])
		return;
	v = fitted(b, v, &ml_in(g->node, i)->type);
	if (!v && !b->failed)
		b->failed = ML_ERR_PASS;
	if (v)
		g->sum[i] = g->sum[i] ? ADD(g->sum[i], v) : v;
}
