/* judge_student.c -- what a student that was pruned, trained or both, and quantized, has lost in
 * all, and what was gained. */
#include "../holdout.h"
#include "prune.h"
#include <math.h>

enum { TIMED_RUNS = 11, TURNS = 5 };

/* In turns, as clocks drift. */
static ml_status
time_both(ml_pass_ctx *px, const ml_holdout *h, ml_runnable *student, double seconds[2])
{
	const ml_exec *exec = px->exec;
	ml_runnable *r[] = {NULL, student};
	double median;

	ML_STEP(exec->compile(exec->user, px->teacher, &r[0]));
	ml_status status = ML_OK;
	seconds[0] = seconds[1] = INFINITY;
	for (int i = 0; i < 2 * TURNS && status == ML_OK; i++) {
		status =
			exec->time(exec->user, r[i % 2], ml_holdout_middle(h), TIMED_RUNS, &median);
		seconds[i % 2] = fmin(seconds[i % 2], median);
	}
	exec->free(exec->user, r[0]);
	return status;
}

static void
report(ml_pass_ctx *px, const ml_module *m, const ml_agree *a, const double seconds[2])
{
	ml_record *r = px->record;
	ml_agree_means means = ml_agree_total(a);
	ml_text t;

	ml_text_init(&t, px->scratch);
	ml_agree_put(&t, a);
	if (a->decides)
		ml_record_change(r, "agreement", ML_UNIT_SHARE, NAN, means.agreement);
	ml_record_change(r, "cosine", ML_UNIT_NONE, NAN, means.cosine);
	ml_record_change(r, "latency", ML_UNIT_SECONDS, seconds[0], seconds[1]);
	ml_record_change(r, "weights", ML_UNIT_BYTES, ml_weight_bytes(px->teacher),
			 ml_weight_bytes(m));
	ml_record_note(r, "in all, on %lld samples that nothing was fitted to: %s; %.2fx as fast",
		       (long long)a->samples, t.at, seconds[0] / seconds[1]);
}

/* Who has said what may be lost gets no more than that; else it is said what was. */
static ml_status
check_loss(ml_pass_ctx *px, const ml_agree *a)
{
	double loss = ml_agree_loss(a);
	ml_text t;

	if (loss <= px->max_loss)
		return ML_OK;
	if (!px->must_hold) {
		ml_record_note(px->record,
			       "that is a loss of %.2f %%: give --max-loss to say what it may be",
			       100 * loss);
		return ML_OK;
	}
	ml_text_init(&t, px->scratch);
	ml_agree_put(&t, a);
	ml_error(px->cx, ML_ERR_VALUE, NULL,
		 "the student loses %.3g %% of the model's results, %.3g %% were allowed: %s",
		 100 * loss, 100 * px->max_loss, t.at);
	ml_hint(px->cx, "take out less, train longer, or allow more with max-loss");
	return ML_ERR_VALUE;
}

static ml_status
judge(ml_pass_ctx *px, const ml_module *m, ml_runnable *student)
{
	double seconds[2];
	ml_holdout h;
	ml_agree a;

	ML_STEP(ml_holdout_init(&h, px, px->teacher));
	ml_agree_init(&a, px->teacher, px->scratch);
	ML_STEP(ml_holdout_judge(&h, student, NULL, 0, h.count, &a));
	ML_STEP(time_both(px, &h, student, seconds));
	report(px, m, &a, seconds);
	return check_loss(px, &a);
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	ml_runnable *student;

	if (!px->exec || !px->data || !px->teacher)
		return ML_OK; /* it was made after another teacher, or by hand */
	ML_STEP(px->exec->compile(px->exec->user, m, &student));
	ml_status status = judge(px, m, student);
	px->exec->free(px->exec->user, student);
	return status;
}

ML_PASS(judge_student, ML_EXACT, run, "what pruning, training and quantization cost in all");
