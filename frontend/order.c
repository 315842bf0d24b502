/* order.c -- name resolution and the order of nodes. */
#include "order.h"
#include <string.h>

enum {
	MOST_REPORTS = 20, /* more of them help nobody */
	MOST_CYCLE_NAMES = 6,
	INPUT = -1, /* instead of a node's position */
	INITIALIZER = -2,
};

typedef struct definition {
	const char *name; /* NULL: free slot */
	int node;         /* position of the node that makes it, INPUT or INITIALIZER */
} definition;

typedef struct edge {
	int from, to; /* node `to` needs node `from` */
} edge;

/* The names of one graph or function body, and what its nodes need from each other. */
typedef struct scope scope;
struct scope {
	scope *outer;
	Onnx__NodeProto *const *node;
	int n;
	definition *table; /* open addressing, a power of two in size */
	size_t mask;
	int current; /* node whose inputs and subgraphs are being looked at, -1: none */
	ML_VEC(edge) edges;
};

typedef struct ordering {
	ml_context *cx;
	ml_onnx_model *model;
	Onnx__OperatorSetIdProto *const *imports;
	size_t n_imports;
	ml_arena *arena; /* scratch */
	uint64_t seed;   /* differs from run to run: names cannot be made to collide */
	int problems;
	ml_status status;
} ordering;

static void order_graph(ordering *, scope *outer, Onnx__GraphProto *);

static const ml_prov *
prov_of(ordering *o, const scope *s, int i)
{
	const Onnx__NodeProto *node = i >= 0 ? s->node[i] : NULL;

	if (!node)
		return NULL;
	return ml_onnx_prov(&o->cx->arena, node, i,
			    ml_onnx_opset(o->imports, o->n_imports, node->domain));
}

static void
problem(ordering *o, const scope *s, int node, const char *fmt, const char *name)
{
	o->status = ML_ERR_FORMAT;
	if (o->problems++ < MOST_REPORTS)
		ml_error(o->cx, ML_ERR_FORMAT, prov_of(o, s, node), fmt,
			 ml_escaped(&o->cx->arena, name));
}

static definition *
find_slot(ordering *o, const scope *s, const char *name)
{
	size_t i = (size_t)ml_hash_bytes(name, strlen(name), o->seed) & s->mask;

	while (s->table[i].name && strcmp(s->table[i].name, name))
		i = (i + 1) & s->mask;
	return &s->table[i];
}

static void
define(ordering *o, scope *s, const char *name, int node)
{
	if (!name || !*name)
		return;
	definition *d = find_slot(o, s, name);
	/* An input may have an initializer: its default value. */
	if (d->name && !(d->node == INPUT && node == INITIALIZER))
		problem(o, s, node, "'%s' is defined twice", name);
	else
		*d = (definition){name, node};
}

/* Finds a name from the inside out.  Where it is defined, the node being looked at there depends on
 * the node that makes it: for captured names that is the node the subgraph belongs to. */
static bool
resolve(ordering *o, scope *s, const char *name)
{
	for (; s; s = s->outer) {
		const definition *d = find_slot(o, s, name);
		if (!d->name)
			continue;
		edge e = {d->node, s->current};
		if (e.from >= 0 && e.to >= 0)
			ML_PUSH(o->arena, s->edges, e);
		return true;
	}
	return false;
}

static void
open_scope(ordering *o, scope *s, Onnx__NodeProto *const *node, size_t n, size_t more)
{
	size_t names = more, room = 8;

	for (size_t i = 0; i < n; i++)
		names += node[i]->n_output;
	while (room < 2 * names)
		room *= 2;
	s->node = node;
	s->n = (int)n;
	s->table = ML_NEW_ARRAY(o->arena, definition, room);
	s->mask = room - 1;
	s->current = -1;
}

static void
resolve_node(ordering *o, scope *s, int i)
{
	const Onnx__NodeProto *node = s->node[i];

	s->current = i;
	for (size_t k = 0; k < node->n_input; k++)
		if (*node->input[k] && !resolve(o, s, node->input[k]))
			problem(o, s, i, "input '%s' is not defined anywhere", node->input[k]);
	for (size_t k = 0; k < node->n_attribute; k++) {
		const Onnx__AttributeProto *a = node->attribute[k];
		if (a->g)
			order_graph(o, s, a->g);
		for (size_t j = 0; j < a->n_graphs; j++)
			order_graph(o, s, a->graphs[j]);
	}
	s->current = -1;
}

/* Edges by consumer: those of node i are at[start[i]] .. at[start[i + 1]]. */
typedef struct needs {
	int *start, *at;
} needs;

static needs
sort_edges(ordering *o, const scope *s)
{
	needs by = {.start = ML_NEW_ARRAY(o->arena, int, s->n + 2),
		    .at = ML_NEW_ARRAY(o->arena, int, s->edges.count)};

	for (int i = 0; i < s->edges.count; i++)
		by.start[s->edges.at[i].to + 2]++;
	for (int i = 2; i < s->n + 2; i++)
		by.start[i] += by.start[i - 1];
	for (int i = 0; i < s->edges.count; i++)
		by.at[by.start[s->edges.at[i].to + 1]++] = s->edges.at[i].from;
	return by;
}

static const char *
shown_name(const Onnx__NodeProto *n)
{
	return n->name && *n->name ? n->name : n->n_output ? n->output[0] : "";
}

static void
report_cycle(ordering *o, const scope *s, const int *stack, int depth, int node)
{
	ml_text names;
	int first = depth - 1, length;

	while (stack[first] != node)
		first--;
	length = depth - first;
	ml_text_init(&names, o->arena);
	for (int i = 0; i < length && i < MOST_CYCLE_NAMES; i++)
		ml_put(&names, "'%s' needs ",
		       ml_escaped(o->arena, shown_name(s->node[stack[first + i]])));
	if (length > MOST_CYCLE_NAMES)
		ml_put(&names, "... needs ");
	o->status = ML_ERR_FORMAT;
	o->problems++;
	ml_error(o->cx, ML_ERR_FORMAT, prov_of(o, s, node), "cycle of %d node%s: %s'%s'", length,
		 length == 1 ? "" : "s", names.at, ml_escaped(o->arena, shown_name(s->node[node])));
}

/* Depth first from the first node on, each node after what it needs: an order that was valid comes
 * out unchanged.  The stack is explicit, as chains are as long as models. */
static void
sort_nodes(ordering *o, const scope *s, uint32_t *order)
{
	needs need = sort_edges(o, s);
	int *stack = ML_NEW_ARRAY(o->arena, int, s->n), depth = 0, done = 0;
	int *next = ML_NEW_ARRAY(o->arena, int, s->n);
	enum { NEW, OPEN, DONE } *state = ml_alloc_array(o->arena, (size_t)s->n, sizeof *state);

	for (int root = 0; root < s->n; root++) {
		if (state[root] == NEW) {
			stack[depth++] = root;
			state[root] = OPEN;
			next[root] = need.start[root];
		}
		while (depth) {
			int top = stack[depth - 1];
			if (next[top] == need.start[top + 1]) {
				state[top] = DONE;
				order[done++] = (uint32_t)top;
				depth--;
				continue;
			}
			int below = need.at[next[top]++];
			if (state[below] == OPEN) {
				report_cycle(o, s, stack, depth, below);
				return;
			}
			if (state[below] == NEW) {
				stack[depth++] = below;
				state[below] = OPEN;
				next[below] = need.start[below];
			}
		}
	}
}

/* Everything after inputs and initializers are defined. */
static void
order_body(ordering *o, scope *s, size_t *n_order, uint32_t **order)
{
	for (int i = 0; i < s->n; i++)
		for (size_t k = 0; k < s->node[i]->n_output; k++)
			define(o, s, s->node[i]->output[k], i);
	for (int i = 0; i < s->n; i++)
		resolve_node(o, s, i);
	*order = ML_NEW_ARRAY(&o->model->arena, uint32_t, s->n);
	*n_order = (size_t)s->n;
	sort_nodes(o, s, *order);
}

static void
order_graph(ordering *o, scope *outer, Onnx__GraphProto *g)
{
	scope s = {.outer = outer};

	open_scope(o, &s, g->node, g->n_node,
		   g->n_input + g->n_initializer + g->n_sparse_initializer);
	for (size_t i = 0; i < g->n_input; i++) {
		if (!g->input[i]->name || !*g->input[i]->name)
			problem(o, &s, -1, "a graph input has no name%s", NULL);
		define(o, &s, g->input[i]->name, INPUT);
	}
	for (size_t i = 0; i < g->n_initializer; i++)
		define(o, &s, g->initializer[i]->name, INITIALIZER);
	for (size_t i = 0; i < g->n_sparse_initializer; i++)
		if (g->sparse_initializer[i]->values)
			define(o, &s, g->sparse_initializer[i]->values->name, INITIALIZER);
	order_body(o, &s, &g->n_order, &g->order);
	for (size_t i = 0; i < g->n_output; i++) {
		const char *name = g->output[i]->name;
		if (!name || !*name || !resolve(o, &s, name))
			problem(o, &s, -1, "graph output '%s' is not defined anywhere", name);
	}
}

static void
order_function(ordering *o, Onnx__FunctionProto *f)
{
	scope s = {.outer = NULL};

	o->imports = f->opset_import;
	o->n_imports = f->n_opset_import;
	open_scope(o, &s, f->node, f->n_node, f->n_input);
	for (size_t i = 0; i < f->n_input; i++)
		define(o, &s, f->input[i], INPUT);
	order_body(o, &s, &f->n_order, &f->order);
	for (size_t i = 0; i < f->n_output; i++)
		if (!resolve(o, &s, f->output[i]))
			problem(o, &s, -1, "function output '%s' is not defined in its body",
				f->output[i]);
}

ml_status
ml_order_nodes(ml_context *cx, ml_onnx_model *m)
{
	ordering o = {.cx = cx,
		      .model = m,
		      .arena = &m->scratch,
		      .imports = m->proto->opset_import,
		      .n_imports = m->proto->n_opset_import};

	o.seed = (uint64_t)(uintptr_t)&o ^ (uint64_t)(uintptr_t)m;
	order_graph(&o, NULL, m->proto->graph);
	for (size_t i = 0; i < m->proto->n_functions; i++)
		order_function(&o, m->proto->functions[i]);
	return o.status;
}
