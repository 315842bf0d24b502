/* test_lower_loss.c -- losses. */
#include "harness_onnx.h"

#define Y "out y\n"

static void
test_likelihood(void **state)
{
	(void)state;
#define L    "in x f32[2,2]\nin t s64[2]\nconst w f32[2] 1 3\n"
#define DATA "x f32[2,2] -1 -2 -3 -4\nt s64[2] 0 1"
	expect(L "node NegativeLogLikelihoodLoss x t -> y reduction=\"none\"\n" Y, DATA,
	       "y f32[2] 1 4");
	expect(L "node NegativeLogLikelihoodLoss x t -> y\n" Y, DATA, "y f32[] 2.5");
	expect(L "node NegativeLogLikelihoodLoss x t w -> y\n" Y, DATA, "y f32[] 3.25");
	expect(L "node NegativeLogLikelihoodLoss x t w -> y reduction=\"sum\"\n" Y, DATA,
	       "y f32[] 13");
	expect(L "node NegativeLogLikelihoodLoss x t -> y ignore_index=1\n" Y, DATA, "y f32[] 1");
	expect_error("in x f32[2,2]\nin t s64[2,2]\nnode NegativeLogLikelihoodLoss x t -> y\n" Y,
		     ML_ERR_SHAPE, "rank 2 for scores of rank 2");
	expect_error(L "node NegativeLogLikelihoodLoss x t -> y reduction=\"max\"\n" Y,
		     ML_ERR_VALUE, "reduction must be");
}

static void
test_cross_entropy(void **state)
{
	(void)state;
	expect("in x f32[1,2]\nin t s64[1]\nnode SoftmaxCrossEntropyLoss x t -> y p\n" Y "out p\n",
	       "x f32[1,2] 0 0\nt s64[1] 1", "y f32[] 0.693147\np f32[1,2] -0.693147 -0.693147");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_likelihood),
		TEST(test_cross_entropy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
