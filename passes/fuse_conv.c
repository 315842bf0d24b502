/* fuse_conv.c -- a scale and a shift per channel behind a conv become part of it. */
#include "rules.h"

/* [C] -> [C, 1, .., 1], to stand behind N in x[N, C, ..]. */
static ml_value *
along_channels(ml_match *m, ml_value *v, int rank)
{
	ml_dim shape[ML_MAX_RANK] = {v->type.dim[0]};

	for (int i = 1; i < rank - 1; i++)
		shape[i] = ml_dim_int(m->b->m->dims, 1);
	return ml_match_fold(m, ml_build_reshape(m->b, v, shape, rank - 1));
}

static ml_value *
computed(ml_match *m, ml_op op, ml_value *a, ml_value *b)
{
	return ml_match_fold(m, ml_op2(m->b, op, a, b));
}

/* batch_norm is x c + d with c = scale / sqrt(var + eps), d = bias - mean c. */
static bool
affine_constants(ml_match *m)
{
	ml_value *eps = ml_build_f64(m->b, GOT(m, v)->type.dtype, GOT_ATTR(m, e).f64);
	ml_value *var = computed(m, ML_OP_add, GOT(m, v), eps);
	ml_value *deviation = ml_match_fold(m, ml_op1(m->b, ML_OP_sqrt, var));
	ml_value *c = computed(m, ML_OP_div, GOT(m, s), deviation);
	ml_value *d = computed(m, ML_OP_sub, GOT(m, t), computed(m, ML_OP_mul, GOT(m, m), c));
	int rank = GOT(m, x)->type.rank;

	if (!d || rank < 2)
		return false;
	GOT(m, c) = along_channels(m, c, rank);
	GOT(m, d) = along_channels(m, d, rank);
	return GOT(m, c) && GOT(m, d);
}

/* The constant as [C]: one number, or one per channel of the result.  NULL when it is neither. */
static ml_value *
per_channel(ml_match *m, ml_value *v, const ml_type *result)
{
	ml_dim channels = result->dim[1];
	int at = v->type.rank - result->rank + 1; /* of the channels in v */
	ml_dim count = ml_type_count(m->b->m->dims, &v->type);

	if (ml_dim_equals(count, 1) && v->type.rank <= result->rank) {
		ml_value *number = ml_match_fold(m, ml_build_reshape(m->b, v, NULL, 0));
		return ml_match_fold(m, ml_build_broadcast(m->b, number, &channels, 1));
	}
	if (at < 0 || count != channels || v->type.dim[at] != channels)
		return m->why = "the constant is none per channel", NULL;
	return ml_match_fold(m, ml_build_reshape(m->b, v, &channels, 1));
}

/* Sums of integers stay what they are. */
static bool
is_float(ml_match *m)
{
	return ml_is_float(m->root->out[0].type.dtype);
}

static bool
takes_shift(ml_match *m)
{
	if (!is_float(m))
		return false;
	ml_value *c = per_channel(m, GOT(m, c), &m->root->out[0].type);

	if (c && GOT(m, b))
		c = computed(m, ML_OP_add, GOT(m, b), c);
	return (GOT(m, b) = c) != NULL;
}

static bool
takes_scale(ml_match *m)
{
	ml_value *c = is_float(m) ? per_channel(m, GOT(m, c), &m->root->out[0].type) : NULL;

	if (!c)
		return false;
	/* w[M, C/g, ..] has the rank of the result and its channels in front. */
	ml_value *filters = along_channels(m, c, GOT(m, w)->type.rank + 1);
	GOT(m, w) = computed(m, ML_OP_mul, GOT(m, w), filters);
	if (GOT(m, b))
		GOT(m, b) = computed(m, ML_OP_mul, GOT(m, b), c);
	return GOT(m, w) != NULL;
}

/* The reshape behind the conv only drops spatial dims of size 1. */
static bool
takes_shift_through_reshape(ml_match *m)
{
	const ml_type *from = &GOT(m, r)->type, *to = &m->root->out[0].type;

	if (from->dtype != to->dtype || to->rank < 2 || from->dim[0] != to->dim[0] ||
	    from->dim[1] != to->dim[1])
		return m->why = "the reshape moves channels", false;
	return takes_shift(m);
}

#define CONV_ATTRS                                                                                 \
	ATTRS(ATTR(conv, stride, h), ATTR(conv, dilation, i), ATTR(conv, low, l),                  \
	      ATTR(conv, high, k), ATTR(conv, groups, g))
#define CONV        OPA(conv, CONV_ATTRS, ANY(x), CST(w))
#define CONV_BIAS   OPA(conv, CONV_ATTRS, ANY(x), CST(w), CST(b))
#define CONV_TAKES  OPA(conv, CONV_ATTRS, ANY(x), ANY(w), ANY(b))
#define CONV_SCALED OPA(conv, CONV_ATTRS, ANY(x), ANY(w))
#define BATCH_NORM                                                                                 \
	OPA(batch_norm, ATTRS(ATTR(batch_norm, eps, e)), ANY(x), CST(s), CST(t), CST(m), CST(v))
#define CONV_R                                                                                     \
	(&(const ml_pattern){.kind = ML_PAT_OP,                                                    \
			     .letter = ML_LET_r,                                                   \
			     .op = ML_OP_conv,                                                     \
			     .attr = CONV_ATTRS,                                                   \
			     .arg = {ANY(x), CST(w)}})
#define SHAPED(x) OPA(reshape, ATTRS(ATTR(reshape, shape, s)), x)

/* clang-format off */
static const ml_rule rules[] = {
	{"batch_norm_constants",        /* batch_norm(x)  =>  x c + d */
	 .lhs = BATCH_NORM, .rhs = OP(add, OP(mul, ANY(x), ANY(c)), ANY(d)), .when = affine_constants},
	{"conv_scale",                  /* conv(x, w) c  =>  conv(x, w c) */
	 .lhs = OP(mul, CONV, CST(c)), .rhs = CONV_SCALED, .when = takes_scale},
	{"conv_bias_scale",             /* conv(x, w, b) c  =>  conv(x, w c, b c) */
	 .lhs = OP(mul, CONV_BIAS, CST(c)), .rhs = CONV_TAKES, .when = takes_scale},
	{"conv_shift",                  /* conv(x, w) + c  =>  conv(x, w, c) */
	 .lhs = OP(add, CONV, CST(c)), .rhs = CONV_TAKES, .when = takes_shift},
	{"conv_bias_shift",             /* conv(x, w, b) + c  =>  conv(x, w, b + c) */
	 .lhs = OP(add, CONV_BIAS, CST(c)), .rhs = CONV_TAKES, .when = takes_shift},
	{"conv_reshape_shift",          /* reshape(conv(x, w)) + c  =>  reshape(conv(x, w, c)) */
	 .lhs = OP(add, SHAPED(CONV_R), CST(c)), .rhs = SHAPED(CONV_TAKES), .when = takes_shift_through_reshape},
};
/* clang-format on */

ML_RULE_PASS(fuse_conv, ML_ROUNDS, rules,
	     "scale, shift and batch_norm per channel go into the conv");
