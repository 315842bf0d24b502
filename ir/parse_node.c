/* parse_node.c -- nodes and bodies in IR text; their types must be what inference says. */
#include "parse.h"
#include <inttypes.h>
#include <string.h>

typedef ML_VEC(ml_value *) value_list;
typedef ML_VEC(ml_definition) definition_list;
typedef ML_VEC(ml_type) type_list;

static ml_status
parse_uses(ml_parser *p, const ml_scope *s, value_list *list)
{
	ml_value *v;

	if (!ml_next_is(p, "%"))
		return ML_OK;
	do {
		ML_STEP(ml_parse_use(p, s, &v));
		ML_PUSH(&p->m->arena, *list, v);
	} while (ml_accept(p, ","));
	return ML_OK;
}

/* %1, %2 "name" = ; nothing when the node has no results. */
static ml_status
parse_definitions(ml_parser *p, definition_list *list)
{
	ml_definition d;

	if (!ml_next_is(p, "%"))
		return ML_OK;
	do {
		ML_STEP(ml_parse_definition(p, &d));
		ML_PUSH(&p->m->arena, *list, d);
	} while (ml_accept(p, ","));
	return ml_expect(p, "=");
}

static ml_status
parse_types(ml_parser *p, int count, type_list *list)
{
	ml_type type;

	for (int i = 0; i < count; i++) {
		ML_STEP(ml_expect(p, i ? "," : ":"));
		ML_STEP(ml_parse_value_type(p, &type));
		ML_PUSH(&p->m->arena, *list, type);
	}
	return ML_OK;
}

/* ---- attributes ---- */

static ml_status
parse_list(ml_parser *p, ml_attr_kind kind, ml_attr *a)
{
	ML_VEC(int64_t) ints = {0};
	ML_VEC(ml_dim) dims = {0};
	int64_t number;
	ml_dim dim;

	ML_STEP(ml_expect(p, "["));
	while (!ml_accept(p, "]")) {
		if (ints.count + dims.count)
			ML_STEP(ml_expect(p, ","));
		if (kind == ML_ATTR_ints) {
			ML_STEP(ml_parse_int(p, INT64_MIN, INT64_MAX, &number));
			ML_PUSH(&p->m->arena, ints, number);
		} else {
			ML_STEP(ml_parse_dim(p, &dim));
			ML_PUSH(&p->m->arena, dims, dim);
		}
	}
	a->count = ints.count + dims.count;
	if (kind == ML_ATTR_ints)
		a->ints = ints.at;
	else
		a->dims = dims.at;
	return ML_OK;
}

static ml_status
parse_attr_value(ml_parser *p, ml_attr_kind kind, ml_attr *a)
{
	ml_span word;

	switch (kind) {
	case ML_ATTR_i64: return ml_parse_int(p, INT64_MIN, INT64_MAX, &a->i64);
	case ML_ATTR_str: return ml_parse_string(p, &a->str);
	case ML_ATTR_f64:
		ml_skip(p);
		if (!ml_read_element(ML_f64, &p->at, p->end, &a->f64, 0))
			return ml_parse_error(p, p->at, "expected a number");
		return ML_OK;
	case ML_ATTR_dtype:
		ML_STEP(ml_parse_word(p, "an element type", &word));
		if (!ml_dtype_named(word.at, word.length, &a->dtype))
			return ml_parse_error(p, word.at, "there is no element type '%.*s'",
					      ml_shown(word.length), word.at);
		return ML_OK;
	case ML_ATTR_ints:
	case ML_ATTR_dims: return parse_list(p, kind, a);
	case ML_ATTR_blob: break;
	}
	return ml_parse_error(p, p->at, "this attribute has no text form");
}

static ml_status
parse_attrs(ml_parser *p, ml_node *n)
{
	const ml_op_info *info = ml_op_get(n->op);
	ml_span name;

	if (!ml_accept(p, "{"))
		return ML_OK;
	do {
		ML_STEP(ml_parse_word(p, "an attribute", &name));
		int i = 0;
		while (i < info->nattrs && (strlen(info->attr[i].name) != name.length ||
					    memcmp(info->attr[i].name, name.at, name.length)))
			i++;
		if (i == info->nattrs)
			return ml_parse_error(p, name.at, "%s has no attribute '%.*s'", info->name,
					      ml_shown(name.length), name.at);
		ML_STEP(ml_expect(p, "="));
		ML_STEP(parse_attr_value(p, info->attr[i].kind, &n->attr[i]));
	} while (ml_accept(p, ","));
	return ml_expect(p, "}");
}

/* ---- bodies ---- */

static ml_status
parse_arguments(ml_parser *p, ml_block *b, ml_scope *s)
{
	ml_definition d;
	ml_type type;

	ML_STEP(ml_expect(p, "("));
	while (!ml_accept(p, ")")) {
		if (b->nargs)
			ML_STEP(ml_expect(p, ","));
		ML_STEP(ml_parse_definition(p, &d));
		ML_STEP(ml_expect(p, ":"));
		ML_STEP(ml_parse_value_type(p, &type));
		ML_STEP(ml_define(p, s, &d, ml_block_add_arg(b, &type, NULL)));
	}
	return ML_OK;
}

static ml_status
parse_bodies(ml_parser *p, ml_node *n)
{
	while (ml_next_is(p, "(")) {
		const char *start = p->at;
		ml_scope scope = {0};
		if (n->op != ML_OP_if && n->op != ML_OP_loop)
			return ml_parse_error(p, start, "%s has no bodies", ml_op_get(n->op)->name);
		if (++p->depth > ML_TEXT_DEPTH)
			return ml_parse_error(p, start, "more than %d bodies within each other",
					      ML_TEXT_DEPTH);
		ml_block *body = ml_block_new(p->m, n);
		ML_STEP(parse_arguments(p, body, &scope));
		ML_STEP(ml_expect(p, "{"));
		ML_STEP(ml_parse_nodes(p, body, &scope));
		ML_STEP(ml_expect(p, "}"));
		p->depth--;
	}
	return ML_OK;
}

static ml_status
parse_yield(ml_parser *p, ml_block *b, const ml_scope *s)
{
	const char *start = p->at;
	ml_builder at = ml_builder_at_end(b, NULL);
	value_list list = {0};

	if (!b->owner)
		return ml_parse_error(p, start, "results of the module are written as 'out'");
	ML_STEP(parse_uses(p, s, &list));
	ML_STEP(ml_parse_prov(p, &at.prov));
	ml_status status = ml_build_yield(&at, list.at, list.count);
	return status ? ml_parse_failed(p, start, status) : ML_OK;
}

/* ---- types ---- */

static ml_sym *
symbol_of(const ml_module *m, ml_dim d)
{
	const ml_term *term;

	if (ml_dim_terms(d, &term) != 1 || term->coefficient != 1 || term->natoms != 1 ||
	    term->atom[0]->kind != ML_ATOM_SYM)
		return NULL;
	return ml_sym_at(m->dims, term->atom[0]->sym->index);
}

/* A symbol that inference has just made stands for any one name in the text. */
static bool
same_dim(const ml_module *m, int old_symbols, ml_dim inferred, ml_dim text)
{
	const ml_sym *made = symbol_of(m, inferred);
	ml_sym *meant = symbol_of(m, text);

	if (inferred == text)
		return true;
	if (!made || !made->fresh || made->index < old_symbols || !meant)
		return false;
	if (!meant->bound) { /* it had no line of its own */
		meant->fresh = true;
		meant->lo = made->lo;
		meant->hi = made->hi;
		meant->bound = made->bound;
	}
	return true;
}

static bool
same_type(const ml_module *m, int old_symbols, const ml_type *inferred, const ml_type *text)
{
	if (inferred->dtype != text->dtype || inferred->rank != text->rank)
		return false;
	for (int i = 0; i < text->rank; i++)
		if (!same_dim(m, old_symbols, inferred->dim[i], text->dim[i]))
			return false;
	return true;
}

static ml_status
compare_types(ml_parser *p, const char *start, ml_node *n, const type_list *types, int old_symbols)
{
	ml_text a, b;

	for (int i = 0; i < n->nout; i++) {
		if (!same_type(p->m, old_symbols, &n->out[i].type, &types->at[i])) {
			ml_text_init(&a, &p->m->arena);
			ml_text_init(&b, &p->m->arena);
			ml_type_print(&a, &types->at[i]);
			ml_type_print(&b, &n->out[i].type);
			return ml_parse_error(
				p, start, "result %d of %s is %s here, but its operands give %s", i,
				ml_op_get(n->op)->name, a.at, b.at);
		}
		n->out[i].type = types->at[i];
	}
	return ML_OK;
}

/* ---- nodes ---- */

/* Everything behind the operator's name, for all but const and yield. */
static ml_status
parse_general(ml_parser *p, ml_builder *b, ml_op op, const ml_scope *s, int nresults, ml_node **out)
{
	const char *start = p->at;
	int old_symbols;
	value_list in = {0};
	type_list types = {0};

	ML_STEP(parse_uses(p, s, &in));
	ml_node *n = ml_begin(b, op, in.at, in.count);
	if (!n)
		return ml_parse_failed(p, start, b->failed);
	ML_STEP(parse_attrs(p, n));
	ML_STEP(parse_bodies(p, n));
	ML_STEP(parse_types(p, nresults, &types));
	ML_STEP(ml_parse_prov(p, &n->prov));
	if (ml_op_get(op)->cls == ML_CONTROL)
		ml_set_results(b, n, types.at, types.count);
	old_symbols = ml_sym_count(p->m->dims);
	if (!ml_finish(b, n))
		return ml_parse_failed(p, start, b->failed);
	*out = n;
	if (n->nout != nresults)
		return ml_parse_error(p, start, "%s has %d results, not %d", ml_op_get(op)->name,
				      n->nout, nresults);
	return compare_types(p, start, n, &types, old_symbols);
}

static ml_status
parse_node(ml_parser *p, ml_block *block, ml_scope *s)
{
	ml_builder b = ml_builder_at_end(block, NULL);
	definition_list results = {0};
	ml_node *n = NULL;
	ml_span word;

	ML_STEP(parse_definitions(p, &results));
	ML_STEP(ml_parse_word(p, "an operator", &word));
	ml_op op = ml_op_named(word.at, word.length);
	if (op == ML_OP_none)
		return ml_parse_error(p, word.at, "there is no operator '%.*s'",
				      ml_shown(word.length), word.at);
	if (op == ML_OP_yield)
		return results.count ? ml_parse_error(p, word.at, "yield has no results")
				     : parse_yield(p, block, s);
	if (op != ML_OP_const)
		ML_STEP(parse_general(p, &b, op, s, results.count, &n));
	else if (results.count == 1)
		ML_STEP(ml_parse_const(p, &b, &n));
	else
		return ml_parse_error(p, word.at, "const has one result");
	for (int i = 0; i < results.count; i++)
		ML_STEP(ml_define(p, s, &results.at[i], &n->out[i]));
	return ML_OK;
}

ml_status
ml_parse_nodes(ml_parser *p, ml_block *b, ml_scope *s)
{
	while (!ml_next_is(p, "}") && !ml_next_is(p, "out")) {
		if (b->last && b->last->op == ML_OP_yield)
			return ml_parse_error(p, p->at, "yield must be the last node");
		ML_STEP(parse_node(p, b, s));
	}
	if (b->owner && (!b->last || b->last->op != ML_OP_yield))
		return ml_parse_error(p, p->at, "a body ends with a yield");
	return ML_OK;
}
