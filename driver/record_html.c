/* record_html.c -- a compilation's record as one HTML file that needs nothing else: no script, no
 * network, light and dark; plots are inline SVG. */
#include "record.h"
#include <math.h>
#include <string.h>

static const char style[] =
	":root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--ink:#1c1f23;--soft:#69707a;"
	"--line:#e4e6e9;--bar:#dbe7fb;--good:#12805c;--c0:#2f6fde;--c1:#d9622b;--c2:#1f9d78;"
	"--c3:#9a4fd0;--c4:#c0392b;--c5:#7a8a00}\n"
	"@media(prefers-color-scheme:dark){:root{--bg:#14161a;--card:#1c1f25;--ink:#e7e9ec;"
	"--soft:#969ea9;--line:#2e333b;--bar:#223a63;--good:#4fd1a5;--c0:#7aa7ff;--c1:#ff9a66;"
	"--c2:#5fd3ae;--c3:#c99bf2;--c4:#ff8a80;--c5:#cddc39}}\n"
	"*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);"
	"font:15px/1.5 system-ui,sans-serif}main{max-width:1080px;margin:0 auto;padding:40px "
	"24px}\n"
	"h1{font-size:26px;margin:0;letter-spacing:-.01em;overflow-wrap:anywhere}"
	"h2{font-size:17px;margin:36px 0 12px}.sub{color:var(--soft);margin:2px 0 24px}\n"
	".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:14px}"
	".card{background:var(--card);border:1px solid var(--line);border-radius:12px;"
	"padding:14px 16px}.card b{display:block;font-size:22px;font-weight:650;"
	"font-variant-numeric:tabular-nums}.card span{color:var(--soft);font-size:13px}"
	".card i{font-style:normal;color:var(--good);font-size:13px;float:right}\n"
	".box{background:var(--card);border:1px solid var(--line);border-radius:12px;"
	"overflow:auto;max-height:70vh}table{border-collapse:collapse;width:100%;"
	"font-size:13.5px}th{position:sticky;top:0;background:var(--card);color:var(--soft);"
	"font-weight:550;text-align:left;z-index:1}th,td{padding:7px 12px;"
	"border-bottom:1px solid var(--line);white-space:nowrap}tr:last-child td{border:0}"
	"td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}"
	"td.n{background:linear-gradient(to left,var(--bar) var(--v,0%),transparent 0)}"
	"td.k{font-family:ui-monospace,monospace;font-size:12.5px}\n"
	"ul{padding-left:20px;margin:16px 0}li{margin:3px 0}"
	".plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:14px}"
	"figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:12px;"
	"padding:14px}figcaption{font-weight:600;margin-bottom:6px}svg{width:100%;height:auto;"
	"display:block}svg text{fill:var(--soft);font:11px system-ui,sans-serif}"
	"svg .g{stroke:var(--line)}\n";

static void
put_safe(ml_text *t, const char *text)
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

/* ---- cards ---- */

static void
put_card(ml_text *t, const ml_change *c)
{
	bool both = !isnan(c->before) && !isnan(c->after);
	double shown = isnan(c->after) ? c->before : c->after;

	ml_put(t, "<div class=card>");
	if (both && c->before > 0 && c->after > 0 && c->unit == ML_UNIT_SECONDS)
		ml_put(t, "<i>%.2f&times; faster</i>", c->before / c->after);
	else if (both && c->before > 0 && c->after > 0 && c->unit == ML_UNIT_BYTES)
		ml_put(t, "<i>%.2f&times; smaller</i>", c->before / c->after);
	ml_put(t, "<span>");
	put_safe(t, c->name);
	ml_put(t, "</span><b>%s</b>", ml_unit_text(t->arena, c->unit, shown));
	if (both)
		ml_put(t, "<span>before: %s</span>", ml_unit_text(t->arena, c->unit, c->before));
	ml_put(t, "</div>\n");
}

/* ---- tables ---- */

/* The largest number of a column, for the bars behind them. */
static double
largest(const ml_table *t, int column)
{
	double top = 0;

	for (int i = 0; i < t->rows.count; i++)
		if (column < t->rows.at[i].cells.count)
			top = fmax(top, t->rows.at[i].cells.at[column].number);
	return top;
}

static void
put_cell(ml_text *t, const ml_column *column, const ml_cell *c, double top)
{
	if (c && c->text) {
		ml_put(t, "<td>");
		put_safe(t, c->text);
	} else if (c && !isnan(c->number)) {
		double share = top > 0 && c->number > 0 ? 100 * c->number / top : 0;
		ml_put(t, "<td class=n style=\"--v:%.0f%%\">%s", share,
		       ml_unit_text(t->arena, column->unit, c->number));
	} else {
		ml_put(t, "<td>");
	}
	ml_put(t, "</td>");
}

static void
put_table(ml_text *t, const ml_table *table)
{
	double *top = ML_NEW_ARRAY(t->arena, double, table->columns.count + 1);

	ml_put(t, "<h2>");
	put_safe(t, table->title);
	ml_put(t, "</h2>\n<div class=box><table><thead><tr><th></th>");
	for (int c = 0; c < table->columns.count; c++) {
		top[c] = largest(table, c);
		ml_put(t, "<th%s>", table->columns.at[c].unit == ML_UNIT_TEXT ? "" : " class=n");
		put_safe(t, table->columns.at[c].name);
		ml_put(t, "</th>");
	}
	ml_put(t, "</tr></thead><tbody>\n");
	for (int i = 0; i < table->rows.count; i++) {
		const ml_row *row = &table->rows.at[i];
		ml_put(t, "<tr><td class=k>");
		put_safe(t, row->key);
		ml_put(t, "</td>");
		for (int c = 0; c < table->columns.count; c++)
			put_cell(t, &table->columns.at[c],
				 c < row->cells.count ? &row->cells.at[c] : NULL, top[c]);
		ml_put(t, "</tr>\n");
	}
	ml_put(t, "</tbody></table></div>\n");
}

/* ---- plots ---- */

enum { WIDTH = 560, HEIGHT = 220, LEFT = 56, RIGHT = 12, TOP = 12, BOTTOM = 30, COLOURS = 6 };

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
	for (double x = ceil(a->x0 / step) * step; x <= a->x1 + step * 1e-9; x += step)
		ml_put(t, "<text x=%.1f y=%d text-anchor=middle>%.4g</text>", place_x(a, x),
		       HEIGHT - BOTTOM + 16, fabs(x) < step * 1e-6 ? 0 : x);
	ml_put(t, "<text x=%d y=%d text-anchor=end>", WIDTH - RIGHT, HEIGHT - 2);
	put_safe(t, x_name);
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
static void
put_plot(ml_text *t, const ml_curve *c, int colour)
{
	axes a = span(c);

	ml_put(t, "<figure><figcaption>");
	put_safe(t, c->plot);
	ml_put(t, ": ");
	put_safe(t, c->y);
	ml_put(t, "</figcaption><svg viewBox=\"0 0 %d %d\" role=img>", WIDTH, HEIGHT);
	put_grid(t, &a, c->x);
	put_line(t, &a, c, colour);
	ml_put(t, "</svg></figure>\n");
}

/* ---- all ---- */

static void
put_decisions(ml_text *t, const ml_record *r)
{
	if (!r->decisions.count)
		return;
	ml_put(t, "<h2>Decisions</h2>\n<div class=box><table><thead><tr><th></th><th>pass</th>"
		  "<th>choice</th><th>why</th></tr></thead><tbody>\n");
	for (int i = 0; i < r->decisions.count; i++) {
		const ml_decision *d = &r->decisions.at[i];
		ml_put(t, "<tr><td class=k>");
		put_safe(t, d->subject);
		ml_put(t, "</td><td>");
		put_safe(t, d->pass);
		ml_put(t, "</td><td>");
		put_safe(t, d->choice);
		ml_put(t, "</td><td>");
		put_safe(t, d->why);
		ml_put(t, "</td></tr>\n");
	}
	ml_put(t, "</tbody></table></div>\n");
}

void
ml_record_put_html(ml_text *t, const ml_record *r, const char *model)
{
	ml_put(t, "<!doctype html>\n<html lang=en><head><meta charset=utf-8>\n"
		  "<meta name=viewport content=\"width=device-width\"><title>mlopt: ");
	put_safe(t, model);
	ml_put(t, "</title>\n<style>%s</style></head>\n<body><main>\n<h1>", style);
	put_safe(t, model);
	ml_put(t, "</h1><p class=sub>what mlopt decided and measured</p>\n<div class=cards>\n");
	for (int i = 0; i < r->changes.count; i++)
		put_card(t, &r->changes.at[i]);
	ml_put(t, "</div>\n");
	if (r->notes.count)
		ml_put(t, "<ul>\n");
	for (int i = 0; i < r->notes.count; i++) {
		ml_put(t, "<li>");
		put_safe(t, r->notes.at[i]);
		ml_put(t, "</li>\n");
	}
	if (r->notes.count)
		ml_put(t, "</ul>\n");
	if (r->curves)
		ml_put(t, "<h2>Course</h2>\n<div class=plots>\n");
	int colour = 0;
	for (const ml_curve *c = r->curves; c; c = c->next)
		put_plot(t, c, colour++ % COLOURS);
	if (r->curves)
		ml_put(t, "</div>\n");
	for (const ml_table *table = r->tables; table; table = table->next)
		put_table(t, table);
	put_decisions(t, r);
	ml_put(t, "</main></body></html>\n");
}
