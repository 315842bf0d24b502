/* test_record.c -- tables, curves, changes and decisions as passes write them. */
#include "harness_context.h"
#include "passes/record.h"
#include <math.h>
#include <string.h>

static ml_context cx;

static void
test_tables(void **state)
{
	ml_record r;

	(void)state;
	ml_record_init(&r, &cx.arena);
	ml_table *t = ml_record_table(&r, "layers", "Layers");
	int a = ml_table_row(t, "a"), b = ml_table_row(t, "b");
	ml_table_number(t, b, "SQNR", ML_UNIT_DECIBEL, 31);
	ml_table_text(t, a, "precision", "u8s8");
	ml_table_number(t, a, "SQNR", ML_UNIT_DECIBEL, 20);
	assert_ptr_equal(ml_record_table(&r, "layers", "other"), t);
	assert_int_equal(ml_table_row(t, "b"), b);
	assert_int_equal(t->columns.count, 2);
	assert_int_equal(t->rows.at[b].cells.count, 1);
	assert_true(t->rows.at[a].cells.at[0].number == 20);
	assert_string_equal(t->rows.at[a].cells.at[1].text, "u8s8");
	assert_ptr_not_equal(ml_record_table(&r, "units", "Units"), t);
	ml_curve *c = ml_record_curve(&r, "Distillation", "step", "KL");
	for (int i = 0; i < 100; i++)
		ml_curve_add(c, i, i * i);
	assert_ptr_equal(ml_record_curve(&r, "Distillation", "step", "KL"), c);
	assert_ptr_not_equal(ml_record_curve(&r, "Distillation", "step", "agreement"), c);
	assert_true(c->points.count == 100 && c->points.at[99].y == 99 * 99);
	ml_record_change(&r, "latency", ML_UNIT_SECONDS, 2, NAN);
	ml_record_change(&r, "latency", ML_UNIT_SECONDS, NAN, 1);
	assert_int_equal(r.changes.count, 1);
	assert_true(r.changes.at[0].before == 2 && r.changes.at[0].after == 1);
}

static void
test_decisions(void **state)
{
	static const char name[] = "/a'\n\xff";
	const char *choice = "?";
	ml_record r, again;

	(void)state;
	ml_record_init(&r, &cx.arena);
	assert_int_equal(ml_record_choice(&r, &cx, "gate", name, &choice), ML_OK);
	assert_null(choice);
	ml_record_decide(&r, "gate", name, "u8s8", NULL);
	ml_record_decide(&r, "gate", name, "fp32", "12 dB");
	ml_record_decide(&r, "prune", name, "cut", NULL);
	assert_int_equal(r.decisions.count, 2);
	ml_record_init(&again, &cx.arena);
	again.replays = true;
	for (int i = 0; i < r.decisions.count; i++)
		ML_PUSH(&cx.arena, again.replayed, r.decisions.at[i]);
	assert_int_equal(ml_record_choice(&again, &cx, "gate", name, &choice), ML_OK);
	assert_string_equal(choice, "fp32");
	assert_int_equal(ml_record_choice(&again, &cx, "gate", "b", &choice), ML_ERR_ARG);
	assert_non_null(strstr(cx.diags.at[0].text, "no decision of 'gate' about 'b'"));
}

static void
test_units(void **state)
{
	static const struct {
		ml_unit unit;
		double x;
		const char *text;
	} rows[] = {
		{ML_UNIT_NONE, 1.5, "1.5"},          {ML_UNIT_COUNT, 12, "12"},
		{ML_UNIT_SHARE, .9925, "99.25 %"},   {ML_UNIT_SECONDS, .00125, "1.25 ms"},
		{ML_UNIT_SECONDS, 2e-6, "2 us"},     {ML_UNIT_BYTES, 1536, "1.5 kB"},
		{ML_UNIT_DECIBEL, 31.24, "31.2 dB"}, {ML_UNIT_COUNT, NAN, ""},
	};
	ml_unit unit;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		assert_string_equal(ml_unit_text(&cx.arena, rows[i].unit, rows[i].x), rows[i].text);
	for (int i = 0; i <= ML_UNIT_TEXT; i++) {
		assert_true(ml_unit_named(ml_unit_name((ml_unit)i), &unit));
		assert_int_equal(unit, i);
	}
	assert_false(ml_unit_named("furlong", &unit));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables),
		cmocka_unit_test(test_decisions),
		cmocka_unit_test(test_units),
	};

	return HARNESS_RUN(&cx, tests);
}
