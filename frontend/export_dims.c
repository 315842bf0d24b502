/* export_dims.c -- sizes as tensors: dims become arithmetic on shapes of inputs. */
#include "export_graph.h"
#include <string.h>

void
ml_spell_sources(ml_export *e, const ml_value *v, const char *name)
{
	const ml_term *term;

	for (int i = 0; i < v->type.rank; i++) {
		if (ml_dim_terms(v->type.dim[i], &term) != 1 || term->coefficient != 1 ||
		    term->natoms != 1 || term->atom[0]->kind != ML_ATOM_SYM)
			continue;
		ml_export_source *s = &e->source[term->atom[0]->sym->index];
		if (!s->tensor)
			*s = (ml_export_source){name, i};
	}
}

static const char *
symbol(ml_export *e, const ml_sym *s)
{
	const ml_export_source *from = &e->source[s->index];

	if (!from->tensor)
		return ml_spell_fail(e, "a size is not that of any tensor");
	Onnx__NodeProto *n = ml_spell_node(e, "Shape", &from->tensor, 1);
	ml_spell_int(e, n, "start", from->axis);
	ml_spell_int(e, n, "end", from->axis + 1);
	return n->output[0];
}

/* a floordiv b. Div rounds toward zero, so a is first raised by a multiple of b above zero, or what
 * does not divide is taken off. */
static const char *
floor_divided(ml_export *e, ml_dim a, ml_dim b)
{
	ml_dims *dims = e->m->dims;
	int64_t lo, hi, by;
	const char *x;

	ml_dim_range(a, &lo, &hi);
	if (lo < 0 && lo > -(1 << 30) && ml_dim_is_int(b, &by) && by > 0) {
		ml_dim times = ml_dim_int(dims, (by - 1 - lo) / by);
		x = ml_spell_dim(e, ml_dim_add(dims, a, ml_dim_mul(dims, b, times)));
		x = ml_spell2(e, "Div", x, ml_spell_dim(e, b));
		return ml_spell2(e, "Sub", x, ml_spell_dim(e, times));
	}
	x = ml_spell_dim(e, a);
	if (lo < 0)
		x = ml_spell2(e, "Sub", x, ml_spell2(e, "Mod", x, ml_spell_dim(e, b)));
	return ml_spell2(e, "Div", x, ml_spell_dim(e, b));
}

static const char *
atom(ml_export *e, const ml_atom *a)
{
	if (a->kind == ML_ATOM_SYM)
		return symbol(e, a->sym);
	if (a->kind == ML_ATOM_FLOORDIV)
		return floor_divided(e, a->a, a->b);
	return ml_spell2(e,
			 a->kind == ML_ATOM_MIN   ? "Min"
			 : a->kind == ML_ATOM_MAX ? "Max"
						  : "Mod",
			 ml_spell_dim(e, a->a), ml_spell_dim(e, a->b));
}

static const char *
product(ml_export *e, const ml_term *t)
{
	const char *name = NULL;

	if (t->coefficient != 1 || !t->natoms)
		name = ml_spell_list(e, &t->coefficient, 1);
	for (int i = 0; i < t->natoms; i++) {
		const char *a = atom(e, t->atom[i]);
		name = name ? ml_spell2(e, "Mul", name, a) : a;
		if (!name)
			return NULL;
	}
	return name;
}

const char *
ml_spell_dim(ml_export *e, ml_dim d)
{
	const ml_term *term;
	const char *sum = NULL;
	int64_t number;

	for (int i = 0; i < e->sizes.count; i++)
		if (e->sizes.at[i].dim == d)
			return e->sizes.at[i].name;
	if (ml_dim_is_int(d, &number)) {
		sum = ml_spell_list(e, &number, 1);
	} else {
		int n = ml_dim_terms(d, &term);
		for (int i = 0; i < n; i++) {
			const char *t = product(e, &term[i]);
			sum = sum ? ml_spell2(e, "Add", sum, t) : t;
			if (!sum)
				return NULL;
		}
	}
	if (sum)
		ML_PUSH(&e->arena, e->sizes, ((ml_export_dim){d, sum}));
	return sum;
}

const char *
ml_spell_shape(ml_export *e, const ml_dim *d, int n)
{
	int64_t *number = ML_NEW_ARRAY(&e->arena, int64_t, n);
	const char **part = ML_NEW_ARRAY(&e->arena, const char *, n);
	bool fixed = true;

	for (int i = 0; i < n; i++)
		fixed = ml_dim_is_int(d[i], &number[i]) && fixed;
	if (fixed)
		return ml_spell_list(e, number, n);
	for (int i = 0; i < n; i++) {
		part[i] = ml_spell_dim(e, d[i]);
		if (!part[i])
			return NULL;
	}
	if (n == 1)
		return part[0];
	Onnx__NodeProto *node = ml_spell_node(e, "Concat", part, n);
	ml_spell_int(e, node, "axis", 0);
	return node->output[0];
}

/* The one size that is no number can be left to Reshape, unless a size of 0 hides it. */
static const char *
with_unknown(ml_export *e, const ml_dim *d, int n)
{
	int64_t *number = ML_NEW_ARRAY(&e->arena, int64_t, n);
	int unknown = 0;

	for (int i = 0; i < n; i++)
		if (!ml_dim_is_int(d[i], &number[i])) {
			number[i] = -1;
			unknown++;
		} else if (!number[i]) {
			return NULL;
		}
	return unknown <= 1 ? ml_spell_list(e, number, n) : NULL;
}

const char *
ml_spell_reshape(ml_export *e, const char *name, const ml_dim *d, int n)
{
	const char *shape = with_unknown(e, d, n);
	bool whole = !shape;

	if (whole)
		shape = ml_spell_shape(e, d, n);
	if (!name || !shape)
		return NULL;
	Onnx__NodeProto *node = ml_spell_node(e, "Reshape", (const char *[]){name, shape}, 2);
	if (whole)
		ml_spell_int(e, node, "allowzero", 1);
	return node->output[0];
}

const char *
ml_spell_axes(ml_export *e, const char *op, const char *name, const int64_t *axes, int n)
{
	return ml_spell2(e, op, name, ml_spell_list(e, axes, n));
}
