/* routines.h -- irregular operators: those whose work does not form a grid of tiles.
 *
 * They allocate nothing: what they need besides their results they keep in the results' own
 * memory.  So every result must have room for its upper bound:
 *   nonzero  rank * elements
 *   unique   elements, each of the four results
 *   nms      batches * classes * boxes rows of 3, whatever the operand `max` says
 */
#ifndef MLRT_ROUTINES_H
#define MLRT_ROUTINES_H
#include "../abi.h"

/* Each returns 0, or an ml_status with the fault set. */
int32_t mlrt_top_k(const mlrt_routine *);
int32_t mlrt_nonzero(const mlrt_routine *);
int32_t mlrt_unique(const mlrt_routine *);
int32_t mlrt_nms(const mlrt_routine *);
#endif
