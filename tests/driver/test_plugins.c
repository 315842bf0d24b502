/* test_plugins.c -- pass plugins that cannot be loaded; examples/plugin has one that can. */
#include "driver/driver.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const char model[] = "module \"m\" {\n  in %0 \"x\" : f32[4]\n  %1 = neg %0 : f32[4]\n"
			    "  out \"y\" = %1\n}\n";

/* Compiling with this plugin fails with ML_ERR_PLUGIN and a message that contains `text`. */
static void
refused(const char *plugin, const char *text)
{
	ml_context *cx;
	ml_options *o;
	ml_model *compiled = NULL;

	assert_int_equal(ml_context_new(NULL, &cx), ML_OK);
	assert_int_equal(ml_options_new(cx, &o), ML_OK);
	assert_int_equal(ml_options_set(o, "load-pass-plugin", plugin), ML_OK);
	assert_int_equal(ml_compile_memory(cx, model, sizeof model - 1, o, &compiled),
			 ML_ERR_PLUGIN);
	assert_null(compiled);
	assert_non_null(strstr(ml_context_message(cx, 0), text));
	ml_options_free(o);
	ml_context_free(cx);
}

static void
test_missing_file(void **state)
{
	(void)state;
	refused("/nowhere/pass.so", "cannot load plugin");
}

static void
test_no_library(void **state)
{
	char path[] = "/tmp/mlopt-plugin-XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0 && write(fd, "text", 4) == 4);
	close(fd);
	refused(path, "cannot load plugin");
	unlink(path);
}

/* A library that is no plugin. */
static void
test_foreign_library(void **state)
{
	(void)state;
	refused(ML_BINARY_DIR "/libmlopt-rt.so", "has no ml_plugin_info()");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_missing_file),
		cmocka_unit_test(test_no_library),
		cmocka_unit_test(test_foreign_library),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
