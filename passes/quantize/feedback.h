/* feedback.h -- rounding in which the error of each row goes into those that are rounded later.
 *
 * Frantar et al., "GPTQ", in the form of Chee et al., "QuIP" (there LDLQ, proven to be the same):
 * with h = X'X = (A + I) D (A + I)', A strictly upper in the order of rounding and D diagonal, row
 * i is rounded where w_i + sum over earlier t of (w_t - w'_t) A[t, i] lies.  What the layer's
 * output then loses is sum D_i e_i^2 over the errors e_i of rounding alone.  Its factor is that of
 * h with rows in reverse; no inverse is needed.
 */
#ifndef ML_QUANTIZE_FEEDBACK_H
#define ML_QUANTIZE_FEEDBACK_H
#include "../pass.h"
#include "../triangle.h"

typedef struct ml_feedback {
	int64_t k;
	int64_t *order; /* which row is the i-th */
	float *share;   /* [k, k]: what of the error of the t-th the i-th takes, t < i */
	double *left;   /* D of each row, not in order */
} ml_feedback;

/* h: a triangle of k rows.  Rows with large diagonals come first; rows that no input reaches take
 * part in nothing.  `damp` times the mean of the diagonal is added to it, ten times as much where h
 * is not positive definite then; false when it is not even so.  The same for any number of workers.
 */
bool ml_feedback_of(ml_feedback *, const double *h, int64_t k, double damp, int workers,
		    ml_arena *);
/* The same factor for inputs that are divided by s (h_ij / (s_i s_j)). */
void ml_feedback_scale(ml_feedback *, const float *s);

/* Columns that are rounded side by side. */
enum { ML_FEEDBACK_COLUMNS = 64 };
/* Rounds the numbers of row i and says what they have become; of columns that there are not,
 * nothing need be said. */
typedef void ml_round_row(void *user, int64_t i, const float *target, float *became);
/* w: [k, ML_FEEDBACK_COLUMNS], rows in order, columns that there are not 0; becomes w - w'. */
void ml_feedback_round(const ml_feedback *, float *w, ml_round_row *, void *user);
#endif
