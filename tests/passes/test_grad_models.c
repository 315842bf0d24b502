/* test_grad_models.c -- gradients of whole models by all of their weights: they are built, verify
 * and go through the passes; those of the shipped models agree with differences. */
#include "frontend/import.h"
#include "ir/grad.h"
#include "passes/pipeline.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static ml_context cx;

static const struct {
	const char *model;
	bool shared;
} models[] = {
	{"intents/model.onnx", false},
	{"digits/model.onnx", false},
	{"minilm/minilm-sst2.onnx", true},
	{"minilm/minilm-encoder.onnx", true},
	{"gpt_kv.onnx", true},
	{"digits_cnn.onnx", true},
	{"deepcut.onnx", true},
	{"kws_fp32.onnx", true},
	{"ultraface_rfb320.onnx", true},
	{"ppocr_det.onnx", true},
};

static void
run_passes(ml_module *m, int level, const char *path)
{
	ml_pipeline_options o = {.opt_level = level, .verify_each = true, .fuel = -1};
	ml_pipeline p;
	ml_arena arena;

	ml_arena_init(&arena, &cx.memory);
	assert_int_equal(ml_pipeline_init(&p, &cx, &arena, &o, NULL, 0), ML_OK);
	if (ml_pipeline_run(&p, m, &o) != ML_OK)
		fail_msg("%s: %s", path, cx.diags.at[0].text);
	ml_arena_free(&arena);
}

/* The sum of squares of the first float output. */
static ml_value *
add_loss(ml_module *m)
{
	ml_builder b = ml_builder_at_end(m->main, NULL);
	ml_value *y = NULL;
	int64_t axes[ML_MAX_RANK];

	for (int i = m->main->last->nin - 1; i >= 0; i--)
		if (ml_is_float(ml_in(m->main->last, i)->type.dtype))
			y = ml_in(m->main->last, i);
	assert_non_null(y);
	for (int d = 0; d < y->type.rank; d++)
		axes[d] = d;
	return ml_build_reduce(&b, ML_OP_reduce_sum, ml_op2(&b, ML_OP_mul, y, y), axes,
			       y->type.rank);
}

static int
weights_of(const ml_module *m, const ml_value **wrt, int room)
{
	int n = 0;

	for (const ml_node *k = m->main->first; k; k = k->next) {
		int64_t count = 0;
		if (k->op != ML_OP_const || !ml_is_float(k->out[0].type.dtype))
			continue;
		ml_type_static_count(&k->out[0].type, &count);
		if (count > 1 && n < room)
			wrt[n++] = &k->out[0];
	}
	return n;
}

/* ---- numbers ---- */

/* A step of this length along the gradient; weights are f32, so no shorter one. */
static const double step = 2e-3;

static ml_tensor
small_tensor(ml_arena *arena, const ml_type *type, int seed)
{
	int64_t count = 1, sizes[64];
	ml_tensor t = {.dtype = type->dtype, .rank = type->rank};

	for (int i = 0; i < 64; i++)
		sizes[i] = 3;
	for (int d = 0; d < t.rank; d++) {
		assert_true(ml_dim_eval(type->dim[d], sizes, &t.dim[d]));
		count *= t.dim[d];
	}
	t.bytes = (size_t)(count * ml_dtype_bytes(t.dtype));
	t.data = ml_alloc(arena, t.bytes);
	for (int64_t i = 0; i < count; i++)
		if (ml_is_float(t.dtype))
			ml_write_f64(t.dtype, t.data, i, sin(0.7 * (double)(i + seed)));
		else
			ml_write_s64(t.dtype, t.data, i, 1);
	return t;
}

/* Moves the weights along their gradients; the difference of the losses, output `nout`. */
static double
loss_after(const ml_module *m, ml_tensor *in, int first, const ml_tensor *gradient, int n,
	   double factor)
{
	ml_tensor *moved = ML_NEW_ARRAY(&cx.arena, ml_tensor, m->main->nargs);
	ml_tensor *out = ML_NEW_ARRAY(&cx.arena, ml_tensor, m->main->last->nin);
	ml_eval_options wide = {.wide = true};

	memcpy(moved, in, (size_t)m->main->nargs * sizeof *moved);
	for (int i = 0; i < n; i++) {
		ml_tensor *t = &moved[first + i];
		t->data = ml_alloc(&cx.arena, t->bytes);
		for (size_t k = 0; k < t->bytes / sizeof(float); k++)
			((float *)t->data)[k] =
				(float)(((const float *)in[first + i].data)[k] +
					factor * ((const float *)gradient[i].data)[k]);
	}
	assert_int_equal(ml_evaluate(m, moved, out, &cx.arena, &wide), ML_OK);
	double loss = 0;
	const ml_tensor *y = &out[0];
	for (size_t k = 0; k < y->bytes / sizeof(float); k++) {
		double v = ((const float *)y->data)[k];
		loss += v * v;
	}
	return loss;
}

/* Along its gradient a loss grows by the gradient's norm. */
static void
check_numbers(const char *path, const ml_module *m, const ml_value *const *wrt, int n)
{
	ml_tensor *in = ML_NEW_ARRAY(&cx.arena, ml_tensor, m->main->nargs);
	ml_tensor *out = ML_NEW_ARRAY(&cx.arena, ml_tensor, m->main->last->nin);
	int first = m->main->nargs - n;
	double square = 0;

	for (int i = 0; i < m->main->nargs; i++) {
		in[i] = small_tensor(&cx.arena, &m->main->arg[i]->type, i);
		if (i >= first)
			memcpy(in[i].data, ml_const_blob(wrt[i - first])->bytes, in[i].bytes);
	}
	assert_int_equal(ml_evaluate(m, in, out, &cx.arena, NULL), ML_OK);
	ml_tensor *gradient = out + m->main->last->nin - n;
	for (int i = 0; i < n; i++)
		for (size_t k = 0; k < gradient[i].bytes / sizeof(float); k++)
			square += pow(((const float *)gradient[i].data)[k], 2);
	double norm = sqrt(square), h = step / norm;
	double slope = (loss_after(m, in, first, gradient, n, h) -
			loss_after(m, in, first, gradient, n, -h)) /
		       (2 * step);
	assert_true(norm > 0);
	if (fabs(slope - norm) > 1e-3 * norm)
		fail_msg("%s: the gradient has norm %g, the loss grows by %g", path, norm, slope);
}

static void
check_model(const char *path, bool numbers)
{
	static const ml_value *wrt[4096];
	ml_module *m, *with = NULL;

	cx.diags.count = 0;
	if (ml_import_onnx(&cx, path, NULL, &m) != ML_OK)
		fail_msg("%s: %s", path, cx.diags.at[0].text);
	run_passes(m, 2, path);
	ml_value *loss = add_loss(m);
	int n = weights_of(m, wrt, 4096);
	assert_true(n > 0);
	if (ml_grad_module(m, loss, wrt, n, &with) != ML_OK || ml_verify(with) != ML_OK)
		fail_msg("%s: %s", path, cx.diags.at[cx.diags.count - 1].text);
	run_passes(with, 3, path);
	if (numbers)
		check_numbers(path, with, wrt, n);
	ml_module_free(with);
	ml_module_free(m);
}

static void
test_models(void **state)
{
	const char *shared = getenv("MLOPT_SHARED");
	char path[512];
	int skipped = 0;

	(void)state;
	for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
		skipped += models[i].shared && !shared;
		if (models[i].shared && !shared)
			continue;
		snprintf(path, sizeof path, "%s%s%s", models[i].shared ? shared : ML_SOURCE_DIR,
			 models[i].shared ? "/models/" : "/examples/", models[i].model);
		check_model(path, !models[i].shared);
	}
	if (skipped)
		print_message("SKIPPED %d models: MLOPT_SHARED is not set\n", skipped);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_models),
	};

	cx.memory = ml_memory_libc();
	ml_arena_init(&cx.arena, &cx.memory);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
