/* test_eval.c -- the evaluator around the operators: sizes, limits, messages, folding, memory.
 * What operators compute is judged by tests/ops. */
#include "harness_text.h"
#include "ir/custom.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MODULE(body) "module \"m\" {\n" body "}\n"

static ml_tensor
floats(int64_t n, float *data)
{
	return (ml_tensor){.dtype = ML_f32,
			   .rank = 1,
			   .dim = {n},
			   .data = data,
			   .bytes = (size_t)n * sizeof *data};
}

static float
first_float(const ml_tensor *t)
{
	return *(const float *)t->data;
}

/* ---- numbers ---- */

static void
test_rounding(void **state)
{
	ml_context *cx = *state;
	/* (x + 1e8) - 1e8 loses x in f32, not in f64. */
	ml_module *m = text_module(cx, MODULE("  in %x \"x\" : f32[1]\n"
					      "  %b = const {1e8} : f32[1]\n"
					      "  %s = add %x, %b : f32[1]\n"
					      "  %d = sub %s, %b : f32[1]\n"
					      "  out \"y\" = %d\n"));
	float x = 0.25f;
	ml_tensor in = floats(1, &x), out;
	ml_eval_options wide = {.wide = true};

	assert_int_equal(ml_evaluate(m, &in, &out, &cx->arena, NULL), ML_OK);
	assert_true(first_float(&out) == 0);
	assert_int_equal(ml_evaluate(m, &in, &out, &cx->arena, &wide), ML_OK);
	assert_true(first_float(&out) == 0.25f);
	ml_module_free(m);
}

/* The module itself stays as it was, composites included. */
static void
test_unchanged(void **state)
{
	ml_context *cx = *state;
	ml_module *m = text_module(cx, MODULE("  sym n\n"
					      "  in %x \"x\" : f32[n]\n"
					      "  %y = softmax %x {axis = 0} : f32[n]\n"
					      "  out \"y\" = %y\n"
					      "  out \"again\" = %y\n"
					      "  out \"x\" = %x\n"));
	const char *before = text_printed(cx, m);
	float x[3] = {1, 1, 1};
	ml_tensor in = floats(3, x), out[3];

	m->main->first->scratch = 77;
	assert_int_equal(ml_evaluate(m, &in, out, &cx->arena, NULL), ML_OK);
	assert_true(fabsf(first_float(&out[1]) - 1.0f / 3) < 1e-6f);
	assert_int_equal(out[2].dim[0], 3);
	assert_int_equal(m->main->first->scratch, 77);
	assert_string_equal(text_printed(cx, m), before);
	ml_module_free(m);
}

/* ---- sizes ---- */

static void
expect_failure(ml_context *cx, const char *text, const ml_tensor *in, ml_status status,
	       const char *message)
{
	ml_module *m = text_module(cx, text);
	ml_tensor out[4];

	assert_int_equal(ml_evaluate(m, in, out, &cx->arena, NULL), status);
	assert_string_equal(text_newest(cx), message);
	ml_module_free(m);
}

static void
test_sizes(void **state)
{
	ml_context *cx = *state;
	float x[4] = {1, 2, 3, 4};
	ml_tensor in[2] = {floats(3, x), floats(2, x)};

	expect_failure(cx,
		       MODULE("  sym n in 4..8\n"
			      "  in %x \"x\" : f32[n]\n"
			      "  out \"y\" = %x\n"),
		       in, ML_ERR_SHAPE,
		       "error: n = 3 is outside of its range 4..8 [shape, in evaluate]");
	expect_failure(
		cx,
		MODULE("  sym n\n"
		       "  in %x \"first\" : f32[n]\n"
		       "  in %y \"se'cond\" : f32[n]\n"
		       "  out \"y\" = %x\n"),
		in, ML_ERR_SHAPE,
		"error: dim 0 of input 'se\\'cond' is 2, must be n = 3 [shape, in evaluate]");
	expect_failure(cx,
		       MODULE("  sym n\n"
			      "  in %x \"x\" : f32[n]\n"
			      "  in %y \"y\" : f32[n + 1]\n"
			      "  out \"y\" = %x\n"),
		       in, ML_ERR_SHAPE,
		       "error: dim 0 of input 'y' is 2, must be n + 1 = 4 [shape, in evaluate]");
	expect_failure(
		cx,
		MODULE("  sym n\n"
		       "  sym k\n"
		       "  in %x \"x\" : f32[n]\n"
		       "  %d = dim {value = [n*k]} : s64[] @\"/size\":Shape-15[2]\n"
		       "  out \"y\" = %d\n"),
		in, ML_ERR_SHAPE,
		"node '/size' (#2, Shape-15): error: dim: the size k*n cannot be found from the "
		"shapes of the inputs [shape, in evaluate]");
	expect_failure(cx,
		       MODULE("  sym m\n"
			      "  sym n\n"
			      "  guard m == n \"sizes must be equal\" @\"/add\":Add-13[7]\n"
			      "  in %x \"x\" : f32[m]\n"
			      "  in %y \"y\" : f32[n]\n"
			      "  out \"y\" = %x\n"),
		       in, ML_ERR_SHAPE,
		       "node '/add' (#7, Add-13): error: sizes must be equal: m = 3 does not equal "
		       "n = 2 [shape, in evaluate]");
	expect_failure(
		cx,
		MODULE("  sym n\n"
		       "  sym ?0 <= n - 2\n"
		       "  in %x \"x\" : f32[n]\n"
		       "  %y = nonzero %x : s64[1, ?0] @\"/nz\":NonZero-13[0]\n"
		       "  out \"y\" = %y\n"),
		in, ML_ERR_SHAPE,
		"node '/nz' (#0, NonZero-13): error: nonzero: ?0 = 3 exceeds its bound n - 2 = 1 "
		"[shape, in evaluate]");
}

static void
test_arguments(void **state)
{
	static const char text[] = MODULE("  in %x \"x\" : f32[3]\n"
					  "  out \"y\" = %x\n");
	ml_context *cx = *state;
	float x[4] = {1, 2, 3, 4};
	ml_tensor in = floats(3, x);

	in.dtype = ML_s32;
	expect_failure(
		cx, text, &in, ML_ERR_TYPE,
		"error: input 'x' is s32 of rank 1, must be f32 of rank 1 [type, in evaluate]");
	in = floats(3, x);
	in.rank = 2;
	in.dim[1] = 1;
	expect_failure(
		cx, text, &in, ML_ERR_TYPE,
		"error: input 'x' is f32 of rank 2, must be f32 of rank 1 [type, in evaluate]");
	in = floats(3, x);
	in.bytes = 11;
	expect_failure(cx, text, &in, ML_ERR_ARG,
		       "error: a tensor has 11 bytes, its shape needs 12 [argument, in evaluate]");
	in = floats(3, NULL);
	expect_failure(cx, text, &in, ML_ERR_ARG,
		       "error: a tensor has no data [argument, in evaluate]");
	in = floats(3, x);
	in.dim[0] = -3;
	expect_failure(cx, text, &in, ML_ERR_LIMIT,
		       "error: a result needs more than the 4096 MiB allowed [limit, in evaluate]");
	in = floats(3, x);
	in.dtype = (ml_dtype)99;
	expect_failure(cx, text, &in, ML_ERR_ARG,
		       "error: input 0 is no tensor [argument, in evaluate]");
}

static void
test_index_message(void **state)
{
	ml_context *cx = *state;
	int64_t index = -4;
	ml_tensor in = {.dtype = ML_s64, .rank = 1, .dim = {1}, .data = &index, .bytes = 8};

	expect_failure(cx,
		       MODULE("  in %i \"i\" : s64[1]\n"
			      "  %t = const {1, 2, 3} : f32[3]\n"
			      "  %y = gather %t, %i : f32[1] @\"/emb\":Gather-13[8]\n"
			      "  out \"y\" = %y\n"),
		       &in, ML_ERR_INDEX,
		       "node '/emb' (#8, Gather-13): error: gather: index -4 is outside of [-3, 3) "
		       "[index, in evaluate]");
}

/* ---- limits: hostile modules end soon ---- */

static void
test_limits(void **state)
{
	static const char endless[] =
		MODULE("  in %x \"x\" : f32[1]\n"
		       "  %n = const {9223372036854775807} : s64[]\n"
		       "  %t = const {true} : bool[]\n"
		       "  %y = loop %n, %t, %x {carried = 1} (%i : s64[], %a : f32[1]) {\n"
		       "    %c = const {true} : bool[]\n"
		       "    %b = add %a, %a : f32[1]\n"
		       "    yield %c, %b\n"
		       "  } : f32[1]\n"
		       "  out \"y\" = %y\n");
	static const char huge[] = MODULE("  sym n\n"
					  "  in %x \"x\" : f32[n]\n"
					  "  %y = broadcast %x {shape = [1000000, 1000000, n]} : "
					  "f32[1000000, 1000000, n]\n"
					  "  out \"y\" = %y\n");
	static const char dots[] = MODULE(
		"  in %x \"x\" : f32[1]\n"
		"  %a = broadcast %x {shape = [4000, 4000]} : f32[4000, 4000]\n"
		"  %b = dot %a, %a {lhs_contract = [1], rhs_contract = [0]} : f32[4000, 4000]\n"
		"  out \"y\" = %b\n");
	ml_context *cx = *state;
	float x = 1;
	ml_tensor in = floats(1, &x), out;
	ml_eval_options options = {.max_steps = 50000000};
	const char *const texts[] = {endless, dots};

	for (int i = 0; i < 2; i++) {
		ml_module *m = text_module(cx, texts[i]);
		assert_int_equal(ml_evaluate(m, &in, &out, &cx->arena, &options), ML_ERR_LIMIT);
		assert_non_null(strstr(text_newest(cx),
				       "more than the 50000000 scalar operations allowed"));
		ml_module_free(m);
	}
	ml_module *m = text_module(cx, huge);
	assert_int_equal(ml_evaluate(m, &in, &out, &cx->arena, NULL), ML_ERR_LIMIT);
	ml_module_free(m);
	m = text_module(cx, MODULE("  in %x \"x\" : f32[1]\n"
				   "  %a = broadcast %x {shape = [40000]} : f32[40000]\n"
				   "  out \"y\" = %a\n"));
	options = (ml_eval_options){.max_bytes = 300000};
	assert_int_equal(ml_evaluate(m, &in, &out, &cx->arena, &options), ML_ERR_LIMIT);
	options.max_bytes = 400000;
	assert_int_equal(ml_evaluate(m, &in, &out, &cx->arena, &options), ML_OK);
	ml_module_free(m);
}

/* ---- custom operators ---- */

static ml_status
evaluate_twice(const ml_custom_op *op, const ml_tensor *in, int nin, ml_tensor *out, int nout)
{
	assert_string_equal(op->name, "Twice");
	assert_int_equal(nin, 1);
	assert_int_equal(nout, 1);
	for (int64_t i = 0; i < in->dim[0]; i++)
		((float *)out->data)[i] = 2 * ((const float *)in->data)[i];
	return first_float(in) < 0 ? ML_ERR_VALUE : ML_OK;
}

static void
test_custom(void **state)
{
	static const char text[] =
		MODULE("  sym n\n"
		       "  in %x \"x\" : f32[n]\n"
		       "  %y = custom %x {domain = \"com.acme\", name = \"Twice\"} : f32[n]\n"
		       "  out \"y\" = %y\n");
	ml_context *cx = *state;
	ml_custom_op op = {.domain = "com.acme", .name = "Twice", .evaluate = evaluate_twice};
	float x[2] = {3, 4};
	ml_tensor in = floats(2, x), out;

	expect_failure(cx, text, &in, ML_ERR_UNSUPPORTED,
		       "error: custom: Twice of domain 'com.acme' cannot be evaluated "
		       "[unsupported, in evaluate]");
	cx->custom_ops = &op;
	ml_module *m = text_module(cx, text);
	assert_int_equal(ml_evaluate(m, &in, &out, &cx->arena, NULL), ML_OK);
	assert_true(((float *)out.data)[1] == 8);
	x[0] = -1;
	assert_int_equal(ml_evaluate(m, &in, &out, &cx->arena, NULL), ML_ERR_VALUE);
	ml_module_free(m);
}

/* ---- folding ---- */

static void
test_fold(void **state)
{
	ml_context *cx = *state;
	ml_module *m = text_module(cx, MODULE("  sym n\n"
					      "  in %x \"x\" : f32[n]\n"
					      "  %a = const {1, 2, 3} : f32[3]\n"
					      "  %i = const {0, 5} : s64[2]\n"
					      "  %one = const {1} : f32[]\n"
					      "  %s = softmax %a {axis = 0} : f32[3]\n"
					      "  %g = gather %a, %i : f32[2]\n"
					      "  %b = broadcast %one {shape = [n]} : f32[n]\n"
					      "  %d = add %x, %x : f32[n]\n"
					      "  %v, %p = top_k %a {k = [1]} : f32[1], s64[1]\n"
					      "  out \"s\" = %s\n"));
	ml_blob *blob[2];

	assert_int_equal(ml_fold_node(text_node(m, ML_OP_softmax), blob, 12), ML_OK);
	assert_int_equal(blob[0]->size, 12);
	assert_true(fabs(ml_read_f64(ML_f32, blob[0]->bytes, 2) - 0.66524096) < 1e-6);
	ml_blob_drop(blob[0]);
	assert_int_equal(ml_fold_node(text_node(m, ML_OP_top_k), blob, 64), ML_OK);
	assert_true(ml_read_f64(ML_f32, blob[0]->bytes, 0) == 3);
	assert_int_equal(ml_read_s64(ML_s64, blob[1]->bytes, 0), 2);
	ml_blob_drop(blob[0]);
	ml_blob_drop(blob[1]);
	/* Refused without a word: too large, no constant, unknown size, fails at run time. */
	assert_int_not_equal(ml_fold_node(text_node(m, ML_OP_softmax), blob, 11), ML_OK);
	assert_int_not_equal(ml_fold_node(text_node(m, ML_OP_add), blob, 64), ML_OK);
	assert_int_not_equal(ml_fold_node(text_node(m, ML_OP_broadcast), blob, 64), ML_OK);
	assert_int_equal(ml_fold_node(text_node(m, ML_OP_gather), blob, 64), ML_ERR_INDEX);
	assert_int_equal(cx->diags.count, 0);
	ml_module_free(m);
}

/* What is transposed keeps its bits: numbers that are none, too. */
static void
test_fold_transpose(void **state)
{
	static const uint32_t turned[] = {1, 4, 0x7f800001, 0xff812345, 3, 6};
	uint32_t from[] = {1, 0x7f800001, 3, 4, 0xff812345, 6};
	ml_context *cx = *state;
	ml_module *m = text_module(
		cx, MODULE("  sym n\n"
			   "  in %x \"x\" : f32[n, 2]\n"
			   "  %w = const {1, 2, 3, 4, 5, 6} : f32[2, 3]\n"
			   "  %b = const {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12} : s8[3, 2, 2]\n"
			   "  %z = const {} : s64[0, 2]\n"
			   "  %t = transpose %w {perm = [1, 0]} : f32[3, 2]\n"
			   "  %s = transpose %b {perm = [2, 0, 1]} : s8[2, 3, 2]\n"
			   "  %e = transpose %z {perm = [1, 0]} : s64[2, 0]\n"
			   "  %o = transpose %x {perm = [1, 0]} : f32[2, n]\n"
			   "  out \"t\" = %t\n"));
	ml_node *t = text_node(m, ML_OP_transpose), *s = t->next, *e = s->next;
	ml_blob *blob;

	memcpy((void *)(uintptr_t)ml_const_blob(ml_in(t, 0))->bytes, from, sizeof from);
	assert_int_not_equal(ml_fold_node(t, &blob, 23), ML_OK);
	assert_int_equal(ml_fold_node(t, &blob, 24), ML_OK);
	assert_int_equal(blob->size, sizeof turned);
	assert_memory_equal(blob->bytes, turned, sizeof turned);
	ml_blob_drop(blob);
	assert_int_equal(ml_fold_node(s, &blob, 12), ML_OK);
	assert_memory_equal(blob->bytes, ((int8_t[]){1, 3, 5, 7, 9, 11, 2, 4, 6, 8, 10, 12}), 12);
	ml_blob_drop(blob);
	assert_int_equal(ml_fold_node(e, &blob, 64), ML_OK);
	assert_int_equal(blob->size, 0);
	ml_blob_drop(blob);
	assert_int_not_equal(ml_fold_node(e->next, &blob, 64), ML_OK);
	assert_int_equal(cx->diags.count, 0);
	ml_module_free(m);
}

/* ---- memory ---- */

typedef struct meter {
	int until_failure; /* allocations that still succeed */
	long live;
} meter;

static void *
metered(void *user, void *p, size_t old_size, size_t new_size)
{
	meter *m = user;

	if (new_size && m->until_failure-- <= 0)
		return NULL;
	m->live += (long)new_size - (long)old_size;
	if (new_size)
		return realloc(p, new_size);
	free(p);
	return NULL;
}

enum { ENOUGH = 1 << 30 };

/* Whichever allocation fails while it runs, the evaluator says so and keeps nothing. */
static void
test_no_memory(void **state)
{
	(void)state;
	static const char text[] = MODULE("  sym n\n"
					  "  in %x \"x\" : f32[n, 3]\n"
					  "  %w = const splat 0.5 : f32[3, 300]\n"
					  "  %y = linear %x, %w : f32[n, 300]\n"
					  "  %z = softmax %y {axis = 1} : f32[n, 300]\n"
					  "  out \"z\" = %z\n");
	meter user = {.until_failure = ENOUGH};
	ml_context cx = {.memory = {.resize = metered, .user = &user}};
	float x[6] = {1, 2, 3, 4, 5, 6};
	ml_tensor in = {.dtype = ML_f32, .rank = 2, .dim = {2, 3}, .data = x, .bytes = sizeof x},
		  out;
	ml_status status = ML_ERR_NOMEM;
	int refused = 0;

	ml_arena_init(&cx.arena, &cx.memory);
	ml_module *m = text_module(&cx, text);
	user.until_failure = ENOUGH;
	ml_module_free(ml_module_clone(m)); /* comes before the evaluator is on its guard */
	int for_clone = ENOUGH - user.until_failure;
	for (int n = for_clone; status == ML_ERR_NOMEM; n++, refused++) {
		ml_arena results;
		long before = user.live;
		user.until_failure = n;
		ml_arena_init(&results, &cx.memory);
		status = ml_evaluate(m, &in, &out, &results, NULL);
		user.until_failure = ENOUGH;
		ml_arena_free(&results);
		/* What remains is new dims, in the table that the clone shares. */
		assert_true(user.live - before < 4096);
	}
	assert_int_equal(status, ML_OK);
	assert_true(refused >= 5);
	ml_module_free(m);
	ml_arena_free(&cx.arena);
	assert_int_equal(user.live, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_rounding, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_unchanged, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_sizes, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_arguments, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_index_message, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_limits, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_custom, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_fold, text_setup, text_teardown),
		cmocka_unit_test_setup_teardown(test_fold_transpose, text_setup, text_teardown),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
