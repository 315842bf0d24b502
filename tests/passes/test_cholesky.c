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

/* a x for each of o columns; what is above the diagonal of a is not read. */
static void
multiply(const double *a, const double *x, double *b, int64_t n, int64_t o)
{
	memset(b, 0, (size_t)(n * o) * sizeof *b);
	for (int64_t i = 0; i < n; i++)
		for (int64_t j = 0; j < n; j++)
			for (int64_t k = 0; k < o; k++)
				b[i * o + k] +=
					(j <= i ? a[i * n + j] : a[j * n + i]) * x[j * o + k];
}

static void
check_solution(int64_t n, int64_t o, ml_arena *arena)
{
	double *a = matrix(n, arena), *l = copy(a, n, arena);
	double *x = ML_NEW_ARRAY(arena, double, n *o), *b = ML_NEW_ARRAY(arena, double, n *o);
	double *squares = ML_NEW_ARRAY(arena, double, n);
	uint32_t seed = 4;

	for (int64_t i = 0; i < n * o; i++)
		x[i] = number(&seed);
	multiply(a, x, b, n, o);
	assert_true(ml_cholesky(l, n, 2, arena));
	ml_cholesky_solve(l, n, b, o, arena);
	for (int64_t i = 0; i < n * o; i++)
		assert_true(fabs(b[i] - x[i]) < 1e-7);
	/* Column i of the inverse has at i what column i of the factor's has of squares. */
	ml_cholesky_squares(l, n, squares, arena);
	for (int64_t i = 0; i < n; i += n > 9 ? n / 9 : 1) {
		double *unit = ML_NEW_ARRAY(arena, double, n);
		unit[i] = 1;
		ml_cholesky_solve(l, n, unit, 1, arena);
		assert_true(fabs(squares[i] - unit[i]) < 1e-9 * unit[i]);
	}
}

/* Rows and columns at and beside panels, tiles, strips and threads. */
static void
test_solve(void **state)
{
	const int64_t rows[] = {1, 3, 47, 48, 60, 97, 290}, columns[] = {1, 12, 13, 48, 101};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (size_t k = 0; k < sizeof columns / sizeof *columns; k++) {
			ml_arena arena;
			ml_arena_init(&arena, &memory);
			check_solution(rows[i], columns[k], &arena);
			ml_arena_free(&arena);
		}
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
