/* fuse_activation.c -- recognises activations that exporters spell out. */
#include "rules.h"

static bool
form(ml_match *m, const char *name)
{
	GOT_ATTR(m, f).str = name;
	return true;
}

static bool
erf_form(ml_match *m)
{
	return form(m, "erf");
}

static bool
tanh_form(ml_match *m)
{
	return form(m, "tanh");
}

static bool
sigmoid_form(ml_match *m)
{
	return form(m, "sigmoid");
}

#define GELU    OPA(gelu, ATTRS(ATTR(gelu, form, f)), ANY(x))
#define ERF_SUM OP(add, OP(erf, OP(mul, ANY(x), NUM(0.70710678))), NUM(1))
#define CUBE    OP(mul, OP(mul, ANY(x), ANY(x)), ANY(x))
#define TANH_SUM                                                                                   \
	OP(add, OP(tanh, OP(mul, OP(add, ANY(x), OP(mul, CUBE, NUM(0.044715))), NUM(0.7978845))),  \
	   NUM(1))
/* x (0.79788 + 0.035677 x x): the same with the factor multiplied in */
#define TANH_IN                                                                                    \
	OP(add,                                                                                    \
	   OP(tanh,                                                                                \
	      OP(mul, ANY(x),                                                                      \
		 OP(add, OP(mul, OP(mul, ANY(x), ANY(x)), NUM(0.0356774)), NUM(0.7978845)))),      \
	   NUM(1))

/* (0.79788 x) (1 + (0.044715 x) x) */
#define TANH_FAST                                                                                  \
	OP(add,                                                                                    \
	   OP(tanh, OP(mul, OP(mul, ANY(x), NUM(0.7978845)),                                       \
		       OP(add, OP(mul, OP(mul, ANY(x), NUM(0.044715)), ANY(x)), NUM(1)))),         \
	   NUM(1))

/* clang-format off */
static const ml_rule rules[] = {
	{"sigmoid",                     /* 1 / (1 + exp(-x)) */
	 .lhs = OP(div, NUM(1), OP(add, OP(exp, OP(neg, ANY(x))), NUM(1))),
	 .rhs = OP(sigmoid, ANY(x))},

	{"gelu_erf_half_last",          /* (x (1 + erf(x / sqrt 2))) 0.5 */
	 .lhs = OP(mul, OP(mul, ANY(x), ERF_SUM), NUM(0.5)), .rhs = GELU, .when = erf_form},
	{"gelu_erf_half_first",         /* (0.5 x) (1 + erf(x / sqrt 2)) */
	 .lhs = OP(mul, OP(mul, ANY(x), NUM(0.5)), ERF_SUM), .rhs = GELU, .when = erf_form},
	{"gelu_erf_half_inside",        /* x (0.5 (1 + erf(x / sqrt 2))) */
	 .lhs = OP(mul, ANY(x), OP(mul, ERF_SUM, NUM(0.5))), .rhs = GELU, .when = erf_form},

	{"gelu_tanh_half_first",        /* (0.5 x) (1 + tanh(0.79788 (x + 0.044715 x^3))) */
	 .lhs = OP(mul, OP(mul, ANY(x), NUM(0.5)), TANH_SUM), .rhs = GELU, .when = tanh_form},
	{"gelu_tanh_half_last",
	 .lhs = OP(mul, OP(mul, ANY(x), TANH_SUM), NUM(0.5)), .rhs = GELU, .when = tanh_form},
	{"gelu_tanh_half_inside",
	 .lhs = OP(mul, ANY(x), OP(mul, TANH_SUM, NUM(0.5))), .rhs = GELU, .when = tanh_form},
	{"gelu_tanh_factored",          /* (0.5 x) (1 + tanh(x (0.79788 + 0.03568 x x))) */
	 .lhs = OP(mul, OP(mul, ANY(x), NUM(0.5)), TANH_IN), .rhs = GELU, .when = tanh_form},
	{"gelu_tanh_fast",              /* (0.5 x) (1 + tanh((0.79788 x) (1 + (0.044715 x) x))) */
	 .lhs = OP(mul, OP(mul, ANY(x), NUM(0.5)), TANH_FAST), .rhs = GELU, .when = tanh_form},

	{"gelu_sigmoid",                /* x sigmoid(1.702 x) */
	 .lhs = OP(mul, ANY(x), OP(sigmoid, OP(mul, ANY(x), NUM(1.702)))), .rhs = GELU, .when = sigmoid_form},
};
/* clang-format on */

ML_RULE_PASS(fuse_activation, ML_ROUNDS, rules,
	     "spelled-out gelu (erf, tanh, sigmoid) and sigmoid");
