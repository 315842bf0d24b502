/* image.c -- the weights image in pages of its own. */
#include "image.h"
#include <sys/mman.h>

size_t
ml_image_bytes(const ml_plan *plan)
{
	return plan->weights_bytes ? plan->weights_bytes : 1;
}

ml_status
ml_image_make(ml_context *cx, const ml_plan *plan, bool pairs, int workers, ml_image *image)
{
	size_t n = ml_image_bytes(plan);
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return ml_error(cx, ML_ERR_NOMEM, NULL, "no memory for %zu bytes of weights", n);
	madvise(p, n, MADV_HUGEPAGE); /* walks of page tables slow layers that stream weights */
	*image = (ml_image){p, n};
	ml_write_weights(plan, pairs, workers, image->at);
	mprotect(p, n, PROT_READ);
	return ML_OK;
}

void
ml_image_free(ml_image *image)
{
	if (image->at)
		munmap(image->at, image->bytes);
	*image = (ml_image){0};
}
