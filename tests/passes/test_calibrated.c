/* test_calibrated.c -- what linear layers become by calibration data, against published formulas.
 */
#include "harness_context.h"
#include "harness_exec.h"
#include "harness_triangle.h"
#include "passes/pipeline.h"
#include "passes/quantize/moments.h"
#include "passes/quantize/quantize.h"
#include "passes/quantize/smooth.h"
#include <math.h>
#include <string.h>

static ml_context cx;

enum { ROWS = ML_SAMPLED_ROWS, K = 48, N = 40 };

typedef struct layer {
	float x[ROWS * K], w[K * N];
	double sum[K], squares[K];
	float top[K];
	ml_statistics s;
	ml_smoothing m;
} layer;

/* Channel 5 is `outlier` times as large as the others. */
static void
fill(layer *l, double outlier)
{
	uint64_t seed = 7;

	memset(l, 0, sizeof *l);
	for (int i = 0; i < K * N; i++)
		l->w[i] = (float)harness_random(&seed);
	for (int i = 0; i < ROWS * K; i++) {
		double x = harness_random(&seed) * (i % K == 5 ? outlier : 1);
		l->x[i] = (float)x;
		l->sum[i % K] += x;
		l->squares[i % K] += x * x;
		l->top[i % K] = fmaxf(l->top[i % K], fabsf((float)x));
	}
	l->s = (ml_statistics){.channels = K,
			       .rows = ROWS,
			       .sum = l->sum,
			       .squares = l->squares,
			       .top = l->top,
			       .row = l->x,
			       .drawn = ROWS,
			       .finite = true};
	l->m = (ml_smoothing){.x = &l->s, .w = l->w, .columns = N};
	ml_smoothing_begin(&l->m, &cx.arena);
}

/* The error of integers computed as they are: rows of x / s to u8, columns of s W to s8. */
static double
real_error(const layer *l, const float *s)
{
	double scale[N], error = 0;

	for (int c = 0; c < N; c++) {
		scale[c] = 0;
		for (int j = 0; j < K; j++)
			scale[c] = fmax(scale[c], fabs((double)(l->w[j * N + c] * s[j])) / 127);
	}
	for (int r = 0; r < ROWS; r++) {
		const float *x = l->x + r * K;
		double low = 0, high = 0;
		for (int j = 0; j < K; j++) {
			low = fmin(low, (double)(x[j] / s[j]));
			high = fmax(high, (double)(x[j] / s[j]));
		}
		double step = (high - low) / 255;
		for (int c = 0; c < N; c++) {
			double y = 0, q = 0;
			for (int j = 0; j < K; j++) {
				double w = (double)l->w[j * N + c] * (double)s[j];
				double xs = (double)x[j] / (double)s[j];
				y += xs * w;
				q += rint(xs / step) * step * rint(w / scale[c]) * scale[c];
			}
			error += (y - q) * (y - q);
		}
	}
	return error / ROWS;
}

static void
test_smoothing(void **state)
{
	static layer l;
	float s[K], ones[K], tops[N];

	(void)state;
	for (int j = 0; j < K; j++)
		ones[j] = 1;
	fill(&l, 30);
	ml_smoothing_factors(&l.m, .3, s);
	for (int j = 0; j < K; j++) {
		float top = 0;
		for (int c = 0; c < N; c++)
			top = fmaxf(top, fabsf(l.w[j * N + c]));
		double want = pow((double)l.top[j], .3) / pow((double)top, .7);
		assert_true(fabs((double)s[j] / want - 1) < 1e-5);
	}
	/* the error that is expected is the one that comes */
	const float *both[] = {ones, s};
	for (int i = 0; i < 2; i++) {
		double expected = ml_smoothing_error(&l.m, both[i], tops);
		double real = real_error(&l, both[i]); /* of few weights: some scatter */
		assert_true(expected > .6 * real && expected < 1.6 * real);
	}
	assert_true(ml_smooth(&l.m, 20, 2, s, &cx.arena) > 0);
	assert_true(real_error(&l, s) < .2 * real_error(&l, ones));
	fill(&l, 1);
	if (ml_smooth(&l.m, 20, 2, s, &cx.arena) < 0)
		assert_memory_equal(s, ones, sizeof s);
	assert_true(real_error(&l, s) <= 1.05 * real_error(&l, ones));
}

/* ---- clipping ---- */

static double
weighted_error(const float *w, const double *importance, int column, double scale)
{
	double sum = 0;

	for (int j = 0; j < K; j++) {
		double x = (double)w[j * N + column];
		double q = fmin(fmax(rint(x / scale), -127), 127);
		sum += importance[j] * (x - q * scale) * (x - q * scale);
	}
	return sum;
}

/* Of the scales p max|w| / 127, the one with the least weighted error is taken. */
static void
test_clipping(void **state)
{
	static layer l;
	double importance[K];
	float factor[K];
	int clipped = 0;
	ml_quantized q;
	ml_module *m = ml_module_new(&cx, "m");
	ml_pass_ctx px = {.cx = &cx, .scratch = &m->arena};
	ml_builder b = ml_builder_at_end(m->main, NULL);
	ml_type t = {ML_f32, 2, {ml_dim_int(m->dims, K), ml_dim_int(m->dims, N)}};

	(void)state;
	fill(&l, 1);
	for (int j = 0; j < K; j++) {
		importance[j] = j == 3 ? 1e-6 : 1; /* its largest weights matter little */
		factor[j] = 1;
		for (int c = 0; c < N; c++)
			l.w[j * N + c] *= j == 3 ? 1.3f : 1;
	}
	ml_value *w = ml_build_const(&b, &t, ml_blob_wrap(&cx.memory, l.w, sizeof l.w, NULL, NULL));
	assert_true(ml_quantize_columns(
		&px, w, K, N, &(ml_row_facts){.factor = factor, .importance = importance}, &q));
	for (int c = 0; c < N; c++) {
		double top = 0, best = INFINITY,
		       scale = (double)((const float *)q.scales->bytes)[c];
		for (int j = 0; j < K; j++)
			top = fmax(top, fabs((double)l.w[j * N + c]));
		for (int p = 0; p <= 10; p++)
			best = fmin(best,
				    weighted_error(l.w, importance, c, (1 - .02 * p) * top / 127));
		assert_true(weighted_error(l.w, importance, c, scale) <= best * 1.001);
		clipped += scale < .99 * top / 127;
		for (int j = 0; j < K; j++) {
			double x = (double)l.w[j * N + c] / scale;
			int got = ((const int8_t *)q.values->bytes)[j * N + c];
			assert_true(fabs(fmin(fmax(x, -127), 127) - got) < .501);
		}
	}
	assert_true(clipped > 0);
	ml_blob_drop(q.values);
	ml_blob_drop(q.scales);
	ml_blob_drop(q.sums);
	ml_module_free(m);
}

/* ---- rounding with feedback ---- */

/* What the output loses: sum over columns of d' h d. */
static double
output_error(const float *w, const ml_quantized *q, const double *h)
{
	const int8_t *value = q->values->bytes;
	const float *scale = q->scales->bytes;
	double sum = 0, d[K];

	for (int c = 0; c < N; c++) {
		for (int j = 0; j < K; j++)
			d[j] = (double)w[j * N + c] - value[j * N + c] * (double)scale[c];
		for (int i = 0; i < K * K; i++)
			sum += h[i] * d[i / K] * d[i % K];
	}
	return sum;
}

/* Inputs that go together: less is lost than by the nearest integers, with the same scales. */
static void
test_feedback(void **state)
{
	static layer l;
	static double h[K * K];
	double importance[K], x[K];
	float factor[K];
	uint64_t seed = 6;
	ml_quantized near, q;
	ml_feedback feedback;
	ml_module *m = ml_module_new(&cx, "m");
	ml_pass_ctx px = {.cx = &cx, .scratch = &m->arena};
	ml_builder b = ml_builder_at_end(m->main, NULL);
	ml_type t = {ML_f32, 2, {ml_dim_int(m->dims, K), ml_dim_int(m->dims, N)}};

	(void)state;
	fill(&l, 1);
	memset(h, 0, sizeof h);
	for (int r = 0; r < 10 * K; r++) {
		double common = harness_random(&seed) * 3;
		for (int j = 0; j < K; j++)
			x[j] = common + harness_random(&seed);
		for (int i = 0; i < K * K; i++)
			h[i] += x[i / K] * x[i % K];
	}
	for (int j = 0; j < K; j++) {
		factor[j] = 1;
		importance[j] = h[j * K + j];
	}
	ml_value *w = ml_build_const(&b, &t, ml_blob_wrap(&cx.memory, l.w, sizeof l.w, NULL, NULL));
	assert_true(
		ml_feedback_of(&feedback, harness_lower(&m->arena, h, K), K, .01, 1, &m->arena));
	ml_row_facts facts = {.factor = factor, .importance = importance};
	assert_true(ml_quantize_columns(&px, w, K, N, &facts, &near));
	facts.feedback = &feedback;
	assert_true(ml_quantize_columns(&px, w, K, N, &facts, &q));
	assert_memory_equal(near.scales->bytes, q.scales->bytes, N * sizeof(float));
	assert_true(output_error(l.w, &q, h) < .5 * output_error(l.w, &near, h));
	for (int c = 0; c < N; c++) {
		int sum = 0;
		for (int j = 0; j < K; j++)
			sum += ((const int8_t *)q.values->bytes)[j * N + c];
		assert_int_equal(((const int32_t *)q.sums->bytes)[c], sum);
	}
	ml_quantized *both[] = {&near, &q};
	for (int i = 0; i < 2; i++) {
		ml_blob_drop(both[i]->values);
		ml_blob_drop(both[i]->scales);
		ml_blob_drop(both[i]->sums);
	}
	ml_module_free(m);
}

/* ---- biases ---- */

static const char linear[] = "module \"m\" {\n"
			     "  sym n\n"
			     "  in %x \"x\" : f32[n, 32]\n"
			     "  %far = const {3} : f32[]\n"
			     "  %w = const #0000000000000011 : f32[32, 32]\n"
			     "  %b = const #0000000000000012 : f32[32]\n"
			     "  %y = add %x, %far : f32[n, 32]\n"
			     "  %z = linear %y, %w, %b : f32[n, 32]\n"
			     "  out \"z\" = %z\n"
			     "}\n";

static const ml_value *
constant(const ml_module *m, ml_op user, ml_dtype dtype, int rank)
{
	for (const ml_node *n = m->main->first; n; n = n->next)
		for (int i = 0; n->op == user && i < n->nin; i++)
			if (ml_is_const(ml_in(n, i)) && ml_in(n, i)->type.dtype == dtype &&
			    ml_in(n, i)->type.rank == rank)
				return ml_in(n, i);
	return NULL;
}

/* b' = b + E[x] (W - Wq), with the mean over the samples that are for learning. */
static void
test_bias(void **state)
{
	harness_samples samples = {0};
	ml_exec exec = harness_exec(&cx);
	ml_data data = harness_data(&samples);
	ml_record record;
	ml_pipeline_options po = {.opt_level = 2,
				  .passes = "quantize_linear",
				  .fuel = -1,
				  .exec = &exec,
				  .data = &data,
				  .max_loss = 1,
				  .record = &record};
	ml_pipeline p;
	ml_module *m;
	ml_tensor in[1];
	double mean[32] = {0}, rows = 0;
	bool there = true;

	(void)state;
	ml_arena_init(&samples.arena, &cx.memory);
	ml_record_init(&record, &cx.arena);
	assert_int_equal(harness_parse(&cx, linear, NULL, &m), ML_OK);
	const ml_node *n = m->main->first;
	while (n->op != ML_OP_linear)
		n = n->next;
	ml_blob *wb = ml_blob_share(ml_const_blob(ml_in(n, 1)));
	ml_blob *bb = ml_blob_share(ml_const_blob(ml_in(n, 2)));
	const float *w = wb->bytes, *b = bb->bytes;
	for (int64_t i = 0; there; i++) {
		assert_int_equal(data.sample(data.user, m, i, in, &there), ML_OK);
		for (int64_t k = 0; there && i % 5 != 4 && k < (int64_t)in[0].bytes / 4; k++) {
			mean[k % 32] += (double)((float *)in[0].data)[k] + 3;
			rows += 1.0 / 32;
		}
	}
	assert_int_equal(ml_pipeline_init(&p, &cx, &cx.arena, &po, NULL, 0), ML_OK);
	assert_int_equal(ml_pipeline_run(&p, m, &po), ML_OK);
	const ml_value *q = constant(m, ML_OP_dot, ML_s8, 2);
	const ml_value *scale = constant(m, ML_OP_mul, ML_f32, 1);
	const ml_value *bias = constant(m, ML_OP_add, ML_f32, 1);
	assert_non_null(q);
	assert_non_null(bias);
	double moved = 0;
	for (int c = 0; c < 32; c++) {
		double want = (double)b[c];
		for (int j = 0; j < 32; j++)
			want += mean[j] / rows *
				((double)w[j * 32 + c] -
				 ml_const_f64(q, j * 32 + c) * ml_const_f64(scale, c));
		assert_true(fabs(ml_const_f64(bias, c) - want) < 1e-5);
		moved += fabs(want - (double)b[c]);
	}
	assert_true(moved > 1e-3);
	assert_int_equal(record.decisions.count, 1);
	assert_string_equal(record.decisions.at[0].choice, "u8s8");
	ml_blob_drop(wb);
	ml_blob_drop(bb);
	ml_module_free(m);
	ml_arena_free(&samples.arena);
}

/* ---- second moments ---- */

enum { WIDE = 6, MANY = 20 };

static const char rows_text[] = "module \"m\" {\n"
				"  sym n\n"
				"  in %x \"x\" : f32[n, 2, 6]\n"
				"  %y = neg %x : f32[n, 2, 6]\n"
				"  out \"y\" = %y\n"
				"}\n";

/* Sample i has 2 (1 + 37 i) rows. */
static ml_status
growing(void *user, const ml_module *m, int64_t i, ml_tensor *inputs, bool *there)
{
	static float x[(1 + 37 * MANY) * 2 * WIDE];
	uint64_t seed = (uint64_t)i + 1;

	(void)user;
	(void)m;
	inputs[0] = (ml_tensor){ML_f32, 3, {1 + 37 * i, 2, WIDE}, x, 0};
	inputs[0].bytes = (size_t)(1 + 37 * i) * 2 * WIDE * sizeof *x;
	for (size_t k = 0; k < inputs[0].bytes / sizeof *x; k++)
		x[k] = (float)harness_random(&seed);
	*there = i < MANY;
	return ML_OK;
}

/* Sums of products over the rows to learn from, those of the first samples that have enough. */
static void
check_moments(ml_module *m, int64_t rows)
{
	ml_exec exec = harness_exec(&cx);
	ml_data data = {.sample = growing};
	ml_pass_ctx px = {.cx = &cx, .scratch = &cx.arena, .exec = &exec, .data = &data};
	double h[WIDE * (WIDE + 1) / 2] = {0}, sum[WIDE] = {0}, want[WIDE * WIDE] = {0},
				     mean[WIDE] = {0};
	ml_moments at = {.value = &m->main->first->out[0], .k = WIDE, .h = h, .sum = sum};
	int64_t seen = 0;
	ml_tensor in;
	bool there = true;

	assert_int_equal(ml_second_moments(&px, m, &at, 1, rows), ML_OK);
	for (int64_t i = 0; growing(NULL, m, i, &in, &there), there && seen < rows; i++) {
		const float *x = in.data;
		for (int64_t r = 0; i % 5 != 4 && r < 2 * in.dim[0]; r++, seen++) {
			for (int k = 0; k < WIDE * WIDE; k++)
				want[k] += (double)x[r * WIDE + k / WIDE] *
					   (double)x[r * WIDE + k % WIDE];
			for (int k = 0; k < WIDE; k++)
				mean[k] += (double)x[r * WIDE + k];
		}
	}
	assert_true(at.rows == seen);
	for (int k = 0; k < WIDE * WIDE; k++)
		assert_true(fabs(h[ml_triangle_at(k / WIDE, k % WIDE)] - want[k]) <
			    1e-5 * want[k / WIDE * (WIDE + 1)]);
	for (int k = 0; k < WIDE; k++)
		assert_true(fabs(sum[k] + mean[k]) < 1e-9 * (double)seen);
}

static void
test_moments(void **state)
{
	ml_module *m;

	(void)state;
	assert_int_equal(ml_parse(&cx, rows_text, sizeof rows_text - 1, NULL, NULL, &m), ML_OK);
	check_moments(m, INT64_MAX);
	check_moments(m, 3000);
	ml_module_free(m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moments),  cmocka_unit_test(test_smoothing),
		cmocka_unit_test(test_clipping), cmocka_unit_test(test_feedback),
		cmocka_unit_test(test_bias),
	};

	return HARNESS_RUN(&cx, tests);
}
