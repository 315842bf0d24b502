/* tile.c -- what tiles share: sums, words of several k, ends of rows, slices of 16-lane values. */
#include "tile.h"

ml_v
ml_tile_group(ml_emit *e, ml_v from, ml_v bytes)
{
	ml_v word = ml_i32(e, 0), last = ml_sub(e, bytes, ml_i64(e, 1));

	for (int i = 0; i < ML_TILE_GROUP; i++) {
		ml_v at = ml_min_s(e, ml_i64(e, i), last);
		ml_v byte = LLVMBuildZExt(e->b, ml_load(e, e->i8, ml_gep(e, e->i8, from, at), 1),
					  e->i32, "");
		byte = LLVMBuildShl(e->b, byte, ml_i32(e, 8 * i), "");
		word = LLVMBuildOr(e->b, word, byte, "");
	}
	return word;
}

int
ml_tile_carried(const ml_tile *t)
{
	return t->rows * t->panels + (t->ahead != NULL);
}

void
ml_tile_begin(ml_emit *e, ml_v fresh, const ml_v *first, const ml_v *at, int n, int align,
	      ml_v *acc)
{
	LLVMTypeRef type = LLVMTypeOf(first[0]);
	LLVMBasicBlockRef from[2] = {LLVMGetInsertBlock(e->b), NULL};
	LLVMBasicBlockRef more = LLVMAppendBasicBlockInContext(e->lc, e->fn, "more");
	LLVMBasicBlockRef begin = LLVMAppendBasicBlockInContext(e->lc, e->fn, "begin");

	LLVMBuildCondBr(e->b, fresh, begin, more);
	LLVMPositionBuilderAtEnd(e->b, more);
	for (int i = 0; i < n; i++)
		acc[i] = ml_load(e, type, at[i], align);
	from[1] = LLVMGetInsertBlock(e->b);
	LLVMBuildBr(e->b, begin);
	LLVMPositionBuilderAtEnd(e->b, begin);
	for (int i = 0; i < n; i++) {
		ml_v value[2] = {first[i], acc[i]};
		acc[i] = LLVMBuildPhi(e->b, type, "");
		LLVMAddIncoming(acc[i], value, from, 2);
	}
}

void
ml_tile_begin_sums(ml_emit *e, const ml_tile *t, LLVMTypeRef element, ml_v *acc)
{
	int n = t->rows * t->panels;
	ml_v zero[ML_TILE_MAX], at[ML_TILE_MAX];

	for (int i = 0; i < n; i++) {
		zero[i] = LLVMConstNull(ml_vec_type(element));
		at[i] = ml_gep(e, element, t->acc, ml_i64(e, i * ML_LANES));
	}
	ml_tile_begin(e, LLVMBuildICmp(e->b, LLVMIntEQ, t->pass, ml_i64(e, 0), ""), zero, at, n,
		      ML_TILE_ALIGN, acc);
	acc[n] = t->ahead;
}

void
ml_tile_forbid_inlining(ml_emit *e, ml_v fn)
{
	unsigned kind = LLVMGetEnumAttributeKindForName("noinline", 8);

	LLVMAddAttributeAtIndex(fn, LLVMAttributeFunctionIndex,
				LLVMCreateEnumAttribute(e->lc, kind, 0));
}

void
ml_tile_fetch(ml_emit *e, ml_v line, int level)
{
	/* read, into L1 (as 3) or L2 and not L1 (as 2), data */
	ml_v args[] = {line, ml_i32(e, 0), ml_i32(e, 4 - level), ml_i32(e, 1)};

	ml_intrinsic(e, "llvm.prefetch", &e->ptr, 1, args, 4);
}

void
ml_tile_fetch_ahead(ml_emit *e, const ml_tile *t, int steps, ml_v *carry)
{
	ml_v *at = &carry[t->rows * t->panels];

	if (!t->ahead)
		return;
	ml_tile_fetch(e, *at, 2);
	*at = ml_gep(e, e->i8, *at, ml_mul(e, t->ahead_step, ml_i64(e, steps)));
}

/* ---- words ---- */

typedef struct words {
	const ml_tile *t;
	LLVMTypeRef element;
	int group;      /* elements of a word, */
	unsigned bytes; /* and of an element */
	ml_tile_multiply *multiply;
	ml_v row[ML_TILE_MAX], panel[ML_TILE_MAX];
} words;

/* acc += A[:, k ..] . B[k .., :] for a word of k, in place.  That of row i is at row[i] + at.  It
 * is loaded where it is used: loaded before, all rows' words would take registers at once. */
static void
step(ml_emit *e, const words *w, const ml_v *row, ml_v at, ml_v k, ml_v *acc)
{
	int panels = w->t->panels;
	ml_v line = ml_mul(e, k, ml_i64(e, ML_LANES)), b[ML_TILE_MAX];

	for (int j = 0; j < panels; j++)
		b[j] = ml_load(e, ml_vec_type(e->i32), ml_gep(e, w->element, w->panel[j], line), 4);
	for (int i = 0; i < w->t->rows; i++) {
		ml_v word = ml_load(e, e->i32, ml_gep(e, w->element, row[i], at), w->bytes);
		ml_v a = ml_splat(e, word);
		for (int j = 0; j < panels; j++)
			acc[i * panels + j] = w->multiply(e, acc[i * panels + j], a, b[j]);
	}
}

/* Runs the words of k from `from` below `to`; the rows' words begin at row[]. */
static void
run_steps(ml_emit *e, const words *w, ml_v from, ml_v to, const ml_v *row, ml_v *carry)
{
	int n = ml_tile_carried(w->t);
	ml_loop l = ml_loop_begin(e, from, to, ml_i64(e, w->group), carry, n, "k");

	for (int i = 0; i < n; i++)
		carry[i] = l.carry[i];
	ml_tile_fetch_ahead(e, w->t, 1, carry);
	step(e, w, row, ml_sub(e, l.i, from), l.i, carry);
	ml_loop_end(e, &l, carry);
	for (int i = 0; i < n; i++)
		carry[i] = l.carry[i];
}

void
ml_tile_words(ml_emit *e, const ml_tile *t, ml_contract_form form, ml_tile_multiply *multiply)
{
	LLVMTypeRef sum = form == ML_CONTRACT_U8S8 ? e->i32 : e->f32;
	words w = {.t = t,
		   .element = ml_form_element(e, form),
		   .group = ml_form_get(form)->group,
		   .bytes = (unsigned)ml_form_get(form)->bytes,
		   .multiply = multiply};
	ml_v carry[ML_TILE_MAX + 1], rest[ML_TILE_MAX];
	ml_v whole = LLVMBuildAnd(e->b, t->k, ml_i64(e, -w.group), "");

	for (int i = 0; i < t->rows; i++) {
		w.row[i] = ml_gep(e, w.element, t->a, ml_mul(e, t->lda, ml_i64(e, i)));
		rest[i] = ml_gep(e, e->i32, t->rest, ml_i64(e, i));
	}
	for (int j = 0; j < t->panels; j++)
		w.panel[j] = ml_gep(e, w.element, t->b, ml_mul(e, t->panel_stride, ml_i64(e, j)));
	ml_tile_begin_sums(e, t, sum, carry);
	run_steps(e, &w, ml_i64(e, 0), whole, w.row, carry);
	run_steps(e, &w, whole, t->k, rest, carry);
	for (int i = 0; i < t->rows * t->panels; i++)
		ml_store(e, carry[i], ml_gep(e, sum, t->acc, ml_i64(e, i * ML_LANES)),
			 ML_TILE_ALIGN);
}

/* ---- slices ---- */

static ml_v
choose_lanes(ml_emit *e, ml_v v, ml_v w, int from, int stride, int count)
{
	ml_v index[4 * ML_LANES];

	for (int i = 0; i < count; i++)
		index[i] = ml_i32(e, from + i * stride);
	return LLVMBuildShuffleVector(e->b, v, w, LLVMConstVector(index, (unsigned)count), "");
}

ml_v
ml_tile_all_lanes(ml_emit *e, int lanes, ml_v word)
{
	LLVMTypeRef type = LLVMVectorType(LLVMTypeOf(word), (unsigned)lanes);
	ml_v first = LLVMBuildInsertElement(e->b, LLVMGetPoison(type), word, ml_i32(e, 0), "");
	LLVMTypeRef places = LLVMVectorType(e->i32, (unsigned)lanes);

	return LLVMBuildShuffleVector(e->b, first, LLVMGetPoison(type), LLVMConstNull(places), "");
}

ml_v
ml_tile_constant_like(ml_emit *e, ml_v v, int32_t word)
{
	ml_v lanes[ML_LANES], one = ml_i32(e, word);
	LLVMTypeRef type = LLVMTypeOf(v);

	if (LLVMGetTypeKind(type) != LLVMVectorTypeKind)
		return one;
	for (unsigned i = 0; i < LLVMGetVectorSize(type); i++)
		lanes[i] = one;
	return LLVMConstVector(lanes, LLVMGetVectorSize(type));
}

ml_v
ml_tile_lanes(ml_emit *e, ml_v v, int from, int stride, int count)
{
	return choose_lanes(e, v, LLVMGetPoison(LLVMTypeOf(v)), from, stride, count);
}

ml_v
ml_tile_by_parts(ml_emit *e, ml_tile_part *part, const char *intrinsic, int parts, ml_v acc, ml_v a,
		 ml_v b)
{
	int n = ML_LANES / parts;
	ml_v out[ML_LANES];

	if (parts == 1)
		return part(e, intrinsic, acc, a, b);
	for (int i = 0; i < parts; i++)
		out[i] = part(e, intrinsic, ml_tile_lanes(e, acc, i * n, 1, n),
			      ml_tile_lanes(e, a, i * n, 1, n), ml_tile_lanes(e, b, i * n, 1, n));
	for (; parts > 1; parts /= 2, n *= 2)
		for (int i = 0; i < parts / 2; i++)
			out[i] = choose_lanes(e, out[2 * i], out[2 * i + 1], 0, 1, 2 * n);
	return out[0];
}
