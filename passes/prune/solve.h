/* solve.h -- least squares in closed form: sums of products, and the change of weights they ask
 * for.
 */
#ifndef ML_PRUNE_SOLVE_H
#define ML_PRUNE_SOLVE_H
#include "../triangle.h"

/* Sums over rows of x, d wide, and of what is missing to the target, e, o wide. */
typedef struct ml_gram {
	int64_t d, o;
	double rows;
	double *xx; /* a triangle of d rows */
	double *xe; /* d x o */
	double *x, *e;
	double ee; /* of squares */
} ml_gram;
ml_gram ml_gram_new(ml_arena *, int64_t d, int64_t o);

/* The change of weights dw (d x o) and bias db (o) that leaves the least squares of e - x dw - db,
 * with `ridge` times the mean variance of x against large changes.  False when the matrix is not
 * positive definite. */
bool ml_gram_solve(const ml_gram *, double ridge, ml_arena *, double *dw, double *db);
/* The sum of squares that remains after such a change. */
double ml_gram_remaining(const ml_gram *, const double *dw, const double *db, ml_arena *);

/* What is left of the variance of each column of x when all others are known, per row sum. */
bool ml_gram_conditional(const ml_gram *, double ridge, ml_arena *, double *left);
#endif
