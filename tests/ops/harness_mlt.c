/* harness_mlt.c -- reads .mlt files of modules with inputs and expected outputs. */
#include "harness_mlt.h"
#include "ir/text.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

ml_context *
mlt_context(void)
{
	ml_context *cx = calloc(1, sizeof *cx);

	cx->memory = ml_memory_libc();
	ml_arena_init(&cx->arena, &cx->memory);
	return cx;
}

void
mlt_context_free(ml_context *cx)
{
	ml_arena_free(&cx->arena);
	free(cx);
}

const char *
mlt_diags(ml_context *cx)
{
	ml_text t;

	ml_text_init(&t, &cx->arena);
	for (int i = 0; i < cx->diags.count; i++) {
		ml_diag_print(&t, cx, &cx->diags.at[i]);
		ml_put(&t, "\n");
	}
	return t.at;
}

static char *
read_all(ml_arena *arena, const char *path, size_t *length)
{
	FILE *f = fopen(path, "rb");
	char *text = NULL;

	if (f && !fseek(f, 0, SEEK_END) && ftell(f) > 0) {
		*length = (size_t)ftell(f);
		text = ml_alloc(arena, *length + 1);
		rewind(f);
		if (fread(text, 1, *length, f) != *length)
			text = NULL;
	}
	if (f)
		fclose(f);
	return text;
}

mlt_file
mlt_read(ml_arena *arena, const char *path)
{
	ML_VEC(mlt_case) cases = {0};
	size_t length;
	const char *text = read_all(arena, path, &length);
	int line = 1;

	for (const char *at = text; at && *at;) {
		const char *end = strstr(at, "\n# ----\n");
		mlt_case c = {at, end ? (size_t)(end + 1 - at) : strlen(at), line};
		ML_PUSH(arena, cases, c);
		for (; at < c.text + c.length; at++)
			line += *at == '\n';
		if (!end)
			break;
		at = end + strlen("\n# ----\n");
		line++;
	}
	return (mlt_file){path, cases.at, cases.count};
}

/* The text behind the n-th `# WORD `. */
static const char *
find_line(const mlt_case *c, const char *word, int n)
{
	size_t length = strlen(word);
	const char *end = c->text + c->length;

	for (const char *at = c->text; at < end; at++) {
		bool starts = at == c->text || at[-1] == '\n';
		if (starts && !strncmp(at, "# ", 2) && !strncmp(at + 2, word, length) &&
		    at[2 + length] == ' ' && n-- == 0)
			return at + 3 + length;
	}
	return NULL;
}

const char *
mlt_line(ml_context *cx, const mlt_case *c, const char *word)
{
	const char *at = find_line(c, word, 0);

	return at ? ml_strndup(&cx->arena, at, strcspn(at, "\n")) : NULL;
}

static void
broken(const mlt_case *c, const char *what)
{
	fprintf(stderr, "line %d: malformed %s line\n", c->line, what);
	abort();
}

bool
mlt_tensor(ml_context *cx, const mlt_case *c, const char *word, int n, const char **name,
	   ml_tensor *t)
{
	const char *at = find_line(c, word, n), *end = c->text + c->length;
	ml_dims *dims = ml_dims_new(&cx->memory);
	ml_type type;
	int64_t count;

	if (!at) {
		ml_dims_free(dims);
		return false;
	}
	*name = ml_strndup(&cx->arena, at, strcspn(at, " "));
	at += strlen(*name) + 3;
	if (!ml_type_parse(dims, &at, end, &type) || !ml_type_static_count(&type, &count))
		broken(c, word);
	*t = (ml_tensor){.dtype = type.dtype, .rank = type.rank};
	for (int i = 0; i < type.rank; i++)
		ml_dim_is_int(type.dim[i], &t->dim[i]);
	t->bytes = (size_t)count * (size_t)ml_dtype_bytes(type.dtype);
	t->data = ml_alloc(&cx->arena, t->bytes);
	at += 2;
	for (int64_t i = 0; i < count; i++, at += 2)
		if (!ml_read_element(t->dtype, &at, end, t->data, i))
			broken(c, word);
	ml_dims_free(dims);
	return true;
}
