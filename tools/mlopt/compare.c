/* compare.c -- mlopt compare: how far a candidate's outputs are from a reference's. */
#include "../data/compare.h"
#include "../put_name.h"
#include "../report.h"
#include "compare_layers.h"
#include "random_inputs.h"
#include "verbs.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OUTPUTS = 256 };

typedef struct arguments {
	const char *labels, *output, *trim;
	long batch;
	cl_list inputs;
	const char *report;
	bool per_node, worst_first;
	mo_settings settings;
	cl_settings compile;
} arguments;

static arguments a = {.batch = -1};

static const cl_row rows[] = {
	{CL_LIST, "inputs", "FILE", "Data",
	 "what both run on: .npz, .npy, .pb or a folder of ONNX test data; several files: in the "
	 "order of the inputs, or named after them (default: random numbers, ones for integers)",
	 &a.inputs},
	{CL_TEXT, "labels", "FILE", "Data",
	 "right classes, one per row (.npy): prints both accuracies", &a.labels},
	{CL_TEXT, "output", "NAME", "Data",
	 "compare this output only; the one the labels are for (default: all; the first)",
	 &a.output},
	{CL_INT, "batch", "B", "Data", "samples per run along axis 0; 0 = everything at once",
	 &a.batch},
	{CL_TEXT, "trim", "MASK", "Data",
	 "cut padding that all samples of a batch share, seen in this array", &a.trim},
	{CL_FLAG, "per-node", NULL, "Data",
	 "layer by layer, in one model: SQNR with what the layers before give without compression "
	 "(local), and with what they give (cumulative)",
	 &a.per_node},
	{CL_FLAG, "worst-first", NULL, "Data", "of --per-node: sorted by local SQNR",
	 &a.worst_first},
	{CL_LIST, "dim", "NAME=N", "Data",
	 "size of a symbolic dimension; fixes it when a model is compiled", &a.settings.dims},
	CL_REPORT_ROW(a.report),
	MO_SHARED_ROWS(a.settings),
};

static const cl_command command = {
	.name = "mlopt compare",
	.usage = "REF CAND [--inputs F.npz] [options] | --per-node MODEL [options]",
	.about = "Runs two models on the same data and measures the difference.  REF and CAND are "
		 ".onnx,\n"
		 ".mlt, .so, or an .npz of saved outputs.  The compiler's options apply to CAND; "
		 "REF is\n"
		 "not compressed.  top1_agreement: share of rows (last axis) with the same "
		 "argmax.\n\n"
		 "  mlopt compare model.onnx model.so --inputs eval.npz --labels labels.npy\n"
		 "  mlopt compare --per-node model.onnx --int8 --inputs eval.npz --worst-first\n",
	.row = rows,
	.rows = sizeof rows / sizeof *rows,
	.compile = &a.compile,
	.compile_brief = true,
};

/* REF is compiled with these: the same without compression. */
static cl_settings plain_compile;
static cl_command plain_command;

/* A model, or outputs that were saved. */
typedef struct side {
	bool saved;
	mo_model model;
	md_dataset data;
} side;

typedef struct comparison {
	const char *name[MAX_OUTPUTS];
	md_compare sums[MAX_OUTPUTS];
	int count;
	int64_t samples;
	md_accuracy ref, cand;
} comparison;

static bool
ends_with(const char *text, const char *ending)
{
	size_t n = strlen(text), k = strlen(ending);

	return n > k && !strcmp(text + n - k, ending);
}

static int
side_open(side *s, const cl_command *c, const char *path)
{
	char why[512];

	s->saved = ends_with(path, ".npz");
	if (!s->saved)
		return mo_model_open(&s->model, c, path, &a.settings);
	if (md_dataset_open(&s->data, &path, 1, NULL, 0, why, sizeof why))
		return cl_fail(&command, "%s", why);
	return 0;
}

static void
side_close(side *s)
{
	if (s->saved)
		md_dataset_close(&s->data);
	else if (s->model.command)
		mo_model_close(&s->model);
}

/* Outputs for samples first..first+count-1; count 0: for everything. */
static int
side_outputs(side *s, const md_arrays *in, int64_t first, int64_t count, md_arrays *out)
{
	char why[512];

	if (!s->saved)
		return mo_model_run(&s->model, in, out);
	if (!count)
		count = s->data.samples;
	if (s->data.samples < 0 || first + count > s->data.samples)
		return cl_fail(&command,
			       "the saved outputs are no stacked samples of these inputs");
	return md_dataset_batch(&s->data, first, count, out, why, sizeof why)
		       ? cl_fail(&command, "%s", why)
		       : 0;
}

/* The candidate's array for output i of the reference: by name, else by position (out0, ...). */
static const md_array *
counterpart(const md_arrays *ref, const md_arrays *cand, size_t i)
{
	const md_array *found = md_arrays_find(cand, ref->at[i].name);

	return found || cand->count != ref->count ? found : &cand->at[i];
}

static bool
is_wanted(const md_array *output)
{
	return !a.output || !strcmp(a.output, output->name);
}

static int
add_output(comparison *c, const md_array *ref, const md_array *cand, const md_array *labels)
{
	char why[512];
	int i = 0;

	while (i < c->count && strcmp(c->name[i], ref->name))
		i++;
	if (i == MAX_OUTPUTS)
		return cl_fail(&command, "more than %d outputs; choose with --output", MAX_OUTPUTS);
	if (i == c->count) {
		c->name[i] = strdup(ref->name);
		c->count++;
	}
	if (md_compare_add(&c->sums[i], ref, cand, why, sizeof why))
		return cl_fail(&command, "output '%s': %s", ref->name, why);
	if (labels && i == 0 &&
	    (md_accuracy_add(&c->ref, ref, labels, why, sizeof why) ||
	     md_accuracy_add(&c->cand, cand, labels, why, sizeof why)))
		return cl_fail(&command, "labels: %s", why);
	return 0;
}

static int
add_batch(comparison *c, const md_arrays *ref, const md_arrays *cand, const md_array *labels)
{
	bool any = false;

	for (size_t i = 0; i < ref->count; i++) {
		const md_array *other = counterpart(ref, cand, i);
		if (!is_wanted(&ref->at[i]))
			continue;
		any = true;
		if (!other)
			return cl_fail(&command, "only the reference has output '%s'",
				       ref->at[i].name);
		if (add_output(c, &ref->at[i], other, labels))
			return 1;
	}
	return any ? 0 : cl_fail(&command, "there is no output '%s'", a.output ? a.output : "");
}

/* One batch through both sides. */
static int
compare_batch(comparison *c, side *ref, side *cand, const md_arrays *in, int64_t count,
	      const md_array *labels)
{
	md_arrays r = {0}, k = {0};
	md_array part = {0};
	char why[512];
	int failed = side_outputs(ref, in, c->samples, count, &r) ||
		     side_outputs(cand, in, c->samples, count, &k);

	if (!failed && labels && count &&
	    md_array_slice(&part, labels, c->samples, count, why, sizeof why))
		failed = cl_fail(&command, "labels: %s", why);
	if (!failed)
		failed = add_batch(c, &r, &k, labels && count ? &part : labels);
	md_array_clear(&part);
	md_arrays_clear(&r);
	md_arrays_clear(&k);
	return failed;
}

static int
compare_all(comparison *c, side *ref, side *cand, md_dataset *data, const md_array *labels)
{
	mo_model *m = ref->saved ? &cand->model : &ref->model;
	md_feed feed = mo_model_feed(m, data, a.batch, a.trim);
	bool whole = feed.step == 0 || data->samples < 0;
	md_arrays in = {0};
	char why[512];
	int more, failed = 0;

	while (!failed && (more = md_feed_next(&feed, &in, why, sizeof why))) {
		int64_t count = more < 0 ? 0 : whole ? 0 : feed.next - c->samples;
		failed = more < 0 ? cl_fail(&command, "%s", why)
				  : compare_batch(c, ref, cand, &in, count, labels);
		c->samples = whole ? data->samples : feed.next;
		md_arrays_clear(&in);
	}
	return failed;
}

static int
compare_random(comparison *c, side *ref, side *cand)
{
	md_arrays in = {0};

	if (ref->saved || cand->saved)
		return cl_fail(&command, "saved outputs need the --inputs they were made from");
	int failed = mo_random_inputs(&ref->model, &a.settings.dims, 1, false, &in) ||
		     compare_batch(c, ref, cand, &in, 0, NULL);
	c->samples = 1;
	md_arrays_clear(&in);
	return failed;
}

/* ---- results ---- */

/* JSON has no infinity: 300 dB is what equal f64 numbers would give. */
static double
finite_db(double db)
{
	return db > 300 ? 300 : db < -300 ? -300 : db;
}

static void
put_json(const comparison *c, FILE *f)
{
	fprintf(f, "{\"samples\": %lld, \"outputs\": [", (long long)c->samples);
	for (int i = 0; i < c->count; i++) {
		md_metrics m = md_compare_metrics(&c->sums[i]);
		double values[] = {m.max_abs, m.max_rel, finite_db(m.sqnr_db),
				   m.cosine,  m.kl,      m.top1_agreement};
		static const char *const keys[] = {"max_abs", "max_rel", "sqnr_db",
						   "cosine",  "kl",      "top1_agreement"};
		fprintf(f, "%s{\"name\": \"", i ? ", " : "");
		cl_put_name(f, c->name[i], strlen(c->name[i]), true);
		fprintf(f, "\"");
		for (int k = 0; k < 6; k++)
			if (isfinite(values[k]))
				fprintf(f, ", \"%s\": %.9g", keys[k], values[k]);
			else
				fprintf(f, ", \"%s\": null", keys[k]);
		fprintf(f, ", \"elements\": %lld, \"mismatches\": %lld}", (long long)m.elements,
			(long long)m.mismatches);
	}
	fprintf(f, "]");
	if (c->ref.total)
		fprintf(f, ", \"accuracy\": {\"ref\": %.9g, \"cand\": %.9g}",
			md_accuracy_value(&c->ref), md_accuracy_value(&c->cand));
	fprintf(f, "}\n");
}

static void
put_text(const comparison *c, FILE *f)
{
	fprintf(f, "%-24s %11s %11s %8s %10s %11s %8s\n", "output", "max_abs", "max_rel", "sqnr_db",
		"cosine", "kl", "top1");
	for (int i = 0; i < c->count; i++) {
		md_metrics m = md_compare_metrics(&c->sums[i]);
		cl_put_name(f, c->name[i], strlen(c->name[i]), false);
		fprintf(f, "%*s %11.4g %11.4g %8.2f %10.7f %11.4g %7.2f%%\n",
			strlen(c->name[i]) < 24 ? 24 - (int)strlen(c->name[i]) : 0, "", m.max_abs,
			m.max_rel, m.sqnr_db, m.cosine, m.kl, m.top1_agreement * 100);
	}
	if (c->ref.total)
		fprintf(f, "accuracy: reference %.2f%%, candidate %.2f%%\n",
			md_accuracy_value(&c->ref) * 100, md_accuracy_value(&c->cand) * 100);
}

static int
put_report(const comparison *c)
{
	cl_report r;

	if (cl_report_open(&r, &command, a.report))
		return 1;
	(a.settings.talk.json ? put_json : put_text)(c, r.to);
	return cl_report_close(&r, 0);
}

/* ---- all of it ---- */

/* Does the option change what a model computes, or say how?  An option and those that go with it
 * begin alike. */
static bool
compresses(const char *option)
{
	static const char *const begins[] = {"int8",    "int4",       "bf16",   "kv-cache", "prune",
					     "distill", "checkpoint", "labels", "teacher"};

	for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
		if (!strncmp(option, begins[i], strlen(begins[i])))
			return true;
	return false;
}

static void
drop_compression(void)
{
	plain_command = command;
	plain_command.compile = &plain_compile;
	for (int i = 0; i < a.compile.count; i++)
		if (!compresses(a.compile.name[i])) {
			plain_compile.name[plain_compile.count] = a.compile.name[i];
			plain_compile.value[plain_compile.count++] = a.compile.value[i];
		}
}

static int
load_labels(md_arrays *labels)
{
	char why[512];

	if (!a.labels)
		return 0;
	if (md_load(a.labels, NULL, 0, labels, why, sizeof why))
		return cl_fail(&command, "%s", why);
	return labels->count == 1 ? 0 : cl_fail(&command, "%s: one array, please", a.labels);
}

static int
compare(const char *ref_path, const char *cand_path)
{
	side ref = {0}, cand = {0};
	md_dataset data = {0};
	md_arrays labels = {0};
	comparison c = {0};

	drop_compression();
	int failed = side_open(&ref, &plain_command, ref_path) ||
		     side_open(&cand, &command, cand_path) || load_labels(&labels);
	if (!failed && ref.saved && cand.saved)
		failed = compare_batch(&c, &ref, &cand, NULL, 0, a.labels ? &labels.at[0] : NULL);
	else if (!failed && !a.inputs.count)
		failed = compare_random(&c, &ref, &cand);
	else if (!failed)
		failed = mo_model_load(ref.saved ? &cand.model : &ref.model, &a.inputs, &data) ||
			 compare_all(&c, &ref, &cand, &data, a.labels ? &labels.at[0] : NULL);
	if (!failed)
		failed = put_report(&c);
	for (int i = 0; i < c.count; i++)
		free((char *)c.name[i]);
	md_arrays_clear(&labels);
	md_dataset_close(&data);
	side_close(&ref);
	side_close(&cand);
	return failed;
}

int
mo_compare(int argc, char **argv)
{
	cl_list args = {0};
	int code;

	if (cl_parse(&command, argc, argv, &args, &code))
		return code;
	if (a.per_node) {
		bool one = args.count == 1 || (args.count == 2 && !strcmp(args.at[0], args.at[1]));
		mo_layers layers = {&command, &a.settings, &a.inputs,    a.batch,
				    a.trim,   a.report,    a.worst_first};
		if (one)
			return mo_compare_layers(args.at[0], &layers);
		cl_fail(&command, "--per-node compares one model with what the options make of it");
		return 2;
	}
	if (args.count != 2) {
		cl_fail(&command,
			"a reference and a candidate are needed; see mlopt compare --help");
		return 2;
	}
	return compare(args.at[0], args.at[1]);
}
