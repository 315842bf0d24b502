/* stream.c -- moves along a module: each value is computed from the one before it.
 *
 * What follows a residual stream reads nothing else that came before it, but for inputs; where
 * anything reads more, that is computed again.
 */
#include "stream.h"
#include <string.h>

static const size_t MOST_BYTES = 1 << 28;

void
ml_stream_init(ml_stream *s, ml_pass_ctx *px, const ml_samples *samples)
{
	int n = samples->batch.count;

	*s = (ml_stream){.px = px, .samples = samples};
	s->out = ML_NEW_ARRAY(samples->arena, ml_tensor, n + 1);
	s->arena = ML_NEW_ARRAY(samples->arena, ml_arena, n + 1);
}

static void
free_runnable(ml_stream *s, ml_runnable **r)
{
	if (*r)
		s->px->exec->free(s->px->exec->user, *r);
	*r = NULL;
}

static void
drop(ml_stream *s, int batch)
{
	if (!s->out[batch].data)
		return;
	s->bytes -= s->out[batch].bytes;
	s->out[batch].data = NULL;
	ml_arena_free(&s->arena[batch]);
}

void
ml_stream_end(ml_stream *s)
{
	for (int i = 0; i < s->samples->batch.count; i++)
		drop(s, i);
	free_runnable(s, &s->from_inputs);
	s->node = 0;
}

bool
ml_stream_read(const ml_stream *s, ml_module *copy)
{
	ml_node *n = s->node ? ml_node_by_id(copy, s->node) : NULL;

	if (!n || !ml_type_equal(&n->out[s->index].type, &s->type))
		return false;
	ml_replace_uses(&n->out[s->index], ml_block_add_arg(copy->main, &s->type, "stream"));
	ml_drop_unused(copy->main);
	return true;
}

/* From the inputs, and from what is kept if there is a place to say whether that is read. */
static ml_status
compile(ml_stream *s, const ml_module *m, uint32_t node, int index, bool *reads, ml_runnable **r)
{
	const ml_exec *exec = s->px->exec;
	ml_module *copy = ml_module_clone(m);
	ml_value *own = &ml_node_by_id(copy, node)->out[index];
	ml_status st = ml_module_set_outputs(copy, &own, 1);

	if (reads)
		*reads = ml_stream_read(s, copy);
	ml_drop_unused(copy->main);
	if (st == ML_OK)
		st = exec->compile(exec->user, copy, r);
	ml_module_free(copy);
	return st;
}

static ml_status
run(ml_stream *s, ml_runnable *r, int batch, bool reads, ml_tensor *out, ml_arena *arena)
{
	const ml_exec *exec = s->px->exec;
	int inputs = s->samples->inputs;
	ml_tensor *in = ML_NEW_ARRAY(arena, ml_tensor, inputs + 1);

	memcpy(in, s->samples->batch.at[batch].in, (size_t)inputs * sizeof *in);
	if (reads)
		in[inputs] = s->out[batch];
	return exec->run(exec->user, r, in, out, arena);
}

static ml_status
keep(ml_stream *s, ml_runnable *r, int batch, bool reads)
{
	ml_tensor out = {0};
	ml_arena arena;

	ml_arena_init(&arena, &s->px->cx->memory);
	ml_status st = run(s, r, batch, reads, &out, &arena);
	drop(s, batch);
	if (st != ML_OK) {
		ml_arena_free(&arena);
		return st;
	}
	s->bytes += out.bytes;
	s->out[batch] = out;
	s->arena[batch] = arena;
	return ML_OK;
}

ml_status
ml_stream_move(ml_stream *s, const ml_module *m, const ml_value *to)
{
	ml_runnable *r = NULL;
	bool reads = false;

	if (!to->def) {
		ml_stream_end(s);
		return ML_OK;
	}
	if (s->node == to->def->id && s->index == to->index)
		return ML_OK;
	ml_status st = s->bytes ? compile(s, m, to->def->id, to->index, &reads, &r) : ML_OK;
	for (int i = 0; i < s->samples->batch.count && st == ML_OK; i++)
		if (s->out[i].data)
			st = keep(s, r, i, reads);
	free_runnable(s, &r);
	free_runnable(s, &s->from_inputs);
	s->m = m;
	s->node = to->def->id;
	s->index = to->index;
	s->type = to->type;
	return st;
}

ml_status
ml_stream_get(ml_stream *s, int batch, ml_arena *scratch, ml_tensor *out)
{
	if (!s->out[batch].data) {
		if (!s->from_inputs)
			ML_STEP(compile(s, s->m, s->node, s->index, NULL, &s->from_inputs));
		if (s->bytes > MOST_BYTES)
			return run(s, s->from_inputs, batch, false, out, scratch);
		ML_STEP(keep(s, s->from_inputs, batch, false));
	}
	*out = s->out[batch];
	return ML_OK;
}
