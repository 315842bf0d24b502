/* test_build.c -- the builder and its short forms, editing of graphs, clones, constants. */
#include "harness_text.h"
#include <math.h>
#include <string.h>

typedef struct fixture {
	ml_context *cx;
	ml_module *m;
	ml_builder b;
	ml_dim n, s; /* symbols */
} fixture;

static fixture
fixture_of(void **state)
{
	fixture f = {.cx = *state};

	f.m = ml_module_new(f.cx, "built");
	f.b = ml_builder_at_end(f.m->main, NULL);
	f.n = ml_dim_sym(f.m->dims, ml_sym_named(f.m->dims, "n", 1));
	f.s = ml_dim_sym(f.m->dims, ml_sym_named(f.m->dims, "s", 1));
	return f;
}

static ml_value *
input(fixture *f, ml_dtype dtype, int rank, ml_dim a, ml_dim b, ml_dim c)
{
	ml_type t = {.dtype = dtype, .rank = rank, .dim = {a, b, c}};

	return ml_block_add_arg(f->m->main, &t, NULL);
}

static const char *
type_text(fixture *f, const ml_value *v)
{
	ml_text t;

	if (!v)
		return "failed";
	ml_text_init(&t, &f->cx->arena);
	ml_type_print(&t, &v->type);
	return t.at;
}

static ml_dim
number(fixture *f, int64_t v)
{
	return ml_dim_int(f->m->dims, v);
}

static void
test_failures_pass_through(void **state)
{
	fixture f = fixture_of(state);
	ml_value *x = input(&f, ML_f32, 1, f.n, NULL, NULL);
	ml_value *i = input(&f, ML_s32, 1, f.n, NULL, NULL);

	assert_null(ml_op1(&f.b, ML_OP_neg, ml_op2(&f.b, ML_OP_add, x, i)));
	assert_int_equal(f.b.failed, ML_ERR_TYPE);
	assert_int_equal(f.cx->errors, 1); /* once, by the call that failed */
	assert_null(ml_build_matmul(&f.b, NULL, x));
	assert_null(ml_build_squeeze(&f.b, NULL, NULL, 0));
	assert_null(ml_build_concat(&f.b, (ml_value *[]){x, NULL}, 2, 0));
	assert_int_equal(f.cx->errors, 1);
	assert_null(ml_op2(&f.b, ML_OP_neg, x, x)); /* too many operands */
	assert_int_equal(f.cx->errors, 2);
	assert_null(ml_build_squeeze(&f.b, x, (int64_t[]){1}, 1));
	assert_null(ml_build_unsqueeze(&f.b, x, (int64_t[]){0, -3}, 2)); /* twice the same */
	assert_int_equal(f.cx->errors, 4);
	/* Nothing was left behind. */
	assert_null(f.m->main->first);
	assert_null(x->uses);
	ml_module_free(f.m);
}

static void
test_matmul(void **state)
{
	fixture f = fixture_of(state);
	ml_dim four = number(&f, 4), one = number(&f, 1);
	ml_value *x2 = input(&f, ML_f32, 2, f.n, four, NULL);
	ml_value *x3 = input(&f, ML_f32, 3, f.s, f.n, four);
	ml_value *x1 = input(&f, ML_f32, 3, one, f.n, four);
	ml_value *w2 = input(&f, ML_f32, 2, four, number(&f, 5), NULL);
	ml_value *w3 = input(&f, ML_f32, 3, f.s, four, number(&f, 5));

	assert_string_equal(type_text(&f, ml_build_matmul(&f.b, x2, w2)), "f32[n, 5]");
	assert_string_equal(type_text(&f, ml_build_matmul(&f.b, x3, w2)), "f32[s, n, 5]");
	assert_string_equal(type_text(&f, ml_build_matmul(&f.b, x3, w3)), "f32[s, n, 5]");
	assert_string_equal(type_text(&f, ml_build_matmul(&f.b, x2, w3)), "f32[s, n, 5]");
	assert_string_equal(type_text(&f, ml_build_matmul(&f.b, x1, w3)), "f32[s, n, 5]");
	assert_null(ml_build_matmul(&f.b, w2, w2));
	assert_non_null(strstr(text_newest(f.cx), "inner dimensions must be equal"));
	ml_module_free(f.m);
}

static void
test_short_forms(void **state)
{
	fixture f = fixture_of(state);
	ml_dim one = number(&f, 1);
	ml_value *x = input(&f, ML_f32, 3, f.n, one, f.s);
	int64_t minus2 = -2, ends[] = {0, -1};

	assert_string_equal(type_text(&f, ml_build_squeeze(&f.b, x, &minus2, 1)), "f32[n, s]");
	assert_string_equal(type_text(&f, ml_build_unsqueeze(&f.b, x, ends, 2)),
			    "f32[1, n, 1, s, 1]");
	assert_string_equal(type_text(&f, ml_build_reduce(&f.b, ML_OP_reduce_sum, x, ends, 2)),
			    "f32[1, 1, 1]");
	assert_ptr_equal(ml_build_cast(&f.b, x, ML_f32), x);
	assert_string_equal(type_text(&f, ml_build_cast(&f.b, x, ML_s8)), "s8[n, 1, s]");
	assert_true(ml_is(ml_build_dim(&f.b, f.n), ML_OP_dim));
	assert_true(ml_is_const(ml_build_dim(&f.b, one)));
	ml_value *ints = ml_build_ints(&f.b, (int64_t[]){3, -4}, 2);
	assert_int_equal(ml_const_s64(ints, 1), -4);
	/* A size that is 1 only perhaps can be squeezed under a guard. */
	assert_int_equal(f.m->guards.count, 0);
	assert_string_equal(type_text(&f, ml_build_squeeze(&f.b, x, (int64_t[]){0}, 1)),
			    "f32[1, s]");
	assert_int_equal(f.m->guards.count, 1 + 1); /* n == 1, and the counts of the reshape */
	ml_module_free(f.m);
}

static void
test_editing(void **state)
{
	fixture f = fixture_of(state);
	ml_value *x = input(&f, ML_f32, 1, f.n, NULL, NULL);
	ml_value *a = ml_op1(&f.b, ML_OP_neg, x), *c = ml_op2(&f.b, ML_OP_mul, a, a);

	assert_int_equal(ml_build_yield(&f.b, (ml_value *[]){c, a}, 2), ML_OK);
	assert_int_equal(ml_use_count(a), 3);
	assert_true(ml_is_result(a) && ml_is_result(c) && !ml_is_result(x));
	/* In front of a node, and at the end, which is in front of the yield. */
	ml_builder before = ml_builder_before(a->def);
	ml_value *first = ml_op1(&before, ML_OP_abs, x);
	ml_value *last = ml_op1(&f.b, ML_OP_exp, x);
	assert_ptr_equal(f.m->main->first, first->def);
	assert_ptr_equal(f.m->main->last->prev, last->def);
	assert_int_equal(f.m->main->last->op, ML_OP_yield);
	assert_true(last->def->id > first->def->id);
	ml_replace_uses(a, first);
	assert_int_equal(ml_use_count(a), 0);
	assert_int_equal(ml_use_count(first), 3);
	ml_set_operand(c->def, 1, last);
	ml_node_move_before(last->def, c->def);
	ml_node_remove(a->def);
	assert_int_equal(ml_use_count(x), 2);
	assert_ptr_equal(first->def->next, last->def);
	assert_ptr_equal(last->def->next, c->def);
	assert_ptr_equal(ml_value_block(c), f.m->main);
	ml_module_free(f.m);
}

static void
test_clone(void **state)
{
	ml_context *cx = *state;
	ml_module *m = text_module(
		cx,
		"module \"whole\" opset 13 {\n sym b in 1..8\n in %x \"x\" : f32[b, s]\n"
		" in %w : f32[t]\n %n = dim {value = [b*s]} : s64[]\n %c = const {true} : bool[]\n"
		" %k = const {1, 2} : f32[2]\n %q = add %x, %w : f32[b, s] @\"/add\":Add-13[4]\n"
		" %y, %z = loop %n, %c, %q {carried = 1} (%i : s64[], %p : f32[b, s]) {\n"
		" %d = const {false} : bool[]\n %e = exp %p : f32[b, s]\n yield %d, %e, %p\n }"
		" : f32[b, s], f32[?0, b, s]\n %r = reverse %y {axes = [0]} : f32[b, s]\n"
		" out \"y\" = %r\n out \"z\" = %z\n out \"k\" = %k\n out \"n\" = %n\n}");
	char *expected = ml_strdup(&cx->arena, text_printed(cx, m));
	ml_module *clone = ml_module_clone(m);

	assert_string_equal(text_printed(cx, clone), expected);
	assert_ptr_equal(ml_const_blob(ml_in(clone->main->last, 2)),
			 ml_const_blob(ml_in(m->main->last, 2)));
	assert_int_equal(clone->next_id, m->next_id);
	assert_ptr_equal(ml_in(clone->main->last, 3)->content[0],
			 ml_in(m->main->last, 3)->content[0]);
	/* Nothing of the clone is the original's. */
	ml_module_free(m);
	assert_int_equal(ml_verify(clone), ML_OK);
	assert_string_equal(text_printed(cx, clone), expected);
	ml_module_free(clone);
}

static void
test_op_table(void **state)
{
	int ops = 0;

	(void)state;
	for (int i = 0; i < ML_OP_LIMIT; i++) {
		const ml_op_info *op = ml_op_get((ml_op)i);
		if (!op->name)
			continue;
		ops++;
		assert_int_equal(ml_op_named(op->name, strlen(op->name)), i);
		for (int k = 0; k < op->nattrs; k++)
			assert_non_null(op->attr[k].name);
	}
	assert_true(ops > 80);
	assert_int_equal(ml_op_named("ad", 2), ML_OP_none);
	const ml_op_info *dot = ml_op_get(ML_OP_dot), *rnn = ml_op_get(ML_OP_rnn);
	assert_int_equal(dot->nattrs, 4);
	assert_string_equal(dot->attr[ML_ATTR_SLOT(dot, rhs_contract)].name, "rhs_contract");
	assert_int_equal(dot->min_in, 2);
	assert_int_equal(dot->max_in, 2);
	assert_int_equal(rnn->min_in, 4);
	assert_int_equal(rnn->max_in, 7);
	assert_int_equal(ml_op_get(ML_OP_concat)->max_in, ML_ANY);
	assert_string_equal(rnn->attr[ML_ATTR_SLOT(rnn, cell)].init.str, "lstm");
}

static void
test_elements(void **state)
{
	static const struct {
		ml_dtype dtype;
		double in, out;
	} row[] = {
		{ML_f64, 0.1, 0.1},
		{ML_f32, 0.1, 0.1f},
		{ML_f16, 0.1, 0.0999755859375},
		{ML_f16, 65504, 65504},
		{ML_f16, 65519.99, 65504},
		{ML_f16, 65520, INFINITY},
		{ML_f16, 1e300, INFINITY},
		{ML_f16, 5.960464477539063e-08, 5.960464477539063e-08},
		{ML_f16, 2.98e-08, 0},
		{ML_f16, 6.1e-05, 6.097555160522461e-05}, /* denormal */
		{ML_f16, 2049, 2048},                     /* ties to even */
		{ML_f16, 2051, 2052},
		{ML_bf16, 1.00390625, 1},
		{ML_bf16, 1.01171875, 1.015625},
		{ML_bf16, -3.4e38, -INFINITY},
		{ML_bf16, -3.38e38, -3.3762391092936e38},
		{ML_s8, 127.5, 127},
		{ML_s8, -1e9, -128},
		{ML_s8, 2.5, 2},
		{ML_s8, NAN, 0},
		{ML_u8, 300, 255},
		{ML_u8, -1, 0},
		{ML_s64, 1e30, 9223372036854775807.0},
		{ML_u64, 1e30, 18446744073709551615.0},
		{ML_s32, -3e9, -2147483648.0},
		{ML_bool, 0.5, 1},
	};
	unsigned char bytes[64];

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		/* At an odd address: constants are mapped from files. */
		ml_write_f64(row[i].dtype, bytes + 1, 2, row[i].in);
		double out = ml_read_f64(row[i].dtype, bytes + 1, 2);
		if (out != row[i].out && fabs(out / row[i].out - 1) > 1e-13)
			fail_msg("%s of %.17g is %.17g", ml_dtype_name(row[i].dtype), row[i].in,
				 out);
	}
	for (uint32_t bits = 0; bits < 0x10000; bits++) {
		uint16_t half = (uint16_t)bits, back;
		for (int k = 0; k < 2; k++) {
			ml_dtype t = k ? ML_bf16 : ML_f16;
			double x = ml_read_f64(t, &half, 0);
			ml_write_f64(t, &back, 0, x);
			assert_true(isnan(x) ? isnan(ml_read_f64(t, &back, 0)) : back == half);
		}
	}
	ml_write_s64(ML_s8, bytes, 0, 300);
	assert_int_equal(ml_read_s64(ML_s8, bytes, 0), 44);
	ml_write_s64(ML_u64, bytes, 0, -1);
	assert_true(ml_read_f64(ML_u64, bytes, 0) == 18446744073709551615.0);
	ml_write_f64(ML_f32, bytes, 0, -2.9);
	assert_int_equal(ml_read_s64(ML_f32, bytes, 0), -2);
}

static void
test_splat(void **state)
{
	fixture f = fixture_of(state);
	ml_type t = {.dtype = ML_f32, .rank = 1, .dim = {number(&f, 3)}};
	double x = 0;
	void *bytes;

	for (int different = 0; different < 2; different++) {
		ml_blob *blob = ml_blob_new(&f.cx->memory, 12, &bytes);
		memcpy(bytes, (float[]){2.5f, 2.5f, different ? 1 : 2.5f}, 12);
		ml_value *v = ml_build_const(&f.b, &t, blob);
		assert_int_equal(ml_is_splat(v, &x), !different);
	}
	assert_true(x == 2.5);
	assert_false(ml_is_splat(input(&f, ML_f32, 0, NULL, NULL, NULL), &x));
	ml_type none = {.dtype = ML_f32, .rank = 1, .dim = {number(&f, 0)}};
	assert_false(ml_is_splat(ml_build_const(&f.b, &none, ml_blob_new(&f.cx->memory, 0, &bytes)),
				 &x));
	/* Bytes that do not fill the type. */
	assert_null(ml_build_const(&f.b, &t, ml_blob_new(&f.cx->memory, 8, &bytes)));
	assert_int_equal(f.b.failed, ML_ERR_SHAPE);
	ml_module_free(f.m);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, text_setup, text_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_failures_pass_through),
		TEST(test_matmul),
		TEST(test_short_forms),
		TEST(test_editing),
		TEST(test_clone),
		TEST(test_op_table),
		TEST(test_elements),
		TEST(test_splat),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
