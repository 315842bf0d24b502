/* prefer.h -- is a change of numbers worth having?  The whole model decides. */
#ifndef ML_PREFER_H
#define ML_PREFER_H
#include "pass.h"

/* Two candidates for what a module becomes. */
typedef struct ml_rivals {
	const char *kind, *of; /* the decision: "awq", of "inputs" */
	const char *changed;   /* what the changed one has: "factors" */
	const ml_module *m;    /* the module as it is */
	/* Lends one of both, until the end. */
	ml_status (*make)(void *user, bool changed, const ml_module **);
	void *user;
} ml_rivals;

/* Is the changed one nearer to the teacher, on samples that nothing was learnt from?  Written down
 * as a decision, which replays repeat without making either. */
ml_status ml_prefer(ml_pass_ctx *, const ml_rivals *, bool *changed);
#endif
