/* test_random.c -- random expressions of movement, arithmetic and reductions against the evaluator.
 */
#include "harness_kernel.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

enum { MODULES = 48, MAX_VALUES = 40, MAX_ELEMENTS = 20000 };

/* Values of the first size decide what still makes sense; the others are degenerate. */
static const int64_t sizes[][KERNEL_DIMS] = {{3, 18, 4}, {1, 1, 1}, {2, 16, 5}, {5, 33, 1}};

typedef struct maker {
	ml_module *m;
	ml_builder b;
	ml_value *value[MAX_VALUES];
	int count;
	uint64_t state;
} maker;

static int
pick(maker *k, int n)
{
	k->state = k->state * 6364136223846793005u + 1442695040888963407u;
	return (int)((k->state >> 33) % (uint64_t)n);
}

static ml_dim
number(maker *k, int64_t n)
{
	return ml_dim_int(k->m->dims, n);
}

static ml_value *
any_value(maker *k)
{
	/* Newer ones more often, so that expressions get deep. */
	int back = pick(k, pick(k, k->count) + 1);

	return k->value[k->count - 1 - back];
}

static bool
fits(const ml_type *t)
{
	int64_t count = 1;

	for (int i = 0; i < t->rank; i++) {
		int64_t n;
		if (!ml_dim_eval(t->dim[i], sizes[0], &n) || n > MAX_ELEMENTS)
			return false;
		count *= n;
	}
	return count <= MAX_ELEMENTS && t->rank <= 5;
}

static ml_value *
unary(maker *k, ml_value *v)
{
	static const ml_op ops[] = {ML_OP_neg, ML_OP_abs, ML_OP_floor, ML_OP_tanh, ML_OP_sign};

	return ml_op1(&k->b, ops[pick(k, 5)], v);
}

/* With itself under another view, or with a row or scalar of it. */
static ml_value *
binary(maker *k, ml_value *v)
{
	static const ml_op ops[] = {ML_OP_add, ML_OP_sub, ML_OP_min, ML_OP_max};
	ml_value *other = any_value(k);
	bool same = other->type.rank == v->type.rank;

	for (int i = 0; same && i < v->type.rank; i++)
		same = other->type.dim[i] == v->type.dim[i];
	if (!same) {
		ml_dim start[ML_MAX_RANK], size[ML_MAX_RANK];
		int64_t step[ML_MAX_RANK];
		for (int i = 0; i < v->type.rank; i++) {
			start[i] = number(k, 0);
			size[i] =
				i + 1 < v->type.rank && pick(k, 2) ? v->type.dim[i] : number(k, 1);
			step[i] = 1;
		}
		other = ml_build_slice(&k->b, v, start, size, step);
	}
	return ml_op2(&k->b, ops[pick(k, 4)], v, other);
}

static ml_value *
transpose(maker *k, ml_value *v)
{
	int64_t perm[ML_MAX_RANK];
	int rank = v->type.rank;

	for (int i = 0; i < rank; i++)
		perm[i] = i;
	for (int i = rank; i-- > 1;) {
		int j = pick(k, i + 1);
		int64_t swap = perm[i];
		perm[i] = perm[j];
		perm[j] = swap;
	}
	return ml_build_transpose(&k->b, v, perm);
}

/* Joins two neighbours, or splits one that has an integer factor, or adds a one. */
static ml_value *
reshape(maker *k, ml_value *v)
{
	ml_dim shape[ML_MAX_RANK], q;
	int rank = v->type.rank, at = rank ? pick(k, rank) : 0, n = 0;

	for (int i = 0; i < rank; i++) {
		if (i == at && i + 1 < rank && pick(k, 2)) {
			shape[n++] = ml_dim_mul(k->m->dims, v->type.dim[i], v->type.dim[i + 1]);
			i++;
			continue;
		}
		for (int by = 2; i == at && by <= 4; by++)
			if (rank < 5 &&
			    ml_dim_divides(k->m->dims, v->type.dim[i], number(k, by), &q)) {
				bool first = pick(k, 2);
				shape[n++] = first ? number(k, by) : q;
				shape[n++] = first ? q : number(k, by);
				at = -1;
			}
		if (i != at && at >= 0)
			shape[n++] = v->type.dim[i];
		else if (i == at)
			shape[n++] = v->type.dim[i];
		else if (n < i + 1)
			shape[n++] = v->type.dim[i];
	}
	ml_dim product = number(k, 1), all = ml_type_count(k->m->dims, &v->type);
	for (int i = 0; i < n; i++)
		product = ml_dim_mul(k->m->dims, product, shape[i]);
	if (product != all) { /* flat */
		shape[0] = all;
		n = 1;
	}
	return ml_build_reshape(&k->b, v, shape, n);
}

static ml_value *
slice(maker *k, ml_value *v)
{
	ml_dim start[ML_MAX_RANK], size[ML_MAX_RANK];
	int64_t step[ML_MAX_RANK];

	for (int i = 0; i < v->type.rank; i++) {
		start[i] = number(k, 0);
		size[i] = v->type.dim[i];
		step[i] = 1;
		if (pick(k, 3) == 0) {
			step[i] = 2;
			size[i] = ml_dim_ceildiv(k->m->dims, size[i], number(k, 2));
		}
	}
	return ml_build_slice(&k->b, v, start, size, step);
}

static ml_value *
pad(maker *k, ml_value *v)
{
	ml_dim low[ML_MAX_RANK], high[ML_MAX_RANK];
	int64_t interior[ML_MAX_RANK];

	for (int i = 0; i < v->type.rank; i++) {
		low[i] = number(k, pick(k, 3));
		high[i] = number(k, pick(k, 3));
		interior[i] = pick(k, 4) == 0;
	}
	return ml_build_pad(&k->b, v, ml_build_f64(&k->b, ML_f32, 0.5), low, high, interior);
}

static ml_value *
concat(maker *k, ml_value *v)
{
	ml_value *in[] = {v, unary(k, v), v};

	return v->type.rank ? ml_build_concat(&k->b, in, 2 + pick(k, 2), pick(k, v->type.rank)) : v;
}

static ml_value *
reverse(maker *k, ml_value *v)
{
	int64_t *axis = ML_NEW(&k->m->arena, int64_t);

	if (!v->type.rank)
		return v;
	*axis = pick(k, v->type.rank);
	ml_node *n = ml_begin(&k->b, ML_OP_reverse, &v, 1);
	ML_A(n, reverse, axes) = (ml_attr){.ints = axis, .count = 1};
	return ml_finish1(&k->b, n);
}

static ml_value *
reduce(maker *k, ml_value *v)
{
	static const ml_op ops[] = {ML_OP_reduce_sum, ML_OP_reduce_max, ML_OP_reduce_min};
	int64_t axis = v->type.rank ? pick(k, v->type.rank) : 0;

	return ml_build_reduce(&k->b, ops[pick(k, 3)], v, &axis, v->type.rank ? 1 : 0);
}

/* Rows picked by positions that are computed: always inside. */
static ml_value *
gather(maker *k, ml_value *v)
{
	int axis = v->type.rank ? pick(k, v->type.rank) : 0;

	if (!v->type.rank)
		return v;
	ml_dim shape[] = {ml_dim_add(k->m->dims, v->type.dim[axis], number(k, 1))};
	ml_value *i = ml_build_iota(&k->b, shape, 1, 0, ML_s64);
	ml_value *n = ml_build_dim(&k->b, v->type.dim[axis]);
	i = ml_op2(&k->b, ML_OP_mod, ml_op2(&k->b, ML_OP_mul, i, i), n);
	return ml_build_gather(&k->b, v, pick(k, 2) ? i : ml_op2(&k->b, ML_OP_sub, i, n), axis);
}

typedef ml_value *step_fn(maker *, ml_value *);

static ml_value *
softmax(maker *k, ml_value *v)
{
	int64_t last = v->type.rank - 1;
	ml_value *m = ml_build_reduce(&k->b, ML_OP_reduce_max, v, &last, 1);
	ml_value *e = ml_op1(&k->b, ML_OP_exp, ml_op2(&k->b, ML_OP_sub, v, m));

	return ml_op2(&k->b, ML_OP_div, e, ml_build_reduce(&k->b, ML_OP_reduce_sum, e, &last, 1));
}

static void
add_inputs(maker *k)
{
	ml_dim d[3];

	for (int i = 0; i < 3; i++)
		d[i] = ml_dim_sym(k->m->dims,
				  ml_sym_named(k->m->dims, (char[]){'d', (char)('0' + i)}, 2));
	ml_type types[] = {
		{.dtype = ML_f32, .rank = 3, .dim = {d[0], d[1], d[2]}},
		{.dtype = ML_f32,
		 .rank = 2,
		 .dim = {d[0], ml_dim_mul(k->m->dims, number(k, 12), d[1])}},
		{.dtype = ML_f32, .rank = 1, .dim = {number(k, 48)}},
	};
	for (int i = 0; i < 3; i++)
		k->value[k->count++] = ml_block_add_arg(k->m->main, &types[i], NULL);
}

static void
check_random(ml_context *cx, int seed)
{
	static step_fn *const steps[] = {unary,   binary,  binary, transpose, transpose,
					 reshape, reshape, slice,  pad,       concat,
					 reverse, reduce,  gather};
	maker k = {.m = ml_module_new(cx, ""), .state = (uint64_t)seed};
	bool rows = seed % 3 == 0;
	ml_text text;

	k.b = ml_builder_at_end(k.m->main, NULL);
	add_inputs(&k);
	for (int i = 4 + pick(&k, 12); i > 0; i--) {
		ml_value *v = steps[pick(&k, sizeof steps / sizeof *steps)](&k, any_value(&k));
		assert_non_null(v);
		if (fits(&v->type))
			k.value[k.count++] = v;
	}
	ml_value *result = k.value[k.count - 1];
	rows &= result->type.rank > 0;
	result = rows ? softmax(&k, result) : unary(&k, result);
	assert_int_equal(ml_build_yield(&k.b, &result, 1), ML_OK);
	k.m->guards.count = 0;
	ml_kernel kernel = {.family = ML_FAMILY_ROWS, .m = k.m, .row_axes = rows, .note = ""};
	ml_text_init(&text, &cx->arena);
	ml_kernel_print(&text, &kernel);
	kernel_case c = {.text = text.at,
			 .sizes = sizes,
			 .nsizes = sizeof sizes / sizeof *sizes,
			 .tolerance = 2e-5};
	check_kernel(&c);
	ml_module_free(k.m);
}

static void
test_random(void **state)
{
	(void)state;
	ml_context cx = {.memory = ml_memory_libc()};

	ml_arena_init(&cx.arena, &cx.memory);
	for (int seed = 0; seed < MODULES; seed++)
		check_random(&cx, seed);
	ml_arena_free(&cx.arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
