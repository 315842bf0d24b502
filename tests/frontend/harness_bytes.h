/* harness_bytes.h -- protobuf messages made by hand, byte by byte, and a context to load them in.
 */
#ifndef HARNESS_BYTES_H
#define HARNESS_BYTES_H
#include "frontend/onnx_model.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

/* Field numbers used by the tests, as published. */
enum {
	MODEL_IR_VERSION = 1,
	MODEL_GRAPH = 7,
	MODEL_OPSET_IMPORT = 8,
	MODEL_FUNCTIONS = 25,
	OPSET_DOMAIN = 1,
	OPSET_VERSION = 2,
	GRAPH_NODE = 1,
	GRAPH_NAME = 2,
	GRAPH_INITIALIZER = 5,
	GRAPH_INPUT = 11,
	GRAPH_OUTPUT = 12,
	VALUE_NAME = 1,
	VALUE_TYPE = 2,
	NODE_INPUT = 1,
	NODE_OUTPUT = 2,
	NODE_NAME = 3,
	NODE_OP_TYPE = 4,
	NODE_ATTRIBUTE = 5,
	NODE_DOMAIN = 7,
	ATTRIBUTE_NAME = 1,
	ATTRIBUTE_T = 5,
	ATTRIBUTE_G = 6,
	ATTRIBUTE_FLOATS = 7,
	ATTRIBUTE_INTS = 8,
	FUNCTION_NAME = 1,
	FUNCTION_INPUT = 4,
	FUNCTION_OUTPUT = 5,
	FUNCTION_NODE = 7,
	FUNCTION_DOMAIN = 10,
	TENSOR_DIMS = 1,
	TENSOR_DATA_TYPE = 2,
	TENSOR_SEGMENT = 3,
	TENSOR_FLOAT_DATA = 4,
	TENSOR_INT32_DATA = 5,
	TENSOR_INT64_DATA = 7,
	TENSOR_NAME = 8,
	TENSOR_RAW_DATA = 9,
	TENSOR_DOUBLE_DATA = 10,
	TENSOR_UINT64_DATA = 11,
	TENSOR_EXTERNAL_DATA = 13,
	TENSOR_DATA_LOCATION = 14,
	TENSOR_PAYLOAD = 1000,
};

/* A message under construction; its bytes live in the context of the running test. */
typedef ml_text msg;

/* The context of the running test, made by setup and freed by teardown. */
extern ml_context cx;
int setup(void **state);
int teardown(void **state);
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

msg new_msg(void);
void put_varint(msg *, uint64_t);
void put_tag(msg *, int field, int wire_type);
void put_int(msg *, int field, int64_t);
void put_bytes(msg *, int field, const void *, size_t);
void put_string(msg *, int field, const char *);
void put_msg(msg *, int field, msg);

/* A node with one attribute-free line: "a, b -> y". */
msg new_node(const char *op, const char *wiring);
/* A model of opset 17 around a graph. */
msg new_model(msg graph);
/* Adds an input or output of that name to a graph. */
void put_value(msg *graph, int field, const char *name);
/* A model whose graph has the one initializer and returns it. */
msg model_of_tensor(msg tensor);

/* Opens a message as a model; bytes stay in the context. */
ml_status open_msg(msg, ml_onnx_model **);
/* Whether some diagnostic of the context, as printed, contains the text; prints all if not. */
int said(const char *text);
#define assert_said(text) assert_true(said(text))
#endif
