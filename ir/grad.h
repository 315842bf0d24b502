/* grad.h -- reverse-mode gradients: what computes them is ordinary IR beside what they are of. */
#ifndef ML_GRAD_H
#define ML_GRAD_H
#include "ir.h"

/* Appends to m's main block what computes the gradients of `loss`, a float value of one element,
 * by `wrt[i]`, float values of the main block, which need not be arguments.  gradient[i] has the
 * type of wrt[i]; it is zero where the loss does not depend on it.
 *
 * Composites without a rule of their own are replaced by their bodies, so that intermediate
 * results are computed once; they stay in the block, unused.  An operator that the gradient
 * must pass and that has none is an error at its node.  Paths through integers, comparisons and
 * rounding end: their gradient is zero almost everywhere.
 *
 * At ties, max and min of two operands give half to each, and nothing to the only one that has a
 * gradient (relu'(0) = 0); reduce_max and reduce_min share among equals. */
ml_status ml_grad(ml_module *m, ml_value *loss, ml_value *const *wrt, int n, ml_value **gradient);

/* A float constant of the main block becomes its last argument; the constant goes away. */
ml_status ml_promote_constant(ml_module *m, ml_value *constant, const char *name, ml_value **arg);

/* A clone of m with the gradients as further outputs, "gradient of <name>".  `loss` and `wrt` are
 * values of m's main block; constants among wrt become inputs, in this order behind m's own. */
ml_status ml_grad_module(const ml_module *m, const ml_value *loss, const ml_value *const *wrt,
			 int n, ml_module **);
#endif
