/* compile.c -- a compilation from beginning to end: the list of its stages. */
#include "../codegen/aot.h"
#include "../codegen/objects.h"
#include "../passes/known.h"
#include "driver.h"
#include "record.h"
#include <string.h>

typedef enum purpose { INTO_MEMORY, INTO_FILE, CHECK, COMPARE } purpose;

/* One compilation on its way. */
typedef struct compilation {
	ml_context *cx;
	const ml_options *o;
	ml_source source;
	purpose purpose;
	const ml_emit_kind *kind;
	const char *output;
	ml_model **model; /* INTO_MEMORY, COMPARE */
	/* made on the way */
	ml_arena arena;
	ml_plugins plugins;
	ml_module *m, *plain; /* plain: as the model is, for COMPARE */
	ml_known known;
	ml_feed feed, guess; /* calibration data, and what is invented for want of it */
	ml_invented invented;
	ml_candidates candidates;
	ml_stored stored;
	ml_record record;
	ml_distill_options distilling;
	ml_checkpoint checkpoint;
	ml_plan *plan;
	ml_levels levels;
} compilation;

enum { STAGES = 4 };

static void
begin(const compilation *c, int stage, const char *what)
{
	c->cx->stage = what;
	if (c->o->progress_fn)
		c->o->progress_fn(c->o->progress_user, stage, STAGES, what);
}

/* ---- stages ---- */

static ml_status
read_model(compilation *c)
{
	begin(c, 1, "import");
	ML_STEP(ml_read_model(c->cx, &c->source, c->o, &c->m));
	return c->o->explain ? ml_explain_import(c->o, c->m) : ML_OK;
}

/* The first phase that is not for what comes out; NULL: all are.  What is compared has one
 * signature: caches stay as they are. */
static const char *
last_phase(const compilation *c)
{
	return c->purpose == COMPARE ? "cache" : c->purpose == INTO_FILE ? c->kind->until : NULL;
}

static ml_status
run_passes(compilation *c)
{
	const ml_options *o = c->o;
	ml_pipeline_options po = {
		.opt_level = (int)o->opt_level,
		.workers = ml_workers(o),
		.passes = o->passes,
		.skip = o->skip_pass,
		.stop_after = o->stop_after,
		.until = last_phase(c),
		.print_after = o->print_after,
		.verify_each = o->verify_each,
		.time_passes = o->time_passes,
		.rule_stats = o->rule_stats,
		.fuel = o->fuel,
		.show = o->show_fn,
		.show_user = o->show_user,
	};
	ml_exec exec = ml_exec_by_jit(&c->candidates);
	ml_results results = ml_results_of(&c->stored);
	ml_data data = ml_data_of_feed(&c->feed), guess = ml_data_of_feed(&c->guess);
	ml_pipeline p;

	po.exec = &exec;
	po.results = o->cache_dir ? &results : NULL;
	po.data = o->calibration.array ? &data : NULL;
	po.known = &c->known;
	c->guess.source = ml_invent(&c->invented, c->m, &c->arena);
	po.guess = c->guess.source.array ? &guess : NULL;
	po.int8_cache = o->kv_cache != NULL;
	po.prune = o->prune;
	po.prune_hooks = &o->prune_hooks;
	po.max_loss = ml_max_loss(o);
	po.must_hold = o->max_loss != NULL;
	po.observer = o->observer;
	po.record = &c->record;
	if (o->replay)
		ML_STEP(ml_record_replay(&c->record, c->cx, o->replay));
	ML_STEP(ml_read_statistics(o, c->m, &c->arena, &c->known));
	ML_STEP(ml_choose_distill(o, &c->distilling, &po.distill));
	if (o->checkpoint) {
		c->checkpoint = (ml_checkpoint){.o = o, .record = &c->record};
		ML_STEP(ml_checkpoint_open(&c->checkpoint, c->m, &c->distilling, &c->arena));
	}
	begin(c, 2, "passes");
	ML_STEP(ml_choose_precision(o, c->m, &po.precision));
	if (o->int4 && !ml_int4_named(o->int4, &po.int4))
		po.int4.group = ML_INT4_GROUP;
	ML_STEP(ml_plugins_open(&c->plugins, o, &c->arena));
	ML_STEP(ml_choose_score(&c->plugins, o, &po.score));
	ML_STEP(ml_choose_loss(&c->plugins, o, &po.loss));
	ML_STEP(ml_pipeline_init(&p, c->cx, &c->arena, &po, c->plugins.passes.at,
				 c->plugins.passes.count));
	if (o->list_passes)
		ml_list_passes(o, &p);
	ML_STEP(ml_pipeline_run(&p, c->m, &po));
	c->cx->stage = "passes";
	ML_STEP(ml_write_statistics(o, &c->known));
	if (o->explain)
		ml_explain(o, c->m, "after all passes");
	return ML_OK;
}

/* The model without compression beside what the passes have made of it. */
static ml_status
make_comparison(compilation *c)
{
	ml_pipeline_options po = {.opt_level = (int)c->o->opt_level, .until = "prune", .fuel = -1};
	ml_pipeline p;

	ML_STEP(ml_choose_precision(c->o, c->plain, &po.precision)); /* the same layers */
	ML_STEP(ml_pipeline_init(&p, c->cx, &c->arena, &po, NULL, 0));
	ML_STEP(ml_pipeline_run(&p, c->plain, &po));
	ML_STEP(ml_join_layers(c->plain, c->m, &c->arena));
	begin(c, 4, "code");
	return ml_jit_module(c->o, c->plain, &c->arena, NULL, c->model);
}

static ml_status
make_plan(compilation *c)
{
	ml_text t;

	begin(c, 3, "plan");
	ML_STEP(ml_plan_module(c->m, (int)c->o->opt_level, &c->arena, &c->plan));
	if (!c->o->print_plan)
		return ML_OK;
	ml_text_init(&t, &c->arena);
	ml_plan_print(&t, c->plan);
	ml_show(c->o, "plan", t.at);
	return ML_OK;
}

static ml_status
make_code_in_memory(compilation *c)
{
	begin(c, 4, "code");
	return ml_jit_model(c->o, c->plan, c->candidates.kept, c->model);
}

static ml_status
make_code_in_file(compilation *c)
{
	begin(c, 4, "code");
	ML_STEP(ml_choose_levels(c->o, false, &c->levels));
	if (c->kind->ending)
		return ml_write_code_text(c->o, c->kind, c->plan, &c->levels, c->output);
	if (!c->output)
		return ml_error(c->cx, ML_ERR_ARG, NULL, "code needs a file to go to");
	return ml_aot_write(c->cx, c->plan,
			    &(ml_aot_options){.kind = c->kind->artefact,
					      .levels = c->levels.at,
					      .nlevels = c->levels.count,
					      .entry = c->o->name,
					      .making = ml_making(c->o)},
			    c->output);
}

/* Code generation can refuse too; what it emits here is thrown away. */
static ml_status
try_code(compilation *c)
{
	ml_signature signature;
	ml_objects none;

	begin(c, 4, "code");
	ML_STEP(ml_choose_levels(c->o, false, &c->levels));
	ml_signature_make(c->plan, c->o->name, &signature);
	return ml_objects_make(c->cx, c->plan,
			       &(ml_object_options){.entry = {.levels = c->levels.at,
							      .nlevels = c->levels.count,
							      .signature = signature.text},
						    .making = {.workers = ml_workers(c->o)},
						    .check = true},
			       &none);
}

/* What users of --int8 and the like must know is said without being asked for. */
static void
show_notes(const compilation *c)
{
	ml_text t;

	ml_text_init(&t, &c->cx->arena);
	for (int i = 0; i < c->record.notes.count; i++)
		ml_put(&t, "%s\n", c->record.notes.at[i]);
	if (t.length)
		ml_show(c->o, "compression", t.at);
}

static ml_status
write_reports(compilation *c)
{
	const char *path = c->source.path, *slash = path ? strrchr(path, '/') : NULL;

	return ml_write_reports(c->o, &c->record, slash ? slash + 1 : path ? path : c->m->name);
}

/* ---- the list ---- */

static ml_status
make(compilation *c)
{
	ML_STEP(ml_check_output(c->cx, c->output));
	ML_STEP(ml_check_cache(c->o));
	ML_STEP(ml_check_reports(c->o));
	ML_STEP(ml_choose_emit(c->o, &c->kind));
	ML_STEP(read_model(c)); /* bytes -> graph with types */
	if (c->purpose == COMPARE)
		c->plain = ml_module_clone(c->m);
	ML_STEP(run_passes(c)); /* passes/pipeline.def: canonicalize, fuse, quantize */
	if (c->purpose == COMPARE)
		return make_comparison(c);
	if (c->kind->write && c->purpose == INTO_FILE)
		return c->kind->write(c->o, c->m, c->output); /* the graph is what was asked for */
	ML_STEP(make_plan(c));                                /* graph -> kernels, buffers, steps */
	switch (c->purpose) {
	case INTO_MEMORY: return make_code_in_memory(c); /* LLVM: code in this process */
	case INTO_FILE: return make_code_in_file(c);     /* LLVM: objects, linked */
	case CHECK: return try_code(c);                  /* all but machine code */
	case COMPARE: break;
	}
	return ML_OK;
}

static ml_status
compile(void *job)
{
	compilation *c = job;

	ml_status status = make(c);

	if (status == ML_OK)
		show_notes(c);
	/* Why a loss was too large is what the report says best. */
	if (status == ML_OK || (status == ML_ERR_VALUE && c->record.changes.count)) {
		ml_status written = write_reports(c);
		status = status == ML_OK ? written : status;
	}
	return status;
}

/* ---- ways in ---- */

static ml_status
run(compilation *c)
{
	ml_context *cx = c->cx;
	ml_options *own = NULL;
	ml_status status = c->o ? ML_OK : ml_options_new(cx, &own);

	if (status != ML_OK)
		return status;
	c->o = c->o ? c->o : own;
	bool remarks = cx->remarks;
	cx->remarks |= c->o->remarks;
	ml_arena_init(&c->arena, &cx->memory);
	ml_record_init(&c->record, &c->arena);
	ml_feed_begin(&c->feed, c->o);
	ml_feed_begin(&c->guess, c->o);
	c->candidates = (ml_candidates){.o = c->o};
	c->stored = (ml_stored){.o = c->o};
	status = ml_enter(cx, compile, c);
	if (c->m)
		ml_module_free(c->m);
	ml_candidates_end(&c->candidates);
	ml_stored_end(&c->stored);
	if (c->distilling.teacher)
		ml_module_free(c->distilling.teacher);
	if (c->plain)
		ml_module_free(c->plain);
	ml_plugins_close(&c->plugins);
	ml_feed_end(&c->feed);
	ml_feed_end(&c->guess);
	ml_arena_free(&c->arena);
	cx->remarks = remarks;
	ml_options_free(own);
	return status;
}

ml_status
ml_compile_file(ml_context *cx, const char *path, const ml_options *o, ml_model **model)
{
	*model = NULL;
	return run(&(compilation){.cx = cx,
				  .o = o,
				  .source = {.path = path},
				  .model = model,
				  .purpose = INTO_MEMORY});
}

ml_status
ml_compile_memory(ml_context *cx, const void *bytes, size_t size, const ml_options *o,
		  ml_model **model)
{
	*model = NULL;
	return run(&(compilation){.cx = cx,
				  .o = o,
				  .source = {.bytes = bytes, .size = size},
				  .model = model,
				  .purpose = INTO_MEMORY});
}

ml_status
ml_compile_to(ml_context *cx, const char *path, const ml_options *o, const char *output)
{
	return run(&(compilation){.cx = cx,
				  .o = o,
				  .source = {.path = path},
				  .output = output,
				  .purpose = INTO_FILE});
}

ml_status
ml_compile_layer_errors(ml_context *cx, const char *path, const ml_options *o, ml_model **model)
{
	*model = NULL;
	return run(&(compilation){
		.cx = cx, .o = o, .source = {.path = path}, .model = model, .purpose = COMPARE});
}

ml_status
ml_check(ml_context *cx, const char *path, const ml_options *o)
{
	return run(&(compilation){.cx = cx, .o = o, .source = {.path = path}, .purpose = CHECK});
}
