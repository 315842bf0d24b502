/* objects.c -- a plan becomes object files: the list of jobs, and the threads that do them. */
#include "objects.h"
#include "../ir/crew.h"
#include "../ir/catch.h"
#include "job.h"
#include "natural.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

typedef ML_VEC(ml_job) job_list;

typedef struct request {
	ml_context *cx;
	ml_plan *plan;
	const ml_object_options *o;
	ml_cache cache;
	job_list jobs;
	ml_objects made;
} request;

typedef struct crew {
	ml_worker *worker;
	ml_job *jobs;
} crew;

static void
do_job(void *user, int worker, int64_t i)
{
	const crew *c = user;

	ml_worker_do(&c->worker[worker], &c->jobs[i]);
}

/* Those from `first` on. */
static void
do_jobs(request *r, int first)
{
	const ml_object_making *how = &r->o->making;
	ml_crew threads = {.workers = how->workers, .deep = true};
	int count = r->jobs.count - first, workers = ml_crew_size(&threads, count);
	crew c = {ML_NEW_ARRAY(r->plan->arena, ml_worker, workers), r->jobs.at + first};

	for (int i = 0; i < workers; i++) {
		c.worker[i] = (ml_worker){.plan = r->plan,
					  .save_temps = how->save_temps,
					  .check = r->o->check,
					  .cache = &r->cache};
		ml_worker_open(&c.worker[i], &r->cx->memory);
	}
	ml_crew_do(&threads, count, do_job, &c);
	for (int i = 0; i < workers; i++)
		ml_worker_close(&c.worker[i]);
}

/* ---- the list of jobs ---- */

static void
add_kernels(ml_plan *plan, const ml_object_options *o, job_list *jobs)
{
	for (int l = 0; l < o->entry.nlevels; l++)
		for (int i = 0; i < plan->specs.count; i++) {
			const ml_target *t = o->entry.levels[l];
			ml_job j = {.kind = ML_JOB_KERNEL,
				    .target = t,
				    .spec = i,
				    .name = ml_format(plan->arena, "kernel%d_%s", i, t->name)};
			ML_PUSH(plan->arena, *jobs, j);
		}
}

static bool
uses_tiles(const job_list *jobs, const ml_target *t, int form)
{
	bool used = false;

	for (int i = 0; i < jobs->count; i++)
		used |= jobs->at[i].target == t && jobs->at[i].uses_tiles[form];
	return used;
}

/* Those that kernels call, which are compiled by now. */
static void
add_tiles(ml_plan *plan, const ml_object_options *o, job_list *jobs)
{
	for (int l = 0; l < o->entry.nlevels; l++)
		for (int form = 0; form < ML_CONTRACT_FORMS; form++) {
			const ml_target *t = o->entry.levels[l];
			if (uses_tiles(jobs, t, form))
				ML_PUSH(plan->arena, *jobs,
					ml_tiles_job(plan->arena, t, (ml_contract_form)form));
		}
}

static bool
uses_routines(const ml_sequence *s)
{
	for (int i = 0; i < s->steps.count; i++) {
		const ml_step *step = &s->steps.at[i];
		if (step->kind == ML_STEP_ROUTINE)
			return true;
		for (int k = 0; k < 2 && step->body[k]; k++)
			if (uses_routines(step->body[k]))
				return true;
	}
	return false;
}

/* In the JIT's process the session brings pool and level; only routines are called by code. */
static bool
is_needed(const ml_embedded *file, const ml_plan *plan, const ml_object_options *o)
{
	if (!strcmp(file->name, "routines"))
		return uses_routines(plan->main);
	return !strcmp(file->name, "program") ? o->program : o->natural != NULL;
}

static void
add_embedded(ml_plan *plan, const ml_object_options *o, job_list *jobs)
{
	const ml_target *t = o->entry.levels[0];
	ml_embedded file;

	for (int i = 0; ml_embedded_get(t->triple, i, &file); i++)
		if (is_needed(&file, plan, o)) {
			ml_job j = {.kind = ML_JOB_EMBEDDED,
				    .target = t,
				    .bitcode = file,
				    .name = ml_format(plan->arena, "runtime_%s", file.name)};
			ML_PUSH(plan->arena, *jobs, j);
		}
}

/* The entry is emitted here, because it reads and extends the plan, and compiled by a worker. */
static ml_status
add_entry(ml_plan *plan, const ml_object_options *o, job_list *jobs)
{
	ml_job j = {.kind = ML_JOB_EMITTED, .target = o->entry.levels[0], .name = "entry"};

	ML_PUSH(plan->arena, *jobs, j);
	ml_emit *e = &jobs->at[jobs->count - 1].emitted;
	ml_emit_open(e, j.target, plan->arena, "entry");
	ML_STEP(ml_emit_entry(e, plan, &o->entry));
	if (o->natural)
		ml_emit_natural(e, plan, o->natural, o->program);
	return ML_OK;
}

/* ---- results ---- */

/* The first step that the specification is for. */
static const ml_prov *
prov_of_spec(const ml_sequence *s, int spec)
{
	const ml_prov *found = NULL;

	for (int i = 0; i < s->steps.count && !found; i++) {
		const ml_step *step = &s->steps.at[i];
		if (step->kind == ML_STEP_KERNEL && step->spec == spec)
			return step->prov;
		for (int k = 0; k < 2 && step->body[k] && !found; k++)
			found = prov_of_spec(step->body[k], spec);
	}
	return found;
}

static ml_status
report(ml_context *cx, const ml_plan *plan, const job_list *jobs)
{
	ml_status first = ML_OK;

	for (int i = 0; i < jobs->count; i++) {
		const ml_job *j = &jobs->at[i];
		if (!j->status || (j->status == ML_ERR_IO && first == ML_ERR_IO))
			continue; /* a full disk is said once, not for every file */
		ml_error(cx, j->status,
			 j->kind == ML_JOB_KERNEL ? prov_of_spec(plan->main, j->spec) : NULL, "%s",
			 j->message);
		first = first ? first : j->status;
	}
	return first;
}

/* The folders that are named in the options. */
static ml_status
open_folders(request *r)
{
	const char *temps = r->o->making.save_temps;

	if (temps && mkdir(temps, 0777) && errno != EEXIST)
		return ml_error(r->cx, ML_ERR_IO, NULL, "cannot make the folder '%s': %s",
				ml_escaped(&r->cx->arena, temps), strerror(errno));
	return ml_cache_open(r->cx, &r->o->making.cache, &r->cache);
}

static ml_status
make(void *job)
{
	request *r = job;

	ML_STEP(open_folders(r));
	ML_STEP(add_entry(r->plan, r->o, &r->jobs));
	if (!r->o->check)
		add_embedded(r->plan, r->o, &r->jobs);
	add_kernels(r->plan, r->o, &r->jobs);
	do_jobs(r, 0);
	int tiles = r->jobs.count;
	if (!r->o->check)
		add_tiles(r->plan, r->o, &r->jobs);
	do_jobs(r, tiles);
	ML_STEP(report(r->cx, r->plan, &r->jobs));
	if (r->o->check)
		return ML_OK;
	ml_object *at = ML_NEW_ARRAY(r->plan->arena, ml_object, r->jobs.count);
	for (int i = 0; i < r->jobs.count; i++)
		at[i] = (ml_object){r->jobs.at[i].name, r->jobs.at[i].object};
	r->made = (ml_objects){at, r->jobs.count};
	return ML_OK;
}

ml_status
ml_objects_make(ml_context *cx, ml_plan *plan, const ml_object_options *o, ml_objects *out)
{
	request r = {.cx = cx, .plan = plan, .o = o, .cache = {.folder = -1}};
	ml_status status = ml_catch(cx, make, &r);

	for (int i = 0; status && i < r.jobs.count; i++) {
		if (r.jobs.at[i].emitted.lc) /* not compiled: something failed before */
			ml_emit_close(&r.jobs.at[i].emitted);
		if (r.jobs.at[i].object)
			LLVMDisposeMemoryBuffer(r.jobs.at[i].object);
	}
	ml_cache_close(&r.cache, &cx->memory);
	*out = r.made;
	return status;
}

void
ml_objects_free(ml_objects *o)
{
	for (int i = 0; i < o->count; i++)
		if (o->at[i].bytes)
			LLVMDisposeMemoryBuffer(o->at[i].bytes);
	o->count = 0;
}
