/* dim_node.h -- inside of dims: interned nodes and atoms, shared by the dim*.c files. */
#ifndef ML_DIM_NODE_H
#define ML_DIM_NODE_H
#include "dim.h"

/* Dims, atoms and symbols begin with a link: three chained hash sets, one code. */
typedef struct ml_link ml_link;
struct ml_link {
	ml_link *next;
	uint64_t hash;
};

typedef struct ml_link_set {
	ml_link **bucket;
	size_t size, count; /* size is a power of two */
} ml_link_set;

struct ml_dim_node {
	ml_link link;
	bool bad;
	int weight; /* terms and atoms, with those inside of atoms */
	int nterms;
	ml_term term[]; /* sorted by ml_term_compare, no zero coefficients */
};

/* Larger expressions become poison: hostile models must not make dims explode. */
enum { ML_DIM_MAX_WEIGHT = 1024 };

ml_dim ml_dim_bad(ml_dims *);
ml_dim ml_dim_make_atom(ml_dims *, ml_atom_kind, ml_dim a, ml_dim b);
ml_dim ml_dim_make_term(ml_dims *, int64_t coefficient, const ml_atom *const *, int natoms);
/* The terms for which keep[i] == wanted, as a sum. */
ml_dim ml_dim_select_terms(ml_dims *, ml_dim, const bool *keep, bool wanted);
/* Canonical order: higher degree first, then by atoms; symbols by name, so that the order does
 * not depend on the history of the table. */
int ml_term_compare(const ml_term *, const ml_term *);
int ml_dim_compare(ml_dim, ml_dim);
/* t / by when every atom and the coefficient divide; `rest` receives the atoms left. */
bool ml_term_divides(const ml_term *t, const ml_term *by, int64_t *coefficient,
		     const ml_atom **rest, int *nrest);
static inline int64_t
ml_floor_div(int64_t a, int64_t n) /* n > 0 */
{
	return a / n - (a % n < 0);
}
#endif
