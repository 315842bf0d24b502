/* test_memory.c -- results take the memory of operands that nobody reads later, where they may. */
#include "harness_model.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* Slots of the plan; then the model runs at several sizes, on every level, as the evaluator does.
 */
static int
slots_of(const char *text)
{
	static const int64_t sizes[] = {1, 7, 64, 300};
	const ml_target *level[ML_LEVEL_COUNT];
	int slots = 0;

	for (int l = model_levels(level); l-- > 0;) {
		model m;
		model_open(&m, text);
		slots = model_plan(&m)->slots.count;
		model_compile(&m, level[l]);
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
			model_check(&m, &sizes[i]);
		model_close(&m);
	}
	return slots;
}

#define HEAD                                                                                       \
	"module \"memory\" {\n"                                                                    \
	"  sym n\n"                                                                                \
	"  in %x \"x\" : f32[n, 24]\n"                                                             \
	"  %w = const splat 0.125 : f32[24, 24]\n"                                                 \
	"  %a = dot %x, %w {lhs_contract = [1], rhs_contract = [0]} : f32[n, 24]\n"

/* The sum lies over %a, of which each element is read for that of the sum alone. */
static void
test_residual(void **state)
{
	(void)state;
	assert_int_equal(slots_of(HEAD "  %b = dot %a, %w {lhs_contract = [1], rhs_contract = [0]} "
				       ": f32[n, 24]\n"
				       "  %c = dot %b, %w {lhs_contract = [1], rhs_contract = [0]} "
				       ": f32[n, 24]\n"
				       "  %d = add %c, %a : f32[n, 24]\n"
				       "  %y = dot %d, %w {lhs_contract = [1], rhs_contract = [0]} "
				       ": f32[n, 24]\n"
				       "  out \"y\" = %y\n}\n"),
			 2);
}

/* What the product reads, and what is read turned or broadcast, keeps its memory meanwhile. */
static void
test_other_elements(void **state)
{
	(void)state;
	assert_int_equal(slots_of(HEAD "  %b = dot %a, %w {lhs_contract = [1], rhs_contract = [0]} "
				       ": f32[n, 24]\n"
				       "  %d = add %b, %a : f32[n, 24]\n"
				       "  %y = dot %d, %w {lhs_contract = [1], rhs_contract = [0]} "
				       ": f32[n, 24]\n"
				       "  out \"y\" = %y\n}\n"),
			 2);
	assert_int_equal(slots_of("module \"memory\" {\n"
				  "  in %x \"x\" : f32[24, 24]\n"
				  "  %w = const splat 0.125 : f32[24, 24]\n"
				  "  %a = dot %x, %w {lhs_contract = [1], rhs_contract = [0]} : "
				  "f32[24, 24]\n"
				  "  %b = dot %a, %w {lhs_contract = [1], rhs_contract = [0]} : "
				  "f32[24, 24]\n"
				  "  %c = dot %b, %w {lhs_contract = [1], rhs_contract = [0]} : "
				  "f32[24, 24]\n"
				  "  %t = transpose %a {perm = [1, 0]} : f32[24, 24]\n"
				  "  %d = add %c, %t : f32[24, 24]\n"
				  "  %y = dot %d, %w {lhs_contract = [1], rhs_contract = [0]} : "
				  "f32[24, 24]\n"
				  "  out \"y\" = %y\n}\n"),
			 3);
}

/* A row is read in several passes and written in the last. */
static void
test_rows(void **state)
{
	(void)state;
	assert_int_equal(slots_of(HEAD "  %m = reduce_max %a {axes = [1]} : f32[n, 1]\n"
				       "  %s = sub %a, %m : f32[n, 24]\n"
				       "  %e = exp %s : f32[n, 24]\n"
				       "  %t = reduce_sum %e {axes = [1]} : f32[n, 1]\n"
				       "  %p = div %e, %t : f32[n, 24]\n"
				       "  %y = dot %p, %w {lhs_contract = [1], rhs_contract = [0]} "
				       ": f32[n, 24]\n"
				       "  out \"y\" = %y\n}\n"),
			 1);
}

/* Written in the first pass, while the second reads the operand again: %e needs other memory. */
static void
test_passes(void **state)
{
	(void)state;
	assert_int_equal(slots_of(HEAD "  %e = mul %a, %a : f32[n, 24]\n"
				       "  %t = reduce_sum %e {axes = [1]} : f32[n, 1]\n"
				       "  %p = sub %a, %t : f32[n, 24]\n"
				       "  %f = dot %p, %w {lhs_contract = [1], rhs_contract = [0]} "
				       ": f32[n, 24]\n"
				       "  %y = dot %e, %w {lhs_contract = [1], rhs_contract = [0]} "
				       ": f32[n, 24]\n"
				       "  out \"f\" = %f\n  out \"y\" = %y\n}\n"),
			 2);
}

/* Of two results one takes the operand's memory. */
static void
test_two_results(void **state)
{
	(void)state;
	assert_int_equal(slots_of(HEAD "  %t = reduce_sum %a {axes = [1]} : f32[n, 1]\n"
				       "  %p = sub %a, %t : f32[n, 24]\n"
				       "  %q = mul %a, %t : f32[n, 24]\n"
				       "  %f = dot %p, %w {lhs_contract = [1], rhs_contract = [0]} "
				       ": f32[n, 24]\n"
				       "  %y = dot %q, %w {lhs_contract = [1], rhs_contract = [0]} "
				       ": f32[n, 24]\n"
				       "  out \"f\" = %f\n  out \"y\" = %y\n}\n"),
			 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_residual),    cmocka_unit_test(test_other_elements),
		cmocka_unit_test(test_rows),        cmocka_unit_test(test_passes),
		cmocka_unit_test(test_two_results),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
