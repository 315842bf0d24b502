/* vmath_exp.c -- exp and the functions made of it: expm1, sigmoid, tanh, sinh, cosh, erf, xcdf.
 *
 * All polynomials of these files interpolate the stated function at the Chebyshev points of the
 * stated interval, computed with 60 digits.
 */
#include "vmath_number.h"

/* (exp(r) - 1 - r) / r^2, |r| <= 0.35 */
static const double exp_f32[] = {0.5, 0.16666573286056519, 0.04166654869914055,
				 0.008363774046301842, 0.0013926926767453551};
static const double exp_f64[] = {0.5,
				 0.1666666666666667,
				 0.04166666666666667,
				 0.008333333333325544,
				 0.0013888888888883327,
				 0.00019841269876864356,
				 2.4801587327007187e-05,
				 2.755725283351691e-06,
				 2.75572718102198e-07,
				 2.5106274733573296e-08,
				 2.0915442297780116e-09};
/* log(2) in two parts: products of the first with exponents are exact */
static const double log2_f32[] = {0.693115234375, 3.1946184945309415e-05};
static const double log2_f64[] = {0x1.62e42fee00000p-1, 0x1.a39ef35793c76p-33};

/* exp(x) = 2^n (1 + p) */
typedef struct scaled {
	ml_v n;     /* integer */
	ml_v minus; /* -n as a float */
	ml_v p;
} scaled;

static scaled
reduce(ml_emit *e, ml_v x, ml_v low)
{
	bool f32 = ml_vn_is_f32(e, x);
	const double *log2 = f32 ? log2_f32 : log2_f64;
	/* Adding 1.5 * 2^mantissa rounds to an integer, which then stands in the low bits; unlike a
	 * conversion this is defined for NaN, too. */
	ml_v magic = ml_vn_const(e, x, f32 ? 0x1.8p23 : 0x1.8p52);
	ml_v t = ml_fma(e, x, ml_vn_const(e, x, 1.4426950408889634), magic);
	ml_v n = ml_vn_neg(e, ml_vn_sub(e, t, magic));
	ml_v r = ml_fma(e, n, ml_vn_const(e, x, log2[0]), x);
	scaled s;

	s.minus = n;
	r = ml_fma(e, n, ml_vn_const(e, x, log2[1]), r);
	if (low)
		r = ml_vn_add(e, r, low);
	ml_v q = f32 ? ML_VN_POLY(e, r, exp_f32) : ML_VN_POLY(e, r, exp_f64);
	s.p = ml_fma(e, ml_vn_mul(e, r, r), q, r);
	s.n = LLVMBuildSub(e->b, ml_vn_to_bits(e, t), ml_vn_to_bits(e, magic), "");
	return s;
}

/* 2^n for an integer n in the exponent's normal range */
static ml_v
power_of_two(ml_emit *e, ml_v n, ml_v like)
{
	ml_v biased = LLVMBuildAdd(e->b, n, ml_vn_int(e, like, ml_vn_bias(e, like)), "");
	ml_v shift = ml_vn_int(e, like, ml_vn_mantissa(e, like));

	return ml_vn_from_bits(e, LLVMBuildShl(e->b, biased, shift, ""), like);
}

/* y 2^n, rounded once: denormal results, too.  AVX-512 has an instruction; others go in two steps,
 * so that 2^n need not be normal. */
static ml_v
scale_by(ml_emit *e, const scaled *s, ml_v y)
{
	if (e->target->vector_bits == 512 && LLVMTypeOf(y) == ml_vec_type(e->f32)) {
		ml_v every = LLVMConstInt(e->i16, 0xffff, 0), rounding = ml_i32(e, 4); /* as set */
		ml_v args[] = {y, ml_vn_neg(e, s->minus), y, every, rounding};
		return ml_intrinsic(e, "llvm.x86.avx512.mask.scalef.ps.512", NULL, 0, args, 5);
	}
	ml_v half = LLVMBuildAShr(e->b, s->n, ml_vn_int(e, y, 1), "");
	ml_v rest = LLVMBuildSub(e->b, s->n, half, "");

	y = ml_vn_mul(e, y, power_of_two(e, half, y));
	return ml_vn_mul(e, y, power_of_two(e, rest, y));
}

ml_v
ml_vn_exp(ml_emit *e, ml_v x, ml_v low)
{
	bool f32 = ml_vn_is_f32(e, x);

	/* beyond these the result is 0 or infinite whatever x is */
	x = ml_vn_at_least(e, ml_vn_at_most(e, x, f32 ? 89 : 710), f32 ? -104 : -746);
	scaled s = reduce(e, x, low);
	return scale_by(e, &s, ml_vn_add(e, s.p, ml_vn_const(e, x, 1)));
}

ml_v
ml_vm_exp(ml_emit *e, ml_v x)
{
	return ml_vn_exp(e, x, NULL);
}

ml_v
ml_vm_exp_below(ml_emit *e, ml_v x)
{
	/* the integer in the low bits is the exponent as floats have it, 0 at -127 */
	ml_v magic = ml_vn_const(e, x, 0x1.8p23 + 127), one = ml_vn_const(e, x, 1);

	x = ml_vn_at_least(e, x, -88.1);
	ml_v t = ml_fma(e, x, ml_vn_const(e, x, 1.4426950408889634), magic);
	ml_v n = ml_vn_neg(e, ml_vn_sub(e, t, magic));
	ml_v r = ml_fma(e, n, ml_vn_const(e, x, log2_f32[0]), x);
	r = ml_fma(e, n, ml_vn_const(e, x, log2_f32[1]), r);
	ml_v y = ml_fma(e, r, ml_fma(e, r, ML_VN_POLY(e, r, exp_f32), one), one);
	ml_v power = LLVMBuildShl(e->b, ml_vn_to_bits(e, t), ml_vn_int(e, x, 23), "");

	return ml_vn_mul(e, y, ml_vn_from_bits(e, power, x));
}

/* 2^x, |x| <= 0.5 */
static const double exp2_short[] = {0.9999245569508708, 0.6931367338836214, 0.24263947854625845,
				    0.055838282946220126};

ml_v
ml_vm_exp_short(ml_emit *e, ml_v x)
{
	/* the integer in the low bits is the exponent as floats have it, 0 at -127 */
	ml_v magic = ml_vn_const(e, x, 0x1.8p23 + 127);
	ml_v t = ml_vn_at_least(e, ml_vn_mul(e, x, ml_vn_const(e, x, 1.4426950408889634)), -127);
	ml_v n = ml_vn_add(e, t, magic);
	ml_v r = ml_vn_sub(e, t, ml_vn_sub(e, n, magic));
	ml_v power = LLVMBuildShl(e->b, ml_vn_to_bits(e, n), ml_vn_int(e, x, 23), "");

	return ml_vn_mul(e, ML_VN_POLY(e, r, exp2_short), ml_vn_from_bits(e, power, x));
}

/* exp(x) - 1 for |x| <= 40 */
static ml_v
expm1_near(ml_emit *e, ml_v x)
{
	scaled s = reduce(e, x, NULL);
	ml_v scale = power_of_two(e, s.n, x);

	return ml_fma(e, scale, s.p, ml_vn_sub(e, scale, ml_vn_const(e, x, 1)));
}

ml_v
ml_vm_expm1(ml_emit *e, ml_v x)
{
	ml_v near = expm1_near(e, ml_vn_at_least(e, ml_vn_at_most(e, x, 40), -40));
	ml_v large = ml_vn_less(e, ml_vn_const(e, x, 40), x);
	ml_v zero = ml_vn_equal(e, x, ml_vn_const(e, x, 0)); /* keeps the sign of -0 */

	return ml_vn_select(e, zero, x, ml_vn_select(e, large, ml_vm_exp(e, x), near));
}

/* Written with exp(-|x|) <= 1, so that nothing overflows and small results keep all their bits. */
ml_v
ml_vm_sigmoid(ml_emit *e, ml_v x)
{
	ml_v one = ml_vn_const(e, x, 1);
	ml_v t = ml_vm_exp(e, ml_vn_neg(e, ml_vn_abs(e, x)));
	ml_v negative = ml_vn_less(e, x, ml_vn_const(e, x, 0));

	return ml_vn_div(e, ml_vn_select(e, negative, t, one), ml_vn_add(e, one, t));
}

/* m / (m + 2), m = exp(2 |x|) - 1; beyond the limit that is 1 */
ml_v
ml_vm_tanh(ml_emit *e, ml_v x)
{
	ml_v twice = ml_vn_mul(e, ml_vn_abs(e, x), ml_vn_const(e, x, 2));
	ml_v m = expm1_near(e, ml_vn_at_most(e, twice, ml_vn_is_f32(e, x) ? 20 : 40));

	return ml_vn_copysign(e, ml_vn_div(e, m, ml_vn_add(e, m, ml_vn_const(e, x, 2))), x);
}

/* (m + m / (m + 1)) / 2, m = exp(|x|) - 1; large |x|: exp(|x|) / 2 as a product that overflows only
 * when the result does */
static ml_v
sinh_f64(ml_emit *e, ml_v x)
{
	ml_v one = ml_vn_const(e, x, 1), half = ml_vn_const(e, x, 0.5), a = ml_vn_abs(e, x);
	ml_v m = expm1_near(e, ml_vn_at_most(e, a, 40));
	ml_v near = ml_vn_add(e, m, ml_vn_div(e, m, ml_vn_add(e, m, one)));
	ml_v root = ml_vm_exp(e, ml_vn_mul(e, a, half));
	ml_v far = ml_vn_mul(e, ml_vn_mul(e, root, half), root);
	ml_v is_near = ml_vn_less(e, a, ml_vn_const(e, x, 39));

	return ml_vn_copysign(e, ml_vn_select(e, is_near, ml_vn_mul(e, near, half), far), x);
}

static ml_v
cosh_f64(ml_emit *e, ml_v x)
{
	ml_v half = ml_vn_const(e, x, 0.5);
	ml_v root = ml_vm_exp(e, ml_vn_mul(e, ml_vn_abs(e, x), half));
	ml_v small = ml_vn_div(e, half, ml_vn_mul(e, root, root));

	return ml_fma(e, ml_vn_mul(e, root, half), root, small);
}

ml_v
ml_vm_sinh(ml_emit *e, ml_v x)
{
	return ml_vn_by_f64(e, x, sinh_f64);
}

ml_v
ml_vm_cosh(ml_emit *e, ml_v x)
{
	return ml_vn_by_f64(e, x, cosh_f64);
}

/* erf(x) / x, x^2 = 3.92^2 / 2 * (1 + y), |y| <= 1; beyond 3.92 erf rounds to 1 */
static const double erf_f32[] = {
	0.36073681712150574,   -0.18010856211185455,  0.1340833604335785,    -0.10918180644512177,
	0.09062331169843674,   -0.07399038225412369,  0.05817710608243942,   -0.04358337074518204,
	0.03058619238436222,   -0.0196232832968235,   0.01225953083485365,   -0.008162879385054111,
	0.004282949026674032,  -0.001050358870998025, 0.0006125363288447261, -0.000937914359383285,
	0.00037880096351727843};
/* erf(x) / x in x^2 <= 1 */
static const double erf_near[] = {
	1.1283791670955126,      -0.3761263890318375,     0.11283791670954879,
	-0.026866170645076792,   0.0052239776248180145,   -0.000854832698083379,
	0.0001205533111164271,   -1.4925595266831182e-05, 1.6461000484121368e-06,
	-1.6350312701054695e-07, 1.4659775274047436e-08,  -1.1372848856791674e-09,
	5.957176147748911e-11};
/* exp(t^2) (1 - erf(t)) in u = (t - 2.5) / (t + 2.5), 1 <= t <= 6 */
static const double erf_far[] = {
	0.2108063640611436,      -0.3717367339489734,     0.2517131932174494,
	-0.1250330523788247,     0.039922539075574935,    -0.003993701166223159,
	-0.002642365963784453,   0.0008759154630794508,   0.00022838036598153182,
	-0.00012887741536369735, -3.4182063549802165e-05, 1.8617072081910595e-05,
	7.5513017799442535e-06,  -2.3140931150942177e-06, -1.79706306540687e-06,
	1.2966926825389417e-07,  3.3657006736237105e-07};

static ml_v
erf_of_f32(ml_emit *e, ml_v x)
{
	ml_v a = ml_vn_at_most(e, ml_vn_abs(e, x), 3.92);
	ml_v y = ml_fma(e, ml_vn_mul(e, a, a), ml_vn_const(e, x, 2 / (3.92 * 3.92)),
			ml_vn_const(e, x, -1));

	a = ml_vn_at_most(e, ml_vn_mul(e, a, ML_VN_POLY(e, y, erf_f32)), 1);
	return ml_vn_copysign(e, a, x);
}

static ml_v
erf_of_f64(ml_emit *e, ml_v x)
{
	ml_v a = ml_vn_abs(e, x), one = ml_vn_const(e, x, 1), middle = ml_vn_const(e, x, 2.5);
	ml_v z = ml_vn_at_most(e, ml_vn_mul(e, a, a), 1);
	ml_v near = ml_vn_mul(e, a, ML_VN_POLY(e, z, erf_near));
	ml_v t = ml_vn_at_least(e, ml_vn_at_most(e, a, 6), 1);
	ml_v u = ml_vn_div(e, ml_vn_sub(e, t, middle), ml_vn_add(e, t, middle));
	ml_v tail = ml_vn_mul(e, ml_vm_exp(e, ml_vn_neg(e, ml_vn_mul(e, t, t))),
			      ML_VN_POLY(e, u, erf_far));
	ml_v far = ml_vn_sub(e, one, tail);

	return ml_vn_copysign(e, ml_vn_select(e, ml_vn_less(e, a, one), near, far), x);
}

ml_v
ml_vm_erf(ml_emit *e, ml_v x)
{
	return ml_vn_is_f32(e, x) ? erf_of_f32(e, x) : erf_of_f64(e, x);
}

/* The fourth root of Phi(-a), a up to 5.75: a polynomial reaches it with half the terms that Phi
 * itself needs, and two squarings undo it. */
static const double normal_root[] = {
	0.840896487236023,      -0.16773653030395508,  -0.05018129199743271,
	0.004610088188201189,   0.0038410478737205267, -6.273673352552578e-05,
	-0.0002983979939017445, 5.690739635610953e-05, -3.3000001167238224e-06};

/* max(x, 0) - |x| Phi(-|x|), off by 3e-7 at most, by 3e-7 |x| around 0; x from 5.75
 * up, and what is left of x below -5.75, which is within 1e-9 of 0. */
static ml_v
xcdf_of_f32(ml_emit *e, ml_v x)
{
	enum { TERMS = sizeof normal_root / sizeof *normal_root };
	ml_v a = ml_vn_at_most(e, ml_vn_abs(e, x), 5.75);
	ml_v tail = ml_vn_const(e, x, normal_root[TERMS - 1]);

	/* one chain: there is enough else to do while it waits, and two would be a step more */
	for (int i = TERMS - 1; i-- > 0;)
		tail = ml_fma(e, tail, a, ml_vn_const(e, x, normal_root[i]));
	tail = ml_vn_mul(e, tail, tail);
	tail = ml_vn_mul(e, tail, tail);
	return ml_fma(e, ml_vn_neg(e, a), tail, ml_vn_at_least(e, x, 0));
}

static ml_v
xcdf_of_f64(ml_emit *e, ml_v x)
{
	ml_v half = ml_vn_const(e, x, 0.5), a = ml_vn_at_least(e, x, -40); /* 0 below, not inf 0 */
	ml_v y = erf_of_f64(e, ml_vn_mul(e, a, ml_vn_const(e, x, 0.70710678118654752)));

	return ml_vn_mul(e, a, ml_fma(e, half, y, half));
}

ml_v
ml_vm_xcdf(ml_emit *e, ml_v x)
{
	return ml_vn_is_f32(e, x) ? xcdf_of_f32(e, x) : xcdf_of_f64(e, x);
}
