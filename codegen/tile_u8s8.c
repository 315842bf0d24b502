/* tile_u8s8.c -- the u8 x s8 tile on CPUs that multiply bytes and add four products at once. */
#include "tile.h"
#include <assert.h>

bool
ml_tile_has_dot(const ml_target *t)
{
	return t->level == ML_LEVEL_AVXVNNI || t->level >= ML_LEVEL_AVX512VNNI ||
	       t->level == ML_LEVEL_DOTPROD || t->level == ML_LEVEL_I8MM;
}

static ml_v
call_vnni(ml_emit *e, const char *intrinsic, ml_v acc, ml_v a, ml_v b)
{
	return ml_intrinsic(e, intrinsic, NULL, 0, (ml_v[]){acc, a, b}, 3);
}

static ml_v
call_neon(ml_emit *e, const char *intrinsic, ml_v acc, ml_v a, ml_v b)
{
	LLVMTypeRef bytes = LLVMVectorType(e->i8, LLVMGetVectorSize(LLVMTypeOf(acc)) * 4);
	ml_v args[] = {acc, LLVMBuildBitCast(e->b, a, bytes, ""),
		       LLVMBuildBitCast(e->b, b, bytes, "")};

	return ml_intrinsic(e, intrinsic, (LLVMTypeRef[]){LLVMTypeOf(acc), bytes}, 2, args, 3);
}

/* sdot takes s8 alone: u8 = its low seven bits - (its high bit, which s8 reads as -128). */
static ml_v
call_sdot(ml_emit *e, const char *intrinsic, ml_v acc, ml_v a, ml_v b)
{
	LLVMTypeRef type = LLVMTypeOf(acc);
	ml_v low = ml_splat(e, ml_i32(e, 0x7f7f7f7f));

	low = ml_tile_lanes(e, low, 0, 1, (int)LLVMGetVectorSize(type));
	ml_v high = LLVMBuildAnd(e->b, a, LLVMBuildNot(e->b, low, ""), "");
	acc = call_neon(e, intrinsic, acc, LLVMBuildAnd(e->b, a, low, ""), b);
	return LLVMBuildSub(e->b, acc, call_neon(e, intrinsic, LLVMConstNull(type), high, b), "");
}

ml_v
ml_tile_dot(ml_emit *e, ml_v acc, ml_v a, ml_v b)
{
	switch (e->target->level) {
	case ML_LEVEL_AVX512VNNI:
	case ML_LEVEL_AVX512BF16:
		return ml_tile_by_parts(e, call_vnni, "llvm.x86.avx512.vpdpbusd.512", 1, acc, a, b);
	case ML_LEVEL_AVXVNNI:
		return ml_tile_by_parts(e, call_vnni, "llvm.x86.avx512.vpdpbusd.256", 2, acc, a, b);
	case ML_LEVEL_I8MM:
		/* the mixed form is b . a: the first factor is the unsigned one */
		return ml_tile_by_parts(e, call_neon, "llvm.aarch64.neon.usdot", 4, acc, a, b);
	default:
		assert(e->target->level == ML_LEVEL_DOTPROD);
		return ml_tile_by_parts(e, call_sdot, "llvm.aarch64.neon.sdot", 4, acc, a, b);
	}
}

void
ml_tile_u8s8(ml_emit *e, const ml_tile *t)
{
	ml_tile_words(e, t, ML_CONTRACT_U8S8, ml_tile_dot);
}
