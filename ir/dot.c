/* dot.c -- a module as a Graphviz graph, for people to look at. */
#include "value_map.h"

static void
put_type_label(ml_text *t, const ml_value *v)
{
	ml_text type;

	ml_text_init(&type, t->arena);
	ml_type_print(&type, &v->type);
	ml_put_escaped(t, type.at); /* names of sizes come from the model */
}

static void
put_edges(ml_text *t, const ml_value_map *numbers, const ml_node *n)
{
	for (int i = 0; i < n->nin; i++) {
		const ml_value *v = ml_in(n, i);
		if (v->def)
			ml_put(t, "  n%u", v->def->id);
		else
			ml_put(t, "  v%d", ml_value_number(numbers, v));
		ml_put(t, " -> n%u [label=\"", n->id);
		put_type_label(t, v);
		ml_put(t, "\"];\n");
	}
}

static void put_block(ml_text *, const ml_value_map *, const ml_block *);

static void
put_node(ml_text *t, const ml_value_map *numbers, const ml_node *n)
{
	ml_put(t, "  n%u [label=\"%s", n->id, ml_op_get(n->op)->name);
	if (n->prov && n->prov->node) {
		ml_put(t, "\\n");
		ml_put_escaped(t, n->prov->node);
	}
	ml_put(t, "\"%s];\n", ml_op_get(n->op)->cls == ML_SOURCE ? ", shape=plain" : "");
	put_edges(t, numbers, n);
	for (int i = 0; i < n->nblocks; i++) {
		ml_put(t, "  subgraph cluster_%u_%d {\n  label=\"%s of n%u\";\n", n->id, i,
		       n->op != ML_OP_if ? "body"
		       : i               ? "else"
					 : "then",
		       n->id);
		put_block(t, numbers, n->body[i]);
		ml_put(t, "  }\n");
	}
}

static void
put_block(ml_text *t, const ml_value_map *numbers, const ml_block *b)
{
	for (int i = 0; i < b->nargs; i++) {
		ml_put(t, "  v%d [shape=ellipse, label=\"", ml_value_number(numbers, b->arg[i]));
		if (b->arg[i]->name)
			ml_put_escaped(t, b->arg[i]->name);
		else
			ml_put(t, "%d", i);
		ml_put(t, "\"];\n");
	}
	for (const ml_node *n = b->first; n; n = n->next)
		put_node(t, numbers, n);
}

void
ml_print_dot(ml_text *t, const ml_module *m)
{
	ml_value_map numbers = ml_number_values(t->arena, m);

	ml_put(t, "digraph \"");
	ml_put_escaped(t, m->name ? m->name : "");
	ml_put(t, "\" {\n  node [shape=box, fontname=\"sans\"];\n  edge [fontname=\"sans\"];\n");
	put_block(t, &numbers, m->main);
	ml_put(t, "}\n");
}
