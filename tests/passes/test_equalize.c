/* test_equalize.c -- channels between layers: factors against the published formula, and what
 * static quantization loses with and without them.
 */
#include "harness_context.h"
#include "harness_exec.h"
#include "passes/pipeline.h"
#include "passes/prefer.h"
#include <math.h>
#include <string.h>

static ml_context cx;

enum { CHANNELS = 8, INPUTS = 3, TAPS = 9, RESULTS = 6 };

/* Weight 1 makes rows of very different size, weight 2 takes that back. */
static const char text[] =
	"module \"m\" {\n"
	"  in %x \"x\" : f32[2, 3, 8, 8]\n"
	"  %0 = const {0} : f32[]\n"
	"  %w = const #0000000000000001 : f32[8, 3, 3, 3]\n"
	"  %v = const #0000000000000002 : f32[6, 8, 3, 3]\n"
	"  %c = const #0000000000000003 : f32[8]\n"
	"  %1 = conv %x, %w, %c {stride = [1, 1], dilation = [1, 1], low = [1, 1], high = [1, 1]}"
	" : f32[2, 8, 8, 8]\n"
	"  %2 = max %1, %0 : f32[2, 8, 8, 8]\n"
	"  %3 = conv %2, %v {stride = [1, 1], dilation = [1, 1], low = [1, 1], high = [1, 1]}"
	" : f32[2, 6, 8, 8]\n"
	"  out \"3\" = %3\n"
	"}\n";

static double
size_of(int64_t channel)
{
	return pow(10, (double)(channel % 4) - 2); /* .01 .. 10 */
}

static double
badly_scaled(uint64_t reference, int64_t i, uint64_t *seed)
{
	double x = harness_random(seed);

	if (reference == 2)
		return x / size_of(i / TAPS % CHANNELS);
	return x * size_of(reference == 1 ? i / (INPUTS * TAPS) : i);
}

static ml_module *
parsed(void)
{
	ml_module *m;

	assert_int_equal(harness_parse(&cx, text, badly_scaled, &m), ML_OK);
	return m;
}

static void
apply(ml_module *m, const char *passes, ml_record *record, ml_arena *arena)
{
	harness_samples samples = {{0}};
	ml_exec exec = harness_exec(&cx);
	ml_data data = harness_data(&samples);
	ml_pipeline_options o = {.opt_level = 3,
				 .passes = passes,
				 .verify_each = true,
				 .fuel = -1,
				 .exec = &exec,
				 .data = &data,
				 .record = record,
				 .max_loss = 1};
	ml_pipeline p;

	ml_arena_init(&samples.arena, &cx.memory);
	assert_int_equal(ml_pipeline_init(&p, &cx, arena, &o, NULL, 0), ML_OK);
	assert_int_equal(ml_pipeline_run(&p, m, &o), ML_OK);
	ml_arena_free(&samples.arena);
}

/* Of rows of the first layer and inputs of the second. */
static void
ranges(const ml_module *m, double *r1, double *r2)
{
	const ml_node *layer[2];
	int n = 0;

	for (const ml_node *at = m->main->first; at; at = at->next)
		if (at->op == ML_OP_conv)
			layer[n++] = at;
	assert_int_equal(n, 2);
	memset(r1, 0, CHANNELS * sizeof *r1);
	memset(r2, 0, CHANNELS * sizeof *r2);
	for (int64_t i = 0; i < CHANNELS * INPUTS * TAPS; i++)
		r1[i / (INPUTS * TAPS)] =
			fmax(r1[i / (INPUTS * TAPS)], fabs(ml_const_f64(ml_in(layer[0], 1), i)));
	for (int64_t i = 0; i < RESULTS * CHANNELS * TAPS; i++)
		r2[i / TAPS % CHANNELS] =
			fmax(r2[i / TAPS % CHANNELS], fabs(ml_const_f64(ml_in(layer[1], 1), i)));
}

/* s = sqrt(r1 r2) / r2 makes r1 / s and r2 s the same: sqrt(r1 r2). */
static void
test_formula(void **state)
{
	double r1[CHANNELS], r2[CHANNELS], s1[CHANNELS], s2[CHANNELS];
	ml_arena arena;
	ml_module *m = parsed();

	(void)state;
	ml_arena_init(&arena, &cx.memory);
	ranges(m, r1, r2);
	apply(m, "equalize_layers", NULL, &arena);
	ranges(m, s1, s2);
	for (int i = 0; i < CHANNELS; i++) {
		double want = sqrt(r1[i] * r2[i]);
		assert_true(fabs(s1[i] / want - 1) < 1e-6);
		assert_true(fabs(s2[i] / want - 1) < 1e-6);
	}
	ml_module_free(m);
	ml_arena_free(&arena);
}

/* ---- what it is for ---- */

static const float *
evaluated(const ml_module *m, const ml_tensor *x, ml_arena *arena)
{
	ml_tensor *out = ML_NEW_ARRAY(arena, ml_tensor, 1);
	ml_eval_options o = {0};

	assert_int_equal(ml_evaluate(m, x, out, arena, &o), ML_OK);
	return out->data;
}

/* Squared, in parts of the results of m0. */
static double
error_after(const char *passes, ml_record *record, ml_arena *arena)
{
	uint64_t seed = 3;
	ml_module *m = parsed();
	ml_tensor x = harness_input(arena, m, m->main->arg[0], &seed);
	const float *want = evaluated(m, &x, arena);
	double lost = 0, all = 0;

	apply(m, passes, record, arena);
	const float *got = evaluated(m, &x, arena);
	for (int i = 0; i < 2 * RESULTS * 64; i++) {
		lost += pow((double)got[i] - (double)want[i], 2);
		all += pow((double)want[i], 2);
	}
	ml_module_free(m);
	return lost / all;
}

static void
test_error(void **state)
{
	ml_arena arena;

	(void)state;
	ml_arena_init(&arena, &cx.memory);
	assert_true(error_after("equalize_layers", NULL, &arena) < 1e-12);
	double without = error_after("quantize_static", NULL, &arena);
	double with = error_after("equalize_layers,quantize_static", NULL, &arena);
	print_message("static: %.3g, equalized %.3g\n", without, with);
	assert_true(with < .05 * without);
	ml_arena_free(&arena);
}

/* The whole model decides, and is told so; what a report says is repeated, whatever it is. */
static void
test_decision(void **state)
{
	static const char passes[] = "equalize_layers,quantize_static";
	ml_record record, again;
	ml_arena arena;

	(void)state;
	ml_arena_init(&arena, &cx.memory);
	ml_record_init(&record, &arena);
	ml_record_init(&again, &arena);
	double with = error_after(passes, &record, &arena);
	double without = error_after("quantize_static", NULL, &arena);
	assert_string_equal(record.decisions.at[0].pass, "equalization");
	assert_string_equal(record.decisions.at[0].choice, "factors");
	again.replays = true;
	for (int i = 0; i < record.decisions.count; i++)
		ML_PUSH(&arena, again.replayed, record.decisions.at[i]);
	assert_true(error_after(passes, &again, &arena) == with);
	again.replayed.at[0].choice = "none"; /* as if it had been measured otherwise */
	assert_true(error_after(passes, &again, &arena) == without);
	ml_arena_free(&arena);
}

/* Candidates that differ from the model by a factor. */
typedef struct factors {
	const ml_module *m[2];
} factors;

static ml_status
lend(void *user, bool changed, const ml_module **m)
{
	*m = ((factors *)user)->m[changed];
	return ML_OK;
}

/* One that multiplies by this, and adds something. */
static ml_module *
times(const char *factor, ml_arena *arena)
{
	const char *text =
		ml_format(arena,
			  "module \"m\" { in %%x \"x\" : f32[3, 5] %%1 = const {%s} : f32[]"
			  " %%0 = const splat 0.125 : f32[5] %%2 = mul %%x, %%1 : f32[3, 5]"
			  " %%3 = add %%2, %%0 : f32[3, 5] out \"y\" = %%3 }",
			  factor);
	ml_module *m;

	assert_int_equal(ml_parse(&cx, text, strlen(text), NULL, NULL, &m), ML_OK);
	return m;
}

static bool
prefers(const char *plain, const char *changed, ml_arena *arena)
{
	harness_samples samples = {{0}};
	ml_exec exec = harness_exec(&cx);
	ml_data data = harness_data(&samples);
	ml_record record;
	ml_pass_ctx px = {
		.cx = &cx, .scratch = arena, .exec = &exec, .data = &data, .record = &record};
	ml_module *m = times("1", arena), *one = times(plain, arena),
		  *other = times(changed, arena);
	factors f = {{one, other}};
	ml_rivals r = {.kind = "test", .of = "it", .changed = "yes", .m = m, .make = lend};
	bool preferred;

	r.user = &f;
	ml_record_init(&record, arena);
	ml_arena_init(&samples.arena, &cx.memory);
	assert_int_equal(ml_prefer(&px, &r, &preferred), ML_OK);
	assert_int_equal(record.decisions.count, 1);
	assert_string_equal(record.decisions.at[0].choice, preferred ? "yes" : "none");
	ml_arena_free(&samples.arena);
	ml_module_free(m);
	ml_module_free(one);
	ml_module_free(other);
	return preferred;
}

static void
test_prefer(void **state)
{
	ml_arena arena;

	(void)state;
	ml_arena_init(&arena, &cx.memory);
	assert_true(prefers("1.5", "1.25", &arena));
	assert_false(prefers("1.25", "1.5", &arena));
	assert_false(prefers("1.25", "1.25", &arena));
	assert_false(prefers("1.25", "1.249", &arena)); /* chance */
	assert_true(prefers("1.25", "1", &arena));
	ml_arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formula),
		cmocka_unit_test(test_error),
		cmocka_unit_test(test_decision),
		cmocka_unit_test(test_prefer),
	};

	return HARNESS_RUN(&cx, tests);
}
