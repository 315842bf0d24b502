/* natural.h -- an artefact's C functions, with typed pointers and named dims as parameters. */
#ifndef ML_NATURAL_H
#define ML_NATURAL_H
#include "entry.h"
#include "signature.h"

/* Defines NAME, NAME_workspace, NAME_set_threads and mlopt_signature; NAME_signature and
 * NAME_program are other names of mlopt_signature and mlopt_program.  `program`: also a main(). */
void ml_emit_natural(ml_emit *, const ml_plan *, const ml_signature *, bool program);
#endif
