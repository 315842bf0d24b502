/* test_fisher.c -- Fisher information of units against what the curvature of the loss comes to in
 * double precision, for decisions and for directions. */
#include "harness_exec.h"
#include "passes/pipeline.h"
#include "passes/prune/prune.h"
#include "passes/samples.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { IN = 2, INNER = 3, MOST_OUT = 8, UNITS = 2 };
static const double UP[IN][INNER] = {{1, -1, 0.5}, {2, 0.25, 1}};
static const double DOWN[UNITS][INNER][IN] = {{{1, 0.5}, {-1, 1}, {2, -0.5}},
					      {{0.25, -0.5}, {0.5, 0.125}, {-0.25, 1}}};
static const double HEAD[IN][MOST_OUT] = {{0.5, -1, 0.25, 1, -0.5, 0.75, 0.125, -0.25},
					  {-0.75, 0.5, 1, 0.25, -1, 0.5, -0.125, 0.625}};

#define BRANCHES                                                                                   \
	"module \"m\" {\n  sym b\n  in %x \"x\" : f32[b, 2]\n"                                     \
	"  %u = const {1, -1, 0.5, 2, 0.25, 1} : f32[2, 3]\n"                                      \
	"  %d = const {1, 0.5, -1, 1, 2, -0.5} : f32[3, 2]\n"                                      \
	"  %e = const {0.25, -0.5, 0.5, 0.125, -0.25, 1} : f32[3, 2]\n"                            \
	"  %lu = linear %x, %u : f32[b, 3]\n  %la = gelu %lu : f32[b, 3]\n"                        \
	"  %ld = linear %la, %d : f32[b, 2]\n  %l = add %x, %ld : f32[b, 2]\n"                     \
	"  %nu = linear %l, %u : f32[b, 3]\n  %na = gelu %nu : f32[b, 3]\n"                        \
	"  %nd = linear %na, %e : f32[b, 2]\n  %n = add %l, %nd : f32[b, 2]\n"
static const char DECIDES[] =
	BRANCHES "  %c = const {0.5, -1, 0.25, -0.75, 0.5, 1} : f32[2, 3]\n"
		 "  %y = linear %n, %c : f32[b, 3]\n  out \"logits\" = %y\n}\n";
static const char DIRECTS[] = BRANCHES
	"  %c = const {0.5, -1, 0.25, 1, -0.5, 0.75, 0.125, -0.25, -0.75, 0.5, 1, 0.25, -1, 0.5, "
	"-0.125, 0.625} : f32[2, 8]\n"
	"  %y = linear %n, %c : f32[b, 8]\n  out \"embedding\" = %y\n}\n";

/* ---- in double precision ---- */

static void
branch(int unit, const double *x, double *add)
{
	memset(add, 0, IN * sizeof *add);
	for (int k = 0; k < INNER; k++) {
		double u = 0;
		for (int i = 0; i < IN; i++)
			u += x[i] * UP[i][k];
		u *= 0.5 * (1 + erf(u / sqrt(2)));
		for (int i = 0; i < IN; i++)
			add[i] += u * DOWN[unit][k][i];
	}
}

/* The results when `part` of what a unit adds is missing. */
static void
results(const double *x, int unit, double part, int outputs, double *y)
{
	double h[IN], add[IN];

	memcpy(h, x, sizeof h);
	for (int k = 0; k < UNITS; k++) {
		branch(k, h, add);
		for (int i = 0; i < IN; i++)
			h[i] += k == unit ? add[i] * (1 - part) : add[i];
	}
	for (int o = 0; o < outputs; o++) {
		y[o] = 0;
		for (int i = 0; i < IN; i++)
			y[o] += h[i] * HEAD[i][o];
	}
}

/* What the loss is curved by along the way in which a unit goes. */
static double
curvature(const double *x, int unit, int outputs, bool decides)
{
	static const double STEP = 1e-5;
	double y[3][MOST_OUT], length[3] = {0}, top = 0, sum = 0, mean = 0, square = 0;

	for (int s = 0; s < 3; s++) {
		results(x, unit, (s - 1) * STEP, outputs, y[s]);
		for (int o = 0; o < outputs; o++)
			length[s] += y[s][o] * y[s][o];
	}
	for (int o = 0; o < outputs; o++)
		top = fmax(top, y[1][o]);
	for (int o = 0; o < outputs; o++)
		sum += exp(y[1][o] - top);
	for (int o = 0; o < outputs; o++) {
		double p = decides ? exp(y[1][o] - top) / sum : 1;
		double low = decides ? y[0][o] : y[0][o] / sqrt(length[0]);
		double high = decides ? y[2][o] : y[2][o] / sqrt(length[2]);
		double d = (high - low) / (2 * STEP);
		mean += p * d;
		square += p * d * d;
	}
	return decides ? (square - mean * mean) / 2 : 10 * square / 2;
}

/* ---- */

static double
told(const ml_table *t, int row)
{
	for (int i = 0; i < t->columns.count; i++)
		if (!strcmp(t->columns.at[i].name, "by Fisher information"))
			return t->rows.at[row].cells.at[i].number;
	return NAN;
}

static void
expect(const ml_data *data, const ml_module *m, int unit, int outputs, double *want)
{
	double sum = 0, rows = 0;
	bool there = true;
	ml_tensor in;

	for (int64_t i = 0; there; i++) {
		assert_int_equal(data->sample(data->user, m, i, &in, &there), ML_OK);
		if (!there || ml_is_judged(i))
			continue;
		for (int64_t r = 0; r < in.dim[0]; r++, rows++) {
			const float *row = (const float *)in.data + r * IN;
			double x[IN] = {row[0], row[1]};
			sum += curvature(x, unit, outputs, outputs < MOST_OUT);
		}
	}
	*want = sum / rows;
}

static void
check(const char *text, int outputs)
{
	ml_context cx = {.memory = ml_memory_libc()};
	harness_samples samples;
	ml_pipeline pipeline;
	ml_record record;
	ml_module *m;
	double want[UNITS];

	ml_arena_init(&cx.arena, &cx.memory);
	ml_arena_init(&samples.arena, &cx.memory);
	assert_int_equal(ml_parse(&cx, text, strlen(text), NULL, NULL, &m), ML_OK);
	ml_exec exec = harness_exec(&cx);
	ml_data data = harness_data(&samples);
	ml_record_init(&record, &cx.arena);
	ml_pipeline_options o = {.opt_level = 2,
				 .fuel = -1,
				 .passes = "prune_blocks",
				 .exec = &exec,
				 .data = &data,
				 .record = &record,
				 .prune = "1"};
	for (int i = 0; i < UNITS; i++)
		expect(&data, m, i, outputs, &want[i]);
	assert_int_equal(ml_pipeline_init(&pipeline, &cx, &cx.arena, &o, NULL, 0), ML_OK);
	assert_int_equal(ml_pipeline_run(&pipeline, m, &o), ML_OK);
	const ml_table *t = ml_record_table(&record, "prune", "");
	for (int i = 0; i < UNITS; i++)
		if (!(fabs(told(t, i) - want[i]) < 0.2 * want[i])) /* drawn some 500 times */
			fail_msg("unit %d: %g, %g are expected", i, told(t, i), want[i]);
	ml_module_free(m);
	ml_arena_free(&samples.arena);
	ml_arena_free(&cx.arena);
}

static void
test_decisions(void **state)
{
	(void)state;
	check(DECIDES, 3);
}

static void
test_directions(void **state)
{
	(void)state;
	check(DIRECTS, MOST_OUT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decisions),
		cmocka_unit_test(test_directions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
