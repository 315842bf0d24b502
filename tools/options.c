/* options.c -- command lines from tables: parsing, --help and advice for what was mistyped. */
#include "options.h"
#include "put_name.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The compiler's options, from the list the library itself uses. */
static const cl_row compile_rows[] = {
#define ML_OPTION(kind, field, name, value, group, help)                                           \
	{CL_##kind, name, value, group, help, NULL},
#include "mlopt/options.def"
};
enum { COMPILE_ROWS = sizeof compile_rows / sizeof *compile_rows, MAX_ROWS = 96 };

/* Every tool has these; cl_parse acts on them itself. */
static const cl_row standard_rows[] = {
	{CL_FLAG, "help", NULL, "Other", "show this text", NULL},
	{CL_FLAG, "version", NULL, "Other", "show the version", NULL},
};
enum { STANDARD_ROWS = sizeof standard_rows / sizeof *standard_rows };

bool
cl_colours(FILE *f)
{
	const char *no = getenv("NO_COLOR");

	return isatty(fileno(f)) && !(no && *no);
}

int
cl_fail(const cl_command *c, const char *fmt, ...)
{
	bool colours = cl_colours(stderr);
	char text[4096];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	fprintf(stderr, "%s: %serror:%s ", c->name, colours ? "\033[1;31m" : "",
		colours ? "\033[0m" : "");
	cl_put_text(stderr, text);
	fputc('\n', stderr);
	return 1;
}

/* ---- the rows of a command ---- */

/* The command's own rows win over the compiler's of the same name. */
static const cl_row *
find_row(const cl_command *c, const char *name, size_t length)
{
	const cl_row *table[] = {c->row, c->compile ? compile_rows : NULL, standard_rows};
	int rows[] = {c->rows, COMPILE_ROWS, STANDARD_ROWS};

	for (int t = 0; t < 3; t++)
		for (int i = 0; table[t] && i < rows[t]; i++)
			if (strlen(table[t][i].name) == length &&
			    !memcmp(table[t][i].name, name, length))
				return &table[t][i];
	return NULL;
}

static int
list_rows(const cl_command *c, const cl_row *rows[MAX_ROWS])
{
	int n = 0;

	for (int i = 0; i < c->rows; i++)
		rows[n++] = &c->row[i];
	for (int i = 0; c->compile && i < COMPILE_ROWS; i++)
		if (find_row(c, compile_rows[i].name, strlen(compile_rows[i].name)) ==
		    &compile_rows[i])
			rows[n++] = &compile_rows[i];
	for (int i = 0; i < STANDARD_ROWS; i++)
		rows[n++] = &standard_rows[i];
	return n;
}

/* ---- help ---- */

/* Words of `text`, wrapped and indented, the first line going on at `column`. */
static void
put_wrapped(FILE *f, const char *text, int column)
{
	enum { INDENT = 26, WIDTH = 98 };

	while (*text) {
		int n = (int)strcspn(text, " ");
		if (column > INDENT && column + 1 + n > WIDTH) {
			fputc('\n', f);
			column = 0;
		}
		if (column < INDENT)
			column += fprintf(f, "%*s", INDENT - column, "");
		else
			column += fprintf(f, " ");
		column += fprintf(f, "%.*s", n, text);
		text += n;
		text += strspn(text, " ");
	}
	fputc('\n', f);
}

static void
put_row(FILE *f, const cl_row *r)
{
	bool letter = !r->name[1];
	int column = fprintf(f, "  %s%s", letter ? "-" : "--", r->name);

	if (r->value && r->kind == CL_MODE)
		column += fprintf(f, "[=%s]", r->value);
	else if (r->value)
		column += fprintf(f, "%s%s",
				  letter && r->kind == CL_INT ? ""
				  : letter                    ? " "
							      : "=",
				  r->value);
	if (column > 25) {
		fputc('\n', f);
		column = 0;
	}
	put_wrapped(f, r->help, column);
}

static bool
is_brief(const cl_command *c, const cl_row *r)
{
	return c->compile_brief && r >= compile_rows && r < compile_rows + COMPILE_ROWS &&
	       strcmp(r->group, "Compiling");
}

static void
put_group(const cl_command *c, FILE *f, const cl_row *const *rows, int n, const char *group)
{
	fprintf(f, "\n%s:\n", group);
	for (int i = 0; i < n; i++)
		if (!strcmp(rows[i]->group, group) && !is_brief(c, rows[i]))
			put_row(f, rows[i]);
}

/* Groups in the order in which they first occur, "Other" at the end. */
void
cl_help(const cl_command *c, FILE *f)
{
	const cl_row *rows[MAX_ROWS];
	const char *last = standard_rows[0].group;
	int n = list_rows(c, rows);

	fprintf(f, "usage: %s %s\n\n%s", c->name, c->usage, c->about);
	for (int i = 0; i < n; i++) {
		bool begun = is_brief(c, rows[i]) || !strcmp(rows[i]->group, last);
		for (int k = 0; k < i; k++)
			begun |= !strcmp(rows[k]->group, rows[i]->group);
		if (!begun)
			put_group(c, f, rows, n, rows[i]->group);
	}
	put_group(c, f, rows, n, last);
	if (c->compile_brief)
		fprintf(f, "\nThe other options of mloptc are accepted too: mloptc --help.\n");
}

/* ---- advice ---- */

/* Insertions, deletions, replacements and swaps of neighbours that turn a into b. */
static int
distance(const char *a, const char *b)
{
	enum { MAX = 40 };
	int row[3][MAX + 1];
	int n = (int)strlen(a), m = (int)strlen(b);

	if (n > MAX || m > MAX)
		return MAX;
	for (int j = 0; j <= m; j++)
		row[0][j] = j;
	for (int i = 1; i <= n; i++) {
		int *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
		now[0] = i;
		for (int j = 1; j <= m; j++) {
			int best = last[j - 1] + (a[i - 1] != b[j - 1]);
			if (last[j] + 1 < best)
				best = last[j] + 1;
			if (now[j - 1] + 1 < best)
				best = now[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			now[j] = best;
		}
	}
	return row[n % 3][m];
}

const char *
cl_nearest(const char *text, const char *const *name, int count)
{
	const char *best = NULL;
	int least = (int)strlen(text) / 3 + 1;

	for (int i = 0; i < count; i++) {
		int d = distance(text, name[i]);
		if (d < (int)strlen(name[i]) && (d < least || (d == least && !best))) {
			best = name[i];
			least = d;
		}
	}
	return best;
}

static int
unknown_option(const cl_command *c, const char *arg, const char *given, size_t length)
{
	const cl_row *rows[MAX_ROWS];
	const char *names[MAX_ROWS];
	char text[64];
	int n = list_rows(c, rows);

	for (int i = 0; i < n; i++)
		names[i] = rows[i]->name;
	snprintf(text, sizeof text, "%.*s", (int)length, given);
	const char *meant = cl_nearest(text, names, n);
	if (meant)
		return cl_fail(c, "unknown option '%.*s%s'; did you mean '%s%s'?",
			       (int)(given - arg), arg, text, meant[1] ? "--" : "-", meant);
	return cl_fail(c, "unknown option '%.*s%s'; see %s --help", (int)(given - arg), arg, text,
		       c->name);
}

/* ---- parsing ---- */

static int
set_number(const cl_command *c, const cl_row *r, const char *value)
{
	char *end;
	double number = strtod(value, &end);
	bool whole = r->kind == CL_REAL || (number == (double)(long)number && number < 1e15);

	if (end == value || *end || !(number >= 0 && number < 1e15) || !whole)
		return cl_fail(c, "%s%s: '%s' is no %s", r->name[1] ? "--" : "-", r->name, value,
			       r->kind == CL_INT ? "whole number" : "number");
	if (r->kind == CL_INT && r->to)
		*(long *)r->to = (long)number;
	if (r->kind == CL_REAL && r->to)
		*(double *)r->to = number;
	return 0;
}

static int
set(const cl_command *c, const cl_row *r, const char *value)
{
	if ((r->kind == CL_INT || r->kind == CL_REAL) && set_number(c, r, value))
		return 1;
	if (!r->to) {
		if (c->compile->count == CL_MAX_VALUES)
			return cl_fail(c, "too many options");
		c->compile->name[c->compile->count] = r->name;
		c->compile->value[c->compile->count++] = value;
		return 0;
	}
	if (r->kind == CL_FLAG)
		*(bool *)r->to = true;
	if (r->kind == CL_TEXT)
		*(const char **)r->to = value;
	if (r->kind == CL_LIST) {
		cl_list *list = r->to;
		if (list->count == CL_MAX_VALUES)
			return cl_fail(c, "--%s is given too often", r->name);
		list->at[list->count++] = value;
	}
	return 0;
}

/* One option; *i moves over a value in the next argument. */
static int
parse_option(const cl_command *c, int argc, char **argv, int *i, int *code)
{
	const char *text = argv[*i] + 1 + (argv[*i][1] == '-');
	size_t length = strcspn(text, "=");
	const cl_row *r = !strcmp(text, "h") ? &standard_rows[0] : find_row(c, text, length);
	const char *value = text[length] ? text + length + 1 : NULL;

	if (!r && argv[*i][1] != '-') { /* -O3 */
		r = find_row(c, text, 1);
		value = text + 1;
		if (r && r->kind == CL_FLAG)
			r = NULL;
	}
	*code = 1;
	if (!r)
		return unknown_option(c, argv[*i], text, length);
	if (r == &standard_rows[0] || r == &standard_rows[1]) {
		*code = 0;
		if (r == &standard_rows[0])
			cl_help(c, stdout);
		else
			printf("%s %s\n", c->name, ML_VERSION);
		return 1;
	}
	if (r->kind == CL_FLAG && value)
		return cl_fail(c, "--%s takes no value", r->name);
	if (r->kind != CL_FLAG && r->kind != CL_MODE && !value) {
		if (*i + 1 == argc)
			return cl_fail(c, "%s%s needs a value: %s", r->name[1] ? "--" : "-",
				       r->name, r->value);
		value = argv[++*i];
	}
	return set(c, r, value);
}

int
cl_parse(const cl_command *c, int argc, char **argv, cl_list *args, int *code)
{
	bool options = true;

	for (int i = 1; i < argc; i++) {
		if (options && !strcmp(argv[i], "--")) {
			options = false;
		} else if (options && argv[i][0] == '-' && argv[i][1]) {
			if (parse_option(c, argc, argv, &i, code))
				return 1;
		} else if (args->count == CL_MAX_VALUES) {
			*code = cl_fail(c, "too many arguments");
			return 1;
		} else {
			args->at[args->count++] = argv[i];
		}
	}
	return 0;
}
