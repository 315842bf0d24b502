/* work.c -- what each step computes and costs, for profiles: nodes, multiply-adds, bytes. */
#include "contract.h"
#include "plan.h"

ml_dim
ml_type_bytes(ml_dims *dims, const ml_type *t)
{
	return ml_dim_mul(dims, ml_type_count(dims, t), ml_dim_int(dims, ml_dtype_bytes(t->dtype)));
}

ml_dim
ml_panel_bytes(ml_dims *dims, const ml_read *r)
{
	ml_contract_form form = ml_form_of(r->value->type.dtype);
	ml_dim size[3];

	if (r->packed_for->op == ML_OP_linear_u4) {
		ml_dim bytes = ml_type_bytes(dims, &r->value->type);
		return r->operand == 1 ? ml_dim_floordiv(dims, bytes, ml_dim_int(dims, 2)) : bytes;
	}
	ml_panel_sizes(dims, r, size);
	return ml_dim_mul(dims, size[0], ml_pack_dim(dims, form, size[1], size[2]));
}

const char *
ml_step_kind_name(const ml_plan *plan, const ml_step *s)
{
	static const char *const family[] = {"rows",      "contract", "u4",  "pack",
					     "attention", "scatter",  "scan"};

	if (s->kind == ML_STEP_KERNEL)
		return family[plan->specs.at[s->spec].family];
	return ml_op_get(s->node->op)->name;
}

/* Sizes beyond what dims can say are left out. */
static ml_dim
sum(ml_dims *dims, ml_dim a, ml_dim b)
{
	ml_dim s = ml_dim_add(dims, a, b);

	return ml_dim_is_bad(s) ? a : s;
}

static ml_dim
dot_macs(ml_dims *dims, const ml_node *n)
{
	const ml_attr *contract = &ML_A(n, dot, lhs_contract);
	ml_dim macs = ml_type_count(dims, &n->out[0].type);

	for (int i = 0; i < contract->count; i++)
		macs = ml_dim_mul(dims, macs, ml_in(n, 0)->type.dim[contract->ints[i]]);
	return macs;
}

/* Scores q k', then their product with v. */
static ml_dim
attention_macs(ml_dims *dims, const ml_node *n)
{
	const ml_type *q = &ml_in(n, 0)->type, *v = &ml_in(n, 2)->type;
	ml_dim macs = ml_dim_add(dims, q->dim[3], v->dim[3]);

	for (int i = 0; i < 3; i++)
		macs = ml_dim_mul(dims, macs, q->dim[i]);
	return ml_dim_mul(dims, macs, v->dim[2]);
}

static void
note_macs(ml_dims *dims, ml_work *w, const ml_node *n)
{
	if (n->op == ML_OP_linear_u4) {
		ml_dim macs = ml_type_count(dims, &n->out[0].type);
		w->macs = sum(dims, w->macs, ml_dim_mul(dims, macs, ml_in(n, 1)->type.dim[0]));
		w->dtype = ML_u8;
	}
	if (n->op != ML_OP_dot && n->op != ML_OP_attention)
		return;
	w->macs = sum(dims, w->macs,
		      n->op == ML_OP_dot ? dot_macs(dims, n) : attention_macs(dims, n));
	w->dtype = ml_in(n, 0)->type.dtype;
}

/* Of a table that is only looked into, the elements that are looked up. */
static ml_dim
bytes_read(ml_dims *dims, const ml_read *r)
{
	ml_dim bytes = ml_dim_int(dims, 0);

	if (r->packed_for)
		return ml_panel_bytes(dims, r);
	for (const ml_use *u = r->value->uses; u; u = u->next) {
		if (u->user->op != ML_OP_gather || u != u->user->in)
			return ml_type_bytes(dims, &r->value->type);
		bytes = sum(dims, bytes, ml_type_bytes(dims, &u->user->out[0].type));
	}
	return bytes;
}

void
ml_note_work(ml_plan *plan, ml_step *s, ml_node *const *nodes, int count, const ml_outlined *io)
{
	ml_dims *dims = plan->m->dims;
	ml_dim none = ml_dim_int(dims, 0);
	ml_work w = {none, none, none, none, ML_none};

	s->prov = s->node->prov;
	for (int i = 0; i < count; i++) {
		note_macs(dims, &w, nodes[i]);
		s->prov = ml_prov_merge(plan->arena, s->prov, nodes[i]->prov);
	}
	for (int i = 0; i < io->in.count; i++) {
		ml_dim bytes = bytes_read(dims, &io->in.at[i]);
		w.read = sum(dims, w.read, bytes);
		if (ml_is_const(io->in.at[i].value))
			w.weights = sum(dims, w.weights, bytes);
	}
	for (int i = 0; i < io->out.count; i++)
		w.written = sum(dims, w.written, ml_type_bytes(dims, &io->out.at[i]->type));
	s->work = w;
}
