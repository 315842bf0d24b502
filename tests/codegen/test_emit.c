/* test_emit.c -- the emit vocabulary: folding, loops, branches, partial lanes, reductions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "jitted.h"
#include <string.h>

static const ml_target *
each_level(int *i)
{
	while (*i < ML_LEVEL_COUNT) {
		const ml_target *t = ml_target_level((ml_level)(*i)++);
		if (ml_target_runs_here(t))
			return t;
	}
	return NULL;
}

static void
test_constants_fold(void **state)
{
	jitted j;
	int64_t v = 0;

	(void)state;
	jitted_open(&j, ml_target_named("avx2"));
	ml_emit *e = &j.e;
	ml_v f = ml_emit_function(e, "f", e->none, &e->i64, 1), x = LLVMGetParam(f, 0);
	assert_true(ml_const_i64(ml_add(e, ml_i64(e, -7), ml_i64(e, 3)), &v) && v == -4);
	assert_true(ml_const_i64(ml_sub(e, ml_i64(e, -7), ml_i64(e, 3)), &v) && v == -10);
	assert_true(ml_const_i64(ml_mul(e, ml_i64(e, -7), ml_i64(e, 3)), &v) && v == -21);
	assert_true(ml_const_i64(ml_min_s(e, ml_i64(e, -7), ml_i64(e, 3)), &v) && v == -7);
	assert_true(ml_const_i64(ml_mul(e, x, ml_i64(e, 0)), &v) && v == 0);
	assert_ptr_equal(ml_add(e, x, ml_i64(e, 0)), x);
	assert_ptr_equal(ml_add(e, ml_i64(e, 0), x), x);
	assert_ptr_equal(ml_sub(e, x, ml_i64(e, 0)), x);
	assert_ptr_equal(ml_mul(e, ml_i64(e, 1), x), x);
	assert_ptr_equal(ml_min_s(e, x, x), x);
	assert_false(ml_const_i64(ml_add(e, x, ml_i64(e, 1)), &v));
	assert_ptr_equal(ml_gep(e, e->f32, x, ml_i64(e, 0)), x);
	ml_emit_close(e);
	LLVMDisposeTargetMachine(j.machine);
	ml_arena_free(&j.arena);
	ml_arena_free(&j.cx.arena);
}

/* Fibonacci numbers in carried values; odd steps also count through memory in a branch. */
static void
emit_fibonacci(ml_emit *e)
{
	LLVMTypeRef params[] = {e->i64, e->ptr};
	ml_v f = ml_emit_function(e, "fibonacci", e->i64, params, 2), count = LLVMGetParam(f, 1);
	ml_v start[] = {ml_i64(e, 0), ml_i64(e, 1)};
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), LLVMGetParam(f, 0), ml_i64(e, 1), start, 2, "i");
	ml_v odd = LLVMBuildTrunc(e->b, l.i, e->i1, "");

	ml_if branch = ml_if_begin(e, odd);
	ml_v slot = ml_gep(e, e->i64, count, ml_i64(e, 1));
	ml_store(e, ml_add(e, ml_load(e, e->i64, slot, 8), ml_i64(e, 1)), slot, 8);
	ml_if_else(e, &branch);
	ml_store(e, ml_add(e, ml_load(e, e->i64, count, 8), ml_i64(e, 1)), count, 8);
	ml_if_end(e, &branch);
	ml_if only = ml_if_begin(e, odd);
	ml_v third = ml_gep(e, e->i64, count, ml_i64(e, 2));
	ml_store(e, l.i, third, 8);
	ml_if_end(e, &only);
	ml_v next[] = {l.carry[1], ml_add(e, l.carry[0], l.carry[1])};
	ml_loop_end(e, &l, next);
	LLVMBuildRet(e->b, l.carry[0]);
}

static void
test_loop_and_branch(void **state)
{
	int64_t counts[3] = {0, 0, -1};
	int level = 0;
	jitted j;

	(void)state;
	jitted_open(&j, each_level(&level));
	emit_fibonacci(&j.e);
	jitted_compile(&j);
	int64_t (*f)(int64_t, int64_t *) =
		(int64_t (*)(int64_t, int64_t *))(uintptr_t)jitted_find(&j, "fibonacci");
	assert_int_equal(f(0, counts), 0);
	assert_int_equal(counts[2], -1);
	assert_int_equal(f(11, counts), 89);
	assert_int_equal(counts[0], 6);
	assert_int_equal(counts[1], 5);
	assert_int_equal(counts[2], 9);
	jitted_close(&j);
}

/* copy(to, from, count) for one element type, with a run-time or a constant count */
static void
emit_copy(ml_emit *e, const char *name, LLVMTypeRef element, int constant)
{
	LLVMTypeRef params[] = {e->ptr, e->ptr, e->i64};
	ml_v f = ml_emit_function(e, name, e->none, params, 3);
	ml_v count = constant ? ml_i64(e, constant) : LLVMGetParam(f, 2);
	ml_v v = ml_load_lanes(e, element, LLVMGetParam(f, 1), count, 1);

	ml_store_lanes(e, v, LLVMGetParam(f, 0), count, 1);
	/* all lanes to the second half, where those beyond count must be zero */
	ml_v all = ml_gep(e, ml_vec_type(element), LLVMGetParam(f, 0), ml_i64(e, 1));
	ml_store_lanes(e, v, all, NULL, 1);
	LLVMBuildRetVoid(e->b);
}

typedef void copy_fn(void *to, const void *from, int64_t count);

static void
check_copy(copy_fn *copy, size_t size, int64_t count)
{
	uint8_t from[16 * 8], to[2 * 16 * 8], want[2 * 16 * 8] = {0};
	size_t bytes = (size_t)count * size, all = 16 * size;
	/* exactly as long as it may be read */
	uint8_t *exact = malloc(bytes);

	assert_non_null(exact);
	for (size_t i = 0; i < sizeof from; i++)
		from[i] = (uint8_t)(i * 37 + 11);
	memcpy(exact, from, bytes);
	memset(to, 0xaa, sizeof to);
	memset(want, 0xaa, all);
	memcpy(want, from, bytes);
	memcpy(want + all, from, bytes);
	copy(to, exact, count);
	assert_memory_equal(to, want, 2 * all);
	free(exact);
}

static void
test_partial_lanes(void **state)
{
	const ml_target *t;
	int level = 0;

	(void)state;
	while ((t = each_level(&level))) {
		jitted j;
		jitted_open(&j, t);
		ml_emit *e = &j.e;
		LLVMTypeRef types[] = {e->i8, e->i16, e->f16, e->i32, e->f32, e->i64, e->f64};
		static const size_t sizes[] = {1, 2, 2, 4, 4, 8, 8};
		static const int known[] = {0, 1, 2, 4, 5, 8}; /* 0: it is not */
		char name[32];
		for (int i = 0; i < 7; i++)
			for (int c = 0; c < 6; c++) {
				snprintf(name, sizeof name, "copy%d_%d", i, known[c]);
				emit_copy(e, name, types[i], known[c]);
			}
		jitted_compile(&j);
		for (int i = 0; i < 7; i++)
			for (int c = 0; c < 6; c++) {
				snprintf(name, sizeof name, "copy%d_%d", i, known[c]);
				copy_fn *copy = (copy_fn *)(uintptr_t)jitted_find(&j, name);
				int from = known[c] ? known[c] : 1, to = known[c] ? from : 16;
				for (int n = from; n <= to; n++)
					check_copy(copy, sizes[i], n);
			}
		jitted_close(&j);
	}
}

static ml_v
add(ml_emit *e, ml_v a, ml_v b)
{
	return LLVMBuildFAdd(e->b, a, b, "");
}

/* The order of additions is part of the interface: their rounding must not change. */
static float
tree_sum(const float *x)
{
	float v[16];

	memcpy(v, x, sizeof v);
	for (int half = 8; half; half /= 2)
		for (int i = 0; i < half; i++)
			v[i] += v[i + half];
	return v[0];
}

static void
test_reduction_order(void **state)
{
	const ml_target *t;
	int level = 0;
	uint32_t seed = 1;

	(void)state;
	while ((t = each_level(&level))) {
		jitted j;
		jitted_open(&j, t);
		ml_emit *e = &j.e;
		ml_v f = ml_emit_function(e, "sum", e->f32, &e->ptr, 1);
		ml_v v = ml_load(e, ml_vec_type(e->f32), LLVMGetParam(f, 0), 4);
		LLVMBuildRet(e->b, ml_reduce_lanes(e, v, add));
		jitted_compile(&j);
		float (*sum)(const float *) =
			(float (*)(const float *))(uintptr_t)jitted_find(&j, "sum");
		for (int i = 0; i < 100; i++) {
			float x[16];
			for (int k = 0; k < 16; k++) {
				seed = seed * 1664525u + 1013904223u;
				x[k] = (float)(int32_t)seed * 0x1p-20f;
			}
			assert_true(sum(x) == tree_sum(x));
		}
		jitted_close(&j);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_constants_fold),
		cmocka_unit_test(test_loop_and_branch),
		cmocka_unit_test(test_partial_lanes),
		cmocka_unit_test(test_reduction_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
