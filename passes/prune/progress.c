/* progress.c -- tells whoever asked how far pruning is, and ends it when they say so. */
#include "mlopt/compile.h"
#include "prune.h"

ml_status
ml_prune_tell(ml_pruning *p, const char *what)
{
	const ml_prune_hooks *h = p->px->prune_hooks;
	ml_prune_progress progress = {
		.what = what, .step = p->step++, .loss = p->loss, .seconds = p->last};

	progress.steps = p->steps > p->step ? p->steps : p->step;
	if (!h || !h->progress || h->progress(h->user, &progress))
		return ML_OK;
	return ml_error(p->px->cx, ML_ERR_CANCELED, NULL, "pruning was canceled");
}
