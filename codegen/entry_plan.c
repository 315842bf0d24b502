/* entry_plan.c -- the generated mlopt_plan: symbols from input dims, guards, sizes, offsets. */
#include "entry.h"
#include "../runtime/abi.h"
#include <stddef.h>

typedef struct plan_emit {
	ml_emit *e;
	ml_plan *plan;
	ml_dim_source dims;
	ml_v in_dims, state, fault;
} plan_emit;

int
ml_state_outputs(void)
{
	return MLRT_STATE_DIMS;
}

/* First word of the states' rooms. */
static int
state_rooms(const ml_plan *plan)
{
	int n = ml_state_outputs();

	for (int i = 0; i < plan->main->nresults; i++)
		n += ml_in(plan->m->main->last, i)->type.rank;
	return n;
}

int
ml_state_symbols(const ml_plan *plan)
{
	return state_rooms(plan) + plan->states.count;
}

int
ml_state_slots(const ml_plan *plan)
{
	return ml_state_symbols(plan) + ml_sym_count(plan->m->dims);
}

int
ml_state_words(const ml_plan *plan)
{
	return ml_state_slots(plan) + plan->slots.count;
}

static ml_v
word(ml_emit *e, ml_v state, int index)
{
	return ml_gep(e, e->i64, state, ml_i64(e, index));
}

static void
note_overflow(const ml_dim_source *s, ml_v bit)
{
	if (!s->overflow)
		return;
	ml_v old = ml_load(s->e, s->e->i1, s->overflow, 1);
	ml_store(s->e, LLVMBuildOr(s->e->b, old, bit, ""), s->overflow, 1);
}

static ml_v
checked(const ml_dim_source *s, const char *name, ml_v a, ml_v b)
{
	ml_v pair = ml_intrinsic(s->e, name, &s->e->i64, 1, (ml_v[]){a, b}, 2);

	note_overflow(s, LLVMBuildExtractValue(s->e->b, pair, 1, ""));
	return LLVMBuildExtractValue(s->e->b, pair, 0, "");
}

/* Floor division; a divisor of zero counts as overflow. */
static ml_v
floordiv(const ml_dim_source *s, ml_v a, ml_v b)
{
	LLVMBuilderRef lb = s->e->b;
	ml_v zero = ml_i64(s->e, 0), none = LLVMBuildICmp(lb, LLVMIntEQ, b, zero, "");

	note_overflow(s, none);
	b = LLVMBuildSelect(lb, none, ml_i64(s->e, 1), b, "");
	ml_v q = LLVMBuildSDiv(lb, a, b, ""), r = LLVMBuildSRem(lb, a, b, "");
	ml_v signs = LLVMBuildICmp(lb, LLVMIntSLT, LLVMBuildXor(lb, r, b, ""), zero, "");
	ml_v inexact = LLVMBuildICmp(lb, LLVMIntNE, r, zero, "");
	ml_v down = LLVMBuildAnd(lb, signs, inexact, "");
	return LLVMBuildSub(lb, q, LLVMBuildZExt(lb, down, s->e->i64, ""), "");
}

static ml_v
emit_atom(const ml_dim_source *s, const ml_atom *a)
{
	ml_emit *e = s->e;

	if (a->kind == ML_ATOM_SYM)
		return ml_load(e, e->i64,
			       word(e, s->state, ml_state_symbols(s->plan) + a->sym->index), 8);
	ml_v x = ml_emit_dim(s, a->a), y = ml_emit_dim(s, a->b);
	ml_v args[] = {x, y};
	switch (a->kind) {
	case ML_ATOM_SYM: break;
	case ML_ATOM_FLOORDIV: return floordiv(s, x, y);
	case ML_ATOM_MOD:
		return LLVMBuildSub(e->b, x, LLVMBuildMul(e->b, y, floordiv(s, x, y), ""), "");
	case ML_ATOM_MIN: return ml_intrinsic(e, "llvm.smin", &e->i64, 1, args, 2);
	case ML_ATOM_MAX: return ml_intrinsic(e, "llvm.smax", &e->i64, 1, args, 2);
	}
	return x;
}

ml_v
ml_emit_dim(const ml_dim_source *s, ml_dim d)
{
	const ml_term *term;
	int n = ml_dim_terms(d, &term);
	ml_v sum = ml_i64(s->e, 0);

	for (int i = 0; i < n; i++) {
		ml_v product = ml_i64(s->e, term[i].coefficient);
		for (int k = 0; k < term[i].natoms; k++) {
			ml_v atom = emit_atom(s, term[i].atom[k]);
			product = k == 0 && term[i].coefficient == 1
					  ? atom
					  : checked(s, "llvm.smul.with.overflow", product, atom);
		}
		sum = i == 0 ? product : checked(s, "llvm.sadd.with.overflow", sum, product);
	}
	return sum;
}

void
ml_emit_require(ml_emit *e, ml_plan *plan, ml_v fault, const ml_requirement *r)
{
	ml_if bad = ml_if_begin(e, LLVMBuildNot(e->b, r->ok, ""));

	ML_SET_FIELD(e, ml_i32(e, (int32_t)r->status), fault, mlrt_fault, status);
	ML_SET_FIELD(e, ml_i32(e, plan->sites.count), fault, mlrt_fault, site);
	ML_SET_FIELD(e, r->value, fault, mlrt_fault, value);
	ML_SET_FIELD(e, r->limit, fault, mlrt_fault, limit);
	LLVMBuildRet(e->b, ml_i32(e, (int32_t)r->status));
	LLVMPositionBuilderAtEnd(e->b, LLVMAppendBasicBlockInContext(e->lc, e->fn, "unreached"));
	ml_if_end(e, &bad);
	ML_PUSH(plan->arena, plan->sites, r->site);
}

static void
require(plan_emit *p, ml_v ok, ml_status status, const char *site, ml_v value, ml_v limit)
{
	ml_emit_require(p->e, p->plan, p->fault, &(ml_requirement){ok, status, site, value, limit});
}

static ml_v
compare(plan_emit *p, LLVMIntPredicate predicate, ml_v a, ml_v b)
{
	return LLVMBuildICmp(p->e->b, predicate, a, b, "");
}

const ml_sym *
ml_newest_fresh(ml_dim d)
{
	const ml_term *term;
	const ml_sym *newest = NULL, *inner[2];
	int n = ml_dim_terms(d, &term);

	for (int i = 0; i < n; i++)
		for (int k = 0; k < term[i].natoms; k++) {
			const ml_atom *a = term[i].atom[k];
			bool plain = a->kind == ML_ATOM_SYM;
			inner[0] = !plain ? ml_newest_fresh(a->a) : a->sym->fresh ? a->sym : NULL;
			inner[1] = plain ? NULL : ml_newest_fresh(a->b);
			for (int j = 0; j < 2; j++)
				if (inner[j] && (!newest || inner[j]->index > newest->index))
					newest = inner[j];
		}
	return newest;
}

/* The symbol that a dim consists of, or NULL. */
static const ml_sym *
plain_symbol(ml_dim d)
{
	const ml_term *term;

	if (ml_dim_terms(d, &term) != 1 || term[0].coefficient != 1 || term[0].natoms != 1 ||
	    term[0].atom[0]->kind != ML_ATOM_SYM)
		return NULL;
	return term[0].atom[0]->sym;
}

static const char *
input_site(plan_emit *p, int input, int axis, const char *rule)
{
	ml_text t;

	ml_text_init(&t, p->plan->arena);
	ml_put(&t, "input '");
	ml_put_escaped(&t, p->plan->m->main->arg[input]->name ? p->plan->m->main->arg[input]->name
							      : "");
	ml_put(&t, "', dim %d: %s", axis, rule);
	return t.at;
}

static void
bind_symbol(plan_emit *p, const ml_sym *s, ml_v value, const char *site)
{
	ml_emit *e = p->e;

	require(p, compare(p, LLVMIntSGE, value, ml_i64(e, s->lo)), ML_ERR_SHAPE, site, value,
		ml_i64(e, s->lo));
	if (s->hi != INT64_MAX)
		require(p, compare(p, LLVMIntSLE, value, ml_i64(e, s->hi)), ML_ERR_SHAPE, site,
			value, ml_i64(e, s->hi));
	ml_store(e, value, word(e, p->state, ml_state_symbols(p->plan) + s->index), 8);
}

/* Plain symbols are taken from the first dim that shows them; then every dim must fit. */
static ml_status
bind_inputs(plan_emit *p)
{
	ml_emit *e = p->e;
	ml_block *main = p->plan->m->main;
	bool *bound = ML_NEW_ARRAY(p->plan->arena, bool, ml_sym_count(p->plan->m->dims));

	for (int pass = 0; pass < 2; pass++)
		for (int i = 0, at = 0; i < main->nargs; i++)
			for (int k = 0; k < main->arg[i]->type.rank; k++, at++) {
				ml_dim d = main->arg[i]->type.dim[k];
				const ml_sym *s = plain_symbol(d);
				bool binds = s && !bound[s->index] && !s->fresh;
				if (pass == 0 && !binds)
					continue;
				ml_v v = ml_load(e, e->i64, word(e, p->in_dims, at), 8);
				if (pass == 0) {
					bind_symbol(p, s, v,
						    input_site(p, i, k, "size out of range"));
					bound[s->index] = true;
					continue;
				}
				ml_v expected = ml_emit_dim(&p->dims, d);
				require(p, compare(p, LLVMIntEQ, v, expected), ML_ERR_SHAPE,
					input_site(p, i, k, "wrong size"), v, expected);
			}
	return ML_OK;
}

ml_requirement
ml_emit_guard(const ml_dim_source *dims, const ml_guard *g)
{
	LLVMBuilderRef lb = dims->e->b;
	ml_requirement r = {.status = ML_ERR_SHAPE,
			    .site = ml_site_text(dims->plan->arena, g->prov, g->text),
			    .value = ml_emit_dim(dims, g->a),
			    .limit = ml_emit_dim(dims, g->b)};

	switch (g->kind) {
	case ML_GUARD_EQ: r.ok = LLVMBuildICmp(lb, LLVMIntEQ, r.value, r.limit, ""); break;
	case ML_GUARD_LE: r.ok = LLVMBuildICmp(lb, LLVMIntSLE, r.value, r.limit, ""); break;
	case ML_GUARD_DIVIDES: {
		ml_v whole = LLVMBuildMul(lb, floordiv(dims, r.value, r.limit), r.limit, "");
		r.ok = LLVMBuildICmp(lb, LLVMIntEQ, whole, r.value, "");
		break;
	}
	}
	return r;
}

/* Those about sizes that depend on data wait for the data: entry_run.c. */
static void
emit_guards(plan_emit *p)
{
	for (int i = 0; i < p->plan->m->guards.count; i++) {
		const ml_guard *g = &p->plan->m->guards.at[i];
		if (ml_newest_fresh(g->a) || ml_newest_fresh(g->b))
			continue;
		ml_requirement r = ml_emit_guard(&p->dims, g);
		ml_emit_require(p->e, p->plan, p->fault, &r);
	}
}

static void
emit_fresh_bounds(plan_emit *p)
{
	ml_emit *e = p->e;

	for (int i = 0; i < ml_sym_count(p->plan->m->dims); i++) {
		const ml_sym *s = ml_sym_at(p->plan->m->dims, i);
		if (s->fresh)
			ml_store(e, s->bound ? ml_emit_dim(&p->dims, s->bound) : ml_i64(e, 0),
				 word(e, p->state, ml_state_symbols(p->plan) + i), 8);
	}
}

void
ml_emit_plain_states(ml_emit *e, const ml_plan *plan, ml_v state)
{
	for (int i = 0; i < plan->states.count; i++)
		ml_store(e, ml_i64(e, 0), word(e, state, state_rooms(plan) + i), 8);
}

static void
set_symbol(plan_emit *p, const ml_sym *s, ml_v value)
{
	ml_store(p->e, value, word(p->e, p->state, ml_state_symbols(p->plan) + s->index), 8);
}

/* Plain tensors have room for the rows they have. */
static void
emit_states(plan_emit *p)
{
	ml_emit *e = p->e;

	for (int i = 0; i < p->plan->states.count; i++) {
		const ml_state *s = &p->plan->states.at[i];
		ml_v room = ml_load(e, e->i64, word(e, p->state, state_rooms(p->plan) + i), 8);
		ml_v plain = compare(p, LLVMIntEQ, room, ml_i64(e, 0));
		ml_v past = ml_emit_dim(&p->dims, s->past->type.dim[s->axis]);
		ml_v present = ml_emit_dim(&p->dims, s->present->type.dim[s->axis]);
		set_symbol(p, s->past_room, LLVMBuildSelect(e->b, plain, past, room, ""));
		set_symbol(p, s->present_room, LLVMBuildSelect(e->b, plain, present, room, ""));
		set_symbol(p, s->copied, LLVMBuildSelect(e->b, plain, past, ml_i64(e, 0), ""));
	}
}

static ml_v
largest(const ml_dim_source *dims, const ml_sizes *sizes)
{
	ml_emit *e = dims->e;
	ml_v v = ml_i64(e, 0);

	for (int i = 0; i < sizes->count; i++) {
		ml_v args[] = {v, ml_emit_dim(dims, sizes->at[i])};
		v = ml_intrinsic(e, "llvm.smax", &e->i64, 1, args, 2);
	}
	return v;
}

static void
emit_sizes(plan_emit *p)
{
	ml_emit *e = p->e;
	ml_v offset = ml_i64(e, 0), align = ml_i64(e, 63), mask = ml_i64(e, ~(int64_t)63);
	int at = ml_state_outputs();

	for (int i = 0; i < p->plan->main->nresults; i++) {
		const ml_type *t = &ml_in(p->plan->m->main->last, i)->type;
		for (int k = 0; k < t->rank; k++)
			ml_store(e, ml_emit_dim(&p->dims, t->dim[k]), word(e, p->state, at++), 8);
		ml_emit_dim(&p->dims, p->plan->main->result[i]->bytes); /* must not overflow */
	}
	for (int i = 0; i < p->plan->slots.count; i++) {
		ml_store(e, offset, word(e, p->state, ml_state_slots(p->plan) + i), 8);
		offset = checked(&p->dims, "llvm.sadd.with.overflow", offset,
				 largest(&p->dims, &p->plan->slots.at[i].bytes));
		offset = checked(&p->dims, "llvm.sadd.with.overflow", offset, align);
		offset = LLVMBuildAnd(e->b, offset, mask, "");
	}
	ml_v scratch = checked(&p->dims, "llvm.sadd.with.overflow",
			       largest(&p->dims, &p->plan->scratch), align);
	ml_store(e, offset, word(e, p->state, MLRT_STATE_ARENA), 8);
	ml_store(e, LLVMBuildAnd(e->b, scratch, mask, ""), word(e, p->state, MLRT_STATE_SCRATCH),
		 8);
}

ml_v
ml_emit_plan_function(ml_emit *e, ml_plan *plan)
{
	LLVMTypeRef params[] = {e->ptr, e->i32, e->ptr, e->ptr};
	plan_emit p = {.e = e, .plan = plan};
	ml_v fn = ml_emit_function(e, "mlopt_plan", e->i32, params, 4);

	p.in_dims = LLVMGetParam(fn, 0);
	p.state = LLVMGetParam(fn, 2);
	p.fault = LLVMGetParam(fn, 3);
	p.dims = (ml_dim_source){e, plan, p.state, LLVMBuildAlloca(e->b, e->i1, "overflow")};
	ml_store(e, LLVMConstInt(e->i1, 0, 0), p.dims.overflow, 1);
	if (bind_inputs(&p) != ML_OK)
		return NULL;
	emit_guards(&p);
	emit_fresh_bounds(&p);
	emit_states(&p);
	emit_sizes(&p);
	ml_v fine = LLVMBuildNot(e->b, ml_load(e, e->i1, p.dims.overflow, 1), "");
	require(&p, fine, ML_ERR_LIMIT, "sizes overflow 64 bits or a size is divided by zero",
		ml_i64(e, 0), ml_i64(e, 0));
	LLVMBuildRet(e->b, ml_i32(e, 0));
	return fn;
}
