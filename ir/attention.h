/* attention.h -- who reads keys and values; attention on 8-bit integers taken apart, for kernels
 * that compute its parts. */
#ifndef ML_ATTENTION_H
#define ML_ATTENTION_H
#include "ir.h"

enum {
	ML_ATTENTION_KEYS = 256,    /* keys whose probabilities share a scale */
	ML_ATTENTION_CERTAIN = 181, /* the largest probability as an integer */
	ML_ATTENTION_SIZE = 1024,   /* the largest of a query on integers */
};

/* Rows as integers: round(x * (most / top)), moved for queries. */
typedef struct ml_attention_rows {
	ml_value *magnitude, *top; /* the largest of the row; the same, but not zero */
	ml_value *integers;
} ml_attention_rows;

/* Values of the body: b batches, g heads of keys with r heads of queries each, s queries, t keys.
 */
typedef struct ml_attention_parts {
	ml_attention_rows q, k, v; /* [b, g, r, s, d], [b, g, t, d], [b, g, t, e] */
	ml_value *k_total, *k_sum; /* [b, g, t, 1]: a key's integers added; what offsets add */
	ml_value *v_log, *v_by;    /* [b, g, t, 1]: of a value's scale v: ln v, 1 / v */
	ml_value *products;        /* [b, g, r, s, t]: of integers */
	ml_value *q_scale;         /* [b, g, r, s, 1] */
	ml_value *scores;          /* [b, g * r, s, t]: masked */
	ml_node *seen;             /* the select of a causal mask, or NULL */
	ml_value *out;             /* [b, g, 1, r, s, e]: the quotient */
} ml_attention_parts;

/* Is this use one as keys or values, or a view's that has only such uses? */
bool ml_is_for_attention(const ml_use *);

/* The body of n, attention on integers, on f32 operands `in`; NULL when a builder failed. */
ml_value *ml_attention_on_integers(ml_builder *, const ml_node *n, ml_value *const *in,
				   ml_attention_parts *);
#endif
