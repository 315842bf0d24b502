/* tile_amx.c -- tiles of bytes and of bf16 on CPUs that multiply a matrix of 16 rows of 64 bytes by
 * one of 64 bytes by 16.
 *
 * Matrices are read where they lie: sixteen rows of A, and of a panel the part for 64 bytes of k,
 * which is laid out as the instruction wants it.  What is configured of a matrix, its rows and the
 * bytes of each, holds for the thread; it costs about a hundred cycles and waits for what runs, so
 * that it is done once for a contraction: where rows are no multiple of sixteen, the last sixteen
 * repeat some.
 *
 * A step of bf16 is summed on its own before it is added, denormals taken for 0.  So steps are the
 * same for any number of rows, and one row goes this way as well.
 */
#include "scalar.h"
#include "tile.h"

/* Of the eight registers four have sums: of two times sixteen rows and two panels, or of up to
 * sixteen rows and four panels, so that a product need not wait for the one before it. */
enum {
	SUMS = 0,
	LEFT = 4,
	RIGHT = 6,
	REGISTERS = 8,
	SIDE = 2,
	MOST_PANELS = 4,
	ROWS = 16,
	BYTES = 64, /* of a row */
	GROUP = ML_TILE_GROUP,
	LINES = 8, /* fetched ahead in a step */
	/* where the configuration has them */
	CONFIG_BYTES = 64,
	ROW_BYTES_AT = 16, /* u16 */
	ROWS_AT = 48,      /* u8 */
};

typedef struct matrices {
	ml_emit *e;
	const ml_tile *t;
	bool bf16;
	ml_v k, lda, panel_stride; /* bytes */
	/* k is gone through in steps of 64 bytes, or of less where there is less.  What the last
	 * one lacks is taken from before it: panels hold no more, and ends of rows are copied for
	 * it, with zeros for what the step before has done.  Of bf16, where 0 times infinity is
	 * none, ends of panels are copied too, with zeros behind them. */
	ml_v rounded, step, whole, last;
	ml_v ends;          /* [2][16][64] */
	ml_v panel_ends;    /* bf16: [4][16][64] */
	ml_v second, count; /* the first row of the second sixteen; of each, those that exist */
} matrices;

static ml_v
number(ml_emit *e, int n)
{
	return LLVMConstInt(e->i8, (unsigned)n, 0);
}

static ml_v
round_up(ml_emit *e, ml_v k)
{
	return LLVMBuildAnd(e->b, ml_add(e, k, ml_i64(e, GROUP - 1)), ml_i64(e, -GROUP), "");
}

/* How many bytes of k are multiplied at once. */
static ml_v
step_of(ml_emit *e, ml_v k)
{
	ml_v some = ml_scalar_op(e, ML_OP_max, ML_s64, (ml_v[]){round_up(e, k), ml_i64(e, GROUP)});

	return ml_min_s(e, some, ml_i64(e, BYTES));
}

static void
plan_steps(matrices *m)
{
	ml_emit *e = m->e;
	ml_v many = LLVMBuildICmp(e->b, LLVMIntSGE, m->k, ml_i64(e, BYTES), "");

	m->rounded = round_up(e, m->k);
	m->step = step_of(e, m->k);
	ml_v even = LLVMBuildICmp(e->b, LLVMIntEQ, m->k, m->rounded, "");
	m->whole = LLVMBuildSelect(e->b, even, m->k, ml_i64(e, 0), "");
	m->whole = LLVMBuildSelect(e->b, many, LLVMBuildAnd(e->b, m->k, ml_i64(e, -BYTES), ""),
				   m->whole, "");
	m->last = m->bf16 ? m->whole : ml_sub(e, m->rounded, m->step);
}

void
ml_tile_amx_begin(ml_emit *e, ml_contract_form form, ml_v rows, ml_v k)
{
	LLVMTypeRef type = LLVMArrayType2(e->i8, CONFIG_BYTES);
	ml_v config = ml_alloca(e, type, BYTES);
	ml_v step = step_of(e, ml_mul(e, k, ml_i64(e, ml_form_get(form)->bytes)));
	ml_v groups = LLVMBuildLShr(e->b, step, ml_i64(e, 2), "");

	rows = ml_min_s(e, rows, ml_i64(e, ROWS));
	ml_store(e, LLVMConstNull(type), config, BYTES);
	ml_store(e, number(e, 1), config, 1); /* the only palette there is */
	for (int i = 0; i < REGISTERS; i++) {
		ml_v bytes = i >= LEFT && i < RIGHT ? step : ml_i64(e, BYTES);
		ml_store(e, LLVMBuildTrunc(e->b, bytes, e->i16, ""),
			 ml_gep(e, e->i8, config, ml_i64(e, ROW_BYTES_AT + 2 * i)), 2);
		ml_store(e, LLVMBuildTrunc(e->b, i >= RIGHT ? groups : rows, e->i8, ""),
			 ml_gep(e, e->i8, config, ml_i64(e, ROWS_AT + i)), 1);
	}
	ml_intrinsic(e, "llvm.x86.ldtilecfg", NULL, 0, &config, 1);
}

void
ml_tile_amx_end(ml_emit *e)
{
	ml_intrinsic(e, "llvm.x86.tilerelease", NULL, 0, NULL, 0);
}

/* A block's first row, and where its ends are copied to. */
static ml_v
block_row(const matrices *m, int block)
{
	return block ? m->second : ml_i64(m->e, 0);
}

static ml_v
end_of(const matrices *m, int block)
{
	return ml_gep(m->e, m->e->i8, m->ends, ml_i64(m->e, block * ROWS * BYTES));
}

/* Of a block of rows, the bytes that no whole step has. */
static void
copy_ends(matrices *m, int block)
{
	ml_emit *e = m->e;
	LLVMTypeRef bytes = LLVMVectorType(e->i8, BYTES), bits = LLVMVectorType(e->i1, BYTES);
	ml_v all = ml_i64(e, -1), size = ml_i64(e, BYTES);
	ml_v end = ml_sub(e, size, ml_sub(e, m->k, m->last));
	ml_v from = LLVMBuildShl(e->b, all, ml_sub(e, m->whole, m->last), "");
	ml_v mask = LLVMBuildAnd(e->b, from, LLVMBuildLShr(e->b, all, end, ""), "");
	ml_v first = block_row(m, block), to = end_of(m, block);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), m->count, ml_i64(e, 1), NULL, 0, "end");
	ml_v at = ml_add(e, ml_mul(e, ml_add(e, first, l.i), m->lda), m->last);
	ml_v args[] = {ml_gep(e, e->i8, m->t->a, at), ml_i32(e, 1),
		       LLVMBuildBitCast(e->b, mask, bits, ""), LLVMConstNull(bytes)};
	ml_v v = ml_intrinsic(e, "llvm.masked.load", (LLVMTypeRef[]){bytes, e->ptr}, 2, args, 4);

	ml_store(e, v, ml_gep(e, e->i8, to, ml_mul(e, l.i, size)), BYTES);
	ml_loop_end(e, &l, NULL);
}

/* What a panel holds for the last step, and zeros. */
static ml_v
copy_panel_end(const matrices *m, int slot, ml_v from)
{
	ml_emit *e = m->e;
	LLVMTypeRef line = LLVMVectorType(e->i8, BYTES), bits = LLVMVectorType(e->i1, BYTES);
	ml_v lanes = ml_i64(e, ML_LANES);
	ml_v to = ml_gep(e, e->i8, m->panel_ends, ml_i64(e, slot * ROWS * BYTES));
	ml_v end = ml_mul(e, ml_sub(e, m->rounded, m->whole), lanes);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), ml_mul(e, m->step, lanes), ml_i64(e, BYTES),
				  NULL, 0, "end");
	ml_v exists = LLVMBuildICmp(e->b, LLVMIntSLT, l.i, end, "");
	ml_v args[] = {
		ml_gep(e, e->i8, from, l.i), ml_i32(e, 1),
		LLVMBuildSelect(e->b, exists, LLVMConstAllOnes(bits), LLVMConstNull(bits), ""),
		LLVMConstNull(line)};
	ml_v v = ml_intrinsic(e, "llvm.masked.load", (LLVMTypeRef[]){line, e->ptr}, 2, args, 4);

	ml_store(e, v, ml_gep(e, e->i8, to, l.i), BYTES);
	ml_loop_end(e, &l, NULL);
	return to;
}

static void
load(ml_emit *e, int to, ml_v from, ml_v stride)
{
	ml_intrinsic(e, "llvm.x86.tileloadd64", NULL, 0, (ml_v[]){number(e, to), from, stride}, 3);
}

/* Sums of blocks of rows and panels. */
static int
sum_of(int block, int panel)
{
	return SUMS + block * SIDE + panel;
}

/* One step: rows from a[], panels at k; or the last one, of rows that were copied. */
static void
add_step(const matrices *m, int blocks, int panels, const ml_v *a, ml_v panel, ml_v k, bool last)
{
	ml_emit *e = m->e;
	ml_v line = ml_i64(e, BYTES);
	const char *product = m->bf16 ? "llvm.x86.tdpbf16ps" : "llvm.x86.tdpbusd";

	for (int i = 0; i < blocks; i++)
		load(e, LEFT + i, a[i], last ? line : m->lda);
	for (int j = 0; j < panels; j++) {
		int right = RIGHT + j % SIDE;
		ml_v at = ml_mul(e, ml_add(e, panel, ml_i64(e, j)), m->panel_stride);
		at = ml_add(e, at, ml_mul(e, k, ml_i64(e, ML_LANES)));
		at = ml_gep(e, e->i8, m->t->b, at);
		load(e, right, last && m->bf16 ? copy_panel_end(m, j, at) : at, line);
		for (int i = 0; i < blocks; i++)
			ml_intrinsic(e, product, NULL, 0,
				     (ml_v[]){number(e, sum_of(i, j)), number(e, LEFT + i),
					      number(e, right)},
				     3);
	}
}

/* A step's share of the panel that comes next. */
static void
fetch_ahead(const matrices *m, ml_v panel, ml_v k)
{
	ml_emit *e = m->e;
	ml_v turn = LLVMBuildUDiv(e->b, panel, ml_i64(e, SIDE), "");
	ml_v at = ml_add(e, ml_mul(e, turn, m->whole), k);

	at = ml_gep(e, e->i8, m->t->ahead, ml_mul(e, at, ml_i64(e, LINES)));
	for (int i = 0; i < LINES; i++)
		ml_tile_fetch(e, ml_gep(e, e->i8, at, ml_i64(e, i * BYTES)), 2);
}

static void
store_sums(const matrices *m, int blocks, int panels, ml_v panel)
{
	ml_emit *e = m->e;
	ml_v stride = ml_mul(e, m->t->panels_given, ml_i64(e, BYTES));

	for (int i = 0; i < blocks; i++)
		for (int j = 0; j < panels; j++) {
			ml_v slot = ml_add(e, ml_mul(e, block_row(m, i), m->t->panels_given),
					   ml_add(e, panel, ml_i64(e, j)));
			ml_v to = ml_gep(e, e->i8, m->t->acc, ml_mul(e, slot, ml_i64(e, BYTES)));
			ml_intrinsic(e, "llvm.x86.tilestored64", NULL, 0,
				     (ml_v[]){number(e, sum_of(i, j)), to, stride}, 3);
		}
}

/* So many blocks of rows with so many panels, all of k. */
static void
multiply(const matrices *m, int blocks, int panels, ml_v panel)
{
	ml_emit *e = m->e;
	const ml_tile *t = m->t;
	ml_v zero = ml_i64(e, 0), a[SIDE], ends[SIDE];

	for (int i = 0; i < blocks; i++) {
		ends[i] = end_of(m, i);
		for (int j = 0; j < panels; j++)
			ml_intrinsic(e, "llvm.x86.tilezero", NULL, 0,
				     (ml_v[]){number(e, sum_of(i, j))}, 1);
	}
	ml_loop l = ml_loop_begin(e, zero, m->whole, m->step, NULL, 0, "k");
	if (blocks == SIDE && panels == SIDE)
		fetch_ahead(m, panel, l.i);
	a[0] = ml_gep(e, e->i8, t->a, l.i);
	a[1] = ml_gep(e, e->i8, a[0], ml_mul(e, m->second, m->lda));
	add_step(m, blocks, panels, a, panel, l.i, false);
	ml_loop_end(e, &l, NULL);
	ml_if more = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSLT, m->whole, m->k, ""));
	add_step(m, blocks, panels, ends, panel, m->last, true);
	ml_if_end(e, &more);
	store_sums(m, blocks, panels, panel);
}

/* So many blocks of rows with all panels, `most` and then one at a time. */
static void
pass_panels(matrices *m, int blocks, int most)
{
	ml_emit *e = m->e;
	ml_v all = m->t->panels_given, whole = LLVMBuildAnd(e->b, all, ml_i64(e, -most), "");
	ml_if rest = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSLT, m->whole, m->k, ""));

	for (int i = 0; i < blocks; i++)
		copy_ends(m, i);
	ml_if_end(e, &rest);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), whole, ml_i64(e, most), NULL, 0, "panels");
	multiply(m, blocks, most, l.i);
	ml_loop_end(e, &l, NULL);
	l = ml_loop_begin(e, whole, all, ml_i64(e, 1), NULL, 0, "panel");
	multiply(m, blocks, 1, l.i);
	ml_loop_end(e, &l, NULL);
}

void
ml_tile_amx(ml_emit *e, const ml_tile *t, ml_contract_form form)
{
	ml_v bytes = ml_i64(e, ml_form_get(form)->bytes), block = ml_i64(e, ROWS);
	matrices m = {.e = e,
		      .t = t,
		      .bf16 = form == ML_CONTRACT_BF16,
		      .k = ml_mul(e, t->k, bytes),
		      .lda = ml_mul(e, t->lda, bytes),
		      .panel_stride = ml_mul(e, t->panel_stride, bytes)};

	m.ends = ml_alloca(e, LLVMArrayType2(e->i8, SIDE * ROWS * BYTES), BYTES);
	if (m.bf16) {
		LLVMTypeRef ends = LLVMArrayType2(e->i8, MOST_PANELS * ROWS * BYTES);
		m.panel_ends = ml_alloca(e, ends, BYTES);
	}
	m.second = ml_sub(e, t->rows_given, block);
	m.count = ml_min_s(e, t->rows_given, block);
	plan_steps(&m);
	ml_if wide = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGT, t->rows_given, block, ""));
	pass_panels(&m, SIDE, SIDE);
	ml_if_else(e, &wide);
	pass_panels(&m, 1, MOST_PANELS);
	ml_if_end(e, &wide);
}
