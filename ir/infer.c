/* infer.c -- type inference: the checks all operators share, guards, and broadcasting. */
#include "infer.h"
#include <string.h>

/* No tensor may be larger; keeps byte offsets far from overflow. */
static const int64_t max_bytes = (int64_t)1 << 46;

static ml_type_rule *const rules[ML_OP_LIMIT] = {
#define ML_OP(no, name, in, out, cls, traits) [no] = ml_type_##name,
#define ML_ATTR(op, kind, name, init)
#include "ops.def"
};

/* ---- messages ---- */

ml_status
ml_type_fail(ml_builder *b, const ml_node *n, ml_status status, const char *fmt, ...)
{
	ml_context *cx = b->m->cx;
	ml_text t;
	va_list args;

	ml_text_init(&t, &cx->arena);
	ml_put(&t, "%s(", ml_op_get(n->op)->name);
	for (int i = 0; i < n->nin && i < 8; i++) {
		ml_put(&t, i ? ", " : "");
		ml_type_print(&t, &n->in[i].value->type);
	}
	va_start(args, fmt);
	ml_put(&t, n->nin > 8 ? ", ..): %s" : "): %s", ml_vformat(&cx->arena, fmt, args));
	va_end(args);
	return ml_error(cx, status, n->prov, "%s", t.at);
}

const char *
ml_dim_text(ml_builder *b, ml_dim d)
{
	ml_text t;

	ml_text_init(&t, &b->m->cx->arena);
	ml_dim_print(&t, d);
	return t.at;
}

/* ---- checks ---- */

ml_status
ml_want_kind(ml_builder *b, const ml_node *n, int i, unsigned kinds)
{
	ml_dtype t = ml_in(n, i)->type.dtype;

	if (kinds >> ml_dtype_kind_of(t) & 1)
		return ML_OK;
	return ml_type_fail(b, n, ML_ERR_TYPE, "operand %d must not be %s", i, ml_dtype_name(t));
}

ml_status
ml_want_dtype(ml_builder *b, const ml_node *n, int i, ml_dtype t)
{
	if (ml_in(n, i)->type.dtype == t)
		return ML_OK;
	return ml_type_fail(b, n, ML_ERR_TYPE, "operand %d is %s, must be %s", i,
			    ml_dtype_name(ml_in(n, i)->type.dtype), ml_dtype_name(t));
}

ml_status
ml_want_same_dtype(ml_builder *b, const ml_node *n, int i, int k)
{
	ml_dtype a = ml_in(n, i)->type.dtype, c = ml_in(n, k)->type.dtype;

	if (a == c)
		return ML_OK;
	return ml_type_fail(b, n, ML_ERR_TYPE,
			    "operands %d and %d must have the same element type, not %s and %s", i,
			    k, ml_dtype_name(a), ml_dtype_name(c));
}

ml_status
ml_want_rank(ml_builder *b, const ml_node *n, int i, int min, int max)
{
	int rank = ml_in(n, i)->type.rank;

	if (rank >= min && rank <= max)
		return ML_OK;
	if (min == max)
		return ml_type_fail(b, n, ML_ERR_SHAPE, "operand %d has rank %d, must have %d", i,
				    rank, min);
	return ml_type_fail(b, n, ML_ERR_SHAPE, "operand %d has rank %d, must have %d to %d", i,
			    rank, min, max);
}

ml_status
ml_want_axis(ml_builder *b, const ml_node *n, ml_attr *axis, int rank)
{
	if (axis->i64 < -rank || axis->i64 >= rank)
		return ml_type_fail(b, n, ML_ERR_VALUE, "axis %lld is outside of [-%d, %d)",
				    (long long)axis->i64, rank, rank);
	axis->i64 += axis->i64 < 0 ? rank : 0;
	return ML_OK;
}

ml_status
ml_want_axes(ml_builder *b, const ml_node *n, ml_attr *axes, int rank)
{
	int64_t *list = ML_NEW_ARRAY(&b->m->arena, int64_t, axes->count);
	unsigned seen = 0;

	for (int i = 0; i < axes->count; i++) {
		ml_attr one = {.i64 = axes->ints[i]};
		ML_STEP(ml_want_axis(b, n, &one, rank));
		if (seen >> one.i64 & 1)
			return ml_type_fail(b, n, ML_ERR_VALUE, "axis %lld is given twice",
					    (long long)one.i64);
		seen |= 1u << one.i64;
		list[i] = one.i64;
	}
	axes->ints = list;
	return ML_OK;
}

ml_status
ml_want_count(ml_builder *b, const ml_node *n, const ml_attr *list, int count, const char *name)
{
	if (list->count == count)
		return ML_OK;
	return ml_type_fail(b, n, ML_ERR_VALUE, "%s has %d entries, must have %d", name,
			    list->count, count);
}

ml_status
ml_want_least(ml_builder *b, const ml_node *n, const ml_attr *list, int64_t min, const char *name)
{
	for (int i = 0; i < list->count; i++)
		if (list->ints[i] < min)
			return ml_type_fail(b, n, ML_ERR_VALUE, "%s is %lld, must be at least %lld",
					    name, (long long)list->ints[i], (long long)min);
	return ML_OK;
}

ml_status
ml_want_equal(ml_builder *b, const ml_node *n, ml_dim x, ml_dim y, const char *rule)
{
	if (ml_require_equal(b, x, y, rule))
		return ML_OK;
	return ml_type_fail(b, n, ML_ERR_SHAPE, "%s: %s and %s differ", rule, ml_dim_text(b, x),
			    ml_dim_text(b, y));
}

ml_status
ml_want_le(ml_builder *b, const ml_node *n, ml_dim x, ml_dim y, const char *rule)
{
	if (ml_require_le(b, x, y, rule))
		return ML_OK;
	return ml_type_fail(b, n, ML_ERR_SHAPE, "%s: %s exceeds %s", rule, ml_dim_text(b, x),
			    ml_dim_text(b, y));
}

ml_status
ml_want_same_shape(ml_builder *b, const ml_node *n, const ml_type *x, const ml_type *y,
		   const char *rule)
{
	if (x->rank != y->rank)
		return ml_type_fail(b, n, ML_ERR_SHAPE, "%s: ranks %d and %d differ", rule, x->rank,
				    y->rank);
	for (int i = 0; i < x->rank; i++)
		ML_STEP(ml_want_equal(b, n, x->dim[i], y->dim[i], rule));
	return ML_OK;
}

ml_dim
ml_fresh_dim(ml_builder *b, const ml_node *n, int i, int d, ml_dim bound)
{
	if (i < n->nout && n->out[i].type.dtype != ML_none && d < n->out[i].type.rank)
		return n->out[i].type.dim[d];
	return ml_dim_sym(b->m->dims, ml_sym_fresh(b->m->dims, bound));
}

/* ---- guards ---- */

/* Guards are few; the same one arises again when bodies of composites are built. */
static void
add_guard(ml_builder *b, ml_guard_kind kind, ml_dim x, ml_dim y, const char *rule)
{
	ml_module *m = b->m;

	for (int i = m->guards.count; i-- > 0;) {
		const ml_guard *g = &m->guards.at[i];
		bool turned = kind == ML_GUARD_EQ && g->a == y && g->b == x;
		if (g->kind == kind && (turned || (g->a == x && g->b == y)))
			return;
	}
	ml_guard g = {.kind = kind, .a = x, .b = y, .prov = b->prov};
	g.text = ml_strdup(&m->arena, rule);
	ML_PUSH(&m->arena, m->guards, g);
}

bool
ml_require_equal(ml_builder *b, ml_dim x, ml_dim y, const char *rule)
{
	if (ml_dim_is_bad(x) || ml_dim_is_bad(y) || ml_dim_never_equal(b->m->dims, x, y))
		return false;
	if (x != y)
		add_guard(b, ML_GUARD_EQ, x, y, rule);
	return true;
}

bool
ml_require_le(ml_builder *b, ml_dim x, ml_dim y, const char *rule)
{
	ml_dims *dims = b->m->dims;

	if (ml_dim_is_bad(x) || ml_dim_is_bad(y) ||
	    ml_dim_le(dims, ml_dim_add(dims, y, ml_dim_int(dims, 1)), x))
		return false;
	if (!ml_dim_le(dims, x, y))
		add_guard(b, ML_GUARD_LE, x, y, rule);
	return true;
}

bool
ml_require_divides(ml_builder *b, ml_dim whole, ml_dim by, const char *rule)
{
	ml_dims *dims = b->m->dims;
	int64_t n;

	if (ml_dim_is_bad(whole) || ml_dim_is_bad(by) || ml_dim_equals(by, 0))
		return false;
	if (ml_dim_divides(dims, whole, by, NULL))
		return true;
	if (ml_dim_is_int(by, &n) &&
	    ml_dim_never_equal(dims, ml_dim_mod(dims, whole, by), ml_dim_int(dims, 0)))
		return false;
	add_guard(b, ML_GUARD_DIVIDES, whole, by, rule);
	return true;
}

/* ---- broadcasting ---- */

/* One dim of the result so far and one more operand's.  Sizes of which neither is known to be 1
 * must be equal: a size that is 1 only at run time does not broadcast.  Of two names for one size
 * the simpler stays, so that the same name comes out wherever the two meet. */
static bool
broadcast_dim(ml_builder *b, ml_dim *have, ml_dim d)
{
	bool one = ml_dim_equals(*have, 1);

	if (ml_dim_equals(d, 1) || *have == d)
		return true;
	if (!one && !ml_require_equal(b, *have, d, "sizes must be equal to broadcast"))
		return false;
	if (one || ml_dim_weight(d) < ml_dim_weight(*have))
		*have = d;
	return true;
}

bool
ml_broadcast_shape(ml_builder *b, const ml_type *const *types, int n, ml_type *out)
{
	ml_context *cx = b->m->cx;

	out->rank = 0;
	for (int i = 0; i < n; i++)
		out->rank = types[i]->rank > out->rank ? types[i]->rank : out->rank;
	for (int i = 0; i < out->rank; i++)
		out->dim[i] = ML_D(b, 1);
	for (int i = 0; i < n; i++)
		for (int d = 0; d < types[i]->rank; d++) {
			ml_dim *have = &out->dim[out->rank - types[i]->rank + d];
			if (broadcast_dim(b, have, types[i]->dim[d]))
				continue;
			ml_text t;
			ml_text_init(&t, &cx->arena);
			for (int k = 0; k < n; k++) {
				ml_put(&t, k ? ", " : "");
				ml_type_print(&t, types[k]);
			}
			ml_error(cx, ML_ERR_SHAPE, b->prov,
				 "shapes %s do not broadcast: %s and %s differ", t.at,
				 ml_dim_text(b, *have), ml_dim_text(b, types[i]->dim[d]));
			return false;
		}
	return true;
}

/* ---- one node ---- */

static ml_status
check_result(ml_builder *b, const ml_node *n, const ml_type *t)
{
	ml_dims *dims = b->m->dims;
	int64_t lo, hi;

	for (int i = 0; i < t->rank; i++) {
		if (ml_dim_is_bad(t->dim[i]))
			return ml_type_fail(b, n, ML_ERR_LIMIT, "a size of the result overflows");
		if (!ml_require_le(b, ml_dim_int(dims, 0), t->dim[i], "sizes are never negative"))
			return ml_type_fail(b, n, ML_ERR_SHAPE,
					    "a size of the result is negative: %s",
					    ml_dim_text(b, t->dim[i]));
	}
	ml_dim count = ml_type_count(dims, t);
	ml_dim_range(count, &lo, &hi);
	if (ml_dim_is_bad(count) || lo > max_bytes / ml_dtype_bytes(t->dtype))
		return ml_type_fail(
			b, n, ML_ERR_LIMIT,
			"the result has more elements than the limit of 2^46 bytes allows");
	return ML_OK;
}

ml_status
ml_infer(ml_builder *b, ml_node *n)
{
	ml_type *declared = NULL;

	if (n->nout && n->out[0].type.dtype != ML_none) {
		declared = ML_NEW_ARRAY(&b->m->arena, ml_type, n->nout);
		for (int i = 0; i < n->nout; i++)
			declared[i] = n->out[i].type;
	}
	int ndeclared = n->nout;
	ML_STEP(rules[n->op](b, n));
	if (declared && ndeclared != n->nout)
		return ml_type_fail(b, n, ML_ERR_TYPE, "has %d results, not %d", n->nout,
				    ndeclared);
	for (int i = 0; i < n->nout; i++) {
		ML_STEP(check_result(b, n, &n->out[i].type));
		if (!declared || ml_type_equal(&declared[i], &n->out[i].type))
			continue;
		ml_text t;
		ml_text_init(&t, &b->m->cx->arena);
		ml_type_print(&t, &n->out[i].type);
		ml_put(&t, ", not ");
		ml_type_print(&t, &declared[i]);
		return ml_type_fail(b, n, ML_ERR_TYPE, "result %d is %s", i, t.at);
	}
	return ML_OK;
}
