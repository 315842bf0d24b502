/* test_text.c -- random graphs: text that is printed and parsed again is the same text. */
#include "harness_graph.h"
#include "passes/pipeline.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static ml_context cx;

/* Constants too large to be printed are found in the module that was printed. */
static ml_blob *
find_blob(void *user, uint64_t hash, const ml_type *type)
{
	const ml_module *m = user;

	(void)type;
	for (int i = 0; i < m->blobs.count; i++)
		if (ml_blob_hash(m->blobs.at[i]) == hash)
			return m->blobs.at[i];
	return NULL;
}

static void
check_text(const ml_module *m, uint64_t seed, const char *when)
{
	ml_module *again;
	ml_arena arena;

	ml_arena_init(&arena, &cx.memory);
	char *text = fuzz_text(m, &arena);
	if (ml_parse(&cx, text, strlen(text), find_blob, (void *)m, &again) != ML_OK) {
		fuzz_show(&cx, m);
		fail_msg("seed %d, %s: does not parse", (int)seed, when);
	}
	if (ml_verify(again) != ML_OK || strcmp(text, fuzz_text(again, &arena))) {
		fuzz_show(&cx, m);
		fuzz_show(&cx, again);
		fail_msg("seed %d, %s: parses to something else", (int)seed, when);
	}
	ml_module_free(again);
	ml_arena_free(&arena);
}

static void
test_round_trip(void **state)
{
	ml_pipeline_options o = {.opt_level = 3, .precision = ML_INT8_DYNAMIC, .fuel = -1};

	(void)state;
	for (uint64_t seed = 1; seed <= 300; seed++) {
		ml_module *m = fuzz_graph(&cx, seed, &(fuzz_options){.steps = 40});
		ml_arena arena;
		ml_pipeline p;

		cx.diags.count = 0;
		check_text(m, seed, "as built");
		ml_arena_init(&arena, &cx.memory);
		assert_int_equal(ml_pipeline_init(&p, &cx, &arena, &o, NULL, 0), ML_OK);
		assert_int_equal(ml_pipeline_run(&p, m, &o), ML_OK);
		check_text(m, seed, "after passes");
		ml_arena_free(&arena);
		ml_module_free(m);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
	};

	cx.memory = ml_memory_libc();
	ml_arena_init(&cx.arena, &cx.memory);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
