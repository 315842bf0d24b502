/* test_npz.c -- .npz archives of numpy's and ours, and archives that lie. */
#include "scratch.h"
#include "tools/data/npy.h"
#include "tools/data/npz.h"
#include <glob.h>
#include <signal.h>
#include <sys/resource.h>

static void
push(scratch *s, md_arrays *list, const char *name, md_dtype dtype, int rank, const int64_t *dim)
{
	md_array a;

	assert_int_equal(md_array_init(&a, name, dtype, rank, dim, WHY(s)), 0);
	for (size_t i = 0; i < a.bytes; i++)
		((unsigned char *)a.data)[i] =
			dtype == MD_BOOL ? i & 1 : (unsigned char)(i * 7 + 1);
	assert_int_equal(md_arrays_push(list, &a, WHY(s)), 0);
}

static md_arrays
some_arrays(scratch *s)
{
	md_arrays list = {0};

	push(s, &list, "/encoder/out:0", MD_F32, 3, (int64_t[]){2, 3, 4});
	push(s, &list, "../\x1b", MD_BOOL, 1, (int64_t[]){5});
	push(s, &list, "none", MD_I64, 2, (int64_t[]){0, 3});
	push(s, &list, "scalar", MD_BF16, 0, NULL);
	return list;
}

static void
assert_same_arrays(const md_arrays *a, const md_arrays *b)
{
	assert_int_equal(a->count, b->count);
	for (size_t i = 0; i < a->count; i++) {
		assert_string_equal(a->at[i].name, b->at[i].name);
		assert_int_equal(a->at[i].dtype, b->at[i].dtype);
		assert_int_equal(a->at[i].rank, b->at[i].rank);
		assert_memory_equal(a->at[i].dim, b->at[i].dim, sizeof a->at[i].dim);
		assert_int_equal(a->at[i].bytes, b->at[i].bytes);
		assert_memory_equal(a->at[i].data, b->at[i].data, a->at[i].bytes);
	}
}

static void
round_trip(scratch *s, md_npz_packing packing)
{
	const char *path = scratch_path(s, "a.npz");
	md_arrays out = some_arrays(s), in = {0};

	assert_int_equal(md_npz_write(path, &out, packing, WHY(s)), 0);
	assert_int_equal(scratch_files(s), 1);
	if (md_npz_read(path, &in, WHY(s)))
		fail_msg("%s", s->why);
	assert_same_arrays(&out, &in);
	md_arrays_clear(&out);
	md_arrays_clear(&in);
}

static void
test_round_trip_stored(void **state)
{
	round_trip(*state, MD_NPZ_STORED);
}

static void
test_round_trip_deflated(void **state)
{
	round_trip(*state, MD_NPZ_DEFLATED);
}

/* A megabyte of zeros takes a kilobyte: the bound on compression must allow what deflate can do. */
static void
test_zeros_compress_well(void **state)
{
	scratch *s = *state;
	const char *path = scratch_path(s, "a.npz");
	md_arrays out = {0}, in = {0};
	struct stat st;

	push(s, &out, "zeros", MD_U8, 1, (int64_t[]){8 << 20});
	memset(out.at[0].data, 0, out.at[0].bytes);
	assert_int_equal(md_npz_write(path, &out, MD_NPZ_DEFLATED, WHY(s)), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size < 10000);
	assert_int_equal(md_npz_read(path, &in, WHY(s)), 0);
	assert_same_arrays(&out, &in);
	md_arrays_clear(&out);
	md_arrays_clear(&in);
}

static void
test_single_array(void **state)
{
	scratch *s = *state;
	const char *path = scratch_path(s, "a.npz");
	md_arrays out = some_arrays(s);
	md_array a;
	md_npz *z;

	assert_int_equal(md_npz_write(path, &out, MD_NPZ_STORED, WHY(s)), 0);
	z = md_npz_open(path, WHY(s));
	assert_non_null(z);
	assert_int_equal(md_npz_count(z), 4);
	assert_string_equal(md_npz_name(z, 1), "../\x1b");
	assert_int_equal(md_npz_find(z, "absent"), -1);
	assert_int_equal(md_npz_find(z, "scalar"), 3);
	assert_int_equal(md_npz_load(z, 3, &a, WHY(s)), 0);
	assert_int_equal(a.dtype, MD_BF16);
	assert_memory_equal(a.data, out.at[3].data, 2);
	md_array_clear(&a);
	md_npz_close(z);
	md_arrays_clear(&out);
}

static void
test_equal_arrays_give_equal_bytes(void **state)
{
	scratch *s = *state;
	md_arrays out = some_arrays(s);
	unsigned char *first, *second;
	size_t first_size, second_size;

	assert_int_equal(md_npz_write(scratch_path(s, "a.npz"), &out, MD_NPZ_STORED, WHY(s)), 0);
	assert_int_equal(md_npz_write(scratch_path(s, "b.npz"), &out, MD_NPZ_STORED, WHY(s)), 0);
	first = scratch_read(scratch_path(s, "a.npz"), &first_size);
	second = scratch_read(scratch_path(s, "b.npz"), &second_size);
	assert_int_equal(first_size, second_size);
	assert_memory_equal(first, second, first_size);
	free(first);
	free(second);
	md_arrays_clear(&out);
}

static void
test_failing_write_leaves_the_old_file(void **state)
{
	scratch *s = *state;
	const char *path = scratch_write(s, "a.npz", "old", 3);
	md_arrays out = {0};
	md_array twice[2];
	unsigned char *bytes;
	size_t size;

	assert_int_equal(md_npz_write(path, &out, MD_NPZ_STORED, WHY(s)), -1);
	assert_why_has(s, "a.npz: no arrays to write");
	/* Two entries of one name: libzip refuses the second when half the work is done. */
	for (int i = 0; i < 2; i++)
		assert_int_equal(md_array_init(&twice[i], "x", MD_U8, 0, NULL, WHY(s)), 0);
	assert_int_equal(md_npz_write(path, &(md_arrays){twice, 2, 2}, MD_NPZ_STORED, WHY(s)), -1);
	assert_why_has(s, "a.npz: File already exists");
	assert_int_equal(scratch_files(s), 1);
	bytes = scratch_read(path, &size);
	assert_int_equal(size, 3);
	assert_memory_equal(bytes, "old", 3);
	free(bytes);
	md_array_clear(&twice[0]);
	md_array_clear(&twice[1]);
}

/* A full disk, played by a limit on the file size: libzip fails while writing. */
static void
test_full_disk_leaves_nothing(void **state)
{
	scratch *s = *state;
	md_arrays out = {0};
	struct rlimit old, tiny;
	void (*handler)(int);
	int status;

	push(s, &out, "x", MD_U8, 1, (int64_t[]){1 << 20});
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	tiny = old;
	tiny.rlim_cur = 65536;
	handler = signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
	status = md_npz_write(scratch_path(s, "a.npz"), &out, MD_NPZ_STORED, WHY(s));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, handler);
	assert_int_equal(status, -1);
	assert_why_has(s, "a.npz: Write error: File too large");
	assert_int_equal(scratch_files(s), 0);
	md_arrays_clear(&out);
}

/* The first record that starts with `signature`. */
static unsigned char *
find_record(unsigned char *bytes, size_t size, const char *signature)
{
	for (size_t i = 0; i + 4 <= size; i++)
		if (!memcmp(bytes + i, signature, 4))
			return bytes + i;
	fail_msg("no such record");
	return NULL;
}

static void
put_u32(unsigned char *to, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		to[i] = (unsigned char)(value >> 8 * i);
}

enum { LOCAL_SIZE = 22, CENTRAL_METHOD = 10, CENTRAL_CRC = 16, CENTRAL_SIZE = 24 };

/* An archive with one array f32[8], packed as told, in memory. */
static unsigned char *
one_array(scratch *s, md_npz_packing packing, size_t *size)
{
	const char *path = scratch_path(s, "a.npz");
	md_arrays out = {0};

	push(s, &out, "x", MD_F32, 1, (int64_t[]){8});
	assert_int_equal(md_npz_write(path, &out, packing, WHY(s)), 0);
	md_arrays_clear(&out);
	return scratch_read(path, size);
}

static void
assert_refused(scratch *s, const unsigned char *bytes, size_t size, const char *message)
{
	const char *path = scratch_write(s, "b.npz", bytes, size);
	md_arrays in = {0};

	if (md_npz_read(path, &in, WHY(s)) == 0)
		fail_msg("accepted instead of: %s", message);
	assert_why_has(s, message);
	assert_why_has(s, path);
	md_arrays_clear(&in);
}

static void
test_declared_size_lies(void **state)
{
	scratch *s = *state;
	size_t size;
	unsigned char *bytes = one_array(s, MD_NPZ_DEFLATED, &size);
	unsigned char *central = find_record(bytes, size, "PK\1\2");
	unsigned char *local = find_record(bytes, size, "PK\3\4");

	put_u32(central + CENTRAL_SIZE, 0xF0000000); /* a bomb by its own account */
	put_u32(local + LOCAL_SIZE, 0xF0000000);
	assert_refused(s, bytes, size, "compressed bytes cannot hold the 4026531840 declared");
	put_u32(central + CENTRAL_SIZE, 164);
	put_u32(local + LOCAL_SIZE, 164);
	assert_refused(s, bytes, size,
		       "'x': the .npy header declares 32 bytes of data, the file has 36");
	put_u32(central + CENTRAL_SIZE, 4);
	put_u32(local + LOCAL_SIZE, 4);
	assert_refused(s, bytes, size, "not a .npy file");
	free(bytes);
}

static void
test_broken_content(void **state)
{
	scratch *s = *state;
	size_t size;
	unsigned char *bytes = one_array(s, MD_NPZ_STORED, &size);
	unsigned char *central = find_record(bytes, size, "PK\1\2");

	central[-1] ^= 1; /* the last byte of data */
	assert_refused(s, bytes, size, "'x': CRC error");
	central[-1] ^= 1;
	central[CENTRAL_METHOD] = 12; /* bzip2 */
	assert_refused(s, bytes, size, "compression method 12 is not supported");
	free(bytes);
}

static void
test_not_an_archive(void **state)
{
	scratch *s = *state;
	md_arrays in = {0};

	assert_refused(s, (const unsigned char *)"PK", 2, "Not a zip archive");
	assert_int_equal(md_npz_read(scratch_path(s, "absent.npz"), &in, WHY(s)), -1);
	assert_why_has(s, "absent.npz: No such file");
}

/* What a reader accepts of a damaged archive must be what was written. */
static void
test_every_truncation_is_refused(void **state)
{
	scratch *s = *state;
	size_t size;
	unsigned char *bytes = one_array(s, MD_NPZ_DEFLATED, &size);
	md_arrays in = {0};

	for (size_t n = 0; n < size; n++)
		assert_int_equal(md_npz_read(scratch_write(s, "b.npz", bytes, n), &in, WHY(s)), -1);
	md_arrays_clear(&in);
	free(bytes);
}

static void
test_every_flipped_byte_is_survived(void **state)
{
	scratch *s = *state;
	size_t size;
	unsigned char *bytes = one_array(s, MD_NPZ_DEFLATED, &size);

	for (size_t i = 0; i < size; i++)
		for (int bit = 0; bit < 8; bit += 3) {
			md_arrays in = {0};

			bytes[i] ^= (unsigned char)(1 << bit);
			if (md_npz_read(scratch_write(s, "b.npz", bytes, size), &in, WHY(s)) == 0 &&
			    in.count)
				assert_int_equal(in.at[0].bytes, 32);
			md_arrays_clear(&in);
			bytes[i] ^= (unsigned char)(1 << bit);
		}
	free(bytes);
}

static void
test_numpy_reads_ours(void **state)
{
	scratch *s = *state;
	const char *path = scratch_path(s, "a.npz");
	md_arrays out = some_arrays(s);

	assert_int_equal(md_npz_write(path, &out, MD_NPZ_DEFLATED, WHY(s)), 0);
	md_arrays_clear(&out);
	assert_true(scratch_python(
		s,
		"import sys, numpy as np\n"
		"z = np.load(sys.argv[1])\n"
		"assert list(z) == ['/encoder/out:0', '%2E./%1B', 'none', 'scalar'], list(z)\n"
		"raw = (np.arange(96) * 7 + 1).astype(np.uint8).tobytes()\n"
		"assert z['/encoder/out:0'].tobytes() == raw\n"
		"assert z['/encoder/out:0'].shape == (2, 3, 4)\n"
		"assert z['%2E./%1B'].tolist() == [False, True, False, True, False]\n"
		"assert z['none'].shape == (0, 3) and z['none'].dtype == np.int64\n",
		path));
}

static void
test_we_read_numpys(void **state)
{
	scratch *s = *state;

	assert_true(scratch_python(s,
				   "import sys, numpy as np\n"
				   "x = {'a/b:0': np.arange(5.), '\\u00e4': np.float32([[1, 2]]),\n"
				   "     'text': np.array(['x', 'y'])}\n"
				   "np.savez(sys.argv[1] + '/p.npz', **x)\n"
				   "np.savez_compressed(sys.argv[1] + '/q.npz', **x)\n",
				   s->folder));
	for (int i = 0; i < 2; i++) {
		md_npz *z = md_npz_open(scratch_path(s, i ? "p.npz" : "q.npz"), WHY(s));
		md_array a;

		assert_non_null(z);
		assert_int_equal(md_npz_count(z), 3);
		assert_int_equal(md_npz_load(z, (size_t)md_npz_find(z, "a/b:0"), &a, WHY(s)), 0);
		assert_memory_equal(a.data, ((double[]){0, 1, 2, 3, 4}), 40);
		md_array_clear(&a);
		assert_int_equal(md_npz_load(z, (size_t)md_npz_find(z, "\xc3\xa4"), &a, WHY(s)), 0);
		assert_memory_equal(a.data, ((float[]){1, 2}), 8);
		md_array_clear(&a);
		assert_int_equal(md_npz_load(z, (size_t)md_npz_find(z, "text"), &a, WHY(s)), -1);
		assert_why_has(s, "'text': strings of numpy type '<U1' are not supported");
		md_npz_close(z);
	}
}

/* Every archive of the shared models' data. */
static void
test_shared_archives(void **state)
{
	const char *shared = getenv("MLOPT_SHARED");
	scratch *s = *state;
	char pattern[512];
	glob_t found = {0};

	if (!shared) {
		fprintf(stderr, "SKIPPED: MLOPT_SHARED is not set\n");
		skip();
	}
	snprintf(pattern, sizeof pattern, "%s/data/*.npz", shared);
	assert_int_equal(glob(pattern, 0, NULL, &found), 0);
	snprintf(pattern, sizeof pattern, "%s/cases/*/io.npz", shared);
	assert_int_equal(glob(pattern, GLOB_APPEND, NULL, &found), 0);
	assert_true(found.gl_pathc > 100);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		md_arrays in = {0};

		if (md_npz_read(found.gl_pathv[i], &in, WHY(s)))
			fail_msg("%s", s->why);
		md_arrays_clear(&in);
	}
	globfree(&found);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SCRATCH_TEST(test_round_trip_stored),
		SCRATCH_TEST(test_round_trip_deflated),
		SCRATCH_TEST(test_zeros_compress_well),
		SCRATCH_TEST(test_single_array),
		SCRATCH_TEST(test_equal_arrays_give_equal_bytes),
		SCRATCH_TEST(test_failing_write_leaves_the_old_file),
		SCRATCH_TEST(test_full_disk_leaves_nothing),
		SCRATCH_TEST(test_declared_size_lies),
		SCRATCH_TEST(test_broken_content),
		SCRATCH_TEST(test_not_an_archive),
		SCRATCH_TEST(test_every_truncation_is_refused),
		SCRATCH_TEST(test_every_flipped_byte_is_survived),
		SCRATCH_TEST(test_numpy_reads_ours),
		SCRATCH_TEST(test_we_read_numpys),
		SCRATCH_TEST(test_shared_archives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
