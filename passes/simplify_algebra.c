/* simplify_algebra.c -- one spelling for each scalar idea: identities, double negations, signs. */
#include "rules.h"

static bool
has_root_type(ml_match *m)
{
	return ml_type_equal(&GOT(m, x)->type, &m->root->out[0].type);
}

/* The inner cast keeps every value: the outer one may start from its operand. */
static bool
inner_cast_is_exact(ml_match *m)
{
	ml_dtype from = GOT(m, x)->type.dtype, between = GOT(m, d)->type.dtype;
	ml_dtype_kind kind = ml_dtype_kind_of(from);

	if (kind == ML_KIND_BOOL || from == between)
		return true;
	return kind == ml_dtype_kind_of(between) && ml_dtype_bytes(between) > ml_dtype_bytes(from);
}

/* clang-format off */
static const ml_rule rules[] = {
	{"add_zero",      .lhs = OP(add, ANY(x), NUM(0)), .rhs = ANY(x), .when = has_root_type},
	{"sub_zero",      .lhs = OP(sub, ANY(x), NUM(0)), .rhs = ANY(x), .when = has_root_type},
	{"mul_one",       .lhs = OP(mul, ANY(x), NUM(1)), .rhs = ANY(x), .when = has_root_type},
	{"div_one",       .lhs = OP(div, ANY(x), NUM(1)), .rhs = ANY(x), .when = has_root_type},
	{"pow_one",       .lhs = OP(pow, ANY(x), NUM(1)), .rhs = ANY(x), .when = has_root_type},
	{"mul_minus_one", .lhs = OP(mul, ANY(x), NUM(-1)), .rhs = OP(neg, ANY(x)), .when = has_root_type},
	{"sub_from_zero", .lhs = OP(sub, NUM(0), ANY(x)), .rhs = OP(neg, ANY(x)), .when = has_root_type},
	{"neg_neg",       .lhs = OP(neg, OP(neg, ANY(x))), .rhs = ANY(x), .shared = true},
	{"not_not",       .lhs = OP(not, OP(not, ANY(x))), .rhs = ANY(x), .shared = true},
	{"abs_abs",       .lhs = OP(abs, AS(d, abs, ANY(x))), .rhs = ANY(d), .shared = true},
	{"abs_neg",       .lhs = OP(abs, OP(neg, ANY(x))), .rhs = OP(abs, ANY(x)), .shared = true},
	{"add_neg",       .lhs = OP(add, ANY(x), OP(neg, ANY(y))), .rhs = OP(sub, ANY(x), ANY(y)), .shared = true},
	{"sub_neg",       .lhs = OP(sub, ANY(x), OP(neg, ANY(y))), .rhs = OP(add, ANY(x), ANY(y)), .shared = true},
	{"mul_neg_neg",   .lhs = OP(mul, OP(neg, ANY(x)), OP(neg, ANY(y))), .rhs = OP(mul, ANY(x), ANY(y)), .shared = true},
	{"min_same",      .lhs = OP(min, ANY(x), ANY(x)), .rhs = ANY(x)},
	{"max_same",      .lhs = OP(max, ANY(x), ANY(x)), .rhs = ANY(x)},
	{"and_same",      .lhs = OP(and, ANY(x), ANY(x)), .rhs = ANY(x)},
	{"or_same",       .lhs = OP(or, ANY(x), ANY(x)), .rhs = ANY(x)},
	{"max_again",     .lhs = OP(max, AS(d, max, ANY(x), ANY(y)), ANY(y)), .rhs = ANY(d), .shared = true},
	{"min_again",     .lhs = OP(min, AS(d, min, ANY(x), ANY(y)), ANY(y)), .rhs = ANY(d), .shared = true},
	{"floor_floor",   .lhs = OP(floor, AS(d, floor, ANY(x))), .rhs = ANY(d), .shared = true},
	{"ceil_ceil",     .lhs = OP(ceil, AS(d, ceil, ANY(x))), .rhs = ANY(d), .shared = true},
	{"round_round",   .lhs = OP(round, AS(d, round, ANY(x))), .rhs = ANY(d), .shared = true},
	{"select_same",   .lhs = OP(select, ANY(c), ANY(x), ANY(x)), .rhs = ANY(x), .when = has_root_type},
	{"select_not",    .lhs = OP(select, OP(not, ANY(c)), ANY(x), ANY(y)), .rhs = OP(select, ANY(c), ANY(y), ANY(x)), .shared = true},
	{"cast_same",     .lhs = OP(cast, ANY(x)), .rhs = ANY(x), .when = has_root_type},
	{"cast_cast",     /* cast(exact cast(x)) => cast(x) */
	 .lhs = OPA(cast, ATTRS(ATTR(cast, dtype, t)), AS(d, cast, ANY(x))),
	 .rhs = OPA(cast, ATTRS(ATTR(cast, dtype, t)), ANY(x)), .when = inner_cast_is_exact, .shared = true},
	{"pow_two",       .lhs = OP(pow, ANY(x), NUM(2)), .rhs = OP(mul, ANY(x), ANY(x)), .when = has_root_type},
};
/* clang-format on */

ML_RULE_PASS(simplify_algebra, ML_EXACT, rules, "identities, double negations, small powers");
