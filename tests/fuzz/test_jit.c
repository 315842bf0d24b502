/* test_jit.c -- random graphs: compiled code agrees with the evaluator at every size. */
#include "codegen/jit.h"
#include "codegen/plan.h"
#include "harness_graph.h"
#include "passes/pipeline.h"
#include "runtime/model.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static ml_context cx;

typedef struct trial {
	uint64_t seed;
	int level;
	ml_module *m; /* as built: what the evaluator runs */
	ml_model *model;
	ml_session *session;
} trial;

static void
fail_trial(const trial *t, int64_t n, const char *what, const char *detail)
{
	fuzz_show(&cx, t->m);
	fail_msg("FUZZ_SEED=%d, -O%d, n = %d: %s: %s", (int)t->seed, t->level, (int)n, what,
		 detail);
}

static void
free_jit(void *jit)
{
	ml_jit_free(jit);
}

static void
compile(trial *t)
{
	ml_pipeline_options o = {.opt_level = t->level, .fuel = -1};
	ml_jit_options jo = {.making = {.workers = 1}};
	ml_module *m = ml_module_clone(t->m);
	ml_message why = {{0}};
	ml_arena arena;
	ml_pipeline p;
	ml_plan *plan = NULL;
	ml_jit *jit = NULL;

	ml_arena_init(&arena, &cx.memory);
	if (ml_pipeline_init(&p, &cx, &arena, &o, NULL, 0) != ML_OK ||
	    ml_pipeline_run(&p, m, &o) != ML_OK ||
	    ml_plan_module(m, t->level, &arena, &plan) != ML_OK ||
	    ml_target_host(&cx, &jo.target) != ML_OK || ml_jit_new(&cx, plan, &jo, &jit) != ML_OK)
		fail_trial(t, 0, "does not compile", "");
	if (mlrt_model_new(ml_jit_program(jit), NULL, jit, free_jit, &t->model, &why) != ML_OK ||
	    ml_session_new(t->model, NULL, &t->session, &why) != ML_OK)
		fail_trial(t, 0, "does not load", why.text);
	ml_module_free(m);
	ml_arena_free(&arena);
}

static void
compare(const trial *t, int64_t n, const ml_tensor *want, int i)
{
	ml_view view;
	ml_tensor got;
	char detail[128];

	assert_int_equal(ml_session_output(t->session, i, &view), ML_OK);
	got = (ml_tensor){.dtype = view.dtype, .data = view.data, .bytes = view.bytes};
	int64_t at = fuzz_difference(want, &got, 1e-3);
	if (at < 0)
		return;
	if (want->bytes != got.bytes)
		snprintf(detail, sizeof detail, "%d bytes, not %d", (int)got.bytes,
			 (int)want->bytes);
	else
		snprintf(detail, sizeof detail, "result %d, element %d is %.9g, not %.9g", i,
			 (int)at, ml_read_f64(got.dtype, got.data, at),
			 ml_read_f64(want->dtype, want->data, at));
	fail_trial(t, n, "differs", detail);
}

static void
run(const trial *t, int64_t n)
{
	ml_eval_options wide = {.wide = true};
	int results = t->m->main->last->nin;
	ml_arena arena;

	ml_arena_init(&arena, &cx.memory);
	ml_tensor *in = fuzz_inputs(t->m, t->seed, n, &arena);
	ml_tensor *want = ML_NEW_ARRAY(&arena, ml_tensor, results);
	if (ml_evaluate(t->m, in, want, &arena, &wide) != ML_OK)
		fail_trial(t, n, "the evaluator fails", "");
	for (int i = 0; i < t->m->main->nargs; i++)
		assert_int_equal(
			ml_session_set_input(t->session, i, in[i].data, in[i].dim, in[i].rank),
			ML_OK);
	if (ml_session_run(t->session) != ML_OK)
		fail_trial(t, n, "does not run", ml_session_message(t->session));
	for (int i = 0; i < results; i++)
		compare(t, n, &want[i], i);
	ml_arena_free(&arena);
}

/* One compilation serves every size. */
static void
check_level(ml_module *m, uint64_t seed, int level)
{
	static const int64_t sizes[] = {5, 0, 1, 17, 2, 16};
	trial t = {.seed = seed, .level = level, .m = m};

	cx.diags.count = 0;
	compile(&t);
	for (int i = 0; i < 6; i++)
		run(&t, sizes[i]);
	ml_session_free(t.session);
	ml_model_free(t.model);
}

/* FUZZ_SEED=N tries that seed alone, FUZZ_COUNT=N that many. */
static void
test_random_graphs(void **state)
{
	const char *one = getenv("FUZZ_SEED"), *many = getenv("FUZZ_COUNT");
	uint64_t first = one ? strtoull(one, NULL, 10) : 1;
	uint64_t count = one ? 1 : many ? strtoull(many, NULL, 10) : 12;

	(void)state;
	for (uint64_t seed = first; seed < first + count; seed++) {
		fuzz_options o = {.steps = seed % 2 ? 12 : 24, .smooth = true};
		ml_module *m = fuzz_graph(&cx, seed, &o);
		check_level(m, seed, 0);
		check_level(m, seed, 3);
		ml_module_free(m);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_graphs),
	};

	cx.memory = ml_memory_libc();
	ml_arena_init(&cx.arena, &cx.memory);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
