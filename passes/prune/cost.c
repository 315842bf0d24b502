/* cost.c -- what each layer or branch takes: weights, and time as measured without it. */
#include "prune.h"
#include <math.h>

static void
add_unit(ml_pruning *p, int first, int count)
{
	ml_prunable u = {.first = first, .count = count};

	for (int k = 0; k < count; k++)
		u.bytes += 4.0 * (double)p->blocks.branch.at[first + k].parameters;
	p->unit[p->units++] = u;
}

/* Layers; and branches, unless whole layers were asked for. */
static ml_status
find_units(ml_pruning *p)
{
	bool whole = p->target.kind == ML_TARGET_LAYERS;
	int branches = p->blocks.branch.count, layers = p->blocks.layer.count;

	p->unit = ML_NEW_ARRAY(p->arena, ml_prunable, branches + layers + 1);
	for (int i = 0; i < branches && !whole; i++)
		add_unit(p, i, 1);
	for (int i = 0; i < layers; i++)
		if (whole || p->blocks.layer.at[i].count > 1)
			add_unit(p, p->blocks.layer.at[i].first, p->blocks.layer.at[i].count);
	if (!whole && !p->px->score) /* which speaks of parts */
		ML_STEP(ml_find_widths(p));
	if (p->units || p->width.count)
		return ML_OK;
	ml_error(p->px->cx, ML_ERR_UNSUPPORTED, NULL,
		 "nothing can be pruned: the model has no residual branches with weights%s",
		 whole ? "" : ", and no layers of which neurons, heads or channels could go");
	ml_hint(p->px->cx, "mlopt inspect --blocks lists what pruning can take out");
	return ML_ERR_UNSUPPORTED;
}

double
ml_weight_bytes(const ml_module *m)
{
	double bytes = 0;
	int64_t count;

	for (const ml_node *n = m->main->first; n; n = n->next)
		if (n->op == ML_OP_const && ml_type_static_count(&n->out[0].type, &count) &&
		    count > 1)
			bytes += (double)ml_const_blob(&n->out[0])->size;
	return bytes;
}

/* ---- time ---- */

/* Branches that take the same time. */
static bool
is_alike(const ml_branch *a, const ml_branch *b)
{
	return a->kind == b->kind && a->parameters == b->parameters && a->width == b->width &&
	       ml_type_equal(&a->in->type, &b->in->type);
}

static ml_status
time_with(ml_pruning *p, const ml_cuts *cuts, double *seconds)
{
	ml_runnable *r;
	ml_module *m;

	ML_STEP(ml_prune_tell(p, "timing"));
	ML_STEP(ml_prune_with(p, cuts, &m));
	ml_status st = p->px->exec->compile(p->px->exec->user, m, &r);
	ml_module_free(m);
	ML_STEP(st);
	st = ml_prune_measure(p, r, seconds);
	*seconds *= p->seconds;
	p->px->exec->free(p->px->exec->user, r);
	return st;
}

bool
ml_prune_counts_runs(const ml_pruning *p)
{
	return p->target.kind == ML_TARGET_SPEEDUP || p->target.kind == ML_TARGET_MACS;
}

/* Of a sample of middle size. */
static ml_status
count_macs(const ml_pruning *p, ml_runnable *r, double *macs)
{
	const ml_exec *exec = p->px->exec;
	ml_arena arena;

	if (!exec->macs)
		return ml_error(p->px->cx, ML_ERR_UNSUPPORTED, NULL,
				"nobody counts what runs take");
	ml_arena_init(&arena, &p->px->cx->memory);
	ml_tensor *out = ML_NEW_ARRAY(&arena, ml_tensor, p->m->main->last->nin + 1);
	ml_status st = exec->run(exec->user, r, p->samples.timing[ML_TIMED / 2], out, &arena);
	if (st == ML_OK)
		st = exec->macs(exec->user, r, macs);
	ml_arena_free(&arena);
	return st;
}

ml_status
ml_prune_measure(ml_pruning *p, ml_runnable *r, double *share)
{
	if (p->target.kind != ML_TARGET_MACS)
		return ml_time_runnable(&p->samples, p->px, r, share);
	ML_STEP(count_macs(p, r, share));
	*share /= p->seconds;
	return ML_OK;
}

/* What all of it takes. */
static ml_status
measure_teacher(ml_pruning *p)
{
	if (p->target.kind != ML_TARGET_MACS)
		return ml_time_teacher(&p->samples, p->px, p->m, &p->seconds);
	ML_STEP(count_macs(p, p->samples.teacher, &p->seconds));
	if (p->seconds > 0)
		return ML_OK;
	return ml_error(p->px->cx, ML_ERR_ARG, NULL, "prune=%s: the model multiplies nothing",
			p->target.text);
}

/* All of one kind go at once: differences of single branches drown in noise. */
static ml_status
time_branches(ml_pruning *p)
{
	const ml_branch *b = p->blocks.branch.at;
	int n = p->blocks.branch.count;
	double *spent = ML_NEW_ARRAY(p->arena, double, n);
	ml_cuts cuts = ml_no_cuts(p);

	ML_STEP(measure_teacher(p));
	for (int i = 0; i < n; i++) {
		int alike = 0, earlier = 0;
		double left;
		while (earlier < i && !is_alike(&b[i], &b[earlier]))
			earlier++;
		if (earlier < i) {
			spent[i] = spent[earlier];
			continue;
		}
		for (int k = 0; k < n; k++) {
			cuts.keep[k] = !is_alike(&b[i], &b[k]);
			alike += !cuts.keep[k];
		}
		ML_STEP(time_with(p, &cuts, &left));
		spent[i] = left < p->seconds ? (p->seconds - left) / alike : 0;
	}
	for (int i = 0; i < p->units; i++)
		for (int k = 0; k < p->unit[i].count; k++)
			p->unit[i].seconds += spent[p->unit[i].first + k];
	return ML_OK;
}

static bool
is_alike_width(const ml_width *a, const ml_width *b)
{
	return a->groups == b->groups && a->step == b->step && a->bytes == b->bytes;
}

ml_status
ml_prune_time_widths(ml_pruning *p)
{
	ml_width *w = p->width.at;

	for (int i = 0; i < p->width.count; i++) {
		ml_cuts cuts = ml_no_cuts(p);
		double left, gone = 0;
		int earlier = 0;
		while (!is_alike_width(&w[i], &w[earlier]))
			earlier++;
		w[i].seconds = w[earlier].seconds;
		if (earlier < i)
			continue;
		for (int k = 0; k < p->width.count; k++) {
			cuts.cut[k] = is_alike_width(&w[i], &w[k]) ? w[k].groups / 2 : 0;
			gone += (double)cuts.cut[k];
		}
		ML_STEP(time_with(p, &cuts, &left));
		w[i].seconds = left < p->seconds ? (p->seconds - left) / gone : 0;
	}
	return ML_OK;
}

/* ---- what is needed ---- */

static void
set_need(ml_pruning *p)
{
	bool timed = ml_prune_counts_runs(p);
	double branches = 0, widths = 0, least = INFINITY;

	for (int i = 0; i < p->units; i++) {
		ml_prunable *u = &p->unit[i];
		bool whole = p->target.kind == ML_TARGET_LAYERS;
		u->saved = whole ? 1 : timed ? u->seconds : u->bytes;
		if (!whole && u->count > 1)
			continue;
		branches += u->saved;
		least = fmin(least, u->saved);
	}
	for (int i = 0; i < p->width.count; i++) {
		ml_width *w = &p->width.at[i];
		w->saved = timed ? w->seconds : w->bytes;
		widths += w->saved * (double)w->most;
	}
	switch (p->target.kind) {
	case ML_TARGET_LAYERS: p->need = p->target.value; break;
	case ML_TARGET_SHARE:
		p->need = p->target.value * (branches > 0 ? branches : ml_weight_bytes(p->m));
		break;
	case ML_TARGET_MACS:
	case ML_TARGET_SPEEDUP: p->need = p->seconds * (1 - 1 / p->target.value); break;
	case ML_TARGET_SIZE: p->need = ml_weight_bytes(p->m) - p->target.value; break;
	}
	/* One branch has to stay; widths of what goes count for nothing. */
	p->most = fmax(branches - (p->units ? least : 0), widths);
}

/* What would be possible, in the words of the target. */
static ml_status
check_need(const ml_pruning *p)
{
	ml_context *cx = p->px->cx;
	const char *text = p->target.text;

	if (p->need > 0 && p->need <= p->most)
		return ML_OK;
	if (p->need <= 0)
		return ml_error(cx, ML_ERR_ARG, NULL,
				"prune=%s asks for nothing: the model's weights are %.2f MB", text,
				ml_weight_bytes(p->m) * 1e-6);
	switch (p->target.kind) {
	case ML_TARGET_LAYERS:
		ml_error(cx, ML_ERR_ARG, NULL,
			 "prune=%s is not possible: of the model's %d layers at most %d can go",
			 text, p->units, p->units - 1);
		break;
	case ML_TARGET_MACS:
		ml_error(cx, ML_ERR_ARG, NULL,
			 "prune=%s is not possible: without all that can go the model has %.2fx "
			 "fewer multiply-adds",
			 text, p->seconds / (p->seconds - p->most));
		break;
	case ML_TARGET_SPEEDUP:
		ml_error(cx, ML_ERR_ARG, NULL,
			 "prune=%s is not possible: without all that can go the model is %.2fx as "
			 "fast",
			 text, p->seconds / (p->seconds - p->most));
		break;
	case ML_TARGET_SIZE:
	case ML_TARGET_SHARE:
		ml_error(cx, ML_ERR_ARG, NULL,
			 "prune=%s is not possible: without all that can go the model has %.2f of "
			 "%.2f MB of weights",
			 text, (ml_weight_bytes(p->m) - p->most) * 1e-6,
			 ml_weight_bytes(p->m) * 1e-6);
		break;
	}
	ml_hint(cx, p->target.kind == ML_TARGET_LAYERS && p->units < 2
			    ? "parts of layers can go: prune=25%%, or prune=1.5x"
			    : "up to about half of what can go is worth trying");
	return ML_ERR_ARG;
}

/* A disturbed clock must not make parts free, nor all that counts: where products with weights are
 * the work, time goes with weights within a factor. */
static void
keep_in_proportion(ml_pruning *p)
{
	enum { FACTOR = 2 };
	double bytes = 0;

	for (int i = 0; i < p->blocks.branch.count; i++) {
		bytes += 4.0 * (double)p->blocks.branch.at[i].parameters;
		if (p->blocks.branch.at[i].kind == ML_BRANCH_CONV)
			return;
	}
	for (int i = 0; i < p->units; i++) {
		double share = p->seconds * p->unit[i].bytes / bytes;
		p->unit[i].seconds = fmin(fmax(p->unit[i].seconds, share / FACTOR), share * FACTOR);
	}
	for (int i = 0; i < p->width.count && bytes > 0; i++) {
		double share = p->seconds * p->width.at[i].bytes / bytes;
		p->width.at[i].seconds =
			fmin(fmax(p->width.at[i].seconds, share / FACTOR), share * FACTOR);
	}
}

ml_status
ml_prune_costs(ml_pruning *p)
{
	ML_STEP(find_units(p));
	if (ml_prune_counts_runs(p)) {
		ML_STEP(time_branches(p));
		ML_STEP(ml_prune_time_widths(p));
	}
	if (p->target.kind == ML_TARGET_SPEEDUP)
		keep_in_proportion(p);
	set_need(p);
	return check_need(p);
}
