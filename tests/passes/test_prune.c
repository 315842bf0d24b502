/* test_prune.c -- the pass prune_blocks on small models of which the right cut is known. */
#include "harness_exec.h"
#include "passes/pipeline.h"
#include "passes/prune/prune.h"
#include "passes/prune/solve.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

typedef struct bench {
	ml_context cx;
	ml_module *m;
	ml_record record;
	harness_samples samples;
	ml_exec exec;
	ml_data data;
	ml_pipeline_options o;
} bench;

/* Three layers on a stream f32[b, 3, 2]; the second one adds what `%v` gives, the others more. */
#define WEIGHTS                                                                                    \
	"  %u = const {1, -1, 0.5, 2, 0.25, 1} : f32[2, 3]\n"                                      \
	"  %d = const {1, 0.5, -1, 1, 2, -0.5} : f32[3, 2]\n"                                      \
	"  %c = const {0.25, -2, 1.5, 1} : f32[2, 2]\n"
#define FFN(name, in, down)                                                                        \
	"  %" name "u = linear " in ", %u : f32[b, 3, 2, 3]\n"                                     \
	"  %" name "a = gelu %" name "u : f32[b, 3, 2, 3]\n"                                       \
	"  %" name "d = linear %" name "a, " down " : f32[b, 3, 2, 2]\n"                           \
	"  %" name " = add " in ", %" name "d : f32[b, 3, 2, 2]\n"
#define MODEL(zeros)                                                                               \
	"module \"m\" {\n  sym b\n  in %x \"x\" : f32[b, 3, 2, 2]\n" WEIGHTS zeros FFN(            \
		"l", "%x", "%d") FFN("m", "%l", "%v")                                              \
		FFN("n", "%m",                                                                     \
		    "%d") "  %y = linear %n, %c : f32[b, 3, 2, 2]\n  out \"y\" = %y\n}\n"
#define ZEROS "  %v = const {0, 0, 0, 0, 0, 0} : f32[3, 2]\n"
#define LARGE "  %v = const {3, -5, -4, 1, 5, -2} : f32[3, 2]\n"
#define SMALL "  %v = const {0.1, 0.05, -0.1, 0.1, 0.2, -0.05} : f32[3, 2]\n"

static void
open_bench(bench *b, const char *text)
{
	*b = (bench){.cx.memory = ml_memory_libc()};
	ml_arena_init(&b->cx.arena, &b->cx.memory);
	ml_arena_init(&b->samples.arena, &b->cx.memory);
	assert_int_equal(ml_parse(&b->cx, text, strlen(text), NULL, NULL, &b->m), ML_OK);
	b->exec = harness_exec(&b->cx);
	b->data = harness_data(&b->samples);
	ml_record_init(&b->record, &b->cx.arena);
	b->o = (ml_pipeline_options){.opt_level = 2,
				     .fuel = -1,
				     .passes = "prune_blocks",
				     .verify_each = true,
				     .exec = &b->exec,
				     .data = &b->data,
				     .record = &b->record};
}

static void
close_bench(bench *b)
{
	ml_module_free(b->m);
	ml_arena_free(&b->samples.arena);
	ml_arena_free(&b->cx.arena);
}

static ml_status
prune(bench *b, const char *target)
{
	ml_arena arena;
	ml_pipeline p;

	b->o.prune = target;
	ml_arena_init(&arena, &b->cx.memory);
	ml_status st = ml_pipeline_init(&p, &b->cx, &arena, &b->o, NULL, 0);
	if (st == ML_OK)
		st = ml_pipeline_run(&p, b->m, &b->o);
	ml_arena_free(&arena);
	return st;
}

static const char *
printed(bench *b, const ml_module *m)
{
	ml_text t;

	ml_text_init(&t, &b->cx.arena);
	ml_print(&t, m);
	return t.at;
}

static const char *
choice_of(const bench *b)
{
	for (int i = 0; i < b->record.decisions.count; i++)
		if (!strcmp(b->record.decisions.at[i].subject, "plan"))
			return b->record.decisions.at[i].choice;
	return "";
}

/* What adds nothing goes, and nothing else changes: the results are the same bits. */
static void
test_nothing_lost(void **state)
{
	static const char *const targets[] = {"1", "30%"};
	static const char expected[] =
		"module \"m\" {\n  sym b\n  in %x \"x\" : f32[b, 3, 2, 2]\n" WEIGHTS FFN("l", "%x",
											 "%d")
			FFN("n", "%l",
			    "%d") "  %y = linear %n, %c : f32[b, 3, 2, 2]\n  out \"y\" = %y\n}\n";
	ml_module *want;
	bench b;

	(void)state;
	for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
		open_bench(&b, MODEL(ZEROS));
		assert_int_equal(ml_parse(&b.cx, expected, strlen(expected), NULL, NULL, &want),
				 ML_OK);
		assert_int_equal(prune(&b, targets[i]), ML_OK);
		assert_string_equal(choice_of(&b), "kxk");
		assert_string_equal(printed(&b, b.m), printed(&b, want));
		ml_module_free(want);
		close_bench(&b);
	}
}

/* The least of three goes, and what it did is fitted into its neighbour. */
static void
test_repair(void **state)
{
	bench b;

	(void)state;
	open_bench(&b, MODEL(SMALL));
	const char *before = printed(&b, b.m);
	assert_int_equal(prune(&b, "1"), ML_OK);
	assert_string_equal(choice_of(&b), "kxk");
	assert_string_not_equal(printed(&b, b.m), before);
	const ml_table *t = ml_record_table(&b.record, "prune", "");
	assert_int_equal(t->rows.count, 3);
	assert_string_equal(t->rows.at[1].key, "layer 1, feed-forward");
	assert_true(t->rows.at[1].cells.at[0].number < t->rows.at[0].cells.at[0].number);
	close_bench(&b);
}

/* The plan of another compilation, and the same student. */
static void
test_replay(void **state)
{
	bench b, again;

	(void)state;
	open_bench(&b, MODEL(SMALL));
	assert_int_equal(prune(&b, "1"), ML_OK);
	open_bench(&again, MODEL(SMALL));
	again.record.replays = true;
	ML_PUSH(&again.cx.arena, again.record.replayed, b.record.decisions.at[0]);
	assert_int_equal(prune(&again, "1"), ML_OK);
	assert_string_equal(printed(&again, again.m), printed(&b, b.m));
	close_bench(&again);
	open_bench(&again, MODEL(SMALL));
	again.record.replays = true;
	ml_decision other = {"prune_blocks", "plan", "kxkk", NULL};
	ML_PUSH(&again.cx.arena, again.record.replayed, other);
	assert_int_equal(prune(&again, "1"), ML_ERR_ARG);
	close_bench(&again);
	close_bench(&b);
}

static void
check_refused(bench *b, const char *target, ml_status status, const char *text)
{
	assert_int_equal(prune(b, target), status);
	const ml_diag *d = &b->cx.diags.at[b->cx.diags.count - 1];
	if (!strstr(d->text, text))
		fail_msg("'%s' does not say '%s'", d->text, text);
}

static void
test_refused(void **state)
{
	static const char plain[] = "module \"m\" {\n  sym b\n  in %x \"x\" : f32[b, 2]\n"
				    "  %y = tanh %x : f32[b, 2]\n  out \"y\" = %y\n}\n";
	bench b;

	(void)state;
	open_bench(&b, MODEL(SMALL));
	check_refused(&b, "3", ML_ERR_ARG, "of the model's 3 layers at most 2 can go");
	check_refused(&b, "1kB", ML_ERR_ARG, "asks for nothing");
	check_refused(&b, "99%", ML_ERR_ARG, "without all that can go");
	static const char *const wrong[] = {"",   "x",        "0",  "1.5", "100%", "0.5x",
					    "1x", "3 layers", "-1", "nan", "infx", "2xx"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		check_refused(&b, wrong[i], ML_ERR_ARG, "prune cannot be");
	b.o.data = NULL;
	check_refused(&b, "1", ML_ERR_ARG, "needs calibration data");
	close_bench(&b);
	open_bench(&b, plain);
	check_refused(&b, "1", ML_ERR_UNSUPPORTED, "no residual branches");
	close_bench(&b);
}

/* What the student has lost is said against the model before pruning, and more than was allowed is
 * refused. */
static void
test_judged(void **state)
{
	bench b;

	(void)state;
	open_bench(&b, MODEL(SMALL));
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
	close_bench(&b);
	open_bench(&b, MODEL(LARGE));
	b.o.passes = NULL;
	b.o.must_hold = true;
	b.o.max_loss = 1e-9;
	check_refused(&b, "2", ML_ERR_VALUE, "were allowed");
	close_bench(&b);
	open_bench(&b, MODEL(ZEROS));
	b.o.passes = NULL;
	b.o.must_hold = true;
	b.o.max_loss = 1e-9;
	assert_int_equal(prune(&b, "1"), ML_OK);
	close_bench(&b);
}

/* What is judged behind a kept stream has the bits of what is computed as a whole. */
static void
test_prefix(void **state)
{
	bench b;

	(void)state;
	open_bench(&b, MODEL(LARGE));
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
	close_bench(&b);
}

/* The whole model up to this value. */
static ml_tensor
run_up_to(bench *b, const ml_value *v, const ml_tensor *in)
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
	bench b;

	(void)state;
	open_bench(&b, MODEL(LARGE));
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
	close_bench(&b);
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
