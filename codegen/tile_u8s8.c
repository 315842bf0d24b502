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

/* ---- a row alone ---- */

/* Sums that take turns over k: of one, each product would wait for the one before. */
enum { TURNS = 4 };

/* acc[turns] += words begin..end of the row, as many at a time, times a panel's. */
static void
run_turns(ml_emit *e, ml_v row, ml_v b, ml_v begin, ml_v end, int turns, ml_v *acc)
{
	LLVMTypeRef type = ml_vec_type(e->i32);
	ml_loop l = ml_loop_begin(e, begin, end, ml_i64(e, turns), acc, turns, "k");

	for (int i = 0; i < turns; i++) {
		ml_v at = ml_add(e, l.i, ml_i64(e, i));
		ml_v a = ml_splat(e, ml_load(e, e->i32, ml_gep(e, e->i32, row, at), 1));
		acc[i] = ml_tile_dot(e, l.carry[i], a, ml_load(e, type, ml_gep(e, type, b, at), 4));
	}
	ml_loop_end(e, &l, acc);
	for (int i = 0; i < turns; i++)
		acc[i] = l.carry[i];
}

/* Panel after panel, however many: memory gives one stream faster than several. */
static void
run_alone(ml_emit *e, const ml_tile *t)
{
	LLVMTypeRef type = ml_vec_type(e->i32);
	ml_v zero = ml_i64(e, 0), one = ml_i64(e, 1), none = LLVMConstNull(type), acc[TURNS];
	ml_v whole = LLVMBuildLShr(e->b, t->k, ml_i64(e, 2), "");
	ml_v many = LLVMBuildAnd(e->b, whole, ml_i64(e, -TURNS), "");
	ml_v part = LLVMBuildAnd(e->b, t->k, ml_i64(e, ML_TILE_GROUP - 1), "");
	ml_v some = LLVMBuildICmp(e->b, LLVMIntNE, part, zero, "");
	ml_v words = ml_add(e, whole, LLVMBuildZExt(e->b, some, e->i64, ""));
	ml_v fresh = LLVMBuildICmp(e->b, LLVMIntEQ, t->pass, zero, "");
	/* placed so that the index of the last word reaches it */
	ml_v rest = ml_gep(e, e->i32, t->rest, ml_sub(e, zero, whole));
	ml_loop p = ml_loop_begin(e, zero, t->panels_given, one, NULL, 0, "panel");
	ml_v b = ml_gep(e, e->i8, t->b, ml_mul(e, p.i, t->panel_stride));
	ml_v to = ml_gep(e, type, t->acc, p.i);

	acc[0] = ml_load(e, type, to, ML_TILE_ALIGN);
	acc[0] = LLVMBuildSelect(e->b, fresh, none, acc[0], "");
	for (int i = 1; i < TURNS; i++)
		acc[i] = none;
	run_turns(e, t->a, b, zero, many, TURNS, acc);
	for (int n = TURNS / 2; n; n /= 2)
		for (int i = 0; i < n; i++)
			acc[i] = LLVMBuildAdd(e->b, acc[i], acc[i + n], "");
	run_turns(e, t->a, b, many, whole, 1, acc);
	run_turns(e, rest, b, whole, words, 1, acc);
	ml_store(e, acc[0], to, ML_TILE_ALIGN);
	ml_loop_end(e, &p, NULL);
}

void
ml_tile_u8s8(ml_emit *e, const ml_tile *t)
{
	/* sdot's parts of several words take more registers than there are */
	if (t->rows == 1 && e->target->level != ML_LEVEL_DOTPROD)
		run_alone(e, t);
	else
		ml_tile_words(e, t, ML_CONTRACT_U8S8, ml_tile_dot);
}
