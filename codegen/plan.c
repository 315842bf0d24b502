/* plan.c -- schedules the groups of a graph as steps, with the buffers they read and write. */
#include "contract.h"
#include "linear_u4.h"
#include "plan.h"
#include <assert.h>
#include <string.h>

/* ---- lowering: composites become core operators ---- */

static ml_status
lower_node(ml_node *n)
{
	ml_builder b = ml_builder_before(n);
	ml_value **results = ML_NEW_ARRAY(&n->block->module->arena, ml_value *, n->nout);

	ML_STEP(ml_expand(&b, n, results));
	for (int i = 0; i < n->nout; i++)
		if (n->out[i].uses)
			ml_replace_uses(&n->out[i], results[i]);
	ml_node_remove(n);
	return ML_OK;
}

static bool
is_unused(const ml_node *n)
{
	if (!(ml_op_get(n->op)->traits & (ML_PURE | ML_CHECKS)))
		return false;
	for (int i = 0; i < n->nout; i++)
		if (n->out[i].uses)
			return false;
	return true;
}

/* Composites with a kernel family of their own. */
static bool
has_family(const ml_node *n, int opt_level)
{
	return opt_level > 0 && (ml_u4_has_kernel(n) ||
				 (n->op == ML_OP_attention && n->out[0].type.dtype == ML_f32));
}

/* Expands the other bodies until only core operators are left, then drops what nobody reads. */
static ml_status
lower_block(ml_block *block, int opt_level)
{
	for (ml_node *n = block->first, *after; n; n = after) {
		ml_node *before = n->prev;
		after = n->next;
		for (int i = 0; i < n->nblocks; i++)
			ML_STEP(lower_block(n->body[i], opt_level));
		if (!ml_is_composite(n) || has_family(n, opt_level))
			continue;
		ML_STEP(lower_node(n));
		after = before ? before->next : block->first; /* bodies may hold composites */
	}
	ML_STEP(ml_narrow_dots(block));
	if (opt_level > 0)
		ML_STEP(ml_multiply_column_sums(block));
	for (ml_node *n = block->last, *before; n; n = before) {
		before = n->prev;
		if (n->op != ML_OP_yield && is_unused(n))
			ml_node_remove(n);
	}
	return ML_OK;
}

/* Every result of a block gets bytes of its own: arguments, constants and values that are results
 * twice are copied by an identity view. */
static ml_status
separate_results(ml_block *block)
{
	ml_node *yield = block->last;

	for (int i = 0; i < yield->nin; i++) {
		ml_value *v = ml_in(yield, i);
		bool copy = !v->def || v->def->op == ML_OP_const;
		for (int k = 0; k < i; k++)
			copy |= ml_in(yield, k) == v;
		if (!copy)
			continue;
		ml_builder b = ml_builder_before(yield);
		b.prov = v->def ? v->def->prov : NULL;
		v = ml_build_reshape(&b, v, v->type.dim, v->type.rank);
		ML_STEP(b.failed);
		ml_set_operand(yield, i, v);
	}
	return ML_OK;
}

/* ---- buffers ---- */

static ml_buffer *
new_buffer(ml_planner *p, ml_place place, int index, ml_dim bytes)
{
	ml_buffer *b = ML_NEW(p->plan->arena, ml_buffer);

	*b = (ml_buffer){.place = place, .index = index, .bytes = bytes};
	b->first = b->last = p->sequence->steps.count;
	if (place == ML_PLACE_ARENA)
		ML_PUSH(p->plan->arena, p->sequence->arena, b);
	return b;
}

/* The number of the block's result that v is, or -1. */
static int
result_index(const ml_value *v)
{
	for (const ml_use *u = v->uses; u; u = u->next)
		if (u->user->op == ML_OP_yield)
			return (int)(u - u->user->in);
	return -1;
}

static ml_buffer *
result_buffer(ml_planner *p, ml_value *v)
{
	ml_fact *f = ml_fact_of(v);
	int index = result_index(v);

	if (f->buffer)
		return f->buffer;
	if (f->whole)
		f->buffer = result_buffer(p, f->whole);
	else if (index >= 0)
		f->buffer = p->sequence->result[index];
	else
		f->buffer = new_buffer(p, ML_PLACE_ARENA, -1,
				       ml_type_bytes(p->plan->m->dims, &v->type));
	return f->buffer;
}

static ml_buffer *
weights_buffer(ml_planner *p, const ml_weight *w)
{
	ml_buffer *b = new_buffer(p, ML_PLACE_WEIGHTS, 0, NULL);

	b->offset = ml_plan_weight(p->plan, w);
	return b;
}

static ml_buffer *
plain_buffer(ml_planner *p, ml_value *v)
{
	ml_fact *f = ml_fact_of(v);

	while (!f->buffer && ml_is(v, ML_OP_reshape)) {
		v = ml_in(v->def, 0);
		f = ml_fact_of(v);
	}
	if (!f->buffer && ml_is_const(v)) {
		ml_weight w = {.blob = ml_const_blob(v), .form = ML_WEIGHT_PLAIN};
		f->buffer = weights_buffer(p, &w);
	}
	assert(f->buffer && "a value that is read has bytes");
	f->buffer->last = p->sequence->steps.count;
	return f->buffer;
}

/* ---- panels ---- */

/* Elements between neighbours along a run of axes that are contiguous relative to each other, as
 * they are when the axes follow each other; false otherwise. */
static bool
run_stride(const ml_type *t, const int64_t *axes, int count, int64_t *stride)
{
	*stride = 1;
	for (int i = 1; i < count; i++)
		if (axes[i] != axes[i - 1] + 1)
			return false;
	for (int i = count ? (int)axes[count - 1] + 1 : t->rank; i < t->rank; i++)
		*stride *= ml_dim_value(t->dim[i], 0);
	return true;
}

/* The contracted axes, those that are contiguous relative to each other as one. */
static void
k_axes(const ml_type *t, const ml_attr *contract, ml_weight *w)
{
	int64_t stride[ML_MAX_RANK], step = 1;

	for (int i = t->rank; i-- > 0; step *= ml_dim_value(t->dim[i], 0))
		stride[i] = step;
	for (int i = 0; i < contract->count; i++) {
		int64_t size = ml_dim_value(t->dim[contract->ints[i]], 0);
		int64_t at = stride[contract->ints[i]];
		if (size == 1)
			continue;
		if (w->nk && w->k_step[w->nk - 1] == size * at)
			size *= w->k_size[--w->nk];
		w->k_size[w->nk] = size;
		w->k_step[w->nk++] = at;
	}
	w->k_stride = w->nk == 1 ? w->k_step[0] : 1;
}

/* A constant right operand is packed at compile time. */
static bool
constant_panels(ml_plan *plan, const ml_read *r, ml_weight *w)
{
	const ml_node *dot = r->packed_for;
	const ml_value *b = r->value;
	const ml_attr *batch = &ML_A(dot, dot, rhs_batch),
		      *contract = &ML_A(dot, dot, rhs_contract);
	static const ml_weight_form panels[] = {[ML_CONTRACT_F32] = ML_WEIGHT_PANELS_F32,
						[ML_CONTRACT_U8S8] = ML_WEIGHT_PANELS_S8,
						[ML_CONTRACT_BF16] = ML_WEIGHT_PANELS_BF16};
	int64_t free_axes[ML_MAX_RANK];
	int nfree = 0;
	ml_dim size[3];

	if (dot->op == ML_OP_linear_u4) {
		*w = (ml_weight){.blob = ml_const_blob(b),
				 .form = r->operand == 1 ? ML_WEIGHT_NIBBLES : ML_WEIGHT_COLUMNS,
				 .element = ml_dtype_bytes(b->type.dtype),
				 .k = ml_dim_value(b->type.dim[0], 0),
				 .n = ml_dim_value(b->type.dim[1], 0)};
		return true;
	}
	if (!ml_is_const(b) || dot->op != ML_OP_dot)
		return false;
	for (int64_t i = 0; i < b->type.rank; i++) {
		bool taken = false;
		for (int j = 0; j < batch->count; j++)
			taken |= batch->ints[j] == i;
		for (int j = 0; j < contract->count; j++)
			taken |= contract->ints[j] == i;
		if (!taken)
			free_axes[nfree++] = i;
	}
	ml_panel_sizes(plan->m->dims, r, size);
	*w = (ml_weight){.blob = ml_const_blob(b),
			 .form = panels[ml_form_of(b->type.dtype)],
			 .k = ml_dim_value(size[1], 0),
			 .n = ml_dim_value(size[2], 0),
			 .batches = ml_dim_value(size[0], 0)};
	k_axes(&b->type, contract, w);
	return run_stride(&b->type, batch->ints, batch->count, &w->batch_stride) &&
	       run_stride(&b->type, free_axes, nfree, &w->n_stride);
}

static ml_status add_kernel_step(ml_planner *, ml_step, const ml_outlined *);

static bool
same_axes(const ml_attr *a, const ml_attr *b)
{
	return a->count == b->count &&
	       !memcmp(a->ints, b->ints, (size_t)a->count * sizeof *a->ints);
}

/* Are there panels of a value, for this reader or another product along the same axes? */
static bool
has_panels(const ml_fact *f, const ml_read *r)
{
	const ml_node *made = f->panels_for, *n = r->packed_for;

	if (made == n && f->panels_operand == r->operand)
		return true;
	return made && made->op == ML_OP_dot && n->op == ML_OP_dot && made->block == n->block &&
	       same_axes(&ML_A(made, dot, rhs_batch), &ML_A(n, dot, rhs_batch)) &&
	       same_axes(&ML_A(made, dot, rhs_contract), &ML_A(n, dot, rhs_contract));
}

static ml_status
panels_of(ml_planner *p, const ml_read *r, ml_buffer **panels)
{
	ml_fact *f = ml_fact_of(r->value);
	ml_weight w;

	if (constant_panels(p->plan, r, &w)) {
		*panels = weights_buffer(p, &w);
		return ML_OK;
	}
	if (!has_panels(f, r)) {
		ml_step step = {0};
		ml_outlined io = {0};
		ML_STEP(ml_outline_pack(p, r, &step, &io));
		f->panels = new_buffer(p, ML_PLACE_ARENA, -1, ml_panel_bytes(p->plan->m->dims, r));
		f->panels_for = r->packed_for;
		f->panels_operand = r->operand;
		step.buffer = ML_NEW_ARRAY(p->plan->arena, ml_buffer *, io.in.count + 1);
		step.buffer[io.in.count] = f->panels;
		step.nout = 1;
		ml_note_work(p->plan, &step, NULL, 0, &io);
		step.work.written = f->panels->bytes;
		ML_STEP(add_kernel_step(p, step, &io));
	}
	f->panels->last = p->sequence->steps.count;
	*panels = f->panels;
	return ML_OK;
}

/* ---- steps ---- */

static void
add_step(ml_planner *p, ml_step *step)
{
	if (!step->body[0])
		step->number = p->plan->nsteps++;
	for (int i = 0; i < step->nin + step->nout; i++) {
		step->buffer[i]->last = p->sequence->steps.count;
		if (i >= step->nin && !step->buffer[i]->written) {
			step->buffer[i]->first = p->sequence->steps.count;
			step->buffer[i]->written = true;
		}
	}
	ML_PUSH(p->plan->arena, p->sequence->steps, *step);
}

/* The step's results are already in step.buffer behind the room for its inputs. */
static ml_status
add_kernel_step(ml_planner *p, ml_step step, const ml_outlined *io)
{
	for (int i = 0; i < io->in.count; i++) {
		const ml_read *r = &io->in.at[i];
		if (r->packed_for)
			ML_STEP(panels_of(p, r, &step.buffer[i]));
		else
			step.buffer[i] = plain_buffer(p, r->value);
	}
	step.nin = io->in.count;
	add_step(p, &step);
	return ML_OK;
}

static ml_status schedule(ml_planner *, ml_node *);

/* Everything a node reads is computed first; index maps in between have no step. */
static ml_status
schedule_operands(ml_planner *p, const ml_node *n)
{
	for (int i = 0; i < n->nin; i++)
		if (ml_in(n, i)->def)
			ML_STEP(schedule(p, ml_in(n, i)->def));
	return ML_OK;
}

/* A kernel that writes within a buffer. */
static ml_status
add_copy_step(ml_planner *p, ml_step step, const ml_outlined *io, ml_buffer *to)
{
	step.buffer = ML_NEW_ARRAY(p->plan->arena, ml_buffer *, io->in.count + 1);
	step.buffer[io->in.count] = to;
	step.nout = 1;
	ml_note_work(p->plan, &step, NULL, 0, io);
	return add_kernel_step(p, step, io);
}

typedef ml_status outline_state(ml_planner *, const ml_state *, ml_step *, ml_outlined *);

static ml_status
add_state_step(ml_planner *p, const ml_state *s, outline_state *outline, ml_buffer *present)
{
	ml_step step = {0};
	ml_outlined io = {0};

	ML_STEP(outline(p, s, &step, &io));
	return add_copy_step(p, step, &io, present);
}

static ml_status
schedule_state(ml_planner *p, ml_group *g, const ml_state *s)
{
	ml_buffer *present = result_buffer(p, s->present);

	ML_STEP(add_state_step(p, s, ml_outline_copied, present));
	ML_STEP(add_state_step(p, s, ml_outline_appended, present));
	g->step = p->sequence->steps.count - 1;
	return ML_OK;
}

/* Operands that are no parts are copied to where they belong. */
static ml_status
schedule_concat(ml_planner *p, ml_group *g)
{
	ml_node *n = g->nodes.at[0];
	ml_buffer *whole = result_buffer(p, &n->out[0]);

	for (int i = 0; i < n->nin; i++) {
		ml_step step = {0};
		ml_outlined io = {0};
		if (ml_is_part(n, i))
			continue;
		ML_STEP(ml_outline_part(p, n, i, &step, &io));
		ML_STEP(add_copy_step(p, step, &io, whole));
	}
	g->step = p->sequence->steps.count - 1;
	return ML_OK;
}

/* What the group reads from others, also through what it computes itself. */
static ml_status
schedule_inputs(ml_planner *p, const ml_group *g, const ml_node *n)
{
	for (int i = 0; i < n->nin; i++) {
		ml_node *def = ml_in(n, i)->def;
		if (!def || ml_note_of(def)->group == g)
			continue;
		if (!ml_note_of(def)->group && ml_op_get(def->op)->cls == ML_ELEMENTWISE)
			ML_STEP(schedule_inputs(p, g, def));
		else
			ML_STEP(schedule(p, def));
	}
	return ML_OK;
}

static ml_status
schedule_group(ml_planner *p, ml_group *g)
{
	ml_step step = {0};
	ml_outlined io = {0};
	const ml_state *state = ml_state_of(p->plan, &g->nodes.at[0]->out[0]);

	if (g->step >= 0)
		return ML_OK;
	if (g->visiting)
		return ml_error(p->plan->m->cx, ML_ERR_CODEGEN, g->nodes.at[0]->prov,
				"internal: groups depend on each other");
	g->visiting = true;
	for (int i = 0; i < g->nodes.count; i++)
		ML_STEP(schedule_inputs(p, g, g->nodes.at[i]));
	if (state)
		return schedule_state(p, g, state);
	if (g->nodes.at[0]->op == ML_OP_concat && ml_has_parts(g->nodes.at[0]))
		return schedule_concat(p, g);
	ML_STEP(ml_outline(p, g, &step, &io));
	step.buffer = ML_NEW_ARRAY(p->plan->arena, ml_buffer *, io.in.count + io.out.count);
	step.nout = io.out.count;
	for (int i = 0; i < io.out.count; i++)
		step.buffer[io.in.count + i] = result_buffer(p, io.out.at[i]);
	ml_note_work(p->plan, &step, g->nodes.at, g->nodes.count, &io);
	ML_STEP(add_kernel_step(p, step, &io));
	g->step = p->sequence->steps.count - 1;
	return ML_OK;
}

static ml_status plan_block(ml_plan *, ml_block *, ml_sequence **);

static ml_status
schedule_stand_alone(ml_planner *p, ml_node *n)
{
	ml_plan *plan = p->plan;
	ml_step step = {.kind = ML_STEP_ROUTINE, .node = n, .nin = n->nin, .nout = n->nout};
	ml_outlined io = {0};

	if (ml_note_of(n)->scheduled)
		return ML_OK;
	ml_note_of(n)->scheduled = true;
	ML_STEP(schedule_operands(p, n));
	if (n->op == ML_OP_if)
		step.kind = ML_STEP_IF;
	else if (n->op == ML_OP_loop)
		step.kind = ML_STEP_LOOP;
	else if (n->op == ML_OP_custom)
		step.kind = ML_STEP_CUSTOM;
	for (int i = 0; i < n->nblocks; i++)
		ML_STEP(plan_block(plan, n->body[i], &step.body[i]));
	if (step.kind == ML_STEP_LOOP)
		step.scanned = n->nout - (int)ML_A(n, loop, carried).i64;
	int spare = step.kind == ML_STEP_LOOP ? n->nout - step.scanned : 0;
	step.buffer = ML_NEW_ARRAY(plan->arena, ml_buffer *, n->nin + n->nout + spare);
	for (int i = 0; i < n->nin; i++) {
		step.buffer[i] = plain_buffer(p, ml_in(n, i));
		ML_PUSH(plan->arena, io.in, ((ml_read){ml_in(n, i), NULL, 0}));
	}
	for (int i = 0; i < n->nout; i++) {
		step.buffer[n->nin + i] = result_buffer(p, &n->out[i]);
		ML_PUSH(plan->arena, io.out, &n->out[i]);
	}
	for (int i = 0; i < spare; i++)
		step.buffer[n->nin + n->nout + i] =
			new_buffer(p, ML_PLACE_ARENA, -1, step.buffer[n->nin + i]->bytes);
	step.site = plan->sites.count;
	step.nsites = 1;
	ML_PUSH(plan->arena, plan->sites, ml_site_text(plan->arena, n->prov, "failed"));
	ml_note_work(plan, &step, NULL, 0, &io);
	add_step(p, &step);
	return ML_OK;
}

static ml_status
schedule(ml_planner *p, ml_node *n)
{
	ml_note *note = ml_note_of(n);

	if (note->group)
		return schedule_group(p, note->group);
	if (note->stand_alone)
		return schedule_stand_alone(p, n);
	if (note->scheduled)
		return ML_OK;
	note->scheduled = true;
	return schedule_operands(p, n);
}

/* A block's arguments and results: the caller's tensors for the main block, pointers that the
 * entry keeps for bodies. */
static void
place_interface(ml_planner *p)
{
	ml_sequence *s = p->sequence;
	bool main = p->block == p->plan->m->main;

	s->nargs = p->block->nargs;
	s->nresults = p->block->last->nin;
	s->arg = ML_NEW_ARRAY(p->plan->arena, ml_buffer *, s->nargs);
	s->result = ML_NEW_ARRAY(p->plan->arena, ml_buffer *, s->nresults);
	for (int i = 0; i < s->nargs; i++) {
		s->arg[i] = new_buffer(p, main ? ML_PLACE_INPUT : ML_PLACE_LOCAL,
				       main ? i : p->plan->nlocals++,
				       ml_type_bytes(p->plan->m->dims, &p->block->arg[i]->type));
		ml_fact_of(p->block->arg[i])->buffer = s->arg[i];
	}
	for (int i = 0; i < s->nresults; i++)
		s->result[i] = new_buffer(
			p, main ? ML_PLACE_OUTPUT : ML_PLACE_LOCAL, main ? i : p->plan->nlocals++,
			ml_type_bytes(p->plan->m->dims, &ml_in(p->block->last, i)->type));
}

static ml_status
plan_block(ml_plan *plan, ml_block *block, ml_sequence **out)
{
	ml_planner p = {.plan = plan, .block = block, .sequence = ML_NEW(plan->arena, ml_sequence)};

	*out = p.sequence;
	ML_STEP(separate_results(block));
	if (block == plan->m->main)
		ml_find_states(plan);
	ml_group_block(&p);
	place_interface(&p);
	for (ml_node *n = block->first; n; n = n->next) {
		const ml_note *note = ml_note_of(n);
		if (note->stand_alone || (note->group && note->group->last == note->position))
			ML_STEP(schedule(&p, n));
	}
	return ML_OK;
}

/* ---- sizes that nobody bounds ---- */

static bool
is_unbounded(ml_dim d)
{
	const ml_term *term;
	int n = ml_dim_terms(d, &term);

	for (int i = 0; i < n; i++)
		for (int k = 0; k < term[i].natoms; k++) {
			const ml_atom *a = term[i].atom[k];
			if (a->kind == ML_ATOM_SYM ? a->sym->fresh && !a->sym->bound
						   : is_unbounded(a->a) || is_unbounded(a->b))
				return true;
		}
	return false;
}

/* Memory is planned before the run: a result that may become arbitrarily large has no place. */
static ml_status
refuse_unbounded(const ml_block *b)
{
	for (const ml_node *n = b->first; n; n = n->next) {
		for (int i = 0; i < n->nblocks; i++)
			ML_STEP(refuse_unbounded(n->body[i]));
		for (int i = 0; i < n->nout; i++)
			for (int k = 0; k < n->out[i].type.rank; k++)
				if (is_unbounded(n->out[i].type.dim[k]))
					return ml_error(
						b->module->cx, ML_ERR_UNSUPPORTED, n->prov,
						"the size of result %d has no bound before the run",
						i);
	}
	return ML_OK;
}

ml_status
ml_plan_module(ml_module *m, int opt_level, ml_arena *arena, ml_plan **out)
{
	ml_plan *plan = ML_NEW(arena, ml_plan);

	*plan = (ml_plan){.m = m, .arena = arena, .opt_level = opt_level};
	*out = plan;
	ML_STEP(refuse_unbounded(m->main));
	ML_STEP(lower_block(m->main, opt_level));
	ML_STEP(plan_block(plan, m->main, &plan->main));
	return ml_assign_memory(plan);
}
