/* functions.c -- model-local functions: finding them, and bounding what inlining them costs. */
#include "functions.h"
#include <stdlib.h>
#include <string.h>

static const char *
text(const char *s)
{
	return s ? s : "";
}

static int
compare_names(const Onnx__FunctionProto *f, const char *domain, const char *name,
	      const char *overload)
{
	int order = strcmp(text(f->name), text(name));

	if (!order)
		order = strcmp(ml_onnx_domain(f->domain), ml_onnx_domain(domain));
	return order ? order : strcmp(text(f->overload), text(overload));
}

static int
compare(const void *a, const void *b)
{
	const Onnx__FunctionProto *g = *(Onnx__FunctionProto *const *)b;

	return compare_names(*(Onnx__FunctionProto *const *)a, g->domain, g->name, g->overload);
}

ml_status
ml_functions_index(ml_context *cx, ml_onnx_model *m)
{
	size_t n = m->proto->n_functions;

	m->function = ML_NEW_ARRAY(&m->arena, const Onnx__FunctionProto *, n);
	for (size_t i = 0; i < n; i++)
		m->function[i] = m->proto->functions[i];
	if (n > 1)
		qsort(m->function, n, sizeof *m->function, compare);
	for (size_t i = 1; i < n; i++)
		if (!compare(&m->function[i - 1], &m->function[i]))
			return ml_error(cx, ML_ERR_FORMAT, NULL, "function '%s' is defined twice",
					ml_escaped(&cx->arena, m->function[i]->name));
	return ML_OK;
}

static int
find(const ml_onnx_model *m, const char *domain, const char *name, const char *overload)
{
	int low = 0, high = (int)m->proto->n_functions;

	while (low < high) {
		int middle = low + (high - low) / 2;
		int order = compare_names(m->function[middle], domain, name, overload);
		if (!order)
			return middle;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return -1;
}

const Onnx__FunctionProto *
ml_onnx_find_function(const ml_onnx_model *m, const char *domain, const char *name,
		      const char *overload)
{
	int i = find(m, domain, name, overload);

	return i < 0 ? NULL : m->function[i];
}

/* What a function or graph comes to once calls are inlined. */
typedef struct cost {
	int64_t nodes;   /* in the file, with those of subgraphs */
	int64_t inlined; /* put in place of calls; stops growing past the limit */
	int height;      /* levels of calls and subgraphs below */
	enum { UNKNOWN, OPEN, KNOWN } state;
} cost;

typedef struct costs {
	ml_context *cx;
	const ml_onnx_model *model;
	cost *of; /* parallel to model->function */
	int level;
} costs;

static ml_status cost_of_nodes(costs *, Onnx__NodeProto *const *, size_t n, cost *sum);

static void
add(cost *sum, const cost *below, int64_t nodes, int64_t inlined)
{
	sum->nodes += nodes;
	sum->inlined += inlined;
	if (sum->inlined > ML_ONNX_INLINED)
		sum->inlined = ML_ONNX_INLINED + 1;
	if (sum->height < below->height + 1)
		sum->height = below->height + 1;
}

static ml_status
cost_of_function(costs *c, int i)
{
	const Onnx__FunctionProto *f = c->model->function[i];
	cost *known = &c->of[i];

	if (known->state == OPEN)
		return ml_error(c->cx, ML_ERR_FORMAT, NULL, "function '%s' calls itself",
				ml_escaped(&c->cx->arena, f->name));
	if (known->state == KNOWN)
		return ML_OK;
	known->state = OPEN;
	ML_STEP(cost_of_nodes(c, f->node, f->n_node, known));
	known->state = KNOWN;
	return ML_OK;
}

static ml_status
add_subgraph(costs *c, const Onnx__GraphProto *g, cost *sum)
{
	cost below = {.state = KNOWN};

	ML_STEP(cost_of_nodes(c, g->node, g->n_node, &below));
	add(sum, &below, below.nodes, below.inlined);
	return ML_OK;
}

static ml_status
add_node(costs *c, const Onnx__NodeProto *node, cost *sum)
{
	int callee = find(c->model, node->domain, node->op_type, node->overload);

	sum->nodes++;
	if (callee >= 0) {
		ML_STEP(cost_of_function(c, callee));
		const cost *below = &c->of[callee];
		add(sum, below, 0, below->nodes + below->inlined);
	}
	for (size_t k = 0; k < node->n_attribute; k++) {
		const Onnx__AttributeProto *a = node->attribute[k];
		if (a->g)
			ML_STEP(add_subgraph(c, a->g, sum));
		for (size_t j = 0; j < a->n_graphs; j++)
			ML_STEP(add_subgraph(c, a->graphs[j], sum));
	}
	return ML_OK;
}

/* The level bounds this recursion, the height what lowering will have to go through: a chain of
 * functions visited from its end never gets deep here. */
static ml_status
cost_of_nodes(costs *c, Onnx__NodeProto *const *node, size_t n, cost *sum)
{
	bool deep = ++c->level > ML_ONNX_NESTING;

	for (size_t i = 0; i < n && !deep; i++) {
		ML_STEP(add_node(c, node[i], sum));
		deep = sum->height > ML_ONNX_NESTING;
	}
	c->level--;
	if (deep)
		return ml_error(c->cx, ML_ERR_LIMIT, NULL,
				"function calls and subgraphs nest deeper than %d levels",
				ML_ONNX_NESTING);
	return ML_OK;
}

ml_status
ml_functions_check(ml_context *cx, ml_onnx_model *m)
{
	costs c = {.cx = cx, .model = m};
	cost main_graph = {.state = KNOWN};

	c.of = ML_NEW_ARRAY(&m->arena, cost, m->proto->n_functions);
	for (size_t i = 0; i < m->proto->n_functions; i++)
		ML_STEP(cost_of_function(&c, (int)i));
	ML_STEP(cost_of_nodes(&c, m->proto->graph->node, m->proto->graph->n_node, &main_graph));
	if (main_graph.inlined > ML_ONNX_INLINED)
		return ml_error(cx, ML_ERR_LIMIT, NULL,
				"inlining the model's functions gives more than %d nodes",
				ML_ONNX_INLINED);
	return ML_OK;
}
