/* eval_array.c -- arrays of the reference evaluator: making, reading, writing, rounding. */
#include "eval.h"
#include <math.h>
#include <string.h>

/* False when the product of any of the dims overflows, even if another one is 0: no stride or
 * partial product computed later can overflow then. */
static bool
count_of(int rank, const int64_t *dim, int64_t *count)
{
	int64_t largest = 2 * sizeof(ml_array); /* so that array_bytes is safe, too */
	bool empty = false;

	for (int i = 0; i < rank; i++) {
		if (dim[i] < 0 || __builtin_mul_overflow(largest, dim[i] ? dim[i] : 1, &largest))
			return false;
		empty |= dim[i] == 0;
	}
	*count = empty ? 0 : largest / (int64_t)(2 * sizeof(ml_array));
	return true;
}

static size_t
array_bytes(int64_t count)
{
	return sizeof(ml_array) + (size_t)count * sizeof(ml_cell);
}

ml_status
ml_array_new(ml_eval *e, ml_dtype dtype, int rank, const int64_t *dim, ml_array **out)
{
	int64_t count;

	if (rank > ML_MAX_RANK)
		return ml_eval_fail(e, ML_ERR_LIMIT, "rank %d exceeds %d", rank, ML_MAX_RANK);
	bool possible = count_of(rank, dim, &count);
	size_t size = possible ? array_bytes(count) : 0;
	if (!possible || size > e->options.max_bytes || e->bytes > e->options.max_bytes - size)
		return ml_eval_fail(e, ML_ERR_LIMIT,
				    "a result needs more than the %llu MiB allowed",
				    (unsigned long long)(e->options.max_bytes >> 20));
	ML_STEP(ml_eval_charge(e, count));
	ml_array *a = ml_resize(e->memory, NULL, 0, size);
	memset(a, 0, size);
	a->refs = 1;
	a->dtype = dtype;
	a->rank = rank;
	a->count = count;
	if (rank)
		memcpy(a->dim, dim, (size_t)rank * sizeof *dim);
	a->next = e->arrays;
	a->link = &e->arrays;
	if (a->next)
		a->next->link = &a->next;
	e->arrays = a;
	e->bytes += size;
	*out = a;
	return ML_OK;
}

ml_status
ml_array_result(ml_eval *e, const ml_node *n, int i, ml_array **out)
{
	const ml_type *type = &n->out[i].type;
	int64_t dim[ML_MAX_RANK];

	for (int d = 0; d < type->rank; d++)
		ML_STEP(ml_eval_dim(e, type->dim[d], &dim[d]));
	return ml_array_new(e, type->dtype, type->rank, dim, out);
}

ml_status
ml_array_read(ml_eval *e, const ml_tensor *t, ml_array **out)
{
	ML_STEP(ml_array_new(e, t->dtype, t->rank, t->dim, out));
	ml_array *a = *out;
	if (!t->data && a->count)
		return ml_eval_fail(e, ML_ERR_ARG, "a tensor has no data");
	if (t->bytes / (size_t)ml_dtype_bytes(t->dtype) < (uint64_t)a->count)
		return ml_eval_fail(e, ML_ERR_ARG, "a tensor has %zu bytes, its shape needs %lld",
				    t->bytes, (long long)a->count * ml_dtype_bytes(t->dtype));
	if (ml_is_float(t->dtype))
		for (int64_t i = 0; i < a->count; i++)
			a->cell[i].f = ml_read_f64(t->dtype, t->data, i);
	else
		for (int64_t i = 0; i < a->count; i++)
			a->cell[i].i = ml_wrap_to(t->dtype, ml_read_s64(t->dtype, t->data, i));
	return ML_OK;
}

void
ml_array_write(const ml_array *a, void *bytes)
{
	if (ml_is_float(a->dtype))
		for (int64_t i = 0; i < a->count; i++)
			ml_write_f64(a->dtype, bytes, i, a->cell[i].f);
	else
		for (int64_t i = 0; i < a->count; i++)
			ml_write_s64(a->dtype, bytes, i, a->cell[i].i);
}

void
ml_array_release(ml_eval *e, ml_array *a)
{
	if (!a || --a->refs > 0)
		return;
	*a->link = a->next;
	if (a->next)
		a->next->link = a->link;
	e->bytes -= array_bytes(a->count);
	ml_resize(e->memory, a, array_bytes(a->count), 0);
}

int64_t
ml_wrap_to(ml_dtype t, int64_t v)
{
	int unused = 64 - ml_dtype_bits(t);

	switch (ml_dtype_kind_of(t)) {
	case ML_KIND_SIGNED: return (int64_t)((uint64_t)v << unused) >> unused;
	case ML_KIND_UNSIGNED: return (int64_t)((uint64_t)v << unused >> unused);
	case ML_KIND_BOOL: return v != 0;
	default: return v;
	}
}

double
ml_round_to(ml_dtype t, double v)
{
	unsigned char bytes[8];

	if (t == ML_f64)
		return v;
	if (t == ML_f32)
		return (float)v;
	ml_write_f64(t, bytes, 0, v);
	return ml_read_f64(t, bytes, 0);
}

void
ml_array_round(const ml_eval *e, ml_array *a)
{
	if (!ml_is_float(a->dtype))
		for (int64_t i = 0; i < a->count; i++)
			a->cell[i].i = ml_wrap_to(a->dtype, a->cell[i].i);
	else if (!e->options.wide && a->dtype != ML_f64)
		for (int64_t i = 0; i < a->count; i++)
			a->cell[i].f = ml_round_to(a->dtype, a->cell[i].f);
}

void
ml_array_split(const ml_array *a, int axis, int64_t *outer, int64_t *n, int64_t *inner)
{
	*outer = *inner = 1;
	*n = a->dim[axis];
	for (int d = 0; d < axis; d++)
		*outer *= a->dim[d];
	for (int d = axis + 1; d < a->rank; d++)
		*inner *= a->dim[d];
}

int
ml_cell_compare(ml_dtype t, ml_cell x, ml_cell y)
{
	switch (ml_dtype_kind_of(t)) {
	case ML_KIND_FLOAT:
		if (isnan(x.f) || isnan(y.f))
			return !!isnan(x.f) - !!isnan(y.f);
		return (x.f > y.f) - (x.f < y.f);
	case ML_KIND_UNSIGNED:
		return ((uint64_t)x.i > (uint64_t)y.i) - ((uint64_t)x.i < (uint64_t)y.i);
	default: return (x.i > y.i) - (x.i < y.i);
	}
}

void
ml_strides(int rank, const int64_t *dim, int64_t *stride)
{
	int64_t step = 1;

	for (int d = rank - 1; d >= 0; d--) {
		stride[d] = step;
		step *= dim[d] ? dim[d] : 1; /* empty shapes are never walked */
	}
}
