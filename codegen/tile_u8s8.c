/* tile_u8s8.c -- the u8 x s8 tile on CPUs that multiply bytes and add four products at once. */
#include "tile.h"
#include <assert.h>

typedef struct pointers {
	ml_v row[ML_TILE_MAX], panel[ML_TILE_MAX];
} pointers;

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

/* acc += A[:, k .. k + 3] . B[k .. k + 3, :], in place.  The four bytes of row i are those at
 * row[i] + at. */
static void
step(ml_emit *e, const ml_tile *t, const pointers *p, const ml_v *row, ml_v at, ml_v k, ml_v *acc)
{
	ml_v b[ML_TILE_MAX];

	for (int j = 0; j < t->panels; j++) {
		ml_v from = ml_gep(e, e->i8, p->panel[j], ml_mul(e, k, ml_i64(e, ML_LANES)));
		b[j] = ml_load(e, ml_vec_type(e->i32), from, 4);
	}
	for (int i = 0; i < t->rows; i++) {
		ml_v a = ml_splat(e, ml_load(e, e->i32, ml_gep(e, e->i8, row[i], at), 1));
		for (int j = 0; j < t->panels; j++)
			acc[i * t->panels + j] = ml_tile_dot(e, acc[i * t->panels + j], a, b[j]);
	}
}

/* Runs the groups of k from `from` below `to`; the rows' bytes begin at row[]. */
static void
run_steps(ml_emit *e, const ml_tile *t, const pointers *p, ml_v from, ml_v to, const ml_v *row,
	  ml_v *acc)
{
	int n = t->rows * t->panels;
	ml_loop l = ml_loop_begin(e, from, to, ml_i64(e, ML_TILE_GROUP), acc, n, "k");

	for (int i = 0; i < n; i++)
		acc[i] = l.carry[i];
	ml_tile_fetch_ahead(e, t, e->i8, ml_mul(e, l.i, ml_i64(e, ML_LANES)));
	step(e, t, p, row, ml_sub(e, l.i, from), l.i, acc);
	ml_loop_end(e, &l, acc);
	for (int i = 0; i < n; i++)
		acc[i] = l.carry[i];
}

void
ml_tile_u8s8(ml_emit *e, const ml_tile *t)
{
	int n = t->rows * t->panels;
	ml_v acc[ML_TILE_MAX], rest[ML_TILE_MAX];
	ml_v whole = LLVMBuildAnd(e->b, t->k, ml_i64(e, -ML_TILE_GROUP), "");
	pointers p;

	for (int i = 0; i < t->rows; i++) {
		p.row[i] = ml_gep(e, e->i8, t->a, ml_mul(e, t->lda, ml_i64(e, i)));
		rest[i] = ml_gep(e, e->i32, t->rest, ml_i64(e, i));
	}
	for (int j = 0; j < t->panels; j++)
		p.panel[j] = ml_gep(e, e->i8, t->b, ml_mul(e, t->panel_stride, ml_i64(e, j)));
	ml_tile_begin_sums(e, t, e->i32, acc, n);
	run_steps(e, t, &p, ml_i64(e, 0), whole, p.row, acc);
	run_steps(e, t, &p, whole, t->k, rest, acc);
	for (int i = 0; i < n; i++)
		ml_store(e, acc[i], ml_gep(e, e->i32, t->acc, ml_i64(e, i * ML_LANES)),
			 ML_TILE_ALIGN);
}
