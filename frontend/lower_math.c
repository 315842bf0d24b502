/* lower_math.c -- elementwise ONNX operators. */
#include "lower.h"
#include <math.h>
#include <string.h>

ml_value *
ml_lower_unary(ml_lower *x)
{
	return ml_op1(x->b, (ml_op)x->row->arg, x->in[0]);
}

ml_value *
ml_lower_binary(ml_lower *x)
{
	return ml_op2(x->b, (ml_op)x->row->arg, x->in[0], x->in[1]);
}

/* Greater, GreaterOrEqual */
ml_value *
ml_lower_swapped(ml_lower *x)
{
	return ml_op2(x->b, (ml_op)x->row->arg, x->in[1], x->in[0]);
}

/* Sum, Min, Max */
ml_value *
ml_lower_variadic(ml_lower *x)
{
	ml_value *v = x->in[0];

	for (int i = 1; i < x->nin; i++)
		v = ml_op2(x->b, (ml_op)x->row->arg, v, x->in[i]);
	return v;
}

ml_value *
ml_lower_mean(ml_lower *x)
{
	ml_value *v = ml_lower_variadic(x);

	return x->nin == 1 ? v : ML_X2(div, v, ML_LIKE(v, x->nin));
}

ml_value *
ml_lower_identity(ml_lower *x)
{
	return x->in[0];
}

ml_value *
ml_lower_saturate(ml_lower *x, ml_value *v, ml_dtype dtype)
{
	const ml_float_format *f = ml_dtype_format(dtype);

	/* integers of few bits wrap, as ONNX's tests want it */
	if (v && ml_is_integer(dtype) && ml_dtype_bits(dtype) < 8)
		v = ml_build_cast(x->b, v, ML_s32);
	if (!v || !f || ml_dtype_bytes(dtype) != 1)
		return v ? ml_build_cast(x->b, v, dtype) : NULL;
	v = ml_is_float(v->type.dtype) ? ml_lower_wide(x, v) : ml_build_cast(x->b, v, ML_f32);
	v = ML_X2(max, ML_X2(min, v, ML_LIKE(v, f->largest)), ML_LIKE(v, -f->largest));
	return v ? ml_build_cast(x->b, v, dtype) : NULL;
}

static ml_value *
cast_to(ml_lower *x, ml_value *v, ml_dtype dtype)
{
	bool saturate = ml_onnx_int(x, "saturate", 1); /* of 8 bit floats */

	ml_onnx_ignore(x, "round_mode");
	if (!v || dtype == v->type.dtype)
		return v;
	if (dtype == ML_bool)
		return ML_X1(not, ML_X2(eq, v, ML_LIKE(v, 0)));
	return saturate ? ml_lower_saturate(x, v, dtype) : ml_build_cast(x->b, v, dtype);
}

ml_value *
ml_lower_cast(ml_lower *x)
{
	ml_dtype dtype;

	if (!ml_onnx_has(x, "to"))
		return ml_lower_fail(x, ML_ERR_FORMAT, "attribute 'to' is missing");
	if (!ml_onnx_type(x, "to", ML_none, &dtype))
		return NULL;
	return cast_to(x, x->in[0], dtype);
}

ml_value *
ml_lower_cast_like(ml_lower *x)
{
	return cast_to(x, x->in[0], x->in[1]->type.dtype);
}

/* The result has the type of the base; arithmetic is done in the floating type, if there is one. */
ml_value *
ml_lower_pow(ml_lower *x)
{
	ml_value *base = x->in[0], *power = x->in[1];

	if (!ml_is_float(base->type.dtype) && ml_is_float(power->type.dtype)) {
		ml_value *wide = ML_X2(pow, ml_lower_as(x, base, power), power);
		return ml_lower_as(x, wide, base);
	}
	return ML_X2(pow, base, ml_lower_as(x, power, base));
}

ml_value *
ml_lower_mod(ml_lower *x)
{
	if (ml_onnx_int(x, "fmod", 0))
		return ML_X2(rem, x->in[0], x->in[1]);
	if (ml_is_float(x->in[0]->type.dtype) && x->version < 28)
		return ml_lower_fail(x, ML_ERR_VALUE, "floating point operands need fmod = 1");
	return ML_X2(mod, x->in[0], x->in[1]);
}

ml_value *
ml_lower_bit_shift(ml_lower *x)
{
	const char *direction = ml_onnx_text(x, "direction", "");

	if (!strcmp(direction, "LEFT"))
		return ML_X2(shl, x->in[0], x->in[1]);
	if (!strcmp(direction, "RIGHT"))
		return ML_X2(shr, x->in[0], x->in[1]);
	return ml_lower_fail(x, ML_ERR_VALUE, "direction must be LEFT or RIGHT");
}

ml_value *
ml_lower_where(ml_lower *x)
{
	return ML_X3(select, x->in[0], x->in[1], x->in[2]);
}

ml_value *
ml_lower_is_inf(ml_lower *x)
{
	ml_value *v = x->in[0];
	bool negative = ml_onnx_int(x, "detect_negative", 1) != 0;
	bool positive = ml_onnx_int(x, "detect_positive", 1) != 0;

	if (negative && positive)
		return ML_X2(eq, ML_X1(abs, v), ML_LIKE(v, INFINITY));
	if (negative || positive)
		return ML_X2(eq, v, ML_LIKE(v, negative ? -INFINITY : INFINITY));
	return ml_build_broadcast(x->b, ml_build_f64(x->b, ML_bool, 0), v->type.dim, v->type.rank);
}

ml_value *
ml_lower_reciprocal(ml_lower *x)
{
	return ML_X2(div, ML_LIKE(x->in[0], 1), x->in[0]);
}

/* ---- activations ---- */

ml_value *
ml_lower_swish(ml_lower *x)
{
	ml_value *v = x->in[0];
	double alpha = ml_onnx_float(x, "alpha", 1);

	return ML_X2(mul, v, ML_X1(sigmoid, alpha == 1 ? v : ML_X2(mul, v, ML_LIKE(v, alpha))));
}

/* swish(a) b */
ml_value *
ml_lower_swiglu(ml_lower *x)
{
	return ML_X2(mul, ml_lower_swish(x), x->in[1]);
}

static ml_value *
gelu(ml_lower *x, ml_value *v, const char *form)
{
	ml_node *n = v ? ml_begin(x->b, ML_OP_gelu, &v, 1) : NULL;

	if (!n)
		return NULL;
	ML_A(n, gelu, form).str = form;
	return ml_finish1(x->b, n);
}

ml_value *
ml_lower_gelu(ml_lower *x)
{
	const char *form = ml_onnx_text(x, "approximate", "none");

	if (strcmp(form, "none") && strcmp(form, "tanh"))
		return ml_lower_fail(x, ML_ERR_VALUE, "approximate must be none or tanh");
	return gelu(x, x->in[0], strcmp(form, "tanh") ? "erf" : "tanh");
}

/* com.microsoft: QuickGelu, FastGelu, BiasGelu */
ml_value *
ml_lower_quick_gelu(ml_lower *x)
{
	ml_value *v = x->in[0];
	double alpha = ml_onnx_float(x, "alpha", 1.702);

	return ML_X2(mul, v, ML_X1(sigmoid, ML_X2(mul, v, ML_LIKE(v, alpha))));
}

ml_value *
ml_lower_fast_gelu(ml_lower *x)
{
	return gelu(x, x->in[1] ? ML_X2(add, x->in[0], x->in[1]) : x->in[0], "tanh");
}

ml_value *
ml_lower_bias_gelu(ml_lower *x)
{
	return gelu(x, ML_X2(add, x->in[0], x->in[1]), "erf");
}

ml_value *
ml_lower_shrink(ml_lower *x)
{
	ml_value *v = x->in[0];
	double lambda = ml_onnx_float(x, "lambd", 0.5), bias = ml_onnx_float(x, "bias", 0);
	ml_value *low = ML_X2(lt, v, ML_LIKE(v, -lambda));
	ml_value *high = ML_X2(lt, ML_LIKE(v, lambda), v);
	ml_value *up = ML_X2(add, v, ML_LIKE(v, bias)), *down = ML_X2(sub, v, ML_LIKE(v, bias));

	return ML_X3(select, low, up, ML_X3(select, high, down, ML_LIKE(v, 0)));
}

/* Bounds are attributes before version 11, then operands. */
ml_value *
ml_lower_clip(ml_lower *x)
{
	ml_value *v = x->in[0], *low = x->in[1], *high = x->in[2];

	if (ml_onnx_has(x, "min"))
		low = ML_LIKE(v, ml_onnx_float(x, "min", 0));
	if (ml_onnx_has(x, "max"))
		high = ML_LIKE(v, ml_onnx_float(x, "max", 0));
	if (low)
		v = ML_X2(max, v, low);
	return high ? ML_X2(min, v, high) : v;
}

/* Identity: we run models, we do not train them. */
ml_value *
ml_lower_dropout(ml_lower *x)
{
	ml_value *v = x->in[0];
	double training = 0, ratio = ml_onnx_float(x, "ratio", 0.5);

	ml_onnx_ignore(x, "seed");
	if (x->in[1] && !ml_lower_scalar(x, x->in[1], &ratio))
		ratio = 1;
	if (x->in[2] && !ml_lower_scalar(x, x->in[2], &training))
		return ml_lower_needs(x, 2);
	if (training != 0 && ratio != 0)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "training mode is random");
	if (x->nout > 1) {
		ml_dtype mask = x->version >= 10 ? ML_bool : v->type.dtype;
		x->out[1] = ml_build_broadcast(x->b, ml_build_f64(x->b, mask, 1), v->type.dim,
					       v->type.rank);
	}
	return v;
}

/* y[n, c, h, w] = scale x + bias[c], from before version 10 of the domain */
ml_value *
ml_lower_image_scaler(ml_lower *x)
{
	ml_value *v = x->in[0];
	double scale = ml_onnx_float(x, "scale", 1);
	int n;
	const float *bias = ml_onnx_floats(x, "bias", &n);

	v = ML_X2(mul, v, ML_LIKE(v, scale));
	if (!bias || !v)
		return v;
	if (v->type.rank != 4)
		return ml_lower_fail(x, ML_ERR_SHAPE, "the operand must have rank 4");
	double *wide = ML_LOWER_ARRAY(x, double, n);
	for (int i = 0; i < n; i++)
		wide[i] = (double)bias[i];
	int64_t dims[] = {n, 1, 1};
	return ML_X2(add, v, ml_lower_table(x, v->type.dtype, wide, dims, 3));
}
