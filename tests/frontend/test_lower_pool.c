/* test_lower_pool.c -- pools. */
#include "harness_onnx.h"

#define Y "out y\n"

#define X    "in x f32[1,1,h,3]\n"
#define DATA "x f32[1,1,3,3] 1 2 3 4 5 6 7 8 9"

static void
test_max_pool(void **state)
{
	(void)state;
	expect(X "node MaxPool x -> y i kernel_shape=[2,2]\n" Y "out i\n", DATA,
	       "y f32[1,1,2,2] 5 6 8 9\ni s64[1,1,2,2] 4 5 7 8");
	expect(X "node MaxPool x -> y i kernel_shape=[2,2] strides=[2,2] ceil_mode=1 "
		 "storage_order=1\n" Y "out i\n",
	       DATA, "y f32[1,1,2,2] 5 6 8 9\ni s64[1,1,2,2] 4 7 5 8");
	expect("in x f32[1,1,3]\nnode MaxPool x -> y kernel_shape=[2] pads=[1,1]\n" Y,
	       "x f32[1,1,3] -1 -2 -3", "y f32[1,1,4] -1 -1 -2 -3");
	expect("in x u8[1,1,3]\nnode MaxPool x -> y kernel_shape=[2] dilations=[2]\n" Y,
	       "x u8[1,1,3] 7 9 3", "y u8[1,1,1] 7");
	expect_error(X "node MaxPool x -> y kernel_shape=[0,2]\n" Y, ML_ERR_VALUE,
		     "kernel_shape is 0");
	expect_error(X "node MaxPool x -> y\n" Y, ML_ERR_FORMAT, "'kernel_shape' is missing");
	expect_error("in x f32[3,3]\nnode MaxPool x -> y kernel_shape=[2]\n" Y, ML_ERR_SHAPE,
		     "rank 2");
}

static void
test_unpool(void **state)
{
	(void)state;
	expect("in x f32[1,1,2]\nin i s64[1,1,2]\nnode MaxUnpool x i -> y kernel_shape=[2] "
	       "strides=[2]\n" Y,
	       "x f32[1,1,2] 5 6\ni s64[1,1,2] 1 2", "y f32[1,1,4] 0 5 6 0");
}

static void
test_average_pool(void **state)
{
	(void)state;
	expect(X "node AveragePool x -> y kernel_shape=[2,2]\n" Y, DATA, "y f32[1,1,2,2] 3 4 6 7");
	expect("in x f32[1,1,3]\nnode AveragePool x -> y kernel_shape=[2] pads=[1,0]\n" Y,
	       "x f32[1,1,3] 2 4 6", "y f32[1,1,3] 2 3 5");
	expect("in x f32[1,1,3]\n"
	       "node AveragePool x -> y kernel_shape=[2] pads=[1,0] count_include_pad=1\n" Y,
	       "x f32[1,1,3] 2 4 6", "y f32[1,1,3] 1 3 5");
	expect("in x f32[1,1,3]\n"
	       "node AveragePool x -> y kernel_shape=[2] strides=[2] ceil_mode=1\n" Y,
	       "x f32[1,1,3] 2 4 6", "y f32[1,1,2] 3 6");
}

static void
test_other_pools(void **state)
{
	(void)state;
	expect("in x f32[1,1,2]\nnode LpPool x -> y kernel_shape=[2]\n" Y, "x f32[1,1,2] 3 -4",
	       "y f32[1,1,1] 5");
	expect("in x f32[1,1,2]\nnode LpPool x -> y kernel_shape=[2] p=3\n" Y, "x f32[1,1,2] 1 2",
	       "y f32[1,1,1] 2.080084");
	expect(X "node GlobalAveragePool x -> y\n" Y, DATA, "y f32[1,1,1,1] 5");
	expect(X "node GlobalMaxPool x -> y\n" Y, DATA, "y f32[1,1,1,1] 9");
	expect("in x f32[1,1,2]\nnode GlobalLpPool x -> y\n" Y, "x f32[1,1,2] 3 4",
	       "y f32[1,1,1] 5");
	expect_error("in x f32[1,2]\nnode GlobalMaxPool x -> y\n" Y, ML_ERR_SHAPE, "rank 3");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_max_pool),
		TEST(test_unpool),
		TEST(test_average_pool),
		TEST(test_other_pools),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
