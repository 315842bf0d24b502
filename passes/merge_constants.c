/* merge_constants.c -- neighbouring constants of sums and products become one. */
#include "rules.h"
#include <float.h>
#include <math.h>

static int64_t
elements(const ml_value *v)
{
	int64_t count;

	return ml_type_static_count(&v->type, &count) ? count : INT64_MAX;
}

/* The merged constant takes the place of a, and must not be larger than the larger one. */
static bool
merge(ml_match *m, ml_op op)
{
	ml_value *a = GOT(m, a), *b = GOT(m, b);
	int64_t most = elements(a) > elements(b) ? elements(a) : elements(b);

	if (!ml_is_float(a->type.dtype))
		return false;
	GOT(m, a) = ml_match_fold(m, ml_op2(m->b, op, a, b));
	return GOT(m, a) && elements(GOT(m, a)) <= most;
}

static bool
sum_of_constants(ml_match *m)
{
	return merge(m, ML_OP_add);
}

static bool
product_of_constants(ml_match *m)
{
	return merge(m, ML_OP_mul);
}

/* Every element has a reciprocal that is a normal number. */
static bool
reciprocal(ml_match *m)
{
	ml_value *a = GOT(m, a);

	if (a->type.dtype != ML_f32 && a->type.dtype != ML_f64)
		return false;
	for (int64_t i = 0; i < elements(a); i++) {
		double x = fabs(ml_const_f64(a, i));
		if (!(x > 2 * FLT_MIN && x < 0.5 / FLT_MIN))
			return m->why = "the divisor has no reciprocal", false;
	}
	ml_value *one = ml_build_f64(m->b, a->type.dtype, 1);
	GOT(m, a) = ml_match_fold(m, ml_op2(m->b, ML_OP_div, one, a));
	return GOT(m, a) != NULL;
}

static bool
negated(ml_match *m)
{
	if (!ml_is_float(GOT(m, a)->type.dtype))
		return false;
	GOT(m, a) = ml_match_fold(m, ml_op1(m->b, ML_OP_neg, GOT(m, a)));
	return GOT(m, a) != NULL;
}

static bool
has_float_root(ml_match *m)
{
	return ml_is_float(m->root->out[0].type.dtype);
}

/* clang-format off */
static const ml_rule rules[] = {
	{"div_by_constant",         /* x / a  =>  x (1 / a) */
	 .lhs = OP(div, ANY(x), CST(a)), .rhs = OP(mul, ANY(x), CST(a)), .when = reciprocal},
	{"mul_mul_constants",       /* (x a) b  =>  x (a b) */
	 .lhs = OP(mul, OP(mul, ANY(x), CST(a)), CST(b)), .rhs = OP(mul, ANY(x), CST(a)), .when = product_of_constants},
	{"add_add_constants",       /* (x + a) + b  =>  x + (a + b) */
	 .lhs = OP(add, OP(add, ANY(x), CST(a)), CST(b)), .rhs = OP(add, ANY(x), CST(a)), .when = sum_of_constants},
	{"sub_constant",            /* x - a  =>  x + -a */
	 .lhs = OP(sub, ANY(x), CST(a)), .rhs = OP(add, ANY(x), CST(a)), .when = negated},
	{"pow_three",               /* x^3  =>  (x x) x */
	 .lhs = OP(pow, ANY(x), NUM(3)), .rhs = OP(mul, OP(mul, ANY(x), ANY(x)), ANY(x)), .when = has_float_root},
	{"pow_half",                /* x^0.5  =>  sqrt x */
	 .lhs = OP(pow, ANY(x), NUM(0.5)), .rhs = OP(sqrt, ANY(x)), .when = has_float_root},
	{"pow_minus_half",          /* x^-0.5  =>  1 / sqrt x */
	 .lhs = OP(pow, ANY(x), NUM(-0.5)), .rhs = OP(div, NUM(1), OP(sqrt, ANY(x))), .when = has_float_root},
	{"pow_minus_one",           /* x^-1  =>  1 / x */
	 .lhs = OP(pow, ANY(x), NUM(-1)), .rhs = OP(div, NUM(1), ANY(x)), .when = has_float_root},
};
/* clang-format on */

ML_RULE_PASS(merge_constants, ML_ROUNDS, rules,
	     "neighbouring constants of sums and products become one");
