/* test_functions.c -- lookup of model-local functions, and the bounds on inlining them. */
#include "harness_bytes.h"
#include <string.h>

/* A function "name" of domain "d" with one input x and one output y around the given nodes. */
static msg
new_function(const char *name, int n, const msg *nodes)
{
	msg f = new_msg();

	put_string(&f, FUNCTION_NAME, name);
	put_string(&f, FUNCTION_DOMAIN, "d");
	put_string(&f, FUNCTION_INPUT, "x");
	put_string(&f, FUNCTION_OUTPUT, "y");
	for (int i = 0; i < n; i++)
		put_msg(&f, FUNCTION_NODE, nodes[i]);
	return f;
}

static msg
call(const char *function, const char *wiring)
{
	msg node = new_node(function, wiring);

	put_string(&node, NODE_DOMAIN, "d");
	return node;
}

/* A model whose graph calls `function` once. */
static msg
model_calling(const char *function)
{
	msg graph = new_msg();

	put_value(&graph, GRAPH_INPUT, "a");
	put_msg(&graph, GRAPH_NODE, call(function, "a -> b"));
	put_value(&graph, GRAPH_OUTPUT, "b");
	return new_model(graph);
}

static void
assert_refused(msg model, ml_status expected, const char *text)
{
	ml_onnx_model *m;

	assert_int_equal(open_msg(model, &m), expected);
	assert_said(text);
}

static void
test_lookup(void **state)
{
	static const char *const names[] = {"h", "f", "g"};
	msg model = model_calling("f"), overloaded;
	msg body = new_node("Relu", "x -> y");
	ml_onnx_model *m;

	(void)state;
	for (int i = 0; i < 3; i++)
		put_msg(&model, MODEL_FUNCTIONS, new_function(names[i], 1, &body));
	overloaded = new_function("f", 1, &body);
	put_string(&overloaded, 13, "v2");
	put_msg(&model, MODEL_FUNCTIONS, overloaded);
	assert_int_equal(open_msg(model, &m), ML_OK);
	for (int i = 0; i < 3; i++)
		assert_ptr_equal(ml_onnx_find_function(m, "d", names[i], NULL),
				 m->proto->functions[i]);
	assert_ptr_equal(ml_onnx_find_function(m, "d", "f", ""), m->proto->functions[1]);
	assert_ptr_equal(ml_onnx_find_function(m, "d", "f", "v2"), m->proto->functions[3]);
	assert_null(ml_onnx_find_function(m, "d", "f", "v3"));
	assert_null(ml_onnx_find_function(m, NULL, "f", NULL));
	assert_null(ml_onnx_find_function(m, "d", "e", NULL));
	assert_int_equal(m->proto->functions[0]->n_order, 1);
	ml_onnx_close(m);
}

static void
test_defined_twice(void **state)
{
	msg model = model_calling("f"), body = new_node("Relu", "x -> y");

	(void)state;
	put_msg(&model, MODEL_FUNCTIONS, new_function("f", 1, &body));
	put_msg(&model, MODEL_FUNCTIONS, new_function("f", 1, &body));
	assert_refused(model, ML_ERR_FORMAT, "function 'f' is defined twice");
}

static void
test_names_in_a_body(void **state)
{
	msg model = model_calling("f"), bodies[] = {new_node("Relu", "a -> z")};

	(void)state;
	put_msg(&model, MODEL_FUNCTIONS, new_function("f", 1, bodies));
	assert_refused(model, ML_ERR_FORMAT, "input 'a' is not defined anywhere");
	assert_said("function output 'y' is not defined in its body");
}

static void
test_recursion(void **state)
{
	msg self = model_calling("f"), mutual = model_calling("f");
	msg calls_f = call("f", "x -> y"), calls_g = call("g", "x -> y");

	(void)state;
	put_msg(&self, MODEL_FUNCTIONS, new_function("f", 1, &calls_f));
	assert_refused(self, ML_ERR_FORMAT, "function 'f' calls itself");
	put_msg(&mutual, MODEL_FUNCTIONS, new_function("f", 1, &calls_g));
	put_msg(&mutual, MODEL_FUNCTIONS, new_function("g", 1, &calls_f));
	assert_refused(mutual, ML_ERR_FORMAT, "calls itself");
}

/* f0 is a node; each f(i) calls f(i-1) `width` times in a row.  `backwards`: f0 comes last. */
static msg
tower(int levels, int width, int backwards)
{
	msg model = model_calling(ml_format(&cx.arena, "f%d", levels));

	for (int k = 0; k <= levels; k++) {
		int i = backwards ? levels - k : k;
		msg nodes[8];
		for (int j = 0; j < width; j++) {
			const char *from = j ? ml_format(&cx.arena, "t%d", j - 1) : "x";
			const char *to = j < width - 1 ? ml_format(&cx.arena, "t%d", j) : "y";
			const char *wiring = ml_format(&cx.arena, "%s -> %s", from, to);
			const char *below = ml_format(&cx.arena, "f%d", i - 1);
			nodes[j] = i ? call(below, wiring) : new_node("Relu", wiring);
		}
		put_msg(&model, MODEL_FUNCTIONS,
			new_function(ml_format(&cx.arena, "f%d", i), width, nodes));
	}
	return model;
}

static void
test_explosion(void **state)
{
	ml_onnx_model *m;

	(void)state;
	/* 2^(levels + 2) - 2 nodes once inlined: 131070, then 262142. */
	assert_int_equal(open_msg(tower(15, 2, 0), &m), ML_OK);
	ml_onnx_close(m);
	assert_refused(tower(16, 2, 0), ML_ERR_LIMIT,
		       "inlining the model's functions gives more than 200000 nodes");
	assert_int_equal(open_msg(tower(90, 8, 0), &m), ML_ERR_LIMIT);
	assert_int_equal(open_msg(tower(90, 8, 1), &m), ML_ERR_LIMIT);
}

static void
test_nesting(void **state)
{
	ml_onnx_model *m;

	(void)state;
	for (int backwards = 0; backwards < 2; backwards++) {
		assert_int_equal(open_msg(tower(ML_ONNX_NESTING - 1, 1, backwards), &m), ML_OK);
		ml_onnx_close(m);
		assert_refused(tower(ML_ONNX_NESTING + 1, 1, backwards), ML_ERR_LIMIT,
			       "function calls and subgraphs nest deeper than 100 levels");
		assert_int_equal(open_msg(tower(5000, 1, backwards), &m), ML_ERR_LIMIT);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_lookup),    TEST(test_defined_twice), TEST(test_names_in_a_body),
		TEST(test_recursion), TEST(test_explosion),     TEST(test_nesting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
