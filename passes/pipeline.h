/* pipeline.h -- which passes run, in which order, and what is reported about them. */
#ifndef ML_PIPELINE_H
#define ML_PIPELINE_H
#include "pass.h"

typedef struct ml_pipeline_options {
	int opt_level;           /* 0..3 */
	int workers;             /* threads; 0: as many as CPUs */
	ml_precision precision;  /* quantize, and find layers whatever opt_level */
	ml_int4 int4;            /* of ML_INT4; else all zero */
	bool int8_cache;         /* keys and values that are kept have 8 bits */
	const char *passes;      /* "a,b,c" instead of the default list; NULL = default */
	const char *skip;        /* "a,b": names left out */
	const char *stop_after;  /* name of the last pass to run */
	const char *until;       /* the first phase that does not run; NULL = all do */
	const char *print_after; /* name or "all": the module is shown when the pass changed it */
	bool verify_each, time_passes, rule_stats;
	int64_t fuel; /* rewrites allowed; < 0 = no limit */
	/* Receives dumps and statistics: one call per text. */
	void (*show)(void *user, const char *title, const char *text);
	void *show_user;
	const ml_exec *exec;
	const ml_data *data;       /* to calibrate with, or NULL */
	const ml_data *guess;      /* for want of it: pass.h */
	const ml_results *results; /* or NULL */
	struct ml_known *known;    /* the same as statistics, see known.h; or NULL */
	const char *observer;      /* see quantize/observe.h; NULL = extremes */
	double max_loss;           /* see agree.h; 0 = a hundredth */
	bool must_hold;            /* a student that loses more is an error */
	ml_record *record;         /* where passes write what they decide; NULL: nobody asks */
	const char *prune;         /* what to take out: prune/target.c; NULL = nothing */
	const ml_score *score;     /* by which; or NULL */
	const struct ml_prune_hooks *prune_hooks; /* or NULL */
	const ml_loss *loss;                      /* of students; or NULL */
	const struct ml_distill_options *distill; /* a student is made and trained; or NULL */
} ml_pipeline_options;

typedef struct ml_pipeline {
	ml_arena *arena;
	ML_VEC(ml_stage) stages;
	ML_VEC(const ml_pass *) plugins; /* also found by name */
} ml_pipeline;

/* All passes known by name: those of pipeline.def and those added. */
const ml_pass *ml_pass_named(const ml_pipeline *, const char *name, size_t length);
/* The default list for the options, or the one they spell out. */
ml_status ml_pipeline_init(ml_pipeline *, ml_context *, ml_arena *, const ml_pipeline_options *,
			   const ml_pass *const *plugins, int nplugins);
/* Places a pass behind another; ML_ERR_ARG when there is no such pass. */
ml_status ml_pipeline_add_after(ml_pipeline *, ml_context *, const char *name, const ml_pass *);
ml_status ml_pipeline_run(const ml_pipeline *, ml_module *, const ml_pipeline_options *);
#endif
