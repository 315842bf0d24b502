/* jit.h -- a plan becomes code and weights in this process. */
#ifndef ML_JIT_H
#define ML_JIT_H
#include "objects.h"
#include "../runtime/abi.h"

typedef struct ml_jit ml_jit; /* owns code and weights; needs neither context nor plan */

typedef struct ml_jit_options {
	const ml_target *target; /* must run here */
	ml_object_making making;
} ml_jit_options;

ml_status ml_jit_new(ml_context *, ml_plan *, const ml_jit_options *, ml_jit **);
/* Valid as long as the ml_jit. */
const mlrt_program *ml_jit_program(const ml_jit *);
void ml_jit_free(ml_jit *);
#endif
