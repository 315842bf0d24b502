/* grad_move.c -- gradients of index maps: every element goes back to where it came from. */
#include "grad_rule.h"
#include "infer.h"

ML_GRADIENT(reshape)
{
	const ml_type *t = &g->in[0]->type;

	ml_grad_add(g, 0, ml_build_reshape(&g->b, g->d[0], t->dim, t->rank));
}

ML_GRADIENT(transpose)
{
	const ml_attr *perm = &ML_A(g->node, transpose, perm);
	int64_t back[ML_MAX_RANK];

	for (int i = 0; i < perm->count; i++)
		back[perm->ints[i]] = i;
	ml_grad_add(g, 0, ml_build_transpose(&g->b, g->d[0], back));
}

ML_GRADIENT(broadcast)
{
	ml_grad_add(g, 0, g->d[0]);
}

ML_GRADIENT(reverse)
{
	ml_node *n = ml_begin(&g->b, ML_OP_reverse, &g->d[0], 1);

	ML_A(n, reverse, axes) = ML_A(g->node, reverse, axes);
	ml_grad_add(g, 0, ml_finish1(&g->b, n));
}

/* How much room `size` elements take with step - 1 others between neighbours; as pad has it. */
static ml_dim
reach(ml_dims *dims, ml_dim size, int64_t step)
{
	ml_dim gaps = ml_dim_mul(dims, ml_dim_sub(dims, size, ml_dim_int(dims, 1)),
				 ml_dim_int(dims, step - 1));

	return ml_dim_max(dims, size, ml_dim_add(dims, size, gaps));
}

/* The elements stand among zeros. */
ML_GRADIENT(slice)
{
	const ml_attr *start = &ML_A(g->node, slice, start), *step = &ML_A(g->node, slice, step);
	ml_builder *b = &g->b;
	ml_dims *dims = b->m->dims;
	const ml_type *t = &g->in[0]->type;
	ml_value *d = g->d[0];
	int64_t interior[ML_MAX_RANK];
	ml_dim low[ML_MAX_RANK], high[ML_MAX_RANK];

	for (int i = 0; i < t->rank; i++) {
		if (ml_dim_equals(d->type.dim[i], 0))
			return; /* no elements, wherever it starts */
		interior[i] = step->ints[i] - 1;
		low[i] = start->dims[i];
		high[i] = ml_dim_sub(dims, ml_dim_sub(dims, t->dim[i], low[i]),
				     reach(dims, d->type.dim[i], step->ints[i]));
	}
	ml_value *zero = ml_build_f64(b, d->type.dtype, 0);
	ml_grad_add(g, 0, ml_build_pad(b, d, zero, low, high, interior));
}

ML_GRADIENT(pad)
{
	const ml_attr *low = &ML_A(g->node, pad, low), *gap = &ML_A(g->node, pad, interior);
	ml_builder *b = &g->b;
	ml_value *d = g->d[0], *rest;
	int64_t step[ML_MAX_RANK], axes[ML_MAX_RANK];
	int rank = g->in[0]->type.rank;

	for (int i = 0; i < rank; i++) {
		step[i] = gap->ints[i] + 1;
		axes[i] = i;
	}
	ml_value *inner = ml_build_slice(b, d, low->dims, g->in[0]->type.dim, step);
	ml_grad_add(g, 0, inner);
	if (!g->wanted[1])
		return;
	rest = SUB(ml_sum_over(b, d, axes, rank), ml_sum_over(b, inner, axes, rank));
	ml_grad_add(g, 1, rest);
}

ML_GRADIENT(concat)
{
	int axis = (int)ML_A(g->node, concat, axis).i64;
	ml_builder *b = &g->b;
	ml_dim at = ml_dim_int(b->m->dims, 0);

	for (int i = 0; i < g->node->nin; i++) {
		ml_dim size = g->in[i]->type.dim[axis];
		if (g->wanted[i])
			ml_grad_add(g, i, ml_part_of(b, g->d[0], axis, at, size));
		at = ml_dim_add(b->m->dims, at, size);
	}
}

/* ---- window ---- */

/* One spatial dim folded back: d has the positions at `axis` and the offsets within a window last.
 * For each offset its elements stand among zeros at their places; the sum of these. */
static ml_value *
fold_dim(ml_builder *b, ml_value *d, int axis, ml_dim size, int64_t stride, int64_t dilation)
{
	ml_dims *dims = b->m->dims;
	int64_t kernel, last, interior[ML_MAX_RANK] = {0};
	ml_dim low[ML_MAX_RANK], high[ML_MAX_RANK];
	ml_value *sum = NULL;

	if (!d)
		return NULL;
	last = d->type.rank - 1;
	ml_dim_is_int(d->type.dim[last], &kernel);
	for (int i = 0; i < last; i++)
		low[i] = high[i] = ml_dim_int(dims, 0);
	interior[axis] = stride - 1;
	for (int64_t k = 0; k < kernel; k++) {
		ml_value *one =
			ml_part_of(b, d, (int)last, ml_dim_int(dims, k), ml_dim_int(dims, 1));
		one = ml_build_squeeze(b, one, &last, 1);
		if (!one)
			return NULL;
		low[axis] = ml_dim_int(dims, k * dilation);
		high[axis] = ml_dim_sub(dims, ml_dim_sub(dims, size, low[axis]),
					reach(dims, one->type.dim[axis], stride));
		one = ml_build_pad(b, one, ml_build_f64(b, one->type.dtype, 0), low, high,
				   interior);
		sum = sum ? ADD(sum, one) : one;
	}
	return sum;
}

/* [.., OH, OW, KH, KW] -> [.., H, W], last dim first. */
ML_GRADIENT(window)
{
	const ml_node *n = g->node;
	const ml_type *t = &g->in[0]->type;
	int k = ML_A(n, window, size).count;
	ml_value *d = g->d[0];

	for (int i = k - 1; i >= 0; i--) {
		int axis = t->rank - k + i;
		d = fold_dim(&g->b, d, axis, t->dim[axis], ML_A(n, window, stride).ints[i],
			     ML_A(n, window, dilation).ints[i]);
	}
	ml_grad_add(g, 0, d);
}
