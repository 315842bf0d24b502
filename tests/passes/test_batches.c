/* test_batches.c -- batches of training: what of samples they hold, and how it is changed. */
#include "passes/distill/distill.h"
#include "passes/samples.h"
#include "harness_exec.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
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
	open_bench(&b, 2);
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

/* Row i of its table points i / ROWS of a half turn, whatever its length; one row is no direction.
 */
enum { ROWS = 2000, NOWHERE = 700 };
static char *
turning(ml_arena *arena)
{
	ml_text text;

	ml_text_init(&text, arena);
	ml_put(&text, "module \"m\" {\n  sym b\n  sym s\n  in %%i \"ids\" : s64[b, s]\n"
		      "  %%t = const {");
	for (int i = 0; i < ROWS; i++) {
		double turn = 3.14159 * i / ROWS, size = i == NOWHERE ? 0 : 1 + i % 7;
		ml_put(&text, "%s%.9g, %.9g", i ? ", " : "", size * cos(turn), size * sin(turn));
	}
	ml_put(&text,
	       "} : f32[%d, 2]\n  %%y = gather %%t, %%i : f32[b, s, 2]\n  out \"y\" = %%y\n}\n",
	       ROWS);
	return text.at;
}

static void
open_turning(bench *b)
{
	ml_memory memory = ml_memory_libc();
	ml_arena arena;

	ml_arena_init(&arena, &memory);
	open_model(b, turning(&arena), 1);
	ml_arena_free(&arena);
	ml_exec exec = harness_exec(&b->cx);
	ml_pass_ctx px = {.cx = &b->cx, .scratch = &b->cx.arena, .exec = &exec};
	assert_int_equal(ml_pool_find_near(&b->pool, &px), ML_OK);
}

static void
test_near(void **state)
{
	bench b;

	(void)state;
	open_turning(&b);
	assert_int_equal(b.pool.nnear, SAMPLES * (LENGTH - 2)); /* ends are grammar */
	for (int64_t i = 0; i < b.pool.nnear; i++) {
		int64_t token = b.pool.near_token[i];
		const int64_t *near = b.pool.near + i * ML_NEAR;
		assert_true(token % WIDTH > 0 && token % WIDTH < LENGTH - 1);
		for (int k = 0; k < ML_NEAR; k++) {
			int64_t away = llabs(near[k] - token);
			assert_true(near[k] != token && near[k] != NOWHERE);
			if (token > 2 * ML_NEAR && llabs(token - NOWHERE) > ML_NEAR)
				assert_int_equal(away, k / 2 + 1);
		}
	}
	close_bench(&b);
}

typedef struct inside {
	int tokens, kept, strange;
} inside;

/* Tokens inside of rows are from anywhere in the samples, or near those; ends stay ends. */
static inside
count_inside(bench *b)
{
	inside n = {0};

	for (int k = 0; k < BATCHES; k++) {
		const ml_tensor *in = ml_pool_next(&b->pool);
		for (int64_t i = 0; i < in->dim[0] * LENGTH; i++) {
			int64_t token = ((const int64_t *)in->data)[i], column = i % LENGTH;
			assert_in_range(token, 0, ROWS - 1);
			if (column == 0 || column == LENGTH - 1) {
				assert_int_equal(token % WIDTH == 0, column == 0);
				continue;
			}
			n.tokens++;
			n.kept += token % WIDTH == column && token < SAMPLES * WIDTH;
			n.strange += token % WIDTH == 0 || token % WIDTH >= LENGTH - 1;
		}
	}
	return n;
}

static void
test_pieces(void **state)
{
	bench b;

	(void)state;
	open_turning(&b);
	inside n = count_inside(&b);
	assert_in_range(n.kept, n.tokens / 2, n.tokens * 3 / 4); /* a third are of pieces, */
	assert_in_range(n.strange, n.tokens / 20, n.tokens / 4); /* a fifth replaced */
	close_bench(&b);
}

/* Batches of every length, each sample of it the same. */
static void
open_lengths(bench *b, int lengths, bool decides)
{
	*b = (bench){.cx.memory = ml_memory_libc(), .samples.agree.decides = decides};
	ml_arena_init(&b->cx.arena, &b->cx.memory);
	assert_int_equal(ml_parse(&b->cx, model, strlen(model), NULL, NULL, &b->m), ML_OK);
	int64_t *token = ML_NEW_ARRAY(&b->cx.arena, int64_t, ML_DISTILL_BATCH *(lengths + 3));
	for (int i = 0; i < lengths; i++) {
		ml_tensor *in = ML_NEW(&b->cx.arena, ml_tensor);
		*in = (ml_tensor){ML_s64, 2, {ML_DISTILL_BATCH, i + 3}, token, 0};
		in->bytes = (size_t)(ML_DISTILL_BATCH * (i + 3)) * sizeof *token;
		ml_batch all = {.in = in, .samples = ML_DISTILL_BATCH, .number = b->number};
		ML_PUSH(&b->cx.arena, b->samples.batch, all);
	}
	ml_pool_init(&b->pool, &b->samples, b->m, 1, &b->cx.arena);
}

/* The first batches are as long as the mean of all, so what they take says what training takes. */
static void
test_first(void **state)
{
	enum { LENGTHS = 29, FIRST = 6 };
	int sum = 0;
	bench b;

	(void)state;
	open_lengths(&b, LENGTHS, false);
	assert_true(ml_pool_next(&b.pool)->dim[1] > LENGTHS); /* the largest */
	for (int i = 0; i < FIRST; i++)
		sum += (int)ml_pool_next(&b.pool)->dim[1];
	int mean = 3 + (LENGTHS - 1) / 2;
	assert_in_range(sum, FIRST * (mean - 2), FIRST * (mean + 2));
	close_bench(&b);
	for (int n = 1; n < 40; n++) {
		bool seen[40] = {0};
		for (int i = 0; i < n; i++)
			seen[ml_spread(i, n)] = true;
		for (int i = 0; i < n; i++)
			assert_true(seen[i]);
	}
}

/* Where outputs decide, batches are half as large. */
static void
test_batch_size(void **state)
{
	bench b;

	(void)state;
	for (int decides = 0; decides < 2; decides++) {
		open_lengths(&b, 1, decides);
		assert_int_equal(ml_pool_next(&b.pool)->dim[0], ML_DISTILL_BATCH >> decides);
		close_bench(&b);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),       cmocka_unit_test(test_seed),
		cmocka_unit_test(test_foreign),    cmocka_unit_test(test_near),
		cmocka_unit_test(test_pieces),     cmocka_unit_test(test_first),
		cmocka_unit_test(test_batch_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
