/* grad_contract.c -- gradients of dot, linear and attention: more dots. */
#include "grad_rule.h"

static bool
listed(const int64_t *list, int n, int64_t axis)
{
	for (int i = 0; i < n; i++)
		if (list[i] == axis)
			return true;
	return false;
}

/* Dims that are neither batch nor contracted, in order. */
static int
free_axes(const ml_dot_axes *axes, int side, int rank, int64_t *out)
{
	int n = 0;

	for (int d = 0; d < rank; d++)
		if (!listed(axes->batch[side], axes->nbatch, d) &&
		    !listed(axes->contract[side], axes->ncontract, d))
			out[n++] = d;
	return n;
}

/* The dims of operand `side` in the order they have in its gradient: batch, free, contracted in
 * the order of the other operand's dims (of the left), or contracted first (of the right). */
static ml_value *
in_order(ml_builder *b, ml_value *x, const ml_dot_axes *axes, int side, const int64_t *own,
	 int nown, int other_rank)
{
	int64_t have[ML_MAX_RANK], perm[ML_MAX_RANK], inner[ML_MAX_RANK];
	int n = 0, ninner = 0;
	bool moved = false;

	for (int d = 0; d < other_rank; d++)
		for (int i = 0; i < axes->ncontract; i++)
			if (axes->contract[1 - side][i] == d)
				inner[ninner++] = axes->contract[side][i];
	for (int i = 0; i < axes->nbatch; i++)
		have[n++] = axes->batch[side][i];
	for (int i = 0; side && i < ninner; i++)
		have[n++] = inner[i];
	for (int i = 0; i < nown; i++)
		have[n++] = own[i];
	for (int i = 0; !side && i < ninner; i++)
		have[n++] = inner[i];
	for (int i = 0; i < n; i++) {
		perm[have[i]] = i;
		moved |= have[i] != i;
	}
	return moved ? ml_build_transpose(b, x, perm) : x;
}

/* The result's dims are batch, x's free, y's free.  dx = d . y over y's free dims; dy = x . d over
 * x's free dims, in this order so that a weight's gradient comes out as the weight lies. */
ml_value *
ml_dot_grad(ml_grad_state *g, int side, ml_value *x, ml_value *y, ml_value *d,
	    const ml_dot_axes *axes)
{
	ml_builder *b = &g->b;
	ml_value *in[2] = {x, y}, *other = in[1 - side], *v;
	int64_t own[ML_MAX_RANK], its[ML_MAX_RANK], batch[ML_MAX_RANK], inner[ML_MAX_RANK];
	int nown = free_axes(axes, side, in[side]->type.rank, own);
	int nits = free_axes(axes, 1 - side, other->type.rank, its);

	for (int i = 0; i < axes->nbatch; i++)
		batch[i] = i;
	for (int i = 0; i < nits; i++)
		inner[i] = axes->nbatch + (side ? 0 : nown) + i;
	if (side)
		v = ml_build_dot(b, x, d, axes->batch[0], batch, axes->nbatch, its, inner, nits);
	else
		v = ml_build_dot(b, d, y, batch, axes->batch[1], axes->nbatch, inner, its, nits);
	return in_order(b, v, axes, side, own, nown, other->type.rank);
}

static void
both_sides(ml_grad_state *g, const ml_dot_axes *axes)
{
	for (int side = 0; side < 2; side++)
		if (g->wanted[side])
			ml_grad_add(g, side,
				    ml_dot_grad(g, side, g->in[0], g->in[1], g->d[0], axes));
}

ML_GRADIENT(dot)
{
	const ml_node *n = g->node;

	both_sides(g, &(ml_dot_axes){
			      .batch = {ML_A(n, dot, lhs_batch).ints, ML_A(n, dot, rhs_batch).ints},
			      .nbatch = ML_A(n, dot, lhs_batch).count,
			      .contract = {ML_A(n, dot, lhs_contract).ints,
					   ML_A(n, dot, rhs_contract).ints},
			      .ncontract = ML_A(n, dot, lhs_contract).count,
		      });
}

ML_GRADIENT(linear)
{
	int64_t last = g->in[0]->type.rank - 1, first = 0;

	both_sides(g, &(ml_dot_axes){.contract = {&last, &first}, .ncontract = 1});
	ml_grad_add(g, 2, g->d[0]);
}

ML_GRADIENT_IS(conv, BODY);
ML_GRADIENT_IS(attention, BODY);
