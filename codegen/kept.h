/* kept.h -- compiled objects kept in memory while one compilation tries many candidates: most of
 * their kernels are the same.
 *
 * Used by any number of threads at once.  Entries stay until all of it goes.
 */
#ifndef ML_KEPT_H
#define ML_KEPT_H
#include "../ir/arena.h"
#include <stdbool.h>

typedef struct ml_kept ml_kept;

/* NULL when memory ends: then nothing is kept. */
ml_kept *ml_kept_new(const ml_memory *);
void ml_kept_free(ml_kept *);
/* The body kept under a key, lent until ml_kept_free(). */
bool ml_kept_get(ml_kept *, ml_bytes key, ml_bytes *body);
/* Not kept when there is too much already, or no memory. */
void ml_kept_put(ml_kept *, ml_bytes key, ml_bytes body);
#endif
