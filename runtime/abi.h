/* abi.h -- the contract between compiled code and the runtime: plain structs, no libc types.
 *
 * Compiled code sees these structs by field offset (codegen/abi_layout.c asserts them), so any
 * change of layout raises MLRT_ABI.  All pointers to tensors promise element alignment only.
 */
#ifndef MLRT_ABI_H
#define MLRT_ABI_H
#include <stdint.h>

enum { MLRT_ABI = 3, MLRT_MAGIC = 0x6d6c7274 };

/* The first failed run-time check of a run; `status` is an ml_status, 0 while all is well. */
typedef struct mlrt_fault {
	int32_t status; /* set once, by compare-and-swap */
	int32_t site;   /* which check: index into mlrt_program.sites */
	int64_t value;  /* the offending index or size */
	int64_t limit;  /* what it was compared with */
} mlrt_fault;

/* What one region's kernel gets.  The arrays live on the stack of the generated entry. */
typedef struct mlrt_task {
	void *const *buffer; /* inputs, then outputs of the kernel */
	const int64_t *dim;  /* values of the kernel's symbols */
	mlrt_fault *fault;
	int32_t site;     /* first site number of this region; kernels add their local number */
	int32_t small;    /* not 0: too little work for more than one thread */
	uint8_t *scratch; /* thread t owns scratch + t * scratch_stride */
	int64_t scratch_stride;
} mlrt_task;

/* Work on tiles begin..end-1 of the region's grid.  Tiles are independent: any partition among
 * threads gives the same bits. */
typedef void mlrt_kernel(const mlrt_task *, int64_t begin, int64_t end, uint8_t *scratch);

/* One call of an irregular operator's routine, int32_t mlrt_<operator>(const mlrt_routine *): 0, or
 * an ml_status with the fault set.  Numbers of dtypes are those of mlopt/types.def. */
typedef struct mlrt_routine {
	void *const *buffer;  /* operands, then results */
	const int64_t *dim;   /* all dims of all operands, in order */
	const int32_t *rank;  /* of each operand */
	const int32_t *dtype; /* of each operand */
	const int64_t *attr;  /* integer attributes in the order of ops.def, dims evaluated */
	int64_t *size;        /* receives the result's data-dependent size, if it has one */
	mlrt_fault *fault;
	int32_t site;
	int32_t reserved;
} mlrt_routine;

/* Runs a kernel over tiles 0..tiles-1 on the pool's threads and returns when all are done. */
typedef struct mlrt_pool mlrt_pool;
struct mlrt_pool {
	void (*parallel)(const mlrt_pool *, mlrt_kernel *, const mlrt_task *, int64_t tiles);
	int32_t threads; /* at least 1; thread numbers are 0..threads-1 */
	int32_t reserved;
	void *user;
};

/* Hears of a run's steps; costs a test per step where the frame has none. */
typedef struct mlrt_watch {
	void (*step)(void *user, int32_t step, int32_t ended); /* 0 before it, 1 after it */
	void *user;
} mlrt_watch;

/* One call of a program. */
typedef struct mlrt_frame {
	void *const *in;  /* tensors in declared order */
	void *const *out; /* each large enough for its dims in state */
	int64_t *state;   /* as filled by plan; run updates output dims that depend on data */
	uint8_t *arena;   /* arena_bytes, 64-byte aligned */
	const uint8_t *weights;
	mlrt_kernel *const *kernels; /* of the chosen ISA level */
	const mlrt_pool *pool;
	const mlrt_watch *watch; /* or NULL */
	mlrt_fault fault;
} mlrt_frame;

/* Layout of state: [0] arena bytes without thread scratch, [1] scratch bytes per thread,
 * then every output's dims in order, then one word for each state of the signature, then the
 * program's symbols.  A state's word is what plan reads: 0, or the rows that both tensors have room
 * for, which then are the same memory: run writes the new rows behind the old. */
enum { MLRT_STATE_ARENA = 0, MLRT_STATE_SCRATCH = 1, MLRT_STATE_DIMS = 2 };

typedef struct mlrt_level {
	const char *name; /* "avx2", "avx512vnni", ... */
	int32_t id;       /* ml_level */
	int32_t reserved;
	mlrt_kernel *const *kernels;
} mlrt_level;

/* What a step is, for profiles.  Steps are numbered as the code has them; those of branches and
 * loops are steps as well, the control around them is not. */
typedef struct mlrt_step {
	const char *nodes; /* of the model it comes from, escaped, one a line */
	const char *kind;  /* "rows", "contract", ... */
	int32_t kernel;    /* index into the kernels, -1: a routine or custom operator */
	int32_t dtype;     /* of the numbers that are multiplied, 0: none */
} mlrt_step;

/* What mlrt_program.work says of each step, in this order. */
enum { MLRT_WORK_MACS, MLRT_WORK_READ, MLRT_WORK_WEIGHTS, MLRT_WORK_WRITTEN, MLRT_WORK_COUNT };

/* What an artefact exports as `mlopt_program`, and the JIT returns. */
typedef struct mlrt_program {
	uint32_t magic, abi;
	const char *signature; /* see signature.h */
	/* Binds symbols from the inputs' dims (all inputs' dims in order), checks ranges and
	 * guards, fills state.  Returns 0 or an ml_status with *fault set. */
	int32_t (*plan)(const int64_t *in_dims, int32_t threads, int64_t *state, mlrt_fault *fault);
	int32_t (*run)(mlrt_frame *);
	const uint8_t *weights;
	uint64_t weights_bytes;
	const char *const *sites; /* text of each check: "node '/emb/Gather' (Gather-13): index" */
	int32_t nsites, nkernels;
	int32_t nlevels, nstate; /* state words */
	const mlrt_level *level; /* rising */
	const mlrt_step *step;
	int32_t nsteps, reserved;
	/* Multiply-adds and bytes of all steps at the sizes in state, once each. */
	void (*work)(const int64_t *state, int64_t *work);
} mlrt_program;
#endif
