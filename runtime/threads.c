/* threads.c -- the threads of a session: its own pool, or the application's behind our interface.
 */
#include "threads.h"
#include "embed/pool.h"
#include <stdio.h>
#include <string.h>

/* "max 100000" or "150000 100000": microseconds of CPU time per period; 0 when unlimited. */
static int
quota_of(const char *path)
{
	long long quota = 0, period = 0;
	FILE *f = fopen(path, "re");
	int fields;

	if (!f)
		return 0;
	fields = fscanf(f, "%lld %lld", &quota, &period);
	fclose(f);
	return fields == 2 && quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

int
mlrt_usable_cpus(void)
{
	int cpus = mlrt_cpus(), quota = quota_of("/sys/fs/cgroup/cpu.max");

	return quota && quota < cpus ? quota : cpus;
}

/* One parallel region on the application's threads. */
typedef struct region {
	mlrt_kernel *kernel;
	const mlrt_task *task;
	int64_t tiles;
	int shares;
} region;

static void
run_share(void *argument, int i)
{
	const region *r = argument;
	int64_t each = r->tiles / r->shares, rest = r->tiles % r->shares;
	int64_t begin = each * i + (i < rest ? i : rest), end = begin + each + (i < rest);

	r->kernel(r->task, begin, end, r->task->scratch + i * r->task->scratch_stride);
}

static void
foreign_parallel(const mlrt_pool *p, mlrt_kernel *kernel, const mlrt_task *task, int64_t tiles)
{
	const ml_thread_pool *theirs = p->user;
	region r = {kernel, task, tiles, tiles < p->threads ? (int)tiles : p->threads};

	if (task->small && r.shares > 1)
		r.shares = 1;
	if (r.shares > 1)
		theirs->run(theirs->user, run_share, &r, r.shares);
	else if (r.shares == 1)
		run_share(&r, 0);
}

ml_status
mlrt_threads_start(mlrt_threads *t, const ml_allocator *a, int threads, const ml_thread_pool *pool)
{
	*t = (mlrt_threads){.pool = &mlrt_serial_pool};
	if (pool) {
		t->theirs = *pool;
		t->foreign = (mlrt_pool){foreign_parallel, pool->threads > 0 ? pool->threads : 1, 0,
					 &t->theirs};
		t->pool = &t->foreign;
		return ML_OK;
	}
	threads = threads > 0 ? threads : mlrt_usable_cpus();
	if (threads == 1)
		return ML_OK;
	ml_status status = mlrt_block_grow(&t->memory, a, mlrt_pool_bytes(threads));
	if (status == ML_OK)
		t->pool = t->own = mlrt_pool_start(t->memory.at, threads);
	return status;
}

void
mlrt_threads_stop(mlrt_threads *t, const ml_allocator *a)
{
	if (t->own)
		mlrt_pool_stop(t->own);
	mlrt_block_free(&t->memory, a);
	*t = (mlrt_threads){.pool = &mlrt_serial_pool};
}
