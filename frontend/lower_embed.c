/* lower_embed.c -- EmbedLayerNormalization and RotaryEmbedding of com.microsoft. */
#include "lower_attention.h"
#include "lower_quant.h"

/* What the rows are looked up in, and what they are normalized with; quantized, or not. */
typedef struct tables {
	ml_value *words, *positions, *segments, *scale, *bias, *mask, *at;
} tables;

static ml_value *
rows_of(ml_lower *x, ml_value *table, ml_value *index)
{
	if (!table || !index)
		return NULL;
	if (table->type.rank != 2)
		return ml_lower_fail(x, ML_ERR_SHAPE, "a table of rank %d, must have 2",
				     table->type.rank);
	return ml_build_gather(x->b, table, ml_lower_index(x, index), 0);
}

/* How many words of each batch count: s32[b] */
static ml_value *
mask_lengths(ml_lower *x, ml_value *mask)
{
	int64_t axis = 1;

	if (!mask)
		return ml_build_broadcast(x->b, ml_build_f64(x->b, ML_s32, 0), x->in[0]->type.dim,
					  1);
	mask = ML_X2(eq, mask, ML_LIKE(mask, 1));
	return ml_lower_reduce(x, ML_OP_reduce_sum, mask ? ml_build_cast(x->b, mask, ML_s32) : NULL,
			       &axis, 1, false);
}

/* `widen` makes floats of what was looked up in table i. */
static ml_value *
embed(ml_lower *x, const tables *t, ml_value *widen(ml_lower *, ml_value *, int i))
{
	ml_value *ids = x->in[0], *at = t->at, *sum;

	if (ids->type.rank != 2)
		return ml_lower_fail(x, ML_ERR_SHAPE, "input_ids have rank %d, must have 2",
				     ids->type.rank);
	if (!at)
		at = ml_build_iota(x->b, &ids->type.dim[1], 1, 0, ML_s64);
	sum = ML_X2(add, widen(x, rows_of(x, t->words, ids), 0),
		    widen(x, rows_of(x, t->positions, at), 1));
	if (x->in[1] && t->segments)
		sum = ML_X2(add, sum, widen(x, rows_of(x, t->segments, x->in[1]), 2));
	ml_value *in[] = {sum, widen(x, t->scale, 3), widen(x, t->bias, 4)};
	x->out[1] = mask_lengths(x, t->mask);
	x->out[2] = sum;
	if (!sum || !in[1] || !in[2])
		return NULL;
	for (int i = 0; i < 3; i++)
		in[i] = ml_lower_wide(x, in[i]);
	ml_node *n = ml_begin(x->b, ML_OP_layer_norm, in, 3);
	if (!n)
		return NULL;
	ML_A(n, layer_norm, axis).i64 = 2;
	ML_A(n, layer_norm, eps).f64 = ml_onnx_float(x, "epsilon", 1e-12);
	return ml_lower_as(x, ml_finish1(x->b, n), sum);
}

static ml_value *
plain(ml_lower *x, ml_value *v, int i)
{
	(void)x;
	(void)i;
	return v;
}

ml_value *
ml_lower_embed_layer_normalization(ml_lower *x)
{
	ml_value **in = x->in;
	tables t = {in[2], in[3], in[4], in[5], in[6], in[7], in[8]};

	ml_onnx_ignore(x, "mask_index_type");
	if (!ml_lower_has(x, 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6))
		return NULL;
	return embed(x, &t, plain);
}

/* Scales are operands from 8 on, zero points from 13 on, in the order of the tables. */
static ml_value *
dequantized(ml_lower *x, ml_value *v, int i)
{
	ml_value *scale = x->in[8 + i], *zero = x->in[13 + i];

	if (!v || !scale || !ml_lower_factor_fits(x, scale) ||
	    !ml_lower_zero_fits(x, zero, v->type.dtype))
		return NULL;
	return ml_lower_dequantize(x, v, ml_lower_spread(x, scale, &v->type, 0, 0),
				   ml_lower_spread(x, zero, &v->type, 0, 0));
}

ml_value *
ml_lower_qembed_layer_normalization(ml_lower *x)
{
	ml_value **in = x->in;
	tables t = {in[2], in[3], in[4], in[5], in[6], in[7], NULL};

	/* all but segments and the mask, and the scale and zero point of segments */
	if (!ml_lower_has(x, 0x3ffff & ~(1u << 1 | 1 << 4 | 1 << 7 | 1 << 10 | 1 << 15)))
		return NULL;
	return embed(x, &t, dequantized);
}

/* ---- RotaryEmbedding ---- */

/* Positions of each word: given, or counted from one given for all. */
static ml_value *
word_positions(ml_lower *x, ml_value *given, ml_dim words)
{
	if (given->type.rank == 2)
		return ml_lower_index(x, given);
	if (given->type.rank > 2)
		return ml_lower_fail(x, ML_ERR_SHAPE, "position_ids have rank %d",
				     given->type.rank);
	given = ml_lower_reshape(x, ml_lower_index(x, given), NULL, 0);
	given = ML_X2(add, given, ml_build_iota(x->b, &words, 1, 0, ML_s64));
	ml_dim row[] = {ML_INT(1), words};
	return ml_lower_reshape(x, given, row, 2);
}

/* input, positions, caches of cosines and sines */
ml_value *
ml_lower_rotary_positions(ml_lower *x)
{
	static const int64_t perm[] = {0, 2, 1, 3};
	ml_value *v = x->in[0], *turn[2];
	int64_t heads = ml_onnx_int(x, "num_heads", 0), two = 2, size,
		dim = ml_onnx_int(x, "rotary_embedding_dim", 0);
	bool interleaved = ml_onnx_int(x, "interleaved", 0) != 0, packed = v->type.rank == 3;

	ml_onnx_ignore(x, "scale");
	ml_onnx_ignore(x, "is_packed_batching");
	if (v->type.rank != 3 && v->type.rank != 4)
		return ml_lower_fail(x, ML_ERR_SHAPE, "the operand must have rank 3 or 4");
	ml_value *at = word_positions(x, x->in[1], v->type.dim[packed ? 1 : 2]);
	for (int i = 0; i < 2; i++) {
		turn[i] = rows_of(x, x->in[2 + i], at);
		turn[i] = turn[i] ? ml_build_unsqueeze(x->b, turn[i], &two, 1) : NULL;
	}
	if (!turn[0] || !turn[1])
		return NULL;
	if (packed && !heads) { /* then the whole head is turned, twice the cache's width */
		if (!ml_dim_is_int(turn[0]->type.dim[3], &size) || size < 1 ||
		    !ml_dim_is_int(v->type.dim[2], &heads))
			return ml_lower_fail(x, ML_ERR_UNSUPPORTED, "num_heads is needed");
		heads /= 2 * size;
	}
	v = packed ? ml_lower_split_heads(x, v, heads) : v;
	if (!v)
		return NULL;
	ml_dim turned = dim ? ML_INT(dim) : v->type.dim[3];
	v = ml_lower_rotate(x, ml_lower_transpose(x, v, perm), turn[0], turn[1], turned,
			    interleaved);
	v = ml_lower_transpose(x, v, perm);
	return packed ? ml_lower_merge_heads(x, v) : v;
}
