/* eval_contract.c -- sums of products of the reference evaluator. */
#include "eval.h"
#include <string.h>

/* An operand's dims in the order batch, free, contracted, as one matrix per batch index. */
typedef struct packed {
	ml_array *array;
	int64_t batch, rows, depth;
} packed;

static bool
listed(const ml_attr *list, int64_t axis)
{
	for (int i = 0; i < list->count; i++)
		if (list->ints[i] == axis)
			return true;
	return false;
}

static ml_status
pack(ml_eval *e, const ml_array *in, const ml_attr *batch, const ml_attr *contract, packed *p)
{
	int64_t stride[ML_MAX_RANK];
	ml_walk w = {.n = 1, .rank = in->rank};
	int at = 0;

	p->batch = p->rows = p->depth = 1;
	ml_strides(in->rank, in->dim, stride);
	for (int i = 0; i < batch->count; i++, at++) {
		w.stride[0][at] = stride[batch->ints[i]];
		p->batch *= w.dim[at] = in->dim[batch->ints[i]];
	}
	for (int d = 0; d < in->rank; d++) {
		if (listed(batch, d) || listed(contract, d))
			continue;
		w.stride[0][at] = stride[d];
		p->rows *= w.dim[at++] = in->dim[d];
	}
	for (int i = 0; i < contract->count; i++, at++) {
		w.stride[0][at] = stride[contract->ints[i]];
		p->depth *= w.dim[at] = in->dim[contract->ints[i]];
	}
	ML_STEP(ml_array_new(e, in->dtype, in->rank, w.dim, &p->array));
	for (int64_t i = 0; i < in->count; i++, ml_walk_next(&w))
		p->array->cell[i] = in->cell[w.pos[0]];
	return ML_OK;
}

static ml_cell
sum_of_products(bool real, const ml_cell *a, const ml_cell *b, int64_t n)
{
	double sum = 0;
	uint64_t wrapped = 0;

	if (real) {
		for (int64_t i = 0; i < n; i++)
			sum += a[i].f * b[i].f;
		return (ml_cell){.f = sum};
	}
	for (int64_t i = 0; i < n; i++)
		wrapped += (uint64_t)a[i].i * (uint64_t)b[i].i;
	return (ml_cell){.i = (int64_t)wrapped};
}

static ml_status
multiply(ml_eval *e, const packed *a, const packed *b, ml_array *out)
{
	bool real = ml_is_float(out->dtype);
	ml_cell *c = out->cell;

	if (a->batch != b->batch || a->depth != b->depth ||
	    out->count != a->batch * a->rows * b->rows)
		return ml_eval_fail(e, ML_ERR_SHAPE, "operands and result do not fit");
	for (int64_t i = 0; i < a->batch; i++)
		for (int64_t row = 0; row < a->rows; row++) {
			/* Per row, so that a hostile size ends soon after the limit. */
			ML_STEP(ml_eval_charge(e, b->rows * a->depth));
			for (int64_t col = 0; col < b->rows; col++)
				*c++ = sum_of_products(
					real, a->array->cell + (i * a->rows + row) * a->depth,
					b->array->cell + (i * b->rows + col) * b->depth, a->depth);
		}
	return ML_OK;
}

ml_status
ml_eval_contract(ml_eval *e, const ml_node *n, ml_array *const *in, ml_array **out)
{
	packed a, b;

	ML_STEP(ml_array_result(e, n, 0, out));
	ML_STEP(pack(e, in[0], &ML_A(n, dot, lhs_batch), &ML_A(n, dot, lhs_contract), &a));
	ML_STEP(pack(e, in[1], &ML_A(n, dot, rhs_batch), &ML_A(n, dot, rhs_contract), &b));
	ML_STEP(multiply(e, &a, &b, *out));
	ml_array_release(e, a.array);
	ml_array_release(e, b.array);
	return ML_OK;
}
