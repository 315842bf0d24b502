/* check.c -- mlopt check: everything that stops a model from compiling. */
#include "../compiler.h"
#include "verbs.h"

typedef struct arguments {
	bool quiet;
	cl_inputs inputs;
	cl_settings compile;
} arguments;

static arguments a;

static const cl_row rows[] = {
	CL_INPUT_ROWS(a.inputs),
	{CL_FLAG, "q", NULL, "Other", "say nothing but errors", &a.quiet},
};

static const cl_command command = {
	.name = "mlopt check",
	.usage = "MODEL.onnx [options]",
	.about = "Lists everything in a model that stops it from compiling.  Exit code 0: it "
		 "compiles;\n"
		 "1: it does not, and standard error says why, node by node.\n",
	.row = rows,
	.rows = sizeof rows / sizeof *rows,
	.compile = &a.compile,
	.compile_brief = true,
};

int
mo_check(int argc, char **argv)
{
	cl_list args = {0};
	cl_compiler c;
	int code;

	if (cl_parse(&command, argc, argv, &args, &code))
		return code;
	if (args.count != 1) {
		cl_fail(&command, "one model is needed; see mlopt check --help");
		return 2;
	}
	int failed = cl_compiler_open(&c, &command, &a.inputs, a.quiet);
	if (!failed)
		failed = c.ml_check(c.cx, args.at[0], c.options) != ML_OK;
	if (!failed && !a.quiet)
		printf("%s compiles\n", args.at[0]);
	cl_compiler_close(&c);
	return failed;
}
