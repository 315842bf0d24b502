/* dim_bound.c -- proofs about loop indices: bounds by substitution, division by pulling out. */
#include "dim_bound.h"

enum { MAX_DEPTH = 12, MAX_STEPS = 64 };

typedef struct prover {
	ml_dims *dims;
	const ml_lane_axis *axis;
	int depth;
} prover;

ml_dim
ml_dim_from_atom(ml_dims *dims, const ml_atom *a)
{
	switch (a->kind) {
	case ML_ATOM_SYM: return ml_dim_sym(dims, a->sym);
	case ML_ATOM_FLOORDIV: return ml_dim_floordiv(dims, a->a, a->b);
	case ML_ATOM_MOD: return ml_dim_mod(dims, a->a, a->b);
	case ML_ATOM_MIN: return ml_dim_min(dims, a->a, a->b);
	case ML_ATOM_MAX: return ml_dim_max(dims, a->a, a->b);
	}
	return NULL;
}

ml_dim
ml_dim_from_term(ml_dims *dims, const ml_term *t)
{
	ml_dim d = ml_dim_int(dims, t->coefficient);

	for (int i = 0; i < t->natoms; i++)
		d = ml_dim_mul(dims, d, ml_dim_from_atom(dims, t->atom[i]));
	return d;
}

static bool
same_atom(const ml_atom *x, const ml_atom *y)
{
	return x->kind == y->kind &&
	       (x->kind == ML_ATOM_SYM ? x->sym == y->sym : x->a == y->a && x->b == y->b);
}

static bool
atom_mentions(const ml_atom *a, const ml_sym *s)
{
	if (a->kind == ML_ATOM_SYM)
		return a->sym == s;
	return ml_dim_mentions(a->a, s) || ml_dim_mentions(a->b, s);
}

bool
ml_dim_mentions(ml_dim d, const ml_sym *s)
{
	const ml_term *t;
	int n = ml_dim_terms(d, &t);

	for (int i = 0; i < n; i++)
		for (int k = 0; k < t[i].natoms; k++)
			if (atom_mentions(t[i].atom[k], s))
				return true;
	return false;
}

/* The product of a term's atoms without atom number `skip`. */
static ml_dim
term_without(ml_dims *dims, const ml_term *t, int skip)
{
	ml_dim d = ml_dim_int(dims, t->coefficient);

	for (int i = 0; i < t->natoms; i++)
		if (i != skip)
			d = ml_dim_mul(dims, d, ml_dim_from_atom(dims, t->atom[i]));
	return d;
}

/* d = factor * atom + rest, where neither contains this very atom. */
static bool
split_by_atom(ml_dims *dims, ml_dim d, const ml_atom *atom, ml_dim *factor, ml_dim *rest)
{
	const ml_term *t;
	int n = ml_dim_terms(d, &t);

	*factor = *rest = ml_dim_int(dims, 0);
	for (int i = 0; i < n; i++) {
		int at = -1;
		for (int k = 0; k < t[i].natoms; k++) {
			if (!same_atom(t[i].atom[k], atom))
				continue;
			if (at >= 0)
				return false;
			at = k;
		}
		ml_dim part = term_without(dims, &t[i], at);
		if (at < 0)
			*rest = ml_dim_add(dims, *rest, part);
		else
			*factor = ml_dim_add(dims, *factor, part);
	}
	return true;
}

bool
ml_dim_linear(ml_dims *dims, ml_dim d, const ml_sym *s, ml_dim *factor, ml_dim *rest)
{
	ml_atom atom = {.kind = ML_ATOM_SYM, .sym = s};

	return split_by_atom(dims, d, &atom, factor, rest) && !ml_dim_mentions(*factor, s) &&
	       !ml_dim_mentions(*rest, s);
}

/* ---- bounds ---- */

static ml_dim extreme(prover *, ml_dim, bool upper);
static ml_quotient quotient(prover *, ml_dim, ml_dim);

static bool
is_index(const ml_sym *s)
{
	return s->bound != NULL;
}

static bool
mentions_index(ml_dim d)
{
	const ml_term *t;
	int n = ml_dim_terms(d, &t);

	for (int i = 0; i < n; i++)
		for (int k = 0; k < t[i].natoms; k++) {
			const ml_atom *a = t[i].atom[k];
			if (a->kind == ML_ATOM_SYM ? is_index(a->sym)
						   : mentions_index(a->a) || mentions_index(a->b))
				return true;
		}
	return false;
}

/* The atom to eliminate next: what depends on indices, derived atoms before the indices they are
 * made of, newer indices before older ones (bounds refer to earlier symbols). */
static const ml_atom *
next_index_atom(ml_dim d)
{
	const ml_atom *best = NULL;
	const ml_term *t;
	int n = ml_dim_terms(d, &t);

	for (int i = 0; i < n; i++)
		for (int k = 0; k < t[i].natoms; k++) {
			const ml_atom *a = t[i].atom[k];
			if (a->kind != ML_ATOM_SYM) {
				if (mentions_index(a->a) || mentions_index(a->b))
					return a;
			} else if (is_index(a->sym) &&
				   (!best || a->sym->index > best->sym->index)) {
				best = a;
			}
		}
	return best;
}

/* The largest or smallest value of one atom, without loop indices; NULL when unknown. */
static ml_dim
atom_extreme(prover *p, const ml_atom *a, bool upper)
{
	ml_dim part;

	switch (a->kind) {
	case ML_ATOM_SYM: return upper ? a->sym->bound : ml_dim_int(p->dims, 0);
	case ML_ATOM_FLOORDIV:
		if (mentions_index(a->b) || !(part = extreme(p, a->a, upper)))
			return NULL;
		ml_quotient q = quotient(p, part, a->b);
		if (!q.rest)
			return q.whole;
		part = ml_dim_add(p->dims, q.whole, ml_dim_floordiv(p->dims, q.rest, q.by));
		return ml_dim_is_bad(part) ? NULL : part;
	case ML_ATOM_MIN:
		if (!upper)
			return NULL;
		return mentions_index(a->a) ? extreme(p, a->b, upper) : extreme(p, a->a, upper);
	default: return NULL;
	}
}

static int
sign_of(ml_dim d)
{
	int64_t lo, hi;

	ml_dim_range(d, &lo, &hi);
	return lo >= 0 ? 1 : hi <= 0 ? -1 : 0;
}

static ml_dim
eliminate(prover *p, ml_dim d, bool upper)
{
	const ml_atom *a;

	for (int step = 0; (a = next_index_atom(d)); step++) {
		ml_dim factor, rest;
		if (step == MAX_STEPS || !split_by_atom(p->dims, d, a, &factor, &rest))
			return NULL;
		int sign = sign_of(factor);
		ml_dim end = sign ? atom_extreme(p, a, sign > 0 ? upper : !upper) : NULL;
		if (!end)
			return NULL;
		d = ml_dim_add(p->dims, rest, ml_dim_mul(p->dims, factor, end));
	}
	return ml_dim_is_bad(d) ? NULL : d;
}

/* lane = position - 16 * block: when the blocks cancel, the position's bound can be used. */
static ml_dim
as_position(prover *p, ml_dim d)
{
	const ml_lane_axis *x = p->axis;
	ml_dim factor, rest;

	if (!x || !x->lane || !ml_dim_linear(p->dims, d, x->lane, &factor, &rest) ||
	    ml_dim_equals(factor, 0))
		return d;
	ml_dim lane = ml_dim_sub(
		p->dims, ml_dim_sym(p->dims, x->position),
		ml_dim_mul(p->dims, ml_dim_int(p->dims, x->lanes), ml_dim_sym(p->dims, x->block)));
	ml_dim whole = ml_dim_add(p->dims, rest, ml_dim_mul(p->dims, factor, lane));
	return ml_dim_mentions(whole, x->block) ? d : whole;
}

static ml_dim
extreme(prover *p, ml_dim d, bool upper)
{
	if (p->depth == MAX_DEPTH || ml_dim_is_bad(d))
		return NULL;
	p->depth++;
	ml_dim end = eliminate(p, as_position(p, d), upper);
	p->depth--;
	return end;
}

static bool
not_negative(prover *p, ml_dim d)
{
	ml_dim least = extreme(p, d, false);

	return least && sign_of(least) > 0;
}

static bool
within(prover *p, ml_dim d, ml_dim limit)
{
	return not_negative(p, d) && not_negative(p, ml_dim_sub(p->dims, limit, d));
}

bool
ml_dim_within(ml_dims *dims, const ml_lane_axis *axis, ml_dim d, ml_dim limit)
{
	prover p = {.dims = dims, .axis = axis};

	return within(&p, d, limit);
}

ml_dim
ml_dim_largest(ml_dims *dims, const ml_lane_axis *axis, ml_dim d)
{
	prover p = {.dims = dims, .axis = axis};

	return extreme(&p, d, true);
}

/* ---- division ---- */

static int64_t
gcd(int64_t a, int64_t b)
{
	a = a < 0 ? -a : a;
	b = b < 0 ? -b : b;
	while (b) {
		int64_t r = a % b;
		a = b;
		b = r;
	}
	return a;
}

/* t / by when by divides it exactly, as a dim; NULL otherwise. */
static ml_dim
divide_term(ml_dims *dims, const ml_term *t, const ml_term *by)
{
	bool used[64] = {false};

	if (t->natoms > 64 || t->coefficient % by->coefficient)
		return NULL;
	for (int i = 0; i < by->natoms; i++) {
		int k = 0;
		while (k < t->natoms && (used[k] || !same_atom(t->atom[k], by->atom[i])))
			k++;
		if (k == t->natoms)
			return NULL;
		used[k] = true;
	}
	ml_dim d = ml_dim_int(dims, t->coefficient / by->coefficient);
	for (int k = 0; k < t->natoms; k++)
		if (!used[k])
			d = ml_dim_mul(dims, d, ml_dim_from_atom(dims, t->atom[k]));
	return d;
}

/* The constant term of d. */
static int64_t
constant_of(ml_dim d)
{
	const ml_term *t;
	int n = ml_dim_terms(d, &t);

	for (int i = 0; i < n; i++)
		if (t[i].natoms == 0)
			return t[i].coefficient;
	return 0;
}

/* Pulls multiples of b out of *a; returns what was pulled out, divided by b. */
static ml_dim
pull_out(prover *p, ml_dim *a, ml_dim b)
{
	const ml_term *tb, *ta, *lead;
	int nb = ml_dim_terms(b, &tb);
	ml_dim whole = ml_dim_int(p->dims, 0);

	lead = &tb[0];
	for (int i = 1; i < nb; i++)
		if (tb[i].natoms > lead->natoms)
			lead = &tb[i];
	for (int step = 0; step < MAX_STEPS; step++) {
		int na = ml_dim_terms(*a, &ta), i = 0;
		ml_dim m = NULL;
		while (i < na && !(m = divide_term(p->dims, &ta[i], lead)))
			i++;
		if (!m)
			break;
		whole = ml_dim_add(p->dims, whole, m);
		*a = ml_dim_sub(p->dims, *a, ml_dim_mul(p->dims, m, b));
		if (ml_dim_is_bad(*a))
			break;
	}
	int64_t c = constant_of(*a), by;
	if (ml_dim_is_int(b, &by) && c % by) { /* leave a constant term in 0..b-1 */
		ml_dim m = ml_dim_int(p->dims, c / by - (c < 0));
		whole = ml_dim_add(p->dims, whole, m);
		*a = ml_dim_sub(p->dims, *a, ml_dim_mul(p->dims, m, b));
	}
	return whole;
}

/* The largest monomial that divides every term of d. */
static ml_dim
content(ml_dims *dims, ml_dim d)
{
	const ml_term *t;
	int n = ml_dim_terms(d, &t);
	ml_dim atoms = ml_dim_int(dims, 1);
	int64_t number = 0;

	for (int i = 0; i < n; i++)
		number = gcd(number, t[i].coefficient);
	for (int k = 0; n && k < t[0].natoms; k++) {
		ml_dim wanted = ml_dim_mul(dims, atoms, ml_dim_from_atom(dims, t[0].atom[k]));
		const ml_term *tw;
		bool common = true;
		ml_dim_terms(wanted, &tw);
		for (int i = 0; i < n && common; i++)
			common = divide_term(dims, &t[i], tw) != NULL;
		if (common)
			atoms = wanted;
	}
	return ml_dim_mul(dims, atoms, ml_dim_int(dims, number ? number : 1));
}

/* The largest monomial that divides both the monomial a and t. */
static ml_dim
common_factor(ml_dims *dims, ml_dim a, const ml_term *t)
{
	const ml_term *ta;
	bool used[64] = {false};

	if (ml_dim_terms(a, &ta) != 1 || t->natoms > 64)
		return ml_dim_int(dims, 1);
	ml_dim d = ml_dim_int(dims, gcd(ta->coefficient, t->coefficient));
	for (int i = 0; i < ta->natoms; i++)
		for (int k = 0; k < t->natoms; k++)
			if (!used[k] && same_atom(t->atom[k], ta->atom[i])) {
				used[k] = true;
				d = ml_dim_mul(dims, d, ml_dim_from_atom(dims, t->atom[k]));
				break;
			}
	return d;
}

static ml_dim
divide_all(ml_dims *dims, ml_dim d, const ml_term *by, ml_dim *remainder)
{
	const ml_term *t;
	int n = ml_dim_terms(d, &t);
	ml_dim quotient = ml_dim_int(dims, 0);

	*remainder = ml_dim_int(dims, 0);
	for (int i = 0; i < n; i++) {
		ml_dim m = divide_term(dims, &t[i], by);
		if (m)
			quotient = ml_dim_add(dims, quotient, m);
		else
			*remainder = ml_dim_add(dims, *remainder, ml_dim_from_term(dims, &t[i]));
	}
	return quotient;
}

/* a = g * large + small with small in 0..g-1 and g dividing b: small does not matter. */
static bool
reduce_by_factor(prover *p, ml_dim *a, ml_dim *b)
{
	ml_dim one = ml_dim_int(p->dims, 1), of_b = content(p->dims, *b);
	const ml_term *t, *tg;
	int n = ml_dim_terms(*a, &t);

	for (int i = 0; i < n; i++) {
		ml_dim small, none, g = common_factor(p->dims, of_b, &t[i]);
		if (g == one || ml_dim_is_bad(g))
			continue;
		ml_dim_terms(g, &tg);
		ml_dim large = divide_all(p->dims, *a, tg, &small);
		if (!within(p, small, ml_dim_sub(p->dims, g, one)))
			continue;
		*a = large;
		*b = divide_all(p->dims, *b, tg, &none);
		return true;
	}
	return false;
}

static ml_quotient
quotient(prover *p, ml_dim a, ml_dim b)
{
	ml_dim one = ml_dim_int(p->dims, 1), zero = ml_dim_int(p->dims, 0);
	ml_quotient q = {.whole = zero};

	for (int step = 0; step < MAX_STEPS; step++) {
		ml_dim last = ml_dim_sub(p->dims, b, one);
		q.whole = ml_dim_add(p->dims, q.whole, pull_out(p, &a, b));
		if (a == zero || b == one || within(p, a, last)) {
			if (b == one)
				q.whole = ml_dim_add(p->dims, q.whole, a);
			return q;
		}
		if (within(p, ml_dim_add(p->dims, a, b), last)) {
			q.whole = ml_dim_sub(p->dims, q.whole, one);
			return q;
		}
		if (!reduce_by_factor(p, &a, &b))
			break;
	}
	q.rest = a;
	q.by = b;
	return q;
}

ml_quotient
ml_dim_quotient(ml_dims *dims, const ml_lane_axis *axis, ml_dim a, ml_dim b)
{
	prover p = {.dims = dims, .axis = axis};

	return quotient(&p, a, b);
}
