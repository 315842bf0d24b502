/* move_quantize.c -- quantizes as early as possible: what lies between a layer and the quantization
 * of its result works on integers, or is what saturation does anyway.
 *
 * Everything here is exact: quantizing with one scale is monotone and treats elements alike. Signed
 * activations become unsigned ones, which is what products of integers read.
 */
#include "movement.h"

enum { OFFSET = 128 /* between s8 and u8 */ };

static bool
is_per_tensor(ml_match *m)
{
	return ml_is_per_tensor(GOT(m, s), GOT(m, z));
}

/* What the constant c becomes. */
static ml_value *
quantized(ml_match *m)
{
	ml_value *in[] = {GOT(m, c), GOT(m, s), GOT(m, z)};
	ml_node *n = ml_begin(m->b, ML_OP_quantize, in, 3);

	if (!n)
		return NULL;
	ML_A(n, quantize, dtype) = GOT_ATTR(m, t);
	return ml_match_fold(m, ml_finish1(m->b, n));
}

static bool
quantizes_constant(ml_match *m)
{
	return is_per_tensor(m) && (GOT(m, c) = quantized(m)) != NULL;
}

static bool
keeps_type(ml_match *m)
{
	return ml_type_same_shape(&GOT(m, x)->type, &m->root->out[0].type);
}

/* Nothing that is quantized lies below the constant, or above it. */
static bool
saturates_at(ml_match *m, int64_t end)
{
	double c;

	if (!is_per_tensor(m) || !keeps_type(m) || !ml_is_splat(GOT(m, c), &c))
		return false;
	GOT(m, c) = quantized(m);
	if (!GOT(m, c) || !ml_is_splat(GOT(m, c), &c))
		return false;
	return c == (double)end ? true : (m->why = "the range goes beyond the bound", false);
}

static bool
saturates_below(ml_match *m)
{
	return saturates_at(m, ml_lowest(GOT_ATTR(m, t).dtype));
}

static bool
saturates_above(ml_match *m)
{
	return saturates_at(m, ml_highest(GOT_ATTR(m, t).dtype));
}

/* Quantized again as it was before. */
static bool
is_same_scale(ml_match *m)
{
	ml_value *s = GOT(m, s), *z = GOT(m, z), *u = GOT(m, u), *v = GOT(m, v);

	return ml_is_per_tensor(s, z) && ml_is_per_tensor(u, v) &&
	       ml_const_f64(s, 0) == ml_const_f64(u, 0) && ml_zero_of(z) == ml_zero_of(v) &&
	       GOT(m, q)->type.dtype == GOT_ATTR(m, t).dtype;
}

/* ---- signed to unsigned ---- */

static ml_attr
dtype_attr(ml_dtype t)
{
	return (ml_attr){.dtype = t};
}

/* The letters of types: u8 and s32, and s8 to come back to. */
static bool
becomes_unsigned(ml_match *m)
{
	if (!ml_is_per_tensor(GOT(m, s), GOT(m, z)) || GOT_ATTR(m, t).dtype != ML_s8)
		return false;
	GOT(m, z) = ml_build_zero(m->b, ML_u8, ml_zero_of(GOT(m, z)) + OFFSET);
	GOT_ATTR(m, u) = dtype_attr(ML_u8);
	GOT_ATTR(m, w) = dtype_attr(ML_s32);
	GOT(m, o) = ml_build_f64(m->b, ML_s32, OFFSET);
	return true;
}

static bool
was_unsigned(ml_match *m)
{
	double o;

	if (!ml_is_per_tensor(GOT(m, s), GOT(m, z)) || GOT_ATTR(m, t).dtype != ML_s8 ||
	    GOT(m, q)->type.dtype != ML_u8 || !ml_is_splat(GOT(m, o), &o) || o != OFFSET)
		return false;
	GOT(m, z) = ml_build_zero(m->b, ML_u8, ml_zero_of(GOT(m, z)) + OFFSET);
	return true;
}

/* Signed data that is not quantized here, and no weights. */
static bool
is_signed_data(ml_match *m)
{
	ml_value *q = GOT(m, q);

	if (q->type.dtype != ML_s8 || ml_is_const(q) || !is_per_tensor(m))
		return false;
	GOT_ATTR(m, t) = dtype_attr(ML_s8);
	return becomes_unsigned(m);
}

/* clang-format off */
#define PART(v)         ML_QUANTIZE(ANY(v))
#define PERMUTED        ATTRS(ATTR(transpose, perm, i))

static const ml_rule rules[] = {
	{"quantize_dequantize",  /* q(dq(q)) => q */
	 .lhs = ML_QUANTIZE(OP(dequantize, ANY(q), CST(u), CST(v))), .rhs = ANY(q), .when = is_same_scale, .shared = true},
	{"quantize_signed",      /* to s8 => to u8, less 128 */
	 .lhs = ML_QUANTIZE(ANY(x)),
	 .rhs = CAST(t, OP(sub, CAST(w, OPA(quantize, ATTRS(ATTR(quantize, dtype, u)), ANY(x), CST(s), CST(z))), CST(o))),
	 .when = becomes_unsigned},
	{"dequantize_signed",    /* dq(u8 less 128, s, z) => dq(u8, s, z + 128) */
	 .lhs = ML_DEQUANTIZE(CAST(t, OP(sub, OP(cast, ANY(q)), CST(o)))), .rhs = ML_DEQUANTIZE(ANY(q)),
	 .when = was_unsigned, .shared = true},
	{"dequantize_signed_data",
	 .lhs = ML_DEQUANTIZE(ANY(q)), .rhs = ML_DEQUANTIZE(CAST(u, OP(add, CAST(w, ANY(q)), CST(o)))),
	 .when = is_signed_data, .shared = true},
	{"quantize_relu",        /* q(max(x, c)) => q(x) where q(c) is the least anyway */
	 .lhs = ML_QUANTIZE(OP(max, ANY(x), CST(c))), .rhs = ML_QUANTIZE(ANY(x)), .when = saturates_below},
	{"quantize_clip",        /* q(min(x, c)) => q(x) where q(c) is the largest anyway */
	 .lhs = ML_QUANTIZE(OP(min, ANY(x), CST(c))), .rhs = ML_QUANTIZE(ANY(x)), .when = saturates_above},
	{"quantize_least",       /* bounds within the range, of channels too, cost bytes less */
	 .lhs = ML_QUANTIZE(OP(max, ANY(x), CST(c))), .rhs = OP(max, ML_QUANTIZE(ANY(x)), CST(c)), .when = quantizes_constant},
	{"quantize_largest",
	 .lhs = ML_QUANTIZE(OP(min, ANY(x), CST(c))), .rhs = OP(min, ML_QUANTIZE(ANY(x)), CST(c)), .when = quantizes_constant},
	{"quantize_reshape",     .lhs = ML_QUANTIZE(OPA(reshape, SHAPED, ANY(x))), .rhs = OPA(reshape, SHAPED, PART(x)), .when = is_per_tensor},
	{"quantize_transpose",   .lhs = ML_QUANTIZE(OPA(transpose, PERMUTED, ANY(x))), .rhs = OPA(transpose, PERMUTED, PART(x)), .when = is_per_tensor},
	{"quantize_broadcast",   .lhs = ML_QUANTIZE(OPA(broadcast, SPREAD, ANY(x))), .rhs = OPA(broadcast, SPREAD, PART(x)), .when = is_per_tensor},
	{"quantize_slice",       .lhs = ML_QUANTIZE(OPA(slice, CUT, ANY(x))), .rhs = OPA(slice, CUT, PART(x)), .when = is_per_tensor},
	{"quantize_reverse",     .lhs = ML_QUANTIZE(OPA(reverse, TURNED, ANY(x))), .rhs = OPA(reverse, TURNED, PART(x)), .when = is_per_tensor},
	{"quantize_window",      .lhs = ML_QUANTIZE(OPA(window, WINDOWS, ANY(x))), .rhs = OPA(window, WINDOWS, PART(x)), .when = is_per_tensor},
	{"quantize_reduce_max",  .lhs = ML_QUANTIZE(OPA(reduce_max, LARGEST, ANY(x))), .rhs = OPA(reduce_max, LARGEST, PART(x)), .when = is_per_tensor},
	{"quantize_reduce_min",  .lhs = ML_QUANTIZE(OPA(reduce_min, SMALLEST, ANY(x))), .rhs = OPA(reduce_min, SMALLEST, PART(x)), .when = is_per_tensor},
	{"quantize_pad",         .lhs = ML_QUANTIZE(OPA(pad, PADS, ANY(x), CST(c))), .rhs = OPA(pad, PADS, ML_QUANTIZE(ANY(x)), CST(c)),
	 .when = quantizes_constant},
	{"quantize_concat_two",  .lhs = ML_QUANTIZE(OPA(concat, JOINED, ANY(a), ANY(b))), .rhs = OPA(concat, JOINED, PART(a), PART(b)), .when = is_per_tensor},
	{"quantize_concat_three", .lhs = ML_QUANTIZE(OPA(concat, JOINED, ANY(a), ANY(b), ANY(c))),
	 .rhs = OPA(concat, JOINED, PART(a), PART(b), PART(c)), .when = is_per_tensor},
	{"quantize_concat_four", .lhs = ML_QUANTIZE(OPA(concat, JOINED, ANY(a), ANY(b), ANY(c), ANY(d))),
	 .rhs = OPA(concat, JOINED, PART(a), PART(b), PART(c), PART(d)), .when = is_per_tensor},
};
/* clang-format on */

ML_RULE_PASS(move_quantize, ML_EXACT, rules,
	     "quantization moves towards layers, activations become u8");
