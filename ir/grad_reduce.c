/* grad_reduce.c -- gradients of reductions and running reductions. */
#include "grad_rule.h"

ML_GRADIENT_IS(arg_max, ENDS);
ML_GRADIENT_IS(arg_min, ENDS);

/* Reduced dims have size 1, so the gradient repeats along them. */
static ml_value *
repeated(ml_grad_state *g, ml_value *d)
{
	const ml_type *t = &g->in[0]->type;

	return ml_build_broadcast(&g->b, d, t->dim, t->rank);
}

ML_GRADIENT(reduce_sum)
{
	ml_grad_add(g, 0, repeated(g, g->d[0]));
}

ML_GRADIENT(reduce_mean)
{
	const ml_attr *axes = &ML_A(g->node, reduce_mean, axes);
	ml_builder *b = &g->b;
	ml_dim count = ml_dim_int(b->m->dims, 1);

	for (int i = 0; i < axes->count; i++)
		count = ml_dim_mul(b->m->dims, count, g->in[0]->type.dim[axes->ints[i]]);
	ml_grad_add(g, 0, repeated(g, DIV(g->d[0], ml_size_as(b, g->d[0]->type.dtype, count))));
}

/* Equals share. */
static void
extreme(ml_grad_state *g, const ml_attr *axes)
{
	ml_builder *b = &g->b;
	ml_value *mask = ml_op2(b, ML_OP_eq, g->in[0], g->out[0]);
	ml_value *count = ml_sum_over(b, ml_build_cast(b, mask, g->d[0]->type.dtype), axes->ints,
				      axes->count);

	ml_grad_add(g, 0, ml_where(b, mask, DIV(g->d[0], count)));
}

ML_GRADIENT(reduce_min)
{
	extreme(g, &ML_A(g->node, reduce_min, axes));
}

ML_GRADIENT(reduce_max)
{
	extreme(g, &ML_A(g->node, reduce_max, axes));
}

/* ---- products: without division, so that zeros are right ---- */

static ml_value *
scan(ml_builder *b, ml_op op, ml_value *x, int64_t axis, bool exclusive, bool reverse)
{
	ml_node *n = ml_begin(b, op, &x, 1);

	if (!n)
		return NULL;
	if (op == ML_OP_scan_sum) {
		ML_A(n, scan_sum, axis).i64 = axis;
		ML_A(n, scan_sum, exclusive).i64 = exclusive;
		ML_A(n, scan_sum, reverse).i64 = reverse;
	} else {
		ML_A(n, scan_prod, axis).i64 = axis;
		ML_A(n, scan_prod, exclusive).i64 = exclusive;
		ML_A(n, scan_prod, reverse).i64 = reverse;
	}
	return ml_finish1(b, n);
}

/* The reduced axes moved behind the others. */
static void
reduced_last(const ml_attr *axes, int rank, int64_t *perm)
{
	unsigned set = 0;
	int at = 0;

	for (int i = 0; i < axes->count; i++)
		set |= 1u << axes->ints[i];
	for (unsigned pass = 0; pass < 2; pass++)
		for (int d = 0; d < rank; d++)
			if ((set >> d & 1) == pass)
				perm[at++] = d;
}

/* Products of all other elements: those before times those behind, along one flattened axis. */
ML_GRADIENT(reduce_prod)
{
	const ml_attr *axes = &ML_A(g->node, reduce_prod, axes);
	ml_builder *b = &g->b;
	ml_dims *dims = b->m->dims;
	ml_value *x = g->in[0];
	int rank = x->type.rank, kept = rank - axes->count;
	int64_t perm[ML_MAX_RANK] = {0}, back[ML_MAX_RANK];
	ml_dim flat[ML_MAX_RANK];

	if (!axes->count) {
		ml_grad_add(g, 0, g->d[0]);
		return;
	}
	reduced_last(axes, rank, perm);
	for (int i = 0; i < rank; i++)
		back[perm[i]] = i;
	ml_value *moved = ml_build_transpose(b, x, perm);
	flat[kept] = ml_dim_int(dims, 1);
	for (int i = 0; i < rank; i++)
		if (i < kept)
			flat[i] = x->type.dim[perm[i]];
		else
			flat[kept] = ml_dim_mul(dims, flat[kept], x->type.dim[perm[i]]);
	ml_value *line = ml_build_reshape(b, moved, flat, kept + 1);
	ml_value *others = MUL(scan(b, ML_OP_scan_prod, line, kept, true, false),
			       scan(b, ML_OP_scan_prod, line, kept, true, true));
	if (!others || !moved)
		return ml_grad_add(g, 0, NULL);
	others = ml_build_reshape(b, others, moved->type.dim, rank);
	ml_grad_add(g, 0, MUL(g->d[0], ml_build_transpose(b, others, back)));
}

/* Element i is part of the sums at and behind i; a scan the other way adds those up. */
ML_GRADIENT(scan_sum)
{
	const ml_node *n = g->node;

	ml_grad_add(g, 0,
		    scan(&g->b, ML_OP_scan_sum, g->d[0], ML_A(n, scan_sum, axis).i64,
			 ML_A(n, scan_sum, exclusive).i64, !ML_A(n, scan_sum, reverse).i64));
}

/* The slope of product j by element i is the product without i, if i is part of it: a scan of x
 * with 1 in place of element i, for all i.  Quadratic in the axis, but right at zeros. */
ML_GRADIENT(scan_prod)
{
	const ml_node *n = g->node;
	ml_builder *b = &g->b;
	ml_value *x = g->in[0];
	int64_t axis = ML_A(n, scan_prod, axis).i64, behind = axis + 1;
	bool exclusive = ML_A(n, scan_prod, exclusive).i64;
	bool reverse = ML_A(n, scan_prod, reverse).i64;
	ml_dim shape[ML_MAX_RANK];
	int rank = 0;

	/* i along `axis`, j along a new one behind it */
	for (int d = 0; d < ML_MAX_RANK; d++)
		shape[d] = ml_dim_int(b->m->dims, 1);
	shape[0] = x->type.dim[axis];
	rank = x->type.rank - (int)axis + 1;
	ml_value *i = ml_build_iota(b, shape, rank, 0, ML_s64);
	shape[1] = shape[0];
	shape[0] = ml_dim_int(b->m->dims, 1);
	ml_value *j = ml_build_iota(b, shape, rank, 1, ML_s64);
	x = ml_build_unsqueeze(b, x, &axis, 1);
	if (!x)
		return;
	ml_value *one = ml_build_f64(b, x->type.dtype, 1);
	ml_value *without = ml_op3(b, ML_OP_select, ml_op2(b, ML_OP_eq, i, j), one, x);
	without = scan(b, ML_OP_scan_prod, without, behind, exclusive, reverse);
	ml_value *part =
		ml_op2(b, exclusive ? ML_OP_lt : ML_OP_le, reverse ? j : i, reverse ? i : j);
	ml_value *slope = MUL(ml_build_unsqueeze(b, g->d[0], &axis, 1), without);
	slope = ml_sum_over(b, ml_where(b, part, slope), &behind, 1);
	ml_grad_add(g, 0, ml_build_squeeze(b, slope, &behind, 1));
}
