/* test_options.c -- options by name: values, lists, what is refused, and what the messages say. */
#include "driver/driver.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct setup {
	ml_context *cx;
	ml_options *o;
} setup;

static int
begin(void **state)
{
	setup *s = calloc(1, sizeof *s);

	*state = s;
	return ml_context_new(NULL, &s->cx) || ml_options_new(s->cx, &s->o);
}

static int
end(void **state)
{
	setup *s = *state;

	ml_options_free(s->o);
	ml_context_free(s->cx);
	free(s);
	return 0;
}

/* Refused with ML_ERR_ARG and a message that contains `text`. */
static void
refused(setup *s, const char *name, const char *value, const char *text)
{
	int before = s->cx->errors;

	assert_int_equal(ml_options_set(s->o, name, value), ML_ERR_ARG);
	assert_int_equal(s->cx->errors, before + 1);
	assert_non_null(strstr(ml_context_message(s->cx, before), text));
}

static void
test_defaults(void **state)
{
	const setup *s = *state;

	assert_int_equal(s->o->opt_level, 3);
	assert_int_equal(s->o->fuel, -1);
	assert_null(s->o->int8);
	assert_null(s->o->emit);
	assert_int_equal(ml_workers(s->o), 0);
}

static void
test_values(void **state)
{
	setup *s = *state;

	assert_int_equal(ml_options_set(s->o, "O", "1"), ML_OK);
	assert_int_equal(ml_options_set(s->o, "int8", NULL), ML_OK);
	assert_int_equal(ml_options_set(s->o, "emit", "obj"), ML_OK);
	assert_int_equal(ml_options_set(s->o, "emit", "ir"), ML_OK);
	assert_int_equal(ml_options_set(s->o, "fuel", "0"), ML_OK);
	assert_int_equal(s->o->opt_level, 1);
	assert_string_equal(s->o->int8, "");
	assert_int_equal(ml_options_set(s->o, "int8", "static"), ML_OK);
	assert_string_equal(s->o->int8, "static");
	assert_string_equal(s->o->emit, "ir");
	assert_int_equal(s->o->fuel, 0);
}

static void
test_int4(void **state)
{
	static const char *const wrong[] = {
		"", "16", "128,", "32,none", "32,inner,symmetric", "64,symmetric,inner,"};
	setup *s = *state;
	ml_int4 got;

	assert_true(ml_int4_named("64", &got));
	assert_true(got.group == 64 && !got.symmetric && !got.inner);
	assert_true(ml_int4_named("128,symmetric", &got));
	assert_true(got.group == 128 && got.symmetric && !got.inner);
	assert_true(ml_int4_named("32,inner", &got));
	assert_true(got.group == 32 && !got.symmetric && got.inner);
	assert_true(ml_int4_named("128,symmetric,inner", &got));
	assert_true(got.group == 128 && got.symmetric && got.inner);
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		refused(s, "int4", wrong[i], "cannot be");
}

static void
test_cache(void **state)
{
	setup *s = *state;

	refused(s, "kv-cache", "int4", "cannot be");
	assert_null(s->o->kv_cache);
	assert_int_equal(ml_options_set(s->o, "kv-cache", "int8"), ML_OK);
	assert_string_equal(s->o->kv_cache, "int8");
}

static void
test_lists(void **state)
{
	setup *s = *state;

	assert_int_equal(ml_options_set(s->o, "dim", "batch=1"), ML_OK);
	assert_int_equal(ml_options_set(s->o, "dim", "a=b=7"), ML_OK);
	assert_int_equal(ml_options_set(s->o, "shape", "x=2x?x3"), ML_OK);
	assert_int_equal(ml_options_set(s->o, "shape", "y=scalar"), ML_OK);
	assert_int_equal(s->o->import_dims.count, 2);
	assert_string_equal(s->o->import_dims.at[1].name, "a=b");
	assert_int_equal(s->o->import_dims.at[1].value, 7);
	const ml_import_shape *x = &s->o->import_shapes.at[0];
	assert_int_equal(x->rank, 3);
	assert_int_equal(x->dim[1], -1);
	assert_int_equal(x->dim[2], 3);
	assert_int_equal(s->o->import_shapes.at[1].rank, 0);
}

static void
test_refused(void **state)
{
	setup *s = *state;

	refused(s, "o3", NULL, "no option 'o3'");
	refused(s, "O", "4", "cannot be '4'");
	refused(s, "O", "-1", "cannot be '-1'");
	refused(s, "O", NULL, "needs a value");
	refused(s, "int8", "yes", "cannot be 'yes'");
	refused(s, "int8", "", "cannot be ''");
	refused(s, "remarks", "yes", "takes no value");
	refused(s, "fuel", "99999999999999999999", "cannot be");
	refused(s, "threads", "5000", "cannot be '5000'");
	refused(s, "dim", "batch", "NAME=NUMBER");
	refused(s, "dim", "=1", "NAME=NUMBER");
	refused(s, "dim", "batch=1x", "NAME=NUMBER");
	refused(s, "shape", "x=", "INPUT=1x128");
	refused(s, "shape", "x=1x", "INPUT=1x128");
	refused(s, "shape", "x=1x1x1x1x1x1x1x1x1x1x1x1x1", "INPUT=1x128");
}

static void
test_freeze(void **state)
{
	setup *s = *state;
	float data[] = {1, 2, 3, 4};

	assert_int_equal(ml_options_freeze(s->o, "x", ML_f32, 2, (int64_t[]){2, 2}, data), ML_OK);
	data[3] = 0; /* it was copied */
	const ml_tensor *t = &s->o->import_freezes.at[0].value;
	assert_int_equal(t->bytes, 16);
	assert_float_equal(((float *)t->data)[3], 4, 0);
	assert_int_equal(ml_options_freeze(s->o, "x", ML_none, 0, NULL, data), ML_ERR_ARG);
	assert_int_equal(ml_options_freeze(s->o, "x", ML_f32, 1, (int64_t[]){-1}, data),
			 ML_ERR_ARG);
	assert_int_equal(
		ml_options_freeze(s->o, "x", ML_f32, 2, (int64_t[]){INT64_MAX, INT64_MAX}, data),
		ML_ERR_ARG);
}

static void
test_targets(void **state)
{
	setup *s = *state;
	ml_levels levels;

	assert_int_equal(ml_options_set(s->o, "bf16", NULL), ML_OK);
	assert_int_equal(ml_choose_levels(s->o, false, &levels), ML_OK);
	assert_int_equal(levels.at[levels.count - 2]->level, ML_LEVEL_AVX512BF16);
	assert_int_equal(levels.at[levels.count - 1]->level, ML_LEVEL_AMX);
	assert_int_equal(ml_options_set(s->o, "mcpu", "znver4,haswell,avx2"), ML_OK);
	assert_int_equal(ml_choose_levels(s->o, false, &levels), ML_OK);
	assert_int_equal(levels.count, 2);
	assert_int_equal(levels.at[0]->level, ML_LEVEL_AVX2);
	assert_int_equal(levels.at[1]->level, ML_LEVEL_AVX512BF16);
	assert_int_equal(ml_options_set(s->o, "mcpu", "sapphirerapids"), ML_OK);
	assert_int_equal(ml_choose_levels(s->o, false, &levels), ML_OK);
	assert_int_equal(levels.at[0]->level, ML_LEVEL_AMX);
	assert_int_equal(ml_options_set(s->o, "mcpu", "avx2,cortex-a53"), ML_OK);
	assert_int_equal(ml_choose_levels(s->o, false, &levels), ML_ERR_TARGET);
	assert_int_equal(ml_options_set(s->o, "mcpu", "cortex-a53"), ML_OK);
	assert_int_equal(ml_options_set(s->o, "target", "aarch64-linux-gnu"), ML_OK);
	assert_int_equal(ml_choose_levels(s->o, false, &levels), ML_OK);
	assert_int_equal(levels.at[0]->level, ML_LEVEL_NEON);
	assert_int_equal(ml_options_set(s->o, "target", "sparc-sun-solaris"), ML_OK);
	assert_int_equal(ml_choose_levels(s->o, false, &levels), ML_ERR_TARGET);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_defaults, begin, end),
		cmocka_unit_test_setup_teardown(test_values, begin, end),
		cmocka_unit_test_setup_teardown(test_int4, begin, end),
		cmocka_unit_test_setup_teardown(test_cache, begin, end),
		cmocka_unit_test_setup_teardown(test_lists, begin, end),
		cmocka_unit_test_setup_teardown(test_refused, begin, end),
		cmocka_unit_test_setup_teardown(test_freeze, begin, end),
		cmocka_unit_test_setup_teardown(test_targets, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
