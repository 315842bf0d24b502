/* test_dot.c -- Graphviz output: nodes, edges with types, bodies as clusters, names escaped. */
#include "harness_text.h"
#include <string.h>

static void
test_graph(void **state)
{
	ml_context *cx = *state;
	ml_module *m = text_module(cx, "module \"a\\\"b\" {\n"
				       "  sym \"n\\\"\"\n"
				       "  in %c \"c\" : bool[]\n"
				       "  in %x \"x\\x0a\" : f32[\"n\\\"\"]\n"
				       "  %y = if %c, %x (%a : f32[\"n\\\"\"]) {\n"
				       "    %z = neg %a : f32[\"n\\\"\"] @\"/q\\\"\":Neg-13\n"
				       "    yield %z\n"
				       "  } (%b : f32[\"n\\\"\"]) {\n"
				       "    yield %b\n"
				       "  } : f32[\"n\\\"\"]\n"
				       "  out \"y\" = %y\n"
				       "}\n");
	ml_text t;

	ml_text_init(&t, &cx->arena);
	ml_print_dot(&t, m);
	assert_non_null(strstr(t.at, "digraph \"a\\\"b\" {\n"));
	assert_non_null(strstr(t.at, "v0 [shape=ellipse, label=\"c\"];\n"));
	assert_non_null(strstr(t.at, "label=\"x\\x0a\""));
	assert_non_null(strstr(t.at, "[label=\"neg\\n/q\\\"\"];\n"));
	assert_non_null(strstr(t.at, "label=\"then of n1\";\n"));
	assert_non_null(strstr(t.at, "label=\"else of n1\";\n"));
	assert_non_null(strstr(t.at, "v0 -> n1 [label=\"bool[]\"];\n"));
	assert_non_null(strstr(t.at, "[label=\"f32[\\\"n\\\\\\\"\\\"]\"];\n"));
	ml_module_free(m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_graph, text_setup, text_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
