/* layer_errors.c -- a model as it is and as it will be, side by side in one module: what every
 * layer adds to the error, and what has come together before it.
 *
 * Both come from one import, so that values are the same where their names are.  Each layer gives
 * one result f64[3], sums over its elements: of squares; of squared errors when it reads what the
 * plain model computes (local); and of squared errors when it reads what was changed before it
 * (cumulative).
 */
#include "driver.h"
#include <string.h>

typedef struct joining {
	ml_arena *arena;
	ml_builder b;              /* at the end of the plain model */
	const ml_module *other;    /* the changed model, whose nodes are copied */
	ml_value **own, **through; /* by node id: what the copies give, fed by the plain model where
				    * names are equal, or by themselves */
	ml_value **plain;          /* by node id: the plain value of that name */
} joining;

static bool
is_layer(const ml_value *v)
{
	const ml_node *n = v->def;

	if (!n || !v->name || !ml_is_float(v->type.dtype))
		return false;
	switch (n->op) {
	case ML_OP_linear:
	case ML_OP_conv:
	case ML_OP_dot:
	case ML_OP_attention:
	case ML_OP_rnn: return true;
	case ML_OP_gather: return ml_is_const(ml_in(n, 0));
	default: return false;
	}
}

/* The plain value that has the name and type of the other's. */
static ml_value *
find_plain(const ml_module *m, const ml_value *other)
{
	for (ml_node *n = m->main->first; other->name && n; n = n->next)
		for (int i = 0; i < n->nout; i++)
			if (n->out[i].name && !strcmp(n->out[i].name, other->name) &&
			    ml_type_equal(&n->out[i].type, &other->type))
				return &n->out[i];
	return NULL;
}

/* ---- copies ---- */

static ml_attr
copy_attr(ml_module *m, ml_attr_kind kind, ml_attr a)
{
	const void *from = kind == ML_ATTR_ints ? (const void *)a.ints : (const void *)a.dims;
	size_t size = kind == ML_ATTR_ints ? sizeof *a.ints : sizeof *a.dims;

	if (kind == ML_ATTR_str && a.str)
		a.str = ml_strdup(&m->arena, a.str);
	if ((kind != ML_ATTR_ints && kind != ML_ATTR_dims) || !a.count)
		return a;
	void *to = memcpy(ml_alloc_array(&m->arena, (size_t)a.count, size), from,
			  (size_t)a.count * size);
	if (kind == ML_ATTR_ints)
		a.ints = to;
	else
		a.dims = to;
	return a;
}

/* A copy of the node on other operands; NULL where there is none: bodies, and results whose sizes
 * are symbols of their own. */
static ml_value *
copy_node(joining *j, const ml_node *n, ml_value *const *in)
{
	const ml_op_info *info = ml_op_get(n->op);

	if (n->op == ML_OP_const)
		return ml_build_const(&j->b, &n->out[0].type,
				      ml_blob_share(ML_A(n, const, value).blob));
	if (n->nblocks || n->nout != 1 || info->cls == ML_IRREGULAR || info->cls == ML_CONTROL)
		return NULL;
	for (int i = 0; i < n->nin; i++)
		if (!in[i])
			return NULL;
	ml_node *copy = ml_begin(&j->b, n->op, in, n->nin);
	for (int i = 0; copy && i < info->nattrs; i++)
		copy->attr[i] = copy_attr(j->b.m, info->attr[i].kind, n->attr[i]);
	ml_value *v = copy ? ml_finish1(&j->b, copy) : NULL;
	return v && ml_type_equal(&v->type, &n->out[0].type) ? v : NULL;
}

/* What stands for operand v of a copy. */
static ml_value *
operand(const joining *j, const ml_value *v, bool local)
{
	if (!v->def)
		return j->b.m->main->arg[v->index];
	if (v->index)
		return NULL;
	ml_value *plain = j->plain[v->def->id];
	if (local && plain)
		return plain;
	return (local ? j->own : j->through)[v->def->id];
}

static ml_value *
copied(joining *j, const ml_node *n, bool local)
{
	ml_value **in = ML_NEW_ARRAY(j->arena, ml_value *, n->nin);

	for (int i = 0; i < n->nin; i++)
		in[i] = operand(j, ml_in(n, i), local);
	return copy_node(j, n, in);
}

/* A quantization of rows has three results: it is spelled out before. */
static bool
is_spelled_out(const ml_node *n)
{
	return n->op == ML_OP_quantize_row;
}

/* ---- sums ---- */

static ml_value *
sum_of_squares(ml_builder *b, ml_value *v)
{
	int64_t axes[ML_MAX_RANK];
	ml_dim one = ml_dim_int(b->m->dims, 1);

	v = ml_op2(b, ML_OP_mul, v, v);
	for (int i = 0; v && i < v->type.rank; i++)
		axes[i] = i;
	v = v && v->type.rank ? ml_build_reduce(b, ML_OP_reduce_sum, v, axes, v->type.rank) : v;
	return ml_build_reshape(b, v, &one, 1);
}

static ml_value *
squared_error(ml_builder *b, ml_value *want, ml_value *got)
{
	if (!want || !got)
		return NULL;
	return sum_of_squares(b, ml_op2(b, ML_OP_sub, ml_build_cast(b, got, ML_f64), want));
}

/* The result for one layer, NULL when it cannot be compared. */
static ml_value *
sums_of(joining *j, ml_value *plain, const ml_node *other)
{
	ml_builder *b = &j->b;
	ml_value *own = j->own[other->id], *through = j->through[other->id];

	if (!own || !through)
		return NULL;
	b->prov = plain->def->prov;
	ml_value *want = ml_build_cast(b, plain, ML_f64);
	ml_value *part[] = {sum_of_squares(b, want), squared_error(b, want, own),
			    squared_error(b, want, through)};
	return ml_build_concat(b, part, 3, 0);
}

/* ---- the module ---- */

static void
copy_all(joining *j)
{
	for (const ml_node *n = j->other->main->first; n != j->other->main->last; n = n->next) {
		j->plain[n->id] = n->nout == 1 && n->op != ML_OP_const
					  ? find_plain(j->b.m, &n->out[0])
					  : NULL;
		j->b.prov = n->prov;
		j->own[n->id] = copied(j, n, true);
		j->through[n->id] = copied(j, n, false);
	}
}

ml_status
ml_join_layers(ml_module *plain, ml_module *other, ml_arena *arena)
{
	ml_node *yield = plain->main->last;
	ML_VEC(ml_value *) results = {0};
	ML_VEC(const char *) names = {0};

	ML_STEP(ml_expand_where(other->main, is_spelled_out));
	joining j = {.arena = arena, .b = ml_builder_before(yield), .other = other};
	j.own = ML_NEW_ARRAY(arena, ml_value *, other->next_id);
	j.through = ML_NEW_ARRAY(arena, ml_value *, other->next_id);
	j.plain = ML_NEW_ARRAY(arena, ml_value *, other->next_id);
	copy_all(&j);
	for (const ml_node *n = other->main->first; n; n = n->next) {
		ml_value *v = j.plain[n->id], *sums;
		if (!v || !is_layer(v) || !(sums = sums_of(&j, v, n)))
			continue;
		ML_PUSH(arena, results, sums);
		ML_PUSH(&plain->arena, names, v->name);
	}
	ML_STEP(j.b.failed);
	if (!results.count)
		return ml_error(plain->cx, ML_ERR_UNSUPPORTED, NULL,
				"no layer has a name in both forms of the model");
	ml_node_remove(yield);
	plain->output_names.count = 0;
	for (int i = 0; i < names.count; i++)
		ML_PUSH(&plain->arena, plain->output_names, names.at[i]);
	ml_builder b = ml_builder_at_end(plain->main, NULL);
	return ml_build_yield(&b, results.at, results.count);
}
