/* harness_shipped.c -- how the shipped models are compiled, one of which has an own operator. */
#include "harness_shipped.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

__attribute__((visibility("default"))) int32_t com_acme_Scale(const float *x, int64_t by, float *y,
							      int64_t n, int64_t d);

/* Artefacts find it among the program's symbols. */
int32_t
com_acme_Scale(const float *x, int64_t by, float *y, int64_t n, int64_t d)
{
	for (int64_t i = 0; i < n * d; i++)
		y[i] = x[i] * (float)by;
	return 0;
}

ml_options *
fuzz_shipped_options(ml_context *cx, bool int8)
{
	ml_options *o;

	assert_int_equal(ml_options_new(cx, &o), ML_OK);
	assert_int_equal(ml_options_set(o, "O", "3"), ML_OK);
	if (int8)
		assert_int_equal(ml_options_set(o, "int8", NULL), ML_OK);
	assert_int_equal(ml_register_op(cx, "com.acme", "Scale",
					"(x: f32[n,d], by: i64) -> y: f32[n,d]",
					(ml_function *)com_acme_Scale),
			 ML_OK);
	return o;
}
