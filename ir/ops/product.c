/* product.c -- bodies of linear and conv: dot and what is around it. */
#include "../expand.h"

void
ml_body_linear(ml_builder *b, const ml_node *n, ml_value *const *in, ml_value **out)
{
	int64_t last = in[0]->type.rank - 1, first = 0;

	out[0] = ml_build_dot(b, in[0], in[1], NULL, NULL, 0, &last, &first, 1);
	if (n->nin > 2)
		out[0] = ml_op2(b, ML_OP_add, out[0], in[2]);
}

/* ---- conv ---- */

ml_value *
ml_conv_windows(ml_builder *b, const ml_node *n, ml_value *x)
{
	const ml_type *w = &ml_in(n, 1)->type;
	const ml_attr *low = &ML_A(n, conv, low), *high = &ML_A(n, conv, high);
	int64_t interior[ML_MAX_RANK] = {0}, *size;
	ml_dim before[ML_MAX_RANK], after[ML_MAX_RANK];
	int k = low->count;
	bool pads = false;

	size = ML_NEW_ARRAY(&b->m->arena, int64_t, k);
	before[0] = before[1] = after[0] = after[1] = ml_dim_int(b->m->dims, 0);
	for (int i = 0; i < k; i++) {
		before[2 + i] = low->dims[i];
		after[2 + i] = high->dims[i];
		pads |= !ml_dim_equals(low->dims[i], 0) || !ml_dim_equals(high->dims[i], 0);
		ml_dim_is_int(w->dim[2 + i], &size[i]);
	}
	if (pads)
		x = ml_build_pad(b, x, ml_build_f64(b, x->type.dtype, 0), before, after, interior);
	ml_node *window = ml_begin(b, ML_OP_window, &x, 1);
	if (!window)
		return NULL;
	ML_A(window, window, size) = (ml_attr){.ints = size, .count = k};
	ML_A(window, window, stride) = ML_A(n, conv, stride);
	ML_A(window, window, dilation) = ML_A(n, conv, dilation);
	return ml_finish1(b, window);
}

/* windows[N,C,O..,K..] . w[M,C,K..] -> [N,M,O..] */
static ml_value *
conv_whole(ml_builder *b, ml_value *windows, ml_value *w, int k)
{
	int64_t lhs[ML_MAX_RANK] = {1}, rhs[ML_MAX_RANK] = {1}, perm[ML_MAX_RANK] = {0, k + 1};

	for (int i = 0; i < k; i++) {
		lhs[1 + i] = 2 + k + i;
		rhs[1 + i] = 2 + i;
		perm[2 + i] = 1 + i;
	}
	ml_value *y = ml_build_dot(b, windows, w, NULL, NULL, 0, lhs, rhs, 1 + k);
	return ml_build_transpose(b, y, perm);
}

/* The same with groups as batch: windows[N,g,C/g,O..,K..] . w[g,M/g,C/g,K..] -> [g,N,O..,M/g] */
static ml_value *
conv_grouped(ml_builder *b, const ml_node *n, ml_value *windows, ml_value *w, int k)
{
	ml_dims *dims = b->m->dims;
	ml_dim g = ml_dim_int(dims, ML_A(n, conv, groups).i64), wide[ML_MAX_RANK];
	int64_t lhs[ML_MAX_RANK] = {2}, rhs[ML_MAX_RANK] = {2}, perm[ML_MAX_RANK] = {1, 0, k + 2};
	int64_t one = 1, zero = 0;

	if (!windows)
		return NULL;
	wide[0] = windows->type.dim[0];
	wide[1] = g;
	wide[2] = w->type.dim[1];
	for (int i = 0; i < 2 * k; i++)
		wide[3 + i] = windows->type.dim[2 + i];
	windows = ml_build_reshape(b, windows, wide, 3 + 2 * k);
	wide[0] = g;
	wide[1] = ml_dim_floordiv(dims, w->type.dim[0], g);
	for (int i = 0; i < k; i++) {
		wide[3 + i] = w->type.dim[2 + i];
		lhs[1 + i] = 3 + k + i;
		rhs[1 + i] = 3 + i;
		perm[3 + i] = 2 + i;
	}
	w = ml_build_reshape(b, w, wide, 3 + k);
	ml_value *y = ml_build_dot(b, windows, w, &one, &zero, 1, lhs, rhs, 1 + k);
	return ml_build_reshape(b, ml_build_transpose(b, y, perm), n->out[0].type.dim, 2 + k);
}

void
ml_body_conv(ml_builder *b, const ml_node *n, ml_value *const *in, ml_value **out)
{
	ml_value *windows = ml_conv_windows(b, n, in[0]);
	int k = in[0]->type.rank - 2;

	if (ML_A(n, conv, groups).i64 == 1)
		out[0] = conv_whole(b, windows, in[1], k);
	else
		out[0] = conv_grouped(b, n, windows, in[1], k);
	if (n->nin > 2)
		out[0] = ml_op2(b, ML_OP_add, out[0], ml_per_channel(b, in[2], 2 + k));
}
