/* tile_bf16.c -- the bf16 tile: two k at a time, sums in f32.
 *
 * With AVX512_BF16 a pair is one instruction, which takes denormals for 0 and rounds the sum of two
 * products its own way.  Other levels widen both numbers, exactly, and add the products by fma.
 */
#include "tile.h"

static ml_v
multiply_pairs(ml_emit *e, ml_v acc, ml_v a, ml_v b)
{
	LLVMTypeRef pairs = LLVMVectorType(LLVMBFloatTypeInContext(e->lc), 2 * ML_LANES);
	ml_v args[] = {acc, LLVMBuildBitCast(e->b, a, pairs, ""),
		       LLVMBuildBitCast(e->b, b, pairs, "")};

	return ml_intrinsic(e, "llvm.x86.avx512bf16.dpbf16ps.512", NULL, 0, args, 3);
}

/* The lower or upper bf16 of each word, as f32. */
static ml_v
widen(ml_emit *e, ml_v words, int half)
{
	ml_v upper = half ? LLVMBuildAnd(e->b, words, ml_splat(e, ml_i32(e, (int)0xffff0000)), "")
			  : LLVMBuildShl(e->b, words, ml_splat(e, ml_i32(e, 16)), "");

	return LLVMBuildBitCast(e->b, upper, ml_vec_type(e->f32), "");
}

static ml_v
widen_and_multiply(ml_emit *e, ml_v acc, ml_v a, ml_v b)
{
	for (int half = 0; half < 2; half++)
		acc = ml_fma(e, widen(e, a, half), widen(e, b, half), acc);
	return acc;
}

void
ml_tile_bf16(ml_emit *e, const ml_tile *t)
{
	bool pairs = ml_target_has_bf16(e->target);

	ml_tile_words(e, t, ML_CONTRACT_BF16, pairs ? multiply_pairs : widen_and_multiply);
}
