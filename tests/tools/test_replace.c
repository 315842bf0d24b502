/* test_replace.c -- files are written whole or not at all. */
#include "scratch.h"
#include "tools/data/replace.h"

static void
assert_content(const char *path, const char *text)
{
	size_t size;
	unsigned char *bytes = scratch_read(path, &size);

	assert_int_equal(size, strlen(text));
	assert_memory_equal(bytes, text, size);
	free(bytes);
}

static void
test_spans_are_joined(void **state)
{
	scratch *s = *state;
	const char *path = scratch_path(s, "f");
	mode_t mask = umask(022);
	struct stat st;

	umask(mask);
	assert_int_equal(
		md_replace_with(path, (md_span[]){{"ab", 2}, {NULL, 0}, {"c", 1}}, 3, WHY(s)), 0);
	assert_content(path, "abc");
	assert_int_equal(scratch_files(s), 1);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0666 & ~mask);
}

static void
test_abandon_keeps_the_old_file(void **state)
{
	scratch *s = *state;
	const char *path = scratch_write(s, "f", "old", 3);
	md_replace r;

	assert_int_equal(md_replace_begin(&r, path, WHY(s)), 0);
	assert_int_equal(scratch_files(s), 2);
	md_replace_abandon(&r);
	assert_content(path, "old");
	assert_int_equal(scratch_files(s), 1);
}

static void
test_two_writers_do_not_meet(void **state)
{
	scratch *s = *state;
	const char *path = scratch_path(s, "f");
	md_replace a, b;

	assert_int_equal(md_replace_begin(&a, path, WHY(s)), 0);
	assert_int_equal(md_replace_begin(&b, path, WHY(s)), 0);
	assert_string_not_equal(a.temporary, b.temporary);
	assert_int_equal(md_replace_commit(&a, WHY(s)), 0);
	assert_int_equal(md_replace_commit(&b, WHY(s)), 0);
	assert_int_equal(scratch_files(s), 1);
}

static void
test_failing_commit_cleans_up(void **state)
{
	scratch *s = *state;
	const char *path = scratch_path(s, "f");
	md_replace r;

	assert_int_equal(md_replace_begin(&r, path, WHY(s)), 0);
	assert_int_equal(mkdir(path, 0777), 0); /* in the meantime */
	assert_int_equal(md_replace_commit(&r, WHY(s)), -1);
	assert_why_has(s, "f: cannot write: Is a directory");
	assert_int_equal(scratch_files(s), 1);
	rmdir(path);
}

static void
test_targets_refused(void **state)
{
	scratch *s = *state;
	md_replace r;

	assert_int_equal(md_replace_begin(&r, "/dev/null", WHY(s)), -1);
	assert_why(s, "/dev/null: cannot replace: not a regular file");
	assert_int_equal(md_replace_begin(&r, s->folder, WHY(s)), -1);
	assert_int_equal(md_replace_begin(&r, scratch_path(s, "no/such"), WHY(s)), -1);
	assert_why_has(s, "no/such: cannot write: No such file or directory");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SCRATCH_TEST(test_spans_are_joined),
		SCRATCH_TEST(test_abandon_keeps_the_old_file),
		SCRATCH_TEST(test_two_writers_do_not_meet),
		SCRATCH_TEST(test_failing_commit_cleans_up),
		SCRATCH_TEST(test_targets_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
