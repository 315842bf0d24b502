/* test_target.c -- level names, host detection and its cap. */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "../../codegen/target.h"
#include <stdlib.h>
#include <string.h>

static void
test_names_round_trip(void **state)
{
	(void)state;
	for (int i = 0; i < ML_LEVEL_COUNT; i++) {
		const ml_target *t = ml_target_level((ml_level)i);
		assert_int_equal(t->level, i);
		assert_ptr_equal(ml_target_named(t->name), t);
		assert_true(t->vector_bits >= 128 && t->registers >= 16 && t->l1_bytes > 0);
	}
	assert_null(ml_target_named("sse2"));
	assert_null(ml_target_named(""));
}

static void
test_host_and_cap(void **state)
{
	ml_context cx = {.memory = ml_memory_libc()};
	const ml_target *best = NULL, *t = NULL;

	(void)state;
	ml_arena_init(&cx.arena, &cx.memory);
	unsetenv("MLOPT_ISA");
	assert_int_equal(ml_target_host(&cx, &best), ML_OK);
	assert_true(ml_target_runs_here(best));
	for (int i = 0; i < ML_LEVEL_COUNT; i++) {
		const ml_target *level = ml_target_level((ml_level)i);
		setenv("MLOPT_ISA", level->name, 1);
		t = NULL;
		if (ml_target_runs_here(level)) {
			assert_true(level->level <= best->level);
			assert_int_equal(ml_target_host(&cx, &t), ML_OK);
			assert_ptr_equal(t, level);
		} else {
			assert_int_equal(ml_target_host(&cx, &t), ML_ERR_TARGET);
			assert_null(t);
		}
	}
	int before = cx.diags.count;
	setenv("MLOPT_ISA", "pentium", 1);
	assert_int_equal(ml_target_host(&cx, &t), ML_ERR_TARGET);
	assert_int_equal(cx.diags.count, before + 1);
	assert_non_null(strstr(cx.diags.at[before].text, "pentium"));
	unsetenv("MLOPT_ISA");
	ml_arena_free(&cx.arena);
}

static void
test_machines_for_all_levels(void **state)
{
	ml_context cx = {.memory = ml_memory_libc()};

	(void)state;
	ml_arena_init(&cx.arena, &cx.memory);
	for (int i = 0; i < ML_LEVEL_COUNT; i++) {
		LLVMTargetMachineRef machine = NULL;
		assert_int_equal(ml_target_machine(&cx, ml_target_level((ml_level)i), &machine),
				 ML_OK);
		assert_non_null(machine);
		LLVMDisposeTargetMachine(machine);
	}
	ml_arena_free(&cx.arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_round_trip),
		cmocka_unit_test(test_host_and_cap),
		cmocka_unit_test(test_machines_for_all_levels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
