/* graph.c -- modules, blocks, uses, and the editing of graphs. */
#include "infer.h"
#include <assert.h>
#include <string.h>

ml_module *
ml_module_new(ml_context *cx, const char *name)
{
	ml_module *m = ml_resize(&cx->memory, NULL, 0, sizeof *m);

	*m = (ml_module){.cx = cx, .next_id = 1, .next = cx->modules};
	ml_arena_init(&m->arena, &cx->memory);
	if (cx->modules)
		cx->modules->prev = m;
	cx->modules = m;
	m->dims = ml_dims_new(&cx->memory);
	m->name = ml_strdup(&m->arena, name ? name : "");
	m->main = ml_block_new(m, NULL);
	return m;
}

void
ml_module_free(ml_module *m)
{
	if (!m)
		return;
	ml_memory *memory = m->arena.memory;
	*(m->prev ? &m->prev->next : &m->cx->modules) = m->next;
	if (m->next)
		m->next->prev = m->prev;
	for (int i = 0; i < m->blobs.count; i++)
		ml_blob_drop(m->blobs.at[i]);
	ml_dims_free(m->dims);
	ml_arena_free(&m->arena);
	ml_resize(memory, m, sizeof *m, 0);
}

static void
own_blocks(ml_module *m, ml_block *b)
{
	b->module = m;
	for (ml_node *n = b->first; n; n = n->next)
		for (int i = 0; i < n->nblocks; i++)
			own_blocks(m, n->body[i]);
}

void
ml_module_swap(ml_module *a, ml_module *b)
{
	ml_module was = *a;
	ml_module *prev = b->prev, *next = b->next;

	*a = *b;
	*b = was;
	a->prev = was.prev;
	a->next = was.next;
	b->prev = prev;
	b->next = next;
	own_blocks(a, a->main);
	own_blocks(b, b->main);
}

ml_block *
ml_block_new(ml_module *m, ml_node *owner)
{
	ml_block *b = ML_NEW(&m->arena, ml_block);

	b->module = m;
	b->owner = owner;
	if (!owner)
		return b;
	ml_block **body = ML_NEW_ARRAY(&m->arena, ml_block *, owner->nblocks + 1);
	if (owner->nblocks)
		memcpy(body, owner->body, (size_t)owner->nblocks * sizeof *body);
	body[owner->nblocks++] = b;
	owner->body = body;
	return b;
}

ml_value *
ml_block_add_arg(ml_block *b, const ml_type *type, const char *name)
{
	ml_arena *arena = &b->module->arena;
	ml_value *v = ML_NEW(arena, ml_value);

	v->type = *type;
	v->block = b;
	v->index = b->nargs;
	v->name = name ? ml_strdup(arena, name) : NULL;
	/* The array doubles when the count reaches a power of two. */
	if (!(b->nargs & (b->nargs - 1))) {
		ml_value **arg = ML_NEW_ARRAY(arena, ml_value *, b->nargs ? 2 * b->nargs : 1);
		if (b->nargs)
			memcpy(arg, b->arg, (size_t)b->nargs * sizeof *arg);
		b->arg = arg;
	}
	b->arg[b->nargs++] = v;
	return v;
}

/* ---- uses ---- */

static void
link_use(ml_use *u, ml_value *v)
{
	u->value = v;
	u->link = &v->uses;
	u->next = v->uses;
	if (u->next)
		u->next->link = &u->next;
	v->uses = u;
}

static void
unlink_use(ml_use *u)
{
	*u->link = u->next;
	if (u->next)
		u->next->link = u->link;
	u->link = NULL;
}

int
ml_use_count(const ml_value *v)
{
	int n = 0;

	for (const ml_use *u = v->uses; u; u = u->next)
		n++;
	return n;
}

bool
ml_is_result(const ml_value *v)
{
	for (const ml_use *u = v->uses; u; u = u->next)
		if (u->user->op == ML_OP_yield)
			return true;
	return false;
}

bool
ml_is_widening(const ml_value *v)
{
	return ml_is(v, ML_OP_cast) && v->type.dtype == ML_f32 &&
	       ml_in(v->def, 0)->type.dtype == ML_bf16;
}

ml_block *
ml_value_block(const ml_value *v)
{
	return v->def ? v->def->block : v->block;
}

void
ml_set_operand(ml_node *n, int i, ml_value *v)
{
	unlink_use(&n->in[i]);
	link_use(&n->in[i], v);
}

void
ml_replace_uses(ml_value *old, ml_value *with)
{
	assert(ml_type_equal(&old->type, &with->type));
	while (old != with && old->uses) {
		ml_use *u = old->uses;
		unlink_use(u);
		link_use(u, with);
	}
	if (!old->content && ml_content_count(&with->type) >= 0 &&
	    (with->content || ml_is_const(with)))
		ml_spread_content(with);
}

/* ---- the list of a block ---- */

static void
list_insert(ml_block *b, ml_node *n, ml_node *before)
{
	n->block = b;
	n->next = before;
	n->prev = before ? before->prev : b->last;
	*(n->prev ? &n->prev->next : &b->first) = n;
	*(before ? &before->prev : &b->last) = n;
}

static void
list_remove(ml_node *n)
{
	*(n->prev ? &n->prev->next : &n->block->first) = n->next;
	*(n->next ? &n->next->prev : &n->block->last) = n->prev;
	n->prev = n->next = NULL;
}

/* A finished node enters its block; only now its operands learn of it. */
void
ml_node_insert(ml_node *n, ml_block *b, ml_node *before)
{
	for (int i = 0; i < n->nin; i++)
		link_use(&n->in[i], n->in[i].value);
	if (!before && b->last && b->last->op == ML_OP_yield)
		before = b->last;
	list_insert(b, n, before);
}

void
ml_node_remove(ml_node *n)
{
	for (int i = 0; i < n->nout; i++)
		assert(!n->out[i].uses);
	for (int i = 0; i < n->nin; i++)
		unlink_use(&n->in[i]);
	list_remove(n);
	n->block = NULL;
}

void
ml_node_move_before(ml_node *n, ml_node *position)
{
	if (n == position)
		return;
	list_remove(n);
	list_insert(position->block, n, position);
}

void
ml_node_new_results(ml_module *m, ml_node *n, int nout)
{
	n->nout = nout;
	n->out = ML_NEW_ARRAY(&m->arena, ml_value, nout);
	for (int i = 0; i < nout; i++) {
		n->out[i].def = n;
		n->out[i].index = i;
	}
}

ml_node *
ml_node_new(ml_module *m, ml_op op, int nin)
{
	const ml_op_info *info = ml_op_get(op);
	ml_node *n = ML_NEW(&m->arena, ml_node);

	n->op = op;
	n->id = m->next_id++;
	n->nin = nin;
	n->in = ML_NEW_ARRAY(&m->arena, ml_use, nin);
	for (int i = 0; i < nin; i++)
		n->in[i].user = n;
	n->attr = ML_NEW_ARRAY(&m->arena, ml_attr, info->nattrs);
	for (int i = 0; i < info->nattrs; i++)
		n->attr[i] = info->attr[i].init;
	if (info->nout != ML_ANY)
		ml_node_new_results(m, n, info->nout);
	return n;
}
