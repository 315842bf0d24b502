/* prune.h -- inside of pruning: what is asked for, what there is to take, and the plan. */
#ifndef ML_PRUNE_PRUNE_H
#define ML_PRUNE_PRUNE_H
#include "blocks.h"
#include "samples.h"

/* What --prune= asks for. */
typedef enum ml_target_kind {
	ML_TARGET_LAYERS,  /* N: so many layers fewer */
	ML_TARGET_SHARE,   /* 25%: of the parameters in branches */
	ML_TARGET_SPEEDUP, /* 1.5x: time of a run, measured */
	ML_TARGET_SIZE,    /* 12MB: of all weights */
} ml_target_kind;
typedef struct ml_target {
	ml_target_kind kind;
	double value;
	const char *text;
} ml_target;
ml_status ml_target_parse(ml_context *, const char *text, ml_target *);

/* What may go as one: a layer, or a branch. */
typedef struct ml_prunable {
	int first, count; /* branches */
	double error;     /* of the model without it, by ml_agree_error() */
	double seconds;   /* saved by its going; 0 where time was not asked for */
	double bytes;     /* of its weights */
	double saved;     /* in what the target counts */
} ml_prunable;

typedef struct ml_pruning {
	ml_pass_ctx *px;
	ml_module *m;
	ml_arena *arena;
	ml_target target;
	ml_blocks blocks;
	ml_samples samples;
	ml_prunable *unit;
	int units;
	double need;    /* to be saved, as `saved` counts */
	double most;    /* of it, if everything went */
	double seconds; /* of a run of the model as it is; 0 when not measured */
	bool *keep;     /* branches: the plan */
	double error;   /* of the plan */
} ml_pruning;

/* cost.c: fills in the units, what each saves, and what is needed. */
ml_status ml_prune_costs(ml_pruning *);
/* score.c: the model without the branches that are not kept, judged. */
ml_status ml_prune_judge(ml_pruning *, const bool *keep, double *error);
ml_status ml_prune_without(const ml_module *, const bool *keep, ml_arena *, ml_module **);
ml_status ml_prune_scores(ml_pruning *);
/* search.c: the plan of least error that saves enough. */
ml_status ml_prune_search(ml_pruning *);
#endif
