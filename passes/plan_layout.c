/* plan_layout.c -- images are computed channels last: convolutions, pools and what lies between.
 *
 * ONNX has images as [N, C, spatial..].  Contractions give their result as [N, spatial.., C], and
 * read windows of an image in runs of neighbouring channels when it lies that way, too.  So a value
 * that is computed channels last and then *turned*, by the transpose to [N, C, spatial..], is the
 * seed; walking forward, every operator that can do its work before the turn does so, and the turn
 * moves behind it, until it meets a window, which as an index map takes it for free, or the edge of
 * what is known.  What windows read and nobody has computed channels last is brought there once.
 */
#include "pass.h"
#include <string.h>

typedef struct layout {
	ml_pass_ctx *px;
	ml_builder b; /* before the node being looked at */
} layout;

/* ---- turns ---- */

/* Dim i of [N, C, spatial..] among those of [N, spatial.., C]. */
static int64_t
last_axis(int rank, int64_t i)
{
	return i == 0 ? 0 : i == 1 ? rank - 1 : i - 1;
}

static bool
turns_back(const ml_node *n)
{
	const ml_attr *perm = &ML_A(n, transpose, perm);

	if (n->op != ML_OP_transpose || perm->count < 3)
		return false;
	for (int i = 0; i < perm->count; i++)
		if (perm->ints[i] != last_axis(perm->count, i))
			return false;
	return true;
}

static bool
is_turned(const ml_value *v)
{
	return v && v->def && turns_back(v->def);
}

static ml_value *
turned(layout *l, ml_value *v)
{
	int64_t perm[ML_MAX_RANK];

	for (int i = 0; v && i < v->type.rank; i++)
		perm[i] = last_axis(v->type.rank, i);
	return v ? ml_build_transpose(&l->b, v, perm) : NULL;
}

/* Sizes in channels-last order. */
static void
move_dims(int rank, const ml_dim *from, ml_dim *to)
{
	for (int i = 0; i < rank; i++)
		to[last_axis(rank, i)] = from[i];
}

/* Neighbours differ in dims of size 1 only: bytes stay where they are. */
static bool
moves_nothing(const ml_type *t)
{
	int wide = 0;

	if (ml_dim_equals(t->dim[1], 1))
		return true;
	for (int i = 2; i < t->rank; i++)
		wide += !ml_dim_equals(t->dim[i], 1);
	return wide == 0;
}

/* v[N, C, spatial..] as [N, spatial.., C]. */
static ml_value *
channels_last(layout *l, ml_value *v)
{
	int rank = v->type.rank;
	int64_t perm[ML_MAX_RANK];
	ml_dim shape[ML_MAX_RANK];

	if (is_turned(v))
		return ml_in(v->def, 0);
	for (int i = 0; i < rank; i++)
		perm[last_axis(rank, i)] = i;
	if (!moves_nothing(&v->type))
		return ml_build_transpose(&l->b, v, perm);
	move_dims(rank, v->type.dim, shape);
	return ml_build_reshape(&l->b, v, shape, rank);
}

/* An operand that broadcasts to `rank` dims. */
static ml_value *
broadcast_last(layout *l, ml_value *v, int rank)
{
	int own = v->type.rank;
	ml_dim shape[ML_MAX_RANK];

	if (own == 0)
		return v;
	if (ml_dim_equals(ml_type_count(l->b.m->dims, &v->type), 1))
		return ml_build_reshape(&l->b, v, NULL, 0);
	if (own == rank)
		return channels_last(l, v);
	for (int i = 0; i < rank; i++)
		shape[i] = i < rank - own ? ml_dim_int(l->b.m->dims, 1)
					  : v->type.dim[i - (rank - own)];
	v = ml_build_reshape(&l->b, v, shape, rank);
	return v ? channels_last(l, v) : NULL;
}

/* ---- operators that work before the turn ---- */

/* A copy of n on other operands, its attributes those of n. */
static ml_value *
same_node(layout *l, const ml_node *n, ml_value *const *in)
{
	ml_node *copy = ml_begin(&l->b, n->op, in, n->nin);

	if (!copy)
		return NULL;
	memcpy(copy->attr, n->attr, (size_t)ml_op_get(n->op)->nattrs * sizeof *n->attr);
	return ml_finish1(&l->b, copy);
}

static bool
is_elementwise(const ml_node *n)
{
	switch (n->op) {
	case ML_OP_gelu:
	case ML_OP_sigmoid:
	case ML_OP_quantize:
	case ML_OP_dequantize: return true;
	case ML_OP_wrap_index: return false;
	default: return ml_op_get(n->op)->cls == ML_ELEMENTWISE;
	}
}

static bool
any_turned(const ml_node *n)
{
	for (int i = 0; i < n->nin; i++)
		if (is_turned(ml_in(n, i)) && ml_in(n, i)->type.rank == n->out[0].type.rank)
			return true;
	return false;
}

static ml_value *
move_elementwise(layout *l, const ml_node *n)
{
	ml_value *in[3];

	for (int i = 0; i < n->nin; i++)
		in[i] = broadcast_last(l, ml_in(n, i), n->out[0].type.rank);
	return turned(l, same_node(l, n, in));
}

static ml_value *
move_reduce(layout *l, const ml_node *n)
{
	const ml_attr *axes = &n->attr[0]; /* the only attribute of all of them */
	ml_value *x = ml_in(n, 0);
	int64_t moved[ML_MAX_RANK];

	for (int i = 0; i < axes->count; i++)
		moved[i] = last_axis(x->type.rank, axes->ints[i]);
	x = ml_build_reduce(&l->b, n->op, channels_last(l, x), moved, axes->count);
	return turned(l, x);
}

static ml_value *
move_pad(layout *l, const ml_node *n)
{
	int rank = n->out[0].type.rank;
	ml_dim low[ML_MAX_RANK], high[ML_MAX_RANK];
	int64_t interior[ML_MAX_RANK];

	move_dims(rank, ML_A(n, pad, low).dims, low);
	move_dims(rank, ML_A(n, pad, high).dims, high);
	for (int i = 0; i < rank; i++)
		interior[last_axis(rank, i)] = ML_A(n, pad, interior).ints[i];
	ml_value *x = channels_last(l, ml_in(n, 0));
	return turned(l, ml_build_pad(&l->b, x, ml_in(n, 1), low, high, interior));
}

static ml_value *
move_slice(layout *l, const ml_node *n)
{
	int rank = n->out[0].type.rank;
	ml_dim start[ML_MAX_RANK], size[ML_MAX_RANK];
	int64_t step[ML_MAX_RANK];

	move_dims(rank, ML_A(n, slice, start).dims, start);
	move_dims(rank, ML_A(n, slice, size).dims, size);
	for (int i = 0; i < rank; i++)
		step[last_axis(rank, i)] = ML_A(n, slice, step).ints[i];
	ml_value *x = channels_last(l, ml_in(n, 0));
	return turned(l, ml_build_slice(&l->b, x, start, size, step));
}

static ml_value *
move_broadcast(layout *l, const ml_node *n)
{
	int rank = n->out[0].type.rank;
	ml_dim shape[ML_MAX_RANK];

	move_dims(rank, n->out[0].type.dim, shape);
	return turned(l, ml_build_broadcast(&l->b, channels_last(l, ml_in(n, 0)), shape, rank));
}

static ml_value *
move_concat(layout *l, const ml_node *n)
{
	ml_value **in = ML_NEW_ARRAY(l->px->scratch, ml_value *, n->nin);
	int64_t axis = last_axis(n->out[0].type.rank, ML_A(n, concat, axis).i64);

	for (int i = 0; i < n->nin; i++)
		in[i] = channels_last(l, ml_in(n, i));
	return turned(l, ml_build_concat(&l->b, in, n->nin, (int)axis));
}

static ml_value *
move_gather(layout *l, const ml_node *n)
{
	int64_t axis = last_axis(n->out[0].type.rank, ML_A(n, gather, axis).i64);
	ml_value *x = channels_last(l, ml_in(n, 0));

	return turned(l, ml_build_gather(&l->b, x, ml_in(n, 1), (int)axis));
}

/* ---- windows ---- */

/* The spatial dims of windows [N, C, out.., kernel..] of an image; 0: v is none. */
static int
window_dims(const ml_value *v)
{
	int k = ml_is(v, ML_OP_window) ? ML_A(v->def, window, size).count : 0;

	return k && v->type.rank == 2 + 2 * k ? k : 0;
}

/* Are windows reduced to one element each? */
static int
reduced_windows(const ml_node *n)
{
	int k = window_dims(ml_in(n, 0));
	const ml_attr *axes = &n->attr[0];

	if (!k || axes->count != k)
		return 0;
	for (int i = 0; i < k; i++)
		if (axes->ints[i] < 2 + k)
			return 0;
	return k;
}

/* Pools: the turn stays in front of the dims of size 1 that were the window. */
static ml_value *
move_pool(layout *l, const ml_node *n, int k)
{
	int64_t there[ML_MAX_RANK], back[ML_MAX_RANK];
	int rank = 2 + k;

	for (int i = 0; i < 2 + 2 * k; i++) {
		back[i] = i < rank ? last_axis(rank, i) : i;
		there[back[i]] = i;
	}
	ml_value *x = ml_build_transpose(&l->b, ml_in(n, 0), there);
	x = x ? ml_build_reduce(&l->b, n->op, x, n->attr[0].ints, k) : NULL;
	return x ? ml_build_transpose(&l->b, x, back) : NULL;
}

/* reshape drops the dims of size 1 behind a turn. */
static ml_value *
drop_window_dims(layout *l, const ml_node *n)
{
	const ml_value *x = ml_in(n, 0);
	const ml_type *to = &n->out[0].type;
	ml_dim shape[ML_MAX_RANK];

	if (!ml_is(x, ML_OP_transpose) || to->rank < 3 || to->rank >= x->type.rank)
		return NULL;
	const int64_t *perm = ML_A(x->def, transpose, perm).ints;
	for (int i = 0; i < x->type.rank; i++) {
		bool kept = i < to->rank;
		if (perm[i] != (kept ? last_axis(to->rank, i) : i) ||
		    (kept ? x->type.dim[i] != to->dim[i] : !ml_dim_equals(x->type.dim[i], 1)))
			return NULL;
	}
	move_dims(to->rank, to->dim, shape);
	return turned(l, ml_build_reshape(&l->b, ml_in(x->def, 0), shape, to->rank));
}

/* ---- convolutions ---- */

/* Sums over channels and kernel go through the kernel first: k, k + 1.. are neighbours then. */
static bool
contract_channels_last(layout *l, ml_node *n)
{
	ml_attr *lhs = &ML_A(n, dot, lhs_contract), *rhs = &ML_A(n, dot, rhs_contract);
	int k = window_dims(ml_in(n, 0));
	ml_arena *arena = &l->b.m->arena;

	if (!k || ML_A(n, dot, lhs_batch).count || lhs->count != k + 1 || lhs->ints[0] != 1)
		return false;
	for (int i = 1; i <= k; i++)
		if (lhs->ints[i] != 1 + k + i)
			return false;
	int64_t *a = ML_NEW_ARRAY(arena, int64_t, k + 1), *b = ML_NEW_ARRAY(arena, int64_t, k + 1);
	for (int i = 0; i <= k; i++) {
		a[i] = lhs->ints[(i + 1) % (k + 1)];
		b[i] = rhs->ints[(i + 1) % (k + 1)];
	}
	lhs->ints = a;
	rhs->ints = b;
	return true;
}

/* Weights w[g, M/g, C/g, kernel..] of few filters and channels per group, with all filters as
 * neighbours in memory: lanes run along channels. */
static ml_value *
spread_filters(layout *l, ml_value *w)
{
	int64_t there[ML_MAX_RANK], back[ML_MAX_RANK];
	ml_blob *blob;
	int rank = w->type.rank;

	for (int i = 0; i < rank; i++) {
		there[i] = (i + 2) % rank;
		back[there[i]] = i;
	}
	ml_value *v = ml_build_transpose(&l->b, w, there);
	if (!v || !ml_is_const(w) || ml_fold_node(v->def, &blob, ml_const_blob(w)->size) != ML_OK)
		return w;
	v = ml_build_const(&l->b, &v->type, blob);
	return v ? ml_build_transpose(&l->b, v, back) : NULL;
}

/* Do few lanes hold the filters of a group (what codegen/rows_depthwise.c computes)? */
static bool
fits_lanes(const ml_value *w, int spatial)
{
	int64_t outputs, inputs, high, wide;

	if (!ml_dim_is_int(w->type.dim[1], &outputs) || !ml_dim_is_int(w->type.dim[2], &inputs))
		return false;
	return (outputs == 1 && inputs == 1) ||
	       (spatial == 2 && w->type.dtype == ML_f32 && outputs > 0 && 16 % outputs == 0 &&
		inputs > 0 && inputs <= outputs && ml_dim_is_int(w->type.dim[3], &high) &&
		ml_dim_is_int(w->type.dim[4], &wide) && high <= 7 && wide <= 7 &&
		high * wide <= 25);
}

/* A constant behind reshapes, as one of their result's shape. */
static ml_value *
shaped_const(layout *l, ml_value *w)
{
	ml_value *from = w;

	while (ml_is(from, ML_OP_reshape))
		from = ml_in(from->def, 0);
	if (from == w || !ml_is_const(from))
		return w;
	return ml_build_const(&l->b, &w->type, ml_blob_share(ml_const_blob(from)));
}

/* The parts of reshape(transpose(dot)): what convolutions in groups end with. */
static ml_node *
grouped_dot(const ml_node *n, int *k)
{
	const ml_value *t = ml_in(n, 0), *d = ml_is(t, ML_OP_transpose) ? ml_in(t->def, 0) : NULL;
	const ml_value *x = ml_is(d, ML_OP_dot) ? ml_in(d->def, 0) : NULL;

	*k = ml_is(x, ML_OP_reshape) ? window_dims(ml_in(x->def, 0)) : 0;
	if (!*k || ML_A(d->def, dot, lhs_batch).count != 1 || d->type.rank != *k + 3 ||
	    n->out[0].type.rank != *k + 2 || ML_A(d->def, dot, lhs_contract).count != *k + 1)
		return NULL;
	const int64_t *perm = ML_A(t->def, transpose, perm).ints;
	for (int i = 0; i < *k + 3; i++)
		if (perm[i] != (i < 2 ? 1 - i : i == 2 ? *k + 2 : i - 1))
			return NULL;
	return d->def;
}

static ml_value *
move_grouped(layout *l, const ml_node *n)
{
	static const int64_t zero = 0, one = 1;
	int64_t a[ML_MAX_RANK], b[ML_MAX_RANK], perm[ML_MAX_RANK];
	ml_dim shape[ML_MAX_RANK];
	int k, rank = n->out[0].type.rank;
	ml_node *d = grouped_dot(n, &k);

	if (!d)
		return NULL;
	for (int i = 0; i <= k; i++) {
		a[i] = i < k ? 3 + k + i : 2;
		b[i] = i < k ? 3 + i : 2;
		perm[i] = 1 + i;
	}
	perm[k + 1] = 0;
	perm[k + 2] = k + 2;
	move_dims(rank, n->out[0].type.dim, shape);
	ml_value *x = ml_in(d, 0), *w = shaped_const(l, ml_in(d, 1));
	if (ml_dim_equals(d->out[0].type.dim[0], 1)) { /* one group is none */
		for (int i = 0; i <= k; i++) {
			a[i] -= 1;
			b[i] -= 1;
		}
		w = w ? ml_build_squeeze(&l->b, w, &zero, 1) : NULL;
		w = w ? shaped_const(l, w) : NULL;
		x = ml_build_dot(&l->b, ml_in(x->def, 0), w, NULL, NULL, 0, a, b, k + 1);
		return turned(l, x);
	}
	if (w && fits_lanes(w, k))
		w = spread_filters(l, w);
	x = ml_build_dot(&l->b, x, w, &one, &zero, 1, a, b, k + 1);
	x = x ? ml_build_transpose(&l->b, x, perm) : NULL;
	return turned(l, x ? ml_build_reshape(&l->b, x, shape, rank) : NULL);
}

/* ---- the walk ---- */

/* A pad or a window that reads an image as it came: it is brought to channels last. */
static ml_value *
bring(layout *l, const ml_node *n)
{
	ml_value *x = ml_in(n, 0);

	if (n->op == ML_OP_pad)
		return move_pad(l, n);
	x = turned(l, channels_last(l, x));
	return x ? same_node(l, n, &x) : NULL;
}

static bool
feeds_window(const ml_value *v)
{
	for (const ml_use *u = v->uses; u; u = u->next)
		if (u->user->op == ML_OP_window || (u->user->op == ML_OP_conv && u == u->user->in))
			return true;
	return false;
}

static bool
is_single_index(const ml_node *n)
{
	return ml_in(n, 1)->type.rank == 1;
}

static ml_value *
move_reshape(layout *l, const ml_node *n)
{
	ml_value *x = ml_in(n, 0), *v = drop_window_dims(l, n);

	if (v || (v = move_grouped(l, n)))
		return v;
	if (!is_turned(x) || !moves_nothing(&x->type))
		return NULL;
	return ml_build_reshape(&l->b, ml_in(x->def, 0), n->out[0].type.dim, n->out[0].type.rank);
}

/* Turned and turned again, as networks do that were written channels last. */
static ml_value *
move_transpose(layout *l, const ml_node *n)
{
	const ml_value *x = ml_in(n, 0);
	int rank = x->type.rank;
	int64_t perm[ML_MAX_RANK];
	bool same = true;

	if (!is_turned(x) || feeds_window(&n->out[0]))
		return NULL;
	for (int i = 0; i < rank; i++) {
		perm[i] = last_axis(rank, ML_A(n, transpose, perm).ints[i]);
		same &= perm[i] == i;
	}
	return same ? ml_in(x->def, 0) : ml_build_transpose(&l->b, ml_in(x->def, 0), perm);
}

/* What takes n's place; NULL when it stays. */
static ml_value *
moved(layout *l, const ml_node *n)
{
	bool first = n->nin > 0 && is_turned(ml_in(n, 0));

	if (n->nout != 1)
		return NULL;
	if (is_elementwise(n))
		return any_turned(n) ? move_elementwise(l, n) : NULL;
	switch (n->op) {
	case ML_OP_reduce_sum:
	case ML_OP_reduce_prod:
	case ML_OP_reduce_min:
	case ML_OP_reduce_max:
	case ML_OP_reduce_mean:
		if (reduced_windows(n))
			return move_pool(l, n, reduced_windows(n));
		return first ? move_reduce(l, n) : NULL;
	case ML_OP_pad:
		if (!first && feeds_window(&n->out[0]))
			return bring(l, n);
		return first ? move_pad(l, n) : NULL;
	case ML_OP_window: return !first && window_dims(&n->out[0]) ? bring(l, n) : NULL;
	case ML_OP_slice: return first ? move_slice(l, n) : NULL;
	case ML_OP_broadcast:
		return first && n->out[0].type.rank == ml_in(n, 0)->type.rank ? move_broadcast(l, n)
									      : NULL;
	case ML_OP_concat: return any_turned(n) ? move_concat(l, n) : NULL;
	case ML_OP_gather: return first && is_single_index(n) ? move_gather(l, n) : NULL;
	case ML_OP_reshape: return move_reshape(l, n);
	case ML_OP_transpose: return move_transpose(l, n);
	default: return NULL;
	}
}

/* A layer's body, so that its parts can be moved one by one. */
static ml_status
open_conv(layout *l, ml_node *n)
{
	ml_value *y;

	ML_STEP(ml_expand(&l->b, n, &y));
	y->name = n->out[0].name;
	ml_replace_uses(&n->out[0], y);
	ml_node_remove(n);
	return ML_OK;
}

static bool
has_conv(const ml_block *block)
{
	for (const ml_node *n = block->first; n; n = n->next) {
		const ml_value *x = n->nin ? ml_in(n, 0) : NULL;
		if (n->op == ML_OP_conv ||
		    (n->op == ML_OP_dot && (window_dims(x) || (ml_is(x, ML_OP_reshape) &&
							       window_dims(ml_in(x->def, 0))))))
			return true;
	}
	return false;
}

static ml_status
visit(layout *l, ml_node *n)
{
	if (*l->px->fuel <= 0)
		return ML_OK;
	if (n->op == ML_OP_conv) {
		ml_spend_fuel(l->px);
		l->px->changes++;
		return open_conv(l, n);
	}
	if (n->op == ML_OP_dot) {
		if (contract_channels_last(l, n)) {
			ml_spend_fuel(l->px);
			l->px->changes++;
		}
		return ML_OK;
	}
	ml_value *v = moved(l, n);
	if (!v)
		return l->b.failed;
	ml_spend_fuel(l->px);
	l->px->changes++;
	if (!v->name)
		v->name = n->out[0].name;
	ml_replace_uses(&n->out[0], v);
	return ML_OK;
}

static ml_status
plan_block(void *user, ml_block *block)
{
	layout l = {.px = user};

	if (!has_conv(block))
		return ML_OK;
	for (ml_node *n = block->first, *after; n; n = after) {
		ml_node *before = n->prev;
		bool opens = n->op == ML_OP_conv && *l.px->fuel > 0;
		after = n->next;
		l.b = ml_builder_before(n);
		ML_STEP(visit(&l, n));
		if (opens)
			after = before ? before->next : block->first;
	}
	ml_drop_unused(block);
	return ML_OK;
}

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	return ml_for_each_block(m, plan_block, px);
}

ML_PASS(plan_layout, ML_ROUNDS, run, "convolutions and what lies between them, channels last");
