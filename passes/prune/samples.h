/* samples.h -- calibration samples at hand: in batches of one shape, without their padding. */
#ifndef ML_PRUNE_SAMPLES_H
#define ML_PRUNE_SAMPLES_H
#include "../agree.h"
#include "../pass.h"

typedef struct ml_batch {
	ml_tensor *in;
	ml_tensor *out; /* the teacher's, of batches that are held out; else NULL */
	int64_t samples;
	bool held; /* for judging only: never fitted to */
} ml_batch;

typedef struct ml_samples {
	ml_arena *arena;
	ML_VEC(ml_batch) batch; /* rising in size */
	int64_t count, held;    /* samples */
	ml_tensor *typical;     /* one sample of median size, for timing */
	ml_agree agree;
	ml_runnable *teacher;
} ml_samples;

/* Reads px->data and runs the teacher on what is held out, every fifth sample.  Where inputs are
 * padded with zeros that change nothing, which is tried out, the padding is cut. */
ml_status ml_samples_read(ml_samples *, ml_pass_ctx *, const ml_module *teacher, ml_arena *);
void ml_samples_free(ml_samples *, ml_pass_ctx *);

/* How far a candidate is from the teacher on what is held out: samples->agree afterwards holds the
 * figures.  *error is what ml_agree_error() says. */
ml_status ml_judge(ml_samples *, ml_pass_ctx *, const ml_module *candidate, double *error);
ml_status ml_judge_runnable(ml_samples *, ml_pass_ctx *, ml_runnable *, double *error);
/* Seconds of one run on the typical sample. */
ml_status ml_time_candidate(const ml_samples *, ml_pass_ctx *, const ml_module *, double *seconds);
#endif
