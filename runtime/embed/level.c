/* level.c -- which ISA levels the running CPU has, and the choice among a program's. */
#include "level.h"
#include "host.h"
#include "mlopt/mlopt.h"

typedef struct level {
	const char *name;
	uint64_t needs; /* all of these bits of cpu_bits() */
} level;

#if defined(__x86_64__)
enum {
	HAS_AVX2 = 1, /* with all that compilers expect beside it: x86-64-v3 */
	HAS_AVXVNNI = 2,
	HAS_AVX512 = 4, /* x86-64-v4 */
	HAS_AVX512VNNI = 8,
	HAS_AVX512BF16 = 16,
	HAS_AMX = 32, /* tiles of bytes and of bf16 */
};
static const level levels[] = {
	{"avx2", HAS_AVX2},
	{"avxvnni", HAS_AVX2 | HAS_AVXVNNI},
	{"avx512", HAS_AVX2 | HAS_AVX512},
	{"avx512vnni", HAS_AVX2 | HAS_AVX512 | HAS_AVX512VNNI},
	{"avx512bf16", HAS_AVX2 | HAS_AVX512 | HAS_AVX512VNNI | HAS_AVX512BF16},
	{"amx", HAS_AVX2 | HAS_AVX512 | HAS_AVX512VNNI | HAS_AVX512BF16 | HAS_AMX},
};

typedef struct cpuid {
	uint32_t a, b, c, d;
} cpuid;

static cpuid
ask(uint32_t leaf, uint32_t subleaf)
{
	cpuid r;

	__asm__ volatile("cpuid"
			 : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d)
			 : "a"(leaf), "c"(subleaf));
	return r;
}

static int
all(uint32_t word, uint32_t bits)
{
	return (word & bits) == bits;
}

#define BIT(n) (1u << (n))

static uint64_t
cpu_bits(void)
{
	uint32_t saved = 0, high = 0;
	uint64_t bits = 0;

	if (ask(0, 0).a < 7 || ask(0x80000000, 0).a < 0x80000001)
		return 0;
	/* fma, movbe, popcnt, osxsave, avx, f16c */
	if (!all(ask(1, 0).c, BIT(12) | BIT(22) | BIT(23) | BIT(27) | BIT(28) | BIT(29)))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
	cpuid seven = ask(7, 0);
	/* state of ymm; bmi1, avx2, bmi2; lzcnt */
	if (all(saved, 6) && all(seven.b, BIT(3) | BIT(5) | BIT(8)) &&
	    all(ask(0x80000001, 0).c, BIT(5)))
		bits |= HAS_AVX2;
	if (seven.a >= 1 && all(ask(7, 1).a, BIT(4)))
		bits |= HAS_AVXVNNI;
	/* state of zmm; f, dq, cd, bw, vl */
	if (all(saved, 0xe6) && all(seven.b, BIT(16) | BIT(17) | BIT(28) | BIT(30) | BIT(31)))
		bits |= HAS_AVX512;
	if (all(seven.c, BIT(11)))
		bits |= HAS_AVX512VNNI;
	if (seven.a >= 1 && all(ask(7, 1).a, BIT(5)))
		bits |= HAS_AVX512BF16;
	/* state of tiles, which the kernel gives to those who ask for it; bf16, tile, int8 */
	if (all(saved, BIT(17) | BIT(18)) && all(seven.d, BIT(22) | BIT(24) | BIT(25)) &&
	    !syscall(MLRT_SYS_ARCH_PRCTL, MLRT_ARCH_REQ_XCOMP_PERM, 18L))
		bits |= HAS_AMX;
	return bits;
}

#elif defined(__aarch64__)
enum { AT_HWCAP = 16, AT_HWCAP2 = 26 };
#define HAS_DOTPROD ((uint64_t)1 << 20)        /* HWCAP_ASIMDDP */
#define HAS_I8MM    ((uint64_t)1 << (32 + 13)) /* HWCAP2_I8MM */
static const level levels[] = {
	{"neon", 0},
	{"dotprod", HAS_DOTPROD},
	{"i8mm", HAS_DOTPROD | HAS_I8MM},
};

static uint64_t
cpu_bits(void)
{
	return (getauxval(AT_HWCAP) & 0xffffffff) | (uint64_t)getauxval(AT_HWCAP2) << 32;
}
#endif

static int
equal(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

int32_t
mlrt_level_runs(const char *name)
{
	for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
		if (equal(levels[i].name, name))
			return (cpu_bits() & levels[i].needs) == levels[i].needs;
	return 0;
}

int32_t
mlrt_choose_level(const mlrt_program *p, const mlrt_level **chosen)
{
	const char *forced = getenv("MLOPT_ISA");

	for (int32_t i = p->nlevels; i-- > 0;)
		if (mlrt_level_runs(p->level[i].name) &&
		    (!forced || !*forced || equal(forced, p->level[i].name))) {
			*chosen = &p->level[i];
			return ML_OK;
		}
	return ML_ERR_TARGET;
}
