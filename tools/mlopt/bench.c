/* bench.c -- mlopt bench: how long compiling, loading and running take, and how much memory. */
#include "../report.h"
#include "profile.h"
#include "random_inputs.h"
#include "states.h"
#include "verbs.h"
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { MAX_RUNS = 1000000, MIN_RUNS = 5 };

typedef struct arguments {
	const char *report, *trace;
	double seconds;
	long batch, seed;
	bool profile;
	cl_list inputs, states;
	mo_settings settings;
	cl_settings compile;
} arguments;

static arguments a = {.seconds = 2, .batch = -1, .seed = 1};

static const cl_row rows[] = {
	{CL_LIST, "inputs", "FILE", "Data",
	 "run on the first batch of this file; several: in the order of the inputs, or named after "
	 "them (default: random numbers, ones for integers)",
	 &a.inputs},
	{CL_INT, "batch", "B", "Data", "samples of --inputs per run", &a.batch},
	{CL_LIST, "dim", "NAME=N", "Data",
	 "size of a symbolic dimension; fixes it when a model is compiled (default: 1; "
	 "for sequences 128, or what the model takes)",
	 &a.settings.dims},
	{CL_INT, "seed", "N", "Data", "of the random numbers (default: 1)", &a.seed},
	{CL_REAL, "seconds", "S", "Running", "how long to measure (default: 2)", &a.seconds},
	{CL_FLAG, "profile", NULL, "Running",
	 "then measure as long again, step by step: time, nodes, GMAC/s, % of limit, bytes",
	 &a.profile},
	{CL_TEXT, "trace", "FILE.json", "Running",
	 "write one run of the profile as a Chrome trace (for Perfetto)", &a.trace},
	MO_STATE_ROW(a.states),
	CL_REPORT_ROW(a.report),
	MO_SHARED_ROWS(a.settings),
};

static const cl_command command = {
	.name = "mlopt bench",
	.usage = "MODEL.so|MODEL.onnx [options]",
	.about =
		"Measures a model.  An artefact runs without the compiler in the process, so that\n"
		"load_ms and peak_rss_mb are those of an application.\n\n"
		"  mlopt bench model.so --dim batch=1 --dim sequence=128 --threads 1\n"
		"  mlopt bench model.onnx --int8 --inputs eval.npz --json\n",
	.row = rows,
	.rows = sizeof rows / sizeof *rows,
	.compile = &a.compile,
	.compile_brief = true,
};

typedef struct timing {
	double first_ms, *ms, rss; /* MB at the most, before a profile measures the machine */
	int runs;
} timing;

static int
by_value(const void *x, const void *y)
{
	double d = *(const double *)x - *(const double *)y;

	return (d > 0) - (d < 0);
}

static int
run_once(mo_model *m, const md_arrays *in, double *ms)
{
	if (mo_states_restore(m, in))
		return 1;
	double begun = cl_seconds();

	if (ml_session_run(m->session) != ML_OK)
		return cl_fail(&command, "%s", ml_session_message(m->session));
	*ms = (cl_seconds() - begun) * 1e3;
	return 0;
}

/* One run apart, then a tenth of the time to warm up, then measuring. */
static int
measure(mo_model *m, const md_arrays *in, timing *t)
{
	struct rusage usage;
	double ms;

	if (run_once(m, in, &t->first_ms))
		return 1;
	for (double begun = cl_seconds(); cl_seconds() - begun < a.seconds / 10;)
		if (run_once(m, in, &ms))
			return 1;
	t->ms = malloc(MAX_RUNS * sizeof *t->ms);
	if (!t->ms)
		return cl_fail(&command, "out of memory");
	double begun = cl_seconds();
	while (t->runs < MIN_RUNS || (t->runs < MAX_RUNS && cl_seconds() - begun < a.seconds))
		if (run_once(m, in, &t->ms[t->runs++]))
			return 1;
	qsort(t->ms, (size_t)t->runs, sizeof *t->ms, by_value);
	getrusage(RUSAGE_SELF, &usage);
	t->rss = (double)usage.ru_maxrss / 1024;
	return 0;
}

static void
put_report(FILE *f, const mo_model *m, const timing *t, const mo_profile *p)
{
	double median = t->ms[t->runs / 2], p90 = t->ms[(t->runs - 1) * 9 / 10];
	const char *isa = ml_session_level(m->session);
	int threads = ml_session_threads(m->session);
	if (a.settings.talk.json) {
		fprintf(f,
			"{\"compile_ms\": %.3f, \"load_ms\": %.3f, \"first_ms\": %.4f, "
			"\"median_ms\": %.4f, \"min_ms\": %.4f, \"p90_ms\": %.4f, \"runs\": %d, "
			"\"peak_rss_mb\": %.1f, \"isa\": \"%s\", \"threads\": %d",
			m->compile_ms, m->load_ms, t->first_ms, median, t->ms[0], p90, t->runs,
			t->rss, isa, threads);
		if (a.profile) {
			fprintf(f, ", ");
			mo_profile_json(p, f);
		}
		fprintf(f, "}\n");
		return;
	}
	if (m->compiled)
		fprintf(f, "compile    %10.1f ms\n", m->compile_ms);
	fprintf(f,
		"load       %10.3f ms\nfirst run  %10.3f ms\nmedian     %10.3f ms\n"
		"min        %10.3f ms\np90        %10.3f ms\nruns       %10d\n"
		"peak RSS   %10.1f MB\nISA        %10s\nthreads    %10d\n",
		m->load_ms, t->first_ms, median, t->ms[0], p90, t->runs, t->rss, isa, threads);
	if (p90 > 1.5 * median)
		fprintf(f, "note: times vary much; is the machine busy?\n");
	if (a.profile)
		mo_profile_table(p, f);
}

static int
report(const mo_model *m, const timing *t, const mo_profile *p)
{
	cl_report r;

	if (cl_report_open(&r, &command, a.report))
		return 1;
	put_report(r.to, m, t, p);
	return cl_report_close(&r, 0);
}

static int
profile(mo_model *m, const md_arrays *in, mo_profile *p)
{
	if (!a.profile && !a.trace)
		return 0;
	if (mo_profile_measure(p, m, in, a.seconds))
		return 1;
	return a.trace ? mo_profile_trace(p, &command, a.trace) : 0;
}

/* The first batch of the file, or made-up arrays. */
static int
get_inputs(const mo_model *m, md_dataset *data, md_arrays *in)
{
	char why[512];

	if (!a.inputs.count)
		return mo_random_inputs(m, &a.settings.dims, (unsigned long)a.seed,
					!a.settings.talk.quiet && !a.settings.talk.json, in);
	if (mo_model_load(m, &a.inputs, data))
		return 1;
	md_feed feed = mo_model_feed(m, data, a.batch, NULL);
	int more = md_feed_next(&feed, in, why, sizeof why);
	if (more < 0)
		return cl_fail(&command, "%s", why);
	return more ? 0 : cl_fail(&command, "%s holds no samples", a.inputs.at[0]);
}

int
mo_bench(int argc, char **argv)
{
	cl_list args = {0};
	md_dataset data = {0};
	md_arrays in = {0};
	timing t = {0};
	mo_profile p = {0};
	mo_model m;
	int code;

	if (cl_parse(&command, argc, argv, &args, &code))
		return code;
	if (args.count != 1) {
		cl_fail(&command, "one model is needed; see mlopt bench --help");
		return 2;
	}
	int failed = mo_model_open(&m, &command, args.at[0], &a.settings) ||
		     mo_states_bind(&m, &a.states) || get_inputs(&m, &data, &in) ||
		     mo_model_set(&m, &in) || measure(&m, &in, &t) || profile(&m, &in, &p);
	if (!failed)
		failed = report(&m, &t, &p);
	mo_profile_free(&p);
	free(t.ms);
	md_arrays_clear(&in);
	md_dataset_close(&data);
	mo_model_close(&m);
	return failed;
}
