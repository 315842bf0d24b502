/* direct.c -- what an artefact's natural C functions call; they only fill in the arrays. */
#include "direct.h"
#include "host.h"
#include "level.h"
#include "pool.h"
#include "mlopt/mlopt.h"

enum { ALIGN = 64 };

static uint8_t *
aligned(void *p)
{
	return (uint8_t *)(((uintptr_t)p + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
}

static const mlrt_pool *
pool_of(const mlrt_direct *d)
{
	return d->pool ? d->pool : &mlrt_serial_pool;
}

/* Several threads may be the first; all come to the same choice. */
static int32_t
prepare(mlrt_direct *d)
{
	const mlrt_level *level = __atomic_load_n(&d->level, __ATOMIC_ACQUIRE);

	if (level)
		return ML_OK;
	int32_t status = mlrt_choose_level(d->program, &level);
	if (status == ML_OK)
		__atomic_store_n(&d->level, level, __ATOMIC_RELEASE);
	return status;
}

/* Plans; *bytes becomes the need for workspace. */
static int32_t
plan(mlrt_direct *d, const int64_t *in_dims, int64_t *state, mlrt_fault *fault, int64_t *bytes)
{
	int32_t threads = pool_of(d)->threads, status = prepare(d);
	int64_t scratch;

	if (status == ML_OK)
		status = d->program->plan(in_dims, threads, state, fault);
	if (status != ML_OK)
		return status;
	if (__builtin_mul_overflow(state[MLRT_STATE_SCRATCH], (int64_t)threads, &scratch) ||
	    __builtin_add_overflow(state[MLRT_STATE_ARENA], scratch, bytes) ||
	    __builtin_add_overflow(*bytes, (int64_t)ALIGN, bytes))
		return ML_ERR_LIMIT;
	return ML_OK;
}

int32_t
mlrt_direct_run(mlrt_direct *d, const int64_t *in_dims, int64_t *state, void *const *in,
		void *const *out, void *workspace)
{
	mlrt_frame f = {.in = in, .out = out, .state = state, .pool = pool_of(d)};
	int64_t bytes = 0;
	int32_t status = plan(d, in_dims, state, &f.fault, &bytes);
	void *own = NULL;

	if (status != ML_OK)
		return status;
	if (!workspace) {
		workspace = own = malloc((size_t)bytes);
		if (!own)
			return ML_ERR_NOMEM;
	}
	f.arena = aligned(workspace);
	f.weights = d->program->weights;
	f.kernels = d->level->kernels;
	status = d->program->run(&f);
	free(own);
	return status;
}

int64_t
mlrt_direct_workspace(mlrt_direct *d, const int64_t *in_dims, int64_t *state)
{
	mlrt_fault fault = {0};
	int64_t bytes = 0;
	int32_t status = plan(d, in_dims, state, &fault, &bytes);

	return status == ML_OK ? bytes : -(int64_t)status;
}

int32_t
mlrt_direct_threads(mlrt_direct *d, int32_t threads)
{
	if (d->pool) {
		mlrt_pool_stop(d->pool);
		free(d->pool_memory);
		d->pool = NULL;
	}
	if (threads <= 0)
		threads = mlrt_cpus();
	if (threads == 1)
		return ML_OK;
	d->pool_memory = malloc(mlrt_pool_bytes(threads) + ALIGN);
	if (!d->pool_memory)
		return ML_ERR_NOMEM;
	d->pool = mlrt_pool_start(aligned(d->pool_memory), threads);
	return ML_OK;
}
