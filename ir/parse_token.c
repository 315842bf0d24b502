/* parse_token.c -- tokens of the IR's text form and where errors are. */
#include "parse.h"
#include <inttypes.h>
#include <string.h>

static void
position(const ml_parser *p, const char *at, int *line, int *column)
{
	*line = *column = 1;
	for (const char *c = p->start; c < at; c++)
		if (*c == '\n') {
			++*line;
			*column = 1;
		} else {
			++*column;
		}
}

ml_status
ml_parse_error(ml_parser *p, const char *at, const char *fmt, ...)
{
	va_list args;
	int line, column;

	position(p, at, &line, &column);
	va_start(args, fmt);
	const char *text = ml_vformat(&p->cx->arena, fmt, args);
	va_end(args);
	return ml_error(p->cx, ML_ERR_FORMAT, NULL, "%d:%d: %s", line, column, text);
}

ml_status
ml_parse_failed(ml_parser *p, const char *at, ml_status status)
{
	int line, column, newest = p->cx->diags.count - 1;

	position(p, at, &line, &column);
	if (newest >= 0 && !p->cx->diags.at[newest].hint)
		ml_hint(p->cx, "the node at %d:%d of the text", line, column);
	return status ? status : ML_ERR_FORMAT;
}

static bool
is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* A # that starts the hash of a constant, not a comment. */
static bool
at_hash(const ml_parser *p)
{
	if (p->end - p->at < 17 || *p->at != '#')
		return false;
	for (int i = 1; i <= 16; i++)
		if (!is_hex(p->at[i]))
			return false;
	return true;
}

void
ml_skip(ml_parser *p)
{
	while (p->at < p->end) {
		if (*p->at == '#' && !at_hash(p))
			while (p->at < p->end && *p->at != '\n')
				p->at++;
		else if (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r')
			p->at++;
		else
			return;
	}
}

bool
ml_next_is(ml_parser *p, const char *token)
{
	size_t n = strlen(token);

	ml_skip(p);
	if ((size_t)(p->end - p->at) < n || memcmp(p->at, token, n))
		return false;
	return !ml_is_name_char(*token, true) || p->at + n == p->end ||
	       !ml_is_name_char(p->at[n], false);
}

bool
ml_accept(ml_parser *p, const char *token)
{
	if (!ml_next_is(p, token))
		return false;
	p->at += strlen(token);
	return true;
}

ml_status
ml_expect(ml_parser *p, const char *token)
{
	if (ml_accept(p, token))
		return ML_OK;
	return ml_parse_error(p, p->at, "expected '%s'%s", token,
			      p->at == p->end ? " before the end of the text" : "");
}

ml_status
ml_parse_word(ml_parser *p, const char *what, ml_span *word)
{
	ml_skip(p);
	word->at = p->at;
	while (p->at < p->end && ml_is_name_char(*p->at, p->at == word->at))
		p->at++;
	word->length = (size_t)(p->at - word->at);
	return word->length ? ML_OK : ml_parse_error(p, p->at, "expected %s", what);
}

static int
hex_value(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* One character of a string; -1 when it is malformed. */
static int
string_char(ml_parser *p)
{
	if (*p->at != '\\')
		return (unsigned char)*p->at++;
	const char *c = ++p->at;
	if (p->end - c >= 3 && c[0] == 'x' && is_hex(c[1]) && is_hex(c[2])) {
		p->at += 3;
		return hex_value(c[1]) * 16 + hex_value(c[2]);
	}
	if (c < p->end && (*c == '"' || *c == '\'' || *c == '\\'))
		return *p->at++;
	return -1;
}

ml_status
ml_parse_string(ml_parser *p, const char **string)
{
	ML_STEP(ml_expect(p, "\""));
	const char *start = p->at, *close = start;
	while (close < p->end && *close != '"' && *close != '\n')
		close += *close == '\\' && close + 1 < p->end ? 2 : 1;
	if (close >= p->end || *close != '"')
		return ml_parse_error(p, start, "this string does not end on its line");
	char *to = ml_alloc(&p->m->arena, (size_t)(close - start) + 1);
	*string = to;
	while (p->at < close) {
		int c = string_char(p);
		if (c <= 0)
			return ml_parse_error(p, p->at, "a string cannot hold this");
		*to++ = (char)c;
	}
	p->at = close + 1;
	return ML_OK;
}

ml_status
ml_parse_int(ml_parser *p, int64_t lo, int64_t hi, int64_t *value)
{
	ml_skip(p);
	const char *start = p->at;
	/* A range `1..5` must not be read as a number with a point. */
	const char *end = start;
	while (end < p->end && ((*end >= '0' && *end <= '9') || (end == start && *end == '-')))
		end++;
	if (!ml_read_element(ML_s64, &p->at, end, value, 0) || *value < lo || *value > hi)
		return ml_parse_error(p, start, "expected an integer in %" PRId64 "..%" PRId64, lo,
				      hi);
	return ML_OK;
}

ml_status
ml_parse_dim(ml_parser *p, ml_dim *d)
{
	ml_skip(p);
	const char *start = p->at;
	*d = ml_dim_parse(p->m->dims, &p->at, p->end);
	if (!*d)
		return ml_parse_error(p, p->at > start ? p->at : start,
				      "expected a size such as 4, n or n*2 + 1");
	if (ml_dim_is_bad(*d))
		return ml_parse_error(p, start, "this size overflows or may divide by zero");
	return ML_OK;
}

ml_status
ml_parse_value_type(ml_parser *p, ml_type *type)
{
	ml_skip(p);
	const char *start = p->at;
	if (!ml_type_parse(p->m->dims, &p->at, p->end, type))
		return ml_parse_error(p, p->at > start ? p->at : start,
				      "expected a type such as f32[n, 4]");
	return ML_OK;
}

bool
ml_parse_hash(ml_parser *p, uint64_t *hash)
{
	ml_skip(p);
	if (!at_hash(p))
		return false;
	*hash = 0;
	for (int i = 1; i <= 16; i++)
		*hash = *hash << 4 | (unsigned)hex_value(p->at[i]);
	p->at += 17;
	return true;
}

static ml_status
parse_origin(ml_parser *p, ml_prov *prov)
{
	ml_span word;
	int64_t number;

	prov->index = -1;
	ML_STEP(ml_parse_string(p, &prov->node));
	if (ml_accept(p, ":")) {
		if (ml_next_is(p, "\"")) {
			ML_STEP(ml_parse_string(p, &prov->op));
		} else {
			ML_STEP(ml_parse_word(p, "an operator", &word));
			prov->op = ml_strndup(&p->m->arena, word.at, word.length);
		}
	}
	if (ml_accept(p, "-")) {
		ML_STEP(ml_parse_int(p, 1, INT32_MAX, &number));
		prov->opset = (int)number;
	}
	if (ml_accept(p, "[")) {
		ML_STEP(ml_parse_int(p, 0, INT32_MAX, &number));
		prov->index = (int)number;
		ML_STEP(ml_expect(p, "]"));
	}
	return ML_OK;
}

ml_status
ml_parse_prov(ml_parser *p, const ml_prov **list)
{
	*list = NULL;
	while (ml_accept(p, "@")) {
		ml_prov *prov = ML_NEW(&p->m->arena, ml_prov);
		ML_STEP(parse_origin(p, prov));
		*list = prov;
		list = &prov->next;
	}
	return ML_OK;
}
