/* reduce.c -- type rules of reductions, which keep reduced dims with size 1, and of scans. */
#include "../infer.h"

static ml_status
reduced(ml_builder *b, ml_node *n, ml_attr *axes)
{
	ml_type t = ml_in(n, 0)->type;

	ML_STEP(ml_want_axes(b, n, axes, t.rank));
	for (int i = 0; i < axes->count; i++)
		t.dim[axes->ints[i]] = ML_D(b, 1);
	n->out[0].type = t;
	return ML_OK;
}

ml_status
ml_type_reduce_sum(ml_builder *b, ml_node *n)
{
	ML_STEP(ml_want_kind(b, n, 0, ML_KF | ML_KI));
	return reduced(b, n, &ML_A(n, reduce_sum, axes));
}

ml_status
ml_type_reduce_prod(ml_builder *b, ml_node *n)
{
	ML_STEP(ml_want_kind(b, n, 0, ML_KF | ML_KI));
	return reduced(b, n, &ML_A(n, reduce_prod, axes));
}

ml_status
ml_type_reduce_min(ml_builder *b, ml_node *n)
{
	return reduced(b, n, &ML_A(n, reduce_min, axes));
}

ml_status
ml_type_reduce_max(ml_builder *b, ml_node *n)
{
	return reduced(b, n, &ML_A(n, reduce_max, axes));
}

/* Integers divide toward zero, as in NumPy's and ONNX's mean of integers. */
ml_status
ml_type_reduce_mean(ml_builder *b, ml_node *n)
{
	ML_STEP(ml_want_kind(b, n, 0, ML_KF | ML_KI));
	return reduced(b, n, &ML_A(n, reduce_mean, axes));
}

static ml_status
position_of(ml_builder *b, ml_node *n, ml_attr *axis)
{
	ml_type t = ml_in(n, 0)->type;

	ML_STEP(ml_want_axis(b, n, axis, t.rank));
	ML_STEP(ml_want_le(b, n, ML_D(b, 1), t.dim[axis->i64],
			   "the searched dim must not be empty"));
	t.dim[axis->i64] = ML_D(b, 1);
	t.dtype = ML_s64;
	n->out[0].type = t;
	return ML_OK;
}

ml_status
ml_type_arg_max(ml_builder *b, ml_node *n)
{
	return position_of(b, n, &ML_A(n, arg_max, axis));
}

ml_status
ml_type_arg_min(ml_builder *b, ml_node *n)
{
	return position_of(b, n, &ML_A(n, arg_min, axis));
}

static ml_status
scanned(ml_builder *b, ml_node *n, ml_attr *axis)
{
	ML_STEP(ml_want_kind(b, n, 0, ML_KF | ML_KI));
	ML_STEP(ml_want_axis(b, n, axis, ml_in(n, 0)->type.rank));
	n->out[0].type = ml_in(n, 0)->type;
	return ML_OK;
}

ml_status
ml_type_scan_sum(ml_builder *b, ml_node *n)
{
	return scanned(b, n, &ML_A(n, scan_sum, axis));
}

ml_status
ml_type_scan_prod(ml_builder *b, ml_node *n)
{
	return scanned(b, n, &ML_A(n, scan_prod, axis));
}
