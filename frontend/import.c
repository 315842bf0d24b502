/* import.c -- ONNX to IR: the module, its inputs and outputs, what options change about them. */
#include "import.h"
#include "../ir/catch.h"
#include "lower_graph.h"
#include <string.h>

static const ml_import_options no_options;

/* ---- types of inputs ---- */

static const ml_import_shape *
find_shape(const ml_import_options *o, const char *input)
{
	for (int i = 0; i < o->nshapes; i++)
		if (!strcmp(o->shapes[i].input, input))
			return &o->shapes[i];
	return NULL;
}

static const ml_import_freeze *
find_freeze(const ml_import_options *o, const char *input)
{
	for (int i = 0; i < o->nfreezes; i++)
		if (!strcmp(o->freezes[i].input, input))
			return &o->freezes[i];
	return NULL;
}

static ml_dim
named_dim(ml_import *im, const ml_import_options *o, const char *name)
{
	for (int i = 0; i < o->ndims; i++)
		if (!strcmp(o->dims[i].name, name))
			return ml_dim_int(im->m->dims, o->dims[i].value);
	return ml_dim_sym(im->m->dims, ml_sym_named(im->m->dims, name, strlen(name)));
}

static ml_dim
declared_dim(ml_import *im, const ml_import_options *o, const char *input,
	     const Onnx__TensorShapeProto__Dimension *d, int axis)
{
	if (d && d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE &&
	    d->dim_value >= 0)
		return ml_dim_int(im->m->dims, d->dim_value);
	if (d && d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM &&
	    *d->dim_param)
		return named_dim(im, o, d->dim_param);
	return named_dim(im, o, ml_format(&im->m->arena, "%s_d%d", input, axis));
}

/* The tensor type a value is declared with; NULL, reported, for sequences, maps and the like. */
static const Onnx__TypeProto__Tensor *
tensor_type(ml_import *im, const Onnx__ValueInfoProto *v, const char *what, ml_status *status)
{
	const char *name = ml_escaped(&im->cx->arena, v->name);

	if (v->type && v->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE)
		return v->type->tensor_type;
	*status = v->type && v->type->value_case ? ML_ERR_UNSUPPORTED : ML_ERR_FORMAT;
	ml_error(im->cx, *status, NULL, "%s '%s' is no tensor", what, name);
	return NULL;
}

static ml_status
element_type(ml_import *im, const Onnx__ValueInfoProto *v, const Onnx__TypeProto__Tensor *t,
	     const char *what, ml_dtype *out)
{
	ml_status status = ml_onnx_dtype(t->elem_type, out);

	if (status != ML_OK)
		ml_error(im->cx, status, NULL, "%s '%s' has element type %s (%d)", what,
			 ml_escaped(&im->cx->arena, v->name), ml_onnx_dtype_name(t->elem_type),
			 t->elem_type);
	return status;
}

static ml_status
input_type(ml_import *im, const ml_import_options *o, const Onnx__ValueInfoProto *v, ml_type *out)
{
	const ml_import_shape *shape = find_shape(o, v->name);
	const char *name = ml_escaped(&im->cx->arena, v->name);
	ml_status status = ML_OK;
	const Onnx__TypeProto__Tensor *t = tensor_type(im, v, "input", &status);

	if (!t)
		return status;
	ML_STEP(element_type(im, v, t, "input", &out->dtype));
	if (!t->shape && !shape) {
		ml_error(im->cx, ML_ERR_UNSUPPORTED, NULL, "input '%s' has no declared rank", name);
		ml_hint(im->cx, "give its shape: --shape %s=...", name);
		return ML_ERR_UNSUPPORTED;
	}
	size_t rank = shape ? (size_t)shape->rank : t->shape->n_dim;
	if (rank > ML_MAX_RANK)
		return ml_error(im->cx, ML_ERR_UNSUPPORTED, NULL,
				"input '%s' has %zu dimensions, more than %d", name, rank,
				ML_MAX_RANK);
	if (shape && t->shape && rank != t->shape->n_dim)
		return ml_error(im->cx, ML_ERR_ARG, NULL,
				"--shape gives input '%s' %zu dimensions, but it has %zu", name,
				rank, t->shape->n_dim);
	out->rank = (int)rank;
	for (int i = 0; i < out->rank; i++)
		out->dim[i] = shape && shape->dim[i] >= 0
				      ? ml_dim_int(im->m->dims, shape->dim[i])
				      : declared_dim(im, o, v->name,
						     t->shape ? t->shape->dim[i] : NULL, i);
	return ML_OK;
}

/* ---- inputs ---- */

static ml_status
freeze(ml_import *im, ml_builder *b, const Onnx__ValueInfoProto *v, const ml_import_freeze *f,
       ml_value **out)
{
	const char *name = ml_escaped(&im->cx->arena, v->name);
	ml_type type = {.dtype = f->value.dtype, .rank = f->value.rank};
	ml_status status = ML_OK;
	ml_dtype declared;
	void *bytes;
	const Onnx__TypeProto__Tensor *t = tensor_type(im, v, "input", &status);

	if (!t)
		return status;
	ML_STEP(element_type(im, v, t, "input", &declared));
	if (declared != type.dtype)
		return ml_error(im->cx, ML_ERR_ARG, NULL,
				"input '%s' is frozen to %s, but has type %s", name,
				ml_dtype_name(type.dtype), ml_dtype_name(declared));
	for (int i = 0; i < type.rank; i++)
		type.dim[i] = ml_dim_int(im->m->dims, f->value.dim[i]);
	ml_blob *blob = ml_blob_new(&im->cx->memory, f->value.bytes, &bytes);
	memcpy(bytes, f->value.data, f->value.bytes);
	*out = ml_build_const(b, &type, blob);
	return b->failed;
}

static ml_status
bind_input(ml_import *im, const ml_import_options *o, ml_frame *f, ml_builder *b,
	   const Onnx__ValueInfoProto *v)
{
	const ml_import_freeze *frozen;
	ml_value *value = NULL;
	ml_type type = {0};

	if (!v->name || !*v->name)
		return ml_error(im->cx, ML_ERR_FORMAT, NULL, "an input has no name");
	if (ml_frame_find(f, v->name))
		return ML_OK; /* a default value, which we take for good */
	frozen = find_freeze(o, v->name);
	if (frozen) {
		ML_STEP(freeze(im, b, v, frozen, &value));
	} else {
		ML_STEP(input_type(im, o, v, &type));
		value = ml_block_add_arg(b->block, &type, ml_strdup(&im->m->arena, v->name));
	}
	ml_frame_bind(im, f, v->name)->value = value;
	return ML_OK;
}

static bool
is_input(const Onnx__GraphProto *g, const char *name)
{
	for (size_t i = 0; i < g->n_input; i++)
		if (g->input[i]->name && !strcmp(g->input[i]->name, name))
			return true;
	return false;
}

/* A dim_param, or the name that a dynamic dim without one gets. */
static bool
is_dim(ml_import *im, const Onnx__GraphProto *g, const char *name)
{
	for (size_t i = 0; i < g->n_input; i++) {
		const Onnx__TypeProto *type = g->input[i]->type;
		const Onnx__TensorShapeProto *shape =
			type && type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE
				? type->tensor_type->shape
				: NULL;
		for (size_t k = 0; shape && k < shape->n_dim; k++) {
			const Onnx__TensorShapeProto__Dimension *d = shape->dim[k];
			bool named = d->value_case ==
					     ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM &&
				     *d->dim_param;
			const char *own = ml_format(&im->scratch, "%s_d%zu", g->input[i]->name, k);
			if (!strcmp(named ? d->dim_param : own, name))
				return true;
		}
	}
	return false;
}

/* Options that fit nothing are mistakes of the user. */
static ml_status
check_options(ml_import *im, const ml_import_options *o, const Onnx__GraphProto *g)
{
	const char *wrong = NULL;

	for (int i = 0; i < o->nshapes; i++)
		if (!is_input(g, o->shapes[i].input))
			wrong = o->shapes[i].input;
	for (int i = 0; i < o->nfreezes; i++)
		if (!is_input(g, o->freezes[i].input))
			wrong = o->freezes[i].input;
	if (wrong)
		return ml_error(im->cx, ML_ERR_ARG, NULL, "the model has no input '%s'",
				ml_escaped(&im->cx->arena, wrong));
	for (int i = 0; i < o->ndims; i++) {
		if (!is_dim(im, g, o->dims[i].name))
			return ml_error(im->cx, ML_ERR_ARG, NULL,
					"no input of the model has a dimension '%s'",
					ml_escaped(&im->cx->arena, o->dims[i].name));
		if (o->dims[i].value < 0)
			return ml_error(im->cx, ML_ERR_ARG, NULL, "dim '%s' is negative",
					ml_escaped(&im->cx->arena, o->dims[i].name));
	}
	return ML_OK;
}

/* ---- outputs ---- */

static ml_status
check_output(ml_import *im, const Onnx__ValueInfoProto *v, const ml_value *value)
{
	const char *name = ml_escaped(&im->cx->arena, v->name);
	ml_status status = ML_OK;
	ml_dtype dtype;

	if (!v->type || !v->type->value_case)
		return ML_OK; /* undeclared: as computed */
	const Onnx__TypeProto__Tensor *t = tensor_type(im, v, "output", &status);
	if (!t || !t->elem_type)
		return status;
	ML_STEP(element_type(im, v, t, "output", &dtype));
	if (dtype != value->type.dtype)
		return ml_error(im->cx, ML_ERR_TYPE, value->def ? value->def->prov : NULL,
				"output '%s' is declared %s, but computed as %s", name,
				ml_dtype_name(dtype), ml_dtype_name(value->type.dtype));
	if (t->shape && t->shape->n_dim != (size_t)value->type.rank)
		ml_warn(im->cx, NULL, "output '%s' is declared with rank %zu, but has rank %d",
			name, t->shape->n_dim, value->type.rank);
	return ML_OK;
}

static ml_status
bind_output(ml_import *im, ml_frame *f, ml_builder *b, const Onnx__ValueInfoProto *v,
	    ml_value **result)
{
	const ml_binding *binding = ml_frame_find(f, v->name ? v->name : "");

	b->failed = ML_OK;
	if (binding && binding->poisoned)
		return ML_OK; /* its node has failed, which was told */
	*result = ml_frame_value(im, f, b, v->name ? v->name : "");
	if (!*result && b->failed != ML_OK)
		return b->failed;
	if (!*result)
		return ml_error(im->cx, ML_ERR_FORMAT, NULL,
				"output '%s' is not computed by any node",
				ml_escaped(&im->cx->arena, v->name ? v->name : ""));
	ML_STEP(check_output(im, v, *result));
	ML_PUSH(&im->m->arena, im->m->output_names, ml_strdup(&im->m->arena, v->name));
	return ML_OK;
}

/* Everything that was wrong has been reported; here is how much that was. */
static ml_status
sum_up(const ml_import *im)
{
	int all = im->unsupported + im->faults;

	if (all > 1 && !im->faults)
		ml_error(im->cx, im->first, NULL, "%d nodes are not supported, see above", all);
	else if (all > 1 && im->unsupported)
		ml_error(im->cx, im->first, NULL, "%d errors, see above: %d node%s not supported",
			 all, im->unsupported, im->unsupported == 1 ? " is" : "s are");
	else if (all > 1)
		ml_error(im->cx, im->first, NULL, "%d errors, see above", all);
	return im->first;
}

static ml_status
bind_outputs(ml_import *im, ml_frame *f, ml_builder *b, const Onnx__GraphProto *g)
{
	ml_value **result = ML_NEW_ARRAY(&im->scratch, ml_value *, g->n_output);

	if (!g->n_output)
		return ml_error(im->cx, ML_ERR_FORMAT, NULL, "the graph has no outputs");
	for (size_t i = 0; i < g->n_output; i++) {
		ml_status status = bind_output(im, f, b, g->output[i], &result[i]);
		if (status != ML_OK && !ml_import_goes_on(im, status, false))
			break;
	}
	return im->first ? sum_up(im) : ml_build_yield(b, result, (int)g->n_output);
}

/* ---- all of it ---- */

static ml_status
lower_model(ml_import *im, const ml_import_options *o)
{
	const Onnx__ModelProto *p = im->model->proto;
	const Onnx__GraphProto *g = p->graph;
	ml_frame *f = ml_frame_new(im, p->opset_import, p->n_opset_import);
	ml_builder b = ml_builder_at_end(im->m->main, NULL);

	im->m->opset = (int)ml_onnx_opset(p->opset_import, p->n_opset_import, "");
	ML_STEP(check_options(im, o, g));
	ML_STEP(ml_lower_initializers(im, f, g));
	for (size_t i = 0; i < g->n_input; i++) {
		const Onnx__ValueInfoProto *v = g->input[i];
		ml_status status = bind_input(im, o, f, &b, v);
		if (status == ML_OK)
			continue;
		if (!ml_import_goes_on(im, status, false))
			return sum_up(im);
		if (v->name)
			ml_frame_bind(im, f, v->name)->poisoned = true;
	}
	ml_status status = ml_lower_nodes(im, f, &b, g->node, g->order, g->n_node);
	if (status != ML_OK)
		return im->first ? sum_up(im) : status;
	return bind_outputs(im, f, &b, g);
}

typedef struct lower_job {
	ml_import *im;
	const ml_import_options *o;
} lower_job;

static ml_status
lower(void *job)
{
	const lower_job *j = job;

	return lower_model(j->im, j->o);
}

/* Takes the model over. */
static ml_status
import(ml_context *cx, ml_onnx_model *model, const ml_import_options *o, ml_module **out)
{
	lower_job job = {.o = o ? o : &no_options};
	ml_import im = {.cx = cx, .model = model};

	ml_arena_init(&im.scratch, &cx->memory);
	const Onnx__GraphProto *g = model->proto->graph;
	im.m = ml_module_new(cx, g->name ? g->name : "");
	job.im = &im;
	ml_status status = ml_catch(cx, lower, &job);
	if (status == ML_ERR_NOMEM)
		ml_error(cx, status, NULL, "out of memory while importing the model");
	ml_arena_free(&im.scratch);
	ml_onnx_close(model);
	if (status == ML_OK)
		*out = im.m;
	else
		ml_module_free(im.m);
	return status;
}

ml_status
ml_import_onnx(ml_context *cx, const char *path, const ml_import_options *o, ml_module **out)
{
	ml_onnx_model *model;

	*out = NULL;
	cx->stage = "import";
	cx->file = path;
	ML_STEP(ml_onnx_open(cx, path, &model));
	return import(cx, model, o, out);
}

ml_status
ml_import_onnx_bytes(ml_context *cx, const void *bytes, size_t size, const char *dir,
		     const ml_import_options *o, ml_module **out)
{
	ml_onnx_model *model;

	*out = NULL;
	cx->stage = "import";
	ML_STEP(ml_onnx_open_bytes(cx, bytes, size, dir, &model));
	return import(cx, model, o, out);
}
