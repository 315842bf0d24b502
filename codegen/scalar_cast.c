/* scalar_cast.c -- register forms of elements, conversions between dtypes, rounding to 16 bits. */
#include "scalar.h"
#include "scalar_narrow.h"

LLVMTypeRef
ml_register_type(ml_emit *e, ml_dtype t)
{
	if (t == ML_bool)
		return e->i1;
	if (t == ML_f64)
		return e->f64;
	if (ml_is_float(t))
		return e->f32;
	return LLVMIntTypeInContext(e->lc, (unsigned)ml_dtype_bits(t));
}

LLVMTypeRef
ml_memory_type(ml_emit *e, ml_dtype t)
{
	switch (t) {
	case ML_f64: return e->f64;
	case ML_f32: return e->f32;
	case ML_f16: return e->f16;
	default: return LLVMIntTypeInContext(e->lc, 8 * (unsigned)ml_dtype_bytes(t));
	}
}

bool
ml_is_vector(ml_v v)
{
	return LLVMGetTypeKind(LLVMTypeOf(v)) == LLVMVectorTypeKind;
}

LLVMTypeRef
ml_type_like(LLVMTypeRef element, ml_v like)
{
	if (!ml_is_vector(like))
		return element;
	return LLVMVectorType(element, LLVMGetVectorSize(LLVMTypeOf(like)));
}

ml_v
ml_splat_like(ml_emit *e, ml_v v, ml_v like)
{
	return ml_is_vector(like) && !ml_is_vector(v) ? ml_splat(e, v) : v;
}

static ml_v
int_like(LLVMTypeRef element, ml_v like, int64_t number)
{
	ml_v one = LLVMConstInt(element, (unsigned long long)number, 1), lane[ML_LANES];

	if (!ml_is_vector(like))
		return one;
	unsigned n = LLVMGetVectorSize(LLVMTypeOf(like));
	for (unsigned i = 0; i < n; i++)
		lane[i] = one;
	return LLVMConstVector(lane, n);
}

/* ---- memory ---- */

/* The upper half of an f32. */
static ml_v
bf16_from_memory(ml_emit *e, ml_v v)
{
	v = LLVMBuildZExt(e->b, v, ml_type_like(e->i32, v), "");
	v = LLVMBuildShl(e->b, v, int_like(e->i32, v, 16), "");
	return LLVMBuildBitCast(e->b, v, ml_type_like(e->f32, v), "");
}

static bool
is_part_of_byte(ml_dtype t)
{
	return ml_is_integer(t) && ml_dtype_bits(t) < 8;
}

ml_v
ml_from_memory(ml_emit *e, ml_dtype t, ml_v v)
{
	if (is_part_of_byte(t))
		return LLVMBuildTrunc(e->b, v, ml_type_like(ml_register_type(e, t), v), "");
	if (ml_dtype_format(t) && ml_dtype_bytes(t) == 1)
		return ml_narrow_from_memory(e, t, v);
	switch (t) {
	case ML_bool: return LLVMBuildICmp(e->b, LLVMIntNE, v, LLVMConstNull(LLVMTypeOf(v)), "");
	case ML_f16: return LLVMBuildFPExt(e->b, v, ml_type_like(e->f32, v), "");
	case ML_bf16: return bf16_from_memory(e, v);
	default: return v;
	}
}

ml_v
ml_to_memory(ml_emit *e, ml_dtype t, ml_v v)
{
	if (is_part_of_byte(t))
		return LLVMBuildIntCast2(e->b, v, ml_type_like(e->i8, v),
					 ml_dtype_kind_of(t) == ML_KIND_SIGNED, "");
	if (ml_dtype_format(t) && ml_dtype_bytes(t) == 1)
		return ml_narrow_to_memory(e, t, v);
	switch (t) {
	case ML_bool: return LLVMBuildZExt(e->b, v, ml_type_like(e->i8, v), "");
	case ML_f16: return LLVMBuildFPTrunc(e->b, v, ml_type_like(e->f16, v), "");
	case ML_bf16:
		v = LLVMBuildBitCast(e->b, v, ml_type_like(e->i32, v), "");
		v = LLVMBuildLShr(e->b, v, int_like(e->i32, v, 16), "");
		return LLVMBuildTrunc(e->b, v, ml_type_like(e->i16, v), "");
	default: return v;
	}
}

/* ---- constants ---- */

ml_v
ml_scalar_f64(ml_emit *e, ml_dtype t, double number)
{
	if (ml_is_float(t))
		return LLVMConstReal(ml_register_type(e, t), number);
	return ml_scalar_s64(e, t, (int64_t)number);
}

ml_v
ml_scalar_s64(ml_emit *e, ml_dtype t, int64_t number)
{
	if (ml_is_float(t))
		return ml_scalar_f64(e, t, (double)number);
	return LLVMConstInt(ml_register_type(e, t), (unsigned long long)number, 1);
}

ml_v
ml_scalar_of_const(ml_emit *e, const ml_value *v, int64_t i)
{
	ml_dtype t = v->type.dtype;

	return ml_is_float(t) ? ml_scalar_f64(e, t, ml_const_f64(v, i))
			      : ml_scalar_s64(e, t, ml_const_s64(v, i));
}

/* ---- rounding to f16 and bf16 ---- */

/* Round to nearest even on the bits; a NaN stays one, made quiet. */
static ml_v
round_bf16(ml_emit *e, ml_v v)
{
	LLVMTypeRef real = LLVMTypeOf(v);
	ml_v bits = LLVMBuildBitCast(e->b, v, ml_type_like(e->i32, v), "");
	ml_v odd = LLVMBuildAnd(e->b, LLVMBuildLShr(e->b, bits, int_like(e->i32, v, 16), ""),
				int_like(e->i32, v, 1), "");
	ml_v up = LLVMBuildAdd(e->b, LLVMBuildAdd(e->b, bits, int_like(e->i32, v, 0x7fff), ""), odd,
			       "");
	ml_v quiet = LLVMBuildOr(e->b, bits, int_like(e->i32, v, 0x400000), "");
	ml_v nan = LLVMBuildFCmp(e->b, LLVMRealUNO, v, v, "");

	bits = LLVMBuildSelect(e->b, nan, quiet, up, "");
	bits = LLVMBuildAnd(e->b, bits, int_like(e->i32, v, (int32_t)0xffff0000), "");
	return LLVMBuildBitCast(e->b, bits, real, "");
}

ml_v
ml_scalar_round(ml_emit *e, ml_dtype t, ml_v v)
{
	if (t == ML_bf16)
		return round_bf16(e, v);
	if (ml_dtype_format(t) && ml_dtype_bytes(t) == 1)
		return ml_narrow_round(e, t, v);
	return t == ML_f16 ? ml_from_memory(e, t, ml_to_memory(e, t, v)) : v;
}

/* f64 to f32, rounding to odd: the f32 can then be rounded again without a double error. */
static ml_v
round_to_odd(ml_emit *e, ml_v v)
{
	LLVMTypeRef f32 = ml_type_like(e->f32, v), i32 = ml_type_like(e->i32, v);
	LLVMTypeRef f64 = LLVMTypeOf(v);
	ml_v near = LLVMBuildFPTrunc(e->b, v, f32, ""), back = LLVMBuildFPExt(e->b, near, f64, "");
	ml_v inexact = LLVMBuildFCmp(e->b, LLVMRealONE, back, v, "");
	ml_v above =
		LLVMBuildFCmp(e->b, LLVMRealOGT, ml_intrinsic(e, "llvm.fabs", &f64, 1, &back, 1),
			      ml_intrinsic(e, "llvm.fabs", &f64, 1, &v, 1), "");
	ml_v bits = LLVMBuildBitCast(e->b, near, i32, "");

	bits = LLVMBuildSub(e->b, bits, LLVMBuildZExt(e->b, above, i32, ""), "");
	bits = LLVMBuildOr(e->b, bits, LLVMBuildZExt(e->b, inexact, i32, ""), "");
	return LLVMBuildBitCast(e->b, bits, f32, "");
}

/* ---- casts ---- */

static ml_v
float_to_float(ml_emit *e, ml_dtype from, ml_dtype to, ml_v v)
{
	if (from == to)
		return v;
	if (to == ML_f64)
		return LLVMBuildFPExt(e->b, v, ml_type_like(e->f64, v), "");
	if (from == ML_f64)
		v = to == ML_f32 ? LLVMBuildFPTrunc(e->b, v, ml_type_like(e->f32, v), "")
				 : round_to_odd(e, v);
	return ml_scalar_round(e, to, v);
}

static ml_v
real_like(LLVMTypeRef type, ml_v like, double number)
{
	ml_v one = LLVMConstReal(type, number), lane[ML_LANES];

	if (!ml_is_vector(like))
		return one;
	unsigned n = LLVMGetVectorSize(LLVMTypeOf(like));
	for (unsigned i = 0; i < n; i++)
		lane[i] = one;
	return LLVMConstVector(lane, n);
}

/* To 8 and 16 bits by way of clamped 32: LLVM takes its saturating conversions of vectors to
 * narrow integers apart. */
static ml_v
float_to_narrow(ml_emit *e, ml_dtype to, ml_v v)
{
	bool is_signed = ml_dtype_kind_of(to) == ML_KIND_SIGNED;
	int bits = ml_dtype_bits(to);
	LLVMTypeRef type = ml_is_vector(v) ? LLVMGetElementType(LLVMTypeOf(v)) : LLVMTypeOf(v);
	ml_v low = real_like(type, v, is_signed ? -(double)(1 << (bits - 1)) : 0);
	ml_v high = real_like(type, v, (double)(is_signed ? (1 << (bits - 1)) : (1 << bits)) - 1);

	if (is_signed) { /* unsigned: the lower bound is what a NaN becomes */
		ml_v number = LLVMBuildFCmp(e->b, LLVMRealORD, v, v, "");
		v = LLVMBuildSelect(e->b, number, v, LLVMConstNull(LLVMTypeOf(v)), "");
	}
	v = LLVMBuildSelect(e->b, LLVMBuildFCmp(e->b, LLVMRealOGT, v, low, ""), v, low, "");
	v = LLVMBuildSelect(e->b, LLVMBuildFCmp(e->b, LLVMRealOLT, v, high, ""), v, high, "");
	v = LLVMBuildFPToSI(e->b, v, ml_type_like(e->i32, v), "");
	return LLVMBuildTrunc(e->b, v, ml_type_like(ml_register_type(e, to), v), "");
}

static ml_v
float_to_int(ml_emit *e, ml_dtype to, ml_v v)
{
	bool is_signed = ml_dtype_kind_of(to) == ML_KIND_SIGNED;

	if (ml_dtype_bytes(to) < 4)
		return float_to_narrow(e, to, v);
	LLVMTypeRef types[] = {ml_type_like(ml_register_type(e, to), v), LLVMTypeOf(v)};

	return ml_intrinsic(e, is_signed ? "llvm.fptosi.sat" : "llvm.fptoui.sat", types, 2, &v, 1);
}

static ml_v
int_to_float(ml_emit *e, ml_dtype from, ml_dtype to, ml_v v)
{
	bool is_signed = ml_dtype_kind_of(from) == ML_KIND_SIGNED;
	bool narrow = ml_dtype_format(to) != NULL;
	LLVMTypeRef type = ml_type_like(to == ML_f32 ? e->f32 : e->f64, v);

	v = is_signed ? LLVMBuildSIToFP(e->b, v, type, "") : LLVMBuildUIToFP(e->b, v, type, "");
	return narrow ? float_to_float(e, ML_f64, to, v) : v;
}

static ml_v
int_to_int(ml_emit *e, ml_dtype from, ml_dtype to, ml_v v)
{
	LLVMTypeRef type = ml_type_like(ml_register_type(e, to), v);

	return LLVMBuildIntCast2(e->b, v, type, ml_dtype_kind_of(from) == ML_KIND_SIGNED, "");
}

ml_v
ml_scalar_cast(ml_emit *e, ml_dtype from, ml_dtype to, ml_v v)
{
	ml_v zero = LLVMConstNull(LLVMTypeOf(v));

	if (from == to)
		return v;
	if (ml_is_float(from)) {
		if (to == ML_bool)
			return LLVMBuildFCmp(e->b, LLVMRealUNE, v, zero, "");
		return ml_is_float(to) ? float_to_float(e, from, to, v) : float_to_int(e, to, v);
	}
	if (to == ML_bool)
		return LLVMBuildICmp(e->b, LLVMIntNE, v, zero, "");
	return ml_is_float(to) ? int_to_float(e, from, to, v) : int_to_int(e, from, to, v);
}
