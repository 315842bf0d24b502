/* signature.h -- reads the text that describes a compiled model (codegen/signature.h writes it). */
#ifndef MLRT_SIGNATURE_H
#define MLRT_SIGNATURE_H
#include "block.h"

typedef struct mlrt_signature {
	ml_model_info info;
	void *memory; /* one block for everything info points to */
	size_t bytes;
} mlrt_signature;

/* ML_ERR_FORMAT with the line that is wrong, ML_ERR_NOMEM. */
ml_status mlrt_signature_read(const char *text, const ml_allocator *, mlrt_signature *,
			      ml_message *why);
void mlrt_signature_free(mlrt_signature *, const ml_allocator *);
#endif
