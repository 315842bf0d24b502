/* entry_work.c -- the generated mlopt_work: multiply-adds and bytes of every step, for profiles. */
#include "entry.h"
#include "../runtime/abi.h"

static void
emit_step(const ml_dim_source *dims, ml_v work, const ml_step *s)
{
	const ml_dim value[MLRT_WORK_COUNT] = {
		[MLRT_WORK_MACS] = s->work.macs,
		[MLRT_WORK_READ] = s->work.read,
		[MLRT_WORK_WEIGHTS] = s->work.weights,
		[MLRT_WORK_WRITTEN] = s->work.written,
	};
	ml_emit *e = dims->e;

	for (int i = 0; i < MLRT_WORK_COUNT; i++)
		ml_store(e, ml_emit_dim(dims, value[i]),
			 ml_gep(e, e->i64, work, ml_i64(e, s->number * MLRT_WORK_COUNT + i)), 8);
}

static void
emit_sequence(const ml_dim_source *dims, ml_v work, const ml_sequence *s)
{
	for (int i = 0; i < s->steps.count; i++) {
		const ml_step *step = &s->steps.at[i];
		for (int k = 0; k < 2 && step->body[k]; k++)
			emit_sequence(dims, work, step->body[k]);
		if (!step->body[0])
			emit_step(dims, work, step);
	}
}

ml_v
ml_emit_work_function(ml_emit *e, const ml_plan *plan)
{
	LLVMTypeRef params[] = {e->ptr, e->ptr};
	ml_v fn = ml_emit_function(e, "mlopt_work", e->none, params, 2);
	ml_dim_source dims = {e, plan, LLVMGetParam(fn, 0), NULL};

	emit_sequence(&dims, LLVMGetParam(fn, 1), plan->main);
	LLVMBuildRetVoid(e->b);
	return fn;
}
