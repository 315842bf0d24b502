/* compare_layers.c -- mlopt compare --per-node: where in a model its error comes from. */
#include "compare_layers.h"
#include "../put_name.h"
#include "../report.h"
#include "model.h"
#include "random_inputs.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a model for the errors of layers gives for each: ml_compile_layer_errors(). */
enum { SIGNAL, LOCAL, CUMULATIVE, SUMS };

typedef struct layer {
	const char *name; /* the model's */
	double sum[SUMS];
} layer;

typedef struct layers {
	layer *at;
	int count;
	int64_t samples;
} layers;

/* 10 log10(signal / noise), bounded: JSON has no infinity, and 300 dB is more than f64 has. */
static double
sqnr(const layer *l, int noise)
{
	double db = 10 * log10(l->sum[SIGNAL] / l->sum[noise]);

	return isnan(db) || db > 300 ? 300 : db < -300 ? -300 : db;
}

static int
worst_first(const void *a, const void *b)
{
	double x = sqnr(a, LOCAL), y = sqnr(b, LOCAL);

	return (x > y) - (x < y);
}

/* ---- running ---- */

static int
add_run(mo_model *m, const md_arrays *in, layers *l)
{
	md_arrays out = {0};

	if (mo_model_run(m, in, &out))
		return 1;
	for (int i = 0; i < l->count; i++)
		for (int k = 0; k < SUMS; k++)
			l->at[i].sum[k] += ((const double *)out.at[i].data)[k];
	md_arrays_clear(&out);
	return 0;
}

static int
add_data(mo_model *m, const mo_layers *o, layers *l)
{
	md_dataset data = {0};
	md_arrays in = {0};
	char why[512];
	int more = 0, failed = mo_model_load(m, o->inputs, &data);

	if (!failed) {
		md_feed feed = mo_model_feed(m, &data, o->batch, o->trim);
		while (!failed && (more = md_feed_next(&feed, &in, why, sizeof why)) > 0) {
			failed = add_run(m, &in, l);
			md_arrays_clear(&in);
		}
		l->samples = data.samples < 0 ? 1 : data.samples;
		if (more < 0)
			failed = cl_fail(o->command, "%s", why);
	}
	md_dataset_close(&data);
	return failed;
}

static int
add_random(mo_model *m, const mo_layers *o, layers *l)
{
	md_arrays in = {0};
	int failed = mo_random_inputs(m, &o->settings->dims, 1, false, &in) || add_run(m, &in, l);

	l->samples = 1;
	md_arrays_clear(&in);
	return failed;
}

/* ---- results ---- */

static void
put_json(const layers *l, FILE *f)
{
	fprintf(f, "{\"samples\": %lld, \"layers\": [", (long long)l->samples);
	for (int i = 0; i < l->count; i++) {
		const layer *at = &l->at[i];
		fprintf(f, "%s{\"name\": \"", i ? ", " : "");
		cl_put_name(f, at->name, strlen(at->name), true);
		fprintf(f, "\", \"local_sqnr_db\": %.9g, \"cumulative_sqnr_db\": %.9g}",
			sqnr(at, LOCAL), sqnr(at, CUMULATIVE));
	}
	fprintf(f, "]}\n");
}

static void
put_db(FILE *f, double db)
{
	if (db >= 300)
		fprintf(f, " %10s", "exact");
	else
		fprintf(f, " %10.2f", db);
}

enum { LEAST = 24, MOST = 96 /* columns of names, which longer ones push aside */ };

static void
put_text(const layers *l, FILE *f)
{
	int wide = LEAST;

	for (int i = 0; i < l->count; i++) {
		int n = (int)strlen(l->at[i].name);
		wide = n > wide && n <= MOST ? n : wide;
	}
	fprintf(f, "%-*s %10s %10s\n", wide, "layer (SQNR in dB)", "local", "cumulative");
	for (int i = 0; i < l->count; i++) {
		const layer *at = &l->at[i];
		int n = (int)strlen(at->name);
		cl_put_name(f, at->name, strlen(at->name), false);
		fprintf(f, "%*s", n < wide ? wide - n : 0, "");
		put_db(f, sqnr(at, LOCAL));
		put_db(f, sqnr(at, CUMULATIVE));
		fputc('\n', f);
	}
}

static int
put_report(const mo_layers *o, layers *l)
{
	cl_report r;

	if (o->worst_first)
		qsort(l->at, (size_t)l->count, sizeof *l->at, worst_first);
	if (cl_report_open(&r, o->command, o->report))
		return 1;
	(o->settings->talk.json ? put_json : put_text)(l, r.to);
	return cl_report_close(&r, 0);
}

int
mo_compare_layers(const char *path, const mo_layers *o)
{
	mo_settings settings = *o->settings;
	mo_model m = {0};
	layers l = {0};

	settings.layer_errors = true;
	int failed = mo_is_artefact(path)
			     ? cl_fail(o->command, "--per-node needs a model, not an artefact")
			     : mo_model_open(&m, o->command, path, &settings);
	if (!failed) {
		l.count = m.info->noutputs;
		l.at = calloc((size_t)l.count + 1, sizeof *l.at);
		failed = l.at ? 0 : cl_fail(o->command, "out of memory");
	}
	for (int i = 0; !failed && i < l.count; i++)
		l.at[i].name = m.info->output[i].name;
	if (!failed)
		failed = o->inputs->count ? add_data(&m, o, &l) : add_random(&m, o, &l);
	if (!failed)
		failed = put_report(o, &l);
	free(l.at);
	if (m.command)
		mo_model_close(&m);
	return failed;
}
