/* test_lower_rnn.c -- RNN, GRU and LSTM. */
#include "harness_onnx.h"

#define Y "out y\n"
#define R "in x f32[t,1,1]\nconst w f32[1,1,1] 1\nconst r f32[1,1,1] 1\n"

static void
test_rnn(void **state)
{
	(void)state;
	expect(R "node RNN x w r -> y h hidden_size=1\n" Y "out h\n", "x f32[2,1,1] 0.5 0",
	       "y f32[2,1,1,1] 0.462117 0.431803\nh f32[1,1,1] 0.431803");
	expect(R "node RNN x w r -> y h hidden_size=1 direction=\"reverse\"\n" Y "out h\n",
	       "x f32[2,1,1] 0 0.5", "y f32[2,1,1,1] 0.431803 0.462117\nh f32[1,1,1] 0.431803");
	expect(R "const b f32[1,2] 0.25 0.25\nin i f32[1,1,1]\n"
		 "node RNN x w r b - i -> y hidden_size=1\n" Y,
	       "x f32[1,1,1] 0\ni f32[1,1,1] 0", "y f32[1,1,1,1] 0.462117");
}

static void
test_both_directions(void **state)
{
	(void)state;
	expect("in x f32[1,t,1]\nconst w f32[2,1,1] 1 2\nconst r f32[2,1,1] 0 0\n"
	       "node RNN x w r -> y h direction=\"bidirectional\" layout=1\n" Y "out h\n",
	       "x f32[1,2,1] 0.5 0",
	       "y f32[1,2,2,1] 0.462117 0.761594 0 0\nh f32[1,2,1] 0 0.761594");
}

static void
test_gates(void **state)
{
	(void)state;
	/* all gates half open: h = (1 - z) n + z h0 = 0.5 tanh(1) */
	expect("in x f32[1,1,1]\nconst w f32[1,3,1] 0 0 1\nconst r f32[1,3,1] 0 0 0\n"
	       "node GRU x w r -> y\n" Y,
	       "x f32[1,1,1] 1", "y f32[1,1,1,1] 0.380797");
	/* c = 0.5 tanh(1) + 0.5 c0, h = 0.5 tanh(c) */
	expect("in x f32[1,1,1]\nconst w f32[1,4,1] 0 0 0 1\nconst r f32[1,4,1] 0 0 0 0\n"
	       "in c f32[1,1,1]\nnode LSTM x w r - - - c -> y h z\n" Y "out z\n",
	       "x f32[1,1,1] 1\nc f32[1,1,1] 2", "y f32[1,1,1,1] 0.440694\nz f32[1,1,1] 1.380797");
}

static void
test_lengths(void **state)
{
	(void)state;
#define L "in x f32[t,2,1]\nconst w f32[1,1,1] 1\nconst r f32[1,1,1] 0\nin l s32[2]\n"
	expect(L "node RNN x w r - l -> y h\n" Y "out h\n",
	       "x f32[2,2,1] 0.5 0.5 0 1\nl s32[2] 1 2",
	       "y f32[2,1,2,1] 0.462117 0.462117 0 0.761594\nh f32[1,2,1] 0.462117 0.761594");
	expect(L "node RNN x w r - l -> y h direction=\"reverse\"\n" Y "out h\n",
	       "x f32[2,2,1] 0.5 0.5 0 1\nl s32[2] 1 2",
	       "y f32[2,1,2,1] 0.462117 0.462117 0 0.761594\nh f32[1,2,1] 0.462117 0.462117");
	expect("in x f32[2,1,1]\nconst w f32[1,1,1] 1\nconst r f32[1,1,1] 0\nconst l s32[1] 2\n"
	       "node RNN x w r - l -> y\n" Y,
	       "x f32[2,1,1] 0.5 0", "y f32[2,1,1,1] 0.462117 0");
}

/* What the rnn node has no place for, as a loop. */
static void
test_loops(void **state)
{
	(void)state;
	expect(R "node RNN x w r -> y clip=0.5\n" Y, "x f32[1,1,1] 9", "y f32[1,1,1,1] 0.462117");
	expect("in x f32[1,1,1]\nconst w f32[1,3,1] 0 0 1\nconst r f32[1,3,1] 0 0 0\n"
	       "node GRU x w r -> y clip=9.0\n" Y,
	       "x f32[1,1,1] 1", "y f32[1,1,1,1] 0.380797");
	/* coupled: c = (1 - i) c0 + i tanh(1), i = 0.5 */
	expect("in x f32[1,1,1]\nconst w f32[1,4,1] 0 0 9 1\nconst r f32[1,4,1] 0 0 0 0\n"
	       "in c f32[1,1,1]\nnode LSTM x w r - - - c -> y h z input_forget=1\n" Y "out z\n",
	       "x f32[1,1,1] 1\nc f32[1,1,1] 2", "y f32[1,1,1,1] 0.440694\nz f32[1,1,1] 1.380797");
}

static void
test_refused(void **state)
{
	(void)state;
	expect_error(R "node RNN x w r -> y direction=\"up\"\n" Y, ML_ERR_VALUE, "direction");
	expect_error(R "node RNN x w r -> y direction=\"bidirectional\"\n" Y, ML_ERR_SHAPE,
		     "2 directions");
	expect_error(R "const p f32[1] 0\nnode RNN x w r - - p -> y clip=1.0\n" Y, ML_ERR_SHAPE,
		     "do not fit");
	expect_error(R "node GRU x w r -> y clip=1.0\n" Y, ML_ERR_SHAPE, "do not fit");
	expect_error(R "node GRU x w r -> y\n" Y, ML_ERR_SHAPE, "one block of rows");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_rnn),     TEST(test_both_directions), TEST(test_gates),
		TEST(test_lengths), TEST(test_loops),           TEST(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
