/* prune_blocks.c -- takes out what the model's results need least, until the target is met, and
 * fits the rest to the teacher. */
#include "repair.h"
#include <string.h>

static const char NAME[] = "prune_blocks", PLAN[] = "plan";

/* ---- the plan, as it is written down: one letter for each branch ---- */

enum { KEPT = 'k', GONE = 'x' };

static ml_status
read_plan(ml_pruning *p, const char *choice)
{
	int n = p->blocks.branch.count;

	if (strlen(choice) != (size_t)n || strspn(choice, "kx") != (size_t)n)
		return ml_error(p->px->cx, ML_ERR_ARG, NULL,
				"the plan to be repeated is of another model: it has %d branches, "
				"this one %d",
				(int)strlen(choice), n);
	for (int i = 0; i < n; i++)
		p->keep[i] = choice[i] == KEPT;
	return ML_OK;
}

static void
write_plan(ml_pruning *p)
{
	ml_text text;

	ml_text_init(&text, p->arena);
	for (int i = 0; i < p->blocks.branch.count; i++)
		ml_put(&text, "%c", p->keep[i] ? KEPT : GONE);
	ml_record_decide(p->px->record, NAME, PLAN, text.at,
			 ml_format(p->arena, "loss %.4f before repair", p->error));
}

static ml_status
choose(ml_pruning *p)
{
	const char *choice;

	ML_STEP(ml_record_choice(p->px->record, p->px->cx, NAME, PLAN, &choice));
	p->keep = ML_NEW_ARRAY(p->arena, bool, p->blocks.branch.count);
	if (choice) {
		ML_STEP(read_plan(p, choice));
	} else {
		ML_STEP(ml_prune_costs(p));
		ML_STEP(ml_prune_scores(p));
		ML_STEP(ml_prune_search(p));
	}
	write_plan(p);
	return ML_OK;
}

/* ---- doing it ---- */

static void
say_what_goes(ml_pruning *p)
{
	for (int i = 0; i < p->blocks.branch.count; i++) {
		const ml_branch *b = &p->blocks.branch.at[i];
		if (p->keep[i])
			continue;
		ml_remark(p->px->cx, b->sum->prov, "pruned: layer %d, %s", b->layer,
			  ml_branch_kind_name(b->kind));
		p->px->changes++;
	}
}

static ml_status
apply(ml_pruning *p)
{
	ml_module *teacher = ml_module_clone(p->m);
	ml_status st = ml_remove_branches(p->m, &p->blocks, p->keep);
	ml_text t;

	if (st == ML_OK)
		st = ml_repair(p, p->m, teacher, p->keep);
	if (st == ML_OK)
		st = ml_judge(&p->samples, p->px, p->m, &p->error);
	ml_module_free(teacher);
	ml_text_init(&t, p->arena);
	ml_agree_put(&t, &p->samples.agree);
	ml_record_note(p->px->record, "pruned for %s: %s", p->target.text, t.at);
	ml_remark(p->px->cx, NULL, "after repair: %s", t.at);
	return st;
}

static ml_status
prune(ml_pruning *p)
{
	ML_STEP(ml_samples_read(&p->samples, p->px, p->m, p->arena));
	ML_STEP(choose(p));
	say_what_goes(p);
	return apply(p);
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	ml_pruning p = {.px = px, .m = m, .arena = px->scratch};

	if (!px->prune)
		return ml_error(px->cx, ML_ERR_ARG, NULL, "pruning needs a target: prune=1.5x");
	ML_STEP(ml_target_parse(px->cx, px->prune, &p.target));
	if (!px->exec || !px->data) {
		ml_error(px->cx, ML_ERR_ARG, NULL, "prune needs calibration data");
		ml_hint(px->cx, "give inputs without labels: --calib=DATA.npz");
		return ML_ERR_ARG;
	}
	ml_find_blocks(m, p.arena, &p.blocks);
	ml_status st = prune(&p);
	ml_samples_free(&p.samples, px);
	return st;
}

ML_PASS(prune_blocks, ML_LOSSY, run, "layers and branches that the results need least go");
