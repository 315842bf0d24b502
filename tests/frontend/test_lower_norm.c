/* test_lower_norm.c -- normalizations. */
#include "harness_onnx.h"

#define Y "out y\n"

static void
test_batch_normalization(void **state)
{
	(void)state;
#define B                                                                                          \
	"in x f32[n,2]\nconst s f32[2] 1 2\nconst b f32[2] 0 1\nconst m f32[2] 1 2\nconst v "      \
	"f32[2] 1 4\n"
	expect(B "node BatchNormalization x s b m v -> y epsilon=0.0\n" Y, "x f32[1,2] 3 6",
	       "y f32[1,2] 2 5");
	expect(B "node BatchNormalization x s b m v -> y p q training_mode=1 momentum=0.5 "
		 "epsilon=0.0\n" Y "out p\nout q\n",
	       "x f32[2,2] 1 2 3 6", "y f32[2,2] -1 -1 1 3\np f32[2] 1.5 3\nq f32[2] 1 4");
	expect_error("opset 7\n" B "node BatchNormalization x s b m v -> y spatial=0\n" Y,
		     ML_ERR_UNSUPPORTED, "spatial");
}

static void
test_per_instance(void **state)
{
	(void)state;
	expect("in x f32[1,1,2]\nconst s f32[1] 3\nconst b f32[1] 1\n"
	       "node InstanceNormalization x s b -> y epsilon=0.0\n" Y,
	       "x f32[1,1,2] 1 3", "y f32[1,1,2] -2 4");
	expect("opset 21\nin x f32[1,2,1]\nconst s f32[2] 1 2\nconst b f32[2] 0 0\n"
	       "node GroupNormalization x s b -> y num_groups=1 epsilon=0.0\n" Y,
	       "x f32[1,2,1] 1 3", "y f32[1,2,1] -1 2");
	expect("opset 18\nin x f32[1,2,1]\nconst s f32[1] 2\nconst b f32[1] 0\n"
	       "node GroupNormalization x s b -> y num_groups=1 epsilon=0.0\n" Y,
	       "x f32[1,2,1] 1 3", "y f32[1,2,1] -2 2");
	expect_error("opset 21\nin x f32[1,3,1]\nconst s f32[3] 1 1 1\n"
		     "node GroupNormalization x s s -> y num_groups=2\n" Y,
		     ML_ERR_VALUE, "do not divide");
	expect("in x f32[1,1,1,2]\nnode MeanVarianceNormalization x -> y\n" Y, "x f32[1,1,1,2] 1 3",
	       "y f32[1,1,1,2] -1 1");
}

static void
test_lrn(void **state)
{
	(void)state;
	expect("in x f32[1,3,1]\nnode LRN x -> y size=3 alpha=3.0 beta=1.0\n" Y,
	       "x f32[1,3,1] 1 2 3", "y f32[1,3,1] 0.166667 0.133333 0.214286");
	expect_error("in x f32[1,3,1]\nnode LRN x -> y size=0\n" Y, ML_ERR_VALUE, "size is 0");
}

static void
test_last_dims(void **state)
{
	(void)state;
	expect("in x f32[n,2]\nconst s f32[2] 1 2\nconst b f32[2] 0 1\n"
	       "node LayerNormalization x s b -> y m i epsilon=0.0\n" Y "out m\nout i\n",
	       "x f32[1,2] 1 3", "y f32[1,2] -1 3\nm f32[1,1] 2\ni f32[1,1] 1");
	expect("in x f32[1,2]\nconst s f32[1,2] 1 2\nnode LayerNormalization x s -> y "
	       "epsilon=0.0\n" Y,
	       "x f32[1,2] 1 3", "y f32[1,2] -1 2");
	expect("opset 23\nin x f32[1,2]\nconst s f32[2] 1 2\nnode RMSNormalization x s -> y\n" Y,
	       "x f32[1,2] 1 7", "y f32[1,2] 0.2 2.8");
	expect("in x f16[1,2]\nconst s f16[2] 1 2\nnode SimplifiedLayerNormalization x s -> y\n" Y,
	       "x f16[1,2] 1 7", "y f16[1,2] 0.2 2.8");
	expect("opset com.microsoft 1\nopset 17\nin x f32[1,2]\nin r f32[1,2]\nconst s f32[2] 1 1\n"
	       "node SkipLayerNormalization x r s -> y - - t epsilon=0.0 domain=com.microsoft\n" Y
	       "out t\n",
	       "x f32[1,2] 1 2\nr f32[1,2] 1 4", "y f32[1,2] -1 1\nt f32[1,2] 2 6");
	expect_error(
		"in x f32[1,2]\nconst s f32[2] 1 2\nnode LayerNormalization x s -> y axis=2\n" Y,
		ML_ERR_VALUE, "axis 2");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_batch_normalization),
		TEST(test_per_instance),
		TEST(test_lrn),
		TEST(test_last_dims),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
