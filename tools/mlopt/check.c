/* check.c -- mlopt check: everything that stops a model from compiling. */
#include "../compiler.h"
#include "../put_name.h"
#include "../report.h"
#include "verbs.h"
#include <string.h>

typedef struct arguments {
	const char *output;
	cl_talk talk;
	cl_inputs inputs;
	cl_settings compile;
} arguments;

static arguments a;

static const cl_row rows[] = {
	CL_INPUT_ROWS(a.inputs),
	CL_REPORT_ROW(a.output),
	CL_TALK_ROWS(a.talk),
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

/* With --json a model that does not compile is a result too: the report tells why. */
static int
check(const char *path)
{
	cl_report r;
	cl_compiler c;

	if (cl_report_open(&r, &command, a.output))
		return 1;
	int broken = cl_compiler_open(&c, &command, &a.inputs, a.talk), refused = 0;
	if (!broken && a.talk.json) {
		c.messages = r.to;
		fputs("{\"model\": \"", r.to);
		cl_put_name(r.to, path, strlen(path), true);
		fputs("\", \"messages\": [", r.to);
	}
	if (!broken)
		refused = c.ml_check(c.cx, path, c.options) != ML_OK;
	if (!broken && a.talk.json) {
		fprintf(r.to, "%s], \"compiles\": %s}\n", c.nmessages ? "\n" : "",
			refused ? "false" : "true");
	} else if (!broken && !refused && !a.talk.quiet) {
		cl_put_name(r.to, path, strlen(path), false);
		fputs(" compiles\n", r.to);
	}
	cl_compiler_close(&c);
	return cl_report_close(&r, broken || (refused && !a.talk.json)) || refused;
}

int
mo_check(int argc, char **argv)
{
	cl_list args = {0};
	int code;

	if (cl_parse(&command, argc, argv, &args, &code))
		return code;
	if (args.count != 1) {
		cl_fail(&command, "one model is needed; see mlopt check --help");
		return 2;
	}
	return check(args.at[0]);
}
