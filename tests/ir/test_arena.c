/* test_arena.c -- bump allocation, vectors, text, and unwinding when memory runs out. */
#include "ir/arena.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Counts what is allocated and refuses the block number `fail_at`. */
typedef struct budget {
	size_t live;
	int blocks, fail_at;
} budget;

static void *
budgeted(void *user, void *p, size_t old_size, size_t new_size)
{
	budget *b = user;

	if (new_size && (b->blocks++ == b->fail_at || new_size > SIZE_MAX / 4))
		return NULL;
	b->live += new_size - old_size;
	if (new_size)
		return realloc(p, new_size);
	free(p);
	return NULL;
}

static void
test_blocks(void **state)
{
	budget b = {.fail_at = -1};
	ml_memory memory = {.resize = budgeted, .user = &b};
	ml_arena arena;

	(void)state;
	ml_arena_init(&arena, &memory);
	for (size_t n = 0; n < 300; n++) {
		unsigned char *p = ml_alloc(&arena, n * 50);
		assert_int_equal((uintptr_t)p % 16, 0);
		for (size_t i = 0; i < n * 50; i++)
			assert_int_equal(p[i], 0);
		memset(p, 0xff, n * 50);
	}
	assert_true(arena.total <= b.live);
	ml_arena_free(&arena);
	assert_int_equal(b.live, 0);
	assert_int_equal(*(char *)ml_alloc(&arena, 1), 0); /* can be used again */
	ml_arena_free(&arena);
	assert_int_equal(b.live, 0);
}

static void
test_vector(void **state)
{
	ml_memory memory = ml_memory_libc();
	ml_arena arena;
	ML_VEC(int) v = {0};

	(void)state;
	ml_arena_init(&arena, &memory);
	for (int i = 0; i < 1000; i++)
		ML_PUSH(&arena, v, i * 3);
	assert_int_equal(v.count, 1000);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(v.at[i], i * 3);
	ml_arena_free(&arena);
}

static void
test_text(void **state)
{
	ml_memory memory = ml_memory_libc();
	ml_arena arena;
	ml_text t;
	char expected[4001] = "";

	(void)state;
	ml_arena_init(&arena, &memory);
	ml_text_init(&t, &arena);
	assert_string_equal(t.at, "");
	for (int i = 0; i < 1000; i++) {
		ml_put(&t, "%03d,", i);
		snprintf(expected + 4 * i, 5, "%03d,", i);
	}
	ml_put_bytes(&t, "tail", 0);
	assert_int_equal(t.length, 4000);
	assert_string_equal(t.at, expected);
	ml_arena_free(&arena);
}

static void
test_strings(void **state)
{
	ml_memory memory = ml_memory_libc();
	ml_arena arena;
	char big[1000];

	(void)state;
	ml_arena_init(&arena, &memory);
	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = 0;
	assert_string_equal(ml_strdup(&arena, "abc"), "abc");
	assert_string_equal(ml_strndup(&arena, "abc", 2), "ab");
	assert_string_equal(ml_format(&arena, "%s=%d", "n", 7), "n=7");
	assert_string_equal(ml_format(&arena, "%s", big), big);
	ml_arena_free(&arena);
}

static void
test_unwinding(void **state)
{
	budget b = {.fail_at = 2};
	jmp_buf fail;
	ml_memory memory = {.resize = budgeted, .user = &b, .on_fail = &fail};
	static ml_arena arena;

	(void)state;
	ml_arena_init(&arena, &memory);
	if (!setjmp(fail)) {
		for (int i = 0; i < 100; i++)
			ml_alloc(&arena, 3000);
		fail_msg("the third block should have failed");
	}
	ml_arena_free(&arena);
	assert_int_equal(b.live, 0);
	b.fail_at = -1;
	if (!setjmp(fail)) {
		ml_alloc_array(&arena, SIZE_MAX / 2, 3);
		fail_msg("a product that overflows should have failed");
	}
	ml_arena_free(&arena);
	assert_int_equal(b.live, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks),    cmocka_unit_test(test_vector),
		cmocka_unit_test(test_text),      cmocka_unit_test(test_strings),
		cmocka_unit_test(test_unwinding),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
