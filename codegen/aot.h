/* aot.h -- a plan becomes a file: shared object, object file, static library or program. */
#ifndef ML_AOT_H
#define ML_AOT_H
#include "objects.h"

typedef enum ml_artefact {
	ML_ARTEFACT_SO,  /* loaded by ml_model_load(), or linked: exports the C functions of NAME.h
			  */
	ML_ARTEFACT_OBJ, /* the same functions in one relocatable object */
	ML_ARTEFACT_LIB, /* that object in an archive */
	ML_ARTEFACT_EXE, /* a program that times the model on zeros; not for foreign targets */
} ml_artefact;

typedef struct ml_aot_options {
	ml_artefact kind;
	const ml_target *const *levels; /* rising, of one architecture */
	int nlevels;
	const char *entry; /* wanted C name, NULL = the file's name without its ending */
	ml_object_making making;
} ml_aot_options;

/* Writes `path` and, beside it, the C header (its ending replaced by .h).  Both appear whole or
 * not at all.  The bytes depend on plan and options alone. */
ml_status ml_aot_write(ml_context *, ml_plan *, const ml_aot_options *, const char *path);
#endif
