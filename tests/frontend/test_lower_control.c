/* test_lower_control.c -- If, Loop and Scan. */
#include "harness_onnx.h"

#define Y "out y\n"

#define IF                                                                                         \
	"node If c -> y then_branch={ else_branch={\n"                                             \
	"node Add x one -> a\nout a\n}\nnode Neg x -> b\nout b\n}\n" Y

static void
test_if(void **state)
{
	(void)state;
	expect("in c bool[]\nin x f32[n]\nconst one f32[] 1\n" IF, "c bool[] 1\nx f32[2] 1 2",
	       "y f32[2] 2 3");
	expect("in c bool[1]\nin x f32[n]\nconst one f32[] 1\n" IF, "c bool[1] 0\nx f32[2] 1 2",
	       "y f32[2] -1 -2");
	/* shapes of the branches differ */
	expect("in c bool[]\nin x f32[n]\nconst z s64[1] 0\nconst o s64[1] 1\n"
	       "node If c -> y then_branch={ else_branch={\n"
	       "node Slice x z o -> a\nout a\n}\nnode Neg x -> b\nout b\n}\n" Y,
	       "c bool[] 1\nx f32[2] 1 2", "y f32[1] 1");
	expect_error("in c bool[]\nin x f32[1,2]\nnode If c -> y then_branch={ else_branch={\n"
		     "node Flatten x -> a\nout a\n}\nnode Squeeze x -> b\nout b\n}\n" Y,
		     ML_ERR_UNSUPPORTED, "another rank");
	expect_error("in c f32[]\nin x f32[n]\nconst one f32[] 1\n" IF, ML_ERR_TYPE,
		     "condition must be a scalar of bool");
	expect_error("in c bool[]\nin x f32[2]\nnode If c -> y then_branch={\n"
		     "node Neg x -> a\nout a\n}\n" Y,
		     ML_ERR_FORMAT, "'else_branch' is missing");
}

static void
test_known_branch_is_inlined(void **state)
{
	(void)state;
	ml_module *m = import_text("const c bool[] 0\nin x f32[n]\nconst one f32[] 1\n" IF, NULL);

	assert_non_null(m);
	assert_true(ml_is(ml_in(m->main->last, 0), ML_OP_neg));
	ml_module_free(m);
}

static void
test_loop(void **state)
{
	(void)state;
	/* x doubles, the counter is collected; `one` is a captured constant, `k` a captured value
	 */
	static const char model[] =
		"in n s64[]\nin x f32[]\nin k f32[]\nconst yes bool[] 1\n"
		"node Loop n yes x -> y s body={\n"
		"in i s64[]\nin c bool[]\nin v f32[]\n"
		"node Mul v k -> w\nnode Cast i -> f to=1\nnode Identity c -> d\n"
		"out d\nout w\nout f\n}\n" Y "out s\n";

	expect(model, "n s64[] 3\nx f32[] 1\nk f32[] 2", "y f32[] 8\ns f32[3] 0 1 2");
	expect(model, "n s64[] 0\nx f32[] 1\nk f32[] 2", "y f32[] 1\ns f32[0]");
	/* ends by its condition; no trip count */
	expect("in x f32[]\nconst yes bool[] 1\nconst ten f32[] 10\n"
	       "node Loop - yes x -> y body={\nin i s64[]\nin c bool[]\nin v f32[]\n"
	       "node Add v v -> w\nnode Less w ten -> d\nout d\nout w\n}\n" Y,
	       "x f32[] 1", "y f32[] 16");
	/* without a condition, the body's is ignored */
	expect("in x f32[]\nconst n s64[] 2\n"
	       "node Loop n - x -> y body={\nin i s64[]\nin c bool[]\nin v f32[]\nconst no bool[] "
	       "0\n"
	       "node Add v v -> w\nnode Identity no -> d\nout d\nout w\n}\n" Y,
	       "x f32[] 1", "y f32[] 4");
}

#define GROW                                                                                       \
	"node Loop n yes x -> y s body={\nin i s64[]\nin c bool[]\nin v f32[1]\n"                  \
	"node Identity c -> d\nnode Concat v v -> w axis=0\nnode Identity i -> j\n"                \
	"out d\nout w\nout j\n}\n" Y

static void
test_loop_refused(void **state)
{
	(void)state;
	expect_error("in x f32[]\nconst n s64[] 2\nconst yes bool[] 1\n"
		     "node Loop n yes x -> y body={\nin i s64[]\nin c bool[]\n"
		     "node Identity c -> d\nout d\n}\n" Y,
		     ML_ERR_FORMAT, "1 carried values");
	/* a loop that grows its value is unrolled if it is known how often it runs */
	expect_error("in x f32[1]\nin n s64[]\nconst yes bool[] 1\n" GROW, ML_ERR_UNSUPPORTED,
		     "changes its type");
}

static void
test_growing_loop(void **state)
{
	(void)state;
	expect("in x f32[1]\nconst n s64[] 2\nconst yes bool[] 1\n" GROW "out s\n", "x f32[1] 3",
	       "y f32[4] 3 3 3 3\ns s64[2] 0 1");
}

static void
test_scan(void **state)
{
	(void)state;
#define BODY                                                                                       \
	"body={\nin s f32[]\nin v f32[]\nnode Add s v -> t\nnode Identity t -> u\nout t\nout "     \
	"u\n}\n"
	expect("in x f32[t]\nin i f32[]\nnode Scan i x -> y z num_scan_inputs=1 " BODY Y "out z\n",
	       "x f32[3] 1 2 3\ni f32[] 10", "y f32[] 16\nz f32[3] 11 13 16");
	expect("in x f32[t]\nin i f32[]\nnode Scan i x -> y z num_scan_inputs=1 "
	       "scan_input_directions=[1] scan_output_directions=[1] " BODY Y "out z\n",
	       "x f32[3] 1 2 3\ni f32[] 10", "y f32[] 16\nz f32[3] 16 15 13");
	expect_error("in x f32[t]\nin i f32[]\nnode Scan i x -> y z num_scan_inputs=1 "
		     "scan_input_axes=[0,1] " BODY Y,
		     ML_ERR_VALUE, "scan_input_axes has 2");
	expect_error("in x f32[t]\nin i f32[]\nnode Scan i x -> y z num_scan_inputs=3 " BODY Y,
		     ML_ERR_FORMAT, "do not fit the body");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_if),           TEST(test_known_branch_is_inlined),
		TEST(test_loop),         TEST(test_loop_refused),
		TEST(test_growing_loop), TEST(test_scan),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
