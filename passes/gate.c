/* gate.c -- how coarse each layer may become, so that the whole model loses no more than it may. */
#include "gate.h"
#include <math.h>
#include <string.h>

enum { ROUNDS = 6, BUCKETS = 2000, TIMED_RUNS = 5, MOST_NAMES = 8 };

typedef struct run {
	ml_gate *g;
	ml_holdout h;
	ml_agree agree;
	double most;  /* that may be lost */
	double loss;  /* of the candidate measured last */
	double least; /* with all layers in floats */
	double seconds;
} run;

/* ---- layers ---- */

/* The name is of its node, made unique. */
ml_gate_layer *
ml_gate_add(ml_gate *g, int i, const ml_node *n, int levels)
{
	const char *name = n->prov && n->prov->node ? n->prov->node : ml_op_get(n->op)->name;
	ml_gate_layer *l = &g->layer[i];

	for (int k = 0; k < i; k++)
		if (!strcmp(g->layer[k].name, name)) {
			name = ml_format(g->px->scratch, "%s#%u", name, n->id);
			break;
		}
	*l = (ml_gate_layer){.id = n->id, .name = name, .levels = levels, .level = levels - 1};
	return l;
}

/* ---- candidates ---- */

static ml_status
replace_layers(const ml_gate *g, ml_module *m)
{
	for (int i = 0; i < g->layers; i++) {
		int level = g->layer[i].level;
		ml_node *n = level ? ml_node_by_id(m, g->layer[i].id) : NULL;
		if (!n)
			continue;
		ml_value *y = g->build(g->user, i, level, n);
		if (!y)
			return ML_ERR_PASS;
		y->name = n->out[0].name;
		ml_replace_uses(&n->out[0], y);
		ml_node_remove(n);
	}
	return ML_OK;
}

ml_status
ml_gate_apply(const ml_gate *g, ml_module *m)
{
	ML_STEP(g->apply ? g->apply(g, m) : replace_layers(g, m));
	ml_drop_unused(m->main);
	return ML_OK;
}

ml_status
ml_gate_finish(ml_gate *g, ml_module *m)
{
	for (int i = 0; i < g->layers; i++)
		if (g->layer[i].level && ml_spend_fuel(g->px)) {
			ml_remark(g->px->cx, ml_node_by_id(m, g->layer[i].id)->prov,
				  "quantized: %s", g->form[g->layer[i].level]);
			g->px->changes++;
		} else {
			g->layer[i].level = 0;
		}
	return ml_gate_apply(g, m);
}

/* Compiles, compares and times what the levels give. */
static ml_status
judge(run *r)
{
	const ml_exec *exec = r->g->px->exec;
	ml_module *copy = ml_module_clone(r->g->m);
	ml_runnable *runnable;

	ml_status status = ml_gate_apply(r->g, copy);
	if (status == ML_OK)
		status = exec->compile(exec->user, copy, &runnable);
	ml_module_free(copy);
	ML_STEP(status);
	status = ml_holdout_judge(&r->h, runnable, NULL, 0, r->h.count, &r->agree);
	if (status == ML_OK)
		status = exec->time(exec->user, runnable, ml_holdout_middle(&r->h), TIMED_RUNS,
				    &r->seconds);
	exec->free(exec->user, runnable);
	r->loss = ml_agree_loss(&r->agree);
	return status;
}

/* ---- the knapsack ---- */

double
ml_gate_cost(const ml_gate_layer *l, int level)
{
	int last = l->levels - 1;
	double longer = fmax(l->seconds[level] - l->seconds[last], 0);

	/* where all take the same time: the smallest, and the fewest that change */
	return longer + 1e-15 * fmax(l->bytes[level] - l->bytes[last], 0) + 1e-9 * (last - level);
}

/* Its error in buckets, rounded up so that the sum never is more than it may be. */
static int
size_of(const ml_gate_layer *l, int level, double most)
{
	double error = l->error[level];
	double share = error <= 0 || !level ? 0 : most > 0 ? error / most * BUCKETS : INFINITY;

	return share <= BUCKETS ? (int)ceil(share) : BUCKETS + 1;
}

void
ml_gate_choose(ml_gate_layer *layer, int n, double most, ml_arena *arena)
{
	double *cost = ML_NEW_ARRAY(arena, double, BUCKETS + 1);
	uint8_t *taken = ML_NEW_ARRAY(arena, uint8_t, n *(BUCKETS + 1));

	/* cost[b]: the least time that layers cost with errors of b buckets in all */
	for (int i = 0; i < n; i++)
		for (int b = BUCKETS; b >= 0; b--) {
			double least = INFINITY;
			for (int l = 0; l < layer[i].levels; l++) {
				int size = size_of(&layer[i], l, most);
				double with = size > b
						      ? INFINITY
						      : cost[b - size] + ml_gate_cost(&layer[i], l);
				if (with > least)
					continue;
				least = with;
				taken[i * (BUCKETS + 1) + b] = (uint8_t)l;
			}
			cost[b] = least;
		}
	for (int i = n - 1, b = BUCKETS; i >= 0; i--) {
		layer[i].level = taken[i * (BUCKETS + 1) + b];
		b -= size_of(&layer[i], layer[i].level, most);
	}
}

/* ---- the search ---- */

/* Of all layers at their coarsest. */
static double
sum_of_errors(const ml_gate *g)
{
	double sum = 0;

	for (int i = 0; i < g->layers; i++)
		sum += g->layer[i].error[g->layer[i].levels - 1];
	return sum;
}

/* Halves the distance between sums of errors that are too much and those that are not. */
static ml_status
keep_enough(run *r)
{
	ml_gate *g = r->g;
	double good = 0, bad, most;

	ML_STEP(ml_gate_shares(g, &r->h, &r->agree, &r->least));
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

	ml_table_text(t, row, "precision", g->form[l->level]);
	ml_table_number(t, row, "weights", ML_UNIT_BYTES, l->bytes[0]);
	ml_table_number(t, row, "after", ML_UNIT_BYTES, l->bytes[l->level]);
	for (int i = 1; i < l->levels; i++) {
		const char *form = g->form[i];
		if (l->sqnr[i] != 0)
			ml_table_number(t, row, ml_format(g->px->scratch, "SQNR %s", form),
					ML_UNIT_DECIBEL, l->sqnr[i]);
		if (l->error[i] > 0)
			ml_table_number(t, row, ml_format(g->px->scratch, "error %s", form),
					ML_UNIT_NONE, l->error[i]);
	}
	for (int i = 0; i < l->levels && l->seconds[0] > 0; i++)
		ml_table_number(t, row, ml_format(g->px->scratch, "time %s", g->form[i]),
				ML_UNIT_SECONDS, l->seconds[i]);
}

typedef struct kept {
	ml_text names;
	double cost;
	int count;
} kept;

/* Says of each layer what it becomes, and of those that could be coarser why they are not. */
static void
report_layers(const run *r, kept *k)
{
	ml_gate *g = r->g;

	for (int i = 0; i < g->layers; i++) {
		const ml_gate_layer *l = &g->layer[i];
		const char *form = g->form[l->level], *why = "";
		int last = l->levels - 1;
		if (l->level < last) {
			why = ml_format(g->px->scratch, "as %s alone it costs %.3g of %.3g",
					g->form[last], l->error[last], r->most);
			ml_remark(g->px->cx, ml_node_by_id(g->m, l->id)->prov, "kept in %s: %s",
				  form, why);
			k->cost += ml_gate_cost(l, l->level);
			if (++k->count <= MOST_NAMES)
				ml_put(&k->names, "%s%s", k->count > 1 ? ", " : "",
				       k->count < MOST_NAMES ? ml_escaped(g->px->scratch, l->name)
							     : "...");
		}
		ml_record_decide(g->px->record, "gate", l->name, form, why);
		report_layer(g, l);
	}
}

static void
report(const run *r)
{
	ml_gate *g = r->g;
	ml_record *record = g->px->record;
	ml_agree_means m = ml_agree_total(&r->agree);
	kept k = {.count = 0};
	ml_text t;

	ml_text_init(&t, g->px->scratch);
	ml_text_init(&k.names, g->px->scratch);
	ml_agree_put(&t, &r->agree);
	report_layers(r, &k);
	if (r->agree.decides)
		ml_record_change(record, "agreement", ML_UNIT_SHARE, NAN, m.agreement);
	ml_record_change(record, "cosine", ML_UNIT_NONE, NAN, m.cosine);
	ml_record_change(record, "SQNR", ML_UNIT_DECIBEL, NAN, m.sqnr);
	ml_record_change(record, "latency", ML_UNIT_SECONDS, r->h.seconds, r->seconds);
	ml_record_note(record, "on %d samples that nothing was learnt from: %s", r->h.count, t.at);
	if (k.count)
		ml_record_note(record, "kept %d of %d layers finer, which costs %s a run: %s",
			       k.count, g->layers,
			       ml_unit_text(g->px->scratch, ML_UNIT_SECONDS, k.cost), k.names.at);
}

/* ---- in all ---- */

static ml_status
repeat_layer(const ml_gate *g, ml_gate_layer *l)
{
	const char *choice;

	ML_STEP(ml_record_choice(g->px->record, g->px->cx, "gate", l->name, &choice));
	for (l->level = 0; l->level < l->levels; l->level++)
		if (!strcmp(choice, g->form[l->level])) {
			ml_record_decide(g->px->record, "gate", l->name, choice, "repeated");
			return ML_OK;
		}
	return ml_error(g->px->cx, ML_ERR_ARG, NULL,
			"replay: the report says '%s' of layer '%s', which cannot be that",
			ml_escaped(g->px->scratch, choice), ml_escaped(g->px->scratch, l->name));
}

/* A student that has lost about all there is to lose may still be quantized, for half as much. */
static ml_status
allow_for_student(run *r)
{
	ML_STEP(ml_holdout_try(&r->h, r->g->m, &r->agree));
	r->most = fmax(r->most, ml_agree_loss(&r->agree) + r->most / 2);
	return ML_OK;
}

/* Chooses levels by what they lose. */
static ml_status
search(run *r)
{
	ml_gate *g = r->g;
	const ml_module *teacher = g->px->teacher ? g->px->teacher : g->m;

	ML_STEP(ml_holdout_init(&r->h, g->px, teacher));
	ml_agree_init(&r->agree, teacher, g->px->scratch);
	if (g->px->prune || g->px->distill)
		ML_STEP(allow_for_student(r));
	ML_STEP(ml_gate_measure(g, &r->h));
	ML_STEP(judge(r));
	return r->loss > r->most ? keep_enough(r) : ML_OK;
}

/* What nobody measures, because any loss will do, a report says what to do, or there are no samples
 * to judge by. */
static ml_status
run_unmeasured(ml_gate *g)
{
	ml_record *record = g->px->record;
	bool blind = !g->px->data;

	for (int i = 0; i < g->layers; i++) {
		ml_gate_layer *l = &g->layer[i];
		if (record->replays)
			ML_STEP(repeat_layer(g, l));
		else
			ml_record_decide(record, "gate", l->name, g->form[l->level],
					 blind ? "there are no samples to judge by"
					       : "all may be lost");
		report_layer(g, l);
	}
	if (blind)
		ml_record_note(record,
			       "statistics are no samples: what %d layers lose was not "
			       "measured, and none is kept finer",
			       g->layers);
	return ML_OK;
}

ml_status
ml_gate_run(ml_gate *g)
{
	run r = {.g = g, .most = g->px->max_loss};
	ml_context *cx = g->px->cx;
	bool remarks = cx->remarks;

	if (g->px->record->replays || r.most >= 1 || !g->px->data)
		return run_unmeasured(g);
	cx->remarks = false; /* of candidates */
	ml_status status = search(&r);
	cx->remarks = remarks;
	if (status == ML_OK)
		report(&r);
	return status;
}
