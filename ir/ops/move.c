/* move.c -- type rules of index maps. */
#include "../infer.h"

/* A shape attribute as the result's shape. */
static ml_status
given_shape(ml_builder *b, ml_node *n, const ml_attr *shape, ml_type *t)
{
	if (shape->count > ML_MAX_RANK)
		return ml_type_fail(b, n, ML_ERR_LIMIT, "rank %d is larger than %d", shape->count,
				    ML_MAX_RANK);
	t->dtype = ml_in(n, 0)->type.dtype;
	t->rank = shape->count;
	for (int i = 0; i < t->rank; i++)
		t->dim[i] = shape->dims[i];
	return ML_OK;
}

ml_status
ml_type_reshape(ml_builder *b, ml_node *n)
{
	ml_dims *dims = b->m->dims;
	ml_type t;

	ML_STEP(given_shape(b, n, &ML_A(n, reshape, shape), &t));
	ml_dim from = ml_type_count(dims, &ml_in(n, 0)->type), to = ml_type_count(dims, &t);
	ML_STEP(ml_want_equal(b, n, from, to, "a reshape keeps the number of elements"));
	n->out[0].type = t;
	return ML_OK;
}

ml_status
ml_type_transpose(ml_builder *b, ml_node *n)
{
	const ml_type *x = &ml_in(n, 0)->type;
	ml_attr *perm = &ML_A(n, transpose, perm);
	ml_type t = *x;

	ML_STEP(ml_want_count(b, n, perm, x->rank, "perm"));
	ML_STEP(ml_want_axes(b, n, perm, x->rank));
	for (int i = 0; i < t.rank; i++)
		t.dim[i] = x->dim[perm->ints[i]];
	n->out[0].type = t;
	return ML_OK;
}

ml_status
ml_type_broadcast(ml_builder *b, ml_node *n)
{
	const ml_type *x = &ml_in(n, 0)->type;
	ml_type t;

	ML_STEP(given_shape(b, n, &ML_A(n, broadcast, shape), &t));
	if (t.rank < x->rank)
		return ml_type_fail(b, n, ML_ERR_SHAPE, "does not broadcast to rank %d", t.rank);
	for (int i = 0; i < x->rank; i++)
		if (!ml_dim_equals(x->dim[i], 1))
			ML_STEP(ml_want_equal(b, n, x->dim[i], t.dim[t.rank - x->rank + i],
					      "sizes other than 1 stay in a broadcast"));
	n->out[0].type = t;
	return ML_OK;
}

ml_status
ml_type_slice(ml_builder *b, ml_node *n)
{
	ml_dims *dims = b->m->dims;
	const ml_attr *start = &ML_A(n, slice, start), *size = &ML_A(n, slice, size);
	const ml_attr *step = &ML_A(n, slice, step);
	const ml_type *x = &ml_in(n, 0)->type;
	ml_type t = *x;

	ML_STEP(ml_want_count(b, n, start, x->rank, "start"));
	ML_STEP(ml_want_count(b, n, size, x->rank, "size"));
	ML_STEP(ml_want_count(b, n, step, x->rank, "step"));
	ML_STEP(ml_want_least(b, n, step, 1, "step"));
	for (int i = 0; i < x->rank; i++) {
		t.dim[i] = size->dims[i];
		if (ml_dim_equals(start->dims[i], 0) && size->dims[i] == x->dim[i] &&
		    step->ints[i] == 1)
			continue;
		if (ml_dim_equals(size->dims[i], 0))
			continue; /* reads nothing, wherever it starts */
		ML_STEP(ml_want_le(b, n, ML_D(b, 0), start->dims[i], "slices start at 0 or later"));
		/* start + (size - 1) * step + 1 <= dim */
		ml_dim end = ml_dim_sub(dims, size->dims[i], ML_D(b, 1));
		end = ml_dim_mul(dims, end, ML_D(b, step->ints[i]));
		end = ml_dim_add(dims, ml_dim_add(dims, end, start->dims[i]), ML_D(b, 1));
		ML_STEP(ml_want_le(b, n, end, x->dim[i], "slices end within their operand"));
	}
	n->out[0].type = t;
	return ML_OK;
}

ml_status
ml_type_pad(ml_builder *b, ml_node *n)
{
	ml_dims *dims = b->m->dims;
	const ml_attr *low = &ML_A(n, pad, low), *high = &ML_A(n, pad, high);
	const ml_attr *interior = &ML_A(n, pad, interior);
	ml_type t = ml_in(n, 0)->type;

	ML_STEP(ml_want_same_dtype(b, n, 0, 1));
	ML_STEP(ml_want_rank(b, n, 1, 0, 0));
	ML_STEP(ml_want_count(b, n, low, t.rank, "low"));
	ML_STEP(ml_want_count(b, n, high, t.rank, "high"));
	ML_STEP(ml_want_count(b, n, interior, t.rank, "interior"));
	ML_STEP(ml_want_least(b, n, interior, 0, "interior"));
	for (int i = 0; i < t.rank; i++) {
		ML_STEP(ml_want_le(b, n, ML_D(b, 0), low->dims[i], "padding is not negative"));
		ML_STEP(ml_want_le(b, n, ML_D(b, 0), high->dims[i], "padding is not negative"));
		/* No gaps in an axis without elements; as one atom, because sizes get multiplied.
		 */
		ml_dim gaps = ml_dim_mul(dims, ml_dim_sub(dims, t.dim[i], ML_D(b, 1)),
					 ML_D(b, interior->ints[i]));
		ml_dim wide = ml_dim_max(dims, t.dim[i], ml_dim_add(dims, t.dim[i], gaps));
		ml_dim around = ml_dim_add(dims, low->dims[i], high->dims[i]);
		t.dim[i] = ml_dim_add(dims, wide, around);
	}
	n->out[0].type = t;
	return ML_OK;
}

ml_status
ml_type_concat(ml_builder *b, ml_node *n)
{
	ml_attr *axis = &ML_A(n, concat, axis);

	if (!n->nin)
		return ml_type_fail(b, n, ML_ERR_TYPE, "nothing to concatenate");
	ml_type t = ml_in(n, 0)->type;
	ML_STEP(ml_want_axis(b, n, axis, t.rank));
	for (int i = 1; i < n->nin; i++) {
		const ml_type *x = &ml_in(n, i)->type;
		ML_STEP(ml_want_same_dtype(b, n, 0, i));
		ML_STEP(ml_want_rank(b, n, i, t.rank, t.rank));
		for (int d = 0; d < t.rank; d++)
			if (d != axis->i64)
				ML_STEP(ml_want_equal(b, n, t.dim[d], x->dim[d],
						      "only the joined dim may differ"));
		t.dim[axis->i64] = ml_dim_add(b->m->dims, t.dim[axis->i64], x->dim[axis->i64]);
	}
	n->out[0].type = t;
	return ML_OK;
}

ml_status
ml_type_reverse(ml_builder *b, ml_node *n)
{
	ML_STEP(ml_want_axes(b, n, &ML_A(n, reverse, axes), ml_in(n, 0)->type.rank));
	n->out[0].type = ml_in(n, 0)->type;
	return ML_OK;
}

ml_dim
ml_window_count(ml_builder *b, ml_dim size, int64_t kernel, int64_t stride, int64_t dilation)
{
	ml_dims *dims = b->m->dims;
	ml_dim reach = ml_dim_mul(dims, ML_D(b, kernel - 1), ML_D(b, dilation));
	ml_dim free = ml_dim_sub(dims, ml_dim_sub(dims, size, reach), ML_D(b, 1));

	return ml_dim_add(dims, ml_dim_floordiv(dims, free, ML_D(b, stride)), ML_D(b, 1));
}

ml_status
ml_type_window(ml_builder *b, ml_node *n)
{
	ml_dims *dims = b->m->dims;
	const ml_attr *size = &ML_A(n, window, size), *stride = &ML_A(n, window, stride);
	const ml_attr *dilation = &ML_A(n, window, dilation);
	const ml_type *x = &ml_in(n, 0)->type;
	ml_type t = *x;
	int k = size->count, lead = x->rank - k;

	if (k < 1 || lead < 0 || x->rank + k > ML_MAX_RANK)
		return ml_type_fail(b, n, ML_ERR_VALUE, "size has %d entries", k);
	ML_STEP(ml_want_count(b, n, stride, k, "stride"));
	ML_STEP(ml_want_count(b, n, dilation, k, "dilation"));
	ML_STEP(ml_want_least(b, n, size, 1, "size"));
	ML_STEP(ml_want_least(b, n, stride, 1, "stride"));
	ML_STEP(ml_want_least(b, n, dilation, 1, "dilation"));
	for (int i = 0; i < k; i++) {
		ml_dim reach =
			ml_dim_mul(dims, ML_D(b, size->ints[i] - 1), ML_D(b, dilation->ints[i]));
		ML_STEP(ml_want_le(b, n, ml_dim_add(dims, reach, ML_D(b, 1)), x->dim[lead + i],
				   "a window must fit into its operand"));
		t.dim[lead + i] = ml_window_count(b, x->dim[lead + i], size->ints[i],
						  stride->ints[i], dilation->ints[i]);
		t.dim[x->rank + i] = ML_D(b, size->ints[i]);
	}
	t.rank = x->rank + k;
	n->out[0].type = t;
	return ML_OK;
}
