/* distill.c -- what is asked for by --distill and its kin, for the pass. */
#include "driver.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_LAYERS = 1000 };
static const double MINUTES = 10;

static ml_status
refuse(const ml_options *o, const char *value)
{
	ml_error(o->cx, ML_ERR_ARG, NULL, "option 'distill' cannot be '%s'", value);
	ml_hint(o->cx, "it is a number of minutes, student:N, or student:0,2,5 (layers that stay)");
	return ML_ERR_ARG;
}

/* student:N or student:A,B,..; one number counts layers, several name them. */
static ml_status
add_student(ml_options *o, const char *value)
{
	ml_distill_options *d = &o->distilling;
	const char *at = value + strlen("student:");
	int *keep = ML_NEW_ARRAY(&o->arena, int, strlen(value)), n = 0;

	for (;; at++) {
		char *end;
		long layer = strtol(at, &end, 10);
		if (end == at || layer < 0 || layer > MOST_LAYERS)
			return refuse(o, value);
		if (n && layer <= keep[n - 1])
			return refuse(o, value);
		keep[n++] = (int)layer;
		at = end;
		if (*at != ',')
			break;
	}
	if (*at || (n == 1 && !keep[0]))
		return refuse(o, value);
	d->layers = n == 1 ? keep[0] : 0;
	d->keep = keep;
	d->nkeep = n == 1 ? 0 : n;
	return ML_OK;
}

ml_status
ml_add_distill(ml_options *o, const char *value)
{
	char *end;

	if (!o->distill)
		o->distilling.minutes = MINUTES;
	o->distill = "";
	if (!value)
		return ML_OK;
	if (!strncmp(value, "student:", strlen("student:")))
		return add_student(o, value);
	o->distilling.minutes = strtod(value, &end);
	if (end == value || *end || !(o->distilling.minutes > 0) || o->distilling.minutes > 1e6)
		return refuse(o, value);
	return ML_OK;
}

void
ml_options_distill(ml_options *o, const ml_distill_hooks *hooks)
{
	o->distill_hooks = *hooks;
}

/* The teacher comes as the module will be: its layers are found and whole. */
static ml_status
read_teacher(const ml_options *o, ml_module **teacher)
{
	ml_source source = {.path = o->teacher};
	const char *file = o->cx->file;
	ml_arena arena;

	ML_STEP(ml_read_model(o->cx, &source, o, teacher));
	ml_arena_init(&arena, &o->cx->memory);
	ml_status status = ml_make_layers_whole(o, *teacher, &arena);
	ml_arena_free(&arena);
	o->cx->file = file;
	return status;
}

ml_status
ml_choose_distill(const ml_options *o, ml_distill_options *d, const ml_distill_options **asked)
{
	bool is_asked = o->distill || o->distill_steps >= 0;

	*asked = NULL;
	if (!is_asked && (o->teacher || o->checkpoint || o->labels || o->distill_loss))
		return ml_error(o->cx, ML_ERR_ARG, NULL,
				"a %s is for training: give distill as well",
				o->teacher      ? "teacher"
				: o->checkpoint ? "checkpoint"
				: o->labels     ? "file of labels"
						: "loss");
	if (!is_asked)
		return ML_OK;
	*d = o->distilling;
	d->steps = o->distill_steps;
	d->seed = (uint64_t)o->seed;
	d->hooks = o->distill_hooks;
	d->labels = o->labels;
	*asked = d;
	return o->teacher ? read_teacher(o, &d->teacher) : ML_OK;
}
