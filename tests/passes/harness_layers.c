/* harness_layers.c -- a pass on a model of three feed-forward layers, run by the evaluator. */
#include "harness_layers.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

void
harness_open(harness_layers *h, const char *model, const char *passes)
{
	*h = (harness_layers){.cx.memory = ml_memory_libc()};
	ml_arena_init(&h->cx.arena, &h->cx.memory);
	ml_arena_init(&h->samples.arena, &h->cx.memory);
	assert_int_equal(ml_parse(&h->cx, model, strlen(model), NULL, NULL, &h->m), ML_OK);
	h->exec = harness_exec(&h->cx);
	h->data = harness_data(&h->samples);
	ml_record_init(&h->record, &h->cx.arena);
	h->o = (ml_pipeline_options){.opt_level = 2,
				     .fuel = -1,
				     .passes = passes,
				     .verify_each = true,
				     .exec = &h->exec,
				     .data = &h->data,
				     .record = &h->record};
}

void
harness_close(harness_layers *h)
{
	ml_module_free(h->m);
	ml_arena_free(&h->samples.arena);
	ml_arena_free(&h->cx.arena);
}

ml_status
harness_pipeline(harness_layers *h)
{
	ml_arena arena;
	ml_pipeline p;

	ml_arena_init(&arena, &h->cx.memory);
	ml_status st = ml_pipeline_init(&p, &h->cx, &arena, &h->o, NULL, 0);
	if (st == ML_OK)
		st = ml_pipeline_run(&p, h->m, &h->o);
	ml_arena_free(&arena);
	return st;
}

const char *
harness_printed(harness_layers *h, const ml_module *m)
{
	ml_text t;

	ml_text_init(&t, &h->cx.arena);
	ml_print(&t, m);
	return t.at;
}

const char *
harness_choice(const harness_layers *h, const char *subject)
{
	for (int i = 0; i < h->record.decisions.count; i++)
		if (!strcmp(h->record.decisions.at[i].subject, subject))
			return h->record.decisions.at[i].choice;
	return "";
}

void
harness_refused(harness_layers *h, ml_status status, const char *text)
{
	assert_int_equal(harness_pipeline(h), status);
	const ml_diag *d = &h->cx.diags.at[h->cx.diags.count - 1];
	if (!strstr(d->text, text))
		fail_msg("'%s' does not say '%s'", d->text, text);
}
