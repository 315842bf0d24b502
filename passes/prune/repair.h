/* repair.h -- what remains is fitted to the teacher, in closed form, from the first cut on. */
#ifndef ML_PRUNE_REPAIR_H
#define ML_PRUNE_REPAIR_H
#include "prune.h"

/* student: the teacher without the branches that are not kept.  Its remaining branches are refitted
 * from the input to the output, each on what the student computes by then, to what the next one
 * read in the teacher. */
ml_status ml_repair(ml_pruning *, ml_module *student, const ml_module *teacher, const bool *keep);
/* The module without the branches that are not kept, repaired where that makes it better. */
ml_status ml_keep_branches(ml_pass_ctx *, ml_module *, const bool *keep);
#endif
