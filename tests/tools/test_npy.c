/* test_npy.c -- .npy files as numpy writes them, as we write them, and broken ones. */
#include "scratch.h"
#include "tools/data/npy.h"

/* A file of version 1 with this header text and these bytes of data. */
static const char *
make_npy(scratch *s, const char *text, const void *data, size_t size)
{
	unsigned char file[1024] = "\x93NUMPY\x01";
	size_t n = strlen(text);

	assert_true(10 + n + size <= sizeof file);
	file[8] = (unsigned char)n;
	file[9] = (unsigned char)(n >> 8);
	memcpy(file + 10, text, n);
	if (size)
		memcpy(file + 10 + n, data, size);
	return scratch_write(s, "x.npy", file, 10 + n + size);
}

static md_array
read_good(scratch *s, const char *path)
{
	md_array a;

	if (md_npy_read(path, "x", &a, WHY(s)))
		fail_msg("%s", s->why);
	return a;
}

/* Written by numpy.save. */
static void
test_numpy_f32(void **state)
{
	static const char file[] =
		"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
		"                                                          \n"
		"\x00\x00\x80?\x00\x00\x00@\x00\x00@@\x00\x00\x80@\x00\x00\xa0@\x00\x00\xc0@";
	scratch *s = *state;
	md_array a = read_good(s, scratch_write(s, "a.npy", file, sizeof file - 1));

	assert_string_equal(a.name, "x");
	assert_int_equal(a.dtype, MD_F32);
	assert_int_equal(a.rank, 2);
	assert_int_equal(a.dim[0], 2);
	assert_int_equal(a.dim[1], 3);
	assert_memory_equal(a.data, ((float[]){1, 2, 3, 4, 5, 6}), 24);
	md_array_clear(&a);
}

/* Written by numpy.lib.format.write_array(version=(2, 0)). */
static void
test_numpy_version_2_big_endian(void **state)
{
	static const char file[] =
		"\x93NUMPY\x02\x00t\x00\x00\x00{'descr': '>i4', 'fortran_order': "
		"False, 'shape': (2,), }"
		"                                                          \n"
		"\x00\x00\x00\x01\xff\xff\xff\xfe";
	scratch *s = *state;
	md_array a = read_good(s, scratch_write(s, "a.npy", file, sizeof file - 1));

	assert_int_equal(a.dtype, MD_I32);
	assert_memory_equal(a.data, ((int32_t[]){1, -2}), 8);
	md_array_clear(&a);
}

/* Written by numpy.lib.format.write_array(version=(3, 0)). */
static void
test_numpy_version_3_scalar(void **state)
{
	static const char file[] = "\x93NUMPY\x03\x00t\x00\x00\x00{'descr': '<f8', "
				   "'fortran_order': False, 'shape': (), }"
				   "                                                            \n"
				   "\x00\x00\x00\x00\x00\x00\x04@";
	scratch *s = *state;
	md_array a = read_good(s, scratch_write(s, "a.npy", file, sizeof file - 1));

	assert_int_equal(a.rank, 0);
	assert_true(*(double *)a.data == 2.5);
	md_array_clear(&a);
}

/* numpy.arange(6).reshape(1, 2, 3) in fortran order. */
static void
test_fortran_order(void **state)
{
	scratch *s = *state;
	md_array a = read_good(
		s, make_npy(s, "{'descr': '<i2', 'fortran_order': True, 'shape': (1, 2, 3), }",
			    (int16_t[]){0, 3, 1, 4, 2, 5}, 12));

	assert_memory_equal(a.data, ((int16_t[]){0, 1, 2, 3, 4, 5}), 12);
	md_array_clear(&a);
}

static void
test_lenient_spellings(void **state)
{
	scratch *s = *state;
	md_array a = read_good(
		s, make_npy(s, "{\"shape\":(2L,1),\n'fortran_order':False,\"descr\":'|b1'}  \n",
			    "\x00\x80", 2));

	assert_int_equal(a.dtype, MD_BOOL);
	assert_memory_equal(a.data, "\x00\x01", 2); /* any other byte than 0 is true, as 1 */
	md_array_clear(&a);
}

static void
test_bf16_spellings(void **state)
{
	static const char *const descr[] = {"<V2", "|V2", "bfloat16"};
	scratch *s = *state;

	for (size_t i = 0; i < sizeof descr / sizeof *descr; i++) {
		char text[128];
		md_array a;

		snprintf(text, sizeof text,
			 "{'descr': '%s', 'fortran_order': False, 'shape': (1,), }", descr[i]);
		a = read_good(s, make_npy(s, text, "\x80\x3f", 2));
		assert_int_equal(a.dtype, MD_BF16);
		assert_int_equal(*(uint16_t *)a.data, 0x3f80);
		md_array_clear(&a);
	}
}

static void
test_empty_array(void **state)
{
	scratch *s = *state;
	md_array a = read_good(
		s, make_npy(s, "{'descr': '|u1', 'fortran_order': True, 'shape': (0, 3)}", "", 0));

	assert_int_equal(a.bytes, 0);
	assert_non_null(a.data);
	md_array_clear(&a);
}

#define HEAD "{'descr': '<f4', 'fortran_order': False, "

static void
test_headers_refused(void **state)
{
	static const struct {
		const char *text, *message;
	} row[] = {
		{HEAD "'shape': (1,), ", "expected '}'"},
		{HEAD "'shape': (1,), } x", "expected nothing after '}'"},
		{HEAD "'shape': (1), }", "expected ',' in a shape of one dim"},
		{HEAD "'shape': (1 1), }", "expected ',' or ')' in the shape"},
		{HEAD "'shape': (-1,), }", "expected a dim of 0 or more"},
		{HEAD "'shape': 1, }", "expected a shape tuple"},
		{HEAD "'shape': (1,), 'extra': 1}", "expected '}'"},
		{HEAD "'descr': '<f4', }", "expected each of descr"},
		{HEAD "'spahe': (1,), }", "expected each of descr"},
		{HEAD "'shap\\x65': (1,), }", "expected a short plain string"},
		{HEAD "shape: (1,), }", "expected a quoted string"},
		{HEAD "'shape", "expected a closing quote"},
		{HEAD "'shape' (1,), }", "expected ':'"},
		{HEAD "'shape': (99999999999999999999,), }", "a dim exceeds 63 bits"},
		{HEAD "'shape': (4611686018427387904, 4), }", "exceeds the address space"},
		{HEAD "'shape': (1000000000000,), }", "declares 4000000000000 bytes"},
		{HEAD "'shape': (2,), }", "declares 8 bytes of data, the file has 4"},
		{HEAD "'shape': (0,), }", "declares 0 bytes of data, the file has 4"},
		{HEAD
		 "'shape': (1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)}",
		 "more than 32 dims"},
		{"{'descr': '<c8', 'fortran_order': False, 'shape': ()}",
		 "complex numbers of numpy type '<c8' are not supported"},
		{"{'descr': '<U3', 'fortran_order': False, 'shape': ()}",
		 "strings of numpy type '<U3' are not supported"},
		{"{'descr': '|S4', 'fortran_order': False, 'shape': ()}",
		 "strings of numpy type '|S4'"},
		{"{'descr': '|O', 'fortran_order': False, 'shape': ()}", "pickled Python objects"},
		{"{'descr': '<M8[s]', 'fortran_order': False, 'shape': ()}", "dates of numpy type"},
		{"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}", "records"},
		{"{'descr': '|f4', 'fortran_order': False, 'shape': ()}", "lacks its byte order"},
		{"{'descr': 'f4', 'fortran_order': False, 'shape': ()}", "are not supported"},
		{"{'descr': '', 'fortran_order': False, 'shape': ()}", "are not supported"},
		{"{'descr': '<f4', 'fortran_order': 0, 'shape': ()}", "expected True or False"},
		{"", "expected '{'"},
	};
	scratch *s = *state;

	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		const char *path = make_npy(s, row[i].text, "\0\0\0\0", 4);
		md_array a;

		if (md_npy_read(path, "x", &a, WHY(s)) == 0)
			fail_msg("accepted: %s", row[i].text);
		assert_why_has(s, row[i].message);
		assert_null(a.name);
		assert_null(a.data);
	}
}

static void
test_files_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t size;
		const char *message;
	} row[] = {
		{"", 0, "not a .npy file"},
		{"\x93NUMP", 5, "not a .npy file"},
		{"\x93NUMPX\x01\x00\x00\x00", 10, "not a .npy file"},
		{"\x93NUMPY\x04\x00\x00\x00", 10, "version 4.0 is not supported"},
		{"\x93NUMPY\x01\x01\x00\x00", 10, "version 1.1 is not supported"},
		{"\x93NUMPY\x01\x00\xff\x00{", 11, "ends inside the .npy header"},
		{"\x93NUMPY\x02\x00\x01\x00", 10, "ends inside the .npy header"},
		{"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", 14, "ends inside the .npy header"},
	};
	scratch *s = *state;
	md_array a;

	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		const char *path = scratch_write(s, "x.npy", row[i].bytes, row[i].size);

		assert_int_equal(md_npy_read(path, "x", &a, WHY(s)), -1);
		assert_why_has(s, row[i].message);
		assert_why_has(s, path);
	}
	assert_int_equal(md_npy_read(scratch_path(s, "absent.npy"), "x", &a, WHY(s)), -1);
	assert_why_has(s, "No such file");
	assert_int_equal(md_npy_read(s->folder, "x", &a, WHY(s)), -1);
	assert_why_has(s, "not a regular file");
}

static void
test_long_header_refused(void **state)
{
	scratch *s = *state;
	size_t text = 65537;
	unsigned char *file = malloc(12 + text);
	md_array a;

	assert_non_null(file);
	memset(file, ' ', 12 + text);
	memcpy(file, "\x93NUMPY\x02\x00\x01\x00\x01\x00", 12);
	scratch_write(s, "x.npy", file, 12 + text);
	free(file);
	assert_int_equal(md_npy_read(scratch_path(s, "x.npy"), "x", &a, WHY(s)), -1);
	assert_why_has(s, "header is too long: 65537 bytes");
}

static void
fill(md_array *a)
{
	for (size_t i = 0; i < a->bytes; i++)
		((unsigned char *)a->data)[i] =
			(unsigned char)(a->dtype == MD_BOOL ? i % 3 == 0 : i * 37 + 11);
}

/* Every proper prefix of a file is an error, never a shorter array. */
static void
test_every_truncation_is_refused(void **state)
{
	scratch *s = *state;
	md_array a, b;
	size_t size;
	unsigned char *bytes;

	assert_int_equal(md_array_init(&a, "x", MD_I16, 2, (int64_t[]){3, 2}, WHY(s)), 0);
	fill(&a);
	assert_int_equal(md_npy_write(scratch_path(s, "a.npy"), &a, WHY(s)), 0);
	bytes = scratch_read(scratch_path(s, "a.npy"), &size);
	for (size_t n = 0; n < size; n++)
		assert_int_equal(md_npy_read(scratch_write(s, "b.npy", bytes, n), "x", &b, WHY(s)),
				 -1);
	free(bytes);
	md_array_clear(&a);
}

/* Nothing to assert but that it ends: the sanitizers watch, and whatever is accepted is whole. */
static void
test_every_flipped_byte_is_survived(void **state)
{
	scratch *s = *state;
	md_array a, b;
	size_t size;
	unsigned char *bytes;

	assert_int_equal(md_array_init(&a, "x", MD_I16, 2, (int64_t[]){3, 2}, WHY(s)), 0);
	assert_int_equal(md_npy_write(scratch_path(s, "a.npy"), &a, WHY(s)), 0);
	bytes = scratch_read(scratch_path(s, "a.npy"), &size);
	for (size_t i = 0; i < size; i++)
		for (int bit = 0; bit < 8; bit++) {
			bytes[i] ^= (unsigned char)(1 << bit);
			if (md_npy_read(scratch_write(s, "b.npy", bytes, size), "x", &b, WHY(s)) ==
			    0) {
				assert_int_equal(b.bytes, 12);
				md_array_clear(&b);
			}
			bytes[i] ^= (unsigned char)(1 << bit);
		}
	free(bytes);
	md_array_clear(&a);
}

static void
test_round_trip_of_every_dtype(void **state)
{
	static const int64_t dim[] = {2, 1, 3};
	scratch *s = *state;

	for (int dtype = 0; dtype < MD_DTYPE_COUNT; dtype++)
		for (int rank = 0; rank <= 3; rank++) {
			const char *path = scratch_path(s, "a.npy");
			md_array a, b;

			assert_int_equal(md_array_init(&a, "x", (md_dtype)dtype, rank, dim, WHY(s)),
					 0);
			fill(&a);
			assert_int_equal(md_npy_write(path, &a, WHY(s)), 0);
			b = read_good(s, path);
			assert_int_equal(a.dtype, b.dtype);
			assert_int_equal(a.rank, b.rank);
			assert_memory_equal(a.dim, b.dim, sizeof a.dim);
			assert_memory_equal(a.data, b.data, a.bytes);
			md_array_clear(&a);
			md_array_clear(&b);
		}
}

static void
test_largest_header(void **state)
{
	scratch *s = *state;
	int64_t dim[MD_MAX_RANK];
	md_array a = {.name = "x", .dtype = MD_F32, .rank = MD_MAX_RANK};
	char header[MD_NPY_HEADER_MAX];

	(void)s;
	for (int i = 0; i < MD_MAX_RANK; i++)
		dim[i] = INT64_MAX;
	memcpy(a.dim, dim, sizeof dim);
	assert_int_equal(md_npy_header(&a, header), 768);
	assert_int_equal(header[767], '\n');
}

static void
test_numpy_reads_ours(void **state)
{
	scratch *s = *state;
	const char *path = scratch_path(s, "a.npy");
	md_array a;

	assert_int_equal(md_array_init(&a, "x", MD_F32, 2, (int64_t[]){2, 2}, WHY(s)), 0);
	memcpy(a.data, (float[]){1, -2, 0.5f, 3}, 16);
	assert_int_equal(md_npy_write(path, &a, WHY(s)), 0);
	md_array_clear(&a);
	assert_true(scratch_python(s,
				   "import sys, numpy as np\n"
				   "a = np.load(sys.argv[1])\n"
				   "assert a.dtype == np.float32 and a.flags.c_contiguous\n"
				   "assert a.tolist() == [[1, -2], [0.5, 3]]\n",
				   path));
}

/* numpy writes every dtype in both byte orders and both memory orders; each array holds 0, 1, ...
 * (bool: 0, 1, 1, ...) in C order. */
static void
test_we_read_numpys(void **state)
{
	static const char code[] =
		"import sys, numpy as np\n"
		"i = 0\n"
		"for t in 'b1 i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8'.split():\n"
		"    for order in '<>':\n"
		"        for layout in 'CF':\n"
		"            a = np.arange(24).reshape(2, 3, 4).astype(order + t)\n"
		"            np.save(f'{sys.argv[1]}/n{i}.npy', np.asarray(a, order=layout))\n"
		"            i += 1\n";
	scratch *s = *state;

	assert_true(scratch_python(s, code, s->folder));
	for (int i = 0; i < 48; i++) {
		char name[32];
		double value[24];
		md_array a;

		snprintf(name, sizeof name, "n%d.npy", i);
		a = read_good(s, scratch_path(s, name));
		assert_int_equal(a.rank, 3);
		assert_int_equal(md_array_elements(&a), 24);
		md_array_read_f64(&a, 0, 24, value);
		for (int k = 0; k < 24; k++)
			assert_true(value[k] == (a.dtype == MD_BOOL ? k > 0 : k));
		md_array_clear(&a);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SCRATCH_TEST(test_numpy_f32),
		SCRATCH_TEST(test_numpy_version_2_big_endian),
		SCRATCH_TEST(test_numpy_version_3_scalar),
		SCRATCH_TEST(test_fortran_order),
		SCRATCH_TEST(test_lenient_spellings),
		SCRATCH_TEST(test_bf16_spellings),
		SCRATCH_TEST(test_empty_array),
		SCRATCH_TEST(test_headers_refused),
		SCRATCH_TEST(test_files_refused),
		SCRATCH_TEST(test_long_header_refused),
		SCRATCH_TEST(test_every_truncation_is_refused),
		SCRATCH_TEST(test_every_flipped_byte_is_survived),
		SCRATCH_TEST(test_round_trip_of_every_dtype),
		SCRATCH_TEST(test_largest_header),
		SCRATCH_TEST(test_numpy_reads_ours),
		SCRATCH_TEST(test_we_read_numpys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
