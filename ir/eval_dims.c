/* eval_dims.c -- sizes while a module runs: symbols from shapes, dims from symbols, guards. */
#include "eval.h"

static const ml_sym *
plain_symbol(ml_dim d)
{
	const ml_term *term;

	if (ml_dim_terms(d, &term) != 1 || term->coefficient != 1 || term->natoms != 1 ||
	    term->atom[0]->kind != ML_ATOM_SYM)
		return NULL;
	return term->atom[0]->sym;
}

bool
ml_eval_known(const ml_eval *e, ml_dim d)
{
	const ml_term *term;
	int n = ml_dim_terms(d, &term);

	for (int t = 0; t < n; t++)
		for (int i = 0; i < term[t].natoms; i++) {
			const ml_atom *a = term[t].atom[i];
			if (a->kind == ML_ATOM_SYM
				    ? !e->definer[a->sym->index]
				    : !ml_eval_known(e, a->a) || !ml_eval_known(e, a->b))
				return false;
		}
	return true;
}

static const char *
dim_text(const ml_eval *e, ml_dim d)
{
	ml_text t;

	ml_text_init(&t, e->scratch);
	ml_dim_print(&t, d);
	return t.at;
}

static const char *
value_text(const ml_eval *e, const ml_value *v)
{
	const char *kind = v->def ? "result" : v->block->owner ? "argument" : "input";

	if (v->name)
		return ml_format(e->scratch, "%s '%s'", kind, ml_escaped(e->scratch, v->name));
	return ml_format(e->scratch, "%s %d", kind, v->index);
}

ml_status
ml_eval_dim(ml_eval *e, ml_dim d, int64_t *value)
{
	if (!ml_eval_known(e, d))
		return ml_eval_fail(e, ML_ERR_SHAPE,
				    "the size %s cannot be found from the shapes of the inputs",
				    dim_text(e, d));
	if (!ml_dim_eval(d, e->symbol, value))
		return ml_eval_fail(e, ML_ERR_SHAPE, "the size %s overflows or divides by zero",
				    dim_text(e, d));
	return ML_OK;
}

ml_status
ml_eval_dims(ml_eval *e, const ml_attr *a, int64_t *value)
{
	if (a->count > ML_MAX_RANK)
		return ml_eval_fail(e, ML_ERR_LIMIT, "more than %d sizes", ML_MAX_RANK);
	for (int i = 0; i < a->count; i++)
		ML_STEP(ml_eval_dim(e, a->dims[i], &value[i]));
	return ML_OK;
}

static bool
holds(ml_guard_kind kind, int64_t a, int64_t b)
{
	switch (kind) {
	case ML_GUARD_EQ: return a == b;
	case ML_GUARD_LE: return a <= b;
	case ML_GUARD_DIVIDES: return b != 0 && (b == -1 || a % b == 0);
	}
	return false;
}

static ml_status
check_guards(ml_eval *e)
{
	static const char *const verb[] = {[ML_GUARD_EQ] = "does not equal",
					   [ML_GUARD_LE] = "exceeds",
					   [ML_GUARD_DIVIDES] = "is no multiple of"};

	for (int i = 0; i < e->m->guards.count; i++) {
		const ml_guard *g = &e->m->guards.at[i];
		int64_t a, b;
		if (!ml_eval_known(e, g->a) || !ml_eval_known(e, g->b))
			continue;
		if (!ml_dim_eval(g->a, e->symbol, &a) || !ml_dim_eval(g->b, e->symbol, &b))
			return ml_error(e->cx, ML_ERR_SHAPE, g->prov,
					"%s: %s or %s overflows or divides by zero", g->text,
					dim_text(e, g->a), dim_text(e, g->b));
		if (!holds(g->kind, a, b))
			return ml_error(e->cx, ML_ERR_SHAPE, g->prov, "%s: %s = %lld %s %s = %lld",
					g->text, dim_text(e, g->a), (long long)a, verb[g->kind],
					dim_text(e, g->b), (long long)b);
	}
	return ML_OK;
}

/* Gives symbol s a value unless it has one that `definer` may not change. */
static ml_status
give(ml_eval *e, const void *definer, const ml_sym *s, int64_t value, bool *changed)
{
	int64_t bound;

	if (e->definer[s->index] &&
	    (e->definer[s->index] != definer || e->when[s->index] == e->event))
		return ML_OK;
	if (value < s->lo || value > s->hi)
		return ml_eval_fail(e, ML_ERR_SHAPE, "%s = %lld is outside of its range %lld..%lld",
				    ml_escaped(e->scratch, s->name), (long long)value,
				    (long long)s->lo, (long long)s->hi);
	if (s->bound && ml_eval_known(e, s->bound) && ml_dim_eval(s->bound, e->symbol, &bound) &&
	    value > bound)
		return ml_eval_fail(e, ML_ERR_SHAPE, "%s = %lld exceeds its bound %s = %lld",
				    ml_escaped(e->scratch, s->name), (long long)value,
				    dim_text(e, s->bound), (long long)bound);
	e->symbol[s->index] = value;
	e->definer[s->index] = definer;
	e->when[s->index] = e->event;
	*changed = true;
	return ML_OK;
}

ml_status
ml_eval_bind(ml_eval *e, const void *definer, ml_value *const *v, ml_array *const *a, int n)
{
	bool changed = false;

	e->event++;
	for (int i = 0; i < n; i++) {
		const ml_type *type = &v[i]->type;
		if (a[i]->dtype != type->dtype || a[i]->rank != type->rank)
			return ml_eval_fail(e, ML_ERR_TYPE,
					    "%s is %s of rank %d, must be %s of rank %d",
					    value_text(e, v[i]), ml_dtype_name(a[i]->dtype),
					    a[i]->rank, ml_dtype_name(type->dtype), type->rank);
		for (int d = 0; d < type->rank; d++) {
			const ml_sym *s = plain_symbol(type->dim[d]);
			if (s)
				ML_STEP(give(e, definer, s, a[i]->dim[d], &changed));
		}
	}
	for (int i = 0; i < n; i++)
		for (int d = 0; d < v[i]->type.rank; d++) {
			ml_dim dim = v[i]->type.dim[d];
			int64_t want;
			if (!ml_eval_known(e, dim))
				continue;
			ML_STEP(ml_eval_dim(e, dim, &want));
			if (want != a[i]->dim[d])
				return ml_eval_fail(e, ML_ERR_SHAPE,
						    "dim %d of %s is %lld, must be %s = %lld", d,
						    value_text(e, v[i]), (long long)a[i]->dim[d],
						    dim_text(e, dim), (long long)want);
		}
	return changed ? check_guards(e) : ML_OK;
}
