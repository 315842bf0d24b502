/* verify_type.c -- invariants of types, attributes, constants, bodies and guards (see verify.c). */
#include "verify.h"
#include <string.h>

/* ---- 9, 10 ---- */

static bool
own_symbols(const ml_module *m, ml_dim d)
{
	const ml_term *term;
	int n = ml_dim_terms(d, &term);

	for (int t = 0; t < n; t++)
		for (int i = 0; i < term[t].natoms; i++) {
			const ml_atom *a = term[t].atom[i];
			if (a->kind != ML_ATOM_SYM
				    ? !own_symbols(m, a->a) || !own_symbols(m, a->b)
				    : a->sym->index >= ml_sym_count(m->dims) ||
					      ml_sym_at(m->dims, a->sym->index) != a->sym)
				return false;
		}
	return true;
}

static ml_status
verify_dim(const ml_verifier *v, const ml_node *n, ml_dim d, const char *what)
{
	int64_t value;

	if (!d || ml_dim_is_bad(d))
		return ml_broken(v, 9, n, "a size in %s is %s", what, d ? "poison" : "missing");
	if (!own_symbols(v->m, d) ||
	    (ml_dim_is_int(d, &value) && ml_dim_int(v->m->dims, value) != d))
		return ml_broken(v, 10, n, "a size in %s is of another table", what);
	return ML_OK;
}

ml_status
ml_verify_type(const ml_verifier *v, const ml_node *n, const ml_type *type, const char *what)
{
	int64_t lo, hi;

	if (ml_dtype_bytes(type->dtype) <= 0)
		return ml_broken(v, 9, n, "%s has no element type", what);
	if (type->rank < 0 || type->rank > ML_MAX_RANK)
		return ml_broken(v, 9, n, "%s has rank %d", what, type->rank);
	for (int i = 0; i < type->rank; i++) {
		ML_STEP(verify_dim(v, n, type->dim[i], what));
		ml_dim_range(type->dim[i], &lo, &hi);
		if (hi < 0)
			return ml_broken(v, 9, n, "dim %d of %s is negative", i, what);
	}
	return ML_OK;
}

/* ---- 11, 12, 13 ---- */

ml_status
ml_verify_attrs(const ml_verifier *v, const ml_node *n)
{
	const ml_op_info *info = ml_op_get(n->op);

	for (int i = 0; i < info->nattrs; i++) {
		const ml_attr *a = &n->attr[i];
		const char *name = info->attr[i].name;
		bool good = true;
		switch (info->attr[i].kind) {
		case ML_ATTR_str: good = a->str != NULL; break;
		case ML_ATTR_dtype: good = ml_dtype_bytes(a->dtype) > 0; break;
		case ML_ATTR_ints: good = a->count >= 0 && (a->ints || !a->count); break;
		case ML_ATTR_dims: good = a->count >= 0 && (a->dims || !a->count); break;
		case ML_ATTR_i64:
		case ML_ATTR_f64:
		case ML_ATTR_blob: break;
		}
		if (!good)
			return ml_broken(v, 11, n, "attribute %s of %s is not set", name,
					 info->name);
		for (int d = 0; info->attr[i].kind == ML_ATTR_dims && d < a->count; d++)
			ML_STEP(verify_dim(v, n, a->dims[d], name));
	}
	return ML_OK;
}

ml_status
ml_verify_constant(const ml_verifier *v, const ml_node *n)
{
	const ml_blob *blob = ML_A(n, const, value).blob;
	int64_t count;
	bool held = false;

	for (int i = 0; blob && i < v->m->blobs.count && !held; i++)
		held = v->m->blobs.at[i] == blob;
	if (!held)
		return ml_broken(v, 12, n, "a constant has no blob that the module holds");
	if (!ml_type_static_count(&n->out[0].type, &count))
		return ml_broken(v, 12, n, "the type of a constant is not static");
	if (blob->size != (uint64_t)count * (unsigned)ml_dtype_bytes(n->out[0].type.dtype))
		return ml_broken(v, 12, n, "a constant of %lld elements has %llu bytes",
				 (long long)count, (unsigned long long)blob->size);
	return ML_OK;
}

ml_status
ml_verify_content(const ml_verifier *v, const ml_value *value)
{
	const ml_node *n = value->def;
	int64_t count, element;

	if (!(ml_is_integer(value->type.dtype) || value->type.dtype == ML_bool) ||
	    value->type.rank > 1 || !ml_type_static_count(&value->type, &count))
		return ml_broken(v, 13, n, "a value of this type has known contents");
	for (int64_t i = 0; i < count; i++) {
		ML_STEP(verify_dim(v, n, value->content[i], "known contents"));
		if (ml_is_const(value) && (!ml_dim_is_int(value->content[i], &element) ||
					   element != ml_const_s64(value, i)))
			return ml_broken(v, 13, n, "element %lld of a constant is not its content",
					 (long long)i);
	}
	return ML_OK;
}

/* ---- 14, 15 ---- */

/* Same element type and rank, and sizes that may be equal. */
static bool
compatible(const ml_module *m, const ml_type *a, const ml_type *b)
{
	if (a->dtype != b->dtype || a->rank != b->rank)
		return false;
	for (int i = 0; i < a->rank; i++)
		if (ml_dim_never_equal(m->dims, a->dim[i], b->dim[i]))
			return false;
	return true;
}

static bool
is_scalar(const ml_type *type, ml_dtype dtype)
{
	return type->dtype == dtype && type->rank == 0;
}

static ml_status
verify_if(const ml_verifier *v, const ml_node *n)
{
	if (n->nin < 1 || !is_scalar(&ml_in(n, 0)->type, ML_bool))
		return ml_broken(v, 15, n, "the condition is no bool[]");
	for (int k = 0; k < 2; k++) {
		const ml_block *b = n->body[k];
		if (b->nargs != n->nin - 1 || b->last->nin != n->nout)
			return ml_broken(v, 15, n, "body %d has %d arguments and yields %d values",
					 k, b->nargs, b->last->nin);
		for (int i = 0; i < b->nargs; i++)
			if (!ml_type_equal(&b->arg[i]->type, &ml_in(n, 1 + i)->type))
				return ml_broken(v, 15, n,
						 "argument %d of body %d has another type", i, k);
		for (int i = 0; i < n->nout; i++)
			if (!compatible(v->m, &ml_in(b->last, i)->type, &n->out[i].type))
				return ml_broken(v, 15, n,
						 "body %d yields another type as result %d", k, i);
	}
	return ML_OK;
}

/* What the loop makes of a yielded type: scanned values are stacked along a new first dim. */
static bool
stacks_to(const ml_type *yielded, const ml_type *result)
{
	ml_type each = {.dtype = result->dtype, .rank = result->rank - 1};

	for (int i = 0; i < each.rank; i++)
		each.dim[i] = result->dim[i + 1];
	return ml_type_equal(yielded, &each);
}

static ml_status
verify_loop(const ml_verifier *v, const ml_node *n)
{
	const ml_block *b = n->body[0];
	int64_t carried = ML_A(n, loop, carried).i64;

	if (n->nin < 2 || !is_scalar(&ml_in(n, 0)->type, ML_s64) ||
	    !is_scalar(&ml_in(n, 1)->type, ML_bool))
		return ml_broken(v, 15, n, "trip and condition are not s64[] and bool[]");
	if (carried < 0 || carried > n->nin - 2 || carried > n->nout || b->nargs != n->nin - 1 ||
	    b->last->nin != n->nout + 1)
		return ml_broken(v, 15, n, "the body has %d arguments and yields %d values",
				 b->nargs, b->last->nin);
	if (!is_scalar(&b->arg[0]->type, ML_s64) || !is_scalar(&ml_in(b->last, 0)->type, ML_bool))
		return ml_broken(v, 15, n, "the body does not take s64[] and yield bool[] first");
	for (int i = 1; i < b->nargs; i++) {
		if (!ml_type_equal(&ml_in(n, 1 + i)->type, &b->arg[i]->type))
			return ml_broken(v, 15, n, "argument %d has another type", i);
	}
	for (int i = 0; i < n->nout; i++) {
		const ml_type *yielded = &ml_in(b->last, 1 + i)->type, *result = &n->out[i].type;
		if (i < carried ? !ml_type_equal(yielded, result) : !stacks_to(yielded, result))
			return ml_broken(v, 15, n, "result %d has another type", i);
	}
	return ML_OK;
}

ml_status
ml_verify_bodies(const ml_verifier *v, const ml_node *n)
{
	int wanted = n->op == ML_OP_if ? 2 : n->op == ML_OP_loop;

	if (n->nblocks != wanted)
		return ml_broken(v, 14, n, "%d bodies instead of %d", n->nblocks, wanted);
	switch (n->op) {
	case ML_OP_if: return verify_if(v, n);
	case ML_OP_loop: return verify_loop(v, n);
	default: return ML_OK;
	}
}

/* ---- 16 ---- */

ml_status
ml_verify_guards(const ml_verifier *v)
{
	for (int i = 0; i < v->m->guards.count; i++) {
		const ml_guard *g = &v->m->guards.at[i];
		if (!g->text || g->kind < ML_GUARD_EQ || g->kind > ML_GUARD_DIVIDES)
			return ml_broken(v, 16, NULL, "guard %d states no rule", i);
		ML_STEP(verify_dim(v, NULL, g->a, "a guard"));
		ML_STEP(verify_dim(v, NULL, g->b, "a guard"));
	}
	return ML_OK;
}

/* ---- 17, 18 ---- */

static const ml_sym *
fresh_symbol(ml_dim d)
{
	const ml_term *term;

	if (ml_dim_terms(d, &term) != 1 || term->coefficient != 1 || term->natoms != 1 ||
	    term->atom[0]->kind != ML_ATOM_SYM || !term->atom[0]->sym->fresh)
		return NULL;
	return term->atom[0]->sym;
}

/* Symbols made by inference stand for the ones the first inference made. */
static bool
same_type(const ml_type *a, const ml_type *again, int old_symbols)
{
	if (a->dtype != again->dtype || a->rank != again->rank)
		return false;
	for (int i = 0; i < a->rank; i++) {
		const ml_sym *made = fresh_symbol(again->dim[i]);
		bool stands_in = made && made->index >= old_symbols && fresh_symbol(a->dim[i]);
		if (a->dim[i] != again->dim[i] && !stands_in)
			return false;
	}
	return true;
}

/* Makes the clone's node once more; the original is named in the report. */
static ml_status
infer_again(const ml_verifier *v, const ml_node *original, ml_node *n)
{
	const ml_op_info *info = ml_op_get(n->op);
	ml_builder b = ml_builder_before(n);
	ml_value **in = ML_NEW_ARRAY(v->scratch, ml_value *, n->nin);
	int symbols = ml_sym_count(v->m->dims);

	for (int i = 0; i < n->nin; i++)
		in[i] = ml_in(n, i);
	ml_node *again = ml_begin(&b, n->op, in, n->nin);
	if (again && info->nattrs)
		memcpy(again->attr, n->attr, (size_t)info->nattrs * sizeof *n->attr);
	if (!again || !ml_finish(&b, again))
		return ml_broken(v, 17, original, "inference refuses the node");
	for (int i = 0; i < n->nout; i++)
		if (!same_type(&n->out[i].type, &again->out[i].type, symbols)) {
			ml_text t;
			ml_text_init(&t, v->scratch);
			ml_type_print(&t, &again->out[i].type);
			return ml_broken(v, 17, original, "inference gives %s", t.at);
		}
	ml_node_remove(again);
	return ML_OK;
}

static ml_status
infer_block(const ml_verifier *v, const ml_block *original, ml_block *b)
{
	const ml_node *o = original->first;

	for (ml_node *n = b->first; n; n = n->next, o = o->next) {
		ml_class cls = ml_op_get(n->op)->cls;
		for (int i = 0; i < n->nblocks; i++)
			ML_STEP(infer_block(v, o->body[i], n->body[i]));
		if (cls != ML_CONTROL && n->op != ML_OP_const)
			ML_STEP(infer_again(v, o, n));
	}
	return ML_OK;
}

ml_status
ml_verify_inference(const ml_verifier *v)
{
	ml_module *clone = ml_module_clone(v->m);
	int guards = clone->guards.count;
	ml_status status = infer_block(v, v->m->main, clone->main);

	if (!status && clone->guards.count > guards)
		status = ml_broken(v, 18, NULL, "the guard that %s is missing",
				   clone->guards.at[guards].text);
	ml_module_free(clone);
	return status;
}
