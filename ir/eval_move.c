/* eval_move.c -- index maps of the reference evaluator: every element comes from one place. */
#include "eval.h"
#include <string.h>

/* out[i..] = in[offset + sum i * stride]; the walk has out's shape. */
static ml_status
copy_view(ml_eval *e, const ml_array *in, ml_walk *w, ml_array *out)
{
	w->n = 1;
	w->rank = out->rank;
	memcpy(w->dim, out->dim, sizeof w->dim);
	for (int64_t i = 0; i < out->count; i++, ml_walk_next(w)) {
		if (w->pos[0] < 0 || w->pos[0] >= in->count)
			return ml_eval_fail(e, ML_ERR_SHAPE, "reads outside of its operand");
		out->cell[i] = in->cell[w->pos[0]];
	}
	return ML_OK;
}

/* The stride of a dim whose neighbours are `step` apart; one without neighbours may have any. */
static int64_t
spread(int64_t size, int64_t stride, int64_t step)
{
	return size > 1 ? stride * step : 0;
}

static ml_status
reshape(ml_eval *e, const ml_array *in, ml_array *out)
{
	if (in->count != out->count)
		return ml_eval_fail(e, ML_ERR_SHAPE, "%lld elements cannot become %lld",
				    (long long)in->count, (long long)out->count);
	memcpy(out->cell, in->cell, (size_t)in->count * sizeof *in->cell);
	return ML_OK;
}

static ml_status
transpose(ml_eval *e, const ml_node *n, const ml_array *in, ml_array *out)
{
	const int64_t *perm = ML_A(n, transpose, perm).ints;
	int64_t stride[ML_MAX_RANK];
	ml_walk w = {0};

	ml_strides(in->rank, in->dim, stride);
	for (int d = 0; d < out->rank; d++)
		w.stride[0][d] = stride[perm[d]];
	return copy_view(e, in, &w, out);
}

static ml_status
broadcast(ml_eval *e, const ml_array *in, ml_array *out)
{
	int lead = out->rank - in->rank;
	int64_t stride[ML_MAX_RANK];
	ml_walk w = {0};

	ml_strides(in->rank, in->dim, stride);
	for (int d = 0; d < in->rank; d++) {
		if (in->dim[d] != 1 && in->dim[d] != out->dim[lead + d])
			return ml_eval_fail(e, ML_ERR_SHAPE, "size %lld does not broadcast to %lld",
					    (long long)in->dim[d], (long long)out->dim[lead + d]);
		w.stride[0][lead + d] = in->dim[d] == 1 ? 0 : stride[d];
	}
	return copy_view(e, in, &w, out);
}

static ml_status
slice(ml_eval *e, const ml_node *n, const ml_array *in, ml_array *out)
{
	int64_t stride[ML_MAX_RANK], start[ML_MAX_RANK];
	const int64_t *step = ML_A(n, slice, step).ints;
	ml_walk w = {0};

	ML_STEP(ml_eval_dims(e, &ML_A(n, slice, start), start));
	ml_strides(in->rank, in->dim, stride);
	for (int d = 0; d < in->rank && out->count; d++) {
		int64_t last;
		if (start[d] < 0 || __builtin_mul_overflow(out->dim[d] - 1, step[d], &last) ||
		    __builtin_add_overflow(start[d], last, &last) || last >= in->dim[d])
			return ml_eval_fail(
				e, ML_ERR_SHAPE,
				"start %lld, size %lld, step %lld leave dim %d of size %lld",
				(long long)start[d], (long long)out->dim[d], (long long)step[d], d,
				(long long)in->dim[d]);
		w.stride[0][d] = spread(out->dim[d], stride[d], step[d]);
		w.pos[0] += start[d] * stride[d];
	}
	return copy_view(e, in, &w, out);
}

static ml_status
reverse(ml_eval *e, const ml_node *n, const ml_array *in, ml_array *out)
{
	const ml_attr *axes = &ML_A(n, reverse, axes);
	ml_walk w = {0};

	ml_strides(in->rank, in->dim, w.stride[0]);
	for (int i = 0; i < axes->count; i++) {
		int64_t d = axes->ints[i], *stride = &w.stride[0][d];
		w.pos[0] += (in->dim[d] - 1) * *stride;
		*stride = -*stride;
	}
	return copy_view(e, in, &w, out);
}

/* [.., H, W] -> [.., OH, OW, KH, KW] */
static ml_status
window(ml_eval *e, const ml_node *n, const ml_array *in, ml_array *out)
{
	int k = ML_A(n, window, size).count, lead = in->rank - k;
	const int64_t *step = ML_A(n, window, stride).ints;
	const int64_t *dilation = ML_A(n, window, dilation).ints;
	int64_t stride[ML_MAX_RANK];
	ml_walk w = {0};

	ml_strides(in->rank, in->dim, stride);
	memcpy(w.stride[0], stride, (size_t)lead * sizeof *stride);
	for (int d = 0; d < k; d++) {
		int at = lead + d;
		w.stride[0][at] = spread(out->dim[at], stride[at], step[d]);
		w.stride[0][at + k] = spread(out->dim[at + k], stride[at], dilation[d]);
	}
	return copy_view(e, in, &w, out);
}

/* Operand element i lands at low + i * (interior + 1), unless negative padding cuts it off. */
static ml_status
pad(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array *out)
{
	const int64_t *interior = ML_A(n, pad, interior).ints;
	int64_t low[ML_MAX_RANK], stride[ML_MAX_RANK];
	ml_walk w = {.rank = in[0]->rank};

	ML_STEP(ml_eval_dims(e, &ML_A(n, pad, low), low));
	for (int64_t i = 0; i < out->count; i++)
		out->cell[i] = in[1]->cell[0];
	memcpy(w.dim, in[0]->dim, sizeof w.dim);
	ml_strides(out->rank, out->dim, stride);
	for (int64_t i = 0; i < in[0]->count; i++, ml_walk_next(&w)) {
		int64_t at = 0;
		bool inside = true;
		for (int d = 0; d < out->rank && inside; d++) {
			uint64_t step = (uint64_t)interior[d] + 1; /* wraps, as does p */
			int64_t p = (int64_t)((uint64_t)low[d] + (uint64_t)w.at[d] * step);
			inside = p >= 0 && p < out->dim[d];
			at += inside ? p * stride[d] : 0;
		}
		if (inside)
			out->cell[at] = in[0]->cell[i];
	}
	return ml_eval_charge(e, in[0]->count);
}

static ml_status
concat(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array *out)
{
	int64_t outer, count, inner, at = 0;
	int axis = (int)ML_A(n, concat, axis).i64;

	ml_array_split(out, axis, &outer, &count, &inner);
	for (int i = 0; i < n->nin; i++) {
		int64_t rows = in[i]->dim[axis];
		if (rows > count - at || in[i]->count != outer * rows * inner)
			return ml_eval_fail(e, ML_ERR_SHAPE, "operand %d does not fit", i);
		for (int64_t o = 0; o < outer; o++)
			memcpy(out->cell + (o * count + at) * inner, in[i]->cell + o * rows * inner,
			       (size_t)(rows * inner) * sizeof *out->cell);
		at += rows;
	}
	return ML_OK;
}

ml_status
ml_eval_move(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array **out)
{
	ML_STEP(ml_array_result(e, n, 0, out));
	switch (n->op) {
	case ML_OP_reshape: return reshape(e, in[0], *out);
	case ML_OP_transpose: return transpose(e, n, in[0], *out);
	case ML_OP_broadcast: return broadcast(e, in[0], *out);
	case ML_OP_slice: return slice(e, n, in[0], *out);
	case ML_OP_pad: return pad(e, n, in, *out);
	case ML_OP_concat: return concat(e, n, in, *out);
	case ML_OP_reverse: return reverse(e, n, in[0], *out);
	case ML_OP_window: return window(e, n, in[0], *out);
	default: return ml_eval_fail(e, ML_ERR_UNSUPPORTED, "has no evaluator");
	}
}
