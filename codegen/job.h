/* job.h -- one object file to be made, and the worker that makes it. */
#ifndef ML_JOB_H
#define ML_JOB_H
#include "cache.h"
#include "contract.h"
#include "embedded.h"
#include "kernel.h"
#include "plan.h"

typedef enum ml_job_kind {
	ML_JOB_KERNEL,   /* a specification */
	ML_JOB_TILES,    /* contraction tiles of one form */
	ML_JOB_EMITTED,  /* a module that is already there: the entry */
	ML_JOB_EMBEDDED, /* a file of the embedded runtime, from bitcode */
} ml_job_kind;

typedef struct ml_job {
	ml_job_kind kind;
	const ml_target *target;
	const char *name;
	int spec;              /* KERNEL */
	ml_contract_form form; /* TILES */
	ml_emit emitted;       /* EMITTED; closed by the job */
	ml_embedded bitcode;   /* EMBEDDED */
	/* results */
	bool uses_tiles[ML_CONTRACT_FORMS]; /* KERNEL */
	LLVMMemoryBufferRef object;
	ml_status status;
	char message[512];
} ml_job;

/* Contraction tiles of a form. */
ml_job ml_tiles_job(ml_arena *, const ml_target *, ml_contract_form);

/* What a worker thread keeps between jobs. */
typedef struct ml_worker {
	ml_context cx; /* its own: memory, diagnostics */
	LLVMTargetMachineRef machine[ML_LEVEL_COUNT], entry_machine;
	LLVMMemoryBufferRef bitcode; /* of the job's key, or NULL */
	const ml_plan *plan;         /* read only */
	const char *save_temps;      /* or NULL */
	bool check;                  /* no machine code is made */
	ml_cache *cache;             /* shared by all workers */
} ml_worker;

/* The last four members are set; opens the others. */
void ml_worker_open(ml_worker *, const ml_memory *);
void ml_worker_close(ml_worker *);
/* Fills the job's results; never unwinds. */
void ml_worker_do(ml_worker *, ml_job *);
#endif
