/* trainer.c -- a student's training step at work: compiled once, fed batch by batch, judged on what
 * is held out. */
#include "distill.h"
#include <math.h>
#include <string.h>
#include <time.h>

static const ml_train_options TRAINING = {
	.adamw = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .decay = 0.01},
	.warmup = 0.06,
	.clip = 1,
};

/* ---- what is compiled ---- */

static ml_status
compile(ml_trainer *t, ml_status made, ml_module *m, ml_runnable **r)
{
	const ml_exec *exec = t->px->exec;

	ML_STEP(made);
	if (t->narrow && r != &t->judged)
		made = ml_round_products(m);
	if (made == ML_OK)
		made = exec->compile(exec->user, m, r);
	ml_module_free(m);
	return made;
}

static ml_status
make_step(ml_trainer *t, ml_module **step)
{
	int n = t->weights.constant.count;
	ml_train_options options = TRAINING;
	const double **bases;
	ml_module *loss;

	/* Decisions, with hidden states alone to be fitted, have not been seen to gain much by it:
	 * of 400 samples held out a KL of .0313 instead of .0316, eight more answers. */
	if (!t->samples.agree.decides) {
		ML_STEP(ml_find_bases(t, &bases));
		options.basis = bases;
		for (int i = 0; i < n; i++)
			t->whitened |= bases[i] != NULL;
	}
	ML_STEP(ml_build_loss(t->student, &t->goal, &loss));
	ml_value **weight = ML_NEW_ARRAY(t->arena, ml_value *, n + 1);
	ml_values_in(loss, t->weights.constant.at, n, weight, t->arena);
	ml_status status =
		ml_train_step(loss, 0, (const ml_value *const *)weight, n, &options, step);
	ml_module_free(loss);
	return status;
}

static ml_status
compile_all(ml_trainer *t)
{
	ml_module *m = NULL;

	ml_status made =
		ml_module_of_values(t->teacher, t->goal.target.at, t->goal.target.count, &m);
	ML_STEP(compile(t, made, m, &t->target));
	made = ml_module_of_weights(t->student, &t->weights, &m);
	ML_STEP(compile(t, made, m, &t->judged));
	made = make_step(t, &m);
	return compile(t, made, m, &t->step);
}

/* ---- tensors ---- */

static ml_tensor
scalar(ml_dtype dtype, void *at)
{
	return (ml_tensor){.dtype = dtype, .data = at, .bytes = (size_t)ml_dtype_bytes(dtype)};
}

/* Inputs: m's, targets, shares, weights, moments, step, total, peak.  Outputs: loss, terms, norm,
 * weights, moments, which go where they came from. */
static void
bind(ml_trainer *t)
{
	int terms = t->goal.term.count, n = t->weights.constant.count;
	int at = t->pool.inputs + t->goal.target.count, to = 1 + terms + 1;
	const ml_weights *w = &t->weights;

	t->in = ML_NEW_ARRAY(t->arena, ml_tensor, at + terms + 3 * n + 3);
	t->out = ML_NEW_ARRAY(t->arena, ml_tensor, to + 3 * n);
	for (int i = 0; i < terms; i++)
		t->in[at++] = scalar(ML_f32, &t->share[i]);
	const ml_tensor *part[] = {w->now, w->first, w->second};
	for (int k = 0; k < 3; k++)
		for (int i = 0; i < n; i++)
			t->in[at++] = t->out[to++] = part[k][i];
	t->in[at++] = scalar(ML_f64, &t->at);
	t->in[at++] = scalar(ML_f64, &t->steps);
	t->in[at++] = scalar(ML_f64, &t->peak);
}

/* Another teacher is asked what the student is asked. */
ml_status
ml_match_inputs(ml_trainer *t)
{
	int n = t->teacher->main->nargs, own = t->student->main->nargs;

	for (int i = 0; i < n; i++) {
		const ml_value *in = t->teacher->main->arg[i];
		const ml_value *v = i < own ? t->student->main->arg[i] : NULL;
		if (v && !strcmp(in->name ? in->name : "", v->name ? v->name : "") &&
		    v->type.dtype == in->type.dtype && v->type.rank == in->type.rank)
			continue;
		return ml_error(t->px->cx, ML_ERR_ARG, NULL,
				"distill: the teacher reads '%s', which is not input %d of the "
				"student, or one of another type",
				ml_escaped(&t->px->cx->arena, in->name ? in->name : ""), i);
	}
	if (n == own)
		return ML_OK;
	return ml_error(t->px->cx, ML_ERR_ARG, NULL,
			"distill: the teacher has %d inputs, the student %d", n, own);
}

ml_status
ml_trainer_open(ml_trainer *t)
{
	int terms;

	ml_find_weights(&t->weights, t->student, t->arena);
	if (!t->weights.constant.count)
		return ml_error(t->px->cx, ML_ERR_ARG, NULL,
				"distill: the model has no layers with weights in f32");
	if (t->options->labels)
		ML_STEP(ml_read_labels(t));
	terms = t->goal.term.count;
	t->share = ML_NEW_ARRAY(t->arena, float, terms);
	t->scale = ML_NEW_ARRAY(t->arena, double, terms);
	bind(t);
	return compile_all(t);
}

void
ml_trainer_close(ml_trainer *t)
{
	ml_runnable *r[] = {t->target, t->step, t->judged};

	for (int i = 0; i < 3; i++)
		if (r[i])
			t->px->exec->free(t->px->exec->user, r[i]);
	ml_samples_free(&t->samples, t->px);
}

/* ---- a step ---- */

static ml_status
get_targets(ml_trainer *t, const ml_tensor *batch)
{
	const ml_exec *exec = t->px->exec;
	ml_tensor *target = t->in + t->pool.inputs;

	for (int i = 0; i < t->goal.target.count; i++)
		target[i].data = NULL; /* lent */
	return exec->run_into(exec->user, t->target, batch, target);
}

ml_status
ml_trainer_step(ml_trainer *t, double *loss)
{
	const ml_exec *exec = t->px->exec;
	const ml_tensor *batch = ml_pool_next(&t->pool);
	int first = 1 + t->goal.term.count;

	for (int i = 0; i < t->pool.inputs; i++)
		t->in[i] = batch[i];
	ML_STEP(get_targets(t, batch));
	if (t->label)
		ml_mix_labels(t);
	for (int i = 0; i <= first; i++)
		t->out[i].data = NULL;
	ML_STEP(exec->run_into(exec->user, t->step, t->in, t->out));
	*loss = ml_read_f64(ML_f32, t->out[0].data, 0);
	double norm = ml_read_f64(ML_f64, t->out[first].data, 0);
	if (!isfinite(norm))
		*loss = norm;
	return ML_OK;
}

/* ---- what is held out ---- */

static ml_status
judge_batch(ml_trainer *t, const ml_batch *b)
{
	const ml_exec *exec = t->px->exec;
	int inputs = t->student->main->nargs, n = t->weights.constant.count;
	ml_arena arena;

	ml_arena_init(&arena, &t->px->cx->memory);
	ml_tensor *in = ML_NEW_ARRAY(&arena, ml_tensor, inputs + n + 1);
	ml_tensor *out = ML_NEW_ARRAY(&arena, ml_tensor, t->samples.agree.outputs + 1);
	for (int i = 0; i < inputs; i++)
		in[i] = b->in[i];
	for (int i = 0; i < n; i++)
		in[inputs + i] = t->weights.now[i];
	ml_status status = exec->run_into(exec->user, t->judged, in, out);
	if (status == ML_OK)
		ml_agree_add(&t->samples.agree, b->in, b->out, out);
	ml_arena_free(&arena);
	return status;
}

ml_status
ml_trainer_judge(ml_trainer *t)
{
	ml_agree *agree = &t->samples.agree;

	ml_agree_clear(agree);
	for (int i = 0; i < t->samples.batch.count; i++)
		if (t->samples.batch.at[i].out)
			ML_STEP(judge_batch(t, &t->samples.batch.at[i]));
	t->error = ml_agree_error(agree);
	t->progress.agreement = agree->decides ? ml_agree_total(agree).agreement : NAN;
	return ML_OK;
}
