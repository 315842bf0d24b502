/* test_import.c -- the module made from a model: inputs, options, what is reported. */
#include "harness_onnx.h"

#define Y "out y\n"

static void
test_inputs_and_dims(void **state)
{
	(void)state;
	ml_module *m = import_text("in x f32[batch,?,3]\nin w f32[1]\nconst w f32[1] 2\n"
				   "node Mul x w -> y\n" Y,
				   NULL);
	ml_text t;

	assert_non_null(m);
	assert_int_equal(m->main->nargs, 1); /* w has an initializer */
	ml_text_init(&t, &cx.arena);
	ml_type_print(&t, &m->main->arg[0]->type);
	assert_string_equal(t.at, "f32[batch, x_d1, 3]");
	assert_string_equal(m->main->arg[0]->name, "x");
	assert_string_equal(m->output_names.at[0], "y");
	assert_int_equal(m->opset, 17);
	ml_module_free(m);
}

static void
test_dims_are_frozen(void **state)
{
	(void)state;
	ml_import_dim dims[] = {{"batch", 4}, {"x_d1", 5}};
	ml_import_options o = {.dims = dims, .ndims = 2};
	ml_module *m = import_text("in x f32[batch,?]\nnode Neg x -> y\n" Y, &o);

	assert_non_null(m);
	assert_true(ml_dim_equals(m->main->arg[0]->type.dim[0], 4));
	assert_true(ml_dim_equals(m->main->arg[0]->type.dim[1], 5));
	ml_module_free(m);
}

static void
test_shapes_are_given(void **state)
{
	(void)state;
	ml_import_shape shape = {"x", 2, {1, -1}};
	ml_import_options o = {.shapes = &shape, .nshapes = 1};
	ml_module *m = import_text("in x f32[?,n]\nnode Neg x -> y\n" Y, &o);

	assert_non_null(m);
	assert_true(ml_dim_equals(m->main->arg[0]->type.dim[0], 1));
	assert_false(ml_dim_is_int(m->main->arg[0]->type.dim[1], NULL));
	ml_module_free(m);
	shape.rank = 1;
	assert_null(import_text("in x f32[?,n]\nnode Neg x -> y\n" Y, &o));
	assert_said("gives input 'x' 1 dimensions, but it has 2");
}

static void
test_wrong_options(void **state)
{
	(void)state;
	ml_import_shape shape = {"z", 1, {1}};
	ml_import_freeze freeze = {"x", onnx_tensor("f64[1] 1")};
	ml_import_dim dim = {"n", -3};

	assert_null(import_text("in x f32[n]\nnode Neg x -> y\n" Y,
				&(ml_import_options){.shapes = &shape, .nshapes = 1}));
	assert_said("the model has no input 'z'");
	assert_null(import_text("in x f32[n]\nnode Neg x -> y\n" Y,
				&(ml_import_options){.freezes = &freeze, .nfreezes = 1}));
	assert_said("frozen to f64, but has type f32");
	assert_null(import_text("in x f32[n]\nnode Neg x -> y\n" Y,
				&(ml_import_options){.dims = &dim, .ndims = 1}));
	assert_said("dim 'n' is negative");
}

static void
test_all_unsupported_nodes_are_reported(void **state)
{
	(void)state;
	/* what depends on them is left out, the rest goes on */
	expect_error(
		"in x f32[2]\nnode Foo x -> a\nnode Bar x -> b domain=acme\nnode Add a x -> c\n"
		"node Cast x -> d to=8\nnode Neg x -> e\nopset 17\nopset acme 1\n"
		"node Sum c d e -> y\n" Y,
		ML_ERR_UNSUPPORTED, "3 nodes are not supported");
	assert_said("operator Foo of domain 'ai.onnx' is unknown");
	assert_said("operator Bar of domain 'acme' is unknown");
	assert_said("element type string (8)");
	assert_int_equal(cx.errors, 4);
	cx.diags.count = cx.errors = 0;
	expect_error("in x f32[2]\nnode Foo x -> y\n" Y, ML_ERR_UNSUPPORTED, "Foo");
	assert_int_equal(cx.errors, 1);
}

static void
test_all_errors_are_reported(void **state)
{
	(void)state;
	/* inputs too; what depends on a fault is left out silently */
	expect_error("in x f32[2,3]\nin w f32[4,5]\nin s\nnode Foo x -> a\n"
		     "node MatMul x w -> b\nnode Neg b -> c\nnode Bar s -> d\nnode Baz x -> e\n"
		     "node Conv x w -> f\nnode Add c f -> y\n" Y,
		     ML_ERR_FORMAT, "6 errors, see above: 3 nodes are not supported");
	assert_said("input 's' is no tensor");
	assert_said("operator Foo of domain 'ai.onnx' is unknown");
	assert_said("Bar");
	assert_said("Baz");
	assert_said("[shape, in");
	assert_int_equal(cx.errors, 7);
	cx.diags.count = cx.errors = 0;
	expect_error("in x f32[2]\nin w f32[3]\nnode Add x w -> y\nnode Mul x w -> z\n" Y "out z\n",
		     ML_ERR_SHAPE, "2 errors, see above");
	cx.diags.count = cx.errors = 0;
	/* outputs are looked at as well */
	expect_error("in x f32[2]\nnode Foo x -> a\nnode Neg x -> y\nout y f64[2]\nout a\n",
		     ML_ERR_UNSUPPORTED, "2 errors, see above: 1 node is not supported");
	assert_said("declared f64, but computed as f32");
}

static void
test_unsupported_in_subgraphs(void **state)
{
	(void)state;
	expect_error("in c bool[]\nin x f32[2]\nnode Foo x -> z\nnode Cast z -> w to=8\n"
		     "node If c -> y then_branch={ else_branch={\nnode Bar x -> a\nout a\n}\n"
		     "node Baz x -> b\nout b\n}\n" Y,
		     ML_ERR_UNSUPPORTED, "3 nodes");
	assert_said("Bar");
	assert_said("Baz");
}

static void
test_versions(void **state)
{
	(void)state;
	expect_error(
		"opset 8\nin x f32[1]\nin s f32[1]\nnode Scan s x -> y z num_scan_inputs=1\n" Y,
		ML_ERR_UNSUPPORTED, "not supported at version 8");
	expect_error("opset acme 1\nin x f32[1]\nnode Neg x -> y\n" Y, ML_ERR_FORMAT,
		     "imports no version of operator set ai.onnx");
	expect_error("opset 29\nin x f32[1]\nnode Neg x -> y\n" Y, ML_ERR_UNSUPPORTED, "7 to 28");
}

static void
test_counts(void **state)
{
	(void)state;
	expect_error("in x f32[1]\nnode Neg x x -> y\n" Y, ML_ERR_FORMAT,
		     "2 inputs, but Neg takes 1");
	expect_error("in x f32[1]\nnode Add x -> y\n" Y, ML_ERR_FORMAT,
		     "1 inputs, but Add needs 2");
	expect_error("in x f32[1]\nnode Add - x -> y\n" Y, ML_ERR_FORMAT, "input 0 is left out");
	expect_error("in x f32[1]\nnode Neg x -> y z\n" Y, ML_ERR_FORMAT,
		     "2 outputs, but Neg has 1");
	expect_error("in x f32[1,1,1]\nin w f32[1,1,1]\n"
		     "node LSTM x w w -> a b c hidden_size=1\nnode Neg q -> y\n" Y,
		     ML_ERR_FORMAT, "'q'");
}

static void
test_results_nobody_computes(void **state)
{
	(void)state;
#define BN "in x f32[2,1]\nconst s f32[1] 1\nnode BatchNormalization x s s s s -> y m\n"
	ml_module *m = import_text(BN Y, NULL);

	assert_non_null(m); /* fine while nobody asks for it */
	ml_module_free(m);
	expect_error(BN "out m\n", ML_ERR_UNSUPPORTED, "result 'm' is used, but not supported");
}

static void
test_outputs(void **state)
{
	(void)state;
	expect("in x f32[1]\nout x\n", "x f32[1] 3", "x f32[1] 3");
	expect("in x f32[1]\nconst c f32[1] 7\nnode Neg x -> y\nout c\nout y\n", "x f32[1] 3",
	       "c f32[1] 7\ny f32[1] -3");
	expect_error("in x f32[1]\nnode Neg x -> y\nout y s64[1]\n", ML_ERR_TYPE,
		     "declared s64, but computed as f32");
	expect_error("in x f32[1]\nnode Neg x -> y\n", ML_ERR_FORMAT, "no outputs");
}

static void
test_provenance(void **state)
{
	(void)state;
	ml_module *m = import_text("in x f32[1]\nnode Neg x -> z\nnode Abs z -> y\n" Y, NULL);

	assert_non_null(m);
	const ml_prov *p = ml_in(m->main->last, 0)->def->prov;
	assert_string_equal(p->op, "Abs");
	assert_int_equal(p->index, 1);
	assert_int_equal(p->opset, 17);
	ml_module_free(m);
}

static void
test_weights_are_not_copied(void **state)
{
	(void)state;
	msg model = onnx_model("in x f32[2]\nconst w f32[2] 1 2\nnode Add x w -> y\n" Y);
	ml_module *m;

	assert_int_equal(ml_import_onnx_bytes(&cx, model.at, model.length, NULL, NULL, &m), ML_OK);
	const char *bytes = ml_const_blob(ml_in(ml_in(m->main->last, 0)->def, 1))->bytes;
	assert_true(bytes > model.at && bytes < model.at + model.length);
	ml_module_free(m);
}

/* Leak(x, slope) = LeakyRelu(x, alpha = slope), called with slope = 0.5. */
static void
test_functions_are_inlined(void **state)
{
	(void)state;
	msg f = new_msg(), node = new_node("LeakyRelu", "x -> y"), ref = new_msg();
	msg import = new_msg(), model;
	ml_module *m;

	put_string(&ref, ATTRIBUTE_NAME, "alpha");
	put_int(&ref, 20, 1);          /* type: a number */
	put_string(&ref, 21, "slope"); /* ref_attr_name */
	put_msg(&node, NODE_ATTRIBUTE, ref);
	put_int(&import, OPSET_VERSION, 17);
	put_string(&f, FUNCTION_NAME, "Leak");
	put_string(&f, FUNCTION_INPUT, "x");
	put_string(&f, FUNCTION_OUTPUT, "y");
	put_string(&f, 6, "slope"); /* attribute */
	put_msg(&f, FUNCTION_NODE, node);
	put_msg(&f, 9, import); /* opset_import */
	put_string(&f, FUNCTION_DOMAIN, "acme");
	model = onnx_model("in a f32[2]\nopset acme 1\nopset 17\n"
			   "node Leak a -> b domain=acme slope=0.5\nout b\n");
	put_msg(&model, MODEL_FUNCTIONS, f);
	assert_int_equal(ml_import_onnx_bytes(&cx, model.at, model.length, NULL, NULL, &m), ML_OK);
	ml_tensor in = onnx_tensor("f32[2] -2 2"), out;
	assert_int_equal(ml_evaluate(m, &in, &out, &cx.arena, &(ml_eval_options){0}), ML_OK);
	assert_true(((float *)out.data)[0] == -1 && ((float *)out.data)[1] == 2);
	ml_module_free(m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_inputs_and_dims),
		TEST(test_dims_are_frozen),
		TEST(test_shapes_are_given),
		TEST(test_wrong_options),
		TEST(test_all_unsupported_nodes_are_reported),
		TEST(test_all_errors_are_reported),
		TEST(test_unsupported_in_subgraphs),
		TEST(test_versions),
		TEST(test_counts),
		TEST(test_results_nobody_computes),
		TEST(test_outputs),
		TEST(test_provenance),
		TEST(test_weights_are_not_copied),
		TEST(test_functions_are_inlined),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
