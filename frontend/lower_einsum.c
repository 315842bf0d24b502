/* lower_einsum.c -- Einsum: the equation as labels, operands contracted from left to right. */
#include "lower.h"
#include <string.h>

enum { DOTS = 1 /* labels DOTS, DOTS + 1.. stand for the dims of "..." */ };

/* An operand or the result: one label per dim; letters stand for themselves. */
typedef struct term {
	ml_value *v;
	int n;
	char label[ML_MAX_RANK];
	int dots; /* dims that "..." stands for, -1 when there is none */
} term;

typedef struct equation {
	ml_lower *x;
	term *in, out;
	int n, dots;
	int64_t uses[128]; /* how often a label occurs among operands */
	ml_dim size[128];
} equation;

static bool
fail(equation *e, const char *what)
{
	ml_lower_fail(e->x, ML_ERR_VALUE, "equation: %s", what);
	return false;
}

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Reads labels up to ',' or '-' or the end. `rank` is that of the operand, -1 for the result. */
static bool
read_term(equation *e, const char **at, int rank, term *t)
{
	const char *s = *at;
	int letters = 0, here = -1;

	t->dots = -1;
	for (; *s && *s != ',' && *s != '-'; s++) {
		if (*s == ' ')
			continue;
		if (is_letter(*s)) {
			if (letters == ML_MAX_RANK)
				return fail(e, "too many labels");
			t->label[letters++] = *s;
		} else if (s[0] == '.' && s[1] == '.' && s[2] == '.' && here < 0) {
			here = letters;
			s += 2;
		} else {
			return fail(e, "a character that is no label");
		}
	}
	*at = s;
	if (here >= 0)
		t->dots = rank < 0 ? e->dots : rank - letters;
	if (here >= 0 && t->dots < 0)
		return fail(e, "more labels than dims");
	t->n = letters + (here >= 0 ? t->dots : 0);
	if (t->n > ML_MAX_RANK || (rank >= 0 && t->n != rank))
		return fail(e, "the labels do not match the operand's rank");
	if (here < 0)
		return true;
	memmove(t->label + here + t->dots, t->label + here, (size_t)(letters - here));
	for (int i = 0; i < t->dots; i++)
		t->label[here + i] = (char)(DOTS + ML_MAX_RANK - t->dots + i);
	return true;
}

/* Labels that occur once, in order, behind the dims of "...". */
static void
implied_result(equation *e)
{
	term *t = &e->out;

	for (int i = 0; i < e->dots; i++)
		t->label[t->n++] = (char)(DOTS + ML_MAX_RANK - e->dots + i);
	for (int c = 'A'; c <= 'z'; c++)
		if (e->uses[c] == 1 && t->n < ML_MAX_RANK)
			t->label[t->n++] = (char)c;
}

static bool
note_sizes(equation *e, const term *t)
{
	for (int i = 0; i < t->n; i++) {
		int c = t->label[i];
		ml_dim d = t->v->type.dim[i];
		e->uses[c]++;
		if (!e->size[c] || ml_dim_equals(e->size[c], 1))
			e->size[c] = d;
		else if (!ml_dim_equals(d, 1) &&
			 !ml_require_equal(e->x->b, e->size[c], d, "one label must have one size"))
			return e->x->b->failed == ML_OK && fail(e, "a label has two sizes");
	}
	if (t->dots > e->dots)
		e->dots = t->dots;
	return true;
}

static bool
read_result(equation *e, const char *s)
{
	if (!*s) {
		implied_result(e);
		return true;
	}
	if (s[0] != '-' || s[1] != '>')
		return fail(e, "more operands than the node has");
	s += 2;
	if (!read_term(e, &s, -1, &e->out))
		return false;
	if (*s)
		return fail(e, "text behind the result");
	for (int i = 0; i < e->out.n; i++) {
		if (!e->uses[(int)e->out.label[i]])
			return fail(e, "a label of the result occurs in no operand");
		if (memchr(e->out.label, e->out.label[i], (size_t)i))
			return fail(e, "a label occurs twice in the result");
	}
	return true;
}

static bool
read_equation(equation *e, const char *s)
{
	for (int i = 0; i < e->n; i++) {
		term *t = &e->in[i];
		t->v = e->x->in[i];
		if (i && *s++ != ',')
			return fail(e, "fewer operands than the node has");
		if (!read_term(e, &s, t->v->type.rank, t) || !note_sizes(e, t))
			return false;
	}
	return read_result(e, s);
}

/* ---- doing it ---- */

static int
find(const term *t, char label)
{
	const char *at = memchr(t->label, label, (size_t)t->n);

	return at ? (int)(at - t->label) : -1;
}

static void
drop(equation *e, term *t, int i)
{
	int64_t axis = i;

	t->v = t->v ? ml_build_squeeze(e->x->b, t->v, &axis, 1) : NULL;
	memmove(t->label + i, t->label + i + 1, (size_t)(t->n - i - 1));
	t->n--;
}

static void
sum_out(equation *e, term *t, int i)
{
	int64_t axis = i;

	t->v = ml_build_reduce(e->x->b, ML_OP_reduce_sum, t->v, &axis, 1);
	drop(e, t, i);
}

/* A label twice in one operand: its diagonal. */
static void
take_diagonals(equation *e, term *t)
{
	ml_lower *x = e->x;

	for (int i = 0; i < t->n; i++)
		for (int k = i + 1; k < t->n && t->v;) {
			if (t->label[i] != t->label[k]) {
				k++;
				continue;
			}
			const ml_type *type = &t->v->type;
			ml_value *on =
				ML_X2(eq, ml_build_iota(x->b, type->dim, type->rank, i, ML_s64),
				      ml_build_iota(x->b, type->dim, type->rank, k, ML_s64));
			t->v = ML_X3(select, on, t->v, ML_LIKE(t->v, 0));
			e->uses[(int)t->label[i]]--;
			sum_out(e, t, k);
		}
}

/* Labels used nowhere else, and in no result, are summed; dims of 1 are stretched. */
static void
prepare(equation *e, term *t)
{
	ml_dim shape[ML_MAX_RANK];

	take_diagonals(e, t);
	for (int i = 0; i < t->n && t->v;)
		if (find(&e->out, t->label[i]) < 0 && e->uses[(int)t->label[i]] == 1)
			sum_out(e, t, i);
		else
			i++;
	for (int i = 0; i < t->n; i++)
		shape[i] = e->size[(int)t->label[i]];
	if (t->v && memcmp(shape, t->v->type.dim, (size_t)t->n * sizeof *shape))
		t->v = ml_build_broadcast(e->x->b, t->v, shape, t->n);
}

/* a . b: shared labels are contracted where nobody needs them later, else they are batch dims. */
static void
contract(equation *e, term *a, const term *b)
{
	int64_t a_batch[ML_MAX_RANK], b_batch[ML_MAX_RANK], a_sum[ML_MAX_RANK], b_sum[ML_MAX_RANK];
	int nbatch = 0, nsum = 0;
	term out = {.dots = -1};

	for (int i = 0; i < a->n; i++) {
		int k = find(b, a->label[i]), c = a->label[i];
		bool later = find(&e->out, a->label[i]) >= 0 || e->uses[c] > 2;
		if (k < 0)
			continue;
		e->uses[c]--;
		if (later) {
			a_batch[nbatch] = i;
			b_batch[nbatch++] = k;
			out.label[out.n++] = (char)c;
		} else {
			a_sum[nsum] = i;
			b_sum[nsum++] = k;
		}
	}
	for (int i = 0; i < a->n; i++)
		if (find(b, a->label[i]) < 0)
			out.label[out.n++] = a->label[i];
	for (int k = 0; k < b->n && out.n < ML_MAX_RANK; k++)
		if (find(a, b->label[k]) < 0)
			out.label[out.n++] = b->label[k];
	out.v = ml_build_dot(e->x->b, ml_lower_wide(e->x, a->v), ml_lower_wide(e->x, b->v), a_batch,
			     b_batch, nbatch, a_sum, b_sum, nsum);
	out.v = ml_lower_as(e->x, out.v, a->v);
	*a = out;
}

ml_value *
ml_lower_einsum(ml_lower *x)
{
	equation e = {.x = x, .n = x->nin};
	int64_t perm[ML_MAX_RANK];

	e.in = ML_LOWER_ARRAY(x, term, e.n);
	if (!read_equation(&e, ml_onnx_text(x, "equation", "")))
		return NULL;
	for (int i = 0; i < e.n; i++)
		prepare(&e, &e.in[i]);
	term *t = &e.in[0];
	for (int i = 1; i < e.n && t->v && e.in[i].v; i++)
		contract(&e, t, &e.in[i]);
	for (int i = 0; i < t->n && t->v;)
		if (find(&e.out, t->label[i]) < 0)
			sum_out(&e, t, i);
		else
			i++;
	if (!t->v || x->b->failed != ML_OK)
		return NULL;
	for (int i = 0; i < e.out.n; i++)
		perm[i] = find(t, e.out.label[i]);
	return ml_lower_transpose(x, t->v, perm);
}
