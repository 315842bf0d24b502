/* dots_windows.c -- packs windows of images that lie channels last, in runs of neighbours.
 *
 * k of a row is (kernel.., channel), so a window is one run for each position of the leading kernel
 * dims: kernel width times channels.  Where a window hangs over the image's edge, the run has fill
 * at its ends, or is nothing else.
 */
#include "dots.h"

enum { BLOCK = 64 }; /* bytes */

/* ---- recognition ---- */

static bool
is_turn(const ml_value *v)
{
	if (!ml_is(v, ML_OP_transpose))
		return false;
	const ml_attr *perm = &ML_A(v->def, transpose, perm);
	for (int i = 0; i < perm->count; i++)
		if (perm->ints[i] != (i == 0 ? 0 : i == 1 ? perm->count - 1 : i - 1))
			return false;
	return true;
}

/* Only spatial dims are padded, at their ends. */
static bool
pads_image(const ml_node *pad)
{
	int last = pad->out[0].type.rank - 1;

	for (int i = 0; i <= last; i++)
		if (ML_A(pad, pad, interior).ints[i])
			return false;
	return ml_dim_equals(ML_A(pad, pad, low).dims[0], 0) &&
	       ml_dim_equals(ML_A(pad, pad, high).dims[0], 0) &&
	       ml_dim_equals(ML_A(pad, pad, low).dims[last], 0) &&
	       ml_dim_equals(ML_A(pad, pad, high).dims[last], 0);
}

/* Sums over kernel and channels of windows [N, C, out.., kernel..], or with groups as batch
 * [N, g, C/g, out.., kernel..]. */
static bool
sums_windows(const ml_node *dot, int spatial)
{
	const ml_attr *sum = &ML_A(dot, dot, lhs_contract), *batch = &ML_A(dot, dot, lhs_batch);
	int channel = 1 + batch->count;

	if (batch->count > 1 || (batch->count && batch->ints[0] != 1) ||
	    sum->count != spatial + 1 || sum->ints[spatial] != channel)
		return false;
	for (int i = 0; i < spatial; i++)
		if (sum->ints[i] != channel + spatial + 1 + i)
			return false;
	return true;
}

bool
ml_find_windows(const ml_value *v, ml_dots_image *found)
{
	*found = (ml_dots_image){0};
	if (!ml_is(v, ML_OP_window) || !is_turn(ml_in(v->def, 0)))
		return false;
	found->window = v->def;
	found->spatial = ML_A(v->def, window, size).count;
	if (v->type.rank != 2 + 2 * found->spatial)
		return false;
	v = ml_in(ml_in(v->def, 0)->def, 0);
	if (ml_is(v, ML_OP_pad) && pads_image(v->def)) {
		found->pad = v->def;
		v = ml_in(v->def, 0);
	}
	found->image = v;
	return true;
}

bool
ml_find_image(const ml_node *dot, ml_dots_image *image)
{
	const ml_value *a = ml_in(dot, 0), *v = a;
	int nbatch = ML_A(dot, dot, lhs_batch).count;
	ml_dots_image found;

	if (nbatch && ml_is(v, ML_OP_reshape))
		v = ml_in(v->def, 0);
	if (!ml_find_windows(v, &found) || found.image->def ||
	    a->type.rank != v->type.rank + nbatch || !sums_windows(dot, found.spatial))
		return false;
	*image = found;
	return true;
}

/* ---- bytes ---- */

typedef struct window_pack {
	ml_dots_emit *w;
	int size;               /* bytes of an element */
	ml_v fill;              /* a block of it, NULL: there are no edges */
	ml_v channels;          /* of a run's pixel, bytes */
	ml_v image;             /* first pixel of this image, of this group's channels */
	ml_v at[ML_MAX_RANK];   /* the window's first pixel, by spatial dim */
	ml_v step[ML_MAX_RANK]; /* bytes from pixel to pixel, by spatial dim */
} window_pack;

static ml_v
attr_dim(window_pack *p, ml_dim d)
{
	return ml_expr_dim(p->w->x, d);
}

static ml_v
extent(window_pack *p, int i)
{
	return attr_dim(p, p->w->d.image.image->type.dim[1 + i]);
}

static void
copy_block(ml_emit *e, ml_v to, ml_v from, ml_v at, unsigned bytes)
{
	LLVMTypeRef type = LLVMVectorType(e->i8, bytes);

	ml_store(e, ml_load(e, type, ml_gep(e, e->i8, from, at), 1), ml_gep(e, e->i8, to, at), 1);
}

/* Fewer bytes than a block, by two copies that may overlap. */
static void
copy_rest(ml_emit *e, ml_v to, ml_v from, ml_v bytes)
{
	ml_if fits[4];
	int depth = 0;

	for (unsigned half = BLOCK / 2; half >= 4; half /= 2) {
		ml_v size = ml_i64(e, half);
		fits[depth] = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntUGE, bytes, size, ""));
		copy_block(e, to, from, ml_i64(e, 0), half);
		copy_block(e, to, from, ml_sub(e, bytes, size), half);
		ml_if_else(e, &fits[depth++]);
	}
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), bytes, ml_i64(e, 1), NULL, 0, "byte");
	copy_block(e, to, from, l.i, 1);
	ml_loop_end(e, &l, NULL);
	while (depth)
		ml_if_end(e, &fits[--depth]);
}

/* void copy_run(to, from, bytes), in the module once. */
static ml_v
copy_function(ml_emit *e, LLVMTypeRef *type)
{
	LLVMTypeRef params[] = {e->ptr, e->ptr, e->i64};
	ml_v f = LLVMGetNamedFunction(e->module, "copy_run"), caller = e->fn;
	LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);

	*type = LLVMFunctionType(e->none, params, 3, 0);
	if (f)
		return f;
	f = ml_emit_function(e, "copy_run", e->none, params, 3);
	LLVMSetLinkage(f, LLVMInternalLinkage);
	ml_v to = LLVMGetParam(f, 0), from = LLVMGetParam(f, 1), bytes = LLVMGetParam(f, 2);
	ml_v block = ml_i64(e, BLOCK), last = ml_sub(e, bytes, block);
	ml_if large = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntUGE, bytes, block, ""));
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), last, block, NULL, 0, "block");
	copy_block(e, to, from, l.i, BLOCK);
	ml_loop_end(e, &l, NULL);
	copy_block(e, to, from, last, BLOCK);
	ml_if_else(e, &large);
	copy_rest(e, to, from, bytes);
	ml_if_end(e, &large);
	LLVMBuildRetVoid(e->b);
	e->fn = caller;
	LLVMPositionBuilderAtEnd(e->b, here);
	return f;
}

/* By one copy or two that may overlap. */
static void
copy_known(ml_emit *e, ml_v to, ml_v from, int64_t bytes)
{
	unsigned half = BLOCK;

	while (half > bytes)
		half /= 2;
	copy_block(e, to, from, ml_i64(e, 0), half);
	if (half < bytes)
		copy_block(e, to, from, ml_i64(e, bytes - half), half);
}

static void
copy(window_pack *p, ml_v to, ml_v from, ml_v bytes)
{
	ml_emit *e = p->w->x->e;
	LLVMTypeRef type;
	int64_t n;

	if (ml_const_i64(bytes, &n) && n > 0 && n <= 2 * BLOCK) {
		copy_known(e, to, from, n);
		return;
	}
	ml_v f = copy_function(e, &type), args[] = {to, from, bytes};
	LLVMBuildCall2(e->b, type, f, args, 3, "");
}

/* Whole blocks: what is behind the end gets its own content later, or is never read. */
static void
fill(window_pack *p, ml_v to, ml_v bytes)
{
	ml_emit *e = p->w->x->e;
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), bytes, ml_i64(e, BLOCK), NULL, 0, "fill");

	ml_store(e, p->fill, ml_gep(e, e->i8, to, l.i), 1);
	ml_loop_end(e, &l, NULL);
}

/* ---- runs ---- */

static ml_v
clamp(ml_emit *e, ml_v v, ml_v low, ml_v high)
{
	v = ml_scalar_op(e, ML_OP_max, ML_s64, (ml_v[]){v, low});
	return ml_min_s(e, v, high);
}

/* 0 <= v < size and what has been tested before. */
static ml_v
inside(ml_emit *e, ml_v before, ml_v v, ml_v size)
{
	ml_v ok = LLVMBuildICmp(e->b, LLVMIntULT, v, size, "");

	return before ? LLVMBuildAnd(e->b, before, ok, "") : ok;
}

/* One pixel after the other: kernels with gaps, groups of channels. */
static void
pack_pixels(window_pack *p, ml_v to, ml_v from, ml_v inside_so_far)
{
	ml_emit *e = p->w->x->e;
	const ml_dots_image *image = &p->w->d.image;
	int last = image->spatial - 1;
	int64_t taps = ML_A(image->window, window, size).ints[last];
	ml_v gap = ml_i64(e, ML_A(image->window, window, dilation).ints[last]);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), ml_i64(e, taps), ml_i64(e, 1), NULL, 0, "tap");
	ml_v at = ml_add(e, p->at[last], ml_mul(e, l.i, gap)), ok = inside_so_far;
	ml_v pixel = ml_gep(e, e->i8, from, ml_mul(e, at, p->step[last]));

	to = ml_gep(e, e->i8, to, ml_mul(e, l.i, p->channels));
	if (p->fill) {
		ml_if here = ml_if_begin(e, inside(e, ok, at, extent(p, last)));
		copy(p, to, pixel, p->channels);
		ml_if_else(e, &here);
		fill(p, to, p->channels);
		ml_if_end(e, &here);
	} else {
		copy(p, to, pixel, p->channels);
	}
	ml_loop_end(e, &l, NULL);
}

/* Pixels that are neighbours, as one run; from: where the image's line begins. */
static void
pack_line(window_pack *p, ml_v to, ml_v from, ml_v inside_so_far, int64_t taps)
{
	ml_emit *e = p->w->x->e;
	int last = p->w->d.image.spatial - 1;
	ml_v zero = ml_i64(e, 0), count = ml_i64(e, taps), whole = ml_mul(e, count, p->channels);
	ml_v pixel = ml_gep(e, e->i8, from, ml_mul(e, p->at[last], p->channels));

	if (!p->fill) {
		copy(p, to, pixel, whole);
		return;
	}
	ml_v low = clamp(e, ml_sub(e, zero, p->at[last]), zero, count);
	ml_v high = clamp(e, ml_sub(e, extent(p, last), p->at[last]), low, count);
	high = inside_so_far ? LLVMBuildSelect(e->b, inside_so_far, high, low, "") : high;
	ml_v some = LLVMBuildICmp(e->b, LLVMIntEQ, ml_sub(e, high, low), count, "");
	ml_if all = ml_if_begin(e, some);
	copy(p, to, pixel, whole);
	ml_if_else(e, &all);
	ml_v begin = ml_mul(e, low, p->channels), end = ml_mul(e, high, p->channels);
	fill(p, to, begin);
	copy(p, ml_gep(e, e->i8, to, begin), ml_gep(e, e->i8, pixel, begin), ml_sub(e, end, begin));
	fill(p, ml_gep(e, e->i8, to, end), ml_sub(e, whole, end));
	ml_if_end(e, &all);
}

/* The kernel's positions in dim i and those behind it; returns where the row goes on. */
static ml_v
pack_dim(window_pack *p, int i, ml_v to, ml_v from, ml_v inside_so_far)
{
	ml_emit *e = p->w->x->e;
	const ml_dots_image *image = &p->w->d.image;
	int64_t taps = ML_A(image->window, window, size).ints[i];
	ml_v gap = ml_i64(e, ML_A(image->window, window, dilation).ints[i]);

	if (i == image->spatial - 1) {
		if (p->w->d.nbatch || ML_A(image->window, window, dilation).ints[i] > 1)
			pack_pixels(p, to, from, inside_so_far);
		else
			pack_line(p, to, from, inside_so_far, taps);
		return ml_gep(e, e->i8, to, ml_mul(e, p->channels, ml_i64(e, taps)));
	}
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), ml_i64(e, taps), ml_i64(e, 1), &to, 1, "tap");
	ml_v at = ml_add(e, p->at[i], ml_mul(e, l.i, gap)), ok = inside_so_far;
	if (p->fill)
		ok = inside(e, ok, at, extent(p, i));
	ml_v next = pack_dim(p, i + 1, l.carry[0],
			     ml_gep(e, e->i8, from, ml_mul(e, at, p->step[i])), ok);
	ml_loop_end(e, &l, &next);
	return l.carry[0];
}

/* Where row `number` begins: image, and first pixel by spatial dim. */
static void
place_window(window_pack *p, ml_v number)
{
	ml_emit *e = p->w->x->e;
	const ml_dots *d = &p->w->d;
	const ml_dim *out = d->dot->out[0].type.dim + d->nbatch;
	ml_v bytes = ml_i64(e, p->size);

	bytes = ml_mul(e, bytes, attr_dim(p, d->image.image->type.dim[1 + d->image.spatial]));
	for (int i = d->image.spatial; i-- > 0;) {
		ml_v o = ml_dots_remainder(e, &number, attr_dim(p, out[1 + i]));
		ml_v stride = ml_i64(e, ML_A(d->image.window, window, stride).ints[i]);
		p->at[i] = ml_mul(e, o, stride);
		if (d->image.pad)
			p->at[i] = ml_sub(e, p->at[i],
					  attr_dim(p, ML_A(d->image.pad, pad, low).dims[1 + i]));
		p->step[i] = bytes;
		bytes = ml_mul(e, bytes, extent(p, i));
	}
	ml_v group =
		ml_mul(e, ml_expr_dim(p->w->x, ml_dim_sym(p->w->x->kernel->m->dims, p->w->batch)),
		       p->channels);
	ml_v image = p->w->x->buffer[d->image.image->index];
	p->image = ml_gep(e, e->i8, image, ml_add(e, ml_mul(e, number, bytes), group));
}

/* Does no part of the window hang over an edge? */
static ml_v
is_whole(window_pack *p)
{
	ml_emit *e = p->w->x->e;
	const ml_node *window = p->w->d.image.window;
	ml_v whole = NULL;

	for (int i = 0; i < p->w->d.image.spatial; i++) {
		int64_t taps = ML_A(window, window, size).ints[i];
		int64_t reach = (taps - 1) * ML_A(window, window, dilation).ints[i];
		ml_v end = ml_add(e, p->at[i], ml_i64(e, reach));
		whole = inside(e, whole, p->at[i], extent(p, i));
		whole = inside(e, whole, end, extent(p, i));
	}
	return whole;
}

/* 64 bytes of the number that is outside of the image. */
static ml_v
fill_block(ml_dots_emit *w, ml_dtype t)
{
	ml_emit *e = w->x->e;
	ml_v v = ml_expr_at(w->x, ml_in(w->d.image.pad, 1), NULL);
	LLVMTypeRef whole = LLVMVectorType(e->i8, BLOCK);

	v = ml_splat(e, ml_to_memory(e, t, v));
	ml_v lane = ml_i32(e, 0), lanes[BLOCK];
	unsigned count = BLOCK / (unsigned)ml_dtype_bytes(t);
	for (unsigned i = 0; i < count; i++)
		lanes[i] = lane;
	v = LLVMBuildShuffleVector(e->b, v, LLVMGetPoison(LLVMTypeOf(v)),
				   LLVMConstVector(lanes, count), "");
	return LLVMBuildBitCast(e->b, v, whole, "");
}

void
ml_dots_pack_windows(ml_dots_emit *w, ml_v first, ml_v begin, ml_v rows, ml_dim stride)
{
	ml_expr *x = w->x;
	ml_emit *e = x->e;
	ml_dtype t = w->d.image.image->type.dtype;
	const ml_value *a = ml_in(w->d.dot, 0);
	ml_v size = ml_i64(e, ml_dtype_bytes(t));
	window_pack p = {
		.w = w,
		.size = ml_dtype_bytes(t),
		.channels = ml_mul(e, ml_expr_dim(x, a->type.dim[1 + w->d.nbatch]), size),
	};

	if (w->d.image.pad)
		p.fill = fill_block(w, t);
	ml_v bytes = ml_mul(e, ml_expr_dim(x, stride), size);
	ml_loop r = ml_loop_begin(e, ml_i64(e, 0), rows, ml_i64(e, 1), NULL, 0, "row");
	int mark = ml_expr_mark(x);
	ml_v to = ml_gep(e, e->i8, first, ml_mul(e, r.i, bytes)), fill = p.fill;
	place_window(&p, ml_add(e, begin, r.i));
	if (fill) {
		ml_if whole = ml_if_begin(e, is_whole(&p));
		p.fill = NULL;
		pack_dim(&p, 0, to, p.image, NULL);
		ml_if_else(e, &whole);
		p.fill = fill;
		pack_dim(&p, 0, to, p.image, NULL);
		ml_if_end(e, &whole);
	} else {
		pack_dim(&p, 0, to, p.image, NULL);
	}
	ml_expr_release(x, mark);
	ml_loop_end(e, &r, NULL);
}
