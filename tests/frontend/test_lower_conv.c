/* test_lower_conv.c -- convolutions. */
#include "harness_onnx.h"

#define Y "out y\n"

#define X    "in x f32[1,1,h,3]\n"
#define DATA "x f32[1,1,3,3] 1 2 3 4 5 6 7 8 9"

static void
test_conv(void **state)
{
	(void)state;
	expect(X "const w f32[1,1,2,2] 1 0 0 1\nnode Conv x w -> y\n" Y, DATA,
	       "y f32[1,1,2,2] 6 8 12 14");
	expect(X "const w f32[1,1,2,2] 1 0 0 1\nconst b f32[1] 10\n"
		 "node Conv x w b -> y pads=[1,0,0,0] strides=[2,1]\n" Y,
	       DATA, "y f32[1,1,2,2] 12 13 22 24");
	expect(X "const w f32[1,1,2,2] 1 0 0 1\nnode Conv x w -> y auto_pad=\"SAME_UPPER\"\n" Y,
	       DATA, "y f32[1,1,3,3] 6 8 3 12 14 6 7 8 9");
	expect(X "const w f32[1,1,2,2] 1 0 0 1\nnode Conv x w -> y auto_pad=\"SAME_LOWER\"\n" Y,
	       DATA, "y f32[1,1,3,3] 1 2 3 4 6 8 7 12 14");
	expect(X "const w f32[1,1,2,2] 1 0 0 1\nnode Conv x w -> y dilations=[2,2]\n" Y, DATA,
	       "y f32[1,1,1,1] 10");
	expect("in x f32[1,2,2]\nconst w f32[2,1,1] 2 3\nnode Conv x w -> y group=2\n" Y,
	       "x f32[1,2,2] 1 2 3 4", "y f32[1,2,2] 2 4 9 12");
	expect("in x f16[1,1,2]\nconst w f16[1,1,2] 1 1\nnode Conv x w -> y\n" Y,
	       "x f16[1,1,2] 1 2", "y f16[1,1,1] 3");
}

static void
test_fused(void **state)
{
	(void)state;
#define F                                                                                          \
	"opset com.microsoft 1\nopset 17\nin x f32[1,1,2]\nconst w f32[1,1,1] 2\nin r "            \
	"f32[1,1,2]\n"
	expect(F "node FusedConv x w - r -> y domain=com.microsoft activation=\"Relu\"\n" Y,
	       "x f32[1,1,2] 1 -2\nr f32[1,1,2] 1 1", "y f32[1,1,2] 3 0");
	expect(F "node FusedConv x w - r -> y domain=com.microsoft activation=\"Clip\" "
		 "activation_params=(0,2.5)\n" Y,
	       "x f32[1,1,2] 1 -2\nr f32[1,1,2] 1 1", "y f32[1,1,2] 2.5 0");
	expect_error(F "node FusedConv x w -> y domain=com.microsoft activation=\"Odd\"\n" Y,
		     ML_ERR_UNSUPPORTED, "activation 'Odd'");
}

static void
test_bad_conv(void **state)
{
	(void)state;
	static const struct {
		const char *attribute, *text;
		ml_status status;
	} bad[] = {
		{"strides=[0,1]", "strides is 0", ML_ERR_VALUE},
		{"dilations=[1099511627776,1]", "dilations is", ML_ERR_VALUE},
		{"pads=[-1,0,0,0]", "pads is -1", ML_ERR_VALUE},
		{"pads=[1,0]", "2 pads", ML_ERR_SHAPE},
		{"kernel_shape=[3,3]", "kernel_shape", ML_ERR_SHAPE},
		{"dilations=[5,5]", "larger than spatial dim", ML_ERR_SHAPE},
		{"group=2", "groups", ML_ERR_VALUE},
		{"auto_pad=\"ODD\"", "auto_pad", ML_ERR_VALUE},
		{"colour=1", "attribute 'colour' is unknown", ML_ERR_UNSUPPORTED},
		{"strides=1", "wrong type", ML_ERR_FORMAT},
	};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		cx.diags.count = 0;
		expect_error(ml_format(&cx.arena,
				       "in x f32[1,1,3,3]\nconst w f32[1,1,2,2] 1 0 0 1\n"
				       "node Conv x w -> y %s\n" Y,
				       bad[i].attribute),
			     bad[i].status, bad[i].text);
	}
}

static void
test_transposed(void **state)
{
	(void)state;
#define T "in x f32[1,1,1,w]\nconst k f32[1,1,1,2] 1 10\n"
	expect(T "node ConvTranspose x k -> y\n" Y, "x f32[1,1,1,2] 1 2", "y f32[1,1,1,3] 1 12 20");
	expect(T "node ConvTranspose x k -> y strides=[1,2]\n" Y, "x f32[1,1,1,2] 1 2",
	       "y f32[1,1,1,4] 1 10 2 20");
	expect(T "node ConvTranspose x k -> y strides=[1,3] output_padding=[0,1]\n" Y,
	       "x f32[1,1,1,2] 1 2", "y f32[1,1,1,6] 1 10 0 2 20 0");
	expect(T "node ConvTranspose x k -> y pads=[0,1,0,1] strides=[1,2]\n" Y,
	       "x f32[1,1,1,2] 1 2", "y f32[1,1,1,2] 10 2");
	expect("in x f32[1,1,1,2]\nconst k f32[1,1,1,2] 1 10\n"
	       "node ConvTranspose x k -> y strides=[1,2] output_shape=[1,5]\n" Y,
	       "x f32[1,1,1,2] 1 2", "y f32[1,1,1,5] 1 10 2 20 0");
	expect("in x f32[1,2,1]\nconst k f32[2,1,1] 2 3\nnode ConvTranspose x k -> y group=2\n" Y,
	       "x f32[1,2,1] 1 2", "y f32[1,2,1] 2 6");
	expect_error("in x f32[1,2,1]\nconst k f32[1,1,1] 2\nnode ConvTranspose x k -> y\n" Y,
		     ML_ERR_SHAPE, "channels");
}

static void
test_causal(void **state)
{
	(void)state;
	expect("opset 27\nin x f32[1,1,3]\nconst w f32[1,1,2] 1 10\nin p f32[1,1,1]\n"
	       "node CausalConvWithState x w - p -> y s\n" Y "out s\n",
	       "x f32[1,1,3] 1 2 3\np f32[1,1,1] 5", "y f32[1,1,3] 15 21 32\ns f32[1,1,1] 3");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_conv),       TEST(test_bad_conv), TEST(test_fused),
		TEST(test_transposed), TEST(test_causal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
