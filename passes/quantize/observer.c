/* observer.c -- how the range of a quantized tensor is taken from what calibration data shows. */
#include "observer.h"
#include <math.h>
#include <string.h>

enum { LEVELS = 255, ENTROPY_LEVELS = 128 };
static const double CUT = 1e-4;     /* share of values that a percentile leaves out */
static const double SMALL = 1e-4;   /* smoothing of empty bins, as a count */
static const double NARROWEST = .5; /* of the range, for squared errors */

void
ml_histogram_add(ml_histogram *h, const float *x, int64_t n)
{
	double width = (h->high - h->low) / ML_BINS;

	for (int64_t i = 0; i < n && width > 0; i++) {
		double at = ((double)x[i] - h->low) / width;
		int bin = at >= ML_BINS ? ML_BINS - 1 : at > 0 ? (int)at : 0;
		h->count[bin]++;
	}
}

void
ml_histogram_merge(ml_histogram *h, double low, double high, const double *count)
{
	double width = (h->high - h->low) / ML_BINS, part = (high - low) / ML_BINS;

	for (int i = 0; i < ML_BINS && width > 0 && isfinite(width); i++) {
		double from = (low + i * part - h->low) / width, size = part / width;
		int first = from > 0 ? (int)fmin(from, ML_BINS - 1) : 0;
		if (!(count[i] > 0))
			continue;
		int last = (int)fmin(fmax(from + size, 0), ML_BINS - 1);
		for (int k = first; k <= last; k++) {
			double begin = k == first ? from : k, end = k == last ? from + size : k + 1;
			h->count[k] += size > 0     ? count[i] * (end - begin) / size
				       : k == first ? count[i]
						    : 0;
		}
	}
}

static double
middle(const ml_histogram *h, int bin)
{
	return h->low + (bin + .5) * (h->high - h->low) / ML_BINS;
}

static double
total(const ml_histogram *h)
{
	double sum = 0;

	for (int i = 0; i < ML_BINS; i++)
		sum += h->count[i];
	return sum;
}

/* Zero is always an element of a range. */
static ml_range
with_zero(double low, double high)
{
	return (ml_range){fmin(low, 0), fmax(high, 0)};
}

ml_range
ml_range_percentile(const ml_histogram *h)
{
	double most = total(h) * CUT / 2, width = (h->high - h->low) / ML_BINS, sum = 0;
	int first = 0, last = ML_BINS;

	while (first < ML_BINS && (sum += h->count[first]) <= most)
		first++;
	for (sum = 0; last > first && (sum += h->count[last - 1]) <= most;)
		last--;
	return with_zero(h->low + first * width, h->low + last * width);
}

static double
squared_error(const ml_histogram *h, ml_range r)
{
	double step = (r.high - r.low) / LEVELS, sum = 0;

	for (int i = 0; i < ML_BINS; i++) {
		double x = middle(h, i), inside = fmin(fmax(x, r.low), r.high);
		double e = x - (r.low + rint((inside - r.low) / step) * step);
		/* inside, values lie anywhere in a bin, not in its middle only */
		sum += h->count[i] * (x == inside ? step * step / 12 : e * e);
	}
	return sum;
}

ml_range
ml_range_mse(const ml_histogram *h)
{
	ml_range whole = with_zero(h->low, h->high), best = whole;
	double least = INFINITY;

	for (int i = 0; i <= 100 * NARROWEST; i++) {
		double p = 1 - i / 100.0;
		ml_range r = {p * whole.low, p * whole.high};
		double error = r.high > r.low ? squared_error(h, r) : INFINITY;
		if (error < least) {
			least = error;
			best = r;
		}
	}
	return best;
}

/* KL(P || Q) for the first n bins: P has what lies beyond in its last bin, Q is P in 128 levels. */
static double
divergence(const double *count, int n, double beyond)
{
	double sum_p = beyond, sum_q = 0, kl = 0, q[ML_BINS];

	for (int level = 0; level < ENTROPY_LEVELS; level++) {
		int from = level * n / ENTROPY_LEVELS, to = (level + 1) * n / ENTROPY_LEVELS;
		double sum = 0;
		int filled = 0;
		for (int i = from; i < to; i++) {
			sum += count[i];
			filled += count[i] > 0;
		}
		for (int i = from; i < to; i++) {
			q[i] = count[i] > 0 ? sum / filled : SMALL;
			sum_q += q[i];
		}
		sum_p += sum;
	}
	for (int i = 0; i < n; i++) {
		double p = (count[i] + (i == n - 1 ? beyond : 0)) / sum_p;
		if (p > 0)
			kl += p * log(p / (q[i] / sum_q));
	}
	return kl;
}

ml_range
ml_range_entropy(const ml_histogram *h)
{
	double top = fmax(-h->low, h->high), count[ML_BINS] = {0}, beyond = 0, least = INFINITY;
	int best = ML_BINS;

	for (int i = 0; i < ML_BINS; i++) {
		int bin = (int)(fabs(middle(h, i)) / top * ML_BINS);
		count[bin < ML_BINS ? bin : ML_BINS - 1] += h->count[i];
	}
	count[0] = count[1]; /* zeros, of relu say, are exact whatever the threshold */
	for (int n = ML_BINS; n >= ENTROPY_LEVELS; n -= ENTROPY_LEVELS / 8) {
		double kl = divergence(count, n, beyond);
		if (kl < least) {
			least = kl;
			best = n;
		}
		for (int i = n - 1; i >= n - ENTROPY_LEVELS / 8; i--)
			beyond += count[i];
	}
	double t = top * best / ML_BINS;
	return with_zero(fmax(h->low, -t), fmin(h->high, t));
}
