/* compile.h -- compiling models into memory or into files: what libmlopt adds to libmlopt-rt.
 *
 * A model is the path of an .onnx file, or of IR text (.mlt).  Every failing call leaves its
 * messages in the context.  One thread at a time may use a context; different contexts are
 * independent.
 */
#ifndef MLOPT_COMPILE_H
#define MLOPT_COMPILE_H
#include "mlopt/mlopt.h"
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Options belong to a context and are freed before it.  NULL in their place = all defaults. */
ML_API ml_status ml_options_new(ml_context *, ml_options **);
ML_API void ml_options_free(ml_options *);

/* Sets one option by the name and with the value it has on mloptc's command line:
 * ("O", "3"), ("int8", NULL), ("int8", "static"), ("dim", "batch=1").  All are listed in
 * options.def.  Options that may be given several times add up.  ML_ERR_ARG for unknown names and
 * values that do not fit. */
ML_API ml_status ml_options_set(ml_options *, const char *name, const char *value);

/* The input becomes a constant; `data` holds its elements contiguously, row-major, and is copied.
 */
ML_API ml_status ml_options_freeze(ml_options *, const char *input, ml_dtype, int rank,
				   const int64_t *dim, const void *data);

/* How far the reading of calibration data is: samples are walked through several times, and a walk
 * may end before all of them. */
typedef struct ml_calibration_progress {
	int64_t walk;            /* 1, 2, ... */
	int64_t set;             /* that is open, from 0; -1 when a walk was through all of them */
	int64_t sample, samples; /* the next one of the set, from 0, and how many; then all */
} ml_calibration_progress;
/* Inputs without labels, which int8=static learns ranges from, in sets of arrays (files, say).
 *
 * array() lends the array for an input of the model, by its number and name, of set 0, 1, ... until
 * it is asked for another set: 1; 0 when there is no such set; -1 when it cannot be read, -2 when
 * there is no such array, and `why` says why.  Masks (then all ones), positions (0, 1, ...), types
 * of tokens (zeros) and states that a model appends to (an empty past) need not be there.  Arrays
 * hold samples along axis 0; where the model's inputs and outputs share their first dimension, or
 * have 1 there, they are cut into single samples.
 *
 * With the option labels, the array of that name is asked for as well, as input -1: s64[samples],
 * or of another integer type.
 *
 * progress(), which may be NULL, is called as each sample is read, on the thread that compiles;
 * false ends the compilation with ML_ERR_CANCELED. */
typedef struct ml_calibration {
	void *user;
	int (*array)(void *user, int set, int input, const char *name, ml_view *, ml_message *why);
	bool (*progress)(void *user, const ml_calibration_progress *);
} ml_calibration;
/* The struct is copied; what it refers to must live as long as the options are used.  Compiling
 * fails with ML_ERR_ARG, ML_ERR_TYPE, ML_ERR_SHAPE or ML_ERR_VALUE when the arrays are not what the
 * model takes, when an element is infinite or NaN, or when there are fewer than 8 samples. */
ML_API ml_status ml_options_calibrate(ml_options *, const ml_calibration *);

/* A file that the option save-calib has written, of this model with these options: what was learnt
 * from samples there is known without them.  Several are merged, with each other and with what
 * ml_options_calibrate() gives.  Extremes then are those of all samples; averages and sums are, up
 * to rounding; histograms of other observers are within one of their 2048 parts.  What needs
 * samples is left out and said: GPTQ, and the choice of layers by what they lose.  Compiling fails
 * with ML_ERR_ARG when the file is damaged or of another model. */
ML_API ml_status ml_options_statistics(ml_options *, const char *path);

/* How far pruning is: candidates run, of about so many; loss and seconds of the last one, NaN or 0
 * where they were not measured. */
typedef struct ml_prune_progress {
	const char *what; /* "timing", "scoring", "trying", "fitting" */
	int64_t step, steps;
	double loss, seconds;
} ml_prune_progress;
/* Called before each candidate, on the thread that compiles; false ends the compilation with
 * ML_ERR_CANCELED. */
typedef struct ml_prune_hooks {
	void *user;
	bool (*progress)(void *user, const ml_prune_progress *);
} ml_prune_hooks;
/* The struct is copied. */
ML_API void ml_options_prune(ml_options *, const ml_prune_hooks *);

/* What a distillation has come to. */
typedef struct ml_distill_progress {
	int64_t step, steps;
	double loss;          /* mean since the last call; 1 is about what it was at first */
	double error;         /* of what is held out: KL, or ten times 1 - cosine */
	double agreement;     /* of what is held out, 0 to 1; NaN where nothing decides */
	double best;          /* the least error so far, which is kept */
	double seconds, left; /* spent, and still to come */
} ml_distill_progress;
/* Called now and then while a student is trained, on the thread that compiles; false ends the
 * training, and the best student so far is what is compiled. */
typedef struct ml_distill_hooks {
	void *user;
	bool (*progress)(void *user, const ml_distill_progress *);
} ml_distill_hooks;
/* The struct is copied. */
ML_API void ml_options_distill(ml_options *, const ml_distill_hooks *);

/* Where texts go that options ask for: dumps (`title` = the pass), statistics, explanations.
 * Without it they are dropped. */
ML_API void ml_options_show(ml_options *,
			    void (*show)(void *user, const char *title, const char *text),
			    void *user);
/* Called as stages begin; `what` names the stage. */
ML_API void ml_options_progress(ml_options *,
				void (*progress)(void *user, int stage, int stages,
						 const char *what),
				void *user);

/* Compiles for the running CPU, code in memory; the model does not refer to context or options.
 * On failure *model is NULL. */
ML_API ml_status ml_compile_file(ml_context *, const char *path, const ml_options *,
				 ml_model **model);
/* The same from a model's bytes in memory, ONNX or IR text; external data is refused. */
ML_API ml_status ml_compile_memory(ml_context *, const void *bytes, size_t size, const ml_options *,
				   ml_model **model);
/* A model with the inputs of the one at `path` that runs it as it is beside what the options make
 * of it (quantized, pruned): one output for each layer both have, of its name, f64[3]: the sum of
 * squares of the layer's elements; of the squared errors when it reads what the plain model
 * computes; of the squared errors when it reads what was changed before it. */
ML_API ml_status ml_compile_layer_errors(ml_context *, const char *path, const ml_options *,
					 ml_model **model);
/* Compiles into a file, whose kind is the option `emit`; text kinds go to ml_options_show() when
 * `output` is NULL.  The file appears whole or not at all. */
ML_API ml_status ml_compile_to(ml_context *, const char *path, const ml_options *,
			       const char *output);
/* Does everything up to code generation.  ML_OK when the model would compile. */
ML_API ml_status ml_check(ml_context *, const char *path, const ml_options *);
/* A smaller model, written as a graph: IR text where `output` ends with .mlt, else ONNX.  `target`
 * is what the option prune takes: "2", "25%", "1.5x", "12MB".  The options give calibration data,
 * and may ask for training (distill), too.  The file appears whole or not at all.  ML_ERR_ARG when
 * the target is impossible, ML_ERR_UNSUPPORTED when there is nothing to prune, ML_ERR_VALUE when
 * more is lost than max-loss allows, ML_ERR_CANCELED. */
ML_API ml_status ml_prune(ml_context *, const char *path, const ml_options *, const char *target,
			  const char *output);
/* A student that is trained to give the model's results, written likewise.  `student` is "4" (so
 * many layers) or "0,1,2,5" (these); NULL: what the option prune leaves, or the model itself, to
 * learn from the option `teacher`.  Minutes, steps, seed, checkpoint and labels are options.
 * ML_ERR_VALUE when the loss is not finite. */
ML_API ml_status ml_distill(ml_context *, const char *path, const ml_options *, const char *student,
			    const char *output);
/* What a model is: inputs, outputs, parameters, operators, symbolic dims, as text or JSON. */
ML_API ml_status ml_inspect(ml_context *, const char *path, const ml_options *, bool json,
			    void (*write)(void *user, const char *text, size_t length), void *user);
/* What of a model --prune can take out: residual branches (attention, feed-forward, convolutions),
 * which layer each belongs to, parameters, heads and groups, neurons or channels. */
ML_API ml_status ml_inspect_blocks(ml_context *, const char *path, const ml_options *, bool json,
				   void (*write)(void *user, const char *text, size_t length),
				   void *user);
/* Shrinks a model while `fails(user, candidate)` says that the candidate, written to the path
 * `output`, still shows the failure.  What is left at `output` (.mlt or .onnx by its name) is the
 * smallest one found; ML_ERR_ARG when the model itself does not fail. */
ML_API ml_status ml_reduce(ml_context *, const char *path, const ml_options *,
			   bool (*fails)(void *user, const char *candidate), void *user,
			   const char *output);

#ifdef __cplusplus
}
#endif
#endif
