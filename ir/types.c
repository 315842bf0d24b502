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
ml_dtype_bytes(ml_dtype t)
{
	return (unsigned)t < DTYPES ? info[t].bits / 8 : 0;
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
	ml_dim count = ml_dim_int(dims, 1);

	for (int i = 0; i < t->rank; i++)
		count = ml_dim_mul(dims, count, t->dim[i]);
	return count;
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
