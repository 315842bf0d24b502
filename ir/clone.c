/* clone.c -- deep copies of modules: nodes are copied, blobs and dims shared. */
#include "graph.h"
#include <string.h>

typedef struct ml_cloner {
	ml_module *to;
	ml_node **node;                  /* copy of the node with this id */
	const ml_prov *prov, *prov_copy; /* the last one copied: neighbours often share it */
} ml_cloner;

static const char *
copy_text(ml_cloner *c, const char *s)
{
	return s ? ml_strdup(&c->to->arena, s) : NULL;
}

/* Provenance may live in the arena of the module it describes. */
static const ml_prov *
copy_prov(ml_cloner *c, const ml_prov *p)
{
	const ml_prov *whole = p, *head = NULL, **tail = &head;

	if (p == c->prov)
		return c->prov_copy;
	for (; p; p = p->next) {
		ml_prov *copy = ML_NEW(&c->to->arena, ml_prov);
		*copy = *p;
		copy->node = copy_text(c, p->node);
		copy->op = copy_text(c, p->op);
		copy->next = NULL;
		*tail = copy;
		tail = &copy->next;
	}
	c->prov = whole;
	return c->prov_copy = head;
}

static void *
copy_bytes(ml_cloner *c, const void *bytes, size_t count, size_t size)
{
	void *copy = ml_alloc_array(&c->to->arena, count, size);

	return count ? memcpy(copy, bytes, count * size) : copy;
}

static void
copy_value(ml_cloner *c, const ml_value *from, ml_value *to)
{
	to->type = from->type;
	to->name = copy_text(c, from->name);
	if (from->content)
		to->content = copy_bytes(c, from->content, (size_t)ml_content_count(&from->type),
					 sizeof(ml_dim));
}

static ml_attr
copy_attr(ml_cloner *c, ml_attr_kind kind, ml_attr a)
{
	switch (kind) {
	case ML_ATTR_str: a.str = copy_text(c, a.str); break;
	case ML_ATTR_ints: a.ints = copy_bytes(c, a.ints, (size_t)a.count, sizeof *a.ints); break;
	case ML_ATTR_dims: a.dims = copy_bytes(c, a.dims, (size_t)a.count, sizeof *a.dims); break;
	case ML_ATTR_blob:
		if (a.blob)
			ML_PUSH(&c->to->arena, c->to->blobs, ml_blob_share(a.blob));
		break;
	case ML_ATTR_i64:
	case ML_ATTR_f64:
	case ML_ATTR_dtype: break;
	}
	return a;
}

/* A block sees only its own arguments and nodes, so no other map is needed. */
static ml_value *
copy_of(ml_cloner *c, const ml_value *v, ml_block *to)
{
	return v->def ? &c->node[v->def->id]->out[v->index] : to->arg[v->index];
}

static void
copy_block(ml_cloner *c, const ml_block *from, ml_block *to)
{
	for (int i = 0; i < from->nargs; i++)
		copy_value(c, from->arg[i], ml_block_add_arg(to, &from->arg[i]->type, NULL));
	for (const ml_node *n = from->first; n; n = n->next) {
		const ml_op_info *info = ml_op_get(n->op);
		ml_node *copy = ml_node_new(c->to, n->op, n->nin);
		copy->id = n->id;
		copy->prov = copy_prov(c, n->prov);
		if (copy->nout != n->nout)
			ml_node_new_results(c->to, copy, n->nout);
		for (int i = 0; i < n->nout; i++)
			copy_value(c, &n->out[i], &copy->out[i]);
		for (int i = 0; i < info->nattrs; i++)
			copy->attr[i] = copy_attr(c, info->attr[i].kind, n->attr[i]);
		for (int i = 0; i < n->nin; i++)
			copy->in[i].value = copy_of(c, n->in[i].value, to);
		for (int i = 0; i < n->nblocks; i++)
			copy_block(c, n->body[i], ml_block_new(c->to, copy));
		c->node[n->id] = copy;
		ml_node_insert(copy, to, NULL);
	}
}

ml_module *
ml_module_clone(const ml_module *m)
{
	ml_module *to = ml_module_new(m->cx, m->name);
	ml_cloner c = {.to = to};
	ml_arena scratch;

	ml_dims_free(to->dims);
	to->dims = ml_dims_share(m->dims);
	to->opset = m->opset;
	ml_arena_init(&scratch, &m->cx->memory);
	c.node = ML_NEW_ARRAY(&scratch, ml_node *, m->next_id);
	copy_block(&c, m->main, to->main);
	to->next_id = m->next_id;
	for (int i = 0; i < m->output_names.count; i++)
		ML_PUSH(&to->arena, to->output_names, copy_text(&c, m->output_names.at[i]));
	for (int i = 0; i < m->guards.count; i++) {
		ml_guard g = m->guards.at[i];
		g.prov = copy_prov(&c, g.prov);
		g.text = copy_text(&c, g.text);
		ML_PUSH(&to->arena, to->guards, g);
	}
	ml_arena_free(&scratch);
	return to;
}

void
ml_values_in(const ml_module *copy, ml_value *const *from, int n, ml_value **to, ml_arena *arena)
{
	ml_node **by_id = ML_NEW_ARRAY(arena, ml_node *, copy->next_id);

	for (ml_node *node = copy->main->first; node; node = node->next)
		by_id[node->id] = node;
	for (int i = 0; i < n; i++) {
		const ml_node *def = from[i]->def;
		if (!def)
			to[i] = copy->main->arg[from[i]->index];
		else
			to[i] = by_id[def->id] ? &by_id[def->id]->out[from[i]->index] : NULL;
	}
}

ml_node *
ml_node_by_id(const ml_module *m, uint32_t id)
{
	ml_node *n = m->main->first;

	while (n && n->id != id)
		n = n->next;
	return n;
}
