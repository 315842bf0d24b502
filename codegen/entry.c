/* entry.c -- the exported tables of a generated program. */
#include "entry.h"
#include "../runtime/abi.h"
#include <stdio.h>
#include <string.h>

ml_v
ml_entry_alloca(ml_emit *e, LLVMTypeRef element, int count)
{
	LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b), entry = LLVMGetEntryBasicBlock(e->fn);
	ml_v first = LLVMGetFirstInstruction(entry);

	if (first)
		LLVMPositionBuilderBefore(e->b, first);
	else
		LLVMPositionBuilderAtEnd(e->b, entry);
	ml_v p = LLVMBuildArrayAlloca(e->b, element, ml_i32(e, count), "");
	LLVMSetAlignment(p, 16);
	LLVMPositionBuilderAtEnd(e->b, here);
	return p;
}

static ml_v
pointer_table(ml_emit *e, ml_v *at, int n, const char *name)
{
	return ml_private_constant(e, LLVMConstArray2(e->ptr, at, (uint64_t)n), name);
}

static ml_v
kernel_table(ml_emit *e, const ml_plan *plan, const ml_target *level)
{
	ml_v *at = ML_NEW_ARRAY(plan->arena, ml_v, plan->specs.count);
	LLVMTypeRef params[] = {e->ptr, e->i64, e->i64, e->ptr};
	LLVMTypeRef type = LLVMFunctionType(e->none, params, 4, 0);
	char name[64];

	for (int i = 0; i < plan->specs.count; i++) {
		snprintf(name, sizeof name, "%s_%s", plan->specs.at[i].symbol, level->name);
		at[i] = LLVMAddFunction(e->module, name, type);
		LLVMSetVisibility(at[i], LLVMHiddenVisibility);
	}
	return pointer_table(e, at, plan->specs.count, "kernels");
}

static ml_v
level_table(ml_emit *e, const ml_plan *plan, const ml_entry_options *o)
{
	ml_v *at = ML_NEW_ARRAY(plan->arena, ml_v, o->nlevels);
	LLVMTypeRef fields[] = {e->ptr, e->i32, e->i32, e->ptr};
	LLVMTypeRef type = LLVMStructTypeInContext(e->lc, fields, 4, 0);

	_Static_assert(sizeof(mlrt_level) == 24, "the fields below are mlrt_level");
	for (int i = 0; i < o->nlevels; i++) {
		ml_v v[] = {ml_text_constant(e, o->levels[i]->name),
			    ml_i32(e, (int32_t)o->levels[i]->level), ml_i32(e, 0),
			    kernel_table(e, plan, o->levels[i])};
		at[i] = LLVMConstStructInContext(e->lc, v, 4, 0);
	}
	return ml_private_constant(e, LLVMConstArray2(type, at, (uint64_t)o->nlevels), "levels");
}

static ml_v
site_table(ml_emit *e, const ml_plan *plan)
{
	ml_v *at = ML_NEW_ARRAY(plan->arena, ml_v, plan->sites.count);

	for (int i = 0; i < plan->sites.count; i++)
		at[i] = ml_text_constant(e, plan->sites.at[i]);
	return pointer_table(e, at, plan->sites.count, "sites");
}

static ml_v
node_names(ml_emit *e, const ml_plan *plan, const ml_prov *at)
{
	ml_text t;

	ml_text_init(&t, plan->arena);
	for (; at; at = at->next) {
		ml_put_escaped(&t, at->node ? at->node : "");
		ml_put(&t, at->next ? "\n" : "");
	}
	return ml_text_constant(e, t.at);
}

static void
fill_steps(ml_emit *e, const ml_plan *plan, const ml_sequence *s, ml_v *at)
{
	for (int i = 0; i < s->steps.count; i++) {
		const ml_step *step = &s->steps.at[i];
		for (int k = 0; k < 2 && step->body[k]; k++)
			fill_steps(e, plan, step->body[k], at);
		if (step->body[0])
			continue;
		ml_v v[] = {node_names(e, plan, step->prov),
			    ml_text_constant(e, ml_step_kind_name(plan, step)),
			    ml_i32(e, step->kind == ML_STEP_KERNEL ? step->spec : -1),
			    ml_i32(e, (int32_t)step->work.dtype)};
		at[step->number] = LLVMConstStructInContext(e->lc, v, 4, 0);
	}
}

static ml_v
step_table(ml_emit *e, const ml_plan *plan)
{
	ml_v *at = ML_NEW_ARRAY(plan->arena, ml_v, plan->nsteps);
	LLVMTypeRef fields[] = {e->ptr, e->ptr, e->i32, e->i32};
	LLVMTypeRef type = LLVMStructTypeInContext(e->lc, fields, 4, 0);

	_Static_assert(sizeof(mlrt_step) == 24, "the fields above are mlrt_step");
	fill_steps(e, plan, plan->main, at);
	return ml_private_constant(e, LLVMConstArray2(type, at, (uint64_t)plan->nsteps), "steps");
}

static ml_v
weights_pointer(ml_emit *e, const ml_entry_options *o)
{
	if (!o->weights_symbol)
		return LLVMConstNull(e->ptr);
	ml_v g = LLVMAddGlobal(e->module, e->i8, "mlopt_weights");
	LLVMSetVisibility(g, LLVMHiddenVisibility);
	return g;
}

ml_status
ml_emit_entry(ml_emit *e, ml_plan *plan, const ml_entry_options *o)
{
	ml_v plan_fn = ml_emit_plan_function(e, plan);
	if (!plan_fn)
		return ML_ERR_CODEGEN;
	LLVMSetVisibility(plan_fn, LLVMHiddenVisibility);
	ml_v run_fn = ml_emit_run_function(e, plan);
	LLVMSetVisibility(run_fn, LLVMHiddenVisibility);
	ml_v work_fn = ml_emit_work_function(e, plan);
	LLVMSetVisibility(work_fn, LLVMHiddenVisibility);

	_Static_assert(sizeof(mlrt_program) == 104, "the fields below are mlrt_program");
	ml_v v[] = {
		ml_i32(e, MLRT_MAGIC),
		ml_i32(e, MLRT_ABI),
		ml_text_constant(e, o->signature),
		plan_fn,
		run_fn,
		weights_pointer(e, o),
		ml_i64(e, (int64_t)plan->weights_bytes),
		site_table(e, plan),
		ml_i32(e, plan->sites.count),
		ml_i32(e, plan->specs.count),
		ml_i32(e, o->nlevels),
		ml_i32(e, ml_state_words(plan)),
		level_table(e, plan, o),
		step_table(e, plan),
		ml_i32(e, plan->nsteps),
		ml_i32(e, 0),
		work_fn,
	};
	ml_v init = LLVMConstStructInContext(e->lc, v, sizeof v / sizeof *v, 0);
	ml_v program = LLVMAddGlobal(e->module, LLVMTypeOf(init), "mlopt_program");
	LLVMSetInitializer(program, init);
	LLVMSetGlobalConstant(program, 1);
	return ML_OK;
}
