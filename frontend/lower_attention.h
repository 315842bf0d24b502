/* lower_attention.h -- heads, scores and rotations: what spellings of attention share. */
#ifndef ML_LOWER_ATTENTION_H
#define ML_LOWER_ATTENTION_H
#include "lower.h"

/* [b, s, h*d] -> [b, h, s, d] and back */
ml_value *ml_lower_split_heads(ml_lower *, ml_value *, int64_t heads);
ml_value *ml_lower_merge_heads(ml_lower *, ml_value *);
/* attention(q, k, v) of [b, h, s, d]; bias, added to scores, may be NULL */
ml_value *ml_lower_attend(ml_lower *, ml_value *q, ml_value *k, ml_value *v, ml_value *bias,
			  double scale, bool causal);
/* The factor of scores of q[b, h, s, d]: what is given, or where that is 0 what the head size
 * says.  False, reported, when that is no number. */
bool ml_lower_scale_of_scores(ml_lower *, const ml_value *q, double given, double *scale);
/* v[b, s, h, d], its first `size` elements turned by the angles whose cosine and sine are given as
 * [b, s, 1, size / 2]. */
ml_value *ml_lower_rotate(ml_lower *, ml_value *v, ml_value *c, ml_value *s, ml_dim size,
			  bool interleaved);
#endif
