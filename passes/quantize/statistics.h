/* statistics.h -- what the channels of a value look like over calibration data. */
#ifndef ML_STATISTICS_H
#define ML_STATISTICS_H
#include "../known.h"
#include "../samples.h"

enum { ML_SAMPLED_ROWS = 128 };

/* Channels lie along the last axis; rows are slices along it. */
typedef struct ml_statistics {
	int64_t channels, rows;
	double *sum, *squares; /* per channel */
	float *top;            /* per channel: the largest magnitude */
	float *row;            /* some rows, evenly drawn: [drawn, channels] */
	int64_t drawn;
	bool finite;
} ml_statistics;

/* Of f32 values of the main block, whose last axis must be static: from the samples, and from what
 * is known of them.  Where both have nothing, `rows` is 0. */
ml_status ml_collect(ml_pass_ctx *, const ml_module *, ml_value *const *value, int n,
		     ml_statistics *);
/* The same over px->guess, inputs made up; false when they, or what they give, are no use. */
bool ml_guess(ml_pass_ctx *, const ml_module *, ml_value *const *value, int n, ml_statistics *);
/* What is known of a value without data: behind a norm, rows are the norm's scale and bias on
 * numbers of mean 0 and variance 1, drawn as if normally.  Of other values nothing is, and `rows`
 * is 0. */
void ml_foresee(ml_pass_ctx *, const ml_value *, ml_statistics *);
double ml_mean(const ml_statistics *, int64_t channel);
double ml_variance(const ml_statistics *, int64_t channel);
#endif
