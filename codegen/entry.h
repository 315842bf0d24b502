/* entry.h -- the generated program: mlopt_plan, mlopt_run and the tables the runtime reads.
 *
 * There is no plan interpreter: dims, guards, offsets and the calls of the kernels are straight
 * generated code, control operators are branches and loops around it.
 */
#ifndef ML_ENTRY_H
#define ML_ENTRY_H
#include "plan.h"

typedef struct ml_entry_options {
	const ml_target *const *levels; /* rising */
	int nlevels;
	const char *signature;
	bool weights_symbol; /* refer to mlopt_weights; else program.weights is NULL, filled by the
				loader */
} ml_entry_options;

/* Defines mlopt_program and what it points to; kernels are external symbols k<spec>_<level>. */
ml_status ml_emit_entry(ml_emit *, ml_plan *, const ml_entry_options *);

/* ---- between entry's files ---- */

/* Words of mlrt_frame.state. */
int ml_state_outputs(void);            /* first word of the outputs' dims */
int ml_state_symbols(const ml_plan *); /* first word of the symbols */
int ml_state_slots(const ml_plan *);   /* first word of the slots' offsets */
int ml_state_words(const ml_plan *);

/* States are plain tensors: for callers of their own memory. */
void ml_emit_plain_states(ml_emit *, const ml_plan *, ml_v state);

/* Where a dim's symbols are: a state array.  `overflow`, an alloca of i1, is set when arithmetic
 * overflows or divides by zero; NULL when that is excluded. */
typedef struct ml_dim_source {
	ml_emit *e;
	const ml_plan *plan;
	ml_v state, overflow;
} ml_dim_source;
ml_v ml_emit_dim(const ml_dim_source *, ml_dim);

/* if (!ok) { *fault = {status, site, value, limit}; return status; } */
typedef struct ml_requirement {
	ml_v ok;
	ml_status status;
	const char *site;
	ml_v value, limit;
} ml_requirement;
void ml_emit_require(ml_emit *, ml_plan *, ml_v fault, const ml_requirement *);
ml_requirement ml_emit_guard(const ml_dim_source *, const ml_guard *);
/* The last fresh symbol that occurs in d, or NULL: d is known when that symbol is. */
const ml_sym *ml_newest_fresh(ml_dim d);

ml_v ml_emit_plan_function(ml_emit *, ml_plan *);
ml_v ml_emit_run_function(ml_emit *, ml_plan *);
ml_v ml_emit_work_function(ml_emit *, const ml_plan *);

/* Stack memory that lives as long as the function, wherever the builder stands. */
ml_v ml_entry_alloca(ml_emit *, LLVMTypeRef element, int count);

/* Struct fields of runtime/abi.h by byte offset. */
#define ML_FIELD(e, type, pointer, struct_, field)                                                 \
	ml_load((e), (type),                                                                       \
		ml_gep((e), (e)->i8, (pointer), ml_i64((e), (int64_t)offsetof(struct_, field))),   \
		8)
#define ML_SET_FIELD(e, value, pointer, struct_, field)                                            \
	ml_store((e), (value),                                                                     \
		 ml_gep((e), (e)->i8, (pointer), ml_i64((e), (int64_t)offsetof(struct_, field))),  \
		 4)
#endif
