/* refit.h -- the last projection of a branch, fitted again so that the stream behind it is what it
 * was in the teacher. */
#ifndef ML_PRUNE_REFIT_H
#define ML_PRUNE_REFIT_H
#include "prune.h"
#include "solve.h"

/* The linear layer or convolution that ends a branch, or NULL. */
ml_node *ml_last_layer(const ml_branch *);

typedef struct ml_refit {
	ml_pruning *p;
	ml_module *student;
	const ml_module *teacher;
	ml_stream read, target; /* what the student's branch reads; what the teacher has */
} ml_refit;

/* Fits the student's branch so that its sum is the teacher's `target`, where less is missing on
 * held-out samples then; else nothing changes.  Branches are fitted along the model. */
ml_status ml_refit_branch(ml_refit *, const ml_branch *, const ml_value *target);
#endif
