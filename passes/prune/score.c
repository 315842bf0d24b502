/* score.c -- what the model loses with each unit: candidates without it are run and judged. */
#include "prune.h"

ml_status
ml_prune_without(const ml_module *m, const bool *keep, ml_arena *arena, ml_module **out)
{
	ml_module *clone = ml_module_clone(m);
	ml_blocks blocks;

	ml_find_blocks(clone, arena, &blocks);
	ml_status st = ml_remove_branches(clone, &blocks, keep);
	if (st != ML_OK) {
		ml_module_free(clone);
		return st;
	}
	*out = clone;
	return ML_OK;
}

ml_status
ml_prune_judge(ml_pruning *p, const bool *keep, double *error)
{
	ml_module *m;

	ML_STEP(ml_prune_without(p->m, keep, p->arena, &m));
	ml_status st = ml_judge(&p->samples, p->px, m, error);
	ml_module_free(m);
	return st;
}

static void
write_down(ml_pruning *p, const ml_prunable *u)
{
	const ml_branch *b = &p->blocks.branch.at[u->first];
	const char *what = u->count > 1 ? "" : ml_branch_kind_name(b->kind);
	ml_table *t = ml_record_table(p->px->record, "prune", "What each part is worth");
	const char *key = ml_format(p->arena, "layer %d%s%s", b->layer, *what ? ", " : "", what);
	int row = ml_table_row(t, key);

	ml_table_number(t, row, "loss without it", ML_UNIT_NONE, u->error);
	ml_table_number(t, row, "weights", ML_UNIT_BYTES, u->bytes);
	if (p->seconds > 0)
		ml_table_number(t, row, "time", ML_UNIT_SECONDS, u->seconds);
	ml_remark(p->px->cx, b->sum->prov, "without %s the loss is %.4f", key, u->error);
}

ml_status
ml_prune_scores(ml_pruning *p)
{
	bool *keep = ML_NEW_ARRAY(p->arena, bool, p->blocks.branch.count);

	for (int i = 0; i < p->units; i++) {
		for (int k = 0; k < p->blocks.branch.count; k++)
			keep[k] = k < p->unit[i].first || k >= p->unit[i].first + p->unit[i].count;
		ML_STEP(ml_prune_judge(p, keep, &p->unit[i].error));
		write_down(p, &p->unit[i]);
	}
	return ML_OK;
}
