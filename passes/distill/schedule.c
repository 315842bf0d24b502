/* schedule.c -- how many steps a training makes that has minutes: planned by what a step takes at
 * first, and again at each check by what steps have taken, since other work on a machine, and its
 * memory, make them slower and faster by the minute. */
#include "distill.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_STEPS = 10 };
/* A plan stays while the steps it has left differ from those that fit by a smaller part. */
static const double TOLERANCE = 0.02;
/* Of the minutes, what comes before and after the pass may take: files, and a last comparison. */
static const double OUTSIDE = 0.01;
static const char NAME[] = "distill_student", STEPS[] = "steps", FROM[] = " from step ";

/* "3440, 3391 from step 173, ..." */
static void
decide(ml_trainer *t, const char *why)
{
	ml_text text;

	ml_text_init(&text, t->arena);
	for (int i = 0; i < t->plan.points.count; i++) {
		ml_point p = t->plan.points.at[i];
		ml_put(&text, i ? ", %.0f" : "%.0f", p.y);
		if (i)
			ml_put(&text, "%s%.0f", FROM, p.x);
	}
	ml_record_decide(t->px->record, NAME, STEPS, text.at, why);
}

/* Of a decision as above, the steps planned when so many were made. */
static double
planned(const char *choice, double made)
{
	char *at;
	double steps = strtod(choice, &at);

	while (*at == ',') {
		double next = strtod(at + 1, &at);
		if (!strncmp(at, FROM, sizeof FROM - 1) &&
		    strtod(at + sizeof FROM - 1, &at) <= made)
			steps = next;
	}
	return steps;
}

static void
plan(ml_trainer *t, double steps, const char *why)
{
	t->steps = steps;
	ml_curve_add(&t->plan, t->at, steps);
	decide(t, why);
}

/* How many steps fit into what is left of the minutes; step: what one takes, in seconds. */
static double
that_fit(const ml_trainer *t, double step)
{
	double all = 60 * t->options->minutes * (1 - OUTSIDE) - t->settling;
	double left = all - (ml_seconds_now() - t->opened);

	return floor(fmax(left, 0) / step);
}

ml_status
ml_schedule_begin(ml_trainer *t, double step)
{
	const ml_distill_options *o = t->options;
	const char *choice;

	t->steps = (double)o->steps;
	if (o->steps >= 0)
		return ML_OK;
	ML_STEP(ml_record_choice(t->px->record, t->px->cx, NAME, STEPS, &choice));
	double steps = choice ? planned(choice, 0) : that_fit(t, step);
	plan(t, fmax(steps, LEAST_STEPS), ml_format(t->arena, "a step takes %.1f ms", 1e3 * step));
	return ML_OK;
}

void
ml_schedule_resume(ml_trainer *t)
{
	t->begun = ml_seconds_now() - t->progress.seconds;
	t->opened -= t->progress.seconds;
	if (t->options->steps < 0)
		decide(t, "as begun");
}

ml_status
ml_schedule_again(ml_trainer *t)
{
	const char *choice;

	if (t->options->steps >= 0 || t->at >= t->steps)
		return ML_OK;
	ML_STEP(ml_record_choice(t->px->record, t->px->cx, NAME, STEPS, &choice));
	double step = (ml_seconds_now() - t->begun) / t->at, now = t->steps - t->at;
	double left = choice ? planned(choice, t->at) - t->at : that_fit(t, step);
	if (choice ? left != now : fabs(left - now) > TOLERANCE * now)
		plan(t, t->at + left, ml_format(t->arena, "a step takes %.1f ms", 1e3 * step));
	return ML_OK;
}
