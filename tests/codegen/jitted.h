/* jitted.h -- runs emitted functions in this process: module to object to LLJIT. */
#ifndef ML_TEST_JITTED_H
#define ML_TEST_JITTED_H
#include "../../codegen/emit.h"
#include <llvm-c/LLJIT.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct jitted {
	ml_context cx;
	ml_arena arena;
	ml_emit e;
	LLVMTargetMachineRef machine;
	LLVMOrcLLJITRef jit;
} jitted;

static inline void
jitted_check(LLVMErrorRef error, const char *what)
{
	if (error) {
		char *text = LLVMGetErrorMessage(error);
		fprintf(stderr, "%s: %s\n", what, text);
		LLVMDisposeErrorMessage(text);
		exit(2);
	}
}

/* After this the caller emits into j->e. */
static inline void
jitted_open(jitted *j, const ml_target *target)
{
	*j = (jitted){.cx.memory = ml_memory_libc()};
	ml_arena_init(&j->cx.arena, &j->cx.memory);
	ml_arena_init(&j->arena, &j->cx.memory);
	if (ml_target_machine(&j->cx, target, LLVMCodeGenLevelDefault, &j->machine) != ML_OK) {
		fprintf(stderr, "no target machine for %s\n", target->name);
		exit(2);
	}
	ml_emit_open(&j->e, target, &j->arena, "jitted");
}

/* Compiles what was emitted; the emitter is closed. */
static inline void
jitted_compile(jitted *j)
{
	LLVMMemoryBufferRef object = NULL;
	char *message = NULL;

	ml_emit_optimize(&j->e, j->machine);
	if (getenv("MLOPT_TEST_ASM") &&
	    LLVMTargetMachineEmitToFile(j->machine, j->e.module, getenv("MLOPT_TEST_ASM"),
					LLVMAssemblyFile, &message))
		exit(2);
	if (LLVMTargetMachineEmitToMemoryBuffer(j->machine, j->e.module, LLVMObjectFile, &message,
						&object)) {
		fprintf(stderr, "%s\n", message);
		exit(2);
	}
	ml_emit_close(&j->e);
	jitted_check(LLVMOrcCreateLLJIT(&j->jit, NULL), "LLJIT");
	jitted_check(LLVMOrcLLJITAddObjectFile(j->jit, LLVMOrcLLJITGetMainJITDylib(j->jit), object),
		     "object");
}

static inline void *
jitted_find(jitted *j, const char *name)
{
	LLVMOrcExecutorAddress address = 0;

	jitted_check(LLVMOrcLLJITLookup(j->jit, &address, name), name);
	return (void *)(uintptr_t)address;
}

static inline void
jitted_close(jitted *j)
{
	jitted_check(LLVMOrcDisposeLLJIT(j->jit), "LLJIT");
	LLVMDisposeTargetMachine(j->machine);
	ml_arena_free(&j->arena);
	ml_arena_free(&j->cx.arena);
}
#endif
