/* fuse_integers.c -- layers of quantized activations and weights become sums of integers.
 *
 *   sum (q - z) s . w t + b  =>  (sum q . w + c) s t,  c = round(b / (s t)) - z sum w
 *
 * q is u8, w is s8, the sum s32 and exact; c is a constant per channel.  Pads hold the zero point.
 * Weights less their zero point o may not fit s8: then w is the element less 128, and from the sum
 * goes (o - 128) sum q.
 * What becomes of the sum is arithmetic of floats: an activation, a residual, and the next
 * quantization, whose scale goes into the factors (fuse_requantize).
 */
#include "scales.h"
#include <math.h>
#include <string.h>

enum {
	LONGEST = 32000, /* inner size: 255 * 128 * k and a bias fit s32 */
	LARGEST_BIAS = 1 << 30,
	LONGEST_SHIFTED = LONGEST / 2, /* the same for 255 * 255 * k */
	SHIFT = 128,                   /* between u8 and s8 */
};

/* ---- constants per channel ---- */

/* Weights with one scale for each index of `axis`. */
typedef struct channels {
	ml_value *w;
	int axis;
	int64_t elements, count, inner; /* count: of channels; inner: elements between neighbours */
	ml_type type;                   /* of what goes with the result, dtype open */
} channels;

static bool
find_channels(ml_match *m, int axis, int trailing, channels *c)
{
	ml_value *w = GOT(m, w);

	*c = (channels){.w = w, .axis = axis, .inner = 1};
	if (!ml_type_static_count(&w->type, &c->elements) ||
	    !ml_dim_is_int(w->type.dim[axis], &c->count) || !c->elements)
		return false;
	for (int i = axis + 1; i < w->type.rank; i++) {
		int64_t size;
		ml_dim_is_int(w->type.dim[i], &size);
		c->inner *= size;
	}
	c->type.rank = 1 + trailing;
	for (int i = 0; i <= trailing; i++)
		c->type.dim[i] = i ? ml_dim_int(m->b->m->dims, 1) : w->type.dim[axis];
	return c->elements / c->count <= LONGEST ? true
						 : (m->why = "its sums may leave 32 bits", false);
}

/* v has one number, or one for each channel. */
static bool
goes_by_channel(const channels *c, const ml_value *v)
{
	int at = v->type.rank - c->w->type.rank + c->axis;
	int64_t n, along;

	if (!ml_is_const(v) || !ml_type_static_count(&v->type, &n))
		return false;
	return n == 1 ||
	       (n == c->count && at >= 0 && ml_dim_is_int(v->type.dim[at], &along) && along == n);
}

static int64_t
index_of(const channels *c, const ml_value *v, int64_t element)
{
	return ml_dim_equals(ml_type_count(c->w->def->block->module->dims, &v->type), 1)
		       ? 0
		       : element / c->inner % c->count;
}

static ml_value *
constant(ml_match *m, const channels *c, ml_dtype dtype, void **bytes)
{
	ml_type t = c->type;
	ml_blob *blob = ml_blob_new(&m->px->cx->memory, (uint64_t)c->count * 4, bytes);

	t.dtype = dtype;
	return ml_build_const(m->b, &t, blob);
}

/* w - zero as s8, w itself where that is what it is. */
static ml_value *
signed_weights(ml_match *m, const channels *c, const ml_value *zero)
{
	ml_type t = c->w->type;
	double number;
	void *bytes;

	if (t.dtype == ML_s8 && ml_is_splat(zero, &number) && number == 0)
		return c->w;
	ml_blob *blob = ml_blob_new(&m->px->cx->memory, (uint64_t)c->elements, &bytes);
	t.dtype = ML_s8;
	for (int64_t i = 0; i < c->elements; i++) {
		int64_t w = ml_const_s64(c->w, i) - ml_const_s64(zero, index_of(c, zero, i));
		((int8_t *)bytes)[i] = (int8_t)w;
		if (w != (int8_t)w) {
			ml_blob_drop(blob);
			return m->why = "the weights do not fit s8", NULL;
		}
	}
	return ml_build_const(m->b, &t, blob);
}

/* Weights of u8 less 128, where some of them less their zero point are beyond s8. */
static ml_value *
shifted_weights(ml_match *m, const channels *c, const ml_value *zero)
{
	ml_type t = c->w->type;
	bool fit = true;
	void *bytes;

	if (t.dtype != ML_u8 || c->elements / c->count > LONGEST_SHIFTED)
		return NULL;
	ml_blob *blob = ml_blob_new(&m->px->cx->memory, (uint64_t)c->elements, &bytes);
	t.dtype = ML_s8;
	for (int64_t i = 0; i < c->elements; i++) {
		int64_t w = ml_const_s64(c->w, i),
			less = w - ml_const_s64(zero, index_of(c, zero, i));
		((int8_t *)bytes)[i] = (int8_t)(w - SHIFT);
		fit &= less == (int8_t)less;
	}
	if (!fit)
		return ml_build_const(m->b, &t, blob);
	ml_blob_drop(blob);
	return NULL;
}

/* zero - 128, where it is one number, or for each channel */
static ml_value *
shifted_zeros(ml_match *m, const channels *c, const ml_value *zero)
{
	void *bytes;
	ml_value *v = constant(m, c, ML_s32, &bytes);

	for (int64_t i = 0; i < c->count; i++)
		((int32_t *)bytes)[i] =
			(int32_t)ml_const_s64(zero, index_of(c, zero, i * c->inner)) - SHIFT;
	return v;
}

/* - zero sum w */
static ml_value *
correction(ml_match *m, const channels *c, const ml_value *w, int64_t zero)
{
	void *bytes;
	ml_value *v = constant(m, c, ML_s32, &bytes);
	int32_t *sum = bytes;

	memset(sum, 0, (size_t)c->count * sizeof *sum);
	for (int64_t i = 0; i < c->elements; i++)
		sum[i / c->inner % c->count] -= (int32_t)(zero * ml_const_s64(w, i));
	return v;
}

static ml_value *
factors(ml_match *m, const channels *c, double s, const ml_value *t)
{
	void *bytes;
	ml_value *v = constant(m, c, ML_f32, &bytes);
	int64_t per = c->inner;

	for (int64_t i = 0; i < c->count; i++)
		((float *)bytes)[i] = (float)(s * ml_const_f64(t, index_of(c, t, i * per)));
	return ml_is_scale(v) ? v : (m->why = "scales are out of range", NULL);
}

/* Letters: q, s, z the activation; w, t, o the weights.  Then w is s8, c what is added to the sum,
 * f its factor; where weights are shifted, o what sums of q are multiplied with. */
static bool
has_integers(ml_match *m, int axis, int trailing, bool shifted)
{
	const ml_value *w = GOT(m, w), *t = GOT(m, t), *o = GOT(m, o);
	channels c;

	if (!ml_is_per_tensor(GOT(m, s), GOT(m, z)) || GOT(m, q)->type.dtype != ML_u8)
		return m->why = "the activations are not u8 with one scale", false;
	if (!ml_is_const(w) || !ml_is_integer(w->type.dtype) || ml_dtype_bytes(w->type.dtype) != 1)
		return m->why = "the weights are no constant of 8 bits", false;
	if (!find_channels(m, axis, trailing, &c))
		return false;
	if (!goes_by_channel(&c, t) || !goes_by_channel(&c, o) || !ml_is_scale(t))
		return m->why = "the weights have no scale per output channel", false;
	GOT(m, w) = shifted ? shifted_weights(m, &c, o) : signed_weights(m, &c, o);
	if (!GOT(m, w))
		return false;
	GOT(m, c) = correction(m, &c, GOT(m, w), ml_zero_of(GOT(m, z)));
	if (shifted) { /* and z (o - 128) k */
		ml_value *rest = GOT(m, o) = shifted_zeros(m, &c, o);
		int64_t each = ml_zero_of(GOT(m, z)) * (c.elements / c.count);
		rest = ml_op2(m->b, ML_OP_mul, rest, ml_build_f64(m->b, ML_s32, (double)each));
		rest = ml_match_fold(m, rest);
		GOT(m, c) = ml_match_fold(m, ml_op2(m->b, ML_OP_add, GOT(m, c), rest));
	}
	GOT(m, f) = factors(m, &c, ml_const_f64(GOT(m, s), 0), t);
	return GOT(m, f) != NULL && GOT(m, c) != NULL;
}

/* ---- the layers ---- */

static ml_attr
list_of(ml_match *m, int64_t number)
{
	int64_t *ints = ML_NEW_ARRAY(&m->b->m->arena, int64_t, 1);

	*ints = number;
	return (ml_attr){.ints = ints, .count = 1};
}

static bool
linear(ml_match *m, bool shifted)
{
	GOT_ATTR(m, i) = list_of(m, GOT(m, q)->type.rank - 1);
	GOT_ATTR(m, j) = list_of(m, 0);
	return has_integers(m, 1, 0, shifted);
}

static bool
is_integer_linear(ml_match *m)
{
	return linear(m, false);
}

static bool
product(ml_match *m, bool shifted)
{
	const ml_attr *contract = &GOT_ATTR(m, j);

	return GOT_ATTR(m, a).count == 0 && GOT(m, w)->type.rank == 2 && contract->count == 1 &&
	       has_integers(m, contract->ints[0] == 0, 0, shifted);
}

static bool
is_integer_product(ml_match *m)
{
	return product(m, false);
}

/* r: what the zero points of shifted weights take from sums, (o - 128) times sums over the last
 * dim.  The product contracts that of q. */
static bool
takes_sums(ml_match *m)
{
	int64_t last = GOT(m, q)->type.rank - 1;

	if (GOT_ATTR(m, i).count != 1 || GOT_ATTR(m, i).ints[0] != last)
		return false;
	ml_value *sum = ml_build_cast(m->b, GOT(m, q), ML_s32);
	sum = sum ? ml_build_reduce(m->b, ML_OP_reduce_sum, sum, &last, 1) : NULL;
	GOT(m, r) = sum ? ml_op2(m->b, ML_OP_mul, sum, GOT(m, o)) : NULL;
	return GOT(m, r) != NULL;
}

static bool
is_shifted_linear(ml_match *m)
{
	return linear(m, true) && takes_sums(m);
}

static bool
is_shifted_product(ml_match *m)
{
	return product(m, true) && takes_sums(m);
}

/* q with pads of its zero point, in all dims. */
static ml_value *
padded(ml_match *m, const ml_attr *low, const ml_attr *high)
{
	ml_dim before[ML_MAX_RANK], after[ML_MAX_RANK], none = ml_dim_int(m->b->m->dims, 0);
	int64_t interior[ML_MAX_RANK] = {0};
	ml_value *q = GOT(m, q);
	bool pads = false;

	for (int i = 0; i < low->count + 2; i++) {
		before[i] = i < 2 ? none : low->dims[i - 2];
		after[i] = i < 2 ? none : high->dims[i - 2];
		pads |= before[i] != none || after[i] != none;
	}
	if (!pads)
		return q;
	return ml_build_pad(m->b, q, ml_build_zero(m->b, ML_u8, ml_zero_of(GOT(m, z))), before,
			    after, interior);
}

static bool
conv(ml_match *m, bool shifted)
{
	int k = GOT_ATTR(m, l).count;
	int64_t zero = ml_zero_of(GOT(m, z));
	ml_dim *none = ML_NEW_ARRAY(&m->b->m->arena, ml_dim, k);

	if (zero < 0 || zero > UINT8_MAX)
		return m->why = "the zero point is no element", false;
	if (!has_integers(m, 0, k, shifted))
		return false;
	GOT(m, p) = padded(m, &GOT_ATTR(m, l), &GOT_ATTR(m, k));
	for (int i = 0; i < k; i++)
		none[i] = ml_dim_int(m->b->m->dims, 0);
	GOT_ATTR(m, l) = GOT_ATTR(m, k) = (ml_attr){.dims = none, .count = k};
	return GOT(m, p) != NULL;
}

static bool
is_integer_conv(ml_match *m)
{
	return conv(m, false);
}

/* r as above, by windows of all channels. */
static bool
is_shifted_conv(ml_match *m)
{
	ml_dim shape[ML_MAX_RANK];

	if (GOT_ATTR(m, g).i64 != 1 || !conv(m, true))
		return m->why = "weights of groups do not fit s8", false;
	const ml_type *w = &GOT(m, w)->type;
	memcpy(shape, w->dim, (size_t)w->rank * sizeof *shape);
	shape[0] = ml_dim_int(m->b->m->dims, 1);
	ml_value *ones = ml_build_broadcast(m->b, ml_build_f64(m->b, ML_s8, 1), shape, w->rank);
	ml_value *in[] = {GOT(m, p), ones ? ml_match_fold(m, ones) : NULL};
	ml_node *n = in[1] ? ml_begin(m->b, ML_OP_conv, in, 2) : NULL;
	if (!n)
		return false;
	ML_A(n, conv, stride) = GOT_ATTR(m, h);
	ML_A(n, conv, dilation) = GOT_ATTR(m, i);
	ML_A(n, conv, low) = GOT_ATTR(m, l);
	ML_A(n, conv, high) = GOT_ATTR(m, k);
	ml_value *sum = ml_finish1(m->b, n);
	GOT(m, r) = sum ? ml_op2(m->b, ML_OP_mul, sum, GOT(m, o)) : NULL;
	return GOT(m, r) != NULL;
}

static bool
bias_by_channel(ml_match *m)
{
	ml_value *b = GOT(m, b);
	ml_dim shape[ML_MAX_RANK] = {b->type.dim[0]};
	int k = GOT_ATTR(m, l).count;

	for (int i = 1; i <= k; i++)
		shape[i] = ml_dim_int(m->b->m->dims, 1);
	GOT(m, b) = ml_match_fold(m, ml_build_reshape(m->b, b, shape, k + 1));
	return GOT(m, b) != NULL;
}

static bool
is_integer_conv_with_bias(ml_match *m)
{
	return bias_by_channel(m) && is_integer_conv(m);
}

static bool
is_shifted_conv_with_bias(ml_match *m)
{
	return bias_by_channel(m) && is_shifted_conv(m);
}

/* ---- what is added to sums ---- */

static int64_t
elements(const ml_value *v)
{
	int64_t n;

	return ml_type_static_count(&v->type, &n) ? n : INT64_MAX;
}

/* round(b / f), where it fits beside the sum. */
static bool
fits_into_sum(ml_match *m)
{
	ml_value *f = GOT(m, f), *b = GOT(m, b);

	if (GOT(m, x)->type.dtype != ML_s32 || !ml_is_scale(f) || elements(b) > elements(f))
		return false;
	ml_value *c = ml_match_fold(m, ml_op2(m->b, ML_OP_div, b, f));
	c = ml_match_fold(m, ml_op1(m->b, ML_OP_round, c));
	for (int64_t i = 0; c && i < elements(c); i++)
		if (!(fabs(ml_const_f64(c, i)) <= LARGEST_BIAS))
			return m->why = "the bias does not fit the sum", false;
	GOT(m, c) = c ? ml_match_fold(m, ml_build_cast(m->b, c, ML_s32)) : NULL;
	return GOT(m, c) != NULL;
}

static bool
is_sum_of_both(ml_match *m)
{
	ml_value *a = GOT(m, a), *c = GOT(m, c);

	if (a->type.dtype != ML_s32 || elements(a) != elements(c))
		return false;
	GOT(m, c) = ml_match_fold(m, ml_op2(m->b, ML_OP_add, a, c));
	return GOT(m, c) != NULL;
}

static bool
is_integer(ml_match *m)
{
	return ml_type_equal(&GOT(m, x)->type, &m->root->out[0].type) &&
	       GOT(m, x)->type.dtype == ML_s32;
}

#define DOT_AXES                                                                                   \
	ATTRS(ATTR(dot, lhs_batch, a), ATTR(dot, rhs_batch, b), ATTR(dot, lhs_contract, i),        \
	      ATTR(dot, rhs_contract, j))
#define LAST_AXES ATTRS(ATTR(dot, lhs_contract, i), ATTR(dot, rhs_contract, j))
#define CONV_ATTRS                                                                                 \
	ATTRS(ATTR(conv, stride, h), ATTR(conv, dilation, i), ATTR(conv, low, l),                  \
	      ATTR(conv, high, k), ATTR(conv, groups, g))
#define DATA    ML_DEQUANTIZE(ANY(q))
#define WEIGHTS OP(dequantize, CST(w), CST(t), CST(o))
#define LESS(x) OP(sub, x, ANY(r))
#define SUM(x)  OP(mul, OP(cast, OP(add, x, CST(c))), CST(f))

/* clang-format off */
static const ml_rule rules[] = {
	{"integer_dot",         .lhs = OPA(dot, DOT_AXES, DATA, WEIGHTS), .rhs = SUM(OPA(dot, DOT_AXES, ANY(q), CST(w))),
	 .when = is_integer_product, .shared = true},
	{"integer_linear",      .lhs = OP(linear, DATA, WEIGHTS), .rhs = SUM(OPA(dot, LAST_AXES, ANY(q), CST(w))),
	 .when = is_integer_linear, .shared = true},
	{"integer_linear_bias", .lhs = OP(linear, DATA, WEIGHTS, CST(b)), .rhs = OP(add, SUM(OPA(dot, LAST_AXES, ANY(q), CST(w))), CST(b)),
	 .when = is_integer_linear, .shared = true},
	{"integer_conv",        .lhs = OPA(conv, CONV_ATTRS, DATA, WEIGHTS), .rhs = SUM(OPA(conv, CONV_ATTRS, ANY(p), CST(w))),
	 .when = is_integer_conv, .shared = true},
	{"integer_conv_bias",   .lhs = OPA(conv, CONV_ATTRS, DATA, WEIGHTS, CST(b)), .rhs = OP(add, SUM(OPA(conv, CONV_ATTRS, ANY(p), CST(w))), CST(b)),
	 .when = is_integer_conv_with_bias, .shared = true},
	{"shifted_dot",         .lhs = OPA(dot, DOT_AXES, DATA, WEIGHTS), .rhs = SUM(LESS(OPA(dot, DOT_AXES, ANY(q), CST(w)))),
	 .when = is_shifted_product, .shared = true},
	{"shifted_linear",      .lhs = OP(linear, DATA, WEIGHTS), .rhs = SUM(LESS(OPA(dot, LAST_AXES, ANY(q), CST(w)))),
	 .when = is_shifted_linear, .shared = true},
	{"shifted_linear_bias", .lhs = OP(linear, DATA, WEIGHTS, CST(b)), .rhs = OP(add, SUM(LESS(OPA(dot, LAST_AXES, ANY(q), CST(w)))), CST(b)),
	 .when = is_shifted_linear, .shared = true},
	{"shifted_conv",        .lhs = OPA(conv, CONV_ATTRS, DATA, WEIGHTS), .rhs = SUM(LESS(OPA(conv, CONV_ATTRS, ANY(p), CST(w)))),
	 .when = is_shifted_conv, .shared = true},
	{"shifted_conv_bias",   .lhs = OPA(conv, CONV_ATTRS, DATA, WEIGHTS, CST(b)), .rhs = OP(add, SUM(LESS(OPA(conv, CONV_ATTRS, ANY(p), CST(w)))), CST(b)),
	 .when = is_shifted_conv_with_bias, .shared = true},
	{"bias_into_sum",       /* x f + b => (x + b / f) f */
	 .lhs = OP(add, OP(mul, OP(cast, ANY(x)), CST(f)), CST(b)), .rhs = OP(mul, OP(cast, OP(add, ANY(x), CST(c))), CST(f)), .when = fits_into_sum},
	{"add_both_constants",  .lhs = OP(add, OP(add, ANY(x), CST(a)), CST(c)), .rhs = OP(add, ANY(x), CST(c)), .when = is_sum_of_both},
	{"add_nothing",         .lhs = OP(add, ANY(x), NUM(0)), .rhs = ANY(x), .when = is_integer},
	{"subtract_nothing",    .lhs = OP(sub, ANY(x), NUM(0)), .rhs = ANY(x), .when = is_integer},
};
/* clang-format on */

ML_RULE_PASS(fuse_integers, ML_LOSSY, rules,
	     "layers of quantized data and weights become sums of integers");
