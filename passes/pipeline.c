/* pipeline.c -- runs the passes: verifying, timing, dumping and counting are done here, once. */
#include "pipeline.h"
#include "distill/options.h"
#include "rules.h"
#include <inttypes.h>
#include <string.h>

#define ML_STAGE(phase, pass, level, when) extern const ml_pass ml_pass_##pass;
#include "pipeline.def"

const ml_stage ml_stages[] = {
#define ML_STAGE(phase, pass, level, when) {#phase, &ml_pass_##pass, level, ML_WHEN_##when},
#include "pipeline.def"
};
const int ml_stage_count = sizeof ml_stages / sizeof *ml_stages;

bool
ml_spend_fuel(ml_pass_ctx *px)
{
	if (*px->fuel <= 0)
		return false;
	--*px->fuel;
	return true;
}

static ml_status
visit_blocks(ml_block *block, ml_status (*visit)(void *, ml_block *), void *user)
{
	for (ml_node *n = block->first; n; n = n->next)
		for (int i = 0; i < n->nblocks; i++)
			ML_STEP(visit_blocks(n->body[i], visit, user));
	return visit(user, block);
}

ml_status
ml_for_each_block(ml_module *m, ml_status (*visit)(void *, ml_block *), void *user)
{
	return visit_blocks(m->main, visit, user);
}

int
ml_drop_unused(ml_block *block)
{
	int dropped = 0;

	for (ml_node *n = block->last, *before; n; n = before) {
		bool used = !(ml_op_get(n->op)->traits & (ML_PURE | ML_CHECKS));
		before = n->prev;
		for (int i = 0; i < n->nout; i++)
			used |= n->out[i].uses != NULL;
		if (used)
			continue;
		ml_node_remove(n);
		dropped++;
	}
	return dropped;
}

/* ---- names ---- */

static bool
is_name(const char *name, const char *text, size_t length)
{
	return strlen(name) == length && !memcmp(name, text, length);
}

/* Is `name` an element of the comma-separated list? */
static bool
is_listed(const char *list, const char *name)
{
	for (const char *at = list; at && *at;) {
		size_t n = strcspn(at, ",");
		if (is_name(name, at, n))
			return true;
		at += n + (at[n] == ',');
	}
	return false;
}

const ml_pass *
ml_pass_named(const ml_pipeline *p, const char *name, size_t length)
{
	for (int i = 0; i < ml_stage_count; i++)
		if (is_name(ml_stages[i].pass->name, name, length))
			return ml_stages[i].pass;
	for (int i = 0; i < p->plugins.count; i++)
		if (is_name(p->plugins.at[i]->name, name, length))
			return p->plugins.at[i];
	return NULL;
}

/* The first pass of the list, which moves on behind it; `option`: whose value it is. */
static ml_status
next_listed(const ml_pipeline *p, ml_context *cx, const char *option, const char **list,
	    const ml_pass **pass)
{
	const char *at = *list;
	size_t n = strcspn(at, ",");

	*list += n + (at[n] == ',');
	*pass = ml_pass_named(p, at, n);
	if (*pass)
		return ML_OK;
	ml_error(cx, ML_ERR_ARG, NULL, "%s: there is no pass '%.*s'", option, (int)n, at);
	ml_hint(cx, "the passes are listed by --list-passes");
	return ML_ERR_ARG;
}

static ml_status
add_listed(ml_pipeline *p, ml_context *cx, const char *list)
{
	const ml_pass *pass;

	while (*list) {
		ML_STEP(next_listed(p, cx, "passes", &list, &pass));
		ML_PUSH(p->arena, p->stages, ((ml_stage){"listed", pass, 0, ML_WHEN_ALWAYS}));
	}
	return ML_OK;
}

/* A mistyped name would go unnoticed: nothing would be left out, printed or stopped. */
static ml_status
check_names(const ml_pipeline *p, ml_context *cx, const ml_pipeline_options *o)
{
	bool all = o->print_after && !strcmp(o->print_after, "all");
	const char *option[] = {"skip-pass", "stop-after", "print-after"};
	const char *list[] = {o->skip, o->stop_after, all ? NULL : o->print_after};
	const ml_pass *pass;

	for (int i = 0; i < 3; i++)
		while (list[i] && *list[i])
			ML_STEP(next_listed(p, cx, option[i], &list[i], &pass));
	return ML_OK;
}

ml_status
ml_pipeline_init(ml_pipeline *p, ml_context *cx, ml_arena *arena, const ml_pipeline_options *o,
		 const ml_pass *const *plugins, int nplugins)
{
	*p = (ml_pipeline){.arena = arena};
	for (int i = 0; i < nplugins; i++)
		ML_PUSH(arena, p->plugins, plugins[i]);
	ML_STEP(check_names(p, cx, o));
	if (o->passes)
		return add_listed(p, cx, o->passes);
	/* What is quantized are layers: -O1 finds linear ones, -O2 makes convolutions whole. */
	int least = o->precision == ML_FLOATS                                    ? 0
		    : o->precision == ML_INT8_DYNAMIC || o->precision == ML_INT4 ? 1
										 : 2;
	/* What is pruned and trained are layers that are whole. */
	least = o->prune || o->distill ? 2 : least;
	/* What reads a cache is attention that has been found. */
	least = o->int8_cache ? 2 : least;
	int asked = 1 << o->precision | (o->prune ? ML_WHEN_PRUNE : 0) |
		    (o->distill ? ML_WHEN_DISTILL : 0) | (o->int8_cache ? ML_WHEN_CACHE : 0);
	int level = o->opt_level < least ? least : o->opt_level;
	for (int i = 0; i < ml_stage_count; i++) {
		const ml_stage *s = &ml_stages[i];
		if (o->until && !strcmp(s->phase, o->until))
			break;
		if (s->level <= level && s->when & asked)
			ML_PUSH(arena, p->stages, *s);
	}
	return ML_OK;
}

ml_status
ml_pipeline_add_after(ml_pipeline *p, ml_context *cx, const char *name, const ml_pass *pass)
{
	for (int i = 0; i < p->stages.count; i++) {
		if (strcmp(p->stages.at[i].pass->name, name))
			continue;
		ml_stage added = {p->stages.at[i].phase, pass, 0, ML_WHEN_ALWAYS};
		ML_PUSH(p->arena, p->stages, added);
		memmove(&p->stages.at[i + 2], &p->stages.at[i + 1],
			(size_t)(p->stages.count - i - 2) * sizeof *p->stages.at);
		p->stages.at[i + 1] = added;
		return ML_OK;
	}
	return ml_error(cx, ML_ERR_ARG, NULL, "there is no pass '%s' to stand behind", name);
}

/* ---- running ---- */

typedef struct pass_run {
	const ml_pipeline_options *o;
	ml_module *m;
	int64_t *fuel;
	ml_text *report; /* of times and rules */
	ml_record *record;
	ml_module *teacher; /* as it was before compression; NULL without data */
	int fired;          /* rules, with rule_stats */
	ml_arena *arena;
} pass_run;

/* The phases that change what a model computes.  Where a student learns from another model, what
 * it has become is what the phases behind are judged by. */
static bool
compresses(const pass_run *r, const ml_stage *s)
{
	bool leaves_out = !strcmp(s->phase, "prune") || !strcmp(s->phase, "distill");

	return !strcmp(s->phase, "quantize") ||
	       (leaves_out && !(r->o->distill && r->o->distill->teacher));
}

static void
show_module(const pass_run *r, const char *pass)
{
	ml_text t;

	ml_text_init(&t, r->arena);
	ml_print(&t, r->m);
	r->o->show(r->o->show_user, pass, t.at);
}

static int
report_rules(const pass_run *r, const ml_pass *pass, const int *fired)
{
	int sum = 0;

	for (int i = 0; i < pass->nrules; sum += fired[i++])
		if (fired[i])
			ml_put(r->report, "%6d  %s/%s\n", fired[i], pass->name,
			       pass->rules[i].name);
	return sum;
}

static ml_status
run_pass(pass_run *r, const ml_pass *pass)
{
	ml_context *cx = r->m->cx;
	ml_arena scratch;
	const char *stage = cx->stage;

	ml_arena_init(&scratch, &cx->memory);
	ml_pass_ctx px = {.cx = cx,
			  .pass = pass,
			  .scratch = &scratch,
			  .opt_level = r->o->opt_level,
			  .workers = r->o->workers,
			  .fuel = r->fuel,
			  .exec = r->o->exec,
			  .data = r->o->data,
			  .known = r->o->known,
			  .guess = r->o->guess,
			  .results = r->o->results,
			  .teacher = r->teacher,
			  .observer = r->o->observer,
			  .max_loss = r->o->max_loss > 0 ? r->o->max_loss : .01,
			  .must_hold = r->o->must_hold,
			  .record = r->record,
			  .prune = r->o->prune,
			  .score = r->o->score,
			  .prune_hooks = r->o->prune_hooks,
			  .loss = r->o->loss,
			  .distill = r->o->distill,
			  .int4 = r->o->int4};
	px.fired = ML_NEW_ARRAY(&scratch, int, pass->nrules);
	cx->stage = pass->name;
	double start = ml_seconds_now();
	ml_status st = pass->run(&px, r->m);
	double spent = ml_seconds_now() - start;
	if (st == ML_OK && r->o->verify_each)
		st = ml_verify(r->m);
	cx->stage = stage;
	if (r->o->time_passes)
		ml_put(r->report, "%9.3f ms %6d changes  %s\n", spent * 1e3, px.changes,
		       pass->name);
	if (r->o->rule_stats)
		r->fired += report_rules(r, pass, px.fired);
	if (r->o->print_after && r->o->show && px.changes &&
	    (!strcmp(r->o->print_after, "all") || is_listed(r->o->print_after, pass->name)))
		show_module(r, pass->name);
	ml_arena_free(&scratch);
	return st;
}

static ml_status
run_stages(const ml_pipeline *p, pass_run *r)
{
	for (int i = 0; i < p->stages.count; i++) {
		const ml_pass *pass = p->stages.at[i].pass;
		if (is_listed(r->o->skip, pass->name))
			continue;
		if (compresses(r, &p->stages.at[i]) && r->o->data && !r->teacher)
			r->teacher = ml_module_clone(r->m);
		ML_STEP(run_pass(r, pass));
		if (r->o->stop_after && !strcmp(r->o->stop_after, pass->name))
			break;
	}
	return ML_OK;
}

ml_status
ml_pipeline_run(const ml_pipeline *p, ml_module *m, const ml_pipeline_options *o)
{
	int64_t fuel = o->fuel < 0 ? INT64_MAX : o->fuel;
	ml_text report;
	ml_record unread;
	pass_run r = {.o = o, .m = m, .fuel = &fuel, .report = &report, .arena = p->arena};

	ml_text_init(&report, p->arena);
	ml_record_init(&unread, p->arena);
	r.record = o->record ? o->record : &unread;
	ml_status status = run_stages(p, &r);
	if (r.teacher)
		ml_module_free(r.teacher);
	ML_STEP(status);
	if (o->rule_stats && !r.fired)
		ml_put(&report, "no rule fired\n");
	if (report.length && o->show)
		o->show(o->show_user, "passes", report.at);
	return ML_OK;
}
