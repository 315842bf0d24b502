/* test_compare.c -- metrics against values worked out by hand and by numpy. */
#include "scratch.h"
#include "tools/data/compare.h"
#include "tools/data/load.h"
#include <math.h>

static md_array
view(md_dtype dtype, int rank, const int64_t *dim, const void *data)
{
	md_array a = {.name = "y", .dtype = dtype, .rank = rank, .data = (void *)data};

	if (rank)
		memcpy(a.dim, dim, (size_t)rank * sizeof *dim);
	md_shape_bytes(dtype, rank, dim, &a.bytes, NULL, 0);
	return a;
}

static md_metrics
compare_f32(int64_t rows, int64_t columns, const float *ref, const float *cand)
{
	const int64_t dim[] = {rows, columns};
	md_array r = view(MD_F32, 2, dim, ref), c = view(MD_F32, 2, dim, cand);
	md_compare sums = {0};

	assert_int_equal(md_compare_add(&sums, &r, &c, NULL, 0), 0);
	return md_compare_metrics(&sums);
}

static void
assert_close(double got, double expected)
{
	if (!(fabs(got - expected) <= 1e-12 * fmax(1, fabs(expected))))
		fail_msg("%.17g instead of %.17g", got, expected);
}

static void
test_equal(void **state)
{
	static const float x[] = {1, -2, 3, 0, 0, 0};
	md_metrics m = compare_f32(2, 3, x, x);

	(void)state;
	assert_true(m.max_abs == 0 && m.max_rel == 0 && m.kl == 0);
	assert_true(m.sqnr_db == INFINITY);
	assert_close(m.cosine, 1);
	assert_true(m.top1_agreement == 1);
	assert_int_equal(m.elements, 6);
	assert_int_equal(m.rows, 2);
}

static void
test_by_hand(void **state)
{
	/* errors 0, 1, 0, 1; sum ref^2 = 30, sum error^2 = 2 */
	md_metrics m = compare_f32(2, 2, (float[]){1, 2, 3, 4}, (float[]){1, 1, 3, 5});

	(void)state;
	assert_true(m.max_abs == 1);
	assert_true(m.max_rel == 0.25);
	assert_close(m.sqnr_db, 10 * log10(15));
	assert_close(m.cosine, (3 / sqrt(10) + 29 / sqrt(25 * 34.0)) / 2);
	assert_true(m.top1_agreement == 0.5); /* the tie 1, 1 goes to the lowest index */
}

static void
test_kl_by_hand(void **state)
{
	/* softmax (3/4, 1/4) against (1/2, 1/2), far from 0 to need the shift */
	float ref[] = {1000 + logf(3), 1000}, cand[] = {-5000, -5000};
	double p = 1 / (1 + exp((double)ref[1] - (double)ref[0]));
	md_metrics m = compare_f32(1, 2, ref, cand);

	(void)state;
	assert_close(m.kl, p * log(2 * p) + (1 - p) * log(2 * (1 - p)));
	assert_true(fabs(m.kl - (0.75 * log(1.5) + 0.25 * log(0.5))) < 1e-4);
}

static void
test_streaming_is_the_whole(void **state)
{
	float ref[3000], cand[3000];
	const int64_t dim[] = {1, 1000};
	md_compare sums = {0};
	md_metrics whole, parts;

	(void)state;
	for (int i = 0; i < 3000; i++) {
		ref[i] = (float)sin(i * 0.37);
		cand[i] = ref[i] + (float)cos(i * 1.7) * 0.01f;
	}
	whole = compare_f32(3, 1000, ref, cand);
	for (int i = 0; i < 3; i++) {
		md_array r = view(MD_F32, 2, dim, ref + 1000 * i);
		md_array c = view(MD_F32, 2, dim, cand + 1000 * i);

		assert_int_equal(md_compare_add(&sums, &r, &c, NULL, 0), 0);
	}
	parts = md_compare_metrics(&sums);
	assert_memory_equal(&whole, &parts, sizeof whole);
	assert_true(whole.max_abs > 0.0099 && whole.max_abs < 0.0101);
	assert_true(whole.kl > 0 && whole.kl < 1e-4);
}

static void
test_zero_rows(void **state)
{
	md_metrics m = compare_f32(2, 2, (float[]){0, 0, 0, 0}, (float[]){0, 0, 1, 0});

	(void)state;
	assert_true(m.cosine == 0.5);
	assert_true(m.max_rel == INFINITY);
	assert_true(m.sqnr_db == -INFINITY);
}

static void
test_equal_nonfinite(void **state)
{
	float ref[] = {NAN, 1, -INFINITY, 3}, cand[] = {NAN, 2, -INFINITY, 3};
	md_metrics m = compare_f32(2, 2, ref, cand);

	(void)state;
	assert_true(m.max_abs == 1);
	assert_close(m.max_rel, 1.0 / 3);
	assert_int_equal(m.mismatches, 0);
	assert_true(m.cosine == 1);
	assert_true(m.kl == 0); /* -inf is probability 0 in both */
	assert_true(m.top1_agreement == 1);
	assert_close(m.sqnr_db, 10);
}

static void
test_mismatched_nonfinite(void **state)
{
	static const float bad[] = {NAN, INFINITY, -INFINITY};

	(void)state;
	for (int i = 0; i < 6; i++) {
		float one[] = {1, 2, bad[i % 3], 4}, other[] = {1, 2, 3, 4};
		md_metrics m =
			i < 3 ? compare_f32(2, 2, one, other) : compare_f32(2, 2, other, one);

		assert_true(m.max_abs == INFINITY && m.max_rel == INFINITY);
		assert_true(m.sqnr_db == -INFINITY && m.kl == INFINITY);
		assert_true(m.cosine == 0.5);
		assert_int_equal(m.mismatches, 1);
	}
	assert_true(compare_f32(1, 1, (float[]){INFINITY}, (float[]){-INFINITY}).max_abs ==
		    INFINITY);
}

static void
test_shapes_and_dtypes(void **state)
{
	scratch *s = *state;
	const int64_t two[] = {2}, three[] = {3};
	md_array a = view(MD_I64, 1, two, (int64_t[]){3, -1});
	md_array b = view(MD_F64, 1, two, (double[]){3, -1});
	md_array c = view(MD_I64, 1, three, (int64_t[]){3, -1, 0});
	md_array d = view(MD_U8, 0, NULL, (uint8_t[]){4});
	md_compare sums = {0};

	assert_int_equal(md_compare_add(&sums, &a, &b, WHY(s)), 0);
	assert_int_equal(md_compare_metrics(&sums).rows, 1); /* one dim: one row */
	assert_int_equal(md_compare_add(&sums, &d, &d, WHY(s)), 0);
	assert_int_equal(md_compare_metrics(&sums).rows, 2);
	assert_true(md_compare_metrics(&sums).max_abs == 0);
	assert_int_equal(md_compare_add(&sums, &a, &c, WHY(s)), -1);
	assert_why(s, "cannot compare 'y': reference i64[2], candidate i64[3]");
	assert_int_equal(md_compare_add(&sums, &a, &d, WHY(s)), -1);
}

static void
test_nothing(void **state)
{
	md_metrics m = compare_f32(0, 4, NULL, NULL);

	(void)state;
	assert_true(m.max_abs == 0 && m.cosine == 1 && m.top1_agreement == 1);
	assert_true(m.sqnr_db == INFINITY);
	assert_int_equal(m.rows, 0);
	m = compare_f32(4, 0, NULL, NULL);
	assert_int_equal(m.elements, 0);
}

static void
test_accuracy(void **state)
{
	scratch *s = *state;
	const int64_t logits_dim[] = {2, 2, 3}, labels_dim[] = {2, 2}, flat[] = {4}, five[] = {5};
	md_array logits =
		view(MD_F32, 3, logits_dim, (float[]){1, 5, 2, 7, 7, 7, 0, 0, 1, NAN, 9, NAN});
	md_array labels = view(MD_I64, 2, labels_dim, (int64_t[]){1, 0, 1, 0});
	md_array i32 = view(MD_I32, 1, flat, (int32_t[]){2, 2, 2, 2});
	md_array f32 = view(MD_F32, 1, flat, (float[]){1, 0, 2, 0});
	md_array wrong = view(MD_I32, 1, five, (int32_t[]){0, 0, 0, 0, 0});
	md_accuracy acc = {0};

	assert_true(isnan(md_accuracy_value(&acc)));
	assert_int_equal(md_accuracy_add(&acc, &logits, &labels, WHY(s)), 0);
	assert_int_equal(acc.right, 3); /* ties and NaNs: the lowest index */
	assert_int_equal(md_accuracy_add(&acc, &logits, &i32, WHY(s)), 0);
	assert_true(md_accuracy_value(&acc) == 0.5);
	/* classes instead of logits */
	assert_int_equal(md_accuracy_add(&acc, &i32, &i32, WHY(s)), 0);
	assert_int_equal(acc.right, 8);
	assert_int_equal(md_accuracy_add(&acc, &logits, &wrong, WHY(s)), -1);
	assert_why(s, "5 labels for 4 rows of 'y'");
	assert_int_equal(md_accuracy_add(&acc, &logits, &f32, WHY(s)), -1);
	assert_why(s, "labels must be integers, not f32");
}

/* The same formulas, written down a second time in numpy, on noise in f32 and f16. */
static void
test_against_numpy(void **state)
{
	static const char code[] =
		"import sys, numpy as np\n"
		"g = np.random.default_rng(5)\n"
		"r = g.normal(0, 3, (7, 11, 700)).astype(np.float32)\n"
		"c = (r + g.normal(0, .3, r.shape)).astype(np.float16)\n"
		"a, b = r.astype(np.float64), c.astype(np.float64)\n"
		"e = abs(a - b)\n"
		"def logsoft(x):\n"
		"    x = x - x.max(-1, keepdims=True)\n"
		"    return x - np.log(np.exp(x).sum(-1, keepdims=True))\n"
		"p, q = logsoft(a), logsoft(b)\n"
		"norm = np.linalg.norm\n"
		"np.savez(sys.argv[1] + '/m.npz', r=r, c=c, m=np.array([\n"
		"    e.max(), e.max() / abs(a).max(), 10 * np.log10((a * a).sum() / (e * "
		"e).sum()),\n"
		"    ((a * b).sum(-1) / norm(a, axis=-1) / norm(b, axis=-1)).mean(),\n"
		"    (np.exp(p) * (p - q)).sum(-1).mean(),\n"
		"    (a.argmax(-1) == b.argmax(-1)).mean()]))\n";
	scratch *s = *state;
	md_arrays in = {0};
	md_compare sums = {0};
	const double *expected;
	md_metrics m;

	assert_true(scratch_python(s, code, s->folder));
	assert_int_equal(md_load(scratch_path(s, "m.npz"), NULL, 0, &in, WHY(s)), 0);
	assert_int_equal(
		md_compare_add(&sums, md_arrays_find(&in, "r"), md_arrays_find(&in, "c"), WHY(s)),
		0);
	m = md_compare_metrics(&sums);
	expected = md_arrays_find(&in, "m")->data;
	assert_close(m.max_abs, expected[0]);
	assert_close(m.max_rel, expected[1]);
	assert_close(m.sqnr_db, expected[2]);
	assert_close(m.cosine, expected[3]);
	assert_close(m.kl, expected[4]);
	assert_close(m.top1_agreement, expected[5]);
	md_arrays_clear(&in);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_by_hand),
		cmocka_unit_test(test_kl_by_hand),
		cmocka_unit_test(test_streaming_is_the_whole),
		cmocka_unit_test(test_zero_rows),
		cmocka_unit_test(test_equal_nonfinite),
		cmocka_unit_test(test_mismatched_nonfinite),
		SCRATCH_TEST(test_shapes_and_dtypes),
		cmocka_unit_test(test_nothing),
		SCRATCH_TEST(test_accuracy),
		SCRATCH_TEST(test_against_numpy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
