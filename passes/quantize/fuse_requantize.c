/* fuse_requantize.c -- scales meet: what quantizes a layer's result takes its scale into factors.
 *
 *   quantize(x f, s, z)  =>  quantize(x (f / s), 1, z)
 *   quantize(x, s, z)    =>  quantize(x (1 / s), 1, z)
 *
 * The division moves inwards through sums and bounds until it meets constants; so a layer ends with
 * one factor, one rounding and one zero point, and a residual enters with a factor of its own.
 */
#include "scales.h"

enum { DEEPEST = 16 };

/* A division by a constant scale would end in constants.  All but v itself are read here only, and
 * so can be changed. */
static bool
takes_division(const ml_value *v, int depth)
{
	const ml_node *n = v->def;

	if (!n || v->type.dtype != ML_f32 || depth == DEEPEST || (depth && ml_use_count(v) > 1))
		return false;
	switch (n->op) {
	case ML_OP_dequantize: return ml_is_scale(ml_in(n, 1));
	case ML_OP_mul: return ml_is_const(ml_in(n, 0)) || ml_is_const(ml_in(n, 1));
	case ML_OP_max:
	case ML_OP_min:
		if (ml_is_const(ml_in(n, 0)))
			return takes_division(ml_in(n, 1), depth + 1);
		return ml_is_const(ml_in(n, 1)) && takes_division(ml_in(n, 0), depth + 1);
	case ML_OP_add:
		for (int i = 0; i < 2; i++)
			if (!ml_is_const(ml_in(n, i)) && !takes_division(ml_in(n, i), depth + 1))
				return false;
		return true;
	default: return false;
	}
}

static bool
is_scaled(ml_match *m)
{
	const ml_value *x = GOT(m, x);

	GOT(m, o) = ml_build_f64(m->b, ML_f32, 1);
	return ml_is_per_tensor(GOT(m, s), GOT(m, z)) && ml_const_f64(GOT(m, s), 0) != 1 &&
	       ml_use_count(x) == 1 && takes_division(x, 0);
}

/* A scale that stays outside is divided by once, here: what is left is a product.  Not of inputs,
 * whose numbers may lie halfway between integers. */
static bool
is_divided(ml_match *m)
{
	ml_value *s = GOT(m, s), *one = ml_build_f64(m->b, ML_f32, 1);

	if (!ml_is_per_tensor(s, GOT(m, z)) || GOT(m, x)->type.dtype != ML_f32 || !GOT(m, x)->def ||
	    ml_const_f64(s, 0) == 1)
		return false;
	GOT(m, o) = one;
	GOT(m, c) = ml_match_fold(m, ml_op2(m->b, ML_OP_div, one, s));
	return GOT(m, c) && ml_is_scale(GOT(m, c));
}

/* c / s; c is a factor, a bound or a summand. */
static bool
divides(ml_match *m)
{
	if (GOT(m, s)->type.rank || !ml_is_scale(GOT(m, s)) || GOT(m, c)->type.dtype != ML_f32)
		return false;
	GOT(m, c) = ml_match_fold(m, ml_op2(m->b, ML_OP_div, GOT(m, c), GOT(m, s)));
	return GOT(m, c) != NULL;
}

static bool
divides_scale(ml_match *m)
{
	return divides(m) && ml_is_scale(GOT(m, c));
}

static bool
divides_both(ml_match *m)
{
	return takes_division(GOT(m, d), 1) && !GOT(m, s)->type.rank && ml_is_scale(GOT(m, s));
}

static bool
divides_one(ml_match *m)
{
	return divides_both(m) && divides(m);
}

#define DIVIDED(x) OP(div, x, CST(s))

/* clang-format off */
static const ml_rule rules[] = {
	{"quantize_unit",     /* q(x, s, z) => q(x / s, 1, z) */
	 .lhs = OPA(quantize, ATTRS(ATTR(quantize, dtype, t)), ANY(x), CST(s), CST(z)),
	 .rhs = OPA(quantize, ATTRS(ATTR(quantize, dtype, t)), DIVIDED(ANY(x)), CST(o), CST(z)), .when = is_scaled},
	{"quantize_product",  /* q(x, s, z) => q(x (1 / s), 1, z) */
	 .lhs = OPA(quantize, ATTRS(ATTR(quantize, dtype, t)), ANY(x), CST(s), CST(z)),
	 .rhs = OPA(quantize, ATTRS(ATTR(quantize, dtype, t)), OP(mul, ANY(x), CST(c)), CST(o), CST(z)), .when = is_divided},
	{"divide_factor",     .lhs = DIVIDED(OP(mul, ANY(x), CST(c))), .rhs = OP(mul, ANY(x), CST(c)), .when = divides},
	{"divide_scale",      .lhs = DIVIDED(OP(dequantize, ANY(x), CST(c), CST(z))), .rhs = OP(dequantize, ANY(x), CST(c), CST(z)),
	 .when = divides_scale, .shared = true},
	{"divide_least",      .lhs = DIVIDED(AS(d, max, ANY(x), CST(c))), .rhs = OP(max, DIVIDED(ANY(x)), CST(c)), .when = divides_one},
	{"divide_largest",    .lhs = DIVIDED(AS(d, min, ANY(x), CST(c))), .rhs = OP(min, DIVIDED(ANY(x)), CST(c)), .when = divides_one},
	{"divide_summand",    .lhs = DIVIDED(AS(d, add, ANY(x), CST(c))), .rhs = OP(add, DIVIDED(ANY(x)), CST(c)), .when = divides_one},
	{"divide_sum",        .lhs = DIVIDED(AS(d, add, ANY(x), ANY(y))), .rhs = OP(add, DIVIDED(ANY(x)), DIVIDED(ANY(y))), .when = divides_both},
};
/* clang-format on */

ML_RULE_PASS(fuse_requantize, ML_LOSSY, rules, "the scale of a result goes into its factors");
