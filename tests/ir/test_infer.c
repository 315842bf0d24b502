/* test_infer.c -- type rules: what they accept and give, refuse and say, and leave to guards. */
#include "harness_text.h"
#include <string.h>

/* A module whose last line defines %y. */
static const char *
module_text(ml_context *cx, const char *body)
{
	return ml_format(&cx->arena, "module \"t\" {\n%s\nout \"y\" = %%y\n}", body);
}

/* The parser compares the types written with the types inferred. */
static void
test_types(void **state)
{
	static const char *const bodies[] = {
		/* elementwise */
		"in %a : f32[b, 1, 4] in %c : f32[s, 1] %y = add %a, %c : f32[b, s, 4]",
		"in %a : f32[] in %c : f32[0] %y = mul %a, %c : f32[0]",
		"in %a : u8[n] in %c : u8[n] %y = le %a, %c : bool[n]",
		"in %a : f16[n] in %c : s64[] %y = pow %a, %c : f16[n]",
		"in %p : bool[n, 1] in %a : s8[m] %y = select %p, %a, %a : s8[n, m]",
		"in %a : bool[2] %y = cast %a {dtype = f64} : f64[2]",
		"in %a : f32[n] %y = isnan %a : bool[n]",
		"in %a : s32[n] %y = wrap_index %a {size = [m]} : s32[n]",
		/* reduce */
		"in %a : f32[b, s, 4] %y = reduce_sum %a {axes = [-1, 0]} : f32[1, s, 1]",
		"in %a : f32[b, s] %y = reduce_max %a {axes = []} : f32[b, s]",
		"in %a : f32[b, 5] %y = arg_max %a {axis = -1} : s64[b, 1]",
		"in %a : s32[b] %y = scan_sum %a {axis = -1} : s32[b]",
		/* move */
		"in %a : f32[b, s, 12, 32] %y = reshape %a {shape = [b*s, 384]} : f32[b*s, 384]",
		"in %a : f32[b, 3] %y = transpose %a {perm = [-1, 0]} : f32[3, b]",
		"in %a : f32[1, 3] %y = broadcast %a {shape = [2, n, 3]} : f32[2, n, 3]",
		"in %a : f32[n, 9] %y = slice %a {start = [0, 1], size = [n, 3], step = [1, 3]} : "
		"f32[n, 3]",
		"in %a : f32[n, 2] in %v : f32[] %y = pad %a, %v {low = [1, 0], high = [2, 1],"
		" interior = [0, 1]} : f32[n + 3, 4]",
		"in %a : f32[n, 2] in %c : f32[m, 2] %y = concat %a, %c, %a {axis = -2} : f32[m + "
		"2*n, 2]",
		"in %a : f32[n] %y = reverse %a {axes = [-1]} : f32[n]",
		"in %a : f32[n, h, w] %y = window %a {size = [3, 2], stride = [2, 1], dilation = "
		"[1, 3]}"
		" : f32[n, (h - 3) floordiv 2 + 1, w - 3, 3, 2]",
		/* index, contract */
		"in %a : f32[v, d] in %i : s64[b, s] %y = gather %a, %i : f32[b, s, d]",
		"in %a : f32[v, d] in %i : s32[] %y = gather %a, %i {axis = -1} : f32[v]",
		"in %a : f32[v, d] in %i : s64[n] in %u : f32[n, d] %y = scatter %a, %i, %u : "
		"f32[v, d]",
		"in %a : f32[b, h, s, d] in %c : f32[b, h, t, d] %y = dot %a, %c {lhs_batch = [0, "
		"1],"
		" rhs_batch = [0, 1], lhs_contract = [-1], rhs_contract = [3]} : f32[b, h, s, t]",
		"in %a : u8[n, k] in %c : s8[k, m] %y = dot %a, %c {lhs_contract = [1], "
		"rhs_contract = [0]}"
		" : s32[n, m]",
		/* irregular */
		"in %a : f32[b, 9] %y, %i = top_k %a {k = [3]} : f32[b, 3], s64[b, 3]",
		"in %a : bool[b, s] %y = nonzero %a : s64[2, ?0]",
		"in %a : s64[n] %y, %i, %j, %k = unique %a : s64[?0], s64[?0], s64[n], s64[?0]",
		"in %b : f32[1, n, 4] in %s : f32[1, c, n] in %m : s64[] in %i : f32[1] in %t : "
		"f32[]"
		" %y = nms %b, %s, %m, %i, %t : s64[?0, 3]",
		/* control */
		"in %c : bool[] in %a : f32[n] in %b : f32[m] %y = if %c, %a, %b"
		" (%p : f32[n], %q : f32[m]) { yield %p } (%r : f32[n], %s : f32[m]) { yield %s } "
		": f32[?0]",
		"in %a : f32[n] %t = const {7} : s64[] %c = const {true} : bool[]"
		" %y, %z = loop %t, %c, %a {carried = 1} (%i : s64[], %p : f32[n])"
		" { %k = const {true} : bool[] yield %k, %p, %p } : f32[n], f32[7, n]",
		"in %a : f32[n] in %c : bool[] %t = const {7} : s64[]"
		" %y = loop %t, %c, %a (%i : s64[], %p : f32[n])"
		" { %k = const {true} : bool[] yield %k, %p } : f32[?0, n]",
	};
	ml_context *cx = *state;

	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
		ml_module_free(text_module(cx, module_text(cx, bodies[i])));
}

static void
test_refused(void **state)
{
	static const struct {
		const char *body, *message;
		ml_status status;
	} row[] = {
		{"in %a : f32[n] in %c : s32[n] %y = add %a, %c : f32[n]",
		 "operands 0 and 1 must have the same element type, not f32 and s32", ML_ERR_TYPE},
		{"in %a : s32[n] %y = exp %a : s32[n]", "operand 0 must not be s32", ML_ERR_TYPE},
		{"in %a : f32[n] in %c : f32[n + 1] %y = add %a, %c : f32[n]",
		 "shapes f32[n], f32[n + 1] do not broadcast", ML_ERR_SHAPE},
		{"in %a : f32[3] in %c : f32[4] %y = add %a, %c : f32[4]", "3 and 4 differ",
		 ML_ERR_SHAPE},
		{"in %a : s8[2] %y = select %a, %a, %a : s8[2]", "operand 0 is s8, must be bool",
		 ML_ERR_TYPE},
		{"in %a : f32[n] %y = reduce_sum %a {axes = [1]} : f32[1]",
		 "axis 1 is outside of [-1, 1)", ML_ERR_VALUE},
		{"in %a : f32[n, m] %y = reduce_sum %a {axes = [1, -1]} : f32[n, 1]",
		 "axis 1 is given twice", ML_ERR_VALUE},
		{"in %a : f32[n, 0] %y = arg_max %a {axis = 1} : s64[n, 1]", "must not be empty",
		 ML_ERR_SHAPE},
		{"in %a : f32[n, 3] %y = reshape %a {shape = [n, 4]} : f32[n, 4]",
		 "3*n and 4*n differ", ML_OK}, /* equal for n = 0: a guard */
		{"in %a : f32[5] %y = reshape %a {shape = [4]} : f32[4]",
		 "reshape(f32[5]): a reshape keeps the number of elements: 5 and 4 differ",
		 ML_ERR_SHAPE},
		{"in %a : f32[n, 3] %y = transpose %a {perm = [0, 0]} : f32[n, n]",
		 "axis 0 is given twice", ML_ERR_VALUE},
		{"in %a : f32[4] %y = broadcast %a {shape = [3]} : f32[3]", "4 and 3 differ",
		 ML_ERR_SHAPE},
		{"in %a : f32[4] %y = slice %a {start = [2], size = [3], step = [1]} : f32[3]",
		 "5 exceeds 4", ML_ERR_SHAPE},
		{"in %a : f32[4] %y = slice %a {start = [-1], size = [3], step = [1]} : f32[3]",
		 "start at 0", ML_ERR_SHAPE},
		{"in %a : f32[4] %y = slice %a {start = [0], size = [-1], step = [1]} : f32[0]",
		 "negative: -1", ML_ERR_SHAPE},
		{"in %a : f32[4] %y = slice %a {start = [0], size = [2], step = [0]} : f32[2]",
		 "step is 0, must be at least 1", ML_ERR_VALUE},
		{"in %a : f32[2] %y = window %a {size = [3], stride = [1], dilation = [1]} : "
		 "f32[0, 3]",
		 "3 exceeds 2", ML_ERR_SHAPE},
		{"in %a : f32[n, 2] in %c : f32[n, 3] %y = concat %a, %c {axis = 0} : f32[2*n, 2]",
		 "only the joined dim may differ", ML_ERR_SHAPE},
		{"in %a : f32[n] in %i : f32[2] %y = gather %a, %i : f32[2]",
		 "operand 1 must not be f32", ML_ERR_TYPE},
		{"in %a : f32[n, 384] in %c : f32[312, m] %y = dot %a, %c {lhs_contract = [1],"
		 " rhs_contract = [0]} : f32[n, m]",
		 "inner dimensions must be equal: 384 and 312 differ", ML_ERR_SHAPE},
		{"in %a : f32[n] %y = dot %a, %a {lhs_batch = [0], rhs_batch = [0], lhs_contract = "
		 "[0],"
		 " rhs_contract = [0]} : f32[]",
		 "both batch and contracted", ML_ERR_VALUE},
		{"in %a : f16[n] %y = dot %a, %a : f16[n, n]", "both f32, both f64", ML_ERR_TYPE},
		{"in %a : f32[2] %y, %i = top_k %a {k = [3]} : f32[3], s64[3]", "k must not exceed",
		 ML_ERR_SHAPE},
		{"in %a : f32[n] %y = gelu %a {form = \"new\"} : f32[n]", "unknown form 'new'",
		 ML_ERR_VALUE},
		{"in %a : f32[1, 8, 2, 4] in %k : f32[1, 3, 2, 4] %y = attention %a, %k, %k"
		 " : f32[1, 8, 2, 4]",
		 "3 key heads do not divide 8 query heads", ML_ERR_SHAPE},
		{"in %a : f32[1, 1, 2, 1025] %y = attention %a, %a, %a {int8 = 1}"
		 " : f32[1, 1, 2, 1025]",
		 "queries on integers have 1024 elements at most", ML_ERR_UNSUPPORTED},
		{"in %a : f32[1, 4, 8] in %w : f32[6, 2, k] %y = conv %a, %w {stride = [1], "
		 "dilation = [1],"
		 " low = [0], high = [0], groups = 2} : f32[1, 6, 8]",
		 "filter's size must be a known", ML_ERR_UNSUPPORTED},
		{"in %a : f32[t, b, 3] in %w : f32[8, 3] in %r : f32[8, 2] in %b : f32[16]"
		 " %y, %h, %c = rnn %a, %w, %r, %b {g = \"Elu\"} : f32[t, b, 2], f32[b, 2], f32[b, "
		 "2]",
		 "activation 'Elu'", ML_ERR_UNSUPPORTED},
		{"in %a : f32[n] %y = quantize %a, %a, %a : u8[n]", "operand 2 must not be f32",
		 ML_ERR_TYPE},
		{"in %a : f32[n] in %t : s64[] in %c : bool[] %y = loop %t, %c, %a {carried = 1}"
		 " (%i : s64[], %p : f32[n]) { %q = concat %p, %p : f32[2*n] yield %c, %q } : "
		 "f32[n]",
		 "", ML_ERR_FORMAT}, /* %c is not an argument of the body */
		{"in %a : f32[n] in %t : s64[] in %c : bool[] %y = loop %t, %c, %a {carried = 1}"
		 " (%i : s64[], %p : f32[n]) { %k = const {true} : bool[] %q = concat %p, %p : "
		 "f32[2*n]"
		 " yield %k, %q } : f32[n]",
		 "carried value 0 changes its type: it starts as f32[n] but the body gives "
		 "f32[2*n]",
		 ML_ERR_UNSUPPORTED},
		{"in %a : f32[n] in %c : bool[] %y = if %c, %a (%p : f32[n]) { yield %p }"
		 " (%q : f32[n]) { %r = reshape %q {shape = [1, n]} : f32[1, n] yield %r } : "
		 "f32[n]",
		 "rank 1 in one branch", ML_ERR_TYPE},
		{"in %a : f32[] %y = broadcast %a {shape = [4294967296, 4294967296]}"
		 " : f32[4294967296, 4294967296]",
		 "2^46 bytes", ML_ERR_LIMIT},
		{"in %a : f32[] %y = broadcast %a {shape = [35184372088832]} : f32[35184372088832]",
		 "2^46 bytes", ML_ERR_LIMIT},
		{"in %a : f32[9223372036854775807] %y = concat %a, %a : f32[1]",
		 "a size of the result overflows", ML_ERR_LIMIT},
	};
	ml_context *cx = *state;

	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		const char *text = module_text(cx, row[i].body);
		ml_module *m = NULL;
		int diags = cx->diags.count;
		ml_status status = ml_parse(cx, text, strlen(text), NULL, NULL, &m);
		if (status == ML_OK && row[i].status == ML_OK) {
			ml_module_free(m);
			continue;
		}
		assert_true(status != ML_OK && cx->diags.count > diags);
		bool said = false;
		for (int k = diags; k < cx->diags.count; k++)
			said = said || (strstr(cx->diags.at[k].text, row[i].message) &&
					cx->diags.at[k].status == row[i].status);
		if (!said)
			fail_msg("%s\nsays: %s", row[i].body, text_newest(cx));
	}
}

static void
expect_guards(ml_context *cx, const char *body, const char *guards)
{
	ml_module *m = text_module(cx, module_text(cx, body));
	ml_text t;

	ml_text_init(&t, &cx->arena);
	for (int i = 0; i < m->guards.count; i++) {
		static const char *const sign[] = {"==", "<=", "multiple_of"};
		const ml_guard *g = &m->guards.at[i];
		ml_put(&t, i ? "; " : "");
		ml_dim_print(&t, g->a);
		ml_put(&t, " %s ", sign[g->kind]);
		ml_dim_print(&t, g->b);
	}
	assert_string_equal(t.at, guards);
	ml_module_free(m);
}

static void
test_guards(void **state)
{
	ml_context *cx = *state;

	expect_guards(cx, "in %a : f32[n] in %c : f32[n] %y = add %a, %c : f32[n]", "");
	expect_guards(cx, "in %a : f32[n] in %c : f32[m] %y = add %a, %c : f32[n]", "n == m");
	expect_guards(cx,
		      "in %a : f32[n] in %c : f32[m] %x = add %a, %c : f32[n]"
		      " %y = mul %a, %c : f32[n]",
		      "n == m");
	/* The known size is the better one. */
	expect_guards(cx, "in %a : f32[n] in %c : f32[7] %y = add %a, %c : f32[7]", "n == 7");
	expect_guards(cx,
		      "in %a : f32[n] %y = slice %a {start = [2], size = [3], step = [1]} : f32[3]",
		      "5 <= n");
	expect_guards(cx,
		      "in %a : f32[n] %y = slice %a {start = [n - min(n, 5)], size = [min(n, 5)],"
		      " step = [1]} : f32[min(n, 5)]",
		      "");
	/* So is the simpler name, in either order, and one guard is enough. */
	expect_guards(cx,
		      "in %a : f32[min(n, 512)] in %c : f32[n] %x = add %a, %c : f32[n]"
		      " %y = add %c, %a : f32[n]",
		      "min(n, 512) == n");
	expect_guards(cx, "in %a : f32[n] %y = arg_max %a : s64[1]", "1 <= n");
	expect_guards(cx,
		      "in %a : f32[b, h, s, d] in %k : f32[b, g, s, d] %y = attention %a, %k, %k"
		      " : f32[b, h, s, d]",
		      "h multiple_of g");
	expect_guards(cx,
		      "in %a : f32[n, h] %y = window %a {size = [3], stride = [2], dilation = [1]}"
		      " : f32[n, (h - 3) floordiv 2 + 1, 3]",
		      "3 <= h; 0 <= (h - 1) floordiv 2");
}

/* Fresh symbols carry the bound that planning uses. */
static void
test_fresh_bounds(void **state)
{
	ml_context *cx = *state;
	ml_module *m =
		text_module(cx, module_text(cx, "in %a : bool[b, s] %y = nonzero %a : s64[2, ?0]"));
	const ml_term *term;

	assert_int_equal(ml_dim_terms(text_node(m, ML_OP_nonzero)->out[0].type.dim[1], &term), 1);
	const ml_sym *s = term->atom[0]->sym;
	assert_true(s->fresh);
	ml_type whole = m->main->arg[0]->type;
	assert_ptr_equal(s->bound, ml_type_count(m->dims, &whole));
	ml_module_free(m);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, text_setup, text_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_types),
		TEST(test_refused),
		TEST(test_guards),
		TEST(test_fresh_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
