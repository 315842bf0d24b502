/* expr.c -- expressions at symbolic indices: what is known, leaves, and the walk by class. */
#include "expr.h"
#include "../runtime/abi.h"
#include <assert.h>
#include <string.h>

/* ---- opening and closing ---- */

static ml_v
task_field(ml_expr *x, size_t offset, LLVMTypeRef type)
{
	ml_v p = ml_gep(x->e, x->e->i8, x->task, ml_i64(x->e, (int64_t)offset));

	return ml_load(x->e, type, p, 8);
}

void
ml_expr_set_symbol(ml_expr *x, const ml_sym *s, ml_v v)
{
	while (x->sym_value.count <= s->index)
		ML_PUSH(x->arena, x->sym_value, NULL);
	x->sym_value.at[s->index] = v;
}

void
ml_expr_open(ml_expr *x, ml_emit *e, ml_kernel *k, const char *name)
{
	LLVMTypeRef params[] = {e->ptr, e->i64, e->i64, e->ptr};
	LLVMTypeRef room = LLVMArrayType2(e->i8, 128);
	int nbuffers = k->m->main->nargs + k->m->main->last->nin;

	*x = (ml_expr){
		.e = e, .kernel = k, .arena = e->arena, .axis.lanes = ML_LANES, .unrolled = 1};
	ml_emit_function(e, name, e->none, params, 4);
	x->task = LLVMGetParam(e->fn, 0);
	x->scratch = LLVMGetParam(e->fn, 3);
	x->nowhere = ml_alloca(e, room, 64);
	ml_store(e, LLVMConstNull(room), x->nowhere, 64);
	ml_v buffers = task_field(x, offsetof(mlrt_task, buffer), e->ptr);
	ml_v dims = task_field(x, offsetof(mlrt_task, dim), e->ptr);
	x->buffer = ML_NEW_ARRAY(e->arena, ml_v, nbuffers);
	for (int i = 0; i < nbuffers; i++)
		x->buffer[i] = ml_load(e, e->ptr, ml_gep(e, e->ptr, buffers, ml_i64(e, i)), 8);
	for (int i = 0; i < ml_sym_count(k->m->dims); i++) {
		const ml_sym *s = ml_sym_at(k->m->dims, i);
		if (!s->bound) /* else an index of an earlier analysis */
			ml_expr_set_symbol(
				x, s, ml_load(e, e->i64, ml_gep(e, e->i64, dims, ml_i64(e, i)), 8));
	}
}

void
ml_expr_analyse(ml_expr *x, ml_kernel *k)
{
	*x = (ml_expr){.kernel = k, .arena = &k->m->arena, .axis.lanes = ML_LANES, .unrolled = 1};
}

ml_status
ml_expr_close(ml_expr *x)
{
	LLVMBuildRetVoid(x->e->b);
	return x->failed;
}

ml_v
ml_expr_begin(ml_expr *x)
{
	return LLVMGetParam(x->e->fn, 1);
}

ml_v
ml_expr_end(ml_expr *x)
{
	return LLVMGetParam(x->e->fn, 2);
}

ml_v
ml_expr_fail(ml_expr *x, const ml_value *v, const char *what)
{
	if (x->failed == ML_OK)
		x->failed =
			ml_error(x->kernel->m->cx, ML_ERR_CODEGEN, v->def ? v->def->prov : NULL,
				 "%s: %s", v->def ? ml_op_get(v->def->op)->name : "argument", what);
	return LLVMConstNull(ml_register_type(x->e, v->type.dtype));
}

/* ---- loop variables ---- */

const ml_sym *
ml_expr_loop_var(ml_expr *x, ml_v value, ml_dim inclusive_bound)
{
	ml_sym *s = ml_sym_fresh(x->kernel->m->dims, inclusive_bound);

	ml_expr_set_symbol(x, s, value);
	return s;
}

ml_dim
ml_expr_lanes(ml_expr *x, ml_v block, ml_dim size)
{
	ml_dims *dims = x->kernel->m->dims;
	ml_dim last = ml_dim_sub(dims, size, ml_dim_int(dims, 1)),
	       lanes = ml_dim_int(dims, ML_LANES);

	x->axis.position = ml_expr_loop_var(x, NULL, last);
	x->axis.block = ml_expr_loop_var(x, block, ml_dim_floordiv(dims, last, lanes));
	x->axis.lane = ml_expr_loop_var(x, ml_iota_i64(x->e), ml_dim_int(dims, ML_LANES - 1));
	return ml_dim_add(dims, ml_dim_mul(dims, lanes, ml_dim_sym(dims, x->axis.block)),
			  ml_dim_sym(dims, x->axis.lane));
}

void
ml_expr_set_block(ml_expr *x, ml_v block, ml_v count)
{
	ml_expr_set_symbol(x, x->axis.block, block);
	x->count = count;
}

void
ml_expr_no_lanes(ml_expr *x)
{
	x->axis = (ml_lane_axis){.lanes = ML_LANES};
	x->count = NULL;
}

/* ---- what is known ---- */

int
ml_expr_mark(const ml_expr *x)
{
	return x->known.count;
}

void
ml_expr_release(ml_expr *x, int mark)
{
	x->known.count = mark;
}

static void
know(ml_expr *x, ml_known k)
{
	ML_PUSH(x->arena, x->known, k);
}

void
ml_expr_bind(ml_expr *x, const ml_value *value, ml_v v)
{
	know(x, (ml_known){.value = value, .v = v});
}

const ml_dim *
ml_expr_keep_index(ml_expr *x, const ml_value *v, const ml_dim *index)
{
	ml_dim *copy = ML_NEW_ARRAY(x->arena, ml_dim, v->type.rank);

	for (int k = 0; k < v->type.rank; k++)
		copy[k] = index[k];
	return copy;
}

void
ml_expr_bind_row(ml_expr *x, const ml_value *value, const ml_dim *index, ml_v row, ml_dim position)
{
	know(x, (ml_known){.value = value,
			   .index = ml_expr_keep_index(x, value, index),
			   .row = row,
			   .dim = position});
}

void
ml_expr_bind_strided(ml_expr *x, const ml_value *value, ml_v base, const ml_dim *stride,
		     ml_dim offset)
{
	know(x, (ml_known){.value = value,
			   .stride = ml_expr_keep_index(x, value, stride),
			   .row = base,
			   .dim = offset});
}

static bool
matches(const ml_expr *x, const ml_known *k, const ml_value *v, const ml_dim *index)
{
	if (k->value != v)
		return false;
	if (!k->index)
		return true;
	return (k->row || k->mask == x->mask) &&
	       (v->type.rank == 0 ||
		!memcmp(k->index, index, (size_t)v->type.rank * sizeof *index));
}

static const ml_known *
find(const ml_expr *x, const ml_value *v, const ml_dim *index)
{
	for (int i = x->known.count; i-- > 0;)
		if (matches(x, &x->known.at[i], v, index))
			return &x->known.at[i];
	return NULL;
}

/* ---- dims as code ---- */

bool
ml_expr_depends_on_lane(const ml_expr *x, ml_dim d)
{
	const ml_term *t;
	int n = ml_dim_terms(d, &t);

	for (int i = 0; i < n; i++)
		for (int k = 0; k < t[i].natoms; k++) {
			const ml_atom *a = t[i].atom[k];
			if (a->kind != ML_ATOM_SYM) {
				if (ml_expr_depends_on_lane(x, a->a) ||
				    ml_expr_depends_on_lane(x, a->b))
					return true;
			} else if (a->sym == x->axis.position ||
				   ml_is_vector(x->sym_value.at[a->sym->index])) {
				return true;
			}
		}
	return false;
}

/* Floor division of i64; the divisor is at least 1. */
static ml_v
floor_divide(ml_expr *x, ml_v a, ml_v b, bool a_may_be_negative)
{
	LLVMBuilderRef lb = x->e->b;
	ml_v like = ml_is_vector(a) ? a : b;

	a = ml_splat_like(x->e, a, like);
	b = ml_splat_like(x->e, b, like);
	if (!a_may_be_negative)
		return LLVMBuildUDiv(lb, a, b, "");
	ml_v zero = LLVMConstNull(LLVMTypeOf(a));
	ml_v negative = LLVMBuildICmp(lb, LLVMIntSLT, a, zero, "");
	ml_v flipped = LLVMBuildSelect(lb, negative, LLVMBuildNot(lb, a, ""), a, "");
	ml_v q = LLVMBuildUDiv(lb, flipped, b, "");
	return LLVMBuildSelect(lb, negative, LLVMBuildNot(lb, q, ""), q, "");
}

static bool
may_be_negative(ml_expr *x, ml_dim d)
{
	int64_t lo, hi;

	ml_dim_range(d, &lo, &hi);
	return lo < 0 && !ml_dim_within(x->kernel->m->dims, &x->axis, d, d);
}

static ml_v
emit_atom(ml_expr *x, const ml_atom *a)
{
	ml_emit *e = x->e;

	if (a->kind == ML_ATOM_SYM)
		return x->sym_value.at[a->sym->index];
	ml_v p = ml_expr_dim(x, a->a), q = ml_expr_dim(x, a->b), like = ml_is_vector(p) ? p : q;
	p = ml_splat_like(e, p, like);
	q = ml_splat_like(e, q, like);
	switch (a->kind) {
	case ML_ATOM_FLOORDIV: return floor_divide(x, p, q, may_be_negative(x, a->a));
	case ML_ATOM_MOD: {
		ml_v quotient = floor_divide(x, p, q, may_be_negative(x, a->a));
		return LLVMBuildSub(e->b, p, LLVMBuildMul(e->b, quotient, q, ""), "");
	}
	case ML_ATOM_MIN: return ml_scalar_op(e, ML_OP_min, ML_s64, (ml_v[]){p, q});
	default: return ml_scalar_op(e, ML_OP_max, ML_s64, (ml_v[]){p, q});
	}
}

static ml_v
combine(ml_emit *e, ml_v a, ml_v b, ml_v (*f)(ml_emit *, ml_v, ml_v))
{
	ml_v like = ml_is_vector(a) ? a : b;

	return f(e, ml_splat_like(e, a, like), ml_splat_like(e, b, like));
}

static ml_v
emit_term(ml_expr *x, const ml_term *t)
{
	ml_v v = ml_i64(x->e, t->coefficient);

	for (int i = 0; i < t->natoms; i++) {
		ml_v atom = emit_atom(x, t->atom[i]);
		v = i == 0 && t->coefficient == 1 ? atom : combine(x->e, v, atom, ml_mul);
	}
	return v;
}

/* The newest symbol of a term: sums are built outer loops first, so that LLVM finds the parts that
 * do not change inside the inner ones. */
static int
term_age(const ml_term *t)
{
	int newest = -1;

	for (int i = 0; i < t->natoms; i++) {
		int age = t->atom[i]->kind == ML_ATOM_SYM ? t->atom[i]->sym->index : 1 << 20;
		newest = age > newest ? age : newest;
	}
	return newest;
}

static ml_v
emit_sum(ml_expr *x, ml_dim d)
{
	const ml_term *t;
	int n = ml_dim_terms(d, &t);
	ml_v sum = ml_i64(x->e, 0);

	for (int age = -1, next; age < INT32_MAX; age = next) {
		next = INT32_MAX;
		for (int i = 0; i < n; i++) {
			int own = term_age(&t[i]);
			if (own == age)
				sum = combine(x->e, sum, emit_term(x, &t[i]), ml_add);
			else if (own > age && own < next)
				next = own;
		}
	}
	return sum;
}

static bool
is_dim(const ml_known *k)
{
	return !k->value && !k->node;
}

void
ml_expr_trace(ml_expr *x, ml_dim d)
{
	if (x->trace && !x->trace->quiet)
		ML_PUSH(x->arena, x->trace->dims, d);
}

ml_v
ml_expr_dim(ml_expr *x, ml_dim d)
{
	int64_t number;

	if (ml_dim_is_int(d, &number))
		return ml_i64(x->e, number);
	if (ml_dim_is_bad(d)) {
		if (x->failed == ML_OK)
			x->failed = ml_error(x->kernel->m->cx, ML_ERR_LIMIT, NULL,
					     "an index expression is too large");
		return ml_i64(x->e, 0);
	}
	ml_expr_trace(x, d);
	for (int i = x->known.count; i-- > 0;)
		if (is_dim(&x->known.at[i]) && x->known.at[i].dim == d)
			return x->known.at[i].v;
	ml_v v = emit_sum(x, d);
	know(x, (ml_known){.dim = d, .v = v});
	return v;
}

/* A quotient whose divisor may be 0, where this code then does not run, gets a symbol. */
static ml_dim
opaque_quotient(ml_expr *x, ml_dim a, ml_dim b)
{
	ml_dims *dims = x->kernel->m->dims;
	ml_dim key[] = {a, b};

	for (int i = x->known.count; i-- > 0;) {
		const ml_known *k = &x->known.at[i];
		if (is_dim(k) && k->index && k->index[0] == a && k->index[1] == b)
			return k->dim;
	}
	ml_dim last = ml_dim_largest(dims, &x->axis, a);
	ml_quotient bound = {0};
	if (last)
		bound = ml_dim_quotient(dims, NULL, last, b);
	ml_v v = NULL;
	if (x->e) {
		ml_v by[] = {ml_expr_dim(x, b), ml_i64(x->e, 1)};
		v = floor_divide(x, ml_expr_dim(x, a), ml_scalar_op(x->e, ML_OP_max, ML_s64, by),
				 may_be_negative(x, a));
	}
	ml_sym *s = ml_sym_fresh(dims, bound.rest || !last ? a : bound.whole);
	ml_expr_set_symbol(x, s, v);
	ml_dim *index = ML_NEW_ARRAY(x->arena, ml_dim, 2);
	memcpy(index, key, sizeof key);
	know(x, (ml_known){.dim = ml_dim_sym(dims, s), .index = index, .v = v});
	return ml_dim_sym(dims, s);
}

ml_dim
ml_expr_divide(ml_expr *x, ml_dim a, ml_dim b, ml_dim *mod)
{
	ml_dims *dims = x->kernel->m->dims;
	ml_quotient q = {.whole = ml_dim_int(dims, 0)};
	int64_t size;

	/* An axis of size zero has no positions: code for them is made, but never runs. */
	if (!ml_dim_is_int(b, &size) || size)
		q = ml_dim_quotient(dims, &x->axis, a, b);
	ml_dim d = q.whole;

	if (q.rest) {
		ml_dim part = ml_dim_floordiv(dims, q.rest, q.by);
		if (ml_dim_is_bad(part))
			part = opaque_quotient(x, q.rest, q.by);
		d = ml_dim_add(dims, d, part);
	}
	if (mod)
		*mod = ml_dim_sub(dims, a, ml_dim_mul(dims, d, b));
	return d;
}

/* ---- the walk ---- */

/* Code that never runs may ask for elements that do not exist. */
static bool
has_element(const ml_value *v, int64_t i)
{
	int64_t count;

	return i >= 0 && ml_type_static_count(&v->type, &count) && i < count;
}

static ml_v
at_content(ml_expr *x, const ml_value *v, const ml_dim *index)
{
	int64_t i = 0;

	if (v->type.rank > 1 || (v->type.rank == 1 && !ml_dim_is_int(index[0], &i)))
		return NULL;
	if (!has_element(v, i))
		return LLVMConstNull(ml_register_type(x->e, v->type.dtype));
	if (ml_dim_is_bad(v->content[i])) /* a number that dims cannot hold */
		return NULL;
	return ml_scalar_cast(x->e, ML_s64, v->type.dtype, ml_expr_dim(x, v->content[i]));
}

/* A table of the module's own: small, since weights are inputs. */
static ml_v
const_table(ml_expr *x, const ml_value *v)
{
	const ml_blob *blob = ml_const_blob(v);
	ml_v init = LLVMConstStringInContext2(x->e->lc, blob->bytes, blob->size, 1);
	ml_v global = ml_private_constant(x->e, init, "table");

	LLVMSetAlignment(global, 64);
	return global;
}

static ml_v
at_const(ml_expr *x, const ml_value *v, const ml_dim *index)
{
	double number;
	int64_t i;
	ml_dim address = ml_expr_linear(x, v->type.rank, v->type.dim, index);

	if (ml_is_splat(v, &number))
		return ml_scalar_of_const(x->e, v, 0);
	if (ml_dim_is_int(address, &i))
		return has_element(v, i) ? ml_scalar_of_const(x->e, v, i)
					 : LLVMConstNull(ml_register_type(x->e, v->type.dtype));
	return ml_expr_load(x, v->type.dtype, const_table(x, v), address);
}

static ml_v
at_source(ml_expr *x, const ml_value *v, const ml_dim *index)
{
	const ml_node *n = v->def;

	if (n->op == ML_OP_const)
		return at_const(x, v, index);
	ml_dim d =
		n->op == ML_OP_iota ? index[ML_A(n, iota, axis).i64] : ML_A(n, dim, value).dims[0];
	return ml_scalar_cast(x->e, ML_s64, v->type.dtype, ml_expr_dim(x, d));
}

/* NumPy broadcasting: right-aligned, dims of size 1 are read at 0. */
static void
broadcast_index(ml_expr *x, const ml_value *operand, int rank, const ml_dim *index, ml_dim *out)
{
	int own = operand->type.rank;

	for (int i = 0; i < own; i++)
		out[i] = ml_dim_equals(operand->type.dim[i], 1) ? ml_dim_int(x->kernel->m->dims, 0)
								: index[rank - own + i];
}

static ml_v
at_operand(ml_expr *x, const ml_value *operand, int rank, const ml_dim *index)
{
	ml_dim own[ML_MAX_RANK];

	broadcast_index(x, operand, rank, index, own);
	return ml_expr_at(x, operand, own);
}

static ml_v
at_elementwise(ml_expr *x, const ml_value *v, const ml_dim *index)
{
	const ml_node *n = v->def;
	const ml_value *number, *zero;
	ml_v in[3];

	if (ml_expr_is_rounded(n, &number, &zero)) {
		ml_v z = zero ? at_operand(x, zero, v->type.rank, index) : NULL;
		return ml_emit_rounded(x->e, v->type.dtype,
				       at_operand(x, number, v->type.rank, index), z);
	}
	for (int i = 0; i < n->nin; i++)
		in[i] = at_operand(x, ml_in(n, i), v->type.rank, index);
	if (n->op == ML_OP_wrap_index)
		return ml_expr_wrap_index(x, n, in[0]);
	return ml_emit_elementwise(x->e, n, in);
}

static ml_v
compute(ml_expr *x, const ml_value *v, const ml_dim *index)
{
	ml_v known = v->content ? at_content(x, v, index) : NULL;

	if (known)
		return known;
	if (!v->def)
		return ml_expr_load(x, v->type.dtype, x->buffer[v->index],
				    ml_expr_linear(x, v->type.rank, v->type.dim, index));
	switch (ml_op_get(v->def->op)->cls) {
	case ML_SOURCE: return at_source(x, v, index);
	case ML_ELEMENTWISE: return at_elementwise(x, v, index);
	case ML_MOVE: return ml_expr_move(x, v->def, index);
	case ML_REDUCE: return ml_expr_reduce(x, v->def, index);
	case ML_CONTRACT: return ml_expr_dot(x, v->def, index);
	case ML_INDEX:
		if (v->def->op == ML_OP_gather)
			return ml_expr_gather(x, v->def, index);
		/* fall through */
	default: return ml_expr_fail(x, v, "not part of an expression");
	}
}

static ml_dim
strided(ml_expr *x, const ml_known *k, const ml_dim *index)
{
	ml_dims *dims = x->kernel->m->dims;
	ml_dim at = k->dim;

	for (int i = 0; i < k->value->type.rank; i++)
		at = ml_dim_add(dims, at, ml_dim_mul(dims, index[i], k->stride[i]));
	return at;
}

ml_v
ml_expr_at(ml_expr *x, const ml_value *v, const ml_dim *index)
{
	const ml_known *k = find(x, v, index);

	if (k && k->stride)
		return ml_expr_load(x, v->type.dtype, k->row, strided(x, k, index));
	/* Kept rows hold the register form, so that nothing is rounded on the way. */
	if (k && k->row)
		return ml_expr_load(x, ml_dtype_computed(v->type.dtype), k->row, k->dim);
	if (k)
		return k->v;
	ml_v result = compute(x, v, index);
	know(x, (ml_known){.value = v,
			   .index = ml_expr_keep_index(x, v, index),
			   .mask = x->mask,
			   .v = result});
	return result;
}
