/* test_custom.c -- operators of the application in compiled models: in memory, and as symbols that
 * an artefact's header asks for. */
#include "harness_model.h"
#include "ir/custom.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const char text[] =
	"module \"custom\" {\n"
	"  sym n\n"
	"  in %x \"x\" : f32[n, 3]\n"
	"  in %k \"k\" : s64[]\n"
	"  %y, %s = custom %x, %k {domain = \"com.acme\", name = \"Foo\"} : f32[n, 3], f32[n]\n"
	"  %z = neg %y : f32[n, 3]\n"
	"  out \"z\" = %z\n"
	"  out \"s\" = %s\n"
	"}\n";

/* y = x + k, s = sums of the rows of x; fails for negative k. */
static int32_t
foo(const float *x, int64_t k, float *y, float *s, int64_t n, int64_t d)
{
	for (int64_t i = 0; i < n; i++) {
		s[i] = 0;
		for (int64_t j = 0; j < d; j++) {
			y[i * d + j] = x[i * d + j] + (float)k;
			s[i] += x[i * d + j];
		}
	}
	return k < 0 ? ML_ERR_VALUE : 0;
}

static void
open_custom(model *m, void (*fn)(void))
{
	*m = (model){.cx.memory = ml_memory_libc()};
	ml_arena_init(&m->cx.arena, &m->cx.memory);
	ml_arena_init(&m->arena, &m->cx.memory);
	assert_int_equal(ml_custom_register(&m->cx, "com.acme", "Foo",
					    "(x: f32[n,d], k: i64) -> y: f32[n,d], s: f32[n]", fn,
					    NULL),
			 ML_OK);
	assert_int_equal(ml_parse(&m->cx, text, strlen(text), NULL, NULL, &m->m), ML_OK);
}

static void
test_in_memory(void **state)
{
	const ml_target *level[ML_LEVEL_COUNT];
	float x[2][3] = {{1, 2, 3}, {4, 5, 6}};
	int64_t k = 10;
	ml_session *s;
	ml_view v;
	model m;

	(void)state;
	open_custom(&m, (void (*)(void))foo);
	model_compile(&m, level[model_levels(level) - 1]);
	assert_int_equal(ml_session_new(m.model, NULL, &s, NULL), ML_OK);
	assert_int_equal(ml_session_set_input(s, 0, x, (int64_t[]){2, 3}, 2), ML_OK);
	assert_int_equal(ml_session_set_input(s, 1, &k, NULL, 0), ML_OK);
	assert_int_equal(ml_session_run(s), ML_OK);
	assert_int_equal(ml_session_output(s, 0, &v), ML_OK);
	assert_memory_equal(v.data, ((float[]){-11, -12, -13, -14, -15, -16}), sizeof x);
	assert_int_equal(ml_session_output(s, 1, &v), ML_OK);
	assert_memory_equal(v.data, ((float[]){6, 15}), 8);
	k = -1;
	assert_int_equal(ml_session_run(s), ML_ERR_VALUE);
	ml_session_free(s);
	model_close(&m);
}

/* Code in memory needs the function's address. */
static void
test_no_function(void **state)
{
	const ml_target *level[ML_LEVEL_COUNT];
	ml_jit_options o = {.target = level[model_levels(level) - 1]};
	ml_jit *jit;
	model m;

	(void)state;
	open_custom(&m, NULL);
	ml_plan *plan = model_plan(&m);
	assert_int_equal(ml_jit_new(&m.cx, plan, &o, &jit), ML_ERR_ARG);
	ml_module_free(plan->m);
	model_close(&m);
}

static const char application[] = "#include \"custom.h\"\n#include <stddef.h>\n"
				  "int32_t com_acme_Foo(const float *x, int64_t k, float *y, float "
				  "*s, int64_t n, int64_t d)\n"
				  "{ for (int64_t i = 0; i < n * d; i++) y[i] = x[i] * (float)k;\n"
				  "  for (int64_t i = 0; i < n; i++) s[i] = 1;\n  return 0; }\n"
				  "int main(void)\n{\n"
				  "	float x[3] = {1, 2, 3}, z[3], s[1];\n	int64_t k = 5;\n"
				  "	if (custom(x, &k, z, s, 1, NULL)) return 1;\n"
				  "	return z[2] != -15 || s[0] != 1;\n}\n";

static void
test_in_artefact(void **state)
{
	char folder[] = "/tmp/mlopt-custom-XXXXXX";
	ml_message why = {""};
	ml_model *none;
	model m;

	(void)state;
	assert_non_null(mkdtemp(folder));
	open_custom(&m, NULL);
	const char *path = ml_format(&m.arena, "%s/custom.so", folder);
	model_write(&m, (ml_aot_options){.kind = ML_ARTEFACT_SO}, path);
	FILE *f = fopen(ml_format(&m.arena, "%s/app.c", folder), "w");
	assert_non_null(f);
	fputs(application, f);
	fclose(f);
	assert_int_equal(
		system(ml_format(&m.arena,
				 "cd %s && cc -std=c11 -Wall -Wextra -Werror app.c ./custom.so "
				 "-o app && ./app",
				 folder)),
		0);
	/* this test does not define the operator */
	assert_int_equal(ml_model_load(path, NULL, &none, &why), ML_ERR_FORMAT);
	assert_non_null(strstr(why.text, "com_acme_Foo"));
	assert_int_equal(system(ml_format(&m.arena, "rm -r %s", folder)), 0);
	model_close(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_memory),
		cmocka_unit_test(test_no_function),
		cmocka_unit_test(test_in_artefact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
