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

void
ml_body_quantize(ml_builder *b, const ml_node *n, ml_value *const *in, ml_value **out)
{
	double scale;
	bool unit = ml_is_splat(in[1], &scale) && scale == 1;
	ml_value *q = unit ? in[0] : ml_op2(b, ML_OP_div, in[0], in[1]);

	q = ml_op1(b, ML_OP_round, q);
	q = ml_op2(b, ML_OP_add, q, ml_build_cast(b, in[2], in[0]->type.dtype));
	out[0] = ml_build_cast(b, q, ML_A(n, quantize, dtype).dtype);
}

/* Wide operands are subtracted as floats, narrow ones exactly as s32: the results agree. */
void
ml_body_dequantize(ml_builder *b, const ml_node *n, ml_value *const *in, ml_value **out)
{
	ml_dtype real = in[1]->type.dtype;
	bool narrow =
		ml_dtype_bytes(in[0]->type.dtype) < 4 && ml_dtype_bytes(in[2]->type.dtype) < 4;
	ml_dtype common = narrow ? ML_s32 : real;
	ml_value *d = ml_op2(b, ML_OP_sub, ml_build_cast(b, in[0], common),
			     ml_build_cast(b, in[2], common));

	(void)n;
	out[0] = ml_op2(b, ML_OP_mul, ml_build_cast(b, d, real), in[1]);
}
