/* fuse_attention.c -- recognises softmax(q k' scale + mask) v, whatever way heads were split. */
#include "../ir/expand.h"
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
	if (v->def && v->def->op == ML_OP_transpose) {
		for (int i = 0; i < 4; i++)
			perm[i] = ML_A(v->def, transpose, perm).ints[perm[i]];
		v = ml_in(v->def, 0);
	}
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

/* dot(p, v) with zeros in the rows of p that are no numbers, as those of queries that may see
 * nothing: such a row of the result is what zeros make of v, which is no number where v has one. */
static bool
is_guarded(ml_match *m)
{
	const ml_attr *batch = &GOT_ATTR(m, f), *contract = &GOT_ATTR(m, h);
	ml_value *v = GOT(m, v), *p = GOT(m, p);
	const int64_t keys = 2;

	if (!is_head_dot(p, v, &GOT_ATTR(m, e), batch, &GOT_ATTR(m, g), contract) ||
	    GOT_ATTR(m, i).i64 != 3 || GOT_ATTR(m, g).ints[0] != 3 || GOT_ATTR(m, e).ints[0] != 0 ||
	    GOT_ATTR(m, e).ints[1] != 1)
		return false;
	GOT(m, d) = ml_build_dot(m->b, p, v, GOT_ATTR(m, e).ints, batch->ints, 2,
				 GOT_ATTR(m, g).ints, contract->ints, 1);
	v = ml_op_number(m->b, ML_OP_mul, ordered(m, v, batch, contract, false), 0);
	GOT(m, z) = ml_build_reduce(m->b, ML_OP_reduce_sum, v, &keys, 1);
	return GOT(m, d) && GOT(m, z);
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

/* x as [b, g, t, d] when reshape(broadcast(x)) repeats each of its g heads; NULL otherwise. */
static ml_value *
before_repeats(ml_match *m, const ml_value *x, const ml_attr *repeated, const ml_attr *joined)
{
	const ml_dim *d = repeated->dims, *out = joined->dims;
	const ml_type *t = &x->type;

	if (t->rank != 5 || joined->count != 4 || !ml_dim_equals(t->dim[2], 1) ||
	    ml_dim_mul(m->b->m->dims, d[1], d[2]) != out[1])
		return NULL;
	for (int i = 0; i < 5; i++)
		if (i != 2 && (t->dim[i] != d[i] || (i != 1 && d[i] != out[i - (i > 2)])))
			return NULL;
	return ml_build_reshape(m->b, (ml_value *)x, (ml_dim[]){d[0], d[1], d[3], d[4]}, 4);
}

static bool
repeats_heads(ml_match *m)
{
	GOT(m, k) = before_repeats(m, GOT(m, k), &GOT_ATTR(m, a), &GOT_ATTR(m, b));
	GOT(m, v) = before_repeats(m, GOT(m, v), &GOT_ATTR(m, c), &GOT_ATTR(m, d));
	return GOT(m, k) && GOT(m, v) && GOT(m, k)->type.dim[1] == GOT(m, v)->type.dim[1];
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

static bool
scores_of_heads(ml_match *m)
{
	return is_head_dot(GOT(m, q), GOT(m, k), &GOT_ATTR(m, a), &GOT_ATTR(m, b), &GOT_ATTR(m, c),
			   &GOT_ATTR(m, d));
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
#define GUARDED_HEADS                                                                              \
	OPA(dot,                                                                                   \
	    ATTRS(ATTR(dot, lhs_batch, e), ATTR(dot, rhs_batch, f), ATTR(dot, lhs_contract, g),    \
		  ATTR(dot, rhs_contract, h)),                                                     \
	    OP(select, OP(isnan, PROBABILITIES(ANY(x))), NUM(0), ANY(p)), ANY(v))
#define SOFTMAX(x) OPA(softmax, ATTRS(ATTR(softmax, axis, i)), x)
#define REPEATED(s, t, x)                                                                          \
	OPA(reshape, ATTRS(ATTR(reshape, shape, s)),                                               \
	    OPA(broadcast, ATTRS(ATTR(broadcast, shape, t)), x))
#define REPEATED_HEADS   REPEATED(b, a, ANY(k)), REPEATED(d, c, ANY(v))
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

	{"guarded_softmax",             /* (p = softmax x is no number ? 0 : p) v  =>  p v is no number ? 0 v : p v */
	 .lhs = GUARDED_HEADS, .rhs = OP(select, OP(isnan, ANY(d)), ANY(z), ANY(d)), .when = is_guarded, .shared = true},
	{"softmax_two_masks",           /* softmax(q k' n + m + o)  =>  softmax(q k' n + (m + o)) */
	 .lhs = SOFTMAX(OP(add, OP(add, OP(mul, SCORES, CST(n)), ANY(m)), ANY(o))),
	 .rhs = SOFTMAX(OP(add, OP(mul, SCORES, CST(n)), OP(add, ANY(m), ANY(o)))), .when = scores_of_heads},

	{"attention_scale_mask",        /* softmax(q k' n + m) v */
	 .lhs = HEADS(OP(add, OP(mul, SCORES, CST(n)), ANY(m))), .rhs = MASKED_ATTENTION, .when = is_attention},
	{"attention_mask",              /* softmax(q k' + m) v */
	 .lhs = HEADS(OP(add, SCORES, ANY(m))), .rhs = MASKED_ATTENTION, .when = is_attention},
	{"attention_scale",             /* softmax(q k' n) v */
	 .lhs = HEADS(OP(mul, SCORES, CST(n))), .rhs = ATTENTION, .when = is_attention},
	{"attention_plain",             /* softmax(q k') v */
	 .lhs = HEADS(SCORES), .rhs = ATTENTION, .when = is_attention},

	{"attention_groups",            /* heads of keys and values that are repeated for several of queries */
	 .lhs = OPA(attention, ATTENTION_ATTRS, ANY(q), REPEATED_HEADS), .rhs = ATTENTION, .when = repeats_heads, .shared = true},
	{"attention_groups_mask",
	 .lhs = OPA(attention, ATTENTION_ATTRS, ANY(q), REPEATED_HEADS, ANY(m)), .rhs = MASKED_ATTENTION, .when = repeats_heads, .shared = true},
};
/* clang-format on */

ML_RULE_PASS(fuse_attention, ML_ROUNDS, rules, "scores, softmax and weighted sum become attention");
