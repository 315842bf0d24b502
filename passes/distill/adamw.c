/* adamw.c -- one step of AdamW with clipping and a schedule, as nodes. */
#include "../../ir/expand.h"
#include "train.h"

#define ADD(x, y)   ml_op2(b, ML_OP_add, x, y)
#define SUB(x, y)   ml_op2(b, ML_OP_sub, x, y)
#define MUL(x, y)   ml_op2(b, ML_OP_mul, x, y)
#define DIV(x, y)   ml_op2(b, ML_OP_div, x, y)
#define TIMES(x, c) ml_op_number(b, ML_OP_mul, x, c)

static ml_value *
number(ml_builder *b, double x)
{
	return ml_build_f64(b, ML_f64, x);
}

/* Each tensor is summed in its own dtype, the sums in f64: a few thousand of them keep no digit
 * of the smallest otherwise. */
ml_value *
ml_gradient_norm(ml_builder *b, ml_value *const *gradient, int n)
{
	ml_value *sum = number(b, 0);

	for (int i = 0; i < n; i++) {
		int64_t axes[ML_MAX_RANK];
		ml_value *x = gradient[i];
		if (!x)
			return NULL;
		for (int d = 0; d < x->type.rank; d++)
			axes[d] = d;
		ml_value *square =
			ml_build_reduce(b, ML_OP_reduce_sum, MUL(x, x), axes, x->type.rank);
		square = square ? ml_build_reshape(b, square, NULL, 0) : NULL;
		sum = ADD(sum, ml_build_cast(b, square, ML_f64));
	}
	return ml_op1(b, ML_OP_sqrt, sum);
}

ml_value *
ml_clip_factor(ml_builder *b, ml_value *norm, double limit, ml_dtype dtype)
{
	ml_value *factor = DIV(number(b, limit), ml_op_number(b, ML_OP_max, norm, limit));

	return ml_build_cast(b, factor, dtype);
}

ml_value *
ml_learning_rate(ml_builder *b, ml_value *step, ml_value *total, ml_value *peak, double warmup)
{
	ml_value *left = DIV(SUB(total, SUB(step, number(b, 1))), TIMES(total, 1 - warmup));
	ml_value *part = ml_op2(b, ML_OP_min, number(b, 1), left);

	if (warmup > 0)
		part = ml_op2(b, ML_OP_min, part, DIV(step, TIMES(total, warmup)));
	return MUL(ml_op_number(b, ML_OP_max, part, 0), peak);
}

/* 1 - beta^step in f64: in f32 the first steps would lose half of their digits. */
static ml_value *
correction(ml_builder *b, double beta, ml_value *step)
{
	return SUB(number(b, 1), ml_op2(b, ML_OP_pow, number(b, beta), step));
}

/* beta old + (1 - beta) new */
static ml_value *
mixed(ml_builder *b, double beta, ml_value *old, ml_value *new_value)
{
	return ADD(TIMES(old, beta), TIMES(new_value, 1 - beta));
}

bool
ml_build_adamw(ml_builder *b, const ml_adamw *o, const ml_adamw_step *s, ml_value *parameter,
	       ml_value *gradient, ml_value *first, ml_value *second, ml_value *out[3])
{
	ml_dtype t = parameter->type.dtype;
	ml_value *rate = DIV(s->rate, correction(b, o->beta1, s->step));
	ml_value *root = ml_op1(b, ML_OP_sqrt, correction(b, o->beta2, s->step));
	ml_value *keep = SUB(number(b, 1), TIMES(s->rate, o->decay));

	if (s->clip)
		gradient = MUL(gradient, s->clip);
	if (s->basis)
		gradient = ml_build_matmul(b, s->basis, gradient);
	out[1] = mixed(b, o->beta1, first, gradient);
	out[2] = mixed(b, o->beta2, second, MUL(gradient, gradient));
	ml_value *scale = DIV(ml_op1(b, ML_OP_sqrt, out[2]), ml_build_cast(b, root, t));
	ml_value *change = DIV(out[1], ml_op_number(b, ML_OP_add, scale, o->eps));
	if (s->basis)
		change = ml_build_matmul(b, s->basis, change);
	out[0] = SUB(MUL(parameter, ml_build_cast(b, keep, t)),
		     MUL(change, ml_build_cast(b, rate, t)));
	return out[0] && out[1] && out[2];
}
