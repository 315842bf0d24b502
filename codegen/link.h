/* link.h -- linker and archiver as processes, found and run without a shell. */
#ifndef ML_LINK_H
#define ML_LINK_H
#include "../ir/diag.h"

/* Words of a command line; NULL-terminated by ml_run_tool(). */
typedef ML_VEC(const char *) ml_words;

/* The path of a tool of LLVM ("ld.lld", "llvm-ar", "llvm-objcopy"): beside the LLVM this was built
 * with, else in PATH with LLVM's version, else in PATH without.  NULL when there is none. */
const char *ml_find_tool(ml_arena *, const char *name);
/* Any program in PATH, or NULL. */
const char *ml_find_program(ml_arena *, const char *name);

/* Runs words[0] and waits.  What it prints goes to the file `log`, and into the message when it
 * fails: ML_ERR_CODEGEN. */
ml_status ml_run_tool(ml_context *, ml_arena *, ml_words *, const char *log);
#endif
