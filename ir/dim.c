/* dim.c -- the table of dims: symbols, hash-consing, sums and products. */
#include "dim_node.h"
#include "blob.h"
#include <stdlib.h>
#include <string.h>

typedef struct ml_atom_node {
	ml_link link;
	ml_atom atom;
} ml_atom_node;

typedef struct ml_sym_node {
	ml_link link;
	ml_sym sym;
} ml_sym_node;

struct ml_dims {
	ml_arena arena;
	int refs;
	ml_link_set dims, atoms, names;
	ML_VEC(ml_sym *) syms;
	int next_fresh;
	ml_dim bad;
};

/* A sum under construction. */
enum { MAX_TERMS = 512, MAX_POOL = 2048 };
typedef struct ml_sum {
	int n, used;
	bool bad;
	ml_term term[MAX_TERMS];
	const ml_atom *pool[MAX_POOL];
} ml_sum;

/* ---- hash sets ---- */

static uint64_t
mixed(uint64_t h, uint64_t x)
{
	h = (h ^ x) * 0x9e3779b97f4a7c15u;
	return h ^ h >> 29;
}

static void
set_insert(ml_arena *arena, ml_link_set *set, ml_link *l)
{
	if (set->count >= set->size) {
		size_t size = set->size ? 2 * set->size : 64;
		ml_link **bucket = ML_NEW_ARRAY(arena, ml_link *, size);
		for (size_t i = 0; i < set->size; i++)
			for (ml_link *e = set->bucket[i], *next; e; e = next) {
				next = e->next;
				e->next = bucket[e->hash & (size - 1)];
				bucket[e->hash & (size - 1)] = e;
			}
		set->bucket = bucket;
		set->size = size;
	}
	l->next = set->bucket[l->hash & (set->size - 1)];
	set->bucket[l->hash & (set->size - 1)] = l;
	set->count++;
}

static ml_link *
set_first(const ml_link_set *set, uint64_t hash)
{
	return set->size ? set->bucket[hash & (set->size - 1)] : NULL;
}

/* ---- table ---- */

ml_dims *
ml_dims_new(ml_memory *memory)
{
	ml_arena arena;

	/* The table lies in its own arena: when there is no memory, nothing is lost. */
	ml_arena_init(&arena, memory);
	ml_dims *t = ML_NEW(&arena, ml_dims);
	t->refs = 1;
	t->arena = arena;
	struct ml_dim_node *bad = ml_alloc(&t->arena, sizeof *bad);
	bad->bad = true;
	bad->weight = 1;
	t->bad = bad;
	return t;
}

ml_dims *
ml_dims_share(ml_dims *t)
{
	t->refs++;
	return t;
}

void
ml_dims_free(ml_dims *t)
{
	if (!t || --t->refs > 0)
		return;
	ml_arena arena = t->arena;
	ml_arena_free(&arena);
}

ml_dim
ml_dim_bad(ml_dims *t)
{
	return t->bad;
}

/* ---- symbols ---- */

static ml_sym *
find_symbol(ml_dims *t, const char *name, size_t length, uint64_t hash)
{
	for (ml_link *l = set_first(&t->names, hash); l; l = l->next) {
		ml_sym *s = &((ml_sym_node *)l)->sym;
		if (l->hash == hash && !strncmp(s->name, name, length) && !s->name[length])
			return s;
	}
	return NULL;
}

ml_sym *
ml_sym_named(ml_dims *t, const char *name, size_t length)
{
	uint64_t hash = ml_hash_bytes(name, length, 1);
	ml_sym *s = find_symbol(t, name, length, hash);

	if (s)
		return s;
	ml_sym_node *n = ML_NEW(&t->arena, ml_sym_node);
	n->link.hash = hash;
	n->sym = (ml_sym){.name = ml_strndup(&t->arena, name, length),
			  .index = t->syms.count,
			  .hi = INT64_MAX};
	set_insert(&t->arena, &t->names, &n->link);
	ML_PUSH(&t->arena, t->syms, &n->sym);
	return &n->sym;
}

ml_sym *
ml_sym_fresh(ml_dims *t, ml_dim bound)
{
	char name[16];
	size_t length;

	do {
		int n = t->next_fresh++;
		char digits[12];
		int k = 0;
		do
			digits[k++] = (char)('0' + n % 10);
		while (n /= 10);
		name[0] = '?';
		length = 1;
		while (k)
			name[length++] = digits[--k];
	} while (find_symbol(t, name, length, ml_hash_bytes(name, length, 1)));
	ml_sym *s = ml_sym_named(t, name, length);
	s->fresh = true;
	s->bound = bound;
	if (bound) {
		int64_t lo;
		ml_dim_range(bound, &lo, &s->hi);
	}
	return s;
}

int
ml_sym_count(const ml_dims *t)
{
	return t->syms.count;
}

ml_sym *
ml_sym_at(const ml_dims *t, int index)
{
	return t->syms.at[index];
}

/* ---- order ---- */

static int
atom_compare(const ml_atom *a, const ml_atom *b)
{
	if (a == b)
		return 0;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->kind == ML_ATOM_SYM)
		return strcmp(a->sym->name, b->sym->name);
	int c = ml_dim_compare(a->a, b->a);
	return c ? c : ml_dim_compare(a->b, b->b);
}

int
ml_term_compare(const ml_term *a, const ml_term *b)
{
	if (a->natoms != b->natoms)
		return a->natoms > b->natoms ? -1 : 1;
	for (int i = 0; i < a->natoms; i++) {
		int c = atom_compare(a->atom[i], b->atom[i]);
		if (c)
			return c;
	}
	return 0;
}

int
ml_dim_compare(ml_dim a, ml_dim b)
{
	if (a == b)
		return 0;
	for (int i = 0; i < a->nterms && i < b->nterms; i++) {
		int c = ml_term_compare(&a->term[i], &b->term[i]);
		if (c)
			return c;
		if (a->term[i].coefficient != b->term[i].coefficient)
			return a->term[i].coefficient < b->term[i].coefficient ? -1 : 1;
	}
	return a->nterms < b->nterms ? -1 : a->nterms > b->nterms;
}

/* ---- interning ---- */

static int
atom_weight(const ml_atom *a)
{
	return a->kind == ML_ATOM_SYM ? 1 : 1 + a->a->weight + a->b->weight;
}

static const ml_atom *
intern_atom(ml_dims *t, ml_atom key)
{
	uint64_t h = mixed((uint64_t)key.kind, (uintptr_t)key.sym);

	h = mixed(mixed(h, (uintptr_t)key.a), (uintptr_t)key.b);
	for (ml_link *l = set_first(&t->atoms, h); l; l = l->next) {
		const ml_atom *a = &((ml_atom_node *)l)->atom;
		if (a->kind == key.kind && a->sym == key.sym && a->a == key.a && a->b == key.b)
			return a;
	}
	ml_atom_node *n = ML_NEW(&t->arena, ml_atom_node);
	n->link.hash = h;
	n->atom = key;
	set_insert(&t->arena, &t->atoms, &n->link);
	return &n->atom;
}

static bool
same_term(const ml_term *a, const ml_term *b)
{
	return a->coefficient == b->coefficient && a->natoms == b->natoms &&
	       (!a->natoms || !memcmp(a->atom, b->atom, (size_t)a->natoms * sizeof *a->atom));
}

/* The dim with these terms, which are sorted, distinct and not zero. */
static ml_dim
intern(ml_dims *t, const ml_term *term, int n)
{
	uint64_t h = (uint64_t)n;
	int weight = 0, atoms = 0;

	for (int i = 0; i < n; i++) {
		h = mixed(h, (uint64_t)term[i].coefficient);
		weight++;
		atoms += term[i].natoms;
		for (int k = 0; k < term[i].natoms && weight <= ML_DIM_MAX_WEIGHT; k++) {
			h = mixed(h, (uintptr_t)term[i].atom[k]);
			weight += atom_weight(term[i].atom[k]);
		}
	}
	if (weight > ML_DIM_MAX_WEIGHT)
		return t->bad;
	for (ml_link *l = set_first(&t->dims, h); l; l = l->next) {
		ml_dim d = (ml_dim)l;
		int i = 0;
		if (l->hash != h || d->nterms != n)
			continue;
		while (i < n && same_term(&d->term[i], &term[i]))
			i++;
		if (i == n)
			return d;
	}
	struct ml_dim_node *d = ml_alloc(&t->arena, sizeof *d + (size_t)n * sizeof *term);
	const ml_atom **pool = ML_NEW_ARRAY(&t->arena, const ml_atom *, atoms);
	d->link.hash = h;
	d->weight = weight;
	d->nterms = n;
	for (int i = 0; i < n; i++) {
		d->term[i] = term[i];
		d->term[i].atom = pool;
		for (int k = 0; k < term[i].natoms; k++)
			*pool++ = term[i].atom[k];
	}
	set_insert(&t->arena, &t->dims, &d->link);
	return d;
}

/* ---- sums ---- */

static int
term_order(const void *a, const void *b)
{
	return ml_term_compare(a, b);
}

static const ml_atom **
pool_take(ml_sum *s, int n)
{
	if (s->n == MAX_TERMS || s->used + n > MAX_POOL) {
		s->bad = true;
		return NULL;
	}
	s->used += n;
	return s->pool + s->used - n;
}

/* Adds x * y. */
static void
sum_product(ml_sum *s, const ml_term *x, const ml_term *y)
{
	const ml_atom **atom = pool_take(s, x->natoms + y->natoms);
	ml_term *out = &s->term[s->n];
	int i = 0, k = 0, n = 0;

	if (!atom)
		return;
	while (i < x->natoms || k < y->natoms)
		if (k == y->natoms || (i < x->natoms && atom_compare(x->atom[i], y->atom[k]) <= 0))
			atom[n++] = x->atom[i++];
		else
			atom[n++] = y->atom[k++];
	*out = (ml_term){.natoms = n, .atom = atom};
	s->bad |= __builtin_mul_overflow(x->coefficient, y->coefficient, &out->coefficient);
	s->n++;
}

static ml_dim
finish_sum(ml_dims *t, ml_sum *s)
{
	int n = 0;

	if (s->bad)
		return t->bad;
	qsort(s->term, (size_t)s->n, sizeof *s->term, term_order);
	for (int i = 0; i < s->n; i++) {
		if (n && !ml_term_compare(&s->term[n - 1], &s->term[i])) {
			int64_t *c = &s->term[n - 1].coefficient;
			if (__builtin_add_overflow(*c, s->term[i].coefficient, c))
				return t->bad;
		} else {
			s->term[n++] = s->term[i];
		}
		if (!s->term[n - 1].coefficient)
			n--;
		else if (s->term[n - 1].coefficient == INT64_MIN)
			return t->bad; /* has no negative */
	}
	return intern(t, s->term, n);
}

static ml_dim
plain_sum(ml_dims *t, ml_dim a, ml_dim b, int64_t sign)
{
	static const ml_term none = {.coefficient = 1};
	ml_term factor = {.coefficient = sign};
	ml_sum s;

	if (a->bad || b->bad)
		return t->bad;
	s.n = s.used = 0;
	s.bad = a->nterms + b->nterms > MAX_TERMS;
	for (int i = 0; i < a->nterms && !s.bad; i++)
		sum_product(&s, &a->term[i], &none);
	for (int i = 0; i < b->nterms && !s.bad; i++)
		sum_product(&s, &b->term[i], &factor);
	return finish_sum(t, &s);
}

static const ml_atom *
atom_of_kind(const ml_term *term, ml_atom_kind kind)
{
	for (int i = 0; i < term->natoms; i++)
		if (term->atom[i]->kind == kind)
			return term->atom[i];
	return NULL;
}

/* n*(x floordiv n) + x mod n = x: undoes the splitting of an index. */
static ml_dim
join_mod(ml_dims *t, ml_dim d)
{
	bool splits = false;

	for (int i = 0; i < d->nterms; i++)
		splits |= atom_of_kind(&d->term[i], ML_ATOM_FLOORDIV) != NULL;
	for (int i = 0; splits && i < d->nterms; i++) {
		const ml_atom *mod = atom_of_kind(&d->term[i], ML_ATOM_MOD);
		ml_term by = {.coefficient = 1, .natoms = 1, .atom = &mod};
		const ml_atom *rest[ML_DIM_MAX_WEIGHT];
		int64_t c;
		int n;
		if (!mod || !ml_term_divides(&d->term[i], &by, &c, rest, &n))
			continue;
		ml_dim quotient = ml_dim_floordiv(t, mod->a, mod->b);
		ml_dim remainder =
			plain_sum(t, ml_dim_make_atom(t, ML_ATOM_MOD, mod->a, mod->b), mod->a, -1);
		remainder = plain_sum(t, remainder, ml_dim_mul(t, mod->b, quotient), 1);
		ml_dim zero = ml_dim_mul(t, ml_dim_make_term(t, c, rest, n), remainder);
		ml_dim joined = plain_sum(t, d, zero, -1);
		if (!joined->bad && joined->weight < d->weight)
			return join_mod(t, joined);
	}
	return d;
}

ml_dim
ml_dim_add(ml_dims *t, ml_dim a, ml_dim b)
{
	return join_mod(t, plain_sum(t, a, b, 1));
}

ml_dim
ml_dim_sub(ml_dims *t, ml_dim a, ml_dim b)
{
	return join_mod(t, plain_sum(t, a, b, -1));
}

ml_dim
ml_dim_mul(ml_dims *t, ml_dim a, ml_dim b)
{
	ml_sum s;

	if (a->bad || b->bad)
		return t->bad;
	s.n = s.used = 0;
	s.bad = a->nterms * b->nterms > MAX_TERMS;
	for (int i = 0; i < a->nterms && !s.bad; i++)
		for (int k = 0; k < b->nterms && !s.bad; k++)
			sum_product(&s, &a->term[i], &b->term[k]);
	return finish_sum(t, &s);
}

ml_dim
ml_dim_product(ml_dims *t, const ml_dim *d, int n)
{
	ml_dim p = ml_dim_int(t, 1);

	for (int i = 0; i < n; i++)
		p = ml_dim_mul(t, p, d[i]);
	return p;
}

/* ---- leaves ---- */

ml_dim
ml_dim_make_term(ml_dims *t, int64_t coefficient, const ml_atom *const *atom, int natoms)
{
	ml_term term = {.coefficient = coefficient, .natoms = natoms, .atom = atom};

	if (coefficient == INT64_MIN)
		return t->bad;
	return intern(t, &term, coefficient != 0);
}

ml_dim
ml_dim_int(ml_dims *t, int64_t value)
{
	return ml_dim_make_term(t, value, NULL, 0);
}

ml_dim
ml_dim_sym(ml_dims *t, const ml_sym *s)
{
	const ml_atom *a = intern_atom(t, (ml_atom){.kind = ML_ATOM_SYM, .sym = s});

	return ml_dim_make_term(t, 1, &a, 1);
}

ml_dim
ml_dim_make_atom(ml_dims *t, ml_atom_kind kind, ml_dim a, ml_dim b)
{
	if (a->bad || b->bad || a->weight + b->weight > ML_DIM_MAX_WEIGHT)
		return t->bad;
	const ml_atom *atom = intern_atom(t, (ml_atom){.kind = kind, .a = a, .b = b});
	return ml_dim_make_term(t, 1, &atom, 1);
}

ml_dim
ml_dim_select_terms(ml_dims *t, ml_dim d, const bool *keep, bool wanted)
{
	ml_term term[ML_DIM_MAX_WEIGHT];
	int n = 0;

	for (int i = 0; i < d->nterms; i++)
		if (keep[i] == wanted)
			term[n++] = d->term[i];
	return intern(t, term, n);
}

/* ---- questions ---- */

bool
ml_dim_is_bad(ml_dim d)
{
	return d->bad;
}

bool
ml_dim_is_int(ml_dim d, int64_t *value)
{
	if (d->bad || d->nterms > 1 || (d->nterms == 1 && d->term[0].natoms))
		return false;
	if (value)
		*value = d->nterms ? d->term[0].coefficient : 0;
	return true;
}

int64_t
ml_dim_value(ml_dim d, int64_t otherwise)
{
	ml_dim_is_int(d, &otherwise);
	return otherwise;
}

bool
ml_dim_equals(ml_dim d, int64_t value)
{
	int64_t v;

	return ml_dim_is_int(d, &v) && v == value;
}

int
ml_dim_terms(ml_dim d, const ml_term **terms)
{
	*terms = d->term;
	return d->nterms;
}

int
ml_dim_weight(ml_dim d)
{
	return d->weight;
}
