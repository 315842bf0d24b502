/* blob.c -- reference counting of weights, and their content hash. */
#include "blob.h"
#include <assert.h>
#include <string.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are kept in host byte order");

enum { DATA_OFFSET = (sizeof(ml_blob) + 63) / 64 * 64 };

ml_blob *
ml_blob_new(ml_memory *memory, uint64_t size, void **bytes)
{
	/* A size no allocator can give takes the same way out as one it refuses. */
	size_t room = size > SIZE_MAX - DATA_OFFSET ? SIZE_MAX : (size_t)size + DATA_OFFSET;
	ml_blob *b = ml_resize(memory, NULL, 0, room);

	*b = (ml_blob){.bytes = (char *)b + DATA_OFFSET, .size = size, .refs = 1, .memory = memory};
	*bytes = (char *)b + DATA_OFFSET;
	return b;
}

ml_blob *
ml_blob_wrap(ml_memory *memory, const void *bytes, uint64_t size, void *owner,
	     void (*release)(void *owner))
{
	ml_blob *b = ml_resize(memory, NULL, 0, sizeof *b);

	*b = (ml_blob){.bytes = bytes,
		       .size = size,
		       .refs = 1,
		       .memory = memory,
		       .owner = owner,
		       .release = release};
	return b;
}

/* Counts are atomic: compiled models on several threads hold the same weights. */
ml_blob *
ml_blob_share(ml_blob *b)
{
	int before = __atomic_fetch_add(&b->refs, 1, __ATOMIC_RELAXED);

	assert(before > 0 && "blob used after its last reference");
	(void)before;
	return b;
}

void
ml_blob_rest(const ml_blob *b)
{
	if (b->rest)
		b->rest(b->owner, b->bytes, b->size);
}

void
ml_blob_drop(ml_blob *b)
{
	if (!b || __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	size_t room = sizeof *b;
	if (b->release)
		b->release(b->owner);
	if (b->bytes == (char *)b + DATA_OFFSET)
		room = DATA_OFFSET + (size_t)b->size;
	ml_resize(b->memory, b, room, 0);
}

uint64_t
ml_blob_hash(ml_blob *b)
{
	uint64_t hash = __atomic_load_n(&b->hash, __ATOMIC_RELAXED);

	if (!hash) {
		hash = ml_hash_bytes(b->bytes, b->size, 0);
		hash += !hash; /* 0 means "not known yet" */
		__atomic_store_n(&b->hash, hash, __ATOMIC_RELAXED);
	}
	return hash;
}

static uint64_t
word_at(const unsigned char *p)
{
	uint64_t w;

	memcpy(&w, p, sizeof w);
	return w;
}

/* Folds the 128-bit product: every input bit reaches every output bit. */
static uint64_t
mix(uint64_t a, uint64_t b)
{
	__uint128_t product = (__uint128_t)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Two independent lanes of 16 bytes, so that hashing runs at memory speed.  The odd constants are
 * arbitrary; the seed enters both factors of every product, so that who does not know it cannot
 * make inputs collide; the length enters at the end, so that trailing zeros count. */
uint64_t
ml_hash_bytes(const void *bytes, uint64_t size, uint64_t seed)
{
	static const uint64_t k0 = 0x9e3779b97f4a7c15, k1 = 0xd1b54a32d192ed03,
			      k2 = 0x8cb92ba72f3d8dd7, k3 = 0xaef17502108ef2d9;
	const unsigned char *p = bytes;
	uint64_t s = mix(seed ^ k0, k1), a = s ^ k2, b = s ^ k3, left = size;

	for (; left >= 32; left -= 32, p += 32) {
		a = mix(word_at(p) ^ s, word_at(p + 8) ^ a);
		b = mix(word_at(p + 16) ^ s, word_at(p + 24) ^ b);
	}
	unsigned char tail[32] = {0};
	if (left)
		memcpy(tail, p, left);
	a = mix(word_at(tail) ^ s, word_at(tail + 8) ^ a);
	b = mix(word_at(tail + 16) ^ s, word_at(tail + 24) ^ b);
	return mix(mix(a ^ k2, b ^ k3) ^ s, size ^ k1);
}
