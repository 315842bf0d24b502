/* harness_graph.c -- random typed graphs: a pool of values, and steps that make new ones of them.
 *
 * A step that does not fit its operands makes nothing.  Shapes that would need a guard are avoided,
 * so that a graph runs at every size of its symbol.
 */
#include "harness_graph.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

typedef struct maker {
	ml_builder b;
	fuzz_random r;
	const fuzz_options *o;
	ML_VEC(ml_value *) pool;
	int depth; /* of bodies */
} maker;

typedef void step(maker *);

static int
below(maker *k, int n)
{
	return fuzz_below(&k->r, n);
}

static void
keep(maker *k, ml_value *v)
{
	if (v)
		ML_PUSH(&k->b.m->arena, k->pool, v);
}

/* A value of the pool, newer ones more often. */
static ml_value *
any(maker *k)
{
	int n = k->pool.count, i = below(k, n), j = below(k, n);

	return k->pool.at[i > j ? i : j];
}

static ml_value *
any_of(maker *k, ml_dtype dtype)
{
	for (int tries = 0; tries < 8; tries++) {
		ml_value *v = any(k);
		if (v->type.dtype == dtype)
			return v;
	}
	return NULL;
}

static ml_value *
any_float(maker *k)
{
	return any_of(k, ML_f32);
}

static bool
small(const ml_value *v)
{
	int64_t room = 1;

	for (int i = 0; i < v->type.rank; i++) {
		int64_t size;
		room *= ml_dim_is_int(v->type.dim[i], &size) ? size : 8;
	}
	return room <= 2000;
}

/* Broadcasting needs no guard. */
static bool
fits(const ml_type *a, const ml_type *b)
{
	int n = a->rank < b->rank ? a->rank : b->rank;

	for (int i = 1; i <= n; i++) {
		ml_dim x = a->dim[a->rank - i], y = b->dim[b->rank - i];
		if (x != y && !ml_dim_equals(x, 1) && !ml_dim_equals(y, 1))
			return false;
	}
	return true;
}

static ml_value *
partner(maker *k, const ml_value *v)
{
	for (int tries = 0; tries < 8; tries++) {
		ml_value *w = any(k);
		if (w->type.dtype == v->type.dtype && fits(&v->type, &w->type))
			return w;
	}
	return (ml_value *)v;
}

static ml_value *
weights(maker *k, ml_dtype dtype, const int64_t *shape, int rank)
{
	ml_type t = {.dtype = dtype, .rank = rank};
	int64_t count = 1;
	void *bytes;

	for (int i = 0; i < rank; i++) {
		t.dim[i] = ml_dim_int(k->b.m->dims, shape[i]);
		count *= shape[i];
	}
	ml_blob *blob = ml_blob_new(&k->b.m->cx->memory,
				    (uint64_t)count * (uint64_t)ml_dtype_bytes(dtype), &bytes);
	for (int64_t i = 0; i < count; i++)
		ml_write_f64(dtype, bytes, i, fuzz_number(&k->r) * (ml_is_float(dtype) ? 1 : 5));
	return ml_build_const(&k->b, &t, blob);
}

static ml_value *
scalar(maker *k, ml_dtype dtype)
{
	static const double numbers[] = {0, 1, -1, 2, 0.5, 3, 0.70710678, 1.702, -0.25};

	return ml_build_f64(&k->b, dtype, numbers[below(k, ml_is_float(dtype) ? 9 : 4)]);
}

/* ---- steps: elementwise ---- */

static void
unary_step(maker *k)
{
	static const ml_op smooth[] = {ML_OP_neg, ML_OP_tanh, ML_OP_erf,     ML_OP_sin,
				       ML_OP_cos, ML_OP_atan, ML_OP_sigmoid, ML_OP_gelu};
	static const ml_op rough[] = {ML_OP_abs, ML_OP_floor, ML_OP_ceil, ML_OP_round, ML_OP_sign};
	ml_value *x = any_float(k);
	bool is_rough = !k->o->smooth && below(k, 3) == 0;

	keep(k, ml_op1(&k->b, is_rough ? rough[below(k, 5)] : smooth[below(k, 8)], x));
}

/* Square roots, logarithms and exponentials of what suits them. */
static void
positive_step(maker *k)
{
	ml_value *x = any_float(k);
	ml_value *y = ml_op1(&k->b, ML_OP_tanh, x);
	ml_value *above = ml_op2(&k->b, ML_OP_add, ml_op2(&k->b, ML_OP_mul, y, y),
				 ml_build_f64(&k->b, ML_f32, 0.5));

	switch (below(k, 4)) {
	case 0: keep(k, ml_op1(&k->b, ML_OP_exp, y)); break;
	case 1: keep(k, ml_op1(&k->b, ML_OP_sqrt, above)); break;
	case 2: keep(k, ml_op1(&k->b, ML_OP_log, above)); break;
	default: keep(k, ml_op2(&k->b, ML_OP_div, any_float(k) == x ? y : x, above)); break;
	}
}

static void
binary_step(maker *k)
{
	static const ml_op ops[] = {ML_OP_add, ML_OP_sub, ML_OP_mul, ML_OP_min, ML_OP_max};
	ml_value *x = any(k), *y = below(k, 3) ? partner(k, x) : NULL;

	if (x->type.dtype == ML_bool || x->type.dtype == ML_u8)
		return;
	if (!y)
		y = scalar(k, x->type.dtype);
	bool swapped = below(k, 2);
	keep(k, ml_op2(&k->b, ops[below(k, 5)], swapped ? y : x, swapped ? x : y));
}

static void
integer_step(maker *k)
{
	static const ml_op ops[] = {ML_OP_div, ML_OP_rem, ML_OP_mod, ML_OP_and,
				    ML_OP_or,  ML_OP_xor, ML_OP_shl, ML_OP_shr};
	ml_value *x = any_of(k, below(k, 2) ? ML_s32 : ML_s64);

	if (x)
		keep(k, ml_op2(&k->b, ops[below(k, 8)], x,
			       below(k, 2) ? partner(k, x) : scalar(k, x->type.dtype)));
}

static void
logic_step(maker *k)
{
	ml_value *x = any(k);
	static const ml_op compare[] = {ML_OP_eq, ML_OP_lt, ML_OP_le};
	static const ml_op logic[] = {ML_OP_and, ML_OP_or, ML_OP_xor};

	if (x->type.dtype == ML_bool)
		keep(k, below(k, 3) ? ml_op2(&k->b, logic[below(k, 3)], x, partner(k, x))
				    : ml_op1(&k->b, ML_OP_not, x));
	else if (!k->o->smooth || !ml_is_float(x->type.dtype))
		keep(k, ml_op2(&k->b, compare[below(k, 3)], x, partner(k, x)));
}

static void
select_step(maker *k)
{
	ml_value *c = any_of(k, ML_bool), *x = any(k), *y = partner(k, x);

	if (c && fits(&c->type, &x->type) && fits(&c->type, &y->type))
		keep(k, ml_op3(&k->b, ML_OP_select, c, x, y));
}

static void
cast_step(maker *k)
{
	static const ml_dtype dtypes[] = {ML_f32, ML_s32,        ML_s64,    ML_f64,
					  ML_f16, ML_f8e4m3fnuz, ML_f8e5m2, ML_s4};
	ml_value *x = any(k);
	ml_dtype to = dtypes[below(k, k->o->smooth ? 1 : 8)];

	if (k->o->smooth && ml_is_float(x->type.dtype))
		return;
	ml_value *y = ml_build_cast(&k->b, x, to);
	bool stays = to == ML_f32 || to == ML_s32 || to == ML_s64;
	keep(k, stays ? y : ml_build_cast(&k->b, y, to == ML_s4 ? ML_s32 : ML_f32));
}

/* ---- steps: movement ---- */

static void
transpose_step(maker *k)
{
	ml_value *x = any(k);
	int64_t perm[ML_MAX_RANK];

	for (int i = 0; i < x->type.rank; i++) {
		int j = below(k, i + 1);
		perm[i] = perm[j];
		perm[j] = i;
	}
	keep(k, ml_build_transpose(&k->b, x, perm));
}

/* Joins two neighbouring dims, splits one, or adds a dim of size 1. */
static void
reshape_step(maker *k)
{
	ml_value *x = any(k);
	ml_dims *dims = k->b.m->dims;
	ml_dim shape[ML_MAX_RANK + 1];
	int rank = x->type.rank, at = rank ? below(k, rank) : 0, n = 0;
	int64_t size;

	for (int i = 0; i < rank; i++) {
		ml_dim d = x->type.dim[i];
		if (i == at && i + 1 < rank && below(k, 2)) {
			shape[n++] = ml_dim_mul(dims, d, x->type.dim[++i]);
		} else if (i == at && ml_dim_is_int(d, &size) && size % 2 == 0 && rank < 5) {
			shape[n++] = ml_dim_int(dims, 2);
			shape[n++] = ml_dim_int(dims, size / 2);
		} else {
			shape[n++] = d;
		}
	}
	if (below(k, 4) == 0 && n < 5)
		shape[n++] = ml_dim_int(dims, 1);
	keep(k, ml_build_reshape(&k->b, x, shape, n));
}

static void
broadcast_step(maker *k)
{
	ml_value *x = any(k);
	ml_dim shape[ML_MAX_RANK + 1];
	int rank = x->type.rank;

	if (rank > 3 || !small(x))
		return;
	shape[0] = ml_dim_int(k->b.m->dims, 1 + below(k, 3));
	for (int i = 0; i < rank; i++)
		shape[i + 1] = ml_dim_equals(x->type.dim[i], 1) && below(k, 2)
				       ? ml_dim_int(k->b.m->dims, 3)
				       : x->type.dim[i];
	keep(k, ml_build_broadcast(&k->b, x, shape, rank + 1));
}

static void
slice_step(maker *k)
{
	ml_value *x = any(k);
	ml_dims *dims = k->b.m->dims;
	ml_dim start[ML_MAX_RANK], size[ML_MAX_RANK];
	int64_t step[ML_MAX_RANK], whole;

	for (int i = 0; i < x->type.rank; i++) {
		start[i] = ml_dim_int(dims, 0);
		size[i] = x->type.dim[i];
		step[i] = 1;
		if (!ml_dim_is_int(size[i], &whole) || whole < 2 || below(k, 2))
			continue;
		int64_t first = below(k, (int)whole);
		step[i] = 1 + below(k, 2);
		start[i] = ml_dim_int(dims, first);
		size[i] = ml_dim_int(dims, (whole - first + step[i] - 1) / step[i]);
	}
	keep(k, ml_build_slice(&k->b, x, start, size, step));
}

static void
pad_step(maker *k)
{
	ml_value *x = any(k);
	ml_dims *dims = k->b.m->dims;
	ml_dim low[ML_MAX_RANK], high[ML_MAX_RANK];
	int64_t interior[ML_MAX_RANK];

	if (x->type.dtype == ML_bool || !small(x))
		return;
	for (int i = 0; i < x->type.rank; i++) {
		low[i] = ml_dim_int(dims, below(k, 3) / 2);
		high[i] = ml_dim_int(dims, below(k, 3) / 2);
		interior[i] = 0;
	}
	keep(k, ml_build_pad(&k->b, x, scalar(k, x->type.dtype), low, high, interior));
}

static void
concat_step(maker *k)
{
	ml_value *x = any(k), *y = partner(k, x);

	if (!x->type.rank || !small(x))
		return;
	ml_value *both[] = {x, ml_type_equal(&x->type, &y->type) ? y : x};
	keep(k, ml_build_concat(&k->b, both, 2, below(k, x->type.rank)));
}

static void
reverse_step(maker *k)
{
	ml_value *x = any(k);

	if (!x->type.rank)
		return;
	int64_t *axis = ML_NEW(&k->b.m->arena, int64_t);
	*axis = below(k, x->type.rank);
	ml_node *n = ml_begin(&k->b, ML_OP_reverse, &x, 1);
	if (!n)
		return;
	ML_A(n, reverse, axes) = (ml_attr){.ints = axis, .count = 1};
	keep(k, ml_finish1(&k->b, n));
}

/* Positions from a constant within the axis, some of them negative. */
static void
gather_step(maker *k)
{
	ml_value *x = any(k);
	int64_t size, index[3];

	if (!x->type.rank)
		return;
	int axis = below(k, x->type.rank);
	if (!ml_dim_is_int(x->type.dim[axis], &size) || !size)
		return;
	for (int i = 0; i < 3; i++)
		index[i] = below(k, 2 * (int)size) - size;
	keep(k, ml_build_gather(&k->b, x, ml_build_ints(&k->b, index, 1 + below(k, 3)), axis));
}

/* ---- steps: reductions, products, composites ---- */

static void
reduce_step(maker *k)
{
	static const ml_op ops[] = {ML_OP_reduce_sum, ML_OP_reduce_min, ML_OP_reduce_max,
				    ML_OP_reduce_mean};
	ml_value *x = any(k);

	if (!x->type.rank || x->type.dtype == ML_bool)
		return;
	int64_t axis = below(k, x->type.rank);
	int op = below(k, ml_is_float(x->type.dtype) ? 4 : 3);
	keep(k, ml_build_reduce(&k->b, ops[op], x, &axis, 1));
}

static void
scan_step(maker *k)
{
	ml_value *x = any_float(k);

	if (!x || !x->type.rank)
		return;
	ml_node *n = ml_begin(&k->b, ML_OP_scan_sum, &x, 1);
	if (!n)
		return;
	ML_A(n, scan_sum, axis).i64 = below(k, x->type.rank);
	ML_A(n, scan_sum, exclusive).i64 = below(k, 2);
	ML_A(n, scan_sum, reverse).i64 = below(k, 2);
	keep(k, ml_op1(&k->b, ML_OP_tanh, ml_finish1(&k->b, n)));
}

static void
softmax_step(maker *k)
{
	ml_value *x = any_float(k);

	if (!x || !x->type.rank)
		return;
	ml_node *n = ml_begin(&k->b, ML_OP_softmax, &x, 1);
	if (!n)
		return;
	ML_A(n, softmax, axis).i64 = below(k, x->type.rank);
	keep(k, ml_finish1(&k->b, n));
}

/* x . W (+ b), as dot and sum, or as a layer. */
static void
layer_step(maker *k)
{
	ml_value *x = any_float(k);
	int64_t inner, columns = 1 + below(k, 40), last, first = 0;

	if (!x || !x->type.rank || !ml_dim_is_int(x->type.dim[x->type.rank - 1], &inner) || !inner)
		return;
	x = ml_op1(&k->b, ML_OP_tanh, x);
	last = x->type.rank - 1;
	ml_value *w = weights(k, ML_f32, (int64_t[]){inner, columns}, 2);
	ml_value *bias = weights(k, ML_f32, &columns, 1);
	if (below(k, 2)) {
		keep(k, ml_op3(&k->b, ML_OP_linear, x, w, bias));
		return;
	}
	ml_value *y = ml_build_dot(&k->b, x, w, NULL, NULL, 0, &last, &first, 1);
	y = ml_op2(&k->b, ML_OP_add, y, bias);
	keep(k, below(k, 2) ? y : ml_op2(&k->b, ML_OP_mul, y, scalar(k, ML_f32)));
}

/* softmax(x x' scale + mask) x, spelled out. */
static void
attention_step(maker *k)
{
	ml_value *x = any_float(k);
	const int64_t batch[] = {0, 1}, last = 3, row = 2;

	if (!x || x->type.rank != 4 || !small(x))
		return;
	x = ml_op1(&k->b, ML_OP_tanh, x);
	ml_value *q = below(k, 2) ? x : ml_op2(&k->b, ML_OP_mul, x, scalar(k, ML_f32));
	ml_value *s = ml_build_dot(&k->b, q, x, batch, batch, 2, &last, &last, 1);
	if (below(k, 2))
		s = ml_op2(&k->b, ML_OP_mul, s, scalar(k, ML_f32));
	ml_node *n = s ? ml_begin(&k->b, ML_OP_softmax, &s, 1) : NULL;
	if (!n)
		return;
	ML_A(n, softmax, axis).i64 = 3;
	ml_value *p = ml_finish1(&k->b, n);
	keep(k, ml_build_dot(&k->b, p, x, batch, batch, 2, &last, &row, 1));
}

/* (x - mean) / sqrt(variance + eps) g + b, spelled out. */
static void
norm_step(maker *k)
{
	ml_value *x = any_float(k);
	int64_t size, axis;

	if (!x || !x->type.rank || !ml_dim_is_int(x->type.dim[x->type.rank - 1], &size) || !size)
		return;
	axis = x->type.rank - 1;
	ml_value *d =
		ml_op2(&k->b, ML_OP_sub, x, ml_build_reduce(&k->b, ML_OP_reduce_mean, x, &axis, 1));
	ml_value *v =
		ml_build_reduce(&k->b, ML_OP_reduce_mean, ml_op2(&k->b, ML_OP_mul, d, d), &axis, 1);
	v = ml_op2(&k->b, ML_OP_add, v, ml_build_f64(&k->b, ML_f32, 0.1));
	ml_value *y = ml_op2(&k->b, ML_OP_div, d, ml_op1(&k->b, ML_OP_sqrt, v));
	y = ml_op2(&k->b, ML_OP_mul, y, weights(k, ML_f32, &size, 1));
	keep(k, below(k, 2) ? y : ml_op2(&k->b, ML_OP_add, y, weights(k, ML_f32, &size, 1)));
}

/* Sizes as numbers: shape arithmetic. */
static void
size_step(maker *k)
{
	ml_value *x = any(k);

	if (x->type.rank)
		keep(k, ml_build_dim(&k->b, x->type.dim[below(k, x->type.rank)]));
}

/* ---- steps: control ---- */

static void some_steps(maker *, int n);

/* A body from x: a few steps, then back to x's type. */
static void
fill_body(maker *k, ml_block *body, int arg, bool loop)
{
	maker inner = {.r = k->r, .o = k->o, .depth = k->depth + 1};
	ml_value *x = body->arg[arg], *out[2];

	inner.b = ml_builder_at_end(body, NULL);
	keep(&inner, x);
	some_steps(&inner, 4);
	ml_value *y = x;
	for (int i = 0; i < inner.pool.count; i++)
		if (ml_type_equal(&inner.pool.at[i]->type, &x->type))
			y = inner.pool.at[i];
	out[0] = loop ? ml_build_f64(&inner.b, ML_bool, 1) : y;
	out[1] = ml_op1(&inner.b, ML_OP_tanh, y);
	k->r = inner.r;
	assert_int_equal(ml_build_yield(&inner.b, loop ? out : &out[1], loop ? 2 : 1), ML_OK);
}

static void
if_step(maker *k)
{
	ml_value *c = any_of(k, ML_bool), *x = any_float(k);

	if (!c || c->type.rank || !x || k->depth > 1)
		return;
	ml_value *in[] = {c, x};
	ml_node *n = ml_begin(&k->b, ML_OP_if, in, 2);
	for (int i = 0; i < 2; i++) {
		ml_block *body = ml_block_new(k->b.m, n);
		ml_block_add_arg(body, &x->type, NULL);
		fill_body(k, body, 0, false);
	}
	ml_set_results(&k->b, n, &x->type, 1);
	keep(k, ml_finish1(&k->b, n));
}

static void
loop_step(maker *k)
{
	ml_value *x = any_float(k);
	ml_type index = {.dtype = ML_s64};

	if (!x || k->depth > 1)
		return;
	ml_value *in[] = {ml_build_f64(&k->b, ML_s64, below(k, 4)), ml_build_f64(&k->b, ML_bool, 1),
			  x};
	ml_node *n = ml_begin(&k->b, ML_OP_loop, in, 3);
	ML_A(n, loop, carried).i64 = 1;
	ml_block *body = ml_block_new(k->b.m, n);
	ml_block_add_arg(body, &index, NULL);
	ml_block_add_arg(body, &x->type, NULL);
	fill_body(k, body, 1, true);
	ml_set_results(&k->b, n, &x->type, 1);
	keep(k, ml_finish1(&k->b, n));
}

/* ---- graphs ---- */

static step *const steps[] = {
	unary_step,     unary_step, positive_step,  binary_step, binary_step,    binary_step,
	integer_step,   logic_step, select_step,    cast_step,   transpose_step, reshape_step,
	broadcast_step, slice_step, pad_step,       concat_step, reverse_step,   gather_step,
	reduce_step,    scan_step,  softmax_step,   layer_step,  layer_step,     norm_step,
	attention_step, size_step,  transpose_step, reshape_step};

static void
some_steps(maker *k, int n)
{
	enum { STEPS = sizeof steps / sizeof *steps };

	for (int i = 0; i < n; i++) {
		int chosen = below(k, STEPS + 2);
		if (chosen < STEPS)
			steps[chosen](k);
		else if (chosen == STEPS)
			if_step(k);
		else
			loop_step(k);
	}
}

static void
add_inputs(maker *k)
{
	static const ml_dtype dtypes[] = {ML_f32, ML_f32, ML_s32, ML_s64, ML_bool, ML_bool};
	static const int sizes[] = {1, 2, 3, 4, 7, 16, 17, 32};
	ml_dims *dims = k->b.m->dims;
	ml_dim n = ml_dim_sym(dims, ml_sym_named(dims, "n", 1));

	for (int i = 0; i < 6; i++) {
		ml_type t = {.dtype = dtypes[i], .rank = i == 5 ? 0 : i == 1 ? 4 : 1 + below(k, 3)};
		for (int d = 0; d < t.rank; d++)
			t.dim[d] = ml_dim_int(dims, sizes[below(k, t.rank > 2 ? 5 : 8)]);
		if (t.rank)
			t.dim[below(k, t.rank)] = n;
		keep(k, ml_block_add_arg(k->b.block, &t, ml_format(&k->b.m->arena, "in%d", i)));
	}
}

ml_module *
fuzz_graph(ml_context *cx, uint64_t seed, const fuzz_options *o)
{
	ml_module *m = ml_module_new(cx, "fuzz");
	maker k = {.b = ml_builder_at_end(m->main, NULL), .r = {seed * 2654435761u + 1}, .o = o};
	ml_value *out[5];
	int n = 0;

	add_inputs(&k);
	int inputs = k.pool.count;
	some_steps(&k, o->steps);
	for (int i = k.pool.count - 1; i >= inputs && n < 4; i--)
		if (!k.pool.at[i]->uses)
			out[n++] = k.pool.at[i];
	/* Every size must follow from an input that is there. */
	out[n++] = k.pool.at[0];
	assert_int_equal(ml_build_yield(&k.b, out, n), ML_OK);
	for (int i = 0; i < n; i++)
		ML_PUSH(&m->arena, m->output_names, ml_format(&m->arena, "out%d", i));
	return m;
}
