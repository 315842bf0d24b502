/* attention_rows.c -- queries, keys and values of attention as rows of 8-bit integers. */
#include "attention_int8.h"

enum { FLOAT = 4, ALIGN = 64, FEW = 8 };

_Static_assert(ML_ATTENTION_SIZE <= 4 * ML_FOLD_CHUNK && ML_ATTENTION_KEYS <= 4 * ML_FOLD_CHUNK,
	       "panels of keys and values are one chunk");

ml_v
ml_piece_at(ml_attention_int8 *w, ml_piece piece, LLVMTypeRef type, ml_v at)
{
	return ml_gep(w->x.e, type, w->piece[piece], at);
}

/* A row of a few vectors: their code one behind the other. */
static ml_v
pass_over_few(ml_attention_int8 *w, int64_t size, ml_row_pass *pass, const void *user, ml_v partial)
{
	ml_emit *e = w->x.e;

	for (int64_t at = 0; at < size; at += ML_LANES) {
		int mark = ml_expr_mark(&w->x);
		ml_v count = size - at < ML_LANES ? ml_i64(e, size - at) : NULL;
		partial = pass(w, user, ml_i64(e, at), count, partial);
		ml_expr_release(&w->x, mark);
	}
	return partial;
}

ml_v
ml_pass_over_row(ml_attention_int8 *w, ml_v size, ml_row_pass *pass, const void *user, ml_v partial)
{
	ml_emit *e = w->x.e;
	int64_t n;

	if (ml_const_i64(size, &n) && n <= FEW * ML_LANES)
		return pass_over_few(w, n, pass, user, partial);
	ml_v lanes = ml_i64(e, ML_LANES), zero = ml_i64(e, 0);
	ml_v whole = LLVMBuildAnd(e->b, size, ml_i64(e, -ML_LANES), "");
	ml_v tail = ml_sub(e, size, whole), result = ml_alloca(e, LLVMTypeOf(partial), ALIGN);
	ml_loop l = ml_loop_begin(e, zero, whole, lanes, &partial, 1, "lanes");
	int mark = ml_expr_mark(&w->x);
	ml_v next = pass(w, user, l.i, NULL, l.carry[0]);

	ml_expr_release(&w->x, mark);
	ml_loop_end(e, &l, &next);
	ml_store(e, l.carry[0], result, ALIGN);
	ml_if rest = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGT, tail, zero, ""));
	next = pass(w, user, whole, tail, l.carry[0]);
	ml_expr_release(&w->x, mark);
	ml_store(e, next, result, ALIGN);
	ml_if_end(e, &rest);
	return ml_load(e, LLVMTypeOf(partial), result, ALIGN);
}

/* Rows being made. */
typedef struct int_rows {
	const ml_attention_rows *rows;
	const ml_value *total; /* of the integers, or NULL */
	ml_dim size, index[ML_MAX_RANK];
	ml_v to; /* the row's bytes */
} int_rows;

static ml_v
lanes_of(ml_expr *x, const ml_value *v, const int_rows *r, ml_v at, ml_v count)
{
	ml_expr_set_block(x, LLVMBuildLShr(x->e->b, at, ml_i64(x->e, 4), ""), count);
	ml_v lanes = ml_expr_at(x, v, r->index);

	return ml_is_vector(lanes) ? lanes : ml_splat(x->e, lanes);
}

static ml_v
kept(ml_emit *e, ml_v count, ml_v next, ml_v partial)
{
	return count ? LLVMBuildSelect(e->b, ml_lane_mask(e, count), next, partial, "") : next;
}

static ml_v
larger(ml_emit *e, ml_v a, ml_v b)
{
	return ml_scalar_op(e, ML_OP_max, ML_f32, (ml_v[]){a, b});
}

static ml_v
sum(ml_emit *e, ml_v a, ml_v b)
{
	return LLVMBuildAdd(e->b, a, b, "");
}

static ml_v
magnitude_pass(ml_attention_int8 *w, const void *user, ml_v at, ml_v count, ml_v partial)
{
	const int_rows *r = user;
	ml_v v = lanes_of(&w->x, ml_in(r->rows->magnitude->def, 0), r, at, count);

	w->x.count = NULL;
	return kept(w->x.e, count, larger(w->x.e, partial, v), partial);
}

static ml_v
integer_pass(ml_attention_int8 *w, const void *user, ml_v at, ml_v count, ml_v partial)
{
	const int_rows *r = user;
	const ml_value *q = r->rows->integers;
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_v v = ml_to_memory(e, q->type.dtype, lanes_of(x, q, r, at, count)), next = partial;

	/* the row is whole vectors: what is behind its end must not count */
	v = kept(e, count, v, LLVMConstNull(LLVMTypeOf(v)));
	ml_store(e, v, ml_gep(e, e->i8, r->to, at), 1);
	if (r->total)
		next = sum(e, partial, lanes_of(x, ml_in(r->total->def, 0), r, at, count));
	x->count = NULL;
	return kept(e, count, next, partial);
}

/* The row at the index: its bytes; magnitude and total. */
static ml_v
emit_row(ml_attention_int8 *w, int_rows *r, ml_v *total)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	int last = r->rows->integers->type.rank - 1;
	ml_v size = ml_expr_dim(x, r->size), none = LLVMConstNull(ml_vec_type(e->f32));

	r->index[last] = ml_expr_lanes(x, ml_i64(e, 0), r->size);
	ml_v top = ml_reduce_lanes(e, ml_pass_over_row(w, size, magnitude_pass, r, none), larger);
	ml_expr_bind(x, r->rows->magnitude, top);
	none = LLVMConstNull(ml_vec_type(e->i32));
	*total = ml_pass_over_row(w, size, integer_pass, r, none);
	if (r->total)
		*total = ml_reduce_lanes(e, *total, sum);
	ml_expr_no_lanes(x);
	return top;
}

static ml_dim
symbol(ml_attention_int8 *w, const ml_sym *s)
{
	return ml_dim_sym(w->x.kernel->m->dims, s);
}

/* The head of keys, and the head of queries among those that it serves. */
static ml_dim
head_of(ml_attention_int8 *w, ml_dim *among)
{
	ml_dims *dims = w->x.kernel->m->dims;

	return ml_expr_divide(&w->x, symbol(w, w->head), ml_dim_floordiv(dims, w->h, w->g), among);
}

void
ml_attention_take_queries(ml_attention_int8 *w)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	int_rows r = {.rows = &w->p.q, .size = w->d};
	ml_dim scale[ML_MAX_RANK], zero = ml_dim_int(dims, 0);
	ml_v rows = ml_sub(e, w->tile_end, w->tile_row), stride = ml_expr_dim(x, w->d_stride),
	     total;

	scale[0] = r.index[0] = symbol(w, w->batch);
	scale[1] = r.index[1] = head_of(w, &r.index[2]);
	scale[2] = r.index[2];
	scale[3] = r.index[3] = symbol(w, w->query);
	scale[4] = zero;
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), rows, ml_i64(e, 1), NULL, 0, "query");
	int mark = ml_expr_mark(x);
	ml_expr_set_symbol(x, w->query, ml_add(e, w->tile_row, l.i));
	r.to = ml_piece_at(w, ML_PIECE_QUERIES, e->i8, ml_mul(e, l.i, stride));
	emit_row(w, &r, &total);
	ml_store(e, ml_expr_at(x, w->p.q_scale, scale),
		 ml_piece_at(w, ML_PIECE_Q_SCALE, e->f32, l.i), FLOAT);
	ml_expr_release(x, mark);
	ml_loop_end(e, &l, NULL);
}

/* ---- keys and values ---- */

static void
key_index(ml_attention_int8 *w, ml_dim key, ml_dim *index)
{
	ml_dim among;

	index[0] = symbol(w, w->batch);
	index[1] = head_of(w, &among);
	index[2] = key;
	index[3] = ml_dim_int(w->x.kernel->m->dims, 0);
}

static void
emit_keys(ml_attention_int8 *w)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	int_rows k = {.rows = &w->p.k, .size = w->d, .total = w->p.k_total};
	int_rows v = {.rows = &w->p.v, .size = w->e};
	ml_v total, none;
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), w->keys, ml_i64(e, 1), NULL, 0, "key");
	int mark = ml_expr_mark(x);

	ml_expr_set_symbol(x, w->key_position, ml_add(e, w->key, l.i));
	key_index(w, symbol(w, w->key_position), k.index);
	key_index(w, symbol(w, w->key_position), v.index);
	k.to = ml_piece_at(w, ML_PIECE_KEYS, e->i8, ml_mul(e, l.i, ml_expr_dim(x, w->d_stride)));
	v.to = ml_piece_at(w, ML_PIECE_VALUES, e->i8, ml_mul(e, l.i, ml_expr_dim(x, w->e_stride)));
	ml_store(e, emit_row(w, &k, &total), ml_piece_at(w, ML_PIECE_K_TOP, e->f32, l.i), FLOAT);
	ml_store(e, total, ml_piece_at(w, ML_PIECE_K_SUM, e->i32, l.i), FLOAT);
	ml_store(e, emit_row(w, &v, &none), ml_piece_at(w, ML_PIECE_V_LOG, e->f32, l.i), FLOAT);
	ml_expr_release(x, mark);
	ml_loop_end(e, &l, NULL);
}

static void
bind_piece(ml_attention_int8 *w, const ml_value *v, ml_piece piece, LLVMTypeRef type, ml_v at)
{
	ml_v from = ml_piece_at(w, piece, type, at);

	ml_expr_bind(&w->x, v, ml_load(w->x.e, ml_vec_type(type), from, ALIGN));
}

static void
store_piece(ml_attention_int8 *w, const ml_value *v, const ml_dim *index, ml_piece piece, ml_v at)
{
	ml_emit *e = w->x.e;

	ml_store(e, ml_expr_at(&w->x, v, index), ml_piece_at(w, piece, e->f32, at), ALIGN);
}

/* What scores and divisors need of each key, 16 keys at a time, from magnitudes and totals; keys
 * that only fill the block up add nothing to divisors. */
static void
emit_scales(ml_attention_int8 *w)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_dim index[ML_MAX_RANK];
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), w->keys, ml_i64(e, ML_LANES), NULL, 0, "keys");
	int mark = ml_expr_mark(x);

	key_index(w, symbol(w, w->key_position), index);
	bind_piece(w, w->p.k.magnitude, ML_PIECE_K_TOP, e->f32, l.i);
	bind_piece(w, w->p.k_total, ML_PIECE_K_SUM, e->i32, l.i);
	bind_piece(w, w->p.v.magnitude, ML_PIECE_V_LOG, e->f32, l.i);
	store_piece(w, w->p.k.top, index, ML_PIECE_K_TOP, l.i);
	store_piece(w, w->p.k_sum, index, ML_PIECE_K_SUM, l.i);
	store_piece(w, w->p.v_log, index, ML_PIECE_V_LOG, l.i);
	store_piece(w, w->p.v_by, index, ML_PIECE_V_BY, l.i);
	ml_expr_release(x, mark);
	ml_loop_end(e, &l, NULL);
	ml_loop f = ml_loop_begin(e, w->keys, w->wide, ml_i64(e, 1), NULL, 0, "fill");
	ml_store(e, ml_f32(e, 0), ml_piece_at(w, ML_PIECE_V_BY, e->f32, f.i), FLOAT);
	ml_loop_end(e, &f, NULL);
}

static ml_v
load_key(void *user, ml_emit *e, ml_v k, ml_v column, ml_v count)
{
	ml_attention_int8 *w = user;
	ml_v row = ml_mul(e, column, ml_expr_dim(&w->x, w->d_stride));

	return ml_load_lanes(e, e->i8, ml_piece_at(w, ML_PIECE_KEYS, e->i8, ml_add(e, row, k)),
			     count, 1);
}

/* Position k of 64 keys is key k / 4 of quarter k % 4, as probabilities have them. */
static ml_v
load_value(void *user, ml_emit *e, ml_v k, ml_v column, ml_v count)
{
	ml_attention_int8 *w = user;
	ml_v in_wide = LLVMBuildAnd(e->b, k, ml_i64(e, ML_WIDE_KEYS - 1), "");
	ml_v quarter = LLVMBuildAnd(e->b, k, ml_i64(e, ML_WIDE - 1), "");
	ml_v key = ml_add(e, ml_sub(e, k, in_wide), ml_mul(e, quarter, ml_i64(e, ML_LANES)));

	key = ml_add(e, key, LLVMBuildLShr(e->b, in_wide, ml_i64(e, 2), ""));
	ml_v row = ml_mul(e, key, ml_expr_dim(&w->x, w->e_stride));
	return ml_load_lanes(
		e, e->i8, ml_piece_at(w, ML_PIECE_VALUES, e->i8, ml_add(e, row, column)), count, 1);
}

ml_v
ml_attention_panels(ml_emit *e, ml_v columns)
{
	return LLVMBuildUDiv(e->b, ml_add(e, columns, ml_i64(e, ML_PANEL - 1)), ml_i64(e, ML_PANEL),
			     "");
}

void
ml_attention_take_keys(ml_attention_int8 *w)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_pack keys = {.form = ML_CONTRACT_U8S8,
			.dst = w->piece[ML_PIECE_KEY_PANELS],
			.k = ml_expr_dim(x, w->d_stride),
			.n = w->columns,
			.panel_begin = ml_i64(e, 0),
			.panel_end = ml_attention_panels(e, w->keys),
			.plain = 2,
			.along_k = true,
			.load = load_key,
			.user = w};
	ml_pack values = {.form = ML_CONTRACT_U8S8,
			  .dst = w->piece[ML_PIECE_VALUE_PANELS],
			  .k = w->wide,
			  .n = ml_expr_dim(x, w->e_stride),
			  .panel_begin = ml_i64(e, 0),
			  .panel_end = ml_attention_panels(e, ml_expr_dim(x, w->e)),
			  .plain = 1,
			  .load = load_value,
			  .user = w};

	emit_keys(w);
	emit_scales(w);
	ml_emit_pack(e, &keys);
	ml_emit_pack(e, &values);
}
