/* record_plot.c -- plots of reports: curves, and columns of tables as bars. */
#include "record_plot.h"
#include <math.h>

void
ml_put_html(ml_text *t, const char *text)
{
	for (const char *at = ml_escaped(t->arena, text); *at; at++) {
		if (*at == '<')
			ml_put(t, "&lt;");
		else if (*at == '>')
			ml_put(t, "&gt;");
		else if (*at == '&')
			ml_put(t, "&amp;");
		else if (*at == '"')
			ml_put(t, "&quot;");
		else if (*at == '\\' && (at[1] == '\'' || at[1] == '"'))
			continue; /* quotes need no backslash here */
		else
			ml_put_bytes(t, at, 1);
	}
}

/* ---- curves ---- */

enum { WIDTH = 560, HEIGHT = 220, LEFT = 56, RIGHT = 12, TOP = 12, BOTTOM = 30, COLOURS = 6 };
enum { FEWEST = 3 /* rows that make a plot */ };

typedef struct axes {
	double x0, x1, y0, y1;
} axes;

static double
place_x(const axes *a, double x)
{
	return LEFT + (x - a->x0) / (a->x1 - a->x0) * (WIDTH - LEFT - RIGHT);
}

static double
place_y(const axes *a, double y)
{
	return HEIGHT - BOTTOM - (y - a->y0) / (a->y1 - a->y0) * (HEIGHT - TOP - BOTTOM);
}

static axes
span(const ml_curve *c)
{
	axes a = {INFINITY, -INFINITY, INFINITY, -INFINITY};

	for (int i = 0; i < c->points.count; i++) {
		ml_point p = c->points.at[i];
		if (!isfinite(p.x) || !isfinite(p.y))
			continue;
		a.x0 = fmin(a.x0, p.x), a.x1 = fmax(a.x1, p.x);
		a.y0 = fmin(a.y0, p.y), a.y1 = fmax(a.y1, p.y);
	}
	if (!(a.x1 >= a.x0))
		return (axes){0, 1, 0, 1};
	if (a.x1 == a.x0)
		a.x1 = a.x0 + 1;
	if (a.y1 == a.y0)
		a.y1 = a.y0 + fmax(fabs(a.y0), 1) * 1e-3;
	return a;
}

/* A round step of which about four fit. */
static double
round_step(double length)
{
	double step = pow(10, floor(log10(length / 4)));

	return length / step > 20 ? 5 * step : length / step > 8 ? 2 * step : step;
}

static void
put_grid(ml_text *t, const axes *a, const char *x_name)
{
	double step = round_step(a->y1 - a->y0);

	for (double y = ceil(a->y0 / step) * step; y <= a->y1 + step * 1e-9; y += step)
		ml_put(t,
		       "<path class=g d=\"M%d %.1fH%d\"/><text x=%d y=%.1f "
		       "text-anchor=end>%.4g</text>",
		       LEFT, place_y(a, y), WIDTH - RIGHT, LEFT - 6, place_y(a, y) + 4,
		       fabs(y) < step * 1e-6 ? 0 : y);
	step = round_step(a->x1 - a->x0);
	if (step < 1 && a->x0 == floor(a->x0) && a->x1 == floor(a->x1))
		step = 1; /* numbers of layers */
	for (double x = ceil(a->x0 / step) * step; x <= a->x1 + step * 1e-9; x += step)
		ml_put(t, "<text x=%.1f y=%d text-anchor=middle>%.4g</text>", place_x(a, x),
		       HEIGHT - BOTTOM + 16, fabs(x) < step * 1e-6 ? 0 : x);
	ml_put(t, "<text x=%d y=%d text-anchor=end>", WIDTH - RIGHT, HEIGHT - 2);
	ml_put_html(t, x_name);
	ml_put(t, "</text>");
}

static void
put_line(ml_text *t, const axes *a, const ml_curve *c, int colour)
{
	bool pen = false;

	ml_put(t, "<path fill=none stroke=\"var(--c%d)\" stroke-width=2 d=\"", colour);
	for (int i = 0; i < c->points.count; i++) {
		ml_point p = c->points.at[i];
		bool shown = isfinite(p.x) && isfinite(p.y);
		if (shown)
			ml_put(t, "%c%.1f %.1f", pen ? 'L' : 'M', place_x(a, p.x), place_y(a, p.y));
		pen = shown;
	}
	ml_put(t, "\"/>");
}

/* Each curve has axes of its own: a loss and a share on one would flatten either. */
void
ml_put_curve(ml_text *t, const ml_curve *c, int colour)
{
	axes a = span(c);

	ml_put(t, "<figure><figcaption>");
	ml_put_html(t, c->plot);
	ml_put(t, ": ");
	ml_put_html(t, c->y);
	ml_put(t, "</figcaption><svg viewBox=\"0 0 %d %d\" role=img>", WIDTH, HEIGHT);
	put_grid(t, &a, c->x);
	put_line(t, &a, c, colour % COLOURS);
	ml_put(t, "</svg></figure>\n");
}

/* ---- bars ---- */

/* Columns of one unit belong together: they stand side by side for each row. */
typedef struct bars {
	const ml_table *table;
	ml_unit unit;
	int column[COLOURS], count;
	axes a;
} bars;

static double
height_of(const bars *b, int row, int k)
{
	const ml_row *r = &b->table->rows.at[row];
	int c = b->column[k];

	return c < r->cells.count && !r->cells.at[c].text ? r->cells.at[c].number : NAN;
}

/* Those of which not all rows say the same; false when there are none. */
static bool
find_bars(bars *b)
{
	int rows = b->table->rows.count;

	b->a = (axes){0, rows, 0, 0};
	for (int c = 0; c < b->table->columns.count && b->count < COLOURS; c++) {
		double top = 0, least = INFINITY;
		if (b->table->columns.at[c].unit != b->unit)
			continue;
		b->column[b->count] = c;
		for (int i = 0; i < rows; i++)
			if (isfinite(height_of(b, i, b->count))) {
				top = fmax(top, height_of(b, i, b->count));
				least = fmin(least, height_of(b, i, b->count));
			}
		b->a.y1 = fmax(b->a.y1, top);
		b->count += top > 0 && top > least;
	}
	return b->count > 0;
}

static void
put_bar(ml_text *t, const bars *b, int row, int k)
{
	double y = height_of(b, row, k), top = place_y(&b->a, fmin(y, b->a.y1));
	double wide = .8 / b->count, x = place_x(&b->a, row + .1 + wide * k);

	if (!isfinite(y) || !(y > 0))
		return;
	ml_put(t, "<rect x=%.1f y=%.1f width=%.1f height=%.1f fill=\"var(--c%d)\"><title>", x, top,
	       place_x(&b->a, row + .1 + wide * (k + 1)) - x, HEIGHT - BOTTOM - top, k);
	ml_put_html(t, b->table->rows.at[row].key);
	ml_put(t, ": %s</title></rect>", ml_unit_text(t->arena, b->unit, y));
}

static void
put_scale(ml_text *t, const bars *b)
{
	double step = round_step(b->a.y1);

	for (double y = 0; y <= b->a.y1 * (1 + 1e-9); y += step)
		ml_put(t,
		       "<path class=g d=\"M%d %.1fH%d\"/><text x=%d y=%.1f "
		       "text-anchor=end>%s</text>",
		       LEFT, place_y(&b->a, y), WIDTH - RIGHT, LEFT - 6, place_y(&b->a, y) + 4,
		       y > 0 ? ml_unit_text(t->arena, b->unit, y) : "0");
}

static void
put_figure(ml_text *t, const bars *b)
{
	ml_put(t, "<figure><figcaption>");
	for (int k = 0; k < b->count; k++) {
		ml_put(t, "%s<b style=\"color:var(--c%d)\">", k ? ", " : "", k);
		ml_put_html(t, b->table->columns.at[b->column[k]].name);
		ml_put(t, "</b>");
	}
	ml_put(t, "</figcaption><svg viewBox=\"0 0 %d %d\" role=img>", WIDTH, HEIGHT);
	put_scale(t, b);
	for (int i = 0; i < b->table->rows.count; i++)
		for (int k = 0; k < b->count; k++)
			put_bar(t, b, i, k);
	ml_put(t, "<text x=%d y=%d>1</text><text x=%d y=%d text-anchor=end>%d</text>", LEFT,
	       HEIGHT - BOTTOM + 16, WIDTH - RIGHT, HEIGHT - BOTTOM + 16, b->table->rows.count);
	ml_put(t, "</svg></figure>\n");
}

void
ml_put_bars(ml_text *t, const ml_table *table)
{
	static const ml_unit unit[] = {ML_UNIT_DECIBEL, ML_UNIT_SECONDS, ML_UNIT_BYTES};
	bool any = false;

	for (size_t i = 0; i < sizeof unit / sizeof *unit && table->rows.count >= FEWEST; i++) {
		bars b = {.table = table, .unit = unit[i]};
		if (!find_bars(&b))
			continue;
		if (!any)
			ml_put(t, "<div class=plots>\n");
		any = true;
		put_figure(t, &b);
	}
	if (any)
		ml_put(t, "</div>\n");
}
