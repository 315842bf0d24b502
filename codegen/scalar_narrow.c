/* scalar_narrow.c -- floats of 4 and 8 bits: rounding an f32 to them, codes to f32 and back. */
#include "scalar_narrow.h"
#include <math.h>

/* A format under emission; numbers come as splats where `like` is a vector. */
typedef struct narrow {
	ml_emit *e;
	const ml_float_format *f;
	LLVMTypeRef i32, f32;
	int shift;         /* fraction bits of f32 that the format has not */
	uint32_t sign;     /* the code's sign bit */
	uint32_t rebiased; /* what an f32's bits, shifted, have more than a code */
	ml_v like;
} narrow;

static narrow
begin(ml_emit *e, ml_dtype t, ml_v like)
{
	const ml_float_format *f = ml_dtype_format(t);

	return (narrow){.e = e,
			.f = f,
			.i32 = ml_type_like(e->i32, like),
			.f32 = ml_type_like(e->f32, like),
			.shift = 23 - f->fraction,
			.sign = 1u << (ml_dtype_bits(t) - 1),
			.rebiased = (uint32_t)(126 + f->min_exponent) << f->fraction,
			.like = like};
}

static ml_v
integer(const narrow *n, uint32_t number)
{
	return ml_splat_like(n->e, LLVMConstInt(n->e->i32, number, 0), n->like);
}

static ml_v
real(const narrow *n, double number)
{
	return ml_splat_like(n->e, LLVMConstReal(n->e->f32, number), n->like);
}

static ml_v
bits_of(const narrow *n, ml_v v)
{
	return LLVMBuildBitCast(n->e->b, v, n->i32, "");
}

static ml_v
float_of(const narrow *n, ml_v bits)
{
	return LLVMBuildBitCast(n->e->b, bits, n->f32, "");
}

static ml_v
magnitude(const narrow *n, ml_v v)
{
	LLVMTypeRef type = n->f32;

	return ml_intrinsic(n->e, "llvm.fabs", &type, 1, &v, 1);
}

static ml_v
is_nan(const narrow *n, ml_v v)
{
	return LLVMBuildFCmp(n->e->b, LLVMRealUNO, v, v, "");
}

static ml_v
is_subnormal(const narrow *n, ml_v size)
{
	return LLVMBuildFCmp(n->e->b, LLVMRealOLT, size, real(n, ldexp(1, n->f->min_exponent)), "");
}

/* To nearest even: on the bits, or where the last place is fixed, by adding what makes it that of
 * the sum. */
static ml_v
round_size(const narrow *n, ml_v size)
{
	LLVMBuilderRef b = n->e->b;
	ml_v bits = bits_of(n, size), fixed = real(n, ldexp(1, n->f->min_exponent + n->shift));
	ml_v odd = LLVMBuildAnd(b, LLVMBuildLShr(b, bits, integer(n, (uint32_t)n->shift), ""),
				integer(n, 1), "");
	ml_v half = integer(n, (1u << (n->shift - 1)) - 1);
	ml_v up = LLVMBuildAdd(b, LLVMBuildAdd(b, bits, half, ""), odd, "");
	ml_v near = LLVMBuildAnd(b, up, integer(n, ~((1u << n->shift) - 1)), "");
	ml_v tiny = LLVMBuildFSub(b, LLVMBuildFAdd(b, size, fixed, ""), fixed, "");

	return LLVMBuildSelect(b, is_subnormal(n, size), tiny, float_of(n, near), "");
}

ml_v
ml_narrow_round(ml_emit *e, ml_dtype t, ml_v v)
{
	narrow n = begin(e, t, v);
	ml_special special = n.f->special;
	double beyond = special == ML_SPECIAL_TOP_EXPONENT ? INFINITY
			: special == ML_SPECIAL_NONE       ? n.f->largest
							   : NAN;
	ml_v size = round_size(&n, magnitude(&n, v));
	ml_v over = LLVMBuildFCmp(e->b, LLVMRealOGT, size, real(&n, n.f->largest), "");
	LLVMTypeRef type = n.f32;

	size = LLVMBuildSelect(e->b, over, real(&n, beyond), size, "");
	ml_v result = ml_intrinsic(e, "llvm.copysign", &type, 1, (ml_v[]){size, v}, 2);
	if (special == ML_SPECIAL_MINUS_ZERO) { /* -0 and 0 become 0 */
		ml_v none = LLVMBuildFCmp(e->b, LLVMRealOEQ, size, real(&n, 0), "");
		result = LLVMBuildSelect(e->b, none, real(&n, 0), result, "");
	}
	ml_v nan = special == ML_SPECIAL_NONE ? real(&n, -0.) : v;
	return LLVMBuildSelect(e->b, is_nan(&n, v), nan, result, "");
}

ml_v
ml_narrow_to_memory(ml_emit *e, ml_dtype t, ml_v v)
{
	narrow n = begin(e, t, v);
	LLVMBuilderRef b = e->b;
	ml_v size = magnitude(&n, v);
	ml_v code = LLVMBuildLShr(b, bits_of(&n, size), integer(&n, (uint32_t)n.shift), "");
	ml_v steps = real(&n, ldexp(1, n.f->fraction - n.f->min_exponent));
	ml_v tiny = LLVMBuildFPToSI(b, LLVMBuildFMul(b, size, steps, ""), n.i32, "");
	ml_v sign = LLVMBuildLShr(b, bits_of(&n, v), integer(&n, 31), "");
	uint32_t infinity = n.sign - (1u << n.f->fraction), nan = n.sign - 1;

	code = LLVMBuildSub(b, code, integer(&n, n.rebiased), "");
	code = LLVMBuildSelect(b, is_subnormal(&n, size), tiny, code, "");
	if (n.f->special == ML_SPECIAL_TOP_EXPONENT) {
		ml_v over = LLVMBuildFCmp(b, LLVMRealOEQ, size, real(&n, INFINITY), "");
		code = LLVMBuildSelect(b, over, integer(&n, infinity), code, "");
		nan = infinity | 1u << (n.f->fraction - 1);
	}
	if (n.f->special == ML_SPECIAL_MINUS_ZERO)
		nan = n.sign;
	code = LLVMBuildSelect(b, is_nan(&n, v), integer(&n, nan), code, "");
	code = LLVMBuildOr(b, code, LLVMBuildMul(b, sign, integer(&n, n.sign), ""), "");
	return LLVMBuildTrunc(b, code, ml_type_like(e->i8, v), "");
}

/* Codes that are no numbers. */
static ml_v
special_value(const narrow *n, ml_v code, ml_v size, ml_v value)
{
	LLVMBuilderRef b = n->e->b;
	uint32_t infinity = n->sign - (1u << n->f->fraction);
	ml_v all = LLVMBuildAnd(b, code, integer(n, 2 * n->sign - 1), "");
	ml_v test, is_infinite;

	switch (n->f->special) {
	case ML_SPECIAL_TOP_EXPONENT:
		test = LLVMBuildICmp(b, LLVMIntUGE, size, integer(n, infinity), "");
		is_infinite = LLVMBuildICmp(b, LLVMIntEQ, size, integer(n, infinity), "");
		return LLVMBuildSelect(
			b, test,
			LLVMBuildSelect(b, is_infinite, real(n, INFINITY), real(n, NAN), ""), value,
			"");
	case ML_SPECIAL_TOP_CODE:
		test = LLVMBuildICmp(b, LLVMIntEQ, size, integer(n, n->sign - 1), "");
		break;
	case ML_SPECIAL_MINUS_ZERO:
		test = LLVMBuildICmp(b, LLVMIntEQ, all, integer(n, n->sign), "");
		break;
	default: return value;
	}
	return LLVMBuildSelect(b, test, real(n, NAN), value, "");
}

ml_v
ml_narrow_from_memory(ml_emit *e, ml_dtype t, ml_v v)
{
	narrow n = begin(e, t, v);
	LLVMBuilderRef b = e->b;
	ml_v code = LLVMBuildZExt(b, v, n.i32, "");
	ml_v size = LLVMBuildAnd(b, code, integer(&n, n.sign - 1), "");
	ml_v minus = LLVMBuildAnd(b, code, integer(&n, n.sign), "");
	ml_v bits = LLVMBuildShl(b, LLVMBuildAdd(b, size, integer(&n, n.rebiased), ""),
				 integer(&n, (uint32_t)n.shift), "");
	ml_v step = real(&n, ldexp(1, n.f->min_exponent - n.f->fraction));
	ml_v tiny = LLVMBuildFMul(b, LLVMBuildSIToFP(b, size, n.f32, ""), step, "");
	ml_v is_tiny = LLVMBuildICmp(b, LLVMIntULT, size, integer(&n, 1u << n.f->fraction), "");
	ml_v value = LLVMBuildSelect(b, is_tiny, tiny, float_of(&n, bits), "");

	value = special_value(&n, code, size, value);
	minus = LLVMBuildMul(b, minus, integer(&n, 0x80000000u / n.sign), "");
	return float_of(&n, LLVMBuildOr(b, bits_of(&n, value), minus, ""));
}
