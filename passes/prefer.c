/* prefer.c -- two candidates are run on what is held out. */
#include "prefer.h"
#include "agree.h"
#include "holdout.h"
#include <string.h>

/* Error left that is worth having: other samples would say otherwise of less. */
static const double GAIN = .9;

static ml_status
judge(const ml_rivals *r, bool changed, const ml_holdout *h, ml_agree *agree, double *error)
{
	const ml_module *m;

	ML_STEP(r->make(r->user, changed, &m));
	ML_STEP(ml_holdout_try(h, m, agree));
	*error = ml_agree_error(agree);
	return ML_OK;
}

ml_status
ml_prefer(ml_pass_ctx *px, const ml_rivals *r, bool *changed)
{
	const ml_module *teacher = px->teacher ? px->teacher : r->m;
	double without, with;
	const char *choice;
	ml_holdout h;
	ml_agree agree;

	ML_STEP(ml_record_choice(px->record, px->cx, r->kind, r->of, &choice));
	*changed = choice && !strcmp(choice, r->changed);
	if (choice) {
		ml_record_decide(px->record, r->kind, r->of, choice, "repeated");
		return ML_OK;
	}
	ML_STEP(ml_holdout_init(&h, px, teacher));
	ml_agree_init(&agree, teacher, px->scratch);
	ML_STEP(judge(r, false, &h, &agree, &without));
	ML_STEP(judge(r, true, &h, &agree, &with));
	*changed = with < GAIN * without;
	ml_record_decide(px->record, r->kind, r->of, *changed ? r->changed : "none",
			 ml_format(px->scratch,
				   "the whole model is off by %.3g with %s, by %.3g without", with,
				   r->changed, without));
	return ML_OK;
}
