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
	case ML_LEVEL_AMX:
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

/* ---- few rows ---- */

/* Weights that few rows read come from memory or an outer cache, which give one stream of lines
 * faster than several, and faster the more lines are asked for at once.  A row alone has short
 * steps, which make room for many: it takes two panels in turns, a burst of lines each, so that its
 * words are loaded once for both.  More rows go through one panel after the other and fetch lines
 * ahead, which costs a row alone more than it brings. */
enum {
	ROWS = 4, /* most */
	PAIR = 2, /* panels of a row alone */
	MOST = 8, /* sums or words in registers, of 512 bits; half as many where they are smaller */
	AHEAD = 200, /* lines */
};

typedef struct stream {
	ml_emit *e;
	const ml_tile *t;
	int panels;
	int turns; /* sums of a row and panel, in turns over k: of one, steps would wait */
	int burst; /* words */
	ml_v row[ROWS], panel[PAIR]; /* word 0 */
} stream;

/* The sums of row r and panel p. */
static ml_v *
sums_of(const stream *s, ml_v *sum, int r, int p)
{
	return sum + (r * s->panels + p) * s->turns;
}

/* A line of the panel for all rows, whose words are loaded where they are first used. */
static void
add_line(const stream *s, int p, ml_v at, int turn, ml_v word[ROWS], ml_v *sum)
{
	ml_emit *e = s->e;
	LLVMTypeRef type = ml_vec_type(e->i32);
	ml_v line = ml_load(e, type, ml_gep(e, type, s->panel[p], at), 4);

	if (s->t->rows > 1)
		ml_tile_fetch(e, ml_gep(e, type, s->panel[p], ml_add(e, at, ml_i64(e, AHEAD))), 1);
	for (int r = 0; r < s->t->rows; r++) {
		ml_v *to = sums_of(s, sum, r, p) + turn % s->turns;
		if (!word[r])
			word[r] = ml_splat(e,
					   ml_load(e, e->i32, ml_gep(e, e->i32, s->row[r], at), 1));
		*to = ml_tile_dot(e, *to, word[r], line);
	}
}

/* Words begin..end of the rows, `burst` at a time. */
static void
run_words(const stream *s, ml_v begin, ml_v end, int burst, ml_v *sum)
{
	ml_emit *e = s->e;
	int n = s->t->rows * s->panels * s->turns;
	ml_loop l = ml_loop_begin(e, begin, end, ml_i64(e, burst), sum, n, "k");
	ml_v word[MOST][ROWS] = {{0}};

	for (int i = 0; i < n; i++)
		sum[i] = l.carry[i];
	for (int p = 0; p < s->panels; p++)
		for (int i = 0; i < burst; i++)
			add_line(s, p, ml_add(e, l.i, ml_i64(e, i)), i, word[i], sum);
	ml_loop_end(e, &l, sum);
	for (int i = 0; i < n; i++)
		sum[i] = l.carry[i];
}

/* All of k. */
static void
run_k(stream *s, ml_v *sum)
{
	ml_emit *e = s->e;
	const ml_tile *t = s->t;
	ml_v zero = ml_i64(e, 0), whole = LLVMBuildLShr(e->b, t->k, ml_i64(e, 2), "");
	ml_v many = LLVMBuildAnd(e->b, whole, ml_i64(e, -s->burst), "");
	ml_v part = LLVMBuildAnd(e->b, t->k, ml_i64(e, ML_TILE_GROUP - 1), "");
	ml_v some = LLVMBuildICmp(e->b, LLVMIntNE, part, zero, "");
	ml_v words = ml_add(e, whole, LLVMBuildZExt(e->b, some, e->i64, ""));

	for (int r = 0; r < t->rows; r++)
		s->row[r] = ml_gep(e, e->i8, t->a, ml_mul(e, t->lda, ml_i64(e, r)));
	run_words(s, zero, many, s->burst, sum);
	run_words(s, many, whole, 1, sum);
	for (int r = 0; r < t->rows; r++) /* placed so that the index of the last word reaches it */
		s->row[r] = ml_gep(e, e->i32, t->rest, ml_sub(e, ml_i64(e, r), whole));
	run_words(s, whole, words, 1, sum);
}

/* Panels begin..end, some at a time. */
static void
run_panels(ml_emit *e, const ml_tile *t, ml_v begin, ml_v end, int panels)
{
	LLVMTypeRef type = ml_vec_type(e->i32);
	int most = e->target->vector_bits == 512 ? MOST : MOST / 2;
	int turns = t->rows == 1 ? PAIR : most / (t->rows > 2 ? ROWS : t->rows);
	int burst = panels > 1 ? most : turns;
	stream s = {.e = e, .t = t, .panels = panels, .turns = turns, .burst = burst};
	ml_v none = LLVMConstNull(type), sum[MOST], to[ROWS][PAIR];
	ml_v fresh = LLVMBuildICmp(e->b, LLVMIntEQ, t->pass, ml_i64(e, 0), "");
	ml_loop l = ml_loop_begin(e, begin, end, ml_i64(e, panels), NULL, 0, "panel");

	for (int i = 0; i < t->rows * panels * turns; i++)
		sum[i] = none;
	for (int p = 0; p < panels; p++) {
		ml_v panel = ml_add(e, l.i, ml_i64(e, p));
		s.panel[p] = ml_gep(e, e->i8, t->b, ml_mul(e, panel, t->panel_stride));
		for (int r = 0; r < t->rows; r++) {
			ml_v slot = ml_add(e, ml_mul(e, t->panels_given, ml_i64(e, r)), panel);
			to[r][p] = ml_gep(e, type, t->acc, slot);
			ml_v before = ml_load(e, type, to[r][p], ML_TILE_ALIGN);
			*sums_of(&s, sum, r, p) = LLVMBuildSelect(e->b, fresh, none, before, "");
		}
	}
	run_k(&s, sum);
	for (int p = 0; p < panels; p++)
		for (int r = 0; r < t->rows; r++) {
			ml_v *of = sums_of(&s, sum, r, p);
			for (int i = 1; i < turns; i++)
				of[0] = LLVMBuildAdd(e->b, of[0], of[i], "");
			ml_store(e, of[0], to[r][p], ML_TILE_ALIGN);
		}
	ml_loop_end(e, &l, NULL);
}

static void
run_stream(ml_emit *e, const ml_tile *t)
{
	ml_v zero = ml_i64(e, 0), pairs = zero;

	if (t->rows == 1) {
		pairs = LLVMBuildAnd(e->b, t->panels_given, ml_i64(e, -PAIR), "");
		run_panels(e, t, zero, pairs, PAIR);
	}
	run_panels(e, t, pairs, t->panels_given, 1);
}

void
ml_tile_u8s8(ml_emit *e, const ml_tile *t)
{
	/* sdot's parts of several words take more registers than there are */
	if (t->stream && e->target->level != ML_LEVEL_DOTPROD)
		run_stream(e, t);
	else
		ml_tile_words(e, t, ML_CONTRACT_U8S8, ml_tile_dot);
}
