/* test_pool.c -- every tile runs once, with its thread's scratch, whoever calls and how often. */
#include "runtime/embed/pool.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

enum { MAX_TILES = 1000, MAX_THREADS = 7, STRIDE = 64 };

/* buffer[0]: how often each tile ran; buffer[1]: the pool, for nested calls. */
static void
count_tiles(const mlrt_task *t, int64_t begin, int64_t end, uint8_t *scratch)
{
	int *runs = t->buffer[0];
	int64_t thread = (scratch - t->scratch) / t->scratch_stride;

	for (int64_t i = begin; i < end; i++)
		runs[i]++;
	/* Only one thread writes here; the sanitizer and the sum below would see two. */
	*(int64_t *)(void *)scratch += end - begin;
	if (thread < 0 || thread >= t->dim[0])
		abort();
}

typedef struct job {
	_Alignas(64) uint8_t scratch[MAX_THREADS * STRIDE];
	int runs[MAX_TILES];
	void *buffer[2];
	int64_t threads;
	mlrt_task task;
} job;

static void
prepare(job *j, const mlrt_pool *p)
{
	memset(j, 0, sizeof *j);
	j->buffer[0] = j->runs;
	j->buffer[1] = (void *)(uintptr_t)p;
	j->threads = p->threads;
	j->task = (mlrt_task){.buffer = j->buffer,
			      .dim = &j->threads,
			      .scratch = j->scratch,
			      .scratch_stride = STRIDE};
}

static void
expect_once(const job *j, int64_t tiles)
{
	int64_t sum = 0;

	for (int64_t i = 0; i < MAX_TILES; i++)
		assert_int_equal(j->runs[i], i < tiles);
	for (int t = 0; t < MAX_THREADS; t++)
		sum += *(const int64_t *)(const void *)(j->scratch + t * STRIDE);
	assert_int_equal(sum, tiles);
}

static mlrt_pool *
start(int32_t threads, void **memory)
{
	size_t bytes = (mlrt_pool_bytes(threads) + 63) / 64 * 64;

	*memory = aligned_alloc(64, bytes);
	assert_non_null(*memory);
	return mlrt_pool_start(*memory, threads);
}

static void
test_every_tile_once(void **state)
{
	static const int64_t tiles[] = {0, 1, 2, 3, 6, 7, 8, 100, MAX_TILES};
	static job j;

	(void)state;
	for (int32_t threads = 1; threads <= MAX_THREADS; threads++) {
		void *memory;
		mlrt_pool *p = start(threads, &memory);
		assert_int_equal(p->threads, threads);
		for (size_t i = 0; i < sizeof tiles / sizeof *tiles; i++)
			for (int again = 0; again < 20; again++) {
				prepare(&j, p);
				p->parallel(p, count_tiles, &j.task, tiles[i]);
				expect_once(&j, tiles[i]);
			}
		mlrt_pool_stop(p);
		free(memory);
	}
}

/* Shares are contiguous, in order and as equal as possible. */
static void
note_share(const mlrt_task *t, int64_t begin, int64_t end, uint8_t *scratch)
{
	int64_t *share = (int64_t *)t->buffer[0] + (scratch - t->scratch) / t->scratch_stride * 2;

	share[0] = begin;
	share[1] = end;
}

static void
test_static_shares(void **state)
{
	int64_t share[3][2] = {{0}}, n = 0;
	void *memory, *buffer[] = {share};
	mlrt_task task = {.buffer = buffer, .scratch = (uint8_t *)share, .scratch_stride = 1};
	mlrt_pool *p = start(3, &memory);

	(void)state;
	p->parallel(p, note_share, &task, 11);
	for (int t = 0; t < 3; t++) {
		assert_int_equal(share[t][0], n);
		n = share[t][1];
		assert_in_range(share[t][1] - share[t][0], 3, 4);
	}
	assert_int_equal(n, 11);
	mlrt_pool_stop(p);
	free(memory);
}

/* A kernel that calls parallel() itself: the inner tiles run on its own thread. */
static void
nest(const mlrt_task *t, int64_t begin, int64_t end, uint8_t *scratch)
{
	const mlrt_pool *p = t->buffer[1];
	int *runs = t->buffer[0];

	(void)scratch;
	for (int64_t i = begin; i < end; i++) {
		static _Thread_local job inner;
		prepare(&inner, p);
		p->parallel(p, count_tiles, &inner.task, 5);
		for (int k = 0; k < 5; k++)
			runs[i] += inner.runs[k];
	}
}

static void
test_nested(void **state)
{
	static job j;
	void *memory;
	mlrt_pool *p = start(3, &memory);

	(void)state;
	prepare(&j, p);
	p->parallel(p, nest, &j.task, 50);
	for (int i = 0; i < 50; i++)
		assert_int_equal(j.runs[i], 5);
	mlrt_pool_stop(p);
	free(memory);
}

/* Two callers at once. */
typedef struct caller {
	pthread_t thread;
	const mlrt_pool *pool;
	job j;
	int wrong;
} caller;

static void *
call_often(void *argument)
{
	caller *c = argument;

	for (int i = 0; i < 300; i++) {
		prepare(&c->j, c->pool);
		c->pool->parallel(c->pool, count_tiles, &c->j.task, 40);
		for (int k = 0; k < 40; k++)
			c->wrong += c->j.runs[k] != 1;
	}
	return NULL;
}

static void
test_two_callers(void **state)
{
	static caller c[2];
	void *memory;
	mlrt_pool *p = start(3, &memory);

	(void)state;
	for (int i = 0; i < 2; i++) {
		c[i].pool = p;
		assert_int_equal(pthread_create(&c[i].thread, NULL, call_often, &c[i]), 0);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(c[i].thread, NULL);
		assert_int_equal(c[i].wrong, 0);
	}
	mlrt_pool_stop(p);
	free(memory);
}

/* Sleeping threads wake up: the pause is far longer than they spin. */
static void
test_after_sleep(void **state)
{
	static job j;
	void *memory;
	mlrt_pool *p = start(4, &memory);
	struct timespec pause = {0, 30000000};

	(void)state;
	for (int i = 0; i < 5; i++) {
		nanosleep(&pause, NULL);
		prepare(&j, p);
		p->parallel(p, count_tiles, &j.task, 64);
		expect_once(&j, 64);
	}
	nanosleep(&pause, NULL);
	mlrt_pool_stop(p);
	free(memory);
}

static void
test_serial(void **state)
{
	static job j;

	(void)state;
	prepare(&j, &mlrt_serial_pool);
	mlrt_serial_pool.parallel(&mlrt_serial_pool, count_tiles, &j.task, 9);
	expect_once(&j, 9);
	assert_true(mlrt_cpus() >= 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_tile_once), cmocka_unit_test(test_static_shares),
		cmocka_unit_test(test_nested),          cmocka_unit_test(test_two_callers),
		cmocka_unit_test(test_after_sleep),     cmocka_unit_test(test_serial),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
