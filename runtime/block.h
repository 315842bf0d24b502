/* block.h -- the runtime's memory: blocks aligned to 64 bytes from the application's allocator. */
#ifndef MLRT_BLOCK_H
#define MLRT_BLOCK_H
#include "mlopt/mlopt.h"

/* malloc, realloc, free; what NULL means where an allocator may be given. */
extern const ml_allocator mlrt_libc_allocator;

typedef struct mlrt_block {
	uint8_t *at; /* aligned to 64 bytes; NULL when empty */
	size_t room;
	void *obtained; /* what the allocator gave, room + 64 bytes */
} mlrt_block;

/* Makes room for n bytes.  Contents are lost when it grows; on ML_ERR_NOMEM nothing changes. */
ml_status mlrt_block_grow(mlrt_block *, const ml_allocator *, size_t n);
void mlrt_block_free(mlrt_block *, const ml_allocator *);

/* Zeroed memory, or NULL. */
void *mlrt_new(const ml_allocator *, size_t n);
void mlrt_delete(const ml_allocator *, void *, size_t n);

ml_status mlrt_say(ml_message *why, ml_status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4))); /* `why` may be NULL; returns the status */
#endif
