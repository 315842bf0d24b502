/* lower_rnn.c -- RNN, GRU and LSTM: one rnn node per direction. */
#include "lower.h"
#include <string.h>
#include <strings.h>

/* What tells the three operators apart. */
typedef struct cell {
	const char *name;
	int gates, activations;
	const char *init[3];
} cell;

static const cell cells[] = {
	{"rnn", 1, 1, {"Tanh"}},
	{"gru", 3, 2, {"Sigmoid", "Tanh"}},
	{"lstm", 4, 3, {"Sigmoid", "Tanh", "Tanh"}},
};

/* Operands as rnn takes them, for one direction. */
enum { INPUT, WEIGHT, RECURRENT, BIAS, STATE, CELL, PEEPHOLE, OPERANDS };

/* Element d of the first axis, without that axis. */
static ml_value *
direction_of(ml_lower *x, ml_value *v, int d)
{
	int64_t axis = 0;

	if (!v)
		return NULL;
	v = ml_lower_cut(x, v, 0, ML_INT(d), ML_INT(1));
	return v ? ml_build_squeeze(x->b, v, &axis, 1) : NULL;
}

static ml_value *
zeros(ml_lower *x, const ml_value *like, const ml_dim *shape, int n)
{
	return ml_build_broadcast(x->b, ML_LIKE(like, 0), shape, n);
}

/* Names in ONNX's spelling; those with parameters are not supported. */
static const char *
activation(ml_lower *x, const char *name)
{
	static const char *const known[] = {"Sigmoid", "Tanh", "Relu"};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcasecmp(name, known[i]))
			return known[i];
	return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "activation '%s' is not supported",
			     ml_escaped(&x->cx->arena, name));
}

static bool
set_activations(ml_lower *x, ml_node *n, const cell *c, int d, int directions)
{
	int given;
	const char **name = ml_onnx_texts(x, "activations", &given), *act[3];

	if (name && given != c->activations * directions) {
		ml_lower_fail(x, ML_ERR_VALUE, "%d activations, must be %d", given,
			      c->activations * directions);
		return false;
	}
	for (int i = 0; i < 3; i++) {
		act[i] = c->init[i] ? c->init[i] : "Tanh";
		if (name && i < c->activations)
			act[i] = activation(x, name[d * c->activations + i]);
		if (!act[i])
			return false;
	}
	ML_A(n, rnn, f).str = act[0];
	ML_A(n, rnn, g).str = act[1];
	ML_A(n, rnn, h).str = act[2];
	return true;
}

/* Attributes without a place in rnn; lengths that are not all of the sequence. */
static bool
is_plain(ml_lower *x, ml_dim steps)
{
	double length;
	int64_t n;

	ml_onnx_ignore(x, "hidden_size"); /* the weights say it */
	ml_onnx_ignore(x, "activation_alpha");
	ml_onnx_ignore(x, "activation_beta");
	if (ml_onnx_float(x, "clip", 0) > 0 || ml_onnx_int(x, "input_forget", 0)) {
		ml_lower_fail(x, ML_ERR_UNSUPPORTED, "clip and input_forget are not supported");
		return false;
	}
	if (!x->in[4])
		return true;
	if (!ml_lower_scalar(x, x->in[4], &length)) {
		ml_lower_needs(x, 4);
		return false;
	}
	if (ml_dim_is_int(steps, &n) && length == (double)n)
		return true;
	ml_lower_fail(x, ML_ERR_UNSUPPORTED, "sequence_lens other than the whole is not supported");
	return false;
}

/* v is [steps, batch, inputs] */
static ml_node *
run_direction(ml_lower *x, const cell *c, ml_value *v, int d, int directions, bool reverse)
{
	ml_value *in[OPERANDS] = {v, direction_of(x, x->in[1], d), direction_of(x, x->in[2], d)};
	int n = OPERANDS;

	if (!in[WEIGHT] || !in[RECURRENT])
		return NULL;
	if (in[WEIGHT]->type.rank != 2 || in[RECURRENT]->type.rank != 2)
		return ml_lower_fail(x, ML_ERR_SHAPE, "weights must have rank 3");
	ml_dim hidden = in[RECURRENT]->type.dim[1], state[] = {v->type.dim[1], hidden};
	ml_dim bias = ml_dim_mul(ML_DIMS, hidden, ML_INT(2 * c->gates));
	in[BIAS] = x->in[3] ? direction_of(x, x->in[3], d) : zeros(x, v, &bias, 1);
	in[STATE] = x->in[5] ? direction_of(x, x->in[5], d) : zeros(x, v, state, 2);
	in[CELL] = x->in[6] ? direction_of(x, x->in[6], d) : zeros(x, v, state, 2);
	in[PEEPHOLE] = direction_of(x, x->in[7], d);
	while (n > 4 && !in[n - 1])
		n--;
	for (int i = 0; i < n; i++)
		in[i] = ml_lower_wide(x, in[i]);
	ml_node *node = ml_begin(x->b, ML_OP_rnn, in, c->gates == 4 ? n : STATE + 1);
	if (!node || !set_activations(x, node, c, d, directions))
		return NULL;
	ML_A(node, rnn, cell).str = c->name;
	ML_A(node, rnn, reverse).i64 = reverse;
	ML_A(node, rnn, linear_before_reset).i64 = ml_onnx_int(x, "linear_before_reset", 0);
	return ml_finish(x->b, node);
}

/* Results of all directions along a new axis. */
static ml_value *
stack(ml_lower *x, ml_value **part, int n, int axis)
{
	int64_t axes = axis;

	for (int i = 0; i < n; i++)
		part[i] = ml_build_unsqueeze(x->b, part[i], &axes, 1);
	return n == 1 ? part[0] : ml_build_concat(x->b, part, n, axis);
}

ml_value *
ml_lower_rnn(ml_lower *x)
{
	const cell *c = &cells[x->row->arg];
	const char *direction = ml_onnx_text(x, "direction", "forward");
	bool both = !strcmp(direction, "bidirectional"), back = !strcmp(direction, "reverse");
	bool batch_first = ml_onnx_int(x, "layout", 0) != 0;
	int n = both ? 2 : 1;
	ml_value *v = x->in[0], *part[3][2];

	if (!both && !back && strcmp(direction, "forward"))
		return ml_lower_fail(x, ML_ERR_VALUE,
				     "direction must be forward, reverse or bidirectional");
	if (v->type.rank != 3 || x->in[1]->type.rank != 3 || x->in[2]->type.rank != 3)
		return ml_lower_fail(x, ML_ERR_SHAPE, "operand and weights must have rank 3");
	if (!ml_dim_equals(x->in[1]->type.dim[0], n))
		return ml_lower_fail(x, ML_ERR_SHAPE, "the weights must have %d directions", n);
	for (int i = 5; i <= 6 && batch_first; i++)
		x->in[i] = ml_lower_move_axis(x, x->in[i], 0, 1);
	v = batch_first ? ml_lower_move_axis(x, v, 0, 1) : v;
	if (!v || !is_plain(x, v->type.dim[0]))
		return NULL;
	for (int d = 0; d < n; d++) {
		ml_node *node = run_direction(x, c, v, d, n, back || d == 1);
		if (!node)
			return NULL;
		for (int i = 0; i < 3; i++)
			part[i][d] = ml_lower_as(x, &node->out[i], v);
	}
	ml_value *y = stack(x, part[0], n, batch_first ? 2 : 1);
	x->out[1] = stack(x, part[1], n, batch_first ? 1 : 0);
	if (c->gates == 4)
		x->out[2] = stack(x, part[2], n, batch_first ? 1 : 0);
	return batch_first ? ml_lower_move_axis(x, y, 0, 1) : y;
}
