/* tile_u8s8_wide.c -- the u8 x s8 tile by 16-bit multiplications: nothing can saturate.
 *
 * The even and the odd bytes of a group of four become 16-bit values of one 32-bit lane each: two
 * products of a column are neighbours, and their sum goes to the column's lane.  Rows of A are
 * widened once into a small buffer and used by all panels of the call; B is widened on its way from
 * memory.
 */
#include "tile.h"

enum { CHUNK = 1024 }; /* k at a time: four rows of it are 8 KB, which stay in L1 beside B */

/* acc + sums of neighbouring products of 16-bit lanes; all operands as 32-bit lanes. */
static ml_v
multiply_pairs(ml_emit *e, ml_v acc, ml_v a, ml_v b)
{
	LLVMTypeRef halves = LLVMVectorType(e->i16, 2 * ML_LANES);
	LLVMTypeRef wide = LLVMVectorType(e->i32, 2 * ML_LANES);
	ml_v x = LLVMBuildBitCast(e->b, a, halves, ""), y = LLVMBuildBitCast(e->b, b, halves, "");
	ml_v products = LLVMBuildMul(e->b, LLVMBuildSExt(e->b, x, wide, ""),
				     LLVMBuildSExt(e->b, y, wide, ""), "");

	for (int i = 0; i < 2; i++)
		acc = LLVMBuildAdd(e->b, acc, ml_tile_lanes(e, products, i, 2, ML_LANES), "");
	return acc;
}

/* The bytes 0 and 2 (odd = 0) or 1 and 3 (odd = 1) of every 32-bit lane, sign-extended to 16. */
static ml_v
widen_signed(ml_emit *e, ml_v v, int odd)
{
	LLVMTypeRef type = LLVMVectorType(e->i16, 2 * ML_LANES);
	ml_v eight = LLVMBuildBitCast(e->b, ml_splat(e, ml_i32(e, 0x00080008)), type, "");
	ml_v x = LLVMBuildBitCast(e->b, v, type, "");

	if (!odd)
		x = LLVMBuildShl(e->b, x, eight, "");
	return LLVMBuildBitCast(e->b, LLVMBuildAShr(e->b, x, eight, ""), ml_vec_type(e->i32), "");
}

/* A widened: [row][even, odd][group] words.  Strides are constants, so that one register reaches
 * all of it. */
static ml_v
word_at(ml_emit *e, ml_v wide, ml_v row, int odd, ml_v group)
{
	ml_v words = ml_i64(e, CHUNK / ML_TILE_GROUP), odds = ml_i64(e, odd);
	ml_v plane = ml_mul(e, ml_add(e, ml_mul(e, row, ml_i64(e, 2)), odds), words);

	return ml_gep(e, e->i32, ml_gep(e, e->i32, wide, plane), group);
}

/* Loads words, one or a vector, for every `step`-th byte and stores their 16-bit halves. */
static void
widen_words(ml_emit *e, LLVMTypeRef type, ml_v from, ml_v begin, ml_v end, int step, ml_v wide,
	    ml_v row)
{
	ml_loop l = ml_loop_begin(e, begin, end, ml_i64(e, step), NULL, 0, "widen");
	ml_v v = ml_load(e, type, ml_gep(e, e->i8, from, l.i), 1);
	ml_v low = ml_tile_constant_like(e, v, 0x00ff00ff), eight = ml_tile_constant_like(e, v, 8);
	ml_v odd = LLVMBuildAnd(e->b, LLVMBuildLShr(e->b, v, eight, ""), low, "");
	ml_v group = LLVMBuildLShr(e->b, l.i, ml_i64(e, 2), "");

	ml_store(e, LLVMBuildAnd(e->b, v, low, ""), word_at(e, wide, row, 0, group), 4);
	ml_store(e, odd, word_at(e, wide, row, 1, group), 4);
	ml_loop_end(e, &l, NULL);
}

/* Widens `bytes` bytes of each row from k on: 16 at a time, then 4, then what k ends in. */
static void
widen_rows(ml_emit *e, const ml_tile *t, ml_v wide, ml_v k, ml_v bytes)
{
	ml_v many = LLVMBuildAnd(e->b, bytes, ml_i64(e, -4 * ML_TILE_GROUP), "");
	ml_v whole = LLVMBuildAnd(e->b, bytes, ml_i64(e, -ML_TILE_GROUP), "");
	ml_loop r =
		ml_loop_begin(e, ml_i64(e, 0), ml_i64(e, t->rows), ml_i64(e, 1), NULL, 0, "row");
	ml_v from = ml_gep(e, e->i8, t->a, ml_add(e, k, ml_mul(e, t->lda, r.i)));
	/* placed so that the index of the last group reaches it */
	ml_v rest =
		ml_gep(e, e->i8, ml_gep(e, e->i32, t->rest, r.i), ml_sub(e, ml_i64(e, 0), whole));

	widen_words(e, LLVMVectorType(e->i32, 4), from, ml_i64(e, 0), many, 4 * ML_TILE_GROUP, wide,
		    r.i);
	widen_words(e, e->i32, from, many, whole, ML_TILE_GROUP, wide, r.i);
	widen_words(e, e->i32, rest, whole, bytes, ML_TILE_GROUP, wide, r.i);
	ml_loop_end(e, &r, NULL);
}

/* One panel: `to` [rows] at distance `stride` += widened A . B from `b` on, `groups` groups. */
static void
run_panel(ml_emit *e, const ml_tile *t, ml_v wide, ml_v b, ml_v groups, ml_v to, ml_v stride)
{
	LLVMTypeRef type = ml_vec_type(e->i32);
	ml_v acc[ML_TILE_MAX], at[ML_TILE_MAX];

	for (int i = 0; i < t->rows; i++) {
		at[i] = ml_gep(e, e->i32, to, ml_mul(e, stride, ml_i64(e, i)));
		acc[i] = ml_load(e, type, at[i], ML_TILE_ALIGN);
	}
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), groups, ml_i64(e, 1), acc, t->rows, "k");
	ml_v four = ml_load(e, type, ml_gep(e, type, b, l.i), 4);
	for (int i = 0; i < t->rows; i++)
		acc[i] = l.carry[i];
	ml_v pair[2] = {widen_signed(e, four, 0), widen_signed(e, four, 1)};
	for (int i = 0; i < t->rows; i++)
		for (int odd = 0; odd < 2; odd++) {
			ml_v word = word_at(e, wide, ml_i64(e, i), odd, l.i);
			ml_v a = ml_splat(e, ml_load(e, e->i32, word, 4));
			acc[i] = multiply_pairs(e, acc[i], a, pair[odd]);
		}
	ml_loop_end(e, &l, acc);
	for (int i = 0; i < t->rows; i++)
		ml_store(e, l.carry[i], at[i], ML_TILE_ALIGN);
}

static void
clear(ml_emit *e, const ml_tile *t)
{
	ml_v n = ml_mul(e, t->panels_given, ml_i64(e, t->rows));
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), n, ml_i64(e, 1), NULL, 0, "clear");
	LLVMTypeRef type = ml_vec_type(e->i32);

	ml_store(e, LLVMConstNull(type), ml_gep(e, type, t->acc, l.i), ML_TILE_ALIGN);
	ml_loop_end(e, &l, NULL);
}

void
ml_tile_u8s8_wide(ml_emit *e, const ml_tile *t)
{
	int words = 2 * t->rows * CHUNK / ML_TILE_GROUP;
	ml_v wide = ml_alloca(e, LLVMArrayType2(e->i32, (uint64_t)words), ML_TILE_ALIGN);
	ml_v zero = ml_i64(e, 0), lanes = ml_i64(e, ML_LANES);
	ml_v stride = ml_mul(e, t->panels_given, lanes);

	clear(e, t);
	ml_loop c = ml_loop_begin(e, zero, t->k, ml_i64(e, CHUNK), NULL, 0, "chunk");
	ml_v bytes = ml_min_s(e, ml_sub(e, t->k, c.i), ml_i64(e, CHUNK));
	ml_v groups = LLVMBuildLShr(e->b, ml_add(e, bytes, ml_i64(e, ML_TILE_GROUP - 1)),
				    ml_i64(e, 2), "");
	widen_rows(e, t, wide, c.i, bytes);
	ml_loop p = ml_loop_begin(e, zero, t->panels_given, ml_i64(e, 1), NULL, 0, "panel");
	ml_v b = ml_add(e, ml_mul(e, p.i, t->panel_stride), ml_mul(e, c.i, lanes));
	run_panel(e, t, wide, ml_gep(e, e->i8, t->b, b), groups,
		  ml_gep(e, e->i32, t->acc, ml_mul(e, p.i, lanes)), stride);
	ml_loop_end(e, &p, NULL);
	ml_loop_end(e, &c, NULL);
}
