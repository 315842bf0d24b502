/* test_narrow.c -- neurons, heads and channels whose weights are zero go: the results stay the same
 * bits, and the layers that made them are narrower. */
#include "harness_exec.h"
#include "passes/prune/narrow.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

typedef struct bench {
	ml_context cx;
	ml_module *m;
} bench;

static void
open_bench(bench *b, const char *text)
{
	*b = (bench){.cx.memory = ml_memory_libc()};
	ml_arena_init(&b->cx.arena, &b->cx.memory);
	assert_int_equal(ml_parse(&b->cx, text, strlen(text), NULL, NULL, &b->m), ML_OK);
	assert_int_equal(ml_verify(b->m), ML_OK);
}

static void
close_bench(bench *b)
{
	ml_module_free(b->m);
	ml_arena_free(&b->cx.arena);
}

/* The layer whose result has this name. */
static ml_node *
layer(const ml_module *m, const char *name)
{
	for (ml_node *n = m->main->first; n; n = n->next)
		if (n->nout && n->out[0].name && !strcmp(n->out[0].name, name))
			return n;
	fail_msg("no '%s'", name);
	return NULL;
}

static int64_t
parameters(const ml_module *m)
{
	int64_t sum = 0, count;

	for (const ml_node *n = m->main->first; n; n = n->next)
		if (n->op == ML_OP_const && ml_type_static_count(&n->out[0].type, &count))
			sum += count;
	return sum;
}

static ml_tensor
evaluate(bench *b, const ml_tensor *in)
{
	ml_eval_options o = {0};
	ml_tensor out;

	assert_int_equal(ml_evaluate(b->m, in, &out, &b->cx.arena, &o), ML_OK);
	return out;
}

/* The input of layer "y" keeps these places; `saved` constants' elements go. */
static void
check(const char *text, const int64_t *at, int64_t count, int64_t of, int64_t saved)
{
	uint64_t seed = 3;
	bench b;

	open_bench(&b, text);
	ml_tensor in = harness_input(&b.cx.arena, b.m, b.m->main->arg[0], &seed);
	ml_tensor before = evaluate(&b, &in);
	int64_t had = parameters(b.m);
	ml_node *n = layer(b.m, "y");
	uint32_t id = n->id;
	assert_true(ml_is_narrowable(n));
	assert_int_equal(ml_input_width(n), of);
	assert_true(ml_narrow_input(b.m, &n, &(ml_places){at, count, of}, &b.cx.arena));
	assert_int_equal(ml_verify(b.m), ML_OK);
	assert_int_equal(n->id, id);
	assert_int_equal(ml_input_width(n), count);
	assert_int_equal(had - parameters(b.m), saved);
	ml_tensor after = evaluate(&b, &in);
	assert_int_equal(after.bytes, before.bytes);
	assert_memory_equal(after.data, before.data, before.bytes);
	close_bench(&b);
}

static void
test_neurons(void **state)
{
	(void)state;
	check("module \"m\" {\n  sym b\n  in %x \"x\" : f32[b, 2]\n"
	      "  %u = const {1, -1, 0.5, 2, 0.25, 1, -3, 1} : f32[2, 4]\n"
	      "  %c = const {0.5, 1, -1, 0.25} : f32[4]\n"
	      "  %d = const {1, 0.5, 0, 0, 1, 2, 0, 0} : f32[4, 2]\n"
	      "  %h = linear %x, %u, %c : f32[b, 4]\n  %a = gelu %h : f32[b, 4]\n"
	      "  %y \"y\" = linear %a, %d : f32[b, 2]\n  out \"y\" = %y\n}\n",
	      (int64_t[]){0, 2}, 2, 4, 4 + 2 + 4);
}

/* Gated: two layers side by side, a reshape in between. */
static void
test_gated(void **state)
{
	(void)state;
	check("module \"m\" {\n  sym b\n  in %x \"x\" : f32[b, 3, 2]\n"
	      "  %u = const {1, -1, 0.5, 2, 0.25, 1} : f32[2, 3]\n"
	      "  %v = const {2, 1, -0.5, 1, 0.75, 3} : f32[2, 3]\n"
	      "  %d = const {0, 0, 1, 2, 0.5, -1} : f32[3, 2]\n"
	      "  %g = linear %x, %u : f32[b, 3, 3]\n  %s = sigmoid %g : f32[b, 3, 3]\n"
	      "  %l = linear %x, %v : f32[b, 3, 3]\n  %p = mul %s, %l : f32[b, 3, 3]\n"
	      "  %q = mul %p, %g : f32[b, 3, 3]\n"
	      "  %r = reshape %q {shape = [3*b, 3]} : f32[3*b, 3]\n"
	      "  %y \"y\" = linear %r, %d : f32[3*b, 2]\n  out \"y\" = %y\n}\n",
	      (int64_t[]){1, 2}, 2, 3, 2 + 2 + 2);
}

/* Queries, keys and values of one layer; the second of two heads goes. */
static void
test_heads(void **state)
{
	(void)state;
	check("module \"m\" {\n  sym b\n  in %x \"x\" : f32[b, 3, 1]\n"
	      "  %w = const {1, 2, -1, 0.5, 1, -2, 0.25, 1, 3, 1, -1, 2} : f32[1, 12]\n"
	      "  %o = const {1, 2, 0, 0} : f32[4, 1]\n"
	      "  %l = linear %x, %w : f32[b, 3, 12]\n"
	      "  %q0 = slice %l {start = [0, 0, 0], size = [b, 3, 4], step = [1, 1, 1]} : f32[b, "
	      "3, 4]\n"
	      "  %k0 = slice %l {start = [0, 0, 4], size = [b, 3, 4], step = [1, 1, 1]} : f32[b, "
	      "3, 4]\n"
	      "  %v0 = slice %l {start = [0, 0, 8], size = [b, 3, 4], step = [1, 1, 1]} : f32[b, "
	      "3, 4]\n"
	      "  %q1 = reshape %q0 {shape = [b, 3, 2, 2]} : f32[b, 3, 2, 2]\n"
	      "  %k1 = reshape %k0 {shape = [b, 3, 2, 2]} : f32[b, 3, 2, 2]\n"
	      "  %v1 = reshape %v0 {shape = [b, 3, 2, 2]} : f32[b, 3, 2, 2]\n"
	      "  %q = transpose %q1 {perm = [0, 2, 1, 3]} : f32[b, 2, 3, 2]\n"
	      "  %k = transpose %k1 {perm = [0, 2, 1, 3]} : f32[b, 2, 3, 2]\n"
	      "  %v = transpose %v1 {perm = [0, 2, 1, 3]} : f32[b, 2, 3, 2]\n"
	      "  %t = attention %q, %k, %v {scale = 0.5} : f32[b, 2, 3, 2]\n"
	      "  %f = transpose %t {perm = [0, 2, 1, 3]} : f32[b, 3, 2, 2]\n"
	      "  %r = reshape %f {shape = [b, 3, 4]} : f32[b, 3, 4]\n"
	      "  %y \"y\" = linear %r, %o : f32[b, 3, 1]\n  out \"y\" = %y\n}\n",
	      (int64_t[]){0, 1}, 2, 4, 6 + 2);
}

#define GROUPED                                                                                    \
	"module \"m\" {\n  sym b\n  in %x \"x\" : f32[b, 3, 1]\n"                                  \
	"  %w = const {1, 2, -1, 0.5} : f32[1, 4]\n  %p = const {1, -2} : f32[1, 2]\n"             \
	"  %o = const {0, 0, 1, 2} : f32[4, 1]\n"                                                  \
	"  %q0 = linear %x, %w : f32[b, 3, 4]\n  %k0 = linear %x, %p : f32[b, 3, 2]\n"             \
	"  %q1 = reshape %q0 {shape = [b, 3, 4, 1]} : f32[b, 3, 4, 1]\n"                           \
	"  %k1 = reshape %k0 {shape = [b, 3, 2, 1]} : f32[b, 3, 2, 1]\n"                           \
	"  %q = transpose %q1 {perm = [0, 2, 1, 3]} : f32[b, 4, 3, 1]\n"                           \
	"  %k = transpose %k1 {perm = [0, 2, 1, 3]} : f32[b, 2, 3, 1]\n"                           \
	"  %t = attention %q, %k, %k : f32[b, 4, 3, 1]\n"                                          \
	"  %f = transpose %t {perm = [0, 2, 1, 3]} : f32[b, 3, 4, 1]\n"                            \
	"  %r = reshape %f {shape = [b, 3, 4]} : f32[b, 3, 4]\n"                                   \
	"  %y \"y\" = linear %r, %o : f32[b, 3, 1]\n  out \"y\" = %y\n}\n"

/* Two heads share keys and values: they go together, or not at all. */
static void
test_groups(void **state)
{
	bench b;

	(void)state;
	check(GROUPED, (int64_t[]){2, 3}, 2, 4, 2 + 1 + 2);
	open_bench(&b, GROUPED);
	int64_t had = parameters(b.m);
	ml_node *n = layer(b.m, "y");
	assert_false(
		ml_narrow_input(b.m, &n, &(ml_places){(int64_t[]){1, 2, 3}, 3, 4}, &b.cx.arena));
	assert_int_equal(ml_verify(b.m), ML_OK);
	assert_int_equal(parameters(b.m), had);
	assert_ptr_equal(n, layer(b.m, "y"));
	assert_int_equal(b.cx.errors, 0);
	close_bench(&b);
}

#define CONV(rest) " {stride = [1, 1], dilation = [1, 1], low = [0, 0], high = [0, 0]" rest "}"

/* Channels through a depthwise convolution, a pool and what flattens them. */
static void
test_channels(void **state)
{
	(void)state;
	check("module \"m\" {\n  sym b\n  in %x \"x\" : f32[b, 1, 2, 2]\n"
	      "  %w = const {1, -2, 3} : f32[3, 1, 1, 1]\n  %c = const {1, 2, 3} : f32[3]\n"
	      "  %d = const {1, 0.5, 2} : f32[3, 1, 1, 1]\n  %z = const {0} : f32[]\n"
	      "  %f = const {1, 2, 0, 0, 0.5, -1} : f32[6, 1]\n"
	      "  %0 = conv %x, %w, %c" CONV(
		      "") " : f32[b, 3, 2, 2]\n"
			  "  %1 = max %0, %z : f32[b, 3, 2, 2]\n"
			  "  %2 = conv %1, %d" CONV(
				  ", groups = 3") " : f32[b, 3, 2, 2]\n"
						  "  %3 = window %2 {size = [1, 2], stride = [1, "
						  "1], dilation = [1, 1]}"
						  " : f32[b, 3, 2, 1, 1, 2]\n"
						  "  %4 = reduce_max %3 {axes = [4, 5]} : f32[b, "
						  "3, 2, 1, 1, 1]\n"
						  "  %5 = reshape %4 {shape = [b, 6]} : f32[b, 6]\n"
						  "  %y \"y\" = linear %5, %f : f32[b, 1]\n  out "
						  "\"y\" = %y\n}\n",
	      (int64_t[]){0, 1, 4, 5}, 4, 6, 1 + 1 + 1 + 2);
}

static void
test_channels_of_conv(void **state)
{
	(void)state;
	check("module \"m\" {\n  sym b\n  in %x \"x\" : f32[b, 1, 2, 2]\n"
	      "  %w = const {1, -2, 3} : f32[3, 1, 1, 1]\n"
	      "  %v = const {1, 0, 2, 0.5, 0, 1} : f32[2, 3, 1, 1]\n"
	      "  %0 = conv %x, %w" CONV("") " : f32[b, 3, 2, 2]\n"
					    "  %y \"y\" = conv %0, %v" CONV(
						    "") " : f32[b, 2, 2, 2]\n  out \"y\" = %y\n}\n",
	      (int64_t[]){0, 2}, 2, 3, 1 + 2);
}

/* What comes from an input has no columns to leave out. */
static void
test_inputs(void **state)
{
	bench b;

	(void)state;
	open_bench(&b, "module \"m\" {\n  sym b\n  in %x \"x\" : f32[b, 4]\n"
		       "  %d = const {1, 0.5, 0, 0, 1, 2, 0, 0} : f32[4, 2]\n"
		       "  %a = gelu %x : f32[b, 4]\n"
		       "  %y \"y\" = linear %a, %d : f32[b, 2]\n  out \"y\" = %y\n}\n");
	ml_node *n = layer(b.m, "y");
	assert_false(ml_narrow_input(b.m, &n, &(ml_places){(int64_t[]){0, 2}, 2, 4}, &b.cx.arena));
	assert_int_equal(ml_verify(b.m), ML_OK);
	close_bench(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_neurons),  cmocka_unit_test(test_gated),
		cmocka_unit_test(test_heads),    cmocka_unit_test(test_groups),
		cmocka_unit_test(test_channels), cmocka_unit_test(test_channels_of_conv),
		cmocka_unit_test(test_inputs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
