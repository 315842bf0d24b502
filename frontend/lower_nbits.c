/* lower_nbits.c -- MatMulNBits: weights of few bits in blocks with a scale each. */
#include "lower_quant.h"
#include <string.h>

/* What the node says: y[.., n] = a[.., k] . w, `blocks` of `block` along k. */
typedef struct nbits {
	int64_t k, n, bits, block, blocks;
	bool exact; /* the activations are to stay floats */
} nbits;

static bool
read_attributes(ml_lower *x, nbits *a)
{
	int64_t level = ml_onnx_int(x, "accuracy_level", 0);

	a->k = ml_onnx_int(x, "K", 0);
	a->n = ml_onnx_int(x, "N", 0);
	a->bits = ml_onnx_int(x, "bits", 4);
	a->block = ml_onnx_int(x, "block_size", 0);
	a->exact = level >= 1 && level <= 3;
	if (a->k < 1 || a->n < 1 || a->k > INT32_MAX || a->n > INT32_MAX) {
		ml_lower_fail(x, ML_ERR_VALUE, "K is %lld and N %lld", (long long)a->k,
			      (long long)a->n);
		return false;
	}
	if (a->bits != 4 && a->bits != 8) {
		ml_lower_fail(x, ML_ERR_UNSUPPORTED, "weights of %lld bits: 4 and 8 are known",
			      (long long)a->bits);
		return false;
	}
	if (a->block < 16 || a->block > INT32_MAX || (a->block & (a->block - 1))) {
		ml_lower_fail(x, ML_ERR_VALUE, "block_size is %lld, must be a power of 2 from 16",
			      (long long)a->block);
		return false;
	}
	a->blocks = (a->k + a->block - 1) / a->block;
	return true;
}

/* Rows that stand in their own order need no index of groups. */
static bool
is_in_order(const nbits *a, const ml_value *g_idx)
{
	int64_t n;

	if (!ml_is_const(g_idx) || !ml_type_static_count(&g_idx->type, &n) ||
	    (n != a->k && n != a->blocks * a->block))
		return false;
	for (int64_t i = 0; i < n; i++)
		if (ml_const_s64(g_idx, i) != i / a->block)
			return false;
	return true;
}

/* Packed nibbles u8[.., n] -> u8[.., 2n], the low one first; constants at once. */
static ml_value *
unpack_nibbles(ml_lower *x, ml_value *v)
{
	ml_value *half[2];
	int64_t axis = v->type.rank, n;
	ml_type t = v->type;
	void *bytes;

	t.dim[axis - 1] = ml_dim_mul(ML_DIMS, t.dim[axis - 1], ML_INT(2));
	if (ml_is_const(v) && ml_type_static_count(&v->type, &n)) {
		const uint8_t *from = ml_const_blob(v)->bytes;
		ml_blob *blob = ml_blob_new(&x->cx->memory, (uint64_t)n * 2, &bytes);
		for (int64_t i = 0; i < n; i++) {
			((uint8_t *)bytes)[2 * i] = from[i] & 15;
			((uint8_t *)bytes)[2 * i + 1] = from[i] >> 4;
		}
		return ml_build_const(x->b, &t, blob);
	}
	half[0] = ML_X2(and, v, ML_LIKE(v, 15));
	half[1] = ML_X2(shr, v, ML_LIKE(v, 4));
	for (int i = 0; i < 2; i++)
		half[i] = half[i] ? ml_build_unsqueeze(x->b, half[i], &axis, 1) : NULL;
	return ml_lower_reshape(x, ml_build_concat(x->b, half, 2, (int)axis), t.dim, (int)axis);
}

/* Zero points u8[n, blocks], which rows of bytes hold, or floats. */
static ml_value *
zero_points(ml_lower *x, const nbits *a)
{
	ml_value *zero = x->in[3];
	ml_dim bytes[] = {ML_INT(a->n), ML_INT((a->blocks * a->bits + 7) / 8)};
	ml_dim table[] = {ML_INT(a->n), ML_INT(a->blocks)};

	if (!zero)
		return ml_build_f64(x->b, ML_u8, (double)(1 << (a->bits - 1)));
	if (zero->type.dtype != ML_u8)
		return ml_lower_reshape(x, zero, table, 2);
	zero = ml_lower_reshape(x, zero, bytes, 2);
	if (a->bits == 8 || !zero)
		return zero;
	return ml_lower_cut(x, unpack_nibbles(x, zero), 1, ML_INT(0), ML_INT(a->blocks));
}

/* Weights [n, blocks * block] as floats. */
static ml_value *
weights(ml_lower *x, const nbits *a)
{
	ml_dim packed[] = {ML_INT(a->n), ML_INT(a->blocks * a->block * a->bits / 8)};
	ml_dim table[] = {ML_INT(a->n), ML_INT(a->blocks)};
	ml_dim split[] = {ML_INT(a->n), ML_INT(a->blocks), ML_INT(a->block)};
	ml_value *w = ml_lower_reshape(x, x->in[1], packed, 2), *zero = zero_points(x, a);
	ml_value *scale = ml_lower_reshape(x, x->in[2], table, 2);

	w = w && a->bits == 4 ? unpack_nibbles(x, w) : w;
	if (!w || !scale || !zero || !ml_lower_factor_fits(x, scale))
		return NULL;
	if (!a->exact && zero->type.dtype == ML_u8)
		return ml_lower_dequantize_blocks(x, w, scale, zero, 1);
	ml_dim all[] = {split[0], ml_dim_mul(ML_DIMS, split[1], split[2])};
	split[2] = ML_INT(1);
	scale = ml_lower_reshape(x, scale, split, 3);
	zero = ml_lower_as(x, zero, scale);
	zero = zero && zero->type.rank ? ml_lower_reshape(x, zero, split, 3) : zero;
	split[2] = ML_INT(a->block);
	w = ml_lower_reshape(x, ml_lower_as(x, w, scale), split, 3);
	return ml_lower_reshape(x, ML_X2(mul, ML_X2(sub, w, zero), scale), all, 2);
}

/* a[.., k] times weights of 4 or 8 bits in blocks along k: b u8[n, blocks, bytes].  Where the last
 * block is not whole, a gets zeros. */
ml_value *
ml_lower_matmul_nbits(ml_lower *x)
{
	static const int64_t swap[] = {1, 0};
	ml_dim low[ML_MAX_RANK], high[ML_MAX_RANK];
	int64_t none[ML_MAX_RANK] = {0};
	ml_value *v = x->in[0], *y;
	nbits a;

	if (!read_attributes(x, &a))
		return NULL;
	if (x->in[4] && !is_in_order(&a, x->in[4]))
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED,
				     "g_idx takes rows out of order: reorder the weights' rows");
	int last = v->type.rank - 1;
	if (last < 0 || !ml_require_equal(x->b, v->type.dim[last], ML_INT(a.k), "A has K columns"))
		return x->b->failed ? NULL
				    : ml_lower_fail(x, ML_ERR_SHAPE, "A must have K columns");
	for (int i = 0; i <= last; i++)
		low[i] = high[i] = ML_INT(0);
	high[last] = ML_INT(a.blocks * a.block - a.k);
	if (a.blocks * a.block != a.k)
		v = ml_build_pad(x->b, v, ml_build_f64(x->b, v->type.dtype, 0), low, high, none);
	y = ml_lower_product(x, v, ml_lower_transpose(x, weights(x, &a), swap));
	return x->in[5] ? ML_X2(add, y, x->in[5]) : y;
}
