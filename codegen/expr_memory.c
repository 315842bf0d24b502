/* expr_memory.c -- addresses of elements, and loads and stores that never leave a buffer. */
#include "expr.h"

/* ---- addresses ---- */

ml_dim
ml_expr_linear(ml_expr *x, int rank, const ml_dim *shape, const ml_dim *index)
{
	ml_dims *dims = x->kernel->m->dims;
	ml_dim position = ml_dim_int(dims, 0);

	for (int i = 0; i < rank; i++)
		position = ml_dim_add(dims, ml_dim_mul(dims, position, shape[i]), index[i]);
	return position;
}

void
ml_expr_delinear(ml_expr *x, int rank, const ml_dim *shape, ml_dim position, ml_dim *index)
{
	int first = 0; /* the first dim that is not 1 takes what is left */

	while (first < rank && ml_dim_equals(shape[first], 1))
		index[first++] = ml_dim_int(x->kernel->m->dims, 0);
	for (int i = rank; i-- > first;) {
		if (i == first)
			index[i] = position;
		else if (ml_dim_equals(shape[i], 1))
			index[i] = ml_dim_int(x->kernel->m->dims, 0);
		else
			position = ml_expr_divide(x, position, shape[i], &index[i]);
	}
}

/* address = whole (the same in all lanes) + lanes, the terms that differ. */
static void
split_lanes(ml_expr *x, ml_dim address, ml_dim *whole, ml_dim *lanes)
{
	ml_dims *dims = x->kernel->m->dims;
	const ml_term *t;
	int n = ml_dim_terms(address, &t);

	if (ml_dim_is_bad(address)) { /* has no terms; refused when its value is asked for */
		*whole = *lanes = address;
		return;
	}
	*whole = *lanes = ml_dim_int(dims, 0);
	for (int i = 0; i < n; i++) {
		ml_dim term = ml_dim_from_term(dims, &t[i]);
		ml_dim *into = ml_expr_depends_on_lane(x, term) ? lanes : whole;
		*into = ml_dim_add(dims, *into, term);
	}
}

ml_access
ml_expr_access(ml_expr *x, ml_dim address)
{
	ml_dim whole, lanes;

	split_lanes(x, address, &whole, &lanes);
	if (ml_dim_equals(lanes, 0))
		return ML_ACCESS_UNIFORM;
	return x->axis.lane && lanes == ml_dim_sym(x->kernel->m->dims, x->axis.lane)
		       ? ML_ACCESS_CONTIGUOUS
		       : ML_ACCESS_GENERAL;
}

/* ---- lanes that exist ---- */

ml_v
ml_expr_and(ml_expr *x, ml_v a, ml_v b)
{
	if (!a || !b)
		return a ? a : b;
	ml_v like = ml_is_vector(a) ? a : b;
	return LLVMBuildAnd(x->e->b, ml_splat_like(x->e, a, like), ml_splat_like(x->e, b, like),
			    "");
}

ml_v
ml_expr_active(ml_expr *x)
{
	ml_v in_count = x->count ? ml_lane_mask(x->e, x->count) : NULL;

	return ml_expr_and(x, in_count, x->mask);
}

ml_v
ml_expr_any(ml_expr *x, ml_v mask)
{
	if (!ml_is_vector(mask))
		return mask;
	LLVMTypeRef type = LLVMTypeOf(mask);
	return ml_intrinsic(x->e, "llvm.vector.reduce.or", &type, 1, &mask, 1);
}

/* The parts of an address: the pointer to what all lanes share, and each lane's own offset. */
typedef struct place {
	ml_access access;
	ml_v pointer, offsets; /* offsets: of general access only */
} place;

static place
locate(ml_expr *x, LLVMTypeRef element, ml_v base, ml_dim address)
{
	ml_dim whole, lanes;
	place p = {.access = ml_expr_access(x, address)};

	ml_expr_trace(x, address);
	if (x->trace) {
		x->trace->quiet++;
		x->trace->scattered += p.access == ML_ACCESS_GENERAL;
	}
	split_lanes(x, address, &whole, &lanes);
	p.pointer = ml_gep(x->e, element, base, ml_expr_dim(x, whole));
	if (p.access == ML_ACCESS_GENERAL)
		p.offsets = ml_expr_dim(x, lanes);
	if (x->trace)
		x->trace->quiet--;
	return p;
}

/* ---- loads ---- */

static ml_v
load_uniform(ml_expr *x, LLVMTypeRef type, ml_v pointer, int bytes)
{
	if (x->mask) {
		ml_v active = ml_is_vector(x->mask) ? ml_expr_active(x) : x->mask;
		pointer = LLVMBuildSelect(x->e->b, ml_expr_any(x, active), pointer, x->nowhere, "");
	}
	return ml_load(x->e, type, pointer, bytes);
}

/* Lane by lane: LLVM's gathers are no faster on the machines at hand, and branch for each lane
 * where they do not exist. */
static ml_v
load_general(ml_expr *x, LLVMTypeRef element, ml_v base, ml_v offsets, int bytes)
{
	ml_emit *e = x->e;
	ml_v v = LLVMConstNull(ml_vec_type(element)), active = ml_expr_active(x);
	int64_t n = ML_LANES;

	if (x->count)
		ml_const_i64(x->count, &n);
	for (int i = 0; i < n; i++) {
		ml_v lane = ml_i32(e, i);
		ml_v p = ml_gep(e, element, base, LLVMBuildExtractElement(e->b, offsets, lane, ""));
		if (active) {
			ml_v here = ml_is_vector(active)
					    ? LLVMBuildExtractElement(e->b, active, lane, "")
					    : active;
			p = LLVMBuildSelect(e->b, here, p, x->nowhere, "");
		}
		v = LLVMBuildInsertElement(e->b, v, ml_load(e, element, p, bytes), lane, "");
	}
	return v;
}

static ml_v
load_contiguous(ml_expr *x, LLVMTypeRef element, ml_v pointer, int bytes)
{
	ml_emit *e = x->e;

	if (!x->mask || !ml_is_vector(x->mask)) {
		if (x->mask)
			pointer = LLVMBuildSelect(e->b, x->mask, pointer, x->nowhere, "");
		return ml_load_lanes(e, element, pointer, x->count, bytes);
	}
	/* With a count that is known, LLVM 19 splits the mask, finds that nobody wants the upper
	 * half of the result, and loads that half without a mask: beyond the buffer's end. */
	if (x->count && LLVMIsConstant(x->count))
		return load_general(x, element, pointer, ml_iota_i64(e), bytes);
	LLVMTypeRef type = ml_vec_type(element);
	ml_v args[] = {pointer, ml_i32(e, bytes), ml_expr_active(x), LLVMConstNull(type)};
	return ml_intrinsic(e, "llvm.masked.load", (LLVMTypeRef[]){type, e->ptr}, 2, args, 4);
}

ml_v
ml_expr_load(ml_expr *x, ml_dtype t, ml_v base, ml_dim address)
{
	LLVMTypeRef element = ml_memory_type(x->e, t);
	int bytes = ml_dtype_bytes(t);
	place p = locate(x, element, base, address);
	ml_v v;

	switch (p.access) {
	case ML_ACCESS_UNIFORM: v = load_uniform(x, element, p.pointer, bytes); break;
	case ML_ACCESS_CONTIGUOUS: v = load_contiguous(x, element, p.pointer, bytes); break;
	default: v = load_general(x, element, p.pointer, p.offsets, bytes); break;
	}
	return ml_from_memory(x->e, t, v);
}

/* ---- stores ---- */

static void
store_general(ml_expr *x, LLVMTypeRef element, ml_v base, ml_v offsets, ml_v v, int bytes)
{
	ml_emit *e = x->e;

	for (int i = 0; i < ML_LANES; i++) {
		ml_v lane = ml_i32(e, i);
		ml_v p = ml_gep(e, element, base, LLVMBuildExtractElement(e->b, offsets, lane, ""));
		ml_v one = LLVMBuildExtractElement(e->b, v, lane, "");
		if (!x->count) {
			ml_store(e, one, p, bytes);
			continue;
		}
		ml_v exists = LLVMBuildICmp(e->b, LLVMIntSLT, ml_i64(e, i), x->count, "");
		ml_if f = ml_if_begin(e, exists);
		ml_store(e, one, p, bytes);
		ml_if_end(e, &f);
	}
}

void
ml_expr_store_at(ml_expr *x, ml_dtype t, ml_v base, ml_dim address, ml_v v)
{
	ml_emit *e = x->e;
	LLVMTypeRef element = ml_memory_type(e, t);
	int bytes = ml_dtype_bytes(t);
	place p = locate(x, element, base, address);

	v = ml_to_memory(e, t, v);
	if (p.access == ML_ACCESS_UNIFORM) {
		if (ml_is_vector(v))
			v = LLVMBuildExtractElement(e->b, v, ml_i32(e, 0), "");
		ml_store(e, v, p.pointer, bytes);
		return;
	}
	if (!ml_is_vector(v))
		v = ml_splat(e, v);
	if (p.access == ML_ACCESS_CONTIGUOUS)
		ml_store_lanes(e, v, p.pointer, x->count, bytes);
	else
		store_general(x, element, p.pointer, p.offsets, v, bytes);
}
