/* compiler.h -- the compiler as the tools use it: libmlopt loaded when needed, messages on stderr.
 *
 * Artefacts are run without it, so that no LLVM is in the process that runs them.
 */
#ifndef CL_COMPILER_H
#define CL_COMPILER_H
#include "data/load.h"
#include "mlopt/compile.h"
#include "options.h"

#define CL_FUNCTIONS(X)                                                                            \
	X(ml_context_new)                                                                          \
	X(ml_context_free)                                                                         \
	X(ml_context_log)                                                                          \
	X(ml_options_new)                                                                          \
	X(ml_options_free)                                                                         \
	X(ml_options_set)                                                                          \
	X(ml_options_freeze)                                                                       \
	X(ml_options_show)                                                                         \
	X(ml_options_progress)                                                                     \
	X(ml_compile_file)                                                                         \
	X(ml_compile_to)                                                                           \
	X(ml_check)                                                                                \
	X(ml_inspect)                                                                              \
	X(ml_reduce)

typedef struct cl_compiler {
	const cl_command *command;
	void *library;
#define CL_MEMBER(name) __typeof__(name) *name;
	CL_FUNCTIONS(CL_MEMBER)
#undef CL_MEMBER
	ml_context *cx;
	ml_options *options;
	bool quiet;   /* errors only */
	double begun; /* for progress lines, which only long compilations get */
} cl_compiler;

/* The compiler's name for a data file's element type. */
ml_dtype cl_dtype(md_dtype);

/* Seconds of a clock that only goes forward. */
double cl_seconds(void);

/* Loads libmlopt and gives it the options; 0, or 1 with a message.  `freeze` holds INPUT=FILE.npy
 * texts, may be NULL.  End with cl_compiler_close(), also after a failure. */
int cl_compiler_open(cl_compiler *, const cl_command *, const cl_list *freeze, bool quiet);
void cl_compiler_close(cl_compiler *);
#endif
