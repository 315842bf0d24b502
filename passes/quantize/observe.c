/* observe.c -- ranges of values over calibration data.
 *
 * A copy of the module, whose results are the least and the largest elements of the values, is
 * compiled and run: two numbers for each value come out of a run, so memory does not grow with the
 * data.
 */
#include "observe.h"
#include "../samples.h"
#include "observer.h"
#include <math.h>
#include <string.h>

typedef struct observation {
	ml_pass_ctx *px;
	ml_module *m;
	ml_runnable *runnable;
	ml_tensor *out;
	ml_range *range;
	int n;
	int64_t seen; /* samples */
	bool average; /* of the samples' extremes, a moving one */
} observation;

static const double AVERAGED = .01; /* what a sample counts in a moving average */

static ml_value *
extreme(ml_builder *b, ml_op op, ml_value *v)
{
	int64_t axes[ML_MAX_RANK];

	for (int i = 0; i < v->type.rank; i++)
		axes[i] = i;
	v = v->type.rank ? ml_build_reduce(b, op, v, axes, v->type.rank) : v;
	return v ? ml_build_reshape(b, v, NULL, 0) : NULL;
}

/* The copy's results become the extremes of the values. */
static ml_status
watch(observation *o, ml_module *copy, ml_value *const *value)
{
	ml_value **same = ML_NEW_ARRAY(o->px->scratch, ml_value *, o->n + 1);
	ml_value **result = ML_NEW_ARRAY(o->px->scratch, ml_value *, 2 * o->n);

	ml_values_in(copy, value, o->n, same, o->px->scratch);
	ml_builder b = ml_builder_before(copy->main->last);
	for (int i = 0; i < o->n; i++) {
		result[2 * i] = extreme(&b, ML_OP_reduce_min, same[i]);
		result[2 * i + 1] = extreme(&b, ML_OP_reduce_max, same[i]);
	}
	ML_STEP(b.failed);
	return ml_module_set_outputs(copy, result, 2 * o->n);
}

static ml_status
compile(observation *o, ml_value *const *value)
{
	const ml_exec *exec = o->px->exec;
	ml_module *copy = ml_module_clone(o->m);
	ml_status status = watch(o, copy, value);

	if (status == ML_OK)
		status = exec->compile(exec->user, copy, &o->runnable);
	ml_module_free(copy);
	return status;
}

static ml_status
run_sample(void *user, const ml_tensor *in)
{
	observation *o = user;
	const ml_exec *exec = o->px->exec;
	ml_arena arena;

	ml_arena_init(&arena, &o->px->cx->memory);
	ml_status status = exec->run(exec->user, o->runnable, in, o->out, &arena);
	for (int i = 0; i < o->n && status == ML_OK; i++) {
		double low = ml_read_f64(ML_f32, o->out[2 * i].data, 0);
		double high = ml_read_f64(ML_f32, o->out[2 * i + 1].data, 0);
		double part = o->average && o->seen ? AVERAGED : 1;
		bool wider = low < o->range[i].low || !o->seen || o->average;
		if (wider)
			o->range[i].low += part * (fmin(low, 0) - o->range[i].low);
		wider = high > o->range[i].high || !o->seen || o->average;
		if (wider)
			o->range[i].high += part * (fmax(high, 0) - o->range[i].high);
	}
	o->seen++;
	ml_arena_free(&arena);
	return status;
}

/* ---- ranges from histograms ---- */

typedef struct binning {
	ml_histogram *histogram;
} binning;

static void
see(void *user, int which, const ml_tensor *t)
{
	binning *b = user;

	ml_histogram_add(&b->histogram[which], t->data, (int64_t)(t->bytes / sizeof(float)));
}

/* A second run over the data, now that it is known what lies how far out. */
static ml_status
narrow(observation *o, ml_value *const *value, ml_range (*choose)(const ml_histogram *))
{
	binning b = {ML_NEW_ARRAY(o->px->scratch, ml_histogram, o->n + 1)};

	for (int i = 0; i < o->n; i++) {
		b.histogram[i].low = o->range[i].low;
		b.histogram[i].high = o->range[i].high;
	}
	ML_STEP(ml_watch(o->px, o->m, value, o->n, ML_LEARN, 0, see, &b));
	for (int i = 0; i < o->n; i++)
		if (isfinite(o->range[i].high - o->range[i].low) &&
		    o->range[i].high > o->range[i].low)
			o->range[i] = choose(&b.histogram[i]);
	return ML_OK;
}

static const struct {
	const char *name;
	ml_range (*choose)(const ml_histogram *); /* NULL: from the extremes alone */
} observers[] = {
	{"minmax", NULL},
	{"average", NULL},
	{"percentile", ml_range_percentile},
	{"entropy", ml_range_entropy},
	{"mse", ml_range_mse},
};
enum { OBSERVERS = sizeof observers / sizeof *observers };

bool
ml_is_observer(const char *name)
{
	for (int i = 0; i < OBSERVERS; i++)
		if (!strcmp(observers[i].name, name))
			return true;
	return false;
}

ml_status
ml_observe(ml_pass_ctx *px, ml_module *m, ml_value *const *value, int n, ml_range *range)
{
	const char *name = px->observer ? px->observer : observers[0].name;
	observation o = {.px = px, .m = m, .range = range, .n = n};

	if (!px->exec || !px->data)
		return ml_error(px->cx, ML_ERR_ARG, NULL,
				"static quantization needs calibration data");
	o.average = !strcmp(name, "average");
	o.out = ML_NEW_ARRAY(px->scratch, ml_tensor, 2 * n + 1);
	for (int i = 0; i < n; i++)
		range[i] = (ml_range){0, 0}; /* 0 is always an element */
	ML_STEP(compile(&o, value));
	ml_status status = ml_for_samples(px, m, ML_LEARN, 0, run_sample, &o);
	px->exec->free(px->exec->user, o.runnable);
	for (int i = 0; i < OBSERVERS && status == ML_OK; i++)
		if (observers[i].choose && !strcmp(observers[i].name, name))
			status = narrow(&o, value, observers[i].choose);
	return status;
}
