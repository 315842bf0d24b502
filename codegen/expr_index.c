/* expr_index.c -- positions that come from data: wrapped, checked, and never used when wrong. */
#include "expr.h"
#include "../runtime/abi.h"
#include <string.h>

/* The number of run-time checks before n: planner and kernel count them alike. */
static int
site_of(const ml_node *n)
{
	int site = 0;

	for (const ml_node *i = n->block->first; i != n; i = i->next)
		site += (ml_op_get(i->op)->traits & ML_CHECKS) != 0;
	return site;
}

/* void fault(task, status, site, value, limit): the first one is recorded.  Out of line, since it
 * never runs when all is well. */
static ml_v
fault_function(ml_emit *e)
{
	static const char name[] = "record_fault";
	ml_v outer = e->fn, known = LLVMGetNamedFunction(e->module, name);
	LLVMTypeRef params[] = {e->ptr, e->i32, e->i32, e->i64, e->i64};

	if (known)
		return known;
	LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
	ml_v f = ml_emit_function(e, name, e->none, params, 5);
	unsigned cold = LLVMGetEnumAttributeKindForName("noinline", 8);
	LLVMAddAttributeAtIndex(f, LLVMAttributeFunctionIndex,
				LLVMCreateEnumAttribute(e->lc, cold, 0));
	LLVMSetLinkage(f, LLVMInternalLinkage);
	ml_v task = LLVMGetParam(f, 0);
	ml_v fault = ml_load(e, e->ptr,
			     ml_gep(e, e->i8, task, ml_i64(e, offsetof(mlrt_task, fault))), 8);
	ml_v base =
		ml_load(e, e->i32, ml_gep(e, e->i8, task, ml_i64(e, offsetof(mlrt_task, site))), 4);
	ml_v swapped =
		LLVMBuildAtomicCmpXchg(e->b, fault, ml_i32(e, 0), LLVMGetParam(f, 1),
				       LLVMAtomicOrderingMonotonic, LLVMAtomicOrderingMonotonic, 0);
	ml_if first = ml_if_begin(e, LLVMBuildExtractValue(e->b, swapped, 1, ""));
	ml_store(e, LLVMBuildAdd(e->b, base, LLVMGetParam(f, 2), ""),
		 ml_gep(e, e->i8, fault, ml_i64(e, offsetof(mlrt_fault, site))), 4);
	ml_store(e, LLVMGetParam(f, 3),
		 ml_gep(e, e->i8, fault, ml_i64(e, offsetof(mlrt_fault, value))), 8);
	ml_store(e, LLVMGetParam(f, 4),
		 ml_gep(e, e->i8, fault, ml_i64(e, offsetof(mlrt_fault, limit))), 8);
	ml_if_end(e, &first);
	LLVMBuildRetVoid(e->b);
	e->fn = outer;
	LLVMPositionBuilderAtEnd(e->b, here);
	return f;
}

/* The lane of the first set bit of a mask that has one. */
static ml_v
first_lane(ml_emit *e, ml_v mask)
{
	ml_v bits = LLVMBuildBitCast(e->b, mask, e->i16, "");
	ml_v n = ml_intrinsic(e, "llvm.cttz", &e->i16, 1, (ml_v[]){bits, LLVMConstInt(e->i1, 1, 0)},
			      2);

	return LLVMBuildZExt(e->b, n, e->i32, "");
}

static ml_v
lane_of(ml_emit *e, ml_v v, ml_v lane)
{
	return ml_is_vector(v) ? LLVMBuildExtractElement(e->b, v, lane, "") : v;
}

void
ml_expr_check(ml_expr *x, ml_v ok, ml_status status, int site, ml_v value, ml_v limit)
{
	ml_emit *e = x->e;
	ml_v bad = LLVMBuildNot(e->b, ok, "");
	ml_v active = ml_is_vector(bad) || x->mask ? ml_expr_active(x) : NULL;

	if (active && !ml_is_vector(bad))
		active = ml_expr_any(x, active);
	if (active)
		bad = LLVMBuildAnd(e->b, bad, ml_splat_like(e, active, bad), "");
	ml_v any = ml_expr_any(x, bad);
	ml_v f = fault_function(e);
	ml_if then = ml_if_begin(e, any);
	ml_v lane = ml_is_vector(bad) ? first_lane(e, bad) : NULL;
	ml_v args[] = {x->task, ml_i32(e, status), ml_i32(e, site), lane_of(e, value, lane),
		       lane_of(e, limit, lane)};
	LLVMBuildCall2(e->b, LLVMGlobalGetValueType(f), f, args, 5, "");
	ml_if_end(e, &then);
}

ml_v
ml_expr_wrapped(ml_expr *x, const ml_node *n, ml_dtype t, ml_v i, ml_dim size, ml_v *ok)
{
	ml_emit *e = x->e;
	ml_v index = ml_scalar_cast(e, t, ML_s64, i);
	ml_v limit = ml_splat_like(e, ml_expr_dim(x, size), index);
	ml_v zero = LLVMConstNull(LLVMTypeOf(index));
	ml_v negative = LLVMBuildICmp(e->b, LLVMIntSLT, index, zero, "");
	ml_v up = LLVMBuildSelect(e->b, negative, LLVMBuildAdd(e->b, index, limit, ""), index, "");

	*ok = LLVMBuildICmp(e->b, LLVMIntULT, up, limit, ""); /* unsigned: negative ones too */
	if (t == ML_u64)
		*ok = LLVMBuildAnd(e->b, *ok, LLVMBuildNot(e->b, negative, ""), "");
	ml_expr_check(x, *ok, ML_ERR_INDEX, site_of(n), index, limit);
	return LLVMBuildSelect(e->b, *ok, up, zero, "");
}

ml_v
ml_expr_wrap_index(ml_expr *x, const ml_node *n, ml_v index)
{
	ml_dtype t = ml_in(n, 0)->type.dtype;
	ml_v ok, v = ml_expr_wrapped(x, n, t, index, ML_A(n, wrap_index, size).dims[0], &ok);

	return ml_scalar_cast(x->e, ML_s64, t, v);
}

/* The wrapped index of a gather as a symbol, the same for every element read through it. */
static ml_dim
gathered_symbol(ml_expr *x, const ml_node *n, const ml_dim *index, ml_v *ok)
{
	ml_dims *dims = x->kernel->m->dims;
	const ml_value *positions = ml_in(n, 1);
	int64_t axis = ML_A(n, gather, axis).i64;
	ml_dim size = ml_in(n, 0)->type.dim[axis];

	size_t bytes = (size_t)positions->type.rank * sizeof *index;

	for (int i = x->known.count; i-- > 0;) {
		const ml_known *k = &x->known.at[i];
		if (k->node == n && k->mask == x->mask && !memcmp(k->index, index + axis, bytes)) {
			*ok = k->v;
			return k->dim;
		}
	}
	ml_v i = ml_expr_at(x, positions, index + axis);
	ml_v v = ml_expr_wrapped(x, n, positions->type.dtype, i, size, ok);
	ml_dim last = ml_dim_sub(dims, size, ml_dim_int(dims, 1));
	ml_known k = {.node = n, .mask = x->mask, .v = *ok};
	k.dim = ml_dim_sym(dims, ml_expr_loop_var(x, v, last));
	k.index = ml_expr_keep_index(x, positions, index + axis);
	ML_PUSH(x->arena, x->known, k);
	return k.dim;
}

ml_v
ml_expr_gather(ml_expr *x, const ml_node *n, const ml_dim *index)
{
	const ml_value *data = ml_in(n, 0);
	int64_t axis = ML_A(n, gather, axis).i64, lo, hi;
	int rank = ml_in(n, 1)->type.rank;
	ml_dim in[ML_MAX_RANK];
	ml_v ok, outer = x->mask;

	for (int i = 0; i < data->type.rank; i++)
		if (i != axis)
			in[i] = index[i < axis ? i : i + rank - 1];
	in[axis] = gathered_symbol(x, n, index, &ok);
	ml_dim_range(data->type.dim[axis], &lo, &hi);
	if (lo < 1) /* no index is right when there is no data: touch nothing */
		x->mask = ml_expr_and(x, outer, ok);
	ml_v v = ml_expr_at(x, data, in);
	x->mask = outer;
	return v;
}
