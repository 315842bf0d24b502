/* test_external.c -- what external_data may say, and what is made of it. */
#include "harness_bytes.h"
#include "harness_folder.h"
#include <string.h>

static int
setup_folder(void **state)
{
	open_folder();
	write_file("w.bin", "0123456789abcdef", 16);
	return setup(state);
}

static int
teardown_folder(void **state)
{
	remove_folder();
	return teardown(state);
}

static void
put_entry(msg *tensor, const char *key, const char *value)
{
	msg entry = new_msg();

	put_string(&entry, 1, key);
	put_string(&entry, 2, value);
	put_msg(tensor, TENSOR_EXTERNAL_DATA, entry);
}

/* An external u8 tensor of n elements with key, value, ..., NULL. */
static msg
external_tensor(int n, const char *const *entries)
{
	msg t = new_msg();

	put_int(&t, TENSOR_DATA_TYPE, 2);
	put_int(&t, TENSOR_DIMS, n);
	put_int(&t, TENSOR_DATA_LOCATION, 1);
	for (; *entries; entries += 2)
		put_entry(&t, entries[0], entries[1]);
	return t;
}
#define ENTRIES(...) ((const char *const[]){__VA_ARGS__, NULL})

static ml_status
read_from(const char *dir, msg tensor, ml_onnx_tensor_view *view)
{
	msg model = model_of_tensor(tensor);
	ml_onnx_model *m;

	assert_int_equal(ml_onnx_open_bytes(&cx, model.at, model.length, dir, &m), ML_OK);
	ml_status status = ml_onnx_tensor(&cx, m, m->proto->graph->initializer[0], NULL, view);
	ml_onnx_close(m); /* blobs live on */
	return status;
}

static void
assert_reads(msg tensor, const char *content)
{
	ml_onnx_tensor_view view;

	assert_int_equal(read_from(folder, tensor, &view), ML_OK);
	assert_int_equal(view.bytes->size, strlen(content));
	assert_memory_equal(view.bytes->bytes, content, strlen(content));
	ml_blob_drop(view.bytes);
}

static void
assert_refused(msg tensor, ml_status expected, const char *text)
{
	ml_onnx_tensor_view view;

	assert_int_equal(read_from(folder, tensor, &view), expected);
	assert_said(text);
}

static void
test_places(void **state)
{
	(void)state;
	assert_reads(external_tensor(16, ENTRIES("location", "w.bin")), "0123456789abcdef");
	assert_reads(external_tensor(4, ENTRIES("location", "w.bin", "offset", "2", "length", "4",
						"checksum", "none", "of our business", "")),
		     "2345");
	assert_reads(external_tensor(1, ENTRIES("location", "w.bin", "offset", "15")), "f");
	assert_reads(external_tensor(0, ENTRIES("location", "w.bin", "offset", "16")), "");
}

static void
test_numbers(void **state)
{
	static const char *const bad[] = {"",    "-1",  "+1",  " 1",  "1 ",
					  "0x1", "1e3", "nan", "1.0", "18446744073709551616"};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_refused(external_tensor(1, ENTRIES("location", "w.bin", "offset", bad[i])),
			       ML_ERR_FORMAT, "offset or length is not a decimal number");
		assert_refused(external_tensor(1, ENTRIES("location", "w.bin", "length", bad[i])),
			       ML_ERR_FORMAT, "offset or length is not a decimal number");
	}
}

static void
test_bounds(void **state)
{
	(void)state;
	assert_refused(external_tensor(17, ENTRIES("location", "w.bin")), ML_ERR_FORMAT,
		       "17 bytes from 0 on are wanted, the file has 16");
	assert_refused(external_tensor(1, ENTRIES("location", "w.bin", "offset", "16")),
		       ML_ERR_FORMAT, "1 bytes from 16 on are wanted, the file has 16");
	assert_refused(
		external_tensor(2, ENTRIES("location", "w.bin", "offset", "18446744073709551615")),
		ML_ERR_FORMAT, "2 bytes from 18446744073709551615 on are wanted");
	assert_refused(external_tensor(4, ENTRIES("location", "w.bin", "length", "8")),
		       ML_ERR_FORMAT, "its shape needs 4 bytes, length says 8");
}

static void
test_entries(void **state)
{
	(void)state;
	assert_refused(external_tensor(1, ENTRIES("offset", "0")), ML_ERR_FORMAT,
		       "it has no location");
	assert_refused(external_tensor(1, ENTRIES("location", "w.bin", "location", "w.bin")),
		       ML_ERR_FORMAT, "a key is given twice");
	assert_refused(external_tensor(1, ENTRIES("location", "../w.bin")), ML_ERR_IO,
		       "external data of tensor 'w' in '../w.bin': the path leaves");
	assert_said("hint: external data must be a regular file");
	msg both = external_tensor(1, ENTRIES("location", "w.bin"));
	put_bytes(&both, TENSOR_RAW_DATA, "x", 1);
	assert_refused(both, ML_ERR_FORMAT, "its data is both in the model and external");
}

static void
test_bytes_without_directory(void **state)
{
	ml_onnx_tensor_view view;
	msg tensor = external_tensor(1, ENTRIES("location", "w.bin"));

	(void)state;
	assert_int_equal(read_from(NULL, tensor, &view), ML_ERR_ARG);
	assert_said("the model was given as bytes, without a directory to look in");
}

static void
test_directory_of_the_path(void **state)
{
	msg model = model_of_tensor(external_tensor(2, ENTRIES("location", "w.bin")));
	ml_onnx_tensor_view first, second;
	ml_onnx_model *m;

	(void)state;
	write_file("m.onnx", model.at, model.length);
	assert_int_equal(ml_onnx_open(&cx, in_folder("m.onnx"), &m), ML_OK);
	const Onnx__TensorProto *t = m->proto->graph->initializer[0];
	assert_int_equal(ml_onnx_tensor(&cx, m, t, NULL, &first), ML_OK);
	assert_int_equal(ml_onnx_tensor(&cx, m, t, NULL, &second), ML_OK);
	assert_ptr_equal(first.bytes->bytes, second.bytes->bytes); /* mapped once */
	ml_onnx_close(m);
	assert_memory_equal(first.bytes->bytes, "01", 2);
	ml_blob_drop(first.bytes);
	ml_blob_drop(second.bytes);
}

int
main(void)
{
#define IN_FOLDER(function) cmocka_unit_test_setup_teardown(function, setup_folder, teardown_folder)
	const struct CMUnitTest tests[] = {
		IN_FOLDER(test_places),
		IN_FOLDER(test_numbers),
		IN_FOLDER(test_bounds),
		IN_FOLDER(test_entries),
		IN_FOLDER(test_bytes_without_directory),
		IN_FOLDER(test_directory_of_the_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
