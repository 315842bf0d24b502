/* grad.c -- reverse mode: marks what a gradient must pass, then walks the block backwards. */
#include "grad_rule.h"
#include "value_map.h"
#include <string.h>

static const ml_gradient *const gradients[ML_OP_LIMIT] = {
#define ML_OP(no, name, in, out, cls, traits) [no] = &ml_gradient_##name,
#define ML_ATTR(op, kind, name, init)
#include "ops.def"
};

const ml_gradient *
ml_gradient_of(ml_op op)
{
	return gradients[op];
}

enum { VARIES = 1, MATTERS = 2 }; /* with a wrt; for the loss */

typedef struct tape {
	ml_module *m;
	ml_arena *scratch;
	ml_value *loss, **wrt;
	int n;
	ml_value_map number;
	uint8_t *mark;       /* by number of the value */
	ml_value **gradient; /* by number: the sum so far, of the value's type */
} tape;

/* ---- what is on the way from wrt to the loss ---- */

static uint8_t *
mark_of(const tape *t, const ml_value *v)
{
	return &t->mark[ml_value_number(&t->number, v)];
}

static bool
is_active(const tape *t, const ml_value *v)
{
	return *mark_of(t, v) == (VARIES | MATTERS);
}

static bool
is_active_node(const tape *t, const ml_node *n)
{
	for (int i = 0; i < n->nout; i++)
		if (is_active(t, &n->out[i]))
			return true;
	return false;
}

static bool
any_marked(const tape *t, const ml_node *n, bool results, uint8_t with)
{
	int count = results ? n->nout : n->nin;

	for (int i = 0; i < count; i++)
		if (*mark_of(t, results ? &n->out[i] : ml_in(n, i)) & with)
			return true;
	return false;
}

static void
mark_all(tape *t)
{
	t->number = ml_number_values(t->scratch, t->m);
	t->mark = ML_NEW_ARRAY(t->scratch, uint8_t, t->number.count);
	for (int i = 0; i < t->n; i++)
		*mark_of(t, t->wrt[i]) |= VARIES;
	for (ml_node *n = t->m->main->first; n; n = n->next) {
		if (gradients[n->op]->kind == ML_GRADIENT_ENDS || !any_marked(t, n, false, VARIES))
			continue;
		for (int i = 0; i < n->nout; i++)
			if (ml_is_float(n->out[i].type.dtype))
				*mark_of(t, &n->out[i]) |= VARIES;
	}
	*mark_of(t, t->loss) |= MATTERS;
	for (ml_node *n = t->m->main->last; n; n = n->prev)
		if (any_marked(t, n, true, MATTERS))
			for (int i = 0; i < n->nin; i++)
				*mark_of(t, ml_in(n, i)) |= MATTERS;
}

/* ---- composites through their bodies ---- */

static void
follow(ml_value **v, const ml_node *n, ml_value *const *result)
{
	if ((*v)->def == n)
		*v = result[(*v)->index];
}

/* The node stays, as the caller may hold its results. */
static ml_status
replace_by_body(tape *t, ml_node *n)
{
	ml_builder b = ml_builder_before(n);
	ml_value **result = ML_NEW_ARRAY(t->scratch, ml_value *, n->nout);

	ML_STEP(ml_expand(&b, n, result));
	for (int i = 0; i < n->nout; i++)
		ml_replace_uses(&n->out[i], result[i]);
	follow(&t->loss, n, result);
	for (int i = 0; i < t->n; i++)
		follow(&t->wrt[i], n, result);
	return ML_OK;
}

static ml_status
check_node(const tape *t, const ml_node *n)
{
	if (gradients[n->op]->kind != ML_GRADIENT_NONE)
		return ML_OK;
	ml_error(t->m->cx, ML_ERR_UNSUPPORTED, n->prov, "%s has no gradient",
		 ml_op_get(n->op)->name);
	ml_hint(t->m->cx, "what lies before this node cannot be trained through it");
	return ML_ERR_UNSUPPORTED;
}

/* Bodies may hold composites, so until none is left. */
static ml_status
prepare(tape *t)
{
	bool again = true;

	while (again) {
		again = false;
		mark_all(t);
		for (ml_node *n = t->m->main->first; n; n = n->next)
			if (is_active_node(t, n))
				ML_STEP(check_node(t, n));
		for (ml_node *n = t->m->main->first; n; n = n->next) {
			if (ml_value_number(&t->number, n->nout ? &n->out[0] : NULL) < 0)
				continue; /* of a body that is new */
			if (gradients[n->op]->kind != ML_GRADIENT_BODY || !is_active_node(t, n))
				continue;
			ML_STEP(replace_by_body(t, n));
			again = true;
		}
	}
	return ML_OK;
}

/* ---- backwards ---- */

static ml_value *
widened(ml_builder *b, const ml_node *n, ml_value *v)
{
	bool half = v && ml_dtype_format(v->type.dtype);

	return half && ml_is_composite(n) ? ml_build_cast(b, v, ML_f32) : v;
}

static ml_status
failure(const ml_builder *b)
{
	return b->failed ? b->failed : ML_ERR_PASS;
}

static ml_status
add_to(ml_builder *b, ml_value **sum, ml_value *v)
{
	if (v)
		*sum = *sum ? ml_op2(b, ML_OP_add, *sum, v) : v;
	return *sum || !v ? ML_OK : failure(b);
}

static ml_status
pass_back(tape *t, ml_node *n)
{
	ml_grad_state g = {.b = ml_builder_at_end(t->m->main, n->prov), .node = n};
	bool arrived = false;

	g.in = ML_NEW_ARRAY(t->scratch, ml_value *, n->nin);
	g.sum = ML_NEW_ARRAY(t->scratch, ml_value *, n->nin);
	g.wanted = ML_NEW_ARRAY(t->scratch, bool, n->nin);
	g.out = ML_NEW_ARRAY(t->scratch, ml_value *, n->nout);
	g.d = ML_NEW_ARRAY(t->scratch, ml_value *, n->nout);
	for (int i = 0; i < n->nout; i++) {
		ml_value *d = t->gradient[ml_value_number(&t->number, &n->out[i])];
		g.d[i] = widened(&g.b, n, d);
		g.out[i] = d ? widened(&g.b, n, &n->out[i]) : &n->out[i];
		arrived |= d != NULL;
	}
	if (!arrived)
		return ML_OK;
	for (int i = 0; i < n->nin; i++) {
		g.in[i] = widened(&g.b, n, ml_in(n, i));
		g.wanted[i] = is_active(t, ml_in(n, i));
	}
	gradients[n->op]->rule(&g);
	if (g.b.failed)
		return g.b.failed;
	for (int i = 0; i < n->nin; i++)
		ML_STEP(add_to(&g.b, &t->gradient[ml_value_number(&t->number, ml_in(n, i))],
			       g.sum[i]));
	return ML_OK;
}

static ml_status
run_back(tape *t)
{
	ml_node *last = t->m->main->last;
	ml_builder b = ml_builder_at_end(t->m->main, NULL);
	const ml_type *type = &t->loss->type;
	ml_value *one = ml_build_f64(&b, type->dtype, 1);

	t->gradient = ML_NEW_ARRAY(t->scratch, ml_value *, t->number.count);
	if (type->rank)
		one = ml_build_broadcast(&b, one, type->dim, type->rank);
	if (!one)
		return failure(&b);
	t->gradient[ml_value_number(&t->number, t->loss)] = one;
	for (ml_node *n = last, *prev; n; n = prev) {
		prev = n->prev;
		if (n->op != ML_OP_yield && ml_value_number(&t->number, &n->out[0]) >= 0 &&
		    is_active_node(t, n))
			ML_STEP(pass_back(t, n));
	}
	return ML_OK;
}

/* ---- the interface ---- */

static ml_status
check_request(const tape *t)
{
	ml_context *cx = t->m->cx;
	const ml_prov *at = t->loss->def ? t->loss->def->prov : NULL;

	if (!ml_is_float(t->loss->type.dtype))
		return ml_error(cx, ML_ERR_TYPE, at, "a loss must be a float, not %s",
				ml_dtype_name(t->loss->type.dtype));
	for (int d = 0; d < t->loss->type.rank; d++)
		if (!ml_dim_equals(t->loss->type.dim[d], 1))
			return ml_error(cx, ML_ERR_SHAPE, at, "a loss must have one element");
	for (int i = 0; i < t->n; i++)
		if (!ml_is_float(t->wrt[i]->type.dtype))
			return ml_error(cx, ML_ERR_TYPE,
					t->wrt[i]->def ? t->wrt[i]->def->prov : NULL,
					"only floats have gradients, not %s",
					ml_dtype_name(t->wrt[i]->type.dtype));
	return ML_OK;
}

static ml_status
differentiate(tape *t, ml_value **gradient)
{
	ML_STEP(check_request(t));
	ML_STEP(prepare(t));
	ML_STEP(run_back(t));
	for (int i = 0; i < t->n; i++) {
		gradient[i] = t->gradient[ml_value_number(&t->number, t->wrt[i])];
		if (gradient[i])
			continue;
		ml_builder b = ml_builder_at_end(t->m->main, NULL);
		gradient[i] = ml_zeros(&b, &t->wrt[i]->type);
		if (!gradient[i])
			return failure(&b);
	}
	return ML_OK;
}

ml_status
ml_grad(ml_module *m, ml_value *loss, ml_value *const *wrt, int n, ml_value **gradient)
{
	ml_arena scratch;
	const char *stage = m->cx->stage;

	ml_arena_init(&scratch, &m->cx->memory);
	tape t = {.m = m, .scratch = &scratch, .loss = loss, .n = n};
	t.wrt = ML_NEW_ARRAY(&scratch, ml_value *, n);
	for (int i = 0; i < n; i++)
		t.wrt[i] = wrt[i];
	m->cx->stage = "gradient";
	ml_status status = differentiate(&t, gradient);
	m->cx->stage = stage;
	ml_arena_free(&scratch);
	return status;
}
