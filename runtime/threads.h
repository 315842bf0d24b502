/* threads.h -- the threads of a session: its own pool, or the application's behind our interface.
 */
#ifndef MLRT_THREADS_H
#define MLRT_THREADS_H
#include "abi.h"
#include "block.h"

typedef struct mlrt_threads {
	const mlrt_pool *pool;
	mlrt_block memory; /* of a pool of its own */
	mlrt_pool *own;    /* in that memory, or NULL */
	mlrt_pool foreign; /* in front of `theirs` */
	ml_thread_pool theirs;
} mlrt_threads;

/* CPUs that this process may use at once: its affinity mask and its cgroup's quota; at least 1. */
int mlrt_usable_cpus(void);

/* threads 0: mlrt_usable_cpus().  The struct must not move afterwards. */
ml_status mlrt_threads_start(mlrt_threads *, const ml_allocator *, int threads,
			     const ml_thread_pool *);
void mlrt_threads_stop(mlrt_threads *, const ml_allocator *);
#endif
