/* test_evaluate.c -- every .mlt file of this folder: the text form round-trips, the verifier is
 * content, and the reference evaluator gives what NumPy, ONNX's reference or a closed form gave. */
#include "harness_mlt.h"
#include <dirent.h>
#include <math.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* Relative to the element; far below what a wrong formula would give. */
static double
tolerance(ml_dtype t)
{
	switch (t) {
	case ML_f64: return 1e-12;
	case ML_f32: return 2e-6;
	case ML_f16: return 1e-3;
	default: return 1e-2; /* bf16 */
	}
}

static bool
same_number(ml_dtype t, const ml_tensor *a, const ml_tensor *b, int64_t i)
{
	if (!ml_is_float(t))
		return ml_read_s64(t, a->data, i) == ml_read_s64(t, b->data, i);
	double x = ml_read_f64(t, a->data, i), y = ml_read_f64(t, b->data, i);
	if (isnan(x) || isnan(y) || isinf(x) || isinf(y))
		return (isnan(x) && isnan(y)) || x == y;
	return fabs(x - y) <= tolerance(t) * fmax(1, fabs(y));
}

static void
expect_tensor(const char *where, const ml_tensor *got, const ml_tensor *want)
{
	if (got->dtype != want->dtype || got->rank != want->rank || got->bytes != want->bytes ||
	    memcmp(got->dim, want->dim, (size_t)got->rank * sizeof *got->dim))
		fail_msg("%s: %s of rank %d instead of %s of rank %d", where,
			 ml_dtype_name(got->dtype), got->rank, ml_dtype_name(want->dtype),
			 want->rank);
	for (int64_t i = 0; i < (int64_t)(want->bytes / (size_t)ml_dtype_bytes(want->dtype)); i++)
		if (!same_number(want->dtype, got, want, i))
			fail_msg("%s: element %lld is %.17g instead of %.17g", where, (long long)i,
				 ml_read_f64(got->dtype, got->data, i),
				 ml_read_f64(want->dtype, want->data, i));
}

static const char *
printed(ml_context *cx, const ml_module *m)
{
	ml_text t;

	ml_text_init(&t, &cx->arena);
	ml_print(&t, m);
	return t.at;
}

static void
expect_round_trip(ml_context *cx, const char *where, const ml_module *m)
{
	const char *once = printed(cx, m);
	ml_module *again;

	if (ml_parse(cx, once, strlen(once), NULL, NULL, &again))
		fail_msg("%s: does not parse again: %s\n%s", where, mlt_diags(cx), once);
	const char *twice = printed(cx, again);
	if (strcmp(once, twice))
		fail_msg("%s: printed as\n%s\nand then as\n%s", where, once, twice);
	ml_module_free(again);
}

static void
bind_inputs(ml_context *cx, const mlt_case *c, const ml_module *m, ml_tensor *inputs)
{
	const char *name;
	ml_tensor t;

	for (int n = 0; mlt_tensor(cx, c, "GIVEN", n, &name, &t); n++)
		for (int i = 0; i < m->main->nargs; i++)
			if (!strcmp(m->main->arg[i]->name, name))
				inputs[i] = t;
}

static int
expect_outputs(ml_context *cx, const char *where, const mlt_case *c, const ml_module *m,
	       const ml_tensor *outputs)
{
	const char *name;
	ml_tensor want;
	int n = 0;

	for (; mlt_tensor(cx, c, "THEN", n, &name, &want); n++)
		for (int i = 0; i < m->output_names.count; i++)
			if (!strcmp(m->output_names.at[i], name))
				expect_tensor(where, &outputs[i], &want);
	return n;
}

static void
run_case(const char *path, const mlt_case *c)
{
	ml_context *cx = mlt_context();
	ml_module *m;
	ml_tensor inputs[8] = {0}, outputs[8];
	const char *fails = mlt_line(cx, c, "FAILS");
	const char *where = ml_format(&cx->arena, "%s:%d", path, c->line);

	if (ml_parse(cx, c->text, c->length, NULL, NULL, &m) || ml_verify(m))
		fail_msg("%s: %s", where, mlt_diags(cx));
	assert_true(m->main->nargs <= 8 && m->output_names.count <= 8);
	expect_round_trip(cx, where, m);
	bind_inputs(cx, c, m, inputs);
	ml_status status = ml_evaluate(m, inputs, outputs, &cx->arena, NULL);
	if (strcmp(ml_status_tag(status), fails ? fails : "ok"))
		fail_msg("%s: %s: %s", where, ml_status_tag(status), mlt_diags(cx));
	if (!fails && !expect_outputs(cx, where, c, m, outputs))
		fail_msg("%s: nothing is expected", where);
	ml_module_free(m);
	mlt_context_free(cx);
}

/* The file is in the source folder; one test runs all its cases. */
static void
run_file(const char *name, int at_least)
{
	ml_context *cx = mlt_context();
	const char *path = ml_format(&cx->arena, "%s/tests/ops/%s.mlt", ML_SOURCE_DIR, name);
	mlt_file file = mlt_read(&cx->arena, path);

	if (file.count < at_least)
		fail_msg("%s has %d cases", path, file.count);
	for (int i = 0; i < file.count; i++)
		run_case(path, &file.at[i]);
	mlt_context_free(cx);
}

#include "harness_files.h"
