/* diag.h -- the context and what is said to the user: errors, warnings, remarks, provenance. */
#ifndef ML_DIAG_H
#define ML_DIAG_H
#include "arena.h"
#include "mlopt/mlopt.h"
#include <stdbool.h>
#include <stdint.h>

/* The ONNX node a value or node came from.  Merged by rewrites: `next` lists the others. */
typedef struct ml_prov ml_prov;
struct ml_prov {
	const char *node; /* ONNX node name, raw bytes as in the model; escaped when written */
	const char *op;   /* ONNX operator type */
	int opset;        /* version of the operator's domain */
	int index;        /* position of the node in its graph, -1 if none */
	const ml_prov *next;
};

typedef struct ml_diag {
	ml_severity severity;
	ml_status status;
	const ml_prov *at;
	const char *stage; /* "import", "infer", pass name ... */
	const char *text, *hint;
} ml_diag;

/* Owns strings, diagnostics, allocator and log hooks.  One thread compiles with a context at a
 * time; compiled models do not refer to it. */
struct ml_context {
	ml_memory memory;
	ml_arena arena;
	ML_VEC(ml_diag) diags;
	int errors;
	int reported;      /* diags already given to log */
	const char *file;  /* model named in messages, or NULL */
	const char *stage; /* what is being done, for messages */
	void (*log)(void *user, ml_severity, const char *line);
	void *log_user;
	bool remarks;                    /* report remarks too */
	struct ml_custom_op *custom_ops; /* registered by ml_register_op */
	/* all there are: those lost when an allocation failed go with the context */
	struct ml_module *modules;
};

/* Records an error and returns `status`, so that `return ml_error(...)` reads well. */
ml_status ml_error(ml_context *, ml_status, const ml_prov *at, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void ml_warn(ml_context *, const ml_prov *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void ml_remark(ml_context *, const ml_prov *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Adds advice to the newest diagnostic. */
void ml_hint(ml_context *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* `file: node 'x' (#3, MatMul-13): error: text [shape, in infer]` and a `hint:` line. */
void ml_diag_print(ml_text *, const ml_context *, const ml_diag *);

/* Writes a name from a model so that no control character, quote or bad UTF-8 gets through:
 * such bytes become \xNN, and ' " and \ get a backslash. */
void ml_put_escaped(ml_text *, const char *name);
/* The same for a string of JSON, with its escapes: bytes that are no UTF-8 become U+FFFD. */
void ml_put_json(ml_text *, const char *text);
/* As ml_put_escaped(), as a string; NULL counts as "". */
const char *ml_escaped(ml_arena *, const char *name);

/* `node 'x' (#3, MatMul-13)`; the first of the list. */
void ml_put_prov(ml_text *, const ml_prov *);

/* Gives every diagnostic not reported yet to the log hook, in order.  Called by the API boundary,
 * so that hints added after the fact are part of it. */
void ml_diag_report(ml_context *);

/* The union of two provenance lists, without duplicates. */
const ml_prov *ml_prov_merge(ml_arena *, const ml_prov *, const ml_prov *);

#define ML_STEP(call)                                                                              \
	do {                                                                                       \
		ml_status ml_step_ = (call);                                                       \
		if (ml_step_ != ML_OK)                                                             \
			return ml_step_;                                                           \
	} while (0)
#endif
