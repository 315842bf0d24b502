/* source.c -- type rules of operators without operands. */
#include "../infer.h"

/* The type was given by ml_set_results; the bytes must fill it. */
ml_status
ml_type_const(ml_builder *b, ml_node *n)
{
	const ml_type *t = &n->out[0].type;
	const ml_blob *blob = ML_A(n, const, value).blob;
	int64_t count, bytes;

	if (t->dtype == ML_none || !blob)
		return ml_type_fail(b, n, ML_ERR_TYPE, "a constant needs a type and a value");
	if (!ml_type_static_count(t, &count) || count < 0 ||
	    __builtin_mul_overflow(count, ml_dtype_bytes(t->dtype), &bytes))
		return ml_type_fail(b, n, ML_ERR_SHAPE, "sizes of constants are known numbers");
	if ((uint64_t)bytes != blob->size)
		return ml_type_fail(b, n, ML_ERR_SHAPE, "%lld bytes needed, %llu given",
				    (long long)bytes, (unsigned long long)blob->size);
	return ML_OK;
}

ml_status
ml_type_iota(ml_builder *b, ml_node *n)
{
	const ml_attr *shape = &ML_A(n, iota, shape);
	ml_type t = {.dtype = ML_A(n, iota, dtype).dtype, .rank = shape->count};

	if (t.rank < 1 || t.rank > ML_MAX_RANK)
		return ml_type_fail(b, n, ML_ERR_VALUE, "rank %d is outside of 1..%d", t.rank,
				    ML_MAX_RANK);
	if (t.dtype == ML_none || t.dtype == ML_bool)
		return ml_type_fail(b, n, ML_ERR_TYPE, "the element type must be a number");
	ML_STEP(ml_want_axis(b, n, &ML_A(n, iota, axis), t.rank));
	for (int i = 0; i < t.rank; i++)
		t.dim[i] = shape->dims[i];
	n->out[0].type = t;
	return ML_OK;
}

ml_status
ml_type_dim(ml_builder *b, ml_node *n)
{
	ML_STEP(ml_want_count(b, n, &ML_A(n, dim, value), 1, "value"));
	if (ml_dim_is_bad(ML_A(n, dim, value).dims[0]))
		return ml_type_fail(b, n, ML_ERR_LIMIT, "the size overflows");
	n->out[0].type = (ml_type){.dtype = ML_s64};
	return ML_OK;
}
