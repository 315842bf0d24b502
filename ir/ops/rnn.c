/* rnn.c -- body of rnn: input products for all steps at once, then a loop over time.
 *
 * Gates are blocks of rows in ONNX order: lstm i o f c, gru z r h.
 */
#include "../expand.h"
#include <string.h>

/* What a step of the loop sees; NULL where the cell has none. */
typedef struct ml_step {
	ml_builder *b;
	const ml_node *n;
	ml_dim size;               /* of the state */
	ml_value *x;               /* [B, gates * size]: w x + biases that need no more care */
	ml_value *h, *c;           /* [B, size] */
	ml_value *r, *bias, *peep; /* recurrent weights, bias to add to r h (gru), peepholes */
} ml_step;

enum { MAX_CAPTURES = 4 };

static ml_value *
activate(ml_builder *b, const char *name, ml_value *x)
{
	if (!strcmp(name, "Sigmoid"))
		return ml_sigmoid_of(b, x);
	return !strcmp(name, "Tanh") ? ml_op1(b, ML_OP_tanh, x) : ml_op_number(b, ML_OP_max, x, 0);
}

/* Block `first`.. of `count` gates along an axis. */
static ml_value *
gates_of(const ml_step *s, ml_value *x, int axis, int first, int count)
{
	ml_dims *dims = s->b->m->dims;

	return ml_part_of(s->b, x, axis, ml_dim_mul(dims, ml_dim_int(dims, first), s->size),
			  ml_dim_mul(dims, ml_dim_int(dims, count), s->size));
}

static ml_value *
times_transposed(ml_builder *b, ml_value *x, ml_value *w)
{
	int64_t last = x ? x->type.rank - 1 : 0, one = 1;

	return ml_build_dot(b, x, w, NULL, NULL, 0, &last, &one, 1);
}

/* a * b + c * d */
static ml_value *
blend(ml_builder *b, ml_value *p, ml_value *q, ml_value *r, ml_value *s)
{
	return ml_op2(b, ML_OP_add, ml_op2(b, ML_OP_mul, p, q), ml_op2(b, ML_OP_mul, r, s));
}

/* ---- cells: from a step's state to the next ---- */

static ml_value *
lstm_gate(const ml_step *s, ml_value *sum, int gate, int peephole, ml_value *state)
{
	ml_builder *b = s->b;
	ml_value *x = gates_of(s, sum, 1, gate, 1);

	if (s->peep && peephole >= 0)
		x = ml_op2(b, ML_OP_add, x,
			   ml_op2(b, ML_OP_mul, gates_of(s, s->peep, 0, peephole, 1), state));
	return activate(b, gate == 3 ? ML_A(s->n, rnn, g).str : ML_A(s->n, rnn, f).str, x);
}

/* Peepholes stand in the order i, o, f; the output gate looks at the new cell state. */
static void
lstm(const ml_step *s, ml_value **h, ml_value **c)
{
	ml_builder *b = s->b;
	ml_value *sum = ml_op2(b, ML_OP_add, s->x, times_transposed(b, s->h, s->r));
	ml_value *in = lstm_gate(s, sum, 0, 0, s->c);
	ml_value *forget = lstm_gate(s, sum, 2, 2, s->c);
	ml_value *candidate = lstm_gate(s, sum, 3, -1, NULL);

	*c = blend(b, forget, s->c, in, candidate);
	ml_value *out = lstm_gate(s, sum, 1, 1, *c);
	*h = ml_op2(b, ML_OP_mul, out, activate(b, ML_A(s->n, rnn, h).str, *c));
}

static void
gru(const ml_step *s, ml_value **h)
{
	ml_builder *b = s->b;
	const char *f = ML_A(s->n, rnn, f).str, *g = ML_A(s->n, rnn, g).str;
	ml_value *rec = times_transposed(b, s->h, gates_of(s, s->r, 0, 0, 2));
	rec = ml_op2(b, ML_OP_add, rec, gates_of(s, s->bias, 0, 0, 2));
	ml_value *zr = activate(b, f, ml_op2(b, ML_OP_add, gates_of(s, s->x, 1, 0, 2), rec));
	ml_value *z = gates_of(s, zr, 1, 0, 1), *reset = gates_of(s, zr, 1, 1, 1);
	bool late = ML_A(s->n, rnn, linear_before_reset).i64;
	ml_value *from = late ? s->h : ml_op2(b, ML_OP_mul, reset, s->h);

	rec = times_transposed(b, from, gates_of(s, s->r, 0, 2, 1));
	rec = ml_op2(b, ML_OP_add, rec, gates_of(s, s->bias, 0, 2, 1));
	if (late)
		rec = ml_op2(b, ML_OP_mul, reset, rec);
	ml_value *candidate = activate(b, g, ml_op2(b, ML_OP_add, gates_of(s, s->x, 1, 2, 1), rec));
	ml_value *keep = z ? ml_op2(b, ML_OP_sub, ml_build_f64(b, z->type.dtype, 1), z) : NULL;
	*h = blend(b, keep, candidate, z, s->h);
}

static void
plain(const ml_step *s, ml_value **h)
{
	ml_builder *b = s->b;

	*h = activate(b, ML_A(s->n, rnn, f).str,
		      ml_op2(b, ML_OP_add, s->x, times_transposed(b, s->h, s->r)));
}

/* ---- the loop ---- */

/* x with time, its first dim, running backwards. */
static ml_value *
backwards(ml_builder *b, ml_value *x)
{
	ml_node *n = ml_begin(b, ML_OP_reverse, &x, 1);

	if (!n)
		return NULL;
	ML_A(n, reverse, axes) =
		(ml_attr){.ints = ML_NEW_ARRAY(&b->m->arena, int64_t, 1), .count = 1};
	return ml_finish1(b, n);
}

/* [T, B, rows]: x . w' + bias, for all steps. */
static ml_value *
project_inputs(ml_builder *b, const ml_node *n, ml_value *const *in, bool with_recurrent)
{
	ml_dim rows = in[1]->type.dim[0];
	ml_value *x = in[0], *bias = ml_part_of(b, in[3], 0, ml_dim_int(b->m->dims, 0), rows);

	if (ML_A(n, rnn, reverse).i64)
		x = backwards(b, x);
	if (with_recurrent)
		bias = ml_op2(b, ML_OP_add, bias, ml_part_of(b, in[3], 0, rows, rows));
	return ml_op2(b, ML_OP_add, times_transposed(b, x, in[1]), bias);
}

static ml_value *
initial_state(ml_builder *b, const ml_node *n, ml_value *const *in, int operand)
{
	const ml_type *t = &n->out[1].type;

	if (n->nin > operand)
		return ml_build_reshape(b, in[operand], t->dim,
					t->rank); /* its names of the sizes */
	return ml_build_broadcast(b, ml_build_f64(b, in[0]->type.dtype, 0), t->dim, t->rank);
}

/* The body: i, h, [c], captures -> true, h, [c], h scanned. */
static ml_status
build_body(ml_builder *b, const ml_node *n, ml_node *loop, int carried, bool has_bias)
{
	ml_block *body = ml_block_new(b->m, loop);
	ml_builder inner = ml_builder_at_end(body, b->prov);
	ml_type counter = {.dtype = ML_s64};
	ml_step s = {.b = &inner, .n = n, .size = n->out[1].type.dim[1]};
	ml_value *next[4] = {NULL}, *h = NULL, *c = NULL;
	int at = 0;

	ml_block_add_arg(body, &counter, NULL);
	for (int i = 2; i < loop->nin; i++)
		ml_block_add_arg(body, &ml_in(loop, i)->type, NULL);
	s.h = body->arg[++at];
	s.c = carried > 1 ? body->arg[++at] : NULL;
	s.x = ml_build_gather(&inner, body->arg[++at], body->arg[0], 0);
	s.r = body->arg[++at];
	s.bias = has_bias ? body->arg[++at] : NULL;
	s.peep = at + 1 < body->nargs ? body->arg[at + 1] : NULL;
	if (carried > 1)
		lstm(&s, &h, &c);
	else if (has_bias)
		gru(&s, &h);
	else
		plain(&s, &h);
	next[0] = ml_build_f64(&inner, ML_bool, 1);
	next[1] = h;
	next[carried] = carried > 1 ? c : h;
	next[carried + 1] = h;
	if (!h || ml_build_yield(&inner, next, carried + 2) != ML_OK)
		b->failed = inner.failed ? inner.failed : ML_ERR_PASS;
	return b->failed;
}

void
ml_body_rnn(ml_builder *b, const ml_node *n, ml_value *const *in, ml_value **out)
{
	bool is_lstm = !strcmp(ML_A(n, rnn, cell).str, "lstm");
	bool is_gru = !strcmp(ML_A(n, rnn, cell).str, "gru");
	ml_dim steps = in[0]->type.dim[0], rows = in[1]->type.dim[0];
	ml_value *operand[4 + MAX_CAPTURES];
	int count = 0, carried = 1 + is_lstm;

	operand[count++] = ml_build_dim(b, steps);
	operand[count++] = ml_build_f64(b, ML_bool, 1);
	operand[count++] = initial_state(b, n, in, 4);
	if (is_lstm)
		operand[count++] = initial_state(b, n, in, 5);
	operand[count++] = project_inputs(b, n, in, !is_gru);
	operand[count++] = in[2];
	if (is_gru)
		operand[count++] = ml_part_of(b, in[3], 0, rows, rows);
	if (n->nin > 6)
		operand[count++] = in[6];
	ml_node *loop = ml_begin(b, ML_OP_loop, operand, count);
	if (!loop)
		return;
	ML_A(loop, loop, carried).i64 = carried;
	if (build_body(b, n, loop, carried, is_gru) != ML_OK || !ml_finish(b, loop))
		return;
	out[0] = &loop->out[carried];
	out[1] = &loop->out[0];
	out[2] = &loop->out[carried - 1];
	if (ML_A(n, rnn, reverse).i64)
		out[0] = backwards(b, out[0]);
}
