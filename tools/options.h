/* options.h -- command lines from tables: parsing, --help and advice for what was mistyped.
 *
 * `-name` and `--name` are the same, `--name VALUE` and `--name=VALUE` too; a name of one letter
 * takes its value attached as well (-O3, -ofile); `--` ends the options.
 */
#ifndef CL_OPTIONS_H
#define CL_OPTIONS_H
#include <stdbool.h>
#include <stdio.h>

typedef enum cl_kind {
	CL_FLAG, /* bool * */
	CL_TEXT, /* const char **, the last one counts */
	CL_INT,  /* long *, not negative */
	CL_REAL, /* double *, not negative */
	CL_LIST, /* cl_list * */
	CL_MODE, /* the compiler's only: a flag that may have a value, --name=VALUE */
} cl_kind;

enum { CL_MAX_VALUES = 256 };

typedef struct cl_list {
	const char *at[CL_MAX_VALUES];
	int count;
} cl_list;

typedef struct cl_row {
	cl_kind kind;
	const char *name, *value; /* value: what --help calls it, NULL for flags */
	const char *group, *help;
	void *to;
} cl_row;

/* Options of the compiler as they were given, in order, for ml_options_set(). */
typedef struct cl_settings {
	const char *name[CL_MAX_VALUES], *value[CL_MAX_VALUES];
	int count;
} cl_settings;

typedef struct cl_command {
	const char *name;  /* "mlopt run" */
	const char *usage; /* what follows the name */
	const char *about; /* what it does, and examples */
	const cl_row *row;
	int rows;
	cl_settings *compile; /* not NULL: the compiler's options are accepted and collected here */
	bool compile_brief;   /* --help lists only their group "Compiling" */
} cl_command;

/* How much a tool says, and in which form: the same rows in every tool. */
typedef struct cl_talk {
	bool json, verbose, quiet;
} cl_talk;

#define CL_LOUDNESS_ROWS(talk)                                                                     \
	{CL_FLAG, "v", NULL, "Other", "say what is done", &(talk).verbose},                        \
	{                                                                                          \
		CL_FLAG, "q", NULL, "Other", "say nothing but errors and results", &(talk).quiet   \
	}
#define CL_TALK_ROWS(talk)                                                                         \
	{CL_FLAG, "json", NULL, "Other", "results for programs", &(talk).json},                    \
		CL_LOUDNESS_ROWS(talk)

/* What is not an option ends up in `args`.  0: go on; else leave with *code (help was shown, or the
 * mistake was named on stderr). */
int cl_parse(const cl_command *, int argc, char **argv, cl_list *args, int *code);

void cl_help(const cl_command *, FILE *);

/* "NAME: error: ..." on stderr, red on a terminal; returns 1. */
int cl_fail(const cl_command *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Colours are for terminals, and not wanted where NO_COLOR is set. */
bool cl_colours(FILE *);

/* The name among `count` that `text` was probably meant to be, or NULL. */
const char *cl_nearest(const char *text, const char *const *name, int count);
#endif
