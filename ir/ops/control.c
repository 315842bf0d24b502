/* control.c -- type rules of operators with bodies, and of yield. */
#include "../infer.h"

ml_status
ml_type_yield(ml_builder *b, ml_node *n)
{
	(void)b;
	(void)n;
	return ML_OK;
}

/* The types were given by ml_set_results. */
ml_status
ml_type_custom(ml_builder *b, ml_node *n)
{
	for (int i = 0; i < n->nout; i++)
		if (n->out[i].type.dtype == ML_none)
			return ml_type_fail(b, n, ML_ERR_TYPE, "result %d has no type", i);
	return ML_OK;
}

static const ml_node *
yield_of(const ml_block *body)
{
	return body->last && body->last->op == ML_OP_yield ? body->last : NULL;
}

static ml_status
want_bodies(ml_builder *b, const ml_node *n, int count)
{
	if (n->nblocks != count)
		return ml_type_fail(b, n, ML_ERR_VALUE, "has %d bodies, must have %d", n->nblocks,
				    count);
	for (int i = 0; i < count; i++)
		if (!yield_of(n->body[i]))
			return ml_type_fail(b, n, ML_ERR_VALUE, "body %d ends without yield", i);
	return ML_OK;
}

/* Argument `at` of the body and the value it stands for. */
static ml_status
want_argument(ml_builder *b, const ml_node *n, const ml_block *body, int at, const ml_type *t)
{
	if (at < body->nargs && ml_type_equal(&body->arg[at]->type, t))
		return ML_OK;
	ml_text text;
	ml_text_init(&text, &b->m->cx->arena);
	ml_type_print(&text, t);
	return ml_type_fail(b, n, ML_ERR_TYPE, "argument %d of the body must be %s", at, text.at);
}

static ml_status
want_scalar(ml_builder *b, const ml_node *n, int i, ml_dtype dtype)
{
	ML_STEP(ml_want_dtype(b, n, i, dtype));
	return ml_want_rank(b, n, i, 0, 0);
}

/* ---- if ---- */

/* The type of result i when the branches give x and y. */
static ml_status
merge_types(ml_builder *b, ml_node *n, int i, const ml_type *x, const ml_type *y, ml_type *t)
{
	if (x->dtype != y->dtype || x->rank != y->rank)
		return ml_type_fail(b, n, ML_ERR_TYPE,
				    "result %d is %s of rank %d in one branch, %s of rank %d in "
				    "the other",
				    i, ml_dtype_name(x->dtype), x->rank, ml_dtype_name(y->dtype),
				    y->rank);
	*t = *x;
	for (int d = 0; d < t->rank; d++)
		if (x->dim[d] != y->dim[d])
			t->dim[d] = ml_fresh_dim(b, n, i, d,
						 ml_dim_max(b->m->dims, x->dim[d], y->dim[d]));
	return ML_OK;
}

ml_status
ml_type_if(ml_builder *b, ml_node *n)
{
	if (n->nin < 1)
		return ml_type_fail(b, n, ML_ERR_TYPE, "needs a condition");
	ML_STEP(want_scalar(b, n, 0, ML_bool));
	ML_STEP(want_bodies(b, n, 2));
	const ml_node *yes = yield_of(n->body[0]), *no = yield_of(n->body[1]);
	for (int k = 0; k < 2; k++) {
		if (n->body[k]->nargs != n->nin - 1)
			return ml_type_fail(b, n, ML_ERR_TYPE,
					    "body %d has %d arguments for %d captures", k,
					    n->body[k]->nargs, n->nin - 1);
		for (int i = 1; i < n->nin; i++)
			ML_STEP(want_argument(b, n, n->body[k], i - 1, &ml_in(n, i)->type));
	}
	if (yes->nin != no->nin)
		return ml_type_fail(b, n, ML_ERR_TYPE, "the branches have %d and %d results",
				    yes->nin, no->nin);
	ml_type *types = ML_NEW_ARRAY(&b->m->cx->arena, ml_type, yes->nin);
	for (int i = 0; i < yes->nin; i++)
		ML_STEP(merge_types(b, n, i, &ml_in(yes, i)->type, &ml_in(no, i)->type, &types[i]));
	ml_set_results(b, n, types, yes->nin);
	return ML_OK;
}

/* ---- loop ---- */

static bool
always_true(const ml_value *v)
{
	double x;

	return v && ml_is_splat(v, &x) && x != 0;
}

/* The leading dim of scanned results: the trip count when nothing can end the loop early. */
static ml_dim
scanned_count(ml_builder *b, const ml_node *n, int result)
{
	ml_dims *dims = b->m->dims;
	int64_t count;
	const ml_dim *content = ml_content(b, ml_in(n, 0), &count);
	ml_dim trips = content ? ml_dim_max(dims, content[0], ML_D(b, 0)) : NULL;

	if (trips && always_true(ml_in(n, 1)) && always_true(ml_in(yield_of(n->body[0]), 0)))
		return trips;
	return ml_fresh_dim(b, n, result, 0, trips);
}

static ml_status
loop_arguments(ml_builder *b, const ml_node *n, const ml_block *body)
{
	ml_type counter = {.dtype = ML_s64};

	ML_STEP(want_argument(b, n, body, 0, &counter));
	for (int i = 2; i < n->nin; i++)
		ML_STEP(want_argument(b, n, body, i - 1, &ml_in(n, i)->type));
	if (body->nargs != n->nin - 1)
		return ml_type_fail(b, n, ML_ERR_TYPE, "the body has %d arguments, must have %d",
				    body->nargs, n->nin - 1);
	return ML_OK;
}

static ml_status
loop_carried(ml_builder *b, const ml_node *n, int i, ml_type *t)
{
	const ml_type *next = &ml_in(yield_of(n->body[0]), 1 + i)->type;

	*t = ml_in(n, 2 + i)->type;
	if (ml_type_equal(t, next))
		return ML_OK;
	ml_text text;
	ml_text_init(&text, &b->m->cx->arena);
	ml_type_print(&text, t);
	ml_put(&text, " but the body gives ");
	ml_type_print(&text, next);
	return ml_type_fail(b, n, ML_ERR_UNSUPPORTED,
			    "carried value %d changes its type: it starts as %s", i, text.at);
}

ml_status
ml_type_loop(ml_builder *b, ml_node *n)
{
	int64_t carried = ML_A(n, loop, carried).i64;
	ml_dim count = NULL;

	if (n->nin < 2 || carried < 0 || carried > n->nin - 2)
		return ml_type_fail(b, n, ML_ERR_VALUE, "%lld carried values of %d operands",
				    (long long)carried, n->nin);
	ML_STEP(want_scalar(b, n, 0, ML_s64));
	ML_STEP(want_scalar(b, n, 1, ML_bool));
	ML_STEP(want_bodies(b, n, 1));
	ML_STEP(loop_arguments(b, n, n->body[0]));
	const ml_node *yield = yield_of(n->body[0]);
	int nout = yield->nin - 1;
	if (nout < carried || ml_in(yield, 0)->type.dtype != ML_bool || ml_in(yield, 0)->type.rank)
		return ml_type_fail(b, n, ML_ERR_TYPE,
				    "the body must yield a bool and the carried values");
	ml_type *types = ML_NEW_ARRAY(&b->m->cx->arena, ml_type, nout);
	for (int i = 0; i < nout; i++) {
		if (i < carried) {
			ML_STEP(loop_carried(b, n, i, &types[i]));
			continue;
		}
		const ml_type *each = &ml_in(yield, 1 + i)->type;
		if (each->rank == ML_MAX_RANK)
			return ml_type_fail(b, n, ML_ERR_LIMIT, "rank %d is the largest",
					    ML_MAX_RANK);
		count = count ? count : scanned_count(b, n, i);
		types[i] = (ml_type){.dtype = each->dtype, .rank = each->rank + 1, .dim = {count}};
		for (int d = 0; d < each->rank; d++)
			types[i].dim[d + 1] = each->dim[d];
	}
	ml_set_results(b, n, types, nout);
	return ML_OK;
}
