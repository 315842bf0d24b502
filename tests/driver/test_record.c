/* test_record.c -- reports: what is in them, that names cannot break out, and that they replay. */
#include "driver/record.h"
#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static const char hostile[] = "</td><script>alert(1)</script>\n\"'\\ \xff&";

typedef struct setup {
	ml_context *cx;
	ml_options *o;
	ml_record r;
	jmp_buf nomem;
} setup;

static void
begin(setup *s)
{
	assert_int_equal(ml_context_new(NULL, &s->cx), ML_OK);
	assert_int_equal(ml_options_new(s->cx, &s->o), ML_OK);
	s->cx->memory.on_fail = &s->nomem;
	ml_record_init(&s->r, &s->cx->arena);
}

static void
end(setup *s)
{
	ml_options_free(s->o);
	ml_context_free(s->cx);
}

static void
fill(ml_record *r)
{
	ml_table *t = ml_record_table(r, "layers", hostile);
	int row = ml_table_row(t, hostile);

	ml_table_text(t, row, hostile, hostile);
	ml_table_number(t, row, "SQNR", ML_UNIT_DECIBEL, 31.25);
	ml_table_number(t, ml_table_row(t, "b"), "SQNR", ML_UNIT_DECIBEL, NAN);
	ml_curve *c = ml_record_curve(r, hostile, "step", hostile);
	for (int i = 0; i < 10; i++)
		ml_curve_add(c, i, i == 5 ? NAN : 1.0 / (i + 1));
	ml_curve_add(ml_record_curve(r, "one point", "x", "y"), 3, 3);
	ml_record_curve(r, "none", "x", "y");
	ml_record_change(r, "latency", ML_UNIT_SECONDS, .002, .001);
	ml_record_change(r, hostile, ML_UNIT_BYTES, NAN, 12);
	ml_record_note(r, "%s", hostile);
	ml_record_decide(r, "gate", hostile, "fp32", hostile);
	ml_record_decide(r, "gate", "b", "u8s8", NULL);
}

static void
test_json(void **state)
{
	setup s;
	ml_text t;

	(void)state;
	begin(&s);
	fill(&s.r);
	ml_text_init(&t, &s.cx->arena);
	ml_record_put_json(&t, &s.r, hostile);
	cJSON *json = cJSON_Parse(t.at);
	assert_non_null(json);
	const cJSON *tables = cJSON_GetObjectItem(json, "tables");
	const cJSON *rows = cJSON_GetObjectItem(cJSON_GetArrayItem(tables, 0), "rows");
	const cJSON *row = cJSON_GetArrayItem(rows, 0);
	assert_int_equal(cJSON_GetArraySize(rows), 2);
	assert_true(cJSON_GetArrayItem(row, 2)->valuedouble == 31.25);
	assert_true(cJSON_IsNull(cJSON_GetArrayItem(cJSON_GetArrayItem(rows, 1), 2)));
	const cJSON *change = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "changes"), 0);
	assert_string_equal(cJSON_GetObjectItem(change, "unit")->valuestring, "s");
	assert_true(cJSON_GetObjectItem(change, "after")->valuedouble == .001);
	const cJSON *curve = cJSON_GetArrayItem(cJSON_GetObjectItem(json, "curves"), 0);
	assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(curve, "points")), 10);
	cJSON_Delete(json);
	end(&s);
}

/* Tags of the page itself are balanced; what names bring is text; nothing is loaded. */
static void
test_html(void **state)
{
	static const char *const never[] = {
		"<script", "http://", "https://", "src=", "url(", "nan", "inf\""};
	setup s;
	ml_text t;
	int depth = 0;

	(void)state;
	begin(&s);
	fill(&s.r);
	ml_text_init(&t, &s.cx->arena);
	ml_record_put_html(&t, &s.r, hostile);
	for (size_t i = 0; i < sizeof never / sizeof *never; i++)
		if (strstr(t.at, never[i]))
			fail_msg("'%s' is in the page", never[i]);
	assert_non_null(strstr(t.at, "&lt;script&gt;"));
	assert_non_null(strstr(t.at, "31.2 dB"));
	assert_non_null(strstr(t.at, "2.00&times; faster"));
	for (const char *at = t.at; *at; at++) {
		depth += *at == '<' ? 1 : *at == '>' ? -1 : 0;
		assert_true(depth == 0 || depth == 1);
		assert_true(*at == '\n' || (unsigned char)*at >= ' ');
	}
	end(&s);
}

/* Columns of one unit are bars of one plot, unless all rows say the same, or are few. */
static void
test_bars(void **state)
{
	setup s;
	ml_text t;
	int bars = 0;

	(void)state;
	begin(&s);
	ml_table *table = ml_record_table(&s.r, "layers", "Layers");
	for (int i = 0; i < 4; i++) {
		int row = ml_table_row(table, ml_format(&s.cx->arena, "%s%d", hostile, i));
		ml_table_number(table, row, "before", ML_UNIT_SECONDS, 1e-3 * (i + 1));
		ml_table_number(table, row, "after", ML_UNIT_SECONDS, i ? 1e-4 * i : NAN);
		ml_table_number(table, row, "same", ML_UNIT_BYTES, 7);
	}
	ml_table *few = ml_record_table(&s.r, "few", "Few");
	ml_table_number(few, ml_table_row(few, "a"), "x", ML_UNIT_BYTES, 1);
	ml_table_number(few, ml_table_row(few, "b"), "x", ML_UNIT_BYTES, 2);
	ml_text_init(&t, &s.cx->arena);
	ml_record_put_html(&t, &s.r, "m.onnx");
	for (const char *at = t.at; (at = strstr(at, "<rect ")); at++)
		bars++;
	assert_int_equal(bars, 4 + 3);
	assert_non_null(strstr(t.at, "0: 1 ms</title>"));
	assert_null(strstr(t.at, "<script"));
	end(&s);
}

static void
test_terminal(void **state)
{
	setup s;
	ml_text t;

	(void)state;
	begin(&s);
	fill(&s.r);
	ml_text_init(&t, &s.cx->arena);
	ml_record_put_terminal(&t, &s.r, "m.onnx");
	assert_non_null(strstr(t.at, "latency: 2 ms -> 1 ms\n"));
	assert_non_null(strstr(t.at, "31.2 dB"));
	for (const char *at = t.at; *at; at++)
		assert_true(*at == '\n' || ((unsigned char)*at >= ' ' && *at != 127));
	end(&s);
}

static void
write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void
test_replay(void **state)
{
	static const char *const bad[] = {
		"",
		"{",
		"[]",
		"{\"format\": \"mlopt report 1\"}",
		"{\"format\": \"mlopt report 1\", \"decisions\": [{\"pass\": \"gate\"}]}",
		"{\"format\": \"other\", \"decisions\": []}"};
	char path[] = "/tmp/mlopt-report-XXXXXX";
	const char *choice;
	setup s;
	ml_text t;
	ml_record again;

	(void)state;
	close(mkstemp(path));
	begin(&s);
	fill(&s.r);
	ml_text_init(&t, &s.cx->arena);
	ml_record_put_json(&t, &s.r, "m");
	write_file(path, t.at);
	ml_record_init(&again, &s.cx->arena);
	assert_int_equal(ml_record_replay(&again, s.cx, path), ML_OK);
	assert_int_equal(ml_record_choice(&again, s.cx, "gate", hostile, &choice), ML_OK);
	assert_string_equal(choice, "fp32");
	assert_int_equal(ml_record_choice(&again, s.cx, "gate", "b", &choice), ML_OK);
	assert_string_equal(choice, "u8s8");
	assert_int_equal(ml_record_choice(&again, s.cx, "prune", "b", &choice), ML_ERR_ARG);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		write_file(path, bad[i]);
		ml_record_init(&again, &s.cx->arena);
		assert_int_equal(ml_record_replay(&again, s.cx, path), ML_ERR_ARG);
		assert_false(again.replays);
	}
	unlink(path);
	assert_int_equal(ml_record_replay(&again, s.cx, path), ML_ERR_IO);
	end(&s);
}

static void
test_names(void **state)
{
	setup s;

	(void)state;
	begin(&s);
	assert_int_equal(ml_options_set(s.o, "report", "/tmp/x.html"), ML_OK);
	assert_int_equal(ml_options_set(s.o, "report", "-"), ML_OK);
	assert_int_equal(ml_check_reports(s.o), ML_OK);
	assert_int_equal(ml_options_set(s.o, "report", "/dev/null"), ML_OK);
	assert_int_equal(ml_check_reports(s.o), ML_ERR_ARG);
	end(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json),   cmocka_unit_test(test_html),
		cmocka_unit_test(test_bars),   cmocka_unit_test(test_terminal),
		cmocka_unit_test(test_replay), cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
