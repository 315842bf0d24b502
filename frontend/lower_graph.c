/* lower_graph.c -- names and values: tables of bindings, initializers, captures of subgraphs. */
#include "lower_graph.h"
#include <string.h>

static ml_binding *
slot(const ml_frame *f, const char *name)
{
	/* The table's address differs from run to run: names cannot be made to collide. */
	size_t i = (size_t)ml_hash_bytes(name, strlen(name), (uint64_t)(uintptr_t)f) & f->mask;

	while (f->table[i].name && strcmp(f->table[i].name, name))
		i = (i + 1) & f->mask;
	return &f->table[i];
}

ml_frame *
ml_frame_new(ml_import *im, Onnx__OperatorSetIdProto *const *imports, size_t n)
{
	ml_frame *f = ML_NEW(&im->scratch, ml_frame);

	f->mask = 15;
	f->table = ML_NEW_ARRAY(&im->scratch, ml_binding, f->mask + 1);
	f->imports = imports;
	f->n_imports = n;
	return f;
}

ml_binding *
ml_frame_find(const ml_frame *f, const char *name)
{
	ml_binding *b = slot(f, name);

	return b->name ? b : NULL;
}

static void
grow(ml_import *im, ml_frame *f)
{
	ml_binding *old = f->table;
	size_t n = f->mask + 1;

	f->table = ML_NEW_ARRAY(&im->scratch, ml_binding, 2 * n);
	f->mask = 2 * n - 1;
	for (size_t i = 0; i < n; i++)
		if (old[i].name)
			*slot(f, old[i].name) = old[i];
}

ml_binding *
ml_frame_bind(ml_import *im, ml_frame *f, const char *name)
{
	if (2 * f->count > f->mask)
		grow(im, f);
	ml_binding *b = slot(f, name);
	if (!b->name)
		f->count++;
	*b = (ml_binding){.name = name};
	return b;
}

ml_value *
ml_frame_read(ml_import *im, const ml_binding *binding, ml_builder *b)
{
	ml_onnx_tensor_view view;
	ml_type type = {0};
	ml_status status;

	if (binding->tensor)
		status = ml_onnx_tensor(im->cx, im->model, binding->tensor, b->prov, &view);
	else
		status = ml_onnx_sparse_tensor(im->cx, im->model, binding->sparse, b->prov, &view);
	if (status != ML_OK) {
		b->failed = status;
		return NULL;
	}
	if (view.rank > ML_MAX_RANK) {
		ml_blob_drop(view.bytes);
		b->failed =
			ml_error(im->cx, ML_ERR_UNSUPPORTED, b->prov,
				 "tensor '%s' has %d dimensions, more than %d",
				 ml_escaped(&im->cx->arena, binding->name), view.rank, ML_MAX_RANK);
		return NULL;
	}
	type.dtype = view.dtype;
	type.rank = view.rank;
	for (int i = 0; i < view.rank; i++)
		type.dim[i] = ml_dim_int(im->m->dims, view.dims[i]);
	ml_value *v = ml_build_const(b, &type, view.bytes);
	if (v)
		v->name = ml_strdup(&im->m->arena, binding->name);
	return v;
}

ml_value *
ml_frame_value(ml_import *im, ml_frame *f, ml_builder *b, const char *name)
{
	ml_binding *binding = ml_frame_find(f, name);

	if (!binding || binding->poisoned)
		return NULL;
	if (binding->absent) {
		const ml_prov *p = binding->absent;
		b->failed = ml_error(im->cx, ML_ERR_UNSUPPORTED, p,
				     "result '%s' is used, but not supported",
				     ml_escaped(&im->cx->arena, name));
		return NULL;
	}
	if (!binding->value)
		binding->value = ml_frame_read(im, binding, b);
	binding->poisoned = !binding->value; /* told once */
	return binding->value;
}

static const char *
sparse_name(const Onnx__SparseTensorProto *s)
{
	return s->values && s->values->name ? s->values->name : "";
}

ml_status
ml_lower_initializers(ml_import *im, ml_frame *f, const Onnx__GraphProto *g)
{
	for (size_t i = 0; i < g->n_initializer; i++) {
		const char *name = g->initializer[i]->name;
		if (name && *name)
			ml_frame_bind(im, f, name)->tensor = g->initializer[i];
	}
	for (size_t i = 0; i < g->n_sparse_initializer; i++) {
		const char *name = sparse_name(g->sparse_initializer[i]);
		if (*name)
			ml_frame_bind(im, f, name)->sparse = g->sparse_initializer[i];
	}
	return ML_OK;
}

/* ---- captures ---- */

/* Names seen while walking a subgraph and those around it; `own` are defined there. */
typedef struct walk {
	ml_import *im;
	ml_frame *taken; /* names already in the list */
	ml_name_list *names;
} walk;

typedef struct level {
	ml_frame *own;
	const struct level *outer;
} level;

static void
use(walk *w, const level *l, const char *name)
{
	if (!name || !*name)
		return;
	for (; l; l = l->outer)
		if (ml_frame_find(l->own, name))
			return;
	if (ml_frame_find(w->taken, name))
		return;
	ml_frame_bind(w->im, w->taken, name);
	ML_PUSH(&w->im->scratch, *w->names, name);
}

static void walk_graph(walk *, const level *outer, const Onnx__GraphProto *);

static void
walk_node(walk *w, const level *l, const Onnx__NodeProto *node)
{
	for (size_t i = 0; i < node->n_input; i++)
		use(w, l, node->input[i]);
	for (size_t i = 0; i < node->n_attribute; i++) {
		const Onnx__AttributeProto *a = node->attribute[i];
		if (a->g)
			walk_graph(w, l, a->g);
		for (size_t j = 0; j < a->n_graphs; j++)
			walk_graph(w, l, a->graphs[j]);
	}
}

static void
walk_graph(walk *w, const level *outer, const Onnx__GraphProto *g)
{
	level here = {ml_frame_new(w->im, NULL, 0), outer};

	for (size_t i = 0; i < g->n_input; i++)
		if (g->input[i]->name)
			ml_frame_bind(w->im, here.own, g->input[i]->name);
	ml_lower_initializers(w->im, here.own, g);
	for (size_t i = 0; i < g->n_node; i++)
		for (size_t k = 0; k < g->node[i]->n_output; k++)
			ml_frame_bind(w->im, here.own, g->node[i]->output[k]);
	for (size_t i = 0; i < g->n_node; i++)
		walk_node(w, &here, g->node[i]);
	for (size_t i = 0; i < g->n_output; i++)
		use(w, &here, g->output[i]->name);
}

void
ml_lower_free_names(ml_import *im, const Onnx__GraphProto *g, ml_name_list *names)
{
	walk w = {.im = im, .taken = ml_frame_new(im, NULL, 0), .names = names};

	for (int i = 0; i < names->count; i++)
		ml_frame_bind(im, w.taken, names->at[i]);
	walk_graph(&w, NULL, g);
}
