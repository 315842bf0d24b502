/* lower_control.c -- If, Loop and Scan: subgraphs become bodies that list what they capture. */
#include "lower_graph.h"
#include <string.h>

enum { MOST_UNROLLED = 256 };

/* What subgraphs use from around them. */
typedef struct captures {
	ml_name_list names;
	ML_VEC(const char *) captured; /* those of them that are passed as arguments */
	ML_VEC(ml_value *) value;      /* parallel to it */
} captures;

/* A subgraph on its way to a body. */
typedef struct body {
	ml_lower *x;
	const Onnx__GraphProto *g;
	ml_frame *f;
	ml_builder b;
	ml_value **result;
} body;

/* Constants are not captured: the body gets its own, so that shapes it computes stay known. */
static void
find_captures(ml_lower *x, captures *c)
{
	ml_arena *a = &x->import->scratch;

	for (int i = 0; i < c->names.count; i++) {
		const ml_binding *from = ml_frame_find(x->frame, c->names.at[i]);
		if (!from || !from->value || ml_is_const(from->value))
			continue;
		ML_PUSH(a, c->captured, from->name);
		ML_PUSH(a, c->value, from->value);
	}
}

static void
open_frame(body *s, ml_lower *x, const Onnx__GraphProto *g)
{
	*s = (body){.x = x, .g = g};
	s->f = ml_frame_new(x->import, x->frame->imports, x->frame->n_imports);
	s->f->function = x->frame->function;
	s->f->argument = x->frame->argument;
	s->result = ML_NEW_ARRAY(&x->import->scratch, ml_value *, g->n_output);
}

static void
open_body(body *s, ml_lower *x, ml_node *owner, const Onnx__GraphProto *g)
{
	open_frame(s, x, g);
	s->b = ml_builder_at_end(ml_block_new(x->b->m, owner), x->b->prov);
}

/* Arguments for what is captured; everything else around the body is bound as it is there. */
static void
bind_captures(body *s, const captures *c)
{
	ml_import *im = s->x->import;

	for (int i = 0; i < c->names.count; i++) {
		const ml_binding *from = ml_frame_find(s->x->frame, c->names.at[i]);
		if (!from)
			continue;
		ml_binding *to = ml_frame_bind(im, s->f, from->name);
		*to = *from;
		if (from->value && ml_is_const(from->value))
			to->value = ml_build_const(&s->b, &from->value->type,
						   ml_blob_share(ml_const_blob(from->value)));
	}
	for (int i = 0; i < c->captured.count; i++) {
		ml_value *v = c->value.at[i], *arg;
		arg = ml_block_add_arg(s->b.block, &v->type, v->name);
		arg->content = v->content;
		ml_frame_bind(im, s->f, c->captured.at[i])->value = arg;
	}
}

/* Lowers the subgraph's nodes and finds its results; false when that failed, reported. */
static bool
lower_body(body *s, ml_builder *b)
{
	ml_import *im = s->x->import;
	const Onnx__GraphProto *g = s->g;
	ml_status status;

	ml_lower_initializers(im, s->f, g);
	status = ml_lower_nodes(im, s->f, b, g->node, g->order, g->n_node);
	for (size_t i = 0; i < g->n_output && status == ML_OK; i++) {
		b->failed = ML_OK;
		s->result[i] = ml_frame_value(im, s->f, b, g->output[i]->name);
		if (!s->result[i])
			status = b->failed != ML_OK ? b->failed : ML_ERR_UNSUPPORTED;
	}
	if (status != ML_OK)
		s->x->b->failed = status;
	return s->x->b->failed == ML_OK;
}

/* One element, as a scalar, made by `b`: the body's builder or the node's own. */
static ml_value *
scalar(ml_lower *x, ml_builder *b, ml_value *v, ml_dtype dtype, const char *what)
{
	int64_t n;

	if (v && (v->type.dtype != dtype || !ml_type_static_count(&v->type, &n) || n != 1))
		return ml_lower_fail(x, ML_ERR_TYPE, "the %s must be a scalar of %s", what,
				     ml_dtype_name(dtype));
	return v && v->type.rank ? ml_build_reshape(b, v, NULL, 0) : v;
}

/* ---- If ---- */

static ml_value *
if_results(ml_lower *x, ml_node *n)
{
	for (int i = 0; n && i < n->nout && i < x->nout; i++)
		x->out[i] = &n->out[i];
	return n ? x->out[0] : NULL;
}

/* A subgraph lowered in place sees what is around it. */
static void
open_inline(body *s, ml_lower *x, const Onnx__GraphProto *g, const captures *c)
{
	open_frame(s, x, g);
	for (int i = 0; i < c->names.count; i++) {
		const ml_binding *from = ml_frame_find(x->frame, c->names.at[i]);
		if (from)
			*ml_frame_bind(x->import, s->f, from->name) = *from;
	}
}

/* The branch that is taken for sure. */
static ml_value *
inline_branch(ml_lower *x, const Onnx__GraphProto *g, const captures *c)
{
	body s;

	open_inline(&s, x, g, c);
	if (!lower_body(&s, x->b))
		return NULL;
	for (size_t i = 0; i < g->n_output && (int)i < x->nout; i++)
		x->out[i] = s.result[i];
	return x->out[0];
}

ml_value *
ml_lower_if(ml_lower *x)
{
	const Onnx__GraphProto *branch[] = {ml_onnx_graph(x, "then_branch"),
					    ml_onnx_graph(x, "else_branch")};
	captures c = {0};
	double taken;

	if (!branch[0] || !branch[1])
		return NULL;
	for (int k = 0; k < 2; k++)
		if ((int)branch[k]->n_output != x->nout)
			return ml_lower_fail(x, ML_ERR_FORMAT, "%d outputs, but a branch has %zu",
					     x->nout, branch[k]->n_output);
	ml_value *cond = scalar(x, x->b, x->in[0], ML_bool, "condition");
	if (!cond)
		return NULL;
	if (ml_lower_scalar(x, cond, &taken)) {
		ml_lower_free_names(x->import, branch[taken == 0], &c.names);
		return inline_branch(x, branch[taken == 0], &c);
	}
	for (int k = 0; k < 2; k++)
		ml_lower_free_names(x->import, branch[k], &c.names);
	find_captures(x, &c);
	ml_value **in = ML_LOWER_ARRAY(x, ml_value *, 1 + c.value.count);
	in[0] = cond;
	for (int i = 0; i < c.value.count; i++)
		in[1 + i] = c.value.at[i];
	ml_node *n = ml_begin(x->b, ML_OP_if, in, 1 + c.value.count);
	ml_value **first = NULL;
	bool done = n != NULL;
	for (int k = 0; k < 2 && n; k++) { /* both, so that the user sees what is wrong in each */
		body s;
		open_body(&s, x, n, branch[k]);
		bind_captures(&s, &c);
		done = lower_body(&s, &s.b) && ml_build_yield(&s.b, s.result, x->nout) == ML_OK &&
		       done;
		for (int i = 0; done && first && i < x->nout; i++)
			if (first[i]->type.rank != s.result[i]->type.rank)
				return ml_lower_fail(x, ML_ERR_UNSUPPORTED,
						     "result %d has another rank in each branch",
						     i);
		first = s.result;
	}
	if (!done)
		return NULL;
	return if_results(x, ml_finish(x->b, n));
}

/* ---- loops ---- */

static ml_value *
always(ml_builder *b)
{
	return ml_build_f64(b, ML_bool, 1);
}

/* trip, cond, carried.., captures.. */
static ml_node *
begin_loop(ml_lower *x, ml_value *trip, ml_value *cond, ml_value *const *carried, int n,
	   const captures *c, ml_value *const *more, int nmore)
{
	ml_value **in = ML_LOWER_ARRAY(x, ml_value *, 2 + n + c->value.count + nmore);
	int k = 0;

	in[k++] = trip;
	in[k++] = cond;
	for (int i = 0; i < n; i++)
		in[k++] = carried[i];
	for (int i = 0; i < c->value.count; i++)
		in[k++] = c->value.at[i];
	for (int i = 0; i < nmore; i++)
		in[k++] = more[i];
	ml_node *node = ml_begin(x->b, ML_OP_loop, in, k);
	if (node)
		ML_A(node, loop, carried).i64 = n;
	return node;
}

static const char *
input_name(const body *s, int i)
{
	const char *name = s->g->input[i]->name;

	return name ? name : "";
}

static void
bind_argument(body *s, int i, ml_value *v)
{
	ml_frame_bind(s->x->import, s->f, input_name(s, i))->value = v;
}

/* Binds a scalar; some writers declare counter and condition as lists of one element. */
static void
bind_scalar(body *s, ml_builder *b, int i, ml_value *v)
{
	const Onnx__TypeProto *t = s->g->input[i]->type;
	ml_lower *x = s->x;
	ml_dim one = ML_INT(1);

	if (v && t && t->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE &&
	    t->tensor_type->shape && t->tensor_type->shape->n_dim == 1)
		v = ml_build_reshape(b, v, &one, 1);
	bind_argument(s, i, v);
}

/* The counter, and the carried values as inputs from `first` on. */
static ml_value *
loop_arguments(body *s, ml_value *const *carried, int n, int first)
{
	ml_type counter = {.dtype = ML_s64};
	ml_value *i = ml_block_add_arg(s->b.block, &counter, "iteration");

	for (int k = 0; k < n; k++)
		bind_argument(
			s, first + k,
			ml_block_add_arg(s->b.block, &carried[k]->type,
					 ml_strdup(&s->x->b->m->arena, input_name(s, first + k))));
	return i;
}

/* ---- loops whose carried values change their type: only unrolled ---- */

static bool
changes_types(const body *s, ml_value *const *carried, int n)
{
	for (int i = 0; i < n; i++)
		if (!ml_type_equal(&s->result[1 + i]->type, &carried[i]->type))
			return true;
	return false;
}

/* One iteration in place; false on failure, or when it cannot be told whether another follows. */
static bool
iterate(ml_lower *x, const captures *c, int64_t k, ml_value **carried, int n, body *s, bool *again)
{
	double on = 1;

	open_inline(s, x, ml_onnx_graph(x, "body"), c);
	bind_scalar(s, x->b, 0, ml_build_dim(x->b, ML_INT(k)));
	bind_scalar(s, x->b, 1, always(x->b));
	for (int i = 0; i < n; i++)
		bind_argument(s, 2 + i, carried[i]);
	if (!lower_body(s, x->b))
		return false;
	if (x->in[1] && !ml_lower_scalar(x, s->result[0], &on)) {
		ml_lower_fail(
			x, ML_ERR_UNSUPPORTED,
			"carried values change their type, and the condition depends on data");
		return false;
	}
	for (int i = 0; i < n; i++)
		carried[i] = s->result[1 + i];
	*again = on != 0;
	return true;
}

static ml_value *
unroll(ml_lower *x, const captures *c, int64_t trips, int n)
{
	int64_t front = 0;
	int scans = x->nout - n, done = 0;
	ml_value **part = ML_LOWER_ARRAY(x, ml_value *, scans * trips);
	bool again = true;
	body s;

	for (int i = 0; i < n; i++)
		x->out[i] = x->in[2 + i];
	for (; done < trips && again; done++) {
		if (!iterate(x, c, done, x->out, n, &s, &again))
			return NULL;
		for (int i = 0; i < scans; i++)
			part[i * trips + done] =
				ml_build_unsqueeze(x->b, s.result[1 + n + i], &front, 1);
	}
	for (int i = 0; i < scans; i++)
		x->out[n + i] = ml_build_concat(x->b, part + i * trips, done, 0);
	return x->out[0];
}

static bool
can_unroll(ml_lower *x, ml_value *trip, ml_value *cond, double *trips)
{
	double on;

	return ml_lower_scalar(x, trip, trips) && *trips >= 1 && *trips <= MOST_UNROLLED &&
	       ml_lower_scalar(x, cond, &on) && on != 0;
}

ml_value *
ml_lower_loop(ml_lower *x)
{
	const Onnx__GraphProto *g = ml_onnx_graph(x, "body");
	int n = x->nin > 2 ? x->nin - 2 : 0;
	captures c = {0};
	double trips;
	body s;

	if (!g)
		return NULL;
	if ((int)g->n_input != n + 2 || (int)g->n_output != x->nout + 1 || x->nout < n)
		return ml_lower_fail(x, ML_ERR_FORMAT,
				     "%d carried values and %d outputs, but the body has %zu "
				     "inputs and %zu outputs",
				     n, x->nout, g->n_input, g->n_output);
	ml_value *trip = x->in[0] ? scalar(x, x->b, x->in[0], ML_s64, "trip count")
				  : ml_build_dim(x->b, ML_INT(INT64_MAX));
	ml_value *cond = x->in[1] ? scalar(x, x->b, x->in[1], ML_bool, "condition") : always(x->b);
	if (!trip || !cond)
		return NULL;
	for (int i = 0; i < n; i++)
		if (!x->in[2 + i])
			return ml_lower_fail(x, ML_ERR_FORMAT, "input %d is left out", 2 + i);
	ml_lower_free_names(x->import, g, &c.names);
	find_captures(x, &c);
	ml_node *node = begin_loop(x, trip, cond, x->in + 2, n, &c, NULL, 0);
	if (!node)
		return NULL;
	open_body(&s, x, node, g);
	bind_scalar(&s, &s.b, 0, loop_arguments(&s, x->in + 2, n, 2));
	bind_scalar(&s, &s.b, 1, always(&s.b)); /* else the body would not run */
	bind_captures(&s, &c);
	if (!lower_body(&s, &s.b))
		return NULL;
	if (changes_types(&s, x->in + 2, n) && can_unroll(x, trip, cond, &trips))
		return unroll(x, &c, (int64_t)trips, n);
	/* without a condition, the body's is ignored */
	s.result[0] = x->in[1] ? scalar(x, &s.b, s.result[0], ML_bool, "condition") : always(&s.b);
	if (!s.result[0] || ml_build_yield(&s.b, s.result, x->nout + 1) != ML_OK)
		return NULL;
	return if_results(x, ml_finish(x->b, node));
}

/* ---- Scan ---- */

/* Axis or direction k of an attribute, 0 when it is missing. */
static int64_t
entry(ml_lower *x, const char *name, int k, int want)
{
	int n;
	const int64_t *given = ml_onnx_ints(x, name, &n);

	if (given && n != want)
		ml_lower_fail(x, ML_ERR_VALUE, "%s has %d elements, must have %d", name, n, want);
	return given && n == want ? given[k] : 0;
}

/* The sequence with the scanned axis in front, in the order it is gone through. */
static ml_value *
sequence(ml_lower *x, ml_value *v, int k, int n)
{
	int64_t front = 0;
	int axis;

	if (!ml_lower_axis(x, entry(x, "scan_input_axes", k, n), v->type.rank, &axis))
		return NULL;
	v = ml_lower_move_axis(x, v, axis, 0);
	return entry(x, "scan_input_directions", k, n) ? ml_lower_reverse(x, v, &front, 1) : v;
}

static bool
scan_outputs(ml_lower *x, ml_node *node, int states)
{
	int n = x->nout - states;
	int64_t front = 0;
	int axis;

	for (int i = 0; i < x->nout; i++) {
		ml_value *v = &node->out[i];
		x->out[i] = v;
		if (i < states)
			continue;
		if (entry(x, "scan_output_directions", i - states, n))
			v = ml_lower_reverse(x, v, &front, 1);
		if (!v || !ml_lower_axis(x, entry(x, "scan_output_axes", i - states, n),
					 v->type.rank, &axis))
			return false;
		x->out[i] = ml_lower_move_axis(x, v, 0, axis);
	}
	return x->b->failed == ML_OK;
}

/* The body, with each sequence's element at the counter as an input. */
static bool
scan_body(ml_lower *x, ml_node *node, const Onnx__GraphProto *g, int states, ml_value *const *item,
	  int nitems, const captures *c)
{
	body s;

	open_body(&s, x, node, g);
	ml_value *i = loop_arguments(&s, x->in, states, 0);
	bind_captures(&s, c);
	for (int k = 0; k < nitems; k++) {
		ml_value *all = ml_block_add_arg(s.b.block, &item[k]->type, item[k]->name);
		bind_argument(&s, states + k, ml_build_gather(&s.b, all, i, 0));
	}
	if (s.b.failed != ML_OK || !lower_body(&s, &s.b))
		return false;
	ml_value **result = ML_LOWER_ARRAY(x, ml_value *, x->nout + 1);
	result[0] = always(&s.b);
	for (int k = 0; k < x->nout; k++)
		result[1 + k] = s.result[k];
	return ml_build_yield(&s.b, result, x->nout + 1) == ML_OK;
}

ml_value *
ml_lower_scan_op(ml_lower *x)
{
	const Onnx__GraphProto *g = ml_onnx_graph(x, "body");
	int64_t given = ml_onnx_int(x, "num_scan_inputs", 0);
	int n = given < 1 || given > x->nin ? 0 : (int)given, states = x->nin - n;
	captures c = {0};

	if (!g)
		return NULL;
	if (!n || (int)g->n_input != x->nin || (int)g->n_output != x->nout || x->nout < states)
		return ml_lower_fail(x, ML_ERR_FORMAT,
				     "%d states, %d sequences and %d outputs do not fit the body",
				     states, n, x->nout);
	ml_value **item = ML_LOWER_ARRAY(x, ml_value *, n);
	for (int i = 0; i < x->nin; i++)
		if (!x->in[i])
			return ml_lower_fail(x, ML_ERR_FORMAT, "input %d is left out", i);
	for (int k = 0; k < n; k++) {
		item[k] = sequence(x, x->in[states + k], k, n);
		if (!item[k])
			return NULL;
		if (!ml_require_equal(x->b, item[k]->type.dim[0], item[0]->type.dim[0],
				      "scanned sequences must have one length"))
			return ml_lower_fail(x, ML_ERR_SHAPE, "sequences differ in length");
	}
	ml_lower_free_names(x->import, g, &c.names);
	find_captures(x, &c);
	ml_node *node = begin_loop(x, ml_build_dim(x->b, item[0]->type.dim[0]), always(x->b), x->in,
				   states, &c, item, n);
	if (!node || !scan_body(x, node, g, states, item, n, &c))
		return NULL;
	node = ml_finish(x->b, node);
	return node && scan_outputs(x, node, states) ? x->out[0] : NULL;
}
