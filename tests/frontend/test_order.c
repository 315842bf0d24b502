/* test_order.c -- name resolution and the order of nodes. */
#include "harness_bytes.h"
#include <string.h>

/* A graph from lines "op: a, b -> c", inputs and outputs separated by blanks. */
static msg
graph_of(const char *inputs, const char *const *lines, const char *outputs)
{
	msg graph = new_msg();
	char *rest, *list = ml_strdup(&cx.arena, inputs);

	for (char *s = strtok_r(list, " ", &rest); s; s = strtok_r(NULL, " ", &rest))
		put_value(&graph, GRAPH_INPUT, s);
	for (; *lines; lines++) {
		const char *colon = strchr(*lines, ':');
		char *op = ml_strndup(&cx.arena, *lines, (size_t)(colon - *lines));
		put_msg(&graph, GRAPH_NODE, new_node(op, colon + 1));
	}
	list = ml_strdup(&cx.arena, outputs);
	for (char *s = strtok_r(list, " ", &rest); s; s = strtok_r(NULL, " ", &rest))
		put_value(&graph, GRAPH_OUTPUT, s);
	return graph;
}
#define LINES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NO_LINES   ((const char *const[]){NULL})

static void
add_subgraph(msg *node, msg graph)
{
	msg attribute = new_msg();

	put_string(&attribute, ATTRIBUTE_NAME, "body");
	put_msg(&attribute, ATTRIBUTE_G, graph);
	put_msg(node, NODE_ATTRIBUTE, attribute);
}

static void
assert_order(msg graph, const char *expected)
{
	ml_onnx_model *m;
	ml_text t = new_msg();

	assert_int_equal(open_msg(new_model(graph), &m), ML_OK);
	const Onnx__GraphProto *g = m->proto->graph;
	assert_int_equal(g->n_order, g->n_node);
	for (size_t i = 0; i < g->n_order; i++)
		ml_put(&t, "%s%u", i ? " " : "", g->order[i]);
	assert_string_equal(t.at, expected);
	ml_onnx_close(m);
}

static void
assert_refused(msg graph, const char *text)
{
	ml_onnx_model *m = (ml_onnx_model *)&m;

	assert_int_equal(open_msg(new_model(graph), &m), ML_ERR_FORMAT);
	assert_null(m);
	assert_said(text);
}

static void
test_valid_order_is_kept(void **state)
{
	(void)state;
	assert_order(
		graph_of("x", LINES("A: x -> a", "B: x -> b", "C: a -> c", "D: b, c -> d"), "d"),
		"0 1 2 3");
	assert_order(graph_of("x", NO_LINES, "x"), "");
}

static void
test_nodes_are_sorted(void **state)
{
	(void)state;
	assert_order(
		graph_of("x", LINES("D: b, c -> d", "C: a -> c", "B: x -> b", "A: x -> a"), "d"),
		"2 3 1 0");
}

static void
test_omitted_values(void **state)
{
	msg graph = graph_of("x", NO_LINES, "y"), node = new_msg();

	(void)state;
	put_string(&node, NODE_INPUT, "x");
	put_string(&node, NODE_INPUT, "");
	put_string(&node, NODE_OUTPUT, "");
	put_string(&node, NODE_OUTPUT, "");
	put_string(&node, NODE_OUTPUT, "y");
	put_msg(&graph, GRAPH_NODE, node);
	assert_order(graph, "0");
}

static void
test_cycles(void **state)
{
	(void)state;
	assert_refused(
		graph_of("x", LINES("A: x, c -> a", "B: a -> b", "C: b -> c"), "c"),
		"node (#0, A-17): error: cycle of 3 nodes: 'a' needs 'c' needs 'b' needs 'a'");
	assert_refused(graph_of("x", LINES("A: x, a -> a"), "a"), "cycle of 1 node: 'a' needs 'a'");
}

static void
test_undefined_and_twice_defined(void **state)
{
	(void)state;
	assert_refused(graph_of("x", LINES("A: x, q -> a", "B: r -> b"), "b zz"),
		       "node (#0, A-17): error: input 'q' is not defined anywhere");
	assert_said("node (#1, B-17): error: input 'r' is not defined anywhere"); /* all at once */
	assert_said("graph output 'zz' is not defined anywhere");
	assert_refused(graph_of("x", LINES("A: x -> a", "B: x -> a"), "a"),
		       "node (#1, B-17): error: 'a' is defined twice");
	assert_refused(graph_of("x", LINES("A: x -> x"), "x"),
		       "node (#0, A-17): error: 'x' is defined twice");
	assert_refused(graph_of("p p", NO_LINES, "p"), "error: 'p' is defined twice");
}

static void
test_reports_end_somewhere(void **state)
{
	msg graph = graph_of("x", NO_LINES, "x");

	(void)state;
	for (int i = 0; i < 1000; i++)
		put_msg(&graph, GRAPH_NODE, new_node("A", "missing ->"));
	assert_refused(graph, "input 'missing' is not defined anywhere");
	assert_true(cx.diags.count < 50);
}

static void
test_initializers(void **state)
{
	msg w = new_msg(), v = new_msg(), graph;

	(void)state;
	put_string(&w, TENSOR_NAME, "w");
	put_string(&v, TENSOR_NAME, "w");
	graph = graph_of("x w", LINES("A: x, w -> a"), "a");
	put_msg(&graph, GRAPH_INITIALIZER, w); /* the default of an input */
	assert_order(graph, "0");
	put_msg(&graph, GRAPH_INITIALIZER, v);
	assert_refused(graph, "'w' is defined twice");
}

/* The If node uses "late" only inside its subgraph, and "late" comes later in the file. */
static void
test_captures_are_dependencies(void **state)
{
	msg inner = graph_of("", LINES("N: late -> y"), "y");
	msg outer_body = graph_of("", NO_LINES, "z"), mid = new_node("If", "-> z");
	msg node = new_node("If", "x -> out"), graph = graph_of("x", NO_LINES, "out");

	(void)state;
	add_subgraph(&mid, inner);
	put_msg(&outer_body, GRAPH_NODE, mid);
	add_subgraph(&node, outer_body);
	put_msg(&graph, GRAPH_NODE, node);
	put_msg(&graph, GRAPH_NODE, new_node("A", "x -> late"));
	assert_order(graph, "1 0");
}

static void
test_subgraph_scopes(void **state)
{
	msg node = new_node("If", "x -> out"), graph = graph_of("x", NO_LINES, "out");
	msg captured_output = graph_of("", NO_LINES, "x"); /* an outer value, returned as it is */
	msg shadowing = graph_of("", LINES("N: x -> t", "N: t -> x2", "N: x2 -> out"), "out");
	msg leaking = graph_of("", LINES("N: x -> t"), "t"), user = new_node("N", "t -> u");

	(void)state;
	add_subgraph(&node, captured_output);
	add_subgraph(&node, shadowing);
	put_msg(&graph, GRAPH_NODE, node);
	assert_order(graph, "0");
	graph = graph_of("x", NO_LINES, "u");
	node = new_node("If", "x -> out");
	add_subgraph(&node, leaking);
	put_msg(&graph, GRAPH_NODE, node);
	put_msg(&graph, GRAPH_NODE, user); /* names do not get out of a subgraph */
	assert_refused(graph, "input 't' is not defined anywhere");
}

static void
test_own_result_captured(void **state)
{
	msg node = new_node("If", "x -> out"), graph = graph_of("x", NO_LINES, "out");

	(void)state;
	add_subgraph(&node, graph_of("", LINES("N: out -> y"), "y"));
	put_msg(&graph, GRAPH_NODE, node);
	assert_refused(graph, "cycle of 1 node: 'out' needs 'out'");
}

/* Deep in nodes, backwards in the file: recursion would not survive it. */
static void
test_long_chain(void **state)
{
	enum { N = 50000 };
	msg graph = graph_of("v0", NO_LINES, "v50000");
	ml_onnx_model *m;

	(void)state;
	for (int i = N; i > 0; i--)
		put_msg(&graph, GRAPH_NODE,
			new_node("A", ml_format(&cx.arena, "v%d -> v%d", i - 1, i)));
	assert_int_equal(open_msg(new_model(graph), &m), ML_OK);
	for (uint32_t i = 0; i < N; i++)
		assert_int_equal(m->proto->graph->order[i], N - 1 - i);
	ml_onnx_close(m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_valid_order_is_kept),
		TEST(test_nodes_are_sorted),
		TEST(test_omitted_values),
		TEST(test_cycles),
		TEST(test_undefined_and_twice_defined),
		TEST(test_reports_end_somewhere),
		TEST(test_initializers),
		TEST(test_captures_are_dependencies),
		TEST(test_subgraph_scopes),
		TEST(test_own_result_captured),
		TEST(test_long_chain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
