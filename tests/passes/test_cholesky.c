/* test_cholesky.c -- the blocked factor against its definition, alike for any number of threads. */
#include "passes/cholesky.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static ml_memory memory;

static double
number(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return (double)(int32_t)*seed / 2147483648.0;
}

/* x'x of more rows than columns; what is above the diagonal is marked. */
static double *
matrix(int64_t n, ml_arena *arena)
{
	double *a = ML_NEW_ARRAY(arena, double, n *n), *x = ML_NEW_ARRAY(arena, double, n);
	uint32_t seed = (uint32_t)n;

	for (int64_t r = 0; r < n + 9; r++) {
		for (int64_t i = 0; i < n; i++)
			x[i] = number(&seed);
		for (int64_t i = 0; i < n; i++)
			for (int64_t j = 0; j <= i; j++)
				a[i * n + j] += x[i] * x[j];
	}
	for (int64_t i = 0; i < n; i++)
		for (int64_t j = i + 1; j < n; j++)
			a[i * n + j] = 77;
	return a;
}

static double *
copy(const double *a, int64_t n, ml_arena *arena)
{
	size_t bytes = (size_t)(n * n) * sizeof *a;

	return memcpy(ml_alloc(arena, bytes), a, bytes);
}

static void
check(int64_t n, ml_arena *arena)
{
	double *a = matrix(n, arena), *l = copy(a, n, arena), worst = 0;

	assert_true(ml_cholesky(l, n, 1, arena));
	for (int64_t i = 0; i < n; i++)
		for (int64_t j = 0; j <= i; j++) {
			double sum = 0;
			for (int64_t t = 0; t <= j; t++)
				sum += l[i * n + t] * l[j * n + t];
			worst = fmax(worst, fabs(sum - a[i * n + j]));
		}
	assert_true(worst < 1e-13 * (double)(n + 9));
	for (int64_t i = 0; i < n; i++)
		for (int64_t j = i + 1; j < n; j++)
			assert_true(l[i * n + j] == 77);
	for (int workers = 2; workers < 6; workers++) {
		double *other = copy(a, n, arena);
		assert_true(ml_cholesky(other, n, workers, arena));
		assert_memory_equal(other, l, (size_t)(n * n) * sizeof *l);
	}
}

/* Sizes at and beside those of panels, tiles and threads. */
static void
test_factor(void **state)
{
	const int64_t size[] = {1, 2, 3, 5, 47, 48, 49, 95, 97, 113, 257, 330};

	(void)state;
	for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
		ml_arena arena;
		ml_arena_init(&arena, &memory);
		check(size[i], &arena);
		ml_arena_free(&arena);
	}
}

static void
test_not_definite(void **state)
{
	const int64_t n = 120;
	ml_arena arena;

	(void)state;
	ml_arena_init(&arena, &memory);
	for (int64_t bad = 0; bad < n; bad += 17) {
		double *a = matrix(n, &arena);
		a[bad * n + bad] = bad % 2 ? -1 : (double)NAN;
		assert_false(ml_cholesky(a, n, 2, &arena));
	}
	ml_arena_free(&arena);
}

static void
test_solve(void **state)
{
	enum { N = 60, O = 3 };
	double x[N * O], b[N * O];
	uint32_t seed = 4;
	ml_arena arena;

	(void)state;
	ml_arena_init(&arena, &memory);
	double *a = matrix(N, &arena), *l = copy(a, N, &arena);
	for (int i = 0; i < N * O; i++)
		x[i] = number(&seed);
	for (int i = 0; i < N; i++)
		for (int k = 0; k < O; k++) {
			b[i * O + k] = 0;
			for (int j = 0; j < N; j++)
				b[i * O + k] +=
					(j <= i ? a[i * N + j] : a[j * N + i]) * x[j * O + k];
		}
	assert_true(ml_cholesky(l, N, 2, &arena));
	ml_cholesky_solve(l, N, b, O);
	for (int i = 0; i < N * O; i++)
		assert_true(fabs(b[i] - x[i]) < 1e-9);
	ml_arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_factor),
		cmocka_unit_test(test_not_definite),
		cmocka_unit_test(test_solve),
	};

	memory = ml_memory_libc();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
