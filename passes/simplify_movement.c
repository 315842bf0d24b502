/* simplify_movement.c -- fewer and simpler index maps: reshapes, transposes, slices, pads. */
#include "rules.h"
#include <string.h>

static bool
keeps_type(ml_match *m)
{
	return ml_type_equal(&GOT(m, x)->type, &m->root->out[0].type);
}

static int64_t *
new_ints(ml_match *m, int n)
{
	return ML_NEW_ARRAY(&m->b->m->arena, int64_t, n);
}

static bool
is_identity(const ml_attr *perm)
{
	for (int i = 0; i < perm->count; i++)
		if (perm->ints[i] != i)
			return false;
	return true;
}

static bool
identity_perm(ml_match *m)
{
	return is_identity(&GOT_ATTR(m, p));
}

/* outer after inner: dim i of the result is dim inner[outer[i]] of x. */
static bool
compose_perms(ml_match *m)
{
	const ml_attr *outer = &GOT_ATTR(m, p), *inner = &GOT_ATTR(m, q);
	int64_t *both = new_ints(m, outer->count);

	for (int i = 0; i < outer->count; i++)
		both[i] = inner->ints[outer->ints[i]];
	GOT_ATTR(m, r) = (ml_attr){.ints = both, .count = outer->count};
	return true;
}

/* Only dims of size 1 change their order relative to the others: bytes stay where they are. */
static bool
moves_unit_dims_only(ml_match *m)
{
	const ml_attr *perm = &GOT_ATTR(m, p);
	const ml_type *x = &GOT(m, x)->type;
	int64_t last = -1;

	for (int i = 0; i < perm->count; i++) {
		if (ml_dim_equals(x->dim[perm->ints[i]], 1))
			continue;
		if (perm->ints[i] < last)
			return false;
		last = perm->ints[i];
	}
	GOT_ATTR(m, s) = (ml_attr){.dims = m->root->out[0].type.dim, .count = perm->count};
	return true;
}

/* How many dims of `shape` from `at` on have the product `size`; 0 when none have. */
static int
split_of(ml_dims *dims, ml_dim size, const ml_attr *shape, int at)
{
	ml_dim product = NULL;

	for (int i = at; i < shape->count; i++) {
		product = product ? ml_dim_mul(dims, product, shape->dims[i]) : shape->dims[i];
		if (product == size)
			return i + 1 - at;
	}
	return 0;
}

/* The last reshape only splits dims, so it can come first: r permutes what u has split. */
static bool
splits_transposed(ml_match *m)
{
	const ml_attr *perm = &GOT_ATTR(m, p), *split = &GOT_ATTR(m, s), *joined = &GOT_ATTR(m, t);
	int first[ML_MAX_RANK], count[ML_MAX_RANK], at = 0, n = 0;
	ml_dim *shape = ML_NEW_ARRAY(&m->b->m->arena, ml_dim, split->count);
	int64_t *order = new_ints(m, split->count);

	for (int i = 0; i < perm->count; i++) {
		int64_t axis = perm->ints[i];
		first[axis] = at;
		count[axis] = split_of(m->b->m->dims, joined->dims[axis], split, at);
		at += count[axis];
		if (!count[axis])
			return false;
	}
	if (at != split->count)
		return false;
	for (int axis = 0; axis < perm->count; axis++)
		for (int i = first[axis]; i < first[axis] + count[axis]; i++) {
			order[i] = n;
			shape[n++] = split->dims[i];
		}
	GOT_ATTR(m, u) = (ml_attr){.dims = shape, .count = n};
	GOT_ATTR(m, r) = (ml_attr){.ints = order, .count = n};
	return true;
}

/* One number everywhere keeps being that wherever it is moved. */
static bool
spreads_one_number(ml_match *m)
{
	const ml_type *out = &m->root->out[0].type;

	GOT_ATTR(m, s) = (ml_attr){.dims = out->dim, .count = out->rank};
	return GOT(m, x)->type.rank == 0;
}

/* ---- dot reads a transposed operand by other axes ---- */

static ml_attr
through_perm(ml_match *m, const ml_attr *axes, const ml_attr *perm)
{
	int64_t *moved = new_ints(m, axes->count);

	for (int i = 0; i < axes->count; i++)
		moved[i] = perm->ints[axes->ints[i]];
	return (ml_attr){.ints = moved, .count = axes->count};
}

/* The free axes must keep their order, which is the order of the result's dims. */
static bool
keeps_free_order(const ml_attr *perm, const ml_attr *batch, const ml_attr *contract)
{
	int64_t last = -1;

	for (int i = 0; i < perm->count; i++) {
		bool taken = false;
		for (int k = 0; k < batch->count; k++)
			taken |= batch->ints[k] == i;
		for (int k = 0; k < contract->count; k++)
			taken |= contract->ints[k] == i;
		if (taken)
			continue;
		if (perm->ints[i] < last)
			return false;
		last = perm->ints[i];
	}
	return true;
}

static bool
right_through_transpose(ml_match *m)
{
	const ml_attr *perm = &GOT_ATTR(m, p);

	if (!keeps_free_order(perm, &GOT_ATTR(m, b), &GOT_ATTR(m, d)))
		return false;
	GOT_ATTR(m, b) = through_perm(m, &GOT_ATTR(m, b), perm);
	GOT_ATTR(m, d) = through_perm(m, &GOT_ATTR(m, d), perm);
	return true;
}

static bool
left_through_transpose(ml_match *m)
{
	const ml_attr *perm = &GOT_ATTR(m, p);

	if (!keeps_free_order(perm, &GOT_ATTR(m, a), &GOT_ATTR(m, c)))
		return false;
	GOT_ATTR(m, a) = through_perm(m, &GOT_ATTR(m, a), perm);
	GOT_ATTR(m, c) = through_perm(m, &GOT_ATTR(m, c), perm);
	return true;
}

/* A constant right operand is better transposed once, at compile time. */
static bool
right_is_computed(ml_match *m)
{
	return !ml_is_const(GOT(m, y)) && right_through_transpose(m);
}

/* ---- linear ---- */

/* The reshape in front only joins or splits rows: [.., k] -> [.., k]. */
static bool
reshapes_rows(ml_match *m)
{
	const ml_type *x = &GOT(m, x)->type, *out = &m->root->out[0].type;

	if (x->rank < 1 || x->dim[x->rank - 1] != GOT(m, w)->type.dim[0])
		return false;
	GOT_ATTR(m, s) = (ml_attr){.dims = out->dim, .count = out->rank};
	return true;
}

#define TRANSPOSE(letter, x) OPA(transpose, ATTRS(ATTR(transpose, perm, letter)), x)
#define RESHAPE(letter, x)   OPA(reshape, ATTRS(ATTR(reshape, shape, letter)), x)
#define BROADCAST(letter, x) OPA(broadcast, ATTRS(ATTR(broadcast, shape, letter)), x)
#define DOT_AXES                                                                                   \
	ATTRS(ATTR(dot, lhs_batch, a), ATTR(dot, rhs_batch, b), ATTR(dot, lhs_contract, c),        \
	      ATTR(dot, rhs_contract, d))

/* clang-format off */
static const ml_rule rules[] = {
	{"reshape_same",         .lhs = OP(reshape, ANY(x)), .rhs = ANY(x), .when = keeps_type},
	{"reshape_reshape",      .lhs = RESHAPE(s, OP(reshape, ANY(x))), .rhs = RESHAPE(s, ANY(x)), .shared = true},
	{"transpose_same",       .lhs = TRANSPOSE(p, ANY(x)), .rhs = ANY(x), .when = identity_perm},
	{"transpose_transpose",  .lhs = TRANSPOSE(p, TRANSPOSE(q, ANY(x))), .rhs = TRANSPOSE(r, ANY(x)),
	 .when = compose_perms, .shared = true},
	{"transpose_unit_dims",  .lhs = TRANSPOSE(p, ANY(x)), .rhs = RESHAPE(s, ANY(x)), .when = moves_unit_dims_only},
	{"reshape_split",        .lhs = RESHAPE(s, TRANSPOSE(p, RESHAPE(t, ANY(x)))), .rhs = TRANSPOSE(r, RESHAPE(u, ANY(x))),
	 .when = splits_transposed},
	{"broadcast_same",       .lhs = OP(broadcast, ANY(x)), .rhs = ANY(x), .when = keeps_type},
	{"broadcast_broadcast",  .lhs = BROADCAST(s, OP(broadcast, ANY(x))), .rhs = BROADCAST(s, ANY(x)), .shared = true},
	{"reshape_fill",         .lhs = OP(reshape, OP(broadcast, ANY(x))), .rhs = BROADCAST(s, ANY(x)), .when = spreads_one_number, .shared = true},
	{"transpose_fill",       .lhs = OP(transpose, OP(broadcast, ANY(x))), .rhs = BROADCAST(s, ANY(x)), .when = spreads_one_number, .shared = true},
	{"slice_fill",           .lhs = OP(slice, OP(broadcast, ANY(x))), .rhs = BROADCAST(s, ANY(x)), .when = spreads_one_number, .shared = true},
	{"slice_all",            .lhs = OP(slice, ANY(x)), .rhs = ANY(x), .when = keeps_type},
	{"pad_none",             .lhs = OP(pad, ANY(x), ANY(y)), .rhs = ANY(x), .when = keeps_type},
	{"concat_one",           .lhs = OP(concat, ANY(x)), .rhs = ANY(x)},
	{"dot_transposed_right", .lhs = OPA(dot, DOT_AXES, ANY(x), TRANSPOSE(p, ANY(y))),
	 .rhs = OPA(dot, DOT_AXES, ANY(x), ANY(y)), .when = right_is_computed, .shared = true},
	{"dot_transposed_left",  .lhs = OPA(dot, DOT_AXES, TRANSPOSE(p, ANY(x)), ANY(y)),
	 .rhs = OPA(dot, DOT_AXES, ANY(x), ANY(y)), .when = left_through_transpose, .shared = true},
	{"linear_rows",          .lhs = OP(linear, OP(reshape, ANY(x)), ANY(w)),
	 .rhs = RESHAPE(s, OP(linear, ANY(x), ANY(w))), .when = reshapes_rows, .shared = true},
	{"linear_bias_rows",     .lhs = OP(linear, OP(reshape, ANY(x)), ANY(w), ANY(b)),
	 .rhs = RESHAPE(s, OP(linear, ANY(x), ANY(w), ANY(b))), .when = reshapes_rows, .shared = true},
};
/* clang-format on */

ML_RULE_PASS(simplify_movement, ML_EXACT, rules,
	     "fewer and simpler reshapes, transposes, slices and pads");
