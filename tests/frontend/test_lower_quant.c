/* test_lower_quant.c -- quantized operators. */
#include "harness_onnx.h"

#define Y "out y\n"

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
#define MS "opset com.microsoft 1\nopset 17\n"
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
		TEST(test_linear),
		TEST(test_bad_scales),
		TEST(test_products),
		TEST(test_microsoft),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
