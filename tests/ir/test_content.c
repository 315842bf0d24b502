/* test_content.c -- shape arithmetic is evaluated symbolically, and only as far as it is known. */
#include "harness_text.h"
#include <string.h>

static const char *
content_text(ml_context *cx, ml_module *m, ml_value *v)
{
	ml_builder b = ml_builder_at_end(m->main, NULL);
	int64_t count;
	const ml_dim *content = ml_content(&b, v, &count);
	ml_text t;

	ml_text_init(&t, &cx->arena);
	for (int64_t i = 0; content && i < count; i++) {
		ml_put(&t, i ? ", " : "");
		ml_dim_print(&t, content[i]);
	}
	return content ? t.at : "unknown";
}

static void
test_rows(void **state)
{
	/* b, s: sizes; %b, %s, %n their values as scalars; %v = {b, s, 384}; %x is data */
	static const char *const head =
		"module \"t\" {\n sym b in 1..\n sym s in 1..512\n in %x : s64[3]\n in %data : "
		"f32[b, s]\n"
		" in %p : bool[]\n"
		" %b = dim {value = [b]} : s64[]\n %s = dim {value = [s]} : s64[]\n"
		" %n = const {384} : s64[]\n"
		" %b1 = reshape %b {shape = [1]} : s64[1]\n %s1 = reshape %s {shape = [1]} : "
		"s64[1]\n"
		" %n1 = const {384} : s64[1]\n %v = concat %b1, %s1, %n1 : s64[3]\n"
		" %minus = const {-1} : s64[]\n %zero = const {0} : s64[]\n %two = const {2} : "
		"s64[]\n"
		" %i = const {1, -1} : s64[2]\n";
	static const struct {
		const char *body, *content;
	} row[] = {
		{"%y = const {1, -2} : s32[2]", "1, -2"},
		{"%y = const {1, 2, 3, 4} : s64[2, 2]", "unknown"},
		{"%y = const {1.0} : f32[1]", "unknown"},
		{"%y = const {true, false} : bool[2]", "1, 0"},
		{"%y = iota {shape = [3]} : s64[3]", "0, 1, 2"},
		{"%y = mul %b, %s : s64[]", "b*s"},
		{"%y = sub %v, %two : s64[3]", "b - 2, s - 2, 382"},
		{"%y = div %s, %two : s64[]", "s floordiv 2"},
		{"%y = neg %s : s64[]", "-s"},
		{"%q = neg %s : s64[] %y = div %q, %two : s64[]", "unknown"}, /* toward zero */
		{"%y = div %minus, %two : s64[]", "0"},
		{"%y = mod %minus, %two : s64[]", "1"},
		{"%y = rem %minus, %two : s64[]", "-1"},
		{"%y = div %s, %zero : s64[]", "0"},
		{"%y = mod %s, %b : s64[]", "s mod b"},
		{"%y = div %s, %x : s64[3]", "unknown"},
		{"%y = min %s, %n : s64[]", "min(s, 384)"},
		{"%y = max %s, %zero : s64[]", "s"},
		{"%y = eq %v, %minus : bool[3]", "0, 0, 0"},
		{"%y = eq %s, %n : bool[]", "unknown"},
		{"%y = lt %zero, %s : bool[]", "1"},
		{"%y = le %s, %zero : bool[]", "0"},
		{"%q = eq %v, %minus : bool[3] %y = select %q, %two, %v : s64[3]", "b, s, 384"},
		{"%y = select %p, %b, %b : s64[]", "b"},
		{"%y = select %p, %b, %s : s64[]", "unknown"},
		{"%q = lt %zero, %s : bool[] %y = not %q : bool[]", "0"},
		{"%y = cast %v {dtype = s32} : s32[3]", "b, s, 384"}, /* with a guard for b */
		{"%y = cast %v {dtype = s8} : s8[3]", "unknown"},
		{"%y = cast %n {dtype = u8} : u8[]", "128"},
		{"%y = cast %s {dtype = bool} : bool[]", "1"},
		{"%q = cast %s {dtype = f32} : f32[] %y = cast %q {dtype = s64} : s64[]",
		 "unknown"},
		{"%y = slice %v {start = [0], size = [2], step = [2]} : s64[2]", "b, 384"},
		{"%y = reverse %v {axes = [0]} : s64[3]", "384, s, b"},
		{"%y = gather %v, %i : s64[2]", "s, 384"},
		{"%y = gather %v, %two : s64[]", "384"},
		{"%y = gather %v, %n : s64[]", "unknown"}, /* fails when it runs */
		{"%y = wrap_index %minus {size = [s]} : s64[]", "s - 1"},
		{"%y = wrap_index %zero {size = [s]} : s64[]", "0"},
		{"%y = wrap_index %two {size = [s]} : s64[]", "unknown"}, /* s may be 1 */
		{"%y = gather %x, %two : s64[]", "unknown"},
		{"%y = reduce_prod %v {axes = [0]} : s64[1]", "384*b*s"},
		{"%y = reduce_sum %v {axes = [0]} : s64[1]", "b + s + 384"},
		{"%y = reduce_max %v {axes = []} : s64[3]", "b, s, 384"},
		{"%y = broadcast %s {shape = [2]} : s64[2]", "s, s"},
		{"%y = transpose %v {perm = [0]} : s64[3]", "b, s, 384"},
		{"%y = concat %v, %x : s64[6]", "unknown"},
		{"%q = const {9223372036854775807} : s64[] %y = add %q, %two : s64[]", "unknown"},
		{"%y = iota {shape = [65]} : s64[65]", "unknown"},
	};
	ml_context *cx = *state;

	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		ml_module *m = text_module(
			cx, ml_format(&cx->arena, "%s %s\n out \"y\" = %%y\n}", head, row[i].body));
		const char *got = content_text(cx, m, ml_in(m->main->last, 0));
		if (strcmp(got, row[i].content) != 0)
			fail_msg("%s: %s, not %s", row[i].body, got, row[i].content);
		ml_module_free(m);
	}
}

/* A size cast to s32 is right only while it fits: that is checked when the model runs. */
static void
test_cast_guard(void **state)
{
	ml_context *cx = *state;
	ml_module *m = text_module(cx, "module \"t\" {\n sym s in 0..512\n in %d : f32[b, s]\n"
				       " %b = dim {value = [b]} : s64[]\n"
				       " %s = dim {value = [s]} : s64[]\n"
				       " %c = cast %s {dtype = s32} : s32[]\n"
				       " %y = cast %b {dtype = s32} : s32[]\n"
				       " out \"c\" = %c\n out \"y\" = %y\n}");

	assert_int_equal(m->guards.count, 1);
	assert_int_equal(m->guards.at[0].kind, ML_GUARD_LE);
	assert_true(ml_dim_equals(m->guards.at[0].b, INT32_MAX));
	ml_module_free(m);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, text_setup, text_teardown)
	const struct CMUnitTest tests[] = {TEST(test_rows), TEST(test_cast_guard)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
