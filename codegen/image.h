/* image.h -- the weights image, and its way into an artefact.
 *
 * The linker sees room of the image's size only, which it leaves as a hole in what it writes; the
 * artefact is that file with the image in its place.  So no weight is copied by the linker, and
 * the artefact is written in one go.
 */
#ifndef ML_IMAGE_H
#define ML_IMAGE_H
#include "plan.h"
#include "target.h"

typedef struct ml_image {
	uint8_t *at; /* pages of its own, read-only; NULL: not there */
	size_t bytes;
} ml_image;

size_t ml_image_bytes(const ml_plan *); /* never 0 */
/* pairs, workers: as of ml_write_weights().  What unwinds leaves an image to be freed, too. */
ml_status ml_image_make(ml_context *, const ml_plan *, bool pairs, int workers, ml_image *);
void ml_image_free(ml_image *);

/* An object file that defines the hidden symbol mlopt_weights: room for an image in a read-only
 * section aligned to pages. */
ml_bytes ml_image_room(ml_arena *, size_t bytes, const ml_target *);
/* Writes `path`: a linked file, and the image where it has room.  The path is new. */
ml_status ml_image_place(ml_context *, const ml_image *, const char *linked, const char *path);
#endif
