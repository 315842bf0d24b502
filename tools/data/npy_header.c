/* npy_header.c -- a strict reader for the one Python dict that a .npy header is. */
#include "npy_header.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const numpy_name[MD_DTYPE_COUNT] = {
#define MD_DTYPE(id, name, bytes, numpy, onnx) numpy,
#include "dtype.def"
#undef MD_DTYPE
};

typedef struct reader {
	const char *at, *end;
	md_npy_layout *layout;
	char *why;
	size_t why_size;
} reader;

static void
skip_space(reader *r)
{
	while (r->at < r->end && (*r->at == ' ' || *r->at == '\n'))
		r->at++;
}

/* Takes `c` if it comes next. */
static bool
take(reader *r, char c)
{
	skip_space(r);
	if (r->at == r->end || *r->at != c)
		return false;
	r->at++;
	return true;
}

static bool
take_word(reader *r, const char *word)
{
	size_t n = strlen(word);

	skip_space(r);
	if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n))
		return false;
	r->at += n;
	return true;
}

static int
malformed(reader *r, const char *expected)
{
	return md_fail(r->why, r->why_size, "malformed .npy header: expected %s", expected);
}

/* A quoted string without escapes (no key or dtype has any). */
static int
read_string(reader *r, char *text, size_t size)
{
	size_t n = 0;
	char quote;

	skip_space(r);
	if (r->at == r->end || (*r->at != '\'' && *r->at != '"'))
		return malformed(r, "a quoted string");
	quote = *r->at++;
	for (; r->at < r->end && *r->at != quote; r->at++) {
		if (*r->at == '\\' || n + 1 == size)
			return malformed(r, "a short plain string");
		text[n++] = *r->at;
	}
	if (r->at == r->end)
		return malformed(r, "a closing quote");
	r->at++;
	text[n] = '\0';
	return 0;
}

static int
refuse_descr(reader *r, const char *descr)
{
	const char *what = "elements";

	switch (descr[strspn(descr, "<>|=")]) {
	case 'c': what = "complex numbers"; break;
	case 'U':
	case 'S':
	case 'a':
	case 'T': what = "strings"; break;
	case 'O': what = "pickled Python objects"; break;
	case 'M':
	case 'm': what = "dates"; break;
	}
	return md_fail(r->why, r->why_size, "%s of numpy type '%s' are not supported", what, descr);
}

static int
read_descr(reader *r)
{
	md_npy_layout *layout = r->layout;
	char descr[32];
	char order;

	skip_space(r);
	if (r->at < r->end && *r->at == '[')
		return md_fail(r->why, r->why_size,
			       "records (structured numpy types) are not supported");
	if (read_string(r, descr, sizeof descr))
		return -1;
	layout->swapped = false;
	if (!strcmp(descr, "bfloat16")) {
		layout->dtype = MD_BF16;
		return 0;
	}
	order = descr[0];
	if (!order || !strchr("<>|", order))
		return refuse_descr(r, descr);
	for (int i = 0; i < MD_DTYPE_COUNT; i++) {
		if (strcmp(descr + 1, numpy_name[i]))
			continue;
		layout->dtype = (md_dtype)i;
		if (md_dtype_size(layout->dtype) == 1)
			return 0;
		if (order == '|' && layout->dtype != MD_BF16)
			return md_fail(r->why, r->why_size, "numpy type '%s' lacks its byte order",
				       descr);
		layout->swapped = order == '>';
		return 0;
	}
	return refuse_descr(r, descr);
}

static int
read_dim(reader *r, int64_t *dim)
{
	const char *start;

	skip_space(r);
	*dim = 0;
	for (start = r->at; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++)
		if (__builtin_mul_overflow(*dim, 10, dim) ||
		    __builtin_add_overflow(*dim, *r->at - '0', dim))
			return md_fail(r->why, r->why_size,
				       "malformed .npy header: a dim exceeds 63 bits");
	if (r->at == start)
		return malformed(r, "a dim of 0 or more");
	if (r->at < r->end && *r->at == 'L') /* Python 2 wrote its long integers so */
		r->at++;
	return 0;
}

static int
read_shape(reader *r)
{
	md_npy_layout *layout = r->layout;
	bool comma = true;

	layout->rank = 0;
	if (!take(r, '('))
		return malformed(r, "a shape tuple");
	while (!take(r, ')')) {
		if (!comma)
			return malformed(r, "',' or ')' in the shape");
		if (layout->rank == MD_MAX_RANK)
			return md_fail(r->why, r->why_size, "more than %d dims", MD_MAX_RANK);
		if (read_dim(r, &layout->dim[layout->rank]))
			return -1;
		layout->rank++;
		comma = take(r, ',');
	}
	if (layout->rank == 1 && !comma) /* (3) is a number in Python, (3,) a tuple */
		return malformed(r, "',' in a shape of one dim");
	return 0;
}

static int
read_order(reader *r)
{
	if (take_word(r, "True"))
		r->layout->fortran = true;
	else if (take_word(r, "False"))
		r->layout->fortran = false;
	else
		return malformed(r, "True or False");
	return 0;
}

int
md_npy_parse(const char *text, size_t size, md_npy_layout *layout, char *why, size_t why_size)
{
	static const struct {
		const char *key;
		int (*read)(reader *);
	} entries[] = {{"descr", read_descr}, {"fortran_order", read_order}, {"shape", read_shape}};
	enum { ENTRIES = sizeof entries / sizeof *entries };
	reader r = {text, text + size, layout, why, why_size};
	bool seen[ENTRIES] = {false};

	if (!take(&r, '{'))
		return malformed(&r, "'{'");
	for (int n = 0; n < ENTRIES; n++) {
		char key[32];
		int i = 0;

		if (read_string(&r, key, sizeof key))
			return -1;
		while (i < ENTRIES && strcmp(key, entries[i].key))
			i++;
		if (i == ENTRIES || seen[i])
			return malformed(&r, "each of descr, fortran_order and shape once");
		seen[i] = true;
		if (!take(&r, ':'))
			return malformed(&r, "':'");
		if (entries[i].read(&r))
			return -1;
		if (!take(&r, ',') && n + 1 < ENTRIES)
			return malformed(&r, "','");
	}
	if (!take(&r, '}'))
		return malformed(&r, "'}'");
	skip_space(&r);
	return r.at == r.end ? 0 : malformed(&r, "nothing after '}'");
}

size_t
md_npy_print(const md_array *a, char *text, size_t size)
{
	bool orderless = md_dtype_size(a->dtype) == 1;
	size_t n =
		(size_t)snprintf(text, size, "{'descr': '%c%s', 'fortran_order': False, 'shape': (",
				 orderless ? '|' : '<', numpy_name[a->dtype]);

	for (int i = 0; i < a->rank; i++)
		n += (size_t)snprintf(text + n, size - n, "%s%" PRId64, i ? ", " : "", a->dim[i]);
	n += (size_t)snprintf(text + n, size - n, "%s), }", a->rank == 1 ? "," : "");
	return n;
}
