/* fuse_attention.c -- recognises softmax(q k' scale + mask) v, whatever way heads were split. */
#include "rules.h"

/* A dot operand brought into the order batch, free, contracted (or contracted, free). */
static ml_value *
ordered(ml_match *m, ml_value *v, const ml_attr *batch, const ml_attr *contract, bool contract_last)
{
	int64_t perm[4], free_axis = 6 - batch->ints[0] - batch->ints[1] - contract->ints[0];
	bool identity = true;

	perm[0] = batch->ints[0];
	perm[1] = batch->ints[1];
	perm[2] = contract_last ? free_axis : contract->ints[0];
	perm[3] = contract_last ? contract->ints[0] : free_axis;
	for (int i = 0; i < 4; i++)
		identity &= perm[i] == i;
	return identity ? v : ml_build_transpose(m->b, v, perm);
}

static bool
is_head_dot(const ml_value *x, const ml_value *y, const ml_attr *a, const ml_attr *b,
	    const ml_attr *c, const ml_attr *d)
{
	return x->type.dtype == ML_f32 && x->type.rank == 4 && y->type.rank == 4 && a->count == 2 &&
	       b->count == 2 && c->count == 1 && d->count == 1;
}

/* The scale is one number. */
static bool
read_scale(ml_match *m)
{
	double scale = 1;

	if (GOT(m, n) && !ml_is_splat(GOT(m, n), &scale))
		return m->why = "the scale is no single number", false;
	GOT_ATTR(m, s).f64 = scale;
	return true;
}

static bool
is_attention(ml_match *m)
{
	ml_value *q = GOT(m, q), *k = GOT(m, k), *v = GOT(m, v), *p = GOT(m, p);

	if (!is_head_dot(q, k, &GOT_ATTR(m, a), &GOT_ATTR(m, b), &GOT_ATTR(m, c),
			 &GOT_ATTR(m, d)) ||
	    !is_head_dot(p, v, &GOT_ATTR(m, e), &GOT_ATTR(m, f), &GOT_ATTR(m, g), &GOT_ATTR(m, h)))
		return false;
	if (GOT_ATTR(m, i).i64 != 3 || GOT_ATTR(m, g).ints[0] != 3 || GOT_ATTR(m, e).ints[0] != 0 ||
	    GOT_ATTR(m, e).ints[1] != 1 || !read_scale(m))
		return false;
	GOT(m, q) = ordered(m, q, &GOT_ATTR(m, a), &GOT_ATTR(m, c), true);
	GOT(m, k) = ordered(m, k, &GOT_ATTR(m, b), &GOT_ATTR(m, d), true);
	GOT(m, v) = ordered(m, v, &GOT_ATTR(m, f), &GOT_ATTR(m, h), false);
	GOT_ATTR(m, z).i64 = 0;
	return GOT(m, q) && GOT(m, k) && GOT(m, v);
}

/* Where the mask is false the scores are as good as -inf. */
static bool
hides_scores(ml_match *m)
{
	double hidden;

	if (!ml_is_splat(GOT(m, n), &hidden) || hidden > -1e9)
		return m->why = "the value of hidden scores is not large enough", false;
	return true;
}

/* Only products of heads: elsewhere the scale belongs to what it stands behind. */
static bool
scales_head(ml_match *m)
{
	return GOT(m, n)->type.rank == 0 && m->root->out[0].type.rank == 4;
}

static bool
scales_twice(ml_match *m)
{
	if (GOT(m, m)->type.rank != 0 || !scales_head(m))
		return false;
	GOT(m, n) = ml_match_fold(m, ml_op2(m->b, ML_OP_mul, GOT(m, m), GOT(m, n)));
	return GOT(m, n) != NULL;
}

static bool
scales_head_dot(ml_match *m)
{
	return GOT(m, n)->type.rank == 0 &&
	       is_head_dot(ml_in(m->root, 0), ml_in(m->root, 1), &GOT_ATTR(m, a), &GOT_ATTR(m, b),
			   &GOT_ATTR(m, c), &GOT_ATTR(m, d));
}

#define SCORES_OF(x, y)                                                                            \
	OPA(dot,                                                                                   \
	    ATTRS(ATTR(dot, lhs_batch, a), ATTR(dot, rhs_batch, b), ATTR(dot, lhs_contract, c),    \
		  ATTR(dot, rhs_contract, d)),                                                     \
	    x, y)
#define SCORES        SCORES_OF(ANY(q), ANY(k))
#define TRANSPOSED(x) OPA(transpose, ATTRS(ATTR(transpose, perm, p)), x)
#define PROBABILITIES(scores)                                                                      \
	(&(const ml_pattern){.kind = ML_PAT_OP,                                                    \
			     .letter = ML_LET_p,                                                   \
			     .op = ML_OP_softmax,                                                  \
			     .attr = {ATTR(softmax, axis, i)},                                     \
			     .arg = {scores}})
#define HEADS(scores)                                                                              \
	OPA(dot,                                                                                   \
	    ATTRS(ATTR(dot, lhs_batch, e), ATTR(dot, rhs_batch, f), ATTR(dot, lhs_contract, g),    \
		  ATTR(dot, rhs_contract, h)),                                                     \
	    PROBABILITIES(scores), ANY(v))
#define SOFTMAX(x)       OPA(softmax, ATTRS(ATTR(softmax, axis, i)), x)
#define ATTENTION_ATTRS  ATTRS(ATTR(attention, scale, s), ATTR(attention, causal, z))
#define ATTENTION        OPA(attention, ATTENTION_ATTRS, ANY(q), ANY(k), ANY(v))
#define MASKED_ATTENTION OPA(attention, ATTENTION_ATTRS, ANY(q), ANY(k), ANY(v), ANY(m))

/* clang-format off */
static const ml_rule rules[] = {
	{"scaled_heads",                /* transpose(x n)  =>  transpose(x) n */
	 .lhs = TRANSPOSED(OP(mul, ANY(x), CST(n))), .rhs = OP(mul, TRANSPOSED(ANY(x)), CST(n)), .when = scales_head},
	{"scaled_queries",              /* (q n) k'  =>  (q k') n */
	 .lhs = SCORES_OF(OP(mul, ANY(q), CST(n)), ANY(k)), .rhs = OP(mul, SCORES, CST(n)), .when = scales_head_dot},
	{"scaled_keys",                 /* q (k n)'  =>  (q k') n */
	 .lhs = SCORES_OF(ANY(q), OP(mul, ANY(k), CST(n))), .rhs = OP(mul, SCORES, CST(n)), .when = scales_head_dot},
	{"scaled_twice",                /* (x m) n  =>  x (m n) */
	 .lhs = OP(mul, OP(mul, ANY(x), CST(m)), CST(n)), .rhs = OP(mul, ANY(x), CST(n)), .when = scales_twice},

	{"softmax_where",               /* softmax(c ? x : -inf)  =>  softmax(x + (c ? 0 : -inf)) */
	 .lhs = SOFTMAX(OP(select, ANY(c), ANY(x), CST(n))), .rhs = SOFTMAX(OP(add, ANY(x), OP(select, ANY(c), NUM(0), CST(n)))), .when = hides_scores},
	{"softmax_where_not",           /* softmax(c ? -inf : x)  =>  softmax(x + (c ? -inf : 0)) */
	 .lhs = SOFTMAX(OP(select, ANY(c), CST(n), ANY(x))), .rhs = SOFTMAX(OP(add, ANY(x), OP(select, ANY(c), CST(n), NUM(0)))), .when = hides_scores},

	{"attention_scale_mask",        /* softmax(q k' n + m) v */
	 .lhs = HEADS(OP(add, OP(mul, SCORES, CST(n)), ANY(m))), .rhs = MASKED_ATTENTION, .when = is_attention},
	{"attention_mask",              /* softmax(q k' + m) v */
	 .lhs = HEADS(OP(add, SCORES, ANY(m))), .rhs = MASKED_ATTENTION, .when = is_attention},
	{"attention_scale",             /* softmax(q k' n) v */
	 .lhs = HEADS(OP(mul, SCORES, CST(n))), .rhs = ATTENTION, .when = is_attention},
	{"attention_plain",             /* softmax(q k') v */
	 .lhs = HEADS(SCORES), .rhs = ATTENTION, .when = is_attention},
};
/* clang-format on */

ML_RULE_PASS(fuse_attention, ML_ROUNDS, rules, "scores, softmax and weighted sum become attention");
