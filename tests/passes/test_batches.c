/* test_batches.c -- batches of training: what of samples they hold, and how it is changed. */
#include "passes/distill/distill.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

enum { SAMPLES = 96, LENGTH = 9, BATCHES = 60, WIDTH = 16 };
static const char model[] = "module \"m\" {\n  sym b\n  sym s\n  in %i \"ids\" : s64[b, s]\n"
			    "  %y = cast %i : f32[b, s]\n  out \"y\" = %y\n}\n";

/* Numbers are wanted of it, and it knows more tokens than the samples have. */
static const char embedder[] = "module \"m\" {\n  sym b\n  sym s\n  in %i \"ids\" : s64[b, s]\n"
			       "  %t = const splat 0.5 : f32[9000, 2]\n"
			       "  %y = gather %t, %i : f32[b, s, 2]\n  out \"y\" = %y\n}\n";

typedef struct bench {
	ml_context cx;
	ml_module *m;
	ml_samples samples;
	ml_pool pool;
	int64_t number[SAMPLES];
	int64_t token[SAMPLES][LENGTH]; /* WIDTH times the sample's number, and the position */
} bench;

static void
open_model(bench *b, const char *model, uint64_t seed)
{
	*b = (bench){.cx.memory = ml_memory_libc()};
	ml_arena_init(&b->cx.arena, &b->cx.memory);
	assert_int_equal(ml_parse(&b->cx, model, strlen(model), NULL, NULL, &b->m), ML_OK);
	for (int k = 0; k < SAMPLES; k++)
		b->number[k] = k;
	for (int k = 0; k < SAMPLES; k++)
		for (int i = 0; i < LENGTH; i++)
			b->token[k][i] = WIDTH * k + i;
	ml_tensor *in = ML_NEW(&b->cx.arena, ml_tensor);
	*in = (ml_tensor){ML_s64, 2, {SAMPLES, LENGTH}, b->token, sizeof b->token};
	ml_batch all = {.in = in, .samples = SAMPLES, .number = b->number};
	ML_PUSH(&b->cx.arena, b->samples.batch, all);
	ml_pool_init(&b->pool, &b->samples, b->m, seed, &b->cx.arena);
}

static void
open_bench(bench *b, uint64_t seed)
{
	open_model(b, model, seed);
}

static void
close_bench(bench *b)
{
	ml_module_free(b->m);
	ml_arena_free(&b->cx.arena);
}

/* How many of its samples a row goes through in whole runs, replaced tokens aside; its ends stay
 * ends. */
static int
runs_of(const int64_t *row, int *replaced)
{
	int64_t own = row[0] / WIDTH, last = row[LENGTH - 1] / WIDTH;
	int at = 0;

	assert_int_equal(row[0] % WIDTH, 0);
	assert_int_equal(row[LENGTH - 1] % WIDTH, LENGTH - 1);
	for (int i = 1; i + 1 < LENGTH; i++) {
		int64_t sample = row[i] / WIDTH;
		bool stays = row[i] % WIDTH == i && (sample == own || sample == last);
		*replaced += !stays;
		if (stays && sample == last)
			at = 1;
		else if (stays)
			assert_int_equal(at, 0); /* never back to the first one */
	}
	return own == last ? 1 : 2;
}

/* Rows that are said to be a sample are it. */
static bool
check_row(const bench *b, const int64_t *row, int64_t number, int *replaced)
{
	if (number >= 0)
		assert_memory_equal(row, b->token[number], sizeof b->token[number]);
	return runs_of(row, replaced) == 2;
}

/* Rows are samples, or begin as one and end as another; some of the tokens are others. */
static void
test_rows(void **state)
{
	int rows = 0, joined = 0, replaced = 0;
	bench b;

	(void)state;
	open_bench(&b, 1);
	for (int k = 0; k < BATCHES; k++) {
		const ml_tensor *in = ml_pool_next(&b.pool);
		assert_int_equal(in->dim[1], LENGTH);
		assert_true(in->dim[0] > 0 && in->dim[0] <= ML_DISTILL_BATCH);
		for (int64_t r = 0; r < in->dim[0]; r++, rows++)
			joined += check_row(&b, (int64_t *)in->data + r * LENGTH, b.pool.row[r],
					    &replaced);
	}
	assert_in_range(joined, rows / 3, rows * 2 / 3);
	assert_in_range(replaced, rows / 4, rows);
	close_bench(&b);
}

static void
test_seed(void **state)
{
	bench a, b, c;
	bool differ = false;

	(void)state;
	open_bench(&a, 1);
	open_bench(&b, 1);
	open_bench(&c, 2);
	for (int k = 0; k < BATCHES; k++) {
		const ml_tensor *x = ml_pool_next(&a.pool), *y = ml_pool_next(&b.pool);
		const ml_tensor *z = ml_pool_next(&c.pool);
		assert_int_equal(x->bytes, y->bytes);
		assert_memory_equal(x->data, y->data, x->bytes);
		differ |= x->bytes != z->bytes || memcmp(x->data, z->data, x->bytes) != 0;
	}
	assert_true(differ);
	close_bench(&c);
	close_bench(&b);
	close_bench(&a);
}

/* Half of the tokens that replace others are any that the model knows; what decides gets none. */
static void
test_foreign(void **state)
{
	for (int decides = 0; decides < 2; decides++) {
		int foreign = 0, tokens = 0;
		bench b;

		(void)state;
		open_model(&b, embedder, 1);
		b.samples.agree.decides = decides;
		ml_pool_init(&b.pool, &b.samples, b.m, 1, &b.cx.arena);
		for (int k = 0; k < BATCHES; k++) {
			const ml_tensor *in = ml_pool_next(&b.pool);
			for (int64_t i = 0; i < in->dim[0] * LENGTH; i++, tokens++) {
				int64_t token = ((const int64_t *)in->data)[i];
				assert_in_range(token, 0, 8999);
				foreign += token >= SAMPLES * WIDTH;
			}
		}
		assert_in_range(foreign, decides ? 0 : tokens / 100, decides ? 0 : tokens / 20);
		close_bench(&b);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_seed),
		cmocka_unit_test(test_foreign),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
