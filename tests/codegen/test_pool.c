/* test_pool.c -- pools of images: how their kernels read and store, and what they give. */
#include "harness_kernel.h"
#include "harness_model.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* Windows of %of, channels last, two pixels apart, become a pixel of %p. */
#define POOL(of, size, lines, op)                                                                  \
	"  %t = transpose %" of " {perm = [0, 3, 1, 2]} : f32[n, 16, 8, 8]\n"                      \
	"  %u = window %t {size = [" size ", " size "], stride = [2, 2], dilation = [1, 1]} : "    \
	"f32[n, 16, " lines ", " lines ", " size ", " size "]\n"                                   \
	"  %w = transpose %u {perm = [0, 2, 3, 1, 4, 5]} : f32[n, " lines ", " lines ", 16, " size \
	", " size "]\n"                                                                            \
	"  %r = " op " %w {axes = [4, 5]} : f32[n, " lines ", " lines ", 16, 1, 1]\n"              \
	"  %p = reshape %r {shape = [n, " lines ", " lines ", 16]} : f32[n, " lines ", " lines     \
	", 16]\n"

/* Is there a kernel whose text has this? */
static bool
has_kernel(const ml_plan *plan, const char *text)
{
	for (int i = 0; i < plan->specs.count; i++)
		if (strstr(plan->specs.at[i].text, text))
			return true;
	return false;
}

static void
check_model(const char *text, const int64_t *sizes)
{
	const ml_target *level[ML_LEVEL_COUNT];
	int n = model_levels(level);
	model m;

	model_open(&m, text);
	model_compile(&m, level[n - 1]);
	model_check(&m, sizes);
	model_close(&m);
}

/* A convolution of single pixels reads what a pool has stored channels last, though the model
 * shows it the other way. */
static void
test_read_as_it_lies(void **state)
{
	static const int64_t sizes[] = {3};
	const char *text = "module \"pool\" {\n  sym n\n  in %v \"x\" : f32[n, 8, 8, 16]\n"
			   "  in %k \"k\" : f32[24, 16, 1, 1]\n" POOL(
				   "v", "2", "4",
				   "reduce_max") "  %s = transpose %p {perm = [0, 3, 1, 2]} : "
						 "f32[n, 16, 4, 4]\n"
						 "  %x = window %s {size = [1, 1], stride = [1, "
						 "1], dilation = [1, 1]} : "
						 "f32[n, 16, 4, 4, 1, 1]\n"
						 "  %y = dot %x, %k {lhs_contract = [4, 5, 1], "
						 "rhs_contract = [2, 3, 1]} : "
						 "f32[n, 4, 4, 24]\n  out \"y\" = %y\n}\n";
	model m;

	(void)state;
	model_open(&m, text);
	assert_true(has_kernel(model_plan(&m), "in %0 : f32[d0, 4, 4, 16]\n"));
	assert_false(has_kernel(model_plan(&m), "in %0 : f32[d0, 16, 4, 4]\n"));
	model_close(&m);
	check_model(text, sizes);
}

/* A convolution of `of` pixels to 24 channels, whose image `then` pools. */
#define CONV(of, then)                                                                             \
	"module \"pool\" {\n  sym n\n  in %v \"x\" : f32[n, 8, 8, 16]\n"                           \
	"  in %f \"f\" : f32[16, 16, " of ", " of "]\n"                                            \
	"  %a = const {0} : f32[]\n"                                                               \
	"  %b = pad %v, %a {low = [0, " of " - 1, " of " - 1, 0], high = [0, 0, 0, 0], "           \
	"interior = [0, 0, 0, 0]} : f32[n, 7 + " of ", 7 + " of ", 16]\n"                          \
	"  %c = transpose %b {perm = [0, 3, 1, 2]} : f32[n, 16, 7 + " of ", 7 + " of "]\n"         \
	"  %d = window %c {size = [" of ", " of "], stride = [1, 1], dilation = [1, 1]} : "        \
	"f32[n, 16, 8, 8, " of ", " of "]\n"                                                       \
	"  %e = dot %d, %f {lhs_contract = [4, 5, 1], rhs_contract = [2, 3, 1]} : "                \
	"f32[n, 8, 8, 16]\n  %g = max %e, %a : f32[n, 8, 8, 16]\n" then "}\n"

/* Does one kernel contract and reduce? */
static void
assert_pooled(const char *text, bool wanted)
{
	bool found = false;
	model m;

	model_open(&m, text);
	const ml_plan *plan = model_plan(&m);
	for (int i = 0; i < plan->specs.count; i++) {
		const char *spec = plan->specs.at[i].text;
		found |= strstr(spec, "= dot") && strstr(spec, "= reduce_");
	}
	assert_int_equal(found, wanted);
	model_close(&m);
	check_model(text, (int64_t[]){3});
}

static void
test_joined(void **state)
{
	(void)state;
	/* What follows, and a residual beside it, is computed there too. */
	assert_pooled(
		CONV("3",
		     POOL("g", "2", "4",
			  "reduce_max") "  %q = tanh %p : f32[n, 4, 4, 16]\n  out \"y\" = %q\n"),
		true);
	assert_pooled(CONV("1", "  %p = reduce_sum %g {axes = [1, 2]} : f32[n, 1, 1, 16]\n"
				"  out \"y\" = %p\n"),
		      true);
	assert_pooled(CONV("3", "  %h = add %g, %v : f32[n, 8, 8, 16]\n" POOL(
					"h", "2", "4", "reduce_sum") "  out \"y\" = %p\n"),
		      true);
}

/* Where the image is read by others, lines are needed twice, or all windows by every tile. */
static void
test_apart(void **state)
{
	(void)state;
	assert_pooled(CONV("3",
			   POOL("g", "2", "4", "reduce_max") "  %q = tanh %g : f32[n, 8, 8, 16]\n  "
							     "out \"y\" = %p\n  out \"z\" = "
							     "%q\n"),
		      false);
	assert_pooled(CONV("3", POOL("g", "3", "3", "reduce_max") "  out \"y\" = %p\n"), false);
	assert_pooled(CONV("3", "  %p = reduce_sum %g {axes = [1, 2]} : f32[n, 1, 1, 16]\n"
				"  out \"y\" = %p\n"),
		      false);
}

/* ---- kernels that pool what they contract ---- */

enum { TEXT = 4096 };

/* An image of lines x pixels x 5, convolved by 3 x 3 to so many channels, then pooled. */
typedef struct shape {
	int lines, pixels, channels;
	int size[2], stride[2], low, high; /* of windows by lines and pixels; lines padded */
} shape;

static const char float_layer[] =
	"  in %%0 : f32[d0, %d, %d, 5]\n  in %%1 : f32[3, 3, 5, %d]\n  in %%2 : f32[%d]\n"
	"  in %%3 : f32[d0, %d, %d, %d]\n  %%z = const {0} : f32[]\n%s"
	"  %%e = add %%d, %%2 : f32[d0, %d, %d, %d]\n  %%f = add %%e, %%3 : f32[d0, %d, %d, %d]\n"
	"  %%g = max %%f, %%z : f32[d0, %d, %d, %d]\n";
static const char byte_layer[] =
	"  in %%0 : u8[d0, %d, %d, 5]\n  in %%1 : s8[3, 3, 5, %d]\n  in %%2 : s32[%d]\n"
	"  in %%3 : f32[d0, %d, %d, %d]\n  %%z = const {3} : u8[]\n%s"
	"  %%e = add %%d, %%2 : s32[d0, %d, %d, %d]\n  %%f = cast %%e : f32[d0, %d, %d, %d]\n"
	"  %%h = mul %%f, %%3 : f32[d0, %d, %d, %d]\n"
	"  %%i = round %%h : f32[d0, %d, %d, %d]\n  %%g = cast %%i {dtype = u8} : u8[d0, %d, %d, "
	"%d]\n";

/* Up to %g, the image to be pooled. */
static int
print_layer(char *text, const shape *s, bool bytes)
{
	const char *t = bytes ? "u8" : "f32", *sum = bytes ? "s32" : "f32";
	int l = s->lines, p = s->pixels, c = s->channels;
	char conv[TEXT / 2];

	snprintf(conv, sizeof conv,
		 "  %%a = pad %%0, %%z {low = [0, 1, 1, 0], high = [0, 1, 1, 0], interior = "
		 "[0, 0, 0, 0]} : %s[d0, %d, %d, 5]\n"
		 "  %%b = transpose %%a {perm = [0, 3, 1, 2]} : %s[d0, 5, %d, %d]\n"
		 "  %%c = window %%b {size = [3, 3], stride = [1, 1], dilation = [1, 1]} : "
		 "%s[d0, 5, %d, %d, 3, 3]\n"
		 "  %%d = dot %%c, %%1 {lhs_contract = [4, 5, 1], rhs_contract = [0, 1, 2]} : "
		 "%s[d0, %d, %d, %d]\n",
		 t, l + 2, p + 2, t, l + 2, p + 2, t, l, p, sum, l, p, c);
	int n = snprintf(text, TEXT, "kernel contract 0 \nmodule \"\" {\n  sym d0\n");
	return n + snprintf(text + n, (size_t)(TEXT - n), bytes ? byte_layer : float_layer, l, p, c,
			    c, l, p, c, conv, l, p, c, l, p, c, l, p, c, l, p, c, l, p, c);
}

static void
check(const char *text, double tolerance)
{
	static const int64_t images[][KERNEL_DIMS] = {{1}, {3}, {0}};

	check_kernel(&(kernel_case){.text = text,
				    .sizes = images,
				    .nsizes = 3,
				    .packed = true,
				    .tolerance = tolerance});
}

/* Two results: of what follows the pool, and the pool's, stored the other way. */
static void
check_windows(const shape *s, const char *op, bool bytes)
{
	const char *t = bytes ? "u8" : "f32";
	int l = (s->lines + s->low + s->high - s->size[0]) / s->stride[0] + 1;
	int p = (s->pixels - s->size[1]) / s->stride[1] + 1, c = s->channels;
	int all = s->lines + s->low + s->high;
	char text[TEXT];
	int n = print_layer(text, s, bytes);

	snprintf(text + n, (size_t)(TEXT - n),
		 "  %%k = pad %%g, %%z {low = [0, %d, 0, 0], high = [0, %d, 0, 0], interior = "
		 "[0, 0, 0, 0]} : %s[d0, %d, %d, %d]\n"
		 "  %%l = transpose %%k {perm = [0, 3, 1, 2]} : %s[d0, %d, %d, %d]\n"
		 "  %%m = window %%l {size = [%d, %d], stride = [%d, %d], dilation = [1, 1]} : "
		 "%s[d0, %d, %d, %d, %d, %d]\n"
		 "  %%n = transpose %%m {perm = [0, 2, 3, 1, 4, 5]} : %s[d0, %d, %d, %d, %d, %d]\n"
		 "  %%o = %s %%n {axes = [4, 5]} : %s[d0, %d, %d, %d, 1, 1]\n"
		 "  %%p = reshape %%o {shape = [d0, %d, %d, %d]} : %s[d0, %d, %d, %d]\n"
		 "  %%q = add %%p, %%p : %s[d0, %d, %d, %d]\n"
		 "  %%r = transpose %%p {perm = [0, 3, 1, 2]} : %s[d0, %d, %d, %d]\n"
		 "  out \"\" = %%q\n  out \"\" = %%r\n}\n",
		 s->low, s->high, t, all, s->pixels, c, t, c, all, s->pixels, s->size[0],
		 s->size[1], s->stride[0], s->stride[1], t, c, l, p, s->size[0], s->size[1], t, l,
		 p, c, s->size[0], s->size[1], op, t, l, p, c, l, p, c, t, l, p, c, t, l, p, c, t,
		 c, l, p);
	check(text, bytes ? 0 : 1e-5);
}

static void
test_windows(void **state)
{
	static const shape shapes[] = {
		{9, 7, 20, {2, 2}, {2, 2}, 0, 0},   /* a line, a pixel and lanes are left over */
		{9, 40, 16, {2, 3}, {2, 1}, 1, 2},  /* lines of fill, pixels that overlap */
		{13, 4, 1, {1, 2}, {3, 2}, 0, 0},   /* lines that nobody reads; one channel */
		{33, 20, 35, {3, 3}, {3, 3}, 2, 1}, /* more than a pass; a window of fill */
		{33, 6, 20, {3, 3}, {2, 2}, 1, 1},  /* lines that two passes need */
		{11, 9, 5, {4, 1}, {1, 1}, 2, 1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		check_windows(&shapes[i], i % 2 ? "reduce_sum" : "reduce_max", false);
	check_windows(&shapes[0], "reduce_max", true);
	check_windows(&shapes[4], "reduce_max", true);
}

/* All pixels become one: means, of floats and of bytes that are widened on the way. */
static void
test_global(void **state)
{
	static const int shapes[][3] = {{7, 7, 200}, {3, 1, 450}};
	char text[TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		int l = shapes[i][0], p = shapes[i][1], c = shapes[i][2];
		shape s = {.lines = l, .pixels = p, .channels = c};
		int n = print_layer(text, &s, false);
		snprintf(text + n, (size_t)(TEXT - n),
			 "  %%k = reduce_sum %%g {axes = [1, 2]} : f32[d0, 1, 1, %d]\n"
			 "  %%l = const {%d} : f32[]\n  %%m = div %%k, %%l : f32[d0, 1, 1, %d]\n"
			 "  %%n = reshape %%m {shape = [d0, %d]} : f32[d0, %d]\n"
			 "  out \"\" = %%n\n}\n",
			 c, l * p, c, c, c);
		check(text, 1e-5);
		n = print_layer(text, &s, true);
		snprintf(text + n, (size_t)(TEXT - n),
			 "  %%j = cast %%g {dtype = s32} : s32[d0, %d, %d, %d]\n"
			 "  %%k = reduce_sum %%j {axes = [1, 2]} : s32[d0, 1, 1, %d]\n"
			 "  out \"\" = %%k\n}\n",
			 l, p, c, c);
		check(text, 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_as_it_lies), cmocka_unit_test(test_joined),
		cmocka_unit_test(test_apart),           cmocka_unit_test(test_windows),
		cmocka_unit_test(test_global),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
