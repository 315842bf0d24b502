/* test_agree.c -- agreement, KL, cosine and SQNR against the formulas, with padding left out. */
#include "harness_context.h"
#include "passes/agree.h"
#include <math.h>
#include <string.h>

static ml_context cx;

/* Logits by a linear layer, tokens' hidden states, labels; all behind one mask. */
static const char text[] =
	"module \"m\" {\n"
	"  sym b\n"
	"  sym s\n"
	"  in %x \"x\" : f32[b, s, 8]\n"
	"  in %mask \"attention_mask\" : s64[b, s]\n"
	"  in %i \"i\" : s64[b]\n"
	"  %w = const {1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}"
	" : f32[8, 3]\n"
	"  %y = linear %x, %w : f32[b, s, 3]\n"
	"  %p = softmax %y {axis = 2} : f32[b, s, 3]\n"
	"  %h = add %x, %x : f32[b, s, 8]\n"
	"  out \"scores\" = %y\n"
	"  out \"p\" = %p\n"
	"  out \"states\" = %h\n"
	"  out \"label\" = %i\n"
	"}\n";

enum { LOGITS, PROBABILITIES, STATES, LABEL, OUTPUTS };

static ml_module *
parse(const char *module)
{
	ml_module *m = NULL;

	assert_int_equal(ml_parse(&cx, module, strlen(module), NULL, NULL, &m), ML_OK);
	return m;
}

static ml_tensor
tensor(void *data, ml_dtype dtype, int64_t a, int64_t b, int64_t c)
{
	int rank = c ? 3 : b ? 2 : 1;
	ml_tensor t = {.dtype = dtype, .rank = rank, .dim = {a, b, c}, .data = data};

	t.bytes = (size_t)(a * (b ? b : 1) * (c ? c : 1)) * (size_t)ml_dtype_bytes(dtype);
	return t;
}

static void
test_kinds(void **state)
{
	ml_module *m = parse(text);
	ml_agree a;

	(void)state;
	ml_agree_init(&a, m, &m->arena);
	assert_int_equal(a.outputs, OUTPUTS);
	assert_int_equal(a.output[LOGITS].kind, ML_AGREE_LOGITS);
	assert_int_equal(a.output[PROBABILITIES].kind, ML_AGREE_PROBABILITIES);
	assert_int_equal(a.output[STATES].kind, ML_AGREE_VALUES);
	assert_int_equal(a.output[LABEL].kind, ML_AGREE_LABELS);
	assert_true(a.decides);
	for (int i = 0; i < LABEL; i++) {
		assert_int_equal(a.output[i].mask, 1);
		assert_int_equal(a.output[i].axis[1], 1);
	}
	assert_int_equal(a.output[LABEL].mask, -1);
	ml_module_free(m);
}

/* Two rows, of which the mask leaves one; every number by its formula. */
static void
test_formulas(void **state)
{
	ml_module *m = parse(text);
	int64_t mask[2] = {1, 0}, one[1] = {7}, other[1] = {8};
	float y[6] = {1, 2, 0, 9, 9, 9}, z[6] = {2, 1, 0, -9, 0, NAN};
	float p[6] = {.25f, .5f, .25f, 1, 0, 0}, q[6] = {.5f, .25f, .25f, 0, 1, 0};
	float h[16] = {3, 4, 0, 0, 0, 0, 0, 0, 5}, g[16] = {3, 0, 4, 0, 0, 0, 0, 0, -5};
	ml_tensor in[3] = {tensor(h, ML_f32, 1, 2, 8), tensor(mask, ML_s64, 1, 2, 0),
			   tensor(one, ML_s64, 1, 0, 0)};
	ml_tensor teacher[OUTPUTS] = {tensor(y, ML_f32, 1, 2, 3), tensor(p, ML_f32, 1, 2, 3),
				      tensor(h, ML_f32, 1, 2, 8), tensor(one, ML_s64, 1, 0, 0)};
	ml_tensor candidate[OUTPUTS] = {tensor(z, ML_f32, 1, 2, 3), tensor(q, ML_f32, 1, 2, 3),
					tensor(g, ML_f32, 1, 2, 8), tensor(other, ML_s64, 1, 0, 0)};
	ml_agree a;

	(void)state;
	ml_agree_init(&a, m, &m->arena);
	ml_agree_add(&a, in, teacher, candidate);
	ml_agree_means logits = ml_agree_of(&a.output[LOGITS]);
	/* log-sum-exp is the same on both sides: KL = sum p (y - z) = (e^2 - e) / (e^2 + e + 1) */
	double e = exp(1);
	assert_int_equal(logits.rows, 1);
	assert_true(logits.agreement == 0);
	assert_true(fabs(logits.kl - (e * e - e) / (e * e + e + 1)) < 1e-12);
	assert_true(fabs(logits.cosine - 4.0 / 5.0) < 1e-12);
	assert_true(fabs(logits.sqnr - 10 * log10(5.0 / 2.0)) < 1e-12);
	ml_agree_means probabilities = ml_agree_of(&a.output[PROBABILITIES]);
	assert_true(fabs(probabilities.kl - .25 * log(2)) < 1e-12); /* -.25 ln 2 + .5 ln 2 */
	ml_agree_means states = ml_agree_of(&a.output[STATES]);
	assert_true(fabs(states.cosine - 9.0 / 25.0) < 1e-12);
	assert_true(ml_agree_of(&a.output[LABEL]).agreement == 0);
	assert_true(ml_agree_loss(&a) == 1);
	ml_agree_add(&a, in, teacher, teacher);
	assert_true(ml_agree_of(&a.output[LOGITS]).agreement == .5);
	assert_true(ml_agree_loss(&a) == .5);
	assert_true(ml_agree_total(&a).rows == 6);
	ml_agree_clear(&a);
	ml_agree_add(&a, in, teacher, teacher);
	assert_true(ml_agree_loss(&a) == 0 && ml_agree_error(&a) == 0);
	assert_true(ml_agree_total(&a).cosine == 1);
	ml_module_free(m);
}

/* A model that decides nothing is judged by its cosines; broken rows are a total loss. */
static void
test_cosine_rule(void **state)
{
	ml_module *m = parse("module \"m\" {\n"
			     "  sym b\n"
			     "  in %x \"x\" : f32[b, 16]\n"
			     "  in %r \"r\" : f32[b, 1]\n"
			     "  %y = add %x, %x : f32[b, 16]\n"
			     "  %q = add %r, %r : f32[b, 1]\n"
			     "  out \"y\" = %y\n"
			     "  out \"q\" = %q\n"
			     "}\n");
	float y[32] = {1}, z[32] = {1}, q[2] = {3, 4}, r[2] = {4, 3};
	ml_tensor t[2] = {tensor(y, ML_f32, 2, 16, 0), tensor(q, ML_f32, 2, 1, 0)};
	ml_tensor c[2] = {tensor(z, ML_f32, 2, 16, 0), tensor(r, ML_f32, 2, 1, 0)};
	ml_agree a;

	(void)state;
	y[16] = 4, z[16] = 4, z[17] = 3;
	ml_agree_init(&a, m, &m->arena);
	assert_false(a.decides);
	ml_agree_add(&a, NULL, t, c);
	assert_true(fabs(ml_agree_of(&a.output[0]).cosine - .9) < 1e-12); /* of 1 and 4 / 5 */
	/* rows of one number have no direction: all of them together do */
	assert_true(fabs(ml_agree_of(&a.output[1]).cosine - 24.0 / 25.0) < 1e-12);
	assert_true(fabs(ml_agree_loss(&a) - 1) < 1e-12); /* the worst output: 10 * (1 - .9) */
	ml_agree_clear(&a);
	z[17] = 0;
	ml_agree_add(&a, NULL, t, (ml_tensor[]){c[0], t[1]});
	assert_true(ml_agree_loss(&a) == 0);
	z[0] = INFINITY;
	ml_agree_add(&a, NULL, t, (ml_tensor[]){c[0], t[1]});
	assert_true(ml_agree_loss(&a) == 1);
	assert_true(isinf(ml_agree_error(&a)));
	ml_agree_clear(&a);
	ml_agree_add(&a, NULL, t, (ml_tensor[]){tensor(z, ML_f32, 1, 16, 0), t[1]});
	assert_true(ml_agree_loss(&a) == 1); /* another shape */
	ml_module_free(m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_formulas),
		cmocka_unit_test(test_cosine_rule),
	};

	return HARNESS_RUN(&cx, tests);
}
