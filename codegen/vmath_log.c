/* vmath_log.c -- log and the functions made of it: log1p, asinh, acosh, atanh, pow. */
#include "vmath_number.h"
#include <math.h>

/* (log(1 + f) - f + f^2 / 2) / f^3, 1 + f in [sqrt(1/2), sqrt(2)] */
static const double log_f32[] = {0.3333333134651184,  -0.2499999701976776,  0.20000715553760529,
				 -0.1666780263185501, 0.14249058067798615,  -0.12425687164068222,
				 0.11685419827699661, -0.11479733884334564, 0.06971611827611923};
/* (2 atanh(s) - 2 s) / s^3 in s^2, s = f / (2 + f) */
static const double log_f64[] = {0.6666666666666666,  0.4000000000000094, 0.2857142857076445,
				 0.2222222240054776,  0.181817947008978,  0.15386290534658992,
				 0.13267418596474884, 0.1310072138350349};
static const double log2_f32[] = {0.693115234375, 3.1946184945309415e-05};
static const double log2_f64[] = {0x1.62e42fee00000p-1, 0x1.a39ef35793c76p-33};

/* x = 2^exponent * (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), for finite x > 0; the exponent as a
 * floating-point value. */
typedef struct parts {
	ml_v exponent, f;
} parts;

static parts
split(ml_emit *e, ml_v x)
{
	bool f32 = ml_vn_is_f32(e, x);
	int up = f32 ? 25 : 54; /* brings denormals into the normal range */
	ml_v tiny = ml_vn_less(e, x, ml_vn_const(e, x, f32 ? 0x1p-126 : 0x1p-1022));
	ml_v lifted = ml_vn_mul(e, x, ml_vn_const(e, x, f32 ? 0x1p25 : 0x1p54));
	ml_v bits = ml_vn_to_bits(e, ml_vn_select(e, tiny, lifted, x));
	ml_v root = ml_vn_to_bits(e, ml_vn_const(e, x, 0.70710678118654752));
	ml_v shift = ml_vn_int(e, x, ml_vn_mantissa(e, x));
	ml_v n = LLVMBuildAShr(e->b, LLVMBuildSub(e->b, bits, root, ""), shift, "");
	ml_v m = LLVMBuildSub(e->b, bits, LLVMBuildShl(e->b, n, shift, ""), "");
	/* |n| < 2^12: as the low bits of a large number it becomes floating point without a
	 * 64-bit conversion, which AVX2 has not */
	ml_v magic = ml_vn_const(e, x, f32 ? 0x1.8p23 : 0x1.8p52);
	ml_v exponent = LLVMBuildAdd(e->b, n, ml_vn_to_bits(e, magic), "");
	parts p;

	exponent = ml_vn_sub(e, ml_vn_from_bits(e, exponent, x), magic);
	p.exponent = ml_vn_select(e, tiny, ml_vn_sub(e, exponent, ml_vn_const(e, x, up)), exponent);
	p.f = ml_vn_sub(e, ml_vn_from_bits(e, m, x), ml_vn_const(e, x, 1));
	return p;
}

static ml_v
log_of_f32(ml_emit *e, ml_v x)
{
	parts p = split(e, x);
	ml_v square = ml_vn_mul(e, p.f, p.f);
	ml_v y = ml_vn_mul(e, ml_vn_mul(e, square, p.f), ML_VN_POLY(e, p.f, log_f32));

	y = ml_fma(e, p.exponent, ml_vn_const(e, x, log2_f32[1]), y);
	y = ml_vn_add(e, ml_fma(e, square, ml_vn_const(e, x, -0.5), y), p.f);
	return ml_fma(e, p.exponent, ml_vn_const(e, x, log2_f32[0]), y);
}

/* log(1 + f) = f - (h - s (h + s^2 tail)), h = f^2 / 2: the small terms are added first */
static ml_v
log_of_f64(ml_emit *e, ml_v x)
{
	parts p = split(e, x);
	ml_v h = ml_vn_mul(e, ml_vn_mul(e, p.f, p.f), ml_vn_const(e, x, 0.5));
	ml_v s = ml_vn_div(e, p.f, ml_vn_add(e, p.f, ml_vn_const(e, x, 2)));
	ml_v z = ml_vn_mul(e, s, s);
	ml_v y = ml_fma(e, z, ML_VN_POLY(e, z, log_f64), h);

	y = ml_fma(e, p.exponent, ml_vn_const(e, x, log2_f64[1]), ml_vn_mul(e, s, y));
	y = ml_vn_sub(e, p.f, ml_vn_sub(e, h, y));
	return ml_fma(e, p.exponent, ml_vn_const(e, x, log2_f64[0]), y);
}

ml_v
ml_vm_log(ml_emit *e, ml_v x)
{
	ml_v zero = ml_vn_const(e, x, 0), y;
	ml_v infinite = ml_vn_const(e, x, INFINITY);

	y = ml_vn_is_f32(e, x) ? log_of_f32(e, x) : log_of_f64(e, x);
	y = ml_vn_select(e, ml_vn_less(e, x, infinite), y, x); /* infinity and NaN are themselves */
	y = ml_vn_select(e, ml_vn_equal(e, x, zero), ml_vn_const(e, x, -INFINITY), y);
	return ml_vn_select(e, ml_vn_less(e, x, zero), ml_vn_const(e, x, NAN), y);
}

/* log(u) for the rounded u = 1 + x, and what the rounding lost, over u */
ml_v
ml_vm_log1p(ml_emit *e, ml_v x)
{
	ml_v one = ml_vn_const(e, x, 1), zero = ml_vn_const(e, x, 0);
	ml_v u = ml_vn_add(e, x, one);
	ml_v lost = ml_vn_div(e, ml_vn_sub(e, x, ml_vn_sub(e, u, one)), u);
	ml_v valid = LLVMBuildAnd(e->b, ml_vn_less(e, zero, u),
				  ml_vn_less(e, u, ml_vn_const(e, x, INFINITY)), "");
	ml_v y = ml_vn_add(e, ml_vm_log(e, u), ml_vn_select(e, valid, lost, zero));

	return ml_vn_select(e, ml_vn_equal(e, x, zero), x, y); /* keeps the sign of -0 */
}

/* Above this, x^2 + 1 and x^2 - 1 are x^2. */
static const double huge_argument = 0x1p28;

static ml_v
log_of_twice(ml_emit *e, ml_v x)
{
	return ml_vn_add(e, ml_vm_log(e, x), ml_vn_const(e, x, 0.69314718055994531));
}

/* log1p(a + a^2 / (1 + sqrt(a^2 + 1))), a = |x| */
static ml_v
asinh_f64(ml_emit *e, ml_v x)
{
	ml_v a = ml_vn_abs(e, x), one = ml_vn_const(e, x, 1);
	ml_v square = ml_vn_mul(e, a, a);
	ml_v root = ml_vn_sqrt(e, ml_vn_add(e, square, one));
	ml_v near = ml_vn_add(e, a, ml_vn_div(e, square, ml_vn_add(e, root, one)));
	ml_v huge = ml_vn_less(e, ml_vn_const(e, x, huge_argument), a);
	ml_v y = ml_vn_select(e, huge, log_of_twice(e, a), ml_vm_log1p(e, near));

	return ml_vn_copysign(e, y, x);
}

/* log1p(t + sqrt(2 t + t^2)), t = x - 1 */
static ml_v
acosh_f64(ml_emit *e, ml_v x)
{
	ml_v one = ml_vn_const(e, x, 1), t = ml_vn_sub(e, x, one);
	ml_v root = ml_vn_sqrt(e, ml_fma(e, t, t, ml_vn_add(e, t, t)));
	ml_v huge = ml_vn_less(e, ml_vn_const(e, x, huge_argument), x);
	ml_v y = ml_vn_select(e, huge, log_of_twice(e, x), ml_vm_log1p(e, ml_vn_add(e, t, root)));

	return ml_vn_select(e, ml_vn_less(e, x, one), ml_vn_const(e, x, NAN), y);
}

/* log1p(2 a / (1 - a)) / 2, a = |x| */
static ml_v
atanh_f64(ml_emit *e, ml_v x)
{
	ml_v a = ml_vn_abs(e, x), one = ml_vn_const(e, x, 1);
	ml_v ratio = ml_vn_div(e, ml_vn_add(e, a, a), ml_vn_sub(e, one, a));
	ml_v y = ml_vn_mul(e, ml_vm_log1p(e, ratio), ml_vn_const(e, x, 0.5));

	return ml_vn_copysign(e, y, x);
}

ml_v
ml_vm_asinh(ml_emit *e, ml_v x)
{
	return ml_vn_by_f64(e, x, asinh_f64);
}

ml_v
ml_vm_acosh(ml_emit *e, ml_v x)
{
	return ml_vn_by_f64(e, x, acosh_f64);
}

ml_v
ml_vm_atanh(ml_emit *e, ml_v x)
{
	return ml_vn_by_f64(e, x, atanh_f64);
}

/* A value as the sum of two; |low| <= half a unit of high's last place. */
typedef struct pair {
	ml_v high, low;
} pair;

/* log(x) to about 60 bits, for finite x > 0: 2 s in two parts, everything smaller in one */
static pair
log_pair(ml_emit *e, ml_v x)
{
	parts p = split(e, x);
	ml_v two = ml_vn_const(e, x, 2), d = ml_vn_add(e, p.f, two);
	ml_v d_low = ml_vn_sub(e, p.f, ml_vn_sub(e, d, two));
	ml_v s = ml_vn_div(e, p.f, d), z = ml_vn_mul(e, s, s);
	ml_v rest = ml_fma(e, ml_vn_neg(e, s), d, p.f);
	ml_v s_low = ml_vn_div(e, ml_fma(e, ml_vn_neg(e, s), d_low, rest), d);
	ml_v tail = ml_vn_mul(e, ml_vn_mul(e, s, z), ML_VN_POLY(e, z, log_f64));
	ml_v big = ml_vn_mul(e, p.exponent, ml_vn_const(e, x, log2_f64[0]));
	ml_v twice = ml_vn_add(e, s, s), sum = ml_vn_add(e, big, twice);
	/* big is zero or larger than twice s, so this is what the addition lost */
	ml_v lost = ml_vn_sub(e, twice, ml_vn_sub(e, sum, big));
	pair y;

	tail = ml_fma(e, s_low, two, tail);
	tail = ml_vn_add(e, lost, ml_fma(e, p.exponent, ml_vn_const(e, x, log2_f64[1]), tail));
	y.high = ml_vn_add(e, sum, tail);
	y.low = ml_vn_sub(e, tail, ml_vn_sub(e, y.high, sum));
	return y;
}

/* |x|^y; what zeros and infinities do to the sum in two parts is set right by the caller */
static ml_v
power_of_positive(ml_emit *e, ml_v a, ml_v y)
{
	ml_v zero = ml_vn_const(e, a, 0), infinite = ml_vn_const(e, a, INFINITY);
	ml_v finite = LLVMBuildAnd(e->b, ml_vn_less(e, zero, a), ml_vn_less(e, a, infinite), "");
	pair l = log_pair(e, a);
	ml_v high = ml_vn_select(e, finite, l.high, ml_vm_log(e, a));
	ml_v t = ml_vn_mul(e, y, high);
	ml_v low = ml_fma(e, y, l.low, ml_fma(e, y, high, ml_vn_neg(e, t)));
	ml_v plain = ml_vn_less(e, ml_vn_abs(e, t), ml_vn_const(e, a, 1000));

	return ml_vn_exp(e, t, ml_vn_select(e, plain, low, zero));
}

static ml_v
pow_f64(ml_emit *e, ml_v x, ml_v y)
{
	ml_v zero = ml_vn_const(e, x, 0), one = ml_vn_const(e, x, 1), a = ml_vn_abs(e, x);
	ml_v half = ml_vn_mul(e, y, ml_vn_const(e, x, 0.5));
	ml_v whole = ml_vn_equal(e, ml_vn_round(e, y), y); /* true for infinite y */
	ml_v odd = LLVMBuildAnd(e->b, whole,
				LLVMBuildNot(e->b, ml_vn_equal(e, ml_vn_round(e, half), half), ""),
				"");
	ml_v r = power_of_positive(e, a, y);
	ml_v inside = LLVMBuildAnd(e->b, ml_vn_less(e, x, zero),
				   ml_vn_less(e, a, ml_vn_const(e, x, INFINITY)), "");

	/* 1 to any power, also infinite; -1 to an infinite one */
	r = ml_vn_select(e, ml_vn_equal(e, a, one), one, r);
	r = ml_vn_select(e, odd, ml_vn_copysign(e, r, x), r);
	ml_v undefined = LLVMBuildAnd(e->b, inside, LLVMBuildNot(e->b, whole, ""), "");
	r = ml_vn_select(e, undefined, ml_vn_const(e, x, NAN), r);
	/* NaN operands: the product above gave NaN unless |x| = 1 */
	ml_v y_nan = LLVMBuildFCmp(e->b, LLVMRealUNO, y, y, "");
	r = ml_vn_select(e, y_nan, y, r);
	r = ml_vn_select(e, ml_vn_equal(e, x, one), one, r);
	return ml_vn_select(e, ml_vn_equal(e, y, zero), one, r);
}

ml_v
ml_vm_pow(ml_emit *e, ml_v x, ml_v y)
{
	LLVMTypeRef type = LLVMTypeOf(x), wide = e->f64;

	if (!ml_vn_is_f32(e, x))
		return pow_f64(e, x, y);
	if (LLVMGetTypeKind(type) == LLVMVectorTypeKind)
		wide = LLVMVectorType(wide, LLVMGetVectorSize(type));
	x = pow_f64(e, LLVMBuildFPExt(e->b, x, wide, ""), LLVMBuildFPExt(e->b, y, wide, ""));
	return LLVMBuildFPTrunc(e->b, x, type, "");
}
