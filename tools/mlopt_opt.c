/* mlopt_opt.c -- passes alone: IR text (or ONNX) in, passes, IR text out. */
#include "compiler.h"

typedef struct arguments {
	const char *output;
	cl_inputs inputs;
	cl_talk talk;
	cl_settings compile;
} arguments;

static arguments a;

static const cl_row rows[] = {
	{CL_TEXT, "o", "FILE", "Output", "where to (default: standard output)", &a.output},
	CL_INPUT_ROWS(a.inputs),
	CL_LOUDNESS_ROWS(a.talk),
};

static const cl_command command = {
	.name = "mlopt-opt",
	.usage = "MODEL.mlt|MODEL.onnx [options]",
	.about = "Runs passes over a graph and writes it as IR text: what compiler tests and bug "
		 "reports "
		 "are\nmade of.  Without --passes the whole pipeline runs.\n\n"
		 "  mlopt-opt model.onnx --passes= -o model.mlt         the graph as imported\n"
		 "  mlopt-opt model.mlt --passes=fuse_norm,fuse_linear  what two passes do\n"
		 "  mlopt-opt model.onnx --print-after=all -o out.mlt   every step\n",
	.row = rows,
	.rows = sizeof rows / sizeof *rows,
	.compile = &a.compile,
};

int
main(int argc, char **argv)
{
	cl_list args = {0};
	cl_compiler c;
	bool emit = false;
	int code;

	if (cl_parse(&command, argc, argv, &args, &code))
		return code;
	if (args.count != 1) {
		cl_fail(&command,
			args.count ? "one graph at a time" : "no graph; see mlopt-opt --help");
		return 2;
	}
	for (int i = 0; i < a.compile.count; i++)
		emit |= a.compile.name[i][0] == 'e' && a.compile.name[i][1] == 'm';
	int failed = cl_compiler_open(&c, &command, &a.inputs, a.talk);
	if (!failed && !emit)
		failed = c.ml_options_set(c.options, "emit", "ir") != ML_OK;
	if (!failed)
		failed = c.ml_compile_to(c.cx, args.at[0], c.options, a.output) != ML_OK;
	cl_compiler_close(&c);
	return failed;
}
