/* contract.c -- loops over panels and rows around the tiles, and the tile function of a level. */
#include "contract.h"
#include "tile.h"
#include <assert.h>
#include <stdio.h>

/* Which tiles a level has: 1..rows x 1..panels in registers, and 1..few_rows x 1..many_panels for
 * inputs of few rows, whose sums would otherwise wait for each other.  Measured by bench/kernels.
 * The wide form loops over panels, and the fold form over rows and panels: any number of them up to
 * the shape's is one tile. */
typedef enum tile_kind { IN_REGISTERS, WIDE, FOLD } tile_kind;
typedef struct shape {
	int rows, panels, few_rows, many_panels;
	tile_kind kind;
} shape;

enum { MAX_PARAMS = 10 };

static shape
choose_shape(const ml_target *t, ml_contract_form form)
{
	bool zmm = t->vector_bits == 512;

	if (form == ML_CONTRACT_U8S8 && ml_tile_folds(t))
		return (shape){64, 2, 0, 2, FOLD};
	if (form == ML_CONTRACT_U8S8 && !ml_tile_has_dot(t))
		return (shape){4, 8, 0, 8, WIDE};
	return zmm ? (shape){9, 3, 4, 4, IN_REGISTERS} : (shape){6, 1, 2, 2, IN_REGISTERS};
}

static ml_v
declare_tiles(ml_emit *e, ml_contract_form form, LLVMTypeRef *type)
{
	static const char *const forms[] = {"f32", "u8s8"};
	bool fold = choose_shape(e->target, form).kind == FOLD;
	char name[64];
	/* a, lda, b, panel_stride, k, rows, panels, acc; fold: corrections, order */
	LLVMTypeRef params[MAX_PARAMS] = {e->ptr, e->i64, e->ptr, e->i64, e->i64,
					  e->i64, e->i64, e->ptr, e->ptr, e->ptr};

	snprintf(name, sizeof name, "gemm_%s_%s", forms[form], e->target->name);
	*type = LLVMFunctionType(e->none, params, fold ? MAX_PARAMS : 8, 0);
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
emit_rest(ml_emit *e, ml_v f, int rows)
{
	ml_v rest = ml_alloca(e, LLVMArrayType2(e->i32, (uint64_t)rows), ML_TILE_ALIGN);
	ml_v a = LLVMGetParam(f, 0), lda = LLVMGetParam(f, 1), k = LLVMGetParam(f, 4);
	ml_v whole = LLVMBuildAnd(e->b, k, ml_i64(e, -ML_TILE_GROUP), "");
	ml_v bytes = ml_sub(e, k, whole), zero = ml_i64(e, 0);
	ml_v some = LLVMBuildICmp(e->b, LLVMIntNE, bytes, zero, "");
	ml_v end = LLVMBuildSelect(e->b, some, LLVMGetParam(f, 5), zero, "");
	ml_loop l = ml_loop_begin(e, zero, end, ml_i64(e, 1), NULL, 0, "rest");
	ml_v from = ml_gep(e, e->i8, a, ml_add(e, whole, ml_mul(e, lda, l.i)));

	ml_store(e, ml_tile_group(e, from, bytes), ml_gep(e, e->i32, rest, l.i), 4);
	ml_loop_end(e, &l, NULL);
	return rest;
}

static void
emit_tile(ml_emit *e, ml_v f, ml_v rest, ml_contract_form form, tile_kind kind, int rows,
	  int panels)
{
	ml_tile t = {
		.rows = rows,
		.panels = panels,
		.a = LLVMGetParam(f, 0),
		.lda = LLVMGetParam(f, 1),
		.b = LLVMGetParam(f, 2),
		.panel_stride = LLVMGetParam(f, 3),
		.k = LLVMGetParam(f, 4),
		.rest = rest,
		.rows_given = LLVMGetParam(f, 5),
		.panels_given = LLVMGetParam(f, 6),
		.acc = LLVMGetParam(f, 7),
	};

	if (form == ML_CONTRACT_F32) {
		ml_tile_f32(e, &t);
	} else if (kind == FOLD) {
		t.corrections = LLVMGetParam(f, 8);
		t.order = LLVMGetParam(f, 9);
		ml_tile_u8s8_fold(e, &t);
	} else if (kind == WIDE) {
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
	if (s->kind == WIDE)
		return panels == 1 ? s->rows : 0;
	if (panels <= s->panels)
		return s->rows;
	return panels <= s->many_panels ? s->few_rows : 0;
}

/* A jump to the tile of the wanted size. */
static void
emit_choice(ml_emit *e, ml_v f, ml_v rest, ml_contract_form form, const shape *s)
{
	LLVMBasicBlockRef none = LLVMAppendBasicBlockInContext(e->lc, f, "none");
	ml_v panels_given = s->kind == WIDE ? ml_i64(e, 1) : LLVMGetParam(f, 6);
	ml_v which = ml_mul(e, panels_given, ml_i64(e, s->rows));
	ml_v jump = LLVMBuildSwitch(e->b, ml_add(e, LLVMGetParam(f, 5), which), none,
				    (unsigned)(s->rows * s->panels));

	LLVMPositionBuilderAtEnd(e->b, none);
	LLVMBuildUnreachable(e->b);
	for (int panels = 1; most_rows(s, panels); panels++)
		for (int rows = 1; rows <= most_rows(s, panels); rows++) {
			LLVMBasicBlockRef block = LLVMAppendBasicBlockInContext(e->lc, f, "tile");
			LLVMAddCase(jump, ml_i64(e, panels * s->rows + rows), block);
			LLVMPositionBuilderAtEnd(e->b, block);
			emit_tile(e, f, rest, form, s->kind, rows, panels);
		}
}

void
ml_emit_contract_tiles(ml_emit *e, ml_contract_form form)
{
	shape s = choose_shape(e->target, form);
	LLVMTypeRef type;
	ml_v f = declare_tiles(e, form, &type), caller = e->fn;

	e->fn = f;
	LLVMPositionBuilderAtEnd(e->b, LLVMAppendBasicBlockInContext(e->lc, f, "entry"));
	ml_v rest = form == ML_CONTRACT_U8S8 ? emit_rest(e, f, s.rows) : NULL;
	if (s.kind == FOLD)
		emit_tile(e, f, rest, form, s.kind, 0, 0);
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
	LLVMTypeRef element = c->form == ML_CONTRACT_F32 ? e->f32 : e->i32;
	ml_v zero = ml_i64(e, 0), one = ml_i64(e, 1), lanes = ml_i64(e, ML_LANES);
	ml_loop r = ml_loop_begin(e, zero, rows, one, NULL, 0, "row");
	ml_loop p = ml_loop_begin(e, zero, panels, one, NULL, 0, "panel");
	ml_v slot = ml_mul(e, ml_add(e, ml_mul(e, r.i, panels), p.i), lanes);
	ml_v v = ml_load(e, ml_vec_type(element), ml_gep(e, element, acc, slot), 64);
	ml_v column = ml_mul(e, ml_add(e, panel, p.i), lanes);
	ml_v at = ml_add(e, row, r.i);
	int64_t n;

	if (ml_const_i64(c->columns, &n) && n % ML_LANES == 0) {
		c->store(c->user, e, at, column, NULL, v);
	} else {
		ml_v left = ml_sub(e, c->columns, column);
		ml_if full = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGE, left, lanes, ""));
		c->store(c->user, e, at, column, NULL, v);
		ml_if_else(e, &full);
		c->store(c->user, e, at, column, left, v);
		ml_if_end(e, &full);
	}
	ml_loop_end(e, &p, NULL);
	ml_loop_end(e, &r, NULL);
}

/* Distance of two panels in elements. */
static ml_v
panel_elements(ml_emit *e, const ml_contract *c)
{
	ml_v k = c->k;

	if (c->form == ML_CONTRACT_U8S8)
		k = LLVMBuildAnd(e->b, ml_add(e, k, ml_i64(e, 3)), ml_i64(e, -4), "");
	return ml_mul(e, k, ml_i64(e, ML_LANES));
}

/* What stays the same through the loops of one contraction. */
typedef struct frame {
	const ml_contract *c;
	ml_v tiles;
	LLVMTypeRef tiles_type;
	ml_v acc, stride; /* stride of panels in elements */
	ml_v group;       /* panels per tile */
	/* fold: of all panels; bytes of one panel's order */
	ml_v corrections, order, order_bytes;
} frame;

/* The table lies behind all panels. */
static void
find_table(ml_emit *e, frame *f)
{
	ml_v lanes = ml_i64(e, ML_LANES);
	ml_v count = ml_add(e, f->c->columns, ml_i64(e, ML_LANES - 1));

	count = LLVMBuildUDiv(e->b, count, lanes, "");
	f->corrections = ml_gep(e, e->i8, f->c->b, ml_mul(e, count, f->stride));
	f->order = ml_gep(e, e->i32, f->corrections, ml_mul(e, count, lanes));
	f->order_bytes = ml_order_bytes(e, f->c->k);
}

/* Rows row .. row + rows - 1 with panels from .. to - 1. */
static void
emit_row_block(ml_emit *e, const frame *f, ml_v row, ml_v rows, ml_v from, ml_v to)
{
	const ml_contract *c = f->c;
	LLVMTypeRef element = c->form == ML_CONTRACT_F32 ? e->f32 : e->i8;
	ml_loop g = ml_loop_begin(e, from, to, f->group, NULL, 0, "group");
	ml_v panels = ml_min_s(e, ml_sub(e, to, g.i), f->group);
	ml_v args[MAX_PARAMS] = {ml_gep(e, element, c->a, ml_mul(e, row, c->lda)),
				 c->lda,
				 ml_gep(e, element, c->b, ml_mul(e, g.i, f->stride)),
				 f->stride,
				 c->k,
				 rows,
				 panels,
				 f->acc};
	unsigned nargs = 8;

	if (f->order) {
		args[nargs++] =
			ml_gep(e, e->i32, f->corrections, ml_mul(e, g.i, ml_i64(e, ML_LANES)));
		args[nargs++] = ml_gep(e, e->i8, f->order, ml_mul(e, g.i, f->order_bytes));
	}
	LLVMBuildCall2(e->b, f->tiles_type, f->tiles, args, nargs, "");
	emit_stores(e, c, f->acc, row, rows, g.i, panels);
	ml_loop_end(e, &g, NULL);
}

/* As many panels as fill half the L2 cache, a multiple of the group. */
static ml_v
panels_in_cache(ml_emit *e, const frame *f)
{
	int64_t size = f->c->form == ML_CONTRACT_F32 ? 4 : 1;
	ml_v room = ml_i64(e, e->target->l2_bytes / 2 / size);
	ml_v bytes = ml_add(e, ml_mul(e, f->stride, f->group), ml_i64(e, 1)); /* never zero */
	ml_v groups = ml_add(e, LLVMBuildUDiv(e->b, room, bytes, ""), ml_i64(e, 1));

	return ml_mul(e, groups, f->group);
}

/* Panels that fit the L2 cache stay there while all rows pass over them, and rows of one tile stay
 * in L1 while these panels pass over them.  Rows are dealt out evenly, 10 as 5 + 5 and not as
 * 9 + 1: a tile of one row runs at a fraction of the speed. */
void
ml_emit_contract(ml_emit *e, const ml_contract *c)
{
	shape s = choose_shape(e->target, c->form);
	int many = s.few_rows * s.many_panels, most = s.rows * s.panels;
	ml_v m = ml_sub(e, c->row_end, c->row_begin);
	ml_v few = LLVMBuildICmp(e->b, LLVMIntSLE, m, ml_i64(e, s.few_rows), "");
	frame f = {.c = c, .stride = panel_elements(e, c)};

	f.tiles = declare_tiles(e, c->form, &f.tiles_type);
	if (s.kind == FOLD)
		find_table(e, &f);
	f.acc = ml_alloca(e,
			  LLVMArrayType2(e->i32, (uint64_t)(most > many ? most : many) * ML_LANES),
			  ML_TILE_ALIGN);
	f.group = LLVMBuildSelect(e->b, few, ml_i64(e, s.many_panels), ml_i64(e, s.panels), "");
	ml_v blocks =
		LLVMBuildSDiv(e->b, ml_add(e, m, ml_i64(e, s.rows - 1)), ml_i64(e, s.rows), "");
	ml_v chunk = panels_in_cache(e, &f);
	ml_loop p = ml_loop_begin(e, c->panel_begin, c->panel_end, chunk, NULL, 0, "chunk");
	ml_v end = ml_min_s(e, ml_add(e, p.i, chunk), c->panel_end);
	ml_v row = c->row_begin;
	ml_loop r = ml_loop_begin(e, ml_i64(e, 0), blocks, ml_i64(e, 1), &row, 1, "block");
	row = r.carry[0];
	ml_v left = ml_sub(e, c->row_end, row), blocks_left = ml_sub(e, blocks, r.i);
	ml_v rows = LLVMBuildUDiv(e->b, ml_sub(e, ml_add(e, left, blocks_left), ml_i64(e, 1)),
				  blocks_left, "");
	emit_row_block(e, &f, row, rows, p.i, end);
	ml_v next = ml_add(e, row, rows);
	ml_loop_end(e, &r, &next);
	ml_loop_end(e, &p, NULL);
}
