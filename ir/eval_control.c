/* eval_control.c -- operators of the reference evaluator that run bodies or the application's code.
 */
#include "custom.h"
#include "eval.h"
#include <string.h>

static ml_status
run_if(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array **out)
{
	const ml_block *b = n->body[in[0]->cell[0].i ? 0 : 1];
	ml_array **args = ML_NEW_ARRAY(e->scratch, ml_array *, b->nargs);

	for (int i = 0; i < b->nargs; i++) {
		args[i] = in[1 + i];
		args[i]->refs++;
	}
	return ml_eval_block(e, b, args, out);
}

typedef ML_VEC(ml_array *) array_list;

/* The arrays become the slices of one array along a new first dim. */
static ml_status
stack(ml_eval *e, const ml_type *type, const array_list *list, ml_array **out)
{
	int64_t dim[ML_MAX_RANK] = {list->count};
	int64_t size = list->count ? list->at[0]->count : 0;
	size_t shape_bytes = (size_t)(type->rank - 1) * sizeof *dim;

	if (list->count)
		memcpy(dim + 1, list->at[0]->dim, shape_bytes);
	for (int d = 1; d < type->rank && !list->count; d++)
		if (ml_eval_known(e,
				  type->dim[d])) /* else the body would have told: 0 is as good */
			ML_STEP(ml_eval_dim(e, type->dim[d], &dim[d]));
	ML_STEP(ml_array_new(e, type->dtype, type->rank, dim, out));
	for (int i = 0; i < list->count; i++) {
		ml_array *from = list->at[i];
		if (memcmp(from->dim, dim + 1, shape_bytes))
			return ml_eval_fail(e, ML_ERR_SHAPE, "iteration %d scans another shape", i);
		memcpy(out[0]->cell + i * size, from->cell, (size_t)size * sizeof *from->cell);
		ml_array_release(e, from);
	}
	return ML_OK;
}

/* What a loop hands from one iteration to the next, and what it collects. */
typedef struct loop_state {
	const ml_node *node;
	int carried, scanned, captures;
	ml_array *const *captured;
	ml_array **args, **results; /* of the body: i, carried, captures; cond, carried, scanned */
	array_list *scan;
} loop_state;

/* The arguments of the carried values are in place; afterwards they hold the new ones. */
static ml_status
iterate(ml_eval *e, loop_state *l, int64_t trip, bool *again)
{
	ML_STEP(ml_eval_charge(e, 1));
	ML_STEP(ml_array_new(e, ML_s64, 0, NULL, &l->args[0]));
	l->args[0]->cell[0].i = trip;
	for (int i = 0; i < l->captures; i++) {
		l->args[1 + l->carried + i] = l->captured[i];
		l->captured[i]->refs++;
	}
	ML_STEP(ml_eval_block(e, l->node->body[0], l->args, l->results));
	*again = l->results[0]->cell[0].i;
	ml_array_release(e, l->results[0]);
	memcpy(l->args + 1, l->results + 1, (size_t)l->carried * sizeof *l->args);
	for (int i = 0; i < l->scanned; i++)
		ML_PUSH(e->scratch, l->scan[i], l->results[1 + l->carried + i]);
	return ML_OK;
}

static ml_status
run_loop(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array **out)
{
	int carried = (int)ML_A(n, loop, carried).i64;
	loop_state l = {.node = n,
			.carried = carried,
			.scanned = n->nout - carried,
			.captures = n->nin - 2 - carried,
			.captured = in + 2 + carried,
			.args = ML_NEW_ARRAY(e->scratch, ml_array *, n->body[0]->nargs),
			.results = ML_NEW_ARRAY(e->scratch, ml_array *, 1 + n->nout),
			.scan = ML_NEW_ARRAY(e->scratch, array_list, n->nout - carried)};
	bool again = in[1]->cell[0].i;

	for (int i = 0; i < carried; i++) {
		l.args[1 + i] = in[2 + i];
		in[2 + i]->refs++;
	}
	for (int64_t trip = 0; trip < in[0]->cell[0].i && again; trip++)
		ML_STEP(iterate(e, &l, trip, &again));
	memcpy(out, l.args + 1, (size_t)carried * sizeof *out);
	e->node = n;
	for (int i = 0; i < l.scanned; i++)
		ML_STEP(stack(e, &n->out[carried + i].type, &l.scan[i], &out[carried + i]));
	return ML_OK;
}

/* ---- custom ---- */

static const struct ml_custom_op *
find_custom(const ml_context *cx, const char *domain, const char *name)
{
	const struct ml_custom_op *op = cx->custom_ops;

	while (op && (strcmp(op->domain, domain) || strcmp(op->name, name)))
		op = op->next;
	return op;
}

static ml_tensor
tensor_of(ml_eval *e, const ml_array *a)
{
	ml_tensor t = {.dtype = a->dtype, .rank = a->rank};

	memcpy(t.dim, a->dim, sizeof t.dim);
	t.bytes = (size_t)a->count * (size_t)ml_dtype_bytes(a->dtype);
	t.data = ml_alloc(e->scratch, t.bytes);
	ml_array_write(a, t.data);
	return t;
}

static ml_status
run_custom(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array **out)
{
	const char *domain = ML_A(n, custom, domain).str, *name = ML_A(n, custom, name).str;
	const struct ml_custom_op *op = find_custom(e->cx, domain, name);
	ml_tensor *from = ML_NEW_ARRAY(e->scratch, ml_tensor, n->nin);
	ml_tensor *to = ML_NEW_ARRAY(e->scratch, ml_tensor, n->nout);

	if (!op || !op->evaluate)
		return ml_eval_fail(e, ML_ERR_UNSUPPORTED, "%s of domain '%s' cannot be evaluated",
				    ml_escaped(e->scratch, name), ml_escaped(e->scratch, domain));
	for (int i = 0; i < n->nin; i++)
		from[i] = tensor_of(e, in[i]);
	for (int i = 0; i < n->nout; i++) {
		ML_STEP(ml_array_result(e, n, i, &out[i]));
		to[i] = tensor_of(e, out[i]);
		ml_array_release(e, out[i]);
	}
	ml_status status = op->evaluate(op, from, n->nin, to, n->nout);
	if (status)
		return ml_eval_fail(e, status, "%s failed", ml_escaped(e->scratch, name));
	for (int i = 0; i < n->nout; i++)
		ML_STEP(ml_array_read(e, &to[i], &out[i]));
	return ML_OK;
}

ml_status
ml_eval_control(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array **out)
{
	switch (n->op) {
	case ML_OP_if: return run_if(e, n, in, out);
	case ML_OP_loop: return run_loop(e, n, in, out);
	case ML_OP_custom: return run_custom(e, n, in, out);
	default: return ml_eval_fail(e, ML_ERR_UNSUPPORTED, "has no evaluator");
	}
}
