/* distill.h -- inside of distillation: what is trained, towards what, on which batches. */
#ifndef ML_DISTILL_DISTILL_H
#define ML_DISTILL_DISTILL_H
#include "../prune/samples.h"
#include "train.h"
#include "options.h"

/* ---- terms.c: what the student is to do as the teacher does ---- */

typedef enum ml_likeness {
	ML_LIKE_LOGITS,    /* KL of what they decide */
	ML_LIKE_DIRECTION, /* cosine of rows; of rows' means where there are many */
	ML_LIKE_NUMBERS,   /* squares of differences */
	ML_LIKE_OWN,       /* as the user's own loss says */
} ml_likeness;

typedef enum ml_lesson_place {
	ML_AT_OUTPUT,
	ML_AT_HEAD, /* what the layer that decides reads */
	ML_BETWEEN_LAYERS,
} ml_lesson_place;

typedef struct ml_lesson {
	ml_likeness like;
	ml_lesson_place place;
	int target;
	ml_value *student;
} ml_lesson;

typedef struct ml_goal {
	ML_VEC(ml_value *) target; /* the teacher's values */
	ML_VEC(ml_lesson) term;
	const ml_loss *loss; /* of ML_LIKE_OWN */
} ml_goal;

/* Outputs by the user's own loss; else those that decide, if there are any, else all that are
 * numbers; and, where the teacher's graph is what the student was cut from (`cut`), hidden states
 * behind cuts and the last one, and what the layer that decides reads. */
ml_status ml_find_goal(ml_goal *, ml_module *teacher, ml_module *student, bool cut,
		       const ml_agree *, const ml_loss *own, ml_arena *);
/* The student with the teacher's values as further inputs and one f32 scalar for each term, its
 * share; the outputs are the loss, the sum of the terms by their shares, and each term. */
ml_status ml_build_loss(const ml_module *student, const ml_goal *, ml_module **);
/* A copy of m whose outputs are these of its values. */
ml_status ml_module_of_values(const ml_module *m, ml_value *const *, int n, ml_module **);

/* ---- weights.c: what is trained ---- */

typedef struct ml_weights {
	ML_VEC(ml_value *) constant; /* of the student */
	ml_tensor *now, *first, *second, *best;
	size_t bytes; /* of `now` */
} ml_weights;

/* The float constants of layers and norms; tables that are looked up stay as they are. */
void ml_find_weights(ml_weights *, const ml_module *, ml_arena *);
/* A copy of a module that has these nodes, with the constants as its last inputs. */
ml_status ml_module_of_weights(const ml_module *, const ml_weights *, ml_module **);
void ml_keep_best(ml_weights *);
void ml_restore_best(ml_weights *);
/* `now` becomes a share of the way to it from the student's constants. */
void ml_pull_back(ml_weights *, double share);
/* `now` becomes the constants of the student. */
ml_status ml_put_weights(ml_module *, const ml_weights *);

/* ---- batches.c: samples, shuffled, of one length, changed a little ---- */

enum { ML_DISTILL_BATCH = 64, ML_NEAR = 16 };

typedef struct ml_pool {
	ml_arena *arena;
	const ml_module *m;
	ML_VEC(ml_tensor *) sample;
	ML_VEC(int64_t) number; /* of samples in the data */
	int inputs, batch;
	ml_dim cut;     /* the size along which positions can be left out, or NULL */
	int tokens;     /* the input that holds tokens, or -1 */
	int64_t *usual; /* tokens as often as they are in the samples */
	int64_t nusual;
	int64_t known; /* tokens that the model has a row for, from 0 on; 0: nobody knows */
	/* Rising tokens of the samples, and of each ML_NEAR that are near it, nearest first. */
	int64_t *near_token, *near, nnear;
	uint64_t random;
	int *order, *start; /* of this epoch: samples, and where batches begin in `order` */
	int *shuffled;      /* the samples before they were sorted */
	int nstart, next;
	ml_tensor *in;                 /* the batch */
	int rows;                      /* samples in it */
	int64_t row[ML_DISTILL_BATCH]; /* which they are; -1: changed to others */
} ml_pool;

void ml_pool_init(ml_pool *, const ml_samples *, const ml_module *, uint64_t seed, ml_arena *);
/* near.c: looks up what is near the samples' tokens, where any token may replace them. */
ml_status ml_pool_find_near(ml_pool *, ml_pass_ctx *);
/* The next batch, in the pool's memory. */
const ml_tensor *ml_pool_next(ml_pool *);
uint64_t ml_random(uint64_t *state);

/* ---- whiten.c: the bases in which layers are trained ---- */

struct ml_trainer;
/* Of each weight, as in ml_train_options; NULL where steps go along its axes. */
ml_status ml_find_bases(struct ml_trainer *, const double ***bases);

/* ---- products.c: of bf16 ---- */

/* What layers and their gradients multiply is rounded to bf16. */
ml_status ml_round_products(ml_module *);

/* ---- trainer.c ---- */

typedef struct ml_trainer {
	ml_pass_ctx *px;
	const ml_distill_options *options;
	ml_arena *arena;
	ml_module *teacher, *student;
	ml_samples samples;
	ml_pool pool;
	ml_goal goal;
	ml_weights weights;
	bool narrow;            /* products are of bf16 */
	bool whitened;          /* layers are trained in bases */
	ml_runnable *target;    /* teacher's targets of a batch */
	ml_runnable *step;      /* of training */
	ml_runnable *judged;    /* the student's outputs, by its weights */
	ml_tensor *in, *out;    /* of `step` */
	float *share;           /* of the terms in the loss */
	double *scale;          /* of the terms: 1 / their value before training */
	double at, steps, peak; /* at: counts from 1 */
	uint64_t key;           /* of checkpoints: what is trained, and on what */
	int64_t *label;         /* by the samples' numbers; NULL: there are none */
	double opened;          /* when the pass began, in seconds; */
	double begun;           /* and its training; */
	double settling;        /* how long what follows training takes */
	ml_curve plan;          /* steps there are to be, by those made when planned */
	ml_distill_progress progress;
	double until;              /* the step that an earlier training was ended at, or infinity */
	double error, best, first; /* held out: now, at best, before training */
	double best_agreement, first_agreement;
	int recoveries; /* from divergence */
	double lowest;  /* held-out error since training began, */
	int misses;     /* and judgements since */
	bool canceled;
} ml_trainer;

/* ML_ERR_ARG when the teacher has not the student's inputs. */
ml_status ml_match_inputs(ml_trainer *);
/* Compiles what training runs. */
ml_status ml_trainer_open(ml_trainer *);
void ml_trainer_close(ml_trainer *);
/* One step; *loss is of before it, not finite when the gradients are not: all weights are lost. */
ml_status ml_trainer_step(ml_trainer *, double *loss);
/* Held-out error and agreement. */
ml_status ml_trainer_judge(ml_trainer *);

/* ---- schedule.c: how many steps ---- */

/* As many as fit, or were asked for, or were made last time; step: what one takes, in seconds. */
ml_status ml_schedule_begin(ml_trainer *, double step);
/* After a check: as many as fit by now. */
ml_status ml_schedule_again(ml_trainer *);
/* Goes on with what a checkpoint had planned. */
void ml_schedule_resume(ml_trainer *);

/* ---- labels.c: what samples should be taken for ---- */

ml_status ml_read_labels(ml_trainer *);
/* The teacher's opinion of the batch's samples moves towards their labels. */
void ml_mix_labels(ml_trainer *);

/* The plot of a training's curves. */
#define ML_DISTILL_PLOT "Distillation"

/* ---- checkpoint.c: what a training has come to, to go on from ---- */

ml_status ml_checkpoint_save(ml_trainer *);
/* *there: was there something to go on from?  ML_ERR_ARG when it is of other data. */
ml_status ml_checkpoint_load(ml_trainer *, bool *there);
#endif
