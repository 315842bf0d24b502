/* test_blocks.c -- residual branches of small modules: found, taken out, and paired as hidden
 * states. */
#include "passes/prune/blocks.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

typedef struct bench {
	ml_context cx;
	ml_module *m;
	ml_blocks blocks;
} bench;

static ml_module *
parse(bench *b, const char *text)
{
	ml_module *m = NULL;

	assert_int_equal(ml_parse(&b->cx, text, strlen(text), NULL, NULL, &m), ML_OK);
	assert_int_equal(ml_verify(m), ML_OK);
	return m;
}

static void
open_bench(bench *b, const char *text)
{
	*b = (bench){.cx.memory = ml_memory_libc()};
	ml_arena_init(&b->cx.arena, &b->cx.memory);
	b->m = parse(b, text);
	ml_find_blocks(b->m, &b->cx.arena, &b->blocks);
}

static void
close_bench(bench *b)
{
	ml_module_free(b->m);
	ml_arena_free(&b->cx.arena);
}

static const char *
printed(bench *b, const ml_module *m)
{
	ml_text t;

	ml_text_init(&t, &b->cx.arena);
	ml_print(&t, m);
	return t.at;
}

/* The module after some branches went, against the one that is expected. */
static void
check_removed(bench *b, const bool *keep, const char *expected)
{
	ml_module *want = parse(b, expected);

	assert_int_equal(ml_remove_branches(b->m, &b->blocks, keep), ML_OK);
	assert_int_equal(ml_verify(b->m), ML_OK);
	assert_string_equal(printed(b, b->m), printed(b, want));
	ml_module_free(want);
}

static void
check_branch(const bench *b, int i, ml_branch_kind kind, ml_norm_place norm, int layer)
{
	assert_in_range(i, 0, b->blocks.branch.count - 1);
	assert_int_equal(b->blocks.branch.at[i].kind, kind);
	assert_int_equal(b->blocks.branch.at[i].norm, norm);
	assert_int_equal(b->blocks.branch.at[i].layer, layer);
}

/* ---- pieces: streams are f32[b, s, 2] ---- */

#define TOP(more) "module \"m\" {\n  sym b\n  sym s\n" more "  in %x \"x\" : f32[b, s, 2]\n"
#define WEIGHTS                                                                                    \
	"  %g = const {1, 2} : f32[2]\n  %c = const {0.5, -0.5} : f32[2]\n"                        \
	"  %u = const {1, -1, 0.5, 2, 0.25, 1} : f32[2, 3]\n"                                      \
	"  %d = const {1, 0.5, -1, 1, 2, -0.5} : f32[3, 2]\n"
#define HEAD TOP("") WEIGHTS
#define FFN(name, in)                                                                              \
	"  %" name "u = linear " in ", %u : f32[b, s, 3]\n"                                        \
	"  %" name "a = gelu %" name "u : f32[b, s, 3]\n"                                          \
	"  %" name " = linear %" name "a, %d : f32[b, s, 2]\n"
#define NORM(name, in)  "  %" name " = layer_norm " in ", %g, %c : f32[b, s, 2]\n"
#define ADD(name, a, b) "  %" name " = add " a ", " b " : f32[b, s, 2]\n"
#define SQUARE          "  %w = const {1, 0.5, -0.5, 1} : f32[2, 2]\n"
/* One head of two channels, keys and values as the queries. */
#define ATTENTION(name, in)                                                                        \
	"  %" name "q = linear " in ", %w : f32[b, s, 2]\n"                                        \
	"  %" name "r = reshape %" name "q {shape = [b, 1, s, 2]} : f32[b, 1, s, 2]\n"             \
	"  %" name "t = attention %" name "r, %" name "r, %" name "r : f32[b, 1, s, 2]\n"          \
	"  %" name "f = reshape %" name "t {shape = [b, s, 2]} : f32[b, s, 2]\n"                   \
	"  %" name " = linear %" name "f, %w : f32[b, s, 2]\n"
#define OUT(v) "  out \"y\" = " v "\n}\n"

static void
test_pre_norm(void **state)
{
	static const char text[] = HEAD SQUARE NORM("n1", "%x") ATTENTION("a1", "%n1")
		ADD("s1", "%x", "%a1") NORM("n2", "%s1") FFN("f1", "%n2") ADD("s2", "%s1", "%f1")
			NORM("n3", "%s2") ATTENTION("a2", "%n3") ADD("s3", "%a2", "%s2")
				NORM("n4", "%s3") FFN("f2", "%n4") ADD("s4", "%f2", "%s3")
					NORM("n5", "%s4") OUT("%n5");
	bench b;

	(void)state;
	open_bench(&b, text);
	assert_int_equal(b.blocks.branch.count, 4);
	assert_int_equal(b.blocks.layer.count, 2);
	check_branch(&b, 0, ML_BRANCH_ATTENTION, ML_NORM_PRE, 0);
	check_branch(&b, 1, ML_BRANCH_FEED_FORWARD, ML_NORM_PRE, 0);
	check_branch(&b, 2, ML_BRANCH_ATTENTION, ML_NORM_PRE, 1);
	check_branch(&b, 3, ML_BRANCH_FEED_FORWARD, ML_NORM_PRE, 1);
	assert_int_equal(b.blocks.branch.at[0].heads, 1);
	assert_int_equal(b.blocks.branch.at[1].width, 3);
	/* The last attention and the first feed-forward go. */
	check_removed(&b, (bool[]){true, false, false, true},
		      HEAD SQUARE NORM("n1", "%x") ATTENTION("a1", "%n1") ADD("s1", "%x", "%a1")
			      NORM("n4", "%s1") FFN("f2", "%n4") ADD("s4", "%f2", "%s1")
				      NORM("n5", "%s4") OUT("%n5"));
	close_bench(&b);
}

#define POST_LAYER(n, in)                                                                          \
	ATTENTION("a" n, in)                                                                       \
	ADD("s" n, in, "%a" n)                                                                     \
	NORM("m" n, "%s" n) FFN("f" n, "%m" n) ADD("t" n, "%f" n, "%m" n) NORM("h" n, "%t" n)

static void
test_post_norm(void **state)
{
	/* The first layer reads the input as it is: what follows shows that its norm is its end. */
	static const char *const text[] = {
		HEAD SQUARE NORM("h0", "%x") POST_LAYER("1", "%h0") POST_LAYER("2", "%h1")
			POST_LAYER("3", "%h2") OUT("%h3"),
		HEAD SQUARE POST_LAYER("1", "%x") POST_LAYER("2", "%h1") POST_LAYER("3", "%h2")
			OUT("%h3"),
	};
	static const char *const expected[] = {
		HEAD SQUARE NORM("h0", "%x") POST_LAYER("2", "%h0") OUT("%h2"),
		HEAD SQUARE POST_LAYER("2", "%x") OUT("%h2"),
	};
	bench b;

	(void)state;
	for (int k = 0; k < 2; k++) {
		open_bench(&b, text[k]);
		assert_int_equal(b.blocks.branch.count, 6);
		assert_int_equal(b.blocks.layer.count, 3);
		for (int i = 0; i < 6; i++)
			check_branch(&b, i, i % 2 ? ML_BRANCH_FEED_FORWARD : ML_BRANCH_ATTENTION,
				     ML_NORM_POST, i / 2);
		check_removed(&b, (bool[]){false, false, true, true, false, false}, expected[k]);
		close_bench(&b);
	}
}

static void
test_parallel(void **state)
{
	static const char text[] = HEAD SQUARE NORM("n", "%x") ATTENTION("a", "%n") FFN("f", "%n")
		ADD("p", "%x", "%a") ADD("s", "%p", "%f") OUT("%s");
	bench b;

	(void)state;
	open_bench(&b, text);
	assert_int_equal(b.blocks.branch.count, 2);
	assert_int_equal(b.blocks.layer.count, 1);
	int ffn = b.blocks.branch.at[1].kind == ML_BRANCH_FEED_FORWARD;
	bool keep[] = {ffn, !ffn}; /* attention goes */
	keep[0] = !keep[0];
	keep[1] = !keep[1];
	check_removed(&b, keep, HEAD NORM("n", "%x") FFN("f", "%n") ADD("s", "%x", "%f") OUT("%s"));
	close_bench(&b);
}

/* A residual sum of images; its activation belongs to the stream. */
static void
test_cnn(void **state)
{
#define CNN                                                                                        \
	"module \"m\" {\n  sym b\n  in %i \"x\" : f32[b, 1, 2, 2]\n"                               \
	"  %w = const {1, -2} : f32[2, 1, 1, 1]\n  %z = const {0} : f32[]\n"
#define CONV(name, in, w)                                                                          \
	"  %" name " = conv " in ", " w " {stride = [1, 1], dilation = [1, 1], low = [0, 0], "     \
	"high = [0, 0]} : f32[b, 2, 2, 2]\n"
#define RELU(name, in) "  %" name " = max " in ", %z : f32[b, 2, 2, 2]\n"
	static const char text[] = CNN "  %v = const {1, 0.5, 2, -1} : f32[2, 2, 1, 1]\n" CONV(
		"c0", "%i", "%w") RELU("r0", "%c0") CONV("c1", "%r0", "%v") RELU("r1", "%c1")
		CONV("c2", "%r1", "%v") "  %s = add %r0, %c2 : f32[b, 2, 2, 2]\n" RELU("r2", "%s")
			OUT("%r2");
	bench b;

	(void)state;
	open_bench(&b, text);
	assert_int_equal(b.blocks.branch.count, 1);
	check_branch(&b, 0, ML_BRANCH_CONV, ML_NORM_NONE, 0);
	assert_int_equal(b.blocks.branch.at[0].width, 2);
	check_removed(&b, (bool[]){false}, CNN CONV("c0", "%i", "%w") RELU("r0", "%c0") OUT("%r0"));
	close_bench(&b);
}

/* A decoder keeps its inputs and outputs: what was appended to the cache becomes zeros. */
static void
test_cache(void **state)
{
#define CACHE TOP("  sym p\n  in %k \"past\" : f32[b, 1, p, 2]\n")
	static const char text[] = CACHE WEIGHTS SQUARE NORM(
		"n", "%x") "  %q = linear %n, %w : f32[b, s, 2]\n"
			   "  %r = reshape %q {shape = [b, 1, s, 2]} : f32[b, 1, s, 2]\n"
			   "  %a = concat %k, %r {axis = 2} : f32[b, 1, p + s, 2]\n"
			   "  %t = attention %r, %a, %a : f32[b, 1, s, 2]\n"
			   "  %f = reshape %t {shape = [b, s, 2]} : f32[b, s, 2]\n"
			   "  %o = linear %f, %w : f32[b, s, 2]\n" ADD(
				   "y", "%x", "%o") "  out \"y\" = %y\n"
						    "  out \"present\" = %a\n}\n";
	static const char expected[] =
		CACHE "  %z = const {0} : f32[]\n"
		      "  %b = broadcast %z {shape = [b, 1, s, 2]} : f32[b, 1, s, 2]\n"
		      "  %a = concat %k, %b {axis = 2} : f32[b, 1, p + s, 2]\n"
		      "  out \"y\" = %x\n  out \"present\" = %a\n}\n";
	bench b;

	(void)state;
	open_bench(&b, text);
	assert_int_equal(b.blocks.branch.count, 1);
	check_removed(&b, (bool[]){false}, expected);
	close_bench(&b);
}

/* Sums that are no residual branches. */
static void
test_others(void **state)
{
	/* Nothing with weights; a branch that is read elsewhere; two sources. */
	static const char *const text[] = {
		HEAD "  %t = tanh %x : f32[b, s, 2]\n" ADD("s", "%x", "%t") OUT("%s"),
		HEAD FFN("f", "%x") ADD("s", "%x", "%f") ADD("r", "%s", "%f") OUT("%r"),
		TOP("  in %z \"z\" : f32[b, s, 2]\n") WEIGHTS FFN("f", "%z") ADD("s", "%x", "%f")
			OUT("%s"),
	};
	bench b;

	(void)state;
	for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
		open_bench(&b, text[i]);
		assert_int_equal(b.blocks.branch.count, 0);
		assert_int_equal(b.blocks.layer.count, 0);
		close_bench(&b);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pre_norm), cmocka_unit_test(test_post_norm),
		cmocka_unit_test(test_parallel), cmocka_unit_test(test_cnn),
		cmocka_unit_test(test_cache),    cmocka_unit_test(test_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
