/* near.c -- tokens that a model takes for much the same: their rows of its own table point the same
 * way.  Such a token in the place of another one leaves a text that might have been written, and
 * brings in words that the samples do not have. */
#include "../../ir/expand.h"
#include "../samples.h"
#include "distill.h"
#include <math.h>
#include <string.h>

enum {
	AT_ONCE = 64,      /* tokens that are looked up in one run */
	LEAST_ROWS = 1000, /* else near ones are no kin */
};
/* Tokens that are too many for so many products are looked up in part. */
static const double MOST_PRODUCTS = 2e11;

typedef struct lookup {
	ml_pass_ctx *px;
	const ml_value *table;
	int64_t rows, width;
} lookup;

/* From tokens, the products of their rows with all rows, and what the squares of these sum up to.
 */
static ml_status
build(ml_module *m, const lookup *l)
{
	const int64_t column = 1;
	ml_type many = {.dtype = ML_s64, .rank = 1, .dim = {ml_dim_int(m->dims, AT_ONCE)}};
	ml_type type = {.dtype = l->table->type.dtype,
			.rank = 2,
			.dim = {ml_dim_int(m->dims, l->rows), ml_dim_int(m->dims, l->width)}};
	ml_value *token = ml_block_add_arg(m->main, &many, "tokens"), *out[2];
	ml_builder b = ml_builder_at_end(m->main, NULL);
	ml_value *all = ml_build_const(&b, &type, ml_blob_share(ml_const_blob(l->table)));

	all = ml_build_cast(&b, all, ML_f32);
	out[0] = ml_build_dot(&b, ml_build_gather(&b, all, token, 0), all, NULL, NULL, 0, &column,
			      &column, 1);
	out[1] = ml_build_reduce(&b, ML_OP_reduce_sum, ml_op2(&b, ML_OP_mul, all, all), &column, 1);
	ML_PUSH(&m->arena, m->output_names, ml_strdup(&m->arena, "products"));
	ML_PUSH(&m->arena, m->output_names, ml_strdup(&m->arena, "squares"));
	ML_STEP(b.failed);
	return ml_build_yield(&b, out, 2);
}

/* The rows that point most of all the way of row `own`, nearest first; not itself. */
static void
choose(const lookup *l, int64_t own, const float *product, const float *square, int64_t *near)
{
	float best[ML_NEAR];
	int n = 0;

	for (int64_t i = 0; i < l->rows; i++) {
		float cosine = square[i] > 0 ? product[i] / sqrtf(square[i]) : -INFINITY;
		int at = n;
		if (i == own || !isfinite(cosine) || (n == ML_NEAR && !(cosine > best[n - 1])))
			continue;
		n += n < ML_NEAR;
		for (at = at < n ? at : n - 1; at > 0 && best[at - 1] < cosine; at--) {
			best[at] = best[at - 1];
			near[at] = near[at - 1];
		}
		best[at] = cosine;
		near[at] = i;
	}
	for (; n < ML_NEAR; n++)
		near[n] = own; /* few rows, or none that is a direction */
}

static ml_status
look_up(const lookup *l, ml_runnable *r, const int64_t *token, int64_t n, int64_t *near)
{
	const ml_exec *exec = l->px->exec;
	int64_t own[AT_ONCE];
	ml_tensor in = {.dtype = ML_s64, .rank = 1, .dim = {AT_ONCE}, .data = own};
	ml_tensor out[2];

	in.bytes = sizeof own;
	for (int64_t first = 0; first < n; first += AT_ONCE) {
		int64_t left = n - first < AT_ONCE ? n - first : AT_ONCE;
		for (int64_t i = 0; i < AT_ONCE; i++)
			own[i] = token[first + (i < left ? i : 0)];
		out[0].data = out[1].data = NULL; /* lent */
		ML_STEP(exec->run_into(exec->user, r, &in, out));
		for (int64_t i = 0; i < left; i++)
			choose(l, own[i], (const float *)out[0].data + i * l->rows, out[1].data,
			       near + (first + i) * ML_NEAR);
	}
	return ML_OK;
}

/* Each token once, those that the table has no row for aside; of too many, evenly spread ones. */
static void
list_tokens(ml_pool *p, const lookup *l)
{
	double room = MOST_PRODUCTS / ((double)l->rows * (double)l->width);
	int64_t n = 0, kept = 0;

	p->near_token = ML_NEW_ARRAY(p->arena, int64_t, p->nusual + 1);
	for (int64_t i = 0; i < p->nusual; i++) {
		int64_t token = p->usual[i];
		if (token >= 0 && token < l->rows && (!n || p->near_token[n - 1] != token))
			p->near_token[n++] = token;
	}
	int64_t every = (int64_t)ceil((double)n / fmax(room, 1));
	for (int64_t i = 0; i < n; i += every)
		p->near_token[kept++] = p->near_token[i];
	p->nnear = kept;
}

ml_status
ml_pool_find_near(ml_pool *p, ml_pass_ctx *px)
{
	lookup l = {.px = px};
	ml_runnable *r;

	if (p->known < LEAST_ROWS)
		return ML_OK;
	l.table = ml_table_numbered_by(p->m->main->arg[p->tokens]);
	l.rows = p->known;
	if (!ml_dim_is_int(l.table->type.dim[1], &l.width) || !ml_is_float(l.table->type.dtype))
		return ML_OK;
	list_tokens(p, &l);
	p->near = ML_NEW_ARRAY(p->arena, int64_t, p->nnear *ML_NEAR + 1);
	ml_module *m = ml_module_new(px->cx, "near tokens");
	ml_status status = build(m, &l);
	if (status == ML_OK)
		status = px->exec->compile(px->exec->user, m, &r);
	ml_module_free(m);
	ML_STEP(status);
	status = look_up(&l, r, p->near_token, p->nnear, p->near);
	px->exec->free(px->exec->user, r);
	return status;
}
