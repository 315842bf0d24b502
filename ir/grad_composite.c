/* grad_composite.c -- gradients of composites whose own formula beats that of their body: it reads
 * operands and result only, so that no intermediate result of the body is kept. */
#include "grad_rule.h"
#include <math.h>
#include <string.h>

ML_GRADIENT(sigmoid)
{
	ml_builder *b = &g->b;
	ml_value *y = g->out[0];

	ml_grad_add(g, 0, MUL(g->d[0], MUL(y, SUB(ml_build_f64(b, y->type.dtype, 1), y))));
}

/* t = tanh(u), u = c (x + a x^3): (1 + t) / 2 + x (1 - t^2) u' / 2 */
static ml_value *
slope_tanh(ml_builder *b, ml_value *x)
{
	const double a = 0.044715, c = 0.7978845608028654;
	ml_value *square = MUL(x, x);
	ml_value *u = TIMES(MUL(x, PLUS(TIMES(square, a), 1)), c);
	ml_value *t = ml_op1(b, ML_OP_tanh, u);
	ml_value *rise = TIMES(PLUS(TIMES(square, 3 * a), 1), c);
	ml_value *bend = PLUS(NEG(MUL(t, t)), 1);

	return TIMES(ADD(PLUS(t, 1), MUL(x, MUL(bend, rise))), 0.5);
}

/* s = sigmoid(c x): s + c x s (1 - s) */
static ml_value *
slope_sigmoid(ml_builder *b, ml_value *x)
{
	const double c = 1.702;
	ml_value *s = ml_sigmoid_of(b, TIMES(x, c));

	return ADD(s, TIMES(MUL(x, MUL(s, PLUS(NEG(s), 1))), c));
}

ML_GRADIENT(gelu)
{
	const char *form = ML_A(g->node, gelu, form).str;
	ml_builder *b = &g->b;
	ml_value *x = g->in[0];

	ml_grad_add(g, 0,
		    MUL(g->d[0], !strcmp(form, "erf")    ? ml_slope_of_xcdf(b, x)
				 : !strcmp(form, "tanh") ? slope_tanh(b, x)
							 : slope_sigmoid(b, x)));
}

/* y (d - sum(y d)) */
ML_GRADIENT(softmax)
{
	ml_builder *b = &g->b;
	ml_value *y = g->out[0], *d = g->d[0];
	int64_t axis = ML_A(g->node, softmax, axis).i64;

	ml_grad_add(g, 0, MUL(y, SUB(d, ml_sum_over(b, MUL(y, d), &axis, 1))));
}

/* ---- normalisations ---- */

/* 1 / sqrt(mean of squares + eps) */
static ml_value *
unit_factor(ml_builder *b, ml_value *x, const int64_t *axes, int n, double eps)
{
	ml_value *root = ml_op1(b, ML_OP_sqrt, PLUS(ml_mean_of(b, MUL(x, x), axes, n), eps));

	return root ? DIV(ml_build_f64(b, root->type.dtype, 1), root) : NULL;
}

/* With u = x r and e = d scale:  r (e - u mean(u e)), and when x was centred, less r mean(e). */
static void
norm_rule(ml_grad_state *g, int64_t axis, double eps, bool centre)
{
	ml_builder *b = &g->b;
	ml_value *x = g->in[0], *d = g->d[0];
	int64_t axes[ML_MAX_RANK];
	int n = ml_axes_from(axis, x->type.rank, axes);

	if (centre)
		x = SUB(x, ml_mean_of(b, x, axes, n));
	ml_value *r = unit_factor(b, x, axes, n, eps), *u = MUL(x, r);
	if (g->wanted[1])
		ml_grad_add(g, 1, MUL(d, u));
	ml_grad_add(g, 2, d);
	if (!g->wanted[0])
		return;
	ml_value *e = MUL(d, g->in[1]), *rest;
	rest = SUB(e, MUL(u, ml_mean_of(b, MUL(u, e), axes, n)));
	if (centre)
		rest = SUB(rest, ml_mean_of(b, e, axes, n));
	ml_grad_add(g, 0, MUL(r, rest));
}

ML_GRADIENT(layer_norm)
{
	norm_rule(g, ML_A(g->node, layer_norm, axis).i64, ML_A(g->node, layer_norm, eps).f64, true);
}

ML_GRADIENT(rms_norm)
{
	norm_rule(g, ML_A(g->node, rms_norm, axis).i64, ML_A(g->node, rms_norm, eps).f64, false);
}

ML_GRADIENT_IS(batch_norm, BODY);

/* Rounded: a straight-through estimate would be another function than the gradient. */
ML_GRADIENT_IS(quantize_row, NONE);
ML_GRADIENT_IS(linear_u4, NONE);
ML_GRADIENT_IS(quantize, ENDS);
ML_GRADIENT_IS(dequantize, BODY);

/* ---- what has regions, and sources ---- */

ML_GRADIENT_IS(rnn, NONE); /* its body is a loop */
ML_GRADIENT_IS(loop, NONE);
ML_GRADIENT_IS(if, NONE);
ML_GRADIENT_IS(custom, NONE);
ML_GRADIENT_IS(const, ENDS);
ML_GRADIENT_IS(iota, ENDS);
ML_GRADIENT_IS(dim, ENDS);
ML_GRADIENT_IS(yield, ENDS);
