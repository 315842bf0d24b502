/* test_distill.c -- the pass distill_student on small models: what is learned, kept and refused. */
#include "harness_layers.h"
#include "passes/distill/distill.h"
#include "passes/prune/blocks.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

typedef struct bench {
	harness_layers h; /* first: it is what is lent to compile and run */
	ml_distill_options distill;
	int calls, cancel_at, naps; /* naps: ms that each report takes */
	ml_runnable *step;          /* the last candidate with many outputs */
	int inputs, outputs, steps, lost_from, lost_until; /* its steps between these go astray */
	double last_error, first_error, best;
} bench;

static const char model[] = HARNESS_LAYERS("0.3, 0.15, -0.3, 0.3, 0.6, -0.15");

static bool
progress(void *user, const ml_distill_progress *p)
{
	bench *b = user;

	if (!b->calls++)
		b->first_error = p->error;
	b->last_error = p->error;
	b->best = p->best;
	if (b->naps)
		nanosleep(&(struct timespec){.tv_nsec = b->naps * 1000000L}, NULL);
	return b->calls != b->cancel_at;
}

static void
open_bench(bench *b, const int *keep, int nkeep)
{
	*b = (bench){.distill = {.steps = 400,
				 .seed = 1,
				 .keep = (int *)keep,
				 .nkeep = nkeep,
				 .hooks = {b, progress}}};
	harness_open(&b->h, model, "distill_student");
	b->h.o.distill = &b->distill;
}

static int
count_layers(bench *b)
{
	ml_blocks found;

	ml_find_blocks(b->h.m, &b->h.cx.arena, &found);
	return found.layer.count;
}

static const int ends[] = {0, 2};

/* Two layers of three come nearer to what three gave, and the same seed gives the same bits. */
static void
test_learns(void **state)
{
	bench b, same, other;

	(void)state;
	open_bench(&b, ends, 2);
	assert_int_equal(harness_pipeline(&b.h), ML_OK);
	assert_int_equal(count_layers(&b), 2);
	assert_true(b.best < 0.95 * b.first_error);
	assert_true(b.first_error > 0);
	assert_string_equal(harness_choice(&b.h, "stopped at"), "400");
	open_bench(&same, ends, 2);
	assert_int_equal(harness_pipeline(&same.h), ML_OK);
	assert_string_equal(harness_printed(&same.h, same.h.m), harness_printed(&b.h, b.h.m));
	open_bench(&other, ends, 2);
	other.distill.seed = 2;
	assert_int_equal(harness_pipeline(&other.h), ML_OK);
	assert_string_not_equal(harness_printed(&other.h, other.h.m), harness_printed(&b.h, b.h.m));
	harness_close(&other.h);
	harness_close(&same.h);
	harness_close(&b.h);
}

/* Canceled at once, the student is what it was before training; later, the best one. */
static void
test_canceled(void **state)
{
	bench b, again;

	(void)state;
	open_bench(&b, ends, 2);
	b.distill.steps = 0;
	assert_int_equal(harness_pipeline(&b.h), ML_OK);
	open_bench(&again, ends, 2);
	again.cancel_at = 1;
	assert_int_equal(harness_pipeline(&again.h), ML_OK);
	assert_string_equal(harness_printed(&again.h, again.h.m), harness_printed(&b.h, b.h.m));
	assert_string_equal(harness_choice(&again.h, "stopped at"), "0");
	assert_string_equal(again.h.record.notes.at[1],
			    "distilled: ended as asked after 0 steps of 400: nothing came closer "
			    "than before training, which is kept");
	harness_close(&again.h);
	harness_close(&b.h);
}

/* Trains with the decisions of an earlier training; 0: by as many steps as usual. */
static void
repeat(bench *again, const bench *first, double minutes)
{
	open_bench(again, ends, 2);
	if (minutes > 0) {
		again->distill.steps = -1;
		again->distill.minutes = minutes;
	}
	again->h.record.replays = true;
	for (int i = 0; i < first->h.record.decisions.count; i++)
		ML_PUSH(&again->h.cx.arena, again->h.record.replayed,
			first->h.record.decisions.at[i]);
	assert_int_equal(harness_pipeline(&again->h), ML_OK);
}

/* A replay of a training by minutes makes its steps, and its student. */
static void
check_repeated(bench *b)
{
	bench again;

	repeat(&again, b, 0.5);
	assert_string_equal(harness_choice(&again.h, "steps"), harness_choice(&b->h, "steps"));
	assert_string_equal(harness_choice(&again.h, "stopped at"),
			    harness_choice(&b->h, "stopped at"));
	assert_string_equal(harness_printed(&again.h, again.h.m), harness_printed(&b->h, b->h.m));
	harness_close(&again.h);
}

/* A training that was timed and ended early is repeated to the step. */
static void
test_replay(void **state)
{
	bench b;

	(void)state;
	open_bench(&b, ends, 2);
	b.distill.steps = -1;
	b.distill.minutes = 0.001;
	b.cancel_at = 5;
	assert_int_equal(harness_pipeline(&b.h), ML_OK);
	check_repeated(&b);
	harness_close(&b.h);
}

/* What takes longer than at first leaves time for fewer steps, and a replay makes as many. */
static void
test_plans_again(void **state)
{
	bench b;

	(void)state;
	open_bench(&b, ends, 2);
	b.distill.steps = -1;
	b.distill.minutes = 0.01;
	b.naps = 100;
	assert_int_equal(harness_pipeline(&b.h), ML_OK);
	const char *steps = harness_choice(&b.h, "steps"), *last = strrchr(steps, ',');
	assert_non_null(last);
	assert_non_null(strstr(last, " from step "));
	assert_true(atoi(last + 1) < atoi(steps));
	assert_true(b.calls < 20);
	check_repeated(&b);
	harness_close(&b.h);
}

/* The student is a part of the way that training went, which a replay goes as well. */
static void
test_part(void **state)
{
	bench b, again;
	ml_weights w;

	(void)state;
	open_bench(&b, ends, 2);
	ml_find_weights(&w, b.h.m, &b.h.cx.arena);
	float *now = w.now[0].data, was = now[0];
	now[0] = was + 2;
	ml_pull_back(&w, 0.75);
	assert_true(now[0] == was + 1.5f);
	assert_memory_equal(w.now[1].data, ml_const_blob(w.constant.at[1])->bytes, w.now[1].bytes);
	assert_int_equal(harness_pipeline(&b.h), ML_OK);
	int tenths = atoi(harness_choice(&b.h, "tenths"));
	assert_in_range(tenths, 5, 10);
	for (int i = 0; i < b.h.record.decisions.count; i++)
		if (!strcmp(b.h.record.decisions.at[i].subject, "tenths"))
			b.h.record.decisions.at[i].choice = "1";
	repeat(&again, &b, 0);
	assert_string_equal(harness_choice(&again.h, "tenths"), "1");
	const ml_change *c = &again.h.record.changes.at[0];
	assert_string_equal(c->name, "held-out error");
	assert_true(c->after > b.best && c->after < c->before);
	harness_close(&again.h);
	harness_close(&b.h);
}

static void
check_refused(bench *b, ml_status status, const char *text)
{
	harness_refused(&b->h, status, text);
	harness_close(&b->h);
}

/* ---- products of bf16 ---- */

static ml_status
likes_bf16(void *user, bool *likes)
{
	(void)user;
	*likes = true;
	return ML_OK;
}

/* It learns nearly the same; a replay has the products of the report, whatever this machine likes.
 */
static void
test_bf16(void **state)
{
	static const int all[] = {0, 1, 2};
	bench b, again;

	(void)state;
	open_bench(&b, ends, 2);
	b.h.exec.likes_bf16 = likes_bf16;
	assert_int_equal(harness_pipeline(&b.h), ML_OK);
	assert_string_equal(harness_choice(&b.h, "products"), "bf16");
	assert_true(b.best < 0.95 * b.first_error);
	open_bench(&again, ends, 2);
	assert_int_equal(harness_pipeline(&again.h), ML_OK);
	assert_string_equal(harness_choice(&again.h, "products"), "f32");
	assert_string_not_equal(harness_printed(&again.h, again.h.m), harness_printed(&b.h, b.h.m));
	assert_true(fabs(again.best - b.best) < 0.05 * again.best);
	harness_close(&again.h);
	repeat(&again, &b, 0);
	assert_string_equal(harness_printed(&again.h, again.h.m), harness_printed(&b.h, b.h.m));
	harness_close(&again.h);
	harness_close(&b.h);
	open_bench(&b, all, 3);
	b.h.exec.likes_bf16 = likes_bf16;
	check_refused(&b, ML_ERR_ARG, "exactly the teacher's results, its loss is 0");
}

/* ---- going on ---- */

typedef struct kept {
	char *bytes;
	size_t size;
	int saves;
} kept;

static ml_status
keep_state(void *user, const ml_text *state)
{
	kept *k = user;

	k->saves++;
	k->size = state->length;
	k->bytes = realloc(k->bytes, k->size);
	memcpy(k->bytes, state->at, k->size);
	return ML_OK;
}

/* What was ended and gone on with is what was never ended; with other samples there is nothing to
 * go on with. */
static void
test_goes_on(void **state)
{
	bench b, ended, again;
	kept k = {0}, last = {0};

	(void)state;
	open_bench(&b, ends, 2);
	assert_int_equal(harness_pipeline(&b.h), ML_OK);
	open_bench(&ended, ends, 2);
	ended.cancel_at = 8;
	ended.distill.save = keep_state;
	ended.distill.save_user = &k;
	assert_int_equal(harness_pipeline(&ended.h), ML_OK);
	assert_string_not_equal(harness_printed(&ended.h, ended.h.m), harness_printed(&b.h, b.h.m));
	assert_int_equal(k.saves, 7);
	open_bench(&again, ends, 2);
	again.distill.save = keep_state;
	again.distill.save_user = &last;
	again.distill.saved = k.bytes;
	again.distill.saved_bytes = k.size;
	assert_int_equal(harness_pipeline(&again.h), ML_OK);
	assert_string_equal(harness_printed(&again.h, again.h.m), harness_printed(&b.h, b.h.m));
	assert_int_equal(again.calls + k.saves, b.calls - 1);
	const ml_curve *c = ml_record_curve(&again.h.record, "Distillation", "step", "loss");
	assert_int_equal(c->points.count, b.calls - 1);
	harness_close(&again.h);
	for (int i = 0; i < 2; i++) { /* other weights; bytes that are missing */
		static const int others[] = {0, 1};
		open_bench(&again, i ? ends : others, 2);
		again.distill.save = keep_state;
		again.distill.save_user = &last;
		again.distill.saved = k.bytes;
		again.distill.saved_bytes = k.size - (size_t)i;
		assert_int_equal(harness_pipeline(&again.h), ML_ERR_ARG);
		harness_close(&again.h);
	}
	free(k.bytes);
	free(last.bytes);
	harness_close(&ended.h);
	harness_close(&b.h);
}

static ml_status
compile_and_note(void *user, const ml_module *m, ml_runnable **r)
{
	bench *b = user;

	ML_STEP(harness_exec(&b->h.cx).compile(user, m, r));
	if (m->main->last->nin > 8) {
		b->step = *r;
		b->outputs = m->main->last->nin;
		b->inputs = m->main->nargs;
	}
	return ML_OK;
}

static ml_status
run_or_lose(void *user, ml_runnable *r, const ml_tensor *inputs, ml_tensor *outputs)
{
	bench *b = user;

	ML_STEP(harness_exec(&b->h.cx).run_into(user, r, inputs, outputs));
	if (r != b->step || b->steps++ < b->lost_from || b->steps > b->lost_until)
		return ML_OK;
	for (int i = 0; i < b->outputs; i++)
		memset(outputs[i].data, 0xff, outputs[i].bytes); /* no numbers */
	return ML_OK;
}

/* Seven steps come before training. */
static void
open_losing(bench *b, int from, int until)
{
	open_bench(b, ends, 2);
	b->h.exec.compile = compile_and_note;
	b->h.exec.run_into = run_or_lose;
	b->lost_from = 7 + from;
	b->lost_until = 7 + until;
}

/* Steps that leave the weights as they are. */
static ml_status
run_and_undo(void *user, ml_runnable *r, const ml_tensor *inputs, ml_tensor *outputs)
{
	bench *b = user;
	void **before = ML_NEW_ARRAY(&b->h.cx.arena, void *, b->inputs);

	if (r != b->step)
		return harness_exec(&b->h.cx).run_into(user, r, inputs, outputs);
	for (int i = 0; i < b->inputs; i++) {
		before[i] = ml_alloc(&b->h.cx.arena, inputs[i].bytes + 1);
		memcpy(before[i], inputs[i].data, inputs[i].bytes);
	}
	ML_STEP(harness_exec(&b->h.cx).run_into(user, r, inputs, outputs));
	for (int i = 0; i < b->inputs; i++)
		memcpy(inputs[i].data, before[i], inputs[i].bytes);
	return ML_OK;
}

/* A training by minutes that leads nowhere ends behind its first half, and is repeated to the step;
 * steps that were asked for are made. */
static void
test_ends_early(void **state)
{
	ml_decision planned = {.pass = "distill_student", .subject = "steps", .choice = "400"};
	bench b, again, steps;

	(void)state;
	open_bench(&b, ends, 2);
	b.h.exec.compile = compile_and_note;
	b.h.exec.run_into = run_and_undo;
	b.distill.steps = -1;
	b.distill.minutes = 0.5;
	ML_PUSH(&b.h.cx.arena, b.h.record.replayed, planned);
	assert_int_equal(harness_pipeline(&b.h), ML_OK);
	assert_int_equal(b.calls, 1 + 10); /* every 21 steps */
	assert_string_equal(harness_choice(&b.h, "stopped at"), "210");
	assert_non_null(strstr(b.h.record.notes.at[1], "checks; that saves"));
	repeat(&again, &b, 0.5);
	assert_string_equal(harness_choice(&again.h, "stopped at"),
			    harness_choice(&b.h, "stopped at"));
	open_bench(&steps, ends, 2);
	steps.h.exec.compile = compile_and_note;
	steps.h.exec.run_into = run_and_undo;
	steps.distill.steps = 40;
	assert_int_equal(harness_pipeline(&steps.h), ML_OK);
	assert_string_equal(harness_choice(&steps.h, "stopped at"), "40");
	harness_close(&steps.h);
	harness_close(&again.h);
	harness_close(&b.h);
}

/* Training that diverges goes on from the best weights; when it always does, they are the student.
 */
static void
test_diverges(void **state)
{
	bench once, always, none;

	(void)state;
	open_losing(&once, 150, 151);
	assert_int_equal(harness_pipeline(&once.h), ML_OK);
	assert_string_equal(harness_choice(&once.h, "stopped at"), "400");
	assert_true(once.best < 0.95 * once.first_error);
	assert_int_equal(once.h.record.notes.count, 3); /* what was pruned, that, what came of it */
	assert_string_equal(once.h.record.notes.at[1], "distillation diverged at step 151: went on "
						       "from the best weights, more slowly");
	open_losing(&always, 5, 1000);
	assert_int_equal(harness_pipeline(&always.h), ML_OK);
	assert_string_equal(harness_choice(&always.h, "stopped at"), "9");
	open_bench(&none, ends, 2);
	none.distill.steps = 0;
	assert_int_equal(harness_pipeline(&none.h), ML_OK);
	assert_string_equal(harness_printed(&always.h, always.h.m),
			    harness_printed(&none.h, none.h.m));
	harness_close(&none.h);
	open_losing(&none, -7, 1000);
	check_refused(&none, ML_ERR_VALUE, "is not finite before training");
	harness_close(&always.h);
	harness_close(&once.h);
}

static ml_status
endless_sample(void *user, const ml_module *m, int64_t i, ml_tensor *inputs, bool *there)
{
	harness_samples *s = user;
	ml_data plain = harness_data(s);

	ML_STEP(plain.sample(s, m, i, inputs, there));
	for (int k = 0; *there && k < m->main->nargs; k++)
		ml_write_f64(inputs[k].dtype, inputs[k].data, 0, 3e38);
	return ML_OK;
}

static void
test_refused(void **state)
{
	static const int all[] = {0, 1, 2}, more[] = {0, 7};
	bench b;

	(void)state;
	/* The loss of what is untouched is exactly 0. */
	open_bench(&b, all, 3);
	check_refused(&b, ML_ERR_ARG, "exactly the teacher's results, its loss is 0");
	open_bench(&b, more, 2);
	check_refused(&b, ML_ERR_ARG, "layer 7 cannot be kept: the model has 3 layers");
	open_bench(&b, NULL, 0);
	b.distill.layers = 4;
	check_refused(&b, ML_ERR_ARG, "a student of 4 layers, but the model has 3");
	open_bench(&b, ends, 2);
	b.h.o.data = NULL;
	check_refused(&b, ML_ERR_ARG, "needs calibration data");
	open_bench(&b, ends, 2);
	b.h.data.sample = endless_sample;
	check_refused(&b, ML_ERR_VALUE, "is not finite");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_learns),   cmocka_unit_test(test_canceled),
		cmocka_unit_test(test_replay),   cmocka_unit_test(test_ends_early),
		cmocka_unit_test(test_diverges), cmocka_unit_test(test_goes_on),
		cmocka_unit_test(test_refused),  cmocka_unit_test(test_bf16),
		cmocka_unit_test(test_part),     cmocka_unit_test(test_plans_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
