/* gate.c -- which layers stay in floats, so that the whole model loses no more than it may. */
#include "gate.h"
#include "holdout.h"
#include <math.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 6, BUCKETS = 2000, TIMED_RUNS = 5, FEWEST_SAMPLES = 4, MOST_NAMES = 8 };
static const double SWITCHING_SECONDS = 12; /* what finding each layer's share may take */

typedef struct run {
	ml_gate *g;
	ml_holdout h;
	ml_agree agree;
	double most;  /* that may be lost */
	double loss;  /* of the candidate measured last */
	double least; /* with all layers kept */
	double seconds;
} run;

static ml_status
compile(const run *r, const ml_module *m, ml_runnable **out)
{
	const ml_exec *exec = r->g->px->exec;

	return exec->compile(exec->user, m, out);
}

static void
release(const run *r, ml_runnable *runnable)
{
	r->g->px->exec->free(r->g->px->exec->user, runnable);
}

static double
seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- candidates ---- */

static ml_node *
node_of(const ml_module *m, uint32_t id)
{
	ml_node *n = m->main->first;

	while (n && n->id != id)
		n = n->next;
	return n;
}

ml_status
ml_gate_apply(const ml_gate *g, ml_module *m)
{
	for (int i = 0; i < g->layers; i++) {
		ml_node *n = g->layer[i].kept ? NULL : node_of(m, g->layer[i].id);
		if (!n)
			continue;
		ml_value *y = g->build(g->user, i, n);
		if (!y)
			return ML_ERR_PASS;
		y->name = n->out[0].name;
		ml_replace_uses(&n->out[0], y);
		ml_node_remove(n);
	}
	ml_drop_unused(m->main);
	return ML_OK;
}

/* Compiles, compares and times what `kept` gives. */
static ml_status
judge(run *r)
{
	const ml_exec *exec = r->g->px->exec;
	ml_module *copy = ml_module_clone(r->g->m);
	ml_runnable *runnable;

	ml_status status = ml_gate_apply(r->g, copy);
	if (status == ML_OK)
		status = compile(r, copy, &runnable);
	ml_module_free(copy);
	ML_STEP(status);
	status = ml_holdout_judge(&r->h, runnable, NULL, 0, r->h.count, &r->agree);
	if (status == ML_OK)
		status = exec->time(exec->user, runnable, ml_holdout_middle(&r->h), TIMED_RUNS,
				    &r->seconds);
	release(r, runnable);
	r->loss = ml_agree_loss(&r->agree);
	return status;
}

/* ---- each layer's share ---- */

/* y + flag (q - y) in the place of y, for a new input of flags. */
static ml_status
switch_layers(const run *r, ml_module *m)
{
	ml_type t = {.dtype = ML_f32, .rank = 1, .dim = {ml_dim_int(m->dims, r->g->layers)}};
	ml_value *flags = ml_block_add_arg(m->main, &t, "flags");

	for (int i = 0; i < r->g->layers; i++) {
		ml_node *n = node_of(m, r->g->layer[i].id);
		ml_value *q = r->g->build(r->g->user, i, n);
		ml_builder b = ml_builder_before(n->next);
		const ml_dim start = ml_dim_int(m->dims, i), size = ml_dim_int(m->dims, 1);
		const int64_t step = 1;
		ml_value *y = &n->out[0];
		if (!q)
			return ML_ERR_PASS;
		ml_value *flag = ml_build_slice(&b, flags, &start, &size, &step);
		flag = ml_build_reshape(&b, flag, NULL, 0);
		ml_value *d = ml_op2(&b, ML_OP_sub, q, y);
		ml_value *mixed = ml_op2(&b, ML_OP_mul, flag, d);
		ml_node *moved = d->def;
		mixed = ml_op2(&b, ML_OP_add, y, mixed);
		if (!mixed)
			return b.failed;
		ml_replace_uses(y, mixed); /* and the two that make it read y itself */
		ml_set_operand(moved, 1, y);
		ml_set_operand(mixed->def, 0, y);
	}
	return ML_OK;
}

static ml_status
measure_shares(run *r, ml_runnable *runnable)
{
	ml_gate *g = r->g;
	float *flag = ML_NEW_ARRAY(g->px->scratch, float, g->layers);
	ml_tensor more = {ML_f32, 1, {g->layers}, flag, (size_t)g->layers * sizeof *flag};
	int samples = FEWEST_SAMPLES;

	double begun = seconds_now();
	ML_STEP(ml_holdout_judge(&r->h, runnable, &more, 1, samples, &r->agree));
	double each = (seconds_now() - begun) / samples + 1e-9;
	double affordable = SWITCHING_SECONDS / g->layers / each;
	samples = affordable > r->h.count ? r->h.count
		  : affordable > samples  ? (int)affordable
					  : samples;
	ML_STEP(ml_holdout_judge(&r->h, runnable, &more, 1, samples, &r->agree));
	double none = ml_agree_error(&r->agree); /* what came before the layers */
	r->least = ml_agree_loss(&r->agree);
	for (int i = 0; i < g->layers; i++) {
		flag[i] = 1;
		ML_STEP(ml_holdout_judge(&r->h, runnable, &more, 1, samples, &r->agree));
		g->layer[i].error = fmax(ml_agree_error(&r->agree) - none, 0);
		flag[i] = 0;
	}
	return ML_OK;
}

static ml_status
find_shares(run *r)
{
	ml_module *copy = ml_module_clone(r->g->m);
	ml_runnable *runnable;

	ml_status status = switch_layers(r, copy);
	if (status == ML_OK)
		status = compile(r, copy, &runnable);
	ml_module_free(copy);
	ML_STEP(status);
	status = measure_shares(r, runnable);
	release(r, runnable);
	return status;
}

/* ---- what each costs ---- */

/* The layer in a module of its own, of which *y is the result. */
static ml_node *
copy_layer(const run *r, int i, ml_module *m, ml_type *x)
{
	const ml_node *n = node_of(r->g->m, r->g->layer[i].id);
	ml_builder b = ml_builder_at_end(m->main, NULL);
	ml_value **in = ML_NEW_ARRAY(r->g->px->scratch, ml_value *, n->nin);

	*x = ml_in(n, 0)->type;
	for (int d = 0; d < x->rank; d++)
		x->dim[d] = ml_dim_int(m->dims, r->g->layer[i].dim[d]);
	in[0] = ml_block_add_arg(m->main, x, "x");
	for (int k = 1; k < n->nin; k++) {
		ml_type t = ml_in(n, k)->type;
		int64_t size;
		if (!ml_is_const(ml_in(n, k)))
			return NULL;
		for (int d = 0; d < t.rank && ml_dim_is_int(t.dim[d], &size); d++)
			t.dim[d] = ml_dim_int(m->dims, size);
		in[k] = ml_build_const(&b, &t, ml_blob_share(ml_const_blob(ml_in(n, k))));
	}
	ml_node *copy = ml_begin(&b, n->op, in, n->nin);
	for (int k = 0; copy && k < ml_op_get(n->op)->nattrs; k++)
		copy->attr[k] = n->attr[k];
	return copy ? ml_finish(&b, copy) : NULL;
}

static ml_status
time_module(const run *r, const ml_module *m, const ml_tensor *x, double *seconds)
{
	const ml_exec *exec = r->g->px->exec;
	ml_runnable *runnable;

	ML_STEP(compile(r, m, &runnable));
	ml_status status = exec->time(exec->user, runnable, x, TIMED_RUNS, seconds);
	release(r, runnable);
	return status;
}

static ml_tensor
ones(ml_arena *arena, const ml_gate_layer *layer, int rank)
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
time_layer(const run *r, int i, bool quantized, double *seconds)
{
	ml_gate *g = r->g;
	ml_module *m = ml_module_new(g->px->cx, "layer");
	ml_type type;
	ml_status status = ML_OK;

	*seconds = 0;
	ml_node *n = copy_layer(r, i, m, &type);
	ml_value *y = n && quantized ? g->build(g->user, i, n) : n ? &n->out[0] : NULL;
	if (y) {
		ml_builder b = ml_builder_at_end(m->main, NULL);
		ml_tensor x = ones(g->px->scratch, &g->layer[i], type.rank);
		ML_PUSH(&m->arena, m->output_names, "y");
		status = ml_build_yield(&b, &y, 1);
		ml_drop_unused(m->main);
		if (status == ML_OK)
			status = time_module(r, m, &x, seconds);
	}
	ml_module_free(m);
	return status;
}

/* Layers of one shape take the same time. */
static bool
is_alike(const ml_gate *g, int i, int k)
{
	const ml_value *a = ml_in(node_of(g->m, g->layer[i].id), 1);
	const ml_value *b = ml_in(node_of(g->m, g->layer[k].id), 1);

	return ml_type_same_shape(&a->type, &b->type) &&
	       !memcmp(g->layer[i].dim, g->layer[k].dim, sizeof g->layer[i].dim);
}

static ml_status
time_layers(const run *r)
{
	ml_gate *g = r->g;

	for (int i = 0; i < g->layers; i++) {
		int like = 0;
		while (like < i && !is_alike(g, i, like))
			like++;
		for (int q = 0; q < 2; q++)
			if (like < i)
				g->layer[i].seconds[q] = g->layer[like].seconds[q];
			else
				ML_STEP(time_layer(r, i, q, &g->layer[i].seconds[q]));
	}
	return ML_OK;
}

/* ---- the knapsack ---- */

static double
cost_of(const ml_gate_layer *l)
{
	return fmax(l->seconds[0] - l->seconds[1], 0) + 1e-9; /* where all cost nothing: fewest */
}

/* Its error in buckets, rounded up so that the sum never is more than it may be. */
static int
size_of(const ml_gate_layer *l, double most)
{
	double share = l->error <= 0 ? 0 : most > 0 ? l->error / most * BUCKETS : INFINITY;

	return share <= BUCKETS ? (int)ceil(share) : BUCKETS + 1;
}

void
ml_gate_choose(ml_gate_layer *layer, int n, double most, ml_arena *arena)
{
	double *saved = ML_NEW_ARRAY(arena, double, BUCKETS + 1);
	bool *taken = ML_NEW_ARRAY(arena, bool, n *(BUCKETS + 1));

	/* saved[b]: the most time that layers quantized with errors of b buckets in all can save */
	for (int i = 0; i < n; i++) {
		int size = size_of(&layer[i], most);
		for (int b = BUCKETS; b >= size; b--) {
			double with = saved[b - size] + cost_of(&layer[i]);
			if (with <= saved[b])
				continue;
			saved[b] = with;
			taken[i * (BUCKETS + 1) + b] = true;
		}
	}
	for (int i = n - 1, b = BUCKETS; i >= 0; i--) {
		layer[i].kept = !taken[i * (BUCKETS + 1) + b];
		b -= layer[i].kept ? 0 : size_of(&layer[i], most);
	}
}

/* ---- the search ---- */

static double
sum_of_errors(const ml_gate *g)
{
	double sum = 0;

	for (int i = 0; i < g->layers; i++)
		sum += g->layer[i].error;
	return sum;
}

/* Halves the distance between sums of errors that are too much and those that are not. */
static ml_status
keep_enough(run *r)
{
	ml_gate *g = r->g;
	double good = 0, bad, most;

	ML_STEP(find_shares(r));
	ML_STEP(time_layers(r));
	bad = sum_of_errors(g);
	most = bad * fmax(r->most - r->least, 0) / fmax(r->loss - r->least, r->most);
	for (int round = 0; round < ROUNDS && most > 0; round++) {
		ml_gate_choose(g->layer, g->layers, most, g->px->scratch);
		ML_STEP(judge(r));
		*(r->loss <= r->most ? &good : &bad) = most;
		if (good > .8 * bad)
			break;
		most = good > 0 ? (good + bad) / 2 : most / 2;
	}
	ml_gate_choose(g->layer, g->layers, good, g->px->scratch);
	return judge(r);
}

/* ---- what is written down ---- */

static void
report_layer(const ml_gate *g, const ml_gate_layer *l)
{
	ml_table *t = ml_record_table(g->px->record, "layers", "Layers");
	int row = ml_table_row(t, l->name);

	ml_table_text(t, row, "precision", l->kept ? "fp32" : g->after);
	ml_table_number(t, row, "weights", ML_UNIT_BYTES, l->bytes[0]);
	ml_table_number(t, row, "after", ML_UNIT_BYTES, l->bytes[!l->kept]);
	if (l->seconds[0] <= 0)
		return;
	ml_table_number(t, row, "error alone", ML_UNIT_NONE, l->error);
	ml_table_number(t, row, "time fp32", ML_UNIT_SECONDS, l->seconds[0]);
	ml_table_number(t, row, "time int8", ML_UNIT_SECONDS, l->seconds[1]);
}

static void
report(const run *r)
{
	ml_gate *g = r->g;
	ml_record *record = g->px->record;
	ml_agree_means m = ml_agree_total(&r->agree);
	double cost = 0;
	int kept = 0;
	ml_text t, names;

	ml_text_init(&t, g->px->scratch);
	ml_text_init(&names, g->px->scratch);
	ml_agree_put(&t, &r->agree);
	for (int i = 0; i < g->layers; i++) {
		const ml_gate_layer *l = &g->layer[i];
		const char *why = "";
		if (l->kept) {
			kept++;
			cost += cost_of(l);
			why = ml_format(g->px->scratch, "alone it costs %.3g of %.3g", l->error,
					r->most);
			ml_remark(g->px->cx, node_of(g->m, l->id)->prov, "kept in fp32: %s", why);
			if (kept <= MOST_NAMES)
				ml_put(&names, "%s%s", kept > 1 ? ", " : "",
				       kept < MOST_NAMES ? ml_escaped(g->px->scratch, l->name)
							 : "...");
		}
		ml_record_decide(record, "gate", l->name, l->kept ? "fp32" : g->after, why);
		report_layer(g, l);
	}
	if (r->agree.decides)
		ml_record_change(record, "agreement", ML_UNIT_SHARE, NAN, m.agreement);
	ml_record_change(record, "cosine", ML_UNIT_NONE, NAN, m.cosine);
	ml_record_change(record, "SQNR", ML_UNIT_DECIBEL, NAN, m.sqnr);
	ml_record_change(record, "latency", ML_UNIT_SECONDS, r->h.seconds, r->seconds);
	ml_record_note(record, "on %d samples that nothing was learnt from: %s", r->h.count, t.at);
	if (kept)
		ml_record_note(record, "kept %d of %d layers in fp32, which costs %s a run: %s",
			       kept, g->layers, ml_unit_text(g->px->scratch, ML_UNIT_SECONDS, cost),
			       names.at);
}

/* ---- in all ---- */

static ml_status
repeat(ml_gate *g)
{
	for (int i = 0; i < g->layers; i++) {
		const char *choice;
		ML_STEP(ml_record_choice(g->px->record, g->px->cx, "gate", g->layer[i].name,
					 &choice));
		g->layer[i].kept = !strcmp(choice, "fp32");
		ml_record_decide(g->px->record, "gate", g->layer[i].name, choice, "repeated");
		report_layer(g, &g->layer[i]);
	}
	return ML_OK;
}

/* A student that has lost about all there is to lose may still be quantized, for half as much. */
static ml_status
allow_for_student(run *r)
{
	ml_runnable *runnable;

	ML_STEP(compile(r, r->g->m, &runnable));
	ml_status status = ml_holdout_judge(&r->h, runnable, NULL, 0, r->h.count, &r->agree);
	release(r, runnable);
	r->most = fmax(r->most, ml_agree_loss(&r->agree) + r->most / 2);
	return status;
}

ml_status
ml_gate_run(ml_gate *g)
{
	run r = {.g = g, .most = g->px->max_loss};

	if (g->px->record->replays)
		return repeat(g);
	const ml_module *teacher = g->px->teacher ? g->px->teacher : g->m;
	ML_STEP(ml_holdout_init(&r.h, g->px, teacher));
	ml_agree_init(&r.agree, teacher, g->px->scratch);
	if (g->px->prune || g->px->distill)
		ML_STEP(allow_for_student(&r));
	ML_STEP(judge(&r));
	if (r.loss > r.most)
		ML_STEP(keep_enough(&r));
	report(&r);
	return ML_OK;
}
