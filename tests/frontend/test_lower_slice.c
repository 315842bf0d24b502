/* test_lower_slice.c -- ONNX operators that cut, pad and rearrange. */
#include "harness_onnx.h"

#define Y "out y\n"

#define X    "in x f32[n]\n"
#define DATA "x f32[5] 1 2 3 4 5"

static void
test_slice(void **state)
{
	(void)state;
	expect(X "const a s64[1] 1\nconst b s64[1] -1\nnode Slice x a b -> y\n" Y, DATA,
	       "y f32[3] 2 3 4");
	expect(X "const a s64[1] -2\nconst b s64[1] 9223372036854775807\nnode Slice x a b -> y\n" Y,
	       DATA, "y f32[2] 4 5");
	expect(X "const a s64[1] -1\nconst b s64[1] -9223372036854775807\nconst s s64[1] -2\n"
		 "node Slice x a b - s -> y\n" Y,
	       DATA, "y f32[3] 5 3 1");
	/* the smallest integer there is, as PyTorch writes it */
	expect(X
	       "const a s64[1] -9223372036854775808\nconst b s64[1] -2\nnode Slice x a b -> y\n" Y,
	       DATA, "y f32[3] 1 2 3");
	expect("opset 9\nin x f32[3]\nnode Slice x -> y starts=[-9223372036854775808] ends=[2]\n" Y,
	       "x f32[3] 1 2 3", "y f32[2] 1 2");
	expect(X "const a s64[1] 3\nconst b s64[1] 1\nnode Slice x a b -> y\n" Y, DATA, "y f32[0]");
	expect(X "const a s64[1] 0\nconst b s64[1] 9\nconst s s64[1] 2\nnode Slice x a b - s -> "
		 "y\n" Y,
	       DATA, "y f32[3] 1 3 5");
	expect("opset 9\nin x f32[2,3]\nnode Slice x -> y starts=[1] ends=[3] axes=[1]\n" Y,
	       "x f32[2,3] 1 2 3 4 5 6", "y f32[2,2] 2 3 5 6");
	/* a table cut to the length of another input */
	expect("in x f32[1,s]\nconst t f32[4] 1 2 3 4\nnode Shape x -> e start=1\nconst z s64[1] "
	       "0\n"
	       "node Slice t z e -> c\nnode Add c x -> y\n" Y,
	       "x f32[1,2] 10 20", "y f32[1,2] 11 22");
	expect_error(X "const a s64[1] 1\nconst b s64[1] 2\nconst s s64[1] 0\n"
		       "node Slice x a b - s -> y\n" Y,
		     ML_ERR_VALUE, "step 0 is 0");
	expect_error(X "in a s64[1]\nconst b s64[1] 2\nnode Slice x a b -> y\n" Y,
		     ML_ERR_UNSUPPORTED, "--freeze a=");
	expect_error(X "const a s64[2] 1 1\nconst b s64[1] 2\nnode Slice x a b -> y\n" Y,
		     ML_ERR_SHAPE, "2 starts, 1 ends");
}

static void
test_pad(void **state)
{
	(void)state;
	expect(X "const p s64[2] 1 2\nconst v f32[] 9\nnode Pad x p v -> y\n" Y, DATA,
	       "y f32[8] 9 1 2 3 4 5 9 9");
	expect(X "const p s64[2] -1 1\nnode Pad x p -> y\n" Y, DATA, "y f32[5] 2 3 4 5 0");
	expect(X "const p s64[2] 2 1\nnode Pad x p -> y mode=\"reflect\"\n" Y, DATA,
	       "y f32[8] 3 2 1 2 3 4 5 4");
	expect(X "const p s64[2] 2 1\nnode Pad x p -> y mode=\"edge\"\n" Y, DATA,
	       "y f32[8] 1 1 1 2 3 4 5 5");
	expect("opset 19\n" X "const p s64[2] 2 1\nnode Pad x p -> y mode=\"wrap\"\n" Y, DATA,
	       "y f32[8] 4 5 1 2 3 4 5 1");
	expect("opset 18\nin x f32[1,2]\nconst p s64[2] 1 0\nconst a s64[1] -1\n"
	       "node Pad x p - a -> y\n" Y,
	       "x f32[1,2] 1 2", "y f32[1,3] 0 1 2");
	expect("opset 7\n" X "node Pad x -> y pads=[1,0] value=3.0\n" Y, DATA,
	       "y f32[6] 3 1 2 3 4 5");
	expect_error(X "const p s64[3] 1 2 3\nnode Pad x p -> y\n" Y, ML_ERR_SHAPE, "3 pads");
	expect_error(X "const p s64[2] 1 2\nnode Pad x p -> y mode=\"odd\"\n" Y, ML_ERR_VALUE,
		     "mode must be");
}

static void
test_center(void **state)
{
	(void)state;
	expect("opset 18\nin x f32[5]\nconst s s64[1] 2\nnode CenterCropPad x s -> y\n" Y, DATA,
	       "y f32[2] 2 3");
	expect("opset 18\nin x f32[5]\nconst s s64[1] 8\nnode CenterCropPad x s -> y\n" Y, DATA,
	       "y f32[8] 0 1 2 3 4 5 0 0");
}

static void
test_blocks(void **state)
{
	(void)state;
	expect("in x f32[1,4,1,1]\nnode DepthToSpace x -> y blocksize=2\n" Y,
	       "x f32[1,4,1,1] 1 2 3 4", "y f32[1,1,2,2] 1 2 3 4");
	expect("in x f32[1,8,1,1]\nnode DepthToSpace x -> y blocksize=2 mode=\"CRD\"\n" Y,
	       "x f32[1,8,1,1] 1 2 3 4 5 6 7 8", "y f32[1,2,2,2] 1 2 3 4 5 6 7 8");
	expect("in x f32[1,8,1,1]\nnode DepthToSpace x -> y blocksize=2\n" Y,
	       "x f32[1,8,1,1] 1 2 3 4 5 6 7 8", "y f32[1,2,2,2] 1 3 5 7 2 4 6 8");
	expect("in x f32[1,1,h,w]\nnode SpaceToDepth x -> y blocksize=2\n" Y,
	       "x f32[1,1,2,2] 1 2 3 4", "y f32[1,4,1,1] 1 2 3 4");
	expect_error("in x f32[1,3,1,1]\nnode DepthToSpace x -> y blocksize=2\n" Y, ML_ERR_SHAPE,
		     "does not divide");
	expect_error("in x f32[1,4,1,1]\nnode DepthToSpace x -> y blocksize=0\n" Y, ML_ERR_VALUE,
		     "blocksize is 0");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_slice),
		TEST(test_pad),
		TEST(test_center),
		TEST(test_blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
