/* expand.c -- composites in terms of core operators: dispatch and what their bodies share. */
#include "expand.h"
#include <assert.h>

#define BODY_ROW(no, name) [no] = ml_body_##name,
static ml_body *const bodies[ML_OP_LIMIT] = {
#define ML_OP(no, name, in, out, cls, traits) ML_BODY_##cls(BODY_ROW, no, name)
#define ML_ATTR(op, kind, name, init)
#include "ops.def"
};

ml_status
ml_expand(ml_builder *b, ml_node *n, ml_value **results)
{
	ml_value **in = ML_NEW_ARRAY(&b->m->arena, ml_value *, n->nin);

	assert(bodies[n->op] && "not a composite");
	b->failed = ML_OK;
	for (int i = 0; i < n->nin; i++)
		in[i] = ml_build_cast(b, ml_in(n, i), ml_dtype_computed(ml_in(n, i)->type.dtype));
	bodies[n->op](b, n, in, results);
	for (int i = 0; i < n->nout; i++) {
		const ml_type *t = &n->out[i].type;
		results[i] = ml_build_cast(b, results[i], t->dtype);
		/* Sizes known to be equal by a guard only may have been named by another operand.
		 */
		if (results[i] && !ml_type_equal(&results[i]->type, t))
			results[i] = ml_build_reshape(b, results[i], t->dim, t->rank);
		if (!results[i])
			return b->failed ? b->failed : ML_ERR_PASS;
	}
	return ML_OK;
}

bool
ml_is_composite(const ml_node *n)
{
	return ml_op_get(n->op)->cls == ML_COMPOSITE;
}

ml_status
ml_expand_where(ml_block *block, bool (*which)(const ml_node *))
{
	for (ml_node *n = block->first, *next; n; n = next) {
		next = n->next;
		for (int i = 0; i < n->nblocks; i++)
			ML_STEP(ml_expand_where(n->body[i], which));
		if (!which(n))
			continue;
		ml_node *before = n->prev;
		ml_builder b = ml_builder_before(n);
		ml_value **result = ML_NEW_ARRAY(&block->module->arena, ml_value *, n->nout);
		ML_STEP(ml_expand(&b, n, result));
		for (int i = 0; i < n->nout; i++)
			ml_replace_uses(&n->out[i], result[i]);
		ml_node_remove(n);
		next = before ? before->next : block->first; /* bodies may hold composites */
	}
	return ML_OK;
}

ml_value *
ml_op_number(ml_builder *b, ml_op op, ml_value *x, double number)
{
	return x ? ml_op2(b, op, x, ml_build_f64(b, x->type.dtype, number)) : NULL;
}

ml_value *
ml_size_as(ml_builder *b, ml_dtype t, ml_dim d)
{
	int64_t v;

	if (ml_dim_is_int(d, &v))
		return ml_build_f64(b, t, (double)v);
	return ml_build_cast(b, ml_build_dim(b, d), t);
}

ml_value *
ml_part_of(ml_builder *b, ml_value *x, int axis, ml_dim start, ml_dim size)
{
	ml_dim starts[ML_MAX_RANK], sizes[ML_MAX_RANK];
	int64_t step[ML_MAX_RANK];

	if (!x)
		return NULL;
	for (int i = 0; i < x->type.rank; i++) {
		starts[i] = i == axis ? start : ml_dim_int(b->m->dims, 0);
		sizes[i] = i == axis ? size : x->type.dim[i];
		step[i] = 1;
	}
	return ml_build_slice(b, x, starts, sizes, step);
}

ml_value *
ml_per_channel(ml_builder *b, ml_value *vector, int rank)
{
	ml_dim shape[ML_MAX_RANK];

	if (!vector)
		return NULL;
	shape[0] = vector->type.dim[0];
	for (int i = 1; i < rank - 1; i++)
		shape[i] = ml_dim_int(b->m->dims, 1);
	return rank == 2 ? vector : ml_build_reshape(b, vector, shape, rank - 1);
}
