/* test_jit.c -- models in memory: right on every level, at many sizes, on many threads at once. */
#include "harness_model.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void
test_levels(void **state)
{
	const ml_target *level[ML_LEVEL_COUNT];
	int n = model_levels(level);

	(void)state;
	assert_true(n > 0);
	for (int i = 0; i < n; i++) {
		model m;
		model_open(&m, model_linear);
		model_compile(&m, level[i]);
		model_check(&m, (int64_t[]){1, 1});
		model_check(&m, (int64_t[]){3, 7});
		model_check(&m, (int64_t[]){64, 2});
		model_check(&m, (int64_t[]){2, 0});
		model_close(&m);
	}
}

static const ml_target *
host(void)
{
	const ml_target *level[ML_LEVEL_COUNT];

	return level[model_levels(level) - 1];
}

static void
test_routine(void **state)
{
	model m;

	(void)state;
	model_open(&m, model_nonzero);
	model_compile(&m, host());
	model_check(&m, (int64_t[]){1, 0});
	model_check(&m, (int64_t[]){0, 0});
	model_check(&m, (int64_t[]){1000, 0});
	model_close(&m);
}

/* The message names limits; nothing outside of the table is read. */
static void
test_fault(void **state)
{
	const int64_t bad[] = {4, 0, 5};
	float table[15] = {0};
	ml_session *s;
	model m;

	(void)state;
	model_open(&m, model_gather);
	model_compile(&m, host());
	model_check(&m, (int64_t[]){9});
	assert_int_equal(ml_session_new(m.model, NULL, &s, NULL), ML_OK);
	assert_int_equal(ml_session_set_input(s, 0, bad, (int64_t[]){3}, 1), ML_OK);
	assert_int_equal(ml_session_set_input(s, 1, table, (int64_t[]){5, 3}, 2), ML_OK);
	assert_int_equal(ml_session_run(s), ML_ERR_INDEX);
	assert_non_null(strstr(ml_session_message(s), "got 5, limit 5"));
	ml_session_free(s);
	model_close(&m);
}

/* Sizes are checked: range, and one symbol in two places. */
static void
test_wrong_sizes(void **state)
{
	float x[24] = {0};
	ml_session *s;
	model m;

	(void)state;
	model_open(&m, model_linear);
	model_compile(&m, host());
	assert_int_equal(ml_session_new(m.model, NULL, &s, NULL), ML_OK);
	assert_int_equal(ml_session_set_input(s, 0, x, (int64_t[]){65, 0, 24}, 3), ML_OK);
	assert_int_equal(ml_session_run(s), ML_ERR_SHAPE);
	assert_non_null(strstr(ml_session_message(s), "input 'x', dim 0"));
	assert_int_equal(ml_session_set_input(s, 0, x, (int64_t[]){1, 1, 23}, 3), ML_OK);
	assert_int_equal(ml_session_run(s), ML_ERR_SHAPE);
	assert_non_null(strstr(ml_session_message(s), "input 'x', dim 2"));
	ml_session_free(s);
	model_close(&m);
}

/* ---- many sessions on one model ---- */

enum { THREADS = 4, RUNS = 20, SIZE = 5 * 6 * 40 };

typedef struct user {
	pthread_t thread;
	ml_model *model;
	const float *x;
	int threads;
	float last[SIZE];
	int failures;
} user;

static void *
use(void *argument)
{
	user *u = argument;
	ml_session_options o = {.threads = u->threads};
	ml_session *s;
	ml_view v;

	if (ml_session_new(u->model, &o, &s, NULL)) {
		u->failures++;
		return NULL;
	}
	for (int i = 0; i < RUNS; i++) {
		ml_session_set_input(s, 0, u->x, (int64_t[]){5, 6, 24}, 3);
		u->failures += ml_session_run(s) || ml_session_output(s, 0, &v);
	}
	memcpy(u->last, v.data, v.bytes);
	ml_session_free(s);
	return NULL;
}

/* All see the same bits, with one thread each and with several. */
static void
test_many_sessions(void **state)
{
	float x[5 * 6 * 24];
	user u[THREADS];
	model m;

	(void)state;
	for (int i = 0; i < 5 * 6 * 24; i++)
		x[i] = (float)(i % 17) * 0.37f - 3;
	model_open(&m, model_linear);
	model_compile(&m, host());
	for (int i = 0; i < THREADS; i++) {
		u[i] = (user){.model = m.model, .x = x, .threads = 1 + i % 3};
		assert_int_equal(pthread_create(&u[i].thread, NULL, use, &u[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(u[i].thread, NULL);
		assert_int_equal(u[i].failures, 0);
		assert_memory_equal(u[i].last, u[0].last, sizeof u[0].last);
	}
	model_close(&m);
}

/* ---- steps ---- */

static void
count_step(void *user, int step, int ended)
{
	int *calls = user;

	calls[step] += ended;
}

/* A loop's steps are counted at each turn, and named as the model names them. */
static void
test_steps(void **state)
{
	float x[3 * 24] = {0};
	const int64_t trips = 5;
	int calls[8] = {0}, found = -1;
	ml_step_work work[8];
	ml_step_info info;
	ml_session *s;
	model m;

	(void)state;
	model_open(&m, model_loop);
	model_compile(&m, host());
	assert_in_range(ml_model_steps(m.model), 1, 8);
	for (int i = 0; i < ml_model_steps(m.model); i++) {
		assert_int_equal(ml_model_step(m.model, i, &info), ML_OK);
		if (!strcmp(info.kind, "contract"))
			found = i;
	}
	assert_true(found >= 0);
	assert_int_equal(ml_model_step(m.model, found, &info), ML_OK);
	assert_string_equal(info.nodes, "/a \\\"quoted\\\" node");
	assert_int_equal(info.dtype, ML_f32);
	assert_int_equal(ml_session_new(m.model, NULL, &s, NULL), ML_OK);
	assert_int_equal(ml_session_set_input(s, 0, &trips, NULL, 0), ML_OK);
	assert_int_equal(ml_session_set_input(s, 1, x, (int64_t[]){3, 24}, 2), ML_OK);
	ml_session_watch(s, count_step, calls);
	assert_int_equal(ml_session_run(s), ML_OK);
	assert_int_equal(calls[found], 5);
	assert_int_equal(ml_session_work(s, work), ML_OK);
	assert_int_equal(work[found].macs, 3 * 24 * 24);
	assert_int_equal(work[found].written_bytes, 3 * 24 * 4);
	ml_session_free(s);
	model_close(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),        cmocka_unit_test(test_routine),
		cmocka_unit_test(test_fault),         cmocka_unit_test(test_wrong_sizes),
		cmocka_unit_test(test_many_sessions), cmocka_unit_test(test_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
