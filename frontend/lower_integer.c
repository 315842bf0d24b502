/* lower_integer.c -- sums of products of quantized integers.
 *
 * Kernels multiply u8 by s8.  Whatever the operands are quantized to, they become that by a shift
 * of 128, which their zero points follow:
 *
 *   sum (a - p) (b - q)  =  sum a b  -  p (sum b - k q)  -  q sum a
 *
 * All of it is exact in s32.  Sums of constant weights fold; constant weights less their zero
 * points mostly fit s8, and then q is 0.
 */
#include "../ir/text.h"
#include "lower_quant.h"
#include <string.h>
#include <string.h>

enum { OFFSET = 128 /* between s8 and u8 */ };

/* One side of a product. */
typedef struct side {
	ml_value *v, *zero; /* NULL: 0 */
} side;

static bool
is_byte(const ml_value *v)
{
	return v->type.dtype == ML_u8 || v->type.dtype == ML_s8;
}

static bool
is_zero(const ml_value *zero)
{
	double number;

	return !zero || (ml_is_splat(zero, &number) && number == 0);
}

static ml_value *
as_s32(ml_lower *x, ml_value *v)
{
	return v ? ml_build_cast(x->b, v, ML_s32) : NULL;
}

/* v + by, wrapped into the type; constants at once. */
static ml_value *
shifted(ml_lower *x, ml_value *v, int by, ml_dtype dtype)
{
	int64_t n;
	void *bytes;

	if (!ml_is_const(v) || !ml_type_static_count(&v->type, &n))
		return ml_build_cast(x->b, ML_X2(add, as_s32(x, v), ml_build_f64(x->b, ML_s32, by)),
				     dtype);
	ml_blob *blob = ml_blob_new(&x->cx->memory, (uint64_t)(n * ml_dtype_bytes(dtype)), &bytes);
	ml_type t = v->type;
	t.dtype = dtype;
	for (int64_t i = 0; i < n; i++)
		ml_write_s64(dtype, bytes, i, ml_const_s64(v, i) + by);
	return ml_build_const(x->b, &t, blob);
}

/* The operand as `dtype`, its zero point as s32 beside it. */
static void
shift_side(ml_lower *x, side *s, ml_dtype dtype)
{
	int by = s->v->type.dtype == dtype ? 0 : dtype == ML_u8 ? OFFSET : -OFFSET;

	if (is_zero(s->zero) && !by)
		s->zero = NULL;
	else if (!s->zero)
		s->zero = ml_build_f64(x->b, ML_s32, by);
	else
		s->zero = shifted(x, s->zero, by, ML_s32);
	s->v = by ? shifted(x, s->v, by, dtype) : s->v;
}

/* Constants w - zero, where zero goes by an axis of w: s8, when all of them fit. */
static bool
subtract_zero(ml_lower *x, side *s, int axis)
{
	const ml_type *t = &s->v->type;
	int64_t n, zeros, channels, inner = 1, size;
	void *bytes;

	if (!ml_is_const(s->v) || !s->zero || !ml_is_const(s->zero) ||
	    !ml_type_static_count(t, &n) || !ml_type_static_count(&s->zero->type, &zeros) ||
	    !ml_dim_is_int(t->dim[axis], &channels) || (zeros != 1 && zeros != channels))
		return false;
	for (int i = axis + 1; i < t->rank; i++)
		inner *= ml_dim_is_int(t->dim[i], &size) ? size : 0;
	ml_blob *blob = ml_blob_new(&x->cx->memory, (uint64_t)n, &bytes);
	for (int64_t i = 0; i < n; i++) {
		int64_t w = ml_const_s64(s->v, i) -
			    ml_const_s64(s->zero, zeros == 1 ? 0 : i / inner % channels);
		((int8_t *)bytes)[i] = (int8_t)w;
		if (w != (int8_t)w) {
			ml_blob_drop(blob);
			return false;
		}
	}
	ml_type result = *t;
	result.dtype = ML_s8;
	s->v = ml_build_const(x->b, &result, blob);
	s->zero = NULL;
	return true;
}

static bool
fits_type(ml_lower *x, const side *s)
{
	if (!is_byte(s->v)) {
		ml_lower_fail(x, ML_ERR_TYPE, "operands of integer products are u8 or s8, not %s",
			      ml_dtype_name(s->v->type.dtype));
		return false;
	}
	return ml_lower_zero_fits(x, s->zero, s->v->type.dtype);
}

/* Activations to u8, weights to s8. */
static bool
make_sides(ml_lower *x, side *a, side *b, int axis)
{
	if (!fits_type(x, a) || !fits_type(x, b))
		return false;
	shift_side(x, a, ML_u8);
	if (!is_zero(b->zero) && subtract_zero(x, b, axis))
		return a->v != NULL;
	shift_side(x, b, ML_s8);
	return a->v && b->v;
}

/* sum - zero t */
static ml_value *
less(ml_lower *x, ml_value *sum, ml_value *zero, ml_value *t)
{
	return ML_X2(add, sum, ML_X1(neg, ML_X2(mul, zero, t)));
}

/* The same of constant bytes, at once: as s32 they are too large to be folded, and would be kept
 * beside what kernels read. */
static ml_value *
constant_total(ml_lower *x, const ml_value *v, const int64_t *axes, int n)
{
	int64_t step[ML_MAX_RANK] = {0}, size[ML_MAX_RANK], at[ML_MAX_RANK] = {0}, to = 0;
	int64_t count = 1, results = 1;
	int rank = v->type.rank;
	ml_type t = v->type;
	void *bytes;

	t.dtype = ML_s32;
	for (int i = 0; i < n; i++)
		t.dim[axes[i]] = ML_INT(1);
	for (int i = rank - 1; i >= 0; i--) {
		ml_dim_is_int(v->type.dim[i], &size[i]);
		step[i] = t.dim[i] == v->type.dim[i] ? results : 0;
		results *= step[i] ? size[i] : 1;
		count *= size[i];
	}
	ml_blob *blob = ml_blob_new(&x->cx->memory, (uint64_t)results * sizeof(uint32_t), &bytes);
	const uint8_t *from = ml_const_blob(v)->bytes;
	uint32_t *sum = bytes;
	memset(sum, 0, (size_t)results * sizeof *sum);
	for (int64_t i = 0; i < count; i++) {
		sum[to] += v->type.dtype == ML_s8 ? (uint32_t)(int8_t)from[i] : from[i];
		for (int k = rank - 1; k >= 0; k--) {
			to += step[k];
			if (++at[k] < size[k])
				break;
			to -= step[k] * size[k];
			at[k] = 0;
		}
	}
	return ml_build_const(x->b, &t, blob);
}

/* Sums over the axes, in s32, those axes kept. */
static ml_value *
total(ml_lower *x, ml_value *v, const int64_t *axes, int n)
{
	int64_t count;

	if (v && is_byte(v) && ml_is_const(v) && ml_type_static_count(&v->type, &count) && count)
		return constant_total(x, v, axes, n);
	v = as_s32(x, v);
	return v ? ml_build_reduce(x->b, ML_OP_reduce_sum, v, axes, n) : NULL;
}

/* What the right side's sums give with the left zero point: sum b - k q. */
static ml_value *
centered_total(ml_lower *x, ml_value *sum, ml_value *zero, ml_dim k)
{
	if (!zero)
		return sum;
	return less(x, sum, zero, ml_build_cast(x->b, ml_build_dim(x->b, k), ML_s32));
}

/* ---- matrices ---- */

/* A zero point for each row, as a column; one for each column goes as it is. */
static ml_value *
by_rows(ml_lower *x, ml_value *zero)
{
	ml_dim shape[2];

	if (!zero || zero->type.rank != 1)
		return zero;
	if (ml_dim_equals(zero->type.dim[0], 1))
		return ml_lower_reshape(x, zero, NULL, 0);
	shape[0] = zero->type.dim[0];
	shape[1] = ML_INT(1);
	return ml_lower_reshape(x, zero, shape, 2);
}

static const char *
dim_text(ml_lower *x, ml_dim d)
{
	ml_text t;

	ml_text_init(&t, &x->cx->arena);
	ml_dim_print(&t, d);
	return t.at;
}

/* A list of zero points goes by the axis. */
static bool
lists_fit(ml_lower *x, const side *s, int axis)
{
	const ml_value *zero = s->zero;

	if (!zero || zero->type.rank != 1 || ml_dim_equals(zero->type.dim[0], 1))
		return true;
	if (ml_require_equal(x->b, zero->type.dim[0], s->v->type.dim[axis],
			     "one zero point for each row or column"))
		return true;
	if (x->b->failed == ML_OK)
		ml_lower_fail(x, ML_ERR_SHAPE, "%s zero points for %s rows or columns",
			      dim_text(x, zero->type.dim[0]), dim_text(x, s->v->type.dim[axis]));
	return false;
}

static ml_value *
product(ml_lower *x, side a, side b)
{
	const int64_t last = a.v->type.rank - 1, row = b.v->type.rank - 2;
	ml_dim k = a.v->type.dim[last];

	if (!lists_fit(x, &a, (int)last - 1) || !lists_fit(x, &b, b.v->type.rank - 1) ||
	    !make_sides(x, &a, &b, b.v->type.rank - 1))
		return NULL;
	a.zero = by_rows(x, a.zero);
	ml_value *sum = ml_build_matmul(x->b, a.v, b.v);
	if (a.zero) {
		ml_value *q = b.zero, *t = total(x, b.v, &row, 1);
		t = row == 0 && t ? ml_build_squeeze(x->b, t, &row, 1) : t;
		sum = less(x, sum, a.zero, centered_total(x, t, q, k));
	}
	return b.zero ? less(x, sum, b.zero, total(x, a.v, &last, 1)) : sum;
}

ml_value *
ml_lower_integer_product(ml_lower *x, ml_value *a, ml_value *a_zero, ml_value *b, ml_value *b_zero)
{
	ml_lists lists;

	if (!ml_lower_lists(x, &a, &b, &lists))
		return NULL;
	return ml_lower_as_list(x, product(x, (side){a, a_zero}, (side){b, b_zero}), lists);
}

/* ---- convolutions ---- */

/* Pads hold the zero point, an element of u8. */
static ml_value *
padded(ml_lower *x, const side *a, ml_spatial *s)
{
	ml_dim low[ML_MAX_RANK], high[ML_MAX_RANK], none = ML_INT(0);
	int64_t interior[ML_MAX_RANK] = {0};
	bool pads = false;

	for (int i = 0; i < a->v->type.rank; i++) {
		low[i] = i < 2 ? none : s->low[i - 2];
		high[i] = i < 2 ? none : s->high[i - 2];
		pads |= low[i] != none || high[i] != none;
	}
	for (int i = 0; i < s->n; i++)
		s->low[i] = s->high[i] = none;
	if (!pads)
		return a->v;
	ml_value *fill = a->zero ? ml_build_cast(x->b, a->zero, ML_u8) : ML_LIKE(a->v, 0);
	return ml_build_pad(x->b, a->v, fill, low, high, interior);
}

/* Sums of the windows of q[N, C, ..]: [N, 1, ..], or for each of the m output channels that read
 * them. */
static ml_value *
window_totals(ml_lower *x, ml_value *q, const ml_type *w, const ml_spatial *s, int64_t groups)
{
	ml_dim shape[ML_MAX_RANK], each;
	int64_t two = 2;

	memcpy(shape, w->dim, (size_t)w->rank * sizeof *shape);
	shape[0] = ML_INT(groups);
	ml_value *ones = ml_build_broadcast(x->b, ml_build_f64(x->b, ML_s8, 1), shape, w->rank);
	ml_value *t = ml_lower_conv_node(x, q, ones, NULL, s, groups);
	if (!t || groups == 1 || !ml_dim_divides(ML_DIMS, w->dim[0], ML_INT(groups), &each))
		return t;
	ml_type whole = t->type;
	t = ml_build_unsqueeze(x->b, t, &two, 1);
	if (!t)
		return NULL;
	memcpy(shape, t->type.dim, (size_t)t->type.rank * sizeof *shape);
	shape[2] = each;
	t = ml_build_broadcast(x->b, t, shape, t->type.rank);
	whole.dim[1] = w->dim[0];
	return ml_lower_reshape(x, t, whole.dim, whole.rank);
}

/* A zero point is one number, or of weights one for each output channel. */
static bool
zeros_fit(ml_lower *x, side *a, side *b)
{
	for (int i = 0; i < 2; i++) {
		side *s = i ? b : a;
		if (!s->zero || s->zero->type.rank == 0)
			continue;
		if (s->zero->type.rank == 1 && ml_dim_equals(s->zero->type.dim[0], 1)) {
			s->zero = ml_lower_reshape(x, s->zero, NULL, 0);
			continue;
		}
		if (i == 0 || s->zero->type.rank != 1) {
			ml_lower_fail(x, ML_ERR_SHAPE, "the zero point of %s must be one number%s",
				      i ? "weights" : "the input", i ? " or a list" : "");
			return false;
		}
		if (!ml_require_equal(x->b, s->zero->type.dim[0], s->v->type.dim[0],
				      "one zero point for each output channel")) {
			if (x->b->failed == ML_OK)
				ml_lower_fail(x, ML_ERR_SHAPE,
					      "the number of zero points is not that of the "
					      "output channels");
			return false;
		}
	}
	return true;
}

ml_value *
ml_lower_integer_conv(ml_lower *x, ml_value *v, ml_value *zero, ml_value *w, ml_value *w_zero)
{
	side a = {v, zero}, b = {w, w_zero};
	int64_t axes[ML_MAX_RANK], groups;
	ml_spatial s;
	ml_dim k = ML_INT(1);
	int rank = v->type.rank;

	if (!ml_spatial_read(x, &v->type, &w->type, false, &s) ||
	    !ml_lower_groups(x, w->type.dim[0], &groups) || !zeros_fit(x, &a, &b) ||
	    !make_sides(x, &a, &b, 0))
		return NULL;
	for (int i = 1; i < rank; i++) {
		axes[i - 1] = i;
		k = ml_dim_mul(ML_DIMS, k, w->type.dim[i]);
	}
	a.v = padded(x, &a, &s);
	ml_value *sum = ml_lower_conv_node(x, a.v, b.v, NULL, &s, groups);
	ml_value *t = total(x, b.v, axes, rank - 1), *q = ml_lower_along(x, b.zero, 0, rank);
	if (a.zero) {
		ml_dim shape[ML_MAX_RANK] = {w->type.dim[0]};
		for (int i = 1; i < rank - 1; i++)
			shape[i] = ML_INT(1);
		t = ml_lower_reshape(x, centered_total(x, t, q, k), shape, rank - 1);
		sum = less(x, sum, a.zero, t);
	}
	if (!b.zero)
		return sum;
	t = window_totals(x, a.v, &w->type, &s, groups);
	return less(x, sum, ml_lower_along(x, b.zero, 1, rank), t);
}
