/* lower_linear.c -- sums of products: MatMul, Gemm. */
#include "lower.h"

bool
ml_lower_lists(ml_lower *x, ml_value **a, ml_value **b, ml_lists *l)
{
	const int64_t first = 0, second = 1;

	if (!*a || !*b)
		return false;
	if (!(*a)->type.rank || !(*b)->type.rank) {
		ml_lower_fail(x, ML_ERR_SHAPE, "operands must not be scalars");
		return false;
	}
	*l = (ml_lists){(*a)->type.rank == 1, (*b)->type.rank == 1};
	*a = l->row ? ml_build_unsqueeze(x->b, *a, &first, 1) : *a;
	*b = l->column ? ml_build_unsqueeze(x->b, *b, &second, 1) : *b;
	return *a && *b;
}

ml_value *
ml_lower_as_list(ml_lower *x, ml_value *product, ml_lists l)
{
	int64_t axes[2];
	int n = 0;

	if (!product)
		return NULL;
	if (l.row)
		axes[n++] = product->type.rank - 2;
	if (l.column)
		axes[n++] = product->type.rank - 1;
	return n ? ml_build_squeeze(x->b, product, axes, n) : product;
}

ml_value *
ml_lower_product(ml_lower *x, ml_value *a, ml_value *b)
{
	ml_lists lists;

	if (!ml_lower_lists(x, &a, &b, &lists))
		return NULL;
	ml_value *v = ml_build_matmul(x->b, ml_lower_wide(x, a), ml_lower_wide(x, b));
	v = ml_is_float(a->type.dtype) ? ml_lower_as(x, v, a) : v;
	return ml_lower_as_list(x, v, lists);
}

/* Integers wider than dot sums up: products, then a sum. */
static ml_value *
wide_product(ml_lower *x, ml_value *a, ml_value *b)
{
	int64_t k, last;

	if (a->type.rank < 2 || b->type.rank < 2)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "%s lists cannot be multiplied",
				     ml_dtype_name(a->type.dtype));
	last = a->type.rank;
	k = b->type.rank - 2;
	a = ml_build_unsqueeze(x->b, a, &last, 1); /* [.., m, k, 1] */
	b = ml_build_unsqueeze(x->b, b, &k, 1);    /* [.., 1, k, n] */
	a = ML_X2(mul, a, b);
	k = a ? a->type.rank - 2 : 0;
	return ml_lower_reduce(x, ML_OP_reduce_sum, a, &k, 1, false);
}

ml_value *
ml_lower_matmul(ml_lower *x)
{
	ml_value *a = x->in[0], *b = x->in[1];

	if (a->type.dtype != b->type.dtype)
		return ml_lower_fail(x, ML_ERR_TYPE, "operands have types %s and %s",
				     ml_dtype_name(a->type.dtype), ml_dtype_name(b->type.dtype));
	if (ml_is_integer(a->type.dtype) && a->type.dtype != ML_s32)
		return wide_product(x, a, b);
	return ml_lower_product(x, a, b);
}

static ml_value *
scaled(ml_lower *x, ml_value *v, double by)
{
	return by == 1 ? v : ML_X2(mul, v, ML_LIKE(v, by));
}

ml_value *
ml_lower_gemm(ml_lower *x)
{
	static const int64_t swap[] = {1, 0};
	ml_value *a = x->in[0], *b = x->in[1], *c = x->in[2], *y;
	double alpha = ml_onnx_float(x, "alpha", 1), beta = ml_onnx_float(x, "beta", 1);
	bool left = ml_onnx_int(x, "transA", 0) != 0, right = ml_onnx_int(x, "transB", 0) != 0;

	if (a->type.rank != 2 || b->type.rank != 2)
		return ml_lower_fail(x, ML_ERR_SHAPE, "operands have ranks %d and %d, must have 2",
				     a->type.rank, b->type.rank);
	if (c && c->type.rank > 2)
		return ml_lower_fail(x, ML_ERR_SHAPE, "C has rank %d", c->type.rank);
	a = left ? ml_build_transpose(x->b, a, swap) : a;
	b = right ? ml_build_transpose(x->b, b, swap) : b;
	if (!a || !b)
		return NULL;
	y = ml_is_integer(a->type.dtype) && a->type.dtype != ML_s32 ? wide_product(x, a, b)
								    : ml_lower_product(x, a, b);
	y = scaled(x, y, alpha);
	return c && beta != 0 ? ML_X2(add, y, scaled(x, c, beta)) : y;
}

/* com.microsoft: alpha a . b with the last two dims of either transposed first */
ml_value *
ml_lower_fused_matmul(ml_lower *x)
{
	ml_value *in[] = {x->in[0], x->in[1]}, *y;
	bool swap[] = {ml_onnx_int(x, "transA", 0) != 0, ml_onnx_int(x, "transB", 0) != 0};
	double alpha = ml_onnx_float(x, "alpha", 1);

	if (ml_onnx_int(x, "transBatchA", 0) || ml_onnx_int(x, "transBatchB", 0))
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "transposed batches");
	for (int i = 0; i < 2; i++) {
		int r = in[i]->type.rank;
		if (swap[i] && r > 1)
			in[i] = ml_lower_move_axis(x, in[i], r - 1, r - 2);
	}
	y = ml_lower_product(x, in[0], in[1]);
	return scaled(x, y, alpha);
}
