/* test_cache.c -- which keys and values become bytes, what the module's inputs and results are
 * then, and what attention gives. */
#include "harness_exec.h"
#include "passes/pipeline.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { HEADS = 2, PAST = 3, NEW = 2, SIZE = 8, ROWS = HEADS * PAST };

/* Attention over a past; %s: what else there is. */
static const char DECODER[] =
	"module \"m\" {\n"
	"  sym t\n"
	"  in %%q \"q\" : f32[1, 2, 2, 8]\n"
	"  in %%k \"k\" : f32[1, 2, 2, 8]\n"
	"  in %%v \"v\" : f32[1, 2, 2, 8]\n"
	"  in %%pk \"past.k\" : f32[1, 2, t, 8]\n"
	"  in %%pv \"past.v\" : f32[1, 2, t, 8]\n"
	"  %%nk \"present.k\" = concat %%pk, %%k {axis = 2} : f32[1, 2, t + 2, 8]\n"
	"  %%nv \"present.v\" = concat %%pv, %%v {axis = 2} : f32[1, 2, t + 2, 8]\n"
	"  %%y = attention %%q, %%nk, %%nv {scale = 0.5} : f32[1, 2, 2, 8]\n"
	"%s"
	"  out \"y\" = %%y\n"
	"  out \"present.k\" = %%nk\n"
	"  out \"present.v\" = %%nv\n"
	"%s"
	"}\n";

typedef struct bench {
	ml_context cx;
	ml_module *m;
} bench;

static void
open_bench(bench *b, const char *more, const char *results)
{
	char text[2048];

	snprintf(text, sizeof text, DECODER, more, results);
	*b = (bench){.cx.memory = ml_memory_libc()};
	ml_arena_init(&b->cx.arena, &b->cx.memory);
	assert_int_equal(ml_parse(&b->cx, text, strlen(text), NULL, NULL, &b->m), ML_OK);
}

static void
close_bench(bench *b)
{
	ml_module_free(b->m);
	ml_arena_free(&b->cx.arena);
}

static void
quantize(bench *b, int64_t fuel)
{
	ml_pipeline_options o = {
		.passes = "quantize_cache", .verify_each = true, .fuel = fuel, .opt_level = 3};
	ml_pipeline p;

	assert_int_equal(ml_pipeline_init(&p, &b->cx, &b->cx.arena, &o, NULL, 0), ML_OK);
	assert_int_equal(ml_pipeline_run(&p, b->m, &o), ML_OK);
}

static void
evaluate(bench *b, const ml_tensor *in, ml_tensor *out)
{
	ml_eval_options o = {0};

	assert_int_equal(ml_evaluate(b->m, in, out, &b->cx.arena, &o), ML_OK);
}

static void
fill(float *x, int n, uint64_t seed)
{
	for (int i = 0; i < n; i++)
		x[i] = (float)harness_random(&seed);
}

static ml_tensor
tensor(ml_dtype t, int64_t rows, int64_t columns, void *data)
{
	return (ml_tensor){t,
			   4,
			   {1, HEADS, rows, columns},
			   data,
			   (size_t)(HEADS * rows * columns * ml_dtype_bytes(t))};
}

/* The result against that on floats which are what the past's bytes stand for. */
static void
test_numbers(void **state)
{
	static float new[3][HEADS * NEW * SIZE], past[2][ROWS * SIZE], scale[2][ROWS];
	static int8_t bytes[2][ROWS * SIZE];
	ml_tensor in[7], want[3], got[5];
	bench b;

	(void)state;
	for (int i = 0; i < 3; i++) {
		fill(new[i], HEADS * NEW * SIZE, (uint64_t)i + 1);
		in[i] = tensor(ML_f32, NEW, SIZE, new[i]);
	}
	for (int i = 0; i < 2; i++) {
		fill(past[i], ROWS * SIZE, (uint64_t)i + 7);
		for (int k = 0; k < ROWS * SIZE; k++) {
			scale[i][k / SIZE] = (float)(k / SIZE + 1) / 300;
			bytes[i][k] = (int8_t)rintf(past[i][k] * 127);
			past[i][k] = (float)bytes[i][k] * scale[i][k / SIZE];
		}
		in[3 + i] = tensor(ML_f32, PAST, SIZE, past[i]);
	}
	open_bench(&b, "", "");
	evaluate(&b, in, want);
	quantize(&b, -1);
	assert_int_equal(b.m->main->nargs, 7);
	assert_string_equal(b.m->main->arg[6]->name, "past.v.scale");
	assert_string_equal(b.m->output_names.at[3], "present.k.scale");
	for (int i = 0; i < 2; i++) {
		in[3 + i] = tensor(ML_s8, PAST, SIZE, bytes[i]);
		in[5 + i] = tensor(ML_f32, PAST, 1, scale[i]);
	}
	evaluate(&b, in, got);
	for (int i = 0; i < HEADS * NEW * SIZE; i++)
		assert_true(fabsf(((float *)got[0].data)[i] - ((float *)want[0].data)[i]) < .01f);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(got[1 + i].dtype, ML_s8);
		assert_int_equal(got[1 + i].bytes * 4, want[1 + i].bytes);
		assert_memory_equal(got[1 + i].data, bytes[i], PAST * SIZE);
		assert_memory_equal(got[3 + i].data, scale[i], PAST * sizeof **scale);
	}
	close_bench(&b);
}

static int
count_bytes(const ml_module *m)
{
	int n = 0;

	for (int i = 0; i < m->main->nargs; i++)
		n += m->main->arg[i]->type.dtype == ML_s8;
	return n;
}

/* What is read by others than attention, or for queries, or is a result twice, stays. */
static void
test_kept(void **state)
{
	static const struct {
		const char *more, *results;
		int64_t fuel;
		int caches;
	} cases[] = {
		{"", "", -1, 2},
		{"", "", 1, 1},
		{"", "", 0, 0},
		{"  %z = tanh %nk : f32[1, 2, t + 2, 8]\n", "  out \"z\" = %z\n", -1, 1},
		{"  %z = tanh %pv : f32[1, 2, t, 8]\n", "  out \"z\" = %z\n", -1, 1},
		{"", "  out \"again\" = %nk\n", -1, 1},
		{"  %z = attention %nk, %nk, %nv {scale = 1.0} : f32[1, 2, t + 2, 8]\n",
		 "  out \"z\" = %z\n", -1, 1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		bench b;
		open_bench(&b, cases[i].more, cases[i].results);
		int inputs = b.m->main->nargs, results = b.m->main->last->nin;
		quantize(&b, cases[i].fuel);
		assert_int_equal(count_bytes(b.m), cases[i].caches);
		assert_int_equal(b.m->main->nargs, inputs + cases[i].caches);
		assert_int_equal(b.m->main->last->nin, results + cases[i].caches);
		quantize(&b, -1);
		assert_int_equal(count_bytes(b.m), cases[i].fuel < 0 ? cases[i].caches : 2);
		close_bench(&b);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
