/* test_prune.c -- the pass prune_blocks on small models of which the right cut is known. */
#include "harness_layers.h"
#include "passes/prune/prune.h"
#include "passes/prune/solve.h"
#include "passes/samples.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

/* Of the second layer's weights. */
#define ZEROS "0, 0, 0, 0, 0, 0"
#define LARGE "3, -5, -4, 1, 5, -2"
#define SMALL "0.1, 0.05, -0.1, 0.1, 0.2, -0.05"

static void
open_bench(harness_layers *b, const char *model)
{
	harness_open(b, model, "prune_blocks");
}

static ml_status
prune(harness_layers *b, const char *target)
{
	b->o.prune = target;
	return harness_pipeline(b);
}

/* What adds nothing goes, and nothing else changes: the results are the same bits. */
static void
test_nothing_lost(void **state)
{
	static const char *const targets[] = {"1", "30%"};
	static const char expected[] =
		HARNESS_MODEL("", HARNESS_FFN("l", "%x", "%d") HARNESS_FFN("n", "%l", "%d"), "%n");
	ml_module *want;
	harness_layers b;

	(void)state;
	for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
		open_bench(&b, HARNESS_LAYERS(ZEROS));
		assert_int_equal(ml_parse(&b.cx, expected, strlen(expected), NULL, NULL, &want),
				 ML_OK);
		assert_int_equal(prune(&b, targets[i]), ML_OK);
		assert_string_equal(harness_choice(&b, "plan"), "kxk");
		assert_string_equal(harness_printed(&b, b.m), harness_printed(&b, want));
		ml_module_free(want);
		harness_close(&b);
	}
}

/* The least of three goes, and what it did is fitted into its neighbour. */
static void
test_repair(void **state)
{
	harness_layers b;

	(void)state;
	open_bench(&b, HARNESS_LAYERS(SMALL));
	const char *before = harness_printed(&b, b.m);
	assert_int_equal(prune(&b, "1"), ML_OK);
	assert_string_equal(harness_choice(&b, "plan"), "kxk");
	assert_string_not_equal(harness_printed(&b, b.m), before);
	const ml_table *t = ml_record_table(&b.record, "prune", "");
	assert_int_equal(t->rows.count, 3);
	assert_string_equal(t->rows.at[1].key, "layer 1, feed-forward");
	assert_true(t->rows.at[1].cells.at[0].number < t->rows.at[0].cells.at[0].number);
	harness_close(&b);
}

/* The plan of another compilation, and the same student. */
static void
test_replay(void **state)
{
	harness_layers b, again;

	(void)state;
	open_bench(&b, HARNESS_LAYERS(SMALL));
	assert_int_equal(prune(&b, "1"), ML_OK);
	open_bench(&again, HARNESS_LAYERS(SMALL));
	again.record.replays = true;
	ML_PUSH(&again.cx.arena, again.record.replayed, b.record.decisions.at[0]);
	assert_int_equal(prune(&again, "1"), ML_OK);
	assert_string_equal(harness_printed(&again, again.m), harness_printed(&b, b.m));
	harness_close(&again);
	open_bench(&again, HARNESS_LAYERS(SMALL));
	again.record.replays = true;
	ml_decision other = {"prune_blocks", "plan", "kxkk", NULL};
	ML_PUSH(&again.cx.arena, again.record.replayed, other);
	assert_int_equal(prune(&again, "1"), ML_ERR_ARG);
	harness_close(&again);
	harness_close(&b);
}

static void
check_refused(harness_layers *b, const char *target, ml_status status, const char *text)
{
	b->o.prune = target;
	harness_refused(b, status, text);
}

static void
test_refused(void **state)
{
	static const char plain[] = "module \"m\" {\n  sym b\n  in %x \"x\" : f32[b, 2]\n"
				    "  %y = tanh %x : f32[b, 2]\n  out \"y\" = %y\n}\n";
	harness_layers b;

	(void)state;
	open_bench(&b, HARNESS_LAYERS(SMALL));
	check_refused(&b, "3", ML_ERR_ARG, "of the model's 3 layers at most 2 can go");
	check_refused(&b, "1kB", ML_ERR_ARG, "asks for nothing");
	check_refused(&b, "99%", ML_ERR_ARG, "without all that can go");
	static const char *const wrong[] = {"",   "x",        "0",  "1.5", "100%", "0.5x",
					    "1x", "3 layers", "-1", "nan", "infx", "2xx"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		check_refused(&b, wrong[i], ML_ERR_ARG, "prune cannot be");
	b.o.data = NULL;
	check_refused(&b, "1", ML_ERR_ARG, "needs calibration data");
	harness_close(&b);
	open_bench(&b, plain);
	check_refused(&b, "1", ML_ERR_UNSUPPORTED, "no residual branches");
	harness_close(&b);
}

/* What the student has lost is said against the model before pruning, and more than was allowed is
 * refused. */
static void
test_judged(void **state)
{
	harness_layers b;

	(void)state;
	open_bench(&b, HARNESS_LAYERS(SMALL));
	b.o.passes = NULL;
	b.o.stop_after = "judge_student";
	assert_int_equal(prune(&b, "1"), ML_OK);
	const ml_change *c = NULL;
	for (int i = 0; i < b.record.changes.count; i++)
		if (!strcmp(b.record.changes.at[i].name, "weights"))
			c = &b.record.changes.at[i];
	assert_non_null(c);
	assert_true(c->before > c->after && c->after > 0);
	int said = 0;
	for (int i = 0; i < b.record.notes.count; i++)
		said += !!strstr(b.record.notes.at[i], "in all, on 1 samples");
	assert_int_equal(said, 1);
	harness_close(&b);
	open_bench(&b, HARNESS_LAYERS(LARGE));
	b.o.passes = NULL;
	b.o.must_hold = true;
	b.o.max_loss = 1e-9;
	check_refused(&b, "2", ML_ERR_VALUE, "were allowed");
	harness_close(&b);
	open_bench(&b, HARNESS_LAYERS(ZEROS));
	b.o.passes = NULL;
	b.o.must_hold = true;
	b.o.max_loss = 1e-9;
	assert_int_equal(prune(&b, "1"), ML_OK);
	harness_close(&b);
}

static ml_status
one_of_many(void *user, const ml_module *m, int64_t i, ml_tensor *inputs, bool *there)
{
	const ml_data *few = user;

	ML_STEP(few->sample(few->user, m, i % 8, inputs, there));
	*there = i < ML_JUDGED_AMONG + 60;
	return ML_OK;
}

/* Samples behind the first ones judge nothing, so they are learnt from. */
static void
test_held(void **state)
{
	ml_samples samples;
	harness_layers b;
	int learnt = 0;

	(void)state;
	open_bench(&b, HARNESS_LAYERS(LARGE));
	ml_data many = {.user = &b.data, .sample = one_of_many};
	ml_pass_ctx px = {.cx = &b.cx, .scratch = &b.cx.arena, .exec = &b.exec, .data = &many};
	assert_int_equal(ml_samples_read(&samples, &px, b.m, &b.cx.arena), ML_OK);
	assert_int_equal(samples.count, ML_JUDGED_AMONG + 60);
	assert_int_equal(samples.held, ML_JUDGED_AMONG / 5);
	for (int i = 0; i < samples.batch.count; i++)
		for (int64_t k = 0; k < samples.batch.at[i].samples; k++)
			learnt += !samples.batch.at[i].held &&
				  samples.batch.at[i].number[k] >= ML_JUDGED_AMONG;
	assert_int_equal(learnt, 60);
	ml_samples_free(&samples, &px);
	harness_close(&b);
}

/* What is judged behind a kept stream has the bits of what is computed as a whole. */
static void
test_prefix(void **state)
{
	harness_layers b;

	(void)state;
	open_bench(&b, HARNESS_LAYERS(LARGE));
	ml_pass_ctx px = {.cx = &b.cx,
			  .scratch = &b.cx.arena,
			  .exec = &b.exec,
			  .data = &b.data,
			  .record = &b.record};
	ml_pruning p = {.px = &px, .m = b.m, .arena = &b.cx.arena};
	ml_find_blocks(b.m, p.arena, &p.blocks);
	assert_int_equal(ml_samples_read(&p.samples, &px, b.m, p.arena), ML_OK);
	ml_stream_init(&p.prefix, &px, &p.samples);
	for (int i = 0; i < p.blocks.branch.count; i++) {
		ml_cuts cuts = ml_no_cuts(&p);
		double kept, whole;
		ml_module *m;
		cuts.keep[i] = false;
		assert_int_equal(ml_prefix_judge(&p, &cuts, &kept), ML_OK);
		/* In front of the first branch there is an input and nothing to keep. */
		assert_int_equal(p.prefix.node != 0, i > 0);
		assert_int_equal(ml_prune_with(&p, &cuts, &m), ML_OK);
		assert_int_equal(ml_judge(&p.samples, &px, m, NULL, &whole), ML_OK);
		assert_true(kept > 0);
		assert_memory_equal(&kept, &whole, sizeof kept);
		ml_module_free(m);
	}
	ml_stream_end(&p.prefix);
	ml_samples_free(&p.samples, &px);
	harness_close(&b);
}

/* The whole model up to this value. */
static ml_tensor
run_up_to(harness_layers *b, const ml_value *v, const ml_tensor *in)
{
	ml_module *copy = ml_module_clone(b->m);
	ml_value *own = &ml_node_by_id(copy, v->def->id)->out[v->index];
	ml_runnable *r;
	ml_tensor out;

	assert_int_equal(ml_module_set_outputs(copy, &own, 1), ML_OK);
	assert_int_equal(b->exec.compile(b->exec.user, copy, &r), ML_OK);
	assert_int_equal(b->exec.run(b->exec.user, r, in, &out, &b->cx.arena), ML_OK);
	b->exec.free(b->exec.user, r);
	ml_module_free(copy);
	return out;
}

/* Whether a batch was asked for at every value on the way, or is for the first time. */
static void
test_stream(void **state)
{
	ml_blocks blocks;
	ml_samples samples;
	ml_stream stream;
	harness_layers b;

	(void)state;
	open_bench(&b, HARNESS_LAYERS(LARGE));
	ml_pass_ctx px = {.cx = &b.cx, .scratch = &b.cx.arena, .exec = &b.exec, .data = &b.data};
	ml_find_blocks(b.m, &b.cx.arena, &blocks);
	assert_int_equal(ml_samples_read(&samples, &px, b.m, &b.cx.arena), ML_OK);
	assert_int_equal(samples.batch.count, 2);
	ml_stream_init(&stream, &px, &samples);
	for (int i = 0; i < blocks.branch.count; i++) {
		const ml_value *v = &blocks.branch.at[i].sum->out[0];
		assert_int_equal(ml_stream_move(&stream, b.m, v), ML_OK);
		for (int k = i == 1; k < samples.batch.count; k++) {
			ml_tensor got, want = run_up_to(&b, v, samples.batch.at[k].in);
			assert_int_equal(ml_stream_get(&stream, k, &b.cx.arena, &got), ML_OK);
			assert_int_equal(got.bytes, want.bytes);
			assert_memory_equal(got.data, want.data, want.bytes);
		}
		if (i == 0)
			ml_stream_end(&stream);
	}
	ml_stream_end(&stream);
	ml_samples_free(&samples, &px);
	harness_close(&b);
}

/* ---- least squares ---- */

enum { ROWS = 40, D = 5, O = 3 };

static void
test_solve(void **state)
{
	ml_memory memory = ml_memory_libc();
	ml_arena arena;
	uint64_t seed = 7;
	double x[ROWS][D], w[D][O], bias[O] = {0.5, -1, 2}, dw[D * O], db[O];

	(void)state;
	ml_arena_init(&arena, &memory);
	ml_gram g = ml_gram_new(&arena, D, O);
	for (int i = 0; i < D * O; i++)
		w[i / O][i % O] = harness_random(&seed);
	for (int r = 0; r < ROWS; r++) {
		for (int i = 0; i < D; i++)
			x[r][i] = harness_random(&seed) + i;
		for (int k = 0; k < O; k++) {
			double e = bias[k];
			for (int i = 0; i < D; i++)
				e += x[r][i] * w[i][k];
			for (int i = 0; i < D; i++)
				g.xe[i * O + k] += x[r][i] * e;
			g.e[k] += e;
			g.ee += e * e;
		}
		for (int i = 0; i < D; i++) {
			g.x[i] += x[r][i];
			for (int j = 0; j <= i; j++)
				g.xx[ml_triangle_at(i, j)] += x[r][i] * x[r][j];
		}
		g.rows++;
	}
	/* What is a linear function is found, and nothing is left; a ridge makes it smaller. */
	assert_true(ml_gram_solve(&g, 0, &arena, dw, db));
	for (int i = 0; i < D * O; i++)
		assert_true(fabs(dw[i] - w[i / O][i % O]) < 1e-9);
	for (int k = 0; k < O; k++)
		assert_true(fabs(db[k] - bias[k]) < 1e-9);
	assert_true(fabs(ml_gram_remaining(&g, dw, db, &arena)) < 1e-8 * g.ee);
	assert_true(ml_gram_solve(&g, 0.5, &arena, dw, db));
	double left = ml_gram_remaining(&g, dw, db, &arena);
	assert_true(left > 1e-4 * g.ee && left < g.ee);
	memset(dw, 0, sizeof dw);
	memset(db, 0, sizeof db);
	assert_true(fabs(ml_gram_remaining(&g, dw, db, &arena) - g.ee) < 1e-9 * g.ee);
	/* Nothing varies: there is nothing to fit. */
	ml_gram none = ml_gram_new(&arena, D, O);
	none.rows = 1;
	assert_false(ml_gram_solve(&none, 0.1, &arena, dw, db));
	ml_arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_lost), cmocka_unit_test(test_repair),
		cmocka_unit_test(test_replay),       cmocka_unit_test(test_refused),
		cmocka_unit_test(test_solve),        cmocka_unit_test(test_judged),
		cmocka_unit_test(test_prefix),       cmocka_unit_test(test_stream),
		cmocka_unit_test(test_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
