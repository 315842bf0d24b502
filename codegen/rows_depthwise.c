/* rows_depthwise.c -- convolutions in small groups: lanes along channels, filters in registers.
 *
 * A few lines of the result are computed 16 channels at a time, and of these a few neighbouring
 * pixels at once, so that an element of the image is loaded once for all of them.  Where registers
 * do not hold the whole filter, its lines are read anew for each few pixels.  Lines above and below
 * the image are a line of fill in scratch; so is what pixels at the ends of a line read of what is
 * outside.
 *
 * Integers: two lines' elements share a lane, as 16-bit numbers, and are multiplied and added by
 * one instruction; exact on every level.
 *
 * Groups of a few channels: lanes hold whole groups, and an element of the image is shuffled so
 * that each lane sees its group's first channel, then the second ...
 */
#include "rows.h"
#include "tile.h"

enum { PIXELS = 4, MOST_PIXELS = 16, MOST_LINES = 8 };
enum { MOST_SIDE = ML_DEPTHWISE_SIDE, MOST_TAPS = ML_DEPTHWISE_TAPS };

typedef struct depthwise_emit {
	const ml_depthwise *d;
	ml_expr x;
	ml_dim index[ML_MAX_RANK]; /* of the result: image, line, pixel, channel */
	const ml_sym *image, *line, *pixel;
	ml_v base[MOST_SIDE];   /* the image's lines under the kernel */
	ml_v bases;             /* the same in memory, of groups */
	ml_v outside;           /* fill, as long as a line */
	ml_v channel, count;    /* first lane; lanes, NULL = 16 */
	ml_v filter[MOST_TAPS]; /* f32, or pairs of lines: [(line / 2) * width + column] */
	ml_v kept;              /* the same in memory, NULL: registers hold it */
	ml_v step;              /* bytes from pixel to pixel */
	ml_v low;               /* pixels of fill in front of a line */
	int pixels;             /* at once */
	int64_t input;          /* which channel of each group lanes see */
	bool is_integer;
} depthwise_emit;

static bool
has_groups(const depthwise_emit *w)
{
	return w->d->outputs > 1;
}

/* ---- elements and filters ---- */

/* What 16 channels of the result see of a pixel: as it lies in memory, or their groups' input. */
static ml_v
element(depthwise_emit *w, ml_v pixel)
{
	ml_emit *e = w->x.e;
	const ml_depthwise *d = w->d;
	LLVMTypeRef type = w->is_integer ? e->i8 : e->f32;
	ml_v lanes[ML_LANES], at = ml_gep(e, type, pixel, w->channel), v;

	if (d->outputs == ML_LANES)
		return ml_splat(e, ml_load(e, type, ml_gep(e, type, at, ml_i64(e, w->input)), 4));
	v = ml_load_lanes(e, type, at, w->count, w->is_integer ? 1 : 4);
	if (!has_groups(w))
		return v;
	for (int i = 0; i < ML_LANES; i++)
		lanes[i] = ml_i32(e, i / d->outputs * d->inputs + w->input);
	return LLVMBuildShuffleVector(e->b, v, LLVMGetPoison(LLVMTypeOf(v)),
				      LLVMConstVector(lanes, ML_LANES), "");
}

/* Bytes of two lines, which take turns, as numbers of 16 bits: two in a lane. */
static ml_v
pair_bytes(ml_emit *e, ml_v low, ml_v high)
{
	ml_v turns[2 * ML_LANES];

	for (int i = 0; i < 2 * ML_LANES; i++)
		turns[i] = ml_i32(e, i / 2 + i % 2 * ML_LANES);
	ml_v v = LLVMBuildShuffleVector(e->b, low, high, LLVMConstVector(turns, 2 * ML_LANES), "");
	v = LLVMBuildZExt(e->b, v, LLVMVectorType(e->i16, 2 * ML_LANES), "");
	return LLVMBuildBitCast(e->b, v, ml_vec_type(e->i32), "");
}

/* Two numbers of 16 bits in a lane; high may be NULL. */
static ml_v
pair(ml_emit *e, ml_v low, ml_v high)
{
	ml_v bits = ml_splat(e, ml_i32(e, 16)), mask = ml_splat(e, ml_i32(e, 0xffff));

	low = LLVMBuildAnd(e->b, low, mask, "");
	return high ? LLVMBuildOr(e->b, low, LLVMBuildShl(e->b, high, bits, ""), "") : low;
}

static ml_v
filter_at(depthwise_emit *w, int64_t line, int64_t input, int64_t column)
{
	ml_dims *dims = w->x.kernel->m->dims;
	const ml_value *f = ml_in(w->d->dot, 1);
	ml_dim zero = ml_dim_int(dims, 0);
	const ml_attr *sum = &ML_A(w->d->dot, dot, rhs_contract);
	ml_dim index[ML_MAX_RANK];

	for (int i = 0; i < f->type.rank; i++)
		index[i] = zero;
	ml_expr_delinear(&w->x, 2, f->type.dim, w->index[3], index);
	index[2] = ml_dim_int(dims, input);
	index[sum->ints[0]] = ml_dim_int(dims, line);
	index[sum->ints[1]] = ml_dim_int(dims, column);
	ml_v v = ml_expr_at(&w->x, f, index);
	v = ml_is_vector(v) ? v : ml_splat(w->x.e, v);
	return w->is_integer ? ml_scalar_cast(w->x.e, ML_s8, ML_s32, v) : v;
}

/* How many lines of the image a lane of a filter takes. */
static int64_t
lines_of_lane(const depthwise_emit *w)
{
	return w->is_integer ? 2 : 1;
}

/* Is there room beside the sums and an element? */
static bool
fits_registers(const depthwise_emit *w)
{
	const ml_target *t = w->x.e->target;
	int64_t lines = lines_of_lane(w), taps = (w->d->size[0] + lines - 1) / lines;

	return !has_groups(w) &&
	       (taps * w->d->size[1] + PIXELS + 2) * (ML_LANES * 32 / t->vector_bits) <=
		       t->registers;
}

static LLVMTypeRef
lanes_type(const depthwise_emit *w)
{
	return ml_vec_type(w->is_integer ? w->x.e->i32 : w->x.e->f32);
}

/* What the image's elements are multiplied by, for all pixels of some channels. */
static void
load_filter(depthwise_emit *w)
{
	ml_emit *e = w->x.e;
	const int64_t *size = w->d->size;
	int n = 0;

	for (int64_t i = 0; i < size[0]; i += lines_of_lane(w))
		for (int64_t j = 0; j < w->d->inputs * size[1]; j++) {
			bool alone = !w->is_integer || i + 1 == size[0];
			int64_t input = j / size[1], column = j % size[1];
			ml_v v = filter_at(w, i, input, column);
			ml_v high = alone ? NULL : filter_at(w, i + 1, input, column);
			v = w->is_integer ? pair(e, v, high) : v;
			if (w->kept)
				ml_store(e, v, ml_gep(e, lanes_type(w), w->kept, ml_i64(e, n++)),
					 64);
			else
				w->filter[n++] = v;
		}
}

/* The filter's line `line` in registers.  Volatile: LLVM would read it in front of the loop, and
 * have every product read its factor from the stack. */
static const ml_v *
filter_line(depthwise_emit *w, ml_v line)
{
	ml_emit *e = w->x.e;
	int64_t width = w->d->size[1], known = 0;

	if (!w->kept)
		return w->filter + (ml_const_i64(line, &known) ? known * width : 0);
	line = ml_mul(e, line, ml_i64(e, width));
	for (int64_t i = 0; i < width; i++) {
		ml_v from = ml_gep(e, lanes_type(w), w->kept, ml_add(e, line, ml_i64(e, i)));
		w->filter[i] = ml_load(e, lanes_type(w), from, 64);
		LLVMSetVolatile(w->filter[i], true);
	}
	return w->filter;
}

static ml_v
call_words(ml_emit *e, const char *intrinsic, ml_v acc, ml_v a, ml_v b)
{
	return ml_intrinsic(e, intrinsic, NULL, 0, (ml_v[]){acc, a, b}, 3);
}

static ml_v
call_madd(ml_emit *e, const char *intrinsic, ml_v acc, ml_v a, ml_v b)
{
	LLVMTypeRef words = LLVMVectorType(e->i16, LLVMGetVectorSize(LLVMTypeOf(acc)) * 2);
	ml_v args[] = {LLVMBuildBitCast(e->b, a, words, ""), LLVMBuildBitCast(e->b, b, words, "")};

	return LLVMBuildAdd(e->b, acc, ml_intrinsic(e, intrinsic, NULL, 0, args, 2), "");
}

/* acc + the products of both numbers of each lane. */
static ml_v
add_pairs(ml_emit *e, ml_v acc, ml_v a, ml_v b)
{
	ml_v bits = ml_splat(e, ml_i32(e, 16)), mask = ml_splat(e, ml_i32(e, 0xffff));

	switch (e->target->level) {
	case ML_LEVEL_AVX512VNNI:
	case ML_LEVEL_AVX512BF16:
	case ML_LEVEL_AMX: return call_words(e, "llvm.x86.avx512.vpdpwssd.512", acc, a, b);
	case ML_LEVEL_AVXVNNI:
		return ml_tile_by_parts(e, call_words, "llvm.x86.avx512.vpdpwssd.256", 2, acc, a,
					b);
	case ML_LEVEL_AVX512: return call_madd(e, "llvm.x86.avx512.pmaddw.d.512", acc, a, b);
	case ML_LEVEL_AVX2:
		return ml_tile_by_parts(e, call_madd, "llvm.x86.avx2.pmadd.wd", 2, acc, a, b);
	default: break;
	}
	ml_v low = LLVMBuildAShr(e->b, LLVMBuildShl(e->b, b, bits, ""), bits, "");
	low = LLVMBuildMul(e->b, LLVMBuildAnd(e->b, a, mask, ""), low, "");
	ml_v high = LLVMBuildAShr(e->b, b, bits, "");
	high = LLVMBuildMul(e->b, LLVMBuildLShr(e->b, a, bits, ""), high, "");
	return LLVMBuildAdd(e->b, acc, LLVMBuildAdd(e->b, low, high, ""), "");
}

/* ---- pixels ---- */

/* Column `column` of `line`'s pixels from `first` on; where it is outside of the image and that may
 * be, fill. */
static ml_v
pixel_at(depthwise_emit *w, int64_t line, ml_v first, int64_t column, bool may_be_outside)
{
	ml_emit *e = w->x.e;
	ml_v at = ml_add(e, first, ml_i64(e, column));
	ml_v p = ml_gep(e, e->i8, w->base[line], ml_mul(e, at, w->step));

	if (!may_be_outside || !w->d->image.pad)
		return p;
	ml_v width = ml_expr_dim(&w->x, w->d->image.image->type.dim[2]);
	ml_v ok = LLVMBuildICmp(e->b, LLVMIntULT, at, width, "");
	return LLVMBuildSelect(e->b, ok, p, w->outside, "");
}

/* An element, or those of two lines. */
static ml_v
column_of(depthwise_emit *w, int64_t line, ml_v first, int64_t column, bool may_be_outside)
{
	ml_emit *e = w->x.e;
	ml_v v = element(w, pixel_at(w, line, first, column, may_be_outside));

	if (!w->is_integer)
		return v;
	if (line + 1 == w->d->size[0])
		return LLVMBuildZExt(e->b, v, ml_vec_type(e->i32), "");
	return pair_bytes(e, v, element(w, pixel_at(w, line + 1, first, column, may_be_outside)));
}

/* One column of one line of the image (integers: of two) to the sums of `pixels` pixels. */
static void
add_column(depthwise_emit *w, const ml_v *filter, int64_t line, ml_v first, int64_t column,
	   int pixels, bool may_be_outside, ml_v *acc)
{
	ml_emit *e = w->x.e;
	const ml_depthwise *d = w->d;
	ml_v v = NULL;

	for (int p = 0; p < pixels; p++) {
		int64_t from = column - p * d->stride[1];
		if (from < 0 || from % d->gap[1] || from / d->gap[1] >= d->size[1])
			continue;
		ml_v f = filter[from / d->gap[1]];
		if (!v)
			v = column_of(w, line, first, column, may_be_outside);
		acc[p] = w->is_integer ? add_pairs(e, acc[p], v, f) : ml_fma(e, v, f, acc[p]);
	}
}

static void
store_pixel(depthwise_emit *w, ml_v pixel, ml_v acc)
{
	ml_expr *x = &w->x;
	const ml_rows *r = w->d->rows;
	int n = r->kernel->m->main->last->nin, mark = ml_expr_mark(x);
	ml_v *v = ML_NEW_ARRAY(x->arena, ml_v, n);

	ml_expr_set_symbol(x, w->pixel, pixel);
	ml_expr_bind(x, &w->d->dot->out[0], acc);
	for (int i = 0; i < n; i++)
		v[i] = ml_expr_at(x, ml_rows_result(r, i), w->index);
	for (int i = 0; i < n; i++)
		ml_expr_store(x, i, ml_rows_result(r, i), w->index, v[i]);
	ml_expr_release(x, mark);
}

static void
add_columns(depthwise_emit *w, const ml_v *filter, int64_t line, ml_v first, int pixels,
	    bool may_be_outside, ml_v *acc)
{
	const ml_depthwise *d = w->d;
	int64_t last = (d->size[1] - 1) * d->gap[1] + (pixels - 1) * d->stride[1];

	for (int64_t column = 0; column <= last; column++)
		add_column(w, filter, line, first, column, pixels, may_be_outside, acc);
}

/* The same for groups, line after line and channel after channel of each. */
static void
add_groups(depthwise_emit *w, ml_v first, int pixels, bool may_be_outside, ml_v *acc)
{
	ml_emit *e = w->x.e;
	ml_v inputs = ml_i64(e, w->d->inputs);
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), ml_i64(e, w->d->size[0]), ml_i64(e, 1), acc,
				  pixels, "line");

	for (int p = 0; p < pixels; p++)
		acc[p] = l.carry[p];
	w->base[0] = ml_load(e, e->ptr, ml_gep(e, e->ptr, w->bases, l.i), 8);
	for (w->input = 0; w->input < w->d->inputs; w->input++) {
		ml_v line = ml_add(e, ml_mul(e, l.i, inputs), ml_i64(e, w->input));
		add_columns(w, filter_line(w, line), 0, first, pixels, may_be_outside, acc);
	}
	ml_loop_end(e, &l, acc);
	for (int p = 0; p < pixels; p++)
		acc[p] = l.carry[p];
}

/* `pixels` neighbours, the first of them `pixel`. */
static void
emit_pixels(depthwise_emit *w, ml_v pixel, int pixels, bool may_be_outside)
{
	ml_emit *e = w->x.e;
	const ml_depthwise *d = w->d;
	ml_v first = ml_sub(e, ml_mul(e, pixel, ml_i64(e, d->stride[1])), w->low);
	int64_t lines = lines_of_lane(w);
	int mark = ml_expr_mark(&w->x);
	ml_v acc[MOST_PIXELS];

	for (int p = 0; p < pixels; p++)
		acc[p] = LLVMConstNull(lanes_type(w));
	if (has_groups(w))
		add_groups(w, first, pixels, may_be_outside, acc);
	else
		for (int64_t line = 0; line < d->size[0]; line += lines)
			add_columns(w, filter_line(w, ml_i64(e, line / lines)), line, first, pixels,
				    may_be_outside, acc);
	for (int p = 0; p < pixels; p++)
		store_pixel(w, ml_add(e, pixel, ml_i64(e, p)), acc[p]);
	ml_expr_release(&w->x, mark);
}

/* ---- lines ---- */

/* How many pixels of a line are computed at once: of groups, whose sums take longer, as many as
 * registers hold with the least of them twice.  No sum depends on it. */
static int
pixels_at_once(const depthwise_emit *w)
{
	const ml_target *t = w->x.e->target;
	int64_t width, best = PIXELS, fit = t->registers * t->vector_bits / (ML_LANES * 64);

	if (!has_groups(w) || !ml_dim_is_int(w->d->rows->space.dim[2], &width))
		return PIXELS;
	for (int64_t n = PIXELS; n <= fit && n <= width; n++)
		if ((width + n - 1) / n * n <= (width + best - 1) / best * best)
			best = n;
	return (int)best;
}

/* A line by `pixels`, the last of which may be some of the pixels before them again. */
static void
emit_many(depthwise_emit *w, ml_v pixels)
{
	ml_emit *e = w->x.e;
	const ml_depthwise *d = w->d;
	ml_v zero = ml_i64(e, 0), many = ml_i64(e, w->pixels);
	ml_loop l = ml_loop_begin(e, zero, pixels, many, NULL, 0, "pixels");
	ml_v pixel = ml_min_s(e, l.i, ml_sub(e, pixels, many));

	if (d->image.pad) {
		int64_t last = (d->size[1] - 1) * d->gap[1] + (w->pixels - 1) * d->stride[1];
		ml_v width = ml_expr_dim(&w->x, d->image.image->type.dim[2]);
		ml_v begin = ml_sub(e, ml_mul(e, pixel, ml_i64(e, d->stride[1])), w->low);
		ml_v end = ml_add(e, begin, ml_i64(e, last));
		ml_v left = LLVMBuildICmp(e->b, LLVMIntSGE, begin, zero, "");
		ml_v right = LLVMBuildICmp(e->b, LLVMIntSLT, end, width, "");
		ml_if inside = ml_if_begin(e, LLVMBuildAnd(e->b, left, right, ""));
		emit_pixels(w, pixel, w->pixels, false);
		ml_if_else(e, &inside);
		emit_pixels(w, pixel, w->pixels, true);
		ml_if_end(e, &inside);
	} else {
		emit_pixels(w, pixel, w->pixels, false);
	}
	ml_loop_end(e, &l, NULL);
}

/* 16 channels of one line. */
static void
emit_line(depthwise_emit *w)
{
	ml_emit *e = w->x.e;
	ml_v pixels = ml_expr_dim(&w->x, w->d->rows->space.dim[2]);
	ml_v one = ml_i64(e, 1), zero = ml_i64(e, 0);
	int64_t known;

	if (ml_const_i64(pixels, &known) && known >= w->pixels) {
		emit_many(w, pixels);
		return;
	}
	ml_if many =
		ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGE, pixels, ml_i64(e, w->pixels), ""));
	emit_many(w, pixels);
	ml_if_else(e, &many);
	ml_loop l = ml_loop_begin(e, zero, pixels, one, NULL, 0, "pixel");
	emit_pixels(w, l.i, 1, true);
	ml_loop_end(e, &l, NULL);
	ml_if_end(e, &many);
}

/* Where the image's lines under the kernel are, for line `line` of the result in image `image`. */
static void
place_lines(depthwise_emit *w, ml_v image, ml_v line)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	const ml_depthwise *d = w->d;
	const ml_type *t = &d->image.image->type;
	ml_v height = ml_expr_dim(x, t->dim[1]), width = ml_expr_dim(x, t->dim[2]);
	ml_v bytes = ml_mul(e, width, w->step), first = ml_mul(e, line, ml_i64(e, d->stride[0]));

	if (d->image.pad)
		first = ml_sub(e, first, ml_expr_dim(x, ML_A(d->image.pad, pad, low).dims[1]));
	for (int64_t i = 0; i < d->size[0]; i++) {
		ml_v at = ml_add(e, first, ml_i64(e, i * d->gap[0]));
		ml_v offset = ml_mul(e, ml_add(e, ml_mul(e, image, height), at), bytes);
		ml_v ok, base = ml_gep(e, e->i8, x->buffer[d->image.image->index], offset);
		if (d->image.pad) {
			ok = LLVMBuildICmp(e->b, LLVMIntULT, at, height, "");
			base = LLVMBuildSelect(e->b, ok, base, w->outside, "");
		}
		if (has_groups(w))
			ml_store(e, base, ml_gep(e, e->ptr, w->bases, ml_i64(e, i)), 8);
		w->base[i] = base;
	}
}

/* Lines begin..end-1 of the result, 16 channels of them. */
static void
emit_lines(depthwise_emit *w, ml_v begin, ml_v end, ml_v block, ml_v count)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	int mark = ml_expr_mark(x);

	ml_expr_set_block(x, block, count);
	w->channel = ml_mul(e, block, ml_i64(e, ML_LANES / w->d->outputs * w->d->inputs));
	w->count = count;
	if (w->d->inputs < w->d->outputs) { /* fewer channels are read */
		w->count = count ? count : ml_i64(e, ML_LANES);
		w->count = LLVMBuildUDiv(e->b, w->count, ml_i64(e, w->d->outputs), "");
		w->count = ml_mul(e, w->count, ml_i64(e, w->d->inputs));
	}
	load_filter(w);
	ml_loop l = ml_loop_begin(e, begin, end, ml_i64(e, 1), NULL, 0, "line");
	int inner = ml_expr_mark(x);
	ml_v image = l.i,
	     line = ml_dots_remainder(e, &image, ml_expr_dim(x, w->d->rows->space.dim[1]));
	ml_expr_set_symbol(x, w->image, image);
	ml_expr_set_symbol(x, w->line, line);
	place_lines(w, image, line);
	emit_line(w);
	ml_expr_release(x, inner);
	ml_loop_end(e, &l, NULL);
	x->count = NULL;
	ml_expr_release(x, mark);
}

/* How many lines of the result are computed for some channels before the next ones: what they read
 * of the image, a few neighbours' times, stays in the nearest cache. */
static int64_t
lines_at_once(const depthwise_emit *w)
{
	const ml_depthwise *d = w->d;
	const ml_type *image = &d->image.image->type;
	int64_t width, reach = (d->size[0] - 1) * d->gap[0] + 1;
	int64_t lines = MOST_LINES;

	if (ml_dim_is_int(image->dim[2], &width) && width > 0) {
		int64_t bytes = width * ML_LANES * ml_dtype_bytes(image->dtype);
		lines = (w->x.e->target->l1_bytes / bytes - reach) / d->stride[0] + 1;
	}
	return lines < 1 ? 1 : lines > MOST_LINES ? MOST_LINES : lines;
}

static void
emit_pass(depthwise_emit *w, ml_v begin, ml_v end)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	ml_dims *dims = x->kernel->m->dims;
	const ml_dim *shape = w->d->rows->space.dim;
	ml_dim lanes = ml_dim_int(dims, ML_LANES);
	ml_v blocks = ml_expr_dim(x, ml_dim_floordiv(dims, shape[3], lanes));
	ml_v tail = ml_sub(e, ml_expr_dim(x, shape[3]), ml_mul(e, blocks, ml_i64(e, ML_LANES)));
	int64_t known;

	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), blocks, ml_i64(e, 1), NULL, 0, "channels");
	emit_lines(w, begin, end, l.i, NULL);
	ml_loop_end(e, &l, NULL);
	if (ml_const_i64(tail, &known) && known == 0)
		return;
	ml_if some = ml_if_begin(e, LLVMBuildICmp(e->b, LLVMIntSGT, tail, ml_i64(e, 0), ""));
	emit_lines(w, begin, end, blocks, tail);
	ml_if_end(e, &some);
}

static void
fill_line(depthwise_emit *w)
{
	ml_expr *x = &w->x;
	ml_emit *e = x->e;
	const ml_type *t = &w->d->image.image->type;
	LLVMTypeRef type = w->is_integer ? e->i8 : e->f32;
	ml_v v = ml_expr_at(x, ml_in(w->d->image.pad, 1), NULL);
	ml_v all = ml_mul(e, ml_expr_dim(x, t->dim[2]), ml_expr_dim(x, t->dim[3]));

	v = ml_splat(e, ml_to_memory(e, t->dtype, v));
	ml_loop l = ml_loop_begin(e, ml_i64(e, 0), all, ml_i64(e, ML_LANES), NULL, 0, "fill");
	ml_store(e, v, ml_gep(e, type, w->outside, l.i), 1);
	ml_loop_end(e, &l, NULL);
}

static const ml_sym *
declare(depthwise_emit *w, int dim)
{
	ml_dims *dims = w->x.kernel->m->dims;
	ml_dim last = ml_dim_sub(dims, w->d->rows->space.dim[dim], ml_dim_int(dims, 1));
	const ml_sym *s = ml_expr_loop_var(&w->x, NULL, last);

	w->index[dim] = ml_dim_sym(dims, s);
	return s;
}

ml_status
ml_depthwise_emit(const ml_depthwise *d, ml_emit *e, const char *name)
{
	depthwise_emit w = {.d = d, .is_integer = d->image.image->type.dtype == ML_u8};
	ml_expr *x = &w.x;
	const ml_type *t = &d->image.image->type;

	ml_expr_open(x, e, d->rows->kernel, name);
	w.image = declare(&w, 0);
	w.line = declare(&w, 1);
	w.pixel = declare(&w, 2);
	w.index[3] = ml_expr_lanes(x, ml_i64(e, 0), d->rows->space.dim[3]);
	w.step = ml_mul(e, ml_expr_dim(x, t->dim[3]), ml_i64(e, ml_dtype_bytes(t->dtype)));
	w.outside = x->scratch;
	w.pixels = pixels_at_once(&w);
	w.bases = ml_alloca(e, LLVMArrayType2(e->ptr, MOST_SIDE), 8);
	if (!fits_registers(&w))
		w.kept = ml_alloca(
			e, LLVMArrayType2(lanes_type(&w), (uint64_t)(MOST_TAPS * d->inputs)), 64);
	w.low = ml_i64(e, 0);
	if (d->image.pad) {
		w.low = ml_expr_dim(x, ML_A(d->image.pad, pad, low).dims[2]);
		fill_line(&w);
	}
	ml_v lines = ml_i64(e, d->lines);
	ml_v end = ml_min_s(e, ml_mul(e, ml_expr_end(x), lines),
			    ml_expr_dim(x, ml_depthwise_lines(d)));
	ml_v some = ml_i64(e, lines_at_once(&w));
	ml_loop l =
		ml_loop_begin(e, ml_mul(e, ml_expr_begin(x), lines), end, some, NULL, 0, "lines");
	int mark = ml_expr_mark(x);
	emit_pass(&w, l.i, ml_min_s(e, ml_add(e, l.i, some), end));
	ml_expr_release(x, mark);
	ml_loop_end(e, &l, NULL);
	ml_expr_no_lanes(x);
	return ml_expr_close(x);
}
