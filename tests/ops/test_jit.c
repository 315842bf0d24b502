/* test_jit.c -- every .mlt file of this folder compiled into memory: the same results as expected
 * of the evaluator, the same statuses, with every node its own kernel and with kernels fused. */
#include "harness_mlt.h"
#include "codegen/jit.h"
#include "runtime/model.h"
#include <math.h>
#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

enum { MAX_TENSORS = 8 };

/* One case being compiled and run. */
typedef struct attempt {
	ml_context *cx;
	const mlt_case *c;
	const char *where;
	int opt_level;
	ml_module *m;
	ml_arena arena; /* of the plan */
	ml_jit *jit;
	ml_model *model;
	ml_session *session;
	ml_message why;
} attempt;

/* Relative to the largest element: compiled code rounds and sums in its own order. */
static double
tolerance(ml_dtype t)
{
	switch (t) {
	case ML_f64: return 1e-9;
	case ML_f32: return 1e-5;
	case ML_f16: return 2e-3;
	default: return 2e-2; /* bf16 */
	}
}

static double
largest(const ml_tensor *t, int64_t count)
{
	double largest = 1;

	for (int64_t i = 0; i < count; i++) {
		double x = fabs(ml_read_f64(t->dtype, t->data, i));
		largest = isfinite(x) && x > largest ? x : largest;
	}
	return largest;
}

static bool
same_number(ml_dtype t, const void *a, const void *b, int64_t i, double scale)
{
	if (!ml_is_float(t))
		return ml_read_s64(t, a, i) == ml_read_s64(t, b, i);
	double x = ml_read_f64(t, a, i), y = ml_read_f64(t, b, i);
	if (isnan(x) || isnan(y) || isinf(x) || isinf(y))
		return (isnan(x) && isnan(y)) || x == y;
	return fabs(x - y) <= tolerance(t) * scale;
}

/* Returns the number of differences that were reported. */
static int
compare(const attempt *a, const ml_view *got, const ml_tensor *want)
{
	int64_t count = (int64_t)(want->bytes / (size_t)ml_dtype_bytes(want->dtype));
	double scale = ml_is_float(want->dtype) ? largest(want, count) : 1;

	if (got->dtype != want->dtype || got->rank != want->rank || got->bytes != want->bytes ||
	    memcmp(got->dim, want->dim, (size_t)want->rank * sizeof *want->dim)) {
		print_error("%s -O%d: another type or shape\n", a->where, a->opt_level);
		return 1;
	}
	for (int64_t i = 0; i < count; i++)
		if (!same_number(want->dtype, got->data, want->data, i, scale)) {
			print_error("%s -O%d: element %lld is %.9g instead of %.9g\n", a->where,
				    a->opt_level, (long long)i,
				    ml_read_f64(got->dtype, got->data, i),
				    ml_read_f64(want->dtype, want->data, i));
			return 1;
		}
	return 0;
}

static ml_status
compile(attempt *a)
{
	ml_plan *plan;
	ml_jit_options o = {.making = {.workers = 1}};

	ML_STEP(ml_parse(a->cx, a->c->text, a->c->length, NULL, NULL, &a->m));
	ML_STEP(ml_plan_module(a->m, a->opt_level, &a->arena, &plan));
	ML_STEP(ml_target_host(a->cx, &o.target));
	ML_STEP(ml_jit_new(a->cx, plan, &o, &a->jit));
	ML_STEP(mlrt_model_new(ml_jit_program(a->jit), NULL, NULL, NULL, &a->model, &a->why));
	return ml_session_new(a->model, &(ml_session_options){.threads = 1}, &a->session, &a->why);
}

static ml_status
run(attempt *a)
{
	const char *name;
	ml_tensor t;

	for (int n = 0; mlt_tensor(a->cx, a->c, "GIVEN", n, &name, &t); n++) {
		int i = ml_model_find_input(a->model, name);
		if (i >= 0)
			ML_STEP(ml_session_set_input(a->session, i, t.data, t.dim, t.rank));
	}
	ml_status status = ml_session_run(a->session);
	if (status)
		a->why = *(const ml_message *)ml_session_message(a->session);
	return status;
}

static int
compare_outputs(attempt *a)
{
	const char *name;
	ml_tensor want;
	ml_view got;
	int wrong = 0;

	for (int n = 0; mlt_tensor(a->cx, a->c, "THEN", n, &name, &want); n++) {
		int i = ml_model_find_output(a->model, name);
		if (ml_session_output(a->session, i, &got)) {
			print_error("%s: no output '%s'\n", a->where, name);
			wrong++;
		} else {
			wrong += compare(a, &got, &want);
		}
	}
	return wrong;
}

static int
run_case(const char *path, const mlt_case *c, int opt_level)
{
	attempt a = {.cx = mlt_context(), .c = c, .opt_level = opt_level};
	/* Some cases the evaluator runs are refused here: # COMPILES unsupported */
	const char *refused = mlt_line(a.cx, c, "COMPILES"), *failed = mlt_line(a.cx, c, "FAILS");
	const char *fails = refused ? refused : failed;
	int wrong = 0;

	a.where = ml_format(&a.cx->arena, "%s:%d", path, c->line);
	ml_arena_init(&a.arena, &a.cx->memory);
	ml_status status = compile(&a);
	if (status == ML_OK)
		status = run(&a);
	if (strcmp(ml_status_tag(status), fails ? fails : "ok")) {
		print_error("%s -O%d: %s: %s %s\n", a.where, opt_level, ml_status_tag(status),
			    a.why.text, mlt_diags(a.cx));
		wrong = 1;
	} else if (status == ML_OK) {
		wrong = compare_outputs(&a);
	}
	ml_session_free(a.session);
	ml_model_free(a.model);
	ml_jit_free(a.jit);
	if (a.m)
		ml_module_free(a.m);
	ml_arena_free(&a.arena);
	mlt_context_free(a.cx);
	return wrong > 0;
}

/* All cases run before the test fails, so that one look shows what is wrong. */
static void
run_file(const char *name, int at_least)
{
	ml_context *cx = mlt_context();
	const char *path = ml_format(&cx->arena, "%s/tests/ops/%s.mlt", ML_SOURCE_DIR, name);
	mlt_file file = mlt_read(&cx->arena, path);
	int wrong = 0;

	if (file.count < at_least)
		fail_msg("%s has %d cases", path, file.count);
	for (int i = 0; i < file.count; i++)
		for (int level = 0; level <= 2; level += 2)
			wrong += run_case(path, &file.at[i], level);
	mlt_context_free(cx);
	if (wrong)
		fail_msg("%d of %d compilations of %s are wrong", wrong, 2 * file.count, name);
}

#include "harness_files.h"
