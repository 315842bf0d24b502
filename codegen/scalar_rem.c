/* scalar_rem.c -- the exact remainder of floats, by doubling and halving the divisor.
 *
 * r - t is exact for t <= r < 2t, and so are t + t and the halving that undoes it.  No libm.
 */
#include "scalar.h"

static ml_v
any_lane(ml_emit *e, ml_v bits)
{
	if (!ml_is_vector(bits))
		return bits;
	LLVMTypeRef type = LLVMTypeOf(bits);
	return ml_intrinsic(e, "llvm.vector.reduce.or", &type, 1, &bits, 1);
}

/* while (any lane of condition(state)) state = step(state). */
typedef struct rem_loop {
	ml_v b, r, t; /* divisor; remainder so far and multiple of the divisor, as phis */
	LLVMBasicBlockRef before, head, body, after;
} rem_loop;

static rem_loop
loop_begin(ml_emit *e, ml_v b, ml_v r, ml_v t)
{
	rem_loop l = {.b = b, .before = LLVMGetInsertBlock(e->b)};

	l.head = LLVMAppendBasicBlockInContext(e->lc, e->fn, "rem");
	l.body = LLVMAppendBasicBlockInContext(e->lc, e->fn, "rem");
	l.after = LLVMAppendBasicBlockInContext(e->lc, e->fn, "rem");
	LLVMBuildBr(e->b, l.head);
	LLVMPositionBuilderAtEnd(e->b, l.head);
	l.r = LLVMBuildPhi(e->b, LLVMTypeOf(r), "");
	l.t = LLVMBuildPhi(e->b, LLVMTypeOf(t), "");
	LLVMAddIncoming(l.r, &r, &l.before, 1);
	LLVMAddIncoming(l.t, &t, &l.before, 1);
	return l;
}

static void
loop_test(ml_emit *e, rem_loop *l, ml_v active)
{
	LLVMBuildCondBr(e->b, any_lane(e, active), l->body, l->after);
	LLVMPositionBuilderAtEnd(e->b, l->body);
}

static void
loop_end(ml_emit *e, rem_loop *l, ml_v r, ml_v t)
{
	LLVMAddIncoming(l->r, &r, &l->body, 1);
	LLVMAddIncoming(l->t, &t, &l->body, 1);
	LLVMBuildBr(e->b, l->head);
	LLVMPositionBuilderAtEnd(e->b, l->after);
}

ml_v
ml_scalar_fmod(ml_emit *e, ml_v x, ml_v y)
{
	LLVMTypeRef type = LLVMTypeOf(x);
	LLVMTypeRef element = ml_is_vector(x) ? LLVMGetElementType(type) : type;
	ml_v half = ml_splat_like(e, LLVMConstReal(element, 0.5), x);
	ml_v one = ml_splat_like(e, LLVMConstReal(element, 1), x);
	ml_v infinity = LLVMBuildFDiv(e->b, one, LLVMConstNull(type), "");
	ml_v a = ml_intrinsic(e, "llvm.fabs", &type, 1, &x, 1);
	ml_v b = ml_intrinsic(e, "llvm.fabs", &type, 1, &y, 1);
	ml_v defined =
		LLVMBuildAnd(e->b, LLVMBuildFCmp(e->b, LLVMRealOLT, a, infinity, ""),
			     LLVMBuildFCmp(e->b, LLVMRealOGT, b, LLVMConstNull(type), ""), "");

	/* Lanes with nothing to do, an infinite divisor among them, do not loop. */
	ml_v work = LLVMBuildAnd(e->b, defined, LLVMBuildFCmp(e->b, LLVMRealOGE, a, b, ""), "");
	a = LLVMBuildSelect(e->b, work, a, LLVMConstNull(type), "");
	b = LLVMBuildSelect(e->b, work, b, one, "");
	rem_loop up = loop_begin(e, b, a, b);
	ml_v active =
		LLVMBuildFCmp(e->b, LLVMRealOLE, up.t, LLVMBuildFMul(e->b, up.r, half, ""), "");
	loop_test(e, &up, active);
	ml_v twice = LLVMBuildFAdd(e->b, up.t, up.t, "");
	loop_end(e, &up, up.r, LLVMBuildSelect(e->b, active, twice, up.t, ""));

	rem_loop down = loop_begin(e, b, up.r, up.t);
	active = LLVMBuildFCmp(e->b, LLVMRealOGE, down.t, b, "");
	loop_test(e, &down, active);
	ml_v fits = LLVMBuildAnd(e->b, active, LLVMBuildFCmp(e->b, LLVMRealOGE, down.r, down.t, ""),
				 "");
	ml_v less = LLVMBuildFSub(e->b, down.r, down.t, "");
	loop_end(e, &down, LLVMBuildSelect(e->b, fits, less, down.r, ""),
		 LLVMBuildFMul(e->b, down.t, half, ""));

	ml_v nan = LLVMBuildFDiv(e->b, LLVMConstNull(type), LLVMConstNull(type), "");
	ml_v r = ml_intrinsic(e, "llvm.copysign", &type, 1, (ml_v[]){down.r, x}, 2);
	r = LLVMBuildSelect(e->b, work, r, x, "");
	return LLVMBuildSelect(e->b, defined, r, nan, "");
}
