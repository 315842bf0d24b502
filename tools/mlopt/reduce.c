/* reduce.c -- mlopt reduce: shrinks a model while a command still fails on it. */
#include "../compiler.h"
#include "../put_name.h"
#include "verbs.h"
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

typedef struct arguments {
	const char *test, *output;
	cl_talk talk;
	cl_settings compile;
} arguments;

static arguments a;

static const cl_row rows[] = {
	{CL_TEXT, "test", "COMMAND", "Output",
	 "shell command; {} is the candidate's path; the failure is there when it exits with "
	 "another code than 0",
	 &a.test},
	{CL_TEXT, "o", "FILE", "Output",
	 "the smallest model found: .mlt, or .onnx with its weights (default: reduced.mlt)",
	 &a.output},
	CL_TALK_ROWS(a.talk),
};

static const cl_command command = {
	.name = "mlopt reduce",
	.usage = "MODEL.onnx|MODEL.mlt --test 'COMMAND {}' [options]",
	.about = "Takes away outputs and nodes while the command still fails, and leaves the "
		 "smallest\n"
		 "graph as IR text.  Weights are written as references: give the command "
		 "--random-weights.\n\n"
		 "  mlopt reduce model.onnx --test './disagrees.sh {}' -o small.mlt\n",
	.row = rows,
	.rows = sizeof rows / sizeof *rows,
	.compile = &a.compile,
	.compile_brief = true,
};

static int tried;

static bool
fails(void *user, const char *candidate)
{
	char line[8192];
	const char *mark = strstr(a.test, "{}");

	(void)user;
	tried++;
	if (mark)
		snprintf(line, sizeof line, "%.*s'%s'%s", (int)(mark - a.test), a.test, candidate,
			 mark + 2);
	else
		snprintf(line, sizeof line, "%s '%s'", a.test, candidate);
	int code = system(line);
	return code == -1 || !WIFEXITED(code) || WEXITSTATUS(code) != 0;
}

static void
report(const char *output)
{
	if (a.talk.json)
		printf("{\"file\": \"");
	if (a.talk.json || !a.talk.quiet)
		cl_put_name(stdout, output, strlen(output), a.talk.json);
	if (a.talk.json)
		printf("\", \"candidates\": %d}\n", tried);
	else if (!a.talk.quiet)
		printf(" is left after %d candidates\n", tried);
}

int
mo_reduce(int argc, char **argv)
{
	cl_list args = {0};
	cl_compiler c;
	int code;

	if (cl_parse(&command, argc, argv, &args, &code))
		return code;
	if (args.count != 1 || !a.test) {
		cl_fail(&command, "a model and --test are needed; see mlopt reduce --help");
		return 2;
	}
	const char *output = a.output ? a.output : "reduced.mlt";
	if (strchr(output, '\''))
		return cl_fail(&command, "no quotes in the output's name, please");
	int failed = cl_compiler_open(&c, &command, NULL, a.talk);
	if (!failed)
		failed = c.ml_reduce(c.cx, args.at[0], c.options, fails, NULL, output) != ML_OK;
	if (!failed)
		report(output);
	cl_compiler_close(&c);
	return failed;
}
