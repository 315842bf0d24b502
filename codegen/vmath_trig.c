/* vmath_trig.c -- sin, cos, tan and their inverses, all computed in f64. */
#include "vmath_number.h"
#include <math.h>

/* (sin(r) / r - 1) / z and (cos(r) - 1 + z / 2) / z^2 in z = r^2, |r| <= pi/4 */
static const double sin_c[] = {-0.16666666666666666,    0.008333333333333331,
			       -0.00019841269841264821, 2.7557319219150783e-06,
			       -2.5052106167335705e-08, 1.6058521349954986e-10,
			       -7.586094789672621e-13};
static const double cos_c[] = {0.041666666666666664,   -0.0013888888888888887,
			       2.480158730158451e-05,  -2.755731922129809e-07,
			       2.0876755754879594e-09, -1.1470455178216906e-11,
			       4.745537017319258e-14};
/* (atan(t) / t - 1) / z in z = t^2, t <= tan(pi/8) */
static const double atan_c[] = {-0.3333333333333333,  0.19999999999999785,   -0.14285714285654638,
				0.11111111104652255,  -0.09090908728587459,  0.07692295658327873,
				-0.06666412077725274, 0.058787824694439814,  -0.0522938047378184,
				0.045467195095551666, -0.034445844423577385, 0.016148228546771868};
/* (asin(t) / t - 1) / z in z = t^2 <= 1/4 */
static const double asin_c[] = {0.16666666666666666,  0.07500000000000122,  0.04464285714254326,
				0.030381944476347046, 0.02237215740373685,  0.01735281769074104,
				0.013963758735074137, 0.01156672237119713,  0.009619629203687472,
				0.009332327156165665, 0.002995311657156326, 0.019678367430162,
				-0.01942149876336336, 0.029727286869498975};
static const double half_pi = 1.5707963267948966, half_pi_low = 6.123233995736766e-17;

/* --- reduction: x = n pi/2 + r, |r| <= pi/4, n mod 4 -------------------------------------------
 */

/* 2/pi by 64 bits, after 64 zero bits. */
static const uint64_t two_over_pi[] = {0,
				       0xa2f9836e4e441529,
				       0xfc2757d1f534ddc0,
				       0xdb6295993c439041,
				       0xfe5163abdebbc561,
				       0xb7246e3a424dd2e0,
				       0x06492eea09d1921c,
				       0xfe1deb1cb129a73e,
				       0xe88235f52ebb4484,
				       0xe99c7026b45f7e41,
				       0x3991d639835339f4,
				       0x9c845f8bbdf9283b,
				       0x1ff897ffde05980f,
				       0xef2f118b5a0a6d1f,
				       0x6d367ecf27cb09b7,
				       0x4f463f669e5fea2d,
				       0x7527bac7ebe5f17b,
				       0x3d0739f78a5292ea,
				       0x6bfb5fb11f8d5d08,
				       0x56033046fc7b6bab,
				       0xf0cfbc209af4361d};

static ml_v
two_over_pi_table(ml_emit *e)
{
	enum { WORDS = sizeof two_over_pi / sizeof *two_over_pi };
	ml_v words[WORDS], table = LLVMGetNamedGlobal(e->module, "two_over_pi");

	if (table)
		return table;
	for (int i = 0; i < WORDS; i++)
		words[i] = LLVMConstInt(e->i64, two_over_pi[i], 0);
	return ml_private_constant(e, LLVMConstArray2(e->i64, words, WORDS), "two_over_pi");
}

typedef struct angle {
	ml_v n; /* integer, its two low bits count */
	ml_v r;
} angle;

/* One large scalar, |x| >= 2^20.  x = m 2^s; the product of m with those 192 bits of 2/pi that
 * matter modulo 4 holds n in its top bits and r, in units of pi/2, below. */
static angle
reduce_large(ml_emit *e, ml_v x)
{
	LLVMTypeRef wide = LLVMIntTypeInContext(e->lc, 128);
	ml_v bits = LLVMBuildBitCast(e->b, x, e->i64, ""), word[4], window[3];
	ml_v exponent = LLVMBuildAnd(e->b, LLVMBuildLShr(e->b, bits, ml_i64(e, 52), ""),
				     ml_i64(e, 0x7ff), "");
	ml_v m = LLVMBuildAnd(e->b, bits, ml_i64(e, 0xfffffffffffff), "");
	/* infinity and NaN have no bits there; the caller's result is NaN whatever they give */
	exponent = ml_min_s(e, exponent, ml_i64(e, 0x7fe));
	m = LLVMBuildOr(e->b, m, ml_i64(e, 0x10000000000000), "");
	ml_v first = ml_sub(e, exponent, ml_i64(e, 1075 + 2 - 64)); /* s - 2, in the table */
	ml_v at = LLVMBuildLShr(e->b, first, ml_i64(e, 6), "");
	ml_v shift = LLVMBuildAnd(e->b, first, ml_i64(e, 63), "");
	for (int i = 0; i < 4; i++)
		word[i] = ml_load(
			e, e->i64,
			ml_gep(e, e->i64, two_over_pi_table(e), ml_add(e, at, ml_i64(e, i))), 8);
	for (int i = 0; i < 3; i++) {
		window[i] = ml_intrinsic(e, "llvm.fshl", &e->i64, 1,
					 (ml_v[]){word[i], word[i + 1], shift}, 3);
		window[i] = LLVMBuildZExt(e->b, window[i], wide, "");
	}
	ml_v mw = LLVMBuildZExt(e->b, m, wide, ""), c64 = LLVMConstInt(wide, 64, 0);
	ml_v p = LLVMBuildShl(e->b, LLVMBuildMul(e->b, mw, window[0], ""), c64, "");
	p = LLVMBuildAdd(e->b, p, LLVMBuildMul(e->b, mw, window[1], ""), "");
	p = LLVMBuildAdd(e->b, p,
			 LLVMBuildLShr(e->b, LLVMBuildMul(e->b, mw, window[2], ""), c64, ""), "");
	/* two bits of n, then the fraction: as a signed number it is in [-1/2, 1/2) */
	ml_v fraction = LLVMBuildShl(e->b, p, LLVMConstInt(wide, 2, 0), "");
	ml_v sign = LLVMBuildAShr(e->b, fraction, LLVMConstInt(wide, 127, 0), "");
	ml_v n = LLVMBuildSub(e->b, LLVMBuildLShr(e->b, p, LLVMConstInt(wide, 126, 0), ""), sign,
			      "");
	ml_v size = LLVMBuildSub(e->b, LLVMBuildXor(e->b, fraction, sign, ""), sign, "");
	ml_v zeros = ml_intrinsic(e, "llvm.ctlz", &wide, 1,
				  (ml_v[]){size, LLVMConstInt(e->i1, 0, 0)}, 2);
	zeros = ml_min_s(e, LLVMBuildTrunc(e->b, zeros, e->i64, ""), ml_i64(e, 127));
	size = LLVMBuildShl(e->b, size, LLVMBuildZExt(e->b, zeros, wide, ""), "");
	ml_v top = LLVMBuildTrunc(e->b, LLVMBuildLShr(e->b, size, LLVMConstInt(wide, 65, 0), ""),
				  e->i64, "");
	/* 63 bits below a point that lies `zeros` further to the left */
	ml_v scale = LLVMBuildShl(e->b, ml_sub(e, ml_i64(e, 1023 - 63), zeros), ml_i64(e, 52), "");
	ml_v r = LLVMBuildFMul(e->b, LLVMBuildSIToFP(e->b, top, e->f64, ""),
			       LLVMBuildBitCast(e->b, scale, e->f64, ""), "");
	r = LLVMBuildFMul(e->b, r, LLVMConstReal(e->f64, half_pi), "");
	/* r and n belong to |x| */
	ml_v minus = LLVMBuildICmp(e->b, LLVMIntNE, LLVMBuildTrunc(e->b, sign, e->i1, ""),
				   LLVMBuildICmp(e->b, LLVMIntSLT, bits, ml_i64(e, 0), ""), "");
	angle a;
	a.r = LLVMBuildSelect(e->b, minus, LLVMBuildFNeg(e->b, r, ""), r, "");
	n = LLVMBuildTrunc(e->b, n, e->i64, "");
	a.n = LLVMBuildSelect(e->b, LLVMBuildICmp(e->b, LLVMIntSLT, bits, ml_i64(e, 0), ""),
			      LLVMBuildNeg(e->b, n, ""), n, "");
	return a;
}

/* Three parts of pi/2: with fma the first two steps are exact wherever cancellation could hurt. */
static angle
reduce_small(ml_emit *e, ml_v x)
{
	ml_v magic = ml_vn_const(e, x, 0x1.8p52);
	ml_v t = ml_fma(e, x, ml_vn_const(e, x, 0.6366197723675814), magic);
	ml_v n = ml_vn_neg(e, ml_vn_sub(e, t, magic));
	angle a;

	a.r = ml_fma(e, n, ml_vn_const(e, x, 0x1.921fb54400000p+0), x);
	a.r = ml_fma(e, n, ml_vn_const(e, x, 0x1.0b4611a600000p-34), a.r);
	a.r = ml_fma(e, n, ml_vn_const(e, x, 0x1.3198a2e037073p-69), a.r);
	a.n = ml_vn_to_bits(e, t);
	return a;
}

/* Lanes that are large are reduced one by one; that is slow and rare. */
static void
repair_large(ml_emit *e, ml_v x, ml_v n_slot, ml_v r_slot)
{
	LLVMTypeRef type = LLVMTypeOf(x);
	bool vector = LLVMGetTypeKind(type) == LLVMVectorTypeKind;
	int lanes = vector ? (int)LLVMGetVectorSize(type) : 1;
	ml_v x_slot = ml_alloca(e, type, 64);

	ml_store(e, x, x_slot, 64);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), ml_i64(e, lanes), ml_i64(e, 1), NULL, 0, "lane");
	ml_v v = ml_load(e, e->f64, ml_gep(e, e->f64, x_slot, l.i), 8);
	ml_v small = ml_vn_less(e, ml_vn_abs(e, v), ml_vn_const(e, v, 0x1p20));
	ml_if f = ml_if_begin(e, LLVMBuildNot(e->b, small, ""));
	angle a = reduce_large(e, v);
	ml_store(e, a.r, ml_gep(e, e->f64, r_slot, l.i), 8);
	ml_store(e, a.n, ml_gep(e, e->i64, n_slot, l.i), 8);
	ml_if_end(e, &f);
	ml_loop_end(e, &l, NULL);
}

static angle
reduce(ml_emit *e, ml_v x)
{
	angle a = reduce_small(e, x);
	LLVMTypeRef n_type = LLVMTypeOf(a.n), r_type = LLVMTypeOf(x);
	ml_v n_slot = ml_alloca(e, n_type, 64), r_slot = ml_alloca(e, r_type, 64);
	ml_v large =
		LLVMBuildFCmp(e->b, LLVMRealOGE, ml_vn_abs(e, x), ml_vn_const(e, x, 0x1p20), "");

	ml_store(e, a.n, n_slot, 64);
	ml_store(e, a.r, r_slot, 64);
	if (LLVMGetTypeKind(r_type) == LLVMVectorTypeKind) {
		LLVMTypeRef type = LLVMTypeOf(large);
		large = ml_intrinsic(e, "llvm.vector.reduce.or", &type, 1, &large, 1);
	}
	ml_if f = ml_if_begin(e, large);
	repair_large(e, x, n_slot, r_slot);
	ml_if_end(e, &f);
	a.n = ml_load(e, n_type, n_slot, 64);
	a.r = ml_load(e, r_type, r_slot, 64);
	/* infinity has no angle; x - x is zero for all others and NaN for it */
	a.r = ml_vn_add(e, a.r, ml_vn_sub(e, x, x));
	return a;
}

/* --- sin, cos, tan -----------------------------------------------------------------------------
 */

static ml_v
sin_near(ml_emit *e, ml_v r)
{
	ml_v z = ml_vn_mul(e, r, r);

	return ml_fma(e, ml_vn_mul(e, r, z), ML_VN_POLY(e, z, sin_c), r);
}

static ml_v
cos_near(ml_emit *e, ml_v r)
{
	ml_v z = ml_vn_mul(e, r, r), one = ml_vn_const(e, r, 1);
	ml_v h = ml_fma(e, z, ml_vn_const(e, r, -0.5), one);
	/* what rounding 1 - z/2 lost comes back */
	ml_v lost = ml_fma(e, z, ml_vn_const(e, r, -0.5), ml_vn_sub(e, one, h));

	return ml_vn_add(e, h, ml_fma(e, ml_vn_mul(e, z, z), ML_VN_POLY(e, z, cos_c), lost));
}

/* Bit `bit` of n, as a condition. */
static ml_v
bit_of(ml_emit *e, ml_v n, ml_v like, int bit)
{
	ml_v masked = LLVMBuildAnd(e->b, n, ml_vn_int(e, like, 1 << bit), "");

	return LLVMBuildICmp(e->b, LLVMIntNE, masked, ml_vn_int(e, like, 0), "");
}

/* sin(r + n pi/2) */
static ml_v
sin_of_angle(ml_emit *e, angle a)
{
	ml_v y = ml_vn_select(e, bit_of(e, a.n, a.r, 0), cos_near(e, a.r), sin_near(e, a.r));

	return ml_vn_select(e, bit_of(e, a.n, a.r, 1), ml_vn_neg(e, y), y);
}

static ml_v
sin_f64(ml_emit *e, ml_v x)
{
	ml_v y = sin_of_angle(e, reduce(e, x));

	/* keeps the sign of -0 */
	return ml_vn_select(e, ml_vn_equal(e, x, ml_vn_const(e, x, 0)), x, y);
}

static ml_v
cos_f64(ml_emit *e, ml_v x)
{
	angle a = reduce(e, x);

	a.n = LLVMBuildAdd(e->b, a.n, ml_vn_int(e, x, 1), "");
	return sin_of_angle(e, a);
}

static ml_v
tan_f64(ml_emit *e, ml_v x)
{
	angle a = reduce(e, x);
	ml_v s = sin_near(e, a.r), c = cos_near(e, a.r), odd = bit_of(e, a.n, x, 0);
	ml_v top = ml_vn_select(e, odd, ml_vn_neg(e, c), s);
	ml_v y = ml_vn_div(e, top, ml_vn_select(e, odd, s, c));

	return ml_vn_select(e, ml_vn_equal(e, x, ml_vn_const(e, x, 0)), x, y);
}

/* --- inverses ----------------------------------------------------------------------------------
 */

/* atan(a) = base + atan(top / bottom) with base 0, pi/4 or pi/2 and a small quotient */
static ml_v
atan_f64(ml_emit *e, ml_v x)
{
	ml_v a = ml_vn_abs(e, x), one = ml_vn_const(e, x, 1), zero = ml_vn_const(e, x, 0);
	ml_v above = ml_vn_less(e, ml_vn_const(e, x, 0.41421356237309503), a);
	ml_v far = ml_vn_less(e, ml_vn_const(e, x, 2.414213562373095), a);
	ml_v top = ml_vn_select(e, above, ml_vn_sub(e, a, one), a);
	ml_v bottom = ml_vn_select(e, above, ml_vn_add(e, a, one), one);
	ml_v base = ml_vn_select(e, above, ml_vn_const(e, x, half_pi / 2), zero);
	ml_v low = ml_vn_select(e, above, ml_vn_const(e, x, half_pi_low / 2), zero);

	top = ml_vn_select(e, far, ml_vn_const(e, x, -1), top);
	bottom = ml_vn_select(e, far, a, bottom);
	base = ml_vn_select(e, far, ml_vn_const(e, x, half_pi), base);
	low = ml_vn_select(e, far, ml_vn_const(e, x, half_pi_low), low);
	ml_v t = ml_vn_div(e, top, bottom), z = ml_vn_mul(e, t, t);
	ml_v small = ml_fma(e, ml_vn_mul(e, t, z), ML_VN_POLY(e, z, atan_c), low);
	return ml_vn_copysign(e, ml_vn_add(e, base, ml_vn_add(e, t, small)), x);
}

/* asin(t), 0 <= t <= 1/2, given t^2 */
static ml_v
asin_near(ml_emit *e, ml_v t, ml_v z)
{
	return ml_fma(e, ml_vn_mul(e, t, z), ML_VN_POLY(e, z, asin_c), t);
}

/* For |x| > 1/2: asin|x| = pi/2 - 2 asin(sqrt((1 - |x|) / 2)), and beyond 1 that root is NaN. */
static ml_v
asin_f64(ml_emit *e, ml_v x)
{
	ml_v a = ml_vn_abs(e, x), half = ml_vn_const(e, x, 0.5);
	ml_v near = ml_vn_less(e, a, half);
	ml_v far_z = ml_fma(e, a, ml_vn_neg(e, half), half);
	ml_v z = ml_vn_select(e, near, ml_vn_mul(e, a, a), far_z);
	ml_v t = ml_vn_select(e, near, a, ml_vn_sqrt(e, far_z));
	ml_v y = asin_near(e, t, z);
	ml_v twice = ml_fma(e, y, ml_vn_const(e, x, 2), ml_vn_const(e, x, -half_pi_low));
	ml_v far = ml_vn_sub(e, ml_vn_const(e, x, half_pi), twice);

	return ml_vn_copysign(e, ml_vn_select(e, near, y, far), x);
}

/* |x| <= 1/2: pi/2 - asin(x); x > 1/2: 2 asin(root); x < -1/2: pi - 2 asin(root) */
static ml_v
acos_f64(ml_emit *e, ml_v x)
{
	ml_v a = ml_vn_abs(e, x), half = ml_vn_const(e, x, 0.5), two = ml_vn_const(e, x, 2);
	ml_v near = ml_vn_less(e, a, half);
	ml_v far_z = ml_fma(e, a, ml_vn_neg(e, half), half);
	ml_v z = ml_vn_select(e, near, ml_vn_mul(e, a, a), far_z);
	ml_v y = asin_near(e, ml_vn_select(e, near, a, ml_vn_sqrt(e, far_z)), z);
	ml_v pi_high = ml_vn_const(e, x, half_pi), pi_low = ml_vn_const(e, x, half_pi_low);
	ml_v signed_y = ml_vn_copysign(e, y, x);
	ml_v middle = ml_vn_sub(e, pi_high, ml_vn_sub(e, signed_y, pi_low));
	ml_v right = ml_vn_mul(e, y, two);
	ml_v left = ml_vn_mul(e, two, ml_vn_sub(e, pi_high, ml_vn_sub(e, y, pi_low)));
	ml_v negative = ml_vn_less(e, x, ml_vn_const(e, x, 0));

	return ml_vn_select(e, near, middle, ml_vn_select(e, negative, left, right));
}

ml_v
ml_vm_sin(ml_emit *e, ml_v x)
{
	return ml_vn_by_f64(e, x, sin_f64);
}

ml_v
ml_vm_cos(ml_emit *e, ml_v x)
{
	return ml_vn_by_f64(e, x, cos_f64);
}

ml_v
ml_vm_tan(ml_emit *e, ml_v x)
{
	return ml_vn_by_f64(e, x, tan_f64);
}

ml_v
ml_vm_asin(ml_emit *e, ml_v x)
{
	return ml_vn_by_f64(e, x, asin_f64);
}

ml_v
ml_vm_acos(ml_emit *e, ml_v x)
{
	return ml_vn_by_f64(e, x, acos_f64);
}

ml_v
ml_vm_atan(ml_emit *e, ml_v x)
{
	return ml_vn_by_f64(e, x, atan_f64);
}
