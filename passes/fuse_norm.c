/* fuse_norm.c -- recognises normalisations that exporters spell out. */
#include "rules.h"
#include <math.h>

/* Reductions must run over the same trailing axes of x; eps becomes an attribute. */
static bool
read_norm(ml_match *m, const ml_attr *axes, ml_value *x, ml_value *eps)
{
	double e;
	int rank = x->type.rank;

	for (int i = 0; i < axes->count; i++)
		if (axes->ints[i] != rank - axes->count + i)
			return m->why = "the mean is not over trailing axes", false;
	if (!ml_is_splat(eps, &e))
		return false;
	GOT_ATTR(m, e).f64 = e;
	GOT_ATTR(m, i).i64 = rank - axes->count;
	return true;
}

static bool
same_axes(const ml_attr *a, const ml_attr *b)
{
	if (a->count != b->count)
		return false;
	for (int i = 0; i < a->count; i++)
		if (a->ints[i] != b->ints[i])
			return false;
	return true;
}

/* Scale and bias span exactly the normalised dims. */
static bool
spans_row(const ml_value *v, const ml_value *x, int64_t axis)
{
	if (v->type.rank != x->type.rank - axis)
		return false;
	for (int i = 0; i < v->type.rank; i++)
		if (v->type.dim[i] != x->type.dim[axis + i])
			return false;
	return true;
}

static bool
bias_spans_row(ml_match *m)
{
	return spans_row(GOT(m, b), GOT(m, x), GOT_ATTR(m, i).i64);
}

/* The mean is over the row that rms_norm normalises. */
static bool
centres_row(ml_match *m)
{
	const ml_attr *axes = &GOT_ATTR(m, a);
	int rank = GOT(m, x)->type.rank;

	for (int i = 0; i < axes->count; i++)
		if (axes->ints[i] != rank - axes->count + i)
			return m->why = "the mean is not over trailing axes", false;
	return GOT_ATTR(m, i).i64 == rank - axes->count;
}

static bool
is_affine_layer_norm(ml_match *m)
{
	return same_axes(&GOT_ATTR(m, a), &GOT_ATTR(m, f)) &&
	       same_axes(&GOT_ATTR(m, a), &GOT_ATTR(m, j)) &&
	       read_norm(m, &GOT_ATTR(m, a), GOT(m, x), GOT(m, e)) &&
	       spans_row(GOT(m, g), GOT(m, x), GOT_ATTR(m, i).i64) && bias_spans_row(m);
}

static bool
is_rms_norm(ml_match *m)
{
	return read_norm(m, &GOT_ATTR(m, a), GOT(m, x), GOT(m, e)) &&
	       spans_row(GOT(m, g), GOT(m, x), GOT_ATTR(m, i).i64);
}

static bool
is_softmax(ml_match *m)
{
	if (!same_axes(&GOT_ATTR(m, a), &GOT_ATTR(m, f)) || GOT_ATTR(m, a).count != 1)
		return false;
	GOT_ATTR(m, i).i64 = GOT_ATTR(m, a).ints[0];
	return true;
}

static bool
is_plain_softmax(ml_match *m)
{
	GOT_ATTR(m, f) = GOT_ATTR(m, a);
	return is_softmax(m);
}

#define MEAN(v, x)       OPA(reduce_mean, ATTRS(ATTR(reduce_mean, axes, v)), x)
#define LAYER_NORM_ATTRS ATTRS(ATTR(layer_norm, axis, i), ATTR(layer_norm, eps, e))
#define LAYER_NORM       OPA(layer_norm, LAYER_NORM_ATTRS, ANY(x), ANY(g))
#define LAYER_NORM_BIAS  OPA(layer_norm, LAYER_NORM_ATTRS, ANY(x), ANY(g), ANY(b))
#define RMS              OP(sqrt, OP(add, MEAN(a, OP(mul, ANY(x), ANY(x))), CST(e)))
#define RMS_NORM_OF                                                                                \
	OPA(rms_norm, ATTRS(ATTR(rms_norm, axis, i), ATTR(rms_norm, eps, e)), ANY(x), ANY(g))
#define SUM(v, x) OPA(reduce_sum, ATTRS(ATTR(reduce_sum, axes, v)), x)

/* clang-format off */
static const ml_rule rules[] = {
	{"rms_norm_div",                /* x / sqrt(mean(x x) + eps) * g */
	 .lhs = OP(mul, OP(div, ANY(x), RMS), ANY(g)),
	 .rhs = RMS_NORM_OF, .when = is_rms_norm},

	{"rms_norm_reciprocal",         /* x * (1 / sqrt(mean(x x) + eps)) * g */
	 .lhs = OP(mul, OP(mul, ANY(x), OP(div, NUM(1), RMS)), ANY(g)),
	 .rhs = RMS_NORM_OF, .when = is_rms_norm},

	{"layer_norm_centred",          /* rms_norm(x - mean, g)  =>  layer_norm(x, g) */
	 .lhs = OPA(rms_norm, ATTRS(ATTR(rms_norm, axis, i), ATTR(rms_norm, eps, e)), OP(sub, ANY(x), MEAN(a, ANY(x))), ANY(g)),
	 .rhs = LAYER_NORM, .when = centres_row},

	{"layer_norm_bias",             /* layer_norm(x, g) + b  =>  layer_norm(x, g, b) */
	 .lhs = OP(add, LAYER_NORM, ANY(b)), .rhs = LAYER_NORM_BIAS, .when = bias_spans_row},

	{"layer_norm_affine",           /* x c + (b - mean c), c = (1 / sqrt(var + eps)) g */
	 .lhs = OP(add, OP(mul, ANY(x), AS(c, mul, OP(div, NUM(1), OP(sqrt, OP(add, MEAN(f, OP(mul, AS(d, sub, ANY(x), MEAN(a, ANY(x))), ANY(d))), CST(e)))), ANY(g))),
		   OP(sub, ANY(b), OP(mul, MEAN(j, ANY(x)), ANY(c)))),
	 .rhs = LAYER_NORM_BIAS, .when = is_affine_layer_norm},

	{"softmax_stable",              /* exp(x - max) / sum(exp(x - max)) */
	 .lhs = OP(div, AS(d, exp, OP(sub, ANY(x), OPA(reduce_max, ATTRS(ATTR(reduce_max, axes, a)), ANY(x)))), SUM(f, ANY(d))),
	 .rhs = OPA(softmax, ATTRS(ATTR(softmax, axis, i)), ANY(x)), .when = is_softmax},

	{"softmax_plain",               /* exp(x) / sum(exp(x)) */
	 .lhs = OP(div, AS(d, exp, ANY(x)), SUM(a, ANY(d))),
	 .rhs = OPA(softmax, ATTRS(ATTR(softmax, axis, i)), ANY(x)), .when = is_plain_softmax},
};
/* clang-format on */

ML_RULE_PASS(fuse_norm, ML_ROUNDS, rules, "spelled-out layer_norm, rms_norm and softmax");
