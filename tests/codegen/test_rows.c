/* test_rows.c -- kernels with reductions along rows: stages, row scalars, kept rows, tails. */
#include "harness_kernel.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#define KERNEL(axes, symbols, body) "kernel rows " #axes " \nmodule \"\" {\n" symbols body "}\n"
#define SYM2                        "  sym d0\n  sym d1\n"

static const int64_t sizes[][KERNEL_DIMS] = {{3, 1},    {5, 3}, {1, 16},  {2, 17},
					     {70, 100}, {0, 5}, {3, 1000}};

static void
check_sizes(const char *text, kernel_case c)
{
	c.text = text;
	c.sizes = sizes;
	c.nsizes = sizeof sizes / sizeof *sizes;
	check_kernel(&c);
}

static void
test_softmax(void **state)
{
	(void)state;
	check_sizes(KERNEL(1, SYM2,
			   "  in %0 : f32[d0, d1]\n"
			   "  %1 = reduce_max %0 {axes = [1]} : f32[d0, 1]\n"
			   "  %2 = sub %0, %1 : f32[d0, d1]\n"
			   "  %3 = exp %2 : f32[d0, d1]\n"
			   "  %4 = reduce_sum %3 {axes = [1]} : f32[d0, 1]\n"
			   "  %5 = div %3, %4 : f32[d0, d1]\n"
			   "  out \"\" = %5\n"),
		    (kernel_case){.tolerance = 1e-6, .specials = true});
}

/* log_softmax in f16 of scores under a mask that is broadcast. */
static void
test_masked_log_softmax(void **state)
{
	(void)state;
	check_sizes(KERNEL(1, SYM2,
			   "  in %0 : f16[d0, 2, d1]\n"
			   "  in %1 : bool[d0, 1, d1]\n"
			   "  %2 = const {-1000} : f16[]\n"
			   "  %3 = select %1, %0, %2 : f16[d0, 2, d1]\n"
			   "  %4 = reduce_max %3 {axes = [2]} : f16[d0, 2, 1]\n"
			   "  %5 = sub %3, %4 : f16[d0, 2, d1]\n"
			   "  %6 = exp %5 : f16[d0, 2, d1]\n"
			   "  %7 = reduce_sum %6 {axes = [2]} : f16[d0, 2, 1]\n"
			   "  %8 = log %7 : f16[d0, 2, 1]\n"
			   "  %9 = sub %5, %8 : f16[d0, 2, d1]\n"
			   "  out \"\" = %9\n"),
		    (kernel_case){.tolerance = 4e-3});
}

#define LAYER_NORM(width)                                                                          \
	"  in %0 : f32[d0, " width "]\n"                                                           \
	"  in %1 : f32[" width "]\n"                                                               \
	"  in %2 : f32[" width "]\n"                                                               \
	"  %3 = dim {value = [" width "]} : s64[]\n"                                               \
	"  %4 = cast %3 {dtype = f32} : f32[]\n"                                                   \
	"  %5 = reduce_sum %0 {axes = [1]} : f32[d0, 1]\n"                                         \
	"  %6 = div %5, %4 : f32[d0, 1]\n"                                                         \
	"  %7 = sub %0, %6 : f32[d0, " width "]\n"                                                 \
	"  %8 = mul %7, %7 : f32[d0, " width "]\n"                                                 \
	"  %9 = reduce_sum %8 {axes = [1]} : f32[d0, 1]\n"                                         \
	"  %10 = div %9, %4 : f32[d0, 1]\n"                                                        \
	"  %11 = const {1e-5} : f32[]\n"                                                           \
	"  %12 = add %10, %11 : f32[d0, 1]\n"                                                      \
	"  %13 = sqrt %12 : f32[d0, 1]\n"                                                          \
	"  %14 = div %7, %13 : f32[d0, " width "]\n"                                               \
	"  %15 = mul %14, %1 : f32[d0, " width "]\n"                                               \
	"  %16 = add %15, %2 : f32[d0, " width "]\n"

#define QUANTIZE(width)                                                                            \
	"  %20 = const {0} : f32[]\n"                                                              \
	"  %21 = reduce_min %16 {axes = [1]} : f32[d0, 1]\n"                                       \
	"  %22 = reduce_max %16 {axes = [1]} : f32[d0, 1]\n"                                       \
	"  %23 = min %21, %20 : f32[d0, 1]\n"                                                      \
	"  %24 = max %22, %20 : f32[d0, 1]\n"                                                      \
	"  %25 = sub %24, %23 : f32[d0, 1]\n"                                                      \
	"  %26 = const {255} : f32[]\n"                                                            \
	"  %27 = div %25, %26 : f32[d0, 1]\n"                                                      \
	"  %28 = div %23, %27 : f32[d0, 1]\n"                                                      \
	"  %29 = round %28 : f32[d0, 1]\n"                                                         \
	"  %30 = cast %29 {dtype = s32} : s32[d0, 1]\n"                                            \
	"  %31 = neg %30 : s32[d0, 1]\n"                                                           \
	"  %32 = div %16, %27 : f32[d0, " width "]\n"                                              \
	"  %33 = round %32 : f32[d0, " width "]\n"                                                 \
	"  %34 = sub %33, %29 : f32[d0, " width "]\n"                                              \
	"  %35 = cast %34 {dtype = u8} : u8[d0, " width "]\n"

static void
test_layer_norm(void **state)
{
	(void)state;
	check_sizes(KERNEL(1, SYM2, LAYER_NORM("d1") "  out \"\" = %16\n"),
		    (kernel_case){.tolerance = 2e-6});
	check_sizes(KERNEL(1, SYM2, LAYER_NORM("48") "  out \"\" = %16\n"),
		    (kernel_case){.tolerance = 2e-6});
}

/* Normalised and quantized in one pass: four results, two of them one per row. */
static void
test_layer_norm_quantized(void **state)
{
	(void)state;
	check_sizes(KERNEL(1, SYM2,
			   LAYER_NORM("d1") QUANTIZE(
				   "d1") "  out \"\" = %16\n"
					 "  out \"\" = %35\n  out \"\" = %27\n  out \"\" = %31\n"),
		    (kernel_case){.tolerance = 4e-6});
	check_sizes(KERNEL(1, SYM2,
			   LAYER_NORM("32") QUANTIZE("32") "  out \"\" = %35\n"
							   "  out \"\" = %27\n  out \"\" = %31\n"),
		    (kernel_case){.tolerance = 4e-6});
}

/* erf is dear and needed by three stages: it is kept, not computed again. */
static void
test_kept(void **state)
{
	(void)state;
	static const char *const types[] = {"f32", "f16", "f64"};
	char text[1024];
	for (int t = 0; t < 3; t++) {
		snprintf(text, sizeof text,
			 KERNEL(1, SYM2,
				"  in %%0 : %1$s[d0, d1]\n"
				"  in %%1 : %1$s[d0, d1]\n"
				"  %%2 = erf %%0 : %1$s[d0, d1]\n"
				"  %%3 = add %%2, %%1 : %1$s[d0, d1]\n"
				"  %%4 = reduce_max %%3 {axes = [1]} : %1$s[d0, 1]\n"
				"  %%5 = sub %%3, %%4 : %1$s[d0, d1]\n"
				"  %%6 = tanh %%5 : %1$s[d0, d1]\n"
				"  %%7 = reduce_sum %%6 {axes = [1]} : %1$s[d0, 1]\n"
				"  %%8 = mul %%6, %%7 : %1$s[d0, d1]\n"
				"  %%9 = add %%8, %%2 : %1$s[d0, d1]\n"
				"  out \"\" = %%9\n  out \"\" = %%7\n"),
			 types[t]);
		check_sizes(text, (kernel_case){.tolerance = t == 1 ? 8e-3 : 4e-6});
	}
}

static void
test_reductions(void **state)
{
	(void)state;
	static const char *const types[] = {"f32", "f64", "f16", "bf16", "s64", "s32",
					    "s16", "s8",  "u64", "u32",  "u16", "u8"};
	static const double tolerance[] = {2e-6, 1e-14, 1e-3, 1e-2};
	char text[1024];
	for (int t = 0; t < 12; t++) {
		snprintf(text, sizeof text,
			 KERNEL(1, SYM2,
				"  in %%0 : %1$s[d0, d1]\n"
				"  %%1 = reduce_sum %%0 {axes = [1]} : %1$s[d0, 1]\n"
				"  %%2 = reduce_prod %%0 {axes = [1]} : %1$s[d0, 1]\n"
				"  %%3 = reduce_min %%0 {axes = [1]} : %1$s[d0, 1]\n"
				"  %%4 = reduce_max %%0 {axes = [1]} : %1$s[d0, 1]\n"
				"  out \"\" = %%1\n  out \"\" = %%2\n  out \"\" = %%3\n  out \"\" "
				"= %%4\n"),
			 types[t]);
		check_sizes(text, (kernel_case){.tolerance = t < 4 ? tolerance[t] : 0});
	}
}

/* Few channels turned to the innermost dim: together where they are two to four. */
static void
test_turned_channels(void **state)
{
	static const char *const types[] = {"f32", "f16", "bf16", "u8", "s32", "bool"};
	char text[1024];

	(void)state;
	for (int n = 1; n <= 5; n++)
		for (int t = 0; t < 6; t++) {
			snprintf(text, sizeof text,
				 KERNEL(0, SYM2,
					"  in %%0 : f32[2, %1$d, d0, d1]\n"
					"  in %%1 : f32[2, 1, d0, 1]\n"
					"  %%2 = sub %%0, %%1 : f32[2, %1$d, d0, d1]\n"
					"  %%3 = cast %%2 {dtype = %2$s} : %2$s[2, %1$d, d0, d1]\n"
					"  %%4 = transpose %%3 {perm = [0, 2, 3, 1]} : %2$s[2, d0, "
					"d1, "
					"%1$d]\n"
					"  out \"\" = %%4\n"),
				 n, types[t]);
			check_sizes(text, (kernel_case){0});
		}
}

/* Rows of two dims, read through a transposition, stored without the kept dims. */
static void
test_two_axes(void **state)
{
	(void)state;
	check_sizes(KERNEL(2, SYM2,
			   "  in %0 : f32[2, d0, d1, 7]\n"
			   "  %1 = transpose %0 {perm = [1, 0, 2, 3]} : f32[d0, 2, d1, 7]\n"
			   "  %2 = reduce_sum %1 {axes = [2, 3]} : f32[d0, 2, 1, 1]\n"
			   "  %3 = sub %1, %2 : f32[d0, 2, d1, 7]\n"
			   "  %4 = reduce_max %3 {axes = [3, 2]} : f32[d0, 2, 1, 1]\n"
			   "  %5 = reshape %4 {shape = [2*d0]} : f32[2*d0]\n"
			   "  %6 = sub %3, %4 : f32[d0, 2, d1, 7]\n"
			   "  out \"\" = %5\n  out \"\" = %6\n"),
		    (kernel_case){.tolerance = 4e-6});
	check_sizes(KERNEL(2, SYM2,
			   "  in %0 : s32[d0, d1]\n"
			   "  %1 = reduce_max %0 {axes = [0, 1]} : s32[1, 1]\n"
			   "  out \"\" = %1\n"),
		    (kernel_case){0});
}

/* Normalised heads, stored transposed. */
static void
test_stored_through_views(void **state)
{
	(void)state;
	check_sizes(KERNEL(1, SYM2,
			   "  in %0 : f32[d0, d1, 32]\n"
			   "  %1 = reduce_sum %0 {axes = [2]} : f32[d0, d1, 1]\n"
			   "  %2 = sub %0, %1 : f32[d0, d1, 32]\n"
			   "  %3 = reshape %2 {shape = [d0, d1, 2, 16]} : f32[d0, d1, 2, 16]\n"
			   "  %4 = transpose %3 {perm = [0, 2, 1, 3]} : f32[d0, 2, d1, 16]\n"
			   "  out \"\" = %4\n"),
		    (kernel_case){.tolerance = 2e-6});
}

/* Embeddings gathered and summed, then normalised. */
static void
test_gathered_rows(void **state)
{
	(void)state;
	check_sizes(KERNEL(1, SYM2,
			   "  in %0 : f32[9, 20]\n"
			   "  in %1 : s64[d0, d1]\n"
			   "  in %2 : f32[d1, 20]\n"
			   "  %3 = gather %0, %1 {axis = 0} : f32[d0, d1, 20]\n"
			   "  %4 = add %3, %2 : f32[d0, d1, 20]\n"
			   "  %5 = reduce_max %4 {axes = [2]} : f32[d0, d1, 1]\n"
			   "  %6 = sub %4, %5 : f32[d0, d1, 20]\n"
			   "  out \"\" = %6\n"),
		    (kernel_case){.low = -9, .high = 8});
}

/* A long flat map is cut inside of its only row. */
static void
test_long_map(void **state)
{
	(void)state;
	static const int64_t lengths[][KERNEL_DIMS] = {{4095}, {4096}, {4097}, {12288}, {20001}};
	kernel_case c = {
		.text = KERNEL(0, "  sym d0\n",
			       "  in %0 : f32[d0]\n  %1 = exp %0 : f32[d0]\n"
			       "  out \"\" = %1\n"),
		.sizes = lengths,
		.nsizes = 5,
		.tolerance = 1e-6,
	};
	check_kernel(&c);
}

/* Rows of two elements read under a mask: nothing behind the last row is touched. */
static void
test_short_masked_rows(void **state)
{
	(void)state;
	kernel_case c = {
		.text = KERNEL(1, "",
			       "  in %0 : f32[48]\n"
			       "  %1 = reverse %0 {axes = [0]} : f32[48]\n"
			       "  %2 = min %1, %0 : f32[48]\n"
			       "  %3 = concat %2, %0, %2 : f32[144]\n"
			       "  %4 = reshape %3 {shape = [72, 2]} : f32[72, 2]\n"
			       "  %5 = reduce_max %4 {axes = [1]} : f32[72, 1]\n"
			       "  %6 = sub %4, %5 : f32[72, 2]\n"
			       "  out \"\" = %6\n"),
	};
	check_kernel(&c);
}

static void
test_static_shapes(void **state)
{
	(void)state;
	static const char *const shapes[] = {"1",     "1, 1", "3, 1, 5", "2, 16",
					     "7, 32", "1, 5", "0, 3"};
	char text[512];
	for (int i = 0; i < 7; i++) {
		snprintf(text, sizeof text,
			 "kernel rows 0 \nmodule \"\" {\n  in %%0 : f32[%1$s]\n"
			 "  %%1 = neg %%0 : f32[%1$s]\n  out \"\" = %%1\n}\n",
			 shapes[i]);
		kernel_case c = {.text = text};
		check_kernel(&c);
	}
}

/* Depthwise convolutions of %1$s in sums of %2$s: lines of fewer pixels than are computed at once,
 * of as many, of more; channels that fill lanes and that do not; edges, which the second has not.
 */
static const char padded[] = KERNEL(
	0, "  sym d0\n  sym d1\n  sym d2\n",
	"  in %%0 : %1$s[2, d0, d1, d2]\n  in %%1 : %3$s[1, 1, 3, 3, d2]\n"
	"  %%2 = const {3} : %1$s[]\n"
	"  %%3 = pad %%0, %%2 {low = [0, 1, 2, 0], high = [0, 1, 2, 0], interior = [0, 0, 0, 0]} : "
	"%1$s[2, d0 + 2, d1 + 4, d2]\n"
	"  %%4 = transpose %%3 {perm = [0, 3, 1, 2]} : %1$s[2, d2, d0 + 2, d1 + 4]\n"
	"  %%5 = window %%4 {size = [3, 3], stride = [1, 1], dilation = [1, 2]} : "
	"%1$s[2, d2, d0, d1, 3, 3]\n"
	"  %%6 = reshape %%5 {shape = [2, d2, 1, d0, d1, 3, 3]} : %1$s[2, d2, 1, d0, d1, 3, 3]\n"
	"  %%7 = transpose %%1 {perm = [4, 0, 1, 2, 3]} : %3$s[d2, 1, 1, 3, 3]\n"
	"  %%8 = dot %%6, %%7 {lhs_batch = [1], rhs_batch = [0], lhs_contract = [5, 6, 2], "
	"rhs_contract = [3, 4, 2]} : %2$s[d2, 2, d0, d1, 1]\n"
	"  %%9 = transpose %%8 {perm = [1, 2, 3, 0, 4]} : %2$s[2, d0, d1, d2, 1]\n"
	"  %%10 = reshape %%9 {shape = [2, d0, d1, d2]} : %2$s[2, d0, d1, d2]\n"
	"  %%11 = neg %%10 : %2$s[2, d0, d1, d2]\n"
	"  out \"\" = %%11\n");
static const char strided[] = KERNEL(
	0, "  sym d0\n  sym d1\n  sym d2\n",
	"  in %%0 : %1$s[1, 2*d0 + 3, 2*d1 + 3, d2]\n  in %%1 : %3$s[1, 1, 5, 5, d2]\n"
	"  in %%s : s8[d0, d1]\n"
	"  %%2 = transpose %%0 {perm = [0, 3, 1, 2]} : %1$s[1, d2, 2*d0 + 3, 2*d1 + 3]\n"
	"  %%3 = window %%2 {size = [5, 5], stride = [2, 2], dilation = [1, 1]} : "
	"%1$s[1, d2, d0, d1, 5, 5]\n"
	"  %%4 = reshape %%3 {shape = [1, d2, 1, d0, d1, 5, 5]} : %1$s[1, d2, 1, d0, d1, 5, 5]\n"
	"  %%5 = transpose %%1 {perm = [4, 0, 1, 2, 3]} : %3$s[d2, 1, 1, 5, 5]\n"
	"  %%6 = dot %%4, %%5 {lhs_batch = [1], rhs_batch = [0], lhs_contract = [5, 6, 2], "
	"rhs_contract = [3, 4, 2]} : %2$s[d2, 1, d0, d1, 1]\n"
	"  %%7 = transpose %%6 {perm = [1, 2, 3, 0, 4]} : %2$s[1, d0, d1, d2, 1]\n"
	"  %%8 = reshape %%7 {shape = [1, d0, d1, d2]} : %2$s[1, d0, d1, d2]\n"
	"  out \"\" = %%8\n");

static void
test_depthwise(void **state)
{
	(void)state;
	static const int64_t images[][KERNEL_DIMS] = {{1, 1, 16}, {3, 3, 5},   {4, 4, 16},
						      {9, 5, 20}, {2, 11, 33}, {20, 14, 16}};
	static const char *const types[][3] = {{"f32", "f32", "f32"}, {"u8", "s32", "s8"}};
	char text[2048];
	for (int t = 0; t < 2; t++)
		for (int i = 0; i < 2; i++) {
			snprintf(text, sizeof text, i ? strided : padded, types[t][0], types[t][1],
				 types[t][2]);
			kernel_case c = {.text = text,
					 .sizes = images,
					 .nsizes = 6,
					 .tolerance = t ? 0 : 2e-6};
			check_kernel(&c);
		}
}

/* Groups of %1$d filters on %2$d channels, lines of %3$s pixels. */
static const char groups[] = KERNEL(
	0, "  sym d0\n  sym d1\n  sym d2\n",
	"  in %%0 : f32[2, d0, %3$s, %2$d*d2]\n  in %%1 : f32[%2$d, 3, 2, d2, %1$d]\n"
	"  in %%s : s8[d1]\n"
	"  %%2 = const {3} : f32[]\n"
	"  %%3 = pad %%0, %%2 {low = [0, 2, 1, 0], high = [0, 2, 1, 0], interior = [0, 0, 0, 0]} : "
	"f32[2, d0 + 4, %3$s + 2, %2$d*d2]\n"
	"  %%4 = transpose %%3 {perm = [0, 3, 1, 2]} : f32[2, %2$d*d2, d0 + 4, %3$s + 2]\n"
	"  %%5 = window %%4 {size = [3, 2], stride = [1, %4$d], dilation = [2, 2]} : "
	"f32[2, %2$d*d2, d0, %5$s, 3, 2]\n"
	"  %%6 = reshape %%5 {shape = [2, d2, %2$d, d0, %5$s, 3, 2]} : "
	"f32[2, d2, %2$d, d0, %5$s, 3, 2]\n"
	"  %%7 = transpose %%1 {perm = [3, 4, 0, 1, 2]} : f32[d2, %1$d, %2$d, 3, 2]\n"
	"  %%8 = dot %%6, %%7 {lhs_batch = [1], rhs_batch = [0], lhs_contract = [5, 6, 2], "
	"rhs_contract = [3, 4, 2]} : f32[d2, 2, d0, %5$s, %1$d]\n"
	"  %%9 = transpose %%8 {perm = [1, 2, 3, 0, 4]} : f32[2, d0, %5$s, d2, %1$d]\n"
	"  %%10 = reshape %%9 {shape = [2, d0, %5$s, %1$d*d2]} : f32[2, d0, %5$s, %1$d*d2]\n"
	"  %%11 = neg %%10 : f32[2, d0, %5$s, %1$d*d2]\n"
	"  out \"\" = %%11\n");

/* Groups that fill lanes with and without rest, or have fewer channels than filters; the last two
 * do not fit lanes.  Lines as long as registers hold, longer, shorter, and of any length, in turn.
 */
static void
test_groups(void **state)
{
	(void)state;
	static const int64_t images[][KERNEL_DIMS] = {{1, 1, 1}, {3, 4, 5}, {6, 19, 8}};
	static const int channels[][2] = {{2, 1}, {2, 2},   {4, 4}, {4, 3},
					  {8, 8}, {16, 16}, {3, 3}, {2, 4}};
	static const char *const widths[][2] = {
		{"d1", "d1"}, {"3", "3"}, {"14", "14"}, {"19", "10"}};
	char text[2048];
	for (int c = 0; c < 8; c++)
		for (int w = c % 2; w < 4; w += 2) {
			snprintf(text, sizeof text, groups, channels[c][0], channels[c][1],
				 widths[w][0], w == 3 ? 2 : 1, widths[w][1]);
			kernel_case k = {
				.text = text, .sizes = images, .nsizes = 3, .tolerance = 2e-6};
			check_kernel(&k);
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_softmax),
		cmocka_unit_test(test_masked_log_softmax),
		cmocka_unit_test(test_layer_norm),
		cmocka_unit_test(test_layer_norm_quantized),
		cmocka_unit_test(test_kept),
		cmocka_unit_test(test_reductions),
		cmocka_unit_test(test_turned_channels),
		cmocka_unit_test(test_two_axes),
		cmocka_unit_test(test_stored_through_views),
		cmocka_unit_test(test_gathered_rows),
		cmocka_unit_test(test_long_map),
		cmocka_unit_test(test_short_masked_rows),
		cmocka_unit_test(test_static_shapes),
		cmocka_unit_test(test_depthwise),
		cmocka_unit_test(test_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
