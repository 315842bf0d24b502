/* test_shared_models.c -- every model of $MLOPT_SHARED: cases against their stored outputs,
 * bad models, and the real ones through import and export. */
#include "frontend/export.h"
#include "frontend/onnx_model.h"
#include "harness_folder.h"
#include "harness_onnx.h"
#include "tools/data/load.h"
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 32, WANTED_CASES = 86 };

static const char *shared;

static int
setup_shared(void **state)
{
	shared = getenv("MLOPT_SHARED");
	return setup(state);
}

#define SHARED(function) cmocka_unit_test_setup_teardown(function, setup_shared, teardown)

static void
need_shared(void)
{
	if (shared)
		return;
	print_message("MLOPT_SHARED is not set: the shared models are not tested\n");
	skip();
}

static ml_tensor
tensor_of(const md_array *a)
{
	static const struct {
		const char *name;
		ml_dtype dtype;
	} known[] = {{"f64", ML_f64},  {"f32", ML_f32}, {"f16", ML_f16}, {"bf16", ML_bf16},
		     {"i64", ML_s64},  {"i32", ML_s32}, {"i16", ML_s16}, {"i8", ML_s8},
		     {"u64", ML_u64},  {"u32", ML_u32}, {"u16", ML_u16}, {"u8", ML_u8},
		     {"bool", ML_bool}};
	ml_tensor t = {.rank = a->rank, .data = a->data, .bytes = a->bytes};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcmp(md_dtype_name(a->dtype), known[i].name))
			t.dtype = known[i].dtype;
	for (int i = 0; i < a->rank; i++)
		t.dim[i] = a->dim[i];
	return t;
}

/* Names of the inputs without a default, in order. */
static int
input_names(const char *path, const char **name)
{
	ml_onnx_model *o;
	int n = 0;

	if (ml_onnx_open(&cx, path, &o) != ML_OK)
		return 0;
	const Onnx__GraphProto *g = o->proto->graph;
	for (size_t i = 0; i < g->n_input && n < MOST; i++) {
		bool initialized = false;
		for (size_t k = 0; k < g->n_initializer; k++)
			initialized |= !strcmp(g->initializer[k]->name, g->input[i]->name);
		if (!initialized)
			name[n++] = ml_strdup(&cx.arena, g->input[i]->name);
	}
	ml_onnx_close(o);
	return n;
}

/* The input a hint says to freeze, -1 for none. */
static int
wanted_freeze(const char *const *name, int n)
{
	for (int i = 0; i < cx.diags.count; i++)
		for (int k = 0; k < n; k++)
			if (cx.diags.at[i].hint &&
			    strstr(cx.diags.at[i].hint,
				   ml_format(&cx.arena, "--freeze %s=", name[k])))
				return k;
	return -1;
}

static bool
agrees(const ml_tensor *got, const ml_tensor *want)
{
	double lsb = ml_dtype_bytes(got->dtype) == 1 && got->dtype != ML_bool ? 1 : 0;
	int64_t n = 1;

	if (got->dtype != want->dtype || got->rank != want->rank)
		return false;
	for (int i = 0; i < got->rank; i++) {
		if (got->dim[i] != want->dim[i])
			return false;
		n *= got->dim[i];
	}
	for (int64_t i = 0; i < n; i++) {
		double a = ml_read_f64(got->dtype, got->data, i);
		double b = ml_read_f64(want->dtype, want->data, i);
		double near = (got->dtype == ML_f16 ? 1e-2 : 1e-3) * (fabs(b) + 0.1) + lsb;
		if (!(a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= near))
			return false;
	}
	return true;
}

/* One case: 1 when it agrees, 0 when it is refused, -1 when it is wrong. */
static int
run_case(const char *model, const char *io)
{
	const char *name[MOST];
	ml_import_freeze freeze[MOST];
	ml_import_options o = {.freezes = freeze};
	ml_tensor in[MOST], given[MOST], out[MOST];
	md_arrays arrays = {0};
	char why[256];
	ml_module *m = NULL;
	int n = input_names(model, name), result = 0;

	if (md_load(io, NULL, 0, &arrays, why, sizeof why))
		return -1;
	for (int i = 0; i < n; i++) {
		md_array *a = md_arrays_find(&arrays, ml_format(&cx.arena, "in%d", i));
		in[i] = a ? tensor_of(a) : (ml_tensor){0};
	}
	while (ml_import_onnx(&cx, model, &o, &m) != ML_OK) {
		int k = wanted_freeze(name, n);
		if (k < 0 || o.nfreezes == n)
			break;
		cx.diags.count = 0;
		freeze[o.nfreezes++] = (ml_import_freeze){name[k], in[k]};
	}
	if (m) {
		for (int i = 0; i < m->main->nargs; i++)
			for (int k = 0; k < n; k++)
				if (!strcmp(name[k], m->main->arg[i]->name))
					given[i] = in[k];
		result = ml_verify(m) == ML_OK && ml_evaluate(m, given, out, &cx.arena,
							      &(ml_eval_options){0}) == ML_OK
				 ? 1
				 : -1;
		for (int i = 0; i < m->output_names.count && result > 0; i++) {
			md_array *a = md_arrays_find(&arrays, ml_format(&cx.arena, "out%d", i));
			ml_tensor want = a ? tensor_of(a) : (ml_tensor){0};
			if (!agrees(&out[i], &want))
				result = -1;
		}
		ml_module_free(m);
	}
	md_arrays_clear(&arrays);
	return result;
}

/* Calls `fn` with each folder below $MLOPT_SHARED/<kind>. */
static void
each_folder(const char *kind, void fn(const char *path, const char *name))
{
	const char *top = ml_format(&cx.arena, "%s/%s", shared, kind);
	DIR *d = opendir(top);

	assert_non_null(d);
	for (struct dirent *e = readdir(d); e; e = readdir(d))
		if (e->d_name[0] != '.')
			fn(ml_format(&cx.arena, "%s/%s", top, e->d_name), e->d_name);
	closedir(d);
}

static int agreed, refused;

static void
check_case(const char *path, const char *name)
{
	cx.diags.count = 0;
	int result = run_case(ml_format(&cx.arena, "%s/model.onnx", path),
			      ml_format(&cx.arena, "%s/io.npz", path));
	if (result < 0)
		fail_msg("%s is wrong: %s", name, messages());
	agreed += result;
	refused += !result;
	if (!result && !cx.diags.count)
		fail_msg("%s is refused without a message", name);
}

static void
test_cases(void **state)
{
	(void)state;
	need_shared();
	agreed = refused = 0;
	each_folder("cases", check_case);
	print_message("%d cases agree, %d are refused\n", agreed, refused);
	assert_true(agreed >= WANTED_CASES);
}

/* Refused with a message for each fault and one for their sum, or imported; never a crash. */
static void
check_bad(const char *path, const char *name)
{
	ml_module *m;

	cx.diags.count = cx.errors = 0;
	ml_status status =
		ml_import_onnx(&cx, ml_format(&cx.arena, "%s/model.onnx", path), NULL, &m);
	if (status == ML_OK)
		ml_module_free(m);
	else if (cx.errors != 1 && (cx.errors < 3 || !strstr(messages(), ", see above")))
		fail_msg("%s: %d messages: %s", name, cx.errors, messages());
}

static void
test_bad_models(void **state)
{
	(void)state;
	need_shared();
	each_folder("bad", check_bad);
}

/* A model and what is written from it import to modules that print alike in their signature. */
static void
check_model(const char *path, const char *name)
{
	ml_module *m, *again = NULL;

	if (!strstr(name, ".onnx"))
		return;
	if (ml_import_onnx(&cx, path, NULL, &m) != ML_OK || ml_verify(m) != ML_OK)
		fail_msg("%s", messages());
	if (ml_export_onnx(&cx, m, in_folder("a.onnx")) != ML_OK ||
	    ml_import_onnx(&cx, in_folder("a.onnx"), NULL, &again) != ML_OK)
		fail_msg("%s", messages());
	assert_int_equal(m->main->nargs, again->main->nargs);
	assert_int_equal(m->output_names.count, again->output_names.count);
	for (int i = 0; i < m->main->nargs; i++) {
		ml_text a, b;
		ml_text_init(&a, &cx.arena);
		ml_text_init(&b, &cx.arena);
		ml_type_print(&a, &m->main->arg[i]->type);
		ml_type_print(&b, &again->main->arg[i]->type);
		assert_string_equal(a.at, b.at);
	}
	ml_module_free(m);
	ml_module_free(again);
}

static void
test_real_models(void **state)
{
	(void)state;
	need_shared();
	open_folder();
	each_folder("models", check_model);
	each_folder("models/minilm", check_model);
	remove_folder();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SHARED(test_cases),
		SHARED(test_bad_models),
		SHARED(test_real_models),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
