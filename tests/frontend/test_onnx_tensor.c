/* test_onnx_tensor.c -- every layout of tensor data, decoded or borrowed, and what does not fit. */
#include "harness_bytes.h"
#include <string.h>

enum {
	FLOAT = 1,
	UINT8,
	INT8,
	UINT16,
	INT16,
	INT32,
	INT64,
	STRING,
	BOOL,
	FLOAT16,
	DOUBLE,
	UINT32,
	UINT64,
	COMPLEX64,
	BFLOAT16 = 16,
	UINT4 = 21,
	INT4,
	FLOAT8E8M0 = 24,
	UINT2,
	INT2
};

static ml_onnx_model *model;

static msg
new_tensor(int type, int rank, const int64_t *dims)
{
	msg t = new_msg();

	put_int(&t, TENSOR_DATA_TYPE, type);
	for (int i = 0; i < rank; i++)
		put_int(&t, TENSOR_DIMS, dims[i]);
	return t;
}

static msg
new_vector(int type, int64_t n)
{
	return new_tensor(type, 1, &n);
}

/* Numbers as one packed field. */
static void
put_packed(msg *t, int field, int n, const int64_t *values)
{
	msg list = new_msg();

	for (int i = 0; i < n; i++)
		put_varint(&list, (uint64_t)values[i]);
	put_msg(t, field, list);
}

static ml_status
read_tensor(msg t, ml_onnx_tensor_view *view)
{
	assert_int_equal(open_msg(model_of_tensor(t), &model), ML_OK);
	ml_status status =
		ml_onnx_tensor(&cx, model, model->proto->graph->initializer[0], NULL, view);
	ml_onnx_close(model);
	return status;
}

static void
assert_reads(msg t, ml_dtype dtype, const void *bytes, size_t size)
{
	ml_onnx_tensor_view view;

	assert_int_equal(read_tensor(t, &view), ML_OK);
	assert_int_equal(view.dtype, dtype);
	assert_int_equal(view.bytes->size, size);
	if (size)
		assert_memory_equal(view.bytes->bytes, bytes, size);
	ml_blob_drop(view.bytes);
}

static void
assert_refused(msg t, ml_status expected, const char *text)
{
	ml_onnx_tensor_view view;

	assert_int_equal(read_tensor(t, &view), expected);
	assert_said(text);
}

static void
test_raw_is_borrowed(void **state)
{
	const float values[] = {1.5f, -2, 0};
	msg t = new_vector(FLOAT, 3), m;
	ml_onnx_tensor_view view;

	(void)state;
	put_bytes(&t, TENSOR_RAW_DATA, values, sizeof values);
	m = model_of_tensor(t);
	assert_int_equal(open_msg(m, &model), ML_OK);
	assert_int_equal(
		ml_onnx_tensor(&cx, model, model->proto->graph->initializer[0], NULL, &view),
		ML_OK);
	assert_int_equal(view.dtype, ML_f32);
	assert_int_equal(view.rank, 1);
	assert_int_equal(view.dims[0], 3);
	assert_int_equal(view.count, 3);
	ml_onnx_close(model);
	const char *bytes = view.bytes->bytes; /* still those of the message, not a copy */
	assert_true(bytes > m.at && bytes + sizeof values <= m.at + m.length);
	assert_memory_equal(bytes, values, sizeof values);
	ml_blob_drop(view.bytes);
}

static void
test_raw_of_every_type(void **state)
{
	static const struct {
		int type;
		ml_dtype dtype;
		size_t size;
	} types[] = {{FLOAT, ML_f32, 4},    {UINT8, ML_u8, 1},   {INT8, ML_s8, 1},
		     {UINT16, ML_u16, 2},   {INT16, ML_s16, 2},  {INT32, ML_s32, 4},
		     {INT64, ML_s64, 8},    {BOOL, ML_bool, 1},  {FLOAT16, ML_f16, 2},
		     {DOUBLE, ML_f64, 8},   {UINT32, ML_u32, 4}, {UINT64, ML_u64, 8},
		     {BFLOAT16, ML_bf16, 2}};
	const char bytes[16] = {1, 0, 1, 0, 0, 1, 1, 0, 1};

	(void)state;
	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		msg t = new_vector(types[i].type, 2);
		put_bytes(&t, TENSOR_RAW_DATA, bytes, 2 * types[i].size);
		assert_reads(t, types[i].dtype, bytes, 2 * types[i].size);
		put_bytes(&t, TENSOR_RAW_DATA, bytes, 2 * types[i].size);
		assert_refused(t, ML_ERR_FORMAT, "its data is given twice");
	}
}

static void
test_floats(void **state)
{
	const float f[] = {1, -0.5f, 3e38f};
	const double d[] = {1, -0.5, 1e300};
	msg packed = new_vector(FLOAT, 3), split = new_vector(FLOAT, 3);
	msg single = new_vector(FLOAT, 3), doubles = new_vector(DOUBLE, 3);

	(void)state;
	put_bytes(&packed, TENSOR_FLOAT_DATA, f, sizeof f);
	assert_reads(packed, ML_f32, f, sizeof f);
	put_bytes(&split, TENSOR_FLOAT_DATA, f, 8);
	put_bytes(&split, TENSOR_FLOAT_DATA, f + 2, 4);
	assert_reads(split, ML_f32, f, sizeof f);
	for (int i = 0; i < 3; i++) {
		put_tag(&single, TENSOR_FLOAT_DATA, 5);
		ml_put_bytes(&single, (const char *)&f[i], 4);
	}
	assert_reads(single, ML_f32, f, sizeof f);
	put_bytes(&doubles, TENSOR_DOUBLE_DATA, d, sizeof d);
	assert_reads(doubles, ML_f64, d, sizeof d);
}

static void
test_integers(void **state)
{
	const int64_t s64[] = {-1, INT64_MIN, 5}, small[] = {-1, 127, -128};
	const int64_t unsigneds[] = {0, 255, 65535}, u32[] = {0, 1, 0xffffffff};
	const int64_t bools[] = {0, 1, 7};
	msg t = new_vector(INT64, 3);

	(void)state;
	put_packed(&t, TENSOR_INT64_DATA, 3, s64);
	assert_reads(t, ML_s64, s64, sizeof s64);
	t = new_vector(INT64, 3);
	for (int i = 0; i < 3; i++)
		put_int(&t, TENSOR_INT64_DATA, s64[i]);
	assert_reads(t, ML_s64, s64, sizeof s64);
	t = new_vector(INT32, 3);
	put_packed(&t, TENSOR_INT32_DATA, 3, small);
	assert_reads(t, ML_s32, (int32_t[]){-1, 127, -128}, 12);
	t = new_vector(INT8, 3);
	put_packed(&t, TENSOR_INT32_DATA, 2, small);
	put_int(&t, TENSOR_INT32_DATA, small[2]); /* packed and single, as protobuf allows */
	assert_reads(t, ML_s8, (int8_t[]){-1, 127, -128}, 3);
	t = new_vector(INT16, 3);
	put_packed(&t, TENSOR_INT32_DATA, 3, small);
	assert_reads(t, ML_s16, (int16_t[]){-1, 127, -128}, 6);
	t = new_vector(UINT8, 3);
	put_packed(&t, TENSOR_INT32_DATA, 3, unsigneds);
	assert_reads(t, ML_u8, (uint8_t[]){0, 255, 255}, 3);
	t = new_vector(UINT16, 3);
	put_packed(&t, TENSOR_INT32_DATA, 3, unsigneds);
	assert_reads(t, ML_u16, (uint16_t[]){0, 255, 65535}, 6);
	t = new_vector(UINT32, 3);
	put_packed(&t, TENSOR_UINT64_DATA, 3, u32);
	assert_reads(t, ML_u32, (uint32_t[]){0, 1, 0xffffffff}, 12);
	t = new_vector(UINT64, 3);
	put_packed(&t, TENSOR_UINT64_DATA, 3, s64);
	assert_reads(t, ML_u64, s64, sizeof s64);
	t = new_vector(BOOL, 3);
	put_packed(&t, TENSOR_INT32_DATA, 3, bools);
	assert_reads(t, ML_bool, "\0\1\1", 3);
}

static void
test_sixteen_bit_floats(void **state)
{
	const int64_t bits[] = {0x3c00, 0xc000};
	const int types[] = {FLOAT16, BFLOAT16};

	(void)state;
	for (int i = 0; i < 2; i++) {
		msg t = new_vector(types[i], 2);
		put_packed(&t, TENSOR_INT32_DATA, 2, bits);
		assert_reads(t, i ? ML_bf16 : ML_f16, (uint16_t[]){0x3c00, 0xc000}, 4);
	}
}

/* A third truth value would let compiled code take neither branch. */
static void
test_raw_bools_become_0_or_1(void **state)
{
	msg t = new_vector(BOOL, 4);

	(void)state;
	put_bytes(&t, TENSOR_RAW_DATA, "\0\1\2\xff", 4);
	assert_reads(t, ML_bool, "\0\1\1\1", 4);
}

static void
test_four_bits(void **state)
{
	const int64_t pairs[] = {0x80, 0x0f};

	(void)state;
	for (int64_t n = 3; n <= 4; n++) {
		msg s4 = new_vector(INT4, n), u4 = new_vector(UINT4, n);
		msg typed = new_vector(INT4, n);
		put_bytes(&s4, TENSOR_RAW_DATA, "\x80\x0f", 2);
		assert_reads(s4, ML_s4, (int8_t[]){0, -8, -1, 0}, (size_t)n);
		put_bytes(&u4, TENSOR_RAW_DATA, "\x80\x0f", 2);
		assert_reads(u4, ML_u4, (uint8_t[]){0, 8, 15, 0}, (size_t)n);
		put_packed(&typed, TENSOR_INT32_DATA, 2, pairs);
		assert_reads(typed, ML_s4, (int8_t[]){0, -8, -1, 0}, (size_t)n);
	}
}

static void
test_two_bits(void **state)
{
	(void)state;
	for (int64_t n = 5; n <= 8; n++) {
		msg s2 = new_vector(INT2, n), u2 = new_vector(UINT2, n);
		put_bytes(&s2, TENSOR_RAW_DATA, "\x1b\x2d", 2);
		assert_reads(s2, ML_s2, (int8_t[]){-1, -2, 1, 0, 1, -1, -2, 0}, (size_t)n);
		put_bytes(&u2, TENSOR_RAW_DATA, "\x1b\x2d", 2);
		assert_reads(u2, ML_u2, (uint8_t[]){3, 2, 1, 0, 1, 3, 2, 0}, (size_t)n);
	}
}

static void
test_scalars_and_empty(void **state)
{
	const int64_t hole[] = {INT64_MAX, 0, INT64_MAX};
	const float one = 1;
	msg scalar = new_tensor(FLOAT, 0, NULL);

	(void)state;
	put_bytes(&scalar, TENSOR_RAW_DATA, &one, 4);
	assert_reads(scalar, ML_f32, &one, 4);
	assert_reads(new_vector(FLOAT, 0), ML_f32, NULL, 0);
	assert_reads(new_tensor(INT64, 3, hole), ML_s64, NULL, 0);
}

static void
test_sizes_that_do_not_fit(void **state)
{
	const int64_t wraps[] = {(int64_t)1 << 32, (int64_t)1 << 32};
	const int64_t negative[] = {-1}, huge[] = {INT64_MAX};
	msg t = new_vector(FLOAT, 3);

	(void)state;
	assert_refused(new_vector(FLOAT, 3), ML_ERR_FORMAT,
		       "tensor 'w': its shape has 3 elements, but there is no data");
	put_bytes(&t, TENSOR_RAW_DATA, "0123456789abcdef", 16);
	assert_refused(t, ML_ERR_FORMAT, "its shape needs 12 bytes, the data has 16");
	t = new_vector(FLOAT, 3);
	put_bytes(&t, TENSOR_FLOAT_DATA, "01234567", 8);
	assert_refused(t, ML_ERR_FORMAT, "its shape needs 12 bytes, the data has 8");
	t = new_vector(FLOAT, 3);
	put_bytes(&t, TENSOR_FLOAT_DATA, "01234567", 8);
	put_bytes(&t, TENSOR_FLOAT_DATA, "0123456", 7);
	assert_refused(t, ML_ERR_FORMAT, "more elements than its shape, or malformed ones");
	t = new_vector(INT64, 3);
	put_bytes(&t, TENSOR_INT64_DATA, "\1\2\3\4", 4);
	assert_refused(t, ML_ERR_FORMAT, "it has more elements than its shape");
	t = new_vector(INT64, 3);
	put_bytes(&t, TENSOR_INT64_DATA, "\1\xff\1", 3);
	assert_refused(t, ML_ERR_FORMAT, "it has fewer elements than its shape");
	t = new_vector(INT64, 3);
	put_bytes(&t, TENSOR_INT64_DATA, "\1\1\x80", 3);
	assert_refused(t, ML_ERR_FORMAT, "malformed ones");
	t = new_tensor(FLOAT, 2, wraps);
	put_bytes(&t, TENSOR_RAW_DATA, "0123", 4);
	assert_refused(t, ML_ERR_FORMAT, "a dim is negative or their product overflows");
	assert_refused(new_tensor(FLOAT, 1, negative), ML_ERR_FORMAT, "a dim is negative");
	assert_refused(new_tensor(FLOAT, 1, huge), ML_ERR_FORMAT, "its size overflows");
	/* Terabytes are not allocated before the data is seen to be there. */
	t = new_vector(INT32, (int64_t)1 << 40);
	put_bytes(&t, TENSOR_INT32_DATA, "\1\2", 2);
	assert_refused(t, ML_ERR_FORMAT, "it has fewer elements than its shape");
}

static void
test_types_that_do_not_fit(void **state)
{
	msg t = new_vector(INT64, 1), segment = new_msg();

	(void)state;
	put_bytes(&t, TENSOR_FLOAT_DATA, "0123", 4);
	assert_refused(t, ML_ERR_FORMAT, "its data is in a field that type s64 does not use");
	put_bytes(&t, TENSOR_INT64_DATA, "\1", 1);
	assert_refused(t, ML_ERR_FORMAT, "its data is given twice");
	assert_refused(new_vector(0, 1), ML_ERR_FORMAT, "0 is no element type");
	assert_refused(new_vector(-5, 1), ML_ERR_FORMAT, "-5 is no element type");
	assert_refused(new_vector(99, 1), ML_ERR_FORMAT, "99 is no element type");
	assert_refused(new_vector(STRING, 1), ML_ERR_UNSUPPORTED,
		       "element type string is not supported");
	assert_refused(new_vector(COMPLEX64, 1), ML_ERR_UNSUPPORTED, "complex64");
	assert_refused(new_vector(FLOAT8E8M0, 1), ML_ERR_UNSUPPORTED, "float8e8m0");
	t = new_vector(FLOAT, 1);
	put_bytes(&t, 6, "text", 4);
	assert_refused(t, ML_ERR_FORMAT, "it holds strings");
	t = new_vector(FLOAT, 1);
	put_int(&segment, 1, 0);
	put_msg(&t, TENSOR_SEGMENT, segment);
	assert_refused(t, ML_ERR_UNSUPPORTED, "tensors in segments are not supported");
}

static void
test_dtype_numbers(void **state)
{
	ml_dtype dtype;

	(void)state;
	assert_int_equal(ml_onnx_dtype(FLOAT, &dtype), ML_OK);
	assert_int_equal(dtype, ML_f32);
	assert_int_equal(ml_onnx_dtype(BFLOAT16, &dtype), ML_OK);
	assert_int_equal(dtype, ML_bf16);
	assert_int_equal(ml_onnx_dtype(STRING, &dtype), ML_ERR_UNSUPPORTED);
	assert_int_equal(ml_onnx_dtype(INT4, &dtype), ML_OK);
	assert_int_equal(dtype, ML_s4);
	assert_int_equal(ml_onnx_dtype(FLOAT8E8M0, &dtype), ML_ERR_UNSUPPORTED);
	assert_int_equal(dtype, ML_none);
	assert_int_equal(ml_onnx_dtype(0, &dtype), ML_ERR_FORMAT);
	assert_int_equal(ml_onnx_dtype(-1, &dtype), ML_ERR_FORMAT);
	assert_int_equal(ml_onnx_dtype(29, &dtype), ML_ERR_FORMAT);
	assert_string_equal(ml_onnx_dtype_name(FLOAT), "f32");
	assert_string_equal(ml_onnx_dtype_name(28), "float6e3m2");
	assert_string_equal(ml_onnx_dtype_name(29), "undefined");
	assert_string_equal(ml_onnx_dtype_name(-1), "undefined");
}

/* A model with the sparse initializer, indices as `rank` says: linear or rows of two. */
static ml_status
read_sparse(int values, int rank, const int64_t *index, ml_onnx_tensor_view *view)
{
	const float value[] = {1, 2, 3};
	const int64_t shape[] = {values, 2};
	msg sparse = new_msg(), graph = new_msg();
	msg v = new_vector(FLOAT, values), i = new_tensor(INT64, rank, shape);

	put_bytes(&v, TENSOR_RAW_DATA, value, (size_t)values * 4);
	put_string(&v, TENSOR_NAME, "w");
	put_bytes(&i, TENSOR_RAW_DATA, index, (size_t)(values * rank * 8));
	put_msg(&sparse, 1, v);
	put_msg(&sparse, 2, i);
	put_int(&sparse, 3, 2);
	put_int(&sparse, 3, 3);
	put_msg(&graph, 15, sparse);
	put_value(&graph, GRAPH_OUTPUT, "w");
	assert_int_equal(open_msg(new_model(graph), &model), ML_OK);
	ml_status status = ml_onnx_sparse_tensor(
		&cx, model, model->proto->graph->sparse_initializer[0], NULL, view);
	ml_onnx_close(model);
	return status;
}

static void
test_sparse(void **state)
{
	const int64_t linear[] = {0, 4, 5}, rows[] = {0, 0, 1, 1, 1, 2};
	const float dense[] = {1, 0, 0, 0, 2, 3};
	ml_onnx_tensor_view view;

	(void)state;
	for (int rank = 1; rank <= 2; rank++) {
		assert_int_equal(read_sparse(3, rank, rank == 1 ? linear : rows, &view), ML_OK);
		assert_int_equal(view.rank, 2);
		assert_int_equal(view.count, 6);
		assert_memory_equal(view.bytes->bytes, dense, sizeof dense);
		ml_blob_drop(view.bytes);
	}
	assert_int_equal(read_sparse(0, 1, linear, &view), ML_OK);
	assert_int_equal(view.bytes->size, 24);
	ml_blob_drop(view.bytes);
	assert_int_equal(read_sparse(1, 1, (int64_t[]){6}, &view), ML_ERR_FORMAT);
	assert_int_equal(read_sparse(1, 1, (int64_t[]){-1}, &view), ML_ERR_FORMAT);
	assert_int_equal(read_sparse(1, 2, (int64_t[]){0, 3}, &view), ML_ERR_FORMAT);
	assert_said("tensor 'w': an index is out of range");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_raw_is_borrowed),
		TEST(test_raw_of_every_type),
		TEST(test_floats),
		TEST(test_integers),
		TEST(test_sixteen_bit_floats),
		TEST(test_raw_bools_become_0_or_1),
		TEST(test_four_bits),
		TEST(test_two_bits),
		TEST(test_scalars_and_empty),
		TEST(test_sizes_that_do_not_fit),
		TEST(test_types_that_do_not_fit),
		TEST(test_dtype_numbers),
		TEST(test_sparse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
