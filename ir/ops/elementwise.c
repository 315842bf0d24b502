/* elementwise.c -- type rules of elementwise operators: kinds accepted, dtype of the result. */
#include "../infer.h"

/* The result: operand shapes broadcast, with this dtype. */
static ml_status
broadcast_result(ml_builder *b, ml_node *n, ml_dtype dtype)
{
	const ml_type *types[3];
	ml_type t;

	for (int i = 0; i < n->nin; i++)
		types[i] = &ml_in(n, i)->type;
	if (!ml_broadcast_shape(b, types, n->nin, &t))
		return ML_ERR_SHAPE;
	t.dtype = dtype;
	n->out[0].type = t;
	return ML_OK;
}

/* Operands of equal dtype, which is also the result's. */
static ml_status
same(ml_builder *b, ml_node *n, unsigned kinds)
{
	ML_STEP(ml_want_kind(b, n, 0, kinds));
	for (int i = 1; i < n->nin; i++)
		ML_STEP(ml_want_same_dtype(b, n, 0, i));
	return broadcast_result(b, n, ml_in(n, 0)->type.dtype);
}

/* Operands of equal dtype, a bool result. */
static ml_status
test(ml_builder *b, ml_node *n, unsigned kinds)
{
	ML_STEP(same(b, n, kinds));
	n->out[0].type.dtype = ML_bool;
	return ML_OK;
}

#define RULE(name, form, kinds)                                                                    \
	ml_status ml_type_##name(ml_builder *b, ml_node *n)                                        \
	{                                                                                          \
		return form(b, n, kinds);                                                          \
	}

RULE(neg, same, ML_KF | ML_KI)
RULE(abs, same, ML_KF | ML_KI)
RULE(sign, same, ML_KF | ML_KI)
RULE(floor, same, ML_KF)
RULE(ceil, same, ML_KF)
RULE(round, same, ML_KF)
RULE(sqrt, same, ML_KF)
RULE(exp, same, ML_KF)
RULE(log, same, ML_KF)
RULE(sin, same, ML_KF)
RULE(cos, same, ML_KF)
RULE(tan, same, ML_KF)
RULE(asin, same, ML_KF)
RULE(acos, same, ML_KF)
RULE(atan, same, ML_KF)
RULE(sinh, same, ML_KF)
RULE(cosh, same, ML_KF)
RULE(tanh, same, ML_KF)
RULE(asinh, same, ML_KF)
RULE(acosh, same, ML_KF)
RULE(atanh, same, ML_KF)
RULE(erf, same, ML_KF)
RULE(xcdf, same, ML_KF)
RULE(not, same, ML_KI | ML_KB)
RULE(isnan, test, ML_KF)
RULE(add, same, ML_KF | ML_KI)
RULE(sub, same, ML_KF | ML_KI)
RULE(mul, same, ML_KF | ML_KI)
RULE(div, same, ML_KF | ML_KI)
RULE(rem, same, ML_KF | ML_KI)
RULE(mod, same, ML_KF | ML_KI)
RULE(min, same, ML_KF | ML_KI)
RULE(max, same, ML_KF | ML_KI)
RULE(and, same, ML_KI | ML_KB)
RULE(or, same, ML_KI | ML_KB)
RULE(xor, same, ML_KI | ML_KB)
RULE(shl, same, ML_KI)
RULE(shr, same, ML_KI)
RULE(eq, test, ML_KALL)
RULE(lt, test, ML_KF | ML_KI)
RULE(le, test, ML_KF | ML_KI)

ml_status
ml_type_cast(ml_builder *b, ml_node *n)
{
	ml_dtype to = ML_A(n, cast, dtype).dtype;

	if (to == ML_none)
		return ml_type_fail(b, n, ML_ERR_VALUE, "no element type to cast to");
	return broadcast_result(b, n, to);
}

/* The exponent may have a dtype of its own. */
ml_status
ml_type_pow(ml_builder *b, ml_node *n)
{
	ML_STEP(ml_want_kind(b, n, 0, ML_KF | ML_KI));
	ML_STEP(ml_want_kind(b, n, 1, ML_KF | ML_KI));
	return broadcast_result(b, n, ml_in(n, 0)->type.dtype);
}

ml_status
ml_type_select(ml_builder *b, ml_node *n)
{
	ML_STEP(ml_want_dtype(b, n, 0, ML_bool));
	ML_STEP(ml_want_same_dtype(b, n, 1, 2));
	return broadcast_result(b, n, ml_in(n, 1)->type.dtype);
}

ml_status
ml_type_wrap_index(ml_builder *b, ml_node *n)
{
	ML_STEP(ml_want_kind(b, n, 0, ML_KI));
	ML_STEP(ml_want_count(b, n, &ML_A(n, wrap_index, size), 1, "size"));
	return broadcast_result(b, n, ml_in(n, 0)->type.dtype);
}
