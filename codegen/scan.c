/* scan.c -- running sums and products along an axis, 16 neighbours of the inner dims at a time.
 *
 * The space is [outer, axis, inner]; a tile is a block of inner positions of one outer index. */
#include "expr.h"
#include "family.h"
#include <string.h>

typedef struct scan_emit {
	ml_expr x;
	const ml_node *n;
	const ml_value *v;
	int axis;
	ml_dim outer, inner;
	ml_dim index[ML_MAX_RANK];
} scan_emit;

static ml_status
find_scan(ml_kernel *k, scan_emit *w)
{
	ml_dims *dims = k->m->dims;
	const ml_value *v = ml_expr_computed(k, ml_in(k->m->main->last, 0));

	if (!ml_is(v, ML_OP_scan_sum) && !ml_is(v, ML_OP_scan_prod))
		return ml_error(k->m->cx, ML_ERR_CODEGEN, NULL, "a scan kernel without a scan");
	w->n = v->def;
	w->v = ml_in(v->def, 0);
	w->axis = (int)ML_A(v->def, scan_sum, axis).i64;
	w->outer = ml_dim_product(dims, w->v->type.dim, w->axis);
	w->inner =
		ml_dim_product(dims, w->v->type.dim + w->axis + 1, w->v->type.rank - w->axis - 1);
	return ML_OK;
}

static ml_dim
inner_blocks(ml_dims *dims, const scan_emit *w)
{
	return ml_dim_ceildiv(dims, w->inner, ml_dim_int(dims, ML_LANES));
}

ml_status
ml_scan_grid(ml_kernel *k, ml_grid *grid)
{
	scan_emit w = {0};

	ML_STEP(find_scan(k, &w));
	grid->tiles = ml_dim_mul(k->m->dims, w.outer, inner_blocks(k->m->dims, &w));
	grid->scratch_bytes = ml_dim_int(k->m->dims, 0);
	return ML_OK;
}

static void
emit_axis(scan_emit *w)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	ml_dtype t = w->v->type.dtype;
	ml_dim last = ml_dim_sub(dims, w->v->type.dim[w->axis], ml_dim_int(dims, 1));
	bool lanes = x->axis.lane != NULL;
	ml_v sum = ml_reduce_neutral(e, w->n->op, t);

	sum = lanes ? ml_splat(e, sum) : sum;
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), ml_expr_dim(x, w->v->type.dim[w->axis]),
				  ml_i64(e, 1), &sum, 1, "scan");
	int mark = ml_expr_mark(x);
	ml_dim at = ml_dim_sym(dims, ml_expr_loop_var(x, l.i, last));
	w->index[w->axis] = ML_A(w->n, scan_sum, reverse).i64 ? ml_dim_sub(dims, last, at) : at;
	ml_v v = ml_expr_at(x, w->v, w->index);
	v = lanes && !ml_is_vector(v) ? ml_splat(e, v) : v;
	ml_v next = ml_scalar_op(e, ml_reduce_step(w->n->op), t, (ml_v[]){l.carry[0], v});
	ml_v shown = ML_A(w->n, scan_sum, exclusive).i64 ? l.carry[0] : next;
	ml_expr_store(x, 0, &w->n->out[0], w->index, ml_scalar_round(e, t, shown));
	ml_expr_release(x, mark);
	ml_loop_end(e, &l, &next);
}

/* Inner position of the block, full or partial; without inner dims, scalars. */
static void
emit_tile(scan_emit *w, ml_v tile)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	int rest = w->v->type.rank - w->axis - 1;
	ml_v blocks = ml_scalar_op(e, ML_OP_max, ML_s64,
				   (ml_v[]){ml_expr_dim(x, inner_blocks(dims, w)), ml_i64(e, 1)});
	ml_v block = LLVMBuildURem(e->b, tile, blocks, "");
	ml_dim last = ml_dim_sub(dims, w->outer, ml_dim_int(dims, 1));
	const ml_sym *o = ml_expr_loop_var(x, LLVMBuildUDiv(e->b, tile, blocks, ""), last);

	ml_expr_delinear(x, w->axis, w->v->type.dim, ml_dim_sym(dims, o), w->index);
	if (ml_dim_equals(w->inner, 1)) {
		for (int i = w->axis + 1; i < w->v->type.rank; i++)
			w->index[i] = ml_dim_int(dims, 0);
		emit_axis(w);
		return;
	}
	ml_dim position = ml_expr_lanes(x, block, w->inner);
	ml_v left = ml_sub(e, ml_expr_dim(x, w->inner), ml_mul(e, block, ml_i64(e, ML_LANES)));
	ml_if full = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGE, left, ml_i64(e, ML_LANES), ""));
	for (int partial = 0; partial < 2; partial++) {
		int mark = ml_expr_mark(x);
		ml_expr_set_block(x, block, partial ? left : NULL);
		ml_expr_delinear(x, rest, w->v->type.dim + w->axis + 1, position,
				 w->index + w->axis + 1);
		emit_axis(w);
		ml_expr_release(x, mark);
		if (!partial)
			ml_if_else(e, &full);
	}
	ml_if_end(e, &full);
	ml_expr_no_lanes(x);
}

ml_status
ml_scan_emit(ml_emit *e, ml_kernel *k, const char *name)
{
	scan_emit w = {0};

	ML_STEP(find_scan(k, &w));
	ml_expr_open(&w.x, e, k, name);
	ml_loop l = ml_loop_begin(e, ml_expr_begin(&w.x), ml_expr_end(&w.x), ml_i64(e, 1), NULL, 0,
				  "tile");
	int mark = ml_expr_mark(&w.x);
	emit_tile(&w, l.i);
	ml_expr_release(&w.x, mark);
	ml_loop_end(e, &l, NULL);
	return ml_expr_close(&w.x);
}
