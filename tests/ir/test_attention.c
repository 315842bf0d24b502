/* test_attention.c -- attention on integers against the same attention in f64: how far its body
 * is from what it stands for, and what must not depend on it. */
#include "harness_text.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { HEADS = 4, KEY_HEADS = 2, SIZE = 32 };

typedef struct inputs {
	double q[HEADS * 600 * SIZE], k[HEADS * 600 * SIZE], v[HEADS * 600 * SIZE];
	double mask[600];
} inputs;

static inputs in;
static double out[2][HEADS * 600 * SIZE];

/* About normal. */
static double
number(uint64_t *state)
{
	double sum = 0;

	for (int i = 0; i < 12; i++) {
		*state = *state * 6364136223846793005u + 1442695040888963407u;
		sum += (double)(*state >> 33) / (double)(1ll << 31);
	}
	return sum - 6;
}

static void
fill(double *x, int n, double scale, uint64_t seed)
{
	for (int i = 0; i < n; i++)
		x[i] = number(&seed) * scale;
}

static ml_tensor
tensor(ml_context *cx, ml_dtype t, const double *x, int heads, int rows)
{
	ml_tensor a = {.dtype = t, .rank = 4, .dim = {1, heads, rows, SIZE}};

	if (heads == 1)
		a.dim[3] = a.dim[2], a.dim[2] = 1;
	int64_t n = a.dim[1] * a.dim[2] * a.dim[3];
	a.bytes = (size_t)(n * ml_dtype_bytes(t));
	a.data = ml_alloc(&cx->arena, a.bytes);
	for (int64_t i = 0; i < n; i++)
		ml_write_f64(t, a.data, i, x[i]);
	return a;
}

static void
evaluate(ml_context *cx, ml_dtype t, int queries, int keys, const char *attrs, double *to)
{
	const char *name = t == ML_f64 ? "f64" : "f32";
	char text[1024];
	ml_tensor result,
		given[] = {tensor(cx, t, in.q, HEADS, queries),
			   tensor(cx, t, in.k, KEY_HEADS, keys),
			   tensor(cx, t, in.v, KEY_HEADS, keys), tensor(cx, t, in.mask, 1, keys)};
	ml_eval_options options = {0};

	snprintf(text, sizeof text,
		 "module \"m\" {\n  in %%q : %s[1, %d, %d, %d]\n  in %%k : %s[1, %d, %d, %d]\n"
		 "  in %%v : %s[1, %d, %d, %d]\n  in %%m : %s[1, 1, 1, %d]\n"
		 "  %%0 = attention %%q, %%k, %%v, %%m {scale = 0.17677669529663687%s} : "
		 "%s[1, %d, %d, %d]\n  out \"0\" = %%0\n}\n",
		 name, HEADS, queries, SIZE, name, KEY_HEADS, keys, SIZE, name, KEY_HEADS, keys,
		 SIZE, name, keys, attrs, name, HEADS, queries, SIZE);
	ml_module *m = text_module(cx, text);
	assert_int_equal(ml_evaluate(m, given, &result, &cx->arena, &options), ML_OK);
	for (int i = 0; i < HEADS * queries * SIZE; i++)
		to[i] = ml_read_f64(t, result.data, i);
	ml_module_free(m);
}

/* The error's norm by the result's. */
static double
distance(int n)
{
	double error = 0, norm = 0;

	for (int i = 0; i < n; i++) {
		double d = out[0][i] - out[1][i];
		error += d * d;
		norm += out[0][i] * out[0][i];
	}
	return sqrt(error / norm);
}

static void
prepare(double sharpness)
{
	fill(in.q, HEADS * 600 * SIZE, sharpness, 1);
	fill(in.k, HEADS * 600 * SIZE, 1, 2);
	fill(in.v, HEADS * 600 * SIZE, 1, 3);
	memset(in.mask, 0, sizeof in.mask);
}

/* Flat and sharp probabilities; one block of keys and several; values of any size. */
static void
test_close(void **state)
{
	static const int sizes[][2] = {{5, 64}, {20, 256}, {20, 257}, {30, 600}};
	static const double sharpness[] = {0.1, 1, 4};

	for (int i = 0; i < 4; i++)
		for (int j = 0; j < 3; j++) {
			int n = HEADS * sizes[i][0] * SIZE;
			prepare(sharpness[j]);
			for (int k = 0; k < 600; k++) /* some keys' values are small, one's 0 */
				for (int c = 0; c < SIZE; c++)
					in.v[k * SIZE + c] *= k ? 1.0 / (1 + k % 5) : 0;
			evaluate(*state, ML_f64, sizes[i][0], sizes[i][1], "", out[0]);
			evaluate(*state, ML_f32, sizes[i][0], sizes[i][1], ", int8 = 1", out[1]);
			double d = distance(n);
			if (!(d < 0.04))
				fail_msg("%d x %d, %g: %g", sizes[i][0], sizes[i][1], sharpness[j],
					 d);
		}
}

/* Keys that a mask hides change no bit, whatever they are. */
static void
test_hidden(void **state)
{
	enum { QUERIES = 7, SEEN = 250, ALL = 600 };

	prepare(1);
	for (int i = 0; i < ALL; i++)
		in.mask[i] = i < SEEN ? 0 : -INFINITY;
	evaluate(*state, ML_f32, QUERIES, ALL, ", int8 = 1", out[0]);
	for (int h = 0; h < KEY_HEADS; h++)
		for (int i = SEEN * SIZE; i < ALL * SIZE; i++)
			in.k[h * ALL * SIZE + i] = in.v[h * ALL * SIZE + i] = 1e6;
	evaluate(*state, ML_f32, QUERIES, ALL, ", int8 = 1", out[1]);
	assert_memory_equal(out[0], out[1], sizeof(double) * HEADS * QUERIES * SIZE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_close, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_hidden, text_setup, text_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
