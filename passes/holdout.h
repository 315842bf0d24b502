/* holdout.h -- samples to judge by, and what the teacher says to them, in memory. */
#ifndef ML_HOLDOUT_H
#define ML_HOLDOUT_H
#include "agree.h"
#include "samples.h"

typedef struct ml_holdout {
	ml_pass_ctx *px;
	const ml_module *teacher;
	int count;
	ML_VEC(ml_tensor *) inputs; /* copies */
	ML_VEC(ml_tensor *) outputs;
	double seconds; /* of the teacher for the middle sample */
	size_t bytes;
} ml_holdout;

/* At most 128 samples and half a GiB. */
ml_status ml_holdout_init(ml_holdout *, ml_pass_ctx *, const ml_module *teacher);
/* Runs a candidate, compiled, on the first `samples`; `more` are inputs behind the module's own. */
ml_status ml_holdout_judge(const ml_holdout *, ml_runnable *, const ml_tensor *more, int nmore,
			   int samples, ml_agree *);
/* Compiles a candidate and runs it on all samples. */
ml_status ml_holdout_try(const ml_holdout *, const ml_module *, ml_agree *);
/* The sample of middle size, to time by. */
const ml_tensor *ml_holdout_middle(const ml_holdout *);
#endif
