/* export_quantize.c -- QuantizeLinear and DequantizeLinear: per tensor, per index of an axis, and
 * weights of four bits in blocks.
 */
#include "export_graph.h"

static ml_dtype
narrow_type(const ml_node *n)
{
	return n->op == ML_OP_dequantize ? ml_in(n, 0)->type.dtype : ML_A(n, quantize, dtype).dtype;
}

/* The axis that constants go along: -1 for one number, which all axes take. */
static bool
find_axis(const ml_node *n, const ml_value *v, int *axis)
{
	int shift = ml_in(n, 0)->type.rank - v->type.rank;

	*axis = -1;
	if (v->type.rank == 0)
		return true;
	if (!ml_is_const(v) || shift < 0)
		return false;
	for (int i = 0; i < v->type.rank; i++) {
		if (ml_dim_equals(v->type.dim[i], 1))
			continue;
		if (*axis >= 0 || v->type.dim[i] != ml_in(n, 0)->type.dim[i + shift])
			return false;
		*axis = i + shift;
	}
	return true;
}

static bool
is_zero(const ml_value *v)
{
	double number;

	return ml_is_splat(v, &number) && number == 0;
}

bool
ml_export_quantizes(const ml_node *n)
{
	ml_dtype narrow = narrow_type(n);
	int scales, zeros;
	bool known = narrow == ML_u8 || narrow == ML_s8 ||
		     (narrow == ML_s32 && n->op == ML_OP_dequantize && is_zero(ml_in(n, 2)));

	if (!known || ml_in(n, 1)->type.dtype != ML_f32 ||
	    (narrow != ML_s32 && ml_in(n, 2)->type.dtype != narrow) ||
	    !find_axis(n, ml_in(n, 1), &scales) || !find_axis(n, ml_in(n, 2), &zeros))
		return false;
	/* zero points have the scales' shape, or are left out, which says u8 where it matters */
	return scales == zeros ||
	       (is_zero(ml_in(n, 2)) && (n->op == ML_OP_dequantize || narrow == ML_u8));
}

/* A constant as a list along the axis, or as a scalar. */
static const char *
listed(ml_export *e, const ml_node *n, int i, int axis)
{
	const ml_value *v = ml_in(n, i);
	int64_t count = 1;

	if (v->type.rank == 0)
		return ml_spell_in(n, i);
	const ml_blob *b = ML_A(v->def, const, value).blob;
	if (axis >= 0)
		ml_dim_is_int(ml_in(n, 0)->type.dim[axis], &count);
	return ml_spell_weight(e, v->type.dtype, &count, axis >= 0, b->bytes, b->size);
}

const char *
ml_spell_quantize(ml_export *e, const ml_node *n)
{
	const char *op = n->op == ML_OP_quantize ? "QuantizeLinear" : "DequantizeLinear";
	int axis, zeros;

	find_axis(n, ml_in(n, 1), &axis);
	find_axis(n, ml_in(n, 2), &zeros);
	bool omitted = narrow_type(n) == ML_s32 || zeros != axis;
	const char *in[] = {ml_spell_in(n, 0), listed(e, n, 1, axis),
			    omitted ? NULL : listed(e, n, 2, axis)};
	Onnx__NodeProto *node = ml_spell_node(e, op, in, omitted ? 2 : 3);
	if (axis >= 0)
		ml_spell_int(e, node, "axis", axis);
	return node->output[0];
}

/* ---- weights of four bits ---- */

/* Operands that a file can hold. */
bool
ml_export_stores_u4(const ml_node *n)
{
	for (int i = 1; i < n->nin; i++)
		if (!ml_is_const(ml_in(n, i)))
			return false;
	return true;
}

/* A constant matrix; u8 levels as u4, or without zero points as s4, which has 8 less; scales as
 * floats. */
static const char *
matrix(ml_export *e, const ml_node *n, int i)
{
	const ml_value *v = ml_in(n, i);
	const void *from = ml_const_blob(v)->bytes;
	bool scales = i == 2, centered = n->nin < 4;
	int64_t dim[2] = {0, 0};

	ml_dim_is_int(v->type.dim[0], &dim[0]);
	ml_dim_is_int(v->type.dim[1], &dim[1]);
	int64_t count = dim[0] * dim[1];
	ml_dtype to = scales ? ML_f32 : centered ? ML_s4 : ML_u4;
	uint64_t size = (uint64_t)(count * ml_dtype_bytes(to));
	void *bytes = ml_alloc(&e->arena, (size_t)size);
	for (int64_t k = 0; k < count; k++)
		if (scales)
			ml_write_f64(to, bytes, k, ml_read_f64(v->type.dtype, from, k));
		else
			ml_write_s64(to, bytes, k,
				     ml_read_s64(ML_u8, from, k) - (centered ? 8 : 0));
	return ml_spell_weight(e, to, dim, 2, bytes, size);
}

/* x . DequantizeLinear(w, scale, zero) in blocks along k: other runtimes have kernels for it */
const char *
ml_spell_linear_u4(ml_export *e, const ml_node *n)
{
	const char *in[] = {matrix(e, n, 1), matrix(e, n, 2), n->nin > 3 ? matrix(e, n, 3) : NULL};
	Onnx__NodeProto *node = ml_spell_node(e, "DequantizeLinear", in, n->nin - 1);
	int64_t k = 1, groups = 1;

	ml_dim_is_int(ml_in(n, 1)->type.dim[0], &k);
	ml_dim_is_int(ml_in(n, 2)->type.dim[0], &groups);
	ml_spell_int(e, node, "axis", 0);
	ml_spell_int(e, node, "block_size", k / groups);
	return ml_spell2(e, "MatMul", ml_spell_in(n, 0), node->output[0]);
}
