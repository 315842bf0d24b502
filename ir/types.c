/* types.c -- dtypes and tensor types. */
#include "ir.h"
#include <string.h>

typedef struct ml_dtype_info {
	const char *name;
	int bits;
	ml_dtype_kind kind;
} ml_dtype_info;

static const ml_dtype_info info[] = {
#define ML_DTYPE(number, name, bits, kind, onnx, ctype) [number] = {#name, bits, ML_KIND_##kind},
#include "mlopt/types.def"
};
enum { DTYPES = sizeof info / sizeof *info };

ml_dtype_kind
ml_dtype_kind_of(ml_dtype t)
{
	return info[t].kind;
}

int
ml_dtype_bits(ml_dtype t)
{
	return (unsigned)t < DTYPES ? info[t].bits : 0;
}

int
ml_dtype_bytes(ml_dtype t)
{
	return (ml_dtype_bits(t) + 7) / 8;
}

/* The formats that are computed in f32 and rounded to. */
static const ml_float_format formats[DTYPES] = {
	[ML_f16] = {10, -14, 65504, ML_SPECIAL_TOP_EXPONENT},
	[ML_bf16] = {7, -126, 0x1.fep127, ML_SPECIAL_TOP_EXPONENT},
	[ML_f8e4m3fn] = {3, -6, 448, ML_SPECIAL_TOP_CODE},
	[ML_f8e4m3fnuz] = {3, -7, 240, ML_SPECIAL_MINUS_ZERO},
	[ML_f8e5m2] = {2, -14, 57344, ML_SPECIAL_TOP_EXPONENT},
	[ML_f8e5m2fnuz] = {2, -15, 57344, ML_SPECIAL_MINUS_ZERO},
	[ML_f4e2m1] = {1, 0, 6, ML_SPECIAL_NONE},
};

const ml_float_format *
ml_dtype_format(ml_dtype t)
{
	return (unsigned)t < DTYPES && formats[t].largest > 0 ? &formats[t] : NULL;
}

ml_dtype
ml_dtype_computed(ml_dtype t)
{
	return ml_dtype_format(t) ? ML_f32 : t;
}

const char *
ml_dtype_name(ml_dtype t)
{
	return info[t].name;
}

bool
ml_dtype_named(const char *name, size_t length, ml_dtype *t)
{
	for (int i = 0; i < DTYPES; i++)
		if (i != ML_none && strlen(info[i].name) == length &&
		    !memcmp(info[i].name, name, length)) {
			*t = (ml_dtype)i;
			return true;
		}
	return false;
}

bool
ml_is_float(ml_dtype t)
{
	return info[t].kind == ML_KIND_FLOAT;
}

bool
ml_is_integer(ml_dtype t)
{
	return info[t].kind == ML_KIND_SIGNED || info[t].kind == ML_KIND_UNSIGNED;
}

bool
ml_type_same_shape(const ml_type *a, const ml_type *b)
{
	if (a->rank != b->rank)
		return false;
	for (int i = 0; i < a->rank; i++)
		if (a->dim[i] != b->dim[i])
			return false;
	return true;
}

bool
ml_type_equal(const ml_type *a, const ml_type *b)
{
	return a->dtype == b->dtype && ml_type_same_shape(a, b);
}

ml_dim
ml_type_count(ml_dims *dims, const ml_type *t)
{
	return ml_dim_product(dims, t->dim, t->rank);
}

bool
ml_type_static_count(const ml_type *t, int64_t *count)
{
	int64_t n = 1, d;

	for (int i = 0; i < t->rank; i++)
		if (!ml_dim_is_int(t->dim[i], &d) || __builtin_mul_overflow(n, d, &n))
			return false;
	if (count)
		*count = n;
	return true;
}

void
ml_type_print(ml_text *out, const ml_type *t)
{
	ml_put(out, "%s[", ml_dtype_name(t->dtype));
	for (int i = 0; i < t->rank; i++) {
		ml_put(out, i ? ", " : "");
		ml_dim_print(out, t->dim[i]);
	}
	ml_put(out, "]");
}
