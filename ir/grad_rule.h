/* grad_rule.h -- what gradient rules are made of.
 *
 * Every operator says how gradients pass it, in grad_<family>.c, as `ml_gradient_<name>`; one that
 * says nothing is a link error.  A rule reads the operands, results and gradients of the results
 * and gives gradients of the operands to ml_grad_add, as nodes built with g->b.
 */
#ifndef ML_GRAD_RULE_H
#define ML_GRAD_RULE_H
#include "expand.h"
#include "grad.h"

typedef enum ml_gradient_kind {
	ML_GRADIENT_RULE,
	ML_GRADIENT_BODY, /* a composite: through its body */
	ML_GRADIENT_ENDS, /* zero almost everywhere, or no float comes out */
	ML_GRADIENT_NONE, /* an error when it is needed */
} ml_gradient_kind;

/* One node under differentiation.  Of composites, 16-bit floats come widened to f32. */
typedef struct ml_grad_state {
	ml_builder b;
	const ml_node *node;
	ml_value **in, **out; /* operands and results */
	ml_value **d;         /* gradients of the results; NULL where none arrives */
	bool *wanted;         /* by operand: it needs a gradient */
	ml_value **sum;       /* by operand: its gradient here so far, of the operand's type */
} ml_grad_state;

typedef void ml_grad_rule(ml_grad_state *);
typedef struct ml_gradient {
	ml_gradient_kind kind;
	ml_grad_rule *rule;
} ml_gradient;
const ml_gradient *ml_gradient_of(ml_op);

#define ML_OP(no, name, in, out, cls, traits) extern const ml_gradient ml_gradient_##name;
#define ML_ATTR(op, kind, name, init)
#include "ops.def"

/* ML_GRADIENT(add) { .. } defines a rule of g, `ML_GRADIENT_IS(floor, ENDS);` one of the others. */
#define ML_GRADIENT(name)                                                                          \
	static void grad_##name(ml_grad_state *);                                                  \
	const ml_gradient ml_gradient_##name = {ML_GRADIENT_RULE, grad_##name};                    \
	static void grad_##name(ml_grad_state *g)
#define ML_GRADIENT_IS(name, kind) const ml_gradient ml_gradient_##name = {ML_GRADIENT_##kind, NULL}

/* Adds to operand i's gradient, if wanted.  The value may have the shape operand i broadcasts to
 * (it is summed back), another name for the same shape, or a wider dtype. */
void ml_grad_add(ml_grad_state *, int i, ml_value *);
/* Zero of this type. */
ml_value *ml_zeros(ml_builder *, const ml_type *);
/* Phi(x) + x phi(x), the slope of x Phi(x). */
ml_value *ml_slope_of_xcdf(ml_builder *, ml_value *x);
/* c ? x : 0 */
ml_value *ml_where(ml_builder *, ml_value *c, ml_value *x);
ml_value *ml_sum_over(ml_builder *, ml_value *, const int64_t *axes, int naxes);
/* dot's gradients by both operands, given the attributes of dot. */
typedef struct ml_dot_axes {
	const int64_t *batch[2], *contract[2];
	int nbatch, ncontract;
} ml_dot_axes;
ml_value *ml_dot_grad(ml_grad_state *, int side, ml_value *x, ml_value *y, ml_value *d,
		      const ml_dot_axes *);

/* Short forms for formulas; `b` is the builder in scope. */
#define ADD(x, y)   ml_op2(b, ML_OP_add, x, y)
#define SUB(x, y)   ml_op2(b, ML_OP_sub, x, y)
#define MUL(x, y)   ml_op2(b, ML_OP_mul, x, y)
#define DIV(x, y)   ml_op2(b, ML_OP_div, x, y)
#define NEG(x)      ml_op1(b, ML_OP_neg, x)
#define TIMES(x, c) ml_op_number(b, ML_OP_mul, x, c)
#define PLUS(x, c)  ml_op_number(b, ML_OP_add, x, c)
#endif
