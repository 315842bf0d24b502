/* lower_shape.c -- ONNX operators that make constants and sizes, or give data another shape. */
#include "lower.h"
#include <math.h>
#include <string.h>

/* ---- sources ---- */

static ml_value *
constant_texts(ml_lower *x)
{
	if (ml_onnx_has(x, "value_string") || ml_onnx_has(x, "value_strings"))
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "strings are not supported");
	return ml_lower_fail(x, ML_ERR_FORMAT, "the constant has no value");
}

ml_value *
ml_lower_constant(ml_lower *x)
{
	int n;
	const int64_t *ints;
	const float *floats;

	if (ml_onnx_has(x, "value"))
		return ml_onnx_constant(x, "value");
	if (ml_onnx_has(x, "sparse_value"))
		return ml_onnx_constant(x, "sparse_value");
	if (ml_onnx_has(x, "value_int"))
		return ml_build_dim(x->b, ML_INT(ml_onnx_int(x, "value_int", 0)));
	if (ml_onnx_has(x, "value_float"))
		return ml_build_f64(x->b, ML_f32, ml_onnx_float(x, "value_float", 0));
	ints = ml_onnx_ints(x, "value_ints", &n);
	if (ints)
		return ml_build_ints(x->b, ints, n);
	floats = ml_onnx_floats(x, "value_floats", &n);
	if (!floats)
		return constant_texts(x);
	double *wide = ML_LOWER_ARRAY(x, double, n);
	for (int i = 0; i < n; i++)
		wide[i] = (double)floats[i];
	int64_t dim = n;
	return ml_lower_table(x, ML_f32, wide, &dim, 1);
}

static bool
sizes_fit(ml_lower *x, const ml_dim *d, int n)
{
	int64_t lo, hi;

	for (int i = 0; i < n; i++) {
		ml_dim_range(d[i], &lo, &hi);
		if (hi < 0) {
			ml_lower_fail(x, ML_ERR_VALUE, "size %d is negative", i);
			return false;
		}
	}
	if (n > ML_MAX_RANK)
		ml_lower_fail(x, ML_ERR_UNSUPPORTED, "rank %d is larger than %d", n, ML_MAX_RANK);
	return n <= ML_MAX_RANK;
}

ml_value *
ml_lower_constant_of_shape(ml_lower *x)
{
	int n;
	int64_t count;
	const ml_dim *d = ml_lower_dims(x, 0, &n);
	ml_value *v = ml_onnx_constant(x, "value");

	if (!d || !sizes_fit(x, d, n) || x->b->failed != ML_OK)
		return NULL;
	if (!v)
		v = ml_build_f64(x->b, ML_f32, 0);
	if (!ml_type_static_count(&v->type, &count) || count != 1)
		return ml_lower_fail(x, ML_ERR_VALUE, "the value must have one element");
	return ml_build_broadcast(x->b, ml_lower_reshape(x, v, NULL, 0), d, n);
}

/* How many steps from start to limit, as a size; NULL, reported, when that depends on data. */
static ml_dim
range_count(ml_lower *x)
{
	int64_t n[3], step;
	double number[3];
	const ml_dim *d[3];

	for (int i = 0; i < 3; i++) {
		d[i] = ml_is_integer(x->in[i]->type.dtype) ? ml_content(x->b, x->in[i], &n[i])
							   : NULL;
		if (d[i] && n[i] != 1)
			return ml_lower_fail(x, ML_ERR_SHAPE, "input %d must be a scalar", i);
	}
	if (d[0] && d[1] && d[2] && ml_dim_is_int(*d[2], &step) && step) {
		ml_dim way = ml_dim_sub(ML_DIMS, *d[1], *d[0]);
		if (step < 0)
			way = ml_dim_sub(ML_DIMS, ML_INT(0), way);
		way = ml_dim_ceildiv(ML_DIMS, way, ML_INT(step < 0 ? -step : step));
		return ml_dim_max(ML_DIMS, ML_INT(0), way);
	}
	for (int i = 0; i < 3; i++)
		if (!ml_lower_scalar(x, x->in[i], &number[i]))
			return ml_lower_needs(x, i);
	double count = ceil((number[1] - number[0]) / number[2]);
	if (!(number[2] != 0) || !(count <= 1e12))
		return ml_lower_fail(x, ML_ERR_VALUE, "the range has no end");
	return ML_INT(count < 0 ? 0 : (int64_t)count);
}

ml_value *
ml_lower_range(ml_lower *x)
{
	ml_dim n = range_count(x);
	ml_dtype dtype = x->in[0]->type.dtype;
	ml_value *scalar[3];

	ml_onnx_ignore(x, "stash_type");
	if (!n)
		return NULL;
	for (int i = 0; i < 3; i++)
		scalar[i] = ml_lower_reshape(x, x->in[i], NULL, 0);
	ml_value *v = ml_build_cast(x->b, ml_build_iota(x->b, &n, 1, 0, ML_s64), dtype);
	return ML_X2(add, ML_X2(mul, v, scalar[2]), scalar[0]);
}

/* column - row of a matrix: s64[rows, columns] */
static ml_value *
diagonals(ml_lower *x, ml_dim rows, ml_dim columns)
{
	ml_dim shape[] = {rows, columns};

	return ML_X2(sub, ml_build_iota(x->b, shape, 2, 1, ML_s64),
		     ml_build_iota(x->b, shape, 2, 0, ML_s64));
}

ml_value *
ml_lower_eye_like(ml_lower *x)
{
	const ml_type *t = &x->in[0]->type;
	ml_dtype dtype;

	if (t->rank != 2)
		return ml_lower_fail(x, ML_ERR_SHAPE, "the operand must have rank 2");
	if (!ml_onnx_type(x, "dtype", t->dtype, &dtype))
		return NULL;
	ml_value *k = ml_build_dim(x->b, ML_INT(ml_onnx_int(x, "k", 0)));
	return ml_build_cast(x->b, ML_X2(eq, diagonals(x, t->dim[0], t->dim[1]), k), dtype);
}

ml_value *
ml_lower_trilu(ml_lower *x)
{
	ml_value *v = x->in[0], *k = x->in[1];
	int r = v->type.rank;

	if (r < 2)
		return ml_lower_fail(x, ML_ERR_SHAPE, "the operand must have rank 2 or more");
	k = k ? ml_lower_reshape(x, k, NULL, 0) : ml_build_dim(x->b, ML_INT(0));
	ml_value *d = diagonals(x, v->type.dim[r - 2], v->type.dim[r - 1]);
	d = ml_onnx_int(x, "upper", 1) ? ML_X2(le, k, d) : ML_X2(le, d, k);
	return ML_X3(select, d, v, ML_LIKE(v, 0));
}

/* ---- sizes ---- */

ml_value *
ml_lower_shape_of(ml_lower *x)
{
	const ml_type *t = &x->in[0]->type;
	int64_t start = ml_onnx_int(x, "start", 0), end = ml_onnx_int(x, "end", t->rank);

	start = start < 0 ? start + t->rank : start;
	end = end < 0 ? end + t->rank : end;
	start = start < 0 ? 0 : start > t->rank ? t->rank : start;
	end = end < start ? start : end > t->rank ? t->rank : end;
	return ml_lower_shape(x, t->dim + start, (int)(end - start));
}

ml_value *
ml_lower_size(ml_lower *x)
{
	return ml_build_dim(x->b, ml_type_count(ML_DIMS, &x->in[0]->type));
}

/* ---- shapes ---- */

/* The size that makes a reshape to `rest` times it come out. */
static ml_dim
missing_size(ml_lower *x, ml_dim whole, ml_dim rest)
{
	ml_dim quotient;

	if (ml_dim_equals(rest, 0))
		return ml_lower_fail(x, ML_ERR_SHAPE,
				     "-1 cannot be worked out next to a size of 0");
	if (ml_dim_divides(ML_DIMS, whole, rest, &quotient))
		return quotient;
	if (!ml_require_divides(x->b, whole, rest, "the other sizes must divide the elements"))
		return x->b->failed != ML_OK
			       ? NULL
			       : ml_lower_fail(x, ML_ERR_SHAPE,
					       "the sizes given do not divide the elements");
	return ml_dim_floordiv(ML_DIMS, whole, rest);
}

static ml_value *
reshape_to(ml_lower *x, ml_value *v, const ml_dim *given, int n, bool allow_zero)
{
	ml_dim shape[ML_MAX_RANK], rest = ML_INT(1), whole = ml_type_count(ML_DIMS, &v->type);
	int unknown = -1;

	for (int i = 0; i < n; i++) {
		shape[i] = given[i];
		if (ml_dim_equals(shape[i], 0) && !allow_zero) {
			if (i >= v->type.rank)
				return ml_lower_fail(x, ML_ERR_SHAPE,
						     "size %d is copied from a dim that the "
						     "operand of rank %d does not have",
						     i, v->type.rank);
			shape[i] = v->type.dim[i];
		}
		if (!ml_dim_equals(shape[i], -1)) {
			rest = ml_dim_mul(ML_DIMS, rest, shape[i]);
			continue;
		}
		if (unknown >= 0)
			return ml_lower_fail(x, ML_ERR_VALUE, "more than one size is -1");
		unknown = i;
	}
	if (unknown >= 0)
		shape[unknown] = missing_size(x, whole, rest);
	if (x->b->failed != ML_OK || (unknown < 0 && !sizes_fit(x, shape, n)))
		return NULL;
	return ml_lower_reshape(x, v, shape, n);
}

ml_value *
ml_lower_reshape_op(ml_lower *x)
{
	int n;
	const ml_dim *d = ml_lower_dims(x, 1, &n);
	bool allow_zero = ml_onnx_int(x, "allowzero", 0) != 0;

	if (!d)
		return NULL;
	if (n > ML_MAX_RANK)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "rank %d is larger than %d", n,
				     ML_MAX_RANK);
	return reshape_to(x, x->in[0], d, n, allow_zero);
}

ml_value *
ml_lower_flatten(ml_lower *x)
{
	const ml_type *t = &x->in[0]->type;
	int64_t axis = ml_onnx_int(x, "axis", 1);
	ml_dim shape[] = {ML_INT(1), ML_INT(1)};

	if (axis < -t->rank || axis > t->rank)
		return ml_lower_fail(x, ML_ERR_VALUE, "axis %lld is outside of rank %d",
				     (long long)axis, t->rank);
	axis = axis < 0 ? axis + t->rank : axis;
	for (int i = 0; i < t->rank; i++)
		shape[i >= axis] = ml_dim_mul(ML_DIMS, shape[i >= axis], t->dim[i]);
	return ml_lower_reshape(x, x->in[0], shape, 2);
}

ml_value *
ml_lower_squeeze(ml_lower *x)
{
	const ml_type *t = &x->in[0]->type;
	int n;
	int64_t *axes = ml_lower_axes(x, x->row->arg ? 1 : -1, "axes", t->rank, &n);

	if (n < 0)
		return NULL;
	if (axes)
		return n ? ml_build_squeeze(x->b, x->in[0], axes, n) : x->in[0];
	axes = ML_LOWER_ARRAY(x, int64_t, t->rank);
	for (int i = 0; i < t->rank; i++) {
		if (ml_dim_equals(t->dim[i], 1))
			axes[n++] = i;
		else if (!ml_dim_never_equal(ML_DIMS, t->dim[i], ML_INT(1)))
			return ml_lower_fail(x, ML_ERR_UNSUPPORTED,
					     "the rank depends on whether dynamic dim %d is 1", i);
	}
	return n ? ml_build_squeeze(x->b, x->in[0], axes, n) : x->in[0];
}

ml_value *
ml_lower_unsqueeze(ml_lower *x)
{
	int n;
	int in = x->row->arg ? 1 : -1;
	const int64_t *given = in > 0 ? ml_lower_ints(x, in, &n) : ml_onnx_ints(x, "axes", &n);

	if (!given)
		return x->b->failed != ML_OK ? NULL
					     : ml_lower_fail(x, ML_ERR_FORMAT, "axes are missing");
	if (x->in[0]->type.rank + n > ML_MAX_RANK)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "the rank is larger than %d",
				     ML_MAX_RANK);
	int64_t *axes = ml_lower_axes(x, in, "axes", x->in[0]->type.rank + n, &n);
	if (n <= 0)
		return n ? NULL : x->in[0];
	for (int i = 1; i < n; i++) /* ascending */
		for (int k = i; k > 0 && axes[k - 1] > axes[k]; k--) {
			int64_t a = axes[k];
			axes[k] = axes[k - 1];
			axes[k - 1] = a;
		}
	return ml_build_unsqueeze(x->b, x->in[0], axes, n);
}

ml_value *
ml_lower_transpose_op(ml_lower *x)
{
	int n, r = x->in[0]->type.rank;
	int64_t *perm = ml_lower_axes(x, -1, "perm", r, &n);

	if (n < 0)
		return NULL;
	if (perm && n != r)
		return ml_lower_fail(x, ML_ERR_VALUE, "perm has %d axes, but the operand rank %d",
				     n, r);
	if (!perm) {
		perm = ML_LOWER_ARRAY(x, int64_t, r);
		for (int i = 0; i < r; i++)
			perm[i] = r - 1 - i;
	}
	return ml_lower_transpose(x, x->in[0], perm);
}

ml_value *
ml_lower_expand(ml_lower *x)
{
	ml_type wanted = {.dtype = x->in[0]->type.dtype}, out;
	const ml_type *both[] = {&x->in[0]->type, &wanted};
	int n;
	const ml_dim *d = ml_lower_dims(x, 1, &n);

	if (!d || !sizes_fit(x, d, n))
		return NULL;
	wanted.rank = n;
	memcpy(wanted.dim, d, (size_t)n * sizeof *d);
	if (!ml_broadcast_shape(x->b, both, 2, &out))
		return NULL;
	return ml_build_broadcast(x->b, x->in[0], out.dim, out.rank);
}

/* Repeats one axis: [.. d ..] -> [.. 1 d ..] -> [.. times d ..] -> [.. times*d ..] */
static ml_value *
repeat_axis(ml_lower *x, ml_value *v, int axis, ml_dim times)
{
	ml_dim split[ML_MAX_RANK + 1], out[ML_MAX_RANK];
	int r = v ? v->type.rank : 0;

	if (!v || ml_dim_equals(times, 1))
		return v;
	if (r == ML_MAX_RANK)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "rank %d is too large", r);
	for (int i = 0; i < r; i++) {
		out[i] = split[i + (i >= axis)] = v->type.dim[i];
	}
	split[axis] = ML_INT(1);
	v = ml_lower_reshape(x, v, split, r + 1);
	split[axis] = times;
	out[axis] = ml_dim_mul(ML_DIMS, times, out[axis]);
	return ml_lower_reshape(x, ml_build_broadcast(x->b, v, split, r + 1), out, r);
}

ml_value *
ml_lower_tile(ml_lower *x)
{
	ml_value *v = x->in[0];
	int n, r = v->type.rank;
	const ml_dim *times = ml_lower_dims(x, 1, &n);

	if (!times || !sizes_fit(x, times, n))
		return NULL;
	if (n != r)
		return ml_lower_fail(x, ML_ERR_SHAPE, "%d repeats for an operand of rank %d", n, r);
	for (int i = 0; i < r; i++)
		v = repeat_axis(x, v, i, times[i]);
	return v;
}

/* ---- several operands or results ---- */

ml_value *
ml_lower_concat(ml_lower *x)
{
	int axis;

	if (!ml_onnx_has(x, "axis"))
		return ml_lower_fail(x, ML_ERR_FORMAT, "attribute 'axis' is missing");
	if (!ml_lower_axis(x, ml_onnx_int(x, "axis", 0), x->in[0]->type.rank, &axis))
		return NULL;
	return x->nin == 1 ? x->in[0] : ml_build_concat(x->b, x->in, x->nin, axis);
}

/* Sizes of the parts of `whole`, from an operand, an attribute or their number. */
static const ml_dim *
split_sizes(ml_lower *x, ml_dim whole, int *n)
{
	const ml_dim *given = x->in[1] ? ml_lower_dims(x, 1, n) : NULL;
	const int64_t *ints = x->in[1] ? NULL : ml_onnx_ints(x, "split", n);
	int parts = given || ints ? *n : (int)ml_onnx_int(x, "num_outputs", x->nout);
	ml_dim *size = ML_LOWER_ARRAY(x, ml_dim, parts > 0 ? parts : 1), chunk, left = whole;

	if (x->b->failed != ML_OK || given)
		return given;
	*n = parts;
	if (parts < 1 || parts != x->nout)
		return ml_lower_fail(x, ML_ERR_FORMAT, "%d parts for %d outputs", parts, x->nout);
	for (int i = 0; ints && i < parts; i++)
		size[i] = ML_INT(ints[i]);
	if (ints)
		return size;
	if (x->version < 18 && !ml_dim_divides(ML_DIMS, whole, ML_INT(parts), &chunk) &&
	    !ml_require_divides(x->b, whole, ML_INT(parts), "the parts must be equal"))
		return x->b->failed != ML_OK
			       ? NULL
			       : ml_lower_fail(x, ML_ERR_SHAPE, "%d parts cannot be equal", parts);
	chunk = ml_dim_ceildiv(ML_DIMS, whole, ML_INT(parts));
	if (ml_dim_divides(ML_DIMS, whole, ML_INT(parts), &size[0]))
		chunk = size[0];
	for (int i = 0; i < parts; i++) {
		size[i] =
			i + 1 < parts && x->version < 18 ? chunk : ml_dim_min(ML_DIMS, chunk, left);
		left = ml_dim_sub(ML_DIMS, left, size[i]);
	}
	return size;
}

ml_value *
ml_lower_split(ml_lower *x)
{
	ml_value *v = x->in[0];
	ml_dim at = ML_INT(0);
	int axis, n;

	if (!ml_lower_axis(x, ml_onnx_int(x, "axis", 0), v->type.rank, &axis))
		return NULL;
	const ml_dim *size = split_sizes(x, v->type.dim[axis], &n);
	if (!size)
		return NULL;
	if (n != x->nout)
		return ml_lower_fail(x, ML_ERR_FORMAT, "%d parts for %d outputs", n, x->nout);
	for (int i = 0; i < n; i++)
		at = ml_dim_add(ML_DIMS, at, size[i]);
	if (!ml_require_equal(x->b, at, v->type.dim[axis], "the parts must add up to the whole"))
		return x->b->failed != ML_OK
			       ? NULL
			       : ml_lower_fail(x, ML_ERR_SHAPE,
					       "the parts do not add up to the whole");
	at = ML_INT(0);
	for (int i = 0; i < n; i++) {
		x->out[i] = ml_lower_cut(x, v, axis, at, size[i]);
		at = ml_dim_add(ML_DIMS, at, size[i]);
	}
	return x->out[0];
}
