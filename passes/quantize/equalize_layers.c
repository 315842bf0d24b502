/* equalize_layers.c -- channels between two layers brought to one range, where static quantization
 * gains by it.
 *
 * Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction": between
 * layers lies only what commutes with positive factors (relu, pooling), so that
 *   W1_i /= s_i, b1_i /= s_i, W2_:,i *= s_i
 * changes no result, with s_i = sqrt(r1_i r2_i) / r2_i for the ranges r of W1's rows and W2's
 * columns.  Bounds of a clip become one per channel.  Chains settle by going over all pairs again.
 *
 * Weights alone do not show whether it helps: biases may make small channels large.  A pair is
 * tried only where the error that the second layer's results then have, by ranges and mean squares
 * of calibration data, falls; how the whole model then fares on integers decides.
 */
#include "../known.h"
#include "../prefer.h"
#include "layers.h"
#include "statistics.h"
#include <math.h>
#include <string.h>

enum {
	DEEPEST = 16, /* nodes between two layers */
	ROUNDS = 8    /* over all pairs */
};
/* Factors beyond are of channels that say nothing. */
static const double LARGEST = 1e6;
/* Error left: of a step that is worth taking, and of all steps that are worth having. */
static const double STEP_GAIN = .95, GAIN = .9;

/* ---- weights, with the factors that they are to get ---- */

/* Row o, input c of its group, tap t: w[o * row + c * column + t]. */
typedef struct layer {
	ml_node *node;
	const char *w; /* f32, at any address */
	int64_t rows, columns, taps, groups, row, column;
	double *in, *out; /* w * in[of its input] / out[o]; NULL: 1 */
} layer;

typedef struct pair {
	int first, second; /* layers */
	ml_node *between[DEEPEST];
	int depth, axis; /* of the channels, between them */
	double *s;       /* per channel: what becomes of the one's `out` and the other's `in` */
	double *top, *squares; /* what lies between them, by calibration data */
	bool taken;
} pair;

typedef struct equalizing {
	ml_pass_ctx *px;
	ml_module *m;
	ML_VEC(layer) layer;
	ML_VEC(pair) pair;
} equalizing;

static layer
layer_of(ml_node *n)
{
	const ml_value *w = ml_in(n, 1);
	layer l = {.node = n, .w = ml_const_blob(w)->bytes, .taps = 1, .groups = 1};
	int64_t count;

	ml_type_static_count(&w->type, &count);
	ml_dim_is_int(w->type.dim[n->op == ML_OP_linear], &l.rows);
	ml_dim_is_int(w->type.dim[n->op == ML_OP_conv], &l.columns);
	if (n->op == ML_OP_conv) {
		l.groups = ML_A(n, conv, groups).i64;
		l.taps = count / (l.rows * l.columns);
	}
	l.row = n->op == ML_OP_linear ? 1 : l.columns * l.taps;
	l.column = n->op == ML_OP_linear ? l.rows : l.taps;
	return l;
}

/* Which of all inputs is the first that row o reads. */
static int64_t
first_input(const layer *l, int64_t o)
{
	return o / (l->rows / l->groups) * l->columns;
}

static double
weight(const layer *l, int64_t at)
{
	float w;

	memcpy(&w, l->w + at * (int64_t)sizeof w, sizeof w);
	return (double)w;
}

/* The largest magnitude, or the sum of squares, over the taps. */
static double
top_of(const layer *l, int64_t o, int64_t c)
{
	int64_t at = o * l->row + c * l->column;
	double top = 0;

	for (int64_t t = at; t < at + l->taps; t++)
		top = fmax(fabs(weight(l, t)), top);
	return top;
}

static double
squares_of(const layer *l, int64_t o, int64_t c)
{
	int64_t at = o * l->row + c * l->column;
	double sum = 0;

	for (int64_t t = at; t < at + l->taps; t++)
		sum += weight(l, t) * weight(l, t);
	return sum;
}

/* Ranges of rows or of inputs, as the weights' own factors make them. */
static void
find_ranges(const layer *l, bool of_inputs, double *r, int64_t n)
{
	memset(r, 0, (size_t)n * sizeof *r);
	for (int64_t o = 0; o < l->rows; o++)
		for (int64_t c = 0; c < l->columns; c++) {
			int64_t i = first_input(l, o) + c;
			double *to = &r[of_inputs ? i : o];
			*to = fmax(*to, top_of(l, o, c) * (l->in ? l->in[i] : 1) /
						(l->out ? l->out[o] : 1));
		}
}

/* ---- pairs ---- */

static bool
is_number(const ml_value *v, const ml_type *beside)
{
	int64_t count;

	return ml_is_const(v) && v->type.rank <= beside->rank &&
	       ml_type_static_count(&v->type, &count) && count == 1;
}

/* One number for each channel, or for all. */
static bool
is_per_channel(const ml_value *v, const ml_type *beside, int axis)
{
	const ml_type *t = &v->type;

	if (is_number(v, beside))
		return true;
	if (!ml_is_const(v) || t->rank != beside->rank - axis || t->dim[0] != beside->dim[axis])
		return false;
	for (int i = 1; i < t->rank; i++)
		if (!ml_dim_equals(t->dim[i], 1))
			return false;
	return true;
}

/* Which operand of n is a bound for the other; -1: none, or n is something else. */
static int
bound_of(const ml_node *n, int axis)
{
	const ml_type *t = &n->out[0].type;

	if (n->op != ML_OP_max && n->op != ML_OP_min)
		return -1;
	return is_per_channel(ml_in(n, 1), t, axis)   ? 1
	       : is_per_channel(ml_in(n, 0), t, axis) ? 0
						      : -1;
}

/* Does the operand of n show channels at this axis, which n leaves there, each by itself, and do
 * positive factors go through n? */
static bool
commutes(const ml_node *n, const ml_value *v, int axis)
{
	const ml_type *from = &v->type, *to = &n->out[0].type;
	bool moves = n->op == ML_OP_window || n->op == ML_OP_reduce_max ||
		     n->op == ML_OP_reduce_mean || n->op == ML_OP_reshape || n->op == ML_OP_pad;

	if (to->dtype != ML_f32 || to->rank <= axis || to->dim[axis] != from->dim[axis])
		return false;
	if (n->op == ML_OP_pad) {
		double with = is_number(ml_in(n, 1), to) ? ml_const_f64(ml_in(n, 1), 0) : NAN;
		return axis == 1 && (with == 0 || isinf(with));
	}
	if (moves)
		return axis == 1 && to->dim[0] == from->dim[0];
	return bound_of(n, axis) >= 0 && ml_type_same_shape(from, to);
}

static ml_node *
only_reader(const ml_value *v)
{
	return v->uses && !v->uses->next ? v->uses->user : NULL;
}

static int
find_layer(const equalizing *e, const ml_node *n)
{
	for (int i = 0; i < e->layer.count; i++)
		if (e->layer.at[i].node == n)
			return i;
	return -1;
}

static bool
has_plain_bias(const ml_node *n)
{
	const ml_value *b = ml_in(n, 2);

	return !b || (ml_is_const(b) && b->type.rank == 1 && b->type.dtype == ML_f32 &&
		      b->type.dim[0] == ml_in(n, 1)->type.dim[n->op == ML_OP_linear]);
}

static void
find_pair(equalizing *e, int first)
{
	const layer *l = &e->layer.at[first];
	const ml_value *v = &l->node->out[0];
	pair p = {.first = first, .axis = l->node->op == ML_OP_conv ? 1 : v->type.rank - 1};
	ml_node *n;

	while ((n = only_reader(v)) && !ml_is_layer(n) && p.depth < DEEPEST &&
	       commutes(n, v, p.axis)) {
		p.between[p.depth++] = n;
		v = &n->out[0];
	}
	if (!n || !ml_is_layer(n) || ml_in(n, 0) != v || !has_plain_bias(l->node) ||
	    p.axis != (n->op == ML_OP_conv ? 1 : v->type.rank - 1))
		return;
	p.second = find_layer(e, n);
	const layer *s = &e->layer.at[p.second];
	if (p.second == first || s->columns * s->groups != l->rows)
		return;
	p.s = ML_NEW_ARRAY(e->px->scratch, double, l->rows);
	for (int64_t i = 0; i < l->rows; i++)
		p.s[i] = 1;
	ML_PUSH(e->px->scratch, e->pair, p);
}

static void
find_pairs(equalizing *e)
{
	for (ml_node *n = e->m->main->first; n; n = n->next)
		if (ml_is_layer(n))
			ML_PUSH(e->px->scratch, e->layer, layer_of(n));
	for (int i = 0; i < e->layer.count; i++)
		find_pair(e, i);
	for (int i = 0; i < e->pair.count; i++) {
		pair *p = &e->pair.at[i];
		e->layer.at[p->first].out = p->s;
		e->layer.at[p->second].in = p->s;
	}
}

/* ---- what lies between ---- */

/* In a copy: of each sample (or row) and channel, the largest magnitude and the mean square. */
static bool
build_figures(const pair *p, ml_value *v, ml_value **out)
{
	ml_builder b = ml_builder_before(v->def->next);
	int64_t axes[ML_MAX_RANK];
	ml_dim shape[2] = {v->type.dim[0], v->type.dim[p->axis]};
	int n = 0;

	for (int i = 1; i < v->type.rank; i++)
		if (i != p->axis)
			axes[n++] = i;
	ml_value *top = ml_op1(&b, ML_OP_abs, v), *square = ml_op2(&b, ML_OP_mul, v, v);
	if (n && top && square) {
		top = ml_build_reduce(&b, ML_OP_reduce_max, top, axes, n);
		square = ml_build_reduce(&b, ML_OP_reduce_mean, square, axes, n);
	}
	out[0] = top ? ml_build_reshape(&b, top, shape, 2) : NULL;
	out[1] = square ? ml_build_reshape(&b, square, shape, 2) : NULL;
	return out[0] && out[1];
}

static ml_status
watch(equalizing *e, ml_module *copy)
{
	ml_pass_ctx with = *e->px;
	int n = e->pair.count;
	ml_value **between = ML_NEW_ARRAY(e->px->scratch, ml_value *, n);
	ml_value **figure = ML_NEW_ARRAY(e->px->scratch, ml_value *, 2 * n);
	ml_statistics *s = ML_NEW_ARRAY(e->px->scratch, ml_statistics, 2 * n);

	for (int i = 0; i < n; i++)
		between[i] = ml_in(e->layer.at[e->pair.at[i].second].node, 0);
	ml_values_in(copy, between, n, between, e->px->scratch);
	for (int i = 0; i < n; i++)
		if (!build_figures(&e->pair.at[i], between[i], figure + 2 * i))
			return ML_ERR_PASS;
	with.known = NULL; /* these are no values of the model */
	ML_STEP(ml_collect(&with, copy, figure, 2 * n, s));
	for (int i = 0; i < n; i++) {
		pair *p = &e->pair.at[i];
		int64_t channels = s[2 * i].channels;
		if (!s[2 * i].rows || !s[2 * i].finite || !s[2 * i + 1].finite)
			continue;
		p->top = ML_NEW_ARRAY(e->px->scratch, double, channels);
		p->squares = ML_NEW_ARRAY(e->px->scratch, double, channels);
		for (int64_t c = 0; c < channels; c++) {
			p->top[c] = (double)s[2 * i].top[c];
			p->squares[c] = ml_mean(&s[2 * i + 1], c);
		}
	}
	return ML_OK;
}

/* ---- the choice ---- */

/* Expected error of the second layer's results, each in proportion to its own size, when what it
 * reads has one u8 range and its rows of weights become s8. */
static double
error_of(const equalizing *e, const pair *p, const double *s)
{
	const layer *l = &e->layer.at[p->second];
	double range = 0, sum = 0;

	for (int64_t i = 0; i < l->columns * l->groups; i++)
		range = fmax(range, p->top[i] / s[i]);
	double step = range * range / (255.0 * 255 * 12);
	for (int64_t o = 0; o < l->rows; o++) {
		double carried = 0, energy = 0, top = 0, spread = 0;
		for (int64_t c = 0; c < l->columns; c++) {
			int64_t i = first_input(l, o) + c;
			double squares = squares_of(l, o, c);
			carried += squares * s[i] * s[i];
			energy += squares * p->squares[i];
			top = fmax(top, top_of(l, o, c) * s[i]);
			spread += p->squares[i] / (s[i] * s[i]) * (double)l->taps;
		}
		double noise = step * carried + top * top / (127.0 * 127 * 12) * spread;
		if (energy > 0)
			sum += fmin(noise / energy, 1); /* lost altogether is no more than lost */
	}
	return sum;
}

/* The published factors, on top of those that are there. */
static void
find_factors(const equalizing *e, const pair *p, double *s)
{
	const layer *a = &e->layer.at[p->first], *b = &e->layer.at[p->second];
	int64_t n = a->rows;
	double *r1 = ML_NEW_ARRAY(e->px->scratch, double, 2 * n), *r2 = r1 + n;

	find_ranges(a, false, r1, n);
	find_ranges(b, true, r2, n);
	for (int64_t i = 0; i < n; i++) {
		double all = p->s[i] * (sqrt(r1[i] * r2[i]) / r2[i]);
		s[i] = all > 1 / LARGEST && all < LARGEST ? all : p->s[i];
	}
}

/* Is it better off, and has it then new factors? */
static bool
settle(const equalizing *e, pair *p)
{
	int64_t n = e->layer.at[p->first].rows;
	double *s = ML_NEW_ARRAY(e->px->scratch, double, n);

	if (!p->top)
		return false;
	find_factors(e, p, s);
	if (!(error_of(e, p, s) < STEP_GAIN * error_of(e, p, p->s)))
		return false;
	memcpy(p->s, s, (size_t)n * sizeof *s);
	return true;
}

/* ---- rewriting ---- */

static void
set_floats(equalizing *e, ml_node *n, int operand, float **to)
{
	ml_builder b = ml_builder_before(n);
	const ml_type *t = &ml_in(n, operand)->type;
	void *bytes;
	int64_t count;

	ml_type_static_count(t, &count);
	ml_blob *blob = ml_blob_new(&e->px->cx->memory, (uint64_t)count * sizeof(float), &bytes);
	*to = bytes;
	ml_set_operand(n, operand, ml_build_const(&b, t, blob));
}

static void
scale_layer(equalizing *e, const layer *l)
{
	const ml_value *bias = ml_in(l->node, 2);
	float *w, *b;

	set_floats(e, l->node, 1, &w);
	for (int64_t o = 0; o < l->rows; o++)
		for (int64_t c = 0; c < l->columns; c++) {
			int64_t at = o * l->row + c * l->column;
			double s = (l->in ? l->in[first_input(l, o) + c] : 1) /
				   (l->out ? l->out[o] : 1);
			for (int64_t t = at; t < at + l->taps; t++)
				w[t] = (float)(weight(l, t) * s);
		}
	if (!bias || !l->out)
		return;
	set_floats(e, l->node, 2, &b);
	for (int64_t o = 0; o < l->rows; o++)
		b[o] = (float)(ml_const_f64(bias, o) / l->out[o]);
}

/* Bounds that are not 0 become one per channel. */
static void
scale_bound(equalizing *e, const pair *p, ml_node *n)
{
	int which = bound_of(n, p->axis);
	int64_t channels = e->layer.at[p->first].rows;
	ml_builder b = ml_builder_before(n);
	ml_type t = {.dtype = ML_f32, .rank = n->out[0].type.rank - p->axis};
	void *bytes;

	if (which < 0)
		return;
	const ml_value *bound = ml_in(n, which);
	bool one = is_number(bound, &n->out[0].type);
	if (one && (ml_const_f64(bound, 0) == 0 || isinf(ml_const_f64(bound, 0))))
		return;
	for (int i = 0; i < t.rank; i++)
		t.dim[i] = ml_dim_int(e->m->dims, i ? 1 : channels);
	ml_blob *blob = ml_blob_new(&e->px->cx->memory, (uint64_t)channels * sizeof(float), &bytes);
	for (int64_t i = 0; i < channels; i++)
		((float *)bytes)[i] = (float)(ml_const_f64(bound, one ? 0 : i) / p->s[i]);
	ml_set_operand(n, which, ml_build_const(&b, &t, blob));
}

static void
rewrite(equalizing *e)
{
	bool *scaled = ML_NEW_ARRAY(e->px->scratch, bool, e->layer.count + 1);

	for (int i = 0; i < e->pair.count; i++) {
		const pair *p = &e->pair.at[i];
		if (!p->taken)
			continue;
		scaled[p->first] = scaled[p->second] = true;
		for (int k = 0; k < p->depth; k++)
			scale_bound(e, p, p->between[k]);
		ml_remark(e->px->cx, e->layer.at[p->first].node->prov,
			  "equalized: its channels have the ranges that the next layer's have");
		e->px->changes++;
	}
	for (int i = 0; i < e->layer.count; i++)
		if (scaled[i])
			scale_layer(e, &e->layer.at[i]);
	ml_drop_unused(e->m->main);
}

/* ---- with factors or without ---- */

/* Errors of other layers stand beside a pair's own: what is little better is left alone. */
static bool
is_kept(const equalizing *e, const pair *p)
{
	int64_t n = e->layer.at[p->first].rows;
	double *ones = ML_NEW_ARRAY(e->px->scratch, double, n);

	for (int64_t i = 0; i < n; i++)
		ones[i] = 1;
	return error_of(e, p, p->s) < GAIN * error_of(e, p, ones);
}

static void
drop(const equalizing *e, pair *p)
{
	for (int64_t i = 0; i < e->layer.at[p->first].rows; i++)
		p->s[i] = 1;
	p->taken = false;
}

/* How many are better off? */
static int
choose(equalizing *e)
{
	bool changed = true;
	int n = 0;

	for (int round = 0; changed && round < ROUNDS; round++) {
		changed = false;
		for (int i = 0; i < e->pair.count; i++) {
			bool settled = settle(e, &e->pair.at[i]);
			e->pair.at[i].taken |= settled;
			changed |= settled;
		}
	}
	for (int i = 0; i < e->pair.count; i++) {
		pair *p = &e->pair.at[i];
		if (p->taken && !is_kept(e, p))
			drop(e, p);
		n += p->taken;
	}
	return n;
}

typedef struct trial {
	const equalizing *e;
	ml_module *m[2]; /* without, with */
} trial;

/* The factors that were chosen, in a copy, whose pairs are in the same order. */
static void
scale_copy(const equalizing *e, ml_pass_ctx *px, ml_module *copy)
{
	equalizing own = {.px = px, .m = copy};

	find_pairs(&own);
	for (int i = 0; i < own.pair.count; i++) {
		const pair *p = &e->pair.at[i];
		size_t channels = (size_t)e->layer.at[p->first].rows;
		memcpy(own.pair.at[i].s, p->s, channels * sizeof *p->s);
		own.pair.at[i].taken = p->taken;
	}
	rewrite(&own);
}

static ml_status
make(void *user, bool scaled, const ml_module **m)
{
	trial *t = user;
	ml_pass_ctx own = *t->e->px;

	*m = t->m[scaled] = ml_module_clone(t->e->m);
	if (scaled)
		scale_copy(t->e, &own, t->m[scaled]);
	return ml_quantize_all(&own, t->m[scaled]);
}

static ml_status
prefer(const equalizing *e, bool *scaled)
{
	trial t = {.e = e};
	ml_rivals r = {.kind = "equalization",
		       .of = "channels",
		       .changed = "factors",
		       .m = e->m,
		       .make = make,
		       .user = &t};
	bool remarks = e->px->cx->remarks;

	e->px->cx->remarks = false; /* of candidates */
	ml_status status = ml_prefer(e->px, &r, scaled);
	e->px->cx->remarks = remarks;
	for (int i = 0; i < 2; i++)
		if (t.m[i])
			ml_module_free(t.m[i]);
	return status;
}

/* ---- in all ---- */

static ml_status
run(ml_pass_ctx *px, ml_module *m)
{
	equalizing e = {.px = px, .m = m};
	bool scaled;

	if (!px->data || !px->exec)
		return ML_OK;
	find_pairs(&e);
	if (!e.pair.count)
		return ML_OK;
	if (px->known && (px->known->given || px->known->keeps)) {
		ml_record_note(px->record, "channels between layers are not equalized: statistics "
					   "that are kept or read are of the model as it was");
		return ML_OK;
	}
	ml_module *copy = ml_module_clone(m);
	ml_status status = watch(&e, copy);
	ml_module_free(copy);
	ML_STEP(status);
	if (!choose(&e))
		return ML_OK;
	ML_STEP(prefer(&e, &scaled));
	if (!scaled)
		return ML_OK;
	for (int i = 0; i < e.pair.count; i++)
		if (e.pair.at[i].taken && !ml_spend_fuel(px))
			drop(&e, &e.pair.at[i]);
	rewrite(&e);
	return ML_OK;
}

ML_PASS(equalize_layers, ML_ROUNDS, run, "channels between layers get one range");
