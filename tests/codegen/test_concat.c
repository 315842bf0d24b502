/* test_concat.c -- operands of concatenations are computed where the whole lies, where they may be;
 * run at several sizes, on every level, as the evaluator does. */
#include "harness_model.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

typedef struct shape {
	int steps, slots;
} shape;

static shape
shape_of(const char *text)
{
	static const int64_t sizes[] = {1, 7, 64, 300};
	const ml_target *level[ML_LEVEL_COUNT];
	shape s = {0, 0};

	for (int l = model_levels(level); l-- > 0;) {
		model m;
		model_open(&m, text);
		const ml_plan *plan = model_plan(&m);
		s = (shape){plan->main->steps.count, plan->slots.count};
		model_compile(&m, level[l]);
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
			model_check(&m, &sizes[i]);
		model_close(&m);
	}
	return s;
}

static void
assert_shape(const char *text, int steps, int slots)
{
	shape s = shape_of(text);

	assert_int_equal(s.steps, steps);
	assert_int_equal(s.slots, slots);
}

#define DOT(y, x, w, k)                                                                            \
	"  %" y " = dot %" x ", %" w " {lhs_contract = [1], rhs_contract = [0]} : f32[n, " k "]\n"
#define HEAD                                                                                       \
	"module \"concat\" {\n  sym n\n"                                                           \
	"  in %x \"x\" : f32[n, 24]\n"                                                             \
	"  %w = const splat 0.125 : f32[24, 24]\n"                                                 \
	"  %v = const splat 0.0625 : f32[48, 24]\n"                                                \
	"  %u = const splat 0.0625 : f32[72, 24]\n" DOT("a", "x", "w", "24")                       \
		DOT("b", "a", "w", "24")
#define OUT(y) "  out \"y\" = %" y "\n}\n"

/* Both products write columns of one matrix, which the third reads. */
static void
test_branches(void **state)
{
	(void)state;
	assert_shape(HEAD "  %c = concat %a, %b {axis = 1} : f32[n, 48]\n" DOT("y", "c", "v", "24")
			     OUT("y"),
		     3, 1);
}

/* Each layer reads all before it: one matrix grows, parts of parts and all. */
static void
test_dense(void **state)
{
	(void)state;
	assert_shape(HEAD "  %c = concat %a, %b {axis = 1} : f32[n, 48]\n"
			  "  %s = tanh %c : f32[n, 48]\n" DOT("d", "s", "v", "24") /* */
		     "  %e = concat %c, %d {axis = 1} : f32[n, 72]\n" DOT("y", "e", "u", "24")
			     OUT("y"),
		     5, 2);
}

/* An input is copied; a product that is a result of the model, too; a part stands once. */
static void
test_others(void **state)
{
	(void)state;
	assert_shape(HEAD "  %c = concat %x, %b {axis = 1} : f32[n, 48]\n" DOT("y", "c", "v", "24")
			     OUT("y"),
		     4, 2);
	assert_shape(HEAD "  %c = concat %a, %b {axis = 1} : f32[n, 48]\n" DOT(
			     "y", "c", "v", "24") "  out \"b\" = %b\n" OUT("y"),
		     4, 1);
	assert_shape(HEAD "  %c = concat %b, %b {axis = 1} : f32[n, 48]\n" DOT("y", "c", "v", "24")
			     OUT("y"),
		     4, 2);
}

/* Most operands would be copied all the same: one kernel does that at once. */
static void
test_few_parts(void **state)
{
	(void)state;
	assert_shape(HEAD "  %c = concat %x, %b, %x {axis = 1} : f32[n, 72]\n" DOT("y", "c", "u",
										   "24") OUT("y"),
		     4, 2);
}

/* Columns that are narrow, and what is summed on the fly, keep their own memory. */
static void
test_narrow(void **state)
{
	(void)state;
	assert_shape(HEAD "  %r = reduce_sum %a {axes = [1]} : f32[n, 1]\n"
			  "  %q = reduce_max %b {axes = [1]} : f32[n, 1]\n"
			  "  %c = concat %r, %q {axis = 1} : f32[n, 2]\n"
			  "  out \"y\" = %c\n}\n",
		     5, 3);
}

/* The whole is what the model gives; parts are written turned, and along another axis. */
static void
test_views(void **state)
{
	(void)state;
	assert_shape(HEAD "  %f = transpose %a {perm = [1, 0]} : f32[24, n]\n"
			  "  %g = tanh %b : f32[n, 24]\n"
			  "  %h = transpose %g {perm = [1, 0]} : f32[24, n]\n"
			  "  %c = concat %f, %h {axis = 0} : f32[48, n]\n"
			  "  out \"y\" = %c\n}\n",
		     3, 1);
	assert_shape(HEAD "  %c = concat %a, %b {axis = 0} : f32[2*n, 24]\n"
			  "  %d = concat %c, %c {axis = 1} : f32[2*n, 48]\n"
			  "  out \"y\" = %d\n}\n",
		     3, 0);
}

/* The whole is stored turned, as rotated heads are: it is one kernel that reads the parts. */
static void
test_stored_through_view(void **state)
{
	(void)state;
	assert_shape(HEAD "  %c = concat %a, %b {axis = 1} : f32[n, 48]\n"
			  "  %t = transpose %c {perm = [1, 0]} : f32[48, n]\n"
			  "  out \"y\" = %t\n}\n",
		     3, 2);
}

/* Rows of a part are read as rows of the whole: in softmax, packed, and behind a reshape. */
static void
test_readers(void **state)
{
	(void)state;
	shape_of(HEAD "  %m = reduce_max %a {axes = [1]} : f32[n, 1]\n"
		      "  %s = sub %a, %m : f32[n, 24]\n"
		      "  %e = exp %s : f32[n, 24]\n"
		      "  %k = dot %b, %a {lhs_contract = [1], rhs_contract = [1]} : f32[n, n]\n"
		      "  %c = concat %a, %b, %e {axis = 1} : f32[n, 72]\n" DOT(
			      "y", "c", "u", "24") "  out \"k\" = %k\n" OUT("y"));
	shape_of(HEAD "  %r = reshape %a {shape = [24*n]} : f32[24*n]\n"
		      "  %t = tanh %r : f32[24*n]\n"
		      "  %c = concat %a, %b {axis = 1} : f32[n, 48]\n" DOT(
			      "y", "c", "v", "24") "  out \"t\" = %t\n" OUT("y"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_branches),
		cmocka_unit_test(test_dense),
		cmocka_unit_test(test_others),
		cmocka_unit_test(test_few_parts),
		cmocka_unit_test(test_narrow),
		cmocka_unit_test(test_views),
		cmocka_unit_test(test_stored_through_view),
		cmocka_unit_test(test_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
