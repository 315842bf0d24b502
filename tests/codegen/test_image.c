/* test_image.c -- the weights image in what a linker made: in its place, nothing else changed;
 * without room, and on a full disk, there is no artefact. */
#include "codegen/image.h"
#include "codegen/link.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { IMAGE = 300001 };

typedef struct fixture {
	ml_context cx;
	char folder[32];
	const char *room, *linked, *out, *log;
	ml_image image;
} fixture;

static const char *
in_folder(fixture *f, const char *name)
{
	return ml_format(&f->cx.arena, "%s/%s", f->folder, name);
}

static char *
read_file(fixture *f, const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	struct stat s;

	assert_non_null(file);
	assert_int_equal(fstat(fileno(file), &s), 0);
	*size = (size_t)s.st_size;
	char *bytes = ml_alloc(&f->cx.arena, *size);
	assert_int_equal(fread(bytes, 1, *size, file), *size);
	fclose(file);
	return bytes;
}

static int
open_fixture(void **state)
{
	fixture *f = calloc(1, sizeof *f);

	f->cx.memory = ml_memory_libc();
	ml_arena_init(&f->cx.arena, &f->cx.memory);
	strcpy(f->folder, "/tmp/mlopt-image-XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	f->room = in_folder(f, "room.o");
	f->linked = in_folder(f, "linked");
	f->out = in_folder(f, "out");
	f->log = in_folder(f, "log");
	f->image = (ml_image){ml_alloc(&f->cx.arena, IMAGE), IMAGE};
	for (size_t i = 0; i < IMAGE; i++)
		f->image.at[i] = (uint8_t)(1 + i % 251);
	*state = f;
	return 0;
}

static int
close_fixture(void **state)
{
	fixture *f = *state;

	unlink(f->room);
	unlink(f->linked);
	unlink(f->out);
	unlink(f->log);
	rmdir(f->folder);
	ml_arena_free(&f->cx.arena);
	free(f);
	return 0;
}

static void
link_room(fixture *f, const ml_target *target, const char *kind)
{
	ml_bytes room = ml_image_room(&f->cx.arena, IMAGE, target);
	FILE *file = fopen(f->room, "wb");
	const char *const words[] = {ml_find_tool(&f->cx.arena, "ld.lld"), kind, "-o", f->linked,
				     f->room};
	ml_words w = {0};
	ml_tool tool;

	assert_non_null(file);
	assert_int_equal(fwrite(room.at, 1, room.size, file), room.size);
	fclose(file);
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		ML_PUSH(&f->cx.arena, w, words[i]);
	assert_int_equal(ml_tool_start(&f->cx, &f->cx.arena, &w, f->log, &tool), ML_OK);
	assert_int_equal(ml_tool_end(&f->cx, &f->cx.arena, &tool), ML_OK);
}

/* The hole is zeros: with the image taken out again, the file is what the linker wrote. */
static void
test_place(void **state)
{
	fixture *f = *state;
	static const char *const kinds[] = {"-shared", "-r"};
	static const char *const levels[] = {"avx2", "neon"};

	for (int i = 0; i < 4; i++) {
		size_t size, linked_size;
		link_room(f, ml_target_named(levels[i / 2]), kinds[i % 2]);
		unlink(f->out);
		assert_int_equal(ml_image_place(&f->cx, &f->image, f->linked, f->out), ML_OK);
		char *out = read_file(f, f->out, &size);
		char *linked = read_file(f, f->linked, &linked_size);
		assert_int_equal(size, linked_size);
		char *image = memmem(out, size, f->image.at, IMAGE);
		assert_non_null(image);
		assert_true(i % 2 || (image - out) % 4096 == 0);
		memset(image, 0, IMAGE);
		assert_memory_equal(out, linked, size);
	}
}

static void
test_no_room(void **state)
{
	fixture *f = *state;

	link_room(f, ml_target_named("avx2"), "-shared");
	assert_int_equal(ml_image_place(&f->cx, &f->image, f->room, f->out), ML_ERR_CODEGEN);
	f->image.bytes--;
	assert_int_equal(ml_image_place(&f->cx, &f->image, f->linked, f->out), ML_ERR_CODEGEN);
	assert_int_equal(ml_image_place(&f->cx, &f->image, f->log, f->out), ML_ERR_IO);
	assert_int_equal(access(f->out, F_OK), -1);
}

/* A full disk, played by a limit on the size of files. */
static void
test_full_disk(void **state)
{
	fixture *f = *state;
	struct rlimit old, small;

	link_room(f, ml_target_named("avx2"), "-shared");
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = IMAGE / 2;
	void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	ml_status status = ml_image_place(&f->cx, &f->image, f->linked, f->out);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	signal(SIGXFSZ, handler);
	assert_int_equal(status, ML_ERR_IO);
	assert_non_null(strstr(f->cx.diags.at[f->cx.diags.count - 1].text, "File too large"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_place, open_fixture, close_fixture),
		cmocka_unit_test_setup_teardown(test_no_room, open_fixture, close_fixture),
		cmocka_unit_test_setup_teardown(test_full_disk, open_fixture, close_fixture),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
