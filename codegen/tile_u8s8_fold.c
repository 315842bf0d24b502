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
 */
#include "contract.h"
#include "tile.h"

/* Whose weights: plain, folded on the fly, folded in a buffer, or all plain and in order, of a
 * whole panel or of one of its registers. */
typedef enum source { PLAIN, FEW, MANY, IN_ORDER, HALF_IN_ORDER, SOURCES } source;

typedef struct fold {
	ml_emit *e;
	int lanes;                        /* of 32 bits in a register */
	LLVMTypeRef words, halves, bytes; /* a register */
	source source;
	int rows, registers; /* of a register tile */
} fold;

/* A register of weights; flip: NULL when they are plain. */
typedef struct folded {
	ml_v magnitude, flip;
} folded;

bool
ml_tile_folds(const ml_target *t)
{
	return t->level == ML_LEVEL_AVX2 || t->level == ML_LEVEL_AVX512;
}

enum {
	/* Of a register tile: sums fit in registers beside weights and products, and the rows'
	 * addresses, even where vector registers abound, beside what a step of the list needs. */
	MOST_ROWS = 6,
	/* Of weights folded in a buffer, where steps need less. */
	MOST_OF_MANY = 8,
	/* Of one of two registers: each word of a row is spread once for both. */
	MOST_WIDE_ROWS = 3,
	MOST_REGISTERS = 2,
};

static fold
fold_open(ml_emit *e, source source)
{
	int lanes = e->target->vector_bits / 32;
	bool wide = source == IN_ORDER && lanes < ML_LANES;

	return (fold){.e = e,
		      .rows = wide             ? MOST_WIDE_ROWS
			      : source == MANY ? MOST_OF_MANY
					       : MOST_ROWS,
		      .registers = wide ? MOST_REGISTERS : 1,
		      .lanes = lanes,
		      .words = LLVMVectorType(e->i32, (unsigned)lanes),
		      .halves = LLVMVectorType(e->i16, 2 * (unsigned)lanes),
		      .bytes = LLVMVectorType(e->i8, 4 * (unsigned)lanes),
		      .source = source};
}

/* The list's order is none that hardware foresees: each line of the chunk has the one fetched that
 * lies as far ahead as the next chunk. */
static void
prefetch_next(const fold *f, ml_v b, ml_v group)
{
	ml_emit *e = f->e;
	ml_v line = ml_add(e, group, ml_i64(e, ML_FOLD_CHUNK));

	ml_tile_fetch(e, ml_gep(e, ml_vec_type(e->i32), b, line), 1);
}

/* ---- one step of k ---- */

static folded
fold_weights(const fold *f, ml_v from)
{
	ml_emit *e = f->e;
	ml_v w = ml_load(e, f->bytes, from, 4), zero = LLVMConstNull(f->bytes);
	ml_v negative = LLVMBuildICmp(e->b, LLVMIntSLT, w, zero, "");
	ml_v centre = LLVMBuildBitCast(
		e->b, ml_tile_all_lanes(e, f->lanes, ml_i32(e, (int32_t)0x80808080)), f->bytes, "");
	ml_v args[] = {w, LLVMConstInt(e->i1, 0, 0)};
	LLVMTypeRef type = f->bytes;

	return (folded){
		.magnitude = ml_intrinsic(e, "llvm.abs", &type, 1, args, 2),
		.flip = LLVMBuildXor(e->b, LLVMBuildSExt(e->b, negative, f->bytes, ""), centre, ""),
	};
}

static bool
is_plain(const fold *f)
{
	return f->source == PLAIN || f->source >= IN_ORDER;
}

/* Number `i` of the buffer, or group `group` of the panel, of which it is register `part`. */
static folded
weights_at(const fold *f, ml_v b, ml_v i, ml_v group, int part)
{
	ml_emit *e = f->e;
	ml_v line = ml_mul(e, group, ml_i64(e, ML_LANES / f->lanes));

	ml_v from = ml_gep(e, f->words, b, ml_add(e, line, ml_i64(e, part)));
	if (is_plain(f))
		return (folded){ml_load(e, f->bytes, from, 4), NULL};
	if (f->source == FEW)
		return fold_weights(f, from);
	ml_v at = ml_mul(e, i, ml_i64(e, 2));
	return (folded){ml_load(e, f->bytes, ml_gep(e, f->bytes, b, at), ML_TILE_ALIGN / 2),
			ml_load(e, f->bytes, ml_gep(e, f->bytes, b, ml_add(e, at, ml_i64(e, 1))),
				ML_TILE_ALIGN / 2)};
}

/* The group's bytes of one row. */
static ml_v
row_at(const fold *f, ml_v row, ml_v group)
{
	ml_emit *e = f->e;

	return ml_tile_all_lanes(e, f->lanes, ml_load(e, e->i32, ml_gep(e, e->i32, row, group), 1));
}

/* Their products, added in pairs: 16 bits each. */
static ml_v
products(const fold *f, ml_v a, const folded *w)
{
	ml_emit *e = f->e;
	ml_v factors[] = {LLVMBuildBitCast(e->b, a, f->bytes, ""), w->magnitude};

	if (w->flip) {
		factors[1] = LLVMBuildXor(e->b, factors[0], w->flip, "");
		factors[0] = w->magnitude;
	}
	return ml_intrinsic(e,
			    f->lanes == ML_LANES ? "llvm.x86.avx512.pmaddubs.w.512"
						 : "llvm.x86.avx2.pmadd.ub.sw",
			    NULL, 0, factors, 2);
}

static ml_v
accumulate(const fold *f, ml_v acc, ml_v sums)
{
	ml_emit *e = f->e;
	ml_v ones = LLVMBuildBitCast(e->b, ml_tile_all_lanes(e, f->lanes, ml_i32(e, 0x00010001)),
				     f->halves, "");
	ml_v wide = ml_intrinsic(
		e, f->lanes == ML_LANES ? "llvm.x86.avx512.pmaddw.d.512" : "llvm.x86.avx2.pmadd.wd",
		NULL, 0, (ml_v[]){sums, ones}, 2);

	return LLVMBuildAdd(e->b, acc, wide, "");
}

/* ---- rows ---- */

/* Parameters of the functions that run a register's columns over rows: what loops over k read comes
 * first, in registers. */
enum {
	RUN_B,
	RUN_FOLDED, /* many: the buffer */
	RUN_ORDER,
	RUN_PLAIN,  /* where plain pairs end in the list, */
	RUN_PAIRS,  /* the other pairs, */
	RUN_GROUPS, /* and all */
	RUN_A,
	RUN_LDA,
	RUN_ROWS,
	RUN_ACC,
	RUN_STRIDE,
	RUN_FROM, /* what sums begin with, as far apart as RUN_STEP says: 0 = alike in all rows */
	RUN_STEP,
	RUN_N
};

static ml_v
listed_group(const fold *f, ml_v order, ml_v i)
{
	ml_emit *e = f->e;

	return LLVMBuildZExt(e->b, ml_load(e, e->i8, ml_gep(e, e->i8, order, i), 1), e->i64, "");
}

/* Whether a loop over the list counts addresses: it takes a register less than with numbers, which
 * only the buffer needs. */
static bool
by_address(const fold *f)
{
	return f->source == PLAIN || f->source == FEW;
}

static ml_v
group_at(const fold *f, ml_v order, ml_v i)
{
	if (f->source >= IN_ORDER)
		return i;
	if (by_address(f))
		return listed_group(f, LLVMBuildIntToPtr(f->e->b, i, f->e->ptr, ""),
				    ml_i64(f->e, 0));
	return listed_group(f, order, i);
}

/* Groups from..to of the list, `count` (1 or 2) at a time; acc[row][register]. */
static void
run_list(const fold *f, ml_v from, ml_v to, int count, int rows, const ml_v *row, ml_v *acc)
{
	ml_emit *e = f->e;
	int n = rows * f->registers;
	ml_v b = LLVMGetParam(e->fn, f->source == MANY ? RUN_FOLDED : RUN_B), group[2];
	ml_v order = LLVMGetParam(e->fn, RUN_ORDER);
	ml_v list = by_address(f) ? LLVMBuildPtrToInt(e->b, order, e->i64, "") : ml_i64(e, 0);
	ml_loop l = ml_loop_begin(e, ml_add(e, list, from), ml_add(e, list, to), ml_i64(e, count),
				  acc, n, "k");
	folded w[2][MOST_REGISTERS];

	for (int j = 0; j < count; j++) {
		ml_v i = ml_add(e, l.i, ml_i64(e, j));
		group[j] = group_at(f, order, i);
		for (int p = 0; p < f->registers; p++)
			w[j][p] = weights_at(f, b, i, group[j], p);
		if (f->source != MANY)
			prefetch_next(f, b, group[j]);
	}
	for (int i = 0; i < rows; i++) {
		ml_v a[2];
		for (int j = 0; j < count; j++)
			a[j] = row_at(f, row[i], group[j]);
		for (int p = 0; p < f->registers; p++) {
			ml_v sums = products(f, a[0], &w[0][p]);
			if (count == 2)
				sums = LLVMBuildAdd(e->b, sums, products(f, a[1], &w[1][p]), "");
			int at = i * f->registers + p;
			acc[at] = accumulate(f, l.carry[at], sums);
		}
	}
	ml_loop_end(e, &l, acc);
	for (int i = 0; i < n; i++)
		acc[i] = l.carry[i];
}

static void
run_tile(const fold *f, int rows, ml_v first)
{
	ml_emit *e = f->e;
	int n = rows * f->registers;
	ml_v lda = LLVMGetParam(e->fn, RUN_LDA), stride = LLVMGetParam(e->fn, RUN_STRIDE);
	ml_v from = LLVMGetParam(e->fn, RUN_FROM), step = LLVMGetParam(e->fn, RUN_STEP);
	ml_v a = ml_gep(e, e->i8, LLVMGetParam(e->fn, RUN_A), ml_mul(e, first, lda));
	ml_v to = ml_gep(e, e->i32, LLVMGetParam(e->fn, RUN_ACC), ml_mul(e, first, stride));
	ml_v plain = LLVMGetParam(e->fn, RUN_PLAIN), pairs = LLVMGetParam(e->fn, RUN_PAIRS);
	ml_v row[ML_TILE_MAX], at[ML_TILE_MAX], acc[ML_TILE_MAX];

	for (int i = 0; i < rows; i++)
		row[i] = ml_gep(e, e->i8, a, ml_mul(e, lda, ml_i64(e, i)));
	from = ml_gep(e, e->i32, from, ml_mul(e, first, step));
	for (int i = 0; i < n; i++) {
		ml_v number = ml_i64(e, i / f->registers);
		ml_v column = ml_i64(e, (int64_t)i % f->registers * f->lanes);
		at[i] = ml_gep(e, e->i32, to, ml_add(e, ml_mul(e, stride, number), column));
		if (f->source >= IN_ORDER) {
			acc[i] = LLVMConstNull(f->words);
			continue;
		}
		ml_v begin = ml_add(e, ml_mul(e, step, number), column);
		acc[i] = ml_load(e, f->words, ml_gep(e, e->i32, from, begin), 4);
	}
	fold of_plain = is_plain(f) ? *f : fold_open(e, PLAIN);
	run_list(&of_plain, ml_i64(e, 0), plain, 2, rows, row, acc);
	if (!is_plain(f))
		run_list(f, plain, pairs, 2, rows, row, acc);
	run_list(f, pairs, LLVMGetParam(e->fn, RUN_GROUPS), 1, rows, row, acc);
	for (int i = 0; i < n; i++)
		ml_store(e, acc[i], at[i], ML_TILE_ALIGN / 2);
}

/* run(b, folded, order, plain, pairs, groups, a, lda, rows, acc, stride, from, step):
 * acc[row * stride ...] = from[row * step ...] + a tile's registers of columns.  Listed groups
 * below `pairs` are taken two at a time. */
static ml_v
define_run(const fold *f, LLVMTypeRef *type)
{
	ml_emit *e = f->e;
	LLVMTypeRef params[RUN_N] = {e->ptr, e->ptr, e->ptr, e->i64, e->i64, e->i64, e->ptr,
				     e->i64, e->i64, e->ptr, e->i64, e->ptr, e->i64};
	ml_v caller = e->fn, zero = ml_i64(e, 0), one = ml_i64(e, 1);
	LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
	static const char *const names[] = {NULL, "fold_few", "fold_many", "fold_in_order",
					    "fold_half_in_order"};
	ml_v fn = ml_emit_function(e, names[f->source], e->none, params, RUN_N);
	ml_v rows = LLVMGetParam(fn, RUN_ROWS), row = zero;

	*type = LLVMFunctionType(e->none, params, RUN_N, 0);
	LLVMSetLinkage(fn, LLVMInternalLinkage);
	ml_tile_forbid_inlining(e, fn);
	ml_v blocks = LLVMBuildUDiv(e->b, ml_add(e, rows, ml_i64(e, f->rows - 1)),
				    ml_i64(e, f->rows), "");
	/* divided once, not for every block: small layers' blocks take less than a division */
	ml_v none_at_all = LLVMBuildICmp(e->b, LLVMIntEQ, blocks, zero, "");
	ml_v by = LLVMBuildSelect(e->b, none_at_all, one, blocks, "");
	ml_v least = LLVMBuildUDiv(e->b, rows, by, "");
	ml_v larger = ml_sub(e, rows, ml_mul(e, least, blocks));
	ml_loop l = ml_loop_begin(e, zero, blocks, one, &row, 1, "block");
	ml_v more = LLVMBuildICmp(e->b, LLVMIntSLT, l.i, larger, "");
	ml_v count = ml_add(e, least, LLVMBuildZExt(e->b, more, e->i64, ""));
	LLVMBasicBlockRef none = LLVMAppendBasicBlockInContext(e->lc, fn, "none");
	LLVMBasicBlockRef next = LLVMAppendBasicBlockInContext(e->lc, fn, "next");
	ml_v jump = LLVMBuildSwitch(e->b, count, none, (unsigned)f->rows);
	for (int i = 1; i <= f->rows; i++) {
		LLVMBasicBlockRef block = LLVMAppendBasicBlockInContext(e->lc, fn, "tile");
		LLVMAddCase(jump, ml_i64(e, i), block);
		LLVMPositionBuilderAtEnd(e->b, block);
		run_tile(f, i, l.carry[0]);
		LLVMBuildBr(e->b, next);
	}
	LLVMPositionBuilderAtEnd(e->b, none);
	LLVMBuildUnreachable(e->b);
	LLVMPositionBuilderAtEnd(e->b, next);
	row = ml_add(e, l.carry[0], count);
	ml_loop_end(e, &l, &row);
	LLVMBuildRetVoid(e->b);
	e->fn = caller;
	LLVMPositionBuilderAtEnd(e->b, here);
	return fn;
}

/* ---- a call ---- */

/* Listed groups begin..end of a panel's register, folded, in the order of the list. */
static void
prepare(const fold *f, ml_v b, ml_v order, ml_v begin, ml_v end, ml_v buffer)
{
	ml_emit *e = f->e;
	ml_loop l = ml_loop_begin(e, begin, end, ml_i64(e, 1), NULL, 0, "fold");
	ml_v group = listed_group(f, order, l.i);
	folded w = weights_at(f, b, l.i, group, 0);
	prefetch_next(f, b, group);
	ml_v at = ml_mul(e, l.i, ml_i64(e, 2));

	ml_store(e, w.magnitude, ml_gep(e, f->bytes, buffer, at), ML_TILE_ALIGN / 2);
	ml_store(e, w.flip, ml_gep(e, f->bytes, buffer, ml_add(e, at, ml_i64(e, 1))),
		 ML_TILE_ALIGN / 2);
	ml_loop_end(e, &l, NULL);
}

/* What the loops of a call share, and the panel they are at. */
typedef struct call {
	const ml_tile *t;
	ml_v run[SOURCES]; /* run() by source */
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
	ml_v list;
} listed;

static listed
read_list(const fold *f, ml_v at, ml_v groups)
{
	ml_emit *e = f->e;
	ml_v two = ml_i64(e, 2), plain = ml_mul(e, listed_group(f, at, ml_i64(e, 0)), two);
	ml_v others = ml_mul(e, listed_group(f, at, ml_i64(e, 1)), two);

	return (listed){.plain = plain,
			/* the mark of a chunk that is in order names more than there are */
			.pairs = ml_min_s(e, ml_add(e, plain, others), groups),
			.groups = groups,
			.list = ml_gep(e, e->i8, at, two)};
}

/* Sums begin with what does not depend on A, or, unless `fresh`, with what they are. */
static void
begin_with(const fold *f, const call *c, ml_v fresh, ml_v column, ml_v args[RUN_N])
{
	ml_emit *e = f->e;
	ml_v first = ml_gep(e, e->i32, c->corrections, column);

	args[RUN_ACC] = ml_gep(e, e->i32, c->acc, column);
	args[RUN_STRIDE] = c->stride;
	args[RUN_FROM] = LLVMBuildSelect(e->b, fresh, first, args[RUN_ACC], "");
	args[RUN_STEP] = LLVMBuildSelect(e->b, fresh, ml_i64(e, 0), c->stride, "");
}

/* The listed groups from `k` on with all rows, one register of columns. */
static void
run_register(const fold *f, const call *c, const listed *l, ml_v args[RUN_N])
{
	ml_emit *e = f->e;
	ml_v most = ml_i64(e, MOST_ROWS);

	args[RUN_ORDER] = l->list;
	args[RUN_FOLDED] = c->buffer;
	args[RUN_PLAIN] = l->plain;
	args[RUN_PAIRS] = l->pairs;
	args[RUN_GROUPS] = l->groups;
	ml_if many = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGT, args[RUN_ROWS], most, ""));
	prepare(f, args[RUN_B], l->list, l->plain, l->groups, c->buffer);
	LLVMBuildCall2(e->b, c->type, c->run[MANY], args, RUN_N, "");
	ml_if_else(e, &many);
	LLVMBuildCall2(e->b, c->type, c->run[FEW], args, RUN_N, "");
	ml_if_end(e, &many);
}

/* The list of the register that begins with a column. */
static ml_v
list_of(const fold *f, const call *c, ml_v column)
{
	ml_emit *e = f->e;
	ml_v number = LLVMBuildUDiv(e->b, column, ml_i64(e, f->lanes), "");

	return ml_gep(e, e->i8, c->lists, ml_mul(e, number, c->list_bytes));
}

/* So many groups from `k` on, which are `at` in the lists: all rows, all registers of the panel's
 * columns. */
static void
run_chunk(const fold *f, const call *c, ml_v k, ml_v at, ml_v groups)
{
	ml_emit *e = f->e;
	ml_loop h = ml_loop_begin(e, ml_i64(e, 0), c->columns, ml_i64(e, f->lanes), NULL, 0,
				  "register");
	listed l = read_list(f, ml_gep(e, e->i8, list_of(f, c, h.i), at), groups);
	ml_v args[RUN_N] = {
		[RUN_A] = ml_gep(e, e->i32, c->t->a, k),
		[RUN_LDA] = c->t->lda,
		[RUN_B] = ml_gep(e, e->i32, ml_gep(e, ml_vec_type(e->i32), c->b, k), h.i),
		[RUN_ROWS] = c->t->rows_given,
	};

	begin_with(f, c, LLVMBuildICmp(e->b, LLVMIntEQ, k, ml_i64(e, 0), ""), h.i, args);
	run_register(f, c, &l, args);
	ml_loop_end(e, &h, NULL);
}

/* What k ends in, less than a group: its bytes lie by themselves. */
static void
run_rest(const fold *f, const call *c, ml_v whole)
{
	ml_emit *e = f->e;
	ml_v zero = ml_i64(e, 0), some = LLVMBuildAnd(e->b, c->t->k, ml_i64(e, 3), "");
	ml_v first = ml_alloca(e, e->i8, 1);
	ml_if rest = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntNE, some, zero, ""));

	ml_store(e, LLVMConstNull(e->i8), first, 1);
	ml_loop h = ml_loop_begin(e, zero, c->columns, ml_i64(e, f->lanes), NULL, 0, "register");
	ml_v args[RUN_N] = {
		[RUN_A] = c->t->rest,
		[RUN_LDA] = ml_i64(e, ML_TILE_GROUP),
		[RUN_B] = ml_gep(e, e->i32, ml_gep(e, ml_vec_type(e->i32), c->b, whole), h.i),
		[RUN_FOLDED] = c->buffer,
		[RUN_ORDER] = first,
		[RUN_PLAIN] = zero,
		[RUN_PAIRS] = zero,
		[RUN_GROUPS] = ml_i64(e, 1),
		[RUN_ROWS] = c->t->rows_given,
	};
	begin_with(f, c, LLVMBuildICmp(e->b, LLVMIntEQ, whole, zero, ""), h.i, args);
	LLVMBuildCall2(e->b, c->type, c->run[FEW], args, RUN_N, "");
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

/* Whether the panel is one chunk, whole groups, all of them plain and in order. */
static ml_v
in_order(const fold *f, const call *c)
{
	ml_emit *e = f->e;
	ml_v k = c->t->k, most = ml_i64(e, 4 * ML_FOLD_CHUNK);
	ml_v part = LLVMBuildAnd(e->b, k, ml_i64(e, 3), "");
	/* of k = 0 there is no table to look at; 0 - 1 is larger than most */
	ml_v few = LLVMBuildICmp(e->b, LLVMIntULT, ml_sub(e, k, ml_i64(e, 1)), most, "");
	ml_v whole = LLVMBuildICmp(e->b, LLVMIntEQ, part, ml_i64(e, 0), "");
	ml_v one = LLVMBuildAnd(e->b, few, whole, ""), all = one;

	for (int column = 0; column < ML_LANES; column += f->lanes) {
		ml_v list = list_of(f, c, ml_i64(e, column));
		ml_v mark =
			listed_group(f, LLVMBuildSelect(e->b, one, list, c->b, ""), ml_i64(e, 1));
		ml_v marked = LLVMBuildICmp(e->b, LLVMIntEQ, mark, ml_i64(e, ML_FOLD_IN_ORDER), "");
		all = LLVMBuildAnd(e->b, all, marked, "");
	}
	return all;
}

/* A panel whose weights are all plain and in order, as small layers' of convolutions are: its sums
 * need no beginning. */
static void
run_in_order(const fold *f, const call *c)
{
	ml_emit *e = f->e;
	ml_v whole = LLVMBuildLShr(e->b, c->t->k, ml_i64(e, 2), "");
	listed l = read_list(f, c->lists, whole);
	ml_v args[RUN_N] = {
		[RUN_A] = c->t->a,         [RUN_LDA] = c->t->lda,    [RUN_B] = c->b,
		[RUN_FOLDED] = c->buffer,  [RUN_ORDER] = c->lists,   [RUN_PLAIN] = l.plain,
		[RUN_PAIRS] = l.plain,     [RUN_GROUPS] = whole,     [RUN_ROWS] = c->t->rows_given,
		[RUN_ACC] = c->acc,        [RUN_STRIDE] = c->stride, [RUN_FROM] = c->corrections,
		[RUN_STEP] = ml_i64(e, 0),
	};

	if (f->lanes == ML_LANES) {
		LLVMBuildCall2(e->b, c->type, c->run[IN_ORDER], args, RUN_N, "");
		return;
	}
	ml_if half = ml_if_begin(e, c->half);
	LLVMBuildCall2(e->b, c->type, c->run[HALF_IN_ORDER], args, RUN_N, "");
	ml_if_else(e, &half);
	LLVMBuildCall2(e->b, c->type, c->run[IN_ORDER], args, RUN_N, "");
	ml_if_end(e, &half);
}

static void
run_panel(const fold *f, const call *c)
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
	fold f = fold_open(e, FEW);
	ml_v lanes = ml_i64(e, ML_LANES);
	call c = {.t = t,
		  .stride = ml_mul(e, t->panels_given, lanes),
		  .list_bytes = ml_list_bytes(e, t->k)};

	for (source s = FEW; s < (f.lanes < ML_LANES ? SOURCES : HALF_IN_ORDER); s++) {
		fold by = fold_open(e, s);
		c.run[s] = define_run(&by, &c.type);
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
	ml_if ordered = ml_if_begin(e, in_order(&f, &c));
	run_in_order(&f, &c);
	ml_if_else(e, &ordered);
	run_panel(&f, &c);
	ml_if none = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntEQ, t->k, zero, ""));
	clear_rows(e, &c, ml_vec_type(e->i32), 0);
	ml_if_end(e, &none);
	ml_if_end(e, &ordered);
	if (f.lanes < ML_LANES) {
		ml_if half = ml_if_begin(e, c.half);
		clear_rows(e, &c, f.words, f.lanes);
		ml_if_end(e, &half);
	}
	ml_loop_end(e, &p, NULL);
}
