/* harness_text.c -- modules from text, for tests of the IR. */
#include "harness_text.h"
#include <stdlib.h>
#include <string.h>

int
text_setup(void **state)
{
	ml_context *cx = calloc(1, sizeof *cx);

	cx->memory = ml_memory_libc();
	ml_arena_init(&cx->arena, &cx->memory);
	*state = cx;
	return 0;
}

int
text_teardown(void **state)
{
	ml_context *cx = *state;

	ml_arena_free(&cx->arena);
	free(cx);
	return 0;
}

const char *
text_newest(ml_context *cx)
{
	ml_text t;

	if (!cx->diags.count)
		return "";
	ml_text_init(&t, &cx->arena);
	ml_diag_print(&t, cx, &cx->diags.at[cx->diags.count - 1]);
	return t.at;
}

ml_module *
text_module(ml_context *cx, const char *text)
{
	ml_module *m = NULL;

	if (ml_parse(cx, text, strlen(text), NULL, NULL, &m) || ml_verify(m))
		fail_msg("%s", text_newest(cx));
	return m;
}

const char *
text_printed(ml_context *cx, const ml_module *m)
{
	ml_text t;

	ml_text_init(&t, &cx->arena);
	ml_print(&t, m);
	return t.at;
}

ml_node *
text_node(const ml_module *m, ml_op op)
{
	for (ml_node *n = m->main->first; n; n = n->next)
		if (n->op == op)
			return n;
	fail_msg("no %s", ml_op_get(op)->name);
	return NULL;
}
