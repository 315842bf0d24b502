/* verify.c -- what must hold of every complete module, whatever pass has just run.
 *
 * Structure (this file):
 *  1  Blocks are well-formed lists: first, last, prev and next agree; every node knows its block,
 *     every block its module and the node that owns it.
 *  2  A block ends with its only yield.
 *  3  Node ids are unique and below next_id.
 *  4  Operators exist; the numbers of operands and results are those of their rows in ops.def.
 *  5  An operand is an argument of the node's own block or a result of an earlier node in it:
 *     definitions come first, and bodies see nothing but their arguments.
 *  6  Use lists are exact: each operand slot is in the list of its value once, and nothing else is.
 *  7  Results know their node and arguments their block, each its own index.
 *  8  The main block yields one value for each output name.
 * Types (verify_type.c):
 *  9  Types have an element type, at most ML_MAX_RANK dims, none of them poison or negative.
 * 10  Dims are made of the module's own symbols and live in its table.
 * 11  Attributes hold what their kind says: strings and lists are there, element types exist.
 * 12  A constant has a blob that the module holds, of a static type, with exactly its bytes.
 * 13  Known contents belong to integer tensors of rank 0 or 1, one dim for each element, and
 *     those of constants are the constant's elements.
 * 14  if has two bodies, loop has one, others none.
 * 15  Arguments of bodies have the types of the operands they stand for; what bodies yield has
 *     the types of the results (if: up to sizes that differ between the branches).
 * 16  Guards state a rule about dims of the table.
 * 17  Result types are what inference gives for operands and attributes.
 * 18  Inference of the whole module needs no guard that the module does not have.
 */
#include "verify.h"

/* What the printer relies on is broken otherwise. */
static bool
can_print(int number)
{
	return (number >= 5 && number <= 8) || number >= 13;
}

ml_status
ml_broken(const ml_verifier *v, int number, const ml_node *n, const char *fmt, ...)
{
	ml_text node;
	va_list args;

	va_start(args, fmt);
	const char *text = ml_vformat(v->scratch, fmt, args);
	va_end(args);
	ml_text_init(&node, v->scratch);
	if (n && can_print(number))
		ml_print_node(&node, n);
	else if (n)
		ml_put(&node, "node %u", n->id);
	return ml_error(v->m->cx, ML_ERR_PASS, n ? n->prov : NULL,
			"IR invariant %d is broken: %s%s%s", number, text, n ? ": " : "", node.at);
}

/* ---- 1 to 4: before anything else is trusted ---- */

static ml_status
verify_list(const ml_verifier *v, const ml_block *b)
{
	const ml_node *prev = NULL;

	if (b->module != v->m)
		return ml_broken(v, 1, b->owner, "a block belongs to another module");
	for (const ml_node *n = b->first; n; prev = n, n = n->next) {
		if (n->prev != prev)
			return ml_broken(v, 1, n, "prev is not the node before");
		if (n->block != b)
			return ml_broken(v, 1, n, "a node is in the list of another block");
		if (n->id >= v->m->next_id)
			return ml_broken(v, 3, n, "id %u is not below next_id", n->id);
		/* Also ends the walk through a list that has become a circle. */
		if (v->id_taken[n->id]++)
			return ml_broken(v, 3, n, "id %u is taken", n->id);
		if ((n->op == ML_OP_yield) != (n->next == NULL))
			return ml_broken(v, 2, n,
					 n->next ? "a yield is not the last node"
						 : "the last node is no yield");
	}
	if (b->last != prev)
		return ml_broken(v, 1, prev, "last is not the last node");
	return prev ? ML_OK : ml_broken(v, 2, b->owner, "a block has no yield");
}

static ml_status
verify_counts(const ml_verifier *v, const ml_node *n)
{
	const ml_op_info *info = n->op > 0 && n->op < ML_OP_LIMIT ? ml_op_get(n->op) : NULL;

	if (!info || !info->name)
		return ml_broken(v, 4, n, "there is no operator %d", (int)n->op);
	if (n->nin < info->min_in || (info->max_in != ML_ANY && n->nin > info->max_in))
		return ml_broken(v, 4, n, "%s cannot have %d operands", info->name, n->nin);
	if (n->nout < 0 || (info->nout != ML_ANY && n->nout != info->nout))
		return ml_broken(v, 4, n, "%s cannot have %d results", info->name, n->nout);
	for (int i = 0; i < n->nin; i++)
		if (!n->in[i].value)
			return ml_broken(v, 4, n, "operand %d of %s is missing", i, info->name);
	return ML_OK;
}

static ml_status
verify_lists(const ml_verifier *v, const ml_block *b)
{
	ML_STEP(verify_list(v, b));
	for (const ml_node *n = b->first; n; n = n->next) {
		ML_STEP(verify_counts(v, n));
		for (int i = 0; i < n->nblocks; i++) {
			if (!n->body[i] || n->body[i]->owner != n)
				return ml_broken(v, 1, n, "body %d has another owner", i);
			ML_STEP(verify_lists(v, n->body[i]));
		}
	}
	return ML_OK;
}

/* ---- 5 to 7 ---- */

static ml_status
verify_operands(ml_verifier *v, const ml_node *n)
{
	for (int i = 0; i < n->nin; i++) {
		const ml_use *u = &n->in[i];
		if (ml_value_number(&v->seen, u->value) < 0)
			return ml_broken(v, 5, n, "operand %d is not defined before", i);
		if (ml_value_block(u->value) != n->block)
			return ml_broken(v, 5, n, "operand %d is a value of another block", i);
		if (u->user != n || !u->link || *u->link != u)
			return ml_broken(v, 6, n, "operand %d is not in its value's list of uses",
					 i);
	}
	v->operands += n->nin;
	return ML_OK;
}

static ml_status
verify_uses(ml_verifier *v, const ml_node *at, ml_value *value)
{
	ml_use **link = &value->uses;

	for (const ml_use *u = value->uses; u; link = (ml_use **)&u->next, u = u->next) {
		if (u->value != value || u->link != link)
			return ml_broken(v, 6, at, "a list of uses is out of order");
		if (u->user->nin <= 0 || u < u->user->in || u >= u->user->in + u->user->nin)
			return ml_broken(v, 6, at, "a use is no operand of its user");
		v->uses++;
	}
	return ML_OK;
}

static ml_status
verify_value(ml_verifier *v, const ml_node *at, ml_value *value)
{
	ML_STEP(verify_uses(v, at, value));
	ML_STEP(ml_verify_type(v, at, &value->type, "a type"));
	return value->content ? ml_verify_content(v, value) : ML_OK;
}

static ml_status
verify_arguments(ml_verifier *v, const ml_block *b)
{
	for (int i = 0; i < b->nargs; i++) {
		const ml_value *a = b->arg[i];
		if (!a || a->def || a->block != b || a->index != i)
			return ml_broken(v, 7, b->owner, "argument %d of a block is not its own",
					 i);
		ml_value_map_add(&v->seen, a);
	}
	for (int i = 0; i < b->nargs; i++)
		ML_STEP(verify_value(v, b->owner, b->arg[i]));
	return ML_OK;
}

static ml_status verify_block(ml_verifier *, const ml_block *);

static ml_status
verify_node(ml_verifier *v, const ml_node *n)
{
	ML_STEP(verify_operands(v, n));
	ML_STEP(ml_verify_attrs(v, n));
	for (int i = 0; i < n->nout; i++) {
		const ml_value *r = &n->out[i];
		if (r->def != n || r->block || r->index != i)
			return ml_broken(v, 7, n, "result %d is not its own", i);
		ml_value_map_add(&v->seen, r);
	}
	for (int i = 0; i < n->nout; i++)
		ML_STEP(verify_value(v, n, &n->out[i]));
	if (n->op == ML_OP_const)
		ML_STEP(ml_verify_constant(v, n));
	for (int i = 0; i < n->nblocks; i++)
		ML_STEP(verify_block(v, n->body[i]));
	return ml_verify_bodies(v, n);
}

static ml_status
verify_block(ml_verifier *v, const ml_block *b)
{
	ML_STEP(verify_arguments(v, b));
	for (const ml_node *n = b->first; n; n = n->next)
		ML_STEP(verify_node(v, n));
	return ML_OK;
}

static ml_status
verify_module(ml_verifier *v)
{
	const ml_module *m = v->m;

	if (!m->main || m->main->owner)
		return ml_broken(v, 1, NULL, "the main block has an owner");
	ML_STEP(verify_lists(v, m->main));
	ML_STEP(verify_block(v, m->main));
	/* Every operand is in its list, so equal numbers leave no room for others. */
	if (v->operands != v->uses)
		return ml_broken(v, 6, NULL, "nodes have %lld operands, values %lld uses",
				 (long long)v->operands, (long long)v->uses);
	if (m->main->last->nin != m->output_names.count)
		return ml_broken(v, 8, m->main->last, "%d values are yielded to %d output names",
				 m->main->last->nin, m->output_names.count);
	for (int i = 0; i < m->output_names.count; i++)
		if (!m->output_names.at[i])
			return ml_broken(v, 8, m->main->last, "output %d has no name", i);
	ML_STEP(ml_verify_guards(v));
	return ml_verify_inference(v);
}

ml_status
ml_verify(const ml_module *m)
{
	ml_arena scratch;
	ml_verifier v = {.m = m, .scratch = &scratch};

	ml_arena_init(&scratch, &m->cx->memory);
	v.seen = ml_value_map_new(&scratch);
	v.id_taken = ML_NEW_ARRAY(&scratch, uint8_t, m->next_id);
	ml_status status = verify_module(&v);
	ml_arena_free(&scratch);
	return status;
}
