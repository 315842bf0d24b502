/* test_expr.c -- index maps, gathers, inlined reductions and dots inside of elementwise kernels. */
#include "harness_kernel.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#define KERNEL(axes, symbols, body) "kernel rows " #axes " \nmodule \"\" {\n" symbols body "}\n"
#define SYM2                        "  sym d0\n  sym d1\n"
#define SYM3                        "  sym d0\n  sym d1\n  sym d2\n"

/* Runs a specification at several sizes of its symbols. */
static void
check_sizes(const char *text, const int64_t (*sizes)[3], int n, kernel_case c)
{
	c.text = text;
	c.sizes = sizes;
	c.nsizes = n;
	check_kernel(&c);
}

static const int64_t small[][3] = {{1, 1, 1},   {2, 3, 5}, {3, 16, 2},
				   {2, 17, 33}, {0, 4, 4}, {4, 0, 3}};
enum { NSMALL = sizeof small / sizeof *small };

static void
test_broadcast_and_views(void **state)
{
	(void)state;
	check_sizes(KERNEL(0, SYM3,
			   "  in %0 : f32[d0, d1, d2]\n"
			   "  in %1 : f32[d2]\n"
			   "  in %2 : f32[d1, 1]\n"
			   "  in %3 : f32[]\n"
			   "  %4 = add %0, %1 : f32[d0, d1, d2]\n"
			   "  %5 = mul %4, %2 : f32[d0, d1, d2]\n"
			   "  %6 = sub %5, %3 : f32[d0, d1, d2]\n"
			   "  %7 = transpose %6 {perm = [2, 0, 1]} : f32[d2, d0, d1]\n"
			   "  %8 = reshape %7 {shape = [d2, d0*d1]} : f32[d2, d0*d1]\n"
			   "  out \"\" = %8\n"),
		    small, NSMALL, (kernel_case){0});
}

static void
test_transposed_reads(void **state)
{
	(void)state;
	check_sizes(KERNEL(0, SYM3,
			   "  in %0 : f32[d0, d1, d2]\n"
			   "  in %1 : s8[d2, d1, d0]\n"
			   "  %2 = transpose %0 {perm = [1, 2, 0]} : f32[d1, d2, d0]\n"
			   "  %3 = transpose %1 {perm = [1, 0, 2]} : s8[d1, d2, d0]\n"
			   "  %4 = cast %3 {dtype = f32} : f32[d1, d2, d0]\n"
			   "  %5 = add %2, %4 : f32[d1, d2, d0]\n"
			   "  out \"\" = %5\n"),
		    small, NSMALL, (kernel_case){0});
}

/* A row of 64 in 4 heads of 16, and 3 heads of 5 that no block of lanes fits. */
static void
test_heads(void **state)
{
	(void)state;
	check_sizes(KERNEL(0, SYM2,
			   "  in %0 : f32[d0, d1, 64]\n"
			   "  %1 = neg %0 : f32[d0, d1, 64]\n"
			   "  %2 = reshape %1 {shape = [d0, d1, 4, 16]} : f32[d0, d1, 4, 16]\n"
			   "  %3 = transpose %2 {perm = [0, 2, 1, 3]} : f32[d0, 4, d1, 16]\n"
			   "  out \"\" = %3\n"),
		    small, NSMALL, (kernel_case){0});
	check_sizes(KERNEL(0, SYM2,
			   "  in %0 : f32[d0, d1, 15]\n"
			   "  %1 = reshape %0 {shape = [d0, d1, 3, 5]} : f32[d0, d1, 3, 5]\n"
			   "  %2 = transpose %1 {perm = [0, 2, 1, 3]} : f32[d0, 3, d1, 5]\n"
			   "  %3 = reshape %2 {shape = [d0, 3, 5*d1]} : f32[d0, 3, 5*d1]\n"
			   "  %4 = abs %3 : f32[d0, 3, 5*d1]\n"
			   "  out \"\" = %4\n"),
		    small, NSMALL, (kernel_case){0});
}

/* Reshapes whose divisors are symbols that may be zero. */
static void
test_symbolic_reshape(void **state)
{
	(void)state;
	check_sizes(KERNEL(0, SYM3,
			   "  in %0 : f32[d0*d1, d2]\n"
			   "  in %1 : f32[d0, d2, d1]\n"
			   "  %2 = reshape %0 {shape = [d0, d1, d2]} : f32[d0, d1, d2]\n"
			   "  %3 = transpose %2 {perm = [0, 2, 1]} : f32[d0, d2, d1]\n"
			   "  %4 = add %3, %1 : f32[d0, d2, d1]\n"
			   "  %5 = reshape %4 {shape = [d0*d1*d2]} : f32[d0*d1*d2]\n"
			   "  %6 = neg %5 : f32[d0*d1*d2]\n"
			   "  out \"\" = %6\n"),
		    small, NSMALL, (kernel_case){0});
}

static void
test_slice_reverse(void **state)
{
	(void)state;
	check_sizes(KERNEL(0, SYM2,
			   "  in %0 : f32[d0 + 2, d1 + 5]\n  in %s : s8[d0, d1]\n"
			   "  %1 = slice %0 {start = [1, 2], size = [d0, d1 + 1], step = [1, 1]} : "
			   "f32[d0, d1 + 1]\n"
			   "  %2 = slice %0 {start = [0, 0], size = [d0, d1 floordiv 2 + 1], step "
			   "= [1, 2]} : f32[d0, d1 floordiv 2 + 1]\n"
			   "  %3 = slice %2 {start = [0, 0], size = [d0, 1], step = [1, 1]} : "
			   "f32[d0, 1]\n"
			   "  %4 = reverse %1 {axes = [0, 1]} : f32[d0, d1 + 1]\n"
			   "  %5 = add %1, %4 : f32[d0, d1 + 1]\n"
			   "  %6 = mul %5, %3 : f32[d0, d1 + 1]\n"
			   "  out \"\" = %6\n"),
		    small, NSMALL, (kernel_case){0});
	check_sizes(KERNEL(0, SYM2,
			   "  in %0 : u8[d0, 2*d1 + 1]\n  in %s : s8[d0, d1]\n"
			   "  %1 = slice %0 {start = [0, 1], size = [d0, d1], step = [1, 2]} : "
			   "u8[d0, d1]\n"
			   "  %2 = not %1 : u8[d0, d1]\n"
			   "  out \"\" = %2\n"),
		    small, NSMALL, (kernel_case){0});
}

static void
test_pad(void **state)
{
	(void)state;
	static const char *const types[] = {"f32", "u8", "f16", "s64"};
	char text[1024];
	for (int t = 0; t < 4; t++) {
		snprintf(text, sizeof text,
			 KERNEL(0, SYM2,
				"  in %%0 : %1$s[d0, d1]\n"
				"  in %%1 : %1$s[]\n"
				"  %%2 = pad %%0, %%1 {low = [1, 2], high = [0, 3], interior = [0, "
				"0]} : %1$s[d0 + 1, d1 + 5]\n"
				"  out \"\" = %%2\n"),
			 types[t]);
		check_sizes(text, small, NSMALL, (kernel_case){0});
	}
	check_sizes(KERNEL(0, SYM2,
			   "  in %0 : f32[d0 + 1, d1 + 1]\n  in %s : s8[d0, d1]\n"
			   "  %1 = const {0.5} : f32[]\n"
			   "  %2 = pad %0, %1 {low = [0, 1], high = [2, 0], interior = [2, 1]} : "
			   "f32[3*d0 + 3, 2*d1 + 2]\n"
			   "  %3 = neg %2 : f32[3*d0 + 3, 2*d1 + 2]\n"
			   "  out \"\" = %3\n"),
		    small, NSMALL, (kernel_case){0});
}

static void
test_concat(void **state)
{
	(void)state;
	check_sizes(KERNEL(0, SYM3,
			   "  in %0 : f32[d0, d1]\n"
			   "  in %1 : f32[d0, d2]\n"
			   "  %8 = const {7} : f32[]\n"
			   "  %2 = broadcast %8 {shape = [d0, 3]} : f32[d0, 3]\n"
			   "  %3 = concat %0, %1, %2 {axis = 1} : f32[d0, d1 + d2 + 3]\n"
			   "  out \"\" = %3\n"),
		    small, NSMALL, (kernel_case){0});
	check_sizes(KERNEL(0, SYM3,
			   "  in %0 : s16[d0, d2]\n"
			   "  in %1 : s16[d1, d2]\n"
			   "  %2 = concat %0, %1, %0 {axis = 0} : s16[2*d0 + d1, d2]\n"
			   "  %3 = abs %2 : s16[2*d0 + d1, d2]\n"
			   "  out \"\" = %3\n"),
		    small, NSMALL, (kernel_case){0});
}

/* A cache grown by one step, read through heads. */
static void
test_concat_in_heads(void **state)
{
	(void)state;
	check_sizes(KERNEL(0, SYM3,
			   "  in %0 : f32[d0, 2, d1, 16]\n"
			   "  in %1 : f32[d0, d2, 32]\n"
			   "  %2 = reshape %1 {shape = [d0, d2, 2, 16]} : f32[d0, d2, 2, 16]\n"
			   "  %3 = transpose %2 {perm = [0, 2, 1, 3]} : f32[d0, 2, d2, 16]\n"
			   "  %4 = concat %0, %3 {axis = 2} : f32[d0, 2, d1 + d2, 16]\n"
			   "  out \"\" = %4\n"),
		    small, NSMALL, (kernel_case){0});
}

static void
test_window(void **state)
{
	(void)state;
	check_sizes(KERNEL(0, SYM2,
			   "  in %0 : f32[d0, d1 + 6, 9]\n  in %s : s8[d0, d1]\n"
			   "  %1 = window %0 {size = [3, 2], stride = [1, 2], dilation = [2, 1]} : "
			   "f32[d0, d1 + 2, 4, 3, 2]\n"
			   "  %2 = reduce_max %1 {axes = [3, 4]} : f32[d0, d1 + 2, 4, 1, 1]\n"
			   "  %3 = reduce_sum %1 {axes = [3, 4]} : f32[d0, d1 + 2, 4, 1, 1]\n"
			   "  out \"\" = %2\n  out \"\" = %3\n"),
		    small, NSMALL, (kernel_case){.tolerance = 1e-6});
}

static void
test_gather(void **state)
{
	(void)state;
	check_sizes(KERNEL(0, SYM3,
			   "  in %0 : f32[10, d2]\n"
			   "  in %1 : s64[d0, d1]\n"
			   "  in %2 : f32[d2, 10]\n"
			   "  %3 = gather %0, %1 {axis = 0} : f32[d0, d1, d2]\n"
			   "  %4 = gather %2, %1 {axis = 1} : f32[d2, d0, d1]\n"
			   "  %5 = transpose %4 {perm = [1, 2, 0]} : f32[d0, d1, d2]\n"
			   "  %6 = add %3, %5 : f32[d0, d1, d2]\n"
			   "  out \"\" = %6\n"),
		    small, NSMALL, (kernel_case){.low = -10, .high = 9});
	/* Positions along the lanes. */
	check_sizes(KERNEL(0, SYM2,
			   "  in %0 : s8[d1 + 7, 10]\n  in %s : s8[d0, d1]\n"
			   "  in %1 : s32[d0]\n"
			   "  %2 = gather %0, %1 {axis = 1} : s8[d1 + 7, d0]\n"
			   "  out \"\" = %2\n"),
		    small, NSMALL, (kernel_case){.low = -10, .high = 9});
}

static void
test_bad_index(void **state)
{
	(void)state;
	static const int64_t one[][3] = {{3, 5, 18}};
	static const char *const texts[] = {
		KERNEL(0, SYM3,
		       "  in %0 : f32[10, d2]\n  in %1 : s64[d0, d1]\n"
		       "  %2 = gather %0, %1 {axis = 0} : f32[d0, d1, d2]\n"
		       "  out \"\" = %2\n"),
		KERNEL(0, SYM3,
		       "  in %0 : f32[d0, 10]\n  in %1 : u64[d2]\n"
		       "  %2 = gather %0, %1 {axis = 1} : f32[d0, d2]\n"
		       "  out \"\" = %2\n"),
		KERNEL(0, SYM3,
		       "  in %0 : s64[d2]\n  in %s : s8[d0, d1]\n"
		       "  %1 = wrap_index %0 {size = [d0]} : s64[d2]\n"
		       "  out \"\" = %1\n"),
	};
	for (int i = 0; i < 3; i++) {
		check_sizes(texts[i], one, 1, (kernel_case){.fault = ML_ERR_INDEX});
		check_sizes(texts[i], one, 1,
			    (kernel_case){.fault = ML_ERR_INDEX, .low = -11, .high = 10});
	}
	/* Nothing to index: never touched. */
	static const int64_t empty[][3] = {{3, 4, 0}};
	check_sizes(KERNEL(0, SYM3,
			   "  in %0 : f32[d2, d1]\n  in %1 : s64[d0]\n"
			   "  %2 = gather %0, %1 {axis = 0} : f32[d0, d1]\n"
			   "  out \"\" = %2\n"),
		    empty, 1, (kernel_case){.fault = ML_ERR_INDEX, .low = 0, .high = 1});
}

static void
test_wrap_index(void **state)
{
	(void)state;
	check_sizes(KERNEL(0, SYM2,
			   "  in %0 : f32[40, 3]\n  in %1 : s64[d0]\n  in %2 : s32[d0, d1]\n"
			   "  %3 = wrap_index %1 {size = [8]} : s64[d0]\n"
			   "  %4 = reshape %3 {shape = [d0, 1]} : s64[d0, 1]\n"
			   "  %5 = cast %2 {dtype = s64} : s64[d0, d1]\n"
			   "  %6 = wrap_index %5 {size = [8]} : s64[d0, d1]\n"
			   "  %7 = add %4, %6 : s64[d0, d1]\n"
			   "  %8 = gather %0, %7 {axis = 0} : f32[d0, d1, 3]\n"
			   "  out \"\" = %8\n"),
		    small, NSMALL, (kernel_case){.low = -8, .high = 7});
}

static void
test_iota_dim_const(void **state)
{
	(void)state;
	check_sizes(KERNEL(0, SYM2,
			   "  in %0 : f32[d0, d1]\n"
			   "  %1 = iota {shape = [d0, d1], axis = 1, dtype = f32} : f32[d0, d1]\n"
			   "  %2 = iota {shape = [d0, 1], axis = 0} : s64[d0, 1]\n"
			   "  %3 = cast %2 {dtype = f32} : f32[d0, 1]\n"
			   "  %4 = dim {value = [d0*d1 + 1]} : s64[]\n"
			   "  %5 = cast %4 {dtype = f32} : f32[]\n"
			   "  %6 = const {1, 2, 3, 5, 8} : f32[5]\n"
			   "  %7 = slice %6 {start = [2], size = [1], step = [1]} : f32[1]\n"
			   "  %8 = add %0, %1 : f32[d0, d1]\n"
			   "  %9 = mul %8, %3 : f32[d0, d1]\n"
			   "  %10 = add %9, %5 : f32[d0, d1]\n"
			   "  %11 = mul %10, %7 : f32[d0, d1]\n"
			   "  out \"\" = %11\n"),
		    small, NSMALL, (kernel_case){0});
	/* A table read by lanes. */
	check_sizes(KERNEL(0, SYM2,
			   "  in %0 : s32[d0, 5]\n"
			   "  %1 = const {1, -2, 3, 5, 8} : s32[5]\n"
			   "  %2 = add %0, %1 : s32[d0, 5]\n"
			   "  out \"\" = %2\n"),
		    small, NSMALL, (kernel_case){0});
}

static void
test_inlined_reductions(void **state)
{
	(void)state;
	check_sizes(KERNEL(0, SYM3,
			   "  in %0 : f32[d0, d1, d2]\n"
			   "  %1 = reduce_sum %0 {axes = [1]} : f32[d0, 1, d2]\n"
			   "  %2 = reduce_prod %0 {axes = [0]} : f32[1, d1, d2]\n"
			   "  %3 = reduce_min %0 {axes = [0, 1]} : f32[1, 1, d2]\n"
			   "  %4 = reduce_max %0 {axes = [2]} : f32[d0, d1, 1]\n"
			   "  %5 = add %1, %2 : f32[d0, d1, d2]\n"
			   "  %6 = add %5, %3 : f32[d0, d1, d2]\n"
			   "  %7 = sub %6, %4 : f32[d0, d1, d2]\n"
			   "  out \"\" = %7\n"),
		    small, NSMALL, (kernel_case){.tolerance = 1e-5});
	check_sizes(KERNEL(0, SYM3,
			   "  in %0 : u8[d0, d1, d2]\n"
			   "  %1 = reduce_max %0 {axes = [1]} : u8[d0, 1, d2]\n"
			   "  out \"\" = %1\n"),
		    small, NSMALL, (kernel_case){0});
}

static void
test_arg_reductions(void **state)
{
	(void)state;
	static const int64_t sizes[][3] = {
		{1, 1, 1}, {2, 3, 5}, {3, 16, 2}, {2, 17, 33}, {0, 4, 4}};
	for (int last = 0; last < 2; last++) {
		char text[1024];
		snprintf(text, sizeof text,
			 KERNEL(0, SYM3,
				"  in %%0 : f32[d0, d1, d2]\n"
				"  %%1 = round %%0 : f32[d0, d1, d2]\n"
				"  %%2 = arg_max %%1 {axis = 1, last = %1$d} : s64[d0, 1, "
				"d2]\n"
				"  %%3 = arg_min %%1 {axis = 1, last = %1$d} : s64[d0, 1, "
				"d2]\n"
				"  out \"\" = %%2\n  out \"\" = %%3\n"),
			 last);
		check_sizes(text, sizes, 5, (kernel_case){.specials = true});
	}
}

static void
test_small_dot(void **state)
{
	(void)state;
	check_sizes(KERNEL(0, SYM3,
			   "  in %0 : f64[d0, 3, d1]\n"
			   "  in %1 : f64[d0, d1, d2]\n"
			   "  %2 = dot %0, %1 {lhs_batch = [0], rhs_batch = [0], lhs_contract = "
			   "[2], rhs_contract = [1]} : f64[d0, 3, d2]\n"
			   "  out \"\" = %2\n"),
		    small, NSMALL, (kernel_case){.tolerance = 1e-14});
	check_sizes(
		KERNEL(0, SYM3,
		       "  in %0 : s8[d0, d1]\n"
		       "  in %1 : s8[d2, d1]\n"
		       "  %2 = dot %0, %1 {lhs_contract = [1], rhs_contract = [1]} : s32[d0, d2]\n"
		       "  out \"\" = %2\n"),
		small, NSMALL, (kernel_case){0});
}

/* Results of different views in one kernel, one read by another. */
static void
test_several_results(void **state)
{
	(void)state;
	check_sizes(KERNEL(0, SYM2,
			   "  in %0 : f32[d0, d1]\n"
			   "  %1 = exp %0 : f32[d0, d1]\n"
			   "  %2 = neg %1 : f32[d0, d1]\n"
			   "  %3 = transpose %2 {perm = [1, 0]} : f32[d1, d0]\n"
			   "  %4 = lt %1, %0 : bool[d0, d1]\n"
			   "  out \"\" = %1\n  out \"\" = %3\n  out \"\" = %4\n"),
		    small, NSMALL, (kernel_case){.tolerance = 1e-6});
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_broadcast_and_views),
		cmocka_unit_test(test_transposed_reads),
		cmocka_unit_test(test_heads),
		cmocka_unit_test(test_symbolic_reshape),
		cmocka_unit_test(test_slice_reverse),
		cmocka_unit_test(test_pad),
		cmocka_unit_test(test_concat),
		cmocka_unit_test(test_concat_in_heads),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_gather),
		cmocka_unit_test(test_bad_index),
		cmocka_unit_test(test_wrap_index),
		cmocka_unit_test(test_iota_dim_const),
		cmocka_unit_test(test_inlined_reductions),
		cmocka_unit_test(test_arg_reductions),
		cmocka_unit_test(test_small_dot),
		cmocka_unit_test(test_several_results),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
