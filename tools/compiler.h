/* compiler.h -- the compiler as the tools use it: libmlopt loaded when needed, messages on stderr.
 *
 * Artefacts are run without it, so that no LLVM is in the process that runs them.
 */
#ifndef CL_COMPILER_H
#define CL_COMPILER_H
#include "calib.h"
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
	X(ml_options_calibrate)                                                                    \
	X(ml_options_statistics)                                                                   \
	X(ml_options_show)                                                                         \
	X(ml_options_progress)                                                                     \
	X(ml_options_prune)                                                                        \
	X(ml_options_distill)                                                                      \
	X(ml_compile_file)                                                                         \
	X(ml_compile_layer_errors)                                                                 \
	X(ml_compile_to)                                                                           \
	X(ml_check)                                                                                \
	X(ml_inspect)                                                                              \
	X(ml_inspect_blocks)                                                                       \
	X(ml_reduce)

/* Data that the command line gives to the compiler. */
typedef struct cl_inputs {
	cl_list freeze; /* INPUT=FILE.npy */
	cl_list calib;  /* files and folders */
} cl_inputs;

#define CL_INPUT_ROWS(inputs)                                                                      \
	{CL_LIST,                                                                                  \
	 "freeze",                                                                                 \
	 "INPUT=FILE",                                                                             \
	 "Compiling",                                                                              \
	 "make an input a constant: .npy or .pb",                                                  \
	 &(inputs).freeze},                                                                        \
	{                                                                                          \
		CL_LIST, "calib", "DATA.npz", "Compiling",                                         \
			"inputs without labels, samples along axis 0, for --int8=static; or a "    \
			"folder of .npz or of ONNX test sets; or what --save-calib has written; "  \
			"several add up",                                                          \
			&(inputs).calib                                                            \
	}

typedef struct cl_compiler {
	const cl_command *command;
	void *library;
#define CL_MEMBER(name) __typeof__(name) *name;
	CL_FUNCTIONS(CL_MEMBER)
#undef CL_MEMBER
	ml_context *cx;
	ml_options *options;
	cl_calib calib;
	cl_talk talk;
	FILE *messages; /* not NULL: they go there, elements of a JSON array */
	int nmessages;
	double begun; /* for progress lines, which only long compilations get */
	double drawn; /* when the bar on the terminal was, 0: there is none */
} cl_compiler;

/* Seconds of a clock that only goes forward. */
double cl_seconds(void);

/* Loads libmlopt and gives it the options and inputs, which may be NULL; 0, or 1 with a message.
 * End with cl_compiler_close(), also after a failure.  It stays where it is meanwhile. */
int cl_compiler_open(cl_compiler *, const cl_command *, const cl_inputs *, cl_talk);
void cl_compiler_close(cl_compiler *);
#endif
