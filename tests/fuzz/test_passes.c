/* test_passes.c -- random graphs: the evaluator agrees before and after the pipeline. */
#include "harness_graph.h"
#include "passes/pipeline.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static ml_context cx;

typedef struct trial {
	uint64_t seed;
	int64_t n;
	bool wide; /* floats in f64: what is left of rounding is what passes computed */
	ml_module *m;
	ml_tensor *in, *want;
	ml_arena arena;
} trial;

static ml_tensor *
evaluate(trial *t, const ml_module *m)
{
	ml_tensor *out = ML_NEW_ARRAY(&t->arena, ml_tensor, m->main->last->nin);
	ml_eval_options o = {.wide = t->wide, .max_steps = 50000000};

	if (ml_evaluate(m, t->in, out, &t->arena, &o) != ML_OK) {
		fuzz_show(&cx, m);
		fail_msg("seed %d, n = %d: the evaluator fails", (int)t->seed, (int)t->n);
	}
	return out;
}

static void
begin(trial *t, uint64_t seed, int64_t n, const fuzz_options *o)
{
	*t = (trial){.seed = seed, .n = n, .wide = o->smooth};
	cx.diags.count = 0;
	ml_arena_init(&t->arena, &cx.memory);
	t->m = fuzz_graph(&cx, seed, o);
	t->in = fuzz_inputs(t->m, seed, n, &t->arena);
	t->want = evaluate(t, t->m);
}

static void
end(trial *t)
{
	ml_module_free(t->m);
	ml_arena_free(&t->arena);
}

static void
compare(trial *t, const ml_module *m, int level, double tolerance)
{
	ml_tensor *got = evaluate(t, m);

	for (int i = 0; i < m->main->last->nin; i++) {
		int64_t at = fuzz_difference(&t->want[i], &got[i], tolerance);
		if (at < 0)
			continue;
		fuzz_show(&cx, t->m);
		fuzz_show(&cx, m);
		fail_msg("seed %d, n = %d, -O%d: result %d, element %d: %.9g became %.9g",
			 (int)t->seed, (int)t->n, level, i, (int)at,
			 ml_read_f64(t->want[i].dtype, t->want[i].data, at),
			 ml_read_f64(got[i].dtype, got[i].data, at));
	}
}

/* `passes` instead of a level's when not NULL. */
static void
check(trial *t, int level, const char *passes, double tolerance)
{
	ml_pipeline_options o = {
		.opt_level = level, .passes = passes, .verify_each = true, .fuel = -1};
	ml_module *m = ml_module_clone(t->m);
	ml_pipeline p;

	if (ml_pipeline_init(&p, &cx, &t->arena, &o, NULL, 0) != ML_OK ||
	    ml_pipeline_run(&p, m, &o) != ML_OK) {
		fuzz_show(&cx, t->m);
		fail_msg("seed %d, -O%d: the passes fail", (int)t->seed, level);
	}
	compare(t, m, level, tolerance);
	ml_module_free(m);
}

static const int64_t sizes[] = {0, 1, 2, 3, 5, 16, 17};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* FUZZ_SEED=N runs that seed alone, FUZZ_COUNT=N that many. */
static void
seeds(uint64_t *first, uint64_t *count, uint64_t usual)
{
	const char *seed = getenv("FUZZ_SEED"), *many = getenv("FUZZ_COUNT");

	*first = seed ? strtoull(seed, NULL, 10) : 1;
	*count = seed ? 1 : many ? strtoull(many, NULL, 10) : usual;
}

/* Passes that say they are exact change no bit, whatever the graph. */
static void
test_exact_passes(void **state)
{
	uint64_t first, count;
	ml_text exact;

	(void)state;
	ml_text_init(&exact, &cx.arena);
	for (int i = 0; i < ml_stage_count; i++)
		if (ml_stages[i].pass->effect == ML_EXACT)
			ml_put(&exact, "%s%s", exact.length ? "," : "", ml_stages[i].pass->name);
	seeds(&first, &count, 400);
	for (uint64_t seed = first; seed < first + count; seed++) {
		trial t;
		begin(&t, seed, sizes[seed % SIZES], &(fuzz_options){.steps = 40});
		check(&t, 1, exact.at, 0);
		end(&t);
	}
}

/* Others may round differently, which smooth graphs do not magnify. */
static void
test_all_passes(void **state)
{
	uint64_t first, count;

	(void)state;
	seeds(&first, &count, 400);
	for (uint64_t seed = first; seed < first + count; seed++) {
		trial t;
		begin(&t, seed, sizes[seed % SIZES], &(fuzz_options){.steps = 30, .smooth = true});
		for (int level = 1; level <= 3; level++)
			check(&t, level, NULL, 1e-4);
		end(&t);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact_passes),
		cmocka_unit_test(test_all_passes),
	};

	cx.memory = ml_memory_libc();
	ml_arena_init(&cx.arena, &cx.memory);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
