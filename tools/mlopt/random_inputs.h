/* random_inputs.h -- made-up inputs for a model. */
#ifndef MO_RANDOM_INPUTS_H
#define MO_RANDOM_INPUTS_H
#include "model.h"

/* One array per input: floats from [-1, 1), ones for everything else, which suits ids and masks.
 * `dims` holds NAME=N for symbolic sizes; those not given are chosen, and named if `loud`. */
int mo_random_inputs(const mo_model *, const cl_list *dims, unsigned long seed, bool loud,
		     md_arrays *);
#endif
