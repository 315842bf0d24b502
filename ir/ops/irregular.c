/* irregular.c -- type rules of operators served by runtime routines; sizes that depend on data
 * become fresh symbols with an upper bound. */
#include "../infer.h"

/* Runtime routines know elements of whole bytes and floats of 16 bits at least. */
static ml_status
want_known(ml_builder *b, const ml_node *n)
{
	ml_dtype t = ml_in(n, 0)->type.dtype;

	if (ml_dtype_bits(t) >= 8 && !(ml_is_float(t) && ml_dtype_bytes(t) == 1))
		return ML_OK;
	return ml_type_fail(b, n, ML_ERR_TYPE, "operand 0 must not be %s", ml_dtype_name(t));
}

ml_status
ml_type_top_k(ml_builder *b, ml_node *n)
{
	const ml_attr *k = &ML_A(n, top_k, k);
	ml_attr *axis = &ML_A(n, top_k, axis);
	ml_type t = ml_in(n, 0)->type;

	ML_STEP(want_known(b, n));
	ML_STEP(ml_want_kind(b, n, 0, ML_KF | ML_KI));
	ML_STEP(ml_want_count(b, n, k, 1, "k"));
	ML_STEP(ml_want_axis(b, n, axis, t.rank));
	ML_STEP(ml_want_le(b, n, k->dims[0], t.dim[axis->i64], "k must not exceed the dim"));
	t.dim[axis->i64] = k->dims[0];
	n->out[0].type = t;
	t.dtype = ML_s64;
	n->out[1].type = t;
	return ML_OK;
}

ml_status
ml_type_nonzero(ml_builder *b, ml_node *n)
{
	const ml_type *x = &ml_in(n, 0)->type;

	ML_STEP(want_known(b, n));
	ML_STEP(ml_want_rank(b, n, 0, 1, ML_MAX_RANK));
	ml_dim found = ml_fresh_dim(b, n, 0, 1, ml_type_count(b->m->dims, x));
	n->out[0].type = (ml_type){.dtype = ML_s64, .rank = 2, .dim = {ML_D(b, x->rank), found}};
	return ML_OK;
}

ml_status
ml_type_unique(ml_builder *b, ml_node *n)
{
	const ml_type *x = &ml_in(n, 0)->type;

	ML_STEP(want_known(b, n));
	ML_STEP(ml_want_rank(b, n, 0, 1, 1));
	ml_dim found = ml_fresh_dim(b, n, 0, 0, x->dim[0]);
	for (int i = 0; i < 4; i++)
		n->out[i].type = (ml_type){.dtype = i ? ML_s64 : x->dtype,
					   .rank = 1,
					   .dim = {i == 2 ? x->dim[0] : found}};
	return ML_OK;
}

/* boxes[batch, n, 4], scores[batch, classes, n], max, iou, score: one element each */
ml_status
ml_type_nms(ml_builder *b, ml_node *n)
{
	ml_dims *dims = b->m->dims;
	const ml_type *boxes = &ml_in(n, 0)->type, *scores = &ml_in(n, 1)->type;

	ML_STEP(ml_want_rank(b, n, 0, 3, 3));
	ML_STEP(ml_want_rank(b, n, 1, 3, 3));
	for (int i = 0; i < 5; i++) {
		ML_STEP(ml_want_dtype(b, n, i, i == 2 ? ML_s64 : ML_f32));
		if (i > 1)
			ML_STEP(ml_want_equal(b, n, ml_type_count(dims, &ml_in(n, i)->type),
					      ML_D(b, 1), "limits are single numbers"));
	}
	ML_STEP(ml_want_equal(b, n, boxes->dim[0], scores->dim[0],
			      "as many batches of boxes as of scores"));
	ML_STEP(ml_want_equal(b, n, boxes->dim[1], scores->dim[2], "one score per box"));
	ML_STEP(ml_want_equal(b, n, boxes->dim[2], ML_D(b, 4), "a box is four numbers"));
	ml_dim found = ml_fresh_dim(b, n, 0, 0, ml_type_count(dims, scores));
	n->out[0].type = (ml_type){.dtype = ML_s64, .rank = 2, .dim = {found, ML_D(b, 3)}};
	return ML_OK;
}
