/* lower_build.c -- pieces of IR that many lowering functions are made of. */
#include "lower.h"
#include <math.h>
#include <string.h>

ml_value *
ml_lower_like(ml_lower *x, const ml_value *like, double number)
{
	return like ? ml_build_f64(x->b, like->type.dtype, number) : NULL;
}

ml_value *
ml_lower_as(ml_lower *x, ml_value *v, const ml_value *like)
{
	return v && like ? ml_build_cast(x->b, v, like->type.dtype) : NULL;
}

ml_value *
ml_lower_wide(ml_lower *x, ml_value *v)
{
	return v ? ml_build_cast(x->b, v, ml_dtype_computed(v->type.dtype)) : NULL;
}

ml_value *
ml_lower_shape(ml_lower *x, const ml_dim *d, int n)
{
	ml_dim one = ML_INT(1);
	int64_t *number = ML_LOWER_ARRAY(x, int64_t, n);
	ml_value **part = ML_LOWER_ARRAY(x, ml_value *, n);
	bool fixed = true;

	for (int i = 0; i < n; i++)
		fixed = ml_dim_is_int(d[i], &number[i]) && fixed;
	if (fixed)
		return ml_build_ints(x->b, number, n);
	for (int i = 0; i < n; i++)
		part[i] = ml_build_reshape(x->b, ml_build_dim(x->b, d[i]), &one, 1);
	return n == 1 ? part[0] : ml_build_concat(x->b, part, n, 0);
}

ml_value *
ml_lower_index(ml_lower *x, ml_value *v)
{
	if (v && !ml_is_integer(v->type.dtype))
		return ml_lower_fail(x, ML_ERR_TYPE, "indices must be integers, not %s",
				     ml_dtype_name(v->type.dtype));
	return v ? ml_build_cast(x->b, v, ML_s64) : NULL;
}

ml_value *
ml_lower_reshape(ml_lower *x, ml_value *v, const ml_dim *shape, int n)
{
	if (!v)
		return NULL;
	if (n == v->type.rank && (!n || !memcmp(shape, v->type.dim, (size_t)n * sizeof *shape)))
		return v;
	if (n > ML_MAX_RANK)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "rank %d is larger than %d", n,
				     ML_MAX_RANK);
	return ml_build_reshape(x->b, v, shape, n);
}

ml_value *
ml_lower_transpose(ml_lower *x, ml_value *v, const int64_t *perm)
{
	bool identity = true;

	if (!v)
		return NULL;
	for (int i = 0; i < v->type.rank; i++)
		identity = identity && perm[i] == i;
	return identity ? v : ml_build_transpose(x->b, v, perm);
}

ml_value *
ml_lower_move_axis(ml_lower *x, ml_value *v, int from, int to)
{
	int64_t perm[ML_MAX_RANK];
	int k = 0;

	if (!v)
		return NULL;
	for (int i = 0; i < v->type.rank; i++) {
		if (i == to) {
			perm[i] = from;
			continue;
		}
		k += k == from;
		perm[i] = k++;
	}
	return ml_lower_transpose(x, v, perm);
}

ml_value *
ml_lower_cut(ml_lower *x, ml_value *v, int axis, ml_dim start, ml_dim size)
{
	ml_dim starts[ML_MAX_RANK], sizes[ML_MAX_RANK];
	int64_t step[ML_MAX_RANK];

	if (!v)
		return NULL;
	if (ml_dim_equals(start, 0) && size == v->type.dim[axis])
		return v;
	for (int i = 0; i < v->type.rank; i++) {
		starts[i] = i == axis ? start : ML_INT(0);
		sizes[i] = i == axis ? size : v->type.dim[i];
		step[i] = 1;
	}
	return ml_build_slice(x->b, v, starts, sizes, step);
}

ml_value *
ml_lower_pad(ml_lower *x, ml_value *v, double fill, const ml_dim *low, const ml_dim *high)
{
	int64_t zero[ML_MAX_RANK] = {0}, one[ML_MAX_RANK], lo, hi;
	ml_dim start[ML_MAX_RANK], size[ML_MAX_RANK], below[ML_MAX_RANK], above[ML_MAX_RANK];
	bool cuts = false, pads = false;

	if (!v)
		return NULL;
	for (int i = 0; i < v->type.rank; i++) {
		ml_dim left =
			ml_dim_max(ML_DIMS, ML_INT(0), ml_dim_sub(ML_DIMS, ML_INT(0), low[i]));
		ml_dim right =
			ml_dim_max(ML_DIMS, ML_INT(0), ml_dim_sub(ML_DIMS, ML_INT(0), high[i]));
		one[i] = 1;
		start[i] = left;
		size[i] = ml_dim_sub(ML_DIMS, v->type.dim[i], ml_dim_add(ML_DIMS, left, right));
		below[i] = ml_dim_max(ML_DIMS, ML_INT(0), low[i]);
		above[i] = ml_dim_max(ML_DIMS, ML_INT(0), high[i]);
		cuts = cuts || !ml_dim_equals(left, 0) || !ml_dim_equals(right, 0);
		pads = pads || !ml_dim_equals(below[i], 0) || !ml_dim_equals(above[i], 0);
		ml_dim_range(size[i], &lo, &hi);
		if (hi < 0)
			return ml_lower_fail(x, ML_ERR_SHAPE, "more is cut off dim %d than it has",
					     i);
	}
	if (cuts)
		v = ml_build_slice(x->b, v, start, size, one);
	return pads ? ml_build_pad(x->b, v, ML_LIKE(v, fill), below, above, zero) : v;
}

ml_value *
ml_lower_along(ml_lower *x, ml_value *v, int axis, int rank)
{
	ml_dim shape[ML_MAX_RANK];

	if (!v || v->type.rank == 0)
		return v;
	for (int i = 0; i < rank; i++)
		shape[i] = i == axis ? v->type.dim[0] : ML_INT(1);
	return ml_lower_reshape(x, v, shape + axis, rank - axis);
}

ml_value *
ml_lower_reduce(ml_lower *x, ml_op op, ml_value *v, const int64_t *axes, int n, bool keep)
{
	v = ml_build_reduce(x->b, op, v, axes, n);
	return keep || !v ? v : ml_build_squeeze(x->b, v, axes, n);
}

static const int64_t *
copy_ints(ml_lower *x, const int64_t *given, int n)
{
	int64_t *copy = ML_LOWER_ARRAY(x, int64_t, n);

	return memcpy(copy, given, (size_t)n * sizeof *copy);
}

ml_value *
ml_lower_reverse(ml_lower *x, ml_value *v, const int64_t *axes, int n)
{
	ml_node *node = v ? ml_begin(x->b, ML_OP_reverse, &v, 1) : NULL;

	if (!node)
		return NULL;
	ML_A(node, reverse, axes).ints = copy_ints(x, axes, n);
	ML_A(node, reverse, axes).count = n;
	return ml_finish1(x->b, node);
}

ml_value *
ml_lower_arg(ml_lower *x, ml_op op, ml_value *v, int axis, bool last)
{
	ml_node *node = v ? ml_begin(x->b, op, &v, 1) : NULL;

	if (!node)
		return NULL;
	/* arg_max and arg_min have the same attributes in the same places */
	ML_A(node, arg_max, axis).i64 = axis;
	ML_A(node, arg_max, last).i64 = last;
	return ml_finish1(x->b, node);
}

ml_value *
ml_lower_softmax(ml_lower *x, ml_value *v, int axis)
{
	ml_node *node = v ? ml_begin(x->b, ML_OP_softmax, &v, 1) : NULL;

	if (!node)
		return NULL;
	ML_A(node, softmax, axis).i64 = axis;
	return ml_finish1(x->b, node);
}

ml_value *
ml_lower_scan(ml_lower *x, ml_op op, ml_value *v, int axis, bool exclusive, bool reverse)
{
	ml_node *node = v ? ml_begin(x->b, op, &v, 1) : NULL;

	if (!node)
		return NULL;
	/* scan_sum and scan_prod have the same attributes in the same places */
	ML_A(node, scan_sum, axis).i64 = axis;
	ML_A(node, scan_sum, exclusive).i64 = exclusive;
	ML_A(node, scan_sum, reverse).i64 = reverse;
	return ml_finish1(x->b, node);
}

ml_value *
ml_lower_wrap(ml_lower *x, ml_value *index, ml_dim size)
{
	ml_node *node = index ? ml_begin(x->b, ML_OP_wrap_index, &index, 1) : NULL;

	if (!node)
		return NULL;
	ml_dim *one = ML_LOWER_ARRAY(x, ml_dim, 1);
	*one = size;
	ML_A(node, wrap_index, size).dims = one;
	ML_A(node, wrap_index, size).count = 1;
	return ml_finish1(x->b, node);
}

ml_value *
ml_lower_window(ml_lower *x, ml_value *v, const int64_t *size, const int64_t *stride,
		const int64_t *dilation, int n)
{
	if (v && v->type.rank + n > ML_MAX_RANK)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "the rank is too large");
	ml_node *node = v ? ml_begin(x->b, ML_OP_window, &v, 1) : NULL;
	if (!node)
		return NULL;
	ML_A(node, window, size).ints = copy_ints(x, size, n);
	ML_A(node, window, stride).ints = copy_ints(x, stride, n);
	ML_A(node, window, dilation).ints = copy_ints(x, dilation, n);
	ML_A(node, window, size).count = n;
	ML_A(node, window, stride).count = n;
	ML_A(node, window, dilation).count = n;
	return ml_finish1(x->b, node);
}

ml_value *
ml_lower_table(ml_lower *x, ml_dtype dtype, const double *number, const int64_t *dims, int rank)
{
	ml_type type = {.dtype = dtype, .rank = rank};
	int64_t n = 1;
	void *bytes;

	for (int i = 0; i < rank; i++) {
		type.dim[i] = ML_INT(dims[i]);
		n *= dims[i];
	}
	ml_blob *blob = ml_blob_new(&x->cx->memory, (uint64_t)(n * ml_dtype_bytes(dtype)), &bytes);
	for (int64_t i = 0; i < n; i++)
		ml_write_f64(dtype, bytes, i, number[i]);
	return ml_build_const(x->b, &type, blob);
}
