/* dim.h -- canonical integer expressions over named symbols: the sizes of tensors.
 *
 * A dim is a polynomial whose atoms are symbols, floordiv, mod, min and max of dims.  Equal
 * expressions are equal pointers (hash-consed in an ml_dims table), so `a == b` proves equality
 * and `a != b` proves nothing.  Arithmetic that overflows int64 gives the poison dim
 * (ml_dim_is_bad), which every operation keeps.
 */
#ifndef ML_DIM_H
#define ML_DIM_H
#include "arena.h"
#include <stdbool.h>
#include <stdint.h>

typedef const struct ml_dim_node *ml_dim;
typedef struct ml_dims ml_dims;

/* A named unknown with its range.  Fresh symbols (data-dependent sizes) are named "?0", "?1"...
 * and have an upper bound that planning uses. */
typedef struct ml_sym {
	const char *name;
	int index;      /* position in the table, and in value arrays given to ml_dim_eval */
	int64_t lo, hi; /* inclusive; hi INT64_MAX when unbounded */
	ml_dim bound;   /* for fresh symbols: value <= bound, in terms of earlier symbols; else NULL
			 */
	bool fresh;
} ml_sym;

ml_dims *ml_dims_new(ml_memory *);
ml_dims *ml_dims_share(ml_dims *); /* one more reference; clones of a module share the table */
void ml_dims_free(ml_dims *);      /* drops a reference */

/* Symbols.  ml_sym_named finds or makes one (range 0..INT64_MAX at first). */
ml_sym *ml_sym_named(ml_dims *, const char *name, size_t length);
ml_sym *ml_sym_fresh(ml_dims *, ml_dim bound);
int ml_sym_count(const ml_dims *);
ml_sym *ml_sym_at(const ml_dims *, int index);

ml_dim ml_dim_int(ml_dims *, int64_t);
ml_dim ml_dim_sym(ml_dims *, const ml_sym *);
ml_dim ml_dim_add(ml_dims *, ml_dim, ml_dim);
ml_dim ml_dim_sub(ml_dims *, ml_dim, ml_dim);
ml_dim ml_dim_mul(ml_dims *, ml_dim, ml_dim);
ml_dim ml_dim_product(ml_dims *, const ml_dim *, int n); /* 1 where n is 0 */
ml_dim ml_dim_floordiv(ml_dims *, ml_dim,
		       ml_dim); /* rounds to -inf; poison when the divisor may be 0 */
ml_dim ml_dim_ceildiv(ml_dims *, ml_dim, ml_dim);
ml_dim ml_dim_mod(ml_dims *, ml_dim, ml_dim); /* a - b * floordiv(a, b) */
ml_dim ml_dim_min(ml_dims *, ml_dim, ml_dim);
ml_dim ml_dim_max(ml_dims *, ml_dim, ml_dim);

bool ml_dim_is_bad(ml_dim);
bool ml_dim_is_int(ml_dim, int64_t *value);          /* value may be NULL */
int64_t ml_dim_value(ml_dim, int64_t otherwise);     /* the integer that it is */
bool ml_dim_equals(ml_dim, int64_t);                 /* known to be this integer */
void ml_dim_range(ml_dim, int64_t *lo, int64_t *hi); /* proven bounds, saturated */
bool ml_dim_divides(ml_dims *, ml_dim whole, ml_dim by, ml_dim *quotient); /* proven exact */
bool ml_dim_never_equal(ml_dims *, ml_dim, ml_dim);                        /* proven different */
bool ml_dim_le(ml_dims *, ml_dim a, ml_dim b);                             /* proven a <= b */

/* Structure, for printers and code generators: the sum of terms, each a product of atoms. */
typedef enum ml_atom_kind {
	ML_ATOM_SYM,
	ML_ATOM_FLOORDIV,
	ML_ATOM_MOD,
	ML_ATOM_MIN,
	ML_ATOM_MAX
} ml_atom_kind;
typedef struct ml_atom {
	ml_atom_kind kind;
	const ml_sym *sym;
	ml_dim a, b;
} ml_atom;
typedef struct ml_term {
	int64_t coefficient;
	int natoms; /* 0 for the constant term; repeated atoms are powers */
	const ml_atom *const *atom;
} ml_term;
int ml_dim_terms(ml_dim, const ml_term **terms);
/* Terms and atoms, with those inside of atoms: the simpler of two equal dims is the lighter. */
int ml_dim_weight(ml_dim);

/* Value under an assignment of symbols; false when it overflows or divides by zero. */
bool ml_dim_eval(ml_dim, const int64_t *symbols, int64_t *value);
/* The same dim with symbol -> dim (replacement[index], NULL keeps). */
ml_dim ml_dim_substitute(ml_dims *, ml_dim, const ml_dim *replacement);

/* `b*s + 2`, `(h - 1) floordiv 2 + 1`, `min(s, 512)`; symbols that are no identifiers are quoted.
 */
void ml_dim_print(ml_text *, ml_dim);
/* Reads that syntax; *at moves behind it; NULL on a syntax error. */
ml_dim ml_dim_parse(ml_dims *, const char **at, const char *end);
#endif
