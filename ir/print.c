/* print.c -- a module as text that parses back to the same module.
 *
 *   module "name" opset 17 {
 *     sym batch in 1..512
 *     guard batch == b2 "inner dimensions must be equal" @"/encoder/0":MatMul-13[4]
 *     in %0 "ids" : s64[batch, s]
 *     %1 = const {1, -inf} : f32[2]         up to 16 elements; `splat 0.5`; `#hash` when larger
 *     %2, %3 "index" = top_k %1 {k = [1]} : f32[1], s64[1] @"/top":TopK-11[7]
 *     %4 = if %2, %3 (%5 : s64[1]) {        bodies: then, else
 *       yield %5
 *     } ...
 *     out "last" = %4
 *   }
 *
 * Values are numbered in the order of the text, so equal modules give equal text.  Names follow
 * the number, provenance follows the types, attributes with their default value are left out.
 */
#include "text.h"
#include "value_map.h"
#include <inttypes.h>
#include <string.h>

static void
put_quoted(ml_text *t, const char *name)
{
	ml_put(t, "\"");
	ml_put_escaped(t, name ? name : "");
	ml_put(t, "\"");
}

static void
put_use(ml_text *t, const ml_value_map *numbers, const ml_value *v)
{
	int number = ml_value_number(numbers, v);

	if (number >= 0)
		ml_put(t, "%%%d", number);
	else
		ml_put(t, "%%?"); /* only in broken modules, which the verifier prints */
}

static void
put_definition(ml_text *t, const ml_value_map *numbers, const ml_value *v)
{
	put_use(t, numbers, v);
	if (v->name) {
		ml_put(t, " ");
		put_quoted(t, v->name);
	}
}

static bool
is_word(const char *s)
{
	for (size_t i = 0; s[i]; i++)
		if (!ml_is_name_char(s[i], i == 0))
			return false;
	return *s != 0;
}

static void
put_prov(ml_text *t, const ml_prov *p)
{
	for (; p; p = p->next) {
		ml_put(t, " @");
		put_quoted(t, p->node);
		if (p->op) {
			ml_put(t, ":");
			if (is_word(p->op))
				ml_put(t, "%s", p->op);
			else
				put_quoted(t, p->op);
		}
		if (p->opset > 0)
			ml_put(t, "-%d", p->opset);
		if (p->index >= 0)
			ml_put(t, "[%d]", p->index);
	}
}

/* ---- attributes and constants ---- */

static bool
same_attr(ml_attr_kind kind, const ml_attr *a, const ml_attr *b)
{
	switch (kind) {
	case ML_ATTR_i64: return a->i64 == b->i64;
	case ML_ATTR_f64: return !memcmp(&a->f64, &b->f64, sizeof a->f64);
	case ML_ATTR_str: return a->str == b->str || (a->str && b->str && !strcmp(a->str, b->str));
	case ML_ATTR_dtype: return a->dtype == b->dtype;
	default: return a->count == 0 && b->count == 0; /* lists: their default is empty */
	}
}

static void
put_attr(ml_text *t, ml_attr_kind kind, const ml_attr *a)
{
	switch (kind) {
	case ML_ATTR_i64: ml_put(t, "%" PRId64, a->i64); return;
	case ML_ATTR_f64: ml_put_element(t, ML_f64, &a->f64, 0); return;
	case ML_ATTR_str: put_quoted(t, a->str); return;
	case ML_ATTR_dtype: ml_put(t, "%s", ml_dtype_name(a->dtype)); return;
	case ML_ATTR_blob: return; /* put_constant */
	case ML_ATTR_ints:
	case ML_ATTR_dims: break;
	}
	ml_put(t, "[");
	for (int i = 0; i < a->count; i++) {
		ml_put(t, i ? ", " : "");
		if (kind == ML_ATTR_ints)
			ml_put(t, "%" PRId64, a->ints[i]);
		else
			ml_dim_print(t, a->dims[i]);
	}
	ml_put(t, "]");
}

static void
put_attrs(ml_text *t, const ml_node *n)
{
	const ml_op_info *info = ml_op_get(n->op);
	const char *before = " {";

	for (int i = 0; i < info->nattrs; i++) {
		const ml_attr_info *a = &info->attr[i];
		if (a->kind == ML_ATTR_blob || same_attr(a->kind, &n->attr[i], &a->init))
			continue;
		ml_put(t, "%s%s = ", before, a->name);
		put_attr(t, a->kind, &n->attr[i]);
		before = ", ";
	}
	ml_put(t, *before == ',' ? "}" : "");
}

static bool
all_the_same(const ml_blob *b, uint64_t size)
{
	if (b->size < 2 * size || b->size > ML_TEXT_SPLAT_BYTES)
		return false;
	/* Every element equals its neighbour. */
	return !memcmp(b->bytes, (const char *)b->bytes + size, (size_t)(b->size - size));
}

static void
put_constant(ml_text *t, const ml_node *n)
{
	ml_blob *b = n->attr[0].blob;
	ml_dtype dtype = n->out[0].type.dtype;
	uint64_t size = (uint64_t)ml_dtype_bytes(dtype), count = size ? b->size / size : 0;

	if (all_the_same(b, size)) {
		ml_put(t, " splat ");
		ml_put_element(t, dtype, b->bytes, 0);
	} else if (count <= ML_TEXT_ELEMENTS) {
		ml_put(t, " {");
		for (uint64_t i = 0; i < count; i++) {
			ml_put(t, i ? ", " : "");
			ml_put_element(t, dtype, b->bytes, (int64_t)i);
		}
		ml_put(t, "}");
	} else {
		ml_put(t, " #%016" PRIx64, ml_blob_hash(b));
	}
}

/* ---- nodes and blocks ---- */

static void put_block(ml_text *, const ml_value_map *, const ml_block *, int indent);

static void
put_body(ml_text *t, const ml_value_map *numbers, const ml_block *b, int indent)
{
	ml_put(t, " (");
	for (int i = 0; i < b->nargs; i++) {
		ml_put(t, i ? ", " : "");
		put_definition(t, numbers, b->arg[i]);
		ml_put(t, " : ");
		ml_type_print(t, &b->arg[i]->type);
	}
	ml_put(t, ") {\n");
	put_block(t, numbers, b, indent + 2);
	ml_put(t, "%*s}", indent, "");
}

static void
put_node(ml_text *t, const ml_value_map *numbers, const ml_node *n, int indent)
{
	for (int i = 0; i < n->nout; i++) {
		ml_put(t, i ? ", " : "");
		put_definition(t, numbers, &n->out[i]);
	}
	ml_put(t, "%s%s", n->nout ? " = " : "", ml_op_get(n->op)->name);
	if (n->op == ML_OP_const && n->attr[0].blob)
		put_constant(t, n);
	for (int i = 0; i < n->nin; i++) {
		ml_put(t, i ? ", " : " ");
		put_use(t, numbers, ml_in(n, i));
	}
	put_attrs(t, n);
	for (int i = 0; i < n->nblocks; i++)
		put_body(t, numbers, n->body[i], indent);
	for (int i = 0; i < n->nout; i++) {
		ml_put(t, i ? ", " : " : ");
		ml_type_print(t, &n->out[i].type);
	}
	put_prov(t, n->prov);
}

static void
put_block(ml_text *t, const ml_value_map *numbers, const ml_block *b, int indent)
{
	for (const ml_node *n = b->first; n; n = n->next) {
		if (n->op == ML_OP_yield && !b->owner)
			break; /* the main block's results are the `out` lines */
		ml_put(t, "%*s", indent, "");
		put_node(t, numbers, n, indent);
		ml_put(t, "\n");
	}
}

void
ml_print_node(ml_text *t, const ml_node *n)
{
	ml_value_map numbers = ml_number_values(t->arena, n->block->module);

	put_node(t, &numbers, n, 0);
}

/* ---- symbols and guards ---- */

static void
mark_dim(bool *used, ml_dim d)
{
	const ml_term *term;
	int n = ml_dim_terms(d, &term);

	for (int i = 0; i < n; i++)
		for (int j = 0; j < term[i].natoms; j++) {
			const ml_atom *a = term[i].atom[j];
			if (a->kind != ML_ATOM_SYM) {
				mark_dim(used, a->a);
				mark_dim(used, a->b);
			} else if (!used[a->sym->index]) {
				used[a->sym->index] = true;
				if (a->sym->bound)
					mark_dim(used, a->sym->bound);
			}
		}
}

static void
mark_type(bool *used, const ml_type *type)
{
	for (int i = 0; i < type->rank; i++)
		mark_dim(used, type->dim[i]);
}

static void
mark_block(bool *used, const ml_block *b)
{
	for (int i = 0; i < b->nargs; i++)
		mark_type(used, &b->arg[i]->type);
	for (const ml_node *n = b->first; n; n = n->next) {
		const ml_op_info *info = ml_op_get(n->op);
		for (int i = 0; i < n->nout; i++)
			mark_type(used, &n->out[i].type);
		for (int i = 0; i < info->nattrs; i++)
			for (int d = 0; info->attr[i].kind == ML_ATTR_dims && d < n->attr[i].count;
			     d++)
				mark_dim(used, n->attr[i].dims[d]);
		for (int i = 0; i < n->nblocks; i++)
			mark_block(used, n->body[i]);
	}
}

static void
put_symbols(ml_text *t, const ml_module *m)
{
	bool *used = ML_NEW_ARRAY(t->arena, bool, ml_sym_count(m->dims));

	mark_block(used, m->main);
	for (int i = 0; i < m->guards.count; i++) {
		mark_dim(used, m->guards.at[i].a);
		mark_dim(used, m->guards.at[i].b);
	}
	for (int i = 0; i < ml_sym_count(m->dims); i++) {
		const ml_sym *s = ml_sym_at(m->dims, i);
		if (!used[i])
			continue;
		ml_put(t, "  sym ");
		ml_dim_print(t, ml_dim_sym(m->dims, s));
		if (s->lo != 0 || s->hi != INT64_MAX)
			ml_put(t, " in %" PRId64 "..", s->lo);
		if (s->hi != INT64_MAX)
			ml_put(t, "%" PRId64, s->hi);
		if (s->bound) {
			ml_put(t, " <= ");
			ml_dim_print(t, s->bound);
		}
		ml_put(t, "\n");
	}
}

static void
put_guards(ml_text *t, const ml_module *m)
{
	static const char *const relation[] = {
		[ML_GUARD_EQ] = "==", [ML_GUARD_LE] = "<=", [ML_GUARD_DIVIDES] = "multiple_of"};

	for (int i = 0; i < m->guards.count; i++) {
		const ml_guard *g = &m->guards.at[i];
		ml_put(t, "  guard ");
		ml_dim_print(t, g->a);
		ml_put(t, " %s ", relation[g->kind]);
		ml_dim_print(t, g->b);
		ml_put(t, " ");
		put_quoted(t, g->text);
		put_prov(t, g->prov);
		ml_put(t, "\n");
	}
}

void
ml_print(ml_text *t, const ml_module *m)
{
	ml_value_map numbers = ml_number_values(t->arena, m);
	const ml_node *last = m->main->last;

	ml_put(t, "module ");
	put_quoted(t, m->name);
	if (m->opset > 0)
		ml_put(t, " opset %d", m->opset);
	ml_put(t, " {\n");
	put_symbols(t, m);
	put_guards(t, m);
	for (int i = 0; i < m->main->nargs; i++) {
		ml_put(t, "  in ");
		put_definition(t, &numbers, m->main->arg[i]);
		ml_put(t, " : ");
		ml_type_print(t, &m->main->arg[i]->type);
		ml_put(t, "\n");
	}
	put_block(t, &numbers, m->main, 2);
	for (int i = 0; last && last->op == ML_OP_yield && i < last->nin; i++) {
		ml_put(t, "  out ");
		put_quoted(t, i < m->output_names.count ? m->output_names.at[i] : "");
		ml_put(t, " = ");
		put_use(t, &numbers, ml_in(last, i));
		ml_put(t, "\n");
	}
	ml_put(t, "}\n");
}
