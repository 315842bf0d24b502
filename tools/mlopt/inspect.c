/* inspect.c -- mlopt inspect: what a model or an artefact is. */
#include "model.h"
#include "put_name.h"
#include "verbs.h"
#include <inttypes.h>
#include <string.h>

typedef struct arguments {
	bool json;
	cl_settings compile;
} arguments;

static arguments a;

static const cl_row rows[] = {
	{CL_FLAG, "json", NULL, "Output", "for programs", &a.json},
};

static const cl_command command = {
	.name = "mlopt inspect",
	.usage = "MODEL.onnx|MODEL.mlt|MODEL.so [--json]",
	.about = "Shows a model's inputs, outputs, symbolic dimensions, parameters and operators; "
		 "of an\n"
		 "artefact its C entry point and ISA levels.\n",
	.row = rows,
	.rows = sizeof rows / sizeof *rows,
	.compile = &a.compile,
	.compile_brief = true,
};

static void
write_out(void *user, const char *text, size_t length)
{
	(void)user;
	fwrite(text, 1, length, stdout);
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
	mo_put_name(stdout, name, strlen(name), a.json);
}

static void
put_tensors(const char *kind, const ml_tensor_info *t, int n)
{
	if (a.json)
		printf("  \"%ss\": [", kind);
	for (int i = 0; i < n; i++) {
		printf(a.json ? "%s{\"name\": \"" : "%s%-9s ", a.json && i ? ", " : "", kind);
		put_name(t[i].name);
		printf(a.json ? "\", \"dtype\": \"%s\", \"shape\": [" : "  %s[",
		       dtype_name(t[i].dtype));
		for (int k = 0; k < t[i].rank; k++) {
			bool quote =
				a.json && strspn(t[i].dim[k], "0123456789") != strlen(t[i].dim[k]);
			printf("%s%s", k ? ", " : "", quote ? "\"" : "");
			put_name(t[i].dim[k]);
			printf("%s", quote ? "\"" : "");
		}
		printf(a.json ? "]}" : "]\n");
	}
	if (a.json)
		printf("],\n");
}

/* What appends to what, in place where a session keeps it. */
static void
put_states(const ml_model_info *info)
{
	if (a.json)
		printf("  \"states\": [");
	for (int i = 0; i < info->nstates; i++) {
		const ml_state_info *s = &info->state[i];
		printf(a.json ? "%s{\"input\": \"" : "%sstate     ", a.json && i ? ", " : "");
		put_name(info->input[s->input].name);
		printf(a.json ? "\", \"output\": \"" : " -> ");
		put_name(info->output[s->output].name);
		printf(a.json ? "\", \"axis\": %d}" : "  axis %d\n", s->axis);
	}
	if (a.json)
		printf("],\n");
}

static void
put_levels(const ml_model_info *info)
{
	for (int i = 0; i < info->nlevels; i++)
		printf(a.json ? "%s\"%s\"" : "%s%s", i ? a.json ? ", " : " " : "", info->level[i]);
}

static int
inspect_artefact(const char *path)
{
	ml_model *model;
	ml_message why;

	if (ml_model_load(path, NULL, &model, &why) != ML_OK)
		return cl_fail(&command, "%s", why.text);
	const ml_model_info *info = ml_model_describe(model);
	printf(a.json ? "{\n  \"model\": \"" : "model     ");
	put_name(info->name);
	printf(a.json ? "\",\n" : "\n");
	put_tensors("input", info->input, info->ninputs);
	put_tensors("output", info->output, info->noutputs);
	put_states(info);
	printf(a.json ? "  \"entry\": \"%s\",\n  \"weights_bytes\": %" PRIu64 ",\n  \"levels\": ["
		      : "entry     %s\nweights   %" PRIu64 " bytes\nlevels    ",
	       info->entry, info->weights_bytes);
	put_levels(info);
	printf(a.json ? "]\n}\n" : "\n");
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
	if (mo_is_artefact(args.at[0]))
		return inspect_artefact(args.at[0]);
	int failed = cl_compiler_open(&c, &command, NULL, false);
	if (!failed)
		failed =
			c.ml_inspect(c.cx, args.at[0], c.options, a.json, write_out, NULL) != ML_OK;
	cl_compiler_close(&c);
	return failed;
}
