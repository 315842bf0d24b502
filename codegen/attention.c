/* attention.c -- attention kernels: from q, k and v to the output, without a tensor of all scores.
 *
 * The specification holds both dots and what lies between them.  A tile is a block of query rows of
 * one head.  A thread takes a few of them at once through the keys, block by block: keys and values
 * of a block become panels in scratch; for a few rows at a time the scores go there, too, through
 * the first contraction's epilogue (scale, mask), are made relative to the largest of the row so
 * far, and are the left operand of the second contraction, whose sums are rescaled when that
 * maximum rises.  The division by the sum of the row comes last.  So scratch is bounded whatever
 * the length.
 *
 * Blocks begin at multiples of their size: keys that a mask hides at the end add zeros and change
 * no bit, so that n tokens and one more are n + 1 tokens.
 */
#include "attention_plan.h"
#include "family.h"
#include "vmath.h"
#include <math.h>

enum {
	ROW_BLOCK = ML_LANES, /* rows whose scores are in scratch */
	FLOAT = 4,
	ALIGN = 64
};

typedef struct attention_emit {
	ml_expr x;
	ml_attention a;
	ml_dots_emit scores, heads;
	ml_v tile_row, tile_end; /* rows of the tiles of the pass */
	ml_v row, rows;          /* first row of the block, and their number */
	ml_v key, keys;          /* first key of the block, and their number */
	/* scratch, aligned: panels of the block; scores [ROW_BLOCK][ML_KEY_BLOCK]; by rows of the
	 * tile the output so far [width], partial sums [16], the largest score and what the output
	 * is rescaled by */
	ml_v key_panels, value_panels, score, output, sums, tops, rescale;
	ml_v width;
} attention_emit;

/* Bytes of one row of the tile besides its scores: output, sums, two numbers. */
static ml_dim
row_bytes(ml_dims *dims, const ml_attention *a)
{
	ml_dim floats = ml_dim_add(dims, a->width, ml_dim_int(dims, ML_LANES + 2));

	return ml_dim_mul(dims, floats, ml_dim_int(dims, FLOAT));
}

ml_status
ml_attention_grid(ml_kernel *k, ml_grid *grid)
{
	ml_dims *dims = k->m->dims;
	ml_attention a;

	if (ml_attention_is_int8(k))
		return ml_attention_int8_grid(k, grid);
	ML_STEP(ml_attention_plan(k, &a));
	grid->tiles = ml_dim_mul(dims, a.scores.batches, a.tiles_per_head);
	ml_dim rows = ml_dim_mul(dims, row_bytes(dims, &a), ml_dim_int(dims, ML_PASS_ROWS));
	ml_dim panels = ml_dim_add(dims, a.key_bytes, a.value_bytes);
	ml_dim scores = ml_dim_int(dims, ROW_BLOCK * ML_KEY_BLOCK * FLOAT);
	grid->scratch_bytes = ml_dim_add(dims, ml_dim_add(dims, a.query_bytes, panels),
					 ml_dim_add(dims, rows, scores));
	return ML_OK;
}

/* ---- scores ---- */

static void
store_scores(void *user, ml_emit *e, ml_v row, ml_v column, ml_v count, ml_v acc)
{
	attention_emit *w = user;
	ml_expr *x = &w->x;
	const ml_type *from = &w->a.scores.dot->out[0].type, *to = &w->a.score->type;
	ml_dim index[ML_MAX_RANK], at[ML_MAX_RANK];
	int mark = ml_expr_mark(x);

	ml_dots_bind(&w->scores, row, ml_add(e, column, w->key), count, acc, index);
	ml_expr_delinear(x, to->rank, to->dim, ml_expr_linear(x, from->rank, from->dim, index), at);
	ml_v v = ml_expr_at(x, w->a.score, at);
	ml_v local = ml_sub(e, ml_add(e, row, w->scores.first_row), w->row);
	ml_v offset = ml_add(e, ml_mul(e, local, ml_i64(e, ML_KEY_BLOCK)), column);
	ml_store_lanes(e, v, ml_gep(e, e->f32, w->score, offset), count, FLOAT);
	x->count = NULL;
	ml_expr_release(x, mark);
}

static void
emit_scores(attention_emit *w, const ml_contract *tile)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_contract c = *tile;

	c.row_begin = ml_add(e, tile->row_begin, ml_sub(e, w->row, w->tile_row));
	c.row_end = ml_add(e, c.row_begin, w->rows);
	c.b = w->key_panels;
	c.columns = w->keys;
	c.panel_end = LLVMBuildUDiv(e->b, ml_add(e, w->keys, ml_i64(e, ML_PANEL - 1)),
				    ml_i64(e, ML_PANEL), "");
	w->scores.column = ml_expr_lanes(x, ml_i64(e, 0), w->a.scores.n);
	ml_emit_contract(e, &c);
	ml_expr_no_lanes(x);
}

/* ---- softmax in scratch ---- */

/* exp(score - top), which is never above 1. */
static ml_v
exponential(ml_emit *e, ml_v score, ml_v top)
{
	return ml_vm_exp_below(e, LLVMBuildFSub(e->b, score, top, ""));
}

/* A score that is no number is passed over here: its exponential makes the row's sum none. */
static ml_v
larger(ml_emit *e, ml_v a, ml_v b)
{
	return LLVMBuildSelect(e->b, LLVMBuildFCmp(e->b, LLVMRealOLT, a, b, ""), b, a, "");
}

static ml_v
added(ml_emit *e, ml_v a, ml_v b)
{
	return ml_scalar_op(e, ML_OP_add, ML_f32, (ml_v[]){a, b});
}

/* What a pass over a row does with 16 scores: the new partial results. */
typedef ml_v row_pass(attention_emit *, ml_v scalar, ml_v at, ml_v count, ml_v partial);

static ml_v
keep_missing(ml_emit *e, ml_v count, ml_v next, ml_v partial)
{
	return count ? LLVMBuildSelect(e->b, ml_lane_mask(e, count), next, partial, "") : next;
}

static ml_v
top_pass(attention_emit *w, ml_v scalar, ml_v at, ml_v count, ml_v partial)
{
	ml_emit *e = w->x.e;
	ml_v score = ml_load_lanes(e, e->f32, at, count, FLOAT);

	(void)scalar;
	return keep_missing(e, count, larger(e, partial, score), partial);
}

static ml_v
exponential_pass(attention_emit *w, ml_v top, ml_v at, ml_v count, ml_v partial)
{
	ml_emit *e = w->x.e;
	ml_v v = exponential(e, ml_load_lanes(e, e->f32, at, count, FLOAT), top);

	ml_store_lanes(e, v, at, count, FLOAT);
	return keep_missing(e, count, added(e, partial, v), partial);
}

static ml_v
pass_over_row(attention_emit *w, row_pass *pass, ml_v row, ml_v scalar, ml_v partial)
{
	ml_emit *e = w->x.e;
	ml_v lanes = ml_i64(e, ML_LANES), blocks = LLVMBuildUDiv(e->b, w->keys, lanes, "");
	ml_v whole = ml_mul(e, blocks, lanes), tail = ml_sub(e, w->keys, whole);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), whole, lanes, &partial, 1, "block");
	ml_v next = pass(w, scalar, ml_gep(e, e->f32, row, l.i), NULL, l.carry[0]);
	ml_loop_end(e, &l, &next);

	ml_v result = ml_alloca(e, LLVMTypeOf(partial), ALIGN);
	ml_store(e, l.carry[0], result, ALIGN);
	ml_if rest = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGT, tail, ml_i64(e, 0), ""));
	next = pass(w, scalar, ml_gep(e, e->f32, row, whole), tail, l.carry[0]);
	ml_store(e, next, result, ALIGN);
	ml_if_end(e, &rest);
	return ml_load(e, LLVMTypeOf(partial), result, ALIGN);
}

/* Element (row of the tile, at) of a part of scratch with `stride` floats a row. */
static ml_v
in_row(attention_emit *w, ml_v part, ml_v row, ml_v stride)
{
	return ml_gep(w->x.e, w->x.e->f32, part, ml_mul(w->x.e, row, stride));
}

/* The largest score of each row of the block, in the place of what its output is rescaled by. */
static void
emit_tops(attention_emit *w)
{
	ml_emit *e = w->x.e;
	ml_v one = ml_i64(e, 1), none = ml_splat(e, ml_f32(e, -INFINITY));
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), w->rows, one, NULL, 0, "row");
	ml_v row = in_row(w, w->score, l.i, ml_i64(e, ML_KEY_BLOCK));
	ml_v top = pass_over_row(w, top_pass, row, NULL, none);
	ml_v r = ml_add(e, ml_sub(e, w->row, w->tile_row), l.i);

	ml_store(e, ml_reduce_lanes(e, top, larger), in_row(w, w->rescale, r, one), FLOAT);
	ml_loop_end(e, &l, NULL);
}

/* 0 in the place of -inf: nothing was seen yet, and -inf less -inf would be no number. */
static ml_v
or_zero(ml_emit *e, ml_v top)
{
	ml_v none = ml_splat_like(e, ml_f32(e, -INFINITY), top);
	ml_v unseen = LLVMBuildFCmp(e->b, LLVMRealOEQ, top, none, "");

	return LLVMBuildSelect(e->b, unseen, LLVMConstNull(LLVMTypeOf(top)), top, "");
}

/* All rows of the block at once: the largest score so far, and what that makes of the output. */
static void
emit_rescale(attention_emit *w)
{
	ml_emit *e = w->x.e;
	ml_v at = ml_sub(e, w->row, w->tile_row), one = ml_i64(e, 1);
	ml_v top_at = in_row(w, w->tops, at, one), rescale_at = in_row(w, w->rescale, at, one);
	ml_v before = ml_load(e, ml_vec_type(e->f32), top_at, FLOAT);
	ml_v top = larger(e, before, ml_load(e, ml_vec_type(e->f32), rescale_at, FLOAT));

	ml_store(e, top, top_at, FLOAT);
	ml_store(e, exponential(e, before, or_zero(e, top)), rescale_at, FLOAT);
}

/* Scores become exponentials of their distance to the largest score so far. */
static void
emit_exponentials(attention_emit *w)
{
	ml_emit *e = w->x.e;
	ml_v one = ml_i64(e, 1), at = ml_sub(e, w->row, w->tile_row);

	emit_tops(w);
	emit_rescale(w);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), w->rows, one, NULL, 0, "row");
	ml_v row = in_row(w, w->score, l.i, ml_i64(e, ML_KEY_BLOCK)), r = ml_add(e, at, l.i);
	ml_v sums = in_row(w, w->sums, r, ml_i64(e, ML_LANES));
	ml_v top = or_zero(e, ml_load(e, e->f32, in_row(w, w->tops, r, one), FLOAT));
	ml_v rescale = ml_load(e, e->f32, in_row(w, w->rescale, r, one), FLOAT);
	ml_v sum = ml_load(e, ml_vec_type(e->f32), sums, FLOAT);
	sum = LLVMBuildFMul(e->b, sum, ml_splat(e, rescale), "");
	ml_store(e, pass_over_row(w, exponential_pass, row, ml_splat(e, top), sum), sums, FLOAT);
	ml_loop_end(e, &l, NULL);
}

/* ---- weighted sums ---- */

static void
add_output(void *user, ml_emit *e, ml_v row, ml_v column, ml_v count, ml_v acc)
{
	attention_emit *w = user;
	ml_v r = ml_add(e, ml_sub(e, w->row, w->tile_row), row);
	ml_v at = ml_gep(e, e->f32, in_row(w, w->output, r, w->width), column);
	ml_v rescale = ml_load(e, e->f32, in_row(w, w->rescale, r, ml_i64(e, 1)), FLOAT);

	(void)count; /* the row is whole panels, zero behind the last column */
	acc = ml_fma(e, ml_load(e, LLVMTypeOf(acc), at, FLOAT), ml_splat(e, rescale), acc);
	ml_store(e, acc, at, FLOAT);
}

static ml_contract
weighted_sums(attention_emit *w)
{
	ml_emit *e = w->x.e;

	return (ml_contract){
		.form = w->a.heads.form,
		.a = w->score,
		.lda = ml_i64(e, ML_KEY_BLOCK),
		.b = w->value_panels,
		.k = w->keys,
		.row_begin = ml_i64(e, 0),
		.row_end = w->rows,
		.panel_begin = ml_i64(e, 0),
		.panel_end = LLVMBuildUDiv(e->b, w->width, ml_i64(e, ML_PANEL), ""),
		.columns = w->width,
		.store = add_output,
		.user = w,
	};
}

/* ---- tiles ---- */

/* Takes the next `floats` of scratch. */
static ml_v
take(attention_emit *w, ml_v *at, ml_v bytes)
{
	ml_v part = *at;

	*at = ml_gep(w->x.e, w->x.e->i8, part, bytes);
	return part;
}

static void
lay_out_scratch(attention_emit *w)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_v at = ml_gep(e, e->i8, x->scratch, ml_expr_dim(x, w->a.query_bytes));
	ml_v floats = ml_i64(e, ML_PASS_ROWS * FLOAT);

	w->width = ml_expr_dim(x, w->a.width);
	w->key_panels = take(w, &at, ml_expr_dim(x, w->a.key_bytes));
	w->value_panels = take(w, &at, ml_expr_dim(x, w->a.value_bytes));
	w->score = take(w, &at, ml_i64(e, ROW_BLOCK * ML_KEY_BLOCK * FLOAT));
	w->output = take(w, &at, ml_mul(e, w->width, floats));
	w->sums = take(w, &at, ml_i64(e, ML_PASS_ROWS * FLOAT * ML_LANES));
	w->tops = take(w, &at, floats);
	w->rescale = at;
}

static void
clear_rows(attention_emit *w)
{
	ml_emit *e = w->x.e;
	ml_v rows = ml_sub(e, w->tile_end, w->tile_row), one = ml_i64(e, 1), zero = ml_i64(e, 0);
	ml_v none = LLVMConstNull(ml_vec_type(e->f32)), lanes = ml_i64(e, ML_LANES);
	ml_loop r = ml_loop_begin(e, zero, rows, one, NULL, 0, "row");

	ml_store(e, ml_f32(e, -INFINITY), in_row(w, w->tops, r.i, one), FLOAT);
	ml_store(e, none, in_row(w, w->sums, r.i, lanes), FLOAT);
	ml_loop c = ml_loop_begin(e, zero, w->width, lanes, NULL, 0, "column");
	ml_store(e, none, ml_gep(e, e->f32, in_row(w, w->output, r.i, w->width), c.i), FLOAT);
	ml_loop_end(e, &c, NULL);
	ml_loop_end(e, &r, NULL);
}

static ml_dots_block
block_of_keys(attention_emit *w)
{
	ml_emit *e = w->x.e;
	ml_v panel = ml_i64(e, ML_PANEL);
	ml_v last = ml_add(e, ml_add(e, w->key, w->keys), ml_i64(e, ML_PANEL - 1));

	return (ml_dots_block){
		.dst = w->key_panels,
		.k_begin = ml_i64(e, 0),
		.k_end = ml_expr_dim(&w->x, w->a.scores.k),
		.panel_begin = LLVMBuildUDiv(e->b, w->key, panel, ""),
		.panel_end = LLVMBuildUDiv(e->b, last, panel, ""),
	};
}

static ml_dots_block
block_of_values(attention_emit *w)
{
	ml_emit *e = w->x.e;

	return (ml_dots_block){
		.dst = w->value_panels,
		.k_begin = w->key,
		.k_end = ml_add(e, w->key, w->keys),
		.panel_begin = ml_i64(e, 0),
		.panel_end = LLVMBuildUDiv(e->b, w->width, ml_i64(e, ML_PANEL), ""),
	};
}

/* The keys that rows before `end` see. */
static ml_v
visible_keys(attention_emit *w, ml_v end)
{
	ml_expr *x = &w->x;
	ml_v keys = ml_expr_dim(x, w->a.scores.n);

	return w->a.hidden_by ? ml_min_s(x->e, keys, ml_add(x->e, end, ml_expr_dim(x, w->a.later)))
			      : keys;
}

static void
emit_row_block(attention_emit *w, const ml_contract *scores)
{
	ml_emit *e = w->x.e;
	ml_v end = ml_min_s(e, ml_add(e, w->row, ml_i64(e, ROW_BLOCK)), w->tile_end);

	w->rows = ml_sub(e, end, w->row);
	ml_v sees = LLVMBuildICmp(e->b, LLVMIntSLT, w->key, visible_keys(w, end), "");
	ml_if some = ml_if_begin(e, sees);
	emit_scores(w, scores);
	emit_exponentials(w);
	ml_contract sums = weighted_sums(w);
	ml_emit_contract(e, &sums);
	ml_if_end(e, &some);
}

/* A query alone, as in decoding: its keys and values are read once, as they lie. */
static void
emit_single(attention_emit *w, const ml_contract *scores)
{
	ml_emit *e = w->x.e;
	ml_contract c = *scores, sums = weighted_sums(w);
	ml_dots_block keys = block_of_keys(w), values = block_of_values(w);

	w->row = w->tile_row;
	w->rows = ml_i64(e, 1);
	c.columns = w->keys;
	w->scores.column = ml_expr_lanes(&w->x, ml_i64(e, 0), w->a.scores.n);
	ml_dots_row(&w->scores, &keys, &c);
	emit_exponentials(w);
	ml_dots_row(&w->heads, &values, &sums);
}

static void
emit_rows(attention_emit *w, const ml_contract *scores)
{
	ml_emit *e = w->x.e;
	ml_dots_block keys = block_of_keys(w), values = block_of_values(w);

	ml_dots_pack_block(&w->scores, &keys);
	ml_dots_pack_block(&w->heads, &values);
	ml_loop r =
		ml_loop_begin(e, w->tile_row, w->tile_end, ml_i64(e, ROW_BLOCK), NULL, 0, "rows");
	w->row = r.i;
	emit_row_block(w, scores);
	ml_loop_end(e, &r, NULL);
}

static void
emit_key_blocks(attention_emit *w, const ml_contract *scores)
{
	ml_emit *e = w->x.e;
	ml_v size = ml_i64(e, ML_KEY_BLOCK), all = ml_expr_dim(&w->x, w->a.scores.n);
	ml_loop k =
		ml_loop_begin(e, ml_i64(e, 0), visible_keys(w, w->tile_end), size, NULL, 0, "keys");
	int mark = ml_expr_mark(&w->x);

	w->key = k.i;
	w->keys = ml_min_s(e, ml_sub(e, all, k.i), size);
	if (ml_dots_has_row(&w->a.scores) && ml_dots_has_row(&w->a.heads)) {
		ml_v next = ml_add(e, w->tile_row, ml_i64(e, 1));
		ml_if single =
			ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntEQ, w->tile_end, next, ""));
		emit_single(w, scores);
		ml_if_else(e, &single);
		emit_rows(w, scores);
		ml_if_end(e, &single);
	} else {
		emit_rows(w, scores);
	}
	ml_expr_release(&w->x, mark);
	ml_loop_end(e, &k, NULL);
}

/* Columns `column` and up of a row, divided by the row's sum. */
static void
store_columns(attention_emit *w, ml_v row, ml_v sum, ml_v column, ml_v count)
{
	ml_emit *e = w->x.e;
	ml_v at = ml_gep(e, e->f32, in_row(w, w->output, row, w->width), column);
	ml_v args[] = {ml_load(e, ml_vec_type(e->f32), at, FLOAT), ml_splat(e, sum)};

	ml_dots_store(&w->heads, e, row, column, count, ml_scalar_op(e, ML_OP_div, ML_f32, args));
}

static void
store_rows(attention_emit *w)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_v lanes = ml_i64(e, ML_LANES), zero = ml_i64(e, 0);
	ml_v columns = ml_expr_dim(x, w->a.heads.n);
	ml_v whole = LLVMBuildAnd(e->b, columns, ml_i64(e, -ML_LANES), "");
	ml_v tail = ml_sub(e, columns, whole), rows = ml_sub(e, w->tile_end, w->tile_row);

	w->heads.first_row = w->tile_row;
	w->heads.column = ml_expr_lanes(x, zero, w->a.heads.n);
	ml_loop r = ml_loop_begin(e, zero, rows, ml_i64(e, 1), NULL, 0, "row");
	ml_v sums = ml_load(e, ml_vec_type(e->f32), in_row(w, w->sums, r.i, lanes), FLOAT);
	ml_v sum = ml_reduce_lanes(e, sums, added);
	ml_loop c = ml_loop_begin(e, zero, whole, lanes, NULL, 0, "column");
	store_columns(w, r.i, sum, c.i, NULL);
	ml_loop_end(e, &c, NULL);
	ml_if rest = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGT, tail, zero, ""));
	store_columns(w, r.i, sum, whole, tail);
	ml_if_end(e, &rest);
	ml_loop_end(e, &r, NULL);
	ml_expr_no_lanes(x);
}

/* The first tiles of the range, those of one head; returns how many. */
static ml_v
emit_pass(attention_emit *w, ml_v first, ml_v end)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_v number = first, rows = ml_i64(e, ML_TILE_ROWS);
	ml_v tiles = ml_expr_dim(x, w->a.tiles_per_head);
	ml_v block = ml_dots_remainder(e, &number, tiles);
	ml_v count = ml_min_s(e, ml_sub(e, end, first), ml_sub(e, tiles, block));
	ml_contract scores = {.store = store_scores, .user = w}, heads = {.user = NULL};

	w->tile_row = ml_mul(e, block, rows);
	count = ml_min_s(e, count, ml_i64(e, ML_PASS_TILES));
	w->tile_end = ml_min_s(e, ml_add(e, w->tile_row, ml_mul(e, count, rows)),
			       ml_expr_dim(x, w->a.scores.m));
	ml_dots_begin(&w->scores, &scores, number);
	ml_dots_begin(&w->heads, &heads, number);
	scores.row_begin = w->tile_row;
	scores.row_end = w->tile_end;
	ml_dots_place_lhs(&w->scores, &scores);
	lay_out_scratch(w);
	clear_rows(w);
	emit_key_blocks(w, &scores);
	store_rows(w);
	return count;
}

ml_status
ml_attention_emit(ml_emit *e, ml_kernel *k, const char *name)
{
	attention_emit w = {.tile_row = NULL};

	if (ml_attention_is_int8(k))
		return ml_attention_int8_emit(e, k, name);
	ML_STEP(ml_attention_plan(k, &w.a));
	w.scores = (ml_dots_emit){.x = &w.x, .d = w.a.scores};
	w.heads = (ml_dots_emit){.x = &w.x, .d = w.a.heads};
	ml_expr_open(&w.x, e, k, name);
	ml_loop l =
		ml_loop_begin(e, ml_expr_begin(&w.x), ml_expr_end(&w.x), NULL, NULL, 0, "tiles");
	int mark = ml_expr_mark(&w.x);
	l.step = emit_pass(&w, l.i, l.to);
	ml_expr_release(&w.x, mark);
	ml_loop_end(e, &l, NULL);
	return ml_expr_close(&w.x);
}
