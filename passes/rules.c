/* rules.c -- the rule engine: matches patterns at nodes and builds their replacements.
 *
 * Operands of commuting operators are tried both ways by enumerating, for the whole pattern at
 * once, which of its commuting nodes are swapped: trying orders locally would not backtrack
 * across siblings.
 */
#include "rules.h"
#include <math.h>
#include <string.h>

/* Rules go downhill: firings end.  The bound, per node of the module, is for rules of plugins that
 * do not. */
enum { FIRINGS_PER_NODE = 16, FIRINGS = 256 };

typedef struct ml_search {
	ml_match *m;
	unsigned swapped; /* bit i: the i-th commuting pattern node, in visiting order */
	int commuting;    /* visited so far */
} ml_search;

/* Irrational numbers come in few digits; multiples of a half come exactly. */
static bool
is_number(const ml_value *v, double number)
{
	double x, tolerance = number * 2 == rint(number * 2) ? 0 : 1e-5 * fabs(number);

	return ml_is_splat(v, &x) && fabs(x - number) <= tolerance;
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

int
ml_rule_commuting(const ml_rule *rule)
{
	return count_commuting(rule->lhs);
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

ml_value *
ml_match_fold(ml_match *m, ml_value *v)
{
	ml_blob *blob;

	if (!v || ml_is_const(v))
		return v;
	if (ml_fold_node(v->def, &blob, UINT64_MAX) != ML_OK)
		return NULL;
	return ml_build_const(m->b, &v->type, blob);
}

static const ml_prov *
merged_provenance(const ml_match *m, ml_arena *arena)
{
	const ml_prov *prov = m->root->prov;

	for (int i = 1; i < m->nnodes; i++)
		prov = ml_prov_merge(arena, prov, m->node[i]->prov);
	return prov;
}

/* ---- one rule at one node ---- */

/* What nearly matched.  Reported when nothing fires any more: what is in the way now may be gone
 * after another rule. */
typedef struct ml_missed {
	const ml_prov *prov;
	const char *rule, *why;
} ml_missed;

typedef struct ml_rule_run {
	ml_pass_ctx *px;
	int64_t left;             /* firings allowed in the whole run */
	ml_node *built;           /* first node of the last replacement, or NULL */
	int fired;                /* in this round */
	ML_VEC(ml_missed) missed; /* in this round */
} ml_rule_run;

/* A node's other operand orders may fail for other reasons: the first one counts. */
static void
note_missed(ml_rule_run *run, const ml_match *m, const ml_rule *rule, const char *why)
{
	int last = run->missed.count - 1;

	if (!why || (last >= 0 && run->missed.at[last].rule == rule->name &&
		     run->missed.at[last].prov == m->root->prov))
		return;
	ML_PUSH(run->px->scratch, run->missed, ((ml_missed){m->root->prov, rule->name, why}));
}

/* Takes the matched nodes out that nobody reads any more, so that they are in no one's way. */
static void
remove_matched(ml_match *m)
{
	for (bool again = true; again;) {
		again = false;
		for (int i = 0; i < m->nnodes; i++) {
			ml_node *n = m->node[i];
			bool used = !n->block;
			for (int k = 0; k < n->nout; k++)
				used |= n->out[k].uses != NULL;
			if (used)
				continue;
			ml_node_remove(n);
			again = true;
		}
	}
}

/* Replaces the root by the rule's right side; false when the types would differ. */
static bool
replace(ml_match *m, const ml_rule *rule)
{
	ml_value *old = &m->root->out[0];
	ml_value *v = build(m, rule->rhs);

	if (!v || v == old || !ml_type_equal(&v->type, &old->type)) {
		m->why = v && v != old ? "the replacement has another type" : NULL;
		return false;
	}
	if (!v->name)
		v->name = old->name;
	ml_replace_uses(old, v);
	ml_remark(m->px->cx, m->root->prov, "%s", rule->name);
	return true;
}

/* Takes out what a guard and a replacement left behind that came to nothing. */
static void
remove_built(ml_node *root, const ml_node *last)
{
	while (root->prev != last)
		ml_node_remove(root->prev);
}

static bool
try_match(ml_rule_run *run, ml_match *m, const ml_rule *rule)
{
	ml_node *last = m->root->prev;

	if (!rule->shared && !is_closed(m)) {
		note_missed(run, m, rule, "an inner value is used elsewhere");
		return false;
	}
	ml_builder b = ml_builder_before(m->root);
	b.prov = merged_provenance(m, &m->root->block->module->arena);
	m->b = &b;
	if ((rule->when && !rule->when(m)) || !replace(m, rule)) {
		note_missed(run, m, rule, m->why);
		remove_built(m->root, last);
		return false;
	}
	run->built = last ? last->next : m->root->block->first;
	if (run->built == m->root)
		run->built = NULL;
	remove_matched(m);
	return ml_spend_fuel(run->px);
}

static bool
try_rule(ml_rule_run *run, const ml_rule *rule, ml_node *root)
{
	int commuting = ml_rule_commuting(rule);
	ml_match m;

	if (commuting > ML_MATCH_COMMUTING)
		commuting = ML_MATCH_COMMUTING;
	for (unsigned order = 0; order < 1u << commuting; order++) {
		ml_search s = {.m = &m, .swapped = order};
		memset(&m, 0, sizeof m);
		m.px = run->px;
		m.root = root;
		if (match(&s, rule->lhs, &root->out[0]) && try_match(run, &m, rule))
			return true;
	}
	return false;
}

/* ---- all rules everywhere ---- */

static ml_status
count_nodes(void *user, ml_block *block)
{
	int64_t *nodes = user;

	for (const ml_node *n = block->first; n; n = n->next)
		++*nodes;
	return ML_OK;
}

static ml_status
run_on_block(void *user, ml_block *block)
{
	ml_rule_run *run = user;
	ml_pass_ctx *px = run->px;

	for (ml_node *n = block->first, *next; n; n = next) {
		next = n->next;
		if (n->nout != 1 || !n->out[0].uses)
			continue;
		for (int i = 0; i < px->pass->nrules && *px->fuel > 0 && run->left > 0; i++) {
			const ml_rule *rule = &px->pass->rules[i];
			if (rule->lhs->op != n->op || !try_rule(run, rule, n))
				continue;
			px->fired[i]++;
			px->changes++;
			run->fired++;
			run->left--;
			/* What was built is looked at before what uses it: small matches
			 * come before large ones. */
			next = run->built ? run->built : next;
			break;
		}
	}
	ml_drop_unused(block);
	return ML_OK;
}

static void
report_missed(const ml_rule_run *run)
{
	for (int i = 0; i < run->missed.count; i++) {
		const ml_missed *missed = &run->missed.at[i];
		ml_remark(run->px->cx, missed->prov, "%s missed: %s", missed->rule, missed->why);
	}
}

ml_status
ml_run_rules(ml_pass_ctx *px, ml_module *m)
{
	ml_rule_run run = {.px = px};
	int64_t nodes = 0;

	ML_STEP(ml_for_each_block(m, count_nodes, &nodes));
	run.left = nodes * FIRINGS_PER_NODE + FIRINGS;
	do {
		run.fired = run.missed.count = 0;
		ML_STEP(ml_for_each_block(m, run_on_block, &run));
	} while (run.fired);
	report_missed(&run);
	return ML_OK;
}
