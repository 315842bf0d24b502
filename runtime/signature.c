/* signature.c -- reads the text that describes a compiled model.
 *
 * The text is read twice: first to count what memory it needs, then to fill one block.
 */
#include "signature.h"
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* One line being read, and where strings go; `store` NULL only counts. */
typedef struct reader {
	const char *at, *end; /* of the line */
	char *store;
	size_t stored; /* bytes, counted or used */
} reader;

static void
put_char(reader *r, char c)
{
	if (r->store)
		r->store[r->stored] = c;
	r->stored++;
}

/* The string collected since `from`. */
static const char *
finish(reader *r, size_t from)
{
	put_char(r, 0);
	return r->store ? r->store + from : "";
}

static void
skip_blanks(reader *r)
{
	while (r->at < r->end && *r->at == ' ')
		r->at++;
}

static int
hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "name" with \xNN, \", \' and \\; NULL when it is not that. */
static const char *
quoted(reader *r)
{
	size_t from = r->stored;

	skip_blanks(r);
	if (r->at == r->end || *r->at != '"')
		return NULL;
	for (r->at++; r->at < r->end && *r->at != '"'; r->at++) {
		char c = *r->at;
		if (c == '\\' && r->at + 3 < r->end && r->at[1] == 'x' &&
		    hex_digit(r->at[2]) >= 0 && hex_digit(r->at[3]) >= 0) {
			c = (char)(hex_digit(r->at[2]) * 16 + hex_digit(r->at[3]));
			r->at += 3;
		} else if (c == '\\' && r->at + 1 < r->end) {
			c = *++r->at;
		}
		put_char(r, c);
	}
	if (r->at == r->end)
		return NULL;
	r->at++;
	return finish(r, from);
}

static const char *
word(reader *r)
{
	size_t from = r->stored;

	skip_blanks(r);
	if (r->at == r->end)
		return NULL;
	while (r->at < r->end && *r->at != ' ')
		put_char(r, *r->at++);
	return finish(r, from);
}

static bool
number(reader *r, int64_t *value)
{
	const char *from;

	skip_blanks(r);
	from = r->at;
	if (r->at < r->end && *r->at == '*') {
		r->at++;
		*value = INT64_MAX;
		return true;
	}
	for (*value = 0; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++)
		if (__builtin_mul_overflow(*value, (int64_t)10, value) ||
		    __builtin_add_overflow(*value, (int64_t)(*r->at - '0'), value))
			return false;
	return r->at > from;
}

/* The next size of "[a, min(b, c), 'd']"; false at the end of the list. */
static bool
next_dim(reader *r, const char **text)
{
	size_t from = r->stored;
	int depth = 0;

	skip_blanks(r);
	if (r->at == r->end || *r->at == ']')
		return false;
	while (r->at < r->end && (depth || (*r->at != ',' && *r->at != ']'))) {
		char quote = *r->at == '\'' || *r->at == '"' ? *r->at : 0;
		depth += (*r->at == '(') - (*r->at == ')');
		put_char(r, *r->at++);
		while (quote && r->at < r->end) {
			bool last = *r->at == quote;
			if (*r->at == '\\' && r->at + 1 < r->end)
				put_char(r, *r->at++);
			put_char(r, *r->at++);
			if (last)
				break;
		}
	}
	*text = finish(r, from);
	if (r->at < r->end && *r->at == ',')
		r->at++;
	return true;
}

static bool
dtype_named(const char *name, size_t n, ml_dtype *t)
{
	static const char *const names[] = {
#define ML_DTYPE(number, name, bits, kind, onnx, ctype) [number] = #name,
#include "mlopt/types.def"
	};

	for (size_t i = 1; i < sizeof names / sizeof *names; i++)
		if (names[i] && strlen(names[i]) == n && !memcmp(names[i], name, n)) {
			*t = (ml_dtype)i;
			return true;
		}
	return false;
}

/* ---- lines ---- */

/* Everything that is being filled; arrays are NULL in the counting pass. */
typedef struct tables {
	ml_model_info *info;
	ml_tensor_info *input, *output;
	ml_dim_info *dim;
	ml_state_info *state;
	const char **size; /* dims of all tensors */
	int sizes;
} tables;

/* "name" f32 c_name [dims] */
static bool
read_tensor(reader *r, tables *t, ml_tensor_info *to, int *count)
{
	ml_tensor_info x = {.name = quoted(r)};
	const char *dim, *type;

	skip_blanks(r);
	type = r->at;
	while (r->at < r->end && *r->at != ' ')
		r->at++;
	if (!x.name || !dtype_named(type, (size_t)(r->at - type), &x.dtype) || !word(r))
		return false;
	skip_blanks(r);
	if (r->at == r->end || *r->at++ != '[')
		return false;
	x.dim = t->size ? t->size + t->sizes : NULL;
	for (; x.rank < ML_MAX_RANK && next_dim(r, &dim); x.rank++) {
		if (t->size)
			t->size[t->sizes] = dim;
		t->sizes++;
	}
	if (r->at == r->end || *r->at != ']')
		return false;
	if (to)
		to[*count] = x;
	++*count;
	return true;
}

static bool
read_dim(reader *r, tables *t)
{
	ml_dim_info d = {.name = quoted(r)};

	if (!d.name || !number(r, &d.lo) || !number(r, &d.hi) || !word(r))
		return false;
	if (t->dim)
		t->dim[t->info->ndims] = d;
	t->info->ndims++;
	return true;
}

static bool
read_state(reader *r, tables *t)
{
	int64_t v[3];

	for (int i = 0; i < 3; i++)
		if (!number(r, &v[i]) || v[i] >= INT32_MAX)
			return false;
	if (t->state)
		t->state[t->info->nstates] = (ml_state_info){(int)v[0], (int)v[1], (int)v[2]};
	t->info->nstates++;
	return true;
}

static bool
begins(reader *r, const char *keyword)
{
	size_t n = strlen(keyword);

	if ((size_t)(r->end - r->at) <= n || memcmp(r->at, keyword, n) || r->at[n] != ' ')
		return false;
	r->at += n + 1;
	return true;
}

/* Lines of kinds unknown here, from newer compilers, are skipped. */
static bool
read_line(reader *r, tables *t)
{
	if (begins(r, "model"))
		return (t->info->name = quoted(r)) != NULL;
	if (begins(r, "entry"))
		return (t->info->entry = word(r)) != NULL;
	if (begins(r, "input"))
		return read_tensor(r, t, t->input, &t->info->ninputs);
	if (begins(r, "output"))
		return read_tensor(r, t, t->output, &t->info->noutputs);
	if (begins(r, "dim"))
		return read_dim(r, t);
	if (begins(r, "state"))
		return read_state(r, t);
	t->info->nsizes += begins(r, "size");
	return true;
}

static ml_status
read_lines(const char *text, reader *r, tables *t, ml_message *why)
{
	int line = 0;

	for (const char *at = text; *at; at += *at == '\n') {
		const char *from = at;
		while (*at && *at != '\n')
			at++;
		r->at = from;
		r->end = at;
		if (++line == 1 ? !begins(r, "mlopt") || r->end - r->at != 1 || *r->at != '1'
				: !read_line(r, t))
			return mlrt_say(why, ML_ERR_FORMAT, "line %d of the signature is malformed",
					line);
	}
	for (int i = 0; t->state && i < t->info->nstates; i++) {
		const ml_state_info *s = &t->state[i];
		if (s->input >= t->info->ninputs || s->output >= t->info->noutputs ||
		    s->axis >= t->input[s->input].rank || s->axis >= t->output[s->output].rank)
			return mlrt_say(why, ML_ERR_FORMAT, "a state of the signature is none");
	}
	if (!t->info->entry || !t->info->name)
		return mlrt_say(why, ML_ERR_FORMAT, "the signature lacks the model's name");
	return ML_OK;
}

ml_status
mlrt_signature_read(const char *text, const ml_allocator *a, mlrt_signature *out, ml_message *why)
{
	ml_model_info count = {0};
	tables t = {.info = &count};
	reader r = {0};
	ml_status status = read_lines(text, &r, &t, why);

	*out = (mlrt_signature){0};
	if (status)
		return status;
	size_t inputs = (size_t)count.ninputs * sizeof(ml_tensor_info);
	size_t outputs = (size_t)count.noutputs * sizeof(ml_tensor_info);
	size_t dims = (size_t)count.ndims * sizeof(ml_dim_info);
	size_t sizes = (size_t)t.sizes * sizeof(char *);
	size_t states = (size_t)count.nstates * sizeof(ml_state_info);
	out->bytes = inputs + outputs + dims + sizes + states + r.stored;
	char *memory = out->memory = mlrt_new(a, out->bytes);
	if (!memory)
		return mlrt_say(why, ML_ERR_NOMEM, "no memory for the signature");
	t = (tables){&out->info,
		     (void *)memory,
		     (void *)(memory + inputs),
		     (void *)(memory + inputs + outputs),
		     (void *)(memory + inputs + outputs + dims + sizes),
		     (void *)(memory + inputs + outputs + dims),
		     0};
	r = (reader){.store = memory + inputs + outputs + dims + sizes + states};
	out->info = (ml_model_info){.signature = text,
				    .input = t.input,
				    .output = t.output,
				    .dim = t.dim,
				    .state = t.state};
	return read_lines(text, &r, &t, why);
}

void
mlrt_signature_free(mlrt_signature *s, const ml_allocator *a)
{
	mlrt_delete(a, s->memory, s->bytes);
	*s = (mlrt_signature){0};
}
