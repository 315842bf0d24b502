/* test_call.c -- C functions called by a signature known at run time. */
#include "mlopt/mlopt.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* One parameter of every kind, more than registers hold. */
static int32_t
everything(double a, float b, int64_t c, int32_t d, int16_t e, int8_t f, uint64_t g, uint32_t h,
	   uint16_t i, uint8_t j, uint16_t half, const char *text, int64_t *out)
{
	*out = c;
	return a == 0.1 && b == 0.25f && d == -2 && e == -3 && f == -4 && g == UINT64_MAX &&
	       h == 5 && i == 6 && j == 1 && half == 0x3c00 && text[0] == 't';
}

static void
test_everything(void **state)
{
	int64_t out = 0;
	int32_t result = 0;
	char text[] = "text";
	ml_argument a[] = {
		{ML_f64, {.real = 0.1}},       {ML_f32, {.real = 0.25}},
		{ML_s64, {.integer = -1}},     {ML_s32, {.integer = -2}},
		{ML_s16, {.integer = -3}},     {ML_s8, {.integer = -4}},
		{ML_u64, {.integer = -1}},     {ML_u32, {.integer = 5}},
		{ML_u16, {.integer = 6}},      {ML_bool, {.integer = 1}},
		{ML_f16, {.integer = 0x3c00}}, {ML_none, {.pointer = text}},
		{ML_none, {.pointer = &out}},
	};

	(void)state;
	assert_int_equal(ml_call((ml_function *)everything, a, 13, &result), ML_OK);
	assert_int_equal(result, 1);
	assert_int_equal(out, -1);
}

static int32_t
negative(void)
{
	return -7;
}

static void
test_edges(void **state)
{
	int32_t result = 0;
	ml_argument strange = {(ml_dtype)99, {.integer = 0}};

	(void)state;
	assert_int_equal(ml_call((ml_function *)negative, NULL, 0, &result), ML_OK);
	assert_int_equal(result, -7);
	assert_int_equal(ml_call((ml_function *)negative, &strange, 1, &result), ML_ERR_ARG);
	assert_int_equal(ml_call((ml_function *)negative, NULL, -1, &result), ML_ERR_ARG);
	assert_int_equal(ml_call((ml_function *)negative, NULL, 1000, &result), ML_ERR_ARG);
	assert_int_equal(ml_call(NULL, NULL, 0, &result), ML_ERR_ARG);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything),
		cmocka_unit_test(test_edges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
