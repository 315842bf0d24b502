/* repair.c -- the order in which branches are refitted, and what each of them is fitted to. */
#include "repair.h"
#include "refit.h"

/* In a post-norm model the stream is a norm of the sum: the one behind the cut counts, as the next
 * branch has learnt to read it. */
static ml_status
take_norm(const ml_branch *student, const ml_branch *teacher)
{
	ml_node *n = student->out->def;
	const ml_node *from = teacher->out->def;
	ml_builder b = ml_builder_before(n);

	for (int i = 1; i < from->nin && i < n->nin; i++) {
		const ml_value *c = ml_in(from, i);
		if (!ml_is_const(c) || !ml_is_const(ml_in(n, i)))
			return ML_OK;
		ml_value *v = ml_build_const(&b, &c->type, ml_blob_share(ml_const_blob(c)));
		ML_STEP(b.failed);
		ml_set_operand(n, i, v);
	}
	return ML_OK;
}

/* The last branch of the teacher on this stream before the next one that was kept. */
static int
last_before_next(const ml_blocks *t, const bool *keep, int at)
{
	while (at + 1 < t->branch.count && !keep[at + 1] &&
	       (t->branch.at[at + 1].in == t->branch.at[at].out ||
		t->branch.at[at + 1].sum == t->branch.at[at].sum))
		at++;
	return at;
}

/* Refits the branch of the student with this sum. */
static ml_status
repair_branch(ml_refit *f, const ml_branch *own, const ml_branch *last, bool *cut)
{
	ml_blocks blocks;

	ml_find_blocks(f->student, f->p->arena, &blocks);
	for (int i = 0; i < blocks.branch.count; i++) {
		const ml_branch *b = &blocks.branch.at[i];
		if (b->sum->id != own->sum->id || b->kind != own->kind)
			continue;
		if (own->norm == ML_NORM_POST && last->norm == ML_NORM_POST && own != last)
			ML_STEP(take_norm(b, last));
		/* What attention gives is as it was unless what follows has gone; heads that went
		 * have been fitted for already. */
		bool own_cut = own != last || b->parameters != own->parameters;
		*cut |= own_cut;
		if (!*cut || (b->kind == ML_BRANCH_ATTENTION && own == last))
			return ML_OK;
		return ml_refit_branch(f, b, &last->sum->out[0]);
	}
	return ML_OK;
}

static ml_status
repair(ml_refit *f, const bool *keep)
{
	bool cut = false;
	ml_blocks t;

	ml_find_blocks(f->teacher, f->p->arena, &t);
	for (int i = 0; i < t.branch.count; i++) {
		if (!keep[i])
			continue;
		int last = last_before_next(&t, keep, i);
		cut |= i && !keep[i - 1];
		ML_STEP(repair_branch(f, &t.branch.at[i], &t.branch.at[last], &cut));
	}
	return ML_OK;
}

ml_status
ml_repair(ml_pruning *p, ml_module *student, const ml_module *teacher, const bool *keep)
{
	ml_refit f = {.p = p, .student = student, .teacher = teacher};

	ml_stream_init(&f.read, p->px, &p->samples);
	ml_stream_init(&f.target, p->px, &p->samples);
	ml_status st = repair(&f, keep);
	ml_stream_end(&f.read);
	ml_stream_end(&f.target);
	return st;
}
