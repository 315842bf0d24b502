/* test_models.c -- real models: every layer is recognised, shape arithmetic vanishes, numbers stay.
 *
 * Models are those of examples/ and, when MLOPT_SHARED names their folder, the shared ones.
 */
#include "frontend/import.h"
#include "passes/pipeline.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static ml_context cx;

/* How many nodes of an operator are there after the passes. */
typedef struct census {
	const char *model; /* below examples/ or MLOPT_SHARED/models/ */
	bool shared;
	int linear, attention, gelu, layer_norm, quantize_row, table;
} census;

static const census models[] = {
	{"intents/model.onnx", false, 26, 4, 4, 9, 18, 2},
	{"digits/model.onnx", false, 1, 0, 0, 0, 0, 0},
	{"minilm/minilm-sst2.onnx", true, 37, 6, 6, 13, 24, 2},
	{"minilm/minilm-encoder.onnx", true, 36, 6, 6, 13, 24, 2},
	{"gpt_kv.onnx", true, 25, 6, 6, 13, 25, 2},
	{"deepcut.onnx", true, 14, 0, 0, 0, 1, 1},
	{"ppocr_det.onnx", true, 0, 0, 0, 0, 0, 0},
};

static int counts[ML_OP_LIMIT];
static int tables; /* of s8 */

static ml_status
count_block(void *user, ml_block *block)
{
	(void)user;
	for (const ml_node *n = block->first; n; n = n->next) {
		counts[n->op]++;
		tables += n->op == ML_OP_gather && ml_in(n, 0)->type.dtype == ML_s8;
	}
	return ML_OK;
}

static void
take_census(ml_module *m)
{
	memset(counts, 0, sizeof counts);
	tables = 0;
	assert_int_equal(ml_for_each_block(m, count_block, NULL), ML_OK);
}

static bool
model_path(const census *c, char *path, size_t size)
{
	const char *shared = getenv("MLOPT_SHARED");

	if (c->shared && !shared)
		return false;
	snprintf(path, size, "%s%s%s", c->shared ? shared : ML_SOURCE_DIR,
		 c->shared ? "/models/" : "/examples/", c->model);
	return true;
}

static void
optimise(const char *path, bool int8)
{
	/* -O3 plans the layout of images, which opens convolutions: no layers any more. */
	ml_pipeline_options o = {.opt_level = 2,
				 .precision = int8 ? ML_INT8_DYNAMIC : ML_FLOATS,
				 .verify_each = true,
				 .fuel = -1};
	ml_pipeline p;
	ml_module *m;
	ml_arena arena;

	cx.diags.count = 0;
	ml_arena_init(&arena, &cx.memory);
	if (ml_import_onnx(&cx, path, NULL, &m) != ML_OK)
		fail_msg("%s: %s", path, cx.diags.count ? cx.diags.at[0].text : "");
	assert_int_equal(ml_pipeline_init(&p, &cx, &arena, &o, NULL, 0), ML_OK);
	if (ml_pipeline_run(&p, m, &o) != ML_OK)
		fail_msg("%s: %s", path, cx.diags.at[0].text);
	take_census(m);
	ml_module_free(m);
	ml_arena_free(&arena);
}

static void
want(const char *path, const char *what, int got, int wanted)
{
	if (got != wanted)
		fail_msg("%s: %d %s, expected %d", path, got, what, wanted);
}

static void
check_census(const census *c, const char *path)
{
	optimise(path, false);
	want(path, "linear", counts[ML_OP_linear], c->linear);
	want(path, "attention", counts[ML_OP_attention], c->attention);
	want(path, "gelu", counts[ML_OP_gelu], c->gelu);
	want(path, "layer_norm", counts[ML_OP_layer_norm], c->layer_norm);
	want(path, "batch_norm", counts[ML_OP_batch_norm], 0);
	want(path, "dot", counts[ML_OP_dot], 0);
	if (c->attention)
		want(path, "softmax", counts[ML_OP_softmax], 0);
	assert_true(counts[ML_OP_dim] <= 1);
	optimise(path, true);
	want(path, "quantize_row", counts[ML_OP_quantize_row], c->quantize_row);
	want(path, "s8 table", tables, c->table);
}

static void
test_census(void **state)
{
	int skipped = 0;
	char path[512];

	(void)state;
	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		if (model_path(&models[i], path, sizeof path))
			check_census(&models[i], path);
		else
			skipped++;
	}
	if (skipped)
		print_message("SKIPPED %d models: MLOPT_SHARED is not set\n", skipped);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_census),
	};

	cx.memory = ml_memory_libc();
	ml_arena_init(&cx.arena, &cx.memory);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
