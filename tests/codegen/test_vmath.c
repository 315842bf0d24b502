/* test_vmath.c -- the elementary functions against libm in higher precision, on dense samples and
 * every special value, and bit for bit the same on all levels this CPU has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "../../codegen/vmath.h"
#include "jitted.h"
#include <float.h>
#include <math.h>
#include <string.h>

typedef ml_v builder(ml_emit *, ml_v);
typedef void run_fn(const void *x, void *y, int64_t blocks);
typedef void run2_fn(const void *x, const void *y, void *z, int64_t blocks);

static long double
sigmoid_l(long double x)
{
	return 1 / (1 + expl(-x));
}

static long double
xcdf_l(long double x)
{
	return x < -40 ? -0.0L : x / 2 * erfcl(-x * 0.70710678118654752440L);
}

/* Limits are those that vmath.h states. */
typedef struct function {
	const char *name;
	builder *build;
	long double (*want)(long double);
	double from, to; /* dense samples; all bit patterns are sampled thinly besides */
	double ulp_f32, ulp_f64;
	bool by_argument; /* units are those of the argument, up to 1, where the result is smaller
			   */
} function;

static const function functions[] = {
	{"exp", ml_vm_exp, expl, -110, 95, 1.1, 1, false},
	{"expm1", ml_vm_expm1, expm1l, -20, 20, 2, 2, false},
	{"log", ml_vm_log, logl, 0, 4, 1, 1, false},
	{"log1p", ml_vm_log1p, log1pl, -1, 4, 2, 2, false},
	{"sigmoid", ml_vm_sigmoid, sigmoid_l, -110, 40, 2.2, 2.2, false},
	{"tanh", ml_vm_tanh, tanhl, -12, 12, 3, 3, false},
	{"erf", ml_vm_erf, erfl, -6, 6, 3.2, 2, false},
	{"xcdf", ml_vm_xcdf, xcdf_l, -7, 7, 5, 3, true},
	{"sinh", ml_vm_sinh, sinhl, -100, 100, 0.6, 3, false},
	{"cosh", ml_vm_cosh, coshl, -100, 100, 0.6, 3, false},
	{"asinh", ml_vm_asinh, asinhl, -10, 10, 0.6, 3, false},
	{"acosh", ml_vm_acosh, acoshl, 1, 10, 0.6, 3, false},
	{"atanh", ml_vm_atanh, atanhl, -1, 1, 0.6, 3, false},
	{"sin", ml_vm_sin, sinl, -100, 100, 0.6, 2.5, false},
	{"cos", ml_vm_cos, cosl, -100, 100, 0.6, 2.5, false},
	{"tan", ml_vm_tan, tanl, -100, 100, 0.6, 4, false},
	{"asin", ml_vm_asin, asinl, -1, 1, 0.6, 2.2, false},
	{"acos", ml_vm_acos, acosl, -1, 1, 0.6, 1.5, false},
	{"atan", ml_vm_atan, atanl, -5, 5, 0.6, 1.5, false},
};

/* A form of exp that is for f32 and numbers up to 0. */
static ml_v
exp_below(ml_emit *e, ml_v x)
{
	ml_v minus = ml_intrinsic(e, "llvm.fabs", &(LLVMTypeRef){LLVMTypeOf(x)}, 1, &x, 1);

	return ml_vm_exp_below(e, LLVMBuildFNeg(e->b, minus, ""));
}

static long double
exp_below_l(long double x)
{
	return rintl(-fabsl(x) * 1.4426950408889634f) < -126 ? 0 : expl(-fabsl(x));
}

static const function below = {"exp_below", exp_below, exp_below_l, -90, 0, 1.1, 0, false};
#define POW_ULP_F32 0.6
#define POW_ULP_F64 4.
enum { FUNCTIONS = sizeof functions / sizeof *functions, DENSE = 200000, THIN = 100000 };

static const double special[] = {0.0,
				 -0.0,
				 INFINITY,
				 -INFINITY,
				 NAN,
				 1,
				 -1,
				 0.5,
				 -0.5,
				 2,
				 -2,
				 1e-40,
				 -1e-40,
				 1e-310,
				 1e-45,
				 FLT_MIN,
				 FLT_MAX,
				 -FLT_MAX,
				 DBL_MAX,
				 -DBL_MAX,
				 DBL_MIN,
				 5e-324,
				 88.7,
				 88.8,
				 -87.4,
				 -103.9,
				 -104.1,
				 709.7,
				 710.5,
				 -708.5,
				 -745.2,
				 1e10,
				 -1e10,
				 1e22,
				 1e35,
				 1e300,
				 3.141592653589793,
				 1.5707963267948966,
				 -1.5707963267948966,
				 4.71238898038469,
				 1048575,
				 1048576,
				 1048577,
				 0x1p40,
				 0x1p-30,
				 -0x1p-30,
				 3.92,
				 6,
				 0.999999,
				 1.000001,
				 17,
				 -17,
				 0x1p53,
				 0x1p54};
enum {
	SPECIAL = sizeof special / sizeof *special,
	SAMPLES = (DENSE + THIN + SPECIAL + 31) / 16 * 16
};

/* --- code --------------------------------------------------------------------------------------
 */

static void
emit_unary(ml_emit *e, const function *f, bool f32)
{
	LLVMTypeRef params[] = {e->ptr, e->ptr, e->i64}, element = f32 ? e->f32 : e->f64;
	char name[32];

	snprintf(name, sizeof name, "%s_%d", f->name, f32 ? 32 : 64);
	ml_v fn = ml_emit_function(e, name, e->none, params, 3);
	LLVMTypeRef type = ml_vec_type(element);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), LLVMGetParam(fn, 2), ml_i64(e, 1), NULL, 0, "i");
	ml_v x = ml_load(e, type, ml_gep(e, type, LLVMGetParam(fn, 0), l.i), 4);
	ml_store(e, f->build(e, x), ml_gep(e, type, LLVMGetParam(fn, 1), l.i), 4);
	ml_loop_end(e, &l, NULL);
	LLVMBuildRetVoid(e->b);
}

static void
emit_pow(ml_emit *e, bool f32)
{
	LLVMTypeRef params[] = {e->ptr, e->ptr, e->ptr, e->i64}, element = f32 ? e->f32 : e->f64;
	ml_v fn = ml_emit_function(e, f32 ? "pow_32" : "pow_64", e->none, params, 4);
	LLVMTypeRef type = ml_vec_type(element);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), LLVMGetParam(fn, 3), ml_i64(e, 1), NULL, 0, "i");
	ml_v x = ml_load(e, type, ml_gep(e, type, LLVMGetParam(fn, 0), l.i), 4);
	ml_v y = ml_load(e, type, ml_gep(e, type, LLVMGetParam(fn, 1), l.i), 4);
	ml_store(e, ml_vm_pow(e, x, y), ml_gep(e, type, LLVMGetParam(fn, 2), l.i), 4);
	ml_loop_end(e, &l, NULL);
	LLVMBuildRetVoid(e->b);
}

static void
open_all(jitted *j, const ml_target *t)
{
	jitted_open(j, t);
	for (int i = 0; i < FUNCTIONS; i++) {
		emit_unary(&j->e, &functions[i], true);
		emit_unary(&j->e, &functions[i], false);
	}
	emit_unary(&j->e, &below, true);
	emit_pow(&j->e, true);
	emit_pow(&j->e, false);
	jitted_compile(j);
}

/* --- judging -----------------------------------------------------------------------------------
 */

static uint64_t
next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 11 ^ *state << 31;
}

/* Distance in units of the last place of the wanted value, or of `least_unit` if that is larger; 0
 * for equal NaN, infinity, zero sign. */
static double
error_in_ulp(double got, long double want, double least_unit, bool f32)
{
	double rounded = f32 ? (double)(float)want : (double)want;
	int exponent;

	if (isnan(want) || isnan(got))
		return isnan(want) && isnan(got) ? 0 : INFINITY;
	if (got == rounded)
		return got == 0 && !least_unit && signbit(got) != signbit(rounded) ? INFINITY : 0;
	if (isinf(rounded) || isinf(got)) {
		/* the next to the largest finite value may become infinite and the other way round
		 */
		long double top = f32 ? FLT_MAX : DBL_MAX, other = isinf(got) ? want : got;
		return fabsl(other) >= top * (1 - (f32 ? 0x1p-22L : 0x1p-51L)) ? 1 : INFINITY;
	}
	frexpl(fmaxl(fabsl(want), least_unit), &exponent);
	int digits = f32 ? 24 : 53, least = f32 ? -125 : -1021;
	if (exponent < least)
		exponent = least;
	return (double)(fabsl(got - want) / ldexpl(1, exponent - digits));
}

static void
make_samples(const function *f, bool f32, double *x)
{
	uint64_t seed = 99;
	int n = 0;

	for (int i = 0; i < SPECIAL; i++)
		x[n++] = special[i];
	for (int i = 0; i < DENSE; i++)
		x[n++] = f->from +
			 (f->to - f->from) * (double)(next_random(&seed) >> 32 & 0xffffff) / 0x1p24;
	while (n < SAMPLES) {
		uint64_t bits = next_random(&seed) ^ next_random(&seed) << 32;
		uint32_t low = (uint32_t)(bits >> 32);
		float single;
		memcpy(&single, &low, sizeof single);
		memcpy(&x[n], &bits, sizeof *x);
		if (f32)
			x[n] = single;
		n++;
	}
}

static void
check_function(jitted *j, const function *f, bool f32)
{
	double *x = malloc(SAMPLES * sizeof *x), worst = 0, worst_x = 0;
	void *in = malloc(SAMPLES * 8), *out = malloc(SAMPLES * 8);
	char name[32];

	assert_true(x && in && out);
	make_samples(f, f32, x);
	for (int i = 0; i < SAMPLES; i++) {
		if (f32) {
			((float *)in)[i] = (float)x[i];
			x[i] = ((float *)in)[i];
		} else {
			((double *)in)[i] = x[i];
		}
	}
	snprintf(name, sizeof name, "%s_%d", f->name, f32 ? 32 : 64);
	((run_fn *)(uintptr_t)jitted_find(j, name))(in, out, SAMPLES / 16);
	for (int i = 0; i < SAMPLES; i++) {
		double got = f32 ? (double)((float *)out)[i] : ((double *)out)[i];
		double unit = f->by_argument ? fmin(fabs(x[i]), 1) : 0;
		double error = error_in_ulp(got, f->want(x[i]), unit, f32);
		if (error > worst) {
			worst = error;
			worst_x = x[i];
		}
	}
	print_message("%-10s %.3f ulp at %a\n", name, worst, worst_x);
	assert_true(worst <= (f32 ? f->ulp_f32 : f->ulp_f64));
	free(x);
	free(in);
	free(out);
}

/* docs/numerics.md states these figures. */
static void
test_documented(void **state)
{
	FILE *f = fopen(ML_SOURCE_DIR "/docs/numerics.md", "r");
	char text[16384], row[64];

	(void)state;
	assert_non_null(f);
	text[fread(text, 1, sizeof text - 1, f)] = 0;
	fclose(f);
	for (int i = 0; i < FUNCTIONS; i++) {
		const function *t = &functions[i];
		snprintf(row, sizeof row, "| %s | %g | %g |\n", t->name, t->ulp_f32, t->ulp_f64);
		if (!strstr(text, row))
			fail_msg("docs/numerics.md lacks the row %s", row);
	}
	snprintf(row, sizeof row, "| pow | %g | %g |\n", POW_ULP_F32, POW_ULP_F64);
	assert_non_null(strstr(text, row));
}

static void
test_errors(void **state)
{
	const ml_target *t;
	jitted j;
	ml_context cx = {.memory = ml_memory_libc()};

	(void)state;
	ml_arena_init(&cx.arena, &cx.memory);
	assert_int_equal(ml_target_host(&cx, &t), ML_OK);
	open_all(&j, t);
	for (int i = 0; i < FUNCTIONS; i++) {
		check_function(&j, &functions[i], true);
		check_function(&j, &functions[i], false);
	}
	check_function(&j, &below, true);
	jitted_close(&j);
	ml_arena_free(&cx.arena);
}

/* All pairs of special values, and random bases with exponents that keep the result finite. */
static int
make_pairs(double *x, double *y, int room)
{
	uint64_t seed = 5;
	int n = 0;

	for (int i = 0; i < SPECIAL; i++)
		for (int k = 0; k < SPECIAL; k++, n++) {
			x[n] = special[i];
			y[n] = special[k];
		}
	for (; n < room; n++) {
		double u = (double)(next_random(&seed) >> 32 & 0xffffff) * 0x1p-24;
		double v = (double)(next_random(&seed) >> 32 & 0xffffff) * 0x1p-23 - 1;
		x[n] = n % 3 ? exp(80 * v * u) : 0.5 + u;
		y[n] = n % 3 ? v * 85 / (fabs(80 * v * u) + 1e-3) : v * 100;
		if (n % 5 == 0)
			y[n] = nearbyint(y[n]);
		if (n % 10 == 0)
			x[n] = -x[n];
	}
	return n;
}

static void
check_pow(jitted *j, bool f32, double limit)
{
	enum { PAIRS = (SPECIAL * SPECIAL + 100000) / 16 * 16 };
	double *x = malloc(PAIRS * 8), *y = malloc(PAIRS * 8), worst = 0, worst_x = 0, worst_y = 0;
	void *a = malloc(PAIRS * 8), *b = malloc(PAIRS * 8), *c = malloc(PAIRS * 8);

	assert_true(x && y && a && b && c);
	make_pairs(x, y, PAIRS);
	for (int i = 0; i < PAIRS; i++) {
		if (f32) {
			x[i] = ((float *)a)[i] = (float)x[i];
			y[i] = ((float *)b)[i] = (float)y[i];
		} else {
			((double *)a)[i] = x[i];
			((double *)b)[i] = y[i];
		}
	}
	((run2_fn *)(uintptr_t)jitted_find(j, f32 ? "pow_32" : "pow_64"))(a, b, c, PAIRS / 16);
	for (int i = 0; i < PAIRS; i++) {
		double got = f32 ? (double)((float *)c)[i] : ((double *)c)[i];
		double error = error_in_ulp(got, powl(x[i], y[i]), 0, f32);
		if (error > worst) {
			worst = error;
			worst_x = x[i];
			worst_y = y[i];
		}
	}
	print_message("pow_%d %.3f ulp at %a, %a\n", f32 ? 32 : 64, worst, worst_x, worst_y);
	assert_true(worst <= limit);
	free(x);
	free(y);
	free(a);
	free(b);
	free(c);
}

static void
test_pow(void **state)
{
	const ml_target *t;
	jitted j;
	ml_context cx = {.memory = ml_memory_libc()};

	(void)state;
	ml_arena_init(&cx.arena, &cx.memory);
	assert_int_equal(ml_target_host(&cx, &t), ML_OK);
	open_all(&j, t);
	check_pow(&j, true, POW_ULP_F32);
	check_pow(&j, false, POW_ULP_F64);
	jitted_close(&j);
	ml_arena_free(&cx.arena);
}

/* A sum over all results of all functions: NaN counts as one value, its payload is free. */
static uint64_t
fingerprint(jitted *j)
{
	double *x = malloc(SAMPLES * sizeof *x);
	void *in = malloc(SAMPLES * 8), *out = malloc(SAMPLES * 8);
	uint64_t hash = 1;

	assert_true(x && in && out);
	for (int i = 0; i < 2 * FUNCTIONS; i++) {
		bool f32 = i % 2;
		char name[32];
		make_samples(&functions[i / 2], f32, x);
		for (int k = 0; k < SAMPLES; k++)
			if (f32)
				((float *)in)[k] = (float)x[k];
			else
				((double *)in)[k] = x[k];
		snprintf(name, sizeof name, "%s_%d", functions[i / 2].name, f32 ? 32 : 64);
		((run_fn *)(uintptr_t)jitted_find(j, name))(in, out, SAMPLES / 16);
		for (int k = 0; k < SAMPLES; k++) {
			double v = f32 ? (double)((float *)out)[k] : ((double *)out)[k];
			uint64_t bits = 0;
			if (!isnan(v))
				memcpy(&bits, &v, sizeof bits);
			hash = (hash ^ bits) * 0x9e3779b97f4a7c15u;
			hash ^= hash >> 29;
		}
	}
	free(x);
	free(in);
	free(out);
	return hash;
}

static void
test_same_bits_on_all_levels(void **state)
{
	uint64_t first = 0;
	int levels = 0;

	(void)state;
	for (int i = 0; i < ML_LEVEL_COUNT; i++) {
		const ml_target *t = ml_target_level((ml_level)i);
		jitted j;
		if (!ml_target_runs_here(t))
			continue;
		open_all(&j, t);
		uint64_t h = fingerprint(&j);
		if (levels++)
			assert_int_equal(h, first);
		first = h;
		jitted_close(&j);
	}
	assert_true(levels > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_documented),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_pow),
		cmocka_unit_test(test_same_bits_on_all_levels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
