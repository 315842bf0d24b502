/* cache.h -- compiled objects kept in a folder between compilations.
 *
 * An entry is named by a hash of its key and holds key, body and a checksum: what is found belongs
 * to exactly this key, whatever happened to the file.  Entries appear whole (written beside, then
 * renamed), so that any number of processes may share a folder and be killed at any time.  The
 * least recently used ones go when the folder grows beyond its bound.
 *
 * Whoever writes the folder decides what code runs here: it must belong to the user, and nobody
 * else may write to it.
 */
#ifndef ML_CACHE_H
#define ML_CACHE_H
#include "../ir/diag.h"
#include "kept.h"

typedef struct ml_cache_place {
	const char *folder; /* NULL: no cache */
	int64_t bytes;      /* its bound */
	ml_kept *kept;      /* in memory, asked first; or NULL */
} ml_cache_place;

/* Used by any number of threads at once. */
typedef struct ml_cache {
	int folder; /* -1: there is none */
	ml_kept *memory;
	int64_t bytes;
	int hits, misses, kept; /* atomic */
} ml_cache;

/* Creates the folder, but not those above it.  ML_ERR_IO when it is no folder of the user's own. */
ml_status ml_cache_open(ml_context *, const ml_cache_place *, ml_cache *);
/* Drops the least recently used entries when something was added. */
void ml_cache_close(ml_cache *, const ml_memory *);

/* Is there anywhere to find and keep? */
bool ml_cache_is_open(const ml_cache *);

/* The body kept under a key, as a block of `memory` to be given to ml_cache_drop(); false when
 * there is none, when it is damaged, or when memory ends. */
bool ml_cache_get(ml_cache *, const ml_memory *, ml_bytes key, ml_bytes *body);
void ml_cache_drop(const ml_memory *, ml_bytes *body);
/* Keeps a body; a failure is no error, it is only not kept. */
void ml_cache_put(ml_cache *, ml_bytes key, ml_bytes body);
#endif
