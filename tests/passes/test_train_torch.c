/* test_train_torch.c -- gradients, losses and trained weights of a small transformer, as PyTorch
 * has them. */
#include "ir/grad.h"
#include "passes/distill/distill.h"
#include "train_torch.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { WEIGHTS = 13, STEPS = (int)(sizeof losses / sizeof *losses), TERMS = 3 };

typedef struct bench {
	ml_context cx;
	ml_module *student, *loss;
	ml_value *weight[WEIGHTS]; /* of the loss */
} bench;

/* The terms in the order of `shares`; targets are inputs in the order of their first use. */
static void
add_terms(bench *b, ml_goal *g)
{
	static const ml_likeness like[] = {ML_LIKE_LOGITS, ML_LIKE_NUMBERS, ML_LIKE_DIRECTION};
	ml_node *yield = b->student->main->last;

	for (int i = 0; i < 2; i++)
		ML_PUSH(&b->cx.arena, g->target, ml_in(yield, i));
	for (int i = 0; i < TERMS; i++) {
		int target = i > 0;
		ml_lesson t = {like[i], ML_AT_OUTPUT, target, ml_in(yield, target)};
		ML_PUSH(&b->cx.arena, g->term, t);
	}
}

static void
open_bench(bench *b)
{
	ml_value *constant[WEIGHTS];
	ml_goal goal = {0};
	int n = 0;

	*b = (bench){.cx.memory = ml_memory_libc()};
	ml_arena_init(&b->cx.arena, &b->cx.memory);
	assert_int_equal(ml_parse(&b->cx, text, strlen(text), NULL, NULL, &b->student), ML_OK);
	add_terms(b, &goal);
	assert_int_equal(ml_build_loss(b->student, &goal, &b->loss), ML_OK);
	for (ml_node *at = b->student->main->first; n < WEIGHTS; at = at->next)
		constant[n++] = &at->out[0];
	ml_values_in(b->loss, constant, WEIGHTS, b->weight, &b->cx.arena);
}

static void
close_bench(bench *b)
{
	ml_module_free(b->loss);
	ml_module_free(b->student);
	ml_arena_free(&b->cx.arena);
}

static ml_tensor
tensor_of(bench *b, const ml_type *type, const void *data)
{
	ml_tensor t = {.dtype = type->dtype, .rank = type->rank};

	t.bytes = (size_t)ml_dtype_bytes(t.dtype);
	for (int d = 0; d < t.rank; d++) {
		assert_true(ml_dim_is_int(type->dim[d], &t.dim[d]));
		t.bytes *= (size_t)t.dim[d];
	}
	t.data = ml_alloc(&b->cx.arena, t.bytes + 1);
	if (data)
		memcpy(t.data, data, t.bytes);
	else
		memset(t.data, 0, t.bytes);
	return t;
}

/* Ids, targets, shares; weights; then zeros. */
static ml_tensor *
inputs_of(bench *b, const ml_module *m, int *first_weight)
{
	ml_tensor *in = ML_NEW_ARRAY(&b->cx.arena, ml_tensor, m->main->nargs);
	const void *data[3 + TERMS] = {ids, target_y, target_h, &shares[0], &shares[1], &shares[2]};

	*first_weight = 3 + TERMS;
	for (int i = 0; i < m->main->nargs; i++) {
		int w = i - *first_weight;
		const void *from = w < 0         ? data[i]
				   : w < WEIGHTS ? ml_const_blob(b->weight[w])->bytes
						 : NULL;
		in[i] = tensor_of(b, &m->main->arg[i]->type, from);
	}
	return in;
}

/* One tensor behind the other. */
static void
expect_all(const ml_tensor *got, const double *expected, int n, double near)
{
	int at = 0;

	for (int i = 0; i < WEIGHTS; i++)
		for (size_t k = 0; k < got[i].bytes / sizeof(float); k++, at++) {
			double x = ml_read_f64(ML_f32, got[i].data, (int64_t)k);
			if (!(fabs(x - expected[at]) <= near * (1 + fabs(expected[at]))))
				fail_msg("weight %d, element %zu: %.9g, not %.9g", i, k, x,
					 expected[at]);
		}
	if (at != n)
		fail_msg("%d numbers, not %d", at, n);
}

static void
expect_near(double x, double expected)
{
	if (!(fabs(x - expected) <= 2e-6 * (1 + fabs(expected))))
		fail_msg("%.9g, not %.9g", x, expected);
}

static void
test_gradients(void **state)
{
	bench b;
	ml_module *m;
	int first;

	(void)state;
	open_bench(&b);
	assert_int_equal(ml_grad_module(b.loss, ml_in(b.loss->main->last, 0),
					(const ml_value *const *)b.weight, WEIGHTS, &m),
			 ML_OK);
	ml_tensor *in = inputs_of(&b, m, &first), out[1 + TERMS + WEIGHTS];
	assert_int_equal(ml_evaluate(m, in, out, &b.cx.arena, NULL), ML_OK);
	expect_near(ml_read_f64(ML_f32, out[0].data, 0), losses[0]);
	expect_all(out + 1 + TERMS, gradients, sizeof gradients / sizeof *gradients, 5e-6);
	ml_module_free(m);
	close_bench(&b);
}

static void
test_steps(void **state)
{
	const ml_train_options o = {
		.adamw = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .decay = 0.01},
		.warmup = warmup,
		.clip = clip};
	bench b;
	ml_module *m;
	int first, fed = 3 * WEIGHTS;

	(void)state;
	open_bench(&b);
	assert_int_equal(
		ml_train_step(b.loss, 0, (const ml_value *const *)b.weight, WEIGHTS, &o, &m),
		ML_OK);
	ml_tensor *in = inputs_of(&b, m, &first), out[2 + TERMS + 3 * WEIGHTS];
	ml_write_f64(ML_f64, in[first + fed + 1].data, 0, total);
	ml_write_f64(ML_f64, in[first + fed + 2].data, 0, peak);
	for (int step = 0; step < STEPS; step++) {
		ml_write_f64(ML_f64, in[first + fed].data, 0, step + 1);
		assert_int_equal(ml_evaluate(m, in, out, &b.cx.arena, NULL), ML_OK);
		expect_near(ml_read_f64(ML_f32, out[0].data, 0), losses[step]);
		expect_near(ml_read_f64(ML_f64, out[1 + TERMS].data, 0), norms[step]);
		memcpy(in + first, out + 2 + TERMS, (size_t)fed * sizeof *in);
	}
	expect_all(in + first, trained, sizeof trained / sizeof *trained, 2e-5);
	ml_module_free(m);
	close_bench(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gradients),
		cmocka_unit_test(test_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
