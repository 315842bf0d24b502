/* tile_u8s8_run.c -- the folded tile's loops over rows: blocks of them in registers, or weights. */
#include "tile_u8s8_fold.h"

/* A register of weights; flip: NULL when they are plain. */
typedef struct folded {
	ml_v magnitude, flip;
} folded;

enum {
	/* Of a register tile: sums fit in registers beside weights and products, and the rows'
	 * addresses, even where vector registers abound, beside what a step of the list needs. */
	MOST_ROWS = 6,
	/* Of weights that are plain or folded in a buffer, where steps need less. */
	MOST_OF_MANY = 8,
	/* Of one of two registers: each word of a row is spread once for both. */
	MOST_WIDE_ROWS = 3,
	MOST_REGISTERS = 2,
};

ml_fold
ml_fold_open(ml_emit *e, ml_fold_source source)
{
	int lanes = e->target->vector_bits / 32;
	bool wide = source == ML_SOURCE_IN_ORDER && lanes < ML_LANES;
	bool many = source == ML_SOURCE_PLAIN || source == ML_SOURCE_MANY;

	return (ml_fold){.e = e,
			 .rows = wide   ? MOST_WIDE_ROWS
				 : many ? MOST_OF_MANY
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
prefetch_next(const ml_fold *f, ml_v b, ml_v group)
{
	ml_emit *e = f->e;
	ml_v line = ml_add(e, group, ml_i64(e, ML_FOLD_CHUNK));

	ml_tile_fetch(e, ml_gep(e, ml_vec_type(e->i32), b, line), 1);
}

/* ---- one step of k ---- */

static folded
fold_weights(const ml_fold *f, ml_v from)
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
is_plain(const ml_fold *f)
{
	return f->source <= ML_SOURCE_KEPT || f->source >= ML_SOURCE_IN_ORDER;
}

/* Number `i` of the buffer, or group `group` of the panel, of which it is register `part`. */
static folded
weights_at(const ml_fold *f, ml_v b, ml_v i, ml_v group, int part)
{
	ml_emit *e = f->e;
	ml_v line = ml_mul(e, group, ml_i64(e, ML_LANES / f->lanes));

	ml_v from = ml_gep(e, f->words, b, ml_add(e, line, ml_i64(e, part)));
	if (is_plain(f))
		return (folded){ml_load(e, f->bytes, from, 4), NULL};
	if (f->source == ML_SOURCE_FEW)
		return fold_weights(f, from);
	ml_v at = ml_mul(e, i, ml_i64(e, 2));
	return (folded){ml_load(e, f->bytes, ml_gep(e, f->bytes, b, at), ML_TILE_ALIGN / 2),
			ml_load(e, f->bytes, ml_gep(e, f->bytes, b, ml_add(e, at, ml_i64(e, 1))),
				ML_TILE_ALIGN / 2)};
}

/* The group's bytes of one row. */
static ml_v
row_at(const ml_fold *f, ml_v row, ml_v group)
{
	ml_emit *e = f->e;

	return ml_tile_all_lanes(e, f->lanes, ml_load(e, e->i32, ml_gep(e, e->i32, row, group), 1));
}

/* Their products, added in pairs: 16 bits each. */
static ml_v
products(const ml_fold *f, ml_v a, const folded *w)
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
accumulate(const ml_fold *f, ml_v acc, ml_v sums)
{
	ml_emit *e = f->e;
	ml_v ones = LLVMBuildBitCast(e->b, ml_tile_all_lanes(e, f->lanes, ml_i32(e, 0x00010001)),
				     f->halves, "");
	ml_v wide = ml_intrinsic(
		e, f->lanes == ML_LANES ? "llvm.x86.avx512.pmaddw.d.512" : "llvm.x86.avx2.pmadd.wd",
		NULL, 0, (ml_v[]){sums, ones}, 2);

	return LLVMBuildAdd(e->b, acc, wide, "");
}

/* acc + what a row's words make with as many groups, 1 or 2. */
static ml_v
add_groups(const ml_fold *f, ml_v acc, int count, const ml_v *a, const folded *w)
{
	ml_v sums = products(f, a[0], &w[0]);

	if (count == 2)
		sums = LLVMBuildAdd(f->e->b, sums, products(f, a[1], &w[1]), "");
	return accumulate(f, acc, sums);
}

/* ---- blocks of rows ---- */

ml_v
ml_fold_listed(const ml_fold *f, ml_v order, ml_v i)
{
	ml_emit *e = f->e;

	return LLVMBuildZExt(e->b, ml_load(e, e->i8, ml_gep(e, e->i8, order, i), 1), e->i64, "");
}

/* Whether a loop reads weights where the list says they lie.  Then it counts the list's addresses:
 * it takes a register less than with numbers, which only the buffer needs. */
static bool
is_scattered(const ml_fold *f)
{
	return f->source == ML_SOURCE_PLAIN || f->source == ML_SOURCE_FEW;
}

static ml_v
group_at(const ml_fold *f, ml_v order, ml_v i)
{
	if (f->source >= ML_SOURCE_IN_ORDER)
		return i;
	if (is_scattered(f))
		return ml_fold_listed(f, LLVMBuildIntToPtr(f->e->b, i, f->e->ptr, ""),
				      ml_i64(f->e, 0));
	return ml_fold_listed(f, order, i);
}

/* Groups from..to of the list, `count` (1 or 2) at a time; acc[row][register]. */
static void
run_list(const ml_fold *f, ml_v from, ml_v to, int count, int rows, const ml_v *row, ml_v *acc)
{
	ml_emit *e = f->e;
	int n = rows * f->registers;
	ml_v b = LLVMGetParam(e->fn, f->source == ML_SOURCE_MANY ? ML_RUN_FOLDED : ML_RUN_B),
	     group[2];
	ml_v order = LLVMGetParam(e->fn, ML_RUN_ORDER);
	ml_v list = is_scattered(f) ? LLVMBuildPtrToInt(e->b, order, e->i64, "") : ml_i64(e, 0);
	ml_loop l = ml_loop_begin(e, ml_add(e, list, from), ml_add(e, list, to), ml_i64(e, count),
				  acc, n, "k");
	folded w[MOST_REGISTERS][2];

	for (int j = 0; j < count; j++) {
		ml_v i = ml_add(e, l.i, ml_i64(e, j));
		group[j] = group_at(f, order, i);
		for (int p = 0; p < f->registers; p++)
			w[p][j] = weights_at(f, b, i, group[j], p);
		if (is_scattered(f))
			prefetch_next(f, b, group[j]);
	}
	for (int i = 0; i < rows; i++) {
		ml_v a[2];
		for (int j = 0; j < count; j++)
			a[j] = row_at(f, row[i], group[j]);
		for (int p = 0; p < f->registers; p++) {
			int at = i * f->registers + p;
			acc[at] = add_groups(f, l.carry[at], count, a, w[p]);
		}
	}
	ml_loop_end(e, &l, acc);
	for (int i = 0; i < n; i++)
		acc[i] = l.carry[i];
}

/* What a register of fresh sums begins with, `column` of those the function was given. */
static ml_v
first_sums(const ml_fold *f, ml_v column)
{
	ml_emit *e = f->e;

	return ml_load(e, f->words, ml_gep(e, e->i32, LLVMGetParam(e->fn, ML_RUN_FIRST), column),
		       4);
}

static void
run_tile(const ml_fold *f, int rows, ml_v begin)
{
	ml_emit *e = f->e;
	int n = rows * f->registers;
	ml_v lda = LLVMGetParam(e->fn, ML_RUN_LDA), stride = LLVMGetParam(e->fn, ML_RUN_STRIDE);
	ml_v a = ml_gep(e, e->i8, LLVMGetParam(e->fn, ML_RUN_A), ml_mul(e, begin, lda));
	ml_v to = ml_gep(e, e->i32, LLVMGetParam(e->fn, ML_RUN_ACC), ml_mul(e, begin, stride));
	ml_v plain = LLVMGetParam(e->fn, ML_RUN_PLAIN), pairs = LLVMGetParam(e->fn, ML_RUN_PAIRS);
	ml_v row[ML_TILE_MAX], at[ML_TILE_MAX], first[ML_TILE_MAX], acc[ML_TILE_MAX];

	for (int i = 0; i < rows; i++)
		row[i] = ml_gep(e, e->i8, a, ml_mul(e, lda, ml_i64(e, i)));
	for (int i = 0; i < n; i++) {
		int part = i % f->registers;
		ml_v number = ml_i64(e, i / f->registers);
		ml_v column = ml_i64(e, (int64_t)part * f->lanes);
		at[i] = ml_gep(e, e->i32, to, ml_add(e, ml_mul(e, stride, number), column));
		first[i] = i > part ? first[part] : first_sums(f, column);
	}
	ml_tile_begin(e, LLVMGetParam(e->fn, ML_RUN_FRESH), first, at, n, ML_TILE_ALIGN / 2, acc);
	ml_fold of_plain = is_plain(f) ? *f : ml_fold_open(e, ML_SOURCE_PLAIN);
	run_list(&of_plain, ml_i64(e, 0), plain, 2, rows, row, acc);
	if (!is_plain(f))
		run_list(f, plain, pairs, 2, rows, row, acc);
	run_list(f, pairs, LLVMGetParam(e->fn, ML_RUN_GROUPS), 1, rows, row, acc);
	for (int i = 0; i < n; i++)
		ml_store(e, acc[i], at[i], ML_TILE_ALIGN / 2);
}

/* Blocks of rows, as equal as can be, which tiles exist for. */
static void
run_rows(const ml_fold *f)
{
	ml_emit *e = f->e;
	ml_v zero = ml_i64(e, 0), one = ml_i64(e, 1);
	ml_v rows = LLVMGetParam(e->fn, ML_RUN_ROWS), row = zero;
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
	LLVMBasicBlockRef none = LLVMAppendBasicBlockInContext(e->lc, e->fn, "none");
	LLVMBasicBlockRef next = LLVMAppendBasicBlockInContext(e->lc, e->fn, "next");
	ml_v jump = LLVMBuildSwitch(e->b, count, none, (unsigned)f->rows);
	for (int i = 1; i <= f->rows; i++) {
		LLVMBasicBlockRef block = LLVMAppendBasicBlockInContext(e->lc, e->fn, "tile");
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
}

/* ---- rows that pass by weights in registers ---- */

/* All rows, with so many listed groups, of which the first `plain` are in pairs. */
static void
pass_rows(const ml_fold *f, int groups, int plain)
{
	ml_emit *e = f->e;
	ml_v order = LLVMGetParam(e->fn, ML_RUN_ORDER), b = LLVMGetParam(e->fn, ML_RUN_B);
	ml_v rows = LLVMGetParam(e->fn, ML_RUN_A), lda = LLVMGetParam(e->fn, ML_RUN_LDA);
	ml_v acc = LLVMGetParam(e->fn, ML_RUN_ACC), stride = LLVMGetParam(e->fn, ML_RUN_STRIDE);
	ml_v begin = first_sums(f, ml_i64(e, 0));
	ml_v group[ML_FOLD_FEW];
	folded w[ML_FOLD_FEW];

	for (int i = 0; i < groups; i++) {
		group[i] = ml_fold_listed(f, order, ml_i64(e, i));
		w[i] = weights_at(f, b, NULL, group[i], 0);
	}
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), LLVMGetParam(e->fn, ML_RUN_ROWS), ml_i64(e, 1),
				  NULL, 0, "row");
	ml_v row = ml_gep(e, e->i8, rows, ml_mul(e, lda, l.i)), sum = begin;
	for (int i = 0, count; i < groups; i += count) {
		ml_v a[2];
		count = i < plain ? 2 : 1;
		for (int j = 0; j < count; j++)
			a[j] = row_at(f, row, group[i + j]);
		sum = add_groups(f, sum, count, a, w + i);
	}
	ml_store(e, sum, ml_gep(e, e->i32, acc, ml_mul(e, stride, l.i)), ML_TILE_ALIGN / 2);
	ml_loop_end(e, &l, NULL);
}

/* A loop for each number of groups and of plain pairs. */
static void
pass_few(const ml_fold *f)
{
	ml_emit *e = f->e;
	LLVMBasicBlockRef none = LLVMAppendBasicBlockInContext(e->lc, e->fn, "none");
	LLVMBasicBlockRef end = LLVMAppendBasicBlockInContext(e->lc, e->fn, "end");
	ml_v which = ml_mul(e, LLVMGetParam(e->fn, ML_RUN_GROUPS), ml_i64(e, ML_FOLD_FEW + 1));
	ml_v jump = LLVMBuildSwitch(e->b, ml_add(e, which, LLVMGetParam(e->fn, ML_RUN_PLAIN)), none,
				    ML_FOLD_FEW * ML_FOLD_FEW / 2);

	for (int groups = 1; groups <= ML_FOLD_FEW; groups++)
		for (int plain = 0; plain <= groups; plain += 2) {
			LLVMBasicBlockRef block =
				LLVMAppendBasicBlockInContext(e->lc, e->fn, "few");
			LLVMAddCase(jump, ml_i64(e, groups * (ML_FOLD_FEW + 1) + plain), block);
			LLVMPositionBuilderAtEnd(e->b, block);
			pass_rows(f, groups, plain);
			LLVMBuildBr(e->b, end);
		}
	LLVMPositionBuilderAtEnd(e->b, none);
	LLVMBuildUnreachable(e->b);
	LLVMPositionBuilderAtEnd(e->b, end);
}

/* ---- functions ---- */

ml_v
ml_fold_define(const ml_fold *f, LLVMTypeRef *type)
{
	ml_emit *e = f->e;
	LLVMTypeRef params[ML_RUN_N] = {e->ptr, e->ptr, e->ptr, e->i64, e->i64, e->i64, e->ptr,
					e->i64, e->i64, e->ptr, e->i64, e->ptr, e->i1};
	ml_v caller = e->fn;
	LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
	static const char *const names[] = {"fold_plain", "fold_kept",     "fold_few",
					    "fold_many",  "fold_in_order", "fold_half_in_order"};
	ml_v fn = ml_emit_function(e, names[f->source], e->none, params, ML_RUN_N);

	*type = LLVMFunctionType(e->none, params, ML_RUN_N, 0);
	LLVMSetLinkage(fn, LLVMInternalLinkage);
	ml_tile_forbid_inlining(e, fn);
	if (f->source == ML_SOURCE_KEPT)
		pass_few(f);
	else
		run_rows(f);
	LLVMBuildRetVoid(e->b);
	e->fn = caller;
	LLVMPositionBuilderAtEnd(e->b, here);
	return fn;
}

void
ml_fold_prepare(const ml_fold *f, ml_v b, ml_v order, ml_v begin, ml_v end, ml_v buffer)
{
	ml_emit *e = f->e;
	ml_loop l = ml_loop_begin(e, begin, end, ml_i64(e, 1), NULL, 0, "fold");
	ml_v group = ml_fold_listed(f, order, l.i);
	folded w = weights_at(f, b, l.i, group, 0);
	prefetch_next(f, b, group);
	ml_v at = ml_mul(e, l.i, ml_i64(e, 2));

	ml_store(e, w.magnitude, ml_gep(e, f->bytes, buffer, at), ML_TILE_ALIGN / 2);
	ml_store(e, w.flip, ml_gep(e, f->bytes, buffer, ml_add(e, at, ml_i64(e, 1))),
		 ML_TILE_ALIGN / 2);
	ml_loop_end(e, &l, NULL);
}
