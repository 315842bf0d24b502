/* harness_bytes.c -- protobuf messages made by hand, byte by byte, and a context to load them in.
 */
#include "harness_bytes.h"
#include <stdio.h>
#include <string.h>

ml_context cx;

int
setup(void **state)
{
	(void)state;
	cx = (ml_context){.memory = ml_memory_libc()};
	ml_arena_init(&cx.arena, &cx.memory);
	return 0;
}

int
teardown(void **state)
{
	(void)state;
	ml_arena_free(&cx.arena);
	return 0;
}

msg
new_msg(void)
{
	msg m;

	ml_text_init(&m, &cx.arena);
	return m;
}

void
put_varint(msg *m, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		ml_put_bytes(m, (char[]){(char)(v | 0x80)}, 1);
	ml_put_bytes(m, (char[]){(char)v}, 1);
}

void
put_tag(msg *m, int field, int wire_type)
{
	put_varint(m, (uint64_t)field << 3 | (uint64_t)wire_type);
}

void
put_int(msg *m, int field, int64_t v)
{
	put_tag(m, field, 0);
	put_varint(m, (uint64_t)v);
}

void
put_bytes(msg *m, int field, const void *bytes, size_t n)
{
	put_tag(m, field, 2);
	put_varint(m, n);
	ml_put_bytes(m, n ? bytes : "", n);
}

void
put_string(msg *m, int field, const char *s)
{
	put_bytes(m, field, s, strlen(s));
}

void
put_msg(msg *m, int field, msg part)
{
	put_bytes(m, field, part.at, part.length);
}

msg
new_node(const char *op, const char *wiring)
{
	msg node = new_msg();
	char *copy = ml_strdup(&cx.arena, wiring), *outputs = strstr(copy, "->"), *rest;

	*outputs = 0;
	for (char *s = strtok_r(copy, ", ", &rest); s; s = strtok_r(NULL, ", ", &rest))
		put_string(&node, NODE_INPUT, s);
	for (char *s = strtok_r(outputs + 2, ", ", &rest); s; s = strtok_r(NULL, ", ", &rest))
		put_string(&node, NODE_OUTPUT, s);
	put_string(&node, NODE_OP_TYPE, op);
	return node;
}

msg
new_model(msg graph)
{
	msg model = new_msg(), opset = new_msg();

	put_int(&model, MODEL_IR_VERSION, 8);
	put_int(&opset, OPSET_VERSION, 17);
	put_msg(&model, MODEL_OPSET_IMPORT, opset);
	put_msg(&model, MODEL_GRAPH, graph);
	return model;
}

void
put_value(msg *graph, int field, const char *name)
{
	msg value = new_msg();

	put_string(&value, VALUE_NAME, name);
	put_msg(graph, field, value);
}

msg
model_of_tensor(msg tensor)
{
	msg graph = new_msg();

	put_string(&tensor, TENSOR_NAME, "w");
	put_msg(&graph, GRAPH_INITIALIZER, tensor);
	put_value(&graph, GRAPH_OUTPUT, "w");
	return new_model(graph);
}

ml_status
open_msg(msg m, ml_onnx_model **model)
{
	return ml_onnx_open_bytes(&cx, m.at, m.length, NULL, model);
}

int
said(const char *text)
{
	ml_text t;

	ml_text_init(&t, &cx.arena);
	for (int i = 0; i < cx.diags.count; i++) {
		ml_diag_print(&t, &cx, &cx.diags.at[i]);
		ml_put(&t, "\n");
	}
	if (strstr(t.at, text))
		return 1;
	print_message("expected \"%s\" in:\n%s\n", text, t.at);
	return 0;
}
