/* direct.h -- what an artefact's natural C functions call; they only fill in the arrays.
 *
 * int32_t NAME(const int64_t *ids, float *out, int64_t batch, void *workspace) and its companions
 * work without libmlopt-rt: this part is in every artefact.
 */
#ifndef MLRT_DIRECT_H
#define MLRT_DIRECT_H
#include "../abi.h"

/* One per artefact, in writable memory, zeroed: the choices made at the first call. */
typedef struct mlrt_direct {
	const mlrt_program *program;
	const mlrt_level *level;
	mlrt_pool *pool; /* NULL: the calling thread alone */
	void *pool_memory;
} mlrt_direct;

/* Runs; `state` has nstate words and holds the results' true dims afterwards.  workspace NULL: the
 * call allocates and frees what it needs.  ml_status. */
int32_t mlrt_direct_run(mlrt_direct *, const int64_t *in_dims, int64_t *state, void *const *in,
			void *const *out, void *workspace);
/* Bytes of workspace for these dims, or minus an ml_status. */
int64_t mlrt_direct_workspace(mlrt_direct *, const int64_t *in_dims, int64_t *state);
/* Sets the number of threads of all later calls, 0: all CPUs; not while a call is running. */
int32_t mlrt_direct_threads(mlrt_direct *, int32_t threads);
#endif
