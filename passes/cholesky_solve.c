/* cholesky_solve.c -- what is solved for with a factor: columns side by side, panels of rows after
 * each other.  Whoever takes a column, its sums run in one order: the same bits for any number of
 * threads. */
#include "../ir/crew.h"
#include "cholesky.h"
#include "cholesky_tile.h"
#include <string.h>

enum {
	HIGH = ML_CHOLESKY_HIGH,
	WIDE = ML_CHOLESKY_WIDE,
	PANEL = 48,            /* rows */
	STRIP = 4,             /* packs of WIDE columns that a thread takes */
	ALONE = 256,           /* rows below which threads are not worth starting */
	COLUMNS = STRIP * WIDE /* as many as a panel has rows */
};

/* Rows from..end of l x = b; x is there up to `from`, with nothing before `first`. */
static inline void
finish_panel(const double *restrict l, int64_t n, int64_t from, int64_t end, double *restrict x)
{
	for (int64_t i = from; i < end; i++) {
		for (int64_t j = from; j < i; j++)
			for (int c = 0; c < WIDE; c++)
				x[i * WIDE + c] -= l[i * n + j] * x[j * WIDE + c];
		for (int c = 0; c < WIDE; c++)
			x[i * WIDE + c] /= l[i * n + i];
	}
}

static inline void
take_off(const double *l, int64_t n, int64_t first, int64_t from, int64_t end, double *x)
{
	double sum[HIGH][WIDE];

	for (int64_t i = from; i < end; i += HIGH) {
		/* The last rows are taken with some before them, whose sums are not used. */
		int64_t top = end - i < HIGH ? end - HIGH : i;
		ml_cholesky_tile(l + top * n + first, n, x + first * WIDE, from - first, sum);
		for (int64_t r = i; r < top + HIGH; r++)
			for (int c = 0; c < WIDE; c++)
				x[r * WIDE + c] -= sum[r - top][c];
	}
}

/* x becomes the solution of l y = x, of the lower triangle of l; what is before row `first` of x,
 * where a panel begins, is 0. */
static inline void
substitute(const double *l, int64_t n, int64_t first, double *x, int packs)
{
	for (int64_t from = first, end; from < n; from = end) {
		end = from + PANEL < n ? from + PANEL : n;
		for (int p = 0; p < packs; p++) {
			if (from > first)
				take_off(l, n, first, from, end, x + p * n * WIDE);
			finish_panel(l, n, from, end, x + p * n * WIDE);
		}
	}
}

#ifdef __x86_64__
/* The same in wider registers. */
__attribute__((target("avx2"), flatten)) static void
substitute_avx2(const double *l, int64_t n, int64_t first, double *x, int packs)
{
	substitute(l, n, first, x, packs);
}
#endif

static void
substitute_fast(const double *l, int64_t n, int64_t first, double *x, int packs)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2")) {
		substitute_avx2(l, n, first, x, packs);
		return;
	}
#endif
	substitute(l, n, first, x, packs);
}

typedef struct solving {
	const double *l;
	double *turned; /* l' with rows and columns in reverse order, which is a lower triangle */
	double *b;
	double *x; /* of each worker: [STRIP][n][WIDE] */
	double *left;
	int64_t n, o;
} solving;

static double *
room_of(const solving *s, int worker)
{
	return s->x + worker * s->n * COLUMNS;
}

static void
turn_part(void *user, int worker, int64_t part)
{
	const solving *s = user;
	int64_t n = s->n, first = part * PANEL, end = first + PANEL < n ? first + PANEL : n;

	(void)worker;
	for (int64_t j = 0; j < end; j++)
		for (int64_t i = j > first ? j : first; i < end; i++)
			s->turned[i * n + j] = s->l[(n - 1 - j) * n + n - 1 - i];
}

/* The order of rows. */
static void
reverse(double *x, int64_t n)
{
	double row[WIDE];

	for (int64_t i = 0; i < n / 2; i++) {
		memcpy(row, x + i * WIDE, sizeof row);
		memcpy(x + i * WIDE, x + (n - 1 - i) * WIDE, sizeof row);
		memcpy(x + (n - 1 - i) * WIDE, row, sizeof row);
	}
}

static void
solve_part(void *user, int worker, int64_t part)
{
	const solving *s = user;
	int64_t n = s->n, first = part * COLUMNS;
	int64_t wide = s->o - first < COLUMNS ? s->o - first : COLUMNS;
	int packs = (int)((wide + WIDE - 1) / WIDE);
	double *x = room_of(s, worker);

	memset(x, 0, (size_t)(packs * n * WIDE) * sizeof *x);
	for (int64_t i = 0; i < n; i++)
		for (int64_t c = 0; c < wide; c++)
			x[(c / WIDE * n + i) * WIDE + c % WIDE] = s->b[i * s->o + first + c];
	substitute_fast(s->l, n, 0, x, packs);
	for (int p = 0; p < packs; p++)
		reverse(x + p * n * WIDE, n);
	substitute_fast(s->turned, n, 0, x, packs);
	for (int64_t i = 0; i < n; i++)
		for (int64_t c = 0; c < wide; c++)
			s->b[i * s->o + first + c] =
				x[(c / WIDE * n + n - 1 - i) * WIDE + c % WIDE];
}

/* Columns of the inverse of l are 0 up to their own row. */
static void
invert_part(void *user, int worker, int64_t part)
{
	const solving *s = user;
	int64_t n = s->n, first = part * COLUMNS;
	int64_t wide = n - first < COLUMNS ? n - first : COLUMNS;
	double *x = room_of(s, worker);

	memset(x, 0, (size_t)(COLUMNS * n) * sizeof *x);
	for (int64_t c = 0; c < wide; c++)
		x[(c / WIDE * n + first + c) * WIDE + c % WIDE] = 1;
	substitute_fast(s->l, n, first, x, STRIP);
	for (int64_t c = 0; c < wide; c++)
		for (int64_t i = first; i < n; i++) {
			double y = x[(c / WIDE * n + i) * WIDE + c % WIDE];
			s->left[first + c] += y * y;
		}
}

static ml_crew
crew_for(int64_t n)
{
	return (ml_crew){.workers = n < ALONE ? 1 : 0};
}

static int64_t
parts_of(int64_t columns)
{
	return (columns + COLUMNS - 1) / COLUMNS;
}

void
ml_cholesky_solve(const double *l, int64_t n, double *b, int64_t o, ml_arena *arena)
{
	ml_crew crew = crew_for(n);
	solving s = {.l = l, .b = b, .n = n, .o = o};

	s.turned = ML_NEW_ARRAY(arena, double, n *n);
	s.x = ML_NEW_ARRAY(arena, double, ml_crew_size(&crew, parts_of(o)) * n * COLUMNS);
	ml_crew_do(&crew, parts_of(n), turn_part, &s);
	ml_crew_do(&crew, parts_of(o), solve_part, &s);
}

void
ml_cholesky_squares(const double *l, int64_t n, double *squares, ml_arena *arena)
{
	ml_crew crew = crew_for(n);
	solving s = {.l = l, .n = n, .left = squares};

	s.x = ML_NEW_ARRAY(arena, double, ml_crew_size(&crew, parts_of(n)) * n * COLUMNS);
	memset(squares, 0, (size_t)n * sizeof *squares);
	ml_crew_do(&crew, parts_of(n), invert_part, &s);
}
