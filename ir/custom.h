/* custom.h -- operators the application registered, as `custom` nodes and the evaluator see them.
 */
#ifndef ML_CUSTOM_H
#define ML_CUSTOM_H
#include "ir.h"

struct ml_custom_op {
	struct ml_custom_op *next; /* in ml_context.custom_ops */
	const char *domain, *name;
	/* Fills `out`, whose shapes, data and bytes are set, from `in`; NULL when the operator can
	 * only run compiled.  A status other than ML_OK fails the run. */
	ml_status (*evaluate)(const struct ml_custom_op *, const ml_tensor *in, int nin,
			      const ml_tensor *out, int nout);
	void *user;
};
#endif
