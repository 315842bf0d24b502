/* limits.c -- loops of nothing but one instruction mix, made by the compiler's own emitter. */
#define _DEFAULT_SOURCE
#include "limits.h"
#include "../../tests/codegen/jitted.h"
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

const char *const limit_names[LIMIT_KINDS] = {"fp32_gmacs", "int8_gmacs", "int8_exact_gmacs",
					      "read_gbs"};

enum {
	CHAINS = 12, /* independent accumulators: more than latency times instructions a cycle */
	STEPS = 20000,
	READ_BYTES = 256 << 20,
};

typedef void loop_fn(void *data, int64_t steps);

struct limits {
	const ml_target *target;
	loop_fn *loop[LIMIT_KINDS];
	jitted j;
};

double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- code ------------------------------------------------------------------------------------- */

static bool
has_vnni(const ml_target *t)
{
	return t->level == ML_LEVEL_AVX512VNNI || t->level == ML_LEVEL_AVXVNNI;
}

static ml_v
call(ml_emit *e, const char *name256, const char *name512, ml_v a, ml_v b)
{
	const char *name = e->target->vector_bits == 512 ? name512 : name256;

	return ml_intrinsic(e, name, NULL, 0, (ml_v[]){a, b}, 2);
}

static ml_v
multiply_words(ml_emit *e, ml_v a, ml_v b)
{
	return call(e, "llvm.x86.avx2.pmadd.wd", "llvm.x86.avx512.pmaddw.d.512", a, b);
}

static ml_v
multiply_bytes(ml_emit *e, ml_v a, ml_v b)
{
	return call(e, "llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx512.pmaddubs.w.512", a, b);
}

/* One step of a chain.  Where the accumulator is no operand of the product it becomes one, else the
 * product would leave the loop. */
static ml_v
multiply_add(ml_emit *e, int kind, ml_v acc, ml_v x, ml_v y)
{
	unsigned n = (unsigned)e->target->vector_bits / 8;
	LLVMTypeRef bytes = LLVMVectorType(e->i8, n);
	LLVMTypeRef words = LLVMVectorType(e->i16, n / 2);

	if (kind == LIMIT_FP32)
		return ml_fma(e, x, y, acc);
	if (has_vnni(e->target))
		return ml_intrinsic(e,
				    e->target->vector_bits == 512 ? "llvm.x86.avx512.vpdpbusd.512"
								  : "llvm.x86.avx512.vpdpbusd.256",
				    NULL, 0, (ml_v[]){acc, x, y}, 3);
	if (kind == LIMIT_INT8_EXACT)
		return LLVMBuildAdd(e->b, acc,
				    multiply_words(e, LLVMBuildBitCast(e->b, acc, words, ""),
						   LLVMBuildBitCast(e->b, x, words, "")),
				    "");
	ml_v a = LLVMBuildBitCast(e->b, acc, bytes, "");
	ml_v p = multiply_bytes(e, a, LLVMBuildBitCast(e->b, x, bytes, ""));
	ml_v q = multiply_bytes(e, a, LLVMBuildBitCast(e->b, y, bytes, ""));
	ml_v sum = LLVMBuildAdd(e->b, p, q, "");
	return LLVMBuildAdd(e->b, acc, multiply_words(e, sum, LLVMBuildBitCast(e->b, x, words, "")),
			    "");
}

static double
macs_of_step(const ml_target *t, int kind)
{
	int lanes = t->vector_bits / 32;

	if (kind == LIMIT_FP32)
		return lanes;
	if (has_vnni(t))
		return 4 * lanes;
	return kind == LIMIT_INT8_EXACT ? 2 * lanes : 8 * lanes;
}

/* Every step adds to CHAINS accumulators: a product, or what it reads. */
static void
emit_limit(ml_emit *e, int kind)
{
	LLVMTypeRef params[] = {e->ptr, e->i64};
	ml_v f = ml_emit_function(e, limit_names[kind], e->none, params, 2);
	LLVMTypeRef type = LLVMVectorType(kind == LIMIT_FP32 ? e->f32 : e->i32,
					  (unsigned)e->target->vector_bits / 32);
	ml_v data = LLVMGetParam(f, 0), acc[CHAINS], x[2];

	for (int i = 0; i < 2; i++)
		x[i] = ml_load(e, type, ml_gep(e, type, data, ml_i64(e, i)), 4);
	for (int i = 0; i < CHAINS; i++)
		acc[i] = ml_load(e, type, ml_gep(e, type, data, ml_i64(e, i)), 4);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), LLVMGetParam(f, 1), ml_i64(e, 1), acc, CHAINS,
				  "step");
	ml_v block = ml_mul(e, l.i, ml_i64(e, CHAINS));
	for (int i = 0; i < CHAINS; i++) {
		ml_v at = ml_gep(e, type, data, ml_add(e, block, ml_i64(e, i)));
		acc[i] = kind == LIMIT_READ
				 ? LLVMBuildAdd(e->b, l.carry[i], ml_load(e, type, at, 4), "")
				 : multiply_add(e, kind, l.carry[i], x[0], x[1]);
	}
	ml_loop_end(e, &l, acc);
	for (int i = 0; i < CHAINS; i++)
		ml_store(e, l.carry[i], ml_gep(e, type, data, ml_i64(e, i)), 4);
	LLVMBuildRetVoid(e->b);
}

limits *
limits_open(const ml_target *target)
{
	limits *l = calloc(1, sizeof *l);

	if (!l)
		exit(2);
	l->target = target;
	jitted_open(&l->j, target);
	for (int kind = 0; kind < LIMIT_KINDS; kind++)
		emit_limit(&l->j.e, kind);
	jitted_compile(&l->j);
	for (int kind = 0; kind < LIMIT_KINDS; kind++)
		l->loop[kind] = (loop_fn *)(uintptr_t)jitted_find(&l->j, limit_names[kind]);
	return l;
}

void
limits_close(limits *l)
{
	jitted_close(&l->j);
	free(l);
}

/* --- measuring -------------------------------------------------------------------------------- */

/* Units of 1e9 a second, in the fastest of many calls of so many steps, each worth `worth`. */
static double
best_rate(loop_fn *loop, void *data, int64_t steps, double worth, double seconds)
{
	double best = 1e9, start = now();

	do {
		double t = now();
		loop(data, steps);
		t = now() - t;
		best = t < best ? t : best;
	} while (now() - start < seconds);
	return (double)steps * worth / best * 1e-9;
}

/* Reads the whole blocks of `bytes` bytes, so often that the clock is fine enough. */
static double
read_rate(const limits *l, void *data, size_t bytes, double seconds)
{
	double block = CHAINS * l->target->vector_bits / 8.0;

	return best_rate(l->loop[LIMIT_READ], data, (int64_t)((double)bytes / block), block,
			 seconds);
}

static void *
zeros(size_t bytes)
{
	size_t room = (bytes + 8191) / 4096 * 4096;
	void *data = aligned_alloc(4096, room);

	if (!data)
		exit(2);
	madvise(data, room, MADV_HUGEPAGE); /* what page tables cost is no limit of memory */
	memset(data, 0, bytes);
	return data;
}

double
limits_read(const limits *l, size_t bytes, double seconds)
{
	void *data = zeros(bytes);
	double rate = read_rate(l, data, bytes, seconds);

	free(data);
	return rate;
}

typedef struct worker {
	pthread_t thread;
	pthread_barrier_t *start;
	const limits *limits;
	double seconds, rate[LIMIT_KINDS];
} worker;

static void *
work(void *argument)
{
	worker *w = argument;
	void *data = zeros(READ_BYTES);

	for (int kind = 0; kind < LIMIT_KINDS; kind++) {
		pthread_barrier_wait(w->start);
		w->rate[kind] = kind == LIMIT_READ
					? read_rate(w->limits, data, READ_BYTES, w->seconds)
					: best_rate(w->limits->loop[kind], data, STEPS,
						    CHAINS * macs_of_step(w->limits->target, kind),
						    w->seconds);
	}
	free(data);
	return NULL;
}

void
limits_measure(const limits *l, int threads, double seconds, double rate[LIMIT_KINDS])
{
	worker *workers = calloc((size_t)threads, sizeof *workers);
	pthread_barrier_t start;

	if (!workers)
		exit(2);
	pthread_barrier_init(&start, NULL, (unsigned)threads);
	for (int i = 0; i < threads; i++) {
		workers[i] = (worker){.start = &start, .limits = l, .seconds = seconds};
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			exit(2);
	}
	memset(rate, 0, LIMIT_KINDS * sizeof *rate);
	for (int i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		for (int kind = 0; kind < LIMIT_KINDS; kind++)
			rate[kind] += workers[i].rate[kind];
	}
	pthread_barrier_destroy(&start);
	free(workers);
}
