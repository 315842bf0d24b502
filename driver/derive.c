/* derive.c -- inputs that calibration data need not hold, since those that it holds say what they
 * are: masks, positions, types of tokens, and a past that is empty. */
#include "driver.h"
#include <string.h>

/* The size that a given input has where this dim stands; -1: none has it. */
static int64_t
known_size(const ml_feed *f, const ml_module *m, ml_dim d)
{
	int64_t size;

	if (ml_dim_is_int(d, &size))
		return size;
	for (int i = 0; i < m->main->nargs; i++)
		for (int a = 0; f->given[i] && a < f->array[i].rank; a++)
			if (m->main->arg[i]->type.dim[a] == d)
				return f->array[i].dim[a];
	return -1;
}

/* How many tokens a given input holds in a row; -1: there are no tokens. */
static int64_t
sequence(const ml_feed *f, const ml_module *m)
{
	for (int i = 0; i < m->main->nargs; i++)
		if (f->given[i] && f->array[i].rank == 2 && ml_is_integer(f->array[i].dtype))
			return f->array[i].dim[1];
	return -1;
}

/* Room for the input, of these sizes: those that nobody knows become `unknown`. */
static bool
make_room(ml_feed *f, const ml_module *m, int i, int64_t unknown)
{
	const ml_type *t = &m->main->arg[i]->type;
	ml_view *a = &f->array[i];

	*a = (ml_view){.dtype = t->dtype, .rank = t->rank};
	a->bytes = (size_t)ml_dtype_bytes(t->dtype);
	for (int d = 0; d < t->rank; d++) {
		int64_t size = known_size(f, m, t->dim[d]);
		a->dim[d] = size < 0 ? unknown : size;
		if (a->dim[d] < 0 || __builtin_mul_overflow(a->bytes, (size_t)a->dim[d], &a->bytes))
			return false;
	}
	a->data = ml_alloc(&f->derived, a->bytes);
	if (a->bytes)
		memset(a->data, 0, a->bytes);
	return true;
}

static void
fill(ml_view *a, bool count)
{
	int64_t last = a->rank ? a->dim[a->rank - 1] : 1;
	int64_t n = (int64_t)a->bytes / ml_dtype_bytes(a->dtype);

	for (int64_t k = 0; k < n; k++)
		if (ml_is_float(a->dtype))
			ml_write_f64(a->dtype, a->data, k, count ? (double)(k % last) : 1);
		else
			ml_write_s64(a->dtype, a->data, k, count ? k % last : 1);
}

/* Something is put behind it. */
static bool
is_appended_to(const ml_value *v)
{
	for (const ml_use *u = v->uses; u; u = u->next)
		if (u->user->op == ML_OP_concat)
			return true;
	return false;
}

/* What it is called says what it holds. */
typedef struct role {
	bool mask, position, kind;
} role;

static role
role_of(const ml_value *v)
{
	const char *name = v->name ? v->name : "";
	bool whole = ml_is_integer(v->type.dtype);
	role r = {.mask = v->type.rank == 2 && strcasestr(name, "mask")};

	if (v->type.rank != 2 || !whole || r.mask)
		return r;
	r.position = strcasestr(name, "position");
	r.kind = strcasestr(name, "token_type") || strcasestr(name, "segment");
	return r;
}

static bool
is_past(const ml_value *v)
{
	return ml_is_float(v->type.dtype) && v->type.rank > 2 && is_appended_to(v);
}

bool
ml_can_derive(const ml_value *v)
{
	role r = role_of(v);

	return is_past(v) || r.mask || r.position || r.kind;
}

bool
ml_derive_input(ml_feed *f, const ml_module *m, int i)
{
	const ml_value *v = m->main->arg[i];
	role r = role_of(v);

	if (is_past(v))
		return make_room(f, m, i, 0);
	if (!ml_can_derive(v) || sequence(f, m) < 0 || !make_room(f, m, i, sequence(f, m)))
		return false;
	if (r.mask || r.position)
		fill(&f->array[i], r.position);
	return true;
}
