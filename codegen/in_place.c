/* in_place.c -- which inputs of a kernel a result may be written over: those of which an element is
 * read for nothing but the result's element in the same place.
 *
 * Kernels compute all values of a block before they store any (store_block, ml_dots_store), and no
 * tile reads what another one writes.  So it is enough that every way from the input leads through
 * elementwise operators of the result's shape, or into a reduction of the same row where the
 * result is stored in the last pass over the row.
 */
#include "dots.h"
#include "family.h"
#include "rows.h"

typedef struct space {
	const ml_type *shape;
	const ml_rows *rows; /* NULL: of a contraction */
} space;

/* A view through which results are stored, and nothing else. */
static bool
is_stored_view(const ml_node *n)
{
	if (n->op != ML_OP_reshape && n->op != ML_OP_transpose)
		return false;
	for (const ml_use *u = n->out[0].uses; u; u = u->next)
		if (u->user->op != ML_OP_yield && !is_stored_view(u->user))
			return false;
	return true;
}

static bool
stays_in_place(const space *s, const ml_value *v)
{
	for (const ml_use *u = v->uses; u; u = u->next) {
		const ml_node *n = u->user;
		if (!ml_type_same_shape(&v->type, s->shape))
			return false;
		if (n->op == ML_OP_yield || is_stored_view(n) ||
		    (s->rows && ml_rows_is_reduction(s->rows, n)))
			continue;
		if (ml_op_get(n->op)->cls != ML_ELEMENTWISE ||
		    !ml_type_same_shape(&n->out[0].type, s->shape) ||
		    !stays_in_place(s, &n->out[0]))
			return false;
	}
	return true;
}

/* Is the result what is computed in the space, element by element in the same order? */
static bool
is_plain(const ml_kernel *k, int result, const space *s)
{
	const ml_value *v = ml_in(k->m->main->last, result);

	while (ml_is(v, ML_OP_reshape))
		v = ml_in(v->def, 0);
	return v->def && ml_op_get(v->def->op)->cls == ML_ELEMENTWISE &&
	       ml_type_same_shape(&v->type, s->shape) &&
	       (!s->rows || ml_rows_stage_of(v) == s->rows->nstages - 1);
}

static uint64_t
find_inputs(const ml_kernel *k, int result, const space *s)
{
	const ml_block *main = k->m->main;
	int width = ml_dtype_bytes(ml_in(main->last, result)->type.dtype);
	uint64_t mask = 0;

	if (!is_plain(k, result, s))
		return 0;
	for (int i = 0; i < main->nargs && i < 64; i++) {
		const ml_value *in = main->arg[i];
		if (in->uses && ml_dtype_bytes(in->type.dtype) == width && stays_in_place(s, in))
			mask |= (uint64_t)1 << i;
	}
	return mask;
}

uint64_t
ml_kernel_in_place(ml_kernel *k, int result)
{
	ml_rows rows;
	ml_depthwise d;

	if (*k->note)
		return 0;
	if (k->family == ML_FAMILY_CONTRACT) {
		const ml_node *dot = ml_dots_find(k);
		return dot ? find_inputs(k, result, &(space){&dot->out[0].type, NULL}) : 0;
	}
	if (k->family != ML_FAMILY_ROWS || ml_rows_plan(k, &k->m->arena, &rows) ||
	    ml_depthwise_find(&rows, &d))
		return 0;
	return find_inputs(k, result, &(space){&rows.space, &rows});
}
