/* test_mlt.c -- runs the .mlt files beside it: IR in, passes, IR out, numbers before and after.
 *
 * A file holds cases, separated by lines of dashes.  A case has a first line `# passes: a,b`, a
 * module, and directives:
 *   # CHECK: text       the text occurs after the previous CHECK's match (spaces count as one)
 *   # CHECK-NOT: text   the text occurs nowhere
 *   # unchanged         the passes change nothing
 * Weights may be written as `const #SEED : type`.  Calibration data is random inputs.  A case
 * without a directive fails.  Each case is also a numerics test (the evaluator agrees before and
 * after, within the passes' declared effect) and an idempotence test (a second run changes
 * nothing).
 */
#include "harness_exec.h"
#include "ir/ir.h"
#include "passes/pipeline.h"
#include <ctype.h>
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef struct test_case {
	const char *file;
	int line; /* of the case's first line */
	char *text;
	char passes[256];
} test_case;

static ml_context cx;
static ml_memory *memory = &cx.memory;

static void
fail_case(const test_case *c, const char *what, const char *detail)
{
	fail_msg("%s:%d: %s\n%s", c->file, c->line, what, detail);
}

/* ---- text ---- */

static char *
squeeze(ml_arena *arena, const char *text)
{
	char *out = ml_alloc(arena, strlen(text) + 1), *to = out;

	for (const char *s = text; *s; s++) {
		if (!isspace((unsigned char)*s))
			*to++ = *s;
		else if (to > out && to[-1] != ' ')
			*to++ = ' ';
	}
	while (to > out && to[-1] == ' ')
		to--;
	*to = 0;
	return out;
}

/* The directive's text when `line` is one, else NULL. */
static const char *
directive(const char *line, const char *name)
{
	size_t n = strlen(name);

	while (*line == ' ' || *line == '\t')
		line++;
	if (*line++ != '#')
		return NULL;
	while (*line == ' ')
		line++;
	return strncmp(line, name, n) ? NULL : line + n;
}

static const char *
error_text(ml_arena *arena)
{
	ml_text t;

	ml_text_init(&t, arena);
	for (int i = 0; i < cx.diags.count; i++)
		ml_diag_print(&t, &cx, &cx.diags.at[i]);
	return t.at;
}

/* ---- numbers ---- */

enum { ROOM = 1 << 16 };

static ml_tensor *
evaluate(const test_case *c, const ml_module *m, const ml_tensor *in, ml_arena *arena)
{
	ml_tensor *out = ML_NEW_ARRAY(arena, ml_tensor, m->main->last->nin + 1);
	ml_eval_options o = {0};

	if (ml_evaluate(m, in, out, arena, &o) != ML_OK)
		fail_case(c, "the evaluator failed", error_text(arena));
	return out;
}

static void
compare(const test_case *c, const ml_tensor *a, const ml_tensor *b, ml_effect effect)
{
	static const double tolerance[] = {[ML_EXACT] = 0, [ML_ROUNDS] = 1e-5, [ML_LOSSY] = 4e-2};
	double top = 1e-30;

	assert_int_equal(a->bytes, b->bytes);
	int64_t count = (int64_t)a->bytes / ml_dtype_bytes(a->dtype);
	for (int64_t i = 0; i < count; i++) {
		double x = fabs(ml_read_f64(a->dtype, a->data, i));
		if (isfinite(x) && x > top)
			top = x;
	}
	for (int64_t i = 0; i < count; i++) {
		double x = ml_read_f64(a->dtype, a->data, i), y = ml_read_f64(b->dtype, b->data, i);
		if (x == y || (isnan(x) && isnan(y)) || fabs(x - y) <= tolerance[effect] * top)
			continue;
		char detail[128];
		snprintf(detail, sizeof detail, "element %d: %.9g became %.9g", (int)i, x, y);
		fail_case(c, "the passes changed the numbers", detail);
	}
}

/* ---- one case ---- */

static ml_effect
worst_effect(const ml_pipeline *p)
{
	ml_effect worst = ML_EXACT;

	for (int i = 0; i < p->stages.count; i++)
		if (p->stages.at[i].pass->effect > worst)
			worst = p->stages.at[i].pass->effect;
	return worst;
}

static char *
print_module(const ml_module *m, ml_arena *arena)
{
	ml_text t;

	ml_text_init(&t, arena);
	ml_print(&t, m);
	return t.at;
}

/* ---- which rules fired in any case ---- */

enum { MOST_FIRED = 512 };
static char *fired[MOST_FIRED]; /* "pass/rule" */
static int nfired;

static bool
has_fired(const char *rule)
{
	for (int i = 0; i < nfired; i++)
		if (!strcmp(fired[i], rule))
			return true;
	return false;
}

/* Reads the pipeline's statistics: lines of a count and a rule. */
static void
note_fired(void *user, const char *title, const char *text)
{
	char rule[128];
	int count, length;

	(void)user;
	if (strcmp(title, "passes"))
		return;
	for (; sscanf(text, "%d %127s%n", &count, rule, &length) == 2; text += length) {
		if (has_fired(rule))
			continue;
		assert_true(nfired < MOST_FIRED);
		fired[nfired++] = ml_strdup(&cx.arena, rule);
	}
}

static void
run_passes(const test_case *c, ml_module *m, ml_pipeline *p, ml_arena *arena)
{
	harness_samples samples = {{0}};
	ml_exec exec = harness_exec(&cx);
	ml_data data = harness_data(&samples);
	ml_pipeline_options o = {.opt_level = 3,
				 .passes = c->passes,
				 .verify_each = true,
				 .rule_stats = true,
				 .show = note_fired,
				 .fuel = -1,
				 .exec = &exec,
				 .data = &data,
				 .max_loss = 1}; /* what layers become, whatever it loses */

	ml_arena_init(&samples.arena, memory);
	bool failed = ml_pipeline_init(p, &cx, arena, &o, NULL, 0) != ML_OK ||
		      ml_pipeline_run(p, m, &o) != ML_OK;
	ml_arena_free(&samples.arena);
	if (failed)
		fail_case(c, "the passes failed", error_text(arena));
}

static void
check_directives(const test_case *c, const char *before, const char *after, ml_arena *arena)
{
	char *text = squeeze(arena, after), *lines = ml_strdup(arena, c->text), *state = NULL;
	const char *at = text, *rest;
	int directives = 0;

	for (char *line = strtok_r(lines, "\n", &state); line;
	     line = strtok_r(NULL, "\n", &state)) {
		if ((rest = directive(line, "CHECK: "))) {
			const char *wanted = squeeze(arena, rest), *found = strstr(at, wanted);
			if (!found)
				fail_case(c, wanted, after);
			at = found + strlen(wanted);
			directives++;
		} else if ((rest = directive(line, "CHECK-NOT: "))) {
			if (strstr(text, squeeze(arena, rest)))
				fail_case(c, rest, after);
			directives++;
		} else if (directive(line, "unchanged")) {
			if (strcmp(before, after))
				fail_case(c, "changed", after);
			directives++;
		}
	}
	if (!directives)
		fail_case(c, "no directive", c->text);
}

static void
run_case(const test_case *c)
{
	ml_arena arena;
	ml_module *m;
	ml_pipeline p;
	uint64_t seed = 1;

	ml_arena_init(&arena, memory);
	cx.diags.count = 0;
	if (harness_parse(&cx, c->text, NULL, &m) != ML_OK)
		fail_case(c, "does not parse", error_text(&arena));
	ml_tensor *in = ML_NEW_ARRAY(&arena, ml_tensor, m->main->nargs + 1);
	for (int i = 0; i < m->main->nargs; i++)
		in[i] = harness_input(&arena, m, m->main->arg[i], &seed);
	int results = m->main->last->nin;
	ml_tensor *want = evaluate(c, m, in, &arena);
	char *before = print_module(m, &arena);
	run_passes(c, m, &p, &arena);
	char *after = print_module(m, &arena);
	check_directives(c, before, after, &arena);
	ml_tensor *got = evaluate(c, m, in, &arena);
	for (int i = 0; i < results; i++)
		compare(c, &want[i], &got[i], worst_effect(&p));
	run_passes(c, m, &p, &arena);
	char *again = print_module(m, &arena);
	if (strcmp(after, again))
		fail_case(c, "a second run changed something", again);
	ml_module_free(m);
	ml_arena_free(&arena);
}

/* ---- files ---- */

static void
test_file(void **state)
{
	static char text[ROOM];
	const char *path = *state;
	FILE *f = fopen(path, "r");
	int line = 1;

	assert_non_null(f);
	size_t n = fread(text, 1, sizeof text - 1, f);
	fclose(f);
	assert_true(n > 0 && n < sizeof text - 1);
	text[n] = 0;
	for (char *at = text, *end; *at; at = end) {
		end = strstr(at, "\n---");
		end = end ? end + 1 : at + strlen(at);
		char saved = *end;
		*end = 0;
		test_case c = {.file = path, .line = line, .text = at};
		const char *passes = strstr(at, "# passes:");
		if (!passes || sscanf(passes, "# passes: %255s", c.passes) != 1)
			fail_case(&c, "no line `# passes:`", at);
		run_case(&c);
		for (const char *s = at; s < end; s++)
			line += *s == '\n';
		*end = saved;
		end += strcspn(end, "\n");
		end += *end == '\n';
		line++;
	}
}

/* Every pass of the pipeline has a file of its name, but those that are given a target: a second
 * run would go on (test_prune.c). */
static void
test_every_pass_has_a_file(void **state)
{
	(void)state;
	for (int i = 0; i < ml_stage_count; i++) {
		char path[512];
		if (!(ml_stages[i].when & ML_WHEN_ALWAYS))
			continue;
		snprintf(path, sizeof path, ML_SOURCE_DIR "/tests/passes/%s.mlt",
			 ml_stages[i].pass->name);
		FILE *f = fopen(path, "r");
		if (!f)
			fail_msg("%s is missing", path);
		fclose(f);
	}
}

/* A rule that no case fires is dead, or its case does not test it. */
static void
test_every_rule_fires(void **state)
{
	int rules = 0, dead = 0;

	(void)state;
	for (int i = 0; i < ml_stage_count; i++) {
		const ml_pass *pass = ml_stages[i].pass;
		for (int k = 0; k < pass->nrules; k++, rules++) {
			char name[128];
			snprintf(name, sizeof name, "%s/%s", pass->name, pass->rules[k].name);
			if (has_fired(name))
				continue;
			print_error("%s never fires\n", name);
			dead++;
		}
	}
	assert_int_equal(dead, 0);
	assert_true(rules > 40);
}

/* One test for each .mlt file beside this one. */
static int
add_files(struct CMUnitTest *tests, int room)
{
	DIR *dir = opendir(ML_SOURCE_DIR "/tests/passes");
	int n = 0;

	for (struct dirent *d; dir && n < room && (d = readdir(dir));) {
		size_t length = strlen(d->d_name);
		if (length < 4 || strcmp(d->d_name + length - 4, ".mlt"))
			continue;
		char *path = ml_format(&cx.arena, "%s/tests/passes/%s", ML_SOURCE_DIR, d->d_name);
		tests[n++] = (struct CMUnitTest){.name = ml_strdup(&cx.arena, d->d_name),
						 .test_func = test_file,
						 .initial_state = path};
	}
	if (dir)
		closedir(dir);
	return n;
}

int
main(void)
{
	enum { ROOM_FOR_TESTS = 64 };
	struct CMUnitTest tests[ROOM_FOR_TESTS];

	cx.memory = ml_memory_libc();
	ml_arena_init(&cx.arena, memory);
	int n = add_files(tests, ROOM_FOR_TESTS - 2);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_every_pass_has_a_file);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_every_rule_fires);
	return _cmocka_run_group_tests("passes", tests, (size_t)n, NULL, NULL);
}
