/* test_lower_reduce.c -- ONNX operators along axes. */
#include "harness_onnx.h"

#define X    "in x f32[2,3]\n"
#define Y    "out y\n"
#define DATA "x f32[2,3] 1 -2 3 4 5 -6"

static void
test_reductions(void **state)
{
	(void)state;
	expect(X "const a s64[1] 1\nnode ReduceSum x a -> y\n" Y, DATA, "y f32[2,1] 2 3");
	expect("opset 11\n" X "node ReduceSum x -> y axes=[-1] keepdims=0\n" Y, DATA,
	       "y f32[2] 2 3");
	expect(X "node ReduceMax x -> y axes=[0] keepdims=0\n" Y, DATA, "y f32[3] 4 5 3");
	expect(X "node ReduceMin x -> y keepdims=0\n" Y, DATA, "y f32[] -6");
	expect(X "node ReduceMean x -> y axes=[1]\n" Y, DATA, "y f32[2,1] 0.666667 1");
	expect(X "node ReduceProd x -> y axes=[1] keepdims=0\n" Y, DATA, "y f32[2] -6 -120");
	expect(X "node ReduceL1 x -> y axes=[1] keepdims=0\n" Y, DATA, "y f32[2] 6 15");
	expect(X "node ReduceL2 x -> y axes=[1] keepdims=0\n" Y, DATA,
	       "y f32[2] 3.741657 8.774964");
	expect(X "node ReduceSumSquare x -> y axes=[1] keepdims=0\n" Y, DATA, "y f32[2] 14 77");
	expect("in x f32[2]\nnode ReduceLogSum x -> y\n" Y, "x f32[2] 1 2", "y f32[1] 1.098612");
	expect("in x f32[2]\nnode ReduceLogSumExp x -> y\n" Y, "x f32[2] 1000 1000",
	       "y f32[1] 1000.693147");
	expect("in x f32[2]\nnode ReduceLogSumExp x -> y\n" Y, "x f32[2] -inf -inf",
	       "y f32[1] -inf");
	expect("opset 20\nin x bool[2,2]\nconst a s64[1] 1\nnode ReduceMax x a -> y keepdims=0\n" Y,
	       "x bool[2,2] 0 1 0 0", "y bool[2] 1 0");
	expect("opset 18\nin x s32[2,2]\nconst a s64[1] 1\nnode ReduceMean x a -> y keepdims=0\n" Y,
	       "x s32[2,2] 1 2 -3 -4", "y s32[2] 1 -3");
	expect("opset 18\n" X "const a s64[0]\nnode ReduceSum x a -> y noop_with_empty_axes=1\n" Y,
	       DATA, "y f32[2,3] 1 -2 3 4 5 -6");
	expect("opset 18\n" X "const a s64[0]\nnode ReduceSum x a -> y keepdims=0\n" Y, DATA,
	       "y f32[] 5");
	expect_error(X "node ReduceMax x -> y axes=[2]\n" Y, ML_ERR_VALUE, "axis 2");
	expect_error(X "node ReduceMax x -> y axes=[1,-1]\n" Y, ML_ERR_VALUE, "twice");
}

static void
test_positions(void **state)
{
	(void)state;
	expect(X "node ArgMax x -> y axis=1\n" Y, DATA, "y s64[2,1] 2 1");
	expect(X "node ArgMin x -> y axis=0 keepdims=0\n" Y, DATA, "y s64[3] 0 0 1");
	expect("in x f32[3]\nnode ArgMax x -> y select_last_index=1 keepdims=0\n" Y,
	       "x f32[3] 5 1 5", "y s64[] 2");
	expect(X "const k s64[1] 2\nnode TopK x k -> y i\n" Y "out i\n", DATA,
	       "y f32[2,2] 3 1 5 4\ni s64[2,2] 2 0 1 0");
	expect("opset 9\n" X "node TopK x -> y i k=1 axis=0\n" Y "out i\n", DATA,
	       "y f32[1,3] 4 5 3\ni s64[1,3] 1 1 0");
	expect(X "node Hardmax x -> y\n" Y, DATA, "y f32[2,3] 0 0 1 0 1 0");
}

static void
test_cumulated(void **state)
{
	(void)state;
	expect(X "const a s64[] 1\nnode CumSum x a -> y\n" Y, DATA, "y f32[2,3] 1 -1 2 4 9 3");
	expect(X "const a s64[] 1\nnode CumSum x a -> y exclusive=1 reverse=1\n" Y, DATA,
	       "y f32[2,3] 1 3 0 -1 -6 0");
	expect("opset 26\n" X "const a s64[] -1\nnode CumProd x a -> y\n" Y, DATA,
	       "y f32[2,3] 1 -2 -6 4 20 -120");
	expect("opset 26\n" X "const a s64[] 0\nnode CumProd x a -> y exclusive=1 reverse=1\n" Y,
	       DATA, "y f32[2,3] 4 5 -6 1 1 1");
}

static void
test_softmax(void **state)
{
	(void)state;
	expect("in x f32[2,2]\nnode Softmax x -> y\n" Y, "x f32[2,2] 0 0 1 2",
	       "y f32[2,2] 0.5 0.5 0.268941 0.731059");
	/* before 13: all dims from the axis on, together */
	expect("opset 11\nin x f32[1,2,2]\nnode Softmax x -> y\n" Y, "x f32[1,2,2] 0 0 0 0",
	       "y f32[1,2,2] 0.25 0.25 0.25 0.25");
	expect("in x f32[1,2]\nnode LogSoftmax x -> y\n" Y, "x f32[1,2] 1000 1000",
	       "y f32[1,2] -0.693147 -0.693147");
	expect("in x f32[1,2]\nnode LpNormalization x -> y\n" Y, "x f32[1,2] 3 4",
	       "y f32[1,2] 0.6 0.8");
	expect("in x f32[1,2]\nnode LpNormalization x -> y p=1\n" Y, "x f32[1,2] 0 0",
	       "y f32[1,2] 0 0");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reductions),
		TEST(test_positions),
		TEST(test_cumulated),
		TEST(test_softmax),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
