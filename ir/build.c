/* build.c -- the builder: nodes and short forms for the common ones. */
#include "infer.h"
#include <string.h>

ml_builder
ml_builder_at_end(ml_block *block, const ml_prov *prov)
{
	return (ml_builder){.m = block->module, .block = block, .prov = prov};
}

ml_builder
ml_builder_before(ml_node *n)
{
	return (ml_builder){.m = n->block->module, .block = n->block, .before = n, .prov = n->prov};
}

/* ---- nodes ---- */

static ml_node *
fail(ml_builder *b, ml_status status)
{
	b->failed = status;
	return NULL;
}

ml_node *
ml_begin(ml_builder *b, ml_op op, ml_value *const *in, int nin)
{
	const ml_op_info *info = ml_op_get(op);

	for (int i = 0; i < nin; i++)
		if (!in[i])
			return NULL; /* the call that gave NULL has reported */
	if (nin < info->min_in || (info->max_in != ML_ANY && nin > info->max_in))
		return fail(b, ml_error(b->m->cx, ML_ERR_TYPE, b->prov,
					"%s has %d operands, must have %d to %d", info->name, nin,
					info->min_in, info->max_in));
	ml_node *n = ml_node_new(b->m, op, nin);
	n->prov = b->prov;
	for (int i = 0; i < nin; i++)
		n->in[i].value = in[i];
	return n;
}

ml_node *
ml_begin_like(ml_builder *b, const ml_node *like, ml_value *const *in, int nin)
{
	ml_node *n = ml_begin(b, like->op, in, nin);

	for (int i = 0; n && i < ml_op_get(n->op)->nattrs; i++)
		n->attr[i] = like->attr[i];
	return n;
}

ml_node *
ml_finish(ml_builder *b, ml_node *n)
{
	if (!n)
		return NULL;
	ml_status status = ml_infer(b, n);
	if (status != ML_OK)
		return fail(b, status);
	ml_infer_content(b, n);
	ml_node_insert(n, b->block, b->before);
	return n;
}

ml_value *
ml_finish1(ml_builder *b, ml_node *n)
{
	n = ml_finish(b, n);
	return n ? &n->out[0] : NULL;
}

void
ml_set_results(ml_builder *b, ml_node *n, const ml_type *types, int count)
{
	if (n->nout != count)
		ml_node_new_results(b->m, n, count);
	for (int i = 0; i < count; i++)
		n->out[i].type = types[i];
}

ml_value *
ml_op1(ml_builder *b, ml_op op, ml_value *x)
{
	return ml_finish1(b, ml_begin(b, op, &x, 1));
}

ml_value *
ml_op2(ml_builder *b, ml_op op, ml_value *x, ml_value *y)
{
	return ml_finish1(b, ml_begin(b, op, (ml_value *[]){x, y}, 2));
}

ml_value *
ml_op3(ml_builder *b, ml_op op, ml_value *x, ml_value *y, ml_value *z)
{
	return ml_finish1(b, ml_begin(b, op, (ml_value *[]){x, y, z}, 3));
}

ml_status
ml_build_yield(ml_builder *b, ml_value *const *in, int nin)
{
	return ml_finish(b, ml_begin(b, ML_OP_yield, in, nin)) ? ML_OK
	       : b->failed                                     ? b->failed
							       : ML_ERR_ARG;
}

/* ---- attributes: the node keeps copies ---- */

static ml_attr
ints_attr(ml_builder *b, const int64_t *ints, int n)
{
	int64_t *copy = ML_NEW_ARRAY(&b->m->arena, int64_t, n);

	if (n)
		memcpy(copy, ints, (size_t)n * sizeof *ints);
	return (ml_attr){.ints = copy, .count = n};
}

static ml_attr
dims_attr(ml_builder *b, const ml_dim *dims, int n)
{
	ml_dim *copy = ML_NEW_ARRAY(&b->m->arena, ml_dim, n);

	if (n)
		memcpy(copy, dims, (size_t)n * sizeof *dims);
	return (ml_attr){.dims = copy, .count = n};
}

/* ---- sources ---- */

ml_value *
ml_build_const(ml_builder *b, const ml_type *type, ml_blob *blob)
{
	ml_node *n = ml_begin(b, ML_OP_const, NULL, 0);

	ML_PUSH(&b->m->arena, b->m->blobs, blob);
	ML_A(n, const, value).blob = blob;
	ml_set_results(b, n, type, 1);
	return ml_finish1(b, n);
}

ml_value *
ml_build_f64(ml_builder *b, ml_dtype dtype, double x)
{
	ml_type type = {.dtype = dtype};
	void *bytes;
	ml_blob *blob = ml_blob_new(b->m->arena.memory, (uint64_t)ml_dtype_bytes(dtype), &bytes);

	ml_write_f64(dtype, bytes, 0, x);
	return ml_build_const(b, &type, blob);
}

ml_value *
ml_build_ints(ml_builder *b, const int64_t *ints, int n)
{
	ml_type type = {.dtype = ML_s64, .rank = 1, .dim = {ML_D(b, n)}};
	void *bytes;
	ml_blob *blob = ml_blob_new(b->m->arena.memory, (uint64_t)n * sizeof *ints, &bytes);

	if (n)
		memcpy(bytes, ints, (size_t)n * sizeof *ints);
	return ml_build_const(b, &type, blob);
}

ml_value *
ml_build_dim(ml_builder *b, ml_dim d)
{
	ml_type scalar = {.dtype = ML_s64};
	void *bytes;
	int64_t v;

	if (ml_dim_is_int(d, &v)) {
		ml_blob *blob = ml_blob_new(b->m->arena.memory, sizeof v, &bytes);
		memcpy(bytes, &v, sizeof v);
		return ml_build_const(b, &scalar, blob);
	}
	ml_node *n = ml_begin(b, ML_OP_dim, NULL, 0);
	ML_A(n, dim, value) = dims_attr(b, &d, 1);
	return ml_finish1(b, n);
}

ml_value *
ml_build_iota(ml_builder *b, const ml_dim *shape, int rank, int axis, ml_dtype dtype)
{
	ml_node *n = ml_begin(b, ML_OP_iota, NULL, 0);

	ML_A(n, iota, shape) = dims_attr(b, shape, rank);
	ML_A(n, iota, axis).i64 = axis;
	ML_A(n, iota, dtype).dtype = dtype;
	return ml_finish1(b, n);
}

/* ---- elementwise, moves, reductions ---- */

ml_value *
ml_build_cast(ml_builder *b, ml_value *x, ml_dtype dtype)
{
	if (!x || x->type.dtype == dtype)
		return x;
	ml_node *n = ml_begin(b, ML_OP_cast, &x, 1);
	ML_A(n, cast, dtype).dtype = dtype;
	return ml_finish1(b, n);
}

ml_value *
ml_build_reshape(ml_builder *b, ml_value *x, const ml_dim *shape, int rank)
{
	ml_node *n = ml_begin(b, ML_OP_reshape, &x, 1);

	if (!n)
		return NULL;
	ML_A(n, reshape, shape) = dims_attr(b, shape, rank);
	return ml_finish1(b, n);
}

ml_value *
ml_build_transpose(ml_builder *b, ml_value *x, const int64_t *perm)
{
	ml_node *n = ml_begin(b, ML_OP_transpose, &x, 1);

	if (!n)
		return NULL;
	ML_A(n, transpose, perm) = ints_attr(b, perm, x->type.rank);
	return ml_finish1(b, n);
}

ml_value *
ml_build_broadcast(ml_builder *b, ml_value *x, const ml_dim *shape, int rank)
{
	ml_node *n = ml_begin(b, ML_OP_broadcast, &x, 1);

	if (!n)
		return NULL;
	ML_A(n, broadcast, shape) = dims_attr(b, shape, rank);
	return ml_finish1(b, n);
}

ml_value *
ml_build_slice(ml_builder *b, ml_value *x, const ml_dim *start, const ml_dim *size,
	       const int64_t *step)
{
	ml_node *n = ml_begin(b, ML_OP_slice, &x, 1);

	if (!n)
		return NULL;
	ML_A(n, slice, start) = dims_attr(b, start, x->type.rank);
	ML_A(n, slice, size) = dims_attr(b, size, x->type.rank);
	ML_A(n, slice, step) = ints_attr(b, step, x->type.rank);
	return ml_finish1(b, n);
}

ml_value *
ml_build_pad(ml_builder *b, ml_value *x, ml_value *value, const ml_dim *low, const ml_dim *high,
	     const int64_t *interior)
{
	ml_node *n = ml_begin(b, ML_OP_pad, (ml_value *[]){x, value}, 2);

	if (!n)
		return NULL;
	ML_A(n, pad, low) = dims_attr(b, low, x->type.rank);
	ML_A(n, pad, high) = dims_attr(b, high, x->type.rank);
	ML_A(n, pad, interior) = ints_attr(b, interior, x->type.rank);
	return ml_finish1(b, n);
}

ml_value *
ml_build_concat(ml_builder *b, ml_value *const *in, int nin, int axis)
{
	ml_node *n = ml_begin(b, ML_OP_concat, in, nin);

	if (!n)
		return NULL;
	ML_A(n, concat, axis).i64 = axis;
	return ml_finish1(b, n);
}

ml_value *
ml_build_reduce(ml_builder *b, ml_op op, ml_value *x, const int64_t *axes, int naxes)
{
	ml_node *n = ml_begin(b, op, &x, 1);

	if (!n)
		return NULL;
	n->attr[0] = ints_attr(b, axes, naxes); /* `axes` is the only attribute of all of them */
	return ml_finish1(b, n);
}

ml_value *
ml_build_gather(ml_builder *b, ml_value *data, ml_value *index, int axis)
{
	ml_node *n = ml_begin(b, ML_OP_gather, (ml_value *[]){data, index}, 2);

	if (!n)
		return NULL;
	ML_A(n, gather, axis).i64 = axis;
	return ml_finish1(b, n);
}

/* ---- products ---- */

ml_value *
ml_build_dot(ml_builder *b, ml_value *x, ml_value *y, const int64_t *a_batch,
	     const int64_t *b_batch, int nbatch, const int64_t *a_contract,
	     const int64_t *b_contract, int ncontract)
{
	ml_node *n = ml_begin(b, ML_OP_dot, (ml_value *[]){x, y}, 2);

	if (!n)
		return NULL;
	ML_A(n, dot, lhs_batch) = ints_attr(b, a_batch, nbatch);
	ML_A(n, dot, rhs_batch) = ints_attr(b, b_batch, nbatch);
	ML_A(n, dot, lhs_contract) = ints_attr(b, a_contract, ncontract);
	ML_A(n, dot, rhs_contract) = ints_attr(b, b_contract, ncontract);
	return ml_finish1(b, n);
}

/* Brings the dims before the last two to the common batch shape. */
static ml_value *
with_batch(ml_builder *b, ml_value *x, const ml_type *batch)
{
	ml_type t = *batch;
	int lead = x->type.rank - 2;

	t.dtype = x->type.dtype;
	t.dim[t.rank++] = x->type.dim[lead];
	t.dim[t.rank++] = x->type.dim[lead + 1];
	return ml_type_equal(&t, &x->type) ? x : ml_build_broadcast(b, x, t.dim, t.rank);
}

ml_value *
ml_build_matmul(ml_builder *b, ml_value *x, ml_value *w)
{
	int64_t axis[ML_MAX_RANK], x_contract, w_contract;
	ml_type batch, xt, wt;

	if (!x || !w)
		return NULL;
	if (x->type.rank < 2 || w->type.rank < 2) {
		fail(b, ml_error(b->m->cx, ML_ERR_SHAPE, b->prov,
				 "ranks %d and %d: a matrix product needs at least 2", x->type.rank,
				 w->type.rank));
		return NULL;
	}
	x_contract = x->type.rank - 1;
	if (w->type.rank == 2)
		return ml_build_dot(b, x, w, NULL, NULL, 0, &x_contract, &(int64_t){0}, 1);
	xt = x->type;
	wt = w->type;
	xt.rank -= 2;
	wt.rank -= 2;
	if (!ml_broadcast_shape(b, (const ml_type *[]){&xt, &wt}, 2, &batch)) {
		fail(b, ML_ERR_SHAPE);
		return NULL;
	}
	x = with_batch(b, x, &batch);
	w = with_batch(b, w, &batch);
	for (int i = 0; i < batch.rank; i++)
		axis[i] = i;
	x_contract = batch.rank + 1;
	w_contract = batch.rank;
	return ml_build_dot(b, x, w, axis, axis, batch.rank, &x_contract, &w_contract, 1);
}

/* ---- dims of size 1 ---- */

static ml_value *
bad_axes(ml_builder *b, const char *what)
{
	fail(b, ml_error(b->m->cx, ML_ERR_VALUE, b->prov, "%s", what));
	return NULL;
}

/* A set of axes in [-rank, rank). */
static bool
axis_set(const int64_t *axes, int n, int rank, unsigned *set)
{
	*set = 0;
	for (int i = 0; i < n; i++) {
		int64_t a = axes[i] < 0 ? axes[i] + rank : axes[i];
		if (a < 0 || a >= rank || *set >> a & 1)
			return false;
		*set |= 1u << a;
	}
	return true;
}

ml_value *
ml_build_squeeze(ml_builder *b, ml_value *x, const int64_t *axes, int naxes)
{
	ml_dim shape[ML_MAX_RANK];
	unsigned set;
	int rank = 0;

	if (!x)
		return NULL;
	if (!axis_set(axes, naxes, x->type.rank, &set))
		return bad_axes(b, "axes to squeeze are outside of the rank or given twice");
	for (int i = 0; i < x->type.rank; i++) {
		if (!(set >> i & 1))
			shape[rank++] = x->type.dim[i];
		else if (!ml_require_equal(b, x->type.dim[i], ML_D(b, 1), "squeezed sizes are 1"))
			return bad_axes(b, "a squeezed dim must have size 1");
	}
	return ml_build_reshape(b, x, shape, rank);
}

ml_value *
ml_build_unsqueeze(ml_builder *b, ml_value *x, const int64_t *axes, int naxes)
{
	ml_dim shape[ML_MAX_RANK];
	unsigned set;

	if (!x)
		return NULL;
	int rank = x->type.rank + naxes;
	if (rank > ML_MAX_RANK || !axis_set(axes, naxes, rank, &set))
		return bad_axes(b, "axes to insert are outside of the rank or given twice");
	for (int i = 0, from = 0; i < rank; i++)
		shape[i] = set >> i & 1 ? ML_D(b, 1) : x->type.dim[from++];
	return ml_build_reshape(b, x, shape, rank);
}

ml_status
ml_module_set_outputs(ml_module *m, ml_value *const *value, int n)
{
	const ml_prov *prov = m->main->last->prov;

	ml_node_remove(m->main->last);
	m->output_names.count = 0;
	for (int i = 0; i < n; i++)
		ML_PUSH(&m->arena, m->output_names, ml_format(&m->arena, "output %d", i));
	ml_builder b = ml_builder_at_end(m->main, prov);
	return ml_build_yield(&b, value, n);
}
