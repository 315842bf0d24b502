/* test_lower_shape.c -- ONNX operators that make sizes and shapes. */
#include "harness_onnx.h"

#define Y "out y\n"

static void
test_sources(void **state)
{
	(void)state;
	expect("in x f32[1]\nnode Constant -> c value_float=2.5\nnode Mul x c -> y\n" Y,
	       "x f32[1] 2", "y f32[1] 5");
	expect("in x s64[2]\nnode Constant -> c value_ints=[3,4]\nnode Add x c -> y\n" Y,
	       "x s64[2] 1 1", "y s64[2] 4 5");
	expect("in x f32[a,2]\nnode Shape x -> s\nnode ConstantOfShape s -> y\n" Y,
	       "x f32[2,2] 1 2 3 4", "y f32[2,2] 0 0 0 0");
	expect("in x f32[n]\nconst z s64[] 0\nconst t s64[] 2\nnode Size x -> n\n"
	       "node Range z n t -> y\n" Y,
	       "x f32[5] 0 0 0 0 0", "y s64[3] 0 2 4");
	expect("in x f32[1]\nconst a f32[] 1\nconst b f32[] 2\nconst d f32[] 0.5\n"
	       "node Range a b d -> r\nnode Add r x -> y\n" Y,
	       "x f32[1] 10", "y f32[2] 11 11.5");
	expect("in x f32[2,3]\nnode EyeLike x -> y k=1\n" Y, "x f32[2,3] 0 0 0 0 0 0",
	       "y f32[2,3] 0 1 0 0 0 1");
	expect("in x f32[2,2]\nin k s64[]\nnode Trilu x k -> y upper=0\n" Y,
	       "x f32[2,2] 1 2 3 4\nk s64[] 0", "y f32[2,2] 1 0 3 4");
	expect_error("in x s64[]\nconst a s64[] 0\nconst d s64[] 1\nnode Range a x d -> y\n" Y,
		     ML_ERR_UNSUPPORTED, "--freeze x=");
	expect_error("in x f32[1]\nconst a f32[] 0\nnode Range a a a -> y\n" Y, ML_ERR_VALUE,
		     "no end");
	expect_error("node Constant -> y value_string=\"a\"\n" Y, ML_ERR_UNSUPPORTED, "strings");
}

static void
test_sizes(void **state)
{
	(void)state;
	expect("in x f32[a,b,4]\nnode Shape x -> y\n" Y, "x f32[1,2,4] 1 2 3 4 5 6 7 8",
	       "y s64[3] 1 2 4");
	expect("in x f32[a,b]\nnode Shape x -> y start=-1\n" Y, "x f32[1,3] 1 2 3", "y s64[1] 3");
	expect("in x f32[a,b]\nnode Size x -> y\n" Y, "x f32[2,3] 1 2 3 4 5 6", "y s64[] 6");
}

static void
test_reshape(void **state)
{
	(void)state;
	expect("in x f32[a,6]\nconst s s64[3] 0 -1 2\nnode Reshape x s -> y\n" Y,
	       "x f32[1,6] 1 2 3 4 5 6", "y f32[1,3,2] 1 2 3 4 5 6");
	expect("in x f32[0,3]\nconst s s64[2] 3 0\nnode Reshape x s -> y allowzero=1\n" Y,
	       "x f32[0,3]", "y f32[3,0]");
	expect("in x f32[n]\nconst s s64[2] -1 2\nnode Reshape x s -> y\n" Y, "x f32[4] 1 2 3 4",
	       "y f32[2,2] 1 2 3 4");
	expect("in x f32[2,3]\nin s s64[1]\nnode Reshape x s -> y\n" Y,
	       "x f32[2,3] 1 2 3 4 5 6\n!s s64[1] 6", "y f32[6] 1 2 3 4 5 6");
	expect("in x f32[a,2,3]\nnode Flatten x -> y axis=-1\n" Y, "x f32[1,2,3] 1 2 3 4 5 6",
	       "y f32[2,3] 1 2 3 4 5 6");
	expect_error("in x f32[2,3]\nconst s s64[2] 4 -1\nnode Reshape x s -> y\n" Y, ML_ERR_SHAPE,
		     "do not divide");
	expect_error("in x f32[2,3]\nconst s s64[2] -1 -1\nnode Reshape x s -> y\n" Y, ML_ERR_VALUE,
		     "more than one");
	expect_error("in x f32[2]\nconst s s64[2] 2 0\nnode Reshape x s -> y\n" Y, ML_ERR_SHAPE,
		     "size 1 is copied");
	expect_error("in x f32[2,3]\nin s s64[1]\nnode Reshape x s -> y\n" Y, ML_ERR_UNSUPPORTED,
		     "--freeze s=");
}

static void
test_ranks(void **state)
{
	(void)state;
	expect("opset 11\nin x f32[1,2,1]\nnode Squeeze x -> y axes=[0]\n" Y, "x f32[1,2,1] 1 2",
	       "y f32[2,1] 1 2");
	expect("in x f32[1,2,1]\nnode Squeeze x -> y\n" Y, "x f32[1,2,1] 1 2", "y f32[2] 1 2");
	expect("in x f32[2]\nconst a s64[2] 2 0\nnode Unsqueeze x a -> y\n" Y, "x f32[2] 1 2",
	       "y f32[1,2,1] 1 2");
	expect("opset 11\nin x f32[2]\nnode Unsqueeze x -> y axes=[-1]\n" Y, "x f32[2] 1 2",
	       "y f32[2,1] 1 2");
	expect_error("in x f32[n]\nnode Squeeze x -> y\n" Y, ML_ERR_UNSUPPORTED, "dynamic dim 0");
	expect_error("in x f32[2]\nnode Unsqueeze x -> y\n" Y, ML_ERR_FORMAT, "needs 2");
}

static void
test_moves(void **state)
{
	(void)state;
	expect("in x f32[2,3]\nnode Transpose x -> y\n" Y, "x f32[2,3] 1 2 3 4 5 6",
	       "y f32[3,2] 1 4 2 5 3 6");
	expect("in x f32[1,2]\nconst s s64[2] 2 1\nnode Expand x s -> y\n" Y, "x f32[1,2] 1 2",
	       "y f32[2,2] 1 2 1 2");
	expect("in x f32[a,2]\nconst r s64[2] 2 3\nnode Tile x r -> y\n" Y, "x f32[1,2] 1 2",
	       "y f32[2,6] 1 2 1 2 1 2 1 2 1 2 1 2");
	expect("in a f32[1,2]\nin b f32[n,2]\nnode Concat a b -> y axis=0\n" Y,
	       "a f32[1,2] 1 2\nb f32[2,2] 3 4 5 6", "y f32[3,2] 1 2 3 4 5 6");
	expect_error("in x f32[2,3]\nnode Transpose x -> y perm=[0,0]\n" Y, ML_ERR_VALUE, "twice");
	expect_error("in x f32[2,3]\nnode Concat x x -> y\n" Y, ML_ERR_FORMAT, "axis");
}

static void
test_split(void **state)
{
	(void)state;
	expect("in x f32[4]\nnode Split x -> y z\n" Y "out z\n", "x f32[4] 1 2 3 4",
	       "y f32[2] 1 2\nz f32[2] 3 4");
	expect("in x f32[4]\nconst s s64[2] 1 3\nnode Split x s -> y z\n" Y "out z\n",
	       "x f32[4] 1 2 3 4", "y f32[1] 1\nz f32[3] 2 3 4");
	expect("opset 18\nin x f32[5]\nnode Split x -> y z num_outputs=2\n" Y "out z\n",
	       "x f32[5] 1 2 3 4 5", "y f32[3] 1 2 3\nz f32[2] 4 5");
	expect("opset 11\nin x f32[n,2]\nnode Split x -> y z axis=1 split=[1,1]\n" Y "out z\n",
	       "x f32[1,2] 1 2", "y f32[1,1] 1\nz f32[1,1] 2");
	expect_error("in x f32[4]\nconst s s64[2] 1 2\nnode Split x s -> y z\n" Y, ML_ERR_SHAPE,
		     "add up");
	expect_error("in x f32[5]\nnode Split x -> y z\n" Y, ML_ERR_SHAPE, "equal");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sources), TEST(test_sizes), TEST(test_reshape),
		TEST(test_ranks),   TEST(test_moves), TEST(test_split),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
