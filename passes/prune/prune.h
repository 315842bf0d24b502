/* prune.h -- inside of pruning: what is asked for, what there is to take, and the plan. */
#ifndef ML_PRUNE_PRUNE_H
#define ML_PRUNE_PRUNE_H
#include "blocks.h"
#include "samples.h"
#include "solve.h"
#include "stream.h"

/* What --prune= asks for. */
typedef enum ml_target_kind {
	ML_TARGET_LAYERS,  /* N: so many layers fewer */
	ML_TARGET_SHARE,   /* 25%: of the parameters in branches */
	ML_TARGET_SPEEDUP, /* 1.5x: time of a run, measured */
	ML_TARGET_MACS,    /* 1.5x-macs: multiply-adds of a run, counted: `seconds` are those */
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
	double fisher;    /* the same as Fisher information has it; NaN: it says nothing */
	double seconds;   /* saved by its going; 0 where time was not asked for */
	double bytes;     /* of its weights */
	double saved;     /* in what the target counts */
} ml_prunable;

/* What a layer reads: neurons, heads or channels, of which some may go. */
typedef struct ml_width {
	uint32_t layer; /* id of the reader */
	int64_t step;   /* neighbours that go together */
	int64_t groups; /* of them; at most `most` of which go, `chunk` at once */
	int64_t most, chunk;
	double bytes, seconds, saved; /* of one group, as in ml_prunable */
	double *score;                /* of groups: the squares of the result that go with them */
	int *order;                   /* groups, least score first */
	double weight;                /* loss for a unit of score */
	ml_gram gram;                 /* of the reader's input */
} ml_width;

/* What goes: branches without `keep`, and so many groups of each width. */
typedef struct ml_cuts {
	bool *keep;
	int64_t *cut;
	double error;   /* as judged */
	double seconds; /* of a run; 0 when time was not asked for */
	int row;        /* in the table of what was tried */
} ml_cuts;

typedef struct ml_pruning {
	ml_pass_ctx *px;
	ml_module *m;
	ml_arena *arena;
	ml_target target;
	ml_blocks blocks;
	ml_samples samples;
	ml_prunable *unit;
	int units;
	ML_VEC(ml_width) width;
	double need;          /* to be saved, as `saved` counts */
	double most;          /* of it, if everything went */
	double seconds;       /* of a run of the model as it is; 0 when not measured */
	ML_VEC(ml_cuts) plan; /* those worth repairing, the best one first */
	int64_t step, steps;  /* candidates run, of about so many */
	bool rough;           /* repair is to tell plans apart only */
	ml_stream prefix;     /* of the teacher, where candidates begin to differ */
	double loss, last;    /* of the last one, NaN; its seconds, 0 */
} ml_pruning;

/* progress.c: says what is done next; ML_ERR_CANCELED when that is not wanted. */
ml_status ml_prune_tell(ml_pruning *, const char *what);

/* Does what goes count by what a run takes? */
bool ml_prune_counts_runs(const ml_pruning *);
/* What a run takes by the target: a share of what the model takes. */
ml_status ml_prune_measure(ml_pruning *, ml_runnable *, double *share);
/* cost.c: fills in the units, what each saves, and what is needed. */
ml_status ml_prune_costs(ml_pruning *);
/* Branches, or widths, that take the same time are timed together. */
ml_status ml_prune_time_widths(ml_pruning *);
double ml_weight_bytes(const ml_module *);
/* score.c: the model with these cuts, not repaired; and judged. */
ml_cuts ml_no_cuts(ml_pruning *);
/* As plans are written down: a letter for each branch, a number for each width. */
const char *ml_prune_text(const ml_pruning *, const ml_cuts *);
/* As people say it. */
const char *ml_prune_words(const ml_pruning *, const ml_cuts *);
ml_status ml_prune_with(ml_pruning *, const ml_cuts *, ml_module **);
/* The same, and timed when time is asked for: into the cuts. */
ml_status ml_prune_try(ml_pruning *, ml_cuts *);
ml_status ml_prune_scores(ml_pruning *);
/* fisher.c: fills in the units'. */
ml_status ml_prune_fisher(ml_pruning *);
const char *ml_prune_unit_name(const ml_pruning *, const ml_prunable *);
/* width.c: what can be narrowed; what layers read, and the order in which groups can go; the loss
 * that comes of it. */
ml_status ml_find_widths(ml_pruning *);
ml_status ml_learn_widths(ml_pruning *);
ml_status ml_weigh_width(ml_pruning *, int width);
/* Takes the least of the groups out of a module that still has the reader; others are fitted to
 * stand for them. */
ml_status ml_cut_width(ml_pruning *, ml_module *, const ml_width *, int64_t cut);
/* prefix.c: the first branch that is not the teacher's; as many as there are: who knows. */
int ml_first_changed(const ml_pruning *, const ml_cuts *);
/* How far the model with these cuts is from the teacher.  Cheapest with cuts in the order of the
 * branches they begin in; what is judged must stay the same between them. */
ml_status ml_prefix_judge(ml_pruning *, const ml_cuts *, double *error);
/* search.c: plans that save enough. */
ml_status ml_prune_search(ml_pruning *);
#endif
