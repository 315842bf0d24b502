/* parse.c -- IR text to a module: the module line, symbols, guards, inputs and outputs.
 * The form is described in print.c.  The text may be hostile. */
#include "parse.h"
#include <string.h>

/* n, "any name", ?0 */
static ml_status
parse_symbol_name(ml_parser *p, ml_sym **s)
{
	const char *name;

	if (ml_next_is(p, "\"")) {
		ML_STEP(ml_parse_string(p, &name));
		*s = ml_sym_named(p->m->dims, name, strlen(name));
		return ML_OK;
	}
	const char *start = p->at;
	bool fresh = ml_accept(p, "?");
	name = p->at;
	while (p->at < p->end &&
	       (fresh ? *p->at >= '0' && *p->at <= '9' : ml_is_name_char(*p->at, p->at == name)))
		p->at++;
	if (p->at == name)
		return ml_parse_error(p, p->at, "expected the name of a size");
	*s = ml_sym_named(p->m->dims, start, (size_t)(p->at - start));
	(*s)->fresh = fresh;
	return ML_OK;
}

/* sym n in 1..512     sym ?0 <= n*2 */
static ml_status
parse_symbol(ml_parser *p)
{
	ml_sym *s = NULL;

	ml_skip(p);
	ML_STEP(parse_symbol_name(p, &s));
	const char *behind = p->at;
	bool ranged = ml_accept(p, "in");
	if (ranged && ml_next_is(p, "%")) { /* no range: the next line is an input */
		p->at = behind;
	} else if (ranged) {
		ML_STEP(ml_parse_int(p, 0, INT64_MAX, &s->lo));
		ML_STEP(ml_expect(p, ".."));
		if (p->at < p->end && *p->at >= '0' && *p->at <= '9')
			ML_STEP(ml_parse_int(p, s->lo, INT64_MAX, &s->hi));
	}
	return ml_accept(p, "<=") ? ml_parse_dim(p, &s->bound) : ML_OK;
}

static ml_status
parse_guard(ml_parser *p)
{
	ml_guard g = {0};

	ML_STEP(ml_parse_dim(p, &g.a));
	if (ml_accept(p, "=="))
		g.kind = ML_GUARD_EQ;
	else if (ml_accept(p, "<="))
		g.kind = ML_GUARD_LE;
	else if (ml_accept(p, "multiple_of"))
		g.kind = ML_GUARD_DIVIDES;
	else
		return ml_parse_error(p, p->at, "expected ==, <= or multiple_of");
	ML_STEP(ml_parse_dim(p, &g.b));
	ML_STEP(ml_parse_string(p, &g.text));
	ML_STEP(ml_parse_prov(p, &g.prov));
	ML_PUSH(&p->m->arena, p->m->guards, g);
	return ML_OK;
}

static ml_status
parse_input(ml_parser *p, ml_scope *s)
{
	ml_definition d;
	ml_type type;

	ML_STEP(ml_parse_definition(p, &d));
	ML_STEP(ml_expect(p, ":"));
	ML_STEP(ml_parse_value_type(p, &type));
	return ml_define(p, s, &d, ml_block_add_arg(p->m->main, &type, NULL));
}

static ml_status
parse_outputs(ml_parser *p, const ml_scope *s)
{
	ML_VEC(ml_value *) results = {0};
	ml_builder b = ml_builder_at_end(p->m->main, NULL);

	while (ml_accept(p, "out")) {
		const char *name;
		ml_value *v;
		ML_STEP(ml_parse_string(p, &name));
		ML_STEP(ml_expect(p, "="));
		ML_STEP(ml_parse_use(p, s, &v));
		ML_PUSH(&p->m->arena, p->m->output_names, name);
		ML_PUSH(&p->m->arena, results, v);
	}
	return ml_build_yield(&b, results.at, results.count);
}

static ml_status
parse_module(ml_parser *p)
{
	ml_scope scope = {0};
	int64_t opset;

	ML_STEP(ml_expect(p, "module"));
	ML_STEP(ml_parse_string(p, &p->m->name));
	if (ml_accept(p, "opset")) {
		ML_STEP(ml_parse_int(p, 1, INT32_MAX, &opset));
		p->m->opset = (int)opset;
	}
	ML_STEP(ml_expect(p, "{"));
	for (;;) {
		if (ml_accept(p, "sym"))
			ML_STEP(parse_symbol(p));
		else if (ml_accept(p, "guard"))
			ML_STEP(parse_guard(p));
		else if (ml_accept(p, "in"))
			ML_STEP(parse_input(p, &scope));
		else
			break;
	}
	ML_STEP(ml_parse_nodes(p, p->m->main, &scope));
	ML_STEP(parse_outputs(p, &scope));
	ML_STEP(ml_expect(p, "}"));
	ml_skip(p);
	return p->at == p->end ? ML_OK : ml_parse_error(p, p->at, "expected nothing more");
}

ml_status
ml_parse(ml_context *cx, const char *text, size_t length, ml_find_blob *find, void *user,
	 ml_module **m)
{
	ml_parser p = {.cx = cx,
		       .m = ml_module_new(cx, ""),
		       .start = text,
		       .at = text,
		       .end = text + length,
		       .find = find,
		       .user = user};
	ml_status status = parse_module(&p);

	*m = status ? NULL : p.m;
	if (status)
		ml_module_free(p.m);
	return status;
}
