/* narrow.h -- fewer neurons, heads or channels: what lies between two layers becomes narrower. */
#ifndef ML_PRUNE_NARROW_H
#define ML_PRUNE_NARROW_H
#include "../../ir/ir.h"

/* Places along an axis, rising. */
typedef struct ml_places {
	const int64_t *at;
	int64_t count;
	int64_t of; /* the axis has so many */
} ml_places;

/* A linear layer or a convolution with constant weights whose input can be narrowed. */
bool ml_is_narrowable(const ml_node *);
/* How many places its input has: columns, or channels. */
int64_t ml_input_width(const ml_node *);

/* The layer reads only these places of its input, and what computes the others goes, back to the
 * layers that made them: through activations, heads, depthwise convolutions and whatever moves or
 * reduces elements.  false, and nothing has changed, when something on the way does not allow it,
 * as a cache that is an input.  Layers keep their ids; *layer is what stands in its place.
 * `arena`: for the time being. */
bool ml_narrow_input(ml_module *, ml_node **layer, const ml_places *, ml_arena *arena);
#endif
