/* holdout.c -- samples to judge by, and what the teacher says to them, in memory. */
#include "holdout.h"
#include <string.h>

enum { MOST_BYTES = 1 << 29, TIMED_RUNS = 5 };

static ml_tensor
copy_of(ml_arena *arena, const ml_tensor *t)
{
	ml_tensor copy = *t;

	copy.data = ml_alloc(arena, t->bytes);
	if (t->bytes)
		memcpy(copy.data, t->data, t->bytes);
	return copy;
}

static ml_status
take(void *user, const ml_tensor *in)
{
	ml_holdout *h = user;
	int n = h->teacher->main->nargs;

	if (h->bytes > MOST_BYTES)
		return ML_OK;
	ml_tensor *copy = ML_NEW_ARRAY(h->px->scratch, ml_tensor, n + 1);
	for (int i = 0; i < n; i++) {
		copy[i] = copy_of(h->px->scratch, &in[i]);
		h->bytes += in[i].bytes;
	}
	ML_PUSH(h->px->scratch, h->inputs, copy);
	return ML_OK;
}

/* By size, so that inputs of many lengths are timed fairly. */
const ml_tensor *
ml_holdout_middle(const ml_holdout *h)
{
	int n = h->teacher->main->nargs;

	for (int i = 0; i < h->count; i++) {
		int smaller = 0, equal = 0;
		for (int k = 0; k < h->count; k++) {
			size_t a = 0, b = 0;
			for (int j = 0; j < n; j++) {
				a += h->inputs.at[k][j].bytes;
				b += h->inputs.at[i][j].bytes;
			}
			smaller += a < b;
			equal += a == b;
		}
		if (smaller <= h->count / 2 && smaller + equal > h->count / 2)
			return h->inputs.at[i];
	}
	return h->inputs.at[0];
}

static ml_status
ask_teacher(ml_holdout *h, ml_runnable *r)
{
	const ml_exec *exec = h->px->exec;
	int outputs = h->teacher->main->last->nin;

	for (int i = 0; i < h->inputs.count && (!i || h->bytes <= MOST_BYTES); i++) {
		ml_tensor *out = ML_NEW_ARRAY(h->px->scratch, ml_tensor, outputs + 1);
		ML_STEP(exec->run(exec->user, r, h->inputs.at[i], out, h->px->scratch));
		for (int k = 0; k < outputs; k++)
			h->bytes += out[k].bytes;
		ML_PUSH(h->px->scratch, h->outputs, out);
	}
	h->count = h->outputs.count;
	return exec->time(exec->user, r, ml_holdout_middle(h), TIMED_RUNS, &h->seconds);
}

ml_status
ml_holdout_init(ml_holdout *h, ml_pass_ctx *px, const ml_module *teacher)
{
	ml_runnable *r;

	*h = (ml_holdout){.px = px, .teacher = teacher};
	ML_STEP(ml_for_samples(px, teacher, ML_JUDGE, ML_JUDGED_AMONG, take, h));
	ML_STEP(px->exec->compile(px->exec->user, teacher, &r));
	ml_status status = ask_teacher(h, r);
	px->exec->free(px->exec->user, r);
	return status;
}

ml_status
ml_holdout_judge(const ml_holdout *h, ml_runnable *r, const ml_tensor *more, int nmore, int samples,
		 ml_agree *a)
{
	const ml_exec *exec = h->px->exec;
	int n = h->teacher->main->nargs, outputs = h->teacher->main->last->nin;
	ml_tensor *in = ML_NEW_ARRAY(h->px->scratch, ml_tensor, n + nmore + 1);
	ml_tensor *out = ML_NEW_ARRAY(h->px->scratch, ml_tensor, outputs + 1);

	ml_agree_clear(a);
	for (int i = 0; i < nmore; i++)
		in[n + i] = more[i];
	for (int i = 0; i < h->count && i < samples; i++) {
		ml_arena arena;
		for (int k = 0; k < n; k++)
			in[k] = h->inputs.at[i][k];
		ml_arena_init(&arena, &h->px->cx->memory);
		ml_status status = exec->run(exec->user, r, in, out, &arena);
		if (status == ML_OK)
			ml_agree_add(a, in, h->outputs.at[i], out);
		ml_arena_free(&arena);
		ML_STEP(status);
	}
	return ML_OK;
}

ml_status
ml_holdout_try(const ml_holdout *h, const ml_module *m, ml_agree *a)
{
	const ml_exec *exec = h->px->exec;
	ml_runnable *r;

	ML_STEP(exec->compile(exec->user, m, &r));
	ml_status status = ml_holdout_judge(h, r, NULL, 0, h->count, a);
	exec->free(exec->user, r);
	return status;
}
