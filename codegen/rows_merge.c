/* rows_merge.c -- adjacent dims of a space become one where every access allows it.
 *
 * Dims i and i+1 are one when every dim that reaches the code depends on their indices only
 * through index[i] * size[i+1] + index[i+1].  To know these dims the kernel's expressions are
 * emitted once into a function that is deleted again.
 */
#include "rows.h"

static void
try_element(ml_expr *x, const ml_value *v, const ml_dim *index)
{
	int mark = ml_expr_mark(x);

	ml_expr_at(x, v, index);
	ml_expr_release(x, mark);
}

static void
try_stage(const ml_rows *r, ml_expr *x, const ml_stage *s, const ml_dim *index,
	  const ml_dim *scalar_index)
{
	for (int i = 0; i < s->reductions.count; i++) {
		const ml_node *n = s->reductions.at[i];
		try_element(x, ml_in(n, 0), index);
		LLVMTypeRef type = ml_register_type(x->e, n->out[0].type.dtype);
		ml_expr_bind(x, &n->out[0], LLVMGetUndef(type));
	}
	for (int i = 0; i < s->results.count + s->scalars.count; i++) {
		bool row = i < s->results.count;
		int result = row ? s->results.at[i] : s->scalars.at[i - s->results.count];
		const ml_dim *at = row ? index : scalar_index;
		const ml_value *v = ml_rows_result(r, result);
		ml_expr_store(x, result, v, at, ml_expr_at(x, v, at));
	}
}

/* All dims the code depends on, with one symbol for every dim of the space. */
static void
collect(ml_rows *r, ml_emit *e, ml_dim *index, ml_trace *trace)
{
	ml_dims *dims = r->kernel->m->dims;
	ml_dim scalar[ML_MAX_RANK];
	ml_expr x;

	ml_expr_open(&x, e, r->kernel, "tried");
	x.trace = trace;
	for (int i = 0; i < r->space.rank; i++) {
		ml_dim last = ml_dim_sub(dims, r->space.dim[i], ml_dim_int(dims, 1));
		index[i] =
			ml_dim_equals(last, 0)
				? last
				: ml_dim_sym(dims, ml_expr_loop_var(&x, ml_expr_begin(&x), last));
		scalar[i] = i < r->outer ? index[i] : ml_dim_int(dims, 0);
	}
	for (int s = 0; s < r->nstages; s++)
		try_stage(r, &x, &r->stage[s], index, scalar);
	ml_expr_close(&x);
	LLVMDeleteFunction(e->fn);
	e->fn = NULL;
}

static const ml_sym *
symbol_of(ml_dim d)
{
	const ml_term *t;

	return ml_dim_terms(d, &t) == 1 && t->natoms == 1 ? t->atom[0]->sym : NULL;
}

static bool
can_merge(ml_dims *dims, const ml_trace *trace, const ml_sym *i, const ml_sym *j, ml_dim size)
{
	for (int k = 0; k < trace->dims.count; k++) {
		ml_dim ci, cj, rest, d = trace->dims.at[k];
		if (!ml_dim_linear(dims, d, i, &ci, &rest) ||
		    !ml_dim_linear(dims, d, j, &cj, &rest) || ml_dim_mentions(ci, j) ||
		    ci != ml_dim_mul(dims, cj, size))
			return false;
	}
	return true;
}

void
ml_rows_merge(ml_rows *r, ml_emit *e, ml_groups *g)
{
	ml_dims *dims = r->kernel->m->dims;
	ml_dim index[ML_MAX_RANK];
	ml_trace trace = {0};
	const ml_sym *previous = NULL;

	g->n = 0;
	collect(r, e, index, &trace);
	for (int i = 0; i < r->outer; i++) {
		const ml_sym *s = symbol_of(index[i]);
		ml_dim size = r->space.dim[i];
		if (!s) /* a dim of size 1 belongs to whichever group is there */
			continue;
		if (g->n && can_merge(dims, &trace, previous, s, size)) {
			g->last[g->n - 1] = i;
			g->size[g->n - 1] = ml_dim_mul(dims, g->size[g->n - 1], size);
		} else {
			g->first[g->n] = g->last[g->n] = i;
			g->size[g->n++] = size;
		}
		previous = s;
	}
}
