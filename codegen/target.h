/* target.h -- the machines code is made for: ISA levels, LLVM target machines, host detection. */
#ifndef ML_TARGET_H
#define ML_TARGET_H
#include "../ir/diag.h"
#include <llvm-c/TargetMachine.h>

/* Levels in rising order within an architecture; names are those of MLOPT_ISA and --isa. */
typedef enum ml_level {
	ML_LEVEL_NEON,    /* aarch64 baseline, 128-bit */
	ML_LEVEL_DOTPROD, /* aarch64 + dotprod */
	ML_LEVEL_I8MM,    /* aarch64 + i8mm */
	ML_LEVEL_AVX2,    /* x86-64 with AVX2, FMA, F16C, BMI2 */
	ML_LEVEL_AVXVNNI, /* AVX2 + AVX-VNNI */
	ML_LEVEL_AVX512,  /* AVX-512 F BW DQ VL */
	ML_LEVEL_AVX512VNNI,
	ML_LEVEL_AVX512BF16, /* AVX512VNNI + BF16 */
	ML_LEVEL_AMX,        /* AVX512BF16 + AMX's tiles of bytes and of bf16 */
	ML_LEVEL_COUNT
} ml_level;

typedef struct ml_target {
	const char *triple; /* x86_64-unknown-linux-gnu, aarch64-unknown-linux-gnu */
	ml_level level;
	const char *name;           /* "avx2", "avx512vnni", ... */
	const char *cpu, *features; /* for LLVM */
	int vector_bits;            /* widest legal vector: 128, 256, 512 */
	int registers;              /* vector registers: 16 or 32 */
	int64_t l1_bytes, l2_bytes;
} ml_target;

const ml_target *ml_target_level(ml_level);
/* "avx2", "avx512vnni", "neon"... or NULL. */
const ml_target *ml_target_named(const char *level_name);
/* The best level the running CPU has, capped by the environment's MLOPT_ISA when set;
 * ML_ERR_TARGET when the CPU lacks the lowest level or the cap names one it lacks. */
ml_status ml_target_host(ml_context *, const ml_target **);
bool ml_target_runs_here(const ml_target *);
/* Does it multiply bf16 by an instruction, faster than f32 by fma? */
bool ml_target_has_bf16(const ml_target *);
/* Tells LLVM of the targets; ml_target_machine() does so itself. */
void ml_target_register(void);
/* A new target machine, position-independent; the caller disposes it. */
ml_status ml_target_machine(ml_context *, const ml_target *, LLVMCodeGenOptLevel,
			    LLVMTargetMachineRef *);
#endif
