/* custom.c -- the evaluator's way to registered operators: ml_call with their natural signature. */
#include "../ir/custom.h"
#include "driver.h"

enum { MAX_ARGUMENTS = 256 };

static ml_argument
scalar(const ml_tensor *t)
{
	ml_argument a = {.dtype = t->dtype};

	if (ml_is_float(t->dtype))
		a.real = ml_read_f64(t->dtype, t->data, 0);
	else
		a.integer = ml_read_s64(t->dtype, t->data, 0);
	return a;
}

/* The size that operands give to a named dimension. */
static int64_t
size_of(const ml_custom_op *op, const ml_tensor *in, int dim)
{
	for (int i = 0; i < op->nin; i++)
		for (int k = 0; k < op->in[i].rank; k++)
			if (op->in[i].dim[k] == dim)
				return in[i].dim[k];
	return 0;
}

ml_status
ml_evaluate_custom(const ml_custom_op *op, const ml_tensor *in, int nin, ml_tensor *out, int nout)
{
	ml_argument a[MAX_ARGUMENTS];
	int32_t result = 0;
	int n = 0;

	if (nin + nout + op->ndims > MAX_ARGUMENTS)
		return ML_ERR_UNSUPPORTED;
	for (int i = 0; i < nin; i++)
		a[n++] = op->in[i].scalar ? scalar(&in[i])
					  : (ml_argument){.dtype = ML_none, .pointer = in[i].data};
	for (int i = 0; i < nout; i++)
		a[n++] = (ml_argument){.dtype = ML_none, .pointer = out[i].data};
	for (int i = 0; i < op->ndims; i++)
		a[n++] = (ml_argument){.dtype = ML_s64, .integer = size_of(op, in, i)};
	ML_STEP(ml_call(op->fn, a, n, &result));
	return (ml_status)result;
}
