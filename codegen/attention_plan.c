/* attention_plan.c -- finds dots, softmax and causal mask in the specification of attention. */
#include "attention_plan.h"
#include <math.h>

enum { FLOAT = 4, ALIGN = 64 };

static const ml_node *
def_of(const ml_value *v, ml_op op)
{
	while (v && ml_is(v, ML_OP_reshape))
		v = ml_in(v->def, 0);
	return v && ml_is(v, op) ? v->def : NULL;
}

static const ml_node *
last_dot(const ml_kernel *k)
{
	const ml_node *found = NULL;

	for (const ml_node *n = k->m->main->first; n; n = n->next)
		if (n->op == ML_OP_dot)
			found = n;
	return found;
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
	a->score = ml_in(difference, 0);
	return a->sum && a->top && ml_in(a->top, 0) == a->score;
}

/* Is the score hidden where key j > i + later, as the body of causal attention says? */
static void
find_causal(ml_attention *a)
{
	double none;
	const ml_node *select = a->score->def;
	const ml_node *seen =
		select && select->op == ML_OP_select ? def_of(ml_in(select, 0), ML_OP_le) : NULL;
	const ml_node *last = seen ? def_of(ml_in(seen, 1), ML_OP_add) : NULL;

	if (!last || !ml_is_splat(ml_in(select, 2), &none) || none != -INFINITY ||
	    a->scores.nrows != 1 || !ml_is(ml_in(seen, 0), ML_OP_iota) ||
	    !ml_is(ml_in(last, 0), ML_OP_iota) || !ml_is(ml_in(last, 1), ML_OP_dim) ||
	    ML_A(ml_in(seen, 0)->def, iota, axis).i64 != 1 ||
	    ML_A(ml_in(last, 0)->def, iota, axis).i64 != 0)
		return;
	a->hidden_by = a->score;
	a->later = ML_A(ml_in(last, 1)->def, dim, value).dims[0];
}

static ml_dim
aligned(ml_dims *dims, ml_dim bytes)
{
	ml_dim align = ml_dim_int(dims, ALIGN);

	return ml_dim_mul(dims, ml_dim_ceildiv(dims, bytes, align), align);
}

ml_status
ml_attention_plan(ml_kernel *k, ml_attention *a)
{
	ml_dims *dims = k->m->dims;
	const ml_node *heads = last_dot(k), *scores = first_dot(k);
	ml_dim lanes = ml_dim_int(dims, ML_LANES), keys = ml_dim_int(dims, ML_KEY_BLOCK * FLOAT);

	*a = (ml_attention){.top = NULL};
	if (!heads || heads == scores || !find_softmax(a, heads))
		return ml_error(k->m->cx, ML_ERR_CODEGEN, NULL,
				"an attention kernel without softmax between two dots");
	ML_STEP(ml_dots_plan(k, scores, ML_PASS_ROWS, &a->scores));
	ML_STEP(ml_dots_plan(k, heads, ML_PASS_ROWS, &a->heads));
	find_causal(a);
	a->width = ml_dim_mul(dims, ml_dim_ceildiv(dims, a->heads.n, lanes), lanes);
	a->tiles_per_head = ml_dim_ceildiv(dims, a->scores.m, ml_dim_int(dims, ML_TILE_ROWS));
	a->query_bytes = aligned(dims, ml_dots_scratch_bytes(&a->scores));
	a->key_bytes = ml_dim_mul(dims, a->scores.k, keys);
	a->value_bytes = ml_dim_mul(dims, a->width, keys);
	return ML_OK;
}
