/* awq.h -- factors that let channels with large inputs lose less when weights become four bits.
 *
 * Lin et al., "AWQ": x W = (x / s) (s W) with s_j = mean|x_j|^r for each input channel j, divided
 * by sqrt(max s min s), r of 0, 1/20, ..., 19/20 by what the layer's output loses.  The published
 * search rounds to nearest.  Here it knows what comes behind: errors of GPTQ count as it leaves
 * them (feedback.h), and x / s becomes s8 per row and group, as kernels do it.
 */
#ifndef ML_AWQ_H
#define ML_AWQ_H
#include "moments.h"

enum { ML_AWQ_STEPS = 20 };

/* The layers that read one input. */
typedef struct ml_awq {
	const ml_moments *x;   /* with magnitudes and rows */
	const double *left;    /* what an error of each row costs behind GPTQ; NULL: h's diagonal */
	const float *const *w; /* f32[k, columns] of each */
	const int64_t *columns;
	int layers;
	int64_t size; /* of a group */
	bool symmetric;
	int workers;
} ml_awq;

/* The published s for this r. */
void ml_awq_factors(const ml_moments *, double r, float *s);
/* What results lose with s, squared, in parts of what they are, summed over layers. */
double ml_awq_error(const ml_awq *, const float *s, ml_arena *);
/* The r with the least error; 0, and s is 1 throughout, where none is better than that by a
 * twentieth.  The grid is left where steps gain nothing any more. */
double ml_awq_choose(const ml_awq *, float *s, ml_arena *);

/* ---- absorb.c ---- */

/* Is x made by a norm, and read by nothing but linear layers with constant weights? */
bool ml_can_absorb(const ml_value *x);
/* Chooses factors for the layers that read m->value as their input; 0: none. */
double ml_awq_find(const ml_pass_ctx *, const ml_moments *m, int64_t size, float *s, ml_arena *);
/* The norm divides x by s, and layers multiply their rows by it: the function stays. */
void ml_absorb(ml_pass_ctx *, ml_value *x, const float *s);
#endif
