/* mlopt.h -- load and run compiled models: the public C API.  compile.h adds compiling.
 *
 * An application that only runs artefacts needs libmlopt-rt; compile.h and the functions about
 * contexts need libmlopt.  Nothing here prints, exits or aborts.  Tensors are contiguous in
 * row-major order and need no more alignment than their elements.
 *
 *   ml_model *model;
 *   ml_session *s;
 *   ml_message why;
 *   if (ml_model_load("classifier.so", NULL, &model, &why)) puts(why.text);
 *   ml_session_new(model, NULL, &s, &why);
 *   ml_session_set_input(s, 0, ids, (int64_t[]){1, 16}, 2);
 *   if (ml_session_run(s)) puts(ml_session_message(s));
 *   ml_view logits;
 *   ml_session_output(s, 0, &logits);
 */
#ifndef MLOPT_H
#define MLOPT_H
#include <stddef.h>
#include <stdint.h>

#define ML_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

enum { ML_MAX_RANK = 12 };

/* What every fallible function returns; ML_OK is 0.  Texts: ml_status_text(). */
typedef enum ml_status {
#define ML_STATUS(number, name, tag, meaning) name = number,
#include "mlopt/status.def"
} ml_status;

/* What a status means for the caller, and its short tag ("shape"); never NULL. */
ML_API const char *ml_status_text(ml_status);
ML_API const char *ml_status_tag(ml_status);

typedef enum ml_severity { ML_ERROR, ML_WARNING, ML_REMARK } ml_severity;

/* Element types of tensors; the numbers are ABI. */
typedef enum ml_dtype {
#define ML_DTYPE(number, name, bits, kind, onnx, ctype) ML_##name = number,
#include "mlopt/types.def"
} ml_dtype;

/* Where memory comes from.  resize(user, NULL, 0, n) allocates, resize(user, p, old, n) grows or
 * shrinks, resize(user, p, old, 0) frees; NULL when there is none.  Called from several threads
 * at once. */
typedef struct ml_allocator {
	void *(*resize)(void *user, void *p, size_t old_size, size_t new_size);
	void *user;
} ml_allocator;

/* Why a call failed, for people. */
typedef struct ml_message {
	char text[1000];
} ml_message;

/* ---- models ---- */

/* A compiled model.  It never changes: any number of threads may have sessions on it. */
typedef struct ml_model ml_model;

/* One input or output.  dim[i] is a size as text: "384", "batch", "2*sequence + 1". */
typedef struct ml_tensor_info {
	const char *name;
	ml_dtype dtype;
	int rank;
	const char *const *dim;
} ml_tensor_info;

/* One symbolic size that inputs bind: lo <= size <= hi, hi INT64_MAX when unbounded. */
typedef struct ml_dim_info {
	const char *name;
	int64_t lo, hi;
} ml_dim_info;

/* An output that is an input with more rows behind, along one axis: see ml_session_bind_state(). */
typedef struct ml_state_info {
	int input, output, axis;
} ml_state_info;

typedef struct ml_model_info {
	const char *name;
	const char *entry;     /* name of its natural C function */
	const char *signature; /* all of this as text */
	int ninputs, noutputs, ndims;
	const ml_tensor_info *input, *output;
	const ml_dim_info *dim; /* in the order of the C function's parameters */
	int nsizes;             /* sizes known after a run: the C function's pointers to int64_t */
	uint64_t weights_bytes;
	int nlevels;
	const char *const *level; /* ISA levels it has code for, rising: "avx2", ... */
	int nstates;
	const ml_state_info *state; /* those that grow in place when they are bound */
} ml_model_info;

/* Loads an artefact made with --emit=so, which runs code of its own.  `allocator` and `why` may be
 * NULL.  ML_ERR_IO, ML_ERR_FORMAT when it is no artefact or one of another version, ML_ERR_TARGET
 * when it is for another kind of machine. */
ML_API ml_status ml_model_load(const char *path, const ml_allocator *allocator, ml_model **,
			       ml_message *why);
/* Makes a model of an artefact that was linked into the application: its NAME_program. */
ML_API ml_status ml_model_from_program(const void *program, const ml_allocator *allocator,
				       ml_model **, ml_message *why);
/* Sessions keep their model: it goes when the last of them is freed.  NULL is fine. */
ML_API void ml_model_free(ml_model *);

/* Valid as long as the model. */
ML_API const ml_model_info *ml_model_describe(const ml_model *);
/* Number of the input or output of that name, -1 when there is none. */
ML_API int ml_model_find_input(const ml_model *, const char *name);
ML_API int ml_model_find_output(const ml_model *, const char *name);

/* ---- sessions ---- */

/* One run after another on a model: memory, threads, tensors.  One thread at a time. */
typedef struct ml_session ml_session;

/* The application's threads.  run() calls work(argument, i) once for every i in 0..count-1, in any
 * order and on any threads, and returns when all have returned. */
typedef struct ml_thread_pool {
	void (*run)(void *user, void (*work)(void *argument, int i), void *argument, int count);
	void *user;
	int threads;
} ml_thread_pool;

/* Zero means default everywhere: `= {0}` gives all defaults. */
typedef struct ml_session_options {
	int threads;                   /* 0: as many as CPUs this process may use */
	const ml_thread_pool *pool;    /* instead of threads of the session's own */
	const ml_allocator *allocator; /* instead of the model's */
} ml_session_options;

/* options and why may be NULL.  ML_ERR_TARGET when this CPU has none of the model's ISA levels;
 * the environment's MLOPT_ISA demands one of them. */
ML_API ml_status ml_session_new(ml_model *, const ml_session_options *, ml_session **,
				ml_message *why);
ML_API void ml_session_free(ml_session *);

/* Gives input i for all later runs.  The session keeps the pointer, not the elements; `dim` is
 * copied.  data may be NULL when there are no elements.  ML_ERR_ARG, ML_ERR_SHAPE (rank). */
ML_API ml_status ml_session_set_input(ml_session *, int i, const void *data, const int64_t *dim,
				      int rank);
/* Output i goes to the caller's memory; NULL: to the session's own again (the default).  A run
 * fails with ML_ERR_ARG when `bytes` is less than the output needs.  Outputs whose size depends on
 * data need room for their bound. */
ML_API ml_status ml_session_set_output(ml_session *, int i, void *data, size_t bytes);

/* Gets the memory that inputs of these dims need, all inputs' dims in order.  Runs whose inputs are
 * no larger call neither malloc nor mmap. */
ML_API ml_status ml_session_reserve(ml_session *, const int64_t *dims);

/* Checks dims, gets memory if they need more than ever before, runs.  On failure outputs are
 * undefined and ml_session_message() says why, with the name of the node in the model. */
ML_API ml_status ml_session_run(ml_session *);

/* A tensor of the last run; valid until the next one. */
typedef struct ml_view {
	ml_dtype dtype;
	int rank;
	int64_t dim[ML_MAX_RANK];
	void *data;
	size_t bytes;
} ml_view;
ML_API ml_status ml_session_output(const ml_session *, int i, ml_view *);

/* ---- states ---- */

/* From now on the output is kept by the session and is the input of the next run, as the keys and
 * values of a decoder are; nobody else gives or takes either.  Where the model appends the output
 * to the input along an axis (ml_model_info.state), both are one piece of memory, in which a run
 * writes the new rows alone: the past is never copied, except into larger memory when the room,
 * which doubles, runs out.  ml_session_reserve() makes room for the rows that its dims lead to.
 * The first run finds no rows along that axis, and zeros in states of other kinds; their sizes are
 * numbers or those of other inputs' equally named dims.  ML_ERR_ARG, ML_ERR_SHAPE (types or ranks
 * differ). */
ML_API ml_status ml_session_bind_state(ml_session *, const char *input, const char *output);
/* All states are as before the first run; their memory stays.  Another first value is given by
 * ml_session_set_input(), which copies it. */
ML_API void ml_session_reset_states(ml_session *);
/* What the next run finds in input i, by its sizes; data is NULL where rows have room behind them,
 * also in the view of the output.  ML_ERR_ARG when it is no state, or before the first run. */
ML_API ml_status ml_session_state(const ml_session *, int i, ml_view *);
/* Copies it as a plain tensor. */
ML_API ml_status ml_session_copy_state(ml_session *, int i, void *to, size_t bytes);

/* Text of the last failure, "" when there was none. */
ML_API const char *ml_session_message(const ml_session *);
/* The ISA level in use, and the number of threads. */
ML_API const char *ml_session_level(const ml_session *);
ML_API int ml_session_threads(const ml_session *);

/* ---- what a run does, step by step ---- */

/* One step of the compiled code: a kernel or a routine. */
typedef struct ml_step_info {
	const char *nodes; /* the model's nodes it computes, escaped as in messages, one a line */
	const char *kind;  /* of the code: "rows", "contract", "attention", ... */
	int kernel;        /* steps with equal numbers run the same code; -1: no kernel */
	ml_dtype dtype;    /* of the numbers that are multiplied, ML_none: none are */
} ml_step_info;

/* What a step costs at the sizes of the last run, every tensor counted once. */
typedef struct ml_step_work {
	int64_t macs;       /* multiply-adds of contractions */
	int64_t read_bytes; /* with weights */
	int64_t weight_bytes;
	int64_t written_bytes;
} ml_step_work;

/* Number of steps, in the code's order; those in branches and loops count as well. */
ML_API int ml_model_steps(const ml_model *);
/* Step i; its texts are valid as long as the model.  ML_ERR_ARG when there is none. */
ML_API ml_status ml_model_step(const ml_model *, int i, ml_step_info *);
/* Fills `work`, room for all steps.  ML_ERR_ARG when there was no successful run. */
ML_API ml_status ml_session_work(const ml_session *, ml_step_work *work);
/* From now on runs call step(user, i, 0) before step i and step(user, i, 1) after it, on the
 * thread that runs; a run that fails leaves its last step open.  NULL ends it. */
ML_API void ml_session_watch(ml_session *, void (*step)(void *user, int step, int ended),
			     void *user);

/* ---- C functions whose signature is known at run time only ---- */

typedef void ml_function(void);

/* One argument: its dtype says which member is passed; ML_none passes the pointer. */
typedef struct ml_argument {
	ml_dtype dtype;
	union {
		void *pointer;
		int64_t integer;
		double real;
	};
} ml_argument;

/* Calls int32_t fn(...) with these arguments.  ML_ERR_ARG for dtypes C has no parameters of. */
ML_API ml_status ml_call(ml_function *fn, const ml_argument *, int count, int32_t *result);
/* An artefact's own functions: "" = int32_t NAME(inputs, outputs, dims, sizes, workspace),
 * "_workspace", "_set_threads".  NULL for models compiled into memory. */
ML_API ml_function *ml_model_function(const ml_model *, const char *suffix);

/* ---- contexts: libmlopt only ---- */

/* What compilations share: memory, messages, registered operators.  One thread at a time. */
typedef struct ml_context ml_context;
/* How to compile: compile.h. */
typedef struct ml_options ml_options;

ML_API ml_status ml_context_new(const ml_allocator *, ml_context **); /* NULL: malloc */
ML_API void ml_context_free(ml_context *);
/* Every message goes to `log` as it is made, without a newline at its end. */
ML_API void ml_context_log(ml_context *, void (*log)(void *user, ml_severity, const char *text),
			   void *user);
/* Message i since the context was made, in the form `model.onnx: node 'x' (#3, MatMul-13): error:
 * text [shape, in infer]` and lines of hints; NULL behind the last.  Valid until the context is
 * freed. */
ML_API const char *ml_context_message(ml_context *, int i);

/* Registers an operator of the application, to be called by compiled models:
 * ml_register_op(cx, "com.acme", "Foo", "(x: f32[n,d], k: i64) -> y: f32[n,d]", (ml_function *)foo)
 * is called as int32_t foo(const float *x, int64_t k, float *y, int64_t n, int64_t d), returning
 * 0 or an ml_status.  ML_ERR_ARG when the text is wrong. */
ML_API ml_status ml_register_op(ml_context *, const char *domain, const char *name,
				const char *signature, ml_function *fn);

#ifdef __cplusplus
}
#endif
#endif
