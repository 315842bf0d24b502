/* options.h -- what a user says of a distillation. */
#ifndef ML_DISTILL_OPTIONS_H
#define ML_DISTILL_OPTIONS_H
#include "../../ir/ir.h"
#include "mlopt/compile.h"

typedef struct ml_distill_options {
	double minutes; /* of all of it */
	int64_t steps;  /* instead of minutes; -1: as many as fit */
	uint64_t seed;
	int layers;         /* of the student; 0: those of the module as it is, or as listed */
	int *keep, nkeep;   /* its layers in rising order; nkeep 0: to be chosen */
	ml_module *teacher; /* another model, or NULL */
	/* Where what a training has come to is kept, NULL: nowhere; and what was kept earlier. */
	ml_status (*save)(void *user, const ml_text *);
	void *save_user;
	const void *saved;
	size_t saved_bytes;
	bool labels; /* ml_data has them */
	ml_distill_hooks hooks;
} ml_distill_options;
#endif
