/* eval_elementwise.c -- one scalar formula per elementwise operator, applied with broadcasting. */
#include "eval.h"
#include <math.h>
#include <string.h>

/* What the formulas need to know beside their operands. */
typedef struct kind {
	ml_dtype from, to;      /* operand (of select: the chosen ones) and result */
	bool real, is_unsigned; /* operand is float; unsigned */
	bool real_exponent;     /* of pow */
	int bits;               /* of the operand */
	int64_t size;           /* of wrap_index; its formula clears it for an index out of range */
} kind;

typedef ml_cell formula(kind *, ml_cell, ml_cell, ml_cell);

/* Operands are a, b as doubles in the first expression, as integers in the second.  The type rule
 * keeps integers away from the operators that have none. */
#define FORMULA(name, of_floats, of_integers)                                                      \
	static ml_cell op_##name(kind *k, ml_cell x, ml_cell y, ml_cell z)                         \
	{                                                                                          \
		(void)z;                                                                           \
		if (k->real) {                                                                     \
			double a = x.f, b = y.f;                                                   \
			(void)a, (void)b;                                                          \
			return of_floats;                                                          \
		}                                                                                  \
		int64_t a = x.i, b = y.i;                                                          \
		(void)a, (void)b;                                                                  \
		return of_integers;                                                                \
	}
#define F(x)    ((ml_cell){.f = (x)})
#define I(x)    ((ml_cell){.i = (int64_t)(x)})
#define U(x)    ((uint64_t)(x)) /* wraps instead of overflowing */
#define REFUSED I(0)

static double
sign_of(double a)
{
	return isnan(a) ? a : (a > 0) - (a < 0);
}

static double
float_mod(double a, double b)
{
	double r = fmod(a, b);

	if (r != 0)
		return (r < 0) != (b < 0) ? r + b : r;
	return copysign(0, b);
}

static double
float_min(double a, double b)
{
	return isnan(a) || isnan(b) ? NAN : a < b ? a : b;
}

static double
float_max(double a, double b)
{
	return isnan(a) || isnan(b) ? NAN : a > b ? a : b;
}

/* Everything is defined: x / 0 = x rem 0 = x mod 0 = 0, MIN / -1 = MIN. */
static uint64_t
int_div(const kind *k, int64_t a, int64_t b)
{
	if (b == 0)
		return 0;
	if (k->is_unsigned)
		return U(a) / U(b);
	return b == -1 ? 0 - U(a) : U(a / b);
}

static uint64_t
int_rem(const kind *k, int64_t a, int64_t b)
{
	if (b == 0 || (!k->is_unsigned && b == -1))
		return 0;
	return k->is_unsigned ? U(a) % U(b) : U(a % b);
}

static int64_t
int_mod(const kind *k, int64_t a, int64_t b)
{
	int64_t r = (int64_t)int_rem(k, a, b);

	return !k->is_unsigned && r && (r < 0) != (b < 0) ? r + b : r;
}

/* Negative powers are 1 / a^|b| with the division above. */
static uint64_t
int_pow(const kind *k, int64_t a, int64_t b)
{
	uint64_t result = 1, base = U(a);
	bool inverse = !k->is_unsigned && b < 0;

	for (uint64_t n = inverse ? 0 - U(b) : U(b); n; n >>= 1) {
		if (n & 1)
			result *= base;
		base *= base;
	}
	if (!inverse)
		return result;
	return a == 1 || a == -1 ? result : 0; /* a is 0 or |a| > 1 */
}

static bool
int_less(const kind *k, int64_t a, int64_t b)
{
	return k->is_unsigned ? U(a) < U(b) : a < b;
}

/* Shifts by the width or more, which include negative ones, shift everything out. */
static uint64_t
int_shl(const kind *k, int64_t a, int64_t b)
{
	return U(b) >= (unsigned)k->bits ? 0 : U(a) << b;
}

static int64_t
int_shr(const kind *k, int64_t a, int64_t b)
{
	bool out = U(b) >= (unsigned)k->bits;

	if (k->is_unsigned)
		return out ? 0 : (int64_t)(U(a) >> b);
	return a >> (out ? 63 : b);
}

/* Truncates, saturates, NaN becomes 0. */
static int64_t
saturate(ml_dtype to, double v)
{
	int bits = ml_dtype_bits(to);
	bool is_unsigned = ml_dtype_kind_of(to) == ML_KIND_UNSIGNED;
	double end = ldexp(1, is_unsigned ? bits : bits - 1); /* first integer too large */
	double low = is_unsigned ? 0 : -end;

	if (to == ML_bool)
		return v != 0;
	if (isnan(v))
		return 0;
	if (v >= end)
		return (int64_t)(UINT64_MAX >> (64 - bits + !is_unsigned));
	if (v <= low)
		return is_unsigned ? 0 : INT64_MIN >> (64 - bits);
	return is_unsigned ? (int64_t)(uint64_t)v : (int64_t)v;
}

/* a Phi(a), Phi the normal distribution; not inf 0 at the lower end */
static double
normal_part(double a)
{
	return a < -40 ? -0. : a / 2 * erfc(-a * 0.70710678118654752);
}

/* One rounding only: a 64-bit integer is not taken through double on its way to float. */
static double
int_to_float(const kind *k, int64_t a)
{
	if (k->to == ML_f32)
		return k->is_unsigned ? (float)U(a) : (float)a;
	return k->is_unsigned ? (double)U(a) : (double)a;
}

static ml_cell
op_cast(kind *k, ml_cell x, ml_cell y, ml_cell z)
{
	(void)y;
	(void)z;
	if (k->real)
		return ml_is_float(k->to) ? x : I(saturate(k->to, x.f));
	return ml_is_float(k->to) ? F(int_to_float(k, x.i)) : x;
}

static ml_cell
op_select(kind *k, ml_cell x, ml_cell y, ml_cell z)
{
	(void)k;
	return x.i ? y : z;
}

static ml_cell
op_pow(kind *k, ml_cell x, ml_cell y, ml_cell z)
{
	(void)z;
	if (!k->real && !k->real_exponent)
		return I(int_pow(k, x.i, y.i));
	double b = k->real_exponent ? y.f : (double)y.i;
	if (k->real)
		return F(pow(x.f, b));
	return I(saturate(k->from, pow(k->is_unsigned ? (double)U(x.i) : (double)x.i, b)));
}

static ml_cell
op_wrap_index(kind *k, ml_cell x, ml_cell y, ml_cell z)
{
	(void)y;
	(void)z;
	if (x.i < -k->size || x.i >= k->size)
		k->size = -1;
	return I(x.i < 0 ? x.i + k->size : x.i);
}

/* clang-format off */
FORMULA(neg,   F(-a),            I(0 - U(a)))
FORMULA(abs,   F(fabs(a)),       k->is_unsigned || a >= 0 ? x : I(0 - U(a)))
FORMULA(sign,  F(sign_of(a)),    I(k->is_unsigned ? a != 0 : (a > 0) - (a < 0)))
FORMULA(floor, F(floor(a)),      x)
FORMULA(ceil,  F(ceil(a)),       x)
FORMULA(round, F(rint(a)),       x)
FORMULA(sqrt,  F(sqrt(a)),       REFUSED)
FORMULA(exp,   F(exp(a)),        REFUSED)
FORMULA(log,   F(log(a)),        REFUSED)
FORMULA(sin,   F(sin(a)),        REFUSED)
FORMULA(cos,   F(cos(a)),        REFUSED)
FORMULA(tan,   F(tan(a)),        REFUSED)
FORMULA(asin,  F(asin(a)),       REFUSED)
FORMULA(acos,  F(acos(a)),       REFUSED)
FORMULA(atan,  F(atan(a)),       REFUSED)
FORMULA(sinh,  F(sinh(a)),       REFUSED)
FORMULA(cosh,  F(cosh(a)),       REFUSED)
FORMULA(tanh,  F(tanh(a)),       REFUSED)
FORMULA(asinh, F(asinh(a)),      REFUSED)
FORMULA(acosh, F(acosh(a)),      REFUSED)
FORMULA(atanh, F(atanh(a)),      REFUSED)
FORMULA(erf,   F(erf(a)),        REFUSED)
FORMULA(xcdf,  F(normal_part(a)), REFUSED)
FORMULA(not,   REFUSED,          I(k->from == ML_bool ? !a : ~a))
FORMULA(isnan, I(!!isnan(a)),    I(0))
FORMULA(add,   F(a + b),         I(U(a) + U(b)))
FORMULA(sub,   F(a - b),         I(U(a) - U(b)))
FORMULA(mul,   F(a * b),         I(U(a) * U(b)))
FORMULA(div,   F(a / b),         I(int_div(k, a, b)))
FORMULA(rem,   F(fmod(a, b)),    I(int_rem(k, a, b)))
FORMULA(mod,   F(float_mod(a, b)), I(int_mod(k, a, b)))
FORMULA(min,   F(float_min(a, b)), int_less(k, b, a) ? y : x)
FORMULA(max,   F(float_max(a, b)), int_less(k, a, b) ? y : x)
FORMULA(and,   REFUSED,          I(a & b))
FORMULA(or,    REFUSED,          I(a | b))
FORMULA(xor,   REFUSED,          I(a ^ b))
FORMULA(shl,   REFUSED,          I(int_shl(k, a, b)))
FORMULA(shr,   REFUSED,          I(int_shr(k, a, b)))
FORMULA(eq,    I(a == b),        I(a == b))
FORMULA(lt,    I(a < b),         I(int_less(k, a, b)))
FORMULA(le,    I(a <= b),        I(!int_less(k, b, a)))
/* clang-format on */

/* A row for every elementwise operator; one without a formula does not compile. */
#define ROW_SOURCE(name)
#define ROW_ELEMENTWISE(name) [ML_OP_##name] = op_##name,
#define ROW_REDUCE(name)
#define ROW_MOVE(name)
#define ROW_INDEX(name)
#define ROW_CONTRACT(name)
#define ROW_IRREGULAR(name)
#define ROW_CONTROL(name)
#define ROW_COMPOSITE(name)
#define ML_ATTR(op, kind, name, init)
#define ML_OP(no, name, in, out, cls, traits) ROW_##cls(name)
static formula *const formula_of[ML_OP_LIMIT] = {
#include "ops.def"
};

static ml_status
describe(ml_eval *e, const ml_node *n, ml_array *const *in, const ml_array *out, kind *k)
{
	ml_dtype from = in[n->op == ML_OP_select ? 1 : 0]->dtype;

	*k = (kind){.from = from,
		    .to = out->dtype,
		    .real = ml_is_float(from),
		    .is_unsigned = ml_dtype_kind_of(from) == ML_KIND_UNSIGNED || from == ML_bool,
		    .real_exponent = n->nin > 1 && ml_is_float(in[1]->dtype),
		    .bits = ml_dtype_bits(from)};
	if (n->op == ML_OP_wrap_index)
		return ml_eval_dim(e, ML_A(n, wrap_index, size).dims[0], &k->size);
	return ML_OK;
}

/* The operand's strides in the result's shape: right-aligned, 0 along dims of size 1. */
static ml_status
broadcast(ml_eval *e, const ml_array *from, const ml_array *to, int64_t *stride)
{
	int64_t own[ML_MAX_RANK];
	int lead = to->rank - from->rank;

	ml_strides(from->rank, from->dim, own);
	for (int d = 0; d < to->rank; d++) {
		int64_t size = d < lead ? 1 : from->dim[d - lead];
		if (lead < 0 || (size != 1 && size != to->dim[d]))
			return ml_eval_fail(e, ML_ERR_SHAPE, "size %lld does not broadcast to %lld",
					    (long long)size, (long long)to->dim[d]);
		stride[d] = size == 1 ? 0 : own[d - lead];
	}
	return lead < 0 ? ml_eval_fail(e, ML_ERR_SHAPE, "operand has a higher rank than the result")
			: ML_OK;
}

ml_status
ml_eval_elementwise(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array **out)
{
	ml_walk w = {.n = n->nin};
	ml_cell v[3] = {{0}};
	kind k;

	ML_STEP(ml_array_result(e, n, 0, out));
	ML_STEP(describe(e, n, in, *out, &k));
	w.rank = out[0]->rank;
	memcpy(w.dim, out[0]->dim, sizeof w.dim);
	for (int i = 0; i < n->nin; i++)
		ML_STEP(broadcast(e, in[i], out[0], w.stride[i]));
	const int64_t size = k.size;
	for (int64_t i = 0; i < out[0]->count; i++, ml_walk_next(&w)) {
		for (int j = 0; j < n->nin; j++)
			v[j] = in[j]->cell[w.pos[j]];
		out[0]->cell[i] = formula_of[n->op](&k, v[0], v[1], v[2]);
		if (k.size != size)
			return ml_eval_fail(e, ML_ERR_INDEX,
					    "index %lld is outside of [-%lld, %lld)",
					    (long long)v[0].i, (long long)size, (long long)size);
	}
	return ML_OK;
}
