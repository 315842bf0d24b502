/* test_tensor_pb.c -- serialised TensorProtos: every spelling of the data, and broken ones. */
#include "scratch.h"
#include "tools/data/tensor_pb.h"

#define READ(s, bytes, a) read_bytes(s, bytes, sizeof(bytes) - 1, a)

static int
read_bytes(scratch *s, const char *bytes, size_t size, md_array *a)
{
	return md_tensor_read(scratch_write(s, "t.pb", bytes, size), a, WHY(s));
}

static void
test_raw_data(void **state)
{
	/* dims 2, 1 packed; FLOAT; name "ab"; raw_data 1.0, -2.0 */
	static const char bytes[] = "\x0a\x02\x02\x01\x10\x01\x42\x02"
				    "ab\x4a\x08\x00\x00\x80\x3f\x00\x00\x00\xc0";
	scratch *s = *state;
	md_array a;

	assert_int_equal(READ(s, bytes, &a), 0);
	assert_string_equal(a.name, "ab");
	assert_int_equal(a.dtype, MD_F32);
	assert_int_equal(a.rank, 2);
	assert_int_equal(a.dim[0], 2);
	assert_int_equal(a.dim[1], 1);
	assert_memory_equal(a.data, ((float[]){1, -2}), 8);
	md_array_clear(&a);
}

static void
assert_reads(scratch *s, const char *bytes, size_t size, md_dtype dtype, const void *data,
	     size_t data_size)
{
	md_array a;

	if (read_bytes(s, bytes, size, &a))
		fail_msg("%s", s->why);
	assert_int_equal(a.dtype, dtype);
	assert_int_equal(a.bytes, data_size);
	assert_memory_equal(a.data, data, data_size);
	md_array_clear(&a);
}

#define ASSERT_READS(s, bytes, dtype, type, ...)                                                   \
	assert_reads(s, bytes, sizeof(bytes) - 1, dtype, (type[]){__VA_ARGS__},                    \
		     sizeof((type[]){__VA_ARGS__}))

static void
test_typed_fields(void **state)
{
	scratch *s = *state;

	/* float_data packed, then unpacked */
	ASSERT_READS(s, "\x08\x02\x10\x01\x22\x08\0\0\x80\x3f\0\0\0\x40", MD_F32, float, 1, 2);
	ASSERT_READS(s, "\x08\x02\x10\x01\x25\0\0\x80\x3f\x25\0\0\0\x40", MD_F32, float, 1, 2);
	/* a packed list in two pieces */
	ASSERT_READS(s, "\x08\x03\x10\x06\x2a\x02\x01\x02\x2a\x01\x03", MD_I32, int32_t, 1, 2, 3);
	/* int32_data holds the small types, -1 as ten bytes */
	ASSERT_READS(s, "\x08\x01\x10\x03\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", MD_I8,
		     int8_t, -1);
	ASSERT_READS(s, "\x08\x01\x10\x0a\x28\x80\x78", MD_F16, uint16_t, 0x3c00);
	ASSERT_READS(s, "\x08\x01\x10\x10\x28\x80\x7f", MD_BF16, uint16_t, 0x3f80);
	ASSERT_READS(s, "\x08\x02\x10\x09\x2a\x02\x00\x05", MD_BOOL, uint8_t, 0, 1);
	ASSERT_READS(s, "\x08\x01\x10\x07\x3a\x01\x07", MD_I64, int64_t, 7);
	ASSERT_READS(s, "\x08\x01\x10\x0c\x5a\x01\x09", MD_U32, uint32_t, 9);
	ASSERT_READS(s, "\x08\x01\x10\x0d\x5a\x01\x09", MD_U64, uint64_t, 9);
	ASSERT_READS(s, "\x08\x01\x10\x0b\x52\x08\0\0\0\0\0\0\x04\x40", MD_F64, double, 2.5);
	/* doc_string and metadata are passed over */
	ASSERT_READS(s, "\x62\x02hi\x82\x01\x00\x10\x07\x38\x07", MD_I64, int64_t, 7);
}

static void
test_empty_tensors(void **state)
{
	scratch *s = *state;
	md_array a;

	assert_int_equal(READ(s, "\x08\x00\x10\x01", &a), 0);
	assert_int_equal(a.bytes, 0);
	assert_int_equal(a.dim[0], 0);
	md_array_clear(&a);
	assert_int_equal(READ(s, "\x08\x00\x10\x01\x4a\x00", &a), 0);
	md_array_clear(&a);
}

static void
test_refused(void **state)
{
#define ROW(bytes, message) {bytes, sizeof(bytes) - 1, message}
	static const struct {
		const char *bytes;
		size_t size;
		const char *message;
	} row[] = {
		ROW("", "ONNX data type 0 is not supported"),
		ROW("\x10\x08", "strings are not supported"),
		ROW("\x10\x0e", "complex numbers are not supported"),
		ROW("\x10\x11", "ONNX data type 17 is not supported"),
		ROW("\x08\x01\x10\x01\x70\x01", "external data is not supported"),
		ROW("\x08\x01\x10\x01\x6a\x00", "external data is not supported"),
		ROW("\x08\x01\x10\x01\x1a\x00", "segmented tensors are not supported"),
		ROW("\x08\x02\x10\x01\x4a\x04\0\0\0\0",
		    "raw_data has 4 bytes, the dims and type ask for 8"),
		ROW("\x08\x01\x10\x01\x4a\x04\0\0\0\0\x25\0\0\0\0",
		    "in raw_data and in a typed field"),
		ROW("\x08\x01\x10\x01\x25\0\0\0\0\x28\x01", "data in two typed fields"),
		ROW("\x08\x01\x10\x01\x28\x01", "field 5 does not hold data of type f32"),
		ROW("\x08\x01\x10\x07\x38\x01\x38\x02", "more elements than the dims say"),
		ROW("\x08\x02\x10\x07\x38\x01", "fewer elements than the dims say"),
		ROW("\x08\x01\x10\x07", "fewer elements than the dims say"),
		ROW("\x08\xff\xff\xff\xff\x0f\x10\x01", "fewer elements than the dims say"),
		ROW("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x01",
		    "dim 0 is negative: -1"),
		ROW("\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x10\x01",
		    "exceeds the address space"),
		ROW("\x0a\x21\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\x10"
		    "\x01",
		    "more than 32 dims"),
		ROW("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
		    "not a serialised"), /* 65 bits */
		ROW("\x08", "not a serialised"),
		ROW("\x08\x80", "not a serialised"),
		ROW("\x0a\x05\x01", "not a serialised"), /* too long */
		ROW("\x4a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		    "not a serialised"),                                       /* 2^64-1 */
		ROW("\x0a\x01\x80", "not a serialised"),                       /* cut varint */
		ROW("\x08\x02\x10\x01\x22\x05\0\0\0\0\0", "not a serialised"), /* 5 of 8 bytes */
		ROW("\x0d\0\0\0\0", "not a serialised"),                       /* dims as fixed32 */
		ROW("\x0b\x0c", "not a serialised"),                           /* a group */
		ROW("\x00\x00", "not a serialised"),                           /* field 0 */
		ROW("\x8a\x01\x00", "not a serialised"),                       /* field 17 */
		ROW("\x40\x01", "not a serialised"),                           /* name as number */
	};
	scratch *s = *state;

	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		md_array a;

		if (read_bytes(s, row[i].bytes, row[i].size, &a) == 0)
			fail_msg("row %zu accepted instead of: %s", i, row[i].message);
		assert_why_has(s, row[i].message);
		assert_why_has(s, "t.pb: ");
		assert_null(a.data);
	}
}

static void
test_round_trip_of_every_dtype(void **state)
{
	scratch *s = *state;
	const char *path = scratch_path(s, "a.pb");

	for (int dtype = 0; dtype < MD_DTYPE_COUNT; dtype++)
		for (int rank = 0; rank <= 2; rank++) {
			md_array a, b;

			assert_int_equal(md_array_init(&a, "some name", (md_dtype)dtype, rank,
						       (int64_t[]){3, 300}, WHY(s)),
					 0);
			for (size_t i = 0; i < a.bytes; i++)
				((unsigned char *)a.data)[i] =
					(unsigned char)(dtype == MD_BOOL ? i & 1 : i * 13 + 5);
			assert_int_equal(md_tensor_write(path, &a, WHY(s)), 0);
			assert_int_equal(md_tensor_read(path, &b, WHY(s)), 0);
			assert_string_equal(a.name, b.name);
			assert_int_equal(a.dtype, b.dtype);
			assert_int_equal(a.rank, b.rank);
			assert_memory_equal(a.dim, b.dim, sizeof a.dim);
			assert_memory_equal(a.data, b.data, a.bytes);
			md_array_clear(&a);
			md_array_clear(&b);
		}
}

static void
test_damage_is_survived(void **state)
{
	static const char good[] = "\x0a\x02\x02\x01\x10\x01\x42\x02"
				   "ab\x22\x08\x00\x00\x80\x3f\x00\x00\x00\xc0";
	scratch *s = *state;
	char bytes[sizeof good];
	md_array a;

	for (size_t n = 0; n + 1 < sizeof good; n++)
		assert_int_equal(read_bytes(s, good, n, &a), -1);
	memcpy(bytes, good, sizeof good);
	for (size_t i = 0; i + 1 < sizeof good; i++)
		for (int value = 0; value < 256; value++) {
			bytes[i] = (char)value;
			/* Whatever is accepted has a byte in the file for every element. */
			if (read_bytes(s, bytes, sizeof good - 1, &a) == 0) {
				assert_true(md_array_elements(&a) < (int64_t)sizeof good);
				md_array_clear(&a);
			}
			bytes[i] = good[i];
		}
}

/* The onnx package writes; needs it besides numpy. */
static void
test_against_onnx(void **state)
{
	static const char code[] =
		"import sys, numpy as np\n"
		"try:\n"
		"    from onnx import numpy_helper, TensorProto, helper\n"
		"except ImportError:\n"
		"    sys.exit(0)\n"
		"t = TensorProto()\n"
		"t.ParseFromString(open(sys.argv[1] + '/ours.pb', 'rb').read())\n"
		"assert t.name == 'x'\n"
		"assert numpy_helper.to_array(t).tolist() == [[1, 2], [3, 4]]\n"
		"t = helper.make_tensor('y', TensorProto.INT16, [3], [-5, 0, 300])\n"
		"open(sys.argv[1] + '/theirs.pb', 'wb').write(t.SerializeToString())\n";
	scratch *s = *state;
	const char *theirs = scratch_path(s, "theirs.pb");
	md_array a;

	assert_int_equal(md_array_init(&a, "x", MD_U16, 2, (int64_t[]){2, 2}, WHY(s)), 0);
	memcpy(a.data, (uint16_t[]){1, 2, 3, 4}, 8);
	assert_int_equal(md_tensor_write(scratch_path(s, "ours.pb"), &a, WHY(s)), 0);
	md_array_clear(&a);
	assert_true(scratch_python(s, code, s->folder));
	if (access(theirs, F_OK)) {
		fprintf(stderr, "SKIPPED: Python has no onnx; set MLOPT_PYTHON\n");
		skip();
	}
	assert_int_equal(md_tensor_read(theirs, &a, WHY(s)), 0);
	assert_string_equal(a.name, "y");
	assert_memory_equal(a.data, ((int16_t[]){-5, 0, 300}), 6);
	md_array_clear(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SCRATCH_TEST(test_raw_data),
		SCRATCH_TEST(test_typed_fields),
		SCRATCH_TEST(test_empty_tensors),
		SCRATCH_TEST(test_refused),
		SCRATCH_TEST(test_round_trip_of_every_dtype),
		SCRATCH_TEST(test_damage_is_survived),
		SCRATCH_TEST(test_against_onnx),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
