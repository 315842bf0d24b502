/* scatter.c -- rows of a tensor replaced by or combined with updates, in the order of the indices.
 *
 * A tile is a range of columns of all rows: every column sees all updates in order, whatever the
 * number of threads. */
#include "expr.h"
#include "family.h"
#include <string.h>

enum { TILE_BLOCKS = 64 }; /* blocks of 16 columns */

typedef struct scatter_emit {
	ml_expr x;
	const ml_node *n;
	ml_dim rows, columns, updates;
	ml_dim column;     /* 16 * block + lane */
	ml_v blocks, tail; /* full ones; columns in the partial one */
	ml_v from, to;     /* blocks of the tile */
} scatter_emit;

static ml_status
find_scatter(ml_kernel *k, scatter_emit *w)
{
	ml_dims *dims = k->m->dims;
	const ml_value *v = ml_in(k->m->main->last, 0);

	if (!ml_is(v, ML_OP_scatter))
		return ml_error(k->m->cx, ML_ERR_CODEGEN, NULL,
				"a scatter kernel without a scatter");
	w->n = v->def;
	w->rows = v->type.dim[0];
	w->updates = ml_in(v->def, 1)->type.dim[0];
	w->columns = ml_dim_int(dims, 1);
	for (int i = 1; i < v->type.rank; i++)
		w->columns = ml_dim_mul(dims, w->columns, v->type.dim[i]);
	return ML_OK;
}

ml_status
ml_scatter_grid(ml_kernel *k, ml_grid *grid)
{
	scatter_emit w = {0};

	ML_STEP(find_scatter(k, &w));
	grid->tiles = ml_dim_ceildiv(k->m->dims, w.columns,
				     ml_dim_int(k->m->dims, TILE_BLOCKS * ML_LANES));
	grid->scratch_bytes = ml_dim_int(k->m->dims, 0);
	return ML_OK;
}

/* [row, columns...] of any of the operands. */
static void
index_of(scatter_emit *w, ml_dim row, ml_dim *index)
{
	const ml_type *t = &w->n->out[0].type;

	index[0] = row;
	ml_expr_delinear(&w->x, t->rank - 1, t->dim + 1, w->column, index + 1);
}

/* How an update meets what is there; ML_OP_none replaces it. */
static ml_op
combining(const ml_node *n)
{
	static const struct {
		const char *mode;
		ml_op op;
	} table[] = {
		{"add", ML_OP_add}, {"mul", ML_OP_mul}, {"min", ML_OP_min}, {"max", ML_OP_max}};

	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if (!strcmp(ML_A(n, scatter, mode).str, table[i].mode))
			return table[i].op;
	return ML_OP_none;
}

static void
copy_block(scatter_emit *w, ml_dim row, ml_dim to)
{
	ml_dim index[ML_MAX_RANK];

	(void)to;
	index_of(w, row, index);
	ml_expr_store(&w->x, 0, &w->n->out[0], index, ml_expr_at(&w->x, ml_in(w->n, 0), index));
}

static void
update_block(scatter_emit *w, ml_dim row, ml_dim to)
{
	ml_expr *x = &w->x;
	const ml_value *v = ml_in(w->n, 2);
	ml_dtype t = v->type.dtype;
	ml_op op = combining(w->n);
	ml_dim from[ML_MAX_RANK], at[ML_MAX_RANK];

	index_of(w, row, from);
	index_of(w, to, at);
	ml_v new = ml_expr_at(x, v, from);
	if (op) {
		const ml_type *shape = &w->n->out[0].type;
		ml_v old = ml_expr_load(x, t, x->buffer[x->kernel->m->main->nargs],
					ml_expr_linear(x, shape->rank, shape->dim, at));
		new = ml_splat_like(x->e, new, old);
		new = ml_scalar_round(x->e, t, ml_scalar_op(x->e, op, t, (ml_v[]){old, new}));
	}
	ml_expr_store(x, 0, &w->n->out[0], at, new);
}

static void
for_blocks(scatter_emit *w, void (*body)(scatter_emit *, ml_dim, ml_dim), ml_dim row, ml_dim to)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_v one = ml_i64(e, 1), full = ml_min_s(e, w->to, w->blocks);

	for (int partial = 0; partial < 2; partial++) {
		ml_loop l = ml_loop_begin(e, partial ? w->blocks : w->from, partial ? w->to : full,
					  one, NULL, 0, "block");
		int mark = ml_expr_mark(x);
		ml_expr_set_block(x, l.i, partial ? w->tail : NULL);
		body(w, row, to);
		x->count = NULL;
		ml_expr_release(x, mark);
		ml_loop_end(e, &l, NULL);
	}
}

static void
emit_rows(scatter_emit *w)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	ml_dim one = ml_dim_int(dims, 1);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), ml_expr_dim(x, w->rows), ml_i64(e, 1), NULL, 0,
				  "row");
	int mark = ml_expr_mark(x);

	const ml_sym *row = ml_expr_loop_var(x, l.i, ml_dim_sub(dims, w->rows, one));
	for_blocks(w, copy_block, ml_dim_sym(dims, row), NULL);
	ml_expr_release(x, mark);
	ml_loop_end(e, &l, NULL);
}

/* An update whose index is wrong is a fault and goes nowhere. */
static void
emit_updates(scatter_emit *w)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	ml_dim one = ml_dim_int(dims, 1);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), ml_expr_dim(x, w->updates), ml_i64(e, 1), NULL,
				  0, "update");
	int mark = ml_expr_mark(x);
	const ml_sym *i = ml_expr_loop_var(x, l.i, ml_dim_sub(dims, w->updates, one));
	ml_dim from = ml_dim_sym(dims, i);
	ml_v ok, at = ml_expr_wrapped(x, w->n, ml_in(w->n, 1)->type.dtype,
				      ml_expr_at(x, ml_in(w->n, 1), &from), w->rows, &ok);
	const ml_sym *to = ml_expr_loop_var(x, at, ml_dim_sub(dims, w->rows, one));

	ml_if good = ml_if_begin(e, ok);
	for_blocks(w, update_block, from, ml_dim_sym(dims, to));
	ml_if_end(e, &good);
	ml_expr_release(x, mark);
	ml_loop_end(e, &l, NULL);
}

ml_status
ml_scatter_emit(ml_emit *e, ml_kernel *k, const char *name)
{
	ml_dims *dims = k->m->dims;
	ml_dim lanes = ml_dim_int(dims, ML_LANES);
	scatter_emit w = {0};
	ml_expr *x = &w.x;

	ML_STEP(find_scatter(k, &w));
	ml_expr_open(x, e, k, name);
	w.blocks = ml_expr_dim(x, ml_dim_floordiv(dims, w.columns, lanes));
	w.tail = ml_sub(e, ml_expr_dim(x, w.columns), ml_mul(e, w.blocks, ml_i64(e, ML_LANES)));
	ml_v all = ml_expr_dim(x, ml_dim_ceildiv(dims, w.columns, lanes));
	w.from = ml_mul(e, ml_expr_begin(x), ml_i64(e, TILE_BLOCKS));
	w.to = ml_min_s(e, ml_mul(e, ml_expr_end(x), ml_i64(e, TILE_BLOCKS)), all);
	w.column = ml_expr_lanes(x, ml_i64(e, 0), w.columns);
	emit_rows(&w);
	emit_updates(&w);
	ml_expr_no_lanes(x);
	return ml_expr_close(x);
}
