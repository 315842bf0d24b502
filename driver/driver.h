/* driver.h -- inside of the driver: options as given, and one compilation on its way through. */
#ifndef ML_DRIVER_H
#define ML_DRIVER_H
#include "../codegen/aot.h"
#include "../codegen/plan.h"
#include "../codegen/target.h"
#include "../frontend/import.h"
#include "../passes/distill/options.h"
#include "../passes/pipeline.h"
#include "mlopt/compile.h"
#include "mlopt/pass.h"

/* Fields are generated from the list: FLAG bool, TEXT string or NULL, INT number or -1, LIST texts,
 * MODE string, "" without a value, or NULL. */
typedef ML_VEC(const char *) ml_texts;
#define ML_FIELD_FLAG bool
#define ML_FIELD_TEXT const char *
#define ML_FIELD_INT  int64_t
#define ML_FIELD_LIST ml_texts
#define ML_FIELD_MODE const char *

struct ml_options {
	ml_context *cx;
	ml_arena arena;
#define ML_OPTION(kind, field, name, value, group, help) ML_FIELD_##kind field;
#include "mlopt/options.def"
	/* `dim`, `shape` and ml_options_freeze() in the importer's form. */
	ML_VEC(ml_import_dim) import_dims;
	ML_VEC(ml_import_shape) import_shapes;
	ML_VEC(ml_import_freeze) import_freezes;
	ml_calibration calibration;    /* array NULL: none */
	ml_texts statistics;           /* files of what calibration has shown before */
	ml_distill_options distilling; /* what distill= says */
	ml_distill_hooks distill_hooks;
	ml_prune_hooks prune_hooks;
	ML_VEC(const ml_plugin *) plugins; /* the application's own */
	void (*show_fn)(void *user, const char *title, const char *text);
	void *show_user;
	void (*progress_fn)(void *user, int stage, int stages, const char *what);
	void *progress_user;
};

/* Gives a text to the show hook, if there is one. */
void ml_show(const ml_options *, const char *title, const char *text);

/* ---- boundary.c ---- */

/* Every entry point of the API runs its work through this: a failed allocation unwinds to here and
 * becomes ML_ERR_NOMEM, and diagnostics are given to the log hook. */
ml_status ml_enter(ml_context *, ml_status (*work)(void *), void *job);

/* ---- targets.c ---- */

enum { ML_MAX_LEVELS = 8 };
typedef struct ml_levels {
	const ml_target *at[ML_MAX_LEVELS];
	int count;
} ml_levels;

/* The levels to make code for, rising: --mcpu, or else the host's (in memory) or the usual ones of
 * --target (in files). */
ml_status ml_choose_levels(const ml_options *, bool in_memory, ml_levels *);

/* ---- jit_model.c ---- */

/* Code in this process, which the model owns; objects are found and kept in memory (or NULL). */
ml_status ml_jit_model(const ml_options *, ml_plan *, ml_kept *, ml_model **);
/* Threads to compile with; 0 = as many as CPUs. */
int ml_workers(const ml_options *);
/* Where --cache-dir says. */
ml_cache_place ml_cache_place_of(const ml_options *);
/* How objects are made: threads, temporary files, cache. */
ml_object_making ml_making(const ml_options *);
/* Is --cache-dir a folder that may be used?  To be said before work is done. */
ml_status ml_check_cache(const ml_options *);

/* ---- results.c ---- */

/* --cache-dir as passes use it. */
typedef struct ml_stored {
	const ml_options *o;
	ml_bytes lent;
} ml_stored;

/* It must outlive the results. */
ml_results ml_results_of(ml_stored *);
/* Gives back what is lent. */
void ml_stored_end(ml_stored *);

/* ---- exec.c ---- */

/* Candidates that were compiled with these options and live. */
typedef struct ml_candidates {
	const ml_options *o;
	ml_runnable *live;
	ml_kept *kept; /* their kernels */
} ml_candidates;

/* The candidates must outlive it. */
ml_exec ml_exec_by_jit(ml_candidates *);
/* Frees those that were lost when an allocation failed. */
void ml_candidates_end(ml_candidates *);
/* Runs the passes that do not compress, and compiles what is left; what was compiled before may be
 * kept (or NULL). */
ml_status ml_jit_module(const ml_options *, ml_module *, ml_arena *, ml_kept *, ml_model **);

/* ---- layer_errors.c ---- */

/* The plain module, in whose place one result for each layer stands that the other has by the same
 * name: f64[3], sums of squares, of local and of cumulative squared errors. */
ml_status ml_join_layers(ml_module *plain, ml_module *other, ml_arena *);

/* ---- options.c ---- */

/* A value of int8, by its name. */
bool ml_int8_form_named(const char *, ml_precision *);
bool ml_int4_named(const char *, ml_int4 *);
/* The share that --max-loss allows; negative when it is none. */
double ml_max_loss(const ml_options *);

/* ---- calibrate.c ---- */

/* What a calibration answers for an input that it has nothing for. */
enum { ML_NO_ARRAY = -2 };

/* A walk through calibration data. */
typedef struct ml_feed {
	const ml_options *o;
	ml_calibration source;
	int set;              /* whose arrays are at hand, -1 for none */
	int64_t first, count; /* its samples */
	int64_t step;         /* elements of axis 0 in a sample; 0: arrays as they are */
	int mask;             /* the input that says what is padding, or -1 */
	int64_t walk;         /* through all samples, from 1 */
	ml_view *array;       /* one for each input */
	bool *given;          /* those that were not derived from others */
	ml_arena arena, derived;
} ml_feed;

/* From the data of the options. */
void ml_feed_begin(ml_feed *, const ml_options *);
void ml_feed_end(ml_feed *);
/* derive.c: makes the array of an input of the model that the set has none for; false when those it
 * has do not say what it is. */
bool ml_derive_input(ml_feed *, const ml_module *, int input);
/* May it be one of those? */
bool ml_can_derive(const ml_value *input);
/* What passes read it by. */
ml_data ml_data_of_feed(ml_feed *);
/* What --int8, --int4 and --bf16 mean for the module. */
ml_status ml_choose_precision(const ml_options *, const ml_module *, ml_precision *);

/* ---- statistics.c ---- */

/* What ml_options_statistics() names, and whether more is to be kept; ML_ERR_ARG when a file is not
 * of this model and options. */
ml_status ml_read_statistics(const ml_options *, const ml_module *, ml_arena *, struct ml_known *);
/* Writes to where save-calib says; ML_ERR_ARG when there is nothing to write, or when nobody has
 * used what was read. */
ml_status ml_write_statistics(const ml_options *, const struct ml_known *);

/* ---- invent.c ---- */

/* Calibration data for want of any. */
typedef struct ml_invented {
	const ml_module *m;
	int64_t *rows; /* of each input: of the table that it numbers the rows of */
	ml_arena *arena;
} ml_invented;

/* Tokens drawn at random, for models that read those and what follows from them; array is NULL for
 * others, of which nothing is known. */
ml_calibration ml_invent(ml_invented *, const ml_module *, ml_arena *);

/* ---- distill.c ---- */

/* A value of distill, which may be given several times; NULL: the default minutes. */
ml_status ml_add_distill(ml_options *, const char *value);
/* What is asked for, NULL when nothing is; reads the teacher, whom the caller frees. */
ml_status ml_choose_distill(const ml_options *, ml_distill_options *, const ml_distill_options **);

/* ---- checkpoint.c ---- */

typedef struct ml_checkpoint {
	const ml_options *o;
	ml_record *record;
	uint64_t key; /* of model and options */
} ml_checkpoint;

/* Where --checkpoint says: gives the pass what was kept there, if anything was, the record what was
 * decided on the way there, and a place to keep more.  ML_ERR_ARG when it is another's. */
ml_status ml_checkpoint_open(ml_checkpoint *, const ml_module *, ml_distill_options *, ml_arena *);

/* ---- plugins.c ---- */

typedef struct ml_plugins {
	ML_VEC(void *) handles; /* of dlopen */
	ML_VEC(const ml_pass *) passes;
	ML_VEC(const ml_score *) scores;
	ML_VEC(const ml_loss *) losses;
} ml_plugins;

/* Loads what --load-pass-plugin names; ml_plugins_close() in any case. */
ml_status ml_plugins_open(ml_plugins *, const ml_options *, ml_arena *);
void ml_plugins_close(ml_plugins *);
/* What --prune-score and --distill-loss name; NULL when they name nothing. */
ml_status ml_choose_score(const ml_plugins *, const ml_options *, const ml_score **);
ml_status ml_choose_loss(const ml_plugins *, const ml_options *, const ml_loss **);

/* ---- read.c ---- */

/* A model from a file or from memory (`path` NULL). */
typedef struct ml_source {
	const char *path;
	const void *bytes;
	size_t size;
} ml_source;

ml_status ml_read_model(ml_context *, const ml_source *, const ml_options *, ml_module **);
/* IR text by its name: .mlt; ONNX otherwise. */
bool ml_is_ir_text(const char *path);

/* ---- report.c ---- */

/* The nodes that came from the ONNX node, after what `title` names; whether there are any. */
bool ml_explain(const ml_options *, const ml_module *, const char *title);
/* The same as imported; ML_ERR_ARG when the model has no such node. */
ml_status ml_explain_import(const ml_options *, const ml_module *);
void ml_list_passes(const ml_options *, const ml_pipeline *);

/* ---- inspect.c ---- */

/* Reads a model and hands what DESCRIBE says of it to WRITE. */
typedef struct ml_inspect_job {
	ml_context *cx;
	const char *path;
	const ml_options *o; /* NULL: the defaults */
	bool json;
	ml_status (*describe)(const ml_options *, ml_module *, ml_text *, bool json);
	void (*write)(void *user, const char *text, size_t length);
	void *user;
} ml_inspect_job;

ml_status ml_inspect_by(const ml_inspect_job *);

/* ---- blocks.c ---- */

/* Runs the passes in front of pruning and quantization: layers are whole, and nothing else has been
 * done to them. */
ml_status ml_make_layers_whole(const ml_options *, ml_module *, ml_arena *);

/* ---- custom.c ---- */

/* ml_custom_op.evaluate */
ml_status ml_evaluate_custom(const struct ml_custom_op *, const ml_tensor *in, int nin,
			     ml_tensor *out, int nout);

/* ---- emit.c ---- */

/* What --emit names. */
typedef struct ml_emit_kind {
	const char *name;
	/* Graphs: writes the module; NULL for kinds of code. */
	ml_status (*write)(const ml_options *, const ml_module *, const char *output);
	/* Texts of code: the ending of the files that hold it; NULL for linked code. */
	const char *ending;
	ml_artefact artefact; /* of linked code */
	const char *until;    /* the first phase of the pipeline that is not for this kind */
} ml_emit_kind;

ml_status ml_choose_emit(const ml_options *, const ml_emit_kind **);
/* Objects of a plan as text, one after the other. */
ml_status ml_write_code_text(const ml_options *, const ml_emit_kind *, ml_plan *, const ml_levels *,
			     const char *output);

/* ---- output.c ---- */

/* ML_ERR_IO when `path` names something that is no regular file, or lies where none can be made;
 * NULL and new names are fine. */
ml_status ml_check_output(ml_context *, const char *path);
/* Writes a text to `path` whole or not at all, or shows it when `path` is NULL. */
ml_status ml_write_text(const ml_options *, const char *path, const char *title, const ml_text *);

#endif
