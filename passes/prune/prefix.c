/* prefix.c -- candidates are scored from where they differ from the teacher on: what they compute
 * up to there is the teacher's, and is kept for every sample that is judged.
 *
 * The stream that the first changed branch reads is all that the rest of the model reads of what
 * came before it, but for inputs; where anything reads more, that is computed again.  Streams are
 * asked for along the model: each is computed from the one before it.
 */
#include "prune.h"
#include <string.h>

static const size_t MOST_BYTES = 1 << 28; /* of one stream */

static bool
is_inside(const ml_branch *b, uint32_t id)
{
	for (int i = 0; i < b->nodes; i++)
		if (b->node[i]->id == id)
			return true;
	return false;
}

int
ml_first_changed(const ml_pruning *p, const ml_cuts *cuts)
{
	int n = p->blocks.branch.count, first = 0, at = n;

	while (first < n && cuts->keep[first])
		first++;
	for (int i = 0; i < p->width.count; i++) {
		if (!cuts->cut[i])
			continue;
		for (at = 0; at < n && !is_inside(&p->blocks.branch.at[at], p->width.at[i].layer);)
			at++;
		if (at == n)
			return n; /* who knows what reads it */
		first = at < first ? at : first;
	}
	return first;
}

/* The stream becomes an input of this copy of the teacher, or of a candidate; *there: it has one.
 */
static void
read_stream(ml_module *m, const ml_value *stream, bool *there)
{
	ml_node *n = ml_node_by_id(m, stream->def->id);

	*there = n && ml_type_equal(&n->out[stream->index].type, &stream->type);
	if (*there)
		ml_replace_uses(&n->out[stream->index],
				ml_block_add_arg(m->main, &stream->type, "stream"));
	ml_drop_unused(m->main);
}

static ml_status
make(const ml_pruning *p, const ml_value *stream, ml_module *m)
{
	ml_value *own = &ml_node_by_id(m, stream->def->id)->out[stream->index];
	bool there = true;

	ML_STEP(ml_module_set_outputs(m, &own, 1));
	if (p->prefix.stream)
		read_stream(m, p->prefix.stream, &there);
	ml_drop_unused(m->main);
	return ML_OK;
}

static ml_status
run(const ml_pruning *p, ml_runnable *r, int batch, ml_tensor *out, ml_arena *arena)
{
	int inputs = p->m->main->nargs;
	ml_tensor *in = ML_NEW_ARRAY(arena, ml_tensor, inputs + 1);

	memcpy(in, p->samples.batch.at[batch].in, (size_t)inputs * sizeof *in);
	if (p->prefix.stream)
		in[inputs] = p->prefix.out[batch];
	return p->px->exec->run(p->px->exec->user, r, in, out, arena);
}

void
ml_prefix_forget(ml_pruning *p)
{
	if (p->prefix.stream)
		ml_arena_free(&p->prefix.arena);
	p->prefix = (ml_prefix){0};
}

/* The stream of all batches that are judged, in the place of the one before it. */
static ml_status
go_on(ml_pruning *p, const ml_value *stream)
{
	const ml_exec *exec = p->px->exec;
	ml_module *copy = ml_module_clone(p->m);
	ml_prefix next = {.stream = stream};
	ml_runnable *r = NULL;
	size_t total = 0;

	ml_status st = make(p, stream, copy);
	if (st == ML_OK)
		st = exec->compile(exec->user, copy, &r);
	ml_module_free(copy);
	ML_STEP(st);
	ml_arena_init(&next.arena, &p->px->cx->memory);
	next.out = ML_NEW_ARRAY(&next.arena, ml_tensor, p->samples.batch.count + 1);
	for (int i = 0; i < p->samples.batch.count && st == ML_OK && total <= MOST_BYTES; i++)
		if (ml_samples_judge(&p->samples, &p->samples.batch.at[i])) {
			st = run(p, r, i, &next.out[i], &next.arena);
			total += next.out[i].bytes;
		}
	exec->free(exec->user, r);
	ml_prefix_forget(p);
	p->prefix = next;
	if (st != ML_OK || total > MOST_BYTES)
		ml_prefix_forget(p);
	return st;
}

ml_status
ml_prefix_judge(ml_pruning *p, const ml_cuts *cuts, double *error)
{
	int first = ml_first_changed(p, cuts);
	const ml_value *stream =
		first < p->blocks.branch.count ? p->blocks.branch.at[first].in : NULL;
	bool there = false;
	ml_module *m;

	if (stream && stream->def && p->prefix.stream != stream)
		ML_STEP(go_on(p, stream));
	ML_STEP(ml_prune_with(p, cuts, &m));
	if (stream && p->prefix.stream == stream)
		read_stream(m, stream, &there);
	ml_status st = ml_judge(&p->samples, p->px, m, there ? p->prefix.out : NULL, error);
	ml_module_free(m);
	return st;
}
