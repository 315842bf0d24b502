/* dots.c -- contraction kernels: tiles of rows and panels, the left operand in place or packed
 * row by row, the epilogue on 16 columns at a time. */
#include "dots.h"
#include "family.h"

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

/* Tiles are numbered (batch, panel block, row block): a thread's neighbours share panels. */
static void
emit_tile(ml_dots_emit *w, ml_v tile)
{
	ml_expr *x = w->x;
	ml_emit *e = x->e;
	ml_v rows = ml_i64(e, w->d.row_block), number = tile;
	ml_v row_block = ml_dots_remainder(e, &number, ml_expr_dim(x, w->d.row_blocks));
	ml_v panel_block = ml_dots_remainder(e, &number, ml_expr_dim(x, w->d.panel_blocks));
	ml_contract c = {.store = ml_dots_store, .user = w};

	ml_dots_begin(w, &c, number);
	c.row_begin = ml_mul(e, row_block, rows);
	c.row_end = ml_min_s(e, ml_add(e, c.row_begin, rows), ml_expr_dim(x, w->d.m));
	if (w->d.leaf) {
		c.panel_begin = ml_mul(e, panel_block, ml_i64(e, ML_PANEL_BLOCK));
		ml_v end = ml_add(e, c.panel_begin, ml_i64(e, ML_PANEL_BLOCK));
		c.panel_end = ml_min_s(e, end, c.panel_end);
	}
	ml_dots_place_lhs(w, &c);
	w->column = ml_expr_lanes(x, ml_i64(e, 0), w->d.n);
	ml_emit_contract(e, &c);
	ml_expr_no_lanes(x);
}

ml_status
ml_contract_emit(ml_emit *e, ml_kernel *k, const char *name)
{
	ml_expr x;
	ml_dots_emit w = {.x = &x};

	ML_STEP(ml_dots_plan(k, ml_dots_find(k), 0, &w.d));
	ml_expr_open(&x, e, k, name);
	ml_loop l =
		ml_loop_begin(e, ml_expr_begin(&x), ml_expr_end(&x), ml_i64(e, 1), NULL, 0, "tile");
	int mark = ml_expr_mark(&x);
	emit_tile(&w, l.i);
	ml_expr_release(&x, mark);
	ml_loop_end(e, &l, NULL);
	return ml_expr_close(&x);
}
