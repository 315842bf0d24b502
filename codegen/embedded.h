/* embedded.h -- the runtime part that goes into artefacts: LLVM bitcode, once per architecture; and
 * what they are linked with. */
#ifndef ML_EMBEDDED_H
#define ML_EMBEDDED_H
#include <stdbool.h>
#include <stddef.h>

typedef struct ml_embedded {
	const char *name; /* of the source file, without its ending */
	const unsigned char *at;
	size_t size;
} ml_embedded;

/* File i of the embedded runtime for a triple, in a fixed order; false at the end. */
bool ml_embedded_get(const char *triple, int i, ml_embedded *);
/* A shared object that stands for libc: the names of the functions that artefacts call. */
ml_embedded ml_embedded_libc(const char *triple);
#endif
