/* test_lower_linear.c -- MatMul and Gemm. */
#include "harness_onnx.h"

#define Y "out y\n"

static void
test_matmul(void **state)
{
	(void)state;
	expect("in a f32[n,2]\nconst w f32[2,2] 1 2 3 4\nnode MatMul a w -> y\n" Y,
	       "a f32[1,2] 1 1", "y f32[1,2] 4 6");
	expect("in a f32[2]\nin b f32[2]\nnode MatMul a b -> y\n" Y, "a f32[2] 1 2\nb f32[2] 3 4",
	       "y f32[] 11");
	expect("in a f32[2,1,2]\nin b f32[2,2]\nnode MatMul a b -> y\n" Y,
	       "a f32[2,1,2] 1 2 3 4\nb f32[2,2] 1 0 0 1", "y f32[2,1,2] 1 2 3 4");
	expect("in a f16[1,2]\nin b f16[2,1]\nnode MatMul a b -> y\n" Y,
	       "a f16[1,2] 1 2\nb f16[2,1] 3 4", "y f16[1,1] 11");
	expect("in a s64[1,2]\nin b s64[2,1]\nnode MatMul a b -> y\n" Y,
	       "a s64[1,2] 3000000000 1\nb s64[2,1] 3 4", "y s64[1,1] 9000000004");
	expect_error("in a f32[2,3]\nin b f32[2,3]\nnode MatMul a b -> y\n" Y, ML_ERR_SHAPE,
		     "3 and 2 differ");
	expect_error("in a f32[2]\nin b f64[2]\nnode MatMul a b -> y\n" Y, ML_ERR_TYPE,
		     "f32 and f64");
	expect_error("in a f32[]\nin b f32[2]\nnode MatMul a b -> y\n" Y, ML_ERR_SHAPE, "scalars");
}

static void
test_constant_right_side_stays_a_dot(void **state)
{
	(void)state;
	ml_module *m = import_text("in a f32[n,3,2]\nconst w f32[2,2] 1 2 3 4\n"
				   "node MatMul a w -> y\n" Y,
				   NULL);

	assert_non_null(m);
	const ml_node *dot = ml_in(m->main->last, 0)->def;
	assert_int_equal(dot->op, ML_OP_dot);
	assert_true(ml_is_const(ml_in(dot, 1)) && !ml_in(dot, 0)->def);
	ml_module_free(m);
}

static void
test_fused(void **state)
{
	(void)state;
	expect("opset com.microsoft 1\nopset 17\nin a f32[2,1]\nin b f32[1,2]\n"
	       "node FusedMatMul a b -> y domain=com.microsoft transA=1 transB=1 alpha=0.5\n" Y,
	       "a f32[2,1] 1 2\nb f32[1,2] 3 4", "y f32[1,1] 5.5");
}

static void
test_gemm(void **state)
{
	(void)state;
	expect("in a f32[1,2]\nconst w f32[2,2] 1 2 3 4\nconst c f32[2] 10 20\n"
	       "node Gemm a w c -> y\n" Y,
	       "a f32[1,2] 1 1", "y f32[1,2] 14 26");
	expect("in a f32[2,1]\nconst w f32[2,2] 1 2 3 4\nconst c f32[1] 10\n"
	       "node Gemm a w c -> y transA=1 transB=1 alpha=2.0 beta=0.5\n" Y,
	       "a f32[2,1] 1 1", "y f32[1,2] 11 19");
	expect("in a f32[1,2]\nconst w f32[2,1] 1 2\nnode Gemm a w -> y\n" Y, "a f32[1,2] 3 4",
	       "y f32[1,1] 11");
	expect_error("in a f32[1,1,2]\nconst w f32[2,1] 1 2\nnode Gemm a w -> y\n" Y, ML_ERR_SHAPE,
		     "ranks 3 and 2");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_matmul),
		TEST(test_constant_right_side_stays_a_dot),
		TEST(test_gemm),
		TEST(test_fused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
