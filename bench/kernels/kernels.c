/* kernels.c -- how near the compiler's kernels come to the limits of this machine.
 *
 *   bench_kernels [--isa LEVEL] [--only NAME] [--seconds S] [--json] [NAME SIZE...]
 *   bench_kernels --limits [--threads N]
 *
 * Each kernel is a graph of a few nodes in the IR's text form, compiled and run as any model is, on
 * one thread.  Its limit is the time of its multiply-adds at the speed of registers alone, or of
 * reading as many bytes as its inputs, weights and results have from the cache (or memory) that
 * holds them, whichever is longer; it is measured in turns with the kernel.  Run it pinned:
 * taskset -c 1.
 */
#define _POSIX_C_SOURCE 200809L
#include "../../codegen/target.h"
#include "../../tools/limits.h"
#include "kernels.h"
#include <ctype.h>
#include <fnmatch.h>
#include <mlopt/compile.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	READ_BYTES = 256 << 20, /* of a thread: far more than caches hold */
	TURNS = 100,            /* of a kernel, short beside what a clock takes to change */
};

typedef struct arguments {
	const char *isa, *only;
	double seconds;
	int threads;
	bool json, limits;
	int32_t sizes[MAX_SIZES + 1];
	int nsizes;
} arguments;

/* What all measurements share. */
typedef struct bench {
	const arguments *args;
	const char *isa;
	ml_level level;
	double rate[LM_KINDS];
} bench;

static void
fail(const char *what, const char *why)
{
	fprintf(stderr, "bench_kernels: %s: %s\n", what, why ? why : "no reason given");
	exit(1);
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- graphs ----------------------------------------------------------------------------------- */

static int32_t
size_of(const kernel *k, const int32_t *sizes, char letter)
{
	const char *at = strchr(k->sizes, letter);

	if (!at)
		fail(k->name, "its text uses a size it does not have");
	return sizes[at - k->sizes];
}

/* The kernel's text as a module, every $letter replaced by its size. */
static size_t
fill_in(const kernel *k, const int32_t *sizes, char *to, size_t room)
{
	size_t n = (size_t)snprintf(to, room, "module \"%s\" {\n", k->name);

	for (const char *c = k->text; *c && n + 16 < room; c++) {
		if (*c == '$')
			n += (size_t)snprintf(to + n, room - n, "%d", size_of(k, sizes, *++c));
		else
			to[n++] = *c;
	}
	return n + (size_t)snprintf(to + n, room - n, "}\n");
}

static ml_model *
compile(const kernel *k, const int32_t *sizes, ml_context *cx)
{
	char text[4096];
	size_t length = fill_in(k, sizes, text, sizeof text);
	ml_options *o;
	ml_model *m = NULL;

	if (ml_options_new(cx, &o) || ml_options_set(o, "random-weights", NULL) ||
	    (k->option && ml_options_set(o, k->option, NULL)) ||
	    ml_compile_memory(cx, text, length, o, &m))
		fail(k->name, ml_context_message(cx, 0));
	ml_options_free(o);
	return m;
}

/* --- runs ------------------------------------------------------------------------------------- */

/* Numbers in [-1, 1), or all bytes; never denormal, never the same in neighbours. */
static void *
make_elements(ml_dtype dtype, size_t count)
{
	size_t size = dtype == ML_f32 ? sizeof(float) : 1;
	void *data = aligned_alloc(64, (count * size + 63) / 64 * 64);
	uint32_t x = 1;

	if (!data)
		fail("inputs", "out of memory");
	for (size_t i = 0; i < count; i++) {
		x = x * 1664525 + 1013904223;
		if (dtype == ML_f32)
			((float *)data)[i] = (float)(x >> 8) / 8388608.0F - 1;
		else
			((uint8_t *)data)[i] = (uint8_t)(x >> 24);
	}
	return data;
}

/* Gives the session its inputs; returns their bytes.  All sizes are numbers. */
static size_t
set_inputs(ml_session *s, const ml_model_info *info, void **data)
{
	size_t bytes = 0;

	for (int i = 0; i < info->ninputs; i++) {
		const ml_tensor_info *t = &info->input[i];
		int64_t dim[ML_MAX_RANK];
		size_t count = 1;
		for (int d = 0; d < t->rank; d++)
			count *= (size_t)(dim[d] = atoll(t->dim[d]));
		data[i] = make_elements(t->dtype, count);
		if (ml_session_set_input(s, i, data[i], dim, t->rank))
			fail(info->name, ml_session_message(s));
		bytes += count * (t->dtype == ML_f32 ? sizeof(float) : 1);
	}
	return bytes;
}

/* Seconds of a run in a window of so many; what caches lost to others comes back before. */
static double
time_runs(ml_session *s, double window)
{
	enum { GROUP = 20 }; /* microseconds between two looks at the clock, at least */
	double begun, seconds;
	int runs = 0, group = 1;

	for (double t = 0; t < GROUP * 1e-6; group *= 2) {
		begun = now();
		for (int i = 0; i < group; i++)
			if (ml_session_run(s))
				fail("run", ml_session_message(s));
		t = now() - begun;
	}
	begun = now();
	do {
		for (int i = 0; i < group; i++)
			if (ml_session_run(s))
				fail("run", ml_session_message(s));
		runs += group;
		seconds = now() - begun;
	} while (seconds < window);
	return seconds / runs;
}

/* What a row alone of u8 times s8 does.  Where there is no dot instruction it multiplies both
 * halves of its bytes: for eight steps as many instructions as the exact form has, and as many as
 * for a ninth step that widen their sums. */
static bool
is_alone(const kernel *k, const int32_t *sizes)
{
	return k->limit == LM_INT8 && k->sizes[0] == 'm' && size_of(k, sizes, 'm') == 1 &&
	       !k->option;
}

/* --- limits in turns -------------------------------------------------------------------------- */

/* A limit: what there is of multiply-adds or bytes, in units of 1e9, and how fast the machine does
 * nothing else, before each turn and behind the last. */
typedef struct limit {
	lm_kind kind;
	double work, rate[TURNS + 1];
	lm_gauge *gauge;
} limit;

typedef struct figures {
	double seconds, share, macs;
	lm_kind by; /* which limit that is */
	size_t bytes;
} figures;

static limit
arithmetic_of(const bench *b, const kernel *k, const int32_t *sizes, double macs)
{
	bool alone = is_alone(k, sizes),
	     dot = b->level != ML_LEVEL_AVX2 && b->level != ML_LEVEL_AVX512;
	limit l = {.kind = alone ? LM_INT8_EXACT : (lm_kind)k->limit,
		   .work = macs * (alone && !dot ? 9. / 8 : 1) * 1e-9};

	l.gauge = macs ? lm_open(b->isa, l.kind, 0, 1) : NULL;
	return l;
}

static int
by_value(const void *x, const void *y)
{
	double d = *(const double *)x - *(const double *)y;

	return (d > 0) - (d < 0);
}

static double
median(double *v)
{
	qsort(v, TURNS, sizeof *v, by_value);
	return v[TURNS / 2];
}

/* The limit's share of the runs' times, each by the rates before and behind it. */
static double
share_of(const limit *l, const double *seconds)
{
	double share[TURNS];

	for (int i = 0; i < TURNS; i++) {
		double rate = (l->rate[i] + l->rate[i + 1]) / 2;
		share[i] = rate > 0 ? l->work / rate / seconds[i] : 0;
	}
	return median(share);
}

/* Windows of runs and of their limits take turns, all as long, so that the clock is the same. */
static void
take_turns(ml_session *s, double window, limit limits[2], figures *f)
{
	double seconds[TURNS];

	for (int i = 0; i <= TURNS; i++) {
		for (int l = 0; l < 2; l++)
			limits[l].rate[i] = lm_rate(limits[l].gauge, window);
		if (i < TURNS)
			seconds[i] = time_runs(s, window);
	}
	double arithmetic = share_of(&limits[0], seconds), read = share_of(&limits[1], seconds);
	f->by = limits[arithmetic > read ? 0 : 1].kind;
	f->share = arithmetic > read ? arithmetic : read;
	f->seconds = median(seconds);
}

static size_t
output_bytes(ml_session *s, int count)
{
	size_t bytes = 0;

	for (int i = 0; i < count; i++) {
		ml_view out;
		ml_session_output(s, i, &out);
		bytes += out.bytes;
	}
	return bytes;
}

static figures
measure(const bench *b, const kernel *k, const int32_t *sizes)
{
	ml_context *cx;
	ml_session *s;
	ml_message why;
	void *data[8] = {0};
	figures f = {.macs = *k->macs != 0};

	if (ml_context_new(NULL, &cx))
		fail(k->name, "out of memory");
	ml_model *m = compile(k, sizes, cx);
	const ml_model_info *info = ml_model_describe(m);
	if (ml_session_new(m, &(ml_session_options){.threads = 1}, &s, &why))
		fail(k->name, why.text);
	f.bytes = set_inputs(s, info, data) + info->weights_bytes;
	time_runs(s, 0);
	f.bytes += output_bytes(s, info->noutputs);
	for (const char *c = k->macs; *c; c++)
		f.macs *= size_of(k, sizes, *c);
	limit limits[2] = {arithmetic_of(b, k, sizes, f.macs),
			   {.kind = LM_READ,
			    .work = (double)f.bytes * 1e-9,
			    .gauge = lm_open(b->isa, LM_READ, f.bytes, 1)}};
	take_turns(s, b->args->seconds / TURNS, limits, &f);
	for (int l = 0; l < 2; l++)
		lm_close(limits[l].gauge);
	ml_session_free(s);
	ml_model_free(m);
	ml_context_free(cx);
	for (size_t i = 0; i < sizeof data / sizeof *data; i++)
		free(data[i]);
	return f;
}

/* --- reports ---------------------------------------------------------------------------------- */

static void
report(const bench *b, const kernel *k, const int32_t *sizes, const figures *f)
{
	double share = f->share, gmacs = f->macs / f->seconds * 1e-9,
	       gbs = (double)f->bytes / f->seconds * 1e-9;
	char text[128] = "";
	size_t n = 0;

	for (size_t i = 0; k->sizes[i]; i++)
		n += (size_t)snprintf(text + n, sizeof text - n,
				      b->args->json ? "\"%c\": %d, " : "%c%d ", k->sizes[i],
				      sizes[i]);
	printf(b->args->json ? "{\"kernel\": \"%s\", %s\"isa\": \"%s\", \"us\": %.3f, "
			       "\"gmacs\": %.2f, \"gbs\": %.2f, \"limit_share\": %.4f, "
			       "\"limit\": \"%s\"}\n"
			     : "%-28s %-40s %-10s %10.2f us %8.2f GMAC/s %7.2f GB/s %6.1f %% "
			       "of %s\n",
	       k->name, text, b->isa, f->seconds * 1e6, gmacs, gbs,
	       b->args->json ? share : 100 * share, lm_names[f->by]);
	fflush(stdout);
}

static void
report_limits(const bench *b)
{
	const char *form = b->args->json ? ", \"%s\": %.2f" : "  %s %.2f";

	printf(b->args->json ? "{\"isa\": \"%s\", \"threads\": %d" : "%s, %d thread(s):", b->isa,
	       b->args->threads);
	for (int i = 0; i < LM_KINDS; i++)
		printf(form, lm_names[i], b->rate[i]);
	printf(b->args->json ? "}\n" : "\n");
}

static void
run_all(const bench *b)
{
	const arguments *a = b->args;

	for (const kernel *k = kernels; k < kernels + nkernels; k++) {
		if (a->only && fnmatch(a->only, k->name, 0))
			continue;
		if (a->nsizes && a->nsizes != (int)strlen(k->sizes))
			fail(k->name, k->sizes);
		for (int c = 0; c < MAX_CASES && (a->nsizes ? !c : *k->cases[c]); c++) {
			const int32_t *sizes = a->nsizes ? a->sizes : k->cases[c];
			figures f = measure(b, k, sizes);
			report(b, k, sizes, &f);
		}
	}
}

static void
usage(void)
{
	fprintf(stderr, "usage: bench_kernels [--isa LEVEL] [--only NAME] [--seconds S] [--json] "
			"[NAME SIZE...]\n"
			"       bench_kernels --limits [--threads N] [--isa LEVEL] [--json]\n"
			"kernels and their sizes:");
	for (size_t i = 0; i < nkernels; i++)
		fprintf(stderr, " %s(%s)", kernels[i].name, kernels[i].sizes);
	fprintf(stderr, "\n");
	exit(1);
}

static void
parse(arguments *a, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		bool more = i + 1 < argc;
		if (!strcmp(argv[i], "--json"))
			a->json = true;
		else if (!strcmp(argv[i], "--limits"))
			a->limits = true;
		else if (!strcmp(argv[i], "--isa") && more)
			a->isa = argv[++i];
		else if (!strcmp(argv[i], "--only") && more)
			a->only = argv[++i];
		else if (!strcmp(argv[i], "--seconds") && more)
			a->seconds = atof(argv[++i]);
		else if (!strcmp(argv[i], "--threads") && more)
			a->threads = atoi(argv[++i]);
		else if (*argv[i] != '-' && !a->only)
			a->only = argv[i];
		else if (a->nsizes < MAX_SIZES && isdigit((unsigned char)*argv[i]))
			a->sizes[a->nsizes++] = atoi(argv[i]);
		else
			usage();
	}
	if (a->threads < 1 || (a->isa && setenv("MLOPT_ISA", a->isa, 1)))
		usage();
}

int
main(int argc, char **argv)
{
	arguments a = {.seconds = 0.2, .threads = 1};
	ml_context cx = {.memory = ml_memory_libc()};
	const ml_target *target;

	parse(&a, argc, argv);
	ml_arena_init(&cx.arena, &cx.memory);
	if (ml_target_host(&cx, &target) != ML_OK)
		fail(a.isa ? a.isa : "this CPU", "no such level here");
	bench b = {.args = &a, .isa = target->name, .level = target->level};
	for (int i = 0; i < LM_KINDS; i++)
		b.rate[i] = lm_best(b.isa, (lm_kind)i, (size_t)a.threads * READ_BYTES, a.threads,
				    a.seconds);
	report_limits(&b);
	if (!a.limits)
		run_all(&b);
	ml_arena_free(&cx.arena);
	return 0;
}
