/* test_gate.c -- layers that hurt stay in floats, those that cost least time; choices repeat. */
#include "harness_context.h"
#include "harness_exec.h"
#include "passes/gate.h"
#include <math.h>
#include <string.h>

static ml_context cx;

/* ---- the knapsack against trying all ---- */

enum { MANY = 12 };

static void
test_choose(void **state)
{
	uint64_t seed = 3;

	(void)state;
	for (int round = 0; round < 50; round++) {
		ml_gate_layer layer[MANY] = {0};
		double most = 1, least = INFINITY, cost = 0, error = 0;
		for (int i = 0; i < MANY; i++) {
			/* whole buckets, so that nothing is rounded */
			layer[i].levels = 2;
			layer[i].error[1] = floor(fabs(harness_random(&seed)) * 600) / 2000;
			layer[i].seconds[0] = 2 + harness_random(&seed);
			layer[i].seconds[1] = 1;
		}
		for (int set = 0; set < 1 << MANY; set++) {
			double e = 0, t = 0;
			for (int i = 0; i < MANY; i++)
				if (set >> i & 1)
					t += layer[i].seconds[0] - layer[i].seconds[1];
				else
					e += layer[i].error[1];
			if (e <= most + 1e-9)
				least = fmin(least, t);
		}
		ml_gate_choose(layer, MANY, most, &cx.arena);
		for (int i = 0; i < MANY; i++)
			if (!layer[i].level)
				cost += layer[i].seconds[0] - layer[i].seconds[1];
			else
				error += layer[i].error[1];
		assert_true(error <= most + 1e-9);
		assert_true(fabs(cost - least) < 1e-6);
	}
	ml_gate_layer none[2] = {{.levels = 2, .error = {0, 1}, .seconds = {1, 2}}, {.levels = 2}};
	ml_gate_choose(none, 2, 0, &cx.arena);
	assert_int_equal(none[0].level, 0);
	assert_int_equal(none[1].level, 1); /* it costs nothing */
}

/* A layer falls back no further than it must, and to the level that is cheapest. */
static void
test_choose_levels(void **state)
{
	ml_gate_layer l[3] = {
		{.levels = 3, .error = {0, .1, .9}, .seconds = {3, 2, 1}},
		{.levels = 3, .error = {0, .1, .8}, .seconds = {3, 1.5, 1}},
		{.levels = 2, .error = {0, .1}, .seconds = {3, 1}},
	};

	(void)state;
	ml_gate_choose(l, 3, 2, &cx.arena);
	for (int i = 0; i < 3; i++)
		assert_int_equal(l[i].level, l[i].levels - 1);
	ml_gate_choose(l, 3, 1.15, &cx.arena); /* the second gains as much, for less time */
	assert_int_equal(l[0].level, 2);
	assert_int_equal(l[1].level, 1);
	assert_int_equal(l[2].level, 1);
	ml_gate_choose(l, 3, .31, &cx.arena);
	assert_int_equal(l[0].level + l[1].level + l[2].level, 3);
	ml_gate_choose(l, 3, 0, &cx.arena);
	assert_int_equal(l[0].level + l[1].level + l[2].level, 0);
}

/* ---- a model of which one layer breaks ---- */

static const char text[] = "module \"m\" {\n"
			   "  sym n\n"
			   "  in %x \"x\" : f32[n, 8]\n"
			   "  %w = const #0000000000000005 : f32[8, 8]\n"
			   "  %a = linear %x, %w : f32[n, 8]\n"
			   "  %b = linear %a, %w : f32[n, 8]\n"
			   "  %c = linear %b, %w : f32[n, 8]\n"
			   "  %z = tanh %c : f32[n, 8]\n"
			   "  out \"z\" = %z\n"
			   "}\n";

/* Layer 1 gives -y, the others almost y. */
static ml_value *
build(void *user, int i, int level, ml_node *n)
{
	ml_builder b = ml_builder_before(n);
	ml_value *w = ml_in(n, 1), *x = ml_in(n, 0);

	assert_int_equal(level, 1);
	++*(int *)user;
	w = ml_op2(&b, ML_OP_mul, w, ml_build_f64(&b, ML_f32, i == 1 ? -1 : .9999));
	ml_node *y = ml_begin(&b, ML_OP_linear, (ml_value *[]){x, w}, 2);
	return y ? ml_finish1(&b, y) : NULL;
}

static const char *const names[] = {"first", "bad", "last"};

static ml_status
run(ml_record *record, ml_gate_layer layer[3], int *built)
{
	harness_samples samples = {0};
	ml_exec exec = harness_exec(&cx);
	ml_data data = harness_data(&samples);
	ml_arena scratch;
	ml_module *m;
	int at = 0;

	ml_arena_init(&samples.arena, &cx.memory);
	ml_arena_init(&scratch, &cx.memory);
	assert_int_equal(harness_parse(&cx, text, NULL, &m), ML_OK);
	ml_pass_ctx px = {.cx = &cx,
			  .scratch = &scratch,
			  .exec = &exec,
			  .data = &data,
			  .max_loss = .01,
			  .record = record};
	memset(layer, 0, 3 * sizeof *layer);
	for (const ml_node *n = m->main->first; n; n = n->next)
		if (n->op == ML_OP_linear) {
			layer[at] = (ml_gate_layer){.id = n->id,
						    .name = names[at],
						    .levels = 2,
						    .level = 1,
						    .bytes = {256, 64}};
			at++;
		}
	assert_int_equal(at, 3);
	*built = 0;
	ml_gate g = {.px = &px,
		     .m = m,
		     .layer = layer,
		     .layers = 3,
		     .form = {"fp32", "u8s8"},
		     .build = build,
		     .user = built};
	ml_status status = ml_gate_run(&g);
	int changed = 0;
	if (status == ML_OK) {
		assert_int_equal(ml_gate_apply(&g, m), ML_OK);
		assert_int_equal(ml_verify(m), ML_OK);
		for (const ml_node *n = m->main->first; n; n = n->next)
			changed += n->op == ML_OP_linear && !ml_is_const(ml_in(n, 1));
		assert_int_equal(changed, 2);
	}
	ml_module_free(m);
	ml_arena_free(&scratch);
	ml_arena_free(&samples.arena);
	return status;
}

static void
test_keeps(void **state)
{
	ml_gate_layer layer[3];
	ml_record record, again, other;
	int built;

	(void)state;
	ml_record_init(&record, &cx.arena);
	assert_int_equal(run(&record, layer, &built), ML_OK);
	for (int i = 0; i < 3; i++)
		assert_int_equal(layer[i].level, i != 1);
	assert_true(layer[1].error[1] > 10 * layer[0].error[1]);
	assert_true(layer[0].sqnr[1] > 60 && layer[1].sqnr[1] < 0); /* it gives -y */
	assert_true(layer[0].seconds[0] > 0);
	assert_true(built > 2);
	assert_int_equal(record.decisions.count, 3);
	assert_string_equal(record.decisions.at[1].choice, "fp32");
	ml_record_init(&again, &cx.arena);
	again.replays = true;
	for (int i = 0; i < 3; i++)
		ML_PUSH(&cx.arena, again.replayed, record.decisions.at[i]);
	assert_int_equal(run(&again, layer, &built), ML_OK);
	assert_int_equal(built, 2); /* nothing but what is wanted is built */
	assert_true(!layer[1].level && layer[0].level && layer[2].level);
	ml_record_init(&other, &cx.arena);
	other.replays = true;
	assert_int_equal(run(&other, layer, &built), ML_ERR_ARG);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choose),
		cmocka_unit_test(test_choose_levels),
		cmocka_unit_test(test_keeps),
	};

	return HARNESS_RUN(&cx, tests);
}
