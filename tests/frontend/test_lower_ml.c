/* test_lower_ml.c -- operators of ai.onnx.ml. */
#include "harness_onnx.h"

#define Y  "out y\n"
#define ML "opset ai.onnx.ml 1\nopset 17\nin x f32[n,2]\n"

static void
test_arithmetic(void **state)
{
	(void)state;
	expect(ML "node Binarizer x -> y domain=ai.onnx.ml threshold=1.5\n" Y, "x f32[1,2] 1 2",
	       "y f32[1,2] 0 1");
	expect(ML "node Scaler x -> y domain=ai.onnx.ml\n" Y, "x f32[1,2] 1 2", "y f32[1,2] 1 2");
	expect(ML "node Normalizer x -> y domain=ai.onnx.ml norm=\"L2\"\n" Y, "x f32[1,2] 3 4",
	       "y f32[1,2] 0.6 0.8");
	expect(ML "node Normalizer x -> y domain=ai.onnx.ml\n" Y, "x f32[1,2] 2 4",
	       "y f32[1,2] 0.5 1");
	expect_error(ML "node Normalizer x -> y domain=ai.onnx.ml norm=\"L3\"\n" Y, ML_ERR_VALUE,
		     "MAX, L1 or L2");
}

static void
test_linear_regressor(void **state)
{
	(void)state;
	expect(ML "node LinearRegressor x -> y domain=ai.onnx.ml coefficients=(2,3) "
		  "intercepts=(10)\n" Y,
	       "x f32[1,2] 1 2", "y f32[1,1] 18");
	expect_error(ML "node LinearRegressor x -> y domain=ai.onnx.ml coefficients=(2,3,4)\n" Y,
		     ML_ERR_VALUE, "must have 2");
	expect_error(ML "node LinearRegressor x -> y domain=ai.onnx.ml\n" Y, ML_ERR_FORMAT,
		     "'coefficients' is missing");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_arithmetic),
		TEST(test_linear_regressor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
