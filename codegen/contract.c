/* contract.c -- loops over panels and rows around the tiles, and the tile function of a level. */
#include "contract.h"
#include "scalar.h"
#include "tile.h"
#include <assert.h>
#include <stdio.h>

/* Which tiles a level has: 1..rows x 1..panels in registers, and 1..few_rows x 1..many_panels for
 * inputs of few rows, whose sums would otherwise wait for each other.  A row alone may take more
 * panels at once, for which its tile loops.  Measured by bench/kernels.
 * The wide form loops over panels, and the fold form and that of matrices over rows and panels: any
 * number of them up to the shape's is one tile; a row alone of bytes streams where there are
 * matrices. */
typedef enum tile_kind { IN_REGISTERS, WIDE, FOLD, MATRICES } tile_kind;
typedef struct shape {
	int rows, panels, few_rows, many_panels;
	int alone; /* panels; 0: none but those of few rows */
	tile_kind kind;
} shape;

enum {
	MAX_PARAMS = 11,
	MAX_ROWS = 64,     /* about: whose sums are kept while k is gone through in passes, */
	TIMES_ROWS = 2,    /* or so many times as many */
	PASS_BYTES = 4096, /* of a row of A, at most */
	LINE = 64,         /* bytes of a cache line, and of a panel's step */
	LOOP_ROWS = 128,   /* that share a few panels where tiles loop over rows */
};

static const ml_form_info forms[ML_CONTRACT_FORMS] = {
	[ML_CONTRACT_F32] = {"f32", 4, 1},
	[ML_CONTRACT_U8S8] = {"u8s8", 1, 4},
	[ML_CONTRACT_BF16] = {"bf16", 2, 2},
};

const ml_form_info *
ml_form_get(ml_contract_form form)
{
	return &forms[form];
}

ml_contract_form
ml_form_of(ml_dtype b)
{
	return b == ML_f32 ? ML_CONTRACT_F32 : b == ML_bf16 ? ML_CONTRACT_BF16 : ML_CONTRACT_U8S8;
}

LLVMTypeRef
ml_form_element(ml_emit *e, ml_contract_form form)
{
	return form == ML_CONTRACT_F32 ? e->f32 : form == ML_CONTRACT_BF16 ? e->i16 : e->i8;
}

static shape
choose_shape(const ml_target *t, ml_contract_form form)
{
	bool zmm = t->vector_bits == 512, u8s8 = form == ML_CONTRACT_U8S8;
	int alone = u8s8 ? ML_ALONE_PANELS : 0;

	if (form != ML_CONTRACT_F32 && t->level == ML_LEVEL_AMX)
		return (shape){ML_AMX_ROWS, 4, u8s8, 4, ML_ALONE_PANELS, MATRICES};
	if (form == ML_CONTRACT_BF16 && !ml_target_has_bf16(t))
		return zmm ? (shape){8, 2, 4, 4, 0, IN_REGISTERS}
			   : (shape){3, 1, 2, 1, 0, IN_REGISTERS};

	if (u8s8 && ml_tile_folds(t))
		return (shape){LOOP_ROWS, 2, 1, 8, ML_ALONE_PANELS, FOLD};
	if (u8s8 && !ml_tile_has_dot(t))
		return (shape){4, 8, 0, 8, 0, WIDE};
	if (u8s8 && t->level == ML_LEVEL_DOTPROD)
		return (shape){3, 1, 0, 1, 0, IN_REGISTERS};
	return zmm ? (shape){9, 3, 4, 4, alone, IN_REGISTERS}
		   : (shape){6, 1, 2, 2, alone, IN_REGISTERS};
}

static ml_v
ceil_div(ml_emit *e, ml_v n, ml_v by)
{
	return LLVMBuildUDiv(e->b, ml_sub(e, ml_add(e, n, by), ml_i64(e, 1)), by, "");
}

static ml_v
declare_tiles(ml_emit *e, ml_contract_form form, LLVMTypeRef *type)
{
	bool fold = choose_shape(e->target, form).kind == FOLD;
	char name[64];
	/* a, lda, b, panel_stride, k, rows, panels (fold: columns), acc; fold: corrections, lists;
	 * else: ahead, pass, ahead_step */
	LLVMTypeRef params[MAX_PARAMS] = {e->ptr, e->i64, e->ptr, e->i64, e->i64,
					  e->i64, e->i64, e->ptr, e->ptr, fold ? e->ptr : e->i64,
					  e->i64};

	snprintf(name, sizeof name, "gemm_%s_%s", forms[form].name, e->target->name);
	*type = LLVMFunctionType(e->none, params, MAX_PARAMS, 0);
	ml_v f = LLVMGetNamedFunction(e->module, name);
	if (!f) {
		f = LLVMAddFunction(e->module, name, *type);
		LLVMSetVisibility(f, LLVMHiddenVisibility);
		ml_emit_attributes(e, f);
	}
	return f;
}

/* The last group of each row where k ends in one, as words: once for all tiles of the function. */
static ml_v
emit_rest(ml_emit *e, ml_v f, ml_contract_form form, int rows)
{
	LLVMTypeRef element = ml_form_element(e, form);
	ml_v rest = ml_alloca(e, LLVMArrayType2(e->i32, (uint64_t)rows), ML_TILE_ALIGN);
	ml_v a = LLVMGetParam(f, 0), lda = LLVMGetParam(f, 1), k = LLVMGetParam(f, 4);
	ml_v whole = LLVMBuildAnd(e->b, k, ml_i64(e, -forms[form].group), "");
	ml_v count = ml_sub(e, k, whole), zero = ml_i64(e, 0);
	ml_v some = LLVMBuildICmp(e->b, LLVMIntNE, count, zero, "");
	ml_v end = LLVMBuildSelect(e->b, some, LLVMGetParam(f, 5), zero, "");
	ml_loop l = ml_loop_begin(e, zero, end, ml_i64(e, 1), NULL, 0, "rest");
	ml_v from = ml_gep(e, element, a, ml_add(e, whole, ml_mul(e, lda, l.i)));
	ml_v word = form == ML_CONTRACT_BF16
			    ? LLVMBuildZExt(e->b, ml_load(e, e->i16, from, 2), e->i32, "")
			    : ml_tile_group(e, from, count);

	ml_store(e, word, ml_gep(e, e->i32, rest, l.i), 4);
	ml_loop_end(e, &l, NULL);
	return rest;
}

static void
emit_tile(ml_emit *e, ml_v f, ml_v rest, ml_contract_form form, const shape *s, int rows,
	  int panels)
{
	/* A single row's weights are read once, as fast as memory gives them: fetching ahead of
	 * that costs more than it brings. */
	bool alone = rows == 1;
	ml_tile t = {
		.rows = rows,
		.panels = panels,
		.a = LLVMGetParam(f, 0),
		.lda = LLVMGetParam(f, 1),
		.b = LLVMGetParam(f, 2),
		.panel_stride = LLVMGetParam(f, 3),
		.k = LLVMGetParam(f, 4),
		.rest = rest,
		.stream = rows == 1 || panels > s->panels || s->kind == MATRICES,
		.rows_given = LLVMGetParam(f, 5),
		.panels_given = LLVMGetParam(f, 6),
		.acc = LLVMGetParam(f, 7),
		.ahead = alone ? NULL : LLVMGetParam(f, 8),
		.pass = LLVMGetParam(f, 9),
		.ahead_step = LLVMGetParam(f, 10),
	};

	if (s->kind == MATRICES && !rows) {
		ml_tile_amx(e, &t, form);
	} else if (form == ML_CONTRACT_F32) {
		ml_tile_f32(e, &t);
	} else if (form == ML_CONTRACT_BF16) {
		ml_tile_bf16(e, &t);
	} else if (s->kind == FOLD) {
		ml_v lanes = ml_i64(e, ML_LANES);
		t.columns_given = LLVMGetParam(f, 6);
		t.panels_given = ceil_div(e, t.columns_given, lanes);
		t.corrections = LLVMGetParam(f, 8);
		t.lists = LLVMGetParam(f, 9);
		ml_if single = ml_if_begin(
			e, LLVMBuildICmp(e->b, LLVMIntEQ, t.rows_given, ml_i64(e, 1), ""));
		ml_tile_u8s8_single(e, &t);
		ml_if_else(e, &single);
		ml_tile_u8s8_fold(e, &t);
		ml_if_end(e, &single);
	} else if (s->kind == WIDE) {
		ml_tile_u8s8_wide(e, &t);
	} else {
		ml_tile_u8s8(e, &t);
	}
	LLVMBuildRetVoid(e->b);
}

/* How many rows tiles of so many panels have at most; 0: there is none. */
static int
most_rows(const shape *s, int panels)
{
	if (s->kind != IN_REGISTERS)
		return panels > 1 ? 0 : s->kind == WIDE ? s->rows : s->few_rows;
	if (panels <= s->panels)
		return s->rows;
	return panels <= s->many_panels ? s->few_rows : 0;
}

/* A jump to the tile of the wanted size. */
static void
emit_choice(ml_emit *e, ml_v f, ml_v rest, ml_contract_form form, const shape *s)
{
	LLVMBasicBlockRef none = LLVMAppendBasicBlockInContext(e->lc, f, "none");
	ml_v one = ml_i64(e, 1);
	ml_v panels_given = s->kind == IN_REGISTERS ? LLVMGetParam(f, 6) : one;
	if (s->alone) {
		ml_v alone = LLVMBuildICmp(e->b, LLVMIntEQ, LLVMGetParam(f, 5), one, "");
		panels_given = LLVMBuildSelect(e->b, alone, one, panels_given, "");
	}
	ml_v which = ml_mul(e, panels_given, ml_i64(e, s->rows));
	ml_v jump = LLVMBuildSwitch(e->b, ml_add(e, LLVMGetParam(f, 5), which), none,
				    (unsigned)(s->rows * s->panels));

	LLVMPositionBuilderAtEnd(e->b, none);
	LLVMBuildUnreachable(e->b);
	for (int panels = 1; most_rows(s, panels); panels++)
		for (int rows = panels > 1 && s->alone ? 2 : 1; rows <= most_rows(s, panels);
		     rows++) {
			LLVMBasicBlockRef block = LLVMAppendBasicBlockInContext(e->lc, f, "tile");
			LLVMAddCase(jump, ml_i64(e, panels * s->rows + rows), block);
			LLVMPositionBuilderAtEnd(e->b, block);
			emit_tile(e, f, rest, form, s, rows, panels);
		}
}

/* Several rows; what follows is for few. */
static void
emit_matrices(ml_emit *e, ml_v f, ml_contract_form form, const shape *s)
{
	LLVMBasicBlockRef many = LLVMAppendBasicBlockInContext(e->lc, f, "many");
	LLVMBasicBlockRef few = LLVMAppendBasicBlockInContext(e->lc, f, "few");
	ml_v most = ml_i64(e, s->few_rows);

	LLVMBuildCondBr(e->b, LLVMBuildICmp(e->b, LLVMIntSGT, LLVMGetParam(f, 5), most, ""), many,
			few);
	LLVMPositionBuilderAtEnd(e->b, many);
	emit_tile(e, f, NULL, form, s, 0, 0);
	LLVMPositionBuilderAtEnd(e->b, few);
}

void
ml_emit_contract_tiles(ml_emit *e, ml_contract_form form)
{
	shape s = choose_shape(e->target, form);
	LLVMTypeRef type;
	ml_v f = declare_tiles(e, form, &type), caller = e->fn;

	e->fn = f;
	LLVMPositionBuilderAtEnd(e->b, LLVMAppendBasicBlockInContext(e->lc, f, "entry"));
	if (s.kind == MATRICES && s.few_rows)
		emit_matrices(e, f, form, &s);
	int rows = s.kind == MATRICES ? s.few_rows : s.rows;
	ml_v rest = forms[form].group > 1 && rows ? emit_rest(e, f, form, rows) : NULL;
	if (s.kind == FOLD || !rows)
		emit_tile(e, f, rest, form, &s, 0, 0);
	else
		emit_choice(e, f, rest, form, &s);
	e->fn = caller;
}

/* The accumulators' way out, one (row, panel) at a time: the epilogue's code exists once for whole
 * panels and once for a partial one, however many tiles there are. */
static void
emit_stores(ml_emit *e, const ml_contract *c, ml_v acc, ml_v row, ml_v rows, ml_v panel,
	    ml_v panels)
{
	LLVMTypeRef element = c->form == ML_CONTRACT_U8S8 ? e->i32 : e->f32;
	ml_v zero = ml_i64(e, 0), one = ml_i64(e, 1), lanes = ml_i64(e, ML_LANES);
	ml_loop r = ml_loop_begin(e, zero, rows, one, NULL, 0, "row");
	ml_loop p = ml_loop_begin(e, zero, panels, one, NULL, 0, "panel");
	ml_v slot = ml_mul(e, ml_add(e, ml_mul(e, r.i, panels), p.i), lanes);
	ml_v v = ml_load(e, ml_vec_type(element), ml_gep(e, element, acc, slot), 64);
	ml_v column = ml_mul(e, ml_add(e, panel, p.i), lanes);
	ml_v at = ml_add(e, row, r.i);
	int64_t n;

	bool known = ml_const_i64(c->columns, &n);
	if (known && n % ML_LANES == 0) {
		c->store(c->user, e, at, column, NULL, v);
	} else {
		ml_v left = ml_sub(e, c->columns, column);
		ml_if full = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGE, left, lanes, ""));
		c->store(c->user, e, at, column, NULL, v);
		ml_if_else(e, &full);
		c->store(c->user, e, at, column, known ? ml_i64(e, n % ML_LANES) : left, v);
		ml_if_end(e, &full);
	}
	ml_loop_end(e, &p, NULL);
	ml_loop_end(e, &r, NULL);
}

/* What the stores will read besides, of as many rows and panels. */
static void
emit_ahead(ml_emit *e, const ml_contract *c, ml_v row, ml_v rows, ml_v panel, ml_v panels)
{
	ml_v zero = ml_i64(e, 0), one = ml_i64(e, 1);
	ml_loop r = ml_loop_begin(e, zero, rows, one, NULL, 0, "row");
	ml_loop p = ml_loop_begin(e, zero, panels, one, NULL, 0, "panel");
	ml_v column = ml_mul(e, ml_add(e, panel, p.i), ml_i64(e, ML_LANES));

	c->ahead(c->user, e, ml_add(e, row, r.i), column);
	ml_loop_end(e, &p, NULL);
	ml_loop_end(e, &r, NULL);
}

/* Distance of two panels in elements. */
static ml_v
panel_elements(ml_emit *e, const ml_contract *c)
{
	int group = forms[c->form].group;
	ml_v k = c->k;

	if (group > 1)
		k = LLVMBuildAnd(e->b, ml_add(e, k, ml_i64(e, group - 1)), ml_i64(e, -group), "");
	return ml_mul(e, k, ml_i64(e, ML_LANES));
}

/* What stays the same through the loops of one contraction. */
typedef struct frame {
	const ml_contract *c;
	shape s;
	ml_v tiles;
	LLVMTypeRef tiles_type, element;
	ml_v acc, stride;     /* stride of panels in elements */
	ml_v passes, k_block; /* k is gone through in passes of k_block */
	ml_pairs pairs;       /* fold: of all panels */
} frame;

/* Consecutive rows or panels that are dealt out evenly, in whole units but for the last: 10 rows as
 * 5 + 5 and not as 9 + 1, since a tile of one row runs at a fraction of the speed. */
typedef struct deal {
	ml_loop loop;
	ml_v from, count;
} deal;

/* most: units of a part */
static deal
deal_begin(ml_emit *e, ml_v from, ml_v to, ml_v most, ml_v unit, const char *name)
{
	ml_v parts = ceil_div(e, ceil_div(e, ml_sub(e, to, from), unit), most);
	deal d = {.loop = ml_loop_begin(e, ml_i64(e, 0), parts, ml_i64(e, 1), &from, 1, name)};

	d.from = d.loop.carry[0];
	ml_v left = ml_sub(e, to, d.from), parts_left = ml_sub(e, parts, d.loop.i);
	ml_v units = ceil_div(e, ceil_div(e, left, unit), parts_left);
	d.count = ml_min_s(e, ml_mul(e, units, unit), left);
	return d;
}

static void
deal_end(ml_emit *e, deal *d)
{
	ml_v next = ml_add(e, d->from, d->count);

	ml_loop_end(e, &d->loop, &next);
}

static ml_v
panel_at(ml_emit *e, const frame *f, ml_v panel, ml_v k)
{
	ml_v at = ml_add(e, ml_mul(e, panel, f->stride), ml_mul(e, k, ml_i64(e, ML_LANES)));

	return ml_gep(e, f->element, f->c->b, at);
}

/* Each block of rows fetches a part of the panels that come next, evenly over its steps: a panel in
 * one go would be more than caches have under way between them, and the multiplications would wait
 * for it. */
static void
set_ahead(ml_emit *e, const frame *f, const deal *rows, const deal *panels, ml_v panel, ml_v k,
	  ml_v *args)
{
	ml_v one = ml_i64(e, 1);
	ml_v blocks = LLVMBuildUDiv(e->b, rows->loop.to, panels->count, "");
	ml_v parts = ml_scalar_op(e, ML_OP_max, ML_s64, (ml_v[]){blocks, one});
	ml_v last = ml_sub(e, ml_mul(e, panels->count, parts), one);
	ml_v turn = ml_min_s(e, rows->loop.i, last);
	ml_v which = LLVMBuildUDiv(e->b, turn, parts, "");
	ml_v part = ml_sub(e, turn, ml_mul(e, which, parts));
	ml_v from = ml_mul(e, part, LLVMBuildUDiv(e->b, f->k_block, parts, ""));

	args[8] = panel_at(e, f, ml_add(e, panel, which), ml_add(e, k, from));
	args[10] = ceil_div(e, ml_i64(e, LINE), parts);
}

/* Some rows with some panels, pass `pass` over k. */
static void
emit_pass(ml_emit *e, const frame *f, const deal *rows, ml_v first_row, const deal *panels,
	  ml_v pass)
{
	const ml_contract *c = f->c;
	ml_v k = ml_mul(e, pass, f->k_block), next_k = ml_add(e, k, f->k_block);
	ml_v next_panel = ml_add(e, panels->from, panels->count), zero = ml_i64(e, 0);
	ml_v last = LLVMBuildICmp(e->b, LLVMIntSGE, next_k, c->k, "");
	ml_v row = ml_mul(e, rows->from, c->lda);
	ml_v slot = ml_mul(e, ml_sub(e, rows->from, first_row), panels->count);
	/* One pass: all tiles use the same few lines. */
	slot = LLVMBuildSelect(e->b, LLVMBuildICmp(e->b, LLVMIntEQ, f->passes, ml_i64(e, 1), ""),
			       zero, ml_mul(e, slot, ml_i64(e, ML_LANES)), "");
	ml_v acc = ml_gep(e, e->i32, f->acc, slot);
	ml_v args[MAX_PARAMS] = {ml_gep(e, f->element, c->a, ml_add(e, row, k)),
				 c->lda,
				 panel_at(e, f, panels->from, k),
				 f->stride,
				 ml_min_s(e, ml_sub(e, c->k, k), f->k_block),
				 rows->count,
				 panels->count,
				 acc};

	if (f->pairs.lists) {
		ml_v column = ml_mul(e, panels->from, ml_i64(e, ML_LANES));
		ml_v all = ml_mul(e, panels->count, ml_i64(e, ML_LANES));
		args[6] = ml_min_s(e, all, ml_sub(e, c->columns, column));
		args[8] = ml_gep(e, e->i32, f->pairs.sums, column);
		args[9] = ml_gep(e, e->i8, f->pairs.lists, ml_mul(e, panels->from, f->pairs.bytes));
		args[10] = zero; /* it fetches nothing */
	} else {
		set_ahead(e, f, rows, panels,
			  LLVMBuildSelect(e->b, last, next_panel, panels->from, ""),
			  LLVMBuildSelect(e->b, last, zero, next_k, ""), args);
		args[9] = pass;
	}
	if (c->ahead) {
		ml_v some = LLVMBuildSelect(e->b, last, rows->count, zero, "");
		emit_ahead(e, c, rows->from, some, panels->from, panels->count);
	}
	LLVMBuildCall2(e->b, f->tiles_type, f->tiles, args, MAX_PARAMS, "");
	ml_if done = ml_if_begin(e, last);
	emit_stores(e, c, acc, rows->from, rows->count, panels->from, panels->count);
	ml_if_end(e, &done);
}

/* A segment's rows: whole tiles, so that only the last one has smaller ones. */
static int
blocks_of_segment(const shape *s)
{
	return (MAX_ROWS + s->rows - 1) / s->rows;
}

/* The rows that segments are made of: a tile; those that fold have tiles of their own. */
static int
unit_of_segment(const shape *s)
{
	return s->kind == FOLD ? 1 : s->rows;
}

/* How many of them a segment has at most.  Panels that do not fit the cache are read anew for each
 * segment: then there are few. */
static ml_v
units_of_segment(ml_emit *e, const frame *f)
{
	const ml_contract *c = f->c;
	int blocks = blocks_of_segment(&f->s);

	if (f->s.kind == FOLD || f->s.kind == MATRICES)
		return ml_i64(e, LOOP_ROWS / unit_of_segment(&f->s));
	if (f->s.kind == WIDE)
		return ml_i64(e, blocks);
	ml_v elements = ml_mul(e, ml_sub(e, c->panel_end, c->panel_begin), f->stride);
	ml_v bytes = ml_mul(e, elements, ml_i64(e, forms[c->form].bytes));
	ml_v fit = LLVMBuildICmp(e->b, LLVMIntSLE, bytes, ml_i64(e, e->target->l2_bytes), "");
	return LLVMBuildSelect(e->b, fit, ml_i64(e, blocks), ml_i64(e, TIMES_ROWS * blocks), "");
}

/* How k is gone through, and room for the sums that wait for the next pass. */
static void
plan_passes(ml_emit *e, frame *f)
{
	const shape *s = &f->s;
	int size = forms[f->c->form].bytes;
	int many = s->few_rows * s->many_panels;
	int blocks = s->kind == IN_REGISTERS ? TIMES_ROWS * blocks_of_segment(s) : 1;
	int most = blocks * s->rows * s->panels;

	many = many > s->alone ? many : s->alone;
	ml_v most_k = ml_i64(e, PASS_BYTES / size), one = ml_i64(e, 1), lanes = ml_i64(e, ML_LANES);
	f->k_block = f->c->k;
	f->passes = one;
	if (s->kind == IN_REGISTERS) {
		f->passes = ceil_div(e, f->c->k, most_k);
		f->passes = ml_scalar_op(e, ML_OP_max, ML_s64, (ml_v[]){f->passes, one});
		f->k_block = ml_mul(e, ceil_div(e, ceil_div(e, f->c->k, f->passes), lanes), lanes);
	}
	f->acc = ml_alloca(e,
			   LLVMArrayType2(e->i32, (uint64_t)(most > many ? most : many) * ML_LANES),
			   ML_TILE_ALIGN);
}

/* A few panels and a part of k stay in cache while a segment's rows pass over them, whose sums are
 * kept for the next part. */
void
ml_emit_contract(ml_emit *e, const ml_contract *c)
{
	shape s = choose_shape(e->target, c->form);
	frame f = {.c = c, .s = s, .stride = panel_elements(e, c)};

	f.element = ml_form_element(e, c->form);
	f.tiles = declare_tiles(e, c->form, &f.tiles_type);
	if (s.kind == FOLD)
		f.pairs = ml_find_pairs(e, c->b, c->k, c->columns);
	plan_passes(e, &f);
	ml_v m = ml_sub(e, c->row_end, c->row_begin);
	ml_v few = LLVMBuildICmp(e->b, LLVMIntSLE, m, ml_i64(e, s.few_rows), "");
	ml_v group = LLVMBuildSelect(e->b, few, ml_i64(e, s.many_panels), ml_i64(e, s.panels), "");
	ml_v one = ml_i64(e, 1);
	if (s.alone) {
		ml_v alone = LLVMBuildICmp(e->b, LLVMIntEQ, m, one, "");
		group = LLVMBuildSelect(e->b, alone, ml_i64(e, s.alone), group, "");
	}
	if (s.kind == MATRICES) {
		ml_if matrices = ml_if_begin(e, LLVMBuildNot(e->b, few, ""));
		ml_tile_amx_begin(e, c->form, m, c->k);
		ml_if_end(e, &matrices);
	}
	deal g = deal_begin(e, c->row_begin, c->row_end, units_of_segment(e, &f),
			    ml_i64(e, unit_of_segment(&s)), "segment");
	deal p = deal_begin(e, c->panel_begin, c->panel_end, group, one, "group");
	ml_loop k = ml_loop_begin(e, ml_i64(e, 0), f.passes, ml_i64(e, 1), NULL, 0, "pass");
	ml_v end = ml_add(e, g.from, g.count);
	deal r = deal_begin(e, g.from, end, ml_i64(e, s.rows), one, "block");

	emit_pass(e, &f, &r, g.from, &p, k.i);
	deal_end(e, &r);
	ml_loop_end(e, &k, NULL);
	deal_end(e, &p);
	deal_end(e, &g);
	if (s.kind == MATRICES)
		ml_tile_amx_end(e);
}
