/* test_expand.c -- bodies of composites at symbolic sizes: they verify, keep the types and hold
 * core operators only; rnn and quantize_row against plain loops.
 *
 * That the numbers are ONNX's is tested by tests/ops/composite.mlt. */
#include "harness_text.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Replaces all composites of the main block by their bodies. */
static void
expand_all(ml_context *cx, ml_module *m)
{
	if (ml_expand_where(m->main, ml_is_composite) != ML_OK)
		fail_msg("%s", text_newest(cx));
	if (ml_verify(m) != ML_OK)
		fail_msg("%s", text_newest(cx));
	for (ml_node *n = m->main->first; n; n = n->next)
		assert_false(ml_is_composite(n));
}

static void
test_symbolic(void **state)
{
	static const char *const bodies[] = {
		"in %0 : f32[b, s, 8] in %1 : f32[8, n] in %2 : f32[n]"
		" %3 = linear %0, %1, %2 : f32[b, s, n]",
		"in %0 : f16[b, 8] in %1 : f16[8, 4] %3 = linear %0, %1 : f16[b, 4]",
		"in %0 : f32[n, 6, h, w] in %1 : f32[4, 3, 3, 5] in %2 : f32[4]"
		" %3 = conv %0, %1, %2 {stride = [2, 1], dilation = [1, 2], low = [1, 4],"
		" high = [1, 4], groups = 2} : f32[n, 4, (h - 1) floordiv 2 + 1, w]",
		"in %0 : f64[n, 3, l] in %1 : f64[4, 3, 3]"
		" %3 = conv %0, %1 {stride = [1], dilation = [1], low = [0], high = [0]}"
		" : f64[n, 4, l - 2]",
		"in %0 : f32[b, 8, s, 16] in %1 : f32[b, 2, t, 16] in %2 : f32[b, 2, t, 5]"
		" in %4 : f32[b, 1, 1, t]"
		" %3 = attention %0, %1, %2, %4 {causal = 1, scale = 0.25} : f32[b, 8, s, 5]",
		"in %0 : bf16[b, h, s, d] in %1 : bf16[b, h, s, d] in %2 : bf16[b, h, s, d]"
		" %3 = attention %0, %1, %2 : bf16[b, h, s, d]",
		"in %0 : f32[b, h, s, s] in %4 : f32[b, h, u, 7] in %1 : f32[b, h, 7, 7]"
		" %3 = attention %0, %4, %4, %0 : f32[b, h, s, 7]",
		"in %0 : f16[b, s] %3 = softmax %0 {axis = 0} : f16[b, s]",
		"in %0 : f16[b, s, 4] in %1 : f16[s, 4] in %2 : f16[4]"
		" %3 = layer_norm %0, %1, %2 {axis = 1} : f16[b, s, 4]",
		"in %0 : f32[b, s] in %1 : f32[s] %3 = rms_norm %0, %1 : f32[b, s]",
		"in %0 : f16[b] %3 = gelu %0 {form = \"tanh\"} : f16[b]",
		"in %0 : f32[b] %3 = sigmoid %0 : f32[b]",
		"in %0 : f32[b, c, h, w] in %1 : f32[c]"
		" %3 = batch_norm %0, %1, %1, %1, %1 : f32[b, c, h, w]",
		"in %0 : f32[b, c] in %1 : f32[c] %3 = batch_norm %0, %1, %1, %1, %1 : f32[b, c]",
		"in %0 : s32[b, s] %3 = reduce_mean %0 {axes = [0, 1]} : s32[1, 1]",
		"in %0 : f32[b, s] in %1 : f32[s] in %2 : s8[s]"
		" %3 = quantize %0, %1, %2 {dtype = s8} : s8[b, s]",
		"in %0 : s32[b] in %1 : f16[] in %2 : s32[] %3 = dequantize %0, %1, %2 : f16[b]",
		"in %0 : f32[b, k] %3, %4, %5 = quantize_row %0 : u8[b, k], f32[b, 1], s32[b, 1]",
		"in %0 : f16[t, b, 3] in %1 : f16[6, 3] in %2 : f16[6, 2] in %6 : f16[12]"
		" in %7 : f16[batch, 2]"
		" %3, %4, %5 = rnn %0, %1, %2, %6, %7 {cell = \"gru\"}"
		" : f16[t, b, 2], f16[b, 2], f16[b, 2]",
	};
	ml_context *cx = *state;

	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
		char *text =
			ml_format(&cx->arena, "module \"\" {\n%s\nout \"y\" = %%3\n}", bodies[i]);
		ml_module *m = text_module(cx, text);
		expand_all(cx, m);
		ml_module_free(m);
	}
}

/* ---- numbers ---- */

enum { T = 3, B = 2, I = 3, H = 2, GATES = 4 };

typedef struct cell_case {
	const char *cell, *f, *g, *h;
	int gates, reverse, late, operands;
} cell_case;

typedef struct cell_data {
	float x[T][B][I], w[GATES * H][I], r[GATES * H][H], bias[2 * GATES * H];
	float h0[B][H], c0[B][H], peep[3 * H];
} cell_data;

static double
activation(const char *name, double x)
{
	if (!strcmp(name, "Sigmoid"))
		return 1 / (1 + exp(-x));
	return !strcmp(name, "Tanh") ? tanh(x) : fmax(x, 0);
}

/* Weights are dense arrays of exactly gates * H rows. */
static double
gate_sum(const cell_data *d, const cell_case *k, int t, int b, int gate, int i, const double *h,
	 double scale)
{
	int row = gate * H + i;
	double input = d->bias[row], recurrent = d->bias[k->gates * H + row];

	for (int j = 0; j < I; j++)
		input += d->w[row][j] * d->x[t][b][j];
	for (int j = 0; j < H; j++)
		recurrent += d->r[row][j] * h[j];
	return input + scale * recurrent;
}

static void
lstm_step(const cell_data *d, const cell_case *k, int t, int b, double *h, double *c)
{
	double old[H], scale = k->operands > 6;

	memcpy(old, h, sizeof old);
	for (int i = 0; i < H; i++) {
		double in = gate_sum(d, k, t, b, 0, i, old, 1) + scale * d->peep[i] * c[i];
		double out = gate_sum(d, k, t, b, 1, i, old, 1);
		double forget =
			gate_sum(d, k, t, b, 2, i, old, 1) + scale * d->peep[2 * H + i] * c[i];
		double cell = gate_sum(d, k, t, b, 3, i, old, 1);
		c[i] = activation(k->f, forget) * c[i] +
		       activation(k->f, in) * activation(k->g, cell);
		h[i] = activation(k->f, out + scale * d->peep[H + i] * c[i]) *
		       activation(k->h, c[i]);
	}
}

static void
gru_step(const cell_data *d, const cell_case *k, int t, int b, double *h)
{
	double z[H], r[H], reset[H], next[H];

	for (int i = 0; i < H; i++) {
		z[i] = activation(k->f, gate_sum(d, k, t, b, 0, i, h, 1));
		r[i] = activation(k->f, gate_sum(d, k, t, b, 1, i, h, 1));
		reset[i] = r[i] * h[i];
	}
	for (int i = 0; i < H; i++) {
		double hidden = k->late ? gate_sum(d, k, t, b, 2, i, h, r[i])
					: gate_sum(d, k, t, b, 2, i, reset, 1);
		next[i] = (1 - z[i]) * activation(k->g, hidden) + z[i] * h[i];
	}
	memcpy(h, next, sizeof next);
}

static void
plain_step(const cell_data *d, const cell_case *k, int t, int b, double *h)
{
	double next[H];

	for (int i = 0; i < H; i++)
		next[i] = activation(k->f, gate_sum(d, k, t, b, 0, i, h, 1));
	memcpy(h, next, sizeof next);
}

static void
expect_close(const cell_case *k, const ml_tensor *got, int64_t i, double want)
{
	double x = ml_read_f64(got->dtype, got->data, i);

	if (fabs(x - want) > 1e-6)
		fail_msg("%s, reverse %d: element %d is %.9g, not %.9g", k->cell, k->reverse,
			 (int)i, x, want);
}

static void
expect_cell(const cell_case *k, const cell_data *d, const ml_tensor *out)
{
	for (int b = 0; b < B; b++) {
		double h[H], c[H];
		for (int i = 0; i < H; i++) {
			h[i] = k->operands > 4 ? d->h0[b][i] : 0;
			c[i] = k->operands > 5 ? d->c0[b][i] : 0;
		}
		for (int step = 0; step < T; step++) {
			int t = k->reverse ? T - 1 - step : step;
			if (k->gates == 4)
				lstm_step(d, k, t, b, h, c);
			else if (k->gates == 3)
				gru_step(d, k, t, b, h);
			else
				plain_step(d, k, t, b, h);
			for (int i = 0; i < H; i++)
				expect_close(k, &out[0], (t * B + b) * H + i, h[i]);
		}
		for (int i = 0; i < H; i++) {
			expect_close(k, &out[1], b * H + i, h[i]);
			expect_close(k, &out[2], b * H + i, k->gates == 4 ? c[i] : h[i]);
		}
	}
}

static ml_module *
cell_module(ml_context *cx, const cell_case *k)
{
	static const char *const operands[] = {"", ", %h0", ", %h0, %c0", ", %h0, %c0, %peep"};

	return text_module(
		cx,
		ml_format(&cx->arena,
			  "module \"cell\" {\n in %%x : f32[t, b, 3]\n in %%w : f32[%d, 3]\n"
			  " in %%r : f32[%d, 2]\n in %%bias : f32[%d]\n in %%h0 : f32[b, 2]\n"
			  " in %%c0 : f32[b, 2]\n in %%peep : f32[6]\n"
			  " %%y, %%h, %%c = rnn %%x, %%w, %%r, %%bias%s {cell = \"%s\", f = \"%s\","
			  " g = \"%s\", h = \"%s\", reverse = %d, linear_before_reset = %d}"
			  " : f32[t, b, 2], f32[b, 2], f32[b, 2]\n"
			  " out \"y\" = %%y\n out \"h\" = %%h\n out \"c\" = %%c\n}",
			  k->gates * H, k->gates * H, 2 * k->gates * H, operands[k->operands - 4],
			  k->cell, k->f, k->g, k->h, k->reverse, k->late));
}

static void
test_rnn(void **state)
{
	static const cell_case cases[] = {
		{"lstm", "Sigmoid", "Tanh", "Tanh", 4, 0, 0, 4},
		{"lstm", "Sigmoid", "Tanh", "Relu", 4, 1, 0, 6},
		{"lstm", "Sigmoid", "Tanh", "Tanh", 4, 0, 0, 7},
		{"gru", "Sigmoid", "Tanh", "Tanh", 3, 0, 0, 5},
		{"gru", "Sigmoid", "Relu", "Tanh", 3, 0, 1, 5},
		{"gru", "Sigmoid", "Tanh", "Tanh", 3, 1, 1, 4},
		{"rnn", "Tanh", "Tanh", "Tanh", 1, 0, 0, 5},
		{"rnn", "Relu", "Tanh", "Tanh", 1, 1, 0, 4},
	};
	ml_context *cx = *state;

	for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
		const cell_case *k = &cases[n];
		int rows = k->gates * H;
		cell_data d;
		float *number = (float *)&d;
		for (size_t i = 0; i < sizeof d / sizeof *number; i++)
			number[i] = (float)sin(0.7 * (double)(i + n)) * 0.9f;
		ml_tensor in[] = {
			{ML_f32, 3, {T, B, I}, d.x, sizeof d.x},
			{ML_f32, 2, {rows, I}, d.w, (size_t)rows * I * sizeof(float)},
			{ML_f32, 2, {rows, H}, d.r, (size_t)rows * H * sizeof(float)},
			{ML_f32, 1, {2 * rows}, d.bias, (size_t)rows * 2 * sizeof(float)},
			{ML_f32, 2, {B, H}, d.h0, sizeof d.h0},
			{ML_f32, 2, {B, H}, d.c0, sizeof d.c0},
			{ML_f32, 1, {3 * H}, d.peep, sizeof d.peep},
		};
		ml_tensor out[3];
		ml_eval_options options = {0};
		ml_module *m = cell_module(cx, k);
		expand_all(cx, m);
		if (ml_evaluate(m, in, out, &cx->arena, &options) != ML_OK)
			fail_msg("%s", text_newest(cx));
		expect_cell(k, &d, out);
		ml_module_free(m);
	}
}

static void
test_quantize_row(void **state)
{
	enum { ROWS = 6, K = 4 };
	float x[ROWS][K] = {{0, 0, 0, 0},          {1, 2, 3, 255},    {-1, -2, -3, -4},
			    {-0.5f, 0.25f, 3, -7}, {1e-30f, 0, 0, 0}, {-127.5f, 127.5f, 0.3f, 1}};
	ml_tensor in = {ML_f32, 2, {ROWS, K}, x, sizeof x}, out[3];
	ml_eval_options options = {0};
	ml_context *cx = *state;
	ml_module *m =
		text_module(cx, "module \"q\" {\n in %x : f32[b, 4]\n"
				" %q, %s, %z = quantize_row %x : u8[b, 4], f32[b, 1], s32[b, 1]\n"
				" out \"q\" = %q\n out \"s\" = %s\n out \"z\" = %z\n}");

	expand_all(cx, m);
	assert_int_equal(ml_evaluate(m, &in, out, &cx->arena, &options), ML_OK);
	for (int i = 0; i < ROWS; i++) {
		float lo = 0, hi = 0;
		for (int k = 0; k < K; k++) {
			lo = fminf(lo, x[i][k]);
			hi = fmaxf(hi, x[i][k]);
		}
		double scale = hi > lo ? (hi - lo) / 255 : 1, zero = nearbyint(-lo / scale);
		double got = ml_read_f64(ML_f32, out[1].data, i);
		assert_true(fabs(got - scale) <= 1e-6 * scale);
		assert_int_equal(ml_read_s64(ML_s32, out[2].data, i), (int64_t)zero);
		for (int k = 0; k < K; k++) {
			int64_t q = ml_read_s64(ML_u8, out[0].data, i * K + k);
			assert_true(fabs(((double)q - zero) * got - x[i][k]) <= 0.5001 * got);
		}
	}
	ml_module_free(m);
}

static void
test_sigmoid_of_extremes(void **state)
{
	float x[] = {-1000, 1000, -INFINITY, INFINITY, 0}, want[] = {0, 1, 0, 1, 0.5};
	ml_tensor in = {ML_f32, 1, {5}, x, sizeof x}, out;
	ml_eval_options options = {0};
	ml_context *cx = *state;
	ml_module *m = text_module(
		cx,
		"module \"s\" {\n in %x : f32[n]\n %y = sigmoid %x : f32[n]\n out \"y\" = %y\n}");

	expand_all(cx, m);
	assert_int_equal(ml_evaluate(m, &in, &out, &cx->arena, &options), ML_OK);
	for (int i = 0; i < 5; i++)
		assert_true(ml_read_f64(ML_f32, out.data, i) == want[i]);
	ml_module_free(m);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, text_setup, text_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_symbolic),
		TEST(test_rnn),
		TEST(test_quantize_row),
		TEST(test_sigmoid_of_extremes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
