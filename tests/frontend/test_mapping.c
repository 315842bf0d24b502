/* test_mapping.c -- which files may be read in a model's name, and which may not. */
#include "frontend/mapping.h"
#include "harness_folder.h"
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int directory;

static int
setup(void **state)
{
	(void)state;
	open_folder();
	if (mkdir(in_folder("model"), 0700) || mkdir(in_folder("model/sub"), 0700))
		return 1;
	write_file("secret", "secret", 6);
	write_file("model/w.bin", "0123456789", 10);
	write_file("model/sub/w.bin", "abc", 3);
	directory = open(in_folder("model"), O_RDONLY | O_DIRECTORY);
	return directory < 0;
}

static int
teardown(void **state)
{
	(void)state;
	close(directory);
	remove_folder();
	return 0;
}

static void
assert_opens(const char *location, const char *content)
{
	ml_memory memory = ml_memory_libc();
	ml_mapping *m = ml_mapping_new(&memory);
	int fd;

	assert_null(ml_open_beneath(directory, location, &fd));
	assert_null(ml_mapping_fill(m, fd));
	close(fd);
	assert_int_equal(m->size, strlen(content));
	assert_memory_equal(m->bytes, content, strlen(content));
	ml_mapping_drop(m);
}

static void
assert_refused(const char *location, const char *why)
{
	int fd = 99;
	const char *wrong = ml_open_beneath(directory, location, &fd);

	assert_non_null(wrong);
	assert_string_equal(wrong, why);
	assert_int_equal(fd, -1);
}

static void
test_regular_files(void **state)
{
	(void)state;
	assert_opens("w.bin", "0123456789");
	assert_opens("./w.bin", "0123456789");
	assert_opens("sub/w.bin", "abc");
	assert_opens("sub//./w.bin", "abc");
}

static void
test_paths_that_leave(void **state)
{
	(void)state;
	assert_refused("../secret", "the path leaves the model's directory by '..'");
	assert_refused("sub/../../secret", "the path leaves the model's directory by '..'");
	assert_refused("sub/..", "the path leaves the model's directory by '..'");
	assert_refused(in_folder("model/w.bin"), "the path is absolute");
	assert_refused("/dev/zero", "the path is absolute");
	assert_refused("", "the path names no file");
	assert_refused("sub/", "the path names no file");
}

static void
test_links(void **state)
{
	static const char no_directory[] = "a part of the path is no directory, or a symbolic link";

	(void)state;
	assert_int_equal(symlink("w.bin", in_folder("model/soft")), 0);
	assert_int_equal(symlink("../secret", in_folder("model/out")), 0);
	assert_int_equal(symlink("sub", in_folder("model/softdir")), 0);
	assert_int_equal(link(in_folder("secret"), in_folder("model/hard")), 0);
	assert_refused("soft", "a symbolic link where none is allowed");
	assert_refused("out", "a symbolic link where none is allowed");
	assert_refused("softdir/w.bin", no_directory);
	assert_refused("hard", "the file has more than one hard link");
}

static void
test_other_kinds_of_file(void **state)
{
	char longer[400];

	(void)state;
	assert_int_equal(mkfifo(in_folder("model/fifo"), 0600), 0);
	assert_refused("fifo", "not a regular file"); /* and does not wait for a writer */
	assert_refused("sub", "not a regular file");
	assert_refused(".", "not a regular file");
	assert_refused("nothere", "no such file");
	assert_refused("w.bin/x", "a part of the path is no directory, or a symbolic link");
	memset(longer, 'x', sizeof longer - 1);
	longer[sizeof longer - 1] = 0;
	assert_refused(longer, "name too long");
}

static void
test_model_may_be_linked(void **state)
{
	int fd;

	(void)state;
	assert_int_equal(symlink("w.bin", in_folder("model/soft")), 0);
	assert_null(ml_open_model(directory, "soft", &fd));
	close(fd);
	assert_string_equal(ml_open_model(directory, "nothere", &fd), "no such file");
}

static void
test_empty_and_shared(void **state)
{
	ml_memory memory = ml_memory_libc();
	ml_mapping *m = ml_mapping_new(&memory);
	int fd;

	(void)state;
	write_file("model/empty", "", 0);
	assert_null(ml_open_beneath(directory, "empty", &fd));
	assert_null(ml_mapping_fill(m, fd));
	close(fd);
	assert_int_equal(m->size, 0);
	ml_mapping_drop(ml_mapping_share(m));
	assert_int_equal(m->refs, 1);
	ml_mapping_drop(m);
	ml_mapping_drop(NULL);
}

int
main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_regular_files),
		TEST(test_paths_that_leave),
		TEST(test_links),
		TEST(test_other_kinds_of_file),
		TEST(test_model_may_be_linked),
		TEST(test_empty_and_shared),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
