/* refit.h -- the last projection of a branch, fitted again so that the stream behind it is what it
 * was in the teacher. */
#ifndef ML_PRUNE_REFIT_H
#define ML_PRUNE_REFIT_H
#include "prune.h"
#include "solve.h"

/* The linear layer or convolution that ends a branch, or NULL. */
ml_node *ml_last_layer(const ml_branch *);

/* Sums over the samples: x of the layer in the student, e of `target` in the teacher minus `sum` in
 * the student; held-out samples apart. */
ml_status ml_gram_collect(ml_pruning *, const ml_module *student, const ml_node *layer,
			  const ml_value *sum, const ml_module *teacher, const ml_value *target,
			  ml_arena *, ml_gram *fit, ml_gram *held);

/* Fits the student's branch so that its sum is the teacher's `target`.  *better: what is left on
 * held-out samples has become less; else nothing has changed. */
ml_status ml_refit_branch(ml_pruning *, ml_module *student, const ml_branch *,
			  const ml_module *teacher, const ml_value *target, bool *better);
#endif
