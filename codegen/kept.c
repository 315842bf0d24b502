/* kept.c -- compiled objects kept in memory while one compilation tries many candidates. */
#include "kept.h"
#include "../ir/blob.h"
#include <pthread.h>
#include <string.h>

enum { BUCKETS = 1024, MOST_BYTES = 1 << 27 };

typedef struct entry entry;
struct entry {
	entry *next;
	uint64_t hash;
	size_t key_bytes, body_bytes;
	char at[]; /* key, then body */
};

struct ml_kept {
	ml_memory memory;
	pthread_mutex_t lock;
	size_t bytes;
	entry *bucket[BUCKETS];
};

ml_kept *
ml_kept_new(const ml_memory *m)
{
	ml_kept *k = m->resize(m->user, NULL, 0, sizeof *k);

	if (!k)
		return NULL;
	*k = (ml_kept){.memory = *m};
	pthread_mutex_init(&k->lock, NULL);
	return k;
}

static size_t
size_of(const entry *e)
{
	return sizeof *e + e->key_bytes + e->body_bytes;
}

void
ml_kept_free(ml_kept *k)
{
	if (!k)
		return;
	const ml_memory m = k->memory;
	for (int i = 0; i < BUCKETS; i++)
		for (entry *e = k->bucket[i], *next; e; e = next) {
			next = e->next;
			m.resize(m.user, e, size_of(e), 0);
		}
	pthread_mutex_destroy(&k->lock);
	m.resize(m.user, k, sizeof *k, 0);
}

static entry *
find(const ml_kept *k, ml_bytes key, uint64_t hash)
{
	entry *e = k->bucket[hash % BUCKETS];

	while (e &&
	       (e->hash != hash || e->key_bytes != key.size || memcmp(e->at, key.at, key.size)))
		e = e->next;
	return e;
}

bool
ml_kept_get(ml_kept *k, ml_bytes key, ml_bytes *body)
{
	uint64_t hash = ml_hash_bytes(key.at, key.size, 0);

	pthread_mutex_lock(&k->lock);
	const entry *e = find(k, key, hash);
	pthread_mutex_unlock(&k->lock);
	if (e)
		*body = (ml_bytes){e->at + e->key_bytes, e->body_bytes};
	return e;
}

void
ml_kept_put(ml_kept *k, ml_bytes key, ml_bytes body)
{
	uint64_t hash = ml_hash_bytes(key.at, key.size, 0);
	size_t size = sizeof(entry) + key.size + body.size;

	pthread_mutex_lock(&k->lock);
	bool fits = k->bytes + size <= MOST_BYTES && !find(k, key, hash);
	entry *e = fits ? k->memory.resize(k->memory.user, NULL, 0, size) : NULL;
	if (e) {
		entry **bucket = &k->bucket[hash % BUCKETS];
		*e = (entry){.next = *bucket,
			     .hash = hash,
			     .key_bytes = key.size,
			     .body_bytes = body.size};
		memcpy(e->at, key.at, key.size);
		memcpy(e->at + key.size, body.at, body.size);
		*bucket = e;
		k->bytes += size;
	}
	pthread_mutex_unlock(&k->lock);
}
