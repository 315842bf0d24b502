/* smooth.h -- factors that move outliers of activations into weights before both are quantized.
 *
 * Xiao et al., "SmoothQuant": x W = (x / s) (s W) with s_j = max|x_j|^a / max|W_j|^(1 - a) for each
 * input channel j.  The published rule has one a for a model; here each layer gets the one with the
 * least expected error of its result.
 */
#ifndef ML_SMOOTH_H
#define ML_SMOOTH_H
#include "statistics.h"

/* Below: error expected of one element of x W, squared and summed over columns, when rows of x / s
 * become u8 with their own range and columns of s W become s8.  Rounding errors count as uniform
 * and independent: a step's square / 12 each. */
typedef struct ml_smoothing {
	const ml_statistics *x;
	const float *w; /* [channels, columns] */
	int64_t columns;
	const double *left;  /* instead of the variance of each channel; NULL: that */
	float *top, *square; /* of each row of w: its largest magnitude, its sum of squares */
} ml_smoothing;
/* Sets the last two. */
void ml_smoothing_begin(ml_smoothing *, ml_arena *);
/* `top`: room for all columns. */
double ml_smoothing_error(const ml_smoothing *, const float *s, float *top);

/* The published s for this a. */
void ml_smoothing_factors(const ml_smoothing *, double a, float *s);
/* The a with the least error of 0, 1 / steps, ..., 1; negative, and s is 1 throughout, when none is
 * better than no factors at all by a twentieth. */
double ml_smooth(const ml_smoothing *, int steps, int workers, float *s, ml_arena *);
float ml_square_sum(const float *, int64_t n);
#endif
