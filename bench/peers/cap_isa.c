/* cap_isa.c -- preloaded: answers CPUID as a CPU of level CAP_ISA would, where capped.py has put
 * breakpoints in place of a library's cpuid instructions.
 *
 * Runtimes choose their kernels by CPUID; one of the peers has no switch for it and the other's
 * does not reach all of its kernels.  Only what they ask for is changed, and only while they start:
 * the code that is timed is theirs, unchanged.  Bits are those of the Intel SDM, volume 2A, CPUID.
 */

#define _GNU_SOURCE /* REG_RAX */
#include <cpuid.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

/* Leaf 7 by subleaf: the bits of eax, ebx, ecx, edx that lie beyond a level. */
struct beyond {
	const char *level;
	unsigned subleaf[2][4];
};

enum {
	/* subleaf 0 */
	AVX512_EBX = 1u << 16 | 1u << 17 | 1u << 21 | 1u << 28 | 1u << 30,
	AVX512_ECX = 1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14,
	VNNI_ECX = 1u << 11,
	AVX512_EDX = 1u << 2 | 1u << 3 | 1u << 8,
	LATER_EDX = 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25, /* AMX, AVX512-FP16 */
	/* subleaf 1 */
	AVX_VNNI_EAX = 1u << 4,
	BF16_EAX = 1u << 5,
	LATER_EAX = 1u << 21 | 1u << 23,                                 /* AMX-FP16, AVX-IFMA */
	LATER_1_EDX = 1u << 4 | 1u << 5 | 1u << 8 | 1u << 10 | 1u << 19, /* VNNI-INT8 to AVX10 */
};

#define AVX512_BITS {0, AVX512_EBX | 1u << 31, AVX512_ECX, AVX512_EDX | LATER_EDX}

static const struct beyond LEVELS[] = {
	{"avx2", {AVX512_BITS, {AVX_VNNI_EAX | BF16_EAX | LATER_EAX, 0, 0, LATER_1_EDX}}},
	{"avxvnni", {AVX512_BITS, {BF16_EAX | LATER_EAX, 0, 0, LATER_1_EDX}}},
	{"avx512",
	 {{0, 0, VNNI_ECX, LATER_EDX}, {AVX_VNNI_EAX | BF16_EAX | LATER_EAX, 0, 0, LATER_1_EDX}}},
	{"avx512vnni", {{0, 0, 0, LATER_EDX}, {BF16_EAX | LATER_EAX, 0, 0, LATER_1_EDX}}},
	{"avx512bf16", {{0, 0, 0, LATER_EDX}, {LATER_EAX, 0, 0, LATER_1_EDX}}},
};

static const struct beyond *level;

static void
answer(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	greg_t *reg = ((ucontext_t *)context)->uc_mcontext.gregs;
	unsigned leaf = (unsigned)reg[REG_RAX], subleaf = (unsigned)reg[REG_RCX];
	unsigned out[4];
	__cpuid_count(leaf, subleaf, out[0], out[1], out[2], out[3]);
	if (leaf == 7 && subleaf < 2)
		for (int i = 0; i < 4; i++)
			out[i] &= ~level->subleaf[subleaf][i];
	reg[REG_RAX] = out[0];
	reg[REG_RBX] = out[1];
	reg[REG_RCX] = out[2];
	reg[REG_RDX] = out[3];
}

__attribute__((constructor)) static void
install(void)
{
	const char *name = getenv("CAP_ISA");
	for (size_t i = 0; name && i < sizeof LEVELS / sizeof *LEVELS; i++)
		if (strcmp(name, LEVELS[i].level) == 0)
			level = &LEVELS[i];
	if (!level)
		abort(); /* uncapped figures that pass for capped ones would be worse */
	struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO};
	sigaction(SIGTRAP, &action, NULL);
}
