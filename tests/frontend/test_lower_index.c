/* test_lower_index.c -- ONNX operators that look positions up in data. */
#include "harness_onnx.h"

#define Y "out y\n"

static void
test_gather(void **state)
{
	(void)state;
	expect("in x f32[n,2]\nin i s64[k]\nnode Gather x i -> y\n" Y,
	       "x f32[3,2] 1 2 3 4 5 6\ni s64[2] -1 0", "y f32[2,2] 5 6 1 2");
	expect("in x f32[2,3]\nin i s32[]\nnode Gather x i -> y axis=1\n" Y,
	       "x f32[2,3] 1 2 3 4 5 6\ni s32[] 1", "y f32[2] 2 5");
	expect("in x f32[2,2]\nin i s64[2,1]\nnode GatherElements x i -> y axis=1\n" Y,
	       "x f32[2,2] 1 2 3 4\ni s64[2,1] 1 -2", "y f32[2,1] 2 3");
	expect("in x f32[2,2]\nin i s64[2,2]\nnode GatherND x i -> y\n" Y,
	       "x f32[2,2] 1 2 3 4\ni s64[2,2] 0 0 1 1", "y f32[2] 1 4");
	expect("in x f32[2,2]\nin i s64[2,1]\nnode GatherND x i -> y batch_dims=1\n" Y,
	       "x f32[2,2] 1 2 3 4\ni s64[2,1] 1 0", "y f32[2] 2 3");
	expect_error("in x f32[2,2]\nin i s64[2,3]\nnode GatherND x i -> y\n" Y, ML_ERR_SHAPE,
		     "3 coordinates");
	expect_error("in x f32[2]\nin i f32[2]\nnode Gather x i -> y\n" Y, ML_ERR_TYPE,
		     "must be integers");
}

static void
test_indices_are_checked(void **state)
{
	(void)state;
	static const char *const models[] = {
		"in x f32[2]\nin i s64[1]\nnode Gather x i -> y\n" Y,
		"in x f32[2]\nin i s64[1]\nnode GatherElements x i -> y\n" Y,
		"in x f32[2,2]\nconst z s64[1] 0\nin i s64[1]\nnode Concat z i -> k axis=0\n"
		"node GatherND x k -> y\n" Y,
		"in x f32[2]\nin i s64[1]\nconst u f32[1] 9\nnode ScatterElements x i u -> y\n" Y,
	};

	for (size_t k = 0; k < sizeof models / sizeof *models; k++) {
		ml_module *m = import_text(models[k], NULL);
		assert_non_null(m);
		ml_tensor in[] = {onnx_tensor(k == 2 ? "f32[2,2] 1 2 3 4" : "f32[2] 1 2"),
				  onnx_tensor("s64[1] 4000000000")};
		ml_tensor out[1];
		assert_int_equal(ml_evaluate(m, in, out, &cx.arena, &(ml_eval_options){0}),
				 ML_ERR_INDEX);
		ml_module_free(m);
	}
}

static void
test_scatter(void **state)
{
	(void)state;
	expect("in x f32[2,2]\nin i s64[1,2]\nin u f32[1,2]\nnode ScatterElements x i u -> y\n" Y,
	       "x f32[2,2] 1 2 3 4\ni s64[1,2] 1 -2\nu f32[1,2] 8 9", "y f32[2,2] 1 9 8 4");
	expect("opset 18\nin x f32[3]\nin i s64[2,1]\nin u f32[2]\n"
	       "node ScatterND x i u -> y reduction=\"add\"\n" Y,
	       "x f32[3] 1 2 3\ni s64[2,1] 1 1\nu f32[2] 10 20", "y f32[3] 1 32 3");
	expect("in x f32[2,2]\nin i s64[1,1]\nin u f32[1,2]\nnode ScatterND x i u -> y\n" Y,
	       "x f32[2,2] 1 2 3 4\ni s64[1,1] -1\nu f32[1,2] 8 9", "y f32[2,2] 1 2 8 9");
	expect("opset 24\nin x f32[1,3,1]\nin u f32[1,2,1]\nin w s64[1]\n"
	       "node TensorScatter x u w -> y mode=\"circular\"\n" Y,
	       "x f32[1,3,1] 1 2 3\nu f32[1,2,1] 8 9\nw s64[1] 2", "y f32[1,3,1] 9 2 8");
	expect_error("in x f32[3]\nin i s64[2,1]\nin u f32[2]\n"
		     "node ScatterND x i u -> y reduction=\"avg\"\n" Y,
		     ML_ERR_VALUE, "reduction must be");
}

static void
test_selections(void **state)
{
	(void)state;
	expect("in i s64[3]\nconst d s64[] 2\nconst v f32[2] 0 7\nnode OneHot i d v -> y\n" Y,
	       "i s64[3] 0 -1 5", "y f32[3,2] 7 0 0 7 0 0");
	expect("in i f32[2]\nconst d f32[] 2.0\nconst v s32[2] 1 5\nnode OneHot i d v -> y "
	       "axis=0\n" Y,
	       "i f32[2] 0 1", "y s32[2,2] 5 1 1 5");
	expect("in x f32[2,2]\nnode NonZero x -> y\n" Y, "x f32[2,2] 0 1 2 0",
	       "y s64[2,2] 0 1 1 0");
	expect("in x f32[3,1]\nin c bool[3]\nnode Compress x c -> y axis=0\n" Y,
	       "x f32[3,1] 1 2 3\nc bool[3] 1 0 1", "y f32[2,1] 1 3");
	expect("in x f32[4]\nnode Unique x -> y i j c\n" Y "out i\nout j\nout c\n",
	       "x f32[4] 3 1 3 2",
	       "y f32[3] 1 2 3\ni s64[3] 1 3 0\nj s64[4] 2 0 2 1\nc s64[3] 1 1 2");
	expect("in x f32[3,2]\nin l s64[2]\nnode ReverseSequence x l -> y\n" Y,
	       "x f32[3,2] 1 2 3 4 5 6\nl s64[2] 2 3", "y f32[3,2] 3 6 1 4 5 2");
	expect("in x f32[2,3]\nin i s64[2]\nopset 17\nopset ai.onnx.ml 2\n"
	       "node ArrayFeatureExtractor x i -> y domain=ai.onnx.ml\n" Y,
	       "x f32[2,3] 1 2 3 4 5 6\ni s64[2] 2 0", "y f32[2,2] 3 1 6 4");
	expect("in b f32[1,2,4]\nin s f32[1,1,2]\nconst m s64[1] 5\nconst t f32[1] 0.5\n"
	       "node NonMaxSuppression b s m t -> y\n" Y,
	       "b f32[1,2,4] 0 0 1 1 0 0 1 0.9\ns f32[1,1,2] 0.3 0.8", "y s64[1,3] 0 0 1");
	expect_error("in x f32[2,2]\nnode Unique x -> y axis=0\n" Y, ML_ERR_UNSUPPORTED, "slices");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_gather),
		TEST(test_indices_are_checked),
		TEST(test_scatter),
		TEST(test_selections),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
