/* lower_group_query.c -- GroupQueryAttention of com.microsoft: causal, with a cache that grows.
 *
 * A prompt may be padded on its right: what lies behind a batch's length is seen by padding alone,
 * so causality says all.  Behind a past every batch has the same length, which is checked when the
 * model runs; a cache that past and present share, and batches of unequal length, are not known.
 */
#include "lower_attention.h"
#include <math.h>

enum {
	PAST_KEY = 3,
	PAST_VALUE,
	LENGTHS,
	TOTAL,
	COSINES,
	SINES,
	POSITIONS,
	BIAS,
	SINK,
};

typedef struct group_query {
	ml_lower *x;
	int64_t heads, groups, window;
	ml_value *q, *k, *v; /* [b, h, s, d], [b, g, t, d] */
	ml_value *checked;   /* s64[b, 1] of zeros, once lengths are what they must be; or NULL */
	ml_dim past, words;
} group_query;

/* ---- what is not known ---- */

static bool
is_known(ml_lower *x)
{
	static const char *const unknown[] = {"smooth_softmax", "sliding_window_cache", "qk_output",
					      "kv_cache_bit_width"};

	for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
		if (ml_onnx_int(x, unknown[i], 0) > 0)
			return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "%s is not supported",
					     unknown[i]);
	if (ml_onnx_float(x, "softcap", 0) > 0)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "softcap is not supported");
	for (int i = SINK; i < x->nin; i++)
		if (*x->node->input[i])
			return ml_lower_fail(x, ML_ERR_UNSUPPORTED,
					     "input %d is given: only those before head_sink are "
					     "supported",
					     i);
	return true;
}

static bool
read_attributes(group_query *a)
{
	ml_lower *x = a->x;
	static const char *const ignored[] = {"k_quant_type", "v_quant_type", "qk_norm_epsilon",
					      "q_norm_epsilon", "k_norm_epsilon"};

	for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
		ml_onnx_ignore(x, ignored[i]);
	a->heads = ml_onnx_int(x, "num_heads", 0);
	a->groups = ml_onnx_int(x, "kv_num_heads", 0);
	a->window = ml_onnx_int(x, "local_window_size", -1);
	if (a->heads < 1 || a->groups < 1 || a->heads % a->groups || a->heads > INT32_MAX)
		return ml_lower_fail(x, ML_ERR_VALUE, "num_heads is %lld and kv_num_heads %lld",
				     (long long)a->heads, (long long)a->groups);
	if (!x->in[LENGTHS] || !x->in[TOTAL])
		return ml_lower_fail(x, ML_ERR_FORMAT,
				     "seqlens_k and total_sequence_length are needed");
	if (!x->in[PAST_KEY] != !x->in[PAST_VALUE])
		return ml_lower_fail(x, ML_ERR_FORMAT,
				     "past_key and past_value come together or not");
	return is_known(x);
}

/* ---- operands ---- */

/* Heads of all three side by side in one operand, or of each in its own: [b, s, n, d] */
static bool
read_operands(group_query *a)
{
	ml_lower *x = a->x;
	ml_value *packed = x->in[0], **part[] = {&a->q, &a->k, &a->v};
	int64_t count[] = {a->heads, a->groups, a->groups}, all = a->heads + 2 * a->groups;
	bool together = !x->in[1] && !x->in[2];
	ml_dim depth, first = ML_INT(0);

	if (!together && (!x->in[1] || !x->in[2]))
		return ml_lower_fail(x, ML_ERR_FORMAT, "key and value come together or not");
	if (packed->type.rank != 3 || !ml_dim_divides(ML_DIMS, packed->type.dim[2],
						      ML_INT(together ? all : a->heads), &depth))
		return ml_lower_fail(x, ML_ERR_SHAPE, "the heads do not divide the query");
	for (int i = 0; i < 3; i++) {
		ml_value *v = together ? packed : x->in[i];
		ml_dim n = ml_dim_mul(ML_DIMS, ML_INT(count[i]), depth);
		if (v->type.rank != 3)
			return ml_lower_fail(x, ML_ERR_SHAPE, "operand %d has rank %d, must have 3",
					     i, v->type.rank);
		v = together ? ml_lower_cut(x, v, 2, first, n) : v;
		first = ml_dim_add(ML_DIMS, first, n);
		if (!v)
			return false;
		ml_dim shape[] = {v->type.dim[0], v->type.dim[1], ML_INT(count[i]), depth};
		*part[i] = ml_lower_reshape(x, v, shape, 4);
	}
	a->words = packed->type.dim[1];
	return a->q && a->k && a->v;
}

/* Behind a past all batches have the length of the cache and this call together. */
static bool
check_lengths(group_query *a)
{
	ml_lower *x = a->x;
	ml_value *past = x->in[PAST_KEY];
	ml_dim column[] = {a->q->type.dim[0], ML_INT(1)};
	int64_t n;

	a->past = past && past->type.rank == 4 ? past->type.dim[2] : ML_INT(0);
	if (past && (past->type.rank != 4 || x->in[PAST_VALUE]->type.rank != 4))
		return ml_lower_fail(x, ML_ERR_SHAPE, "past_key and past_value must have rank 4");
	ml_dim all = ml_dim_add(ML_DIMS, a->past, a->words);
	const ml_dim *total = ml_content(x->b, x->in[TOTAL], &n);
	if (total && n == 1 && total[0] && past &&
	    !ml_require_equal(x->b, total[0], all,
			      "total_sequence_length is that of the past and "
			      "this call"))
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED,
				     "a cache that past and present share is not supported");
	if (ml_dim_equals(a->past, 0))
		return true;
	ml_value *over = ML_X2(sub, ml_lower_index(x, x->in[LENGTHS]),
			       ml_build_dim(x->b, ml_dim_sub(ML_DIMS, all, ML_INT(1))));
	ml_value *grown = ML_X2(lt, ml_build_dim(x->b, ML_INT(0)), ml_build_dim(x->b, a->past));
	over = ML_X3(select, grown, over, ml_build_dim(x->b, ML_INT(0)));
	a->checked = ml_lower_wrap(x, ML_X2(mul, over, over), ML_INT(1));
	a->checked = ml_lower_reshape(x, a->checked, column, 2);
	return a->checked != NULL;
}

/* ---- rotation ---- */

static bool
rotate(group_query *a)
{
	ml_lower *x = a->x;
	ml_value *turn[] = {x->in[COSINES], x->in[SINES]}, *at = x->in[POSITIONS];
	bool interleaved = ml_onnx_int(x, "rotary_interleaved", 0) != 0;
	ml_dim row[] = {ML_INT(1), a->words};
	int64_t axis = 2;

	if (!turn[0] || !turn[1] || turn[0]->type.rank != 2 || turn[1]->type.rank != 2)
		return ml_lower_fail(x, ML_ERR_SHAPE, "do_rotary needs caches of rank 2");
	if (at && at->type.rank != 2)
		return ml_lower_fail(x, ML_ERR_SHAPE, "position_ids have rank %d, must have 2",
				     at->type.rank);
	if (at) {
		at = ml_lower_index(x, at);
	} else {
		at = ml_build_iota(x->b, &a->words, 1, 0, ML_s64);
		at = ml_lower_reshape(x, ML_X2(add, at, ml_build_dim(x->b, a->past)), row, 2);
	}
	at = a->checked ? ML_X2(add, at, a->checked) : at;
	ml_dim size = ml_dim_mul(ML_DIMS, turn[0]->type.dim[1], ML_INT(2));
	for (int i = 0; i < 2; i++) {
		turn[i] = at ? ml_build_gather(x->b, ml_lower_as(x, turn[i], a->q), at, 0) : NULL;
		turn[i] = turn[i] ? ml_build_unsqueeze(x->b, turn[i], &axis, 1) : NULL;
	}
	a->q = ml_lower_rotate(x, a->q, turn[0], turn[1], size, interleaved);
	a->k = ml_lower_rotate(x, a->k, turn[0], turn[1], size, interleaved);
	return a->q && a->k;
}

/* ---- the product ---- */

/* Keys too far before a query: 0 or -inf, [s, t] */
static ml_value *
beyond_window(group_query *a)
{
	ml_lower *x = a->x;
	ml_dim shape[] = {a->words, a->k->type.dim[2]};
	ml_value *key = ml_build_iota(x->b, shape, 2, 1, ML_s64);
	ml_value *query = ml_build_iota(x->b, shape, 2, 0, ML_s64);
	ml_value *back = ML_X2(sub, ML_X2(add, query, ml_build_dim(x->b, a->past)), key);
	ml_value *seen = ML_X2(lt, back, ml_build_dim(x->b, ML_INT(a->window)));

	return ML_X3(select, seen, ML_LIKE(a->q, 0), ML_LIKE(a->q, -INFINITY));
}

static ml_value *
attend(group_query *a)
{
	ml_lower *x = a->x;
	bool causal = ml_onnx_int(x, "causal", 1) != 0;
	ml_value *bias = x->in[BIAS] ? ml_lower_wide(x, x->in[BIAS]) : NULL, *past[2];
	double scale;

	for (int i = 0; i < 2 && x->in[PAST_KEY]; i++) {
		ml_value **v = i ? &a->v : &a->k;
		past[0] = x->in[PAST_KEY + i];
		past[1] = *v;
		*v = ml_build_concat(x->b, past, 2, 2);
	}
	x->out[1] = a->k;
	x->out[2] = a->v;
	if (!a->k || !a->v ||
	    !ml_lower_scale_of_scores(x, a->q, ml_onnx_float(x, "scale", 0), &scale))
		return NULL;
	a->q = ml_lower_wide(x, a->q);
	if (causal && a->window > 0) {
		ml_value *hidden = beyond_window(a);
		bias = bias ? ML_X2(add, bias, hidden) : hidden;
	}
	return ml_lower_attend(x, a->q, ml_lower_wide(x, a->k), ml_lower_wide(x, a->v), bias, scale,
			       causal);
}

ml_value *
ml_lower_group_query_attention(ml_lower *x)
{
	static const int64_t perm[] = {0, 2, 1, 3};
	group_query a = {.x = x};

	if (!read_attributes(&a) || !read_operands(&a) || !check_lengths(&a))
		return NULL;
	if (ml_onnx_int(x, "do_rotary", 0)) {
		if (!rotate(&a))
			return NULL;
	} else if (a.checked) { /* zeros, so that they are not left out */
		ml_dim each[] = {a.q->type.dim[0], ML_INT(1), ML_INT(1), ML_INT(1)};
		ml_value *none = ml_lower_as(x, ml_lower_reshape(x, a.checked, each, 4), a.q);
		a.q = ML_X2(add, a.q, none);
	}
	ml_onnx_ignore(x, "rotary_interleaved");
	a.q = ml_lower_transpose(x, a.q, perm);
	a.k = ml_lower_transpose(x, a.k, perm);
	a.v = ml_lower_transpose(x, a.v, perm);
	if (!a.q || !a.k || !a.v)
		return NULL;
	return ml_lower_merge_heads(x, ml_lower_as(x, attend(&a), x->in[0]));
}
