/* dim_eval.c -- values of dims, and substitution; the weight of dims bounds the recursion. */
#include "dim_node.h"

static bool
eval_atom(const ml_atom *atom, const int64_t *symbols, int64_t *value)
{
	int64_t a, b;

	if (atom->kind == ML_ATOM_SYM) {
		*value = symbols[atom->sym->index];
		return true;
	}
	if (!ml_dim_eval(atom->a, symbols, &a) || !ml_dim_eval(atom->b, symbols, &b))
		return false;
	switch (atom->kind) {
	case ML_ATOM_SYM: break;
	case ML_ATOM_MIN: *value = a < b ? a : b; break;
	case ML_ATOM_MAX: *value = a > b ? a : b; break;
	case ML_ATOM_FLOORDIV:
	case ML_ATOM_MOD:
		if (b == 0 || (b == -1 && a == INT64_MIN))
			return false;
		bool down = a % b && (a % b < 0) != (b < 0);
		*value = atom->kind == ML_ATOM_MOD ? a % b + (down ? b : 0) : a / b - down;
		break;
	}
	return true;
}

bool
ml_dim_eval(ml_dim d, const int64_t *symbols, int64_t *value)
{
	int64_t sum = 0;

	if (d->bad)
		return false;
	for (int i = 0; i < d->nterms; i++) {
		int64_t product = d->term[i].coefficient, factor = 0;
		for (int k = 0; k < d->term[i].natoms; k++)
			if (!eval_atom(d->term[i].atom[k], symbols, &factor) ||
			    __builtin_mul_overflow(product, factor, &product))
				return false;
		if (__builtin_add_overflow(sum, product, &sum))
			return false;
	}
	*value = sum;
	return true;
}

static ml_dim
substitute_atom(ml_dims *t, const ml_atom *atom, const ml_dim *replacement)
{
	if (atom->kind == ML_ATOM_SYM) {
		ml_dim r = replacement[atom->sym->index];
		return r ? r : ml_dim_sym(t, atom->sym);
	}
	ml_dim a = ml_dim_substitute(t, atom->a, replacement);
	ml_dim b = ml_dim_substitute(t, atom->b, replacement);
	switch (atom->kind) {
	case ML_ATOM_SYM: break;
	case ML_ATOM_FLOORDIV: return ml_dim_floordiv(t, a, b);
	case ML_ATOM_MOD: return ml_dim_mod(t, a, b);
	case ML_ATOM_MIN: return ml_dim_min(t, a, b);
	case ML_ATOM_MAX: return ml_dim_max(t, a, b);
	}
	return ml_dim_bad(t);
}

ml_dim
ml_dim_substitute(ml_dims *t, ml_dim d, const ml_dim *replacement)
{
	ml_dim sum = d->bad ? d : ml_dim_int(t, 0);

	for (int i = 0; i < d->nterms; i++) {
		ml_dim product = ml_dim_int(t, d->term[i].coefficient);
		for (int k = 0; k < d->term[i].natoms; k++)
			product = ml_dim_mul(t, product,
					     substitute_atom(t, d->term[i].atom[k], replacement));
		sum = ml_dim_add(t, sum, product);
	}
	return sum;
}
