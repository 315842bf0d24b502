/* fuse_linear.c -- gives quantization and code generation whole layers instead of scraps. */
#include "rules.h"

/* x[.., k] . w[k, n] without batch axes, in f32. */
static bool
is_plain_matmul(ml_match *m)
{
	const ml_node *dot = m->root;
	const ml_value *x = ml_in(dot, 0), *w = ml_in(dot, 1);

	return x->type.dtype == ML_f32 && w->type.rank == 2 && x->type.rank >= 1 &&
	       ML_A(dot, dot, lhs_batch).count == 0 && ML_A(dot, dot, rhs_batch).count == 0 &&
	       ML_A(dot, dot, lhs_contract).count == 1 && ML_A(dot, dot, rhs_contract).count == 1 &&
	       ML_A(dot, dot, lhs_contract).ints[0] == x->type.rank - 1 &&
	       ML_A(dot, dot, rhs_contract).ints[0] == 0;
}

/* A bias runs along the last dim only; anything else is a real broadcast. */
static bool
bias_spans_last_dim(ml_match *m)
{
	ml_value *b = GOT(m, b);
	ml_dim n = GOT(m, w)->type.dim[1];

	if (b->type.rank == 0 || b->type.dim[b->type.rank - 1] != n ||
	    ml_type_count(m->b->m->dims, &b->type) != n)
		return m->why = "the added constant is no bias along the last dim", false;
	if (b->type.rank > 1)
		GOT(m, b) = ml_match_fold(m, ml_build_reshape(m->b, b, &n, 1));
	return GOT(m, b) != NULL;
}

#define LINEAR      OP(linear, ANY(x), CST(w))
#define LINEAR_BIAS OP(linear, ANY(x), CST(w), CST(b))

/* clang-format off */
static const ml_rule rules[] = {
	{"linear_matmul",               /* x . W  =>  linear(x, W) */
	 .lhs = OP(dot, ANY(x), CST(w)),
	 .rhs = LINEAR,
	 .when = is_plain_matmul},

	{"linear_bias",                 /* linear(x, W) + b  =>  linear(x, W, b) */
	 .lhs = OP(add, LINEAR, CST(b)), .rhs = LINEAR_BIAS,
	 .when = bias_spans_last_dim},
};
/* clang-format on */

ML_RULE_PASS(fuse_linear, ML_EXACT, rules, "MatMul and Gemm with their bias become linear");
