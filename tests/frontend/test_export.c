/* test_export.c -- models written as ONNX: names, files, what has no spelling.
 *
 * That what is written means the same is tested with every operator: expect() reads it back. */
#include "frontend/export.h"
#include "harness_folder.h"
#include "harness_onnx.h"
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#define Y "out y\n"

static int
files_in_folder(void)
{
	DIR *d = opendir(folder);
	int n = -2; /* . and .. */

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void
test_names_are_kept(void **state)
{
	(void)state;
	ml_onnx_model *o;
	ml_module *m = import_text("in t0 f32[batch,?]\nconst w f32[] 2\nnode Mul t0 w -> z\n"
				   "node Neg z -> t1\nout t1\nout z\n",
				   NULL);

	assert_non_null(m);
	open_folder();
	assert_int_equal(ml_export_onnx(&cx, m, in_folder("a.onnx")), ML_OK);
	ml_module_free(m);
	assert_int_equal(ml_onnx_open(&cx, in_folder("a.onnx"), &o), ML_OK);
	const Onnx__GraphProto *g = o->proto->graph;
	assert_int_equal(ml_onnx_opset(o->proto->opset_import, o->proto->n_opset_import, ""),
			 ML_EXPORT_OPSET);
	assert_int_equal(o->proto->n_opset_import, 1);
	assert_int_equal(g->n_input, 1);
	assert_string_equal(g->input[0]->name, "t0");
	const Onnx__TensorShapeProto *shape = g->input[0]->type->tensor_type->shape;
	assert_string_equal(shape->dim[0]->dim_param, "batch");
	assert_string_equal(shape->dim[1]->dim_param, "t0_d1");
	assert_int_equal(g->n_output, 2);
	assert_string_equal(g->output[0]->name, "t1");
	assert_string_equal(g->output[1]->name, "z");
	ml_onnx_close(o);
	remove_folder();
}

static void
test_only_the_model_is_left(void **state)
{
	(void)state;
	ml_module *m = import_text("in x f32[2]\nnode Neg x -> y\n" Y, NULL);
	struct stat st;

	open_folder();
	write_file("a.onnx", "old", 3);
	assert_int_equal(ml_export_onnx(&cx, m, in_folder("a.onnx")), ML_OK);
	assert_int_equal(files_in_folder(), 1);
	assert_int_equal(stat(in_folder("a.onnx"), &st), 0);
	assert_true(st.st_size > 20 && (st.st_mode & 0600) == 0600);
	assert_int_equal(ml_export_onnx(&cx, m, in_folder("none/a.onnx")), ML_ERR_IO);
	assert_said("cannot be written");
	assert_int_equal(files_in_folder(), 1);
	ml_module_free(m);
	remove_folder();
}

static void
test_custom_operators_keep_their_domain(void **state)
{
	(void)state;
	ml_onnx_model *o;
	ml_module *m = import_text("in x f32[2]\nnode Neg x -> z\n"
				   "out z\n",
				   NULL);
	ml_node *yield = m->main->last;
	ml_builder b = ml_builder_before(yield);
	ml_value *in = ml_in(yield, 0);
	ml_node *n = ml_begin(&b, ML_OP_custom, &in, 1);

	ML_A(n, custom, domain).str = "com.acme";
	ML_A(n, custom, name).str = "Foo";
	ml_set_results(&b, n, &in->type, 1);
	ml_set_operand(yield, 0, ml_finish1(&b, n));
	open_folder();
	assert_int_equal(ml_export_onnx(&cx, m, in_folder("a.onnx")), ML_OK);
	ml_module_free(m);
	assert_int_equal(ml_onnx_open(&cx, in_folder("a.onnx"), &o), ML_OK);
	assert_int_equal(
		ml_onnx_opset(o->proto->opset_import, o->proto->n_opset_import, "com.acme"), 1);
	assert_string_equal(o->proto->graph->node[1]->op_type, "Foo");
	ml_onnx_close(o);
	remove_folder();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_names_are_kept),
		TEST(test_only_the_model_is_left),
		TEST(test_custom_operators_keep_their_domain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
