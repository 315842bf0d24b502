/* content.c -- symbolic evaluation of small integer tensors, so that shape arithmetic vanishes.
 *
 * The elements of integers and bools of rank 0 and 1 are known as dims when they follow from
 * constants and sizes.  Whatever cannot be told leaves the whole tensor unknown.
 */
#include "infer.h"
#include <string.h>

enum { MOST = 64 }; /* elements */

int64_t
ml_content_count(const ml_type *t)
{
	int64_t count;

	if (t->rank > 1 || (!ml_is_integer(t->dtype) && t->dtype != ML_bool))
		return -1;
	return ml_type_static_count(t, &count) && count <= MOST ? count : -1;
}

const ml_dim *
ml_content(ml_builder *b, ml_value *v, int64_t *count)
{
	*count = ml_content_count(&v->type);
	if (*count < 0 || v->content || !ml_is_const(v))
		return *count < 0 ? NULL : v->content;
	ml_dim *content = ML_NEW_ARRAY(&b->m->arena, ml_dim, *count);
	for (int64_t i = 0; i < *count; i++) {
		content[i] = ML_D(b, ml_const_s64(v, i));
		if (ml_dim_is_bad(content[i]) ||
		    (v->type.dtype == ML_u64 && ml_const_s64(v, i) < 0))
			return NULL; /* INT64_MIN or larger than any dim */
	}
	return v->content = content;
}

/* ---- one element; NULL when it cannot be told ---- */

static bool
both_ints(ml_dim x, ml_dim y, int64_t *a, int64_t *b)
{
	return ml_dim_is_int(x, a) && ml_dim_is_int(y, b);
}

/* Rounds toward zero; the formulas agree with dims' where nothing is negative. */
static ml_dim
divide(ml_builder *b, ml_op op, ml_dim x, ml_dim y)
{
	ml_dims *dims = b->m->dims;
	int64_t p, q, lo, hi;

	if (ml_dim_equals(y, 0))
		return ML_D(b, 0);
	if (both_ints(x, y, &p, &q) && op != ML_OP_mod)
		return q == -1 ? NULL : ML_D(b, op == ML_OP_div ? p / q : p % q);
	ml_dim_range(y, &lo, &hi);
	if (lo < 1 || (op != ML_OP_mod && !ml_dim_le(dims, ML_D(b, 0), x)))
		return NULL;
	return op == ML_OP_div ? ml_dim_floordiv(dims, x, y) : ml_dim_mod(dims, x, y);
}

/* Proven to be a position counted from the front or from the end. */
static ml_dim
wrapped(ml_builder *b, ml_dim i, ml_dim size)
{
	ml_dims *dims = b->m->dims;
	ml_dim zero = ML_D(b, 0), one = ML_D(b, 1), back = ml_dim_add(dims, i, size);

	if (ml_dim_le(dims, zero, i) && ml_dim_le(dims, ml_dim_add(dims, i, one), size))
		return i;
	return ml_dim_le(dims, ml_dim_add(dims, i, one), zero) && ml_dim_le(dims, zero, back)
		       ? back
		       : NULL;
}

/* 0 or 1 when proven. */
static ml_dim
compare(ml_builder *b, ml_op op, ml_dim x, ml_dim y)
{
	ml_dims *dims = b->m->dims;
	ml_dim one = ML_D(b, 1), zero = ML_D(b, 0);

	if (op == ML_OP_eq)
		return x == y ? one : ml_dim_never_equal(dims, x, y) ? zero : NULL;
	if (op == ML_OP_lt) {
		if (ml_dim_le(dims, ml_dim_add(dims, x, one), y))
			return one;
		return ml_dim_le(dims, y, x) ? zero : NULL;
	}
	if (ml_dim_le(dims, x, y))
		return one;
	return ml_dim_le(dims, ml_dim_add(dims, y, one), x) ? zero : NULL;
}

static ml_dim
logic(ml_builder *b, ml_op op, ml_dim x, ml_dim y)
{
	int64_t p, q;

	if (!both_ints(x, y, &p, &q))
		return NULL;
	return ML_D(b, op == ML_OP_and ? p & q : op == ML_OP_or ? p | q : p ^ q);
}

static ml_dim
magnitude(ml_builder *b, ml_dim x)
{
	ml_dims *dims = b->m->dims;

	return ml_dim_max(dims, x, ml_dim_sub(dims, ML_D(b, 0), x));
}

static ml_dim
element(ml_builder *b, const ml_node *n, ml_dim x, ml_dim y, ml_dim z)
{
	ml_dims *dims = b->m->dims;
	int64_t v;

	switch (n->op) {
	case ML_OP_cast:
		if (n->out[0].type.dtype != ML_bool)
			return x;
		x = compare(b, ML_OP_eq, x, ML_D(b, 0));
		return x ? ml_dim_sub(dims, ML_D(b, 1), x) : NULL;
	case ML_OP_neg: return ml_dim_sub(dims, ML_D(b, 0), x);
	case ML_OP_abs: return magnitude(b, x);
	case ML_OP_not:
		return n->out[0].type.dtype == ML_bool ? ml_dim_sub(dims, ML_D(b, 1), x) : NULL;
	case ML_OP_add: return ml_dim_add(dims, x, y);
	case ML_OP_sub: return ml_dim_sub(dims, x, y);
	case ML_OP_mul: return ml_dim_mul(dims, x, y);
	case ML_OP_div:
	case ML_OP_rem:
	case ML_OP_mod: return divide(b, n->op, x, y);
	case ML_OP_min: return ml_dim_min(dims, x, y);
	case ML_OP_max: return ml_dim_max(dims, x, y);
	case ML_OP_and:
	case ML_OP_or:
	case ML_OP_xor: return logic(b, n->op, x, y);
	case ML_OP_eq:
	case ML_OP_lt:
	case ML_OP_le: return compare(b, n->op, x, y);
	case ML_OP_wrap_index: return wrapped(b, x, ML_A(n, wrap_index, size).dims[0]);
	case ML_OP_select: return x && ml_dim_is_int(x, &v) ? (v ? y : z) : y == z ? y : NULL;
	default: return NULL;
	}
}

/* ---- whole tensors: false when unknown ---- */

typedef struct ml_contents {
	const ml_dim *in[3];
	int64_t count[3], n; /* n elements of the result, */
	ml_dim out[MOST];    /* which are these */
} ml_contents;

static bool
elementwise(ml_builder *b, const ml_node *n, ml_contents *c)
{
	for (int64_t i = 0; i < c->n; i++) {
		ml_dim x[3] = {NULL};
		for (int k = 0; k < n->nin; k++)
			x[k] = c->in[k] ? c->in[k][c->count[k] == 1 ? 0 : i] : NULL;
		c->out[i] = element(b, n, x[0], x[1], x[2]);
		if (!c->out[i])
			return false;
	}
	return true;
}

static bool
iota(ml_builder *b, ml_contents *c)
{
	for (int64_t i = 0; i < c->n; i++)
		c->out[i] = ML_D(b, i);
	return true;
}

static bool
slice(const ml_node *n, ml_contents *c)
{
	int64_t start = 0;

	if (n->out[0].type.rank && !ml_dim_is_int(ML_A(n, slice, start).dims[0], &start))
		return false;
	for (int64_t i = 0; i < c->n; i++) {
		int64_t step = n->out[0].type.rank ? ML_A(n, slice, step).ints[0] : 1;
		if (start < 0 || step > MOST || start + i * step >= c->count[0])
			return false;
		c->out[i] = c->in[0][start + i * step];
	}
	return true;
}

static bool
gather(const ml_node *n, ml_contents *c)
{
	if (ml_in(n, 0)->type.rank != 1)
		return false;
	for (int64_t i = 0; i < c->n; i++) {
		int64_t at;
		if (!ml_dim_is_int(c->in[1][i], &at))
			return false;
		at += at < 0 ? c->count[0] : 0;
		if (at < 0 || at >= c->count[0])
			return false; /* fails when it runs */
		c->out[i] = c->in[0][at];
	}
	return true;
}

static bool
concat(ml_builder *b, const ml_node *n, ml_contents *c)
{
	int64_t at = 0, count;

	for (int i = 0; i < n->nin; i++) {
		const ml_dim *part = ml_content(b, ml_in(n, i), &count);
		if (!part)
			return false;
		for (int64_t k = 0; k < count; k++)
			c->out[at++] = part[k];
	}
	return true;
}

static bool
reduce(ml_builder *b, const ml_node *n, ml_contents *c)
{
	ml_dims *dims = b->m->dims;
	bool fold = n->attr[0].count; /* the axis, if it is reduced at all */
	int64_t i = 0;

	if (!fold) {
		memcpy(c->out, c->in[0], (size_t)c->n * sizeof *c->out);
		return true;
	}
	if (n->op == ML_OP_reduce_sum || n->op == ML_OP_reduce_prod)
		c->out[0] = ML_D(b, n->op == ML_OP_reduce_prod);
	else if (c->count[0])
		c->out[0] = c->in[0][i++];
	else
		return false;
	for (; i < c->count[0]; i++) {
		ml_dim x = c->out[0], y = c->in[0][i];
		c->out[0] = n->op == ML_OP_reduce_sum    ? ml_dim_add(dims, x, y)
			    : n->op == ML_OP_reduce_prod ? ml_dim_mul(dims, x, y)
			    : n->op == ML_OP_reduce_min  ? ml_dim_min(dims, x, y)
							 : ml_dim_max(dims, x, y);
	}
	return true;
}

/* Moves that keep the order of elements of rank <= 1, or repeat a single one. */
static bool
repeat(ml_contents *c)
{
	for (int64_t i = 0; i < c->n; i++)
		c->out[i] = c->in[0][c->count[0] == 1 ? 0 : i];
	return true;
}

static bool
reverse(const ml_node *n, ml_contents *c)
{
	bool turn = ML_A(n, reverse, axes).count;

	for (int64_t i = 0; i < c->n; i++)
		c->out[i] = c->in[0][turn ? c->n - 1 - i : i];
	return true;
}

static bool
compute(ml_builder *b, const ml_node *n, ml_contents *c)
{
	switch (n->op) {
	case ML_OP_dim: c->out[0] = ML_A(n, dim, value).dims[0]; return true;
	case ML_OP_iota: return iota(b, c);
	case ML_OP_concat: return concat(b, n, c);
	case ML_OP_gather: return gather(n, c);
	case ML_OP_slice: return slice(n, c);
	case ML_OP_reverse: return reverse(n, c);
	case ML_OP_reshape:
	case ML_OP_broadcast:
	case ML_OP_transpose: return repeat(c);
	case ML_OP_reduce_sum:
	case ML_OP_reduce_prod:
	case ML_OP_reduce_min:
	case ML_OP_reduce_max: return reduce(b, n, c);
	default: return ml_op_get(n->op)->cls == ML_ELEMENTWISE && elementwise(b, n, c);
	}
}

/* The element as the dtype holds it.  A size that may not fit 32 bits becomes a guard, because
 * models like to compute shapes in s32. */
static bool
fit(ml_builder *b, ml_dtype t, ml_dim *d)
{
	int bits = ml_dtype_bits(t);
	bool is_signed = ml_dtype_kind_of(t) == ML_KIND_SIGNED;
	int64_t lo, hi, v, most = INT64_MAX >> (64 - bits), least = is_signed ? -most - 1 : 0;
	uint64_t bytes = 0;

	if (!*d || ml_dim_is_bad(*d))
		return false;
	if (t == ML_s64 || t == ML_bool)
		return true;
	if (!is_signed && bits < 64)
		most = (int64_t)(UINT64_MAX >> (64 - bits));
	ml_dim_range(*d, &lo, &hi);
	if (lo >= least && hi <= most)
		return true;
	if (ml_dim_is_int(*d, &v) && bits < 64) {
		ml_write_s64(t, &bytes, 0, v);
		*d = ML_D(b, ml_read_s64(t, &bytes, 0));
		return true;
	}
	return bits == 32 && lo >= least &&
	       ml_require_le(b, *d, ML_D(b, most), "sizes fit 32 bits");
}

void
ml_infer_content(ml_builder *b, ml_node *n)
{
	ml_contents c = {0};

	if (n->nout != 1 || n->op == ML_OP_const || (n->nin > 3 && n->op != ML_OP_concat))
		return; /* constants are read when someone asks */
	ml_value *result = &n->out[0];
	c.n = ml_content_count(&result->type);
	if (c.n < 0)
		return;
	for (int i = 0; i < n->nin && i < 3; i++) {
		c.in[i] = ml_content(b, ml_in(n, i), &c.count[i]);
		if (!c.in[i] && (n->op != ML_OP_select || i))
			return; /* either way of an unknown choice may be the same */
	}
	if (!compute(b, n, &c))
		return;
	for (int64_t i = 0; i < c.n; i++)
		if (!fit(b, result->type.dtype, &c.out[i]))
			return;
	ml_dim *content = ML_NEW_ARRAY(&b->m->arena, ml_dim, c.n);
	if (c.n)
		memcpy(content, c.out, (size_t)c.n * sizeof *content);
	result->content = content;
}

/* What a value's users compute from contents that are new. */
void
ml_spread_content(ml_value *v)
{
	ml_arena *arena = &ml_value_block(v)->module->arena;
	ML_VEC(ml_value *) known = {0};

	ML_PUSH(arena, known, v);
	while (known.count) {
		v = known.at[--known.count];
		for (ml_use *u = v->uses; u; u = u->next) {
			ml_node *n = u->user;
			if (n->nout != 1 || n->out[0].content)
				continue;
			ml_builder b = ml_builder_before(n);
			ml_infer_content(&b, n);
			if (n->out[0].content)
				ML_PUSH(arena, known, &n->out[0]);
		}
	}
}
