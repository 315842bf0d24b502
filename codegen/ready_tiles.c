/* ready_tiles.c -- finds contraction tiles that were compiled when mlopt was. */
#include "ready_tiles.h"
#include <string.h>

/* What codegen/make_tiles has written; empty in that program itself. */
extern const unsigned char ml_embedded_tiles[];
extern const size_t ml_embedded_tiles_size;

bool
ml_ready_tiles(ml_level level, ml_contract_form form, ml_bytes *object)
{
	const unsigned char *at = ml_embedded_tiles, *end = at + ml_embedded_tiles_size;
	ml_ready_head h;

	for (; at < end; at += (h.bytes + sizeof h - 1) / sizeof h * sizeof h) {
		memcpy(&h, at, sizeof h);
		at += sizeof h;
		*object = (ml_bytes){at, h.bytes};
		if (h.level == level && h.form == form)
			return true;
	}
	return false;
}
