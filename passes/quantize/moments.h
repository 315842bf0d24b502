/* moments.h -- second moments of what layers read, over calibration data. */
#ifndef ML_MOMENTS_H
#define ML_MOMENTS_H
#include "../pass.h"
#include "../triangle.h"

enum { ML_MOMENTS_DRAWN = 128 };

/* Of the rows x (the last axis, of constant size k) of an f32 value in the main block. */
typedef struct ml_moments {
	ml_value *value;
	int64_t k;
	double *h;    /* f64, a triangle: the sum of x'x */
	double *sum;  /* f64[k]: of x; or NULL */
	int64_t rows; /* how many there were */
	/* where these two are not NULL: */
	double *magnitude; /* f64[k]: the sum of |x| */
	float *row;        /* f32[ML_MOMENTS_DRAWN, k]: some rows */
	int64_t drawn;
} ml_moments;

/* Fills in the sums of these values over the samples to learn from, or over the first ones that
 * have so many rows together.  Memory: a thousand rows per value, and an f32 matrix of a few
 * hundred.  ML_ERR_ARG when there is nothing to run the module with, or the data's errors. */
ml_status ml_second_moments(ml_pass_ctx *, ml_module *, ml_moments *, int n, int64_t rows);
#endif
