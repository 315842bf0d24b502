/* dots.c -- contraction kernels: tiles of rows and panels, the left operand in place or packed
 * row by row, the epilogue on 16 columns at a time. */
#include "dots.h"
#include "family.h"
#include "tile.h"

enum { MOST_PANELS = 12 }; /* of a pass; what registers hold side by side divides it */

static ml_dim
less_one(ml_dims *dims, ml_dim d)
{
	return ml_dim_sub(dims, d, ml_dim_int(dims, 1));
}

/* ---- epilogue ---- */

void
ml_dots_bind(ml_dots_emit *w, ml_v row, ml_v column, ml_v count, ml_v acc, ml_dim *index)
{
	ml_expr *x = w->x;
	ml_dims *dims = x->kernel->m->dims;

	ml_expr_set_symbol(x, w->row, ml_add(x->e, row, w->first_row));
	ml_expr_set_block(x, LLVMBuildLShr(x->e->b, column, ml_i64(x->e, 4), ""), count);
	ml_expr_bind(x, &w->d.dot->out[0], acc);
	ml_dots_out_index(x, &w->d, ml_dim_sym(dims, w->batch), ml_dim_sym(dims, w->row), w->column,
			  index);
}

void
ml_dots_store(void *user, ml_emit *e, ml_v row, ml_v column, ml_v count, ml_v acc)
{
	ml_dots_emit *w = user;
	ml_expr *x = w->x;
	const ml_node *yield = x->kernel->m->main->last;
	ml_dim index[ML_MAX_RANK];
	ml_v *v = ML_NEW_ARRAY(x->arena, ml_v, yield->nin);
	int mark = ml_expr_mark(x);

	(void)e;
	ml_dots_bind(w, row, column, count, acc, index);
	for (int i = 0; i < yield->nin; i++)
		v[i] = ml_expr_at(x, ml_expr_computed(x->kernel, ml_in(yield, i)), index);
	for (int i = 0; i < yield->nin; i++)
		ml_expr_store(x, i, ml_expr_computed(x->kernel, ml_in(yield, i)), index, v[i]);
	x->count = NULL;
	ml_expr_release(x, mark);
}

/* ---- what the epilogue reads beside ---- */

/* A tensor that is added to the products or the like, in whole lines. */
static bool
is_beside(const ml_dots *d, const ml_value *v)
{
	bool factor = v == d->leaf || v == d->image.image || v == ml_in(d->dot, 1);

	return !factor && v->type.dtype == ML_f32 &&
	       ml_type_same_shape(&v->type, &d->dot->out[0].type);
}

static bool
reads_beside(const ml_dots *d)
{
	const ml_block *main = d->kernel->m->main;

	for (int i = 0; i < main->nargs; i++)
		if (is_beside(d, main->arg[i]))
			return true;
	return false;
}

static void
fetch_beside(void *user, ml_emit *e, ml_v row, ml_v column)
{
	ml_dots_emit *w = user;
	ml_expr *x = w->x;
	ml_dims *dims = x->kernel->m->dims;
	const ml_block *main = x->kernel->m->main;
	ml_dim index[ML_MAX_RANK];
	int mark = ml_expr_mark(x);
	const ml_sym *at = ml_expr_loop_var(x, column, less_one(dims, w->d.n));

	ml_expr_set_symbol(x, w->row, ml_add(e, row, w->first_row));
	ml_dots_out_index(x, &w->d, ml_dim_sym(dims, w->batch), ml_dim_sym(dims, w->row),
			  ml_dim_sym(dims, at), index);
	for (int i = 0; i < main->nargs; i++) {
		const ml_value *v = main->arg[i];
		if (!is_beside(&w->d, v))
			continue;
		ml_v element = ml_expr_dim(x, ml_expr_linear(x, v->type.rank, v->type.dim, index));
		ml_tile_fetch(e, ml_gep(e, e->f32, x->buffer[v->index], element), 1);
	}
	ml_expr_release(x, mark);
}

/* ---- tiles ---- */

/* Bytes of one batch's panels. */
ml_v
ml_dots_panel_bytes(ml_expr *x, ml_contract_form form, ml_dim k, ml_dim n)
{
	ml_dims *dims = x->kernel->m->dims;

	return ml_expr_dim(x, ml_pack_dim(dims, form, k, n));
}

void
ml_dots_place_lhs(ml_dots_emit *w, ml_contract *c)
{
	ml_expr *x = w->x;
	ml_emit *e = x->e;

	w->first_row = ml_i64(e, 0);
	if (w->d.leaf) {
		LLVMTypeRef element = ml_memory_type(e, w->d.leaf->type.dtype);
		ml_dim index[ML_MAX_RANK], base, zero = ml_dim_int(x->kernel->m->dims, 0);
		ml_dim batch = ml_dim_sym(x->kernel->m->dims, w->batch);
		ml_dots_lhs_index(x, &w->d, batch, zero, zero, index);
		ml_expr_leaf(x, ml_in(w->d.dot, 0), index, &base);
		c->lda = ml_expr_dim(x, w->d.lda);
		c->a = ml_gep(e, element, x->buffer[w->d.leaf->index], ml_expr_dim(x, base));
		return;
	}
	w->first_row = c->row_begin;
	ml_v rows = ml_sub(e, c->row_end, c->row_begin);
	ml_dots_pack_rows(w, c->row_begin, rows, &c->a, &c->lda);
	c->row_begin = ml_i64(e, 0);
	c->row_end = rows;
}

ml_v
ml_dots_remainder(ml_emit *e, ml_v *number, ml_v by)
{
	ml_v safe = ml_scalar_op(e, ML_OP_max, ML_s64, (ml_v[]){by, ml_i64(e, 1)});
	ml_v r = LLVMBuildURem(e->b, *number, safe, "");

	*number = LLVMBuildUDiv(e->b, *number, safe, "");
	return r;
}

void
ml_dots_begin(ml_dots_emit *w, ml_contract *c, ml_v batch)
{
	ml_expr *x = w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	ml_dim panels = ml_dim_ceildiv(dims, w->d.n, ml_dim_int(dims, ML_PANEL));

	w->batch = ml_expr_loop_var(x, batch, less_one(dims, w->d.batches));
	w->row = ml_expr_loop_var(x, batch, less_one(dims, w->d.m));
	c->form = w->d.form;
	c->k = ml_expr_dim(x, w->d.k);
	c->columns = ml_expr_dim(x, w->d.n);
	c->panel_begin = ml_i64(e, 0);
	c->panel_end = ml_expr_dim(x, panels);
	c->b = ml_gep(e, e->i8, x->buffer[ml_in(w->d.dot, 1)->index],
		      ml_mul(e, batch, ml_dots_panel_bytes(x, w->d.form, w->d.k, w->d.n)));
	w->first_row = ml_i64(e, 0);
}

/* Tiles are numbered by blocks of rows, within these by panels.  Where all rows are one block, a
 * thread's share is columns: it reads a part of the weights, but all rows, most of which others
 * have written.  Where that would be more than all weights there are blocks: a thread then finds in
 * its cache what it wrote.  Rows that must be packed are so once for all panels. */
static ml_v
block_rows(const ml_dots *d, ml_expr *x)
{
	enum { UNIT = 2, LEAST = 8 }; /* of tiles: what kernels do at once, and do well */
	ml_emit *e = x->e;
	ml_v all = ml_expr_dim(x, d->row_tiles), one = ml_i64(e, 1), unit = ml_i64(e, UNIT);

	if (!d->leaf)
		return one;
	ml_v blocks = LLVMBuildUDiv(e->b, all, ml_i64(e, LEAST), "");
	blocks = ml_scalar_op(e, ML_OP_max, ML_s64, (ml_v[]){blocks, one});
	ml_v up = ml_sub(e, ml_mul(e, blocks, unit), one);
	ml_v units = LLVMBuildUDiv(e->b, ml_add(e, all, up), ml_mul(e, blocks, unit), "");
	ml_v rows = ml_expr_dim(x, d->row_bytes), weights = ml_expr_dim(x, d->weight_bytes);
	ml_v few = LLVMBuildICmp(e->b, LLVMIntSLT, rows, weights, "");
	return LLVMBuildSelect(e->b, few, all, ml_min_s(e, ml_mul(e, units, unit), all), "");
}

/* Where a tile lies: its batch, the first row of its block and the block's rows, its panel, and how
 * many tiles are before it in the block, and in its panel there. */
typedef struct place {
	ml_v batch, row, rows, panel, before, down;
} place;

/* A batch in tiles: its rows and panels, a block's rows, and all that a block has. */
typedef struct tiling {
	ml_v rows, panels, block_rows, block_tiles;
	ml_v one_block; /* whether that is all, to be gone through by columns */
} tiling;

/* Tiles that are done together. */
typedef struct pass {
	ml_v batch, row, rows, panel, panels;
} pass;

static tiling
find_tiling(const ml_dots *d, ml_expr *x)
{
	ml_emit *e = x->e;
	tiling t = {.rows = ml_expr_dim(x, d->row_tiles),
		    .panels = ml_expr_dim(x, d->panel_tiles),
		    .block_rows = block_rows(d, x)};

	t.block_tiles = ml_mul(e, t.block_rows, t.panels);
	t.one_block = d->leaf ? LLVMBuildICmp(e->b, LLVMIntEQ, t.block_rows, t.rows, "")
			      : LLVMConstNull(e->i1);
	return t;
}

static place
find_place(ml_emit *e, const tiling *t, ml_v tile)
{
	place at = {.batch = tile};
	ml_v block = ml_dots_remainder(e, &at.batch, ml_mul(e, t->rows, t->panels));

	at.before = ml_dots_remainder(e, &block, t->block_tiles);
	at.row = ml_mul(e, block, t->block_rows);
	at.rows = ml_min_s(e, t->block_rows, ml_sub(e, t->rows, at.row));
	at.panel = at.before;
	at.down = ml_dots_remainder(e, &at.panel, at.rows);
	return at;
}

/* How many of `left` rows or panels the next pass does, so that all passes have as many: what the
 * last one reads weights for is as much as what the others do. */
static ml_v
share_evenly(ml_emit *e, ml_v left, ml_v most)
{
	ml_v one = ml_i64(e, 1), up = ml_sub(e, most, one);
	ml_v passes = LLVMBuildSDiv(e->b, ml_add(e, left, up), most, "");

	passes = ml_scalar_op(e, ML_OP_max, ML_s64, (ml_v[]){passes, one});
	return LLVMBuildSDiv(e->b, ml_sub(e, ml_add(e, left, passes), one), passes, "");
}

/* Panels that are done at once with all rows stay in cache; a row alone takes more of them. */
static ml_v
most_panels(const ml_dots *d, ml_expr *x)
{
	ml_emit *e = x->e;
	ml_v alone = LLVMBuildICmp(e->b, LLVMIntEQ, ml_expr_dim(x, d->m), ml_i64(e, 1), "");

	return LLVMBuildSelect(e->b, alone, ml_i64(e, ML_ALONE_PANELS / ML_GRID_PANELS),
			       ml_i64(e, MOST_PANELS / ML_GRID_PANELS), "");
}

/* So many whole blocks from the beginning of one on, or none. */
static pass
whole_blocks(const ml_dots *d, ml_emit *e, const tiling *t, const place *at, ml_v left)
{
	ml_v rows_left = ml_sub(e, t->rows, at->row), none = ml_i64(e, 0), blocks = left;

	ml_dots_remainder(e, &blocks, t->block_tiles);
	ml_v to_end = LLVMBuildICmp(e->b, LLVMIntSGE, left, ml_mul(e, rows_left, t->panels), "");
	ml_v rows = LLVMBuildSelect(e->b, to_end, rows_left, ml_mul(e, blocks, t->block_rows), "");
	if (!d->leaf)
		rows = share_evenly(e, rows, ml_i64(e, d->row_block / ML_GRID_ROWS));
	ml_v begins = LLVMBuildICmp(e->b, LLVMIntEQ, at->before, none, "");
	ml_v apart = LLVMBuildAnd(e->b, begins, LLVMBuildNot(e->b, t->one_block, ""), "");
	rows = LLVMBuildSelect(e->b, apart, rows, none, "");
	return (pass){at->batch, at->row, rows, none, t->panels};
}

/* So many columns of a block from the top of one on, or none. */
static pass
whole_columns(const ml_dots *d, ml_expr *x, const tiling *t, const place *at, ml_v left)
{
	ml_emit *e = x->e;
	ml_v none = ml_i64(e, 0), columns = left;

	ml_dots_remainder(e, &columns, at->rows);
	columns = ml_min_s(e, columns, ml_sub(e, t->panels, at->panel));
	columns = LLVMBuildSelect(e->b, t->one_block, share_evenly(e, columns, most_panels(d, x)),
				  columns, "");
	ml_v top = LLVMBuildICmp(e->b, LLVMIntEQ, at->down, none, "");
	columns = LLVMBuildSelect(e->b, top, columns, none, "");
	return (pass){at->batch, at->row, at->rows, at->panel, columns};
}

static pass
part_of_column(ml_emit *e, const place *at, ml_v left)
{
	ml_v rows = ml_min_s(e, left, ml_sub(e, at->rows, at->down));

	return (pass){at->batch, ml_add(e, at->row, at->down), rows, at->panel, ml_i64(e, 1)};
}

/* `a` where it does so many of something at all, else `b`; both are of one batch. */
static pass
prefer(ml_emit *e, ml_v count, const pass *a, const pass *b)
{
	ml_v some = LLVMBuildICmp(e->b, LLVMIntSGT, count, ml_i64(e, 0), "");

	return (pass){a->batch, LLVMBuildSelect(e->b, some, a->row, b->row, ""),
		      LLVMBuildSelect(e->b, some, a->rows, b->rows, ""),
		      LLVMBuildSelect(e->b, some, a->panel, b->panel, ""),
		      LLVMBuildSelect(e->b, some, a->panels, b->panels, "")};
}

/* The pass that begins with tile `first`, of as many as `left`. */
static pass
find_pass(const ml_dots *d, ml_expr *x, ml_v first, ml_v left)
{
	ml_emit *e = x->e;
	tiling t = find_tiling(d, x);
	place at = find_place(e, &t, first);
	pass blocks = whole_blocks(d, e, &t, &at, left);
	pass columns = whole_columns(d, x, &t, &at, left), part = part_of_column(e, &at, left);
	pass within = prefer(e, columns.panels, &columns, &part);

	return prefer(e, blocks.rows, &blocks, &within);
}

/* Tile `at` .. `at + count - 1` of one dim, as rows or panels of which there are `all`. */
static void
to_range(ml_emit *e, int64_t size, ml_v at, ml_v count, ml_v all, ml_v *begin, ml_v *end)
{
	*begin = ml_mul(e, at, ml_i64(e, size));
	*end = ml_min_s(e, ml_mul(e, ml_add(e, at, count), ml_i64(e, size)), all);
}

/* The first tiles of the range; returns how many. */
static ml_v
emit_pass(ml_dots_emit *w, ml_v first, ml_v end)
{
	ml_expr *x = w->x;
	ml_emit *e = x->e;
	pass p = find_pass(&w->d, x, first, ml_sub(e, end, first));
	ml_contract c = {.store = ml_dots_store,
			 .ahead = reads_beside(&w->d) ? fetch_beside : NULL,
			 .user = w};

	ml_dots_begin(w, &c, p.batch);
	to_range(e, ML_GRID_ROWS, p.row, p.rows, ml_expr_dim(x, w->d.m), &c.row_begin, &c.row_end);
	to_range(e, ML_GRID_PANELS, p.panel, p.panels, c.panel_end, &c.panel_begin, &c.panel_end);
	ml_dots_place_lhs(w, &c);
	w->column = ml_expr_lanes(x, ml_i64(e, 0), w->d.n);
	ml_emit_contract(e, &c);
	ml_expr_no_lanes(x);
	return ml_mul(e, p.rows, p.panels);
}

ml_status
ml_contract_emit(ml_emit *e, ml_kernel *k, const char *name)
{
	ml_expr x;
	ml_dots_emit w = {.x = &x};
	ml_pool pool;

	if (ml_pool_of(k, &pool, &w.d))
		return ml_pool_emit(&pool, &w.d, e, name);
	ML_STEP(ml_dots_plan(k, ml_dots_find(k), 0, &w.d));
	ml_expr_open(&x, e, k, name);
	ml_loop l = ml_loop_begin(e, ml_expr_begin(&x), ml_expr_end(&x), NULL, NULL, 0, "tiles");
	int mark = ml_expr_mark(&x);
	l.step = emit_pass(&w, l.i, l.to);
	ml_expr_release(&x, mark);
	ml_loop_end(e, &l, NULL);
	return ml_expr_close(&x);
}
