/* ready_tiles.h -- contraction tiles that were compiled when mlopt was: they depend on no model. */
#ifndef ML_READY_TILES_H
#define ML_READY_TILES_H
#include "contract.h"

/* In the generated array, before each object; padded to a multiple of its own size. */
typedef struct ml_ready_head {
	uint32_t level, form;
	uint64_t bytes;
} ml_ready_head;

/* The object file of a level and form; false where there is none. */
bool ml_ready_tiles(ml_level, ml_contract_form, ml_bytes *);
#endif
