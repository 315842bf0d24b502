/* rows.c -- maps and row kernels: elements, reductions along rows, results, stage by stage.
 *
 * A unit of work is one row, or for maps as many positions of one row as a tile has elements; tiles
 * are equal shares of all units, so that the grid does not depend on how dims were merged.
 * Reductions keep 16 partial results, whatever the machine, and tails change only the lanes that
 * exist.
 *
 * An image's few channels that a map turns to the innermost dim are computed together: their lanes
 * take turns in the result.
 */
#include "family.h"
#include "rows.h"
#include <string.h>

typedef struct row_emit {
	ml_rows r;
	ml_expr x;
	ml_groups groups; /* of the outer dims; a map's last group is its row */
	ml_dim row;       /* elements of a row; 1 when there is no lane axis */
	ml_dim position;  /* along the row, NULL without lanes */
	ml_dim index[ML_MAX_RANK];
	ml_v blocks, all_blocks; /* full ones, and with the partial one */
	ml_v tail;               /* elements in the partial one */
	int64_t turns;           /* rows that take turns in the result; 0: none do */
	int turning;             /* which group they are, */
	const ml_sym *turn;      /* and which of them is computed */
} row_emit;

enum { MOST_TURNS = 4 };

/* ---- one block of lanes ---- */

static ml_v
as_lanes(row_emit *w, ml_v v)
{
	return w->position && !ml_is_vector(v) ? ml_splat(w->x.e, v) : v;
}

/* One step of every reduction of the stage; lanes that do not exist keep what they have. */
static void
reduce_block(row_emit *w, const ml_stage *s, ml_v *carry, ml_v *next)
{
	ml_expr *x = &w->x;

	for (int i = 0; i < s->reductions.count; i++) {
		const ml_node *n = s->reductions.at[i];
		ml_dtype t = n->out[0].type.dtype;
		ml_v args[] = {as_lanes(w, ml_expr_at(x, ml_in(n, 0), w->index)), carry[i]};
		next[i] = ml_scalar_op(x->e, ml_reduce_step(n->op), t, args);
		if (x->count)
			next[i] = LLVMBuildSelect(x->e->b, ml_lane_mask(x->e, x->count), next[i],
						  carry[i], "");
	}
}

static ml_v
kept_row(row_emit *w, const ml_kept *k)
{
	return ml_gep(w->x.e, w->x.e->i8, w->x.scratch, ml_expr_dim(&w->x, k->offset));
}

static void
keep_block(row_emit *w, int stage)
{
	for (int i = 0; i < w->r.kept.count; i++) {
		const ml_kept *k = &w->r.kept.at[i];
		if (k->stage != stage)
			continue;
		ml_v v = as_lanes(w, ml_expr_at(&w->x, k->value, w->index));
		ml_expr_store_at(&w->x, ml_dtype_computed(k->value->type.dtype), kept_row(w, k),
				 w->position, v);
	}
}

/* All values first, then the stores: a result may lie where an operand does. */
static void
store_block(row_emit *w, const ml_stage *s)
{
	ml_v *v = ML_NEW_ARRAY(w->x.e->arena, ml_v, s->results.count);

	for (int i = 0; i < s->results.count; i++) {
		const ml_value *computed = ml_rows_result(&w->r, s->results.at[i]);
		v[i] = ml_expr_at(&w->x, computed, w->index);
	}
	for (int i = 0; i < s->results.count; i++)
		ml_expr_store(&w->x, s->results.at[i], ml_rows_result(&w->r, s->results.at[i]),
			      w->index, v[i]);
}

static void
set_row_index(row_emit *w)
{
	ml_rows *r = &w->r;

	if (!r->is_map) {
		ml_expr_delinear(&w->x, r->space.rank - r->outer, r->space.dim + r->outer,
				 w->position, w->index + r->outer);
		return;
	}
	int g = w->groups.n - 1, first = w->groups.first[g];
	ml_expr_delinear(&w->x, w->groups.last[g] - first + 1, r->space.dim + first, w->position,
			 w->index + first);
}

/* ---- rows that take turns ---- */

/* Whether lanes lie as far apart in the result as there are rows that take turns, and these side by
 * side; start: the first of them all. */
static bool
find_start(row_emit *w, ml_dim *start)
{
	ml_dims *dims = w->r.kernel->m->dims;
	ml_dim address = ml_expr_result_address(&w->x, 0, ml_rows_result(&w->r, 0), w->index);
	ml_dim step, rest;

	return ml_dim_linear(dims, address, w->x.axis.lane, &step, &rest) &&
	       ml_dim_equals(step, w->turns) && ml_dim_linear(dims, rest, w->turn, &step, start) &&
	       ml_dim_equals(step, 1);
}

static ml_v
side_by_side(ml_emit *e, ml_v a, ml_v b)
{
	int n = 2 * (int)LLVMGetVectorSize(LLVMTypeOf(a));
	ml_v lane[MOST_TURNS * ML_LANES];

	for (int i = 0; i < n; i++)
		lane[i] = ml_i32(e, i);
	return LLVMBuildShuffleVector(e->b, a, b, LLVMConstVector(lane, (unsigned)n), "");
}

/* Lane 0 of each, then lane 1 ... */
static ml_v
in_turns(ml_emit *e, ml_v *v, int n)
{
	ml_v lane[MOST_TURNS * ML_LANES], low = side_by_side(e, v[0], v[1]);
	ml_v high = n > 2 ? side_by_side(e, v[2], v[n - 1]) : LLVMGetPoison(LLVMTypeOf(low));

	for (int i = 0; i < n * ML_LANES; i++)
		lane[i] = ml_i32(e, i % n * ML_LANES + i / n);
	return LLVMBuildShuffleVector(e->b, low, high,
				      LLVMConstVector(lane, (unsigned)(n * ML_LANES)), "");
}

/* A block of all rows that take turns; lane by lane where it is partial. */
static void
store_turns(row_emit *w)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	const ml_block *main = w->r.kernel->m->main;
	ml_dtype t = ml_in(main->last, 0)->type.dtype;
	ml_v v[MOST_TURNS];
	ml_dim start;

	for (int64_t i = 0; i < w->turns; i++) {
		int mark = ml_expr_mark(x);
		ml_expr_set_symbol(x, w->turn, ml_i64(e, i));
		if (x->count) {
			store_block(w, &w->r.stage[0]);
		} else {
			v[i] = ml_expr_at(x, ml_rows_result(&w->r, 0), w->index);
			v[i] = as_lanes(w, ml_to_memory(e, t, v[i]));
		}
		ml_expr_release(x, mark);
	}
	if (x->count)
		return;
	find_start(w, &start);
	ml_v to = ml_gep(e, ml_memory_type(e, t), x->buffer[main->nargs], ml_expr_dim(x, start));
	ml_store(e, in_turns(e, v, (int)w->turns), to, ml_dtype_bytes(t));
}

static void
emit_block(row_emit *w, int stage, ml_v block, ml_v count, ml_v *carry, ml_v *next)
{
	ml_expr *x = &w->x;
	int mark = ml_expr_mark(x);

	ml_expr_set_block(x, block, count);
	set_row_index(w);
	keep_block(w, stage);
	reduce_block(w, &w->r.stage[stage], carry, next);
	if (w->turns)
		store_turns(w);
	else
		store_block(w, &w->r.stage[stage]);
	x->count = NULL;
	ml_expr_release(x, mark);
}

static bool
is_zero(ml_v v)
{
	int64_t number;

	return ml_const_i64(v, &number) && number == 0;
}

/* Blocks from..to-1 of the row, of which only the row's very last one can be partial. */
static void
emit_blocks(row_emit *w, int stage, ml_v from, ml_v to, ml_v *carry)
{
	ml_emit *e = w->x.e;
	int n = w->r.stage[stage].reductions.count;
	ml_v *next = ML_NEW_ARRAY(e->arena, ml_v, n), one = ml_i64(e, 1);
	ml_v full = ml_min_s(e, to, w->blocks);

	if (!is_zero(w->blocks)) {
		ml_loop l = ml_loop_begin(e, from, full, one, carry, n, "block");
		emit_block(w, stage, l.i, NULL, l.carry, next);
		ml_loop_end(e, &l, next);
		memcpy(carry, l.carry, (size_t)n * sizeof *carry);
	}
	if (!is_zero(w->tail)) {
		ml_loop l = ml_loop_begin(e, w->blocks, to, one, carry, n, "tail");
		emit_block(w, stage, l.i, w->tail, l.carry, next);
		ml_loop_end(e, &l, next);
		memcpy(carry, l.carry, (size_t)n * sizeof *carry);
	}
}

/* ---- one row ---- */

/* Fixed-shape tree: lanes (i, i+8), (i, i+4), (i, i+2), (0, 1). */
static ml_v
reduce_lanes(ml_emit *e, ml_op op, ml_dtype t, ml_v v)
{
	for (unsigned half = ML_LANES / 2; half > 1; half /= 2) {
		ml_v low[ML_LANES], high[ML_LANES], none = LLVMGetPoison(LLVMTypeOf(v));
		for (unsigned i = 0; i < half; i++) {
			low[i] = ml_i32(e, (int32_t)i);
			high[i] = ml_i32(e, (int32_t)(i + half));
		}
		ml_v parts[] = {
			LLVMBuildShuffleVector(e->b, v, none, LLVMConstVector(low, half), ""),
			LLVMBuildShuffleVector(e->b, v, none, LLVMConstVector(high, half), ""),
		};
		v = ml_scalar_op(e, op, t, parts);
	}
	ml_v last[] = {LLVMBuildExtractElement(e->b, v, ml_i32(e, 0), ""),
		       LLVMBuildExtractElement(e->b, v, ml_i32(e, 1), "")};
	return ml_scalar_op(e, op, t, last);
}

/* Values with one element per row are computed before the loop that uses them. */
static void
emit_scalars(row_emit *w, int stage)
{
	const ml_block *main = w->r.kernel->m->main;
	const ml_stage *s = &w->r.stage[stage];
	ml_dim index[ML_MAX_RANK];

	for (int i = 0; i < w->r.space.rank; i++)
		index[i] = i < w->r.outer ? w->index[i] : ml_dim_int(w->r.kernel->m->dims, 0);
	for (const ml_node *n = main->first; stage > 0 && n != main->last; n = n->next)
		if (ml_op_get(n->op)->cls == ML_ELEMENTWISE &&
		    ml_rows_stage_of(&n->out[0]) == stage &&
		    ml_rows_is_scalar(&w->r, &n->out[0].type))
			ml_expr_at(&w->x, &n->out[0], index);
	for (int i = 0; i < s->scalars.count; i++) {
		const ml_value *v = ml_rows_result(&w->r, s->scalars.at[i]);
		ml_expr_store(&w->x, s->scalars.at[i], v, index, ml_expr_at(&w->x, v, index));
	}
}

static void
emit_stage(row_emit *w, int stage, ml_v from, ml_v to)
{
	const ml_stage *s = &w->r.stage[stage];
	ml_emit *e = w->x.e;
	ml_v *carry = ML_NEW_ARRAY(e->arena, ml_v, s->reductions.count);

	emit_scalars(w, stage);
	if (!s->reductions.count && !s->results.count)
		return;
	for (int i = 0; i < s->reductions.count; i++) {
		const ml_node *n = s->reductions.at[i];
		carry[i] = ml_splat(e, ml_reduce_neutral(e, n->op, n->out[0].type.dtype));
	}
	emit_blocks(w, stage, from, to, carry);
	for (int i = 0; i < s->reductions.count; i++) {
		const ml_node *n = s->reductions.at[i];
		ml_dtype t = n->out[0].type.dtype;
		ml_v sum = reduce_lanes(e, ml_reduce_step(n->op), t, carry[i]);
		ml_expr_bind(&w->x, &n->out[0], ml_scalar_round(e, t, sum));
	}
}

/* Kept rows are read through the index they have in every stage. */
static void
bind_kept(row_emit *w, int stage)
{
	for (int i = 0; i < w->r.kept.count; i++) {
		const ml_kept *k = &w->r.kept.at[i];
		if (k->stage != stage)
			continue;
		int mark = ml_expr_mark(&w->x);
		set_row_index(w);
		ml_expr_release(&w->x, mark);
		ml_expr_bind_row(&w->x, k->value, w->index, kept_row(w, k), w->position);
	}
}

/* The row number taken apart into the outer groups' indices. */
static void
set_outer_index(row_emit *w, ml_v number)
{
	ml_expr *x = &w->x;
	ml_dims *dims = w->r.kernel->m->dims;
	int n = w->groups.n - w->r.is_map;
	ml_v at[ML_MAX_RANK];

	for (int g = n; g-- > 0;) {
		if (w->turns && g == w->turning) {
			at[g] = ml_i64(x->e, 0);
			continue;
		}
		ml_v size =
			ml_scalar_op(x->e, ML_OP_max, ML_s64,
				     (ml_v[]){ml_expr_dim(x, w->groups.size[g]), ml_i64(x->e, 1)});
		at[g] = g ? LLVMBuildURem(x->e->b, number, size, "") : number;
		number = g ? LLVMBuildUDiv(x->e->b, number, size, "") : number;
	}
	for (int g = 0; g < n; g++) {
		int first = w->groups.first[g];
		ml_dim last = ml_dim_sub(dims, w->groups.size[g], ml_dim_int(dims, 1));
		const ml_sym *s = ml_expr_loop_var(x, at[g], last);
		if (w->turns && g == w->turning)
			w->turn = s;
		ml_expr_delinear(x, w->groups.last[g] - first + 1, w->r.space.dim + first,
				 ml_dim_sym(dims, s), w->index + first);
	}
}

static void
emit_row(row_emit *w, ml_v number, ml_v from, ml_v to)
{
	ml_v none = LLVMGetUndef(w->x.e->i64);

	for (int i = 0; i < w->r.space.rank; i++)
		w->index[i] = ml_dim_int(w->r.kernel->m->dims, 0);
	set_outer_index(w, number);
	if (w->r.is_map && !w->groups.n) {
		store_block(w, &w->r.stage[0]);
		return;
	}
	w->position = ml_expr_lanes(&w->x, none, w->row);
	for (int s = 0; s < w->r.nstages; s++) {
		emit_stage(w, s, from, to);
		bind_kept(w, s);
	}
	ml_expr_no_lanes(&w->x);
}

/* Whether the rows of a group, a single dim, take turns; tried where no code depends on it. */
static bool
take_turns(row_emit *w, int group)
{
	ml_expr *x = &w->x;
	ml_v none = LLVMGetUndef(x->e->i64);
	int mark = ml_expr_mark(x);
	ml_dim start;

	if (w->groups.first[group] < w->groups.last[group] ||
	    !ml_dim_is_int(w->groups.size[group], &w->turns) || w->turns < 2 ||
	    w->turns > MOST_TURNS)
		return false;
	w->turning = group;
	set_outer_index(w, ml_i64(x->e, 0));
	w->position = ml_expr_lanes(x, none, w->row);
	set_row_index(w);
	bool found = find_start(w, &start);
	ml_expr_no_lanes(x);
	ml_expr_release(x, mark);
	return found;
}

static void
find_turns(row_emit *w)
{
	int outer = w->groups.n - 1;

	for (int i = 0; i < w->r.space.rank; i++)
		w->index[i] = ml_dim_int(w->r.kernel->m->dims, 0);
	if (!w->r.is_map || w->r.kernel->m->main->last->nin != 1)
		return;
	for (int g = 0; g < outer; g++)
		if (take_turns(w, g))
			return;
	w->turns = 0;
}

/* ---- the kernel ---- */

/* Share `tile` of `tiles` equal shares of `units`. */
static ml_v
first_unit(ml_emit *e, ml_v tile, ml_v units, ml_v tiles)
{
	return LLVMBuildUDiv(e->b, ml_mul(e, tile, units), tiles, "");
}

static void
emit_units(row_emit *w, ml_dim rows)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_dims *dims = w->r.kernel->m->dims;
	ml_dim lanes = ml_dim_int(dims, ML_LANES);
	ml_dim chunks = ml_dim_int(dims, 1);
	int64_t n, unit = w->r.tile_elements;

	if (w->r.is_map && !(ml_dim_is_int(w->row, &n) && n <= unit))
		chunks = ml_dim_ceildiv(dims, w->row, ml_dim_int(dims, unit));
	w->blocks = ml_expr_dim(x, ml_dim_floordiv(dims, w->row, lanes));
	w->all_blocks = ml_expr_dim(x, ml_dim_ceildiv(dims, w->row, lanes));
	w->tail = ml_sub(e, ml_expr_dim(x, w->row), ml_mul(e, w->blocks, ml_i64(e, ML_LANES)));
	ml_v per_row = ml_expr_dim(x, chunks);
	ml_v units = ml_mul(e, ml_expr_dim(x, rows), per_row);
	ml_v shares = ml_scalar_op(e, ML_OP_max, ML_s64,
				   (ml_v[]){ml_expr_dim(x, ml_rows_tiles(&w->r)), ml_i64(e, 1)});
	ml_loop l = ml_loop_begin(e, first_unit(e, ml_expr_begin(x), units, shares),
				  first_unit(e, ml_expr_end(x), units, shares), ml_i64(e, 1), NULL,
				  0, "row");
	int mark = ml_expr_mark(x);
	if (ml_dim_equals(chunks, 1)) {
		emit_row(w, l.i, ml_i64(e, 0), w->all_blocks);
	} else {
		ml_v from = LLVMBuildURem(e->b, l.i, per_row, "");
		ml_v blocks = ml_i64(e, unit / ML_LANES);
		from = ml_mul(e, from, blocks);
		ml_v to = ml_min_s(e, ml_add(e, from, blocks), w->all_blocks);
		emit_row(w, LLVMBuildUDiv(e->b, l.i, per_row, ""), from, to);
	}
	ml_expr_release(x, mark);
	ml_loop_end(e, &l, NULL);
}

ml_status
ml_rows_emit(ml_emit *e, ml_kernel *k, const char *name)
{
	ml_dims *dims = k->m->dims;
	row_emit w = {0};
	ml_depthwise d;

	ML_STEP(ml_rows_plan(k, &k->m->arena, &w.r));
	if (ml_depthwise_find(&w.r, &d))
		return ml_depthwise_emit(&d, e, name);
	ml_rows_merge(&w.r, e, &w.groups);
	ml_expr_open(&w.x, e, k, name);
	int outer = w.groups.n;
	if (!w.r.is_map)
		w.row = ml_dim_product(dims, w.r.space.dim + w.r.outer, w.r.space.rank - w.r.outer);
	else
		w.row = outer ? w.groups.size[--outer] : ml_dim_int(dims, 1);
	find_turns(&w);
	ml_dim rows = ml_dim_int(dims, 1);
	for (int g = 0; g < outer; g++)
		if (!w.turns || g != w.turning)
			rows = ml_dim_mul(dims, rows, w.groups.size[g]);
	emit_units(&w, rows);
	return ml_expr_close(&w.x);
}
