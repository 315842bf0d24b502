/* tile_bf16.c -- the bf16 tile: two k at a time, sums in f32.
 *
 * With AVX512_BF16 a pair is one instruction, which takes denormals for 0 and rounds the sum of two
 * products its own way.  Other levels widen both numbers, exactly, and add the products by fma.
 */
#include "tile.h"

enum { GROUP = 2 };

typedef struct pointers {
	ml_v row[ML_TILE_MAX], panel[ML_TILE_MAX];
} pointers;

bool
ml_tile_has_bf16(const ml_target *t)
{
	return t->level == ML_LEVEL_AVX512BF16;
}

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

/* acc += A[:, k .. k + 1] . B[k .. k + 1, :], in place.  The pair of row i is that at row[i] + at.
 * It is loaded where it is used: loaded before, all rows' pairs would take registers at once. */
static void
step(ml_emit *e, const ml_tile *t, const ml_v *row, ml_v at, const ml_v *b, ml_v *acc)
{
	bool pairs = ml_tile_has_bf16(e->target);

	for (int i = 0; i < t->rows; i++) {
		ml_v a = ml_splat(e, ml_load(e, e->i32, ml_gep(e, e->i16, row[i], at), 2));
		for (int j = 0; j < t->panels; j++) {
			ml_v *sum = &acc[i * t->panels + j];
			if (pairs)
				*sum = multiply_pairs(e, *sum, a, b[j]);
			for (int half = 0; !pairs && half < GROUP; half++)
				*sum = ml_fma(e, widen(e, a, half), widen(e, b[j], half), *sum);
		}
	}
}

/* Runs the pairs of k from `from` below `to`; the rows' pairs begin at row[]. */
static void
run_steps(ml_emit *e, const ml_tile *t, const pointers *p, ml_v from, ml_v to, const ml_v *row,
	  ml_v *acc)
{
	int n = t->rows * t->panels;
	ml_loop l = ml_loop_begin(e, from, to, ml_i64(e, GROUP), acc, n, "k");
	ml_v line = ml_mul(e, l.i, ml_i64(e, ML_LANES)), b[ML_TILE_MAX];

	for (int i = 0; i < n; i++)
		acc[i] = l.carry[i];
	ml_tile_fetch_ahead(e, t, e->i16, line);
	for (int j = 0; j < t->panels; j++)
		b[j] = ml_load(e, ml_vec_type(e->i32), ml_gep(e, e->i16, p->panel[j], line), 4);
	step(e, t, row, ml_sub(e, l.i, from), b, acc);
	ml_loop_end(e, &l, acc);
	for (int i = 0; i < n; i++)
		acc[i] = l.carry[i];
}

void
ml_tile_bf16(ml_emit *e, const ml_tile *t)
{
	int n = t->rows * t->panels;
	ml_v acc[ML_TILE_MAX], rest[ML_TILE_MAX];
	ml_v whole = LLVMBuildAnd(e->b, t->k, ml_i64(e, -GROUP), "");
	pointers p;

	for (int i = 0; i < t->rows; i++) {
		p.row[i] = ml_gep(e, e->i16, t->a, ml_mul(e, t->lda, ml_i64(e, i)));
		rest[i] = ml_gep(e, e->i32, t->rest, ml_i64(e, i));
	}
	for (int j = 0; j < t->panels; j++)
		p.panel[j] = ml_gep(e, e->i16, t->b, ml_mul(e, t->panel_stride, ml_i64(e, j)));
	ml_tile_begin_sums(e, t, e->f32, acc, n);
	run_steps(e, t, &p, ml_i64(e, 0), whole, p.row, acc);
	run_steps(e, t, &p, whole, t->k, rest, acc);
	for (int i = 0; i < n; i++)
		ml_store(e, acc[i], ml_gep(e, e->f32, t->acc, ml_i64(e, i * ML_LANES)),
			 ML_TILE_ALIGN);
}
