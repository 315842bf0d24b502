/* test_objects.c -- object files of a plan: the same whatever the number of workers, kept on
 * request, failures reported; tiles are ready. */
#include "codegen/job.h"
#include "codegen/ready_tiles.h"
#include "harness_model.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static ml_status
make(model *m, ml_plan *plan, int workers, const char *save_temps, ml_objects *objects)
{
	const ml_target *level[ML_LEVEL_COUNT];
	ml_object_options o = {
		.entry = {.levels = level, .nlevels = model_levels(level), .signature = ""},
		.making = {.workers = workers, .save_temps = save_temps},
	};

	return ml_objects_make(&m->cx, plan, &o, objects);
}

static void
test_workers(void **state)
{
	model m;
	ml_objects one, many;

	(void)state;
	model_open(&m, model_linear);
	ml_plan *plan = model_plan(&m), *again = model_plan(&m);
	assert_int_equal(make(&m, plan, 1, NULL, &one), ML_OK);
	assert_int_equal(make(&m, again, 5, NULL, &many), ML_OK);
	assert_int_equal(one.count, many.count);
	for (int i = 0; i < one.count; i++) {
		assert_string_equal(one.at[i].name, many.at[i].name);
		for (int k = 0; k < i; k++) /* they are file names */
			assert_string_not_equal(one.at[i].name, one.at[k].name);
		size_t size = LLVMGetBufferSize(one.at[i].bytes);
		assert_int_equal(size, LLVMGetBufferSize(many.at[i].bytes));
		assert_memory_equal(LLVMGetBufferStart(one.at[i].bytes),
				    LLVMGetBufferStart(many.at[i].bytes), size);
	}
	ml_objects_free(&one);
	ml_objects_free(&many);
	ml_module_free(plan->m);
	ml_module_free(again->m);
	model_close(&m);
}

/* Removes the file; false when it was not there. */
static bool
remove_file(model *m, const char *folder, const char *name)
{
	return !unlink(ml_format(&m->arena, "%s/%s", folder, name));
}

static void
test_save_temps(void **state)
{
	char folder[] = "/tmp/mlopt-temps-XXXXXX";
	ml_objects objects;
	model m;

	(void)state;
	assert_non_null(mkdtemp(folder));
	model_open(&m, model_linear);
	ml_plan *plan = model_plan(&m);
	assert_int_equal(make(&m, plan, 2, folder, &objects), ML_OK);
	for (int i = 0; i < plan->specs.count; i++)
		assert_true(remove_file(&m, folder, ml_format(&m.arena, "kernel%d.mlt", i)));
	for (int i = 0; i < objects.count; i++) {
		assert_true(
			remove_file(&m, folder, ml_format(&m.arena, "%s.ll", objects.at[i].name)));
		assert_true(
			remove_file(&m, folder, ml_format(&m.arena, "%s.s", objects.at[i].name)));
	}
	ml_objects_free(&objects);
	assert_int_equal(rmdir(folder), 0); /* nothing else was written */
	ml_module_free(plan->m);
	model_close(&m);
}

/* What a worker cannot do is said in the caller's context; the other objects are not lost. */
static void
test_failure(void **state)
{
	ml_objects objects;
	model m;

	(void)state;
	model_open(&m, model_linear);
	ml_plan *plan = model_plan(&m);
	plan->specs.at[0].text = "kernel nonsense 0 \nmodule \"x\" {\n}\n";
	plan->specs.at[0].length = strlen(plan->specs.at[0].text);
	assert_int_equal(make(&m, plan, 2, NULL, &objects), ML_ERR_FORMAT);
	assert_int_equal(objects.count, 0);
	assert_true(m.cx.diags.count > 0);
	assert_non_null(strstr(m.cx.diags.at[0].text, "nonsense"));
	assert_int_equal(make(&m, plan, 1, "/no/such/folder", &objects), ML_ERR_IO);
	ml_module_free(plan->m);
	model_close(&m);
}

/* A check emits everything and makes nothing; what it finds is said at the node. */
static void
test_check(void **state)
{
	const ml_target *level[ML_LEVEL_COUNT];
	ml_object_options o = {
		.entry = {.levels = level, .nlevels = model_levels(level), .signature = ""},
		.check = true,
	};
	ml_objects objects;
	model m;

	(void)state;
	model_open(&m, model_linear);
	ml_plan *plan = model_plan(&m);
	assert_int_equal(ml_objects_make(&m.cx, plan, &o, &objects), ML_OK);
	assert_int_equal(objects.count, 0);
	ml_module_free(plan->m);
	plan = model_plan(&m);
	ml_step *step = &plan->main->steps.at[plan->main->steps.count - 1];
	step->prov = &(ml_prov){.node = "/head", .op = "Softmax", .index = 5};
	plan->specs.at[step->spec].text = "kernel nonsense 0 \nmodule \"x\" {\n}\n";
	plan->specs.at[step->spec].length = strlen(plan->specs.at[step->spec].text);
	assert_int_equal(ml_objects_make(&m.cx, plan, &o, &objects), ML_ERR_FORMAT);
	assert_string_equal(m.cx.diags.at[0].at->node, "/head");
	ml_module_free(plan->m);
	model_close(&m);
}

/* All levels have tiles that were compiled before, which are those that would be compiled now. */
static void
test_ready_tiles(void **state)
{
	char folder[] = "/tmp/mlopt-temps-XXXXXX";
	ml_worker w = {.save_temps = folder};
	ml_bytes ready;
	model m;

	(void)state;
	assert_non_null(mkdtemp(folder));
	model_open(&m, model_linear);
	ml_worker_open(&w, &m.cx.memory);
	for (int i = 0; i < ML_LEVEL_COUNT; i++)
		for (int form = 0; form < ML_CONTRACT_FORMS; form++)
			assert_true(ml_ready_tiles((ml_level)i, (ml_contract_form)form, &ready));
	for (int form = 0; form < ML_CONTRACT_FORMS; form++) {
		ml_job j = ml_tiles_job(&m.arena, ml_target_named(form ? "avx512" : "neon"),
					(ml_contract_form)form);
		ml_worker_do(&w, &j);
		assert_int_equal(j.status, ML_OK);
		assert_true(ml_ready_tiles(j.target->level, j.form, &ready));
		assert_int_equal(ready.size, LLVMGetBufferSize(j.object));
		assert_memory_equal(ready.at, LLVMGetBufferStart(j.object), ready.size);
		LLVMDisposeMemoryBuffer(j.object);
		assert_true(remove_file(&m, folder, ml_format(&m.arena, "%s.ll", j.name)));
		assert_true(remove_file(&m, folder, ml_format(&m.arena, "%s.s", j.name)));
	}
	ml_worker_close(&w);
	rmdir(folder);
	model_close(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_workers),     cmocka_unit_test(test_save_temps),
		cmocka_unit_test(test_failure),     cmocka_unit_test(test_check),
		cmocka_unit_test(test_ready_tiles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
