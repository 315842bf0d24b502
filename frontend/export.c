/* export.c -- IR to ONNX: composites without a spelling expanded, then node by node. */
#include "export_graph.h"
#include "../ir/catch.h"
#include <assert.h>
#include <string.h>

/* What the table says about an operator. */
typedef struct spelling {
	ml_spell_fn *fn;
} spelling;

static const spelling spellings[ML_OP_LIMIT] = {
#define ML_SPELL(op, fn, name) [ML_OP_##op] = {ml_spell_##fn},
#include "export_ops.def"
};

/* ---- nodes ---- */

static ml_status
export_node(ml_export *e, const ml_node *n)
{
	ml_spell_fn *fn = spellings[n->op].fn;

	e->node = n;
	assert(fn || ml_is_composite(n));
	if (!fn)
		ml_spell_fail(e, "it has no spelling");
	const char *name = fn ? fn(e, n) : NULL;
	if (e->status != ML_OK)
		return e->status;
	if (name)
		ml_spell_set(&n->out[0], name);
	for (int i = 0; i < n->nout; i++)
		ml_spell_sources(e, &n->out[i], (const char *)(intptr_t)n->out[i].scratch);
	return ML_OK;
}

ml_status
ml_export_block(ml_export *e, const ml_block *b)
{
	for (const ml_node *n = b->first; n != b->last; n = n->next) {
		bool used = false;
		for (int i = 0; i < n->nout; i++)
			used = used || n->out[i].uses;
		if (used)
			ML_STEP(export_node(e, n));
	}
	return ML_OK;
}

/* ---- inputs and outputs ---- */

static Onnx__TensorShapeProto__Dimension *
dimension(ml_export *e, ml_dim d, bool named)
{
	Onnx__TensorShapeProto__Dimension *p = ML_NEW(&e->arena, Onnx__TensorShapeProto__Dimension);
	const ml_term *term;
	ml_text text;

	onnx__tensor_shape_proto__dimension__init(p);
	if (ml_dim_is_int(d, &p->dim_value)) {
		p->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
		return p;
	}
	if (!named)
		return p;
	p->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
	if (ml_dim_terms(d, &term) == 1 && term->coefficient == 1 && term->natoms == 1 &&
	    term->atom[0]->kind == ML_ATOM_SYM) {
		p->dim_param = ml_strdup(&e->arena, term->atom[0]->sym->name);
		return p;
	}
	ml_text_init(&text, &e->arena);
	ml_dim_print(&text, d);
	p->dim_param = text.at;
	return p;
}

Onnx__ValueInfoProto *
ml_spell_info(ml_export *e, const ml_type *t, const char *name, bool dims_named)
{
	Onnx__ValueInfoProto *info = ML_NEW(&e->arena, Onnx__ValueInfoProto);
	Onnx__TypeProto *type = ML_NEW(&e->arena, Onnx__TypeProto);
	Onnx__TypeProto__Tensor *tensor = ML_NEW(&e->arena, Onnx__TypeProto__Tensor);
	Onnx__TensorShapeProto *shape = ML_NEW(&e->arena, Onnx__TensorShapeProto);

	onnx__value_info_proto__init(info);
	onnx__type_proto__init(type);
	onnx__type_proto__tensor__init(tensor);
	onnx__tensor_shape_proto__init(shape);
	shape->n_dim = (size_t)t->rank;
	shape->dim = ML_NEW_ARRAY(&e->arena, Onnx__TensorShapeProto__Dimension *, t->rank);
	for (int i = 0; i < t->rank; i++)
		shape->dim[i] = dimension(e, t->dim[i], dims_named);
	tensor->has_elem_type = true;
	tensor->elem_type = ml_spell_type(e, t->dtype);
	tensor->shape = shape;
	type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
	type->tensor_type = tensor;
	info->name = ml_strdup(&e->arena, name);
	info->type = type;
	return info;
}

/* Gives a tensor the name the caller knows; inputs may have it already. */
static void
name_output(ml_export *e, const ml_value *v, const char *name)
{
	const char *from = (const char *)(intptr_t)v->scratch;

	if (!strcmp(from, name))
		return;
	ml_spell_node(e, "Identity", &from, 1)->output[0] = ml_strdup(&e->arena, name);
}

static void
export_inputs(ml_export *e, Onnx__GraphProto *g)
{
	const ml_block *b = e->m->main;

	g->n_input = (size_t)b->nargs;
	g->input = ML_NEW_ARRAY(&e->arena, Onnx__ValueInfoProto *, b->nargs);
	for (int i = 0; i < b->nargs; i++) {
		const char *name = b->arg[i]->name;
		name = name ? name : ml_format(&e->arena, "input_%d", i);
		g->input[i] = ml_spell_info(e, &b->arg[i]->type, name, true);
		ml_spell_set(b->arg[i], g->input[i]->name);
		ml_spell_sources(e, b->arg[i], g->input[i]->name);
	}
}

static void
export_outputs(ml_export *e, Onnx__GraphProto *g)
{
	const ml_node *yield = e->m->main->last;

	g->n_output = (size_t)yield->nin;
	g->output = ML_NEW_ARRAY(&e->arena, Onnx__ValueInfoProto *, yield->nin);
	e->node = NULL;
	for (int i = 0; i < yield->nin; i++) {
		const char *name = i < e->m->output_names.count
					   ? e->m->output_names.at[i]
					   : ml_format(&e->arena, "output_%d", i);
		g->output[i] = ml_spell_info(e, &ml_in(yield, i)->type, name, true);
		name_output(e, ml_in(yield, i), name);
	}
}

/* A prefix that no name given from outside begins with. */
static const char *
free_prefix(ml_export *e)
{
	const ml_block *b = e->m->main;
	char *prefix = ml_strdup(&e->arena, "t");
	bool taken = true;

	while (taken) {
		size_t n = strlen(prefix);
		taken = false;
		for (int i = 0; i < b->nargs; i++)
			taken = taken || (b->arg[i]->name && !strncmp(b->arg[i]->name, prefix, n));
		for (int i = 0; i < e->m->output_names.count; i++)
			taken = taken || !strncmp(e->m->output_names.at[i], prefix, n);
		if (taken)
			prefix = ml_format(&e->arena, "%s_", prefix);
	}
	return prefix;
}

/* ---- the model ---- */

static Onnx__OperatorSetIdProto *
import(ml_export *e, const char *domain, int64_t version)
{
	Onnx__OperatorSetIdProto *p = ML_NEW(&e->arena, Onnx__OperatorSetIdProto);

	onnx__operator_set_id_proto__init(p);
	p->domain = ml_strdup(&e->arena, domain);
	p->has_version = true;
	p->version = version;
	return p;
}

static ml_status
export_model(ml_export *e, const char *path)
{
	Onnx__ModelProto *p = ML_NEW(&e->arena, Onnx__ModelProto);
	Onnx__GraphProto *g = ML_NEW(&e->arena, Onnx__GraphProto);
	ml_export_nodes nodes = {0};

	onnx__model_proto__init(p);
	onnx__graph_proto__init(g);
	e->nodes = &nodes;
	e->prefix = free_prefix(e);
	e->source = ML_NEW_ARRAY(&e->arena, ml_export_source, ml_sym_count(e->m->dims));
	e->opset = ML_EXPORT_OPSET;
	p->has_ir_version = true;
	p->producer_name = ml_strdup(&e->arena, "mlopt");
	p->graph = g;
	g->name = ml_strdup(&e->arena, e->m->name && *e->m->name ? e->m->name : "main");
	export_inputs(e, g);
	ML_STEP(ml_export_block(e, e->m->main));
	export_outputs(e, g);
	g->node = nodes.at;
	g->n_node = (size_t)nodes.count;
	p->n_opset_import = 1 + (size_t)e->domains.count;
	p->opset_import = ML_NEW_ARRAY(&e->arena, Onnx__OperatorSetIdProto *, p->n_opset_import);
	p->opset_import[0] = import(e, "", e->opset);
	p->ir_version = e->opset < 21 ? 9 : e->opset < 23 ? 10 : e->opset - 12;
	for (int i = 0; i < e->domains.count; i++)
		p->opset_import[1 + i] = import(e, e->domains.at[i], 1);
	return ml_export_write(e, p, path);
}

typedef struct export_job {
	ml_export *e;
	const char *path;
} export_job;

static ml_status
expand_and_export(void *job)
{
	const export_job *j = job;

	ML_STEP(ml_expand_where(j->e->m->main, ml_export_expands));
	return export_model(j->e, j->path);
}

ml_status
ml_export_onnx(ml_context *cx, const ml_module *m, const char *path)
{
	ml_export e = {.cx = cx, .m = ml_module_clone(m)};

	cx->stage = "export";
	ml_arena_init(&e.arena, &cx->memory);
	ml_status status = ml_catch(cx, expand_and_export, &(export_job){&e, path});
	if (status == ML_ERR_NOMEM)
		ml_error(cx, status, NULL, "out of memory while exporting");
	ml_arena_free(&e.arena);
	ml_module_free(e.m);
	return status;
}
