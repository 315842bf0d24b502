/* fold_dequantize.c -- constants that no kernel reads as integers are dequantized at compile time.
 */
#include "scales.h"

enum { MOST = 1 << 24 /* elements */ };

static bool
is_small(ml_match *m)
{
	int64_t n;

	if (!ml_type_static_count(&m->root->out[0].type, &n) || n > MOST)
		return m->why = "it is large", false;
	ml_value *in[] = {GOT(m, w), GOT(m, s), GOT(m, z)};
	ml_node *copy = ml_begin(m->b, ML_OP_dequantize, in, 3);
	GOT(m, x) = copy ? ml_match_fold(m, ml_finish1(m->b, copy)) : NULL;
	return GOT(m, x) != NULL;
}

static const ml_rule rules[] = {
	{"dequantize_constant", .lhs = OP(dequantize, CST(w), CST(s), CST(z)), .rhs = ANY(x),
	 .when = is_small},
};

ML_RULE_PASS(fold_dequantize, ML_EXACT, rules, "constants without integer kernels as floats");
