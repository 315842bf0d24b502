/* narrow.c -- makes values narrower by asking for narrower operands, back to constants and to the
 * columns of layers.  Narrower nodes stand beside the old ones, which then nobody reads. */
#include "narrow.h"
#include "../pass.h"
#include <string.h>

enum { DEEPEST = 200 };

typedef struct made {
	const ml_value *from;
	int axis;
	ml_places places;
	ml_value *to;
} made;

typedef struct narrowing {
	ml_arena *arena;
	ML_VEC(made) done;
	int depth;
} narrowing;

static ml_value *narrow(narrowing *, ml_value *, int axis, const ml_places *);

static bool
same_places(const ml_places *a, const ml_places *b)
{
	return a->count == b->count && a->of == b->of &&
	       !memcmp(a->at, b->at, (size_t)a->count * sizeof *a->at);
}

/* A node like n, with its attributes and these operands, before n; unfinished. */
static ml_node *
begin_like(ml_builder *b, const ml_node *n, ml_value *const *in)
{
	ml_node *copy = ml_begin(b, n->op, in, n->nin);

	if (copy)
		memcpy(copy->attr, n->attr, (size_t)ml_op_get(n->op)->nattrs * sizeof *copy->attr);
	return copy;
}

static ml_value **
operands(const narrowing *w, const ml_node *n)
{
	ml_value **in = ML_NEW_ARRAY(w->arena, ml_value *, n->nin + 1);

	for (int i = 0; i < n->nin; i++)
		in[i] = ml_in(n, i);
	return in;
}

/* ---- constants and layers ---- */

static ml_value *
narrow_const(ml_builder *b, const ml_value *v, int axis, const ml_places *p)
{
	ml_type t = v->type;
	const char *from = ml_const_blob(v)->bytes;
	int64_t count, inner = 1, outer;
	void *bytes;

	if (!ml_type_static_count(&t, &count) || p->of == 0)
		return NULL;
	for (int i = axis + 1; i < t.rank; i++) {
		int64_t d = 1;
		ml_dim_is_int(t.dim[i], &d);
		inner *= d;
	}
	outer = count / p->of / inner;
	size_t run = (size_t)inner * (size_t)ml_dtype_bytes(t.dtype);
	ml_blob *blob = ml_blob_new(b->m->arena.memory, (uint64_t)(outer * p->count) * run, &bytes);
	char *to = bytes;
	for (int64_t o = 0; o < outer; o++)
		for (int64_t i = 0; i < p->count; i++, to += run)
			memcpy(to, from + (size_t)(o * p->of + p->at[i]) * run, run);
	t.dim[axis] = ml_dim_int(b->m->dims, p->count);
	return ml_build_const(b, &t, blob);
}

static ml_value *
narrow_linear(narrowing *w, ml_builder *b, ml_node *n, int axis, const ml_places *p)
{
	ml_value **in = operands(w, n);

	if (axis != n->out[0].type.rank - 1 || !ml_is_const(in[1]) ||
	    (n->nin > 2 && !ml_is_const(in[2])))
		return NULL;
	in[1] = narrow_const(b, in[1], 1, p);
	if (n->nin > 2)
		in[2] = narrow_const(b, in[2], 0, p);
	ml_node *copy = begin_like(b, n, in);
	return copy ? ml_finish1(b, copy) : NULL;
}

/* Each channel by itself. */
static bool
is_depthwise(const ml_node *n)
{
	int64_t groups = ML_A(n, conv, groups).i64;

	return groups > 1 && ml_dim_equals(ml_in(n, 0)->type.dim[1], groups) &&
	       ml_dim_equals(n->out[0].type.dim[1], groups);
}

static ml_value *
narrow_conv(narrowing *w, ml_builder *b, ml_node *n, int axis, const ml_places *p)
{
	ml_value **in = operands(w, n);
	bool depthwise = is_depthwise(n);

	if (axis != 1 || !ml_is_const(in[1]) || (n->nin > 2 && !ml_is_const(in[2])) ||
	    (ML_A(n, conv, groups).i64 != 1 && !depthwise))
		return NULL;
	if (depthwise && !(in[0] = narrow(w, in[0], 1, p)))
		return NULL;
	in[1] = narrow_const(b, in[1], 0, p);
	if (n->nin > 2)
		in[2] = narrow_const(b, in[2], 0, p);
	ml_node *copy = begin_like(b, n, in);
	if (copy && depthwise)
		ML_A(copy, conv, groups).i64 = p->count;
	return copy ? ml_finish1(b, copy) : NULL;
}

/* ---- nodes that keep the axis ---- */

/* Operands broadcast as in NumPy. */
static ml_value *
narrow_elementwise(narrowing *w, ml_builder *b, ml_node *n, int axis, const ml_places *p)
{
	ml_value **in = operands(w, n);
	int rank = n->out[0].type.rank;

	for (int i = 0; i < n->nin; i++) {
		int at = axis - (rank - in[i]->type.rank);
		if (at < 0 || ml_dim_equals(in[i]->type.dim[at], 1))
			continue;
		in[i] = narrow(w, in[i], at, p);
		if (!in[i])
			return NULL;
	}
	ml_node *copy = begin_like(b, n, in);
	return copy ? ml_finish1(b, copy) : NULL;
}

/* The first operand alone has the axis, at the same place. */
static ml_value *
narrow_first(narrowing *w, ml_builder *b, ml_node *n, int axis, const ml_places *p)
{
	ml_value **in = operands(w, n);

	in[0] = narrow(w, in[0], axis, p);
	if (!in[0])
		return NULL;
	ml_node *copy = begin_like(b, n, in);
	return copy ? ml_finish1(b, copy) : NULL;
}

static bool
is_among(const ml_attr *axes, int axis)
{
	for (int i = 0; i < axes->count; i++)
		if (axes->ints[i] == axis)
			return true;
	return false;
}

static ml_value *
narrow_batch_norm(narrowing *w, ml_builder *b, ml_node *n, int axis, const ml_places *p)
{
	ml_value **in = operands(w, n);

	for (int i = 0; i < n->nin && axis == 1; i++)
		if (!(in[i] = narrow(w, in[i], i ? 0 : 1, p)))
			return NULL;
	ml_node *copy = axis == 1 ? begin_like(b, n, in) : NULL;
	return copy ? ml_finish1(b, copy) : NULL;
}

/* ---- movement ---- */

static ml_value *
narrow_transpose(narrowing *w, ml_builder *b, ml_node *n, int axis, const ml_places *p)
{
	const ml_attr *perm = &ML_A(n, transpose, perm);
	ml_value *x = narrow(w, ml_in(n, 0), (int)perm->ints[axis], p);

	return x ? ml_build_transpose(b, x, perm->ints) : NULL;
}

/* Every place stands for `by` neighbours. */
static ml_places
split_places(narrowing *w, const ml_places *p, int64_t by)
{
	int64_t *at = ML_NEW_ARRAY(w->arena, int64_t, p->count *by + 1);

	for (int64_t i = 0; i < p->count * by; i++)
		at[i] = p->at[i / by] * by + i % by;
	return (ml_places){at, p->count * by, p->of * by};
}

/* Neighbours that are kept together; count 0 when some are kept alone. */
static ml_places
merge_places(narrowing *w, const ml_places *p, int64_t by)
{
	int64_t *at = ML_NEW_ARRAY(w->arena, int64_t, p->count / by + 1);
	ml_places none = {at, 0, 1};

	if (p->count % by || p->of % by)
		return none;
	for (int64_t i = 0; i < p->count; i++) {
		if (p->at[i] != p->at[i / by * by] / by * by + i % by)
			return none;
		at[i / by] = p->at[i] / by;
	}
	return (ml_places){at, p->count / by, p->of / by};
}

/* The operand's axis that begins where this one does, without sizes of 1. */
static int
axis_before_reshape(ml_dims *dims, const ml_type *in, const ml_type *out, int axis)
{
	ml_dim before = ml_dim_product(dims, out->dim, axis);

	for (int i = 0; i < in->rank; i++)
		if (ml_dim_product(dims, in->dim, i) == before && !ml_dim_equals(in->dim[i], 1))
			return i;
	return -1;
}

static ml_value *
narrow_reshape(narrowing *w, ml_builder *b, ml_node *n, int axis, const ml_places *p)
{
	ml_value *x = ml_in(n, 0);
	const ml_type *in = &x->type, *out = &n->out[0].type;
	int at = axis_before_reshape(b->m->dims, in, out, axis);
	ml_dim shape[ML_MAX_RANK];
	ml_places own = *p;
	int64_t have;

	if (at < 0 || !ml_dim_is_int(in->dim[at], &have))
		return NULL;
	if (have > p->of && have % p->of == 0) /* the axis was split */
		own = split_places(w, p, have / p->of);
	else if (have < p->of && have > 0 && p->of % have == 0) /* joined with those behind it */
		own = merge_places(w, p, p->of / have);
	else if (have != p->of)
		return NULL;
	if (!own.count || !(x = narrow(w, x, at, &own)))
		return NULL;
	memcpy(shape, out->dim, sizeof shape);
	shape[axis] = ml_dim_int(b->m->dims, p->count);
	return ml_build_reshape(b, x, shape, out->rank);
}

static ml_value *
narrow_slice(narrowing *w, ml_builder *b, ml_node *n, int axis, const ml_places *p)
{
	ml_value *x = ml_in(n, 0);
	int64_t first, have, step = ML_A(n, slice, step).ints[axis];
	ml_dim start[ML_MAX_RANK], size[ML_MAX_RANK];
	int64_t steps[ML_MAX_RANK];

	if (!ml_dim_is_int(ML_A(n, slice, start).dims[axis], &first) ||
	    !ml_dim_is_int(x->type.dim[axis], &have))
		return NULL;
	int64_t *at = ML_NEW_ARRAY(w->arena, int64_t, p->count + 1);
	for (int64_t i = 0; i < p->count; i++)
		at[i] = first + p->at[i] * step;
	x = narrow(w, x, axis, &(ml_places){at, p->count, have});
	if (!x)
		return NULL;
	for (int i = 0; i < x->type.rank; i++) {
		start[i] = ML_A(n, slice, start).dims[i];
		size[i] = ML_A(n, slice, size).dims[i];
		steps[i] = ML_A(n, slice, step).ints[i];
	}
	start[axis] = ml_dim_int(b->m->dims, 0);
	size[axis] = ml_dim_int(b->m->dims, p->count);
	steps[axis] = 1;
	return ml_build_slice(b, x, start, size, steps);
}

static ml_value *
narrow_concat(narrowing *w, ml_builder *b, ml_node *n, int axis, const ml_places *p)
{
	ml_value **in = operands(w, n);
	int64_t first = 0;
	int parts = 0;

	if (ML_A(n, concat, axis).i64 != axis) {
		for (int i = 0; i < n->nin; i++)
			if (!(in[i] = narrow(w, in[i], axis, p)))
				return NULL;
		return ml_build_concat(b, in, n->nin, (int)ML_A(n, concat, axis).i64);
	}
	for (int i = 0; i < n->nin; i++) {
		int64_t have;
		ml_places own = {.at = NULL};
		if (!ml_dim_is_int(in[i]->type.dim[axis], &have))
			return NULL;
		int64_t *at = ML_NEW_ARRAY(w->arena, int64_t, p->count + 1);
		for (int64_t k = 0; k < p->count; k++)
			if (p->at[k] >= first && p->at[k] < first + have)
				at[own.count++] = p->at[k] - first;
		own.at = at;
		own.of = have;
		first += have;
		if (own.count && !(in[parts++] = narrow(w, in[i], axis, &own)))
			return NULL;
	}
	return parts == 1 ? in[0] : ml_build_concat(b, in, parts, axis);
}

static ml_value *
narrow_broadcast(narrowing *w, ml_builder *b, ml_node *n, int axis, const ml_places *p)
{
	const ml_type *out = &n->out[0].type;
	ml_value *x = ml_in(n, 0);
	int at = axis - (out->rank - x->type.rank);
	ml_dim shape[ML_MAX_RANK];

	if (at >= 0 && !ml_dim_equals(x->type.dim[at], 1) && !(x = narrow(w, x, at, p)))
		return NULL;
	memcpy(shape, out->dim, sizeof shape);
	shape[axis] = ml_dim_int(b->m->dims, p->count);
	return ml_build_broadcast(b, x, shape, out->rank);
}

/* ---- attention ---- */

/* Whole groups of heads: what shares keys and values stays together. */
static ml_value *
narrow_attention(narrowing *w, ml_builder *b, ml_node *n, int axis, const ml_places *p)
{
	ml_value **in = operands(w, n);
	int64_t groups;

	if (axis != 1 || !ml_dim_is_int(in[1]->type.dim[1], &groups) || !groups || p->of % groups)
		return NULL;
	ml_places own = merge_places(w, p, p->of / groups);
	if (!own.count || !(in[0] = narrow(w, in[0], 1, p)))
		return NULL;
	for (int i = 1; i < 3; i++)
		if (!(in[i] = narrow(w, in[i], 1, &own)))
			return NULL;
	if (n->nin > 3) {
		int at = in[3]->type.rank - 3;
		if (at >= 0 && !ml_dim_equals(in[3]->type.dim[at], 1) &&
		    !(in[3] = narrow(w, in[3], at, p)))
			return NULL;
	}
	ml_node *copy = begin_like(b, n, in);
	return copy ? ml_finish1(b, copy) : NULL;
}

/* ---- any value ---- */

static ml_value *
narrow_node(narrowing *w, ml_builder *b, ml_node *n, int axis, const ml_places *p)
{
	const ml_op_info *info = ml_op_get(n->op);

	if (n->nout != 1)
		return NULL;
	if (info->cls == ML_ELEMENTWISE)
		return narrow_elementwise(w, b, n, axis, p);
	if (info->cls == ML_REDUCE && info->attr && info->attr[0].kind == ML_ATTR_ints)
		return is_among(&n->attr[0], axis) ? NULL : narrow_first(w, b, n, axis, p);
	switch (n->op) {
	case ML_OP_const: return narrow_const(b, &n->out[0], axis, p);
	case ML_OP_linear: return narrow_linear(w, b, n, axis, p);
	case ML_OP_conv: return narrow_conv(w, b, n, axis, p);
	case ML_OP_gelu:
	case ML_OP_sigmoid: return narrow_elementwise(w, b, n, axis, p);
	case ML_OP_batch_norm: return narrow_batch_norm(w, b, n, axis, p);
	case ML_OP_transpose: return narrow_transpose(w, b, n, axis, p);
	case ML_OP_reshape: return narrow_reshape(w, b, n, axis, p);
	case ML_OP_slice: return narrow_slice(w, b, n, axis, p);
	case ML_OP_concat: return narrow_concat(w, b, n, axis, p);
	case ML_OP_broadcast: return narrow_broadcast(w, b, n, axis, p);
	case ML_OP_attention: return narrow_attention(w, b, n, axis, p);
	case ML_OP_reduce_mean:
		return is_among(&ML_A(n, reduce_mean, axes), axis) ? NULL
								   : narrow_first(w, b, n, axis, p);
	case ML_OP_softmax:
		return ML_A(n, softmax, axis).i64 == axis ? NULL : narrow_first(w, b, n, axis, p);
	case ML_OP_window:
		return axis >= ml_in(n, 0)->type.rank - ML_A(n, window, size).count
			       ? NULL
			       : narrow_first(w, b, n, axis, p);
	case ML_OP_pad:
		return ml_dim_equals(ML_A(n, pad, low).dims[axis], 0) &&
				       ml_dim_equals(ML_A(n, pad, high).dims[axis], 0) &&
				       ML_A(n, pad, interior).ints[axis] == 0
			       ? narrow_first(w, b, n, axis, p)
			       : NULL;
	default: return NULL;
	}
}

static ml_value *
narrow(narrowing *w, ml_value *v, int axis, const ml_places *p)
{
	if (!v->def || axis < 0 || axis >= v->type.rank || w->depth == DEEPEST ||
	    !ml_dim_equals(v->type.dim[axis], p->of))
		return NULL;
	for (int i = 0; i < w->done.count; i++)
		if (w->done.at[i].from == v && w->done.at[i].axis == axis &&
		    same_places(&w->done.at[i].places, p))
			return w->done.at[i].to;
	ml_builder b = ml_builder_before(v->def);
	w->depth++;
	ml_value *to = narrow_node(w, &b, v->def, axis, p);
	w->depth--;
	if (!to)
		return NULL;
	to->name = v->name;
	ML_PUSH(w->arena, w->done, ((made){v, axis, *p, to}));
	return to;
}

/* ---- layers ---- */

bool
ml_is_narrowable(const ml_node *n)
{
	if (n->op != ML_OP_linear && n->op != ML_OP_conv)
		return false;
	return ml_is_const(ml_in(n, 1)) && ml_in(n, 1)->type.dtype == ML_f32 &&
	       (n->op == ML_OP_linear || ML_A(n, conv, groups).i64 == 1) && ml_input_width(n) > 1;
}

int64_t
ml_input_width(const ml_node *n)
{
	int64_t width = 0;

	ml_dim_is_int(ml_in(n, 1)->type.dim[n->op == ML_OP_conv], &width);
	return width;
}

/* Those that nobody reads any more give their ids to what stands for them. */
static void
hand_ids_over(const narrowing *w)
{
	for (int i = 0; i < w->done.count; i++) {
		const made *m = &w->done.at[i];
		if (m->from->def->block || !m->from->def->id || !m->to->def->block ||
		    m->from->def->op != m->to->def->op)
			continue;
		m->to->def->id = m->from->def->id;
		m->from->def->id = 0;
	}
}

bool
ml_narrow_input(ml_module *m, ml_node **layer, const ml_places *p, ml_arena *arena)
{
	narrowing w = {.arena = arena};
	ml_node *n = *layer;
	ml_builder b = ml_builder_before(n);
	int weight_axis = n->op == ML_OP_conv;
	ml_value **in = operands(&w, n);
	int axis = n->op == ML_OP_conv ? 1 : in[0]->type.rank - 1;
	int diags = m->cx->diags.count, errors = m->cx->errors;

	in[0] = narrow(&w, in[0], axis, p);
	if (in[0])
		in[1] = narrow_const(&b, in[1], weight_axis, p);
	ml_node *copy = in[0] && in[1] ? begin_like(&b, n, in) : NULL;
	ml_value *y = copy ? ml_finish1(&b, copy) : NULL;
	if (!y) { /* what an operator did not take is no error */
		m->cx->diags.count = diags;
		m->cx->errors = errors;
		ml_drop_unused(m->main);
		return false;
	}
	ML_PUSH(arena, w.done, ((made){&n->out[0], -1, *p, y}));
	y->name = n->out[0].name;
	ml_replace_uses(&n->out[0], y);
	ml_drop_unused(m->main);
	hand_ids_over(&w);
	*layer = y->def;
	return true;
}
