/* test_skeleton.c -- what the scan keeps, replaces, drops and refuses. */
#include "harness_bytes.h"
#include "frontend/skeleton.h"
#include <string.h>

/* Scans the message as a TensorProto and unpacks what is left of it. */
static Onnx__TensorProto *
scan_tensor(msg t)
{
	ml_skeleton s = {0};

	assert_int_equal(ml_skeleton_build(&cx, (uint8_t *)t.at, t.length,
					   &onnx__tensor_proto__descriptor, &s),
			 ML_OK);
	Onnx__TensorProto *p = onnx__tensor_proto__unpack(NULL, s.length, s.at);
	ml_skeleton_free(&cx.memory, &s);
	assert_non_null(p);
	return p;
}

static void
drop(Onnx__TensorProto *t)
{
	onnx__tensor_proto__free_unpacked(t, NULL);
}

static ml_payload
payload(const Onnx__TensorProto *t, size_t i)
{
	ml_payload p;

	assert_true(i < t->n_payload);
	assert_int_equal(t->payload[i].len, sizeof p);
	memcpy(&p, t->payload[i].data, sizeof p);
	return p;
}

static ml_status
scan(msg m, const ProtobufCMessageDescriptor *root)
{
	ml_skeleton s = {0};
	ml_status status = ml_skeleton_build(&cx, (uint8_t *)m.at, m.length, root, &s);

	ml_skeleton_free(&cx.memory, &s);
	return status;
}

static void
test_payloads_become_places(void **state)
{
	static const struct {
		int field, wire_type;
	} fields[] = {
		{TENSOR_FLOAT_DATA, 2}, {TENSOR_INT32_DATA, 2},  {TENSOR_INT64_DATA, 2},
		{TENSOR_RAW_DATA, 2},   {TENSOR_DOUBLE_DATA, 2}, {TENSOR_UINT64_DATA, 2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		msg t = new_msg();
		put_int(&t, TENSOR_DIMS, 8);
		put_bytes(&t, fields[i].field, "01234567", 8);
		size_t end = t.length;
		put_string(&t, TENSOR_NAME, "w");
		Onnx__TensorProto *p = scan_tensor(t);
		assert_string_equal(p->name, "w");
		assert_int_equal(p->dims[0], 8);
		assert_int_equal(p->n_payload, 1);
		ml_payload at = payload(p, 0);
		assert_int_equal(at.field, fields[i].field);
		assert_int_equal(at.packed, 1);
		assert_int_equal(at.offset, end - 8);
		assert_int_equal(at.size, 8);
		assert_int_equal(p->raw_data.len + p->n_float_data + p->n_int32_data +
					 p->n_int64_data + p->n_double_data + p->n_uint64_data,
				 0);
		drop(p);
	}
}

static void
test_run_of_single_elements(void **state)
{
	msg t = new_msg();

	(void)state;
	put_int(&t, TENSOR_DATA_TYPE, 6);
	size_t begin = t.length;
	for (int i = 0; i < 500; i++)
		put_int(&t, TENSOR_INT32_DATA, i);
	size_t end = t.length;
	put_string(&t, TENSOR_NAME, "w");
	put_int(&t, TENSOR_INT32_DATA, 7); /* not next to the others */
	Onnx__TensorProto *p = scan_tensor(t);
	assert_int_equal(p->n_payload, 2);
	ml_payload at = payload(p, 0);
	assert_int_equal(at.packed, 0);
	assert_int_equal(at.offset, begin);
	assert_int_equal(at.size, end - begin);
	assert_int_equal(payload(p, 1).size, 2);
	drop(p);
}

/* Whoever could write the private field could point into memory that is not the model's. */
static void
test_places_cannot_be_forged(void **state)
{
	ml_payload forged = {TENSOR_RAW_DATA, 1, 0, UINT64_MAX};
	msg t = new_msg();

	(void)state;
	put_bytes(&t, TENSOR_PAYLOAD, &forged, sizeof forged);
	put_bytes(&t, TENSOR_RAW_DATA, "ab", 2);
	put_bytes(&t, TENSOR_PAYLOAD, "x", 1);
	Onnx__TensorProto *p = scan_tensor(t);
	assert_int_equal(p->n_payload, 1);
	assert_int_equal(payload(p, 0).size, 2);
	drop(p);
}

static void
test_unknown_fields_are_left_out(void **state)
{
	msg t = new_msg(), inner = new_msg();

	(void)state;
	put_string(&t, 12, "a doc string");
	put_tag(&inner, 1, 3); /* not even looked into */
	put_msg(&t, 99, inner);
	put_int(&t, 100000, 5);
	put_string(&t, TENSOR_NAME, "w");
	Onnx__TensorProto *p = scan_tensor(t);
	assert_string_equal(p->name, "w");
	assert_int_equal(p->base.n_unknown_fields, 0);
	drop(p);
}

static void
test_too_many_pieces(void **state)
{
	msg t = new_msg();

	(void)state;
	for (int i = 0; i < ML_PAYLOAD_PIECES; i++)
		put_bytes(&t, TENSOR_FLOAT_DATA, "1234", 4);
	drop(scan_tensor(t));
	put_bytes(&t, TENSOR_FLOAT_DATA, "1234", 4);
	assert_int_equal(scan(t, &onnx__tensor_proto__descriptor), ML_ERR_FORMAT);
	assert_said("tensor data in too many pieces");
}

/* Every level is one more message inside another: sequence(sequence(... tensor)). */
static msg
nested_type(int levels)
{
	msg type = new_msg();

	for (int i = 0; i < levels; i++) {
		msg outer = new_msg();
		put_msg(&outer, i % 2 ? 4 : 1, type);
		type = outer;
	}
	return type;
}

static void
test_depth(void **state)
{
	(void)state;
	assert_int_equal(scan(nested_type(ML_ONNX_DEPTH), &onnx__type_proto__descriptor), ML_OK);
	assert_int_equal(scan(nested_type(ML_ONNX_DEPTH + 2), &onnx__type_proto__descriptor),
			 ML_ERR_LIMIT);
	assert_said("messages nest deeper than 100 levels");
}

static void
test_wrong_wire_type(void **state)
{
	static const struct {
		int field, wire_type;
	} cases[] = {{TENSOR_NAME, 0},       {TENSOR_DATA_TYPE, 2}, {TENSOR_RAW_DATA, 0},
		     {TENSOR_FLOAT_DATA, 1}, {TENSOR_SEGMENT, 5},   {TENSOR_DIMS, 1}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		msg t = new_msg();
		put_tag(&t, cases[i].field, cases[i].wire_type);
		ml_put_bytes(&t, "\1\1\1\1\1\1\1\1",
			     cases[i].wire_type == 1   ? 8
			     : cases[i].wire_type == 5 ? 4
			     : cases[i].wire_type == 2 ? 2
						       : 1);
		assert_int_equal(scan(t, &onnx__tensor_proto__descriptor), ML_ERR_FORMAT);
	}
	assert_said("byte 0 in name: field of the wrong wire type");
	assert_said("byte 0 in segment: field of the wrong wire type");
	assert_int_equal(cx.diags.count, sizeof cases / sizeof *cases);
}

static void
test_message_given_twice(void **state)
{
	msg model = new_msg();

	(void)state;
	put_msg(&model, MODEL_GRAPH, new_msg());
	put_msg(&model, MODEL_GRAPH, new_msg());
	assert_int_equal(scan(model, &onnx__model_proto__descriptor), ML_ERR_FORMAT);
	assert_said("in graph: field given twice");
}

static void
test_malformed_content(void **state)
{
	msg name = new_msg(), ints = new_msg(), floats = new_msg();

	(void)state;
	put_bytes(&name, ATTRIBUTE_NAME, "a\0b", 3);
	assert_int_equal(scan(name, &onnx__attribute_proto__descriptor), ML_ERR_FORMAT);
	assert_said("NUL byte inside a string");
	put_bytes(&ints, ATTRIBUTE_INTS, "\x01\x80", 2);
	assert_int_equal(scan(ints, &onnx__attribute_proto__descriptor), ML_ERR_FORMAT);
	put_bytes(&floats, ATTRIBUTE_FLOATS, "123456", 6);
	assert_int_equal(scan(floats, &onnx__attribute_proto__descriptor), ML_ERR_FORMAT);
	assert_said("malformed list of numbers");
	assert_int_equal(cx.diags.count, 3);
}

static void
test_errors_name_the_place(void **state)
{
	msg model = new_msg(), graph = new_msg(), node = new_msg();

	(void)state;
	put_tag(&node, NODE_NAME, 2);
	put_varint(&node, 9);
	put_msg(&graph, GRAPH_NODE, node);
	put_msg(&model, MODEL_GRAPH, graph);
	assert_int_equal(scan(model, &onnx__model_proto__descriptor), ML_ERR_FORMAT);
	assert_said("byte 4 in graph.node: length runs past the end of the enclosing message");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_payloads_become_places),  TEST(test_run_of_single_elements),
		TEST(test_places_cannot_be_forged), TEST(test_unknown_fields_are_left_out),
		TEST(test_too_many_pieces),         TEST(test_depth),
		TEST(test_wrong_wire_type),         TEST(test_message_given_twice),
		TEST(test_malformed_content),       TEST(test_errors_name_the_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
