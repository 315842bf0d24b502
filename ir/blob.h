/* blob.h -- immutable reference-counted bytes: weights and constants, mapped or owned. */
#ifndef ML_BLOB_H
#define ML_BLOB_H
#include "arena.h"
#include <stdint.h>

typedef struct ml_blob {
	const void *bytes; /* any alignment when mapped from a model file */
	uint64_t size;
	uint64_t hash; /* content hash, 0 until ml_blob_hash computed it */
	int refs;
	ml_memory *memory;
	void *owner; /* what keeps the bytes alive; NULL when they follow this struct */
	void (*release)(void *owner);
	/* or NULL: the bytes may leave memory, from where they came they will come again */
	void (*rest)(void *owner, const void *bytes, uint64_t size);
} ml_blob;

/* Owned bytes to be filled by the caller through *bytes before anyone else sees the blob. */
ml_blob *ml_blob_new(ml_memory *, uint64_t size, void **bytes);
/* Borrowed bytes: `release(owner)` is called when the last reference goes. */
ml_blob *ml_blob_wrap(ml_memory *, const void *bytes, uint64_t size, void *owner,
		      void (*release)(void *owner));
ml_blob *ml_blob_share(ml_blob *);
/* Its bytes were copied elsewhere: a mapped file's take no memory until they are read again. */
void ml_blob_rest(const ml_blob *);
void ml_blob_drop(ml_blob *);
uint64_t ml_blob_hash(ml_blob *);
/* The hash itself: 64 bit, not cryptographic, the same on every host. */
uint64_t ml_hash_bytes(const void *, uint64_t size, uint64_t seed);
#endif
