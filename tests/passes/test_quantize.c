/* test_quantize.c -- integers of quantize_linear and quantize_embedding against plain arithmetic.
 */
#include "passes/pipeline.h"
#include "passes/quantize/quantize.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static ml_context cx;

typedef struct bench {
	ml_module *m;
	ml_arena arena;
	ml_pass_ctx px;
	int64_t fuel;
	int fired[1];
} bench;

static void
set_up(bench *b)
{
	ml_arena_init(&b->arena, &cx.memory);
	b->m = ml_module_new(&cx, "m");
	b->fuel = 100;
	b->px = (ml_pass_ctx){.cx = &cx, .scratch = &b->arena, .fuel = &b->fuel, .fired = b->fired};
}

static void
tear_down(bench *b)
{
	ml_module_free(b->m);
	ml_arena_free(&b->arena);
}

/* A constant f32[rows, columns] whose bytes stand at an odd address, as in a model file. */
static ml_value *
matrix(bench *b, const float *x, int64_t rows, int64_t columns)
{
	ml_builder at = ml_builder_at_end(b->m->main, NULL);
	ml_type t = {.dtype = ML_f32, .rank = 2};
	size_t bytes = (size_t)(rows * columns) * sizeof *x;
	char *odd = ml_alloc(&b->arena, bytes + 1);

	memcpy(odd + 1, x, bytes);
	t.dim[0] = ml_dim_int(b->m->dims, rows);
	t.dim[1] = ml_dim_int(b->m->dims, columns);
	return ml_build_const(&at, &t, ml_blob_wrap(&cx.memory, odd + 1, bytes, NULL, NULL));
}

static float
number(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return (float)(int32_t)*seed / 2147483648.0f;
}

/* Channel c of `channels`, elements at first, first + stride, ...: the definition, element by
 * element. */
static void
check_channel(const float *x, const ml_quantized *q, int c, int first, int length, int stride)
{
	const int8_t *values = q->values->bytes;
	float top = 0, scale;
	int sum = 0;

	for (int i = 0; i < length; i++)
		top = fmaxf(top, fabsf(x[first + i * stride]));
	scale = top > 1e-35f ? top / 127 : 1;
	assert_memory_equal((const char *)q->scales->bytes + c * 4, &scale, 4);
	for (int i = 0; i < length; i++) {
		int at = first + i * stride;
		assert_int_equal(values[at], (int)rintf(x[at] / scale));
		assert_in_range(values[at] + 127, 0, 254);
		sum += values[at];
	}
	assert_int_equal(((const int32_t *)q->sums->bytes)[c], sum);
}

static void
check_matrix(const float *x, int rows, int columns)
{
	ml_quantized q;
	bench b;

	set_up(&b);
	ml_value *m = matrix(&b, x, rows, columns);
	assert_true(ml_quantize_rows(&b.px, m, rows, columns, &q));
	for (int r = 0; r < rows; r++)
		check_channel(x, &q, r, r * columns, columns, 1);
	ml_blob_drop(q.values);
	ml_blob_drop(q.scales);
	ml_blob_drop(q.sums);
	assert_true(ml_quantize_columns(&b.px, m, rows, columns, &(ml_row_facts){0}, &q));
	for (int c = 0; c < columns; c++)
		check_channel(x, &q, c, c, rows, columns);
	ml_blob_drop(q.values);
	ml_blob_drop(q.scales);
	ml_blob_drop(q.sums);
	tear_down(&b);
}

enum { MOST = 70 * 70 };

static void
test_random_matrices(void **state)
{
	static const int sizes[][2] = {{1, 1}, {1, 70}, {70, 1}, {17, 33}, {64, 64}, {3, 5}};
	float x[MOST];
	uint32_t seed = 1;

	(void)state;
	for (int k = 0; k < 6; k++) {
		float magnitude = powf(10, (float)(k * 12 - 30));
		for (int i = 0; i < MOST; i++)
			x[i] = number(&seed) * magnitude;
		check_matrix(x, sizes[k][0], sizes[k][1]);
	}
}

/* Ties go to even; a half of the largest value is 63.5. */
/* Of weights that meet bytes: as coarse as makes their root mean square 32, but twice as coarse as
 * with 127 for the largest at most. */
static float
coarse_scale(const float *x, int n, int stride)
{
	float top = 0;
	double squares = 0;

	for (int i = 0; i < n; i++) {
		top = fmaxf(top, fabsf(x[(ptrdiff_t)i * stride]));
		squares += pow((double)x[(ptrdiff_t)i * stride], 2);
	}
	float easy = (float)sqrt(squares / n) / 32;
	return fmaxf(top / 127, fminf(easy, 2 * (top / 127)));
}

static void
test_weights_that_meet_bytes(void **state)
{
	enum { LONG = 384, KINDS = 3, NORMAL = 0, EVEN, TAILED };
	static float x[LONG * KINDS];
	float scale[KINDS], ratio[KINDS];
	uint32_t seed = 9;
	ml_quantized q;
	bench b;

	(void)state;
	set_up(&b);
	for (int i = 0; i < LONG; i++) {
		x[i * KINDS + NORMAL] = 0;
		for (int j = 0; j < 12; j++)
			x[i * KINDS + NORMAL] += number(&seed);
		x[i * KINDS + EVEN] = i % 2 ? 1 : -1;
		x[i * KINDS + TAILED] = i ? number(&seed) : 9;
	}
	assert_true(ml_quantize_columns(&b.px, matrix(&b, x, LONG, KINDS), LONG, KINDS,
					&(ml_row_facts){.bytes = true}, &q));
	memcpy(scale, q.scales->bytes, sizeof scale);
	for (int c = 0; c < KINDS; c++) {
		float top = 0;
		for (int i = 0; i < LONG; i++)
			top = fmaxf(top, fabsf(x[i * KINDS + c]));
		ratio[c] = scale[c] / (top / 127);
		assert_true(scale[c] == coarse_scale(x + c, LONG, KINDS));
		for (int i = 0; i < LONG; i++)
			assert_int_equal(((const int8_t *)q.values->bytes)[i * KINDS + c],
					 (int)rintf(x[i * KINDS + c] / scale[c]));
	}
	assert_true(ratio[NORMAL] > 1 && ratio[NORMAL] < 2);
	assert_true(ratio[EVEN] == 2);
	assert_true(ratio[TAILED] == 1);
	ml_blob_drop(q.values);
	ml_blob_drop(q.scales);
	ml_blob_drop(q.sums);
	tear_down(&b);
}

/* The largest sum of one sign that meets in 16 bits, channels last: neighbours, and those four
 * behind. */
static int
largest_meeting(const int8_t *row, int channels, int taps)
{
	int most = 0;

	for (int i = 0; i < channels * taps; i += i % 8 == 2 ? 6 : 2) {
		int up = 0, down = 0;
		for (int j = 0; j < 4; j++) {
			int at = i + j % 2 + j / 2 * 4;
			if (at >= channels * taps)
				continue;
			int w = row[at % channels * taps + at / channels];
			up += w > 0 ? w : 0;
			down -= w < 0 ? w : 0;
		}
		most = up > most ? up : most;
		most = down > most ? down : most;
	}
	return most;
}

static void
check_kernel(const float *x, const ml_quantized *q, int r, int channels, int taps)
{
	int n = channels * taps, sum = 0;
	const int8_t *row = (const int8_t *)q->values->bytes + r * n;
	float scale = ((const float *)q->scales->bytes)[r], top = 0;
	double error = 0;

	x += r * n;
	for (int i = 0; i < n; i++)
		top = fmaxf(top, fabsf(x[i]));
	assert_true(scale >= coarse_scale(x, n, 1) && scale <= 2 * (top / 127));
	for (int i = 0; i < n; i++) {
		assert_true(fabsf(x[i] / scale - row[i]) < 1);
		assert_in_range(row[i] + 127, 0, 254);
		error += x[i] / scale - row[i];
		sum += row[i];
	}
	assert_true(fabs(error) < 0.51);
	assert_int_equal(((const int32_t *)q->sums->bytes)[r], sum);
	if (scale < 1.99f * (top / 127))
		assert_true(largest_meeting(row, channels, taps) <= 128);
}

static void
test_kernels(void **state)
{
	enum { ROWS = 6 };
	static const int sizes[][2] = {{1, 49}, {3, 9}, {8, 1}, {13, 9}, {64, 9}, {256, 1}};
	static float x[ROWS * 64 * 9];
	uint32_t seed = 5;

	(void)state;
	for (int i = 0; i < 6; i++) {
		int channels = sizes[i][0], taps = sizes[i][1], n = channels * taps;
		ml_quantized q;
		bench b;
		set_up(&b);
		for (int k = 0; k < ROWS * n; k++) /* of a bell, with a mean */
			x[k] = number(&seed) + number(&seed) + number(&seed) + 0.1f * (float)i;
		assert_true(ml_quantize_kernels(&b.px, matrix(&b, x, ROWS, n), ROWS, channels, taps,
						&q));
		for (int r = 0; r < ROWS; r++)
			check_kernel(x, &q, r, channels, taps);
		ml_blob_drop(q.values);
		ml_blob_drop(q.scales);
		ml_blob_drop(q.sums);
		tear_down(&b);
	}
}

static void
test_ties(void **state)
{
	static const float x[] = {127, 63.5f, -63.5f, 0.5f, 1.5f, -2.5f, 0, -127};

	(void)state;
	check_matrix(x, 1, 8);
	check_matrix(x, 8, 1);
}

static void
test_zeros_and_denormals(void **state)
{
	static const float x[] = {0, 0, -0.0f, 1e-40f, -1e-45f, 0, 1e-36f, 3, 4};

	(void)state;
	check_matrix(x, 3, 3);
}

static void
test_not_finite(void **state)
{
	static const float bad[] = {INFINITY, -INFINITY, NAN};
	ml_quantized q;
	bench b;

	(void)state;
	set_up(&b);
	for (int i = 0; i < 3; i++) {
		float x[6] = {1, 2, 3, 4, bad[i], 6};
		ml_value *m = matrix(&b, x, 2, 3);
		assert_false(ml_quantize_rows(&b.px, m, 2, 3, &q));
		assert_false(ml_quantize_columns(&b.px, m, 2, 3, &(ml_row_facts){0}, &q));
	}
	tear_down(&b);
}

/* ---- a layer from end to end ---- */

enum { ROWS = 3, K = 48, N = 40 };

static ml_module *
layer_module(bench *b, const float *w)
{
	ml_builder at = ml_builder_at_end(b->m->main, NULL);
	ml_type t = {.dtype = ML_f32, .rank = 2};

	t.dim[0] = ml_dim_int(b->m->dims, ROWS);
	t.dim[1] = ml_dim_int(b->m->dims, K);
	ml_value *x = ml_block_add_arg(b->m->main, &t, "x");
	ml_value *y = ml_op2(&at, ML_OP_linear, x, matrix(b, w, K, N));
	assert_int_equal(ml_build_yield(&at, &y, 1), ML_OK);
	ML_PUSH(&b->m->arena, b->m->output_names, "y");
	return b->m;
}

/* The row as u8 with a zero point, in f32 as the operator's definition has it. */
static void
quantize_activations(const float *x, int *q, float *scale, int *zero)
{
	float lo = 0, hi = 0;

	for (int i = 0; i < K; i++) {
		lo = fminf(lo, x[i]);
		hi = fmaxf(hi, x[i]);
	}
	*scale = hi - lo > 0 ? (hi - lo) * (1.0f / 255) : 1;
	float inverse = 1 / *scale;
	*zero = (int)rintf(-(lo * inverse));
	for (int i = 0; i < K; i++) {
		float v = rintf(x[i] * inverse) + (float)*zero;
		q[i] = v < 0 ? 0 : v > 255 ? 255 : (int)v;
	}
}

static void
check_row(const float *x, const float *w, const float *y)
{
	int q[K], zero;
	float scale;

	quantize_activations(x, q, &scale, &zero);
	for (int n = 0; n < N; n++) {
		float sw = coarse_scale(w + n, K, N);
		int sum = 0;
		for (int k = 0; k < K; k++)
			sum += (q[k] - zero) * (int)rintf(w[k * N + n] / sw);
		float want = (float)sum * scale * sw;
		assert_true(y[n] == want);
	}
}

static void
test_layer_is_exact(void **state)
{
	float x[ROWS * K], w[K * N];
	uint32_t seed = 7;
	ml_pipeline_options o = {.passes = "quantize_linear", .verify_each = true, .fuel = -1};
	ml_pipeline p;
	bench b;

	(void)state;
	for (int i = 0; i < ROWS * K; i++)
		x[i] = i < K ? number(&seed) : i < 2 * K ? 3 + number(&seed) : 0;
	for (int i = 0; i < K * N; i++)
		w[i] = number(&seed) * 0.1f;
	set_up(&b);
	ml_module *m = layer_module(&b, w);
	assert_int_equal(ml_pipeline_init(&p, &cx, &b.arena, &o, NULL, 0), ML_OK);
	assert_int_equal(ml_pipeline_run(&p, m, &o), ML_OK);
	ml_tensor in = {ML_f32, 2, {ROWS, K}, x, sizeof x}, out;
	assert_int_equal(ml_evaluate(m, &in, &out, &b.arena, NULL), ML_OK);
	for (int r = 0; r < ROWS; r++)
		check_row(x + r * K, w, (const float *)out.data + r * N);
	tear_down(&b);
}

/* 255 * 127 * k must fit 32 bits. */
static void
test_long_layers_stay(void **state)
{
	static const char text[] = "module \"m\" {\n  in %x \"x\" : f32[1, 70000]\n"
				   "  %w = const splat 1 : f32[70000, 1]\n"
				   "  %y = linear %x, %w : f32[1, 1]\n  out \"y\" = %y\n}\n";
	ml_pipeline_options o = {.passes = "quantize_linear", .fuel = -1};
	ml_pipeline p;
	ml_module *m;
	ml_arena arena;

	(void)state;
	ml_arena_init(&arena, &cx.memory);
	cx.remarks = true;
	cx.diags.count = 0;
	assert_int_equal(ml_parse(&cx, text, sizeof text - 1, NULL, NULL, &m), ML_OK);
	assert_int_equal(ml_pipeline_init(&p, &cx, &arena, &o, NULL, 0), ML_OK);
	assert_int_equal(ml_pipeline_run(&p, m, &o), ML_OK);
	assert_int_equal(cx.diags.count, 1);
	assert_string_equal(cx.diags.at[0].text, "kept in fp32: its sums may leave 32 bits");
	assert_true(ml_is(ml_in(m->main->last, 0), ML_OP_linear));
	ml_module_free(m);
	ml_arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_matrices),
		cmocka_unit_test(test_weights_that_meet_bytes),
		cmocka_unit_test(test_kernels),
		cmocka_unit_test(test_ties),
		cmocka_unit_test(test_zeros_and_denormals),
		cmocka_unit_test(test_not_finite),
		cmocka_unit_test(test_layer_is_exact),
		cmocka_unit_test(test_long_layers_stay),
	};

	cx.memory = ml_memory_libc();
	ml_arena_init(&cx.arena, &cx.memory);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
