/* grad_module.c -- modules with gradients: constants as parameters, gradients as outputs. */
#include "grad.h"
#include <string.h>

ml_status
ml_promote_constant(ml_module *m, ml_value *constant, const char *name, ml_value **arg)
{
	ml_node *n = constant->def;

	if (!ml_is_const(constant) || n->block != m->main || !ml_is_float(constant->type.dtype))
		return ml_error(m->cx, ML_ERR_ARG, n ? n->prov : NULL,
				"only float constants of the main block can become parameters");
	*arg = ml_block_add_arg(m->main, &constant->type, name);
	ml_replace_uses(constant, *arg);
	ml_node_remove(n);
	return ML_OK;
}

/* The values of a clone that correspond to these, in place. */
static void
find_copies(const ml_module *clone, const ml_value *const *from, int n, ml_value **to,
	    ml_arena *scratch)
{
	ml_node **by_id = ML_NEW_ARRAY(scratch, ml_node *, clone->next_id);

	for (ml_node *node = clone->main->first; node; node = node->next)
		by_id[node->id] = node;
	for (int i = 0; i < n; i++)
		to[i] = from[i]->def ? &by_id[from[i]->def->id]->out[from[i]->index]
				     : clone->main->arg[from[i]->index];
}

static const char *
name_of(ml_arena *arena, const ml_value *v, int i)
{
	return v->name ? v->name : ml_format(arena, "parameter %d", i);
}

/* The yield with n more operands. */
static ml_status
extend_outputs(ml_module *m, ml_value *const *more, const char *const *names, int n)
{
	ml_node *yield = m->main->last;
	const ml_prov *prov = yield->prov;
	ml_value **all = ML_NEW_ARRAY(&m->arena, ml_value *, yield->nin + n);
	int count = yield->nin;

	for (int i = 0; i < count; i++)
		all[i] = ml_in(yield, i);
	for (int i = 0; i < n; i++) {
		all[count++] = more[i];
		ML_PUSH(&m->arena, m->output_names,
			ml_format(&m->arena, "gradient of %s", names[i]));
	}
	ml_node_remove(yield);
	ml_builder b = ml_builder_at_end(m->main, prov);
	return ml_build_yield(&b, all, count);
}

static ml_status
add_gradients(ml_module *m, ml_value **value, int n, ml_arena *scratch)
{
	ml_value **wrt = value + 1, **gradient = ML_NEW_ARRAY(scratch, ml_value *, n);
	const char **names = ML_NEW_ARRAY(scratch, const char *, n);

	for (int i = 0; i < n; i++) {
		names[i] = name_of(&m->arena, wrt[i], i);
		for (int k = 0; k < i; k++)
			if (wrt[i] == wrt[k])
				return ml_error(m->cx, ML_ERR_ARG, NULL, "'%s' is asked for twice",
						ml_escaped(&m->cx->arena, names[i]));
	}
	for (int i = 0; i < n; i++)
		if (ml_is_const(wrt[i]))
			ML_STEP(ml_promote_constant(m, wrt[i], names[i], &wrt[i]));
	ML_STEP(ml_grad(m, value[0], wrt, n, gradient));
	return extend_outputs(m, gradient, names, n);
}

ml_status
ml_grad_module(const ml_module *m, const ml_value *loss, const ml_value *const *wrt, int n,
	       ml_module **result)
{
	ml_module *clone = ml_module_clone(m);
	ml_arena scratch;

	ml_arena_init(&scratch, &m->cx->memory);
	ml_value **value = ML_NEW_ARRAY(&scratch, ml_value *, n + 1);
	find_copies(clone, &loss, 1, value, &scratch);
	find_copies(clone, wrt, n, value + 1, &scratch);
	ml_status status = add_gradients(clone, value, n, &scratch);
	ml_arena_free(&scratch);
	if (status != ML_OK) {
		ml_module_free(clone);
		return status;
	}
	*result = clone;
	return ML_OK;
}
