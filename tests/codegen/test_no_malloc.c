/* test_no_malloc.c -- within reserved dims run() calls neither malloc nor mmap, with own threads.
 */
#include "harness_model.h"
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <cmocka.h>

/* The whole process calls these; they count while `watching`. */
static int watching, calls;

#if defined(__SANITIZE_ADDRESS__)
#define INTERPOSED 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define INTERPOSED 0
#endif
#endif
#ifndef INTERPOSED
#define INTERPOSED 1

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static void
note(void)
{
	if (__atomic_load_n(&watching, __ATOMIC_SEQ_CST))
		__atomic_fetch_add(&calls, 1, __ATOMIC_SEQ_CST);
}

void *
malloc(size_t n)
{
	note();
	return __libc_malloc(n);
}

void *
calloc(size_t n, size_t size)
{
	note();
	return __libc_calloc(n, size);
}

void *
realloc(void *p, size_t n)
{
	note();
	return __libc_realloc(p, n);
}

void *
aligned_alloc(size_t align, size_t n)
{
	note();
	return __libc_memalign(align, n);
}

void *
mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
	static void *(*next)(void *, size_t, int, int, int, off_t);

	note();
	if (!next)
		*(void **)(void *)&next = dlsym(RTLD_NEXT, "mmap");
	return next(at, n, protection, flags, fd, offset);
}
#endif

static int
calls_of_step(ml_session *s)
{
	calls = 0;
	watching = 1;
	ml_status status = ml_session_run(s);
	watching = 0;
	assert_int_equal(status, ML_OK);
	return calls;
}

static int
runs_without(ml_session *s, const float *x, int64_t batch, int64_t n)
{
	ml_session_set_input(s, 0, x, (int64_t[]){batch, n, 24}, 3);
	return calls_of_step(s);
}

static void
test_reserved(void **state)
{
	static float x[16 * 16 * 24];
	const ml_target *level[ML_LEVEL_COUNT];
	model m;
	ml_session *s;

	(void)state;
	if (!INTERPOSED)
		skip();
	model_open(&m, model_linear);
	model_compile(&m, level[model_levels(level) - 1]);
	assert_int_equal(ml_session_new(m.model, &(ml_session_options){.threads = 3}, &s, NULL),
			 ML_OK);
	assert_int_equal(ml_session_reserve(s, (int64_t[]){8, 16, 24}), ML_OK);
	assert_int_equal(runs_without(s, x, 8, 16), 0);
	assert_int_equal(runs_without(s, x, 1, 1), 0);
	assert_int_equal(runs_without(s, x, 5, 11), 0);
	assert_int_equal(runs_without(s, x, 8, 16), 0);
	assert_true(runs_without(s, x, 16, 16) > 0); /* the counters do count */
	ml_session_free(s);
	model_close(&m);
}

/* A state that grows row by row, up to what was reserved and beyond. */
static void
test_state(void **state)
{
	static const char text[] = "module \"rows\" {\n  sym p\n"
				   "  in %0 \"past\" : f32[2, p, 3]\n"
				   "  in %1 \"x\" : f32[2, 1, 3]\n"
				   "  %2 = concat %0, %1 {axis = 1} : f32[2, p + 1, 3]\n"
				   "  %3 = reduce_sum %2 {axes = [1]} : f32[2, 1, 3]\n"
				   "  out \"present\" = %2\n  out \"sum\" = %3\n}\n";
	static const float x[6] = {1, 2, 3, 4, 5, 6};
	const ml_target *level[ML_LEVEL_COUNT];
	model m;
	ml_session *s;

	(void)state;
	if (!INTERPOSED)
		skip();
	model_open(&m, text);
	model_compile(&m, level[model_levels(level) - 1]);
	assert_int_equal(ml_session_new(m.model, NULL, &s, NULL), ML_OK);
	assert_int_equal(ml_session_bind_state(s, "past", "present"), ML_OK);
	assert_int_equal(ml_session_set_input(s, 1, x, (int64_t[]){2, 1, 3}, 3), ML_OK);
	assert_int_equal(ml_session_reserve(s, (int64_t[]){2, 99, 3, 2, 1, 3}), ML_OK);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 100; i++)
			assert_int_equal(calls_of_step(s), 0);
		if (round == 0)
			ml_session_reset_states(s);
	}
	int later = 0;
	for (int i = 0; i < 150; i++) /* then room doubles */
		later += calls_of_step(s) > 0;
	assert_true(later > 0 && later <= 3);
	ml_session_free(s);
	model_close(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reserved),
		cmocka_unit_test(test_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
