/* test_lower_quant.c -- quantized operators. */
#include "harness_onnx.h"

#define Y  "out y\n"
#define MS "opset com.microsoft 1\nopset 17\n"

static void
test_linear(void **state)
{
	(void)state;
	expect("in x f32[n]\nconst s f32[] 0.5\nconst z u8[] 10\nnode QuantizeLinear x s z -> "
	       "y\n" Y,
	       "x f32[4] 0 1.25 -9 500", "y u8[4] 10 12 0 255");
	expect("in x f32[n]\nconst s f32[] 0.5\nnode QuantizeLinear x s -> y\n" Y, "x f32[1] 3",
	       "y u8[1] 6");
	expect("in x f32[1,2]\nconst s f32[2] 0.5 2\nconst z s8[2] 0 1\n"
	       "node QuantizeLinear x s z -> y axis=1\n" Y,
	       "x f32[1,2] 3 4", "y s8[1,2] 6 3");
	expect("in x u8[2]\nconst s f32[] 0.5\nconst z u8[] 10\nnode DequantizeLinear x s z -> "
	       "y\n" Y,
	       "x u8[2] 0 20", "y f32[2] -5 5");
	expect("in x s32[2,1]\nconst s f32[2] 0.5 2\nnode DequantizeLinear x s -> y axis=0\n" Y,
	       "x s32[2,1] 3 4", "y f32[2,1] 1.5 8");
	expect("opset 21\nin x u8[1,4]\nconst s f32[1,2] 1 10\nconst z u8[1,2] 1 0\n"
	       "node DequantizeLinear x s z -> y axis=1 block_size=2\n" Y,
	       "x u8[1,4] 1 2 3 4", "y f32[1,4] 0 1 30 40");
	expect("in x f32[2]\nnode DynamicQuantizeLinear x -> y s z\n" Y "out s\nout z\n",
	       "x f32[2] -1 1.55", "y u8[2] 0 255\ns f32[] 0.01\nz u8[] 100");
}

static void
test_bad_scales(void **state)
{
	(void)state;
	expect_error("in x f32[4]\nconst s f32[] 0\nnode QuantizeLinear x s -> y\n" Y, ML_ERR_VALUE,
		     "scale 0 is 0");
	expect_error("in x f32[4]\nconst s f32[] nan\nnode QuantizeLinear x s -> y\n" Y,
		     ML_ERR_VALUE, "nan");
	expect_error("in x f32[1,4]\nconst s f32[3] 1 1 1\nnode QuantizeLinear x s -> y axis=1\n" Y,
		     ML_ERR_SHAPE, "number of scales");
	expect_error(
		"in x f32[4]\nconst s f32[] 1\nconst z f32[] 0\nnode QuantizeLinear x s z -> y\n" Y,
		ML_ERR_TYPE, "integer");
	expect_error("in x f32[4]\nconst s s32[] 1\nnode QuantizeLinear x s -> y\n" Y, ML_ERR_TYPE,
		     "the scale is s32");
	expect_error("in x u8[4]\nconst s f32[] inf\nnode DequantizeLinear x s -> y\n" Y,
		     ML_ERR_VALUE, "inf");
	expect_error("in x u8[4]\nconst s f32[] 1\nconst z s8[] 0\nnode DequantizeLinear x s z -> "
		     "y\n" Y,
		     ML_ERR_TYPE, "the zero point is s8, but what it belongs to is u8");
	expect_error("opset 21\nin x u8[1,4]\nconst s f32[1,2] 1 10\n"
		     "node DequantizeLinear x s -> y axis=1 block_size=-2\n" Y,
		     ML_ERR_VALUE, "block_size is -2");
}

/* What does not fit products of integers. */
static void
test_bad_products(void **state)
{
	(void)state;
	expect_error("in a u8[2,2]\nconst b s8[2,2] 1 1 1 1\nconst z s8[] 1\n"
		     "node MatMulInteger a b z -> y\n" Y,
		     ML_ERR_TYPE, "the zero point is s8");
	expect_error("in a f32[2,2]\nconst b s8[2,2] 1 1 1 1\nnode MatMulInteger a b -> y\n" Y,
		     ML_ERR_TYPE, "u8 or s8, not f32");
	expect_error("in a u8[]\nconst b s8[2,2] 1 1 1 1\nnode MatMulInteger a b -> y\n" Y,
		     ML_ERR_SHAPE, "scalars");
	expect_error("in x u8[1,1,2]\nconst w u8[2,1,1] 3 1\nconst z u8[3] 1 1 1\n"
		     "node ConvInteger x w - z -> y\n" Y,
		     ML_ERR_SHAPE, "zero points");
	expect_error("in x u8[1,1,2]\nconst w u8[2,1,1] 3 1\nconst z u8[2] 1 1\n"
		     "node ConvInteger x w z -> y\n" Y,
		     ML_ERR_SHAPE, "zero point of the input must be one number");
	expect_error("in a u8[1,2]\nconst t f32[] 0\nconst z u8[] 1\nconst b u8[2,1] 3 1\n"
		     "node QLinearMatMul a t z b t z t z -> y\n" Y,
		     ML_ERR_VALUE, "scale 0 is 0");
	expect_error("in a u8[1,2]\nconst t f32[] 1\nconst r f32[2] 1 1\nconst z u8[] 1\n"
		     "const b u8[2,1] 3 1\nnode QLinearMatMul a t z b r z t z -> y\n" Y,
		     ML_ERR_SHAPE, "number of scales");
}

/* Every pair of types, zero points by rows and columns, weights that leave s8 without theirs. */
static void
test_zero_points(void **state)
{
	(void)state;
	/* (3-1)(250-10) + (200-1)(0-10), (3-1)(5-20) + (200-1)(255-20) */
	expect("in a u8[1,2]\nconst b u8[2,2] 250 5 0 255\nconst p u8[] 1\nconst q u8[2] 10 20\n"
	       "node MatMulInteger a b p q -> y\n" Y,
	       "a u8[1,2] 3 200", "y s32[1,2] -1510 46735");
	expect("in a s8[2,2]\nin b u8[2,1]\nin p s8[2]\nin q u8[1]\n"
	       "node MatMulInteger a b p q -> y\n" Y,
	       "a s8[2,2] -128 127 5 6\nb u8[2,1] 255 3\np s8[2] -128 7\nq u8[1] 2",
	       "y s32[2,1] 255 -507");
	expect("in a s8[2]\nin b s8[2]\nin p s8[]\nnode MatMulInteger a b p -> y\n" Y,
	       "a s8[2] -128 127\nb s8[2] -128 127\np s8[] 1", "y s32[] 32514");
	expect("in a u8[2,1,2]\nin b s8[2,2,1]\nin p u8[2,1,1]\nin q s8[2,1,1]\n"
	       "node MatMulInteger a b p q -> y\n" Y,
	       "a u8[2,1,2] 3 200 1 2\nb s8[2,2,1] 1 -1 4 5\np u8[2,1,1] 1 0\nq s8[2,1,1] 0 4",
	       "y s32[2,1,1] -197 2");
	expect("in a u8[2,1,2]\nconst b s8[2,2,1] 1 -1 4 5\nin p u8[2,1,1]\nin q s8[2,1,1]\n"
	       "node MatMulInteger a b p q -> y\n" Y,
	       "a u8[2,1,2] 3 200 1 2\np u8[2,1,1] 1 0\nq s8[2,1,1] 0 4", "y s32[2,1,1] -197 2");
	/* groups, windows at the edge, a zero point for each output channel */
	expect("in x u8[1,2,2]\nconst w u8[2,1,2] 250 1 0 255\nconst z u8[] 1\nconst q u8[2] 10 "
	       "20\n"
	       "node ConvInteger x w z q -> y group=2 pads=[1,0]\n" Y,
	       "x u8[1,2,2] 5 2 3 255", "y s32[1,2,2] -36 951 470 59650");
	expect("in x s8[1,1,2]\nin w u8[1,1,2]\nin z s8[]\nin q u8[]\n"
	       "node ConvInteger x w z q -> y pads=[1,0]\n" Y,
	       "x s8[1,1,2] 5 -128\nw u8[1,1,2] 0 255\nz s8[] -128\nq u8[] 128",
	       "y s32[1,1,2] 16891 -17024");
}

static void
test_quantized_tensors(void **state)
{
	(void)state;
	expect(MS "in a u8[1]\nconst s f32[] 0.5\nconst z u8[] 10\n"
		  "node QLinearLeakyRelu a s z s z -> y domain=com.microsoft alpha=0.5\n" Y,
	       "a u8[1] 4", "y u8[1] 7");
	expect(MS "in a u8[1]\nconst s f32[] 0.5\nnode QLinearAdd a s - a s - s -> y "
		  "domain=com.microsoft\n" Y,
	       "a u8[1] 5", "y u8[1] 10");
	expect(MS "in a u8[1]\nin b u8[1]\nconst s f32[] 0.5\nconst t f32[] 1\nconst z u8[] 0\n"
		  "node QLinearConcat s z a s z b t z -> y domain=com.microsoft axis=0\n" Y,
	       "a u8[1] 5\nb u8[1] 5", "y u8[2] 5 10");
	expect(MS "in a s8[1,1,2,2]\nconst s f32[] 0.5\nconst z s8[] -1\n"
		  "node QLinearGlobalAveragePool a s z s z -> y domain=com.microsoft\n" Y,
	       "a s8[1,1,2,2] 1 2 3 6", "y s8[1,1,1,1] 3");
	expect(MS "in a u8[1,2,1]\nconst s f32[] 0.5\nconst z u8[] 1\n"
		  "node QLinearAveragePool a s z s z -> y domain=com.microsoft kernel_shape=[2] "
		  "channels_last=1\n" Y,
	       "a u8[1,2,1] 5 9", "y u8[1,1,1] 7");
	expect(MS "in c bool[2]\nin a u8[2]\nconst s f32[] 0.5\nconst t f32[] 1\nconst z u8[] 0\n"
		  "node QLinearWhere c a s z a t z s z -> y domain=com.microsoft\n" Y,
	       "c bool[2] 1 0\na u8[2] 5 6", "y u8[2] 5 12");
	expect(MS "in a u8[1,2]\nconst s f32[] 1\nconst t f32[] 0.00390625\nconst z u8[] 0\n"
		  "node QLinearSoftmax a s z t z -> y domain=com.microsoft opset=13\n" Y,
	       "a u8[1,2] 7 7", "y u8[1,2] 128 128");
	expect(MS "in a u8[1,2]\nconst s f32[] 0.5\nconst z u8[] 1\nconst b s8[1,2] 1 -3\n"
		  "const o s8[] 0\nconst c s32[1] 4\n"
		  "node QGemm a s z b s o c -> y domain=com.microsoft transB=1 alpha=2.0\n" Y,
	       "a u8[1,2] 6 2", "y f32[1,1] 3");
	expect_error(MS "in a u8[1]\nin b u8[1]\nconst s f32[] 0.5\nconst z u8[] 0\n"
			"node QLinearConcat s z a s z b -> y domain=com.microsoft axis=0\n" Y,
		     ML_ERR_FORMAT, "triples");
}

static void
test_products(void **state)
{
	(void)state;
	expect("in a u8[1,2]\nconst b s8[2,1] 1 -1\nconst z u8[] 1\nnode MatMulInteger a b z -> "
	       "y\n" Y,
	       "a u8[1,2] 3 200", "y s32[1,1] -197");
	expect("in a u8[1,2]\nconst b s8[2,1] 1 -1\nnode MatMulInteger a b -> y\n" Y,
	       "a u8[1,2] 3 200", "y s32[1,1] -197");
	expect("in a u8[1,2]\nconst t f32[] 0.5\nconst z u8[] 1\nconst b u8[2,1] 3 1\nconst o u8[] "
	       "1\n"
	       "node QLinearMatMul a t z b t o t z -> y\n" Y,
	       "a u8[1,2] 5 200", "y u8[1,1] 5");
	expect("in x u8[1,1,1,2]\nconst w u8[1,1,1,2] 3 1\nconst z u8[] 1\n"
	       "node ConvInteger x w z -> y pads=[0,1,0,0]\n" Y,
	       "x u8[1,1,1,2] 5 2", "y s32[1,1,1,2] 4 13");
	expect("in x u8[1,1,2]\nconst t f32[] 0.5\nconst z u8[] 1\nconst w u8[1,1,1] 3\n"
	       "const b s32[1] 4\nnode QLinearConv x t z w t z t z b -> y\n" Y,
	       "x u8[1,1,2] 5 2", "y u8[1,1,2] 7 4");
}

static void
test_microsoft(void **state)
{
	(void)state;
	expect(MS "in a u8[1]\nconst s f32[] 0.5\nconst z u8[] 0\n"
		  "node QLinearAdd a s z a s z s z -> y domain=com.microsoft\n" Y,
	       "a u8[1] 5", "y u8[1] 10");
	expect(MS "in a u8[1]\nconst s f32[] 1\nconst t f32[] 0.25\nconst z u8[] 0\n"
		  "node QLinearSigmoid a s z t z -> y domain=com.microsoft\n" Y,
	       "a u8[1] 0", "y u8[1] 2");
	expect(MS "in a f32[1,2]\nconst b u8[2,1] 2 0\nconst s f32[] 0.5\nconst z u8[] 1\n"
		  "node DynamicQuantizeMatMul a b s z -> y domain=com.microsoft\n" Y,
	       "a f32[1,2] 0 255", "y f32[1,1] -127.5");
	expect(MS "in a u8[1,2]\nconst b u8[2,1] 2 0\nconst s f32[] 0.5\nconst z u8[] 1\n"
		  "node MatMulIntegerToFloat a b s s z z -> y domain=com.microsoft\n" Y,
	       "a u8[1,2] 1 5", "y f32[1,1] -1");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_linear),      TEST(test_bad_scales),        TEST(test_bad_products),
		TEST(test_zero_points), TEST(test_quantized_tensors), TEST(test_products),
		TEST(test_microsoft),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
