/* test_text.c -- the text form: what is printed parses to the same module, and what is not IR is
 * refused with its position. */
#include "harness_text.h"
#include "ir/text.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Canonical: numbered in order, defaults left out. */
static const char everything[] =
	"module \"a \\\"name\\\"\\x07\" opset 17 {\n"
	"  sym batch in 1..512\n"
	"  sym s\n"
	"  sym t in 2..\n"
	"  sym \"odd name\"\n"
	"  sym ?0 in 0..100 <= s\n"
	"  sym ?1 in 0..4 <= 4\n"
	"  guard s == \"odd name\" \"sizes must be equal to broadcast\" @\"/add\":Add-13[4]\n"
	"  guard t <= s \"t within s\"\n"
	"  guard s multiple_of t \"whole blocks\" @\"\":\"Odd op\"-7\n"
	"  in %0 \"ids\" : f32[batch, s]\n"
	"  in %1 \"\\xff\\\\x\" : f32[\"odd name\"]\n"
	"  in %2 \"c\" : bool[]\n"
	"  in %3 : f32[t]\n"
	"  %4 \"sum\" = add %0, %1 : f32[batch, s] @\"/add\":Add-13[4] @\"/other\":Mul-13 @\"x\"\n"
	"  %5 = softmax %4 {axis = 0} : f32[batch, s]\n"
	"  %6 = reshape %5 {shape = [batch*s]} : f32[batch*s]\n"
	"  %7 = cast %6 {dtype = s8} : s8[batch*s]\n"
	"  %8 = const {1, -inf, nan, 0.1} : f32[4]\n"
	"  %9 = const splat 0 : f32[2, 3]\n"
	"  %10 = nonzero %8 : s64[1, ?1]\n"
	"  %11, %12 \"else\" = if %2, %4 (%13 \"a\" : f32[batch, s]) {\n"
	"    %14 = neg %13 : f32[batch, s]\n"
	"    yield %14, %13 @\"y\"\n"
	"  } (%15 : f32[batch, s]) {\n"
	"    %16 = const {true} : bool[]\n"
	"    %17 = if %16, %15 (%18 : f32[batch, s]) {\n"
	"      yield %18\n"
	"    } (%19 : f32[batch, s]) {\n"
	"      yield %19\n"
	"    } : f32[batch, s]\n"
	"    yield %17, %15\n"
	"  } : f32[batch, s], f32[batch, s] @\"/if\":If-16[9]\n"
	"  %20 = gelu %11 {form = \"tanh\"} : f32[batch, s]\n"
	"  %21, %22 = top_k %8 {k = [2], axis = 0, largest = 0} : f32[2], s64[2]\n"
	"  out \"first\" = %20\n"
	"  out \"twice\" = %12\n"
	"  out \"twice\" = %12\n"
	"}\n";

static void
test_round_trip(void **state)
{
	ml_context *cx = *state;
	ml_module *m = text_module(cx, everything);
	const ml_prov *p = text_node(m, ML_OP_add)->prov;

	assert_string_equal(m->name, "a \"name\"\a");
	assert_int_equal(m->opset, 17);
	assert_string_equal(m->main->arg[1]->name, "\xff\\x");
	assert_int_equal(p->index, 4);
	assert_int_equal(p->opset, 13);
	assert_string_equal(p->next->op, "Mul");
	assert_int_equal(p->next->index, -1);
	assert_null(p->next->next->op);
	assert_int_equal(m->guards.count, 3);
	/* Symbols nobody uses are not printed. */
	char *expected = strdup(everything);
	char *unused = strstr(expected, "  sym ?0");
	memmove(unused, strchr(unused, '\n') + 1, strlen(strchr(unused, '\n')));
	assert_string_equal(text_printed(cx, m), expected);
	ml_module *clone = ml_module_clone(m);
	assert_string_equal(text_printed(cx, clone), expected);
	ml_module_free(clone);
	ml_module_free(m);
	free(expected);
}

static void
test_loose_spelling(void **state)
{
	ml_context *cx = *state;
	ml_module *m = text_module(cx, "# a comment\nmodule\"m\"{in%x:f32[n]# another\n"
				       "in%who:f32[n]%sum=add %x,%who:f32[n]out\"y\"=%sum}\n# end");

	assert_string_equal(text_printed(cx, m), "module \"m\" {\n"
						 "  sym n\n"
						 "  in %0 : f32[n]\n"
						 "  in %1 : f32[n]\n"
						 "  %2 = add %0, %1 : f32[n]\n"
						 "  out \"y\" = %2\n"
						 "}\n");
	ml_module_free(m);
}

static ml_status
parse(ml_context *cx, const char *text, size_t length)
{
	ml_module *m;
	ml_status status = ml_parse(cx, text, length, NULL, NULL, &m);

	assert_true((status == ML_OK) == (m != NULL));
	ml_module_free(m);
	return status;
}

static void
test_errors(void **state)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{"", "1:1: expected 'module' before the end of the text"},
		{"module x", "1:8: expected '\"'"},
		{"module \"a\n\"", "1:9: this string does not end on its line"},
		{"module \"\\q\" {}", "1:10: a string cannot hold this"},
		{"module \"\\x00\" {}", "1:13: a string cannot hold this"},
		{"module \"\" {\n  %1 = fly %0 : f32[]\n}", "2:8: there is no operator 'fly'"},
		{"module \"\" { %1 = neg %0 : f32[] }", "1:22: %0 is not defined in this block"},
		{"module \"\" { in %0 : f33[] }", "1:21: expected a type such as f32[n, 4]"},
		{"module \"\" { in %0 : f32[-1] }", "1:25: expected a type such as f32[n, 4]"},
		{"module \"\" { in %0 : f32[4 }", "1:27: expected a type such as f32[n, 4]"},
		{"module \"\" { in %0 : f32[1,1,1,1,1,1,1,1,1,1,1,1,1] }",
		 "1:49: expected a type such as f32[n, 4]"},
		{"module \"\" { in %0 : f32[1] in %0 : f32[2] }", "1:32: %0 is defined twice"},
		{"module \"\" { in %0 : f32[1]\n %1 = neg %0 : f32[2]\n}",
		 "2:10: result 0 of neg is f32[2] here, but its operands give f32[1]"},
		{"module \"\" { in %0 : f32[1]\n %1, %2 = neg %0 : f32[1], f32[1]\n}",
		 "2:14: neg has 1 results, not 2"},
		{"module \"\" { in %0 : f32[1]\n %1 = neg %0 {speed = 2} : f32[1]\n}",
		 "2:15: neg has no attribute 'speed'"},
		{"module \"\" { in %0 : f32[1]\n %1 = cast %0 {dtype = f9} : f32[1]\n}",
		 "2:24: there is no element type 'f9'"},
		{"module \"\" { %0 = const {1, 2} : f32[3] }", "1:29: expected ','"},
		{"module \"\" { %0 = const {1, 2} : f32[n] }",
		 "1:24: a constant needs a type of known size"},
		{"module \"\" { %0 = const {300} : u8[1] }", "1:25: expected element 0 of 1 as u8"},
		{"module \"\" { %0 = const {1, 2, 3} : s64[2] }", "1:29: expected '}'"},
		{"module \"\" { %0 = const splat 1 : f32[1000000] }",
		 "1:24: this splat is too large"},
		{"module \"\" { %0 = const {1} : f32[99999999999999] }",
		 "1:24: 99999999999999 elements are expected here"},
		{"module \"\" { %0 = const #0123456789abcdef : f32[2] }",
		 "1:24: the bytes of constant #0123456789abcdef are not at hand"},
		{"module \"\" { yield }", "1:18: results of the module are written as 'out'"},
		{"module \"\" { sym 1n }", "1:17: expected the name of a size"},
		{"module \"\" { sym n in 5..2 }",
		 "1:25: expected an integer in 5..9223372036854775807"},
		{"module \"\" { guard a < b \"\" }", "1:21: expected ==, <= or multiple_of"},
		{"module \"\" { guard a == 4 floordiv b \"\" }",
		 "1:24: this size overflows or may divide by zero"},
		{"module \"\" { in %c : bool[]\n %1 = if %c () { } () { yield %c } : bool[] }",
		 "2:18: a body ends with a yield"},
		{"module \"\" { in %c : bool[]\n %1 = if %c () { yield %c } () {} : bool[] }",
		 "2:24: %c is not defined in this block"},
		{"module \"\" { in %c : bool[]\n %1 = if %c (%a : bool[]) { yield %a yield %a",
		 "2:38: yield must be the last node"},
		{"module \"\" { in %0 : f32[1]\n %1 = neg %0 (%2 : f32[1]) {yield %2} : f32[1] }",
		 "2:14: neg has no bodies"},
		{"module \"\" {} x", "1:14: expected nothing more"},
	};
	ml_context *cx = *state;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_not_equal(parse(cx, cases[i].text, strlen(cases[i].text)), ML_OK);
		const char *got = cx->diags.at[cx->diags.count - 1].text;
		if (strcmp(got, cases[i].message))
			fail_msg("%s\ngives    %s\nand not  %s", cases[i].text, got,
				 cases[i].message);
	}
}

/* Inference speaks first; the parser adds where. */
static void
test_inference_error(void **state)
{
	static const char text[] = "module \"\" {\n in %0 : f32[2]\n in %1 : f32[3]\n"
				   " %2 = add %0, %1 : f32[2] @\"/sum\":Add-13[5]\n}";
	ml_context *cx = *state;

	assert_int_equal(parse(cx, text, strlen(text)), ML_ERR_SHAPE);
	assert_non_null(strstr(text_newest(cx), "hint: the node at 4:10 of the text"));
}

/* ---- constants by reference ---- */

typedef struct weights {
	ml_blob *blob;
	uint64_t asked;
	int rank;
} weights;

static ml_blob *
find(void *user, uint64_t hash, const ml_type *type)
{
	weights *w = user;

	w->asked = hash;
	w->rank = type->rank;
	return w->blob;
}

static void
test_references(void **state)
{
	ml_context *cx = *state;
	weights w = {0};
	void *bytes;
	ml_module *m;

	w.blob = ml_blob_new(&cx->memory, 20 * sizeof(float), &bytes);
	for (int i = 0; i < 20; i++)
		((float *)bytes)[i] = (float)i;
	uint64_t hash = ml_blob_hash(w.blob);
	const char *text = ml_format(&cx->arena,
				     "module \"m\" {\n  %%0 = const #%016" PRIx64
				     " : f32[4, 5]\n  out \"w\" = %%0\n}\n",
				     hash);
	assert_int_equal(ml_parse(cx, text, strlen(text), find, &w, &m), ML_OK);
	assert_int_equal(w.asked, hash);
	assert_int_equal(w.rank, 2);
	assert_ptr_equal(ml_const_blob(ml_in(m->main->last, 0)), w.blob);
	assert_string_equal(text_printed(cx, m), text);
	ml_module_free(m);
	assert_int_equal(w.blob->refs, 1);
	const char *other = ml_format(
		&cx->arena, "module \"m\" { %%0 = const #%016" PRIx64 " : f32[4, 4] }", hash);
	assert_int_equal(ml_parse(cx, other, strlen(other), find, &w, &m), ML_ERR_FORMAT);
	assert_non_null(strstr(text_newest(cx), "has 80 bytes, its type needs 64"));
	assert_int_equal(w.blob->refs, 1);
	ml_blob_drop(w.blob);
}

/* ---- numbers ---- */

static void
expect_same_bits(ml_context *cx, ml_dtype t, uint64_t bits)
{
	uint64_t again = 0;
	ml_text text;

	ml_text_init(&text, &cx->arena);
	ml_put_element(&text, t, &bits, 0);
	const char *at = text.at, *end = at + text.length;
	if (!ml_read_element(t, &at, end, &again, 0) || at != end || bits != again)
		fail_msg("%s of %#" PRIx64 " is read as %#" PRIx64, text.at, bits, again);
}

static void
test_numbers(void **state)
{
	ml_context *cx = *state;
	uint64_t x = 88172645463325252;

	for (unsigned bits = 0; bits < 65536; bits += 7) {
		expect_same_bits(cx, ML_f16, bits);
		expect_same_bits(cx, ML_bf16, bits);
		expect_same_bits(cx, ML_s16, bits);
		expect_same_bits(cx, ML_u16, bits);
	}
	for (int i = 0; i < 2000; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		expect_same_bits(cx, ML_f32, x >> 32);
		expect_same_bits(cx, ML_s32, x >> 32);
		expect_same_bits(cx, ML_f64, x);
		expect_same_bits(cx, ML_s64, x);
		expect_same_bits(cx, ML_u64, x);
	}
	for (unsigned bits = 0; bits < 256; bits++) {
		expect_same_bits(cx, ML_f8e4m3fn, bits);
		expect_same_bits(cx, ML_f8e4m3fnuz, bits);
		expect_same_bits(cx, ML_f8e5m2, bits);
		expect_same_bits(cx, ML_f8e5m2fnuz, bits);
		expect_same_bits(cx, ML_f4e2m1, bits & 15);
		expect_same_bits(cx, ML_u4, bits & 15);
		expect_same_bits(cx, ML_u2, bits & 3);
		expect_same_bits(cx, ML_s4, (uint8_t)((int8_t)bits >> 4));
	}
	expect_same_bits(cx, ML_f32, 0x80000000);
	expect_same_bits(cx, ML_f32, 0x7f800001); /* a signalling NaN keeps its bits */
	expect_same_bits(cx, ML_f64, 1);
}

static void
test_numbers_refused(void **state)
{
	static const struct {
		ml_dtype t;
		const char *text;
	} cases[] = {{ML_u8, "-1"},
		     {ML_u8, "256"},
		     {ML_s8, "128"},
		     {ML_s64, "9223372036854775808"},
		     {ML_u64, "-1"},
		     {ML_u64, "18446744073709551616"},
		     {ML_s32, "1.5"},
		     {ML_bool, "1"},
		     {ML_f32, "1x"},
		     {ML_f32, ""},
		     {ML_f32, "nan(0x3f800000)"},
		     {ML_f32, "--1"}};
	uint64_t bytes;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *at = cases[i].text;
		if (ml_read_element(cases[i].t, &at, at + strlen(at), &bytes, 0))
			fail_msg("%s is taken for %s", cases[i].text, ml_dtype_name(cases[i].t));
	}
}

/* ---- hostile text ---- */

static void
test_damaged(void **state)
{
	ml_context *cx = *state;
	size_t length = strlen(everything);
	char *text = malloc(length);
	uint64_t x = 42;
	int refused = 0;

	for (size_t n = 0; n < length - 1; n++) {
		memcpy(text, everything, n);
		assert_int_not_equal(parse(cx, text, n), ML_OK);
	}
	for (int i = 0; i < 3000; i++) {
		memcpy(text, everything, length);
		for (int k = 0; k < 1 + i % 3; k++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			text[x % length] = (char)(x >> 32);
		}
		refused += parse(cx, text, length) != ML_OK;
	}
	assert_true(refused > 1000);
	free(text);
}

static void
expect_refused(ml_context *cx, const char *before, const char *again, int times, const char *after)
{
	ml_text t;

	ml_text_init(&t, &cx->arena);
	ml_put(&t, "%s", before);
	for (int i = 0; i < times; i++)
		ml_put(&t, "%s", again);
	ml_put(&t, "%s", after);
	assert_int_not_equal(parse(cx, t.at, t.length), ML_OK);
}

static void
test_deep(void **state)
{
	ml_context *cx = *state;

	expect_refused(
		cx, "module \"\" { in %c : bool[] %0 = ", "if %c (%c : bool[]) { %0 = ", 10000, "");
	assert_non_null(strstr(text_newest(cx), "more than 64 bodies within each other"));
	expect_refused(cx, "module \"\" { in %x : f32[", "(", 100000, "");
	expect_refused(cx, "module \"\" { in %x : f32[", "min(1, ", 100000, "");
	expect_refused(cx, "module \"\" { in %x : f32[n", "*n", 100000, "] }");
	expect_refused(cx, "module \"", "x", 100000, "");
}

/* A short text must not fill memory: 300 splats of 1 MiB. */
static void
test_splats(void **state)
{
	ml_context *cx = *state;
	ml_text t;

	ml_text_init(&t, &cx->arena);
	ml_put(&t, "module \"\" {\n");
	for (int i = 0; i < 300; i++)
		ml_put(&t, "%%%d = const splat 0 : u8[1048576]\n", i);
	ml_put(&t, "}");
	assert_int_not_equal(parse(cx, t.at, t.length), ML_OK);
	assert_non_null(strstr(text_newest(cx), "258:"));
	assert_non_null(strstr(text_newest(cx), "this splat is too large"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_loose_spelling, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_errors, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_inference_error, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_references, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_numbers, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_numbers_refused, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_damaged, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_deep, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_splats, text_setup, text_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
