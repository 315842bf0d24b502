/* test_wire.c -- every way a protobuf field can be malformed. */
#include "harness_bytes.h"
#include "frontend/wire.h"
#include <string.h>

static bool
read_varint(const char *bytes, size_t n, uint64_t *value, size_t *used)
{
	ml_wire w = {(const uint8_t *)bytes, (const uint8_t *)bytes + n};
	bool ok = ml_wire_varint(&w, value);

	*used = (size_t)(w.at - (const uint8_t *)bytes);
	return ok;
}

static void
test_varint(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		bool ok;
		uint64_t value;
	} cases[] = {
		{"\x00", 1, true, 0},
		{"\x7f", 1, true, 127},
		{"\xac\x02", 2, true, 300},
		{"\xac\x02zz", 4, true, 300},
		{"\x80\x80\x00", 3, true, 0}, /* longer than needed, but allowed */
		{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10, true, UINT64_MAX},
		{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10, false, 0}, /* 65 bits */
		{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, false, 0},
		{"\x80", 1, false, 0},
		{"", 0, false, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t value = 0;
		size_t used;
		assert_int_equal(read_varint(cases[i].bytes, cases[i].n, &value, &used),
				 cases[i].ok);
		assert_int_equal(value, cases[i].value);
		if (!cases[i].ok)
			assert_int_equal(used, 0);
	}
}

static const char *
read_field(const char *bytes, size_t n, ml_wire_field *f)
{
	ml_wire w = {(const uint8_t *)bytes, (const uint8_t *)bytes + n};
	const char *wrong = ml_wire_next(&w, f);

	if (!wrong)
		assert_ptr_equal(w.at, f->after);
	return wrong;
}

static void
test_fields(void **state)
{
	ml_wire_field f;

	(void)state;
	assert_null(read_field("\x08\x96\x01", 3, &f));
	assert_int_equal(f.number, 1);
	assert_int_equal(f.type, ML_WIRE_VARINT);
	assert_int_equal(f.varint, 150);
	assert_null(read_field("\x12\x03"
			       "abcd",
			       6, &f));
	assert_int_equal(f.number, 2);
	assert_int_equal(f.type, ML_WIRE_BYTES);
	assert_memory_equal(f.value, "abc", 3);
	assert_int_equal(f.after - f.value, 3);
	assert_null(read_field("\x1d"
			       "1234",
			       5, &f));
	assert_int_equal(f.type, ML_WIRE_32);
	assert_memory_equal(f.value, "1234", 4);
	assert_null(read_field("\x21"
			       "12345678",
			       9, &f));
	assert_int_equal(f.type, ML_WIRE_64);
	assert_null(read_field("\x12\x00", 2, &f));
	assert_ptr_equal(f.value, f.after);
	assert_null(read_field("\xf8\xff\xff\xff\x0f\x01", 6, &f));
	assert_int_equal(f.number, (1 << 29) - 1);
}

static void
test_malformed_fields(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		const char *wrong;
	} cases[] = {
		{"\x80", 1, "malformed field tag"},
		{"\x00\x01", 2, "field number out of range"},
		{"\x80\x80\x80\x80\x10\x01", 6, "field number out of range"},
		{"\x0b", 1, "wire type that ONNX does not use"}, /* group begin */
		{"\x0c", 1, "wire type that ONNX does not use"}, /* group end */
		{"\x0e", 1, "wire type that ONNX does not use"},
		{"\x0f", 1, "wire type that ONNX does not use"},
		{"\x08", 1, "malformed integer"},
		{"\x08\x80", 2, "malformed integer"},
		{"\x12", 1, "malformed length"},
		{"\x12\x80", 2, "malformed length"},
		{"\x12\x03"
		 "ab",
		 4, "length runs past the end of the enclosing message"},
		{"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11,
		 "length runs past the end of the enclosing message"},
		{"\x1d"
		 "123",
		 4, "length runs past the end of the enclosing message"},
		{"\x21"
		 "1234567",
		 8, "length runs past the end of the enclosing message"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		ml_wire_field f;
		const char *wrong = read_field(cases[i].bytes, cases[i].n, &f);
		assert_non_null(wrong);
		assert_string_equal(wrong, cases[i].wrong);
		assert_ptr_equal(f.tag, cases[i].bytes);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_varint),
		TEST(test_fields),
		TEST(test_malformed_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
