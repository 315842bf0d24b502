/* kernels.c -- how near the contraction tiles come to this core's arithmetic limit.
 *
 *   kernels [--isa LEVEL] [--form f32|u8s8] [--json] [--seconds S] [M N K]
 *
 * Prints GMAC/s, the best of many runs, and its share of a loop of register-only multiply-adds
 * measured in the same process.  Run it pinned: taskset -c 1 kernels.
 */
#define _POSIX_C_SOURCE 200809L
#include "../../codegen/contract.h"
#include "../../tests/codegen/jitted.h"
#include <string.h>
#include <time.h>

typedef void gemm_fn(const void *a, const void *b, void *c, int64_t m, int64_t n, int64_t k);
typedef void peak_fn(void *out, int64_t steps);

typedef struct options {
	const ml_target *target;
	int form; /* -1: all */
	bool json;
	double seconds;
	int64_t m, n, k; /* m = 0: the standard list */
} options;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- code ------------------------------------------------------------------------------------- */

typedef struct output {
	ml_v c, n;
} output;

static void
store(void *user, ml_emit *e, ml_v row, ml_v column, ml_v count, ml_v acc)
{
	output *o = user;
	ml_v at = ml_add(e, ml_mul(e, row, o->n), column);

	ml_store_lanes(e, acc, ml_gep(e, e->i32, o->c, at), count, 4);
}

static void
emit_gemm(ml_emit *e, ml_contract_form form)
{
	LLVMTypeRef params[] = {e->ptr, e->ptr, e->ptr, e->i64, e->i64, e->i64};
	ml_v f = ml_emit_function(e, "gemm", e->none, params, 6);
	output o = {LLVMGetParam(f, 2), LLVMGetParam(f, 4)};
	ml_v panels = LLVMBuildSDiv(e->b, ml_add(e, o.n, ml_i64(e, ML_PANEL - 1)),
				    ml_i64(e, ML_PANEL), "");
	ml_contract c = {
		.form = form,
		.a = LLVMGetParam(f, 0),
		.lda = LLVMGetParam(f, 5),
		.b = LLVMGetParam(f, 1),
		.k = LLVMGetParam(f, 5),
		.row_begin = ml_i64(e, 0),
		.row_end = LLVMGetParam(f, 3),
		.panel_begin = ml_i64(e, 0),
		.panel_end = panels,
		.columns = o.n,
		.store = store,
		.user = &o,
	};

	ml_emit_contract(e, &c);
	LLVMBuildRetVoid(e->b);
	ml_emit_contract_tiles(e, form);
}

/* One independent multiply-add on 16 lanes, the form's best instruction of the level. */
static ml_v
multiply_add(ml_emit *e, ml_contract_form form, ml_v acc, ml_v x)
{
	unsigned n = (unsigned)e->target->vector_bits / 32;
	LLVMTypeRef halves = LLVMVectorType(e->i16, 2 * n);

	if (form == ML_CONTRACT_F32)
		return ml_fma(e, x, x, acc);
	switch (e->target->level) {
	case ML_LEVEL_AVX512VNNI:
		return ml_intrinsic(e, "llvm.x86.avx512.vpdpbusd.512", NULL, 0, (ml_v[]){acc, x, x},
				    3);
	case ML_LEVEL_AVXVNNI:
		return ml_intrinsic(e, "llvm.x86.avx512.vpdpbusd.256", NULL, 0, (ml_v[]){acc, x, x},
				    3);
	default: {
		/* the operand changes with the accumulator, else the product leaves the loop */
		ml_v y = LLVMBuildBitCast(e->b, acc, halves, "");
		ml_v p = ml_intrinsic(e,
				      e->target->vector_bits == 512 ? "llvm.x86.avx512.pmaddw.d.512"
								    : "llvm.x86.avx2.pmadd.wd",
				      NULL, 0, (ml_v[]){y, LLVMBuildBitCast(e->b, x, halves, "")},
				      2);
		return LLVMBuildAdd(e->b, acc, p, "");
	}
	}
}

enum { CHAINS = 12 };

static void
emit_peak(ml_emit *e, ml_contract_form form)
{
	LLVMTypeRef params[] = {e->ptr, e->i64};
	ml_v f = ml_emit_function(e, "peak", e->none, params, 2);
	LLVMTypeRef type = LLVMVectorType(form == ML_CONTRACT_F32 ? e->f32 : e->i32,
					  (unsigned)e->target->vector_bits / 32);
	ml_v acc[CHAINS], x = ml_load(e, type, LLVMGetParam(f, 0), 4);

	for (int i = 0; i < CHAINS; i++)
		acc[i] = ml_load(e, type, ml_gep(e, type, LLVMGetParam(f, 0), ml_i64(e, i)), 4);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), LLVMGetParam(f, 1), ml_i64(e, 1), acc, CHAINS,
				  "step");
	for (int i = 0; i < CHAINS; i++)
		acc[i] = multiply_add(e, form, l.carry[i], x);
	ml_loop_end(e, &l, acc);
	for (int i = 0; i < CHAINS; i++)
		ml_store(e, l.carry[i], ml_gep(e, type, LLVMGetParam(f, 0), ml_i64(e, i)), 4);
	LLVMBuildRetVoid(e->b);
}

/* --- measuring -------------------------------------------------------------------------------- */

typedef struct work {
	gemm_fn *gemm;
	peak_fn *peak;
	void *a, *b, *c;
	int64_t m, n, k;
} work;

static void
run_gemm(const work *w)
{
	w->gemm(w->a, w->b, w->c, w->m, w->n, w->k);
}

static void
run_peak(const work *w)
{
	w->peak(w->c, 20000);
}

static double
best_time(void (*run)(const work *), const work *w, double seconds)
{
	double best = 1e9, start = now();
	int inner = 1;

	run(w);
	do {
		double t = now();
		for (int i = 0; i < inner; i++)
			run(w);
		t = now() - t;
		if (t < 2e-5) {
			inner *= 2;
			continue;
		}
		if (t / inner < best)
			best = t / inner;
	} while (now() - start < seconds);
	return best;
}

static double
measure_peak(const options *o, ml_contract_form form, work *w)
{
	int lanes = o->target->vector_bits / 32, macs = lanes;
	bool vnni = o->target->level == ML_LEVEL_AVX512VNNI || o->target->level == ML_LEVEL_AVXVNNI;

	if (form == ML_CONTRACT_U8S8)
		macs = lanes * (vnni ? 4 : 2);
	memset(w->c, 0, 4096);
	return 20000.0 * CHAINS * macs / best_time(run_peak, w, o->seconds) * 1e-9;
}

static void
measure_shape(const options *o, ml_contract_form form, work *w, double peak, int64_t m, int64_t n,
	      int64_t k)
{
	w->m = m;
	w->n = n;
	w->k = k;
	double t = best_time(run_gemm, w, o->seconds);
	double rate = (double)m * (double)n * (double)k / t * 1e-9;
	const char *name = form == ML_CONTRACT_F32 ? "f32" : "u8s8";

	if (o->json)
		printf("{\"form\": \"%s\", \"isa\": \"%s\", \"m\": %ld, \"n\": %ld, \"k\": %ld, "
		       "\"us\": %.3f, \"gmacs\": %.2f, \"share\": %.4f}\n",
		       name, o->target->name, (long)m, (long)n, (long)k, t * 1e6, rate,
		       rate / peak);
	else
		printf("%-5s %-10s %4ld x %4ld x %4ld  %9.2f us  %7.2f GMAC/s  %5.1f %%\n", name,
		       o->target->name, (long)m, (long)n, (long)k, t * 1e6, rate,
		       100 * rate / peak);
	fflush(stdout);
}

static void
measure_form(const options *o, ml_contract_form form)
{
	static const int64_t rows[] = {1, 4, 16, 64, 128, 512};
	static const int64_t nk[][2] = {
		{384, 384}, {1536, 384}, {384, 1536}, {768, 768}, {3072, 768}};
	size_t bytes = 4096 + (o->m ? 4 * (size_t)(o->m * (o->n + 16 + o->k) + (o->n + 16) * o->k)
				    : (size_t)16 << 20);
	jitted j;
	work w = {0};

	jitted_open(&j, o->target);
	emit_gemm(&j.e, form);
	emit_peak(&j.e, form);
	jitted_compile(&j);
	w.gemm = (gemm_fn *)(uintptr_t)jitted_find(&j, "gemm");
	w.peak = (peak_fn *)(uintptr_t)jitted_find(&j, "peak");
	w.a = aligned_alloc(4096, bytes / 4096 * 4096 + 4096);
	w.b = aligned_alloc(4096, bytes / 4096 * 4096 + 4096);
	w.c = aligned_alloc(4096, bytes / 4096 * 4096 + 4096);
	if (!w.a || !w.b || !w.c)
		exit(2);
	memset(w.a, 0, bytes);
	memset(w.b, 0, bytes);
	memset(w.c, 0, bytes);
	double peak = measure_peak(o, form, &w);
	printf(o->json ? "{\"form\": \"%s\", \"isa\": \"%s\", \"peak_gmacs\": %.2f}\n"
		       : "%s on %s: registers alone reach %.2f GMAC/s\n",
	       form == ML_CONTRACT_F32 ? "f32" : "u8s8", o->target->name, peak);
	if (o->m)
		measure_shape(o, form, &w, peak, o->m, o->n, o->k);
	for (size_t s = 0; s < sizeof nk / sizeof *nk && !o->m; s++)
		for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
			measure_shape(o, form, &w, peak, rows[r], nk[s][0], nk[s][1]);
	free(w.a);
	free(w.b);
	free(w.c);
	jitted_close(&j);
}

static void
usage(void)
{
	fprintf(stderr, "usage: kernels [--isa LEVEL] [--form f32|u8s8] [--json] [--seconds S] "
			"[M N K]\n");
	exit(1);
}

static void
parse(options *o, int argc, char **argv)
{
	int64_t *sizes[] = {&o->m, &o->n, &o->k};
	int nsizes = 0;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json")) {
			o->json = true;
		} else if (!strcmp(argv[i], "--isa") && i + 1 < argc) {
			o->target = ml_target_named(argv[++i]);
			if (!o->target || !ml_target_runs_here(o->target))
				usage();
		} else if (!strcmp(argv[i], "--form") && i + 1 < argc) {
			o->form = strcmp(argv[++i], "f32") ? ML_CONTRACT_U8S8 : ML_CONTRACT_F32;
		} else if (!strcmp(argv[i], "--seconds") && i + 1 < argc) {
			o->seconds = atof(argv[++i]);
		} else if (nsizes < 3 && atoll(argv[i]) > 0) {
			*sizes[nsizes++] = atoll(argv[i]);
		} else {
			usage();
		}
	}
	if (nsizes % 3)
		usage();
}

int
main(int argc, char **argv)
{
	options o = {.form = -1, .seconds = 0.2};
	ml_context cx = {.memory = ml_memory_libc()};

	ml_arena_init(&cx.arena, &cx.memory);
	parse(&o, argc, argv);
	if (!o.target && ml_target_host(&cx, &o.target) != ML_OK)
		return 1;
	for (int form = 0; form < ML_CONTRACT_FORMS; form++)
		if (o.form < 0 || o.form == form)
			measure_form(&o, (ml_contract_form)form);
	ml_arena_free(&cx.arena);
	return 0;
}
