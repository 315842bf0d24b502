/* cost.c -- what each layer or branch takes: weights, and time as measured without it. */
#include "prune.h"
#include <math.h>

static ml_status
find_units(ml_pruning *p)
{
	bool layers = p->target.kind == ML_TARGET_LAYERS;

	p->units = layers ? p->blocks.layer.count : p->blocks.branch.count;
	p->unit = ML_NEW_ARRAY(p->arena, ml_prunable, p->units + 1);
	for (int i = 0; i < p->units; i++) {
		ml_prunable *u = &p->unit[i];
		*u = layers ? (ml_prunable){.first = p->blocks.layer.at[i].first,
					    .count = p->blocks.layer.at[i].count}
			    : (ml_prunable){.first = i, .count = 1};
		for (int k = 0; k < u->count; k++)
			u->bytes += 4.0 * (double)p->blocks.branch.at[u->first + k].parameters;
	}
	if (p->units)
		return ML_OK;
	ml_error(p->px->cx, ML_ERR_UNSUPPORTED, NULL,
		 "nothing can be pruned: the model has no residual branches with weights");
	ml_hint(p->px->cx, "mlopt inspect --blocks lists what pruning can take out");
	return ML_ERR_UNSUPPORTED;
}

static double
weight_bytes(const ml_module *m)
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
time_without(ml_pruning *p, const bool *keep, double *seconds)
{
	ml_module *m;

	ML_STEP(ml_prune_without(p->m, keep, p->arena, &m));
	ml_status st = ml_time_candidate(&p->samples, p->px, m, seconds);
	ml_module_free(m);
	return st;
}

/* All of one kind go at once: differences of single branches drown in noise. */
static ml_status
time_branches(ml_pruning *p)
{
	const ml_branch *b = p->blocks.branch.at;
	int n = p->blocks.branch.count;
	double *spent = ML_NEW_ARRAY(p->arena, double, n);
	bool *keep = ML_NEW_ARRAY(p->arena, bool, n);

	ML_STEP(ml_time_candidate(&p->samples, p->px, p->m, &p->seconds));
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
			keep[k] = !is_alike(&b[i], &b[k]);
			alike += !keep[k];
		}
		ML_STEP(time_without(p, keep, &left));
		spent[i] = left < p->seconds ? (p->seconds - left) / alike : 0;
	}
	for (int i = 0; i < p->units; i++)
		for (int k = 0; k < p->unit[i].count; k++)
			p->unit[i].seconds += spent[p->unit[i].first + k];
	return ML_OK;
}

/* ---- what is needed ---- */

static void
set_need(ml_pruning *p)
{
	double sum = 0, least = INFINITY;

	for (int i = 0; i < p->units; i++) {
		ml_prunable *u = &p->unit[i];
		switch (p->target.kind) {
		case ML_TARGET_LAYERS: u->saved = 1; break;
		case ML_TARGET_SPEEDUP: u->saved = u->seconds; break;
		case ML_TARGET_SHARE:
		case ML_TARGET_SIZE: u->saved = u->bytes; break;
		}
		sum += u->saved;
		least = fmin(least, u->saved);
	}
	switch (p->target.kind) {
	case ML_TARGET_LAYERS: p->need = p->target.value; break;
	case ML_TARGET_SHARE: p->need = p->target.value * sum; break;
	case ML_TARGET_SPEEDUP: p->need = p->seconds * (1 - 1 / p->target.value); break;
	case ML_TARGET_SIZE: p->need = weight_bytes(p->m) - p->target.value; break;
	}
	p->most = sum - least; /* one has to stay */
}

/* What would be possible, in the words of the target. */
static ml_status
check_need(const ml_pruning *p)
{
	ml_context *cx = p->px->cx;
	const char *text = p->target.text;
	int left = p->units - 1;

	if (p->need > 0 && p->need <= p->most)
		return ML_OK;
	if (p->need <= 0)
		return ml_error(cx, ML_ERR_ARG, NULL,
				"prune=%s asks for nothing: the model's weights are %.2f MB", text,
				weight_bytes(p->m) * 1e-6);
	switch (p->target.kind) {
	case ML_TARGET_LAYERS:
		ml_error(cx, ML_ERR_ARG, NULL,
			 "prune=%s is not possible: of the model's %d layers at most %d can go",
			 text, p->units, left);
		break;
	case ML_TARGET_SPEEDUP:
		ml_error(cx, ML_ERR_ARG, NULL,
			 "prune=%s is not possible: without %d of its %d branches the model is "
			 "%.2fx as fast",
			 text, left, p->units, p->seconds / (p->seconds - p->most));
		break;
	case ML_TARGET_SIZE:
	case ML_TARGET_SHARE:
		ml_error(cx, ML_ERR_ARG, NULL,
			 "prune=%s is not possible: without %d of its %d branches the model has "
			 "%.2f of %.2f MB of weights",
			 text, left, p->units, (weight_bytes(p->m) - p->most) * 1e-6,
			 weight_bytes(p->m) * 1e-6);
		break;
	}
	ml_hint(cx, "up to about half of what can go is worth trying");
	return ML_ERR_ARG;
}

ml_status
ml_prune_costs(ml_pruning *p)
{
	ML_STEP(find_units(p));
	if (p->target.kind == ML_TARGET_SPEEDUP)
		ML_STEP(time_branches(p));
	set_need(p);
	return check_need(p);
}
