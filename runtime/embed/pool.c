/* pool.c -- the thread pool that runs a region's tiles: static shares, bounded spinning, futex. */
#include "pool.h"
#include "host.h"

enum {
	/* Rounds of pause before sleeping: longer than the gap between two regions, far shorter
	 * than a time slice, so that a busy machine loses little to waiting threads. */
	SPINS = 2000,
	LINE = 64,
};

typedef struct team team;
typedef struct worker {
	team *team;
	int64_t number;
	unsigned long thread;
} worker;

/* Words that different threads write lie in different cache lines. */
struct team {
	mlrt_pool pool;
	mlrt_kernel *kernel;
	const mlrt_task *task;
	int64_t tiles;
	uint32_t busy; /* someone is inside parallel() */
	uint32_t stop;
	_Alignas(LINE) uint32_t round;   /* futex: rises with every job */
	uint32_t sleepers;               /* workers that may be asleep on it */
	_Alignas(LINE) uint32_t pending; /* futex: workers that have not finished this round */
	uint32_t caller_sleeps;
	_Alignas(LINE) worker worker[];
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

/* Waits until *word is no longer `value`.  `asleep` tells the one who changes the word that a
 * wake-up is needed; both sides write before they read, so none is lost. */
static void
wait_for_change(uint32_t *word, uint32_t value, uint32_t *asleep)
{
	for (int i = 0; i < SPINS; i++) {
		if (read_word(word) != value)
			return;
		pause_briefly();
	}
	__atomic_fetch_add(asleep, 1, __ATOMIC_SEQ_CST);
	while (read_word(word) == value)
		sleep_while(word, value);
	__atomic_fetch_sub(asleep, 1, __ATOMIC_SEQ_CST);
}

/* First tile of thread t: tiles * t / threads without overflow. */
static int64_t
share(int64_t tiles, int64_t t, int64_t threads)
{
	return tiles / threads * t + tiles % threads * t / threads;
}

static void
run_share(const team *g, int64_t t)
{
	int64_t begin = share(g->tiles, t, g->pool.threads);
	int64_t end = share(g->tiles, t + 1, g->pool.threads);

	if (begin < end)
		g->kernel(g->task, begin, end, g->task->scratch + t * g->task->scratch_stride);
}

static void *
work(void *argument)
{
	const worker *w = argument;
	team *g = w->team;

	for (uint32_t seen = 0;; seen++) {
		wait_for_change(&g->round, seen, &g->sleepers);
		if (read_word(&g->stop))
			return NULL;
		run_share(g, w->number);
		if (__atomic_sub_fetch(&g->pending, 1, __ATOMIC_SEQ_CST) == 0 &&
		    read_word(&g->caller_sleeps))
			wake_all(&g->pending);
	}
}

static void
next_round(team *g)
{
	__atomic_fetch_add(&g->round, 1, __ATOMIC_SEQ_CST);
	if (read_word(&g->sleepers))
		wake_all(&g->round);
}

static void
serial_parallel(const mlrt_pool *p, mlrt_kernel *kernel, const mlrt_task *task, int64_t tiles)
{
	(void)p;
	if (tiles > 0)
		kernel(task, 0, tiles, task->scratch);
}

static void
team_parallel(const mlrt_pool *p, mlrt_kernel *kernel, const mlrt_task *task, int64_t tiles)
{
	team *g = p->user;

	if (tiles < 2 || __atomic_exchange_n(&g->busy, 1, __ATOMIC_ACQUIRE)) {
		serial_parallel(p, kernel, task, tiles);
		return;
	}
	g->kernel = kernel;
	g->task = task;
	g->tiles = tiles;
	__atomic_store_n(&g->pending, (uint32_t)g->pool.threads - 1, __ATOMIC_SEQ_CST);
	next_round(g);
	run_share(g, 0);
	for (uint32_t left; (left = read_word(&g->pending)) != 0;)
		wait_for_change(&g->pending, left, &g->caller_sleeps);
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

	*g = (team){.pool = {serial_parallel, 1, 0, g}};
	/* Signals belong to the application's own threads. */
	syscall(MLRT_SYS_SIGPROCMASK, (long)MLRT_SIG_SETMASK, &all, &before, (long)sizeof all);
	for (; started < threads; started++) {
		worker *w = &g->worker[started];
		*w = (worker){g, started, 0};
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
	next_round(g);
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
