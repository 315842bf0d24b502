/* export_compute.c -- ONNX spellings of products, composites, irregular and control operators. */
#include "export_graph.h"
#include <string.h>

/* ---- dot ---- */

/* An operand's axes in the order batch, then free and contracted (or the other way round). */
typedef struct side {
	const ml_value *v;
	const ml_attr *batch, *contract;
	int nfree;
	int64_t free[ML_MAX_RANK];
} side;

static bool
listed(const ml_attr *list, int axis)
{
	for (int i = 0; i < list->count; i++)
		if (list->ints[i] == axis)
			return true;
	return false;
}

static ml_dim
product(ml_export *e, const side *s, const int64_t *axes, int n)
{
	ml_dim d = ml_dim_int(e->m->dims, 1);

	for (int i = 0; i < n; i++)
		d = ml_dim_mul(e->m->dims, d, s->v->type.dim[axes[i]]);
	return d;
}

/* The operand as [batch.., rows, depth], or [batch.., depth, rows]. */
static const char *
as_matrix(ml_export *e, const char *name, side *s, bool depth_first)
{
	int64_t perm[ML_MAX_RANK];
	ml_dim shape[ML_MAX_RANK];
	int k = 0, n = 0, rank = s->v->type.rank;
	bool moves = false;

	for (int i = 0; i < rank; i++)
		if (!listed(s->batch, i) && !listed(s->contract, i))
			s->free[s->nfree++] = i;
	for (int i = 0; i < s->batch->count; i++)
		shape[n++] = s->v->type.dim[perm[k++] = s->batch->ints[i]];
	for (int half = 0; half < 2; half++) {
		bool free = (half == 0) != depth_first;
		const int64_t *axes = free ? s->free : s->contract->ints;
		int count = free ? s->nfree : s->contract->count;
		shape[n++] = product(e, s, axes, count);
		for (int i = 0; i < count; i++)
			perm[k++] = axes[i];
	}
	for (int i = 0; i < rank; i++)
		moves = moves || perm[i] != i;
	if (moves) {
		Onnx__NodeProto *node = ml_spell_node(e, "Transpose", &name, 1);
		ml_spell_ints(e, node, "perm", perm, rank);
		name = node->output[0];
	}
	if (s->nfree == 1 && s->contract->count == 1)
		return name;
	return ml_spell_reshape(e, name, shape, n);
}

static const char *
multiplied(ml_export *e, const ml_node *n, const char *a, const char *b)
{
	ml_dtype x = ml_in(n, 0)->type.dtype, y = ml_in(n, 1)->type.dtype;
	bool bytes = ml_dtype_bytes(x) == 1 && ml_dtype_bytes(y) == 1;

	if (ml_is_float(x))
		return ml_spell2(e, "MatMul", a, b);
	if (bytes && (x == ML_u8 || y == ML_s8))
		return ml_spell2(e, "MatMulInteger", a, b);
	a = x == ML_s32 ? a : ml_spell_cast(e, a, ML_s32);
	b = y == ML_s32 ? b : ml_spell_cast(e, b, ML_s32);
	return ml_spell2(e, "MatMul", a, b);
}

const char *
ml_spell_dot(ml_export *e, const ml_node *n)
{
	const ml_type *t = &n->out[0].type;
	side a = {.v = ml_in(n, 0),
		  .batch = &ML_A(n, dot, lhs_batch),
		  .contract = &ML_A(n, dot, lhs_contract)};
	side b = {.v = ml_in(n, 1),
		  .batch = &ML_A(n, dot, rhs_batch),
		  .contract = &ML_A(n, dot, rhs_contract)};
	const char *x = ml_spell_in(n, 0), *w = ml_spell_in(n, 1);
	int last = a.v->type.rank - 1;
	bool rows = !a.batch->count && a.contract->count == 1 && a.contract->ints[0] == last &&
		    last >= 1 && b.v->type.rank == 2;

	w = as_matrix(e, w, &b, true);
	if (rows) /* MatMul takes any number of leading dims */
		return multiplied(e, n, x, w);
	x = multiplied(e, n, as_matrix(e, x, &a, false), w);
	return a.nfree == 1 && b.nfree == 1 ? x : ml_spell_reshape(e, x, t->dim, t->rank);
}

const char *
ml_spell_linear(ml_export *e, const ml_node *n)
{
	const char *y = ml_spell2(e, "MatMul", ml_spell_in(n, 0), ml_spell_in(n, 1));

	return n->nin > 2 ? ml_spell2(e, "Add", y, ml_spell_in(n, 2)) : y;
}

/* ---- composites ---- */

const char *
ml_spell_conv(ml_export *e, const ml_node *n)
{
	const ml_attr *low = &ML_A(n, conv, low), *high = &ML_A(n, conv, high);
	const char *in[] = {ml_spell_in(n, 0), ml_spell_in(n, 1), ml_spell_in(n, 2)};
	int64_t pads[2 * ML_MAX_RANK];
	ml_dim amount[2 * ML_MAX_RANK];
	int k = low->count, r = k + 2;
	bool fixed = true;

	for (int i = 0; i < k; i++) {
		fixed = ml_dim_is_int(low->dims[i], &pads[i]) && pads[i] >= 0 && fixed;
		fixed = ml_dim_is_int(high->dims[i], &pads[k + i]) && pads[k + i] >= 0 && fixed;
	}
	if (!fixed) {
		for (int i = 0; i < r; i++) {
			amount[i] = i < 2 ? ml_dim_int(e->m->dims, 0) : low->dims[i - 2];
			amount[r + i] = i < 2 ? ml_dim_int(e->m->dims, 0) : high->dims[i - 2];
		}
		in[0] = ml_spell2(e, "Pad", in[0], ml_spell_shape(e, amount, 2 * r));
		if (!in[0])
			return NULL;
	}
	const char *op = ml_is_float(ml_in(n, 0)->type.dtype) ? "Conv" : "ConvInteger";
	Onnx__NodeProto *node = ml_spell_node(e, op, in, n->nin);
	ml_spell_ints(e, node, "strides", ML_A(n, conv, stride).ints, k);
	ml_spell_ints(e, node, "dilations", ML_A(n, conv, dilation).ints, k);
	if (fixed)
		ml_spell_ints(e, node, "pads", pads, 2 * k);
	ml_spell_int(e, node, "group", ML_A(n, conv, groups).i64);
	return node->output[0];
}

const char *
ml_spell_softmax(ml_export *e, const ml_node *n)
{
	const char *x = ml_spell_in(n, 0);
	Onnx__NodeProto *node = ml_spell_node(e, "Softmax", &x, 1);

	ml_spell_int(e, node, "axis", ML_A(n, softmax, axis).i64);
	return node->output[0];
}

const char *
ml_spell_layer_norm(ml_export *e, const ml_node *n)
{
	const char *in[] = {ml_spell_in(n, 0), ml_spell_in(n, 1), ml_spell_in(n, 2)};
	Onnx__NodeProto *node = ml_spell_node(e, "LayerNormalization", in, n->nin);

	ml_spell_int(e, node, "axis", ML_A(n, layer_norm, axis).i64);
	ml_spell_float(e, node, "epsilon", ML_A(n, layer_norm, eps).f64);
	return node->output[0];
}

const char *
ml_spell_gelu(ml_export *e, const ml_node *n)
{
	const char *x = ml_spell_in(n, 0);
	Onnx__NodeProto *node = ml_spell_node(e, "Gelu", &x, 1);

	if (!strcmp(ML_A(n, gelu, form).str, "tanh"))
		ml_spell_text(e, node, "approximate", "tanh");
	return node->output[0];
}

const char *
ml_spell_batch_norm(ml_export *e, const ml_node *n)
{
	const char *in[5];

	for (int i = 0; i < 5; i++)
		in[i] = ml_spell_in(n, i);
	Onnx__NodeProto *node = ml_spell_node(e, "BatchNormalization", in, 5);
	ml_spell_float(e, node, "epsilon", ML_A(n, batch_norm, eps).f64);
	return node->output[0];
}

bool
ml_export_expands(const ml_node *n)
{
	switch (n->op) {
	case ML_OP_attention:
	case ML_OP_rms_norm:
	case ML_OP_quantize_row: return true;
	case ML_OP_linear_u4: return !ml_export_stores_u4(n);
	case ML_OP_quantize:
	case ML_OP_dequantize: return !ml_export_quantizes(n);
	case ML_OP_gelu: return !strcmp(ML_A(n, gelu, form).str, "sigmoid");
	case ML_OP_layer_norm: {
		/* ONNX's scale has the normalized dims alone */
		int rank = ml_in(n, 0)->type.rank - (int)ML_A(n, layer_norm, axis).i64;
		return ml_in(n, 1)->type.rank != rank ||
		       (n->nin > 2 && ml_in(n, 2)->type.rank != rank);
	}
	default: return false;
	}
}

/* ---- rnn ---- */

static const char *
one_direction(ml_export *e, const char *name)
{
	int64_t front = 0;

	return name ? ml_spell_axes(e, "Unsqueeze", name, &front, 1) : NULL;
}

const char *
ml_spell_rnn(ml_export *e, const ml_node *n)
{
	const char *cell = ML_A(n, rnn, cell).str;
	bool lstm = !strcmp(cell, "lstm"), gru = !strcmp(cell, "gru");
	const char *op = lstm ? "LSTM" : gru ? "GRU" : "RNN", *in[8] = {ml_spell_in(n, 0)};
	const char *activation[] = {ML_A(n, rnn, f).str, ML_A(n, rnn, g).str, ML_A(n, rnn, h).str};
	int64_t hidden, axis = 1, front = 0;
	int k = lstm ? 3 : gru ? 2 : 1;

	for (int i = 1; i < n->nin; i++)
		in[i < 4 ? i : i + 1] = one_direction(e, ml_spell_in(n, i)); /* lengths: none */
	Onnx__NodeProto *node = ml_spell_node(e, op, in, n->nin > 4 ? n->nin + 1 : n->nin);
	if (ml_dim_is_int(ml_in(n, 2)->type.dim[1], &hidden))
		ml_spell_int(e, node, "hidden_size", hidden);
	if (ML_A(n, rnn, reverse).i64)
		ml_spell_text(e, node, "direction", "reverse");
	if (gru)
		ml_spell_int(e, node, "linear_before_reset", ML_A(n, rnn, linear_before_reset).i64);
	Onnx__AttributeProto *a = ml_spell_attribute(
		e, node, "activations", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS);
	a->strings = ML_NEW_ARRAY(&e->arena, ProtobufCBinaryData, k);
	a->n_strings = (size_t)k;
	for (int i = 0; i < k; i++) {
		a->strings[i].data = (uint8_t *)ml_strdup(&e->arena, activation[i]);
		a->strings[i].len = strlen(activation[i]);
	}
	const char *h = ml_spell_axes(e, "Squeeze", ml_spell_output(e, node, 1), &front, 1);
	ml_spell_set(&n->out[1], h);
	ml_spell_set(&n->out[2],
		     lstm ? ml_spell_axes(e, "Squeeze", ml_spell_output(e, node, 2), &front, 1)
			  : h);
	return ml_spell_axes(e, "Squeeze", node->output[0], &axis, 1);
}

/* ---- irregular ---- */

const char *
ml_spell_top_k(ml_export *e, const ml_node *n)
{
	const char *in[] = {ml_spell_in(n, 0), ml_spell_dim(e, ML_A(n, top_k, k).dims[0])};

	if (!in[1])
		return NULL;
	Onnx__NodeProto *node = ml_spell_node(e, "TopK", in, 2);
	ml_spell_int(e, node, "axis", ML_A(n, top_k, axis).i64);
	ml_spell_int(e, node, "largest", ML_A(n, top_k, largest).i64);
	ml_spell_set(&n->out[1], ml_spell_output(e, node, 1));
	return node->output[0];
}

const char *
ml_spell_unique(ml_export *e, const ml_node *n)
{
	const char *x = ml_spell_in(n, 0);
	Onnx__NodeProto *node = ml_spell_node(e, "Unique", &x, 1);

	ml_spell_int(e, node, "sorted", ML_A(n, unique, sorted).i64);
	for (int i = 1; i < 4; i++)
		ml_spell_set(&n->out[i], ml_spell_output(e, node, i));
	return node->output[0];
}

const char *
ml_spell_nms(ml_export *e, const ml_node *n)
{
	const char *in[5];

	for (int i = 0; i < 5; i++)
		in[i] = ml_spell_in(n, i);
	Onnx__NodeProto *node = ml_spell_node(e, "NonMaxSuppression", in, 5);
	ml_spell_int(e, node, "center_point_box", ML_A(n, nms, center_point_box).i64);
	return node->output[0];
}

/* ---- control ---- */

/* A body as a graph with its first `ninputs` arguments as inputs. Captures are seen by name, so
 * their arguments stand for the operands from `first` on. */
static Onnx__GraphProto *
subgraph(ml_export *e, const ml_node *n, const ml_block *b, int ninputs, int first)
{
	Onnx__GraphProto *g = ML_NEW(&e->arena, Onnx__GraphProto);
	ml_export_nodes nodes = {0}, *outer = e->nodes;
	int nsizes = e->sizes.count, nsyms = ml_sym_count(e->m->dims);
	ml_export_source *sources = ML_NEW_ARRAY(&e->arena, ml_export_source, nsyms);
	ml_status status;

	onnx__graph_proto__init(g);
	g->name = ml_strdup(&e->arena, "body");
	memcpy(sources, e->source, (size_t)nsyms * sizeof *sources);
	g->n_input = (size_t)ninputs;
	g->input = ML_NEW_ARRAY(&e->arena, Onnx__ValueInfoProto *, ninputs);
	for (int i = 0; i < b->nargs; i++) {
		const char *name =
			i < ninputs ? ml_spell_name(e) : ml_spell_in(n, first + i - ninputs);
		ml_spell_set(b->arg[i], name);
		if (i < ninputs)
			g->input[i] = ml_spell_info(e, &b->arg[i]->type, name, false);
		ml_spell_sources(e, b->arg[i], name);
	}
	e->nodes = &nodes;
	status = ml_export_block(e, b);
	e->node = n;
	g->n_output = (size_t)b->last->nin;
	g->output = ML_NEW_ARRAY(&e->arena, Onnx__ValueInfoProto *, b->last->nin);
	for (int i = 0; i < b->last->nin && status == ML_OK; i++) {
		/* a result must be made by a node of the graph itself */
		const char *name = ml_spell1(e, "Identity", ml_spell_in(b->last, i));
		g->output[i] = ml_spell_info(e, &ml_in(b->last, i)->type, name, false);
	}
	g->node = nodes.at;
	g->n_node = (size_t)nodes.count;
	e->nodes = outer;
	e->sizes.count = nsizes;
	memcpy(e->source, sources, (size_t)nsyms * sizeof *sources);
	return status == ML_OK ? g : NULL;
}

static const char *
all_results(ml_export *e, const ml_node *n, Onnx__NodeProto *node)
{
	for (int i = 0; i < n->nout; i++)
		ml_spell_set(&n->out[i], ml_spell_output(e, node, i));
	return node->output[0];
}

const char *
ml_spell_if(ml_export *e, const ml_node *n)
{
	const char *cond = ml_spell_in(n, 0);
	Onnx__GraphProto *yes = subgraph(e, n, n->body[0], 0, 1);
	Onnx__GraphProto *no = yes ? subgraph(e, n, n->body[1], 0, 1) : NULL;

	if (!no)
		return NULL;
	Onnx__NodeProto *node = ml_spell_node(e, "If", &cond, 1);
	ml_spell_graph(e, node, "then_branch", yes);
	ml_spell_graph(e, node, "else_branch", no);
	return all_results(e, n, node);
}

/* ONNX's body gets the condition too; ours knows that it holds. */
static void
insert_condition(ml_export *e, Onnx__GraphProto *g)
{
	ml_type condition = {.dtype = ML_bool};
	Onnx__ValueInfoProto **input =
		ML_NEW_ARRAY(&e->arena, Onnx__ValueInfoProto *, g->n_input + 1);

	input[0] = g->input[0];
	input[1] = ml_spell_info(e, &condition, ml_spell_name(e), false);
	for (size_t i = 1; i < g->n_input; i++)
		input[i + 1] = g->input[i];
	g->input = input;
	g->n_input++;
}

const char *
ml_spell_loop(ml_export *e, const ml_node *n)
{
	int carried = (int)ML_A(n, loop, carried).i64;
	const char **in = ML_NEW_ARRAY(&e->arena, const char *, carried + 2);
	Onnx__GraphProto *g = subgraph(e, n, n->body[0], 1 + carried, 2 + carried);

	if (!g)
		return NULL;
	insert_condition(e, g);
	for (int i = 0; i < carried + 2; i++)
		in[i] = ml_spell_in(n, i);
	Onnx__NodeProto *node = ml_spell_node(e, "Loop", in, carried + 2);
	ml_spell_graph(e, node, "body", g);
	return all_results(e, n, node);
}

const char *
ml_spell_custom(ml_export *e, const ml_node *n)
{
	const char *domain = ML_A(n, custom, domain).str, **in;
	bool known = false;

	in = ML_NEW_ARRAY(&e->arena, const char *, n->nin);
	for (int i = 0; i < n->nin; i++)
		in[i] = ml_spell_in(n, i);
	Onnx__NodeProto *node = ml_spell_node(e, ML_A(n, custom, name).str, in, n->nin);
	node->domain = ml_strdup(&e->arena, domain);
	for (int i = 0; i < e->domains.count; i++)
		known = known || !strcmp(e->domains.at[i], domain);
	if (!known && *domain)
		ML_PUSH(&e->arena, e->domains, domain);
	return all_results(e, n, node);
}
