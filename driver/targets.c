/* targets.c -- which ISA levels to make code for: names of levels and of CPUs, and the defaults. */
#include "driver.h"
#include <string.h>

/* LLVM's CPU names, by the highest level that the CPU has. */
static const struct {
	const char *cpu;
	ml_level level;
} cpus[] = {
	{"x86-64-v3", ML_LEVEL_AVX2},
	{"haswell", ML_LEVEL_AVX2},
	{"broadwell", ML_LEVEL_AVX2},
	{"skylake", ML_LEVEL_AVX2},
	{"znver1", ML_LEVEL_AVX2},
	{"znver2", ML_LEVEL_AVX2},
	{"znver3", ML_LEVEL_AVX2},
	{"alderlake", ML_LEVEL_AVXVNNI},
	{"raptorlake", ML_LEVEL_AVXVNNI},
	{"meteorlake", ML_LEVEL_AVXVNNI},
	{"arrowlake", ML_LEVEL_AVXVNNI},
	{"lunarlake", ML_LEVEL_AVXVNNI},
	{"x86-64-v4", ML_LEVEL_AVX512},
	{"skylake-avx512", ML_LEVEL_AVX512},
	{"cascadelake", ML_LEVEL_AVX512VNNI},
	{"cooperlake", ML_LEVEL_AVX512BF16},
	{"icelake-client", ML_LEVEL_AVX512VNNI},
	{"icelake-server", ML_LEVEL_AVX512VNNI},
	{"tigerlake", ML_LEVEL_AVX512VNNI},
	{"rocketlake", ML_LEVEL_AVX512VNNI},
	{"sapphirerapids", ML_LEVEL_AMX},
	{"emeraldrapids", ML_LEVEL_AMX},
	{"graniterapids", ML_LEVEL_AMX},
	{"znver4", ML_LEVEL_AVX512BF16},
	{"znver5", ML_LEVEL_AVX512BF16},
	{"cortex-a53", ML_LEVEL_NEON},
	{"cortex-a57", ML_LEVEL_NEON},
	{"cortex-a72", ML_LEVEL_NEON},
	{"cortex-a73", ML_LEVEL_NEON},
	{"cortex-a55", ML_LEVEL_DOTPROD},
	{"cortex-a75", ML_LEVEL_DOTPROD},
	{"cortex-a76", ML_LEVEL_DOTPROD},
	{"cortex-a78", ML_LEVEL_DOTPROD},
	{"cortex-x1", ML_LEVEL_DOTPROD},
	{"neoverse-n1", ML_LEVEL_DOTPROD},
	{"cortex-x2", ML_LEVEL_I8MM},
	{"cortex-a510", ML_LEVEL_I8MM},
	{"cortex-a710", ML_LEVEL_I8MM},
	{"neoverse-n2", ML_LEVEL_I8MM},
	{"neoverse-v1", ML_LEVEL_I8MM},
	{"neoverse-v2", ML_LEVEL_I8MM},
};

/* What a file gets when nothing else is asked for: the levels that differ in speed. */
static const ml_level usual_x86[] = {ML_LEVEL_AVX2, ML_LEVEL_AVX512, ML_LEVEL_AVX512VNNI};
static const ml_level usual_arm[] = {ML_LEVEL_NEON};

static bool
is_arm(const ml_target *t)
{
	return !strncmp(t->triple, "aarch64", 7);
}

/* The architecture of a triple; the vendor part may be left out. */
static ml_status
architecture(const ml_options *o, bool *arm)
{
	static const char *const known[] = {"x86_64-linux-gnu", "x86_64-unknown-linux-gnu",
					    "x86_64-pc-linux-gnu", "aarch64-linux-gnu",
					    "aarch64-unknown-linux-gnu"};

#if defined(__aarch64__)
	*arm = true;
#else
	*arm = false;
#endif
	if (!o->target)
		return ML_OK;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcmp(o->target, known[i])) {
			*arm = i >= 3;
			return ML_OK;
		}
	ml_error(o->cx, ML_ERR_TARGET, NULL, "there is no code for target '%s'", o->target);
	ml_hint(o->cx, "known targets: x86_64-linux-gnu, aarch64-linux-gnu");
	return ML_ERR_TARGET;
}

static ml_status
named_level(const ml_options *o, const char *name, const ml_target **out)
{
	if (!strcmp(name, "native"))
		return ml_target_host(o->cx, out);
	*out = ml_target_named(name);
	for (size_t i = 0; !*out && i < sizeof cpus / sizeof *cpus; i++)
		if (!strcmp(cpus[i].cpu, name))
			*out = ml_target_level(cpus[i].level);
	if (*out)
		return ML_OK;
	ml_error(o->cx, ML_ERR_TARGET, NULL, "mcpu '%s' is no known level or CPU", name);
	ml_hint(o->cx, "levels: avx2 avxvnni avx512 avx512vnni avx512bf16 amx, "
		       "neon dotprod i8mm; native; or LLVM's CPU names such as haswell, "
		       "icelake-server, znver4, neoverse-n1");
	return ML_ERR_TARGET;
}

/* Keeps the list rising and without duplicates. */
static void
add_level(ml_levels *levels, const ml_target *t)
{
	int i = 0;

	while (i < levels->count && levels->at[i]->level < t->level)
		i++;
	if (i < levels->count && levels->at[i] == t)
		return;
	memmove(&levels->at[i + 1], &levels->at[i],
		(size_t)(levels->count - i) * sizeof *levels->at);
	levels->at[i] = t;
	levels->count++;
}

static ml_status
listed_levels(const ml_options *o, bool arm, ml_levels *levels)
{
	for (const char *at = o->mcpu; *at;) {
		size_t n = strcspn(at, ",");
		const char *name = ml_strndup(&o->cx->arena, at, n);
		const ml_target *t;
		ML_STEP(named_level(o, name, &t));
		if (o->target && is_arm(t) != arm)
			return ml_error(o->cx, ML_ERR_TARGET, NULL, "mcpu '%s' is no %s", name,
					o->target);
		if (levels->count && is_arm(t) != is_arm(levels->at[0]))
			return ml_error(o->cx, ML_ERR_TARGET, NULL, "mcpu '%s' mixes architectures",
					o->mcpu);
		add_level(levels, t);
		at += n + (at[n] == ',');
	}
	return levels->count ? ML_OK : ml_error(o->cx, ML_ERR_ARG, NULL, "mcpu names nothing");
}

ml_status
ml_choose_levels(const ml_options *o, bool in_memory, ml_levels *levels)
{
	const ml_target *host;
	bool arm;

	*levels = (ml_levels){0};
	ML_STEP(architecture(o, &arm));
	if (o->mcpu)
		ML_STEP(listed_levels(o, arm, levels));
	if (in_memory) {
		ML_STEP(ml_target_host(o->cx, &host));
		if (!levels->count)
			add_level(levels, host);
		/* One level is enough for code that never leaves this machine. */
		levels->at[0] = levels->at[levels->count - 1];
		levels->count = 1;
		if (!ml_target_runs_here(levels->at[0]))
			return ml_error(o->cx, ML_ERR_TARGET, NULL, "this CPU cannot run %s code",
					levels->at[0]->name);
		return ML_OK;
	}
	const ml_level *usual = arm ? usual_arm : usual_x86;
	size_t n =
		arm ? sizeof usual_arm / sizeof *usual_arm : sizeof usual_x86 / sizeof *usual_x86;
	for (size_t i = 0; !o->mcpu && i < n; i++)
		add_level(levels, ml_target_level(usual[i]));
	if (!o->mcpu && !arm && o->bf16) {
		add_level(levels, ml_target_level(ML_LEVEL_AVX512BF16));
		add_level(levels, ml_target_level(ML_LEVEL_AMX));
	}
	return ML_OK;
}
