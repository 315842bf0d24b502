/* test_lower_math.c -- elementwise ONNX operators. */
#include "harness_onnx.h"

#define X "in x f32[4]\n"
#define Y "out y\n"

static void
test_unary(void **state)
{
	(void)state;
	expect(X "node Abs x -> y\n" Y, "x f32[4] -2 -0.5 0 3", "y f32[4] 2 0.5 0 3");
	expect(X "node Round x -> y\n" Y, "x f32[4] -2.5 0.5 1.5 3.2", "y f32[4] -2 0 2 3");
	expect(X "node Sigmoid x -> y\n" Y, "x f32[4] -100 0 1 100", "y f32[4] 0 0.5 0.7310586 1");
	expect("in x bool[2]\nnode Not x -> y\n" Y, "x bool[2] 0 1", "y bool[2] 1 0");
	expect("opset 18\nin x u8[2]\nnode BitwiseNot x -> y\n" Y, "x u8[2] 0 7",
	       "y u8[2] 255 248");
	expect(X "node Reciprocal x -> y\n" Y, "x f32[4] 1 2 -4 0.5", "y f32[4] 1 0.5 -0.25 2");
	expect(X "node IsInf x -> y detect_negative=0\n" Y, "x f32[4] inf -inf nan 1",
	       "y bool[4] 1 0 0 0");
	expect(X "node IsInf x -> y\n" Y, "x f32[4] inf -inf nan 1", "y bool[4] 1 1 0 0");
}

static void
test_binary(void **state)
{
	(void)state;
	expect("in a f32[2,1]\nin b f32[3]\nnode Add a b -> y\n" Y,
	       "a f32[2,1] 1 2\nb f32[3] 10 20 30", "y f32[2,3] 11 21 31 12 22 32");
	expect("in a s32[4]\nin b s32[4]\nnode Div a b -> y\n" Y,
	       "a s32[4] 7 -7 7 -7\nb s32[4] 2 2 -2 -2", "y s32[4] 3 -3 -3 3");
	expect("in a s32[4]\nin b s32[4]\nnode Mod a b -> y\n" Y,
	       "a s32[4] 7 -7 7 -7\nb s32[4] 3 3 -3 -3", "y s32[4] 1 2 -2 -1");
	expect("in a f32[2]\nin b f32[2]\nnode Mod a b -> y fmod=1\n" Y,
	       "a f32[2] 7.5 -7.5\nb f32[2] 2 2", "y f32[2] 1.5 -1.5");
	expect("in a s32[3]\nin b f32[3]\nnode Pow a b -> y\n" Y,
	       "a s32[3] 4 9 2\nb f32[3] 0.5 0.5 3", "y s32[3] 2 3 8");
	expect("in a f32[2]\nin b s64[2]\nnode Pow a b -> y\n" Y, "a f32[2] 0.5 3\nb s64[2] 2 -1",
	       "y f32[2] 0.25 0.333333");
	expect("in a f32[2]\nin b f32[2]\nnode Greater a b -> y\n" Y, "a f32[2] 1 2\nb f32[2] 2 1",
	       "y bool[2] 0 1");
	expect("in a f32[2]\nin b f32[2]\nnode GreaterOrEqual a b -> y\n" Y,
	       "a f32[2] 1 1\nb f32[2] 2 1", "y bool[2] 0 1");
	expect("in a u8[2]\nin b u8[2]\nnode BitShift a b -> y direction=\"LEFT\"\n" Y,
	       "a u8[2] 1 200\nb u8[2] 3 1", "y u8[2] 8 144");
	expect_error("in a f32[2]\nin b f32[3]\nnode Add a b -> y\n" Y, ML_ERR_SHAPE, "2 and 3");
	expect_error("in a f32[2]\nin b s32[2]\nnode Add a b -> y\n" Y, ML_ERR_TYPE, "f32 and s32");
	expect_error("in a f32[2]\nin b f32[2]\nnode Mod a b -> y\n" Y, ML_ERR_VALUE, "fmod");
	expect_error("in a u8[2]\nnode BitShift a a -> y direction=\"UP\"\n" Y, ML_ERR_VALUE,
		     "LEFT or RIGHT");
}

static void
test_variadic(void **state)
{
	(void)state;
	expect("in a f32[2]\nin b f32[1]\nin c f32[2]\nnode Sum a b c -> y\n" Y,
	       "a f32[2] 1 2\nb f32[1] 10\nc f32[2] 100 200", "y f32[2] 111 212");
	expect("in a f32[2]\nin b f32[2]\nin c f32[2]\nnode Mean a b c -> y\n" Y,
	       "a f32[2] 1 2\nb f32[2] 4 5\nc f32[2] 7 8", "y f32[2] 4 5");
	expect("in a f32[2]\nin b f32[2]\nnode Max a b -> y\n" Y, "a f32[2] 1 nan\nb f32[2] 4 5",
	       "y f32[2] 4 nan");
}

static void
test_activations(void **state)
{
	(void)state;
	expect(X "node Relu x -> y\n" Y, "x f32[4] -2 -0 0.5 3", "y f32[4] 0 0 0.5 3");
	expect(X "node LeakyRelu x -> y alpha=0.5\n" Y, "x f32[4] -2 0 1 3", "y f32[4] -1 0 1 3");
	expect(X "in s f32[1]\nnode PRelu x s -> y\n" Y, "x f32[4] -2 0 1 3\ns f32[1] 0.25",
	       "y f32[4] -0.5 0 1 3");
	expect(X "node Elu x -> y alpha=2.0\n" Y, "x f32[4] -1 0 1 3", "y f32[4] -1.264241 0 1 3");
	expect(X "node Selu x -> y\n" Y, "x f32[4] -1 0 1 2",
	       "y f32[4] -1.111331 0 1.050701 2.101402");
	expect("opset 12\n" X "node Celu x -> y alpha=2.0\n" Y, "x f32[4] -2 0 1 3",
	       "y f32[4] -1.264241 0 1 3");
	expect(X "node ThresholdedRelu x -> y alpha=1.0\n" Y, "x f32[4] -2 1 1.5 3",
	       "y f32[4] 0 0 1.5 3");
	expect(X "node HardSigmoid x -> y\n" Y, "x f32[4] -5 0 1 9", "y f32[4] 0 0.5 0.7 1");
	expect(X "node HardSwish x -> y\n" Y, "x f32[4] -5 0 3 9", "y f32[4] 0 0 3 9");
	expect(X "node Softplus x -> y\n" Y, "x f32[4] -100 0 1 100",
	       "y f32[4] 0 0.693147 1.313262 100");
	expect("opset 18\n" X "node Mish x -> y\n" Y, "x f32[4] -1 0 1 2",
	       "y f32[4] -0.303401 0 0.865098 1.943959");
	expect(X "node Softsign x -> y\n" Y, "x f32[4] -1 0 1 3", "y f32[4] -0.5 0 0.5 0.75");
	expect("opset 24\n" X "node Swish x -> y alpha=2.0\n" Y, "x f32[4] -1 0 1 2",
	       "y f32[4] -0.119203 0 0.880797 1.964028");
	expect("opset 28\n" X "in b f32[4]\nnode SwiGLU x b -> y\n" Y,
	       "x f32[4] -1 0 1 2\nb f32[4] 2 2 2 2", "y f32[4] -0.537883 0 1.462117 3.523188");
	expect(X "node Shrink x -> y lambd=1.0 bias=0.5\n" Y, "x f32[4] -2 -1 0.5 3",
	       "y f32[4] -1.5 0 0 2.5");
	expect("opset 20\n" X "node Gelu x -> y\n" Y, "x f32[4] -1 0 1 2",
	       "y f32[4] -0.158655 0 0.841345 1.9545");
	expect("opset 20\n" X "node Gelu x -> y approximate=\"tanh\"\n" Y, "x f32[4] -1 0 1 2",
	       "y f32[4] -0.158808 0 0.841192 1.954598");
	expect("opset 17\nopset com.microsoft 1\n" X
	       "node QuickGelu x -> y domain=com.microsoft\n" Y,
	       "x f32[4] -1 0 1 2", "y f32[4] -0.154205 0 0.845795 1.935656");
	expect("opset com.microsoft 1\nopset 17\n" X
	       "node FastGelu x -> y domain=com.microsoft\n" Y,
	       "x f32[4] -1 0 1 2", "y f32[4] -0.158808 0 0.841192 1.954598");
	expect("opset com.microsoft 1\nopset 17\n" X "in b f32[4]\n"
	       "node BiasGelu x b -> y domain=com.microsoft\n" Y,
	       "x f32[4] -2 -1 0 1\nb f32[4] 1 1 1 1", "y f32[4] -0.158655 0 0.841345 1.9545");
}

static void
test_clip(void **state)
{
	(void)state;
	expect("opset 8\n" X "node Clip x -> y min=-1.0 max=2.0\n" Y, "x f32[4] -2 0 1 3",
	       "y f32[4] -1 0 1 2");
	expect(X "in h f32[]\nnode Clip x - h -> y\n" Y, "x f32[4] -2 0 1 3\nh f32[] 0.5",
	       "y f32[4] -2 0 0.5 0.5");
	expect(X "node Clip x -> y\n" Y, "x f32[4] -2 0 1 3", "y f32[4] -2 0 1 3");
}

static void
test_types(void **state)
{
	(void)state;
	expect(X "node Cast x -> y to=7\n" Y, "x f32[4] -1.5 0 1.9 3", "y s64[4] -1 0 1 3");
	expect(X "node Cast x -> y to=9\n" Y, "x f32[4] -1.5 0 0.1 nan", "y bool[4] 1 0 1 1");
	expect(X "in z u8[1]\nnode CastLike x z -> y\n" Y, "x f32[4] 1.5 0 7 3\nz u8[1] 0",
	       "y u8[4] 1 0 7 3");
	expect_error(X "node Cast x -> y\n" Y, ML_ERR_FORMAT, "'to' is missing");
	expect_error(X "node Cast x -> y to=8\n" Y, ML_ERR_UNSUPPORTED, "string");
	expect_error(X "node Cast x -> y to=77\n" Y, ML_ERR_FORMAT, "77");
}

static void
test_dropout(void **state)
{
	(void)state;
	expect("opset 12\n" X "node Dropout x -> y m\n" Y "out m\n", "x f32[4] 1 2 3 4",
	       "y f32[4] 1 2 3 4\nm bool[4] 1 1 1 1");
	expect("opset 7\n" X "node Dropout x -> y ratio=0.5\n" Y, "x f32[4] 1 2 3 4",
	       "y f32[4] 1 2 3 4");
	expect_error(X "const r f32[] 0.5\nconst t bool[] 1\nnode Dropout x r t -> y\n" Y,
		     ML_ERR_UNSUPPORTED, "random");
}

static void
test_others(void **state)
{
	(void)state;
	expect("in c bool[2]\nin a f32[2]\nin b f32[]\nnode Where c a b -> y\n" Y,
	       "c bool[2] 1 0\na f32[2] 1 2\nb f32[] 9", "y f32[2] 1 9");
	expect("opset 8\nin x f32[1,2,1,1]\n"
	       "node ImageScaler x -> y scale=2.0\n" Y,
	       "x f32[1,2,1,1] 3 4", "y f32[1,2,1,1] 6 8");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_unary), TEST(test_binary), TEST(test_variadic), TEST(test_activations),
		TEST(test_clip),  TEST(test_types),  TEST(test_dropout),  TEST(test_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
