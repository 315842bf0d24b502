/* move_dequantize.c -- dequantizes as late as possible: data movement and pools work on integers.
 *
 * With one scale s > 0 and zero point z, (q - z) s is monotone in q and zero exactly at z.
 */
#include "movement.h"

enum { SUM_LIMIT = 1 << 22 /* elements: 255 times that, twice, fits s32 */ };

static bool
is_per_tensor(ml_match *m)
{
	return ml_is_per_tensor(GOT(m, s), GOT(m, z));
}

/* The zero point as an element of q. */
static bool
zero_is_element(ml_match *m)
{
	int64_t z;
	ml_dtype t = GOT(m, q)->type.dtype;

	if (!is_per_tensor(m))
		return false;
	z = ml_zero_of(GOT(m, z));
	GOT(m, o) = ml_build_zero(m->b, t, z);
	return z >= ml_lowest(t) && z <= ml_highest(t);
}

/* ---- weights: one scale for each index of an axis ---- */

/* v, which broadcasts to the weights, with the weights' axes turned. */
static ml_value *
turned(ml_match *m, ml_value *v, int rank, const ml_attr *perm)
{
	ml_dim shape[ML_MAX_RANK];

	if (v->type.rank == 0)
		return v;
	for (int i = 0; i < rank; i++) {
		int at = i - (rank - v->type.rank);
		shape[i] = at < 0 ? ml_dim_int(m->b->m->dims, 1) : v->type.dim[at];
	}
	v = ml_build_transpose(m->b, ml_build_reshape(m->b, v, shape, rank), perm->ints);
	/* from the inside: folding takes one node at a time */
	ml_value *inner = v ? ml_match_fold(m, ml_in(v->def, 0)) : NULL;
	return inner ? ml_match_fold(m, ml_build_transpose(m->b, inner, perm->ints)) : NULL;
}

static bool
turns_weights(ml_match *m)
{
	const ml_attr *perm = &GOT_ATTR(m, p);
	ml_value *w = GOT(m, w);
	int rank = w->type.rank;

	GOT(m, s) = turned(m, GOT(m, s), rank, perm);
	GOT(m, z) = turned(m, GOT(m, z), rank, perm);
	GOT(m, w) = turned(m, w, rank, perm);
	return GOT(m, s) && GOT(m, z) && GOT(m, w);
}

/* ---- sums ---- */

/* How many elements each result sums; false when that is not known, or too many. */
static bool
counts(ml_match *m, const ml_attr *axes, int64_t *n)
{
	const ml_type *t = &GOT(m, q)->type;
	int64_t size;

	*n = 1;
	for (int i = 0; i < axes->count; i++) {
		if (!ml_dim_is_int(t->dim[axes->ints[i]], &size) || size < 1 || size > SUM_LIMIT)
			return m->why = "the number of elements is not known", false;
		*n *= size;
		if (*n > SUM_LIMIT)
			return m->why = "the sum may leave 32 bits", false;
	}
	return true;
}

/* sum (q - z) s = (sum q - n z) s; the mean has s / n. */
static bool
sums(ml_match *m, bool mean)
{
	int64_t n;

	if (!is_per_tensor(m) || ml_dtype_bytes(GOT(m, q)->type.dtype) != 1 ||
	    !counts(m, &GOT_ATTR(m, i), &n))
		return false;
	GOT_ATTR(m, t) = (ml_attr){.dtype = ML_s32};
	GOT(m, o) = ml_build_f64(m->b, ML_s32, (double)(n * ml_zero_of(GOT(m, z))));
	if (mean)
		GOT(m, s) = ml_build_f64(m->b, ML_f32, ml_const_f64(GOT(m, s), 0) / (double)n);
	return ml_is_scale(GOT(m, s));
}

static bool
adds_up(ml_match *m)
{
	return sums(m, false);
}

static bool
averages(ml_match *m)
{
	return sums(m, true);
}

/* clang-format off */
#define QUANTIZED       ML_DEQUANTIZE(ANY(q))
#define ALSO(v)         ML_DEQUANTIZE(ANY(v))
#define PERMUTED        ATTRS(ATTR(transpose, perm, p))
#define SUMMED          ATTRS(ATTR(reduce_sum, axes, i))
#define AVERAGED        ATTRS(ATTR(reduce_mean, axes, i))
#define INTEGERS        OPA(reduce_sum, SUMMED, CAST(t, ANY(q)))
#define TOTAL           OP(mul, OP(cast, OP(sub, INTEGERS, CST(o))), CST(s))

static const ml_rule rules[] = {
	{"dequantize_turned_weights", .lhs = OPA(transpose, PERMUTED, OP(dequantize, CST(w), CST(s), CST(z))),
	 .rhs = OP(dequantize, CST(w), CST(s), CST(z)), .when = turns_weights, .shared = true},
	{"dequantize_reshape",    .lhs = OPA(reshape, SHAPED, QUANTIZED), .rhs = ML_DEQUANTIZE(OPA(reshape, SHAPED, ANY(q))), .when = is_per_tensor, .shared = true},
	{"dequantize_transpose",  .lhs = OPA(transpose, PERMUTED, QUANTIZED), .rhs = ML_DEQUANTIZE(OPA(transpose, PERMUTED, ANY(q))), .when = is_per_tensor, .shared = true},
	{"dequantize_broadcast",  .lhs = OPA(broadcast, SPREAD, QUANTIZED), .rhs = ML_DEQUANTIZE(OPA(broadcast, SPREAD, ANY(q))), .when = is_per_tensor, .shared = true},
	{"dequantize_slice",      .lhs = OPA(slice, CUT, QUANTIZED), .rhs = ML_DEQUANTIZE(OPA(slice, CUT, ANY(q))), .when = is_per_tensor, .shared = true},
	{"dequantize_reverse",    .lhs = OPA(reverse, TURNED, QUANTIZED), .rhs = ML_DEQUANTIZE(OPA(reverse, TURNED, ANY(q))), .when = is_per_tensor, .shared = true},
	{"dequantize_window",     .lhs = OPA(window, WINDOWS, QUANTIZED), .rhs = ML_DEQUANTIZE(OPA(window, WINDOWS, ANY(q))), .when = is_per_tensor, .shared = true},
	{"dequantize_reduce_max", .lhs = OPA(reduce_max, LARGEST, QUANTIZED), .rhs = ML_DEQUANTIZE(OPA(reduce_max, LARGEST, ANY(q))), .when = is_per_tensor, .shared = true},
	{"dequantize_reduce_min", .lhs = OPA(reduce_min, SMALLEST, QUANTIZED), .rhs = ML_DEQUANTIZE(OPA(reduce_min, SMALLEST, ANY(q))), .when = is_per_tensor, .shared = true},
	{"dequantize_pad",        /* zeros are elements of the zero point */
	 .lhs = OPA(pad, PADS, QUANTIZED, NUM(0)), .rhs = ML_DEQUANTIZE(OPA(pad, PADS, ANY(q), CST(o))), .when = zero_is_element, .shared = true},
	{"dequantize_relu",       /* max((q - z) s, 0) => (max(q, z) - z) s */
	 .lhs = OP(max, QUANTIZED, NUM(0)), .rhs = ML_DEQUANTIZE(OP(max, ANY(q), CST(o))), .when = zero_is_element, .shared = true},
	{"dequantize_concat_two", .lhs = OPA(concat, JOINED, ALSO(a), ALSO(b)),
	 .rhs = ML_DEQUANTIZE(OPA(concat, JOINED, ANY(a), ANY(b))), .when = is_per_tensor, .shared = true},
	{"dequantize_concat_three", .lhs = OPA(concat, JOINED, ALSO(a), ALSO(b), ALSO(c)),
	 .rhs = ML_DEQUANTIZE(OPA(concat, JOINED, ANY(a), ANY(b), ANY(c))), .when = is_per_tensor, .shared = true},
	{"dequantize_concat_four", .lhs = OPA(concat, JOINED, ALSO(a), ALSO(b), ALSO(c), ALSO(d)),
	 .rhs = ML_DEQUANTIZE(OPA(concat, JOINED, ANY(a), ANY(b), ANY(c), ANY(d))), .when = is_per_tensor, .shared = true},
	{"dequantize_sum",        .lhs = OPA(reduce_sum, SUMMED, QUANTIZED), .rhs = TOTAL, .when = adds_up, .shared = true},
	{"dequantize_mean",       .lhs = OPA(reduce_mean, AVERAGED, QUANTIZED), .rhs = TOTAL, .when = averages, .shared = true},
};
/* clang-format on */

ML_RULE_PASS(move_dequantize, ML_ROUNDS, rules,
	     "dequantization moves behind data movement and pools");
