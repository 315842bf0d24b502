/* fuse_batch_norm.c -- batch_norm is a scale and a shift per channel: fold it into the conv before.
 */
#include "rules.h"
#include <math.h>

/* c = scale / sqrt(var + eps), d = bias - mean c, as constants of C elements. */
static bool
affine_constants(ml_match *m, ml_value **scale, ml_value **shift)
{
	ml_builder *b = m->b;
	ml_value *eps = ml_build_f64(b, ML_f32, GOT_ATTR(m, e).f64);
	ml_value *deviation = ml_op1(b, ML_OP_sqrt, ml_op2(b, ML_OP_add, GOT(m, v), eps));

	*scale = ml_op2(b, ML_OP_div, GOT(m, s), deviation);
	*shift = ml_op2(b, ML_OP_sub, GOT(m, t), ml_op2(b, ML_OP_mul, GOT(m, m), *scale));
	return *shift != NULL;
}

/* w' = w c, bias' = bias c + d along the output channels. */
static bool
fold_into_conv(ml_match *m)
{
	ml_value *scale, *shift, *w = GOT(m, w);
	ml_dim shape[ML_MAX_RANK];

	if (w->type.dtype != ML_f32 || !affine_constants(m, &scale, &shift))
		return false;
	for (int i = 0; i < w->type.rank; i++)
		shape[i] = i == 0 ? w->type.dim[0] : ml_dim_int(m->b->m->dims, 1);
	ml_value *per_filter = ml_build_reshape(m->b, scale, shape, w->type.rank);
	GOT(m, w) = ml_op2(m->b, ML_OP_mul, w, per_filter);
	GOT(m, b) = GOT(m, b) ? ml_op2(m->b, ML_OP_add, ml_op2(m->b, ML_OP_mul, GOT(m, b), scale),
				       shift)
			      : shift;
	return GOT(m, w) && GOT(m, b);
}

#define CONV_ATTRS                                                                                 \
	ATTRS(ATTR(conv, stride, h), ATTR(conv, dilation, i), ATTR(conv, low, l),                  \
	      ATTR(conv, high, k), ATTR(conv, groups, g))
#define BATCH_NORM(x)                                                                              \
	OPA(batch_norm, ATTRS(ATTR(batch_norm, eps, e)), x, CST(s), CST(t), CST(m), CST(v))
#define FOLDED OPA(conv, CONV_ATTRS, ANY(x), ANY(w), ANY(b))

/* clang-format off */
static const ml_rule rules[] = {
	{"conv_batch_norm",             /* bn(conv(x, w))  =>  conv(x, w c, d) */
	 .lhs = BATCH_NORM(OPA(conv, CONV_ATTRS, ANY(x), CST(w))),
	 .rhs = FOLDED, .when = fold_into_conv},
	{"conv_bias_batch_norm",        /* bn(conv(x, w, b))  =>  conv(x, w c, b c + d) */
	 .lhs = BATCH_NORM(OPA(conv, CONV_ATTRS, ANY(x), CST(w), CST(b))),
	 .rhs = FOLDED, .when = fold_into_conv},
};
/* clang-format on */

ML_RULE_PASS(fuse_batch_norm, ML_ROUNDS, rules, "fold batch_norm into the conv before it");
