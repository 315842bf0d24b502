/* const.c -- elements of constants: reading and writing every dtype as numbers. */
#include "ir.h"
#include <math.h>
#include <string.h>

/* ---- floats narrower than f32 ---- */

/* Codes without their sign. */
static uint32_t
nan_code(const ml_float_format *f, uint32_t sign)
{
	switch (f->special) {
	case ML_SPECIAL_TOP_EXPONENT:
		return (sign - 1) & ~((1u << (f->fraction - 1)) - 1); /* the highest bit: quiet */
	case ML_SPECIAL_TOP_CODE: return sign - 1;
	default: return sign; /* that of -0 */
	}
}

/* The code that is one too large for a number. */
static uint32_t
overflow_code(const ml_float_format *f, uint32_t sign)
{
	switch (f->special) {
	case ML_SPECIAL_TOP_EXPONENT: return sign - (1u << f->fraction);
	case ML_SPECIAL_TOP_CODE: return sign - 1;
	default: return sign;
	}
}

/* Rounds once, to nearest even; f4e2m1, which has no NaN, gets -0 for one. */
static uint64_t
code_from_f64(ml_dtype t, double x)
{
	const ml_float_format *f = ml_dtype_format(t);
	uint32_t sign = 1u << (ml_dtype_bits(t) - 1), code, limit = overflow_code(f, sign);
	uint32_t minus = signbit(x) ? sign : 0;
	int e;

	if (isnan(x))
		return minus | nan_code(f, sign);
	x = fabs(x);
	frexp(x, &e);
	e = e - 1 < f->min_exponent || x == 0 ? f->min_exponent : e - 1;
	if (x > 2 * f->largest) {
		code = limit;
	} else {
		/* Exact scaling, so this is the only rounding; a carry runs into the exponent. */
		double steps = nearbyint(ldexp(x, f->fraction - e));
		code = (uint32_t)steps + ((uint32_t)(e - f->min_exponent) << f->fraction);
	}
	if (code >= limit) {
		if (f->special == ML_SPECIAL_MINUS_ZERO)
			return sign;
		code = f->special == ML_SPECIAL_NONE ? sign - 1 : limit;
	}
	return code || f->special != ML_SPECIAL_MINUS_ZERO ? minus | code : 0;
}

static double
code_to_f64(ml_dtype t, uint64_t bits)
{
	const ml_float_format *f = ml_dtype_format(t);
	uint32_t sign = 1u << (ml_dtype_bits(t) - 1), code = (uint32_t)bits & (sign - 1);
	uint32_t infinity = overflow_code(f, sign);
	int exponent = (int)(code >> f->fraction),
	    fraction = (int)(code & ((1u << f->fraction) - 1));
	double x;

	if (f->special == ML_SPECIAL_MINUS_ZERO && (bits & (2 * sign - 1)) == sign)
		return NAN;
	if (code >= infinity)
		x = f->special == ML_SPECIAL_TOP_EXPONENT && code == infinity ? INFINITY : NAN;
	else if (exponent == 0)
		x = ldexp(fraction, f->min_exponent - f->fraction);
	else
		x = ldexp(fraction + (1 << f->fraction),
			  exponent - 1 + f->min_exponent - f->fraction);
	return bits & sign ? -x : x;
}

/* ---- one element ---- */

/* Constants are mapped from files: any alignment. */
static uint64_t
load(const void *bytes, int64_t i, int width)
{
	uint64_t raw = 0;

	memcpy(&raw, (const char *)bytes + i * width, (size_t)width);
	return raw;
}

static double
f32_from_bits(uint64_t raw)
{
	uint32_t bits = (uint32_t)raw;
	float x;

	memcpy(&x, &bits, sizeof x);
	return (double)x;
}

static double
f64_from_bits(uint64_t raw)
{
	double x;

	memcpy(&x, &raw, sizeof x);
	return x;
}

/* All bits of an integer, sign-extended; u64 as its bits. */
static int64_t
integer_from_bits(ml_dtype t, uint64_t raw)
{
	int unused = 64 - ml_dtype_bits(t);

	if (ml_dtype_kind_of(t) == ML_KIND_BOOL)
		return raw != 0;
	if (ml_dtype_kind_of(t) == ML_KIND_SIGNED)
		return (int64_t)(raw << unused) >> unused;
	return (int64_t)(raw << unused >> unused);
}

double
ml_read_f64(ml_dtype t, const void *bytes, int64_t i)
{
	uint64_t raw = load(bytes, i, ml_dtype_bytes(t));

	if (ml_dtype_format(t))
		return code_to_f64(t, raw);
	switch (t) {
	case ML_f64: return f64_from_bits(raw);
	case ML_f32: return f32_from_bits(raw);
	case ML_u64: return (double)raw;
	default: return (double)integer_from_bits(t, raw);
	}
}

static int64_t
saturated(double x, double lo, double hi)
{
	if (isnan(x))
		return 0;
	x = nearbyint(x);
	if (x <= lo)
		return (int64_t)lo;
	return x >= hi ? INT64_MAX : (int64_t)x; /* hi is the first value too large */
}

int64_t
ml_read_s64(ml_dtype t, const void *bytes, int64_t i)
{
	if (ml_is_float(t))
		return saturated(trunc(ml_read_f64(t, bytes, i)), -0x1p63, 0x1p63);
	return integer_from_bits(t, load(bytes, i, ml_dtype_bytes(t)));
}

static void
store(void *bytes, int64_t i, int width, uint64_t raw)
{
	memcpy((char *)bytes + i * width, &raw, (size_t)width);
}

/* Rounds to nearest even and saturates at the ends of an integer type. */
static uint64_t
integer_from_f64(ml_dtype t, double x)
{
	int bits = ml_dtype_bits(t);

	if (ml_dtype_kind_of(t) == ML_KIND_BOOL)
		return x != 0;
	if (ml_dtype_kind_of(t) == ML_KIND_SIGNED) {
		int64_t v = saturated(x, -ldexp(1, bits - 1), ldexp(1, bits - 1));
		return (uint64_t)(v == INT64_MAX ? INT64_MAX >> (64 - bits) : v);
	}
	x = isnan(x) || x < 0 ? 0 : nearbyint(x);
	return x >= ldexp(1, bits) ? UINT64_MAX >> (64 - bits) : (uint64_t)x;
}

void
ml_write_f64(ml_dtype t, void *bytes, int64_t i, double x)
{
	uint64_t raw = 0;
	float single = (float)x;

	if (t == ML_f64)
		memcpy(&raw, &x, sizeof x);
	else if (t == ML_f32)
		memcpy(&raw, &single, sizeof single);
	else
		raw = ml_dtype_format(t) ? code_from_f64(t, x) : integer_from_f64(t, x);
	store(bytes, i, ml_dtype_bytes(t), raw);
}

void
ml_write_s64(ml_dtype t, void *bytes, int64_t i, int64_t x)
{
	if (ml_is_float(t))
		ml_write_f64(t, bytes, i, (double)x);
	else
		store(bytes, i, ml_dtype_bytes(t), (uint64_t)integer_from_bits(t, (uint64_t)x));
}

/* ---- constants ---- */

bool
ml_is_const(const ml_value *v)
{
	return ml_is(v, ML_OP_const);
}

ml_blob *
ml_const_blob(const ml_value *v)
{
	return ML_A(v->def, const, value).blob;
}

double
ml_const_f64(const ml_value *v, int64_t i)
{
	return ml_read_f64(v->type.dtype, ml_const_blob(v)->bytes, i);
}

int64_t
ml_const_s64(const ml_value *v, int64_t i)
{
	return ml_read_s64(v->type.dtype, ml_const_blob(v)->bytes, i);
}

bool
ml_is_splat(const ml_value *v, double *number)
{
	if (!ml_is_const(v))
		return false;
	const ml_blob *blob = ml_const_blob(v);
	size_t width = (size_t)ml_dtype_bytes(v->type.dtype);
	if (blob->size < width)
		return false;
	/* Every element equals its neighbour, bit by bit. */
	if (memcmp(blob->bytes, (const char *)blob->bytes + width, blob->size - width) != 0)
		return false;
	if (number)
		*number = ml_const_f64(v, 0);
	return true;
}
