/* memory.c -- arena buffers share slots when their lifetimes do not overlap.
 *
 * Sizes are dims, so offsets are unknown until run time: a slot's size is the largest of its
 * buffers' sizes, its offset the sum of the slots before it; the generated plan function computes
 * both.  The largest buffers are placed first; each takes the slot that is free while it lives and
 * whose size fits best, where sizes are compared at sample dims; equal canonical sizes fit
 * perfectly.  A result of a kernel takes the slot of an operand that nobody reads later, where the
 * kernel may write over it.
 */
#include "plan.h"
#include <stdlib.h>

enum { SAMPLE_DIM = 64 };

/* Fresh symbols are unknown when memory is laid out: their bounds stand in. */
static ml_dim
bounded(ml_plan *plan, ml_dim d)
{
	ml_dims *dims = plan->m->dims;
	int n = ml_sym_count(dims);
	ml_dim *replacement = ML_NEW_ARRAY(plan->arena, ml_dim, n);
	bool any = false;

	for (int i = 0; i < n; i++) {
		const ml_sym *s = ml_sym_at(dims, i);
		if (s->fresh && s->bound) {
			replacement[i] = s->bound;
			any = true;
		}
	}
	if (!any)
		return d;
	for (int round = 0; round < n; round++) { /* bounds may name earlier fresh symbols */
		ml_dim next = ml_dim_substitute(dims, d, replacement);
		if (next == d)
			break;
		d = next;
	}
	return d;
}

static int64_t
sample(ml_plan *plan, ml_dim d)
{
	int n = ml_sym_count(plan->m->dims);
	int64_t *value = ML_NEW_ARRAY(plan->arena, int64_t, n), result;

	for (int i = 0; i < n; i++) {
		const ml_sym *s = ml_sym_at(plan->m->dims, i);
		value[i] = s->hi < SAMPLE_DIM ? s->hi : s->lo > SAMPLE_DIM ? s->lo : SAMPLE_DIM;
	}
	return ml_dim_eval(d, value, &result) ? result : INT64_MAX;
}

/* What lies in a slot. */
typedef struct slot_use {
	ML_VEC(const ml_buffer *) owners; /* at different times */
	int64_t size;                     /* at sample dims */
} slot_use;

typedef ML_VEC(slot_use) slot_uses;

static bool
has_size(const ml_sizes *sizes, ml_dim bytes)
{
	for (int i = 0; i < sizes->count; i++)
		if (sizes->at[i] == bytes)
			return true;
	return false;
}

void
ml_sizes_add(ml_plan *plan, ml_sizes *sizes, ml_dim bytes)
{
	for (int i = 0; i < sizes->count; i++) {
		if (ml_dim_le(plan->m->dims, bytes, sizes->at[i]))
			return;
		if (ml_dim_le(plan->m->dims, sizes->at[i], bytes)) {
			sizes->at[i] = bytes;
			return;
		}
	}
	ML_PUSH(plan->arena, *sizes, bytes);
}

/* The place of b among the results of the step that makes it, or -1. */
static int
result_of(const ml_step *s, const ml_buffer *b)
{
	for (int i = 0; i < s->nout; i++)
		if (s->buffer[s->nin + i] == b)
			return i;
	return -1;
}

/* Every operand of the step that lies in c is one that the result may be written over. */
static bool
may_overwrite(const ml_step *s, int result, const ml_buffer *c)
{
	bool reads = false;

	for (int i = 0; i < s->nin; i++) {
		if (s->buffer[i] != c)
			continue;
		if (i >= 64 || !(s->in_place[result] >> i & 1))
			return false;
		reads = true;
	}
	return reads;
}

/* Is b the result of the step that c ends with, and may be written over it? */
static bool
is_in_place(ml_plan *plan, const ml_sequence *q, const ml_buffer *b, const ml_buffer *c)
{
	const ml_step *s = &q->steps.at[b->first];
	int result = s->in_place ? result_of(s, b) : -1;

	return result >= 0 && c->last == b->first &&
	       bounded(plan, c->bytes) == bounded(plan, b->bytes) && may_overwrite(s, result, c);
}

/* Is b alone in the slot while it lives?  `in_place`: it takes the place of an operand. */
static bool
is_free(ml_plan *plan, const ml_sequence *q, const slot_use *u, const ml_buffer *b, bool *in_place)
{
	*in_place = false;
	for (int i = 0; i < u->owners.count; i++) {
		const ml_buffer *c = u->owners.at[i];
		if (c->last < b->first || b->last < c->first)
			continue;
		if (is_in_place(plan, q, b, c))
			*in_place = true;
		else if (!is_in_place(plan, q, c, b))
			return false;
	}
	return true;
}

/* The slot of an operand that b may be written over; else the best fitting one that is free; or -1.
 */
static int
find_slot(ml_plan *plan, const ml_sequence *q, const slot_uses *uses, int first_slot,
	  const ml_buffer *b, ml_dim bytes, int64_t size)
{
	int best = -1;
	double best_waste = 0;

	for (int i = 0; i < uses->count; i++) {
		const slot_use *u = &uses->at[i];
		bool in_place;
		if (!is_free(plan, q, u, b, &in_place))
			continue;
		if (in_place)
			return i;
		bool equal = has_size(&plan->slots.at[first_slot + i].bytes, bytes);
		double waste = equal             ? -1
			       : u->size >= size ? (double)u->size - (double)size
						 : 2 * ((double)size - (double)u->size);
		if (best < 0 || waste < best_waste) {
			best = i;
			best_waste = waste;
		}
	}
	return best;
}

/* Memory is reserved before the run, so every size needs a bound by then. */
static ml_status
check_bounded(ml_plan *plan, const ml_prov *at, ml_dim d)
{
	const ml_term *term;

	if (ml_dim_is_bad(d)) {
		ml_error(plan->m->cx, ML_ERR_LIMIT, at,
			 "the size of a result in memory exceeds 64 bits");
		ml_hint(plan->m->cx,
			"give loops a constant trip count, or fix dimensions with --dim");
		return ML_ERR_LIMIT;
	}
	int n = ml_dim_terms(d, &term);
	for (int i = 0; i < n; i++)
		for (int k = 0; k < term[i].natoms; k++)
			if (term[i].atom[k]->kind == ML_ATOM_SYM && term[i].atom[k]->sym->fresh) {
				ml_error(plan->m->cx, ML_ERR_UNSUPPORTED, at,
					 "a result's size depends on data and has no upper bound");
				ml_hint(plan->m->cx, "give loops a constant trip count");
				return ML_ERR_UNSUPPORTED;
			}
	return ML_OK;
}

static const ml_prov *
maker_of(const ml_sequence *s, const ml_buffer *b)
{
	bool known = b->first >= 0 && b->first < s->steps.count && s->steps.at[b->first].node;

	return known ? s->steps.at[b->first].node->prov : NULL;
}

/* A buffer to be placed, and how large it is at sample dims. */
typedef struct placing {
	ml_buffer *b;
	ml_dim bytes;
	int64_t size;
} placing;

/* The largest first: what comes later fits into slots that are there.  Of equal ones the earliest,
 * so that results find the operands they may be written over. */
static int
by_size(const void *a, const void *b)
{
	const placing *x = a, *y = b;

	if (x->size != y->size)
		return x->size > y->size ? -1 : 1;
	return x->b->first != y->b->first ? (x->b->first < y->b->first ? -1 : 1)
					  : (x->b->last > y->b->last) - (x->b->last < y->b->last);
}

static void
place_buffer(ml_plan *plan, const ml_sequence *s, slot_uses *uses, int first_slot,
	     const placing *at)
{
	int slot = find_slot(plan, s, uses, first_slot, at->b, at->bytes, at->size);

	if (slot < 0) {
		slot = uses->count;
		ML_PUSH(plan->arena, *uses, ((slot_use){.size = at->size}));
		ML_PUSH(plan->arena, plan->slots, (ml_slot){0});
	}
	slot_use *u = &uses->at[slot];
	ml_sizes_add(plan, &plan->slots.at[first_slot + slot].bytes, at->bytes);
	u->size = u->size < at->size ? at->size : u->size;
	ML_PUSH(plan->arena, u->owners, at->b);
	at->b->index = first_slot + slot;
}

static ml_status
assign_sequence(ml_plan *plan, ml_sequence *s)
{
	slot_uses uses = {0};
	int first_slot = plan->slots.count, n = s->arena.count;
	placing *at = ML_NEW_ARRAY(plan->arena, placing, n);

	for (int i = 0; i < n; i++) {
		ml_buffer *b = s->arena.at[i];
		at[i] = (placing){.b = b, .bytes = bounded(plan, b->bytes)};
		ML_STEP(check_bounded(plan, maker_of(s, b), at[i].bytes));
		at[i].size = sample(plan, at[i].bytes);
	}
	qsort(at, (size_t)n, sizeof *at, by_size);
	for (int i = 0; i < n; i++)
		place_buffer(plan, s, &uses, first_slot, &at[i]);
	for (int i = 0; i < s->steps.count; i++)
		for (int k = 0; k < 2 && s->steps.at[i].body[k]; k++)
			ML_STEP(assign_sequence(plan, s->steps.at[i].body[k]));
	return ML_OK;
}

ml_status
ml_assign_memory(ml_plan *plan)
{
	ML_STEP(assign_sequence(plan, plan->main));
	for (int i = 0; i < plan->scratch.count; i++) {
		plan->scratch.at[i] = bounded(plan, plan->scratch.at[i]);
		ML_STEP(check_bounded(plan, NULL, plan->scratch.at[i]));
	}
	const ml_node *yield = plan->m->main->last;
	for (int i = 0; i < yield->nin; i++) { /* outputs get memory before the run, too */
		const ml_value *v = ml_in(yield, i);
		ml_dim bytes = ml_type_bytes(plan->m->dims, &v->type);
		ML_STEP(check_bounded(plan, v->def ? v->def->prov : NULL, bounded(plan, bytes)));
	}
	return ML_OK;
}
