/* harness_mlt.h -- files of IR modules with inputs and expected outputs, for tests.
 *
 * Modules are separated by lines `# ----`.  Comment lines of a module say what to try:
 *   # GIVEN x = f32[2] {1, 2}     an input by name
 *   # THEN y = f32[2] {2, 4}      the output expected of it
 *   # FAILS index                 instead: the tag of the status
 */
#ifndef HARNESS_MLT_H
#define HARNESS_MLT_H
#include "ir/ir.h"

typedef struct mlt_case {
	const char *text; /* the whole section, comments too */
	size_t length;
	int line; /* in the file */
} mlt_case;

typedef struct mlt_file {
	const char *path;
	mlt_case *at;
	int count;
} mlt_file;

/* A context on the heap with libc memory that collects its diagnostics. */
ml_context *mlt_context(void);
void mlt_context_free(ml_context *);
/* All diagnostics so far, one a line. */
const char *mlt_diags(ml_context *);

mlt_file mlt_read(ml_arena *, const char *path);
/* The tensor behind the n-th line `# WORD name = type {elements}` of a case; false when there is
 * no n-th.  `name` is the arena's. */
bool mlt_tensor(ml_context *, const mlt_case *, const char *word, int n, const char **name,
		ml_tensor *);
/* The rest of the line `# WORD ...`, or NULL. */
const char *mlt_line(ml_context *, const mlt_case *, const char *word);
#endif
