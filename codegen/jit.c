/* jit.c -- a plan becomes code and weights in this process, through LLVM's LLJIT. */
#include "jit.h"
#include "../ir/custom.h"
#include "../ir/catch.h"
#include "contract.h"
#include "image.h"
#include <llvm-c/Error.h>
#include <llvm-c/LLJIT.h>
#include <string.h>

struct ml_jit {
	ml_memory memory;
	LLVMOrcLLJITRef lljit;
	mlrt_program program; /* the one in the code, with weights */
	ml_image weights;
};

static ml_status
orc(ml_context *cx, LLVMErrorRef error, const char *what)
{
	if (!error)
		return ML_OK;
	char *text = LLVMGetErrorMessage(error);
	ml_status status = ml_error(cx, ML_ERR_CODEGEN, NULL, "%s: %s", what, text);
	LLVMDisposeErrorMessage(text);
	return status;
}

static LLVMOrcCSymbolMapPair
absolute(LLVMOrcLLJITRef lljit, const char *name, void (*address)(void))
{
	return (LLVMOrcCSymbolMapPair){
		LLVMOrcLLJITMangleAndIntern(lljit, name),
		{(LLVMOrcExecutorAddress)(uintptr_t)address,
		 {LLVMJITSymbolGenericFlagsExported | LLVMJITSymbolGenericFlagsCallable, 0}},
	};
}

/* Compiled code may call these and the registered operators, nothing else of this process: what
 * links here then links as an artefact too. */
static ml_status
define_symbols(ml_context *cx, ml_jit *jit, const ml_signature *s)
{
	LLVMOrcCSymbolMapPair *pair =
		ML_NEW_ARRAY(&cx->arena, LLVMOrcCSymbolMapPair, s->custom.count + 3);
	size_t n = 0;

	pair[n++] = absolute(jit->lljit, "memcpy", (void (*)(void))memcpy);
	pair[n++] = absolute(jit->lljit, "memmove", (void (*)(void))memmove);
	pair[n++] = absolute(jit->lljit, "memset", (void (*)(void))memset);
	for (int i = 0; i < s->custom.count; i++)
		pair[n++] = absolute(jit->lljit, s->custom.at[i]->symbol, s->custom.at[i]->fn);
	LLVMOrcJITDylibRef lib = LLVMOrcLLJITGetMainJITDylib(jit->lljit);
	return orc(cx, LLVMOrcJITDylibDefine(lib, LLVMOrcAbsoluteSymbols(pair, n)),
		   "defining symbols");
}

static ml_status
link(ml_context *cx, ml_jit *jit, const ml_signature *s, ml_objects *objects)
{
	LLVMOrcExecutorAddress address = 0;

	ml_target_register(); /* all code may come from the cache */
	ML_STEP(orc(cx, LLVMOrcCreateLLJIT(&jit->lljit, NULL), "starting the JIT"));
	ML_STEP(define_symbols(cx, jit, s));
	LLVMOrcJITDylibRef lib = LLVMOrcLLJITGetMainJITDylib(jit->lljit);
	for (int i = 0; i < objects->count; i++) {
		LLVMMemoryBufferRef bytes = objects->at[i].bytes;
		objects->at[i].bytes = NULL;
		ML_STEP(orc(cx, LLVMOrcLLJITAddObjectFile(jit->lljit, lib, bytes), "adding code"));
	}
	ML_STEP(orc(cx, LLVMOrcLLJITLookup(jit->lljit, &address, "mlopt_program"), "linking"));
	jit->program = *(const mlrt_program *)(uintptr_t)address;
	jit->program.weights = jit->weights.at;
	return ML_OK;
}

/* What ml_jit_new() was asked, and what it must clean up. */
typedef struct request {
	ml_context *cx;
	ml_plan *plan;
	const ml_jit_options *o;
	ml_objects objects;
	ml_jit *jit;
} request;

static ml_status
make(void *job)
{
	request *r = job;
	ml_signature signature;

	ml_signature_make(r->plan, NULL, &signature);
	for (int i = 0; i < signature.custom.count; i++)
		if (!signature.custom.at[i]->fn)
			return ml_error(r->cx, ML_ERR_ARG, NULL,
					"operator %s has no function to call",
					signature.custom.at[i]->symbol);
	ml_object_options options = {
		.entry = {.levels = &r->o->target, .nlevels = 1, .signature = signature.text},
		.making = r->o->making,
	};
	r->jit = ml_resize(&r->cx->memory, NULL, 0, sizeof *r->jit);
	*r->jit = (ml_jit){.memory = r->cx->memory};
	ML_STEP(ml_objects_make(r->cx, r->plan, &options, &r->objects));
	ML_STEP(ml_image_make(r->cx, r->plan, ml_tile_folds(r->o->target), r->o->making.workers,
			      &r->jit->weights));
	return link(r->cx, r->jit, &signature, &r->objects);
}

ml_status
ml_jit_new(ml_context *cx, ml_plan *plan, const ml_jit_options *o, ml_jit **out)
{
	request r = {cx, plan, o, {0}, NULL};
	ml_status status = ml_catch(cx, make, &r);

	ml_objects_free(&r.objects);
	if (status)
		ml_jit_free(r.jit);
	else
		*out = r.jit;
	return status;
}

const mlrt_program *
ml_jit_program(const ml_jit *jit)
{
	return &jit->program;
}

void
ml_jit_free(ml_jit *jit)
{
	if (!jit)
		return;
	if (jit->lljit)
		LLVMConsumeError(LLVMOrcDisposeLLJIT(jit->lljit));
	ml_image_free(&jit->weights);
	jit->memory.resize(jit->memory.user, jit, sizeof *jit, 0);
}
