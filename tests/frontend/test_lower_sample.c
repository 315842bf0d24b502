/* test_lower_sample.c -- GridSample, AffineGrid and DeformConv. */
#include "harness_onnx.h"

#define Y "out y\n"

#define X     "in x f32[n,1,1,3]\nin g f32[n,1,2,2]\n"
#define IMAGE "x f32[1,1,1,3] 1 2 3\n"

static void
test_grid_sample(void **state)
{
	(void)state;
	expect(X "node GridSample x g -> y align_corners=1\n" Y, IMAGE "g f32[1,1,2,2] 0 0 0.5 0",
	       "y f32[1,1,1,2] 2 2.5");
	expect(X "node GridSample x g -> y\n" Y, IMAGE "g f32[1,1,2,2] 0 0 -1 0",
	       "y f32[1,1,1,2] 2 0.5");
	expect(X "node GridSample x g -> y padding_mode=\"border\"\n" Y,
	       IMAGE "g f32[1,1,2,2] 5 0 -5 0", "y f32[1,1,1,2] 3 1");
	expect(X "node GridSample x g -> y padding_mode=\"reflection\" mode=\"nearest\"\n" Y,
	       IMAGE "g f32[1,1,2,2] 1.3333 0 -1.3333 0", "y f32[1,1,1,2] 3 1");
	expect(X "node GridSample x g -> y mode=\"nearest\"\n" Y, IMAGE "g f32[1,1,2,2] 0.6 0 9 0",
	       "y f32[1,1,1,2] 3 0");
	expect(X "node GridSample x g -> y mode=\"bicubic\" align_corners=1 "
		 "padding_mode=\"border\"\n" Y,
	       IMAGE "g f32[1,1,2,2] 0 0 0.5 0", "y f32[1,1,1,2] 2 2.59375");
	expect_error(X "node GridSample x g -> y mode=\"odd\"\n" Y, ML_ERR_VALUE, "unknown");
	expect_error("in x f32[1,1,1,3]\nin g f32[1,1,2,3]\nnode GridSample x g -> y\n" Y,
		     ML_ERR_SHAPE, "does not fit");
}

static void
test_affine_grid(void **state)
{
	(void)state;
	expect("opset 20\nin t f32[1,2,3]\nconst s s64[4] 1 1 1 2\nnode AffineGrid t s -> y\n" Y,
	       "t f32[1,2,3] 1 0 0 0 1 5", "y f32[1,1,2,2] -0.5 5 0.5 5");
	expect("opset 20\nin t f32[1,2,3]\nconst s s64[4] 1 1 2 2\n"
	       "node AffineGrid t s -> y align_corners=1\n" Y,
	       "t f32[1,2,3] 1 0 0 0 1 0", "y f32[1,2,2,2] -1 -1 1 -1 -1 1 1 1");
	expect_error(
		"opset 20\nin t f32[1,2,3]\nconst s s64[3] 1 1 2\nnode AffineGrid t s -> y\n" Y,
		ML_ERR_SHAPE, "3 sizes");
}

static void
test_deform_conv(void **state)
{
	(void)state;
	expect("opset 19\nin x f32[1,1,1,3]\nconst w f32[1,1,1,1] 2\nin o f32[1,2,1,3]\n"
	       "const b f32[1] 1\nin m f32[1,1,1,3]\nnode DeformConv x w o b m -> y\n" Y,
	       "x f32[1,1,1,3] 1 2 3\no f32[1,2,1,3] 0 0 0 0.5 0 9\nm f32[1,1,1,3] 1 0.5 1",
	       "y f32[1,1,1,3] 4 3 1");
	expect_error("opset 19\nin x f32[1,1,1,3]\nconst w f32[1,1,1,1] 2\nin o f32[1,2,1,3]\n"
		     "node DeformConv x w o -> y offset_group=2\n" Y,
		     ML_ERR_VALUE, "offset_group");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_grid_sample),
		TEST(test_affine_grid),
		TEST(test_deform_conv),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
