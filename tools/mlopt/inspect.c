/* inspect.c -- mlopt inspect: what a model or an artefact is. */
#include "model.h"
#include "../put_name.h"
#include "../report.h"
#include "verbs.h"
#include <inttypes.h>
#include <string.h>

typedef struct arguments {
	const char *output;
	bool blocks;
	cl_talk talk;
	cl_settings compile;
} arguments;

static arguments a;

static const cl_row rows[] = {
	{CL_FLAG, "blocks", NULL, "Data",
	 "what --prune can take out: branches, layers, heads, neurons, channels", &a.blocks},
	CL_REPORT_ROW(a.output),
	CL_TALK_ROWS(a.talk),
};

static const cl_command command = {
	.name = "mlopt inspect",
	.usage = "MODEL.onnx|MODEL.mlt|MODEL.so [--blocks] [--json]",
	.about = "Shows a model's inputs, outputs, symbolic dimensions, parameters and operators; "
		 "of an\n"
		 "artefact its C entry point and ISA levels.\n",
	.row = rows,
	.rows = sizeof rows / sizeof *rows,
	.compile = &a.compile,
	.compile_brief = true,
};

static cl_report report;

static void
write_out(void *user, const char *text, size_t length)
{
	(void)user;
	fwrite(text, 1, length, report.to);
}

/* ---- artefacts ---- */

static const char *
dtype_name(ml_dtype dtype)
{
	switch (dtype) {
#define ML_DTYPE(number, name, bits, kind, onnx, ctype)                                            \
	case ML_##name: return #name;
#include "mlopt/types.def"
	}
	return "?";
}

static void
put_name(const char *name)
{
	cl_put_name(report.to, name, strlen(name), a.talk.json);
}

static void
put_tensors(const char *kind, const ml_tensor_info *t, int n)
{
	if (a.talk.json)
		fprintf(report.to, "  \"%ss\": [", kind);
	for (int i = 0; i < n; i++) {
		fprintf(report.to, a.talk.json ? "%s{\"name\": \"" : "%s%-9s ",
			a.talk.json && i ? ", " : "", kind);
		put_name(t[i].name);
		fprintf(report.to, a.talk.json ? "\", \"dtype\": \"%s\", \"shape\": [" : "  %s[",
			dtype_name(t[i].dtype));
		for (int k = 0; k < t[i].rank; k++) {
			bool quote = a.talk.json &&
				     strspn(t[i].dim[k], "0123456789") != strlen(t[i].dim[k]);
			fprintf(report.to, "%s%s", k ? ", " : "", quote ? "\"" : "");
			put_name(t[i].dim[k]);
			fprintf(report.to, "%s", quote ? "\"" : "");
		}
		fprintf(report.to, a.talk.json ? "]}" : "]\n");
	}
	if (a.talk.json)
		fprintf(report.to, "],\n");
}

/* What appends to what, in place where a session keeps it. */
static void
put_states(const ml_model_info *info)
{
	if (a.talk.json)
		fprintf(report.to, "  \"states\": [");
	for (int i = 0; i < info->nstates; i++) {
		const ml_state_info *s = &info->state[i];
		fprintf(report.to, a.talk.json ? "%s{\"input\": \"" : "%sstate     ",
			a.talk.json && i ? ", " : "");
		put_name(info->input[s->input].name);
		fprintf(report.to, a.talk.json ? "\", \"output\": \"" : " -> ");
		put_name(info->output[s->output].name);
		fprintf(report.to, a.talk.json ? "\", \"axis\": %d}" : "  axis %d\n", s->axis);
	}
	if (a.talk.json)
		fprintf(report.to, "],\n");
}

static void
put_levels(const ml_model_info *info)
{
	for (int i = 0; i < info->nlevels; i++)
		fprintf(report.to, a.talk.json ? "%s\"%s\"" : "%s%s",
			i ? a.talk.json ? ", " : " " : "", info->level[i]);
}

static int
inspect_artefact(const char *path)
{
	ml_model *model;
	ml_message why;

	if (ml_model_load(path, NULL, &model, &why) != ML_OK)
		return cl_fail(&command, "%s", why.text);
	const ml_model_info *info = ml_model_describe(model);
	fprintf(report.to, a.talk.json ? "{\n  \"model\": \"" : "model     ");
	put_name(info->name);
	fprintf(report.to, a.talk.json ? "\",\n" : "\n");
	put_tensors("input", info->input, info->ninputs);
	put_tensors("output", info->output, info->noutputs);
	put_states(info);
	fprintf(report.to,
		a.talk.json ? "  \"entry\": \"%s\",\n  \"weights_bytes\": %" PRIu64
			      ",\n  \"levels\": ["
			    : "entry     %s\nweights   %" PRIu64 " bytes\nlevels    ",
		info->entry, info->weights_bytes);
	put_levels(info);
	fprintf(report.to, a.talk.json ? "]\n}\n" : "\n");
	ml_model_free(model);
	return 0;
}

int
mo_inspect(int argc, char **argv)
{
	cl_list args = {0};
	cl_compiler c;
	int code;

	if (cl_parse(&command, argc, argv, &args, &code))
		return code;
	if (args.count != 1) {
		cl_fail(&command, "one model is needed; see mlopt inspect --help");
		return 2;
	}
	if (cl_report_open(&report, &command, a.output))
		return 1;
	bool artefact = mo_is_artefact(args.at[0]);
	if (artefact && a.blocks)
		return cl_report_close(&report, cl_fail(&command, "--blocks needs a model: an "
								  "artefact has none"));
	if (artefact)
		return cl_report_close(&report, inspect_artefact(args.at[0]));
	int failed = cl_compiler_open(&c, &command, NULL, a.talk);
	if (!failed)
		failed = (a.blocks ? c.ml_inspect_blocks : c.ml_inspect)(c.cx, args.at[0],
									 c.options, a.talk.json,
									 write_out, NULL) != ML_OK;
	cl_compiler_close(&c);
	return cl_report_close(&report, failed);
}
