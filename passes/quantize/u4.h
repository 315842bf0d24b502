/* u4.h -- constant f32 matrices as four bits with a scale (and zero point) per group of rows. */
#ifndef ML_QUANTIZE_U4_H
#define ML_QUANTIZE_U4_H
#include "feedback.h"

/* A matrix f32[k, n] being quantized: w[i, j] is about (q - zero) * scale of group i / size. */
typedef struct ml_u4 {
	int64_t k, n, size; /* rows of a group; they divide k */
	bool symmetric;     /* zero is 8 everywhere */
	float *w;           /* [k, n], row-major */
	uint8_t *q;         /* [k, n], 0..15 */
	float *scale;       /* [k / size, n], numbers of f16 */
	uint8_t *zero;      /* the same, 0..15 */
	int workers;        /* threads; 0: as many as there are CPUs */
} ml_u4;

/* Scales and zero points: of the ranges shrunk to 100, 96, .. 60 % the one with the least error
 * sum(importance[i] (w - w')^2) of the group, then that scale refitted by least squares.
 * importance: of each row, E[x^2] of its input; NULL counts all alike.  The arena holds working
 * memory, in ml_u4_gptq() as well. */
void ml_u4_fit(const ml_u4 *, const float *importance, ml_arena *);
/* Each number to the nearest there is. */
void ml_u4_round(const ml_u4 *);
/* What ml_u4_gptq() goes by. */
bool ml_u4_feedback(ml_feedback *, const double *h, int64_t k, int workers, ml_arena *);
/* GPTQ (feedback.h) with act-order and fixed groups.  h: a triangle, X'X of the layer's
 * inputs; false, and nothing is done, when it is singular whatever is added to its diagonal. */
bool ml_u4_gptq(const ml_u4 *, const double *h, ml_arena *);
/* Behind it: scales once more, those of one group after the other, by least squares on the layer's
 * output: s += <q, w - w'> / <q, q> with <a, b> = a' h b and q the group's values, where f16 has
 * one that loses less. */
void ml_u4_refine(const ml_u4 *, const double *h, ml_arena *);
#endif
