/* train.h -- training as IR: loss terms, clipping, learning rate and AdamW, for one compiled step.
 *
 * All are builders of ordinary nodes at b; a NULL result has been reported.  Losses are scalars of
 * their operands' dtype, exactly 0 where both operands are bit for bit equal.
 */
#ifndef ML_DISTILL_TRAIN_H
#define ML_DISTILL_TRAIN_H
#include "../../ir/ir.h"

/* `weight`, of losses: of each row (a slice along the last axis), with that axis of size 1 or
 * broadcasting to it; NULL counts all rows alike.  Padding gets 0.  The mean is over weights. */

/* x / T - log(sum(exp(x / T))) over the last axis, without overflow. */
ml_value *ml_log_softmax(ml_builder *, ml_value *x, double temperature);
/* T^2 KL(softmax(teacher / T) || softmax(student / T)) over the last axis.  The factor keeps
 * gradients of one size whatever T. */
ml_value *ml_loss_kl(ml_builder *, ml_value *teacher, ml_value *student, double temperature,
		     ml_value *weight);
/* Mean over the last axis of (teacher - student)^2. */
ml_value *ml_loss_mse(ml_builder *, ml_value *teacher, ml_value *student, ml_value *weight);
/* 1 - the cosine of the angle between rows; rows shorter than about 1e-6 count as perpendicular. */
ml_value *ml_loss_cosine(ml_builder *, ml_value *teacher, ml_value *student, ml_value *weight);

/* The Euclidean norm of all gradients together, as an f64 scalar. */
ml_value *ml_gradient_norm(ml_builder *, ml_value *const *gradient, int n);
/* min(1, limit / norm), the factor that clips all of them, in this dtype. */
ml_value *ml_clip_factor(ml_builder *, ml_value *norm, double limit, ml_dtype);

/* From 0 linearly to `peak` over the first `warmup` part of `total` steps, then linearly to 0.
 * step counts from 1; step, total and peak are f64 scalars, and so is the rate. */
ml_value *ml_learning_rate(ml_builder *, ml_value *step, ml_value *total, ml_value *peak,
			   double warmup);

/* Decoupled weight decay: Loshchilov and Hutter, "Decoupled Weight Decay Regularization". */
typedef struct ml_adamw {
	double beta1, beta2, eps, decay;
} ml_adamw;
/* What all parameters of one step share. */
typedef struct ml_adamw_step {
	ml_value *rate, *step; /* f64 scalars; step counts from 1 */
	ml_value *clip;        /* factor of the gradient, or NULL */
	ml_value *basis;       /* [d,d] for a parameter [d,o], symmetric: moments are of
				  basis . gradient, and steps go along its columns; or NULL */
} ml_adamw_step;
/* out: the parameter, its first and its second moment, after the step; false when reported. */
bool ml_build_adamw(ml_builder *, const ml_adamw *, const ml_adamw_step *, ml_value *parameter,
		    ml_value *gradient, ml_value *first, ml_value *second, ml_value *out[3]);

typedef struct ml_train_options {
	ml_adamw adamw;
	double warmup; /* of ml_learning_rate */
	double clip;   /* limit of the gradients' norm; 0 = none */
	/* ml_adamw_step.basis of each weight, row by row, or NULL; NULL: none has one. */
	const double *const *basis;
} ml_train_options;
/* One step as a module: m with its constants `weight` as inputs, trained on its output `loss`.
 * Inputs: m's, weights, first moments, second moments, step, total and peak (f64 scalars).
 * Outputs: m's and the gradients' norm (f64) before the step, weights, first and second moments
 * after it, each of the type and in the order of its input, so that the caller feeds them back.
 * They may go where their inputs are: with a limit of the norm, nothing is computed from a weight
 * once the first of them is replaced. */
ml_status ml_train_step(const ml_module *m, int loss, const ml_value *const *weight, int n,
			const ml_train_options *, ml_module **);
#endif
