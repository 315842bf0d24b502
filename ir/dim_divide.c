/* dim_divide.c -- exact division, floordiv and mod of dims, brought to canonical form. */
#include "dim_node.h"
#include <string.h>

bool
ml_term_divides(const ml_term *t, const ml_term *by, int64_t *coefficient, const ml_atom **rest,
		int *nrest)
{
	int k = 0, n = 0;

	if (!by->coefficient || t->coefficient % by->coefficient)
		return false;
	for (int i = 0; i < t->natoms; i++)
		if (k < by->natoms && t->atom[i] == by->atom[k])
			k++;
		else
			rest[n++] = t->atom[i];
	if (k < by->natoms)
		return false;
	*coefficient = t->coefficient / by->coefficient;
	*nrest = n;
	return true;
}

/* Long division by the leading term; exact or not at all. */
bool
ml_dim_divides(ml_dims *t, ml_dim whole, ml_dim by, ml_dim *quotient)
{
	ml_dim q = ml_dim_int(t, 0), r = whole;

	if (whole->bad || by->bad || !by->nterms)
		return false;
	for (int step = 0; r->nterms; step++) {
		const ml_atom *rest[ML_DIM_MAX_WEIGHT];
		int64_t c;
		int n;
		if (r->bad || step > ML_DIM_MAX_WEIGHT ||
		    !ml_term_divides(&r->term[0], &by->term[0], &c, rest, &n))
			return false;
		ml_dim part = ml_dim_make_term(t, c, rest, n);
		q = ml_dim_add(t, q, part);
		r = ml_dim_sub(t, r, ml_dim_mul(t, part, by));
	}
	if (q->bad || r->bad)
		return false;
	if (quotient)
		*quotient = q;
	return true;
}

static int64_t
gcd(int64_t a, int64_t b)
{
	while (b) {
		int64_t r = a % b;
		a = b;
		b = r;
	}
	return a < 0 ? -a : a;
}

/* The constant term. */
static int64_t
constant_of(ml_dim d)
{
	return d->nterms && !d->term[d->nterms - 1].natoms ? d->term[d->nterms - 1].coefficient : 0;
}

static ml_dim
minus_constant(ml_dims *t, ml_dim d)
{
	return ml_dim_sub(t, d, ml_dim_int(t, constant_of(d)));
}

/* Divides the coefficients, all multiples of g, by g. */
static ml_dim
scaled_down(ml_dims *t, ml_dim d, int64_t g)
{
	ml_dim q = NULL;
	bool exact = ml_dim_divides(t, d, ml_dim_int(t, g), &q);

	return exact ? q : ml_dim_bad(t);
}

/* Largest divisor of n that divides all coefficients but the constant one. */
static int64_t
common_factor(ml_dim d, int64_t n)
{
	for (int i = 0; i < d->nterms; i++)
		if (d->term[i].natoms)
			n = gcd(n, d->term[i].coefficient);
	return n;
}

/* (x floordiv m + c) floordiv n = (x + c*m) floordiv (m*n) */
static bool
merge_floordiv(ml_dims *t, ml_dim a, int64_t n, ml_dim *result)
{
	int64_t c = constant_of(a), m, mn;

	if (a->nterms != 1 + (c != 0) || a->term[0].natoms != 1 || a->term[0].coefficient != 1)
		return false;
	const ml_atom *atom = a->term[0].atom[0];
	if (atom->kind != ML_ATOM_FLOORDIV || !ml_dim_is_int(atom->b, &m) || m <= 0 ||
	    __builtin_mul_overflow(m, n, &mn))
		return false;
	ml_dim shift = ml_dim_mul(t, ml_dim_int(t, c), ml_dim_int(t, m));
	*result = ml_dim_floordiv(t, ml_dim_add(t, atom->a, shift), ml_dim_int(t, mn));
	return true;
}

/* By a positive integer: multiples of n leave, the constant goes to -n+1..0. */
static ml_dim
floordiv_int(ml_dims *t, ml_dim a, int64_t n)
{
	bool multiple[ML_DIM_MAX_WEIGHT];
	int64_t lo, hi, c = constant_of(a), out = ml_floor_div(c, n) + (c % n != 0);
	ml_dim merged;

	if (merge_floordiv(t, a, n, &merged))
		return merged;
	a = minus_constant(t, a);
	for (int i = 0; i < a->nterms; i++)
		multiple[i] = a->term[i].coefficient % n == 0;
	ml_dim whole = scaled_down(t, ml_dim_select_terms(t, a, multiple, true), n);
	a = ml_dim_select_terms(t, a, multiple, false);
	whole = ml_dim_add(t, whole, ml_dim_int(t, out));
	c -= out * n;
	if (!a->nterms)
		return c ? ml_dim_sub(t, whole, ml_dim_int(t, 1)) : whole;
	int64_t g = common_factor(a, n);
	a = ml_dim_add(t, scaled_down(t, a, g), ml_dim_int(t, ml_floor_div(c, g)));
	n /= g;
	if (a->bad)
		return a;
	ml_dim_range(a, &lo, &hi);
	if (lo != INT64_MIN && hi != INT64_MAX && ml_floor_div(lo, n) == ml_floor_div(hi, n))
		return ml_dim_add(t, whole, ml_dim_int(t, ml_floor_div(lo, n)));
	return ml_dim_add(t, whole, ml_dim_make_atom(t, ML_ATOM_FLOORDIV, a, ml_dim_int(t, n)));
}

/* Splits a = multiple * by + rest, as far as by's only term divides a's terms. */
static void
split_multiples(ml_dims *t, ml_dim a, ml_dim by, ml_dim *quotient, ml_dim *rest)
{
	*quotient = ml_dim_int(t, 0);
	*rest = a;
	if (ml_dim_divides(t, a, by, quotient)) {
		*rest = ml_dim_int(t, 0);
		return;
	}
	for (int i = 0; by->nterms == 1 && i < a->nterms; i++) {
		const ml_atom *left[ML_DIM_MAX_WEIGHT];
		int64_t c;
		int n;
		if (!ml_term_divides(&a->term[i], &by->term[0], &c, left, &n))
			continue;
		ml_dim part = ml_dim_make_term(t, c, left, n);
		*quotient = ml_dim_add(t, *quotient, part);
		*rest = ml_dim_sub(t, *rest, ml_dim_mul(t, part, by));
	}
}

/* Proven 0 <= a < b. */
static bool
is_remainder(ml_dims *t, ml_dim a, ml_dim b)
{
	ml_dim next = ml_dim_add(t, a, ml_dim_int(t, 1));

	return ml_dim_le(t, ml_dim_int(t, 0), a) && ml_dim_le(t, next, b);
}

ml_dim
ml_dim_floordiv(ml_dims *t, ml_dim a, ml_dim b)
{
	int64_t n, lo, hi;
	ml_dim quotient, rest;

	if (a->bad || b->bad)
		return ml_dim_bad(t);
	if (ml_dim_is_int(b, &n) && n > 0)
		return floordiv_int(t, a, n);
	ml_dim_range(b, &lo, &hi);
	if (hi < 0) {
		ml_dim zero = ml_dim_int(t, 0);
		return ml_dim_floordiv(t, ml_dim_sub(t, zero, a), ml_dim_sub(t, zero, b));
	}
	if (lo <= 0)
		return ml_dim_bad(t);
	split_multiples(t, a, b, &quotient, &rest);
	if (rest->bad || quotient->bad || is_remainder(t, rest, b))
		return rest->bad ? rest : quotient;
	return ml_dim_add(t, quotient, ml_dim_make_atom(t, ML_ATOM_FLOORDIV, rest, b));
}

ml_dim
ml_dim_ceildiv(ml_dims *t, ml_dim a, ml_dim b)
{
	ml_dim up = ml_dim_sub(t, b, ml_dim_int(t, 1));

	return ml_dim_floordiv(t, ml_dim_add(t, a, up), b);
}

/* By a positive integer: coefficients go to 0..n-1. */
static ml_dim
mod_int(ml_dims *t, ml_dim a, int64_t n)
{
	int64_t lo, hi;
	ml_dim r = ml_dim_int(t, 0);

	ml_dim_range(a, &lo, &hi);
	if (lo >= 0 && hi < n)
		return a;
	for (int i = 0; i < a->nterms; i++) {
		const ml_term *m = &a->term[i];
		int64_t c = m->coefficient % n;
		c += c < 0 ? n : 0;
		r = ml_dim_add(t, r, ml_dim_make_term(t, c, m->atom, m->natoms));
	}
	if (r->bad)
		return r;
	int64_t g = common_factor(r, n);
	if (constant_of(r) % g == 0 && g > 1)
		return ml_dim_mul(t, ml_dim_int(t, g), mod_int(t, scaled_down(t, r, g), n / g));
	ml_dim_range(r, &lo, &hi);
	if (lo >= 0 && hi < n)
		return r;
	return ml_dim_make_atom(t, ML_ATOM_MOD, r, ml_dim_int(t, n));
}

ml_dim
ml_dim_mod(ml_dims *t, ml_dim a, ml_dim b)
{
	int64_t n, lo, hi;
	ml_dim quotient, rest;

	if (a->bad || b->bad)
		return ml_dim_bad(t);
	if (ml_dim_is_int(b, &n) && n > 0)
		return mod_int(t, a, n);
	ml_dim_range(b, &lo, &hi);
	if (hi < 0) {
		ml_dim zero = ml_dim_int(t, 0);
		ml_dim r = ml_dim_mod(t, ml_dim_sub(t, zero, a), ml_dim_sub(t, zero, b));
		return ml_dim_sub(t, zero, r);
	}
	if (lo <= 0)
		return ml_dim_bad(t);
	split_multiples(t, a, b, &quotient, &rest);
	if (rest->bad || is_remainder(t, rest, b))
		return rest;
	return ml_dim_make_atom(t, ML_ATOM_MOD, rest, b);
}
