/* observer.h -- how the range of a quantized tensor is taken from what calibration data shows. */
#ifndef ML_OBSERVER_H
#define ML_OBSERVER_H
#include "observe.h"

enum { ML_BINS = 2048 };

/* How often values fell into equal parts of low..high. */
typedef struct ml_histogram {
	double low, high;
	double count[ML_BINS];
} ml_histogram;

void ml_histogram_add(ml_histogram *, const float *, int64_t n);
/* The counts of a histogram from low to high, spread over the parts of this one that its parts lie
 * in. */
void ml_histogram_merge(ml_histogram *, double low, double high, const double *count);
/* The range without the outermost 0.01 % of the values, half of them on each side. */
ml_range ml_range_percentile(const ml_histogram *);
/* low and high times the p of 1, 0.99, ..., 0.5 with the least squared error of 256 levels. */
ml_range ml_range_mse(const ml_histogram *);
/* The threshold of |x| with the least Kullback-Leibler divergence of its 128 levels (Migacz, "8-bit
 * Inference with TensorRT"); both ends are cut there. */
ml_range ml_range_entropy(const ml_histogram *);
#endif
