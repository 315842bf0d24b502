/* level.h -- which ISA levels the running CPU has, and the choice among a program's. */
#ifndef MLRT_LEVEL_H
#define MLRT_LEVEL_H
#include "../abi.h"

/* Whether this CPU, and its operating system, run code of the level ("avx2", "neon" ...). */
int32_t mlrt_level_runs(const char *name);

/* The program's best level for this CPU, or the one the environment's MLOPT_ISA names.
 * ML_ERR_TARGET when the CPU has none of them, or the named one is missing here or there. */
int32_t mlrt_choose_level(const mlrt_program *, const mlrt_level **);
#endif
