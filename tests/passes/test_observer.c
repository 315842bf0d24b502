/* test_observer.c -- ranges from histograms against their definitions. */
#include "passes/quantize/observer.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { MANY = 200000 };

static float x[MANY];

/* Sums of uniform numbers, near a normal distribution, and one element far out. */
static ml_histogram *
fill(ml_histogram *h, double low, float far)
{
	uint64_t seed = 9;

	for (int i = 0; i < MANY; i++) {
		double sum = 0;
		for (int k = 0; k < 12; k++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			sum += (double)(seed >> 11) / (double)(1ll << 53) - .5;
		}
		x[i] = (float)fmax(sum, low);
	}
	x[MANY / 2] = far;
	*h = (ml_histogram){0};
	for (int i = 0; i < MANY; i++) {
		h->low = fmin(h->low, (double)x[i]);
		h->high = fmax(h->high, (double)x[i]);
	}
	ml_histogram_add(h, x, MANY);
	return h;
}

static double
squared_error(ml_range r)
{
	double step = (r.high - r.low) / 255, sum = 0;

	for (int i = 0; i < MANY; i++) {
		double inside = fmin(fmax((double)x[i], r.low), r.high);
		double e = (double)x[i] - (r.low + rint((inside - r.low) / step) * step);
		sum += e * e;
	}
	return sum;
}

static void
test_percentile(void **state)
{
	static ml_histogram h;
	int outside = 0;

	(void)state;
	ml_range r = ml_range_percentile(fill(&h, -99, 40));
	for (int i = 0; i < MANY; i++)
		outside += (double)x[i] < r.low || (double)x[i] > r.high;
	assert_true(outside > 0 && outside <= MANY * 1e-4 + 1);
	assert_true(r.high < 10);
}

static void
test_mse(void **state)
{
	static ml_histogram h;

	(void)state;
	ml_range r = ml_range_mse(fill(&h, -99, 9)), whole = {h.low, h.high};
	assert_true(r.high < whole.high);
	double least = squared_error(whole);
	for (int i = 0; i <= 50; i++) {
		double p = 1 - i / 100.0;
		least = fmin(least, squared_error((ml_range){p * h.low, p * h.high}));
	}
	assert_true(squared_error(r) < 1.05 * least);
	assert_true(squared_error(r) < .9 * squared_error(whole));
}

static void
test_entropy(void **state)
{
	static ml_histogram h;

	(void)state;
	ml_range r = ml_range_entropy(fill(&h, -99, 60));
	assert_true(r.high > 2 && r.high < 20); /* the one far out is given up */
	assert_true(r.low >= h.low);
	r = ml_range_entropy(fill(&h, 0, 4));
	assert_true(r.low == 0); /* what is never below zero stays so */
	/* equal counts everywhere: nothing is gained by cutting */
	for (int i = 0; i < ML_BINS; i++)
		h.count[i] = 100;
	h.low = 0, h.high = 1;
	assert_true(ml_range_entropy(&h).high == 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_percentile),
		cmocka_unit_test(test_mse),
		cmocka_unit_test(test_entropy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
