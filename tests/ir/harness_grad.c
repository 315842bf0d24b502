/* harness_grad.c -- gradients judged by central differences of the evaluator in f64. */
#include "harness_grad.h"
#include "harness_text.h"
#include "ir/grad.h"
#include <math.h>
#include <string.h>

enum { MAX_VALUES = 12, MAX_SYMBOLS = 8 };

static double
next_number(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return (*state >> 8) / 16777216.0;
}

static ml_tensor
random_tensor(ml_arena *arena, const ml_type *type, double lo, double hi, uint32_t *state)
{
	static const int64_t sizes[MAX_SYMBOLS] = {2, 3, 4, 2, 3, 2, 2, 2};
	ml_tensor t = {.dtype = type->dtype, .rank = type->rank};
	int64_t count = 1;

	for (int d = 0; d < t.rank; d++) {
		assert_true(ml_dim_eval(type->dim[d], sizes, &t.dim[d]));
		count *= t.dim[d];
	}
	t.bytes = (size_t)(count * ml_dtype_bytes(t.dtype));
	t.data = ml_alloc(arena, t.bytes);
	for (int64_t i = 0; i < count; i++)
		ml_write_f64(t.dtype, t.data, i, lo + (hi - lo) * next_number(state));
	return t;
}

/* The sum of all float outputs, each element with a weight that becomes an input: a gradient that
 * mixes up elements is found. */
static ml_value *
weighted_sum(ml_module *m)
{
	ml_node *yield = m->main->last;
	ml_builder b = ml_builder_at_end(m->main, NULL);
	ml_value *loss = NULL;

	for (int i = 0, n = yield->nin; i < n; i++) {
		int64_t axes[ML_MAX_RANK];
		ml_value *y = ml_in(yield, i);
		if (!ml_is_float(y->type.dtype))
			continue;
		for (int d = 0; d < y->type.rank; d++)
			axes[d] = d;
		ml_value *w = ml_block_add_arg(m->main, &y->type, "w");
		ml_value *sum = ml_build_reduce(&b, ML_OP_reduce_sum, ml_op2(&b, ML_OP_mul, y, w),
						axes, y->type.rank);
		sum = ml_build_reshape(&b, sum, NULL, 0);
		sum = ml_build_cast(&b, sum, ML_f64);
		loss = loss ? ml_op2(&b, ML_OP_add, loss, sum) : sum;
	}
	assert_non_null(loss);
	ml_node_remove(yield);
	while (m->output_names.count)
		m->output_names.count--;
	b = ml_builder_at_end(m->main, NULL);
	ML_PUSH(&m->arena, m->output_names, "loss");
	assert_int_equal(ml_build_yield(&b, &loss, 1), ML_OK);
	return loss;
}

static void
run(ml_context *cx, const ml_module *m, const ml_tensor *in, ml_tensor *out, ml_arena *arena)
{
	if (ml_evaluate(m, in, out, arena, NULL) != ML_OK)
		fail_msg("%s", text_newest(cx));
}

static double
loss_at(ml_context *cx, const ml_module *m, const ml_tensor *in)
{
	ml_tensor out;
	ml_arena arena;

	ml_arena_init(&arena, &cx->memory);
	run(cx, m, in, &out, &arena);
	double loss = ml_read_f64(out.dtype, out.data, 0);
	ml_arena_free(&arena);
	return loss;
}

static void
compare(ml_context *cx, const char *text, const ml_module *m, ml_tensor *in, int which,
	const ml_tensor *gradient)
{
	const double h = 1e-6;
	ml_tensor *x = &in[which];
	int64_t count = (int64_t)(x->bytes / (size_t)ml_dtype_bytes(x->dtype));

	assert_int_equal(gradient->dtype, x->dtype);
	assert_int_equal(gradient->rank, x->rank);
	assert_memory_equal(gradient->dim, x->dim, (size_t)x->rank * sizeof *x->dim);
	for (int64_t i = 0; i < count; i++) {
		double old = ml_read_f64(x->dtype, x->data, i);
		ml_write_f64(x->dtype, x->data, i, old + h);
		double up = loss_at(cx, m, in);
		ml_write_f64(x->dtype, x->data, i, old - h);
		double down = loss_at(cx, m, in);
		ml_write_f64(x->dtype, x->data, i, old);
		double want = (up - down) / (2 * h);
		double got = ml_read_f64(gradient->dtype, gradient->data, i);
		if (!(fabs(got - want) <= 2e-7 * fmax(1, fabs(want))))
			fail_msg("%s\noperand %d, element %d: gradient %.12g, differences %.12g",
				 text, which, (int)i, got, want);
	}
}

/* Verifies, and its text is read back as itself. */
static void
check_text(ml_context *cx, const ml_module *m)
{
	if (ml_verify(m) != ML_OK)
		fail_msg("%s", text_newest(cx));
	const char *text = text_printed(cx, m);
	ml_module *again = text_module(cx, text);
	assert_string_equal(text_printed(cx, again), text);
	ml_module_free(again);
}

void
grad_check(ml_context *cx, const char *text, double lo, double hi, uint32_t seed)
{
	ml_module *m = text_module(cx, text), *with = NULL;
	ml_tensor in[MAX_VALUES], out[MAX_VALUES];
	ml_arena arena;
	int n = m->main->nargs;
	uint32_t state = seed;

	ml_arena_init(&arena, &cx->memory);
	ml_value *loss = weighted_sum(m);
	assert_true(m->main->nargs <= MAX_VALUES && n + 1 <= MAX_VALUES);
	if (ml_grad_module(m, loss, (const ml_value *const *)m->main->arg, n, &with) != ML_OK)
		fail_msg("%s\n%s", text, text_newest(cx));
	check_text(cx, with);
	for (int i = 0; i < m->main->nargs; i++)
		in[i] = random_tensor(&arena, &m->main->arg[i]->type, i < n ? lo : -1,
				      i < n ? hi : 1, &state);
	run(cx, with, in, out, &arena);
	for (int i = 0; i < n; i++)
		compare(cx, text, m, in, i, &out[1 + i]);
	ml_arena_free(&arena);
	ml_module_free(with);
	ml_module_free(m);
}
