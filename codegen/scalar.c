/* scalar.c -- one function per elementwise operator, on scalars or 16-lane vectors. */
#include "expr.h"
#include "scalar.h"
#include "vmath.h"
#include <assert.h>
#include <math.h>

/* An operator under emission: operand type t, and what that implies. */
typedef struct op_args {
	ml_emit *e;
	ml_op op;
	ml_dtype t;
	bool real, is_signed;
	LLVMTypeRef type; /* of in[0] */
	ml_v *in;
} op_args;
typedef ml_v op_fn(const op_args *);

static ml_v
zero(const op_args *a)
{
	return LLVMConstNull(a->type);
}

static ml_v
number(const op_args *a, int64_t n)
{
	return ml_splat_like(a->e, ml_scalar_s64(a->e, a->t, n), a->in[0]);
}

static ml_v
call(const op_args *a, const char *intrinsic, int n)
{
	return ml_intrinsic(a->e, intrinsic, (LLVMTypeRef *)&a->type, 1, a->in, n);
}

static ml_v
icmp(const op_args *a, LLVMIntPredicate p, ml_v x, ml_v y)
{
	return LLVMBuildICmp(a->e->b, p, x, y, "");
}

static ml_v
pick(const op_args *a, ml_v condition, ml_v x, ml_v y)
{
	return LLVMBuildSelect(a->e->b, condition, x, y, "");
}

/* ---- one operand ---- */

static ml_v
op_neg(const op_args *a)
{
	return a->real ? LLVMBuildFNeg(a->e->b, a->in[0], "") : LLVMBuildNeg(a->e->b, a->in[0], "");
}

static ml_v
op_abs(const op_args *a)
{
	if (a->real)
		return call(a, "llvm.fabs", 1);
	return a->is_signed ? pick(a, icmp(a, LLVMIntSLT, a->in[0], zero(a)), op_neg(a), a->in[0])
			    : a->in[0];
}

static ml_v
op_sign(const op_args *a)
{
	LLVMBuilderRef b = a->e->b;
	ml_v x = a->in[0];

	if (a->real) { /* zeros and NaN stay as they are */
		ml_v below =
			pick(a, LLVMBuildFCmp(b, LLVMRealOLT, x, zero(a), ""), number(a, -1), x);
		return pick(a, LLVMBuildFCmp(b, LLVMRealOGT, x, zero(a), ""), number(a, 1), below);
	}
	ml_v rest = a->is_signed ? LLVMBuildAShr(b, x, number(a, ml_dtype_bits(a->t) - 1), "")
				 : zero(a);
	LLVMIntPredicate above = a->is_signed ? LLVMIntSGT : LLVMIntUGT;
	return pick(a, icmp(a, above, x, zero(a)), number(a, 1), rest);
}

static ml_v
op_floor(const op_args *a)
{
	return a->real ? call(a, "llvm.floor", 1) : a->in[0];
}

static ml_v
op_ceil(const op_args *a)
{
	return a->real ? call(a, "llvm.ceil", 1) : a->in[0];
}

static ml_v
op_round(const op_args *a)
{
	return a->real ? call(a, "llvm.roundeven", 1) : a->in[0];
}

static ml_v
op_sqrt(const op_args *a)
{
	return call(a, "llvm.sqrt", 1);
}

static ml_v
op_not(const op_args *a)
{
	return LLVMBuildNot(a->e->b, a->in[0], "");
}

static ml_v
op_isnan(const op_args *a)
{
	if (!a->real)
		return LLVMConstNull(ml_type_like(a->e->i1, a->in[0]));
	return LLVMBuildFCmp(a->e->b, LLVMRealUNO, a->in[0], a->in[0], "");
}

#define OF_VMATH(name)                                                                             \
	static ml_v op_##name(const op_args *a)                                                    \
	{                                                                                          \
		return ml_vm_##name(a->e, a->in[0]);                                               \
	}
OF_VMATH(exp)
OF_VMATH(log)
OF_VMATH(sin)
OF_VMATH(cos)
OF_VMATH(tan)
OF_VMATH(asin)
OF_VMATH(acos)
OF_VMATH(atan)
OF_VMATH(sinh)
OF_VMATH(cosh)
OF_VMATH(tanh)
OF_VMATH(asinh)
OF_VMATH(acosh)
OF_VMATH(atanh)
OF_VMATH(erf)
OF_VMATH(xcdf)

/* ---- two operands ---- */

static ml_v
op_add(const op_args *a)
{
	return a->real ? LLVMBuildFAdd(a->e->b, a->in[0], a->in[1], "")
		       : LLVMBuildAdd(a->e->b, a->in[0], a->in[1], "");
}

static ml_v
op_sub(const op_args *a)
{
	return a->real ? LLVMBuildFSub(a->e->b, a->in[0], a->in[1], "")
		       : LLVMBuildSub(a->e->b, a->in[0], a->in[1], "");
}

static ml_v
op_mul(const op_args *a)
{
	return a->real ? LLVMBuildFMul(a->e->b, a->in[0], a->in[1], "")
		       : LLVMBuildMul(a->e->b, a->in[0], a->in[1], "");
}

/* The divisor with 1 in place of 0, and of -1 when the dividend is the least number: both would
 * trap.  MIN / 1 = MIN and MIN rem 1 = 0 are the wanted results. */
static ml_v
safe_divisor(const op_args *a)
{
	ml_v bad = icmp(a, LLVMIntEQ, a->in[1], zero(a));

	if (a->is_signed) {
		int bits = ml_dtype_bits(a->t);
		ml_v least = number(a, INT64_MIN >> (64 - bits));
		ml_v overflow = LLVMBuildAnd(a->e->b, icmp(a, LLVMIntEQ, a->in[0], least),
					     icmp(a, LLVMIntEQ, a->in[1], number(a, -1)), "");
		bad = LLVMBuildOr(a->e->b, bad, overflow, "");
	}
	return pick(a, bad, number(a, 1), a->in[1]);
}

static ml_v
zero_if_by_zero(const op_args *a, ml_v result)
{
	return pick(a, icmp(a, LLVMIntEQ, a->in[1], zero(a)), zero(a), result);
}

static ml_v
op_div(const op_args *a)
{
	if (a->real)
		return LLVMBuildFDiv(a->e->b, a->in[0], a->in[1], "");
	ml_v by = safe_divisor(a);
	return zero_if_by_zero(a, a->is_signed ? LLVMBuildSDiv(a->e->b, a->in[0], by, "")
					       : LLVMBuildUDiv(a->e->b, a->in[0], by, ""));
}

static ml_v
op_rem(const op_args *a)
{
	if (a->real)
		return ml_scalar_fmod(a->e, a->in[0], a->in[1]);
	ml_v by = safe_divisor(a);
	return zero_if_by_zero(a, a->is_signed ? LLVMBuildSRem(a->e->b, a->in[0], by, "")
					       : LLVMBuildURem(a->e->b, a->in[0], by, ""));
}

static ml_v
float_mod(const op_args *a)
{
	LLVMBuilderRef b = a->e->b;
	ml_v y = a->in[1], r = op_rem(a);
	ml_v differ = LLVMBuildXor(b, LLVMBuildFCmp(b, LLVMRealOLT, r, zero(a), ""),
				   LLVMBuildFCmp(b, LLVMRealOLT, y, zero(a), ""), "");
	ml_v moved = pick(a, differ, LLVMBuildFAdd(b, r, y, ""), r);
	ml_v none = ml_intrinsic(a->e, "llvm.copysign", (LLVMTypeRef *)&a->type, 1,
				 (ml_v[]){zero(a), y}, 2);
	return pick(a, LLVMBuildFCmp(b, LLVMRealOEQ, r, zero(a), ""), none, moved);
}

static ml_v
op_mod(const op_args *a)
{
	LLVMBuilderRef b = a->e->b;

	if (a->real)
		return float_mod(a);
	ml_v y = a->in[1], r = op_rem(a);
	if (!a->is_signed)
		return r;
	ml_v differ = icmp(a, LLVMIntSLT, LLVMBuildXor(b, r, y, ""), zero(a));
	differ = LLVMBuildAnd(b, differ, icmp(a, LLVMIntNE, r, zero(a)), "");
	return pick(a, differ, LLVMBuildAdd(b, r, y, ""), r);
}

/* By squaring; a negative power is 1 / x^n in integers, so 0 unless x is 1 or -1. */
static ml_v
int_pow(const op_args *a)
{
	LLVMBuilderRef b = a->e->b;
	ml_v x = a->in[0], n = a->in[1], one = number(a, 1);
	ml_v negative = a->is_signed ? icmp(a, LLVMIntSLT, n, zero(a)) : NULL;
	ml_v count = negative ? pick(a, negative, LLVMBuildNeg(b, n, ""), n) : n;
	ml_v start[] = {one, x, count};
	ml_loop l = ml_loop_begin(a->e, ml_i64(a->e, 0), ml_i64(a->e, ml_dtype_bits(a->t)),
				  ml_i64(a->e, 1), start, 3, "pow");
	ml_v odd = icmp(a, LLVMIntNE, LLVMBuildAnd(b, l.carry[2], one, ""), zero(a));
	ml_v next[] = {pick(a, odd, LLVMBuildMul(b, l.carry[0], l.carry[1], ""), l.carry[0]),
		       LLVMBuildMul(b, l.carry[1], l.carry[1], ""),
		       LLVMBuildLShr(b, l.carry[2], one, "")};

	ml_loop_end(a->e, &l, next);
	if (!negative)
		return l.carry[0];
	ml_v unit = LLVMBuildOr(b, icmp(a, LLVMIntEQ, x, one), icmp(a, LLVMIntEQ, x, number(a, -1)),
				"");
	ml_v inverse = pick(a, unit, l.carry[0], zero(a));
	return pick(a, negative, inverse, l.carry[0]);
}

static ml_v
op_pow(const op_args *a)
{
	return a->real ? ml_vm_pow(a->e, a->in[0], a->in[1]) : int_pow(a);
}

/* NaN if either is one: the comparison is false then and gives y; a NaN in x is put back, unless x
 * is a number known here.  That is half the code of llvm.minimum, which also orders zeros.  Without
 * the freeze LLVM would merge both selections into one whose mask waits for y, which in reductions
 * is the result of the step before: max is one instruction, the mask of x is ready early. */
static ml_v
float_extreme(const op_args *a, LLVMRealPredicate better)
{
	ml_v x = a->in[0], y = a->in[1];

	if (LLVMIsConstant(y) && !LLVMIsConstant(x))
		x = y, y = a->in[0];
	ml_v v = pick(a, LLVMBuildFCmp(a->e->b, better, x, y, ""), x, y);
	ml_v nan = LLVMBuildFCmp(a->e->b, LLVMRealUNO, x, x, "");
	if (LLVMIsConstant(nan))
		return pick(a, nan, x, v);
	return pick(a, nan, x, LLVMBuildFreeze(a->e->b, v, ""));
}

static ml_v
op_min(const op_args *a)
{
	if (a->real)
		return float_extreme(a, LLVMRealOLT);
	return call(a, a->is_signed ? "llvm.smin" : "llvm.umin", 2);
}

static ml_v
op_max(const op_args *a)
{
	if (a->real)
		return float_extreme(a, LLVMRealOGT);
	return call(a, a->is_signed ? "llvm.smax" : "llvm.umax", 2);
}

static ml_v
op_and(const op_args *a)
{
	return LLVMBuildAnd(a->e->b, a->in[0], a->in[1], "");
}

static ml_v
op_or(const op_args *a)
{
	return LLVMBuildOr(a->e->b, a->in[0], a->in[1], "");
}

static ml_v
op_xor(const op_args *a)
{
	return LLVMBuildXor(a->e->b, a->in[0], a->in[1], "");
}

/* Everything is shifted out by the width or more; negative amounts count as large ones. */
static ml_v
shift(const op_args *a, LLVMOpcode opcode, ml_v beyond)
{
	ml_v fits = icmp(a, LLVMIntULT, a->in[1], number(a, ml_dtype_bits(a->t)));

	return pick(a, fits, LLVMBuildBinOp(a->e->b, opcode, a->in[0], a->in[1], ""), beyond);
}

static ml_v
op_shl(const op_args *a)
{
	return shift(a, LLVMShl, zero(a));
}

static ml_v
op_shr(const op_args *a)
{
	if (!a->is_signed)
		return shift(a, LLVMLShr, zero(a));
	return shift(a, LLVMAShr,
		     LLVMBuildAShr(a->e->b, a->in[0], number(a, ml_dtype_bits(a->t) - 1), ""));
}

static ml_v
compare(const op_args *a, LLVMRealPredicate real, LLVMIntPredicate s, LLVMIntPredicate u)
{
	if (a->real)
		return LLVMBuildFCmp(a->e->b, real, a->in[0], a->in[1], "");
	return icmp(a, a->is_signed ? s : u, a->in[0], a->in[1]);
}

static ml_v
op_eq(const op_args *a)
{
	return compare(a, LLVMRealOEQ, LLVMIntEQ, LLVMIntEQ);
}

static ml_v
op_lt(const op_args *a)
{
	return compare(a, LLVMRealOLT, LLVMIntSLT, LLVMIntULT);
}

static ml_v
op_le(const op_args *a)
{
	return compare(a, LLVMRealOLE, LLVMIntSLE, LLVMIntULE);
}

static ml_v
op_select(const op_args *a)
{
	return pick(a, a->in[0], a->in[1], a->in[2]);
}

/* ---- the table ---- */

#define ROW(name) [ML_OP_##name] = op_##name
static op_fn *const op_table[ML_OP_LIMIT] = {
	ROW(neg),  ROW(abs),  ROW(sign),  ROW(floor), ROW(ceil),  ROW(round), ROW(sqrt),
	ROW(exp),  ROW(log),  ROW(sin),   ROW(cos),   ROW(tan),   ROW(asin),  ROW(acos),
	ROW(atan), ROW(sinh), ROW(cosh),  ROW(tanh),  ROW(asinh), ROW(acosh), ROW(atanh),
	ROW(erf),  ROW(not),  ROW(isnan), ROW(add),   ROW(sub),   ROW(mul),   ROW(div),
	ROW(rem),  ROW(mod),  ROW(pow),   ROW(min),   ROW(max),   ROW(and),   ROW(or),
	ROW(xor),  ROW(shl),  ROW(shr),   ROW(eq),    ROW(lt),    ROW(le),    ROW(select),
	ROW(xcdf),
};
#undef ROW

ml_v
ml_scalar_op(ml_emit *e, ml_op op, ml_dtype t, ml_v *in)
{
	op_args a = {.e = e,
		     .op = op,
		     .t = t,
		     .real = ml_is_float(t),
		     .is_signed = ml_dtype_kind_of(t) == ML_KIND_SIGNED,
		     .type = LLVMTypeOf(in[0]),
		     .in = in};

	assert(op_table[op] && "elementwise operator without code");
	return op_table[op](&a);
}

/* Base and exponent may have different types: the power is computed in one that holds both. */
static ml_v
emit_pow(ml_emit *e, const ml_node *n, ml_v *in)
{
	ml_dtype base = ml_in(n, 0)->type.dtype, exponent = ml_in(n, 1)->type.dtype, t = base;

	if (ml_is_float(exponent) && (!ml_is_float(base) || exponent == ML_f64))
		t = ML_f64;
	ml_v args[] = {ml_scalar_cast(e, base, t, in[0]), ml_scalar_cast(e, exponent, t, in[1])};
	ml_v v = ml_scalar_op(e, ML_OP_pow, t, args);
	return t == base ? ml_scalar_round(e, base, v) : ml_scalar_cast(e, t, base, v);
}

ml_v
ml_emit_elementwise(ml_emit *e, const ml_node *n, ml_v *operands)
{
	ml_dtype t = ml_in(n, n->op == ML_OP_select ? 1 : 0)->type.dtype;
	ml_v in[3], like = operands[0];

	for (int i = 1; i < n->nin; i++)
		if (ml_is_vector(operands[i]))
			like = operands[i];
	for (int i = 0; i < n->nin; i++)
		in[i] = ml_splat_like(e, operands[i], like);
	if (n->op == ML_OP_cast)
		return ml_scalar_cast(e, t, ML_A(n, cast, dtype).dtype, in[0]);
	if (n->op == ML_OP_pow)
		return emit_pow(e, n, in);
	ml_v v = ml_scalar_op(e, n->op, t, in);
	return ml_scalar_round(e, n->out[0].type.dtype, v);
}

/* ---- reductions ---- */

ml_op
ml_reduce_step(ml_op reduce)
{
	switch (reduce) {
	case ML_OP_reduce_prod:
	case ML_OP_scan_prod: return ML_OP_mul;
	case ML_OP_reduce_min: return ML_OP_min;
	case ML_OP_reduce_max: return ML_OP_max;
	default: return ML_OP_add;
	}
}

static int64_t
integer_limit(ml_dtype t, bool largest)
{
	int bits = t == ML_bool ? 1 : ml_dtype_bits(t);
	int64_t least = INT64_MIN >> (64 - bits);

	if (ml_dtype_kind_of(t) != ML_KIND_SIGNED)
		return largest ? -1 : 0;
	return largest ? ~least : least;
}

ml_v
ml_reduce_neutral(ml_emit *e, ml_op reduce, ml_dtype t)
{
	bool real = ml_is_float(t);

	switch (ml_reduce_step(reduce)) {
	case ML_OP_mul: return ml_scalar_s64(e, t, 1);
	case ML_OP_min:
		return real ? ml_scalar_f64(e, t, INFINITY)
			    : ml_scalar_s64(e, t, integer_limit(t, true));
	case ML_OP_max:
		return real ? ml_scalar_f64(e, t, -INFINITY)
			    : ml_scalar_s64(e, t, integer_limit(t, false));
	default: return ml_scalar_s64(e, t, 0);
	}
}
