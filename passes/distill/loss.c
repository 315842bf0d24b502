/* loss.c -- loss terms between a teacher's and a student's values. */
#include "../../ir/expand.h"
#include "train.h"

/* Tiny rows have no direction; keeps their cosine and its gradient finite. */
static const double least_square = 1e-24;

/* Over all axes, as a scalar. */
static ml_value *
total(ml_builder *b, ml_value *x)
{
	int64_t axes[ML_MAX_RANK];

	if (!x || !x->type.rank)
		return x;
	for (int i = 0; i < x->type.rank; i++)
		axes[i] = i;
	x = ml_build_reduce(b, ML_OP_reduce_sum, x, axes, x->type.rank);
	return ml_build_reshape(b, x, NULL, 0);
}

/* The mean of one number per row, weighted. */
static ml_value *
row_mean(ml_builder *b, ml_value *x, ml_value *weight)
{
	if (!x)
		return NULL;
	if (!weight)
		return ml_op2(b, ML_OP_div, total(b, x),
			      ml_size_as(b, x->type.dtype, ml_type_count(b->m->dims, &x->type)));
	weight = ml_build_broadcast(b, ml_build_cast(b, weight, x->type.dtype), x->type.dim,
				    x->type.rank);
	return ml_op2(b, ML_OP_div, total(b, ml_op2(b, ML_OP_mul, x, weight)), total(b, weight));
}

static ml_value *
row_sum(ml_builder *b, ml_value *x)
{
	int64_t last = x ? x->type.rank - 1 : 0;

	return ml_build_reduce(b, ML_OP_reduce_sum, x, &last, 1);
}

ml_value *
ml_log_softmax(ml_builder *b, ml_value *x, double temperature)
{
	int64_t last = x ? x->type.rank - 1 : 0;

	x = ml_op_number(b, ML_OP_mul, x, 1 / temperature);
	x = ml_op2(b, ML_OP_sub, x, ml_build_reduce(b, ML_OP_reduce_max, x, &last, 1));
	ml_value *sum = row_sum(b, ml_op1(b, ML_OP_exp, x));
	return ml_op2(b, ML_OP_sub, x, ml_op1(b, ML_OP_log, sum));
}

ml_value *
ml_loss_kl(ml_builder *b, ml_value *teacher, ml_value *student, double temperature,
	   ml_value *weight)
{
	ml_value *p = ml_log_softmax(b, teacher, temperature);
	ml_value *q = ml_log_softmax(b, student, temperature);
	ml_value *terms = ml_op2(b, ML_OP_mul, ml_op1(b, ML_OP_exp, p), ml_op2(b, ML_OP_sub, p, q));

	return ml_op_number(b, ML_OP_mul, row_mean(b, row_sum(b, terms), weight),
			    temperature * temperature);
}

ml_value *
ml_loss_mse(ml_builder *b, ml_value *teacher, ml_value *student, ml_value *weight)
{
	ml_value *d = ml_op2(b, ML_OP_sub, teacher, student);
	ml_value *rows = row_sum(b, ml_op2(b, ML_OP_mul, d, d));

	if (!rows)
		return NULL;
	ml_dim size = d->type.dim[d->type.rank - 1];
	return row_mean(b, ml_op2(b, ML_OP_div, rows, ml_size_as(b, d->type.dtype, size)), weight);
}

/* sqrt(s * s) is s, so that equal rows have cosine 1. */
ml_value *
ml_loss_cosine(ml_builder *b, ml_value *teacher, ml_value *student, ml_value *weight)
{
	ml_value *xx = row_sum(b, ml_op2(b, ML_OP_mul, teacher, teacher));
	ml_value *yy = row_sum(b, ml_op2(b, ML_OP_mul, student, student));
	ml_value *xy = row_sum(b, ml_op2(b, ML_OP_mul, teacher, student));
	ml_value *norms = ml_op2(b, ML_OP_mul, xx, yy);

	norms = ml_op1(b, ML_OP_sqrt, ml_op_number(b, ML_OP_max, norms, least_square));
	ml_value *cosine = ml_op2(b, ML_OP_div, xy, norms);
	return cosine ? row_mean(b,
				 ml_op2(b, ML_OP_sub, ml_build_f64(b, cosine->type.dtype, 1),
					cosine),
				 weight)
		      : NULL;
}
