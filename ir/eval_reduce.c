/* eval_reduce.c -- sums, products, extremes and running sums of the reference evaluator. */
#include "eval.h"
#include <math.h>
#include <string.h>

static ml_cell
integer_limit(ml_dtype t, bool largest)
{
	int bits = t == ML_bool ? 1 : ml_dtype_bits(t);

	if (ml_dtype_kind_of(t) == ML_KIND_SIGNED) {
		int64_t least = INT64_MIN >> (64 - bits);
		return (ml_cell){.i = largest ? ~least : least};
	}
	return (ml_cell){.i = largest ? (int64_t)(UINT64_MAX >> (64 - bits)) : 0};
}

/* What a reduction of nothing gives. */
static ml_cell
neutral(ml_op op, ml_dtype t)
{
	bool real = ml_is_float(t);

	switch (op) {
	case ML_OP_reduce_prod:
	case ML_OP_scan_prod: return real ? (ml_cell){.f = 1} : (ml_cell){.i = 1};
	case ML_OP_reduce_min: return real ? (ml_cell){.f = INFINITY} : integer_limit(t, true);
	case ML_OP_reduce_max: return real ? (ml_cell){.f = -INFINITY} : integer_limit(t, false);
	default: return real ? (ml_cell){.f = 0} : (ml_cell){.i = 0};
	}
}

static ml_cell
extreme(ml_dtype t, ml_cell x, ml_cell y, int sign)
{
	if (ml_is_float(t) && (isnan(x.f) || isnan(y.f)))
		return (ml_cell){.f = NAN};
	return sign * ml_cell_compare(t, y, x) > 0 ? y : x;
}

ml_cell
ml_cell_combine(ml_op op, ml_dtype t, ml_cell x, ml_cell y)
{
	bool real = ml_is_float(t);

	switch (op) {
	case ML_OP_reduce_min: return extreme(t, x, y, -1);
	case ML_OP_reduce_max: return extreme(t, x, y, 1);
	case ML_OP_reduce_prod:
	case ML_OP_scan_prod:
		return real ? (ml_cell){.f = x.f * y.f}
			    : (ml_cell){.i = (int64_t)((uint64_t)x.i * (uint64_t)y.i)};
	default:
		return real ? (ml_cell){.f = x.f + y.f}
			    : (ml_cell){.i = (int64_t)((uint64_t)x.i + (uint64_t)y.i)};
	}
}

/* Walks the operand; the result's position stands still along the reduced axes. */
static ml_status
reduce(ml_eval *e, const ml_node *n, const ml_array *in, ml_array *out)
{
	const ml_attr *axes = &ML_A(n, reduce_sum, axes); /* the first attribute of all of them */
	ml_walk w = {.n = 1, .rank = in->rank};

	memcpy(w.dim, in->dim, sizeof w.dim);
	ml_strides(out->rank, out->dim, w.stride[0]);
	for (int i = 0; i < axes->count; i++)
		w.stride[0][axes->ints[i]] = 0;
	for (int64_t i = 0; i < out->count; i++)
		out->cell[i] = neutral(n->op, in->dtype);
	for (int64_t i = 0; i < in->count; i++, ml_walk_next(&w)) {
		ml_cell *c = &out->cell[w.pos[0]];
		*c = ml_cell_combine(n->op, in->dtype, *c, in->cell[i]);
	}
	return ml_eval_charge(e, in->count);
}

/* NaN counts as the extreme, as it does for reduce_min and reduce_max. */
static bool
better(const ml_node *n, ml_dtype t, ml_cell x, ml_cell best)
{
	bool last = ML_A(n, arg_max, last).i64 != 0, real = ml_is_float(t);
	int c = ml_cell_compare(t, x, best);

	if (real && (isnan(x.f) || isnan(best.f)))
		c = !!isnan(x.f) - !!isnan(best.f);
	else if (n->op == ML_OP_arg_min)
		c = -c;
	return c > 0 || (c == 0 && last);
}

static ml_status
arg_reduce(ml_eval *e, const ml_node *n, const ml_array *in, ml_array *out)
{
	int64_t outer, count, inner;

	ml_array_split(in, (int)ML_A(n, arg_max, axis).i64, &outer, &count, &inner);
	if (count == 0)
		return ml_eval_fail(e, ML_ERR_SHAPE, "the axis is empty");
	for (int64_t i = 0; i < out->count; i++) {
		const ml_cell *row = in->cell + i / inner * count * inner + i % inner;
		int64_t best = 0;
		for (int64_t k = 1; k < count; k++)
			if (better(n, in->dtype, row[k * inner], row[best * inner]))
				best = k;
		out->cell[i].i = best;
	}
	return ml_eval_charge(e, in->count);
}

/* Not rounded between the steps: the sum is one operation. */
static void
scan(const ml_node *n, const ml_array *in, ml_array *out)
{
	bool exclusive = ML_A(n, scan_sum, exclusive).i64, reverse = ML_A(n, scan_sum, reverse).i64;
	int64_t outer, count, inner;

	ml_array_split(in, (int)ML_A(n, scan_sum, axis).i64, &outer, &count, &inner);
	for (int64_t i = 0; i < outer * inner; i++) {
		int64_t row = i / inner * count * inner + i % inner;
		ml_cell sum = neutral(n->op, in->dtype);
		for (int64_t k = 0; k < count; k++) {
			int64_t at = row + (reverse ? count - 1 - k : k) * inner;
			ml_cell with = ml_cell_combine(n->op, in->dtype, sum, in->cell[at]);
			out->cell[at] = exclusive ? sum : with;
			sum = with;
		}
	}
}

ml_status
ml_eval_reduce(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array **out)
{
	ML_STEP(ml_array_result(e, n, 0, out));
	switch (n->op) {
	case ML_OP_arg_max:
	case ML_OP_arg_min: return arg_reduce(e, n, in[0], out[0]);
	case ML_OP_scan_sum:
	case ML_OP_scan_prod: scan(n, in[0], out[0]); return ML_OK;
	default: return reduce(e, n, in[0], out[0]);
	}
}
