/* lower_slice.c -- ONNX operators that cut, pad and rearrange: Slice, Pad, DepthToSpace ... */
#include "../ir/graph.h"
#include "lower.h"
#include <string.h>

/* ---- Slice ---- */

typedef struct cut {
	int axis;
	ml_dim start, end;
	int64_t step;
} cut;

/* A position as written, counted from the end when negative; NULL when its sign is not known. */
static ml_dim
position(ml_lower *x, ml_dim p, ml_dim size)
{
	int64_t lo, hi, number;

	/* Writers say "to the end" with the largest and smallest integers they have. */
	if (ml_dim_is_int(p, &number) && number >= INT32_MAX)
		return size;
	if (ml_dim_is_int(p, &number) && number <= -INT32_MAX)
		return ML_INT(-1 - INT32_MAX);
	ml_dim_range(p, &lo, &hi);
	if (lo >= 0 || ml_dim_le(ML_DIMS, ML_INT(0), p))
		return p;
	if (hi < 0 || ml_dim_le(ML_DIMS, p, ML_INT(-1)))
		return ml_dim_add(ML_DIMS, p, size);
	return ml_lower_fail(x, ML_ERR_UNSUPPORTED,
			     "a position may be negative or not, depending on dynamic dims");
}

static ml_dim
clamped(ml_lower *x, ml_dim p, int64_t low, ml_dim high)
{
	int64_t number;

	if (ml_dim_is_int(p, &number) && number <= -INT32_MAX)
		return ML_INT(low);
	return ml_dim_max(ML_DIMS, ML_INT(low), ml_dim_min(ML_DIMS, p, high));
}

static ml_value *
slice_axis(ml_lower *x, ml_value *v, const cut *c)
{
	ml_dim size = v->type.dim[c->axis], count, low = NULL, starts[ML_MAX_RANK],
	       sizes[ML_MAX_RANK];
	ml_dim start = position(x, c->start, size), end = position(x, c->end, size);
	int64_t steps[ML_MAX_RANK], axis = c->axis, stride = c->step < 0 ? -c->step : c->step;

	if (!start || !end)
		return NULL;
	if (c->step > 0) {
		low = start = clamped(x, start, 0, size);
		end = clamped(x, end, 0, size);
		count = ml_dim_sub(ML_DIMS, end, start);
	} else {
		ml_dim last = ml_dim_sub(ML_DIMS, size, ML_INT(1));
		start = clamped(x, start, -1, last);
		end = clamped(x, end, -1, last);
		count = ml_dim_sub(ML_DIMS, start, end);
	}
	count = ml_dim_max(ML_DIMS, ML_INT(0), ml_dim_ceildiv(ML_DIMS, count, ML_INT(stride)));
	if (c->step < 0) {
		ml_dim way =
			ml_dim_mul(ML_DIMS, ML_INT(stride), ml_dim_sub(ML_DIMS, count, ML_INT(1)));
		low = ml_dim_max(ML_DIMS, ML_INT(0), ml_dim_sub(ML_DIMS, start, way));
		if (ml_dim_equals(count, 0))
			low = ML_INT(0);
	}
	for (int i = 0; i < v->type.rank; i++) {
		starts[i] = i == axis ? low : ML_INT(0);
		sizes[i] = i == axis ? count : v->type.dim[i];
		steps[i] = i == axis ? stride : 1;
	}
	if (!(ml_dim_equals(low, 0) && count == size && stride == 1))
		v = ml_build_slice(x->b, v, starts, sizes, steps);
	return c->step < 0 ? ml_lower_reverse(x, v, &axis, 1) : v;
}

static bool
slice_steps(ml_lower *x, cut *c, int n)
{
	int k = n;
	const int64_t *step = x->in[4] ? ml_lower_ints(x, 4, &k) : NULL;

	if (x->in[4] && !step)
		return false;
	for (int i = 0; i < n && k == n; i++) {
		c[i].step = step ? step[i] : 1;
		if (!c[i].step || c[i].step == INT64_MIN) {
			ml_lower_fail(x, ML_ERR_VALUE, "step %d is %lld", i, (long long)c[i].step);
			return false;
		}
	}
	if (k != n)
		ml_lower_fail(x, ML_ERR_SHAPE, "%d steps for %d starts", k, n);
	return k == n;
}

/* Writers say "from the first" with INT64_MIN, which is no size. */
static ml_dim
written(ml_lower *x, int64_t number)
{
	return ML_INT(number == INT64_MIN ? -INT32_MAX : number);
}

/* Attributes before version 10, then operands. */
static const ml_dim *
slice_positions(ml_lower *x, int in, const char *attr, int *n)
{
	ml_value *known = x->row->arg ? ml_lower_known(x, x->in[in]) : NULL;
	int64_t size = known ? ml_content_count(&known->type) : -1;
	const int64_t *ints = NULL;

	if (x->row->arg && size < 0)
		return ml_lower_dims(x, in, n);
	if (!x->row->arg && !(ints = ml_onnx_ints(x, attr, n)))
		return x->b->failed != ML_OK
			       ? NULL
			       : ml_lower_fail(x, ML_ERR_FORMAT, "attribute '%s' is missing", attr);
	if (!ints)
		*n = (int)size;
	ml_dim *d = ML_LOWER_ARRAY(x, ml_dim, *n);
	for (int i = 0; i < *n; i++)
		d[i] = written(x, ints ? ints[i] : ml_const_s64(known, i));
	return d;
}

ml_value *
ml_lower_slice(ml_lower *x)
{
	ml_value *v = x->in[0];
	int n, ends, naxes, rank = v->type.rank;
	const ml_dim *start = slice_positions(x, 1, "starts", &n);
	const ml_dim *end = start ? slice_positions(x, 2, "ends", &ends) : NULL;
	int64_t *axes = end ? ml_lower_axes(x, x->row->arg ? 3 : -1, "axes", rank, &naxes) : NULL;
	cut *c = ML_LOWER_ARRAY(x, cut, n);

	if (!end || naxes < 0)
		return NULL;
	if (n != ends || (axes && naxes != n) || n > rank)
		return ml_lower_fail(x, ML_ERR_SHAPE, "%d starts, %d ends, %d axes for rank %d", n,
				     ends, axes ? naxes : n, rank);
	if (!slice_steps(x, c, n))
		return NULL;
	for (int i = 0; i < n && v; i++) {
		c[i].axis = axes ? (int)axes[i] : i;
		c[i].start = start[i];
		c[i].end = end[i];
		v = slice_axis(x, v, &c[i]);
	}
	return v;
}

/* ---- Pad ---- */

/* Pads one axis with values from inside: position i - low, folded back by `mode`. */
static ml_value *
pad_axis(ml_lower *x, ml_value *v, const char *mode, int axis, ml_dim low, ml_dim high)
{
	ml_dim size = v ? v->type.dim[axis] : NULL, total;
	ml_value *i, *n, *last;

	if (!v || (ml_dim_equals(low, 0) && ml_dim_equals(high, 0)))
		return v;
	total = ml_dim_add(ML_DIMS, size, ml_dim_add(ML_DIMS, low, high));
	i = ML_X2(sub, ml_build_iota(x->b, &total, 1, 0, ML_s64), ml_build_dim(x->b, low));
	n = ml_build_dim(x->b, size);
	last = ML_X2(sub, n, ML_LIKE(n, 1));
	if (!strcmp(mode, "edge")) {
		i = ML_X2(min, ML_X2(max, i, ML_LIKE(n, 0)), last);
	} else if (!strcmp(mode, "wrap")) {
		i = ML_X2(mod, i, n);
	} else {
		/* reflect has period 2 (n - 1); a single element repeats */
		ml_value *period = ML_X2(max, ML_X2(mul, last, ML_LIKE(n, 2)), ML_LIKE(n, 1));
		i = ML_X2(mod, i, period);
		i = ML_X2(min, i, ML_X2(sub, period, i));
		i = ML_X2(min, i, last);
	}
	return ml_build_gather(x->b, v, i, axis);
}

static ml_value *
pad_with(ml_lower *x, ml_value *v, const ml_dim *low, const ml_dim *high, ml_value *fill)
{
	int64_t interior[ML_MAX_RANK] = {0};
	ml_dim zero[ML_MAX_RANK], below[ML_MAX_RANK], above[ML_MAX_RANK];
	int rank = v->type.rank;

	for (int i = 0; i < rank; i++) {
		zero[i] = ML_INT(0);
		below[i] = ml_dim_min(ML_DIMS, low[i], zero[i]);
		above[i] = ml_dim_min(ML_DIMS, high[i], zero[i]);
	}
	v = ml_lower_pad(x, v, 0, below, above);
	for (int i = 0; i < rank; i++) {
		below[i] = ml_dim_max(ML_DIMS, low[i], zero[i]);
		above[i] = ml_dim_max(ML_DIMS, high[i], zero[i]);
	}
	if (!fill && v)
		fill = ML_LIKE(v, 0);
	return ml_build_pad(x->b, v, ml_lower_reshape(x, fill, NULL, 0), below, above, interior);
}

/* Amounts for all axes; false, reported, when they do not fit. */
static bool
pad_amounts(ml_lower *x, ml_dim *low, ml_dim *high)
{
	int n, naxes, rank = x->in[0]->type.rank;
	const ml_dim *d = slice_positions(x, 1, "pads", &n);
	int64_t *axes = d ? ml_lower_axes(x, x->row->arg ? 3 : -1, NULL, rank, &naxes) : NULL;

	if (!d || naxes < 0)
		return false;
	if (!axes)
		naxes = rank;
	if (n != 2 * naxes) {
		ml_lower_fail(x, ML_ERR_SHAPE, "%d pads for %d axes", n, naxes);
		return false;
	}
	for (int i = 0; i < rank; i++)
		low[i] = high[i] = ML_INT(0);
	for (int i = 0; i < naxes; i++) {
		int axis = axes ? (int)axes[i] : i;
		low[axis] = d[i];
		high[axis] = d[naxes + i];
	}
	return true;
}

ml_value *
ml_lower_pad_op(ml_lower *x)
{
	ml_value *v = x->in[0], *fill = x->in[2];
	const char *mode = ml_onnx_text(x, "mode", "constant");
	ml_dim low[ML_MAX_RANK], high[ML_MAX_RANK];
	int64_t lo, hi;

	if (!x->row->arg)
		fill = ML_LIKE(v, ml_onnx_float(x, "value", 0));
	if (!pad_amounts(x, low, high))
		return NULL;
	if (!strcmp(mode, "constant"))
		return pad_with(x, v, low, high, fill);
	if (strcmp(mode, "edge") && strcmp(mode, "wrap") && strcmp(mode, "reflect"))
		return ml_lower_fail(x, ML_ERR_VALUE,
				     "mode must be constant, edge, reflect or wrap");
	for (int i = 0; i < v->type.rank; i++) {
		ml_dim_range(ml_dim_min(ML_DIMS, low[i], high[i]), &lo, &hi);
		if (lo < 0)
			return ml_lower_fail(x, ML_ERR_UNSUPPORTED,
					     "negative pads in mode %s are not supported", mode);
	}
	for (int i = 0; i < x->in[0]->type.rank; i++)
		v = pad_axis(x, v, mode, i, low[i], high[i]);
	return v;
}

ml_value *
ml_lower_center_crop_pad(ml_lower *x)
{
	const ml_type *t = &x->in[0]->type;
	ml_dim low[ML_MAX_RANK], high[ML_MAX_RANK];
	int n, naxes;
	const ml_dim *size = ml_lower_dims(x, 1, &n);
	int64_t *axes = ml_lower_axes(x, -1, "axes", t->rank, &naxes), more;

	if (!size || naxes < 0)
		return NULL;
	if (n != (axes ? naxes : t->rank))
		return ml_lower_fail(x, ML_ERR_SHAPE, "%d sizes do not fit the axes", n);
	for (int i = 0; i < t->rank; i++)
		low[i] = high[i] = ML_INT(0);
	for (int i = 0; i < n; i++) {
		int axis = axes ? (int)axes[i] : i;
		if (!ml_dim_is_int(ml_dim_sub(ML_DIMS, size[i], t->dim[axis]), &more))
			return ml_lower_fail(x, ML_ERR_UNSUPPORTED,
					     "dynamic dim %d cannot be cropped or padded", axis);
		low[axis] = ML_INT(more / 2); /* toward zero: cuts less before than after */
		high[axis] = ML_INT(more - more / 2);
	}
	return ml_lower_pad(x, x->in[0], 0, low, high);
}

/* ---- space and depth ---- */

/* Splits dims, permutes, and merges: `shape` and `perm` of rank 6, `out` of rank 4. */
static ml_value *
rearrange(ml_lower *x, const ml_dim *shape, const int64_t *perm, const ml_dim *out)
{
	ml_value *v = ml_lower_reshape(x, x->in[0], shape, 6);

	return ml_lower_reshape(x, ml_lower_transpose(x, v, perm), out, 4);
}

/* The block size, with the quotients it gives; NULL, reported, when it does not divide. */
static ml_dim
block_size(ml_lower *x, ml_dim *quotient, const int *axis, int n, int64_t power)
{
	const ml_type *t = &x->in[0]->type;
	int64_t size = ml_onnx_int(x, "blocksize", 0);

	if (t->rank != 4)
		return ml_lower_fail(x, ML_ERR_SHAPE, "the operand must have rank 4");
	if (size < 1 || size > 1 << 20)
		return ml_lower_fail(x, ML_ERR_VALUE, "blocksize is %lld", (long long)size);
	for (int i = 0; i < n; i++) {
		ml_dim by = ML_INT(power == 2 ? size * size : size), whole = t->dim[axis[i]];
		if (ml_dim_divides(ML_DIMS, whole, by, &quotient[i]))
			continue;
		if (!ml_require_divides(x->b, whole, by, "the block must divide the dim"))
			return x->b->failed != ML_OK
				       ? NULL
				       : ml_lower_fail(x, ML_ERR_SHAPE,
						       "the block does not divide dim %d", axis[i]);
		quotient[i] = ml_dim_floordiv(ML_DIMS, whole, by);
	}
	return ML_INT(size);
}

ml_value *
ml_lower_depth_to_space(ml_lower *x)
{
	static const int channel[] = {1};
	static const int64_t dcr[] = {0, 3, 4, 1, 5, 2}, crd[] = {0, 1, 4, 2, 5, 3};
	const char *mode = ml_onnx_text(x, "mode", "DCR");
	ml_dim c, b = block_size(x, &c, channel, 1, 2);
	bool columns = !strcmp(mode, "CRD");

	if (!b)
		return NULL;
	if (!columns && strcmp(mode, "DCR"))
		return ml_lower_fail(x, ML_ERR_VALUE, "mode must be DCR or CRD");
	const ml_dim *d = x->in[0]->type.dim;
	ml_dim split_dcr[] = {d[0], b, b, c, d[2], d[3]}, split_crd[] = {d[0], c, b, b, d[2], d[3]};
	ml_dim out[] = {d[0], c, ml_dim_mul(ML_DIMS, d[2], b), ml_dim_mul(ML_DIMS, d[3], b)};
	return rearrange(x, columns ? split_crd : split_dcr, columns ? crd : dcr, out);
}

ml_value *
ml_lower_space_to_depth(ml_lower *x)
{
	static const int space[] = {2, 3};
	static const int64_t dcr[] = {0, 3, 5, 1, 2, 4}, crd[] = {0, 1, 3, 5, 2, 4};
	const char *mode = ml_onnx_text(x, "mode", "DCR");
	ml_dim hw[2], b = block_size(x, hw, space, 2, 1);
	bool columns = !strcmp(mode, "CRD");

	if (!b)
		return NULL;
	if (!columns && strcmp(mode, "DCR"))
		return ml_lower_fail(x, ML_ERR_VALUE, "mode must be DCR or CRD");
	const ml_dim *d = x->in[0]->type.dim;
	ml_dim split[] = {d[0], d[1], hw[0], b, hw[1], b};
	ml_dim out[] = {d[0], ml_dim_mul(ML_DIMS, d[1], ml_dim_mul(ML_DIMS, b, b)), hw[0], hw[1]};
	return rearrange(x, split, columns ? crd : dcr, out);
}
