/* test_dots.c -- contractions with prologues and epilogues, and packing. */
#include "harness_kernel.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#define KERNEL(family, symbols, body) "kernel " #family " 0 \nmodule \"\" {\n" symbols body "}\n"
#define SYM3                          "  sym d0\n  sym d1\n  sym d2\n"

static void
check_sizes(const char *text, const int64_t (*sizes)[3], int n, kernel_case c)
{
	c.text = text;
	c.sizes = sizes;
	c.nsizes = n;
	check_kernel(&c);
}

/* rows, k, columns */
static const int64_t sizes[][3] = {{1, 1, 1},   {3, 5, 7},    {70, 33, 40}, {1, 64, 150},
				   {9, 16, 16}, {130, 4, 48}, {0, 5, 5},    {5, 0, 17}};
enum { NSIZES = sizeof sizes / sizeof *sizes };

static void
test_linear(void **state)
{
	(void)state;
	check_sizes(KERNEL(contract, SYM3,
			   "  in %0 : f32[d0, d1]\n"
			   "  in %1 : f32[1, d1, d2]\n"
			   "  in %2 : f32[d2]\n"
			   "  in %3 : f32[1, d0, d2]\n"
			   "  %4 = reshape %0 {shape = [1, d0, d1]} : f32[1, d0, d1]\n"
			   "  %5 = dot %4, %1 {lhs_batch = [0], rhs_batch = [0], lhs_contract = "
			   "[2], rhs_contract = [1]} : f32[1, d0, d2]\n"
			   "  %6 = add %5, %2 : f32[1, d0, d2]\n"
			   "  %7 = erf %6 : f32[1, d0, d2]\n"
			   "  %8 = add %7, %3 : f32[1, d0, d2]\n"
			   "  out \"\" = %8\n  out \"\" = %5\n"),
		    sizes, NSIZES, (kernel_case){.tolerance = 4e-6, .packed = true});
}

static void
test_quantized_linear(void **state)
{
	(void)state;
	check_sizes(KERNEL(contract, SYM3,
			   "  in %0 : u8[d0, d1]\n"
			   "  in %1 : s8[1, d1, d2]\n"
			   "  in %2 : s32[d0, 1]\n"
			   "  in %3 : s32[d2]\n"
			   "  in %4 : f32[d0, 1]\n"
			   "  in %5 : f32[d2]\n"
			   "  %6 = reshape %0 {shape = [1, d0, d1]} : u8[1, d0, d1]\n"
			   "  %7 = dot %6, %1 {lhs_batch = [0], rhs_batch = [0], lhs_contract = "
			   "[2], rhs_contract = [1]} : s32[1, d0, d2]\n"
			   "  %8 = mul %2, %3 : s32[d0, d2]\n"
			   "  %9 = sub %7, %8 : s32[1, d0, d2]\n"
			   "  %10 = cast %9 {dtype = f32} : f32[1, d0, d2]\n"
			   "  %11 = mul %4, %5 : f32[d0, d2]\n"
			   "  %12 = mul %10, %11 : f32[1, d0, d2]\n"
			   "  out \"\" = %12\n"),
		    sizes, NSIZES, (kernel_case){.packed = true, .tolerance = 1e-7});
}

/* A thread's share is rows where these are more to read than the weights. */
static void
test_rows_of_halves(void **state)
{
	static const int64_t rows[][3] = {{128, 64, 64}, {256, 100, 40}, {160, 32, 96}};

	(void)state;
	check_sizes(KERNEL(contract, SYM3,
			   "  in %0 : u8[d0, d1]\n"
			   "  in %1 : s8[1, d1, d2]\n"
			   "  in %2 : s32[1, d0, d2]\n"
			   "  %3 = reshape %0 {shape = [1, d0, d1]} : u8[1, d0, d1]\n"
			   "  %4 = dot %3, %1 {lhs_batch = [0], rhs_batch = [0], lhs_contract = "
			   "[2], rhs_contract = [1]} : s32[1, d0, d2]\n"
			   "  %5 = add %4, %2 : s32[1, d0, d2]\n"
			   "  out \"\" = %5\n"),
		    rows, 3, (kernel_case){.packed = true, .halves = true});
}

/* The last panel has columns that are known: half of it, and less. */
static void
test_known_columns(void **state)
{
	(void)state;
	check_sizes(KERNEL(contract, SYM3,
			   "  in %0 : u8[d0, d1]\n"
			   "  in %1 : s8[1, d1, 24]\n"
			   "  in %2 : u8[1, d0, 24]\n  in %3 : s8[d2]\n"
			   "  %4 = reshape %0 {shape = [1, d0, d1]} : u8[1, d0, d1]\n"
			   "  %5 = dot %4, %1 {lhs_batch = [0], rhs_batch = [0], lhs_contract = "
			   "[2], rhs_contract = [1]} : s32[1, d0, 24]\n"
			   "  %6 = cast %2 {dtype = s32} : s32[1, d0, 24]\n"
			   "  %7 = add %5, %6 : s32[1, d0, 24]\n"
			   "  %8 = cast %7 {dtype = u8} : u8[1, d0, 24]\n"
			   "  out \"\" = %8\n"),
		    sizes, NSIZES, (kernel_case){.packed = true});
	check_sizes(KERNEL(contract, SYM3,
			   "  in %0 : f32[d0, d1]\n"
			   "  in %1 : f32[1, d1, 21]\n"
			   "  in %2 : f32[1, d0, 21]\n  in %3 : s8[d2]\n"
			   "  %4 = reshape %0 {shape = [1, d0, d1]} : f32[1, d0, d1]\n"
			   "  %5 = dot %4, %1 {lhs_batch = [0], rhs_batch = [0], lhs_contract = "
			   "[2], rhs_contract = [1]} : f32[1, d0, 21]\n"
			   "  %6 = add %5, %2 : f32[1, d0, 21]\n"
			   "  out \"\" = %6\n"),
		    sizes, NSIZES, (kernel_case){.packed = true, .tolerance = 2e-6});
}

/* q k' of attention: heads picked out of [b, s, h*d] in place, scaled, with a mask. */
static void
test_attention_scores(void **state)
{
	(void)state;
	check_sizes(KERNEL(contract, SYM3,
			   "  in %0 : f32[2, d0, 3*d1]\n"
			   "  in %1 : f32[6, d1, d2]\n"
			   "  in %2 : f32[2, 1, 1, d2]\n"
			   "  %3 = reshape %0 {shape = [2, d0, 3, d1]} : f32[2, d0, 3, d1]\n"
			   "  %4 = transpose %3 {perm = [0, 2, 1, 3]} : f32[2, 3, d0, d1]\n"
			   "  %5 = reshape %4 {shape = [6, d0, d1]} : f32[6, d0, d1]\n"
			   "  %6 = dot %5, %1 {lhs_batch = [0], rhs_batch = [0], lhs_contract = "
			   "[2], rhs_contract = [1]} : f32[6, d0, d2]\n"
			   "  %7 = const {0.125} : f32[]\n"
			   "  %8 = mul %6, %7 : f32[6, d0, d2]\n"
			   "  out \"\" = %8\n"),
		    sizes, NSIZES, (kernel_case){.packed = true, .tolerance = 2e-6});
}

/* The context of attention goes back to [b, s, h*d]. */
static void
test_attention_context(void **state)
{
	(void)state;
	check_sizes(KERNEL(contract, SYM3,
			   "  in %0 : f32[4, d0, d1]\n"
			   "  in %1 : f32[4, d1, 32]\n  in %2 : s8[d2]\n"
			   "  %3 = dot %0, %1 {lhs_batch = [0], rhs_batch = [0], lhs_contract = "
			   "[2], rhs_contract = [1]} : f32[4, d0, 32]\n"
			   "  %4 = reshape %3 {shape = [2, 2, d0, 32]} : f32[2, 2, d0, 32]\n"
			   "  %5 = transpose %4 {perm = [0, 2, 1, 3]} : f32[2, d0, 2, 32]\n"
			   "  %6 = reshape %5 {shape = [2, d0, 64]} : f32[2, d0, 64]\n"
			   "  out \"\" = %6\n"),
		    sizes, NSIZES, (kernel_case){.packed = true, .tolerance = 2e-6});
}

/* Left operands that have no rows in memory: transposed, computed, windows of padded images. */
static void
test_packed_rows(void **state)
{
	(void)state;
	check_sizes(KERNEL(contract, SYM3,
			   "  in %0 : f32[d1, d0]\n"
			   "  in %1 : f32[1, d1, d2]\n"
			   "  %2 = exp %0 : f32[d1, d0]\n"
			   "  %3 = reshape %2 {shape = [1, d1, d0]} : f32[1, d1, d0]\n"
			   "  %4 = dot %3, %1 {lhs_batch = [0], rhs_batch = [0], lhs_contract = "
			   "[1], rhs_contract = [1]} : f32[1, d0, d2]\n"
			   "  out \"\" = %4\n"),
		    sizes, NSIZES, (kernel_case){.packed = true, .tolerance = 2e-6});
	static const int64_t images[][3] = {{1, 1, 3}, {5, 6, 20}, {9, 3, 16}};
	check_sizes(
		KERNEL(contract, SYM3,
		       "  in %0 : u8[2, 3, d0, d1]\n"
		       "  in %1 : s8[1, 27, d2]\n"
		       "  %2 = const {5} : u8[]\n"
		       "  %3 = pad %0, %2 {low = [0, 0, 1, 1], high = [0, 0, 1, 1], interior = [0, "
		       "0, 0, 0]} : u8[2, 3, d0 + 2, d1 + 2]\n"
		       "  %4 = window %3 {size = [3, 3], stride = [1, 1], dilation = [1, 1]} : "
		       "u8[2, 3, d0, d1, 3, 3]\n"
		       "  %5 = transpose %4 {perm = [0, 2, 3, 1, 4, 5]} : u8[2, d0, d1, 3, 3, 3]\n"
		       "  %6 = reshape %5 {shape = [1, 2*d0*d1, 27]} : u8[1, 2*d0*d1, 27]\n"
		       "  %7 = dot %6, %1 {lhs_batch = [0], rhs_batch = [0], lhs_contract = [2], "
		       "rhs_contract = [1]} : s32[1, 2*d0*d1, d2]\n"
		       "  %8 = reshape %7 {shape = [2, d0*d1, d2]} : s32[2, d0*d1, d2]\n"
		       "  %9 = transpose %8 {perm = [0, 2, 1]} : s32[2, d2, d0*d1]\n"
		       "  out \"\" = %9\n"),
		images, 3, (kernel_case){.packed = true});
}

/* bf16, in place and converted on the way, k odd and even; what is beside the sums stays f32. */
static void
test_bf16(void **state)
{
	(void)state;
	check_sizes(KERNEL(contract, SYM3,
			   "  in %0 : bf16[d0, d1]\n"
			   "  in %1 : bf16[1, d1, d2]\n"
			   "  in %2 : f32[d2]\n"
			   "  %3 = reshape %0 {shape = [1, d0, d1]} : bf16[1, d0, d1]\n"
			   "  %4 = dot %3, %1 {lhs_batch = [0], rhs_batch = [0], lhs_contract = "
			   "[2], rhs_contract = [1]} : f32[1, d0, d2]\n"
			   "  %5 = add %4, %2 : f32[1, d0, d2]\n"
			   "  %6 = cast %5 {dtype = bf16} : bf16[1, d0, d2]\n"
			   "  out \"\" = %5\n  out \"\" = %6\n"),
		    sizes, NSIZES,
		    (kernel_case){.packed = true, .tolerance = 8e-3, .by_level = true});
	check_sizes(KERNEL(contract, SYM3,
			   "  in %0 : bf16[d1, d0]\n"
			   "  in %1 : bf16[1, d1, d2]\n"
			   "  %2 = reshape %0 {shape = [1, d1, d0]} : bf16[1, d1, d0]\n"
			   "  %3 = dot %2, %1 {lhs_batch = [0], rhs_batch = [0], lhs_contract = "
			   "[1], rhs_contract = [1]} : f32[1, d0, d2]\n"
			   "  out \"\" = %3\n"),
		    sizes, NSIZES,
		    (kernel_case){.packed = true, .tolerance = 2e-6, .by_level = true});
}

/* Windows of a padded image that lies channels last, as convolutions read it. */
static void
test_bf16_windows(void **state)
{
	static const int64_t images[][3] = {{1, 1, 3}, {5, 6, 20}, {9, 3, 16}};

	(void)state;
	check_sizes(
		KERNEL(contract, SYM3,
		       "  in %0 : bf16[2, d0, d1, 5]\n"
		       "  in %1 : bf16[1, 45, d2]\n"
		       "  %2 = transpose %0 {perm = [0, 3, 1, 2]} : bf16[2, 5, d0, d1]\n"
		       "  %3 = const {0} : bf16[]\n"
		       "  %4 = pad %2, %3 {low = [0, 0, 1, 1], high = [0, 0, 1, 1], interior = "
		       "[0, 0, 0, 0]} : bf16[2, 5, d0 + 2, d1 + 2]\n"
		       "  %5 = window %4 {size = [3, 3], stride = [1, 1], dilation = [1, 1]} : "
		       "bf16[2, 5, d0, d1, 3, 3]\n"
		       "  %6 = transpose %5 {perm = [0, 2, 3, 4, 5, 1]} : bf16[2, d0, d1, 3, 3, "
		       "5]\n"
		       "  %7 = reshape %6 {shape = [1, 2*d0*d1, 45]} : bf16[1, 2*d0*d1, 45]\n"
		       "  %8 = dot %7, %1 {lhs_batch = [0], rhs_batch = [0], lhs_contract = "
		       "[2], rhs_contract = [1]} : f32[1, 2*d0*d1, d2]\n"
		       "  out \"\" = %8\n"),
		images, 3, (kernel_case){.packed = true, .tolerance = 2e-6, .by_level = true});
}

/* A transposed convolution: windows of an image with gaps between its pixels. */
static void
test_transposed_conv(void **state)
{
	(void)state;
	static const int64_t images[][3] = {{0, 0, 3}, {5, 6, 20}, {7, 11, 16}, {4, 33, 1}};
	check_sizes(KERNEL(contract, SYM3,
			   "  in %0 : f32[1, 5, d0 + 1, d1 + 1]\n"
			   "  in %1 : f32[1, 20, d2]\n  in %s : s8[d0, d1]\n"
			   "  %2 = const {0} : f32[]\n"
			   "  %3 = pad %0, %2 {low = [0, 0, 0, 0], high = [0, 0, 0, 0], interior = "
			   "[0, 0, 1, 1]} : f32[1, 5, 2*d0 + 1, 2*d1 + 1]\n"
			   "  %4 = pad %3, %2 {low = [0, 0, 1, 1], high = [0, 0, 1, 1], interior = "
			   "[0, 0, 0, 0]} : f32[1, 5, 2*d0 + 3, 2*d1 + 3]\n"
			   "  %5 = window %4 {size = [2, 2], stride = [1, 1], dilation = [1, 1]} : "
			   "f32[1, 5, 2*d0 + 2, 2*d1 + 2, 2, 2]\n"
			   "  %6 = transpose %5 {perm = [0, 2, 3, 1, 4, 5]} : f32[1, 2*d0 + 2, "
			   "2*d1 + 2, 5, 2, 2]\n"
			   "  %7 = reshape %6 {shape = [1, 2*d0 + 2, 2*d1 + 2, 20]} : f32[1, 2*d0 "
			   "+ 2, 2*d1 + 2, 20]\n"
			   "  %8 = dot %7, %1 {lhs_batch = [0], rhs_batch = [0], lhs_contract = "
			   "[3], rhs_contract = [1]} : f32[1, 2*d0 + 2, 2*d1 + 2, d2]\n"
			   "  out \"\" = %8\n"),
		    images, 4, (kernel_case){.packed = true, .tolerance = 2e-6});
}

static void
test_pack(void **state)
{
	(void)state;
	static const char *const types[] = {"f32", "s8"};
	char text[1024];
	for (int t = 0; t < 2; t++) {
		snprintf(text, sizeof text,
			 KERNEL(pack, SYM3,
				"  in %%0 : %1$s[d1, 2, d2]\n  in %%1 : s8[d0]\n"
				"  %%2 = transpose %%0 {perm = [1, 0, 2]} : %1$s[2, d1, d2]\n"
				"  out \"\" = %%2\n"),
			 types[t]);
		check_sizes(text, sizes, NSIZES, (kernel_case){0});
		snprintf(text, sizeof text,
			 KERNEL(pack, SYM3,
				"  in %%0 : %1$s[2, d2, d1]\n  in %%1 : s8[d0]\n"
				"  %%2 = transpose %%0 {perm = [0, 2, 1]} : %1$s[2, d1, d2]\n"
				"  out \"\" = %%2\n"),
			 types[t]);
		check_sizes(text, sizes, NSIZES, (kernel_case){0});
		snprintf(text, sizeof text,
			 KERNEL(pack, SYM3,
				"  in %%0 : %1$s[d1, d2 + 3]\n  in %%1 : s8[d0, d2]\n"
				"  %%2 = window %%0 {size = [4], stride = [1], dilation = [1]} : "
				"%1$s[d1, d2, 4]\n"
				"  %%3 = transpose %%2 {perm = [0, 2, 1]} : %1$s[d1, 4, d2]\n"
				"  %%4 = reshape %%3 {shape = [1, 4*d1, d2]} : %1$s[1, 4*d1, d2]\n"
				"  out \"\" = %%4\n"),
			 types[t]);
		check_sizes(text, sizes, NSIZES, (kernel_case){0});
	}
}

static void
test_scan(void **state)
{
	(void)state;
	char text[1024];
	for (int options = 0; options < 4; options++) {
		snprintf(text, sizeof text,
			 KERNEL(scan, SYM3,
				"  in %%0 : f32[d0, d1, d2]\n"
				"  %%1 = scan_sum %%0 {axis = 1, exclusive = %1$d, reverse = %2$d} "
				": f32[d0, d1, d2]\n"
				"  out \"\" = %%1\n"),
			 options & 1, options >> 1);
		check_sizes(text, sizes, NSIZES, (kernel_case){.tolerance = 1e-6});
		snprintf(text, sizeof text,
			 KERNEL(scan, SYM3,
				"  in %%0 : s32[d0, d2, d1]\n"
				"  %%1 = scan_prod %%0 {axis = 2, exclusive = %1$d, reverse = "
				"%2$d} : s32[d0, d2, d1]\n"
				"  out \"\" = %%1\n"),
			 options & 1, options >> 1);
		check_sizes(text, sizes, NSIZES, (kernel_case){0});
	}
}

static void
test_scatter(void **state)
{
	(void)state;
	static const char *const modes[] = {"set", "add", "mul", "min", "max"};
	static const int64_t some[][3] = {
		{1, 1, 1}, {7, 5, 40}, {20, 3, 1}, {0, 4, 9}, {3, 4, 1100}};
	char text[1024];
	for (int m = 0; m < 5; m++) {
		snprintf(text, sizeof text,
			 KERNEL(scatter, SYM3,
				"  in %%0 : f32[8, d2]\n"
				"  in %%1 : s64[d0]\n"
				"  in %%2 : f32[d0, d2]\n  in %%s : u8[d1]\n"
				"  %%3 = scatter %%0, %%1, %%2 {mode = \"%s\"} : f32[8, d2]\n"
				"  out \"\" = %%3\n"),
			 modes[m]);
		check_sizes(text, some, 5, (kernel_case){.low = -8, .high = 7, .tolerance = 1e-6});
		check_sizes(text, some + 1, 1,
			    (kernel_case){.low = -9, .high = 8, .fault = ML_ERR_INDEX});
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_linear),
		cmocka_unit_test(test_quantized_linear),
		cmocka_unit_test(test_rows_of_halves),
		cmocka_unit_test(test_known_columns),
		cmocka_unit_test(test_attention_scores),
		cmocka_unit_test(test_attention_context),
		cmocka_unit_test(test_packed_rows),
		cmocka_unit_test(test_bf16),
		cmocka_unit_test(test_bf16_windows),
		cmocka_unit_test(test_transposed_conv),
		cmocka_unit_test(test_pack),
		cmocka_unit_test(test_scan),
		cmocka_unit_test(test_scatter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
