/* lower_sample.c -- sampling images at computed positions: GridSample, AffineGrid, DeformConv.
 *
 * An image becomes rows of channels; a position becomes a weighted sum of gathered rows.
 */
#include "lower_spatial.h"
#include <math.h>
#include <string.h>

enum { MOST_AXES = 3 };

/* An image [N, C, size..] as rows [N * size.., C], and how positions outside of it are read. */
typedef struct sampler {
	ml_lower *x;
	ml_value *rows, *first; /* first: s64 row number of each batch, broadcasts to positions */
	int n;
	ml_dim size[MOST_AXES];
	const char *mode, *outside; /* linear, nearest, cubic; zeros, border, reflection */
	bool align;                 /* reflection at the centers of border elements */
} sampler;

/* A number of the type positions are computed in. */
static ml_value *
number(sampler *s, double v)
{
	return ml_build_f64(s->x->b, ML_f32, v);
}

static ml_value *
size_of(sampler *s, int axis)
{
	return ml_build_cast(s->x->b, ml_build_dim(s->x->b, s->size[axis]), ML_f32);
}

static bool
open_sampler(sampler *s, ml_value *v)
{
	ml_lower *x = s->x;
	int64_t perm[ML_MAX_RANK];
	ml_dim rows = v->type.dim[0], plane = ML_INT(1), shape[] = {NULL, v->type.dim[1]};

	s->n = v->type.rank - 2;
	if (s->n < 1 || s->n > MOST_AXES) {
		ml_lower_fail(x, ML_ERR_SHAPE, "an image of rank %d", v->type.rank);
		return false;
	}
	perm[0] = 0;
	perm[s->n + 1] = 1;
	for (int i = 0; i < s->n; i++) {
		s->size[i] = v->type.dim[2 + i];
		plane = ml_dim_mul(ML_DIMS, plane, s->size[i]);
		perm[1 + i] = 2 + i;
	}
	shape[0] = ml_dim_mul(ML_DIMS, rows, plane);
	s->rows = ml_lower_reshape(x, ml_lower_transpose(x, v, perm), shape, 2);
	s->first = ML_X2(mul, ml_build_iota(x->b, &rows, 1, 0, ML_s64), ml_build_dim(x->b, plane));
	return s->rows && s->first;
}

/* Folds positions back at both borders: period 2 (high - low). */
static ml_value *
reflected(sampler *s, int axis, ml_value *at)
{
	ml_lower *x = s->x;
	ml_value *low = number(s, s->align ? 0 : -0.5);
	ml_value *extent = ML_X2(sub, size_of(s, axis), number(s, s->align ? 1 : 0));
	ml_value *period = ML_X2(mul, extent, number(s, 2));

	/* a single element has no extent */
	period = ML_X2(max, period, number(s, 1e-6));
	at = ML_X2(mod, ML_X2(sub, at, low), period);
	return ML_X2(add, ML_X2(min, at, ML_X2(sub, period, at)), low);
}

static ml_value *
clamped(sampler *s, int axis, ml_value *at)
{
	ml_lower *x = s->x;
	ml_value *last = ML_X2(sub, size_of(s, axis), number(s, 1));

	return ML_X2(min, ML_X2(max, at, number(s, 0)), last);
}

static ml_value *
bounded(sampler *s, int axis, ml_value *at)
{
	if (!strcmp(s->outside, "border"))
		return clamped(s, axis, at);
	return !strcmp(s->outside, "reflection") ? reflected(s, axis, at) : at;
}

/* Rows at whole positions, [positions.., C]; zeros outside where that is asked for. */
static ml_value *
rows_at(sampler *s, ml_value *const *at)
{
	ml_lower *x = s->x;
	ml_value *index = s->first, *inside = NULL, *rows;
	ml_dim stride = ML_INT(1);

	for (int i = s->n - 1; i >= 0; i--) {
		ml_value *in = clamped(s, i, bounded(s, i, at[i])), *k;
		k = in ? ml_build_cast(x->b, in, ML_s64) : NULL;
		index = ML_X2(add, index, ML_X2(mul, k, ml_build_dim(x->b, stride)));
		stride = ml_dim_mul(ML_DIMS, stride, s->size[i]);
		in = ML_X2(eq, in, at[i]);
		inside = inside ? ML_X2(and, inside, in) : in;
	}
	rows = index ? ml_build_gather(x->b, s->rows, index, 0) : NULL;
	if (!rows || strcmp(s->outside, "zeros"))
		return rows;
	int64_t last = rows->type.rank - 1;
	inside = inside ? ml_build_unsqueeze(x->b, inside, &last, 1) : NULL;
	return ML_X3(select, inside, rows, ML_LIKE(rows, 0));
}

/* The weight of the tap `offset` away from the position's floor; `part` is what floor took off. */
static ml_value *
tap_weight(sampler *s, ml_value *part, int offset)
{
	ml_lower *x = s->x;
	const double a = -0.75;
	ml_value *d = ML_X1(abs, ML_X2(sub, part, number(s, offset))), *square = ML_X2(mul, d, d);
	bool near = offset == 0 || offset == 1;

	if (strcmp(s->mode, "cubic"))
		return ML_X2(sub, number(s, 1), d);
	if (near) { /* ((a + 2) d - (a + 3)) d^2 + 1 */
		d = ML_X2(sub, ML_X2(mul, d, number(s, a + 2)), number(s, a + 3));
		return ML_X2(add, ML_X2(mul, d, square), number(s, 1));
	}
	square = ML_X2(
		add, ML_X2(sub, ML_X2(mul, square, number(s, a)), ML_X2(mul, d, number(s, 5 * a))),
		number(s, 8 * a));
	return ML_X2(sub, ML_X2(mul, square, d), number(s, 4 * a));
}

/* Values at positions `at`, one f32 tensor for each axis: [positions.., C] */
static ml_value *
sample(sampler *s, ml_value **at)
{
	ml_lower *x = s->x;
	bool cubic = !strcmp(s->mode, "cubic");
	int first = cubic ? -1 : 0, taps = cubic ? 4 : 2, all = 1;
	ml_value *base[MOST_AXES], *part[MOST_AXES], *where[MOST_AXES], *sum = NULL;

	for (int i = 0; i < s->n; i++) {
		if (!strcmp(s->mode, "nearest"))
			base[i] = ML_X1(round, at[i]);
		else
			base[i] = ML_X1(floor, at[i]);
		part[i] = ML_X2(sub, at[i], base[i]);
		all *= taps;
	}
	if (!strcmp(s->mode, "nearest"))
		return rows_at(s, base);
	for (int k = 0; k < all; k++) {
		ml_value *weight = NULL, *rows;
		for (int i = 0, rest = k; i < s->n; i++, rest /= taps) {
			int offset = first + rest % taps;
			ml_value *w = tap_weight(s, part[i], offset);
			where[i] = ML_X2(add, base[i], number(s, offset));
			weight = weight ? ML_X2(mul, weight, w) : w;
		}
		rows = rows_at(s, where);
		if (!rows || !weight)
			return NULL;
		int64_t last = rows->type.rank - 1;
		weight = ml_lower_as(x, ml_build_unsqueeze(x->b, weight, &last, 1), rows);
		rows = ML_X2(mul, rows, weight);
		sum = sum ? ML_X2(add, sum, rows) : rows;
	}
	return sum;
}

/* ---- GridSample ---- */

static bool
read_grid_modes(sampler *s)
{
	ml_lower *x = s->x;

	s->mode = ml_onnx_text(x, "mode", "linear");
	s->outside = ml_onnx_text(x, "padding_mode", "zeros");
	s->align = ml_onnx_int(x, "align_corners", 0) != 0;
	if (!strcmp(s->mode, "bilinear"))
		s->mode = "linear";
	if (!strcmp(s->mode, "bicubic"))
		s->mode = "cubic";
	bool known = !strcmp(s->mode, "linear") || !strcmp(s->mode, "nearest") ||
		     !strcmp(s->mode, "cubic");
	if (known && (!strcmp(s->outside, "zeros") || !strcmp(s->outside, "border") ||
		      !strcmp(s->outside, "reflection")))
		return true;
	ml_lower_fail(x, ML_ERR_VALUE, "mode or padding_mode is unknown");
	return false;
}

/* Coordinate -1..1 of one axis as a position */
static ml_value *
position(sampler *s, ml_value *grid, int axis)
{
	ml_lower *x = s->x;
	int64_t last = grid->type.rank - 1;
	ml_value *g = ml_lower_cut(x, grid, (int)last, ML_INT(s->n - 1 - axis), ML_INT(1));

	g = g ? ml_build_squeeze(x->b, g, &last, 1) : NULL;
	g = ML_X2(add, g, number(s, 1));
	if (s->align) {
		g = ML_X2(mul, g, ML_X2(sub, size_of(s, axis), number(s, 1)));
		return ML_X2(mul, g, number(s, 0.5));
	}
	g = ML_X2(sub, ML_X2(mul, g, size_of(s, axis)), number(s, 1));
	return ML_X2(mul, g, number(s, 0.5));
}

ml_value *
ml_lower_grid_sample(ml_lower *x)
{
	sampler s = {.x = x};
	ml_value *v = x->in[0], *grid = ml_build_cast(x->b, x->in[1], ML_f32), *at[MOST_AXES];
	ml_dim column[ML_MAX_RANK];

	if (!grid || !read_grid_modes(&s) || !open_sampler(&s, v))
		return NULL;
	if (grid->type.rank != s.n + 2 || !ml_dim_equals(grid->type.dim[s.n + 1], s.n))
		return ml_lower_fail(x, ML_ERR_SHAPE, "the grid does not fit the image");
	if (!ml_require_equal(x->b, grid->type.dim[0], v->type.dim[0], "one grid for each image"))
		return ml_lower_fail(x, ML_ERR_SHAPE, "one grid for each image");
	for (int i = 0; i <= s.n; i++)
		column[i] = i ? ML_INT(1) : v->type.dim[0];
	s.first = ml_lower_reshape(x, s.first, column, s.n + 1);
	for (int i = 0; i < s.n; i++) {
		at[i] = position(&s, grid, i);
		if (!strcmp(s.mode, "nearest"))
			at[i] = ML_X1(round, at[i]);
		at[i] = bounded(&s, i, at[i]);
	}
	v = sample(&s, at);
	return ml_lower_move_axis(x, v, s.n + 1, 1);
}

/* ---- AffineGrid ---- */

/* Coordinates -1..1 along one axis, as [1.., size, ..1] of that rank */
static ml_value *
coordinates(ml_lower *x, ml_dim size, int axis, int rank, bool align, ml_dtype dtype)
{
	ml_dim shape[ML_MAX_RANK];
	ml_value *i = ml_build_cast(x->b, ml_build_iota(x->b, &size, 1, 0, ML_s64), dtype);
	ml_value *n = ml_build_cast(x->b, ml_build_dim(x->b, size), dtype), *two = ML_LIKE(i, 2);

	for (int k = 0; k < rank; k++)
		shape[k] = k == axis ? size : ML_INT(1);
	if (align) { /* 2 i / (n - 1) - 1 */
		n = ML_X2(max, ML_X2(sub, n, ML_LIKE(i, 1)), ML_LIKE(i, 1));
		i = ML_X2(div, ML_X2(mul, i, two), n);
	} else { /* (2 i + 1) / n - 1 */
		i = ML_X2(div, ML_X2(add, ML_X2(mul, i, two), ML_LIKE(i, 1)), n);
	}
	return ml_lower_reshape(x, ML_X2(sub, i, ML_LIKE(i, 1)), shape, rank);
}

/* theta[N, n, n + 1] and the size N, C, size.. give [N, size.., n] */
ml_value *
ml_lower_affine_grid(ml_lower *x)
{
	static const int64_t row = 2;
	ml_value *theta = ml_lower_wide(x, x->in[0]), *part[MOST_AXES + 1], *base, *y;
	bool align = ml_onnx_int(x, "align_corners", 0) != 0;
	int n, count;
	const ml_dim *size = ml_lower_dims(x, 1, &count);
	ml_dim shape[MOST_AXES + 1];

	n = count - 2;
	if (!size || !theta)
		return NULL;
	if (n < 2 || n > MOST_AXES || theta->type.rank != 3)
		return ml_lower_fail(x, ML_ERR_SHAPE, "%d sizes and theta of rank %d", count,
				     theta->type.rank);
	for (int i = 0; i < n; i++)
		shape[i] = size[2 + i];
	shape[n] = ML_INT(1);
	for (int i = 0; i <= n; i++) { /* the fastest axis comes first, then 1 */
		int axis = n - 1 - i;
		ml_value *c =
			i == n ? ML_LIKE(theta, 1)
			       : coordinates(x, shape[axis], axis, n + 1, align, theta->type.dtype);
		part[i] = ml_build_broadcast(x->b, c, shape, n + 1);
	}
	base = ml_build_concat(x->b, part, n + 1, n);
	int64_t last = n;
	y = ml_build_dot(x->b, base, theta, NULL, NULL, 0, &last, &row, 1); /* [size.., N, n] */
	return ml_lower_as(x, ml_lower_move_axis(x, y, n, 0), x->in[0]);
}

/* ---- DeformConv ---- */

/* Positions of all taps along one axis: f32[N, G, kernel.., out..] */
static ml_value *
tap_positions(sampler *s, ml_value *offset, const ml_spatial *k, int axis)
{
	ml_lower *x = s->x;
	int64_t pair = 2 + k->n;
	int r = offset->type.rank;
	ml_dim shape[ML_MAX_RANK];
	ml_value *v = ml_lower_cut(x, offset, (int)pair, ML_INT(axis), ML_INT(1)), *tap, *out;

	v = v ? ml_build_squeeze(x->b, v, &pair, 1) : NULL; /* [N, G, kernel.., out..] */
	for (int i = 0; i < r - 1; i++)
		shape[i] = v ? v->type.dim[i] : NULL;
	if (!v)
		return NULL;
	tap = ml_build_iota(x->b, shape, r - 1, 2 + axis, ML_s64);
	out = ml_build_iota(x->b, shape, r - 1, 2 + k->n + axis, ML_s64);
	tap = ML_X2(mul, tap, ML_LIKE(tap, (double)k->dilation[axis]));
	out = ML_X2(mul, out, ML_LIKE(out, (double)k->stride[axis]));
	out = ML_X2(sub, ML_X2(add, tap, out), ml_build_dim(x->b, k->low[axis]));
	return ML_X2(add, v, out ? ml_build_cast(x->b, out, ML_f32) : NULL);
}

/* offset[N, G*kernel*n, out..] -> [N, G, kernel.., n, out..] */
static ml_value *
split_taps(ml_lower *x, ml_value *v, const ml_spatial *k, int64_t groups, bool pairs)
{
	ml_dim shape[ML_MAX_RANK];
	int n = 0;

	if (!v)
		return NULL;
	if (v->type.rank != k->n + 2)
		return ml_lower_fail(x, ML_ERR_SHAPE, "offset or mask of rank %d", v->type.rank);
	shape[n++] = v->type.dim[0];
	shape[n++] = ML_INT(groups);
	for (int i = 0; i < k->n; i++)
		shape[n++] = ML_INT(k->size[i]);
	if (pairs)
		shape[n++] = ML_INT(k->n);
	for (int i = 0; i < k->n; i++)
		shape[n++] = v->type.dim[2 + i];
	return ml_lower_reshape(x, v, shape, n);
}

/* Samples one group of channels: [N, C/G, kernel.., out..] */
static ml_value *
deformed_group(ml_lower *x, const ml_spatial *k, ml_value *v, ml_value *offset, ml_value *mask,
	       int group)
{
	sampler s = {.x = x, .mode = "linear", .outside = "zeros"};
	ml_value *at[MOST_AXES];
	ml_dim column[ML_MAX_RANK];
	int64_t one = 1;
	int r = 1 + 2 * k->n;

	if (!open_sampler(&s, v))
		return NULL;
	for (int i = 0; i < r; i++)
		column[i] = i ? ML_INT(1) : v->type.dim[0];
	s.first = ml_lower_reshape(x, s.first, column, r);
	for (int i = 0; i < k->n; i++) {
		at[i] = tap_positions(&s, offset, k, i);
		at[i] = ml_lower_cut(x, at[i], 1, ML_INT(group), ML_INT(1));
		at[i] = at[i] ? ml_build_squeeze(x->b, at[i], &one, 1) : NULL;
	}
	v = sample(&s, at); /* [N, kernel.., out.., C/G] */
	if (mask) {
		int64_t last = r;
		mask = ml_lower_cut(x, mask, 1, ML_INT(group), ML_INT(1));
		mask = mask ? ml_build_squeeze(x->b, mask, &one, 1) : NULL;
		mask = mask ? ml_build_unsqueeze(x->b, mask, &last, 1) : NULL;
		v = ML_X2(mul, v, mask);
	}
	return ml_lower_move_axis(x, v, r, 1);
}

ml_value *
ml_lower_deform_conv(ml_lower *x)
{
	ml_value *v = x->in[0], *w = x->in[1], *part[16], *y;
	int64_t groups = ml_onnx_int(x, "group", 1), fields = ml_onnx_int(x, "offset_group", 1);
	ml_spatial k;
	ml_dim each;

	if (!ml_spatial_read(x, &v->type, &w->type, false, &k))
		return NULL;
	if (v->type.dtype != ML_f32 || k.n > 2)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "other types than f32, or 3-D images");
	if (fields < 1 || fields > 16 ||
	    !ml_dim_divides(ML_DIMS, v->type.dim[1], ML_INT(fields), &each))
		return ml_lower_fail(x, ML_ERR_VALUE, "offset_group is %lld", (long long)fields);
	ml_value *offset = split_taps(x, x->in[2], &k, fields, true);
	ml_value *mask = split_taps(x, x->in[4], &k, fields, false);
	if (!offset || (x->in[4] && !mask))
		return NULL;
	for (int i = 0; i < fields; i++)
		part[i] = deformed_group(
			x, &k, ml_lower_cut(x, v, 1, ml_dim_mul(ML_DIMS, each, ML_INT(i)), each),
			offset, mask, i);
	v = fields == 1 ? part[0] : ml_build_concat(x->b, part, (int)fields, 1);
	/* [N, C, kernel.., out..]: to the order of windows, [N, C, out.., kernel..] */
	for (int i = 0; i < k.n; i++)
		v = ml_lower_move_axis(x, v, 2, 1 + 2 * k.n);
	y = v ? ml_lower_window_product(x, v, w, k.n, groups) : NULL;
	return x->in[3] && y ? ML_X2(add, y, ml_lower_along(x, x->in[3], 1, y->type.rank)) : y;
}
