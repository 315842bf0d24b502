/* blocks.c -- finds residual branches: sums one term of which all the others are computed from. */
#include "blocks.h"

enum {
	FARTHEST = 20000, /* nodes between the stream and its sum */
	MOST_TERMS = 8,
	IRREGULAR = 4, /* branches of a chain that are taken as one layer though nothing repeats */
};

const char *
ml_branch_kind_name(ml_branch_kind k)
{
	static const char *const name[] = {"attention", "feed-forward", "conv"};

	return name[k];
}

const char *
ml_norm_place_name(ml_norm_place p)
{
	static const char *const name[] = {"pre", "post", "none"};

	return name[p];
}

/* By node id. */
typedef struct finder {
	ml_arena *arena;
	ml_blocks *blocks;
	int *position; /* in the main block */
	bool *derived; /* computed from the stream being looked at */
	bool *needed;  /* by the term being looked at */
	bool *inside;  /* derived and needed by some term of the sum */
} finder;

/* ---- sums ---- */

/* An addition of two values of its own type. */
static bool
is_sum(const ml_node *n)
{
	return n && n->op == ML_OP_add && ml_is_float(n->out[0].type.dtype) &&
	       n->out[0].type.rank > 0 && ml_type_equal(&ml_in(n, 0)->type, &n->out[0].type) &&
	       ml_type_equal(&ml_in(n, 1)->type, &n->out[0].type);
}

static bool
is_part_of_sum(const ml_value *v)
{
	return is_sum(v->def) && ml_use_count(v) == 1;
}

static bool
is_whole_sum(const ml_node *n)
{
	return is_sum(n) && !(ml_use_count(&n->out[0]) == 1 && is_sum(n->out[0].uses->user));
}

typedef struct terms {
	ml_value *at[MOST_TERMS];
	int count;
} terms;

static bool
add_terms(ml_node *sum, terms *t)
{
	for (int i = 0; i < 2; i++) {
		ml_value *v = ml_in(sum, i);
		if (is_part_of_sum(v)) {
			if (!add_terms(v->def, t))
				return false;
		} else {
			if (t->count == MOST_TERMS)
				return false;
			t->at[t->count++] = v;
		}
	}
	return true;
}

static int
position_of(const finder *f, const ml_value *v)
{
	return v->def ? f->position[v->def->id] : -1;
}

/* The term computed first: it becomes the last of the list. */
static ml_value *
take_stream(const finder *f, terms *t)
{
	int first = 0;

	for (int i = 1; i < t->count; i++)
		if (position_of(f, t->at[i]) < position_of(f, t->at[first]))
			first = i;
	ml_value *stream = t->at[first];
	t->at[first] = t->at[--t->count];
	return stream;
}

/* ---- between stream and sum ---- */

static ml_node *
behind(ml_node *sum, const ml_value *stream)
{
	return stream->def ? stream->def->next : sum->block->first;
}

static bool
is_derived(const finder *f, const ml_value *v, const ml_value *stream)
{
	return v == stream || (v->def && f->derived[v->def->id]);
}

static void
mark_derived(finder *f, ml_node *sum, const ml_value *stream)
{
	for (ml_node *n = behind(sum, stream); n != sum; n = n->next) {
		f->derived[n->id] = f->inside[n->id] = false;
		for (int i = 0; i < n->nin && !f->derived[n->id]; i++)
			f->derived[n->id] = is_derived(f, ml_in(n, i), stream);
	}
}

/* Whether the term comes from the stream at all. */
static bool
mark_needed(finder *f, ml_node *sum, const ml_value *stream, const ml_value *term)
{
	if (!term->def || position_of(f, term) <= position_of(f, stream) ||
	    !f->derived[term->def->id])
		return false;
	for (ml_node *n = behind(sum, stream); n != sum; n = n->next)
		f->needed[n->id] = false;
	f->needed[term->def->id] = true;
	for (ml_node *n = term->def; n && n != stream->def; n = n->prev) {
		if (!f->needed[n->id])
			continue;
		f->inside[n->id] |= f->derived[n->id];
		for (int i = 0; i < n->nin; i++)
			if (position_of(f, ml_in(n, i)) > position_of(f, stream))
				f->needed[ml_in(n, i)->def->id] = true;
	}
	return true;
}

/* A value of the branches is read elsewhere; results of the model, as caches are, do not count. */
static bool
leaks(const finder *f, ml_node *sum, const ml_value *stream, const terms *t)
{
	for (ml_node *n = behind(sum, stream); n != sum; n = n->next) {
		if (!f->inside[n->id])
			continue;
		for (int k = 0; k < n->nout; k++) {
			bool term = false;
			for (int i = 0; i < t->count; i++)
				term |= t->at[i] == &n->out[k];
			for (const ml_use *u = n->out[k].uses; u && !term; u = u->next)
				if (u->user->op != ML_OP_yield && !f->inside[u->user->id])
					return true;
			if (term && ml_use_count(&n->out[k]) != 1)
				return true;
		}
	}
	return false;
}

/* ---- what a branch is ---- */

static bool
is_weight(const ml_value *v)
{
	int64_t n;

	return ml_is_const(v) && ml_is_float(v->type.dtype) && ml_type_static_count(&v->type, &n) &&
	       n > 1;
}

static int64_t
elements(const ml_value *v)
{
	int64_t n = 0;

	ml_type_static_count(&v->type, &n);
	return n;
}

static int64_t
size_or_0(ml_dim d)
{
	int64_t n;

	return ml_dim_is_int(d, &n) ? n : 0;
}

/* The inner size of the last product with weights: neurons of a feed-forward layer. */
static int64_t
middle_of(const ml_branch *b)
{
	for (int i = b->nodes - 1; i >= 0; i--) {
		const ml_node *n = b->node[i];
		const ml_value *w = n->nin > 1 ? ml_in(n, 1) : NULL;
		if (n->op == ML_OP_linear && is_weight(w))
			return size_or_0(w->type.dim[0]);
		if (n->op == ML_OP_conv && is_weight(w) && ML_A(n, conv, groups).i64 == 1)
			return size_or_0(w->type.dim[1]);
	}
	return 0;
}

static bool
is_norm(const ml_node *n)
{
	return n && (n->op == ML_OP_layer_norm || n->op == ML_OP_rms_norm);
}

/* Fills in the kind; false when there are no weights in it. */
static bool
classify(ml_branch *b)
{
	bool attends = false, convolves = false, multiplies = false;

	for (int i = 0; i < b->nodes; i++) {
		const ml_node *n = b->node[i];
		const ml_value *w = n->nin > 1 ? ml_in(n, 1) : NULL;
		attends |= n->op == ML_OP_attention || n->op == ML_OP_softmax;
		convolves |= n->op == ML_OP_conv && is_weight(w);
		multiplies |= (n->op == ML_OP_linear || n->op == ML_OP_dot) && is_weight(w);
		if (n->op == ML_OP_attention) {
			b->heads = size_or_0(ml_in(n, 0)->type.dim[1]);
			b->groups = size_or_0(ml_in(n, 1)->type.dim[1]);
		}
		for (int k = 0; k < n->nin; k++)
			if (is_weight(ml_in(n, k)))
				b->parameters += elements(ml_in(n, k));
	}
	b->kind = convolves ? ML_BRANCH_CONV
		  : attends ? ML_BRANCH_ATTENTION
			    : ML_BRANCH_FEED_FORWARD;
	b->width = attends ? 0 : middle_of(b);
	return attends || convolves || multiplies;
}

static void
list_nodes(finder *f, ml_branch *b)
{
	ML_VEC(ml_node *) list = {0};

	for (ml_node *n = behind(b->sum, b->in); n != b->sum; n = n->next)
		if (f->needed[n->id] && f->derived[n->id])
			ML_PUSH(f->arena, list, n);
	b->node = list.at;
	b->nodes = list.count;
}

/* ---- the stream behind a sum ---- */

static bool
is_read_by_sum(const ml_value *v)
{
	for (const ml_use *u = v->uses; u; u = u->next)
		if (is_sum(u->user))
			return true;
	return false;
}

/* What made the stream is done to the sum again: a norm, or the activation of a CNN.  A first layer
 * may read what has not been through it; then the next branch says what the stream is. */
static ml_value *
stream_behind(ml_node *sum, const ml_value *stream)
{
	ml_value *v = &sum->out[0];
	ml_node *reader = v->uses ? v->uses->user : NULL;

	if (is_read_by_sum(v) || ml_use_count(v) != 1 || reader->nout != 1 ||
	    v->uses != &reader->in[0] || !ml_type_equal(&reader->out[0].type, &v->type))
		return v;
	bool again = stream->def && reader->op == stream->def->op;
	bool read_on = is_norm(reader) && is_read_by_sum(&reader->out[0]);
	return again || read_on ? &reader->out[0] : v;
}

static ml_norm_place
norm_place(const ml_branch *b)
{
	if (b->out != &b->sum->out[0] && is_norm(b->out->def))
		return ML_NORM_POST;
	for (int i = 0; i < b->nodes; i++)
		if (is_norm(b->node[i]) && ml_in(b->node[i], 0) == b->in)
			return ML_NORM_PRE;
	return ML_NORM_NONE;
}

static void
look_at_sum(finder *f, ml_node *sum)
{
	terms t = {.count = 0};

	if (!add_terms(sum, &t))
		return;
	ml_value *stream = take_stream(f, &t);
	if (ml_is_const(stream) || f->position[sum->id] - position_of(f, stream) > FARTHEST)
		return;
	mark_derived(f, sum, stream);
	for (int i = 0; i < t.count; i++)
		if (!mark_needed(f, sum, stream, t.at[i]))
			return;
	if (leaks(f, sum, stream, &t))
		return;
	for (int i = t.count - 1; i >= 0; i--) {
		ml_branch b = {.in = stream, .term = t.at[i], .sum = sum};
		mark_needed(f, sum, stream, t.at[i]);
		list_nodes(f, &b);
		b.out = stream_behind(sum, stream);
		b.norm = norm_place(&b);
		if (classify(&b))
			ML_PUSH(f->arena, f->blocks->branch, b);
	}
}

/* ---- layers ---- */

static bool
repeats(const ml_branch *b, int n, int period)
{
	if (n % period)
		return false;
	for (int i = 0; i + period < n; i++)
		if (b[i].kind != b[i + period].kind)
			return false;
	return true;
}

/* Attention opens a layer, and so does what the layer has already. */
static bool
opens_layer(const ml_branch *b, int first, int i)
{
	if (b[i].kind == ML_BRANCH_ATTENTION)
		return b[i - 1].kind != ML_BRANCH_ATTENTION;
	for (int k = first; k < i; k++)
		if (b[k].kind == b[i].kind)
			return true;
	return false;
}

static void
add_layer(finder *f, int first, int end)
{
	ml_branch *b = f->blocks->branch.at;
	ml_layer layer = {.in = b[first].in, .out = b[end - 1].out, .first = first};

	layer.count = end - first;
	for (int i = first; i < end; i++) {
		b[i].layer = f->blocks->layer.count;
		layer.parameters += b[i].parameters;
	}
	ML_PUSH(f->arena, f->blocks->layer, layer);
}

/* Branches [first, end) follow each other on one stream. */
static void
cut_chain(finder *f, int first, int end)
{
	const ml_branch *b = f->blocks->branch.at + first;
	int n = end - first, period = 1, begun = first;

	while (!repeats(b, n, period))
		period++;
	bool regular = period < n || n <= IRREGULAR;
	for (int i = first + 1; i < end; i++) {
		const ml_branch *at = &f->blocks->branch.at[i];
		bool parallel = at->sum == at[-1].sum;
		bool opens = regular ? (i - first) % period == 0
				     : opens_layer(f->blocks->branch.at, begun, i);
		if (!opens || parallel)
			continue;
		add_layer(f, begun, i);
		begun = i;
	}
	add_layer(f, begun, end);
}

static void
find_layers(finder *f)
{
	const ml_branch *b = f->blocks->branch.at;
	int n = f->blocks->branch.count;

	for (int first = 0, end; first < n; first = end) {
		for (end = first + 1; end < n; end++)
			if (b[end].in != b[end - 1].out && b[end].sum != b[end - 1].sum)
				break;
		cut_chain(f, first, end);
	}
}

void
ml_find_blocks(const ml_module *m, ml_arena *arena, ml_blocks *blocks)
{
	finder f = {.arena = arena, .blocks = blocks};
	int position = 0;

	*blocks = (ml_blocks){0};
	f.position = ML_NEW_ARRAY(arena, int, m->next_id);
	f.derived = ML_NEW_ARRAY(arena, bool, m->next_id);
	f.needed = ML_NEW_ARRAY(arena, bool, m->next_id);
	f.inside = ML_NEW_ARRAY(arena, bool, m->next_id);
	for (ml_node *n = m->main->first; n; n = n->next)
		f.position[n->id] = position++;
	for (ml_node *n = m->main->first; n; n = n->next)
		if (is_whole_sum(n))
			look_at_sum(&f, n);
	find_layers(&f);
}
