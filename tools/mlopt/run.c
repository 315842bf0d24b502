/* run.c -- mlopt run: a model over a data file, outputs into another. */
#include "../data/sink.h"
#include "../put_name.h"
#include "states.h"
#include "verbs.h"
#include <inttypes.h>
#include <string.h>

typedef struct arguments {
	const char *outputs, *trim;
	long batch;
	cl_list inputs, states;
	mo_settings settings;
	cl_settings compile;
} arguments;

static arguments a = {.batch = -1};

static const cl_row rows[] = {
	{CL_LIST, "inputs", "FILE", "Data",
	 ".npz, .npy, .pb or a folder of ONNX test data; keys are the model's input names, or in0, "
	 "in1, ...; several files: in the order of the inputs, or named after them",
	 &a.inputs},
	{CL_TEXT, "outputs", "FILE", "Data", ".npz, or .npy for a single output", &a.outputs},
	{CL_TEXT, "o", "FILE", "Data", "the same as --outputs", &a.outputs},
	{CL_INT, "batch", "B", "Data",
	 "samples per run along axis 0; 0 = everything at once (default: 1 if the model's inputs "
	 "and outputs share their first dimension, else 0)",
	 &a.batch},
	{CL_TEXT, "trim", "MASK", "Data",
	 "cut padding that all samples of a batch share, seen in this array", &a.trim},
	MO_STATE_ROW(a.states),
	MO_SHARED_ROWS(a.settings),
};

static const cl_command command = {
	.name = "mlopt run",
	.usage = "MODEL.so|MODEL.onnx --inputs I.npz --outputs O.npz [options]",
	.about = "Runs a model on data and writes its outputs; the exit code is 0 only if all were "
		 "written.\n\n"
		 "  mlopt run model.so --inputs eval.npz --outputs out.npz --batch 8\n",
	.row = rows,
	.rows = sizeof rows / sizeof *rows,
	.compile = &a.compile,
	.compile_brief = true,
};

/* One batch after the other; outputs are joined in `sink`. */
static int
feed_all(mo_model *m, md_feed *feed, md_sink *sink)
{
	md_arrays in = {0}, out = {0};
	char why[512];
	int more, failed = 0;

	while (!failed && (more = md_feed_next(feed, &in, why, sizeof why))) {
		failed = more < 0 ? cl_fail(&command, "%s", why) : mo_model_run(m, &in, &out);
		if (!failed && md_sink_add(sink, &out, why, sizeof why))
			failed = cl_fail(&command, "%s", why);
		md_arrays_clear(&in);
		md_arrays_clear(&out);
	}
	return failed;
}

/* What was written. */
static void
put_json(const mo_model *m, const md_arrays *outputs)
{
	printf("{\"file\": \"");
	cl_put_name(stdout, a.outputs, strlen(a.outputs), true);
	printf("\", \"compile_ms\": %.3f, \"load_ms\": %.3f, \"isa\": \"%s\", \"threads\": %d, "
	       "\"outputs\": [",
	       m->compile_ms, m->load_ms, ml_session_level(m->session),
	       ml_session_threads(m->session));
	for (size_t i = 0; i < outputs->count; i++) {
		const md_array *o = &outputs->at[i];
		printf("%s{\"name\": \"", i ? ", " : "");
		cl_put_name(stdout, o->name, strlen(o->name), true);
		printf("\", \"dtype\": \"%s\", \"shape\": [", md_dtype_name(o->dtype));
		for (int k = 0; k < o->rank; k++)
			printf("%s%" PRId64, k ? ", " : "", o->dim[k]);
		printf("]}");
	}
	printf("]}\n");
}

static int
write_outputs(const mo_model *m, md_sink *sink)
{
	md_arrays joined = {0};
	char why[512], note[2000];
	int failed = 0;

	if (md_sink_finish(sink, &joined, note, sizeof note, why, sizeof why) ||
	    md_store(a.outputs, &joined, why, sizeof why))
		failed = cl_fail(&command, "%s", why);
	else if (!a.settings.talk.quiet)
		cl_put_text(stderr, note);
	if (!failed && a.settings.talk.json)
		put_json(m, &joined);
	md_arrays_clear(&joined);
	return failed;
}

int
mo_run(int argc, char **argv)
{
	cl_list args = {0};
	md_dataset data = {0};
	md_sink sink = {0};
	mo_model m;
	int code;

	if (cl_parse(&command, argc, argv, &args, &code))
		return code;
	if (args.count != 1 || !a.inputs.count || !a.outputs) {
		cl_fail(&command,
			"a model, --inputs and --outputs are needed; see mlopt run --help");
		return 2;
	}
	int failed = mo_model_open(&m, &command, args.at[0], &a.settings) ||
		     mo_states_bind(&m, &a.states);
	if (!failed)
		failed = mo_model_load(&m, &a.inputs, &data);
	if (!failed) {
		md_feed feed = mo_model_feed(&m, &data, a.batch, a.trim);
		failed = feed_all(&m, &feed, &sink);
	}
	if (!failed)
		failed = write_outputs(&m, &sink);
	md_sink_clear(&sink);
	md_dataset_close(&data);
	mo_model_close(&m);
	return failed;
}
