/* lower_rnn.c -- RNN, GRU and LSTM: one recurrence per direction. */
#include "lower_rnn.h"
#include <string.h>

static const ml_cell cells[] = {
	{"rnn", 1, 1, {"Tanh"}},
	{"gru", 3, 2, {"Sigmoid", "Tanh"}},
	{"lstm", 4, 3, {"Sigmoid", "Tanh", "Tanh"}},
};

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

/* ---- activations ---- */

/* Parameters are used up in the order of those activations that have them. */
typedef struct parameters {
	const float *alpha, *beta;
	int nalpha, nbeta, at_alpha, at_beta;
} parameters;

static bool
read_activation(ml_lower *x, const char *name, parameters *p, ml_activation *out)
{
	const ml_activation_row *row = ml_lower_find_activation(x, name);

	out->row = row;
	for (int i = 0; row && i < row->n; i++)
		out->parameter[i] = row->parameter[i].init;
	if (row && row->n > 0 && p->at_alpha < p->nalpha)
		out->parameter[0] = (double)p->alpha[p->at_alpha++];
	if (row && row->n > 1 && p->at_beta < p->nbeta)
		out->parameter[1] = (double)p->beta[p->at_beta++];
	return row != NULL;
}

/* Those of direction d. */
static bool
read_activations(ml_recurrence *r, int d, int directions)
{
	ml_lower *x = r->x;
	int given, n = r->cell->activations;
	const char **name = ml_onnx_texts(x, "activations", &given);
	parameters p = {0};

	p.alpha = ml_onnx_floats(x, "activation_alpha", &p.nalpha);
	p.beta = ml_onnx_floats(x, "activation_beta", &p.nbeta);
	if (name && given != n * directions) {
		ml_lower_fail(x, ML_ERR_VALUE, "%d activations, must be %d", given, n * directions);
		return false;
	}
	for (int i = 0; i < n * (d + 1); i++) {
		const char *each = name ? name[i] : r->cell->init[i % n];
		if (!read_activation(x, each, &p, &r->act[i % n]))
			return false;
	}
	return true;
}

/* ---- one direction ---- */

static bool
read_operands(ml_recurrence *r, ml_value *v, int d)
{
	ml_lower *x = r->x;
	ml_value **in = r->in;

	in[ML_RNN_INPUT] = v;
	in[ML_RNN_WEIGHT] = direction_of(x, x->in[1], d);
	in[ML_RNN_RECURRENT] = direction_of(x, x->in[2], d);
	if (!in[ML_RNN_WEIGHT] || !in[ML_RNN_RECURRENT])
		return false;
	/* of rank 2, as the operands have rank 3 */
	ml_dim hidden = in[ML_RNN_RECURRENT]->type.dim[1], state[] = {v->type.dim[1], hidden};
	ml_dim bias = ml_dim_mul(ML_DIMS, hidden, ML_INT(2 * r->cell->gates));
	in[ML_RNN_BIAS] = x->in[3] ? direction_of(x, x->in[3], d) : zeros(x, v, &bias, 1);
	in[ML_RNN_STATE] = x->in[5] ? direction_of(x, x->in[5], d) : zeros(x, v, state, 2);
	in[ML_RNN_CELL] = x->in[6] ? direction_of(x, x->in[6], d) : zeros(x, v, state, 2);
	in[ML_RNN_PEEPHOLE] = direction_of(x, x->in[7], d);
	for (int i = 0; i < ML_RNN_OPERANDS; i++)
		in[i] = ml_lower_wide(x, in[i]);
	return in[ML_RNN_BIAS] && in[ML_RNN_STATE] && in[ML_RNN_CELL];
}

/* The rnn node checks its operands itself; a loop needs it done before. */
static bool
check_operands(ml_recurrence *r)
{
	ml_lower *x = r->x;
	const ml_dim *recurrent = r->in[ML_RNN_RECURRENT]->type.dim, *v = r->in[0]->type.dim;
	ml_dim size = recurrent[1], rows = ml_dim_mul(ML_DIMS, size, ML_INT(r->cell->gates));
	const struct {
		int rank;
		ml_dim dim[2];
	} want[ML_RNN_OPERANDS] = {
		[ML_RNN_WEIGHT] = {2, {rows, v[2]}},
		[ML_RNN_RECURRENT] = {2, {rows, size}},
		[ML_RNN_BIAS] = {1, {ml_dim_mul(ML_DIMS, rows, ML_INT(2))}},
		[ML_RNN_STATE] = {2, {v[1], size}},
		[ML_RNN_CELL] = {2, {v[1], size}},
		[ML_RNN_PEEPHOLE] = {1, {ml_dim_mul(ML_DIMS, size, ML_INT(3))}},
	};

	for (int i = ML_RNN_WEIGHT; i < ML_RNN_OPERANDS; i++) {
		const ml_type *t = r->in[i] ? &r->in[i]->type : NULL;
		bool fits = !t || (t->rank == want[i].rank && t->dtype == r->in[0]->type.dtype);
		for (int d = 0; t && fits && d < t->rank; d++)
			fits = ml_require_equal(x->b, t->dim[d], want[i].dim[d],
						"weights and states must fit");
		if (!fits && x->b->failed == ML_OK)
			ml_lower_fail(x, ML_ERR_SHAPE, "weights, biases or states do not fit");
		if (!fits)
			return false;
	}
	return true;
}

static bool
rnn_node(ml_recurrence *r, ml_value **out)
{
	ml_lower *x = r->x;
	bool lstm = r->cell->gates == 4;
	int n = !lstm ? ML_RNN_STATE + 1 : ML_RNN_PEEPHOLE + (r->in[ML_RNN_PEEPHOLE] != NULL);
	ml_node *node = ml_begin(x->b, ML_OP_rnn, r->in, n);

	if (!node)
		return false;
	ML_A(node, rnn, f).str = r->act[0].row->name;
	ML_A(node, rnn, g).str = r->act[1].row ? r->act[1].row->name : "Tanh";
	ML_A(node, rnn, h).str = r->act[2].row ? r->act[2].row->name : "Tanh";
	ML_A(node, rnn, cell).str = r->cell->name;
	ML_A(node, rnn, reverse).i64 = r->reverse;
	ML_A(node, rnn, linear_before_reset).i64 = r->linear_before_reset;
	node = ml_finish(x->b, node);
	for (int i = 0; node && i < 3; i++)
		out[i] = &node->out[i];
	return node != NULL;
}

static bool
run_direction(ml_recurrence *r, ml_value *v, int d, int directions, ml_value **out)
{
	bool plain = !r->lengths && !(r->clip > 0) && !r->coupled;

	if (!read_operands(r, v, d) || !read_activations(r, d, directions))
		return false;
	for (int i = 0; i < r->cell->activations; i++) {
		const char *name = r->act[i].row->name;
		plain = plain && (!strcmp(name, "Sigmoid") || !strcmp(name, "Tanh") ||
				  !strcmp(name, "Relu"));
	}
	if (plain)
		return rnn_node(r, out);
	return check_operands(r) && ml_lower_rnn_loop(r, out);
}

/* ---- the operator ---- */

/* Results of all directions along a new axis. */
static ml_value *
stack(ml_lower *x, ml_value **part, int n, int axis)
{
	int64_t axes = axis;

	for (int i = 0; i < n; i++)
		part[i] = ml_build_unsqueeze(x->b, part[i], &axes, 1);
	return n == 1 ? part[0] : ml_build_concat(x->b, part, n, axis);
}

/* Lengths that are those of the whole sequence say nothing. */
static bool
read_lengths(ml_recurrence *r, ml_dim steps)
{
	ml_lower *x = r->x;
	double length;
	int64_t n;

	if (!x->in[4])
		return true;
	if (ml_dim_is_int(steps, &n) && ml_lower_scalar(x, x->in[4], &length) &&
	    length == (double)n)
		return true;
	r->lengths = ml_lower_index(x, x->in[4]);
	if (r->lengths && r->lengths->type.rank != 1)
		ml_lower_fail(x, ML_ERR_SHAPE, "sequence_lens must be a list");
	return r->lengths && x->b->failed == ML_OK;
}

static bool
check_weights(ml_lower *x, int directions)
{
	if (x->in[0]->type.rank != 3 || x->in[1]->type.rank != 3 || x->in[2]->type.rank != 3)
		ml_lower_fail(x, ML_ERR_SHAPE, "operand and weights must have rank 3");
	else if (!ml_dim_equals(x->in[1]->type.dim[0], directions))
		ml_lower_fail(x, ML_ERR_SHAPE, "the weights must have %d directions", directions);
	return x->b->failed == ML_OK;
}

ml_value *
ml_lower_rnn(ml_lower *x)
{
	ml_recurrence r = {.x = x, .cell = &cells[x->row->arg]};
	const char *direction = ml_onnx_text(x, "direction", "forward");
	bool both = !strcmp(direction, "bidirectional"), back = !strcmp(direction, "reverse");
	bool batch_first = ml_onnx_int(x, "layout", 0) != 0;
	int n = both ? 2 : 1;
	ml_value *v = x->in[0], *part[3][2], *out[3];

	if (!both && !back && strcmp(direction, "forward"))
		return ml_lower_fail(x, ML_ERR_VALUE,
				     "direction must be forward, reverse or bidirectional");
	ml_onnx_ignore(x, "hidden_size"); /* the weights say it */
	r.clip = ml_onnx_float(x, "clip", 0);
	r.coupled = ml_onnx_int(x, "input_forget", 0) != 0;
	r.linear_before_reset = ml_onnx_int(x, "linear_before_reset", 0) != 0;
	if (!check_weights(x, n))
		return NULL;
	for (int i = 5; i <= 6 && batch_first; i++)
		x->in[i] = ml_lower_move_axis(x, x->in[i], 0, 1);
	v = batch_first ? ml_lower_move_axis(x, v, 0, 1) : v;
	if (!v || !read_lengths(&r, v->type.dim[0]))
		return NULL;
	for (int d = 0; d < n; d++) {
		r.reverse = back || d == 1;
		if (!run_direction(&r, v, d, n, out))
			return NULL;
		for (int i = 0; i < 3; i++)
			part[i][d] = ml_lower_as(x, out[i], v);
	}
	ml_value *y = stack(x, part[0], n, batch_first ? 2 : 1);
	x->out[1] = stack(x, part[1], n, batch_first ? 1 : 0);
	if (r.cell->gates == 4)
		x->out[2] = stack(x, part[2], n, batch_first ? 1 : 0);
	return batch_first ? ml_lower_move_axis(x, y, 0, 1) : y;
}
