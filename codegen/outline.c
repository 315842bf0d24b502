/* outline.c -- a group of nodes becomes a kernel specification: a small module of its own.
 *
 * The group's results are rebuilt inside the new module; values with bytes become its inputs,
 * index maps in between are copied along, symbols are renamed d0, d1, ... in order of first use.
 */
#include "../ir/text.h"
#include "plan.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

typedef struct ml_outliner {
	ml_planner *p;
	ml_group *g; /* NULL when packing */
	ml_family family;
	const char *note;
	ml_module *km;
	ml_builder b;
	ml_arena *arena;               /* the plan's */
	ML_VEC(const ml_value *) from; /* copied values, and */
	ML_VEC(ml_value *) to;         /* their copies */
	ml_outlined *io;
	ML_VEC(ml_dim) symbol;         /* the module's dim behind each symbol of km */
	ML_VEC(const ml_prov *) check; /* provenance of each run-time check */
} ml_outliner;

/* ---- dims from one table to the other ---- */

/* Rebuilds d in table `to`, with symbols looked up by `symbol(user, sym)`. */
static ml_dim
rebuild_dim(ml_dims *to, ml_dim d, ml_dim (*symbol)(void *, const ml_sym *), void *user)
{
	const ml_term *term;
	int n = ml_dim_terms(d, &term);
	ml_dim sum = ml_dim_int(to, 0);

	for (int i = 0; i < n; i++) {
		ml_dim product = ml_dim_int(to, term[i].coefficient);
		for (int k = 0; k < term[i].natoms; k++) {
			const ml_atom *a = term[i].atom[k];
			ml_dim x, y, v = NULL;
			if (a->kind == ML_ATOM_SYM) {
				product = ml_dim_mul(to, product, symbol(user, a->sym));
				continue;
			}
			x = rebuild_dim(to, a->a, symbol, user);
			y = rebuild_dim(to, a->b, symbol, user);
			switch (a->kind) {
			case ML_ATOM_SYM: break;
			case ML_ATOM_FLOORDIV: v = ml_dim_floordiv(to, x, y); break;
			case ML_ATOM_MOD: v = ml_dim_mod(to, x, y); break;
			case ML_ATOM_MIN: v = ml_dim_min(to, x, y); break;
			case ML_ATOM_MAX: v = ml_dim_max(to, x, y); break;
			}
			product = ml_dim_mul(to, product, v);
		}
		sum = ml_dim_add(to, sum, product);
	}
	return sum;
}

static ml_dim
inner_symbol(void *user, const ml_sym *s)
{
	ml_outliner *o = user;
	char name[24];
	int i = 0;

	for (; i < o->symbol.count; i++)
		if (o->symbol.at[i] == ml_dim_sym(o->p->plan->m->dims, s))
			return ml_dim_sym(o->km->dims, ml_sym_at(o->km->dims, i));
	int length = snprintf(name, sizeof name, "d%d", i);
	ml_sym *fresh = ml_sym_named(o->km->dims, name, (size_t)length);
	assert(fresh->index == i);
	fresh->lo = s->lo;
	fresh->hi = s->hi;
	ML_PUSH(o->arena, o->symbol, ml_dim_sym(o->p->plan->m->dims, s));
	return ml_dim_sym(o->km->dims, fresh);
}

static ml_dim
inner_dim(ml_outliner *o, ml_dim d)
{
	return rebuild_dim(o->km->dims, d, inner_symbol, o);
}

static ml_dim
outer_symbol(void *user, const ml_sym *s)
{
	ml_outliner *o = user;

	assert(s->index < o->symbol.count);
	return o->symbol.at[s->index];
}

static ml_dim
outer_dim(ml_outliner *o, ml_dim d)
{
	return rebuild_dim(o->p->plan->m->dims, d, outer_symbol, o);
}

/* ---- values ---- */

static ml_value *
remember(ml_outliner *o, const ml_value *v, ml_value *copy)
{
	ML_PUSH(o->arena, o->from, v);
	ML_PUSH(o->arena, o->to, copy);
	return copy;
}

/* Elements of x from `low` on; sizes in the inner module. */
static ml_value *
some_elements(ml_outliner *o, ml_value *x, const ml_dim *low, const ml_dim *size)
{
	int64_t step[ML_MAX_RANK];

	for (int i = 0; i < ML_MAX_RANK; i++)
		step[i] = 1;
	return ml_build_slice(&o->b, x, low, size, step);
}

/* The first elements of each dim of x. */
static ml_value *
first_elements(ml_outliner *o, ml_value *x, const ml_dim *size)
{
	ml_dim zero[ML_MAX_RANK];

	for (int i = 0; i < ML_MAX_RANK; i++)
		zero[i] = ml_dim_int(o->km->dims, 0);
	return some_elements(o, x, zero, size);
}

static ml_value *
add_input(ml_outliner *o, ml_value *v, ml_node *packed_for, int operand)
{
	bool state = !packed_for && ml_state_of(o->p->plan, v);
	bool part = !packed_for && ml_fact_of(v)->whole;
	ml_dim low[ML_MAX_RANK], size[ML_MAX_RANK];
	ml_type t = state  ? ml_state_memory(o->p->plan, v)
		    : part ? ml_outermost(o->p->plan->m->dims, v, low)->type
			   : v->type;

	for (int i = 0; i < t.rank; i++) {
		t.dim[i] = inner_dim(o, t.dim[i]);
		size[i] = inner_dim(o, v->type.dim[i]);
		low[i] = part ? inner_dim(o, low[i]) : NULL;
	}
	ml_value *arg = ml_block_add_arg(o->km->main, &t, NULL);
	ML_PUSH(o->arena, o->io->in, ((ml_read){v, packed_for, operand}));
	if (packed_for)
		return arg;
	return remember(o, v,
			state  ? first_elements(o, arg, size)
			: part ? some_elements(o, arg, low, size)
			       : arg);
}

/* Has v bytes of its own, or the bytes of another value under its shape? */
static bool
has_bytes(const ml_outliner *o, const ml_value *v)
{
	double number;

	if (!v->def)
		return true;
	if (v->def->op == ML_OP_const)
		return !ml_is_splat(v, &number);
	const ml_note *note = ml_note_of(v->def);
	if (note->group && note->group == o->g)
		return false;
	if (note->group || note->stand_alone)
		return true;
	if (ml_fact_of(v)->buffer)
		return true; /* a view some kernel stores through */
	if (v->def->op != ML_OP_reshape)
		return false;
	while (ml_is(v, ML_OP_reshape))
		v = ml_in(v->def, 0);
	return !ml_state_of(o->p->plan, v) && !ml_fact_of(v)->whole && has_bytes(o, v);
}

static ml_value *copy_value(ml_outliner *, ml_value *);

static void
copy_attrs(ml_outliner *o, ml_node *to, const ml_node *from)
{
	const ml_op_info *info = ml_op_get(from->op);

	for (int i = 0; i < info->nattrs; i++) {
		to->attr[i] = from->attr[i];
		if (info->attr[i].kind != ML_ATTR_dims)
			continue;
		ml_dim *dims = ML_NEW_ARRAY(&o->km->arena, ml_dim, from->attr[i].count);
		for (int k = 0; k < from->attr[i].count; k++)
			dims[k] = inner_dim(o, from->attr[i].dims[k]);
		to->attr[i].dims = dims;
	}
}

/* Operands that contractions read as panels. */
static bool
reads_panels(const ml_outliner *o, const ml_node *n, int operand)
{
	return (n->op == ML_OP_dot && o->family == ML_FAMILY_CONTRACT && operand == 1) ||
	       (n->op == ML_OP_linear_u4 && operand > 0);
}

/* The specification of attention holds its body; on integers, itself: the kernel takes it apart. */
static ml_value *
copy_body(ml_node *copy)
{
	ml_builder b = ml_builder_before(copy);
	ml_value *body;

	if (ml_expand(&b, copy, &body) != ML_OK)
		return NULL;
	ml_node_remove(copy);
	return body;
}

static ml_value *
copy_node(ml_outliner *o, ml_value *v)
{
	ml_node *n = v->def;
	ml_value **in = ML_NEW_ARRAY(o->arena, ml_value *, n->nin);

	for (int i = 0; i < n->nin; i++)
		in[i] = reads_panels(o, n, i) ? add_input(o, ml_in(n, i), n, i)
					      : copy_value(o, ml_in(n, i));
	ml_node *copy = ml_begin(&o->b, n->op, in, n->nin);
	if (!copy)
		return NULL;
	copy_attrs(o, copy, n);
	copy = ml_finish(&o->b, copy);
	if (!copy)
		return NULL;
	if (n->op == ML_OP_attention && !ML_A(n, attention, int8).i64)
		return remember(o, v, copy_body(copy));
	if (ml_op_get(n->op)->traits & ML_CHECKS)
		ML_PUSH(o->arena, o->check, n->prov);
	for (int i = 1; i < n->nout; i++)
		remember(o, &n->out[i], &copy->out[i]);
	remember(o, &n->out[0], &copy->out[0]);
	return &copy->out[v->index];
}

/* Larger ones than a text may hold are one element, broadcast: a specification names no bytes. */
static ml_value *
copy_splat(ml_outliner *o, const ml_value *v)
{
	ml_blob *blob = ml_const_blob(v);
	ml_type t = v->type, one = {.dtype = t.dtype};
	size_t width = (size_t)ml_dtype_bytes(t.dtype);
	void *bytes;

	for (int i = 0; i < t.rank; i++)
		t.dim[i] = inner_dim(o, t.dim[i]);
	if (blob->size <= ML_TEXT_SPLAT_BYTES)
		return ml_build_const(&o->b, &t, ml_blob_share(blob));
	ml_blob *element = ml_blob_new(&o->km->cx->memory, width, &bytes);
	memcpy(bytes, blob->bytes, width);
	return ml_build_broadcast(&o->b, ml_build_const(&o->b, &one, element), t.dim, t.rank);
}

static ml_value *
copy_value(ml_outliner *o, ml_value *v)
{
	for (int i = 0; i < o->from.count; i++)
		if (o->from.at[i] == v)
			return o->to.at[i];
	if (has_bytes(o, v))
		return add_input(o, v, NULL, 0);
	if (v->def->op == ML_OP_const)
		return remember(o, v, copy_splat(o, v));
	return copy_node(o, v);
}

/* ---- specifications ---- */

static int
add_spec(ml_plan *plan, const ml_kernel *k)
{
	ml_text t;

	ml_text_init(&t, plan->arena);
	ml_kernel_print(&t, k);
	ml_spec added = {.text = t.at,
			 .length = t.length,
			 .hash = ml_hash_bytes(t.at, t.length, 0),
			 .family = k->family};
	int equal_hashes = 0;
	for (int i = 0; i < plan->specs.count; i++) {
		const ml_spec *s = &plan->specs.at[i];
		if (s->hash != added.hash)
			continue;
		if (s->length == t.length && !memcmp(s->text, t.at, t.length))
			return i;
		equal_hashes++;
	}
	added.symbol = ml_format(plan->arena, equal_hashes ? "k%016llx_%d" : "k%016llx",
				 (unsigned long long)added.hash, equal_hashes);
	ML_PUSH(plan->arena, plan->specs, added);
	return plan->specs.count - 1;
}

static void
add_sites(ml_outliner *o, ml_step *step)
{
	ml_plan *plan = o->p->plan;

	step->site = plan->sites.count;
	step->nsites = o->check.count;
	for (int i = 0; i < o->check.count; i++)
		ML_PUSH(plan->arena, plan->sites,
			ml_site_text(plan->arena, o->check.at[i], "index out of range"));
}

static ml_status
finish(ml_outliner *o, ml_step *step, ml_value *const *result, int nresults)
{
	ml_plan *plan = o->p->plan;
	ml_kernel k = {.family = o->family, .m = o->km, .note = o->note};
	ml_grid grid;

	if (o->g)
		k.row_axes = o->g->row_axes;
	ML_STEP(o->b.failed);
	ML_STEP(ml_build_yield(&o->b, result, nresults));
	o->km->guards.count = 0; /* the module's own guards hold */
	ML_STEP(ml_kernel_grid(&k, &grid));
	uint64_t *in_place = ML_NEW_ARRAY(plan->arena, uint64_t, nresults);
	for (int i = 0; i < nresults; i++)
		in_place[i] = ml_kernel_in_place(&k, i);
	step->in_place = in_place;
	step->kind = ML_STEP_KERNEL;
	step->spec = add_spec(plan, &k);
	step->ndims = o->symbol.count;
	step->dim = o->symbol.at;
	step->tiles = outer_dim(o, grid.tiles);
	step->scratch_bytes = outer_dim(o, grid.scratch_bytes);
	ml_sizes_add(plan, &plan->scratch, step->scratch_bytes);
	add_sites(o, step);
	return ML_OK;
}

static ml_outliner
begin(ml_planner *p, ml_family family, ml_group *g, ml_outlined *io)
{
	ml_outliner o = {
		.p = p, .g = g, .family = family, .note = "", .arena = p->plan->arena, .io = io};

	o.km = ml_module_new(p->plan->m->cx, "");
	o.b = ml_builder_at_end(o.km->main, NULL);
	return o;
}

/* Kernels read bytes, not shapes: name the value behind reshapes. */
static void
read_behind_aliases(ml_outlined *io)
{
	for (int i = 0; i < io->in.count; i++) {
		ml_value **v = &io->in.at[i].value;
		while (!io->in.at[i].packed_for && ml_is(*v, ML_OP_reshape) &&
		       !ml_fact_of(*v)->buffer)
			*v = ml_in((*v)->def, 0);
	}
}

/* Writes x, a copy of v, from `low` on within a result of the type. */
static ml_value *
within(ml_outliner *o, ml_value *x, const ml_type *whole, const ml_dim *low)
{
	ml_dims *dims = o->km->dims;
	ml_dim from[ML_MAX_RANK], behind[ML_MAX_RANK];
	int64_t interior[ML_MAX_RANK] = {0};

	for (int i = 0; x && i < x->type.rank; i++) {
		from[i] = inner_dim(o, low[i]);
		ml_dim end = ml_dim_add(dims, from[i], x->type.dim[i]);
		behind[i] = ml_dim_sub(dims, inner_dim(o, whole->dim[i]), end);
	}
	o->note = ML_KERNEL_WITHIN;
	return x ? ml_build_pad(&o->b, x, ml_build_f64(&o->b, x->type.dtype, 0), from, behind,
				interior)
		 : NULL;
}

/* What a kernel's result is for v: its copy, within the whole if v is a part of one. */
static ml_value *
result_of(ml_outliner *o, ml_value *v)
{
	ml_value *copy = copy_value(o, v);
	ml_dim low[ML_MAX_RANK];
	const ml_value *whole = ml_outermost(o->p->plan->m->dims, v, low);

	return whole == v ? copy : within(o, copy, &whole->type, low);
}

ml_status
ml_outline(ml_planner *p, ml_group *g, ml_step *step, ml_outlined *io)
{
	ml_outliner o = begin(p, g->family, g, io);
	ML_VEC(ml_value *) result = {0};

	for (int i = 0; i < g->nodes.count; i++) {
		ml_node *n = g->nodes.at[i];
		for (int k = 0; k < n->nout; k++)
			if (ml_value_needs_buffer(&n->out[k]))
				ML_PUSH(o.arena, io->out, ml_fact_of(&n->out[k])->stored);
	}
	for (int i = 0; i < io->out.count; i++)
		ML_PUSH(o.arena, result, result_of(&o, io->out.at[i]));
	step->node = g->nodes.at[0];
	ml_status st = finish(&o, step, result.at, result.count);
	ml_module_free(o.km);
	read_behind_aliases(io);
	return st;
}

/* An operand's axes as panels have them: batch, contracted, free. */
static void
panel_axes(const ml_node *n, int operand, int64_t *perm, int *nbatch, int *ncontract)
{
	ml_attr batch = ML_A(n, dot, rhs_batch), contract = ML_A(n, dot, rhs_contract);
	bool taken[ML_MAX_RANK] = {false};
	int at = 0;

	for (int i = 0; i < batch.count; i++)
		taken[perm[at++] = batch.ints[i]] = true;
	for (int i = 0; i < contract.count; i++)
		taken[perm[at++] = contract.ints[i]] = true;
	for (int i = 0; i < ml_in(n, operand)->type.rank; i++)
		if (!taken[i])
			perm[at++] = i;
	*nbatch = batch.count;
	*ncontract = contract.count;
}

void
ml_panel_sizes(ml_dims *dims, const ml_read *r, ml_dim size[3])
{
	const ml_type *t = &ml_in(r->packed_for, r->operand)->type;
	int64_t perm[ML_MAX_RANK];
	int nbatch, ncontract;

	panel_axes(r->packed_for, r->operand, perm, &nbatch, &ncontract);
	size[0] = size[1] = size[2] = ml_dim_int(dims, 1);
	for (int i = 0; i < t->rank; i++) {
		ml_dim *into = &size[i < nbatch ? 0 : i < nbatch + ncontract ? 1 : 2];
		*into = ml_dim_mul(dims, *into, t->dim[perm[i]]);
	}
}

ml_status
ml_outline_pack(ml_planner *p, const ml_read *r, ml_step *step, ml_outlined *io)
{
	ml_outliner o = begin(p, ML_FAMILY_PACK, NULL, io);
	int64_t perm[ML_MAX_RANK];
	int nbatch, ncontract;
	ml_dim size[3];

	panel_axes(r->packed_for, r->operand, perm, &nbatch, &ncontract);
	ml_panel_sizes(p->plan->m->dims, r, size);
	ml_value *v = copy_value(&o, ml_in(r->packed_for, r->operand));
	v = ml_build_transpose(&o.b, v, perm);
	for (int i = 0; i < 3; i++)
		size[i] = inner_dim(&o, size[i]);
	v = ml_build_reshape(&o.b, v, size, 3);
	step->node = r->packed_for;
	ml_status st = finish(&o, step, &v, 1);
	ml_module_free(o.km);
	read_behind_aliases(io);
	return st;
}

ml_status
ml_outline_part(ml_planner *p, ml_node *concat, int operand, ml_step *step, ml_outlined *io)
{
	ml_dims *dims = p->plan->m->dims;
	ml_outliner o = begin(p, ML_FAMILY_ROWS, NULL, io);
	int64_t axis = ML_A(concat, concat, axis).i64;
	ml_dim low[ML_MAX_RANK];
	const ml_value *whole = ml_outermost(dims, &concat->out[0], low);

	for (int i = 0; i < operand; i++)
		low[axis] = ml_dim_add(dims, low[axis], ml_in(concat, i)->type.dim[axis]);
	ml_value *v = copy_value(&o, ml_in(concat, operand));
	v = within(&o, v, &whole->type, low);
	ML_PUSH(o.arena, io->out, &concat->out[0]);
	step->node = concat;
	ml_status st = finish(&o, step, &v, 1);
	ml_module_free(o.km);
	read_behind_aliases(io);
	return st;
}

/* ---- states ---- */

/* Writes `rows`, a value of the inner module, within the present from row `at` on. */
static ml_status
finish_within(ml_outliner *o, const ml_state *s, ml_value *rows, ml_dim at, ml_step *step)
{
	ml_type room = ml_state_memory(o->p->plan, s->present);
	ml_dim low[ML_MAX_RANK];

	for (int i = 0; i < room.rank; i++)
		low[i] = ml_dim_int(o->p->plan->m->dims, 0);
	low[s->axis] = at;
	rows = within(o, rows, &room, low);
	ML_PUSH(o->arena, o->io->out, s->present);
	step->node = s->present->def;
	ml_status st = finish(o, step, &rows, 1);
	ml_module_free(o->km);
	read_behind_aliases(o->io);
	return st;
}

ml_status
ml_outline_copied(ml_planner *p, const ml_state *s, ml_step *step, ml_outlined *io)
{
	ml_outliner o = begin(p, ML_FAMILY_ROWS, NULL, io);
	ml_dim size[ML_MAX_RANK];

	ml_value *past = copy_value(&o, s->past);
	for (int i = 0; i < s->past->type.rank; i++)
		size[i] = inner_dim(&o, s->past->type.dim[i]);
	size[s->axis] = inner_dim(&o, ml_dim_sym(p->plan->m->dims, s->copied));
	past = past ? first_elements(&o, past, size) : NULL;
	return finish_within(&o, s, past, ml_dim_int(p->plan->m->dims, 0), step);
}

ml_status
ml_outline_appended(ml_planner *p, const ml_state *s, ml_step *step, ml_outlined *io)
{
	ml_outliner o = begin(p, ML_FAMILY_ROWS, NULL, io);

	return finish_within(&o, s, copy_value(&o, ml_in(s->present->def, 1)),
			     s->past->type.dim[s->axis], step);
}
