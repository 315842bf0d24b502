/* weights_object.h -- the weights image as a relocatable ELF file that the linker can place. */
#ifndef ML_WEIGHTS_OBJECT_H
#define ML_WEIGHTS_OBJECT_H
#include "plan.h"
#include "target.h"

/* Writes `path`, which defines the hidden symbol mlopt_weights in a read-only section aligned to
 * pages.  The image is written straight into the mapped file: never a second time in memory. */
ml_status ml_write_weights_object(ml_context *, const ml_plan *, const ml_target *, bool pairs,
				  int workers, const char *path);
#endif
