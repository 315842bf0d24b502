/* attention.c -- attention kernels: scores, softmax and weighted sum of a few query rows at a time.
 *
 * The specification holds both dots and what lies between them.  A tile is a block of query rows
 * of one head: its scores go to scratch through the first contraction's epilogue (scale, mask),
 * become probabilities there, and are the left operand of the second contraction.  So no tensor of
 * all scores exists.  Each step computes what the separate kernels would, in the same order: the
 * bits are the same.
 */
#include "dots.h"
#include "family.h"

enum { ROW_BLOCK = 32, SCORE_BYTES = 4, ALIGN = 64 };

typedef struct ml_attention {
	ml_dots scores, heads;
	const ml_value *score;       /* what the softmax is taken of */
	const ml_node *top, *sum;    /* its reductions */
	const ml_value *exponential; /* exp(score - top) */
	const ml_value *weight;      /* exponential / sum */
	ml_dim row_floats;           /* scores of a row, rounded up to whole blocks of lanes */
	ml_dim query_bytes;          /* of packed query rows, in front of the scores */
} ml_attention;

typedef struct attention_emit {
	ml_expr x;
	ml_attention a;
	ml_dots_emit scores, heads;
	ml_v tile_row; /* first row of the tile */
	ml_v score;    /* the scratch's scores */
	ml_v stride;   /* floats from row to row */
	ml_v blocks, tail;
} attention_emit;

/* ---- the parts of the specification ---- */

static const ml_node *
def_of(const ml_value *v, ml_op op)
{
	while (v && ml_is(v, ML_OP_reshape))
		v = ml_in(v->def, 0);
	return v && ml_is(v, op) ? v->def : NULL;
}

static const ml_node *
first_dot(const ml_kernel *k)
{
	for (const ml_node *n = k->m->main->first; n; n = n->next)
		if (n->op == ML_OP_dot)
			return n;
	return NULL;
}

static bool
find_softmax(ml_attention *a, const ml_node *heads)
{
	const ml_node *division = def_of(ml_in(heads, 0), ML_OP_div);
	const ml_node *exponential = division ? def_of(ml_in(division, 0), ML_OP_exp) : NULL;
	const ml_node *difference = exponential ? def_of(ml_in(exponential, 0), ML_OP_sub) : NULL;

	if (!difference)
		return false;
	a->sum = def_of(ml_in(division, 1), ML_OP_reduce_sum);
	a->top = def_of(ml_in(difference, 1), ML_OP_reduce_max);
	a->weight = &division->out[0];
	a->exponential = &exponential->out[0];
	a->score = ml_in(difference, 0);
	return a->sum && a->top && ml_in(a->top, 0) == a->score;
}

static ml_status
plan(ml_kernel *k, ml_attention *a)
{
	ml_dims *dims = k->m->dims;
	const ml_node *heads = ml_dots_find(k), *scores = first_dot(k);
	ml_dim lanes = ml_dim_int(dims, ML_LANES), align = ml_dim_int(dims, ALIGN);

	*a = (ml_attention){.row_floats = NULL};
	if (!heads || heads == scores || !find_softmax(a, heads))
		return ml_error(k->m->cx, ML_ERR_CODEGEN, NULL,
				"an attention kernel without softmax between two dots");
	ML_STEP(ml_dots_plan(k, scores, ROW_BLOCK, &a->scores));
	ML_STEP(ml_dots_plan(k, heads, ROW_BLOCK, &a->heads));
	a->row_floats = ml_dim_mul(dims, ml_dim_ceildiv(dims, a->scores.n, lanes), lanes);
	ml_dim bytes = ml_dots_scratch_bytes(&a->scores);
	a->query_bytes = ml_dim_mul(dims, ml_dim_ceildiv(dims, bytes, align), align);
	return ML_OK;
}

ml_status
ml_attention_grid(ml_kernel *k, ml_grid *grid)
{
	ml_dims *dims = k->m->dims;
	ml_attention a;

	ML_STEP(plan(k, &a));
	grid->tiles = ml_dim_mul(dims, a.scores.batches, a.scores.row_blocks);
	grid->scratch_bytes = ml_dim_add(
		dims, a.query_bytes,
		ml_dim_mul(dims, a.row_floats, ml_dim_int(dims, ROW_BLOCK * SCORE_BYTES)));
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

	ml_dots_bind(&w->scores, row, column, count, acc, index);
	ml_expr_delinear(x, to->rank, to->dim, ml_expr_linear(x, from->rank, from->dim, index), at);
	ml_v v = ml_expr_at(x, w->a.score, at);
	ml_v local = ml_sub(e, ml_add(e, row, w->scores.first_row), w->tile_row);
	ml_v offset = ml_add(e, ml_mul(e, local, w->stride), column);
	ml_store_lanes(e, v, ml_gep(e, e->f32, w->score, offset), count, SCORE_BYTES);
	x->count = NULL;
	ml_expr_release(x, mark);
}

/* ---- softmax in scratch ---- */

/* `result` where a is av and b is bv, whatever the index. */
static ml_v
apply(attention_emit *w, const ml_value *result, const ml_value *a, ml_v av, const ml_value *b,
      ml_v bv)
{
	ml_expr *x = &w->x;
	ml_dim index[ML_MAX_RANK];
	int mark = ml_expr_mark(x);

	for (int i = 0; i < result->type.rank; i++)
		index[i] = ml_dim_int(x->kernel->m->dims, 0);
	ml_expr_bind(x, a, av);
	ml_expr_bind(x, b, bv);
	ml_v v = ml_expr_at(x, result, index);
	ml_expr_release(x, mark);
	return v;
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
	ml_v args[] = {partial, ml_load_lanes(e, e->f32, at, count, SCORE_BYTES)};

	(void)scalar;
	return keep_missing(e, count, ml_scalar_op(e, ML_OP_max, ML_f32, args), partial);
}

static ml_v
exponential_pass(attention_emit *w, ml_v top, ml_v at, ml_v count, ml_v partial)
{
	ml_emit *e = w->x.e;
	ml_v score = ml_load_lanes(e, e->f32, at, count, SCORE_BYTES);
	ml_v v = apply(w, w->a.exponential, w->a.score, score, &w->a.top->out[0], top);
	ml_v args[] = {partial, v};

	ml_store_lanes(e, v, at, count, SCORE_BYTES);
	return keep_missing(e, count, ml_scalar_op(e, ML_OP_add, ML_f32, args), partial);
}

static ml_v
weight_pass(attention_emit *w, ml_v sum, ml_v at, ml_v count, ml_v partial)
{
	ml_emit *e = w->x.e;
	ml_v v = ml_load_lanes(e, e->f32, at, count, SCORE_BYTES);

	v = apply(w, w->a.weight, w->a.exponential, v, &w->a.sum->out[0], sum);
	ml_store_lanes(e, v, at, count, SCORE_BYTES);
	return partial;
}

static ml_v
pass_over_row(attention_emit *w, row_pass *pass, ml_v row, ml_v scalar, ml_op reduce)
{
	ml_emit *e = w->x.e;
	ml_v none = ml_splat(e, ml_reduce_neutral(e, reduce, ML_f32)), lanes = ml_i64(e, ML_LANES);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), w->blocks, ml_i64(e, 1), &none, 1, "block");
	ml_v at = ml_gep(e, e->f32, row, ml_mul(e, l.i, lanes));
	ml_v next = pass(w, scalar, at, NULL, l.carry[0]);
	ml_loop_end(e, &l, &next);

	ml_v partial = ml_alloca(e, LLVMTypeOf(none), ALIGN);
	ml_store(e, l.carry[0], partial, ALIGN);
	ml_if rest = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGT, w->tail, ml_i64(e, 0), ""));
	at = ml_gep(e, e->f32, row, ml_mul(e, w->blocks, lanes));
	ml_store(e, pass(w, scalar, at, w->tail, l.carry[0]), partial, ALIGN);
	ml_if_end(e, &rest);
	return ml_load(e, LLVMTypeOf(none), partial, ALIGN);
}

static ml_v
larger(ml_emit *e, ml_v a, ml_v b)
{
	return ml_scalar_op(e, ML_OP_max, ML_f32, (ml_v[]){a, b});
}

static ml_v
added(ml_emit *e, ml_v a, ml_v b)
{
	return ml_scalar_op(e, ML_OP_add, ML_f32, (ml_v[]){a, b});
}

static void
emit_softmax(attention_emit *w, ml_v rows)
{
	ml_emit *e = w->x.e;
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), rows, ml_i64(e, 1), NULL, 0, "row");
	ml_v row = ml_gep(e, e->f32, w->score, ml_mul(e, l.i, w->stride));

	ml_v top = pass_over_row(w, top_pass, row, NULL, ML_OP_reduce_max);
	top = ml_reduce_lanes(e, top, larger);
	ml_v sum = pass_over_row(w, exponential_pass, row, top, ML_OP_reduce_sum);
	sum = ml_reduce_lanes(e, sum, added);
	pass_over_row(w, weight_pass, row, sum, ML_OP_reduce_sum);
	ml_loop_end(e, &l, NULL);
}

/* ---- tiles ---- */

static void
emit_tile(attention_emit *w, ml_v tile)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	ml_v number = tile, keys = ml_expr_dim(x, w->a.scores.n), lanes = ml_i64(e, ML_LANES);
	ml_v block = ml_dots_remainder(e, &number, ml_expr_dim(x, w->a.scores.row_blocks));
	ml_contract scores = {.store = store_scores, .user = w};
	ml_contract heads = {.store = ml_dots_store, .user = &w->heads};

	w->score = ml_gep(e, e->i8, x->scratch, ml_expr_dim(x, w->a.query_bytes));
	w->stride = ml_expr_dim(x, w->a.row_floats);
	w->blocks =
		ml_expr_dim(x, ml_dim_floordiv(dims, w->a.scores.n, ml_dim_int(dims, ML_LANES)));
	w->tail = ml_sub(e, keys, ml_mul(e, w->blocks, lanes));
	w->tile_row = ml_mul(e, block, ml_i64(e, ROW_BLOCK));
	ml_v end = ml_min_s(e, ml_add(e, w->tile_row, ml_i64(e, ROW_BLOCK)),
			    ml_expr_dim(x, w->a.scores.m));
	ml_v rows = ml_sub(e, end, w->tile_row);

	ml_dots_begin(&w->scores, &scores, number);
	scores.row_begin = w->tile_row;
	scores.row_end = end;
	ml_dots_place_lhs(&w->scores, &scores);
	w->scores.column = ml_expr_lanes(x, ml_i64(e, 0), w->a.scores.n);
	ml_emit_contract(e, &scores);
	ml_expr_no_lanes(x);

	emit_softmax(w, rows);

	ml_dots_begin(&w->heads, &heads, number);
	w->heads.first_row = w->tile_row;
	heads.row_begin = ml_i64(e, 0);
	heads.row_end = rows;
	heads.a = w->score;
	heads.lda = w->stride;
	w->heads.column = ml_expr_lanes(x, ml_i64(e, 0), w->a.heads.n);
	ml_emit_contract(e, &heads);
	ml_expr_no_lanes(x);
}

ml_status
ml_attention_emit(ml_emit *e, ml_kernel *k, const char *name)
{
	attention_emit w = {.tile_row = NULL};

	ML_STEP(plan(k, &w.a));
	w.scores = (ml_dots_emit){.x = &w.x, .d = w.a.scores};
	w.heads = (ml_dots_emit){.x = &w.x, .d = w.a.heads};
	ml_expr_open(&w.x, e, k, name);
	ml_loop l = ml_loop_begin(e, ml_expr_begin(&w.x), ml_expr_end(&w.x), ml_i64(e, 1), NULL, 0,
				  "tile");
	int mark = ml_expr_mark(&w.x);
	emit_tile(&w, l.i);
	ml_expr_release(&w.x, mark);
	ml_loop_end(e, &l, NULL);
	return ml_expr_close(&w.x);
}
