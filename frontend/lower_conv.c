/* lower_conv.c -- convolutions. */
#include "lower_activation.h"
#include "lower_spatial.h"
#include <string.h>

static const int64_t *
copy_ints(ml_lower *x, const int64_t *given, int n)
{
	int64_t *copy = ML_LOWER_ARRAY(x, int64_t, n);

	return memcpy(copy, given, (size_t)n * sizeof *copy);
}

static const ml_dim *
copy_dims(ml_lower *x, const ml_dim *given, int n)
{
	ml_dim *copy = ML_LOWER_ARRAY(x, ml_dim, n);

	return memcpy(copy, given, (size_t)n * sizeof *copy);
}

ml_value *
ml_lower_conv_node(ml_lower *x, ml_value *v, ml_value *weight, ml_value *bias, const ml_spatial *s,
		   int64_t groups)
{
	ml_value *in[] = {ml_lower_wide(x, v), ml_lower_wide(x, weight), ml_lower_wide(x, bias)};

	if (!v || !weight)
		return NULL;
	ml_node *n = ml_begin(x->b, ML_OP_conv, in, bias ? 3 : 2);
	if (!n)
		return NULL;
	ML_A(n, conv, stride).ints = copy_ints(x, s->stride, s->n);
	ML_A(n, conv, dilation).ints = copy_ints(x, s->dilation, s->n);
	ML_A(n, conv, low).dims = copy_dims(x, s->low, s->n);
	ML_A(n, conv, high).dims = copy_dims(x, s->high, s->n);
	ML_A(n, conv, stride).count = s->n;
	ML_A(n, conv, dilation).count = s->n;
	ML_A(n, conv, low).count = s->n;
	ML_A(n, conv, high).count = s->n;
	ML_A(n, conv, groups).i64 = groups;
	ml_value *y = ml_finish1(x->b, n);
	return ml_is_float(v->type.dtype) ? ml_lower_as(x, y, v) : y;
}

bool
ml_lower_groups(ml_lower *x, ml_dim channels, int64_t *groups)
{
	ml_dim quotient;
	int64_t lo, hi;

	*groups = ml_onnx_int(x, "group", 1);
	ml_dim_range(channels, &lo, &hi);
	if (*groups < 1 || *groups > hi ||
	    (lo == hi && !ml_dim_divides(ML_DIMS, channels, ML_INT(*groups), &quotient))) {
		ml_lower_fail(x, ML_ERR_VALUE, "%lld groups do not divide the channels",
			      (long long)*groups);
		return false;
	}
	return true;
}

ml_value *
ml_lower_conv(ml_lower *x)
{
	ml_value *v = x->in[0], *weight = x->in[1];
	ml_spatial s;
	int64_t groups;

	if (!ml_spatial_read(x, &v->type, &weight->type, false, &s) ||
	    !ml_lower_groups(x, weight->type.dim[0], &groups))
		return NULL;
	return ml_lower_conv_node(x, v, weight, x->in[2], &s, groups);
}

/* com.microsoft: Conv, a residual added, an activation */
ml_value *
ml_lower_fused_conv(ml_lower *x)
{
	const char *name = ml_onnx_text(x, "activation", "");
	const ml_activation_row *row;
	int n;
	const float *given = ml_onnx_floats(x, "activation_params", &n);
	ml_value *y = ml_lower_conv(x);
	double p[2] = {0};

	y = x->in[3] ? ML_X2(add, y, x->in[3]) : y;
	if (!*name)
		return y;
	for (int i = 0; i < n && i < 2; i++)
		p[i] = (double)given[i];
	if (!strcmp(name, "Clip") && n == 2)
		return ML_X2(min, ML_X2(max, y, ML_LIKE(y, p[0])), ML_LIKE(y, p[1]));
	row = ml_lower_find_activation(x, name);
	if (row && row->n && n != row->n)
		return ml_lower_fail(x, ML_ERR_FORMAT,
				     "activation_params has %d numbers, %s needs %d", n, row->name,
				     row->n);
	return row ? row->build(x, y, p) : NULL;
}

/* Windows [N, g, C/g, out.., kernel..] . w[g, M/g, C/g, kernel..] */
ml_value *
ml_lower_window_product(ml_lower *x, ml_value *v, ml_value *w, int k, int64_t ngroups)
{
	static const int64_t one = 1, zero = 0;
	int64_t v_sum[ML_MAX_SPATIAL + 1] = {2}, w_sum[ML_MAX_SPATIAL + 1] = {2};
	int64_t perm[ML_MAX_RANK] = {1, 0, 2 + k};
	ml_dim shape[ML_MAX_RANK], filter[ML_MAX_RANK], out[ML_MAX_RANK], each = w->type.dim[1];
	ml_dim filters, groups = ML_INT(ngroups);

	if (ngroups < 1 || v->type.rank + 1 > ML_MAX_RANK)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "the rank is too large");
	if (!ml_dim_divides(ML_DIMS, w->type.dim[0], groups, &filters) ||
	    ml_dim_never_equal(ML_DIMS, v->type.dim[1], ml_dim_mul(ML_DIMS, groups, each)))
		return ml_lower_fail(x, ML_ERR_SHAPE, "groups do not fit channels and filters");
	shape[0] = out[0] = v->type.dim[0];
	shape[1] = filter[0] = groups;
	filter[1] = filters;
	shape[2] = filter[2] = each;
	out[1] = w->type.dim[0];
	for (int i = 0; i < k; i++) {
		shape[3 + i] = out[2 + i] = v->type.dim[2 + i];
		shape[3 + k + i] = filter[3 + i] = w->type.dim[2 + i];
		v_sum[1 + i] = 3 + k + i;
		w_sum[1 + i] = 3 + i;
		perm[3 + i] = 2 + i;
	}
	v = ml_lower_reshape(x, v, shape, 3 + 2 * k);
	w = ml_lower_reshape(x, w, filter, 3 + k);
	v = ml_build_dot(x->b, v, w, &one, &zero, 1, v_sum, w_sum, k + 1);
	return ml_lower_reshape(x, ml_lower_transpose(x, v, perm), out, 2 + k);
}

/* ---- transposed ---- */

/* w[C, M/g, ..] -> [M, C/g, ..], spatially reversed */
static ml_value *
flip_weight(ml_lower *x, ml_value *w, int64_t groups)
{
	const ml_type t = w->type;
	ml_dim split[ML_MAX_RANK + 1], merged[ML_MAX_RANK], g = ML_INT(groups), per_group;
	int64_t perm[ML_MAX_RANK + 1], axes[ML_MAX_RANK];

	if (!ml_dim_divides(ML_DIMS, t.dim[0], g, &per_group))
		return ml_lower_fail(x, ML_ERR_VALUE, "%lld groups do not divide the channels",
				     (long long)groups);
	split[0] = g;
	split[1] = per_group;
	perm[0] = 0;
	perm[1] = 2;
	perm[2] = 1;
	merged[0] = ml_dim_mul(ML_DIMS, g, t.dim[1]);
	merged[1] = per_group;
	for (int i = 1; i < t.rank; i++)
		split[i + 1] = t.dim[i];
	for (int i = 2; i < t.rank; i++) {
		perm[i + 1] = i + 1;
		merged[i] = t.dim[i];
		axes[i - 2] = i;
	}
	if (groups == 1)
		w = ml_lower_move_axis(x, w, 1, 0);
	else
		w = ml_lower_transpose(x, ml_lower_reshape(x, w, split, t.rank + 1), perm);
	w = ml_lower_reshape(x, w, merged, t.rank);
	return ml_lower_reverse(x, w, axes, t.rank - 2);
}

/* Pads as ConvTranspose means them: what is cut off the full result. */
static bool
transposed_pads(ml_lower *x, const ml_type *t, ml_spatial *s, const int64_t *extra)
{
	int n, nout;
	const char *mode = ml_onnx_text(x, "auto_pad", "NOTSET");
	const int64_t *pad = ml_onnx_ints(x, "pads", &n);
	const int64_t *out = ml_onnx_ints(x, "output_shape", &nout);
	bool same = !strncmp(mode, "SAME", 4), upper = !strcmp(mode, "SAME_UPPER");

	if ((out && nout != s->n) || (pad && n != 2 * s->n)) {
		ml_lower_fail(x, ML_ERR_SHAPE, "%d pads and %d sizes for %d spatial dims", n, nout,
			      s->n);
		return false;
	}
	for (int i = 0; i < s->n; i++) {
		ml_dim in = t->dim[2 + i], stride = ML_INT(s->stride[i]), total;
		s->low[i] = ML_INT(pad && !same ? pad[i] : 0);
		s->high[i] = ML_INT(pad && !same ? pad[s->n + i] : 0);
		if (!out && !same)
			continue;
		total = ml_dim_mul(ML_DIMS, ml_dim_sub(ML_DIMS, in, ML_INT(1)), stride);
		total = ml_dim_add(ML_DIMS, total, ML_INT(ml_spatial_reach(s, i) + extra[i]));
		total = ml_dim_sub(ML_DIMS, total,
				   out ? ML_INT(out[i]) : ml_dim_mul(ML_DIMS, in, stride));
		ml_dim half = ml_dim_floordiv(ML_DIMS, total, ML_INT(2));
		ml_dim rest = ml_dim_sub(ML_DIMS, total, half);
		s->low[i] = upper ? half : rest;
		s->high[i] = upper ? rest : half;
	}
	return true;
}

/* Zeros between elements, and pads turned into those of the convolution that does the work. */
static ml_value *
spread(ml_lower *x, ml_value *v, ml_spatial *s, const int64_t *extra)
{
	ml_dim zero[ML_MAX_RANK], low[ML_MAX_RANK], high[ML_MAX_RANK];
	int64_t between[ML_MAX_RANK] = {0};
	bool strided = false;

	for (int i = 0; i < v->type.rank; i++)
		zero[i] = low[i] = high[i] = ML_INT(0);
	for (int i = 0; i < s->n; i++) {
		ml_dim reach = ML_INT(ml_spatial_reach(s, i) - 1), none = ML_INT(0);
		strided = strided || s->stride[i] > 1;
		between[2 + i] = s->stride[i] - 1;
		s->low[i] = ml_dim_sub(ML_DIMS, reach, s->low[i]);
		s->high[i] = ml_dim_sub(ML_DIMS, ml_dim_add(ML_DIMS, reach, ML_INT(extra[i])),
					s->high[i]);
		low[2 + i] = ml_dim_min(ML_DIMS, s->low[i], none);
		high[2 + i] = ml_dim_min(ML_DIMS, s->high[i], none);
		s->low[i] = ml_dim_max(ML_DIMS, s->low[i], none);
		s->high[i] = ml_dim_max(ML_DIMS, s->high[i], none);
		s->stride[i] = 1;
	}
	if (strided)
		v = ml_build_pad(x->b, v, ML_LIKE(v, 0), zero, zero, between);
	return ml_lower_pad(x, v, 0, low, high);
}

ml_value *
ml_lower_conv_transpose(ml_lower *x)
{
	ml_value *v = x->in[0], *weight = x->in[1];
	int64_t extra[ML_MAX_SPATIAL] = {0}, groups;
	ml_spatial s;
	int n;
	const int64_t *given = ml_onnx_ints(x, "output_padding", &n);

	if (!ml_spatial_read_kernel(x, &v->type, &weight->type, &s) ||
	    !ml_lower_groups(x, weight->type.dim[0], &groups))
		return NULL;
	if (given && n != s.n)
		return ml_lower_fail(x, ML_ERR_SHAPE, "output_padding has %d elements", n);
	for (int i = 0; i < n; i++)
		extra[i] = given[i];
	if (!ml_require_equal(x->b, v->type.dim[1], weight->type.dim[0],
			      "channels of operand and weights must be equal"))
		return x->b->failed != ML_OK
			       ? NULL
			       : ml_lower_fail(x, ML_ERR_SHAPE,
					       "channels of operand and weights differ");
	if (!transposed_pads(x, &v->type, &s, extra))
		return NULL;
	v = spread(x, v, &s, extra);
	return ml_lower_conv_node(x, v, flip_weight(x, weight, groups), x->in[2], &s, groups);
}

/* Depthwise over the last dim, looking back only; the last positions are handed on. */
ml_value *
ml_lower_causal_conv(ml_lower *x)
{
	ml_value *v = x->in[0], *weight = x->in[1], *y;
	ml_spatial s = {.n = 1, .stride = {1}, .dilation = {1}};
	const char *activation = ml_onnx_text(x, "activation", "none");
	int64_t k, channels;
	ml_dim low[3], zero[3];

	if (v->type.rank != 3 || weight->type.rank != 3 ||
	    !ml_dim_is_int(weight->type.dim[2], &k) ||
	    !ml_dim_is_int(weight->type.dim[0], &channels))
		return ml_lower_fail(x, ML_ERR_SHAPE, "operand and weights must have rank 3");
	for (int i = 0; i < 3; i++)
		low[i] = zero[i] = ML_INT(0);
	low[2] = ML_INT(k - 1);
	s.low[0] = s.high[0] = zero[0];
	ml_value *both[] = {x->in[3], v};
	v = both[0] ? ml_build_concat(x->b, both, 2, 2) : ml_lower_pad(x, v, 0, low, zero);
	y = ml_lower_conv_node(x, v, weight, x->in[2], &s, channels);
	if (v)
		x->out[1] = ml_lower_cut(
			x, v, 2, ml_dim_sub(ML_DIMS, v->type.dim[2], ML_INT(k - 1)), ML_INT(k - 1));
	if (!strcmp(activation, "none") || !strcmp(activation, ""))
		return y;
	if (!strcmp(activation, "silu") || !strcmp(activation, "swish"))
		return ML_X2(mul, y, ML_X1(sigmoid, y));
	return ml_lower_fail(x, ML_ERR_VALUE, "activation must be none, silu or swish");
}
