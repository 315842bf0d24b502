/* samples.h -- calibration samples at hand: in batches of one shape, without their padding. */
#ifndef ML_PRUNE_SAMPLES_H
#define ML_PRUNE_SAMPLES_H
#include "../agree.h"
#include "../pass.h"

typedef struct ml_batch {
	ml_tensor *in;
	ml_tensor *out; /* the teacher's, of batches that are held out; else NULL */
	int64_t samples;
	int64_t *number; /* of each in the data */
	bool held;       /* for judging only: never fitted to */
	bool odd;        /* every other one of those with `out` */
} ml_batch;

enum { ML_TIMED = 3 };
typedef struct ml_samples {
	ml_arena *arena;
	ML_VEC(ml_batch) batch; /* rising in size */
	int64_t count, held;    /* samples */
	int inputs;
	ml_tensor *timing[ML_TIMED]; /* samples alone: small, middle, large */
	ml_agree agree;
	ml_runnable *teacher;
	ml_runnable *timed; /* the teacher once more: sessions that saw larger inputs are slower */
	bool together;      /* the model takes any number of samples at once */
	bool half;          /* judge by every other batch: enough to rank candidates by */
} ml_samples;

/* Reads px->data and runs the teacher on what is held out, every fifth of the first
 * ML_JUDGED_AMONG samples.  Where inputs are padded with zeros that change nothing, which is tried
 * out, the padding is cut. */
ml_status ml_samples_read(ml_samples *, ml_pass_ctx *, const ml_module *teacher, ml_arena *);
void ml_samples_free(ml_samples *, ml_pass_ctx *);

/* Batch i of a walk through all of them whose every beginning has batches of all sizes. */
const ml_batch *ml_samples_spread(const ml_samples *, int i);

/* How far a candidate is from the teacher on what is held out: samples->agree afterwards holds the
 * figures.  *error is what ml_agree_error() says. */
ml_status ml_judge_runnable(ml_samples *, ml_pass_ctx *, ml_runnable *, double *error);
/* The same of a module; `more`, if not NULL, has by batches what it reads behind their inputs. */
ml_status ml_judge(ml_samples *, ml_pass_ctx *, const ml_module *candidate, const ml_tensor *more,
		   double *error);
/* Is a batch judged by? */
bool ml_samples_judge(const ml_samples *, const ml_batch *);
/* Seconds of a run, the mean over samples of three sizes, when nothing disturbs it. */
ml_status ml_time_teacher(ml_samples *, ml_pass_ctx *, const ml_module *, double *seconds);
/* How much of the teacher's time a candidate takes; both run in turns, as clocks drift. */
ml_status ml_time_runnable(const ml_samples *, ml_pass_ctx *, ml_runnable *, double *share);
#endif
