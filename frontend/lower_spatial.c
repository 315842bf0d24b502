/* lower_spatial.c -- kernel sizes, strides, dilations and pads of convolutions and pools. */
#include "lower_spatial.h"
#include <string.h>

enum { LARGEST = 1 << 30 };

int64_t
ml_spatial_reach(const ml_spatial *s, int i)
{
	return s->dilation[i] * (s->size[i] - 1) + 1;
}

/* n positive integers, 1 each when the attribute is missing */
static bool
read_positive(ml_lower *x, const char *name, int n, int64_t *out)
{
	int count;
	const int64_t *given = ml_onnx_ints(x, name, &count);

	if (given && count != n) {
		ml_lower_fail(x, ML_ERR_SHAPE, "%s has %d elements for %d spatial dims", name,
			      count, n);
		return false;
	}
	for (int i = 0; i < n; i++) {
		out[i] = given ? given[i] : 1;
		if (out[i] < 1 || out[i] > LARGEST) {
			ml_lower_fail(x, ML_ERR_VALUE, "element %d of %s is %lld", i, name,
				      (long long)out[i]);
			return false;
		}
	}
	return x->b->failed == ML_OK;
}

static bool
read_size(ml_lower *x, const ml_type *weight, ml_spatial *s)
{
	bool given = ml_onnx_has(x, "kernel_shape");
	int64_t size;

	if (!given && !weight) {
		ml_lower_fail(x, ML_ERR_FORMAT, "attribute 'kernel_shape' is missing");
		return false;
	}
	if (given && !read_positive(x, "kernel_shape", s->n, s->size))
		return false;
	for (int i = 0; weight && i < s->n; i++) {
		if (!ml_dim_is_int(weight->dim[2 + i], &size)) {
			ml_lower_fail(x, ML_ERR_UNSUPPORTED, "the kernel's size is dynamic");
			return false;
		}
		if (size < 1 || size > LARGEST || (given && s->size[i] != size)) {
			ml_lower_fail(x, ML_ERR_SHAPE, "kernel_shape does not fit the weights");
			return false;
		}
		s->size[i] = size;
	}
	return true;
}

bool
ml_spatial_read_kernel(ml_lower *x, const ml_type *t, const ml_type *weight, ml_spatial *s)
{
	s->n = t->rank - 2;
	if (s->n < 1 || s->n > ML_MAX_SPATIAL) {
		ml_lower_fail(x, ML_ERR_SHAPE, "an operand of rank %d has no spatial dims we know",
			      t->rank);
		return false;
	}
	if (weight && weight->rank != t->rank) {
		ml_lower_fail(x, ML_ERR_SHAPE, "weights of rank %d for an operand of rank %d",
			      weight->rank, t->rank);
		return false;
	}
	return read_size(x, weight, s) && read_positive(x, "strides", s->n, s->stride) &&
	       read_positive(x, "dilations", s->n, s->dilation);
}

static bool
explicit_pads(ml_lower *x, ml_spatial *s)
{
	int n;
	const int64_t *pad = ml_onnx_ints(x, "pads", &n);

	if (pad && n != 2 * s->n) {
		ml_lower_fail(x, ML_ERR_SHAPE, "%d pads for %d spatial dims", n, s->n);
		return false;
	}
	for (int i = 0; i < n; i++)
		if (pad[i] < 0 || pad[i] > LARGEST) {
			ml_lower_fail(x, ML_ERR_VALUE, "element %d of pads is %lld", i,
				      (long long)pad[i]);
			return false;
		}
	for (int i = 0; i < s->n; i++) {
		s->low[i] = ML_INT(pad ? pad[i] : 0);
		s->high[i] = ML_INT(pad ? pad[s->n + i] : 0);
	}
	return x->b->failed == ML_OK;
}

/* The output has ceil(input / stride) elements; what is missing goes to both sides. */
static void
same_pads(ml_lower *x, const ml_type *t, ml_spatial *s, bool upper)
{
	for (int i = 0; i < s->n; i++) {
		ml_dim in = t->dim[2 + i], stride = ML_INT(s->stride[i]);
		ml_dim out = ml_dim_ceildiv(ML_DIMS, in, stride);
		ml_dim need = ml_dim_mul(ML_DIMS, ml_dim_sub(ML_DIMS, out, ML_INT(1)), stride);
		need = ml_dim_add(ML_DIMS, need, ML_INT(ml_spatial_reach(s, i)));
		need = ml_dim_max(ML_DIMS, ML_INT(0), ml_dim_sub(ML_DIMS, need, in));
		ml_dim half = ml_dim_floordiv(ML_DIMS, need, ML_INT(2));
		ml_dim rest = ml_dim_sub(ML_DIMS, need, half);
		s->low[i] = upper ? half : rest;
		s->high[i] = upper ? rest : half;
	}
}

static bool
output_sizes(ml_lower *x, const ml_type *t, bool ceil_mode, ml_spatial *s)
{
	int64_t lo, hi;

	for (int i = 0; i < s->n; i++) {
		int64_t reach = ml_spatial_reach(s, i);
		ml_dim in = ml_dim_add(ML_DIMS, t->dim[2 + i], s->low[i]);
		ml_dim room = ml_dim_add(ML_DIMS, in, s->high[i]), stride = ML_INT(s->stride[i]);
		ml_dim way = ml_dim_sub(ML_DIMS, room, ML_INT(reach));
		ml_dim_range(way, &lo, &hi);
		if (hi < 0) {
			ml_lower_fail(x, ML_ERR_SHAPE,
				      "a kernel reaching over %lld elements is larger than spatial "
				      "dim %d with its pads",
				      (long long)reach, i);
			return false;
		}
		s->more[i] = ML_INT(0);
		s->out[i] = ml_dim_add(ML_DIMS, ml_dim_floordiv(ML_DIMS, way, stride), ML_INT(1));
		if (!ceil_mode)
			continue;
		s->out[i] = ml_dim_add(ML_DIMS, ml_dim_ceildiv(ML_DIMS, way, stride), ML_INT(1));
		/* no window may begin in the pads at the end */
		s->out[i] = ml_dim_min(ML_DIMS, s->out[i], ml_dim_ceildiv(ML_DIMS, in, stride));
		way = ml_dim_mul(ML_DIMS, ml_dim_sub(ML_DIMS, s->out[i], ML_INT(1)), stride);
		way = ml_dim_add(ML_DIMS, way, ML_INT(reach));
		s->more[i] = ml_dim_max(ML_DIMS, ML_INT(0), ml_dim_sub(ML_DIMS, way, room));
	}
	return true;
}

bool
ml_spatial_read(ml_lower *x, const ml_type *t, const ml_type *weight, bool ceil_mode, ml_spatial *s)
{
	const char *mode = ml_onnx_text(x, "auto_pad", "NOTSET");

	if (!ml_spatial_read_kernel(x, t, weight, s))
		return false;
	if (!strcmp(mode, "NOTSET") || !strcmp(mode, "")) {
		if (!explicit_pads(x, s))
			return false;
	} else if (!strcmp(mode, "VALID")) {
		ml_onnx_ignore(x, "pads");
		for (int i = 0; i < s->n; i++)
			s->low[i] = s->high[i] = ML_INT(0);
	} else if (!strcmp(mode, "SAME_UPPER") || !strcmp(mode, "SAME_LOWER")) {
		ml_onnx_ignore(x, "pads");
		same_pads(x, t, s, !strcmp(mode, "SAME_UPPER"));
		ceil_mode = false;
	} else {
		ml_lower_fail(x, ML_ERR_VALUE, "auto_pad '%s' is unknown",
			      ml_escaped(&x->cx->arena, mode));
		return false;
	}
	return output_sizes(x, t, ceil_mode, s);
}
