/* profile.h -- where the time of a run goes: mlopt bench --profile and --trace. */
#ifndef MO_PROFILE_H
#define MO_PROFILE_H
#include "../limits.h"
#include "model.h"
#include <stdio.h>

typedef struct mo_step {
	ml_step_info info;
	ml_step_work work; /* of one call */
	double ms, calls;  /* of one run */
	double limit_ms;   /* of one run, at best; 0: unknown */
} mo_step;

typedef struct mo_event {
	int step;
	int64_t begun, ended; /* ns */
} mo_event;

typedef struct mo_profile {
	mo_step *step;
	int steps, runs, used; /* `used` of the runs, the fastest, are averaged */
	double run_ms;         /* the whole of a run; more than all steps */
	double rate[LM_KINDS]; /* of the machine; reading: all weights */
	/* while it measures */
	double *row; /* of the running run: ms of every step, then of the run */
	int64_t *calls, begun;
	/* the last run, for --trace; further events are left out */
	mo_event *event;
	int events;
	int64_t last_begun, last_ended;
} mo_profile;

/* Runs the model, whose inputs are `in`, for so long, and the machine's limits for a while.  0, or
 * 1 with a message.  End with mo_profile_free(), also after a failure. */
int mo_profile_measure(mo_profile *, mo_model *, const md_arrays *in, double seconds);
void mo_profile_free(mo_profile *);

/* Rows by falling time, then sums. */
void mo_profile_table(const mo_profile *, FILE *);
/* `"profile": {...}`, a member for the caller's object. */
void mo_profile_json(const mo_profile *, FILE *);
/* The last run as a file for chrome://tracing or Perfetto; 0, or 1 with a message. */
int mo_profile_trace(const mo_profile *, const cl_command *, const char *path);
#endif
