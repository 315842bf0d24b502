/* grad_elementwise.c -- gradients of elementwise operators; ml_grad_add undoes broadcasting. */
#include "grad_rule.h"
#include <math.h>

/* constant - x */
static ml_value *
number_minus(ml_builder *b, double number, ml_value *x)
{
	return x ? SUB(ml_build_f64(b, x->type.dtype, number), x) : NULL;
}

static ml_value *
root(ml_builder *b, ml_value *x)
{
	return ml_op1(b, ML_OP_sqrt, x);
}

/* One operand x, result y, its gradient d. */
#define UNARY(name, formula)                                                                       \
	ML_GRADIENT(name)                                                                          \
	{                                                                                          \
		ml_builder *b = &g->b;                                                             \
		ml_value *x = g->in[0], *y = g->out[0], *d = g->d[0];                              \
		(void)x, (void)y;                                                                  \
		ml_grad_add(g, 0, formula);                                                        \
	}

/* Phi(x) + x phi(x), the normal distribution and its density. */
ml_value *
ml_slope_of_xcdf(ml_builder *b, ml_value *x)
{
	ml_value *half = TIMES(PLUS(ml_op1(b, ML_OP_erf, TIMES(x, M_SQRT1_2)), 1), 0.5);
	ml_value *density =
		TIMES(ml_op1(b, ML_OP_exp, TIMES(MUL(x, x), -0.5)), 0.5 * M_SQRT1_2 * M_2_SQRTPI);

	return ADD(half, MUL(x, density));
}

/* clang-format off */
UNARY(neg,   NEG(d))
UNARY(abs,   MUL(d, ml_op1(b, ML_OP_sign, x)))
UNARY(sqrt,  DIV(TIMES(d, 0.5), y))
UNARY(exp,   MUL(d, y))
UNARY(log,   DIV(d, x))
UNARY(sin,   MUL(d, ml_op1(b, ML_OP_cos, x)))
UNARY(cos,   NEG(MUL(d, ml_op1(b, ML_OP_sin, x))))
UNARY(tan,   MUL(d, PLUS(MUL(y, y), 1)))
UNARY(asin,  DIV(d, root(b, number_minus(b, 1, MUL(x, x)))))
UNARY(acos,  NEG(DIV(d, root(b, number_minus(b, 1, MUL(x, x))))))
UNARY(atan,  DIV(d, PLUS(MUL(x, x), 1)))
UNARY(sinh,  MUL(d, ml_op1(b, ML_OP_cosh, x)))
UNARY(cosh,  MUL(d, ml_op1(b, ML_OP_sinh, x)))
UNARY(tanh,  MUL(d, number_minus(b, 1, MUL(y, y))))
UNARY(asinh, DIV(d, root(b, PLUS(MUL(x, x), 1))))
UNARY(acosh, DIV(d, root(b, PLUS(MUL(x, x), -1))))
UNARY(atanh, DIV(d, number_minus(b, 1, MUL(x, x))))
UNARY(erf,   MUL(d, TIMES(ml_op1(b, ML_OP_exp, NEG(MUL(x, x))), M_2_SQRTPI)))
UNARY(xcdf,  MUL(d, ml_slope_of_xcdf(b, x)))
/* clang-format on */

/* Between floats; what becomes an integer ends there. */
ML_GRADIENT(cast)
{
	ml_grad_add(g, 0, g->d[0]);
}

/* Steps and what is no float. */
ML_GRADIENT_IS(sign, ENDS);
ML_GRADIENT_IS(floor, ENDS);
ML_GRADIENT_IS(ceil, ENDS);
ML_GRADIENT_IS(round, ENDS);
ML_GRADIENT_IS(not, ENDS);
ML_GRADIENT_IS(isnan, ENDS);
ML_GRADIENT_IS(and, ENDS);
ML_GRADIENT_IS(or, ENDS);
ML_GRADIENT_IS(xor, ENDS);
ML_GRADIENT_IS(shl, ENDS);
ML_GRADIENT_IS(shr, ENDS);
ML_GRADIENT_IS(eq, ENDS);
ML_GRADIENT_IS(lt, ENDS);
ML_GRADIENT_IS(le, ENDS);
ML_GRADIENT_IS(wrap_index, ENDS);

ML_GRADIENT(add)
{
	ml_grad_add(g, 0, g->d[0]);
	ml_grad_add(g, 1, g->d[0]);
}

ML_GRADIENT(sub)
{
	ml_builder *b = &g->b;

	ml_grad_add(g, 0, g->d[0]);
	if (g->wanted[1])
		ml_grad_add(g, 1, NEG(g->d[0]));
}

ML_GRADIENT(mul)
{
	ml_builder *b = &g->b;

	for (int i = 0; i < 2; i++)
		if (g->wanted[i])
			ml_grad_add(g, i, MUL(g->d[0], g->in[1 - i]));
}

ML_GRADIENT(div)
{
	ml_builder *b = &g->b;
	ml_value *quotient = DIV(g->d[0], g->in[1]);

	ml_grad_add(g, 0, quotient);
	if (g->wanted[1])
		ml_grad_add(g, 1, NEG(MUL(quotient, g->out[0])));
}

/* y = a - n b with a whole number n: what rounding made of (a - y) / b is undone. */
static void
remainder_rule(ml_grad_state *g)
{
	ml_builder *b = &g->b;

	ml_grad_add(g, 0, g->d[0]);
	if (!g->wanted[1])
		return;
	ml_value *n = ml_op1(b, ML_OP_round, DIV(SUB(g->in[0], g->out[0]), g->in[1]));
	ml_grad_add(g, 1, NEG(MUL(g->d[0], n)));
}

ML_GRADIENT(rem)
{
	remainder_rule(g);
}

ML_GRADIENT(mod)
{
	remainder_rule(g);
}

/* d e a^(e - 1), where e is 0: 0, also for a = 0. */
static ml_value *
by_base(ml_grad_state *g, ml_value *a, ml_value *e)
{
	ml_builder *b = &g->b;
	double number;

	if (ml_is_splat(e, &number) && number == 2)
		return MUL(g->d[0], TIMES(a, 2));
	ml_value *exponent = ml_build_cast(b, e, a->type.dtype);
	ml_value *slope = MUL(exponent, ml_op2(b, ML_OP_pow, a, PLUS(exponent, -1)));
	ml_value *flat = ml_op2(b, ML_OP_eq, exponent, ml_build_f64(b, a->type.dtype, 0));
	return slope ? MUL(g->d[0], ml_op3(b, ML_OP_select, flat,
					   ml_build_f64(b, slope->type.dtype, 0), slope))
		     : NULL;
}

/* Bases of 0 and less have no neighbours along the exponent. */
ML_GRADIENT(pow)
{
	ml_builder *b = &g->b;
	ml_value *a = g->in[0], *zero = ml_build_f64(b, a->type.dtype, 0);

	if (g->wanted[0])
		ml_grad_add(g, 0, by_base(g, a, g->in[1]));
	if (!g->wanted[1])
		return;
	ml_value *slope = MUL(g->d[0], MUL(g->out[0], ml_op1(b, ML_OP_log, a)));
	ml_grad_add(g, 1, ml_where(b, ml_op2(b, ML_OP_lt, zero, a), slope));
}

/* Operand i gets the gradient where it is strictly the chosen one, half of it at ties with another
 * that wants it too. */
static void
chosen(ml_grad_state *g, bool largest)
{
	ml_builder *b = &g->b;
	ml_value *d = g->d[0];

	for (int i = 0; i < 2; i++) {
		ml_value *mine = g->in[i], *other = g->in[1 - i];
		if (!g->wanted[i])
			continue;
		ml_value *wins = largest ? ml_op2(b, ML_OP_lt, other, mine)
					 : ml_op2(b, ML_OP_lt, mine, other);
		ml_grad_add(g, i, ml_where(b, wins, d));
		if (g->wanted[1 - i])
			ml_grad_add(g, i,
				    ml_where(b, ml_op2(b, ML_OP_eq, mine, other), TIMES(d, 0.5)));
	}
}

ML_GRADIENT(min)
{
	chosen(g, false);
}

ML_GRADIENT(max)
{
	chosen(g, true);
}

ML_GRADIENT(select)
{
	ml_builder *b = &g->b;
	ml_value *d = g->d[0], *zero = ml_build_f64(b, d->type.dtype, 0);

	if (g->wanted[1])
		ml_grad_add(g, 1, ml_op3(b, ML_OP_select, g->in[0], d, zero));
	if (g->wanted[2])
		ml_grad_add(g, 2, ml_op3(b, ML_OP_select, g->in[0], zero, d));
}
