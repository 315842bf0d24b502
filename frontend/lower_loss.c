/* lower_loss.c -- losses: numbers picked by class, weighted, and summed up. */
#include "lower.h"
#include <string.h>

/* What both operators share: targets t[N, d..], log probabilities p[N, C, d..]. */
typedef struct loss {
	ml_lower *x;
	ml_value *p, *target, *weight; /* weight[C] may be NULL */
	const char *reduction;
} loss;

/* Elements of v[C], or of p along axis 1, at the targets; `at` is s64[N, d..] and in range. */
static ml_value *
at_targets(loss *l, ml_value *at)
{
	ml_lower *x = l->x;
	const ml_type *t = &l->p->type;
	ml_value *all = ml_build_iota(x->b, t->dim, t->rank, 1, ML_s64), *picked;
	int64_t axis = 1;

	picked = ML_X3(select, ML_X2(eq, all, ml_build_unsqueeze(x->b, at, &axis, 1)), l->p,
		       ML_LIKE(l->p, 0));
	return ml_lower_reduce(x, ML_OP_reduce_sum, picked, &axis, 1, false);
}

static ml_value *
total(ml_lower *x, ml_value *v)
{
	int64_t axes[ML_MAX_RANK];

	if (!v)
		return NULL;
	for (int i = 0; i < v->type.rank; i++)
		axes[i] = i;
	return ml_lower_reduce(x, ML_OP_reduce_sum, v, axes, v->type.rank, false);
}

static ml_value *
negative_log_likelihood(loss *l)
{
	ml_lower *x = l->x;
	ml_value *at = l->target, *used = NULL, *w = NULL, *y;

	if (l->p->type.rank < 2 || at->type.rank != l->p->type.rank - 1)
		return ml_lower_fail(x, ML_ERR_SHAPE, "targets of rank %d for scores of rank %d",
				     at->type.rank, l->p->type.rank);
	if (ml_onnx_has(x, "ignore_index")) {
		double ignored = (double)ml_onnx_int(x, "ignore_index", 0);
		used = ML_X1(not, ML_X2(eq, at, ML_LIKE(at, ignored)));
		at = ML_X3(select, used, at, ML_LIKE(at, 0));
	}
	at = ml_lower_wrap(x, at, l->p->type.dim[1]);
	y = at ? ML_X1(neg, at_targets(l, at)) : NULL;
	if (l->weight)
		w = ml_build_gather(x->b, l->weight, at, 0);
	if (used)
		w = ML_X3(select, used, w ? w : ml_build_broadcast(x->b, ML_LIKE(l->p, 1), NULL, 0),
			  ML_LIKE(l->p, 0));
	y = w ? ML_X2(mul, y, w) : y;
	if (!y || !strcmp(l->reduction, "none"))
		return y;
	if (!strcmp(l->reduction, "sum"))
		return total(x, y);
	if (strcmp(l->reduction, "mean"))
		return ml_lower_fail(x, ML_ERR_VALUE, "reduction must be none, sum or mean");
	ml_value *count =
		ml_lower_as(x, ml_build_dim(x->b, ml_type_count(ML_DIMS, &l->target->type)), l->p);
	return ML_X2(div, total(x, y), w ? total(x, w) : count);
}

ml_value *
ml_lower_negative_log_likelihood_loss(ml_lower *x)
{
	loss l = {.x = x, .p = x->in[0], .weight = x->in[2]};

	l.target = ml_lower_index(x, x->in[1]);
	l.reduction = ml_onnx_text(x, "reduction", "mean");
	return l.target ? negative_log_likelihood(&l) : NULL;
}

ml_value *
ml_lower_softmax_cross_entropy_loss(ml_lower *x)
{
	loss l = {.x = x, .weight = x->in[2]};

	if (x->in[0]->type.rank < 2)
		return ml_lower_fail(x, ML_ERR_SHAPE, "scores must have rank 2 or more");
	l.p = x->out[1] = ml_lower_log_softmax_at(x, x->in[0], 1);
	l.target = ml_lower_index(x, x->in[1]);
	l.reduction = ml_onnx_text(x, "reduction", "mean");
	return l.p && l.target ? negative_log_likelihood(&l) : NULL;
}
