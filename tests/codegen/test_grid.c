/* test_grid.c -- regions of the bench models' sizes are cut into equal shares for many threads. */
#include "harness_model.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { MAX_THREADS = 64, TEXT = 2048 };

/* What mlopt_run leaves on one thread takes about 5 us at the fastest instructions: shares that
 * small need not be equal. */
static const double small_macs = 5000 * 64, small_bytes = 5000 * 8;

static double
number(ml_dim d)
{
	int64_t n = 0;

	assert_true(ml_dim_is_int(d, &n));
	return (double)n;
}

/* By how much the largest share exceeds the mean. */
static double
excess(const ml_step *s, int threads)
{
	double tiles = number(s->tiles), mean = tiles / threads;
	double largest = (double)(((int64_t)tiles + threads - 1) / threads);
	double macs = number(s->work.macs) * largest / tiles;
	double bytes = (number(s->work.read) + number(s->work.written)) * largest / tiles;

	return macs / small_macs + bytes / small_bytes <= 1 ? 0 : largest / mean - 1;
}

static void
check_balanced(const char *what, const char *text)
{
	model m;

	model_open(&m, text);
	const ml_plan *plan = model_plan(&m);
	assert_true(plan->main->steps.count > 0);
	for (int i = 0; i < plan->main->steps.count; i++) {
		const ml_step *s = &plan->main->steps.at[i];
		/* The models' weights are constants, packed by the compiler. */
		if (!strcmp(ml_step_kind_name(plan, s), "pack"))
			continue;
		for (int threads = 1; threads <= MAX_THREADS; threads++) {
			/* 16 tokens have no more than 24 tiles. */
			double bound = threads <= 4 ? 0.1 : threads <= 16 ? 0.5 : 1.7;
			double e = excess(s, threads);
			if (e > bound)
				fail_msg("%s: step %d (%s) on %d threads: the largest of %.0f "
					 "tiles' shares is %.0f%% above the mean",
					 what, i, ml_step_kind_name(plan, s), threads,
					 number(s->tiles), 100 * e);
		}
	}
	model_close(&m);
}

/* rows x inner times inner x columns, with bias and relu. */
static void
check_linear(const char *types[3], int rows, int inner, int columns)
{
	char text[TEXT], what[64];

	snprintf(what, sizeof what, "%s %d x %d x %d", types[0], rows, inner, columns);
	snprintf(text, sizeof text,
		 "module \"linear\" {\n"
		 "  in %%x \"x\" : %s[%d, %d]\n  in %%w \"w\" : %s[%d, %d]\n"
		 "  in %%b \"b\" : %s[%d]\n"
		 "  %%d = dot %%x, %%w {lhs_contract = [1], rhs_contract = [0]} : %s[%d, %d]\n"
		 "  %%y = add %%d, %%b : %s[%d, %d]\n  out \"y\" = %%y\n}\n",
		 types[0], rows, inner, types[1], inner, columns, types[2], columns, types[2], rows,
		 columns, types[2], rows, columns);
	check_balanced(what, text);
}

static void
test_linear(void **state)
{
	static const int sizes[][3] = {
		{16, 384, 384},    {16, 384, 1536},  {16, 1536, 384},  {128, 384, 384},
		{128, 384, 1536},  {128, 1536, 384}, {512, 384, 384},  {512, 384, 1536},
		{512, 1536, 384},  {128, 768, 768},  {128, 768, 3072}, {128, 3072, 768},
		{1, 768, 2304},    {1, 768, 50257},  {3136, 64, 256},  {784, 512, 128},
		{196, 1024, 2048}, {49, 2048, 512},
	};

	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		check_linear((const char *[]){"f32", "f32", "f32"}, sizes[i][0], sizes[i][1],
			     sizes[i][2]);
		check_linear((const char *[]){"u8", "s8", "s32"}, sizes[i][0], sizes[i][1],
			     sizes[i][2]);
	}
}

/* Windows of images go through scratch: `channels` of size x size, 3 x 3, to as many. */
static void
check_conv(int channels, int size)
{
	char text[TEXT], what[64];

	snprintf(what, sizeof what, "conv %d x %d x %d", channels, size, size);
	snprintf(text, sizeof text,
		 "module \"conv\" {\n"
		 "  in %%x \"x\" : f32[1, %d, %d, %d]\n  in %%w \"w\" : f32[%d, %d, 3, 3]\n"
		 "  %%y = conv %%x, %%w {stride = [1, 1], dilation = [1, 1], low = [1, 1], "
		 "high = [1, 1]} : f32[1, %d, %d, %d]\n  out \"y\" = %%y\n}\n",
		 channels, size, size, channels, channels, channels, size, size);
	check_balanced(what, text);
}

static void
test_conv(void **state)
{
	(void)state;
	check_conv(64, 56);
	check_conv(128, 28);
	check_conv(256, 14);
	check_conv(512, 7);
}

static void
check_norm(int rows, int width)
{
	char text[TEXT], what[64];

	snprintf(what, sizeof what, "layer_norm %d x %d", rows, width);
	snprintf(
		text, sizeof text,
		"module \"norm\" {\n"
		"  in %%x \"x\" : f32[%d, %d]\n  in %%s \"s\" : f32[%d]\n  in %%b \"b\" : f32[%d]\n"
		"  %%y = layer_norm %%x, %%s, %%b : f32[%d, %d]\n"
		"  %%e = erf %%y : f32[%d, %d]\n  out \"y\" = %%e\n}\n",
		rows, width, width, width, rows, width, rows, width);
	check_balanced(what, text);
}

static void
test_rows(void **state)
{
	(void)state;
	check_norm(16, 384);
	check_norm(128, 384);
	check_norm(512, 384);
	check_norm(128, 768);
	check_norm(128, 3072);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_linear),
		cmocka_unit_test(test_conv),
		cmocka_unit_test(test_rows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
