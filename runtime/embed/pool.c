/* pool.c -- the thread pool that runs a region's tiles: shares taken in chunks, bounded spinning.
 */
#include "pool.h"
#include "host.h"
#include <stdbool.h>

enum {
	/* Rounds of pause before sleeping: longer than the gap between two regions, far shorter
	 * than a time slice, so that a busy machine loses little to waiting threads. */
	SPINS = 2000,
	LINE = 64,
	CHUNKS = 4, /* of a share: few, as kernels prepare something for each */
	MAX_THREADS = 1024,
	/* Milliseconds.  Rounds are judged together until they took as long as a few time slices: a
	 * thread that slept comes late, and that says nothing of the rounds to come. */
	WINDOW = 8,
	MIN_PAUSE = 16,
	MAX_PAUSE = 512, /* done alone after a window that was lost */
};

typedef struct team team;

/* What a thread and whoever has work for it tell each other: one line, as lines that another core
 * has written cost most of what it takes to begin a round. */
typedef struct mailbox {
	_Alignas(LINE) uint64_t claim; /* of the share with this number */
	mlrt_kernel *kernel;
	const mlrt_task *task;
	int64_t tiles; /* of the round */
	/* Written by the thread alone: chunks it has done in its life; in the last round it took
	 * part in, ticks of a tile. */
	uint32_t done, round;
	int64_t tile_ticks;
} mailbox;

typedef struct worker {
	mailbox box;
	team *team;
	int64_t number;
	unsigned long thread;
} worker;

struct team {
	mlrt_pool pool;
	uint32_t stop;
	uint32_t bell; /* futex: rises when a worker has done something while the caller sleeps */
	uint32_t caller_sleeps;
	/* The line of the caller, and of workers that go to sleep. */
	_Alignas(LINE) uint32_t round; /* futex: rises with every job */
	uint32_t sleepers;             /* workers that may be asleep on it */
	uint32_t given;                /* chunks of all rounds */
	uint32_t busy;                 /* someone is inside parallel() */
	/* Ticks: of this window's rounds, and what they would be alone; to be done alone yet; of
	 * the next pause.  See judge(). */
	int64_t together, alone, rest, pause;
	worker worker[];
};

static void
pause_briefly(void)
{
#if defined(__x86_64__)
	__asm__ volatile("pause");
#else
	__asm__ volatile("yield");
#endif
}

/* Of a clock that is read without asking the system. */
static int64_t
ticks(void)
{
#if defined(__x86_64__)
	return (int64_t)__builtin_ia32_rdtsc();
#else
	uint64_t t;
	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
	return (int64_t)t;
#endif
}

/* Of processors whose clock does not say it, the usual. */
static int64_t
ticks_of(int64_t milliseconds)
{
#if defined(__x86_64__)
	return milliseconds * 3000000;
#else
	uint64_t hertz;
	__asm__ volatile("mrs %0, cntfrq_el0" : "=r"(hertz));
	return milliseconds * (int64_t)(hertz / 1000);
#endif
}

static uint32_t
read_word(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static void
sleep_while(uint32_t *word, uint32_t value)
{
	syscall(MLRT_SYS_FUTEX, word, (long)MLRT_FUTEX_WAIT, (long)value, (void *)0, (void *)0, 0L);
}

static void
wake_all(uint32_t *word)
{
	syscall(MLRT_SYS_FUTEX, word, (long)MLRT_FUTEX_WAKE, (long)INT32_MAX, (void *)0, (void *)0,
		0L);
}

/* First tile of thread t: tiles * t / threads without overflow. */
static int64_t
share(int64_t tiles, int64_t t, int64_t threads)
{
	return tiles / threads * t + tiles % threads * t / threads;
}

/* ---- chunks ---- */

/* A claim is one word, so that it is taken whole or not at all: the round, how many chunks the
 * share has, and which is next.  Who took a chunk holds the round until it is done; who comes late
 * finds none and looks at nothing else. */
static uint64_t
new_claim(uint32_t round, int64_t chunks)
{
	return (uint64_t)round << 32 | (uint64_t)chunks << 16;
}

static uint32_t
round_of(uint64_t claim)
{
	return (uint32_t)(claim >> 32);
}

/* The next chunk of a share, or -1. */
static int64_t
take_chunk(mailbox *box, int64_t *chunks, uint32_t *round)
{
	uint64_t v = __atomic_load_n(&box->claim, __ATOMIC_ACQUIRE);

	do {
		*chunks = (int64_t)(v >> 16 & 0xffff);
		if ((int64_t)(v & 0xffff) >= *chunks)
			return -1;
	} while (!__atomic_compare_exchange_n(&box->claim, &v, v + 1, 0, __ATOMIC_ACQ_REL,
					      __ATOMIC_ACQUIRE));
	*round = round_of(v);
	return (int64_t)(v & 0xffff);
}

/* What a thread did in a round. */
typedef struct effort {
	uint32_t chunks, round;
	int64_t tiles, of; /* its own, and all */
} effort;

/* Thread `self` does what is left of share t. */
static void
work_on_share(team *g, int64_t self, int64_t t, effort *done)
{
	mailbox *box = &g->worker[t].box;
	int64_t threads = g->pool.threads;

	for (int64_t chunks, i; (i = take_chunk(box, &chunks, &done->round)) >= 0; done->chunks++) {
		int64_t first = share(box->tiles, t, threads);
		int64_t tiles = share(box->tiles, t + 1, threads) - first;
		int64_t begin = share(tiles, i, chunks), end = share(tiles, i + 1, chunks);
		box->kernel(box->task, first + begin, first + end,
			    box->task->scratch + self * box->task->scratch_stride);
		done->tiles += end - begin;
		done->of = box->tiles;
	}
}

/* Its own share first, whose data it knows, then what others have not begun: a thread that the
 * system stopped is waited for during one chunk at most.  While it has done a chunk that it has
 * not told of, the round is not over. */
static bool
work_on_shares(team *g, int64_t self)
{
	mailbox *box = &g->worker[self].box;
	effort done = {0};
	int64_t begun = ticks();

	for (int64_t i = 0; i < g->pool.threads; i++)
		work_on_share(g, self, (self + i) % g->pool.threads, &done);
	if (!done.chunks)
		return false;
	/* Those that did enough of it can tell how long a tile takes. */
	bool enough = done.tiles && done.tiles >= done.of / (2 * g->pool.threads);
	box->tile_ticks = enough ? (ticks() - begun) / done.tiles : INT64_MAX;
	box->round = done.round;
	__atomic_store_n(&box->done, box->done + done.chunks, __ATOMIC_SEQ_CST);
	return true;
}

/* Until there is another round.  Who sleeps tells, and looks again; who has begun a round looks
 * whether someone sleeps: no wake-up is lost. */
static void
wait_for_round(team *g, const mailbox *box, uint32_t seen)
{
	for (int i = 0; i < SPINS; i++) {
		if (round_of(__atomic_load_n(&box->claim, __ATOMIC_ACQUIRE)) != seen)
			return;
		pause_briefly();
	}
	__atomic_fetch_add(&g->sleepers, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		uint32_t round = read_word(&g->round);
		if (round_of(__atomic_load_n(&box->claim, __ATOMIC_SEQ_CST)) != seen)
			break;
		sleep_while(&g->round, round);
	}
	__atomic_fetch_sub(&g->sleepers, 1, __ATOMIC_SEQ_CST);
}

static void *
work(void *argument)
{
	worker *w = argument;
	team *g = w->team;

	for (uint32_t seen = 0;;) {
		wait_for_round(g, &w->box, seen);
		seen = round_of(__atomic_load_n(&w->box.claim, __ATOMIC_ACQUIRE));
		if (read_word(&g->stop))
			return NULL;
		if (work_on_shares(g, w->number) && read_word(&g->caller_sleeps)) {
			__atomic_fetch_add(&g->bell, 1, __ATOMIC_SEQ_CST);
			wake_all(&g->bell);
		}
	}
}

/* Is all done that was given? */
static bool
is_done(const team *g)
{
	uint32_t sum = 0;

	for (int64_t t = 0; t < g->pool.threads; t++)
		sum += read_word(&g->worker[t].box.done);
	return sum == g->given;
}

static void
wait_for_all(team *g)
{
	for (int i = 0; i < SPINS; i++) {
		if (is_done(g))
			return;
		pause_briefly();
	}
	__atomic_store_n(&g->caller_sleeps, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		uint32_t bell = read_word(&g->bell);
		if (is_done(g))
			break;
		sleep_while(&g->bell, bell);
	}
	__atomic_store_n(&g->caller_sleeps, 0, __ATOMIC_SEQ_CST);
}

static void
serial_parallel(const mlrt_pool *p, mlrt_kernel *kernel, const mlrt_task *task, int64_t tiles)
{
	(void)p;
	if (tiles > 0)
		kernel(task, 0, tiles, task->scratch);
}

/* ---- is it worth it? ---- */

/* Where other processes want the CPUs, threads are stopped in the middle of chunks, and waiting
 * for them can cost more than they helped.  When a window's rounds took longer than one thread
 * would have, rounds are done alone for a while; longer each time, so that trying again costs
 * little where it fails, and shorter again after windows that gained. */
static void
judge(team *g, int64_t tiles, int64_t spent)
{
	int64_t best = INT64_MAX;

	for (int64_t t = 0; t < g->pool.threads; t++) {
		const mailbox *box = &g->worker[t].box;
		if (box->round == g->round && box->tile_ticks < best)
			best = box->tile_ticks;
	}
	if (best == INT64_MAX)
		return;
	g->together += spent;
	g->alone += best * tiles;
	if (g->together < ticks_of(WINDOW))
		return;
	if (g->together > g->alone) {
		g->rest = g->pause;
		g->pause = 4 * g->pause < ticks_of(MAX_PAUSE) ? 4 * g->pause : ticks_of(MAX_PAUSE);
	} else if (g->pause > ticks_of(MIN_PAUSE)) {
		g->pause /= 2;
	}
	g->together = g->alone = 0;
}

static bool
does_alone(team *g, const mlrt_pool *p, mlrt_kernel *kernel, const mlrt_task *task, int64_t tiles)
{
	bool others =
		tiles > 1 && !task->small && !__atomic_exchange_n(&g->busy, 1, __ATOMIC_ACQUIRE);

	if (others && g->rest <= 0)
		return false;
	int64_t begun = ticks();
	serial_parallel(p, kernel, task, tiles);
	if (others) {
		g->rest -= ticks() - begun;
		__atomic_store_n(&g->busy, 0, __ATOMIC_RELEASE);
	}
	return true;
}

/* Begins a round; nobody works on the last one any more. */
static void
publish(team *g, mlrt_kernel *kernel, const mlrt_task *task, int64_t tiles)
{
	int64_t n = g->pool.threads;
	uint32_t round = g->round + 1;

	for (int64_t t = n - 1; t >= 0; t--) {
		mailbox *box = &g->worker[t].box;
		int64_t chunks = share(tiles, t + 1, n) - share(tiles, t, n);
		chunks = chunks < CHUNKS ? chunks : CHUNKS;
		box->kernel = kernel;
		box->task = task;
		box->tiles = tiles;
		__atomic_store_n(&box->claim, new_claim(round, chunks), __ATOMIC_RELEASE);
		g->given += (uint32_t)chunks;
	}
	__atomic_store_n(&g->round, round, __ATOMIC_SEQ_CST);
	if (read_word(&g->sleepers))
		wake_all(&g->round);
}

static void
team_parallel(const mlrt_pool *p, mlrt_kernel *kernel, const mlrt_task *task, int64_t tiles)
{
	team *g = p->user;

	if (does_alone(g, p, kernel, task, tiles))
		return;
	int64_t begun = ticks();
	publish(g, kernel, task, tiles);
	work_on_shares(g, 0);
	wait_for_all(g);
	judge(g, tiles, ticks() - begun);
	__atomic_store_n(&g->busy, 0, __ATOMIC_RELEASE);
}

const mlrt_pool mlrt_serial_pool = {serial_parallel, 1, 0, NULL};

size_t
mlrt_pool_bytes(int32_t threads)
{
	return sizeof(team) + (size_t)(threads > 1 ? threads : 1) * sizeof(worker);
}

mlrt_pool *
mlrt_pool_start(void *memory, int32_t threads)
{
	team *g = memory;
	uint64_t all = ~(uint64_t)0, before = 0;
	int32_t started = 1;

	threads = threads < MAX_THREADS ? threads : MAX_THREADS;
	*g = (team){.pool = {serial_parallel, 1, 0, g}, .pause = ticks_of(MIN_PAUSE)};
	g->worker[0] = (worker){.team = g};
	/* Signals belong to the application's own threads. */
	syscall(MLRT_SYS_SIGPROCMASK, (long)MLRT_SIG_SETMASK, &all, &before, (long)sizeof all);
	for (; started < threads; started++) {
		worker *w = &g->worker[started];
		*w = (worker){.team = g, .number = started};
		if (pthread_create(&w->thread, NULL, work, w))
			break;
	}
	syscall(MLRT_SYS_SIGPROCMASK, (long)MLRT_SIG_SETMASK, &before, (void *)0,
		(long)sizeof before);
	g->pool.threads = started;
	if (started > 1)
		g->pool.parallel = team_parallel;
	return &g->pool;
}

void
mlrt_pool_stop(mlrt_pool *pool)
{
	team *g = pool->user;

	__atomic_store_n(&g->stop, 1, __ATOMIC_SEQ_CST);
	publish(g, NULL, NULL, 0);
	for (int32_t i = 1; i < pool->threads; i++)
		pthread_join(g->worker[i].thread, NULL);
}

int32_t
mlrt_cpus(void)
{
	uint64_t mask[128] = {0};
	long bytes = syscall(MLRT_SYS_SCHED_GETAFFINITY, 0L, (long)sizeof mask, mask);
	int32_t n = 0;

	for (long i = 0; i < bytes / 8; i++)
		for (uint64_t bits = mask[i]; bits; bits &= bits - 1)
			n++;
	return n > 0 ? n : 1;
}
