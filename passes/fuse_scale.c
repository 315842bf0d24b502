/* fuse_scale.c -- factors behind linear layers become part of their weights. */
#include "rules.h"

/* One factor for everything, or one per output channel. */
static bool
scales_channels(ml_match *m)
{
	ml_value *c = GOT(m, c), *b = GOT(m, b);
	ml_dim n = GOT(m, w)->type.dim[1], count = ml_type_count(m->b->m->dims, &c->type);
	bool single = ml_dim_equals(count, 1);

	if (!single && (count != n || c->type.dim[c->type.rank - 1] != n))
		return m->why = "the factor is none per output channel", false;
	c = ml_match_fold(m, ml_build_reshape(m->b, c, &n, single ? 0 : 1));
	GOT(m, w) = ml_match_fold(m, ml_op2(m->b, ML_OP_mul, GOT(m, w), c));
	if (b)
		GOT(m, b) = ml_match_fold(m, ml_op2(m->b, ML_OP_mul, b, c));
	return GOT(m, w) && (!b || GOT(m, b));
}

#define LINEAR      OP(linear, ANY(x), CST(w))
#define LINEAR_BIAS OP(linear, ANY(x), CST(w), CST(b))

/* clang-format off */
static const ml_rule rules[] = {
	{"linear_scale",                /* linear(x, W) c  =>  linear(x, W c) */
	 .lhs = OP(mul, LINEAR, CST(c)), .rhs = LINEAR, .when = scales_channels},
	{"linear_bias_scale",           /* linear(x, W, b) c  =>  linear(x, W c, b c) */
	 .lhs = OP(mul, LINEAR_BIAS, CST(c)), .rhs = LINEAR_BIAS, .when = scales_channels},
};
/* clang-format on */

ML_RULE_PASS(fuse_scale, ML_ROUNDS, rules, "factors behind linear layers go into their weights");
