/* dots_pack.c -- right operands become panels: whole ones [batches, k, n] by a kernel of their own,
 * blocks of them inside of kernels that use a block up before they read the next. */
#include "dots.h"
#include "family.h"
#include "tile.h"

enum { PANELS_PER_TILE = 4, PANELS_AHEAD = 2, ROWS_AHEAD = 24, MOST_SUMS = 8, LINE = 64 };

/* An operand being read: v at [batch, k, n], or the right operand of `dots`. */
typedef struct pack_emit {
	ml_expr *x;
	const ml_value *v;
	const ml_dots *dots;
	ml_dtype dtype;
	const ml_sym *batch, *other; /* other: the index that has no lanes */
	ml_dim position;             /* the one that has */
	ml_v first_k;                /* the pack's k = 0 */
	ml_v run;                    /* neighbours in memory that a block reads */
	bool along_k;
	ml_lane_axis results; /* lanes of what a row's sums become; x has those that are read */
} pack_emit;

static const ml_value *
operand(const ml_kernel *k)
{
	return ml_in(k->m->main->last, 0);
}

static ml_dim
panel_groups(ml_dims *dims, const ml_value *v)
{
	return ml_dim_ceildiv(dims, v->type.dim[2], ml_dim_int(dims, PANELS_PER_TILE * ML_PANEL));
}

ml_status
ml_pack_grid(ml_kernel *k, ml_grid *grid)
{
	ml_dims *dims = k->m->dims;
	const ml_value *v = operand(k);

	if (v->type.rank != 3 ||
	    (v->type.dtype != ML_f32 && v->type.dtype != ML_s8 && v->type.dtype != ML_bf16))
		return ml_error(k->m->cx, ML_ERR_CODEGEN, NULL,
				"panels are made of f32, s8 or bf16[b, k, n]");
	grid->tiles = ml_dim_mul(dims, v->type.dim[0], panel_groups(dims, v));
	grid->scratch_bytes = ml_dim_int(dims, 0);
	return ML_OK;
}

/* The operand's value and its index from batch, k and column. */
static const ml_value *
index_of(ml_expr *x, const ml_value *v, const ml_dots *dots, const ml_dim at[3], ml_dim *index)
{
	if (dots) {
		ml_dots_rhs_index(x, dots, at[0], at[1], at[2], index);
		return ml_in(dots->dot, 1);
	}
	for (int i = 0; i < 3; i++)
		index[i] = at[i];
	return v;
}

/* Is the operand of these sizes contiguous along k, not along n? */
static bool
is_along_k(ml_kernel *k, const ml_value *v, const ml_dots *dots, const ml_dim size[3])
{
	ml_dims *dims = k->m->dims;
	ml_dim index[ML_MAX_RANK], at[3], address, step, rest;
	const ml_sym *s[3];
	ml_expr x;

	ml_expr_analyse(&x, k);
	for (int i = 0; i < 3; i++) {
		s[i] = ml_expr_loop_var(&x, NULL, ml_dim_sub(dims, size[i], ml_dim_int(dims, 1)));
		at[i] = ml_dim_sym(dims, s[i]);
	}
	v = index_of(&x, v, dots, at, index);
	return ml_expr_source(&x, v, index, &address) &&
	       ml_dim_linear(dims, address, s[1], &step, &rest) && ml_dim_equals(step, 1) &&
	       !(ml_dim_linear(dims, address, s[2], &step, &rest) && ml_dim_equals(step, 1));
}

/* 16 elements from (k, column) on, along k or along n; zero where there are none. */
static ml_v
load(void *user, ml_emit *e, ml_v k, ml_v column, ml_v count)
{
	pack_emit *w = user;
	ml_expr *x = w->x;
	ml_dims *dims = x->kernel->m->dims;
	ml_dim other = ml_dim_sym(dims, w->other), index[ML_MAX_RANK];
	ml_dim at[] = {ml_dim_sym(dims, w->batch), w->along_k ? w->position : other,
		       w->along_k ? other : w->position};
	int mark = ml_expr_mark(x);

	k = ml_add(e, k, w->first_k);
	ml_v first = w->along_k ? k : column;
	ml_expr_set_symbol(x, w->other, w->along_k ? column : k);
	ml_expr_set_block(x, LLVMBuildLShr(e->b, first, ml_i64(e, 4), ""), count);
	const ml_value *from = index_of(x, w->v, w->dots, at, index);
	ml_v v = ml_to_memory(e, w->dtype, ml_expr_at(x, from, index));
	if (!ml_is_vector(v))
		v = ml_splat(e, v);
	if (count)
		v = LLVMBuildSelect(e->b, ml_lane_mask(e, count), v, LLVMConstNull(LLVMTypeOf(v)),
				    "");
	x->count = NULL;
	ml_expr_release(x, mark);
	return v;
}

/* The lines of a column (of k, when not along k) in memory. */
static void
fetch_run(pack_emit *w, ml_v other)
{
	ml_expr *x = w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	ml_dim none = ml_dim_int(dims, 0), on = ml_dim_sym(dims, w->other);
	ml_dim at[] = {ml_dim_sym(dims, w->batch), w->along_k ? none : on, w->along_k ? on : none};
	ml_dim index[ML_MAX_RANK], address;
	const ml_value *from = index_of(x, w->v, w->dots, at, index);
	const ml_value *leaf = ml_expr_source(x, from, index, &address);

	if (!leaf || (leaf->type.dtype != ML_f32 && leaf->type.dtype != ML_s8))
		return;
	LLVMTypeRef element = ml_memory_type(e, leaf->type.dtype);
	ml_v line = ml_i64(e, LINE / ml_dtype_bytes(leaf->type.dtype));
	ml_expr_set_symbol(x, w->other, other);
	ml_v run = ml_gep(e, element, x->buffer[leaf->index], ml_expr_dim(x, address));
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), w->run, line, NULL, 0, "line");
	ml_tile_fetch(e, ml_gep(e, element, run, l.i), 2);
	ml_loop_end(e, &l, NULL);
}

/* What is read soon: CPUs do not foresee jumps from column to column, nor go fast enough along
 * rows. */
static void
fetch_ahead(void *user, ml_emit *e, ml_v at)
{
	pack_emit *w = user;
	int mark = ml_expr_mark(w->x);

	if (!w->along_k) {
		at = ml_add(e, ml_add(e, at, w->first_k), ml_i64(e, ROWS_AHEAD));
		fetch_run(w, at);
	} else {
		ml_v first = ml_add(e, at, ml_i64(e, PANELS_AHEAD * ML_PANEL));
		ml_loop c = ml_loop_begin(e, first, ml_add(e, first, ml_i64(e, ML_PANEL)),
					  ml_i64(e, 1), NULL, 0, "ahead");
		fetch_run(w, c.i);
		ml_loop_end(e, &c, NULL);
	}
	ml_expr_release(w->x, mark);
}

/* ---- a block ---- */

static pack_emit
begin_block(ml_dots_emit *d, const ml_dots_block *b, ml_pack *p)
{
	ml_expr *x = d->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	ml_dim size[] = {d->d.batches, d->d.k, d->d.n};
	pack_emit w = {.x = x,
		       .dots = &d->d,
		       .dtype = ml_in(d->d.dot, 1)->type.dtype,
		       .batch = d->batch,
		       .first_k = b->k_begin,
		       .along_k = is_along_k(x->kernel, NULL, &d->d, size),
		       .results = x->axis};
	ml_v k = ml_sub(e, b->k_end, b->k_begin);
	ml_dim other = size[w.along_k ? 2 : 1];

	w.other = ml_expr_loop_var(x, b->k_begin, ml_dim_sub(dims, other, ml_dim_int(dims, 1)));
	w.position = ml_expr_lanes(x, b->k_begin, size[w.along_k ? 1 : 2]);
	w.run = w.along_k ? k : ml_expr_dim(x, d->d.n);
	*p = (ml_pack){
		.form = ML_CONTRACT_F32,
		.k = k,
		.n = ml_expr_dim(x, d->d.n),
		.panel_begin = b->panel_begin,
		.panel_end = b->panel_end,
		.along_k = w.along_k,
		.load = load,
		.ahead = fetch_ahead,
	};
	return w;
}

void
ml_dots_pack_block(ml_dots_emit *d, const ml_dots_block *b)
{
	ml_emit *e = d->x->e;
	ml_pack p;
	pack_emit w = begin_block(d, b, &p);
	ml_v before = ml_mul(e, ml_mul(e, p.k, b->panel_begin), ml_i64(e, ML_PANEL));

	p.dst = ml_gep(e, e->f32, b->dst, ml_sub(e, ml_i64(e, 0), before));
	p.user = &w;
	ml_emit_pack(e, &p);
	ml_expr_no_lanes(d->x);
}

/* ---- one row, without panels ---- */

bool
ml_dots_has_row(const ml_dots *d)
{
	ml_dim size[] = {d->batches, d->k, d->n};
	bool along_k = is_along_k(d->kernel, NULL, d, size);
	int64_t run;

	return d->form == ML_CONTRACT_F32 && ml_dim_is_int(along_k ? d->k : d->n, &run) &&
	       run % ML_LANES == 0 && run <= MOST_SUMS * ML_LANES;
}

static void
store_sums(ml_emit *e, const ml_pack *p, const ml_contract *c, ml_v column, ml_v count, ml_v sum)
{
	pack_emit *w = p->user;
	ml_lane_axis read = w->x->axis;

	w->x->axis = w->results;
	c->store(c->user, e, c->row_begin, column, count, sum);
	w->x->axis = read;
}

/* Columns side by side: as many sums as a row of the operand has vectors. */
static void
emit_row_along_n(ml_emit *e, const ml_pack *p, const ml_contract *c, ml_v row, int sums)
{
	ml_v sum[MOST_SUMS], next[MOST_SUMS];

	for (int j = 0; j < sums; j++)
		sum[j] = LLVMConstNull(ml_vec_type(e->f32));
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), p->k, ml_i64(e, 1), sum, sums, "k");
	p->ahead(p->user, e, l.i);
	ml_v a = ml_splat(e, ml_load(e, e->f32, ml_gep(e, e->f32, row, l.i), 4));
	for (int j = 0; j < sums; j++)
		next[j] = ml_fma(e, a, p->load(p->user, e, l.i, ml_i64(e, j * ML_LANES), NULL),
				 l.carry[j]);
	ml_loop_end(e, &l, next);
	for (int j = 0; j < sums; j++)
		store_sums(e, p, c, ml_i64(e, j * ML_LANES), NULL, l.carry[j]);
}

/* 16 columns along k: turned in registers, 16 k at a time. */
static void
emit_row_columns(ml_emit *e, const ml_pack *p, const ml_contract *c, ml_v row, ml_v column, ml_v at,
		 ml_v count)
{
	ml_v sum = LLVMConstNull(ml_vec_type(e->f32)), v[ML_LANES];
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), p->k, ml_i64(e, ML_LANES), &sum, 1, "k");

	sum = l.carry[0];
	ml_emit_turned(e, p, l.i, column, count, v);
	ml_v from = ml_gep(e, e->f32, row, l.i);
	for (int i = 0; i < ML_LANES; i++) {
		ml_v a = ml_load(e, e->f32, ml_gep(e, e->f32, from, ml_i64(e, i)), 4);
		sum = ml_fma(e, ml_splat(e, a), v[i], sum);
	}
	ml_loop_end(e, &l, &sum);
	store_sums(e, p, c, at, count, l.carry[0]);
}

static void
emit_row_along_k(ml_emit *e, const ml_pack *p, const ml_contract *c, ml_v row)
{
	ml_v one = ml_i64(e, 1), lanes = ml_i64(e, ML_PANEL);
	ml_v panels = LLVMBuildUDiv(e->b, c->columns, lanes, "");
	ml_v base = ml_mul(e, p->panel_begin, lanes), whole = ml_mul(e, panels, lanes);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), panels, one, NULL, 0, "panel");
	ml_v at = ml_mul(e, l.i, lanes), column = ml_add(e, base, at);

	p->ahead(p->user, e, column);
	emit_row_columns(e, p, c, row, column, at, NULL);
	ml_loop_end(e, &l, NULL);
	ml_v left = ml_sub(e, c->columns, whole);
	ml_if rest = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGT, left, ml_i64(e, 0), ""));
	emit_row_columns(e, p, c, row, ml_add(e, base, whole), whole, left);
	ml_if_end(e, &rest);
}

void
ml_dots_row(ml_dots_emit *d, const ml_dots_block *b, const ml_contract *c)
{
	ml_emit *e = d->x->e;
	ml_pack p;
	pack_emit w = begin_block(d, b, &p);
	ml_v row = ml_gep(e, e->f32, c->a, ml_mul(e, c->row_begin, c->lda));
	int64_t n = 0;

	p.user = &w;
	if (w.along_k) {
		emit_row_along_k(e, &p, c, row);
	} else {
		ml_dim_is_int(d->d.n, &n);
		emit_row_along_n(e, &p, c, row, (int)(n / ML_LANES));
	}
	ml_expr_no_lanes(d->x);
}

/* ---- the kernel ---- */

static void
emit_tile(pack_emit *w, ml_v tile)
{
	ml_expr *x = w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	const ml_dim *size = w->v->type.dim;
	ml_dim one = ml_dim_int(dims, 1), panel = ml_dim_int(dims, ML_PANEL);
	ml_contract_form form = ml_form_of(w->v->type.dtype);
	ml_v groups =
		ml_scalar_op(e, ML_OP_max, ML_s64,
			     (ml_v[]){ml_expr_dim(x, panel_groups(dims, w->v)), ml_i64(e, 1)});
	ml_v batch = LLVMBuildUDiv(e->b, tile, groups, "");
	ml_v begin = ml_mul(e, LLVMBuildURem(e->b, tile, groups, ""), ml_i64(e, PANELS_PER_TILE));
	ml_v panels = ml_expr_dim(x, ml_dim_ceildiv(dims, size[2], panel));

	w->batch = ml_expr_loop_var(x, batch, ml_dim_sub(dims, size[0], one));
	w->other = ml_expr_loop_var(x, batch, ml_dim_sub(dims, size[w->along_k ? 2 : 1], one));
	w->position = ml_expr_lanes(x, batch, size[w->along_k ? 1 : 2]);
	ml_pack p = {
		.form = form,
		.dst = ml_gep(e, e->i8, x->buffer[x->kernel->m->main->nargs],
			      ml_mul(e, batch, ml_dots_panel_bytes(x, form, size[1], size[2]))),
		.k = ml_expr_dim(x, size[1]),
		.n = ml_expr_dim(x, size[2]),
		.panel_begin = begin,
		.panel_end = ml_min_s(e, ml_add(e, begin, ml_i64(e, PANELS_PER_TILE)), panels),
		.along_k = w->along_k,
		.load = load,
		.user = w,
	};
	ml_emit_pack(e, &p);
	ml_expr_no_lanes(x);
}

ml_status
ml_pack_emit(ml_emit *e, ml_kernel *k, const char *name)
{
	const ml_value *v = operand(k);
	ml_expr x;
	pack_emit w = {.x = &x,
		       .v = v,
		       .dtype = v->type.dtype,
		       .first_k = ml_i64(e, 0),
		       .along_k = is_along_k(k, v, NULL, v->type.dim)};

	ml_expr_open(&x, e, k, name);
	ml_loop l =
		ml_loop_begin(e, ml_expr_begin(&x), ml_expr_end(&x), ml_i64(e, 1), NULL, 0, "tile");
	int mark = ml_expr_mark(&x);
	emit_tile(&w, l.i);
	ml_expr_release(&x, mark);
	ml_loop_end(e, &l, NULL);
	return ml_expr_close(&x);
}
