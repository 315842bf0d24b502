/* test_u4.c -- rounding to four bits: scales against all there are, GPTQ against its definition. */
#include "harness_triangle.h"
#include "passes/quantize/u4.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { K = 64, N = 20, SIZE = 16, ROWS = 200 };

static ml_context cx;

typedef struct matrix {
	float w[K * N], saved[K * N], scale[K / SIZE * N];
	uint8_t q[K * N], zero[K / SIZE * N];
	ml_u4 u;
} matrix;

static double
number(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return (double)(int32_t)*seed / 2147483648.0;
}

static void
fill(matrix *m, bool symmetric, uint32_t seed)
{
	for (int i = 0; i < K * N; i++)
		m->w[i] = m->saved[i] = (float)(number(&seed) * number(&seed) * 3);
	m->u = (ml_u4){K, N, SIZE, symmetric, m->w, m->q, m->scale, m->zero, 2};
}

static double
value(const matrix *m, int i, int j)
{
	int at = i / SIZE * N + j;

	return (m->q[i * N + j] - (double)m->zero[at]) * (double)m->scale[at];
}

/* x'x of inputs whose columns depend on each other. */
static void
inputs(double *h, uint32_t seed)
{
	double x[K];

	memset(h, 0, K * K * sizeof *h);
	for (int r = 0; r < ROWS; r++) {
		double common = 4 * number(&seed);
		for (int i = 0; i < K; i++)
			x[i] = common + number(&seed) * (1 + i % 5);
		for (int i = 0; i < K * K; i++)
			h[i] += x[i / K] * x[i % K];
	}
}

/* How much the layer's outputs change: sum over columns of d' h d. */
static double
output_error(const matrix *m, const double *h)
{
	double error = 0;

	for (int j = 0; j < N; j++)
		for (int a = 0; a < K; a++)
			for (int b = 0; b < K; b++)
				error += h[a * K + b] *
					 (value(m, a, j) - (double)m->saved[a * N + j]) *
					 (value(m, b, j) - (double)m->saved[b * N + j]);
	return error;
}

static double
group_error(const matrix *m, const float *importance, int g, int j)
{
	double error = 0;

	for (int i = g * SIZE; i < (g + 1) * SIZE; i++) {
		double d = value(m, i, j) - (double)m->saved[i * N + j];
		error += (importance ? (double)importance[i] : 1) * d * d;
	}
	return error;
}

/* With the scale of the whole range, the usual choice. */
static double
plain_error(const matrix *m, const float *importance, int g, int j)
{
	float low = 0, high = 0, scale, zero = 8;
	double error = 0;

	for (int i = g * SIZE; i < (g + 1) * SIZE; i++) {
		low = fminf(low, m->saved[i * N + j]);
		high = fmaxf(high, m->saved[i * N + j]);
	}
	scale = m->u.symmetric ? fmaxf(-low / 8, high / 7) : (high - low) / 15;
	zero = m->u.symmetric ? 8 : rintf(-low / scale);
	for (int i = g * SIZE; i < (g + 1) * SIZE; i++) {
		float w = m->saved[i * N + j];
		float q = fminf(fmaxf(rintf(w / scale) + zero, 0), 15);
		double d = (double)w - (double)((q - zero) * scale);
		error += (importance ? (double)importance[i] : 1) * d * d;
	}
	return error;
}

static void
test_fit(void **state)
{
	float importance[K];
	uint32_t seed = 9;
	ml_arena arena;

	(void)state;
	ml_arena_init(&arena, &cx.memory);
	for (int i = 0; i < K; i++)
		importance[i] = (float)(1 + number(&seed)) * (i % 7 ? 1 : 20);
	for (int form = 0; form < 4; form++) {
		static matrix m;
		double fitted = 0, plain = 0;
		const float *of = form & 2 ? importance : NULL;
		fill(&m, form & 1, 1 + (uint32_t)form);
		ml_u4_fit(&m.u, of, &arena);
		ml_u4_round(&m.u);
		for (int g = 0; g < K / SIZE; g++)
			for (int j = 0; j < N; j++) {
				double e = group_error(&m, of, g, j);
				double p = plain_error(&m, of, g, j);
				assert_true(e <= p * 1.001); /* scales become f16 */
				fitted += e;
				plain += p;
			}
		assert_true(fitted < 0.95 * plain);
		for (int i = 0; i < K / SIZE * N; i++)
			assert_true(!m.u.symmetric || m.zero[i] == 8);
	}
	ml_arena_free(&arena);
}

/* Groups of zeros and of one number. */
static void
test_degenerate(void **state)
{
	static matrix m;
	ml_arena arena;

	(void)state;
	ml_arena_init(&arena, &cx.memory);
	fill(&m, false, 1);
	memset(m.w, 0, sizeof m.w);
	for (int i = 0; i < SIZE; i++)
		m.w[i * N] = 2.5f;
	for (int i = 0; i < SIZE; i++)
		m.w[i * N + 1] = 1e-30f;
	memcpy(m.saved, m.w, sizeof m.w);
	ml_u4_fit(&m.u, NULL, &arena);
	ml_u4_round(&m.u);
	for (int i = 0; i < K; i++)
		for (int j = 0; j < N; j++)
			assert_true(fabs(value(&m, i, j) - (double)m.saved[i * N + j]) < 2e-3);
	ml_arena_free(&arena);
}

/* ---- GPTQ as the paper defines it: the inverse is recomputed for what is left, step by step ----
 */

static void
invert(const double *a, int n, double *inverse)
{
	static double work[K][2 * K];

	for (int i = 0; i < n; i++)
		for (int j = 0; j < 2 * n; j++)
			work[i][j] = j < n ? a[i * n + j] : j == i + n;
	for (int i = 0; i < n; i++) {
		for (int j = 2 * n; j-- > i;)
			work[i][j] /= work[i][i];
		for (int r = 0; r < n; r++)
			for (int j = 2 * n; r != i && j-- > i;)
				work[r][j] -= work[r][i] * work[i][j];
	}
	for (int i = 0; i < n * n; i++)
		inverse[i] = work[i / n][n + i % n];
}

/* Removes row `done` of `order` (its first) from consideration: w_t -= e H^-1[t, 0] / H^-1[0, 0].
 */
static void
reference_step(matrix *m, const double *h, const int *order, int left)
{
	static double part[K * K], inverse[K * K];

	for (int i = 0; i < left * left; i++)
		part[i] = h[order[i / left] * K + order[i % left]];
	invert(part, left, inverse);
	for (int j = 0; j < N; j++) {
		int i = order[0], at = i / SIZE * N + j;
		double w = (double)m->w[i * N + j], s = (double)m->scale[at], z = m->zero[at];
		double q = fmin(fmax(rint(w / s) + z, 0), 15), e = w - (q - z) * s;
		m->q[i * N + j] = (uint8_t)q;
		for (int t = 1; t < left; t++)
			m->w[order[t] * N + j] -= (float)(e * inverse[t] / inverse[0]);
	}
}

static void
reference(matrix *m, const double *original)
{
	static double h[K * K];
	int order[K];
	double mean = 0;

	memcpy(h, original, sizeof h);
	for (int i = 0; i < K; i++)
		mean += h[i * K + i] / K;
	for (int i = 0; i < K; i++)
		order[i] = i;
	for (int i = 0; i < K; i++)
		for (int j = i + 1; j < K; j++)
			if (h[order[j] * K + order[j]] > h[order[i] * K + order[i]]) {
				int swapped = order[i];
				order[i] = order[j];
				order[j] = swapped;
			}
	for (int i = 0; i < K; i++)
		h[i * K + i] += 0.01 * mean;
	for (int i = 0; i < K; i++)
		reference_step(m, h, order + i, K - i);
}

static void
test_gptq(void **state)
{
	static matrix m, r;
	static double h[K * K], kept[K * K];
	int differ = 0;
	ml_arena arena;

	(void)state;
	ml_arena_init(&arena, &cx.memory);
	inputs(h, 5);
	memcpy(kept, h, sizeof h);
	fill(&m, false, 3);
	fill(&r, false, 3);
	ml_u4_fit(&m.u, NULL, &arena);
	ml_u4_round(&m.u);
	double nearest = output_error(&m, kept);
	memcpy(r.scale, m.scale, sizeof m.scale);
	memcpy(r.zero, m.zero, sizeof m.zero);
	assert_true(ml_u4_gptq(&m.u, harness_lower(&arena, h, K), &arena));
	reference(&r, kept);
	for (int i = 0; i < K * N; i++)
		differ += m.q[i] != r.q[i];
	/* f32 here, f64 there: ties may fall otherwise and draw others along */
	assert_true(differ <= K * N / 50);
	assert_true(output_error(&m, kept) < 0.7 * nearest);
	assert_true(output_error(&m, kept) < 1.02 * output_error(&r, kept));
	ml_arena_free(&arena);
}

/* No input reaches the layer: nothing to weigh, plain rounding. */
static void
test_no_inputs(void **state)
{
	static matrix m, r;
	static double h[K * K];
	ml_arena arena;

	(void)state;
	ml_arena_init(&arena, &cx.memory);
	memset(h, 0, sizeof h);
	fill(&m, true, 3);
	fill(&r, true, 3);
	ml_u4_fit(&m.u, NULL, &arena);
	ml_u4_fit(&r.u, NULL, &arena);
	assert_true(ml_u4_gptq(&m.u, harness_lower(&arena, h, K), &arena));
	ml_u4_round(&r.u);
	assert_memory_equal(m.q, r.q, sizeof m.q);
	ml_arena_free(&arena);
}

/* One group: the scale of each column is <q, w> / <q, q> by the moments, as f16. */
static void
test_refined_group(void **state)
{
	static matrix m;
	static double h[K * K];
	ml_arena arena;

	(void)state;
	ml_arena_init(&arena, &cx.memory);
	inputs(h, 5);
	fill(&m, false, 3);
	m.u.size = K;
	ml_u4_fit(&m.u, NULL, &arena);
	assert_true(ml_u4_gptq(&m.u, harness_lower(&arena, h, K), &arena));
	ml_u4_refine(&m.u, harness_lower(&arena, h, K), &arena);
	for (int j = 0; j < N; j++) {
		double qw = 0, qq = 0;
		for (int i = 0; i < K * K; i++) {
			double q = m.q[i / K * N + j] - (double)m.zero[j];
			qw += q * h[i] * (double)m.saved[i % K * N + j];
			qq += q * h[i] * (m.q[i % K * N + j] - (double)m.zero[j]);
		}
		/* f16 has 11 bits: half a step, and a little for sums in f32 */
		assert_true(fabs((double)m.scale[j] - qw / qq) <= 0x1.1p-11 * qw / qq);
	}
	ml_arena_free(&arena);
}

/* Several groups: less is lost, by scales alone, and the last group's cannot be better. */
static void
test_refined(void **state)
{
	static matrix m;
	static double h[K * K];
	static uint8_t q[K * N];
	ml_arena arena;

	(void)state;
	for (int symmetric = 0; symmetric < 2; symmetric++) {
		ml_arena_init(&arena, &cx.memory);
		inputs(h, 5);
		fill(&m, symmetric, 3);
		ml_u4_fit(&m.u, NULL, &arena);
		assert_true(ml_u4_gptq(&m.u, harness_lower(&arena, h, K), &arena));
		double before = output_error(&m, h);
		memcpy(q, m.q, sizeof q);
		ml_u4_refine(&m.u, harness_lower(&arena, h, K), &arena);
		double after = output_error(&m, h);
		assert_memory_equal(q, m.q, sizeof q);
		assert_true(after < .97 * before);
		for (int j = 0; j < N; j++) {
			float *scale = &m.scale[(K / SIZE - 1) * N + j], was = *scale;
			for (int up = 0; up < 2; up++) {
				*scale = was * (up ? 1 + 0x1p-9f : 1 - 0x1p-9f);
				assert_true(output_error(&m, h) > after * .9999);
			}
			*scale = was;
		}
		ml_arena_free(&arena);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fit),           cmocka_unit_test(test_degenerate),
		cmocka_unit_test(test_gptq),          cmocka_unit_test(test_no_inputs),
		cmocka_unit_test(test_refined_group), cmocka_unit_test(test_refined),
	};

	cx.memory = ml_memory_libc();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
