/* expr_reduce.c -- reductions and small dots inside an expression, as loops in ascending order. */
#include "expr.h"
#include <string.h>

enum {
	MAX_CARRIED = 2,
	UNROLLED = 32 /* elements of small windows become straight code, nested ones together */
};

/* One more element: from the indices of a nest of loops and what is carried through it. */
typedef void element_fn(ml_expr *, void *user, const ml_dim *index, const ml_v *carry, ml_v *next);

typedef struct nest {
	const ml_dim *size;
	int depth, ncarried;
	element_fn *element;
	void *user;
	ml_dim index[ML_MAX_RANK];
} nest;

/* Axes level.. of the nest; carry is updated in place. */
static void
emit_loops(ml_expr *x, nest *l, int level, ml_v *carry)
{
	ml_dims *dims = x->kernel->m->dims;
	ml_v next[MAX_CARRIED];
	int mark = ml_expr_mark(x);

	if (level == l->depth) {
		l->element(x, l->user, l->index, carry, next);
		memcpy(carry, next, (size_t)l->ncarried * sizeof *carry);
		ml_expr_release(x, mark);
		return;
	}
	ml_loop loop = ml_loop_begin(x->e, ml_i64(x->e, 0), ml_expr_dim(x, l->size[level]),
				     ml_i64(x->e, 1), carry, l->ncarried, "r");
	ml_dim last = ml_dim_sub(dims, l->size[level], ml_dim_int(dims, 1));
	l->index[level] = ml_dim_sym(dims, ml_expr_loop_var(x, loop.i, last));
	memcpy(next, loop.carry, (size_t)l->ncarried * sizeof *next);
	emit_loops(x, l, level + 1, next);
	ml_loop_end(x->e, &loop, next);
	memcpy(carry, loop.carry, (size_t)l->ncarried * sizeof *carry);
	ml_expr_release(x, mark);
}

/* The same without loops: every index a number. */
static void
emit_unrolled(ml_expr *x, nest *l, int level, ml_v *carry)
{
	ml_dims *dims = x->kernel->m->dims;
	int64_t size;

	if (level == l->depth) {
		emit_loops(x, l, level, carry);
		return;
	}
	ml_dim_is_int(l->size[level], &size);
	for (int64_t i = 0; i < size; i++) {
		l->index[level] = ml_dim_int(dims, i);
		emit_unrolled(x, l, level + 1, carry);
	}
}

static void
emit_nest(ml_expr *x, nest *l, ml_v *carry)
{
	int64_t count = 1, size;

	for (int i = 0; i < l->depth; i++)
		count = ml_dim_is_int(l->size[i], &size) && size <= UNROLLED ? count * size
									     : UNROLLED + 1;
	if (count > 0 && x->unrolled * count <= UNROLLED) {
		x->unrolled *= (int)count;
		emit_unrolled(x, l, 0, carry);
		x->unrolled /= (int)count;
		return;
	}
	emit_loops(x, l, 0, carry);
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

/* What all reductions share: the operand, where it is read, which of its axes are reduced. */
typedef struct reduction {
	const ml_node *n;
	const int64_t *axes;
	int naxes;
	bool lanes;
	ml_dim in[ML_MAX_RANK];
} reduction;

static reduction
reduction_at(const ml_expr *x, const ml_node *n, const int64_t *axes, int naxes,
	     const ml_dim *index)
{
	int rank = ml_in(n, 0)->type.rank;
	reduction r = {.n = n, .axes = axes, .naxes = naxes, .lanes = has_lanes(x, index, rank)};

	memcpy(r.in, index, (size_t)rank * sizeof *index);
	return r;
}

static ml_v
element_at(ml_expr *x, reduction *r, const ml_dim *index)
{
	for (int i = 0; i < r->naxes; i++)
		r->in[r->axes[i]] = index[i];
	return shaped(x, ml_expr_at(x, ml_in(r->n, 0), r->in), r->lanes);
}

static void
run_reduction(ml_expr *x, reduction *r, element_fn *element, ml_v *carry, int ncarried)
{
	ml_dim size[ML_MAX_RANK];
	nest l = {.size = size,
		  .depth = r->naxes,
		  .ncarried = ncarried,
		  .element = element,
		  .user = r};

	for (int i = 0; i < r->naxes; i++)
		size[i] = ml_in(r->n, 0)->type.dim[r->axes[i]];
	emit_nest(x, &l, carry);
}

static void
add_element(ml_expr *x, void *user, const ml_dim *index, const ml_v *carry, ml_v *next)
{
	reduction *r = user;
	ml_v args[] = {carry[0], element_at(x, r, index)};

	*next = ml_scalar_op(x->e, ml_reduce_step(r->n->op), ml_in(r->n, 0)->type.dtype, args);
}

static ml_v
reduce(ml_expr *x, const ml_node *n, const ml_dim *index)
{
	const ml_attr *axes = &ML_A(n, reduce_sum, axes); /* the first attribute of all of them */
	reduction r = reduction_at(x, n, axes->ints, axes->count, index);
	ml_dtype t = n->out[0].type.dtype;
	ml_v sum = shaped(x, ml_reduce_neutral(x->e, n->op, t), r.lanes);

	run_reduction(x, &r, add_element, &sum, 1);
	return ml_scalar_round(x->e, t, sum);
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

/* carry: the best element and its position. */
static void
compare_element(ml_expr *x, void *user, const ml_dim *index, const ml_v *carry, ml_v *next)
{
	reduction *r = user;
	ml_v element = element_at(x, r, index);
	ml_v better = wins(x, r->n, element, carry[0]);
	ml_v position = shaped(x, ml_expr_dim(x, index[0]), r->lanes);

	next[0] = LLVMBuildSelect(x->e->b, better, element, carry[0], "");
	next[1] = LLVMBuildSelect(x->e->b, better, position, carry[1], "");
}

static ml_v
arg_reduce(ml_expr *x, const ml_node *n, const ml_dim *index)
{
	reduction r = reduction_at(x, n, &ML_A(n, arg_max, axis).i64, 1, index);
	ml_op extreme = n->op == ML_OP_arg_max ? ML_OP_reduce_max : ML_OP_reduce_min;
	ml_v least = ml_reduce_neutral(x->e, extreme, ml_in(n, 0)->type.dtype);
	ml_v carry[] = {shaped(x, least, r.lanes), shaped(x, ml_i64(x->e, 0), r.lanes)};

	run_reduction(x, &r, compare_element, carry, 2);
	return carry[1];
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

typedef struct product {
	const ml_node *n;
	const ml_dim *index; /* of the result */
} product;

static void
add_product(ml_expr *x, void *user, const ml_dim *k, const ml_v *carry, ml_v *next)
{
	const product *p = user;
	const ml_node *n = p->n;
	const ml_value *a = ml_in(n, 0), *b = ml_in(n, 1);
	ml_dim in_a[ML_MAX_RANK], in_b[ML_MAX_RANK];
	const ml_dim *free = p->index + ML_A(n, dot, lhs_batch).count;

	free = ml_expr_operand_index(a, &ML_A(n, dot, lhs_batch), &ML_A(n, dot, lhs_contract),
				     p->index, k, free, in_a);
	ml_expr_operand_index(b, &ML_A(n, dot, rhs_batch), &ML_A(n, dot, rhs_contract), p->index, k,
			      free, in_b);
	ml_v left = ml_expr_at(x, a, in_a);
	*next = multiply_add(x, n, left, ml_expr_at(x, b, in_b), carry[0]);
}

ml_v
ml_expr_dot(ml_expr *x, const ml_node *n, const ml_dim *index)
{
	const ml_attr *contract = &ML_A(n, dot, lhs_contract);
	ml_dtype t = n->out[0].type.dtype;
	ml_v sum = ml_scalar_s64(x->e, t, 0);
	ml_dim size[ML_MAX_RANK];
	product p = {.n = n, .index = index};
	nest l = {.size = size,
		  .depth = contract->count,
		  .ncarried = 1,
		  .element = add_product,
		  .user = &p};

	for (int i = 0; i < contract->count; i++)
		size[i] = ml_in(n, 0)->type.dim[contract->ints[i]];
	sum = shaped(x, sum, has_lanes(x, index, n->out[0].type.rank));
	emit_nest(x, &l, &sum);
	return ml_scalar_round(x->e, t, sum);
}
