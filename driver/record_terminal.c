/* record_terminal.c -- a compilation's record as aligned columns, and where reports go. */
#include "record.h"
#include <math.h>
#include <string.h>

/* ---- columns ---- */

enum { WIDEST = 48 /* characters of a name */ };

/* What stands in a cell; the key is column -1. */
static const char *
cell_text(ml_arena *arena, const ml_table *t, const ml_row *row, int column)
{
	const char *text = "";

	if (column < 0)
		text = row->key;
	else if (column < row->cells.count && row->cells.at[column].text)
		text = row->cells.at[column].text;
	else if (column < row->cells.count)
		return ml_unit_text(arena, t->columns.at[column].unit,
				    row->cells.at[column].number);
	text = ml_escaped(arena, text);
	size_t n = strlen(text); /* of long names the end tells more */
	return n > WIDEST ? ml_format(arena, "..%s", text + n - (WIDEST - 2)) : text;
}

static int
width_of(ml_arena *arena, const ml_table *t, int column)
{
	const char *head = column < 0 ? "" : t->columns.at[column].name;
	size_t width = strlen(head);

	for (int i = 0; i < t->rows.count; i++) {
		size_t n = strlen(cell_text(arena, t, &t->rows.at[i], column));
		width = n > width ? n : width;
	}
	return (int)width;
}

static bool
is_number(const ml_table *t, int column)
{
	return column >= 0 && t->columns.at[column].unit != ML_UNIT_TEXT;
}

static void
put_table(ml_text *out, const ml_table *t)
{
	ml_arena *arena = out->arena;
	int columns = t->columns.count;
	int *width = ML_NEW_ARRAY(arena, int, columns + 1);

	ml_put(out, "\n%s\n", t->title);
	for (int c = -1; c < columns; c++) {
		width[c + 1] = width_of(arena, t, c);
		ml_put(out, "%s%*s", c < 0 ? "" : "  ",
		       is_number(t, c) ? width[c + 1] : -width[c + 1],
		       c < 0 ? "" : t->columns.at[c].name);
	}
	for (int i = 0; i < t->rows.count; i++) {
		ml_put(out, "\n");
		for (int c = -1; c < columns; c++)
			ml_put(out, "%s%*s", c < 0 ? "" : "  ",
			       is_number(t, c) ? width[c + 1] : -width[c + 1],
			       cell_text(arena, t, &t->rows.at[i], c));
	}
	ml_put(out, "\n");
}

static void
put_change(ml_text *out, const ml_change *c)
{
	ml_put(out, "%s: ", c->name);
	if (!isnan(c->before))
		ml_put(out, "%s", ml_unit_text(out->arena, c->unit, c->before));
	if (!isnan(c->before) && !isnan(c->after))
		ml_put(out, " -> ");
	if (!isnan(c->after))
		ml_put(out, "%s", ml_unit_text(out->arena, c->unit, c->after));
	ml_put(out, "\n");
}

void
ml_record_put_terminal(ml_text *out, const ml_record *r, const char *model)
{
	ml_put(out, "%s\n", ml_escaped(out->arena, model));
	for (int i = 0; i < r->changes.count; i++)
		put_change(out, &r->changes.at[i]);
	for (int i = 0; i < r->notes.count; i++)
		ml_put(out, "%s\n", r->notes.at[i]);
	for (const ml_table *t = r->tables; t; t = t->next)
		put_table(out, t);
	for (const ml_curve *c = r->curves; c; c = c->next)
		if (c->points.count)
			ml_put(out, "%s, %s: %.4g to %.4g over %d points\n", c->plot, c->y,
			       c->points.at[0].y, c->points.at[c->points.count - 1].y,
			       c->points.count);
}

/* ---- where they go ---- */

typedef struct report_kind {
	const char *ending;
	void (*put)(ml_text *, const ml_record *, const char *model);
} report_kind;

static const report_kind kinds[] = {
	{".html", ml_record_put_html},
	{".json", ml_record_put_json},
	{".txt", ml_record_put_terminal},
};

static const report_kind *
kind_of(const char *path)
{
	size_t n = strlen(path);

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		size_t k = strlen(kinds[i].ending);
		if (n > k && !strcmp(path + n - k, kinds[i].ending))
			return &kinds[i];
	}
	return NULL;
}

static bool
is_screen(const char *path)
{
	return !strcmp(path, "-");
}

ml_status
ml_check_reports(const ml_options *o)
{
	for (int i = 0; i < o->report.count; i++) {
		const char *path = o->report.at[i];
		if (!is_screen(path) && !kind_of(path)) {
			ml_error(o->cx, ML_ERR_ARG, NULL, "report: '%s' is no kind of report",
				 ml_escaped(&o->cx->arena, path));
			ml_hint(o->cx, "name a file .html, .json or .txt; - is the terminal");
			return ML_ERR_ARG;
		}
		ML_STEP(ml_check_output(o->cx, is_screen(path) ? NULL : path));
	}
	return ML_OK;
}

ml_status
ml_write_reports(const ml_options *o, const ml_record *r, const char *model)
{
	for (int i = 0; i < o->report.count; i++) {
		const char *path = o->report.at[i];
		ml_text t;
		ml_text_init(&t, r->arena);
		if (is_screen(path))
			ml_record_put_terminal(&t, r, model);
		else
			kind_of(path)->put(&t, r, model);
		ML_STEP(ml_write_text(o, is_screen(path) ? NULL : path, "report", &t));
	}
	return ML_OK;
}
