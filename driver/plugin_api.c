/* plugin_api.c -- what plugins call: mlopt/ir.h over the compiler's own graph. */
#include "../passes/rules.h"
#include "../ir/expand.h"
#include "driver.h"
#include "mlopt/pass.h"

/* ---- looking ---- */

ml_block *
ml_see_main(const ml_module *m)
{
	return m->main;
}

ml_node *
ml_see_first(const ml_block *b)
{
	return b->first;
}

ml_node *
ml_see_next(const ml_node *n)
{
	return n->next;
}

ml_block *
ml_see_body(const ml_node *n, int i)
{
	return i >= 0 && i < n->nblocks ? n->body[i] : NULL;
}

ml_op
ml_see_op(const ml_node *n)
{
	return n->op;
}

const char *
ml_see_name(const ml_node *n)
{
	return n->prov && n->prov->node ? n->prov->node : "";
}

ml_value *
ml_see_operand(const ml_node *n, int i)
{
	return i < 0 ? NULL : ml_in(n, i);
}

ml_value *
ml_see_result(const ml_node *n, int i)
{
	return i >= 0 && i < n->nout ? &n->out[i] : NULL;
}

ml_node *
ml_see_definition(const ml_value *v)
{
	return v->def;
}

int
ml_see_uses(const ml_value *v)
{
	return ml_use_count(v);
}

ml_dtype
ml_see_dtype(const ml_value *v)
{
	return v->type.dtype;
}

int
ml_see_rank(const ml_value *v)
{
	return v->type.rank;
}

bool
ml_see_size(const ml_value *v, int axis, int64_t *size)
{
	return axis >= 0 && axis < v->type.rank && ml_dim_is_int(v->type.dim[axis], size);
}

bool
ml_see_number(const ml_value *v, double *number)
{
	return ml_is_splat(v, number);
}

/* Attribute `slot` when it is of this kind. */
static const ml_attr *
attribute(const ml_node *n, int slot, ml_attr_kind kind)
{
	const ml_op_info *info = ml_op_get(n->op);

	return slot >= 0 && slot < info->nattrs && info->attr[slot].kind == kind ? &n->attr[slot]
										 : NULL;
}

bool
ml_see_int(const ml_node *n, int slot, int64_t *out)
{
	const ml_attr *a = attribute(n, slot, ML_ATTR_i64);

	if (a)
		*out = a->i64;
	return a;
}

bool
ml_see_float(const ml_node *n, int slot, double *out)
{
	const ml_attr *a = attribute(n, slot, ML_ATTR_f64);

	if (a)
		*out = a->f64;
	return a;
}

ml_value *
ml_match_value(const ml_match *m, int letter)
{
	return letter > 0 && letter < ML_LETTERS ? m->at[letter] : NULL;
}

/* ---- changing ---- */

ml_value *
ml_make_node(ml_pass_ctx *px, ml_node *before, ml_op op, ml_value *const *operand, int operands)
{
	ml_builder b = ml_builder_before(before);

	if (!ml_op_get(op)->name) {
		ml_error(px->cx, ML_ERR_PLUGIN, NULL, "there is no operator number %d", (int)op);
		return NULL;
	}
	return ml_finish1(&b, ml_begin(&b, op, operand, operands));
}

ml_value *
ml_make_number(ml_pass_ctx *px, ml_node *before, ml_dtype dtype, double number)
{
	ml_builder b = ml_builder_before(before);

	(void)px;
	return ml_dtype_bytes(dtype) ? ml_build_f64(&b, dtype, number) : NULL;
}

ml_value *
ml_make_mean(ml_pass_ctx *px, ml_node *before, ml_value *x)
{
	ml_builder b = ml_builder_before(before);
	int64_t axes[ML_MAX_RANK];

	(void)px;
	if (!x || !ml_is_float(x->type.dtype))
		return NULL;
	for (int i = 0; i < x->type.rank; i++)
		axes[i] = i;
	x = x->type.rank ? ml_mean_of(&b, x, axes, x->type.rank) : x;
	return x ? ml_build_reshape(&b, x, NULL, 0) : NULL;
}

bool
ml_make_replaced(ml_pass_ctx *px, ml_value *old, ml_value *with)
{
	if (!with || !ml_type_equal(&old->type, &with->type) || !ml_spend_fuel(px))
		return false;
	ml_replace_uses(old, with);
	px->changes++;
	return true;
}

void
ml_make_remark(ml_pass_ctx *px, const ml_node *n, const char *text)
{
	ml_remark(px->cx, n->prov, "%s", text);
}
