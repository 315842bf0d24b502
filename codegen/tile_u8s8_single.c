/* tile_u8s8_single.c -- one row of u8 times s8 panels, for x86 without a dot instruction.
 *
 * A row alone shares its weights with no other, so that folding them (tile_u8s8_fold.c) would be
 * most of the work.  The row's bytes are halved instead, once for all panels:
 *   a w = 16 (a >> 4) w + (a & 15) w
 * vpmaddubsw cannot saturate on factors up to 15, and eight of its sums fit into 16 bits whatever
 * the weights: they are read in order, once, and no table is needed.
 */
#include "tile.h"

enum {
	CHUNK = 4096, /* bytes of the row whose halves are in the buffer */
	STEPS = 8,    /* 8 * 2 * 15 * 128 < 2^15 */
	HALVES = 2,
	MOST = 2,    /* registers of a panel */
	AHEAD = 200, /* lines, so that those of a cache further out are there in time */
};

typedef struct single {
	ml_emit *e;
	const ml_tile *t;
	int lanes, parts;                 /* of 32 bits in a register; registers of a panel */
	LLVMTypeRef words, halves, bytes; /* a register */
	ml_v half[HALVES];                /* of the row's bytes in the chunk: a >> 4, a & 15 */
} single;

static void
place_halves(single *s, ml_v buffer)
{
	for (int h = 0; h < HALVES; h++)
		s->half[h] = ml_gep(s->e, s->e->i8, buffer, ml_i64(s->e, (int64_t)h * CHUNK));
}

/* ---- the row ---- */

/* Words begin..end of the row, `step` at a time, from `from` on. */
static void
halve(const single *s, LLVMTypeRef type, ml_v from, ml_v begin, ml_v end, int step)
{
	ml_emit *e = s->e;
	ml_loop l = ml_loop_begin(e, begin, end, ml_i64(e, step), NULL, 0, "halve");
	ml_v v = ml_load(e, type, ml_gep(e, e->i32, from, l.i), 1);
	ml_v low = ml_tile_constant_like(e, v, 0x0f0f0f0f), four = ml_tile_constant_like(e, v, 4);
	ml_v high = LLVMBuildAnd(e->b, LLVMBuildLShr(e->b, v, four, ""), low, "");

	ml_store(e, high, ml_gep(e, e->i32, s->half[0], l.i), 4);
	ml_store(e, LLVMBuildAnd(e->b, v, low, ""), ml_gep(e, e->i32, s->half[1], l.i), 4);
	ml_loop_end(e, &l, NULL);
}

/* Halves of `bytes` bytes from `k` on, as so many words. */
static void
halve_row(const single *s, ml_v k, ml_v bytes, ml_v words)
{
	ml_emit *e = s->e;
	ml_v whole = LLVMBuildLShr(e->b, bytes, ml_i64(e, 2), "");
	ml_v many = LLVMBuildAnd(e->b, whole, ml_i64(e, -ML_LANES), "");
	ml_v from = ml_gep(e, e->i8, s->t->a, k);
	/* placed so that the index of the last word reaches it */
	ml_v rest = ml_gep(e, e->i32, s->t->rest, ml_sub(e, ml_i64(e, 0), whole));

	halve(s, ml_vec_type(e->i32), from, ml_i64(e, 0), many, ML_LANES);
	halve(s, e->i32, from, many, whole, 1);
	halve(s, e->i32, rest, whole, words, 1);
}

/* ---- a panel ---- */

/* sums[half][part] += the products of word `i` of the row with its line of the panel. */
static void
add_products(const single *s, ml_v b, ml_v i, ml_v *sums)
{
	ml_emit *e = s->e;
	const char *multiply = s->lanes == ML_LANES ? "llvm.x86.avx512.pmaddubs.w.512"
						    : "llvm.x86.avx2.pmadd.ub.sw";
	ml_v line = ml_mul(e, i, ml_i64(e, s->parts)), w[MOST];

	for (int p = 0; p < s->parts; p++) {
		ml_v at = ml_add(e, line, ml_i64(e, p));
		w[p] = ml_load(e, s->bytes, ml_gep(e, s->words, b, at), 4);
	}
	for (int h = 0; h < HALVES; h++) {
		ml_v word = ml_load(e, e->i32, ml_gep(e, e->i32, s->half[h], i), 4);
		ml_v a = LLVMBuildBitCast(e->b, ml_tile_all_lanes(e, s->lanes, word), s->bytes, "");
		for (int p = 0; p < s->parts; p++) {
			ml_v product = ml_intrinsic(e, multiply, NULL, 0, (ml_v[]){a, w[p]}, 2);
			ml_v *sum = &sums[h * s->parts + p];
			*sum = LLVMBuildAdd(e->b, *sum, product, "");
		}
	}
}

/* acc[part] += 16 times the sums of the upper halves and those of the lower. */
static void
widen(const single *s, const ml_v *sums, ml_v *acc)
{
	ml_emit *e = s->e;
	const char *multiply =
		s->lanes == ML_LANES ? "llvm.x86.avx512.pmaddw.d.512" : "llvm.x86.avx2.pmadd.wd";
	int32_t weight[HALVES] = {0x00100010, 0x00010001};

	for (int h = 0; h < HALVES; h++)
		for (int p = 0; p < s->parts; p++) {
			ml_v by = ml_tile_all_lanes(e, s->lanes, ml_i32(e, weight[h]));
			by = LLVMBuildBitCast(e->b, by, s->halves, "");
			ml_v args[] = {sums[h * s->parts + p], by};
			ml_v wide = ml_intrinsic(e, multiply, NULL, 0, args, 2);
			acc[p] = LLVMBuildAdd(e->b, acc[p], wide, "");
		}
}

/* Words begin..end of the row, `steps` of them between widenings. */
static void
run_words(const single *s, ml_v b, ml_v begin, ml_v end, int steps, ml_v *acc)
{
	ml_emit *e = s->e;
	ml_loop l = ml_loop_begin(e, begin, end, ml_i64(e, steps), acc, s->parts, "k");
	ml_v sums[HALVES * MOST];

	for (int p = 0; p < s->parts; p++)
		acc[p] = l.carry[p];
	for (int i = 0; i < HALVES * s->parts; i++)
		sums[i] = LLVMConstNull(s->halves);
	for (int i = 0; i < steps; i++) {
		ml_v word = ml_add(e, l.i, ml_i64(e, i));
		ml_v ahead = ml_add(e, word, ml_i64(e, AHEAD));
		ml_tile_fetch(e, ml_gep(e, ml_vec_type(e->i32), b, ahead), 1);
		add_products(s, b, word, sums);
	}
	widen(s, sums, acc);
	ml_loop_end(e, &l, acc);
	for (int p = 0; p < s->parts; p++)
		acc[p] = l.carry[p];
}

enum { RUN_B, RUN_HALVES, RUN_WORDS, RUN_ACC, RUN_N };

/* run(b, halves, words, acc): the sums of a panel += the products of so many words. */
static ml_v
define_run(single *s, LLVMTypeRef *type)
{
	ml_emit *e = s->e;
	LLVMTypeRef params[RUN_N] = {e->ptr, e->ptr, e->i64, e->ptr};
	ml_v caller = e->fn;
	LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
	ml_v fn = ml_emit_function(e, "single_panel", e->none, params, RUN_N);
	ml_v b = LLVMGetParam(fn, RUN_B), words = LLVMGetParam(fn, RUN_WORDS);
	ml_v to = LLVMGetParam(fn, RUN_ACC);

	*type = LLVMFunctionType(e->none, params, RUN_N, 0);
	LLVMSetLinkage(fn, LLVMInternalLinkage);
	ml_tile_forbid_inlining(e, fn);
	place_halves(s, LLVMGetParam(fn, RUN_HALVES));
	ml_v most = LLVMBuildAnd(e->b, words, ml_i64(e, -STEPS), ""), acc[MOST];

	for (int p = 0; p < s->parts; p++)
		acc[p] = ml_load(e, s->words, ml_gep(e, s->words, to, ml_i64(e, p)), 4);
	run_words(s, b, ml_i64(e, 0), most, STEPS, acc);
	run_words(s, b, most, words, 1, acc);
	for (int p = 0; p < s->parts; p++)
		ml_store(e, acc[p], ml_gep(e, s->words, to, ml_i64(e, p)), 4);
	LLVMBuildRetVoid(e->b);
	e->fn = caller;
	LLVMPositionBuilderAtEnd(e->b, here);
	return fn;
}

static void
clear(const single *s)
{
	ml_emit *e = s->e;
	LLVMTypeRef type = ml_vec_type(e->i32);
	ml_loop l =
		ml_loop_begin(e, ml_i64(e, 0), s->t->panels_given, ml_i64(e, 1), NULL, 0, "clear");

	ml_store(e, LLVMConstNull(type), ml_gep(e, type, s->t->acc, l.i), ML_TILE_ALIGN);
	ml_loop_end(e, &l, NULL);
}

void
ml_tile_u8s8_single(ml_emit *e, const ml_tile *t)
{
	int lanes = e->target->vector_bits / 32;
	single s = {.e = e,
		    .t = t,
		    .lanes = lanes,
		    .parts = ML_LANES / lanes,
		    .words = LLVMVectorType(e->i32, (unsigned)lanes),
		    .halves = LLVMVectorType(e->i16, 2 * (unsigned)lanes),
		    .bytes = LLVMVectorType(e->i8, 4 * (unsigned)lanes)};
	LLVMTypeRef type;
	ml_v zero = ml_i64(e, 0), one = ml_i64(e, 1), chunk = ml_i64(e, CHUNK);
	ml_v run = define_run(&s, &type);
	ml_v halves = ml_alloca(e, LLVMArrayType2(e->i8, HALVES * CHUNK), ML_TILE_ALIGN);

	place_halves(&s, halves);
	clear(&s);
	ml_loop c = ml_loop_begin(e, zero, t->k, chunk, NULL, 0, "chunk");
	ml_v bytes = ml_min_s(e, ml_sub(e, t->k, c.i), chunk);
	ml_v words = LLVMBuildLShr(e->b, ml_add(e, bytes, ml_i64(e, ML_TILE_GROUP - 1)),
				   ml_i64(e, 2), "");
	halve_row(&s, c.i, bytes, words);
	ml_loop p = ml_loop_begin(e, zero, t->panels_given, one, NULL, 0, "panel");
	ml_v b = ml_add(e, ml_mul(e, p.i, t->panel_stride), ml_mul(e, c.i, ml_i64(e, ML_LANES)));
	ml_v args[RUN_N] = {ml_gep(e, e->i8, t->b, b), halves, words,
			    ml_gep(e, ml_vec_type(e->i32), t->acc, p.i)};
	LLVMBuildCall2(e->b, type, run, args, RUN_N, "");
	ml_loop_end(e, &p, NULL);
	ml_loop_end(e, &c, NULL);
}
