/* test_pool.c -- pools of images: how their kernels read and store, and what they give. */
#include "harness_model.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

/* Pixels of 2 x 2 become one, channels last. */
#define POOL(op)                                                                                   \
	"  %t = transpose %v {perm = [0, 3, 1, 2]} : f32[n, 16, 8, 8]\n"                           \
	"  %u = window %t {size = [2, 2], stride = [2, 2], dilation = [1, 1]} : "                  \
	"f32[n, 16, 4, 4, 2, 2]\n"                                                                 \
	"  %w = transpose %u {perm = [0, 2, 3, 1, 4, 5]} : f32[n, 4, 4, 16, 2, 2]\n"               \
	"  %r = " op " %w {axes = [4, 5]} : f32[n, 4, 4, 16, 1, 1]\n"                              \
	"  %p = reshape %r {shape = [n, 4, 4, 16]} : f32[n, 4, 4, 16]\n"

/* Is there a kernel whose text has this? */
static bool
has_kernel(const ml_plan *plan, const char *text)
{
	for (int i = 0; i < plan->specs.count; i++)
		if (strstr(plan->specs.at[i].text, text))
			return true;
	return false;
}

/* On every level that runs here. */
static void
check_model(const char *text, const int64_t *sizes)
{
	const ml_target *level[ML_LEVEL_COUNT];
	int n = model_levels(level);

	for (int i = 0; i < n; i++) {
		model m;
		model_open(&m, text);
		model_compile(&m, level[i]);
		model_check(&m, sizes);
		model_close(&m);
	}
}

/* A convolution of single pixels reads what a pool has stored channels last, though the model
 * shows it the other way. */
static void
test_read_as_it_lies(void **state)
{
	static const int64_t sizes[] = {3};
	const char *text = "module \"pool\" {\n  sym n\n  in %v \"x\" : f32[n, 8, 8, 16]\n"
			   "  in %k \"k\" : f32[24, 16, 1, 1]\n" POOL(
				   "reduce_max") "  %s = transpose %p {perm = [0, 3, 1, 2]} : "
						 "f32[n, 16, 4, 4]\n"
						 "  %x = window %s {size = [1, 1], stride = [1, "
						 "1], dilation = [1, 1]} : "
						 "f32[n, 16, 4, 4, 1, 1]\n"
						 "  %y = dot %x, %k {lhs_contract = [4, 5, 1], "
						 "rhs_contract = [2, 3, 1]} : "
						 "f32[n, 4, 4, 24]\n  out \"y\" = %y\n}\n";
	model m;

	(void)state;
	model_open(&m, text);
	assert_true(has_kernel(model_plan(&m), "in %0 : f32[d0, 4, 4, 16]\n"));
	assert_false(has_kernel(model_plan(&m), "in %0 : f32[d0, 16, 4, 4]\n"));
	model_close(&m);
	check_model(text, sizes);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_as_it_lies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
