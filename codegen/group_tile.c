/* group_tile.c -- which products tiles of rows and columns compute, and which a row kernel. */
#include "plan.h"

enum { NARROW_COLUMNS = 2, NARROW_PRODUCTS = 32 };

/* The product of an operand's contracted or free sizes, INT64_MAX when not static. */
static int64_t
static_product(const ml_type *t, const ml_attr *batch, const ml_attr *contract, bool contracted)
{
	int64_t product = 1, size;

	for (int i = 0; i < t->rank; i++) {
		bool taken = false, is_k = false;
		for (int j = 0; j < batch->count; j++)
			taken |= batch->ints[j] == i;
		for (int j = 0; j < contract->count; j++)
			is_k |= contract->ints[j] == i;
		if (taken || is_k != contracted)
			continue;
		if (!ml_dim_is_int(t->dim[i], &size) || size > 1 << 20)
			return INT64_MAX;
		product *= size;
		if (product > 1 << 20)
			return INT64_MAX;
	}
	return product;
}

/* A few products for a column or two, as in a depthwise convolution: 16 columns of a tile would
 * be mostly empty. */
static bool
is_narrow(const ml_node *n)
{
	const ml_type *b = &ml_in(n, 1)->type;
	const ml_attr *batch = &ML_A(n, dot, rhs_batch), *contract = &ML_A(n, dot, rhs_contract);

	return static_product(b, batch, contract, false) <= NARROW_COLUMNS &&
	       static_product(b, batch, contract, true) <= NARROW_PRODUCTS;
}

/* A convolution in groups whose weights w[g, C/g, ..] lie with C side by side, which layout does
 * where lanes hold whole groups. */
static bool
is_spread(const ml_node *n)
{
	const ml_value *w = ml_in(n, 1);
	int rank = w->type.rank;

	if (ML_A(n, dot, lhs_batch).count != 1 || ml_dim_equals(w->type.dim[1], 1) ||
	    !ml_is(w, ML_OP_transpose) || !ml_is_const(ml_in(w->def, 0)) ||
	    !ml_is(ml_in(n, 0), ML_OP_reshape) || !ml_is(ml_in(ml_in(n, 0)->def, 0), ML_OP_window))
		return false;
	const int64_t *perm = ML_A(w->def, transpose, perm).ints;
	return perm[0] == rank - 2 && perm[1] == rank - 1;
}

bool
ml_has_tile(const ml_node *n)
{
	ml_dtype a = ml_in(n, 0)->type.dtype, b = ml_in(n, 1)->type.dtype;
	bool same = a == b && (a == ML_f32 || a == ML_bf16);

	return (same || (a == ML_u8 && b == ML_s8)) && !is_narrow(n) && !is_spread(n);
}
