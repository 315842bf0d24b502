/* custom.c -- operators registered by the application: their one-line signature, and calls. */
#include "custom.h"
#include "text.h"
#include <string.h>

/* ---- the signature ---- */

typedef struct signature {
	ml_context *cx;
	ml_custom_op *op;
	const char *text, *at, *end;
	ML_VEC(const char *) dims;
} signature;

static ml_status
fail(signature *s, const char *wanted)
{
	return ml_error(s->cx, ML_ERR_ARG, NULL, "signature '%s', position %d: %s expected",
			s->text, (int)(s->at - s->text) + 1, wanted);
}

static void
skip_blanks(signature *s)
{
	while (s->at < s->end && (*s->at == ' ' || *s->at == '\t'))
		s->at++;
}

static bool
accept(signature *s, const char *token)
{
	size_t n = strlen(token);

	skip_blanks(s);
	if ((size_t)(s->end - s->at) < n || memcmp(s->at, token, n))
		return false;
	s->at += n;
	return true;
}

static const char *
word(signature *s)
{
	skip_blanks(s);
	const char *start = s->at;
	while (s->at < s->end && ml_is_name_char(*s->at, s->at == start))
		s->at++;
	return s->at > start ? ml_strndup(&s->cx->arena, start, (size_t)(s->at - start)) : NULL;
}

/* The IR's names, and i8..i64 as C programmers write them. */
static bool
dtype(signature *s, ml_dtype *out)
{
	const char *start = s->at, *name = word(s);
	bool known;

	if (!name)
		return false;
	char *spelled = ml_strdup(&s->cx->arena, name);
	if (spelled[0] == 'i')
		spelled[0] = 's';
	known = ml_dtype_named(spelled, strlen(spelled), out) && *out != ML_none;
	if (!known)
		s->at = start;
	return known;
}

/* A name that results may use only after an operand did. */
static ml_status
named_dim(signature *s, const char *name, bool result, int *index)
{
	for (int i = 0; i < s->dims.count; i++)
		if (!strcmp(s->dims.at[i], name)) {
			*index = i;
			return ML_OK;
		}
	if (result)
		return ml_error(s->cx, ML_ERR_ARG, NULL,
				"signature '%s': dimension '%s' of a result occurs in no operand",
				s->text, name);
	*index = s->dims.count;
	ML_PUSH(&s->cx->arena, s->dims, name);
	return ML_OK;
}

static ml_status
dim(signature *s, ml_custom_param *p, bool result)
{
	int64_t size = 0;
	int digits = 0;

	if (p->rank == ML_MAX_RANK)
		return fail(s, "']' (too many dimensions)");
	skip_blanks(s);
	for (; s->at < s->end && *s->at >= '0' && *s->at <= '9' && digits < 18; digits++)
		size = size * 10 + (*s->at++ - '0');
	p->dim[p->rank] = -1;
	p->size[p->rank] = size;
	if (!digits) {
		const char *name = word(s);
		if (!name)
			return fail(s, "a dimension's name or size");
		ML_STEP(named_dim(s, name, result, &p->dim[p->rank]));
	}
	p->rank++;
	return ML_OK;
}

static ml_status
param(signature *s, ml_custom_param *p, bool result)
{
	p->name = word(s);
	if (!p->name)
		return fail(s, "a parameter's name");
	if (!accept(s, ":"))
		return fail(s, "':'");
	skip_blanks(s);
	if (!dtype(s, &p->dtype))
		return fail(s, "an element type such as f32");
	p->scalar = !accept(s, "[");
	if (p->scalar && result)
		return fail(s, "'[' (results are tensors)");
	while (!p->scalar && !accept(s, "]")) {
		if (p->rank && !accept(s, ","))
			return fail(s, "',' or ']'");
		ML_STEP(dim(s, p, result));
	}
	return ML_OK;
}

static ml_status
params(signature *s, const char *close, bool result, ml_custom_param **out, int *n)
{
	ML_VEC(ml_custom_param) list = {0};

	while (!(close ? accept(s, close) : (skip_blanks(s), s->at == s->end))) {
		ml_custom_param p = {0};
		if (list.count && !accept(s, ","))
			return fail(s, close ? "',' or ')'" : "','");
		ML_STEP(param(s, &p, result));
		ML_PUSH(&s->cx->arena, list, p);
	}
	*out = list.at;
	*n = list.count;
	return ML_OK;
}

static ml_status
parse(signature *s)
{
	ml_custom_op *op = s->op;

	if (!accept(s, "("))
		return fail(s, "'('");
	ML_STEP(params(s, ")", false, &op->in, &op->nin));
	if (!accept(s, "->"))
		return fail(s, "'->'");
	ML_STEP(params(s, NULL, true, &op->out, &op->nout));
	if (!op->nout)
		return fail(s, "a result");
	op->dims = s->dims.at;
	op->ndims = s->dims.count;
	return ML_OK;
}

/* ---- registering ---- */

/* com.acme, Foo => com_acme_Foo */
static const char *
symbol_of(ml_arena *arena, const char *domain, const char *name)
{
	char *symbol = ml_format(arena, "%s%s%s", domain, *domain ? "_" : "", name);

	for (char *c = symbol; *c; c++)
		if (!ml_is_name_char(*c, c == symbol))
			*c = '_';
	return symbol;
}

const ml_custom_op *
ml_custom_find(const ml_context *cx, const char *domain, const char *name)
{
	const ml_custom_op *op = cx->custom_ops;

	while (op && (strcmp(op->domain, domain) || strcmp(op->name, name)))
		op = op->next;
	return op;
}

ml_status
ml_custom_register(ml_context *cx, const char *domain, const char *name, const char *text,
		   void (*fn)(void), ml_custom_op **out)
{
	ml_custom_op *op = ML_NEW(&cx->arena, ml_custom_op);
	signature s = {.cx = cx, .op = op, .text = text, .at = text, .end = text + strlen(text)};

	if (!*name)
		return ml_error(cx, ML_ERR_ARG, NULL, "an operator needs a name");
	if (ml_custom_find(cx, domain, name))
		return ml_error(cx, ML_ERR_ARG, NULL,
				"operator %s of domain '%s' is registered already", name, domain);
	op->domain = ml_strdup(&cx->arena, domain);
	op->name = ml_strdup(&cx->arena, name);
	op->symbol = symbol_of(&cx->arena, domain, name);
	op->fn = fn;
	ML_STEP(parse(&s));
	for (const ml_custom_op *other = cx->custom_ops; other; other = other->next)
		if (!strcmp(other->symbol, op->symbol))
			return ml_error(cx, ML_ERR_ARG, NULL, "%s and %s have the same C name %s",
					other->name, name, op->symbol);
	op->next = cx->custom_ops;
	cx->custom_ops = op;
	if (out)
		*out = op;
	return ML_OK;
}

/* ---- calls ---- */

/* Element type, rank and sizes of operand i; first uses of names bind them. */
static bool
bind_operand(ml_builder *b, const ml_custom_op *op, int i, const ml_type *t, ml_dim *bound)
{
	const ml_custom_param *p = &op->in[i];
	ml_context *cx = b->m->cx;

	if (t->dtype != p->dtype || t->rank != p->rank) {
		b->failed = ml_error(cx, ML_ERR_TYPE, b->prov,
				     "operand '%s' of %s must be %s of rank %d, is %s of rank %d",
				     p->name, op->name, ml_dtype_name(p->dtype), p->rank,
				     ml_dtype_name(t->dtype), t->rank);
		return false;
	}
	for (int k = 0; k < p->rank; k++) {
		bool named = p->dim[k] >= 0;
		ml_dim want = named ? bound[p->dim[k]] : ml_dim_int(b->m->dims, p->size[k]);
		if (!want)
			bound[p->dim[k]] = t->dim[k];
		else if (!ml_require_equal(b, t->dim[k], want,
					   "sizes of a custom operator's operands must agree")) {
			b->failed = ml_error(cx, ML_ERR_SHAPE, b->prov,
					     "dimension %d of operand '%s' of %s does not fit its "
					     "signature",
					     k, p->name, op->name);
			return false;
		}
	}
	return true;
}

ml_node *
ml_build_custom(ml_builder *b, const ml_custom_op *op, ml_value *const *in, int nin)
{
	ml_arena *arena = &b->m->arena;
	ml_dim *bound = ML_NEW_ARRAY(arena, ml_dim, op->ndims);
	ml_type *types = ML_NEW_ARRAY(arena, ml_type, op->nout);

	if (nin != op->nin) {
		b->failed = ml_error(b->m->cx, ML_ERR_ARG, b->prov, "%s has %d operands, not %d",
				     op->name, op->nin, nin);
		return NULL;
	}
	for (int i = 0; i < nin; i++)
		if (!in[i] || !bind_operand(b, op, i, &in[i]->type, bound))
			return NULL;
	for (int i = 0; i < op->nout; i++) {
		types[i] = (ml_type){.dtype = op->out[i].dtype, .rank = op->out[i].rank};
		for (int k = 0; k < types[i].rank; k++)
			types[i].dim[k] = op->out[i].dim[k] >= 0
						  ? bound[op->out[i].dim[k]]
						  : ml_dim_int(b->m->dims, op->out[i].size[k]);
	}
	ml_node *n = ml_begin(b, ML_OP_custom, in, nin);
	if (!n)
		return NULL;
	ML_A(n, custom, domain).str = ml_strdup(arena, op->domain);
	ML_A(n, custom, name).str = ml_strdup(arena, op->name);
	ml_set_results(b, n, types, op->nout);
	return ml_finish(b, n);
}
