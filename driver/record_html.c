/* record_html.c -- a compilation's record as one HTML file that needs nothing else: no script, no
 * network, light and dark; plots are inline SVG. */
#include "record.h"
#include "record_plot.h"
#include <math.h>

static const char style[] =
	":root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--ink:#1c1f23;--soft:#69707a;"
	"--line:#e4e6e9;--bar:#a9c6f5;--good:#12805c;--c0:#2f6fde;--c1:#d9622b;--c2:#1f9d78;"
	"--c3:#9a4fd0;--c4:#c0392b;--c5:#7a8a00}\n"
	"@media(prefers-color-scheme:dark){:root{--bg:#14161a;--card:#1c1f25;--ink:#e7e9ec;"
	"--soft:#969ea9;--line:#2e333b;--bar:#35588f;--good:#4fd1a5;--c0:#7aa7ff;--c1:#ff9a66;"
	"--c2:#5fd3ae;--c3:#c99bf2;--c4:#ff8a80;--c5:#cddc39}}\n"
	"*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);"
	"font:15px/1.5 system-ui,sans-serif}main{max-width:1320px;margin:0 auto;padding:40px "
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
	"font-weight:550;text-align:left;z-index:1}th,td{padding:6px 8px;"
	"border-bottom:1px solid var(--line);white-space:nowrap}tr:last-child td{border:0}"
	"td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}"
	"td.n{background:linear-gradient(to left,var(--bar) var(--v,0%),transparent 0) "
	"8px calc(100% - 3px)/calc(100% - 16px) 3px no-repeat}"
	"td.k{font-family:ui-monospace,monospace;font-size:12.5px;max-width:300px;"
	"overflow:hidden;text-overflow:ellipsis;direction:rtl;text-align:left}"
	"summary{cursor:pointer;color:var(--soft);margin:14px 0}\n"
	"ul{padding-left:20px;margin:16px 0}li{margin:3px 0}"
	".plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(390px,1fr));gap:14px}"
	"figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:12px;"
	"padding:14px}figcaption{font-weight:600;margin-bottom:6px}svg{width:100%;height:auto;"
	"display:block}svg text{fill:var(--soft);font:11px system-ui,sans-serif}"
	"svg .g{stroke:var(--line)}figcaption b{font-weight:600}.plots+.box{margin-top:14px}\n";

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
	ml_put_html(t, c->name);
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
		ml_put_html(t, c->text);
	} else if (c && !isnan(c->number)) {
		double share = top > 0 && c->number > 0 ? 100 * c->number / top : 0;
		ml_put(t, "<td class=n style=\"--v:%.0f%%\">%s", share,
		       ml_unit_text(t->arena, column->unit, c->number));
	} else {
		ml_put(t, "<td>");
	}
	ml_put(t, "</td>");
}

/* Of long names the end tells more: the beginning is cut off. */
static void
put_key(ml_text *t, const char *key)
{
	ml_put(t, "<tr><td class=k title=\"");
	ml_put_html(t, key);
	ml_put(t, "\"><bdi>");
	ml_put_html(t, key);
	ml_put(t, "</bdi></td>");
}

static void
put_table(ml_text *t, const ml_table *table)
{
	double *top = ML_NEW_ARRAY(t->arena, double, table->columns.count + 1);

	ml_put(t, "<h2>");
	ml_put_html(t, table->title);
	ml_put(t, "</h2>\n");
	ml_put_bars(t, table);
	ml_put(t, "<div class=box><table><thead><tr><th></th>");
	for (int c = 0; c < table->columns.count; c++) {
		top[c] = largest(table, c);
		ml_put(t, "<th%s>", table->columns.at[c].unit == ML_UNIT_TEXT ? "" : " class=n");
		ml_put_html(t, table->columns.at[c].name);
		ml_put(t, "</th>");
	}
	ml_put(t, "</tr></thead><tbody>\n");
	for (int i = 0; i < table->rows.count; i++) {
		const ml_row *row = &table->rows.at[i];
		put_key(t, row->key);
		for (int c = 0; c < table->columns.count; c++)
			put_cell(t, &table->columns.at[c],
				 c < row->cells.count ? &row->cells.at[c] : NULL, top[c]);
		ml_put(t, "</tr>\n");
	}
	ml_put(t, "</tbody></table></div>\n");
}

/* ---- all ---- */

/* Folded up where they were a matter of course. */
static void
put_decisions(ml_text *t, const ml_record *r)
{
	bool reasons = false;

	if (!r->decisions.count)
		return;
	for (int i = 0; i < r->decisions.count; i++)
		reasons |= r->decisions.at[i].why[0] != 0;
	ml_put(t,
	       "<h2>Decisions</h2>\n<details%s><summary>%d, to be repeated by --replay</summary>"
	       "<div class=box><table><thead><tr><th></th><th>pass</th><th>choice</th>"
	       "<th>why</th></tr></thead><tbody>\n",
	       reasons ? " open" : "", r->decisions.count);
	for (int i = 0; i < r->decisions.count; i++) {
		const ml_decision *d = &r->decisions.at[i];
		put_key(t, d->subject);
		ml_put(t, "<td>");
		ml_put_html(t, d->pass);
		ml_put(t, "</td><td>");
		ml_put_html(t, d->choice);
		ml_put(t, "</td><td>");
		ml_put_html(t, d->why);
		ml_put(t, "</td></tr>\n");
	}
	ml_put(t, "</tbody></table></div></details>\n");
}

void
ml_record_put_html(ml_text *t, const ml_record *r, const char *model)
{
	ml_put(t, "<!doctype html>\n<html lang=en><head><meta charset=utf-8>\n"
		  "<meta name=viewport content=\"width=device-width\"><title>mlopt: ");
	ml_put_html(t, model);
	ml_put(t, "</title>\n<style>%s</style></head>\n<body><main>\n<h1>", style);
	ml_put_html(t, model);
	ml_put(t, "</h1><p class=sub>what mlopt decided and measured</p>\n<div class=cards>\n");
	for (int i = 0; i < r->changes.count; i++)
		put_card(t, &r->changes.at[i]);
	ml_put(t, "</div>\n");
	if (r->notes.count)
		ml_put(t, "<ul>\n");
	for (int i = 0; i < r->notes.count; i++) {
		ml_put(t, "<li>");
		ml_put_html(t, r->notes.at[i]);
		ml_put(t, "</li>\n");
	}
	if (r->notes.count)
		ml_put(t, "</ul>\n");
	if (r->curves)
		ml_put(t, "<h2>Course</h2>\n<div class=plots>\n");
	int colour = 0;
	for (const ml_curve *c = r->curves; c; c = c->next)
		ml_put_curve(t, c, colour++);
	if (r->curves)
		ml_put(t, "</div>\n");
	for (const ml_table *table = r->tables; table; table = table->next)
		put_table(t, table);
	put_decisions(t, r);
	ml_put(t, "</main></body></html>\n");
}
