/* test_dim.c -- canonical forms, proofs, text form of dims; random expressions against plain
 * arithmetic. */
#include "ir/dim.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

typedef struct fixture {
	ml_memory memory;
	ml_arena arena;
	ml_dims *dims;
} fixture;

static int
setup(void **state)
{
	static fixture f;

	f.memory = ml_memory_libc();
	ml_arena_init(&f.arena, &f.memory);
	f.dims = ml_dims_new(&f.memory);
	*state = &f;
	return 0;
}

static int
teardown(void **state)
{
	fixture *f = *state;

	ml_dims_free(f->dims);
	ml_arena_free(&f->arena);
	return 0;
}

static ml_dim
dim(fixture *f, const char *text)
{
	const char *at = text, *end = text + strlen(text);
	ml_dim d = ml_dim_parse(f->dims, &at, end);

	if (!d || at != end)
		fail_msg("'%s' does not parse", text);
	return d;
}

static const char *
text(fixture *f, ml_dim d)
{
	ml_text t;

	ml_text_init(&t, &f->arena);
	ml_dim_print(&t, d);
	return t.at;
}

static void
range(fixture *f, const char *name, int64_t lo, int64_t hi)
{
	ml_sym *s = ml_sym_named(f->dims, name, strlen(name));

	s->lo = lo;
	s->hi = hi;
}

static void
test_print_and_parse(void **state)
{
	static const struct {
		const char *in, *out;
	} row[] = {
		{"0", "0"},
		{"2+b*s", "b*s + 2"},
		{"s*b", "b*s"},
		{"-(3 - x)", "x - 3"},
		{"-2*x - y", "-2*x - y"},
		{"(a+b)*(a-b)", "a*a - b*b"},
		{"(h - 1) floordiv 2 + 1", "(h - 1) floordiv 2 + 1"},
		{"(h + 1) floordiv 2", "(h - 1) floordiv 2 + 1"},
		{"3*(x floordiv 2)", "3*(x floordiv 2)"},
		{"min(s, 512)", "min(s, 512)"},
		{"min(512, s)", "min(s, 512)"},
		{"max(a, b)*max(b, a)", "max(a, b)*max(a, b)"},
		{"x mod 4 + 1", "x mod 4 + 1"},
		{"\"my dim\" + \"min\"", "\"min\" + \"my dim\""},
		{"\"a\\\"\\x0a\"", "\"a\\\"\\x0a\""},
		{"?3 + 1", "?3 + 1"},
	};
	fixture *f = *state;

	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		const char *printed = text(f, dim(f, row[i].in));
		assert_string_equal(printed, row[i].out);
		assert_ptr_equal(dim(f, printed), dim(f, row[i].in));
	}
}

static void
test_syntax_errors(void **state)
{
	static const char *const bad[] = {
		"",         "+",     "a b+", "min(a)", "(a",   "99999999999999999999",
		"\"a",      "a mod", "?",    "mod",    "a**b", "min a, b",
		"\"\\x0\"", "max(,)"};
	fixture *f = *state;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		const char *at = bad[i], *end = at + strlen(at);
		ml_dim d = ml_dim_parse(f->dims, &at, end);
		if (d && at == end)
			fail_msg("'%s' parses", bad[i]);
	}
	char deep[1000];
	memset(deep, '(', sizeof deep);
	const char *at = deep;
	assert_null(ml_dim_parse(f->dims, &at, deep + sizeof deep));
}

static void
test_equal_is_same(void **state)
{
	static const char *const pair[][2] = {
		{"b*s*384 floordiv 384", "b*s"},
		{"(4*x + 2) floordiv 2", "2*x + 1"},
		{"(x floordiv 2) floordiv 3", "x floordiv 6"},
		{"(6*x + 3) floordiv 4", "(3*x + 1) floordiv 2"},
		{"x floordiv 4 * 4 + x mod 4", "x"},
		{"b*(x floordiv n)*n + b*(x mod n)", "b*x"},
		{"(n*x + 1) floordiv n", "x + 1 floordiv n"},
		{"(n*x) mod n", "0"},
		{"(x + 8) mod 4", "x mod 4"},
		{"min(x, x + 1)", "x"},
		{"max(min(x, 512), x)", "x"},
		{"min(min(x, y), x)", "min(x, y)"},
		{"x ceildiv 4", "(x + 3) floordiv 4"},
		{"max(x, 0)", "x"},
		{"(x mod 4) floordiv 4", "0"},
		{"x floordiv 1 + x mod 1", "x"},
		{"0 floordiv x*0", "0"},
	};
	fixture *f = *state;

	range(f, "n", 1, INT64_MAX);
	range(f, "x", 1, INT64_MAX);
	for (size_t i = 0; i < sizeof pair / sizeof *pair; i++)
		if (dim(f, pair[i][0]) != dim(f, pair[i][1]))
			fail_msg("%s is %s, not %s", pair[i][0], text(f, dim(f, pair[i][0])),
				 text(f, dim(f, pair[i][1])));
}

static void
test_poison(void **state)
{
	fixture *f = *state;
	ml_dim d = dim(f, "9223372036854775807");

	assert_true(ml_dim_is_bad(ml_dim_add(f->dims, d, ml_dim_int(f->dims, 1))));
	assert_true(ml_dim_is_bad(ml_dim_mul(f->dims, d, ml_dim_int(f->dims, -2))));
	assert_true(ml_dim_is_bad(dim(f, "x floordiv y"))); /* y may be 0 */
	assert_true(ml_dim_is_bad(dim(f, "x mod 0")));
	ml_dim bad = dim(f, "x floordiv 0");
	assert_true(ml_dim_is_bad(ml_dim_sub(f->dims, bad, bad)));
	assert_true(ml_dim_is_bad(ml_dim_min(f->dims, bad, d)));
	assert_false(ml_dim_is_int(bad, NULL));
	/* Expressions of hostile size stop growing. */
	d = dim(f, "x + y + 1");
	for (int i = 0; i < 20; i++)
		d = ml_dim_mul(f->dims, d, d);
	assert_true(ml_dim_is_bad(d));
	d = dim(f, "x");
	for (int i = 0; i < 300; i++)
		d = ml_dim_floordiv(f->dims, ml_dim_add(f->dims, dim(f, "y"), d), dim(f, "x + 2"));
	assert_true(ml_dim_is_bad(d));
}

static void
test_range(void **state)
{
	fixture *f = *state;
	int64_t lo, hi;

	range(f, "s", 1, 512);
	range(f, "h", 0, INT64_MAX);
	ml_dim_range(dim(f, "2*s - 1"), &lo, &hi);
	assert_int_equal(lo, 1);
	assert_int_equal(hi, 1023);
	ml_dim_range(dim(f, "s floordiv 3"), &lo, &hi);
	assert_int_equal(lo, 0);
	assert_int_equal(hi, 170);
	ml_dim_range(dim(f, "h*s - s"), &lo, &hi);
	assert_int_equal(lo, -512);
	assert_int_equal(hi, INT64_MAX);
	ml_dim_range(dim(f, "h mod s"), &lo, &hi);
	assert_int_equal(lo, 0);
	assert_int_equal(hi, 511);
	ml_dim_range(dim(f, "s*s*s*s*s*s*s*s"), &lo, &hi);
	assert_int_equal(lo, 1);
	assert_int_equal(hi, INT64_MAX);
}

static void
test_proofs(void **state)
{
	static const char *const less[][2] = {
		{"min(s, 512)", "s"},
		{"b*min(s, t)", "b*s"},
		{"s", "max(s, t)"},
		{"s - 3", "s"},
		{"s", "b1*s"},
		{"2*((s - 1) floordiv 2) + 1", "s"},
		{"s - max(s - 512, 0)", "s"},
		{"(s + 1) floordiv 2", "s + 1"},
		{"s mod 7", "s"},
	};
	static const char *const unknown[][2] = {{"s", "t"}, {"s", "b*s"}, {"s", "min(s, t)"}};
	fixture *f = *state;

	range(f, "b1", 1, INT64_MAX);
	for (size_t i = 0; i < sizeof less / sizeof *less; i++)
		if (!ml_dim_le(f->dims, dim(f, less[i][0]), dim(f, less[i][1])))
			fail_msg("%s <= %s", less[i][0], less[i][1]);
	for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
		assert_false(ml_dim_le(f->dims, dim(f, unknown[i][0]), dim(f, unknown[i][1])));
	assert_true(ml_dim_never_equal(f->dims, dim(f, "s"), dim(f, "s + 1")));
	assert_true(ml_dim_never_equal(f->dims, dim(f, "2*s"), dim(f, "4*t + 1")));
	assert_true(ml_dim_never_equal(f->dims, dim(f, "s"), dim(f, "-1")));
	assert_false(ml_dim_never_equal(f->dims, dim(f, "s"), dim(f, "t")));
	assert_false(ml_dim_never_equal(f->dims, dim(f, "s"), dim(f, "1")));
}

static void
test_divides(void **state)
{
	fixture *f = *state;
	ml_dim q;

	assert_true(ml_dim_divides(f->dims, dim(f, "b*s*384"), dim(f, "b*12"), &q));
	assert_ptr_equal(q, dim(f, "s*32"));
	assert_true(ml_dim_divides(f->dims, dim(f, "b*s + b*t"), dim(f, "s + t"), &q));
	assert_ptr_equal(q, dim(f, "b"));
	assert_false(ml_dim_divides(f->dims, dim(f, "s"), dim(f, "2"), &q));
	assert_false(ml_dim_divides(f->dims, dim(f, "s"), dim(f, "0"), &q));
}

static void
test_symbols(void **state)
{
	fixture *f = *state;
	ml_sym *s = ml_sym_named(f->dims, "seq", 3);
	int before = ml_sym_count(f->dims);

	assert_ptr_equal(ml_sym_named(f->dims, "sequence", 3), s);
	assert_ptr_equal(ml_sym_at(f->dims, s->index), s);
	ml_sym *fresh = ml_sym_fresh(f->dims, dim(f, "seq"));
	assert_int_equal(ml_sym_count(f->dims), before + 1);
	assert_true(fresh->fresh);
	assert_true(ml_dim_le(f->dims, ml_dim_sym(f->dims, fresh), dim(f, "seq")));
	ml_sym *other = ml_sym_fresh(f->dims, NULL);
	assert_string_not_equal(fresh->name, other->name);
	assert_int_equal(other->hi, INT64_MAX);
}

static void
test_substitute(void **state)
{
	fixture *f = *state;
	ml_dim d = dim(f, "p*q + (p - 1) floordiv 2 + min(q, 7)");
	ml_dim replacement[100] = {NULL};

	assert_true(ml_sym_count(f->dims) < 100);
	replacement[ml_sym_named(f->dims, "p", 1)->index] = dim(f, "2*q + 1");
	assert_ptr_equal(ml_dim_substitute(f->dims, d, replacement),
			 dim(f, "2*q*q + 2*q + min(q, 7)"));
}

/* ---- random expressions: value of the canonical form = value of the plain one ---- */

enum { SYMBOLS = 3, EXPRESSIONS = 4000 };

static uint32_t
next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static int64_t
floor_of(int64_t a, int64_t b)
{
	return a / b - (a % b && (a % b < 0) != (b < 0));
}

typedef struct sample {
	ml_dim d;
	int64_t value;
	bool defined; /* the plain computation neither overflowed nor divided by 0 */
} sample;

static sample
random_expression(fixture *f, uint32_t *seed, const int64_t *symbol, int depth)
{
	uint32_t kind = next_random(seed) % (depth ? 10 : 2);
	sample s = {.defined = true}, x, y;

	if (kind == 0) {
		s.value = (int64_t)(next_random(seed) % 13) - 4;
		s.d = ml_dim_int(f->dims, s.value);
		return s;
	}
	if (kind == 1) {
		int i = (int)(next_random(seed) % SYMBOLS);
		s.value = symbol[i];
		s.d = ml_dim_sym(f->dims, ml_sym_at(f->dims, i));
		return s;
	}
	x = random_expression(f, seed, symbol, depth - 1);
	y = random_expression(f, seed, symbol, depth - 1);
	s.defined = x.defined && y.defined;
	switch (kind) {
	case 2:
	case 3:
		s.d = ml_dim_add(f->dims, x.d, y.d);
		s.value = x.value + y.value;
		break;
	case 4:
		s.d = ml_dim_sub(f->dims, x.d, y.d);
		s.value = x.value - y.value;
		break;
	case 5:
		s.d = ml_dim_mul(f->dims, x.d, y.d);
		s.defined = s.defined && !__builtin_mul_overflow(x.value, y.value, &s.value) &&
			    s.value < 1000000 && s.value > -1000000;
		break;
	case 6:
		s.d = ml_dim_min(f->dims, x.d, y.d);
		s.value = x.value < y.value ? x.value : y.value;
		break;
	case 7:
		s.d = ml_dim_max(f->dims, x.d, y.d);
		s.value = x.value > y.value ? x.value : y.value;
		break;
	default:
		s.d = kind == 8 ? ml_dim_floordiv(f->dims, x.d, y.d)
				: ml_dim_mod(f->dims, x.d, y.d);
		s.defined = s.defined && y.value != 0;
		if (!s.defined)
			break;
		s.value = floor_of(x.value, y.value);
		if (kind == 9)
			s.value = x.value - y.value * s.value;
	}
	return s;
}

static void
test_random(void **state)
{
	fixture *f = *state;
	uint32_t seed = 1;
	int compared = 0;

	for (int i = 0; i < SYMBOLS; i++)
		range(f, (const char *[]){"i", "j", "k"}[i], i, i == 2 ? 9 : INT64_MAX);
	for (int i = 0; i < EXPRESSIONS; i++) {
		int64_t symbol[SYMBOLS], value, lo, hi;
		for (int k = 0; k < SYMBOLS; k++)
			symbol[k] = k + (int64_t)(next_random(&seed) % 8);
		sample s = random_expression(f, &seed, symbol, 4);
		if (!s.defined || ml_dim_is_bad(s.d))
			continue;
		compared++;
		if (!ml_dim_eval(s.d, symbol, &value) || value != s.value)
			fail_msg("%s at %d %d %d is %d, not %d", text(f, s.d), (int)symbol[0],
				 (int)symbol[1], (int)symbol[2], (int)value, (int)s.value);
		ml_dim_range(s.d, &lo, &hi);
		assert_true(lo <= value && value <= hi);
		if (ml_dim_le(f->dims, ml_dim_int(f->dims, 1), s.d))
			assert_true(value >= 1);
		if (ml_dim_never_equal(f->dims, s.d, ml_dim_int(f->dims, 2)))
			assert_true(value != 2);
		assert_ptr_equal(dim(f, text(f, s.d)), s.d);
	}
	assert_true(compared > EXPRESSIONS / 3);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_print_and_parse), TEST(test_syntax_errors), TEST(test_equal_is_same),
		TEST(test_poison),          TEST(test_range),         TEST(test_proofs),
		TEST(test_divides),         TEST(test_symbols),       TEST(test_substitute),
		TEST(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
