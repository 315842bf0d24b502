/* reduce.c -- shrinks a failing graph: fewer outputs, then operands in the place of nodes. */
#include "../frontend/export.h"
#include "driver.h"
#include <string.h>

typedef struct reduction {
	ml_context *cx;
	const ml_options *o;
	const char *path, *output;
	bool (*fails)(void *user, const char *candidate);
	void *user;
	ml_module *m; /* the smallest one that fails */
} reduction;

/* ---- candidates ---- */

static ml_status
write_candidate(reduction *r, const ml_module *m)
{
	size_t n = strlen(r->output);
	ml_arena scratch;
	ml_text t;

	if (n > 5 && !strcmp(r->output + n - 5, ".onnx"))
		return ml_export_onnx(r->cx, m, r->output);
	ml_arena_init(&scratch, &r->cx->memory);
	ml_text_init(&t, &scratch);
	ml_print(&t, m);
	ml_status status = ml_write_text(r->o, r->output, "ir", &t);
	ml_arena_free(&scratch);
	return status;
}

/* Nodes and inputs that nobody reads. */
static void
drop_dead(ml_module *m)
{
	int kept = 0;

	while (ml_drop_unused(m->main))
		continue;
	for (int i = 0; i < m->main->nargs; i++)
		if (m->main->arg[i]->uses) {
			m->main->arg[kept] = m->main->arg[i];
			m->main->arg[kept]->index = kept;
			kept++;
		}
	m->main->nargs = kept;
}

/* Takes the candidate over: it becomes the smallest one if it fails. */
static bool
keep_if_failing(reduction *r, ml_module *candidate)
{
	drop_dead(candidate);
	if (ml_verify(candidate) == ML_OK && write_candidate(r, candidate) == ML_OK &&
	    r->fails(r->user, r->output)) {
		ml_module_free(r->m);
		r->m = candidate;
		return true;
	}
	ml_module_free(candidate);
	return false;
}

/* ---- outputs ---- */

/* The module with results first..first+n-1 only. */
static ml_module *
with_outputs(const ml_module *m, int first, int n)
{
	ml_module *c = ml_module_clone(m);
	ml_node *yield = c->main->last;
	ml_value **kept = ML_NEW_ARRAY(&c->arena, ml_value *, n);

	for (int i = 0; i < n; i++) {
		kept[i] = ml_in(yield, first + i);
		c->output_names.at[i] = c->output_names.at[first + i];
	}
	c->output_names.count = n;
	ml_node_remove(yield);
	ml_builder b = ml_builder_at_end(c->main, NULL);
	ml_build_yield(&b, kept, n);
	return c;
}

static void
reduce_outputs(reduction *r)
{
	for (int i = 0, n = r->m->main->last->nin; n > 1 && i < n; i++)
		if (keep_if_failing(r, with_outputs(r->m, i, 1)))
			return;
	for (int n = r->m->main->last->nin; n > 1; n = r->m->main->last->nin)
		if (!keep_if_failing(r, with_outputs(r->m, 0, n / 2)) &&
		    !keep_if_failing(r, with_outputs(r->m, n / 2, n - n / 2)))
			return;
}

/* An operand of what computes output i is the output instead; NULL when there is none. */
static ml_module *
with_earlier_output(const ml_module *m, int i, int operand)
{
	ml_module *c = ml_module_clone(m);
	const ml_node *def = ml_in(c->main->last, i)->def;
	ml_value *earlier = def ? ml_in(def, operand) : NULL;

	if (!earlier || ml_is_const(earlier)) {
		ml_module_free(c);
		return NULL;
	}
	ml_set_operand(c->main->last, i, earlier);
	return c;
}

/* Cuts the tail of the graph off, node by node. */
static bool
reduce_tail(reduction *r)
{
	for (int i = 0; i < r->m->main->last->nin; i++) {
		const ml_node *def = ml_in(r->m->main->last, i)->def;
		for (int k = 0; def && k < def->nin; k++) {
			ml_module *c = with_earlier_output(r->m, i, k);
			if (c && keep_if_failing(r, c))
				return true;
		}
	}
	return false;
}

/* ---- nodes ---- */

static ml_node *
node_number(ml_module *m, int number)
{
	ml_node *n = m->main->first;

	while (n && number--)
		n = n->next;
	return n;
}

static int
count_nodes(const ml_module *m)
{
	int count = 0;

	for (const ml_node *n = m->main->first; n; n = n->next)
		count++;
	return count;
}

/* An operand of the same type, or else a new input, in the place of a node's only result. */
static ml_module *
without_node(const ml_module *m, int number, int way)
{
	ml_module *c = ml_module_clone(m);
	ml_node *n = node_number(c, number);
	ml_value *with = NULL;

	if (n && n->nout == 1 && n->op != ML_OP_yield && n->op != ML_OP_const) {
		if (way < n->nin && ml_type_equal(&ml_in(n, way)->type, &n->out[0].type))
			with = ml_in(n, way);
		if (way == n->nin)
			with = ml_block_add_arg(c->main, &n->out[0].type,
						ml_format(&c->arena, "cut%d", number));
	}
	if (!with) {
		ml_module_free(c);
		return NULL;
	}
	ml_replace_uses(&n->out[0], with);
	return c;
}

/* From the last node to the first: what is cut late takes much with it. */
static bool
reduce_nodes(reduction *r)
{
	bool any = false;

	for (int number = count_nodes(r->m); number-- > 0;) {
		ml_node *n = node_number(r->m, number);
		for (int way = 0; n && way <= n->nin; way++) {
			ml_module *c = without_node(r->m, number, way);
			if (c && keep_if_failing(r, c)) {
				any = true;
				break;
			}
		}
	}
	return any;
}

/* ---- all of it ---- */

static ml_status
reduce(void *job)
{
	reduction *r = job;

	ML_STEP(ml_read_model(r->cx, &(ml_source){.path = r->path}, r->o, &r->m));
	ML_STEP(write_candidate(r, r->m));
	if (!r->fails(r->user, r->output))
		return ml_error(r->cx, ML_ERR_ARG, NULL, "the command does not fail on the model");
	reduce_outputs(r);
	while (reduce_tail(r))
		continue;
	while (reduce_nodes(r))
		continue;
	return write_candidate(r, r->m);
}

ml_status
ml_reduce(ml_context *cx, const char *path, const ml_options *o,
	  bool (*fails)(void *, const char *), void *user, const char *output)
{
	ml_options *own = NULL;
	ml_status status = o ? ML_OK : ml_options_new(cx, &own);
	reduction r = {.cx = cx,
		       .o = o ? o : own,
		       .path = path,
		       .output = output,
		       .fails = fails,
		       .user = user};

	if (status == ML_OK)
		status = ml_enter(cx, reduce, &r);
	if (r.m)
		ml_module_free(r.m);
	ml_options_free(own);
	return status;
}
