/* lower_node.c -- one ONNX node: its row, its operands, calls of functions, what failed. */
#include "../ir/custom.h"
#include "lower_graph.h"
#include <stdarg.h>
#include <string.h>

enum {
	MOST_REPORTS = 50,    /* of nodes that fail; more of them help nobody */
	MOST_NODES = 4000000, /* of the IR, made while importing */
	LAST = INT32_MAX,     /* `until` of rows that still hold */
};

#define ANY ML_ANY
static const ml_onnx_row rows[] = {
#define ML_ONNX(domain, name, since, until, min_in, max_in, max_out, fn, arg)                      \
	{domain, #name, since, until, min_in, max_in, max_out, ml_lower_##fn, arg},
#include "onnx_ops.def"
};
#undef ANY

const ml_onnx_row *
ml_onnx_find_row(const char *domain, const char *name, int64_t version, bool *known)
{
	*known = false;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const ml_onnx_row *r = &rows[i];
		if (strcmp(r->name, name) || strcmp(r->domain, domain))
			continue;
		*known = true;
		if (r->since <= version && version <= r->until)
			return r;
	}
	return NULL;
}

void *
ml_lower_fail(ml_lower *x, ml_status status, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	const char *text = ml_vformat(&x->cx->arena, fmt, args);
	va_end(args);
	x->b->failed = ml_error(x->cx, status, x->b->prov, "%s", text);
	return NULL;
}

/* ---- failures ---- */

static bool
is_final(const ml_import *im, ml_status status)
{
	return status == ML_ERR_NOMEM || status == ML_ERR_IO || status == ML_ERR_LIMIT ||
	       im->unsupported + im->faults > MOST_REPORTS;
}

bool
ml_import_goes_on(ml_import *im, ml_status status, bool is_node)
{
	if (!im->unsupported && !im->faults)
		im->first = status;
	if (is_node && status == ML_ERR_UNSUPPORTED)
		im->unsupported++;
	else
		im->faults++;
	return !is_final(im, status);
}

/* ---- results ---- */

static void
bind_failed(ml_import *im, ml_frame *f, const Onnx__NodeProto *node)
{
	for (size_t i = 0; i < node->n_output; i++)
		if (*node->output[i])
			ml_frame_bind(im, f, node->output[i])->poisoned = true;
}

static void
bind_results(ml_lower *x, ml_frame *f)
{
	for (int i = 0; i < x->nout; i++) {
		const char *name = x->node->output[i];
		ml_value *v = x->out[i];
		if (!*name)
			continue;
		ml_binding *binding = ml_frame_bind(x->import, f, name);
		binding->value = v;
		if (!v)
			binding->absent = x->b->prov;
		else if (!v->name && v->def)
			v->name = ml_strdup(&x->b->m->arena, name);
	}
}

/* ---- unknown operators ---- */

static const char *
shown_domain(ml_import *im, const char *domain)
{
	return *domain ? ml_escaped(&im->cx->arena, domain) : "ai.onnx";
}

static ml_status
no_row(ml_import *im, const ml_prov *at, const char *domain, int64_t version, bool known)
{
	const char *op = ml_escaped(&im->cx->arena, at->op);

	if (known)
		return ml_error(im->cx, ML_ERR_UNSUPPORTED, at,
				"operator %s of domain '%s' is not supported at version %lld", op,
				shown_domain(im, domain), (long long)version);
	return ml_error(im->cx, ML_ERR_UNSUPPORTED, at, "operator %s of domain '%s' is unknown", op,
			shown_domain(im, domain));
}

/* ONNX Runtime's tools write its domains without importing them. */
static int64_t
version_of(const ml_frame *f, const char *domain)
{
	int64_t version = ml_onnx_opset(f->imports, f->n_imports, domain);

	return version || !*domain ? version : 1;
}

static void report_rows(ml_import *, const ml_frame *, const Onnx__GraphProto *);

/* Looks for unknown operators in subgraphs that are not lowered, so that the user sees them all. */
static void
report_subgraphs(ml_import *im, const ml_frame *f, const Onnx__NodeProto *node)
{
	for (size_t k = 0; k < node->n_attribute; k++)
		if (node->attribute[k]->g)
			report_rows(im, f, node->attribute[k]->g);
}

static void
report_rows(ml_import *im, const ml_frame *f, const Onnx__GraphProto *g)
{
	for (size_t i = 0; i < g->n_node; i++) {
		const Onnx__NodeProto *node = g->node[i];
		const char *domain = ml_onnx_domain(node->domain);
		const char *op = node->op_type ? node->op_type : "";
		int64_t version = version_of(f, domain);
		bool known;
		report_subgraphs(im, f, node);
		if (ml_onnx_find_function(im->model, node->domain, op, node->overload) ||
		    ml_onnx_find_row(domain, op, version, &known) ||
		    !ml_import_goes_on(im, ML_ERR_UNSUPPORTED, true))
			continue;
		no_row(im, ml_onnx_prov(&im->m->arena, node, (int)i, version), domain, version,
		       known);
	}
}

/* ---- one operator ---- */

/* Parameters of a function that its call leaves out are not bound. */
static bool
omitted(const ml_lower *x, int i)
{
	const char *name = x->node->input[i];

	return !*name || !ml_frame_find(x->frame, name);
}

static ml_status
check_counts(ml_lower *x)
{
	const ml_onnx_row *r = x->row;

	while (x->nin > 0 && omitted(x, x->nin - 1))
		x->nin--;
	if (x->nin < r->min_in)
		return ml_error(x->cx, ML_ERR_FORMAT, x->b->prov, "%d inputs, but %s needs %d",
				x->nin, r->name, r->min_in);
	for (int i = 0; i < r->min_in && r->max_in != ML_ANY; i++)
		if (omitted(x, i))
			return ml_error(x->cx, ML_ERR_FORMAT, x->b->prov,
					"input %d is left out, but %s needs it", i, r->name);
	if (r->max_in != ML_ANY && x->nin > r->max_in)
		return ml_error(x->cx, ML_ERR_FORMAT, x->b->prov, "%d inputs, but %s takes %d",
				x->nin, r->name, r->max_in);
	if (r->max_out != ML_ANY && x->nout > r->max_out)
		return ml_error(x->cx, ML_ERR_FORMAT, x->b->prov, "%d outputs, but %s has %d",
				x->nout, r->name, r->max_out);
	if (x->nout < 1)
		return ml_error(x->cx, ML_ERR_FORMAT, x->b->prov, "the node has no output");
	return ML_OK;
}

static ml_status
check_attributes(ml_lower *x)
{
	for (size_t i = 0; i < x->node->n_attribute && i < 64; i++)
		if (!(x->read >> i & 1))
			return ml_error(
				x->cx, ML_ERR_UNSUPPORTED, x->b->prov, "attribute '%s' is unknown",
				ml_escaped(&x->cx->arena, x->node->attribute[i]->name
								  ? x->node->attribute[i]->name
								  : ""));
	return ML_OK;
}

/* Operands as values.  False: one of them is not there, because of an earlier failure. */
static bool
read_operands(ml_lower *x, ml_frame *f)
{
	for (int i = 0; i < x->nin; i++) {
		if (omitted(x, i))
			continue;
		x->in[i] = ml_frame_value(x->import, f, x->b, x->node->input[i]);
		if (!x->in[i])
			return false;
	}
	return true;
}

static ml_status
lower_operator(ml_import *im, ml_frame *f, ml_builder *b, const Onnx__NodeProto *node,
	       const ml_onnx_row *row, int64_t version)
{
	ml_lower x = {.cx = im->cx, .b = b, .node = node, .row = row, .version = version};

	x.import = im;
	x.frame = f;
	x.nin = (int)node->n_input;
	x.nout = (int)node->n_output;
	ML_STEP(check_counts(&x));
	x.in = ML_NEW_ARRAY(&im->scratch, ml_value *, x.nin + ML_LOWER_SLOTS);
	x.out = ML_NEW_ARRAY(&im->scratch, ml_value *, x.nout + ML_LOWER_SLOTS);
	if (!read_operands(&x, f)) {
		report_subgraphs(im, f, node);
		bind_failed(im, f, node);
		return b->failed;
	}
	x.out[0] = row->lower(&x);
	if (b->failed != ML_OK)
		return b->failed;
	if (!x.out[0] && *node->output[0])
		return ml_error(im->cx, ML_ERR_UNSUPPORTED, b->prov,
				"%s cannot be lowered in this form", row->name);
	ML_STEP(check_attributes(&x));
	bind_results(&x, f);
	return ML_OK;
}

/* ---- operators of the application ---- */

/* A scalar parameter is an operand or, where the node has no more of them, an attribute. */
static ml_value *
custom_operand(ml_lower *x, const ml_custom_param *p, int *taken)
{
	ml_value *v = NULL;

	if (*taken < x->nin)
		return x->in[(*taken)++];
	if (p->scalar && ml_onnx_has(x, p->name)) {
		double number = ml_is_float(p->dtype) ? ml_onnx_float(x, p->name, 0)
						      : (double)ml_onnx_int(x, p->name, 0);
		v = ml_build_f64(x->b, p->dtype, number);
	}
	if (!v && x->b->failed == ML_OK)
		ml_lower_fail(x, ML_ERR_ARG, "parameter '%s' is neither an input nor an attribute",
			      p->name);
	return v;
}

static ml_value *
lower_custom(ml_lower *x)
{
	const ml_custom_op *op = ml_custom_find(x->cx, x->row->domain, x->row->name);
	ml_value **operand = ML_NEW_ARRAY(&x->import->scratch, ml_value *, op->nin);
	int taken = 0;

	for (int i = 0; i < op->nin; i++) {
		operand[i] = custom_operand(x, &op->in[i], &taken);
		if (!operand[i])
			return NULL;
	}
	ml_node *n = ml_build_custom(x->b, op, operand, op->nin);
	for (int i = 0; n && i < x->nout; i++)
		x->out[i] = &n->out[i];
	return n ? &n->out[0] : NULL;
}

/* ---- calls ---- */

static const Onnx__AttributeProto *
find_attribute(const ml_frame *f, const Onnx__NodeProto *node, const char *name)
{
	for (size_t i = 0; i < node->n_attribute; i++) {
		const Onnx__AttributeProto *a = node->attribute[i];
		if (!a->name || strcmp(a->name, name))
			continue;
		if (!a->ref_attr_name || !*a->ref_attr_name)
			return a;
		return f->function ? ml_frame_argument(f, a->ref_attr_name) : NULL;
	}
	return NULL;
}

/* Attributes of the call, with the function's defaults behind them. */
static void
bind_arguments(ml_import *im, const ml_frame *caller, const Onnx__NodeProto *node, ml_frame *f)
{
	const Onnx__FunctionProto *fn = f->function;
	size_t n = fn->n_attribute, k = 0;

	f->argument =
		ML_NEW_ARRAY(&im->scratch, const Onnx__AttributeProto *, n + fn->n_attribute_proto);
	for (size_t i = 0; i < n; i++)
		f->argument[k++] = find_attribute(caller, node, fn->attribute[i]);
	for (size_t i = 0; i < fn->n_attribute_proto; i++) {
		const Onnx__AttributeProto *given = NULL, *init = fn->attribute_proto[i];
		if (init->name)
			given = find_attribute(caller, node, init->name);
		f->argument[k++] = given ? given : init;
	}
}

const Onnx__AttributeProto *
ml_frame_argument(const ml_frame *f, const char *name)
{
	const Onnx__FunctionProto *fn = f->function;

	for (size_t i = 0; i < fn->n_attribute; i++)
		if (!strcmp(fn->attribute[i], name))
			return f->argument[i];
	for (size_t i = 0; i < fn->n_attribute_proto; i++)
		if (fn->attribute_proto[i]->name && !strcmp(fn->attribute_proto[i]->name, name))
			return f->argument[fn->n_attribute + i];
	return NULL;
}

static ml_status
lower_call(ml_import *im, ml_frame *caller, ml_builder *b, const Onnx__NodeProto *node,
	   const Onnx__FunctionProto *fn)
{
	ml_frame *f = ml_frame_new(im, fn->opset_import, fn->n_opset_import);

	if (node->n_input > fn->n_input || node->n_output > fn->n_output)
		return ml_error(im->cx, ML_ERR_FORMAT, b->prov,
				"%zu inputs and %zu outputs, but the function has %zu and %zu",
				node->n_input, node->n_output, fn->n_input, fn->n_output);
	f->function = fn;
	bind_arguments(im, caller, node, f);
	for (size_t i = 0; i < fn->n_input; i++) {
		const ml_binding *from = NULL;
		if (i < node->n_input && *node->input[i])
			from = ml_frame_find(caller, node->input[i]);
		if (!from)
			continue; /* omitted: unbound in the body */
		ml_binding *to = ml_frame_bind(im, f, fn->input[i]);
		*to = *from;
		to->name = fn->input[i];
	}
	ML_STEP(ml_lower_nodes(im, f, b, fn->node, fn->order, fn->n_node));
	for (size_t i = 0; i < node->n_output; i++) {
		const ml_binding *from = ml_frame_find(f, fn->output[i]);
		if (!*node->output[i])
			continue;
		ml_binding *to = ml_frame_bind(im, caller, node->output[i]);
		if (from)
			*to = *from;
		else
			to->poisoned = true;
		to->name = node->output[i];
	}
	return ML_OK;
}

/* ---- all nodes ---- */

static ml_status
lower_node(ml_import *im, ml_frame *f, ml_builder *b, const Onnx__NodeProto *node, int index)
{
	const char *domain = ml_onnx_domain(node->domain);
	const char *op = node->op_type ? node->op_type : "";
	int64_t version = version_of(f, domain);
	const Onnx__FunctionProto *fn =
		ml_onnx_find_function(im->model, node->domain, op, node->overload);
	bool known;

	b->failed = ML_OK;
	b->prov = ml_onnx_prov(&im->m->arena, node, index, version);
	ML_PUSH(&im->m->arena, im->m->read, b->prov);
	if (im->m->next_id > MOST_NODES)
		return ml_error(im->cx, ML_ERR_LIMIT, b->prov,
				"the model lowers to more than %d nodes", MOST_NODES);
	if (fn)
		return lower_call(im, f, b, node, fn);
	if (!version)
		return ml_error(im->cx, ML_ERR_FORMAT, b->prov,
				"the model imports no version of operator set ai.onnx");
	const ml_onnx_row *row = ml_onnx_find_row(domain, op, version, &known);
	const ml_custom_op *custom = ml_custom_find(im->cx, domain, op);
	if (custom) {
		ml_onnx_row own = {domain,       custom->name, 1, LAST, 0, custom->nin,
				   custom->nout, lower_custom, 0};
		return lower_operator(im, f, b, node, &own, version);
	}
	if (!row) {
		ml_import_goes_on(im, ML_ERR_UNSUPPORTED, true);
		report_subgraphs(im, f, node);
		return no_row(im, b->prov, domain, version, known);
	}
	return lower_operator(im, f, b, node, row, version);
}

ml_status
ml_lower_nodes(ml_import *im, ml_frame *f, ml_builder *b, Onnx__NodeProto *const *node,
	       const uint32_t *order, size_t n)
{
	const ml_prov *outer = b->prov;

	for (size_t i = 0; i < n; i++) {
		const Onnx__NodeProto *it = node[order[i]];
		int before = im->unsupported + im->faults, errors = im->cx->errors;
		ml_status status = lower_node(im, f, b, it, (int)order[i]);
		if (status == ML_OK)
			continue;
		/* A subgraph that failed has counted its own nodes; what lacks an operand is
		 * silent. */
		if (im->unsupported + im->faults > before || im->cx->errors == errors)
			status = is_final(im, status) ? status : ML_OK;
		else
			status = ml_import_goes_on(im, status, true) ? ML_OK : status;
		if (status != ML_OK)
			return status;
		bind_failed(im, f, it);
	}
	b->failed = ML_OK;
	b->prov = outer;
	return ML_OK;
}
