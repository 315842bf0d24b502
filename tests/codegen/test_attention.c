/* test_attention.c -- attention kernels: blocks of keys, masks that hide whole blocks, shared
 * heads. */
#include "harness_kernel.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>

#define SOFTMAX                                                                                    \
	"  %20 = reduce_max %10 {axes = [3]} : f32[1, 2, d0, 1]\n"                                 \
	"  %21 = sub %10, %20 : f32[1, 2, d0, d1]\n"                                               \
	"  %22 = exp %21 : f32[1, 2, d0, d1]\n"                                                    \
	"  %23 = reduce_sum %22 {axes = [3]} : f32[1, 2, d0, 1]\n"                                 \
	"  %24 = div %22, %23 : f32[1, 2, d0, d1]\n"

#define HEAD                                                                                       \
	"kernel attention 0 \nmodule \"\" {\n  sym d0\n  sym d1\n  sym d2\n"                       \
	"  in %0 : f32[1, 2, d0, d2]\n"                                                            \
	"  in %1 : f32[1, 2, d1, d2]\n"                                                            \
	"  in %2 : f32[1, 2, d1, d2]\n"

#define SCORES                                                                                     \
	"  %8 = dot %0, %1 {lhs_batch = [0, 1], rhs_batch = [0, 1], lhs_contract = [3], "          \
	"rhs_contract = [3]} : f32[1, 2, d0, d1]\n"                                                \
	"  %3 = const {0.25} : f32[]\n"                                                            \
	"  %9 = mul %8, %3 : f32[1, 2, d0, d1]\n"

#define TAIL                                                                                       \
	SOFTMAX                                                                                    \
	"  %25 = dot %24, %2 {lhs_batch = [0, 1], rhs_batch = [0, 1], lhs_contract = [3], "        \
	"rhs_contract = [2]} : f32[1, 2, d0, d2]\n"                                                \
	"  %26 = transpose %25 {perm = [0, 2, 1, 3]} : f32[1, d0, 2, d2]\n"                        \
	"  out \"\" = %26\n}\n"

/* queries, keys, width */
static const int64_t sizes[][3] = {{1, 1, 1},    {3, 5, 7},     {17, 256, 16}, {130, 40, 33},
				   {1, 257, 64}, {20, 600, 18}, {0, 5, 4},     {7, 515, 32}};

static void
check(const char *text, const int64_t (*at)[3], int n)
{
	check_kernel(&(kernel_case){.text = text, .sizes = at, .nsizes = n, .tolerance = 4e-6});
}

static void
test_plain(void **state)
{
	(void)state;
	check(HEAD SCORES "  %4 = const {0} : f32[]\n"
			  "  %10 = add %9, %4 : f32[1, 2, d0, d1]\n" TAIL,
	      sizes, sizeof sizes / sizeof *sizes);
}

/* The body of causal attention: tiles leave out the blocks that none of their rows sees. */
static void
test_causal(void **state)
{
	static const int64_t some[][3] = {
		{1, 1, 4}, {5, 5, 7}, {300, 300, 8}, {4, 700, 16}, {290, 600, 3}};

	(void)state;
	check(HEAD SCORES "  %11 = iota {shape = [d0, 1]} : s64[d0, 1]\n"
			  "  %12 = iota {shape = [1, d1], axis = 1} : s64[1, d1]\n"
			  "  %13 = dim {value = [d1 - d0]} : s64[]\n"
			  "  %14 = add %11, %13 : s64[d0, 1]\n"
			  "  %15 = le %12, %14 : bool[d0, d1]\n"
			  "  %16 = const {-inf} : f32[]\n"
			  "  %10 = select %15, %9, %16 : f32[1, 2, d0, d1]\n" TAIL,
	      some, sizeof some / sizeof *some);
}

/* The first block is hidden as a whole, with -inf and with a large number. */
static void
test_hidden_block(void **state)
{
	static const int64_t some[][3] = {{3, 300, 8}, {33, 700, 5}};
	static const char *const hidden[] = {
		HEAD SCORES "  %12 = iota {shape = [d1]} : s64[d1]\n"
			    "  %13 = const {280} : s64[]\n"
			    "  %15 = le %12, %13 : bool[d1]\n"
			    "  %16 = const {-inf} : f32[]\n"
			    "  %10 = select %15, %16, %9 : f32[1, 2, d0, d1]\n" TAIL,
		HEAD SCORES "  %12 = iota {shape = [d1]} : s64[d1]\n"
			    "  %13 = const {280} : s64[]\n"
			    "  %15 = le %12, %13 : bool[d1]\n"
			    "  %16 = const {-3.4028235e+38} : f32[]\n"
			    "  %10 = select %15, %16, %9 : f32[1, 2, d0, d1]\n" TAIL,
	};

	(void)state;
	for (int i = 0; i < 2; i++)
		check(hidden[i], some, 2);
}

/* One query reads keys and values as they lie, when these have whole vectors; more make panels.
 * What hides a key depends on its number, and in the last block some are missing. */
static void
test_lone_query(void **state)
{
	static const int64_t some[][3] = {{2, 300}, {1, 1}, {1, 16}, {1, 300}, {1, 530}, {0, 3}};
	static const char text[] =
		"kernel attention 0 \nmodule \"\" {\n  sym d0\n  sym d1\n"
		"  in %0 : f32[1, 2, d0, 32]\n"
		"  in %1 : f32[1, 2, d1, 32]\n"
		"  in %2 : f32[1, 2, d1, 48]\n"
		"  in %3 : f32[1, 1, d0, d1]\n"
		"  %8 = dot %0, %1 {lhs_batch = [0, 1], rhs_batch = [0, 1], lhs_contract = [3], "
		"rhs_contract = [3]} : f32[1, 2, d0, d1]\n"
		"  %4 = const {0.125} : f32[]\n"
		"  %5 = mul %8, %4 : f32[1, 2, d0, d1]\n"
		"  %9 = add %5, %3 : f32[1, 2, d0, d1]\n"
		"  %12 = iota {shape = [d1]} : s64[d1]\n"
		"  %13 = const {3} : s64[]\n"
		"  %14 = mod %12, %13 : s64[d1]\n"
		"  %15 = cast %14 : f32[d1]\n"
		"  %10 = add %9, %15 : f32[1, 2, d0, d1]\n" SOFTMAX
		"  %25 = dot %24, %2 {lhs_batch = [0, 1], rhs_batch = [0, 1], lhs_contract = [3], "
		"rhs_contract = [2]} : f32[1, 2, d0, 48]\n"
		"  out \"\" = %25\n}\n";

	(void)state;
	check(text, some, sizeof some / sizeof *some);
}

/* Four heads of queries read two of keys, which nobody copies; keys lie transposed. */
static void
test_shared_heads(void **state)
{
	static const int64_t some[][3] = {{1, 70, 16}, {50, 300, 20}};

	(void)state;
	check("kernel attention 0 \nmodule \"\" {\n  sym d0\n  sym d1\n  sym d2\n"
	      "  in %0 : f32[1, d0, 4, d2]\n"
	      "  in %1 : f32[1, 2, d2, d1]\n"
	      "  in %2 : f32[1, d1, 2, d2]\n"
	      "  %3 = transpose %0 {perm = [0, 2, 1, 3]} : f32[1, 4, d0, d2]\n"
	      "  %4 = transpose %1 {perm = [0, 1, 3, 2]} : f32[1, 2, d1, d2]\n"
	      "  %5 = transpose %2 {perm = [0, 2, 1, 3]} : f32[1, 2, d1, d2]\n"
	      "  %6 = reshape %3 {shape = [1, 2, 2, d0, d2]} : f32[1, 2, 2, d0, d2]\n"
	      "  %7 = dot %6, %4 {lhs_batch = [0, 1], rhs_batch = [0, 1], lhs_contract = [4], "
	      "rhs_contract = [3]} : f32[1, 2, 2, d0, d1]\n"
	      "  %8 = reshape %7 {shape = [1, 4, d0, d1]} : f32[1, 4, d0, d1]\n"
	      "  %9 = const {0.5} : f32[]\n"
	      "  %10 = mul %8, %9 : f32[1, 4, d0, d1]\n"
	      "  %11 = reduce_max %10 {axes = [3]} : f32[1, 4, d0, 1]\n"
	      "  %12 = sub %10, %11 : f32[1, 4, d0, d1]\n"
	      "  %13 = exp %12 : f32[1, 4, d0, d1]\n"
	      "  %14 = reduce_sum %13 {axes = [3]} : f32[1, 4, d0, 1]\n"
	      "  %15 = div %13, %14 : f32[1, 4, d0, d1]\n"
	      "  %16 = reshape %15 {shape = [1, 2, 2, d0, d1]} : f32[1, 2, 2, d0, d1]\n"
	      "  %17 = dot %16, %5 {lhs_batch = [0, 1], rhs_batch = [0, 1], lhs_contract = [4], "
	      "rhs_contract = [2]} : f32[1, 2, 2, d0, d2]\n"
	      "  %18 = reshape %17 {shape = [1, 4, d0, d2]} : f32[1, 4, d0, d2]\n"
	      "  out \"\" = %18\n}\n",
	      some, 2);
}

/* ---- on integers ---- */

#define INT8_HEAD                                                                                  \
	"kernel attention 0 \nmodule \"\" {\n  sym d0\n  sym d1\n  sym d2\n"                       \
	"  in %0 : f32[1, 2, d0, d2]\n"                                                            \
	"  in %1 : f32[1, 2, d1, d2]\n"                                                            \
	"  in %2 : f32[1, 2, d1, d2]\n"

#define INT8_TAIL                                                                                  \
	"  %9 = transpose %8 {perm = [0, 2, 1, 3]} : f32[1, d0, 2, d2]\n"                          \
	"  out \"\" = %9\n}\n"

/* All levels give the same bits.  The evaluator's exponentials are better than the kernel's, so
 * that some probability may round to its neighbour. */
static void
check_int8(const char *text, const int64_t (*at)[3], int n)
{
	check_kernel(&(kernel_case){.text = text, .sizes = at, .nsizes = n, .tolerance = 1e-2});
}

static void
test_int8(void **state)
{
	(void)state;
	check_int8(INT8_HEAD "  %8 = attention %0, %1, %2 {scale = 0.25, int8 = 1} : "
			     "f32[1, 2, d0, d2]\n" INT8_TAIL,
		   sizes, sizeof sizes / sizeof *sizes);
}

/* What lies behind the end of a row that is computed is no zero. */
static void
test_int8_computed(void **state)
{
	(void)state;
	check_int8(INT8_HEAD "  %3 = const {0.5} : f32[]\n"
			     "  %4 = add %0, %3 : f32[1, 2, d0, d2]\n"
			     "  %5 = add %1, %3 : f32[1, 2, d1, d2]\n"
			     "  %6 = add %2, %3 : f32[1, 2, d1, d2]\n"
			     "  %8 = attention %4, %5, %6 {scale = 0.25, int8 = 1} : "
			     "f32[1, 2, d0, d2]\n" INT8_TAIL,
		   sizes, sizeof sizes / sizeof *sizes);
}

/* Masks of every shape: keys, queries and keys, blocks hidden as a whole, later keys. */
static void
test_int8_masks(void **state)
{
	static const int64_t some[][3] = {{3, 300, 8}, {33, 700, 5}, {513, 64, 32}, {5, 17, 4}};
	static const int64_t causal[][3] = {
		{1, 1, 4}, {5, 5, 7}, {300, 300, 8}, {4, 700, 16}, {290, 600, 3}};

	(void)state;
	check_int8(INT8_HEAD
		   "  in %3 : f32[d0, d1]\n"
		   "  %8 = attention %0, %1, %2, %3 {int8 = 1} : f32[1, 2, d0, d2]\n" INT8_TAIL,
		   some, 4);
	check_int8(INT8_HEAD
		   "  %3 = iota {shape = [1, d1], axis = 1} : s64[1, d1]\n"
		   "  %4 = const {280} : s64[]\n"
		   "  %5 = le %3, %4 : bool[1, d1]\n"
		   "  %6 = const {-3.4028235e+38} : f32[]\n"
		   "  %7 = const {0} : f32[]\n"
		   "  %10 = select %5, %6, %7 : f32[1, d1]\n"
		   "  %8 = attention %0, %1, %2, %10 {int8 = 1} : f32[1, 2, d0, d2]\n" INT8_TAIL,
		   some, 2);
	check_int8(INT8_HEAD "  %8 = attention %0, %1, %2 {causal = 1, int8 = 1} : "
			     "f32[1, 2, d0, d2]\n" INT8_TAIL,
		   causal, sizeof causal / sizeof *causal);
}

/* Four heads of queries read two of keys, which lie transposed; sizes that are known. */
static void
test_int8_shared_heads(void **state)
{
	static const int64_t some[][3] = {{1, 70, 16}, {50, 300, 20}};
	static const char heads[] =
		"  %3 = transpose %0 {perm = [0, 2, 1, 3]} : f32[2, 4, d0, d2]\n"
		"  %4 = transpose %1 {perm = [0, 1, 3, 2]} : f32[2, 2, d1, d2]\n"
		"  %5 = transpose %2 {perm = [0, 2, 1, 3]} : f32[2, 2, d1, d2]\n"
		"  %8 = attention %3, %4, %5 {causal = 1, int8 = 1} : f32[2, 4, d0, d2]\n"
		"  %9 = transpose %8 {perm = [0, 2, 1, 3]} : f32[2, d0, 4, d2]\n"
		"  out \"\" = %9\n}\n";
	char text[2048];

	(void)state;
	snprintf(text, sizeof text,
		 "kernel attention 0 \nmodule \"\" {\n  sym d0\n  sym d1\n  sym d2\n"
		 "  in %%0 : f32[2, d0, 4, d2]\n"
		 "  in %%1 : f32[2, 2, d2, d1]\n"
		 "  in %%2 : f32[2, d1, 2, d2]\n%s",
		 heads);
	check_int8(text, some, 2);
	check_int8("kernel attention 0 \nmodule \"\" {\n"
		   "  in %0 : f32[1, 128, 6, 32]\n"
		   "  in %1 : f32[1, 3, 288, 32]\n"
		   "  in %2 : f32[1, 3, 288, 20]\n"
		   "  in %3 : f32[1, 1, 1, 288]\n"
		   "  %4 = transpose %0 {perm = [0, 2, 1, 3]} : f32[1, 6, 128, 32]\n"
		   "  %8 = attention %4, %1, %2, %3 {scale = 0.5, int8 = 1} : "
		   "f32[1, 6, 128, 20]\n"
		   "  %9 = transpose %8 {perm = [0, 2, 1, 3]} : f32[1, 128, 6, 20]\n"
		   "  out \"\" = %9\n}\n",
		   NULL, 0);
}

/* NaN, infinities, zeros, huge and tiny numbers, alone and as a mask. */
static void
test_int8_specials(void **state)
{
	static const int64_t some[][3] = {{3, 5, 8}, {5, 17, 2}, {40, 300, 1}};

	(void)state;
	check_kernel(&(kernel_case){
		.text = INT8_HEAD
		"  in %3 : f32[d0, d1]\n"
		"  %8 = attention %0, %1, %2, %3 {int8 = 1} : f32[1, 2, d0, d2]\n" INT8_TAIL,
		.sizes = some,
		.nsizes = 3,
		.tolerance = 1e-2,
		.specials = true});
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),         cmocka_unit_test(test_causal),
		cmocka_unit_test(test_hidden_block),  cmocka_unit_test(test_lone_query),
		cmocka_unit_test(test_shared_heads),  cmocka_unit_test(test_int8),
		cmocka_unit_test(test_int8_masks),    cmocka_unit_test(test_int8_shared_heads),
		cmocka_unit_test(test_int8_specials), cmocka_unit_test(test_int8_computed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
