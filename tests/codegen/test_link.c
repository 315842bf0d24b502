/* test_link.c -- tools are found and run without a shell; what they say on failure is passed on. */
#include "codegen/link.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

typedef struct fixture {
	ml_context cx;
	char log[32];
} fixture;

static int
open_fixture(void **state)
{
	fixture *f = calloc(1, sizeof *f);

	f->cx.memory = ml_memory_libc();
	ml_arena_init(&f->cx.arena, &f->cx.memory);
	strcpy(f->log, "/tmp/mlopt-link-XXXXXX");
	close(mkstemp(f->log));
	*state = f;
	return 0;
}

static int
close_fixture(void **state)
{
	fixture *f = *state;

	unlink(f->log);
	ml_arena_free(&f->cx.arena);
	free(f);
	return 0;
}

static ml_status
run(fixture *f, const char *program, const char *argument)
{
	ml_words w = {0};
	ml_tool tool;

	ML_PUSH(&f->cx.arena, w, program);
	ML_PUSH(&f->cx.arena, w, argument);
	ML_STEP(ml_tool_start(&f->cx, &f->cx.arena, &w, f->log, &tool));
	return ml_tool_end(&f->cx, &f->cx.arena, &tool);
}

static const char *
message(const fixture *f)
{
	return f->cx.diags.at[f->cx.diags.count - 1].text;
}

static void
test_found(void **state)
{
	fixture *f = *state;
	const char *ls = ml_find_program(&f->cx.arena, "ls");

	assert_non_null(ls);
	assert_int_equal(access(ls, X_OK), 0);
	assert_null(ml_find_program(&f->cx.arena, "no-such-program"));
	assert_null(ml_find_tool(&f->cx.arena, "no-such-tool"));
	assert_int_equal(run(f, ls, "/"), ML_OK);
}

/* A name is one argument, whatever is in it. */
static void
test_no_shell(void **state)
{
	fixture *f = *state;
	const char *test = ml_find_program(&f->cx.arena, "ls");

	assert_int_equal(run(f, test, "/ ; true"), ML_ERR_CODEGEN);
	assert_non_null(strstr(message(f), "/ ; true"));
}

static void
test_failure(void **state)
{
	fixture *f = *state;

	assert_int_equal(run(f, ml_find_program(&f->cx.arena, "ls"), "/no/such/\x1b[31m"),
			 ML_ERR_CODEGEN);
	assert_non_null(strstr(message(f), "/no/such/"));
	assert_null(strchr(message(f), '\x1b')); /* what tools print is escaped */
	assert_null(strchr(message(f), '\n'));
	assert_int_equal(run(f, "/no/such/program", "x"), ML_ERR_CODEGEN);
	assert_non_null(strstr(message(f), "cannot run"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_found, open_fixture, close_fixture),
		cmocka_unit_test_setup_teardown(test_no_shell, open_fixture, close_fixture),
		cmocka_unit_test_setup_teardown(test_failure, open_fixture, close_fixture),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
