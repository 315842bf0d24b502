/* lower_index.c -- ONNX operators that look positions up in data: gathers, scatters, selections.
 *
 * All multi-dimensional forms become one index into flattened rows, with every component checked
 * by wrap_index first: a wrong index is found where it is, not where the sum happens to point.
 */
#include "lower.h"
#include <math.h>
#include <string.h>

ml_value *
ml_lower_gather(ml_lower *x)
{
	int axis;

	if (!ml_lower_axis(x, ml_onnx_int(x, "axis", 0), x->in[0]->type.rank, &axis))
		return NULL;
	return ml_build_gather(x->b, x->in[0], ml_lower_index(x, x->in[1]), axis);
}

/* Elements between neighbours of dim `axis`, among the dims before `end`. */
static ml_dim
stride_of(ml_lower *x, const ml_dim *dim, int axis, int end)
{
	ml_dim stride = ML_INT(1);

	for (int i = axis + 1; i < end; i++)
		stride = ml_dim_mul(ML_DIMS, stride, dim[i]);
	return stride;
}

static ml_value *
times(ml_lower *x, ml_value *v, ml_dim by)
{
	return ml_dim_equals(by, 1) ? v : ML_X2(mul, v, ml_build_dim(x->b, by));
}

static ml_value *
plus(ml_lower *x, ml_value *sum, ml_value *v)
{
	return sum ? ML_X2(add, sum, v) : v;
}

/* ---- elements: index and result have one shape ---- */

/* Positions in the flattened data that index elements stand for; the data has index's rank. */
static ml_value *
element_positions(ml_lower *x, const ml_type *data, ml_value *index, int axis)
{
	const ml_type *t = &index->type;
	ml_value *sum = NULL;

	if (t->rank != data->rank)
		return ml_lower_fail(x, ML_ERR_SHAPE, "indices of rank %d for data of rank %d",
				     t->rank, data->rank);
	for (int i = 0; i < t->rank; i++) {
		ml_value *at = i == axis ? ml_lower_wrap(x, index, data->dim[i])
					 : ml_build_iota(x->b, t->dim, t->rank, i, ML_s64);
		if (i != axis &&
		    !ml_require_le(x->b, t->dim[i], data->dim[i], "indices must lie in the data"))
			return x->b->failed != ML_OK
				       ? NULL
				       : ml_lower_fail(x, ML_ERR_SHAPE,
						       "dim %d of the indices is larger than that "
						       "of the data",
						       i);
		sum = plus(x, sum, times(x, at, stride_of(x, data->dim, i, data->rank)));
	}
	return sum;
}

ml_value *
ml_lower_gather_elements(ml_lower *x)
{
	const ml_type *t = &x->in[0]->type;
	ml_dim count = ml_type_count(ML_DIMS, t);
	ml_value *index = ml_lower_index(x, x->in[1]);
	int axis;

	if (!index || !ml_lower_axis(x, ml_onnx_int(x, "axis", 0), t->rank, &axis))
		return NULL;
	index = element_positions(x, t, index, axis);
	return ml_build_gather(x->b, ml_lower_reshape(x, x->in[0], &count, 1), index, 0);
}

/* ONNX's name for how updates combine, as scatter's mode; NULL, reported, when unknown. */
static const char *
scatter_mode(ml_lower *x)
{
	const char *mode = ml_onnx_text(x, "reduction", "none");

	if (!strcmp(mode, "none"))
		return "set";
	if (!strcmp(mode, "add") || !strcmp(mode, "mul") || !strcmp(mode, "min") ||
	    !strcmp(mode, "max"))
		return mode;
	return ml_lower_fail(x, ML_ERR_VALUE, "reduction must be none, add, mul, min or max");
}

static ml_value *
scatter(ml_lower *x, ml_value *data, ml_value *index, ml_value *updates, const char *mode)
{
	ml_value *in[] = {data, index, updates};

	if (!data || !index || !updates || !mode)
		return NULL;
	ml_node *n = ml_begin(x->b, ML_OP_scatter, in, 3);
	if (!n)
		return NULL;
	ML_A(n, scatter, mode).str = mode;
	return ml_finish1(x->b, n);
}

/* ScatterElements, and Scatter before it */
ml_value *
ml_lower_scatter_elements(ml_lower *x)
{
	const ml_type *t = &x->in[0]->type;
	ml_dim all = ml_type_count(ML_DIMS, t), n = ml_type_count(ML_DIMS, &x->in[1]->type);
	ml_value *index = ml_lower_index(x, x->in[1]), *v;
	const char *mode = scatter_mode(x);
	int axis;

	if (!index || !ml_lower_axis(x, ml_onnx_int(x, "axis", 0), t->rank, &axis))
		return NULL;
	index = ml_lower_reshape(x, element_positions(x, t, index, axis), &n, 1);
	v = scatter(x, ml_lower_reshape(x, x->in[0], &all, 1), index,
		    ml_lower_reshape(x, x->in[2], &n, 1), mode);
	return ml_lower_reshape(x, v, t->dim, t->rank);
}

/* ---- rows: the index's last dim holds coordinates ---- */

/* Row numbers in data whose first `first` + coordinates dims are flattened; the first dims are
 * shared by data and index. */
static ml_value *
row_positions(ml_lower *x, const ml_type *data, ml_value *index, int first, int *used)
{
	const ml_type *t = &index->type;
	ml_value *sum = NULL;
	int64_t n, last = t->rank - 1;

	if (t->rank < 1 || !ml_dim_is_int(t->dim[last], &n))
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED,
				     "the last dim of the indices must be a number");
	if (first < 0 || first >= t->rank || n < 1 || first + n > data->rank)
		return ml_lower_fail(x, ML_ERR_SHAPE,
				     "%lld coordinates after %d shared dims for data of rank %d",
				     (long long)n, first, data->rank);
	*used = first + (int)n;
	for (int i = 0; i < n; i++) {
		ml_value *at = ml_lower_cut(x, index, (int)last, ML_INT(i), ML_INT(1));
		at = at ? ml_build_squeeze(x->b, at, &last, 1) : NULL;
		at = ml_lower_wrap(x, at, data->dim[first + i]);
		sum = plus(x, sum, times(x, at, stride_of(x, data->dim, first + i, *used)));
	}
	for (int i = 0; i < first; i++) {
		ml_value *at = ml_build_iota(x->b, t->dim, (int)last, i, ML_s64);
		if (!ml_require_equal(x->b, t->dim[i], data->dim[i], "shared dims must be equal"))
			return x->b->failed != ML_OK
				       ? NULL
				       : ml_lower_fail(x, ML_ERR_SHAPE, "dim %d differs", i);
		sum = plus(x, sum, times(x, at, stride_of(x, data->dim, i, *used)));
	}
	return sum;
}

/* Flattens the first `used` dims: [rows, rest..] */
static ml_value *
as_rows(ml_lower *x, ml_value *v, int used)
{
	ml_dim shape[ML_MAX_RANK];
	int n = 1;

	shape[0] = ML_INT(1);
	for (int i = 0; i < v->type.rank; i++)
		if (i < used)
			shape[0] = ml_dim_mul(ML_DIMS, shape[0], v->type.dim[i]);
		else
			shape[n++] = v->type.dim[i];
	return ml_lower_reshape(x, v, shape, n);
}

ml_value *
ml_lower_gather_nd(ml_lower *x)
{
	ml_value *index = ml_lower_index(x, x->in[1]);
	int64_t batch = ml_onnx_int(x, "batch_dims", 0);
	int used;

	if (!index)
		return NULL;
	index = row_positions(x, &x->in[0]->type, index, (int)batch, &used);
	return index ? ml_build_gather(x->b, as_rows(x, x->in[0], used), index, 0) : NULL;
}

ml_value *
ml_lower_scatter_nd(ml_lower *x)
{
	const ml_type *t = &x->in[0]->type;
	ml_value *index = ml_lower_index(x, x->in[1]), *updates = x->in[2];
	const char *mode = scatter_mode(x);
	ml_dim n;
	int used;

	if (!index)
		return NULL;
	index = row_positions(x, t, index, 0, &used);
	if (!index)
		return NULL;
	if (updates->type.rank != index->type.rank + t->rank - used)
		return ml_lower_fail(x, ML_ERR_SHAPE, "updates have rank %d, must have %d",
				     updates->type.rank, index->type.rank + t->rank - used);
	n = ml_type_count(ML_DIMS, &index->type);
	updates = as_rows(x, updates, index->type.rank);
	updates = scatter(x, as_rows(x, x->in[0], used), ml_lower_reshape(x, index, &n, 1), updates,
			  mode);
	return ml_lower_reshape(x, updates, t->dim, t->rank);
}

/* cache[B, .., S, ..] with rows written[b] + i replaced by update[B, .., s, ..] */
ml_value *
ml_lower_tensor_scatter(ml_lower *x)
{
	const char *mode = ml_onnx_text(x, "mode", "linear");
	ml_value *cache = x->in[0], *update = x->in[1], *at;
	int axis, rank = cache->type.rank;

	if (update->type.rank != rank || rank < 2)
		return ml_lower_fail(x, ML_ERR_SHAPE, "cache and update must have one rank >= 2");
	if (!ml_lower_axis(x, ml_onnx_int(x, "axis", -2), rank, &axis))
		return NULL;
	if (!axis)
		return ml_lower_fail(x, ML_ERR_VALUE, "axis 0 is the batch");
	cache = ml_lower_move_axis(x, cache, axis, 1);
	update = ml_lower_move_axis(x, update, axis, 1);
	if (!cache || !update)
		return NULL;
	const ml_dim *c = cache->type.dim, *u = update->type.dim;
	ml_dim n = ml_dim_mul(ML_DIMS, u[0], u[1]), column[] = {u[0], ML_INT(1)};
	at = ml_build_iota(x->b, u, 2, 1, ML_s64);
	if (x->in[2])
		at = ML_X2(add, at, ml_lower_reshape(x, ml_lower_index(x, x->in[2]), column, 2));
	if (!strcmp(mode, "circular"))
		at = ML_X2(mod, at, ml_build_dim(x->b, c[1]));
	else if (strcmp(mode, "linear"))
		return ml_lower_fail(x, ML_ERR_VALUE, "mode must be linear or circular");
	at = ML_X2(add, ml_lower_wrap(x, at, c[1]),
		   times(x, ml_build_iota(x->b, u, 2, 0, ML_s64), c[1]));
	at = scatter(x, as_rows(x, cache, 2), ml_lower_reshape(x, at, &n, 1), as_rows(x, update, 2),
		     "set");
	return ml_lower_move_axis(x, ml_lower_reshape(x, at, c, rank), 1, axis);
}

/* ---- selections ---- */

static ml_dim
known_depth(ml_lower *x)
{
	double number;
	int n;

	if (ml_is_integer(x->in[1]->type.dtype)) {
		const ml_dim *d = ml_lower_dims(x, 1, &n);
		if (d && n != 1)
			return ml_lower_fail(x, ML_ERR_SHAPE, "depth must be a scalar");
		return d ? *d : NULL;
	}
	if (!ml_lower_scalar(x, x->in[1], &number))
		return ml_lower_needs(x, 1);
	if (!(number >= 0 && number <= INT32_MAX))
		return ml_lower_fail(x, ML_ERR_VALUE, "depth is %g", number);
	return ML_INT((int64_t)number);
}

ml_value *
ml_lower_one_hot(ml_lower *x)
{
	ml_value *index = ml_build_cast(x->b, x->in[0], ML_s64), *depth, *off, *on;
	ml_dim n = known_depth(x), shape[ML_MAX_RANK];
	int axis, rank = x->in[0]->type.rank + 1;
	int64_t axes;

	if (!n || !index || !ml_lower_axis(x, ml_onnx_int(x, "axis", -1), rank, &axis))
		return NULL;
	if (rank > ML_MAX_RANK)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "rank %d is too large", rank);
	if (x->in[2]->type.rank != 1 || !ml_dim_equals(x->in[2]->type.dim[0], 2))
		return ml_lower_fail(x, ML_ERR_SHAPE, "values must have two elements");
	axes = axis;
	depth = ml_build_dim(x->b, n);
	index = ML_X3(select, ML_X2(lt, index, ML_LIKE(index, 0)), ML_X2(add, index, depth), index);
	for (int i = 0; i < rank; i++)
		shape[i] = i == axis ? n : index ? index->type.dim[i - (i > axis)] : NULL;
	index = index ? ml_build_unsqueeze(x->b, index, &axes, 1) : NULL;
	index = index ? ML_X2(eq, ml_build_iota(x->b, shape, rank, axis, ML_s64), index) : NULL;
	off = ml_lower_reshape(x, ml_lower_cut(x, x->in[2], 0, ML_INT(0), ML_INT(1)), NULL, 0);
	on = ml_lower_reshape(x, ml_lower_cut(x, x->in[2], 0, ML_INT(1), ML_INT(1)), NULL, 0);
	return ML_X3(select, index, on, off);
}

ml_value *
ml_lower_nonzero(ml_lower *x)
{
	return ML_X1(nonzero, x->in[0]);
}

ml_value *
ml_lower_compress(ml_lower *x)
{
	ml_value *v = x->in[0], *at;
	ml_dim count = ml_type_count(ML_DIMS, &v->type);
	int axis = 0;

	if (x->in[1]->type.rank != 1 || x->in[1]->type.dtype != ML_bool)
		return ml_lower_fail(x, ML_ERR_SHAPE, "the condition must be a list of bool");
	if (!ml_onnx_has(x, "axis"))
		v = ml_lower_reshape(x, v, &count, 1);
	else if (!ml_lower_axis(x, ml_onnx_int(x, "axis", 0), v->type.rank, &axis))
		return NULL;
	at = ML_X1(nonzero, x->in[1]);
	return at ? ml_build_gather(x->b, v, ml_lower_reshape(x, at, &at->type.dim[1], 1), axis)
		  : NULL;
}

ml_value *
ml_lower_unique(ml_lower *x)
{
	ml_value *v = x->in[0];
	ml_dim count = ml_type_count(ML_DIMS, &v->type);
	int axis;

	if (ml_onnx_has(x, "axis")) {
		if (!ml_lower_axis(x, ml_onnx_int(x, "axis", 0), v->type.rank, &axis))
			return NULL;
		if (v->type.rank != 1)
			return ml_lower_fail(x, ML_ERR_UNSUPPORTED,
					     "unique slices are not supported, only elements");
	}
	v = ml_lower_reshape(x, v, &count, 1);
	ml_node *n = v ? ml_begin(x->b, ML_OP_unique, &v, 1) : NULL;
	if (!n)
		return NULL;
	ML_A(n, unique, sorted).i64 = ml_onnx_int(x, "sorted", 1);
	n = ml_finish(x->b, n);
	for (int i = 0; n && i < 4 && i < x->nout; i++)
		x->out[i] = &n->out[i];
	return n ? &n->out[0] : NULL;
}

ml_value *
ml_lower_reverse_within(ml_lower *x, ml_value *v, ml_value *length)
{
	int64_t axes = 1;
	ml_value *t, *at;

	if (!v || !length)
		return NULL;
	const ml_dim *d = v->type.dim;
	length = ml_build_unsqueeze(x->b, length, &axes, 1);
	t = ml_build_iota(x->b, d, 2, 1, ML_s64);
	at = ML_X2(sub, ML_X2(sub, length, ML_LIKE(t, 1)), t);
	at = ml_lower_wrap(x, ML_X3(select, ML_X2(lt, t, length), at, t), d[1]);
	at = ML_X2(add, at, times(x, ml_build_iota(x->b, d, 2, 0, ML_s64), d[1]));
	return ml_build_gather(x->b, as_rows(x, v, 2), at, 0);
}

ml_value *
ml_lower_reverse_sequence(ml_lower *x)
{
	ml_value *v = x->in[0], *length = ml_lower_index(x, x->in[1]);
	int64_t batch = ml_onnx_int(x, "batch_axis", 1), time = ml_onnx_int(x, "time_axis", 0);

	if (v->type.rank < 2 || batch + time != 1 || batch * time != 0)
		return ml_lower_fail(x, ML_ERR_VALUE, "batch and time must be axes 0 and 1");
	if (length && length->type.rank != 1)
		return ml_lower_fail(x, ML_ERR_SHAPE, "lengths must be a list");
	v = ml_lower_reverse_within(x, ml_lower_move_axis(x, v, (int)batch, 0), length);
	return ml_lower_move_axis(x, v, 0, (int)batch);
}

ml_value *
ml_lower_non_max_suppression(ml_lower *x)
{
	static const double init[] = {0, 0, 0, 0, -INFINITY};
	ml_value *in[5];

	for (int i = 0; i < 5; i++) {
		in[i] = x->in[i];
		if (i >= 2)
			in[i] = in[i] ? ml_lower_reshape(x, in[i], NULL, 0)
				      : ml_build_f64(x->b, i == 2 ? ML_s64 : ML_f32, init[i]);
		if (!in[i])
			return NULL;
	}
	ml_node *n = ml_begin(x->b, ML_OP_nms, in, 5);
	if (!n)
		return NULL;
	ML_A(n, nms, center_point_box).i64 = ml_onnx_int(x, "center_point_box", 0);
	return ml_finish1(x->b, n);
}

/* ai.onnx.ml: columns of the last axis */
ml_value *
ml_lower_array_feature_extractor(ml_lower *x)
{
	ml_value *v = x->in[0], *index = ml_lower_index(x, x->in[1]);
	ml_dim n, row[2];

	if (!index)
		return NULL;
	n = ml_type_count(ML_DIMS, &index->type);
	if (v->type.rank < 1)
		return ml_lower_fail(x, ML_ERR_SHAPE, "the operand must not be a scalar");
	if (v->type.rank == 1) {
		row[0] = ML_INT(1);
		row[1] = v->type.dim[0];
		v = ml_lower_reshape(x, v, row, 2);
	}
	return v ? ml_build_gather(x->b, v, ml_lower_reshape(x, index, &n, 1), v->type.rank - 1)
		 : NULL;
}
