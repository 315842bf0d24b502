/* distill_student.c -- trains a student to give its teacher's results, within minutes or steps. */
#include "../prune/repair.h"
#include "distill.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	PROBES = 6, /* steps that change nothing: what terms are at first, and how long */
	LEAST_SAMPLES = 8,
	JUDGEMENTS = 20,
	RECOVERIES = 3,
	PATIENCE = 6,     /* judgements without anything better, of a training by minutes */
	LEAST_TENTHS = 5, /* of the way that training went, to end at */
	JUDGED_PARTS = 10 - LEAST_TENTHS + 1,
};
/* Of the learning rate; in bases that whiten, no direction holds it down for the others. */
static const double PEAK = 3e-4, WHITENED_PEAK = 6e-4;
static const double SLOWER = 3;
/* What counts as better: noise falls, too. */
static const double NOTICED = 0.999;
/* Held-out errors of so many times what it was at first are no way to something better. */
static const double LOST = 4;
/* Held-out errors that differ by less are equal. */
static const double AS_GOOD = 1.01;
/* Of a direction in the loss: it is one for all of a sample's rows, and what is said of each row
 * teaches more that holds for other samples. */
static const double DIRECTION = 0.3;
static const char NAME[] = "distill_student";

extern const ml_pass ml_pass_prune_blocks;

/* ---- shares ---- */

/* Hidden states alone where outputs decide: with few samples, what is fitted to them holds for
 * others as well, and what is fitted to a handful of logits does not. */
static void
set_shares(ml_trainer *t)
{
	bool inside = false;

	for (int i = 0; i < t->goal.term.count; i++)
		inside |= t->goal.term.at[i].place != ML_AT_OUTPUT;
	for (int i = 0; i < t->goal.term.count; i++) {
		bool counts = t->goal.term.at[i].place != ML_AT_OUTPUT ||
			      !(inside && t->samples.agree.decides && !t->goal.loss && !t->label);
		double share = t->goal.term.at[i].like == ML_LIKE_DIRECTION ? DIRECTION : 1;
		t->share[i] = counts ? (float)(share * t->scale[i]) : 0;
	}
}

/* Terms are measured by what they are before training, those of a kind together: where nothing
 * was cut a difference is none at first. */
static void
scale_terms(ml_trainer *t, const double *sum)
{
	for (int i = 0; i < t->goal.term.count; i++) {
		double total = 0;
		for (int k = 0; k < t->goal.term.count; k++)
			if (t->goal.term.at[k].place == t->goal.term.at[i].place &&
			    t->goal.term.at[k].like == t->goal.term.at[i].like)
				total += sum[k] / PROBES;
		t->scale[i] = total > 0 ? 1 / total : 0;
	}
}

static void
clear_moments(ml_weights *w)
{
	for (int i = 0; i < w->constant.count; i++) {
		memset(w->first[i].data, 0, w->first[i].bytes);
		memset(w->second[i].data, 0, w->second[i].bytes);
	}
}

static ml_status
refuse_loss(const ml_trainer *t, double loss)
{
	ml_error(t->px->cx, ML_ERR_VALUE, NULL,
		 "distill: the loss is not finite before training (%g)", loss);
	ml_hint(t->px->cx, "are the model's results over the calibration data finite?");
	return ML_ERR_VALUE;
}

/* Steps at a rate of 0 leave the weights as they are, but not the moments. */
static ml_status
probe(ml_trainer *t, double *seconds)
{
	double *sum = ML_NEW_ARRAY(t->arena, double, t->goal.term.count), loss;
	double begun = 0;

	t->at = t->steps = 1;
	t->peak = 0;
	for (int i = 0; i <= PROBES; i++) {
		if (i == 1)
			begun = ml_seconds_now(); /* the first one also gets memory */
		ML_STEP(ml_trainer_step(t, &loss));
		if (!isfinite(loss))
			return refuse_loss(t, loss);
		for (int k = 0; i && k < t->goal.term.count; k++)
			sum[k] += ml_read_f64(ML_f32, t->out[1 + k].data, 0);
	}
	*seconds = (ml_seconds_now() - begun) / PROBES;
	clear_moments(&t->weights);
	scale_terms(t, sum);
	set_shares(t);
	return ML_OK;
}

/* ---- the loop ---- */

static ml_status
judge(ml_trainer *t)
{
	ML_STEP(ml_trainer_judge(t));
	if (t->error < t->best) {
		t->best = t->error;
		t->best_agreement = t->progress.agreement;
		ml_keep_best(&t->weights);
	}
	return ML_OK;
}

static void
draw(ml_trainer *t, double loss)
{
	static const char plot[] = ML_DISTILL_PLOT;
	ml_record *r = t->px->record;

	if (t->at > 0)
		ml_curve_add(ml_record_curve(r, plot, "step", "loss"), t->at, loss);
	ml_curve_add(ml_record_curve(r, plot, "step", "held-out error"), t->at, t->error);
	if (t->samples.agree.decides)
		ml_curve_add(ml_record_curve(r, plot, "step", "agreement"), t->at,
			     t->progress.agreement);
}

static void
report(ml_trainer *t, double loss)
{
	const ml_distill_hooks *h = &t->options->hooks;
	ml_distill_progress *p = &t->progress;

	p->step = (int64_t)t->at;
	p->steps = (int64_t)t->steps;
	p->loss = loss;
	p->error = t->error;
	p->best = t->best;
	p->seconds = ml_seconds_now() - t->begun;
	draw(t, loss);
	p->left = t->at > 0 ? p->seconds / t->at * (t->steps - t->at) : 0;
	if (h->progress && !h->progress(h->user, p))
		t->canceled = true;
}

/* Training that went astray goes on from the best weights, more slowly, but not for ever. */
static bool
recover(ml_trainer *t)
{
	ml_restore_best(&t->weights);
	clear_moments(&t->weights);
	t->peak /= SLOWER;
	t->misses = 0;
	ml_record_note(t->px->record, "distillation diverged at step %.0f: %s", t->at,
		       t->recoveries < RECOVERIES ? "went on from the best weights, more slowly"
						  : "ended with the best weights");
	return t->recoveries++ < RECOVERIES;
}

/* What is held out has not come closer for long: what follows fits the samples alone.  Not in the
 * first half, as much is won while the rate falls; and steps that were asked for are made. */
static bool
is_done(ml_trainer *t)
{
	double left = t->progress.left;

	if (t->error < NOTICED * t->lowest) {
		t->lowest = t->error;
		t->misses = 0;
		return false;
	}
	bool late = t->at >= t->steps / 2 && t->at < t->steps;
	if (++t->misses < PATIENCE || t->options->steps >= 0 || !late)
		return false;
	ml_record_note(t->px->record,
		       "distillation ended at step %.0f of %.0f: the held-out error had not fallen "
		       "for %d checks; that saves %.1f %s",
		       t->at, t->steps, t->misses, left < 60 ? left : left / 60,
		       left < 60 ? "s" : "min");
	return true;
}

static ml_status
train(ml_trainer *t)
{
	double sum = 0, loss, planned = t->plan.points.count ? t->plan.points.at[0].y : t->steps;
	int64_t every = (int64_t)planned / JUDGEMENTS + 1, since = 0;

	while (t->at < t->steps && t->at < t->until && !t->canceled) {
		t->at++;
		ML_STEP(ml_trainer_step(t, &loss));
		if (!isfinite(loss) && !recover(t))
			return ML_OK;
		if (isfinite(loss)) {
			sum += loss;
			since++;
		}
		if ((int64_t)t->at % every && t->at < t->steps)
			continue;
		ML_STEP(judge(t));
		report(t, sum / (double)(since ? since : 1));
		if (!(t->error < LOST * t->first) && !recover(t))
			return ML_OK;
		ML_STEP(ml_schedule_again(t));
		ML_STEP(ml_checkpoint_save(t));
		if (is_done(t))
			return ML_OK;
		sum = 0;
		since = 0;
	}
	return ML_OK;
}

/* ---- the student ---- */

static ml_status
keep_layers(ml_trainer *t, const int *keep, int n)
{
	ml_blocks b;

	ml_find_blocks(t->student, t->arena, &b);
	bool *stays = ML_NEW_ARRAY(t->arena, bool, b.branch.count + 1);
	for (int i = 0; i < n; i++) {
		if (keep[i] >= b.layer.count)
			return ml_error(t->px->cx, ML_ERR_ARG, NULL,
					"distill: layer %d cannot be kept: the model has %d layers",
					keep[i], b.layer.count);
		for (int k = 0; k < b.layer.at[keep[i]].count; k++)
			stays[b.layer.at[keep[i]].first + k] = true;
	}
	return ml_keep_branches(t->px, t->student, stays);
}

/* As many as pruning would leave, which looks for those that are needed least. */
static ml_status
choose_layers(ml_trainer *t, int n)
{
	ml_pass_ctx px = *t->px;
	ml_blocks b;

	ml_find_blocks(t->student, t->arena, &b);
	if (n > b.layer.count)
		return ml_error(px.cx, ML_ERR_ARG, NULL,
				"distill: a student of %d layers, but the model has %d", n,
				b.layer.count);
	if (n == b.layer.count)
		return ML_OK;
	px.prune = ml_format(t->arena, "%d", b.layer.count - n);
	return ml_pass_prune_blocks.run(&px, t->student);
}

/* ---- how far ---- */

/* The weights a part of the way from what they were to the best ones. */
static ml_status
go_part(ml_trainer *t, int tenths)
{
	ml_restore_best(&t->weights);
	if (tenths < 10)
		ml_pull_back(&t->weights, tenths / 10.0);
	return ml_trainer_judge(t);
}

/* The nearest place to the weights before training whose held-out error is as small as any on the
 * way: it is better for samples unlike these (Wortsman et al., Robust fine-tuning of zero-shot
 * models, 2022). */
static ml_status
choose_part(ml_trainer *t, int *tenths)
{
	ml_record *r = t->px->record;
	double error[10], least = t->best;
	const char *choice;

	ML_STEP(ml_record_choice(r, t->px->cx, NAME, "tenths", &choice));
	if (choice) {
		*tenths = atoi(choice);
		return ML_OK;
	}
	for (int i = LEAST_TENTHS; i < 10; i++) {
		ML_STEP(go_part(t, i));
		error[i] = t->error;
		least = fmin(least, error[i]);
	}
	for (int i = 9; i >= LEAST_TENTHS; i--)
		*tenths = error[i] < t->first && error[i] <= AS_GOOD * least ? i : *tenths;
	return ML_OK;
}

static ml_status
settle(ml_trainer *t)
{
	int tenths = 10;

	if (t->best < t->first)
		ML_STEP(choose_part(t, &tenths));
	ML_STEP(go_part(t, tenths));
	t->best = t->error;
	t->best_agreement = t->progress.agreement;
	ml_record_decide(t->px->record, NAME, "tenths", ml_format(t->arena, "%d", tenths),
			 "of the way from the weights before training to the best ones");
	return ML_OK;
}

/* ---- from beginning to end ---- */

static ml_status
refuse_equal(ml_trainer *t)
{
	ml_error(t->px->cx, ML_ERR_ARG, NULL,
		 "distill: the student gives exactly the teacher's results, its loss is 0");
	ml_hint(t->px->cx,
		"make a smaller one with --prune or --distill=student:N, or give another "
		"teacher");
	return ML_ERR_ARG;
}

/* What training was good for, for people. */
static void
say_what_came_of_it(ml_trainer *t)
{
	ml_text text;

	ml_text_init(&text, t->arena);
	ml_put(&text, "distilled: %s%.0f steps", t->canceled ? "ended as asked after " : "", t->at);
	if (t->canceled)
		ml_put(&text, " of %.0f", t->steps);
	if (t->best < t->first)
		ml_put(&text, ": held-out error %.4g, was %.4g", t->best, t->first);
	else
		ml_put(&text, ": nothing came closer than before training, which is kept");
	if (t->best < t->first && t->samples.agree.decides)
		ml_put(&text, "; agreement %.4g %%, was %.4g %%", 100 * t->best_agreement,
		       100 * t->first_agreement);
	ml_record_note(t->px->record, "%s", text.at);
}

/* As the machine multiplies faster, or did last time: either way the student is almost the same. */
static ml_status
choose_products(ml_trainer *t)
{
	static const char *const names[] = {"f32", "bf16"};
	const ml_exec *exec = t->px->exec;
	ml_record *r = t->px->record;
	const char *choice;

	ML_STEP(ml_record_choice(r, t->px->cx, NAME, "products", &choice));
	if (choice)
		t->narrow = !strcmp(choice, names[1]);
	else if (exec->likes_bf16)
		ML_STEP(exec->likes_bf16(exec->user, &t->narrow));
	ml_record_decide(r, NAME, "products", names[t->narrow], NULL);
	return ML_OK;
}

static void
write_down(ml_trainer *t)
{
	ml_record *r = t->px->record;

	ml_record_decide(r, NAME, "stopped at", ml_format(t->arena, "%.0f", t->at), NULL);
	ml_record_change(r, "held-out error", ML_UNIT_NONE, t->first, t->best);
	if (t->samples.agree.decides)
		ml_record_change(r, "held-out agreement", ML_UNIT_SHARE, t->first_agreement,
				 t->best_agreement);
	say_what_came_of_it(t);
}

/* Where an earlier training was left, or at the first step. */
static ml_status
begin(ml_trainer *t)
{
	const char *choice;
	double seconds;
	bool there;

	ML_STEP(ml_record_choice(t->px->record, t->px->cx, NAME, "stopped at", &choice));
	t->until = choice ? atof(choice) : INFINITY;
	ML_STEP(ml_checkpoint_load(t, &there));
	t->lowest = there ? t->best : INFINITY;
	if (there) {
		set_shares(t);
		ml_schedule_resume(t);
		ml_record_note(t->px->record, "distillation went on from step %.0f of %.0f", t->at,
			       t->steps);
		return ML_OK;
	}
	ML_STEP(probe(t, &seconds));
	t->at = 0;
	ML_STEP(ml_schedule_begin(t, seconds));
	t->peak = t->whitened ? WHITENED_PEAK : PEAK;
	t->begun = ml_seconds_now();
	report(t, 1);
	return ML_OK;
}

static ml_status
distill(ml_trainer *t)
{
	const ml_distill_options *o = t->options;
	double judged;

	t->opened = ml_seconds_now();
	if (o->nkeep)
		ML_STEP(keep_layers(t, o->keep, o->nkeep));
	if (o->layers)
		ML_STEP(choose_layers(t, o->layers));
	ML_STEP(ml_match_inputs(t));
	ML_STEP(ml_samples_read(&t->samples, t->px, t->teacher, t->arena));
	ml_pool_init(&t->pool, &t->samples, t->student, o->seed, t->arena);
	ML_STEP(ml_pool_find_near(&t->pool, t->px));
	if (t->samples.count < LEAST_SAMPLES || !t->samples.held)
		return ml_error(t->px->cx, ML_ERR_ARG, NULL,
				"distill: %lld samples are too few, %d are needed at least",
				(long long)t->samples.count, LEAST_SAMPLES);
	ML_STEP(ml_find_goal(&t->goal, t->teacher, t->student, !o->teacher, &t->samples.agree,
			     t->px->loss, t->arena));
	ML_STEP(choose_products(t));
	ML_STEP(ml_trainer_open(t));
	ML_STEP(ml_trainer_judge(t)); /* the first run also gets memory */
	judged = ml_seconds_now();
	ML_STEP(ml_trainer_judge(t));
	judged = ml_seconds_now() - judged;
	t->first = t->best = t->error;
	t->first_agreement = t->best_agreement = t->progress.agreement;
	if (t->error == 0)
		return refuse_equal(t);
	t->settling = JUDGED_PARTS * judged;
	ML_STEP(begin(t));
	ML_STEP(train(t));
	ML_STEP(settle(t));
	write_down(t);
	return ml_put_weights(t->student, &t->weights);
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	ml_trainer t = {.px = px,
			.options = px->distill,
			.arena = px->scratch,
			.plan.arena = px->scratch,
			.student = m,
			.teacher = (ml_module *)px->teacher};

	if (!px->distill)
		return ml_error(px->cx, ML_ERR_ARG, NULL, "distill needs minutes or steps");
	if (!px->exec || !px->data) {
		ml_error(px->cx, ML_ERR_ARG, NULL, "distill needs calibration data");
		ml_hint(px->cx, "give inputs without labels: --calib=DATA.npz");
		return ML_ERR_ARG;
	}
	if (px->distill->teacher)
		t.teacher = px->distill->teacher;
	ml_module *own = t.teacher ? NULL : ml_module_clone(m);
	t.teacher = own ? own : t.teacher;
	ml_status status = distill(&t);
	if (status == ML_OK)
		px->changes += t.weights.constant.count;
	ml_trainer_close(&t);
	if (own)
		ml_module_free(own);
	return status;
}

ML_PASS(distill_student, ML_LOSSY, run, "a student is trained to give its teacher's results");
