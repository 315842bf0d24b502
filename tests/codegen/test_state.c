/* test_state.c -- outputs kept by the session: a decoder's keys and values that grow in place, and
 * a running value that is replaced; compiled into memory and into a file. */
#include "harness_model.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

enum { HEADS = 2, WIDTH = 5, FEATURES = 3 * HEADS * WIDTH, MOST = 600 };

#define PART(r, t, from)                                                                           \
	"  %" r " = slice %2 {start = [0, 0, " from "], size = [b, s, 10], step = [1, 1, 1]} : "   \
	"f32[b, s, 10]\n"                                                                          \
	"  %" r "x = reshape %" r " {shape = [b, s, 2, 5]} : f32[b, s, 2, 5]\n"                    \
	"  %" t " = transpose %" r "x {perm = [0, 2, 1, 3]} : f32[b, 2, s, 5]\n"

static const char decoder[] =
	"module \"decoder\" {\n  sym b\n  sym p\n  sym s\n"
	"  in %0 \"past.key\" : f32[b, 2, p, 5]\n"
	"  in %1 \"past.value\" : f32[b, 2, p, 5]\n"
	"  in %2 \"x\" : f32[b, s, 30]\n" PART("3", "4", "0") PART("5", "6", "10") PART(
		"7", "8",
		"20") "  %9 = concat %0, %6 {axis = 2} : f32[b, 2, p + s, 5]\n"
		      "  %10 = concat %1, %8 {axis = 2} : f32[b, 2, p + s, 5]\n"
		      "  %11 = attention %4, %9, %10 {scale = 0.5, causal = 1} : f32[b, 2, s, 5]\n"
		      "  out \"y\" = %11\n  out \"present.key\" = %9\n  out \"present.value\" = "
		      "%10\n}\n";

static const char counter[] = "module \"counter\" {\n  sym n\n"
			      "  in %0 \"sum\" : f32[n]\n  in %1 \"x\" : f32[n]\n"
			      "  %2 = add %0, %1 : f32[n]\n"
			      "  out \"total\" = %2\n}\n";

static float x[2 * MOST * FEATURES];

static void
fill(void)
{
	uint32_t state = 1;

	for (size_t i = 0; i < sizeof x / sizeof *x; i++) {
		state = state * 1664525 + 1013904223;
		x[i] = (float)(state >> 8) / 8388608.0f - 1;
	}
}

static ml_session *
open_session(model *m)
{
	ml_session *s;

	assert_int_equal(ml_session_new(m->model, &(ml_session_options){.threads = 2}, &s, NULL),
			 ML_OK);
	return s;
}

static ml_session *
open_decoder(model *m)
{
	ml_session *s = open_session(m);

	assert_int_equal(ml_session_bind_state(s, "past.key", "present.key"), ML_OK);
	assert_int_equal(ml_session_bind_state(s, "past.value", "present.value"), ML_OK);
	return s;
}

static void
must_run(ml_session *s)
{
	if (ml_session_run(s) != ML_OK)
		fail_msg("%s", ml_session_message(s));
}

/* Tokens from..from+n-1 of one sequence; y[HEADS][n][WIDTH] */
static const float *
feed(ml_session *s, int from, int n)
{
	ml_view v;

	assert_int_equal(
		ml_session_set_input(s, 2, x + from * FEATURES, (int64_t[]){1, n, FEATURES}, 3),
		ML_OK);
	must_run(s);
	assert_int_equal(ml_session_output(s, 0, &v), ML_OK);
	return v.data;
}

/* The last token's output, HEADS rows. */
static void
take_last(const float *y, int n, float *last)
{
	for (int h = 0; n && h < HEADS; h++)
		memcpy(last + h * WIDTH, y + (h * n + n - 1) * WIDTH, WIDTH * sizeof *last);
}

/* The same with plain tensors: the past is given as an input, the present comes back. */
static void
decode_plainly(model *m, int prefill, int steps, float *last, float *keys)
{
	ml_session *s = open_session(m);
	float *past[2] = {calloc(HEADS * MOST * WIDTH, sizeof(float)),
			  calloc(HEADS * MOST * WIDTH, sizeof(float))};
	ml_view v;

	for (int i = 0, p = 0; i <= steps; i++) {
		int n = i ? 1 : prefill;
		for (int k = 0; k < 2; k++)
			ml_session_set_input(s, k, past[k], (int64_t[]){1, HEADS, p, WIDTH}, 4);
		take_last(feed(s, p, n), n, last);
		p += n;
		for (int k = 0; k < 2; k++) {
			assert_int_equal(ml_session_output(s, 1 + k, &v), ML_OK);
			assert_int_equal(v.dim[2], p);
			memcpy(past[k], v.data, v.bytes);
		}
	}
	memcpy(keys, past[0], (size_t)(HEADS * (prefill + steps) * WIDTH) * sizeof *keys);
	free(past[0]);
	free(past[1]);
	ml_session_free(s);
}

static void
check_decoder(model *m)
{
	static const int sizes[][2] = {{1, 3}, {7, 40}, {255, 3}, {300, 20}, {0, 2}};
	static float keys[2][HEADS * MOST * WIDTH];
	float last[HEADS * WIDTH], plain[HEADS * WIDTH], whole[HEADS * WIDTH];
	ml_session *s = open_decoder(m), *fresh = open_decoder(m);
	ml_view v;

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		int prefill = sizes[i][0], steps = sizes[i][1], n = prefill + steps;
		ml_session_reset_states(s);
		ml_session_reset_states(fresh);
		feed(s, 0, prefill);
		for (int k = 0; k < steps; k++)
			take_last(feed(s, prefill + k, 1), 1, last);
		assert_int_equal(ml_session_state(s, 0, &v), ML_OK);
		assert_int_equal(v.dim[2], n);
		assert_int_equal(v.bytes, HEADS * n * WIDTH * 4);
		assert_int_equal(ml_session_copy_state(s, 0, keys[0], sizeof keys[0]), ML_OK);
		decode_plainly(m, prefill, steps, plain, keys[1]);
		assert_memory_equal(last, plain, sizeof last);
		assert_memory_equal(keys[0], keys[1], v.bytes);
		take_last(feed(fresh, 0, n), n, whole); /* steps are what one prefill is */
		assert_memory_equal(last, whole, sizeof last);
	}
	ml_session_free(s);
	ml_session_free(fresh);
}

static void
test_in_memory(void **state)
{
	const ml_target *level[ML_LEVEL_COUNT];
	int n = model_levels(level);

	(void)state;
	for (int i = 0; i < n; i++) {
		model m;
		model_open(&m, decoder);
		model_compile(&m, level[i]);
		check_decoder(&m);
		model_close(&m);
	}
}

static void
test_artefact(void **state)
{
	char folder[] = "/tmp/mlopt-state-XXXXXX", path[64], header[64];
	model m;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/decoder.so", folder);
	snprintf(header, sizeof header, "%s/decoder.h", folder);
	model_open(&m, decoder);
	model_write(&m, (ml_aot_options){.kind = ML_ARTEFACT_SO}, path);
	model_load(&m, path);
	assert_int_equal(ml_model_describe(m.model)->nstates, 2);
	assert_int_equal(ml_model_describe(m.model)->state[1].axis, 2);
	check_decoder(&m);
	model_close(&m);
	unlink(path);
	unlink(header);
	rmdir(folder);
}

/* A first value, and another batch after a reset. */
static void
test_values(void **state)
{
	const ml_target *level[ML_LEVEL_COUNT];
	static float past[2][2 * HEADS * 3 * WIDTH], copy[2 * HEADS * 4 * WIDTH];
	model m;
	ml_view v;

	(void)state;
	model_open(&m, decoder);
	model_compile(&m, level[model_levels(level) - 1]);
	ml_session *s = open_decoder(&m);
	for (int i = 0; i < 2 * HEADS * 3 * WIDTH; i++)
		past[0][i] = past[1][i] = (float)i;
	assert_int_equal(ml_session_state(s, 0, &v), ML_ERR_ARG); /* no value yet */
	for (int k = 0; k < 2; k++)
		assert_int_equal(
			ml_session_set_input(s, k, past[k], (int64_t[]){2, HEADS, 3, WIDTH}, 4),
			ML_OK);
	ml_session_set_input(s, 2, x, (int64_t[]){2, 1, FEATURES}, 3);
	must_run(s);
	assert_int_equal(ml_session_copy_state(s, 0, copy, sizeof copy - 1), ML_ERR_ARG);
	assert_int_equal(ml_session_copy_state(s, 0, copy, sizeof copy), ML_OK);
	for (int i = 0; i < 2 * HEADS; i++)
		assert_memory_equal(copy + i * 4 * WIDTH, past[0] + i * 3 * WIDTH,
				    3 * WIDTH * sizeof *copy);
	ml_session_set_input(s, 2, x, (int64_t[]){1, 1, FEATURES}, 3);
	assert_int_equal(ml_session_run(s), ML_ERR_SHAPE); /* two sequences are in there */
	ml_session_reset_states(s);
	must_run(s);
	assert_int_equal(ml_session_state(s, 0, &v), ML_OK);
	assert_int_equal(v.dim[0], 1);
	assert_int_equal(v.dim[2], 1);
	ml_session_free(s);
	model_close(&m);
}

static void
test_replaced(void **state)
{
	const ml_target *level[ML_LEVEL_COUNT];
	float one[3] = {1, 2, 3}, sum[3];
	model m;

	(void)state;
	model_open(&m, counter);
	model_compile(&m, level[model_levels(level) - 1]);
	ml_session *s = open_session(&m);
	assert_int_equal(ml_session_bind_state(s, "none", "total"), ML_ERR_ARG);
	assert_int_equal(ml_session_bind_state(s, "sum", "x"), ML_ERR_ARG);
	assert_int_equal(ml_session_bind_state(s, "sum", "total"), ML_OK);
	assert_int_equal(ml_session_bind_state(s, "x", "total"), ML_ERR_ARG);
	assert_int_equal(ml_session_set_output(s, 0, sum, sizeof sum), ML_ERR_ARG);
	assert_int_equal(ml_session_set_input(s, 1, one, (int64_t[]){3}, 1), ML_OK);
	for (int i = 0; i < 4; i++)
		must_run(s);
	assert_int_equal(ml_session_copy_state(s, 0, sum, sizeof sum), ML_OK);
	for (int i = 0; i < 3; i++)
		assert_true(sum[i] == 4 * one[i]);
	ml_session_free(s);
	model_close(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_memory),
		cmocka_unit_test(test_artefact),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_replaced),
	};

	fill();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
