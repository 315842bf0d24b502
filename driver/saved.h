/* saved.h -- files that a compilation leaves for later ones: a kind, whose they are, contents, and
 * a sum by which damage shows.  Numbers are little endian. */
#ifndef ML_SAVED_H
#define ML_SAVED_H
#include "../ir/ir.h"

enum { ML_SAVED_KIND = 16 /* bytes of a file's kind and version */ };

typedef enum ml_saved { ML_SAVED_GOOD, ML_SAVED_OTHER, ML_SAVED_DAMAGED } ml_saved;

void ml_saved_begin(ml_text *, const char kind[ML_SAVED_KIND], uint64_t key);
void ml_saved_put_text(ml_text *, const char *);
void ml_saved_end(ml_text *);

/* Finds the contents of a file of this kind, and its key. */
ml_saved ml_saved_open(const ml_text *file, const char kind[ML_SAVED_KIND], uint64_t *key,
		       ml_bytes *);
/* NULL when less is left. */
const char *ml_take_text(ml_bytes *, ml_arena *);

/* Reads a regular file whole; false when there is none or it cannot be read. */
bool ml_read_whole(const char *path, ml_text *);

/* Of all that the module computes. */
uint64_t ml_hash_module(ml_context *, const ml_module *, uint64_t key);
#endif
