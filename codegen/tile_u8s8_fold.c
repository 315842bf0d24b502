/* tile_u8s8_fold.c -- the u8 x s8 tile by byte multiplications that cannot saturate.
 *
 * vpmaddubsw multiplies u8 by s8 and adds neighbouring products in 16 bits, saturating: two large
 * weights of one sign are too much for it.  So the weight's magnitude is made its unsigned factor,
 * and the activation, centred and folded over by the weight's sign, the signed one:
 *   a w = |w| x + (128 w + max(-w, 0)),   x = (a - 128) ^ (w < 0 ? -1 : 0)   in -128..127
 * The bracket does not depend on a: ml_pack_s8 has summed it for every column.  Two products are
 * within -2^15..2^15 - 256 whatever the weights; four are too, when their magnitudes sum to 256 at
 * most.  Which groups of four k may be added before they are widened to 32 bits is known from the
 * weights: their table (pack_pairs.c) names pairs of groups, then those left single.  Before these
 * it names pairs whose weights are so small that a itself can be the unsigned factor: these are
 * plain.  Each register of a panel's columns has a list of its own.
 *
 * Weights are folded on the fly for few rows; for many, once into a buffer in the table's order.
 * Plain weights of few groups stay in registers, and rows pass by one at a time.
 */
#include "tile_u8s8_fold.h"

bool
ml_tile_folds(const ml_target *t)
{
	return t->level == ML_LEVEL_AVX2 || t->level == ML_LEVEL_AVX512;
}

/* What the loops of a call share, and the panel they are at. */
typedef struct call {
	const ml_tile *t;
	ml_v run[ML_SOURCES]; /* run() by source */
	LLVMTypeRef type;
	ml_v buffer, stride; /* of folded weights; of a row of sums, elements */
	ml_v list_bytes;
	ml_v b, lists, acc, corrections; /* of the panel, */
	ml_v half;                       /* and whether it has a register of columns only */
	ml_v columns;                    /* of its registers */
} call;

/* A chunk's part of the table. */
typedef struct listed {
	ml_v plain, pairs, groups; /* where they end in the list: plain pairs, others, all groups */
	ml_v all_plain;
	ml_v list;
} listed;

static listed
read_list(const ml_fold *f, ml_v at, ml_v groups)
{
	ml_emit *e = f->e;
	ml_v two = ml_i64(e, 2), plain = ml_mul(e, ml_fold_listed(f, at, ml_i64(e, 0)), two);
	ml_v others = ml_fold_listed(f, at, ml_i64(e, 1)), least = ml_i64(e, ML_FOLD_PLAIN);
	ml_v all_plain = LLVMBuildICmp(e->b, LLVMIntUGE, others, least, "");

	others = LLVMBuildSelect(e->b, all_plain, ml_i64(e, 0), ml_mul(e, others, two), "");
	return (listed){.plain = plain,
			.pairs = ml_add(e, plain, others),
			.groups = groups,
			.all_plain = all_plain,
			.list = ml_gep(e, e->i8, at, two)};
}

/* Sums begin with what does not depend on A, or, unless `fresh`, with what they are. */
static void
begin_with(const ml_fold *f, const call *c, ml_v fresh, ml_v column, ml_v args[ML_RUN_N])
{
	args[ML_RUN_ACC] = ml_gep(f->e, f->e->i32, c->acc, column);
	args[ML_RUN_STRIDE] = c->stride;
	args[ML_RUN_FIRST] = ml_gep(f->e, f->e->i32, c->corrections, column);
	args[ML_RUN_FRESH] = fresh;
}

/* The listed groups from `k` on with all rows, one register of columns. */
static void
run_register(const ml_fold *f, const call *c, const listed *l, ml_v args[ML_RUN_N])
{
	ml_emit *e = f->e;
	ml_v most = ml_i64(e, f->rows), few = ml_i64(e, ML_FOLD_FEW);

	args[ML_RUN_ORDER] = l->list;
	args[ML_RUN_PLAIN] = l->plain;
	args[ML_RUN_PAIRS] = l->pairs;
	args[ML_RUN_GROUPS] = l->groups;
	ml_if plain = ml_if_begin(e, l->all_plain);
	ml_v is_few = LLVMBuildICmp(e->b, LLVMIntSLE, l->groups, few, "");
	ml_if kept = ml_if_begin(e, LLVMBuildAnd(e->b, is_few, args[ML_RUN_FRESH], ""));
	LLVMBuildCall2(e->b, c->type, c->run[ML_SOURCE_KEPT], args, ML_RUN_N, "");
	ml_if_else(e, &kept);
	LLVMBuildCall2(e->b, c->type, c->run[ML_SOURCE_PLAIN], args, ML_RUN_N, "");
	ml_if_end(e, &kept);
	ml_if_else(e, &plain);
	ml_if many = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGT, args[ML_RUN_ROWS], most, ""));
	ml_fold_prepare(f, args[ML_RUN_B], l->list, l->plain, l->groups, c->buffer);
	LLVMBuildCall2(e->b, c->type, c->run[ML_SOURCE_MANY], args, ML_RUN_N, "");
	ml_if_else(e, &many);
	LLVMBuildCall2(e->b, c->type, c->run[ML_SOURCE_FEW], args, ML_RUN_N, "");
	ml_if_end(e, &many);
	ml_if_end(e, &plain);
}

/* The list of the register that begins with a column. */
static ml_v
list_of(const ml_fold *f, const call *c, ml_v column)
{
	ml_emit *e = f->e;
	ml_v number = LLVMBuildUDiv(e->b, column, ml_i64(e, f->lanes), "");

	return ml_gep(e, e->i8, c->lists, ml_mul(e, number, c->list_bytes));
}

/* Whether the groups that are `at` in the lists are all plain and in order, in all registers. */
static ml_v
in_order(const ml_fold *f, const call *c, ml_v at)
{
	ml_emit *e = f->e;
	ml_v all = LLVMConstInt(e->i1, 1, 0);

	for (int column = 0; column < ML_LANES; column += f->lanes) {
		ml_v list = ml_gep(e, e->i8, list_of(f, c, ml_i64(e, column)), at);
		ml_v mark = ml_fold_listed(f, list, ml_i64(e, 1));
		ml_v marked = LLVMBuildICmp(e->b, LLVMIntEQ, mark, ml_i64(e, ML_FOLD_IN_ORDER), "");
		all = LLVMBuildAnd(e->b, all, marked, "");
	}
	return all;
}

/* Such groups, as convolutions have: each word of a row is spread once for all columns. */
static void
run_in_order(const ml_fold *f, const call *c, const listed *l, ml_v args[ML_RUN_N])
{
	ml_emit *e = f->e;

	args[ML_RUN_PLAIN] = args[ML_RUN_PAIRS] = l->plain;
	args[ML_RUN_GROUPS] = l->groups;
	if (f->lanes == ML_LANES) {
		LLVMBuildCall2(e->b, c->type, c->run[ML_SOURCE_IN_ORDER], args, ML_RUN_N, "");
		return;
	}
	ml_if half = ml_if_begin(e, c->half);
	LLVMBuildCall2(e->b, c->type, c->run[ML_SOURCE_HALF_IN_ORDER], args, ML_RUN_N, "");
	ml_if_else(e, &half);
	LLVMBuildCall2(e->b, c->type, c->run[ML_SOURCE_IN_ORDER], args, ML_RUN_N, "");
	ml_if_end(e, &half);
}

/* So many groups from `k` on, which are `at` in the lists: all rows, all registers of the panel's
 * columns. */
static void
run_chunk(const ml_fold *f, const call *c, ml_v k, ml_v at, ml_v groups)
{
	ml_emit *e = f->e;
	ml_v fresh = LLVMBuildICmp(e->b, LLVMIntEQ, k, ml_i64(e, 0), "");
	ml_v b = ml_gep(e, ml_vec_type(e->i32), c->b, k);
	ml_v args[ML_RUN_N] = {
		[ML_RUN_A] = ml_gep(e, e->i32, c->t->a, k),
		[ML_RUN_LDA] = c->t->lda,
		[ML_RUN_B] = b,
		[ML_RUN_FOLDED] = c->buffer,
		[ML_RUN_ORDER] = c->lists,
		[ML_RUN_ROWS] = c->t->rows_given,
	};

	ml_if ordered = ml_if_begin(e, in_order(f, c, at));
	listed first = read_list(f, ml_gep(e, e->i8, c->lists, at), groups);
	begin_with(f, c, fresh, ml_i64(e, 0), args);
	run_in_order(f, c, &first, args);
	ml_if_else(e, &ordered);
	ml_loop h = ml_loop_begin(e, ml_i64(e, 0), c->columns, ml_i64(e, f->lanes), NULL, 0,
				  "register");
	listed l = read_list(f, ml_gep(e, e->i8, list_of(f, c, h.i), at), groups);
	args[ML_RUN_B] = ml_gep(e, e->i32, b, h.i);
	begin_with(f, c, fresh, h.i, args);
	run_register(f, c, &l, args);
	ml_loop_end(e, &h, NULL);
	ml_if_end(e, &ordered);
}

/* What k ends in, less than a group: its bytes lie by themselves. */
static void
run_rest(const ml_fold *f, const call *c, ml_v whole)
{
	ml_emit *e = f->e;
	ml_v zero = ml_i64(e, 0), some = LLVMBuildAnd(e->b, c->t->k, ml_i64(e, 3), "");
	ml_v first = ml_alloca(e, e->i8, 1);
	ml_if rest = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntNE, some, zero, ""));

	ml_store(e, LLVMConstNull(e->i8), first, 1);
	ml_loop h = ml_loop_begin(e, zero, c->columns, ml_i64(e, f->lanes), NULL, 0, "register");
	ml_v args[ML_RUN_N] = {
		[ML_RUN_A] = c->t->rest,
		[ML_RUN_LDA] = ml_i64(e, ML_TILE_GROUP),
		[ML_RUN_B] = ml_gep(e, e->i32, ml_gep(e, ml_vec_type(e->i32), c->b, whole), h.i),
		[ML_RUN_FOLDED] = c->buffer,
		[ML_RUN_ORDER] = first,
		[ML_RUN_PLAIN] = zero,
		[ML_RUN_PAIRS] = zero,
		[ML_RUN_GROUPS] = ml_i64(e, 1),
		[ML_RUN_ROWS] = c->t->rows_given,
	};
	begin_with(f, c, LLVMBuildICmp(e->b, LLVMIntEQ, whole, zero, ""), h.i, args);
	LLVMBuildCall2(e->b, c->type, c->run[ML_SOURCE_FEW], args, ML_RUN_N, "");
	ml_loop_end(e, &h, NULL);
	ml_if_end(e, &rest);
}

/* Sums of some columns, of which nothing is to be added. */
static void
clear_rows(ml_emit *e, const call *c, LLVMTypeRef type, int column)
{
	ml_v acc = ml_gep(e, e->i32, c->acc, ml_i64(e, column));
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), c->t->rows_given, ml_i64(e, 1), NULL, 0, "row");

	ml_store(e, LLVMConstNull(type), ml_gep(e, e->i32, acc, ml_mul(e, l.i, c->stride)),
		 ML_TILE_ALIGN / 2);
	ml_loop_end(e, &l, NULL);
}

static void
run_panel(const ml_fold *f, const call *c)
{
	ml_emit *e = f->e;
	ml_v at = ml_i64(e, 0), chunk = ml_i64(e, ML_FOLD_CHUNK);
	ml_v whole = LLVMBuildLShr(e->b, c->t->k, ml_i64(e, 2), "");
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), whole, chunk, &at, 1, "chunk");
	ml_v groups = ml_min_s(e, ml_sub(e, whole, l.i), chunk);

	run_chunk(f, c, l.i, l.carry[0], groups);
	at = ml_add(e, l.carry[0], ml_list_bytes(e, ml_mul(e, groups, ml_i64(e, 4))));
	ml_loop_end(e, &l, &at);
	run_rest(f, c, whole);
}

void
ml_tile_u8s8_fold(ml_emit *e, const ml_tile *t)
{
	ml_fold f = ml_fold_open(e, ML_SOURCE_FEW);
	ml_v lanes = ml_i64(e, ML_LANES);
	call c = {.t = t,
		  .stride = ml_mul(e, t->panels_given, lanes),
		  .list_bytes = ml_list_bytes(e, t->k)};

	for (ml_fold_source s = ML_SOURCE_PLAIN;
	     s < (f.lanes < ML_LANES ? ML_SOURCES : ML_SOURCE_HALF_IN_ORDER); s++) {
		ml_fold by = ml_fold_open(e, s);
		c.run[s] = ml_fold_define(&by, &c.type);
	}
	c.buffer =
		ml_alloca(e, LLVMArrayType2(f.bytes, 2 * (uint64_t)ML_FOLD_CHUNK), ML_TILE_ALIGN);
	ml_loop p = ml_loop_begin(e, ml_i64(e, 0), t->panels_given, ml_i64(e, 1), NULL, 0, "panel");
	ml_v column = ml_mul(e, p.i, lanes), zero = ml_i64(e, 0), one = ml_i64(e, f.lanes);
	c.b = ml_gep(e, e->i8, t->b, ml_mul(e, p.i, t->panel_stride));
	ml_v registers = ml_i64(e, ML_LANES / f.lanes);
	c.lists = ml_gep(e, e->i8, t->lists, ml_mul(e, ml_mul(e, p.i, registers), c.list_bytes));
	c.acc = ml_gep(e, e->i32, t->acc, column);
	c.corrections = ml_gep(e, e->i32, t->corrections, column);
	ml_v left = ml_sub(e, t->columns_given, column);
	c.half = LLVMBuildICmp(e->b, LLVMIntSLE, left, one, "");
	c.columns = LLVMBuildSelect(e->b, c.half, one, lanes, "");
	run_panel(&f, &c);
	ml_if none = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntEQ, t->k, zero, ""));
	clear_rows(e, &c, ml_vec_type(e->i32), 0);
	ml_if_end(e, &none);
	if (f.lanes < ML_LANES) {
		ml_if half = ml_if_begin(e, c.half);
		clear_rows(e, &c, f.words, f.lanes);
		ml_if_end(e, &half);
	}
	ml_loop_end(e, &p, NULL);
}
