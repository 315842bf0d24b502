/* test_awq.c -- factors by the magnitude of inputs: the published formula, the same function, and
 * what they save where few channels are large.
 */
#include "harness_context.h"
#include "harness_exec.h"
#include "passes/pipeline.h"
#include "passes/quantize/awq.h"
#include <math.h>
#include <string.h>

static ml_context cx;

enum { K = 128, N = 96, ROWS = ML_MOMENTS_DRAWN, LARGE = 37 };

/* Sums of three are near enough to normal ones. */
static double
normal(uint64_t *seed)
{
	return harness_random(seed) + harness_random(seed) + harness_random(seed);
}

/* ---- inputs of which one channel is `times` as large as others ---- */

typedef struct layer {
	float x[ROWS * K], w[K * N];
	double h[K * (K + 1) / 2], sum[K], magnitude[K];
	ml_moments m;
	const float *of;
	int64_t columns;
	ml_awq a;
} layer;

static void
fill(layer *l, double times)
{
	uint64_t seed = 11;

	memset(l, 0, sizeof *l);
	for (int i = 0; i < K * N; i++)
		l->w[i] = (float)normal(&seed);
	for (int r = 0; r < ROWS; r++) {
		float *x = l->x + r * K;
		for (int j = 0; j < K; j++) {
			x[j] = (float)(normal(&seed) * (j == LARGE ? times : 1));
			l->magnitude[j] += fabs((double)x[j]);
		}
		for (int i = 0; i < K * K; i++)
			if (i % K <= i / K)
				l->h[ml_triangle_at(i / K, i % K)] +=
					(double)x[i / K] * (double)x[i % K];
	}
	l->m = (ml_moments){.k = K,
			    .h = l->h,
			    .sum = l->sum,
			    .rows = ROWS,
			    .magnitude = l->magnitude,
			    .row = l->x,
			    .drawn = ROWS};
	l->of = l->w;
	l->columns = N;
	l->a = (ml_awq){.x = &l->m,
			.w = &l->of,
			.columns = &l->columns,
			.layers = 1,
			.size = K,
			.workers = 1};
}

/* s = mean|x|^r / sqrt(max s min s). */
static void
test_formula(void **state)
{
	static layer l;
	float s[K];

	(void)state;
	fill(&l, 30);
	for (int step = 0; step < ML_AWQ_STEPS; step += 6) {
		double r = (double)step / ML_AWQ_STEPS, want[K], low = INFINITY, high = 0;
		for (int j = 0; j < K; j++) {
			double sum = 0;
			for (int i = 0; i < ROWS; i++)
				sum += fabs((double)l.x[i * K + j]);
			want[j] = pow(sum / ROWS, r);
			low = fmin(low, want[j]);
			high = fmax(high, want[j]);
		}
		ml_awq_factors(&l.m, r, s);
		for (int j = 0; j < K; j++)
			assert_true(fabs((double)s[j] * sqrt(low * high) / want[j] - 1) < 1e-5);
	}
}

/* Rounded to nearest in one group per column, by the range of each; x / s to s8 per row. */
static double
real_error(const layer *l, const float *s)
{
	static double w[K * N];
	double error = 0, all = 0;

	for (int c = 0; c < N; c++) {
		double low = 0, high = 0;
		for (int j = 0; j < K; j++) {
			w[j * N + c] = (double)l->w[j * N + c] * (double)s[j];
			low = fmin(low, w[j * N + c]);
			high = fmax(high, w[j * N + c]);
		}
		double scale = (high - low) / 15, zero = rint(-low / scale);
		for (int j = 0; j < K; j++)
			w[j * N + c] =
				(fmin(fmax(rint(w[j * N + c] / scale) + zero, 0), 15) - zero) *
				scale;
	}
	for (int r = 0; r < ROWS; r++) {
		const float *x = l->x + r * K;
		double top = 0;
		for (int j = 0; j < K; j++)
			top = fmax(top, fabs((double)x[j] / (double)s[j]));
		for (int c = 0; c < N; c++) {
			double y = 0, q = 0;
			for (int j = 0; j < K; j++) {
				y += (double)x[j] * (double)l->w[j * N + c];
				q += rint((double)x[j] / (double)s[j] / top * 127) * top / 127 *
				     w[j * N + c];
			}
			error += (y - q) * (y - q);
			all += y * y;
		}
	}
	return error / all;
}

static void
test_choice(void **state)
{
	static layer l;
	float s[K], ones[K];
	ml_arena arena;

	(void)state;
	ml_arena_init(&arena, &cx.memory);
	for (int j = 0; j < K; j++)
		ones[j] = 1;
	fill(&l, 1);
	assert_true(ml_awq_choose(&l.a, s, &arena) == 0);
	for (int j = 0; j < K; j++)
		assert_true(s[j] == 1);
	fill(&l, 20);
	double r = ml_awq_choose(&l.a, s, &arena);
	double without = real_error(&l, ones), with = real_error(&l, s);
	print_message("r = %.2f: %.3g, was %.3g\n", r, with, without);
	assert_true(r > 0);
	assert_true(with < .6 * without);
	/* what is expected is what there is, ranges being chosen better */
	double expected = ml_awq_error(&l.a, s, &arena);
	print_message("expected %.3g, %.3g without\n", expected, ml_awq_error(&l.a, ones, &arena));
	assert_true(expected < 1.1 * with && expected > .4 * with);
	ml_arena_free(&arena);
}

/* ---- norms ---- */

/* %s: another reader of the norm, or none. */
static const char text[] =
	"module \"m\" {\n"
	"  in %%x \"x\" : f32[240, 128]\n"
	"  %%g = const #0000000000000001 : f32[128]\n"
	"  %%b = const #0000000000000002 : f32[128]\n"
	"  %%w = const #0000000000000003 : f32[128, 96]\n"
	"  %%v = const #0000000000000004 : f32[128, 64]\n"
	"  %%1 = layer_norm %%x, %%g, %%b {axis = 1, eps = 0.00001} : f32[240, 128]\n"
	"  %%3 = reshape %%1 {shape = [4, 60, 128]} : f32[4, 60, 128]\n"
	"  %%2 = linear %%3, %%w : f32[4, 60, 96]\n"
	"  %%4 = linear %%3, %%v : f32[4, 60, 64]\n"
	"%s"
	"  out \"2\" = %%2\n"
	"  out \"4\" = %%4\n"
	"%s"
	"}\n";

static double
number(uint64_t reference, int64_t i, uint64_t *seed)
{
	if (reference == 1)
		return i == LARGE ? 40 : 1;
	return reference == 2 ? .1 * harness_random(seed) : .02 * normal(seed);
}

static ml_module *
parsed(bool reader)
{
	ml_module *m;
	char *all = ml_format(&cx.arena, text, reader ? "  %5 = tanh %1 : f32[240, 128]\n" : "",
			      reader ? "  out \"5\" = %5\n" : "");

	assert_int_equal(harness_parse(&cx, all, number, &m), ML_OK);
	return m;
}

static const ml_tensor *
evaluated(const ml_module *m, const ml_tensor *x, ml_arena *arena)
{
	ml_tensor *out = ML_NEW_ARRAY(arena, ml_tensor, 3);
	ml_eval_options o = {0};

	assert_int_equal(ml_evaluate(m, x, out, arena, &o), ML_OK);
	return out;
}

/* Of the first two results, squared, in parts of what they are. */
static double
difference(const ml_tensor *got, const ml_tensor *want)
{
	double lost = 0, all = 0;

	for (int i = 0; i < 2; i++)
		for (size_t k = 0; k < want[i].bytes / sizeof(float); k++) {
			double a = (double)((const float *)got[i].data)[k];
			double b = (double)((const float *)want[i].data)[k];
			lost += (a - b) * (a - b);
			all += b * b;
		}
	return lost / all;
}

static ml_value *
first_input(ml_module *m)
{
	for (ml_node *n = m->main->first; n; n = n->next)
		if (n->op == ML_OP_linear)
			return ml_in(n, 0);
	return NULL;
}

static const ml_node *
norm_of(const ml_module *m)
{
	const ml_node *n = m->main->first;

	while (n->op != ML_OP_layer_norm)
		n = n->next;
	return n;
}

static void
test_same_function(void **state)
{
	uint64_t seed = 3;
	float s[K];
	ml_module *m = parsed(false), *shown = parsed(true);
	ml_pass_ctx px = {.cx = &cx, .scratch = &cx.arena};

	(void)state;
	for (int j = 0; j < K; j++)
		s[j] = (float)exp(2 * harness_random(&seed));
	assert_true(ml_can_absorb(first_input(m)));
	assert_false(ml_can_absorb(first_input(shown))); /* its reader would see it */
	ml_tensor x = harness_input(&cx.arena, m, m->main->arg[0], &seed);
	const ml_tensor *want = evaluated(m, &x, &cx.arena);
	double before = ml_const_f64(ml_in(norm_of(m), 1), 5);
	ml_absorb(&px, first_input(m), s);
	assert_true(difference(evaluated(m, &x, &cx.arena), want) < 1e-11);
	double after = ml_const_f64(ml_in(norm_of(m), 1), 5);
	assert_true(fabs(after * (double)s[5] / before - 1) < 1e-6);
	ml_module_free(m);
	ml_module_free(shown);
}

/* ---- the pass ---- */

static double
error_of_pass(bool reader, ml_record *record)
{
	uint64_t seed = 3;
	ml_module *m = parsed(reader);
	harness_samples samples = {{0}};
	ml_exec exec = harness_exec(&cx);
	ml_data data = harness_data(&samples);
	ml_pipeline_options o = {.opt_level = 3,
				 .passes = "quantize_u4",
				 .verify_each = true,
				 .fuel = -1,
				 .exec = &exec,
				 .data = &data,
				 .int4 = {.group = 128},
				 .record = record,
				 .max_loss = 1};
	ml_pipeline p;

	ml_arena_init(&samples.arena, &cx.memory);
	ml_tensor x = harness_input(&cx.arena, m, m->main->arg[0], &seed);
	const ml_tensor *want = evaluated(m, &x, &cx.arena);
	assert_int_equal(ml_pipeline_init(&p, &cx, &cx.arena, &o, NULL, 0), ML_OK);
	assert_int_equal(ml_pipeline_run(&p, m, &o), ML_OK);
	double error = difference(evaluated(m, &x, &cx.arena), want);
	ml_arena_free(&samples.arena);
	ml_module_free(m);
	return error;
}

/* Where something else reads the norm, nothing can take the factors over. */
static void
test_pass(void **state)
{
	ml_record record, again;

	ml_record_init(&record, &cx.arena);
	ml_record_init(&again, &cx.arena);
	double with = error_of_pass(false, &record), without = error_of_pass(true, NULL);

	(void)state;
	print_message("four bits: %.3g, was %.3g\n", with, without);
	assert_true(with < .7 * without);
	again.replays = true;
	for (int i = 0; i < record.decisions.count; i++) {
		ml_decision d = record.decisions.at[i];
		if (!strcmp(d.pass, "awq")) {
			assert_string_equal(d.choice, "factors");
			d.choice = "none"; /* as if it had been measured otherwise */
		}
		ML_PUSH(&cx.arena, again.replayed, d);
	}
	assert_true(error_of_pass(false, &again) == without);
	memcpy(again.replayed.at, record.decisions.at,
	       (size_t)record.decisions.count * sizeof *again.replayed.at);
	assert_true(error_of_pass(false, &again) == with);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formula),
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_same_function),
		cmocka_unit_test(test_pass),
	};

	return HARNESS_RUN(&cx, tests);
}
