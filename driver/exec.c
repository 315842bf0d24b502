/* exec.c -- ir/exec.h by the JIT: passes run candidates of a module on data, and time them. */
#include "driver.h"
#include <stdlib.h>
#include <string.h>

struct ml_runnable {
	ml_model *model;
	ml_session *session;
	ml_runnable *next, **link; /* of those that live */
};

/* ---- compiling ---- */

/* What will still happen to the module before it is shipped, but no further compression. */
static ml_status
finish_passes(const ml_options *o, ml_module *m, ml_arena *arena)
{
	ml_pipeline_options po = {.opt_level = (int)o->opt_level, .fuel = -1};
	ml_pipeline p;

	ML_STEP(ml_pipeline_init(&p, o->cx, arena, &po, NULL, 0));
	return ml_pipeline_run(&p, m, &po);
}

ml_status
ml_jit_module(const ml_options *o, ml_module *m, ml_arena *arena, ml_kept *kept, ml_model **model)
{
	ml_plan *plan;

	ML_STEP(finish_passes(o, m, arena));
	ML_STEP(ml_plan_module(m, (int)o->opt_level, arena, &plan));
	return ml_jit_model(o, plan, kept, model);
}

static void
exec_free(void *user, ml_runnable *r)
{
	const ml_candidates *c = user;

	*r->link = r->next;
	if (r->next)
		r->next->link = r->link;
	ml_session_free(r->session);
	ml_model_free(r->model);
	ml_resize(&c->o->cx->memory, r, sizeof *r, 0);
}

/* Listed before it is filled: when memory ends on the way, what there is of it is found. */
static ml_runnable *
new_runnable(ml_candidates *c)
{
	ml_runnable *r = ml_resize(&c->o->cx->memory, NULL, 0, sizeof *r);

	*r = (ml_runnable){.next = c->live, .link = &c->live};
	if (r->next)
		r->next->link = &r->next;
	return c->live = r;
}

static ml_status
make_session(const ml_options *o, ml_runnable *r)
{
	ml_session_options so = {.threads = ml_workers(o)};
	ml_message why;
	ml_status status = ml_session_new(r->model, &so, &r->session, &why);

	return status == ML_OK ? ML_OK : ml_error(o->cx, status, NULL, "%s", why.text);
}

static ml_status
exec_compile(void *user, const ml_module *original, ml_runnable **out)
{
	ml_candidates *c = user;
	ml_runnable *r = new_runnable(c);
	ml_module *m = ml_module_clone(original);
	ml_arena arena;

	if (!c->kept)
		c->kept = ml_kept_new(&c->o->cx->memory);
	ml_arena_init(&arena, &c->o->cx->memory);
	ml_status status = ml_jit_module(c->o, m, &arena, c->kept, &r->model);
	ml_arena_free(&arena);
	ml_module_free(m);
	if (status == ML_OK)
		status = make_session(c->o, r);
	if (status != ML_OK)
		exec_free(c, r);
	else
		*out = r;
	return status;
}

void
ml_candidates_end(ml_candidates *c)
{
	while (c->live)
		exec_free(c, c->live);
	ml_kept_free(c->kept);
	c->kept = NULL;
}

/* ---- running ---- */

static ml_status
set_inputs(const ml_options *o, ml_runnable *r, const ml_tensor *inputs)
{
	for (int i = 0; i < ml_model_describe(r->model)->ninputs; i++) {
		ml_status status = ml_session_set_input(r->session, i, inputs[i].data,
							inputs[i].dim, inputs[i].rank);
		if (status != ML_OK)
			return ml_error(o->cx, status, NULL, "%s", ml_session_message(r->session));
	}
	return ML_OK;
}

static ml_status
run_session(const ml_options *o, ml_runnable *r)
{
	ml_status status = ml_session_run(r->session);

	if (status != ML_OK)
		return ml_error(o->cx, status, NULL, "%s", ml_session_message(r->session));
	return ML_OK;
}

static ml_status
exec_run_into(void *user, ml_runnable *r, const ml_tensor *inputs, ml_tensor *outputs)
{
	const ml_options *o = ((const ml_candidates *)user)->o;
	int n = ml_model_describe(r->model)->noutputs;

	ML_STEP(set_inputs(o, r, inputs));
	for (int i = 0; i < n; i++)
		ML_STEP(ml_session_set_output(r->session, i, outputs[i].data, outputs[i].bytes));
	ML_STEP(run_session(o, r));
	for (int i = 0; i < n; i++) {
		ml_view v;
		ML_STEP(ml_session_output(r->session, i, &v));
		outputs[i] = (ml_tensor){
			.dtype = v.dtype, .rank = v.rank, .data = v.data, .bytes = v.bytes};
		memcpy(outputs[i].dim, v.dim, sizeof v.dim);
	}
	return ML_OK;
}

static ml_status
exec_run(void *user, ml_runnable *r, const ml_tensor *inputs, ml_tensor *outputs, ml_arena *arena)
{
	int n = ml_model_describe(r->model)->noutputs;

	for (int i = 0; i < n; i++)
		outputs[i].data = NULL;
	ML_STEP(exec_run_into(user, r, inputs, outputs));
	for (int i = 0; i < n; i++) {
		void *copy = ml_alloc(arena, outputs[i].bytes);
		if (outputs[i].bytes)
			memcpy(copy, outputs[i].data, outputs[i].bytes);
		outputs[i].data = copy;
	}
	return ML_OK;
}

static int
by_value(const void *a, const void *b)
{
	double d = *(const double *)a - *(const double *)b;

	return (d > 0) - (d < 0);
}

static ml_status
exec_time(void *user, ml_runnable *r, const ml_tensor *inputs, int runs, double *seconds)
{
	const ml_options *o = ((const ml_candidates *)user)->o;
	ml_status status;
	ml_arena arena;

	ML_STEP(set_inputs(o, r, inputs));
	status = run_session(o, r); /* the first run also gets memory */
	ml_arena_init(&arena, &o->cx->memory);
	double *spent = ML_NEW_ARRAY(&arena, double, runs + 1);
	for (int i = 0; i < runs && status == ML_OK; i++) {
		double begun = ml_seconds_now();
		status = run_session(o, r);
		spent[i] = ml_seconds_now() - begun;
	}
	qsort(spent, (size_t)runs, sizeof *spent, by_value);
	*seconds = spent[runs / 2];
	ml_arena_free(&arena);
	return status;
}

static ml_status
exec_macs(void *user, ml_runnable *r, double *macs)
{
	const ml_options *o = ((const ml_candidates *)user)->o;
	int n = ml_model_steps(r->model);
	ml_arena arena;

	ml_arena_init(&arena, &o->cx->memory);
	ml_step_work *work = ML_NEW_ARRAY(&arena, ml_step_work, n + 1);
	ml_status status = ml_session_work(r->session, work);
	*macs = 0;
	for (int i = 0; i < n && status == ML_OK; i++)
		*macs += (double)work[i].macs;
	ml_arena_free(&arena);
	return status == ML_OK ? ML_OK : ml_error(o->cx, status, NULL, "no run to be counted");
}

static ml_status
exec_likes_bf16(void *user, bool *likes)
{
	const ml_candidates *c = user;
	ml_levels levels;

	ML_STEP(ml_choose_levels(c->o, true, &levels));
	*likes = ml_target_has_bf16(levels.at[0]);
	return ML_OK;
}

ml_exec
ml_exec_by_jit(ml_candidates *c)
{
	return (ml_exec){.user = c,
			 .compile = exec_compile,
			 .run = exec_run,
			 .run_into = exec_run_into,
			 .time = exec_time,
			 .macs = exec_macs,
			 .likes_bf16 = exec_likes_bf16,
			 .free = exec_free};
}
