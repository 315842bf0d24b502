/* quantize.c -- bodies of the conversions between floats and logical integers. */
#include "../expand.h"

/* Below, the reciprocal is no normal number; rows that small are zeros. */
#define SMALLEST_SCALE 1e-37

/* One division a row: elements are multiplied by the reciprocal of the scale.  Casting to u8
 * saturates, so it clamps zero points and elements alike. */
void
ml_body_quantize_row(ml_builder *b, const ml_node *n, ml_value *const *in, ml_value **out)
{
	int64_t last = n->out[0].type.rank - 1;
	ml_value *x = in[0], *empty;
	ml_value *lo = ml_build_reduce(b, ML_OP_reduce_min, x, &last, 1);
	ml_value *hi = ml_build_reduce(b, ML_OP_reduce_max, x, &last, 1);

	/* The range includes 0, which is then represented exactly. */
	lo = ml_op_number(b, ML_OP_min, lo, 0);
	hi = ml_op_number(b, ML_OP_max, hi, 0);
	ml_value *scale = ml_op_number(b, ML_OP_mul, ml_op2(b, ML_OP_sub, hi, lo), 1. / 255);
	empty = ml_op_number(b, ML_OP_lt, scale, SMALLEST_SCALE);
	scale = ml_op3(b, ML_OP_select, empty, ml_build_f64(b, ML_f32, 1), scale);
	ml_value *inverse = ml_op2(b, ML_OP_div, ml_build_f64(b, ML_f32, 1), scale);
	ml_value *zero_f = ml_op1(b, ML_OP_neg, ml_op2(b, ML_OP_mul, lo, inverse));
	ml_value *zero = ml_build_cast(b, ml_op1(b, ML_OP_round, zero_f), ML_u8);
	ml_value *q = ml_op1(b, ML_OP_round, ml_op2(b, ML_OP_mul, x, inverse));
	q = ml_op2(b, ML_OP_add, q, ml_build_cast(b, zero, ML_f32));
	out[0] = ml_build_cast(b, q, ML_u8);
	out[1] = scale;
	out[2] = ml_build_cast(b, zero, ML_s32);
}

/* [.., size] as [.., groups, size / groups]. */
static ml_value *
in_groups(ml_builder *b, ml_value *x, ml_dim groups)
{
	ml_dim shape[ML_MAX_RANK + 1];
	int rank = x->type.rank;

	for (int i = 0; i < rank - 1; i++)
		shape[i] = x->type.dim[i];
	shape[rank - 1] = groups;
	shape[rank] = ml_dim_floordiv(b->m->dims, x->type.dim[rank - 1], groups);
	return ml_build_reshape(b, x, shape, rank + 1);
}

/* [g, n] as [g, 1, .., 1, n]. */
static ml_value *
per_group(ml_builder *b, ml_value *v, int rank)
{
	ml_dim shape[ML_MAX_RANK];

	for (int i = 0; i < rank; i++)
		shape[i] = ml_dim_int(b->m->dims, 1);
	shape[0] = v->type.dim[0];
	shape[rank - 1] = v->type.dim[1];
	return ml_build_reshape(b, v, shape, rank);
}

/* Products are exact in s32 within a group, and are added up over groups in f32. */
void
ml_body_linear_u4(ml_builder *b, const ml_node *n, ml_value *const *in, ml_value **out)
{
	const ml_type *t = &n->out[0].type, *s = &in[2]->type;
	int rank = t->rank;
	const int64_t last = rank, group = rank - 1, first = 0, second = 1;
	int64_t front[ML_MAX_RANK], outer = 0;
	ml_dim shape[] = {s->dim[0], NULL, t->dim[rank - 1]};

	shape[1] = ml_dim_floordiv(b->m->dims, in[1]->type.dim[0], s->dim[0]);
	ml_value *x = in_groups(b, in[0], s->dim[0]);
	ml_value *top = ml_build_reduce(b, ML_OP_reduce_max, ml_op1(b, ML_OP_abs, x), &last, 1);
	ml_value *scale = ml_op_number(b, ML_OP_mul, top, 1. / 127);
	ml_value *empty = ml_op_number(b, ML_OP_lt, scale, SMALLEST_SCALE);
	scale = ml_op3(b, ML_OP_select, empty, ml_build_f64(b, ML_f32, 1), scale);
	ml_value *inverse = ml_op2(b, ML_OP_div, ml_build_f64(b, ML_f32, 1), scale);
	ml_value *q = ml_op1(b, ML_OP_round, ml_op2(b, ML_OP_mul, x, inverse));
	q = ml_build_cast(b, ml_build_cast(b, q, ML_s8), ML_s32);

	ml_value *w = ml_build_reshape(b, ml_build_cast(b, in[1], ML_s32), shape, 3);
	if (n->nin > 3) {
		shape[1] = ml_dim_int(b->m->dims, 1);
		ml_value *zero = ml_build_cast(b, in[3], ML_s32);
		w = ml_op2(b, ML_OP_sub, w, ml_build_reshape(b, zero, shape, 3));
	} else {
		w = ml_op_number(b, ML_OP_sub, w, 8);
	}
	ml_value *y = ml_build_dot(b, q, w, &group, &first, 1, &last, &second, 1);
	/* [.., g, 1] to [g, .., 1] */
	front[outer++] = group;
	for (int64_t i = 0; i < rank + 1; i++)
		if (i != group)
			front[outer++] = i;
	y = ml_op2(b, ML_OP_mul, ml_build_cast(b, y, ML_f32), ml_build_transpose(b, scale, front));
	y = ml_op2(b, ML_OP_mul, y, per_group(b, in[2], rank + 1));
	y = ml_build_reduce(b, ML_OP_reduce_sum, y, &first, 1);
	out[0] = ml_build_reshape(b, y, t->dim, rank);
}

/* Known to be 0: what is behind a relu has this zero point. */
static bool
is_nothing(const ml_value *zero)
{
	double z;

	return ml_is_splat(zero, &z) && z == 0;
}

void
ml_body_quantize(ml_builder *b, const ml_node *n, ml_value *const *in, ml_value **out)
{
	double scale;
	bool unit = ml_is_splat(in[1], &scale) && scale == 1;
	ml_value *q = unit ? in[0] : ml_op2(b, ML_OP_div, in[0], in[1]);

	ml_dtype to = ML_A(n, quantize, dtype).dtype;

	q = ml_op1(b, ML_OP_round, q);
	if (ml_is_float(to) || !is_nothing(in[2])) /* integers have no -0 */
		q = ml_op2(b, ML_OP_add, q, ml_build_cast(b, in[2], in[0]->type.dtype));
	out[0] = ml_build_cast(b, q, to);
}

/* Wide operands are subtracted as floats, narrow ones exactly as s32: the results agree. */
void
ml_body_dequantize(ml_builder *b, const ml_node *n, ml_value *const *in, ml_value **out)
{
	ml_dtype real = in[1]->type.dtype;
	bool narrow =
		ml_dtype_bytes(in[0]->type.dtype) < 4 && ml_dtype_bytes(in[2]->type.dtype) < 4;
	ml_dtype common = narrow ? ML_s32 : real;
	ml_value *d = ml_build_cast(b, in[0], common);

	(void)n;
	if (!narrow || !is_nothing(in[2]))
		d = ml_op2(b, ML_OP_sub, d, ml_build_cast(b, in[2], common));
	out[0] = ml_op2(b, ML_OP_mul, ml_build_cast(b, d, real), in[1]);
}
