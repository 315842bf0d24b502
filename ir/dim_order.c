/* dim_order.c -- what can be proven about the size of dims: ranges, order, min and max. */
#include "dim_node.h"

/* Intervals; INT64_MIN and INT64_MAX stand for minus and plus infinity. */
typedef struct ml_range {
	int64_t lo, hi;
} ml_range;

static const ml_range everything = {INT64_MIN, INT64_MAX};

static bool
infinite(int64_t a)
{
	return a == INT64_MIN || a == INT64_MAX;
}

static int64_t
sat_mul(int64_t a, int64_t b)
{
	int64_t r;

	if (!a || !b)
		return 0;
	if (infinite(a) || infinite(b) || __builtin_mul_overflow(a, b, &r))
		return (a < 0) == (b < 0) ? INT64_MAX : INT64_MIN;
	return r;
}

/* A finite sum that overflows stays a true bound when it becomes infinite. */
static int64_t
sat_add(int64_t a, int64_t b, int64_t unbounded)
{
	int64_t r;

	if (a == unbounded || b == unbounded)
		return unbounded;
	if (__builtin_add_overflow(a, b, &r))
		return a < 0 ? INT64_MIN : INT64_MAX;
	return r;
}

static int64_t
smaller(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t
larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static ml_range
range_mul(ml_range x, ml_range y)
{
	int64_t a = sat_mul(x.lo, y.lo), b = sat_mul(x.lo, y.hi);
	int64_t c = sat_mul(x.hi, y.lo), d = sat_mul(x.hi, y.hi);

	return (ml_range){smaller(smaller(a, b), smaller(c, d)),
			  larger(larger(a, b), larger(c, d))};
}

static ml_range
range_floordiv(ml_range a, ml_range b)
{
	ml_range r = everything;
	int64_t for_lo = a.lo >= 0 ? b.hi : b.lo, for_hi = a.hi >= 0 ? b.lo : b.hi;

	if (b.lo < 1)
		return r;
	if (a.lo != INT64_MIN)
		r.lo = ml_floor_div(a.lo, for_lo);
	if (a.hi != INT64_MAX)
		r.hi = ml_floor_div(a.hi, for_hi);
	return r;
}

static ml_range range_of(ml_dim);

static ml_range
range_of_atom(const ml_atom *atom)
{
	if (atom->kind == ML_ATOM_SYM)
		return (ml_range){atom->sym->lo, atom->sym->hi};
	ml_range a = range_of(atom->a), b = range_of(atom->b);
	switch (atom->kind) {
	case ML_ATOM_SYM: break;
	case ML_ATOM_FLOORDIV: return range_floordiv(a, b);
	case ML_ATOM_MOD:
		if (b.lo < 1)
			return everything;
		b.hi -= b.hi != INT64_MAX;
		return (ml_range){0, a.lo >= 0 ? smaller(a.hi, b.hi) : b.hi};
	case ML_ATOM_MIN: return (ml_range){smaller(a.lo, b.lo), smaller(a.hi, b.hi)};
	case ML_ATOM_MAX: return (ml_range){larger(a.lo, b.lo), larger(a.hi, b.hi)};
	}
	return everything;
}

static ml_range
range_of(ml_dim d)
{
	ml_range sum = {0, 0};

	if (d->bad)
		return everything;
	for (int i = 0; i < d->nterms; i++) {
		int64_t c = d->term[i].coefficient;
		ml_range product = {c, c};
		for (int k = 0; k < d->term[i].natoms; k++)
			product = range_mul(product, range_of_atom(d->term[i].atom[k]));
		sum.lo = sat_add(sum.lo, product.lo, INT64_MIN);
		sum.hi = sat_add(sum.hi, product.hi, INT64_MAX);
	}
	return sum;
}

void
ml_dim_range(ml_dim d, int64_t *lo, int64_t *hi)
{
	ml_range r = range_of(d);

	*lo = r.lo;
	*hi = r.hi;
}

/* ---- proofs of d >= 0 ---- */

/* Replaces atom k of term i by x. */
static ml_dim
with_atom(ml_dims *t, ml_dim d, int i, int k, ml_dim x)
{
	const ml_term *term = &d->term[i];
	const ml_atom *by = term->atom[k], *rest[ML_DIM_MAX_WEIGHT];
	ml_term one = {.coefficient = 1, .natoms = 1, .atom = &by};
	int64_t c = 0;
	int n = 0;

	ml_term_divides(term, &one, &c, rest, &n);
	d = ml_dim_sub(t, d, ml_dim_make_term(t, term->coefficient, term->atom, term->natoms));
	return ml_dim_add(t, d, ml_dim_mul(t, ml_dim_make_term(t, c, rest, n), x));
}

/* The other factors of the term are proven >= 0. */
static bool
others_positive(const ml_term *term, int except)
{
	for (int k = 0; k < term->natoms; k++)
		if (k != except && range_of_atom(term->atom[k]).lo < 0)
			return false;
	return true;
}

static bool nonneg(ml_dims *, ml_dim, int *budget);

static bool
nonneg_with(ml_dims *t, ml_dim d, int i, int k, ml_dim x, int *budget)
{
	return nonneg(t, with_atom(t, d, i, k, x), budget);
}

/* n*(x floordiv n) lies in x-n+1..x */
static bool
nonneg_floordiv(ml_dims *t, ml_dim d, int i, int k, int *budget)
{
	const ml_atom *atom = d->term[i].atom[k];
	bool rising = d->term[i].coefficient > 0;
	int64_t n;

	if (!ml_dim_is_int(atom->b, &n) || n < 1)
		return false;
	ml_dim slack = ml_dim_int(t, rising ? n - 1 : 0), times = atom->b;
	ml_dim bound = ml_dim_sub(t, atom->a, slack);
	/* n*d with n*atom replaced: first atom -> 0, then the product is added back */
	ml_dim rest = with_atom(t, d, i, k, ml_dim_int(t, 0));
	ml_dim factor = ml_dim_sub(t, with_atom(t, d, i, k, ml_dim_int(t, 1)), rest);
	rest = ml_dim_add(t, ml_dim_mul(t, times, rest), ml_dim_mul(t, factor, bound));
	return nonneg(t, rest, budget);
}

/* Replaces one atom by a bound on it that makes d smaller, so that the result being >= 0 is
 * enough. */
static bool
nonneg_by_atom(ml_dims *t, ml_dim d, int i, int k, int *budget)
{
	const ml_atom *atom = d->term[i].atom[k];
	bool rising = d->term[i].coefficient > 0;

	switch (atom->kind) {
	case ML_ATOM_SYM:
		if (!rising && atom->sym->bound &&
		    nonneg_with(t, d, i, k, atom->sym->bound, budget))
			return true;
		int64_t end = rising ? atom->sym->lo : atom->sym->hi;
		return d->term[i].natoms > 1 && !infinite(end) && end &&
		       nonneg_with(t, d, i, k, ml_dim_int(t, end), budget);
	case ML_ATOM_FLOORDIV: return nonneg_floordiv(t, d, i, k, budget);
	case ML_ATOM_MOD:
		return !rising && range_of(atom->a).lo >= 0 && range_of(atom->b).lo >= 1 &&
		       nonneg_with(t, d, i, k, atom->a, budget);
	case ML_ATOM_MIN:
	case ML_ATOM_MAX: {
		bool either = rising == (atom->kind == ML_ATOM_MAX);
		bool first = nonneg_with(t, d, i, k, atom->a, budget);
		if (first == either)
			return first;
		return nonneg_with(t, d, i, k, atom->b, budget);
	}
	}
	return false;
}

static bool
nonneg(ml_dims *t, ml_dim d, int *budget)
{
	if (d->bad)
		return false;
	if (range_of(d).lo >= 0)
		return true;
	if (range_of(d).hi < 0)
		return false;
	for (int i = 0; i < d->nterms; i++)
		for (int k = 0; k < d->term[i].natoms; k++) {
			if (!others_positive(&d->term[i], k))
				continue;
			if (--*budget < 0)
				return false;
			if (nonneg_by_atom(t, d, i, k, budget))
				return true;
		}
	return false;
}

bool
ml_dim_le(ml_dims *t, ml_dim a, ml_dim b)
{
	int budget = 48;

	return a == b ? !a->bad : nonneg(t, ml_dim_sub(t, b, a), &budget);
}

bool
ml_dim_never_equal(ml_dims *t, ml_dim a, ml_dim b)
{
	ml_dim one = ml_dim_int(t, 1), d = ml_dim_sub(t, a, b);
	int64_t g = 0, c = 0;

	if (d->bad || !d->nterms)
		return false;
	for (int i = 0; i < d->nterms; i++) {
		int64_t x = d->term[i].coefficient;
		if (!d->term[i].natoms)
			c = x;
		else
			for (x = x < 0 ? -x : x; x;) {
				int64_t r = g % x;
				g = x;
				x = r;
			}
	}
	if (g ? c % g != 0 : c != 0)
		return true;
	return ml_dim_le(t, ml_dim_add(t, b, one), a) || ml_dim_le(t, ml_dim_add(t, a, one), b);
}

static ml_dim
choose(ml_dims *t, ml_atom_kind kind, ml_dim a, ml_dim b)
{
	bool want_first = kind == ML_ATOM_MIN;

	if (a->bad || b->bad)
		return ml_dim_bad(t);
	if (ml_dim_le(t, a, b))
		return want_first ? a : b;
	if (ml_dim_le(t, b, a))
		return want_first ? b : a;
	return ml_dim_compare(a, b) <= 0 ? ml_dim_make_atom(t, kind, a, b)
					 : ml_dim_make_atom(t, kind, b, a);
}

ml_dim
ml_dim_min(ml_dims *t, ml_dim a, ml_dim b)
{
	return choose(t, ML_ATOM_MIN, a, b);
}

ml_dim
ml_dim_max(ml_dims *t, ml_dim a, ml_dim b)
{
	return choose(t, ML_ATOM_MAX, a, b);
}
