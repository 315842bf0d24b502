/* rules.c -- the rule engine: matches patterns at nodes and builds their replacements.
 *
 * Operands of commuting operators are tried both ways by enumerating, for the whole pattern at
 * once, which of its commuting nodes are swapped: trying orders locally would not backtrack
 * across siblings.
 */
#include "rules.h"
#include <math.h>
#include <string.h>

enum { MAX_COMMUTING = 8, MAX_ROUNDS = 64 };

typedef struct ml_search {
	ml_match *m;
	const ml_rule *rule;
	unsigned swapped; /* bit i: the i-th commuting pattern node, in visiting order */
	int commuting;    /* visited so far */
} ml_search;

static bool
is_number(const ml_value *v, double number)
{
	double x;

	if (!ml_is_splat(v, &x))
		return false;
	return x == number || fabs(x - number) <= 1e-5 * fabs(number);
}

static bool match(ml_search *, const ml_pattern *, ml_value *);

static bool
capture(ml_match *m, int letter, ml_value *v)
{
	if (!letter)
		return true;
	if (m->at[letter])
		return m->at[letter] == v;
	m->at[letter] = v;
	return true;
}

static int
pattern_args(const ml_pattern *p)
{
	int n = 0;

	while (n < ML_PATTERN_ARGS && p->arg[n])
		n++;
	return n;
}

static bool
match_op(ml_search *s, const ml_pattern *p, ml_value *v)
{
	ml_match *m = s->m;
	ml_node *n = v->def;
	int args = pattern_args(p);
	bool swap = false;

	if (!n || n->op != p->op || v->index != 0 || n->nin != args || m->nnodes == ML_MATCH_NODES)
		return false;
	if (!capture(m, p->letter, v))
		return false;
	for (int i = 0; i < ML_PATTERN_ATTRS && p->attr[i].slot; i++)
		m->attr[p->attr[i].letter] = n->attr[p->attr[i].slot - 1];
	m->node[m->nnodes++] = n;
	if (ml_op_get(n->op)->traits & ML_COMMUTES)
		swap = s->swapped >> s->commuting++ & 1;
	for (int i = 0; i < args; i++)
		if (!match(s, p->arg[i], ml_in(n, swap && i < 2 ? 1 - i : i)))
			return false;
	return true;
}

static bool
match(ml_search *s, const ml_pattern *p, ml_value *v)
{
	switch (p->kind) {
	case ML_PAT_NUM: return is_number(v, p->number);
	case ML_PAT_CST: return ml_is_const(v) && capture(s->m, p->letter, v);
	case ML_PAT_ANY: return capture(s->m, p->letter, v);
	case ML_PAT_OP: return match_op(s, p, v);
	}
	return false;
}

static int
count_commuting(const ml_pattern *p)
{
	int n = 0;

	if (p->kind != ML_PAT_OP)
		return 0;
	if (ml_op_get(p->op)->traits & ML_COMMUTES)
		n = 1;
	for (int i = 0; i < ML_PATTERN_ARGS && p->arg[i]; i++)
		n += count_commuting(p->arg[i]);
	return n;
}

static bool
is_matched(const ml_match *m, const ml_node *n)
{
	for (int i = 0; i < m->nnodes; i++)
		if (m->node[i] == n)
			return true;
	return false;
}

/* Inner values must die with the match. */
static bool
is_closed(const ml_match *m)
{
	for (int i = 1; i < m->nnodes; i++)
		for (int k = 0; k < m->node[i]->nout; k++)
			for (const ml_use *u = m->node[i]->out[k].uses; u; u = u->next)
				if (!is_matched(m, u->user))
					return false;
	return true;
}

static ml_value *
build(ml_match *m, const ml_pattern *p)
{
	ml_value *arg[ML_PATTERN_ARGS];
	int n = 0;

	switch (p->kind) {
	case ML_PAT_ANY:
	case ML_PAT_CST: return m->at[p->letter];
	case ML_PAT_NUM: return ml_build_f64(m->b, m->root->out[0].type.dtype, p->number);
	case ML_PAT_OP: break;
	}
	for (; n < ML_PATTERN_ARGS && p->arg[n]; n++)
		if (!(arg[n] = build(m, p->arg[n])))
			return NULL;
	ml_node *made = ml_begin(m->b, p->op, arg, n);
	if (!made)
		return NULL;
	for (int i = 0; i < ML_PATTERN_ATTRS && p->attr[i].slot; i++)
		made->attr[p->attr[i].slot - 1] = m->attr[p->attr[i].letter];
	return ml_finish1(m->b, made);
}

static const ml_prov *
merged_provenance(const ml_match *m, ml_arena *arena)
{
	const ml_prov *prov = m->root->prov;

	for (int i = 1; i < m->nnodes; i++)
		prov = ml_prov_merge(arena, prov, m->node[i]->prov);
	return prov;
}

static void
missed(const ml_match *m, const ml_rule *rule, const char *why)
{
	ml_remark(m->px->cx, m->root->prov, "%s missed: %s", rule->name, why);
}

/* Replaces the root by the rule's right side; false when the types would differ. */
static bool
fire(ml_match *m, const ml_rule *rule)
{
	ml_value *old = &m->root->out[0];
	ml_value *v = build(m, rule->rhs);

	if (!v || v == old || !ml_type_equal(&v->type, &old->type)) {
		if (v && v != old)
			missed(m, rule, "the replacement has another type");
		return false;
	}
	if (!v->name)
		v->name = old->name;
	ml_replace_uses(old, v);
	ml_remark(m->px->cx, m->root->prov, "%s", rule->name);
	return true;
}

static bool
try_rule(ml_pass_ctx *px, const ml_rule *rule, ml_node *root)
{
	int commuting = count_commuting(rule->lhs);
	bool found = false;
	ml_match m;

	if (commuting > MAX_COMMUTING)
		commuting = MAX_COMMUTING;
	for (unsigned order = 0; !found && order < 1u << commuting; order++) {
		ml_search s = {.m = &m, .rule = rule, .swapped = order};
		memset(&m, 0, sizeof m);
		m.px = px;
		m.root = root;
		found = match(&s, rule->lhs, &root->out[0]);
	}
	if (!found)
		return false;
	if (!rule->shared && !is_closed(&m)) {
		missed(&m, rule, "an inner value is used elsewhere");
		return false;
	}
	ml_builder b = ml_builder_before(root);
	b.prov = merged_provenance(&m, &root->block->module->arena);
	m.b = &b;
	if (rule->when && !rule->when(&m)) {
		if (m.why)
			missed(&m, rule, m.why);
		return false;
	}
	if (*px->fuel <= 0 || !fire(&m, rule))
		return false;
	ml_spend_fuel(px);
	return true;
}

typedef struct ml_rule_run {
	ml_pass_ctx *px;
	int fired; /* in this round */
} ml_rule_run;

static ml_status
run_on_block(void *user, ml_block *block)
{
	ml_rule_run *run = user;
	const ml_pass *pass = run->px->pass;

	for (ml_node *n = block->first, *next; n; n = next) {
		next = n->next;
		if (n->nout != 1 || !n->out[0].uses)
			continue;
		for (int i = 0; i < pass->nrules; i++) {
			if (pass->rules[i].lhs->op != n->op ||
			    !try_rule(run->px, &pass->rules[i], n))
				continue;
			run->px->fired[i]++;
			run->px->changes++;
			run->fired++;
			break;
		}
	}
	ml_drop_unused(block);
	return ML_OK;
}

/* Rules only go downhill, so rounds end; the bound is for rules of plugins that do not. */
ml_status
ml_run_rules(ml_pass_ctx *px, ml_module *m)
{
	for (int round = 0; round < MAX_ROUNDS; round++) {
		ml_rule_run run = {.px = px};
		ML_STEP(ml_for_each_block(m, run_on_block, &run));
		if (!run.fired)
			break;
	}
	return ML_OK;
}
