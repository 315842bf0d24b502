/* model.h -- inside of models: a program, what it says about itself, and who owns its code. */
#ifndef MLRT_MODEL_H
#define MLRT_MODEL_H
#include "abi.h"
#include "signature.h"

struct ml_model {
	ml_allocator allocator;
	const mlrt_program *program;
	mlrt_signature signature;
	const char **levels;          /* names, for ml_model_info */
	void (*release)(void *owner); /* called last; may be NULL */
	void *owner;
	ml_function *(*find)(void *owner, const char *name); /* the artefact's functions, or NULL */
	int references; /* atomic: its own and one of each session */
};

/* Makes a model of a program; on success it owns `owner`, freed by release().  The compiler uses it
 * for code in memory. */
ML_API ml_status mlrt_model_new(const mlrt_program *, const ml_allocator *, void *owner,
				void (*release)(void *owner), ml_model **, ml_message *why);
/* One more reference; ml_model_free() drops it. */
void mlrt_model_keep(ml_model *);
#endif
