/* score.c -- what the model loses with each unit: candidates without it are run and judged; or what
 * the user's own score says of it. */
#include "prune.h"
#include <math.h>

ml_cuts
ml_no_cuts(ml_pruning *p)
{
	ml_cuts c = {.keep = ML_NEW_ARRAY(p->arena, bool, p->blocks.branch.count + 1),
		     .cut = ML_NEW_ARRAY(p->arena, int64_t, p->width.count + 1)};

	for (int i = 0; i < p->blocks.branch.count; i++)
		c.keep[i] = true;
	return c;
}

const char *
ml_prune_text(const ml_pruning *p, const ml_cuts *cuts)
{
	ml_text text;

	ml_text_init(&text, p->arena);
	for (int i = 0; i < p->blocks.branch.count; i++)
		ml_put(&text, "%c", cuts->keep[i] ? 'k' : 'x');
	for (int i = 0; i < p->width.count; i++)
		ml_put(&text, "%c%lld", i ? ',' : ';', (long long)cuts->cut[i]);
	return text.at;
}

/* Names a layer of which nothing stays once, else its branches that go. */
static void
put_gone(ml_text *t, const ml_blocks *b, const ml_layer *layer, const bool *keep)
{
	int gone = 0;

	for (int i = layer->first; i < layer->first + layer->count; i++)
		gone += !keep[i];
	if (gone == layer->count)
		ml_put(t, "%slayer %d", t->length ? ", " : "without ",
		       b->branch.at[layer->first].layer);
	for (int i = layer->first; i < layer->first + layer->count; i++)
		if (!keep[i] && gone < layer->count)
			ml_put(t, "%s%s of layer %d", t->length ? ", " : "without ",
			       ml_branch_kind_name(b->branch.at[i].kind), b->branch.at[i].layer);
}

const char *
ml_prune_words(const ml_pruning *p, const ml_cuts *cuts)
{
	double bytes = 0, all = 0;
	int narrowed = 0;
	ml_text t;

	ml_text_init(&t, p->arena);
	for (int i = 0; i < p->blocks.layer.count; i++)
		put_gone(&t, &p->blocks, &p->blocks.layer.at[i], cuts->keep);
	for (int i = 0; i < p->width.count; i++) {
		const ml_width *w = &p->width.at[i];
		narrowed += cuts->cut[i] > 0;
		bytes += w->bytes * (double)cuts->cut[i];
		all += w->bytes * (double)w->groups;
	}
	if (narrowed)
		ml_put(&t, "%s%d of %d widths narrowed, by %.0f %% in all", t.length ? "; " : "",
		       narrowed, p->width.count, all > 0 ? 100 * bytes / all : 0);
	return t.length ? t.at : "as it is";
}

static ml_status
make_cuts(ml_pruning *p, ml_module *m, const ml_cuts *cuts)
{
	ml_blocks blocks;

	ml_find_blocks(m, p->arena, &blocks);
	ML_STEP(ml_remove_branches(m, &blocks, cuts->keep));
	for (int i = 0; i < p->width.count; i++)
		ML_STEP(ml_cut_width(p, m, &p->width.at[i], cuts->cut[i]));
	return ML_OK;
}

ml_status
ml_prune_with(ml_pruning *p, const ml_cuts *cuts, ml_module **out)
{
	ml_module *clone = ml_module_clone(p->m);
	ml_status st = make_cuts(p, clone, cuts);

	if (st != ML_OK) {
		ml_module_free(clone);
		return st;
	}
	*out = clone;
	return ML_OK;
}

ml_status
ml_prune_try(ml_pruning *p, ml_cuts *cuts)
{
	const ml_exec *exec = p->px->exec;
	ml_runnable *r = NULL;
	ml_module *m;

	ML_STEP(ml_prune_with(p, cuts, &m));
	ml_status st = exec->compile(exec->user, m, &r);
	ml_module_free(m);
	ML_STEP(st);
	if (ml_prune_counts_runs(p))
		st = ml_prune_measure(p, r, &cuts->seconds);
	cuts->seconds *= p->seconds;
	if (st == ML_OK)
		st = ml_judge_runnable(&p->samples, p->px, r, &cuts->error);
	exec->free(exec->user, r);
	return st;
}

/* A curve for whole layers, and one for each kind of branch. */
static void
draw(ml_pruning *p, const ml_prunable *u)
{
	static const char plot[] = "What results lose without a layer, or a part of it";
	const ml_branch *b = &p->blocks.branch.at[u->first];
	bool whole = u->count == p->blocks.layer.at[b->layer].count;
	const char *what = whole ? "layer" : ml_branch_kind_name(b->kind);

	ml_curve_add(ml_record_curve(p->px->record, plot, "layer", what), b->layer, u->error);
}

const char *
ml_prune_unit_name(const ml_pruning *p, const ml_prunable *u)
{
	const ml_branch *b = &p->blocks.branch.at[u->first];

	return u->count > 1 ? ml_format(p->arena, "layer %d", b->layer)
			    : ml_format(p->arena, "layer %d, %s", b->layer,
					ml_branch_kind_name(b->kind));
}

static void
write_down(ml_pruning *p, const ml_prunable *u)
{
	const ml_branch *b = &p->blocks.branch.at[u->first];
	ml_table *t = ml_record_table(p->px->record, "prune", "What each part is worth");
	const char *key = ml_prune_unit_name(p, u);
	int row = ml_table_row(t, key);

	ml_table_number(t, row, "loss without it", ML_UNIT_NONE, u->error);
	if (!isnan(u->fisher))
		ml_table_number(t, row, "by Fisher information", ML_UNIT_NONE, u->fisher);
	ml_table_number(t, row, "weights", ML_UNIT_BYTES, u->bytes);
	if (p->target.kind == ML_TARGET_MACS)
		ml_table_number(t, row, "MACs", ML_UNIT_COUNT, u->seconds);
	else if (p->seconds > 0)
		ml_table_number(t, row, "time", ML_UNIT_SECONDS, u->seconds);
	ml_remark(p->px->cx, b->sum->prov, "without %s the loss is %.4f", key, u->error);
}

/* The user's own opinion, of what the model loses. */
static ml_status
ask_user(ml_pruning *p, ml_prunable *u)
{
	const ml_score *score = p->px->score;
	const ml_branch *b = &p->blocks.branch.at[u->first];
	bool whole = u->count == p->blocks.layer.at[b->layer].count;
	ml_prune_part part = {.layer = b->layer,
			      .kind = whole ? "layer" : ml_branch_kind_name(b->kind),
			      .node = b->sum->prov && b->sum->prov->node ? b->sum->prov->node : "",
			      .parameters = (int64_t)(u->bytes / sizeof(float)),
			      .seconds = u->seconds,
			      .loss = u->error};

	u->error = score->score(score->user, &part);
	ml_table *t = ml_record_table(p->px->record, "prune", "");
	ml_table_number(t, ml_table_row(t, ml_prune_unit_name(p, u)), score->name, ML_UNIT_NONE,
			u->error);
	if (isfinite(u->error))
		return ML_OK;
	return ml_error(p->px->cx, ML_ERR_VALUE, b->sum->prov, "the score '%s' of %s is not finite",
			score->name, ml_prune_unit_name(p, u));
}

static ml_cuts
without(ml_pruning *p, const ml_prunable *u)
{
	ml_cuts cuts = ml_no_cuts(p);

	for (int k = 0; k < u->count; k++)
		cuts.keep[u->first + k] = false;
	return cuts;
}

static ml_status
judge_without(ml_pruning *p, ml_prunable *u)
{
	ml_cuts cuts = without(p, u);

	ML_STEP(ml_prune_tell(p, "scoring"));
	ML_STEP(ml_prefix_judge(p, &cuts, &u->error));
	p->loss = u->error;
	return ML_OK;
}

/* What begins in the same branch is judged behind the same stream. */
static ml_status
judge_from(ml_pruning *p, int branch)
{
	for (int i = 0; i < p->units; i++)
		if (p->unit[i].first == branch)
			ML_STEP(judge_without(p, &p->unit[i]));
	for (int i = 0; i < p->width.count; i++) {
		ml_cuts cuts = ml_no_cuts(p);
		cuts.cut[i] = 1;
		if (ml_first_changed(p, &cuts) == branch)
			ML_STEP(ml_weigh_width(p, i));
	}
	return ML_OK;
}

ml_status
ml_prune_scores(ml_pruning *p)
{
	ml_status st = ML_OK;

	p->steps = p->step + 1 + p->units + p->width.count;
	ML_STEP(ml_prune_fisher(p));
	p->samples.half = true;
	ml_stream_init(&p->prefix, p->px, &p->samples);
	for (int i = 0; i <= p->blocks.branch.count && st == ML_OK; i++)
		st = judge_from(p, i);
	ml_stream_end(&p->prefix);
	p->samples.half = false;
	ML_STEP(st);
	for (int i = 0; i < p->units; i++) {
		write_down(p, &p->unit[i]);
		draw(p, &p->unit[i]);
		if (p->px->score)
			ML_STEP(ask_user(p, &p->unit[i]));
	}
	return ML_OK;
}
