/* test_pipeline.c -- which passes run, in which order, and what the runner reports. */
#include "passes/pipeline.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static ml_context cx;
static ml_arena arena;

static ml_status
nothing(ml_pass_ctx *px, ml_module *m)
{
	(void)m;
	px->changes = 0;
	return ML_OK;
}

/* Leaves the module broken. */
static ml_status
breaks(ml_pass_ctx *px, ml_module *m)
{
	px->changes = 1;
	m->main->first->out[0].type.rank = 1;
	m->main->first->out[0].type.dim[0] = ml_dim_int(m->dims, 77);
	return ML_OK;
}

static const ml_pass own = {.name = "own", .run = nothing};
static const ml_pass broken = {.name = "broken", .run = breaks};

static const char text[] = "module \"m\" {\n"
			   "  in %x \"x\" : f32[2]\n"
			   "  %0 = const {1} : f32[]\n"
			   "  %a = mul %x, %0 : f32[2] @\"a\":Mul-13\n"
			   "  %b = exp %a : f32[2]\n"
			   "  out \"b\" = %b\n"
			   "}\n";

static ml_module *
parse(void)
{
	ml_module *m;

	assert_int_equal(ml_parse(&cx, text, sizeof text - 1, NULL, NULL, &m), ML_OK);
	return m;
}

static ml_pipeline
pipeline(const ml_pipeline_options *o)
{
	ml_pipeline p;
	const ml_pass *plugins[] = {&own, &broken};

	cx.diags.count = 0;
	assert_int_equal(ml_pipeline_init(&p, &cx, &arena, o, plugins, 2), ML_OK);
	return p;
}

static int
position(const ml_pipeline *p, const char *name)
{
	for (int i = 0; i < p->stages.count; i++)
		if (!strcmp(p->stages.at[i].pass->name, name))
			return i;
	return -1;
}

static void
test_levels(void **state)
{
	ml_pipeline p[4];

	(void)state;
	for (int level = 0; level < 4; level++)
		p[level] = pipeline(&(ml_pipeline_options){.opt_level = level});
	assert_int_equal(p[0].stages.count, 0);
	assert_true(position(&p[1], "fold_constants") == 0);
	assert_true(position(&p[1], "fuse_norm") < 0);
	assert_true(position(&p[2], "fuse_norm") > 0);
	assert_true(position(&p[3], "quantize_linear") < 0);
	for (int i = 0; i < p[1].stages.count; i++)
		assert_int_equal(p[1].stages.at[i].pass->effect, ML_EXACT);
	assert_true(position(&p[2], "plan_layout") < 0);
	assert_true(position(&p[3], "plan_layout") > 0);
}

static void
check_refused(const ml_pipeline_options *o, const char *text)
{
	ml_pipeline p;

	cx.diags.count = 0;
	assert_int_equal(ml_pipeline_init(&p, &cx, &arena, o, NULL, 0), ML_ERR_ARG);
	assert_string_equal(cx.diags.at[0].text, text);
}

/* Whole names, and those of plugins only where these are loaded. */
static void
test_unknown_names(void **state)
{
	(void)state;
	check_refused(&(ml_pipeline_options){.skip = "drop_dead,simplify"},
		      "skip-pass: there is no pass 'simplify'");
	check_refused(&(ml_pipeline_options){.stop_after = "own"},
		      "stop-after: there is no pass 'own'");
	check_refused(&(ml_pipeline_options){.print_after = "drop_dead,all"},
		      "print-after: there is no pass 'all'");
	cx.diags.count = 0;
	pipeline(&(ml_pipeline_options){.skip = "own,drop_dead", .print_after = "all"});
}

/* Layers must be found before they can be quantized, even at -O0. */
static void
test_int8_at_every_level(void **state)
{
	(void)state;
	for (int level = 0; level < 4; level++) {
		ml_pipeline p = pipeline(
			&(ml_pipeline_options){.opt_level = level, .precision = ML_INT8_DYNAMIC});
		assert_true(position(&p, "fuse_linear") >= 0);
		assert_true(position(&p, "quantize_linear") > position(&p, "fuse_linear"));
		assert_true(position(&p, "quantize_embedding") > 0);
	}
}

static void
test_listed(void **state)
{
	ml_pipeline p = pipeline(&(ml_pipeline_options){.passes = "own,drop_dead,own"});

	(void)state;
	assert_int_equal(p.stages.count, 3);
	assert_ptr_equal(p.stages.at[2].pass, &own);
	assert_int_equal(pipeline(&(ml_pipeline_options){.passes = ""}).stages.count, 0);
	assert_int_equal(ml_pipeline_init(&p, &cx, &arena,
					  &(ml_pipeline_options){.passes = "drop_dead,drop"}, NULL,
					  0),
			 ML_ERR_ARG);
	assert_string_equal(cx.diags.at[0].text, "passes: there is no pass 'drop'");
}

static void
test_add_after(void **state)
{
	ml_pipeline p = pipeline(&(ml_pipeline_options){.opt_level = 3});
	int count = p.stages.count;

	(void)state;
	assert_int_equal(ml_pipeline_add_after(&p, &cx, "fuse_linear", &own), ML_OK);
	assert_int_equal(p.stages.count, count + 1);
	assert_int_equal(position(&p, "own"), position(&p, "fuse_linear") + 1);
	assert_int_equal(position(&p, "fuse_scale"), position(&p, "fuse_linear") + 2);
	assert_int_equal(ml_pipeline_add_after(&p, &cx, "drop_dead", &own), ML_OK);
	assert_ptr_equal(p.stages.at[count + 1].pass, &own);
	assert_int_equal(ml_pipeline_add_after(&p, &cx, "fuse", &own), ML_ERR_ARG);
}

/* ---- running ---- */

typedef struct shown {
	int count;
	char titles[256], text[4096];
} shown;

static void
show(void *user, const char *title, const char *body)
{
	shown *s = user;

	s->count++;
	strcat(strcat(s->titles, title), ";");
	if (strlen(body) < sizeof s->text)
		strcpy(s->text, body);
}

static ml_status
run(ml_pipeline_options o, shown *s, bool *multiplies)
{
	ml_module *m = parse();
	ml_pipeline p = pipeline(&o);

	*s = (shown){0};
	o.show = show;
	o.show_user = s;
	ml_status status = ml_pipeline_run(&p, m, &o);
	*multiplies = false;
	for (const ml_node *n = m->main->first; n; n = n->next)
		*multiplies |= n->op == ML_OP_mul;
	ml_module_free(m);
	return status;
}

static void
test_skip_stop_and_fuel(void **state)
{
	ml_pipeline_options o = {.passes = "drop_dead,simplify_algebra,own", .fuel = -1};
	bool multiplies;
	shown s;

	(void)state;
	assert_int_equal(run(o, &s, &multiplies), ML_OK);
	assert_false(multiplies);
	assert_int_equal(s.count, 0);
	o.skip = "own,simplify_algebra";
	assert_int_equal(run(o, &s, &multiplies), ML_OK);
	assert_true(multiplies);
	o.skip = NULL;
	o.stop_after = "drop_dead";
	assert_int_equal(run(o, &s, &multiplies), ML_OK);
	assert_true(multiplies);
	o.stop_after = NULL;
	o.fuel = 0;
	assert_int_equal(run(o, &s, &multiplies), ML_OK);
	assert_true(multiplies);
}

/* Only passes that changed something are shown. */
static void
test_shows_what_changed(void **state)
{
	ml_pipeline_options o = {
		.passes = "drop_dead,simplify_algebra,own", .print_after = "all", .fuel = -1};
	bool multiplies;
	shown s;

	(void)state;
	assert_int_equal(run(o, &s, &multiplies), ML_OK);
	assert_string_equal(s.titles, "simplify_algebra;");
	assert_non_null(strstr(s.text, "exp %0"));
	o.print_after = "own,drop_dead";
	assert_int_equal(run(o, &s, &multiplies), ML_OK);
	assert_int_equal(s.count, 0);
	o.print_after = NULL;
	o.time_passes = o.rule_stats = true;
	assert_int_equal(run(o, &s, &multiplies), ML_OK);
	assert_string_equal(s.titles, "passes;");
	assert_non_null(strstr(s.text, "1 changes  simplify_algebra\n"));
	assert_non_null(strstr(s.text, "1  simplify_algebra/mul_one\n"));
	assert_non_null(strstr(s.text, "0 changes  own\n"));
}

/* The verifier names the pass that broke the module. */
static void
test_verifies_each(void **state)
{
	ml_pipeline_options o = {.passes = "own,broken,drop_dead", .fuel = -1};
	bool multiplies;
	shown s;

	(void)state;
	o.verify_each = true;
	assert_int_equal(run(o, &s, &multiplies), ML_ERR_PASS);
	assert_int_equal(cx.diags.count, 1);
	assert_string_equal(cx.diags.at[0].stage, "broken");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_int8_at_every_level),
		cmocka_unit_test(test_listed),
		cmocka_unit_test(test_unknown_names),
		cmocka_unit_test(test_add_after),
		cmocka_unit_test(test_skip_stop_and_fuel),
		cmocka_unit_test(test_shows_what_changed),
		cmocka_unit_test(test_verifies_each),
	};

	cx.memory = ml_memory_libc();
	ml_arena_init(&cx.arena, &cx.memory);
	ml_arena_init(&arena, &cx.memory);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
