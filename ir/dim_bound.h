/* dim_bound.h -- what can be proven about dims whose symbols are loop indices.
 *
 * A loop index is a symbol with an inclusive symbolic upper bound (ml_sym.bound, lowest value 0).
 * With these bounds positions in flattened tensors are taken apart again: (b*S + s) floordiv S is
 * b when s <= S - 1.
 */
#ifndef ML_DIM_BOUND_H
#define ML_DIM_BOUND_H
#include "dim.h"

/* The lane axis: position = 16 * block + lane.  `position` never occurs in indices; it carries
 * the bound of the sum, which is tighter than those of its parts when a row ends in mid-block.
 * All are NULL where no loop runs over lanes. */
typedef struct ml_lane_axis {
	const ml_sym *position, *block, *lane;
	int lanes;
} ml_lane_axis;

/* a floordiv b = whole + rest floordiv by; rest is NULL when nothing remains. */
typedef struct ml_quotient {
	ml_dim whole, rest, by;
} ml_quotient;

/* For b >= 1.  Pulls out what b divides and drops a remainder proven to lie in 0..b-1.
 * axis may be NULL. */
ml_quotient ml_dim_quotient(ml_dims *, const ml_lane_axis *axis, ml_dim a, ml_dim b);

/* 0 <= d <= limit for all values of the loop indices. */
bool ml_dim_within(ml_dims *, const ml_lane_axis *axis, ml_dim d, ml_dim limit);
/* The largest value as a dim without loop indices, or NULL when it cannot be told. */
ml_dim ml_dim_largest(ml_dims *, const ml_lane_axis *axis, ml_dim d);

/* Whether s occurs anywhere in d, inside of floordiv, min and max too. */
bool ml_dim_mentions(ml_dim d, const ml_sym *s);
/* d = factor * s + rest, with s in neither.  False when s occurs in any other way. */
bool ml_dim_linear(ml_dims *, ml_dim d, const ml_sym *s, ml_dim *factor, ml_dim *rest);
/* One atom as a dim. */
ml_dim ml_dim_from_atom(ml_dims *, const ml_atom *);
/* One term as a dim. */
ml_dim ml_dim_from_term(ml_dims *, const ml_term *);
#endif
