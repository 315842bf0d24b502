/* mapping.h -- files mapped for reading, found without leaving a directory. */
#ifndef ML_MAPPING_H
#define ML_MAPPING_H
#include "../ir/arena.h"
#include <stdbool.h>
#include <stdint.h>

/* Bytes that blobs borrow: a mapped file, or memory of the caller.  The size is taken once; a file
 * truncated later raises SIGBUS where its bytes are touched. */
typedef struct ml_mapping {
	const uint8_t *bytes;
	uint64_t size;
	int refs;
	bool mapped;
	ml_memory *memory;
} ml_mapping;

/* An empty mapping with one reference. */
ml_mapping *ml_mapping_new(ml_memory *);
ml_mapping *ml_mapping_share(ml_mapping *);
void ml_mapping_drop(ml_mapping *); /* NULL is allowed */
/* Whole pages among bytes of it leave memory, if they are a file's. */
void ml_mapping_rest(ml_mapping *, const void *bytes, uint64_t size);

/* Maps the regular file behind `fd`, which stays open.  NULL, or what is wrong. */
const char *ml_mapping_fill(ml_mapping *, int fd);

/* Opens a model, following links as the user's own path may; NULL, or what is wrong. */
const char *ml_open_model(int directory, const char *path, int *fd);

/* Opens a file that a model names, relative to `directory`.  The name may not be trusted: it is
 * walked component by component, and "..", absolute names, symbolic links and files with more than
 * one name are refused.  NULL, or what is wrong. */
const char *ml_open_beneath(int directory, const char *location, int *fd);
#endif
