/* lower_nbits.c -- MatMulNBits: weights of few bits in blocks with a scale each. */
#include "lower.h"

/* Packed nibbles u8[.., n] -> u8[.., 2n], the low one first */
static ml_value *
unpack_nibbles(ml_lower *x, ml_value *v)
{
	ml_value *half[2];
	int64_t axis = v->type.rank;
	ml_dim shape[ML_MAX_RANK];

	half[0] = ML_X2(and, v, ML_LIKE(v, 15));
	half[1] = ML_X2(shr, v, ML_LIKE(v, 4));
	for (int i = 0; i < v->type.rank; i++)
		shape[i] = v->type.dim[i];
	shape[axis - 1] = ml_dim_mul(ML_DIMS, shape[axis - 1], ML_INT(2));
	for (int i = 0; i < 2; i++)
		half[i] = half[i] ? ml_build_unsqueeze(x->b, half[i], &axis, 1) : NULL;
	return ml_lower_reshape(x, ml_build_concat(x->b, half, 2, (int)axis), shape, (int)axis);
}

/* a[.., K] times weights of 4 or 8 bits in blocks along K: b u8[N, blocks, bytes] */
ml_value *
ml_lower_matmul_nbits(ml_lower *x)
{
	static const int64_t swap[] = {1, 0};
	ml_value *w = x->in[1], *scale = x->in[2], *zero = x->in[3], *y;
	int64_t k = ml_onnx_int(x, "K", 0), n = ml_onnx_int(x, "N", 0);
	int64_t bits = ml_onnx_int(x, "bits", 4), block = ml_onnx_int(x, "block_size", 0);

	ml_onnx_ignore(x, "accuracy_level");
	if (k < 1 || n < 1 || block < 16 || (bits != 4 && bits != 8) || k > INT32_MAX ||
	    n > INT32_MAX)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "K, N, bits or block_size");
	if (x->in[4])
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "g_idx is not supported");
	int64_t blocks = (k + block - 1) / block;
	ml_dim packed[] = {ML_INT(n), ML_INT(blocks), ML_INT(block * bits / 8)};
	ml_dim table[] = {ML_INT(n), ML_INT(blocks), ML_INT(1)};
	ml_dim all[] = {ML_INT(n), ML_INT(blocks * block)};
	w = ml_lower_reshape(x, w, packed, 3);
	w = w && bits == 4 ? unpack_nibbles(x, w) : w;
	scale = ml_lower_reshape(x, scale, table, 3);
	if (zero && zero->type.dtype == ML_u8) {
		ml_dim bytes[] = {ML_INT(n), ML_INT((blocks * bits + 7) / 8)};
		zero = ml_lower_reshape(x, zero, bytes, 2);
		zero = zero && bits == 4 ? unpack_nibbles(x, zero) : zero;
		zero = zero ? ml_lower_cut(x, zero, 1, ML_INT(0), ML_INT(blocks)) : NULL;
	}
	zero = zero ? ml_lower_reshape(x, ml_lower_as(x, zero, scale), table, 3)
		    : ML_LIKE(scale, (double)(1 << (bits - 1)));
	w = ML_X2(mul, ML_X2(sub, ml_lower_as(x, w, scale), zero), scale);
	w = ml_lower_cut(x, ml_lower_reshape(x, w, all, 2), 1, ML_INT(0), ML_INT(k));
	y = ml_lower_product(x, x->in[0], ml_lower_transpose(x, w, swap));
	return x->in[5] ? ML_X2(add, y, x->in[5]) : y;
}
