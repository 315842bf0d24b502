/* limits.c -- loops of nothing but one instruction mix, for every level that has kernels. */
#include "limits.h"
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

const char *const lm_names[LM_KINDS] = {"fp32_gmacs", "int8_gmacs", "int8_exact_gmacs",
					"bf16_gmacs", "read_gbs"};

enum {
	CHAINS = 12, /* independent accumulators: more than latency times instructions a cycle */
	STEPS = 20000,
	PAGE = 4096,
	FINE = 1 << 20, /* bytes that take long enough for the clock */
	WINDOWS = 16,   /* of which the best is taken */
};

typedef void loop_fn(void *data, int64_t steps);

typedef struct level {
	const char *name;
	loop_fn *loop[LM_KINDS];
	int bytes;         /* of a vector */
	int macs[LM_READ]; /* of one chain's step */
} level;

/* Every step adds to CHAINS accumulators, a product or what it reads.  They are variables of their
 * own: compilers keep an array in memory. */
#define TWELVE(f, a, b)                                                                            \
	f(0, a, b) f(1, a, b) f(2, a, b) f(3, a, b) f(4, a, b) f(5, a, b) f(6, a, b) f(7, a, b)    \
		f(8, a, b) f(9, a, b) f(10, a, b) f(11, a, b)
#define BEGIN(i, vector, load) vector acc##i = load(at + i);
#define STEP(i, step, unused)  acc##i = step(acc##i, x, y, at + n * CHAINS + i);
#define END(i, store, unused)  store(at + i, acc##i);
#define LOOP(name, isa, vector, load, store, step)                                                 \
	__attribute__((target(isa))) static void name(void *data, int64_t steps)                   \
	{                                                                                          \
		vector *at = data, x = load(at), y = load(at + 1);                                 \
		TWELVE(BEGIN, vector, load)                                                        \
		for (int64_t n = 0; n < steps; n++) {                                              \
			TWELVE(STEP, step, )                                                       \
		}                                                                                  \
		TWELVE(END, store, )                                                               \
		(void)x;                                                                           \
		(void)y;                                                                           \
	}

#if defined(__x86_64__)
#include <immintrin.h>

#define LOAD8F(p)               _mm256_load_ps((const float *)(p))
#define STORE8F(p, v)           _mm256_store_ps((float *)(p), v)
#define LOAD16F(p)              _mm512_load_ps((const float *)(p))
#define STORE16F(p, v)          _mm512_store_ps((float *)(p), v)
#define FMA256(acc, x, y, at)   _mm256_fmadd_ps(x, y, acc)
#define FMA512(acc, x, y, at)   _mm512_fmadd_ps(x, y, acc)
#define DOT256(acc, x, y, at)   _mm256_dpbusd_avx_epi32(acc, x, y)
#define DOT512(acc, x, y, at)   _mm512_dpbusd_epi32(acc, x, y)
#define PAIRS512(acc, x, y, at) _mm512_dpbf16_ps(acc, (__m512bh)(x), (__m512bh)(y))
#define READ256(acc, x, y, at)  _mm256_add_epi32(acc, _mm256_load_si256(at))
#define READ512(acc, x, y, at)  _mm512_add_epi32(acc, _mm512_load_si512(at))

/* Where the accumulator is no operand of the product it becomes one, else the product would leave
 * the loop. */
#define WORDS256(acc, x, y, at) _mm256_add_epi32(acc, _mm256_madd_epi16(acc, x))
#define WORDS512(acc, x, y, at) _mm512_add_epi32(acc, _mm512_madd_epi16(acc, x))
#define SUM256(acc, x, y)                                                                          \
	_mm256_add_epi16(_mm256_maddubs_epi16(acc, x), _mm256_maddubs_epi16(acc, y))
#define SUM512(acc, x, y)                                                                          \
	_mm512_add_epi16(_mm512_maddubs_epi16(acc, x), _mm512_maddubs_epi16(acc, y))
#define FOLD256(acc, x, y, at) _mm256_add_epi32(acc, _mm256_madd_epi16(SUM256(acc, x, y), x))
#define FOLD512(acc, x, y, at) _mm512_add_epi32(acc, _mm512_madd_epi16(SUM512(acc, x, y), x))

#define AVX2   "avx2,fma"
#define AVX512 "avx512f,avx512bw"

LOOP(fma256, AVX2, __m256, LOAD8F, STORE8F, FMA256)
LOOP(fold256, AVX2, __m256i, _mm256_load_si256, _mm256_store_si256, FOLD256)
LOOP(words256, AVX2, __m256i, _mm256_load_si256, _mm256_store_si256, WORDS256)
LOOP(read256, AVX2, __m256i, _mm256_load_si256, _mm256_store_si256, READ256)
LOOP(dot256, AVX2 ",avxvnni", __m256i, _mm256_load_si256, _mm256_store_si256, DOT256)
LOOP(fma512, AVX512, __m512, LOAD16F, STORE16F, FMA512)
LOOP(fold512, AVX512, __m512i, _mm512_load_si512, _mm512_store_si512, FOLD512)
LOOP(words512, AVX512, __m512i, _mm512_load_si512, _mm512_store_si512, WORDS512)
LOOP(read512, AVX512, __m512i, _mm512_load_si512, _mm512_store_si512, READ512)
LOOP(dot512, AVX512 ",avx512vnni", __m512i, _mm512_load_si512, _mm512_store_si512, DOT512)
LOOP(pairs512, AVX512 ",avx512bf16", __m512, LOAD16F, STORE16F, PAIRS512)

/* Matrices, whose registers are numbers in the code: four sums of two by two factors, thrice a
 * step. */
static const struct {
	uint8_t palette, start, none[14];
	uint16_t row_bytes[16];
	uint8_t rows[16];
} whole = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

#define FOUR(product)                                                                              \
	product(0, 4, 6);                                                                          \
	product(1, 4, 7);                                                                          \
	product(2, 5, 6);                                                                          \
	product(3, 5, 7);
#define LOAD_TILES(data)                                                                           \
	_tile_loadd(4, data, 0);                                                                   \
	_tile_loadd(5, data, 0);                                                                   \
	_tile_loadd(6, data, 0);                                                                   \
	_tile_loadd(7, data, 0);
#define MATRICES(name, isa, product)                                                               \
	__attribute__((target("amx-tile," isa))) static void name(void *data, int64_t steps)       \
	{                                                                                          \
		_tile_loadconfig(&whole); /* sums are zero then */                                 \
		LOAD_TILES(data)                                                                   \
		for (int64_t n = 0; n < steps; n++) {                                              \
			FOUR(product) FOUR(product) FOUR(product)                                  \
		}                                                                                  \
		_tile_release();                                                                   \
	}

MATRICES(tiles_s8, "amx-int8", _tile_dpbusd)
MATRICES(tiles_bf16, "amx-bf16", _tile_dpbf16ps)

static const level levels[] = {
	{"avx2", {fma256, fold256, words256, fma256, read256}, 32, {8, 64, 16, 8}},
	{"avxvnni", {fma256, dot256, dot256, fma256, read256}, 32, {8, 32, 32, 8}},
	{"avx512", {fma512, fold512, words512, fma512, read512}, 64, {16, 128, 32, 16}},
	{"avx512vnni", {fma512, dot512, dot512, fma512, read512}, 64, {16, 64, 64, 16}},
	{"avx512bf16", {fma512, dot512, dot512, pairs512, read512}, 64, {16, 64, 64, 32}},
	{"amx", {fma512, tiles_s8, tiles_s8, tiles_bf16, read512}, 64, {16, 16384, 16384, 8192}},
	{NULL, {NULL}, 0, {0}},
};
#else
static const level levels[] = {{NULL, {NULL}, 0, {0}}};
#endif

/* --- measuring -------------------------------------------------------------------------------- */

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct worker {
	pthread_t thread;
	const int *go; /* 1: begin, -1: end; atomic */
	const level *level;
	lm_kind kind;
	size_t bytes;
	void *data;
	bool touched;
	double seconds, rate;
} worker;

/* Reads the whole blocks of `bytes`, or multiplies for a while, again and again; first once that
 * does not count, which brings into caches what they hold. */
static void *
work(void *argument)
{
	worker *w = argument;
	bool reads = w->kind == LM_READ;
	int64_t block = (int64_t)CHAINS * w->level->bytes;
	int64_t steps = reads ? (int64_t)w->bytes / block : STEPS;
	int64_t worth = reads ? block : (int64_t)CHAINS * w->level->macs[w->kind];
	int64_t again = reads && steps * block < FINE ? FINE / (steps * block) : 1, calls = 0;
	double begun, seconds;
	int go;

	if (!w->touched)
		memset(w->data, 0, w->bytes); /* by the thread that reads it */
	w->touched = true;
	w->level->loop[w->kind](w->data, steps);
	while (!(go = __atomic_load_n(w->go, __ATOMIC_ACQUIRE)))
		sched_yield();
	if (go < 0)
		return NULL;
	begun = now();
	do {
		for (int64_t i = 0; i < again; i++)
			w->level->loop[w->kind](w->data, steps);
		calls += again;
		seconds = now() - begun;
	} while (seconds < w->seconds);
	w->rate = (double)(calls * steps * worth) / seconds * 1e-9;
	return NULL;
}

static void *
pages(size_t bytes)
{
	void *data = aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);

	if (data) /* what page tables cost is no limit of memory */
		madvise(data, bytes, MADV_HUGEPAGE);
	return data;
}

struct lm_gauge {
	int threads;
	worker worker[];
};

lm_gauge *
lm_open(const char *name, lm_kind kind, size_t bytes, int threads)
{
	const level *l = levels;
	lm_gauge *g = calloc(1, sizeof *g + (size_t)threads * sizeof *g->worker);

	while (l->name && strcmp(l->name, name))
		l++;
	if (!g || !l->name) {
		free(g);
		return NULL;
	}
	size_t least = (size_t)CHAINS * (size_t)l->bytes;
	size_t each = kind == LM_READ ? bytes / (size_t)threads : least;
	for (; g->threads < threads; g->threads++) {
		worker *w = &g->worker[g->threads];
		*w = (worker){.level = l, .kind = kind, .bytes = each < least ? least : each};
		w->data = pages(w->bytes);
		if (!w->data) {
			lm_close(g);
			return NULL;
		}
	}
	return g;
}

void
lm_close(lm_gauge *g)
{
	for (int i = 0; g && i < g->threads; i++)
		free(g->worker[i].data);
	free(g);
}

/* All begin together, or none when there are not enough threads. */
double
lm_rate(lm_gauge *g, double seconds)
{
	double rate = 0;
	int go = 0, started = 1;

	if (!g)
		return 0;
	for (int i = 0; i < g->threads; i++) {
		g->worker[i].go = &go;
		g->worker[i].seconds = seconds;
	}
	while (started < g->threads &&
	       !pthread_create(&g->worker[started].thread, NULL, work, &g->worker[started]))
		started++;
	bool all = started == g->threads;
	__atomic_store_n(&go, all ? 1 : -1, __ATOMIC_RELEASE);
	work(&g->worker[0]);
	for (int i = 0; i < started; i++) {
		if (i)
			pthread_join(g->worker[i].thread, NULL);
		rate += all ? g->worker[i].rate : 0;
	}
	return rate;
}

double
lm_best(const char *name, lm_kind kind, size_t bytes, int threads, double seconds)
{
	lm_gauge *g = lm_open(name, kind, bytes, threads);
	double best = 0;

	for (int i = 0; i < WINDOWS; i++) {
		double rate = lm_rate(g, seconds / WINDOWS);
		best = rate > best ? rate : best;
	}
	lm_close(g);
	return best;
}
