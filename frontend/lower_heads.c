/* lower_heads.c -- Attention, QAttention and MultiHeadAttention of com.microsoft.
 *
 * Masks of any form become numbers added to the scores: `mask_filter_value` where a key is hidden.
 * That is finite, so a query kept from all keys sees them all, as in ONNX Runtime.
 */
#include "lower_attention.h"
#include "lower_quant.h"
#include <string.h>

typedef struct heads {
	ml_lower *x;
	ml_value *q, *k, *v;  /* [b, h, s, d], [b, h, t, d], [b, h, t, e] */
	ml_value *bias;       /* to [b, h, s, t] */
	const ml_value *like; /* whose type the results have */
	int64_t count;
} heads;

static bool
read_heads(heads *h)
{
	h->count = ml_onnx_int(h->x, "num_heads", 0);
	if (h->count > 0)
		return true;
	ml_lower_fail(h->x, ML_ERR_VALUE, "num_heads is %lld", (long long)h->count);
	return false;
}

/* ---- masks ---- */

static void
add_bias(heads *h, ml_value *more)
{
	ml_lower *x = h->x;

	more = ml_lower_as(x, more, h->q);
	h->bias = h->bias ? ML_X2(add, h->bias, more) : more;
}

static ml_value *
positions(heads *h)
{
	return ml_build_iota(h->x->b, &h->k->type.dim[2], 1, 0, ML_s64);
}

/* Entries first..first + b - 1 of a list, one for each batch: [b, 1, 1, 1] */
static ml_value *
by_batch(heads *h, ml_value *list, ml_dim first)
{
	ml_lower *x = h->x;
	ml_dim b = h->q->type.dim[0], column[] = {b, ML_INT(1), ML_INT(1), ML_INT(1)};

	return ml_lower_reshape(x, ml_lower_cut(x, ml_lower_index(x, list), 0, first, b), column,
				4);
}

/* The number of keys of each batch; behind them, where keys begin when they do not at 0, or where
 * rows of queries and of keys begin in memory, and end: b + 1 each, which shapes say as well. */
static ml_value *
seen_by_length(heads *h, ml_value *mask)
{
	ml_lower *x = h->x;
	ml_dim b = h->q->type.dim[0], n = mask->type.dim[0];
	ml_value *seen = ML_X2(lt, positions(h), by_batch(h, mask, ML_INT(0)));

	if (n == ml_dim_mul(ML_DIMS, b, ML_INT(2)))
		return ML_X2(and, seen, ML_X2(le, by_batch(h, mask, b), positions(h)));
	if (n == ml_dim_add(ML_DIMS, ml_dim_mul(ML_DIMS, b, ML_INT(3)), ML_INT(2)))
		return seen;
	if (!ml_require_equal(x->b, n, b, "the mask has one length for each batch"))
		return x->b->failed != ML_OK
			       ? NULL
			       : ml_lower_fail(x, ML_ERR_SHAPE,
					       "a mask of rank 1 has one or two numbers for each "
					       "batch, or three and two more");
	return seen;
}

/* What a query may see: bool that broadcasts to [b, 1, s, t]. */
static ml_value *
seen_by_mask(heads *h, ml_value *mask)
{
	ml_lower *x = h->x;
	const ml_dim *d = mask->type.dim;
	ml_dim shape[] = {d[0], ML_INT(1), ML_INT(1), ML_INT(1)};

	if (!ml_is_integer(mask->type.dtype))
		return ml_lower_fail(x, ML_ERR_TYPE, "the mask is %s, must be an integer",
				     ml_dtype_name(mask->type.dtype));
	if (mask->type.rank == 1)
		return seen_by_length(h, mask);
	if (mask->type.rank != 2 && mask->type.rank != 3)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "masks of rank %d are not supported",
				     mask->type.rank);
	shape[3] = d[mask->type.rank - 1];
	if (mask->type.rank == 3)
		shape[2] = d[1];
	return ML_X2(lt, ML_LIKE(mask, 0), ml_lower_reshape(x, mask, shape, 4));
}

static bool
add_mask(heads *h, ml_value *mask)
{
	ml_lower *x = h->x;
	double filter = ml_onnx_float(x, "mask_filter_value", -10000);

	if (!mask)
		return true;
	ml_value *seen = seen_by_mask(h, mask);
	add_bias(h, ML_X3(select, seen, ML_LIKE(h->q, 0), ML_LIKE(h->q, filter)));
	return h->bias != NULL;
}

/* ---- keys and values of runs before ---- */

static void
put_behind(heads *h, ml_value *past, ml_value **v)
{
	ml_value *both[] = {past, *v};

	*v = past && *v ? ml_build_concat(h->x->b, both, 2, 2) : NULL;
}

/* past[2, b, h, p, d]: keys and values; the same comes back with those of this run behind. */
static void
add_packed_past(heads *h, ml_value *past)
{
	ml_lower *x = h->x;
	int64_t axis = 0;
	ml_value *part[2] = {h->k, h->v};

	for (int i = 0; past && i < 2; i++) {
		ml_value *cut =
			past->type.rank == 5
				? ml_lower_cut(x, past, 0, ML_INT(i), ML_INT(1))
				: ml_lower_fail(x, ML_ERR_SHAPE, "past has rank %d, must have 5",
						past->type.rank);
		cut = cut ? ml_build_squeeze(x->b, cut, &axis, 1) : NULL;
		put_behind(h, cut, &part[i]);
	}
	h->k = part[0];
	h->v = part[1];
	if (x->nout < 2 || !h->k || !h->v)
		return;
	for (int i = 0; i < 2; i++)
		part[i] = ml_build_unsqueeze(x->b, part[i], &axis, 1);
	x->out[1] = part[0] && part[1] ? ml_build_concat(x->b, part, 2, 0) : NULL;
}

/* ---- the product ---- */

static ml_value *
attend(heads *h)
{
	ml_lower *x = h->x;
	double scale;
	bool causal = ml_onnx_int(x, "unidirectional", 0) != 0;

	if (!h->q || !h->k || !h->v ||
	    !ml_lower_scale_of_scores(x, h->q, ml_onnx_float(x, "scale", 0), &scale))
		return NULL;
	ml_value *y =
		ml_lower_attend(x, ml_lower_wide(x, h->q), ml_lower_wide(x, h->k),
				ml_lower_wide(x, h->v), ml_lower_wide(x, h->bias), scale, causal);
	return ml_lower_merge_heads(x, ml_lower_as(x, y, h->like));
}

/* Column ranges of x . w + bias: queries, keys and values. */
static bool
split_product(heads *h, ml_value *v)
{
	ml_lower *x = h->x;
	int given, axis = 2;
	const int64_t *size = ml_onnx_ints(x, "qkv_hidden_sizes", &given);
	ml_dim first = ML_INT(0), each;
	ml_value **part[] = {&h->q, &h->k, &h->v};

	if (!v)
		return false;
	if (v->type.rank != 3 || (given && given != 3) ||
	    (!given && !ml_dim_divides(ML_DIMS, v->type.dim[axis], ML_INT(3), &each))) {
		ml_lower_fail(x, ML_ERR_SHAPE, "the weights do not give queries, keys and values");
		return false;
	}
	for (int i = 0; i < 3; i++) {
		ml_dim n = given ? ML_INT(size[i]) : each;
		*part[i] = ml_lower_split_heads(x, ml_lower_cut(x, v, axis, first, n), h->count);
		first = ml_dim_add(ML_DIMS, first, n);
	}
	if (!ml_dim_never_equal(ML_DIMS, first, v->type.dim[axis]))
		return h->q && h->k && h->v;
	ml_lower_fail(x, ML_ERR_SHAPE, "qkv_hidden_sizes are not what the weights give");
	return false;
}

static bool
refuses(ml_lower *x, const char *attr)
{
	if (!ml_onnx_int(x, attr, 0))
		return false;
	ml_lower_fail(x, ML_ERR_UNSUPPORTED, "%s is not supported", attr);
	return true;
}

/* Behind the product: mask, past, scores. */
static ml_value *
self_attention(heads *h, ml_value *product, ml_value *mask, ml_value *past, ml_value *bias)
{
	ml_lower *x = h->x;

	ml_onnx_ignore(x, "rotary_embedding_dim");
	if (!read_heads(h) || refuses(x, "do_rotary") || refuses(x, "past_present_share_buffer") ||
	    !split_product(h, product))
		return NULL;
	add_packed_past(h, past);
	if (!h->k || !h->v || !add_mask(h, mask))
		return NULL;
	if (bias)
		add_bias(h, bias);
	return attend(h);
}

/* input, weights, bias, mask, past, what is added to scores, past's length */
ml_value *
ml_lower_packed_attention(ml_lower *x)
{
	heads h = {.x = x, .like = x->in[0]};
	ml_value *v = ml_lower_product(x, x->in[0], x->in[1]);

	if (x->in[6])
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "past_sequence_length is given");
	v = x->in[2] ? ML_X2(add, v, x->in[2]) : v;
	return self_attention(&h, v, x->in[3], x->in[4], x->in[5]);
}

/* input, weights, bias, their scales, mask, zero points, past */
ml_value *
ml_lower_qattention(ml_lower *x)
{
	heads h = {.x = x, .like = x->in[2]};
	ml_value *v = ml_lower_integer_product(x, x->in[0], x->in[6], x->in[1], x->in[7]);

	v = ml_lower_scale_sum(x, v, x->in[3], x->in[4], 2, NULL);
	v = ML_X2(add, ml_lower_as(x, v, x->in[2]), x->in[2]);
	return self_attention(&h, v, x->in[5], x->in[8], NULL);
}

/* ---- MultiHeadAttention ---- */

/* Operand i, whose part of the bias begins at *first: [b, s, n] with it as heads; [b, h, s, d] as
 * it is. */
static ml_value *
read_part(heads *h, int i, ml_dim *first)
{
	ml_lower *x = h->x;
	ml_value *v = x->in[i], *bias = x->in[3];

	if (v->type.rank == 4 && i)
		return v;
	if (v->type.rank != 3)
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "operand %d of rank %d", i,
				     v->type.rank);
	if (bias) {
		ml_dim n = v->type.dim[2];
		v = ML_X2(add, v, ml_lower_cut(x, bias, 0, *first, n));
		*first = ml_dim_add(ML_DIMS, *first, n);
	}
	return ml_lower_split_heads(x, v, h->count);
}

/* Heads beside one another in one operand: part i of v[b, s, h, n, d] */
static ml_value *
packed_part(heads *h, ml_value *v, int i)
{
	static const int64_t perm[] = {0, 2, 1, 3};
	ml_lower *x = h->x;
	const ml_dim *d = v->type.dim;
	ml_dim shape[] = {d[0], d[1], d[2], d[4]};

	v = ml_lower_reshape(x, ml_lower_cut(x, v, 3, ML_INT(i), ML_INT(1)), shape, 4);
	return ml_lower_transpose(x, v, perm);
}

static bool
is_packed(heads *h, int i, int parts)
{
	const ml_value *v = h->x->in[i];

	return v->type.rank == 5 && ml_dim_equals(v->type.dim[2], h->count) &&
	       ml_dim_equals(v->type.dim[3], parts);
}

/* Queries, keys and values, in one operand, in two or in three. */
static bool
read_parts(heads *h)
{
	ml_lower *x = h->x;
	ml_dim first = ML_INT(0);

	if (x->in[1] && x->in[2]) {
		h->q = read_part(h, 0, &first);
		h->k = read_part(h, 1, &first);
		h->v = read_part(h, 2, &first);
		return h->q && h->k && h->v;
	}
	bool one = !x->in[1] && !x->in[2] && is_packed(h, 0, 3);
	bool two = x->in[1] && !x->in[2] && is_packed(h, 1, 2);
	if ((!one && !two) || x->in[3])
		return ml_lower_fail(x, ML_ERR_UNSUPPORTED,
				     "keys or values are missing: packed they have rank 5, the "
				     "heads, and no bias");
	h->q = one ? packed_part(h, x->in[0], 0) : read_part(h, 0, &first);
	h->k = packed_part(h, x->in[one ? 0 : 1], one ? 1 : 0);
	h->v = packed_part(h, x->in[one ? 0 : 1], one ? 2 : 1);
	return h->q && h->k && h->v;
}

static bool
multi_head_fits(heads *h)
{
	ml_lower *x = h->x;

	if (!read_heads(h))
		return false;
	if (x->in[3] && x->in[3]->type.rank != 1)
		ml_lower_fail(x, ML_ERR_SHAPE, "the bias must be a list");
	else if (!x->in[6] != !x->in[7])
		ml_lower_fail(x, ML_ERR_FORMAT, "past_key and past_value come together or not");
	else if (x->in[8] || x->in[9])
		ml_lower_fail(x, ML_ERR_UNSUPPORTED,
			      "past_sequence_length and cache_indirection are not supported");
	return x->b->failed == ML_OK;
}

/* query, key, value, bias, padding mask, what is added to scores, past keys and values */
ml_value *
ml_lower_multi_head_attention(ml_lower *x)
{
	heads h = {.x = x, .like = x->in[0]};

	if (!multi_head_fits(&h) || !read_parts(&h))
		return NULL;
	if (x->in[6]) {
		put_behind(&h, x->in[6], &h.k);
		put_behind(&h, x->in[7], &h.v);
	}
	if (!h.q || !h.k || !h.v || !add_mask(&h, x->in[4]))
		return NULL;
	if (x->in[5])
		add_bias(&h, x->in[5]);
	x->out[1] = h.k;
	x->out[2] = h.v;
	return attend(&h);
}
