/* test_grad_module.c -- gradients of whole modules: requests, ties, ends, errors, small networks.
 */
#include "harness_grad.h"
#include "harness_text.h"
#include "ir/grad.h"
#include <string.h>

#define MODULE(body) "module \"m\" {\n" body "\n}\n"

static ml_value *
named(const ml_module *m, const char *name)
{
	for (int i = 0; i < m->main->nargs; i++)
		if (m->main->arg[i]->name && !strcmp(m->main->arg[i]->name, name))
			return m->main->arg[i];
	for (const ml_node *n = m->main->first; n; n = n->next)
		for (int i = 0; i < n->nout; i++)
			if (n->out[i].name && !strcmp(n->out[i].name, name))
				return &n->out[i];
	fail_msg("no value '%s'", name);
	return NULL;
}

/* Outputs of `text` with the gradients of its value "loss" by those in `wrt`. */
static ml_module *
with_gradients(ml_context *cx, const char *text, const char *const *wrt, int n)
{
	ml_module *m = text_module(cx, text), *result = NULL;
	const ml_value *value[8];

	for (int i = 0; i < n; i++)
		value[i] = named(m, wrt[i]);
	if (ml_grad_module(m, named(m, "loss"), value, n, &result) || ml_verify(result))
		fail_msg("%s", text_newest(cx));
	ml_module_free(m);
	return result;
}

static ml_tensor
vector(double *x, int64_t n)
{
	return (ml_tensor){ML_f64, 1, {n}, x, (size_t)n * sizeof *x};
}

static void
expect_numbers(ml_context *cx, const ml_module *m, const ml_tensor *in, int which,
	       const double *want)
{
	ml_tensor out[8];

	if (ml_evaluate(m, in, out, &cx->arena, NULL) != ML_OK)
		fail_msg("%s", text_newest(cx));
	for (size_t i = 0; i < out[which].bytes / sizeof *want; i++)
		if (!(((const double *)out[which].data)[i] == want[i]))
			fail_msg("element %d is %g, not %g", (int)i,
				 ((const double *)out[which].data)[i], want[i]);
}

/* ---- where the derivative jumps ---- */

static void
expect_gradient(ml_context *cx, const char *formula, const double *x, const double *want, int n)
{
	double copy[8];
	char *text = ml_format(&cx->arena,
			       MODULE("in %%x \"x\" : f64[%d]\n%s\n"
				      "%%loss \"loss\" = reduce_sum %%y {axes = [0]} : f64[1]\n"
				      "out \"loss\" = %%loss"),
			       n, formula);
	ml_module *m = with_gradients(cx, text, (const char *[]){"x"}, 1);

	memcpy(copy, x, (size_t)n * sizeof *x);
	expect_numbers(cx, m, &(ml_tensor){ML_f64, 1, {n}, copy, (size_t)n * sizeof *x}, 1, want);
	ml_module_free(m);
}

static void
test_ties(void **state)
{
	static const double x[] = {-1, 0, 2}, tied[] = {3, 1, 3}, zeros[] = {0, 2, 0};
	static const double relu[] = {0, 0, 1}, half[] = {1, 1, 1}, shared[] = {0.5, 0, 0.5};
	static const double sign[] = {-1, 0, 1}, flat[] = {0, 4, 0}, none[] = {0, 0, 0};
	ml_context *cx = *state;

	expect_gradient(cx, "%z = const {0} : f64[1] %y = max %x, %z : f64[3]", x, relu, 3);
	expect_gradient(cx, "%z = const {0} : f64[1] %y = min %z, %x : f64[3]", x,
			(const double[]){1, 0, 0}, 3);
	expect_gradient(cx, "%y = max %x, %x : f64[3]", x, half, 3);
	expect_gradient(cx, "%y = reduce_max %x {axes = [0]} : f64[1]", tied, shared, 3);
	expect_gradient(cx, "%y = abs %x : f64[3]", x, sign, 3);
	expect_gradient(cx, "%z = const {2} : f64[1] %y = pow %x, %z : f64[3]", zeros, flat, 3);
	expect_gradient(cx, "%z = const {0, 0, 0} : f64[3] %y = pow %x, %z : f64[3]", zeros, none,
			3);
	expect_gradient(cx, "%z = const {0, 2, 0} : f64[3] %y = pow %z, %x : f64[3]", none,
			(const double[]){0, 0.6931471805599453, 0}, 3);
}

/* ---- requests ---- */

static void
test_ends(void **state)
{
	static const double one[] = {1, 1, 1};
	ml_context *cx = *state;

	/* Neither positions nor whole numbers change with x. */
	expect_gradient(cx,
			"%i = arg_max %x {axis = 0} : s64[1] %t = const {5, 6, 7} : f64[3]"
			" %g = gather %t, %i {axis = 0} : f64[1]"
			" %c = cast %x {dtype = s32} : s32[3] %d = cast %c {dtype = f64} : f64[3]"
			" %e = add %d, %g : f64[3] %y = add %e, %x : f64[3]",
			(const double[]){1, 2, 3}, one, 3);
}

static void
test_constants_become_inputs(void **state)
{
	static const char text[] =
		MODULE("in %x \"x\" : f64[2]\n%w \"w\" = const {3, 4} : f64[2]\n"
		       "%p = mul %x, %w : f64[2]\n%loss \"loss\" = reduce_sum %p {axes = [0]} : "
		       "f64[1]\nout \"loss\" = %loss");
	ml_context *cx = *state;
	double x[] = {1, 2}, w[] = {5, 6};
	ml_tensor in[] = {vector(x, 2), vector(w, 2)};
	ml_module *m = with_gradients(cx, text, (const char *[]){"w", "x"}, 2);

	assert_int_equal(m->main->nargs, 2);
	assert_string_equal(m->main->arg[1]->name, "w");
	assert_string_equal(m->output_names.at[1], "gradient of w");
	expect_numbers(cx, m, in, 0, (const double[]){17});
	expect_numbers(cx, m, in, 1, x);
	expect_numbers(cx, m, in, 2, w);
	ml_module_free(m);
}

/* Values inside, also results of composites that are replaced by their bodies, and the loss. */
static void
test_inner_values(void **state)
{
	static const char text[] =
		MODULE("sym n\nin %x \"x\" : f64[n, 2, 1]\n%c = const {1, 2} : f64[2]\n"
		       "%b \"h\" = batch_norm %x, %c, %c, %c, %c {eps = 0.0} : f64[n, 2, 1]\n"
		       "%s = mul %b, %b : f64[n, 2, 1]\n"
		       "%loss \"loss\" = reduce_sum %s {axes = [0, 1, 2]} : f64[1, 1, 1]\n"
		       "out \"loss\" = %loss\nout \"h\" = %b");
	ml_context *cx = *state;
	double x[] = {1, 4}, unused[] = {0};
	ml_tensor in = {ML_f64, 3, {1, 2, 1}, x, sizeof x};
	ml_module *m = with_gradients(cx, text, (const char *[]){"h", "loss"}, 2);
	ml_tensor out[4];

	(void)unused;
	assert_int_equal(ml_evaluate(m, &in, out, &cx->arena, NULL), ML_OK);
	for (int i = 0; i < 2; i++)
		assert_true(((double *)out[2].data)[i] == 2 * ((double *)out[1].data)[i]);
	assert_true(((double *)out[3].data)[0] == 1);
	ml_module_free(m);
}

static void
expect_failure(ml_context *cx, const char *body, const char *message)
{
	ml_module *m = text_module(cx, ml_format(&cx->arena, MODULE("%s"), body)), *result = NULL;
	const ml_value *x = named(m, "x");

	assert_true(ml_grad_module(m, named(m, "loss"), &x, 1, &result) != ML_OK);
	assert_null(result);
	ml_text t;
	ml_text_init(&t, &cx->arena);
	ml_diag_print(&t, cx, &cx->diags.at[cx->diags.count - 1]);
	assert_string_equal(t.at, message);
	ml_module_free(m);
}

static void
test_errors(void **state)
{
	ml_context *cx = *state;

	expect_failure(
		cx,
		"in %x \"x\" : f64[3] %n = const {2} : s64[] %t = const {true} : bool[]\n"
		"%y = loop %n, %t, %x {carried = 1} (%i : s64[], %a : f64[3]) {\n"
		"  %c = const {true} : bool[]\n  yield %c, %a\n"
		"} : f64[3] @\"/encoder\":Loop-13[4]\n"
		"%loss \"loss\" = reduce_sum %y {axes = [0]} : f64[1] out \"loss\" = %loss",
		"node '/encoder' (#4, Loop-13): error: loop has no gradient [unsupported, in "
		"gradient]\nhint: what lies before this node cannot be trained through it");
	expect_failure(cx,
		       "in %x \"x\" : f64[3] %loss \"loss\" = exp %x : f64[3] "
		       "@\"/exp\":Exp-13[1] out \"loss\" = %loss",
		       "node '/exp' (#1, Exp-13): error: a loss must have one element [shape, in "
		       "gradient]");
	expect_failure(cx,
		       "in %x \"x\" : s32[] in %loss \"loss\" : f64[] out \"loss\" = %loss\n"
		       "out \"x\" = %x",
		       "error: only floats have gradients, not s32 [type, in gradient]");
	expect_failure(cx,
		       "in %x \"x\" : f64[] %loss \"loss\" = cast %x {dtype = s32} : s32[]\n"
		       "out \"loss\" = %loss",
		       "error: a loss must be a float, not s32 [type, in gradient]");
	expect_failure(cx,
		       "in %x \"x\" : f64[2] in %d : f64[2] %i = const {0, 0} : s64[2]\n"
		       "%y = scatter %d, %i, %x {mode = \"mul\"} : f64[2] @\"s\":ScatterND-16[2]\n"
		       "%loss \"loss\" = reduce_sum %y {axes = [0]} : f64[1] out \"loss\" = %loss",
		       "node 's' (#2, ScatterND-16): error: scatter of mode mul has no gradient by "
		       "its updates [unsupported, in gradient]");
}

/* A loop that the loss does not need is no obstacle. */
static void
test_unneeded_loop(void **state)
{
	static const char text[] =
		MODULE("in %x \"x\" : f64[1]\n%n = const {2} : s64[] %t = const {true} : bool[]\n"
		       "%y = loop %n, %t, %x {carried = 1} (%i : s64[], %a : f64[1]) {\n"
		       "  %c = const {true} : bool[]\n  yield %c, %a\n} : f64[1]\n"
		       "%loss \"loss\" = neg %x : f64[1]\nout \"loss\" = %loss\nout \"y\" = %y");
	ml_context *cx = *state;
	double x[] = {1};
	ml_tensor in = vector(x, 1);
	ml_module *m = with_gradients(cx, text, (const char *[]){"x"}, 1);

	expect_numbers(cx, m, &in, 2, (const double[]){-1});
	ml_module_free(m);
}

/* ---- networks ---- */

/* Cross entropy of a two-layer network. */
static const char mlp[] =
	MODULE("sym n\nin %x : f64[n, 4]\nin %w1 : f64[4, 5]\nin %b1 : f64[5]\nin %w2 : f64[5, 3]\n"
	       "%h = linear %x, %w1, %b1 : f64[n, 5]\n%z = const {0} : f64[]\n"
	       "%r = max %h, %z : f64[n, 5]\n%o = linear %r, %w2 : f64[n, 3]\n"
	       "%p = softmax %o : f64[n, 3]\n%l = log %p : f64[n, 3]\n"
	       "%m = reduce_mean %l {axes = [0]} : f64[1, 3]\nout \"l\" = %m");

/* A pre-norm block with one embedding table: rows of the input are looked up by position. */
static const char block[] = MODULE(
	"sym b\nsym s\nin %x : f64[b, s, 4]\nin %g : f64[4]\nin %wqkv : f64[4, 12]\n"
	"in %bqkv : f64[12]\nin %wo : f64[4, 4]\nin %g2 : f64[4]\nin %w1 : f64[4, 6]\n"
	"in %w2 : f64[6, 4]\nin %emb : f64[5, 4]\n"
	"%i = iota {shape = [s], axis = 0, dtype = s64} : s64[s]\n"
	"%e = gather %emb, %i {axis = 0} : f64[s, 4]\n%x1 = add %x, %e : f64[b, s, 4]\n"
	"%n = layer_norm %x1, %g, %g : f64[b, s, 4]\n"
	"%p = linear %n, %wqkv, %bqkv : f64[b, s, 12]\n"
	"%p5 = reshape %p {shape = [b, s, 3, 2, 2]} : f64[b, s, 3, 2, 2]\n"
	"%t = transpose %p5 {perm = [2, 0, 3, 1, 4]} : f64[3, b, 2, s, 2]\n"
	"%q1 = slice %t {start = [0, 0, 0, 0, 0], size = [1, b, 2, s, 2], step = [1, 1, 1, 1, "
	"1]} : f64[1, b, 2, s, 2]\n"
	"%k1 = slice %t {start = [1, 0, 0, 0, 0], size = [1, b, 2, s, 2], step = [1, 1, 1, 1, "
	"1]} : f64[1, b, 2, s, 2]\n"
	"%v1 = slice %t {start = [2, 0, 0, 0, 0], size = [1, b, 2, s, 2], step = [1, 1, 1, 1, "
	"1]} : f64[1, b, 2, s, 2]\n"
	"%q = reshape %q1 {shape = [b, 2, s, 2]} : f64[b, 2, s, 2]\n"
	"%k = reshape %k1 {shape = [b, 2, s, 2]} : f64[b, 2, s, 2]\n"
	"%v = reshape %v1 {shape = [b, 2, s, 2]} : f64[b, 2, s, 2]\n"
	"%a = attention %q, %k, %v {scale = 0.7} : f64[b, 2, s, 2]\n"
	"%at = transpose %a {perm = [0, 2, 1, 3]} : f64[b, s, 2, 2]\n"
	"%a3 = reshape %at {shape = [b, s, 4]} : f64[b, s, 4]\n"
	"%o = linear %a3, %wo : f64[b, s, 4]\n%r = add %o, %x1 : f64[b, s, 4]\n"
	"%n2 = layer_norm %r, %g2 : f64[b, s, 4]\n%f = linear %n2, %w1 : f64[b, s, 6]\n"
	"%u = gelu %f : f64[b, s, 6]\n%d = linear %u, %w2 : f64[b, s, 4]\n"
	"%y = add %r, %d : f64[b, s, 4]\nout \"y\" = %y");

static void
test_networks(void **state)
{
	ml_context *cx = *state;

	for (uint32_t seed = 1; seed < 4; seed++) {
		grad_check(cx, mlp, -1, 1, seed);
		grad_check(cx, block, -1, 1, seed);
	}
}

/* 16-bit networks get 16-bit gradients. */
static void
test_half(void **state)
{
	static const char text[] =
		MODULE("in %x \"x\" : f16[2, 4]\nin %w \"w\" : f16[4, 3]\n"
		       "%y = linear %x, %w : f16[2, 3]\n%g = gelu %y : f16[2, 3]\n"
		       "%p = softmax %g : f16[2, 3]\n"
		       "%loss \"loss\" = reduce_sum %p {axes = [0, 1]} : f16[1, 1]\n"
		       "out \"loss\" = %loss");
	ml_context *cx = *state;
	ml_module *m = with_gradients(cx, text, (const char *[]){"w"}, 1);

	assert_true(ml_type_equal(&ml_in(m->main->last, 1)->type, &m->main->arg[1]->type));
	ml_module_free(m);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, text_setup, text_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_ties),         TEST(test_ends),   TEST(test_constants_become_inputs),
		TEST(test_inner_values), TEST(test_errors), TEST(test_unneeded_loop),
		TEST(test_networks),     TEST(test_half),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
