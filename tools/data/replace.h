/* replace.h -- write a file whole or not at all: a temporary beside it, fsync, rename. */
#ifndef MD_REPLACE_H
#define MD_REPLACE_H
#include "why.h"

typedef struct md_replace {
	char *target;    /* where the file shall end up */
	char *temporary; /* write here, in the folder of the target; exists and is empty */
} md_replace;

/* Makes the temporary.  A target that exists must be a regular file: renaming over /dev/null would
 * destroy it.  On success end with md_replace_commit or md_replace_abandon. */
int md_replace_begin(md_replace *, const char *path, char *why, size_t why_size);

/* Puts what lies at `temporary` in the place of the target; removes it on failure. */
int md_replace_commit(md_replace *, char *why, size_t why_size);

/* Removes the temporary; the target stays as it was. */
void md_replace_abandon(md_replace *);

/* Bytes that lie in memory one after the other. */
typedef struct md_span {
	const void *data;
	size_t size;
} md_span;

/* begin, write the spans, commit. */
int md_replace_with(const char *path, const md_span *span, size_t spans, char *why,
		    size_t why_size);
#endif
