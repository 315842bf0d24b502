/* pool.h -- the thread pool that runs a region's tiles: shares taken in chunks, bounded spinning.
 *
 * A pool lives in memory the caller gives it.  Thread 0 is whoever calls parallel(); threads
 * 1..n-1 are the pool's own, with all signals blocked.  When the pool is busy (another session, or
 * a kernel that calls parallel itself), parallel() runs all tiles on the calling thread; tiles are
 * independent, so every partition gives the same bits.
 */
#ifndef MLRT_POOL_H
#define MLRT_POOL_H
#include "../abi.h"
#include <stddef.h>

/* Runs everything on the calling thread. */
extern const mlrt_pool mlrt_serial_pool;

/* Memory for a pool of so many threads; to be aligned to 64 bytes. */
size_t mlrt_pool_bytes(int32_t threads);
/* Starts the threads.  pool->threads is smaller than asked when the system gives no more. */
mlrt_pool *mlrt_pool_start(void *memory, int32_t threads);
/* Ends the threads; nobody may be inside parallel(). */
void mlrt_pool_stop(mlrt_pool *);

/* CPUs this thread may run on, at least 1. */
int32_t mlrt_cpus(void);
#endif
