/* array.c -- arrays, their shapes and sizes, and lists of them. */
#include "array.h"
#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	size_t size;
} dtypes[MD_DTYPE_COUNT] = {
#define MD_DTYPE(id, name, bytes, numpy, onnx) {name, bytes},
#include "dtype.def"
#undef MD_DTYPE
};

size_t
md_dtype_size(md_dtype dtype)
{
	assert(dtype < MD_DTYPE_COUNT);
	return dtypes[dtype].size;
}

const char *
md_dtype_name(md_dtype dtype)
{
	assert(dtype < MD_DTYPE_COUNT);
	return dtypes[dtype].name;
}

int
md_shape_bytes(md_dtype dtype, int rank, const int64_t *dim, size_t *bytes, char *why,
	       size_t why_size)
{
	size_t extent = md_dtype_size(dtype);
	bool empty = false;

	if (rank < 0 || rank > MD_MAX_RANK)
		return md_fail(why, why_size, "rank %d is not in 0..%d", rank, MD_MAX_RANK);
	for (int i = 0; i < rank; i++) {
		if (dim[i] < 0)
			return md_fail(why, why_size, "dim %d is negative: %" PRId64, i, dim[i]);
		if (dim[i] == 0)
			empty = true;
		else if (__builtin_mul_overflow(extent, (uint64_t)dim[i], &extent) ||
			 extent > PTRDIFF_MAX)
			return md_fail(why, why_size, "the shape exceeds the address space");
	}
	*bytes = empty ? 0 : extent;
	return 0;
}

int64_t
md_array_elements(const md_array *a)
{
	return (int64_t)(a->bytes / md_dtype_size(a->dtype));
}

char *
md_array_type(const md_array *a, char *text, size_t size)
{
	size_t used;

	if (size == 0)
		return text;
	used = (size_t)snprintf(text, size, "%s[", md_dtype_name(a->dtype));
	for (int i = 0; i < a->rank && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, i ? "," : "",
					 a->dim[i]);
	if (used < size)
		snprintf(text + used, size - used, "]");
	return text;
}

int
md_array_init(md_array *a, const char *name, md_dtype dtype, int rank, const int64_t *dim,
	      char *why, size_t why_size)
{
	size_t bytes;

	*a = (md_array){.dtype = dtype, .rank = rank};
	if (md_shape_bytes(dtype, rank, dim, &bytes, why, why_size))
		return -1;
	if (rank)
		memcpy(a->dim, dim, (size_t)rank * sizeof *dim);
	a->bytes = bytes;
	a->name = strdup(name);
	a->block = calloc(bytes ? bytes : 1, 1);
	a->data = a->block;
	if (a->name && a->block)
		return 0;
	md_array_clear(a);
	return md_fail(why, why_size, "no memory for %zu bytes", bytes);
}

int
md_array_slice(md_array *view, const md_array *whole, int64_t first, int64_t count, char *why,
	       size_t why_size)
{
	int64_t total = whole->rank ? whole->dim[0] : 0;
	size_t stride;

	*view = (md_array){0};
	if (first < 0 || count < 0 || first > total || count > total - first)
		return md_fail(why, why_size,
			       "samples %" PRId64 "+%" PRId64 " lie outside the %" PRId64
			       " of '%s'",
			       first, count, total, whole->name);
	*view = *whole;
	stride = total ? whole->bytes / (size_t)total : 0;
	view->block = NULL;
	view->dim[0] = count;
	view->data = (char *)whole->data + stride * (size_t)first;
	view->bytes = stride * (size_t)count;
	view->name = strdup(whole->name);
	if (view->name)
		return 0;
	*view = (md_array){0};
	return md_fail(why, why_size, "no memory");
}

int
md_array_copy(md_array *copy, const md_array *a, char *why, size_t why_size)
{
	if (md_array_init(copy, a->name, a->dtype, a->rank, a->dim, why, why_size))
		return -1;
	memcpy(copy->data, a->data, a->bytes);
	return 0;
}

int
md_array_rename(md_array *a, const char *name, char *why, size_t why_size)
{
	char *copy = strdup(name);

	if (!copy)
		return md_fail(why, why_size, "no memory");
	free(a->name);
	a->name = copy;
	return 0;
}

void
md_array_clear(md_array *a)
{
	free(a->name);
	free(a->block);
	*a = (md_array){0};
}

static double
f16_to_f64(uint16_t bits)
{
	int exponent = bits >> 10 & 31;
	double fraction = bits & 1023;
	double magnitude;

	if (exponent == 31)
		magnitude = fraction != 0 ? NAN : INFINITY;
	else if (exponent == 0)
		magnitude = ldexp(fraction, -24);
	else
		magnitude = ldexp(1024 + fraction, exponent - 25);
	return bits >> 15 ? -magnitude : magnitude;
}

static double
bf16_to_f64(uint16_t bits)
{
	uint32_t wide = (uint32_t)bits << 16;
	float value;

	memcpy(&value, &wide, sizeof value);
	return value;
}

#define IDENTITY(x) ((double)(x))
#define READ_AS(id, type, convert)                                                                 \
	case MD_##id:                                                                              \
		for (int64_t i = 0; i < count; i++)                                                \
			out[i] = convert(((const type *)a->data)[first + i]);                      \
		break;

void
md_array_read_f64(const md_array *a, int64_t first, int64_t count, double *out)
{
	assert(first >= 0 && count >= 0 && first + count <= md_array_elements(a));
	switch (a->dtype) {
		READ_AS(BOOL, uint8_t, IDENTITY)
		READ_AS(I8, int8_t, IDENTITY)
		READ_AS(U8, uint8_t, IDENTITY)
		READ_AS(I16, int16_t, IDENTITY)
		READ_AS(U16, uint16_t, IDENTITY)
		READ_AS(I32, int32_t, IDENTITY)
		READ_AS(U32, uint32_t, IDENTITY)
		READ_AS(I64, int64_t, IDENTITY)
		READ_AS(U64, uint64_t, IDENTITY)
		READ_AS(F16, uint16_t, f16_to_f64)
		READ_AS(BF16, uint16_t, bf16_to_f64)
		READ_AS(F32, float, IDENTITY)
		READ_AS(F64, double, IDENTITY)
	case MD_DTYPE_COUNT: assert(!"a dtype");
	}
}

int
md_arrays_push(md_arrays *list, md_array *array, char *why, size_t why_size)
{
	if (md_arrays_find(list, array->name))
		return md_fail(why, why_size, "two arrays are named '%s'", array->name);
	if (list->count == list->capacity) {
		size_t capacity = list->capacity ? 2 * list->capacity : 8;
		md_array *at = realloc(list->at, capacity * sizeof *at);

		if (!at)
			return md_fail(why, why_size, "no memory");
		list->at = at;
		list->capacity = capacity;
	}
	list->at[list->count++] = *array;
	*array = (md_array){0};
	return 0;
}

md_array *
md_arrays_find(const md_arrays *list, const char *name)
{
	for (size_t i = 0; i < list->count; i++)
		if (!strcmp(list->at[i].name, name))
			return &list->at[i];
	return NULL;
}

char *
md_arrays_names(const md_arrays *list, char *text, size_t size)
{
	static const char more[] = ", ...";
	size_t used = 0;

	if (size < sizeof more)
		return text;
	text[0] = '\0';
	for (size_t i = 0; i < list->count; i++) {
		size_t n = strlen(list->at[i].name) + (i ? 2 : 0);

		if (used + n + sizeof more > size) {
			memcpy(text + used, more, sizeof more);
			break;
		}
		used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "",
					 list->at[i].name);
	}
	return text;
}

void
md_arrays_clear(md_arrays *list)
{
	for (size_t i = 0; i < list->count; i++)
		md_array_clear(&list->at[i]);
	free(list->at);
	*list = (md_arrays){0};
}
