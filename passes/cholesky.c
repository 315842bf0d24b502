/* cholesky.c -- Cholesky by panels of columns: what lies left of a panel is taken off it in small
 * tiles, blocks of rows by several threads, then the panel is factored by itself.
 *
 * Every element is taken off its products in the order of columns, panel by panel, whoever does it:
 * the same bits for any number of threads.
 */
#include "cholesky.h"
#include "../ir/crew.h"
#include "cholesky_tile.h"
#include <math.h>
#include <string.h>

enum {
	PANEL = 48, /* columns */
	ROWS = 64,  /* of a part that a thread takes */
	HIGH = ML_CHOLESKY_HIGH,
	WIDE = ML_CHOLESKY_WIDE,
	LANES = ML_CHOLESKY_LANES,
	ALONE = 256 /* rows below which threads are not worth starting */
};

typedef struct factoring {
	double *a;
	int64_t n;
	int64_t first, end; /* columns of the panel */
	double *turned;     /* its rows left of it, WIDE at a time: [PANEL / WIDE][first][WIDE] */
	double *corner;     /* its triangle on the diagonal, transposed: [PANEL][PANEL] */
} factoring;

/* ---- what lies left of the panel ---- */

static void
turn(const factoring *f)
{
	for (int64_t j = f->first; j < f->first + PANEL; j++) {
		int64_t at = j - f->first;
		double *to = f->turned + at / WIDE * f->first * WIDE + at % WIDE;
		for (int64_t t = 0; t < f->first; t++)
			to[t * WIDE] = j < f->end ? f->a[j * f->n + t] : 0;
	}
}

static inline void
take_off(const factoring *f, int64_t i, int64_t rows)
{
	double sum[HIGH][WIDE];

	for (int64_t j = f->first; j < f->end; j += WIDE) {
		/* A row alone is taken with the one before it: that is there, and its sums are not
		 * used. */
		int64_t from = rows < HIGH ? i - (HIGH - rows) : i;
		int64_t wide = f->end - j < WIDE ? f->end - j : WIDE;
		ml_cholesky_tile(f->a + from * f->n, f->n, f->turned + (j - f->first) * f->first,
				 f->first, sum);
		for (int64_t r = i - from; r < HIGH; r++)
			for (int64_t c = 0; c < wide && j + c <= from + r; c++)
				f->a[(from + r) * f->n + j + c] -= sum[r][c];
	}
}

static int64_t
rows_end(const factoring *f, int64_t first)
{
	return first + ROWS < f->n ? first + ROWS : f->n;
}

static inline void
take_off_rows(const factoring *f, int64_t first, int64_t end)
{
	for (int64_t i = first; i < end; i += HIGH)
		take_off(f, i, end - i < HIGH ? end - i : HIGH);
}

#ifdef __x86_64__
/* The same in wider registers: products are not fused, so that the bits are the same. */
__attribute__((target("avx2"), flatten)) static void
take_off_rows_avx2(const factoring *f, int64_t first, int64_t end)
{
	take_off_rows(f, first, end);
}
#endif

static void
take_off_part(void *user, int worker, int64_t part)
{
	const factoring *f = user;
	int64_t first = f->first + part * ROWS, end = rows_end(f, first);

	(void)worker;
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2")) {
		take_off_rows_avx2(f, first, end);
		return;
	}
#endif
	take_off_rows(f, first, end);
}

/* ---- the panel by itself ---- */

static double
within(const factoring *f, int64_t i, int64_t j)
{
	const double *x = f->a + i * f->n, *y = f->a + j * f->n;
	double sum = 0;

	for (int64_t t = f->first; t < j; t++)
		sum += x[t] * y[t];
	return x[j] - sum;
}

static bool
factor_corner(const factoring *f)
{
	for (int64_t i = f->first; i < f->end; i++)
		for (int64_t j = f->first; j <= i; j++) {
			double left = within(f, i, j);
			if (i == j && !(left > 0))
				return false;
			f->a[i * f->n + j] = i == j ? sqrt(left) : left / f->a[j * f->n + j];
		}
	return true;
}

static void
turn_corner(const factoring *f)
{
	for (int64_t j = f->first; j < f->end; j++)
		for (int64_t t = f->first; t <= j; t++)
			f->corner[(t - f->first) * PANEL + j - f->first] = f->a[j * f->n + t];
}

/* Rows below the corner, so many side by side: each element, once it is there, goes into the sums
 * of all behind it, in the order in which within() adds. */
static inline void
finish(const factoring *f, int64_t i, int rows)
{
	ml_cholesky_columns sum[HIGH][PANEL / LANES] = {{{0}}};
	double *x = f->a + i * f->n + f->first;

	for (int64_t t = 0; t < f->end - f->first; t++) {
		const double *y = f->corner + t * PANEL;
		for (int r = 0; r < rows; r++) {
			double *own = x + r * f->n + t;
			*own = (*own - sum[r][t / LANES][t % LANES]) / y[t];
			for (int64_t c = (t + 1) / LANES; c < PANEL / LANES; c++)
				sum[r][c] += *own * *(const ml_cholesky_columns *)(y + c * LANES);
		}
	}
}

static inline void
finish_rows(const factoring *f, int64_t first, int64_t end)
{
	int64_t i = first;

	for (; i + HIGH <= end; i += HIGH)
		finish(f, i, HIGH);
	for (; i < end; i++)
		finish(f, i, 1);
}

#ifdef __x86_64__
__attribute__((target("avx2"), flatten)) static void
finish_rows_avx2(const factoring *f, int64_t first, int64_t end)
{
	finish_rows(f, first, end);
}
#endif

static void
finish_part(void *user, int worker, int64_t part)
{
	const factoring *f = user;
	int64_t first = f->end + part * ROWS, end = rows_end(f, first);

	(void)worker;
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2")) {
		finish_rows_avx2(f, first, end);
		return;
	}
#endif
	finish_rows(f, first, end);
}

bool
ml_cholesky(double *a, int64_t n, int workers, ml_arena *arena)
{
	factoring f = {.a = a, .n = n};
	ml_crew crew = {.workers = n < ALONE ? 1 : workers};

	f.turned = ML_NEW_ARRAY(arena, double, PANEL *n);
	f.corner = ML_NEW_ARRAY(arena, double, PANEL *PANEL);
	for (; f.first < n; f.first = f.end) {
		f.end = f.first + PANEL < n ? f.first + PANEL : n;
		turn(&f);
		if (f.first)
			ml_crew_do(&crew, (n - f.first + ROWS - 1) / ROWS, take_off_part, &f);
		if (!factor_corner(&f))
			return false;
		turn_corner(&f);
		ml_crew_do(&crew, (n - f.end + ROWS - 1) / ROWS, finish_part, &f);
	}
	return true;
}
