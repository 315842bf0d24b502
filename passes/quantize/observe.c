/* observe.c -- ranges of values over calibration data.
 *
 * A copy of the module, whose results are the least and the largest elements of the values, is
 * compiled and run: two numbers for each value come out of a run, so memory does not grow with the
 * data.
 */
#include "observe.h"
#include "../known.h"
#include "../samples.h"
#include "observer.h"
#include <math.h>
#include <string.h>

/* Of one value. */
typedef struct extent {
	ml_range all, moving, first; /* first: the first sample's */
	int64_t seen;                /* samples */
} extent;

typedef struct observation {
	ml_pass_ctx *px;
	ml_module *m;
	ml_runnable *runnable;
	ml_tensor *out;
	extent *extent;
	int n;
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

static void
add_extremes(extent *e, double low, double high)
{
	double part = e->seen ? AVERAGED : 1;

	low = fmin(low, 0);
	high = fmax(high, 0);
	if (!e->seen)
		e->first = (ml_range){low, high};
	e->all.low = e->seen ? fmin(e->all.low, low) : low;
	e->all.high = e->seen ? fmax(e->all.high, high) : high;
	e->moving.low += part * (low - e->moving.low);
	e->moving.high += part * (high - e->moving.high);
	e->seen++;
}

static ml_status
run_sample(void *user, const ml_tensor *in)
{
	observation *o = user;
	const ml_exec *exec = o->px->exec;
	ml_arena arena;

	ml_arena_init(&arena, &o->px->cx->memory);
	ml_status status = exec->run(exec->user, o->runnable, in, o->out, &arena);
	for (int i = 0; i < o->n && status == ML_OK; i++)
		add_extremes(&o->extent[i], ml_read_f64(ML_f32, o->out[2 * i].data, 0),
			     ml_read_f64(ML_f32, o->out[2 * i + 1].data, 0));
	ml_arena_free(&arena);
	return status;
}

static ml_status
run_samples(observation *o, ml_value *const *value)
{
	ML_STEP(compile(o, value));
	ml_status status = ml_for_samples(o->px, o->m, ML_LEARN, 0, run_sample, o);
	o->px->exec->free(o->px->exec->user, o->runnable);
	return status;
}

/* ---- what is known from files ---- */

static const char RANGE[] = "range";
/* Numbers of one value: its extremes, the moving average, where that began, over how many samples,
 * and how often it fell into each part of the extremes. */
enum { ALL = 0, MOVING = 2, FIRST = 4, SEEN = 6, COUNTS = 7, NUMBERS = COUNTS + ML_BINS };

static bool
is_range(const double *number)
{
	return number[0] <= 0 && number[1] >= 0;
}

/* As if the samples behind it had been seen now.  A moving average forgets by what it has seen:
 * that of the later samples began with their first one, which then is one of many. */
static bool
add_known(extent *e, const ml_figures *f)
{
	const double *n = f->number;
	double seen = n[SEEN], left = e->seen ? pow(1 - AVERAGED, seen) : 0;

	if (!(seen >= 1 && seen < 0x1p53) || !is_range(n + ALL) || !is_range(n + MOVING) ||
	    !is_range(n + FIRST))
		return false;
	for (int i = 0; i < ML_BINS; i++)
		if (!(n[COUNTS + i] >= 0 && n[COUNTS + i] < 0x1p53))
			return false;
	if (!e->seen)
		e->first = (ml_range){n[FIRST], n[FIRST + 1]};
	e->all.low = fmin(e->all.low, n[ALL]);
	e->all.high = fmax(e->all.high, n[ALL + 1]);
	e->moving.low = n[MOVING] + left * (e->moving.low - n[FIRST]);
	e->moving.high = n[MOVING + 1] + left * (e->moving.high - n[FIRST + 1]);
	e->seen += (int64_t)seen;
	return true;
}

static ml_status
add_all_known(observation *o, ml_value *v, extent *e)
{
	for (const ml_figures *f = NULL; (f = ml_next_known(o->px, RANGE, v, NUMBERS, f));)
		if (!add_known(e, f))
			return ml_error(o->px->cx, ML_ERR_VALUE, v->def ? v->def->prov : NULL,
					"calibration: the range that is known of it is impossible");
	if (e->seen)
		return ML_OK;
	ml_error(o->px->cx, ML_ERR_ARG, v->def ? v->def->prov : NULL,
		 "calibration: the statistics have no range of it");
	ml_hint(o->px->cx, "they were kept with other options: --int8=static, -O and the like");
	return ML_ERR_ARG;
}

static void
keep(const observation *o, const ml_value *v, const extent *e, const ml_histogram *h)
{
	ml_figures f = {.numbers = NUMBERS,
			.number = ML_NEW_ARRAY(o->px->scratch, double, NUMBERS)};
	double n[COUNTS] = {e->all.low,   e->all.high,   e->moving.low,  e->moving.high,
			    e->first.low, e->first.high, (double)e->seen};

	memcpy(f.number, n, sizeof n);
	memcpy(f.number + COUNTS, h->count, sizeof h->count);
	ml_note_figures(o->px, RANGE, v, &f);
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
count_values(observation *o, ml_value *const *value, ml_histogram *h)
{
	binning b = {h};

	for (int i = 0; i < o->n; i++) {
		h[i].low = o->extent[i].all.low;
		h[i].high = o->extent[i].all.high;
	}
	if (o->px->data)
		ML_STEP(ml_watch(o->px, o->m, value, o->n, ML_LEARN, 0, see, &b));
	for (int i = 0; i < o->n; i++) {
		for (const ml_figures *f = NULL;
		     (f = ml_next_known(o->px, RANGE, value[i], NUMBERS, f));)
			ml_histogram_merge(&h[i], f->number[ALL], f->number[ALL + 1],
					   f->number + COUNTS);
		keep(o, value[i], &o->extent[i], &h[i]);
	}
	return ML_OK;
}

static const struct {
	const char *name;
	bool moving;                              /* an average of the samples' extremes */
	ml_range (*choose)(const ml_histogram *); /* NULL: from the extremes alone */
} observers[] = {
	{"minmax", false, NULL},
	{"average", true, NULL},
	{"percentile", false, ml_range_percentile},
	{"entropy", false, ml_range_entropy},
	{"mse", false, ml_range_mse},
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

/* Those that look at more than extremes read the data twice; so does who keeps it for them. */
static ml_status
choose_ranges(observation *o, ml_value *const *value, ml_range (*choose)(const ml_histogram *),
	      ml_range *range)
{
	ml_histogram *h;

	if (!choose && !ml_keeps_figures(o->px))
		return ML_OK;
	h = ML_NEW_ARRAY(o->px->scratch, ml_histogram, o->n + 1);
	ML_STEP(count_values(o, value, h));
	for (int i = 0; choose && i < o->n; i++)
		if (isfinite(h[i].high - h[i].low) && h[i].high > h[i].low)
			range[i] = choose(&h[i]);
	return ML_OK;
}

ml_status
ml_observe(ml_pass_ctx *px, ml_module *m, ml_value *const *value, int n, ml_range *range)
{
	const char *name = px->observer ? px->observer : observers[0].name;
	observation o = {.px = px, .m = m, .n = n};
	int which = 0;

	if (!px->exec || !ml_is_calibrated(px))
		return ml_error(px->cx, ML_ERR_ARG, NULL,
				"static quantization needs calibration data");
	while (which < OBSERVERS - 1 && strcmp(observers[which].name, name))
		which++;
	o.out = ML_NEW_ARRAY(px->scratch, ml_tensor, 2 * n + 1);
	o.extent = ML_NEW_ARRAY(px->scratch, extent, n + 1);
	if (px->data)
		ML_STEP(run_samples(&o, value));
	for (int i = 0; i < n; i++) {
		ML_STEP(add_all_known(&o, value[i], &o.extent[i]));
		range[i] = observers[which].moving ? o.extent[i].moving : o.extent[i].all;
	}
	return choose_ranges(&o, value, observers[which].choose, range);
}
