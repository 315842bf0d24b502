/* expr_move.c -- movement operators as maps of indices; padding and concatenation choose. */
#include "expr.h"
#include <string.h>

/* ---- reshape: groups of dims with equal products ---- */

static int
skip_ones(const ml_type *t, int i)
{
	while (i < t->rank && ml_dim_equals(t->dim[i], 1))
		i++;
	return i;
}

/* The shortest runs a[*i..] and b[*j..] with provably equal products; else all that is left. */
static void
matching_runs(ml_dims *dims, const ml_type *a, const ml_type *b, int *i, int *j)
{
	ml_dim pa = a->dim[(*i)++], pb = b->dim[(*j)++], q;

	while (pa != pb) {
		if (*i < a->rank && ml_dim_divides(dims, pb, pa, &q))
			pa = ml_dim_mul(dims, pa, a->dim[(*i)++]);
		else if (*j < b->rank && ml_dim_divides(dims, pa, pb, &q))
			pb = ml_dim_mul(dims, pb, b->dim[(*j)++]);
		else {
			*i = a->rank;
			*j = b->rank;
			return;
		}
	}
}

/* The index into shape `to` of the element at `index` of shape `from`. */
static void
map_reshape(ml_expr *x, const ml_type *from, const ml_dim *index, const ml_type *to, ml_dim *out)
{
	ml_dims *dims = x->kernel->m->dims;

	for (int j = 0; j < to->rank; j++)
		out[j] = ml_dim_int(dims, 0);
	for (int i = skip_ones(from, 0), j = skip_ones(to, 0); i < from->rank && j < to->rank;
	     i = skip_ones(from, i), j = skip_ones(to, j)) {
		int i0 = i, j0 = j;
		matching_runs(dims, from, to, &i, &j);
		ml_dim position = ml_expr_linear(x, i - i0, from->dim + i0, index + i0);
		ml_expr_delinear(x, j - j0, to->dim + j0, position, out + j0);
	}
}

/* ---- other maps: the operand's index from the result's ---- */

typedef void index_map(ml_expr *, const ml_node *, const ml_dim *index, ml_dim *in);

static void
in_reshape(ml_expr *x, const ml_node *n, const ml_dim *index, ml_dim *in)
{
	map_reshape(x, &n->out[0].type, index, &ml_in(n, 0)->type, in);
}

static void
in_transpose(ml_expr *x, const ml_node *n, const ml_dim *index, ml_dim *in)
{
	(void)x;
	for (int i = 0; i < n->out[0].type.rank; i++)
		in[ML_A(n, transpose, perm).ints[i]] = index[i];
}

static void
in_broadcast(ml_expr *x, const ml_node *n, const ml_dim *index, ml_dim *in)
{
	const ml_type *t = &ml_in(n, 0)->type;
	int lead = n->out[0].type.rank - t->rank;

	for (int i = 0; i < t->rank; i++)
		in[i] = ml_dim_equals(t->dim[i], 1) ? ml_dim_int(x->kernel->m->dims, 0)
						    : index[lead + i];
}

static void
in_slice(ml_expr *x, const ml_node *n, const ml_dim *index, ml_dim *in)
{
	ml_dims *dims = x->kernel->m->dims;

	for (int i = 0; i < n->out[0].type.rank; i++) {
		ml_dim step = ml_dim_int(dims, ML_A(n, slice, step).ints[i]);
		in[i] = ml_dim_add(dims, ML_A(n, slice, start).dims[i],
				   ml_dim_mul(dims, index[i], step));
	}
}

static void
in_reverse(ml_expr *x, const ml_node *n, const ml_dim *index, ml_dim *in)
{
	ml_dims *dims = x->kernel->m->dims;
	const ml_attr *axes = &ML_A(n, reverse, axes);
	const ml_type *t = &n->out[0].type;

	memcpy(in, index, (size_t)t->rank * sizeof *in);
	for (int i = 0; i < axes->count; i++) {
		int64_t d = axes->ints[i];
		ml_dim last = ml_dim_sub(dims, t->dim[d], ml_dim_int(dims, 1));
		in[d] = ml_dim_sub(dims, last, index[d]);
	}
}

static void
in_window(ml_expr *x, const ml_node *n, const ml_dim *index, ml_dim *in)
{
	ml_dims *dims = x->kernel->m->dims;
	int rank = ml_in(n, 0)->type.rank, spatial = ML_A(n, window, size).count;

	memcpy(in, index, (size_t)(rank - spatial) * sizeof *in);
	for (int i = 0; i < spatial; i++) {
		ml_dim stride = ml_dim_int(dims, ML_A(n, window, stride).ints[i]);
		ml_dim dilation = ml_dim_int(dims, ML_A(n, window, dilation).ints[i]);
		int d = rank - spatial + i;
		in[d] = ml_dim_add(dims, ml_dim_mul(dims, index[d], stride),
				   ml_dim_mul(dims, index[rank + i], dilation));
	}
}

/* ---- pad ---- */

/* value < limit (both dims) as i1 or <16 x i1>. */
static ml_v
less(ml_expr *x, ml_dim value, ml_dim limit)
{
	ml_v a = ml_expr_dim(x, value), b = ml_expr_dim(x, limit), like = ml_is_vector(a) ? a : b;

	return LLVMBuildICmp(x->e->b, LLVMIntSLT, ml_splat_like(x->e, a, like),
			     ml_splat_like(x->e, b, like), "");
}

/* 0 <= value < size, or NULL when that is proven. */
static ml_v
inside(ml_expr *x, ml_dim value, ml_dim size)
{
	ml_dims *dims = x->kernel->m->dims;
	ml_dim last = ml_dim_sub(dims, size, ml_dim_int(dims, 1));
	ml_v ok = NULL;

	if (!ml_dim_within(dims, &x->axis, value, value))
		ok = less(x, ml_dim_int(dims, -1), value);
	if (!ml_dim_within(dims, &x->axis, ml_dim_sub(dims, last, value), last))
		ok = ml_expr_and(x, ok, less(x, value, size));
	return ok;
}

/* The value under an additional mask, and `otherwise` where the mask is off. */
static ml_v
at_masked(ml_expr *x, ml_v mask, const ml_value *v, const ml_dim *index, ml_v otherwise)
{
	ml_v outer = x->mask;

	x->mask = ml_expr_and(x, outer, mask);
	ml_v there = ml_expr_at(x, v, index);
	x->mask = outer;
	ml_v like = ml_is_vector(mask) ? mask : ml_is_vector(there) ? there : otherwise;
	there = ml_splat_like(x->e, there, like);
	otherwise = ml_splat_like(x->e, otherwise, like);
	return LLVMBuildSelect(x->e->b, mask, there, otherwise, "");
}

static ml_v
at_pad(ml_expr *x, const ml_node *n, const ml_dim *index)
{
	ml_dims *dims = x->kernel->m->dims;
	const ml_value *v = ml_in(n, 0);
	ml_dim in[ML_MAX_RANK];
	ml_v mask = NULL;

	for (int i = 0; i < v->type.rank; i++) {
		int64_t gap = ML_A(n, pad, interior).ints[i] + 1;
		ml_dim mod;
		in[i] = ml_dim_sub(dims, index[i], ML_A(n, pad, low).dims[i]);
		if (gap > 1) {
			in[i] = ml_expr_divide(x, in[i], ml_dim_int(dims, gap), &mod);
			mask = ml_expr_and(x, mask, inside(x, mod, ml_dim_int(dims, 1)));
		}
		mask = ml_expr_and(x, mask, inside(x, in[i], v->type.dim[i]));
	}
	if (!mask)
		return ml_expr_at(x, v, in);
	return at_masked(x, mask, v, in, ml_expr_at(x, ml_in(n, 1), NULL));
}

/* ---- concat ---- */

typedef struct concat_at {
	const ml_node *n;
	const ml_dim *index;
	int64_t axis;
} concat_at;

/* The index into operand i, which begins at `offset` along the axis. */
static void
concat_index(ml_expr *x, const concat_at *c, ml_dim offset, ml_dim *in)
{
	memcpy(in, c->index, (size_t)c->n->out[0].type.rank * sizeof *in);
	in[c->axis] = ml_dim_sub(x->kernel->m->dims, in[c->axis], offset);
}

/* Proven a < b. */
static bool
is_below(ml_expr *x, ml_dim a, ml_dim b)
{
	ml_dims *dims = x->kernel->m->dims;
	ml_dim gap = ml_dim_sub(dims, ml_dim_sub(dims, b, a), ml_dim_int(dims, 1));

	return ml_dim_within(dims, &x->axis, gap, gap);
}

/* The same operand for all lanes: branches, so that only one is read. */
static ml_v
concat_branch(ml_expr *x, const concat_at *c, int i, ml_dim offset)
{
	ml_emit *e = x->e;
	ml_dim in[ML_MAX_RANK], end;
	ml_v v[2];
	LLVMBasicBlockRef from[2];
	int mark = ml_expr_mark(x);

	concat_index(x, c, offset, in);
	if (i == c->n->nin - 1)
		return ml_expr_at(x, ml_in(c->n, i), in);
	end = ml_dim_add(x->kernel->m->dims, offset, ml_in(c->n, i)->type.dim[c->axis]);
	if (is_below(x, c->index[c->axis], end))
		return ml_expr_at(x, ml_in(c->n, i), in);
	if (is_below(x, ml_dim_sub(x->kernel->m->dims, end, ml_dim_int(x->kernel->m->dims, 1)),
		     c->index[c->axis]))
		return concat_branch(x, c, i + 1, end);
	ml_if f = ml_if_begin(e, less(x, c->index[c->axis], end));
	v[0] = ml_expr_at(x, ml_in(c->n, i), in);
	from[0] = LLVMGetInsertBlock(e->b);
	ml_expr_release(x, mark);
	ml_if_else(e, &f);
	v[1] = concat_branch(x, c, i + 1, end);
	from[1] = LLVMGetInsertBlock(e->b);
	ml_expr_release(x, mark);
	ml_if_end(e, &f);
	/* A branch may give a vector where the other gives a scalar; splat before they meet. */
	for (int k = 0; k < 2; k++)
		if (ml_is_vector(v[1 - k]) && !ml_is_vector(v[k])) {
			LLVMPositionBuilderBefore(e->b, LLVMGetBasicBlockTerminator(from[k]));
			v[k] = ml_splat(e, v[k]);
		}
	LLVMPositionBuilderAtEnd(e->b, f.after);
	ml_v phi = LLVMBuildPhi(e->b, LLVMTypeOf(v[0]), "");
	LLVMAddIncoming(phi, v, from, 2);
	return phi;
}

static ml_v
concat_lanes(ml_expr *x, const concat_at *c)
{
	ml_dims *dims = x->kernel->m->dims;
	ml_dim offset = ml_dim_int(dims, 0);
	ml_v v = NULL;

	for (int i = 0; i < c->n->nin; i++) {
		const ml_value *operand = ml_in(c->n, i);
		ml_dim in[ML_MAX_RANK];
		concat_index(x, c, offset, in);
		ml_v mask = inside(x, in[c->axis], operand->type.dim[c->axis]);
		if (!mask)
			return ml_expr_at(x, operand, in);
		ml_v zero = LLVMConstNull(ml_register_type(x->e, operand->type.dtype));
		v = at_masked(x, mask, operand, in, v ? v : zero);
		offset = ml_dim_add(dims, offset, operand->type.dim[c->axis]);
	}
	return v;
}

static ml_v
at_concat(ml_expr *x, const ml_node *n, const ml_dim *index)
{
	concat_at c = {.n = n, .index = index, .axis = ML_A(n, concat, axis).i64};

	return ml_expr_depends_on_lane(x, index[c.axis])
		       ? concat_lanes(x, &c)
		       : concat_branch(x, &c, 0, ml_dim_int(x->kernel->m->dims, 0));
}

static index_map *const map_table[ML_OP_LIMIT] = {
	[ML_OP_reshape] = in_reshape,     [ML_OP_transpose] = in_transpose,
	[ML_OP_broadcast] = in_broadcast, [ML_OP_slice] = in_slice,
	[ML_OP_reverse] = in_reverse,     [ML_OP_window] = in_window,
};

ml_v
ml_expr_move(ml_expr *x, const ml_node *n, const ml_dim *index)
{
	ml_dim in[ML_MAX_RANK];

	if (n->op == ML_OP_pad)
		return at_pad(x, n, index);
	if (n->op == ML_OP_concat)
		return at_concat(x, n, index);
	map_table[n->op](x, n, index, in);
	return ml_expr_at(x, ml_in(n, 0), in);
}

const ml_value *
ml_expr_leaf(ml_expr *x, const ml_value *v, const ml_dim *index, ml_dim *address)
{
	ml_dim in[ML_MAX_RANK];

	if (!v->def) {
		*address = ml_expr_linear(x, v->type.rank, v->type.dim, index);
		return v;
	}
	if (!map_table[v->def->op])
		return NULL;
	map_table[v->def->op](x, v->def, index, in);
	return ml_expr_leaf(x, ml_in(v->def, 0), in, address);
}

/* The operand of v's own shape that an elementwise node reads, or NULL. */
static const ml_value *
alike(const ml_value *v)
{
	const ml_node *n = v->def;

	for (int i = 0; ml_op_get(n->op)->cls == ML_ELEMENTWISE && i < n->nin; i++)
		if (ml_type_same_shape(&ml_in(n, i)->type, &v->type))
			return ml_in(n, i);
	return NULL;
}

const ml_value *
ml_expr_source(ml_expr *x, const ml_value *v, const ml_dim *index, ml_dim *address)
{
	ml_dim in[ML_MAX_RANK];

	if (!v->def)
		return ml_expr_leaf(x, v, index, address);
	if (!map_table[v->def->op])
		return alike(v) ? ml_expr_source(x, alike(v), index, address) : NULL;
	map_table[v->def->op](x, v->def, index, in);
	return ml_expr_source(x, ml_in(v->def, 0), in, address);
}

/* ---- storing through views ---- */

static bool
is_bijective_view(const ml_value *v)
{
	return ml_is(v, ML_OP_reshape) || ml_is(v, ML_OP_transpose);
}

const ml_value *
ml_expr_computed(const ml_kernel *k, const ml_value *v)
{
	if (!strcmp(k->note, ML_KERNEL_WITHIN) && ml_is(v, ML_OP_pad))
		v = ml_in(v->def, 0);
	while (is_bijective_view(v) && ml_in(v->def, 0)->def && !ml_is_const(ml_in(v->def, 0)))
		v = ml_in(v->def, 0);
	return v;
}

/* The index of `v`, a view of `computed` at `index`. */
static void
map_forward(ml_expr *x, const ml_value *v, const ml_value *computed, const ml_dim *index,
	    ml_dim *out)
{
	ml_dim in[ML_MAX_RANK];

	if (v == computed) {
		memcpy(out, index, (size_t)v->type.rank * sizeof *out);
		return;
	}
	const ml_value *operand = ml_in(v->def, 0);
	map_forward(x, operand, computed, index, in);
	if (v->def->op == ML_OP_reshape)
		map_reshape(x, &operand->type, in, &v->type, out);
	else if (v->def->op == ML_OP_pad)
		for (int i = 0; i < v->type.rank; i++)
			out[i] = ml_dim_add(x->kernel->m->dims, in[i],
					    ML_A(v->def, pad, low).dims[i]);
	else
		for (int i = 0; i < v->type.rank; i++)
			out[i] = in[ML_A(v->def, transpose, perm).ints[i]];
}

ml_dim
ml_expr_result_address(ml_expr *x, int result, const ml_value *computed, const ml_dim *index)
{
	const ml_value *shown = ml_in(x->kernel->m->main->last, result);
	ml_dim at[ML_MAX_RANK];

	map_forward(x, shown, computed, index, at);
	return ml_expr_linear(x, shown->type.rank, shown->type.dim, at);
}

void
ml_expr_store(ml_expr *x, int result, const ml_value *computed, const ml_dim *index, ml_v v)
{
	const ml_block *main = x->kernel->m->main;

	ml_expr_store_at(x, ml_in(main->last, result)->type.dtype, x->buffer[main->nargs + result],
			 ml_expr_result_address(x, result, computed, index), v);
}
