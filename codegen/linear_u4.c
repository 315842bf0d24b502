/* linear_u4.c -- linear layers on weights of four bits, with scales per group of k.
 *
 * A thread makes rows of x s8 with a scale per row and group in scratch, once for all its tiles of
 * these rows, and goes through their panels: nibbles are the unsigned factor of a byte product, so
 * that no level saturates (15 * 127 * 2 fits 16 bits eight times over).  A group's products are
 * summed in s32, exactly; its zero points enter as the start of that sum.  Groups are added in
 * order, with one fma each, so an element has the same bits whatever tile it falls into, on every
 * level.
 */
#include "linear_u4.h"
#include "dots.h"
#include "family.h"
#include "tile.h"

enum {
	ROWS = 32,        /* of a tile */
	LARGEST = 256,    /* group; longer ones have too much code */
	CHUNK = 32,       /* k summed in 16 bits at most */
	AHEAD = 256,      /* k of a block that are fetched before they are read */
	MAX_SUMS = 16,    /* accumulators of a register tile */
	MARGIN = ML_LANES /* elements behind scratch rows */
};

typedef struct u4_emit {
	ml_expr x;
	ml_dots_emit dots; /* d and what ml_dots_store wants */
	const ml_node *n;
	ml_dim panel_blocks;
	int64_t k, groups, size;    /* of a group */
	ml_v values, scales, zeros; /* panels */
	ml_v q;                     /* scratch: s8 [ROWS][k] */
	ml_v row_scale, row_sum;    /* scratch: f32, s32 [ROWS][groups] */
	ml_v acc;                   /* f32 [rows * panels][16] */
} u4_emit;

bool
ml_u4_has_kernel(const ml_node *n)
{
	if (n->op != ML_OP_linear_u4)
		return false;
	for (int i = 1; i < n->nin; i++)
		if (!ml_is_const(ml_in(n, i)))
			return false;
	int64_t k = ml_dim_value(ml_in(n, 1)->type.dim[0], 0);
	int64_t groups = ml_dim_value(ml_in(n, 2)->type.dim[0], 0);
	ml_dtype scale = ml_in(n, 2)->type.dtype;

	return k > 0 && k / groups % ML_LANES == 0 && k / groups <= LARGEST &&
	       (scale == ML_f32 || scale == ML_f16);
}

static const ml_node *
find(const ml_kernel *k)
{
	for (const ml_node *n = k->m->main->first; n; n = n->next)
		if (n->op == ML_OP_linear_u4)
			return n;
	return NULL;
}

/* ---- sizes ---- */

static ml_status
plan(ml_kernel *kernel, u4_emit *w)
{
	ml_dims *dims = kernel->m->dims;
	const ml_node *n = find(kernel);
	ml_dots *d = &w->dots.d;

	if (!n)
		return ml_error(kernel->m->cx, ML_ERR_CODEGEN, NULL,
				"a kernel for 4-bit weights without a layer that has them");
	const ml_type *t = &n->out[0].type;
	w->n = n;
	w->k = ml_dim_value(ml_in(n, 1)->type.dim[0], 0);
	w->groups = ml_dim_value(ml_in(n, 2)->type.dim[0], 0);
	w->size = w->k / w->groups;
	*d = (ml_dots){.kernel = kernel, .dot = n, .nrows = t->rank - 1, .ncolumns = 1, .nk = 1};
	d->batches = d->m = ml_dim_int(dims, 1);
	for (int i = 0; i < t->rank - 1; i++)
		d->m = ml_dim_mul(dims, d->m, t->dim[i]);
	d->n = t->dim[t->rank - 1];
	d->k = ml_in(n, 1)->type.dim[0];
	d->row_blocks = ml_dim_ceildiv(dims, d->m, ml_dim_int(dims, ROWS));
	w->panel_blocks = ml_dim_ceildiv(dims, d->n, ml_dim_int(dims, ML_U4_COLUMNS));
	return ML_OK;
}

ml_status
ml_u4_grid(ml_kernel *k, ml_grid *grid)
{
	u4_emit w = {.n = NULL};

	ML_STEP(plan(k, &w));
	grid->tiles = ml_dim_mul(k->m->dims, w.dots.d.row_blocks, w.panel_blocks);
	grid->scratch_bytes = ml_dim_int(k->m->dims, ROWS * (w.k + 8 * w.groups) + MARGIN);
	return ML_OK;
}

/* ---- rows ---- */

/* 16 elements of row `row` (a symbol's value by now) at k = 16 * block. */
static ml_v
load_x(u4_emit *w, ml_dim position, ml_v block)
{
	ml_expr *x = &w->x;
	ml_dims *dims = x->kernel->m->dims;
	const ml_value *v = ml_in(w->n, 0);
	ml_dim index[ML_MAX_RANK];
	int rows = w->dots.d.nrows;
	int mark = ml_expr_mark(x);

	ml_expr_set_block(x, block, NULL);
	ml_expr_delinear(x, rows, v->type.dim, ml_dim_sym(dims, w->dots.row), index);
	index[rows] = position;
	ml_v loaded = ml_expr_at(x, v, index);
	ml_expr_release(x, mark);
	return ml_is_vector(loaded) ? loaded : ml_splat(x->e, loaded);
}

static ml_v
larger(ml_emit *e, ml_v a, ml_v b)
{
	return ml_scalar_op(e, ML_OP_max, ML_f32, (ml_v[]){a, b});
}

static ml_v
plus(ml_emit *e, ml_v a, ml_v b)
{
	return ml_add(e, a, b);
}

/* The scale of a group, and its reciprocal. */
static ml_v
scale_of(ml_emit *e, ml_v top, ml_v *inverse)
{
	ml_v one = ml_f32(e, 1);
	ml_v scale = ml_scalar_op(e, ML_OP_mul, ML_f32, (ml_v[]){top, ml_f32(e, 1. / 127)});
	ml_v empty = LLVMBuildFCmp(e->b, LLVMRealOLT, scale, ml_f32(e, 1e-37), "");

	scale = LLVMBuildSelect(e->b, empty, one, scale, "");
	*inverse = ml_scalar_op(e, ML_OP_div, ML_f32, (ml_v[]){one, scale});
	return scale;
}

static void
quantize_group(u4_emit *w, ml_v row, ml_v group, ml_dim position)
{
	ml_emit *e = w->x.e;
	int n = (int)(w->size / ML_LANES);
	ml_v v[LARGEST / ML_LANES], top = NULL, inverse, sum = NULL;
	ml_v first = ml_mul(e, group, ml_i64(e, n)); /* block */
	ml_v at = ml_add(e, ml_mul(e, row, ml_i64(e, w->groups)), group);

	for (int i = 0; i < n; i++) {
		v[i] = load_x(w, position, ml_add(e, first, ml_i64(e, i)));
		ml_v magnitude = ml_scalar_op(e, ML_OP_abs, ML_f32, &v[i]);
		top = top ? larger(e, top, magnitude) : magnitude;
	}
	ml_v scale = scale_of(e, ml_reduce_lanes(e, top, larger), &inverse);
	ml_v to = ml_gep(
		e, e->i8, w->q,
		ml_add(e, ml_mul(e, row, ml_i64(e, w->k)), ml_mul(e, group, ml_i64(e, w->size))));
	for (int i = 0; i < n; i++) {
		ml_v q = ml_scalar_op(e, ML_OP_mul, ML_f32, (ml_v[]){v[i], ml_splat(e, inverse)});
		q = ml_scalar_op(e, ML_OP_round, ML_f32, &q);
		q = ml_scalar_cast(e, ML_f32, ML_s8, q);
		ml_store(e, q, ml_gep(e, e->i8, to, ml_i64(e, i * ML_LANES)), 1);
		q = LLVMBuildSExt(e->b, q, ml_vec_type(e->i32), "");
		sum = sum ? plus(e, sum, q) : q;
	}
	/* What is subtracted for every unit of the zero point. */
	sum = LLVMBuildNeg(e->b, ml_reduce_lanes(e, sum, plus), "");
	if (w->n->nin < 4)
		sum = LLVMBuildMul(e->b, sum, ml_i32(e, 8), "");
	ml_store(e, scale, ml_gep(e, e->f32, w->row_scale, at), 4);
	ml_store(e, sum, ml_gep(e, e->i32, w->row_sum, at), 4);
}

static void
quantize_rows(u4_emit *w, ml_v begin, ml_v rows)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_v zero = ml_i64(e, 0), one = ml_i64(e, 1);
	ml_dim position = ml_expr_lanes(x, zero, w->dots.d.k);
	ml_loop r = ml_loop_begin(e, zero, rows, one, NULL, 0, "row");
	int mark = ml_expr_mark(x);

	ml_expr_set_symbol(x, w->dots.row, ml_add(e, begin, r.i));
	ml_loop g = ml_loop_begin(e, zero, ml_i64(e, w->groups), one, NULL, 0, "group");
	int inner = ml_expr_mark(x);
	quantize_group(w, r.i, g.i, position);
	ml_expr_release(x, inner);
	ml_loop_end(e, &g, NULL);
	ml_expr_release(x, mark);
	ml_loop_end(e, &r, NULL);
	ml_expr_no_lanes(x);
}

/* ---- sums of a group ---- */

/* Levels that add four products to 32 bits at once need no sums in 16 bits. */
static bool
sums_in_halves(const ml_target *t)
{
	return t->level == ML_LEVEL_AVX2 || t->level == ML_LEVEL_AVX512;
}

static ml_v
as(ml_emit *e, ml_v v, LLVMTypeRef element, int bits)
{
	unsigned lanes = LLVMGetVectorSize(LLVMTypeOf(v)) * 32 / (unsigned)bits;

	return LLVMBuildBitCast(e->b, v, LLVMVectorType(element, lanes), "");
}

static ml_v
add_halves(ml_emit *e, const char *intrinsic, ml_v acc, ml_v nibbles, ml_v bytes)
{
	ml_v args[] = {as(e, nibbles, e->i8, 8), as(e, bytes, e->i8, 8)};
	ml_v products = ml_intrinsic(e, intrinsic, NULL, 0, args, 2);
	ml_v sum = LLVMBuildAdd(e->b, as(e, acc, e->i16, 16), products, "");

	return LLVMBuildBitCast(e->b, sum, LLVMTypeOf(acc), "");
}

/* acc + the two 16-bit halves of each lane. */
static ml_v
widen_halves(ml_emit *e, const char *intrinsic, ml_v acc, ml_v halves, ml_v ones)
{
	ml_v args[] = {as(e, halves, e->i16, 16), as(e, ones, e->i16, 16)};

	return LLVMBuildAdd(e->b, acc, ml_intrinsic(e, intrinsic, NULL, 0, args, 2), "");
}

/* acc + a . nibbles for levels without byte products that add up. */
static ml_v
add_products(ml_emit *e, ml_v acc, ml_v nibbles, ml_v bytes)
{
	LLVMTypeRef wide = LLVMVectorType(e->i16, 4 * ML_LANES);
	ml_v a = LLVMBuildZExt(e->b, as(e, nibbles, e->i8, 8), wide, "");
	ml_v b = LLVMBuildSExt(e->b, as(e, bytes, e->i8, 8), wide, "");
	ml_v products = LLVMBuildMul(e->b, a, b, "");

	for (int i = 0; i < 4; i++)
		acc = LLVMBuildAdd(e->b, acc,
				   LLVMBuildSExt(e->b, ml_tile_lanes(e, products, i, 4, ML_LANES),
						 ml_vec_type(e->i32), ""),
				   "");
	return acc;
}

static ml_v
add_step(ml_emit *e, ml_v acc, ml_v nibbles, ml_v bytes)
{
	switch (e->target->level) {
	case ML_LEVEL_AVX2:
		return ml_tile_by_parts(e, add_halves, "llvm.x86.avx2.pmadd.ub.sw", 2, acc, nibbles,
					bytes);
	case ML_LEVEL_AVX512:
		return ml_tile_by_parts(e, add_halves, "llvm.x86.avx512.pmaddubs.w.512", 1, acc,
					nibbles, bytes);
	case ML_LEVEL_NEON: return add_products(e, acc, nibbles, bytes);
	default: return ml_tile_dot(e, acc, nibbles, bytes);
	}
}

static ml_v
add_chunk(ml_emit *e, ml_v acc, ml_v halves)
{
	ml_v ones = ml_splat(e, ml_i32(e, 0x00010001));

	return e->target->level == ML_LEVEL_AVX2
		       ? ml_tile_by_parts(e, widen_halves, "llvm.x86.avx2.pmadd.wd", 2, acc, halves,
					  ones)
		       : ml_tile_by_parts(e, widen_halves, "llvm.x86.avx512.pmaddw.d.512", 1, acc,
					  halves, ones);
}

/* A tile of registers: rows and panels it has, and where they lie. */
typedef struct block {
	int rows, panels;
	ml_v row[MAX_SUMS]; /* number within the tile's rows */
	ml_v values[MAX_SUMS], scales[MAX_SUMS], zeros[MAX_SUMS]; /* of each panel */
} block;

/* A line of nibbles of every panel, times eight k of every row. */
static void
emit_step(u4_emit *w, const block *b, ml_v k, ml_v *acc)
{
	ml_emit *e = w->x.e;
	ml_v mask = ml_splat(e, ml_i32(e, 0x0f0f0f0f)), four = ml_splat(e, ml_i32(e, 4));

	for (int j = 0; j < b->panels; j++) {
		ml_v at =
			ml_gep(e, e->i8, b->values[j], ml_mul(e, k, ml_i64(e, ML_U4_COLUMNS / 2)));
		ml_v line = ml_load(e, ml_vec_type(e->i32), at, 64);
		if (b->rows == 1)
			ml_tile_fetch(e, ml_gep(e, e->i8, at, ml_i64(e, AHEAD * ML_U4_COLUMNS / 2)),
				      2);
		ml_v nibbles[] = {
			LLVMBuildAnd(e->b, line, mask, ""),
			LLVMBuildAnd(e->b, LLVMBuildLShr(e->b, line, four, ""), mask, "")};
		for (int i = 0; i < b->rows; i++)
			for (int half = 0; half < 2; half++) {
				ml_v from = ml_add(e, ml_mul(e, b->row[i], ml_i64(e, w->k)), k);
				from = ml_add(e, from, ml_i64(e, half * ML_U4_STEP / 2));
				ml_v word = ml_load(e, e->i32, ml_gep(e, e->i8, w->q, from), 1);
				ml_v *sum = &acc[i * b->panels + j];
				*sum = add_step(e, *sum, nibbles[half], ml_splat(e, word));
			}
	}
}

/* k .. k + size - 1, at most CHUNK of them. */
static void
emit_chunk(u4_emit *w, const block *b, ml_v k, int64_t size, ml_v *acc)
{
	ml_emit *e = w->x.e;
	int n = b->rows * b->panels;
	bool halves = sums_in_halves(e->target);
	ml_v part[MAX_SUMS];

	for (int i = 0; i < n; i++)
		part[i] = halves ? LLVMConstNull(ml_vec_type(e->i32)) : acc[i];
	for (int64_t at = 0; at < size; at += ML_U4_STEP)
		emit_step(w, b, ml_add(e, k, ml_i64(e, at)), part);
	for (int i = 0; i < n; i++)
		acc[i] = halves ? add_chunk(e, acc[i], part[i]) : part[i];
}

/* What the sums of a group begin with: minus the zero points' share. */
static void
start_group(u4_emit *w, const block *b, ml_v group, ml_v *acc)
{
	ml_emit *e = w->x.e;
	ml_v at = ml_mul(e, group, ml_i64(e, ML_U4_COLUMNS));

	for (int i = 0; i < b->rows; i++) {
		ml_v which = ml_add(e, ml_mul(e, b->row[i], ml_i64(e, w->groups)), group);
		ml_v sum = ml_splat(e, ml_load(e, e->i32, ml_gep(e, e->i32, w->row_sum, which), 4));
		for (int j = 0; j < b->panels; j++) {
			ml_v zero = w->zeros ? ml_load(e, ml_vec_type(e->i8),
						       ml_gep(e, e->i8, b->zeros[j], at), 16)
					     : NULL;
			acc[i * b->panels + j] =
				zero ? LLVMBuildMul(
					       e->b, sum,
					       LLVMBuildZExt(e->b, zero, ml_vec_type(e->i32), ""),
					       "")
				     : sum;
		}
	}
}

/* y += sums * scales of row and columns. */
static void
end_group(u4_emit *w, const block *b, ml_v group, const ml_v *acc, const ml_v *before, ml_v *y)
{
	ml_emit *e = w->x.e;
	ml_dtype t = ml_in(w->n, 2)->type.dtype;
	LLVMTypeRef element = ml_memory_type(e, t);
	ml_v at = ml_mul(e, group, ml_i64(e, ML_U4_COLUMNS)), scale[MAX_SUMS];

	for (int j = 0; j < b->panels; j++)
		scale[j] = ml_from_memory(
			e, t,
			ml_load(e, ml_vec_type(element), ml_gep(e, element, b->scales[j], at), 32));
	for (int i = 0; i < b->rows; i++) {
		ml_v which = ml_add(e, ml_mul(e, b->row[i], ml_i64(e, w->groups)), group);
		ml_v of_row =
			ml_splat(e, ml_load(e, e->f32, ml_gep(e, e->f32, w->row_scale, which), 4));
		for (int j = 0; j < b->panels; j++) {
			int at_sum = i * b->panels + j;
			ml_v sum = LLVMBuildSIToFP(e->b, acc[at_sum], ml_vec_type(e->f32), "");
			ml_v factor = LLVMBuildFMul(e->b, of_row, scale[j], "");
			y[at_sum] = ml_fma(e, sum, factor, before[at_sum]);
		}
	}
}

static void
emit_group(u4_emit *w, const block *b, ml_v group, const ml_v *before, ml_v *y)
{
	ml_emit *e = w->x.e;
	int n = b->rows * b->panels;
	int64_t chunk = w->size % CHUNK ? ML_LANES : CHUNK;
	ml_v acc[MAX_SUMS], k = ml_mul(e, group, ml_i64(e, w->size));

	start_group(w, b, group, acc);
	if (w->size == chunk) {
		emit_chunk(w, b, k, chunk, acc);
	} else {
		ml_loop l = ml_loop_begin(e, k, ml_add(e, k, ml_i64(e, w->size)), ml_i64(e, chunk),
					  acc, n, "chunk");
		for (int i = 0; i < n; i++)
			acc[i] = l.carry[i];
		emit_chunk(w, b, l.i, chunk, acc);
		ml_loop_end(e, &l, acc);
		for (int i = 0; i < n; i++)
			acc[i] = l.carry[i];
	}
	end_group(w, b, group, acc, before, y);
}

/* ---- tiles ---- */

/* All groups of rows `row`.. and panels `panel`.., which are of one block; into acc. */
static void
emit_block(u4_emit *w, int rows, int panels, ml_v row, ml_v panel)
{
	ml_emit *e = w->x.e;
	int n = rows * panels, bytes = ml_dtype_bytes(ml_in(w->n, 2)->type.dtype);
	block b = {.rows = rows, .panels = panels};
	ml_v y[MAX_SUMS], next[MAX_SUMS];
	ml_v number = LLVMBuildUDiv(e->b, panel, ml_i64(e, ML_U4_BLOCK), "");
	ml_v within = LLVMBuildURem(e->b, panel, ml_i64(e, ML_U4_BLOCK), "");
	ml_v lines = ml_mul(e, number, ml_i64(e, w->groups * ML_U4_COLUMNS));

	for (int i = 0; i < rows; i++)
		b.row[i] = ml_add(e, row, ml_i64(e, i));
	for (int j = 0; j < panels; j++) {
		ml_v column = ml_mul(e, ml_add(e, within, ml_i64(e, j)), ml_i64(e, ML_PANEL));
		ml_v at = ml_add(e, lines, column);
		ml_v line = ml_add(e, ml_mul(e, number, ml_i64(e, w->k * ML_U4_COLUMNS / 2)),
				   ml_mul(e, column, ml_i64(e, ML_U4_STEP / 2)));
		b.values[j] = ml_gep(e, e->i8, w->values, line);
		b.scales[j] = ml_gep(e, e->i8, w->scales, ml_mul(e, at, ml_i64(e, bytes)));
		b.zeros[j] = w->zeros ? ml_gep(e, e->i8, w->zeros, at) : NULL;
	}
	for (int i = 0; i < n; i++)
		y[i] = LLVMConstNull(ml_vec_type(e->f32));
	ml_loop g =
		ml_loop_begin(e, ml_i64(e, 0), ml_i64(e, w->groups), ml_i64(e, 1), y, n, "group");
	emit_group(w, &b, g.i, g.carry, next);
	ml_loop_end(e, &g, next);
	for (int i = 0; i < n; i++)
		ml_store(e, g.carry[i], ml_gep(e, e->f32, w->acc, ml_i64(e, i * ML_LANES)),
			 ML_TILE_ALIGN);
}

/* The block's way out, as ml_emit_contract does it. */
static void
store_block(u4_emit *w, int panels, ml_v row, ml_v rows, ml_v panel, ml_v end)
{
	ml_emit *e = w->x.e;
	ml_v zero = ml_i64(e, 0), one = ml_i64(e, 1), lanes = ml_i64(e, ML_LANES);
	ml_v n = ml_expr_dim(&w->x, w->dots.d.n);
	ml_loop r = ml_loop_begin(e, zero, rows, one, NULL, 0, "row");
	ml_loop p = ml_loop_begin(e, zero, ml_min_s(e, ml_sub(e, end, panel), ml_i64(e, panels)),
				  one, NULL, 0, "panel");
	ml_v slot = ml_mul(e, ml_add(e, ml_mul(e, r.i, ml_i64(e, panels)), p.i), lanes);
	ml_v v = ml_load(e, ml_vec_type(e->f32), ml_gep(e, e->f32, w->acc, slot), ML_TILE_ALIGN);
	ml_v column = ml_mul(e, ml_add(e, panel, p.i), lanes), at = ml_add(e, row, r.i);
	ml_v left = ml_sub(e, n, column);
	ml_if full = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGE, left, lanes, ""));

	ml_dots_store(&w->dots, e, at, column, NULL, v);
	ml_if_else(e, &full);
	ml_dots_store(&w->dots, e, at, column, left, v);
	ml_if_end(e, &full);
	ml_loop_end(e, &p, NULL);
	ml_loop_end(e, &r, NULL);
}

/* Rows `from` below `to`, `rows` at a time, for panels `panel` below `end`; returns where it
 * stopped. */
static ml_v
emit_rows(u4_emit *w, int rows, int panels, ml_v from, ml_v to, ml_v panel, ml_v end)
{
	ml_emit *e = w->x.e;
	ml_v step = ml_i64(e, rows);
	ml_v whole = LLVMBuildUDiv(e->b, ml_sub(e, to, from), step, "");
	ml_v stop = ml_add(e, from, ml_mul(e, whole, step));
	ml_loop p = ml_loop_begin(e, panel, end, ml_i64(e, panels), NULL, 0, "panels");
	ml_loop r = ml_loop_begin(e, from, stop, step, NULL, 0, "rows");

	emit_block(w, rows, panels, r.i, p.i);
	store_block(w, panels, r.i, step, p.i, end);
	ml_loop_end(e, &r, NULL);
	ml_loop_end(e, &p, NULL);
	return stop;
}

/* Rows and panels of a register tile.  Nibbles are taken apart once for all rows, and sums of
 * floats may leave the registers while those of integers grow: many rows and panels pay.  Sums in
 * 16 bits stand beside those in 32. */
static void
tile_size(const ml_target *t, int *rows, int *panels)
{
	*rows = t->level < ML_LEVEL_AVX2 ? 2 : 4;
	*panels = t->level > ML_LEVEL_AVX512 ? 4 : sums_in_halves(t) ? 2 : 1;
}

/* The first tiles of the range, those of the same rows; returns how many. */
static ml_v
emit_pass(u4_emit *w, ml_v first, ml_v end)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	ml_dots *d = &w->dots.d;
	int high, wide;
	ml_v number = first, zero = ml_i64(e, 0), size = ml_i64(e, ML_U4_BLOCK);
	ml_v blocks = ml_expr_dim(x, w->panel_blocks);
	ml_v block = ml_dots_remainder(e, &number, blocks);
	ml_v count = ml_min_s(e, ml_sub(e, end, first), ml_sub(e, blocks, block));
	ml_v begin = ml_mul(e, number, ml_i64(e, ROWS)), panel = ml_mul(e, block, size);
	ml_dim panels = ml_dim_ceildiv(dims, d->n, ml_dim_int(dims, ML_PANEL));
	ml_dim one = ml_dim_int(dims, 1);

	w->dots.batch = ml_expr_loop_var(x, zero, ml_dim_int(dims, 0));
	w->dots.row = ml_expr_loop_var(x, zero, ml_dim_sub(dims, d->m, one));
	w->dots.first_row = begin;
	ml_v rows = ml_min_s(e, ml_sub(e, ml_expr_dim(x, d->m), begin), ml_i64(e, ROWS));
	ml_v stop = ml_min_s(e, ml_add(e, panel, ml_mul(e, count, size)), ml_expr_dim(x, panels));
	quantize_rows(w, begin, rows);
	w->dots.column = ml_expr_lanes(x, zero, d->n);
	tile_size(e->target, &high, &wide);
	ml_v next = emit_rows(w, high, wide, zero, rows, panel, stop);
	emit_rows(w, 1, e->target->vector_bits == 512 ? ML_U4_BLOCK : 2, next, rows, panel, stop);
	ml_expr_no_lanes(x);
	return count;
}

static void
place(u4_emit *w)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;

	w->values = x->buffer[ml_in(w->n, 1)->index];
	w->scales = x->buffer[ml_in(w->n, 2)->index];
	w->zeros = w->n->nin > 3 ? x->buffer[ml_in(w->n, 3)->index] : NULL;
	w->row_scale = x->scratch;
	w->row_sum = ml_gep(e, e->f32, x->scratch, ml_i64(e, ROWS * w->groups));
	w->q = ml_gep(e, e->f32, w->row_sum, ml_i64(e, ROWS * w->groups));
	w->acc = ml_alloca(e, LLVMArrayType2(e->i32, MAX_SUMS * ML_LANES), ML_TILE_ALIGN);
}

ml_status
ml_u4_emit(ml_emit *e, ml_kernel *k, const char *name)
{
	u4_emit w = {.n = NULL};

	ML_STEP(plan(k, &w));
	w.dots.x = &w.x;
	ml_expr_open(&w.x, e, k, name);
	place(&w);
	ml_loop l =
		ml_loop_begin(e, ml_expr_begin(&w.x), ml_expr_end(&w.x), NULL, NULL, 0, "tiles");
	int mark = ml_expr_mark(&w.x);
	l.step = emit_pass(&w, l.i, l.to);
	ml_expr_release(&w.x, mark);
	ml_loop_end(e, &l, NULL);
	return ml_expr_close(&w.x);
}
