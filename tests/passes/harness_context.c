/* harness_context.c -- one context for all tests of a program. */
#include "harness_context.h"

int
harness_run(ml_context *cx, const struct CMUnitTest *tests, size_t count)
{
	jmp_buf nomem;

	cx->memory = ml_memory_libc();
	cx->memory.on_fail = &nomem;
	ml_arena_init(&cx->arena, &cx->memory);
	int failed = _cmocka_run_group_tests("tests", tests, count, NULL, NULL);
	ml_arena_free(&cx->arena);
	return failed;
}
