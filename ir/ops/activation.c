/* activation.c -- bodies of sigmoid and gelu. */
#include "../expand.h"
#include <string.h>

/* 1 / (1 + exp(-x)): exp overflows to infinity for very negative x, and the result is 0. */
ml_value *
ml_sigmoid_of(ml_builder *b, ml_value *x)
{
	ml_value *d = ml_op_number(b, ML_OP_add, ml_op1(b, ML_OP_exp, ml_op1(b, ML_OP_neg, x)), 1);

	return d ? ml_op2(b, ML_OP_div, ml_build_f64(b, d->type.dtype, 1), d) : NULL;
}

void
ml_body_sigmoid(ml_builder *b, const ml_node *n, ml_value *const *in, ml_value **out)
{
	(void)n;
	out[0] = ml_sigmoid_of(b, in[0]);
}

/* 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) */
static ml_value *
gelu_tanh(ml_builder *b, ml_value *x)
{
	ml_value *cube = ml_op2(b, ML_OP_mul, ml_op2(b, ML_OP_mul, x, x), x);
	ml_value *inner = ml_op2(b, ML_OP_add, x, ml_op_number(b, ML_OP_mul, cube, 0.044715));
	ml_value *t = ml_op1(b, ML_OP_tanh, ml_op_number(b, ML_OP_mul, inner, 0.7978845608028654));

	return ml_op2(b, ML_OP_mul, ml_op_number(b, ML_OP_mul, x, 0.5),
		      ml_op_number(b, ML_OP_add, t, 1));
}

void
ml_body_gelu(ml_builder *b, const ml_node *n, ml_value *const *in, ml_value **out)
{
	const char *form = ML_A(n, gelu, form).str;

	if (!strcmp(form, "erf"))
		out[0] = ml_op1(b, ML_OP_xcdf, in[0]);
	else if (!strcmp(form, "tanh"))
		out[0] = gelu_tanh(b, in[0]);
	else
		out[0] = ml_op2(b, ML_OP_mul, in[0],
				ml_sigmoid_of(b, ml_op_number(b, ML_OP_mul, in[0], 1.702)));
}
