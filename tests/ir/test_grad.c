/* test_grad.c -- every gradient rule against central differences: one table, and no rule without a
 * row in it. */
#include "harness_grad.h"
#include "harness_text.h"
#include "ir/grad_rule.h"
#include <string.h>

typedef struct grad_case {
	double lo, hi; /* of the inputs */
	const char *text;
} grad_case;

#define X        "in %x : f64[2, 3] "
#define N        "in %x : f64[a, b, 4] "
#define OP(name) X "%y = " name " %x : f64[2, 3]"
/* Shapes that broadcast in every way: higher rank, size 1 inside, scalars. */
#define PAIR(name)                                                                                 \
	"in %x : f64[2, 1, 3] in %z : f64[4, 1] in %s : f64[] %p = " name                          \
	" %x, %z : f64[2, 4, 3] %q = " name " %s, %p : f64[2, 4, 3] %y = " name                    \
	" %q, %x : f64[2, 4, 3]"
#define CONV(attrs, x, w, y)                                                                       \
	"in %x : f64" x " in %w : f64" w " %y = conv %x, %w {" attrs "} : f64" y

static const grad_case cases[] = {
	{-1, 1, OP("neg")},
	{-1, 1, OP("abs")},
	{0.5, 2, OP("sqrt")},
	{-1, 1, OP("exp")},
	{0.5, 2, OP("log")},
	{-3, 3, OP("sin")},
	{-3, 3, OP("cos")},
	{-1, 1, OP("tan")},
	{-0.9, 0.9, OP("asin")},
	{-0.9, 0.9, OP("acos")},
	{-2, 2, OP("atan")},
	{-2, 2, OP("sinh")},
	{-2, 2, OP("cosh")},
	{-2, 2, OP("tanh")},
	{-2, 2, OP("asinh")},
	{1.2, 3, OP("acosh")},
	{-0.9, 0.9, OP("atanh")},
	{-2, 2, OP("erf")},
	{-2, 2, OP("xcdf")},
	{-1, 1, X "%y = cast %x {dtype = f64} : f64[2, 3]"},

	{-1, 1, PAIR("add")},
	{-1, 1, PAIR("sub")},
	{-1, 1, PAIR("mul")},
	{0.5, 2, PAIR("div")},
	{0.6, 2, PAIR("pow")},
	{-1, 1, PAIR("min")},
	{-1, 1, PAIR("max")},
	{0.5, 4, "in %x : f64[3, 4] in %z : f64[4] %y = rem %x, %z : f64[3, 4]"},
	{-4, -0.5, "in %x : f64[3, 4] in %z : f64[4] %y = mod %x, %z : f64[3, 4]"},
	{-4, 4, X "%c = const {1.5} : f64[] %y = mod %c, %x : f64[2, 3]"},
	{-1, 1, X "%y = mul %x, %x : f64[2, 3]"},
	{-1, 1, X "%c = const {2} : f64[] %y = pow %x, %c : f64[2, 3]"},
	{-1, 1, X "%c = const {3, 1, 0} : s64[3] %y = pow %x, %c : f64[2, 3]"},
	{-1, 1, X "%c = const {0} : f64[] %y = max %x, %c : f64[2, 3]"},
	{-1, 1,
	 X
	 "in %z : f64[1] %c = const {true, false} : bool[2, 1] %y = select %c, %x, %z : f64[2, 3]"},
	{-1, 1, N "in %z : f64[b, 1] %y = mul %x, %z : f64[a, b, 4]"},

	{-1, 1, N "%y = reduce_sum %x {axes = [0, 2]} : f64[1, b, 1]"},
	{-1, 1, N "%y = reduce_mean %x {axes = [1, 2]} : f64[a, 1, 1]"},
	{-1, 1, N "%y = reduce_prod %x {axes = [0, 2]} : f64[1, b, 1]"},
	{-1, 1, N "%y = reduce_prod %x {axes = [1]} : f64[a, 1, 4]"},
	{-1, 1, X "%y = reduce_prod %x {axes = []} : f64[2, 3]"},
	{-1, 1, N "%y = reduce_max %x {axes = [0, 1]} : f64[1, 1, 4]"},
	{-1, 1, N "%y = reduce_min %x {axes = [2]} : f64[a, b, 1]"},
	{-1, 1, "in %x : f64[2, 1] %y = reduce_max %x {axes = [1]} : f64[2, 1]"},
	{-1, 1, N "%y = scan_sum %x {axis = 1} : f64[a, b, 4]"},
	{-1, 1, N "%y = scan_sum %x {axis = 2, exclusive = 1, reverse = 1} : f64[a, b, 4]"},
	{-1, 1, N "%y = scan_prod %x {axis = 2} : f64[a, b, 4]"},
	{-1, 1, N "%y = scan_prod %x {axis = 1, exclusive = 1} : f64[a, b, 4]"},
	{-1, 1, N "%y = scan_prod %x {axis = 0, reverse = 1} : f64[a, b, 4]"},
	{-1, 1, N "%y = scan_prod %x {axis = 2, exclusive = 1, reverse = 1} : f64[a, b, 4]"},
	/* Zeros in products. */
	{-1, 1,
	 X "%z = const {0, 1, 0, 1, 0, 1} : f64[2, 3] %p = mul %x, %z : f64[2, 3]"
	   " %q = reduce_prod %p {axes = [0]} : f64[1, 3] %y = scan_prod %p {axis = 1} : f64[2, 3]"
	   " out \"q\" = %q"},

	{-1, 1, N "%y = reshape %x {shape = [4*a, b]} : f64[4*a, b]"},
	{-1, 1, N "%y = transpose %x {perm = [2, 0, 1]} : f64[4, a, b]"},
	{-1, 1, "in %x : f64[b, 1] %y = broadcast %x {shape = [a, b, 4]} : f64[a, b, 4]"},
	{-1, 1, N "%y = reverse %x {axes = [0, 2]} : f64[a, b, 4]"},
	{-1, 1,
	 "in %x : f64[5, 7] %y = slice %x {start = [1, 0], size = [2, 3], step = [3, 2]} : f64[2, "
	 "3]"},
	{-1, 1,
	 N "%y = slice %x {start = [0, 0, 1], size = [a, b - 1, 2], step = [1, 1, 2]} :"
	   " f64[a, b - 1, 2]"},
	{-1, 1,
	 X "in %z : f64[] %y = pad %x, %z {low = [1, 0], high = [0, 2], interior = [2, 1]} :"
	   " f64[5, 7]"},
	{-1, 1,
	 "in %x : f64[a, b] in %z : f64[] %y = pad %x, %z {low = [0, 1], high = [a, 0], interior ="
	 " [0, 0]} : f64[2*a, b + 1]"},
	{-1, 1, X "in %z : f64[2, 1] %y = concat %x, %z, %x {axis = 1} : f64[2, 7]"},
	{-1, 1,
	 "in %x : f64[a, b] in %z : f64[1, b] %y = concat %z, %x {axis = 0} : f64[a + 1, b]"},
	{-1, 1,
	 "in %x : f64[2, 7, 9] %y = window %x {size = [3, 2], stride = [2, 3], dilation = [1, 2]} :"
	 " f64[2, 3, 3, 3, 2]"},
	{-1, 1,
	 "in %x : f64[2, 3*b] %y = window %x {size = [3], stride = [3], dilation = [1]} :"
	 " f64[2, b, 3]"},

	{-1, 1,
	 X "%i = const {1, -2, 1, 0} : s64[2, 2] %y = gather %x, %i {axis = 0} : f64[2, 2, 3]"},
	{-1, 1,
	 N "%i = const {2, 0, 2, -1} : s64[2, 2] %y = gather %x, %i {axis = 2} : f64[a, b, 2, 2]"},
	{-1, 1, N "%i = const {1} : s64[] %y = gather %x, %i {axis = 1} : f64[a, 4]"},
	{-1, 1,
	 "in %x : f64[4, 2] in %u : f64[3, 2] %i = const {1, 3, -3} : s64[3]"
	 " %y = scatter %x, %i, %u : f64[4, 2]"},
	{-1, 1,
	 "in %x : f64[4, 2] in %u : f64[3, 2] %i = const {1, 3, 1} : s64[3]"
	 " %y = scatter %x, %i, %u {mode = \"add\"} : f64[4, 2]"},
	{-1, 1,
	 "in %x : f64[4, 2] in %u : f64[3, 2] %i = const {1, 3, 1} : s64[3]"
	 " %y = scatter %x, %i, %u {mode = \"max\"} : f64[4, 2]"},
	{-1, 1,
	 "in %x : f64[4] in %u : f64[3] %i = const {1, 3, 1} : s64[3]"
	 " %y = scatter %x, %i, %u {mode = \"min\"} : f64[4]"},
	{-1, 1,
	 "in %x : f64[4] %u = const {2, 3, 4} : f64[3] %i = const {1, 3, 1} : s64[3]"
	 " %y = scatter %x, %i, %u {mode = \"mul\"} : f64[4]"},
	{-1, 1,
	 "in %x : f64[2, 5, 3] %y, %i = top_k %x {k = [2], axis = 1} : f64[2, 2, 3], s64[2, 2, 3]"},
	{-1, 1,
	 N "%y, %i = top_k %x {k = [3], axis = 2, largest = 0} : f64[a, b, 3], s64[a, b, 3]"},

	{-1, 1,
	 "in %x : f64[a, b, 4] in %z : f64[4, 2] %y = dot %x, %z {lhs_contract = [2], rhs_contract "
	 "="
	 " [0]} : f64[a, b, 2]"},
	{-1, 1,
	 "in %x : f64[2, 3, 4, 2] in %z : f64[4, 2, 3, 5] %y = dot %x, %z {lhs_batch = [1], "
	 "rhs_batch"
	 " = [2], lhs_contract = [2, 0], rhs_contract = [0, 1]} : f64[3, 2, 5]"},
	{-1, 1,
	 "in %x : f64[2, 3, 4] in %z : f64[5, 3, 4, 2] %y = dot %x, %z {lhs_batch = [2, 0], "
	 "rhs_batch"
	 " = [2, 3], lhs_contract = [1], rhs_contract = [1]} : f64[4, 2, 5]"},
	{-1, 1,
	 "in %x : f64[3, 2] in %z : f64[2, 3] %y = dot %x, %z {lhs_contract = [1, 0], rhs_contract "
	 "="
	 " [0, 1]} : f64[]"},
	{-1, 1, "in %x : f64[3] in %z : f64[2] %y = dot %x, %z : f64[3, 2]"},

	{-1, 1, N "in %w : f64[4, 3] in %c : f64[3] %y = linear %x, %w, %c : f64[a, b, 3]"},
	{-1, 1, "in %x : f64[4] in %w : f64[4, 3] %y = linear %x, %w : f64[3]"},
	{-1, 1,
	 CONV("stride = [2, 1], dilation = [1, 2], low = [1, 2], high = [0, 1]", "[2, 3, 5, 6]",
	      "[4, 3, 2, 3]", "[2, 4, 3, 5]")},
	{-1, 1,
	 CONV("stride = [1], dilation = [1], low = [1], high = [1], groups = 2", "[a, 4, b]",
	      "[6, 2, 3]", "[a, 6, b]")},
	{-1, 1,
	 "in %q : f64[a, 4, b, 3] in %k : f64[a, 2, b, 3] in %v : f64[a, 2, b, 2] in %m : f64[b]"
	 " %y = attention %q, %k, %v, %m {scale = 0.7} : f64[a, 4, b, 2]"},
	{-1, 1,
	 "in %q : f64[2, 2, 3, 3] in %k : f64[2, 2, 4, 3] in %v : f64[2, 2, 4, 2]"
	 " %y = attention %q, %k, %v {scale = 0.7, causal = 1} : f64[2, 2, 3, 2]"},
	{-2, 2, N "%y = softmax %x {axis = 1} : f64[a, b, 4]"},
	{-2, 2, N "in %g : f64[4] in %c : f64[4] %y = layer_norm %x, %g, %c : f64[a, b, 4]"},
	{-2, 2, N "in %g : f64[b, 4] %y = layer_norm %x, %g {axis = 1, eps = 0.01} : f64[a, b, 4]"},
	{-2, 2, N "in %g : f64[4] %y = rms_norm %x, %g : f64[a, b, 4]"},
	{-2, 2, OP("gelu")},
	{-2, 2, X "%y = gelu %x {form = \"tanh\"} : f64[2, 3]"},
	{-2, 2, X "%y = gelu %x {form = \"sigmoid\"} : f64[2, 3]"},
	{-2, 2, OP("sigmoid")},
	{0.5, 2,
	 "in %x : f64[2, 3, 4] in %s : f64[3] in %c : f64[3] in %m : f64[3] in %v : f64[3]"
	 " %y = batch_norm %x, %s, %c, %m, %v : f64[2, 3, 4]"},
	{0.5, 2,
	 "in %s : f64[3] %q = const {1, 2, 3, 4, 5, 6} : u8[2, 3] %z = const {2} : u8[]"
	 " %y = dequantize %q, %s, %z : f64[2, 3]"},

	/* Zero gradients: paths through steps, and an input nothing is made of. */
	{0.1, 0.4,
	 X "in %z : f64[2] %r = round %x : f64[2, 3] %f = floor %x : f64[2, 3]"
	   " %t = add %r, %f : f64[2, 3] %y = add %t, %x : f64[2, 3]"},
};

static char *
module_of(ml_context *cx, const grad_case *c)
{
	return ml_format(&cx->arena, "module \"\" {\n%s\nout \"y\" = %%y\n}", c->text);
}

static void
test_rules(void **state)
{
	ml_context *cx = *state;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (uint32_t seed = 1; seed < 4; seed++)
			grad_check(cx, module_of(cx, &cases[i]), cases[i].lo, cases[i].hi, seed);
}

static void
test_every_rule_has_a_case(void **state)
{
	bool seen[ML_OP_LIMIT] = {false};
	ml_context *cx = *state;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		ml_module *m = text_module(cx, module_of(cx, &cases[i]));
		for (const ml_node *n = m->main->first; n; n = n->next)
			seen[n->op] = true;
		ml_module_free(m);
	}
	for (int op = 1; op < ML_OP_LIMIT; op++) {
		if (!ml_op_get((ml_op)op)->name)
			continue;
		const ml_gradient *g = ml_gradient_of((ml_op)op);
		bool passes = g->kind == ML_GRADIENT_RULE || g->kind == ML_GRADIENT_BODY;
		assert_true(passes == (g->kind == ML_GRADIENT_BODY || g->rule != NULL));
		if (passes && !seen[op])
			fail_msg("%s has a gradient but no case", ml_op_get((ml_op)op)->name);
	}
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, text_setup, text_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_rules),
		TEST(test_every_rule_has_a_case),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
