/* composite.c -- type rules of composites; their meaning is in the body files beside this one. */
#include "../attention.h"
#include "../infer.h"
#include <string.h>

static ml_status
like_operand(ml_node *n)
{
	n->out[0].type = ml_in(n, 0)->type;
	return ML_OK;
}

static ml_status
same_float(ml_builder *b, ml_node *n)
{
	ML_STEP(ml_want_kind(b, n, 0, ML_KF));
	for (int i = 1; i < n->nin; i++)
		ML_STEP(ml_want_same_dtype(b, n, 0, i));
	return ML_OK;
}

/* Operand i is a vector of this size. */
static ml_status
want_vector(ml_builder *b, ml_node *n, int i, ml_dim size, const char *rule)
{
	ML_STEP(ml_want_rank(b, n, i, 1, 1));
	return ml_want_equal(b, n, ml_in(n, i)->type.dim[0], size, rule);
}

/* Operand i broadcasts to t without changing it. */
static ml_status
want_broadcast(ml_builder *b, ml_node *n, int i, const ml_type *t, const char *rule)
{
	const ml_type *x = &ml_in(n, i)->type;

	if (x->rank > t->rank)
		return ml_type_fail(b, n, ML_ERR_SHAPE, "%s: rank %d exceeds %d", rule, x->rank,
				    t->rank);
	for (int d = 0; d < x->rank; d++)
		if (!ml_dim_equals(x->dim[d], 1))
			ML_STEP(ml_want_equal(b, n, x->dim[d], t->dim[t->rank - x->rank + d],
					      rule));
	return ML_OK;
}

ml_status
ml_type_linear(ml_builder *b, ml_node *n)
{
	const ml_type *x = &ml_in(n, 0)->type, *w = &ml_in(n, 1)->type;
	ml_type t = *x;

	ML_STEP(same_float(b, n));
	ML_STEP(ml_want_rank(b, n, 0, 1, ML_MAX_RANK));
	ML_STEP(ml_want_rank(b, n, 1, 2, 2));
	ML_STEP(ml_want_equal(b, n, x->dim[x->rank - 1], w->dim[0],
			      "inner dimensions must be equal"));
	if (n->nin > 2)
		ML_STEP(want_vector(b, n, 2, w->dim[1], "one bias per column"));
	t.dim[t.rank - 1] = w->dim[1];
	n->out[0].type = t;
	return ML_OK;
}

ml_status
ml_type_linear_u4(ml_builder *b, ml_node *n)
{
	const ml_type *x = &ml_in(n, 0)->type, *w = &ml_in(n, 1)->type, *s = &ml_in(n, 2)->type;
	ml_type t = *x;
	int64_t k, groups;

	ML_STEP(ml_want_dtype(b, n, 0, ML_f32));
	ML_STEP(ml_want_dtype(b, n, 1, ML_u8));
	ML_STEP(ml_want_kind(b, n, 2, ML_KF));
	ML_STEP(ml_want_rank(b, n, 0, 1, ML_MAX_RANK - 1)); /* its body splits a dim */
	for (int i = 1; i < n->nin; i++)
		ML_STEP(ml_want_rank(b, n, i, 2, 2));
	ML_STEP(ml_want_equal(b, n, x->dim[x->rank - 1], w->dim[0],
			      "inner dimensions must be equal"));
	ML_STEP(ml_want_equal(b, n, s->dim[1], w->dim[1], "scales for every column"));
	if (!ml_dim_is_int(w->dim[0], &k) || !ml_dim_is_int(s->dim[0], &groups) || groups < 1 ||
	    k % groups)
		return ml_type_fail(b, n, ML_ERR_SHAPE, "groups divide the inner dimension evenly");
	if (n->nin > 3) {
		ML_STEP(ml_want_dtype(b, n, 3, ML_u8));
		for (int i = 0; i < 2; i++)
			ML_STEP(ml_want_equal(b, n, ml_in(n, 3)->type.dim[i], s->dim[i],
					      "a zero point for every scale"));
	}
	t.dim[t.rank - 1] = w->dim[1];
	n->out[0].type = t;
	return ML_OK;
}

/* Floats of one type, or u8 by s8, which gives exact sums in s32; these have no bias. */
static ml_status
conv_dtype(ml_builder *b, ml_node *n, ml_dtype *t)
{
	*t = ml_in(n, 0)->type.dtype;
	if (*t != ML_u8)
		return same_float(b, n);
	*t = ML_s32;
	if (n->nin > 2)
		return ml_type_fail(b, n, ML_ERR_TYPE, "a convolution of integers has no bias");
	return ml_want_dtype(b, n, 1, ML_s8);
}

ml_status
ml_type_conv(ml_builder *b, ml_node *n)
{
	ml_dims *dims = b->m->dims;
	const ml_type *x = &ml_in(n, 0)->type, *w = &ml_in(n, 1)->type;
	const ml_attr *low = &ML_A(n, conv, low), *high = &ML_A(n, conv, high);
	const ml_attr *stride = &ML_A(n, conv, stride), *dilation = &ML_A(n, conv, dilation);
	int64_t groups = ML_A(n, conv, groups).i64, kernel;
	int k = x->rank - 2;
	ml_type t = *x;

	ML_STEP(conv_dtype(b, n, &t.dtype));
	ML_STEP(ml_want_rank(b, n, 0, 3, 5));
	ML_STEP(ml_want_rank(b, n, 1, x->rank, x->rank));
	ML_STEP(ml_want_count(b, n, stride, k, "stride"));
	ML_STEP(ml_want_count(b, n, dilation, k, "dilation"));
	ML_STEP(ml_want_count(b, n, low, k, "low"));
	ML_STEP(ml_want_count(b, n, high, k, "high"));
	ML_STEP(ml_want_least(b, n, stride, 1, "stride"));
	ML_STEP(ml_want_least(b, n, dilation, 1, "dilation"));
	if (groups < 1)
		return ml_type_fail(b, n, ML_ERR_VALUE, "%lld groups", (long long)groups);
	ML_STEP(ml_want_equal(b, n, x->dim[1], ml_dim_mul(dims, w->dim[1], ML_D(b, groups)),
			      "channels are those of the filter times groups"));
	if (!ml_require_divides(b, w->dim[0], ML_D(b, groups), "groups divide the filters"))
		return ml_type_fail(b, n, ML_ERR_SHAPE, "%lld groups do not divide the filters",
				    (long long)groups);
	if (n->nin > 2)
		ML_STEP(want_vector(b, n, 2, w->dim[0], "one bias per filter"));
	t.dim[1] = w->dim[0];
	for (int i = 0; i < k; i++) {
		ml_dim size = ml_dim_add(dims, x->dim[2 + i],
					 ml_dim_add(dims, low->dims[i], high->dims[i]));
		if (!ml_dim_is_int(w->dim[2 + i], &kernel) || kernel < 1)
			return ml_type_fail(b, n, ML_ERR_UNSUPPORTED,
					    "the filter's size must be a known positive number");
		t.dim[2 + i] = ml_window_count(b, size, kernel, stride->ints[i], dilation->ints[i]);
	}
	n->out[0].type = t;
	return ML_OK;
}

ml_status
ml_type_attention(ml_builder *b, ml_node *n)
{
	const ml_type *q = &ml_in(n, 0)->type, *k = &ml_in(n, 1)->type, *v = &ml_in(n, 2)->type;
	ml_type scores = *q, t = *q;
	int64_t size;

	ML_STEP(same_float(b, n));
	if (ML_A(n, attention, int8).i64)
		ML_STEP(ml_want_dtype(b, n, 0, ML_f32));
	for (int i = 0; i < 3; i++)
		ML_STEP(ml_want_rank(b, n, i, 4, 4));
	ML_STEP(ml_want_equal(b, n, q->dim[0], k->dim[0], "q, k and v have the same batch"));
	ML_STEP(ml_want_equal(b, n, k->dim[0], v->dim[0], "q, k and v have the same batch"));
	ML_STEP(ml_want_equal(b, n, k->dim[1], v->dim[1], "k and v have the same heads"));
	ML_STEP(ml_want_equal(b, n, k->dim[2], v->dim[2], "one value per key"));
	ML_STEP(ml_want_equal(b, n, q->dim[3], k->dim[3], "queries and keys have the same size"));
	if (ML_A(n, attention, int8).i64 && ml_dim_is_int(q->dim[3], &size) &&
	    size > ML_ATTENTION_SIZE)
		return ml_type_fail(b, n, ML_ERR_UNSUPPORTED,
				    "queries on integers have %d elements at most",
				    ML_ATTENTION_SIZE);
	if (!ml_require_divides(b, q->dim[1], k->dim[1], "key heads divide query heads"))
		return ml_type_fail(b, n, ML_ERR_SHAPE, "%s key heads do not divide %s query heads",
				    ml_dim_text(b, k->dim[1]), ml_dim_text(b, q->dim[1]));
	scores.dim[3] = k->dim[2];
	if (n->nin > 3)
		ML_STEP(want_broadcast(b, n, 3, &scores, "the mask broadcasts to the scores"));
	t.dim[3] = v->dim[3];
	n->out[0].type = t;
	return ML_OK;
}

ml_status
ml_type_softmax(ml_builder *b, ml_node *n)
{
	ML_STEP(same_float(b, n));
	ML_STEP(ml_want_axis(b, n, &ML_A(n, softmax, axis), ml_in(n, 0)->type.rank));
	return like_operand(n);
}

ml_status
ml_type_layer_norm(ml_builder *b, ml_node *n)
{
	ML_STEP(same_float(b, n));
	ML_STEP(ml_want_axis(b, n, &ML_A(n, layer_norm, axis), ml_in(n, 0)->type.rank));
	for (int i = 1; i < n->nin; i++)
		ML_STEP(want_broadcast(b, n, i, &ml_in(n, 0)->type,
				       "scale and bias broadcast to the operand"));
	return like_operand(n);
}

ml_status
ml_type_rms_norm(ml_builder *b, ml_node *n)
{
	ML_STEP(same_float(b, n));
	ML_STEP(ml_want_axis(b, n, &ML_A(n, rms_norm, axis), ml_in(n, 0)->type.rank));
	ML_STEP(want_broadcast(b, n, 1, &ml_in(n, 0)->type, "the scale broadcasts to the operand"));
	return like_operand(n);
}

ml_status
ml_type_gelu(ml_builder *b, ml_node *n)
{
	const char *form = ML_A(n, gelu, form).str;

	if (strcmp(form, "erf") != 0 && strcmp(form, "tanh") != 0 && strcmp(form, "sigmoid") != 0)
		return ml_type_fail(b, n, ML_ERR_VALUE, "unknown form '%s'",
				    ml_escaped(&b->m->cx->arena, form));
	ML_STEP(same_float(b, n));
	return like_operand(n);
}

ml_status
ml_type_sigmoid(ml_builder *b, ml_node *n)
{
	ML_STEP(same_float(b, n));
	return like_operand(n);
}

ml_status
ml_type_batch_norm(ml_builder *b, ml_node *n)
{
	ML_STEP(same_float(b, n));
	ML_STEP(ml_want_rank(b, n, 0, 2, ML_MAX_RANK));
	for (int i = 1; i < 5; i++)
		ML_STEP(want_vector(b, n, i, ml_in(n, 0)->type.dim[1], "one number per channel"));
	return like_operand(n);
}

ml_status
ml_type_quantize_row(ml_builder *b, ml_node *n)
{
	ml_type t = ml_in(n, 0)->type;

	ML_STEP(ml_want_dtype(b, n, 0, ML_f32));
	ML_STEP(ml_want_rank(b, n, 0, 1, ML_MAX_RANK));
	t.dtype = ML_u8;
	n->out[0].type = t;
	t.dim[t.rank - 1] = ML_D(b, 1);
	t.dtype = ML_f32;
	n->out[1].type = t;
	t.dtype = ML_s32;
	n->out[2].type = t;
	return ML_OK;
}

ml_status
ml_type_quantize(ml_builder *b, ml_node *n)
{
	ml_dtype to = ML_A(n, quantize, dtype).dtype;

	ML_STEP(ml_want_kind(b, n, 0, ML_KF));
	ML_STEP(ml_want_same_dtype(b, n, 0, 1));
	ML_STEP(ml_want_kind(b, n, 2, ML_KI));
	if (!ml_is_integer(to) || ml_dtype_bytes(to) > 2)
		return ml_type_fail(b, n, ML_ERR_TYPE, "cannot quantize to %s", ml_dtype_name(to));
	for (int i = 1; i < 3; i++)
		ML_STEP(want_broadcast(b, n, i, &ml_in(n, 0)->type,
				       "scale and zero point broadcast to the operand"));
	ML_STEP(like_operand(n));
	n->out[0].type.dtype = to;
	return ML_OK;
}

ml_status
ml_type_dequantize(ml_builder *b, ml_node *n)
{
	ML_STEP(ml_want_kind(b, n, 0, ML_KI));
	ML_STEP(ml_want_kind(b, n, 1, ML_KF));
	ML_STEP(ml_want_kind(b, n, 2, ML_KI));
	for (int i = 1; i < 3; i++)
		ML_STEP(want_broadcast(b, n, i, &ml_in(n, 0)->type,
				       "scale and zero point broadcast to the operand"));
	ML_STEP(like_operand(n));
	n->out[0].type.dtype = ml_in(n, 1)->type.dtype;
	return ML_OK;
}

/* ---- rnn ---- */

static ml_status
rnn_attributes(ml_builder *b, ml_node *n, int *gates)
{
	const char *cell = ML_A(n, rnn, cell).str;
	const char *used[] = {ML_A(n, rnn, f).str, ML_A(n, rnn, g).str, ML_A(n, rnn, h).str};
	int nused;

	*gates = !strcmp(cell, "lstm") ? 4 : !strcmp(cell, "gru") ? 3 : !strcmp(cell, "rnn");
	if (!*gates)
		return ml_type_fail(b, n, ML_ERR_VALUE, "unknown cell '%s'",
				    ml_escaped(&b->m->cx->arena, cell));
	nused = *gates == 4 ? 3 : *gates == 3 ? 2 : 1;
	for (int i = 0; i < nused; i++)
		if (strcmp(used[i], "Sigmoid") != 0 && strcmp(used[i], "Tanh") != 0 &&
		    strcmp(used[i], "Relu") != 0)
			return ml_type_fail(b, n, ML_ERR_UNSUPPORTED, "activation '%s'",
					    ml_escaped(&b->m->cx->arena, used[i]));
	if (*gates != 4 && n->nin > 5)
		return ml_type_fail(b, n, ML_ERR_TYPE, "only lstm has a cell state and peepholes");
	return ML_OK;
}

/* Every cell has three results; those without a cell state repeat h as c. */
ml_status
ml_type_rnn(ml_builder *b, ml_node *n)
{
	ml_dims *dims = b->m->dims;
	const ml_type *x = &ml_in(n, 0)->type, *w = &ml_in(n, 1)->type, *r = &ml_in(n, 2)->type;
	int gates;

	ML_STEP(rnn_attributes(b, n, &gates));
	ML_STEP(same_float(b, n));
	ML_STEP(ml_want_rank(b, n, 0, 3, 3));
	ML_STEP(ml_want_rank(b, n, 1, 2, 2));
	ML_STEP(ml_want_rank(b, n, 2, 2, 2));
	ml_dim size = r->dim[1], rows = ml_dim_mul(dims, ML_D(b, gates), size);
	ML_STEP(ml_want_equal(b, n, w->dim[0], rows, "one block of rows of w per gate"));
	ML_STEP(ml_want_equal(b, n, r->dim[0], rows, "one block of rows of r per gate"));
	ML_STEP(ml_want_equal(b, n, w->dim[1], x->dim[2], "columns of w match the input"));
	ML_STEP(want_vector(b, n, 3, ml_dim_mul(dims, ML_D(b, 2), rows), "two biases per row"));
	ml_type state = {.dtype = x->dtype, .rank = 2, .dim = {x->dim[1], size}};
	for (int i = 4; i < n->nin && i < 6; i++)
		ML_STEP(ml_want_same_shape(b, n, &ml_in(n, i)->type, &state,
					   "initial states are [batch, size]"));
	if (n->nin > 6)
		ML_STEP(want_vector(b, n, 6, ml_dim_mul(dims, ML_D(b, 3), size),
				    "three peepholes per unit"));
	n->out[0].type =
		(ml_type){.dtype = x->dtype, .rank = 3, .dim = {x->dim[0], x->dim[1], size}};
	n->out[1].type = n->out[2].type = state;
	return ML_OK;
}
