/* test_feedback.c -- rounding with error feedback against its law: with h = (A + I) D (A + I)',
 * what the output loses is the sum of D_i e_i^2 over errors of rounding alone. */
#include "harness_triangle.h"
#include "passes/quantize/feedback.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { K = 70, N = 50, WIDE = ML_FEEDBACK_COLUMNS, ROWS = 300 };

static ml_memory memory;

static double
number(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return (double)(int32_t)*seed / 2147483648.0;
}

static void
inputs(double *h, uint32_t seed)
{
	double x[K];

	memset(h, 0, K * K * sizeof *h);
	for (int r = 0; r < ROWS; r++) {
		double common = 3 * number(&seed);
		for (int i = 0; i < K; i++)
			x[i] = common + number(&seed) * (1 + i % 5);
		for (int i = 0; i < K * K; i++)
			h[i] += x[i / K] * x[i % K];
	}
}

/* Sums of squares of rounding's own errors, per row. */
typedef struct seen {
	double squares[K];
	int last;
	int64_t order[K];
} seen;

static void
round_row(void *user, int64_t i, const float *target, float *became)
{
	seen *s = user;

	s->order[s->last++] = i;
	for (int c = 0; c < N; c++) {
		became[c] = roundf(target[c]);
		double e = (double)target[c] - (double)became[c];
		s->squares[i] += e * e;
	}
}

static double
output_loss(const double *h, const float *error, const int64_t *order)
{
	double sum = 0;

	for (int a = 0; a < K; a++)
		for (int b = 0; b < K; b++)
			for (int c = 0; c < N; c++)
				sum += h[order[a] * K + order[b]] * (double)error[a * WIDE + c] *
				       (double)error[b * WIDE + c];
	return sum;
}

static void
test_law(void **state)
{
	static double h[K * K];
	static float w[K * WIDE], nearest[K * WIDE];
	ml_feedback f;
	ml_arena arena;
	seen s = {.last = 0};
	uint32_t seed = 8;
	double law = 0, mean = 0;

	(void)state;
	ml_arena_init(&arena, &memory);
	inputs(h, 5);
	assert_true(ml_feedback_of(&f, harness_lower(&arena, h, K), K, .01, 1, &arena));
	for (int i = 0; i < K; i++)
		for (int c = 0; c < N; c++) {
			w[i * WIDE + c] = (float)(4 * number(&seed));
			nearest[i * WIDE + c] = w[i * WIDE + c] - roundf(w[i * WIDE + c]);
		}
	ml_feedback_round(&f, w, round_row, &s);
	for (int i = 0; i < K; i++)
		mean += h[i * K + i] / K;
	for (int i = 0; i < K; i++)
		h[i * K + i] += .01 * mean;
	for (int i = 0; i < K; i++) {
		law += f.left[i] * s.squares[i];
		assert_int_equal(s.order[i], f.order[i]);
		assert_true(!i || h[f.order[i - 1] * K + f.order[i - 1]] >=
					  h[f.order[i] * K + f.order[i]]);
	}
	double loss = output_loss(h, w, f.order);
	assert_true(fabs(loss - law) < 1e-4 * law);
	assert_true(loss < .7 * output_loss(h, nearest, f.order));
	for (int i = 0; i < K; i++)
		for (int c = N; c < WIDE; c++)
			assert_true(w[i * WIDE + c] == 0);
	ml_arena_free(&arena);
}

/* Inputs divided by s: the factor of the moments divided by s_i s_j. */
static void
test_scale(void **state)
{
	static double h[K * K];
	ml_feedback f, g;
	ml_arena arena;
	float s[K];

	(void)state;
	ml_arena_init(&arena, &memory);
	inputs(h, 3);
	assert_true(ml_feedback_of(&f, harness_lower(&arena, h, K), K, 0, 1, &arena));
	for (int i = 0; i < K; i++) /* falling along the order, which then remains */
		s[f.order[i]] = 1 + (float)i / 7;
	ml_feedback_scale(&f, s);
	for (int i = 0; i < K * K; i++)
		h[i] /= (double)s[i / K] * (double)s[i % K];
	assert_true(ml_feedback_of(&g, harness_lower(&arena, h, K), K, 0, 3, &arena));
	for (int i = 0; i < K; i++) {
		assert_int_equal(f.order[i], g.order[i]);
		assert_true(fabs(f.left[i] - g.left[i]) < 1e-6 * g.left[i]);
		for (int t = 0; t < i; t++)
			assert_true(fabsf(f.share[i * K + t] - g.share[i * K + t]) < 1e-4f);
	}
	ml_arena_free(&arena);
}

/* A row that no input reaches neither gives nor takes; what cannot be factored is refused. */
static void
test_degenerate(void **state)
{
	static double h[K * K];
	ml_feedback f;
	ml_arena arena;

	(void)state;
	ml_arena_init(&arena, &memory);
	inputs(h, 3);
	for (int i = 0; i < K; i++)
		h[i * K + 7] = h[7 * K + i] = 0;
	assert_true(ml_feedback_of(&f, harness_lower(&arena, h, K), K, .01, 1, &arena));
	assert_int_equal(f.order[K - 1], 7);
	for (int t = 0; t < K - 1; t++)
		assert_true(f.share[(K - 1) * K + t] == 0);
	h[5] = h[5 * K] = 1e9;
	assert_false(ml_feedback_of(&f, harness_lower(&arena, h, K), K, .01, 1, &arena));
	ml_arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_law),
		cmocka_unit_test(test_scale),
		cmocka_unit_test(test_degenerate),
	};

	memory = ml_memory_libc();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
