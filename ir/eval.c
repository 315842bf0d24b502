/* eval.c -- the reference evaluator: runs a module node by node, slowly and plainly right.
 *
 * It works on a clone in which composites are replaced by their bodies, so that a composite
 * means what its body says.  Arrays live until their last use.
 */
#include "eval.h"
#include "catch.h"
#include <string.h>

/* What a value's scratch points to while the clone runs. */
typedef struct slot {
	ml_array *array;
	int left; /* uses to come */
} slot;

/* What a node's scratch points to: room for its operands and results. */
typedef struct frame {
	ml_array **in, **out;
	ml_value **result;
} frame;

static slot *
slot_of(const ml_value *v)
{
	return (slot *)(intptr_t)v->scratch;
}

static frame *
frame_of(const ml_node *n)
{
	return (frame *)(intptr_t)n->scratch;
}

ml_status
ml_eval_fail(ml_eval *e, ml_status status, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	const char *text = ml_vformat(e->scratch, fmt, args);
	va_end(args);
	if (!e->node)
		return ml_error(e->cx, status, NULL, "%s", text);
	return ml_error(e->cx, status, e->node->prov, "%s: %s", ml_op_get(e->node->op)->name, text);
}

ml_status
ml_eval_charge(ml_eval *e, int64_t n)
{
	e->steps += (uint64_t)n;
	if (e->options.max_steps && e->steps > e->options.max_steps)
		return ml_eval_fail(e, ML_ERR_LIMIT, "more than the %llu scalar operations allowed",
				    (unsigned long long)e->options.max_steps);
	return ML_OK;
}

/* ---- preparing the clone ---- */

static void
add_slot(ml_eval *e, ml_value *v)
{
	v->scratch = (int64_t)(intptr_t)ML_NEW(e->scratch, slot);
}

static void
add_frames(ml_eval *e, ml_block *b)
{
	for (int i = 0; i < b->nargs; i++)
		add_slot(e, b->arg[i]);
	for (ml_node *n = b->first; n; n = n->next) {
		frame *f = ML_NEW(e->scratch, frame);
		f->in = ML_NEW_ARRAY(e->scratch, ml_array *, n->nin);
		f->out = ML_NEW_ARRAY(e->scratch, ml_array *, n->nout);
		n->scratch = (int64_t)(intptr_t)f;
		f->result = ML_NEW_ARRAY(e->scratch, ml_value *, n->nout);
		for (int i = 0; i < n->nout; i++) {
			f->result[i] = &n->out[i];
			add_slot(e, &n->out[i]);
		}
		for (int i = 0; i < n->nblocks; i++)
			add_frames(e, n->body[i]);
	}
}

/* ---- running ---- */

/* Constants are read anew at each use: kept, they would fill memory eight bytes an element. */
static ml_status
read_constant(ml_eval *e, const ml_node *n, ml_array **out)
{
	const ml_blob *blob = ML_A(n, const, value).blob;
	ml_tensor t = {.dtype = n->out[0].type.dtype,
		       .rank = n->out[0].type.rank,
		       .data = (void *)(uintptr_t)blob->bytes,
		       .bytes = blob->size};

	for (int i = 0; i < t.rank; i++)
		ML_STEP(ml_eval_dim(e, n->out[0].type.dim[i], &t.dim[i]));
	return ml_array_read(e, &t, out);
}

static ml_status
fetch(ml_eval *e, const ml_value *v, ml_array **out)
{
	if (ml_is(v, ML_OP_const))
		return read_constant(e, v->def, out);
	slot *s = slot_of(v);
	*out = s->array;
	s->array->refs++;
	if (--s->left == 0) {
		ml_array_release(e, s->array);
		s->array = NULL;
	}
	return ML_OK;
}

/* Takes over the reference. */
static void
define(ml_eval *e, const ml_value *v, ml_array *a)
{
	slot *s = slot_of(v);

	s->left = ml_use_count(v);
	s->array = s->left ? a : NULL;
	if (!s->left)
		ml_array_release(e, a);
}

static ml_status
run_operator(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array **out)
{
	static ml_eval_op *const family[] = {
		[ML_SOURCE] = ml_eval_source,       [ML_ELEMENTWISE] = ml_eval_elementwise,
		[ML_REDUCE] = ml_eval_reduce,       [ML_MOVE] = ml_eval_move,
		[ML_INDEX] = ml_eval_index,         [ML_CONTRACT] = ml_eval_contract,
		[ML_IRREGULAR] = ml_eval_irregular, [ML_CONTROL] = ml_eval_control};

	ML_STEP(family[ml_op_get(n->op)->cls](e, n, in, out));
	for (int i = 0; i < n->nout; i++)
		ml_array_round(e, out[i]);
	return ML_OK;
}

static ml_status
run_node(ml_eval *e, ml_node *n)
{
	frame *f = frame_of(n);

	if (n->op == ML_OP_const)
		return ML_OK; /* read where it is used */
	for (int i = 0; i < n->nin; i++)
		ML_STEP(fetch(e, ml_in(n, i), &f->in[i]));
	e->node = n;
	ML_STEP(ml_eval_charge(e, 1));
	ML_STEP(run_operator(e, n, f->in, f->out));
	e->node = n; /* bodies have changed it */
	ML_STEP(ml_eval_bind(e, n, f->result, f->out, n->nout));
	for (int i = 0; i < n->nin; i++)
		ml_array_release(e, f->in[i]);
	for (int i = 0; i < n->nout; i++)
		define(e, &n->out[i], f->out[i]);
	e->node = NULL;
	return ML_OK;
}

ml_status
ml_eval_block(ml_eval *e, const ml_block *b, ml_array **args, ml_array **results)
{
	ML_STEP(ml_eval_bind(e, b, b->arg, args, b->nargs));
	for (int i = 0; i < b->nargs; i++)
		define(e, b->arg[i], args[i]);
	for (ml_node *n = b->first; n != b->last; n = n->next)
		ML_STEP(run_node(e, n));
	for (int i = 0; i < b->last->nin; i++)
		ML_STEP(fetch(e, ml_in(b->last, i), &results[i]));
	return ML_OK;
}

ml_status
ml_eval_source(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array **out)
{
	int64_t outer, count, inner;

	(void)in;
	ML_STEP(ml_array_result(e, n, 0, out));
	if (n->op == ML_OP_dim)
		return ml_eval_dim(e, ML_A(n, dim, value).dims[0], &out[0]->cell[0].i);
	/* iota; constants are read by fetch */
	ml_array_split(out[0], (int)ML_A(n, iota, axis).i64, &outer, &count, &inner);
	for (int64_t i = 0; i < out[0]->count; i++) {
		int64_t at = i / inner % count;
		if (ml_is_float(out[0]->dtype))
			out[0]->cell[i].f = (double)at;
		else
			out[0]->cell[i].i = at;
	}
	return ML_OK;
}

/* ---- the interface ---- */

static ml_status
run_main(ml_eval *e, const ml_tensor *inputs, ml_tensor *outputs, ml_arena *arena)
{
	const ml_block *b = e->m->main;
	ml_array **args = ML_NEW_ARRAY(e->scratch, ml_array *, b->nargs);
	ml_array **results = ML_NEW_ARRAY(e->scratch, ml_array *, b->last->nin);

	for (int i = 0; i < b->nargs; i++) {
		if (inputs[i].rank < 0 || inputs[i].rank > ML_MAX_RANK ||
		    ml_dtype_bytes(inputs[i].dtype) <= 0)
			return ml_eval_fail(e, ML_ERR_ARG, "input %d is no tensor", i);
		ML_STEP(ml_array_read(e, &inputs[i], &args[i]));
	}
	ML_STEP(ml_eval_block(e, b, args, results));
	for (int i = 0; i < b->last->nin; i++) {
		const ml_array *a = results[i];
		ml_tensor *t = &outputs[i];
		*t = (ml_tensor){.dtype = a->dtype, .rank = a->rank};
		memcpy(t->dim, a->dim, sizeof t->dim);
		t->bytes = (size_t)a->count * (size_t)ml_dtype_bytes(a->dtype);
		t->data = ml_alloc(arena, t->bytes);
		ml_array_write(a, t->data);
	}
	return ML_OK;
}

typedef struct eval_job {
	ml_eval *e;
	ml_module *m;
	const ml_tensor *inputs;
	ml_tensor *outputs;
	ml_arena *arena;
} eval_job;

static ml_status
prepare_and_run(void *job)
{
	const eval_job *j = job;
	ml_eval *e = j->e;
	ml_module *m = j->m;

	ML_STEP(ml_expand_where(m->main, ml_is_composite));
	size_t symbols = (size_t)ml_sym_count(m->dims);
	e->m = m;
	e->symbol = ML_NEW_ARRAY(e->scratch, int64_t, symbols);
	e->definer = ML_NEW_ARRAY(e->scratch, const void *, symbols);
	e->when = ML_NEW_ARRAY(e->scratch, uint64_t, symbols);
	add_frames(e, m->main);
	return run_main(e, j->inputs, j->outputs, j->arena);
}

ml_status
ml_evaluate(const ml_module *m, const ml_tensor *inputs, ml_tensor *outputs, ml_arena *arena,
	    const ml_eval_options *options)
{
	ml_arena scratch;
	ml_module *clone = ml_module_clone(m);
	ml_eval e = {.cx = m->cx, .memory = &m->cx->memory, .scratch = &scratch};

	if (options)
		e.options = *options;
	if (!e.options.max_bytes)
		e.options.max_bytes = 4ull << 30;
	const char *stage = m->cx->stage;
	m->cx->stage = "evaluate";
	ml_arena_init(&scratch, &m->cx->memory);
	eval_job job = {&e, clone, inputs, outputs, arena};
	ml_status status = ml_catch(m->cx, prepare_and_run, &job);
	while (e.arrays) {
		e.arrays->refs = 1;
		ml_array_release(&e, e.arrays);
	}
	ml_arena_free(&scratch);
	ml_module_free(clone);
	m->cx->stage = stage;
	return status;
}
