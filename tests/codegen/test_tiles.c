/* test_tiles.c -- contractions of random shapes against plain loops, bit for bit, on every level
 * this CPU has; packing on the host and by emitted code. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "../../codegen/contract.h"
#include "jitted.h"
#include <math.h>
#include <string.h>

typedef void gemm_fn(const void *a, const void *b, void *c, int64_t lda, int64_t k, int64_t n,
		     const int64_t *range);
typedef void pack_fn(void *dst, const void *src, int64_t k, int64_t n, int64_t panel_begin,
		     int64_t panel_end);

static uint32_t
next_random(uint32_t *state)
{
	return *state = *state * 1664525u + 1013904223u;
}

static int64_t
random_below(uint32_t *state, int64_t n)
{
	return (int64_t)(next_random(state) >> 8) % n;
}

/* Memory whose last byte is followed by nothing readable, as the sanitizers see it. */
static void *
exact(size_t bytes)
{
	void *p = malloc(bytes ? bytes : 1);

	assert_non_null(p);
	return p;
}

/* --- code under test -------------------------------------------------------------------------- */

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

/* gemm(a, b, c, lda, k, n, {row_begin, row_end, panel_begin, panel_end}) */
static void
emit_gemm(ml_emit *e, const char *name, ml_contract_form form)
{
	LLVMTypeRef params[] = {e->ptr, e->ptr, e->ptr, e->i64, e->i64, e->i64, e->ptr};
	ml_v f = ml_emit_function(e, name, e->none, params, 7), range[4];
	output o = {LLVMGetParam(f, 2), LLVMGetParam(f, 5)};

	for (int i = 0; i < 4; i++)
		range[i] =
			ml_load(e, e->i64, ml_gep(e, e->i64, LLVMGetParam(f, 6), ml_i64(e, i)), 8);
	ml_contract c = {
		.form = form,
		.a = LLVMGetParam(f, 0),
		.lda = LLVMGetParam(f, 3),
		.b = LLVMGetParam(f, 1),
		.k = LLVMGetParam(f, 4),
		.row_begin = range[0],
		.row_end = range[1],
		.panel_begin = range[2],
		.panel_end = range[3],
		.columns = o.n,
		.store = store,
		.user = &o,
	};
	ml_emit_contract(e, &c);
	LLVMBuildRetVoid(e->b);
}

typedef struct source {
	ml_v src, k, n;
	LLVMTypeRef element;
	bool along_k; /* src is [n][k] */
} source;

static ml_v
load(void *user, ml_emit *e, ml_v k, ml_v column, ml_v count)
{
	source *s = user;
	ml_v at = s->along_k ? ml_add(e, ml_mul(e, column, s->k), k)
			     : ml_add(e, ml_mul(e, k, s->n), column);

	return ml_load_lanes(e, s->element, ml_gep(e, s->element, s->src, at), count, 1);
}

static LLVMTypeRef
element_of(ml_emit *e, ml_contract_form form)
{
	return form == ML_CONTRACT_F32 ? e->f32 : form == ML_CONTRACT_BF16 ? e->i16 : e->i8;
}

static void
emit_pack(ml_emit *e, const char *name, ml_contract_form form, bool along_k, int plain)
{
	LLVMTypeRef params[] = {e->ptr, e->ptr, e->i64, e->i64, e->i64, e->i64};
	ml_v f = ml_emit_function(e, name, e->none, params, 6);
	source s = {LLVMGetParam(f, 1), LLVMGetParam(f, 2), LLVMGetParam(f, 3), element_of(e, form),
		    along_k};
	ml_pack p = {
		.form = form,
		.dst = LLVMGetParam(f, 0),
		.k = s.k,
		.n = s.n,
		.panel_begin = LLVMGetParam(f, 4),
		.panel_end = LLVMGetParam(f, 5),
		.along_k = along_k,
		.plain = plain,
		.load = load,
		.user = &s,
	};

	ml_emit_pack(e, &p);
	LLVMBuildRetVoid(e->b);
}

static const char *const gemm_names[] = {"f32", "u8s8", "bf16"};
static const char *const pack_names[] = {"pack_f32", "pack_s8", "pack_bf16"};
static const char *const turned_names[] = {"pack_f32_k", "pack_s8_k", "pack_bf16_k"};
static const char *const plain_names[] = {NULL, "pack_singles", "pack_pairs"};

static void
open_all(jitted *j, const ml_target *t)
{
	jitted_open(j, t);
	for (int i = 0; i < ML_CONTRACT_FORMS; i++) {
		ml_contract_form form = (ml_contract_form)i;
		emit_gemm(&j->e, gemm_names[i], form);
		emit_pack(&j->e, pack_names[i], form, false, 0);
		emit_pack(&j->e, turned_names[i], form, true, 0);
		ml_emit_contract_tiles(&j->e, form);
	}
	for (int plain = 1; plain <= 2; plain++)
		emit_pack(&j->e, plain_names[plain], ML_CONTRACT_U8S8, false, plain);
	jitted_compile(j);
}

/* --- what it must equal ----------------------------------------------------------------------- */

static void
plain_f32(const float *a, const float *b, float *c, int64_t m, int64_t n, int64_t k, int64_t lda)
{
	for (int64_t i = 0; i < m; i++)
		for (int64_t j = 0; j < n; j++) {
			float acc = 0;
			for (int64_t x = 0; x < k; x++)
				acc = fmaf(a[i * lda + x], b[x * n + j], acc);
			c[i * n + j] = acc;
		}
}

static void
plain_u8s8(const uint8_t *a, const int8_t *b, int32_t *c, int64_t m, int64_t n, int64_t k,
	   int64_t lda)
{
	for (int64_t i = 0; i < m; i++)
		for (int64_t j = 0; j < n; j++) {
			int32_t acc = 0;
			for (int64_t x = 0; x < k; x++)
				acc += a[i * lda + x] * b[x * n + j];
			c[i * n + j] = acc;
		}
}

static float
from_bf16(uint16_t bits)
{
	uint32_t wide = (uint32_t)bits << 16;
	float f;

	memcpy(&f, &wide, sizeof f);
	return f;
}

/* Of numbers whose sums are exact in f32: equal to the bit in whatever order they are added. */
static void
plain_bf16(const uint16_t *a, const uint16_t *b, float *c, int64_t m, int64_t n, int64_t k,
	   int64_t lda)
{
	for (int64_t i = 0; i < m; i++)
		for (int64_t j = 0; j < n; j++) {
			double acc = 0;
			for (int64_t x = 0; x < k; x++)
				acc += (double)from_bf16(a[i * lda + x]) * from_bf16(b[x * n + j]);
			c[i * n + j] = (float)acc;
		}
}

/* -64..64 in quarters: two thousand products stay below 2^24 sixteenths. */
static uint16_t
random_bf16(uint32_t *seed)
{
	float f = (float)(random_below(seed, 129) - 64) / 4;
	uint32_t bits;

	memcpy(&bits, &f, sizeof bits);
	return (uint16_t)(bits >> 16);
}

/* Infinities beside ends of rows and panels: what is made whole with zeros must not meet them. */
static void
put_infinities(uint16_t *a, uint16_t *b, int64_t m, int64_t n, int64_t k, int64_t lda)
{
	enum { ONE = 0x3f80, INFINITE = 0x7f80 };

	for (int64_t i = 0; i < m; i++)
		a[i * lda] = a[i * lda + k - 1] = i == m / 2 ? INFINITE : ONE;
	for (int64_t j = 0; j < n; j++)
		b[j] = b[(k - 1) * n + j] = j == n / 2 ? INFINITE : ONE;
}

typedef struct problem {
	ml_contract_form form;
	int64_t m, n, k, lda;
	void *a, *b, *panels, *want, *got;
	size_t packed, result; /* bytes */
} problem;

/* Weights and activations of all kinds: anything; as layers have them, most of them small; the
 * extremes, at which sums in 16 bits would saturate; about the largest of which four products are
 * added as they are; the largest of which two are; tiny ones with so few large among them that some
 * parts of k are to be folded and others as they lie.  The largest of which four are promised to
 * be.
 */
enum { ANYTHING, SMALL, HIGH, LOW, EXTREMES, EDGE, TWO, RARE, KINDS, FOUR = KINDS };

static int8_t
random_weight(int kind, uint32_t *seed)
{
	int r = (int)(next_random(seed) >> 24), small = (int)random_below(seed, 100) - 50;

	switch (kind) {
	case SMALL: return (int8_t)(r < 10 ? 127 : r < 20 ? -127 : small);
	case HIGH: return 127;
	case LOW: return -128;
	case EXTREMES: return r & 1 ? 127 : -128;
	case TWO:
	case FOUR: return r < 200 ? 64 : -64;
	case RARE: return (int8_t)(random_below(seed, 20000) ? small / 4 : 127);
	case EDGE: return (int8_t)(r < 1 ? 33 : r < 128 ? 32 : r < 255 ? -32 : -33);
	default: return (int8_t)(r < 50 ? -128 : r - 128);
	}
}

static uint8_t
random_activation(int kind, uint32_t *seed)
{
	int r = (int)(next_random(seed) >> 24);

	switch (kind) {
	case HIGH:
	case LOW:
	case TWO:
	case EDGE: return r < 5 ? 0 : 255;
	case EXTREMES: return r & 1 ? 255 : 0;
	case FOUR: return r < 5 ? 0 : 127;
	default: return (uint8_t)(r < 80 ? 255 : r);
	}
}

static problem
make_problem(ml_contract_form form, int kind, int64_t m, int64_t n, int64_t k, uint32_t *seed)
{
	size_t size = (size_t)ml_form_get(form)->bytes;
	problem p = {.form = form, .m = m, .n = n, .k = k, .lda = k + random_below(seed, 4)};
	/* the last row ends with the buffer */
	size_t na = (size_t)(k ? (m - 1) * p.lda + k : 0), nb = (size_t)(k * n);

	p.a = exact(na * size);
	p.b = exact(nb * size);
	p.packed = (size_t)ml_pack_bytes(form, k, n);
	p.result = (size_t)(m * n) * 4;
	p.panels = exact(p.packed);
	p.want = exact(p.result);
	p.got = exact(p.result);
	for (size_t i = 0; i < na; i++)
		if (form == ML_CONTRACT_F32)
			((float *)p.a)[i] = (float)(int32_t)next_random(seed) * 0x1p-31f;
		else if (form == ML_CONTRACT_BF16)
			((uint16_t *)p.a)[i] = random_bf16(seed);
		else
			((uint8_t *)p.a)[i] = random_activation(kind, seed);
	for (size_t i = 0; i < nb; i++)
		if (form == ML_CONTRACT_F32)
			((float *)p.b)[i] = (float)(int32_t)next_random(seed) * 0x1p-31f;
		else if (form == ML_CONTRACT_BF16)
			((uint16_t *)p.b)[i] = random_bf16(seed);
		else
			((int8_t *)p.b)[i] = random_weight(kind, seed);
	if (form == ML_CONTRACT_F32) {
		ml_pack_f32(p.panels, p.b, k, n, n, 1);
		plain_f32(p.a, p.b, p.want, m, n, k, p.lda);
	} else if (form == ML_CONTRACT_BF16) {
		if (kind == EXTREMES && k)
			put_infinities(p.a, p.b, m, n, k, p.lda);
		ml_pack_bf16(p.panels, p.b, k, n, n, 1);
		plain_bf16(p.a, p.b, p.want, m, n, k, p.lda);
	} else {
		ml_pack_s8(p.panels, p.b, k, n, n, 1);
		ml_pack_pairs(p.panels, k, n);
		plain_u8s8(p.a, p.b, p.want, m, n, k, p.lda);
	}
	return p;
}

static void
free_problem(problem *p)
{
	free(p->a);
	free(p->b);
	free(p->panels);
	free(p->want);
	free(p->got);
}

/* In one call, and as four quarters of the output. */
static void
check_gemm(gemm_fn *gemm, problem *p, const void *b)
{
	int64_t panels = (p->n + ML_PANEL - 1) / ML_PANEL;
	int64_t rows[] = {0, p->m / 3, p->m}, columns[] = {0, panels / 2, panels};

	memset(p->got, 0x55, p->result);
	gemm(p->a, b, p->got, p->lda, p->k, p->n, (int64_t[]){0, p->m, 0, panels});
	assert_memory_equal(p->got, p->want, p->result);
	memset(p->got, 0x55, p->result);
	for (int i = 0; i < 4; i++)
		gemm(p->a, b, p->got, p->lda, p->k, p->n,
		     (int64_t[]){rows[i / 2], rows[i / 2 + 1], columns[i % 2], columns[i % 2 + 1]});
	assert_memory_equal(p->got, p->want, p->result);
}

/* What emitted code packs equals what the host packs, but for the table that follows u8s8 panels:
 * that only has to serve. */
static void
check_pack(pack_fn *along_n, pack_fn *along_k, gemm_fn *gemm, problem *p)
{
	size_t size = (size_t)ml_form_get(p->form)->bytes;
	int64_t group = ml_form_get(p->form)->group, k = (p->k + group - 1) / group * group;
	int64_t panels = (p->n + ML_PANEL - 1) / ML_PANEL;
	size_t bytes = (size_t)(panels * ML_PANEL * k) * size;
	char *got = exact(p->packed), *turned = exact((size_t)(p->k * p->n) * size);

	memset(got, 0x55, p->packed);
	along_n(got, p->b, p->k, p->n, panels / 2, panels);
	along_n(got, p->b, p->k, p->n, 0, panels / 2);
	assert_memory_equal(got, p->panels, bytes);
	check_gemm(gemm, p, got);
	for (int64_t i = 0; i < p->k; i++)
		for (int64_t j = 0; j < p->n; j++)
			memcpy(turned + (size_t)(j * p->k + i) * size,
			       (char *)p->b + (size_t)(i * p->n + j) * size, size);
	memset(got, 0x55, p->packed);
	along_k(got, turned, p->k, p->n, panels / 2, panels);
	along_k(got, turned, p->k, p->n, 0, panels / 2);
	assert_memory_equal(got, p->panels, bytes);
	check_gemm(gemm, p, got);
	free(got);
	free(turned);
}

static void
check_problem(jitted *j, problem *p)
{
	gemm_fn *gemm = (gemm_fn *)(uintptr_t)jitted_find(j, gemm_names[p->form]);

	check_gemm(gemm, p, p->panels);
	check_pack((pack_fn *)(uintptr_t)jitted_find(j, pack_names[p->form]),
		   (pack_fn *)(uintptr_t)jitted_find(j, turned_names[p->form]), gemm, p);
	free_problem(p);
}

/* Panels packed with the promise that `plain` groups may be added as they are. */
static void
check_plain(jitted *j, int plain, int64_t m, int64_t n, int64_t groups, uint32_t *seed)
{
	problem p = make_problem(ML_CONTRACT_U8S8, plain == 1 ? TWO : FOUR, m, n, 4 * groups, seed);
	pack_fn *pack = (pack_fn *)(uintptr_t)jitted_find(j, plain_names[plain]);

	memset(p.panels, 0x55, p.packed);
	pack(p.panels, p.b, p.k, p.n, 0, (n + ML_PANEL - 1) / ML_PANEL);
	check_gemm((gemm_fn *)(uintptr_t)jitted_find(j, gemm_names[p.form]), &p, p.panels);
	free_problem(&p);
}

static void
check_level(const ml_target *t)
{
	static const int64_t odd[][3] = {
		{1, 384, 65},   {2, 257, 33},    {10, 48, 1},   {19, 112, 130},  {64, 64, 64},
		{37, 129, 100}, {3, 16, 0},      {9, 17, 1024}, {130, 33, 1030}, {1, 20, 2061},
		{260, 24, 100}, {131, 40, 1056}, {1, 1000, 43}, {4, 130, 4200},  {3, 64, 90},
		{5, 80, 64},    {33, 96, 127},   {17, 16, 61},  {70, 100, 192}};
	enum { ODD = sizeof odd / sizeof *odd };
	uint32_t seed = 7;
	jitted j;

	open_all(&j, t);
	for (int i = 0; i < 600; i++) {
		int64_t most = i % 2 ? 40 : 80, m = random_below(&seed, most) + 1;
		int64_t n = random_below(&seed, most) + 1, k = random_below(&seed, most) + 1;
		problem p = make_problem((ml_contract_form)(i % ML_CONTRACT_FORMS),
					 i / ML_CONTRACT_FORMS % KINDS, m, n, k, &seed);
		check_problem(&j, &p);
	}
	for (int i = 0; i < ODD; i++)
		for (int kind = -2; kind < KINDS; kind++) {
			problem p = make_problem(kind == -2   ? ML_CONTRACT_BF16
						 : kind == -1 ? ML_CONTRACT_F32
							      : ML_CONTRACT_U8S8,
						 kind, odd[i][0], odd[i][1], odd[i][2], &seed);
			check_problem(&j, &p);
		}
	for (int i = 0; i < 60; i++) {
		int64_t m = random_below(&seed, 40) + 1, n = random_below(&seed, 60) + 1;
		int64_t groups = i < 2 ? ML_FOLD_CHUNK : random_below(&seed, 40) + 1;
		check_plain(&j, i % 2 + 1, m, n, groups, &seed);
	}
	jitted_close(&j);
}

static void
test_every_level_here(void **state)
{
	int levels = 0;

	(void)state;
	for (int i = 0; i < ML_LEVEL_COUNT; i++) {
		const ml_target *t = ml_target_level((ml_level)i);
		if (!ml_target_runs_here(t))
			continue;
		print_message("%s\n", t->name);
		check_level(t);
		levels++;
	}
	assert_true(levels > 0);
}

/* Levels that this CPU lacks must at least become code with the instructions they exist for. */
static void
check_assembly(const char *level, const char *instruction)
{
	LLVMMemoryBufferRef text = NULL;
	char *message = NULL;
	jitted j;

	jitted_open(&j, ml_target_named(level));
	for (int form = 0; form < ML_CONTRACT_FORMS; form++)
		ml_emit_contract_tiles(&j.e, (ml_contract_form)form);
	ml_emit_optimize(&j.e, j.machine);
	assert_int_equal(LLVMTargetMachineEmitToMemoryBuffer(j.machine, j.e.module,
							     LLVMAssemblyFile, &message, &text),
			 0);
	assert_non_null(strstr(LLVMGetBufferStart(text), instruction));
	LLVMDisposeMemoryBuffer(text);
	ml_emit_close(&j.e);
	LLVMDisposeTargetMachine(j.machine);
	ml_arena_free(&j.arena);
	ml_arena_free(&j.cx.arena);
}

static void
test_assembly_of_levels(void **state)
{
	(void)state;
	check_assembly("neon", "fmla");
	check_assembly("dotprod", "dot");
	check_assembly("i8mm", "usdot");
	check_assembly("avx2", "vpmaddubsw");
	check_assembly("avxvnni", "{vex}\tvpdpbusd");
	check_assembly("avx512", "vpmaddubsw\t%zmm");
	check_assembly("avx512vnni", "vpdpbusd");
	check_assembly("avx512bf16", "vdpbf16ps");
	check_assembly("amx", "tdpbusd");
	check_assembly("amx", "tdpbf16ps");
}

/* The table's first counts, of groups of four k that have weights v and w in turns: are two of
 * them, or is one, added as they are, or in 16 bits when folded, or neither? */
static void
check_pairs(int groups, int v, int w, int plain, int folded)
{
	int64_t k = 4 * (int64_t)groups, n = ML_PANEL;
	int8_t *b = exact((size_t)(k * n));
	int8_t *panels = exact((size_t)ml_pack_bytes(ML_CONTRACT_U8S8, k, n));
	const uint8_t *table = (const uint8_t *)panels + k * n + n * 4;

	for (int i = 0; i < groups; i++)
		memset(b + (ptrdiff_t)i * 4 * n, i % 2 ? w : v, (size_t)(4 * n));
	ml_pack_s8(panels, b, k, n, n, 1);
	ml_pack_pairs(panels, k, n);
	assert_int_equal(table[0], plain);
	assert_int_equal(table[1], folded);
	free(b);
	free(panels);
}

static void
test_pairs(void **state)
{
	(void)state;
	check_pairs(2, 0, 0, 1, ML_FOLD_PLAIN);
	check_pairs(2, 32, 32, 1, ML_FOLD_PLAIN);
	check_pairs(2, -32, -32, 1, ML_FOLD_PLAIN);
	check_pairs(2, 33, 33, 0, ML_FOLD_PLAIN);
	check_pairs(2, -33, -33, 0, ML_FOLD_PLAIN);
	check_pairs(2, 64, -64, 1, ML_FOLD_PLAIN);
	check_pairs(2, 64, 64, 0, ML_FOLD_PLAIN);
	check_pairs(2, -64, -64, 0, ML_FOLD_PLAIN);
	check_pairs(2, 65, 63, 0, 1);
	check_pairs(2, -65, -63, 0, 1);
	check_pairs(2, 65, 65, 0, 0);
	check_pairs(2, -65, -65, 0, 0);
	check_pairs(2, -128, -128, 0, 0);
	check_pairs(ML_FOLD_FEW + 2, 32, 32, ML_FOLD_FEW / 2 + 1, ML_FOLD_IN_ORDER);
	check_pairs(ML_FOLD_FEW + 3, 32, 32, ML_FOLD_FEW / 2 + 1, ML_FOLD_IN_ORDER);
	check_pairs(ML_FOLD_FEW + 2, 33, 33, 0, ML_FOLD_PLAIN);
}

/* Of lists of k / 4 groups each of which is listed once: how many groups are in plain pairs. */
static int
count_plain(const uint8_t *list, int lists, int groups)
{
	int plain = 0;

	for (int i = 0; i < lists; i++, list += groups + 2) {
		bool listed[ML_FOLD_CHUNK] = {0};
		for (int j = 0; j < groups; j++) {
			assert_in_range(list[2 + j], 0, groups - 1);
			assert_false(listed[list[2 + j]]);
			listed[list[2 + j]] = true;
		}
		plain += 2 * list[0];
	}
	return plain;
}

/* Weights as passes/quantize/channels.c leaves those that meet bytes, normal with a root mean
 * square of 32: most groups are in plain pairs, and of 8 columns more than of 16. */
static void
test_most_pairs_are_plain(void **state)
{
	enum { K = 384, GROUPS = K / 4, PANELS = 8, N = PANELS * ML_PANEL };
	static int8_t b[K * N];
	int8_t *panels = exact((size_t)ml_pack_bytes(ML_CONTRACT_U8S8, K, N));
	const uint8_t *whole = (const uint8_t *)panels + K * N + N * 4;
	const uint8_t *parts = whole + PANELS * (GROUPS + 2) + N * 4;
	uint32_t seed = 3;

	(void)state;
	for (int i = 0; i < K * N; i++) {
		int sum = 0; /* of 12 numbers of variance 1 / 12 */
		for (int j = 0; j < 12; j++)
			sum += (int)random_below(&seed, 2001) - 1000;
		b[i] = (int8_t)(sum * 32 / 2000);
	}
	ml_pack_s8(panels, b, K, N, N, 1);
	ml_pack_pairs(panels, K, N);
	assert_true(count_plain(whole, PANELS, GROUPS) > PANELS * GROUPS * .67);
	assert_true(count_plain(parts, 2 * PANELS, GROUPS) > 2 * PANELS * GROUPS * .85);
	free(panels);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_level_here),
		cmocka_unit_test(test_assembly_of_levels),
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_most_pairs_are_plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
