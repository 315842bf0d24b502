/* harness_model.c -- IR texts compiled into memory or into files, run, compared with the evaluator.
 */
#include "harness_model.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { MAX_TENSORS = 16 };

const char model_linear[] = "module \"linear & softmax\" {\n"
			    "  sym batch in 1..64\n"
			    "  sym n\n"
			    "  in %x \"x\" : f32[batch, n, 24]\n"
			    "  %w = const splat 0.125 : f32[24, 40]\n"
			    "  %b = const splat -0.5 : f32[40]\n"
			    "  %y = linear %x, %w, %b : f32[batch, n, 40]\n"
			    "  %p = softmax %y : f32[batch, n, 40]\n"
			    "  %s = reduce_sum %x {axes = [2]} : f32[batch, n, 1]\n"
			    "  out \"probability\" = %p\n"
			    "  out \"sum\" = %s\n"
			    "}\n";

const char model_nonzero[] = "module \"nonzero\" {\n"
			     "  sym n\n"
			     "  sym ?0 <= n\n"
			     "  in %x \"x\" : f32[n]\n"
			     "  %r = abs %x : f32[n]\n"
			     "  %y = nonzero %r : s64[1, ?0]\n"
			     "  out \"y\" = %y\n"
			     "}\n";

const char model_loop[] =
	"module \"loop\" {\n"
	"  sym n\n"
	"  in %t \"trips\" : s64[]\n"
	"  in %x \"x\" : f32[n, 24]\n"
	"  %true = const {true} : bool[]\n"
	"  %y = loop %t, %true, %x {carried = 1} (%i : s64[], %v : f32[n, 24]) {\n"
	"    %w = const splat 0.125 : f32[24, 24]\n"
	"    %d = dot %v, %w {lhs_contract = [1], rhs_contract = [0]} : f32[n, 24] "
	"@\"/a \\\"quoted\\\" node\":MatMul-13[0]\n"
	"    %go = const {true} : bool[]\n"
	"    yield %go, %d\n"
	"  } : f32[n, 24]\n"
	"  out \"y\" = %y\n"
	"}\n";

const char model_gather[] = "module \"gather\" {\n"
			    "  sym n\n"
			    "  in %i \"index\" : s64[n]\n"
			    "  in %t \"table\" : f32[5, 3]\n"
			    "  %y = gather %t, %i {axis = 0} : f32[n, 3]\n"
			    "  out \"y\" = %y\n"
			    "}\n";

static void
must(model *m, ml_status status)
{
	ml_text t;

	for (int i = 0; status && i < m->cx.diags.count; i++) {
		ml_text_init(&t, &m->cx.arena);
		ml_diag_print(&t, &m->cx, &m->cx.diags.at[i]);
		print_error("%s\n", t.at);
	}
	assert_int_equal(status, ML_OK);
}

void
model_open(model *m, const char *text)
{
	*m = (model){.cx.memory = ml_memory_libc()};
	ml_arena_init(&m->cx.arena, &m->cx.memory);
	ml_arena_init(&m->arena, &m->cx.memory);
	must(m, ml_parse(&m->cx, text, strlen(text), NULL, NULL, &m->m));
	must(m, ml_verify(m->m));
}

void
model_close(model *m)
{
	ml_model_free(m->model);
	ml_jit_free(m->jit);
	ml_module_free(m->m);
	ml_arena_free(&m->arena);
	ml_arena_free(&m->cx.arena);
}

ml_plan *
model_plan(model *m)
{
	ml_plan *plan = NULL;

	must(m, ml_plan_module(ml_module_clone(m->m), 2, &m->arena, &plan));
	return plan;
}

void
model_compile(model *m, const ml_target *target)
{
	ml_plan *plan = model_plan(m);

	must(m, ml_jit_new(&m->cx, plan,
			   &(ml_jit_options){.target = target, .making = {.workers = 2}}, &m->jit));
	must(m, mlrt_model_new(ml_jit_program(m->jit), NULL, NULL, NULL, &m->model, NULL));
	ml_module_free(plan->m);
}

int
model_levels(const ml_target **at)
{
	int n = 0;

	for (int i = 0; i < ML_LEVEL_COUNT; i++)
		if (ml_target_runs_here(ml_target_level((ml_level)i)))
			at[n++] = ml_target_level((ml_level)i);
	return n;
}

void
model_write(model *m, ml_aot_options o, const char *path)
{
	const ml_target *levels[ML_LEVEL_COUNT];
	ml_plan *plan = model_plan(m);

	if (!o.nlevels) {
		o.nlevels = model_levels(levels);
		o.levels = levels;
	}
	must(m, ml_aot_write(&m->cx, plan, &o, path));
	ml_module_free(plan->m);
}

void
model_load(model *m, const char *path)
{
	ml_message why = {""};

	if (ml_model_load(path, NULL, &m->model, &why))
		fail_msg("%s", why.text);
}

/* ---- comparison ---- */

static uint32_t
next_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

static ml_tensor
random_tensor(model *m, const ml_type *type, const int64_t *sizes, uint32_t *state)
{
	ml_tensor t = {.dtype = type->dtype, .rank = type->rank};
	int64_t count = 1;

	for (int k = 0; k < t.rank; k++) {
		assert_true(ml_dim_eval(type->dim[k], sizes, &t.dim[k]));
		count *= t.dim[k];
	}
	t.bytes = (size_t)(count * ml_dtype_bytes(t.dtype));
	t.data = ml_alloc(&m->arena, t.bytes);
	for (int64_t i = 0; i < count; i++)
		if (ml_is_float(t.dtype))
			ml_write_f64(t.dtype, t.data, i, next_random(state) / 8388608.0 - 1);
		else
			ml_write_s64(t.dtype, t.data, i, next_random(state) % 5);
	return t;
}

static void
compare(const ml_view *got, const ml_tensor *want)
{
	assert_int_equal(got->dtype, want->dtype);
	assert_int_equal(got->rank, want->rank);
	assert_memory_equal(got->dim, want->dim, (size_t)want->rank * sizeof *want->dim);
	assert_int_equal(got->bytes, want->bytes);
	for (int64_t i = 0; i < (int64_t)(want->bytes / (size_t)ml_dtype_bytes(want->dtype)); i++) {
		double a = ml_read_f64(got->dtype, got->data, i);
		double b = ml_read_f64(want->dtype, want->data, i);
		if (fabs(a - b) > 1e-5 * fmax(1, fabs(b)))
			fail_msg("element %lld is %.9g instead of %.9g", (long long)i, a, b);
	}
}

void
model_check(model *m, const int64_t *sizes)
{
	ml_tensor in[MAX_TENSORS], want[MAX_TENSORS];
	uint32_t state = 7;
	ml_session *s;
	ml_view got;

	assert_int_equal(ml_session_new(m->model, NULL, &s, NULL), ML_OK);
	for (int i = 0; i < m->m->main->nargs; i++) {
		in[i] = random_tensor(m, &m->m->main->arg[i]->type, sizes, &state);
		assert_int_equal(ml_session_set_input(s, i, in[i].data, in[i].dim, in[i].rank),
				 ML_OK);
	}
	must(m, ml_evaluate(m->m, in, want, &m->arena, NULL));
	if (ml_session_run(s))
		fail_msg("%s", ml_session_message(s));
	for (int i = 0; i < m->m->main->last->nin; i++) {
		assert_int_equal(ml_session_output(s, i, &got), ML_OK);
		compare(&got, &want[i]);
	}
	ml_session_free(s);
}
