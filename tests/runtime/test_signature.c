/* test_signature.c -- reading signatures: names with anything in them, damage, lines of the future.
 */
#include "runtime/signature.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char whole[] = "mlopt 1\n"
			    "model \"a \\\"b\\\" \\x0a\\\\\"\n"
			    "entry a__b__\n"
			    "input \"x:0\" f32 x_0 [batch, min(n, 3) + 1, 'odd, name']\n"
			    "input \"\" s64 input1 []\n"
			    "output \"y\" bool y [2]\n"
			    "dim \"batch\" 1 64 batch\n"
			    "dim \"n\" 0 * n\n"
			    "dim \"odd, name\" 0 * odd__name\n"
			    "size \"?0\" count_0\n"
			    "hologram of the future\n"
			    "custom \"com.acme\" \"Foo\" acme_foo\n";

static void
test_whole(void **state)
{
	mlrt_signature s;
	ml_message why;

	(void)state;
	assert_int_equal(mlrt_signature_read(whole, &mlrt_libc_allocator, &s, &why), ML_OK);
	assert_string_equal(s.info.name, "a \"b\" \n\\");
	assert_string_equal(s.info.entry, "a__b__");
	assert_ptr_equal(s.info.signature, whole);
	assert_int_equal(s.info.ninputs, 2);
	assert_string_equal(s.info.input[0].name, "x:0");
	assert_int_equal(s.info.input[0].dtype, ML_f32);
	assert_int_equal(s.info.input[0].rank, 3);
	assert_string_equal(s.info.input[0].dim[0], "batch");
	assert_string_equal(s.info.input[0].dim[1], "min(n, 3) + 1");
	assert_string_equal(s.info.input[0].dim[2], "'odd, name'");
	assert_string_equal(s.info.input[1].name, "");
	assert_int_equal(s.info.input[1].rank, 0);
	assert_int_equal(s.info.noutputs, 1);
	assert_int_equal(s.info.output[0].dtype, ML_bool);
	assert_string_equal(s.info.output[0].dim[0], "2");
	assert_int_equal(s.info.ndims, 3);
	assert_int_equal(s.info.dim[0].lo, 1);
	assert_int_equal(s.info.dim[0].hi, 64);
	assert_true(s.info.dim[1].hi == INT64_MAX);
	assert_int_equal(s.info.nsizes, 1);
	mlrt_signature_free(&s, &mlrt_libc_allocator);
}

/* No prefix of it is read beyond its end; the sanitizer watches. */
static void
test_truncated(void **state)
{
	ml_message why;
	mlrt_signature s;

	(void)state;
	for (size_t n = 0; n < sizeof whole; n++) {
		char *part = malloc(n + 1);
		memcpy(part, whole, n);
		part[n] = 0;
		ml_status status = mlrt_signature_read(part, &mlrt_libc_allocator, &s, &why);
		assert_true(status == ML_OK || status == ML_ERR_FORMAT);
		if (n < 35)
			assert_int_equal(status, ML_ERR_FORMAT);
		mlrt_signature_free(&s, &mlrt_libc_allocator);
		free(part);
	}
}

static void
expect_refused(const char *text, const char *message)
{
	mlrt_signature s;
	ml_message why = {""};

	assert_int_equal(mlrt_signature_read(text, &mlrt_libc_allocator, &s, &why), ML_ERR_FORMAT);
	assert_non_null(strstr(why.text, message));
	mlrt_signature_free(&s, &mlrt_libc_allocator);
}

static void
test_malformed(void **state)
{
	(void)state;
	expect_refused("", "name");
	expect_refused("mlopt 2\n", "line 1");
	expect_refused("mlopt 1\nmodel x\n", "line 2");
	expect_refused("mlopt 1\nmodel \"x\"\nentry x\ninput \"x\" f33 x []\n", "line 4");
	expect_refused("mlopt 1\nmodel \"x\"\nentry x\ninput \"x\" f32 x [1, 2\n", "line 4");
	expect_refused("mlopt 1\nmodel \"x\"\nentry x\ndim \"x\" 1 99999999999999999999 x\n",
		       "line 4");
	expect_refused("mlopt 1\nmodel \"x\"\nentry x\n"
		       "input \"x\" f32 x [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n",
		       "line 4");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_malformed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
