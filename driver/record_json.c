/* record_json.c -- a compilation's record as JSON, and its decisions read again for --replay. */
#include "record.h"
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_REPORT = 1 << 28 /* bytes */ };
static const char format[] = "mlopt report 1";

/* ---- writing ---- */

static void
put_string(ml_text *t, const char *text)
{
	ml_put(t, "\"");
	ml_put_json(t, text);
	ml_put(t, "\"");
}

static void
put_number(ml_text *t, double x)
{
	if (isfinite(x))
		ml_put(t, "%.17g", x);
	else
		ml_put(t, "null");
}

static void
put_member(ml_text *t, const char *name, const char *text)
{
	ml_put(t, "\"%s\": ", name);
	put_string(t, text);
}

static const char *
between(int i, const char *indent)
{
	static const char *const separator[2][2] = {{"\n    ", ",\n    "}, {"", ", "}};

	return separator[!*indent][i > 0];
}

static void
put_row(ml_text *t, const ml_table *table, const ml_row *row)
{
	ml_put(t, "[");
	put_string(t, row->key);
	for (int i = 0; i < table->columns.count; i++) {
		const ml_cell *c = i < row->cells.count ? &row->cells.at[i] : NULL;
		ml_put(t, ", ");
		if (c && c->text)
			put_string(t, c->text);
		else
			put_number(t, c ? c->number : NAN);
	}
	ml_put(t, "]");
}

static void
put_tables(ml_text *t, const ml_record *r)
{
	int n = 0;

	for (const ml_table *table = r->tables; table; table = table->next) {
		ml_put(t, "%s{", between(n++, " "));
		put_member(t, "name", table->name);
		ml_put(t, ", ");
		put_member(t, "title", table->title);
		ml_put(t, ", \"columns\": [");
		for (int i = 0; i < table->columns.count; i++) {
			ml_put(t, "%s{", between(i, ""));
			put_member(t, "name", table->columns.at[i].name);
			ml_put(t, ", ");
			put_member(t, "unit", ml_unit_name(table->columns.at[i].unit));
			ml_put(t, "}");
		}
		ml_put(t, "], \"rows\": [");
		for (int i = 0; i < table->rows.count; i++) {
			ml_put(t, "%s", i ? ",\n      " : "\n      ");
			put_row(t, table, &table->rows.at[i]);
		}
		ml_put(t, "]}");
	}
}

static void
put_curves(ml_text *t, const ml_record *r)
{
	int n = 0;

	for (const ml_curve *c = r->curves; c; c = c->next) {
		ml_put(t, "%s{", between(n++, " "));
		put_member(t, "plot", c->plot);
		ml_put(t, ", ");
		put_member(t, "x", c->x);
		ml_put(t, ", ");
		put_member(t, "y", c->y);
		ml_put(t, ", \"points\": [");
		for (int i = 0; i < c->points.count; i++) {
			ml_put(t, "%s[", between(i, ""));
			put_number(t, c->points.at[i].x);
			ml_put(t, ", ");
			put_number(t, c->points.at[i].y);
			ml_put(t, "]");
		}
		ml_put(t, "]}");
	}
}

static void
put_changes(ml_text *t, const ml_record *r)
{
	for (int i = 0; i < r->changes.count; i++) {
		const ml_change *c = &r->changes.at[i];
		ml_put(t, "%s{", between(i, " "));
		put_member(t, "name", c->name);
		ml_put(t, ", ");
		put_member(t, "unit", ml_unit_name(c->unit));
		ml_put(t, ", \"before\": ");
		put_number(t, c->before);
		ml_put(t, ", \"after\": ");
		put_number(t, c->after);
		ml_put(t, "}");
	}
}

static void
put_decisions(ml_text *t, const ml_record *r)
{
	for (int i = 0; i < r->decisions.count; i++) {
		const ml_decision *d = &r->decisions.at[i];
		ml_put(t, "%s{", between(i, " "));
		put_member(t, "pass", d->pass);
		ml_put(t, ", ");
		put_member(t, "subject", d->subject);
		ml_put(t, ", ");
		put_member(t, "choice", d->choice);
		ml_put(t, ", ");
		put_member(t, "why", d->why);
		ml_put(t, "}");
	}
}

void
ml_record_put_json(ml_text *t, const ml_record *r, const char *model)
{
	ml_put(t, "{\n  ");
	put_member(t, "format", format);
	ml_put(t, ",\n  ");
	put_member(t, "model", model);
	ml_put(t, ",\n  \"changes\": [");
	put_changes(t, r);
	ml_put(t, "],\n  \"notes\": [");
	for (int i = 0; i < r->notes.count; i++) {
		ml_put(t, "%s", between(i, " "));
		put_string(t, r->notes.at[i]);
	}
	ml_put(t, "],\n  \"tables\": [");
	put_tables(t, r);
	ml_put(t, "],\n  \"curves\": [");
	put_curves(t, r);
	ml_put(t, "],\n  \"decisions\": [");
	put_decisions(t, r);
	ml_put(t, "]\n}\n");
}

/* ---- reading ---- */

static const char *
text_of(const cJSON *object, const char *name)
{
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

/* Copies what cJSON holds to room that was got before: while it holds memory, which is not the
 * context's, nothing may unwind. */
static const char *
keep(char **room, const char *text)
{
	size_t n = strlen(text) + 1;
	char *kept = memcpy(*room, text, n);

	*room += n;
	return kept;
}

static bool
take_decisions(ml_record *r, const cJSON *json, char *room)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(json, "decisions"), *d;
	const char *is = text_of(json, "format");

	if (!is || strcmp(is, format) || !cJSON_IsArray(list))
		return false;
	cJSON_ArrayForEach(d, list)
	{
		const char *pass = text_of(d, "pass"), *subject = text_of(d, "subject");
		const char *choice = text_of(d, "choice");
		if (!pass || !subject || !choice)
			return false;
		r->replayed.at[r->replayed.count++] = (ml_decision){
			keep(&room, pass), keep(&room, subject), keep(&room, choice), ""};
	}
	return true;
}

/* Room for all decisions and their texts, which are no longer than the file. */
static char *
make_room(ml_record *r, const ml_text *text)
{
	int objects = 0;

	for (const char *at = text->at;
	     (at = memchr(at, '{', text->length - (size_t)(at - text->at))); at++)
		objects++;
	r->replayed.at = ml_alloc_array(r->arena, (size_t)objects + 1, sizeof *r->replayed.at);
	r->replayed.count = 0;
	r->replayed.room = objects + 1;
	return ml_alloc(r->arena, text->length + 1);
}

static ml_status
read_file(ml_context *cx, const char *path, ml_text *text)
{
	FILE *f = fopen(path, "rbe");
	char part[1 << 14];
	size_t n;

	if (!f)
		return ml_error(cx, ML_ERR_IO, NULL, "replay: cannot open '%s': %s",
				ml_escaped(&cx->arena, path), strerror(errno));
	while ((n = fread(part, 1, sizeof part, f)) > 0 && text->length < MAX_REPORT)
		ml_put_bytes(text, part, n);
	bool failed = ferror(f) || text->length >= MAX_REPORT;
	fclose(f);
	return failed ? ml_error(cx, ML_ERR_IO, NULL, "replay: cannot read '%s'",
				 ml_escaped(&cx->arena, path))
		      : ML_OK;
}

ml_status
ml_record_replay(ml_record *r, ml_context *cx, const char *path)
{
	ml_text text;

	ml_text_init(&text, r->arena);
	ML_STEP(read_file(cx, path, &text));
	char *room = make_room(r, &text);
	cJSON *json = cJSON_ParseWithLength(text.at, text.length);
	bool good = json && take_decisions(r, json, room);
	cJSON_Delete(json);
	r->replays = good;
	if (good)
		return ML_OK;
	ml_error(cx, ML_ERR_ARG, NULL, "replay: '%s' is no report of a compilation",
		 ml_escaped(&cx->arena, path));
	ml_hint(cx, "reports to be replayed are written by --report=FILE.json");
	return ML_ERR_ARG;
}
