/* target.c -- the table of ISA levels, which of them the running CPU has, and LLVM's view of each.
 */
#include "target.h"
#include <cpuinfo.h>
#include <llvm-c/Core.h>
#include <llvm-c/Target.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

#define X86   "x86_64-unknown-linux-gnu"
#define ARM64 "aarch64-unknown-linux-gnu"
#define KB(n) ((int64_t)(n) * 1024)

/* Cache sizes are those of the smallest usual machine of the level, not of this host: the code for
 * a level is the same wherever it is made. */
static const ml_target levels[ML_LEVEL_COUNT] = {
	{ARM64, ML_LEVEL_NEON, "neon", "generic", "+neon,+fp-armv8", 128, 32, KB(32), KB(256)},
	{ARM64, ML_LEVEL_DOTPROD, "dotprod", "generic", "+neon,+fp-armv8,+dotprod", 128, 32, KB(32),
	 KB(256)},
	{ARM64, ML_LEVEL_I8MM, "i8mm", "generic", "+neon,+fp-armv8,+dotprod,+i8mm", 128, 32, KB(64),
	 KB(512)},
	{X86, ML_LEVEL_AVX2, "avx2", "x86-64-v3", "+avx2,+fma,+f16c,+bmi,+bmi2", 256, 16, KB(32),
	 KB(256)},
	{X86, ML_LEVEL_AVXVNNI, "avxvnni", "x86-64-v3", "+avx2,+fma,+f16c,+bmi,+bmi2,+avxvnni", 256,
	 16, KB(32), KB(1024)},
	{X86, ML_LEVEL_AVX512, "avx512", "x86-64-v4",
	 "+avx512f,+avx512bw,+avx512dq,+avx512vl,-prefer-256-bit", 512, 32, KB(32), KB(1024)},
	{X86, ML_LEVEL_AVX512VNNI, "avx512vnni", "x86-64-v4",
	 "+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni,-prefer-256-bit", 512, 32, KB(32),
	 KB(1024)},
	{X86, ML_LEVEL_AVX512BF16, "avx512bf16", "x86-64-v4",
	 "+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni,+avx512bf16,-prefer-256-bit", 512, 32,
	 KB(32), KB(1024)},
	{X86, ML_LEVEL_AMX, "amx", "x86-64-v4",
	 "+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni,+avx512bf16,+amx-tile,+amx-int8,"
	 "+amx-bf16,-prefer-256-bit",
	 512, 32, KB(48), KB(2048)},
};

const ml_target *
ml_target_level(ml_level level)
{
	return &levels[level];
}

const ml_target *
ml_target_named(const char *level_name)
{
	for (int i = 0; i < ML_LEVEL_COUNT; i++)
		if (!strcmp(levels[i].name, level_name))
			return &levels[i];
	return NULL;
}

/* cpuinfo asks the CPU and, for vector state, whether the operating system saves it.  The
 * extensions younger than the library are asked for here. */
#if defined(__x86_64__)
static bool
has_avxvnni(void)
{
	unsigned a = 0, b = 0, c = 0, d = 0;

	return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

/* Tiles are state that the kernel gives to those who ask; to ask again is allowed. */
static bool
has_amx(void)
{
	enum { REQUEST = 0x1023, TILE_DATA = 18 };     /* ARCH_REQ_XCOMP_PERM of the Linux ABI */
	unsigned has = 1u << 22 | 1u << 24 | 1u << 25; /* bf16, tiles, int8 */
	unsigned a = 0, b = 0, c = 0, d = 0;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & has) == has &&
	       !syscall(SYS_arch_prctl, REQUEST, TILE_DATA);
}
#endif

bool
ml_target_has_bf16(const ml_target *t)
{
	return t->level >= ML_LEVEL_AVX512BF16;
}

bool
ml_target_runs_here(const ml_target *t)
{
	if (!cpuinfo_initialize())
		return false;
#if defined(__x86_64__)
	bool avx2 = cpuinfo_has_x86_avx2() && cpuinfo_has_x86_fma3() && cpuinfo_has_x86_f16c() &&
		    cpuinfo_has_x86_bmi2();
	bool avx512 = avx2 && cpuinfo_has_x86_avx512f() && cpuinfo_has_x86_avx512bw() &&
		      cpuinfo_has_x86_avx512dq() && cpuinfo_has_x86_avx512vl();
	bool bf16 = avx512 && cpuinfo_has_x86_avx512vnni() && cpuinfo_has_x86_avx512bf16();
	switch (t->level) {
	case ML_LEVEL_AVX2: return avx2;
	case ML_LEVEL_AVXVNNI: return avx2 && has_avxvnni();
	case ML_LEVEL_AVX512: return avx512;
	case ML_LEVEL_AVX512VNNI: return avx512 && cpuinfo_has_x86_avx512vnni();
	case ML_LEVEL_AVX512BF16: return bf16;
	case ML_LEVEL_AMX: return bf16 && has_amx();
	default: return false;
	}
#elif defined(__aarch64__)
	enum { I8MM = 1 << 13 }; /* HWCAP2_I8MM of the Linux ABI */
	switch (t->level) {
	case ML_LEVEL_NEON: return true;
	case ML_LEVEL_DOTPROD: return cpuinfo_has_arm_neon_dot();
	case ML_LEVEL_I8MM: return cpuinfo_has_arm_neon_dot() && (getauxval(AT_HWCAP2) & I8MM);
	default: return false;
	}
#else
	(void)t;
	return false;
#endif
}

ml_status
ml_target_host(ml_context *cx, const ml_target **out)
{
	const char *cap = getenv("MLOPT_ISA");

	if (cap && *cap) {
		const ml_target *t = ml_target_named(cap);
		if (!t) {
			ml_status s = ml_error(cx, ML_ERR_TARGET, NULL,
					       "MLOPT_ISA names no known level: '%s'", cap);
			ml_hint(cx, "known: neon dotprod i8mm avx2 avxvnni avx512 avx512vnni "
				    "avx512bf16 amx");
			return s;
		}
		if (!ml_target_runs_here(t))
			return ml_error(cx, ML_ERR_TARGET, NULL,
					"MLOPT_ISA asks for %s, which this CPU lacks", t->name);
		*out = t;
		return ML_OK;
	}
	for (int i = ML_LEVEL_COUNT; i-- > 0;)
		if (ml_target_runs_here(&levels[i])) {
			*out = &levels[i];
			return ML_OK;
		}
	ml_status s = ml_error(cx, ML_ERR_TARGET, NULL, "this CPU is below the lowest level");
	ml_hint(cx, "x86-64 needs AVX2, FMA, F16C and BMI2; aarch64 needs NEON");
	return s;
}

static void
register_backends(void)
{
	LLVMInitializeX86TargetInfo();
	LLVMInitializeX86Target();
	LLVMInitializeX86TargetMC();
	LLVMInitializeX86AsmPrinter();
	LLVMInitializeX86AsmParser(); /* the embedded runtime has inline assembler */
	LLVMInitializeAArch64TargetInfo();
	LLVMInitializeAArch64Target();
	LLVMInitializeAArch64TargetMC();
	LLVMInitializeAArch64AsmPrinter();
	LLVMInitializeAArch64AsmParser();
}

void
ml_target_register(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, register_backends);
}

ml_status
ml_target_machine(ml_context *cx, const ml_target *t, LLVMCodeGenOptLevel level,
		  LLVMTargetMachineRef *out)
{
	LLVMTargetRef backend = NULL;
	char *message = NULL;

	ml_target_register();
	if (LLVMGetTargetFromTriple(t->triple, &backend, &message)) {
		ml_status s = ml_error(cx, ML_ERR_TARGET, NULL, "LLVM does not know %s: %s",
				       t->triple, message);
		LLVMDisposeMessage(message);
		return s;
	}
	*out = LLVMCreateTargetMachine(backend, t->triple, t->cpu, t->features, level, LLVMRelocPIC,
				       LLVMCodeModelDefault);
	if (!*out)
		return ml_error(cx, ML_ERR_TARGET, NULL, "LLVM has no target machine for %s",
				t->name);
	return ML_OK;
}
