/* absorb.c -- factors of a layer's inputs that the norm in front of it takes into its own. */
#include "awq.h"
#include "u4.h"

enum { MOST = 16 }; /* layers of one input that its factors are chosen by */

/* Does n do no more than call the rows of its operand something else? */
static bool
renames_rows(const ml_node *n)
{
	const ml_type *from = &ml_in(n, 0)->type, *to = &n->out[0].type;

	return n->op == ML_OP_reshape && from->rank && to->rank &&
	       from->dim[from->rank - 1] == to->dim[to->rank - 1];
}

static bool
is_row_of_floats(const ml_value *v)
{
	return ml_is_const(v) && v->type.dtype == ML_f32 && v->type.rank == 1;
}

static bool
has_one_reader(const ml_value *v)
{
	return v->uses && !v->uses->next;
}

/* What makes x, which nothing else shows, if that is a norm along its last axis by constants; else
 * NULL. */
static ml_node *
norm_of(const ml_value *x)
{
	while (x->def && renames_rows(x->def)) {
		x = ml_in(x->def, 0);
		if (!has_one_reader(x))
			return NULL;
	}
	ml_node *n = x->def;
	if (!n || (n->op != ML_OP_layer_norm && n->op != ML_OP_rms_norm))
		return NULL;
	for (int i = 1; i < n->nin; i++)
		if (!is_row_of_floats(ml_in(n, i)))
			return NULL;
	return n;
}

bool
ml_can_absorb(const ml_value *x)
{
	for (const ml_use *u = x->uses; u; u = u->next) {
		const ml_node *n = u->user;
		const ml_value *w = n->op == ML_OP_linear ? ml_in(n, 1) : NULL;
		if (!w || &n->in[0] != u || !ml_is_const(w) || w->type.dtype != ML_f32)
			return false;
	}
	return norm_of(x) != NULL;
}

double
ml_awq_find(const ml_pass_ctx *px, const ml_moments *m, int64_t size, float *s, ml_arena *arena)
{
	const float *w[MOST];
	int64_t columns[MOST];
	ml_feedback feedback;
	ml_awq a = {.x = m,
		    .w = w,
		    .columns = columns,
		    .size = size,
		    .symmetric = px->int4.symmetric,
		    .workers = px->workers};

	for (const ml_use *u = m->value->uses; u && a.layers < MOST; u = u->next) {
		w[a.layers] = ml_const_blob(ml_in(u->user, 1))->bytes;
		ml_dim_is_int(ml_in(u->user, 1)->type.dim[1], &columns[a.layers++]);
	}
	if (!ml_u4_feedback(&feedback, m->h, m->k, px->workers, arena))
		return 0;
	a.left = feedback.left;
	return ml_awq_choose(&a, s, arena);
}

/* Operand i of n with row r times s[r], or divided by it; a vector has rows of one number. */
static void
scale_rows(ml_pass_ctx *px, ml_node *n, int i, const float *s, bool divide)
{
	const ml_value *v = ml_in(n, i);
	const float *from = ml_const_blob(v)->bytes;
	ml_builder b = ml_builder_before(n);
	int64_t rows, columns = 1;
	void *bytes;

	ml_dim_is_int(v->type.dim[0], &rows);
	if (v->type.rank > 1)
		ml_dim_is_int(v->type.dim[1], &columns);
	uint64_t size = (uint64_t)(rows * columns) * sizeof(float);
	ml_blob *blob = ml_blob_new(&px->cx->memory, size, &bytes);
	float *to = bytes;
	for (int64_t r = 0; r < rows; r++)
		for (int64_t c = 0; c < columns; c++) {
			int64_t at = r * columns + c;
			to[at] = divide ? from[at] / s[r] : from[at] * s[r];
		}
	ml_set_operand(n, i, ml_build_const(&b, &v->type, blob));
}

void
ml_absorb(ml_pass_ctx *px, ml_value *x, const float *s)
{
	ml_node *n = norm_of(x);

	for (int i = 1; i < n->nin; i++)
		scale_rows(px, n, i, s, true);
	for (const ml_use *u = x->uses; u; u = u->next)
		scale_rows(px, u->user, 1, s, false);
}
