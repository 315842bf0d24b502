/* job.c -- a worker turns one job into an object file. */
#include "job.h"
#include "../ir/catch.h"
#include "fingerprint.h"
#include "ready_tiles.h"
#include <assert.h>
#include <llvm-c/Analysis.h>
#include <llvm-c/BitReader.h>
#include <llvm-c/BitWriter.h>
#include <stdio.h>
#include <string.h>

ml_job
ml_tiles_job(ml_arena *arena, const ml_target *t, ml_contract_form form)
{
	return (ml_job){.kind = ML_JOB_TILES,
			.target = t,
			.form = form,
			.name = ml_format(arena, "tiles_%s_%s", ml_form_get(form)->name, t->name)};
}

void
ml_worker_open(ml_worker *w, const ml_memory *memory)
{
	w->cx = (ml_context){.memory = *memory};
	ml_arena_init(&w->cx.arena, &w->cx.memory);
}

void
ml_worker_close(ml_worker *w)
{
	for (int i = 0; i < ML_LEVEL_COUNT; i++)
		if (w->machine[i])
			LLVMDisposeTargetMachine(w->machine[i]);
	if (w->entry_machine)
		LLVMDisposeTargetMachine(w->entry_machine);
	ml_arena_free(&w->cx.arena);
}

/* The entry runs each of its lines once: LLVM need not look for the best code. */
static ml_status
machine_for(ml_worker *w, const ml_job *j, LLVMTargetMachineRef *out)
{
	bool entry = j->kind == ML_JOB_EMITTED;
	LLVMTargetMachineRef *slot = entry ? &w->entry_machine : &w->machine[j->target->level];

	if (!*slot)
		ML_STEP(ml_target_machine(&w->cx, j->target,
					  entry ? LLVMCodeGenLevelNone : LLVMCodeGenLevelDefault,
					  slot));
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
emit_kernel(ml_worker *w, ml_job *j, ml_emit *e)
{
	const ml_spec *spec = &w->plan->specs.at[j->spec];
	const char *name = ml_format(&w->cx.arena, "%s_%s", spec->symbol, j->target->name);
	ml_kernel *k;

	if (w->save_temps) {
		const char *path =
			ml_format(&w->cx.arena, "%s/kernel%d.mlt", w->save_temps, j->spec);
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
		for (int form = 0; form < ML_CONTRACT_FORMS; form++) {
			const char *of = ml_form_get((ml_contract_form)form)->name, *at = name + 5;
			size_t length = strlen(of);
			j->uses_tiles[form] |= !strncmp(at, of, length) && at[length] == '_';
		}
	}
}

static ml_status
make_emitted(ml_worker *w, ml_job *j, ml_emit *e)
{
	LLVMTargetMachineRef machine;

	if (j->kind == ML_JOB_KERNEL)
		ML_STEP(emit_kernel(w, j, e));
	if (j->kind == ML_JOB_TILES)
		ml_emit_contract_tiles(e, j->form);
	note_tiles(j, e);
	if (w->check)
		return ML_OK;
	ML_STEP(machine_for(w, j, &machine));
	if (j->kind == ML_JOB_EMITTED)
		assert(!LLVMVerifyModule(e->module, LLVMAbortProcessAction, NULL));
	else
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
	ml_status status = machine_for(w, j, &machine);

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

static ml_status
make(ml_worker *w, ml_job *j)
{
	if (j->kind == ML_JOB_EMBEDDED)
		return make_embedded(w, j);
	if (j->kind != ML_JOB_EMITTED)
		ml_emit_open(&j->emitted, j->target, &w->cx.arena, j->name);
	return make_emitted(w, j, &j->emitted);
}

/* ---- the cache ---- */

/* Everything that the object depends on. */
static ml_bytes
key_of(ml_worker *w, const ml_job *j)
{
	static const char *const kind[] = {"kernel", "tiles", "emitted", "embedded"};
	ml_bytes content = {"", 0};
	unsigned version[3];

	LLVMGetVersion(&version[0], &version[1], &version[2]);
	const char *head =
		ml_format(&w->cx.arena, "%s LLVM %u.%u.%u %s %s %s %s %s %d\n",
			  ML_CODEGEN_FINGERPRINT, version[0], version[1], version[2],
			  j->target->triple, j->target->name, j->target->cpu, j->target->features,
			  kind[j->kind], j->kind == ML_JOB_TILES ? (int)j->form : 0);
	switch (j->kind) {
	case ML_JOB_KERNEL: {
		const ml_spec *s = &w->plan->specs.at[j->spec];
		head = ml_format(&w->cx.arena, "%s%s\n", head, s->symbol);
		content = (ml_bytes){s->text, s->length};
		break;
	}
	case ML_JOB_TILES: break;
	case ML_JOB_EMITTED:
		w->bitcode = LLVMWriteBitcodeToMemoryBuffer(j->emitted.module);
		content = (ml_bytes){LLVMGetBufferStart(w->bitcode), LLVMGetBufferSize(w->bitcode)};
		break;
	case ML_JOB_EMBEDDED: content = (ml_bytes){j->bitcode.at, j->bitcode.size}; break;
	}
	size_t n = strlen(head);
	char *key = ml_alloc(&w->cx.arena, n + content.size);
	memcpy(key, head, n);
	memcpy(key + n, content.at, content.size);
	return (ml_bytes){key, n + content.size};
}

/* A body is what the job found out, then the object. */
static bool
find(ml_worker *w, ml_job *j, ml_bytes key)
{
	ml_bytes body;

	if (!ml_cache_get(w->cache, &w->cx.memory, key, &body))
		return false;
	bool fine = body.size > sizeof j->uses_tiles;
	if (fine) {
		memcpy(j->uses_tiles, body.at, sizeof j->uses_tiles);
		j->object = LLVMCreateMemoryBufferWithMemoryRangeCopy(
			(const char *)body.at + sizeof j->uses_tiles,
			body.size - sizeof j->uses_tiles, j->name);
	}
	ml_cache_drop(&w->cx.memory, &body);
	return fine;
}

static void
keep(ml_worker *w, const ml_job *j, ml_bytes key)
{
	size_t n = sizeof j->uses_tiles, size = LLVMGetBufferSize(j->object);
	char *body = ml_alloc(&w->cx.arena, n + size);

	memcpy(body, j->uses_tiles, n);
	memcpy(body + n, LLVMGetBufferStart(j->object), size);
	ml_cache_put(w->cache, key, (ml_bytes){body, n + size});
}

static bool
find_ready(ml_job *j)
{
	ml_bytes b;

	if (j->kind != ML_JOB_TILES || !ml_ready_tiles(j->target->level, j->form, &b))
		return false;
	j->object = LLVMCreateMemoryBufferWithMemoryRangeCopy(b.at, b.size, j->name);
	return true;
}

typedef struct turn {
	ml_worker *w;
	ml_job *j;
} turn;

static ml_status
find_or_make(void *job)
{
	const turn *t = job;
	ml_worker *w = t->w;
	ml_job *j = t->j;

	if (w->check || w->save_temps)
		return make(w, j);
	if (find_ready(j))
		return ML_OK;
	if (!ml_cache_is_open(w->cache))
		return make(w, j);
	ml_bytes key = key_of(w, j);
	if (find(w, j, key))
		return ML_OK;
	ML_STEP(make(w, j));
	keep(w, j, key);
	return ML_OK;
}

void
ml_worker_do(ml_worker *w, ml_job *j)
{
	j->status = ml_catch(&w->cx, find_or_make, &(turn){w, j});
	if (j->status == ML_ERR_NOMEM)
		snprintf(j->message, sizeof j->message, "out of memory while compiling %s",
			 j->name);
	if (j->emitted.lc)
		ml_emit_close(&j->emitted);
	if (w->bitcode)
		LLVMDisposeMemoryBuffer(w->bitcode);
	w->bitcode = NULL;
	if (j->status && !j->message[0])
		snprintf(j->message, sizeof j->message, "%s",
			 w->cx.diags.count ? w->cx.diags.at[w->cx.diags.count - 1].text : j->name);
	/* What the job needed is gone, even where it was unwound; the next one starts afresh. */
	while (w->cx.modules)
		ml_module_free(w->cx.modules);
	ml_arena_free(&w->cx.arena);
	ml_arena_init(&w->cx.arena, &w->cx.memory);
	w->cx.diags.at = NULL;
	w->cx.diags.count = w->cx.diags.room = 0;
	w->cx.errors = 0;
}
