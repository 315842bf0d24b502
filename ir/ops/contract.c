/* contract.c -- type rule of dot. */
#include "../infer.h"

/* Paired axes of both operands: valid, distinct, equal in size; `taken` collects them. */
static ml_status
pair_axes(ml_builder *b, ml_node *n, ml_attr *lhs, ml_attr *rhs, unsigned taken[2],
	  const char *rule)
{
	const ml_type *x = &ml_in(n, 0)->type, *y = &ml_in(n, 1)->type;

	ML_STEP(ml_want_count(b, n, rhs, lhs->count, rule));
	ML_STEP(ml_want_axes(b, n, lhs, x->rank));
	ML_STEP(ml_want_axes(b, n, rhs, y->rank));
	for (int i = 0; i < lhs->count; i++) {
		if (taken[0] >> lhs->ints[i] & 1 || taken[1] >> rhs->ints[i] & 1)
			return ml_type_fail(b, n, ML_ERR_VALUE,
					    "an axis is both batch and contracted");
		taken[0] |= 1u << lhs->ints[i];
		taken[1] |= 1u << rhs->ints[i];
		ML_STEP(ml_want_equal(b, n, x->dim[lhs->ints[i]], y->dim[rhs->ints[i]], rule));
	}
	return ML_OK;
}

static ml_status
dot_dtype(ml_builder *b, ml_node *n, ml_dtype *t)
{
	ml_dtype x = ml_in(n, 0)->type.dtype, y = ml_in(n, 1)->type.dtype;
	bool narrow = ml_dtype_bytes(x) <= 4 && ml_dtype_bytes(y) <= 4;

	if (x == y && (x == ML_f32 || x == ML_f64)) {
		*t = x;
		return ML_OK;
	}
	if (x == y && x == ML_bf16) {
		*t = ML_f32;
		return ML_OK;
	}
	*t = ML_s32;
	if (ml_is_integer(x) && ml_is_integer(y) && narrow)
		return ML_OK;
	return ml_type_fail(b, n, ML_ERR_TYPE,
			    "operands are both f32, both f64, both bf16, or integers of up "
			    "to 32 bits");
}

static ml_status
append(ml_builder *b, ml_node *n, ml_type *t, ml_dim d)
{
	if (t->rank == ML_MAX_RANK)
		return ml_type_fail(b, n, ML_ERR_LIMIT, "the result's rank is larger than %d",
				    ML_MAX_RANK);
	t->dim[t->rank++] = d;
	return ML_OK;
}

ml_status
ml_type_dot(ml_builder *b, ml_node *n)
{
	ml_attr *batch = &ML_A(n, dot, lhs_batch);
	unsigned taken[2] = {0, 0};
	ml_type t = {0};

	ML_STEP(dot_dtype(b, n, &t.dtype));
	ML_STEP(pair_axes(b, n, batch, &ML_A(n, dot, rhs_batch), taken,
			  "batch dimensions must be equal"));
	ML_STEP(pair_axes(b, n, &ML_A(n, dot, lhs_contract), &ML_A(n, dot, rhs_contract), taken,
			  "inner dimensions must be equal"));
	for (int i = 0; i < batch->count; i++)
		ML_STEP(append(b, n, &t, ml_in(n, 0)->type.dim[batch->ints[i]]));
	for (int side = 0; side < 2; side++)
		for (int d = 0; d < ml_in(n, side)->type.rank; d++)
			if (!(taken[side] >> d & 1))
				ML_STEP(append(b, n, &t, ml_in(n, side)->type.dim[d]));
	n->out[0].type = t;
	return ML_OK;
}
