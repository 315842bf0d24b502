/* gate_measure.c -- what each layer costs at each of its levels: error, its own and that of the
 * model's outputs, and time.
 */
#include "gate.h"
#include "samples.h"
#include <math.h>
#include <string.h>

enum { TIMED_RUNS = 5, FEWEST_SAMPLES = 4, OWN_SAMPLES = 12 };
static const double SWITCHING_SECONDS = 12; /* what finding each layer's share may take */
static const double EXACT = 300;            /* dB */

/* ---- each layer's own error ---- */

static void
add(void *user, int which, const ml_tensor *t)
{
	double *sum = user;

	sum[which] += ml_read_f64(ML_f32, t->data, 0);
}

static ml_value *
sum_of_squares(ml_builder *b, ml_value *v)
{
	int64_t axes[ML_MAX_RANK];

	for (int i = 0; i < v->type.rank; i++)
		axes[i] = i;
	v = ml_op2(b, ML_OP_mul, v, v);
	v = v && v->type.rank ? ml_build_reduce(b, ML_OP_reduce_sum, v, axes, v->type.rank) : v;
	return v ? ml_build_reshape(b, v, NULL, 0) : NULL;
}

/* For each layer the squares of its result, then those of what each level adds to it. */
static ml_status
build_errors(const ml_gate *g, ml_module *m, ml_value **value, int *n)
{
	for (int i = 0; i < g->layers; i++) {
		ml_node *layer = ml_node_by_id(m, g->layer[i].id);
		ml_value *y = &layer->out[0], *q[ML_GATE_LEVELS];
		for (int l = 1; l < g->layer[i].levels; l++)
			if (!(q[l] = g->build(g->user, i, l, layer)))
				return ML_ERR_PASS;
		ml_builder b = ml_builder_before(layer->next);
		value[(*n)++] = sum_of_squares(&b, y);
		for (int l = 1; l < g->layer[i].levels; l++)
			value[(*n)++] = sum_of_squares(&b, ml_op2(&b, ML_OP_sub, q[l], y));
		ML_STEP(b.failed);
	}
	return ML_OK;
}

static ml_status
measure_own_errors(const ml_gate *g)
{
	ml_value **value = ML_NEW_ARRAY(g->px->scratch, ml_value *, g->layers * ML_GATE_LEVELS);
	double *sum = ML_NEW_ARRAY(g->px->scratch, double, g->layers *ML_GATE_LEVELS);
	ml_module *copy = ml_module_clone(g->m);
	int n = 0;

	ml_status status = build_errors(g, copy, value, &n);
	if (status == ML_OK)
		status = ml_watch(g->px, copy, value, n, ML_LEARN, OWN_SAMPLES, add, sum);
	ml_module_free(copy);
	ML_STEP(status);
	for (int i = 0, at = 0; i < g->layers; i++) {
		double signal = sum[at++];
		for (int l = 1; l < g->layer[i].levels; l++, at++)
			g->layer[i].sqnr[l] = sum[at] > 0 ? 10 * log10(signal / sum[at]) : EXACT;
	}
	return ML_OK;
}

/* ---- each layer's share in the model's ---- */

static int
switches(const ml_gate *g)
{
	int n = 0;

	for (int i = 0; i < g->layers; i++)
		n += g->layer[i].levels - 1;
	return n;
}

/* y + flag (q - y) behind y, of which y's readers read `mixed` afterwards. */
static ml_value *
mix(ml_builder *b, ml_value *flags, int at, ml_value *q, ml_value *y, ml_value *mixed)
{
	const ml_dim start = ml_dim_int(b->m->dims, at), size = ml_dim_int(b->m->dims, 1);
	const int64_t step = 1;

	ml_value *flag = ml_build_slice(b, flags, &start, &size, &step);
	flag = ml_build_reshape(b, flag, NULL, 0);
	ml_value *d = ml_op2(b, ML_OP_mul, flag, ml_op2(b, ML_OP_sub, q, y));
	return ml_op2(b, ML_OP_add, mixed, d);
}

/* Makes every level of every layer one that a new input of flags adds. */
static ml_status
switch_layers(const ml_gate *g, ml_module *m)
{
	ml_type t = {.dtype = ML_f32, .rank = 1, .dim = {ml_dim_int(m->dims, switches(g))}};
	ml_value *flags = ml_block_add_arg(m->main, &t, "flags");

	for (int i = 0, at = 0; i < g->layers; i++) {
		ml_node *n = ml_node_by_id(m, g->layer[i].id);
		ml_value *y = &n->out[0], *q[ML_GATE_LEVELS], *mixed;
		ML_VEC(ml_use *) readers = {0};
		for (ml_use *u = y->uses; u; u = u->next)
			ML_PUSH(g->px->scratch, readers, u);
		for (int l = 1; l < g->layer[i].levels; l++)
			if (!(q[l] = g->build(g->user, i, l, n)))
				return ML_ERR_PASS;
		ml_builder b = ml_builder_before(n->next);
		mixed = y;
		for (int l = 1; l < g->layer[i].levels && mixed; l++)
			mixed = mix(&b, flags, at++, q[l], y, mixed);
		if (!mixed)
			return b.failed;
		for (int k = 0; k < readers.count; k++) {
			ml_node *user = readers.at[k]->user;
			ml_set_operand(user, (int)(readers.at[k] - user->in), mixed);
		}
	}
	return ML_OK;
}

static ml_status
measure_shares(const ml_gate *g, const ml_holdout *h, ml_runnable *runnable, ml_agree *agree,
	       double *least)
{
	int n = switches(g), samples = FEWEST_SAMPLES;
	float *flag = ML_NEW_ARRAY(g->px->scratch, float, n + 1);
	ml_tensor more = {ML_f32, 1, {n}, flag, (size_t)n * sizeof *flag};

	double begun = ml_seconds_now();
	ML_STEP(ml_holdout_judge(h, runnable, &more, 1, samples, agree));
	double each = (ml_seconds_now() - begun) / samples + 1e-9;
	double affordable = SWITCHING_SECONDS / n / each;
	samples = affordable > h->count  ? h->count
		  : affordable > samples ? (int)affordable
					 : samples;
	ML_STEP(ml_holdout_judge(h, runnable, &more, 1, samples, agree));
	double none = ml_agree_error(agree); /* what came before the layers */
	*least = ml_agree_loss(agree);
	for (int i = 0, at = 0; i < g->layers; i++)
		for (int l = 1; l < g->layer[i].levels; l++, at++) {
			flag[at] = 1;
			ML_STEP(ml_holdout_judge(h, runnable, &more, 1, samples, agree));
			g->layer[i].error[l] = fmax(ml_agree_error(agree) - none, 0);
			flag[at] = 0;
		}
	return ML_OK;
}

ml_status
ml_gate_shares(const ml_gate *g, const ml_holdout *h, ml_agree *agree, double *least)
{
	const ml_exec *exec = g->px->exec;
	ml_module *copy = ml_module_clone(g->m);
	ml_runnable *runnable;

	ml_status status = switch_layers(g, copy);
	if (status == ML_OK)
		status = exec->compile(exec->user, copy, &runnable);
	ml_module_free(copy);
	ML_STEP(status);
	status = measure_shares(g, h, runnable, agree, least);
	exec->free(exec->user, runnable);
	return status;
}

/* ---- time ---- */

/* The layer in a module of its own, or NULL. */
static ml_node *
copy_layer(const ml_gate *g, int i, ml_module *m, ml_type *x)
{
	const ml_node *n = ml_node_by_id(g->m, g->layer[i].id);
	ml_builder b = ml_builder_at_end(m->main, NULL);
	ml_value **in = ML_NEW_ARRAY(g->px->scratch, ml_value *, n->nin);

	*x = ml_in(n, 0)->type;
	for (int d = 0; d < x->rank; d++) {
		if (g->layer[i].dim[d] <= 0)
			return NULL;
		x->dim[d] = ml_dim_int(m->dims, g->layer[i].dim[d]);
	}
	in[0] = ml_block_add_arg(m->main, x, "x");
	for (int k = 1; k < n->nin; k++) {
		const ml_value *from = ml_in(n, k);
		int64_t size;
		if (!ml_is_const(from))
			return NULL;
		ml_type t = from->type;
		for (int d = 0; d < t.rank && ml_dim_is_int(t.dim[d], &size); d++)
			t.dim[d] = ml_dim_int(m->dims, size);
		in[k] = ml_build_const(&b, &t, ml_blob_share(ml_const_blob(from)));
	}
	return ml_finish(&b, ml_begin_like(&b, n, in, n->nin));
}

static ml_status
time_module(const ml_gate *g, const ml_module *m, const ml_tensor *x, double *seconds)
{
	const ml_exec *exec = g->px->exec;
	ml_runnable *runnable;

	ML_STEP(exec->compile(exec->user, m, &runnable));
	ml_status status = exec->time(exec->user, runnable, x, TIMED_RUNS, seconds);
	exec->free(exec->user, runnable);
	return status;
}

static ml_tensor
numbers(ml_arena *arena, const ml_gate_layer *layer, int rank)
{
	ml_tensor t = {.dtype = ML_f32, .rank = rank, .bytes = sizeof(float)};

	for (int d = 0; d < rank; d++) {
		t.dim[d] = layer->dim[d];
		t.bytes *= (size_t)layer->dim[d];
	}
	t.data = ml_alloc(arena, t.bytes);
	for (size_t k = 0; k < t.bytes / sizeof(float); k++)
		((float *)t.data)[k] = (float)(k % 17) / 16;
	return t;
}

static ml_status
time_layer(const ml_gate *g, int i, int level, double *seconds)
{
	ml_module *m = ml_module_new(g->px->cx, "layer");
	ml_type type;
	ml_status status = ML_OK;

	*seconds = 0;
	ml_node *n = copy_layer(g, i, m, &type);
	ml_value *y = n && level ? g->build(g->user, i, level, n) : n ? &n->out[0] : NULL;
	if (y) {
		ml_builder b = ml_builder_at_end(m->main, NULL);
		ml_tensor x = numbers(g->px->scratch, &g->layer[i], type.rank);
		ML_PUSH(&m->arena, m->output_names, "y");
		status = ml_build_yield(&b, &y, 1);
		ml_drop_unused(m->main);
		if (status == ML_OK)
			status = time_module(g, m, &x, seconds);
	}
	ml_module_free(m);
	return status;
}

/* Layers of one shape take the same time. */
static bool
is_alike(const ml_gate *g, int i, int k)
{
	const ml_node *a = ml_node_by_id(g->m, g->layer[i].id),
		      *b = ml_node_by_id(g->m, g->layer[k].id);

	if (a->op != b->op || a->nin != b->nin || g->layer[i].levels != g->layer[k].levels ||
	    memcmp(g->layer[i].dim, g->layer[k].dim, sizeof g->layer[i].dim))
		return false;
	if (a->nin > 1 && !ml_type_same_shape(&ml_in(a, 1)->type, &ml_in(b, 1)->type))
		return false;
	return ml_type_same_shape(&a->out[0].type, &b->out[0].type);
}

static ml_status
time_layers(const ml_gate *g)
{
	for (int i = 0; i < g->layers; i++) {
		int like = 0;
		while (like < i && !is_alike(g, i, like))
			like++;
		for (int l = 0; l < g->layer[i].levels; l++)
			if (like < i)
				g->layer[i].seconds[l] = g->layer[like].seconds[l];
			else
				ML_STEP(time_layer(g, i, l, &g->layer[i].seconds[l]));
	}
	return ML_OK;
}

/* The sizes that layers see when the model sees a usual sample. */
static void
find_sizes(const ml_gate *g, const ml_holdout *h)
{
	const ml_block *teacher = h->teacher->main;
	const ml_tensor *in = ml_holdout_middle(h);
	ml_dims *dims = g->m->dims;
	int64_t *symbol = ML_NEW_ARRAY(g->px->scratch, int64_t, ml_sym_count(dims) + 1);

	for (int i = 0; i < teacher->nargs; i++)
		for (int d = 0; d < in[i].rank; d++)
			for (int s = 0; s < ml_sym_count(dims); s++)
				if (teacher->arg[i]->type.dim[d] ==
				    ml_dim_sym(dims, ml_sym_at(dims, s)))
					symbol[s] = in[i].dim[d];
	for (int i = 0; i < g->layers; i++) {
		const ml_type *t = &ml_in(ml_node_by_id(g->m, g->layer[i].id), 0)->type;
		for (int d = 0; d < t->rank; d++)
			if (!ml_dim_eval(t->dim[d], symbol, &g->layer[i].dim[d]))
				g->layer[i].dim[d] = 0;
	}
}

ml_status
ml_gate_measure(const ml_gate *g, const ml_holdout *h)
{
	find_sizes(g, h);
	ML_STEP(measure_own_errors(g));
	return time_layers(g);
}
