/* vmath_number.c -- small words shared by the elementary functions. */
#include "vmath_number.h"

static LLVMTypeRef
element_of(ml_v v)
{
	LLVMTypeRef t = LLVMTypeOf(v);

	return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? LLVMGetElementType(t) : t;
}

/* The type `element` in as many lanes as `like` has. */
static LLVMTypeRef
in_lanes(ml_v like, LLVMTypeRef element)
{
	LLVMTypeRef t = LLVMTypeOf(like);

	return LLVMGetTypeKind(t) == LLVMVectorTypeKind
		       ? LLVMVectorType(element, LLVMGetVectorSize(t))
		       : element;
}

static ml_v
repeat(ml_v like, ml_v scalar)
{
	ml_v lanes[4 * ML_LANES];
	LLVMTypeRef t = LLVMTypeOf(like);

	if (LLVMGetTypeKind(t) != LLVMVectorTypeKind)
		return scalar;
	unsigned n = LLVMGetVectorSize(t);
	for (unsigned i = 0; i < n; i++)
		lanes[i] = scalar;
	return LLVMConstVector(lanes, n);
}

bool
ml_vn_is_f32(ml_emit *e, ml_v like)
{
	return element_of(like) == e->f32;
}

int
ml_vn_mantissa(ml_emit *e, ml_v like)
{
	return ml_vn_is_f32(e, like) ? 23 : 52;
}

int
ml_vn_bias(ml_emit *e, ml_v like)
{
	return ml_vn_is_f32(e, like) ? 127 : 1023;
}

ml_v
ml_vn_const(ml_emit *e, ml_v like, double value)
{
	(void)e;
	return repeat(like, LLVMConstReal(element_of(like), value));
}

ml_v
ml_vn_int(ml_emit *e, ml_v like, int64_t value)
{
	LLVMTypeRef type = ml_vn_is_f32(e, like) ? e->i32 : e->i64;

	return repeat(like, LLVMConstInt(type, (unsigned long long)value, 1));
}

ml_v
ml_vn_to_bits(ml_emit *e, ml_v x)
{
	return LLVMBuildBitCast(e->b, x, in_lanes(x, ml_vn_is_f32(e, x) ? e->i32 : e->i64), "");
}

ml_v
ml_vn_from_bits(ml_emit *e, ml_v bits, ml_v like)
{
	return LLVMBuildBitCast(e->b, bits, LLVMTypeOf(like), "");
}

ml_v
ml_vn_add(ml_emit *e, ml_v a, ml_v b)
{
	return LLVMBuildFAdd(e->b, a, b, "");
}

ml_v
ml_vn_sub(ml_emit *e, ml_v a, ml_v b)
{
	return LLVMBuildFSub(e->b, a, b, "");
}

ml_v
ml_vn_mul(ml_emit *e, ml_v a, ml_v b)
{
	return LLVMBuildFMul(e->b, a, b, "");
}

ml_v
ml_vn_div(ml_emit *e, ml_v a, ml_v b)
{
	return LLVMBuildFDiv(e->b, a, b, "");
}

ml_v
ml_vn_neg(ml_emit *e, ml_v a)
{
	return LLVMBuildFNeg(e->b, a, "");
}

static ml_v
call(ml_emit *e, const char *name, ml_v a, ml_v b)
{
	LLVMTypeRef type = LLVMTypeOf(a);

	return ml_intrinsic(e, name, &type, 1, (ml_v[]){a, b}, b ? 2 : 1);
}

ml_v
ml_vn_abs(ml_emit *e, ml_v a)
{
	return call(e, "llvm.fabs", a, NULL);
}

ml_v
ml_vn_sqrt(ml_emit *e, ml_v a)
{
	return call(e, "llvm.sqrt", a, NULL);
}

ml_v
ml_vn_round(ml_emit *e, ml_v a)
{
	return call(e, "llvm.roundeven", a, NULL);
}

ml_v
ml_vn_copysign(ml_emit *e, ml_v magnitude, ml_v sign)
{
	return call(e, "llvm.copysign", magnitude, sign);
}

ml_v
ml_vn_less(ml_emit *e, ml_v a, ml_v b)
{
	return LLVMBuildFCmp(e->b, LLVMRealOLT, a, b, "");
}

ml_v
ml_vn_equal(ml_emit *e, ml_v a, ml_v b)
{
	return LLVMBuildFCmp(e->b, LLVMRealOEQ, a, b, "");
}

ml_v
ml_vn_select(ml_emit *e, ml_v condition, ml_v yes, ml_v no)
{
	return LLVMBuildSelect(e->b, condition, yes, no, "");
}

ml_v
ml_vn_at_most(ml_emit *e, ml_v x, double limit)
{
	ml_v c = ml_vn_const(e, x, limit);

	return ml_vn_select(e, ml_vn_less(e, c, x), c, x);
}

ml_v
ml_vn_at_least(ml_emit *e, ml_v x, double limit)
{
	ml_v c = ml_vn_const(e, x, limit);

	return ml_vn_select(e, ml_vn_less(e, x, c), c, x);
}

enum {
	FIRST_POWERS = 2, /* their rounding errors are the ones that show */
	LONG_POLY = 8,
};

static ml_v
horner(ml_emit *e, ml_v x, const double *c, int n, int stride, ml_v y)
{
	for (int i = n - 1; i >= 0; i--) {
		ml_v term = ml_vn_const(e, x, c[i * stride]);
		y = y ? ml_fma(e, y, x, term) : term;
	}
	return y;
}

/* High powers as two chains, the even and the odd ones: each step waits for the one before it, and
 * a CPU has no room for enough elements to fill the waiting. */
ml_v
ml_vn_poly(ml_emit *e, ml_v x, const double *c, int n)
{
	const double *high = c + FIRST_POWERS;
	int left = n - FIRST_POWERS;

	if (n < LONG_POLY)
		return horner(e, x, c, n, 1, NULL);
	ml_v square = ml_vn_mul(e, x, x);
	ml_v even = horner(e, square, high, (left + 1) / 2, 2, NULL);
	ml_v odd = horner(e, square, high + 1, left / 2, 2, NULL);
	return horner(e, x, c, FIRST_POWERS, 1, ml_fma(e, odd, x, even));
}

ml_v
ml_vn_by_f64(ml_emit *e, ml_v x, ml_v (*f)(ml_emit *, ml_v))
{
	LLVMTypeRef type = LLVMTypeOf(x);

	if (!ml_vn_is_f32(e, x))
		return f(e, x);
	x = f(e, LLVMBuildFPExt(e->b, x, in_lanes(x, e->f64), ""));
	return LLVMBuildFPTrunc(e->b, x, type, "");
}
