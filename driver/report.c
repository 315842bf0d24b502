/* report.c -- what users can ask about passes and nodes: --list-passes, --explain. */
#include "driver.h"
#include <string.h>

static void
put_pass(ml_text *t, const ml_pass *pass)
{
	static const char *const effect[] = {
		[ML_EXACT] = "exact", [ML_ROUNDS] = "rounds", [ML_LOSSY] = "lossy"};

	ml_put(t, "%-20s %-7s %s\n", pass->name, effect[pass->effect], pass->help);
}

static bool
listed_before(int stage)
{
	for (int i = 0; i < stage; i++)
		if (ml_stages[i].pass == ml_stages[stage].pass)
			return true;
	return false;
}

void
ml_list_passes(const ml_options *o, const ml_pipeline *p)
{
	ml_text t;

	ml_text_init(&t, p->arena);
	ml_put(&t, "These options run:\n");
	for (int i = 0; i < p->stages.count; i++)
		ml_put(&t, "  %-14s %s\n", p->stages.at[i].phase, p->stages.at[i].pass->name);
	ml_put(&t, "All passes, and what they may do to the numbers:\n");
	for (int i = 0; i < ml_stage_count; i++)
		if (!listed_before(i))
			put_pass(&t, ml_stages[i].pass);
	for (int i = 0; i < p->plugins.count; i++)
		put_pass(&t, p->plugins.at[i]);
	ml_show(o, "passes", t.at);
}

static bool
comes_from(const ml_node *n, const char *name)
{
	for (const ml_prov *p = n->prov; p; p = p->next)
		if (p->node && !strcmp(p->node, name))
			return true;
	return false;
}

static int
explain_block(ml_text *t, const ml_block *b, const char *name)
{
	int found = 0;

	for (const ml_node *n = b->first; n; n = n->next) {
		for (int i = 0; i < n->nblocks; i++)
			found += explain_block(t, n->body[i], name);
		if (!comes_from(n, name))
			continue;
		ml_print_node(t, n);
		if (t->length && t->at[t->length - 1] != '\n')
			ml_put(t, "\n");
		found++;
	}
	return found;
}

bool
ml_explain(const ml_options *o, const ml_module *m, const char *title)
{
	ml_text t;

	ml_text_init(&t, &o->cx->arena);
	int found = explain_block(&t, m->main, o->explain);
	if (!found)
		ml_put(&t, "nothing is left of node '%s'\n", ml_escaped(&o->cx->arena, o->explain));
	ml_show(o, title, t.at);
	return found > 0;
}

ml_status
ml_explain_import(const ml_options *o, const ml_module *m)
{
	bool known = ml_explain(o, m, "as imported");

	for (int i = 0; i < m->read.count && !known; i++)
		known = !strcmp(m->read.at[i]->node, o->explain);
	if (known)
		return ML_OK;
	ml_error(o->cx, ML_ERR_ARG, NULL, "explain: the model has no node '%s'",
		 ml_escaped(&o->cx->arena, o->explain));
	ml_hint(o->cx, "nodes are named in messages and in the text that --emit=ir prints");
	return ML_ERR_ARG;
}
