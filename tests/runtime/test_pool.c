/* test_pool.c -- every tile runs once, with its thread's scratch, whoever calls and how often. */
#include "runtime/embed/pool.h"
#include <pthread.h>
#include <sched.h>
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

/* A thread that does not come leaves its tiles to the others, but for those it has begun. */
static void
hold_first(const mlrt_task *t, int64_t begin, int64_t end, uint8_t *scratch)
{
	int *runs = t->buffer[0], *stuck = t->buffer[1];
	int64_t thread = (scratch - t->scratch) / t->scratch_stride;

	for (int64_t i = begin; i < end; i++)
		__atomic_fetch_add(&runs[i], 1, __ATOMIC_SEQ_CST);
	if (thread == 0)
		return;
	/* Until the caller has done all the rest. */
	__atomic_fetch_add(stuck, (int)(end - begin), __ATOMIC_SEQ_CST);
	for (int sum = 0; sum < (int)t->dim[0];) {
		sum = 0;
		for (int i = 0; i < (int)t->dim[0]; i++)
			sum += __atomic_load_n(&runs[i], __ATOMIC_SEQ_CST);
		sched_yield();
	}
}

static void
test_stolen(void **state)
{
	int64_t tiles = 64;
	int runs[64] = {0}, stuck = 0;
	uint8_t scratch[3 * STRIDE];
	void *memory, *buffer[] = {runs, &stuck};
	mlrt_task task = {
		.buffer = buffer, .dim = &tiles, .scratch = scratch, .scratch_stride = STRIDE};
	mlrt_pool *p = start(3, &memory);

	(void)state;
	p->parallel(p, hold_first, &task, tiles);
	for (int i = 0; i < 64; i++)
		assert_int_equal(runs[i], 1);
	assert_in_range(stuck, 0, 2 * 6); /* a chunk of each */
	mlrt_pool_stop(p);
	free(memory);
}

/* Small work stays on the calling thread, in one piece. */
static void
note_call(const mlrt_task *t, int64_t begin, int64_t end, uint8_t *scratch)
{
	int64_t *seen = t->buffer[0];

	seen[0]++;
	seen[1] = end - begin;
	seen[2] = scratch - t->scratch;
}

static void
test_small(void **state)
{
	int64_t seen[3] = {0};
	uint8_t scratch[3 * STRIDE];
	void *memory, *buffer[] = {seen};
	mlrt_task task = {
		.buffer = buffer, .small = 1, .scratch = scratch, .scratch_stride = STRIDE};
	mlrt_pool *p = start(3, &memory);

	(void)state;
	p->parallel(p, note_call, &task, 50);
	assert_int_equal(seen[0], 1);
	assert_int_equal(seen[1], 50);
	assert_int_equal(seen[2], 0);
	mlrt_pool_stop(p);
	free(memory);
}

/* Other threads are stopped in the middle of their chunks while *slow, and take part else. */
static void
stop_others(const mlrt_task *t, int64_t begin, int64_t end, uint8_t *scratch)
{
	int *slow = t->buffer[0], *helped = t->buffer[1];
	struct timespec tile = {0, 20000}, stopped = {0, 3000000};

	for (int64_t i = begin; i < end; i++)
		nanosleep(&tile, NULL);
	if (scratch == t->scratch)
		return;
	__atomic_store_n(helped, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(slow, __ATOMIC_SEQ_CST))
		nanosleep(&stopped, NULL);
}

/* Where threads cost more than they help, the caller goes on alone, and tries again later. */
static void
test_lost(void **state)
{
	enum { ENOUGH = 3000 };
	int slow = 1, helped, rounds = 0, alone = 0;
	uint8_t scratch[2 * STRIDE];
	void *memory, *buffer[] = {&slow, &helped};
	mlrt_task task = {.buffer = buffer, .scratch = scratch, .scratch_stride = STRIDE};
	mlrt_pool *p = start(2, &memory);

	(void)state;
	for (; alone < 8 && rounds < ENOUGH; rounds++) {
		helped = 0;
		p->parallel(p, stop_others, &task, 16);
		alone = helped ? 0 : alone + 1;
	}
	assert_in_range(rounds, 1, ENOUGH - 1);
	for (slow = helped = rounds = 0; !helped && rounds < ENOUGH; rounds++)
		p->parallel(p, stop_others, &task, 16);
	assert_in_range(rounds, 1, ENOUGH - 1);
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
		cmocka_unit_test(test_every_tile_once), cmocka_unit_test(test_stolen),
		cmocka_unit_test(test_small),           cmocka_unit_test(test_nested),
		cmocka_unit_test(test_two_callers),     cmocka_unit_test(test_after_sleep),
		cmocka_unit_test(test_serial),          cmocka_unit_test(test_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
