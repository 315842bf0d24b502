/* prefix.c -- candidates are scored from where they differ from the teacher on: what they compute
 * up to there is the teacher's, and is kept for every sample that is judged. */
#include "prune.h"

static bool
is_inside(const ml_branch *b, uint32_t id)
{
	for (int i = 0; i < b->nodes; i++)
		if (b->node[i]->id == id)
			return true;
	return false;
}

int
ml_first_changed(const ml_pruning *p, const ml_cuts *cuts)
{
	int n = p->blocks.branch.count, first = 0, at = n;

	while (first < n && cuts->keep[first])
		first++;
	for (int i = 0; i < p->width.count; i++) {
		if (!cuts->cut[i])
			continue;
		for (at = 0; at < n && !is_inside(&p->blocks.branch.at[at], p->width.at[i].layer);)
			at++;
		if (at == n)
			return n; /* who knows what reads it */
		first = at < first ? at : first;
	}
	return first;
}

/* The streams of all batches that are judged. */
static ml_status
get_streams(ml_pruning *p, const ml_value *at, ml_tensor *stream, ml_arena *arena)
{
	ML_STEP(ml_stream_move(&p->prefix, p->m, at));
	for (int i = 0; i < p->samples.batch.count && at->def; i++)
		if (ml_samples_judge(&p->samples, &p->samples.batch.at[i]))
			ML_STEP(ml_stream_get(&p->prefix, i, arena, &stream[i]));
	return ML_OK;
}

static ml_status
judge(ml_pruning *p, ml_module *m, const ml_value *at, double *error)
{
	ml_arena arena;

	if (!at)
		return ml_judge(&p->samples, p->px, m, NULL, error);
	ml_arena_init(&arena, &p->px->cx->memory);
	ml_tensor *stream = ML_NEW_ARRAY(&arena, ml_tensor, p->samples.batch.count + 1);
	ml_status st = get_streams(p, at, stream, &arena);
	bool reads = st == ML_OK && ml_stream_read(&p->prefix, m);
	if (st == ML_OK)
		st = ml_judge(&p->samples, p->px, m, reads ? stream : NULL, error);
	ml_arena_free(&arena);
	return st;
}

ml_status
ml_prefix_judge(ml_pruning *p, const ml_cuts *cuts, double *error)
{
	int first = ml_first_changed(p, cuts);
	ml_module *m;

	ML_STEP(ml_prune_with(p, cuts, &m));
	ml_status st = judge(
		p, m, first < p->blocks.branch.count ? p->blocks.branch.at[first].in : NULL, error);
	ml_module_free(m);
	return st;
}
