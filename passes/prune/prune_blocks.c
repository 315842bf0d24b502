/* prune_blocks.c -- takes out what the model's results need least, until the target is met, and
 * fits the rest to the teacher. */
#include "repair.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char NAME[] = "prune_blocks", PLAN[] = "plan";

/* ---- the plan, as it is written down: a letter for each branch, a number for each width ---- */

static ml_status
refuse_plan(ml_pruning *p)
{
	return ml_error(p->px->cx, ML_ERR_ARG, NULL,
			"the plan to be repeated is of another model, or had another target");
}

static ml_status
read_plan(ml_pruning *p, const char *text)
{
	ml_cuts cuts = ml_no_cuts(p);
	int n = p->blocks.branch.count;

	if (strspn(text, "kx") != (size_t)n)
		return refuse_plan(p);
	for (int i = 0; i < n; i++)
		cuts.keep[i] = *text++ == 'k';
	for (int i = 0; i < p->width.count; i++) {
		char *end;
		if (*text != (i ? ',' : ';'))
			return refuse_plan(p);
		cuts.cut[i] = strtoll(text + 1, &end, 10);
		if (cuts.cut[i] < 0 || cuts.cut[i] > p->width.at[i].most)
			return refuse_plan(p);
		text = end;
	}
	ML_PUSH(p->arena, p->plan, cuts);
	return *text ? refuse_plan(p) : ML_OK;
}

static ml_status
choose(ml_pruning *p)
{
	const char *choice;

	ML_STEP(ml_record_choice(p->px->record, p->px->cx, NAME, PLAN, &choice));
	if (choice) {
		if (p->target.kind != ML_TARGET_LAYERS && !p->px->score)
			ML_STEP(ml_find_widths(p));
		ML_STEP(ml_learn_widths(p));
		return read_plan(p, choice);
	}
	ML_STEP(ml_prune_costs(p));
	ML_STEP(ml_learn_widths(p));
	ML_STEP(ml_prune_scores(p));
	return ml_prune_search(p);
}

/* ---- doing it ---- */

/* What became of the parts that were scored, beside their scores. */
static void
write_down(ml_pruning *p, const ml_cuts *cuts)
{
	ml_table *t = ml_record_table(p->px->record, "prune", "What each part is worth");

	for (int i = 0; i < p->units; i++) {
		const ml_prunable *u = &p->unit[i];
		int left = 0, row = ml_table_row(t, ml_prune_unit_name(p, u));
		for (int k = 0; k < u->count; k++)
			left += cuts->keep[u->first + k];
		ml_table_text(t, row, "in the student",
			      left == u->count ? "kept"
			      : left           ? "in part"
					       : "left out");
	}
}

static void
write_down_width(ml_pruning *p, const ml_width *w, int64_t cut)
{
	ml_table *t = ml_record_table(p->px->record, "narrowed", "Layers that became narrower");
	const ml_prov *prov = ml_node_by_id(p->m, w->layer)->prov;
	const char *name = prov && prov->node ? prov->node : "";
	int row = ml_table_row(t, *name ? name : ml_format(p->arena, "#%u", w->layer));

	ml_table_number(t, row, "reads", ML_UNIT_COUNT, (double)w->groups);
	ml_table_number(t, row, "in the student", ML_UNIT_COUNT, (double)(w->groups - cut));
	ml_table_text(t, row, "of", w->step > 1 ? "groups" : "places");
	ml_table_number(t, row, "saved", ML_UNIT_BYTES, w->bytes * (double)cut);
}

static void
say_what_goes(ml_pruning *p, const ml_cuts *cuts)
{
	write_down(p, cuts);
	for (int i = 0; i < p->blocks.branch.count; i++) {
		const ml_branch *b = &p->blocks.branch.at[i];
		if (cuts->keep[i])
			continue;
		ml_remark(p->px->cx, b->sum->prov, "pruned: layer %d, %s", b->layer,
			  ml_branch_kind_name(b->kind));
		p->px->changes++;
	}
	for (int i = 0; i < p->width.count; i++) {
		const ml_width *w = &p->width.at[i];
		if (!cuts->cut[i])
			continue;
		write_down_width(p, w, cuts->cut[i]);
		ml_remark(p->px->cx, ml_node_by_id(p->m, w->layer)->prov,
			  "narrowed: reads %lld of %lld %s", (long long)(w->groups - cuts->cut[i]),
			  (long long)w->groups, w->step > 1 ? "groups" : "places");
		p->px->changes++;
	}
}

/* The student by a plan, repaired unless that makes it worse. */
static ml_status
make_student(ml_pruning *p, ml_cuts *cuts, ml_module **out)
{
	ml_module *plain, *student;
	double error;

	ML_STEP(ml_prune_tell(p, "fitting"));
	ML_STEP(ml_prune_with(p, cuts, &plain));
	student = ml_module_clone(plain);
	ml_status st = ml_judge(&p->samples, p->px, plain, NULL, &cuts->error);
	if (st == ML_OK)
		st = ml_repair(p, student, p->m, cuts->keep);
	if (st == ML_OK)
		st = ml_judge(&p->samples, p->px, student, NULL, &error);
	bool better = st == ML_OK && error < cuts->error;
	if (better)
		cuts->error = error;
	ml_module_free(better ? plain : student);
	*out = better ? student : plain;
	return st;
}

/* The module becomes the other one, node by node. */
static ml_status
become(ml_pruning *p, ml_module *student, const ml_cuts *cuts)
{
	ml_text t;
	double error;

	ML_STEP(ml_judge(&p->samples, p->px, student, NULL, &error));
	ml_text_init(&t, p->arena);
	ml_agree_put(&t, &p->samples.agree);
	ml_record_decide(p->px->record, NAME, PLAN, ml_prune_text(p, cuts), t.at);
	ml_record_note(p->px->record, "pruned: %s: %s", ml_prune_words(p, cuts), t.at);
	ml_remark(p->px->cx, NULL, "pruned: %s", t.at);
	say_what_goes(p, cuts);
	ml_module_swap(p->m, student);
	return ML_OK;
}

/* The plan that is best once it is repaired, for which fewer samples do than for the student. */
static ml_status
choose_repaired(ml_pruning *p, ml_cuts **best)
{
	*best = p->plan.count ? &p->plan.at[0] : NULL;
	p->rough = true;
	for (int i = 0; i < p->plan.count && p->plan.count > 1; i++) {
		ml_module *student = NULL;
		ML_STEP(make_student(p, &p->plan.at[i], &student));
		ml_module_free(student);
		const ml_cuts *c = &p->plan.at[i];
		ml_table_number(ml_record_table(p->px->record, "prune_tried", ""), c->row,
				"loss after repair", ML_UNIT_NONE, c->error);
		if (c->error < (*best)->error)
			*best = &p->plan.at[i];
	}
	p->rough = false;
	return ML_OK;
}

static ml_status
prune(ml_pruning *p)
{
	ml_module *student = NULL;
	ml_cuts *cuts;

	ML_STEP(ml_samples_read(&p->samples, p->px, p->m, p->arena));
	ML_STEP(choose(p));
	ML_STEP(choose_repaired(p, &cuts));
	if (!cuts)
		return ML_OK;
	ml_status st = make_student(p, cuts, &student);
	if (st == ML_OK)
		st = become(p, student, cuts);
	ml_module_free(student);
	return st;
}

ml_status
ml_keep_branches(ml_pass_ctx *px, ml_module *m, const bool *keep)
{
	ml_pruning p = {
		.px = px, .m = m, .arena = px->scratch, .target.text = "given layers", .loss = NAN};
	ml_module *student = NULL;

	ml_find_blocks(m, p.arena, &p.blocks);
	ml_cuts cuts = ml_no_cuts(&p);
	memcpy(cuts.keep, keep, (size_t)p.blocks.branch.count * sizeof *keep);
	ml_status st = ml_samples_read(&p.samples, px, m, p.arena);
	if (st == ML_OK)
		st = make_student(&p, &cuts, &student);
	if (st == ML_OK)
		st = become(&p, student, &cuts);
	ml_module_free(student);
	ml_samples_free(&p.samples, px);
	return st;
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	ml_pruning p = {.px = px, .m = m, .arena = px->scratch, .loss = NAN};

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
