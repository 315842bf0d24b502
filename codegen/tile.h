/* tile.h -- what a contraction's tile generators take: one block of accumulators over all of k. */
#ifndef ML_TILE_H
#define ML_TILE_H
#include "emit.h"

enum { ML_TILE_MAX = 32 }; /* accumulators of 16 lanes in the largest tile */

typedef struct ml_tile {
	int rows, panels;
	ml_v a, lda;          /* first row; row stride in elements */
	ml_v b, panel_stride; /* first panel; distance of panels in elements */
	ml_v k;
	ml_v acc; /* receives [rows][panels][16] f32 or i32, 64-byte aligned */
} ml_tile;

/* Both emit straight code at the insertion point. */
void ml_tile_f32(ml_emit *, const ml_tile *);
void ml_tile_u8s8(ml_emit *, const ml_tile *);
#endif
