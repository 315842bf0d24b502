/* record.c -- what one compilation decided and measured: for reports, and to be repeated. */
#include "record.h"
#include <math.h>
#include <string.h>

void
ml_record_init(ml_record *r, ml_arena *arena)
{
	*r = (ml_record){.arena = arena};
}

/* ---- tables ---- */

ml_table *
ml_record_table(ml_record *r, const char *name, const char *title)
{
	ml_table **at = &r->tables;

	while (*at && strcmp((*at)->name, name))
		at = &(*at)->next;
	if (*at)
		return *at;
	*at = ML_NEW(r->arena, ml_table);
	**at = (ml_table){.arena = r->arena,
			  .name = ml_strdup(r->arena, name),
			  .title = ml_strdup(r->arena, title)};
	return *at;
}

int
ml_table_row(ml_table *t, const char *key)
{
	for (int i = 0; i < t->rows.count; i++)
		if (!strcmp(t->rows.at[i].key, key))
			return i;
	ML_PUSH(t->arena, t->rows, (ml_row){.key = ml_strdup(t->arena, key)});
	return t->rows.count - 1;
}

static ml_cell *
cell(ml_table *t, int row, const char *column, ml_unit unit)
{
	ml_row *r = &t->rows.at[row];
	int i = 0;

	while (i < t->columns.count && strcmp(t->columns.at[i].name, column))
		i++;
	if (i == t->columns.count)
		ML_PUSH(t->arena, t->columns, ((ml_column){ml_strdup(t->arena, column), unit}));
	while (r->cells.count <= i)
		ML_PUSH(t->arena, r->cells, ((ml_cell){NULL, NAN}));
	return &r->cells.at[i];
}

void
ml_table_number(ml_table *t, int row, const char *column, ml_unit unit, double number)
{
	*cell(t, row, column, unit) = (ml_cell){NULL, number};
}

void
ml_table_text(ml_table *t, int row, const char *column, const char *text)
{
	*cell(t, row, column, ML_UNIT_TEXT) = (ml_cell){ml_strdup(t->arena, text), NAN};
}

/* ---- curves, changes, notes ---- */

ml_curve *
ml_record_curve(ml_record *r, const char *plot, const char *x, const char *y)
{
	ml_curve **at = &r->curves;

	while (*at && (strcmp((*at)->plot, plot) || strcmp((*at)->y, y)))
		at = &(*at)->next;
	if (*at)
		return *at;
	*at = ML_NEW(r->arena, ml_curve);
	**at = (ml_curve){.arena = r->arena,
			  .plot = ml_strdup(r->arena, plot),
			  .x = ml_strdup(r->arena, x),
			  .y = ml_strdup(r->arena, y)};
	return *at;
}

void
ml_curve_add(ml_curve *c, double x, double y)
{
	ML_PUSH(c->arena, c->points, ((ml_point){x, y}));
}

void
ml_record_change(ml_record *r, const char *name, ml_unit unit, double before, double after)
{
	int i = 0;

	while (i < r->changes.count && strcmp(r->changes.at[i].name, name))
		i++;
	if (i == r->changes.count)
		ML_PUSH(r->arena, r->changes,
			((ml_change){ml_strdup(r->arena, name), unit, NAN, NAN}));
	ml_change *c = &r->changes.at[i];
	c->before = isnan(before) ? c->before : before;
	c->after = isnan(after) ? c->after : after;
}

void
ml_record_note(ml_record *r, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	const char *note = ml_vformat(r->arena, fmt, args);
	va_end(args);
	ML_PUSH(r->arena, r->notes, note);
}

/* ---- decisions ---- */

static bool
is_about(const ml_decision *d, const char *pass, const char *subject)
{
	return !strcmp(d->pass, pass) && !strcmp(d->subject, subject);
}

ml_status
ml_record_choice(const ml_record *r, ml_context *cx, const char *pass, const char *subject,
		 const char **choice)
{
	const char *name = ml_escaped(&cx->arena, subject);

	*choice = NULL;
	for (int i = 0; i < r->replayed.count; i++)
		if (is_about(&r->replayed.at[i], pass, name)) {
			*choice = r->replayed.at[i].choice;
			return ML_OK;
		}
	if (!r->replays)
		return ML_OK;
	ml_error(cx, ML_ERR_ARG, NULL, "replay: the report has no decision of '%s' about '%s'",
		 pass, name);
	ml_hint(cx, "use the report of a compilation of this model with these options");
	return ML_ERR_ARG;
}

void
ml_record_decide(ml_record *r, const char *pass, const char *subject, const char *choice,
		 const char *why)
{
	const char *name = ml_escaped(r->arena, subject);
	int i = 0;

	while (i < r->decisions.count && !is_about(&r->decisions.at[i], pass, name))
		i++;
	if (i == r->decisions.count)
		ML_PUSH(r->arena, r->decisions,
			((ml_decision){.pass = ml_strdup(r->arena, pass), .subject = name}));
	r->decisions.at[i].choice = ml_strdup(r->arena, choice);
	r->decisions.at[i].why = ml_strdup(r->arena, why ? why : "");
}

/* ---- units ---- */

static const char *const names[] = {
#define ML_UNIT(name, text) text,
#include "units.def"
	"text",
};

const char *
ml_unit_name(ml_unit unit)
{
	return names[unit];
}

bool
ml_unit_named(const char *name, ml_unit *unit)
{
	for (int i = 0; i <= ML_UNIT_TEXT; i++)
		if (!strcmp(names[i], name)) {
			*unit = (ml_unit)i;
			return true;
		}
	return false;
}

static const char *
time_text(ml_arena *arena, double s)
{
	double size = fabs(s);

	return size >= 1      ? ml_format(arena, "%.3g s", s)
	       : size >= 1e-3 ? ml_format(arena, "%.3g ms", s * 1e3)
			      : ml_format(arena, "%.3g us", s * 1e6);
}

static const char *
bytes_text(ml_arena *arena, double bytes)
{
	double size = fabs(bytes);

	return size >= 1e6   ? ml_format(arena, "%.1f MB", bytes * 1e-6)
	       : size >= 1e3 ? ml_format(arena, "%.1f kB", bytes * 1e-3)
			     : ml_format(arena, "%.0f B", bytes);
}

const char *
ml_unit_text(ml_arena *arena, ml_unit unit, double x)
{
	if (isnan(x))
		return "";
	switch (unit) {
	case ML_UNIT_COUNT: return ml_format(arena, "%.0f", x);
	case ML_UNIT_SHARE: return ml_format(arena, "%.4g %%", 100 * x);
	case ML_UNIT_SECONDS: return time_text(arena, x);
	case ML_UNIT_BYTES: return bytes_text(arena, x);
	case ML_UNIT_DECIBEL: return ml_format(arena, "%.1f dB", x);
	default: return ml_format(arena, "%.4g", x);
	}
}
