/* lower_attention.c -- Attention and RotaryEmbedding.
 *
 * Everything that keeps a query from a key (mask, causality, windows, padding) becomes one bias
 * of 0 and -inf.  Plain attention is then the composite; soft caps, and scores asked for as a
 * result, spell it out.  A query kept from all keys gives zeros, as ONNX has it, not NaN.
 */
#include "lower_attention.h"
#include <math.h>
#include <string.h>

typedef struct attention {
	ml_lower *x;
	ml_value *q, *k, *v, *bias; /* [b, h, s, d], [b, g, t, d], [b, g, t, e], to [b, h, s, t] */
	ml_dim past;                /* keys before those of this call */
	ml_value *lengths;          /* valid keys of each batch: s64[b], or NULL */
	double scale, softcap;
	bool packed, causal; /* operands were of rank 3; causality not in the bias */
} attention;

ml_value *
ml_lower_split_heads(ml_lower *x, ml_value *v, int64_t heads)
{
	static const int64_t perm[] = {0, 2, 1, 3};
	ml_dim depth;

	if (!v)
		return NULL;
	if (v->type.rank != 3 || heads < 1 ||
	    !ml_dim_divides(ML_DIMS, v->type.dim[2], ML_INT(heads), &depth))
		return ml_lower_fail(x, ML_ERR_SHAPE, "%lld heads do not divide the last dim",
				     (long long)heads);
	ml_dim shape[] = {v->type.dim[0], v->type.dim[1], ML_INT(heads), depth};
	return ml_lower_transpose(x, ml_lower_reshape(x, v, shape, 4), perm);
}

ml_value *
ml_lower_merge_heads(ml_lower *x, ml_value *v)
{
	static const int64_t perm[] = {0, 2, 1, 3};

	if (!v)
		return NULL;
	const ml_dim *d = v->type.dim;
	ml_dim shape[] = {d[0], d[2], ml_dim_mul(ML_DIMS, d[1], d[3])};
	return ml_lower_reshape(x, ml_lower_transpose(x, v, perm), shape, 3);
}

static bool
read_operands(attention *a)
{
	ml_lower *x = a->x;
	int64_t heads = ml_onnx_int(x, "q_num_heads", 0),
		groups = ml_onnx_int(x, "kv_num_heads", 0);

	a->q = x->in[0];
	a->k = x->in[1];
	a->v = x->in[2];
	a->packed = a->q->type.rank == 3;
	if (a->packed) {
		a->q = ml_lower_split_heads(x, a->q, heads);
		a->k = ml_lower_split_heads(x, a->k, groups);
		a->v = ml_lower_split_heads(x, a->v, groups);
	}
	if (!a->q || !a->k || !a->v)
		return false;
	if (a->q->type.rank != 4 || a->k->type.rank != 4 || a->v->type.rank != 4) {
		ml_lower_fail(x, ML_ERR_SHAPE, "query, key and value must have rank 3 or 4");
		return false;
	}
	return true;
}

/* Puts the cache before keys and values. */
static bool
add_past(attention *a)
{
	ml_lower *x = a->x;

	a->past = ML_INT(0);
	if (!x->in[4] != !x->in[5]) {
		ml_lower_fail(x, ML_ERR_FORMAT, "past_key and past_value come together or not");
		return false;
	}
	if (x->in[4]) {
		ml_value *key[] = {x->in[4], a->k}, *value[] = {x->in[5], a->v};
		if (key[0]->type.rank != 4 || value[0]->type.rank != 4) {
			ml_lower_fail(x, ML_ERR_SHAPE, "past_key and past_value must have rank 4");
			return false;
		}
		a->past = key[0]->type.dim[2];
		a->k = ml_build_concat(x->b, key, 2, 2);
		a->v = ml_build_concat(x->b, value, 2, 2);
	}
	x->out[1] = a->k;
	x->out[2] = a->v;
	a->q = ml_lower_wide(x, a->q);
	a->k = ml_lower_wide(x, a->k);
	a->v = ml_lower_wide(x, a->v);
	return a->q && a->k && a->v;
}

/* ---- bias ---- */

static ml_value *
zero_or_minus(attention *a, ml_value *allowed)
{
	ml_lower *x = a->x;

	return ML_X3(select, allowed, ML_LIKE(a->q, 0), ML_LIKE(a->q, -INFINITY));
}

static void
add_bias(attention *a, ml_value *more)
{
	a->bias = a->bias ? ml_op2(a->x->b, ML_OP_add, a->bias, more) : more;
}

/* The mask, continued with "no" over keys it does not reach. */
static void
add_mask(attention *a)
{
	ml_lower *x = a->x;
	ml_value *mask = x->in[3];
	ml_dim low[ML_MAX_RANK], high[ML_MAX_RANK], t = a->k->type.dim[2];
	int r = mask->type.rank;

	if (r < 1 || r > 4) {
		ml_lower_fail(x, ML_ERR_SHAPE, "the mask has rank %d", r);
		return;
	}
	for (int i = 0; i < r; i++)
		low[i] = high[i] = ML_INT(0);
	high[r - 1] = ml_dim_max(ML_DIMS, ML_INT(0), ml_dim_sub(ML_DIMS, t, mask->type.dim[r - 1]));
	mask = ml_lower_pad(x, mask, mask->type.dtype == ML_bool ? 0 : -INFINITY, low, high);
	if (mask && mask->type.dtype == ML_bool)
		mask = zero_or_minus(a, mask);
	add_bias(a, ml_lower_as(x, mask, a->q));
}

/* Position of the key less that of the query: s64[s, t], or s64[b, 1, s, t] where each batch has
 * its own number of keys. */
static ml_value *
distance(attention *a)
{
	ml_lower *x = a->x;
	ml_dim s = a->q->type.dim[2], shape[] = {s, a->k->type.dim[2]};
	ml_value *key = ml_build_iota(x->b, shape, 2, 1, ML_s64);
	ml_value *query = ml_build_iota(x->b, shape, 2, 0, ML_s64);

	if (a->lengths) {
		ml_dim column[] = {a->q->type.dim[0], ML_INT(1), ML_INT(1), ML_INT(1)};
		ml_value *n = ml_lower_reshape(x, a->lengths, column, 4);
		query = ML_X2(add, query, ML_X2(sub, n, ml_build_dim(x->b, s)));
	} else {
		query = ML_X2(add, query, ml_build_dim(x->b, a->past));
	}
	return ML_X2(sub, key, query);
}

static void
add_windows(attention *a, bool causal)
{
	ml_lower *x = a->x;
	int64_t left = ml_onnx_int(x, "left_window_size", -1);
	int64_t right = ml_onnx_int(x, "right_window_size", -1);

	if (left >= 0)
		add_bias(a, zero_or_minus(
				    a, ML_X2(le, ml_build_dim(x->b, ML_INT(-left)), distance(a))));
	if (right >= 0)
		add_bias(a, zero_or_minus(
				    a, ML_X2(le, distance(a), ml_build_dim(x->b, ML_INT(right)))));
	if (!causal)
		return;
	/* the composite aligns the last query with the last key */
	ml_dim own = ml_dim_add(ML_DIMS, a->past, a->q->type.dim[2]);
	if (!a->bias && !a->lengths && own == a->k->type.dim[2])
		a->causal = true;
	else
		add_bias(a,
			 zero_or_minus(a, ML_X2(le, distance(a), ml_build_dim(x->b, ML_INT(0)))));
}

static void
add_lengths(attention *a)
{
	ml_lower *x = a->x;
	ml_dim t = a->k->type.dim[2];
	ml_dim column[] = {a->q->type.dim[0], ML_INT(1), ML_INT(1), ML_INT(1)};
	ml_value *n = ml_lower_reshape(x, a->lengths, column, 4);

	add_bias(a, zero_or_minus(a, ML_X2(lt, ml_build_iota(x->b, &t, 1, 0, ML_s64), n)));
}

/* v, but 0 for queries kept from all keys */
static ml_value *
guard_rows(attention *a, ml_value *v)
{
	ml_lower *x = a->x;
	int64_t last = a->bias ? a->bias->type.rank - 1 : 0;

	if (!a->bias)
		return v;
	ml_value *most = ml_build_reduce(x->b, ML_OP_reduce_max, a->bias, &last, 1);
	most = ML_X2(eq, most, ML_LIKE(a->bias, -INFINITY));
	return ML_X3(select, most, ML_LIKE(v, 0), v);
}

/* ---- the two forms ---- */

ml_value *
ml_lower_attend(ml_lower *x, ml_value *q, ml_value *k, ml_value *v, ml_value *bias, double scale,
		bool causal)
{
	ml_value *in[] = {q, k, v, bias};
	ml_node *n = q && k && v ? ml_begin(x->b, ML_OP_attention, in, bias ? 4 : 3) : NULL;

	if (!n)
		return NULL;
	ML_A(n, attention, scale).f64 = scale;
	ML_A(n, attention, causal).i64 = causal;
	return ml_finish1(x->b, n);
}

static ml_value *
composite(attention *a)
{
	return guard_rows(a, ml_lower_attend(a->x, a->q, a->k, a->v, a->bias, a->scale, a->causal));
}

/* Repeats each group for the heads that share it: [b, g, t, d] -> [b, h, t, d] */
static ml_value *
repeat_groups(ml_lower *x, ml_value *v, ml_dim heads)
{
	ml_dim each;
	const ml_dim *d = v->type.dim;

	if (heads == d[1])
		return v;
	if (!ml_dim_divides(ML_DIMS, heads, d[1], &each))
		return ml_lower_fail(x, ML_ERR_SHAPE, "query heads are no multiple of key heads");
	ml_dim split[] = {d[0], d[1], ML_INT(1), d[2], d[3]}, out[] = {d[0], heads, d[2], d[3]};
	v = ml_lower_reshape(x, v, split, 5);
	split[2] = each;
	return ml_lower_reshape(x, ml_build_broadcast(x->b, v, split, 5), out, 4);
}

static ml_value *
spelled_out(attention *a, int64_t mode)
{
	static const int64_t batch[] = {0, 1}, last = 3, row = 2;
	ml_lower *x = a->x;
	ml_dim heads = a->q->type.dim[1];
	ml_value *k = repeat_groups(x, a->k, heads), *v = repeat_groups(x, a->v, heads), *s;
	ml_dtype precise;

	if (!ml_onnx_type(x, "softmax_precision", a->q->type.dtype, &precise))
		return NULL;
	s = ml_build_dot(x->b, a->q, k, batch, batch, 2, &last, &last, 1);
	s = ML_X2(mul, s, ML_LIKE(s, a->scale));
	if (mode == 0)
		x->out[3] = s;
	if (a->softcap > 0) {
		s = ML_X1(tanh, ML_X2(div, s, ML_LIKE(s, a->softcap)));
		s = ML_X2(mul, s, ML_LIKE(s, a->softcap));
	}
	if (mode == 1)
		x->out[3] = s;
	s = a->bias ? ML_X2(add, s, a->bias) : s;
	if (mode == 2)
		x->out[3] = s;
	s = ml_lower_softmax(x, s ? ml_build_cast(x->b, s, precise) : NULL, 3);
	s = guard_rows(a, ml_lower_as(x, s, a->q));
	if (mode == 3)
		x->out[3] = s;
	return ml_build_dot(x->b, s, v, batch, batch, 2, &last, &row, 1);
}

bool
ml_lower_scale_of_scores(ml_lower *x, const ml_value *q, double given, double *scale)
{
	int64_t depth;

	*scale = given;
	if (given != 0)
		return true;
	if (!ml_dim_is_int(q->type.dim[3], &depth) || depth < 1) {
		ml_lower_fail(x, ML_ERR_UNSUPPORTED, "the head size must be a number");
		return false;
	}
	*scale = 1 / sqrt((double)depth);
	return true;
}

static bool
read_scales(attention *a)
{
	ml_lower *x = a->x;

	a->softcap = ml_onnx_float(x, "softcap", 0);
	a->scale = ml_onnx_float(x, "scale", 0);
	return ml_onnx_has(x, "scale") || ml_lower_scale_of_scores(x, a->q, 0, &a->scale);
}

ml_value *
ml_lower_attention(ml_lower *x)
{
	attention a = {.x = x};
	int64_t mode = ml_onnx_int(x, "qk_matmul_output_mode", 0);
	bool scores = x->nout > 3 && *x->node->output[3];
	ml_value *y;

	if (!read_operands(&a) || !read_scales(&a) || !add_past(&a))
		return NULL;
	if (x->in[3])
		add_mask(&a);
	a.lengths = x->in[6] ? ml_lower_index(x, x->in[6]) : NULL;
	if (a.lengths)
		add_lengths(&a);
	bool causal = ml_onnx_int(x, "is_causal", 0) != 0;
	bool plain = !scores && a.softcap <= 0 && !ml_onnx_has(x, "softmax_precision");
	if (!plain && causal && !a.bias) /* the composite's causality is not for us */
		a.bias = ml_build_broadcast(x->b, ML_LIKE(a.q, 0), NULL, 0);
	add_windows(&a, causal);
	if (x->b->failed != ML_OK)
		return NULL;
	y = ml_lower_as(x, plain ? composite(&a) : spelled_out(&a, mode), x->in[0]);
	x->out[3] = ml_lower_as(x, x->out[3], x->in[0]);
	return a.packed ? ml_lower_merge_heads(x, y) : y;
}

/* ---- RotaryEmbedding ---- */

/* The rows of a cache for each position, as [b, s, 1, n] */
static ml_value *
rotation(ml_lower *x, ml_value *cache)
{
	int64_t axis = 2;

	if (x->in[3])
		cache = ml_build_gather(x->b, cache, ml_lower_index(x, x->in[3]), 0);
	if (cache && cache->type.rank != 3)
		return ml_lower_fail(x, ML_ERR_SHAPE, "the cache has the wrong rank");
	return cache ? ml_build_unsqueeze(x->b, cache, &axis, 1) : NULL;
}

/* v[b, s, h, 2n] turned by the angles whose cosine and sine are given as [b, s, 1, n] */
static ml_value *
rotate(ml_lower *x, ml_value *v, ml_value *c, ml_value *s, ml_dim n, bool interleaved)
{
	const ml_dim *d = v->type.dim;
	ml_dim pairs[] = {d[0], d[1], d[2], n, ML_INT(2)}, whole[] = {d[0], d[1], d[2], d[3]};
	ml_dim halves[] = {d[0], d[1], d[2], ML_INT(2), n}, half[] = {d[0], d[1], d[2], n};
	int axis = interleaved ? 4 : 3;
	ml_value *part[2], *turned[2];

	v = ml_lower_reshape(x, v, interleaved ? pairs : halves, 5);
	for (int i = 0; i < 2; i++)
		part[i] = ml_lower_reshape(x, ml_lower_cut(x, v, axis, ML_INT(i), ML_INT(1)), half,
					   4);
	turned[0] = ML_X2(sub, ML_X2(mul, c, part[0]), ML_X2(mul, s, part[1]));
	turned[1] = ML_X2(add, ML_X2(mul, s, part[0]), ML_X2(mul, c, part[1]));
	if (!turned[0] || !turned[1])
		return NULL;
	int64_t axes = axis;
	for (int i = 0; i < 2; i++)
		turned[i] = ml_build_unsqueeze(x->b, turned[i], &axes, 1);
	return ml_lower_reshape(x, ml_build_concat(x->b, turned, 2, axis), whole, 4);
}

ml_value *
ml_lower_rotate(ml_lower *x, ml_value *v, ml_value *c, ml_value *s, ml_dim size, bool interleaved)
{
	ml_value *turned;
	ml_dim n;

	if (!v || !c || !s)
		return NULL;
	if (!ml_dim_divides(ML_DIMS, size, ML_INT(2), &n))
		return ml_lower_fail(x, ML_ERR_SHAPE, "the rotated part must have an even size");
	turned = ml_lower_cut(x, v, 3, ML_INT(0), size);
	turned = turned ? rotate(x, turned, c, s, n, interleaved) : NULL;
	if (!turned || size == v->type.dim[3])
		return turned;
	ml_value *both[] = {turned,
			    ml_lower_cut(x, v, 3, size, ml_dim_sub(ML_DIMS, v->type.dim[3], size))};
	return ml_build_concat(x->b, both, 2, 3);
}

ml_value *
ml_lower_rotary_embedding(ml_lower *x)
{
	static const int64_t perm[] = {0, 2, 1, 3};
	ml_value *v = x->in[0], *c = rotation(x, x->in[1]), *s = rotation(x, x->in[2]);
	int64_t heads = ml_onnx_int(x, "num_heads", 0),
		dim = ml_onnx_int(x, "rotary_embedding_dim", 0);
	bool interleaved = ml_onnx_int(x, "interleaved", 0) != 0, packed = v->type.rank == 3;

	v = packed ? ml_lower_split_heads(x, v, heads) : v;
	if (!c || !s || !v)
		return NULL;
	if (v->type.rank != 4)
		return ml_lower_fail(x, ML_ERR_SHAPE, "the operand must have rank 3 or 4");
	ml_dim size = dim ? ML_INT(dim) : v->type.dim[3];
	v = ml_lower_rotate(x, ml_lower_transpose(x, v, perm), c, s, size, interleaved);
	v = ml_lower_transpose(x, v, perm);
	return packed ? ml_lower_merge_heads(x, v) : v;
}
