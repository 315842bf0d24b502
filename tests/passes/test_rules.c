/* test_rules.c -- the rule engine with rules of its own: orders, captures, sharing, fuel, remarks.
 */
#include "passes/pipeline.h"
#include "passes/rules.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static bool
never(ml_match *m)
{
	(void)ml_op1(m->b, ML_OP_exp, m->at[ML_LET_x]);
	return m->why = "it never does", false;
}

static bool
if_first_is_input(ml_match *m)
{
	return !GOT(m, x)->def;
}

static bool
swap_perm(ml_match *m)
{
	static const int64_t swapped[] = {1, 0};

	GOT_ATTR(m, q) = (ml_attr){.ints = swapped, .count = 2};
	return true;
}

/* clang-format off */
static const ml_rule siblings[] = { /* x y + x z: either order in all three */
	{"distribute", .lhs = OP(add, OP(mul, ANY(x), ANY(y)), OP(mul, ANY(x), ANY(z))), .rhs = OP(mul, ANY(x), OP(add, ANY(y), ANY(z)))},
};
static const ml_rule guarded[] = { /* the guard wants one of the two orders */
	{"input_first", .lhs = OP(add, ANY(x), OP(exp, ANY(y))), .rhs = OP(sub, ANY(x), ANY(y)), .when = if_first_is_input},
	{"any_input", .lhs = OP(mul, ANY(x), ANY(y)), .rhs = OP(sub, ANY(x), ANY(y)), .when = if_first_is_input},
};
static const ml_rule repeated[] = {
	{"same", .lhs = OP(sub, ANY(x), ANY(x)), .rhs = OP(neg, ANY(x))},
	{"inner", .lhs = OP(mul, AS(d, exp, ANY(x)), OP(neg, ANY(d))), .rhs = OP(tanh, ANY(x))},
};
static const ml_rule closed[] = {
	{"closed", .lhs = OP(exp, OP(neg, ANY(x))), .rhs = OP(tanh, ANY(x))},
};
static const ml_rule sharing[] = {
	{"sharing", .lhs = OP(exp, OP(neg, ANY(x))), .rhs = OP(tanh, ANY(x)), .shared = true},
};
static const ml_rule other_type[] = {
	{"other_type", .lhs = OP(exp, ANY(x)), .rhs = OP(isnan, ANY(x))},
};
static const ml_rule refused[] = {
	{"refused", .lhs = OP(exp, ANY(x)), .rhs = OP(neg, ANY(x)), .when = never},
};
static const ml_rule endless[] = {
	{"endless", .lhs = OP(exp, ANY(x)), .rhs = OP(exp, OP(neg, ANY(x)))},
};
static const ml_rule steps[] = { /* the second sees what the first built, at once */
	{"first", .lhs = OP(exp, ANY(x)), .rhs = OP(tanh, OP(abs, ANY(x)))},
	{"second", .lhs = OP(tanh, OP(abs, ANY(x))), .rhs = OP(sqrt, ANY(x))},
};
static const ml_rule attributes[] = {
	{"attributes", .lhs = OPA(transpose, ATTRS(ATTR(transpose, perm, p)), OP(neg, ANY(x))), .rhs = OPA(transpose, ATTRS(ATTR(transpose, perm, q)), ANY(x)), .when = swap_perm},
};
static const ml_rule numbers[] = {
	{"exact", .lhs = OP(mul, ANY(x), NUM(1)), .rhs = OP(neg, ANY(x))},
	{"few_digits", .lhs = OP(add, ANY(x), NUM(0.70711)), .rhs = OP(neg, ANY(x))},
	{"made", .lhs = OP(exp, ANY(x)), .rhs = OP(sub, ANY(x), NUM(2.5))},
};
/* clang-format on */

static ml_context cx;

typedef struct outcome {
	ml_arena arena;
	char *text; /* the module afterwards */
	int64_t fuel;
	int changes, fired[8];
} outcome;

static void
apply(outcome *o, const ml_rule *rules, int nrules, int64_t fuel, const char *body)
{
	ml_pass pass = {.name = "test", .rules = rules, .nrules = nrules};
	ml_pass_ctx px = {.cx = &cx,
			  .pass = &pass,
			  .scratch = &o->arena,
			  .fuel = &o->fuel,
			  .fired = o->fired};
	ml_module *m;
	ml_text t;

	memset(o->fired, 0, sizeof o->fired);
	ml_arena_init(&o->arena, &cx.memory);
	cx.diags.count = 0;
	cx.remarks = true;
	o->fuel = fuel;
	char *text = ml_format(&o->arena, "module \"m\" {\n%s}\n", body);
	assert_int_equal(ml_parse(&cx, text, strlen(text), NULL, NULL, &m), ML_OK);
	assert_int_equal(ml_run_rules(&px, m), ML_OK);
	assert_int_equal(ml_verify(m), ML_OK);
	o->changes = px.changes;
	ml_text_init(&t, &o->arena);
	ml_print(&t, m);
	o->text = t.at;
	ml_module_free(m);
}

#define APPLY(o, rules, fuel, body) apply(o, rules, (int)(sizeof rules / sizeof *rules), fuel, body)

static void
assert_has(const outcome *o, const char *text)
{
	if (!strstr(o->text, text))
		fail_msg("no '%s' in\n%s", text, o->text);
}

static int
remarks_of(const char *text)
{
	int n = 0;

	for (int i = 0; i < cx.diags.count; i++)
		n += strstr(cx.diags.at[i].text, text) != NULL;
	return n;
}

#define IN  "  in %x \"x\" : f32[2]\n  in %y \"y\" : f32[2]\n  in %z \"z\" : f32[2]\n"
#define T   " : f32[2]\n"
#define OUT "  out \"o\" = %o\n"

static void
test_orders_across_siblings(void **state)
{
	static const char *const bodies[] = {
		IN "  %a = mul %x, %y" T "  %b = mul %x, %z" T "  %o = add %a, %b" T OUT,
		IN "  %a = mul %y, %x" T "  %b = mul %x, %z" T "  %o = add %a, %b" T OUT,
		IN "  %a = mul %x, %y" T "  %b = mul %z, %x" T "  %o = add %a, %b" T OUT,
		IN "  %a = mul %y, %x" T "  %b = mul %z, %x" T "  %o = add %b, %a" T OUT,
	};

	(void)state;
	for (int i = 0; i < 4; i++) {
		outcome o;
		APPLY(&o, siblings, 9, bodies[i]);
		assert_int_equal(o.changes, 1);
		assert_int_equal(o.fuel, 8);
		assert_has(&o, "%4 = mul %0, %3");
		ml_arena_free(&o.arena);
	}
}

/* A guard that refuses one order of operands still gets the other. */
static void
test_guard_chooses_order(void **state)
{
	outcome o;

	(void)state;
	APPLY(&o, guarded, 9, IN "  %a = exp %y" T "  %b = exp %a" T "  %o = add %a, %b" T OUT);
	assert_int_equal(o.changes, 0);
	ml_arena_free(&o.arena);
	APPLY(&o, guarded, 9, IN "  %a = exp %y" T "  %o = mul %a, %x" T OUT);
	assert_int_equal(o.fired[1], 1);
	assert_has(&o, "sub %0, %3");
	ml_arena_free(&o.arena);
}

static void
test_repeated_captures(void **state)
{
	outcome o;

	(void)state;
	APPLY(&o, repeated, 9, IN "  %o = sub %x, %x" T OUT);
	assert_int_equal(o.fired[0], 1);
	ml_arena_free(&o.arena);
	APPLY(&o, repeated, 9, IN "  %o = sub %x, %y" T OUT);
	assert_int_equal(o.changes, 0);
	ml_arena_free(&o.arena);
	APPLY(&o, repeated, 9, IN "  %d = exp %x" T "  %n = neg %d" T "  %o = mul %n, %d" T OUT);
	assert_int_equal(o.fired[1], 1);
	assert_has(&o, "%3 = tanh %0");
	ml_arena_free(&o.arena);
	APPLY(&o, repeated, 9,
	      IN "  %d = exp %x" T "  %e = exp %x" T "  %n = neg %d" T "  %o = mul %n, %e" T OUT);
	assert_int_equal(o.changes, 0);
	ml_arena_free(&o.arena);
}

/* An inner value that is read outside, or is a result, keeps a rule from firing unless shared. */
static void
test_inner_values(void **state)
{
	static const char read[] = IN "  %n = neg %x" T "  %e = exp %n" T "  %o = add %e, %n" T OUT;
	static const char result[] =
		IN "  %n = neg %x" T "  %o = exp %n" T OUT "  out \"n\" = %n\n";
	outcome o;

	(void)state;
	APPLY(&o, closed, 9, read);
	assert_int_equal(o.changes, 0);
	assert_int_equal(remarks_of("closed missed: an inner value is used elsewhere"), 1);
	ml_arena_free(&o.arena);
	APPLY(&o, closed, 9, result);
	assert_int_equal(o.changes, 0);
	ml_arena_free(&o.arena);
	APPLY(&o, sharing, 9, result);
	assert_int_equal(o.changes, 1);
	assert_int_equal(remarks_of("missed"), 0);
	assert_has(&o, "neg %0");
	assert_has(&o, "tanh %0");
	ml_arena_free(&o.arena);
}

/* What stands in the way in the first round may be gone in the next: nothing was missed then. */
static void
test_missed_means_at_the_end(void **state)
{
	outcome o;

	(void)state;
	APPLY(&o, closed, 9,
	      IN "  %n = neg %x" T "  %e = exp %n" T "  %p = neg %x" T "  %o = exp %p" T
		 "  %u = mul %e, %n" T OUT);
	assert_int_equal(o.changes, 1);
	assert_has(&o, "tanh %0");
	assert_int_equal(remarks_of("missed"), 0);
	ml_arena_free(&o.arena);
}

/* Nothing of a replacement that comes to nothing stays behind. */
static void
test_refusals_leave_nothing(void **state)
{
	static const char body[] = IN "  %o = exp %x" T OUT;
	outcome o;

	(void)state;
	APPLY(&o, other_type, 9, body);
	assert_int_equal(o.changes, 0);
	assert_int_equal(remarks_of("other_type missed: the replacement has another type"), 1);
	assert_null(strstr(o.text, "isnan"));
	assert_int_equal(o.fuel, 9);
	ml_arena_free(&o.arena);
	APPLY(&o, refused, 9, body);
	assert_int_equal(o.changes, 0);
	assert_int_equal(remarks_of("refused missed: it never does"), 1);
	assert_has(&o, "%3 = exp %0");
	assert_null(strstr(o.text, "%4"));
	ml_arena_free(&o.arena);
}

static void
test_fuel(void **state)
{
	static const char body[] = IN "  %a = exp %x" T "  %b = exp %a" T "  %o = exp %b" T OUT;
	outcome o;

	(void)state;
	APPLY(&o, steps, 0, body);
	assert_int_equal(o.changes, 0);
	ml_arena_free(&o.arena);
	APPLY(&o, steps, 3, body);
	assert_int_equal(o.changes, 3);
	assert_int_equal(o.fuel, 0);
	ml_arena_free(&o.arena);
	APPLY(&o, steps, 100, body);
	assert_int_equal(o.fuel, 94);
	assert_int_equal(o.fired[0], 3);
	assert_int_equal(o.fired[1], 3);
	assert_has(&o, "%5 = sqrt %4");
	ml_arena_free(&o.arena);
}

/* A rule of a plugin that feeds itself ends too. */
static void
test_endless_rules_end(void **state)
{
	outcome o;

	(void)state;
	APPLY(&o, endless, INT64_MAX, IN "  %o = exp %x" T OUT);
	assert_true(o.changes > 0 && o.changes < 10000);
	ml_arena_free(&o.arena);
}

static void
test_attributes_and_provenance(void **state)
{
	outcome o;

	(void)state;
	APPLY(&o, attributes, 9,
	      "  in %x \"x\" : f32[2, 2]\n"
	      "  %n = neg %x : f32[2, 2] @\"inner\":Neg-13[1]\n"
	      "  %o \"y\" = transpose %n {perm = [0, 1]} : f32[2, 2] "
	      "@\"outer\":Transpose-13[2]\n" OUT);
	assert_has(&o, "%1 \"y\" = transpose %0 {perm = [1, 0]} : f32[2, 2] "
		       "@\"outer\":Transpose-13[2] @\"inner\":Neg-13[1]");
	ml_arena_free(&o.arena);
}

static void
test_numbers(void **state)
{
	outcome o;

	(void)state;
	APPLY(&o, numbers, 9,
	      IN "  %c = const {1.000001} : f32[]\n"
		 "  %e = const {0.7072} : f32[]\n"
		 "  %a = mul %x, %c" T "  %b = add %a, %e" T "  %o = add %b, %e" T OUT);
	assert_int_equal(o.changes, 0);
	ml_arena_free(&o.arena);
	APPLY(&o, numbers, 9,
	      IN "  %c = const {1, 1} : f32[2]\n  %d = const {0.7071068} : f32[]\n"
		 "  %a = mul %x, %c" T "  %b = add %a, %d" T "  %o = exp %b" T OUT);
	assert_int_equal(o.changes, 3);
	assert_has(&o, "const {2.5} : f32[]");
	ml_arena_free(&o.arena);
}

/* No pattern has more orders than the engine tries. */
static void
test_patterns_fit_the_engine(void **state)
{
	(void)state;
	for (int i = 0; i < ml_stage_count; i++)
		for (int k = 0; k < ml_stages[i].pass->nrules; k++) {
			const ml_rule *rule = &ml_stages[i].pass->rules[k];
			if (ml_rule_commuting(rule) > ML_MATCH_COMMUTING)
				fail_msg("%s has too many commuting operators", rule->name);
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_orders_across_siblings),
		cmocka_unit_test(test_guard_chooses_order),
		cmocka_unit_test(test_repeated_captures),
		cmocka_unit_test(test_inner_values),
		cmocka_unit_test(test_missed_means_at_the_end),
		cmocka_unit_test(test_refusals_leave_nothing),
		cmocka_unit_test(test_fuel),
		cmocka_unit_test(test_endless_rules_end),
		cmocka_unit_test(test_attributes_and_provenance),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_patterns_fit_the_engine),
	};

	cx.memory = ml_memory_libc();
	ml_arena_init(&cx.arena, &cx.memory);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
