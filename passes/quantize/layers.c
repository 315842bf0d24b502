/* layers.c -- layers with constant weights, and their weights as s8 behind a dequantize. */
#include "layers.h"

enum { LONGEST = 32000 /* inner size: sums and a bias must fit s32 */ };

bool
ml_is_layer(const ml_node *n)
{
	const ml_value *w = n->nin > 1 ? ml_in(n, 1) : NULL;
	int64_t count;

	return (n->op == ML_OP_linear || n->op == ML_OP_conv) && ml_is_const(w) &&
	       w->type.dtype == ML_f32 && ml_type_static_count(&w->type, &count) && count > 0;
}

/* The scale of channel `axis` in the weights' shape. */
static ml_value *
scales(ml_builder *b, const ml_value *w, int axis, ml_blob *blob)
{
	ml_type t = {.dtype = ML_f32, .rank = w->type.rank};

	for (int i = 0; i < t.rank; i++)
		t.dim[i] = i == axis ? w->type.dim[i] : ml_dim_int(b->m->dims, 1);
	return ml_build_const(b, &t, blob);
}

/* Kernels of one channel are summed by shifted products, not by tiles, and those that meet floats
 * are no integers then: both keep their digits. */
static bool
quantize_kernels(ml_pass_ctx *px, const ml_node *n, int64_t rows, int64_t inner, ml_quantized *q)
{
	const ml_value *w = ml_in(n, 1);
	int64_t channels;

	if (!ml_dim_is_int(w->type.dim[1], &channels) || channels <= 1 ||
	    !ml_is(ml_in(n, 0), ML_OP_dequantize))
		return ml_quantize_rows(px, w, rows, inner, q);
	return ml_quantize_kernels(px, w, rows, channels, inner / channels, q);
}

bool
ml_quantize_layer(ml_pass_ctx *px, ml_node *n)
{
	ml_value *w = ml_in(n, 1);
	int axis = n->op == ML_OP_linear;
	ml_type t = w->type;
	ml_row_facts facts = {.bytes = ml_is(ml_in(n, 0), ML_OP_dequantize)};
	ml_quantized q;
	int64_t count, channels, inner;

	ml_type_static_count(&w->type, &count);
	ml_dim_is_int(w->type.dim[axis], &channels);
	inner = count / channels;
	bool made =
		inner <= LONGEST && (axis ? ml_quantize_columns(px, w, inner, channels, &facts, &q)
					  : quantize_kernels(px, n, channels, inner, &q));
	if (!made) {
		ml_remark(px->cx, n->prov, "kept in fp32: %s",
			  inner > LONGEST ? "its sums may leave 32 bits"
					  : "its weights are not finite");
		return false;
	}
	ml_blob_drop(q.sums);
	ml_builder b = ml_builder_before(n);
	t.dtype = ML_s8;
	ml_value *values = ml_build_const(&b, &t, q.values);
	ml_value *y = ml_op3(&b, ML_OP_dequantize, values, scales(&b, w, axis, q.scales),
			     ml_build_f64(&b, ML_s8, 0));
	if (!y)
		return false;
	ml_set_operand(n, 1, y);
	return true;
}

ml_value *
ml_build_layer(ml_pass_ctx *px, ml_node *n, ml_value *x)
{
	ml_builder b = ml_builder_before(n);
	ml_value **in = ML_NEW_ARRAY(px->scratch, ml_value *, n->nin);

	for (int i = 0; i < n->nin; i++)
		in[i] = i ? ml_in(n, i) : x;
	ml_node *copy = ml_begin_like(&b, n, in, n->nin);
	ml_value *y = copy ? ml_finish1(&b, copy) : NULL;
	if (y && ml_is_layer(copy))
		ml_quantize_layer(px, copy);
	return y;
}

ml_gate_layer *
ml_list_layer(ml_gate *g, const ml_node *n)
{
	ml_gate_layer *l = ml_gate_add(g, g->layers++, n, 2);
	int64_t count, channels;

	if (!ml_is_layer(n))
		return l;
	const ml_value *w = ml_in(n, 1);
	ml_type_static_count(&w->type, &count);
	ml_dim_is_int(w->type.dim[n->op == ML_OP_linear], &channels);
	l->bytes[0] = 4 * (double)count;
	l->bytes[1] = (double)count + 4 * (double)channels;
	return l;
}
