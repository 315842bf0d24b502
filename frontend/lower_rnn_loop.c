/* lower_rnn_loop.c -- recurrent cells as loops, for what the rnn node has no place for: lengths of
 * sequences, clipping, coupled gates, activations with parameters. */
#include "lower_rnn.h"

/* The body while it is built; values of one step. */
typedef struct step {
	ml_recurrence *r;
	ml_value *i, *gates, *h, *c; /* counter; x w + biases [B, G*H]; states [B, H] */
	ml_value *weight, *bias, *peephole, *lengths;
} step;

/* What each iteration sees of outside, in this order; missing ones are left out. */
enum { PROJECTED, WEIGHT, BIAS, PEEPHOLE, LENGTHS, CAPTURES };

static ml_value *
activate(const ml_recurrence *r, int which, ml_value *v)
{
	ml_lower *x = r->x;
	const ml_activation *a = &r->act[which];

	if (r->clip > 0)
		v = ML_X2(min, ML_X2(max, v, ML_LIKE(v, -r->clip)), ML_LIKE(v, r->clip));
	return a->row->build(x, v, a->parameter);
}

/* Block k of the columns of v[.., n*H]. */
static ml_value *
block(const step *s, ml_value *v, int k)
{
	ml_lower *x = s->r->x;
	ml_dim size = s->h->type.dim[1];

	return v ? ml_lower_cut(x, v, v->type.rank - 1, ml_dim_mul(ML_DIMS, size, ML_INT(k)), size)
		 : NULL;
}

/* Adds peephole k of the cell state. */
static ml_value *
peep(const step *s, ml_value *v, int k, ml_value *c)
{
	ml_lower *x = s->r->x;

	return s->peephole ? ML_X2(add, v, ML_X2(mul, block(s, s->peephole, k), c)) : v;
}

static void
lstm_step(step *s)
{
	const ml_recurrence *r = s->r;
	ml_lower *x = r->x;
	ml_value *all = ML_X2(add, s->gates, ml_lower_product(x, s->h, s->weight));
	ml_value *input, *output, *forget, *c;

	input = activate(r, 0, peep(s, block(s, all, 0), 0, s->c));
	if (r->coupled)
		forget = ML_X2(sub, ML_LIKE(input, 1), input);
	else
		forget = activate(r, 0, peep(s, block(s, all, 2), 2, s->c));
	c = activate(r, 1, block(s, all, 3));
	c = ML_X2(add, ML_X2(mul, forget, s->c), ML_X2(mul, input, c));
	output = activate(r, 0, peep(s, block(s, all, 1), 1, c));
	s->c = c;
	ml_recurrence plain = *r; /* the cell itself is not clipped */
	plain.clip = 0;
	s->h = ML_X2(mul, output, activate(&plain, 2, c));
}

static void
gru_step(step *s)
{
	const ml_recurrence *r = s->r;
	ml_lower *x = r->x;
	ml_value *h = s->h, *all = ml_lower_product(x, h, s->weight), *update, *reset, *fresh;
	ml_value *bias = block(s, s->bias, 2); /* of the recurrent part of the candidate */

	update = activate(r, 0, ML_X2(add, block(s, s->gates, 0), block(s, all, 0)));
	reset = activate(r, 0, ML_X2(add, block(s, s->gates, 1), block(s, all, 1)));
	if (r->linear_before_reset) {
		fresh = ML_X2(mul, reset, ML_X2(add, block(s, all, 2), bias));
	} else {
		fresh = ml_lower_product(x, ML_X2(mul, reset, h), block(s, s->weight, 2));
		fresh = ML_X2(add, fresh, bias);
	}
	fresh = activate(r, 1, ML_X2(add, block(s, s->gates, 2), fresh));
	s->h = ML_X2(add, ML_X2(mul, ML_X2(sub, ML_LIKE(update, 1), update), fresh),
		     ML_X2(mul, update, h));
}

/* Yields whether to go on, the states, and this step's result. */
static bool
finish_step(step *s, ml_value *h, ml_value *c)
{
	ml_lower *x = s->r->x;
	ml_dim column[] = {h->type.dim[0], ML_INT(1)};
	ml_value *y = s->h;

	if (s->lengths && s->h && s->c) { /* beyond its length a sequence stands still, y is 0 */
		ml_value *on = ML_X2(lt, s->i, ml_lower_reshape(x, s->lengths, column, 2));
		y = ML_X3(select, on, s->h, ML_LIKE(h, 0));
		s->h = ML_X3(select, on, s->h, h);
		s->c = ML_X3(select, on, s->c, c);
	}
	ml_value *result[] = {ml_build_f64(x->b, ML_bool, 1), s->h, s->c, y};
	return ml_build_yield(x->b, result, 4) == ML_OK;
}

static bool
build_body(ml_recurrence *r, ml_node *loop, ml_value *const *captured)
{
	ml_lower *x = r->x;
	ml_builder *outer = x->b,
		   inner = ml_builder_at_end(ml_block_new(x->b->m, loop), outer->prov);
	ml_type counter = {.dtype = ML_s64};
	step s = {.r = r};
	ml_value *seen[CAPTURES] = {NULL};

	s.i = ml_block_add_arg(inner.block, &counter, "step");
	ml_value *h = ml_block_add_arg(inner.block, &r->in[ML_RNN_STATE]->type, "h");
	ml_value *c = ml_block_add_arg(inner.block, &r->in[ML_RNN_CELL]->type, "c");
	for (int k = 0; k < CAPTURES; k++)
		if (captured[k])
			seen[k] = ml_block_add_arg(inner.block, &captured[k]->type, NULL);
	x->b = &inner;
	s.h = h;
	s.c = c;
	s.weight = seen[WEIGHT];
	s.bias = seen[BIAS];
	s.peephole = seen[PEEPHOLE];
	s.lengths = seen[LENGTHS];
	s.gates = ml_build_gather(x->b, seen[PROJECTED], s.i, 0);
	if (r->cell->gates == 4)
		lstm_step(&s);
	else if (r->cell->gates == 3)
		gru_step(&s);
	else
		s.h = activate(r, 0, ML_X2(add, s.gates, ml_lower_product(x, h, s.weight)));
	bool done = finish_step(&s, h, c);
	x->b = outer;
	if (inner.failed != ML_OK)
		outer->failed = inner.failed;
	return done;
}

/* v[T, B, ..] with each sequence reversed within its length */
static ml_value *
reversed(const ml_recurrence *r, ml_value *v)
{
	static const int64_t front = 0;
	ml_lower *x = r->x;

	if (!r->lengths)
		return ml_lower_reverse(x, v, &front, 1);
	v = ml_lower_reverse_within(x, ml_lower_move_axis(x, v, 0, 1), r->lengths);
	return ml_lower_move_axis(x, v, 0, 1);
}

/* x w' + biases for all steps; what GRU multiplies by its reset gate first stays out. */
static ml_value *
project(const ml_recurrence *r, ml_value *v, ml_value **late)
{
	static const int64_t swap[] = {1, 0};
	ml_lower *x = r->x;
	ml_value *bias = r->in[ML_RNN_BIAS], *w, *rest;
	ml_dim size = r->in[ML_RNN_STATE]->type.dim[1];
	ml_dim rows = ml_dim_mul(ML_DIMS, size, ML_INT(r->cell->gates));

	w = ml_build_transpose(x->b, r->in[ML_RNN_WEIGHT], swap);
	v = ML_X2(add, ml_lower_product(x, v, w), ml_lower_cut(x, bias, 0, ML_INT(0), rows));
	rest = ml_lower_cut(x, bias, 0, rows, rows);
	*late = NULL;
	if (r->cell->gates != 3)
		return ML_X2(add, v, rest);
	ml_dim early = ml_dim_mul(ML_DIMS, size, ML_INT(2)), low[] = {ML_INT(0)}, high[] = {size};
	*late = rest;
	return ML_X2(add, v,
		     ml_lower_pad(x, ml_lower_cut(x, rest, 0, low[0], early), 0, low, high));
}

bool
ml_lower_rnn_loop(ml_recurrence *r, ml_value **out)
{
	static const int64_t swap[] = {1, 0};
	ml_lower *x = r->x;
	ml_value *v = r->in[ML_RNN_INPUT], *captured[CAPTURES], *in[4 + CAPTURES];
	int n = 0;

	v = r->reverse ? reversed(r, v) : v;
	captured[PROJECTED] = project(r, v, &captured[BIAS]);
	captured[WEIGHT] = ml_build_transpose(x->b, r->in[ML_RNN_RECURRENT], swap);
	captured[PEEPHOLE] = r->in[ML_RNN_PEEPHOLE];
	captured[LENGTHS] = r->lengths;
	if (!captured[PROJECTED] || !captured[WEIGHT])
		return false;
	in[n++] = ml_build_dim(x->b, v->type.dim[0]);
	in[n++] = ml_build_f64(x->b, ML_bool, 1);
	in[n++] = r->in[ML_RNN_STATE];
	in[n++] = r->in[ML_RNN_CELL];
	for (int k = 0; k < CAPTURES; k++)
		if (captured[k])
			in[n++] = captured[k];
	ml_node *loop = ml_begin(x->b, ML_OP_loop, in, n);
	if (!loop)
		return false;
	ML_A(loop, loop, carried).i64 = 2;
	if (!build_body(r, loop, captured))
		return false;
	loop = ml_finish(x->b, loop);
	if (!loop)
		return false;
	out[0] = r->reverse ? reversed(r, &loop->out[2]) : &loop->out[2];
	out[1] = &loop->out[0];
	out[2] = &loop->out[1];
	return out[0] != NULL;
}
