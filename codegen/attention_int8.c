/* attention_int8.c -- attention on 8-bit integers: its body (ir/ops/attention.c) without a tensor
 * of all scores.
 *
 * A tile is a block of query rows of one head.  Its queries become u8 rows in scratch.  Block by
 * block, keys and values become s8 rows and then panels; what belongs to a key, its scales and sum,
 * lies beside them.  For a few rows at a time the scores of a block go to scratch, then, relative
 * to their largest, as u8 probabilities; the sums these give with the values are exact, and are
 * added to the output so far with the weights that the body gives to blocks.
 */
#include "attention_int8.h"
#include "dots.h"
#include "family.h"
#include "vmath.h"
#include <float.h>
#include <math.h>

enum {
	ROW_BLOCK = ML_LANES, /* rows whose scores are in scratch */
	KEYS = ML_ATTENTION_KEYS,
	FLOAT = 4,
	ALIGN = 64
};

/* ---- sizes ---- */

static ml_node *
attention_of(const ml_kernel *k)
{
	for (ml_node *n = k->m->main->first; n; n = n->next)
		if (n->op == ML_OP_attention)
			return n;
	return NULL;
}

bool
ml_attention_is_int8(const ml_kernel *k)
{
	return attention_of(k) != NULL;
}

static ml_dim
times(ml_dims *dims, ml_dim d, int64_t n)
{
	return ml_dim_mul(dims, d, ml_dim_int(dims, n));
}

static ml_dim
round_up(ml_dims *dims, ml_dim d, int64_t to)
{
	return times(dims, ml_dim_ceildiv(dims, d, ml_dim_int(dims, to)), to);
}

static void
plan(const ml_kernel *k, ml_attention_int8 *w)
{
	ml_dims *dims = k->m->dims;
	ml_node *n = attention_of(k);
	const ml_dim *q = ml_in(n, 0)->type.dim, *v = ml_in(n, 2)->type.dim;

	*w = (ml_attention_int8){.node = n, .h = q[1], .g = v[1], .s = q[2], .t = v[2]};
	w->d = q[3];
	w->e = v[3];
	w->d_stride = round_up(dims, w->d, ML_LANES);
	w->e_stride = round_up(dims, w->e, ML_LANES);
}

static void
piece_bytes(ml_dims *dims, const ml_attention_int8 *w, ml_dim bytes[ML_PIECES])
{
	ml_dim keys = ml_dim_int(dims, KEYS), rows = ml_dim_int(dims, ML_TILE_QUERIES * FLOAT);
	const ml_dim size[ML_PIECES] = {
		[ML_PIECE_QUERIES] = times(dims, w->d_stride, ML_TILE_QUERIES),
		[ML_PIECE_KEYS] = times(dims, w->d_stride, KEYS),
		[ML_PIECE_KEY_PANELS] = ml_pack_dim(dims, ML_CONTRACT_U8S8, w->d_stride, keys),
		[ML_PIECE_VALUES] = times(dims, w->e_stride, KEYS),
		[ML_PIECE_VALUE_PANELS] = ml_pack_dim(dims, ML_CONTRACT_U8S8, keys, w->e),
		[ML_PIECE_K_TOP] = times(dims, keys, FLOAT),
		[ML_PIECE_K_SUM] = times(dims, keys, FLOAT),
		[ML_PIECE_V_LOG] = times(dims, keys, FLOAT),
		[ML_PIECE_V_BY] = times(dims, keys, FLOAT),
		[ML_PIECE_SCORES] = times(dims, keys, ROW_BLOCK * FLOAT),
		[ML_PIECE_PROBABILITIES] = times(dims, keys, ROW_BLOCK),
		[ML_PIECE_OUTPUT] = ml_dim_mul(dims, w->e_stride, rows),
		[ML_PIECE_DIVISOR] = times(dims, rows, ML_LANES),
		[ML_PIECE_Q_SCALE] = rows,
		[ML_PIECE_TOP] = rows,
		[ML_PIECE_KEPT] = rows,
		[ML_PIECE_ADDED] = rows,
	};

	for (int i = 0; i < ML_PIECES; i++)
		bytes[i] = round_up(dims, size[i], ALIGN);
}

ml_status
ml_attention_int8_grid(ml_kernel *k, ml_grid *grid)
{
	ml_dims *dims = k->m->dims;
	ml_attention_int8 w;
	ml_dim bytes[ML_PIECES], tiles;

	plan(k, &w);
	piece_bytes(dims, &w, bytes);
	grid->scratch_bytes = ml_dim_int(dims, 0);
	for (int i = 0; i < ML_PIECES; i++)
		grid->scratch_bytes = ml_dim_add(dims, grid->scratch_bytes, bytes[i]);
	tiles = ml_dim_ceildiv(dims, w.s, ml_dim_int(dims, ML_TILE_QUERIES));
	tiles = ml_dim_mul(dims, tiles, w.h);
	grid->tiles = ml_dim_mul(dims, tiles, ml_in(w.node, 0)->type.dim[0]);
	return ML_OK;
}

/* ---- scores ---- */

/* Number of a row of the row block in the tile. */
static ml_v
in_tile(ml_attention_int8 *w, ml_v row)
{
	return ml_add(w->x.e, ml_sub(w->x.e, w->row, w->tile_row), row);
}

/* A score that is no number is passed over here: its exponential makes the row's divisor none. */
static ml_v
larger(ml_emit *e, ml_v a, ml_v b)
{
	return LLVMBuildSelect(e->b, LLVMBuildFCmp(e->b, LLVMRealOLT, a, b, ""), b, a, "");
}

static void
bind_keys(ml_attention_int8 *w, const ml_value *v, ml_piece piece, LLVMTypeRef type, ml_v column)
{
	ml_v from = ml_piece_at(w, piece, type, column);

	ml_expr_bind(&w->x, v, ml_load(w->x.e, ml_vec_type(type), from, ALIGN));
}

static void
store_scores(void *user, ml_emit *e, ml_v row, ml_v column, ml_v count, ml_v acc)
{
	ml_attention_int8 *w = user;
	ml_expr *x = &w->x;
	LLVMTypeRef type = ml_vec_type(e->f32);
	ml_dims *dims = x->kernel->m->dims;
	ml_dim index[] = {ml_dim_sym(dims, w->batch), ml_dim_sym(dims, w->head),
			  ml_dim_sym(dims, w->query), w->column};
	int mark = ml_expr_mark(x);

	ml_expr_set_symbol(x, w->query, ml_add(e, w->row, row));
	ml_expr_set_block(x, LLVMBuildLShr(e->b, ml_add(e, column, w->key), ml_i64(e, 4), ""),
			  count);
	ml_expr_bind(x, w->p.products, acc);
	bind_keys(w, w->p.k_sum, ML_PIECE_K_SUM, e->i32, column);
	bind_keys(w, w->p.k.top, ML_PIECE_K_TOP, e->f32, column);
	ml_v scale = ml_piece_at(w, ML_PIECE_Q_SCALE, e->f32, in_tile(w, row));
	ml_expr_bind(x, w->p.q_scale, ml_load(e, e->f32, scale, FLOAT));
	ml_v v = ml_expr_at(x, w->p.scores, index);
	ml_v log = ml_load(e, type, ml_piece_at(w, ML_PIECE_V_LOG, e->f32, column), ALIGN);
	v = ml_scalar_op(e, ML_OP_add, ML_f32, (ml_v[]){ml_splat_like(e, v, log), log});
	ml_v at = ml_add(e, ml_mul(e, row, ml_i64(e, KEYS)), column);
	ml_store_lanes(e, v, ml_piece_at(w, ML_PIECE_SCORES, e->f32, at), count, FLOAT);
	x->count = NULL;
	ml_expr_release(x, mark);
}

/* Keys that only fill the block up are never seen. */
static void
fill_scores(ml_attention_int8 *w)
{
	ml_emit *e = w->x.e;
	ml_v one = ml_i64(e, 1), none = ml_f32(e, -INFINITY);
	ml_loop r = ml_loop_begin(e, ml_i64(e, 0), w->rows, one, NULL, 0, "row");
	ml_v row = ml_mul(e, r.i, ml_i64(e, KEYS));
	ml_loop k = ml_loop_begin(e, w->keys, w->wide, one, NULL, 0, "fill");

	ml_store(e, none, ml_piece_at(w, ML_PIECE_SCORES, e->f32, ml_add(e, row, k.i)), FLOAT);
	ml_loop_end(e, &k, NULL);
	ml_loop_end(e, &r, NULL);
}

static void
emit_scores(ml_attention_int8 *w)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_v zero = ml_i64(e, 0), stride = ml_expr_dim(x, w->d_stride);
	ml_contract c = {
		.form = ML_CONTRACT_U8S8,
		.a = ml_piece_at(w, ML_PIECE_QUERIES, e->i8, ml_mul(e, in_tile(w, zero), stride)),
		.lda = stride,
		.b = w->piece[ML_PIECE_KEY_PANELS],
		.k = stride,
		.row_begin = zero,
		.row_end = w->rows,
		.panel_begin = zero,
		.panel_end = ml_attention_panels(e, w->keys),
		.columns = w->columns,
		.store = store_scores,
		.user = w,
	};

	fill_scores(w);
	w->column = ml_expr_lanes(x, zero, w->t);
	ml_emit_contract(e, &c);
	ml_expr_no_lanes(x);
}

/* ---- probabilities ---- */

/* Weights of the output so far and of the block, 16 rows at a time; the block's largest scores are
 * where they lie for that. */
static void
emit_weights(ml_attention_int8 *w, ml_v tops)
{
	ml_emit *e = w->x.e;
	LLVMTypeRef type = ml_vec_type(e->f32);
	ml_v at = in_tile(w, ml_i64(e, 0));
	ml_v top_at = ml_piece_at(w, ML_PIECE_TOP, e->f32, at);
	ml_v before = ml_load(e, type, top_at, FLOAT), block = ml_load(e, type, tops, FLOAT);
	ml_v top = larger(e, before, block);
	ml_v kept = ml_vm_exp(e, LLVMBuildFSub(e->b, before, top, ""));
	ml_v added = ml_vm_exp(e, LLVMBuildFSub(e->b, block, top, ""));

	ml_store(e, top, top_at, FLOAT);
	ml_store(e, kept, ml_piece_at(w, ML_PIECE_KEPT, e->f32, at), FLOAT);
	ml_store(e, added, ml_piece_at(w, ML_PIECE_ADDED, e->f32, at), FLOAT);
}

/* The row's largest score. */
static ml_v
top_of(ml_attention_int8 *w, ml_v scores)
{
	ml_emit *e = w->x.e;
	LLVMTypeRef type = ml_vec_type(e->f32);
	ml_v top[ML_WIDE], next[ML_WIDE];

	for (int i = 0; i < ML_WIDE; i++)
		top[i] = ml_splat(e, ml_f32(e, -FLT_MAX));
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), w->wide, ml_i64(e, ML_WIDE_KEYS), top, ML_WIDE,
				  "keys");
	for (int i = 0; i < ML_WIDE; i++) {
		ml_v at = ml_add(e, l.i, ml_i64(e, i * ML_LANES));
		next[i] = larger(e, l.carry[i],
				 ml_load(e, type, ml_gep(e, e->f32, scores, at), ALIGN));
	}
	ml_loop_end(e, &l, next);
	ml_v top_even = larger(e, l.carry[0], l.carry[2]);
	return ml_reduce_lanes(e, larger(e, top_even, larger(e, l.carry[1], l.carry[3])), larger);
}

/* 64 probabilities from scores and their largest: bytes of words.  Partial sums of the divisor. */
static ml_v
probabilities(ml_attention_int8 *w, ml_v scores, ml_v top, ml_v at, ml_v *sum)
{
	ml_emit *e = w->x.e;
	LLVMTypeRef type = ml_vec_type(e->f32), words = ml_vec_type(e->i32);
	ml_v packed = NULL;

	for (int i = 0; i < ML_WIDE; i++) {
		ml_v k = ml_add(e, at, ml_i64(e, i * ML_LANES));
		ml_v v = ml_load(e, type, ml_gep(e, e->f32, scores, k), ALIGN);
		ml_v by = ml_load(e, type, ml_piece_at(w, ML_PIECE_V_BY, e->f32, k), ALIGN);
		v = ml_vm_exp_short(e, LLVMBuildFSub(e->b, v, top, ""));
		sum[i] = ml_fma(e, v, by, sum[i]);
		/* 2^23 + n has n in its low bits; what is above is shifted out or masked */
		v = ml_fma(e, v, ml_splat(e, ml_f32(e, ML_ATTENTION_CERTAIN)),
			   ml_splat(e, ml_f32(e, 0x1p23)));
		v = LLVMBuildBitCast(e->b, v, words, "");
		v = i ? LLVMBuildShl(e->b, v, ml_splat(e, ml_i32(e, 8 * i)), "")
		      : LLVMBuildAnd(e->b, v, ml_splat(e, ml_i32(e, 0xff)), "");
		packed = packed ? LLVMBuildOr(e->b, packed, v, "") : v;
	}
	return packed;
}

/* The row's probabilities; the divisor's partial sums. */
static ml_v
emit_row(ml_attention_int8 *w, ml_v row, ml_v top)
{
	ml_emit *e = w->x.e;
	ml_v zero = ml_i64(e, 0), at = ml_mul(e, row, ml_i64(e, KEYS)), sum[ML_WIDE];
	ml_v scores = ml_piece_at(w, ML_PIECE_SCORES, e->f32, at);
	ml_v to = ml_piece_at(w, ML_PIECE_PROBABILITIES, e->i8, at);

	for (int i = 0; i < ML_WIDE; i++)
		sum[i] = LLVMConstNull(ml_vec_type(e->f32));
	ml_loop l = ml_loop_begin(e, zero, w->wide, ml_i64(e, ML_WIDE_KEYS), sum, ML_WIDE, "keys");
	for (int i = 0; i < ML_WIDE; i++)
		sum[i] = l.carry[i];
	ml_v p = probabilities(w, scores, ml_splat(e, top), l.i, sum);
	ml_store(e, p, ml_gep(e, e->i8, to, l.i), ALIGN);
	ml_loop_end(e, &l, sum);
	ml_v even = LLVMBuildFAdd(e->b, l.carry[0], l.carry[2], "");
	return LLVMBuildFAdd(e->b, even, LLVMBuildFAdd(e->b, l.carry[1], l.carry[3], ""), "");
}

static void
emit_probabilities(ml_attention_int8 *w)
{
	ml_emit *e = w->x.e;
	LLVMTypeRef type = ml_vec_type(e->f32);
	ml_v zero = ml_i64(e, 0), one = ml_i64(e, 1), tops = ml_alloca(e, type, ALIGN);
	ml_loop t = ml_loop_begin(e, zero, w->rows, one, NULL, 0, "row");
	ml_v scores = ml_piece_at(w, ML_PIECE_SCORES, e->f32, ml_mul(e, t.i, ml_i64(e, KEYS)));

	ml_store(e, top_of(w, scores), ml_gep(e, e->f32, tops, t.i), FLOAT);
	ml_loop_end(e, &t, NULL);
	emit_weights(w, tops);
	ml_loop l = ml_loop_begin(e, zero, w->rows, one, NULL, 0, "row");
	ml_v r = in_tile(w, l.i), to = ml_piece_at(w, ML_PIECE_DIVISOR, type, r);
	ml_v sum = emit_row(w, l.i, ml_load(e, e->f32, ml_gep(e, e->f32, tops, l.i), FLOAT));
	ml_v kept = ml_load(e, e->f32, ml_piece_at(w, ML_PIECE_KEPT, e->f32, r), FLOAT);
	ml_v added = ml_load(e, e->f32, ml_piece_at(w, ML_PIECE_ADDED, e->f32, r), FLOAT);
	ml_v so_far = LLVMBuildFMul(e->b, ml_load(e, type, to, ALIGN), ml_splat(e, kept), "");
	ml_store(e, ml_fma(e, sum, ml_splat(e, added), so_far), to, ALIGN);
	ml_loop_end(e, &l, NULL);
}

/* ---- sums ---- */

static ml_v
output_at(ml_attention_int8 *w, ml_v row, ml_v column)
{
	ml_emit *e = w->x.e;
	ml_v stride = ml_expr_dim(&w->x, w->e_stride);

	return ml_piece_at(w, ML_PIECE_OUTPUT, e->f32, ml_add(e, ml_mul(e, row, stride), column));
}

static void
add_output(void *user, ml_emit *e, ml_v row, ml_v column, ml_v count, ml_v acc)
{
	ml_attention_int8 *w = user;
	LLVMTypeRef type = ml_vec_type(e->f32);
	ml_v r = in_tile(w, row), at = output_at(w, r, column);
	ml_v kept = ml_load(e, e->f32, ml_piece_at(w, ML_PIECE_KEPT, e->f32, r), FLOAT);
	ml_v added = ml_load(e, e->f32, ml_piece_at(w, ML_PIECE_ADDED, e->f32, r), FLOAT);
	ml_v so_far = LLVMBuildFMul(e->b, ml_load(e, type, at, ALIGN), ml_splat(e, kept), "");

	(void)count; /* the row is whole panels, zero behind the last column */
	acc = LLVMBuildSIToFP(e->b, acc, type, "");
	ml_store(e, ml_fma(e, acc, ml_splat(e, added), so_far), at, ALIGN);
}

static void
emit_sums(ml_attention_int8 *w)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_contract c = {
		.form = ML_CONTRACT_U8S8,
		.a = w->piece[ML_PIECE_PROBABILITIES],
		.lda = ml_i64(e, KEYS),
		.b = w->piece[ML_PIECE_VALUE_PANELS],
		.k = w->wide,
		.row_begin = ml_i64(e, 0),
		.row_end = w->rows,
		.panel_begin = ml_i64(e, 0),
		.panel_end = ml_attention_panels(e, ml_expr_dim(x, w->e)),
		.columns = ml_expr_dim(x, w->e_stride),
		.store = add_output,
		.user = w,
	};

	ml_emit_contract(e, &c);
}

/* ---- tiles ---- */

static void
lay_out_scratch(ml_attention_int8 *w)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_dim bytes[ML_PIECES];
	ml_v at = x->scratch;

	piece_bytes(x->kernel->m->dims, w, bytes);
	for (int i = 0; i < ML_PIECES; i++) {
		w->piece[i] = at;
		at = ml_gep(e, e->i8, at, ml_expr_dim(x, bytes[i]));
	}
}

static void
clear_rows(ml_attention_int8 *w)
{
	ml_emit *e = w->x.e;
	LLVMTypeRef type = ml_vec_type(e->f32);
	ml_v rows = ml_sub(e, w->tile_end, w->tile_row), zero = ml_i64(e, 0), one = ml_i64(e, 1);
	ml_v none = LLVMConstNull(type), stride = ml_expr_dim(&w->x, w->e_stride);
	ml_loop r = ml_loop_begin(e, zero, rows, one, NULL, 0, "row");

	ml_store(e, ml_f32(e, -FLT_MAX), ml_piece_at(w, ML_PIECE_TOP, e->f32, r.i), FLOAT);
	ml_store(e, none, ml_piece_at(w, ML_PIECE_DIVISOR, type, r.i), ALIGN);
	ml_loop c = ml_loop_begin(e, zero, stride, ml_i64(e, ML_LANES), NULL, 0, "column");
	ml_store(e, none, output_at(w, r.i, c.i), ALIGN);
	ml_loop_end(e, &c, NULL);
	ml_loop_end(e, &r, NULL);
}

/* The keys that rows before `end` see. */
static ml_v
visible_keys(ml_attention_int8 *w, ml_v end)
{
	ml_expr *x = &w->x;
	ml_dim later = ml_dim_sub(x->kernel->m->dims, w->t, w->s);
	ml_v keys = ml_expr_dim(x, w->t);

	return w->p.seen ? ml_min_s(x->e, keys, ml_add(x->e, end, ml_expr_dim(x, later))) : keys;
}

static void
emit_row_block(ml_attention_int8 *w)
{
	ml_emit *e = w->x.e;
	ml_v end = ml_min_s(e, ml_add(e, w->row, ml_i64(e, ROW_BLOCK)), w->tile_end);

	w->rows = ml_sub(e, end, w->row);
	ml_if some =
		ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSLT, w->key, visible_keys(w, end), ""));
	emit_scores(w);
	emit_probabilities(w);
	emit_sums(w);
	ml_if_end(e, &some);
}

static void
emit_key_blocks(ml_attention_int8 *w)
{
	ml_emit *e = w->x.e;
	ml_v size = ml_i64(e, KEYS), all = ml_expr_dim(&w->x, w->t);
	int64_t keys;
	ml_loop k =
		ml_loop_begin(e, ml_i64(e, 0), visible_keys(w, w->tile_end), size, NULL, 0, "keys");
	int mark = ml_expr_mark(&w->x);

	w->key = k.i;
	w->keys = ml_min_s(e, ml_sub(e, all, k.i), size);
	w->wide = LLVMBuildAnd(e->b, ml_add(e, w->keys, ml_i64(e, ML_WIDE_KEYS - 1)),
			       ml_i64(e, -ML_WIDE_KEYS), "");
	/* panels without an end that is none need no code for it */
	bool whole = ml_dim_is_int(w->t, &keys) && keys % ML_PANEL == 0;
	w->columns = whole ? size : w->keys;
	ml_attention_take_keys(w);
	ml_loop r =
		ml_loop_begin(e, w->tile_row, w->tile_end, ml_i64(e, ROW_BLOCK), NULL, 0, "rows");
	w->row = r.i;
	emit_row_block(w);
	ml_loop_end(e, &r, NULL);
	ml_expr_release(&w->x, mark);
	ml_loop_end(e, &k, NULL);
}

typedef struct row_output {
	ml_v row, divisor;
	ml_dim index[6]; /* of the quotient */
} row_output;

/* Which NaN it is would depend on the order of operands that a level's code has. */
static ml_v
one_nan(ml_emit *e, ml_v v)
{
	ml_v nan = ml_splat(e, ml_f32(e, NAN));

	return LLVMBuildSelect(e->b, LLVMBuildFCmp(e->b, LLVMRealUNO, v, v, ""), nan, v, "");
}

static ml_v
output_pass(ml_attention_int8 *w, const void *user, ml_v column, ml_v count, ml_v partial)
{
	const row_output *r = user;
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	const ml_node *yield = x->kernel->m->main->last;
	ml_v args[] = {ml_load(e, ml_vec_type(e->f32), output_at(w, r->row, column), ALIGN),
		       r->divisor};
	ml_dim at[ML_MAX_RANK];
	ml_v *v = ML_NEW_ARRAY(x->arena, ml_v, yield->nin);

	ml_expr_set_block(x, LLVMBuildLShr(e->b, column, ml_i64(e, 4), ""), count);
	ml_expr_bind(x, w->p.out, one_nan(e, ml_scalar_op(e, ML_OP_div, ML_f32, args)));
	for (int store = 0; store < 2; store++)
		for (int i = 0; i < yield->nin; i++) {
			const ml_value *c = ml_expr_computed(x->kernel, ml_in(yield, i));
			ml_expr_delinear(x, c->type.rank, c->type.dim,
					 ml_expr_linear(x, 6, w->p.out->type.dim, r->index), at);
			if (store)
				ml_expr_store(x, i, c, at, v[i]);
			else
				v[i] = ml_expr_at(x, c, at);
		}
	x->count = NULL;
	return partial;
}

static ml_v
added(ml_emit *e, ml_v a, ml_v b)
{
	return ml_scalar_op(e, ML_OP_add, ML_f32, (ml_v[]){a, b});
}

static void
store_rows(ml_attention_int8 *w)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	ml_dim zero = ml_dim_int(dims, 0), shared = ml_dim_floordiv(dims, w->h, w->g);
	ml_v rows = ml_sub(e, w->tile_end, w->tile_row), none = ml_i64(e, 0);
	row_output o = {.index = {ml_dim_sym(dims, w->batch), NULL, zero, NULL,
				  ml_dim_sym(dims, w->query), NULL}};

	o.index[1] = ml_expr_divide(x, ml_dim_sym(dims, w->head), shared, &o.index[3]);
	o.index[5] = ml_expr_lanes(x, none, w->e);
	ml_loop r = ml_loop_begin(e, none, rows, ml_i64(e, 1), NULL, 0, "row");
	int mark = ml_expr_mark(x);
	ml_expr_set_symbol(x, w->query, ml_add(e, w->tile_row, r.i));
	ml_v sums = ml_piece_at(w, ML_PIECE_DIVISOR, ml_vec_type(e->f32), r.i);
	ml_v sum = ml_reduce_lanes(e, ml_load(e, ml_vec_type(e->f32), sums, ALIGN), added);
	o.row = r.i;
	o.divisor = ml_splat(e, LLVMBuildFMul(e->b, sum, ml_f32(e, ML_ATTENTION_CERTAIN), ""));
	ml_pass_over_row(w, ml_expr_dim(x, w->e), output_pass, &o, none);
	ml_expr_release(x, mark);
	ml_loop_end(e, &r, NULL);
	ml_expr_no_lanes(x);
}

static void
emit_tile(ml_attention_int8 *w, ml_v tile)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	ml_dim one = ml_dim_int(dims, 1), size = ml_dim_int(dims, ML_TILE_QUERIES);
	ml_dim batches = ml_in(w->node, 0)->type.dim[0];
	ml_v number = tile, rows = ml_i64(e, ML_TILE_QUERIES);
	ml_v block =
		ml_dots_remainder(e, &number, ml_expr_dim(x, ml_dim_ceildiv(dims, w->s, size)));
	ml_v head = ml_dots_remainder(e, &number, ml_expr_dim(x, w->h));

	w->batch = ml_expr_loop_var(x, number, ml_dim_sub(dims, batches, one));
	w->head = ml_expr_loop_var(x, head, ml_dim_sub(dims, w->h, one));
	w->query = ml_expr_loop_var(x, number, ml_dim_sub(dims, w->s, one));
	w->key_position = ml_expr_loop_var(x, number, ml_dim_sub(dims, w->t, one));
	w->tile_row = ml_mul(e, block, rows);
	w->tile_end = ml_min_s(e, ml_add(e, w->tile_row, rows), ml_expr_dim(x, w->s));
	lay_out_scratch(w);
	ml_attention_take_queries(w);
	clear_rows(w);
	emit_key_blocks(w);
	store_rows(w);
}

/* The node becomes its body. */
static ml_status
expand(ml_attention_int8 *w)
{
	ml_builder b = ml_builder_before(w->node);
	ml_value *in[4], *out;

	for (int i = 0; i < w->node->nin; i++)
		in[i] = ml_in(w->node, i);
	out = ml_attention_on_integers(&b, w->node, in, &w->p);
	if (!out)
		return b.failed;
	ml_replace_uses(&w->node->out[0], out);
	return ML_OK;
}

ml_status
ml_attention_int8_emit(ml_emit *e, ml_kernel *k, const char *name)
{
	ml_attention_int8 w;

	plan(k, &w);
	ML_STEP(expand(&w));
	ml_expr_open(&w.x, e, k, name);
	ml_loop l = ml_loop_begin(e, ml_expr_begin(&w.x), ml_expr_end(&w.x), ml_i64(e, 1), NULL, 0,
				  "tile");
	int mark = ml_expr_mark(&w.x);
	emit_tile(&w, l.i);
	ml_expr_release(&w.x, mark);
	ml_loop_end(e, &l, NULL);
	return ml_expr_close(&w.x);
}
