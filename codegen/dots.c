/* dots.c -- contraction kernels: tiles of rows and panels, the left operand in place or packed
 * row by row, the epilogue on 16 columns at a time. */
#include "dots.h"
#include "family.h"

typedef struct dots_emit {
	ml_expr x;
	ml_dots d;
	const ml_sym *batch, *row;
	ml_dim column;  /* 16 * block + lane */
	ml_v first_row; /* what the contraction calls row 0 */
} dots_emit;

static ml_dim
less_one(ml_dims *dims, ml_dim d)
{
	return ml_dim_sub(dims, d, ml_dim_int(dims, 1));
}

/* ---- epilogue ---- */

static void
store_columns(void *user, ml_emit *e, ml_v row, ml_v column, ml_v count, ml_v acc)
{
	dots_emit *w = user;
	ml_expr *x = &w->x;
	ml_dims *dims = x->kernel->m->dims;
	const ml_node *yield = x->kernel->m->main->last;
	ml_dim index[ML_MAX_RANK];
	ml_v *v = ML_NEW_ARRAY(x->arena, ml_v, yield->nin);
	int mark = ml_expr_mark(x);

	ml_expr_set_symbol(x, w->row, ml_add(e, row, w->first_row));
	ml_expr_set_block(x, LLVMBuildLShr(e->b, column, ml_i64(e, 4), ""), count);
	ml_expr_bind(x, &w->d.dot->out[0], acc);
	ml_dots_out_index(x, &w->d, ml_dim_sym(dims, w->batch), ml_dim_sym(dims, w->row), w->column,
			  index);
	for (int i = 0; i < yield->nin; i++)
		v[i] = ml_expr_at(x, ml_expr_computed(ml_in(yield, i)), index);
	for (int i = 0; i < yield->nin; i++)
		ml_expr_store(x, i, index, v[i]);
	x->count = NULL;
	ml_expr_release(x, mark);
}

/* ---- rows into scratch ---- */

static void
pack_block(dots_emit *w, ml_dim position, ml_dim at, ml_v block, ml_v count)
{
	ml_expr *x = &w->x;
	ml_dims *dims = x->kernel->m->dims;
	const ml_value *a = ml_in(w->d.dot, 0);
	ml_dim index[ML_MAX_RANK];
	int mark = ml_expr_mark(x);

	ml_expr_set_block(x, block, count);
	ml_dots_lhs_index(x, &w->d, ml_dim_sym(dims, w->batch), ml_dim_sym(dims, w->row), position,
			  index);
	ml_expr_store_at(x, a->type.dtype, x->scratch, at, ml_expr_at(x, a, index));
	x->count = NULL;
	ml_expr_release(x, mark);
}

static void
pack_rows(dots_emit *w, ml_v begin, ml_v rows)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	ml_v one = ml_i64(e, 1), zero = ml_i64(e, 0);
	ml_dim lanes = ml_dim_int(dims, ML_LANES);
	ml_v blocks = ml_expr_dim(x, ml_dim_floordiv(dims, w->d.k, lanes));
	ml_v tail = ml_sub(e, ml_expr_dim(x, w->d.k), ml_mul(e, blocks, ml_i64(e, ML_LANES)));
	ml_loop r = ml_loop_begin(e, zero, rows, one, NULL, 0, "row");
	int mark = ml_expr_mark(x);

	const ml_sym *local = ml_expr_loop_var(x, r.i, ml_dim_int(dims, w->d.row_block - 1));
	ml_expr_set_symbol(x, w->row, ml_add(e, begin, r.i));
	ml_dim position = ml_expr_lanes(x, zero, w->d.k);
	ml_dim at = ml_dim_add(dims, ml_dim_mul(dims, ml_dim_sym(dims, local), w->d.k), position);
	ml_loop l = ml_loop_begin(e, zero, blocks, one, NULL, 0, "k");
	pack_block(w, position, at, l.i, NULL);
	ml_loop_end(e, &l, NULL);
	ml_if partial = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGT, tail, zero, ""));
	pack_block(w, position, at, blocks, tail);
	ml_if_end(e, &partial);
	ml_expr_no_lanes(x);
	ml_expr_release(x, mark);
	ml_loop_end(e, &r, NULL);
}

/* ---- tiles ---- */

/* Bytes of one batch's panels. */
ml_v
ml_dots_panel_bytes(ml_expr *x, ml_contract_form form, ml_dim k, ml_dim n)
{
	ml_dims *dims = x->kernel->m->dims;
	ml_dim panel = ml_dim_int(dims, ML_PANEL), four = ml_dim_int(dims, 4);
	ml_dim columns = ml_dim_mul(dims, ml_dim_ceildiv(dims, n, panel), panel);
	ml_dim bytes = form == ML_CONTRACT_F32
			       ? ml_dim_mul(dims, k, four)
			       : ml_dim_mul(dims, ml_dim_ceildiv(dims, k, four), four);

	return ml_expr_dim(x, ml_dim_mul(dims, columns, bytes));
}

static void
place_lhs(dots_emit *w, ml_contract *c)
{
	ml_expr *x = &w->x;
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
	pack_rows(w, c->row_begin, rows);
	c->a = x->scratch;
	c->lda = ml_expr_dim(x, w->d.k);
	c->row_begin = ml_i64(e, 0);
	c->row_end = rows;
}

static ml_v
remainder_of(ml_emit *e, ml_v *number, ml_v by)
{
	ml_v safe = ml_scalar_op(e, ML_OP_max, ML_s64, (ml_v[]){by, ml_i64(e, 1)});
	ml_v r = LLVMBuildURem(e->b, *number, safe, "");

	*number = LLVMBuildUDiv(e->b, *number, safe, "");
	return r;
}

/* Tiles are numbered (batch, panel block, row block): a thread's neighbours share panels. */
static void
emit_tile(dots_emit *w, ml_v tile)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	ml_v rows = ml_i64(e, w->d.row_block), number = tile;
	ml_v row_block = remainder_of(e, &number, ml_expr_dim(x, w->d.row_blocks));
	ml_v panel_block = remainder_of(e, &number, ml_expr_dim(x, w->d.panel_blocks));
	ml_dim panels = ml_dim_ceildiv(dims, w->d.n, ml_dim_int(dims, ML_PANEL));
	ml_contract c = {.form = w->d.form, .store = store_columns, .user = w};

	w->batch = ml_expr_loop_var(x, number, less_one(dims, w->d.batches));
	w->row = ml_expr_loop_var(x, number, less_one(dims, w->d.m));
	c.k = ml_expr_dim(x, w->d.k);
	c.columns = ml_expr_dim(x, w->d.n);
	c.row_begin = ml_mul(e, row_block, rows);
	c.row_end = ml_min_s(e, ml_add(e, c.row_begin, rows), ml_expr_dim(x, w->d.m));
	c.panel_begin = ml_i64(e, 0);
	c.panel_end = ml_expr_dim(x, panels);
	if (w->d.leaf) {
		c.panel_begin = ml_mul(e, panel_block, ml_i64(e, ML_PANEL_BLOCK));
		ml_v end = ml_add(e, c.panel_begin, ml_i64(e, ML_PANEL_BLOCK));
		c.panel_end = ml_min_s(e, end, c.panel_end);
	}
	c.b = ml_gep(e, e->i8, x->buffer[ml_in(w->d.dot, 1)->index],
		     ml_mul(e, number, ml_dots_panel_bytes(x, w->d.form, w->d.k, w->d.n)));
	place_lhs(w, &c);
	w->column = ml_expr_lanes(x, ml_i64(e, 0), w->d.n);
	ml_emit_contract(e, &c);
	ml_expr_no_lanes(x);
}

ml_status
ml_contract_emit(ml_emit *e, ml_kernel *k, const char *name)
{
	dots_emit w = {0};

	ML_STEP(ml_dots_plan(k, &w.d));
	ml_expr_open(&w.x, e, k, name);
	ml_loop l = ml_loop_begin(e, ml_expr_begin(&w.x), ml_expr_end(&w.x), ml_i64(e, 1), NULL, 0,
				  "tile");
	int mark = ml_expr_mark(&w.x);
	emit_tile(&w, l.i);
	ml_expr_release(&w.x, mark);
	ml_loop_end(e, &l, NULL);
	return ml_expr_close(&w.x);
}
