/* dots_rows.c -- a left operand that does not lie in rows of k is packed into scratch, row by row.
 *
 * Lanes run along k, or, where that would gather lane by lane (windows of images, transposed
 * matrices), along the last dim of the rows: then 16 rows by 16 k are turned in registers.
 * Scratch has 16 rows in front and behind for lanes outside of the tile. */
#include "dots.h"

enum { MARGIN = ML_LANES, FEW_ROWS = 4 };

typedef struct row_pack {
	ml_dots_emit *w;
	ml_dim stride; /* of a row, elements: k rounded up to lanes */
	ml_v first;    /* row 0 of the tile */
	LLVMTypeRef element;
	ml_dtype dtype;
	ml_dim last;            /* size of the rows' last dim, 1 without any */
	ml_dim at[ML_MAX_RANK]; /* indices of batch and row dims */
} row_pack;

static ml_dim
stride_of(const ml_dots *d)
{
	ml_dims *dims = d->kernel->m->dims;
	ml_dim lanes = ml_dim_int(dims, ML_LANES);

	return ml_dim_mul(dims, ml_dim_ceildiv(dims, d->k, lanes), lanes);
}

ml_dim
ml_dots_scratch_bytes(const ml_dots *d)
{
	ml_dims *dims = d->kernel->m->dims;
	int64_t rows = d->row_block + 2 * MARGIN;
	int64_t bytes = rows * ml_dtype_bytes(ml_in(d->dot, 0)->type.dtype);

	return d->leaf ? ml_dim_int(dims, 0)
		       : ml_dim_mul(dims, stride_of(d), ml_dim_int(dims, bytes));
}

static ml_dim
last_of(const ml_dots *d)
{
	return d->nrows ? d->dot->out[0].type.dim[d->nbatch + d->nrows - 1]
			: ml_dim_int(d->kernel->m->dims, 1);
}

/* ---- lanes along k ---- */

static void
pack_along_k(row_pack *p, ml_v begin, ml_v row, ml_dim position, ml_v block, ml_v count)
{
	ml_expr *x = p->w->x;
	ml_dims *dims = x->kernel->m->dims;
	const ml_value *a = ml_in(p->w->d.dot, 0);
	ml_dim index[ML_MAX_RANK];
	int mark = ml_expr_mark(x);

	ml_expr_set_symbol(x, p->w->row, ml_add(x->e, begin, row));
	ml_expr_set_block(x, block, count);
	ml_dots_lhs_index(x, &p->w->d, ml_dim_sym(dims, p->w->batch), ml_dim_sym(dims, p->w->row),
			  position, index);
	ml_v v = ml_expr_at(x, a, index);
	ml_v to = ml_gep(x->e, p->element, p->first, ml_mul(x->e, row, ml_expr_dim(x, p->stride)));
	ml_expr_store_at(x, p->dtype, to, position, v);
	x->count = NULL;
	ml_expr_release(x, mark);
}

static void
emit_along_k(row_pack *p, ml_v begin, ml_v rows)
{
	ml_expr *x = p->w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	ml_dim k = p->w->d.k, lanes = ml_dim_int(dims, ML_LANES);
	ml_v one = ml_i64(e, 1), zero = ml_i64(e, 0);
	ml_v blocks = ml_expr_dim(x, ml_dim_floordiv(dims, k, lanes));
	ml_v tail = ml_sub(e, ml_expr_dim(x, k), ml_mul(e, blocks, ml_i64(e, ML_LANES)));
	ml_dim position = ml_expr_lanes(x, zero, k);
	ml_loop r = ml_loop_begin(e, zero, rows, one, NULL, 0, "row");
	ml_loop l = ml_loop_begin(e, zero, blocks, one, NULL, 0, "k");

	pack_along_k(p, begin, r.i, position, l.i, NULL);
	ml_loop_end(e, &l, NULL);
	ml_if partial = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGT, tail, zero, ""));
	pack_along_k(p, begin, r.i, position, blocks, tail);
	ml_if_end(e, &partial);
	ml_loop_end(e, &r, NULL);
	ml_expr_no_lanes(x);
}

/* Whether lanes along k find their elements one by one; tried in a function that is deleted. */
static bool
is_scattered(ml_dots_emit *w)
{
	ml_emit *e = w->x->e;
	ml_v fn = e->fn;
	LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
	ml_dims *dims = w->d.kernel->m->dims;
	ml_dim index[ML_MAX_RANK], one = ml_dim_int(dims, 1);
	ml_trace trace = {0};
	ml_expr x;

	ml_expr_open(&x, e, w->d.kernel, "tried");
	x.trace = &trace;
	ml_v any = ml_expr_begin(&x);
	ml_dim batch =
		ml_dim_sym(dims, ml_expr_loop_var(&x, any, ml_dim_sub(dims, w->d.batches, one)));
	ml_dim row = ml_dim_sym(dims, ml_expr_loop_var(&x, any, ml_dim_sub(dims, w->d.m, one)));
	ml_dots_lhs_index(&x, &w->d, batch, row, ml_expr_lanes(&x, any, w->d.k), index);
	ml_expr_at(&x, ml_in(w->d.dot, 0), index);
	ml_expr_close(&x);
	LLVMDeleteFunction(e->fn);
	e->fn = fn;
	LLVMPositionBuilderAtEnd(e->b, here);
	return trace.scattered > 0;
}

/* ---- lanes along the last dim of the rows ---- */

/* 16 rows at one k. */
static ml_v
load_rows(row_pack *p, ml_v k)
{
	ml_expr *x = p->w->x;
	ml_dims *dims = x->kernel->m->dims;
	const ml_dots *d = &p->w->d;
	const ml_value *a = ml_in(d->dot, 0);
	const ml_attr *contract = &ML_A(d->dot, dot, lhs_contract);
	ml_dim index[ML_MAX_RANK], shape[ML_MAX_RANK], ks[ML_MAX_RANK];
	ml_dim last = ml_dim_sub(dims, d->k, ml_dim_int(dims, 1));
	ml_dim at = ml_dim_sym(dims, ml_expr_loop_var(x, k, last));

	for (int i = 0; i < d->nk; i++)
		shape[i] = a->type.dim[contract->ints[i]];
	ml_expr_delinear(x, d->nk, shape, at, ks);
	ml_expr_operand_index(a, &ML_A(d->dot, dot, lhs_batch), contract, p->at, ks,
			      p->at + d->nbatch, index);
	ml_v v = ml_to_memory(x->e, p->dtype, ml_expr_at(x, a, index));
	return ml_is_vector(v) ? v : ml_splat(x->e, v);
}

/* All k of 16 rows, the first of them at `to`. */
static void
pack_lanes(row_pack *p, ml_v to)
{
	ml_expr *x = p->w->x;
	ml_emit *e = x->e;
	LLVMTypeRef type = ml_vec_type(p->element);
	ml_v zero = ml_i64(e, 0), one = ml_i64(e, 1), lanes = ml_i64(e, ML_LANES);
	ml_v k = ml_expr_dim(x, p->w->d.k), stride = ml_expr_dim(x, p->stride);
	ml_v slot = ml_alloca(e, LLVMArrayType2(type, ML_LANES), 64), v[ML_LANES];

	ml_loop outer = ml_loop_begin(e, zero, k, lanes, NULL, 0, "k");
	ml_loop inner = ml_loop_begin(e, zero, lanes, one, NULL, 0, "k");
	int mark = ml_expr_mark(x);
	ml_v at = ml_min_s(e, ml_add(e, outer.i, inner.i), ml_sub(e, k, one));
	ml_store(e, load_rows(p, at), ml_gep(e, type, slot, inner.i), 64);
	ml_expr_release(x, mark);
	ml_loop_end(e, &inner, NULL);
	for (int i = 0; i < ML_LANES; i++)
		v[i] = ml_load(e, type, ml_gep(e, type, slot, ml_i64(e, i)), 64);
	ml_transpose_lanes(e, v);
	for (int i = 0; i < ML_LANES; i++) {
		ml_v offset = ml_add(e, ml_mul(e, ml_i64(e, i), stride), outer.i);
		ml_store(e, v[i], ml_gep(e, p->element, to, offset), 1);
	}
	ml_loop_end(e, &outer, NULL);
}

/* Lanes of one run of rows: full blocks, and the partial one at its end.  Rows' indices are
 * computed here, outside of the loops over k. */
static void
pack_run(row_pack *p, ml_v run, ml_v begin, ml_v from, ml_v to)
{
	ml_expr *x = p->w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	int last_row = p->w->d.nbatch + p->w->d.nrows - 1;
	ml_dim position = ml_expr_lanes(x, from, p->last), lanes = ml_dim_int(dims, ML_LANES);
	ml_v full = ml_expr_dim(x, ml_dim_floordiv(dims, p->last, lanes));
	ml_v size = ml_expr_dim(x, p->last), stride = ml_expr_dim(x, p->stride);
	ml_v tail = ml_sub(e, size, ml_mul(e, full, ml_i64(e, ML_LANES)));

	p->at[last_row] = position;
	for (int partial = 0; partial < 2; partial++) {
		ml_loop l = ml_loop_begin(e, partial ? full : from,
					  partial ? to : ml_min_s(e, to, full), ml_i64(e, 1), NULL,
					  0, "rows");
		int mark = ml_expr_mark(x);
		ml_expr_set_block(x, l.i, partial ? tail : NULL);
		for (int i = p->w->d.nbatch; i <= last_row; i++)
			ml_expr_dim(x, p->at[i]);
		ml_v row = ml_add(e, ml_mul(e, run, size), ml_mul(e, l.i, ml_i64(e, ML_LANES)));
		row = ml_sub(e, row, begin);
		pack_lanes(p, ml_gep(e, p->element, p->first, ml_mul(e, row, stride)));
		x->count = NULL;
		ml_expr_release(x, mark);
		ml_loop_end(e, &l, NULL);
	}
	ml_expr_no_lanes(x);
}

/* A run is what the tile has of one position of the leading row dims; runs go upwards, so that
 * each overwrites what its predecessor left behind its end. */
static void
emit_along_rows(row_pack *p, ml_v begin, ml_v rows)
{
	ml_expr *x = p->w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	const ml_dots *d = &p->w->d;
	const ml_dim *shape = d->dot->out[0].type.dim;
	ml_dim one = ml_dim_int(dims, 1), leading = one;
	ml_v lanes = ml_i64(e, ML_LANES), size = ml_expr_dim(x, ml_dim_max(dims, p->last, one));
	ml_v end = ml_add(e, begin, rows);

	for (int i = 0; i < d->nrows - 1; i++)
		leading = ml_dim_mul(dims, leading, shape[d->nbatch + i]);
	ml_v past = LLVMBuildUDiv(e->b, ml_add(e, end, ml_sub(e, size, ml_i64(e, 1))), size, "");
	ml_loop l = ml_loop_begin(e, LLVMBuildUDiv(e->b, begin, size, ""), past, ml_i64(e, 1), NULL,
				  0, "run");
	int mark = ml_expr_mark(x);
	ml_v base = ml_mul(e, l.i, size), zero = ml_i64(e, 0);
	ml_v low = ml_scalar_op(e, ML_OP_max, ML_s64, (ml_v[]){ml_sub(e, begin, base), zero});
	ml_v high = ml_min_s(e, ml_sub(e, end, base), size);
	ml_v to = LLVMBuildUDiv(e->b, ml_add(e, high, ml_i64(e, ML_LANES - 1)), lanes, "");
	const ml_sym *run = ml_expr_loop_var(x, l.i, ml_dim_sub(dims, leading, one));
	ml_expr_delinear(x, d->nbatch, shape, ml_dim_sym(dims, p->w->batch), p->at);
	ml_expr_delinear(x, d->nrows - 1, shape + d->nbatch, ml_dim_sym(dims, run),
			 p->at + d->nbatch);
	pack_run(p, l.i, begin, LLVMBuildUDiv(e->b, low, lanes, ""), to);
	ml_expr_release(x, mark);
	ml_loop_end(e, &l, NULL);
}

void
ml_dots_pack_rows(ml_dots_emit *w, ml_v begin, ml_v rows, ml_v *a, ml_v *lda)
{
	ml_expr *x = w->x;
	ml_emit *e = x->e;
	ml_dtype t = ml_in(w->d.dot, 0)->type.dtype;
	row_pack p = {
		.w = w,
		.stride = stride_of(&w->d),
		.element = ml_memory_type(e, t),
		.dtype = t,
		.last = last_of(&w->d),
	};
	int64_t last;

	*lda = ml_expr_dim(x, p.stride);
	p.first = ml_gep(e, p.element, x->scratch, ml_mul(e, *lda, ml_i64(e, MARGIN)));
	*a = p.first;
	if (w->d.image.image)
		ml_dots_pack_windows(w, p.first, begin, rows, p.stride);
	else if ((ml_dim_is_int(p.last, &last) && last < FEW_ROWS) || !is_scattered(w))
		emit_along_k(&p, begin, rows);
	else
		emit_along_rows(&p, begin, rows);
}
