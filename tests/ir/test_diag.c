/* test_diag.c -- what users read: the printed form, escaping, and merging of provenance. */
#include "ir/diag.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

static ml_context cx;

static int
setup(void **state)
{
	(void)state;
	cx = (ml_context){.memory = ml_memory_libc()};
	ml_arena_init(&cx.arena, &cx.memory);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	ml_arena_free(&cx.arena);
	return 0;
}

static const char *
printed(int i)
{
	ml_text t;

	ml_text_init(&t, &cx.arena);
	ml_diag_print(&t, &cx, &cx.diags.at[i]);
	return t.at;
}

static void
test_printed_form(void **state)
{
	ml_prov at = {.node = "/encoder/0/MatMul_1", .op = "MatMul", .opset = 13, .index = 57};
	ml_prov two = {.node = "a", .op = "Add", .opset = 7, .index = 0, .next = &at};
	ml_prov nameless = {.op = "Relu", .index = -1};

	(void)state;
	cx.file = "bert.onnx";
	cx.stage = "infer";
	assert_int_equal(
		ml_error(&cx, ML_ERR_SHAPE, &at, "inner dimensions %d and %d differ", 384, 312),
		ML_ERR_SHAPE);
	ml_hint(&cx, "transpose %s", "B");
	assert_string_equal(printed(0),
			    "bert.onnx: node '/encoder/0/MatMul_1' (#57, MatMul-13): error: inner "
			    "dimensions 384 and 312 differ [shape, in infer]\nhint: transpose B");
	ml_warn(&cx, &two, "odd");
	assert_string_equal(printed(1),
			    "bert.onnx: node 'a' (#0, Add-7) and 1 more: warning: odd [in infer]");
	cx.file = cx.stage = NULL;
	ml_error(&cx, ML_ERR_IO, &nameless, "gone");
	assert_string_equal(printed(2), "node (Relu): error: gone [io]");
	ml_remark(&cx, NULL, "not asked for");
	assert_int_equal(cx.diags.count, 3);
	cx.remarks = true;
	ml_remark(&cx, NULL, "fused");
	assert_string_equal(printed(3), "remark: fused");
	assert_int_equal(cx.errors, 2);
}

/* Diagnostics are read after the model, module or pass they speak of is gone. */
static void
test_provenance_is_kept(void **state)
{
	char node[] = "n", op[] = "Add";
	ml_prov at = {.node = node, .op = op, .index = 0};

	(void)state;
	ml_error(&cx, ML_ERR_VALUE, &at, "x");
	node[0] = op[0] = '?';
	at.index = 99;
	assert_string_equal(printed(0), "node 'n' (#0, Add): error: x [value]");
}

static void
test_escaping(void **state)
{
	static const struct {
		const char *name, *shown;
	} cases[] = {
		{"plain/Name_1:0", "plain/Name_1:0"},
		{"it's \"q\" \\", "it\\'s \\\"q\\\" \\\\"},
		{"a\nb\tc\x1b[31m\x7f", "a\\x0ab\\x09c\\x1b[31m\\x7f"},
		{"\xc3\xa9\xe6\xbc\xa2\xf0\x9f\x98\x80", "\xc3\xa9\xe6\xbc\xa2\xf0\x9f\x98\x80"},
		{"\xff\xfe", "\\xff\\xfe"},
		{"\xc3", "\\xc3"},                            /* cut short */
		{"\xc0\xaf", "\\xc0\\xaf"},                   /* overlong */
		{"\xed\xa0\x80", "\\xed\\xa0\\x80"},          /* surrogate */
		{"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* past U+10FFFF */
		{"\xc2\x9b", "\\xc2\\x9b"},                   /* C1 control */
		{"\xe2\x80\xae"
		 "abc",
		 "\\xe2\\x80\\xae"
		 "abc"}, /* right-to-left override */
		{NULL, ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_string_equal(ml_escaped(&cx.arena, cases[i].name), cases[i].shown);
	/* Text that was not escaped by whoever wrote it stays harmless, and quotes stay quotes. */
	ml_error(&cx, ML_ERR_FORMAT, NULL, "'%s'", "a\nb");
	assert_string_equal(printed(0), "error: 'a\\x0ab' [format]");
}

static void
test_merge(void **state)
{
	ml_prov a = {.node = "a", .op = "Add", .index = 1};
	ml_prov b = {.node = "b", .op = "Mul", .index = 2, .next = &a};
	ml_prov c = {.node = "c", .op = "Mul", .index = 3};
	const ml_prov *m;

	(void)state;
	assert_ptr_equal(ml_prov_merge(&cx.arena, NULL, &a), &a);
	assert_ptr_equal(ml_prov_merge(&cx.arena, &a, NULL), &a);
	assert_ptr_equal(ml_prov_merge(&cx.arena, &b, &a), &b); /* nothing new */
	m = ml_prov_merge(&cx.arena, &c, &b);
	assert_string_equal(m->node, "c");
	assert_string_equal(m->next->node, "b");
	assert_string_equal(m->next->next->node, "a");
	assert_null(m->next->next->next);
	assert_null(c.next); /* lists are shared, never changed */
	assert_ptr_equal(ml_prov_merge(&cx.arena, m, &b), m);
}

static void
collect(void *user, ml_severity severity, const char *line)
{
	ml_put(user, "%d %s|", severity, line);
}

static void
test_report(void **state)
{
	ml_text lines;

	(void)state;
	ml_text_init(&lines, &cx.arena);
	cx.log = collect;
	cx.log_user = &lines;
	ml_error(&cx, ML_ERR_ARG, NULL, "one");
	ml_hint(&cx, "late");
	ml_diag_report(&cx);
	ml_diag_report(&cx);
	ml_warn(&cx, NULL, "two");
	ml_diag_report(&cx);
	assert_string_equal(lines.at, "0 error: one [argument]\nhint: late|1 warning: two|");
}

static void
test_statuses(void **state)
{
	(void)state;
#define ML_STATUS(number, name, tag, meaning)                                                      \
	assert_string_equal(ml_status_text(name), meaning);                                        \
	assert_string_equal(ml_status_tag(name), tag);
#include "mlopt/status.def"
	assert_string_equal(ml_status_text((ml_status)99), "unknown status");
	assert_string_equal(ml_status_tag((ml_status)99), "unknown");
}

int
main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_printed_form), TEST(test_provenance_is_kept),
		TEST(test_escaping),     TEST(test_merge),
		TEST(test_report),       TEST(test_statuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
