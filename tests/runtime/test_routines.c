/* test_routines.c -- irregular operators on plain arrays: order, ties, NaN, types, faults. */
#include "runtime/embed/routines.h"
#include "mlopt/mlopt.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

/* One call; arrays are those of the test. */
static int32_t
call(int32_t (*routine)(const mlrt_routine *), void *const *buffer, const int64_t *dim,
     const int32_t *rank, const int32_t *dtype, const int64_t *attr, int64_t *size,
     mlrt_fault *fault)
{
	mlrt_routine r = {buffer, dim, rank, dtype, attr, size, fault, 3, 0};

	return routine(&r);
}

static int32_t
top_k(ml_dtype t, void *x, const int64_t *dim, int32_t rank, const int64_t *attr, void *values,
      int64_t *indices, mlrt_fault *fault)
{
	int32_t dtype = (int32_t)t;

	return call(mlrt_top_k, (void *[]){x, values, indices}, dim, &rank, &dtype, attr, NULL,
		    fault);
}

static void
test_top_k(void **state)
{
	float x[] = {1, 5, 5, -2, NAN, 5, 0}, y[4];
	int64_t at[4], dim = 7;
	mlrt_fault fault = {0};

	(void)state;
	/* NaN counts as the largest; equal elements in the order of their positions */
	assert_int_equal(top_k(ML_f32, x, &dim, 1, (int64_t[]){4, 0, 1}, y, at, &fault), 0);
	assert_memory_equal(at, ((int64_t[]){4, 1, 2, 5}), sizeof at);
	assert_true(isnan(y[0]) && y[1] == 5 && y[3] == 5);
	assert_int_equal(top_k(ML_f32, x, &dim, 1, (int64_t[]){4, -1, 0}, y, at, &fault), 0);
	assert_memory_equal(at, ((int64_t[]){3, 6, 0, 1}), sizeof at);
	assert_int_equal(top_k(ML_f32, x, &dim, 1, (int64_t[]){0, 0, 1}, y, at, &fault), 0);
}

/* Along an axis in the middle, in types whose bits order differently. */
static void
test_top_k_axis(void **state)
{
	uint64_t x[2][3][2] = {{{1, UINT64_MAX}, {9, 2}, {9, 3}}, {{4, 4}, {5, 1}, {6, 8}}},
		 y[2][2][2];
	int64_t at[2][2][2], dim[] = {2, 3, 2};
	uint16_t half[] = {0xc000, 0x3c00, 0x0001, 0xfc00}, h[2]; /* -2, 1, 2^-24, -inf */
	mlrt_fault fault = {0};

	(void)state;
	assert_int_equal(top_k(ML_u64, x, dim, 3, (int64_t[]){2, 1, 1}, y, &at[0][0][0], &fault),
			 0);
	assert_memory_equal(at, ((int64_t[2][2][2]){{{1, 0}, {2, 2}}, {{2, 2}, {1, 0}}}),
			    sizeof at);
	assert_memory_equal(y, ((uint64_t[2][2][2]){{{9, UINT64_MAX}, {9, 3}}, {{6, 8}, {5, 4}}}),
			    sizeof y);
	assert_int_equal(top_k(ML_f16, half, (int64_t[]){4}, 1, (int64_t[]){2, 0, 0}, h,
			       &at[0][0][0], &fault),
			 0);
	assert_memory_equal(h, ((uint16_t[]){0xfc00, 0xc000}), sizeof h);
	assert_int_equal(top_k(ML_bf16, half, (int64_t[]){4}, 1, (int64_t[]){1, 0, 1}, h,
			       &at[0][0][0], &fault),
			 0);
	assert_int_equal(h[0], 0x3c00);
}

static void
test_top_k_too_many(void **state)
{
	float x[2] = {1, 2}, y[3];
	int64_t at[3], dim = 2;
	mlrt_fault fault = {0};

	(void)state;
	assert_int_equal(top_k(ML_f32, x, &dim, 1, (int64_t[]){3, 0, 1}, y, at, &fault),
			 ML_ERR_SHAPE);
	assert_int_equal(fault.status, ML_ERR_SHAPE);
	assert_int_equal(fault.site, 3);
	assert_int_equal(fault.value, 3);
	assert_int_equal(fault.limit, 2);
	/* the first fault stays */
	top_k(ML_f32, x, &dim, 1, (int64_t[]){9, 0, 1}, y, at, &fault);
	assert_int_equal(fault.value, 3);
}

static void
test_nonzero(void **state)
{
	float x[2][3] = {{0, -0.0f, NAN}, {2, 0, 1e-45f}};
	uint8_t b = 1;
	int64_t to[12], n = -1, dim[] = {2, 3};
	int32_t rank = 2, dtype = ML_f32;

	(void)state;
	call(mlrt_nonzero, (void *[]){x, to}, dim, &rank, &dtype, NULL, &n, NULL);
	assert_int_equal(n, 3);
	assert_memory_equal(to, ((int64_t[]){0, 1, 1, 2, 0, 2}), 6 * sizeof *to);
	rank = 0; /* a scalar has one element and no coordinates */
	dtype = ML_bool;
	call(mlrt_nonzero, (void *[]){&b, to}, dim, &rank, &dtype, NULL, &n, NULL);
	assert_int_equal(n, 1);
	rank = 2;
	call(mlrt_nonzero, (void *[]){x, to}, (int64_t[]){0, 3}, &rank, &dtype, NULL, &n, NULL);
	assert_int_equal(n, 0);
}

static void
test_unique(void **state)
{
	int8_t x[] = {3, -1, 3, 7, -1, 3}, y[6];
	int64_t first[6], inverse[6], counts[6], n = -1, dim = 6, sorted = 1;
	int32_t rank = 1, dtype = ML_s8;
	void *buffer[] = {x, y, first, inverse, counts};

	(void)state;
	call(mlrt_unique, buffer, &dim, &rank, &dtype, &sorted, &n, NULL);
	assert_int_equal(n, 3);
	assert_memory_equal(y, ((int8_t[]){-1, 3, 7}), 3);
	assert_memory_equal(first, ((int64_t[]){1, 0, 3}), 3 * sizeof *first);
	assert_memory_equal(inverse, ((int64_t[]){1, 0, 1, 2, 0, 1}), sizeof inverse);
	assert_memory_equal(counts, ((int64_t[]){2, 3, 1}), 3 * sizeof *counts);
	sorted = 0;
	call(mlrt_unique, buffer, &dim, &rank, &dtype, &sorted, &n, NULL);
	assert_memory_equal(y, ((int8_t[]){3, -1, 7}), 3);
	assert_memory_equal(first, ((int64_t[]){0, 1, 3}), 3 * sizeof *first);
	assert_memory_equal(inverse, ((int64_t[]){0, 1, 0, 2, 1, 0}), sizeof inverse);
	assert_memory_equal(counts, ((int64_t[]){3, 2, 1}), 3 * sizeof *counts);
	dim = 0;
	call(mlrt_unique, buffer, &dim, &rank, &dtype, &sorted, &n, NULL);
	assert_int_equal(n, 0);
}

/* Two classes on the same four boxes, corners given in both orders. */
static int64_t
nms(int64_t most, float iou, float least, int64_t center, int64_t *rows)
{
	static float corners[4][4] = {{0, 0, 1, 1}, {1, 1.1f, 0, 0}, {0, 10, 1, 11}, {5, 5, 5, 5}};
	static float middles[4][4] = {
		{.5f, .5f, 1, 1}, {.55f, .5f, 1.1f, 1}, {10.5f, .5f, 1, 1}, {5, 5, 0, 0}};
	float scores[2][4] = {{.9f, .95f, .5f, .3f}, {.1f, .2f, .8f, .8f}};
	int64_t n = -1, dim[] = {1, 4, 4, 1, 2, 4};
	int32_t rank[] = {3, 3, 0, 0, 0}, dtype[] = {ML_f32, ML_f32, ML_s64, ML_f32, ML_f32};
	mlrt_fault fault = {0};

	call(mlrt_nms, (void *[]){center ? middles : corners, scores, &most, &iou, &least, rows},
	     dim, rank, dtype, &center, &n, &fault);
	return n;
}

static void
test_nms(void **state)
{
	int64_t rows[8][3];

	(void)state;
	for (int64_t center = 0; center < 2; center++) {
		assert_int_equal(nms(9, 0.5f, 0.4f, center, rows[0]), 4);
		assert_memory_equal(rows,
				    ((int64_t[4][3]){{0, 0, 1}, {0, 0, 2}, {0, 1, 2}, {0, 1, 3}}),
				    12 * sizeof(int64_t));
	}
	/* equal scores: the lower number first; an empty box overlaps nothing */
	assert_int_equal(nms(9, 0.5f, 0.15f, 0, rows[0]), 6);
	assert_memory_equal(rows[3], ((int64_t[3][3]){{0, 1, 2}, {0, 1, 3}, {0, 1, 1}}),
			    9 * sizeof(int64_t));
	assert_int_equal(nms(1, 0.5f, 0, 0, rows[0]), 2);
	assert_int_equal(nms(0, 0.5f, 0, 0, rows[0]), 0);
	assert_int_equal(nms(9, 1, 0, 0, rows[0]), 8);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_top_k),          cmocka_unit_test(test_top_k_axis),
		cmocka_unit_test(test_top_k_too_many), cmocka_unit_test(test_nonzero),
		cmocka_unit_test(test_unique),         cmocka_unit_test(test_nms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
