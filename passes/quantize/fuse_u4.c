/* fuse_u4.c -- layers on weights that a model stores in four bits become linear_u4, and those on
 * eight bits in groups two of them.
 *
 *   x . dequantize(w[g, size, n], s[g, 1, n], z[g, 1, n])  =>  linear_u4(x, w[k, n], s, z)
 *
 * The weights may stand transposed: [n, g, size].  Exporters write DequantizeLinear with a block
 * size, or MatMulNBits; the frontend makes this of both.  Of eight bits, w = 16 high + low and z
 * likewise, so that (w - z) s = (high - zh) 16 s + (low - zl) s, no byte being read twice.
 */
#include "scales.h"
#include <math.h>

enum { SMALLEST_GROUP = 16, LARGEST_GROUP = 256, SQUARE = 64 };
/* Zero points where there are none, of four and of eight bits; 16 of the largest factor are one. */
enum { ZERO = 8, BYTE_ZERO = 128, LARGEST_HALF = 65504 / 16 };

/* How the weights lie. */
typedef struct blocks {
	const ml_node *dequantize;
	bool turned; /* columns first */
	int64_t k, n, groups;
	int offset; /* from the stored weights to 0..15, or 0..255 */
	int shift;  /* of levels: which four of eight bits are meant */
} blocks;

/* x[.., k] . w[k, n], or w[n, k] contracted along k, in f32 without batch axes */
static bool
is_plain_matmul(const ml_node *dot)
{
	const ml_value *x = ml_in(dot, 0), *w = ml_in(dot, 1);

	return x->type.dtype == ML_f32 && w->type.rank == 2 && x->type.rank >= 1 &&
	       x->type.rank < ML_MAX_RANK && ML_A(dot, dot, lhs_batch).count == 0 &&
	       ML_A(dot, dot, rhs_batch).count == 0 && ML_A(dot, dot, lhs_contract).count == 1 &&
	       ML_A(dot, dot, rhs_contract).count == 1 &&
	       ML_A(dot, dot, lhs_contract).ints[0] == x->type.rank - 1;
}

/* The dequantization that the right operand is, through what only renames its elements. */
static const ml_node *
find_dequantize(const ml_node *dot, bool *turned)
{
	const ml_value *w = ml_in(dot, 1);

	if (ml_is(w, ML_OP_cast))
		w = ml_in(w->def, 0);
	*turned = ml_is(w, ML_OP_transpose) != (ML_A(dot, dot, rhs_contract).ints[0] == 1);
	if (ml_is(w, ML_OP_transpose))
		w = ml_in(w->def, 0);
	if (!ml_is(w, ML_OP_reshape) || w->type.rank != 2)
		return NULL;
	w = ml_in(w->def, 0);
	return ml_is(w, ML_OP_dequantize) && w->type.rank == 3 ? w->def : NULL;
}

/* v is one number, or one for each group. */
static bool
goes_by_group(const ml_value *v, const blocks *b)
{
	int groups = b->turned ? 1 : 0, columns = b->turned ? 0 : 2;

	if (!ml_is_const(v) || v->type.rank == 0)
		return ml_is_const(v);
	return v->type.rank == 3 && ml_dim_equals(v->type.dim[groups], b->groups) &&
	       ml_dim_equals(v->type.dim[columns], b->n) &&
	       ml_dim_equals(v->type.dim[b->turned ? 2 : 1], 1);
}

/* Element i of bytes as 0..15, if it is one of them. */
static uint8_t
level_of(const ml_value *v, int offset, int64_t i)
{
	return (uint8_t)(((const uint8_t *)ml_const_blob(v)->bytes)[i] + offset);
}

static bool
fit_four_bits(const ml_value *v, int offset)
{
	uint8_t all = 0;
	int64_t n;

	if (!ml_type_static_count(&v->type, &n))
		return false;
	for (int64_t i = 0; i < n; i++)
		all |= level_of(v, offset, i);
	return all <= 15;
}

/* All but whether the weights have no more than four bits, which takes longest to see. */
static bool
find_blocks(ml_match *m, blocks *b)
{
	*b = (blocks){.dequantize = NULL};
	if (is_plain_matmul(m->root))
		b->dequantize = find_dequantize(m->root, &b->turned);
	if (!b->dequantize)
		return false;
	const ml_value *w = ml_in(b->dequantize, 0), *scale = ml_in(b->dequantize, 1);
	const ml_value *zero = ml_in(b->dequantize, 2);
	int64_t size, groups, n;
	if (!ml_is_const(w) || !ml_dim_is_int(w->type.dim[b->turned ? 1 : 0], &groups) ||
	    !ml_dim_is_int(w->type.dim[b->turned ? 2 : 1], &size) ||
	    !ml_dim_is_int(w->type.dim[b->turned ? 0 : 2], &n) || n < 1)
		return false;
	/* reshaped to [k, n] or [n, k]: groups stay beside their elements */
	int columns = ML_A(m->root, dot, rhs_contract).ints[0] == 0;
	if (!ml_dim_equals(ml_in(m->root, 1)->type.dim[columns], n))
		return false;
	b->groups = groups;
	b->k = groups * size;
	b->n = n;
	b->offset = w->type.dtype == ML_s8 ? ZERO : 0;
	if (groups < 1 || size < SMALLEST_GROUP || size > LARGEST_GROUP || size % SMALLEST_GROUP)
		return m->why = "its groups are too short or too long", false;
	if (scale->type.rank == 0 || !goes_by_group(scale, b) || !goes_by_group(zero, b))
		return m->why = "its scales do not go by groups", false;
	return w->type.dtype == ML_s8 || w->type.dtype == ML_u8;
}

/* ---- operands ---- */

static ml_value *
matrix(ml_match *m, ml_dtype dtype, int64_t rows, int64_t columns, void **bytes)
{
	ml_type t = {.dtype = dtype, .rank = 2};

	t.dim[0] = ml_dim_int(m->b->m->dims, rows);
	t.dim[1] = ml_dim_int(m->b->m->dims, columns);
	uint64_t size = (uint64_t)(rows * columns * ml_dtype_bytes(dtype));
	return ml_build_const(m->b, &t, ml_blob_new(&m->px->cx->memory, size, bytes));
}

/* v as u8[rows, n], of which it has all elements or one. */
static ml_value *
levels(ml_match *m, const blocks *b, const ml_value *v, int64_t rows)
{
	void *bytes;
	ml_value *result = matrix(m, ML_u8, rows, b->n, &bytes);
	uint8_t *to = bytes;
	int64_t down = b->turned ? 1 : b->n, right = b->turned ? rows : 1;

	if (v->type.rank == 0)
		down = right = 0;
	/* in squares, so that lines of memory are used whole whichever way they lie */
	for (int64_t i = 0; i < rows; i += SQUARE)
		for (int64_t j = 0; j < b->n; j += SQUARE)
			for (int64_t k = i; k < rows && k < i + SQUARE; k++)
				for (int64_t l = j; l < b->n && l < j + SQUARE; l++)
					to[k * b->n + l] =
						level_of(v, b->offset, k * down + l * right) >>
							b->shift &
						15;
	return result;
}

/* As large as the bits that are meant. */
static ml_value *
scales(ml_match *m, const blocks *b)
{
	const ml_value *v = ml_in(b->dequantize, 1);
	ml_dtype dtype = v->type.dtype == ML_f16 ? ML_f16 : ML_f32;
	void *bytes;
	ml_value *result = matrix(m, dtype, b->groups, b->n, &bytes);

	for (int64_t i = 0; i < b->groups; i++)
		for (int64_t j = 0; j < b->n; j++) {
			int64_t at = b->turned ? j * b->groups + i : i * b->n + j;
			ml_write_f64(dtype, bytes, i * b->n + j,
				     ml_const_f64(v, at) * (1 << b->shift));
		}
	return result;
}

static bool
has_zero_points(const blocks *b)
{
	double zero;

	return !ml_is_splat(ml_in(b->dequantize, 2), &zero) || (int)zero + b->offset != ZERO;
}

/* It is asked last, since it takes longest. */
static bool
has_four_bits(const blocks *b)
{
	return fit_four_bits(ml_in(b->dequantize, 2), b->offset) &&
	       fit_four_bits(ml_in(b->dequantize, 0), b->offset);
}

/* Letters of the replacement: w, s, and with zero points z. */
static bool
has_levels(ml_match *m, bool zeros)
{
	blocks b;

	if (!find_blocks(m, &b) || !has_four_bits(&b) || has_zero_points(&b) != zeros)
		return false;
	GOT(m, w) = levels(m, &b, ml_in(b.dequantize, 0), b.k);
	GOT(m, s) = scales(m, &b);
	GOT(m, z) = zeros ? levels(m, &b, ml_in(b.dequantize, 2), b.groups) : NULL;
	return true;
}

static bool
is_symmetric(ml_match *m)
{
	return has_levels(m, false);
}

static bool
is_asymmetric(ml_match *m)
{
	return has_levels(m, true);
}

static bool
scales_fit(ml_match *m, const blocks *b)
{
	const ml_value *v = ml_in(b->dequantize, 1);
	bool fit = true;

	for (int64_t i = 0; i < b->groups * b->n && v->type.dtype == ML_f16; i++)
		fit &= fabs(ml_const_f64(v, i)) <= LARGEST_HALF;
	if (!fit)
		m->why = "its scales leave 16 bits";
	return fit;
}

/* Letters of the replacement: w, s, z of the low bits, h, t, o of the high ones. */
static bool
is_eight_bits(ml_match *m)
{
	blocks b;

	if (!find_blocks(m, &b) || has_four_bits(&b) || !scales_fit(m, &b))
		return false;
	b.offset = b.offset ? BYTE_ZERO : 0;
	GOT(m, w) = levels(m, &b, ml_in(b.dequantize, 0), b.k);
	GOT(m, s) = scales(m, &b);
	GOT(m, z) = levels(m, &b, ml_in(b.dequantize, 2), b.groups);
	b.shift = 4;
	GOT(m, h) = levels(m, &b, ml_in(b.dequantize, 0), b.k);
	GOT(m, t) = scales(m, &b);
	GOT(m, o) = levels(m, &b, ml_in(b.dequantize, 2), b.groups);
	return true;
}

#define U4_HIGH OP(linear_u4, ANY(x), ANY(h), ANY(t), ANY(o))
#define U4_LOW  OP(linear_u4, ANY(x), ANY(w), ANY(s), ANY(z))

/* clang-format off */
static const ml_rule rules[] = {
	{"linear_four_bits",            /* zero points of 8 alone */
	 .lhs = OP(dot, ANY(x), ANY(y)),
	 .rhs = OP(linear_u4, ANY(x), ANY(w), ANY(s)), .when = is_symmetric, .shared = true},
	{"linear_four_bits_with_zeros", /* the general form */
	 .lhs = OP(dot, ANY(x), ANY(y)),
	 .rhs = U4_LOW, .when = is_asymmetric, .shared = true},
	{"linear_eight_bits",           /* (16 h + w - 16 o - z) s  =  (h - o) 16 s + (w - z) s */
	 .lhs = OP(dot, ANY(x), ANY(y)),
	 .rhs = OP(add, U4_HIGH, U4_LOW), .when = is_eight_bits, .shared = true},
};
/* clang-format on */

ML_RULE_PASS(fuse_u4, ML_LOSSY, rules,
	     "layers on stored weights of 4 bits, or 8 in groups, read them as they are");
