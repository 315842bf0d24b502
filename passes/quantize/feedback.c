/* feedback.c -- rounding in which the error of each row goes into those that are rounded later. */
#include "feedback.h"
#include "../../ir/crew.h"
#include "../cholesky.h"
#include <stdlib.h>
#include <string.h>

/* ---- the order ---- */

typedef struct ranked {
	double value;
	int64_t row;
} ranked;

static int
falling(const void *a, const void *b)
{
	const ranked *x = a, *y = b;

	if (x->value != y->value)
		return x->value < y->value ? 1 : -1;
	return x->row < y->row ? -1 : 1;
}

static void
order_rows(ml_feedback *f, const double *h, ml_arena *arena)
{
	ranked *r = ML_NEW_ARRAY(arena, ranked, f->k);

	for (int64_t i = 0; i < f->k; i++)
		r[i] = (ranked){h[ml_triangle_at(i, i)], i};
	qsort(r, (size_t)f->k, sizeof *r, falling);
	for (int64_t i = 0; i < f->k; i++)
		f->order[i] = r[i].row;
}

/* ---- the factor ---- */

typedef struct factoring {
	ml_feedback *f;
	const double *h;
	double *l; /* [k, k] */
} factoring;

enum { ROWS = 16 /* that a thread takes */ };

static int64_t
rows_end(const factoring *a, int64_t part)
{
	int64_t end = (part + 1) * ROWS;

	return end < a->f->k ? end : a->f->k;
}

/* Rows of h, in reverse order. */
static void
gather_rows(void *user, int worker, int64_t part)
{
	const factoring *a = user;
	const int64_t *last = a->f->order + a->f->k - 1;

	(void)worker;
	for (int64_t i = part * ROWS; i < rows_end(a, part); i++)
		for (int64_t j = 0; j <= i; j++)
			a->l[i * a->f->k + j] = a->h[ml_triangle_at(last[-i], last[-j])];
}

static int64_t
parts_of(const factoring *a)
{
	return (a->f->k + ROWS - 1) / ROWS;
}

/* L of h with rows in reverse: A + I = V inverse(diag V) with V[t][i] = L[k-1-t][k-1-i]. */
static bool
factor(factoring *a, double damp, int workers, ml_arena *arena)
{
	int64_t k = a->f->k;
	double mean = 0, *l = a->l;

	for (int64_t i = 0; i < k; i++)
		mean += a->h[ml_triangle_at(i, i)] / (double)k;
	ml_crew_do(&(ml_crew){.workers = workers}, parts_of(a), gather_rows, a);
	for (int64_t i = 0; i < k; i++)
		l[i * k + i] = l[i * k + i] > 0 ? l[i * k + i] + damp * mean : 1;
	return ml_cholesky(l, k, workers, arena);
}

/* Rows of A: columns of L, which lie side by side. */
static void
share_rows(void *user, int worker, int64_t part)
{
	const factoring *a = user;
	int64_t k = a->f->k, first = part * ROWS, end = rows_end(a, part);

	(void)worker;
	for (int64_t t = 0; t < end; t++) {
		const double *row = a->l + (k - 1 - t) * k;
		for (int64_t i = t < first ? first : t + 1; i < end; i++) {
			int64_t at = k - 1 - i;
			a->f->share[i * k + t] = (float)(row[at] / a->l[at * k + at]);
		}
	}
}

bool
ml_feedback_of(ml_feedback *f, const double *h, int64_t k, double damp, int workers,
	       ml_arena *arena)
{
	factoring a = {f, h, ML_NEW_ARRAY(arena, double, k *k)};

	*f = (ml_feedback){k, ML_NEW_ARRAY(arena, int64_t, k), ML_NEW_ARRAY(arena, float, k *k),
			   ML_NEW_ARRAY(arena, double, k)};
	order_rows(f, h, arena);
	if (!factor(&a, damp, workers, arena) && !factor(&a, 10 * damp, workers, arena))
		return false;
	for (int64_t t = 0; t < k; t++) {
		double left = a.l[(k - 1 - t) * (k + 1)];
		f->left[f->order[t]] = left * left;
	}
	ml_crew_do(&(ml_crew){.workers = workers}, parts_of(&a), share_rows, &a);
	return true;
}

void
ml_feedback_scale(ml_feedback *f, const float *s)
{
	for (int64_t i = 0; i < f->k; i++) {
		float *share = f->share + i * f->k, own = s[f->order[i]];
		for (int64_t t = 0; t < i; t++)
			share[t] *= own / s[f->order[t]];
		f->left[f->order[i]] /= (double)own * (double)own;
	}
}

/* ---- rounding ---- */

enum {
	BLOCK = 32, /* rows that take the errors of all before them at once */
	HIGH = 4,   /* of a tile, whose sums lie in registers: rows, columns */
	WIDE = 8
};

/* Of neighbouring columns; compilers keep sums of arrays in memory. */
typedef float columns __attribute__((vector_size(WIDE * sizeof(float)), aligned(4)));

/* Errors of the first `count` rows, in order, as HIGH rows take them. */
static inline void
tile(const float *share, int64_t k, const float *error, int64_t count, float *target)
{
	columns sum[HIGH] = {0};

	for (int64_t t = 0; t < count; t++) {
		const columns *x = (const columns *)(error + t * ML_FEEDBACK_COLUMNS);
		for (int r = 0; r < HIGH; r++)
			sum[r] += share[r * k + t] * *x;
	}
	for (int r = 0; r < HIGH; r++)
		*(columns *)(target + r * ML_FEEDBACK_COLUMNS) = sum[r];
}

static inline void
add_scaled(float *restrict y, float a, const float *restrict x)
{
	for (int c = 0; c < ML_FEEDBACK_COLUMNS; c++)
		y[c] += a * x[c];
}

/* What the rows of a block take of all before it. */
static inline void
take(const ml_feedback *f, int64_t first, int64_t rows, const float *error, float *target)
{
	memset(target, 0, BLOCK * ML_FEEDBACK_COLUMNS * sizeof *target);
	for (int64_t r = 0; r + HIGH <= rows && first; r += HIGH)
		for (int c = 0; c < ML_FEEDBACK_COLUMNS; c += WIDE)
			tile(f->share + (first + r) * f->k, f->k, error + c, first,
			     target + r * ML_FEEDBACK_COLUMNS + c);
	for (int64_t r = rows - rows % HIGH; r < rows; r++)
		for (int64_t t = 0; t < first; t++)
			add_scaled(target + r * ML_FEEDBACK_COLUMNS,
				   f->share[(first + r) * f->k + t],
				   error + t * ML_FEEDBACK_COLUMNS);
}

static void
take_errors(const ml_feedback *f, int64_t first, int64_t rows, const float *error, float *target)
{
	take(f, first, rows, error, target);
}

#ifdef __x86_64__
/* The same sums in wider registers: products are not fused, so that the bits are the same. */
__attribute__((target("avx2"), flatten)) static void
take_errors_avx2(const ml_feedback *f, int64_t first, int64_t rows, const float *error,
		 float *target)
{
	take(f, first, rows, error, target);
}
#endif

void
ml_feedback_round(const ml_feedback *f, float *w, ml_round_row *round, void *user)
{
	enum { N = ML_FEEDBACK_COLUMNS };
	float target[BLOCK * N], became[N];
	void (*take_all)(const ml_feedback *, int64_t, int64_t, const float *, float *) =
		take_errors;

#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2"))
		take_all = take_errors_avx2;
#endif

	for (int64_t first = 0; first < f->k; first += BLOCK) {
		int64_t rows = f->k - first < BLOCK ? f->k - first : BLOCK;
		take_all(f, first, rows, w, target);
		for (int64_t i = first; i < first + rows; i++) {
			float *to = target + (i - first) * N, *own = w + i * N;
			const float *share = f->share + i * f->k;
			for (int64_t t = first; t < i; t++)
				add_scaled(to, share[t], w + t * N);
			add_scaled(to, 1, own);
			memcpy(became, to, sizeof became);
			round(user, f->order[i], to, became);
			add_scaled(own, -1, became);
		}
	}
}
