/* job.c -- a worker turns one job into an object file. */
#include "job.h"
#include <llvm-c/BitReader.h>
#include <stdio.h>
#include <string.h>

void
ml_worker_open(ml_worker *w, const ml_memory *memory, const ml_plan *plan, const char *save_temps)
{
	*w = (ml_worker){.cx = {.memory = *memory}, .plan = plan, .save_temps = save_temps};
	ml_arena_init(&w->cx.arena, &w->cx.memory);
}

void
ml_worker_close(ml_worker *w)
{
	for (int i = 0; i < ML_LEVEL_COUNT; i++)
		if (w->machine[i])
			LLVMDisposeTargetMachine(w->machine[i]);
	ml_arena_free(&w->cx.arena);
}

static ml_status
machine_for(ml_worker *w, const ml_target *t, LLVMTargetMachineRef *out)
{
	LLVMTargetMachineRef *slot = &w->machine[t->level];

	if (!*slot)
		ML_STEP(ml_target_machine(&w->cx, t, slot));
	*out = *slot;
	return ML_OK;
}

/* ---- --save-temps ---- */

static ml_status
cannot_write(ml_worker *w, const char *path)
{
	return ml_error(&w->cx, ML_ERR_IO, NULL, "cannot write '%s'",
			ml_escaped(&w->cx.arena, path));
}

static ml_status
save_text(ml_worker *w, const char *path, const char *text, size_t length)
{
	FILE *f = fopen(path, "wb");
	bool fine = f && fwrite(text, 1, length, f) == length;

	if (f && fclose(f))
		fine = false;
	return fine ? ML_OK : cannot_write(w, path);
}

static ml_status
save_assembly(ml_worker *w, const ml_job *j, LLVMModuleRef m, LLVMTargetMachineRef machine)
{
	char *message = NULL;
	const char *ll = ml_format(&w->cx.arena, "%s/%s.ll", w->save_temps, j->name);
	const char *s = ml_format(&w->cx.arena, "%s/%s.s", w->save_temps, j->name);
	const char *failed = NULL;

	if (LLVMPrintModuleToFile(m, ll, &message))
		failed = ll;
	else if (LLVMTargetMachineEmitToFile(machine, m, s, LLVMAssemblyFile, &message))
		failed = s;
	LLVMDisposeMessage(message);
	return failed ? cannot_write(w, failed) : ML_OK;
}

/* ---- jobs ---- */

static ml_status
to_object(ml_worker *w, ml_job *j, LLVMModuleRef m, LLVMTargetMachineRef machine)
{
	char *message = NULL;

	/* Printing assembly lowers the module as well, so it is given a copy. */
	if (w->save_temps) {
		LLVMModuleRef copy = LLVMCloneModule(m);
		ml_status status = save_assembly(w, j, copy, machine);
		LLVMDisposeModule(copy);
		ML_STEP(status);
	}
	if (!LLVMTargetMachineEmitToMemoryBuffer(machine, m, LLVMObjectFile, &message, &j->object))
		return ML_OK;
	ml_status status = ml_error(&w->cx, ML_ERR_CODEGEN, NULL, "LLVM cannot compile %s: %s",
				    j->name, message);
	LLVMDisposeMessage(message);
	return status;
}

static ml_status
emit_kernel(ml_worker *w, ml_job *j, ml_emit *e, int i)
{
	const ml_spec *spec = &w->plan->specs.at[i];
	const char *name = ml_format(&w->cx.arena, "k%d_%s", i, j->target->name);
	ml_kernel *k;

	if (w->save_temps) {
		const char *path = ml_format(&w->cx.arena, "%s/k%d.mlt", w->save_temps, i);
		ML_STEP(save_text(w, path, spec->text, spec->length));
	}
	ML_STEP(ml_kernel_parse(&w->cx, spec->text, spec->length, &k));
	ml_status status = ml_kernel_emit(e, k, name);
	ml_module_free(k->m);
	ML_STEP(status);
	LLVMSetVisibility(LLVMGetNamedFunction(e->module, name), LLVMHiddenVisibility);
	return ML_OK;
}

/* Tiles are called by name: declared in the module, not defined. */
static void
note_tiles(ml_job *j, ml_emit *e)
{
	for (ml_v f = LLVMGetFirstFunction(e->module); f; f = LLVMGetNextFunction(f)) {
		size_t n;
		const char *name = LLVMGetValueName2(f, &n);
		if (!LLVMIsDeclaration(f) || strncmp(name, "gemm_", 5))
			continue;
		j->uses_tiles[ML_CONTRACT_F32] |= !strncmp(name, "gemm_f32_", 9);
		j->uses_tiles[ML_CONTRACT_U8S8] |= !strncmp(name, "gemm_u8s8_", 10);
	}
}

static ml_status
make_emitted(ml_worker *w, ml_job *j, ml_emit *e)
{
	LLVMTargetMachineRef machine;

	if (j->kind == ML_JOB_KERNELS)
		for (int i = j->first; i < j->end; i++)
			ML_STEP(emit_kernel(w, j, e, i));
	if (j->kind == ML_JOB_TILES)
		ml_emit_contract_tiles(e, j->form);
	note_tiles(j, e);
	ML_STEP(machine_for(w, j->target, &machine));
	ml_emit_optimize(e, machine);
	return to_object(w, j, e->module, machine);
}

/* Clang has optimised it already, and noted its CPU on every function. */
static ml_status
make_embedded(ml_worker *w, ml_job *j)
{
	LLVMContextRef lc = LLVMContextCreate();
	LLVMMemoryBufferRef bytes = LLVMCreateMemoryBufferWithMemoryRange(
		(const char *)j->bitcode.at, j->bitcode.size, j->bitcode.name, 0);
	LLVMModuleRef m = NULL;
	LLVMTargetMachineRef machine;
	ml_status status = machine_for(w, j->target, &machine);

	if (status == ML_OK && LLVMParseBitcodeInContext2(lc, bytes, &m))
		status = ml_error(&w->cx, ML_ERR_CODEGEN, NULL,
				  "the embedded runtime '%s' is no bitcode of this LLVM", j->name);
	if (status == ML_OK)
		status = to_object(w, j, m, machine);
	if (m)
		LLVMDisposeModule(m);
	LLVMDisposeMemoryBuffer(bytes);
	LLVMContextDispose(lc);
	return status;
}

void
ml_worker_do(ml_worker *w, ml_job *j)
{
	jmp_buf unwind;

	w->cx.memory.on_fail = &unwind;
	if (setjmp(unwind)) {
		j->status = ML_ERR_NOMEM;
		snprintf(j->message, sizeof j->message, "out of memory while compiling %s",
			 j->name);
	} else if (j->kind == ML_JOB_EMBEDDED) {
		j->status = make_embedded(w, j);
	} else {
		if (j->kind != ML_JOB_EMITTED)
			ml_emit_open(&j->emitted, j->target, &w->cx.arena, j->name);
		j->status = make_emitted(w, j, &j->emitted);
	}
	if (j->emitted.lc)
		ml_emit_close(&j->emitted);
	if (j->status && !j->message[0])
		snprintf(j->message, sizeof j->message, "%s",
			 w->cx.diags.count ? w->cx.diags.at[w->cx.diags.count - 1].text : j->name);
	/* What the job needed is gone; the next one starts afresh. */
	ml_arena_free(&w->cx.arena);
	ml_arena_init(&w->cx.arena, &w->cx.memory);
	w->cx.diags.at = NULL;
	w->cx.diags.count = w->cx.diags.room = 0;
	w->cx.errors = 0;
}
