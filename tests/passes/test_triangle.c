/* test_triangle.c -- products of blocks of columns make the triangle of x'x, however wide x is. */
#include "harness_context.h"
#include "harness_exec.h"
#include "passes/triangle.h"
#include <math.h>

static ml_context cx;
enum { ROWS = 3, MOST_PRODUCTS = 8 };

static ml_runnable *
compile(const ml_exec *exec, int64_t k)
{
	ml_module *m = ml_module_new(&cx, "products");
	ml_type t = {.dtype = ML_f32, .rank = 2};
	ml_value *product[MOST_PRODUCTS];
	ml_runnable *r = NULL;

	t.dim[0] = ml_dim_int(m->dims, ROWS);
	t.dim[1] = ml_dim_int(m->dims, k);
	ml_value *x = ml_block_add_arg(m->main, &t, "x");
	ml_builder b = ml_builder_at_end(m->main, NULL);
	assert_int_equal(ml_triangle_build(&b, x, product), ML_OK);
	for (int i = 0; i < ml_triangle_products(k); i++)
		ML_PUSH(&m->arena, m->output_names, "product");
	assert_int_equal(ml_build_yield(&b, product, ml_triangle_products(k)), ML_OK);
	assert_int_equal(exec->compile(exec->user, m, &r), ML_OK);
	ml_module_free(m);
	return r;
}

static void
check(int64_t k, int products)
{
	const ml_exec exec = harness_exec(&cx);
	ml_tensor out[MOST_PRODUCTS] = {0};
	ml_arena arena;
	uint64_t seed = 3;

	assert_int_equal(ml_triangle_products(k), products);
	ml_arena_init(&arena, &cx.memory);
	float *x = ML_NEW_ARRAY(&arena, float, ROWS *k);
	double *h = ML_NEW_ARRAY(&arena, double, ml_triangle_size(k));
	for (int64_t i = 0; i < ROWS * k; i++)
		x[i] = (float)harness_random(&seed);
	h[0] = 100; /* what was there stays in the sum */
	ml_tensor in = {ML_f32, 2, {ROWS, k}, x, (size_t)(ROWS * k) * sizeof *x};
	ml_runnable *r = compile(&exec, k);
	assert_int_equal(exec.run(exec.user, r, &in, out, &arena), ML_OK);
	ml_triangle_add(h, k, out);
	for (int64_t i = 0; i < k; i++)
		for (int64_t j = 0; j <= i; j++) {
			double sum = i ? 0 : 100;
			for (int64_t t = 0; t < ROWS; t++)
				sum += (double)x[t * k + i] * (double)x[t * k + j];
			assert_true(fabs(h[ml_triangle_at(j, i)] - sum) < 1e-4);
		}
	exec.free(exec.user, r);
	ml_arena_free(&arena);
}

static void
test_widths(void **state)
{
	(void)state;
	check(1, 1);
	check(ML_TRIANGLE_BLOCK, 1);
	check(ML_TRIANGLE_BLOCK + 1, 2);
	check(2 * ML_TRIANGLE_BLOCK + 70, 3);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_widths)};

	return HARNESS_RUN(&cx, tests);
}
