/* link.h -- linker and archiver as processes, found and run without a shell. */
#ifndef ML_LINK_H
#define ML_LINK_H
#include "../ir/diag.h"
#include <sys/types.h>

/* Words of a command line; NULL-terminated by ml_tool_start(). */
typedef ML_VEC(const char *) ml_words;

typedef struct ml_tool {
	const char *path, *log;
	pid_t pid;
} ml_tool;

/* The path of a tool of LLVM ("ld.lld", "llvm-ar", "llvm-objcopy"): beside the LLVM this was built
 * with, else in PATH with LLVM's version, else in PATH without.  NULL when there is none. */
const char *ml_find_tool(ml_arena *, const char *name);
/* Any program in PATH, or NULL. */
const char *ml_find_program(ml_arena *, const char *name);

/* Runs words[0].  What it prints goes to the file `log`. */
ml_status ml_tool_start(ml_context *, ml_arena *, const ml_words *, const char *log, ml_tool *);
/* Waits for what was started.  What it has printed is in the message when it failed:
 * ML_ERR_CODEGEN. */
ml_status ml_tool_end(ml_context *, ml_arena *, const ml_tool *);
#endif
