/* test_grad.c -- gradients of small networks, through all passes and compiled: what the evaluator
 * computes of them as they were built. */
#include "harness_model.h"
#include "ir/grad.h"
#include "passes/pipeline.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define LOSS(y, rank, axes, one)                                                                   \
	"%sq = mul %" y ", %" y " : f32" rank "\n%loss = reduce_mean %sq {axes = " axes            \
	"} : f32" one "\nout \"loss\" = %loss\n}\n"

static const char mlp[] =
	"module \"mlp\" {\nsym n\nin %x \"x\" : f32[n, 20]\nin %w1 : f32[20, 33]\n"
	"in %b1 : f32[33]\nin %w2 : f32[33, 7]\n%h = linear %x, %w1, %b1 : f32[n, 33]\n"
	"%z = const {0} : f32[]\n%r = max %h, %z : f32[n, 33]\n%o = linear %r, %w2 : f32[n, 7]\n"
	"%y = softmax %o : f32[n, 7]\n" LOSS("y", "[n, 7]", "[0, 1]", "[1, 1]");

static const char block[] =
	"module \"block\" {\nsym b\nsym s\nin %i \"ids\" : s64[b, s]\nin %emb : f32[5, 16]\n"
	"in %g : f32[16]\nin %wq : f32[16, 16]\nin %wk : f32[16, 16]\nin %bk : f32[16]\n"
	"in %wo : f32[16, 16]\nin %w1 : f32[16, 24]\nin %w2 : f32[24, 16]\n"
	"%x = gather %emb, %i {axis = 0} : f32[b, s, 16]\n"
	"%n = layer_norm %x, %g, %g : f32[b, s, 16]\n"
	"%q3 = linear %n, %wq : f32[b, s, 16]\n%k3 = linear %n, %wk, %bk : f32[b, s, 16]\n"
	"%q4 = reshape %q3 {shape = [b, s, 2, 8]} : f32[b, s, 2, 8]\n"
	"%k4 = reshape %k3 {shape = [b, s, 2, 8]} : f32[b, s, 2, 8]\n"
	"%q = transpose %q4 {perm = [0, 2, 1, 3]} : f32[b, 2, s, 8]\n"
	"%k = transpose %k4 {perm = [0, 2, 1, 3]} : f32[b, 2, s, 8]\n"
	"%a = attention %q, %k, %q {scale = 0.35} : f32[b, 2, s, 8]\n"
	"%at = transpose %a {perm = [0, 2, 1, 3]} : f32[b, s, 2, 8]\n"
	"%a3 = reshape %at {shape = [b, s, 16]} : f32[b, s, 16]\n"
	"%o = linear %a3, %wo : f32[b, s, 16]\n%r = add %o, %x : f32[b, s, 16]\n"
	"%n2 = layer_norm %r, %g : f32[b, s, 16]\n%f = linear %n2, %w1 : f32[b, s, 24]\n"
	"%u = gelu %f : f32[b, s, 24]\n%d = linear %u, %w2 : f32[b, s, 16]\n"
	"%y = add %r, %d : f32[b, s, 16]\n" LOSS("y", "[b, s, 16]", "[0, 1, 2]", "[1, 1, 1]");

static const char convolution[] =
	"module \"conv\" {\nsym n\nsym h\nin %x \"x\" : f32[n, 3, h, 9]\n"
	"in %w : f32[8, 3, 3, 3]\nin %c : f32[8]\n"
	"%o = conv %x, %w, %c {stride = [2, 2], dilation = [1, 1], low = [1, 1], high = [1, 1]} : "
	"f32[n, 8, (h - 1) floordiv 2 + 1, 5]\n%y = sigmoid %o : f32[n, 8, (h - 1) floordiv 2 + 1, "
	"5]\n" LOSS("y", "[n, 8, (h - 1) floordiv 2 + 1, 5]", "[0, 1, 2, 3]", "[1, 1, 1, 1]");

static void
optimize(model *m)
{
	ml_pipeline_options o = {.opt_level = 3, .fuel = -1, .verify_each = true};
	ml_pipeline p;

	assert_int_equal(ml_pipeline_init(&p, &m->cx, &m->arena, &o, NULL, 0), ML_OK);
	assert_int_equal(ml_pipeline_run(&p, m->m, &o), ML_OK);
}

static void
check_gradients(const char *text, const int64_t (*sizes)[2], int nsizes)
{
	const ml_target *level[ML_LEVEL_COUNT];
	int nlevels = model_levels(level);

	for (int l = 0; l < nlevels; l++) {
		const ml_value *wrt[16];
		int n = 0;
		model m;
		model_open(&m, text);
		ml_module *forward = m.m;
		for (int i = 0; i < forward->main->nargs; i++)
			if (ml_is_float(forward->main->arg[i]->type.dtype))
				wrt[n++] = forward->main->arg[i];
		assert_int_equal(
			ml_grad_module(forward, ml_in(forward->main->last, 0), wrt, n, &m.m),
			ML_OK);
		ml_module_free(forward);
		ml_module *built = ml_module_clone(m.m);
		optimize(&m);
		model_compile(&m, level[l]);
		ml_module_free(m.m);
		m.m = built;
		for (int i = 0; i < nsizes; i++)
			model_check(&m, sizes[i]);
		model_close(&m);
	}
}

static void
test_mlp(void **state)
{
	(void)state;
	check_gradients(mlp, (const int64_t[][2]){{1, 0}, {5, 0}, {32, 0}}, 3);
}

static void
test_block(void **state)
{
	(void)state;
	check_gradients(block, (const int64_t[][2]){{1, 1}, {2, 7}, {3, 17}}, 3);
}

static void
test_conv(void **state)
{
	(void)state;
	check_gradients(convolution, (const int64_t[][2]){{1, 1}, {2, 4}, {3, 9}}, 3);
}

/* Gradients of a layer's weights and bias. */
#define LAYER(x, d)                                                                                \
	"module \"layer\" {\nsym b\nsym s\nin %x \"x\" : f32[b, s, 40]\nin %d \"d\" : f32[b, s, "  \
	"20]\n%xn = cast %x {dtype = bf16} : bf16[b, s, 40]\n%xw = cast %xn {dtype = f32} : "      \
	"f32[b, s, 40]\n%dn = cast %d {dtype = bf16} : bf16[b, s, 20]\n"                           \
	"%dw = cast %dn {dtype = f32} : f32[b, s, 20]\n"                                           \
	"%w = dot %" x ", %" d " {lhs_contract = [0, 1], rhs_contract = [0, 1]} : f32[40, 20]\n"   \
	"%c = reduce_sum %" d " {axes = [0, 1]} : f32[1, 1, 20]\n"                                 \
	"out \"w\" = %w\nout \"c\" = %c\n}\n"

/* Both are products, with the same panels. */
static void
check_sums(const char *text)
{
	const ml_target *level[ML_LEVEL_COUNT];
	int nlevels = model_levels(level), packs = 0, products = 0;
	model m;

	model_open(&m, text);
	const ml_plan *plan = model_plan(&m);
	for (int i = 0; i < plan->main->steps.count; i++) {
		ml_family family = plan->specs.at[plan->main->steps.at[i].spec].family;
		packs += family == ML_FAMILY_PACK;
		products += family == ML_FAMILY_CONTRACT;
	}
	assert_int_equal(packs, 1);
	assert_int_equal(products, 2);
	model_close(&m);
	for (int l = 0; l < nlevels; l++) {
		model_open(&m, text);
		model_compile(&m, level[l]);
		model_check(&m, (int64_t[]){1, 1});
		model_check(&m, (int64_t[]){3, 17});
		model_close(&m);
	}
}

static void
test_sums(void **state)
{
	(void)state;
	check_sums(LAYER("x", "d"));
	check_sums(LAYER("xw", "dw"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mlp),
		cmocka_unit_test(test_block),
		cmocka_unit_test(test_conv),
		cmocka_unit_test(test_sums),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
