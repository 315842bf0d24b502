/* matrix.c -- linear layers and convolutions as products of matrices, for least squares. */
#include "matrix.h"
#include "../pass.h"

void
ml_matrix_size(const ml_node *n, int64_t *d, int64_t *o)
{
	const ml_type *w = &ml_in(n, 1)->type;

	*d = *o = 1;
	for (int i = 0; i < w->rank; i++)
		*(i == (n->op == ML_OP_linear) ? o : d) *= ml_dim_value(w->dim[i], 1);
}

/* All but the last `columns` dims are rows. */
static ml_value *
as_rows(ml_builder *b, ml_value *v, int columns)
{
	ml_dims *dims = b->m->dims;
	ml_dim shape[2] = {ml_dim_int(dims, 1), ml_dim_int(dims, 1)};

	for (int i = 0; v && i < v->type.rank; i++) {
		ml_dim *to = &shape[i >= v->type.rank - columns];
		*to = ml_dim_mul(dims, *to, v->type.dim[i]);
	}
	return v ? ml_build_reshape(b, v, shape, 2) : NULL;
}

ml_value *
ml_matrix_x(ml_builder *b, const ml_node *n, ml_value *x)
{
	int64_t perm[ML_MAX_RANK] = {0};
	int k = x->type.rank - 2;

	if (n->op == ML_OP_linear)
		return as_rows(b, x, 1);
	x = ml_conv_windows(b, n, x); /* [N,C,O..,K..] => [N,O..,C,K..] */
	for (int i = 0; i < k; i++) {
		perm[1 + i] = 2 + i;
		perm[2 + k + i] = 2 + k + i;
	}
	perm[1 + k] = 1;
	return x ? as_rows(b, ml_build_transpose(b, x, perm), 1 + k) : NULL;
}

ml_value *
ml_matrix_y(ml_builder *b, const ml_node *n, ml_value *y)
{
	int64_t perm[ML_MAX_RANK] = {0};
	int rank = y->type.rank;

	if (n->op == ML_OP_linear)
		return as_rows(b, y, 1);
	for (int i = 2; i < rank; i++)
		perm[i - 1] = i;
	perm[rank - 1] = 1;
	return as_rows(b, ml_build_transpose(b, y, perm), 1);
}

/* Where w[i, k] stands in the constant. */
static int64_t
place(const ml_node *n, int64_t d, int64_t o, int64_t i, int64_t k)
{
	return n->op == ML_OP_linear ? i * o + k : k * d + i;
}

void
ml_matrix_weights(const ml_node *n, double *w, double *b)
{
	int64_t d, o;

	ml_matrix_size(n, &d, &o);
	for (int64_t i = 0; i < d; i++)
		for (int64_t k = 0; k < o; k++)
			w[i * o + k] = ml_const_f64(ml_in(n, 1), place(n, d, o, i, k));
	for (int64_t k = 0; k < o; k++)
		b[k] = n->nin > 2 ? ml_const_f64(ml_in(n, 2), k) : 0;
}

ml_status
ml_matrix_change(ml_node *n, const double *dw, const double *db, ml_node **changed)
{
	ml_builder b = ml_builder_before(n);
	const ml_value *w = ml_in(n, 1);
	int64_t d, o;
	void *weights, *biases;

	ml_matrix_size(n, &d, &o);
	ml_type bias = {.dtype = ML_f32, .rank = 1, .dim = {ml_dim_int(b.m->dims, o)}};
	ml_memory *memory = b.m->arena.memory;
	ml_blob *wb = ml_blob_new(memory, (uint64_t)(d * o) * sizeof(float), &weights);
	ml_blob *bb = ml_blob_new(memory, (uint64_t)o * sizeof(float), &biases);
	for (int64_t i = 0; i < d; i++)
		for (int64_t k = 0; k < o; k++) {
			int64_t at = place(n, d, o, i, k);
			((float *)weights)[at] = (float)(ml_const_f64(w, at) + dw[i * o + k]);
		}
	for (int64_t k = 0; k < o; k++)
		((float *)biases)[k] =
			(float)((n->nin > 2 ? ml_const_f64(ml_in(n, 2), k) : 0) + db[k]);
	ml_value *in[] = {ml_in(n, 0), ml_build_const(&b, &w->type, wb),
			  ml_build_const(&b, &bias, bb)};
	ml_node *copy = ml_begin_like(&b, n, in, 3);
	ml_value *y = ml_finish1(&b, copy);
	ML_STEP(b.failed);
	y->name = n->out[0].name;
	ml_replace_uses(&n->out[0], y);
	ml_node_remove(n);
	copy->id = n->id;
	n->id = 0;
	*changed = copy;
	ml_drop_unused(copy->block);
	return ML_OK;
}
