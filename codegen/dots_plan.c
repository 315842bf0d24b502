/* dots_plan.c -- sizes and tile grid of contraction kernels; is the left operand read in place? */
#include "dots.h"
#include "family.h"
#include "plan.h"

enum { NARROW_ROWS = 96 }; /* of bf16 go through scratch: panels are read faster than they come */

const ml_node *
ml_dots_find(const ml_kernel *k)
{
	const ml_node *found = NULL;

	for (const ml_node *n = k->m->main->first; n; n = n->next)
		if (n->op == ML_OP_dot && !ml_in(n, 1)->def)
			found = n;
	return found;
}

static bool
form_of(const ml_node *dot, ml_contract_form *form)
{
	ml_dtype a = ml_in(dot, 0)->type.dtype, b = ml_in(dot, 1)->type.dtype;

	*form = ml_form_of(b);
	return a == (b == ML_s8 ? ML_u8 : b) && (b == ML_f32 || b == ML_s8 || b == ML_bf16);
}

static void
contracted_shape(const ml_dots *d, ml_dim *shape)
{
	for (int i = 0; i < d->nk; i++)
		shape[i] = ml_in(d->dot, 0)->type.dim[ML_A(d->dot, dot, lhs_contract).ints[i]];
}

void
ml_dots_lhs_index(ml_expr *x, const ml_dots *d, ml_dim batch, ml_dim row, ml_dim k, ml_dim *index)
{
	const ml_dim *out = d->dot->out[0].type.dim;
	ml_dim at[ML_MAX_RANK], shape[ML_MAX_RANK], ks[ML_MAX_RANK];

	contracted_shape(d, shape);
	ml_expr_delinear(x, d->nbatch, out, batch, at);
	ml_expr_delinear(x, d->nrows, out + d->nbatch, row, at + d->nbatch);
	ml_expr_delinear(x, d->nk, shape, k, ks);
	ml_expr_operand_index(ml_in(d->dot, 0), &ML_A(d->dot, dot, lhs_batch),
			      &ML_A(d->dot, dot, lhs_contract), at, ks, at + d->nbatch, index);
}

void
ml_dots_rhs_index(ml_expr *x, const ml_dots *d, ml_dim batch, ml_dim k, ml_dim column,
		  ml_dim *index)
{
	const ml_dim *out = d->dot->out[0].type.dim;
	ml_dim at[ML_MAX_RANK], shape[ML_MAX_RANK], ks[ML_MAX_RANK], free[ML_MAX_RANK];

	contracted_shape(d, shape);
	ml_expr_delinear(x, d->nbatch, out, batch, at);
	ml_expr_delinear(x, d->nk, shape, k, ks);
	ml_expr_delinear(x, d->ncolumns, out + d->nbatch + d->nrows, column, free);
	ml_expr_operand_index(ml_in(d->dot, 1), &ML_A(d->dot, dot, rhs_batch),
			      &ML_A(d->dot, dot, rhs_contract), at, ks, free, index);
}

void
ml_dots_out_index(ml_expr *x, const ml_dots *d, ml_dim batch, ml_dim row, ml_dim column,
		  ml_dim *index)
{
	const ml_dim *out = d->dot->out[0].type.dim;

	ml_expr_delinear(x, d->nbatch, out, batch, index);
	ml_expr_delinear(x, d->nrows, out + d->nbatch, row, index + d->nbatch);
	ml_expr_delinear(x, d->ncolumns, out + d->nbatch + d->nrows, column,
			 index + d->nbatch + d->nrows);
}

static ml_dim
less_one(ml_dims *dims, ml_dim d)
{
	return ml_dim_sub(dims, d, ml_dim_int(dims, 1));
}

/* Loop variables have bounds, and so have quotients of them that got a symbol. */
static bool
mentions_index(ml_dims *dims, ml_dim d, const ml_sym *except)
{
	for (int i = 0; i < ml_sym_count(dims); i++) {
		const ml_sym *s = ml_sym_at(dims, i);
		if (s->bound && s != except && ml_dim_mentions(d, s))
			return true;
	}
	return false;
}

/* Rows of contiguous k, equally far apart, somewhere in a tensor? */
static void
find_rows(ml_dots *d)
{
	ml_dims *dims = d->kernel->m->dims;
	const ml_value *a = ml_in(d->dot, 0), *leaf;
	ml_dim index[ML_MAX_RANK], address, step, rest, base;
	ml_expr x;

	ml_expr_analyse(&x, d->kernel);
	const ml_sym *batch = ml_expr_loop_var(&x, NULL, less_one(dims, d->batches));
	const ml_sym *row = ml_expr_loop_var(&x, NULL, less_one(dims, d->m));
	const ml_sym *k = ml_expr_loop_var(&x, NULL, less_one(dims, d->k));
	ml_dots_lhs_index(&x, d, ml_dim_sym(dims, batch), ml_dim_sym(dims, row),
			  ml_dim_sym(dims, k), index);
	leaf = ml_expr_leaf(&x, a, index, &address);
	if (leaf && ml_dim_linear(dims, address, k, &step, &rest) &&
	    (ml_dim_equals(step, 1) || ml_dim_equals(d->k, 1)) &&
	    ml_dim_linear(dims, rest, row, &d->lda, &base) && !mentions_index(dims, d->lda, NULL) &&
	    !mentions_index(dims, base, batch))
		d->leaf = leaf;
}

/* Bytes of a tensor that lies in rows as the results do, 0 of others: attention reads heads, which
 * are columns. */
static ml_dim
bytes_in_rows(const ml_dots *d, const ml_type *t)
{
	const ml_type *results = &d->dot->out[0].type;
	ml_dims *dims = d->kernel->m->dims;
	bool in_rows = ml_type_count(dims, t) == ml_type_count(dims, results) && t->rank > 0 &&
		       t->dim[t->rank - 1] == results->dim[results->rank - 1];

	return in_rows ? ml_type_bytes(dims, t) : ml_dim_int(dims, 0);
}

/* Sizes beyond what dims can say are none. */
static ml_dim
or_none(ml_dims *dims, ml_dim bytes)
{
	return ml_dim_is_bad(bytes) ? ml_dim_int(dims, 0) : bytes;
}

static void
count_bytes(ml_dots *d)
{
	const ml_block *main = d->kernel->m->main;
	ml_dims *dims = d->kernel->m->dims;
	ml_dim sum = ml_type_bytes(dims, &d->leaf->type);

	for (int i = 0; i < main->nargs; i++)
		if (main->arg[i] != d->leaf && main->arg[i] != ml_in(d->dot, 1))
			sum = ml_dim_add(dims, sum, bytes_in_rows(d, &main->arg[i]->type));
	for (int i = 0; i < main->last->nin; i++)
		sum = ml_dim_add(dims, sum, bytes_in_rows(d, &ml_in(main->last, i)->type));
	d->row_bytes = or_none(dims, sum);
	d->weight_bytes = or_none(dims, ml_type_bytes(dims, &ml_in(d->dot, 1)->type));
}

ml_status
ml_dots_plan(ml_kernel *kernel, const ml_node *dot, int64_t row_block, ml_dots *d)
{
	ml_dims *dims = kernel->m->dims;
	ml_dim shape[ML_MAX_RANK];
	int64_t m;

	*d = (ml_dots){.kernel = kernel, .dot = dot};
	if (!dot || !form_of(dot, &d->form))
		return ml_error(kernel->m->cx, ML_ERR_CODEGEN, NULL,
				"a contraction kernel without a dot that has tiles");
	d->nbatch = ML_A(dot, dot, lhs_batch).count;
	d->nk = ML_A(dot, dot, lhs_contract).count;
	d->nrows = ml_in(dot, 0)->type.rank - d->nbatch - d->nk;
	d->ncolumns = ml_in(dot, 1)->type.rank - d->nbatch - d->nk;
	contracted_shape(d, shape);
	const ml_dim *out = dot->out[0].type.dim;
	d->batches = ml_dim_product(dims, out, d->nbatch);
	d->m = ml_dim_product(dims, out + d->nbatch, d->nrows);
	d->n = ml_dim_product(dims, out + d->nbatch + d->nrows, d->ncolumns);
	d->k = ml_dim_product(dims, shape, d->nk);
	find_rows(d);
	if (!d->leaf)
		ml_find_image(dot, &d->image);
	int64_t most = d->form == ML_CONTRACT_BF16 ? NARROW_ROWS : ML_PACKED_ROWS;
	if (ml_dim_is_int(d->m, &m) && m > 0 && m <= most)
		most = (m + ML_GRID_ROWS - 1) / ML_GRID_ROWS * ML_GRID_ROWS;
	d->row_block = row_block ? row_block : most;
	d->row_blocks = ml_dim_ceildiv(dims, d->m, ml_dim_int(dims, d->row_block));
	d->row_tiles = ml_dim_ceildiv(dims, d->m, ml_dim_int(dims, ML_GRID_ROWS));
	d->panel_tiles = ml_dim_ceildiv(dims, d->n, ml_dim_int(dims, ML_GRID_PANELS * ML_PANEL));
	if (d->leaf)
		count_bytes(d);
	return ML_OK;
}

ml_status
ml_contract_grid(ml_kernel *k, ml_grid *grid)
{
	ml_dims *dims = k->m->dims;
	ml_pool pool;
	ml_dots d;

	if (ml_pool_of(k, &pool, &d)) {
		ml_pool_grid(&pool, &d, grid);
		return ML_OK;
	}
	ML_STEP(ml_dots_plan(k, ml_dots_find(k), 0, &d));
	grid->tiles = ml_dim_mul(dims, d.batches, ml_dim_mul(dims, d.row_tiles, d.panel_tiles));
	grid->scratch_bytes = ml_dots_scratch_bytes(&d);
	return ML_OK;
}
