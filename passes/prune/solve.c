/* solve.c -- least squares in double precision: what stands around Cholesky.  All sums run
 * in a fixed order, so that the same data give the same weights everywhere. */
#include "solve.h"
#include "../../ir/crew.h"
#include "../cholesky.h"
#include <math.h>
#include <string.h>

enum {
	LANES = 8,
	ALONE = 256 /* rows below which threads are not worth starting */
};

ml_gram
ml_gram_new(ml_arena *arena, int64_t d, int64_t o)
{
	return (ml_gram){.d = d,
			 .o = o,
			 .xx = ML_NEW_ARRAY(arena, double, ml_triangle_size(d)),
			 .xe = ML_NEW_ARRAY(arena, double, d *o),
			 .x = ML_NEW_ARRAY(arena, double, d),
			 .e = ML_NEW_ARRAY(arena, double, o)};
}

/* Independent lanes, so that the compiler may use vectors without reordering a sum. */
static double
dot(const double *a, const double *b, int64_t n)
{
	double lane[LANES] = {0}, sum = 0;
	int64_t i = 0;

	for (; i + LANES <= n; i += LANES)
		for (int k = 0; k < LANES; k++)
			lane[k] += a[i + k] * b[i + k];
	for (; i < n; i++)
		sum += a[i] * b[i];
	for (int k = 0; k < LANES; k++)
		sum += lane[k];
	return sum;
}

static void
add_scaled(double *y, double a, const double *x, int64_t n)
{
	for (int64_t i = 0; i < n; i++)
		y[i] += a * x[i];
}

/* The factor of x's covariance, as sums, with a ridge; NULL when there is none. */
static double *
factor(const ml_gram *g, double ridge, ml_arena *arena)
{
	int64_t d = g->d;
	double *a = ML_NEW_ARRAY(arena, double, d *d), trace = 0;

	/* Around the means: what the bias takes, the weights need not. */
	for (int64_t i = 0; i < d; i++) {
		for (int64_t j = 0; j <= i; j++)
			a[i * d + j] = g->xx[ml_triangle_at(i, j)] - g->x[i] * g->x[j] / g->rows;
		trace += a[i * d + i];
	}
	if (!(trace > 0) || !isfinite(trace))
		return NULL;
	for (int64_t i = 0; i < d; i++)
		a[i * d + i] += ridge * trace / (double)d;
	return ml_cholesky(a, d, 0, arena) ? a : NULL;
}

bool
ml_gram_solve(const ml_gram *g, double ridge, ml_arena *arena, double *dw, double *db)
{
	int64_t d = g->d, o = g->o;
	double *l = factor(g, ridge, arena);

	if (!l)
		return false;
	for (int64_t i = 0; i < d; i++) {
		memcpy(dw + i * o, g->xe + i * o, (size_t)o * sizeof *dw);
		add_scaled(dw + i * o, -g->x[i] / g->rows, g->e, o);
	}
	ml_cholesky_solve(l, d, dw, o, arena);
	for (int64_t k = 0; k < o; k++)
		db[k] = g->e[k] / g->rows;
	for (int64_t i = 0; i < d; i++)
		add_scaled(db, -g->x[i] / g->rows, dw + i * o, o);
	return true;
}

/* One over the diagonal of the inverse. */
bool
ml_gram_conditional(const ml_gram *g, double ridge, ml_arena *arena, double *left)
{
	double *l = factor(g, ridge, arena);

	if (!l)
		return false;
	ml_cholesky_squares(l, g->d, left, arena);
	for (int64_t i = 0; i < g->d; i++)
		left[i] = 1 / left[i];
	return true;
}

typedef struct remaining {
	const ml_gram *g;
	const double *dw, *db;
	double *row; /* what each row of dw changes */
} remaining;

static void
remain_part(void *user, int worker, int64_t i)
{
	const remaining *r = user;
	const ml_gram *g = r->g;
	int64_t o = g->o;
	const double *own = r->dw + i * o, *xx = g->xx + ml_triangle_at(i, 0);
	double left = -2 * dot(own, g->xe + i * o, o);

	(void)worker;
	left += 2 * g->x[i] * dot(own, r->db, o);
	left += xx[i] * dot(own, own, o);
	for (int64_t j = 0; j < i; j++)
		left += 2 * xx[j] * dot(own, r->dw + j * o, o);
	r->row[i] = left;
}

double
ml_gram_remaining(const ml_gram *g, const double *dw, const double *db, ml_arena *arena)
{
	double left = g->ee + g->rows * dot(db, db, g->o) - 2 * dot(db, g->e, g->o);
	remaining r = {g, dw, db, ML_NEW_ARRAY(arena, double, g->d)};
	ml_crew crew = {.workers = g->d < ALONE ? 1 : 0};

	ml_crew_do(&crew, g->d, remain_part, &r);
	for (int64_t i = 0; i < g->d; i++)
		left += r.row[i];
	return left;
}
