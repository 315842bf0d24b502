/* test_level.c -- the choice among a program's ISA levels, free and forced. */
#include "runtime/embed/level.h"
#include "mlopt/mlopt.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#if defined(__x86_64__)
#define LOWEST  "avx2"
#define FOREIGN "neon"
#else
#define LOWEST  "neon"
#define FOREIGN "avx2"
#endif

static const mlrt_level *
choose(const mlrt_level *levels, int32_t n, ml_status expected)
{
	mlrt_program p = {.level = levels, .nlevels = n};
	const mlrt_level *chosen = NULL;

	assert_int_equal(mlrt_choose_level(&p, &chosen), expected);
	return chosen;
}

static void
test_best(void **state)
{
	const mlrt_level levels[] = {
		{.name = LOWEST}, {.name = LOWEST, .id = 1}, {.name = FOREIGN}};

	(void)state;
	unsetenv("MLOPT_ISA");
	assert_true(mlrt_level_runs(LOWEST));
	assert_false(mlrt_level_runs(FOREIGN));
	assert_false(mlrt_level_runs(""));
	assert_ptr_equal(choose(levels, 3, ML_OK), &levels[1]);
	assert_null(choose(levels + 2, 1, ML_ERR_TARGET));
	assert_null(choose(levels, 0, ML_ERR_TARGET));
}

static void
test_forced(void **state)
{
	const mlrt_level levels[] = {{.name = LOWEST}, {.name = LOWEST "x"}};

	(void)state;
	setenv("MLOPT_ISA", LOWEST, 1);
	assert_ptr_equal(choose(levels, 2, ML_OK), &levels[0]);
	setenv("MLOPT_ISA", FOREIGN, 1);
	assert_null(choose(levels, 2, ML_ERR_TARGET));
	setenv("MLOPT_ISA", LOWEST "x", 1); /* this CPU does not know it */
	assert_null(choose(levels, 2, ML_ERR_TARGET));
	setenv("MLOPT_ISA", "", 1);
	assert_ptr_equal(choose(levels, 2, ML_OK), &levels[0]);
	unsetenv("MLOPT_ISA");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_best),
		cmocka_unit_test(test_forced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
