/* lower_activation.c -- activations: one row each, however an operator names it. */
#include "lower_activation.h"
#include <stdio.h>
#include <strings.h>

static ml_value *
scaled(ml_lower *x, ml_value *v, double by)
{
	return ML_X2(mul, v, ML_LIKE(v, by));
}

/* x < 0 ? low : x */
static ml_value *
below_zero(ml_lower *x, ml_value *v, ml_value *low)
{
	return ML_X3(select, ML_X2(lt, v, ML_LIKE(v, 0)), low, v);
}

/* alpha (exp(v) - 1) */
static ml_value *
exp_less_one(ml_lower *x, ml_value *v, double alpha)
{
	return scaled(x, ML_X2(sub, ML_X1(exp, v), ML_LIKE(v, 1)), alpha);
}

static ml_value *
affine(ml_lower *x, ml_value *v, const double *p)
{
	return ML_X2(add, scaled(x, v, p[0]), ML_LIKE(v, p[1]));
}

static ml_value *
celu(ml_lower *x, ml_value *v, const double *p)
{
	return below_zero(x, v, exp_less_one(x, ML_X2(div, v, ML_LIKE(v, p[0])), p[0]));
}

static ml_value *
elu(ml_lower *x, ml_value *v, const double *p)
{
	return below_zero(x, v, exp_less_one(x, v, p[0]));
}

static ml_value *
hard_sigmoid(ml_lower *x, ml_value *v, const double *p)
{
	return ML_X2(min, ML_X2(max, affine(x, v, p), ML_LIKE(v, 0)), ML_LIKE(v, 1));
}

static ml_value *
leaky_relu(ml_lower *x, ml_value *v, const double *p)
{
	return below_zero(x, v, scaled(x, v, p[0]));
}

static ml_value *
relu(ml_lower *x, ml_value *v, const double *p)
{
	(void)p;
	return ML_X2(max, v, ML_LIKE(v, 0));
}

static ml_value *
scaled_tanh(ml_lower *x, ml_value *v, const double *p)
{
	return scaled(x, ML_X1(tanh, scaled(x, v, p[1])), p[0]);
}

static ml_value *
selu(ml_lower *x, ml_value *v, const double *p)
{
	return scaled(x, elu(x, v, p), p[1]);
}

static ml_value *
sigmoid(ml_lower *x, ml_value *v, const double *p)
{
	(void)p;
	return ML_X1(sigmoid, v);
}

static ml_value *
silu(ml_lower *x, ml_value *v, const double *p)
{
	return ML_X2(mul, v, sigmoid(x, v, p));
}

/* log(1 + exp(v)) without overflow */
static ml_value *
softplus(ml_lower *x, ml_value *v, const double *p)
{
	ml_value *e = ML_X1(exp, ML_X1(neg, ML_X1(abs, v)));

	(void)p;
	return ML_X2(add, ML_X2(max, v, ML_LIKE(v, 0)), ML_X1(log, ML_X2(add, e, ML_LIKE(v, 1))));
}

static ml_value *
parametric_softplus(ml_lower *x, ml_value *v, const double *p)
{
	return scaled(x, softplus(x, scaled(x, v, p[1]), NULL), p[0]);
}

static ml_value *
softsign(ml_lower *x, ml_value *v, const double *p)
{
	(void)p;
	return ML_X2(div, v, ML_X2(add, ML_X1(abs, v), ML_LIKE(v, 1)));
}

static ml_value *
hyperbolic(ml_lower *x, ml_value *v, const double *p)
{
	(void)p;
	return ML_X1(tanh, v);
}

static ml_value *
thresholded_relu(ml_lower *x, ml_value *v, const double *p)
{
	return ML_X3(select, ML_X2(lt, ML_LIKE(v, p[0]), v), v, ML_LIKE(v, 0));
}

static const ml_activation_row activations[] = {
	{"Affine", affine, 2, {{"alpha", 1}, {"beta", 0}}},
	{"Celu", celu, 1, {{"alpha", 1}}},
	{"Elu", elu, 1, {{"alpha", 1}}},
	{"HardSigmoid", hard_sigmoid, 2, {{"alpha", 0.2}, {"beta", 0.5}}},
	{"LeakyRelu", leaky_relu, 1, {{"alpha", 0.01}}},
	{"ParametricSoftplus", parametric_softplus, 2, {{"alpha", 1}, {"beta", 1}}},
	{"Relu", relu, 0, {{NULL, 0}}},
	{"ScaledTanh", scaled_tanh, 2, {{"alpha", 1}, {"beta", 1}}},
	{"Selu",
	 selu,
	 2,
	 {{"alpha", 1.67326319217681884765625}, {"gamma", 1.05070102214813232421875}}},
	{"Sigmoid", sigmoid, 0, {{NULL, 0}}},
	{"Silu", silu, 0, {{NULL, 0}}},
	{"Softplus", softplus, 0, {{NULL, 0}}},
	{"Softsign", softsign, 0, {{NULL, 0}}},
	{"Tanh", hyperbolic, 0, {{NULL, 0}}},
	{"ThresholdedRelu", thresholded_relu, 1, {{"alpha", 1}}},
};

const ml_activation_row *
ml_lower_find_activation(ml_lower *x, const char *name)
{
	for (size_t i = 0; i < sizeof activations / sizeof *activations; i++)
		if (!strcasecmp(name, activations[i].name))
			return &activations[i];
	return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "activation '%s' is not supported",
			     ml_escaped(&x->cx->arena, name));
}

/* ---- operators ---- */

/* Those whose name and attributes are a row's. */
ml_value *
ml_lower_activation(ml_lower *x)
{
	const ml_activation_row *row = ml_lower_find_activation(x, x->row->name);
	double p[2];

	for (int i = 0; row && i < row->n; i++)
		p[i] = ml_onnx_float(x, row->parameter[i].name, row->parameter[i].init);
	return row ? row->build(x, x->in[0], p) : NULL;
}

ml_value *
ml_lower_prelu(ml_lower *x)
{
	return below_zero(x, x->in[0], ML_X2(mul, x->in[0], x->in[1]));
}

ml_value *
ml_lower_hard_swish(ml_lower *x)
{
	static const double p[] = {1.0 / 6, 0.5};

	return ML_X2(mul, x->in[0], hard_sigmoid(x, x->in[0], p));
}

ml_value *
ml_lower_mish(ml_lower *x)
{
	return ML_X2(mul, x->in[0], ML_X1(tanh, softplus(x, x->in[0], NULL)));
}

/* com.microsoft: Gemm, an activation whose every parameter is given */
ml_value *
ml_lower_fused_gemm(ml_lower *x)
{
	const char *name = ml_onnx_text(x, "activation", ""),
		   *unread[] = {"alpha", "beta", "gamma"};
	const ml_activation_row *row = ml_lower_find_activation(x, name);
	ml_value *y = row ? ml_lower_gemm(x) : NULL;
	double p[2];
	char attr[32];

	for (int i = 0; i < 3; i++) {
		snprintf(attr, sizeof attr, "activation_%s", unread[i]);
		ml_onnx_ignore(x, attr);
	}
	for (int i = 0; row && i < row->n; i++) {
		snprintf(attr, sizeof attr, "activation_%s", row->parameter[i].name);
		if (!ml_onnx_has(x, attr))
			return ml_lower_fail(x, ML_ERR_FORMAT,
					     "attribute '%s' is missing: %s needs it", attr,
					     row->name);
		p[i] = ml_onnx_float(x, attr, 0);
	}
	return row ? row->build(x, y, p) : NULL;
}
