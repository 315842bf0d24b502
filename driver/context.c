/* context.c -- contexts as applications see them: memory, messages, registered operators. */
#include "../ir/custom.h"
#include "driver.h"

ml_status
ml_context_new(const ml_allocator *allocator, ml_context **out)
{
	ml_memory memory = ml_memory_libc();

	if (allocator)
		memory = (ml_memory){.resize = allocator->resize, .user = allocator->user};
	*out = memory.resize(memory.user, NULL, 0, sizeof **out);
	if (!*out)
		return ML_ERR_NOMEM;
	**out = (ml_context){.memory = memory};
	ml_arena_init(&(*out)->arena, &(*out)->memory);
	return ML_OK;
}

void
ml_context_free(ml_context *cx)
{
	if (!cx)
		return;
	ml_memory memory = cx->memory;
	while (cx->modules)
		ml_module_free(cx->modules);
	ml_arena_free(&cx->arena);
	memory.resize(memory.user, cx, sizeof *cx, 0);
}

void
ml_context_log(ml_context *cx, void (*log)(void *, ml_severity, const char *), void *user)
{
	cx->log = log;
	cx->log_user = user;
}

typedef struct question {
	ml_context *cx;
	int index;
	const char *text;
} question;

static ml_status
print_message(void *job)
{
	question *q = job;
	ml_text t;

	ml_text_init(&t, &q->cx->arena);
	ml_diag_print(&t, q->cx, &q->cx->diags.at[q->index]);
	q->text = t.at;
	return ML_OK;
}

const char *
ml_context_message(ml_context *cx, int i)
{
	question q = {cx, i, NULL};

	if (i >= 0 && i < cx->diags.count)
		ml_enter(cx, print_message, &q);
	return q.text;
}

/* ---- operators ---- */

typedef struct registration {
	ml_context *cx;
	const char *domain, *name, *signature;
	ml_function *fn;
} registration;

static ml_status
register_op(void *job)
{
	const registration *r = job;
	ml_custom_op *op;

	r->cx->stage = "register";
	r->cx->file = NULL;
	ML_STEP(ml_custom_register(r->cx, r->domain, r->name, r->signature, r->fn, &op));
	op->evaluate = ml_evaluate_custom;
	return ML_OK;
}

ml_status
ml_register_op(ml_context *cx, const char *domain, const char *name, const char *signature,
	       ml_function *fn)
{
	return ml_enter(cx, register_op, &(registration){cx, domain, name, signature, fn});
}
