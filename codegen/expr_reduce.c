/* expr_reduce.c -- reductions and small dots inside an expression, as loops in ascending order. */
#include "expr.h"
#include <string.h>

enum { MAX_CARRIED = 2 };

/* A nest of loops over some dims, with values carried through all of them. */
typedef struct nest {
	ml_loop loop[ML_MAX_RANK];
	int depth, ncarried, mark;
} nest;

/* index[0..n-1] become the loops' symbols; the innermost carried values are returned. */
static ml_v *
nest_begin(ml_expr *x, nest *l, const ml_dim *size, int n, ml_dim *index, ml_v *carried,
	   int ncarried)
{
	ml_dims *dims = x->kernel->m->dims;

	*l = (nest){.ncarried = ncarried, .mark = ml_expr_mark(x)};
	for (int i = 0; i < n; i++) {
		ml_v to = ml_expr_dim(x, size[i]);
		l->loop[i] = ml_loop_begin(x->e, ml_i64(x->e, 0), to, ml_i64(x->e, 1), carried,
					   ncarried, "r");
		l->depth++;
		ml_dim last = ml_dim_sub(dims, size[i], ml_dim_int(dims, 1));
		index[i] = ml_dim_sym(dims, ml_expr_loop_var(x, l->loop[i].i, last));
		carried = l->loop[i].carry;
	}
	return carried;
}

static void
nest_end(ml_expr *x, nest *l, ml_v *next, ml_v *result)
{
	for (int i = l->depth; i-- > 0;) {
		ml_loop_end(x->e, &l->loop[i], next);
		next = l->loop[i].carry;
	}
	memcpy(result, next, (size_t)l->ncarried * sizeof *result);
	ml_expr_release(x, l->mark);
}

/* Accumulators are vectors when the index depends on lanes, even if no element read then does. */
static bool
has_lanes(const ml_expr *x, const ml_dim *index, int rank)
{
	for (int i = 0; i < rank; i++)
		if (ml_expr_depends_on_lane(x, index[i]))
			return true;
	return false;
}

static ml_v
shaped(ml_expr *x, ml_v v, bool lanes)
{
	return lanes && !ml_is_vector(v) ? ml_splat(x->e, v) : v;
}

static ml_v
reduce(ml_expr *x, const ml_node *n, const ml_dim *index)
{
	const ml_value *v = ml_in(n, 0);
	const ml_attr *axes = &ML_A(n, reduce_sum, axes); /* the first attribute of all of them */
	bool lanes = has_lanes(x, index, v->type.rank);
	ml_dim in[ML_MAX_RANK], size[ML_MAX_RANK], own[ML_MAX_RANK];
	ml_v sum = shaped(x, ml_reduce_neutral(x->e, n->op, v->type.dtype), lanes);
	nest l;

	memcpy(in, index, (size_t)v->type.rank * sizeof *in);
	for (int i = 0; i < axes->count; i++)
		size[i] = v->type.dim[axes->ints[i]];
	ml_v *carry = nest_begin(x, &l, size, axes->count, own, &sum, 1);
	for (int i = 0; i < axes->count; i++)
		in[axes->ints[i]] = own[i];
	ml_v args[] = {carry[0], shaped(x, ml_expr_at(x, v, in), lanes)};
	ml_v next = ml_scalar_op(x->e, ml_reduce_step(n->op), v->type.dtype, args);
	nest_end(x, &l, &next, &sum);
	return ml_scalar_round(x->e, v->type.dtype, sum);
}

/* A new element wins over the best so far; the first NaN wins over everything. */
static ml_v
wins(ml_expr *x, const ml_node *n, ml_v element, ml_v best)
{
	ml_emit *e = x->e;
	ml_dtype t = ml_in(n, 0)->type.dtype;
	bool max = n->op == ML_OP_arg_max, last = ML_A(n, arg_max, last).i64 != 0;
	ml_v args[] = {max ? best : element, max ? element : best};
	ml_v better = ml_scalar_op(e, last ? ML_OP_le : ML_OP_lt, t, args);

	if (!ml_is_float(t))
		return better;
	ml_v nan = ml_scalar_op(e, ML_OP_isnan, t, &element);
	if (!last)
		nan = LLVMBuildAnd(e->b, nan,
				   LLVMBuildNot(e->b, ml_scalar_op(e, ML_OP_isnan, t, &best), ""),
				   "");
	return LLVMBuildOr(e->b, better, nan, "");
}

static ml_v
arg_reduce(ml_expr *x, const ml_node *n, const ml_dim *index)
{
	ml_emit *e = x->e;
	const ml_value *v = ml_in(n, 0);
	int64_t axis = ML_A(n, arg_max, axis).i64;
	bool lanes = has_lanes(x, index, v->type.rank);
	ml_dim in[ML_MAX_RANK], own, size = v->type.dim[axis];
	ml_v zero = shaped(x, ml_i64(e, 0), lanes), out[MAX_CARRIED];
	nest l;

	memcpy(in, index, (size_t)v->type.rank * sizeof *in);
	ml_v neutral = ml_reduce_neutral(
		e, n->op == ML_OP_arg_max ? ML_OP_reduce_max : ML_OP_reduce_min, v->type.dtype);
	ml_v start[MAX_CARRIED] = {shaped(x, neutral, lanes), zero};
	ml_v *carry = nest_begin(x, &l, &size, 1, &own, start, MAX_CARRIED);
	in[axis] = own;
	ml_v element = shaped(x, ml_expr_at(x, v, in), lanes);
	ml_v better = wins(x, n, element, carry[0]);
	ml_v position = shaped(x, ml_expr_dim(x, own), lanes);
	ml_v next[MAX_CARRIED] = {LLVMBuildSelect(e->b, better, element, carry[0], ""),
				  LLVMBuildSelect(e->b, better, position, carry[1], "")};
	nest_end(x, &l, next, out);
	return out[1];
}

ml_v
ml_expr_reduce(ml_expr *x, const ml_node *n, const ml_dim *index)
{
	switch (n->op) {
	case ML_OP_arg_max:
	case ML_OP_arg_min: return arg_reduce(x, n, index);
	case ML_OP_scan_sum:
	case ML_OP_scan_prod:
		return ml_expr_fail(x, &n->out[0], "running sums are kernels of their own");
	default: return reduce(x, n, index);
	}
}

/* ---- dot ---- */

static bool
contains(const ml_attr *a, int64_t axis)
{
	for (int i = 0; i < a->count; i++)
		if (a->ints[i] == axis)
			return true;
	return false;
}

const ml_dim *
ml_expr_operand_index(const ml_value *v, const ml_attr *batch, const ml_attr *contract,
		      const ml_dim *batch_index, const ml_dim *k, const ml_dim *free, ml_dim *in)
{
	for (int i = 0; i < batch->count; i++)
		in[batch->ints[i]] = batch_index[i];
	for (int i = 0; i < contract->count; i++)
		in[contract->ints[i]] = k[i];
	for (int i = 0; i < v->type.rank; i++)
		if (!contains(batch, i) && !contains(contract, i))
			in[i] = *free++;
	return free;
}

/* One more product: floats by fma in f32 or f64, integers wrapping at 32 bits. */
static ml_v
multiply_add(ml_expr *x, const ml_node *n, ml_v a, ml_v b, ml_v sum)
{
	ml_dtype out = n->out[0].type.dtype;

	a = ml_scalar_cast(x->e, ml_in(n, 0)->type.dtype, out, a);
	b = ml_scalar_cast(x->e, ml_in(n, 1)->type.dtype, out, b);
	a = ml_splat_like(x->e, a, sum);
	b = ml_splat_like(x->e, b, sum);
	if (ml_is_float(out))
		return ml_fma(x->e, a, b, sum);
	return LLVMBuildAdd(x->e->b, sum, LLVMBuildMul(x->e->b, a, b, ""), "");
}

ml_v
ml_expr_dot(ml_expr *x, const ml_node *n, const ml_dim *index)
{
	const ml_value *a = ml_in(n, 0), *b = ml_in(n, 1);
	const ml_attr *contract = &ML_A(n, dot, lhs_contract);
	ml_dtype t = n->out[0].type.dtype;
	ml_dim size[ML_MAX_RANK], k[ML_MAX_RANK], in_a[ML_MAX_RANK], in_b[ML_MAX_RANK];
	bool lanes = has_lanes(x, index, n->out[0].type.rank);
	ml_v sum = shaped(x, ml_scalar_s64(x->e, t, 0), lanes);
	nest l;

	for (int i = 0; i < contract->count; i++)
		size[i] = a->type.dim[contract->ints[i]];
	ml_v *carry = nest_begin(x, &l, size, contract->count, k, &sum, 1);
	const ml_dim *free = index + ML_A(n, dot, lhs_batch).count;
	free = ml_expr_operand_index(a, &ML_A(n, dot, lhs_batch), contract, index, k, free, in_a);
	ml_expr_operand_index(b, &ML_A(n, dot, rhs_batch), &ML_A(n, dot, rhs_contract), index, k,
			      free, in_b);
	ml_v next = multiply_add(x, n, ml_expr_at(x, a, in_a), ml_expr_at(x, b, in_b), carry[0]);
	nest_end(x, &l, &next, &sum);
	return ml_scalar_round(x->e, t, sum);
}
