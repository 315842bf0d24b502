/* grad_index.c -- gradients of gather, scatter and top_k: they turn into each other. */
#include "grad_rule.h"
#include <string.h>

static ml_value *
scatter(ml_builder *b, ml_value *data, ml_value *index, ml_value *updates, const char *mode)
{
	ml_node *n = ml_begin(b, ML_OP_scatter, (ml_value *[]){data, index, updates}, 3);

	if (!n)
		return NULL;
	ML_A(n, scatter, mode).str = mode;
	return ml_finish1(b, n);
}

static ml_value *
flat(ml_builder *b, ml_value *x)
{
	ml_dim count = x ? ml_type_count(b->m->dims, &x->type) : NULL;

	return x ? ml_build_reshape(b, x, &count, 1) : NULL;
}

/* Rows are added up at their indices; other axes than the first are moved there and back. */
ML_GRADIENT(gather)
{
	const ml_type *t = &g->in[0]->type;
	int axis = (int)ML_A(g->node, gather, axis).i64, nindex = g->in[1]->type.rank;
	ml_builder *b = &g->b;
	int64_t perm[ML_MAX_RANK], back[ML_MAX_RANK];
	ml_type rows = *t;
	int at = 0;

	for (int i = 0; i < nindex; i++)
		perm[at++] = axis + i;
	for (int i = 0; i < g->d[0]->type.rank; i++)
		if (i < axis || i >= axis + nindex)
			perm[at++] = i;
	ml_value *d = ml_build_transpose(b, g->d[0], perm);
	ml_value *index = flat(b, g->in[1]);
	if (!index)
		return;
	rows.dim[0] = t->dim[axis];
	back[axis] = 0;
	for (int i = 0, to = 1; i < t->rank; i++)
		if (i != axis) {
			back[i] = to;
			rows.dim[to++] = t->dim[i];
		}
	ml_type updates = rows;
	updates.dim[0] = index->type.dim[0];
	d = ml_build_reshape(b, d, updates.dim, updates.rank);
	d = scatter(b, ml_zeros(b, &rows), index, d, "add");
	ml_grad_add(g, 0, ml_build_transpose(b, d, back));
}

/* A vector over the first dim of something of this rank. */
static ml_value *
per_row(ml_builder *b, ml_value *v, int rank)
{
	ml_dim shape[ML_MAX_RANK];

	if (!v)
		return NULL;
	shape[0] = v->type.dim[0];
	for (int i = 1; i < rank; i++)
		shape[i] = ml_dim_int(b->m->dims, 1);
	return ml_build_reshape(b, v, shape, rank);
}

/* Rows were replaced: of several updates of one row the last one counts. */
static void
scatter_set(ml_grad_state *g)
{
	ml_builder *b = &g->b;
	ml_value *index = g->in[1];
	int rank = g->in[0]->type.rank;
	ml_type rows = {.dtype = ML_s64, .rank = 1, .dim = {g->in[0]->type.dim[0]}};

	if (g->wanted[0])
		ml_grad_add(g, 0, scatter(b, g->d[0], index, ml_zeros(b, &g->in[2]->type), "set"));
	if (!g->wanted[2])
		return;
	ml_value *turn = ml_build_iota(b, index->type.dim, 1, 0, ML_s64);
	ml_value *last = scatter(b, ml_zeros(b, &rows), index, turn, "set");
	ml_value *counts = ml_op2(b, ML_OP_eq, ml_build_gather(b, last, index, 0), turn);
	ml_grad_add(g, 2,
		    ml_where(b, per_row(b, counts, rank), ml_build_gather(b, g->d[0], index, 0)));
}

/* Equals share, as in reduce_max. */
static void
scatter_extreme(ml_grad_state *g)
{
	ml_builder *b = &g->b;
	ml_value *index = g->in[1], *y = g->out[0];
	ml_dtype t = y->type.dtype;
	ml_value *kept = ml_op2(b, ML_OP_eq, g->in[0], y);
	ml_value *won = ml_op2(b, ML_OP_eq, g->in[2], ml_build_gather(b, y, index, 0));
	ml_value *count =
		scatter(b, ml_build_cast(b, kept, t), index, ml_build_cast(b, won, t), "add");
	ml_value *share = DIV(g->d[0], count);

	ml_grad_add(g, 0, ml_where(b, kept, share));
	if (g->wanted[2])
		ml_grad_add(g, 2, ml_where(b, won, ml_build_gather(b, share, index, 0)));
}

/* Updates of mode mul would need the product of all others of their row. */
ML_GRADIENT(scatter)
{
	const char *mode = ML_A(g->node, scatter, mode).str;
	ml_builder *b = &g->b;

	if (!strcmp(mode, "set")) {
		scatter_set(g);
	} else if (!strcmp(mode, "add")) {
		ml_grad_add(g, 0, g->d[0]);
		if (g->wanted[2])
			ml_grad_add(g, 2, ml_build_gather(b, g->d[0], g->in[1], 0));
	} else if (strcmp(mode, "mul") != 0) {
		scatter_extreme(g);
	} else if (g->wanted[2]) {
		b->failed = ml_error(b->m->cx, ML_ERR_UNSUPPORTED, g->node->prov,
				     "scatter of mode mul has no gradient by its updates");
	} else {
		ml_type t = g->in[0]->type;
		ml_value *one = ml_build_broadcast(b, ml_build_f64(b, t.dtype, 1), t.dim, t.rank);
		ml_grad_add(g, 0, MUL(g->d[0], scatter(b, one, g->in[1], g->in[2], "mul")));
	}
}

/* Each line along the axis gets its values' gradients back; as rows of a flat vector. */
ML_GRADIENT(top_k)
{
	const ml_type *t = &g->in[0]->type;
	int axis = (int)ML_A(g->node, top_k, axis).i64;
	ml_builder *b = &g->b;
	ml_dims *dims = b->m->dims;
	ml_dim stride = ml_dim_int(dims, 1);
	ml_value *at = NULL;

	if (!g->d[0])
		return;
	for (int i = t->rank - 1; i >= 0; i--) {
		ml_dim shape[ML_MAX_RANK];
		for (int k = 0; k < t->rank; k++)
			shape[k] = ml_dim_int(dims, 1);
		shape[i] = t->dim[i];
		ml_value *step =
			i == axis ? g->out[1] : ml_build_iota(b, shape, t->rank, i, ML_s64);
		step = MUL(step, ml_build_dim(b, stride));
		at = at ? ADD(at, step) : step;
		stride = ml_dim_mul(dims, stride, t->dim[i]);
	}
	ml_type line = {.dtype = t->dtype, .rank = 1, .dim = {stride}};
	ml_value *d = scatter(b, ml_zeros(b, &line), flat(b, at), flat(b, g->d[0]), "add");
	ml_grad_add(g, 0, ml_build_reshape(b, d, t->dim, t->rank));
}

ML_GRADIENT_IS(nonzero, ENDS);
ML_GRADIENT_IS(nms, ENDS);
ML_GRADIENT_IS(unique, NONE);
