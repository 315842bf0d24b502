/* test_levels.c -- what may be lost decides how coarse layers become, in every mode of
 * quantization.
 */
#include "harness_context.h"
#include "harness_exec.h"
#include "passes/pipeline.h"
#include <math.h>
#include <string.h>

static ml_context cx;

static const char text[] = "module \"m\" {\n"
			   "  sym n\n"
			   "  in %x \"x\" : f32[n, 64]\n"
			   "  %w = const #0000000000000011 : f32[64, 64]\n"
			   "  %v = const #0000000000000012 : f32[64, 64]\n"
			   "  %b = const #0000000000000013 : f32[64]\n"
			   "  %small = const {0.1} : f32[]\n"
			   "  %1 = linear %x, %w, %b : f32[n, 64]\n"
			   "  %2 = mul %1, %small : f32[n, 64]\n"
			   "  %3 = tanh %2 : f32[n, 64]\n"
			   "  %4 = linear %3, %v, %b : f32[n, 64]\n"
			   "  %5 = mul %4, %small : f32[n, 64]\n"
			   "  %6 = tanh %5 : f32[n, 64]\n"
			   "  out \"6\" = %6\n"
			   "}\n";

/* How many layers became what. */
typedef struct found {
	int floats, eight, four;
} found;

static found
count(const ml_module *m)
{
	found f = {0};

	for (const ml_node *n = m->main->first; n; n = n->next) {
		bool rounded = n->op == ML_OP_linear && ml_is(ml_in(n, 1), ML_OP_dequantize);
		f.floats += n->op == ML_OP_linear && !rounded;
		f.eight += n->op == ML_OP_dot || rounded;
		f.four += n->op == ML_OP_linear_u4;
	}
	return f;
}

static found
quantize(const char *pass, double max_loss, ml_record *record)
{
	harness_samples samples = {0};
	ml_exec exec = harness_exec(&cx);
	ml_data data = harness_data(&samples);
	ml_pipeline_options po = {.opt_level = 2,
				  .passes = pass,
				  .fuel = -1,
				  .verify_each = true,
				  .exec = &exec,
				  .data = &data,
				  .max_loss = max_loss,
				  .record = record,
				  .int4 = {.group = strcmp(pass, "quantize_u4") ? 0 : 32}};
	ml_pipeline p;
	ml_module *m;

	ml_arena_init(&samples.arena, &cx.memory);
	assert_int_equal(harness_parse(&cx, text, NULL, &m), ML_OK);
	assert_int_equal(ml_pipeline_init(&p, &cx, &cx.arena, &po, NULL, 0), ML_OK);
	assert_int_equal(ml_pipeline_run(&p, m, &po), ML_OK);
	found f = count(m);
	ml_module_free(m);
	ml_arena_free(&samples.arena);
	return f;
}

/* The same decisions again, without measuring. */
static void
check_replay(const char *pass, double max_loss, const ml_record *record, found f)
{
	ml_record again;

	ml_record_init(&again, &cx.arena);
	again.replays = true;
	for (int i = 0; i < record->decisions.count; i++)
		ML_PUSH(&cx.arena, again.replayed, record->decisions.at[i]);
	found g = quantize(pass, max_loss, &again);
	assert_memory_equal(&f, &g, sizeof f);
}

/* From much to nothing that may be lost, layers get finer, and in the end are as they were. */
static void
check_levels(const char *pass, bool four_bits)
{
	int floats = 0;
	bool seen[2] = {0}; /* a layer of four bits, of eight */

	for (double most = .9; most > 1e-12; most /= 4) {
		ml_record record;
		ml_record_init(&record, &cx.arena);
		found f = quantize(pass, most, &record);
		assert_int_equal(f.floats + f.eight + f.four, 2);
		floats = f.floats;
		seen[0] |= f.four > 0;
		seen[1] |= f.eight > 0;
		assert_int_equal(record.decisions.count, 2);
		check_replay(pass, most, &record, f);
	}
	assert_int_equal(floats, 2);
	assert_int_equal(seen[0], four_bits);
	assert_true(seen[1]);
}

static void
test_static(void **state)
{
	(void)state;
	check_levels("quantize_static", false);
}

static void
test_weights(void **state)
{
	(void)state;
	check_levels("quantize_weights", false);
}

static void
test_dynamic(void **state)
{
	(void)state;
	check_levels("quantize_linear", false);
}

static void
test_four_bits(void **state)
{
	(void)state;
	check_levels("quantize_u4", true);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_static),
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_dynamic),
		cmocka_unit_test(test_four_bits),
	};

	return HARNESS_RUN(&cx, tests);
}
