/* test_rows.c -- row kernels and maps against the evaluator. */
#include "harness_kernel.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void
test_softmax(void **state)
{
	(void)state;
	static const int64_t sizes[] = {1, 3, 16, 17, 100};
	for (int i = 0; i < 5; i++) {
		kernel_case c = {
			.text = "kernel rows 1 \n"
				"module \"\" {\n"
				"  sym d0\n  sym d1\n"
				"  in %0 : f32[d0, d1]\n"
				"  %1 = reduce_max %0 {axes = [1]} : f32[d0, 1]\n"
				"  %2 = sub %0, %1 : f32[d0, d1]\n"
				"  %3 = exp %2 : f32[d0, d1]\n"
				"  %4 = reduce_sum %3 {axes = [1]} : f32[d0, 1]\n"
				"  %5 = div %3, %4 : f32[d0, d1]\n"
				"  out \"\" = %5\n"
				"}\n",
			.dim = {5, sizes[i]},
			.tolerance = 1e-6,
		};
		check_kernel(&c);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_softmax)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
