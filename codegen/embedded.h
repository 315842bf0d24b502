/* embedded.h -- the runtime part that goes into artefacts: LLVM bitcode, once per architecture. */
#ifndef ML_EMBEDDED_H
#define ML_EMBEDDED_H
#include <stdbool.h>
#include <stddef.h>

typedef struct ml_embedded {
	const char *name; /* of the source file in runtime/embed, without its ending */
	const unsigned char *at;
	size_t size;
} ml_embedded;

/* File i of the embedded runtime for a triple, in a fixed order; false at the end. */
bool ml_embedded_get(const char *triple, int i, ml_embedded *);
#endif
