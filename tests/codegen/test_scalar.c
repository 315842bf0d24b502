/* test_scalar.c -- every elementwise operator on every element type, vectors, tails and scalars. */
#include "harness_kernel.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

enum { FLOATS = 1, INTEGERS = 2, BOOLS = 4, NUMBERS = FLOATS | INTEGERS, ALL = NUMBERS | BOOLS };

typedef struct op_row {
	const char *name;
	int operands, types;
	const char *result; /* "" = as the operands */
	double tolerance;   /* of f32; f16 and bf16 add theirs */
	int64_t low, high;  /* of integer operands */
} op_row;

static const op_row rows[] = {
	{"neg", 1, NUMBERS, "", 0, 0, 0},         {"abs", 1, NUMBERS, "", 0, 0, 0},
	{"sign", 1, NUMBERS, "", 0, 0, 0},        {"floor", 1, FLOATS, "", 0, 0, 0},
	{"ceil", 1, FLOATS, "", 0, 0, 0},         {"round", 1, FLOATS, "", 0, 0, 0},
	{"sqrt", 1, FLOATS, "", 0, 0, 0},         {"exp", 1, FLOATS, "", 1e-6, 0, 0},
	{"log", 1, FLOATS, "", 1e-6, 0, 0},       {"sin", 1, FLOATS, "", 1e-6, 0, 0},
	{"cos", 1, FLOATS, "", 1e-6, 0, 0},       {"tan", 1, FLOATS, "", 1e-6, 0, 0},
	{"asin", 1, FLOATS, "", 1e-6, 0, 0},      {"acos", 1, FLOATS, "", 1e-6, 0, 0},
	{"atan", 1, FLOATS, "", 1e-6, 0, 0},      {"sinh", 1, FLOATS, "", 1e-6, 0, 0},
	{"cosh", 1, FLOATS, "", 1e-6, 0, 0},      {"tanh", 1, FLOATS, "", 1e-6, 0, 0},
	{"asinh", 1, FLOATS, "", 1e-6, 0, 0},     {"acosh", 1, FLOATS, "", 1e-6, 0, 0},
	{"atanh", 1, FLOATS, "", 1e-6, 0, 0},     {"erf", 1, FLOATS, "", 1e-6, 0, 0},
	{"xcdf", 1, FLOATS, "", 1e-6, 0, 0},      {"not", 1, INTEGERS | BOOLS, "", 0, 0, 0},
	{"isnan", 1, FLOATS, "bool", 0, 0, 0},    {"add", 2, NUMBERS, "", 0, 0, 0},
	{"sub", 2, NUMBERS, "", 0, 0, 0},         {"mul", 2, NUMBERS, "", 0, 0, 0},
	{"div", 2, NUMBERS, "", 0, 0, 0},         {"div", 2, INTEGERS, "", 0, -3, 3},
	{"rem", 2, NUMBERS, "", 0, 0, 0},         {"rem", 2, INTEGERS, "", 0, -3, 3},
	{"mod", 2, NUMBERS, "", 0, 0, 0},         {"mod", 2, INTEGERS, "", 0, -3, 3},
	{"pow", 2, FLOATS, "", 1e-6, 0, 0},       {"pow", 2, INTEGERS, "", 0, 0, 0},
	{"pow", 2, INTEGERS, "", 0, -3, 6},       {"min", 2, NUMBERS, "", 0, 0, 0},
	{"max", 2, NUMBERS, "", 0, 0, 0},         {"and", 2, INTEGERS | BOOLS, "", 0, 0, 0},
	{"or", 2, INTEGERS | BOOLS, "", 0, 0, 0}, {"xor", 2, INTEGERS | BOOLS, "", 0, 0, 0},
	{"shl", 2, INTEGERS, "", 0, 0, 0},        {"shl", 2, INTEGERS, "", 0, -2, 70},
	{"shr", 2, INTEGERS, "", 0, 0, 0},        {"shr", 2, INTEGERS, "", 0, -70, 70},
	{"eq", 2, ALL, "bool", 0, 0, 0},          {"eq", 2, INTEGERS, "bool", 0, 0, 3},
	{"lt", 2, NUMBERS, "bool", 0, 0, 0},      {"le", 2, NUMBERS, "bool", 0, 0, 0},
};

static const int64_t lengths[][KERNEL_DIMS] = {{17}, {41}};
static const char *const floats[] = {"f32", "f64", "f16", "bf16"};
static const char *const integers[] = {"s64", "s32", "s16", "s8", "u64", "u32", "u16", "u8"};

static double
tolerance_of(const char *dtype, double tolerance)
{
	if (tolerance == 0)
		return 0;
	if (!strcmp(dtype, "f16"))
		return 1.0 / (1 << 10);
	return strcmp(dtype, "bf16") ? tolerance : 1.0 / (1 << 7);
}

/* Some operators of one type in one kernel: vectors with a tail, and with a broadcast operand. */
typedef struct batch {
	const char *type;
	char body[6000], outs[1000];
	int length, outs_length, next, ops;
	double tolerance;
	int64_t low, high;
} batch;

static void
flush(batch *b)
{
	static char text[8000];

	if (b->ops == 0)
		return;
	snprintf(text, sizeof text,
		 "kernel rows 0 \nmodule \"\" {\n  sym d0\n  in %%0 : %1$s[d0]\n"
		 "  in %%1 : %1$s[d0]\n  in %%2 : %1$s[1]\n%2$s%3$s}\n",
		 b->type, b->body, b->outs);
	kernel_case c = {
		.text = text,
		.sizes = lengths,
		.nsizes = 2,
		.tolerance = b->tolerance,
		.low = b->low,
		.high = b->high,
		.specials = true,
	};
	check_kernel(&c);
	*b = (batch){.type = b->type};
}

static void
add_result(batch *b, const char *op, const char *operands, const char *result)
{
	int number = 3 + b->next++;

	b->length += snprintf(b->body + b->length, sizeof b->body - (size_t)b->length,
			      "  %%%d = %s %s : %s[d0]\n", number, op, operands, result);
	b->outs_length +=
		snprintf(b->outs + b->outs_length, sizeof b->outs - (size_t)b->outs_length,
			 "  out \"\" = %%%d\n", number);
}

static void
add_op(batch *b, const op_row *op)
{
	const char *result = *op->result ? op->result : b->type;
	double tolerance = tolerance_of(b->type, op->tolerance);

	if (b->ops == 8 || b->low != op->low || b->high != op->high || b->tolerance != tolerance)
		flush(b);
	b->low = op->low;
	b->high = op->high;
	b->tolerance = tolerance;
	b->ops++;
	if (op->operands == 1) {
		add_result(b, op->name, "%0", result);
		return;
	}
	add_result(b, op->name, "%0, %1", result);
	add_result(b, op->name, "%0, %2", result);
}

static void
check_type(const char *type, int kind)
{
	static batch b;

	b = (batch){.type = type};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (rows[i].types & kind)
			add_op(&b, &rows[i]);
	flush(&b);
}

static void
test_floats(void **state)
{
	(void)state;
	for (int t = 0; t < 4; t++)
		check_type(floats[t], FLOATS);
}

static void
test_integers(void **state)
{
	(void)state;
	for (int t = 0; t < 8; t++)
		check_type(integers[t], INTEGERS);
	check_type("bool", BOOLS);
}

/* Operands that are the same for all lanes are computed once, as scalars. */
static void
test_scalars(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char text[512];
		const char *type = rows[i].types & FLOATS ? "f32" : "s32";
		const char *result = *rows[i].result ? rows[i].result : type;
		snprintf(text, sizeof text,
			 "kernel rows 0 \nmodule \"\" {\n  in %%0 : %1$s[1]\n  in %%1 : %1$s[1]\n"
			 "  %%2 = %2$s %%0%3$s : %4$s[1]\n"
			 "  %%3 = broadcast %%2 {shape = [17]} : %4$s[17]\n  out \"\" = %%3\n}\n",
			 type, rows[i].name, rows[i].operands > 1 ? ", %1" : "", result);
		kernel_case c = {.text = text,
				 .tolerance = rows[i].tolerance,
				 .low = rows[i].low,
				 .high = rows[i].high};
		check_kernel(&c);
	}
}

static void
test_casts(void **state)
{
	static const char *const all[] = {"f32", "f64", "f16", "bf16", "s64", "s32", "s16",
					  "s8",  "u64", "u32", "u16",  "u8",  "bool"};
	char text[2048];

	(void)state;
	for (size_t from = 0; from < 13; from++) {
		int n = snprintf(text, sizeof text,
				 "kernel rows 0 \nmodule \"\" {\n  sym d0\n  in %%0 : %s[d0]\n"
				 "  in %%1 : f64[1]\n",
				 all[from]);
		for (int to = 0; to < 13; to++)
			n += snprintf(text + n, sizeof text - (size_t)n,
				      "  %%%d = cast %%0 {dtype = %s} : %s[d0]\n", to + 2, all[to],
				      all[to]);
		for (int to = 0; to < 13; to++)
			n += snprintf(text + n, sizeof text - (size_t)n, "  out \"\" = %%%d\n",
				      to + 2);
		snprintf(text + n, sizeof text - (size_t)n, "}\n");
		kernel_case c = {.text = text, .sizes = lengths, .nsizes = 2, .specials = true};
		check_kernel(&c);
	}
}

/* Quantization: casts of what was rounded, with zero points that are integers and one that is not;
 * numbers up to far beyond the bounds, and halves of integers. */
static void
test_rounded(void **state)
{
	static const char *const to[] = {"u8", "s8"};
	static const char *const source[] = {"%0, %6", "%0, %7", "%0, %8", "%5, %9"};
	char text[2048];

	(void)state;
	for (int t = 0; t < 8; t++) {
		snprintf(text, sizeof text,
			 "kernel rows 0 \nmodule \"\" {\n  sym d0\n  in %%0 : f32[d0]\n"
			 "  in %%1 : s32[d0]\n  in %%2 : %1$s[]\n  in %%3 : %1$s[d0]\n"
			 "  %%4 = cast %%2 {dtype = f32} : f32[]\n"
			 "  %%5 = cast %%1 {dtype = f32} : f32[d0]\n"
			 "  %%6 = const {1} : f32[]\n  %%7 = const {60} : f32[]\n"
			 "  %%8 = const {30000000} : f32[]\n  %%9 = const {0.5} : f32[]\n"
			 "  %%10 = mul %2$s : f32[d0]\n  %%11 = round %%10 : f32[d0]\n"
			 "  %%12 = cast %%11 {dtype = %1$s} : %1$s[d0]\n"
			 "  %%13 = add %%11, %%4 : f32[d0]\n"
			 "  %%14 = cast %%13 {dtype = %1$s} : %1$s[d0]\n"
			 "  %%15 = add %%7, %%11 : f32[d0]\n"
			 "  %%16 = cast %%15 {dtype = %1$s} : %1$s[d0]\n"
			 "  %%17 = add %%11, %%9 : f32[d0]\n"
			 "  %%18 = cast %%17 {dtype = %1$s} : %1$s[d0]\n"
			 "  %%19 = cast %%3 {dtype = f32} : f32[d0]\n"
			 "  %%20 = add %%11, %%19 : f32[d0]\n"
			 "  %%21 = cast %%20 {dtype = %1$s} : %1$s[d0]\n"
			 "  out \"\" = %%12\n  out \"\" = %%14\n  out \"\" = %%16\n"
			 "  out \"\" = %%18\n  out \"\" = %%21\n}\n",
			 to[t % 2], source[t / 2]);
		kernel_case c = {.text = text,
				 .sizes = lengths,
				 .nsizes = 2,
				 .low = -600,
				 .high = 600,
				 .specials = true};
		check_kernel(&c);
	}
}

static void
test_select(void **state)
{
	char text[512];

	(void)state;
	for (int t = 0; t < 4; t++) {
		static const char *const types[] = {"f32", "s8", "bool", "f16"};
		snprintf(text, sizeof text,
			 "kernel rows 0 \nmodule \"\" {\n  sym d0\n  in %%0 : bool[d0]\n"
			 "  in %%1 : %s[d0]\n  in %%2 : %s[]\n"
			 "  %%3 = select %%0, %%1, %%2 : %s[d0]\n  out \"\" = %%3\n}\n",
			 types[t], types[t], types[t]);
		kernel_case c = {.text = text, .sizes = lengths, .nsizes = 2};
		check_kernel(&c);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_floats),  cmocka_unit_test(test_integers),
		cmocka_unit_test(test_scalars), cmocka_unit_test(test_casts),
		cmocka_unit_test(test_rounded), cmocka_unit_test(test_select),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
