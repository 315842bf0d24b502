/* results.c -- results of passes in the folder of compiled code. */
#include "../codegen/cache.h"
#include "driver.h"
#include "source_fingerprint.h"
#include <string.h>

/* Whatever the sources say may decide what a pass finds out. */
static const char version[] = ML_SOURCE_FINGERPRINT "\n";

static ml_bytes
versioned(ml_bytes key, ml_arena *arena)
{
	size_t n = sizeof version - 1;
	char *at = ml_alloc(arena, n + key.size);

	memcpy(at, version, n);
	memcpy(at + n, key.at, key.size);
	return (ml_bytes){at, n + key.size};
}

static bool
find(void *user, ml_bytes key, ml_bytes *body)
{
	ml_stored *s = user;
	ml_context *cx = s->o->cx;
	const ml_cache_place place = ml_cache_place_of(s->o);
	ml_cache cache;

	ml_stored_end(s);
	key = versioned(key, &cx->arena);
	if (ml_cache_open(cx, &place, &cache) != ML_OK)
		return false;
	bool found = ml_cache_get(&cache, &cx->memory, key, &s->lent);
	ml_cache_close(&cache, &cx->memory);
	*body = s->lent;
	return found;
}

static void
keep(void *user, ml_bytes key, ml_bytes body)
{
	const ml_stored *s = user;
	ml_context *cx = s->o->cx;
	const ml_cache_place place = ml_cache_place_of(s->o);
	ml_cache cache;

	key = versioned(key, &cx->arena);
	if (ml_cache_open(cx, &place, &cache) != ML_OK)
		return;
	ml_cache_put(&cache, key, body);
	ml_cache_close(&cache, &cx->memory);
}

ml_results
ml_results_of(ml_stored *s)
{
	return (ml_results){s, find, keep};
}

void
ml_stored_end(ml_stored *s)
{
	ml_cache_drop(&s->o->cx->memory, &s->lent);
}
