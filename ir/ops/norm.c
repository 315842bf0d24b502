/* norm.c -- bodies of means, softmax and normalisations. */
#include "../expand.h"

ml_value *
ml_mean_of(ml_builder *b, ml_value *x, const int64_t *axes, int naxes)
{
	ml_value *sum = ml_build_reduce(b, ML_OP_reduce_sum, x, axes, naxes);
	ml_dim count = ml_dim_int(b->m->dims, 1);

	if (!sum)
		return NULL;
	for (int i = 0; i < naxes; i++)
		count = ml_dim_mul(b->m->dims, count, x->type.dim[axes[i]]);
	return ml_op2(b, ML_OP_div, sum, ml_size_as(b, x->type.dtype, count));
}

void
ml_body_reduce_mean(ml_builder *b, const ml_node *n, ml_value *const *in, ml_value **out)
{
	const ml_attr *axes = &ML_A(n, reduce_mean, axes);

	out[0] = ml_mean_of(b, in[0], axes->ints, axes->count);
}

/* The largest element becomes 0, so that exp does not overflow. */
ml_value *
ml_softmax_of(ml_builder *b, ml_value *x, int64_t axis)
{
	ml_value *top = ml_build_reduce(b, ML_OP_reduce_max, x, &axis, 1);
	ml_value *e = ml_op1(b, ML_OP_exp, ml_op2(b, ML_OP_sub, x, top));

	return ml_op2(b, ML_OP_div, e, ml_build_reduce(b, ML_OP_reduce_sum, e, &axis, 1));
}

void
ml_body_softmax(ml_builder *b, const ml_node *n, ml_value *const *in, ml_value **out)
{
	out[0] = ml_softmax_of(b, in[0], ML_A(n, softmax, axis).i64);
}

int
ml_axes_from(int64_t axis, int rank, int64_t *axes)
{
	int n = 0;

	for (int64_t i = axis; i < rank; i++)
		axes[n++] = i;
	return n;
}

/* x / sqrt(mean of squares + eps) */
static ml_value *
unit_scale(ml_builder *b, ml_value *x, const int64_t *axes, int naxes, double eps)
{
	ml_value *power = ml_mean_of(b, ml_op2(b, ML_OP_mul, x, x), axes, naxes);
	ml_value *root = ml_op1(b, ML_OP_sqrt, ml_op_number(b, ML_OP_add, power, eps));

	if (!root)
		return NULL;
	return ml_op2(b, ML_OP_mul, x,
		      ml_op2(b, ML_OP_div, ml_build_f64(b, root->type.dtype, 1), root));
}

void
ml_body_layer_norm(ml_builder *b, const ml_node *n, ml_value *const *in, ml_value **out)
{
	int64_t axes[ML_MAX_RANK];
	int naxes = ml_axes_from(ML_A(n, layer_norm, axis).i64, n->out[0].type.rank, axes);
	ml_value *centred = ml_op2(b, ML_OP_sub, in[0], ml_mean_of(b, in[0], axes, naxes));
	ml_value *unit = unit_scale(b, centred, axes, naxes, ML_A(n, layer_norm, eps).f64);

	out[0] = ml_op2(b, ML_OP_mul, unit, in[1]);
	if (n->nin > 2)
		out[0] = ml_op2(b, ML_OP_add, out[0], in[2]);
}

void
ml_body_rms_norm(ml_builder *b, const ml_node *n, ml_value *const *in, ml_value **out)
{
	int64_t axes[ML_MAX_RANK];
	int naxes = ml_axes_from(ML_A(n, rms_norm, axis).i64, n->out[0].type.rank, axes);

	out[0] = ml_op2(b, ML_OP_mul, unit_scale(b, in[0], axes, naxes, ML_A(n, rms_norm, eps).f64),
			in[1]);
}

/* (x - mean) / sqrt(var + eps) * scale + bias */
void
ml_body_batch_norm(ml_builder *b, const ml_node *n, ml_value *const *in, ml_value **out)
{
	int rank = n->out[0].type.rank;
	ml_value *var = ml_op_number(b, ML_OP_add, in[4], ML_A(n, batch_norm, eps).f64);
	ml_value *factor = ml_op2(b, ML_OP_div, in[1], ml_op1(b, ML_OP_sqrt, var));
	ml_value *centred = ml_op2(b, ML_OP_sub, in[0], ml_per_channel(b, in[3], rank));

	/* A vector would align with the last dim: for rank 2 that is the channel. */
	out[0] =
		ml_op2(b, ML_OP_add, ml_op2(b, ML_OP_mul, centred, ml_per_channel(b, factor, rank)),
		       ml_per_channel(b, in[2], rank));
}
