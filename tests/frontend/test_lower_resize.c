/* test_lower_resize.c -- Resize and Upsample. */
#include "harness_onnx.h"

#define Y "out y\n"
#define X "in x f32[1,w]\nconst s f32[2] 1 2\nconst h f32[2] 1 0.5\n"

static void
test_nearest(void **state)
{
	(void)state;
	expect(X "node Resize x - s -> y\n" Y, "x f32[1,2] 1 2", "y f32[1,4] 1 1 2 2");
	expect(X "node Resize x - h -> y coordinate_transformation_mode=\"asymmetric\" "
		 "nearest_mode=\"floor\"\n" Y,
	       "x f32[1,4] 1 2 3 4", "y f32[1,2] 1 3");
	expect(X "node Resize x - h -> y nearest_mode=\"ceil\"\n" Y, "x f32[1,4] 1 2 3 4",
	       "y f32[1,2] 2 4");
	expect("in x f32[1,2]\nconst z s64[2] 1 3\nnode Resize x - - z -> y\n" Y, "x f32[1,2] 1 2",
	       "y f32[1,3] 1 1 2");
	expect("opset 18\nin x f32[1,2]\nconst z s64[1] 4\nnode Resize x - - z -> y axes=[1]\n" Y,
	       "x f32[1,2] 1 2", "y f32[1,4] 1 1 2 2");
}

static void
test_linear(void **state)
{
	(void)state;
	expect(X "node Resize x - s -> y mode=\"linear\"\n" Y, "x f32[1,2] 1 2",
	       "y f32[1,4] 1 1.25 1.75 2");
	expect(X "node Resize x - s -> y mode=\"linear\" "
		 "coordinate_transformation_mode=\"align_corners\"\n" Y,
	       "x f32[1,2] 1 4", "y f32[1,4] 1 2 3 4");
	expect("opset 18\nin x f32[1,4]\nconst h f32[2] 1 0.5\n"
	       "node Resize x - h -> y mode=\"linear\" antialias=1\n" Y,
	       "x f32[1,4] 1 2 3 4", "y f32[1,2] 1.625 3.375");
	expect("opset 18\nin x f32[1,4]\nconst r f32[4] 0 0 1 2\nconst z s64[2] 1 2\n"
	       "node Resize x r - z -> y mode=\"linear\" extrapolation_value=9.0 "
	       "coordinate_transformation_mode=\"tf_crop_and_resize\"\n" Y,
	       "x f32[1,4] 1 2 3 4", "y f32[1,2] 1 9");
}

static void
test_cubic(void **state)
{
	(void)state;
	expect(X "node Resize x - s -> y mode=\"cubic\"\n" Y, "x f32[1,2] 0 1",
	       "y f32[1,4] -0.105469 0.226562 0.773438 1.105469");
	expect(X "node Resize x - s -> y mode=\"cubic\" exclude_outside=1\n" Y, "x f32[1,2] 0 1",
	       "y f32[1,4] -0.136364 0.229452 0.770548 1.136364");
}

static void
test_aspect(void **state)
{
	(void)state;
	expect("opset 18\nin x f32[1,2]\nconst z s64[2] 2 3\n"
	       "node Resize x - - z -> y keep_aspect_ratio_policy=\"not_larger\"\n" Y,
	       "x f32[1,2] 1 2", "y f32[2,3] 1 1 2 1 1 2");
}

static void
test_older_forms(void **state)
{
	(void)state;
	expect("opset 10\n" X "node Resize x s -> y\n" Y, "x f32[1,2] 1 2", "y f32[1,4] 1 1 2 2");
	expect("opset 9\n" X "node Upsample x s -> y mode=\"linear\"\n" Y, "x f32[1,2] 1 2",
	       "y f32[1,4] 1 1.5 2 2");
}

static void
test_refused(void **state)
{
	(void)state;
	expect_error(X "node Resize x -> y\n" Y, ML_ERR_FORMAT, "neither scales nor sizes");
	expect_error(X "const t f32[1] 2\nnode Resize x - t -> y\n" Y, ML_ERR_SHAPE, "1 scales");
	expect_error(X "const t f32[2] 1 -2\nnode Resize x - t -> y\n" Y, ML_ERR_VALUE,
		     "scale 1 is -2");
	expect_error(X "node Resize x - s -> y mode=\"odd\"\n" Y, ML_ERR_VALUE, "mode must be");
	expect_error("in x f32[1,2]\nin s f32[2]\nnode Resize x - s -> y\n" Y, ML_ERR_UNSUPPORTED,
		     "--freeze s=");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nearest), TEST(test_linear),      TEST(test_cubic),
		TEST(test_aspect),  TEST(test_older_forms), TEST(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
