/* dim_text.c -- the text form of dims: printing, and parsing the same syntax. */
#include "dim_node.h"
#include <string.h>

static bool
starts_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static const char *const words[] = {"floordiv", "mod", "min", "max", "ceildiv"};

static bool
is_word(const char *s, size_t length)
{
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strlen(words[i]) == length && !memcmp(words[i], s, length))
			return true;
	return false;
}

/* ---- printing ---- */

static void
print_symbol(ml_text *out, const ml_sym *s)
{
	size_t n = strlen(s->name), i = 0;

	while (i < n && (starts_name(s->name[i]) || (i && is_digit(s->name[i]))))
		i++;
	if ((n && i == n && !is_word(s->name, n)) || s->fresh) {
		ml_put(out, "%s", s->name);
		return;
	}
	ml_put(out, "\"");
	for (const char *c = s->name; *c; c++)
		if (*c == '"' || *c == '\\')
			ml_put(out, "\\%c", *c);
		else if (*c < ' ' || *c > '~')
			ml_put(out, "\\x%02x", (unsigned char)*c);
		else
			ml_put(out, "%c", *c);
	ml_put(out, "\"");
}

/* Operand of floordiv and mod. */
static void
print_operand(ml_text *out, ml_dim d)
{
	int64_t v;
	bool simple = ml_dim_is_int(d, &v) && v >= 0;

	if (d->nterms == 1 && d->term[0].coefficient == 1 && d->term[0].natoms == 1) {
		ml_atom_kind kind = d->term[0].atom[0]->kind;
		simple = kind != ML_ATOM_FLOORDIV && kind != ML_ATOM_MOD;
	}
	ml_put(out, simple ? "" : "(");
	ml_dim_print(out, d);
	ml_put(out, simple ? "" : ")");
}

static void
print_atom(ml_text *out, const ml_atom *a, bool alone)
{
	switch (a->kind) {
	case ML_ATOM_SYM: print_symbol(out, a->sym); break;
	case ML_ATOM_FLOORDIV:
	case ML_ATOM_MOD:
		ml_put(out, alone ? "" : "(");
		print_operand(out, a->a);
		ml_put(out, a->kind == ML_ATOM_MOD ? " mod " : " floordiv ");
		print_operand(out, a->b);
		ml_put(out, alone ? "" : ")");
		break;
	case ML_ATOM_MIN:
	case ML_ATOM_MAX:
		ml_put(out, a->kind == ML_ATOM_MIN ? "min(" : "max(");
		ml_dim_print(out, a->a);
		ml_put(out, ", ");
		ml_dim_print(out, a->b);
		ml_put(out, ")");
		break;
	}
}

void
ml_dim_print(ml_text *out, ml_dim d)
{
	if (d->bad || !d->nterms)
		ml_put(out, d->bad ? "overflow" : "0");
	for (int i = 0; i < d->nterms; i++) {
		const ml_term *t = &d->term[i];
		int64_t c = t->coefficient < 0 ? -t->coefficient : t->coefficient;
		bool number = c != 1 || !t->natoms;
		if (t->coefficient < 0)
			ml_put(out, i ? " - " : "-");
		else
			ml_put(out, i ? " + " : "");
		if (number)
			ml_put(out, "%lld", (long long)c);
		for (int k = 0; k < t->natoms; k++) {
			ml_put(out, k || number ? "*" : "");
			print_atom(out, t->atom[k], t->natoms == 1 && !number);
		}
	}
}

/* ---- parsing ---- */

typedef struct ml_reader {
	ml_dims *dims;
	const char *at, *end;
	int depth; /* bounds the recursion */
} ml_reader;

enum { MAX_DEPTH = 64, MAX_NAME = 256 };

static ml_dim parse_sum(ml_reader *);

static void
skip_blanks(ml_reader *r)
{
	while (r->at < r->end && (*r->at == ' ' || *r->at == '\t'))
		r->at++;
}

static bool
accept(ml_reader *r, char c)
{
	skip_blanks(r);
	if (r->at == r->end || *r->at != c)
		return false;
	r->at++;
	return true;
}

static size_t
name_length(const ml_reader *r)
{
	size_t n = 0, room = (size_t)(r->end - r->at);

	while (n < room && (starts_name(r->at[n]) || (n && is_digit(r->at[n]))))
		n++;
	return n;
}

static bool
accept_word(ml_reader *r, const char *word)
{
	skip_blanks(r);
	size_t n = name_length(r);
	if (n != strlen(word) || memcmp(r->at, word, n) != 0)
		return false;
	r->at += n;
	return true;
}

static ml_dim
parse_int(ml_reader *r)
{
	int64_t v = 0;

	for (; r->at < r->end && is_digit(*r->at); r->at++)
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, *r->at - '0', &v))
			return NULL;
	return ml_dim_int(r->dims, v);
}

static int
hex_digit(char c)
{
	return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "name" with \xNN and \c */
static ml_dim
parse_quoted(ml_reader *r)
{
	char name[MAX_NAME];
	size_t n = 0;

	for (r->at++; r->at < r->end && *r->at != '"'; r->at++) {
		char c = *r->at;
		if (n == sizeof name)
			return NULL;
		if (c == '\\') {
			if (++r->at == r->end)
				return NULL;
			c = *r->at;
		}
		if (c == 'x' && r->at[-1] == '\\') {
			int high = r->end - r->at > 2 ? hex_digit(r->at[1]) : -1;
			int low = high >= 0 ? hex_digit(r->at[2]) : -1;
			c = (char)(high * 16 + low);
			if (low < 0 || !c)
				return NULL;
			r->at += 2;
		}
		name[n++] = c;
	}
	if (r->at == r->end)
		return NULL;
	r->at++;
	return ml_dim_sym(r->dims, ml_sym_named(r->dims, name, n));
}

/* ?12: a fresh symbol keeps its name. */
static ml_dim
parse_fresh(ml_reader *r)
{
	const char *start = r->at++;

	while (r->at < r->end && is_digit(*r->at))
		r->at++;
	if (r->at == start + 1)
		return NULL;
	ml_sym *s = ml_sym_named(r->dims, start, (size_t)(r->at - start));
	s->fresh = true;
	return ml_dim_sym(r->dims, s);
}

static ml_dim
parse_pair(ml_reader *r, ml_atom_kind kind)
{
	ml_dim a = accept(r, '(') ? parse_sum(r) : NULL;
	ml_dim b = a && accept(r, ',') ? parse_sum(r) : NULL;

	if (!b || !accept(r, ')'))
		return NULL;
	return kind == ML_ATOM_MIN ? ml_dim_min(r->dims, a, b) : ml_dim_max(r->dims, a, b);
}

static ml_dim
parse_factor(ml_reader *r)
{
	skip_blanks(r);
	if (r->at == r->end)
		return NULL;
	if (is_digit(*r->at))
		return parse_int(r);
	if (*r->at == '"')
		return parse_quoted(r);
	if (*r->at == '?')
		return parse_fresh(r);
	if (accept(r, '(')) {
		ml_dim d = parse_sum(r);
		return d && accept(r, ')') ? d : NULL;
	}
	if (accept_word(r, "min"))
		return parse_pair(r, ML_ATOM_MIN);
	if (accept_word(r, "max"))
		return parse_pair(r, ML_ATOM_MAX);
	const char *name = r->at;
	size_t n = name_length(r);
	if (!n || is_word(name, n))
		return NULL;
	r->at += n;
	return ml_dim_sym(r->dims, ml_sym_named(r->dims, name, n));
}

static ml_dim
parse_product(ml_reader *r)
{
	ml_dim d = parse_factor(r), x;

	while (d) {
		ml_dim (*op)(ml_dims *, ml_dim, ml_dim) =
			accept(r, '*')               ? ml_dim_mul
			: accept_word(r, "floordiv") ? ml_dim_floordiv
			: accept_word(r, "ceildiv")  ? ml_dim_ceildiv
			: accept_word(r, "mod")      ? ml_dim_mod
						     : NULL;
		if (!op)
			break;
		x = parse_factor(r);
		d = x ? op(r->dims, d, x) : NULL;
	}
	return d;
}

static ml_dim
parse_sum(ml_reader *r)
{
	ml_dim d = NULL, x;

	if (++r->depth > MAX_DEPTH)
		return NULL;
	if (accept(r, '-')) {
		x = parse_product(r);
		d = x ? ml_dim_sub(r->dims, ml_dim_int(r->dims, 0), x) : NULL;
	} else {
		d = parse_product(r);
	}
	while (d) {
		bool minus = accept(r, '-');
		if (!minus && !accept(r, '+'))
			break;
		x = parse_product(r);
		d = !x ? NULL : minus ? ml_dim_sub(r->dims, d, x) : ml_dim_add(r->dims, d, x);
	}
	r->depth--;
	return d;
}

ml_dim
ml_dim_parse(ml_dims *dims, const char **at, const char *end)
{
	ml_reader r = {.dims = dims, .at = *at, .end = end};
	ml_dim d = parse_sum(&r);

	if (d)
		*at = r.at;
	return d;
}
