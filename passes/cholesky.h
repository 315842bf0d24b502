/* cholesky.h -- the Cholesky factor of a symmetric matrix, and what is solved with it. */
#ifndef ML_CHOLESKY_H
#define ML_CHOLESKY_H
#include "../ir/arena.h"
#include <stdbool.h>
#include <stdint.h>

/* In place: the lower triangle of a (n x n, row-major, symmetric) becomes L with a = L L'; what is
 * above the diagonal is not read and not written.  False when a is not positive definite; it is
 * spoiled then.  Blocked; the same bits for any number of workers (0: as many as there are CPUs).
 * The arena holds working memory. */
bool ml_cholesky(double *a, int64_t n, int workers, ml_arena *);
/* b (n x o) becomes the solution of L L' y = b. */
void ml_cholesky_solve(const double *l, int64_t n, double *b, int64_t o, ml_arena *);
/* The sum of squares of each column of the inverse of L: the diagonal of that of L L'. */
void ml_cholesky_squares(const double *l, int64_t n, double *squares, ml_arena *);
#endif
