/* lower_resize.c -- Resize and Upsample: along each axis, a weighted sum of gathered elements.
 *
 * Coordinates and weights are vectors computed by the graph itself, in f32 as ONNX Runtime does
 * it: constants where the sizes are known, a handful of small operations where they are not.
 */
#include "lower.h"
#include <math.h>
#include <string.h>

enum { MOST_TAPS = 128 };

typedef struct resize {
	ml_lower *x;
	const char *mode, *coordinates, *nearest;
	bool antialias, exclude_outside;
	double cubic, outside; /* coefficient of the kernel; value beyond the crop */
} resize;

/* One axis to be resized. */
typedef struct span {
	int axis;
	ml_dim in, out;
	double scale; /* 0: out / in, known only when the model runs */
	double roi[2];
} span;

static ml_value *
number(resize *r, double v)
{
	return ml_build_f64(r->x->b, ML_f32, v);
}

static ml_value *
size(resize *r, ml_dim d)
{
	return ml_build_cast(r->x->b, ml_build_dim(r->x->b, d), ML_f32);
}

/* ---- where each output element lies in the input: f32[out] ---- */

static ml_value *
scale_of(resize *r, const span *s)
{
	ml_lower *x = r->x;

	return s->scale != 0 ? number(r, s->scale) : ML_X2(div, size(r, s->out), size(r, s->in));
}

static ml_value *
half_pixel(resize *r, const span *s, ml_value *i)
{
	ml_lower *x = r->x;

	i = ML_X2(div, ML_X2(add, i, number(r, 0.5)), scale_of(r, s));
	return ML_X2(sub, i, number(r, 0.5));
}

/* first + i (last - first) / (n - 1) over the input's extent, n being what the scale asks for */
static ml_value *
corners(resize *r, const span *s, ml_value *i, double first, double last)
{
	ml_lower *x = r->x;
	ml_value *extent = ML_X2(sub, size(r, s->in), number(r, 1));
	ml_value *n = ML_X2(mul, scale_of(r, s), size(r, s->in)), *way;
	ml_value *single = ML_X2(eq, n, number(r, 1));

	way = ML_X2(mul, extent, number(r, last - first));
	n = ML_X3(select, single, number(r, 2), n);
	i = ML_X2(div, ML_X2(mul, i, way), ML_X2(sub, n, number(r, 1)));
	if (first != 0 || last != 1) /* a single element is the middle of the crop */
		i = ML_X3(select, single, ML_X2(mul, way, number(r, 0.5)), i);
	else
		i = ML_X3(select, single, number(r, 0), i);
	return ML_X2(add, i, ML_X2(mul, extent, number(r, first)));
}

static ml_value *
symmetric(resize *r, const span *s, ml_value *i)
{
	ml_lower *x = r->x;
	ml_value *wanted = ML_X2(mul, scale_of(r, s), size(r, s->in));
	ml_value *adjust = ML_X2(div, size(r, s->out), wanted);
	ml_value *offset = ML_X2(mul, ML_X2(mul, size(r, s->in), number(r, 0.5)),
				 ML_X2(sub, number(r, 1), adjust));

	return ML_X2(add, offset, half_pixel(r, s, i));
}

static ml_value *
coordinates(resize *r, const span *s)
{
	ml_lower *x = r->x;
	const char *mode = r->coordinates;
	ml_value *i = ml_build_cast(x->b, ml_build_iota(x->b, &s->out, 1, 0, ML_s64), ML_f32);

	if (!strcmp(mode, "half_pixel"))
		return half_pixel(r, s, i);
	if (!strcmp(mode, "asymmetric"))
		return ML_X2(div, i, scale_of(r, s));
	if (!strcmp(mode, "align_corners"))
		return corners(r, s, i, 0, 1);
	if (!strcmp(mode, "tf_crop_and_resize"))
		return corners(r, s, i, s->roi[0], s->roi[1]);
	if (!strcmp(mode, "half_pixel_symmetric"))
		return symmetric(r, s, i);
	if (!strcmp(mode, "tf_half_pixel_for_nn"))
		return ML_X2(div, ML_X2(add, i, number(r, 0.5)), scale_of(r, s));
	if (!strcmp(mode, "pytorch_half_pixel"))
		return ml_dim_equals(s->out, 1) ? number(r, 0) : half_pixel(r, s, i);
	return ml_lower_fail(x, ML_ERR_VALUE, "coordinate_transformation_mode '%s' is unknown",
			     ml_escaped(&x->cx->arena, mode));
}

/* ---- picking elements ---- */

/* Positions, whole numbers in f32, kept inside and made an index. */
static ml_value *
pick(resize *r, ml_value *v, const span *s, ml_value *at)
{
	ml_lower *x = r->x;
	ml_dim out = s->out;

	if (!at)
		return NULL;
	at = ML_X2(max, at, number(r, 0));
	at = ML_X2(min, at, ML_X2(sub, size(r, s->in), number(r, 1)));
	at = ml_build_cast(x->b, at, ML_s64);
	if (at && at->type.rank == 0)
		at = ml_lower_reshape(x, at, &out, 1);
	return ml_build_gather(x->b, v, at, s->axis);
}

/* Whole scales repeat each element, in the modes that have no offset: no index is needed. */
static bool
repeats(const resize *r, const span *s)
{
	bool centered = !strcmp(r->coordinates, "half_pixel") ||
			!strcmp(r->coordinates, "pytorch_half_pixel");
	bool rounds = !strncmp(r->nearest, "round", 5);
	bool floors = !strcmp(r->coordinates, "asymmetric") && !strcmp(r->nearest, "floor");

	return s->scale >= 1 && s->scale == floor(s->scale) && ((centered && rounds) || floors);
}

static ml_value *
repeat(resize *r, ml_value *v, const span *s)
{
	ml_lower *x = r->x;
	ml_dim split[ML_MAX_RANK + 1], out[ML_MAX_RANK];
	int rank = v->type.rank;

	for (int i = 0; i < rank; i++) {
		split[i + (i > s->axis)] = v->type.dim[i];
		out[i] = i == s->axis ? s->out : v->type.dim[i];
	}
	split[s->axis + 1] = ML_INT(1);
	v = ml_lower_reshape(x, v, split, rank + 1);
	split[s->axis + 1] = ML_INT((int64_t)s->scale);
	return ml_lower_reshape(x, ml_build_broadcast(x->b, v, split, rank + 1), out, rank);
}

static ml_value *
nearest(resize *r, ml_value *v, const span *s, ml_value *at)
{
	ml_lower *x = r->x;

	if (repeats(r, s) && v->type.rank < ML_MAX_RANK)
		return repeat(r, v, s);
	if (!strcmp(r->nearest, "floor"))
		at = ML_X1(floor, at);
	else if (!strcmp(r->nearest, "ceil"))
		at = ML_X1(ceil, at);
	else if (!strcmp(r->nearest, "round_prefer_floor"))
		at = ML_X1(ceil, ML_X2(sub, at, number(r, 0.5)));
	else if (!strcmp(r->nearest, "round_prefer_ceil"))
		at = ML_X1(floor, ML_X2(add, at, number(r, 0.5)));
	else
		return ml_lower_fail(x, ML_ERR_VALUE, "nearest_mode '%s' is unknown",
				     ml_escaped(&x->cx->arena, r->nearest));
	return pick(r, v, s, at);
}

/* ---- kernels, as functions of the distance ---- */

static ml_value *
linear_kernel(resize *r, ml_value *d)
{
	ml_lower *x = r->x;

	return ML_X2(max, ML_X2(sub, number(r, 1), d), number(r, 0));
}

static ml_value *
cubic_kernel(resize *r, ml_value *d)
{
	ml_lower *x = r->x;
	double a = r->cubic;
	ml_value *square = ML_X2(mul, d, d), *near, *far;

	/* ((a + 2) d - (a + 3)) d^2 + 1 up to 1, ((a d - 5 a) d + 8 a) d - 4 a up to 2 */
	near = ML_X2(sub, ML_X2(mul, d, number(r, a + 2)), number(r, a + 3));
	near = ML_X2(add, ML_X2(mul, near, square), number(r, 1));
	far = ML_X2(sub, ML_X2(mul, d, number(r, a)), number(r, 5 * a));
	far = ML_X2(add, ML_X2(mul, far, d), number(r, 8 * a));
	far = ML_X2(sub, ML_X2(mul, far, d), number(r, 4 * a));
	far = ML_X3(select, ML_X2(lt, d, number(r, 2)), far, number(r, 0));
	return ML_X3(select, ML_X2(le, d, number(r, 1)), near, far);
}

/* The weights of taps first..last for every output element; false on failure. */
static bool
weigh(resize *r, const span *s, ml_value *at, double reach, double squeeze, int first, int n,
      ml_value **where, ml_value **weight)
{
	ml_lower *x = r->x;
	ml_value *base = ML_X1(floor, at), *sum = NULL, *d;

	for (int k = 0; k < n; k++) {
		where[k] = ML_X2(add, base, number(r, first + k));
		d = ML_X1(abs, ML_X2(sub, where[k], at));
		d = squeeze < 1 ? ML_X2(mul, d, number(r, squeeze)) : d;
		weight[k] = reach == 1 ? linear_kernel(r, d) : cubic_kernel(r, d);
		if (r->exclude_outside) {
			ml_value *in = ML_X2(le, number(r, 0), where[k]);
			in = ML_X2(and, in, ML_X2(lt, where[k], size(r, s->in)));
			weight[k] = ML_X3(select, in, weight[k], number(r, 0));
		}
		sum = sum ? ML_X2(add, sum, weight[k]) : weight[k];
	}
	for (int k = 0; k < n && (r->exclude_outside || squeeze < 1); k++)
		weight[k] = ML_X2(div, weight[k], sum);
	return x->b->failed == ML_OK;
}

static ml_value *
interpolate(resize *r, ml_value *v, const span *s, ml_value *at, double reach)
{
	ml_lower *x = r->x;
	double squeeze = r->antialias && s->scale < 1 ? s->scale : 1;
	int first = (int)floor(-reach / squeeze) + 1, n = 2 - 2 * first;
	ml_value *where[MOST_TAPS], *weight[MOST_TAPS], *sum = NULL;

	if (r->antialias && s->scale == 0)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "antialias needs known sizes");
	if (n > MOST_TAPS)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "scale %g is too small", s->scale);
	if (!at || !weigh(r, s, at, reach, squeeze, first, n, where, weight))
		return NULL;
	for (int k = 0; k < n; k++) {
		ml_value *w = ml_lower_along(x, weight[k], s->axis, v->type.rank);
		w = ML_X2(mul, pick(r, v, s, where[k]), w);
		sum = sum ? ML_X2(add, sum, w) : w;
	}
	return sum;
}

/* Elements whose coordinates lie outside of the input get the extrapolation value. */
static ml_value *
extrapolate(resize *r, ml_value *v, const span *s, ml_value *at)
{
	ml_lower *x = r->x;
	ml_value *last = ML_X2(sub, size(r, s->in), number(r, 1)), *in;

	in = ML_X2(and, ML_X2(le, number(r, 0), at), ML_X2(le, at, last));
	in = v ? ml_lower_along(x, in, s->axis, v->type.rank) : NULL;
	return ML_X3(select, in, v, ML_LIKE(v, r->outside));
}

static ml_value *
resize_axis(resize *r, ml_value *v, const span *s)
{
	ml_lower *x = r->x;
	ml_value *at = coordinates(r, s), *y = NULL;
	const ml_dtype dtype = v->type.dtype;

	if (!at)
		return NULL;
	if (!strcmp(r->mode, "nearest")) {
		y = nearest(r, v, s, at);
	} else {
		v = dtype == ML_f64 ? v : ml_build_cast(x->b, v, ML_f32);
		y = v ? interpolate(r, v, s, at, !strcmp(r->mode, "cubic") ? 2 : 1) : NULL;
	}
	if (!strcmp(r->coordinates, "tf_crop_and_resize"))
		y = extrapolate(r, y, s, at);
	if (y && ml_is_integer(dtype) && y->type.dtype == ML_f32)
		y = ML_X1(round, y);
	return y ? ml_build_cast(x->b, y, dtype) : NULL;
}

/* ---- sizes and scales ---- */

/* floor(size * scale): symbolic sizes need a scale that is a ratio of small numbers. */
static ml_dim
scaled(ml_lower *x, ml_dim in, double scale)
{
	int64_t n;

	if (ml_dim_is_int(in, &n))
		return ML_INT((int64_t)floor((double)n * scale));
	for (int64_t q = 1; q <= 1024; q++) {
		double p = scale * (double)q;
		if (fabs(p - round(p)) < 1e-6 * (double)q && round(p) >= 1)
			return ml_dim_floordiv(ML_DIMS,
					       ml_dim_mul(ML_DIMS, in, ML_INT((int64_t)round(p))),
					       ML_INT(q));
	}
	return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "scale %g of a dynamic dim", scale);
}

/* keep_aspect_ratio_policy: one scale for all axes, and the sizes it gives. */
static bool
keep_aspect(ml_lower *x, span *s, int n)
{
	const char *policy = ml_onnx_text(x, "keep_aspect_ratio_policy", "stretch");
	bool least = !strcmp(policy, "not_larger");
	double scale = 0;
	int64_t in;

	if (!strcmp(policy, "stretch"))
		return true;
	if (!least && strcmp(policy, "not_smaller")) {
		ml_lower_fail(x, ML_ERR_VALUE, "keep_aspect_ratio_policy is unknown");
		return false;
	}
	for (int i = 0; i < n; i++) {
		if (s[i].scale == 0) {
			ml_lower_fail(x, ML_ERR_UNSUPPORTED, "aspect ratios of dynamic dims");
			return false;
		}
		if (!i || (least ? s[i].scale < scale : s[i].scale > scale))
			scale = s[i].scale;
	}
	for (int i = 0; i < n; i++) {
		s[i].scale = scale;
		ml_dim_is_int(s[i].in, &in);
		s[i].out = ML_INT((int64_t)floor(scale * (double)in + 0.5));
	}
	return true;
}

static bool
from_sizes(ml_lower *x, int operand, span *s, int n)
{
	int count;
	const ml_dim *d = ml_lower_dims(x, operand, &count);
	int64_t in, out, lo, hi;

	if (!d)
		return false;
	if (count != n) {
		ml_lower_fail(x, ML_ERR_SHAPE, "%d sizes for %d axes", count, n);
		return false;
	}
	for (int i = 0; i < n; i++) {
		s[i].out = d[i];
		ml_dim_range(d[i], &lo, &hi);
		if (hi < 1) {
			ml_lower_fail(x, ML_ERR_VALUE, "size %d is not positive", i);
			return false;
		}
		if (s[i].out == s[i].in)
			s[i].scale = 1;
		else if (ml_dim_is_int(d[i], &out) && ml_dim_is_int(s[i].in, &in) && in)
			s[i].scale = (double)out / (double)in;
	}
	return keep_aspect(x, s, n);
}

static bool
set_scales(ml_lower *x, const double *scale, int64_t count, span *s, int n)
{
	if (count != n) {
		ml_lower_fail(x, ML_ERR_SHAPE, "%lld scales for %d axes", (long long)count, n);
		return false;
	}
	for (int i = 0; i < n; i++) {
		if (!(scale[i] > 0) || scale[i] > 1e6) {
			ml_lower_fail(x, ML_ERR_VALUE, "scale %d is %g", i, scale[i]);
			return false;
		}
		s[i].scale = scale[i];
		s[i].out = scaled(x, s[i].in, scale[i]);
		if (!s[i].out)
			return false;
	}
	return true;
}

static bool
is_given(const ml_lower *x, int i)
{
	return x->in[i] && !(x->in[i]->type.rank == 1 && ml_dim_equals(x->in[i]->type.dim[0], 0));
}

static ml_value *
resize_axes(resize *r, const span *s, int n)
{
	ml_value *v = r->x->in[0];
	bool crop = !strcmp(r->coordinates, "tf_crop_and_resize");

	for (int i = 0; i < n && v; i++)
		if (crop || s[i].scale != 1 || s[i].out != s[i].in)
			v = resize_axis(r, v, &s[i]);
	return v;
}

static bool
read_roi(ml_lower *x, span *s, int n)
{
	int64_t count;
	const double *roi = ml_lower_numbers(x, 1, &count);

	if (roi && count == 2 * n) {
		for (int i = 0; i < n; i++) {
			s[i].roi[0] = roi[i];
			s[i].roi[1] = roi[n + i];
		}
		return true;
	}
	if (x->b->failed == ML_OK)
		ml_lower_fail(x, ML_ERR_SHAPE, "roi must have two numbers for each axis");
	return false;
}

/* The axes, which are all unless the attribute says otherwise. */
static span *
spans(ml_lower *x, int *n)
{
	const ml_type *t = &x->in[0]->type;
	int64_t *axes = ml_lower_axes(x, -1, "axes", t->rank, n);

	if (*n < 0)
		return NULL;
	*n = axes ? *n : t->rank;
	span *s = ML_LOWER_ARRAY(x, span, *n);
	for (int i = 0; i < *n; i++) {
		s[i].axis = axes ? (int)axes[i] : i;
		s[i].in = s[i].out = t->dim[s[i].axis];
	}
	return s;
}

static bool
read_modes(resize *r)
{
	ml_lower *x = r->x;

	r->mode = ml_onnx_text(x, "mode", "nearest");
	r->antialias = ml_onnx_int(x, "antialias", 0) != 0;
	r->exclude_outside = ml_onnx_int(x, "exclude_outside", 0) != 0;
	r->cubic = ml_onnx_float(x, "cubic_coeff_a", -0.75);
	r->outside = ml_onnx_float(x, "extrapolation_value", 0);
	r->nearest = ml_onnx_text(x, "nearest_mode", "round_prefer_floor");
	r->coordinates = ml_onnx_text(x, "coordinate_transformation_mode", "half_pixel");
	if (!strcmp(r->mode, "nearest") || !strcmp(r->mode, "linear") || !strcmp(r->mode, "cubic"))
		return true;
	ml_lower_fail(x, ML_ERR_VALUE, "mode must be nearest, linear or cubic");
	return false;
}

ml_value *
ml_lower_resize(ml_lower *x)
{
	resize r = {.x = x};
	int n;
	int64_t count;
	span *s = spans(x, &n);

	if (!s || !read_modes(&r))
		return NULL;
	ml_onnx_ignore(x, "keep_aspect_ratio_policy");
	if (is_given(x, 3)) {
		if (!from_sizes(x, 3, s, n))
			return NULL;
	} else if (is_given(x, 2)) {
		const double *scale = ml_lower_numbers(x, 2, &count);
		if (!scale || !set_scales(x, scale, count, s, n))
			return NULL;
	} else {
		return ml_lower_fail(x, ML_ERR_FORMAT, "neither scales nor sizes are given");
	}
	if (!strcmp(r.coordinates, "tf_crop_and_resize") && !read_roi(x, s, n))
		return NULL;
	return resize_axes(&r, s, n);
}

/* Upsample, and Resize of version 10: scales are an attribute or operand 1. */
ml_value *
ml_lower_upsample(ml_lower *x)
{
	resize r = {.x = x, .coordinates = "asymmetric", .nearest = "floor", .cubic = -0.75};
	int n, given;
	int64_t count;
	span *s = spans(x, &n);
	const float *attr = ml_onnx_floats(x, "scales", &given);
	const double *scale = x->in[1] ? ml_lower_numbers(x, 1, &count) : NULL;

	r.mode = ml_onnx_text(x, "mode", "nearest");
	if (attr && !x->in[1]) {
		double *wide = ML_LOWER_ARRAY(x, double, given);
		for (int i = 0; i < given; i++)
			wide[i] = (double)attr[i];
		scale = wide;
		count = given;
	}
	if (!s || !scale)
		return x->b->failed != ML_OK
			       ? NULL
			       : ml_lower_fail(x, ML_ERR_FORMAT, "the scales are missing");
	if (!strcmp(r.mode, "bilinear"))
		r.mode = "linear";
	if (strcmp(r.mode, "nearest") && strcmp(r.mode, "linear"))
		return ml_lower_fail(x, ML_ERR_VALUE, "mode must be nearest or linear");
	return set_scales(x, scale, count, s, n) ? resize_axes(&r, s, n) : NULL;
}
