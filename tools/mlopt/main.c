/* main.c -- mlopt VERB ...: looks up the verb. */
#include "../options.h"
#include "verbs.h"
#include <string.h>

static const struct {
	const char *name, *help;
	int (*run)(int argc, char **argv);
} verbs[] = {
	{"run", "run a model on data files", mo_run},
	{"bench", "measure compiling, loading and running", mo_bench},
	{"compare", "how far a model's outputs are from another's", mo_compare},
	{"quantize", "write a quantized model as standard ONNX", mo_quantize},
	{"inspect", "what a model is: inputs, outputs, parameters, operators", mo_inspect},
	{"check", "everything that stops a model from compiling", mo_check},
	{"reduce", "shrink a model that makes a command fail", mo_reduce},
};
enum { VERBS = sizeof verbs / sizeof *verbs };

static const cl_command command = {.name = "mlopt"};

static void
help(FILE *f)
{
	fprintf(f, "usage: mlopt VERB ... (mlopt VERB --help says more)\n\n");
	for (int i = 0; i < VERBS; i++)
		fprintf(f, "  %-10s %s\n", verbs[i].name, verbs[i].help);
	fprintf(f, "\nmloptc compiles models, mlopt-opt runs passes on IR text.\n");
}

int
main(int argc, char **argv)
{
	const char *names[VERBS];
	const char *verb = argc > 1 ? argv[1] : NULL;

	if (!verb) {
		help(stderr);
		return 2;
	}
	for (int i = 0; i < VERBS; i++) {
		if (!strcmp(verb, verbs[i].name))
			return verbs[i].run(argc - 1, argv + 1);
		names[i] = verbs[i].name;
	}
	if (!strcmp(verb, "help") || !strcmp(verb, "--help") || !strcmp(verb, "-help") ||
	    !strcmp(verb, "-h")) {
		help(stdout);
		return 0;
	}
	const char *meant = cl_nearest(verb, names, VERBS);
	if (meant)
		cl_fail(&command, "no verb '%s'; did you mean '%s'?", verb, meant);
	else
		cl_fail(&command, "no verb '%s'; see mlopt --help", verb);
	return 2;
}
