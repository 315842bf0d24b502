/* attention_plan.h -- an attention kernel in floats taken apart. */
#ifndef ML_ATTENTION_PLAN_H
#define ML_ATTENTION_PLAN_H
#include "dots.h"

enum {
	ML_TILE_ROWS = 128, /* query rows of a tile */
	ML_PASS_TILES = 4,  /* of one head: they share the panels of a block of keys */
	ML_PASS_ROWS = ML_PASS_TILES * ML_TILE_ROWS,
	ML_KEY_BLOCK = 256,
};

typedef struct ml_attention {
	ml_dots scores, heads;
	const ml_value *score;     /* what the softmax is taken of */
	const ml_node *top, *sum;  /* its reductions */
	const ml_value *hidden_by; /* a causal mask: the score's select, or NULL */
	ml_dim later;              /* query i sees keys j <= i + later */
	ml_dim width;              /* of an output row, whole panels */
	ml_dim tiles_per_head;
	ml_dim query_bytes, key_bytes, value_bytes; /* packed */
} ml_attention;

ml_status ml_attention_plan(ml_kernel *, ml_attention *);
#endif
