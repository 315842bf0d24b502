/* test_group.c -- what is computed by one kernel, and what by several; results as the evaluator's.
 */
#include "harness_model.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void
check_kernels(const char *text, int wanted)
{
	const ml_target *level[ML_LEVEL_COUNT];
	int n = model_levels(level);
	model m;

	model_open(&m, text);
	assert_int_equal(model_plan(&m)->main->steps.count, wanted);
	model_compile(&m, level[n - 1]);
	model_check(&m, (int64_t[]){1});
	model_check(&m, (int64_t[]){37});
	model_close(&m);
}

/* As an optimizer's step: moments and weights from one gradient. */
static void
test_maps_of_the_same(void **state)
{
	(void)state;
	check_kernels("module \"step\" {\nsym n\nin %g : f32[n, 40]\nin %m : f32[n, 40]\n"
		      "in %w : f32[n, 40]\nin %s : f32[]\n%d = mul %g, %s : f32[n, 40]\n"
		      "%a = const {0.9} : f32[]\n%b = mul %m, %a : f32[n, 40]\n"
		      "%c = add %b, %d : f32[n, 40]\n%e = mul %w, %a : f32[n, 40]\n"
		      "%f = mul %d, %c : f32[n, 40]\n%h = sub %e, %f : f32[n, 40]\n"
		      "out \"d\" = %d\nout \"m\" = %c\nout \"w\" = %h\n}\n",
		      1);
}

/* %c reads %a, and a sum that is computed from it: %a comes first. */
static void
test_maps_in_order(void **state)
{
	(void)state;
	check_kernels("module \"order\" {\nsym n\nin %x : f32[n, 40]\nin %y : f32[n, 40]\n"
		      "%a = mul %x, %y : f32[n, 40]\n"
		      "%r = reduce_sum %a {axes = [0]} : f32[1, 40]\n"
		      "%t = mul %y, %y : f32[n, 40]\n%b = mul %t, %r : f32[n, 40]\n"
		      "%c = add %b, %a : f32[n, 40]\nout \"a\" = %a\nout \"c\" = %c\n}\n",
		      3);
}

/* Sums of columns are shared among threads, which a sum of all of them is not. */
static void
test_sum_of_sums(void **state)
{
	(void)state;
	check_kernels("module \"sums\" {\nsym n\nin %x : f32[n, 40]\n"
		      "%r = reduce_sum %x {axes = [0]} : f32[1, 40]\n"
		      "%v = reshape %r {shape = [40]} : f32[40]\n%q = mul %v, %v : f32[40]\n"
		      "%s = reduce_sum %q {axes = [0]} : f32[1]\nout \"v\" = %v\n"
		      "out \"s\" = %s\n}\n",
		      2);
}

/* The product's kernel writes the product alone. */
static void
test_summed_squares(void **state)
{
	static const char text[] =
		"module \"squares\" {\nsym n\nin %x : f32[n, 40]\nin %y : f32[n, 24]\n"
		"%d = dot %x, %y {lhs_contract = [0], rhs_contract = [0]} : f32[40, 24]\n"
		"%q = mul %d, %d : f32[40, 24]\n"
		"%s = reduce_sum %q {axes = [0, 1]} : f32[1, 1]\nout \"d\" = %d\nout \"s\" = "
		"%s\n}\n";
	model m;

	(void)state;
	model_open(&m, text);
	const ml_plan *plan = model_plan(&m);
	for (int i = 0; i < plan->specs.count; i++)
		if (plan->specs.at[i].family == ML_FAMILY_CONTRACT)
			assert_null(strstr(plan->specs.at[i].text, "= mul"));
	model_close(&m);
	check_kernels(text, 3);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_maps_of_the_same), cmocka_unit_test(test_maps_in_order),
		cmocka_unit_test(test_sum_of_sums),      cmocka_unit_test(test_summed_squares),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
