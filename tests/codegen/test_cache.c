/* test_cache.c -- the folder of compiled objects: what is damaged is not found, others may not
 * write there, processes share it and die, the least recently used go. */
#include "codegen/cache.h"
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

typedef struct fixture {
	ml_context cx;
	char folder[64];
} fixture;

static int
set_up(void **state)
{
	static fixture f;

	f = (fixture){.cx.memory = ml_memory_libc(), .folder = "/tmp/mlopt-cache-XXXXXX"};
	ml_arena_init(&f.cx.arena, &f.cx.memory);
	*state = &f;
	return !mkdtemp(f.folder);
}

/* Calls fn for every file of the cache; returns their number. */
static int
each_file(const fixture *f, void (*fn)(const char *path, int64_t argument), int64_t argument)
{
	DIR *d = opendir(f->folder);
	char path[400];
	int n = 0;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%s/%s", f->folder, e->d_name);
		if (fn)
			fn(path, argument);
		n++;
	}
	closedir(d);
	return n;
}

static void
remove_file(const char *path, int64_t argument)
{
	(void)argument;
	unlink(path);
}

static int
tear_down(void **state)
{
	fixture *f = *state;

	chmod(f->folder, 0700);
	each_file(f, remove_file, 0);
	ml_arena_free(&f->cx.arena);
	return rmdir(f->folder);
}

static ml_cache
opened(fixture *f, int64_t bytes)
{
	const ml_cache_place place = {.folder = f->folder, .bytes = bytes};
	ml_cache c;

	assert_int_equal(ml_cache_open(&f->cx, &place, &c), ML_OK);
	return c;
}

static ml_bytes
text(const char *t)
{
	return (ml_bytes){t, strlen(t)};
}

/* Is exactly this found? */
static bool
holds(fixture *f, ml_cache *c, ml_bytes key, ml_bytes expected)
{
	ml_bytes body;

	if (!ml_cache_get(c, &f->cx.memory, key, &body))
		return false;
	assert_int_equal(body.size, expected.size);
	assert_memory_equal(body.at, expected.at, expected.size);
	ml_cache_drop(&f->cx.memory, &body);
	assert_null(body.at);
	return true;
}

static void
test_keeps(void **state)
{
	fixture *f = *state;
	char *large = calloc(1, 100000);
	ml_bytes long_key = {large, 100000};
	ml_cache c = opened(f, 1 << 20);

	large[99999] = 1;
	assert_false(holds(f, &c, text("a"), text("")));
	ml_cache_put(&c, text("a"), text("first"));
	ml_cache_put(&c, text("b"), text("second"));
	ml_cache_put(&c, long_key, text("third"));
	assert_true(holds(f, &c, text("a"), text("first")));
	ml_cache_put(&c, text("a"), text("another"));
	assert_true(holds(f, &c, text("a"), text("another")));
	ml_cache_close(&c, &f->cx.memory);
	c = opened(f, 1 << 20);
	assert_true(holds(f, &c, text("b"), text("second")));
	assert_true(holds(f, &c, long_key, text("third")));
	large[50000] = 1;
	assert_false(holds(f, &c, long_key, text("")));
	assert_int_equal(c.hits, 2);
	assert_int_equal(c.misses, 1);
	ml_cache_close(&c, &f->cx.memory);
	free(large);
}

/* Without a folder, from one compilation of candidates to the next. */
static void
test_memory(void **state)
{
	fixture *f = *state;
	ml_kept *kept = ml_kept_new(&f->cx.memory);
	ml_cache_place place = {.kept = kept};
	ml_cache c;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(ml_cache_open(&f->cx, &place, &c), ML_OK);
		assert_true(ml_cache_is_open(&c));
		assert_int_equal(holds(f, &c, text("a"), text("first")), i);
		ml_cache_put(&c, text("a"), text("first"));
		ml_cache_put(&c, text("ab"), text("second"));
		assert_true(holds(f, &c, text("a"), text("first")));
		assert_true(holds(f, &c, text("ab"), text("second")));
		assert_false(holds(f, &c, text("b"), text("")));
		ml_cache_close(&c, &f->cx.memory);
	}
	ml_kept_free(kept);
}

static void
test_none(void **state)
{
	fixture *f = *state;
	const ml_cache_place nowhere = {0};
	ml_cache c;

	assert_int_equal(ml_cache_open(&f->cx, &nowhere, &c), ML_OK);
	ml_cache_put(&c, text("a"), text("first"));
	assert_false(holds(f, &c, text("a"), text("")));
	ml_cache_close(&c, &f->cx.memory);
}

/* ---- damage ---- */

static void
flip(const char *path, int64_t at)
{
	int fd = open(path, O_RDWR);
	char byte;

	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

static void
cut(const char *path, int64_t size)
{
	assert_int_equal(truncate(path, size), 0);
}

static void
measure_file(const char *path, int64_t result)
{
	struct stat s;

	assert_int_equal(stat(path, &s), 0);
	*(int64_t *)(intptr_t)result = s.st_size;
}

/* Whatever byte is wrong or missing: it is not found, and can be kept again. */
static void
test_damage(void **state)
{
	fixture *f = *state;
	ml_cache c = opened(f, 1 << 20);
	int64_t size = 0;

	ml_cache_put(&c, text("key of it"), text("the body"));
	assert_int_equal(each_file(f, measure_file, (intptr_t)&size), 1);
	assert_true(size > 16);
	for (int64_t i = 0; i < 2 * size; i++) {
		each_file(f, i < size ? flip : cut, i % size);
		assert_false(holds(f, &c, text("key of it"), text("")));
		ml_cache_put(&c, text("key of it"), text("the body"));
		assert_true(holds(f, &c, text("key of it"), text("the body")));
	}
	each_file(f, cut, size + 1);
	assert_false(holds(f, &c, text("key of it"), text("")));
	ml_cache_close(&c, &f->cx.memory);
}

static char first_file[400];

static void
note_path(const char *path, int64_t argument)
{
	(void)argument;
	snprintf(first_file, sizeof first_file, "%s", path);
}

static void
swap_with_first(const char *path, int64_t argument)
{
	(void)argument;
	if (strcmp(path, first_file))
		assert_int_equal(rename(path, first_file), 0);
}

/* A file under another entry's name, and one behind a link, are not believed. */
static void
test_wrong_file(void **state)
{
	fixture *f = *state;
	ml_cache c = opened(f, 1 << 20);

	ml_cache_put(&c, text("a"), text("first"));
	each_file(f, note_path, 0);
	ml_cache_put(&c, text("b"), text("second"));
	each_file(f, swap_with_first, 0);
	assert_false(holds(f, &c, text("a"), text("")));
	assert_false(holds(f, &c, text("b"), text("")));
	each_file(f, remove_file, 0);
	ml_cache_put(&c, text("a"), text("first"));
	char *moved = ml_format(&f->cx.arena, "%s/moved", f->folder);
	assert_int_equal(rename(first_file, moved), 0);
	assert_int_equal(symlink(moved, first_file), 0);
	assert_false(holds(f, &c, text("a"), text("")));
	assert_int_equal(unlink(first_file), 0);
	assert_int_equal(mkfifo(first_file, 0600), 0);
	assert_false(holds(f, &c, text("a"), text("")));
	ml_cache_close(&c, &f->cx.memory);
}

/* ---- the folder ---- */

static void
expect_refused(fixture *f, const char *folder, const char *why)
{
	const ml_cache_place place = {.folder = folder, .bytes = 1 << 20};
	ml_cache c;

	assert_int_equal(ml_cache_open(&f->cx, &place, &c), ML_ERR_IO);
	assert_non_null(strstr(f->cx.diags.at[f->cx.diags.count - 1].text, why));
	assert_int_equal(c.folder, -1);
}

static void
test_refused(void **state)
{
	fixture *f = *state;
	char *inner = ml_format(&f->cx.arena, "%s/inner", f->folder);
	const ml_cache_place place = {.folder = inner, .bytes = 1 << 20};
	struct stat s;
	ml_cache c;

	expect_refused(f, ml_format(&f->cx.arena, "%s/a", inner), "No such file");
	assert_int_equal(ml_cache_open(&f->cx, &place, &c), ML_OK); /* made, for us alone */
	assert_int_equal(stat(inner, &s), 0);
	assert_int_equal(s.st_mode & 0777, 0700);
	ml_cache_close(&c, &f->cx.memory);
	assert_int_equal(rmdir(inner), 0);
	chmod(f->folder, 0770);
	expect_refused(f, f->folder, "can be written to by others");
	chmod(f->folder, 0702);
	expect_refused(f, f->folder, "can be written to by others");
	if (getuid()) /* whom nothing belongs to but what is his */
		expect_refused(f, "/", "belongs to another user");
	expect_refused(f, "/dev/null", "Not a directory");
}

/* ---- many processes ---- */

enum { PROCESSES = 6, KEYS = 5, BODY = 3000 };

static ml_bytes
nth_body(char body[BODY], int n)
{
	memset(body, 'a' + n, BODY);
	return (ml_bytes){body, (size_t)(BODY - 7 * n)};
}

/* Reads and writes until it is killed; exits when something wrong is found. */
static void
use_forever(fixture *f)
{
	ml_cache c = opened(f, 2 * BODY);
	char body[BODY], key[2] = "0";
	ml_bytes found;

	for (unsigned i = (unsigned)getpid();; i = i * 5 + 1) {
		int n = (int)(i >> 8) % KEYS;
		key[0] = (char)('0' + n);
		ml_bytes expected = nth_body(body, n);
		if (ml_cache_get(&c, &f->cx.memory, text(key), &found)) {
			if (found.size != expected.size ||
			    memcmp(found.at, expected.at, expected.size))
				_exit(1);
			ml_cache_drop(&f->cx.memory, &found);
		}
		if (i & 64)
			ml_cache_put(&c, text(key), expected);
		if ((i & 1023) == 0) {
			ml_cache_close(&c, &f->cx.memory);
			c = opened(f, 2 * BODY);
		}
	}
}

/* Processes are killed in the middle of everything; what is found is right at any time. */
static void
test_killed(void **state)
{
	fixture *f = *state;
	pid_t child[PROCESSES];
	char body[BODY];
	int status;

	for (int i = 0; i < PROCESSES; i++) {
		child[i] = fork();
		assert_true(child[i] >= 0);
		if (!child[i])
			use_forever(f);
	}
	for (int i = 0; i < PROCESSES; i++) {
		nanosleep(&(struct timespec){0, 50000000}, NULL);
		assert_int_equal(kill(child[i], SIGKILL), 0);
		assert_int_equal(waitpid(child[i], &status, 0), child[i]);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
	ml_cache c = opened(f, 1 << 20);
	for (int n = 0; n < KEYS; n++) {
		char key[2] = {(char)('0' + n), 0};
		holds(f, &c, text(key), nth_body(body, n)); /* asserts that it is right */
		ml_cache_put(&c, text(key), nth_body(body, n));
		assert_true(holds(f, &c, text(key), nth_body(body, n)));
	}
	ml_cache_close(&c, &f->cx.memory);
}

/* ---- the bound ---- */

static void
set_age(const char *path, int64_t seconds)
{
	const struct timespec t[2] = {{.tv_sec = time(NULL) - seconds},
				      {.tv_sec = time(NULL) - seconds}};

	assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

static void
test_bound(void **state)
{
	fixture *f = *state;
	char body[1000] = "", key[2] = "0";
	ml_bytes kilobyte = {body, sizeof body};
	ml_cache c = opened(f, 4500);

	for (int i = 0; i < 4; i++) {
		key[0] = (char)('0' + i);
		ml_cache_put(&c, text(key), kilobyte);
		each_file(f, set_age, 1000 * (10 - i)); /* the last one's age counts */
	}
	ml_cache_close(&c, &f->cx.memory);
	assert_int_equal(each_file(f, NULL, 0), 4);
	/* All are equally old now; two are used, so the other two go first. */
	c = opened(f, 3500);
	assert_true(holds(f, &c, text("0"), kilobyte));
	assert_true(holds(f, &c, text("2"), kilobyte));
	ml_cache_put(&c, text("4"), kilobyte);
	ml_cache_close(&c, &f->cx.memory);
	c = opened(f, 3500);
	assert_int_equal(each_file(f, NULL, 0), 3);
	assert_true(holds(f, &c, text("0"), kilobyte));
	assert_false(holds(f, &c, text("1"), kilobyte));
	assert_true(holds(f, &c, text("2"), kilobyte));
	assert_false(holds(f, &c, text("3"), kilobyte));
	assert_true(holds(f, &c, text("4"), kilobyte));
	ml_cache_close(&c, &f->cx.memory);
}

/* What a killed process left goes later; files that are not the cache's stay. */
static void
test_leftovers(void **state)
{
	fixture *f = *state;
	ml_cache c = opened(f, 1);
	const char *const name[] = {"tmp-0123456789abcdef", "notes.txt"};

	for (int i = 0; i < 2; i++) {
		int fd = open(ml_format(&f->cx.arena, "%s/%s", f->folder, name[i]),
			      O_WRONLY | O_CREAT, 0600);
		assert_true(fd >= 0);
		close(fd);
	}
	ml_cache_put(&c, text("a"), text("first"));
	ml_cache_close(&c, &f->cx.memory);
	assert_int_equal(each_file(f, set_age, 100000), 2); /* the entry is beyond the bound */
	c = opened(f, 1 << 20);
	ml_cache_put(&c, text("a"), text("first"));
	ml_cache_close(&c, &f->cx.memory);
	assert_int_equal(each_file(f, NULL, 0), 2);
	assert_int_equal(access(ml_format(&f->cx.arena, "%s/notes.txt", f->folder), F_OK), 0);
}

int
main(void)
{
#define CACHE_TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CACHE_TEST(test_keeps),  CACHE_TEST(test_memory),     CACHE_TEST(test_none),
		CACHE_TEST(test_damage), CACHE_TEST(test_wrong_file), CACHE_TEST(test_refused),
		CACHE_TEST(test_killed), CACHE_TEST(test_bound),      CACHE_TEST(test_leftovers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
