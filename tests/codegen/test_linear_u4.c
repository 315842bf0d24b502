/* test_linear_u4.c -- layers on 4-bit weights: groups, zero points, ragged columns, epilogues; the
 * same bits on every level and in every tile. */
#include "harness_kernel.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

/* rows */
static const int64_t sizes[][KERNEL_DIMS] = {{1}, {2}, {3}, {4}, {7}, {16}, {17}, {37}, {0}};

typedef struct layer {
	int k, groups, n;
	const char *scale; /* dtype */
	bool zero;
} layer;

static void
check(const layer *l, const char *tail, bool specials)
{
	char text[2048];
	char zero[64] = "";

	if (l->zero)
		snprintf(zero, sizeof zero, "  in %%3 : u8[%d, %d]\n", l->groups, l->n);
	snprintf(text, sizeof text,
		 "kernel u4 0 \nmodule \"\" {\n  sym d0\n"
		 "  in %%0 : f32[d0, %d]\n  in %%1 : u8[%d, %d]\n  in %%2 : %s[%d, %d]\n%s"
		 "  %%4 = linear_u4 %%0, %%1, %%2%s : f32[d0, %d]\n",
		 l->k, l->k, l->n, l->scale, l->groups, l->n, zero, l->zero ? ", %3" : "", l->n);
	size_t used = strlen(text);
	snprintf(text + used, sizeof text - used, tail, l->n, l->n);
	check_kernel(&(kernel_case){.text = text,
				    .sizes = sizes,
				    .nsizes = sizeof sizes / sizeof *sizes,
				    .tolerance = 2e-6,
				    .low = 0,
				    .high = 15,
				    .specials = specials});
}

static void
test_shapes(void **state)
{
	static const layer layers[] = {
		{16, 1, 1, "f32", false},    {32, 1, 16, "f32", false},  {64, 2, 40, "f16", false},
		{96, 3, 33, "f32", true},    {128, 2, 200, "f16", true}, {256, 2, 48, "f32", true},
		{384, 12, 208, "f16", true}, {48, 1, 17, "f32", true},   {512, 2, 20, "f32", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
		check(&layers[i], "  out \"\" = %%4\n}\n", false);
}

/* NaN and infinities come out as something, and nothing else is touched. */
static void
test_specials(void **state)
{
	(void)state;
	check(&(layer){64, 2, 40, "f32", true}, "  out \"\" = %%4\n}\n", true);
}

static void
test_epilogue(void **state)
{
	(void)state;
	check(&(layer){64, 2, 40, "f32", false},
	      "  %%5 = const {0.5} : f32[]\n  %%6 = add %%4, %%5 : f32[d0, %d]\n"
	      "  %%7 = neg %%6 : f32[d0, %d]\n  out \"\" = %%7\n}\n",
	      false);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_specials),
		cmocka_unit_test(test_epilogue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
