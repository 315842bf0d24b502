/* harness_kernel.c -- the means of harness_kernel.h. */
#include "harness_kernel.h"
#include "jitted.h"
#include "../../codegen/contract.h"
#include "../../codegen/family.h"
#include "../../codegen/linear_u4.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_BUFFERS = 24, MAX_SIZES = 16, GUARD_FILL = 0x5a };

typedef struct guarded {
	char *map;
	size_t map_bytes;
	char *at;
	size_t bytes;
} guarded;

/* What a kernel is to do at one size. */
typedef struct run {
	const kernel_case *c;
	const int64_t *dim;
	ml_context *cx;
	ml_kernel *k;
	ml_arena arena;
	int nin, nout;
	ml_tensor in[MAX_BUFFERS], expected[MAX_BUFFERS];
	ml_status evaluated;
	ml_grid grid;
	int64_t tiles, scratch_bytes;
	char *first[MAX_BUFFERS]; /* results of the first level */
} run;

/* The bytes end (or begin) where the process may not touch memory. */
static guarded
guard(size_t bytes, bool at_end)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), inner = (bytes + page - 1) / page * page;
	guarded g = {.bytes = bytes, .map_bytes = inner + 2 * page};

	g.map = mmap(NULL, g.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(g.map != MAP_FAILED);
	if (inner)
		assert_int_equal(mprotect(g.map + page, inner, PROT_READ | PROT_WRITE), 0);
	g.at = g.map + page + (at_end ? inner - bytes : 0);
	memset(g.map + page, GUARD_FILL, inner);
	return g;
}

static void
unguard(guarded *g)
{
	munmap(g->map, g->map_bytes);
}

/* ---- inputs ---- */

static uint64_t
random_bits(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static double
random_float(bool specials, uint64_t *state)
{
	static const double special[] = {NAN,  INFINITY, -INFINITY, 0.0, -0.0,
					 1e30, -1e-30,   0.5,       -1.5};
	uint64_t bits = random_bits(state);

	if (specials && bits % 3 == 0)
		return special[bits / 3 % (sizeof special / sizeof *special)];
	return (double)(int64_t)(bits >> 11) / (double)(1ll << 53) * 4 - 2;
}

static void
fill(const run *r, ml_tensor *t, uint64_t *state)
{
	int64_t count = (int64_t)t->bytes / ml_dtype_bytes(t->dtype);
	const kernel_case *c = r->c;
	bool specials = c->specials && c->sizes && r->dim != c->sizes[0];

	for (int64_t i = 0; i < count; i++) {
		uint64_t bits = random_bits(state);
		if (ml_is_float(t->dtype))
			ml_write_f64(t->dtype, t->data, i, random_float(specials, state));
		else if (t->dtype == ML_bool)
			((uint8_t *)t->data)[i] = bits & 1;
		else if (c->low || c->high)
			ml_write_s64(t->dtype, t->data, i,
				     c->low + (int64_t)(bits % (uint64_t)(c->high - c->low + 1)));
		else
			ml_write_s64(t->dtype, t->data, i,
				     bits % 7 ? (int64_t)random_bits(state)
					      : (int64_t)(bits % 5) - 2);
	}
}

static ml_tensor
make_tensor(run *r, const ml_type *type)
{
	ml_tensor t = {.dtype = type->dtype, .rank = type->rank};

	t.bytes = (size_t)ml_dtype_bytes(t.dtype);
	for (int i = 0; i < t.rank; i++) {
		assert_true(ml_dim_eval(type->dim[i], r->dim, &t.dim[i]));
		t.bytes *= (size_t)t.dim[i];
	}
	t.data = ml_alloc(&r->arena, t.bytes);
	return t;
}

static void
print_diags(const ml_context *cx)
{
	ml_text t;

	for (int i = 0; i < cx->diags.count; i++) {
		ml_text_init(&t, (ml_arena *)&cx->arena);
		ml_diag_print(&t, cx, &cx->diags.at[i]);
		print_error("%s\n", t.at);
	}
}

static void
must(const ml_context *cx, ml_status s)
{
	if (s)
		print_diags(cx);
	assert_int_equal(s, ML_OK);
}

static void
prepare(run *r)
{
	const ml_block *main;
	uint64_t state = 1;
	ml_eval_options options = {0};

	main = r->k->m->main;
	r->nin = main->nargs;
	r->nout = main->last->nin;
	assert_true(r->nin + r->nout <= MAX_BUFFERS);
	for (int i = 0; i < r->nin; i++) {
		r->in[i] = make_tensor(r, &main->arg[i]->type);
		fill(r, &r->in[i], &state);
	}
	r->evaluated = ml_evaluate(r->k->m, r->in, r->expected, &r->arena, &options);
	if (r->c->fault == ML_OK)
		must(r->cx, r->evaluated);
	else
		assert_int_equal(r->evaluated, r->c->fault);
	must(r->cx, ml_kernel_grid(r->k, &r->grid));
	assert_true(ml_dim_eval(r->grid.tiles, r->dim, &r->tiles));
	assert_true(ml_dim_eval(r->grid.scratch_bytes, r->dim, &r->scratch_bytes));
}

/* ---- comparison ---- */

static void
compare(const run *r, int result, const char *got, const char *level)
{
	const ml_tensor *want = &r->expected[result];
	int64_t count = (int64_t)want->bytes / ml_dtype_bytes(want->dtype);
	double scale = 1;

	for (int64_t i = 0; ml_is_float(want->dtype) && i < count; i++) {
		double v = fabs(ml_read_f64(want->dtype, want->data, i));
		scale = isfinite(v) && v > scale ? v : scale;
	}
	for (int64_t i = 0; i < count; i++) {
		bool equal;
		if (ml_is_float(want->dtype)) {
			double a = ml_read_f64(want->dtype, want->data, i);
			double b = ml_read_f64(want->dtype, got, i);
			equal = a == b || (isnan(a) && isnan(b)) ||
				fabs(a - b) <= r->c->tolerance * scale;
			if (!equal)
				print_error("%s: result %d[%lld]: want %.9g, got %.9g\n", level,
					    result, (long long)i, a, b);
		} else {
			int64_t a = ml_read_s64(want->dtype, want->data, i);
			int64_t b = ml_read_s64(want->dtype, got, i);
			/* Rounding a float that differs in its last bit may give a neighbour. */
			equal = a == b || (r->c->tolerance > 0 && llabs(a - b) <= 1);
			if (!equal)
				print_error("%s: result %d[%lld]: want %lld, got %lld\n", level,
					    result, (long long)i, (long long)a, (long long)b);
		}
		if (!equal) {
			print_error("%s\n", r->c->text);
			fail();
		}
	}
}

/* ---- running ---- */

/* A right operand: [batch, k, n], or one of [k.., n]. */
static void
panel_sizes(const ml_tensor *b, int64_t size[3])
{
	size[0] = b->rank == 3 ? b->dim[0] : 1;
	size[1] = 1;
	size[2] = b->dim[b->rank - 1];
	for (int i = b->rank == 3; i < b->rank - 1; i++)
		size[1] *= b->dim[i];
}

static size_t
panel_bytes(const run *r, ml_contract_form form)
{
	int64_t size[3];

	panel_sizes(&r->in[1], size);
	return (size_t)(size[0] * ml_pack_bytes(form, size[1], size[2]));
}

/* Input 1 as panels. */
static void
pack_input(const run *r, char *to)
{
	const ml_tensor *b = &r->in[1];
	int64_t size[3];

	panel_sizes(b, size);
	int64_t k = size[1], n = size[2];
	ml_contract_form form = ml_form_of(b->dtype);
	int64_t bytes = ml_pack_bytes(form, k, n);

	for (int64_t i = 0; i < size[0]; i++)
		if (form == ML_CONTRACT_F32)
			ml_pack_f32((float *)(void *)(to + i * bytes), (float *)b->data + i * k * n,
				    k, n, n, 1);
		else if (form == ML_CONTRACT_BF16)
			ml_pack_bf16((uint16_t *)(void *)(to + i * bytes),
				     (uint16_t *)b->data + i * k * n, k, n, n, 1);
		else {
			ml_pack_s8((int8_t *)to + i * bytes, (int8_t *)b->data + i * k * n, k, n, n,
				   1);
			ml_pack_pairs((int8_t *)to + i * bytes, k, n);
		}
}

/* Inputs of a layer on 4-bit weights from 1 on. */
static size_t
u4_bytes(const ml_tensor *t, int i)
{
	int64_t element = ml_dtype_bytes(t->dtype);

	return (size_t)(i == 1 ? ml_u4_nibble_bytes(t->dim[0], t->dim[1])
			       : ml_u4_panel_bytes(t->dim[0], t->dim[1], element));
}

static bool
is_u4_panel(const run *r, int i)
{
	return r->k->family == ML_FAMILY_U4 && i > 0 && r->in[i].rank == 2;
}

static void
pack_u4(const ml_tensor *t, int i, char *to)
{
	if (i == 1)
		ml_u4_pack_nibbles((uint8_t *)to, t->data, t->dim[0], t->dim[1]);
	else
		ml_u4_pack(to, t->data, t->dim[0], t->dim[1], ml_dtype_bytes(t->dtype));
}

static size_t
input_bytes(const run *r, int i)
{
	if (is_u4_panel(r, i))
		return u4_bytes(&r->in[i], i);
	if (!r->c->packed || i != 1)
		return r->in[i].bytes;
	return panel_bytes(r, ml_form_of(r->in[1].dtype));
}

static size_t
result_bytes(const run *r, int i)
{
	if (r->k->family != ML_FAMILY_PACK) {
		const ml_type *type = &ml_in(r->k->m->main->last, i)->type;
		size_t bytes = (size_t)ml_dtype_bytes(type->dtype);
		for (int d = 0; d < type->rank; d++) {
			int64_t size = 0;
			assert_true(ml_dim_eval(type->dim[d], r->dim, &size));
			bytes *= (size_t)size;
		}
		return bytes;
	}
	const ml_tensor *t = &r->expected[i];
	return (size_t)(t->dim[0] * ml_pack_bytes(ml_form_of(t->dtype), t->dim[1], t->dim[2]));
}

static void
run_tiles(const run *r, mlrt_kernel *kernel, const mlrt_task *task, uint8_t *scratch, int step)
{
	for (int64_t t = 0; t < r->tiles; t += step) {
		memset(scratch, 0x77, (size_t)r->scratch_bytes);
		kernel(task, t, t + step < r->tiles ? t + step : r->tiles, scratch);
	}
}

/* The panels that packing the expected matrix on the host gives. */
static void
expect_panels(run *r)
{
	ml_tensor saved = r->in[1], *t = &r->expected[0];
	char *panels = ml_alloc(&r->arena, result_bytes(r, 0));

	r->in[1] = *t;
	pack_input(r, panels);
	r->in[1] = saved;
	t->bytes = result_bytes(r, 0);
	t->data = panels;
	r->first[0] = panels;
}

/* The panels alone: of the table behind them a kernel writes what its level needs, and it does not
 * look for pairs as the host does. */
static void
compare_panels(const run *r, int i, const char *got)
{
	const ml_tensor *t = &r->expected[i];
	ml_contract_form form = ml_form_of(t->dtype);
	int64_t bytes = ml_pack_bytes(form, t->dim[1], t->dim[2]);
	int64_t panels = (t->dim[2] + ML_PANEL - 1) / ML_PANEL;
	int64_t alike = panels * ML_PANEL * ((t->dim[1] + 3) / 4 * 4);

	for (int64_t b = 0; b < t->dim[0]; b++)
		assert_memory_equal(got + b * bytes, (const char *)r->first[i] + b * bytes,
				    (size_t)(form == ML_CONTRACT_U8S8 ? alike : bytes));
}

static void
place_buffers(const run *r, bool at_end, guarded *g, void **buffer)
{
	for (int i = 0; i < r->nin + r->nout; i++) {
		size_t bytes = i < r->nin ? input_bytes(r, i) : result_bytes(r, i - r->nin);
		g[i] = guard(bytes, at_end);
		buffer[i] = g[i].at;
		if (i < r->nin && is_u4_panel(r, i))
			pack_u4(&r->in[i], i, g[i].at);
		else if (i == 1 && r->c->packed)
			pack_input(r, g[i].at);
		else if (i < r->nin)
			memcpy(g[i].at, r->in[i].data, bytes);
	}
}

static void
run_once(run *r, mlrt_kernel *kernel, const char *level, bool at_end, int step)
{
	guarded g[MAX_BUFFERS], scratch = guard((size_t)r->scratch_bytes, at_end);
	void *buffer[MAX_BUFFERS];
	mlrt_fault fault = {0};
	mlrt_task task = {.buffer = buffer, .dim = r->dim, .fault = &fault, .site = 40};

	place_buffers(r, at_end, g, buffer);
	run_tiles(r, kernel, &task, (uint8_t *)scratch.at, step);
	assert_int_equal(fault.status, r->c->fault);
	if (fault.status) /* the kernel's first check; u64 values may look negative */
		assert_true(fault.site == task.site && fault.value != 0 && fault.limit >= 0);
	for (int i = 0; i < r->nout && r->c->fault == ML_OK; i++) {
		const char *got = g[r->nin + i].at;
		if (r->k->family == ML_FAMILY_PACK) {
			compare_panels(r, i, got);
			continue;
		}
		compare(r, i, got, level);
		if (!r->first[i]) {
			r->first[i] = ml_alloc(&r->arena, g[r->nin + i].bytes);
			memcpy(r->first[i], got, g[r->nin + i].bytes);
		} else if (memcmp(r->first[i], got, g[r->nin + i].bytes)) {
			print_error("%s: other bits than the first level\n%s\n", level, r->c->text);
			fail();
		}
	}
	for (int i = 0; i < r->nin + r->nout; i++)
		unguard(&g[i]);
	unguard(&scratch);
}

/* The first half of the tiles gives the first half of the results, and touches no others. */
static void
run_half(const run *r, mlrt_kernel *kernel)
{
	guarded g[MAX_BUFFERS], scratch = guard((size_t)r->scratch_bytes, true);
	void *buffer[MAX_BUFFERS];
	mlrt_fault fault = {0};
	mlrt_task task = {.buffer = buffer, .dim = r->dim, .fault = &fault};

	place_buffers(r, true, g, buffer);
	kernel(&task, 0, r->tiles / 2, (uint8_t *)scratch.at);
	for (int i = 0; i < r->nout; i++) {
		const guarded *result = &g[r->nin + i];
		size_t half = result->bytes / 2;
		assert_memory_equal(result->at, r->first[i], half);
		for (size_t b = half; b < result->bytes; b++)
			assert_int_equal(result->at[b], GUARD_FILL);
	}
	for (int i = 0; i < r->nin + r->nout; i++)
		unguard(&g[i]);
	unguard(&scratch);
}

static ml_contract_form
tiles_of(const run *r)
{
	ml_dtype t = r->in[0].dtype;

	return t == ML_f32 ? ML_CONTRACT_F32 : t == ML_bf16 ? ML_CONTRACT_BF16 : ML_CONTRACT_U8S8;
}

static void
run_level(run *runs, int n, const ml_target *target)
{
	run *r = &runs[0];
	ml_kernel *k;
	jitted j;

	for (int i = 0; i < n && r->c->by_level; i++)
		memset(runs[i].first, 0, sizeof runs[i].first);

	must(r->cx, ml_kernel_parse(r->cx, r->c->text, strlen(r->c->text), &k));
	jitted_open(&j, target);
	must(r->cx, ml_kernel_emit(&j.e, k, "kernel"));
	if (k->family == ML_FAMILY_CONTRACT || k->family == ML_FAMILY_ATTENTION)
		ml_emit_contract_tiles(&j.e,
				       ml_attention_is_int8(k) ? ML_CONTRACT_U8S8 : tiles_of(r));
	if (getenv("MLOPT_TEST_IR"))
		LLVMDumpModule(j.e.module);
	jitted_compile(&j);
	mlrt_kernel *kernel = (mlrt_kernel *)(uintptr_t)jitted_find(&j, "kernel");
	for (int i = 0; i < n; i++) {
		run_once(&runs[i], kernel, target->name, true, 1 << 20);
		run_once(&runs[i], kernel, target->name, false, 1);
		run_once(&runs[i], kernel, target->name, false, 7);
		if (r->c->halves)
			run_half(&runs[i], kernel);
	}
	jitted_close(&j);
	ml_module_free(k->m);
}

void
check_kernel(const kernel_case *c)
{
	static const char *const levels[] = {"avx2",       "avxvnni", "avx512", "avx512vnni",
					     "avx512bf16", "amx",     "neon"};
	static const int64_t none[1][KERNEL_DIMS];
	ml_context cx = {.memory = ml_memory_libc()};
	run runs[MAX_SIZES];
	int n = c->sizes ? c->nsizes : 1, ran = 0;
	ml_kernel *k;

	ml_arena_init(&cx.arena, &cx.memory);
	assert_true(n <= MAX_SIZES);
	must(&cx, ml_kernel_parse(&cx, c->text, strlen(c->text), &k));
	for (int i = 0; i < n; i++) {
		runs[i] = (run){.c = c, .dim = c->sizes ? c->sizes[i] : none[0], .cx = &cx, .k = k};
		ml_arena_init(&runs[i].arena, &cx.memory);
		prepare(&runs[i]);
		if (k->family == ML_FAMILY_PACK)
			expect_panels(&runs[i]);
	}
	for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
		if (ml_target_runs_here(ml_target_named(levels[i]))) {
			run_level(runs, n, ml_target_named(levels[i]));
			ran++;
		}
	assert_true(ran > 0);
	for (int i = 0; i < n; i++)
		ml_arena_free(&runs[i].arena);
	ml_module_free(k->m);
	ml_arena_free(&cx.arena);
}
