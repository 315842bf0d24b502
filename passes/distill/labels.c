/* labels.c -- what samples should be taken for, where a user knows: the teacher's probabilities
 * move towards it, so that any loss between outputs that decide learns from both. */
#include "distill.h"
#include <math.h>

static const double SHARE = 0.3; /* of the label's */

static ml_status
check_label(const ml_trainer *t, int64_t number, int64_t label)
{
	bool decides = false;

	for (int i = 0; i < t->goal.term.count; i++) {
		const ml_lesson *l = &t->goal.term.at[i];
		const ml_type *type = &l->student->type;
		int64_t classes = INT64_MAX;
		if (l->like != ML_LIKE_LOGITS || type->rank != 2)
			continue;
		decides = true;
		ml_dim_is_int(type->dim[1], &classes);
		if (label >= classes)
			return ml_error(
				t->px->cx, ML_ERR_VALUE, NULL,
				"labels: sample %lld is said to be of class %lld, the model "
				"knows %lld",
				(long long)number, (long long)label, (long long)classes);
	}
	return decides ? ML_OK
		       : ml_error(t->px->cx, ML_ERR_ARG, NULL,
				  "labels: the model has no output that decides between classes, "
				  "once for each sample");
}

ml_status
ml_read_labels(ml_trainer *t)
{
	const ml_data *data = t->px->data;
	int64_t last = 0;

	for (int i = 0; i < t->pool.number.count; i++)
		last = t->pool.number.at[i] > last ? t->pool.number.at[i] : last;
	t->label = ML_NEW_ARRAY(t->arena, int64_t, last + 1);
	for (int i = 0; i < t->pool.number.count; i++) {
		int64_t number = t->pool.number.at[i];
		ML_STEP(data->label(data->user, t->student, number, &t->label[number]));
		ML_STEP(check_label(t, number, t->label[number]));
	}
	return ML_OK;
}

/* Logits of the mixture; a row's largest is subtracted first, as always. */
static void
mix_row(const ml_tensor *logits, int64_t row, int64_t label)
{
	int64_t n = logits->dim[1], at = row * n;
	double top = -INFINITY, sum = 0;

	for (int64_t k = 0; k < n; k++)
		top = fmax(top, ml_read_f64(logits->dtype, logits->data, at + k));
	for (int64_t k = 0; k < n; k++)
		sum += exp(ml_read_f64(logits->dtype, logits->data, at + k) - top);
	for (int64_t k = 0; k < n; k++) {
		double p = exp(ml_read_f64(logits->dtype, logits->data, at + k) - top) / sum;
		p = (1 - SHARE) * p + (k == label ? SHARE : 0);
		ml_write_f64(logits->dtype, logits->data, at + k, log(fmax(p, 1e-30)));
	}
}

/* An earlier term has the same target. */
static bool
is_mixed(const ml_trainer *t, int term)
{
	for (int i = 0; i < term; i++)
		if (t->goal.term.at[i].like == ML_LIKE_LOGITS &&
		    t->goal.term.at[i].target == t->goal.term.at[term].target)
			return true;
	return false;
}

void
ml_mix_labels(ml_trainer *t)
{
	const ml_tensor *target = t->in + t->pool.inputs;

	for (int i = 0; i < t->goal.term.count; i++) {
		const ml_lesson *l = &t->goal.term.at[i];
		const ml_tensor *logits = &target[l->target];
		if (l->like != ML_LIKE_LOGITS || logits->rank != 2 || is_mixed(t, i) ||
		    logits->dim[0] != t->pool.rows)
			continue;
		for (int r = 0; r < t->pool.rows; r++)
			if (t->pool.row[r] >= 0 && t->label[t->pool.row[r]] >= 0)
				mix_row(logits, r, t->label[t->pool.row[r]]);
	}
}
