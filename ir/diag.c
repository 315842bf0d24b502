/* diag.c -- recording diagnostics in a context and writing them for people to read. */
#include "diag.h"
#include <string.h>

/* Length of the UTF-8 sequence at `s`, 0 when it is malformed. */
static int
character(const unsigned char *s, uint32_t *decoded)
{
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	int n = s[0] < 0x80       ? 1
		: s[0] >> 5 == 6  ? 2
		: s[0] >> 4 == 14 ? 3
		: s[0] >> 3 == 30 ? 4
				  : 0;
	uint32_t code = n == 1 ? s[0] : n ? s[0] & (0x7fu >> n) : 0;

	for (int i = 1; i < n; i++) { /* stops at the NUL */
		if (s[i] >> 6 != 2)
			return 0;
		code = code << 6 | (s[i] & 0x3f);
	}
	if (!n || code < smallest[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		return 0;
	*decoded = code;
	return n;
}

/* The same; 0 too when it would act on the terminal: C0 and C1 controls, and the marks that
 * reorder text. */
static int
showable(const unsigned char *s)
{
	uint32_t code;
	int n = character(s, &code);

	if (!n || code < 0x20 || (code >= 0x7f && code < 0xa0))
		return 0;
	if ((code >= 0x200e && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
	    (code >= 0x2066 && code <= 0x2069))
		return 0;
	return n;
}

static void
put_safely(ml_text *t, const char *s, const char *backslashed)
{
	while (*s) {
		int n = showable((const unsigned char *)s);
		if (!n)
			ml_put(t, "\\x%02x", (unsigned char)*s);
		else if (strchr(backslashed, *s))
			ml_put(t, "\\%c", *s);
		else
			ml_put_bytes(t, s, (size_t)n);
		s += n ? n : 1;
	}
}

void
ml_put_escaped(ml_text *t, const char *name)
{
	put_safely(t, name, "'\"\\");
}

void
ml_put_json(ml_text *t, const char *text)
{
	while (*text) {
		uint32_t code;
		int n = character((const unsigned char *)text, &code);
		if (!n)
			ml_put(t, "\\ufffd");
		else if (!showable((const unsigned char *)text))
			ml_put(t, "\\u%04x", (unsigned)code);
		else if (code == '"' || code == '\\')
			ml_put(t, "\\%c", (int)code);
		else
			ml_put_bytes(t, text, (size_t)n);
		text += n ? n : 1;
	}
}

const char *
ml_escaped(ml_arena *arena, const char *name)
{
	ml_text t;

	ml_text_init(&t, arena);
	ml_put_escaped(&t, name ? name : "");
	return t.at;
}

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static bool
same_node(const ml_prov *a, const ml_prov *b)
{
	return a->index == b->index && a->opset == b->opset && same_text(a->node, b->node) &&
	       same_text(a->op, b->op);
}

static bool
listed(const ml_prov *list, const ml_prov *p)
{
	for (; list; list = list->next)
		if (list == p || same_node(list, p))
			return true;
	return false;
}

const ml_prov *
ml_prov_merge(ml_arena *arena, const ml_prov *a, const ml_prov *b)
{
	const ml_prov *added = NULL, **tail = &added;

	if (!a)
		return b;
	for (const ml_prov *p = b; p; p = p->next) {
		if (listed(a, p))
			continue;
		ml_prov *copy = ML_NEW(arena, ml_prov);
		*copy = *p;
		copy->next = NULL;
		*tail = copy;
		tail = &copy->next;
	}
	if (!added)
		return a;
	/* Lists are shared and never changed: the first one is copied in front. */
	const ml_prov *merged = NULL;
	tail = &merged;
	for (const ml_prov *p = a; p; p = p->next) {
		ml_prov *copy = ML_NEW(arena, ml_prov);
		*copy = *p;
		*tail = copy;
		tail = &copy->next;
	}
	*tail = added;
	return merged;
}

/* A diagnostic outlives the module, pass or model its provenance was made in. */
static const ml_prov *
keep_prov(ml_arena *arena, const ml_prov *at)
{
	const ml_prov *kept = NULL, **tail = &kept;

	for (; at; at = at->next) {
		ml_prov *copy = ML_NEW(arena, ml_prov);
		*copy = *at;
		copy->node = at->node ? ml_strdup(arena, at->node) : NULL;
		copy->op = at->op ? ml_strdup(arena, at->op) : NULL;
		copy->next = NULL;
		*tail = copy;
		tail = &copy->next;
	}
	return kept;
}

static void
record(ml_context *cx, ml_severity severity, ml_status status, const ml_prov *at, const char *fmt,
       va_list args)
{
	ml_diag d = {.severity = severity,
		     .status = status,
		     .at = keep_prov(&cx->arena, at),
		     .stage = cx->stage ? ml_strdup(&cx->arena, cx->stage) : NULL,
		     .text = ml_vformat(&cx->arena, fmt, args)};

	ML_PUSH(&cx->arena, cx->diags, d);
	if (severity == ML_ERROR)
		cx->errors++;
}

ml_status
ml_error(ml_context *cx, ml_status status, const ml_prov *at, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	record(cx, ML_ERROR, status, at, fmt, args);
	va_end(args);
	return status;
}

void
ml_warn(ml_context *cx, const ml_prov *at, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	record(cx, ML_WARNING, ML_OK, at, fmt, args);
	va_end(args);
}

void
ml_remark(ml_context *cx, const ml_prov *at, const char *fmt, ...)
{
	va_list args;

	if (!cx->remarks)
		return;
	va_start(args, fmt);
	record(cx, ML_REMARK, ML_OK, at, fmt, args);
	va_end(args);
}

void
ml_hint(ml_context *cx, const char *fmt, ...)
{
	va_list args;

	if (!cx->diags.count)
		return;
	va_start(args, fmt);
	cx->diags.at[cx->diags.count - 1].hint = ml_vformat(&cx->arena, fmt, args);
	va_end(args);
}

void
ml_put_prov(ml_text *t, const ml_prov *at)
{
	ml_put(t, "node");
	if (at->node && *at->node) {
		ml_put(t, " '");
		ml_put_escaped(t, at->node);
		ml_put(t, "'");
	}
	ml_put(t, " (");
	if (at->index >= 0)
		ml_put(t, "#%d, ", at->index);
	ml_put_escaped(t, at->op ? at->op : "?");
	if (at->opset > 0)
		ml_put(t, "-%d", at->opset);
	ml_put(t, ")");
}

static void
put_place(ml_text *t, const ml_prov *at)
{
	int others = 0;

	ml_put_prov(t, at);
	for (const ml_prov *p = at->next; p; p = p->next)
		others++;
	if (others)
		ml_put(t, " and %d more", others);
}

void
ml_diag_print(ml_text *t, const ml_context *cx, const ml_diag *d)
{
	static const char *const severity[] = {
		[ML_ERROR] = "error", [ML_WARNING] = "warning", [ML_REMARK] = "remark"};

	if (cx->file) {
		put_safely(t, cx->file, "");
		ml_put(t, ": ");
	}
	if (d->at) {
		put_place(t, d->at);
		ml_put(t, ": ");
	}
	ml_put(t, "%s: ", severity[d->severity]);
	put_safely(t, d->text, "");
	if (d->status != ML_OK || d->stage) {
		const char *tag = d->status != ML_OK ? ml_status_tag(d->status) : NULL;
		ml_put(t, " [%s%s%s%s]", tag ? tag : "", tag && d->stage ? ", " : "",
		       d->stage ? "in " : "", d->stage ? d->stage : "");
	}
	if (d->hint) {
		ml_put(t, "\nhint: ");
		put_safely(t, d->hint, "");
	}
}

static bool
same_remark(const ml_diag *a, const ml_diag *b)
{
	if (a->severity != ML_REMARK || b->severity != ML_REMARK || !a->at || !b->at)
		return false;
	return same_node(a->at, b->at) && same_text(a->text, b->text) &&
	       same_text(a->stage, b->stage);
}

/* How often the remark stands in the list from `first` on; 0 when it was said at an earlier place.
 */
static int
times_said(const ml_context *cx, int first, int at)
{
	const ml_diag *d = cx->diags.at;
	int times = 1;

	for (int i = first; i < at; i++)
		if (same_remark(&d[i], &d[at]))
			return 0;
	for (int i = at + 1; d[at].severity == ML_REMARK && i < cx->diags.count; i++)
		times += same_remark(&d[i], &d[at]);
	return times;
}

void
ml_diag_report(ml_context *cx)
{
	int first = cx->reported;

	for (; cx->reported < cx->diags.count; cx->reported++) {
		const ml_diag *d = &cx->diags.at[cx->reported];
		ml_text t;

		int times = cx->log ? times_said(cx, first, cx->reported) : 0;
		if (!times)
			continue;
		ml_text_init(&t, &cx->arena);
		ml_diag_print(&t, cx, d);
		if (times > 1)
			ml_put(&t, " (%d times)", times);
		cx->log(cx->log_user, d->severity, t.at);
	}
}
